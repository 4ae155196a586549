// Whole networks on the backend: against what the CPU gave, in f32 and bf16, alone and in batches, replayed and eager; and how a backend
// ends: memory that stays, a NaN that keeps to its sample, memory that is not there.
#include "core/mem.h"
#include "core/model.h"
#include "tests/gpu/check.h"
#include "tests/oracle/oracle.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODEL(NAME, NETWORK, REST)                                                                                     \
    "{\"format\": \"yoda-model-1\", \"name\": \"" NAME "\", \"network\": {" NETWORK                                    \
    "}, \"scale\": 4, \"window\": 32, \"overlap\": 8" REST "}"
#define SIX "\"in_channel\": 6, \"out_channel\": 3, "

static const struct net {
    const char *name, *json; // json NULL: the model that ships
    int h, w, n;
} nets[] = {
    {"sr3 with attention",
     MODEL("attention",
           "\"type\": \"sr3\", " SIX "\"inner_channel\": 32, \"channel_multiplier\": [1, 2, 2], \"res_blocks\": 1, "
           "\"norm_groups\": 8, \"attn_res\": [8], \"image_size\": 32",
           ""),
     32, 32, 3},
    {"sr3 on half the size",
     MODEL("compact",
           "\"type\": \"sr3\", " SIX "\"inner_channel\": 24, \"channel_multiplier\": [1, 2, 3], \"res_blocks\": 2, "
           "\"norm_groups\": 8, \"attn_res\": [], \"image_size\": 32, "
           "\"unshuffle\": 2, \"mid_attention\": false, \"noise_scale\": 1000",
           ""),
     40, 24, 3},
    {"ddpm, told timesteps",
     MODEL("ddpm",
           "\"type\": \"ddpm\", " SIX "\"inner_channel\": 16, \"channel_multiplier\": [1, 2], \"res_blocks\": 1, "
           "\"norm_groups\": 8, \"attn_res\": [16], \"image_size\": 32",
           ""),
     16, 24, 5},
    {"srdiff",
     MODEL("srdiff",
           "\"type\": \"srdiff\", \"inner_channel\": 32, \"channel_multiplier\": [1, 2], \"up_scale\": 4, "
           "\"rrdb_blocks\": 2, \"rrdb_features\": 16",
           ""),
     32, 32, 2},
    {"sr3 to 512 channels",
     MODEL("wide",
           "\"type\": \"sr3\", " SIX "\"inner_channel\": 64, \"channel_multiplier\": [1, 4, 8], \"res_blocks\": 1, "
           "\"norm_groups\": 32, \"attn_res\": [8], \"image_size\": 32",
           ""),
     32, 32, 2},
    {"the model that ships", NULL, 64, 64, 2},
};
enum { N_NETS = sizeof nets / sizeof *nets };

static int load(const struct net *t, yd_model **m, yd_err *err)
{
    yd_model_config cfg;
    if (!t->json) return yd_model_load("models/yoda-compact-4x.safetensors", m, err);
    int rc = yd_model_config_parse(t->json, strlen(t->json), &cfg, err);
    return rc ? rc : yd_model_init(&cfg, 7, 0, m, err);
}

// ---- a network, compiled

typedef struct running {
    yd_backend *be;
    yd_graph *g;
    yd_weights *w;
    yd_exec *e;
    yd_tid out;
    size_t per; // numbers of a sample's result
    int n;
} running;

static void running_end(running *r)
{
    if (r->e) r->be->exec_free(r->e);
    if (r->w) r->be->weights_free(r->w);
    yd_graph_free(r->g);
    memset(r, 0, sizeof *r);
}

static int running_begin(running *r, yd_backend *be, const yd_model *m, int h, int w, yd_dtype dt, int n, yd_err *err)
{
    *r = (running){.be = be, .n = n};
    int rc = yd_net_build(&m->cfg.net, h, w, dt, 0, &r->g, err);
    if (!rc) rc = be->weights_new(be, r->g, (const float *const *)m->params, 0, &r->w, err);
    if (!rc) rc = be->compile(be, r->g, r->w, n, &r->e, err);
    if (rc) return rc;
    r->out = yd_graph_find(r->g, "out");
    r->per = yd_tensor_numel(&r->g->tensors[r->out]);
    return 0;
}

// Fill in the inputs of samples first..first+n-1 of the endless row of samples that are the same everywhere.
static void fill_inputs(const running *r, int first)
{
    for (int t = 0; t < r->g->n_tensors; t++) {
        const yd_tensor *x = &r->g->tensors[t];
        if (x->kind != YD_T_INPUT) continue;
        const size_t per = yd_tensor_numel(x);
        float *stage = r->be->buffer(r->e, t);
        for (int i = 0; i < r->n; i++)
            check_fill(stage + per * (size_t)i, per, (unsigned long)(first + i) * 100 + (unsigned long)t);
        for (size_t i = 0; per == 1 && i < (size_t)r->n; i++) stage[i] = fabsf(stage[i]); // a noise level
    }
}

// A run of samples first..first+n-1; the caller frees the result. NULL and *err.
static float *run_from(running *r, int first, yd_err *err)
{
    fill_inputs(r, first);
    if (r->be->run(r->e, err)) return NULL;
    float *out = malloc(r->per * (size_t)r->n * sizeof *out);
    memcpy(out, r->be->buffer(r->e, r->out), r->per * (size_t)r->n * sizeof *out);
    return out;
}

static float *run_net(yd_backend *be, const yd_model *m, const struct net *t, yd_dtype dt, int first, int n,
                      size_t *per, yd_err *err)
{
    running r = {0};
    float *out = running_begin(&r, be, m, t->h, t->w, dt, n, err) ? NULL : run_from(&r, first, err);
    *per = r.per;
    running_end(&r);
    return out;
}

// ---- rows

static void against_the_cpu(check *c, const struct net *t, const yd_model *m)
{
    size_t per;
    yd_err err = {0};
    char name[64];
    if (check_begin(c, "network", t->name)) {
        float *f = run_net(c->be, m, t, YD_F32, 0, t->n, &per, &err);
        snprintf(name, sizeof name, "net/%s", t->name);
        const double diff = f ? saved_compare(c->saved, name, f, per * (size_t)t->n) : INFINITY;
        if (!f) check_detail(c, "%s", err.detail);
        check_end(c, diff <= 1e-4, "f32, %d of %dx%d: off by %.1e of 1e-04", t->n, t->w, t->h, diff);
        free(f);
    }
    snprintf(name, sizeof name, "%s, bf16", t->name);
    if (check_begin(c, "network", name)) {
        float *h = run_net(c->be, m, t, YD_BF16, 0, t->n, &per, &err);
        snprintf(name, sizeof name, "net/%s", t->name);
        const float *want = h ? saved_values(c->saved, name, per * (size_t)t->n) : NULL;
        const double diff = want ? check_rel_diff(h, want, per * (size_t)t->n) : INFINITY;
        if (!h) check_detail(c, "%s", err.detail);
        check_end(c, diff <= 4e-2, "%d of %dx%d: off by %.1e of 4e-02", t->n, t->w, t->h, diff);
        free(h);
    }
}

// What was saved, against the plain loops: the proof of the file, made where it is written. Not of the large ones, which take minutes.
static void against_the_oracle(check *c, const struct net *t, const yd_model *m)
{
    running r = {0};
    yd_err err = {0};
    char name[64];
    if (c->on_gpu || !check_begin(c, "oracle", t->name)) return;
    double diff = INFINITY;
    if (!running_begin(&r, c->be, m, t->h, t->w, YD_F32, t->n, &err)) {
        oracle *o = oracle_new(r.g, t->n);
        fill_inputs(&r, 0);
        for (int i = 0; i < r.g->n_tensors; i++) {
            const yd_tensor *x = &r.g->tensors[i];
            const float *from = x->kind == YD_T_INPUT   ? c->be->buffer(r.e, i)
                                : x->kind == YD_T_PARAM ? m->params[x->param]
                                                        : NULL;
            for (size_t k = 0; from && k < oracle_count(o, i); k++) o->t[i][k] = (double)from[k];
        }
        oracle_run(o, 0);
        float *want = malloc(r.per * (size_t)t->n * sizeof *want);
        for (size_t i = 0; i < r.per * (size_t)t->n; i++) want[i] = (float)o->t[r.out][i];
        snprintf(name, sizeof name, "net/%s", t->name);
        const float *have = saved_values(c->saved, name, r.per * (size_t)t->n);
        if (have) diff = check_rel_diff(have, want, r.per * (size_t)t->n);
        free(want);
        oracle_free(o);
    }
    check_end(c, diff <= 2e-5, "what is saved is off the plain loops by %.1e of 2e-05", diff);
    running_end(&r);
}

static void batches(check *c, const struct net *t, const yd_model *m)
{
    static const int sizes[] = {1, 2, 4, 7, 16, 33};
    for (int half = 0; half < 2; half++) {
        char name[64];
        snprintf(name, sizeof name, "%s, %s", t->name, half ? "bf16" : "f32");
        if (!check_begin(c, "batches", name)) continue;
        const yd_dtype dt = half ? YD_BF16 : YD_F32;
        size_t per;
        yd_err err = {0};
        int unlike = 0;
        float *alone = run_net(c->be, m, t, dt, 5, 1, &per, &err);
        for (size_t i = 0; alone && i < sizeof sizes / sizeof *sizes; i++) {
            const int n = sizes[i], at = n / 2; // sample 5 in the middle of others
            float *many = run_net(c->be, m, t, dt, 5 - at, n, &per, &err);
            if (!many || memcmp(alone, many + per * (size_t)at, per * sizeof *alone) != 0) {
                unlike++;
                check_detail(c, "in a batch of %d: %s", n, many ? "other bits" : err.detail);
            }
            free(many);
        }
        check_end(c, alone && !unlike, "a sample alone and in batches of 1 to 33: %s",
                  alone && !unlike ? "the same bits" : "other bits");
        free(alone);
    }
}

static void repeats(check *c, const struct net *t, const yd_model *m)
{
    running r = {0};
    yd_err err = {0};
    if (!check_begin(c, "repeats", t->name)) return;
    yd_backend_memory before = {0}, after = {0};
    float *first = running_begin(&r, c->be, m, t->h, t->w, YD_BF16, 2, &err) ? NULL : run_from(&r, 0, &err);
    int unlike = 0;
    if (c->be->memory) c->be->memory(c->be, &before, NULL);
    for (int i = 0; first && i < 40; i++) {
        float *again = run_from(&r, i % 2 ? 0 : i, &err); // others in between
        if (!again)
            unlike++;
        else if (i % 2)
            unlike += memcmp(first, again, r.per * 2 * sizeof *first) != 0;
        free(again);
    }
    if (c->be->memory) c->be->memory(c->be, &after, NULL);
    const int grown = before.weights != after.weights || before.arena != after.arena || before.scratch != after.scratch;
    check_end(c, first && !unlike && !grown, "40 runs: %d with other bits; memory %s", unlike,
              c->be->memory ? grown ? "has changed" : "unchanged" : "is the process's");
    free(first);
    running_end(&r);
}

// A NaN in one sample reaches no other one.
static void poisoned(check *c, const struct net *t, const yd_model *m)
{
    running r = {0};
    yd_err err = {0};
    if (!check_begin(c, "NaN", t->name)) return;
    float *clean = running_begin(&r, c->be, m, t->h, t->w, YD_BF16, 3, &err) ? NULL : run_from(&r, 0, &err);
    int reached = 0, seen = 0;
    if (clean) {
        fill_inputs(&r, 0);
        const yd_tid x = yd_graph_find(r.g, "x");
        r.be->buffer(r.e, x)[yd_tensor_numel(&r.g->tensors[x]) + 10] = NAN;
        const int rc = r.be->run(r.e, &err);
        const float *got = r.be->buffer(r.e, r.out);
        reached = rc || memcmp(got, clean, r.per * sizeof *got) != 0 ||
                  memcmp(got + 2 * r.per, clean + 2 * r.per, r.per * sizeof *got) != 0;
        for (size_t i = r.per; i < 2 * r.per; i++) seen |= isnan(got[i]);
    }
    check_end(c, clean && seen && !reached, "of three samples the second: %s, the others %s",
              seen ? "NaN" : "no NaN in the result", reached ? "changed" : "unchanged");
    free(clean);
    running_end(&r);
}

// The same network on a backend with other options.
static void option(check *c, const struct net *t, const yd_model *m, const char *name, const yd_cuda_options *opt,
                   yd_dtype dt, double allowed)
{
    size_t per;
    yd_err err = {0};
    if (!check_begin(c, "option", name)) return;
    if (!c->on_gpu) {
        check_skip(c, "of the CUDA backend");
        return;
    }
    yd_backend *be = check_open(c, opt);
    float *a = run_net(c->be, m, t, dt, 0, t->n, &per, &err),
          *b = be ? run_net(be, m, t, dt, 0, t->n, &per, &err) : NULL;
    const double diff = a && b ? check_rel_diff(b, a, per * (size_t)t->n) : INFINITY;
    if (!a || !b) check_detail(c, "%s", err.detail);
    check_end(c, diff <= allowed, "%s: off by %.1e of %.0e", t->name, diff, allowed);
    free(a);
    free(b);
    if (be) be->close(be);
}

// Engines chosen by time: near those of the ranking; and another backend that reads the file has the same bits.
static void chosen_by_time(check *c, const struct net *t, const yd_model *m)
{
    char path[] = "/tmp/gpu-check-plans-XXXXXX";
    size_t per;
    yd_err err = {0};
    if (!check_begin(c, "option", "engines chosen by time, then by the file")) return;
    if (!c->on_gpu) {
        check_skip(c, "of the CUDA backend");
        return;
    }
    const int fd = mkstemp(path);
    if (fd >= 0) close(fd);
    const yd_cuda_options timed = {.plan_cache = path, .tune_ms = 20000};
    float *out[2] = {0}, *ranked = run_net(c->be, m, t, YD_BF16, 0, t->n, &per, &err);
    for (int i = 0; i < 2 && fd >= 0; i++) {
        yd_backend *be = check_open(c, &timed);
        if (be) out[i] = run_net(be, m, t, YD_BF16, 0, t->n, &per, &err);
        if (be) be->close(be);
    }
    const int there = ranked && out[0] && out[1];
    const double diff = there ? check_rel_diff(out[0], ranked, per * (size_t)t->n) : INFINITY;
    const int same = there && memcmp(out[0], out[1], per * (size_t)t->n * sizeof *ranked) == 0;
    if (!there) check_detail(c, "%s", err.detail);
    check_end(c, diff <= 4e-2 && same, "%s: off by %.1e of 4e-02, then %s", t->name, diff,
              same ? "the same bits" : "other bits");
    free(ranked);
    free(out[0]);
    free(out[1]);
    unlink(path);
}

static void memory_runs_out(check *c, const struct net *t, const yd_model *m)
{
    size_t per;
    yd_err err = {0};
    running r = {0};
    if (!check_begin(c, "memory", "more than there may be")) return;
    if (!c->on_gpu) {
        check_skip(c, "of the CUDA backend");
        return;
    }
    const yd_cuda_options little = {.memory_limit = (size_t)96 << 20};
    yd_backend *be = check_open(c, &little);
    const int rc = be ? running_begin(&r, be, m, 512, 512, YD_F32, 64, &err) : 0;
    running_end(&r);
    float *a = run_net(c->be, m, t, YD_F32, 0, t->n, &per, &err),
          *b = be ? run_net(be, m, t, YD_F32, 0, t->n, &per, &err) : NULL;
    const int goes_on = a && b && memcmp(a, b, per * (size_t)t->n * sizeof *a) == 0;
    check_end(c, rc == YD_E_NOMEM && goes_on, "64 of 512x512 in 96 MiB: %s, then a small one %s",
              rc == YD_E_NOMEM ? "refused" : "not refused", goes_on ? "runs" : "does not run");
    free(a);
    free(b);
    if (be) be->close(be);
}

static void rest(check *c, const struct net *t, const yd_model *m)
{
    repeats(c, t, m);
    poisoned(c, t, m);
    option(c, t, m, "eager instead of a graph", &(yd_cuda_options){.eager = 1}, YD_BF16, 0);
    option(c, t, m, "activations share memory", &(yd_cuda_options){0}, YD_BF16, 0);
    option(c, t, m, "each batch its own engines", &(yd_cuda_options){.batch_variant = 1}, YD_F32, 1e-4);
    option(c, t, m, "TF32", &(yd_cuda_options){.tf32 = 1}, YD_F32, 1e-2);
    chosen_by_time(c, t, m);
    memory_runs_out(c, t, m);
}

void check_nets(check *c)
{
    for (int i = 0; i < N_NETS; i++) {
        yd_model *m = NULL;
        yd_err err = {0};
        if (load(&nets[i], &m, &err)) {
            if (check_begin(c, "network", nets[i].name)) check_end(c, 0, "%s", err.detail);
            continue;
        }
        against_the_cpu(c, &nets[i], m);
        if (i < 4) against_the_oracle(c, &nets[i], m);
        if (i == 0 || i == N_NETS - 1) batches(c, &nets[i], m);
        if (i == N_NETS - 1) rest(c, &nets[i], m);
        yd_model_free(m);
    }
}
