// Attention by cuDNN 9's graph API: one operation, SDPA_FWD, that reads q, k and v by their strides where they lie in qkv and keeps no scores.
//
// What it takes: bf16, a head size that is a multiple of 8 and at most 256, compute capability 8.0 and later (NVIDIA's page "Attention" of the cuDNN
// documentation, its support matrix and the version history below it). The operation is there from cuDNN 9.13.1 on: earlier ones have it as a graph of
// seven operations, for which today's libraries have no engine any more. No sequence lengths, no masks, no statistics: inference.
//
// Releases of this operation have had engines that counted keys beyond the last, or that gave no numbers: an engine is tried before it is taken.
#include "gpu/attention_try.h"
#include "gpu/cudnn_bag.h"

#include <cstdlib>
#include <initializer_list>

#define SINCE 91301 // cuDNN 9.13.1

enum { ID_Q = 1, ID_K, ID_V, ID_O, ID_SCALE };

#if CUDNN_VERSION >= SINCE

// Tokens of one head, as cuDNN's batch, heads, tokens, head size: `step` elements from a token to the next.
static desc_t tokens_of(bag *b, int64_t id, int64_t n, int64_t tokens, int64_t head, int64_t step)
{
    const int64_t dims[] = {n, 1, tokens, head}, strides[] = {tokens * step, head, step, 1};
    return done(b, add_tensor(b, id, CUDNN_DATA_BFLOAT16, dims, strides));
}

// One f32 that a run takes from the host.
static desc_t scale_of(bag *b)
{
    const int64_t ones[] = {1, 1, 1, 1};
    const bool by_value = true;
    desc_t d = add_tensor(b, ID_SCALE, CUDNN_DATA_FLOAT, ones, ones);
    set(b, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    return done(b, d);
}

desc_t yd_cuda_attention_graph(yd_cuda *c, bag *b, const yd_gpu_conv_shape *s)
{
    const int64_t tokens = (int64_t)s->h * s->w, head = s->o;
    if (cudnnGetVersion() < SINCE || s->type != YD_BF16 || s->out != YD_BF16 || s->c != 3 * s->o) {
        b->status = CUDNN_STATUS_NOT_SUPPORTED;
        return nullptr;
    }
    desc_t q = tokens_of(b, ID_Q, s->n, tokens, head, 3 * head), k = tokens_of(b, ID_K, s->n, tokens, head, 3 * head);
    desc_t v = tokens_of(b, ID_V, s->n, tokens, head, 3 * head), o = tokens_of(b, ID_O, s->n, tokens, head, head);
    desc_t scale = scale_of(b), op = add(b, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    set_desc(b, op, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, q);
    set_desc(b, op, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, k);
    set_desc(b, op, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, v);
    set_desc(b, op, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, o);
    set_desc(b, op, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, scale);
    done(b, op);
    return graph_of(c, b, &op, 1, false);
}

#else

desc_t yd_cuda_attention_graph(yd_cuda *, bag *b, const yd_gpu_conv_shape *)
{
    b->status = CUDNN_STATUS_NOT_SUPPORTED; // these headers do not have it
    return nullptr;
}

#endif

void yd_cuda_attention_pointers(const yd_gpu_conv_shape *s, const yd_gpu_conv_io *io, const float *scale,
                                int64_t ids[YD_CUDA_ATTENTION_POINTERS], const void *at[YD_CUDA_ATTENTION_POINTERS])
{
    const char *x = (const char *)io->x;
    const size_t head = (size_t)s->o * yd_dtype_bytes(s->type);
    const void *const pointers[] = {x, x + head, x + 2 * head, io->y, scale};
    for (int i = 0; i < YD_CUDA_ATTENTION_POINTERS; i++) {
        ids[i] = ID_Q + i;
        at[i] = pointers[i];
    }
}

// --- trying

struct trial {
    uint16_t *qkv, *result; // on the host
    void *x, *y, *workspace;
    size_t x_bytes, y_bytes;
    yd_gpu_conv *conv;
};

static yd_gpu_outcome reserve(yd_cuda *d, const yd_gpu_conv_shape *s, size_t workspace, trial *t)
{
    t->y_bytes = (size_t)s->n * s->h * s->w * s->o * sizeof(uint16_t);
    t->x_bytes = 3 * t->y_bytes;
    t->qkv = (uint16_t *)malloc(t->x_bytes);
    t->result = (uint16_t *)malloc(t->y_bytes);
    if (!t->qkv || !t->result) return YD_GPU_NO_MEMORY;
    yd_gpu_outcome o = yd_cuda_judge(d, cudaMalloc(&t->x, t->x_bytes));
    if (!o) o = yd_cuda_judge(d, cudaMalloc(&t->y, t->y_bytes));
    return o || !workspace ? o : yd_cuda_judge(d, cudaMalloc(&t->workspace, workspace));
}

static yd_gpu_outcome compute(yd_cuda *d, const yd_gpu_conv_shape *s, trial *t)
{
    yd_gpu_conv_io io = {};
    io.x = t->x, io.y = t->y, io.workspace = t->workspace;
    yd_gpu_attention_fill(t->qkv, (size_t)s->n, s->h * s->w, s->o);
    yd_gpu_outcome o = yd_cuda_judge(d, cudaMemcpyAsync(t->x, t->qkv, t->x_bytes, cudaMemcpyHostToDevice, d->stream));
    if (!o) o = yd_cuda_judge(d, cudaMemsetAsync(t->y, 0xff, t->y_bytes, d->stream)); // NaNs: what is not written shows
    if (!o) o = yd_cuda_conv_run(d, t->conv, &io, d->stream);
    if (!o) o = yd_cuda_judge(d, cudaMemcpyAsync(t->result, t->y, t->y_bytes, cudaMemcpyDeviceToHost, d->stream));
    if (o) { // what was begun ends before its memory goes; a failure of that is the same one again
        if (o != YD_GPU_LOST) (void)yd_cuda_judge(d, cudaStreamSynchronize(d->stream));
        return o;
    }
    o = yd_cuda_judge(d, cudaStreamSynchronize(d->stream));
    if (o) return o;
    return yd_gpu_attention_right(t->qkv, t->result, (size_t)s->n, s->h * s->w, s->o) ? YD_GPU_OK : YD_GPU_UNSUPPORTED;
}

yd_gpu_outcome yd_cuda_attention_try(yd_cuda *d, const yd_gpu_conv_shape *s, const yd_gpu_choice *how, size_t *workspace)
{
    trial t = {};
    yd_gpu_outcome o = yd_cuda_conv_new(d, s, how, &t.conv, workspace);
    if (!o && !d->properties) {
        o = reserve(d, s, *workspace, &t);
        if (!o) o = compute(d, s, &t);
        for (void *p : {t.x, t.y, t.workspace})
            if (p) (void)yd_cuda_judge(d, cudaFree(p));
    }
    yd_cuda_conv_free(d, t.conv);
    free(t.qkv);
    free(t.result);
    return o;
}
