// Resident attention networks: names looked up, and the whole way from a picture to its map. Owns the networks and a lock for each.
//
// The list is not changed after loading, so looking up takes no lock. Read next: attention_nets_load.c, attention_map.c.
#include "core/attention_nets_internal.h"

#include "core/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- life ----------------------------------------------------------------------------------------------------------

static int check_side(const char *field, int side, yd_err *err)
{
    char accepted[64];
    if (side >= YD_ATTENTION_SIDE_MIN && side <= YD_ATTENTION_MAX_SIDE) return 0;
    snprintf(accepted, sizeof accepted, "%d to %d", YD_ATTENTION_SIDE_MIN, YD_ATTENTION_MAX_SIDE);
    return yd_fail_field(err, YD_E_SETTING, field, accepted, "an attention network cannot be shown a side of %d pixels", side);
}

int yd_attention_nets_new(const yd_attention_map_options *opt, yd_attention_nets **out, yd_err *err)
{
    *out = NULL;
    int rc = check_side("attention_short_side", opt->short_side, err);
    if (!rc) rc = check_side("attention_long_side", opt->long_side, err);
    if (!rc && opt->long_side < opt->short_side)
        rc = yd_fail_field(err, YD_E_SETTING, "attention_long_side", "no less than the short side",
                           "the long side (%d) is shorter than the short one (%d)", opt->long_side, opt->short_side);
    if (rc) return rc;
    yd_attention_nets *n = yd_calloc(1, sizeof *n);
    if (!n) return yd_fail(err, YD_E_NOMEM, "no memory for attention networks");
    n->opt = *opt;
    *out = n;
    return 0;
}

void yd_attention_nets_free(yd_attention_nets *n)
{
    if (!n) return;
    for (size_t i = 0; i < n->count; i++) {
        yd_attention_net_close(n->entry[i].net);
        pthread_mutex_destroy(&n->entry[i].lock);
        yd_free(n->entry[i].path);
    }
    yd_free(n);
}

// ---- what there is -------------------------------------------------------------------------------------------------

size_t yd_attention_nets_count(const yd_attention_nets *n)
{
    return n ? n->count : 0;
}

const char *yd_attention_nets_name(const yd_attention_nets *n, size_t i)
{
    return n->entry[i].name;
}

const char *yd_attention_nets_path(const yd_attention_nets *n, size_t i)
{
    return n->entry[i].path;
}

void yd_attention_nets_info(const yd_attention_nets *n, size_t i, yd_attention_net_info *out)
{
    *out = n->entry[i].info;
    out->bytes = atomic_load(&n->entry[i].bytes);
}

const yd_attention_map_options *yd_attention_nets_options(const yd_attention_nets *n)
{
    return &n->opt;
}

static const yd_attention_variant *variant_of(const yd_attention_nets *n, const yd_attention_ref *ref)
{
    return &n->entry[ref->net].info.variant[ref->variant];
}

// ---- names ---------------------------------------------------------------------------------------------------------

int yd_attention_is_net(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:";
    if (name[strspn(name, letters)]) return 0; // nothing that would have to be quoted in a config or a record
    return strpbrk(name, "-:") != NULL || strcmp(name, "squeezenet") == 0 || strcmp(name, "resnet50") == 0;
}

// The variant of an entry that `name` (len bytes) means, or -1.
static int variant_called(const yd_attention_entry *e, const char *name, size_t len)
{
    const yd_attention_net_info *info = &e->info;
    const size_t own = strlen(e->name);
    if (len < own || strncmp(name, e->name, own) != 0) return -1;
    for (int v = 0; v < info->n_variants; v++) {
        const char *word = info->variant[v].word;
        if (!*word ? len == own : len == own + 1 + strlen(word) && name[own] == '-' && strncmp(name + own + 1, word, len - own - 1) == 0)
            return v;
    }
    return -1;
}

// "max", "avg", "0", "1" ... of so many heads. 0, or -1.
static int parse_head(const char *text, int heads, int *head)
{
    if (strcmp(text, "max") == 0)
        *head = YD_ATTENTION_HEAD_MAX;
    else if (strcmp(text, "avg") == 0)
        *head = YD_ATTENTION_HEAD_AVG;
    else {
        char *end;
        if (*text < '0' || *text > '9' || (*text == '0' && text[1]) || strlen(text) > 2) return -1;
        *head = (int)strtol(text, &end, 10);
        if (*end || *head >= heads) return -1;
    }
    return 0;
}

int yd_attention_nets_find(yd_attention_nets *n, const char *name, yd_attention_ref *out, yd_err *err)
{
    const char *colon = strrchr(name, ':');
    const size_t len = colon ? (size_t)(colon - name) : strlen(name);
    char accepted[256];
    if (n && n->later) {
        const yd_attention_load *from = n->later;
        n->later = NULL;
        const int rc = yd_attention_nets_load(n, from, err);
        if (rc) return rc;
    }
    for (size_t i = 0; i < yd_attention_nets_count(n); i++) {
        const int v = variant_called(&n->entry[i], name, len);
        if (v < 0) continue;
        *out = (yd_attention_ref){(int)i, v, YD_ATTENTION_HEAD_MAX};
        const int heads = variant_of(n, out)->heads;
        if (!colon || parse_head(colon + 1, heads, &out->head) == 0) return 0;
        snprintf(accepted, sizeof accepted, "%.*s with :max, :avg or :0 to :%d", (int)len, name, heads - 1);
        return yd_fail_field(err, YD_E_SETTING, "attention", accepted, "%.*s has no head '%.40s'", (int)len, name, colon + 1);
    }
    yd_attention_nets_list(n, accepted, sizeof accepted);
    return yd_fail_field(err, YD_E_SETTING, "attention", *accepted ? accepted : "no attention network is loaded",
                         "there is no attention network '%.64s'", name);
}

void yd_attention_nets_list(const yd_attention_nets *n, char *dst, size_t cap)
{
    size_t used = 0;
    dst[0] = '\0';
    for (size_t i = 0; i < yd_attention_nets_count(n); i++) {
        const yd_attention_net_info *info = &n->entry[i].info;
        for (int v = 0; v < info->n_variants && used < cap; v++) {
            const char *word = info->variant[v].word;
            used += (size_t)snprintf(dst + used, cap - used, "%s%s%s%s with :max, :avg or :0 to :%d", used ? "; " : "", n->entry[i].name,
                                     *word ? "-" : "", word, info->variant[v].heads - 1);
        }
    }
}

void yd_attention_nets_mark(yd_attention_nets *n, const char *name, char *dst, size_t cap)
{
    yd_attention_ref ref;
    dst[0] = '\0';
    if (!n || !yd_attention_is_net(name) || yd_attention_nets_find(n, name, &ref, NULL)) return;
    const char *sum = n->entry[ref.net].info.checksum, *hex = strchr(sum, ':');
    snprintf(dst, cap, "%.32s %d-%d %s %s", hex ? hex + 1 : sum, n->opt.short_side, n->opt.long_side, yd_attention_norm_name(n->opt.norm),
             yd_attention_resize_name(n->opt.resize));
}

// ---- memory --------------------------------------------------------------------------------------------------------

size_t yd_attention_nets_raw(const yd_attention_nets *n, const yd_attention_ref *ref, int nw, int nh, int *gw, int *gh)
{
    yd_attention_net_grid(n->entry[ref->net].net, ref->variant, nw, nh, gw, gh);
    return (size_t)variant_of(n, ref)->heads * (size_t)*gw * (size_t)*gh;
}

// The largest input: no picture is shown larger than short x long.
static void largest(const yd_attention_nets *n, const yd_attention_ref *ref, int *nw, int *nh)
{
    yd_attention_input_size(&n->entry[ref->net].info, &n->opt, n->opt.long_side, n->opt.short_side, nw, nh);
}

size_t yd_attention_nets_bytes(const yd_attention_nets *n, const yd_attention_ref *ref)
{
    int nw, nh, gw, gh;
    largest(n, ref, &nw, &nh);
    const size_t raw = yd_attention_nets_raw(n, ref, nw, nh, &gw, &gh), values = 3 * (size_t)nw * (size_t)nh;
    return values * (1 + sizeof(float)) + (raw + 3 * (size_t)gw * (size_t)gh) * sizeof(float);
}

// ---- running -------------------------------------------------------------------------------------------------------

int yd_attention_nets_reserve(yd_attention_nets *n, const yd_attention_ref *ref, int pictures, yd_err *err)
{
    int nw, nh;
    largest(n, ref, &nw, &nh);
    yd_attention_entry *e = &n->entry[ref->net];
    pthread_mutex_lock(&e->lock);
    const int rc = yd_attention_net_reserve(e->net, ref->variant, pictures, nw, nh, err);
    atomic_store(&e->bytes, yd_attention_net_info_of(e->net)->bytes);
    pthread_mutex_unlock(&e->lock);
    return rc;
}

int yd_attention_nets_run(yd_attention_nets *n, const yd_attention_ref *ref, int pictures, int nw, int nh, const float *const *rgb,
                          float *const *raw, yd_err *err)
{
    yd_attention_entry *e = &n->entry[ref->net];
    pthread_mutex_lock(&e->lock);
    const int rc = yd_attention_net_run(e->net, ref->variant, pictures, nw, nh, rgb, raw, err);
    atomic_store(&e->bytes, yd_attention_net_info_of(e->net)->bytes);
    pthread_mutex_unlock(&e->lock);
    return rc;
}

int yd_attention_nets_look(yd_attention_nets *n, const yd_attention_ref *ref, const uint8_t *shown, int nw, int nh, float **raw,
                           yd_err *err)
{
    int gw, gh;
    const size_t values = 3 * (size_t)nw * (size_t)nh, count = yd_attention_nets_raw(n, ref, nw, nh, &gw, &gh);
    float *unit = yd_malloc(values * sizeof *unit);
    *raw = yd_malloc(count * sizeof **raw);
    int rc = unit && *raw ? 0 : yd_fail(err, YD_E_NOMEM, "no memory to show %d x %d pixels to an attention network", nw, nh);
    if (!rc) {
        yd_attention_unit(shown, values, unit);
        rc = yd_attention_nets_run(n, ref, 1, nw, nh, (const float *const *)&unit, raw, err);
    }
    yd_free(unit);
    if (!rc) return 0;
    yd_free(*raw);
    *raw = NULL;
    return rc;
}

int yd_attention_nets_finish(const yd_attention_nets *n, const yd_attention_ref *ref, const float *raw, int nw, int nh, float *map, int w,
                             int h, yd_err *err)
{
    int gw, gh;
    yd_attention_net_grid(n->entry[ref->net].net, ref->variant, nw, nh, &gw, &gh);
    return yd_attention_map_make(variant_of(n, ref), &n->opt, raw, gw, gh, ref->head, map, w, h, err);
}

int yd_attention_nets_map(yd_attention_nets *n, const yd_attention_ref *ref, const uint8_t *rgb, int w, int h, float *map, yd_err *err)
{
    int nw, nh;
    float *raw = NULL;
    yd_attention_input_size(&n->entry[ref->net].info, &n->opt, w, h, &nw, &nh);
    uint8_t *shown = yd_malloc(3 * (size_t)nw * (size_t)nh);
    int rc = shown ? yd_attention_input(rgb, w, h, shown, nw, nh, err) : yd_fail(err, YD_E_NOMEM, "no memory for %d x %d pixels", nw, nh);
    if (!rc) rc = yd_attention_nets_look(n, ref, shown, nw, nh, &raw, err);
    if (!rc) rc = yd_attention_nets_finish(n, ref, raw, nw, nh, map, w, h, err);
    yd_free(raw);
    yd_free(shown);
    return rc;
}
