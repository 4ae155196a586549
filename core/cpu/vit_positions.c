// Learned positions on another grid: PyTorch's bicubic upsampling for a given scale factor (torch.nn.functional.interpolate, 1.13, CPU), in
// float as there. See vit.h.
#include "core/cpu/vit.h"

#include <math.h>
#include <string.h>

typedef struct taps {
    int at[4]; // clamped to the grid
    float weight[4];
} taps;

// A = -0.75. For x up to 1, and from there to 2.
static float near_tap(float x)
{
    return ((-0.75f + 2.0f) * x - (-0.75f + 3.0f)) * x * x + 1.0f;
}

static float far_tap(float x)
{
    return ((-0.75f * x - 5.0f * -0.75f) * x + 8.0f * -0.75f) * x - 4.0f * -0.75f;
}

// Where place i of `side` looks in a row of `grid` values.
static taps taps_of(int i, int side, int grid)
{
    const double factor = (side + 0.1) / (double)grid;
    const float step = (float)(1.0 / factor), at = step * ((float)i + 0.5f) - 0.5f;
    const int first = (int)floorf(at);
    const float t = at - (float)first;
    taps k = {.weight = {far_tap(t + 1.0f), near_tap(t), near_tap(1.0f - t), far_tap(2.0f - t)}};
    for (int j = 0; j < 4; j++) {
        const int p = first - 1 + j;
        k.at[j] = p < 0 ? 0 : p < grid ? p : grid - 1;
    }
    return k;
}

static void place(const float *learned, int grid, size_t dim, const taps *y, const taps *x, float *dst)
{
    for (size_t c = 0; c < dim; c++) {
        float sum = 0.0f;
        for (int j = 0; j < 4; j++) {
            const float *row = learned + (size_t)y->at[j] * (size_t)grid * dim + c;
            float along = 0.0f;
            for (int i = 0; i < 4; i++) along += row[(size_t)x->at[i] * dim] * x->weight[i];
            sum += along * y->weight[j];
        }
        dst[c] = sum;
    }
}

void yd_vit_positions(const float *learned, int grid, int dim, int gw, int gh, float *dst)
{
    const size_t d = (size_t)dim;
    memcpy(dst, learned, d * sizeof *dst); // the class's
    if (gw == grid && gh == grid) {
        memcpy(dst + d, learned + d, (size_t)grid * (size_t)grid * d * sizeof *dst);
        return;
    }
    for (int y = 0; y < gh; y++) {
        const taps down = taps_of(y, gh, grid);
        for (int x = 0; x < gw; x++) {
            const taps across = taps_of(x, gw, grid);
            place(learned + d, grid, d, &down, &across, dst + (1 + (size_t)y * (size_t)gw + (size_t)x) * d);
        }
    }
}
