// Recognising, opening and running attention networks: what all kinds have in common. See attention_net.h.
//
// Owns the table of kinds and, of an open network, its record; what a kind makes is the kind's. Read next: attention_net_kinds.h.
#include "core/attention_net_kinds.h"

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/sha256.h"
#include "core/tensors.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES       320
#define CONFIG_MAX_BYTES ((size_t)1 << 20)

const float yd_imagenet_mean[3] = {0.485f, 0.456f, 0.406f}, yd_imagenet_deviation[3] = {0.229f, 0.224f, 0.225f};

static const yd_attention_kind *const kinds[] = {
    &yd_attention_vit,
    &yd_attention_resnet,
    &yd_attention_squeezenet,
    NULL, // the end
};

struct yd_attention_net {
    const yd_attention_kind *kind;
    void *state;
    yd_attention_net_info info;
};

// ---- tensors -------------------------------------------------------------------------------------------------------

const yd_st_tensor *yd_attention_tensor(const yd_attention_tensors *t, const char *fmt, ...)
{
    char name[NAME_BYTES];
    va_list ap;
    const int n = snprintf(name, sizeof name, "%s", t->prefix);
    va_start(ap, fmt);
    const int m = vsnprintf(name + n, sizeof name - (size_t)n, fmt, ap);
    va_end(ap);
    return m < 0 || (size_t)(n + m) >= sizeof name ? NULL : yd_st_find(t->st, name);
}

static void print_shape(int ndim, const int64_t *dims, char *dst, size_t cap)
{
    size_t used = (size_t)snprintf(dst, cap, "shape [");
    for (int i = 0; i < ndim && used < cap; i++)
        used += (size_t)snprintf(dst + used, cap - used, "%s%lld", i ? ", " : "", (long long)dims[i]);
    if (used < cap) snprintf(dst + used, cap - used, "]");
}

static int all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return 0;
    return 1;
}

int yd_attention_tensor_read(const yd_attention_tensors *t, const char *name, int ndim, const int64_t *dims, float **out, yd_err *err)
{
    char want[96];
    const yd_st_tensor *x = yd_attention_tensor(t, "%s", name);
    *out = NULL;
    print_shape(ndim, dims, want, sizeof want);
    if (!x) return yd_fail_field(err, YD_E_CHECKPOINT, name, want, "the network's tensor '%s%s' is missing", t->prefix, name);
    int same = x->ndim == ndim;
    for (int i = 0; i < ndim && same; i++) same = x->dims[i] == dims[i];
    if (!same) return yd_fail_field(err, YD_E_CHECKPOINT, x->name, want, "tensor '%s' does not have the %s", x->name, want);
    size_t bytes;
    float *values = yd_mul_size(x->numel, sizeof *values, &bytes) ? NULL : yd_alloc_aligned(bytes);
    if (!values) return yd_fail(err, YD_E_NOMEM, "no memory for tensor '%s'", x->name);
    int rc = yd_st_to_f32(x, values, err);
    if (!rc && !all_finite(values, x->numel))
        rc = yd_fail_field(err, YD_E_CHECKPOINT, x->name, "finite numbers", "tensor '%s' holds NaN or Inf", x->name);
    if (rc)
        yd_free_aligned(values);
    else
        *out = values;
    return rc;
}

// ---- recognising ---------------------------------------------------------------------------------------------------

// Length of what stands before `mark` in name, which is nothing or ends with a dot; -1 when it does not end so.
static int before(const char *name, const char *mark)
{
    const size_t n = strlen(name), k = strlen(mark);
    if (n < k || strcmp(name + n - k, mark) != 0) return -1;
    return n == k || name[n - k - 1] == '.' ? (int)(n - k) : -1;
}

// Which of several networks in a file is meant: a teacher, and a student only where there is nothing else.
static int rank_of(const char *prefix)
{
    return strstr(prefix, "teacher.") ? 2 : strstr(prefix, "student.") ? 0 : 1;
}

static int has_all(const yd_attention_tensors *t, const char *const *marks)
{
    for (; *marks; marks++)
        if (!yd_attention_tensor(t, "%s", *marks)) return 0;
    return 1;
}

// 1 and *out where the tensors of this kind stand, 0.
static int locate(const yd_safetensors *st, const yd_attention_kind *k, yd_attention_tensors *out)
{
    int best = -1;
    for (size_t i = 0; i < yd_st_count(st); i++) {
        const char *name = yd_st_at(st, i)->name;
        yd_attention_tensors here = {.st = st};
        const int n = before(name, k->marks[0]);
        if (n < 0 || (size_t)n >= sizeof here.prefix) continue;
        snprintf(here.prefix, sizeof here.prefix, "%.*s", n, name);
        if (rank_of(here.prefix) <= best || !has_all(&here, k->marks)) continue;
        best = rank_of(here.prefix);
        *out = here;
    }
    return best >= 0;
}

static const yd_attention_kind *recognise(const yd_safetensors *st, yd_attention_tensors *where)
{
    for (size_t i = 0; kinds[i]; i++)
        if (locate(st, kinds[i], where)) return kinds[i];
    return NULL;
}

int yd_attention_net_recognise(const yd_safetensors *st, yd_attention_net_kind *kind)
{
    yd_attention_tensors where;
    const yd_attention_kind *k = recognise(st, &where);
    if (k) *kind = k->kind;
    return k != NULL;
}

// ---- opening -------------------------------------------------------------------------------------------------------

int yd_attention_net_open_tensors(const yd_safetensors *st, const yd_attention_net_options *opt, yd_attention_net **out, yd_err *err)
{
    static const yd_attention_net_options none = {0};
    yd_attention_tensors where;
    const yd_attention_kind *k = recognise(st, &where);
    *out = NULL;
    if (!k)
        return yd_fail_field(err, YD_E_CHECKPOINT, "tensors", "a DINO vision transformer or ResNet-50, or a SqueezeNet 1.1",
                             "the file holds no attention network that is known here");
    yd_attention_net *net = yd_calloc(1, sizeof *net);
    if (!net) return yd_fail(err, YD_E_NOMEM, "no memory for an attention network");
    net->kind = k;
    net->info.kind = k->kind;
    const int rc = k->open(&where, opt ? opt : &none, &net->info, &net->state, err);
    if (rc) {
        yd_free(net);
        return rc;
    }
    net->info.bytes = k->bytes(net->state);
    *out = net;
    return 0;
}

// "num_heads" of FILE.json or config.json beside a file, 0 where neither says.
static int heads_beside(const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    const int folder = slash ? (int)(slash - path + 1) : 0, stem = (int)(dot ? (size_t)(dot - path) : strlen(path));
    long long heads = 0;
    for (int i = 0; i < 2 && heads == 0; i++) {
        char name[1024];
        void *text;
        size_t len;
        yd_json *j;
        if (i == 0)
            snprintf(name, sizeof name, "%.*s.json", stem, path);
        else
            snprintf(name, sizeof name, "%.*sconfig.json", folder, path);
        if (yd_file_read(name, CONFIG_MAX_BYTES, &text, &len, NULL)) continue;
        if (yd_json_parse(text, len, YD_JSON_COMMENTS, &j, NULL) == 0) {
            if (yd_json_integer(j, yd_json_get(j, 0, "num_heads"), 1, YD_ATTENTION_MAX_HEADS, &heads)) heads = 0;
            yd_json_free(j);
        }
        yd_free(text);
    }
    return (int)heads;
}

int yd_attention_net_open(const char *path, const yd_attention_net_options *opt, yd_attention_net **out, yd_err *err)
{
    yd_attention_net_options o = opt ? *opt : (yd_attention_net_options){0};
    yd_safetensors *st;
    char hex[65];
    *out = NULL;
    int rc = yd_tensors_open(path, &st, err);
    if (rc) return rc;
    if (o.heads == 0) o.heads = heads_beside(path);
    rc = yd_attention_net_open_tensors(st, &o, out, err);
    if (!rc) {
        size_t len;
        const void *bytes = yd_st_bytes(st, &len);
        yd_sha256_hex(bytes, len, hex);
        snprintf((*out)->info.checksum, sizeof(*out)->info.checksum, "sha256:%s", hex);
    }
    yd_st_close(st);
    return rc;
}

void yd_attention_net_close(yd_attention_net *net)
{
    if (!net) return;
    net->kind->free(net->state);
    yd_free(net);
}

const yd_attention_net_info *yd_attention_net_info_of(const yd_attention_net *net)
{
    return &net->info;
}

// ---- running -------------------------------------------------------------------------------------------------------

void yd_attention_net_grid(const yd_attention_net *net, int variant, int w, int h, int *gw, int *gh)
{
    net->kind->grid(net->state, variant, w, h, gw, gh);
}

static int check(const yd_attention_net *net, int variant, int n, int w, int h, yd_err *err)
{
    const yd_attention_net_info *in = &net->info;
    char accepted[96];
    if (variant < 0 || variant >= in->n_variants) return yd_fail(err, YD_E_INVALID, "%s has no variant %d", in->name, variant);
    if (n < 1 || n > YD_ATTENTION_MAX_BATCH)
        return yd_fail(err, YD_E_INVALID, "%d pictures at once, not 1 to %d", n, YD_ATTENTION_MAX_BATCH);
    if (w >= in->min_side && h >= in->min_side && w <= YD_ATTENTION_MAX_SIDE && h <= YD_ATTENTION_MAX_SIDE && w % in->multiple == 0 &&
        h % in->multiple == 0)
        return 0;
    snprintf(accepted, sizeof accepted, "sides of %d to %d pixels that are multiples of %d", in->min_side, YD_ATTENTION_MAX_SIDE,
             in->multiple);
    return yd_fail_field(err, YD_E_INVALID, "image", accepted, "%s cannot be shown %d x %d pixels", in->name, w, h);
}

int yd_attention_net_reserve(yd_attention_net *net, int variant, int n, int w, int h, yd_err *err)
{
    int rc = check(net, variant, n, w, h, err);
    if (!rc) rc = net->kind->reserve(net->state, variant, n, w, h, err);
    net->info.bytes = net->kind->bytes(net->state);
    return rc;
}

int yd_attention_net_run(yd_attention_net *net, int variant, int n, int w, int h, const float *const *rgb, float *const *raw, yd_err *err)
{
    int gw, gh, rc = yd_attention_net_reserve(net, variant, n, w, h, err);
    if (!rc) rc = net->kind->run(net->state, variant, n, w, h, rgb, raw, err);
    if (rc) return rc;
    yd_attention_net_grid(net, variant, w, h, &gw, &gh);
    const size_t count = (size_t)net->info.variant[variant].heads * (size_t)gw * (size_t)gh;
    for (int i = 0; i < n; i++)
        if (!all_finite(raw[i], count)) return yd_fail(err, YD_E_NUMERIC, "%s made NaN or Inf of a picture", net->info.name);
    return 0;
}
