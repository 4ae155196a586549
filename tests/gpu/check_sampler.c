// Whole sampling runs on the backend: canvas, masks, windows and steps as a job has them, against what the CPU gave after the last step;
// two jobs in shared batches, their canvases on the device where it keeps any, against each alone; and bf16 against f32 on the model that ships.
#include "core/engine.h"
#include "core/mem.h"
#include "tests/gpu/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 176, HEIGHT = 152, BATCH = 4, NUMBERS = WIDTH * HEIGHT * 3 };

// A picture with slopes, edges and grain, and a map that leaves parts to the late steps and one corner out; in integers, the same everywhere.
static void draw_scene(uint16_t *rgb, float *map, int shift)
{
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            const int grain = (x * 73 + y * 151 + x * y * 29 + shift) % 256, edge = (x / 16 + y / 24) % 2;
            for (int k = 0; k < 3; k++)
                rgb[(y * WIDTH + x) * 3 + k] =
                    (uint16_t)(x * 150 + y * 120 + edge * 9000 + (x > WIDTH / 2 ? grain * 40 : 0) + k * 3000);
            map[y * WIDTH + x] = x < 24 && y < 24 ? 0.0f : (float)((x * 7 + y * 3 + shift) % 64) / 64.0f;
        }
}

static yd_sampler *make(const yd_model_config *cfg, const yd_sample_settings *set, int shift, yd_err *err)
{
    uint16_t *rgb = malloc(NUMBERS * sizeof *rgb);
    float *map = malloc((size_t)WIDTH * HEIGHT * sizeof *map);
    yd_sampler *s = NULL;
    draw_scene(rgb, map, shift);
    if (yd_sampler_new16(cfg, set, WIDTH, HEIGHT, rgb, map, &s, err)) s = NULL;
    free(rgb);
    free(map);
    return s;
}

// Run the samplers to their ends, taking their units in turn.
static int run_all(yd_engine *e, yd_sampler **s, int n, yd_err *err)
{
    for (;;) {
        yd_sampler *of[BATCH];
        yd_unit units[BATCH];
        int count = 0, more = 1, done[BATCH];
        yd_step_info info[BATCH];
        yd_err errs[BATCH] = {0};
        while (count < BATCH && more) {
            more = 0;
            for (int i = 0; i < n && count < BATCH; i++)
                if (yd_sampler_next(s[i], &units[count])) of[count++] = s[i], more = 1;
        }
        if (!count) return 0;
        int rc = yd_engine_run(e, of, units, count, done, info, errs);
        for (int i = 0; i < count && !rc; i++)
            if (done[i] < 0) rc = done[i], errs[0] = errs[i];
        if (rc) {
            *err = errs[0];
            return rc;
        }
    }
}

// The results of n jobs in shared batches, NUMBERS floats each; the caller frees them. NULL and *err.
static float *sample(check *c, const yd_model *m, const yd_sample_settings *set, const int *shift, int n, yd_dtype dt,
                     int resident, yd_err *err)
{
    const yd_engine_options opt = {.dtype = dt, .max_batch = BATCH, .resident = resident};
    yd_engine *e = NULL;
    yd_sampler *s[2] = {NULL, NULL};
    float *out = NULL;
    int rc = yd_engine_new(c->be, m, &opt, &e, err);
    for (int i = 0; i < n && !rc; i++) rc = (s[i] = make(&m->cfg, set, shift[i], err)) ? 0 : YD_E_INTERNAL;
    if (!rc) rc = run_all(e, s, n, err);
    if (!rc && (out = malloc((size_t)n * NUMBERS * sizeof *out)))
        for (int i = 0; i < n; i++)
            if (yd_sampler_done(s[i]))
                memcpy(out + (size_t)i * NUMBERS, yd_sampler_result(s[i]), NUMBERS * sizeof *out);
    for (int i = 0; i < n; i++) yd_sampler_free(s[i]);
    if (e) yd_engine_free(e);
    return out;
}

static void against_the_cpu(check *c, const yd_model *m, const char *name, const char *saved_as,
                            const yd_sample_settings *set)
{
    const int shift = 0;
    yd_err err = {0};
    if (!check_begin(c, "sampler", name)) return;
    float *f = sample(c, m, set, &shift, 1, YD_F32, 0, &err);
    const double diff = f ? saved_compare(c->saved, saved_as, f, NUMBERS) : INFINITY;
    if (!f) check_detail(c, "%s", err.detail);
    check_end(c, diff <= 1e-4, "f32, %d steps at %dx%d: off by %.1e of 1e-04", set->steps, WIDTH, HEIGHT, diff);
    free(f);
}

static void two_jobs(check *c, const yd_model *m, const yd_sample_settings *set)
{
    static const int shifts[2] = {0, 31};
    for (int half = 0; half < 2; half++) {
        yd_err err = {0};
        if (!check_begin(c, "sampler", half ? "two jobs in shared batches, bf16" : "two jobs in shared batches, f32"))
            continue;
        const yd_dtype dt = half ? YD_BF16 : YD_F32;
        float *both = sample(c, m, set, shifts, 2, dt, 1, &err);
        int unlike = 0;
        for (int i = 0; i < 2 && both; i++) {
            float *alone = sample(c, m, set, &shifts[i], 1, dt, 0, &err);
            unlike += !alone || memcmp(alone, both + (size_t)i * NUMBERS, NUMBERS * sizeof *alone) != 0;
            free(alone);
        }
        if (!both) check_detail(c, "%s", err.detail);
        check_end(c, both && !unlike, "canvases on the %s; each alone, on the host: %s",
                  c->be->canvas ? "device" : "host", both && !unlike ? "the same bits" : "other bits");
        free(both);
    }
}

static void half_precision(check *c, const yd_model *m, const yd_sample_settings *set)
{
    const int shift = 0;
    yd_err err = {0};
    if (!check_begin(c, "sampler", "the model that ships, bf16 against f32")) return;
    float *f = sample(c, m, set, &shift, 1, YD_F32, 0, &err),
          *h = f ? sample(c, m, set, &shift, 1, YD_BF16, 0, &err) : NULL;
    const double psnr = h ? check_psnr(h, f, NUMBERS) : 0;
    if (!h) check_detail(c, "%s", err.detail);
    check_end(c, psnr >= 45, "%.1f dB of at least 45", psnr);
    free(f);
    free(h);
}

void check_sampler(check *c)
{
    static const char json[] = "{\"format\": \"yoda-model-1\", \"name\": \"tiny\", \"network\": {\"type\": \"sr3\", "
                               "\"in_channel\": 6, \"out_channel\": 3, "
                               "\"inner_channel\": 16, \"channel_multiplier\": [1, 2], \"res_blocks\": 1, "
                               "\"norm_groups\": 8, \"attn_res\": [16], \"image_size\": 32}, "
                               "\"prediction\": \"eps\", \"target\": \"direct\", \"clip\": 1, \"schedule\": {\"kind\": "
                               "\"linear\", \"train_steps\": 200, \"start\": 1e-4, "
                               "\"end\": 5e-2}, \"scale\": 4, \"window\": 64, \"overlap\": 16}";
    yd_model_config cfg;
    yd_model *tiny = NULL, *ships = NULL;
    yd_err err = {0};
    int rc = yd_model_config_parse(json, sizeof json - 1, &cfg, &err);
    if (!rc) rc = yd_model_init(&cfg, 3, 0, &tiny, &err);
    if (!rc) rc = yd_model_load("models/yoda-compact-4x.safetensors", &ships, &err);
    if (rc) {
        if (check_begin(c, "sampler", "models")) check_end(c, 0, "%s", err.detail);
    } else {
        yd_sample_settings ancestral = tiny->cfg.defaults, ours = ships->cfg.defaults;
        ancestral.sampler = YD_SAMPLER_ANCESTRAL;
        ancestral.steps = 6;
        ancestral.seed = ours.seed = 11;
        ancestral.lower_bound = ours.lower_bound = 0.3;
        ancestral.skip = ours.skip = 1;
        against_the_cpu(c, tiny, "eps, ancestral, a mask that grows", "sample/ancestral", &ancestral);
        against_the_cpu(c, ships, "the model that ships", "sample/ships", &ours);
        two_jobs(c, ships, &ours);
        half_precision(c, ships, &ours);
    }
    yd_model_free(tiny);
    yd_model_free(ships);
}
