// Activation steps (Eq. 8). The arithmetic is double throughout: A is a float, l and S*(A + l) are not exact in binary, and the
// 1e-4 that is added before the floor is far above their rounding and far below one step, so that A = 0, l = k/S is k, exactly.
// Owns nothing. Read next: core/sampler.c, which walks the steps.
#include "core/mask.h"
#include "core/schedule.h"

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

// Gaps between the steps that have their threshold are halved, all of them once before any a second time, those at low noise first, where
// detail is decided.
static void strided_thresholds(int steps, uint16_t *r)
{
    int n = 0;
    for (int s = 0; s <= steps; s++) r[s] = 0;
    r[steps] = (uint16_t)++n;
    if (steps > 1) r[1] = (uint16_t)++n;
    while (n < steps)
        for (int low = 1; low < steps;) {
            int high = low + 1;
            while (!r[high]) high++;
            if (high - low > 1) r[(high + low) / 2] = (uint16_t)++n;
            low = high;
        }
}

void yd_mask_thresholds(yd_allocation kind, int steps, uint16_t *r)
{
    if (kind != YD_ALLOCATION_LATE) strided_thresholds(steps, r);
    else
        for (int s = 0; s <= steps; s++) r[s] = (uint16_t)s;
}

int yd_mask_threshold(yd_allocation kind, int steps, int step)
{
    uint16_t r[YD_MAX_STEPS + 1];
    yd_mask_thresholds(kind, steps, r);
    return r[step];
}

// The move of pixels with this a, as far up from it as it is the same for all.
static yd_mask_move move_of(const uint16_t *r, int steps, int step, int a)
{
    yd_mask_move m = {.from = a, .to = steps, .older = a, .before = step + 1, .next = step - 1};
    for (; m.next > 0 && r[m.next] > a; m.next--)
        if (r[m.next] <= m.to) m.to = r[m.next] - 1;
    for (; m.before <= steps && r[m.before] > a; m.before++)
        if (r[m.before] <= m.to) m.to = r[m.before] - 1;
    if (m.before > steps) {
        m.before = 0;
        m.older = steps + 1;
    }
    return m;
}

int yd_mask_moves(const uint16_t *r, int steps, int step, yd_mask_move moves[YD_MASK_MOVES])
{
    int n = 0;
    for (int a = r[step]; a <= steps && n < YD_MASK_MOVES; a = moves[n++].to + 1) {
        yd_mask_move m = move_of(r, steps, step, a), more;
        // those that come for the first time go along with those that do not, where both go on to the same step
        if (!m.before && m.to < steps && (more = move_of(r, steps, step, m.to + 1)).next == m.next) {
            more.from = a;
            m = more;
        }
        moves[n] = m;
    }
    return n;
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
