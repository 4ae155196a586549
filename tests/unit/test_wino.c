// The Winograd kernel against plain loops in double: sizes that fill tiles and vectors and sizes that do not, both
// schedules, both storage types, maps read at twice their size; and that an output pixel's bytes depend on neither
// batch, threads, schedule nor on how its input is stored; and both gradients against plain loops.
#include "core/cpu/vec.h"
#include "core/cpu/wino.h"
#include "tests/unit/t.h"

#define LIMIT 2e-4 // of the largest reference value: what wino.h promises

typedef struct shape {
    int n, h, w, c, o, up, bias, res;
} shape;

// Up to four output vectors in a block, alone and in uneven pairs; channels and sizes with and without remainders. The
// last two have more weights than data: the split schedule.
static const shape shapes[] = {
    {1, 4, 4, 16, 16, 0, 1, 0},    {1, 12, 12, 16, 32, 0, 1, 1},  {2, 9, 7, 24, 48, 0, 0, 1},
    {1, 17, 5, 3, 64, 0, 1, 0},    {3, 1, 1, 16, 80, 0, 1, 1},    {1, 30, 22, 33, 17, 0, 1, 1},
    {1, 40, 24, 48, 96, 0, 1, 0},  {2, 14, 14, 20, 112, 0, 0, 0}, {1, 16, 16, 32, 3, 0, 1, 0},
    {1, 24, 40, 16, 12, 1, 1, 1},  {2, 6, 10, 40, 64, 1, 1, 0},   {1, 2, 2, 16, 16, 1, 0, 0},
    {1, 8, 12, 144, 130, 0, 1, 1}, {2, 4, 8, 160, 96, 1, 1, 1},
};

typedef struct data {
    shape s;
    size_t nx, ny, nw;
    float *x, *w, *bias, *res, *y, *u;
    double *want;
} data;

static unsigned long seed;

static float draw(void)
{
    seed = seed * 6364136223846793005ul + 1442695040888963407ul;
    return yd_from_bits(yd_bits((float)((double)(seed >> 11) / 4503599627370496.0 - 1.0)) &
                        0xffff0000u); // a bf16 value
}

static float *values(size_t n)
{
    float *p = aligned_alloc(64, (n * sizeof *p + 63) / 64 * 64);
    for (size_t i = 0; i < n; i++) p[i] = draw();
    return p;
}

static double reference(const data *d, int s, int y, int x, int o)
{
    const shape *p = &d->s;
    int h = p->h >> p->up, w = p->w >> p->up;
    size_t at = (((size_t)s * (size_t)p->h + (size_t)y) * (size_t)p->w + (size_t)x) * (size_t)p->o + (size_t)o;
    double sum = (p->bias ? (double)d->bias[o] : 0) + (p->res ? (double)d->res[at] : 0);
    for (int k = 0; k < 9; k++) {
        int yy = y + k / 3 - 1, xx = x + k % 3 - 1;
        if (yy < 0 || yy >= p->h || xx < 0 || xx >= p->w) continue;
        const float *in = d->x + (((size_t)(s * h + (yy >> p->up))) * (size_t)w + (size_t)(xx >> p->up)) * (size_t)p->c;
        for (int c = 0; c < p->c; c++)
            sum += (double)in[c] * (double)d->w[((size_t)o * (size_t)p->c + (size_t)c) * 9 + (size_t)k];
    }
    return sum;
}

static data make(shape s)
{
    data d = {.s = s};
    size_t n = (size_t)s.n, pixels = (size_t)s.h * (size_t)s.w;
    d.nx = n * (pixels >> (2 * s.up)) * (size_t)s.c;
    d.ny = n * pixels * (size_t)s.o;
    d.nw = (size_t)s.c * (size_t)s.o * 9;
    seed = 11;
    d.x = values(d.nx);
    d.w = values(d.nw);
    d.bias = values((size_t)s.o);
    d.res = values(d.ny);
    d.y = values(d.ny);
    d.u = values(yd_wino_weights_count(s.c, s.o));
    yd_wino_weights(d.w, s.c, s.o, 0, d.u, 2);
    d.want = malloc(d.ny * sizeof *d.want);
    size_t at = 0;
    for (int i = 0; i < s.n; i++)
        for (int y = 0; y < s.h; y++)
            for (int x = 0; x < s.w; x++)
                for (int o = 0; o < s.o; o++) d.want[at++] = reference(&d, i, y, x, o);
    return d;
}

static void release(data *d)
{
    free(d->x);
    free(d->w);
    free(d->bias);
    free(d->res);
    free(d->y);
    free(d->u);
    free(d->want);
}

static yd_wino problem(const data *d)
{
    const shape *s = &d->s;
    return (yd_wino){.n = s->n,
                     .h = s->h,
                     .w = s->w,
                     .c = s->c,
                     .o = s->o,
                     .up = s->up,
                     .x = d->x,
                     .y = d->y,
                     .u = d->u,
                     .bias = s->bias ? d->bias : NULL,
                     .res = s->res ? d->res : NULL};
}

static void run(const yd_wino *p, int threads)
{
    size_t bytes = yd_wino_scratch(p, threads);
    char *scratch = aligned_alloc(64, (bytes + 127) / 64 * 64);
    memset(scratch, 0xff, bytes + 1); // NaN: nothing may be read that was not written
    scratch[bytes] = 42;
    yd_wino_run(p, scratch, threads);
    CHECK_MSG(scratch[bytes] == 42, "wrote beyond its scratch");
    free(scratch);
}

static void check_values(const data *d, const char *what, double limit)
{
    double worst = 0, top = 0;
    for (size_t i = 0; i < d->ny; i++) {
        double diff = fabs((double)d->y[i] - d->want[i]);
        if (!(diff <= worst)) worst = diff;
        top = fmax(top, fabs(d->want[i]));
    }
    const shape *s = &d->s;
    CHECK_MSG(worst <= limit * top, "%s %dx%dx%d -> %d, n=%d up=%d: off by %.3g of %.3g", what, s->h, s->w, s->c, s->o,
              s->n, s->up, worst, top);
}

static void test_values(void)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        data d = make(shapes[i]);
        yd_wino p = problem(&d);
        run(&p, 2);
        check_values(&d, "f32", LIMIT);
        if (d.s.res) { // the residual in the result's place
            memcpy(d.y, d.res, d.ny * sizeof *d.y);
            p.res = d.y;
            run(&p, 2);
            check_values(&d, "in place", LIMIT);
        }
        release(&d);
    }
}

static uint16_t *rounded(const float *v, size_t n)
{
    uint16_t *h = aligned_alloc(64, (n * sizeof *h + 63) / 64 * 64);
    for (size_t i = 0; i < n; i++) h[i] = yd_to_bf16(v[i]);
    return h;
}

// The same numbers stored as bf16 give the f32 result, rounded.
static void test_bf16(void)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        data d = make(shapes[i]);
        yd_wino p = problem(&d);
        run(&p, 2);
        uint16_t *want = rounded(d.y, d.ny), *x = rounded(d.x, d.nx), *res = rounded(d.res, d.ny);
        uint16_t *y = rounded(d.res, d.ny);
        p.x = x;
        p.y = y;
        p.x_bf16 = p.y_bf16 = 1;
        if (p.res) p.res = res, p.res_bf16 = 1;
        run(&p, 2);
        CHECK_MSG(memcmp(y, want, d.ny * sizeof *y) == 0, "shape %zu: bf16 storage changes more than the rounding", i);
        free(want);
        free(x);
        free(res);
        free(y);
        release(&d);
    }
}

static void test_same_bytes(void)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        data d = make(shapes[i]);
        yd_wino p = problem(&d);
        float *all = malloc(d.ny * sizeof *all);
        run(&p, 2);
        memcpy(all, d.y, d.ny * sizeof *all);
        for (int threads = 1; threads <= 5; threads += 2) {
            memset(d.y, 0, d.ny * sizeof *d.y);
            run(&p, threads);
            CHECK_MSG(memcmp(all, d.y, d.ny * sizeof *all) == 0, "shape %zu: %d threads change the bytes", i, threads);
        }
        for (int s = 0; s < d.s.n; s++) { // alone: another schedule for some shapes
            yd_wino one = p;
            size_t from = (size_t)s * d.ny / (size_t)d.s.n;
            one.n = 1;
            one.x = d.x + (size_t)s * d.nx / (size_t)d.s.n;
            if (one.res) one.res = d.res + from;
            run(&one, 2);
            CHECK_MSG(memcmp(all + from, d.y, d.ny / (size_t)d.s.n * sizeof *all) == 0,
                      "shape %zu: sample %d differs when alone", i, s);
        }
        free(all);
        release(&d);
    }
}

// Eight copies of a sample beside it: enough data that the fused schedule takes over from the split one.
static void test_schedules(void)
{
    shape s = {1, 8, 12, 64, 64, 0, 1, 0};
    data d = make(s);
    yd_wino one = problem(&d), many = one;
    float *x = values(16 * d.nx), *y = values(16 * d.ny);
    for (size_t i = 0; i < 16; i++) memcpy(x + i * d.nx, d.x, d.nx * sizeof *x);
    many.n = 16;
    many.x = x;
    many.y = y;
    run(&one, 2);
    run(&many, 2);
    CHECK(yd_wino_scratch(&many, 1) < 16 * yd_wino_scratch(&one, 1)); // not the same schedule
    for (size_t i = 0; i < 16; i++) CHECK(memcmp(y + i * d.ny, d.y, d.ny * sizeof *y) == 0);
    free(x);
    free(y);
    release(&d);
}

// Reading at twice the size gives the bytes of the map made first.
static void test_upsampled(void)
{
    shape s = {2, 12, 8, 48, 48, 1, 1, 0};
    data d = make(s);
    yd_wino p = problem(&d);
    run(&p, 2);
    float *large = values(4 * d.nx), *direct = values(d.ny);
    for (int i = 0; i < s.n * s.h; i++)
        for (int x = 0; x < s.w; x++)
            memcpy(large + ((size_t)i * (size_t)s.w + (size_t)x) * (size_t)s.c,
                   d.x + ((size_t)(i / 2) * (size_t)(s.w / 2) + (size_t)(x / 2)) * (size_t)s.c,
                   (size_t)s.c * sizeof *large);
    yd_wino q = p;
    q.up = 0;
    q.x = large;
    q.y = direct;
    run(&q, 2);
    CHECK(memcmp(direct, d.y, d.ny * sizeof *direct) == 0);
    free(large);
    free(direct);
    release(&d);
}

// --- gradients. dx is the convolution of dy with turned filters; shapes[].o channels come in, .c go out.

static double reference_dx(const data *d, int s, int y, int x, int c)
{
    const shape *p = &d->s;
    double sum = 0;
    for (int k = 0; k < 9; k++) { // the output pixels that read (y, x) through tap k
        int yy = y - (k / 3 - 1), xx = x - (k % 3 - 1);
        if (yy < 0 || yy >= p->h || xx < 0 || xx >= p->w) continue;
        const float *dy = d->y + (((size_t)(s * p->h + yy)) * (size_t)p->w + (size_t)xx) * (size_t)p->o;
        for (int o = 0; o < p->o; o++)
            sum += (double)dy[o] * (double)d->w[((size_t)o * (size_t)p->c + (size_t)c) * 9 + (size_t)k];
    }
    return sum;
}

static void test_input_gradient(void)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (shapes[i].up) continue;
        data d = make(shapes[i]);
        const shape *s = &d.s;
        float *u = values(yd_wino_weights_count(s->o, s->c)), *dx = values(d.nx);
        yd_wino_weights(d.w, s->o, s->c, 1, u, 2);
        yd_wino p = {.n = s->n, .h = s->h, .w = s->w, .c = s->o, .o = s->c, .x = d.y, .y = dx, .u = u};
        run(&p, 2);
        double worst = 0, top = 0;
        size_t at = 0;
        for (int n = 0; n < s->n; n++)
            for (int y = 0; y < s->h; y++)
                for (int x = 0; x < s->w; x++)
                    for (int c = 0; c < s->c; c++, at++) {
                        double want = reference_dx(&d, n, y, x, c), diff = fabs((double)dx[at] - want);
                        if (!(diff <= worst)) worst = diff;
                        top = fmax(top, fabs(want));
                    }
        CHECK_MSG(worst <= LIMIT * top, "shape %zu: dx is off by %.3g of %.3g", i, worst, top);
        free(u);
        free(dx);
        release(&d);
    }
}

static double reference_dw(const data *d, int o, int c, int k)
{
    const shape *p = &d->s;
    double sum = 0;
    for (int n = 0; n < p->n; n++)
        for (int y = 0; y < p->h; y++)
            for (int x = 0; x < p->w; x++) {
                int yy = y + k / 3 - 1, xx = x + k % 3 - 1;
                if (yy < 0 || yy >= p->h || xx < 0 || xx >= p->w) continue;
                size_t out = (size_t)(n * p->h + y) * (size_t)p->w + (size_t)x,
                       in = (size_t)(n * p->h + yy) * (size_t)p->w + (size_t)xx;
                sum += (double)d->y[out * (size_t)p->o + (size_t)o] * (double)d->x[in * (size_t)p->c + (size_t)c];
            }
    return sum;
}

static void run_dw(const yd_wino_dw *p, int threads)
{
    size_t bytes = yd_wino_dw_scratch(p, threads);
    char *scratch = aligned_alloc(64, (bytes + 127) / 64 * 64);
    memset(scratch, 0xff, bytes + 1);
    scratch[bytes] = 42;
    yd_wino_dw_run(p, scratch, threads);
    CHECK_MSG(scratch[bytes] == 42, "wrote beyond its scratch");
    free(scratch);
}

static void check_dw(const data *d, size_t shape_at)
{
    const shape *s = &d->s;
    double worst = 0, top = 0, worst_bias = 0, top_bias = 0;
    for (int o = 0; o < s->o; o++) {
        double sum = 0;
        for (size_t i = (size_t)o; i < d->ny; i += (size_t)s->o) sum += (double)d->y[i];
        worst_bias = fmax(worst_bias, fabs((double)d->bias[o] - sum));
        top_bias = fmax(top_bias, fabs(sum));
        for (int c = 0; c < s->c; c++)
            for (int k = 0; k < 9; k++) {
                double want = reference_dw(d, o, c, k);
                double diff = fabs((double)d->w[((size_t)o * (size_t)s->c + (size_t)c) * 9 + (size_t)k] - want);
                if (!(diff <= worst)) worst = diff;
                top = fmax(top, fabs(want));
            }
    }
    CHECK_MSG(worst <= LIMIT * top, "shape %zu: dW is off by %.3g of %.3g", shape_at, worst, top);
    CHECK_MSG(worst_bias <= LIMIT * top_bias, "shape %zu: db is off by %.3g of %.3g", shape_at, worst_bias, top_bias);
}

// Samples that reach several groups and chunks, beside the shapes above. Both storage types against the loops, and the same bytes for any number of threads.
static void test_weight_gradient(void)
{
    static const shape more[] = {
        {5, 33, 30, 17, 20, 0, 0, 0}, {2, 40, 60, 16, 48, 0, 0, 0}, {1, 40, 44, 176, 180, 0, 0, 0}};
    const size_t common = sizeof shapes / sizeof *shapes;
    for (size_t i = 0; i < common + sizeof more / sizeof *more; i++) {
        shape s = i < common ? shapes[i] : more[i - common];
        s.up = 0;
        data d = make(s);
        uint16_t *x = rounded(d.x, d.nx), *dy = rounded(d.y, d.ny);
        float *first = values(d.nw);
        yd_wino_dw p = {.n = s.n, .h = s.h, .w = s.w, .c = s.c, .o = s.o, .x = d.x, .dy = d.y, .dw = d.w, .db = d.bias};
        run_dw(&p, 2);
        check_dw(&d, i);
        memcpy(first, d.w, d.nw * sizeof *first);
        for (int threads = 1; threads <= 3; threads += 2) {
            memset(d.w, 0, d.nw * sizeof *d.w);
            run_dw(&p, threads);
            CHECK_MSG(memcmp(first, d.w, d.nw * sizeof *first) == 0, "shape %zu: %d threads change dW", i, threads);
        }
        p.x = x, p.dy = dy, p.x_bf16 = p.dy_bf16 = 1, p.db = NULL;
        memset(d.w, 0, d.nw * sizeof *d.w);
        run_dw(&p, 2);
        CHECK_MSG(memcmp(first, d.w, d.nw * sizeof *first) == 0, "shape %zu: bf16 storage changes dW", i);
        free(x);
        free(dy);
        free(first);
        release(&d);
    }
}

int main(int argc, char **argv)
{
    if (!yd_wino_here()) {
        printf("skip Winograd's method: this processor has no AVX-512\n");
        return 0;
    }
    static const t_case cases[] = {
        {"results agree with plain loops", test_values},
        {"bf16 storage rounds the same results", test_bf16},
        {"bytes depend on neither batch nor threads", test_same_bytes},
        {"both schedules give the same bytes", test_schedules},
        {"a map read at twice its size gives the bytes of the large map", test_upsampled},
        {"turned filters give the gradient of the input", test_input_gradient},
        {"the gradient of the weights agrees with plain loops, on any threads", test_weight_gradient},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
