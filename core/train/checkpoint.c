// The state of a training on disk: one safetensors file with "param/", "m/", "v/" and "ema/" + the parameter's name, all f32, and in its
// metadata the iteration, the settings that decide the weights and a digest of the pictures. And the EMA weights as a model file.
//
// Saving goes through the safetensors writer: a temporary file (or several, core/parts.h), fsync, rename. A crash leaves the previous checkpoint whole.
// Loading checks names, shapes and types of every tensor, and refuses other settings or pictures instead of training something
// that neither run describes.
// Read next: core/train/trainer.c
#include "core/mem.h"
#include "core/safetensors.h"
#include "core/train/internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    yd_weights_part part;
    const char *prefix;
} parts[] = {{YD_W_PARAM, "param/"}, {YD_W_M, "m/"}, {YD_W_V, "v/"}, {YD_W_EMA, "ema/"}};
enum { N_PARTS = sizeof parts / sizeof parts[0] };

static const char format[] = "yoda-train-1";

static const yd_tensor *param_tensor(const yd_graph *g, int i)
{
    return &g->tensors[g->params[i]];
}

// One host array per parameter, uninitialised; index i of the graph's order. NULL when out of memory.
static void arrays_free(float **a, int n)
{
    for (int i = 0; a && i < n; i++) yd_free(a[i]);
    yd_free(a);
}

static float **arrays_new(const yd_graph *g)
{
    float **a = yd_calloc((size_t)g->n_params, sizeof *a);
    if (!a) return NULL;
    for (int i = 0; i < g->n_params; i++)
        if (!(a[i] = yd_malloc(yd_tensor_numel(param_tensor(g, i)) * sizeof(float)))) {
            arrays_free(a, g->n_params);
            return NULL;
        }
    return a;
}

static int read_part(yd_backend *be, yd_weights *w, yd_weights_part part, float **dst, int n, yd_err *err)
{
    int rc = 0;
    for (int i = 0; i < n && !rc; i++) rc = be->weights_read(w, part, i, dst[i], err);
    return rc;
}

static int no_memory(yd_err *err)
{
    return yd_fail(err, YD_E_NOMEM, "out of memory for a copy of the weights");
}

// ---- saving

static int add_part(yd_st_writer *out, const yd_graph *g, const char *prefix, float *const *values, yd_err *err)
{
    for (int i = 0; i < g->n_params; i++) {
        const yd_tensor *t = param_tensor(g, i);
        char name[sizeof t->name + 8];
        int64_t dims[4];
        for (int k = 0; k < t->ndim; k++) dims[k] = t->dims[k];
        snprintf(name, sizeof name, "%s%s", prefix, t->name);
        int rc = yd_st_writer_add(out, name, YD_ST_F32, t->ndim, dims, values[i], err);
        if (rc) return rc;
    }
    return 0;
}

// Doubles go as hexadecimal floats: exact, and the same text everywhere.
static int add_metadata(yd_st_writer *out, const char *identity, const yd_train_state *st, yd_err *err)
{
    char text[64];
    int rc = yd_st_writer_metadata(out, "yoda.train.format", format, err);
    if (!rc) rc = yd_st_writer_metadata(out, "yoda.train.settings", identity, err);
    snprintf(text, sizeof text, "%ld", st->iteration);
    if (!rc) rc = yd_st_writer_metadata(out, "yoda.train.iteration", text, err);
    snprintf(text, sizeof text, "%016llx", (unsigned long long)st->data_digest);
    if (!rc) rc = yd_st_writer_metadata(out, "yoda.train.pictures", text, err);
    snprintf(text, sizeof text, "%a %a", st->loss, st->active);
    if (!rc) rc = yd_st_writer_metadata(out, "yoda.train.means", text, err);
    return rc;
}

int yd_checkpoint_save(yd_backend *be, yd_weights *w, const yd_graph *g, const char *identity, const yd_train_state *st,
                       const char *path, size_t part_bytes, yd_err *err)
{
    float **values[N_PARTS] = {NULL};
    yd_st_writer *out = yd_st_writer_new();
    int rc = out ? add_metadata(out, identity, st, err) : no_memory(err);
    for (int p = 0; p < N_PARTS && !rc; p++) {
        values[p] = arrays_new(g);
        rc = values[p] ? read_part(be, w, parts[p].part, values[p], g->n_params, err) : no_memory(err);
        if (!rc) rc = add_part(out, g, parts[p].prefix, values[p], err);
    }
    if (!rc) rc = yd_st_writer_save_parts(out, path, part_bytes, err);
    yd_st_writer_free(out);
    for (int p = 0; p < N_PARTS; p++) arrays_free(values[p], g->n_params);
    return rc;
}

int yd_checkpoint_export(yd_backend *be, yd_weights *w, const yd_graph *g, const yd_train_config *cfg, yd_err *err)
{
    float **ema = arrays_new(g);
    if (!ema) return no_memory(err);
    int rc = read_part(be, w, YD_W_EMA, ema, g->n_params, err);
    if (!rc) rc = yd_model_save(&cfg->model, (const float *const *)ema, g->n_params, cfg->out_dtype, cfg->out, err);
    arrays_free(ema, g->n_params);
    return rc;
}

// ---- loading

static size_t line_length(const char *s)
{
    const char *end = strchr(s, '\n');
    return end ? (size_t)(end - s) : strlen(s);
}

// Compare the settings line by line, to name the first that differs.
static int check_identity(const char *saved, const char *now, yd_err *err)
{
    while (*saved || *now) {
        const size_t a = line_length(saved), b = line_length(now);
        if (a != b || memcmp(saved, now, a) != 0) {
            char key[64];
            snprintf(key, sizeof key, "%.*s", (int)strcspn(*now ? now : saved, " \n"), *now ? now : saved);
            return yd_fail_field(err, YD_E_CONFLICT, key, "the checkpoint's settings, or a new training",
                                 "the checkpoint was trained with another %s: \"%.*s\" there, \"%.*s\" now", key,
                                 (int)(a < 120 ? a : 120), saved, (int)(b < 120 ? b : 120), now);
        }
        saved += a + (saved[a] != 0);
        now += b + (now[b] != 0);
    }
    return 0;
}

static int parse_state(const yd_safetensors *in, yd_train_state *st, yd_err *err)
{
    const char *fmt = yd_st_metadata(in, "yoda.train.format"), *iteration = yd_st_metadata(in, "yoda.train.iteration");
    const char *digest = yd_st_metadata(in, "yoda.train.pictures"), *means = yd_st_metadata(in, "yoda.train.means");
    char *end = NULL;
    if (!fmt || strcmp(fmt, format) != 0)
        return yd_fail_field(err, YD_E_CHECKPOINT, "yoda.train.format", format,
                             "this is not a training checkpoint: yoda.train.format is %s, not %s",
                             fmt ? fmt : "missing", format);
    errno = 0;
    st->iteration = iteration ? strtol(iteration, &end, 10) : -1;
    if (st->iteration < 0 || st->iteration > YD_TRAIN_MAX_ITERATIONS || errno || !end || *end)
        return yd_fail_field(err, YD_E_CHECKPOINT, "yoda.train.iteration", "a number from 0",
                             "yoda.train.iteration is %s, no valid number", iteration ? iteration : "missing");
    errno = 0;
    st->data_digest = digest ? strtoull(digest, &end, 16) : 0;
    if (!digest || end == digest || *end || errno)
        return yd_fail_field(err, YD_E_CHECKPOINT, "yoda.train.pictures", "16 hexadecimal digits",
                             "yoda.train.pictures is no digest");
    st->loss = means ? strtod(means, &end) : 0; // for display: a wrong value harms nothing
    st->active = means ? strtod(end, NULL) : 0;
    return 0;
}

static int load_tensor(const yd_safetensors *in, const char *prefix, const yd_tensor *t, float *dst, yd_err *err)
{
    char name[sizeof t->name + 8];
    snprintf(name, sizeof name, "%s%s", prefix, t->name);
    const yd_st_tensor *s = yd_st_find(in, name);
    int same = s && s->dtype == YD_ST_F32 && s->ndim == t->ndim && s->numel == yd_tensor_numel(t);
    for (int k = 0; same && k < t->ndim; k++) same = s->dims[k] == t->dims[k];
    if (!same)
        return yd_fail_field(err, YD_E_CHECKPOINT, name, "an f32 tensor of the parameter's shape",
                             "the checkpoint's tensor %s is %s", name, s ? "of another shape or type" : "missing");
    return yd_st_to_f32(s, dst, err);
}

static int load_weights(yd_backend *be, yd_weights *w, const yd_graph *g, const yd_safetensors *in, yd_err *err)
{
    float **values = arrays_new(g);
    int rc = values ? 0 : no_memory(err);
    for (int p = 0; p < N_PARTS; p++)
        for (int i = 0; i < g->n_params && !rc; i++) {
            rc = load_tensor(in, parts[p].prefix, param_tensor(g, i), values[i], err);
            if (!rc) rc = be->weights_write(w, parts[p].part, i, values[i], err);
        }
    arrays_free(values, g->n_params);
    return rc;
}

int yd_checkpoint_load(yd_backend *be, yd_weights *w, const yd_graph *g, const char *identity, const char *path,
                       yd_train_state *st, yd_err *err)
{
    const uint64_t digest = st->data_digest;
    yd_safetensors *in = NULL;
    int rc = yd_st_open(path, &in, err);
    if (rc) return rc;
    rc = parse_state(in, st, err);
    const char *settings = rc ? NULL : yd_st_metadata(in, "yoda.train.settings");
    if (!rc) rc = check_identity(settings ? settings : "", identity, err);
    if (!rc && st->data_digest != digest)
        rc = yd_fail_field(
            err, YD_E_CONFLICT, "data.folder", "the pictures that the checkpoint was trained on",
            "the checkpoint was trained on other pictures (or with another attention map) than the folder holds now");
    if (!rc && yd_st_count(in) != (size_t)g->n_params * N_PARTS)
        rc = yd_fail(err, YD_E_CHECKPOINT, "the checkpoint has %zu tensors where the network needs %zu",
                     yd_st_count(in), (size_t)g->n_params * N_PARTS);
    if (!rc) rc = load_weights(be, w, g, in, err);
    yd_st_close(in);
    return rc;
}
