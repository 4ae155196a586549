// LINEAR on per-sample vectors and its gradients: a few hundred numbers each, bound by reading W once.
//
// Forward and dW are cut by rows of W, dv by samples. A dot product always runs in partial sums joined in one order
// (vec.h), so the bits depend on neither the machine's vector length nor the thread count.
#include "core/cpu/cpu.h"
#include "core/cpu/vec.h"
#include "core/simd.h"
#include <string.h>

YD_SIMD
static float dot(const float *restrict a, const float *restrict b, size_t n)
{
    return yd_lane_sum(a, b, n);
}

// y += f * x
YD_SIMD
static void add_scaled(float *restrict y, float f, const float *restrict x, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] += f * x[i];
}

static int run_linear(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    const yd_op *op = k->op;
    const float *v = yd_exec_ptr(e, op->in[0]), *w = yd_exec_ptr(e, op->in[1]),
                *b = op->in[2] == YD_NONE ? NULL : yd_exec_ptr(e, op->in[2]);
    float *y = yd_exec_ptr(e, op->out[0]);
    size_t in = yd_sz(yd_exec_tensor(e, op->in[0])->c), out = yd_sz(yd_exec_tensor(e, op->out[0])->c), n = yd_sz(e->n);
#pragma omp parallel for num_threads(yd_threads(e, in *out)) schedule(static)
    for (size_t o = 0; o < out; o++)
        for (size_t s = 0; s < n; s++) y[s * out + o] = dot(w + o * in, v + s * in, in) + (b ? b[o] : 0);
    return 0;
}

int yd_make_linear(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = yd_need_f32(e, op, op->in[0], "input", 1, 1, 0, err);
    if (!rc) rc = yd_need_f32(e, op, op->out[0], "result", 1, 1, 0, err);
    if (rc) return rc;
    int in = yd_exec_tensor(e, op->in[0])->c, out = yd_exec_tensor(e, op->out[0])->c;
    rc = yd_need_param(e, op, op->in[1], "weights", (int[4]){out, in, 1, 1}, err);
    if (!rc && op->in[2] != YD_NONE) rc = yd_need_param(e, op, op->in[2], "bias", (int[4]){out, 1, 1, 1}, err);
    if (rc) return rc;
    return yd_exec_kernel(e, op, run_linear) ? 0 : yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for its kernel", err);
}

static void input_gradient(const float *w, const float *dy, float *dv, size_t in, size_t out)
{
    memset(dv, 0, in * sizeof *dv);
    for (size_t o = 0; o < out; o++) add_scaled(dv, dy[o], w + o * in, in);
}

static int run_linear_bwd(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    const yd_op *op = k->op;
    const float *v = yd_exec_ptr(e, op->in[0]), *w = yd_exec_ptr(e, op->in[1]), *dy = yd_exec_ptr(e, op->in[2]);
    float *dv = op->out[0] == YD_NONE ? NULL : yd_exec_ptr(e, op->out[0]), *dw = yd_exec_ptr(e, op->out[1]);
    float *db = op->out[2] == YD_NONE ? NULL : yd_exec_ptr(e, op->out[2]);
    size_t in = yd_sz(yd_exec_tensor(e, op->in[0])->c), out = yd_sz(yd_exec_tensor(e, op->in[2])->c), n = yd_sz(e->n);
#pragma omp parallel num_threads(yd_threads(e, in *out *n))
    {
#pragma omp for schedule(static) nowait
        for (size_t o = 0; o < out; o++) {
            float bias = 0;
            memset(dw + o * in, 0, in * sizeof *dw);
            for (size_t s = 0; s < n; s++) {
                add_scaled(dw + o * in, dy[s * out + o], v + s * in, in);
                bias += dy[s * out + o];
            }
            if (db) db[o] = bias;
        }
#pragma omp for schedule(static)
        for (size_t s = 0; s < n; s++)
            if (dv) input_gradient(w, dy + s * out, dv + s * in, in, out);
    }
    return 0;
}

int yd_make_linear_bwd(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = yd_need_f32(e, op, op->in[0], "input", 1, 1, 0, err);
    if (!rc) rc = yd_need_f32(e, op, op->in[2], "gradient", 1, 1, 0, err);
    if (rc) return rc;
    int in = yd_exec_tensor(e, op->in[0])->c, out = yd_exec_tensor(e, op->in[2])->c;
    int matrix[4] = {out, in, 1, 1}, vector[4] = {out, 1, 1, 1};
    rc = yd_need_param(e, op, op->in[1], "weights", matrix, err);
    if (!rc && op->out[0] != YD_NONE) rc = yd_need_f32(e, op, op->out[0], "input gradient", 1, 1, in, err);
    if (!rc) rc = yd_need_param(e, op, op->out[1], "weight gradient", matrix, err);
    if (!rc && op->out[2] != YD_NONE) rc = yd_need_param(e, op, op->out[2], "bias gradient", vector, err);
    if (rc) return rc;
    return yd_exec_kernel(e, op, run_linear_bwd) ? 0
                                                 : yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for its kernel", err);
}
