// One job's diffusion on one canvas: hands out windows, takes predictions back, moves the whole canvas one step at a time.
//
// Owns: z (the noisy canvas), acc (the blended prediction of the step), the activation steps, the preview. Deliberately not: the
// network, threads, pictures' encodings.
// Invariants
//   I1  z of a pixel is meaningful exactly while the pixel is on (a >= s); it is written first at s = a (Eq. 11's draw).
//   I2  Predictions are added to acc in window order, whatever order the device finishes in: scatter insists on it.
//   I3  Nothing that a skipped window would have produced is ever read.
//   I4  Every value of step s-1 depends on (seed, s, x, y) and step s alone: no state of a random generator exists.
// Threads: one at a time. The canvas update uses the caller's OpenMP team; rows are independent, so the bytes are not.
// Read next: core/windows.h, core/schedule.h, core/engine.c.
#include "core/sampler.h"
#include "core/attention.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/windows.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define ALLOCATION_SLACK 4096 // what the allocator adds to some twenty blocks: headers and alignment
#define BANDS            16   // the canvas is updated in so many bands of rows, each with its own noise row

struct yd_sampler {
    yd_model_config cfg;
    yd_sample_settings set;
    yd_schedule *sched;
    yd_windows win;
    int w, h;
    long pixels;
    float *z, *acc;      // [h*w*3]
    float *scratch;      // noise rows, one per band [BANDS * w*3]
    float *cond;         // [h*w*3] only after yd_sampler_set_condition, else NULL
    uint8_t *up, *shown; // up(LR) and the current prediction, [h*w*3]
    uint16_t *a;         // activation steps [h*w]
    uint16_t *row_max;   // largest a of each row [h]
    uint16_t *win_max;   // largest a of each window's pixels with weight > 0
    long *counts;        // pixels on at each step [S+1]
    const float *const *noise; // given draws, or NULL
    float byte_value[256];     // byte -> [-1,1]

    int step;      // s that is being worked on; 0 when done
    int cursor;    // next window to look at for handing out
    int expect;    // next window that scatter must bring
    int run;       // windows handed out and back in this step
};

// What one step of the update needs, rounded to float once.
typedef struct step_coefs {
    float x0_z, x0_pred;           // x0 = x0_z*z + x0_pred*pred, before clipping
    float z_x0, z_z, sigma;        // z' = z_x0*x0 + z_z*z + sigma*noise
    float on_mean, on_noise;       // a pixel that is switched on: on_mean*mean + on_noise*noise
    float clip;
    int last;
} step_coefs;

int yd_sample_settings_check(const yd_sample_settings *set, yd_err *err)
{
    const yd_attention_method *m;
    if (set->steps < 1 || set->steps > YD_MAX_STEPS)
        return yd_fail_field(err, YD_E_SETTING, "steps", "an integer from 1 to 4000", "steps is %d", set->steps);
    if (!(set->eta >= 0.0f && set->eta <= 1.0f))
        return yd_fail_field(err, YD_E_SETTING, "eta", "a number from 0 to 1", "eta is out of range");
    if (!(set->lower_bound >= 0.0 && set->lower_bound <= 1.0))
        return yd_fail_field(err, YD_E_SETTING, "lower_bound", "a number from 0 to 1", "lower_bound is out of range");
    if (set->lr_noise == YD_LR_LITERAL && set->sampler == YD_SAMPLER_DDIM && !(set->eta > 0.0f))
        return yd_fail_field(err, YD_E_SETTING, "lr_noise", "forward, or eta > 0", "lr_noise=literal draws with the sampler's sigma, which is 0 for eta=0");
    return yd_attention_find(set->attention, &m, err);
}

size_t yd_sampler_bytes(const yd_model_config *cfg, int w, int h)
{
    const int wh = cfg->window_height ? cfg->window_height : cfg->window;
    const size_t px = (size_t)w * (size_t)h, nx = (size_t)yd_windows_along(w, cfg->window, cfg->overlap),
                 ny = (size_t)yd_windows_along(h, wh, cfg->overlap);
    const size_t canvas = px * (2 * 3 * sizeof(float) + 2 * 3 + sizeof(uint16_t));
    const size_t rows = (size_t)w * BANDS * 3 * sizeof(float) + (size_t)h * sizeof(uint16_t);
    const size_t layout = nx * ((size_t)cfg->window + 1) * sizeof(float) + ny * ((size_t)wh + 1) * sizeof(float) + nx * ny * sizeof(uint16_t);
    const size_t steps = (YD_MAX_STEPS + 1) * (sizeof(long) + YD_SCHEDULE_BYTES_PER_STEP);
    return canvas + rows + layout + steps + sizeof(yd_sampler) + ALLOCATION_SLACK;
}

void yd_sampler_free(yd_sampler *s)
{
    if (!s) return;
    yd_schedule_free(s->sched);
    yd_windows_clear(&s->win);
    yd_free_aligned(s->z);
    yd_free_aligned(s->acc);
    yd_free_aligned(s->scratch);
    yd_free_aligned(s->cond);
    yd_free(s->up);
    yd_free(s->shown);
    yd_free(s->a);
    yd_free(s->row_max);
    yd_free(s->win_max);
    yd_free(s->counts);
    yd_free(s);
}

static int allocate(yd_sampler *s, yd_err *err)
{
    const size_t px = (size_t)s->pixels;
    s->z = yd_alloc_aligned(px * 3 * sizeof(float));
    s->acc = yd_alloc_aligned(px * 3 * sizeof(float));
    s->scratch = yd_alloc_aligned((size_t)BANDS * (size_t)s->w * 3 * sizeof(float));
    s->up = yd_malloc(px * 3);
    s->shown = yd_malloc(px * 3);
    s->a = yd_malloc(px * sizeof *s->a);
    s->row_max = yd_calloc((size_t)s->h, sizeof *s->row_max);
    s->win_max = yd_calloc((size_t)yd_windows_count(&s->win), sizeof *s->win_max);
    s->counts = yd_calloc((size_t)s->set.steps + 1, sizeof *s->counts);
    if (!s->z || !s->acc || !s->scratch || !s->up || !s->shown || !s->a || !s->row_max || !s->win_max || !s->counts)
        return yd_fail(err, YD_E_NOMEM, "no memory for a canvas of %dx%d pixels", s->w, s->h);
    return 0;
}

// The largest activation step among the pixels of window (ix, iy) that it has a say in.
static uint16_t window_max(const yd_sampler *s, int ix, int iy)
{
    const int ww = s->win.window_w, wh = s->win.window_h;
    const float *wx = s->win.x.weight + (size_t)ix * (size_t)ww, *wy = s->win.y.weight + (size_t)iy * (size_t)wh;
    uint16_t best = 0;
    for (int y = 0; y < wh; y++) {
        const int cy = s->win.y.start[iy] + y;
        if (!(wy[y] > 0.0f) || s->row_max[cy] <= best) continue;
        const uint16_t *row = s->a + (size_t)cy * (size_t)s->w + s->win.x.start[ix];
        for (int x = 0; x < ww; x++)
            if (wx[x] > 0.0f && row[x] > best) best = row[x];
    }
    return best;
}

static void plan_work(yd_sampler *s)
{
    yd_mask_counts(s->a, s->pixels, s->set.steps, s->counts);
    for (int y = 0; y < s->h; y++)
        for (int x = 0; x < s->w; x++) {
            uint16_t a = s->a[(size_t)y * (size_t)s->w + (size_t)x];
            if (a > s->row_max[y]) s->row_max[y] = a;
        }
    for (int iy = 0; iy < s->win.y.n; iy++)
        for (int ix = 0; ix < s->win.x.n; ix++) s->win_max[iy * s->win.x.n + ix] = window_max(s, ix, iy);
}

static float cond_at(const yd_sampler *s, size_t i)
{
    return s->cond ? s->cond[i] : s->byte_value[s->up[i]];
}

// The draw of (step, row y) for all its pixels: w*3 values.
static const float *noise_row(const yd_sampler *s, int step, int y, float *scratch)
{
    const size_t offset = (size_t)y * (size_t)s->w * 3;
    if (s->noise) return s->noise[step] + offset;
    yd_rng_row(s->set.seed, (uint32_t)step, (uint32_t)y, 0, s->w, 3, scratch);
    return scratch;
}

// Pixels of row y that are switched on for `step`: their first value (Eq. 11).
static void switch_on_row(yd_sampler *s, int y, int step, float mean_share, float noise_share, const float *noise)
{
    const uint16_t *a = s->a + (size_t)y * (size_t)s->w;
    const int residual = s->cfg.target == YD_TARGET_RESIDUAL;
    for (int x = 0; x < s->w; x++) {
        if (a[x] != step) continue;
        const size_t i = ((size_t)y * (size_t)s->w + (size_t)x) * 3;
        for (size_t c = 0; c < 3; c++) {
            float mean = residual ? 0.0f : cond_at(s, i + c);
            s->z[i + c] = mean_share * mean + noise_share * noise[(size_t)x * 3 + c];
        }
    }
}

int yd_sampler_done(const yd_sampler *s)
{
    return s->step == 0;
}

static int window_needed(const yd_sampler *s, int i)
{
    return !s->set.skip || s->win_max[i] >= s->step;
}

// The first window from i on that this step runs; the number of windows if there is none.
static int next_needed(const yd_sampler *s, int i)
{
    const int n = yd_windows_count(&s->win);
    while (i < n && !window_needed(s, i)) i++;
    return i;
}

int yd_sampler_idle_steps(const yd_sampler *s)
{
    int idle = 0;
    while (idle < s->set.steps && s->counts[s->set.steps - idle] == 0) idle++;
    return idle;
}

int yd_sampler_next(yd_sampler *s, yd_unit *u)
{
    if (s->step == 0) return 0;
    const int i = next_needed(s, s->cursor);
    s->cursor = i;
    if (i >= yd_windows_count(&s->win)) return 0;
    s->cursor = i + 1;
    *u = (yd_unit){.step = s->step, .window = i, .x = s->win.x.start[i % s->win.x.n], .y = s->win.y.start[i / s->win.x.n]};
    return 1;
}

// Mirror an index into 0..n-1 without repeating the border.
static int reflect(int i, int n)
{
    if (n == 1) return 0;
    const int period = 2 * (n - 1);
    i %= period;
    return i < n ? i : period - i;
}

// What the network is told about the noise of a step.
static float told(const yd_sampler *s, int step)
{
    const yd_schedule_config *cfg = &s->cfg.schedule;
    switch (s->cfg.noise_input) {
    case YD_NOISE_SQRT_GAMMA: return s->sched->sqrt_gamma[step];
    case YD_NOISE_SQRT_1M_GAMMA: return s->sched->sqrt_1m_gamma[step];
    case YD_NOISE_TIMESTEP: break;
    }
    const double tau = s->sched->tau[step], of = cfg->kind == YD_SCHEDULE_LINEAR ? cfg->train_steps : s->sched->steps;
    return yd_schedule_timestep(cfg, tau / of);
}

void yd_sampler_gather(const yd_sampler *s, const yd_unit *u, float *x, float *level)
{
    for (int dy = 0; dy < s->win.window_h; dy++) {
        const int cy = u->y + dy, ry = cy < s->h ? cy : reflect(cy, s->h);
        for (int dx = 0; dx < s->win.window_w; dx++, x += 6) {
            const int cx = u->x + dx, rx = cx < s->w ? cx : reflect(cx, s->w);
            const size_t p = (size_t)ry * (size_t)s->w + (size_t)rx;
            const int on = cx < s->w && cy < s->h && s->a[p] >= u->step;
            for (size_t c = 0; c < 3; c++) {
                x[c] = cond_at(s, p * 3 + c);
                x[3 + c] = on ? s->z[p * 3 + c] : 0.0f;
            }
        }
    }
    *level = told(s, u->step);
}

// acc += weight * pred over the window's part of the canvas; 0, or -1 when a value is not finite.
static int blend(yd_sampler *s, const yd_unit *u, const float *pred)
{
    const int ww = s->win.window_w, wh = s->win.window_h;
    const float *wx = s->win.x.weight + (size_t)(u->window % s->win.x.n) * (size_t)ww;
    const float *wy = s->win.y.weight + (size_t)(u->window / s->win.x.n) * (size_t)wh;
    const int rows = s->h - u->y < wh ? s->h - u->y : wh, cols = s->w - u->x < ww ? s->w - u->x : ww;
    float check = 0.0f;
    for (int dy = 0; dy < rows; dy++) {
        const float *src = pred + (size_t)dy * (size_t)ww * 3;
        float *dst = s->acc + ((size_t)(u->y + dy) * (size_t)s->w + (size_t)u->x) * 3;
        for (int i = 0; i < cols * 3; i++) check += src[i] * 0.0f;
        if (!(wy[dy] > 0.0f)) continue;
        for (int dx = 0; dx < cols; dx++) {
            const float weight = wy[dy] * wx[dx];
            if (!(weight > 0.0f)) continue;
            for (int c = 0; c < 3; c++) dst[dx * 3 + c] += weight * src[dx * 3 + c];
        }
    }
    return check == 0.0f ? 0 : -1;
}

// Coefficients of the update from step s to s-1, from double, by prediction type and sampler.
static void step_coefficients(const yd_sampler *s, step_coefs *k)
{
    const yd_schedule *sc = s->sched;
    const int t = s->step;
    const double g = sc->gamma[t], gp = sc->gamma[t - 1];
    k->clip = s->cfg.clip;
    k->last = t == 1;
    switch (s->cfg.prediction) {
    case YD_PREDICT_EPS: k->x0_z = sc->recip_sqrt_gamma[t], k->x0_pred = -sc->recipm1_sqrt_gamma[t]; break;
    case YD_PREDICT_X0: k->x0_z = 0.0f, k->x0_pred = 1.0f; break;
    case YD_PREDICT_V: k->x0_z = sc->sqrt_gamma[t], k->x0_pred = -sc->sqrt_1m_gamma[t]; break;
    }
    if (s->set.sampler == YD_SAMPLER_ANCESTRAL) {
        k->z_x0 = sc->coef_x0[t];
        k->z_z = sc->coef_z[t];
        k->sigma = s->set.variance == YD_VARIANCE_POSTERIOR ? sc->sigma_posterior[t] : sc->sigma_beta[t];
    } else { // DDIM (Song et al. 2021, Eq. 12): eps recovered from the clipped x0
        const double sigma = (double)s->set.eta * sqrt((1.0 - gp) / (1.0 - g) * (1.0 - g / gp));
        const double dir = sqrt(fmax(0.0, 1.0 - gp - sigma * sigma) / (1.0 - g));
        k->z_x0 = (float)(sqrt(gp) - dir * sqrt(g));
        k->z_z = (float)dir;
        k->sigma = (float)sigma;
    }
    if (k->last) k->sigma = 0.0f;
    if (s->set.lr_noise == YD_LR_FORWARD) {
        k->on_mean = sc->sqrt_gamma[t - 1];
        k->on_noise = sc->sqrt_1m_gamma[t - 1];
    } else {
        k->on_mean = 1.0f;
        k->on_noise = k->sigma;
    }
}

static uint8_t to_byte(float v)
{
    v = v < -1.0f ? -1.0f : v > 1.0f ? 1.0f : v;
    return (uint8_t)lrintf((v + 1.0f) * 127.5f);
}

// Row y from step s to s-1: pixels that are on take the sampler's step, pixels that come on get their first value.
static void update_row(yd_sampler *s, int y, const step_coefs *k, float *scratch)
{
    const int step = s->step;
    if (s->row_max[y] < step - 1) return;
    const size_t first = (size_t)y * (size_t)s->w;
    const float *noise = k->last ? NULL : noise_row(s, step - 1, y, scratch); // sigma is 0 in the last step
    const int residual = s->cfg.target == YD_TARGET_RESIDUAL;
    const float unscale = 1.0f / s->cfg.residual_scale;
    for (int x = 0; x < s->w; x++) {
        if (s->a[first + (size_t)x] < step) continue;
        const size_t i = (first + (size_t)x) * 3;
        for (size_t c = 0; c < 3; c++) {
            const float z = s->z[i + c];
            float x0 = k->x0_z * z + k->x0_pred * s->acc[i + c];
            if (k->clip > 0.0f) x0 = x0 < -k->clip ? -k->clip : x0 > k->clip ? k->clip : x0;
            const float mean = k->z_x0 * x0 + k->z_z * z;
            s->z[i + c] = k->sigma > 0.0f ? mean + k->sigma * noise[(size_t)x * 3 + c] : mean;
            s->shown[i + c] = to_byte(residual ? cond_at(s, i + c) + x0 * unscale : x0);
        }
    }
    if (!k->last) switch_on_row(s, y, step - 1, k->on_mean, k->on_noise, noise);
}

static void update_band(yd_sampler *s, int band, const step_coefs *k)
{
    float *scratch = s->scratch + (size_t)band * (size_t)s->w * 3;
    const int first = (int)((long)s->h * band / BANDS), end = (int)((long)s->h * (band + 1) / BANDS);
    for (int y = first; y < end; y++) update_row(s, y, k, scratch);
}

static void update_canvas(yd_sampler *s)
{
    step_coefs k;
    step_coefficients(s, &k);
#pragma omp parallel for schedule(static)
    for (int band = 0; band < BANDS; band++) update_band(s, band, &k);
}

// From the top: pixels on from the first step are pure noise, and steps that need no network at all are passed, which changes nothing
// but the pixels that come on after them. On the caller's thread alone: this runs where jobs are prepared, beside the compute threads.
static void start(yd_sampler *s)
{
    s->step = s->set.steps;
    for (int y = 0; y < s->h; y++)
        if (s->row_max[y] >= s->step) switch_on_row(s, y, s->step, 0.0f, 1.0f, noise_row(s, s->step, y, s->scratch));
    while (next_needed(s, 0) == yd_windows_count(&s->win)) { // ends: every pixel is on at step 1
        step_coefs k;
        step_coefficients(s, &k);
        for (int band = 0; band < BANDS; band++) update_band(s, band, &k);
        s->step--;
    }
    s->expect = next_needed(s, 0);
}

void yd_sampler_set_noise(yd_sampler *s, const float *const *noise)
{
    s->noise = noise;
    start(s);
}

int yd_sampler_set_condition(yd_sampler *s, const float *cond, yd_err *err)
{
    const size_t bytes = (size_t)s->pixels * 3 * sizeof(float);
    s->cond = yd_alloc_aligned(bytes);
    if (!s->cond) return yd_fail(err, YD_E_NOMEM, "no memory for the condition");
    memcpy(s->cond, cond, bytes);
    start(s);
    return 0;
}

int yd_sampler_new(const yd_model_config *cfg, const yd_sample_settings *set, int w, int h, const uint8_t *rgb, const float *map,
                   yd_sampler **out, yd_err *err)
{
    *out = NULL;
    int rc = yd_sample_settings_check(set, err);
    if (rc) return rc;
    if (w < 1 || h < 1 || w > 65535 || h > 65535) return yd_fail(err, YD_E_IMAGE_TOO_LARGE, "a canvas of %dx%d pixels cannot be made", w, h);
    yd_sampler *s = yd_calloc(1, sizeof *s);
    if (!s) return yd_fail(err, YD_E_NOMEM, "no memory for a sampler");
    s->cfg = *cfg;
    s->set = *set;
    s->w = w;
    s->h = h;
    s->pixels = (long)w * h;
    for (int i = 0; i < 256; i++) s->byte_value[i] = (float)(i / 255.0 * 2.0 - 1.0);
    rc = yd_schedule_make(&cfg->schedule, set->steps, &s->sched, err);
    if (!rc) rc = yd_windows_make(w, h, cfg->window, cfg->window_height ? cfg->window_height : cfg->window, cfg->overlap, &s->win, err);
    if (!rc) rc = allocate(s, err);
    if (rc) {
        yd_sampler_free(s);
        return rc;
    }
    memcpy(s->up, rgb, (size_t)s->pixels * 3);
    memcpy(s->shown, rgb, (size_t)s->pixels * 3);
    yd_mask_activation(map, s->pixels, set->steps, set->lower_bound, set->mask_form, s->a);
    plan_work(s);
    start(s);
    *out = s;
    return 0;
}

// All windows of the step are back: move on, and through steps that need no network.
static void finish_step(yd_sampler *s, yd_step_info *info)
{
    const int windows = yd_windows_count(&s->win);
    *info = (yd_step_info){.step = s->step, .steps = s->set.steps, .tau = s->sched->tau[s->step], .active = s->counts[s->step],
                           .pixels = s->pixels, .windows_run = s->run, .windows_skipped = windows - s->run};
    update_canvas(s);
    memset(s->acc, 0, (size_t)s->pixels * 3 * sizeof(float));
    s->step--;
    s->cursor = 0;
    s->run = 0;
    s->expect = s->step > 0 ? next_needed(s, 0) : 0;
    if (s->step == 0 && s->cfg.target == YD_TARGET_RESIDUAL) {
        const float unscale = 1.0f / s->cfg.residual_scale;
        for (size_t i = 0; i < (size_t)s->pixels * 3; i++) s->z[i] = cond_at(s, i) + s->z[i] * unscale;
    }
}

int yd_sampler_scatter(yd_sampler *s, const yd_unit *u, const float *pred, yd_step_info *info, yd_err *err)
{
    if (u->step != s->step || u->window != s->expect)
        return yd_fail(err, YD_E_INTERNAL, "window %d of step %d came back, window %d of step %d was expected", u->window, u->step, s->expect,
                       s->step);
    if (blend(s, u, pred))
        return yd_fail(err, YD_E_NUMERIC, "the network's prediction for window %d at step %d holds NaN or Inf", u->window, u->step);
    s->run++;
    s->expect = next_needed(s, u->window + 1);
    if (s->expect < yd_windows_count(&s->win)) return 0;
    finish_step(s, info);
    return 1;
}

void yd_sampler_work(const yd_sampler *s, yd_work *out)
{
    const int windows = yd_windows_count(&s->win);
    long units = 0;
    for (int i = 0; i < windows; i++) units += s->win_max[i];
    out->windows = windows;
    out->steps = s->set.steps;
    out->units_all = (long)windows * s->set.steps;
    out->units = s->set.skip ? units : out->units_all;
    out->pixel_share = yd_mask_share(s->a, s->pixels, s->set.steps);
}

void yd_sampler_preview(const yd_sampler *s, uint8_t *rgb)
{
    memcpy(rgb, s->shown, (size_t)s->pixels * 3);
}

void yd_sampler_mask(const yd_sampler *s, int step, uint8_t *mask)
{
    for (long i = 0; i < s->pixels; i++) mask[i] = s->a[i] >= step ? 255 : 0;
}

const uint16_t *yd_sampler_activation(const yd_sampler *s)
{
    return s->a;
}

const float *yd_sampler_result(const yd_sampler *s)
{
    return s->step == 0 ? s->z : NULL;
}
