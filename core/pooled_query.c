// See pooled_query.h. The mean is summed in double, place after place.
#include "core/pooled_query.h"

#include "core/cpu/vec.h"
#include "core/simd.h"

YD_SIMD static float product(const float *restrict q, const float *restrict z, size_t n)
{
    return yd_lane_sum(z, q, n);
}

static void mean_of(const float *z, size_t pixels, size_t c, float *q)
{
    for (size_t i = 0; i < c; i++) {
        double sum = 0;
        for (size_t p = 0; p < pixels; p++) sum += z[p * c + i];
        q[i] = (float)(sum / (double)pixels);
    }
}

void yd_pooled_query(const float *z, size_t pixels, size_t c, int heads, float *q, float *maps)
{
    const size_t group = c / (size_t)heads;
    mean_of(z, pixels, c, q);
    for (size_t k = 0; k < (size_t)heads; k++)
        for (size_t p = 0; p < pixels; p++) maps[k * pixels + p] = product(q + k * group, z + p * c + k * group, group);
}
