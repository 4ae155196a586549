// SRDiff's networks on the CPU backend: the public implementation's numbers (fixtures srdiff_x4_tiny, srdiff_x8_tiny), from the condition to
// the finished sample; and jobs on them whose bytes depend on nothing but picture, settings and seed.
#include "core/engine.h"
#include "core/mem.h"
#include "core/resize.h"
#include "core/rng.h"
#include "core/safetensors.h"
#include "core/upscale.h"
#include "tests/unit/t.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOLERANCE 2e-5 // of the largest reference value, f32, direct convolutions

static const char *const folders[] = {"srdiff_x4_tiny", "srdiff_x8_tiny"};

typedef struct fixture {
    yd_model *m;
    yd_safetensors *io;
    yd_backend *be;
    int h, w, lh, lw; // of the result and of the picture
} fixture;

static yd_backend *open_cpu(int threads, int keep)
{
    yd_backend *be = NULL;
    yd_err err = {0};
    yd_cpu_options opt = {.threads = threads, .keep_activations = keep, .no_winograd = 1};
    CHECK_MSG(yd_cpu_open(&opt, &be, &err) == 0, "%s", err.detail);
    return be;
}

static void fixture_close(fixture *f)
{
    yd_st_close(f->io);
    yd_model_free(f->m);
    if (f->be) f->be->close(f->be);
}

// 1 when there.
static int fixture_open(fixture *f, const char *folder, int keep)
{
    char rel[128], weights[1024];
    yd_err err = {0};
    *f = (fixture){.m = NULL};
    snprintf(rel, sizeof rel, "fixtures/%s/weights.safetensors", folder);
    const char *p = t_shared(rel);
    if (!p) {
        t_skip("the fixtures are not there");
        return 0;
    }
    snprintf(weights, sizeof weights, "%s", p);
    snprintf(rel, sizeof rel, "fixtures/%s/io.safetensors", folder);
    CHECK_MSG(yd_model_load(weights, &f->m, &err) == 0, "%s", err.detail);
    CHECK_MSG((p = t_shared(rel)) && yd_st_open(p, &f->io, &err) == 0, "%s", err.detail);
    f->be = open_cpu(2, keep);
    if (f->m && f->io && f->be) {
        const yd_st_tensor *up = yd_st_find(f->io, "img_lr_up"), *lr = yd_st_find(f->io, "img_lr");
        CHECK(up && lr);
        f->h = (int)up->dims[2], f->w = (int)up->dims[3], f->lh = (int)lr->dims[2], f->lw = (int)lr->dims[3];
        return 1;
    }
    fixture_close(f);
    return 0;
}

// A tensor of planes [n][c][h][w] as maps [n][h][w][c]. The caller frees it.
static float *maps(const yd_safetensors *st, const char *name)
{
    const yd_st_tensor *t = yd_st_find(st, name);
    CHECK_MSG(t && t->ndim == 4, "the fixture has no %s", name);
    float *planes = yd_malloc(t->numel * sizeof *planes), *out = yd_malloc(t->numel * sizeof *out);
    CHECK(yd_st_to_f32(t, planes, NULL) == 0);
    const size_t c = (size_t)t->dims[1], px = (size_t)t->dims[2] * (size_t)t->dims[3];
    for (size_t i = 0; i < t->numel; i++) out[(i / (c * px) * px + i % px) * c + i / px % c] = planes[i];
    yd_free(planes);
    return out;
}

// The picture as a decoder would give it.
static yd_image picture(const fixture *f)
{
    yd_image in;
    const yd_st_tensor *t = yd_st_find(f->io, "lr_uint8_hwc");
    CHECK(yd_image_alloc(&in, f->lw, f->lh, 0, NULL) == 0);
    in.depth = 8;
    for (size_t i = 0; i < t->numel; i++) in.rgb[i] = (uint16_t)(((const uint8_t *)t->data)[i] * 257);
    return in;
}

// The published container holds the same weights, and an optimizer's state that is nobody's business.
static void as_published(void)
{
    for (size_t k = 0; k < 2; k++) {
        fixture f;
        char rel[128];
        yd_model *m = NULL;
        yd_err err = {0};
        if (!fixture_open(&f, folders[k], 0)) return;
        snprintf(rel, sizeof rel, "fixtures/%s/model_ckpt_steps_7.ckpt", folders[k]);
        const char *p = t_shared(rel);
        CHECK_MSG(p && yd_model_load(p, &m, &err) == 0, "%s", err.detail);
        CHECK(m && m->n_params == f.m->n_params && m->param_count == f.m->param_count);
        yd_graph *g = NULL;
        CHECK(yd_net_build(&f.m->cfg.net, 160, 160, YD_F32, 0, &g, &err) == 0);
        for (int i = 0; m && g && i < m->n_params; i++)
            CHECK(memcmp(m->params[i], f.m->params[i], yd_tensor_numel(&g->tensors[g->params[i]]) * sizeof(float)) == 0);
        yd_graph_free(g);
        yd_model_free(m);
        fixture_close(&f);
    }
}

static void condition(void)
{
    for (size_t k = 0; k < 2; k++) {
        fixture f;
        if (!fixture_open(&f, folders[k], 0)) return;
        yd_image in = picture(&f);
        float *want = maps(f.io, "img_lr_up"), *got = yd_malloc((size_t)f.h * (size_t)f.w * 3 * sizeof *got);
        CHECK(yd_resize_matlab256(in.rgb, f.lw, f.lh, f.m->cfg.scale, got, NULL) == 0);
        double worst = 0;
        for (int i = 0; i < f.h * f.w * 3; i++) worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
        CHECK_MSG(worst <= 2e-7, "up(LR) is off by %.3g", worst);
        yd_free(want);
        yd_free(got);
        yd_image_clear(&in);
        fixture_close(&f);
    }
}

typedef struct compiled {
    yd_graph *g;
    yd_exec *e;
} compiled;

static void compiled_free(yd_backend *be, compiled *c)
{
    if (c->e) be->exec_free(c->e);
    yd_graph_free(c->g);
}

// One picture through the encoder; the caller frees both.
static compiled encode(const fixture *f, yd_weights **w)
{
    compiled c = {0};
    yd_err err = {0};
    float *lr = maps(f->io, "img_lr");
    CHECK(yd_net_build_encoder(&f->m->cfg.net, f->h, f->w, &c.g, &err) == 0);
    CHECK(f->be->weights_new(f->be, c.g, (const float *const *)f->m->params, 0, w, &err) == 0);
    CHECK_MSG(f->be->compile(f->be, c.g, *w, 1, &c.e, &err) == 0, "%s", err.detail);
    float *to = f->be->buffer(c.e, yd_graph_find(c.g, "lr"));
    for (int i = 0; i < f->lh * f->lw * 3; i++) to[i] = (lr[i] + 1.0f) / 2.0f;
    CHECK(f->be->run(c.e, &err) == 0);
    yd_free(lr);
    return c;
}

static void features(void)
{
    for (size_t k = 0; k < 2; k++) {
        fixture f;
        if (!fixture_open(&f, folders[k], 1)) return;
        yd_weights *w = NULL;
        compiled c = encode(&f, &w);
        float *want = maps(f.io, "rrdb_last_fea");
        const size_t n = (size_t)f.lh * (size_t)f.lw * (size_t)f.m->cfg.net.rrdb_features;
        float *got = yd_malloc(n * sizeof *got);
        CHECK(f.be->peek(c.e, yd_graph_find(c.g, "rrdb.trunk_conv"), got, NULL) == 0);
        const double d = t_rel_diff(got, want, n);
        CHECK_MSG(d <= TOLERANCE, "%s: the encoder's last features are off by %.3g", folders[k], d);
        yd_free(got);
        yd_free(want);
        compiled_free(f.be, &c);
        f.be->weights_free(w);
        fixture_close(&f);
    }
}

static void eps(void)
{
    for (size_t k = 0; k < 2; k++) {
        fixture f;
        if (!fixture_open(&f, folders[k], 0)) return;
        yd_weights *w = NULL;
        yd_err err = {0};
        compiled c = encode(&f, &w), net = {0};
        float *x_t = maps(f.io, "x_t"), *want = maps(f.io, "eps");
        const size_t px = (size_t)f.h * (size_t)f.w;
        // one yd_weights serves both graphs
        CHECK(yd_net_build(&f.m->cfg.net, f.h, f.w, YD_F32, 0, &net.g, &err) == 0);
        CHECK_MSG(f.be->compile(f.be, net.g, w, 1, &net.e, &err) == 0, "%s", err.detail);
        memcpy(f.be->buffer(net.e, yd_graph_find(net.g, "x")), x_t, px * 3 * sizeof(float));
        memcpy(f.be->buffer(net.e, yd_graph_find(net.g, "cond")), f.be->buffer(c.e, yd_graph_find(c.g, "out")),
               px * (size_t)f.m->cfg.net.inner_channel * sizeof(float));
        CHECK(yd_st_to_f32(yd_st_find(f.io, "t"), f.be->buffer(net.e, yd_graph_find(net.g, "level")), NULL) == 0);
        CHECK(f.be->run(net.e, &err) == 0);
        const double d = t_rel_diff(f.be->buffer(net.e, yd_graph_find(net.g, "out")), want, px * 3);
        CHECK_MSG(d <= TOLERANCE, "%s: eps is off by %.3g", folders[k], d);
        yd_free(x_t);
        yd_free(want);
        compiled_free(f.be, &net);
        compiled_free(f.be, &c);
        f.be->weights_free(w);
        fixture_close(&f);
    }
}

// The noise of the fixture, one field for each of S..0.
static const float **given_noise(const fixture *f, int *steps)
{
    const size_t n = (size_t)f->h * (size_t)f->w * 3;
    float *x_T = maps(f->io, "x_T"), *added = maps(f->io, "noise_T_to_1");
    *steps = (int)yd_st_find(f->io, "noise_T_to_1")->dims[0];
    float *fields = yd_malloc((size_t)(*steps + 1) * n * sizeof *fields);
    const float **of = yd_malloc((size_t)(*steps + 1) * sizeof *of);
    for (int s = 0; s <= *steps; s++) {
        memcpy(fields + (size_t)s * n, s == *steps ? x_T : added + (size_t)(*steps - 1 - s) * n, n * sizeof *fields);
        of[s] = fields + (size_t)s * n;
    }
    yd_free(x_T);
    yd_free(added);
    return of;
}

static void run_to_the_end(yd_engine *e, yd_sampler *s)
{
    yd_unit u;
    yd_err err = {0};
    while (yd_sampler_next(s, &u)) {
        int done;
        yd_step_info info;
        CHECK_MSG(yd_engine_run(e, &s, &u, 1, &done, &info, &err) == 0 && done >= 0, "%s", err.detail);
    }
    CHECK(yd_sampler_done(s));
}

// From the picture's bytes to the sample, as a job goes, in one window: the published algorithm. The residual is what the sample differs by
// from the condition, times 2.
static void sample(void)
{
    for (size_t k = 0; k < 2; k++) {
        fixture f;
        if (!fixture_open(&f, folders[k], 0)) return;
        yd_engine *e = NULL;
        yd_prepared p;
        yd_err err = {0};
        int steps;
        const float **noise = given_noise(&f, &steps);
        f.m->cfg.window = f.w;
        f.m->cfg.window_height = f.h;
        f.m->cfg.overlap = 0;
        CHECK(f.m->cfg.defaults.steps == steps && f.m->cfg.defaults.sampler == YD_SAMPLER_ANCESTRAL && f.m->cfg.residual_scale == 2.0f);
        yd_image in = picture(&f);
        CHECK_MSG(yd_engine_new(f.be, f.m, &(yd_engine_options){.dtype = YD_F32, .max_batch = 1}, &e, &err) == 0, "%s", err.detail);
        CHECK_MSG(yd_prepare(&f.m->cfg, &f.m->cfg.defaults, NULL, &in, &p, &err) == 0, "%s", err.detail);
        if (e && p.sampler) {
            yd_sampler_set_noise(p.sampler, noise);
            run_to_the_end(e, p.sampler);
            float *want = maps(f.io, "sample"), *residual = maps(f.io, "residual"), *up = maps(f.io, "img_lr_up");
            const float *got = yd_sampler_result(p.sampler);
            const size_t n = (size_t)f.h * (size_t)f.w * 3;
            const double d = t_rel_diff(got, want, n);
            CHECK_MSG(d <= TOLERANCE, "%s: the sample after %d steps is off by %.3g", folders[k], steps, d);
            for (size_t i = 0; i < n; i++) up[i] = (got[i] - up[i]) * 2.0f;
            CHECK_MSG(t_rel_diff(up, residual, n) <= TOLERANCE, "%s: the residual is off by %.3g", folders[k], t_rel_diff(up, residual, n));
            yd_free(want);
            yd_free(residual);
            yd_free(up);
        }
        yd_prepared_clear(&p);
        yd_engine_free(e);
        yd_image_clear(&in);
        yd_free((void *)noise[0]);
        yd_free(noise);
        fixture_close(&f);
    }
}

// ---- jobs

static yd_model *small_model(int scale)
{
    char text[700];
    yd_model_config c;
    yd_model *m = NULL;
    yd_err err = {0};
    snprintf(text, sizeof text,
             "{\"format\": \"yoda-model-1\", \"name\": \"small\", \"network\": {\"type\": \"srdiff\", \"inner_channel\": 16, \"channel_multiplier\": [1, 2, 2],"
             "\"up_scale\": %d, \"rrdb_blocks\": 2, \"rrdb_features\": 8}, \"schedule\": {\"train_steps\": 6}, \"window\": 32, \"overlap\": 10,"
             "\"defaults\": {\"attention\": \"edge\", \"lower_bound\": 0.3}}",
             scale);
    CHECK_MSG(yd_model_config_parse(text, strlen(text), &c, &err) == 0, "%s", err.detail);
    CHECK(c.scale == scale && c.clip == 1.0f && c.conditioning == YD_CONDITION_MATLAB256 && c.target == YD_TARGET_RESIDUAL);
    CHECK_MSG(yd_model_init(&c, 3, 0, &m, &err) == 0, "%s", err.detail);
    return m;
}

static yd_image noise_picture(int w, int h, uint32_t seed)
{
    yd_image in;
    CHECK(yd_image_alloc(&in, w, h, 0, NULL) == 0);
    in.depth = 8;
    for (int i = 0; i < w * h * 3; i++) in.rgb[i] = (uint16_t)(257 * (int)(255.0f * yd_rng_uniform(seed, 1, (uint64_t)i, 0)));
    return in;
}

static yd_sampler *job(const yd_model *m, int w, int h, uint32_t seed, int skip, yd_prepared *p)
{
    yd_image in = noise_picture(w, h, seed);
    yd_sample_settings set = m->cfg.defaults;
    yd_err err = {0};
    set.seed = seed;
    set.skip = skip;
    CHECK_MSG(yd_prepare(&m->cfg, &set, NULL, &in, p, &err) == 0, "%s", err.detail);
    yd_image_clear(&in);
    return p->sampler;
}

static int same(const yd_sampler *a, const yd_sampler *b, int w, int h)
{
    return memcmp(yd_sampler_result(a), yd_sampler_result(b), (size_t)w * (size_t)h * 3 * sizeof(float)) == 0;
}

// Two jobs in turn, in batches of what both have ready.
static void run_together(yd_engine *e, yd_sampler *a, yd_sampler *b, int batch)
{
    while (!yd_sampler_done(a) || !yd_sampler_done(b)) {
        yd_sampler *of[8];
        yd_unit u[8];
        int n = 0, done[8];
        yd_step_info info[8];
        yd_err errs[8];
        for (int more = 1; more && n < batch;) {
            more = 0;
            for (int k = 0; k < 2 && n < batch; k++) {
                yd_sampler *s = k ? a : b;
                if (!yd_sampler_next(s, &u[n])) continue;
                of[n++] = s;
                more = 1;
            }
        }
        CHECK(n > 0 && yd_engine_run(e, of, u, n, done, info, errs) == 0);
        if (n == 0) return;
    }
}

static void same_bytes_of(yd_dtype dt, int scale)
{
    const int w = 21, h = 13, W = w * scale, H = h * scale;
    yd_model *m = small_model(scale);
    yd_prepared p[5];
    yd_err err = {0};
    for (int threads = 1; m && threads <= 2; threads++) {
        yd_backend *be = NULL;
        yd_engine *e = NULL;
        yd_cpu_options opt = {.threads = threads};
        CHECK(yd_cpu_open(&opt, &be, &err) == 0);
        CHECK_MSG(yd_engine_new(be, m, &(yd_engine_options){.dtype = dt, .max_batch = 4}, &e, &err) == 0, "%s", err.detail);
        if (threads == 1) run_to_the_end(e, job(m, w, h, 5, 1, &p[0]));
        job(m, w, h, 5, 1, &p[1]);
        job(m, 9, 30, 6, 1, &p[2]);
        run_together(e, p[1].sampler, p[2].sampler, threads == 1 ? 3 : 4);
        CHECK_MSG(same(p[0].sampler, p[1].sampler, W, H), "%d threads, scale %d: other bytes beside another job", threads, scale);
        run_to_the_end(e, job(m, w, h, 5, 0, &p[3]));
        CHECK_MSG(same(p[0].sampler, p[3].sampler, W, H), "scale %d: other bytes without skipping", scale);
        run_to_the_end(e, job(m, w, h, 5, 1, &p[4]));
        for (int i = 1; i < 5; i++) yd_prepared_clear(&p[i]);
        yd_engine_free(e);
        be->close(be);
    }
    yd_prepared_clear(&p[0]);
    yd_model_free(m);
}

static void the_same_bytes(void)
{
    same_bytes_of(YD_F32, 4);
    same_bytes_of(YD_BF16, 4);
    same_bytes_of(YD_F32, 2);
}

// Broken off after each step and taken up by a sampler that has nothing of the encoder's: it is made again.
static void a_restart_changes_nothing(void)
{
    yd_model *m = small_model(4);
    yd_backend *be = open_cpu(2, 0);
    yd_engine *e = NULL;
    yd_prepared whole;
    yd_err err = {0};
    CHECK(yd_engine_new(be, m, &(yd_engine_options){.dtype = YD_F32, .max_batch = 1}, &e, &err) == 0);
    run_to_the_end(e, job(m, 20, 9, 8, 1, &whole));
    for (int after = 1; after < m->cfg.defaults.steps; after++) {
        yd_prepared first, second;
        yd_unit u;
        yd_sampler *s = job(m, 20, 9, 8, 1, &first);
        for (int steps = 0; steps < after && yd_sampler_next(s, &u);) {
            int done = 0;
            yd_step_info info;
            CHECK(yd_engine_run(e, &s, &u, 1, &done, &info, &err) == 0);
            steps += done;
        }
        CHECK(yd_sampler_features(s, &u) != NULL);
        const size_t len = yd_sampler_state_bytes(s);
        CHECK(len < (size_t)80 * 36 * 3 * 6); // the canvas, and nothing of the encoder's
        void *state = yd_malloc(len);
        CHECK(yd_sampler_save(s, state) == 0);
        yd_sampler_seal(state, len, "yfp1:a");
        s = job(m, 20, 9, 8, 1, &second);
        CHECK_MSG(yd_sampler_restore(s, state, len, "yfp1:a", &err) == 0, "%s", err.detail);
        run_to_the_end(e, s);
        CHECK_MSG(same(whole.sampler, s, 80, 36), "other bytes when broken off after %d steps", after);
        yd_free(state);
        yd_prepared_clear(&first);
        yd_prepared_clear(&second);
    }
    yd_prepared_clear(&whole);
    yd_engine_free(e);
    be->close(be);
    yd_model_free(m);
}

// What is kept for each window is what the encoder makes of its own part of the picture.
static void every_window_has_its_own_features(void)
{
    yd_model *m = small_model(4);
    yd_backend *be = open_cpu(2, 0);
    yd_engine *e = NULL;
    yd_prepared p;
    yd_err err = {0};
    yd_weights *w = NULL;
    compiled c = {0};
    yd_unit u;
    CHECK(yd_engine_new(be, m, &(yd_engine_options){.dtype = YD_F32, .max_batch = 1}, &e, &err) == 0);
    CHECK(yd_net_build_encoder(&m->cfg.net, 32, 32, &c.g, &err) == 0);
    CHECK(be->weights_new(be, c.g, (const float *const *)m->params, 0, &w, &err) == 0 && be->compile(be, c.g, w, 1, &c.e, &err) == 0);
    yd_sampler *s = job(m, 20, 13, 4, 0, &p);
    int n = 0, done = 0;
    for (yd_step_info info; !done && yd_sampler_next(s, &u); n++) {
        CHECK(yd_sampler_features(s, &u) == NULL && yd_engine_run(e, &s, &u, 1, &done, &info, &err) == 0);
        yd_sampler_gather_lr(s, &u, be->buffer(c.e, yd_graph_find(c.g, "lr")));
        CHECK(be->run(c.e, &err) == 0);
        const float *kept = yd_sampler_features(s, &u);
        CHECK(kept && memcmp(kept, be->buffer(c.e, yd_graph_find(c.g, "out")), 32 * 32 * 16 * sizeof(float)) == 0);
    }
    CHECK(n == 8); // 80 x 52 pixels
    CHECK(yd_sampler_next(s, &u) == 1 && yd_sampler_features(s, &u) != NULL);
    yd_prepared_clear(&p);
    compiled_free(be, &c);
    be->weights_free(w);
    yd_engine_free(e);
    be->close(be);
    yd_model_free(m);
}

// Every window begins between two pixels of the picture, and its encoder sees these and their mirror images.
static void windows_fit_the_picture(void)
{
    yd_model *m = small_model(4);
    const int w = 21, h = 3; // smaller than a window on one axis
    yd_prepared p;
    yd_unit u;
    yd_image in = noise_picture(w, h, 2);
    yd_sampler *s = job(m, w, h, 2, 0, &p);
    float lr[8 * 8 * 3];
    int n = 0;
    for (; yd_sampler_next(s, &u); n++) {
        CHECK(u.x % 4 == 0 && u.y == 0);
        yd_sampler_gather_lr(s, &u, lr);
        for (int y = 0; y < 8; y++)
            for (int x = 0; x < 8; x++) {
                const int from = y % 4 < 3 ? y % 4 : 1; // of 3 rows: 0 1 2 1 0 1 2 1
                const uint16_t *px = in.rgb + (from * w + u.x / 4 + x) * 3;
                for (int c = 0; c < 3; c++) CHECK(lr[(y * 8 + x) * 3 + c] == (float)(px[c] / 65535.0));
            }
    }
    CHECK(n == 4);
    yd_image_clear(&in);
    yd_prepared_clear(&p);
    yd_model_free(m);
}

#ifndef YD_SANITIZE
// In a process of its own: a job from its picture to the last window's features. Its largest growth in bytes.
static size_t growth_of(const yd_model *m, int w, int h)
{
    int ends[2];
    size_t grown = 0;
    struct rusage before, after;
    fflush(stdout);
    if (pipe(ends)) return 0;
    const pid_t child = fork();
    if (child == 0) {
        yd_prepared p;
        yd_unit u;
        float *made = yd_calloc((size_t)m->cfg.window * (size_t)m->cfg.window * (size_t)m->cfg.net.inner_channel, sizeof *made);
        getrusage(RUSAGE_SELF, &before);
        yd_sampler *s = job(m, w, h, 1, 0, &p);
        while (yd_sampler_next(s, &u)) yd_sampler_keep_features(s, &u, made);
        getrusage(RUSAGE_SELF, &after);
        grown = (size_t)(after.ru_maxrss - before.ru_maxrss) * 1024;
        _exit(write(ends[1], &grown, sizeof grown) != (ssize_t)sizeof grown);
    }
    if (read(ends[0], &grown, sizeof grown) != (ssize_t)sizeof grown) grown = 0;
    close(ends[0]);
    close(ends[1]);
    if (child > 0) waitpid(child, NULL, 0);
    return grown;
}
#endif

// What admission relies on, most of it the encoder's.
static void memory_is_as_announced(void)
{
#ifdef YD_SANITIZE
    CHECK(1); // a sanitizer's allocator keeps what was freed
#else
    yd_model *m = small_model(4);
    size_t said = 0, taken = growth_of(m, 250, 200);
    CHECK(yd_upscale_bytes(&m->cfg, &m->cfg.defaults, NULL, 250, 200, &said, NULL) == 0);
    CHECK_MSG(taken > 0 && taken <= said + (2u << 20) && said <= taken + taken / 3, "%zu bytes of %zu", taken, said);
    yd_model_free(m);
#endif
}

static void no_memory_is_an_error(void)
{
    yd_model *m = small_model(4);
    yd_image in = noise_picture(9, 9, 2);
    int failures = 0;
    for (long k = 1; k < 200; k++) {
        yd_prepared p;
        yd_mem_fail_at(k);
        int rc = yd_prepare(&m->cfg, &m->cfg.defaults, NULL, &in, &p, NULL);
        yd_mem_fail_at(0);
        yd_prepared_clear(&p);
        if (rc == 0) break;
        CHECK(rc == YD_E_NOMEM);
        failures++;
    }
    CHECK(failures > 15 && failures < 199);
    yd_image_clear(&in);
    yd_model_free(m);
}

// It can be run, not trained.
static void training_is_refused(void)
{
    yd_model *m = small_model(4);
    yd_graph *g = NULL;
    yd_err err = {0};
    CHECK(yd_net_build(&m->cfg.net, 32, 32, YD_F32, 1, &g, &err) == 0);
    yd_graph_backward(g, yd_graph_find(g, "out"), 1);
    CHECK(yd_graph_finish(g, &err) == YD_E_UNSUPPORTED && strstr(err.detail, "not trained"));
    yd_graph_free(g);
    yd_model_free(m);
}

int main(int argc, char **argv)
{
    yd_cpu_prepare_process(argv);
    static const t_case cases[] = {
        {"the container that they are published in", as_published},
        {"the condition is that of the public code", condition},
        {"the encoder's features agree", features},
        {"eps agrees", eps},
        {"a whole sampling from the picture's bytes agrees", sample},
        {"jobs: the same bytes beside others, on any threads, with and without skipping", the_same_bytes},
        {"jobs: a restart changes nothing", a_restart_changes_nothing},
        {"every window has its own features, made once", every_window_has_its_own_features},
        {"windows lie on the picture's pixels", windows_fit_the_picture},
        {"memory is as announced", memory_is_as_announced},
        {"every failing allocation is an error", no_memory_is_an_error},
        {"training is refused in words", training_is_refused},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
