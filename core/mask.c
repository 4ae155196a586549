// Activation steps (Eq. 8). The arithmetic is double throughout: A is a float, l and S*(A + l) are not exact in binary, and the
// 1e-4 that is added before the floor is far above their rounding and far below one step, so that A = 0, l = k/S is k, exactly.
// Owns nothing. Read next: core/sampler.c, which walks the steps.
#include "core/mask.h"

#include <math.h>

#define ROUNDING_SLACK 1e-4

static double clamp_attention(float a)
{
    if (isnan(a) || a > 1.0f) return 1.0; // what is not known is refined in full
    return a > 0.0f ? (double)a : 0.0;
}

void yd_mask_activation(const float *attention, long n, int steps, double lower_bound, yd_mask_form form, uint16_t *a)
{
    for (long i = 0; i < n; i++) {
        double att = clamp_attention(attention[i]);
        double level = form == YD_MASK_ADD ? att + lower_bound : fmax(att, lower_bound);
        double step = floor(steps * level + ROUNDING_SLACK);
        a[i] = (uint16_t)fmin(fmax(step, 1.0), (double)steps);
    }
}

void yd_mask_counts(const uint16_t *a, long n, int steps, long *counts)
{
    for (int s = 0; s <= steps; s++) counts[s] = 0;
    for (long i = 0; i < n; i++) counts[a[i]]++;
    for (int s = steps; s > 0; s--) counts[s - 1] += counts[s]; // from "a == s" to "a >= s"
}

double yd_mask_share(const uint16_t *a, long n, int steps)
{
    uint64_t sum = 0;
    for (long i = 0; i < n; i++) sum += a[i];
    return (double)sum / ((double)n * steps);
}
