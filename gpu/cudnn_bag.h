// cuDNN's backend descriptors, for the files that make operation graphs of them: conv.cu, attention.cu.
#ifndef YD_GPU_CUDNN_BAG_H
#define YD_GPU_CUDNN_BAG_H

#include "gpu/cuda.h"

typedef cudnnBackendDescriptor_t desc_t;

// Descriptors that are destroyed together. The first status that is not success stays, and later calls do nothing.
struct bag {
    desc_t list[128];
    int n;
    cudnnStatus_t status;
};

static inline desc_t add(bag *b, cudnnBackendDescriptorType_t type)
{
    desc_t d = nullptr;
    if (b->status) return nullptr;
    if (b->n == (int)(sizeof b->list / sizeof *b->list)) {
        b->status = CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT;
        return nullptr;
    }
    b->status = cudnnBackendCreateDescriptor(type, &d);
    if (!b->status) b->list[b->n++] = d;
    return d;
}

static inline void empty(bag *b)
{
    while (b->n > 0) cudnnBackendDestroyDescriptor(b->list[--b->n]);
}

static inline void set(bag *b, desc_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n, const void *values)
{
    if (!b->status) b->status = cudnnBackendSetAttribute(d, name, type, n, values);
}

static inline void set_desc(bag *b, desc_t d, cudnnBackendAttributeName_t name, desc_t value)
{
    set(b, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static inline desc_t done(bag *b, desc_t d)
{
    if (!b->status) b->status = cudnnBackendFinalize(d);
    return d;
}

// A tensor of four dimensions on 16 bytes, to be finished by whoever has nothing to add.
static inline desc_t add_tensor(bag *b, int64_t id, cudnnDataType_t type, const int64_t dims[4], const int64_t strides[4])
{
    const int64_t align = 16;
    desc_t d = add(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(b, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set(b, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    set(b, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    return d;
}

static inline cudnnDataType_t type_of(yd_dtype t)
{
    return t == YD_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

// A finished graph of operations; with `dynamic`, of sizes that may differ from plan to plan.
static inline desc_t graph_of(yd_cuda *c, bag *b, desc_t *ops, int n, bool dynamic)
{
    desc_t g = add(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (dynamic) set(b, g, CUDNN_ATTR_OPERATIONGRAPH_IS_DYNAMIC_SHAPE_ENABLED, CUDNN_TYPE_BOOLEAN, 1, &dynamic);
    if (!c->properties) set(b, g, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &c->cudnn);
    set(b, g, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, ops);
    return done(b, g);
}

// --- attention.cu, of a shape of YD_GPU_ATTENTION

enum { YD_CUDA_ATTENTION_POINTERS = 5 };

// Its operation graph; with a cuDNN that has no such operation the bag's status says so.
desc_t yd_cuda_attention_graph(yd_cuda *c, bag *b, const yd_gpu_conv_shape *s);
// What a run reads and writes, by the graph's numbers. scale: what scores are multiplied by, on the host.
void yd_cuda_attention_pointers(const yd_gpu_conv_shape *s, const yd_gpu_conv_io *io, const float *scale,
                                int64_t ids[YD_CUDA_ATTENTION_POINTERS], const void *at[YD_CUDA_ATTENTION_POINTERS]);
// Let an engine compute and see whether it is right; of a card that is not there, only whether it can be prepared. UNSUPPORTED: it is not, or cannot.
yd_gpu_outcome yd_cuda_attention_try(yd_cuda *d, const yd_gpu_conv_shape *s, const yd_gpu_choice *how, size_t *workspace);

#endif
