// One training sample, from nothing but the settings, the pictures and its number: which crop, which noise level, which mask, which
// noise. Nothing is carried from sample to sample, so a resumed run goes on with the same draws, and batches can be made ahead of
// time on another thread.
//
// Sample i of iteration k has the number (k-1)*batch + i. Its uniform draws are yd_rng_uniform(seed, STREAM, number, lane); its noise
// is the Philox field of a seed of its own.
// A draw whose mask is empty (flat crop, high noise level) would teach nothing and cost as much as any other; it is drawn again, a bounded
// number of times. That samples the same loss, since empty masks add zero to it.
// Read next: core/train/prefetch.c
#include "core/mem.h"
#include "core/resize.h"
#include "core/rng.h"
#include "core/simd.h"
#include "core/train/internal.h"

#include <math.h>
#include <string.h>

enum { STREAM_TRAIN = 0x7472u, LANES = 8, MAX_ATTEMPTS = 8 };
enum { LANE_PICTURE, LANE_X, LANE_Y, LANE_ORIENTATION, LANE_POSITION, LANE_BOUND, LANE_SYNTHETIC };

int yd_batch_alloc(yd_batch *b, int n, int crop, yd_err *err)
{
    const size_t pixels = (size_t)n * (size_t)crop * (size_t)crop; // n and crop are at most 1024
    memset(b, 0, sizeof *b);
    b->n = n;
    b->crop = crop;
    b->x = yd_alloc_aligned(pixels * 6 * sizeof(float));
    b->target = yd_alloc_aligned(pixels * 3 * sizeof(float));
    b->mask = yd_alloc_aligned(pixels * sizeof(float));
    b->level = yd_alloc_aligned((size_t)n * sizeof(float));
    b->weight = yd_alloc_aligned((size_t)n * sizeof(float));
    b->noise = yd_alloc_aligned((size_t)crop * 3 * sizeof(float));
    if (b->x && b->target && b->mask && b->level && b->weight && b->noise) return 0;
    yd_batch_clear(b);
    return yd_fail(err, YD_E_NOMEM, "out of memory for a batch of %d crops of %d x %d", n, crop, crop);
}

void yd_batch_clear(yd_batch *b)
{
    yd_free_aligned(b->x);
    yd_free_aligned(b->target);
    yd_free_aligned(b->mask);
    yd_free_aligned(b->level);
    yd_free_aligned(b->weight);
    yd_free_aligned(b->noise);
    memset(b, 0, sizeof *b);
}

// A bijection of 64 bits that spreads neighbouring numbers apart (Stafford's variant 13 of the MurmurHash3 finaliser).
static uint64_t mix64(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static int draw_below(const yd_train_config *cfg, uint64_t index, uint32_t lane, int n)
{
    int i = (int)(yd_rng_uniform(cfg->seed, STREAM_TRAIN, index, lane) * (float)n);
    return i < n ? i : n - 1; // the product may round up to n
}

// Any picture, or with a share first whether it is a procedural one.
static int draw_picture(const yd_train_config *cfg, const yd_dataset *data, uint64_t index, uint32_t lane)
{
    const int drawn = data->count - data->real;
    if (!(cfg->synthetic_share > 0) || !drawn || !data->real) return draw_below(cfg, index, lane + LANE_PICTURE, data->count);
    return yd_rng_uniform(cfg->seed, STREAM_TRAIN, index, lane + LANE_SYNTHETIC) < cfg->synthetic_share
               ? data->real + draw_below(cfg, index, lane + LANE_PICTURE, drawn)
               : draw_below(cfg, index, lane + LANE_PICTURE, data->real);
}

// The noise level. A cosine schedule is continuous; a linear one has steps, and SR3 draws sqrt(gamma) uniformly within the step while the
// mask stays that of the step. A network that is told the timestep sees the noise of that timestep.
static void draw_level(const yd_model_config *m, double u, yd_draw *d)
{
    const yd_schedule_config *s = &m->schedule;
    if (s->kind == YD_SCHEDULE_COSINE) {
        d->u = u;
        d->gamma = yd_schedule_gamma(s, u);
        return;
    }
    double t = ceil(u * s->train_steps), frac = m->noise_input == YD_NOISE_TIMESTEP ? 0.0 : t - u * s->train_steps;
    double low = sqrt(yd_schedule_gamma(s, t / s->train_steps)),
           high = sqrt(yd_schedule_gamma(s, (t - 1) / s->train_steps));
    double level = low + frac * (high - low);
    d->u = t / s->train_steps;
    d->gamma = level * level;
}

void yd_draw_sample(const yd_train_config *cfg, const yd_dataset *data, uint64_t index, int attempt, yd_draw *d)
{
    const uint32_t lane = (uint32_t)attempt * LANES;
    d->picture = draw_picture(cfg, data, index, lane);
    const yd_picture *p = &data->pictures[d->picture];
    d->x = draw_below(cfg, index, lane + LANE_X, p->w - cfg->crop + 1);
    d->y = draw_below(cfg, index, lane + LANE_Y, p->h - cfg->crop + 1);
    d->orientation = cfg->augment ? draw_below(cfg, index, lane + LANE_ORIENTATION, 8) : 0;
    draw_level(&cfg->model, 1.0 - (double)yd_rng_uniform(cfg->seed, STREAM_TRAIN, index, lane + LANE_POSITION), d);
    double r = (double)yd_rng_uniform(cfg->seed, STREAM_TRAIN, index, lane + LANE_BOUND);
    d->lower_bound = cfg->lower_bound[0] + r * (cfg->lower_bound[1] - cfg->lower_bound[0]);
    d->noise_seed = mix64(cfg->seed + 0x9e3779b97f4a7c15u * (index * MAX_ATTEMPTS + (uint64_t)attempt + 1));
    yd_degrade_draw(&cfg->degrade, cfg->seed, index * MAX_ATTEMPTS + (uint64_t)attempt, &d->degradation);
}

static int is_clean(const yd_degradation *d)
{
    return !(d->blur > 0) && !(d->noise > 0) && !d->jpeg && d->reduction == YD_REDUCE_PILLOW8;
}

// The degraded LR pixels that decide the crop, enlarged: two beyond it on each side, which is as far as the bicubic kernel reaches.
static int degraded_input(const yd_train_config *cfg, const yd_picture *p, const yd_draw *d, yd_input *in, yd_err *err)
{
    enum { REACH = 2 };
    const int scale = cfg->model.scale, lw = p->w / scale, lh = p->h / scale;
    const int x0 = d->x / scale > REACH ? d->x / scale - REACH : 0, y0 = d->y / scale > REACH ? d->y / scale - REACH : 0;
    int x1 = (d->x + cfg->crop - 1) / scale + 1 + REACH, y1 = (d->y + cfg->crop - 1) / scale + 1 + REACH;
    x1 = x1 < lw ? x1 : lw;
    y1 = y1 < lh ? y1 : lh;
    const int pw = x1 - x0, ph = y1 - y0;
    const size_t n = (size_t)pw * (size_t)ph * 3; // a crop's side is at most 1024
    uint8_t *lr = yd_malloc(n);
    in->own = yd_malloc(n * (size_t)scale * (size_t)scale);
    int rc = lr && in->own ? 0 : yd_fail(err, YD_E_NOMEM, "out of memory for a degraded crop");
    if (!rc) rc = yd_degrade_patch(p->hr, p->w, p->h, scale, &d->degradation, x0, y0, pw, ph, lr, err);
    if (!rc) rc = yd_resize_bicubic_u8(lr, pw, ph, 3, in->own, pw * scale, ph * scale, err);
    yd_free(lr);
    in->rgb = in->own;
    in->stride = pw * scale;
    in->x = x0 * scale;
    in->y = y0 * scale;
    if (rc) yd_input_clear(in);
    return rc;
}

int yd_draw_input(const yd_train_config *cfg, const yd_dataset *data, const yd_draw *d, yd_input *in, yd_err *err)
{
    const yd_picture *p = &data->pictures[d->picture];
    *in = (yd_input){.rgb = p->up, .stride = p->w};
    return is_clean(&d->degradation) ? 0 : degraded_input(cfg, p, d, in, err);
}

void yd_input_clear(yd_input *in)
{
    yd_free(in->own);
    in->own = NULL;
}

// Everything that filling a row of a sample needs.
typedef struct row_job {
    const uint8_t *hr, *up, *map; // first pixel of the row in the picture
    long step, up_step; // pixels from one to the next along the row; rows of a rotated crop run down the picture
    int n;
    uint8_t threshold;                // a pixel is on when its map byte reaches this ...
    int always, never;                // ... or whatever its byte says
    float hr_mul, up_mul, add, clamp; // y = clamp(hr*hr_mul + up*up_mul + add); clamp 0 = none
    float sqrt_gamma, sqrt_1m_gamma;
    float target_y, target_eps; // target = target_y*y + target_eps*eps
    int show_rest;      // the network is shown pixels that are off, as rest_up*(the condition) + noise
    float rest_up;
    const float *noise;
    float *x, *target, *mask;
} row_job;

// Returns the number of active pixels.
YD_SIMD static long fill_row(const row_job *r)
{
    long active = 0;
    for (int i = 0; i < r->n; i++) {
        const long at = (long)i * r->step, up_at = (long)i * r->up_step;
        const float m = r->always || (!r->never && r->map[at] >= r->threshold) ? 1.0f : 0.0f;
        active += m > 0;
        r->mask[i] = m;
        for (int c = 0; c < 3; c++) {
            const float hr = (float)r->hr[at * 3 + c], up = (float)r->up[up_at * 3 + c], eps = r->noise[i * 3 + c];
            float y = hr * r->hr_mul + up * r->up_mul + r->add;
            if (r->clamp > 0) y = y > r->clamp ? r->clamp : y < -r->clamp ? -r->clamp : y;
            r->x[i * 6 + c] = up * (1.0f / 127.5f) - 1.0f;
            r->target[i * 3 + c] = r->target_y * y + r->target_eps * eps;
            if (r->show_rest && !(m > 0)) y = r->rest_up * r->x[i * 6 + c];
            r->x[i * 6 + 3 + c] = (r->show_rest ? 1.0f : m) * (r->sqrt_gamma * y + r->sqrt_1m_gamma * eps);
        }
    }
    return active;
}

// Eq. 8 for one threshold: the smallest map byte whose attention is on at position u.
static void set_threshold(row_job *r, yd_mask_form form, double u, double lower_bound)
{
    const double need = form == YD_MASK_ADD ? u - lower_bound : u;
    r->always = need <= 0 || (form == YD_MASK_MAX && lower_bound >= u);
    r->never = need > 1;
    r->threshold = r->always || r->never ? 0 : (uint8_t)ceil(need * 255.0 - 1e-9);
}

static void set_target(row_job *r, const yd_model_config *m)
{
    const float unit = 1.0f / 127.5f;
    if (m->target == YD_TARGET_RESIDUAL) {
        r->hr_mul = m->residual_scale * unit;
        r->up_mul = -r->hr_mul;
        r->clamp = m->clip;
    } else {
        r->hr_mul = unit;
        r->add = -1.0f;
        r->rest_up = 1.0f;
    }
    r->show_rest = !m->mask_input;
    switch (m->prediction) {
    case YD_PREDICT_X0:
        r->target_y = 1.0f;
        break;
    case YD_PREDICT_EPS:
        r->target_eps = 1.0f;
        break;
    case YD_PREDICT_V:
        r->target_y = -r->sqrt_1m_gamma;
        r->target_eps = r->sqrt_gamma;
        break;
    }
}

// How a crop in one of its orientations is walked through in rows of `stride` pixels.
typedef struct walk {
    long first;        // its first pixel
    long along, across; // to the next pixel of a row, to the next row
} walk;

static walk walk_make(const yd_draw *d, int crop, int x, int y, long stride)
{
    const int mirror_x = d->orientation & 1, mirror_y = d->orientation >> 1 & 1, transpose = d->orientation >> 2 & 1;
    const long dx = mirror_x ? -1 : 1, dy = mirror_y ? -stride : stride;
    return (walk){(y + (mirror_y ? crop - 1 : 0)) * stride + x + (mirror_x ? crop - 1 : 0), transpose ? dy : dx, transpose ? dx : dy};
}

long yd_draw_fill(const yd_train_config *cfg, const yd_dataset *data, const yd_draw *d, yd_batch *b, int i, yd_err *err)
{
    const yd_picture *p = &data->pictures[d->picture];
    const int crop = cfg->crop;
    yd_input in;
    const int rc = yd_draw_input(cfg, data, d, &in, err);
    if (rc) return rc;
    const walk w = walk_make(d, crop, d->x, d->y, p->w), up = walk_make(d, crop, d->x - in.x, d->y - in.y, in.stride);
    const size_t first = (size_t)i * (size_t)crop * (size_t)crop;
    row_job r = {.step = w.along, .up_step = up.along, .n = crop, .noise = b->noise};
    r.sqrt_gamma = (float)sqrt(d->gamma);
    r.sqrt_1m_gamma = (float)sqrt(1.0 - d->gamma);
    set_threshold(&r, cfg->mask_form, d->u, d->lower_bound);
    set_target(&r, &cfg->model);
    long active = 0;
    for (int row = 0; row < crop; row++) {
        const long at = w.first + row * w.across;
        const size_t px = first + (size_t)row * (size_t)crop;
        yd_rng_row(d->noise_seed, 0, (uint32_t)row, 0, crop, 3, b->noise);
        r.hr = p->hr + at * 3;
        r.up = in.rgb + (up.first + row * up.across) * 3;
        r.map = p->map + at;
        r.x = b->x + px * 6;
        r.target = b->target + px * 3;
        r.mask = b->mask + px;
        active += fill_row(&r);
    }
    yd_input_clear(&in);
    switch (cfg->model.noise_input) {
    case YD_NOISE_SQRT_GAMMA: b->level[i] = r.sqrt_gamma; break;
    case YD_NOISE_SQRT_1M_GAMMA: b->level[i] = r.sqrt_1m_gamma; break;
    case YD_NOISE_TIMESTEP: b->level[i] = yd_schedule_timestep(&cfg->model.schedule, d->u); break;
    }
    return active;
}

// Emphasis by noise level: the signal-to-noise ratio, clamped so that neither end of the schedule vanishes or drowns the rest.
static double level_weight(const yd_train_config *cfg, double gamma)
{
    if (cfg->weight_kind == YD_WEIGHT_NONE) return 1.0;
    double snr = gamma / fmax(1.0 - gamma, 1e-12);
    return fmin(fmax(snr, (double)cfg->weight_min), (double)cfg->weight_max);
}

int yd_batch_fill(const yd_train_config *cfg, const yd_dataset *data, long iteration, yd_batch *b, yd_err *err)
{
    const long pixels = (long)b->crop * b->crop;
    long active = 0;
    for (int i = 0; i < b->n; i++) {
        const uint64_t index = (uint64_t)(iteration - 1) * (uint64_t)b->n + (uint64_t)i;
        yd_draw d;
        long on = 0;
        for (int attempt = 0; attempt < MAX_ATTEMPTS && !on; attempt++) {
            yd_draw_sample(cfg, data, index, attempt, &d);
            on = yd_draw_fill(cfg, data, &d, b, i, err);
        }
        if (on < 0) return (int)on;
        b->weight[i] = (float)level_weight(cfg, d.gamma);
        active += on;
    }
    // One divisor for the whole batch: dividing each sample by its own count would let a crop with a handful of active pixels weigh as
    // much as a full one.
    const double values =
        3.0 * (double)(cfg->normaliser == YD_NORMALISE_ACTIVE ? (active ? active : 1) : pixels * b->n);
    for (int i = 0; i < b->n; i++) b->weight[i] = (float)((double)b->weight[i] / values);
    b->active_share = (double)active / (double)(pixels * b->n);
    return 0;
}
