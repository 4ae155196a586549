// Canvases that a device holds, bit for bit those of the host: the field of noise, windows, blending, the step of every sampler and
// allocation, what is shown and saved. The device is the host: our CUDA kernels run as loops over the grids they have there
// (gpu/launch.h), behind the same operations of a backend (core/backend.h) that the CUDA backend has.
//
// The network is stood in for by a function of the window's input where values are compared; whole runs through an engine have a real one.
#include "core/engine.h"
#include "core/mem.h"
#include "core/rng.h"
#include "tests/unit/gpu_host.h"
#include "tests/unit/t.h"

#define WINDOW 32
#define BATCH  5

// --- a backend whose device is the host: oneDNN's, with canvases

static yd_backend *cpu;
static int no_room, broken_reads, taken; // what it does; how many canvases are out
static struct {
    yd_exec *e;
    const yd_graph *g;
    int n;
} compiled[16]; // what has been compiled, for the shapes of tensors
static int n_compiled;

static int host_take(yd_backend *be, size_t bytes, void **memory, yd_err *err)
{
    (void)be;
    if (no_room) return yd_fail(err, YD_E_NOMEM, "no room");
    *memory = yd_alloc_aligned(bytes);
    memset(*memory, 0xff, bytes); // NaN
    taken++;
    return 0;
}

static void host_give(yd_backend *be, void *memory)
{
    (void)be;
    yd_free_aligned(memory);
    taken--;
}

static int host_copy(yd_backend *be, void *dst, const void *src, size_t bytes, yd_err *err)
{
    (void)be;
    (void)err;
    memcpy(dst, src, bytes);
    return 0;
}

static int host_read(yd_backend *be, void *dst, const void *src, size_t bytes, yd_err *err)
{
    if (!broken_reads) return host_copy(be, dst, src, bytes, err);
    memset(dst, 0xff, bytes);
    return yd_fail(err, YD_E_DEVICE, "it is gone");
}

static int host_step(yd_backend *be, const yd_canvas *canvas, const yd_canvas_step *step, yd_err *err)
{
    (void)be;
    return yd_gpu_canvas_step(canvas, step, NULL) ? yd_fail(err, YD_E_DEVICE, "step") : 0;
}

static int host_run(yd_exec *e, yd_tid x, yd_tid level, yd_tid out, const yd_canvas_unit *units, int n, int *bad, yd_err *err)
{
    const yd_graph *g = NULL;
    for (int i = 0; i < n_compiled; i++)
        if (compiled[i].e == e) g = compiled[i].g;
    const yd_tensor *in = &g->tensors[x], *to = &g->tensors[out];
    const yd_gpu_map mx = yd_gpu_map_of(cpu->buffer(e, x), YD_F32, in->h, in->w, in->c);
    const yd_gpu_map my = yd_gpu_map_of(cpu->buffer(e, out), YD_F32, to->h, to->w, to->c);
    if (yd_gpu_gather(units, &mx, cpu->buffer(e, level), n, NULL)) return yd_fail(err, YD_E_DEVICE, "gather");
    int rc = cpu->run(e, err);
    if (!rc && yd_gpu_scatter(units, &my, bad, n, NULL)) return yd_fail(err, YD_E_DEVICE, "scatter");
    return rc;
}

static int host_compile(yd_backend *be, const yd_graph *g, yd_weights *w, int n, yd_exec **out, yd_err *err)
{
    (void)be;
    int rc = cpu->compile(cpu, g, w, n, out, err);
    if (!rc && n_compiled < 16) compiled[n_compiled].e = *out, compiled[n_compiled].g = g, compiled[n_compiled++].n = n;
    return rc;
}

static void host_info(const yd_backend *be, yd_backend_info *out)
{
    (void)be;
    cpu->info(cpu, out);
}

static int host_weights_new(yd_backend *be, const yd_graph *g, const float *const *host, int train, yd_weights **out, yd_err *err)
{
    (void)be;
    return cpu->weights_new(cpu, g, host, train, out, err);
}

static const yd_canvas_ops host_ops = {host_take, host_give, host_copy, host_read, host_run, host_step};

static yd_backend host_backend(void)
{
    yd_backend be = *cpu;
    be.canvas = &host_ops;
    be.compile = host_compile;
    be.info = host_info;
    be.weights_new = host_weights_new;
    return be;
}

// --- scenes

typedef struct scene {
    int w, h;
    uint16_t *up;
    float *map, *exact;
} scene;

static scene scene_new(int w, int h, uint64_t seed)
{
    const size_t px = (size_t)(w * h);
    scene s = {w, h, yd_malloc(px * 3 * 2), yd_malloc(px * 4), yd_malloc(px * 3 * 4)};
    for (size_t i = 0; i < px; i++) {
        s.map[i] = yd_rng_uniform(seed, 1, i, 0);
        for (uint32_t c = 0; c < 3; c++) s.up[i * 3 + c] = (uint16_t)(65535.0f * yd_rng_uniform(seed, 2, i, c));
        for (uint32_t c = 0; c < 3; c++) s.exact[i * 3 + c] = 2.4f * yd_rng_uniform(seed, 3, i, c) - 1.2f;
    }
    return s;
}

static void scene_free(scene *s)
{
    yd_free(s->up);
    yd_free(s->map);
    yd_free(s->exact);
}

// Bits that say everything about what the network was shown, as a prediction.
static void predict(const float *x, float level, float *out)
{
    for (int i = 0; i < WINDOW * WINDOW; i++)
        for (int c = 0; c < 3; c++) {
            const int next = (i + 1) % (WINDOW * WINDOW);
            out[i * 3 + c] = 0.3f * x[i * 6 + c] + 0.5f * x[i * 6 + 3 + c] + 0.1f * x[next * 6 + 3 + c] + 0.2f * level;
        }
}

static yd_sampler *make(const yd_model_config *c, const yd_sample_settings *set, const scene *sc, int exact)
{
    yd_sampler *s = NULL;
    yd_err err = {0};
    const yd_sampler_picture p = {.up = sc->up, .exact = exact ? sc->exact : NULL};
    CHECK_MSG(yd_sampler_new_from(c, set, sc->w, sc->h, &p, sc->map, &s, &err) == 0, "%s", err.detail);
    return s;
}

// One batch of at most BATCH units for two pairs of samplers: pair[i][0] on the host, pair[i][1] on the device. 0 when nothing is left.
static int batch(yd_sampler *pair[2][2], const char *label)
{
    static float host_x[WINDOW * WINDOW * 6], x[BATCH][WINDOW * WINDOW * 6], pred[BATCH][WINDOW * WINDOW * 3];
    yd_canvas_unit units[BATCH];
    yd_unit u[BATCH], same;
    float level[BATCH], host_level;
    int of[BATCH], bad[BATCH], n = 0;
    yd_step_info info[2];
    yd_err err = {0};
    for (int i = 0; i < 2 * BATCH && n < BATCH; i++)
        if (yd_sampler_next(pair[i % 2][1], &u[n])) of[n++] = i % 2;
    for (int i = 0; i < n; i++) yd_sampler_device_unit(pair[of[i]][1], &u[i], &units[i]);
    memset(x, 0xff, sizeof x);
    yd_gpu_map mx = yd_gpu_map_of(x, YD_F32, WINDOW, WINDOW, 6), mp = yd_gpu_map_of(pred, YD_F32, WINDOW, WINDOW, 3);
    yd_host_order ^= 1;
    CHECK(n == 0 || yd_gpu_gather(units, &mx, level, n, NULL) == 0);
    for (int i = 0; i < n; i++) predict(x[i], level[i], pred[i]);
    CHECK(n == 0 || yd_gpu_scatter(units, &mp, bad, n, NULL) == 0);
    for (int i = 0; i < n; i++) {
        yd_sampler *host = pair[of[i]][0], *device = pair[of[i]][1];
        CHECK(yd_sampler_next(host, &same) && same.window == u[i].window && same.step == u[i].step);
        yd_sampler_gather(host, &u[i], host_x, &host_level);
        CHECK_MSG(memcmp(host_x, x[i], sizeof host_x) == 0 && memcmp(&host_level, &level[i], 4) == 0, "%s: step %d, window %d", label,
                  u[i].step, u[i].window);
        const int a = yd_sampler_scatter(host, &u[i], pred[i], &info[0], &err);
        const int b = yd_sampler_device_took(device, &u[i], bad[i], &info[1], &err);
        CHECK_MSG(a == b && a >= 0 && bad[i] == 0 && (a == 0 || info[0].left == info[1].left), "%s: %d, %d", label, a, b);
    }
    return n;
}

static int same_state(yd_sampler *a, yd_sampler *b)
{
    const size_t len = yd_sampler_state_bytes(a);
    void *x = yd_malloc(len), *y = yd_malloc(len);
    const int rc = yd_sampler_save(a, x), other = yd_sampler_save(b, y);
    const int same = rc == other && (rc || memcmp(x, y, len) == 0);
    yd_free(x);
    yd_free(y);
    return same;
}

static int same_picture(const yd_sampler *a, const yd_sampler *b, int w, int h)
{
    uint8_t *x = yd_malloc((size_t)(w * h) * 3), *y = yd_malloc((size_t)(w * h) * 3);
    yd_sampler_preview(a, x);
    yd_sampler_preview(b, y);
    const int same = memcmp(x, y, (size_t)(w * h) * 3) == 0;
    yd_free(x);
    yd_free(y);
    return same;
}

static void pair_runs(const yd_model_config *c, const yd_sample_settings *set, int w, int h, int exact, const char *label)
{
    yd_backend be = host_backend();
    yd_sampler *pair[2][2];
    scene sc[2] = {scene_new(w, h, 5), scene_new(h, w, 6)};
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 2; k++) pair[i][k] = make(c, set, &sc[i], exact);
    for (int i = 0; i < 2; i++) CHECK(yd_sampler_enter(pair[i][1], &be, NULL) == 1);
    CHECK(taken == 2);
    while (batch(pair, label))
        for (int i = 0; i < 2; i++) {
            CHECK_MSG(same_state(pair[i][0], pair[i][1]), "%s: state", label);
            CHECK_MSG(same_picture(pair[i][0], pair[i][1], sc[i].w, sc[i].h), "%s: what is shown", label);
        }
    for (int i = 0; i < 2; i++) {
        const float *a = yd_sampler_result(pair[i][0]), *b = yd_sampler_result(pair[i][1]);
        CHECK_MSG(a && b && memcmp(a, b, (size_t)(w * h) * 3 * sizeof *a) == 0, "%s: other bits", label);
        CHECK(same_picture(pair[i][0], pair[i][1], sc[i].w, sc[i].h));
    }
    CHECK_MSG(taken == 0, "a finished job keeps memory of the device");
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 2; k++) yd_sampler_free(pair[i][k]);
        scene_free(&sc[i]);
    }
}

static yd_model_config config(yd_prediction p, yd_target t)
{
    yd_model_config c;
    yd_model_config_init(&c);
    c.prediction = p;
    c.target = t;
    c.window = WINDOW;
    c.overlap = 8;
    c.schedule.kind = YD_SCHEDULE_COSINE;
    c.clip = t == YD_TARGET_RESIDUAL ? 3.0f : 1.0f;
    c.residual_scale = t == YD_TARGET_RESIDUAL ? 4.0f : 1.0f;
    return c;
}

// --- cases

static void noise_is_the_hosts(void)
{
    enum { W = 131, H = 9 };
    static float got[H * W * 3], row[W * 3];
    const uint64_t seeds[] = {0, 42, 0xfedcba9876543210u};
    for (int i = 0; i < 3; i++)
        for (int step = 0; step < 4000; step += 571) {
            CHECK(yd_gpu_noise(seeds[i], step, W, H, got, NULL) == 0);
            for (int y = 0; y < H; y++) {
                yd_rng_row(seeds[i], (uint32_t)step, (uint32_t)y, 0, W, 3, row);
                CHECK(memcmp(row, got + y * W * 3, sizeof row) == 0);
            }
        }
}

static void every_sampler(void)
{
    char label[160];
    for (int kind = 0; kind < 3; kind++)
        for (int p = 0; p < 3; p++)
            for (int target = 0; target < 2; target++)
                for (int allocation = 0; allocation < 3; allocation++)
                    for (int more = 0; more < 4; more++) {
                        yd_model_config c = config((yd_prediction)p, (yd_target)target);
                        yd_sample_settings set = {.steps = 7,
                                                  .seed = 42u + (uint64_t)more,
                                                  .eta = more % 2 ? 0.6f : 0.0f,
                                                  .lower_bound = 0.1,
                                                  .attention = "constant"};
                        set.sampler = (yd_sampler_kind)kind;
                        set.allocation = (yd_allocation)allocation;
                        set.variance = more % 2 ? YD_VARIANCE_BETA : YD_VARIANCE_POSTERIOR;
                        set.skip = more / 2;
                        set.fidelity = more == 3 && p != YD_PREDICT_EPS ? 0.3 : 0.0;
                        if (more == 1 && allocation == 0) set.lr_noise = YD_LR_LITERAL;
                        if (more == 2) c.clip = 0.0f;
                        snprintf(label, sizeof label, "sampler %d, prediction %d, target %d, allocation %d, %d", kind, p, target,
                                 allocation, more);
                        pair_runs(&c, &set, 70, 41, more == 1, label);
                    }
}

// Canvases smaller than a window, of one pixel, and where what lies at rest is shown.
static void every_border(void)
{
    static const int sizes[][2] = {{1, 1}, {1, 40}, {2, 3}, {20, 25}, {33, 32}, {64, 57}, {97, 33}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int shown = 0; shown < 2; shown++)
            for (int target = 0; target < 2; target++) {
                yd_model_config c = config(YD_PREDICT_X0, (yd_target)target);
                yd_sample_settings set = {
                    .steps = 4, .seed = 9, .eta = 1.0f, .lower_bound = 0.2, .attention = "constant", .sampler = YD_SAMPLER_DDIM, .skip = 1};
                c.mask_input = !shown;
                pair_runs(&c, &set, sizes[i][0], sizes[i][1], 0, shown ? "rest is shown" : "rest is hidden");
            }
}

// A value that is not finite is its own unit's, and what lies beyond the canvas does not count.
static void bad_predictions(void)
{
    yd_backend be = host_backend();
    scene sc = scene_new(70, 20, 3);
    yd_model_config c = config(YD_PREDICT_X0, YD_TARGET_DIRECT);
    const yd_sample_settings set = {.steps = 2, .seed = 1, .attention = "constant", .lower_bound = 1.0};
    static float pred[3][WINDOW * WINDOW * 3];
    const yd_gpu_map mp = yd_gpu_map_of(pred, YD_F32, WINDOW, WINDOW, 3);
    yd_sampler *s = make(&c, &set, &sc, 0);
    yd_canvas_unit units[3];
    yd_unit u[3];
    yd_step_info info;
    yd_err err = {0};
    int bad[3];
    CHECK(yd_sampler_enter(s, &be, NULL) == 1);
    for (int i = 0; i < 3; i++) {
        CHECK(yd_sampler_next(s, &u[i]) == 1);
        yd_sampler_device_unit(s, &u[i], &units[i]);
    }
    pred[0][(WINDOW * 25 + 3) * 3] = NAN; // the canvas has 20 rows
    pred[1][(WINDOW * 19 + 31) * 3 + 2] = -INFINITY;
    CHECK(yd_gpu_scatter(units, &mp, bad, 3, NULL) == 0 && bad[0] == 0 && bad[1] == 1 && bad[2] == 0);
    CHECK(yd_sampler_device_took(s, &u[1], 0, &info, &err) == YD_E_INTERNAL); // not its turn
    CHECK(yd_sampler_device_took(s, &u[0], bad[0], &info, &err) == 0);
    CHECK(yd_sampler_device_took(s, &u[1], bad[1], &info, &err) == YD_E_NUMERIC);
    yd_sampler_free(s);
    CHECK(taken == 0);
    scene_free(&sc);
}

static const char tiny[] =
    "{\"format\": \"yoda-model-1\", \"name\": \"tiny\", \"network\": {\"type\": \"sr3\", \"inner_channel\": 8, \"channel_multiplier\": [1, "
    "2],"
    "\"res_blocks\": 1, \"norm_groups\": 4, \"attn_res\": [], \"image_size\": 32, \"unshuffle\": 2, \"mid_attention\": false, "
    "\"noise_scale\": 1000},"
    "\"noise_input\": \"sqrt_one_minus_gamma\", \"prediction\": \"x0\", \"target\": \"residual\", \"residual_scale\": 4, \"clip\": 3,"
    "\"schedule\": {\"kind\": \"cosine\"}, \"scale\": 4, \"window\": 32, \"overlap\": 8, \"conditioning\": \"pillow8\", \"defaults\": "
    "{\"steps\": 6,"
    "\"sampler\": \"ddim\", \"eta\": 0.5, \"attention\": \"edge\", \"mask_form\": \"max\", \"lower_bound\": 0.2}}";

static yd_model *tiny_model(void)
{
    yd_model_config c;
    yd_model *m = NULL;
    yd_err err = {0};
    CHECK_MSG(yd_model_config_parse(tiny, strlen(tiny), &c, &err) == 0, "%s", err.detail);
    CHECK_MSG(yd_model_init(&c, 3, 0, &m, &err) == 0, "%s", err.detail);
    return m;
}

// Run both samplers to their end, in batches of three.
static int run_both(yd_engine *e, yd_sampler *s[2], int at_most)
{
    for (int batches = 0; batches < at_most; batches++) {
        yd_sampler *of[3];
        yd_unit u[3];
        int done[3], n = 0;
        yd_step_info info[3];
        yd_err errs[3];
        for (int i = 0; i < 6 && n < 3; i++)
            if (yd_sampler_next(s[i % 2], &u[n])) of[n++] = s[i % 2];
        if (n == 0) break;
        const int rc = yd_engine_run(e, of, u, n, done, info, errs);
        if (rc) return rc;
        for (int i = 0; i < n; i++) CHECK(done[i] >= 0);
    }
    return 0;
}

// With a network: canvases on the device, on the host, and one on each in the same batches; a device that is lost on the way.
static void through_an_engine(void)
{
    yd_backend be = host_backend();
    yd_model *m = tiny_model();
    yd_engine *plain = NULL, *resident = NULL;
    yd_err err = {0};
    scene sc[2] = {scene_new(70, 41, 1), scene_new(33, 60, 2)};
    const yd_sample_settings set = {
        .steps = 5, .seed = 8, .eta = 0.5f, .sampler = YD_SAMPLER_DDIM, .attention = "constant", .lower_bound = 0.1, .skip = 1};
    CHECK_MSG(yd_engine_new(cpu, m, &(yd_engine_options){.max_batch = 4}, &plain, &err) == 0, "%s", err.detail);
    CHECK_MSG(yd_engine_new(&be, m, &(yd_engine_options){.max_batch = 4, .resident = 1}, &resident, &err) == 0, "%s", err.detail);
    yd_sampler *expect[2], *got[2];
    for (int i = 0; i < 2; i++) expect[i] = make(&m->cfg, &set, &sc[i], 0);
    CHECK(run_both(plain, expect, INT32_MAX) == 0);
    for (int way = 0; way < 4; way++) { // 0: both; 1: no room; 2: room for one alone; 3: lost after some batches
        for (int i = 0; i < 2; i++) got[i] = make(&m->cfg, &set, &sc[i], 0);
        no_room = way == 1;
        if (way == 2) {
            CHECK(yd_sampler_enter(got[0], &be, NULL) == 1);
            no_room = 1;
        }
        if (way == 3) {
            CHECK(run_both(resident, got, 7) == 0 && taken == 2);
            broken_reads = 1;
            CHECK(yd_sampler_leave(got[0], &err) == YD_E_DEVICE && taken == 1);
            yd_sampler_leave_all(&be);
            broken_reads = 0;
            CHECK(taken == 0 && yd_sampler_idle_steps(got[1]) == 0 && yd_sampler_enter(got[1], &be, NULL) == 1);
            yd_sampler_device_failed(got[1]); // in the midst of a run
            CHECK(yd_sampler_enter(got[1], &be, NULL) == YD_E_DEVICE && yd_sampler_leave(got[1], &err) == YD_E_DEVICE && taken == 0);
        }
        CHECK(run_both(resident, got, 2) == 0 && taken == (way == 1 ? 0 : way == 2 ? 1 : 2));
        CHECK(run_both(resident, got, INT32_MAX) == 0);
        no_room = 0;
        for (int i = 0; i < 2; i++) {
            const float *a = yd_sampler_result(expect[i]), *b = yd_sampler_result(got[i]);
            CHECK_MSG(a && b && memcmp(a, b, (size_t)(sc[i].w * sc[i].h) * 3 * sizeof *a) == 0, "way %d, job %d", way, i);
            yd_sampler_free(got[i]);
        }
        CHECK(taken == 0);
    }
    for (int i = 0; i < 2; i++) {
        yd_sampler_free(expect[i]);
        scene_free(&sc[i]);
    }
    yd_engine_free(resident);
    yd_engine_free(plain);
    yd_model_free(m);
}

// A state saved on the device is taken up on the host, and the other way round; a job that leaves goes on where it is.
static void states_travel(void)
{
    yd_backend be = host_backend();
    yd_model *m = tiny_model();
    yd_engine *e = NULL;
    yd_err err = {0};
    scene sc = scene_new(70, 41, 1);
    yd_sample_settings set = {
        .steps = 6, .seed = 8, .eta = 0.5f, .sampler = YD_SAMPLER_DPMPP_2M, .attention = "constant", .lower_bound = 0.1, .fidelity = 0.2};
    CHECK(yd_engine_new(&be, m, &(yd_engine_options){.max_batch = 4, .resident = 1}, &e, &err) == 0);
    yd_sampler *whole = make(&m->cfg, &set, &sc, 0), *idle = make(&m->cfg, &set, &sc, 0), *both[2] = {whole, idle};
    const size_t len = yd_sampler_state_bytes(whole);
    void *state = yd_malloc(len);
    CHECK(run_both(e, both, INT32_MAX) == 0);
    for (int on = 0; on < 4; on++) {
        yd_sampler *first = make(&m->cfg, &set, &sc, 0), *second = make(&m->cfg, &set, &sc, 0);
        yd_unit u;
        yd_step_info info;
        int done = 0;
        no_room = on / 2;
        for (int steps = 0; steps < 2; steps++)
            for (done = 0; !done;) {
                CHECK(yd_sampler_next(first, &u) == 1);
                CHECK(yd_engine_run(e, &first, &u, 1, &done, &info, &err) == 0 && done >= 0);
            }
        CHECK(taken == !no_room);
        CHECK(yd_sampler_save(first, state) == 0);
        yd_sampler_seal(state, len, "f");
        no_room = 0;
        if (on % 2) CHECK(yd_sampler_enter(second, &be, NULL) == 1);
        CHECK(yd_sampler_restore(second, state, len, "f", &err) == 0);
        if (on == 2) CHECK(yd_sampler_enter(second, &be, NULL) == 1 && yd_sampler_leave(second, NULL) == 0);
        yd_sampler *two[2] = {first, second};
        CHECK(run_both(e, two, INT32_MAX) == 0);
        for (int i = 0; i < 2; i++)
            CHECK_MSG(yd_sampler_result(two[i]) &&
                          memcmp(yd_sampler_result(two[i]), yd_sampler_result(whole), (size_t)(70 * 41) * 3 * 4) == 0,
                      "%d, %d", on, i);
        yd_sampler_free(first);
        yd_sampler_free(second);
    }
    CHECK(taken == 0);
    yd_free(state);
    yd_sampler_free(whole);
    yd_sampler_free(idle);
    scene_free(&sc);
    yd_engine_free(e);
    yd_model_free(m);
}

static const t_case cases[] = {
    {"the field of noise is the host's, bit for bit", noise_is_the_hosts},
    {"every sampler, prediction, target and allocation", every_sampler},
    {"every border", every_border},
    {"bad predictions are their own unit's", bad_predictions},
    {"whole runs through an engine", through_an_engine},
    {"states travel between device and host", states_travel},
};

int main(int argc, char **argv)
{
    yd_cpu_prepare_process(argv);
    if (yd_cpu_open(&(yd_cpu_options){.threads = 1}, &cpu, NULL)) return 1;
    const int rc = t_main(argc, argv, cases, sizeof cases / sizeof *cases);
    cpu->close(cpu);
    return rc;
}
