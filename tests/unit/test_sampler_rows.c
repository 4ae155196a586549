// The sampler's vector loops (core/sampler_rows.h) against the same arithmetic written one value at a time: equal to the bit.
#include "core/sampler_rows.h"
#include "tests/unit/t.h"
#include <limits.h>
#include <stdint.h>

enum { N = 203 };

static uint16_t a[N], up[3 * N];
static float z[3 * N], pred[3 * N], noise[3 * N], cond[3 * N], wx[N];
static uint8_t shown[3 * N];

static float draw(void)
{
    static uint32_t seed = 9;
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 8388608.0f - 1.0f;
}

static void fill(void)
{
    for (int x = 0; x < N; x++) {
        a[x] = (uint16_t)(x % 11);
        wx[x] = x % 5 ? fabsf(draw()) : 0.0f;
    }
    for (int i = 0; i < 3 * N; i++) {
        up[i] = (uint16_t)(i * 977);
        z[i] = a[i / 3] >= 5 ? 2 * draw() : NAN; // nothing else has a meaning yet
        pred[i] = 4 * draw();
        noise[i] = 3 * draw();
        cond[i] = draw();
        shown[i] = (uint8_t)i;
    }
}

static void test_condition(void)
{
    static uint16_t all[65536];
    static float out[65536];
    for (int v = 0; v < 65536; v++) all[v] = (uint16_t)v;
    yd_rows_condition(all, 65536, out);
    int wrong = 0, wrong8 = 0;
    for (int v = 0; v < 65536; v++) wrong += out[v] != (float)(v / 65535.0 * 2.0 - 1.0);
    for (int v = 0; v < 256; v++) wrong8 += out[v * 257] != (float)(v / 255.0 * 2.0 - 1.0);
    CHECK_MSG(!wrong && !wrong8, "%d of 65536 values differ, %d of the bytes", wrong, wrong8);
}

static void test_gather(void)
{
    static float x[6 * N];
    for (int with = 0; with < 2; with++)
        for (int step = 5; step < 12; step++) {
            fill();
            yd_rows_gather(up, with ? cond : NULL, z, a, step, N, x);
            int wrong = 0;
            for (int i = 0; i < 3 * N; i++) {
                const float low = with ? cond[i] : (float)(up[i] / 65535.0 * 2.0 - 1.0), high = a[i / 3] >= step ? z[i] : 0.0f;
                wrong += x[i / 3 * 6 + i % 3] != low || x[i / 3 * 6 + 3 + i % 3] != high;
            }
            CHECK_MSG(!wrong, "step %d: %d values differ", step, wrong);
        }
    yd_rows_gather(up, NULL, z, a, INT_MAX, N, x);
    CHECK(x[3] == 0 && x[6 * N - 1] == 0);
}

static void test_show_rest(void)
{
    static float x[6 * N], want[6 * N];
    for (int residual = 0; residual < 2; residual++) {
        fill();
        yd_rows_gather(up, NULL, z, a, 7, N, x);
        memcpy(want, x, sizeof x);
        int rest = 0;
        for (int i = 0; i < N; i++)
            for (int c = 0; c < 3 && a[i] < 7; c++, rest++) want[6 * i + 3 + c] = 0.9f * (residual ? 0.0f : want[6 * i + c]) + 0.4f * noise[3 * i + c];
        yd_rows_show_rest(a, 7, 0.9f, 0.4f, residual, noise, N, 6, x);
        CHECK(rest > N && memcmp(x, want, sizeof x) == 0);
    }
}

static void test_blend(void)
{
    static float acc[3 * N], want[3 * N];
    fill();
    for (int i = 0; i < 3 * N; i++) want[i] = acc[i] = i % 7 ? draw() : 0.0f;
    for (int i = 0; i < 3 * N; i++) {
        const float w = 0.37f * wx[i / 3];
        want[i] += w * pred[i];
    }
    CHECK(yd_rows_blend(acc, pred, 0.37f, wx, N) == 0);
    CHECK(memcmp(acc, want, sizeof acc) == 0);
    for (int i = 0; i < 3 * N; i += 101)
        for (int kind = 0; kind < 3; kind++) {
            fill();
            pred[i] = kind == 0 ? NAN : kind == 1 ? INFINITY : -INFINITY;
            CHECK(yd_rows_blend(acc, pred, 0.0f, wx, N) == -1);
        }
}

static uint8_t byte_of(float v)
{
    v = v < -1.0f ? -1.0f : v > 1.0f ? 1.0f : v;
    return (uint8_t)lrintf((v + 1.0f) * 127.5f);
}

static void check_update(const yd_step_coefs *k)
{
    static float want[3 * N];
    static uint8_t bytes[3 * N];
    fill();
    memcpy(want, z, sizeof z);
    memcpy(bytes, shown, sizeof shown);
    for (int i = 0; i < 3 * N; i++) {
        if (a[i / 3] < 5) continue;
        float x0 = k->x0_z * z[i] + k->x0_pred * pred[i];
        if (k->clip > 0.0f) x0 = x0 < -k->clip ? -k->clip : x0 > k->clip ? k->clip : x0;
        const float mean = k->z_x0 * x0 + k->z_z * z[i];
        want[i] = k->sigma > 0.0f ? mean + k->sigma * noise[i] : mean;
        bytes[i] = byte_of(k->unscale != 0.0f ? cond[i] + x0 * k->unscale : x0);
    }
    yd_rows_update(k, a, k->unscale != 0.0f ? cond : NULL, pred, k->sigma > 0.0f ? noise : NULL, N, NULL, NULL, z, shown);
    CHECK_MSG(memcmp(z, want, sizeof z) == 0, "clip %g sigma %g unscale %g: z differs", (double)k->clip, (double)k->sigma,
              (double)k->unscale);
    CHECK_MSG(memcmp(shown, bytes, sizeof shown) == 0, "clip %g sigma %g unscale %g: bytes differ", (double)k->clip, (double)k->sigma,
              (double)k->unscale);
}

static void test_update(void)
{
    for (int kind = 0; kind < 8; kind++) {
        yd_step_coefs k = {.x0_z = 1.25f, .x0_pred = -0.75f, .z_x0 = 0.6f, .z_z = 0.35f, .from = 5, .to = 20, .older = 6};
        k.clip = kind & 1 ? 1.5f : 0;
        k.sigma = kind & 2 ? 0.3f : 0;
        k.unscale = kind & 4 ? 0.25f : 0;
        check_update(&k);
    }
}

// Second order: the line through the last two predictions, where there are two.
static void test_look_ahead(void)
{
    static float want[3 * N], before[3 * N], left[3 * N];
    for (int kind = 0; kind < 8; kind++) {
        const yd_step_coefs k = {.x0_z = 1.25f, .x0_pred = -0.75f, .z_x0 = 0.6f, .z_z = 0.35f, .ahead = 0.4f, .from = 5, .to = 20, .older = 6,
                                 .clip = kind & 1 ? 1.5f : 0, .sigma = kind & 2 ? 0.3f : 0, .unscale = kind & 4 ? 0.25f : 0};
        static uint8_t bytes[3 * N];
        fill();
        for (int i = 0; i < 3 * N; i++) before[i] = left[i] = a[i / 3] > 5 ? draw() : NAN;
        memcpy(want, z, sizeof z);
        memcpy(bytes, shown, sizeof shown);
        for (int i = 0; i < 3 * N; i++) {
            if (a[i / 3] < 5) continue;
            float x0 = k.x0_z * z[i] + k.x0_pred * pred[i];
            if (k.clip > 0.0f) x0 = x0 < -k.clip ? -k.clip : x0 > k.clip ? k.clip : x0;
            left[i] = x0;
            const float line = x0 + k.ahead * (x0 - (a[i / 3] > 5 ? before[i] : x0));
            const float mean = k.z_x0 * line + k.z_z * z[i];
            want[i] = k.sigma > 0.0f ? mean + k.sigma * noise[i] : mean;
            bytes[i] = byte_of(k.unscale != 0.0f ? cond[i] + x0 * k.unscale : x0);
        }
        yd_rows_update(&k, a, k.unscale != 0.0f ? cond : NULL, pred, k.sigma > 0.0f ? noise : NULL, N, before, NULL, z, shown);
        CHECK_MSG(memcmp(z, want, sizeof z) == 0 && memcmp(shown, bytes, sizeof shown) == 0, "kind %d", kind);
        for (int i = 0; i < 3 * N; i++) CHECK(a[i / 3] < 5 || before[i] == left[i]);
    }
}

// A range of pixels takes the step; their first predictions are kept where it is their first, and mixed into what is shown.
static void test_ranges_and_first(void)
{
    static float want[3 * N], first[3 * N], left[3 * N];
    static uint8_t bytes[3 * N];
    const yd_step_coefs k = {.x0_z = 1.25f, .x0_pred = -0.75f, .z_x0 = 0.6f, .z_z = 0.35f, .sigma = 0.3f, .clip = 1.5f, .unscale = 0.25f,
                             .first = 0.3f, .from = 6, .to = 8, .older = 7};
    fill();
    for (int i = 0; i < 3 * N; i++) first[i] = left[i] = a[i / 3] >= 7 ? draw() : NAN;
    memcpy(want, z, sizeof z);
    memcpy(bytes, shown, sizeof shown);
    for (int i = 0; i < 3 * N; i++) {
        if (a[i / 3] < 6 || a[i / 3] > 8) continue;
        float x0 = k.x0_z * z[i] + k.x0_pred * pred[i];
        x0 = x0 < -k.clip ? -k.clip : x0 > k.clip ? k.clip : x0;
        if (a[i / 3] == 6) left[i] = x0;
        const float mean = k.z_x0 * x0 + k.z_z * z[i];
        want[i] = mean + k.sigma * noise[i];
        bytes[i] = byte_of(cond[i] + ((1.0f - k.first) * x0 + k.first * left[i]) * k.unscale);
    }
    yd_rows_update(&k, a, cond, pred, noise, N, NULL, first, z, shown);
    CHECK(memcmp(z, want, sizeof z) == 0 && memcmp(shown, bytes, sizeof shown) == 0 && memcmp(first, left, sizeof left) == 0);
}

static void test_switch_on(void)
{
    static float want[3 * N];
    for (int with = 0; with < 2; with++) {
        fill();
        memcpy(want, z, sizeof z);
        for (int i = 0; i < 3 * N; i++)
            if (a[i / 3] == 4) want[i] = 0.9f * (with ? cond[i] : 0.0f) + 0.4f * noise[i];
        yd_rows_switch_on(a, 4, 4, 0.9f, 0.4f, with ? cond : NULL, noise, N, z);
        CHECK(memcmp(z, want, sizeof z) == 0);
    }
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"samples of 16 bits become the same floats as by division", test_condition},
        {"gathering pixels", test_gather},
        {"pixels at rest, shown", test_show_rest},
        {"blending predictions, and what is not finite", test_blend},
        {"a step of the update", test_update},
        {"sampler rows: second order", test_look_ahead},
        {"a range of pixels, first predictions", test_ranges_and_first},
        {"pixels that come on", test_switch_on},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
