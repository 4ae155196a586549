// What cuDNN makes of our convolutions on cards that this machine has not got (no_device.h): gpu-plans
//
// Each convolution of a table of shapes, and of whole networks compiled as for a device, must find an engine that is fit; one that was chosen for a
// batch of 8 must take every batch; engines that compile must have compiled a kernel once for all sizes; and no launch of ours may ask for more than
// a grid or a block may have. Matrix products must be what they are meant to be. What engines then compute is a device's to show: make check-gpu.
#include "core/model.h"
#include "gpu/gpu.h"
#include "tests/gpu/no_device.h"
#include "tests/unit/t.h"

#include <dlfcn.h>

static const int batches[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};
enum { N_BATCHES = sizeof batches / sizeof *batches };

// Kernels compiled and loaded so far; -1 where the driver is a real one.
static int kernels(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY);
    const int *n = driver ? dlsym(driver, "no_driver_kernels") : NULL;
    return n ? *n : -1;
}

static yd_gpu_driver *card(int sm)
{
    char why[256] = "";
    yd_gpu_driver *d = no_device_driver(sm, why);
    CHECK_MSG(d, "cuDNN knows no sm_%d: %s", sm, why);
    return d;
}

static const char *name_of(const yd_gpu_conv_shape *s)
{
    static char text[160];
    static const char *const passes[] = {"fwd", "dx", "dw", "attention"};
    snprintf(text, sizeof text, "%s %s>%s%s %dx%dx%d>%d k%d s%d p%d%s%s%s", passes[s->pass],
             s->type == YD_BF16 ? "bf16" : "f32", s->out == YD_BF16 ? "bf16" : "f32", s->tf32 ? " tf32" : "", s->h,
             s->w, s->c, s->o, s->k, s->stride, s->pad, s->bias ? " bias" : "", s->leaky ? " leaky" : "",
             s->res ? " res" : "");
    return text;
}

// One plan of what was chosen.
static void made(yd_gpu_driver *d, const yd_gpu_conv_shape *s, const yd_gpu_choice *how)
{
    yd_gpu_conv *c = NULL;
    size_t workspace;
    CHECK_MSG(d->conv_new(d, s, how, &c, &workspace) == YD_GPU_OK, "%s: engine %d takes no batch of %d: %s", name_of(s),
              how->engine, s->n, d->words(d));
    d->conv_free(d, c);
}

// An engine, and plans of it for all batches: 1; no engine: 0. A filter's gradient has an engine for each batch.
static int planned(yd_gpu_driver *d, yd_gpu_conv_shape s)
{
    const int compiles = s.pass == YD_GPU_ATTENTION; // for each batch: some will do
    yd_gpu_choice how;
    int found = 0;
    for (int i = 0; i < N_BATCHES; i++) {
        s.n = s.pass == YD_GPU_DW ? batches[i] : 8;
        const yd_gpu_outcome o = i == 0 || s.pass == YD_GPU_DW ? d->conv_choose(d, &s, 0, &how) : YD_GPU_OK;
        CHECK_MSG(o == YD_GPU_OK || o == YD_GPU_UNSUPPORTED, "%s: %s", name_of(&s), d->words(d));
        if (o) return 0;
        CHECK_MSG(how.n_knobs > 0 || s.pass == YD_GPU_DW, "%s: engine %d names no tiles", name_of(&s), how.engine);
        s.n = batches[i];
        if (compiles && s.n != 1 && s.n != 8 && s.n != 64) continue;
        made(d, &s, &how);
        found = 1;
    }
    return found;
}

static yd_gpu_conv_shape shape_of(yd_gpu_pass pass, int side, int c, int o, int k, int stride, yd_dtype type, int tf32)
{
    return (yd_gpu_conv_shape){.pass = pass,
                               .n = 8,
                               .h = side,
                               .w = side,
                               .c = c,
                               .oh = (side - 1) / stride + 1,
                               .ow = (side - 1) / stride + 1,
                               .o = o,
                               .k = k,
                               .stride = stride,
                               .pad = k / 2,
                               .type = type,
                               .out = type,
                               .tf32 = tf32};
}

// The bare sum and its two gradients; then the ends. Exact f32 has them fused at most with a bias.
static void one_shape(yd_gpu_driver *d, yd_gpu_conv_shape s)
{
    CHECK_MSG(planned(d, s), "no engine: %s", name_of(&s));
    for (yd_gpu_pass pass = YD_GPU_DX; pass <= YD_GPU_DW; pass++) {
        yd_gpu_conv_shape gradient = s;
        gradient.pass = pass;
        CHECK_MSG(planned(d, gradient), "no engine: %s", name_of(&gradient));
    }
    for (int end = 1; end < 8; end++) {
        yd_gpu_conv_shape f = s;
        f.bias = end & 1, f.res = end >> 1 & 1, f.leaky = end >> 2, f.slope = f.leaky ? 0.2f : 0;
        const int found = planned(d, f), compiles = f.res || f.leaky || s.type == YD_BF16;
        if (s.type == YD_BF16 || s.tf32)
            CHECK_MSG(found, "no engine: %s", name_of(&f));
        else
            CHECK_MSG(!found || !compiles, "an engine that compiles: %s", name_of(&f));
    }
    s.out = YD_F32;
    if (s.type == YD_BF16) CHECK_MSG(planned(d, s), "no engine: %s", name_of(&s));
}

static const struct {
    int side, c, o, k, stride;
} shapes[] = {{128, 8, 64, 3, 1},    {128, 64, 64, 3, 1},  {128, 64, 8, 3, 1}, {128, 64, 64, 3, 2},
              {64, 192, 128, 3, 1},  {64, 192, 128, 1, 1}, {33, 24, 40, 3, 1}, {17, 1024, 512, 3, 1},
              {16, 512, 1536, 1, 1}, {7, 512, 512, 3, 2}};

static void table(void)
{
    yd_gpu_driver *d = card(90);
    const int before = kernels();
    for (size_t i = 0; d && i < sizeof shapes / sizeof *shapes; i++)
        for (int precision = 0; precision < 3; precision++)
            one_shape(d, shape_of(YD_GPU_FORWARD, shapes[i].side, shapes[i].c, shapes[i].o, shapes[i].k,
                                  shapes[i].stride, precision ? YD_F32 : YD_BF16, precision == 2));
    if (!d) return;
    printf("  sm_90: %ld shapes with an engine, %ld without, %ld plans, %d kernels compiled\n", no_device.chosen,
           no_device.refused, no_device.made, kernels() - before);
    CHECK_MSG(no_device.made > 2000 && kernels() - before < 100, "%d kernels for %ld plans", kernels() - before,
              no_device.made);
    d->close(d);
}

// --- attention

// Layers of one shape share a plan, while one of them has it.
static void compiled_once(yd_gpu_driver *d)
{
    const yd_gpu_conv_shape s = {.pass = YD_GPU_ATTENTION,
                                 .n = 4,
                                 .h = 9,
                                 .w = 9,
                                 .c = 192,
                                 .oh = 9,
                                 .ow = 9,
                                 .o = 64,
                                 .k = 1,
                                 .stride = 1,
                                 .type = YD_BF16,
                                 .out = YD_BF16};
    yd_gpu_choice how;
    yd_gpu_conv *plan[3] = {NULL};
    size_t workspace;
    CHECK(d->conv_choose(d, &s, 0, &how) == YD_GPU_OK);
    const int before = kernels();
    for (int i = 0; i < 3; i++) CHECK(d->conv_new(d, &s, &how, &plan[i], &workspace) == YD_GPU_OK);
    CHECK(kernels() == before + 1);
    for (int i = 0; i < 3; i++) d->conv_free(d, plan[i]);
    CHECK(d->conv_new(d, &s, &how, &plan[0], &workspace) == YD_GPU_OK);
    CHECK(kernels() == before + 2);
    d->conv_free(d, plan[0]);
}

// Head sizes that a fused kernel takes, with numbers of tokens that fill no tile.
static void attention(int sm)
{
    static const int some[][3] = {{1, 2, 8}, {33, 31, 40}, {16, 16, 256}};
    yd_gpu_driver *d = card(sm);
    if (!d) return;
    const int before = kernels();
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        const int h = some[i][0], w = some[i][1], c = some[i][2];
        yd_gpu_conv_shape s = {.pass = YD_GPU_ATTENTION, .h = h, .w = w, .c = 3 * c, .oh = h, .ow = w, .o = c};
        s.k = s.stride = 1;
        s.type = s.out = YD_BF16;
        CHECK_MSG(planned(d, s), "no engine: %s", name_of(&s));
    }
    compiled_once(d);
    printf("  sm_%d: attention, %ld shapes, %ld plans, %d kernels compiled\n", sm, no_device.chosen, no_device.made,
           kernels() - before);
    d->close(d);
}

static void attention_fits(void)
{
    attention(90);
    attention(80);
}

// --- networks

#define MODEL(NETWORK)                                                                                                 \
    "{\"format\": \"yoda-model-1\", \"name\": \"x\", \"network\": {" NETWORK                                           \
    "}, \"scale\": 4, \"window\": 128, \"overlap\": 8}"

static const struct net {
    const char *name, *json;
    int side, batch;
    enum { RUNNING, TRAINING, ENCODER } what;
    yd_dtype type;
} nets[] = {
#define SR3                                                                                                            \
    MODEL("\"type\": \"sr3\", \"inner_channel\": 64, \"channel_multiplier\": [1, 2, 4, 8, 8], \"res_blocks\": 3, "     \
          "\"attn_res\": [16], \"image_size\": 128")
#define COMPACT                                                                                                        \
    MODEL("\"type\": \"sr3\", \"inner_channel\": 24, \"channel_multiplier\": [1, 2, 3], \"res_blocks\": 2, "           \
          "\"norm_groups\": 8, \"attn_res\": [], \"image_size\": 32, \"unshuffle\": 2, \"mid_attention\": false, "     \
          "\"noise_scale\": 1000")
#define SRDIFF                                                                                                         \
    MODEL("\"type\": \"srdiff\", \"inner_channel\": 64, \"channel_multiplier\": [1, 2, 3, 4], \"up_scale\": 4, "       \
          "\"rrdb_blocks\": 17, \"rrdb_features\": 64")
    {"the paper's SR3", SR3, 128, 1, RUNNING, YD_BF16},
    {"the paper's SR3", SR3, 128, 64, RUNNING, YD_BF16},
    {"the paper's SR3", SR3, 512, 64, RUNNING, YD_BF16},
    {"the paper's SR3", SR3, 128, 8, RUNNING, YD_F32},
    {"the paper's SR3, training", SR3, 128, 16, TRAINING, YD_BF16},
    {"the paper's SR3, training", SR3, 64, 4, TRAINING, YD_F32},
    {"a compact SR3", COMPACT, 128, 33, RUNNING, YD_BF16},
    {"a compact SR3, training", COMPACT, 96, 32, TRAINING, YD_BF16},
    {"SRDiff", SRDIFF, 160, 8, RUNNING, YD_BF16},
    {"SRDiff", SRDIFF, 160, 2, RUNNING, YD_F32},
    {"SRDiff's encoder", SRDIFF, 640, 1, ENCODER, YD_F32},
};

// How many convolutions run as products with patches, and sample by sample.
static void count_ways(const yd_exec *e, int *patches, int *alone)
{
    for (int i = 0; i < e->n_steps; i++) {
        const yd_gpu_step *s = &e->steps[i];
        *patches += s->conv.shape.k > 0 && !s->conv.conv;
        *alone += s->conv.conv && s->conv.times > 1;
    }
}

static int build(const struct net *t, const yd_net_config *net, yd_graph **g, yd_err *err)
{
    if (t->what == ENCODER) return yd_net_build_encoder(net, t->side, t->side, g, err);
    const int rc = yd_net_build(net, t->side, t->side, t->type, t->what == TRAINING, g, err);
    if (rc || t->what != TRAINING) return rc;
    yd_graph_backward(*g, yd_graph_find(*g, "out"), 1);
    return yd_graph_finish(*g, err);
}

static void compile_one(yd_backend *be, const struct net *t)
{
    yd_model_config cfg;
    yd_graph *g = NULL;
    yd_weights *w = NULL;
    yd_exec *e = NULL;
    yd_err err = {0};
    int patches = 0, alone = 0;
    int rc = yd_model_config_parse(t->json, strlen(t->json), &cfg, &err);
    if (!rc) rc = build(t, &cfg.net, &g, &err);
    const float **nothing = rc ? NULL : calloc((size_t)g->n_params + 1, sizeof *nothing);
    if (!rc) rc = be->weights_new(be, g, nothing, t->what == TRAINING, &w, &err);
    if (!rc) rc = be->compile(be, g, w, t->batch, &e, &err);
    CHECK_MSG(rc == 0, "%s, %d pixels, batch %d: %s", t->name, t->side, t->batch, err.detail);
    if (!rc) count_ways(e, &patches, &alone);
    CHECK_MSG(patches == 0, "%s, %d pixels, batch %d: %d convolutions without an engine", t->name, t->side, t->batch,
              patches);
    // Of exact f32 some engines name no tiles.
    CHECK_MSG(alone == 0 || t->type == YD_F32, "%s, %d pixels, batch %d: %d convolutions sample by sample", t->name,
              t->side, t->batch, alone);
    if (e) be->exec_free(e);
    if (w) be->weights_free(w);
    free((void *)nothing);
    yd_graph_free(g);
}

static void networks(int sm)
{
    yd_gpu_driver *d = card(sm);
    yd_backend *be = NULL;
    yd_err err = {0};
    if (!d) return;
    const int before = kernels();
    CHECK_MSG(yd_gpu_open(d, NULL, &be, &err) == 0, "%s", err.detail);
    for (size_t i = 0; be && i < sizeof nets / sizeof *nets; i++) compile_one(be, &nets[i]);
    printf("  sm_%d: %ld plans for %ld shapes, %d kernels compiled\n", sm, no_device.made, no_device.chosen,
           kernels() - before);
    if (be) be->close(be);
}

static void networks_of_sm_90(void)
{
    networks(90);
}

static void networks_of_sm_80(void)
{
    networks(80);
}

// --- products

enum { ROOM = 4096 };

static float element(const float *m, int transposed, long ld, int i, int j)
{
    return transposed ? m[j * ld + i] : m[i * ld + j];
}

// What driver.h says of a product, row-major.
static void expected(const yd_gpu_matmul_shape *s, const float *a, const float *b, float *c)
{
    for (int t = 0; t < s->batch; t++)
        for (int i = 0; i < s->m; i++)
            for (int j = 0; j < s->n; j++) {
                float sum = 0, *to = c + t * s->step_c + i * s->ldc + j;
                for (int l = 0; l < s->k; l++)
                    sum += element(a + t * s->step_a, s->trans_a, s->lda, i, l) *
                           element(b + t * s->step_b, s->trans_b, s->ldb, l, j);
                *to = s->alpha * sum + (s->beta != 0 ? s->beta * *to : 0);
            }
}

// Every form that attention and convolutions as products ask for; small whole numbers, so that sums are exact in any order.
static void products(void)
{
    static float a[ROOM], b[ROOM], c[ROOM], want[ROOM];
    for (int i = 0; i < ROOM; i++) a[i] = (float)(i * 7 % 11 - 5), b[i] = (float)(i * 5 % 13 - 6);
    for (int form = 0; form < 16; form++) {
        const int ta = form & 1, tb = form >> 1 & 1, batch = form & 4 ? 3 : 1;
        yd_gpu_matmul_shape s = {.m = 5,
                                 .n = 7,
                                 .k = 6,
                                 .batch = batch,
                                 .trans_a = ta,
                                 .trans_b = tb,
                                 .lda = 19,
                                 .ldb = 23,
                                 .ldc = 11,
                                 .step_a = 200,
                                 .step_b = 190,
                                 .step_c = 70,
                                 .ab = YD_BF16,
                                 .out = YD_F32,
                                 .alpha = 2,
                                 .beta = form & 8 ? 1.0f : 0.0f,
                                 .align = 16};
        for (int i = 0; i < ROOM; i++) c[i] = want[i] = (float)(i % 17);
        const char *wrong = no_device_product(&s, a, b, c);
        expected(&s, a, b, want);
        CHECK_MSG(!wrong, "form %d: %s", form, wrong);
        CHECK_MSG(memcmp(c, want, sizeof c) == 0, "form %d: another product", form);
    }
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"every convolution has a plan for every batch", table},
        {"products are told to cublasLt as they are meant", products},
        {"attention has a plan for every batch", attention_fits},
        {"networks compile without falling back, sm_90", networks_of_sm_90},
        {"networks compile without falling back, sm_80", networks_of_sm_80},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
