// One job's diffusion on one canvas: hands out windows, takes predictions back, moves the whole canvas one step at a time.
//
// Owns: z (the noisy canvas), acc (the blended prediction of the step), the activation steps, the preview. Deliberately not: the
// network, threads, pictures' encodings.
// Invariants
//   I1  z of a pixel is meaningful from its first step on (written before it by Eq. 11's draw), and read only at steps that the pixel takes,
//       a >= r(s) (core/mask.h): what it holds is at the noise level of the pixel's next step.
//   I2  Predictions are added to acc in window order, whatever order the device finishes in: scatter insists on it.
//   I3  Nothing that a skipped window would have produced is ever read.
//   I4  Every value of step s-1 depends on (seed, s, x, y) and step s alone: no state of a random generator exists.
// The loops over pixels are in sampler_rows.c. Threads: one at a time. The update of a large canvas uses the caller's OpenMP team; rows are independent, so the bytes are not.
// Read next: core/windows.h, core/schedule.h, core/engine.c.
#include "core/sampler.h"
#include "core/attention.h"
#include "core/image.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/sampler_internal.h"
#include "core/sampler_rows.h"
#include "core/windows.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define ALLOCATION_SLACK 4096 // what the allocator adds to some twenty blocks: headers and alignment
#define REST_RUN         64   // pixels whose noise is drawn at a time for the network to see
#define BANDS            16   // the canvas is updated in so many bands of rows, each with its own scratch
#define TEAM_PIXELS      (128 * 128) // a canvas that is no larger is updated by the caller alone

int yd_sample_settings_check(const yd_sample_settings *set, yd_err *err)
{
    if (set->steps < 1 || set->steps > YD_MAX_STEPS)
        return yd_fail_field(err, YD_E_SETTING, "steps", "an integer from 1 to 4000", "steps is %d", set->steps);
    if (!(set->eta >= 0.0f && set->eta <= 1.0f))
        return yd_fail_field(err, YD_E_SETTING, "eta", "a number from 0 to 1", "eta is out of range");
    if (set->spacing != 0.0 && !(set->spacing >= YD_SPACING_MIN && set->spacing <= YD_SPACING_MAX))
        return yd_fail_field(err, YD_E_SETTING, "spacing", "a number from 0.25 to 8", "spacing is out of range");
    if (!(set->lower_bound >= 0.0 && set->lower_bound <= 1.0))
        return yd_fail_field(err, YD_E_SETTING, "lower_bound", "a number from 0 to 1", "lower_bound is out of range");
    if (set->lr_noise == YD_LR_LITERAL && set->sampler != YD_SAMPLER_ANCESTRAL && !(set->eta > 0.0f))
        return yd_fail_field(err, YD_E_SETTING, "lr_noise", "forward, or eta > 0", "lr_noise=literal draws with the sampler's sigma, which is 0 for eta=0");
    if (!(set->fidelity >= 0.0 && set->fidelity <= 1.0))
        return yd_fail_field(err, YD_E_SETTING, "fidelity", "a number from 0 to 1", "fidelity is out of range");
    return yd_attention_check(set->attention, err);
}

int yd_sampler_accepts(const yd_model_config *cfg, const yd_sample_settings *set, yd_err *err)
{
    const yd_attention_with with = {cfg->map_net, cfg->nets};
    int rc = yd_sample_settings_check(set, err);
    if (!rc) rc = yd_attention_available(set->attention, &with, err);
    if (!rc && set->fidelity > 0.0 && cfg->prediction == YD_PREDICT_EPS)
        rc = yd_fail_field(err, YD_E_SETTING, "fidelity", "0 for this model",
                           "fidelity is %g, but the model predicts noise: its first prediction is no picture to be faithful to", set->fidelity);
    if (!rc && !cfg->mask_input && set->allocation != YD_ALLOCATION_LATE)
        rc = yd_fail_field(err, YD_E_SETTING, "allocation", "late for this model",
                           "allocation is not late, but the model's mask_input is false: it is shown pixels outside the mask at the step's noise "
                           "level, and one that rests between its steps is at another");
    return rc;
}

static int second_order(const yd_sample_settings *set)
{
    return set->sampler == YD_SAMPLER_DPMPP_2M;
}

size_t yd_sampler_bytes(const yd_model_config *cfg, const yd_sample_settings *set, int w, int h)
{
    const int wh = cfg->window_height ? cfg->window_height : cfg->window;
    const size_t px = (size_t)w * (size_t)h, nx = (size_t)yd_windows_along(w, cfg->window, cfg->overlap),
                 ny = (size_t)yd_windows_along(h, wh, cfg->overlap);
    const size_t canvases = 2 + (size_t)second_order(set) + (set->fidelity > 0.0);
    const size_t canvas = px * (canvases * 3 * sizeof(float) + 3 * (sizeof(uint16_t) + 1) + sizeof(uint16_t));
    const size_t rows = (size_t)w * BANDS * 2 * 3 * sizeof(float) + (size_t)h * sizeof(uint16_t);
    const size_t layout = nx * ((size_t)cfg->window + 1) * sizeof(float) + ny * ((size_t)wh + 1) * sizeof(float) + nx * ny * sizeof(uint16_t);
    const size_t steps = (YD_MAX_STEPS + 1) * (sizeof(long) + sizeof(uint16_t) + YD_SCHEDULE_BYTES_PER_STEP);
    const size_t exact = cfg->conditioning == YD_CONDITION_PILLOW8 ? 0 : px * 3 * sizeof(float);
    return canvas + exact + yd_sampler_encoder_bytes(cfg, w, h) + rows + layout + steps + sizeof(yd_sampler) + ALLOCATION_SLACK;
}

void yd_sampler_free(yd_sampler *s)
{
    if (!s) return;
    yd_sampler_device_forget(s);
    yd_schedule_free(s->sched);
    yd_windows_clear(&s->win);
    yd_free_aligned(s->z);
    yd_free_aligned(s->acc);
    yd_free_aligned(s->before);
    yd_free_aligned(s->first);
    yd_free_aligned(s->scratch);
    yd_free_aligned(s->cond);
    yd_sampler_encoder_free(s);
    yd_free(s->up);
    yd_free(s->shown);
    yd_free(s->a);
    yd_free(s->r);
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
    if (second_order(&s->set)) s->before = yd_alloc_aligned(px * 3 * sizeof(float));
    if (s->set.fidelity > 0.0) s->first = yd_alloc_aligned(px * 3 * sizeof(float));
    s->scratch = yd_alloc_aligned((size_t)BANDS * 2 * (size_t)s->w * 3 * sizeof(float));
    s->up = yd_malloc(px * 3 * sizeof *s->up);
    s->shown = yd_malloc(px * 3);
    s->a = yd_malloc(px * sizeof *s->a);
    s->r = yd_malloc(((size_t)s->set.steps + 1) * sizeof *s->r);
    s->row_max = yd_calloc((size_t)s->h, sizeof *s->row_max);
    s->win_max = yd_calloc((size_t)yd_windows_count(&s->win), sizeof *s->win_max);
    s->counts = yd_calloc((size_t)s->set.steps + 1, sizeof *s->counts);
    const int more = (!second_order(&s->set) || s->before) && (!(s->set.fidelity > 0.0) || s->first);
    if (!more || !s->z || !s->acc || !s->scratch || !s->up || !s->shown || !s->a || !s->r || !s->row_max || !s->win_max || !s->counts)
        return yd_fail(err, YD_E_NOMEM, "no memory for a canvas of %dx%d pixels", s->w, s->h);
    return 0;
}

static void plan_work(yd_sampler *s)
{
    if (s->set.allocation == YD_ALLOCATION_WINDOWS) yd_windows_level(&s->win, s->a, s->win_max);
    yd_mask_thresholds(s->set.allocation, s->set.steps, s->r);
    yd_mask_counts(s->a, s->pixels, s->set.steps, s->counts);
    for (int y = 0; y < s->h; y++)
        for (int x = 0; x < s->w; x++) {
            uint16_t a = s->a[(size_t)y * (size_t)s->w + (size_t)x];
            if (a > s->row_max[y]) s->row_max[y] = a;
        }
    yd_windows_max(&s->win, s->a, s->win_max);
}

// In double, so that a byte v, held as v * 257, has the value that v / 255 * 2 - 1 rounds to.
static float cond_at(const yd_sampler *s, size_t i)
{
    return s->cond ? s->cond[i] : (float)(s->up[i] / 65535.0 * 2.0 - 1.0);
}

// The draw of (step, row y) for all its pixels: w*3 values.
static const float *noise_row(const yd_sampler *s, int step, int y, float *scratch)
{
    const size_t offset = (size_t)y * (size_t)s->w * 3;
    if (s->noise) return s->noise[step] + offset;
    yd_rng_row(s->set.seed, (uint32_t)step, (uint32_t)y, 0, s->w, 3, scratch);
    return scratch;
}

// The condition of row y as floats.
static const float *condition_row(const yd_sampler *s, int y, float *scratch)
{
    const size_t offset = (size_t)y * (size_t)s->w * 3;
    if (s->cond) return s->cond + offset;
    yd_rows_condition(s->up + offset, 3 * s->w, scratch);
    return scratch;
}

int yd_sampler_done(const yd_sampler *s)
{
    return s->step == 0;
}

static int window_needed(const yd_sampler *s, int i)
{
    return !s->set.skip || s->win_max[i] >= s->r[s->step];
}

// The first window from i on that this step runs; the number of windows if there is none.
int yd_sampler_next_needed(const yd_sampler *s, int i)
{
    const int n = yd_windows_count(&s->win);
    while (i < n && !window_needed(s, i)) i++;
    return i;
}

int yd_sampler_idle_steps(const yd_sampler *s)
{
    int idle = 0;
    while (idle < s->set.steps && s->counts[s->r[s->set.steps - idle]] == 0) idle++;
    return idle;
}

int yd_sampler_next(yd_sampler *s, yd_unit *u)
{
    if (s->step == 0) return 0;
    const int i = yd_sampler_next_needed(s, s->cursor);
    s->cursor = i;
    if (i >= yd_windows_count(&s->win)) return 0;
    s->cursor = i + 1;
    *u = (yd_unit){.step = s->step, .window = i, .x = s->win.x.start[i % s->win.x.n], .y = s->win.y.start[i / s->win.x.n]};
    return 1;
}

void yd_sampler_put_back(yd_sampler *s)
{
    s->cursor = s->expect;
}

int yd_sampler_reflect(int i, int n)
{
    if (n == 1) return 0;
    const int period = 2 * (n - 1);
    i %= period;
    return i < n ? i : period - i;
}

// What the network is told about the noise of a step.
float yd_sampler_told(const yd_sampler *s, int step)
{
    const yd_schedule_config *cfg = &s->cfg.schedule;
    switch (s->cfg.noise_input) {
    case YD_NOISE_SQRT_GAMMA: return s->sched->sqrt_gamma[step];
    case YD_NOISE_SQRT_1M_GAMMA: return s->sched->sqrt_1m_gamma[step];
    case YD_NOISE_TIMESTEP: break;
    }
    return yd_schedule_timestep(cfg, yd_schedule_position(s->sched, cfg, step));
}

// Of the network's input: the condition and z, or z alone.
static int in_channels(const yd_sampler *s)
{
    return yd_net_has_encoder(&s->cfg.net) ? 3 : 6;
}

// Pixels at rest as Eq. 11 would draw them for this step. Nothing of it is kept, so that windows may be skipped as ever (I3, I4).
static void show_rest(const yd_sampler *s, int step, size_t p, int from, int n, float *x)
{
    float drawn[3 * REST_RUN];
    const int channels = in_channels(s);
    for (int count; n > 0; n -= count, p += (size_t)count, x += channels * count) {
        const uint32_t row = (uint32_t)(p / (size_t)s->w), col = (uint32_t)(p % (size_t)s->w);
        count = n < REST_RUN ? n : REST_RUN;
        if (!s->noise) yd_rng_row(s->set.seed, (uint32_t)step, row, col, count, 3, drawn);
        yd_rows_show_rest(s->a + p, from, s->sched->sqrt_gamma[step], s->sched->sqrt_1m_gamma[step], s->cfg.target == YD_TARGET_RESIDUAL,
                          s->noise ? s->noise[step] + p * 3 : drawn, count, channels, x);
    }
}

// n pixels of one row of the canvas from p on, all of them shown as off where `from` is out of reach.
static float *gather_run(const yd_sampler *s, int step, size_t p, int from, int n, float *x)
{
    if (in_channels(s) == 3) yd_rows_gather_z(s->z + p * 3, s->a + p, from, n, x);
    else yd_rows_gather(s->up + p * 3, s->cond ? s->cond + p * 3 : NULL, s->z + p * 3, s->a + p, from, n, x);
    if (!s->cfg.mask_input) show_rest(s, step, p, from, n, x);
    return x + (size_t)n * (size_t)in_channels(s);
}

void yd_sampler_gather(const yd_sampler *s, const yd_unit *u, float *x, float *level)
{
    const int cols = s->w - u->x < s->win.window_w ? s->w - u->x : s->win.window_w;
    for (int dy = 0; dy < s->win.window_h; dy++) {
        const int cy = u->y + dy, beyond = cy >= s->h;
        const size_t row = (size_t)(beyond ? yd_sampler_reflect(cy, s->h) : cy) * (size_t)s->w;
        x = gather_run(s, u->step, row + (size_t)u->x, beyond ? INT_MAX : s->r[u->step], cols, x);
        for (int cx = u->x + cols; cx < u->x + s->win.window_w; cx++)
            x = gather_run(s, u->step, row + (size_t)yd_sampler_reflect(cx, s->w), INT_MAX, 1, x);
    }
    *level = yd_sampler_told(s, u->step);
}

// acc += weight * pred over the window's part of the canvas; 0, or -1 when a value is not finite.
static int blend(yd_sampler *s, const yd_unit *u, const float *pred)
{
    const int ww = s->win.window_w, wh = s->win.window_h;
    const float *wx = s->win.x.weight + (size_t)(u->window % s->win.x.n) * (size_t)ww;
    const float *wy = s->win.y.weight + (size_t)(u->window / s->win.x.n) * (size_t)wh;
    const int rows = s->h - u->y < wh ? s->h - u->y : wh, cols = s->w - u->x < ww ? s->w - u->x : ww;
    int rc = 0;
    for (int dy = 0; dy < rows; dy++) {
        float *acc = s->acc + ((size_t)(u->y + dy) * (size_t)s->w + (size_t)u->x) * 3;
        rc |= yd_rows_blend(acc, pred + (size_t)dy * (size_t)ww * 3, wy[dy], wx, cols);
    }
    return rc;
}

// How far a second-order step follows the line of the last two predictions: half the ratio of this step's to the last one's length in
// log(sqrt(gamma)/sqrt(1-gamma)). A first step has no line, and the last ends without noise: its prediction is the result.
static float ahead(const yd_schedule *sc, int before, int at, int next)
{
    const int step[3] = {before, at, next};
    double level[3];
    if (before == 0 || next == 0) return 0.0f;
    for (int i = 0; i < 3; i++) level[i] = 0.5 * log(sc->gamma[step[i]] / (1.0 - sc->gamma[step[i]]));
    return (float)((level[2] - level[1]) / (2.0 * (level[1] - level[0])));
}

// How z is made of x0, z and noise on the way from step t to the level of `next`.
static void set_sampler(const yd_sampler *s, int t, int next, yd_step_coefs *k)
{
    const double g = s->sched->gamma[t], gp = s->sched->gamma[next];
    if (s->set.sampler == YD_SAMPLER_ANCESTRAL) {
        const yd_schedule_jump j = yd_schedule_jump_of(s->sched, t, next);
        k->z_x0 = j.coef_x0;
        k->z_z = j.coef_z;
        k->sigma = s->set.variance == YD_VARIANCE_POSTERIOR ? j.sigma_posterior : j.sigma_beta;
    } else { // DDIM (Song et al. 2021, Eq. 12): eps recovered from the clipped x0
        const double sigma = (double)s->set.eta * sqrt((1.0 - gp) / (1.0 - g) * (1.0 - g / gp));
        const double dir = sqrt(fmax(0.0, 1.0 - gp - sigma * sigma) / (1.0 - g));
        k->z_x0 = (float)(sqrt(gp) - dir * sqrt(g));
        k->z_z = (float)dir;
        k->sigma = (float)sigma;
    }
}

// Coefficients of one move of the step, from double, by prediction type and sampler.
static void move_coefficients(const yd_sampler *s, const yd_mask_move *m, yd_step_coefs *k)
{
    const yd_schedule *sc = s->sched;
    const int t = s->step;
    k->from = m->from;
    k->to = m->to;
    k->older = m->older;
    k->clip = s->cfg.clip;
    k->first = (float)s->set.fidelity;
    k->last = m->next == 0;
    k->unscale = s->cfg.target == YD_TARGET_RESIDUAL ? 1.0f / s->cfg.residual_scale : 0.0f;
    switch (s->cfg.prediction) {
    case YD_PREDICT_EPS: k->x0_z = sc->recip_sqrt_gamma[t], k->x0_pred = -sc->recipm1_sqrt_gamma[t]; break;
    case YD_PREDICT_X0: k->x0_z = 0.0f, k->x0_pred = 1.0f; break;
    case YD_PREDICT_V: k->x0_z = sc->sqrt_gamma[t], k->x0_pred = -sc->sqrt_1m_gamma[t]; break;
    }
    set_sampler(s, t, m->next, k);
    if (k->last) k->sigma = 0.0f;
    k->ahead = s->before ? ahead(sc, m->before, t, m->next) : 0.0f;
    if (s->set.lr_noise == YD_LR_FORWARD) {
        k->on_mean = sc->sqrt_gamma[t - 1];
        k->on_noise = sc->sqrt_1m_gamma[t - 1];
    } else {
        k->on_mean = 1.0f;
        k->on_noise = k->sigma;
    }
}

static void plan_step(const yd_sampler *s, yd_canvas_step *p)
{
    yd_mask_move move[YD_MASK_MOVES];
    p->n = yd_mask_moves(s->r, s->set.steps, s->step, move);
    p->late = s->set.allocation == YD_ALLOCATION_LATE;
    for (int i = 0; i < p->n; i++) {
        move_coefficients(s, &move[i], &p->coefs[i]);
        p->next[i] = move[i].next;
    }
}

static int any_in(const uint16_t *a, int n, int from, int to)
{
    int found = 0;
    for (int x = 0; x < n; x++) found |= (a[x] >= from) & (a[x] <= to);
    return found;
}

// The pixels of row y that make this move; in a late allocation also those that come on after it.
static void move_row(yd_sampler *s, int y, const yd_canvas_step *p, int move, const float *cond, float *scratch)
{
    const size_t first = (size_t)y * (size_t)s->w;
    const yd_step_coefs *k = &p->coefs[move];
    const int next = p->next[move];
    if (!p->late && !any_in(s->a + first, s->w, k->from, k->to)) return;
    const float *noise = k->last ? NULL : noise_row(s, next, y, scratch); // sigma is 0 in the last step
    yd_rows_update(k, s->a + first, cond, s->acc + first * 3, noise, s->w, s->before ? s->before + first * 3 : NULL,
                   s->first ? s->first + first * 3 : NULL, s->z + first * 3, s->shown + first * 3);
    if (p->late && !k->last)
        yd_rows_switch_on(s->a + first, next, next, k->on_mean, k->on_noise, k->unscale != 0.0f ? NULL : cond, noise, s->w,
                          s->z + first * 3);
}

// Row y takes the step. The predictions of the step are used up: acc is zero again.
static void update_row(yd_sampler *s, int y, const yd_canvas_step *p, float *scratch)
{
    const int coming = p->late && s->step > 1; // pixels of one step less have to be drawn
    if (s->row_max[y] >= s->r[s->step] - coming) {
        const float *cond = condition_row(s, y, scratch + (size_t)s->w * 3);
        for (int i = 0; i < p->n; i++) move_row(s, y, p, i, cond, scratch);
    }
    memset(s->acc + (size_t)y * (size_t)s->w * 3, 0, (size_t)s->w * 3 * sizeof *s->acc);
}

static void update_band(yd_sampler *s, int band, const yd_canvas_step *p)
{
    float *scratch = s->scratch + (size_t)band * 2 * (size_t)s->w * 3;
    const int first = (int)((long)s->h * band / BANDS), end = (int)((long)s->h * (band + 1) / BANDS);
    for (int y = first; y < end; y++) update_row(s, y, p, scratch);
}

static void update_bands(yd_sampler *s, const yd_canvas_step *p)
{
    for (int band = 0; band < BANDS; band++) update_band(s, band, p);
}

// A team is worth waiting for where there is enough to share. Measured with two cores: 64 x 64 pixels take 40 us alone, 20 us with a team
// that is awake, 160 us with one that sleeps because the network ran elsewhere, and milliseconds where somebody else has its cores.
static int update_canvas(yd_sampler *s, yd_err *err)
{
    yd_canvas_step p;
    plan_step(s, &p);
    if (s->device.be) return yd_sampler_device_step(s, &p, err);
    if (s->pixels <= TEAM_PIXELS) {
        update_bands(s, &p);
        return 0;
    }
#pragma omp parallel for schedule(static)
    for (int band = 0; band < BANDS; band++) update_band(s, band, &p);
    return 0;
}

// A step that needs no network. On the caller's thread alone: this runs where jobs are prepared, too, beside the compute threads.
static int idle_step(yd_sampler *s, yd_err *err)
{
    yd_canvas_step p;
    plan_step(s, &p);
    if (s->device.be) return yd_sampler_device_step(s, &p, err);
    update_bands(s, &p);
    return 0;
}

// Pass steps that need no network at all. In a late allocation they come first, and pixels come on after them; in a strided one they
// lie between others and nothing happens.
static int pass_idle_steps(yd_sampler *s, yd_err *err)
{
    while (s->step > 0 && yd_sampler_next_needed(s, 0) == yd_windows_count(&s->win)) {
        int rc = s->set.allocation == YD_ALLOCATION_LATE ? idle_step(s, err) : 0;
        if (rc) return rc;
        s->step--;
    }
    s->expect = s->step > 0 ? yd_sampler_next_needed(s, 0) : 0;
    return 0;
}

// From the top: pixels that take the first step are pure noise.
void yd_sampler_start(yd_sampler *s)
{
    s->step = s->set.steps;
    s->cursor = s->run = 0;
    for (int y = 0; y < s->h; y++)
        if (s->row_max[y] >= s->r[s->step]) {
            const size_t first = (size_t)y * (size_t)s->w;
            yd_rows_switch_on(s->a + first, s->r[s->step], UINT16_MAX, 0.0f, 1.0f, NULL, noise_row(s, s->step, y, s->scratch), s->w,
                              s->z + first * 3);
        }
    (void)pass_idle_steps(s, NULL); // every pixel has a step, so one is left; on the host nothing of it fails
}

void yd_sampler_set_noise(yd_sampler *s, const float *const *noise)
{
    s->noise = noise;
    yd_sampler_start(s);
}

static int keep_condition(yd_sampler *s, const float *cond, yd_err *err)
{
    const size_t bytes = (size_t)s->pixels * 3 * sizeof(float);
    if (!s->cond) s->cond = yd_alloc_aligned(bytes);
    if (!s->cond) return yd_fail(err, YD_E_NOMEM, "no memory for the condition");
    memcpy(s->cond, cond, bytes);
    return 0;
}

int yd_sampler_set_condition(yd_sampler *s, const float *cond, yd_err *err)
{
    int rc = keep_condition(s, cond, err);
    if (!rc) yd_sampler_start(s);
    return rc;
}

// A sampler with everything but its pictures.
static int make(const yd_model_config *cfg, const yd_sample_settings *set, int w, int h, yd_sampler **out, yd_err *err)
{
    *out = NULL;
    int rc = yd_sampler_accepts(cfg, set, err);
    if (rc) return rc;
    if (w < 1 || h < 1 || w > 65535 || h > 65535) return yd_fail(err, YD_E_IMAGE_TOO_LARGE, "a canvas of %dx%d pixels cannot be made", w, h);
    yd_sampler *s = yd_calloc(1, sizeof *s);
    if (!s) return yd_fail(err, YD_E_NOMEM, "no memory for a sampler");
    s->cfg = *cfg;
    s->set = *set;
    s->w = w;
    s->h = h;
    s->pixels = (long)w * h;
    rc = yd_schedule_make(&cfg->schedule, set->steps, set->spacing, &s->sched, err);
    const int align = yd_net_has_encoder(&cfg->net) ? cfg->net.up_scale : 1; // an encoder's picture is cut between its pixels
    if (!rc)
        rc = yd_windows_make_aligned(w, h, cfg->window, cfg->window_height ? cfg->window_height : cfg->window, cfg->overlap, align, &s->win, err);
    if (!rc) rc = allocate(s, err);
    if (rc) {
        yd_sampler_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

// up is filled in: the rest of what the job begins with.
static void settle(yd_sampler *s, const float *map)
{
    for (size_t i = 0; i < (size_t)s->pixels * 3; i++) s->shown[i] = yd_narrow(s->up[i]);
    yd_mask_activation(map, s->pixels, s->set.steps, s->set.lower_bound, s->set.mask_form, s->a);
    plan_work(s);
    yd_sampler_start(s);
}

int yd_sampler_new_from(const yd_model_config *cfg, const yd_sample_settings *set, int w, int h, const yd_sampler_picture *picture,
                        const float *map, yd_sampler **out, yd_err *err)
{
    int rc = make(cfg, set, w, h, out, err);
    if (rc) return rc;
    yd_sampler *s = *out;
    memcpy(s->up, picture->up, (size_t)s->pixels * 3 * sizeof *s->up);
    if (picture->exact) rc = keep_condition(s, picture->exact, err);
    if (!rc && yd_net_has_encoder(&cfg->net)) rc = yd_sampler_encoder_new(s, picture->lr, err);
    if (rc) {
        yd_sampler_free(s);
        *out = NULL;
        return rc;
    }
    settle(s, map);
    return 0;
}

int yd_sampler_new16(const yd_model_config *cfg, const yd_sample_settings *set, int w, int h, const uint16_t *rgb, const float *map,
                     yd_sampler **out, yd_err *err)
{
    return yd_sampler_new_from(cfg, set, w, h, &(yd_sampler_picture){.up = rgb}, map, out, err);
}

int yd_sampler_new(const yd_model_config *cfg, const yd_sample_settings *set, int w, int h, const uint8_t *rgb, const float *map,
                   yd_sampler **out, yd_err *err)
{
    int rc = make(cfg, set, w, h, out, err);
    if (rc) return rc;
    for (size_t i = 0; i < (size_t)(*out)->pixels * 3; i++) (*out)->up[i] = yd_widen(rgb[i]);
    settle(*out, map);
    return 0;
}

// The canvas becomes the result: what fidelity holds back is mixed in, and a residual is put on what it is a residual of.
static void finish(yd_sampler *s)
{
    const float unscale = 1.0f / s->cfg.residual_scale, first = (float)s->set.fidelity;
    const size_t n = (size_t)s->pixels * 3;
    for (size_t i = 0; s->first && i < n; i++) s->z[i] = yd_rows_mix(first, s->z[i], s->first[i]);
    for (size_t i = 0; s->cfg.target == YD_TARGET_RESIDUAL && i < n; i++) s->z[i] = cond_at(s, i) + s->z[i] * unscale;
}

// All windows of the step are back: move on, and through steps that need no network.
static int finish_step(yd_sampler *s, yd_step_info *info, yd_err *err)
{
    const int windows = yd_windows_count(&s->win);
    *info = (yd_step_info){.step = s->step, .steps = s->set.steps, .tau = s->sched->tau[s->step], .active = s->counts[s->r[s->step]],
                           .pixels = s->pixels, .windows_run = s->run, .windows_skipped = windows - s->run};
    int rc = update_canvas(s, err);
    if (rc) return rc;
    s->step--;
    s->cursor = 0;
    s->run = 0;
    rc = pass_idle_steps(s, err);
    info->left = s->step;
    if (!rc && s->step == 0) rc = yd_sampler_leave(s, err); // the result is the host's
    if (rc) return rc;
    if (s->step == 0) finish(s);
    return 1;
}

static int check_turn(const yd_sampler *s, const yd_unit *u, yd_err *err)
{
    if (u->step == s->step && u->window == s->expect) return 0;
    return yd_fail(err, YD_E_INTERNAL, "window %d of step %d came back, window %d of step %d was expected", u->window, u->step, s->expect, s->step);
}

// The unit's prediction is in acc, unless it is `bad`.
static int took(yd_sampler *s, const yd_unit *u, int bad, yd_step_info *info, yd_err *err)
{
    if (bad) return yd_fail(err, YD_E_NUMERIC, "the network's prediction for window %d at step %d holds NaN or Inf", u->window, u->step);
    s->run++;
    s->expect = yd_sampler_next_needed(s, u->window + 1);
    return s->expect < yd_windows_count(&s->win) ? 0 : finish_step(s, info, err);
}

int yd_sampler_scatter(yd_sampler *s, const yd_unit *u, const float *pred, yd_step_info *info, yd_err *err)
{
    int rc = check_turn(s, u, err);
    return rc ? rc : took(s, u, blend(s, u, pred), info, err);
}

int yd_sampler_device_took(yd_sampler *s, const yd_unit *u, int bad, yd_step_info *info, yd_err *err)
{
    int rc = check_turn(s, u, err);
    return rc ? rc : took(s, u, bad, info, err);
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
    out->steps_left = s->step;
    out->units_left = (s->step == s->set.steps ? out->units : 0) - s->run;
    for (int step = s->step; step < s->set.steps && step > 0; step--)
        for (int i = 0; i < windows; i++) out->units_left += !s->set.skip || s->win_max[i] >= s->r[step];
}

void yd_sampler_preview(const yd_sampler *s, uint8_t *rgb)
{
    yd_sampler_device_show(s);
    memcpy(rgb, s->shown, (size_t)s->pixels * 3);
}

void yd_sampler_mask(const yd_sampler *s, int step, uint8_t *mask)
{
    for (long i = 0; i < s->pixels; i++) mask[i] = s->a[i] >= s->r[step] ? 255 : 0;
}

const uint16_t *yd_sampler_activation(const yd_sampler *s)
{
    return s->a;
}

const float *yd_sampler_result(const yd_sampler *s)
{
    return s->step == 0 ? s->z : NULL;
}

static uint16_t to_word(float v)
{
    v = v < -1.0f ? -1.0f : v > 1.0f ? 1.0f : v;
    return (uint16_t)lrint(((double)v + 1.0) * 32767.5);
}

int yd_sampler_result16(const yd_sampler *s, uint16_t *rgb)
{
    for (size_t i = 0; s->step == 0 && i < (size_t)s->pixels * 3; i++) rgb[i] = to_word(s->z[i]);
    return s->step == 0;
}
