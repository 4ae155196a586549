// Self-attention over the pixels of a map, one head: y = softmax(q k^T / sqrt(c)) v, and its gradient.
//
// Matrix products are oneDNN's, created for one sample and run once per sample, so a sample's bits cannot depend on
// the batch; q, k and v are read in place as strided thirds of qkv. Products compute in the storage type of qkv, or
// in f32 where the processor has no bf16 kernels; operands stored otherwise are converted. Scores are f32. Forward
// works on blocks of query rows, so that scores of large maps need not fit in memory at once; the gradient keeps a
// sample's whole score matrix.
#include "core/cpu/cpu.h"
#include "core/cpu/vec.h"
#include "core/mem.h"
#include "core/simd.h"
#include <math.h>

#define BLOCK_SCORES ((size_t)1 << 20) // forward: scores at once, where the token count has a fitting divisor

enum { SCORES, PROBS, DPROBS, TEMPS };
enum { QK, PV, DYV, PDY, DSK, DSQ, PRODUCTS };

typedef struct attention {
    yd_prim product[PRODUCTS];
    int tmp[TEMPS];
    size_t tokens, c, rows; // rows: queries per block
    yd_dtype dt;
} attention;

static void drop(void *state)
{
    attention *a = state;
    for (int i = 0; i < PRODUCTS; i++) yd_prim_drop(&a->product[i]);
    yd_free(a);
}

// --- row kernels

// s: scores in, probabilities out; p: the same as stored for the product (may be s itself when f32)
YD_SIMD
static void softmax_row(float *s, void *p, int pb, float scale, size_t n)
{
    float top = s[0];
#pragma omp simd reduction(max : top)
    for (size_t i = 0; i < n; i++) top = s[i] > top ? s[i] : top;
#pragma omp simd
    for (size_t i = 0; i < n; i++) s[i] = yd_exp((s[i] - top) * scale);
    float inv = 1.0f / yd_lane_sum(s, NULL, n);
    if (pb) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) yd_store(p, i, 1, s[i] *= inv);
    } else {
#pragma omp simd
        for (size_t i = 0; i < n; i++) yd_store(p, i, 0, s[i] *= inv);
    }
}

// ds = p * (dp - sum dp*p) * scale
YD_SIMD
static void softmax_slope_row(const float *p, const float *dp, void *ds, int db, float scale, size_t n)
{
    float mean = yd_lane_sum(p, dp, n);
    if (db) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) yd_store(ds, i, 1, p[i] * (dp[i] - mean) * scale);
    } else {
#pragma omp simd
        for (size_t i = 0; i < n; i++) yd_store(ds, i, 0, p[i] * (dp[i] - mean) * scale);
    }
}

static void softmax(const yd_exec *e, const attention *a)
{
    float *s = yd_exec_ptr(e, a->tmp[SCORES]);
    void *p = yd_exec_ptr(e, a->tmp[PROBS]);
    int pb = a->dt == YD_BF16;
    float scale = (float)(1.0 / sqrt((double)a->c));
#pragma omp parallel for num_threads(yd_threads(e, a->rows * a->tokens)) schedule(static)
    for (size_t r = 0; r < a->rows; r++)
        softmax_row(s + r * a->tokens, yd_at_mut(p, r * a->tokens, pb), pb, scale, a->tokens);
}

static void softmax_slope(const yd_exec *e, const attention *a)
{
    const float *p = yd_exec_ptr(e, a->tmp[SCORES]), *dp = yd_exec_ptr(e, a->tmp[DPROBS]);
    void *ds = yd_exec_ptr(e, a->tmp[PROBS]);
    int db = a->dt == YD_BF16;
    float scale = (float)(1.0 / sqrt((double)a->c));
#pragma omp parallel for num_threads(yd_threads(e, a->rows * a->tokens)) schedule(static)
    for (size_t r = 0; r < a->rows; r++)
        softmax_slope_row(p + r * a->tokens, dp + r * a->tokens, yd_at_mut(ds, r * a->tokens, db), db, scale,
                          a->tokens);
}

// --- products

// A matrix inside a buffer: `at` elements from its start, moving on by `step` elements each `every` runs.
typedef struct operand {
    int buf;
    yd_dtype dt;
    size_t rows, cols, row_stride, col_stride, at, step, every;
} operand;

static operand transposed(operand m)
{
    return (operand){m.buf, m.dt, m.cols, m.rows, m.col_stride, m.row_stride, m.at, m.step, m.every};
}

static int describe(const yd_exec *e, const yd_op *op, const operand *m, dnnl_memory_desc_t *md, yd_err *err)
{
    dnnl_dims_t dims = {(dnnl_dim_t)m->rows, (dnnl_dim_t)m->cols},
                strides = {(dnnl_dim_t)m->row_stride, (dnnl_dim_t)m->col_stride};
    dnnl_status_t s = dnnl_memory_desc_init_by_strides(md, 2, dims, yd_dnnl_dtype(m->dt), strides);
    return yd_dnnl_check(e, op, "memory_desc_init_by_strides", s, err);
}

// c = a b
static int product(yd_exec *e, const yd_op *op, yd_prim *p, operand a, operand b, operand c, yd_err *err)
{
    const operand *m[3] = {&a, &b, &c};
    static const int args[3] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
    dnnl_memory_desc_t md[3];
    for (int i = 0; i < 3; i++) {
        int rc = describe(e, op, m[i], &md[i], err);
        if (rc) return rc;
    }
    dnnl_matmul_desc_t desc;
    int rc = yd_dnnl_check(e, op, "matmul_desc_init", dnnl_matmul_desc_init(&desc, &md[0], &md[1], NULL, &md[2]), err);
    dnnl_primitive_attr_t attr;
    if (!rc) rc = yd_dnnl_check(e, op, "primitive_attr_create", dnnl_primitive_attr_create(&attr), err);
    if (rc) return rc;
    rc = yd_prim_choose(e, op, p, &desc, attr, NULL, err);
    dnnl_primitive_attr_destroy(attr);
    if (!rc) rc = yd_prim_create(e, op, p, err);
    for (int i = 0; i < 3 && !rc; i++) {
        size_t size = yd_dtype_bytes(m[i]->dt);
        rc = yd_prim_bind_at(e, op, p, args[i], &md[i],
                             (yd_place){m[i]->buf, m[i]->at * size, m[i]->step * size, m[i]->every}, err);
    }
    return rc;
}

// --- making both operators

// The kernel's state and its temporaries for `rows` queries at a time.
static attention *make_state(yd_exec *e, const yd_op *op, int (*run)(yd_exec *, const yd_kernel *, yd_err *), int whole,
                             yd_err *err)
{
    const yd_tensor *qkv = yd_exec_tensor(e, op->in[0]);
    yd_kernel *k = yd_exec_kernel(e, op, run);
    attention *a = k ? yd_calloc(1, sizeof *a) : NULL;
    size_t scores;
    if (!a) goto fail;
    k->state = a;
    k->drop = drop;
    a->dt = yd_compute_type(e, op->in[0]);
    a->c = yd_sz(qkv->c) / 3;
    a->tokens = a->rows = yd_sz(qkv->h) * yd_sz(qkv->w);
    while (!whole && a->rows % 2 == 0 && a->rows > BLOCK_SCORES / a->tokens) a->rows /= 2;
    if (yd_mul_size(a->rows, a->tokens, &scores) || yd_mul_size(scores, sizeof(float), &scores)) goto fail;
    a->tmp[SCORES] = yd_exec_temp(e, scores);
    a->tmp[PROBS] = yd_exec_temp(e, scores / sizeof(float) * yd_dtype_bytes(a->dt));
    a->tmp[DPROBS] = whole ? yd_exec_temp(e, scores) : 0;
    if (a->tmp[SCORES] >= 0 && a->tmp[PROBS] >= 0 && a->tmp[DPROBS] >= 0) return a;
fail:
    yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for its scores", err);
    return NULL;
}

static int check_shape(const yd_exec *e, const yd_op *op, yd_tid y, const char *role, yd_err *err)
{
    int rc = yd_need(e, op, op->in[0], "qkv", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *qkv = yd_exec_tensor(e, op->in[0]);
    if (qkv->c % 3) return yd_exec_refuse(e, op, YD_E_INVALID, "qkv's channels are not a multiple of 3", err);
    return yd_need(e, op, y, role, qkv->h, qkv->w, qkv->c / 3, err);
}

// One third of a qkv-shaped map: the queries of a block, or (rows == tokens) all of a sample, which lasts for its
// every block.
static operand third(const attention *a, int buf, size_t which, size_t rows)
{
    size_t every = rows == a->tokens ? a->tokens / a->rows : 1;
    return (operand){buf, a->dt, rows, a->c, 3 * a->c, 1, which * a->c, rows * 3 * a->c, every};
}

static operand scores_as(const attention *a, int tmp, yd_dtype dt)
{
    return (operand){a->tmp[tmp], dt, a->rows, a->tokens, a->tokens, 1, 0, 0, 1};
}

static int run_attention(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    const attention *a = k->state;
    size_t runs = yd_sz(e->n) * (a->tokens / a->rows);
    for (size_t i = 0; i < runs; i++) {
        int rc = yd_prim_run(e, k->op, &a->product[QK], i, err);
        if (rc) return rc;
        softmax(e, a);
        rc = yd_prim_run(e, k->op, &a->product[PV], i, err);
        if (rc) return rc;
    }
    return 0;
}

int yd_make_attention(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = check_shape(e, op, op->out[0], "result", err);
    if (rc) return rc;
    yd_dtype dt = yd_compute_type(e, op->in[0]), ydt = dt == YD_F32 ? YD_F32 : yd_exec_tensor(e, op->out[0])->dtype;
    int qkv, dst;
    rc = yd_make_readable(e, op, op->in[0], dt, &qkv, err);
    if (!rc) rc = yd_make_writable(e, op, op->out[0], ydt, &dst, err);
    if (rc) return rc;
    attention *a = make_state(e, op, run_attention, 0, err);
    if (!a) return YD_E_NOMEM;
    operand q = third(a, qkv, 0, a->rows), key = third(a, qkv, 1, a->tokens), v = third(a, qkv, 2, a->tokens);
    operand y = {dst, ydt, a->rows, a->c, a->c, 1, 0, a->rows * a->c, 1};
    rc = product(e, op, &a->product[QK], q, transposed(key), scores_as(a, SCORES, YD_F32), err);
    if (!rc) rc = product(e, op, &a->product[PV], scores_as(a, PROBS, a->dt), v, y, err);
    return rc ? rc : yd_make_written(e, op, op->out[0], ydt, dst, err);
}

static int run_attention_bwd(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    const attention *a = k->state;
    int rc = 0;
    for (size_t i = 0; i < yd_sz(e->n) && !rc; i++) {
        rc = yd_prim_run(e, k->op, &a->product[QK], i, err);
        if (rc) return rc;
        softmax(e, a);
        rc = yd_prim_run(e, k->op, &a->product[PDY], i, err); // dv, before the slopes overwrite the probabilities
        if (!rc) rc = yd_prim_run(e, k->op, &a->product[DYV], i, err);
        if (rc) return rc;
        softmax_slope(e, a);
        rc = yd_prim_run(e, k->op, &a->product[DSK], i, err);
        if (!rc) rc = yd_prim_run(e, k->op, &a->product[DSQ], i, err);
    }
    return rc;
}

int yd_make_attention_bwd(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = check_shape(e, op, op->in[1], "gradient", err);
    if (!rc)
        rc = yd_need(e, op, op->out[0], "result", yd_exec_tensor(e, op->in[0])->h, yd_exec_tensor(e, op->in[0])->w,
                     yd_exec_tensor(e, op->in[0])->c, err);
    if (rc) return rc;
    yd_dtype dt = yd_compute_type(e, op->in[0]);
    int qkv, dy_buf, dst;
    rc = yd_make_readable(e, op, op->in[0], dt, &qkv, err);
    if (!rc) rc = yd_make_readable(e, op, op->in[1], dt, &dy_buf, err);
    if (!rc) rc = yd_make_writable(e, op, op->out[0], dt, &dst, err);
    if (rc) return rc;
    attention *a = make_state(e, op, run_attention_bwd, 1, err);
    if (!a) return YD_E_NOMEM;
    size_t t = a->tokens;
    operand q = third(a, qkv, 0, t), key = third(a, qkv, 1, t), v = third(a, qkv, 2, t);
    operand dq = third(a, dst, 0, t), dkey = third(a, dst, 1, t), dv = third(a, dst, 2, t);
    operand dy = {dy_buf, a->dt, t, a->c, a->c, 1, 0, t * a->c, 1};
    operand p = scores_as(a, PROBS, a->dt); // later the slopes of the scores
    rc = product(e, op, &a->product[QK], q, transposed(key), scores_as(a, SCORES, YD_F32), err);
    if (!rc) rc = product(e, op, &a->product[PDY], transposed(p), dy, dv, err);
    if (!rc) rc = product(e, op, &a->product[DYV], dy, transposed(v), scores_as(a, DPROBS, YD_F32), err);
    if (!rc) rc = product(e, op, &a->product[DSK], p, key, dq, err);
    if (!rc) rc = product(e, op, &a->product[DSQ], transposed(p), q, dkey, err);
    return rc ? rc : yd_make_written(e, op, op->out[0], dt, dst, err);
}
