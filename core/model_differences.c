// Comparing a whole file with its network, where loading stops at the first tensor that does not fit. See model_parts.h.
#include "core/mem.h"
#include "core/model_parts.h"

#include <stdio.h>
#include <string.h>

#define SHAPE_MAX 128

static void shape_of(const int64_t *dims, int n, char dst[SHAPE_MAX])
{
    size_t len = (size_t)snprintf(dst, SHAPE_MAX, "[");
    for (int i = 0; i < n && len < SHAPE_MAX; i++) len += (size_t)snprintf(dst + len, SHAPE_MAX - len, "%s%lld", i ? "," : "", (long long)dims[i]);
    if (len < SHAPE_MAX) snprintf(dst + len, SHAPE_MAX - len, "]");
}

static void compare(const yd_tensor *p, const yd_st_tensor *t, yd_difference_fn say, void *user)
{
    char have[SHAPE_MAX] = "", want[SHAPE_MAX];
    int64_t dims[YD_ST_MAX_DIMS];
    int same = t && t->ndim == p->ndim;
    for (int i = 0; i < p->ndim; i++) {
        dims[i] = p->dims[i];
        same = same && t->dims[i] == dims[i];
    }
    if (same) return;
    shape_of(dims, p->ndim, want);
    if (t) shape_of(t->dims, t->ndim, have);
    say(user, t ? YD_DIFF_SHAPE : YD_DIFF_MISSING, p->name, have, want);
}

int yd_model_differences(const char *path, const char *config, const yd_safetensors *st, yd_difference_fn say, void *user, yd_err *err)
{
    yd_public_net at = {.root = ""};
    yd_graph *g = NULL;
    char have[SHAPE_MAX];
    yd_model *m = yd_calloc(1, sizeof *m);
    if (!m) return yd_fail(err, YD_E_NOMEM, "no memory for a model");
    snprintf(m->path, sizeof m->path, "%s", path);
    int rc = yd_model_config_from_tensors(m, config, st, &at, err);
    if (!rc) rc = yd_net_build(&m->cfg.net, m->cfg.window, m->cfg.window, YD_F32, 0, &g, err);
    for (int i = 0; !rc && i < g->n_params; i++) {
        const yd_tensor *p = &g->tensors[g->params[i]];
        compare(p, yd_model_find_param(st, at.prefix, p->name), say, user);
    }
    for (size_t i = 0; !rc && i < yd_st_count(st); i++) {
        const yd_st_tensor *t = yd_st_at(st, i);
        if (yd_model_expects(&m->cfg.net, g, &at, t->name)) continue;
        shape_of(t->dims, t->ndim, have);
        say(user, YD_DIFF_UNEXPECTED, t->name, have, "");
    }
    yd_graph_free(g);
    yd_model_free(m);
    return rc;
}
