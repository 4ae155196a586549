// ATTENTION and ATTENTION_BWD. One head of all channels. To run a network: one kernel of cuDNN (attention.cu) where maps are bf16 and there are at most
// 256 channels, if it has an engine for that. Else, and in training, which needs the softmax: batched matrix products of cublasLt with a softmax kernel
// between them. SR3's 512 channels go this way; it is a hundredth of a network's work.
//
//   scores = q k^T (f32)    p = softmax(scores / sqrt c)    y = p v
//   dv = p^T dy    dp = dy v^T (f32)    ds = p (dp - sum p dp) / sqrt c    dq = ds k    dk = ds^T q
// q, k and v are read where they lie: columns of qkv, whose pixels are the rows. A product whose kernel does not take the batch as it takes one
// sample (pinned) runs sample by sample.
#include "gpu/gpu.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>

#define FUSED_CHANNELS 256 // of a head: what cuDNN documents

typedef struct product {
    yd_gpu_matmul_shape shape;
    int a, b, c;          // buffers
    int at_a, at_b, at_c; // first column of each
} product;

static void *element(const yd_gpu_map *m, int column, long step, int i)
{
    return (char *)m->data + (yd_sz(column) + (size_t)step * yd_sz(i)) * yd_dtype_bytes(m->dtype);
}

// buf: 0 a, 1 b, 2 c, 3..5 their first columns, 6 samples at a time.
static int run_product(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    yd_gpu *g = e->gpu;
    const yd_gpu_map *m[3];
    long step[3];
    for (int i = 0; i < 3; i++) {
        m[i] = &e->bufs[s->buf[i]].map;
        step[i] = (long)m[i]->h * m[i]->w * m[i]->pitch;
    }
    for (int i = 0; i < e->n; i += s->buf[6]) {
        int rc = yd_gpu_check(g,
                              g->d->matmul_run(g->d, s->mm[0], element(m[0], s->buf[3], step[0], i),
                                               element(m[1], s->buf[4], step[1], i),
                                               element(m[2], s->buf[5], step[2], i), e->scratch, g->stream),
                              s->family, err);
        if (rc) return rc;
    }
    return 0;
}

// The power of two up to 256 that the addresses of all samples are multiples of.
static int alignment(const yd_gpu_map *m, int column, long step)
{
    const size_t bytes = yd_dtype_bytes(m->dtype), low = (yd_sz(column) | (size_t)step) * bytes | 256;
    return (int)(low & -low);
}

static int make_product(yd_exec *e, const yd_op *op, product p, yd_err *err)
{
    yd_gpu_matmul_shape *x = &p.shape;
    const yd_gpu_map *a = &e->bufs[p.a].map, *b = &e->bufs[p.b].map, *c = &e->bufs[p.c].map;
    x->batch = e->n;
    x->lda = a->pitch, x->ldb = b->pitch, x->ldc = c->pitch;
    x->step_a = (long)a->h * a->w * a->pitch, x->step_b = (long)b->h * b->w * b->pitch,
    x->step_c = (long)c->h * c->w * c->pitch;
    const int al[] = {alignment(a, p.at_a, x->step_a), alignment(b, p.at_b, x->step_b),
                      alignment(c, p.at_c, x->step_c)};
    x->align = al[0] < al[1] ? al[0] : al[1];
    if (al[2] < x->align) x->align = al[2];
    x->ab = a->dtype, x->out = c->dtype;
    x->alpha = 1;
    x->tf32 = e->gpu->opt.tf32;
    x->pinned = !e->gpu->opt.batch_variant;
    yd_gpu_step *s = yd_gpu_step_new(e, op, run_product, err);
    if (!s) return yd_gpu_code(err);
    const int buf[] = {p.a, p.b, p.c, p.at_a, p.at_b, p.at_c, e->n};
    for (int i = 0; i < 7; i++) s->buf[i] = buf[i];
    int rc = yd_gpu_matmul_prepare(e, op, x, 0, &s->mm[0], err);
    if (rc || s->mm[0]) return rc;
    x->batch = s->buf[6] = 1;
    return yd_gpu_matmul_prepare(e, op, x, 0, &s->mm[0], err);
}

// buf: 0 scores, 1 p.
static int run_softmax(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    const yd_gpu_map *x = &e->bufs[s->buf[0]].map, *p = &e->bufs[s->buf[1]].map;
    const float scale = 1.0f / sqrtf((float)(e->bufs[s->op->in[0]].map.c / 3));
    return yd_gpu_launched(e, s, yd_gpu_softmax(x->data, p->data, p->dtype, scale, e->n * x->h, x->c, e->gpu->stream),
                           err);
}

// buf: 0 p, 1 dp, 2 ds.
static int run_softmax_bwd(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    const yd_gpu_map *p = &e->bufs[s->buf[0]].map, *dp = &e->bufs[s->buf[1]].map, *ds = &e->bufs[s->buf[2]].map;
    const float scale = 1.0f / sqrtf((float)(e->bufs[s->op->in[0]].map.c / 3));
    return yd_gpu_launched(
        e, s,
        yd_gpu_softmax_bwd(p->data, p->dtype, dp->data, ds->data, ds->dtype, scale, e->n * p->h, p->c, e->gpu->stream),
        err);
}

// What products write has no zeros behind its channels.
static int run_zero(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    yd_gpu *g = e->gpu;
    const yd_gpu_buf *b = &e->bufs[s->buf[0]];
    return yd_gpu_check(g, g->d->zero(g->d, b->map.data, b->item.bytes, g->stream), s->family, err);
}

static int clear_padding(yd_exec *e, const yd_op *op, int buf, yd_err *err)
{
    if (e->bufs[buf].map.padded == e->bufs[buf].map.c) return 0;
    yd_gpu_step *s = yd_gpu_step_new(e, op, run_zero, err);
    if (!s) return yd_gpu_code(err);
    s->buf[0] = buf;
    return 0;
}

// A buffer with map t's elements as `dtype`: t itself or a copy. For results: t itself or a temporary that the caller copies back.
static int as_type(yd_exec *e, const yd_op *op, yd_tid t, yd_dtype dtype, int read, yd_err *err)
{
    const yd_gpu_map m = e->bufs[t].map;
    if (m.dtype == dtype) return t;
    const int buf = yd_gpu_temp(e, dtype, m.h, m.w, m.c, m.c, err);
    return buf >= 0 && read && yd_gpu_make_copy(e, op, t, buf, err) ? -1 : buf;
}

static int softmax_step(yd_exec *e, const yd_op *op, int (*run)(yd_exec *, yd_gpu_step *, yd_err *), int a, int b,
                        int c, yd_err *err)
{
    yd_gpu_step *s = yd_gpu_step_new(e, op, run, err);
    if (!s) return yd_gpu_code(err);
    s->buf[0] = a;
    s->buf[1] = b;
    s->buf[2] = c;
    return 0;
}

typedef struct attention {
    int tokens, c, qkv, p;
    yd_dtype type;
} attention;

static int check(yd_exec *e, const yd_op *op, attention *a, yd_err *err)
{
    int rc = yd_gpu_need(e, op, op->in[0], "map", 0, 0, 0, err);
    if (rc) return rc;
    const yd_gpu_map m = e->bufs[op->in[0]].map;
    if (m.c % 3) return yd_gpu_refuse(e, op, YD_E_INVALID, "its channels are not q, k and v", err);
    if ((long long)m.h * m.w * e->n > INT32_MAX)
        return yd_gpu_refuse(e, op, YD_E_UNSUPPORTED, "it has too many tokens", err);
    *a = (attention){.tokens = m.h * m.w, .c = m.c / 3, .qkv = op->in[0], .type = m.dtype};
    return 0;
}

// Append scores and softmax: p [tokens][tokens].
static int begin(yd_exec *e, const yd_op *op, attention *a, yd_err *err)
{
    const int scores = yd_gpu_temp(e, YD_F32, a->tokens, 1, a->tokens, a->tokens, err);
    if (scores < 0) return yd_gpu_code(err);
    a->p = a->type == YD_F32 ? scores : yd_gpu_temp(e, a->type, a->tokens, 1, a->tokens, a->tokens, err);
    if (a->p < 0) return yd_gpu_code(err);
    int rc = make_product(e, op,
                          (product){.shape = {.m = a->tokens, .n = a->tokens, .k = a->c, .trans_b = 1},
                                    .a = a->qkv,
                                    .b = a->qkv,
                                    .c = scores,
                                    .at_b = a->c},
                          err);
    return rc ? rc : softmax_step(e, op, run_softmax, scores, a->p, -1, err);
}

// Why one kernel cannot compute it; NULL when it may.
static const char *not_fused(const yd_exec *e, const attention *a, int y)
{
    const yd_gpu_map *x = &e->bufs[a->qkv].map;
    if (e->gpu->opt.attention == YD_ATTENTION_PRODUCTS) return "the option";
    if (e->training) return "its gradient";
    if (a->type != YD_BF16) return "its f32 maps";
    if (a->c % 8 || (a->c > FUSED_CHANNELS && e->gpu->opt.attention != YD_ATTENTION_FUSED)) return "its channels";
    if (a->tokens < 2 || x->pitch != x->c || e->bufs[y].map.pitch != a->c) return "its layout";
    return NULL;
}

// One kernel for all of it. 1 done, 0 it cannot be, negative: error.
static int fused(yd_exec *e, const yd_op *op, const attention *a, int y, yd_err *err)
{
    const yd_gpu_map *x = &e->bufs[a->qkv].map;
    const yd_gpu_conv_shape shape = {.pass = YD_GPU_ATTENTION,
                                     .n = e->n,
                                     .h = x->h,
                                     .w = x->w,
                                     .c = x->c,
                                     .oh = x->h,
                                     .ow = x->w,
                                     .o = a->c,
                                     .k = 1,
                                     .stride = 1,
                                     .type = YD_BF16,
                                     .out = YD_BF16};
    const char *why = not_fused(e, a, y);
    const int rc = why ? 0 : yd_gpu_make_engine(e, op, &shape, a->qkv, y, err);
    if (rc >= 0 && e->gpu->verbose) {
        const char *how = rc ? "one kernel" : "products and softmax, because of ";
        fprintf(stderr, "cuda: ATTENTION '%s', %d tokens of %d, batch %d: %s%s\n", yd_gpu_tensor(e, op->out[0])->name,
                a->tokens, a->c, e->n, how,
                rc    ? ""
                : why ? why
                      : "a lack of engines");
    }
    return rc;
}

static int products(yd_exec *e, const yd_op *op, attention *a, int y, yd_err *err)
{
    int rc = begin(e, op, a, err);
    if (!rc) rc = clear_padding(e, op, y, err);
    if (rc) return rc;
    return make_product(
        e, op,
        (product){
            .shape = {.m = a->tokens, .n = a->c, .k = a->tokens}, .a = a->p, .b = a->qkv, .c = y, .at_b = 2 * a->c},
        err);
}

int yd_gpu_make_attention(yd_exec *e, const yd_op *op, yd_err *err)
{
    attention a = {0};
    int rc = check(e, op, &a, err);
    const yd_gpu_map *m = rc ? NULL : &e->bufs[op->in[0]].map;
    if (!rc) rc = yd_gpu_need(e, op, op->out[0], "result", m->h, m->w, a.c, err);
    const int y = rc ? -1 : as_type(e, op, op->out[0], a.type, 0, err);
    if (y < 0) return rc ? rc : yd_gpu_code(err);
    rc = fused(e, op, &a, y, err);
    if (rc == 0) rc = products(e, op, &a, y, err);
    if (rc < 0) return rc;
    return y == op->out[0] ? 0 : yd_gpu_make_copy(e, op, y, op->out[0], err);
}

static int gradients(yd_exec *e, const yd_op *op, const attention *a, int dy, int dqkv, yd_err *err)
{
    const int t = a->tokens, c = a->c;
    const int dp = yd_gpu_temp(e, YD_F32, t, 1, t, t, err);
    if (dp < 0) return yd_gpu_code(err);
    const int ds = a->type == YD_F32 ? dp : yd_gpu_temp(e, a->type, t, 1, t, t, err);
    if (ds < 0) return yd_gpu_code(err);
    int rc = make_product(
        e, op, (product){.shape = {.m = t, .n = c, .k = t, .trans_a = 1}, .a = a->p, .b = dy, .c = dqkv, .at_c = 2 * c},
        err);
    if (!rc)
        rc = make_product(
            e, op,
            (product){.shape = {.m = t, .n = t, .k = c, .trans_b = 1}, .a = dy, .b = a->qkv, .c = dp, .at_b = 2 * c},
            err);
    if (!rc) rc = softmax_step(e, op, run_softmax_bwd, a->p, dp, ds, err);
    if (!rc)
        rc = make_product(
            e, op, (product){.shape = {.m = t, .n = c, .k = t}, .a = ds, .b = a->qkv, .c = dqkv, .at_b = c}, err);
    if (!rc)
        rc = make_product(
            e, op,
            (product){.shape = {.m = t, .n = c, .k = t, .trans_a = 1}, .a = ds, .b = a->qkv, .c = dqkv, .at_c = c},
            err);
    return rc;
}

int yd_gpu_make_attention_bwd(yd_exec *e, const yd_op *op, yd_err *err)
{
    attention a = {0};
    int rc = check(e, op, &a, err);
    if (!rc) rc = begin(e, op, &a, err);
    if (rc) return rc;
    const yd_gpu_map m = e->bufs[op->in[0]].map;
    rc = yd_gpu_need(e, op, op->in[1], "gradient", m.h, m.w, a.c, err);
    if (!rc) rc = yd_gpu_need(e, op, op->out[0], "result", m.h, m.w, m.c, err);
    if (rc) return rc;
    const int dy = as_type(e, op, op->in[1], a.type, 1, err),
              dqkv = dy < 0 ? -1 : as_type(e, op, op->out[0], a.type, 0, err);
    if (dqkv < 0) return yd_gpu_code(err);
    rc = clear_padding(e, op, dqkv, err);
    if (!rc) rc = gradients(e, op, &a, dy, dqkv, err);
    return rc || dqkv == op->out[0] ? rc : yd_gpu_make_copy(e, op, dqkv, op->out[0], err);
}
