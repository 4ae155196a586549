// What a convolution has that oneDNN's does not: a border that mirrors the map, made before it; and an activation, a vector
// for every pixel and a residual behind the activation, done to the plain sum after it.
//
// Both are one pass over the map, rows being the parallel tasks: a row depends on its own sample only. The Winograd
// kernels need neither, they read mirrored and end their sums themselves (wino.c).
// Read next: conv.c.
#include "core/cpu/cpu.h"
#include "core/cpu/vec.h"
#include "core/mem.h"
#include "core/simd.h"

// --- mirrored border

typedef struct mirror {
    int x, pad; // source buffer
    int x_bf16, y_bf16;
    size_t h, w, c;
} mirror;

static inline size_t reflected(size_t padded, size_t pad, size_t n)
{
    size_t last = n - 1;
    if (padded < pad) return pad - padded;
    padded -= pad;
    return padded > last ? 2 * last - padded : padded;
}

static void copy_pixels(const void *src, int sb, void *dst, int db, size_t n)
{
    if (sb == db)
        memcpy(dst, src, n * (sb ? 2u : 4u));
    else
        for (size_t i = 0; i < n; i++) yd_store(dst, i, db, yd_load(src, i, sb));
}

static int run_mirror(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    const mirror *m = k->state;
    const size_t pad = yd_sz(m->pad), ph = m->h + 2 * pad, pw = m->w + 2 * pad, rows = yd_sz(e->n) * ph, c = m->c;
    const char *x = yd_exec_ptr(e, m->x);
    char *y = yd_exec_ptr(e, k->buf[0]);
#pragma omp parallel for num_threads(yd_threads(e, rows *pw *c)) schedule(static)
    for (size_t r = 0; r < rows; r++) {
        const void *from = yd_at(x, (r / ph * m->h + reflected(r % ph, pad, m->h)) * m->w * c, m->x_bf16);
        void *to = yd_at_mut(y, r * pw * c, m->y_bf16);
        copy_pixels(from, m->x_bf16, yd_at_mut(to, pad * c, m->y_bf16), m->y_bf16, m->w * c);
        for (size_t i = 0; i < 2 * pad; i++) {
            size_t at = i < pad ? i : i + m->w;
            copy_pixels(yd_at(from, reflected(at, pad, m->w) * c, m->x_bf16), m->x_bf16,
                        yd_at_mut(to, at * c, m->y_bf16), m->y_bf16, c);
        }
    }
    return 0;
}

int yd_make_mirrored(yd_exec *e, const yd_op *op, yd_tid x, yd_dtype dt, int pad, int *buf, yd_err *err)
{
    const yd_tensor *t = yd_exec_tensor(e, x);
    const size_t h = yd_sz(t->h + 2 * pad), w = yd_sz(t->w + 2 * pad);
    size_t bytes = yd_dtype_bytes(dt);
    if (yd_mul_size(bytes, yd_sz(e->n), &bytes) || yd_mul_size(bytes, h, &bytes) || yd_mul_size(bytes, w, &bytes) ||
        yd_mul_size(bytes, yd_sz(t->c), &bytes))
        return yd_exec_refuse(e, op, YD_E_NOMEM, "its input does not fit in memory with a border", err);
    *buf = yd_exec_temp(e, bytes);
    yd_kernel *k = *buf < 0 ? NULL : yd_exec_kernel(e, op, run_mirror);
    mirror *m = k ? yd_calloc(1, sizeof *m) : NULL;
    if (!m) return yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for its kernel", err);
    *m = (mirror){x, pad, yd_is_bf16(e, x), dt == YD_BF16, yd_sz(t->h), yd_sz(t->w), yd_sz(t->c)};
    k->state = m;
    k->drop = yd_free;
    k->family = "CONV border";
    k->buf[0] = *buf;
    return 0;
}

// --- the end

#define RUN ((size_t)256) // channels at a time

typedef struct end {
    int sum, bias, v, res; // buffers; YD_NONE where absent
    int sum_bf16, res_bf16, y_bf16, act;
    float slope;
} end;

// One row's operands; bias and v are c numbers, NULL where absent.
typedef struct end_row {
    const void *sum, *res;
    const float *bias, *v;
    void *y;
} end_row;

YD_INLINE void load_run(const void *p, size_t at, int bf16, float *restrict z, size_t n)
{
    const void *from = yd_at(p, at, bf16);
    if (bf16)
        for (size_t i = 0; i < n; i++) z[i] = yd_load(from, i, 1);
    else
        memcpy(z, from, n * sizeof *z);
}

YD_INLINE void add_run(const void *p, size_t at, int bf16, float *restrict z, size_t n)
{
    const void *from = yd_at(p, at, bf16);
    if (bf16)
        for (size_t i = 0; i < n; i++) z[i] += yd_load(from, i, 1);
    else
        for (size_t i = 0; i < n; i++) z[i] += yd_load(from, i, 0);
}

YD_INLINE void store_run(void *p, size_t at, int bf16, const float *restrict z, size_t n)
{
    void *to = yd_at_mut(p, at, bf16);
    if (bf16)
        for (size_t i = 0; i < n; i++) yd_store(to, i, 1, z[i]);
    else
        memcpy(to, z, n * sizeof *z);
}

YD_INLINE void act_run(const end *t, float *restrict z, size_t n)
{
    if (t->act == YD_ACT_MISH)
        for (size_t i = 0; i < n; i++) z[i] = yd_mish(z[i]);
    if (t->act == YD_ACT_LEAKY)
        for (size_t i = 0; i < n; i++) z[i] = z[i] > 0 ? z[i] : t->slope * z[i];
}

// n pixels of c channels, so many at a time as stay in the nearest cache.
YD_SIMD
static void end_pixels(const end *t, const end_row *row, size_t n, size_t c)
{
    float z[RUN];
    for (size_t p = 0; p < n; p++)
        for (size_t first = 0; first < c; first += RUN) {
            const size_t count = c - first < RUN ? c - first : RUN, at = p * c + first;
            load_run(row->sum, at, t->sum_bf16, z, count);
            if (row->bias) add_run(row->bias, first, 0, z, count);
            act_run(t, z, count);
            if (row->v) add_run(row->v, first, 0, z, count);
            if (row->res) add_run(row->res, at, t->res_bf16, z, count);
            store_run(row->y, at, t->y_bf16, z, count);
        }
}

static int run_end(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    const end *t = k->state;
    const yd_tensor *m = yd_exec_tensor(e, k->op->out[0]);
    const size_t h = yd_sz(m->h), w = yd_sz(m->w), c = yd_sz(m->c), rows = yd_sz(e->n) * h;
    const float *bias = t->bias == YD_NONE ? NULL : yd_exec_ptr(e, t->bias),
                *v = t->v == YD_NONE ? NULL : yd_exec_ptr(e, t->v);
    const char *sum = yd_exec_ptr(e, t->sum), *res = t->res == YD_NONE ? NULL : yd_exec_ptr(e, t->res);
    char *y = yd_exec_ptr(e, k->op->out[0]);
#pragma omp parallel for num_threads(yd_threads(e, rows *w *c)) schedule(static)
    for (size_t r = 0; r < rows; r++) {
        const size_t at = r * w * c;
        const end_row row = {.sum = yd_at(sum, at, t->sum_bf16),
                             .res = res ? yd_at(res, at, t->res_bf16) : NULL,
                             .bias = bias,
                             .v = v ? v + r / h * c : NULL,
                             .y = yd_at_mut(y, at, t->y_bf16)};
        end_pixels(t, &row, w, c);
    }
    return 0;
}

int yd_make_conv_end(yd_exec *e, const yd_op *op, int buf, yd_dtype dt, yd_tid bias, yd_err *err)
{
    const yd_tensor *y = yd_exec_tensor(e, op->out[0]);
    const yd_tid res = op->kind == YD_OP_CONV ? op->in[3] : YD_NONE, v = op->kind == YD_OP_CONV ? op->in[4] : YD_NONE;
    int rc = res == YD_NONE ? 0 : yd_need(e, op, res, "residual", y->h, y->w, y->c, err);
    if (rc) return rc;
    yd_kernel *k = yd_exec_kernel(e, op, run_end);
    end *t = k ? yd_calloc(1, sizeof *t) : NULL;
    if (!t) return yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for its kernel", err);
    *t = (end){.sum = buf,
               .bias = bias,
               .v = v,
               .res = res,
               .sum_bf16 = dt == YD_BF16,
               .res_bf16 = res != YD_NONE && yd_is_bf16(e, res),
               .y_bf16 = yd_is_bf16(e, op->out[0]),
               .act = op->act,
               .slope = op->scale};
    k->state = t;
    k->drop = yd_free;
    k->family = "CONV end";
    return 0;
}
