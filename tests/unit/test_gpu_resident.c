// The CUDA backend's canvases on a GPU that is none (tests/fake_gpu): runs through an engine give the bytes that they give with canvases on the
// host, as captured graphs and launched one by one, in both types; a device that fails at any call loses nothing but the work of the job.
#include "tests/unit/t.h"
#include "core/engine.h"
#include "core/mem.h"
#include "core/rng.h"
#include "gpu/gpu.h"
#include "tests/fake_gpu/fake.h"

static const char tiny[] =
    "{\"format\": \"yoda-model-1\", \"name\": \"tiny\", \"network\": {\"type\": \"sr3\", \"inner_channel\": 8, \"channel_multiplier\": [1, "
    "2],"
    "\"res_blocks\": 1, \"norm_groups\": 4, \"attn_res\": [], \"image_size\": 32, \"unshuffle\": 2, \"mid_attention\": false, "
    "\"noise_scale\": 1000},"
    "\"noise_input\": \"sqrt_one_minus_gamma\", \"prediction\": \"x0\", \"target\": \"residual\", \"residual_scale\": 4, \"clip\": 3,"
    "\"schedule\": {\"kind\": \"cosine\"}, \"scale\": 4, \"window\": 16, \"overlap\": 4, \"conditioning\": \"pillow8\", \"defaults\": "
    "{\"steps\": 6,"
    "\"sampler\": \"ddim\", \"eta\": 0.5, \"attention\": \"edge\", \"mask_form\": \"max\", \"lower_bound\": 0.2}}";

enum { W = 21, H = 18, JOBS = 2 };

static uint8_t rgb[W * H * 3];
static float map[W * H];

typedef struct setup {
    yd_backend *be;
    yd_model *m;
    yd_engine *e;
    yd_sampler *s[JOBS];
} setup;

static void setup_model(setup *t)
{
    yd_model_config c;
    yd_err err = {0};
    for (uint64_t i = 0; i < W * H; i++) {
        map[i] = yd_rng_uniform(1, 0, i, 0);
        for (uint64_t k = 0; k < 3; k++) rgb[3 * i + k] = (uint8_t)(255.0f * yd_rng_uniform(2, 0, 3 * i + k, 0));
    }
    CHECK_MSG(yd_model_config_parse(tiny, strlen(tiny), &c, &err) == 0 && yd_model_init(&c, 3, 0, &t->m, &err) == 0, "%s", err.detail);
}

static int setup_engine(setup *t, const yd_cuda_options *opt, int resident, yd_dtype dtype)
{
    yd_err err = {0};
    setup_model(t);
    yd_cuda_options small = *opt;
    small.memory_limit = (size_t)320 << 20; // a block for canvases of 20 MB
    CHECK_MSG(yd_gpu_open(fake_driver(), &small, &t->be, &err) == 0, "%s", err.detail);
    CHECK(!t->be->canvas == !opt->canvases);
    const yd_engine_options eo = {.dtype = dtype, .max_batch = 4, .resident = resident};
    const int rc = yd_engine_new(t->be, t->m, &eo, &t->e, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    return rc;
}

static void setup_jobs(setup *t)
{
    for (int i = 0; i < JOBS; i++) {
        yd_sample_settings set = t->m->cfg.defaults;
        set.steps = 3;
        set.seed = (uint64_t)i;
        snprintf(set.attention, sizeof set.attention, "constant");
        CHECK(yd_sampler_new(&t->m->cfg, &set, W, H, rgb, map, &t->s[i], NULL) == 0);
    }
}

static void setup_end(setup *t)
{
    if (t->be) yd_sampler_leave_all(t->be);
    for (int i = 0; i < JOBS; i++) yd_sampler_free(t->s[i]);
    yd_engine_free(t->e);
    if (t->be) t->be->close(t->be);
    yd_model_free(t->m);
}

// Both jobs to their end, in batches of three.
static int run(setup *t)
{
    for (;;) {
        yd_sampler *of[3];
        yd_unit u[3];
        yd_step_info info[3];
        yd_err errs[3];
        int done[3], n = 0;
        for (int i = 0; i < 3 * JOBS && n < 3; i++)
            if (yd_sampler_next(t->s[i % JOBS], &u[n])) of[n++] = t->s[i % JOBS];
        if (n == 0) return 0;
        const int rc = yd_engine_run(t->e, of, u, n, done, info, errs);
        if (rc) return rc;
        for (int i = 0; i < n; i++) CHECK(done[i] >= 0);
    }
}

static float expected[2][JOBS][W * H * 3]; // by type

// Canvases on the host, whatever is asked for: this backend was opened without.
static void expect(yd_dtype dtype)
{
    static int known[2];
    setup t = {0};
    if (known[dtype]) return;
    fake_reset();
    if (setup_engine(&t, &(yd_cuda_options){0}, 1, dtype)) return;
    setup_jobs(&t);
    CHECK(run(&t) == 0);
    for (int i = 0; i < JOBS; i++) memcpy(expected[dtype][i], yd_sampler_result(t.s[i]), sizeof expected[dtype][i]);
    setup_end(&t);
    CHECK(fake.live == 0);
    known[dtype] = 1;
}

static int as_expected(const setup *t, yd_dtype dtype)
{
    int same = 1;
    for (int i = 0; i < JOBS; i++) {
        const float *r = yd_sampler_result(t->s[i]);
        same &= r && memcmp(r, expected[dtype][i], sizeof expected[dtype][i]) == 0;
    }
    return same;
}

static void results_are_the_hosts(void)
{
    for (int dtype = 0; dtype < 2; dtype++) {
        expect((yd_dtype)dtype);
        for (int way = 0; way < 4; way++) { // as a graph; one by one; one job on the host; captures that fail
            fake_reset();
            fake.no_capture = way == 3;
            setup t = {0};
            if (setup_engine(&t, &(yd_cuda_options){.canvases = 1, .eager = way == 1}, 1, (yd_dtype)dtype)) return;
            setup_jobs(&t);
            if (way == 2) {
                void *all;
                yd_err err = {0};
                size_t room = (size_t)1 << 40;
                CHECK(yd_sampler_enter(t.s[1], t.be, NULL) == 1);
                while (room > 256 && t.be->canvas->take(t.be, room, &all, &err)) room -= room / 16; // nearly all that is left
                while (room >= 1024) room = t.be->canvas->take(t.be, room, &all, &err) ? room / 2 : room;
            }
            const long graphs = fake.graph_launches, prepared = fake.prepared, allocs = fake.allocs;
            CHECK(run(&t) == 0);
            CHECK_MSG(as_expected(&t, (yd_dtype)dtype), "type %d, way %d: other bytes", dtype, way);
            CHECK((fake.graph_launches > graphs) == (way == 0 || way == 2) && fake.prepared == prepared && fake.allocs == allocs);
            setup_end(&t);
            CHECK_MSG(fake.live == 0, "type %d, way %d: %ld objects are left", dtype, way, fake.live);
        }
    }
}

// Whichever call fails: the run says so, the jobs leave, and begun anew they have the same result.
static void every_failing_call(void)
{
    static const yd_gpu_outcome how[] = {YD_GPU_FAILED, YD_GPU_LOST};
    long tried = 0;
    expect(YD_F32);
    for (int h = 0; h < 2; h++)
        for (long at = 1;; at += 1 + at / 16) {
            fake_reset();
            setup t = {0};
            if (setup_engine(&t, &(yd_cuda_options){.canvases = 1}, 1, YD_F32)) return;
            setup_jobs(&t);
            fake.fail_at = at;
            fake.fail_with = how[h];
            const int rc = run(&t);
            fake.fail_at = 0;
            if (rc == 0) {
                CHECK(as_expected(&t, YD_F32));
                setup_end(&t);
                break;
            }
            tried++;
            CHECK_MSG(rc == YD_E_DEVICE, "call %ld: %d", at, rc);
            for (int i = 0; i < JOBS; i++) yd_sampler_put_back(t.s[i]);
            if (how[h] == YD_GPU_LOST) { // another device goes on
                yd_sampler_leave_all(t.be);
                yd_engine_free(t.e);
                t.be->close(t.be);
                yd_model_free(t.m);
                CHECK(fake.live == 0);
                fake_reset();
                if (setup_engine(&t, &(yd_cuda_options){.canvases = 1}, 1, YD_F32)) return;
            } else {
                yd_sampler_leave_all(t.be);
            }
            CHECK_MSG(run(&t) == 0 && as_expected(&t, YD_F32), "call %ld: not the same after it", at);
            setup_end(&t);
            CHECK_MSG(fake.live == 0, "call %ld: %ld objects are left", at, fake.live);
        }
    CHECK_MSG(tried > 40, "%ld calls", tried);
}

static const t_case cases[] = {
    {"results are those of canvases on the host", results_are_the_hosts},
    {"every failing call", every_failing_call},
};

int main(int argc, char **argv)
{
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
