// Runs a trunk (trunk.h): one yd_conv2d per CONV step, own loops for everything else.
//
// Owns an engine and a stream of its own, the convolutions, and the slots in which maps live. prepare() walks the steps as run() will: a step takes a free slot for its map and gives back those
// of maps that nobody reads later, so a slot is as large as the largest map that it will hold.
#include "core/cpu/trunk.h"

#include "core/cpu/conv2d.h"
#include "core/mem.h"
#include "core/simd.h"

#include <string.h>

enum { MAX_MAPS = YD_TRUNK_MAX_STEPS + 1, MAX_SLOTS = MAX_MAPS };

typedef struct map {
    int h, w, c;
    int last; // the last step that reads it
    int slot;
} map;

typedef struct slot {
    float *data;
    size_t bytes, capacity; // wanted now; allocated
    int busy;
} slot;

struct yd_trunk {
    yd_trunk_step steps[YD_TRUNK_MAX_STEPS];
    int n_steps, keep;
    int n, h, w; // prepared for; n = 0: for nothing
    map maps[MAX_MAPS];
    yd_conv2d convs[YD_TRUNK_MAX_STEPS];
    slot slots[MAX_SLOTS];
    yd_conv2d_device device;
};

int yd_trunk_side(const yd_trunk_step *step, int side, int axis)
{
    if (step->kind == YD_TRUNK_JOIN || step->kind == YD_TRUNK_ADD) return side;
    int room = side + 2 * step->pad[axis] - step->k[axis] + (step->ceil ? step->stride - 1 : 0);
    if (room < 0) return 0;
    int out = room / step->stride + 1;
    if (step->ceil && (out - 1) * step->stride >= side + step->pad[axis]) out--; // a window must begin inside
    return out;
}

// ---- making and freeing

void yd_trunk_free(yd_trunk *t)
{
    if (!t) return;
    for (int i = 0; i < t->n_steps; i++) yd_conv2d_clear(&t->convs[i]);
    for (int i = 0; i < MAX_SLOTS; i++) yd_free_aligned(t->slots[i].data);
    yd_conv2d_device_close(&t->device);
    yd_free(t);
}

int yd_trunk_new(const yd_trunk_step *steps, int n_steps, int keep, yd_trunk **out, yd_err *err)
{
    if (n_steps < 1 || n_steps > YD_TRUNK_MAX_STEPS)
        return yd_fail(err, YD_E_INVALID, "a trunk has 1 to %d steps, not %d", YD_TRUNK_MAX_STEPS, n_steps);
    yd_trunk *t = yd_calloc(1, sizeof *t);
    if (!t) return yd_fail(err, YD_E_NOMEM, "no memory for a trunk of %d steps", n_steps);
    memcpy(t->steps, steps, (size_t)n_steps * sizeof *steps);
    t->n_steps = n_steps;
    t->keep = keep;
    for (int i = 0; i < n_steps; i++)
        for (int j = 0; j < steps[i].n_from; j++) t->maps[steps[i].from[j]].last = i;
    const int rc = yd_conv2d_device_open(&t->device, err);
    if (rc) {
        yd_trunk_free(t);
        return rc;
    }
    *out = t;
    return YD_OK;
}

// ---- storage

static int map_bytes(const yd_trunk *t, const map *m, size_t *bytes)
{
    size_t size = (size_t)t->n * sizeof(float);
    return yd_mul_size(size, (size_t)m->h, &size) || yd_mul_size(size, (size_t)m->w, &size) || yd_mul_size(size, (size_t)m->c, bytes);
}

static int take_slot(yd_trunk *t, map *m, yd_err *err)
{
    size_t bytes;
    if (map_bytes(t, m, &bytes)) return yd_fail(err, YD_E_NOMEM, "a map of %d x %d x %d is too large", m->h, m->w, m->c);
    for (int i = 0; i < MAX_SLOTS; i++) {
        slot *s = &t->slots[i];
        if (s->busy) continue;
        s->busy = 1;
        if (bytes > s->bytes) s->bytes = bytes;
        m->slot = i;
        return YD_OK;
    }
    return yd_fail(err, YD_E_INTERNAL, "a trunk has more than %d maps", MAX_SLOTS);
}

static int plan_maps(yd_trunk *t, yd_err *err)
{
    for (int i = 0; i < MAX_SLOTS; i++) t->slots[i].busy = 0, t->slots[i].bytes = 0;
    t->maps[0].h = t->h, t->maps[0].w = t->w, t->maps[0].c = t->steps[0].in_c;
    int rc = take_slot(t, &t->maps[0], err);
    for (int i = 0; i < t->n_steps && !rc; i++) {
        const yd_trunk_step *s = &t->steps[i];
        const map *x = &t->maps[s->from[0]];
        map *y = &t->maps[i + 1];
        y->h = yd_trunk_side(s, x->h, 0);
        y->w = yd_trunk_side(s, x->w, 1);
        y->c = s->c;
        if (y->h < 1 || y->w < 1) return yd_fail(err, YD_E_INTERNAL, "step %d of the trunk has no pixels left", i);
        rc = take_slot(t, y, err);
        for (int m = 0; m <= i && !t->keep; m++)
            if (t->maps[m].last == i) t->slots[t->maps[m].slot].busy = 0;
    }
    return rc;
}

static int grow_slots(yd_trunk *t, yd_err *err)
{
    for (int i = 0; i < MAX_SLOTS; i++) {
        slot *s = &t->slots[i];
        if (s->bytes <= s->capacity) continue;
        yd_free_aligned(s->data);
        s->capacity = 0;
        s->data = yd_alloc_aligned(s->bytes);
        if (!s->data) return yd_fail(err, YD_E_NOMEM, "no memory for maps of %zu bytes", s->bytes);
        s->capacity = s->bytes;
    }
    return YD_OK;
}

static float *data_of(const yd_trunk *t, int m)
{
    return t->slots[t->maps[m].slot].data;
}

// ---- convolutions

static int make_conv(yd_trunk *t, int i, yd_err *err)
{
    const yd_trunk_step *s = &t->steps[i];
    const map *x = &t->maps[s->from[0]], *y = &t->maps[i + 1];
    const yd_conv2d_shape shape = {.n = t->n,
                                   .h = x->h,
                                   .w = x->w,
                                   .in_c = x->c,
                                   .c = y->c,
                                   .k = {s->k[0], s->k[1]},
                                   .pad = {s->pad[0], s->pad[1]},
                                   .stride = s->stride,
                                   .out_h = y->h,
                                   .out_w = y->w};
    const yd_conv2d_filter filter = {.weight = s->weight, .scale = s->scale, .bias = s->bias};
    return yd_conv2d_set(&t->convs[i], &t->device, &shape, s->linear ? YD_CONV2D_FORWARD : YD_CONV2D_RELU, &filter, err);
}

int yd_trunk_prepare(yd_trunk *t, int n, int h, int w, yd_err *err)
{
    if (t->n == n && t->h == h && t->w == w) return YD_OK;
    t->n = n, t->h = h, t->w = w;
    int rc = plan_maps(t, err);
    if (!rc) rc = grow_slots(t, err);
    for (int i = 0; i < t->n_steps && !rc; i++)
        if (t->steps[i].kind == YD_TRUNK_CONV) rc = make_conv(t, i, err);
    if (rc) t->n = 0;
    return rc;
}

float *yd_trunk_input(yd_trunk *t)
{
    return data_of(t, 0);
}

// ---- running

YD_SIMD static void keep_larger(float *restrict y, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = x[i] > y[i] ? x[i] : y[i];
}

YD_SIMD static void add_to(float *restrict y, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

YD_SIMD static void divide(float *restrict y, float by, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] /= by;
}

// Where window i of a step begins and ends along an axis, cut to what lies inside.
static void window(const yd_trunk_step *s, int i, int side, int axis, int *from, int *to)
{
    int start = i * s->stride - s->pad[axis], end = start + s->k[axis];
    *from = start > 0 ? start : 0;
    *to = end < side ? end : side;
}

// One pixel of a pooled map: the maximum or the mean over the part of its window that lies inside.
static void pool_pixel(const yd_trunk_step *s, const map *x, const float *in, int row, int col, float *out)
{
    size_t c = (size_t)x->c;
    int y0, y1, x0, x1;
    window(s, row, x->h, 0, &y0, &y1);
    window(s, col, x->w, 1, &x0, &x1);
    for (int py = y0; py < y1; py++)
        for (int px = x0; px < x1; px++) {
            const float *at = in + ((size_t)py * (size_t)x->w + (size_t)px) * c;
            if (py == y0 && px == x0)
                memcpy(out, at, c * sizeof *out);
            else if (s->kind == YD_TRUNK_MAX)
                keep_larger(out, at, c);
            else
                add_to(out, at, c);
        }
    if (s->kind == YD_TRUNK_MEAN) divide(out, (float)((y1 - y0) * (x1 - x0)), c);
}

static void run_pool(yd_trunk *t, int i)
{
    const yd_trunk_step *s = &t->steps[i];
    const map *x = &t->maps[s->from[0]], *y = &t->maps[i + 1];
    const float *in = data_of(t, s->from[0]);
    float *out = data_of(t, i + 1);
    size_t in_map = (size_t)x->h * (size_t)x->w * (size_t)x->c, c = (size_t)y->c;
#pragma omp parallel for schedule(static)
    for (int row = 0; row < t->n * y->h; row++)
        for (int col = 0; col < y->w; col++)
            pool_pixel(s, x, in + (size_t)(row / y->h) * in_map, row % y->h, col, out + ((size_t)row * (size_t)y->w + (size_t)col) * c);
}

static void run_join(yd_trunk *t, int i)
{
    const yd_trunk_step *s = &t->steps[i];
    const map *y = &t->maps[i + 1];
    size_t w = (size_t)y->w, all = (size_t)y->c, before = 0;
    float *out = data_of(t, i + 1);
    for (int part = 0; part < s->n_from; part++) {
        const float *from = data_of(t, s->from[part]);
        size_t c = (size_t)t->maps[s->from[part]].c;
#pragma omp parallel for schedule(static)
        for (int row = 0; row < t->n * y->h; row++)
            for (size_t p = (size_t)row * w; p < ((size_t)row + 1) * w; p++) memcpy(out + p * all + before, from + p * c, c * sizeof *out);
        before += c;
    }
}

YD_SIMD static void add_relu(float *restrict y, const float *restrict a, const float *restrict b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float sum = a[i] + b[i];
        y[i] = sum > 0.0f ? sum : 0.0f;
    }
}

static void run_add(yd_trunk *t, int i)
{
    const yd_trunk_step *s = &t->steps[i];
    const map *y = &t->maps[i + 1];
    const size_t row = (size_t)y->w * (size_t)y->c;
    const float *a = data_of(t, s->from[0]), *b = data_of(t, s->from[1]);
    float *out = data_of(t, i + 1);
#pragma omp parallel for schedule(static)
    for (int r = 0; r < t->n * y->h; r++) add_relu(out + (size_t)r * row, a + (size_t)r * row, b + (size_t)r * row, row);
}

int yd_trunk_run(yd_trunk *t, yd_trunk_tap *tap, void *context, yd_err *err)
{
    int rc = YD_OK;
    for (int i = 0; i < t->n_steps && !rc; i++) {
        switch (t->steps[i].kind) {
        case YD_TRUNK_CONV:
            rc = yd_conv2d_run(&t->convs[i], &t->device, data_of(t, t->steps[i].from[0]), data_of(t, i + 1), err);
            break;
        case YD_TRUNK_MAX:
        case YD_TRUNK_MEAN:
            run_pool(t, i);
            break;
        case YD_TRUNK_JOIN:
            run_join(t, i);
            break;
        case YD_TRUNK_ADD:
            run_add(t, i);
            break;
        }
        const map *y = &t->maps[i + 1];
        if (!rc && t->steps[i].tap >= 0) tap(context, t->steps[i].tap, data_of(t, i + 1), t->n, y->h, y->w, y->c);
    }
    return rc;
}

// ---- what is there

const float *yd_trunk_map(const yd_trunk *t, int i, int *h, int *w, int *c)
{
    *h = t->maps[i].h, *w = t->maps[i].w, *c = t->maps[i].c;
    return data_of(t, i);
}

size_t yd_trunk_bytes(const yd_trunk *t)
{
    size_t bytes = 0;
    for (int i = 0; i < MAX_SLOTS; i++) bytes += t->slots[i].capacity;
    for (int i = 0; i < t->n_steps; i++) bytes += t->convs[i].packed ? t->convs[i].bytes : 0;
    return bytes;
}

int yd_trunk_min_side(const yd_trunk_step *steps, int n_steps)
{
    for (int side = 1;; side++) {
        int sides[MAX_MAPS] = {side}, fits = 1;
        for (int i = 0; i < n_steps && fits; i++) {
            sides[i + 1] = yd_trunk_side(&steps[i], sides[steps[i].from[0]], 0);
            fits = sides[i + 1] > 0;
        }
        if (fits) return side;
    }
}
