// Noise schedules: gamma_t = prod(1 - beta_i), the share of signal variance at timestep t (DDPM's alphas_cumprod), respaced to S
// sampling steps. Source: spec of the YODA paper (its alpha_t is DDPM's beta_t), Ho et al. 2020, Nichol & Dhariwal 2021.
// Pure data after yd_schedule_make(); any thread may read it.
#ifndef YD_CORE_SCHEDULE_H
#define YD_CORE_SCHEDULE_H

#include "core/err.h"

#define YD_MAX_STEPS   4000
#define YD_SPACING_MIN 0.25
#define YD_SPACING_MAX 8.0
// Memory of a schedule: gamma, tau and eight arrays of floats, per step.
#define YD_SCHEDULE_BYTES_PER_STEP (sizeof(double) + sizeof(int) + 8 * sizeof(float))

typedef enum {
    YD_SCHEDULE_LINEAR, // beta = linspace(start, end, T), computed in double
    YD_SCHEDULE_COSINE, // continuous: gamma(u) = cos^2((u + 0.008)/1.008 * pi/2), u = t/T in [0,1], clamped to >= 1e-5
    YD_SCHEDULE_COSINE_BETAS, // of T timesteps, as Nichol & Dhariwal's code has it: beta_t = min(0.999, 1 - c(t/T)/c((t-1)/T)), c(u) =
                              // cos^2((u + 0.008)/1.008 * pi/2)
} yd_schedule_kind;

typedef struct yd_schedule_config {
    yd_schedule_kind kind;
    int train_steps;   // T, 1..YD_MAX_STEPS; COSINE is continuous: there it only scales yd_schedule_timestep()
    double start, end; // linear: beta_1 and beta_T, 0 < start <= end < 1
} yd_schedule_config;

// Is it a table of T timesteps, of which a job takes some or all? Otherwise it is continuous and a job may take any number of steps.
static inline int yd_schedule_is_table(const yd_schedule_config *cfg)
{
    return cfg->kind != YD_SCHEDULE_COSINE;
}
// beta of timestep t, 1..T, of such a table.
double yd_schedule_beta(const yd_schedule_config *cfg, int t);

// One sampling schedule. Index s = 0..steps; gamma[0] = 1. Values are rounded to float once, from double.
typedef struct yd_schedule {
    int steps;
    double spacing;    // as given
    double *gamma;     // [steps+1], gamma of sampling step s (that of training timestep tau_s)
    int *tau;          // [steps+1], training timestep 1..T that step s stands for (tables), 0 at s = 0; s for cosine
    // For s = 1..steps, after respacing (beta_s = 1 - gamma_s/gamma_{s-1}):
    float *sqrt_gamma, *sqrt_1m_gamma;           // of step s; index 0 holds 1 and 0
    float *recip_sqrt_gamma, *recipm1_sqrt_gamma; // sqrt(1/gamma), sqrt(1/gamma - 1): x0 = recip*z - recipm1*eps
    float *coef_x0, *coef_z;                      // posterior mean = coef_x0*x0 + coef_z*z_s
    float *sigma_posterior;                       // sqrt(posterior variance), exactly 0 at s = 1 (used with zero noise there)
    float *sigma_beta;                            // sqrt(beta_s)
} yd_schedule;

// Make the schedule of S sampling steps. Step s stands at u_s = (s/S)^spacing of the noise range: 1 spaces them evenly, above 1 they
// crowd at low noise, where detail is decided, and cross the high noise in few large steps. cosine: gamma(u_s). Tables: S <= T; S == T
// takes every timestep, otherwise tau_s = round(u_s*T), moved apart where two would be one timestep. spacing: YD_SPACING_MIN..MAX;
// 0 counts as 1. YD_E_SETTING ("steps" or "spacing" and its range) when one is out of range; YD_E_NOMEM. Free with yd_schedule_free.
int yd_schedule_make(const yd_schedule_config *cfg, int steps, double spacing, yd_schedule **out, yd_err *err);
void yd_schedule_free(yd_schedule *s);

// Position u of step s in (0,1]: what yd_schedule_timestep() takes.
double yd_schedule_position(const yd_schedule *s, const yd_schedule_config *cfg, int step);

// An ancestral step from sampling step `from` down to the level of `to` < from, which may be several steps at once: mean =
// coef_x0*x0 + coef_z*z, and the square roots of both variances.
typedef struct yd_schedule_jump {
    float coef_x0, coef_z, sigma_posterior, sigma_beta;
} yd_schedule_jump;
yd_schedule_jump yd_schedule_jump_of(const yd_schedule *s, int from, int to);

// gamma of the continuous position u in [0,1] (training draws): cosine as above; tables interpolate log gamma between timesteps.
double yd_schedule_gamma(const yd_schedule_config *cfg, double u);

// What a network is told that counts timesteps from 0, as the public DDPM code does, at position u = t/T in (0,1]: u*T - 1, never below 0.
// An exact integer at the timesteps of a table, and between two of them where a cosine one is respaced.
float yd_schedule_timestep(const yd_schedule_config *cfg, double u);

#endif
