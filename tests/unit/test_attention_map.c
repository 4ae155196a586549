// From raw maps to YODA's A, the names of networks, and how a job comes by a network's map.
#include "core/attention.h"
#include "core/fingerprint.h"
#include "core/mem.h"
#include "core/upscale.h"
#include "tests/unit/t.h"
#include "tests/unit/vit_rig.h"

#include <unistd.h>

static char folder[] = "/tmp/yoda-attention-map-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[4][256];
    static int k;
    k = (k + 1) % 4;
    snprintf(path[k], sizeof path[k], "%s/%s", folder, name);
    return path[k];
}

static const yd_attention_map_options defaults = {.short_side = 224, .long_side = 480};

// ---- the input

static void test_sizes(void)
{
    static const struct {
        int multiple, least, short_side, long_side, w, h, nw, nh;
    } t[] = {
        {8, 8, 224, 480, 800, 640, 280, 224},   {8, 8, 224, 480, 512, 512, 224, 224},   {8, 8, 224, 480, 1000, 750, 296, 224},
        {8, 8, 224, 480, 4000, 1000, 480, 120}, {8, 8, 224, 480, 100, 5000, 8, 480},    {16, 16, 224, 480, 640, 400, 352, 224},
        {8, 8, 100, 480, 300, 200, 144, 96},    {1, 17, 224, 480, 37, 37, 224, 224},    {1, 17, 224, 480, 20, 2000, 17, 480},
        {32, 32, 224, 480, 64, 128, 224, 448},  {8, 8, 2048, 2048, 64, 64, 2048, 2048},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        const yd_attention_net_info net = {.multiple = t[i].multiple, .min_side = t[i].least};
        const yd_attention_map_options o = {.short_side = t[i].short_side, .long_side = t[i].long_side};
        int w, h;
        yd_attention_input_size(&net, &o, t[i].w, t[i].h, &w, &h);
        CHECK_MSG(w == t[i].nw && h == t[i].nh, "%d x %d: %d x %d", t[i].w, t[i].h, w, h);
    }
}

// ---- the map

static void make(const yd_attention_variant *v, yd_attention_norm norm, yd_attention_resize how, const float *raw, int gw, int gh, int head,
                 float *map, int w, int h)
{
    const yd_attention_map_options o = {.short_side = 224, .long_side = 480, .norm = norm, .resize = how};
    CHECK(yd_attention_map_make(v, &o, raw, gw, gh, head, map, w, h, NULL) == 0);
}

static int equals(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(a[i] - b[i]) < 1e-6f)) return 0;
    return 1;
}

static void test_norms(void)
{
    static const float raw[] = {-1, 1, 3, 7, /* flat */ 2, 2, 2, 2, /* none above 0 */ -3, -2, -1, 0};
    static const float minmax[] = {0, .25f, .5f, 1, 0, 0, 0, 0, 0, 1 / 3.f, 2 / 3.f, 1},
                       max[] = {0, 1 / 7.f, 3 / 7.f, 1, 1, 1, 1, 1, 0, 0, 0, 0};
    yd_attention_variant v = {.norm = YD_ATTENTION_NORM_MINMAX, .heads = 3};
    float map[4];
    for (int head = 0; head < 3; head++) {
        make(&v, YD_ATTENTION_NORM_OWN, YD_ATTENTION_NEAREST, raw, 2, 2, head, map, 2, 2);
        CHECK(equals(map, minmax + 4 * head, 4));
        make(&v, YD_ATTENTION_NORM_MAX, YD_ATTENTION_NEAREST, raw, 2, 2, head, map, 2, 2);
        CHECK(equals(map, max + 4 * head, 4));
    }
    v.norm = YD_ATTENTION_NORM_MAX;
    make(&v, YD_ATTENTION_NORM_OWN, YD_ATTENTION_BILINEAR, raw, 2, 2, 0, map, 2, 2);
    CHECK(equals(map, max, 4)); // its own; and a grid of the same size is taken as it is
    // All heads: the maximum and the mean of what each is in 0..1.
    make(&v, YD_ATTENTION_NORM_MINMAX, YD_ATTENTION_BICUBIC, raw, 2, 2, YD_ATTENTION_HEAD_MAX, map, 2, 2);
    CHECK(equals(map, (const float[]){0, 1 / 3.f, 2 / 3.f, 1}, 4));
    make(&v, YD_ATTENTION_NORM_MINMAX, YD_ATTENTION_NEAREST, raw, 2, 2, YD_ATTENTION_HEAD_AVG, map, 2, 2);
    CHECK(equals(map, (const float[]){0, (.25f + 1 / 3.f) / 3, (.5f + 2 / 3.f) / 3, 2 / 3.f}, 4));
}

static void test_percentile(void)
{
    enum { N = 200 };
    float raw[N], map[N];
    const yd_attention_variant v = {.norm = YD_ATTENTION_NORM_P99, .heads = 1};
    for (int i = 0; i < N; i++) raw[(i * 37) % N] = (float)(i - 9); // -9..190
    make(&v, YD_ATTENTION_NORM_OWN, YD_ATTENTION_NEAREST, raw, N, 1, 0, map, N, 1);
    for (int i = 0; i < N; i++) {
        const float x = raw[i] / 188; // the 198th of 200 values
        CHECK_MSG(fabsf(map[i] - (x < 0 ? 0 : x > 1 ? 1 : x)) < 1e-6f, "%g: %g", (double)raw[i], (double)map[i]);
    }
}

// Weights as written down: a = -0.75.
static double cubic(double x)
{
    x = fabs(x);
    return x <= 1 ? 1.25 * x * x * x - 2.25 * x * x + 1 : x < 2 ? -0.75 * x * x * x + 3.75 * x * x - 6 * x + 3 : 0;
}

static double linear(double x)
{
    return fabs(x) < 1 ? 1 - fabs(x) : 0;
}

static void test_resize(void)
{
    enum { GW = 5, GH = 3, W = 23, H = 16 };
    float raw[GW * GH], map[W * H];
    const yd_attention_variant v = {.norm = YD_ATTENTION_NORM_MAX, .heads = 1};
    for (int i = 0; i < GW * GH; i++) raw[i] = (float)((i * 7) % 15) / 14; // 0..1, so that the norm changes nothing
    for (int how = 0; how < 3; how++) {
        make(&v, YD_ATTENTION_NORM_OWN, (yd_attention_resize)how, raw, GW, GH, 0, map, W, H);
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++) {
                const double fy = (y + 0.5) * GH / H - 0.5, fx = (x + 0.5) * GW / W - 0.5;
                double want = 0;
                for (int j = -3; j < GH + 3; j++)
                    for (int i = -3; i < GW + 3; i++) {
                        const int jj = j < 0 ? 0 : j >= GH ? GH - 1 : j, ii = i < 0 ? 0 : i >= GW ? GW - 1 : i;
                        const double k = how == YD_ATTENTION_BILINEAR  ? linear(fy - j) * linear(fx - i)
                                         : how == YD_ATTENTION_BICUBIC ? cubic(fy - j) * cubic(fx - i)
                                                                       : j == (int)floor(fy + 0.5) && i == (int)floor(fx + 0.5);
                        want += k * (double)raw[jj * GW + ii];
                    }
                want = want < 0 ? 0 : want > 1 ? 1 : want;
                CHECK_MSG(fabs((double)map[y * W + x] - want) < 2e-6, "%d at %d,%d: %g, not %g", how, x, y, (double)map[y * W + x], want);
            }
    }
}

static void test_words(void)
{
    yd_err err = {0};
    yd_attention_norm n;
    yd_attention_resize r;
    for (int i = 0; i < 4; i++)
        CHECK(yd_attention_norm_parse("f", yd_attention_norm_name((yd_attention_norm)i), &n, NULL) == 0 && (int)n == i);
    for (int i = 0; i < 3; i++)
        CHECK(yd_attention_resize_parse("f", yd_attention_resize_name((yd_attention_resize)i), &r, NULL) == 0 && (int)r == i);
    CHECK(yd_attention_norm_parse("norm", "softmax", &n, &err) == YD_E_SETTING && strcmp(err.field, "norm") == 0 &&
          strstr(err.accepted, "p99"));
    CHECK(yd_attention_resize_parse("resize", "", &r, &err) == YD_E_SETTING && strcmp(err.field, "resize") == 0 &&
          strstr(err.accepted, "nearest"));
}

// ---- names

static const vit_rig first = {.dim = 64, .depth = 2, .patch = 8, .grid = 4, .hidden = 96},
                     second = {.dim = 128, .depth = 1, .patch = 16, .grid = 3, .hidden = 64};

static yd_attention_nets *load(const char *list, const char *wanted, int use_folder)
{
    yd_attention_nets *n = NULL;
    yd_err err = {0};
    const yd_attention_load from = {.list = list, .folder = use_folder ? folder : NULL, .wanted = wanted, .net = {.threads = 1}};
    CHECK(yd_attention_nets_new(&defaults, &n, &err) == 0);
    CHECK_MSG(n && yd_attention_nets_load(n, &from, &err) == 0, "%s", err.detail);
    return n;
}

static void write_files(void)
{
    FILE *f = fopen(in_folder("c.pth"), "w"); // nothing that anybody could read
    if (f) fputs("no model", f), fclose(f);
    vit_state = 3;
    CHECK(vit_rig_save(&first, NULL, in_folder("b.safetensors")) == 0);
    CHECK(vit_rig_save(&second, NULL, in_folder("a.safetensors")) == 0);
}

static void check_name(yd_attention_nets *n, const char *name, int net, int head)
{
    yd_attention_ref ref = {-9, -9, -9};
    yd_err err = {0};
    const int rc = yd_attention_nets_find(n, name, &ref, &err);
    if (net < 0)
        CHECK_MSG(rc == YD_E_SETTING && strcmp(err.field, "attention") == 0 && *err.accepted, "%s: %d", name, rc);
    else
        CHECK_MSG(rc == 0 && ref.net == net && ref.variant == 0 && ref.head == head, "%s: %d, net %d, head %d", name, rc, ref.net,
                  ref.head);
}

static void test_names(void)
{
    yd_err err = {0};
    yd_attention_ref ref;
    char list[256];
    write_files();
    yd_attention_nets *n = load("", NULL, 1);
    CHECK(yd_attention_nets_count(n) == 2 && strcmp(yd_attention_nets_name(n, 0), "dino-vit128x1-16") == 0); // in the order of files
    check_name(n, "dino-vit64x2-8", 1, YD_ATTENTION_HEAD_MAX);
    check_name(n, "dino-vit64x2-8:max", 1, YD_ATTENTION_HEAD_MAX);
    check_name(n, "dino-vit64x2-8:avg", 1, YD_ATTENTION_HEAD_AVG);
    check_name(n, "dino-vit128x1-16:0", 0, 0);
    check_name(n, "dino-vit128x1-16:1", 0, 1);
    static const char *const bad[] = {"dino-vit128x1-16:2",
                                      "dino-vit128x1-16:-1",
                                      "dino-vit128x1-16:",
                                      "dino-vit128x1-16:01",
                                      "dino-vit128x1-16:+1",
                                      "dino-vit128x1-16:99999999999",
                                      "dino-vit128x1-16: 1",
                                      "dino-vit128x1-16:MAX",
                                      "dino-vit128x1-1",
                                      "dino-vit128x1-16-agf",
                                      "dino-vits8:max",
                                      ":max",
                                      ":",
                                      "-"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) check_name(n, bad[i], -1, 0);
    CHECK(yd_attention_nets_find(n, "dino-vits8:max", &ref, &err) == YD_E_SETTING &&
          strstr(err.accepted, "dino-vit64x2-8 with :max, :avg or :0 to :0"));
    CHECK(yd_attention_nets_find(NULL, "dino-vits8", &ref, &err) == YD_E_SETTING && strstr(err.accepted, "no attention network"));
    yd_attention_nets_list(n, list, sizeof list);
    CHECK_MSG(strcmp(list, "dino-vit128x1-16 with :max, :avg or :0 to :1; dino-vit64x2-8 with :max, :avg or :0 to :0") == 0, "%s", list);
    CHECK(yd_attention_check("dino-vits8:max", NULL) == 0 && yd_attention_check("squeezenet", NULL) == 0 &&
          yd_attention_check("edge", NULL) == 0);
    CHECK(yd_attention_check("edges", &err) == YD_E_SETTING && yd_attention_check("", NULL) == YD_E_SETTING);
    CHECK(!yd_attention_file(in_folder("c.pth")) && yd_attention_file(in_folder("a.safetensors")) && !yd_attention_file(folder));
    yd_attention_nets_free(n);
}

static void refuse_list(const char *list, int code, const char *field)
{
    yd_attention_nets *n = NULL;
    yd_err err = {0};
    const yd_attention_load from = {.list = list};
    CHECK(yd_attention_nets_new(&defaults, &n, NULL) == 0);
    const int rc = yd_attention_nets_load(n, &from, &err);
    CHECK_MSG(rc == code && strcmp(err.field, field) == 0, "%s: %d, field '%s', %s", list, rc, err.field, err.detail);
    yd_attention_nets_free(n);
}

static void count_passed(void *arg, const char *path, const yd_err *err)
{
    CHECK(strstr(path, "b.safetensors") != NULL && err->detail[0]);
    ++*(int *)arg;
}

static void test_lists(void)
{
    char list[1024];
    int n_passed = 0;
    write_files();
    snprintf(list, sizeof list, "my-own.net=%s,%s", in_folder("b.safetensors"), in_folder("a.safetensors"));
    yd_attention_nets *n = load(list, NULL, 1); // what the list names is not taken from the folder again
    CHECK(yd_attention_nets_count(n) == 2 && strcmp(yd_attention_nets_name(n, 0), "my-own.net") == 0);
    yd_attention_nets_free(n);
    n = load(list, "my-own.net:avg", 1); // others are not kept
    CHECK(yd_attention_nets_count(n) == 1);
    yd_attention_nets_free(n);
    snprintf(list, sizeof list, "%s,%s", in_folder("b.safetensors"), in_folder("b.safetensors"));
    refuse_list(list, YD_E_CONFIG, "attention_nets");
    refuse_list("a,,b", YD_E_IO, "a");
    refuse_list(",", YD_E_CONFIG, "attention_nets");
    snprintf(list, sizeof list, "edge=%s", in_folder("b.safetensors"));
    refuse_list(list, YD_E_CONFIG, "attention_nets");
    snprintf(list, sizeof list, "a-b c=%s", in_folder("b.safetensors"));
    refuse_list(list, YD_E_CONFIG, "attention_nets");
    refuse_list("x-y=", YD_E_IO, "");
    snprintf(list, sizeof list, "dino-vit64x2-8=%s", in_folder("a.safetensors"));
    const yd_attention_load from = {.list = list, .folder = folder, .passed = count_passed, .arg = &n_passed};
    CHECK(yd_attention_nets_new(&defaults, &n, NULL) == 0 && yd_attention_nets_load(n, &from, NULL) == 0);
    CHECK(yd_attention_nets_count(n) == 1 && n_passed == 1); // its name is taken
    yd_attention_nets_free(n);
    const yd_attention_map_options odd[] = {
        {.short_side = 8, .long_side = 480}, {.short_side = 224, .long_side = 4000}, {.short_side = 224, .long_side = 100}};
    for (size_t i = 0; i < 3; i++) CHECK(yd_attention_nets_new(&odd[i], &n, NULL) == YD_E_SETTING && !n);
}

// ---- jobs

static yd_model_config model(yd_attention_nets *nets)
{
    yd_model_config cfg;
    yd_model_config_init(&cfg);
    cfg.scale = 4;
    cfg.window = 64;
    cfg.overlap = 8;
    cfg.nets = nets;
    return cfg;
}

static void paint(yd_image *im)
{
    CHECK(yd_image_alloc(im, 40, 32, 0, NULL) == 0);
    for (int i = 0; i < 40 * 32 * 3; i++) im->rgb[i] = (uint16_t)(257 * ((i * i / 50 + i / 7) % 256));
}

// In one piece and in two, with the map of yd_attention_compute on the upsampled picture; what a job's memory is counted as.
static void test_prepare(void)
{
    yd_image im = {0};
    yd_prepared one = {0}, two = {0};
    yd_err err = {0};
    float *raw = NULL;
    size_t plain, with_net;
    write_files();
    yd_attention_nets *nets = load("", NULL, 1);
    yd_model_config cfg = model(nets);
    yd_sample_settings set = cfg.defaults;
    paint(&im);
    CHECK(yd_setting_set(&set, "attention", "dino-vit64x2-8:0", &err) == 1 && yd_sampler_accepts(&cfg, &set, &err) == 0);
    CHECK_MSG(yd_prepare(&cfg, &set, NULL, &im, &one, &err) == 0, "%s", err.detail);
    CHECK(yd_prepare_begin(&cfg, &set, NULL, &im, &two, &err) == 0 && two.begun.awaits && two.begun.shown_w == 280 && two.begun.shown_h == 224 &&
          !two.sampler);
    CHECK(yd_attention_nets_look(nets, &two.begun.ref, two.begun.shown, two.begun.shown_w, two.begun.shown_h, &raw, &err) == 0);
    CHECK(yd_prepare_end(&cfg, &set, &two, raw, &err) == 0 && two.sampler && !two.begun.up && !two.begun.shown);
    const size_t px = (size_t)one.w * (size_t)one.h;
    float *map = malloc(px * sizeof *map);
    uint8_t *up = malloc(3 * px);
    uint16_t *up16 = malloc(3 * px * sizeof *up16);
    CHECK(yd_upsample(&im, one.w, one.h, up16, NULL) == 0);
    for (size_t i = 0; i < 3 * px; i++) up[i] = (uint8_t)(up16[i] / 257);
    const yd_attention_with with = {NULL, nets};
    CHECK(yd_attention_compute("dino-vit64x2-8:0", &with, up, one.w, one.h, map, &err) == 0);
    CHECK(memcmp(one.map, two.map, px * sizeof *map) == 0 && memcmp(one.map, map, px * sizeof *map) == 0);
    float low = 1, high = 0;
    for (size_t i = 0; i < px; i++) low = map[i] < low ? map[i] : low, high = map[i] > high ? map[i] : high;
    CHECK(low >= 0 && low < 0.2f && high > 0.8f && high <= 1);
    CHECK(yd_upscale_bytes(&cfg, &set, NULL, 40, 32, &with_net, NULL) == 0);
    snprintf(set.attention, sizeof set.attention, "edge");
    CHECK(yd_upscale_bytes(&cfg, &set, NULL, 40, 32, &plain, NULL) == 0);
    CHECK(with_net >= plain && with_net - plain <= yd_attention_nets_bytes(nets, &two.begun.ref) &&
          yd_attention_nets_bytes(nets, &two.begun.ref) > 480 * 224 * 15);
    cfg.nets = NULL;
    snprintf(set.attention, sizeof set.attention, "dino-vit64x2-8:0");
    CHECK(yd_sampler_accepts(&cfg, &set, &err) == YD_E_SETTING && strcmp(err.field, "attention") == 0);
    free(map);
    free(up);
    free(up16);
    yd_free(raw);
    yd_prepared_clear(&one);
    yd_prepared_clear(&two);
    yd_image_clear(&im);
    yd_attention_nets_free(nets);
}

static void fingerprint(yd_attention_nets *nets, const char *name, char *brief)
{
    yd_fingerprint fp;
    const yd_model_config cfg = model(nets);
    yd_fingerprint_make("sha256:abc", &cfg, NULL, YD_F32, name, &fp);
    snprintf(brief, sizeof fp.attention, "%s", fp.attention);
}

// The network's file and the options are part of what decides the bytes; the head is a setting.
static void test_fingerprint(void)
{
    char a[80], b[80], c[80], d[80];
    write_files();
    yd_attention_nets *n = load("", NULL, 1), *other = NULL;
    fingerprint(n, "dino-vit64x2-8:0", a);
    fingerprint(n, "dino-vit64x2-8:avg", b);
    fingerprint(n, "dino-vit128x1-16", c);
    CHECK_MSG(strlen(a) > 40 && strstr(a, " 224-480 own bilinear") && strcmp(a, b) == 0 && strcmp(a, c) != 0, "%s", a);
    fingerprint(n, "edge", d);
    CHECK(!*d);
    yd_attention_nets_free(n);
    const yd_attention_map_options o = {.short_side = 224, .long_side = 480, .norm = YD_ATTENTION_NORM_MAX};
    const yd_attention_load from = {.folder = folder};
    CHECK(yd_attention_nets_new(&o, &other, NULL) == 0);
    yd_attention_nets_later(other, &from); // read when it is looked for
    CHECK(yd_attention_nets_count(other) == 0);
    fingerprint(other, "dino-vit64x2-8", d);
    CHECK(yd_attention_nets_count(other) == 2 && strncmp(a, d, 32) == 0 && strcmp(a, d) != 0);
    yd_attention_nets_free(other);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"sizes that pictures are shown in", test_sizes},
        {"heads to 0..1, one or all", test_norms},
        {"the 99th percentile", test_percentile},
        {"to the grid: nearest, bilinear, bicubic", test_resize},
        {"words", test_words},
        {"names of networks and heads", test_names},
        {"lists and folders of files", test_lists},
        {"a job's map, in one piece and in two", test_prepare},
        {"the network is in the fingerprint", test_fingerprint},
    };
    if (!mkdtemp(folder)) return 1;
    const int rc = t_main(argc, argv, cases, sizeof cases / sizeof *cases);
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command) || rc;
}
