// Convolutions as matrix products with patches (im2col), where cuDNN has no engine: cublasLt computes, sample by sample, so that the bits depend
// on nothing else. Slower and with more memory traffic than an engine; its products are exact f32 where no tensor cores are wanted.
//
//   FORWARD  y[p][o]    = patches[p][kkc] * filter[o][kkc]^T          p: the output's pixels
//   DX       patches    = y[p][o] * filter[o][kkc], f32; x = their sums, pixel by pixel
//   DW       filter[o][kkc] += y[p][o]^T * patches[p][kkc], f32, samples in order
// A 1x1 convolution with stride 1 and no border is its own patches.
#include "gpu/gpu.h"
#include "gpu/im2col.h"

static int is_plain(const yd_gpu_conv_shape *s)
{
    return s->k == 1 && s->stride == 1 && s->pad == 0;
}

static yd_gpu_patches patches_of(const yd_gpu_conv_shape *s)
{
    return (yd_gpu_patches){s->h, s->w, s->c, s->oh, s->ow, s->k, s->stride, s->pad};
}

// Bytes of one sample's patches, on 256; 0 when there are none or too many to count.
static size_t patch_bytes(const yd_gpu_conv_shape *s)
{
    const yd_dtype dtype = s->pass == YD_GPU_DX ? YD_F32 : s->type;
    size_t b = yd_dtype_bytes(dtype) * yd_sz(s->k) * yd_sz(s->k);
    if (is_plain(s) && s->pass != YD_GPU_DX) return 0;
    if (__builtin_mul_overflow(b, yd_sz(s->c), &b) || __builtin_mul_overflow(b, yd_sz(s->oh) * yd_sz(s->ow), &b) ||
        b > SIZE_MAX / 2)
        return 0;
    return (b + YD_GPU_ALIGN - 1) / YD_GPU_ALIGN * YD_GPU_ALIGN;
}

int yd_gpu_matmul_prepare(yd_exec *e, const yd_op *op, const yd_gpu_matmul_shape *shape, size_t behind,
                          yd_gpu_matmul **out, yd_err *err)
{
    yd_gpu *g = e->gpu;
    size_t workspace = 0;
    *out = NULL;
    const yd_gpu_outcome o = g->d->matmul_new(g->d, shape, out, &workspace);
    if (o == YD_GPU_UNSUPPORTED && shape->pinned && shape->batch > 1) return 0;
    if (o) return yd_gpu_check(g, o, yd_op_name(op->kind), err);
    yd_gpu_scratch(e, behind + workspace);
    return 0;
}

// buf: 0 x, 1 y, 3 the filter's gradient. mm[0] the product; of DW, mm[1] the one that adds to it.
static int run_gemm(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    yd_gpu *g = e->gpu;
    const yd_gpu_conv_shape *c = &s->conv.shape;
    const yd_gpu_patches p = patches_of(c);
    const yd_gpu_map *x = &e->bufs[s->buf[0]].map, *y = &e->bufs[s->buf[1]].map;
    void *filter = s->filter ? s->filter->data : e->bufs[s->buf[3]].map.data, *matrix = e->scratch,
         *workspace = e->scratch + patch_bytes(c);
    for (int i = 0; i < e->n; i++) {
        char *xi = (char *)x->data + yd_sz(i) * yd_sz(c->h) * yd_sz(c->w) * yd_sz(c->c) * yd_dtype_bytes(x->dtype);
        char *yi = (char *)y->data + yd_sz(i) * yd_sz(c->oh) * yd_sz(c->ow) * yd_sz(c->o) * yd_dtype_bytes(y->dtype);
        const int plain = is_plain(c);
        yd_gpu_outcome o = YD_GPU_OK;
        int rc = 0;
        if (!plain && c->pass != YD_GPU_DX)
            rc = yd_gpu_launched(e, s, yd_gpu_im2col(xi, c->type, &p, matrix, g->stream), err);
        if (rc) return rc;
        if (c->pass == YD_GPU_FORWARD)
            o = g->d->matmul_run(g->d, s->mm[0], plain ? xi : matrix, filter, yi, workspace, g->stream);
        else if (c->pass == YD_GPU_DX)
            o = g->d->matmul_run(g->d, s->mm[0], yi, filter, matrix, workspace, g->stream);
        else
            o = g->d->matmul_run(g->d, s->mm[i > 0], yi, plain ? xi : matrix, filter, workspace, g->stream);
        rc = yd_gpu_check(g, o, s->family, err);
        if (!rc && c->pass == YD_GPU_DX)
            rc = yd_gpu_launched(e, s, yd_gpu_col2im(matrix, &p, xi, x->dtype, g->stream), err);
        if (rc) return rc;
    }
    return 0;
}

static yd_gpu_matmul_shape product_of(const yd_gpu_conv_shape *s)
{
    const int pixels = s->oh * s->ow, columns = s->k * s->k * s->c;
    yd_gpu_matmul_shape m = {
        .batch = 1, .ab = s->type, .out = YD_F32, .alpha = 1, .tf32 = s->tf32, .pinned = 1, .align = 16};
    if (s->pass == YD_GPU_FORWARD) {
        m.m = pixels, m.n = s->o, m.k = columns, m.trans_b = 1;
        m.lda = columns, m.ldb = columns, m.ldc = s->o;
        m.out = s->out;
    } else if (s->pass == YD_GPU_DX) {
        m.m = pixels, m.n = columns, m.k = s->o;
        m.lda = s->o, m.ldb = columns, m.ldc = columns;
    } else {
        m.m = s->o, m.n = columns, m.k = pixels, m.trans_a = 1;
        m.lda = s->o, m.ldb = columns, m.ldc = columns;
    }
    return m;
}

int yd_gpu_make_gemm_conv(yd_exec *e, const yd_op *op, const yd_gpu_conv_shape *shape, int x, int y, int filter,
                          yd_gpu_packed *packed, yd_err *err)
{
    yd_gpu_step *s = yd_gpu_step_new(e, op, run_gemm, err);
    if (!s) {
        yd_gpu_packed_put(e->w, packed);
        return yd_gpu_code(err);
    }
    s->filter = packed;
    s->buf[0] = x;
    s->buf[1] = y;
    s->buf[3] = filter;
    s->conv.shape = *shape;
    if ((long long)shape->oh * shape->ow > INT32_MAX || (long long)shape->k * shape->k * shape->c > INT32_MAX ||
        (!patch_bytes(shape) && (shape->pass == YD_GPU_DX || !is_plain(shape))))
        return yd_gpu_refuse(e, op, YD_E_UNSUPPORTED, "cuDNN has no engine for it, and its patches are too many", err);
    const size_t behind = patch_bytes(shape);
    yd_gpu_matmul_shape m = product_of(shape);
    yd_gpu_scratch(e, behind);
    const int at = e->n_steps - 1;
    int rc = yd_gpu_matmul_prepare(e, op, &m, behind, &e->steps[at].mm[0], err);
    if (rc || shape->pass != YD_GPU_DW) return rc;
    m.beta = 1;
    return yd_gpu_matmul_prepare(e, op, &m, behind, &e->steps[at].mm[1], err);
}
