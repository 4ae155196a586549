// Training: settings, pictures, draws, and short real trainings of a tiny network on pictures drawn here.
// Samples are checked against plain loops that index the picture from the crop's corner, not by strides as the code does.
#include "core/file.h"
#include "core/image.h"
#include "core/mem.h"
#include "core/output.h"
#include "core/resize.h"
#include "core/rng.h"
#include "core/safetensors.h"
#include "core/train/internal.h"
#include "t.h"

#include <sys/stat.h>
#include <unistd.h>

static char root[256]; // a folder of this run
static yd_backend *be;

// ---- helpers

static const char *in_root(const char *name)
{
    static char path[4][512];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, 512, "%s/%s", root, name);
    return p;
}

// Smooth colours with hard-edged discs and stripes: something that upsampling gets wrong and a network can learn.
static void draw_picture(yd_image *im, int w, int h, int variant)
{
    yd_err err;
    if (yd_image_alloc(im, w, h, 0, &err)) exit(2);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            uint16_t *p = im->rgb + 3 * (y * w + x);
            int dx = x - w / 2, dy = y - h / 3, disc = dx * dx + dy * dy < (10 + variant) * (10 + variant);
            int stripe = (x + 2 * y + variant * 3) / 5 % 2;
            p[0] = yd_widen((uint8_t)(disc ? 230 : 40 + x * 100 / w));
            p[1] = yd_widen((uint8_t)(stripe ? 180 : 60 + y * 100 / h));
            p[2] = yd_widen((uint8_t)(disc && stripe ? 20 : 120 + variant * 10));
        }
}

static void write_picture(const char *path, int w, int h, int variant)
{
    yd_image im = {0};
    yd_err err;
    void *bytes = NULL;
    size_t len = 0;
    yd_output png;
    yd_output_init(&png);
    png.effort = 1;
    draw_picture(&im, w, h, variant);
    if (yd_image_encode(&im, &png, &bytes, &len, &err) || yd_file_write_atomic(path, bytes, len, &err)) {
        printf("  cannot write %s: %s\n", path, err.detail);
        exit(2);
    }
    yd_free(bytes);
    yd_image_clear(&im);
}

static const char *picture_folder(void)
{
    static int made;
    if (!made++) {
        mkdir(in_root("pictures"), 0700);
        write_picture(in_root("pictures/b.png"), 66, 49, 1);
        write_picture(in_root("pictures/a.png"), 48, 48, 0);
        write_picture(in_root("pictures/c.PNG"), 40, 72, 2);
        if (yd_file_write_atomic(in_root("pictures/damaged.png"), "\x89PNG\r\n\x1a\nnothing", 15, NULL)) exit(2);
        if (yd_file_write_atomic(in_root("pictures/notes.txt"), "no picture", 10, NULL)) exit(2);
        write_picture(in_root("pictures/tiny.png"), 18, 15, 3); // 16 x 12 after cropping: smaller than the crop
    }
    return in_root("pictures");
}

static void tiny_config(yd_train_config *cfg, const char *out)
{
    yd_train_config_init(cfg);
    yd_net_config *n = &cfg->model.net;
    n->inner_channel = 8;
    n->n_levels = 2;
    n->mult[0] = 1;
    n->mult[1] = 2;
    n->res_blocks = 1;
    n->norm_groups = 4;
    n->n_attn = 0;
    n->unshuffle = 2;
    n->mid_attention = 0;
    n->noise_scale = 1000;
    cfg->model.noise_input = YD_NOISE_SQRT_1M_GAMMA;
    cfg->model.prediction = YD_PREDICT_X0;
    cfg->model.target = YD_TARGET_RESIDUAL;
    cfg->model.residual_scale = 4;
    cfg->model.clip = 3;
    cfg->model.schedule.kind = YD_SCHEDULE_COSINE;
    cfg->model.scale = 4;
    cfg->model.window = 16;
    cfg->model.overlap = 4;
    cfg->crop = 16;
    cfg->batch = 6;
    cfg->iterations = 20;
    cfg->warmup = 5;
    cfg->lr = 2e-3f;
    cfg->checkpoint_every_s = 0;
    cfg->dtype = YD_TRAIN_F32;
    cfg->out_dtype = YD_F32;
    snprintf(cfg->folder, sizeof cfg->folder, "%s", picture_folder());
    snprintf(cfg->out, sizeof cfg->out, "%s", in_root(out));
}

static int same_file(const char *a, const char *b)
{
    void *x = NULL, *y = NULL;
    size_t nx = 0, ny = 0;
    int same = !yd_file_read(a, 1 << 30, &x, &nx, NULL) && !yd_file_read(b, 1 << 30, &y, &ny, NULL) && nx == ny &&
               !memcmp(x, y, nx);
    yd_free(x);
    yd_free(y);
    return same;
}

// ---- settings

#define MODEL                                                                                                          \
    "{\"format\": \"yoda-model-1\", \"name\": \"a \\\"{model\\\" [\", \"network\": {\"type\": \"sr3\", "               \
    "\"inner_channel\": 8, "                                                                                           \
    "\"channel_multiplier\": [1, 2], \"res_blocks\": 1, \"norm_groups\": 4, \"attn_res\": [], \"unshuffle\": 2, "      \
    "\"mid_attention\": false}, \"scale\": 4, \"window\": 32, \"overlap\": 8}"

static int parse(const char *text, yd_train_config *cfg, yd_err *err)
{
    yd_err_clear(err);
    return yd_train_config_parse(text, strlen(text), cfg, err);
}

static void test_settings(void)
{
    yd_train_config c;
    yd_err e = {0};
    // "model" also as a value and below other keys: the slice must be the top-level member
    int rc =
        parse("{\"attention\": \"edge\", \"data\": {\"folder\": \"model\", \"scale\": 4}, \"out\": \"model\", "
              "\"model\" : " MODEL ", \"iterations\": 77, \"lr\": 1e-3, \"normaliser\": \"all\", \"lower_bound\": "
              "[0.1, 0.25], \"augment\": false, "
              "\"loss_weight\": {\"kind\": \"none\"}, \"dtype\": \"bf16\", \"seed\": 9007199254740991, \"crop\": 32}",
              &c, &e);
    CHECK_MSG(rc == 0, "%s", e.detail);
    CHECK(strcmp(c.folder, "model") == 0 && strcmp(c.model.name, "a \"{model\" [") == 0 &&
          c.model.net.inner_channel == 8);
    CHECK(c.iterations == 77 && c.lr == 1e-3f && c.normaliser == YD_NORMALISE_ALL && c.weight_kind == YD_WEIGHT_NONE);
    CHECK(c.lower_bound[0] == 0.1 && c.lower_bound[1] == 0.25 && c.augment == 0 && c.dtype == YD_TRAIN_BF16 &&
          c.crop == 32);
    CHECK(c.seed == 9007199254740991u && c.batch == 24 && c.ema == 0.999f);
}

static void test_settings_refused(void)
{
    static const struct {
        const char *text, *field;
    } bad[] = {
        {"{\"model\": " MODEL ", \"learning_rate\": 1}", "learning_rate"},
        {"{\"model\": " MODEL ", \"batch\": 0}", "batch"},
        {"{\"model\": " MODEL ", \"batch\": 2.5}", "batch"},
        {"{\"model\": " MODEL ", \"lr\": \"fast\"}", "lr"},
        {"{\"model\": " MODEL ", \"ema\": 1}", "ema"},
        {"{\"model\": " MODEL ", \"normaliser\": \"act\"}", "normaliser"},
        {"{\"model\": " MODEL ", \"normaliser\": \"active|all\"}", "normaliser"},
        {"{\"model\": " MODEL ", \"augment\": 1}", "augment"},
        {"{\"model\": " MODEL ", \"crop\": 66}", "crop"},
        {"{\"model\": " MODEL ", \"out\": \"\"}", "out"},
        {"{\"model\": " MODEL ", \"lower_bound\": [0.5, 0.1]}", "lower_bound"},
        {"{\"model\": " MODEL ", \"lower_bound\": 0.4}", "lower_bound"},
        {"{\"model\": " MODEL ", \"loss_weight\": {\"min\": 9}}", "loss_weight.min"},
        {"{\"model\": " MODEL ", \"loss_weight\": {\"least\": 9}}", "loss_weight.least"},
        {"{\"model\": " MODEL ", \"data\": []}", "data"},
        {"{\"model\": " MODEL ", \"degrade\": {\"preset\": \"severe\"}}", "degrade.preset"},
        {"{\"model\": " MODEL ", \"degrade\": {\"sharpen\": 1}}", "degrade.sharpen"},
        {"{\"model\": " MODEL ", \"degrade\": {\"share\": 2}}", "degrade.share"},
        {"{\"model\": " MODEL ", \"degrade\": {\"blur\": 1}}", "degrade.blur"},
        {"{\"model\": " MODEL ", \"degrade\": {\"jpeg\": [0, 50]}}", "degrade.jpeg"},
        {"{\"model\": " MODEL ", \"degrade\": {\"noise_share\": -1}}", "degrade.noise_share"},
        {"{\"model\": " MODEL ", \"data\": {\"scale\": 2}}", "data.scale"},
        {"{\"model\": " MODEL ", \"attention\": \"crystal ball\"}", "attention"},
        {"{\"model\": {\"format\": \"yoda-model-1\", \"network\": {\"type\": \"sr3\", \"inner_channel\": 0}}}",
         "inner_channel"},
        {"{\"batch\": 4}", "model"},
        {"{\"model\": \"{}\"}", "model"},
        {"[]", ""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        yd_train_config c;
        yd_err e = {0};
        int rc = parse(bad[i].text, &c, &e);
        CHECK_MSG(rc < 0 && strstr(e.field, bad[i].field) && e.detail[0], "%s: rc %d, field %s, %s", bad[i].text, rc,
                  e.field, e.detail);
    }
}

static void test_shipped_settings(void)
{
    yd_train_config c;
    yd_err e = {0};
    int rc = yd_train_config_load("models/yoda-compact-4x.train.json", &c, &e);
    CHECK_MSG(rc == 0, "%s", e.detail);
    CHECK(c.batch == 24 && c.crop == 64 && c.model.net.inner_channel == 48 && c.model.residual_scale == 4.0f &&
          c.model.clip == 3.0f);
    CHECK(c.model.prediction == YD_PREDICT_X0 && c.model.target == YD_TARGET_RESIDUAL &&
          c.model.schedule.kind == YD_SCHEDULE_COSINE);
}

static void test_checkpoint_path(void)
{
    char p[64];
    yd_err e = {0};
    CHECK(!yd_train_checkpoint_path("a/b.safetensors", p, sizeof p, &e) && !strcmp(p, "a/b.checkpoint.safetensors"));
    CHECK(!yd_train_checkpoint_path("b", p, sizeof p, &e) && !strcmp(p, "b.checkpoint.safetensors"));
    CHECK(yd_train_checkpoint_path("", p, sizeof p, &e) == YD_E_CONFIG);
    CHECK(yd_train_checkpoint_path("a-rather-long-name-that-does-not-fit.safetensors", p, 40, &e) == YD_E_CONFIG);
}

// ---- pictures

static int notices;
static void count_notice(void *user, const char *text)
{
    (void)user;
    notices++;
    CHECK_MSG(strstr(text, "damaged.png") || strstr(text, "tiny.png"), "%s", text);
}

static void test_folder(void)
{
    yd_train_config c;
    yd_err e = {0};
    yd_dataset *d = NULL;
    yd_train_options opt = {.notice = count_notice};
    tiny_config(&c, "unused");
    notices = 0;
    int rc = yd_dataset_load(&c, &opt, &d, &e);
    CHECK_MSG(rc == 0, "%s", e.detail);
    if (rc) return;
    CHECK(d->count == 3 && d->skipped == 2 && notices == 2);
    CHECK(d->pictures[0].w == 48 && d->pictures[1].w == 64 && d->pictures[1].h == 48 &&
          d->pictures[2].h == 72); // by name, cropped to 4
    yd_image im = {0};
    draw_picture(&im, 66, 49, 1);
    int same = 1;
    for (int y = 0; y < 48; y++)
        for (int i = 0; i < 64 * 3; i++) same &= yd_widen(d->pictures[1].hr[y * 64 * 3 + i]) == im.rgb[y * 66 * 3 + i];
    CHECK(same);
    CHECK(memcmp(d->pictures[1].hr, d->pictures[1].up, 64 * 48 * 3) != 0);
    yd_image_clear(&im);
    yd_dataset_free(d);

    mkdir(in_root("empty"), 0700);
    snprintf(c.folder, sizeof c.folder, "%s", in_root("empty"));
    CHECK(yd_dataset_load(&c, NULL, &d, &e) == YD_E_IMAGE && !d);
    snprintf(c.folder, sizeof c.folder, "%s", in_root("absent"));
    CHECK(yd_dataset_load(&c, NULL, &d, &e) == YD_E_IO && !d);
    tiny_config(&c, "unused");
    c.crop = 128;
    CHECK(yd_dataset_load(&c, NULL, &d, &e) == YD_E_IMAGE && !d);
}

// Procedural pictures stand behind the folder's, or alone; a share says how often they are drawn.
static void test_synthetic(void)
{
    yd_train_config c;
    yd_err e = {0};
    yd_dataset *d = NULL, *alone = NULL;
    tiny_config(&c, "unused");
    c.synthetic = 4;
    c.synthetic_share = 0.2f;
    CHECK_MSG(!yd_dataset_load(&c, NULL, &d, &e), "%s", e.detail);
    c.folder[0] = 0;
    CHECK_MSG(!yd_dataset_load(&c, NULL, &alone, &e), "%s", e.detail);
    if (!d || !alone) return;
    CHECK(d->count == 7 && d->real == 3 && alone->count == 4 && alone->real == 0);
    const yd_picture *p = &d->pictures[3], *q = &alone->pictures[0];
    CHECK(p->w == 256 && p->h == 256 && !memcmp(p->hr, q->hr, 256 * 256 * 3) && memcmp(p->hr, p->up, 256 * 256 * 3));
    CHECK(d->digest != alone->digest);
    int drawn = 0;
    for (uint64_t i = 0; i < 2000; i++) {
        yd_draw s;
        yd_draw_sample(&c, d, i, 0, &s);
        drawn += s.picture >= d->real;
        yd_draw_sample(&c, alone, i, 0, &s);
        CHECK(s.picture >= 0 && s.picture < 4);
    }
    CHECK_MSG(abs(drawn - 400) < 70, "%d of 2000 samples", drawn);
    yd_dataset_free(d);
    yd_dataset_free(alone);
    c.synthetic = 0;
    CHECK(yd_dataset_load(&c, NULL, &d, &e) == YD_E_CONFIG && !d && strstr(e.detail, "data.synthetic"));
    tiny_config(&c, "unused");
    c.synthetic = 9; // 9 * 256 * 256 * 7 bytes
    c.memory_mb = 3;
    CHECK(yd_dataset_load(&c, NULL, &d, &e) == YD_E_CONFIG && !d && !strcmp(e.field, "data.memory_mb"));
}

// ---- draws

static float clampf(float x, float a)
{
    return x > a ? a : x < -a ? -a : x;
}

// The definition, pixel by pixel: position (i, j) of the sample is position (x, y) of the picture.
static void check_sample(const yd_train_config *c, const yd_dataset *data, const yd_draw *d, const yd_batch *b, int n,
                         long active)
{
    const yd_picture *p = &data->pictures[d->picture];
    const int crop = c->crop;
    const float sg = (float)sqrt(d->gamma), s1 = (float)sqrt(1 - d->gamma);
    float noise[3 * 64];
    double worst = 0;
    long on = 0;
    int mask_wrong = 0;
    for (int i = 0; i < crop; i++) {
        yd_rng_row(d->noise_seed, 0, (uint32_t)i, 0, crop, 3, noise);
        for (int j = 0; j < crop; j++) {
            int sx = d->orientation & 4 ? i : j, sy = d->orientation & 4 ? j : i;
            int x = d->x + (d->orientation & 1 ? crop - 1 - sx : sx),
                y = d->y + (d->orientation & 2 ? crop - 1 - sy : sy);
            size_t at = (size_t)(y * p->w + x), o = (size_t)((n * crop + i) * crop + j);
            double a = p->map[at] / 255.0, l = d->lower_bound;
            int m = c->mask_form == YD_MASK_ADD ? a + l >= d->u - 1e-9 : fmax(a, l) >= d->u - 1e-9;
            on += m;
            mask_wrong += b->mask[o] != (float)m;
            for (int k = 0; k < 3; k++) {
                float hr = (float)p->hr[at * 3 + (size_t)k] / 127.5f - 1,
                      up = (float)p->up[at * 3 + (size_t)k] / 127.5f - 1;
                float y0 = c->model.target == YD_TARGET_RESIDUAL
                               ? clampf(c->model.residual_scale * (hr - up), c->model.clip)
                               : hr;
                float eps = noise[3 * j + k];
                const float mean = c->model.target == YD_TARGET_RESIDUAL ? 0 : up, rest = c->model.mask_input ? 0 : sg * mean + s1 * eps;
                float want = c->model.prediction == YD_PREDICT_X0    ? y0
                             : c->model.prediction == YD_PREDICT_EPS ? eps
                                                                     : sg * eps - s1 * y0;
                worst = fmax(worst, fabs((double)(b->target[o * 3 + (size_t)k] - want)));
                worst = fmax(worst, fabs((double)(b->x[o * 6 + (size_t)k] - up)));
                worst = fmax(worst, fabs((double)(b->x[o * 6 + 3 + (size_t)k] - (m ? sg * y0 + s1 * eps : rest))));
            }
        }
    }
    CHECK_MSG(worst < 3e-6, "largest difference %g, orientation %d", worst, d->orientation);
    CHECK(mask_wrong == 0 && on == active);
    const float told = c->model.noise_input == YD_NOISE_SQRT_GAMMA      ? sg
                       : c->model.noise_input == YD_NOISE_SQRT_1M_GAMMA ? s1
                                                                        : (float)fmax(0, d->u * c->model.schedule.train_steps - 1);
    CHECK_MSG(fabsf(b->level[n] - told) <= (c->model.noise_input == YD_NOISE_TIMESTEP ? 1e-3f : 0.0f), "told %.9g, not %.9g",
              (double)b->level[n], (double)told);
}

static void test_samples(void)
{
    yd_train_config c;
    yd_err e = {0};
    yd_dataset *data = NULL;
    yd_batch b;
    tiny_config(&c, "unused");
    CHECK(!yd_dataset_load(&c, NULL, &data, &e) && !yd_batch_alloc(&b, c.batch, c.crop, &e));
    int seen_orientation = 0, seen_picture = 0, partial = 0;
    double u_sum = 0;
    for (uint64_t i = 0; i < 96; i++) {
        yd_draw d, again;
        c.model.prediction = (yd_prediction)(i % 3);
        c.model.target = i / 3 % 2 ? YD_TARGET_RESIDUAL : YD_TARGET_DIRECT;
        c.mask_form = i / 6 % 2 ? YD_MASK_MAX : YD_MASK_ADD;
        c.model.noise_input = (yd_noise_input)(i / 12 % 3);
        c.model.mask_input = i / 36 % 2 == 0;
        yd_draw_sample(&c, data, i, 0, &d);
        yd_draw_sample(&c, data, i, 0, &again);
        CHECK(d.x == again.x && d.u == again.u && d.noise_seed == again.noise_seed);
        const yd_picture *p = &data->pictures[d.picture];
        CHECK(d.x >= 0 && d.y >= 0 && d.x + c.crop <= p->w && d.y + c.crop <= p->h);
        CHECK(d.u > 0 && d.u <= 1 && d.lower_bound >= c.lower_bound[0] && d.lower_bound <= c.lower_bound[1]);
        long active = yd_draw_fill(&c, data, &d, &b, (int)(i % (uint64_t)c.batch), &e);
        check_sample(&c, data, &d, &b, (int)(i % (uint64_t)c.batch), active);
        seen_orientation |= 1 << d.orientation;
        seen_picture |= 1 << d.picture;
        partial += active > 0 && active < c.crop * c.crop;
        u_sum += d.u;
    }
    CHECK(seen_orientation == 255 && seen_picture == 7 && partial > 10 && fabs(u_sum / 96 - 0.5) < 0.1);
    yd_batch_clear(&b);
    yd_dataset_free(data);
}

// With degradation: the network is shown the crop of the whole picture's degraded and enlarged version, and is to undo that.
static void test_degraded_samples(void)
{
    yd_train_config c;
    yd_err e = {0};
    yd_dataset *data = NULL;
    yd_batch b;
    tiny_config(&c, "unused");
    c.model.clip = 0;
    CHECK(!yd_degrade_preset("blind", &c.degrade, &e));
    c.degrade.any_phase = 1;
    CHECK(!yd_dataset_load(&c, NULL, &data, &e) && !yd_batch_alloc(&b, c.batch, c.crop, &e));
    double worst = 0;
    int other = 0;
    for (uint64_t i = 0; i < 48; i++) {
        yd_draw d;
        yd_draw_sample(&c, data, i, 0, &d);
        const yd_picture *p = &data->pictures[d.picture];
        const size_t n = (size_t)(p->w * p->h * 3);
        uint8_t *lr = yd_malloc(n / 16), *up = yd_malloc(n);
        CHECK(!yd_degrade_apply(p->hr, p->w, p->h, 4, &d.degradation, lr, &e));
        CHECK(!yd_resize_bicubic_u8(lr, p->w / 4, p->h / 4, 3, up, p->w, p->h, &e));
        CHECK(yd_draw_fill(&c, data, &d, &b, 0, &e) >= 0);
        for (int y = 0; y < c.crop; y++)
            for (int x = 0; x < c.crop; x++) {
                const int sx = d.orientation & 4 ? y : x, sy = d.orientation & 4 ? x : y;
                const int px = d.x + (d.orientation & 1 ? c.crop - 1 - sx : sx), py = d.y + (d.orientation & 2 ? c.crop - 1 - sy : sy);
                for (int k = 0; k < 3; k++) {
                    const size_t at = (size_t)((py * p->w + px) * 3 + k), o = (size_t)(y * c.crop + x);
                    worst = fmax(worst, fabs((double)b.x[o * 6 + (size_t)k] - (up[at] / 127.5 - 1)));
                    worst = fmax(worst, fabs((double)b.target[o * 3 + (size_t)k] - 4 * (p->hr[at] - up[at]) / 127.5));
                    other += up[at] != p->up[at];
                }
            }
        yd_free(lr);
        yd_free(up);
    }
    CHECK_MSG(worst < 3e-6 && other > 48 * 16 * 16, "largest difference %g, %d bytes degraded", worst, other);
    yd_batch_clear(&b);
    yd_dataset_free(data);
}

static void test_linear_levels(void)
{
    yd_train_config c;
    yd_err e = {0};
    yd_dataset *data = NULL;
    tiny_config(&c, "unused");
    c.model.schedule = (yd_schedule_config){.kind = YD_SCHEDULE_LINEAR, .train_steps = 10, .start = 1e-3, .end = 0.4};
    CHECK(!yd_dataset_load(&c, NULL, &data, &e));
    for (uint64_t i = 0; i < 50; i++) {
        yd_draw d;
        yd_draw_sample(&c, data, i, 0, &d);
        double t = d.u * 10, gamma = 1, below = 1;
        CHECK(fabs(t - round(t)) < 1e-9 && t > 0.5);
        for (int k = 1; k <= (int)round(t); k++) below = gamma, gamma *= 1 - (1e-3 + (0.4 - 1e-3) * (k - 1) / 9);
        CHECK_MSG(d.gamma >= gamma - 1e-9 && d.gamma <= below + 1e-9, "t %g: %g not in [%g, %g]", t, d.gamma, gamma,
                  below);
        // told the timestep, a network sees that timestep's noise and hears its number, counted from 0
        yd_batch b;
        c.model.noise_input = YD_NOISE_TIMESTEP;
        CHECK(!yd_batch_alloc(&b, c.batch, c.crop, &e));
        yd_draw_sample(&c, data, i, 0, &d);
        yd_draw_fill(&c, data, &d, &b, 0, &e);
        CHECK_MSG(fabs(d.gamma - gamma) < 1e-9 && b.level[0] == (float)(round(t) - 1), "t %g: gamma %g, told %g", t, d.gamma, (double)b.level[0]);
        yd_batch_clear(&b);
        c.model.noise_input = YD_NOISE_SQRT_1M_GAMMA;
    }
    yd_dataset_free(data);
}

static void test_batches(void)
{
    yd_train_config c;
    yd_err e = {0};
    yd_dataset *data = NULL;
    yd_batch b;
    yd_prefetch *p = NULL;
    tiny_config(&c, "unused");
    CHECK(!yd_dataset_load(&c, NULL, &data, &e) && !yd_batch_alloc(&b, c.batch, c.crop, &e));
    CHECK(!yd_prefetch_start(&c, data, 5, &p, &e));
    const size_t pixels = (size_t)(c.batch * c.crop * c.crop);
    float previous = 0;
    for (long k = 5; k < 12; k++) { // the helper's batches are those made here
        const yd_batch *ahead = yd_prefetch_next(p, &e);
        CHECK(ahead && !yd_batch_fill(&c, data, k, &b, &e));
        if (!ahead) break;
        CHECK(!memcmp(b.x, ahead->x, pixels * 6 * sizeof(float)) &&
              !memcmp(b.target, ahead->target, pixels * 3 * sizeof(float)));
        CHECK(!memcmp(b.mask, ahead->mask, pixels * sizeof(float)) &&
              !memcmp(b.weight, ahead->weight, (size_t)c.batch * sizeof(float)));
        CHECK(b.level[0] != previous);
        previous = b.level[0];
        double active = 0;
        for (size_t i = 0; i < pixels; i++) active += (double)b.mask[i];
        CHECK(active > 0 && fabs(active / (double)pixels - b.active_share) < 1e-9);
        for (int i = 0; i < c.batch; i++) {
            double w = (double)b.weight[i] * 3 * active;
            CHECK_MSG(w > 0.2 * 0.999 && w < 5 * 1.001, "weight %g", w);
        }
    }
    yd_prefetch_stop(p);
    yd_batch_clear(&b);
    yd_dataset_free(data);
}

// ---- trainings

typedef struct watch {
    double first, last;
    long calls, stop_at;
    volatile sig_atomic_t *stop;
} watch;

static void watch_progress(void *user, const yd_train_progress *p)
{
    watch *w = user;
    if (!w->calls++) w->first = p->loss;
    w->last = p->loss;
    if (w->stop && p->iteration == w->stop_at) *w->stop = 1;
}

static int train(const yd_train_config *c, yd_train_options *opt, yd_train_result *r, yd_err *e)
{
    yd_err_clear(e);
    *r = (yd_train_result){0};
    return yd_train(be, c, opt, r, e);
}

static void test_learns(void)
{
    yd_train_config c;
    yd_train_result r;
    yd_err e;
    watch w = {0};
    yd_train_options opt = {.progress = watch_progress, .user = &w};
    tiny_config(&c, "learns.safetensors");
    c.iterations = 80;
    c.batch = 12;
    int rc = train(&c, &opt, &r, &e);
    CHECK_MSG(rc == 0, "%s", e.detail);
    CHECK(r.finished && r.iteration == 80 && r.pictures == 3 && r.skipped == 2 && w.calls == 80);
    // of the untrained network, then the mean over all 80
    CHECK_MSG(w.last < 0.85 * w.first, "loss %g, then %g", w.first, w.last);
    yd_model *m = NULL;
    CHECK_MSG(!yd_model_load(c.out, &m, &e), "%s", e.detail);
    if (m) CHECK(m->cfg.target == YD_TARGET_RESIDUAL && m->cfg.net.inner_channel == 8);
    yd_model_free(m);
}

static void test_resume_is_exact(void)
{
    static const yd_train_dtype types[] = {YD_TRAIN_F32, YD_TRAIN_BF16};
    for (int k = 0; k < 2; k++) {
        yd_train_config a, b;
        yd_train_result r;
        yd_err e;
        yd_train_options opt = {.mode = YD_TRAIN_RESTART};
        tiny_config(&a, "straight.safetensors");
        tiny_config(&b, "parts.safetensors");
        a.dtype = b.dtype = types[k];
        if (k == 0) CHECK(!yd_degrade_preset("mild", &a.degrade, &e)); // drawn again alike
        b.degrade = a.degrade;
        int rc = train(&a, &opt, &r, &e);
        if (rc == YD_E_UNSUPPORTED && k) continue; // no bf16 kernels on this processor
        CHECK_MSG(rc == 0 && r.finished, "%s", e.detail);
        opt.stop_after = 10;
        CHECK_MSG(!train(&b, &opt, &r, &e) && r.iteration == 10 && !r.finished, "%s", e.detail);
        CHECK(!same_file(a.out, b.out));
        opt.mode = YD_TRAIN_RESUME;
        opt.stop_after = 0;
        CHECK_MSG(!train(&b, &opt, &r, &e) && r.iteration == 20 && r.finished, "%s", e.detail);
        CHECK(same_file(a.out, b.out));
        CHECK(same_file(in_root("straight.checkpoint.safetensors"), in_root("parts.checkpoint.safetensors")));
        // nothing left to do is no error, and the model file is there again, with the settings of now
        CHECK(unlink(b.out) == 0);
        CHECK(!train(&b, &opt, &r, &e) && r.iteration == 20 && r.finished);
        CHECK(same_file(a.out, b.out));
    }
}

static void test_checkpoint_parts(void)
{
    yd_safetensors *st = NULL;
    yd_err e = {0};
    int rc = yd_st_open(in_root("straight.checkpoint.safetensors"), &st, &e);
    CHECK_MSG(rc == 0, "%s", e.detail);
    if (rc) return;
    size_t moved = 0, n = yd_st_count(st) / 4;
    for (size_t i = 0; i < yd_st_count(st); i++) {
        const yd_st_tensor *m = yd_st_at(st, i), *v;
        char name[160];
        if (strncmp(m->name, "m/", 2) != 0) continue;
        snprintf(name, sizeof name, "v/%s", m->name + 2);
        v = yd_st_find(st, name);
        float x = 0;
        for (size_t k = 0; v && k < v->numel && x == 0; k++) memcpy(&x, (const char *)v->data + 4 * k, 4);
        moved += x != 0;
    }
    CHECK_MSG(moved == n && n > 10, "%zu of %zu second moments are not zero", moved, n);
    yd_st_close(st);
}

static void test_modes(void)
{
    yd_train_config c;
    yd_train_result r;
    yd_err e;
    yd_train_options opt = {.mode = YD_TRAIN_RESUME, .stop_after = 2};
    tiny_config(&c, "modes.safetensors");
    CHECK(train(&c, &opt, &r, &e) == YD_E_IO);
    opt.mode = YD_TRAIN_START;
    CHECK(!train(&c, &opt, &r, &e));
    CHECK(train(&c, &opt, &r, &e) == YD_E_CONFLICT);
    opt.mode = YD_TRAIN_RESUME;
    c.lr = 1e-3f;
    CHECK(train(&c, &opt, &r, &e) == YD_E_CONFLICT && !strcmp(e.field, "lr"));
    tiny_config(&c, "modes.safetensors");
    c.model.net.res_blocks = 2;
    CHECK(train(&c, &opt, &r, &e) == YD_E_CONFLICT && !strcmp(e.field, "model"));
    tiny_config(&c, "modes.safetensors");
    mkdir(in_root("others"), 0700);
    write_picture(in_root("others/a.png"), 48, 48, 5);
    snprintf(c.folder, sizeof c.folder, "%s", in_root("others"));
    CHECK(train(&c, &opt, &r, &e) == YD_E_CONFLICT && !strcmp(e.field, "data.folder"));
    tiny_config(&c, "modes.safetensors");
    c.iterations = 3; // may change
    CHECK_MSG(!train(&c, &opt, &r, &e) && r.finished && r.iteration == 3, "%s", e.detail);
    snprintf(c.out, sizeof c.out, "%s", in_root("from.safetensors"));
    opt = (yd_train_options){.init_model = in_root("modes.safetensors"), .stop_after = 1};
    CHECK_MSG(!train(&c, &opt, &r, &e), "%s", e.detail);
    c.model.net.res_blocks = 2;
    opt.mode = YD_TRAIN_RESTART;
    CHECK(train(&c, &opt, &r, &e) == YD_E_CONFIG);
}

static void test_stops(void)
{
    yd_train_config c;
    yd_train_result r;
    yd_err e;
    volatile sig_atomic_t stop = 0;
    watch w = {.stop = &stop, .stop_at = 4};
    yd_train_options opt = {.progress = watch_progress, .user = &w, .stop = &stop};
    tiny_config(&c, "stops.safetensors");
    CHECK(!train(&c, &opt, &r, &e) && r.iteration == 4 && !r.finished);
    CHECK(access(c.out, F_OK) == 0 && access(in_root("stops.checkpoint.safetensors"), F_OK) == 0);
    opt = (yd_train_options){.mode = YD_TRAIN_RESUME, .max_minutes = 1e-9};
    CHECK(!train(&c, &opt, &r, &e) && r.iteration == 4 && !r.finished);
}

static int (*real_run)(yd_exec *e, yd_err *err);
static yd_graph *nan_graph; // same tensors in the same order as the trainer's own
static int runs;
static int run_with_nan(yd_exec *e, yd_err *err)
{
    if (++runs == 3) be->buffer(e, yd_graph_find(nan_graph, "weight"))[0] = NAN;
    return real_run(e, err);
}

// The last convolution's weights.
static int run_with_bad_gradient(yd_exec *e, yd_err *err)
{
    int rc = real_run(e, err);
    for (int i = 0; i < nan_graph->n_tensors; i++)
        if (nan_graph->tensors[i].kind == YD_T_PGRAD && strncmp(nan_graph->tensors[i].name, "g.final", 7) == 0)
            be->buffer(e, i)[0] = INFINITY;
    return rc;
}

static void test_nan_stops(void)
{
    yd_train_config c;
    yd_train_result r;
    yd_err e;
    yd_train_options opt = {.stop_after = 1};
    tiny_config(&c, "nan.safetensors");
    CHECK(!train(&c, &opt, &r, &e));
    void *before = NULL, *after = NULL;
    size_t nb = 0, na = 0;
    CHECK(!yd_file_read(in_root("nan.checkpoint.safetensors"), 1 << 30, &before, &nb, &e));
    CHECK(!yd_net_build(&c.model.net, c.crop, c.crop, YD_F32, 1, &nan_graph, &e));
    yd_graph_backward(nan_graph, yd_graph_find(nan_graph, "out"), 1);
    real_run = be->run;
    be->run = run_with_nan;
    opt = (yd_train_options){.mode = YD_TRAIN_RESUME};
    int rc = train(&c, &opt, &r, &e);
    be->run = real_run;
    CHECK_MSG(rc == YD_E_NUMERIC && strstr(e.detail, "iteration 4") && strstr(e.detail, "input 'weight'"), "%d %s", rc,
              e.detail);
    be->run = run_with_bad_gradient;
    rc = train(&c, &opt, &r, &e);
    be->run = real_run;
    CHECK_MSG(rc == YD_E_NUMERIC && strstr(e.detail, "iteration 2") && strstr(e.detail, "gradient of 'final"), "%d %s",
              rc, e.detail);
    CHECK(!yd_file_read(in_root("nan.checkpoint.safetensors"), 1 << 30, &after, &na, &e));
    CHECK(na == nb && !memcmp(before, after, nb));
    yd_free(before);
    yd_free(after);
    yd_graph_free(nan_graph);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"train: settings", test_settings},
        {"train: settings refused", test_settings_refused},
        {"train: shipped settings", test_shipped_settings},
        {"train: checkpoint path", test_checkpoint_path},
        {"train: folder", test_folder},
        {"train: procedural pictures", test_synthetic},
        {"train: samples agree with their definition", test_samples},
        {"train: degraded samples are cut out of degraded pictures", test_degraded_samples},
        {"train: noise levels of a linear schedule", test_linear_levels},
        {"train: batches ahead of time are the same", test_batches},
        {"train: learns", test_learns},
        {"train: a resumed run ends in the same bytes", test_resume_is_exact},
        {"train: checkpoint holds the moments", test_checkpoint_parts},
        {"train: start, resume, restart", test_modes},
        {"train: stops cleanly", test_stops},
        {"train: NaN stops without harm", test_nan_stops},
    };
    yd_err e = {0};
    yd_cpu_prepare_process(argv);
    snprintf(root, sizeof root, "%s/yoda-train-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    const yd_cpu_options opt = {.threads = 2};
    if (!mkdtemp(root) || yd_image_init(&e) || yd_cpu_open(&opt, &be, &e)) {
        printf("  cannot begin: %s\n", e.detail);
        return 1;
    }
    int rc = t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
    be->close(be);
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command) ? 1 : rc;
}
