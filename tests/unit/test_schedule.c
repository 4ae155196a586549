// core/schedule: the buffers of the public SR3 code, respacing, the cosine form, and what it refuses.
#include "core/mem.h"
#include "core/schedule.h"
#include "tests/unit/fixture.h"
#include "tests/unit/t.h"

static const yd_schedule_config SR3_TINY = {YD_SCHEDULE_LINEAR, 12, 1e-4, 0.2};
static const yd_schedule_config SR3_FULL = {YD_SCHEDULE_LINEAR, 2000, 1e-6, 1e-2};
static const yd_schedule_config COSINE = {.kind = YD_SCHEDULE_COSINE};

static int ulps(float a, float b)
{
    int32_t x, y;
    memcpy(&x, &a, 4);
    memcpy(&y, &b, 4);
    return abs(x - y); // both positive here
}

static void compare(const char *path, const char *buffer, const float *got, int n, int allowed_ulps)
{
    size_t len = 0;
    float *want = fixture_read(path, buffer, &len);
    CHECK_MSG(want && len == (size_t)n * 4, "%s", buffer);
    for (int i = 0; want && len == (size_t)n * 4 && i < n; i++)
        CHECK_MSG(ulps(got[i], want[i]) <= allowed_ulps, "%s[%d]: %.9g, not %.9g", buffer, i, (double)got[i],
                  (double)want[i]);
    free(want);
}

static void test_sr3_buffers(void)
{
    const char *path = t_shared("fixtures/sr3_tiny/weights.safetensors");
    if (!path) {
        t_skip("fixtures/sr3_tiny is not there");
        return;
    }
    yd_schedule *s = NULL;
    CHECK(yd_schedule_make(&SR3_TINY, 12, 1.0, &s, NULL) == 0);
    if (!s) return;
    compare(path, "sqrt_alphas_cumprod", s->sqrt_gamma + 1, 12, 0);
    compare(path, "sqrt_one_minus_alphas_cumprod", s->sqrt_1m_gamma + 1, 12, 1);
    compare(path, "sqrt_recip_alphas_cumprod", s->recip_sqrt_gamma + 1, 12, 0);
    compare(path, "sqrt_recipm1_alphas_cumprod", s->recipm1_sqrt_gamma + 1, 12, 1);
    compare(path, "posterior_mean_coef1", s->coef_x0 + 1, 12, 1);
    compare(path, "posterior_mean_coef2", s->coef_z + 1, 12, 1);

    float var[12], beta[12], gamma[12];
    for (int i = 0; i < 12; i++) {
        var[i] = (float)((double)s->sigma_posterior[i + 1] * (double)s->sigma_posterior[i + 1]);
        beta[i] = (float)((double)s->sigma_beta[i + 1] * (double)s->sigma_beta[i + 1]);
        gamma[i] = (float)s->gamma[i + 1];
    }
    compare(path, "posterior_variance", var, 12, 2); // squaring a rounded root costs up to two
    compare(path, "betas", beta, 12, 2);
    compare(path, "alphas_cumprod", gamma, 12, 0);

    // The reference takes its deviation as exp(0.5 * float log); ours is the root, to a few 1e-7.
    size_t len = 0;
    float *log_var = fixture_read(path, "posterior_log_variance_clipped", &len);
    CHECK(log_var && len == 48);
    for (int i = 1; log_var && i < 12; i++) {
        double want = exp(0.5 * (double)log_var[i]);
        CHECK(fabs((double)s->sigma_posterior[i + 1] - want) < 1e-6 * want);
    }
    free(log_var);
    yd_schedule_free(s);
}

static void test_first_step(void)
{
    const yd_schedule_config *all[] = {&SR3_TINY, &SR3_FULL, &COSINE};
    for (int k = 0; k < 3; k++) {
        yd_schedule *s = NULL;
        CHECK(yd_schedule_make(all[k], 12, 1.0, &s, NULL) == 0);
        CHECK(s->gamma[0] == 1.0 && s->tau[0] == 0);
        CHECK(s->sqrt_gamma[0] == 1.0f && s->sqrt_1m_gamma[0] == 0.0f);
        CHECK(s->sigma_posterior[1] == 0.0f && s->coef_z[1] == 0.0f && s->coef_x0[1] == 1.0f);
        yd_schedule_free(s);
    }
}

static void test_full_linear(void)
{
    yd_schedule *s = NULL;
    CHECK(yd_schedule_make(&SR3_FULL, 2000, 1.0, &s, NULL) == 0);
    CHECK(fabs(s->gamma[2000] - 4.386e-5) < 1e-8);
    CHECK(fabs(s->recipm1_sqrt_gamma[2000] - 151.0f) < 0.1f);
    CHECK(fabs(s->gamma[1] - (1.0 - 1e-6)) < 1e-15);
    for (int i = 1; i <= 2000; i++) CHECK(s->tau[i] == i && s->gamma[i] < s->gamma[i - 1]);
    yd_schedule_free(s);
}

// Any S picks timesteps of the full schedule, ends at T, and its posterior still preserves variance: a z made with gamma_s from a
// unit x0 becomes one made with gamma_(s-1).
static void test_respacing(void)
{
    static const int counts[] = {1, 2, 3, 7, 50, 333, 1000, 1999, 2000};
    yd_schedule *full = NULL;
    CHECK(yd_schedule_make(&SR3_FULL, 2000, 1.0, &full, NULL) == 0);
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        yd_schedule *s = NULL;
        CHECK(yd_schedule_make(&SR3_FULL, counts[k], 1.0, &s, NULL) == 0);
        CHECK(s->steps == counts[k] && s->tau[s->steps] == 2000);
        for (int i = 1; i <= s->steps; i++) {
            CHECK(s->tau[i] > s->tau[i - 1]);
            CHECK(s->tau[i] == (int)floor((double)i * 2000 / s->steps + 0.5));
            CHECK(s->gamma[i] == full->gamma[s->tau[i]]);
            double signal = (double)s->coef_x0[i] + (double)s->coef_z[i] * sqrt(s->gamma[i]);
            double noise = pow((double)s->coef_z[i], 2) * (1 - s->gamma[i]) + pow((double)s->sigma_posterior[i], 2);
            CHECK(fabs(signal - sqrt(s->gamma[i - 1])) < 1e-6);
            CHECK(fabs(noise - (1 - s->gamma[i - 1])) < 1e-6);
            CHECK(fabs(pow((double)s->sigma_beta[i], 2) - (1 - s->gamma[i] / s->gamma[i - 1])) < 1e-6);
        }
        yd_schedule_free(s);
    }
    yd_schedule_free(full);
}

static void test_cosine(void)
{
    static const int counts[] = {1, 4, 12, 100, YD_MAX_STEPS};
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        yd_schedule *s = NULL;
        CHECK(yd_schedule_make(&COSINE, counts[k], 1.0, &s, NULL) == 0);
        for (int i = 1; i <= s->steps; i++) {
            CHECK(s->tau[i] == i && s->gamma[i] <= s->gamma[i - 1] && s->gamma[i] >= 1e-5);
            CHECK(isfinite(s->coef_x0[i]) && isfinite(s->coef_z[i]) && isfinite(s->sigma_posterior[i]));
        }
        CHECK(s->gamma[s->steps] == 1e-5);
        yd_schedule_free(s);
    }
    CHECK(fabs(yd_schedule_gamma(&COSINE, 0.0) - 0.99984459) < 1e-6);
    CHECK(fabs(yd_schedule_gamma(&COSINE, 0.496) - 0.5) < 1e-9); // (0.496 + 0.008)/1.008 is a half
}

static void refused(yd_schedule_config cfg, int steps, const char *field, const char *accepted);

// The numbers of the published SRDiff checkpoints' buffers, and what fewer steps make of them.
static void test_cosine_betas(void)
{
    const yd_schedule_config c = {.kind = YD_SCHEDULE_COSINE_BETAS, .train_steps = 100};
    yd_schedule *s = NULL, *fewer = NULL;
    CHECK(yd_schedule_is_table(&c) && !yd_schedule_is_table(&COSINE));
    CHECK(fabs(yd_schedule_beta(&c, 1) - 6.3128e-4) < 1e-8 && fabs(yd_schedule_beta(&c, 99) - 0.74994) < 1e-5 && yd_schedule_beta(&c, 100) == 0.999);
    CHECK(yd_schedule_make(&c, 100, 1.0, &s, NULL) == 0 && yd_schedule_make(&c, 25, 1.0, &fewer, NULL) == 0);
    CHECK(fabs(s->gamma[100] - 2.43e-7) < 1e-9 && s->tau[100] == 100 && yd_schedule_timestep(&c, yd_schedule_position(s, &c, 100)) == 99.0f);
    for (int i = 1; i <= 25; i++) CHECK(fewer->gamma[i] == s->gamma[4 * i] && fewer->tau[i] == 4 * i);
    yd_schedule_free(s);
    yd_schedule_free(fewer);
    refused(c, 101, "steps", "1 to 100");
    refused((yd_schedule_config){.kind = YD_SCHEDULE_COSINE_BETAS}, 1, "train_steps", "4000");
}

static void test_continuous_gamma(void)
{
    yd_schedule *s = NULL;
    CHECK(yd_schedule_make(&SR3_TINY, 12, 1.0, &s, NULL) == 0);
    CHECK(yd_schedule_gamma(&SR3_TINY, 0.0) == 1.0);
    for (int t = 1; t <= 12; t++) {
        double at = yd_schedule_gamma(&SR3_TINY, t / 12.0), between = yd_schedule_gamma(&SR3_TINY, (t - 0.5) / 12.0);
        CHECK(fabs(at - s->gamma[t]) < 1e-12);
        CHECK(fabs(log(between) - 0.5 * (log(s->gamma[t]) + log(s->gamma[t - 1]))) < 1e-12);
    }
    CHECK(yd_schedule_gamma(&SR3_TINY, 7.0) == yd_schedule_gamma(&SR3_TINY, 1.0));
    CHECK(yd_schedule_gamma(&SR3_TINY, NAN) == 1.0);
    yd_schedule_free(s);
}

static void refused(yd_schedule_config cfg, int steps, const char *field, const char *accepted)
{
    yd_schedule *s = NULL;
    yd_err err = {0};
    CHECK(yd_schedule_make(&cfg, steps, 1.0, &s, &err) == YD_E_SETTING && !s);
    CHECK_MSG(strstr(err.field, field) != NULL, "field '%s'", err.field);
    CHECK_MSG(strstr(err.accepted, accepted) != NULL, "accepted '%s'", err.accepted);
    yd_schedule_free(s);
}

static void test_refusals(void)
{
    refused(SR3_TINY, 0, "steps", "1 to 12");
    refused(SR3_TINY, 13, "steps", "1 to 12");
    refused(SR3_TINY, -5, "steps", "1 to 12");
    refused(COSINE, YD_MAX_STEPS + 1, "steps", "1 to 4000");
    refused((yd_schedule_config){YD_SCHEDULE_LINEAR, 0, 1e-4, 0.1}, 1, "train_steps", "4000");
    refused((yd_schedule_config){YD_SCHEDULE_LINEAR, 4001, 1e-4, 0.1}, 1, "train_steps", "4000");
    refused((yd_schedule_config){YD_SCHEDULE_LINEAR, 10, 0.0, 0.1}, 1, "start", "0 < start");
    refused((yd_schedule_config){YD_SCHEDULE_LINEAR, 10, 0.2, 0.1}, 1, "start", "0 < start");
    refused((yd_schedule_config){YD_SCHEDULE_LINEAR, 10, 0.1, 1.0}, 1, "end", "end < 1");
    refused((yd_schedule_config){YD_SCHEDULE_LINEAR, 10, NAN, NAN}, 1, "start", "0 < start");
    refused((yd_schedule_config){YD_SCHEDULE_LINEAR, 4000, 0.5, 0.9}, 10, "end", "smaller end");
}

static void test_out_of_memory(void)
{
    for (long k = 1; k <= 2; k++) {
        yd_schedule *s = NULL;
        yd_err err = {0};
        yd_mem_fail_at(k);
        CHECK(yd_schedule_make(&SR3_TINY, 12, 1.0, &s, &err) == YD_E_NOMEM && !s && err.code == YD_E_NOMEM);
    }
    yd_mem_fail_at(0);
}

// Steps crowd where the exponent says, in both kinds; however far they are pushed, timesteps stay distinct and in range.
static void test_spacing(void)
{
    yd_schedule *s, *even;
    CHECK(yd_schedule_make(&COSINE, 8, 2.0, &s, NULL) == 0 && yd_schedule_make(&COSINE, 64, 1.0, &even, NULL) == 0);
    for (int i = 1; i <= 8; i++) { // (i/8)^2 = i*i/64
        CHECK(fabs(s->gamma[i] - even->gamma[i * i]) < 1e-15);
        CHECK(fabs(yd_schedule_position(s, &COSINE, i) - i * i / 64.0) < 1e-15);
    }
    yd_schedule_free(s);
    yd_schedule_free(even);
    static const double spacings[] = {YD_SPACING_MIN, 0.5, 1.0, 3.0, YD_SPACING_MAX};
    for (size_t k = 0; k < sizeof spacings / sizeof *spacings; k++) {
        CHECK(yd_schedule_make(&SR3_FULL, 500, spacings[k], &s, NULL) == 0);
        for (int i = 1; i <= 500; i++) CHECK(s->tau[i] > s->tau[i - 1] && s->gamma[i] < s->gamma[i - 1]);
        CHECK(s->tau[1] >= 1 && s->tau[500] == 2000);
        CHECK(yd_schedule_position(s, &SR3_FULL, 500) == 1.0);
        yd_schedule_free(s);
    }
    CHECK(yd_schedule_make(&SR3_FULL, 100, 2.0, &s, NULL) == 0 && s->tau[50] == 500);
    yd_schedule_free(s);
    CHECK(yd_schedule_make(&COSINE, 8, 0.0, &s, NULL) == 0 && s->spacing == 1.0); // not given
    yd_schedule_free(s);
    static const double bad[] = {-1.0, 0.2, 8.1, (double)NAN, (double)INFINITY};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        yd_err err = {0};
        s = NULL;
        CHECK(yd_schedule_make(&COSINE, 8, bad[k], &s, &err) == YD_E_SETTING && !s && strcmp(err.field, "spacing") == 0);
    }
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"schedule: the buffers of an SR3 checkpoint", test_sr3_buffers},
        {"schedule: step 1 adds nothing", test_first_step},
        {"schedule: linear, 2000 steps", test_full_linear},
        {"schedule: respaced, variance preserved", test_respacing},
        {"schedule: cosine", test_cosine},
        {"schedule: gamma between the timesteps", test_continuous_gamma},
        {"schedule: spacing", test_spacing},
        {"schedule: cosine betas", test_cosine_betas},
        {"schedule: what is refused", test_refusals},
        {"schedule: every allocation may fail", test_out_of_memory},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
