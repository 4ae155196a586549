// Operators that move elements: CONCAT, SPLIT, UPSAMPLE and its gradient, UNSHUFFLE, SHUFFLE.
//
// Each is written as "fill one row of pixels of the result", rows being the parallel tasks: a row depends on its own
// sample only. Storage types may differ between operands; equal types, the usual case, are plain copies.
#include "core/cpu/cpu.h"
#include "core/cpu/vec.h"
#include "core/simd.h"

typedef struct map {
    char *p;
    int bf16;
    size_t h, w, c;
} map;

static map map_of(const yd_exec *e, yd_tid t)
{
    const yd_tensor *x = yd_exec_tensor(e, t);
    return (map){yd_exec_ptr(e, t), x->dtype == YD_BF16, yd_sz(x->h), yd_sz(x->w), yd_sz(x->c)};
}

static inline void *pixel(const map *m, size_t index)
{
    return yd_at_mut(m->p, index * m->c, m->bf16);
}

static inline void copy(const void *src, int sb, void *dst, int db, size_t n)
{
    if (sb == db)
        memcpy(dst, src, n * (sb ? 2u : 4u));
    else
        for (size_t i = 0; i < n; i++) yd_store(dst, i, db, yd_load(src, i, sb));
}

static int append(yd_exec *e, const yd_op *op, int (*run)(yd_exec *, const yd_kernel *, yd_err *), yd_err *err)
{
    return yd_exec_kernel(e, op, run) ? 0 : yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for its kernel", err);
}

// --- CONCAT, SPLIT

static int run_concat(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    map a = map_of(e, k->op->in[0]), b = map_of(e, k->op->in[1]), y = map_of(e, k->op->out[0]);
    size_t rows = yd_sz(e->n) * y.h;
#pragma omp parallel for num_threads(yd_threads(e, rows *y.w *y.c)) schedule(static)
    for (size_t r = 0; r < rows; r++)
        for (size_t i = r * y.w; i < (r + 1) * y.w; i++) {
            void *q = pixel(&y, i);
            copy(pixel(&a, i), a.bf16, q, y.bf16, a.c);
            copy(pixel(&b, i), b.bf16, yd_at_mut(q, a.c, y.bf16), y.bf16, b.c);
        }
    return 0;
}

static int run_split(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    map y = map_of(e, k->op->in[0]), a = map_of(e, k->op->out[0]), b = map_of(e, k->op->out[1]);
    size_t rows = yd_sz(e->n) * y.h;
#pragma omp parallel for num_threads(yd_threads(e, rows *y.w *y.c)) schedule(static)
    for (size_t r = 0; r < rows; r++)
        for (size_t i = r * y.w; i < (r + 1) * y.w; i++) {
            const void *q = pixel(&y, i);
            copy(q, y.bf16, pixel(&a, i), a.bf16, a.c);
            copy(yd_at(q, a.c, y.bf16), y.bf16, pixel(&b, i), b.bf16, b.c);
        }
    return 0;
}

static int check_parts(const yd_exec *e, const yd_op *op, yd_tid a, yd_tid b, yd_tid whole, yd_err *err)
{
    int rc = yd_need(e, op, whole, "whole", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *y = yd_exec_tensor(e, whole);
    rc = yd_need(e, op, a, "first part", y->h, y->w, 0, err);
    if (!rc) rc = yd_need(e, op, b, "second part", y->h, y->w, y->c - yd_exec_tensor(e, a)->c, err);
    if (!rc && yd_exec_tensor(e, a)->c + yd_exec_tensor(e, b)->c != y->c)
        rc = yd_exec_refuse(e, op, YD_E_INVALID, "the parts' channels do not add up to the whole's", err);
    return rc;
}

int yd_make_concat(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = check_parts(e, op, op->in[0], op->in[1], op->out[0], err);
    return rc ? rc : append(e, op, run_concat, err);
}

int yd_make_split(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = check_parts(e, op, op->out[0], op->out[1], op->in[0], err);
    return rc ? rc : append(e, op, run_split, err);
}

// --- UPSAMPLE

static int run_upsample(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    map x = map_of(e, k->op->in[0]), y = map_of(e, k->op->out[0]);
    size_t rows = yd_sz(e->n) * y.h;
#pragma omp parallel for num_threads(yd_threads(e, rows *y.w *y.c)) schedule(static)
    for (size_t r = 0; r < rows; r++) // n * 2h rows: row r reads row r/2, samples included
        for (size_t i = 0; i < y.w; i++)
            copy(pixel(&x, r / 2 * x.w + i / 2), x.bf16, pixel(&y, r * y.w + i), y.bf16, x.c);
    return 0;
}

YD_INLINE void sum4_body(const void *a, const void *b, int sb, void *y, int yb, size_t c)
{
#pragma omp simd
    for (size_t j = 0; j < c; j++)
        yd_store(y, j, yb, (yd_load(a, j, sb) + yd_load(a, c + j, sb)) + (yd_load(b, j, sb) + yd_load(b, c + j, sb)));
}

// One pixel of the gradient: a and b are the upper and lower pair of neighbours.
YD_SIMD
static void sum4(const void *a, const void *b, int sb, void *y, int yb, size_t c)
{
    if (sb && yb)
        sum4_body(a, b, 1, y, 1, c);
    else if (!sb && !yb)
        sum4_body(a, b, 0, y, 0, c);
    else
        sum4_body(a, b, sb, y, yb, c);
}

static int run_upsample_bwd(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    map dy = map_of(e, k->op->in[0]), dx = map_of(e, k->op->out[0]);
    size_t rows = yd_sz(e->n) * dx.h;
#pragma omp parallel for num_threads(yd_threads(e, rows *dy.w *dy.c)) schedule(static)
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < dx.w; i++) {
            size_t upper = 2 * r * dy.w + 2 * i;
            sum4(pixel(&dy, upper), pixel(&dy, upper + dy.w), dy.bf16, pixel(&dx, r * dx.w + i), dx.bf16, dx.c);
        }
    return 0;
}

static int check_double(const yd_exec *e, const yd_op *op, yd_tid small, yd_tid large, yd_err *err)
{
    int rc = yd_need(e, op, small, "small map", 0, 0, 0, err);
    const yd_tensor *s = rc ? NULL : yd_exec_tensor(e, small);
    return rc ? rc : yd_need(e, op, large, "large map", 2 * s->h, 2 * s->w, s->c, err);
}

int yd_make_upsample(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = check_double(e, op, op->in[0], op->out[0], err);
    return rc ? rc : append(e, op, run_upsample, err);
}

int yd_make_upsample_bwd(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = check_double(e, op, op->out[0], op->in[0], err);
    return rc ? rc : append(e, op, run_upsample_bwd, err);
}

// --- UNSHUFFLE, SHUFFLE: deep pixel (i,j), channel c*r*r + dy*r + dx  <->  wide pixel (i*r+dy, j*r+dx), channel c

// One row of deep pixels and the f rows of wide ones it stands for.
YD_INLINE void shuffle_row(void *deep, int db, void *wide, int wb, size_t w, size_t c, size_t f, int to_deep)
{
    for (size_t i = 0; i < w; i++, deep = yd_at_mut(deep, c * f * f, db))
        for (size_t k = 0; k < f * f; k++) {
            void *q = yd_at_mut(wide, (k / f * w * f + i * f + k % f) * c, wb);
            for (size_t j = 0; j < c; j++)
                if (to_deep)
                    yd_store(deep, j * f * f + k, db, yd_load(q, j, wb));
                else
                    yd_store(q, j, wb, yd_load(deep, j * f * f + k, db));
        }
}

// Compiled for the types and factors in use, and for any.
static void shuffle_row_of(void *deep, int db, void *wide, int wb, size_t w, size_t c, size_t f, int to_deep)
{
    if (f == 2 && to_deep && !db && !wb)
        shuffle_row(deep, 0, wide, 0, w, c, 2, 1);
    else if (f == 2 && to_deep && db && wb)
        shuffle_row(deep, 1, wide, 1, w, c, 2, 1);
    else if (f == 2 && !to_deep && !db && !wb)
        shuffle_row(deep, 0, wide, 0, w, c, 2, 0);
    else
        shuffle_row(deep, db, wide, wb, w, c, f, to_deep);
}

static int run_shuffle_either(yd_exec *e, const yd_kernel *k, int to_deep)
{
    map x = map_of(e, k->op->in[0]), y = map_of(e, k->op->out[0]);
    map deep = to_deep ? y : x, wide = to_deep ? x : y;
    size_t f = yd_sz(k->op->r), rows = yd_sz(e->n) * deep.h;
#pragma omp parallel for num_threads(yd_threads(e, rows *deep.w *deep.c)) schedule(static)
    for (size_t row = 0; row < rows; row++)
        shuffle_row_of(pixel(&deep, row * deep.w), deep.bf16, pixel(&wide, row * f * wide.w), wide.bf16, deep.w, wide.c,
                       f, to_deep);
    return 0;
}

static int run_unshuffle(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    return run_shuffle_either(e, k, 1);
}

static int run_shuffle(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    return run_shuffle_either(e, k, 0);
}

static int check_factor(const yd_exec *e, const yd_op *op, yd_tid deep, yd_tid wide, yd_err *err)
{
    if (op->r < 1 || op->r > 64) return yd_exec_refuse(e, op, YD_E_INVALID, "the factor must be 1..64", err);
    int rc = yd_need(e, op, deep, "deep map", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *d = yd_exec_tensor(e, deep);
    if (d->c % (op->r * op->r))
        return yd_exec_refuse(e, op, YD_E_INVALID, "the factor's square does not divide the deep map's channels", err);
    return yd_need(e, op, wide, "wide map", d->h * op->r, d->w * op->r, d->c / (op->r * op->r), err);
}

int yd_make_unshuffle(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = check_factor(e, op, op->out[0], op->in[0], err);
    return rc ? rc : append(e, op, run_unshuffle, err);
}

int yd_make_shuffle(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = check_factor(e, op, op->in[0], op->out[0], err);
    return rc ? rc : append(e, op, run_shuffle, err);
}
