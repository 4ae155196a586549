// The outputs that the CPU backend has given for networks and runs of tests/gpu/check, in one safetensors file that travels with the sources.
// `gpu-check --backend cpu --save` writes it. Weights and inputs are not in it: they are drawn again, the same everywhere.
#include "core/mem.h"
#include "tests/gpu/check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_TAKEN = 64 };

struct saved {
    yd_safetensors *in; // reading
    yd_st_writer *out;  // writing
    char path[1024];
    struct {
        char name[64];
        float *v;
        size_t n;
    } taken[MAX_TAKEN];
    int n_taken;
};

// Keep v, which becomes the record's.
static const float *keep(saved *s, const char *name, float *v, size_t n)
{
    snprintf(s->taken[s->n_taken].name, sizeof s->taken->name, "%s", name);
    s->taken[s->n_taken].v = v;
    s->taken[s->n_taken].n = n;
    return s->taken[s->n_taken++].v;
}

int saved_open(const char *path, int writing, saved **out, yd_err *err)
{
    saved *s = yd_calloc(1, sizeof *s);
    *out = s;
    if (!s) return yd_fail(err, YD_E_NOMEM, "no memory");
    snprintf(s->path, sizeof s->path, "%s", path);
    if (!writing) return yd_st_open(path, &s->in, err);
    s->out = yd_st_writer_new();
    return s->out ? 0 : yd_fail(err, YD_E_NOMEM, "no memory");
}

static double take(saved *s, const char *name, const float *v, size_t n)
{
    const int64_t dims[1] = {(int64_t)n};
    float *copy = s->n_taken < MAX_TAKEN ? yd_malloc(n * sizeof *copy) : NULL;
    if (!copy) return INFINITY;
    memcpy(copy, v, n * sizeof *copy);
    keep(s, name, copy, n);
    return yd_st_writer_add(s->out, name, YD_ST_F32, 1, dims, copy, NULL) ? INFINITY : 0;
}

const float *saved_values(saved *s, const char *name, size_t n)
{
    for (int i = 0; i < s->n_taken; i++)
        if (strcmp(s->taken[i].name, name) == 0) return s->taken[i].n == n ? s->taken[i].v : NULL;
    const yd_st_tensor *t = s->in ? yd_st_find(s->in, name) : NULL;
    if (!t || t->numel != n || t->dtype != YD_ST_F32 || s->n_taken == MAX_TAKEN) return NULL;
    float *v = yd_malloc(n * sizeof *v); // in the file it need not be aligned
    if (!v) return NULL;
    memcpy(v, t->data, n * sizeof *v);
    return keep(s, name, v, n);
}

double saved_compare(saved *s, const char *name, const float *v, size_t n)
{
    if (s->out) return take(s, name, v, n);
    const float *want = saved_values(s, name, n);
    return want ? check_rel_diff(v, want, n) : INFINITY;
}

int saved_close(saved *s, yd_err *err)
{
    if (!s) return 0;
    int rc = s->out ? yd_st_writer_save(s->out, s->path, err) : 0;
    yd_st_writer_free(s->out);
    yd_st_close(s->in);
    for (int i = 0; i < s->n_taken; i++) yd_free(s->taken[i].v);
    yd_free(s);
    return rc;
}
