// Windows over a canvas: every pixel is covered, weights sum to one, no window is more than needed, and yd_windows_max finds what a
// plain search over the weights finds. Small windows and odd sizes, where a layout has the least room.
#include "core/mem.h"
#include "core/rng.h"
#include "core/windows.h"
#include "tests/unit/t.h"

#define SIZES 11
static const int sizes[SIZES] = {1, 7, 8, 9, 15, 16, 17, 31, 63, 101, 1283};

typedef struct shape {
    int w, h, overlap;
} shape;

static const shape shapes[] = {{8, 8, 0},    {8, 8, 1},    {8, 8, 2},   {8, 8, 3},    {8, 8, 4},     {16, 16, 1}, {32, 32, 2},
                               {32, 32, 4},  {48, 48, 6},  {64, 64, 4}, {64, 64, 32}, {128, 128, 0}, {16, 8, 4},  {8, 16, 3}};
#define SHAPES (sizeof shapes / sizeof shapes[0])

static double weight_at(const yd_axis *a, int window, int i, int x)
{
    const int at = x - a->start[i];
    return at >= 0 && at < window ? (double)a->weight[i * window + at] : 0.0;
}

// Along one axis: the sum of weights at each pixel, and how many windows reach it.
static void check_axis(const yd_axis *a, int window, int overlap, int size)
{
    double worst = 0.0;
    int least = 99;
    for (int x = 0; x < size; x++) {
        double sum = 0.0;
        int reached = 0;
        for (int i = 0; i < a->n; i++) {
            const double w = weight_at(a, window, i, x);
            CHECK(w >= 0.0 && w <= 1.0);
            sum += w;
            reached += x >= a->start[i] && x < a->start[i] + window;
        }
        if (fabs(sum - 1.0) > worst) worst = fabs(sum - 1.0);
        if (reached < least) least = reached;
    }
    CHECK_MSG(worst < 1e-6 && least >= 1, "size %d, window %d, overlap %d: weights off by %g, %d windows", size, window, overlap, worst, least);
    CHECK(a->n == yd_windows_along(size, window, overlap));
    CHECK(a->start[0] == 0);
    for (int i = 0; i < a->n; i++)
        for (int x = size - a->start[i]; x < window; x++) CHECK(x < 0 || a->weight[i * window + x] == 0.0f); // beyond the canvas
    for (int i = 1; i < a->n; i++) {
        CHECK(a->start[i] > a->start[i - 1] && a->start[i] + window <= size);
        CHECK_MSG(a->start[i - 1] + window - a->start[i] >= overlap, "size %d: windows %d and %d overlap by less than %d", size, i - 1, i, overlap);
    }
    // one window less could not overlap so much: n is the least number
    if (a->n > 1) CHECK((a->n - 1) * window - (a->n - 2) * overlap < size);
}

static void every_pixel_is_shared_out(void)
{
    for (size_t k = 0; k < SHAPES; k++)
        for (int i = 0; i < SIZES; i++) {
            yd_windows ws;
            const int w = sizes[i], h = sizes[SIZES - 1 - i];
            CHECK(yd_windows_make(w, h, shapes[k].w, shapes[k].h, shapes[k].overlap, &ws, NULL) == 0);
            CHECK(yd_windows_count(&ws) == ws.x.n * ws.y.n);
            check_axis(&ws.x, shapes[k].w, shapes[k].overlap, w);
            check_axis(&ws.y, shapes[k].h, shapes[k].overlap, h);
            yd_windows_clear(&ws);
        }
}

// The outer quarters of an overlap are context: a window has no say there, and none of its pixels there can call for it.
static void outer_quarters_have_no_say(void)
{
    yd_windows ws;
    CHECK(yd_windows_make(120, 120, 64, 64, 8, &ws, NULL) == 0);
    CHECK(ws.x.n == 2 && ws.x.start[1] == 56);
    for (int x = 0; x < 64; x++) {
        const float first = ws.x.weight[x], second = ws.x.weight[64 + x];
        CHECK_MSG(x < 58 ? first == 1.0f : x < 62 ? first > 0.0f && first < 1.0f : first == 0.0f, "first window, pixel %d: %g", x, (double)first);
        CHECK_MSG(x < 2 ? second == 0.0f : x < 6 ? second > 0.0f && second < 1.0f : second == 1.0f, "second window, pixel %d: %g", x, (double)second);
    }
    yd_windows_clear(&ws);
}

// Largest value over the pixels with a weight above zero, one by one.
static uint16_t plain_max(const yd_windows *ws, const uint16_t *a, int ix, int iy)
{
    uint16_t best = 0;
    for (int y = 0; y < ws->h; y++)
        for (int x = 0; x < ws->w; x++)
            if (weight_at(&ws->x, ws->window_w, ix, x) * weight_at(&ws->y, ws->window_h, iy, y) > 0.0 && a[y * ws->w + x] > best)
                best = a[y * ws->w + x];
    return best;
}

static void compare_max(int w, int h, const shape *s, uint32_t density, uint64_t seed)
{
    yd_windows ws;
    CHECK(yd_windows_make(w, h, s->w, s->h, s->overlap, &ws, NULL) == 0);
    uint16_t *a = yd_calloc((size_t)(w * h), sizeof *a), *max = yd_malloc((size_t)yd_windows_count(&ws) * sizeof *max);
    for (int i = 0; i < w * h; i++) // mostly ones, here and there something higher: windows differ
        a[i] = (uint16_t)(yd_rng_uniform(seed, 1, (uint64_t)i, 0) * (float)density < 1.0f ? 1.0f + 4000.0f * yd_rng_uniform(seed, 2, (uint64_t)i, 0) : 1.0f);
    yd_windows_max(&ws, a, max);
    int wrong = 0;
    for (int i = 0; i < yd_windows_count(&ws); i++) wrong += max[i] != plain_max(&ws, a, i % ws.x.n, i / ws.x.n);
    CHECK_MSG(wrong == 0, "%dx%d, windows %dx%d/%d: %d of %d differ", w, h, s->w, s->h, s->overlap, wrong, yd_windows_count(&ws));
    yd_free(a);
    yd_free(max);
    yd_windows_clear(&ws);
}

static void the_largest_step_of_each_window_is_found(void)
{
    static const int canvases[][2] = {{1, 1}, {5, 40}, {8, 8}, {9, 33}, {101, 67}, {64, 130}};
    for (size_t k = 0; k < SHAPES; k++)
        for (size_t i = 0; i < sizeof canvases / sizeof canvases[0]; i++)
            for (uint32_t density = 1; density <= 400; density *= 20) compare_max(canvases[i][0], canvases[i][1], &shapes[k], density, i);
}

// Canvases wider than what is reduced at a time, on and beside its border.
static void wide_canvases_are_reduced_in_parts(void)
{
    static const int widths[] = {1023, 1024, 1025, 2049, 3000};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) compare_max(widths[i], 20, &(shape){48, 16, 6}, 300, i);
}

// One pixel calls for exactly the windows that have a say in it, wherever it is.
static void one_pixel_calls_for_its_windows_only(void)
{
    enum { W = 60, H = 44 };
    yd_windows ws;
    static uint16_t a[W * H], max[256];
    CHECK(yd_windows_make(W, H, 16, 16, 4, &ws, NULL) == 0 && yd_windows_count(&ws) <= 256);
    int most = 0, fewest = 99;
    for (int p = 0; p < W * H; p++) {
        memset(a, 0, sizeof a);
        a[p] = 7;
        yd_windows_max(&ws, a, max);
        int called = 0;
        for (int i = 0; i < yd_windows_count(&ws); i++) {
            const double say = weight_at(&ws.x, 16, i % ws.x.n, p % W) * weight_at(&ws.y, 16, i / ws.x.n, p / W);
            CHECK((max[i] == 7) == (say > 0.0) && (max[i] == 7 || max[i] == 0));
            called += max[i] == 7;
        }
        if (called > most) most = called;
        if (called < fewest) fewest = called;
    }
    CHECK_MSG(fewest == 1 && most == 4, "a pixel calls for %d to %d windows", fewest, most);
    yd_windows_clear(&ws);
}

// On multiples of so many pixels: every window begins at one, all pixels are covered, weights sum to one, and there are no more windows.
static void test_aligned(void)
{
    static const int aligns[] = {2, 4, 8};
    for (size_t k = 0; k < 3; k++)
        for (int overlap = 0; overlap <= 16; overlap += 3)
            for (int size = aligns[k]; size < 400; size += 7 * aligns[k]) {
                yd_windows ws;
                CHECK(yd_windows_make_aligned(size, size, 32, 32, overlap, aligns[k], &ws, NULL) == 0);
                CHECK(ws.x.n == yd_windows_along(size, 32, overlap));
                for (int i = 0; i < ws.x.n; i++) CHECK(ws.x.start[i] % aligns[k] == 0 && (i == 0 || ws.x.start[i] > ws.x.start[i - 1]));
                CHECK(size <= 32 || ws.x.start[ws.x.n - 1] + 32 == size);
                for (int x = 0; x < size; x++) {
                    double sum = 0.0;
                    for (int i = 0; i < ws.x.n; i++) sum += weight_at(&ws.x, 32, i, x) * (x < ws.x.start[i] + 32);
                    CHECK_MSG(fabs(sum - 1.0) < 1e-6, "align %d, overlap %d, %d of %d: %g", aligns[k], overlap, x, size, sum);
                }
                yd_windows_clear(&ws);
            }
    yd_windows ws;
    CHECK(yd_windows_make_aligned(42, 40, 32, 32, 4, 4, &ws, NULL) == YD_E_INTERNAL);
    yd_windows_clear(&ws);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"windows on multiples of some pixels", test_aligned},
        {"every pixel is covered, weights sum to one, windows are as few as can be", every_pixel_is_shared_out},
        {"the outer quarters of an overlap have no say", outer_quarters_have_no_say},
        {"the largest step of each window is found", the_largest_step_of_each_window_is_found},
        {"wide canvases are reduced in parts", wide_canvases_are_reduced_in_parts},
        {"one pixel calls for its windows only", one_pixel_calls_for_its_windows_only},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
