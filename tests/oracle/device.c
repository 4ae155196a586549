// Parameters and inputs from an oracle's doubles to a backend's floats, and results back. See the header.
#include "tests/oracle/device.h"

#include <stdlib.h>
#include <string.h>

static int put_weights(device *d, const oracle *o, yd_err *err)
{
    const yd_graph *g = o->g;
    float **host = calloc((size_t)g->n_params + 1, sizeof *host);
    for (int i = 0; i < g->n_params; i++) {
        const size_t count = oracle_count(o, g->params[i]);
        host[i] = malloc(count * sizeof(float));
        for (size_t j = 0; j < count; j++) host[i][j] = (float)o->t[g->params[i]][j];
    }
    const int rc = d->be->weights_new(d->be, g, (const float *const *)host, 0, &d->w, err);
    for (int i = 0; i < g->n_params; i++) free(host[i]);
    free(host);
    return rc;
}

static void put_inputs(device *d, const oracle *o, int first, int n)
{
    for (int t = 0; t < o->g->n_tensors; t++) {
        if (o->g->tensors[t].kind != YD_T_INPUT) continue;
        const size_t per = yd_tensor_numel(&o->g->tensors[t]);
        float *stage = d->be->buffer(d->e, t);
        for (size_t i = 0; i < per * (size_t)n; i++) stage[i] = (float)o->t[t][(size_t)first * per + i];
    }
}

int device_run(device *d, yd_backend *be, const oracle *o, int first, int n, yd_err *err)
{
    *d = (device){.be = be};
    int rc = put_weights(d, o, err);
    if (!rc) rc = be->compile(be, o->g, d->w, n, &d->e, err);
    if (rc) return rc;
    put_inputs(d, o, first, n);
    return be->run(d->e, err);
}

float *device_read(const device *d, const yd_graph *g, yd_tid t, int n)
{
    const size_t count = yd_tensor_numel(&g->tensors[t]) * (size_t)(g->tensors[t].kind == YD_T_PGRAD ? 1 : n);
    float *out = malloc(count * sizeof *out);
    const float *stage = d->be->buffer(d->e, t);
    if (stage) {
        memcpy(out, stage, count * sizeof *out);
    } else if (d->be->peek(d->e, t, out, NULL)) {
        free(out);
        return NULL;
    }
    return out;
}

void device_close(device *d)
{
    if (d->e) d->be->exec_free(d->e);
    if (d->w) d->be->weights_free(d->w);
    *d = (device){0};
}
