// Whole networks on the CPU backend: the public implementation's numbers (fixtures sr3_tiny, sr3_deep_rect, ddpm_tiny),
// gradients of a complete training graph against finite differences, and an engine whose results do not depend on batch size, mates or threads.
#include "core/engine.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/safetensors.h"
#include "tests/unit/t.h"

#define TOLERANCE 2e-5 // of the largest reference value, f32, direct convolutions

static yd_backend *open_cpu(int threads)
{
    yd_backend *be = NULL;
    yd_err err = {0};
    yd_cpu_options opt = {.threads = threads};
    int rc = yd_cpu_open(&opt, &be, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    return be;
}

// Planes [c][h][w] into channels 'offset'.. of [h][w][stride].
static void interleave(const float *src, int h, int w, int stride, int offset, float *dst)
{
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < h * w; i++) dst[i * stride + offset + c] = src[c * h * w + i];
}

static float *values(const yd_safetensors *st, const char *name, const yd_st_tensor **t)
{
    *t = yd_st_find(st, name);
    CHECK_MSG(*t != NULL, "the fixture has no %s", name);
    if (!*t) return NULL;
    float *v = yd_malloc((*t)->numel * sizeof *v);
    CHECK(yd_st_to_f32(*t, v, NULL) == 0);
    return v;
}

static void check_eps(yd_backend *be, const yd_model *m, const yd_safetensors *io)
{
    const yd_st_tensor *t, *tx, *tl, *te;
    const char *told = m->cfg.noise_input == YD_NOISE_TIMESTEP ? "timestep" : "noise_level";
    float *cond = values(io, "cond", &t), *x_t = values(io, "x_t", &tx), *level = values(io, told, &tl), *eps = values(io, "eps", &te);
    const int n = (int)t->dims[0], h = (int)t->dims[2], w = (int)t->dims[3];
    yd_graph *g = NULL;
    yd_weights *wt = NULL;
    yd_exec *e = NULL;
    yd_err err = {0};
    CHECK(yd_net_build(&m->cfg.net, h, w, YD_F32, 0, &g, &err) == 0);
    CHECK(be->weights_new(be, g, (const float *const *)m->params, 0, &wt, &err) == 0);
    int rc = be->compile(be, g, wt, n, &e, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    if (e) {
        float *x = be->buffer(e, yd_graph_find(g, "x")), *out = be->buffer(e, yd_graph_find(g, "out"));
        const size_t px = (size_t)h * (size_t)w;
        float *expect = yd_malloc(px * 3 * sizeof *expect);
        memcpy(be->buffer(e, yd_graph_find(g, "level")), level, (size_t)n * sizeof *level);
        for (int i = 0; i < n; i++) {
            interleave(cond + (size_t)i * px * 3, h, w, 6, 0, x + (size_t)i * px * 6);
            interleave(x_t + (size_t)i * px * 3, h, w, 6, 3, x + (size_t)i * px * 6);
        }
        CHECK(be->run(e, &err) == 0);
        for (int i = 0; i < n; i++) {
            interleave(eps + (size_t)i * px * 3, h, w, 3, 0, expect);
            double d = t_rel_diff(out + (size_t)i * px * 3, expect, px * 3);
            CHECK_MSG(d <= TOLERANCE, "eps of image %d: %.3g", i, d);
        }
        yd_free(expect);
        be->exec_free(e);
    }
    if (wt) be->weights_free(wt);
    yd_graph_free(g);
    yd_free(cond);
    yd_free(x_t);
    yd_free(level);
    yd_free(eps);
}

// The sampler over the engine, with the fixture's noise.
static void check_trace(yd_backend *be, yd_model *m, const yd_safetensors *io)
{
    const yd_st_tensor *t, *tn, *tx, *ts;
    float *cond = values(io, "cond", &t), *noise = values(io, "noise_T_to_1", &tn), *x_T = values(io, "x_T", &tx),
          *sample = values(io, "sample", &ts);
    const int steps = (int)tn->dims[0], h = (int)t->dims[2], w = (int)t->dims[3];
    const size_t values3 = (size_t)h * (size_t)w * 3;
    float *fields = yd_malloc((size_t)(steps + 1) * values3 * sizeof *fields), *given = yd_malloc(values3 * sizeof *given),
          *map = yd_malloc(values3 * sizeof *map), *expect = yd_malloc(values3 * sizeof *expect);
    const float **noise_of = yd_malloc((size_t)(steps + 1) * sizeof *noise_of);
    uint8_t *bytes = yd_calloc(values3, 1);
    for (int s = 0; s <= steps; s++) {
        noise_of[s] = fields + (size_t)s * values3;
        interleave(s == steps ? x_T : noise + (size_t)(steps - 1 - s) * values3, h, w, 3, 0, fields + (size_t)s * values3);
    }
    for (size_t i = 0; i < values3; i++) map[i] = 1.0f;
    interleave(cond, h, w, 3, 0, given);
    interleave(sample, h, w, 3, 0, expect);
    m->cfg.window = w;
    m->cfg.window_height = h;
    m->cfg.overlap = 0;
    yd_sample_settings set = m->cfg.defaults;
    set.steps = steps;
    yd_sampler *s = NULL;
    yd_engine *e = NULL;
    yd_err err = {0};
    yd_engine_options opt = {.dtype = YD_F32, .max_batch = 1};
    CHECK(yd_engine_new(be, m, &opt, &e, &err) == 0);
    CHECK(yd_sampler_new(&m->cfg, &set, w, h, bytes, map, &s, &err) == 0);
    if (e && s) {
        yd_unit u;
        CHECK(yd_sampler_set_condition(s, given, &err) == 0);
        yd_sampler_set_noise(s, noise_of);
        while (yd_sampler_next(s, &u)) {
            int done;
            yd_step_info info;
            CHECK(yd_engine_run(e, &s, &u, 1, &done, &info, &err) == 0 && done == 1);
        }
        CHECK(yd_sampler_done(s));
        double d = t_rel_diff(yd_sampler_result(s), expect, values3);
        CHECK_MSG(d <= TOLERANCE, "sample after %d steps: %.3g", steps, d);
    }
    yd_sampler_free(s);
    yd_engine_free(e);
    yd_free(cond), yd_free(noise), yd_free(x_T), yd_free(sample);
    yd_free(fields), yd_free(given), yd_free(map), yd_free(expect), yd_free(noise_of), yd_free(bytes);
}

// The public code's sampling written out, in double, for a network that counts timesteps from 0: table[i] belongs to the timestep that step i
// of S stands for. z: in x_T, out the sample.
static void sample_by_timestep(yd_engine *e, const double *betas, int T, int S, const float *cond, const float *const *noise, int px, double *z)
{
    float *x = yd_malloc((size_t)px * 6 * sizeof *x), *eps = yd_malloc((size_t)px * 3 * sizeof *eps);
    for (int s = S; s >= 1; s--) {
        const int t = (int)lround((double)s * T / S), before = s > 1 ? (int)lround((double)(s - 1) * T / S) : 0;
        double g = 1, gp = 1;
        for (int i = 1; i <= t; i++) g *= 1 - betas[i - 1];
        for (int i = 1; i <= before; i++) gp *= 1 - betas[i - 1];
        const float told = (float)(t - 1);
        for (int p = 0; p < px; p++)
            for (int c = 0; c < 3; c++) {
                x[p * 6 + c] = cond[p * 3 + c];
                x[p * 6 + 3 + c] = (float)z[p * 3 + c];
            }
        CHECK(yd_engine_forward(e, x, &told, 1, eps, NULL) == 0);
        const double beta = 1 - g / gp, sigma = s > 1 ? sqrt(beta * (1 - gp) / (1 - g)) : 0;
        for (int i = 0; i < px * 3; i++) {
            const double x0 = fmin(fmax((z[i] - sqrt(1 - g) * (double)eps[i]) / sqrt(g), -1), 1);
            z[i] = beta * sqrt(gp) / (1 - g) * x0 + (1 - gp) * sqrt(1 - beta) / (1 - g) * z[i] + sigma * (double)noise[s - 1][i];
        }
    }
    yd_free(x), yd_free(eps);
}

// The sampler tells this network the timesteps 0..T-1, also when fewer steps than T stand for them.
static void check_timesteps(yd_backend *be, yd_model *m)
{
    const int T = m->cfg.schedule.train_steps, side = m->cfg.window, px = side * side;
    double betas[64];
    CHECK(m->cfg.noise_input == YD_NOISE_TIMESTEP && T <= 64);
    for (int i = 0; i < T; i++) betas[i] = m->cfg.schedule.start + (m->cfg.schedule.end - m->cfg.schedule.start) * i / (T - 1);
    yd_engine *e = NULL;
    yd_err err = {0};
    const yd_engine_options opt = {.dtype = YD_F32, .max_batch = 1};
    CHECK(yd_engine_new(be, m, &opt, &e, &err) == 0);
    uint8_t *rgb = yd_malloc((size_t)px * 3);
    float *map = yd_malloc((size_t)px * sizeof *map), *cond = yd_malloc((size_t)px * 3 * sizeof *cond),
          *expect = yd_malloc((size_t)px * 3 * sizeof *expect), *fields = yd_malloc((size_t)(T + 1) * (size_t)px * 3 * sizeof *fields);
    double *z = yd_malloc((size_t)px * 3 * sizeof *z);
    const float *noise_of[65];
    for (int i = 0; i < px * 3; i++) rgb[i] = (uint8_t)(i * 7 + i / 96 * 31);
    for (int i = 0; i < px * 3; i++) cond[i] = (float)(rgb[i] / 255.0 * 2 - 1);
    for (int i = 0; i < px; i++) map[i] = 1.0f;
    for (int s = 0; s <= T; s++) {
        noise_of[s] = fields + (size_t)s * (size_t)px * 3;
        for (int y = 0; y < side; y++) yd_rng_row(5, (uint32_t)s, (uint32_t)y, 0, side, 3, fields + ((size_t)s * (size_t)px + (size_t)(y * side)) * 3);
    }
    for (int S = 4; S <= T && e; S += T - 4) {
        yd_sampler *s = NULL;
        yd_unit u;
        yd_sample_settings set = m->cfg.defaults;
        set.steps = S;
        CHECK(yd_sampler_new(&m->cfg, &set, side, side, rgb, map, &s, &err) == 0);
        if (!s) break;
        yd_sampler_set_noise(s, noise_of);
        for (int i = 0; i < px * 3; i++) z[i] = (double)noise_of[S][i];
        while (yd_sampler_next(s, &u)) {
            int done;
            yd_step_info info;
            CHECK(yd_engine_run(e, &s, &u, 1, &done, &info, &err) == 0);
        }
        sample_by_timestep(e, betas, T, S, cond, noise_of, px, z);
        for (int i = 0; i < px * 3; i++) expect[i] = (float)z[i];
        const double d = yd_sampler_done(s) ? t_rel_diff(yd_sampler_result(s), expect, (size_t)px * 3) : INFINITY;
        CHECK_MSG(d <= TOLERANCE, "sample after %d of %d steps: %.3g", S, T, d);
        yd_sampler_free(s);
    }
    yd_engine_free(e);
    yd_free(rgb), yd_free(map), yd_free(cond), yd_free(expect), yd_free(fields), yd_free(z);
}

static void agrees_with(const char *folder, int traced)
{
    char rel[128], weights[1024];
    snprintf(rel, sizeof rel, "fixtures/%s/weights.safetensors", folder);
    const char *p = t_shared(rel);
    if (!p) {
        t_skip("the fixtures are not there");
        return;
    }
    snprintf(weights, sizeof weights, "%s", p);
    snprintf(rel, sizeof rel, "fixtures/%s/io.safetensors", folder);
    yd_model *m = NULL;
    yd_safetensors *io = NULL;
    yd_err err = {0};
    CHECK_MSG(yd_model_load(weights, &m, &err) == 0 && (p = t_shared(rel)) && yd_st_open(p, &io, &err) == 0, "%s", err.detail);
    yd_backend *be = open_cpu(2);
    if (m && io && be) {
        check_eps(be, m, io);
        if (traced) check_trace(be, m, io);
        else check_timesteps(be, m);
    }
    yd_st_close(io);
    yd_model_free(m);
    if (be) be->close(be);
}

static void sr3_tiny(void) { agrees_with("sr3_tiny", 1); }
static void sr3_deep_rect(void) { agrees_with("sr3_deep_rect", 1); }
static void ddpm_tiny(void) { agrees_with("ddpm_tiny", 0); }

static yd_model *small_model(yd_net_type type, int attention, int zero_init)
{
    yd_model_config c;
    yd_model *m = NULL;
    yd_model_config_init(&c);
    c.net = (yd_net_config){.type = type, .in_channel = 6, .out_channel = 3, .inner_channel = 16, .n_levels = 2, .mult = {1, 2}, .res_blocks = 1,
                            .norm_groups = 4, .image_size = 16, .unshuffle = 2, .mid_attention = attention, .noise_scale = 10.0f};
    c.prediction = YD_PREDICT_X0;
    c.schedule.kind = YD_SCHEDULE_COSINE;
    c.window = 16;
    c.overlap = 4;
    CHECK(yd_model_init(&c, 3, zero_init, &m, NULL) == 0);
    return m;
}

static void draw(float *dst, size_t n, uint32_t stream, float scale)
{
    for (size_t i = 0; i < n; i++) dst[i] = (yd_rng_uniform(77, stream, i, 0) * 2.0f - 1.0f) * scale;
}

static double loss_of(yd_backend *be, yd_exec *e, const yd_graph *g, int n)
{
    CHECK(be->run(e, NULL) == 0);
    const float *l = be->buffer(e, yd_graph_find(g, "loss"));
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)l[i];
    return sum;
}

// Each parameter tensor of a complete network: the gradient along one random direction against the loss's central difference.
static void gradients_of_a_whole_network(yd_net_type type)
{
    const int n = 2;
    yd_backend *be = open_cpu(2);
    yd_model *m = small_model(type, 1, 0);
    yd_graph *g = NULL;
    yd_weights *w = NULL;
    yd_exec *e = NULL;
    yd_err err = {0};
    CHECK(yd_net_build(&m->cfg.net, 16, 16, YD_F32, 1, &g, &err) == 0);
    yd_graph_backward(g, yd_graph_find(g, "out"), 2);
    CHECK(yd_graph_finish(g, &err) == 0);
    CHECK(be->weights_new(be, g, (const float *const *)m->params, 1, &w, &err) == 0);
    int rc = be->compile(be, g, w, n, &e, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    if (!e) return;
    static const char *const inputs[] = {"x", "level", "target", "mask", "weight"};
    for (uint32_t i = 0; i < 5; i++) {
        yd_tid t = yd_graph_find(g, inputs[i]);
        draw(be->buffer(e, t), (size_t)n * yd_tensor_numel(&g->tensors[t]), i + 1, 1.0f);
    }
    float *mask = be->buffer(e, yd_graph_find(g, "mask")), *weight = be->buffer(e, yd_graph_find(g, "weight"));
    for (int i = 0; i < n * 256; i++) mask[i] = mask[i] > 0.0f;
    for (int i = 0; i < n; i++) weight[i] = 1.0f / 256.0f;
    loss_of(be, e, g, n);
    int checked = 0;
    for (int t = 0; t < g->n_tensors; t++) {
        if (g->tensors[t].kind != YD_T_PGRAD) continue;
        const int p = g->tensors[t].param;
        const size_t len = yd_tensor_numel(&g->tensors[t]);
        float *dir = yd_malloc(len * sizeof *dir), *moved = yd_malloc(len * sizeof *moved);
        const float *grad = be->buffer(e, t);
        double expect = 0, norm = 0;
        draw(dir, len, 100 + (uint32_t)p, 1.0f);
        for (size_t i = 0; i < len; i++) {
            expect += (double)grad[i] * (double)dir[i];
            norm += (double)grad[i] * (double)grad[i];
        }
        const float h = 2e-3f / sqrtf((float)len);
        double at[2];
        for (int side = 0; side < 2; side++) {
            for (size_t i = 0; i < len; i++) moved[i] = m->params[p][i] + (side ? h : -h) * dir[i];
            be->weights_write(w, YD_W_PARAM, p, moved, NULL);
            at[side] = loss_of(be, e, g, n);
        }
        be->weights_write(w, YD_W_PARAM, p, m->params[p], NULL);
        loss_of(be, e, g, n);
        const double got = (at[1] - at[0]) / (2.0 * (double)h), scale = sqrt(norm * (double)len / 3.0) + 1e-3;
        CHECK_MSG(fabs(got - expect) <= 2e-2 * scale, "%s: %.6g, finite difference %.6g", g->tensors[g->params[p]].name, expect, got);
        checked++;
        yd_free(dir);
        yd_free(moved);
    }
    CHECK_MSG(checked == g->n_params, "%d of %d parameters have a gradient", checked, g->n_params);
    be->exec_free(e);
    be->weights_free(w);
    yd_graph_free(g);
    yd_model_free(m);
    be->close(be);
}

static void gradients_sr3(void) { gradients_of_a_whole_network(YD_NET_SR3); }
static void gradients_ddpm(void) { gradients_of_a_whole_network(YD_NET_DDPM); }

// The same sample alone, at each place of a batch among other samples, on one thread and on two.
static void results_do_not_depend_on_mates(yd_dtype dt)
{
    yd_model *m = small_model(YD_NET_SR3, 1, 0);
    const size_t in = 16 * 16 * 6, out = 16 * 16 * 3;
    float *x = yd_malloc(4 * in * sizeof *x), *alone = yd_malloc(out * sizeof *alone), *batch = yd_malloc(4 * out * sizeof *batch);
    float level[4] = {0.3f, 0.9f, 0.1f, 0.6f};
    draw(x, 4 * in, 1, 1.0f);
    for (int threads = 1; threads <= 2; threads++) {
        yd_backend *be = open_cpu(threads);
        yd_engine *e = NULL;
        yd_engine_options opt = {.dtype = dt, .max_batch = 4};
        yd_err err = {0};
        int rc = yd_engine_new(be, m, &opt, &e, &err);
        CHECK_MSG(rc == 0, "%s", err.detail);
        if (!e) break;
        if (threads == 1) CHECK(yd_engine_forward(e, x, level, 1, alone, &err) == 0);
        for (int place = 0; place < 4; place++) {
            float *mixed = yd_malloc(4 * in * sizeof *mixed), levels[4];
            for (int i = 0; i < 4; i++) {
                const int from = (i - place + 4) % 4; // sample 0 stands at `place`
                memcpy(mixed + (size_t)i * in, x + (size_t)from * in, in * sizeof *mixed);
                levels[i] = level[from];
            }
            for (int n = place + 1; n <= 4; n++) {
                CHECK(yd_engine_forward(e, mixed, levels, n, batch, &err) == 0);
                CHECK_MSG(memcmp(batch + (size_t)place * out, alone, out * sizeof *alone) == 0, "place %d of %d, %d threads", place, n, threads);
            }
            yd_free(mixed);
        }
        yd_engine_free(e);
        be->close(be);
    }
    yd_free(x), yd_free(alone), yd_free(batch);
    yd_model_free(m);
}

static void mates_f32(void) { results_do_not_depend_on_mates(YD_F32); }
static void mates_bf16(void) { results_do_not_depend_on_mates(YD_BF16); }

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"sr3_tiny: one evaluation and a sampling run agree with the public implementation", sr3_tiny},
        {"sr3_deep_rect: the same, four levels, straddling groups, a rectangle", sr3_deep_rect},
        {"ddpm_tiny: one evaluation; the sampler tells such a network its timesteps", ddpm_tiny},
        {"gradients of a whole sr3 network agree with finite differences", gradients_sr3},
        {"gradients of a whole ddpm network agree with finite differences", gradients_ddpm},
        {"f32 results do not depend on batch, mates or threads", mates_f32},
        {"bf16 results do not depend on batch, mates or threads", mates_bf16},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
