// The sampler against a plain-loop oracle, and the promises that follow from Eqs. 8-12: a map of ones is the plain sampler bit for
// bit, a map of zeros refines every pixel exactly k times, skipping changes nothing, neither do threads or interleaving.
// The network is stood in for by a small fixed function of the window's input, so that every value can be recomputed here.
#include "core/mem.h"
#include "core/rng.h"
#include "core/sampler.h"
#include "core/windows.h"
#include "tests/unit/t.h"

#include <malloc.h>
#include <omp.h>

#define WINDOW 32

typedef struct scene {
    int w, h;
    uint8_t *rgb;
    float *map;
} scene;

static scene scene_new(int w, int h, uint64_t seed)
{
    scene s = {w, h, yd_malloc((size_t)(w * h) * 3), yd_malloc((size_t)(w * h) * sizeof(float))};
    for (int i = 0; i < w * h; i++) {
        s.map[i] = yd_rng_uniform(seed, 1, (uint64_t)i, 0);
        for (int c = 0; c < 3; c++) s.rgb[i * 3 + c] = (uint8_t)(255.0f * yd_rng_uniform(seed, 2, (uint64_t)i, (uint32_t)c));
    }
    return s;
}

static void scene_free(scene *s)
{
    yd_free(s->rgb);
    yd_free(s->map);
}

static void fill(float *map, int n, float v)
{
    for (int i = 0; i < n; i++) map[i] = v;
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

static yd_sample_settings settings(int steps, yd_sampler_kind kind, float eta, double bound)
{
    yd_sample_settings s = {.steps = steps, .seed = 42, .sampler = kind, .eta = eta, .attention = "constant", .lower_bound = bound, .skip = 1};
    return s;
}

// A "network" that sees its neighbours: a 3x3 mean of the input mixed with the noise level.
static void predict(const float *x, float level, float *out)
{
    for (int y = 0; y < WINDOW; y++)
        for (int xx = 0; xx < WINDOW; xx++)
            for (int c = 0; c < 3; c++) {
                float sum = 0.0f;
                for (int dy = -1; dy <= 1; dy++)
                    for (int dx = -1; dx <= 1; dx++) {
                        int py = y + dy, px = xx + dx;
                        if (py < 0 || px < 0 || py >= WINDOW || px >= WINDOW) continue;
                        const float *p = x + (py * WINDOW + px) * 6;
                        sum += 0.05f * p[c] + 0.08f * p[3 + c];
                    }
                out[(y * WINDOW + xx) * 3 + c] = sum + 0.1f * level;
            }
}

static float net_x[WINDOW * WINDOW * 6], net_out[WINDOW * WINDOW * 3];

// Run a sampler to its end; counts units. Returns a copy of the result (yd_free).
static float *run(yd_sampler *s, long *units)
{
    yd_unit u;
    yd_err err;
    long n = 0;
    while (!yd_sampler_done(s)) {
        if (!yd_sampler_next(s, &u)) break;
        float level;
        yd_step_info info;
        yd_sampler_gather(s, &u, net_x, &level);
        predict(net_x, level, net_out);
        int rc = yd_sampler_scatter(s, &u, net_out, &info, &err);
        CHECK(rc >= 0);
        n++;
    }
    CHECK(yd_sampler_done(s));
    if (units) *units = n;
    yd_work work;
    yd_sampler_work(s, &work);
    CHECK_MSG(work.units == n, "planned %ld units, ran %ld", work.units, n);
    const float *r = yd_sampler_result(s);
    CHECK(r != NULL);
    return (float *)(uintptr_t)r;
}

static yd_sampler *make(const yd_model_config *c, const yd_sample_settings *set, const scene *sc)
{
    yd_sampler *s = NULL;
    yd_err err = {0};
    int rc = yd_sampler_new(c, set, sc->w, sc->h, sc->rgb, sc->map, &s, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    return s;
}

// Which steps a pixel of k steps takes: in a strided allocation the first k of: S, 1, then the middles of all gaps, low noise first, again
// and again. In a late one the last k.
static int takes(const yd_sample_settings *set, int k, int step)
{
    int order[64], n = 0, placed[65] = {0};
    if (set->allocation == YD_ALLOCATION_LATE) return k >= step;
    placed[order[n++] = set->steps] = 1;
    if (set->steps > 1) placed[order[n++] = 1] = 1;
    while (n < set->steps) {
        int gaps[64][2], m = 0;
        for (int low = 1, high; low < set->steps; low = high) {
            for (high = low + 1; !placed[high]; high++) {}
            gaps[m][0] = high, gaps[m++][1] = low;
        }
        for (int g = 0; g < m; g++)
            if (gaps[g][0] - gaps[g][1] > 1) placed[order[n++] = (gaps[g][0] + gaps[g][1]) / 2] = 1;
    }
    for (int i = 0; i < k; i++)
        if (order[i] == step) return 1;
    return 0;
}

// Section 7's pseudo-code as plain loops over a canvas of exactly one window, everything in the order of the formulas, with each
// pixel's own sequence of steps.
static void oracle(const yd_model_config *cfg, const yd_sample_settings *set, const scene *sc, float *z)
{
    const int n = sc->w * sc->h, S = set->steps;
    yd_schedule *k = NULL;
    yd_err err;
    CHECK(yd_schedule_make(&cfg->schedule, S, 1.0, &k, &err) == 0);
    static float noise[64][WINDOW * WINDOW * 3], cond[WINDOW * WINDOW * 3];
    static double before[WINDOW * WINDOW * 3], kept[WINDOW * WINDOW * 3]; // x0 of the step before, of the first
    static uint16_t a[WINDOW * WINDOW];
    static int on[64][65]; // pixels of so many steps at this one
    const int residual = cfg->target == YD_TARGET_RESIDUAL;
    for (int i = 0; i < n; i++) {
        double v = (double)sc->map[i] + set->lower_bound;
        if (set->mask_form == YD_MASK_MAX) v = fmax((double)sc->map[i], set->lower_bound);
        double f = floor(S * v + 1e-4);
        a[i] = (uint16_t)(f < 1 ? 1 : f > S ? S : f);
    }
    for (int s = 1; s <= S; s++)
        for (int c = 1; c <= S; c++) on[s][c] = takes(set, c, s);
    for (int i = 0; i < n * 3; i++) cond[i] = (float)(sc->rgb[i] / 255.0 * 2.0 - 1.0);
    for (int s = 0; s <= S; s++)
        for (int y = 0; y < sc->h; y++) yd_rng_row(set->seed, (uint32_t)s, (uint32_t)y, 0, sc->w, 3, noise[s] + y * sc->w * 3);
    for (int i = 0; i < n * 3; i++) z[i] = on[S][a[i / 3]] ? noise[S][i] : 0.0f;
    for (int s = S; s >= 1; s--) {
        for (int i = 0; i < n; i++)
            for (int c = 0; c < 3; c++) {
                net_x[i * 6 + c] = cond[i * 3 + c];
                net_x[i * 6 + 3 + c] = on[s][a[i]] ? z[i * 3 + c] : 0.0f;
                if (!cfg->mask_input && !on[s][a[i]]) {
                    const double rest = residual ? 0.0 : (double)cond[i * 3 + c];
                    net_x[i * 6 + 3 + c] = (float)(sqrt(k->gamma[s]) * rest + sqrt(1 - k->gamma[s]) * (double)noise[s][i * 3 + c]);
                }
            }
        predict(net_x, cfg->noise_input == YD_NOISE_SQRT_GAMMA ? (float)sqrt(k->gamma[s]) : (float)sqrt(1 - k->gamma[s]), net_out);
        for (int i = 0; i < n * 3; i++) {
            const int of = a[i / 3];
            if (on[s][of]) {
                int last = s + 1, next = s - 1;
                while (last <= S && !on[last][of]) last++;
                while (next > 0 && !on[next][of]) next--;
                const double g = k->gamma[s], gp = k->gamma[next], beta = 1 - g / gp;
                double p = (double)net_out[i], zi = (double)z[i], x0 = p;
                if (cfg->prediction == YD_PREDICT_EPS) x0 = (zi - sqrt(1 - g) * p) / sqrt(g);
                if (cfg->prediction == YD_PREDICT_V) x0 = sqrt(g) * zi - sqrt(1 - g) * p;
                if (cfg->clip > 0) x0 = fmin(fmax(x0, (double)-cfg->clip), (double)cfg->clip);
                if (last > S) kept[i] = x0;
                double mean, sigma;
                if (set->sampler == YD_SAMPLER_ANCESTRAL) {
                    mean = (sqrt(gp) * beta * x0 + sqrt(g / gp) * (1 - gp) * zi) / (1 - g); // Eq. 7 of Ho et al.
                    sigma = sqrt(set->variance == YD_VARIANCE_BETA ? beta : beta * (1 - gp) / (1 - g));
                } else {
                    const double now = x0;
                    if (set->sampler == YD_SAMPLER_DPMPP_2M && last <= S && next > 0) {
                        double later = k->gamma[last], h = log(gp / (1 - gp)) - log(g / (1 - g)), was = log(g / (1 - g)) - log(later / (1 - later));
                        x0 = now + h / was / 2 * (now - before[i]);
                    }
                    before[i] = now;
                    double eps = (zi - sqrt(g) * x0) / sqrt(1 - g);
                    sigma = (double)set->eta * sqrt((1 - gp) / (1 - g) * (1 - g / gp));
                    mean = sqrt(gp) * x0 + sqrt(fmax(0, 1 - gp - sigma * sigma)) * eps;
                }
                z[i] = (float)(mean + (next > 0 ? sigma * (double)noise[next][i] : 0.0));
                if (next == 0) z[i] = (float)((1 - set->fidelity) * (double)z[i] + set->fidelity * kept[i]);
            } else if (set->allocation == YD_ALLOCATION_LATE && of == s - 1) {
                const double mean = residual ? 0.0 : (double)cond[i], g = k->gamma[s - 1];
                z[i] = (float)(sqrt(g) * mean + sqrt(1 - g) * (double)noise[s - 1][i]);
            }
        }
    }
    if (residual)
        for (int i = 0; i < n * 3; i++) z[i] = cond[i] + z[i] / cfg->residual_scale;
    yd_schedule_free(k);
}

static void agrees(const yd_model_config *c, const yd_sample_settings *set, const scene *sc, float *expect, const char *what)
{
    yd_sampler *s = make(c, set, sc);
    if (!s) return;
    float *r = run(s, NULL);
    oracle(c, set, sc, expect);
    double d = t_rel_diff(r, expect, WINDOW * WINDOW * 3);
    CHECK_MSG(d <= 2e-5, "prediction %d target %d sampler %d form %d %s: %.3g", (int)c->prediction, (int)c->target, (int)set->sampler,
              (int)set->mask_form, what, d);
    yd_sampler_free(s);
}

static void agrees_with_oracle(void)
{
    static const yd_prediction predictions[] = {YD_PREDICT_EPS, YD_PREDICT_X0, YD_PREDICT_V};
    static const yd_sampler_kind kinds[] = {YD_SAMPLER_ANCESTRAL, YD_SAMPLER_DDIM, YD_SAMPLER_DPMPP_2M};
    scene sc = scene_new(WINDOW, WINDOW, 7);
    float *expect = yd_malloc(WINDOW * WINDOW * 3 * sizeof(float));
    for (int p = 0; p < 3; p++)
        for (int target = 0; target < 2; target++)
            for (int kind = 0; kind < 3; kind++)
                for (int form = 0; form < 2; form++) {
                    yd_model_config c = config(predictions[p], target ? YD_TARGET_RESIDUAL : YD_TARGET_DIRECT);
                    yd_sample_settings set = settings(9, kinds[kind], kind == 2 && form ? 0.0f : 0.5f, 0.3);
                    set.mask_form = form ? YD_MASK_MAX : YD_MASK_ADD;
                    set.variance = form ? YD_VARIANCE_BETA : YD_VARIANCE_POSTERIOR;
                    agrees(&c, &set, &sc, expect, "late");
                    c.mask_input = 0;
                    agrees(&c, &set, &sc, expect, "late, z shown outside the mask");
                    c.mask_input = 1;
                    set.allocation = YD_ALLOCATION_STRIDED;
                    agrees(&c, &set, &sc, expect, "strided");
                    if (predictions[p] == YD_PREDICT_EPS) continue;
                    set.fidelity = 0.3;
                    agrees(&c, &set, &sc, expect, "strided, fidelity");
                    set.allocation = YD_ALLOCATION_LATE;
                    agrees(&c, &set, &sc, expect, "late, fidelity");
                }
    yd_free(expect);
    scene_free(&sc);
}

// The plain ancestral sampler, with no notion of a mask, in the same float operations: must be equal to the last bit.
static void map_of_ones_is_the_plain_sampler(void)
{
    scene sc = scene_new(WINDOW, WINDOW, 9);
    fill(sc.map, WINDOW * WINDOW, 1.0f);
    yd_model_config c = config(YD_PREDICT_EPS, YD_TARGET_DIRECT);
    yd_sample_settings set = settings(20, YD_SAMPLER_ANCESTRAL, 1.0f, 0.4);
    yd_sampler *s = make(&c, &set, &sc);
    float *r = run(s, NULL);
    const int n = WINDOW * WINDOW;
    yd_schedule *k = NULL;
    yd_schedule_make(&c.schedule, 20, 1.0, &k, NULL);
    float *z = yd_malloc((size_t)n * 3 * sizeof *z), *noise = yd_malloc((size_t)n * 3 * sizeof *noise);
    for (int t = 20; t >= 0; t--) {
        for (int y = 0; y < WINDOW; y++) yd_rng_row(42, (uint32_t)t, (uint32_t)y, 0, WINDOW, 3, noise + y * WINDOW * 3);
        if (t == 20) {
            memcpy(z, noise, (size_t)n * 3 * sizeof *z);
            continue;
        }
        const int from = t + 1;
        for (int i = 0; i < n; i++)
            for (int ch = 0; ch < 3; ch++) {
                net_x[i * 6 + ch] = (float)(sc.rgb[i * 3 + ch] / 255.0 * 2.0 - 1.0);
                net_x[i * 6 + 3 + ch] = z[i * 3 + ch];
            }
        predict(net_x, k->sqrt_gamma[from], net_out);
        for (int i = 0; i < n * 3; i++) {
            float x0 = k->recip_sqrt_gamma[from] * z[i] + -k->recipm1_sqrt_gamma[from] * net_out[i];
            x0 = x0 < -1.0f ? -1.0f : x0 > 1.0f ? 1.0f : x0;
            float mean = k->coef_x0[from] * x0 + k->coef_z[from] * z[i];
            z[i] = t > 0 ? mean + k->sigma_posterior[from] * noise[i] : mean;
        }
    }
    CHECK(memcmp(r, z, (size_t)n * 3 * sizeof *z) == 0);
    yd_free(z);
    yd_free(noise);
    yd_schedule_free(k);
    yd_sampler_free(s);
    scene_free(&sc);
}

// What the ways of dividing steps have in common: a map of ones leaves nothing to divide, and the same holds with fidelity.
static void map_of_ones_has_one_allocation(void)
{
    static const yd_sampler_kind kinds[] = {YD_SAMPLER_ANCESTRAL, YD_SAMPLER_DDIM, YD_SAMPLER_DPMPP_2M};
    scene sc = scene_new(75, 40, 9);
    fill(sc.map, sc.w * sc.h, 1.0f);
    for (int kind = 0; kind < 3; kind++)
        for (int faithful = 0; faithful < 2; faithful++) {
            yd_model_config c = config(YD_PREDICT_V, YD_TARGET_RESIDUAL);
            yd_sample_settings set = settings(13, kinds[kind], 0.6f, 0.4);
            set.fidelity = faithful ? 0.5 : 0.0;
            yd_sampler *late = make(&c, &set, &sc);
            const float *expect = run(late, NULL);
            for (int other = YD_ALLOCATION_STRIDED; other <= YD_ALLOCATION_WINDOWS; other++) {
                set.allocation = (yd_allocation)other;
                yd_sampler *strided = make(&c, &set, &sc);
                CHECK(memcmp(expect, run(strided, NULL), (size_t)(sc.w * sc.h) * 3 * sizeof(float)) == 0);
                yd_sampler_free(strided);
            }
            yd_sampler_free(late);
        }
    scene_free(&sc);
}

// A map of zeros with l = k/S: every pixel is refined in exactly k steps. Counted through the masks and the units.
static void map_of_zeros_refines_k_times(void)
{
    scene sc = scene_new(WINDOW, WINDOW, 3);
    fill(sc.map, WINDOW * WINDOW, 0.0f);
    uint8_t *mask = yd_malloc(WINDOW * WINDOW);
    for (int strided = 0; strided < 3; strided++)
        for (int steps = 1; steps <= 40; steps += 13)
            for (int k = 1; k <= steps; k++) {
                yd_model_config c = config(YD_PREDICT_X0, YD_TARGET_RESIDUAL);
                yd_sample_settings set = settings(steps, YD_SAMPLER_DDIM, 0.0f, (double)k / steps);
                set.allocation = (yd_allocation)strided;
                yd_sampler *s = make(&c, &set, &sc);
                long units;
                CHECK(yd_sampler_idle_steps(s) == (strided ? 0 : steps - k));
                run(s, &units);
                CHECK_MSG(units == k, "%ld network calls for k = %d", units, k);
                int refined = 0, partial = 0;
                for (int t = 1; t <= steps; t++) {
                    yd_sampler_mask(s, t, mask);
                    int on = 0;
                    for (int i = 0; i < WINDOW * WINDOW; i++) on += mask[i] == 255;
                    refined += on == WINDOW * WINDOW;
                    partial += on != 0 && on != WINDOW * WINDOW;
                    if (strided && (t == steps || (t == 1 && k > 1))) CHECK(on == WINDOW * WINDOW); // both ends of the noise range
                }
                CHECK(refined == k && partial == 0);
                yd_sampler_free(s);
            }
    yd_free(mask);
    scene_free(&sc);
}

// The line from the sample to the first prediction: its ends, its middle, and what is shown on the way.
static void fidelity_is_a_line(void)
{
    scene sc = scene_new(70, 45, 21);
    const size_t n = (size_t)(sc.w * sc.h) * 3;
    float *at[3];
    uint8_t *shown = yd_malloc(n);
    yd_sampler *s[3];
    for (int strided = 0; strided < 2; strided++) {
        yd_model_config c = config(YD_PREDICT_X0, YD_TARGET_DIRECT);
        yd_sample_settings set = settings(7, YD_SAMPLER_DDIM, 0.4f, 0.2);
        set.allocation = strided ? YD_ALLOCATION_STRIDED : YD_ALLOCATION_LATE;
        for (int i = 0; i < 3; i++) {
            set.fidelity = i * 0.5;
            s[i] = make(&c, &set, &sc);
            at[i] = run(s[i], NULL);
        }
        double worst = 0;
        int wrong = 0;
        for (size_t i = 0; i < n; i++) worst = fmax(worst, fabs((double)at[1][i] - ((double)at[0][i] + (double)at[2][i]) / 2));
        CHECK_MSG(worst < 1e-6 && memcmp(at[0], at[2], n * sizeof(float)) != 0, "off the line by %g", worst);
        yd_sampler_preview(s[1], shown);
        for (size_t i = 0; i < n; i++) wrong += shown[i] != (uint8_t)lrintf((fminf(fmaxf(at[1][i], -1.0f), 1.0f) + 1.0f) * 127.5f);
        CHECK_MSG(wrong == 0, "%d bytes are not the result's", wrong);
        for (int i = 0; i < 3; i++) yd_sampler_free(s[i]);
    }
    yd_model_config eps = config(YD_PREDICT_EPS, YD_TARGET_DIRECT);
    yd_sample_settings set = settings(7, YD_SAMPLER_DDIM, 0.4f, 0.2);
    yd_sampler *none = NULL;
    yd_err err = {0};
    set.fidelity = 0.1;
    CHECK(yd_sampler_new(&eps, &set, sc.w, sc.h, sc.rgb, sc.map, &none, &err) == YD_E_SETTING && strcmp(err.field, "fidelity") == 0 && !none);
    yd_free(shown);
    scene_free(&sc);
}

// Without Eq. 9 the network's input is the same at the first step of all pixels, differs after it, and is never empty; nor beyond the
// border. What is shown of a pixel at rest is what it would come on with.
static void rest_can_be_shown(void)
{
    scene sc = scene_new(20, 25, 4); // smaller than a window: the rest of it is mirrored
    yd_model_config c = config(YD_PREDICT_EPS, YD_TARGET_DIRECT);
    yd_sample_settings set = settings(8, YD_SAMPLER_DDIM, 0.0f, 0.25);
    for (int i = 0; i < sc.w * sc.h; i++) sc.map[i] = i % sc.w < 10 ? 0.75f : 0.0f; // the left half is on from the first step
    c.mask_input = 0;
    yd_sampler *s = make(&c, &set, &sc);
    yd_unit u;
    float level, noise[3 * 20];
    CHECK(yd_sampler_next(s, &u) && u.step == 8);
    yd_sampler_gather(s, &u, net_x, &level);
    yd_schedule *k = NULL;
    CHECK(yd_schedule_make(&c.schedule, 8, 1.0, &k, NULL) == 0);
    double worst = 0;
    for (int y = 0; y < WINDOW; y++) {
        const int py = y < sc.h ? y : 2 * (sc.h - 1) - y;
        yd_rng_row(42, 8, (uint32_t)py, 0, sc.w, 3, noise);
        for (int x = 0; x < WINDOW; x++) {
            const int px = x < sc.w ? x : 2 * (sc.w - 1) - x, on = x < 10 && y < sc.h;
            for (int ch = 0; ch < 3; ch++) {
                const double low = sc.rgb[(py * sc.w + px) * 3 + ch] / 127.5 - 1, eps = (double)noise[px * 3 + ch];
                const double want = on ? eps : sqrt(k->gamma[8]) * low + sqrt(1 - k->gamma[8]) * eps;
                worst = fmax(worst, fabs(want - (double)net_x[(y * WINDOW + x) * 6 + 3 + ch]));
            }
        }
    }
    CHECK_MSG(worst < 1e-6, "off by %g", worst);
    yd_schedule_free(k);
    yd_sampler_free(s);
    yd_err err = {0};
    for (int other = YD_ALLOCATION_STRIDED; other <= YD_ALLOCATION_WINDOWS; other++) {
        set.allocation = (yd_allocation)other;
        CHECK(yd_sampler_accepts(&c, &set, &err) == YD_E_SETTING && strcmp(err.field, "allocation") == 0 && strstr(err.detail, "mask_input"));
    }
    scene_free(&sc);
}

// A map with a bright corner on a larger canvas: skipping must save work and change no byte.
static void skipping_changes_nothing(void)
{
    scene sc = scene_new(150, 117, 5);
    for (int y = 0; y < sc.h; y++)
        for (int x = 0; x < sc.w; x++) sc.map[y * sc.w + x] = x > 120 && y > 90 ? 1.0f : x < 20 ? 0.35f : 0.0f;
    for (int kind = 0; kind < 10; kind++) {
        yd_model_config c = config(kind < 4 ? YD_PREDICT_X0 : YD_PREDICT_EPS, YD_TARGET_DIRECT);
        yd_sample_settings set = settings(12, kind & 1 ? YD_SAMPLER_DPMPP_2M : YD_SAMPLER_DDIM, 0.7f, 0.1);
        set.allocation = kind < 2 || kind >= 8 ? YD_ALLOCATION_LATE : kind < 6 ? YD_ALLOCATION_STRIDED : YD_ALLOCATION_WINDOWS;
        set.fidelity = kind < 4 ? 0.4 : 0.0;
        c.mask_input = kind < 8;
        long with, without;
        yd_sampler *a = make(&c, &set, &sc);
        float *ra = run(a, &with);
        set.skip = 0;
        yd_sampler *b = make(&c, &set, &sc);
        float *rb = run(b, &without);
        CHECK(memcmp(ra, rb, (size_t)(sc.w * sc.h) * 3 * sizeof(float)) == 0);
        CHECK_MSG(with * 2 < without, "%ld of %ld units", with, without);
        yd_sampler_free(a);
        yd_sampler_free(b);
    }
    scene_free(&sc);
}

// With one number of steps for each window, what runs is what is refined: no window runs for a few of its pixels.
static void levelled_windows_run_for_what_they_are_worth(void)
{
    scene sc = scene_new(150, 117, 5);
    yd_model_config c = config(YD_PREDICT_X0, YD_TARGET_DIRECT);
    yd_sample_settings set = settings(16, YD_SAMPLER_DDIM, 0.0f, 0.1);
    yd_windows ws;
    static uint16_t a[150 * 117], level[150 * 117], worth[64];
    for (int i = 0; i < sc.w * sc.h; i++) sc.map[i] *= (float)(i % sc.w) / (float)sc.w; // noise, more of it on the right
    yd_mask_activation(sc.map, (long)sc.w * sc.h, 16, 0.1, YD_MASK_ADD, a);
    CHECK(yd_windows_make(sc.w, sc.h, WINDOW, WINDOW, 8, &ws, NULL) == 0 && yd_windows_count(&ws) <= 64);
    memcpy(level, a, sizeof a);
    yd_windows_level(&ws, level, worth);
    long units[2], expect = 0;
    for (int i = 0; i < yd_windows_count(&ws); i++) {
        double sum = 0, weight = 0; // the mean of what it has a say in
        for (int y = 0; y < WINDOW; y++)
            for (int x = 0; x < WINDOW; x++) {
                const int ix = i % ws.x.n, iy = i / ws.x.n, at = (ws.y.start[iy] + y) * sc.w + ws.x.start[ix] + x;
                if (!(ws.x.weight[ix * WINDOW + x] > 0 && ws.y.weight[iy * WINDOW + y] > 0)) continue;
                sum += a[at], weight += 1;
                CHECK(level[at] <= worth[i]);
            }
        CHECK_MSG(fabs(sum / weight - worth[i]) <= 0.5 + 1e-9, "window %d is worth %d, its mean is %g", i, worth[i], sum / weight);
        expect += worth[i];
    }
    for (int w = 0; w < 2; w++) {
        set.allocation = w ? YD_ALLOCATION_WINDOWS : YD_ALLOCATION_STRIDED;
        yd_sampler *s = make(&c, &set, &sc);
        run(s, &units[w]);
        if (w) CHECK(memcmp(yd_sampler_activation(s), level, sizeof level) == 0);
        yd_sampler_free(s);
    }
    CHECK_MSG(units[1] == expect && units[1] * 3 < units[0] * 2, "%ld units, %ld were expected, %ld by pixels", units[1], expect, units[0]);
    yd_windows_clear(&ws);
    scene_free(&sc);
}

// Two jobs step by step in turn, and another thread count: the same bytes as alone.
static void interleaving_and_threads_change_nothing(void)
{
    scene sc = scene_new(100, 70, 11);
    yd_model_config c = config(YD_PREDICT_V, YD_TARGET_DIRECT);
    yd_sample_settings set = settings(6, YD_SAMPLER_ANCESTRAL, 1.0f, 0.4), other = set;
    set.allocation = other.allocation = YD_ALLOCATION_STRIDED;
    set.fidelity = other.fidelity = 0.2;
    other.seed = 1;
    omp_set_num_threads(1);
    yd_sampler *alone = make(&c, &set, &sc);
    float *expect = run(alone, NULL);
    omp_set_num_threads(2);
    yd_sampler *pair[2] = {make(&c, &set, &sc), make(&c, &other, &sc)};
    for (int turn = 0; !yd_sampler_done(pair[0]) || !yd_sampler_done(pair[1]); turn++) {
        yd_sampler *s = pair[turn % 2];
        yd_unit u;
        float level;
        yd_step_info info;
        if (!yd_sampler_next(s, &u)) continue;
        yd_sampler_gather(s, &u, net_x, &level);
        predict(net_x, level, net_out);
        CHECK(yd_sampler_scatter(s, &u, net_out, &info, NULL) >= 0);
    }
    const size_t bytes = (size_t)(sc.w * sc.h) * 3 * sizeof(float);
    CHECK(memcmp(expect, yd_sampler_result(pair[0]), bytes) == 0);
    CHECK(memcmp(expect, yd_sampler_result(pair[1]), bytes) != 0);
    yd_sampler_free(alone);
    yd_sampler_free(pair[0]);
    yd_sampler_free(pair[1]);
    scene_free(&sc);
}

// Pictures smaller than a window, and odd sizes: everything finite, every pixel predicted.
static void any_size_works(void)
{
    static const int sizes[][2] = {{1, 1}, {16, 16}, {3, 40}, {31, 33}, {32, 32}, {33, 32}, {57, 9}, {100, 64}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        scene sc = scene_new(sizes[i][0], sizes[i][1], i);
        yd_model_config c = config(YD_PREDICT_X0, YD_TARGET_RESIDUAL);
        yd_sample_settings set = settings(3, YD_SAMPLER_DDIM, 0.5f, 0.4);
        yd_sampler *s = make(&c, &set, &sc);
        float *r = run(s, NULL);
        for (int k = 0; k < sc.w * sc.h * 3; k++) CHECK(isfinite(r[k]));
        yd_sampler_free(s);
        scene_free(&sc);
    }
}

static void nan_and_wrong_order_are_refused(void)
{
    scene sc = scene_new(60, 60, 2);
    yd_model_config c = config(YD_PREDICT_X0, YD_TARGET_DIRECT);
    yd_sample_settings set = settings(3, YD_SAMPLER_DDIM, 0.5f, 0.4);
    yd_sampler *s = make(&c, &set, &sc);
    yd_unit first, second;
    yd_step_info info;
    yd_err err = {0};
    CHECK(yd_sampler_next(s, &first) && yd_sampler_next(s, &second));
    memset(net_out, 0, sizeof net_out);
    CHECK(yd_sampler_scatter(s, &second, net_out, &info, &err) == YD_E_INTERNAL);
    net_out[5] = NAN;
    CHECK(yd_sampler_scatter(s, &first, net_out, &info, &err) == YD_E_NUMERIC);
    CHECK(strstr(err.detail, "NaN") != NULL);
    CHECK(yd_sampler_result(s) == NULL);
    yd_sampler_free(s);
    scene_free(&sc);
}

// A device that fails gives back what it had of a step: at any point of it, and the result is the same.
static void units_that_were_not_done_come_again(void)
{
    scene sc = scene_new(100, 60, 2);
    yd_model_config c = config(YD_PREDICT_X0, YD_TARGET_DIRECT);
    yd_sample_settings set = settings(3, YD_SAMPLER_DDIM, 0.5f, 0.4);
    yd_sampler *plain = make(&c, &set, &sc), *often = make(&c, &set, &sc);
    yd_step_info info;
    yd_err err = {0};
    int n = 0;
    for (yd_unit u, v, w; yd_sampler_next(often, &u); n++) {
        CHECK(yd_sampler_next(plain, &v) && v.window == u.window && v.step == u.step);
        for (int more = 0; more < n % 3 && yd_sampler_next(often, &w); more++) continue;
        yd_sampler_put_back(often);
        CHECK(yd_sampler_next(often, &w) && w.window == u.window && w.step == u.step);
        for (size_t i = 0; i < sizeof net_out / sizeof net_out[0]; i++) net_out[i] = (float)((i * 7 + (size_t)n * 13) % 101) / 101;
        CHECK(yd_sampler_scatter(plain, &v, net_out, &info, &err) == yd_sampler_scatter(often, &w, net_out, &info, &err));
        yd_sampler_put_back(often); // nothing is out
    }
    CHECK(n > 6 && yd_sampler_done(plain) && yd_sampler_done(often));
    CHECK(memcmp(yd_sampler_result(plain), yd_sampler_result(often), (size_t)sc.w * (size_t)sc.h * 3 * sizeof(float)) == 0);
    yd_sampler_free(plain);
    yd_sampler_free(often);
    scene_free(&sc);
}

static void settings_out_of_range_are_named(void)
{
    yd_err err;
    yd_sample_settings ok = settings(8, YD_SAMPLER_DDIM, 0.5f, 0.4), s;
    CHECK(yd_sample_settings_check(&ok, &err) == 0);
    s = ok, s.steps = 0;
    CHECK(yd_sample_settings_check(&s, &err) == YD_E_SETTING && strcmp(err.field, "steps") == 0 && err.accepted[0]);
    s = ok, s.eta = NAN;
    CHECK(yd_sample_settings_check(&s, &err) == YD_E_SETTING && strcmp(err.field, "eta") == 0);
    s = ok, s.fidelity = NAN;
    CHECK(yd_sample_settings_check(&s, &err) == YD_E_SETTING && strcmp(err.field, "fidelity") == 0);
    s = ok, s.lower_bound = 1.5;
    CHECK(yd_sample_settings_check(&s, &err) == YD_E_SETTING && strcmp(err.field, "lower_bound") == 0);
    s = ok, snprintf(s.attention, sizeof s.attention, "nonsense");
    CHECK(yd_sample_settings_check(&s, &err) == YD_E_SETTING && strcmp(err.field, "attention") == 0);
    s = ok, s.lr_noise = YD_LR_LITERAL, s.eta = 0.0f;
    CHECK(yd_sample_settings_check(&s, &err) == YD_E_SETTING && strcmp(err.field, "lr_noise") == 0);
}

// Every failing allocation is reported and leaks nothing (the sanitizer build looks).
static void out_of_memory_is_an_error(void)
{
    scene sc = scene_new(40, 40, 1);
    yd_model_config c = config(YD_PREDICT_X0, YD_TARGET_DIRECT);
    yd_sample_settings set = settings(3, YD_SAMPLER_DPMPP_2M, 0.5f, 0.4);
    set.fidelity = 0.5;
    int failures = 0;
    for (long k = 1; k < 100; k++) {
        yd_sampler *s = NULL;
        yd_mem_fail_at(k);
        int rc = yd_sampler_new(&c, &set, sc.w, sc.h, sc.rgb, sc.map, &s, NULL);
        yd_mem_fail_at(0);
        yd_sampler_free(s);
        if (rc == 0) break;
        CHECK(rc == YD_E_NOMEM);
        failures++;
    }
    CHECK(failures > 5 && failures < 99);
    scene_free(&sc);
}

// Weights sum to one at every pixel; one window weighs exactly 1; the borders of inner windows have no say.
static void windows_share_every_pixel(void)
{
    static const int sizes[] = {1, 31, 32, 33, 40, 56, 57, 63, 64, 65, 200, 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int overlap = 0; overlap <= 16; overlap += 4) {
            yd_windows ws;
            CHECK(yd_windows_make(sizes[i], sizes[i], 32, 32, overlap, &ws, NULL) == 0);
            double worst = 0;
            for (int x = 0; x < sizes[i]; x++) {
                double sum = 0;
                for (int k = 0; k < ws.x.n; k++)
                    if (x >= ws.x.start[k] && x < ws.x.start[k] + 32) sum += (double)ws.x.weight[k * 32 + x - ws.x.start[k]];
                if (fabs(sum - 1) > worst) worst = fabs(sum - 1);
            }
            CHECK_MSG(worst < 1e-6, "size %d overlap %d: off by %g", sizes[i], overlap, worst);
            if (sizes[i] <= 32) CHECK(ws.x.n == 1 && ws.x.weight[0] == 1.0f);
            else CHECK(ws.x.n > 1 && ws.x.start[ws.x.n - 1] + 32 == sizes[i]);
            if (ws.x.n > 1 && overlap >= 4) CHECK(ws.x.weight[31] == 0.0f && ws.x.weight[32] == 0.0f);
            yd_windows_clear(&ws);
        }
}

// Late in a long cosine schedule gamma is clamped, so sigma is 0 there; a pixel that comes on has the mean of the picture, not 0.
static void literal_pixels_come_on_where_sigma_is_zero(void)
{
    enum { STEPS = 1000 };
    scene sc = scene_new(WINDOW, WINDOW, 5);
    yd_model_config c = config(YD_PREDICT_X0, YD_TARGET_DIRECT);
    yd_sample_settings set = settings(STEPS, YD_SAMPLER_ANCESTRAL, 1.0f, (STEPS - 1.0) / STEPS);
    set.lr_noise = YD_LR_LITERAL;
    fill(sc.map, sc.w * sc.h, 0.0f); // everything comes on at step STEPS - 1
    yd_schedule *k = NULL;
    CHECK(yd_schedule_make(&c.schedule, STEPS, 1.0, &k, NULL) == 0 && k->sigma_posterior[STEPS] == 0.0f);
    yd_sampler *s = make(&c, &set, &sc);
    yd_unit u;
    float level;
    CHECK(yd_sampler_next(s, &u) && u.step == STEPS - 1);
    yd_sampler_gather(s, &u, net_x, &level);
    int wrong = 0;
    for (int i = 0; i < sc.w * sc.h; i++)
        for (int ch = 0; ch < 3; ch++) wrong += net_x[i * 6 + 3 + ch] != net_x[i * 6 + ch];
    CHECK_MSG(wrong == 0, "%d values are not the picture's", wrong);
    yd_sampler_free(s);
    yd_schedule_free(k);
    scene_free(&sc);
}

// Admission trusts yd_sampler_bytes, also for the settings that take most: it must not be passed, nor be so generous that it means nothing.
static void memory_is_as_announced(void)
{
#ifdef YD_SANITIZE
    CHECK(1); // a sanitizer's allocator does not count
#else
    static const int sizes[][2] = {{16, 16}, {300, 200}, {1200, 40}, {40, 1200}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        scene sc = scene_new(sizes[i][0], sizes[i][1], i);
        yd_model_config c = config(YD_PREDICT_X0, YD_TARGET_RESIDUAL);
        yd_sample_settings set = settings(YD_MAX_STEPS, YD_SAMPLER_DPMPP_2M, 0.5f, 0.4);
        set.fidelity = i % 2 ? 0.5 : 0.0;
        struct mallinfo2 before = mallinfo2();
        yd_sampler *s = make(&c, &set, &sc);
        struct mallinfo2 after = mallinfo2();
        size_t taken = (after.uordblks + after.hblkhd) - (before.uordblks + before.hblkhd), said = yd_sampler_bytes(&c, &set, sc.w, sc.h);
        CHECK_MSG(taken <= said + 16 * 4096, "%dx%d takes %zu bytes, %zu were announced", sc.w, sc.h, taken, said); // pages of big blocks
        CHECK_MSG(said <= taken + 16384, "%dx%d takes %zu bytes, %zu were announced", sc.w, sc.h, taken, said);
        yd_sampler_free(s);
        scene_free(&sc);
    }
#endif
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"sampler agrees with plain loops (3 predictions x 2 targets x 3 samplers x 2 forms, late and strided, with fidelity)", agrees_with_oracle},
        {"a map of ones is the plain sampler, bit for bit", map_of_ones_is_the_plain_sampler},
        {"a map of ones has one allocation, bit for bit", map_of_ones_has_one_allocation},
        {"fidelity is the line from the sample to the first prediction", fidelity_is_a_line},
        {"a map of zeros refines every pixel exactly k times", map_of_zeros_refines_k_times},
        {"pixels at rest can be shown to the network", rest_can_be_shown},
        {"skipping windows saves work and changes no byte", skipping_changes_nothing},
        {"levelled windows run for what they are worth", levelled_windows_run_for_what_they_are_worth},
        {"interleaved jobs and thread counts change no byte", interleaving_and_threads_change_nothing},
        {"any size works", any_size_works},
        {"NaN predictions and units out of order are refused", nan_and_wrong_order_are_refused},
        {"units that were not done come again", units_that_were_not_done_come_again},
        {"settings out of range are named", settings_out_of_range_are_named},
        {"every failing allocation is an error", out_of_memory_is_an_error},
        {"window weights sum to one", windows_share_every_pixel},
        {"literal noise: pixels come on also where sigma is 0", literal_pixels_come_on_where_sigma_is_zero},
        {"a sampler takes the memory it announces", memory_is_as_announced},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
