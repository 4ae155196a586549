// Saving models: parameters of a network as a file, and a file written anew as one of ours, with its config and a checksum inside.
// Read next: core/seal.h, core/safetensors_write.c
#include "core/mem.h"
#include "core/model_parts.h"
#include "core/seal.h"

#include <stdio.h>
#include <string.h>

#define CONFIG_PRINT_MAX 4096 // yd_model_config_print's longest

// params as 16-bit copies, kept alive until the file is written.
static int narrow(const float *src, size_t n, uint16_t **dst, yd_err *err)
{
    *dst = yd_malloc(n * sizeof **dst);
    if (!*dst) return yd_fail(err, YD_E_NOMEM, "no memory to save a model");
    for (size_t i = 0; i < n; i++) (*dst)[i] = yd_bf16_from_f32(src[i]);
    return 0;
}

static int add_params(yd_st_writer *w, const yd_graph *g, const float *const *params, yd_dtype dt, uint16_t **copies, yd_err *err)
{
    for (int i = 0; i < g->n_params; i++) {
        const yd_tensor *p = &g->tensors[g->params[i]];
        int64_t dims[4];
        for (int d = 0; d < p->ndim; d++) dims[d] = p->dims[d];
        const void *data = params[i];
        if (dt == YD_BF16) {
            int rc = narrow(params[i], yd_tensor_numel(p), &copies[i], err);
            if (rc) return rc;
            data = copies[i];
        }
        int rc = yd_st_writer_add(w, p->name, dt == YD_BF16 ? YD_ST_BF16 : YD_ST_F32, p->ndim, dims, data, err);
        if (rc) return rc;
    }
    return 0;
}

int yd_model_save(const yd_model_config *cfg, const float *const *params, int n_params, yd_dtype dt, const char *path, yd_err *err)
{
    yd_graph *g = NULL;
    yd_st_writer *w = NULL;
    uint16_t **copies = NULL;
    char text[CONFIG_PRINT_MAX];
    int rc = yd_net_build(&cfg->net, cfg->window, cfg->window, YD_F32, 0, &g, err);
    if (rc) return rc;
    if (g->n_params != n_params) {
        rc = yd_fail(err, YD_E_INTERNAL, "%d parameters given for a network that has %d", n_params, g->n_params);
        goto out;
    }
    w = yd_st_writer_new();
    copies = yd_calloc((size_t)n_params, sizeof *copies);
    if (!w || !copies) {
        rc = yd_fail(err, YD_E_NOMEM, "no memory to save a model");
        goto out;
    }
    if (yd_model_config_print(cfg, text, sizeof text) >= sizeof text) {
        rc = yd_fail(err, YD_E_INTERNAL, "the model's config is longer than %zu bytes", sizeof text);
        goto out;
    }
    rc = yd_st_writer_metadata(w, "yoda.config", text, err);
    if (!rc) rc = add_params(w, g, params, dt, copies, err);
    if (!rc) rc = yd_st_writer_save(w, path, err);
out:
    for (int i = 0; copies && i < n_params; i++) yd_free(copies[i]);
    yd_free(copies);
    yd_st_writer_free(w);
    yd_graph_free(g);
    return rc;
}

// The metadata of a file, but for a checksum of its own, and the config.
static int add_metadata(yd_st_writer *w, const yd_safetensors *st, const yd_model_config *cfg, yd_err *err)
{
    char text[CONFIG_PRINT_MAX];
    const char *key;
    int rc = 0;
    if (yd_model_config_print(cfg, text, sizeof text) >= sizeof text)
        return yd_fail(err, YD_E_INTERNAL, "the model's config is longer than %zu bytes", sizeof text);
    for (size_t i = 0; !rc && (key = yd_st_metadata_key(st, i)); i++) rc = yd_st_writer_metadata(w, key, yd_st_metadata(st, key), err);
    if (!rc) rc = yd_st_writer_metadata(w, "yoda.config", text, err);
    return rc ? rc : yd_st_writer_seal(w, err);
}

// The network's tensors under the names that our files have, in the type that they have in this one, to the bit. What stood beside them, an
// optimizer or a schedule's buffers, stays behind: the config says it.
static int add_tensors(yd_st_writer *w, const yd_safetensors *st, const yd_graph *g, const yd_public_net *at, int map, yd_err *err)
{
    int rc = 0;
    for (int i = 0; !rc && i < g->n_params; i++) {
        const char *name = g->tensors[g->params[i]].name;
        const yd_st_tensor *t = yd_model_find_param(st, at->prefix, name);
        rc = t ? yd_st_writer_add(w, name, t->dtype, t->ndim, t->dims, t->data, err) : yd_tensors_missing(st, name, err);
    }
    for (size_t i = 0; !rc && map && i < yd_st_count(st); i++) {
        const yd_st_tensor *t = yd_st_at(st, i);
        if (strncmp(t->name, YD_MAP_PREFIX, sizeof YD_MAP_PREFIX - 1) == 0) rc = yd_st_writer_add(w, t->name, t->dtype, t->ndim, t->dims, t->data, err);
    }
    return rc;
}

// map: the learned map to write, NULL for the file's own.
static int write_again(const yd_safetensors *st, const yd_model_config *cfg, const yd_public_net *at, const yd_map_net *map, const char *path, yd_err *err)
{
    yd_map_store store;
    yd_graph *g = NULL;
    yd_st_writer *w = yd_st_writer_new();
    int rc = w ? 0 : yd_fail(err, YD_E_NOMEM, "no memory to write a model");
    if (!rc) rc = yd_net_build(&cfg->net, cfg->window, cfg->window, YD_F32, 0, &g, err);
    if (!rc) rc = add_metadata(w, st, cfg, err);
    if (!rc) rc = add_tensors(w, st, g, at, !map, err);
    if (!rc && map) rc = yd_map_net_add(map, &store, w, err);
    if (!rc) rc = yd_st_writer_save(w, path, err);
    yd_graph_free(g);
    yd_st_writer_free(w);
    return rc;
}

static int check_seal(const yd_safetensors *st, yd_err *err)
{
    size_t at = 0, len;
    const void *bytes = yd_st_bytes(st, &len);
    const int rc = yd_seal_find(st, &at, err);
    return rc > 0 ? yd_seal_check(bytes, len, at, err) : rc;
}

static int rewrite(const char *in, const char *config, const char *out, const char *const *changes, int n, const yd_map_net *map, yd_err *err)
{
    yd_safetensors *st = NULL;
    yd_public_net at = {.root = ""};
    size_t len;
    if (strlen(in) >= sizeof((yd_model *)0)->path) return yd_fail(err, YD_E_IO, "the model's path is longer than 511 bytes");
    int rc = yd_tensors_open(in, &st, err);
    if (rc) return rc;
    yd_model *m = yd_calloc(1, sizeof *m);
    if (!m) rc = yd_fail(err, YD_E_NOMEM, "no memory for a model");
    else snprintf(m->path, sizeof m->path, "%s", in);
    (void)yd_st_bytes(st, &len);
    if (!rc && len > MODEL_MAX_BYTES) rc = yd_fail(err, YD_E_INVALID, "%.200s: more than 4 GiB", in);
    if (!rc) rc = check_seal(st, err);
    if (!rc) rc = yd_model_config_from_tensors(m, config, st, &at, err);
    for (int i = 0; !rc && i < n; i++) rc = yd_model_config_update(&m->cfg, changes[i], strlen(changes[i]), err);
    if (!rc) rc = yd_model_weights_from_tensors(m, st, &at, err);
    if (!rc) rc = write_again(st, &m->cfg, &at, map, out, err);
    yd_model_free(m);
    yd_st_close(st);
    return rc;
}

int yd_model_rewrite(const char *in, const char *config, const char *out, const char *const *changes, int n, yd_err *err)
{
    return rewrite(in, config, out, changes, n, NULL, err);
}

int yd_model_put_map(const char *in, const char *out, const yd_map_net *net, yd_err *err)
{
    return rewrite(in, NULL, out, NULL, 0, net, err);
}
