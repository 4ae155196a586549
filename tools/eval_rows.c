// The rows of an evaluation: see eval.h.
//
//   --setting "NAME: KEY=VALUE KEY=A,B,C"   one base; without a name its text is its name. A list is a sweep of this base alone
//   --sweep "KEY=A,B,C KEY=D,E"             every combination of the lists, applied to every base
// Keys are the sampling settings by their public names (dashes are underscores), `quality`, and `method` (yoda, bicubic). What a row does
// not say comes from the command's own options, and then from the model.
#include "core/sampler.h"
#include "core/upscale.h"
#include "tools/eval.h"
#include <stdio.h>
#include <string.h>

#define MAX_PAIRS  24
#define MAX_SWEEPS 6
#define WORD       48

typedef struct pair {
    char key[WORD], value[WORD];
} pair;

typedef struct spec { // one row as text
    pair pair[MAX_PAIRS];
    int n;
} spec;

typedef struct sweep {
    char key[WORD], values[256];
    int n; // items in values
} sweep;

static int wrong(yd_err *err, const char *option, const char *text)
{
    return yd_fail_field(err, YD_E_SETTING, option, "KEY=VALUE, separated by spaces", "--%s: '%.80s' is not taken", option, text);
}

// Split "KEY=VALUE"; len bytes.
static int split(const char *text, size_t len, char *key, size_t key_cap, char *value, size_t value_cap)
{
    const char *equals = memchr(text, '=', len);
    if (!equals) return -1;
    const size_t k = (size_t)(equals - text), v = len - k - 1;
    if (k == 0 || v == 0 || k >= key_cap || v >= value_cap) return -1;
    for (size_t i = 0; i < k; i++) key[i] = text[i] == '-' ? '_' : text[i];
    key[k] = 0;
    memcpy(value, equals + 1, v);
    value[v] = 0;
    return 0;
}

static int read_pairs(const char *text, spec *s, yd_err *err)
{
    for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
        const size_t len = strcspn(text, " ");
        if (s->n == MAX_PAIRS || split(text, len, s->pair[s->n].key, WORD, s->pair[s->n].value, WORD) < 0) return wrong(err, "setting", text);
        s->n++;
        text += len;
    }
    return 0;
}

// "NAME: pairs", or the pairs alone.
static int read_setting(const char *text, char *name, size_t cap, spec *s, yd_err *err)
{
    const char *colon = strchr(text, ':');
    const size_t len = colon ? (size_t)(colon - text) : strlen(text);
    if (len == 0 || len >= cap)
        return yd_fail_field(err, YD_E_SETTING, "setting", "NAME: KEY=VALUE ...", "--setting '%.80s' has no name, or a longer one than %zu letters", text, cap - 1);
    memcpy(name, text, len);
    name[len] = 0;
    return read_pairs(colon ? colon + 1 : text, s, err);
}

static int read_sweep(const char *text, sweep *list, int *n, yd_err *err)
{
    for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
        const size_t len = strcspn(text, " ");
        if (*n == MAX_SWEEPS) return yd_fail_field(err, YD_E_SETTING, "sweep", "at most 6 keys", "too many keys to sweep");
        sweep *s = &list[*n];
        if (split(text, len, s->key, sizeof s->key, s->values, sizeof s->values) < 0) return wrong(err, "sweep", text);
        s->n = 1;
        for (const char *c = s->values; *c; c++) s->n += *c == ',';
        (*n)++;
        text += len;
    }
    return 0;
}

// The index-th of a sweep's values. -1 when it is empty or too long.
static int sweep_value(const sweep *s, int index, char *dst)
{
    const char *at = s->values;
    for (; index > 0; index--) at = strchr(at, ',') + 1;
    const size_t len = strcspn(at, ",");
    if (len == 0 || len >= WORD) return -1;
    memcpy(dst, at, len);
    dst[len] = 0;
    return 0;
}

static int read_method(const char *name, yd_eval_method *out, yd_err *err)
{
    if (strcmp(name, "yoda") == 0) *out = YD_EVAL_DIFFUSION;
    else if (strcmp(name, "bicubic") == 0) *out = YD_EVAL_BICUBIC;
    else return yd_fail_field(err, YD_E_SETTING, "method", "yoda, bicubic", "there is no method '%.40s'", name);
    return 0;
}

// Settle the row's settings once the model is known.
static int settle(const yd_eval *e, const yd_model_config *cfg, const spec *s, yd_eval_row *row, yd_err *err)
{
    yd_sampling_args sampling = e->args->sampling;
    int rc = 0;
    for (int i = 0; i < s->n && rc == 0; i++) {
        if (strcmp(s->pair[i].key, "method") == 0) rc = read_method(s->pair[i].value, &row->method, err);
        if (strcmp(s->pair[i].key, "quality") == 0) sampling.quality = s->pair[i].value;
    }
    if (rc < 0 || row->method != YD_EVAL_DIFFUSION) return rc;
    if (!cfg) return yd_fail_field(err, YD_E_SETTING, "method", "yoda", "row '%s' needs a model", row->name);
    rc = yd_sampling_apply(&sampling, cfg, &row->set, err);
    for (int i = 0; i < s->n && rc == 0; i++) {
        if (strcmp(s->pair[i].key, "method") == 0 || strcmp(s->pair[i].key, "quality") == 0) continue;
        rc = yd_setting_set(&row->set, s->pair[i].key, s->pair[i].value, err);
        if (rc == 0) rc = yd_fail_field(err, YD_E_SETTING, s->pair[i].key, "a sampling setting, quality or method", "there is no setting '%s'", s->pair[i].key);
        else if (rc > 0) rc = 0;
    }
    return rc ? rc : yd_sampler_accepts(cfg, &row->set, err);
}

// The k-th combination of the sweeps on one base.
static int add_row(yd_eval *e, const yd_model_config *cfg, const char *group, const spec *base, const sweep *sweeps, int n_sweeps, long k,
                   yd_err *err)
{
    if (e->n_rows == YD_EVAL_MAX_ROWS)
        return yd_fail_field(err, YD_E_SETTING, "sweep", "at most 64 rows", "the settings and sweeps make more than %d rows", YD_EVAL_MAX_ROWS);
    yd_eval_row *row = &e->rows[e->n_rows++];
    spec s = *base;
    char swept[192] = "";
    size_t used = 0;
    row->method = e->args->sr ? YD_EVAL_GIVEN : YD_EVAL_DIFFUSION;
    snprintf(row->group, sizeof row->group, "%s", group);
    for (int i = n_sweeps - 1; i >= 0; i--) { // the first key varies slowest
        const int index = (int)(k % sweeps[i].n);
        k /= sweeps[i].n;
        if (s.n == MAX_PAIRS) return wrong(err, "sweep", sweeps[i].key);
        pair *p = &s.pair[s.n++];
        snprintf(p->key, sizeof p->key, "%s", sweeps[i].key);
        if (sweep_value(&sweeps[i], index, p->value) < 0)
            return yd_fail_field(err, YD_E_SETTING, "sweep", "KEY=A,B,C", "--sweep: '%s' has an empty value or one that is too long", sweeps[i].key);
    }
    for (int i = s.n - 1; i >= base->n && used < sizeof swept; i--) {
        const int put = snprintf(swept + used, sizeof swept - used, "%s%s=%s", used ? " " : "", s.pair[i].key, s.pair[i].value);
        used += put > 0 ? (size_t)put : 0;
    }
    if (n_sweeps == 1) snprintf(row->label, sizeof row->label, "%.63s", s.pair[base->n].value);
    else snprintf(row->label, sizeof row->label, "%.63s", swept);
    snprintf(row->name, sizeof row->name, "%.90s%s%.36s", group, *group && *swept ? " " : "", swept);
    return settle(e, cfg, &s, row, err);
}

// Without --setting: what --sr, --method or the model's name say.
static void default_group(const yd_eval *e, const yd_model_config *cfg, int swept, char *dst, size_t cap)
{
    if (e->args->sr) snprintf(dst, cap, "given");
    else if (e->args->method && strcmp(e->args->method, "bicubic") == 0) snprintf(dst, cap, "bicubic");
    else snprintf(dst, cap, "%.60s", swept || !cfg ? "" : cfg->name);
}

// Move the pairs of a base whose values are lists to the sweeps behind the n that apply to every base.
static int take_lists(spec *base, sweep *sweeps, int *n, yd_err *err)
{
    int kept = 0;
    for (int i = 0; i < base->n; i++) {
        char text[2 * WORD];
        if (!strchr(base->pair[i].value, ',')) {
            base->pair[kept++] = base->pair[i];
            continue;
        }
        snprintf(text, sizeof text, "%s=%s", base->pair[i].key, base->pair[i].value);
        const int rc = read_sweep(text, sweeps, n, err);
        if (rc < 0) return rc;
    }
    base->n = kept;
    return 0;
}

static int add_base(yd_eval *e, const yd_model_config *cfg, const char *text, sweep *sweeps, int n_sweeps, yd_err *err)
{
    spec base = {0};
    char group[96];
    int rc = 0;
    long combinations = 1;
    default_group(e, cfg, n_sweeps > 0, group, sizeof group);
    if (e->args->method && split("method=x", 8, base.pair[0].key, WORD, base.pair[0].value, WORD) == 0) {
        snprintf(base.pair[0].value, WORD, "%.40s", e->args->method);
        base.n = 1;
    }
    if (text) rc = read_setting(text, group, sizeof group, &base, err);
    if (rc == 0) rc = take_lists(&base, sweeps, &n_sweeps, err);
    for (int i = 0; i < n_sweeps && combinations <= YD_EVAL_MAX_ROWS; i++) combinations *= sweeps[i].n;
    for (long k = 0; k < combinations && rc == 0; k++) rc = add_row(e, cfg, group, &base, sweeps, n_sweeps, k, err);
    return rc;
}

int yd_eval_rows_make(yd_eval *e, const yd_model_config *cfg, yd_err *err)
{
    const yd_eval_args *a = e->args;
    sweep sweeps[MAX_SWEEPS];
    int n_sweeps = 0, rc = 0;
    for (int i = 0; i < a->sweeps.n && rc == 0; i++) rc = read_sweep(a->sweeps.item[i], sweeps, &n_sweeps, err);
    if (rc == 0 && a->settings.n == 0) rc = add_base(e, cfg, NULL, sweeps, n_sweeps, err);
    for (int i = 0; i < a->settings.n && rc == 0; i++) rc = add_base(e, cfg, a->settings.item[i], sweeps, n_sweeps, err);
    return rc;
}
