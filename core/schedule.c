// Noise schedules. Everything is worked out in double from gamma alone and rounded to float once at the end, so that a schedule
// respaced to S = T is the training schedule and needs no case of its own.
// Owns: the arrays of a yd_schedule, all in one allocation behind `gamma`.
#include "core/schedule.h"

#include "core/mem.h"

#include <math.h>
#include <stdio.h>

#define COSINE_OFFSET    0.008
#define COSINE_GAMMA_MIN 1e-5
#define COSINE_BETA_MAX  0.999
// Below this the float coefficients (1/sqrt(gamma)) lose their meaning; a usable schedule ends near 1e-5.
#define GAMMA_FLOOR 1e-20

enum { FLOAT_ARRAYS = 8 };

// beta of timestep t (1..T), evenly spaced from start to end, both included.
static double linear_beta(const yd_schedule_config *cfg, int t)
{
    if (t == cfg->train_steps && t > 1) return cfg->end;
    double step = cfg->train_steps > 1 ? (cfg->end - cfg->start) / (cfg->train_steps - 1) : 0.0;
    return (t - 1) * step + cfg->start;
}

static double cosine(double u)
{
    double c = cos((u + COSINE_OFFSET) / (1.0 + COSINE_OFFSET) * M_PI / 2.0);
    return c * c;
}

double yd_schedule_beta(const yd_schedule_config *cfg, int t)
{
    if (cfg->kind == YD_SCHEDULE_LINEAR) return linear_beta(cfg, t);
    return fmin(COSINE_BETA_MAX, 1.0 - cosine((double)t / cfg->train_steps) / cosine((t - 1.0) / cfg->train_steps));
}

static double cosine_gamma(double u)
{
    double g = cosine(u);
    return g > COSINE_GAMMA_MIN ? g : COSINE_GAMMA_MIN;
}

static int check(const yd_schedule_config *cfg, int steps, yd_err *err)
{
    char accepted[64];
    int most = YD_MAX_STEPS;
    if (yd_schedule_is_table(cfg)) {
        if (cfg->train_steps < 1 || cfg->train_steps > YD_MAX_STEPS) {
            snprintf(accepted, sizeof accepted, "1 to %d", YD_MAX_STEPS);
            return yd_fail_field(err, YD_E_SETTING, "schedule.train_steps", accepted, "a schedule of %d training steps",
                                 cfg->train_steps);
        }
        if (cfg->kind == YD_SCHEDULE_LINEAR && !(cfg->start > 0.0 && cfg->start <= cfg->end && cfg->end < 1.0))
            return yd_fail_field(err, YD_E_SETTING, "schedule.start, schedule.end", "0 < start <= end < 1",
                                 "a linear schedule from %g to %g", cfg->start, cfg->end);
        most = cfg->train_steps;
    }
    if (steps < 1 || steps > most) {
        snprintf(accepted, sizeof accepted, "1 to %d", most);
        return yd_fail_field(err, YD_E_SETTING, "steps", accepted, "%d sampling steps", steps);
    }
    return YD_OK;
}

// One block: gamma, tau, then the float arrays; doubles first, so every part is aligned.
static int reserve(yd_schedule *s, int steps)
{
    size_t n = (size_t)steps + 1; // at most YD_MAX_STEPS + 1: no product below can overflow
    _Static_assert(YD_SCHEDULE_BYTES_PER_STEP == sizeof *s->gamma + sizeof *s->tau + FLOAT_ARRAYS * sizeof(float), "as told in schedule.h");
    s->gamma = yd_calloc(n, YD_SCHEDULE_BYTES_PER_STEP);
    if (!s->gamma) return -1;
    s->tau = (int *)(s->gamma + n);
    float **arrays[FLOAT_ARRAYS] = {&s->sqrt_gamma, &s->sqrt_1m_gamma, &s->recip_sqrt_gamma, &s->recipm1_sqrt_gamma,
                                    &s->coef_x0,    &s->coef_z,        &s->sigma_posterior,  &s->sigma_beta};
    float *at = (float *)(s->tau + n);
    for (int i = 0; i < FLOAT_ARRAYS; i++, at += n) *arrays[i] = at;
    s->steps = steps;
    return 0;
}

static void fill_table(yd_schedule *s, const yd_schedule_config *cfg)
{
    int t = 0;
    double gamma = 1.0;
    const int T = cfg->train_steps, S = s->steps;
    for (int i = 1; i <= S; i++) {
        s->tau[i] = s->spacing == 1.0 ? (int)((2L * i * T + S) / (2L * S)) // round(i*T/S); S <= T keeps them distinct
                                      : (int)lround(pow((double)i / S, s->spacing) * T);
        if (s->tau[i] <= s->tau[i - 1]) s->tau[i] = s->tau[i - 1] + 1;
        if (s->tau[i] > T - (S - i)) s->tau[i] = T - (S - i); // room for the steps that follow
        while (t < s->tau[i]) gamma *= 1.0 - yd_schedule_beta(cfg, ++t);
        s->gamma[i] = gamma;
    }
}

static double spaced(const yd_schedule *s, int i)
{
    const double u = (double)i / s->steps;
    return s->spacing == 1.0 ? u : pow(u, s->spacing);
}

static void fill_cosine(yd_schedule *s)
{
    for (int i = 1; i <= s->steps; i++) {
        s->tau[i] = i;
        s->gamma[i] = cosine_gamma(spaced(s, i));
    }
}

yd_schedule_jump yd_schedule_jump_of(const yd_schedule *s, int from, int to)
{
    double g = s->gamma[from], before = s->gamma[to];
    double beta = 1.0 - g / before;
    return (yd_schedule_jump){
        .coef_x0 = (float)(beta * sqrt(before) / (1.0 - g)),
        .coef_z = (float)((1.0 - before) * sqrt(1.0 - beta) / (1.0 - g)),
        .sigma_posterior = (float)sqrt(beta * (1.0 - before) / (1.0 - g)),
        .sigma_beta = (float)sqrt(beta),
    };
}

// Everything a sampler multiplies with at step i, from gamma of i and of i-1.
static void fill_coefficients(yd_schedule *s, int i)
{
    double g = s->gamma[i];
    yd_schedule_jump j = yd_schedule_jump_of(s, i, i - 1);
    s->sqrt_gamma[i] = (float)sqrt(g);
    s->sqrt_1m_gamma[i] = (float)sqrt(1.0 - g);
    s->recip_sqrt_gamma[i] = (float)sqrt(1.0 / g);
    s->recipm1_sqrt_gamma[i] = (float)sqrt(1.0 / g - 1.0);
    s->coef_x0[i] = j.coef_x0;
    s->coef_z[i] = j.coef_z;
    s->sigma_posterior[i] = j.sigma_posterior;
    s->sigma_beta[i] = j.sigma_beta;
}

int yd_schedule_make(const yd_schedule_config *cfg, int steps, double spacing, yd_schedule **out, yd_err *err)
{
    int rc = check(cfg, steps, err);
    if (!rc && spacing != 0.0 && !(spacing >= YD_SPACING_MIN && spacing <= YD_SPACING_MAX))
        rc = yd_fail_field(err, YD_E_SETTING, "spacing", "a number from 0.25 to 8", "spacing is out of range");
    if (rc) return rc;
    yd_schedule *s = yd_calloc(1, sizeof *s);
    if (!s || reserve(s, steps)) {
        yd_schedule_free(s);
        return yd_fail(err, YD_E_NOMEM, "no memory for a schedule of %d steps", steps);
    }
    s->spacing = spacing == 0.0 ? 1.0 : spacing;
    s->gamma[0] = 1.0;
    s->sqrt_gamma[0] = s->recip_sqrt_gamma[0] = 1.0f;
    if (yd_schedule_is_table(cfg))
        fill_table(s, cfg);
    else
        fill_cosine(s);
    if (s->gamma[steps] < GAMMA_FLOOR) {
        yd_schedule_free(s);
        return yd_fail_field(err, YD_E_SETTING, "schedule.end", "a smaller end, or fewer training steps",
                             "a linear schedule from %g to %g in %d steps leaves no signal to compute with", cfg->start,
                             cfg->end, cfg->train_steps);
    }
    for (int i = 1; i <= steps; i++) fill_coefficients(s, i);
    *out = s;
    return YD_OK;
}

void yd_schedule_free(yd_schedule *s)
{
    if (!s) return;
    yd_free(s->gamma);
    yd_free(s);
}

double yd_schedule_position(const yd_schedule *s, const yd_schedule_config *cfg, int step)
{
    return yd_schedule_is_table(cfg) ? (double)s->tau[step] / cfg->train_steps : spaced(s, step);
}

double yd_schedule_gamma(const yd_schedule_config *cfg, double u)
{
    u = u > 0.0 ? fmin(u, 1.0) : 0.0;
    if (cfg->kind == YD_SCHEDULE_COSINE) return cosine_gamma(u);
    double position = u * cfg->train_steps;
    int whole = (int)position;
    double part = position - whole, gamma = 1.0;
    for (int t = 1; t <= whole; t++) gamma *= 1.0 - yd_schedule_beta(cfg, t);
    return part > 0.0 ? gamma * pow(1.0 - yd_schedule_beta(cfg, whole + 1), part) : gamma;
}

float yd_schedule_timestep(const yd_schedule_config *cfg, double u)
{
    const double t = u * cfg->train_steps, whole = nearbyint(t);
    // tau/T times T may miss tau by rounding; a table's index must not
    return (float)fmax(0.0, (fabs(t - whole) < 1e-9 * cfg->train_steps ? whole : t) - 1.0);
}
