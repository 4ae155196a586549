// Operators without neighbours: storage conversion, ADD and AXPY, SILU, MISH and EMBED on vectors, LOSS; and the operand checks all
// families use.
//
// Loops over maps are cut into chunks of fixed length and vectorised; the vector operators are tiny and run on one
// thread.
#include "core/cpu/cpu.h"
#include "core/cpu/vec.h"
#include "core/simd.h"
#include <math.h>
#include <stdio.h>

#define CHUNK  ((size_t)16384) // elements per parallel task
#define SERIAL 2               // tasks not worth waking a second thread for

// --- operand checks

static int refuse_operand(const yd_exec *e, const yd_op *op, const char *role, const char *why, yd_err *err)
{
    char what[160];
    snprintf(what, sizeof what, "its %s %s", role, why);
    return yd_exec_refuse(e, op, YD_E_INVALID, what, err);
}

int yd_need(const yd_exec *e, const yd_op *op, yd_tid t, const char *role, int h, int w, int c, yd_err *err)
{
    if (t == YD_NONE) return refuse_operand(e, op, role, "is missing", err);
    const yd_tensor *x = yd_exec_tensor(e, t);
    if (x->kind == YD_T_PARAM || x->kind == YD_T_PGRAD)
        return refuse_operand(e, op, role, "is a parameter, not a map or vector", err);
    char why[120];
    if ((h && x->h != h) || (w && x->w != w) || (c && x->c != c)) {
        snprintf(why, sizeof why, "is %dx%dx%d, not %dx%dx%d (h x w x c, 0 = any)", x->h, x->w, x->c, h, w, c);
        return refuse_operand(e, op, role, why, err);
    }
    return 0;
}

int yd_need_f32(const yd_exec *e, const yd_op *op, yd_tid t, const char *role, int h, int w, int c, yd_err *err)
{
    int rc = yd_need(e, op, t, role, h, w, c, err);
    return rc || !yd_is_bf16(e, t) ? rc : refuse_operand(e, op, role, "is bf16, only f32 is supported", err);
}

int yd_need_param(const yd_exec *e, const yd_op *op, yd_tid t, const char *role, const int dims[4], yd_err *err)
{
    if (t == YD_NONE) return refuse_operand(e, op, role, "is missing", err);
    const yd_tensor *p = yd_exec_tensor(e, t);
    if (p->kind != YD_T_PARAM && p->kind != YD_T_PGRAD)
        return refuse_operand(e, op, role, "is not a parameter or its gradient", err);
    for (int d = 0; d < 4; d++) {
        int have = d < p->ndim ? p->dims[d] : 1;
        char why[96];
        if (have == dims[d]) continue;
        snprintf(why, sizeof why, "has dimension %d of %d, not %d", d, have, dims[d]);
        return refuse_operand(e, op, role, why, err);
    }
    return 0;
}

static int add_kernel(yd_exec *e, const yd_op *op, int (*run)(yd_exec *, const yd_kernel *, yd_err *), yd_err *err)
{
    return yd_exec_kernel(e, op, run) ? 0 : yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for its kernel", err);
}

// --- conversion

YD_INLINE void convert_body(const void *src, int sb, void *dst, int db, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) yd_store(dst, i, db, yd_load(src, i, sb));
}

YD_SIMD
static void convert_chunk(const void *src, int sb, void *dst, int db, size_t n)
{
    if (sb && !db)
        convert_body(src, 1, dst, 0, n);
    else if (!sb && db)
        convert_body(src, 0, dst, 1, n);
    else
        memcpy(dst, src, n * (sb ? 2u : 4u));
}

void yd_convert(const yd_cpu *cpu, const void *src, int sb, void *dst, int db, size_t n)
{
    long chunks = (long)((n + CHUNK - 1) / CHUNK);
#pragma omp parallel for num_threads(cpu->threads) schedule(static) if (chunks > SERIAL)
    for (long i = 0; i < chunks; i++) {
        size_t at = (size_t)i * CHUNK, left = n - at;
        convert_chunk(yd_at(src, at, sb), sb, yd_at_mut(dst, at, db), db, left < CHUNK ? left : CHUNK);
    }
}

static int run_convert(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    yd_convert(e->cpu, yd_exec_ptr(e, k->buf[0]), k->bf16[0], yd_exec_ptr(e, k->buf[1]), k->bf16[1], k->count);
    return 0;
}

int yd_make_convert(yd_exec *e, const yd_op *op, int from, int from_bf16, int to, int to_bf16, size_t n, yd_err *err)
{
    yd_kernel *k = yd_exec_kernel(e, op, run_convert);
    if (!k) return yd_fail(err, YD_E_NOMEM, "no memory for a conversion kernel");
    k->family = "conversion";
    k->buf[0] = from;
    k->buf[1] = to;
    k->bf16[0] = from_bf16;
    k->bf16[1] = to_bf16;
    k->count = n;
    return 0;
}

yd_dtype yd_compute_type(const yd_exec *e, yd_tid t)
{
    return e->cpu->bf16_kernels ? yd_exec_tensor(e, t)->dtype : YD_F32;
}

int yd_make_writable(yd_exec *e, const yd_op *op, yd_tid t, yd_dtype dt, int *buf, yd_err *err)
{
    const yd_tensor *x = yd_exec_tensor(e, t);
    *buf = x->dtype == dt ? t : yd_exec_temp(e, yd_tensor_numel(x) * yd_sz(e->n) * yd_dtype_bytes(dt));
    return *buf >= 0 ? 0 : yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for a temporary", err);
}

int yd_make_readable(yd_exec *e, const yd_op *op, yd_tid t, yd_dtype dt, int *buf, yd_err *err)
{
    int rc = yd_make_writable(e, op, t, dt, buf, err);
    if (rc || *buf == t) return rc;
    return yd_make_convert(e, op, t, yd_is_bf16(e, t), *buf, dt == YD_BF16,
                           yd_tensor_numel(yd_exec_tensor(e, t)) * yd_sz(e->n), err);
}

int yd_make_written(yd_exec *e, const yd_op *op, yd_tid t, yd_dtype dt, int buf, yd_err *err)
{
    if (buf == t) return 0;
    return yd_make_convert(e, op, buf, dt == YD_BF16, t, yd_is_bf16(e, t),
                           yd_tensor_numel(yd_exec_tensor(e, t)) * yd_sz(e->n), err);
}

// --- ADD

YD_INLINE void add_body(const void *a, int ab, const void *b, int bb, void *y, int yb, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) yd_store(y, i, yb, yd_load(a, i, ab) + yd_load(b, i, bb));
}

YD_SIMD
static void add_chunk(const void *a, int ab, const void *b, int bb, void *y, int yb, size_t n)
{
    if (ab && bb && yb)
        add_body(a, 1, b, 1, y, 1, n);
    else if (!ab && !bb && !yb)
        add_body(a, 0, b, 0, y, 0, n);
    else
        add_body(a, ab, b, bb, y, yb, n);
}

static int run_add(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    const yd_op *op = k->op;
    const void *a = yd_exec_ptr(e, op->in[0]), *b = yd_exec_ptr(e, op->in[1]);
    void *y = yd_exec_ptr(e, op->out[0]);
    int ab = yd_is_bf16(e, op->in[0]), bb = yd_is_bf16(e, op->in[1]), yb = yd_is_bf16(e, op->out[0]);
    size_t n = yd_tensor_numel(yd_exec_tensor(e, op->out[0])) * yd_sz(e->n);
    long chunks = (long)((n + CHUNK - 1) / CHUNK);
#pragma omp parallel for num_threads(e->cpu->threads) schedule(static) if (chunks > SERIAL)
    for (long i = 0; i < chunks; i++) {
        size_t at = (size_t)i * CHUNK, left = n - at;
        add_chunk(yd_at(a, at, ab), ab, yd_at(b, at, bb), bb, yd_at_mut(y, at, yb), yb, left < CHUNK ? left : CHUNK);
    }
    return 0;
}

static int make_sum(yd_exec *e, const yd_op *op, int (*run)(yd_exec *, const yd_kernel *, yd_err *), yd_err *err)
{
    int rc = yd_need(e, op, op->out[0], "result", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *y = yd_exec_tensor(e, op->out[0]);
    rc = yd_need(e, op, op->in[0], "first term", y->h, y->w, y->c, err);
    if (!rc) rc = yd_need(e, op, op->in[1], "second term", y->h, y->w, y->c, err);
    if (rc) return rc;
    if (!yd_exec_alias(e, op->out[0], op->in[0])) yd_exec_alias(e, op->out[0], op->in[1]); // in place where possible
    return add_kernel(e, op, run, err);
}

int yd_make_add(yd_exec *e, const yd_op *op, yd_err *err)
{
    return make_sum(e, op, run_add, err);
}

// --- AXPY

YD_INLINE void axpy_body(float f, const void *a, int ab, const void *b, int bb, void *y, int yb, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) yd_store(y, i, yb, f * yd_load(a, i, ab) + yd_load(b, i, bb));
}

YD_SIMD
static void axpy_chunk(float f, const void *a, int ab, const void *b, int bb, void *y, int yb, size_t n)
{
    if (ab && bb && yb)
        axpy_body(f, a, 1, b, 1, y, 1, n);
    else if (!ab && !bb && !yb)
        axpy_body(f, a, 0, b, 0, y, 0, n);
    else
        axpy_body(f, a, ab, b, bb, y, yb, n);
}

static int run_axpy(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    const yd_op *op = k->op;
    const void *a = yd_exec_ptr(e, op->in[0]), *b = yd_exec_ptr(e, op->in[1]);
    void *y = yd_exec_ptr(e, op->out[0]);
    int ab = yd_is_bf16(e, op->in[0]), bb = yd_is_bf16(e, op->in[1]), yb = yd_is_bf16(e, op->out[0]);
    size_t n = yd_tensor_numel(yd_exec_tensor(e, op->out[0])) * yd_sz(e->n);
    long chunks = (long)((n + CHUNK - 1) / CHUNK);
#pragma omp parallel for num_threads(e->cpu->threads) schedule(static) if (chunks > SERIAL)
    for (long i = 0; i < chunks; i++) {
        size_t at = (size_t)i * CHUNK, left = n - at;
        axpy_chunk(op->scale, yd_at(a, at, ab), ab, yd_at(b, at, bb), bb, yd_at_mut(y, at, yb), yb,
                   left < CHUNK ? left : CHUNK);
    }
    return 0;
}

int yd_make_axpy(yd_exec *e, const yd_op *op, yd_err *err)
{
    return make_sum(e, op, run_axpy, err);
}

// --- SILU and MISH on vectors

YD_SIMD
static void silu_vector(const float *v, float *y, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = v[i] * yd_sigmoid(v[i]);
}

YD_SIMD
static void mish_vector(const float *v, float *y, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = yd_mish(v[i]);
}

YD_SIMD
static void silu_slope_vector(const float *v, const float *dy, float *dv, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) dv[i] = dy[i] * yd_silu_slope(v[i]);
}

static int run_silu(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    silu_vector(yd_exec_ptr(e, k->op->in[0]), yd_exec_ptr(e, k->op->out[0]),
                yd_tensor_numel(yd_exec_tensor(e, k->op->in[0])) * yd_sz(e->n));
    return 0;
}

static int run_mish(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    mish_vector(yd_exec_ptr(e, k->op->in[0]), yd_exec_ptr(e, k->op->out[0]),
                yd_tensor_numel(yd_exec_tensor(e, k->op->in[0])) * yd_sz(e->n));
    return 0;
}

static int run_silu_bwd(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    silu_slope_vector(yd_exec_ptr(e, k->op->in[0]), yd_exec_ptr(e, k->op->in[1]), yd_exec_ptr(e, k->op->out[0]),
                      yd_tensor_numel(yd_exec_tensor(e, k->op->in[0])) * yd_sz(e->n));
    return 0;
}

int yd_make_silu(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = yd_need_f32(e, op, op->in[0], "input", 1, 1, 0, err);
    if (!rc) rc = yd_need_f32(e, op, op->out[0], "result", 1, 1, yd_exec_tensor(e, op->in[0])->c, err);
    return rc ? rc : add_kernel(e, op, op->kind == YD_OP_MISH ? run_mish : run_silu, err);
}

int yd_make_silu_bwd(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = yd_need_f32(e, op, op->in[0], "input", 1, 1, 0, err);
    if (!rc) rc = yd_need_f32(e, op, op->in[1], "gradient", 1, 1, yd_exec_tensor(e, op->in[0])->c, err);
    if (!rc) rc = yd_need_f32(e, op, op->out[0], "result", 1, 1, yd_exec_tensor(e, op->in[0])->c, err);
    return rc ? rc : add_kernel(e, op, run_silu_bwd, err);
}

// --- EMBED: sines and cosines of the scalar, in double because the argument reaches thousands of radians

static int run_embed(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    const float *s = yd_exec_ptr(e, k->op->in[0]);
    float *v = yd_exec_ptr(e, k->op->out[0]);
    int half = yd_exec_tensor(e, k->op->out[0])->c / 2;
    for (int i = 0; i < e->n; i++, v += 2 * half)
        for (int j = 0; j < half; j++) {
            double a = (double)s[i] * (double)k->op->scale * exp(-log(1e4) * j / (half - k->op->r));
            v[j] = (float)sin(a);
            v[half + j] = (float)cos(a);
        }
    return 0;
}

int yd_make_embed(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = yd_need_f32(e, op, op->in[0], "input", 1, 1, 1, err);
    if (!rc) rc = yd_need_f32(e, op, op->out[0], "result", 1, 1, 0, err);
    if (!rc && yd_exec_tensor(e, op->out[0])->c % 2)
        rc = yd_exec_refuse(e, op, YD_E_INVALID, "an embedding needs an even number of channels", err);
    if (!rc && (op->r < 0 || op->r > 1 || yd_exec_tensor(e, op->out[0])->c / 2 <= op->r))
        rc = yd_exec_refuse(e, op, YD_E_INVALID, "r must be 0 or 1, below half the channels", err);
    return rc ? rc : add_kernel(e, op, run_embed, err);
}

// --- LOSS

typedef struct loss {
    const void *pred;
    int pred_bf16;
    const float *target, *mask;
    void *dpred;
    int dpred_bf16, p;
    float weight;
    size_t pixels, c;
} loss;

static double loss_sample(const loss *l)
{
    double sum = 0;
    for (size_t i = 0; i < l->pixels; i++) {
        double row = 0;
        float m = l->mask[i] * l->weight;
        for (size_t j = i * l->c; j < (i + 1) * l->c; j++) {
            float d = yd_load(l->pred, j, l->pred_bf16) - l->target[j];
            float sign = d > 0 ? 1.0f : d < 0 ? -1.0f : d; // d: 0 stays 0 and NaN stays NaN
            row += l->p == 1 ? fabs((double)d) : (double)d * (double)d;
            if (l->dpred) yd_store(l->dpred, j, l->dpred_bf16, l->p == 1 ? m * sign : 2.0f * m * d);
        }
        sum += (double)l->mask[i] * row;
    }
    return sum * (double)l->weight;
}

static int run_loss(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    const yd_op *op = k->op;
    const yd_tensor *t = yd_exec_tensor(e, op->in[0]);
    size_t pixels = yd_sz(t->h) * yd_sz(t->w), c = yd_sz(t->c);
    const float *target = yd_exec_ptr(e, op->in[1]), *mask = yd_exec_ptr(e, op->in[2]),
                *weight = yd_exec_ptr(e, op->in[3]);
    float *out = yd_exec_ptr(e, op->out[0]);
    const void *pred = yd_exec_ptr(e, op->in[0]);
    void *dpred = op->out[1] == YD_NONE ? NULL : yd_exec_ptr(e, op->out[1]);
    int pb = yd_is_bf16(e, op->in[0]), db = dpred ? yd_is_bf16(e, op->out[1]) : 0;
#pragma omp parallel for num_threads(yd_threads(e, yd_sz(e->n) * pixels * c)) schedule(static)
    for (int i = 0; i < e->n; i++) {
        size_t at = yd_sz(i) * pixels;
        loss l = {.pred = yd_at(pred, at * c, pb),
                  .pred_bf16 = pb,
                  .target = target + at * c,
                  .mask = mask + at,
                  .p = op->p,
                  .dpred = dpred ? yd_at_mut(dpred, at * c, db) : NULL,
                  .dpred_bf16 = db,
                  .weight = weight[i],
                  .pixels = pixels,
                  .c = c};
        out[i] = (float)loss_sample(&l);
    }
    return 0;
}

int yd_make_loss(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = yd_need(e, op, op->in[0], "prediction", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *t = yd_exec_tensor(e, op->in[0]);
    rc = yd_need_f32(e, op, op->in[1], "target", t->h, t->w, t->c, err);
    if (!rc) rc = yd_need_f32(e, op, op->in[2], "mask", t->h, t->w, 1, err);
    if (!rc) rc = yd_need_f32(e, op, op->in[3], "weight", 1, 1, 1, err);
    if (!rc) rc = yd_need_f32(e, op, op->out[0], "loss", 1, 1, 1, err);
    if (!rc && op->out[1] != YD_NONE) rc = yd_need(e, op, op->out[1], "gradient", t->h, t->w, t->c, err);
    if (!rc && op->p != 1 && op->p != 2) rc = yd_exec_refuse(e, op, YD_E_INVALID, "p must be 1 or 2", err);
    return rc ? rc : add_kernel(e, op, run_loss, err);
}
