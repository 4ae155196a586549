// The real driver: memory, streams, events and graphs by the CUDA runtime; opening and closing cuDNN and cublasLt. See driver.h.
//
// A status is judged once: what says that the context is gone is LOST; what is left of an error that is not is taken from the runtime, so
// that the next call does not tell it again. Capturing is of this thread's calls only, so that other devices' threads go on.
#include "gpu/cuda.h"

#include <cstdio>
#include <cstring>
#include <new>

static yd_gpu_outcome said(yd_cuda *d, yd_gpu_outcome o, const char *words)
{
    snprintf(d->said, sizeof d->said, "%s", words ? words : "");
    return o;
}

// After these nothing works in this context any more (the runtime's documentation of each says so).
static int is_sticky(cudaError_t s)
{
    switch (s) {
    case cudaErrorIllegalAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorDeviceUninitialized:
    case cudaErrorDevicesUnavailable:
    case cudaErrorSystemNotReady:
    case cudaErrorCudartUnloading:
    case cudaErrorUnknown:
        return 1;
    default:
        return 0;
    }
}

yd_gpu_outcome yd_cuda_judge(yd_cuda *d, cudaError_t s)
{
    if (s == cudaSuccess) return YD_GPU_OK;
    const char *words = cudaGetErrorString(s);
    if (is_sticky(s)) return said(d, YD_GPU_LOST, words);
    cudaGetLastError();
    if (cudaPeekAtLastError() != cudaSuccess) return said(d, YD_GPU_LOST, words); // it does not go away
    return said(d, s == cudaErrorMemoryAllocation ? YD_GPU_NO_MEMORY : YD_GPU_FAILED, words);
}

// A library failed: is the device still there?
static yd_gpu_outcome library_failed(yd_cuda *d, yd_gpu_outcome o, const char *words)
{
    const cudaError_t s = cudaGetLastError();
    if (is_sticky(s)) {
        snprintf(d->said, sizeof d->said, "%s (%s)", words, cudaGetErrorString(s));
        return YD_GPU_LOST;
    }
    return said(d, s == cudaErrorMemoryAllocation ? YD_GPU_NO_MEMORY : o, words);
}

yd_gpu_outcome yd_cudnn_judge(yd_cuda *d, cudnnStatus_t s)
{
    if (s == CUDNN_STATUS_SUCCESS) return YD_GPU_OK;
    char text[200] = "", words[248];
    cudnnGetLastErrorString(text, sizeof text);
    snprintf(words, sizeof words, "%s%s%.190s", cudnnGetErrorString(s), text[0] ? ": " : "", text);
    if (s == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED || s == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)
        return library_failed(d, YD_GPU_NO_MEMORY, words);
    const int category = CUDNN_STATUS_CATEGORY(s);
    return library_failed(d, category == CUDNN_STATUS_NOT_SUPPORTED ? YD_GPU_UNSUPPORTED : YD_GPU_FAILED, words);
}

yd_gpu_outcome yd_cublas_judge(yd_cuda *d, cublasStatus_t s)
{
    if (s == CUBLAS_STATUS_SUCCESS) return YD_GPU_OK;
    const char *words = cublasLtGetStatusString(s);
    if (s == CUBLAS_STATUS_ALLOC_FAILED) return library_failed(d, YD_GPU_NO_MEMORY, words);
    return library_failed(d, s == CUBLAS_STATUS_NOT_SUPPORTED || s == CUBLAS_STATUS_ARCH_MISMATCH ? YD_GPU_UNSUPPORTED : YD_GPU_FAILED, words);
}

static yd_gpu_outcome cuda_enter(yd_gpu_driver *d)
{
    return yd_cuda_judge(yd_cuda_of(d), cudaSetDevice(yd_cuda_of(d)->device));
}

static void cuda_about(const yd_gpu_driver *d, yd_gpu_about *out)
{
    *out = static_cast<const yd_cuda *>(d)->facts;
}

static const char *cuda_words(const yd_gpu_driver *d)
{
    return static_cast<const yd_cuda *>(d)->said;
}

static yd_gpu_outcome cuda_memory(yd_gpu_driver *d, size_t *free, size_t *total)
{
    return yd_cuda_judge(yd_cuda_of(d), cudaMemGetInfo(free, total));
}

static yd_gpu_outcome cuda_alloc(yd_gpu_driver *d, size_t bytes, void **out)
{
    *out = nullptr;
    return yd_cuda_judge(yd_cuda_of(d), cudaMalloc(out, bytes));
}

static void cuda_release(yd_gpu_driver *d, void *p)
{
    if (p) (void)yd_cuda_judge(yd_cuda_of(d), cudaFree(p));
}

static yd_gpu_outcome cuda_alloc_host(yd_gpu_driver *d, size_t bytes, void **out)
{
    *out = nullptr;
    const yd_gpu_outcome o = yd_cuda_judge(yd_cuda_of(d), cudaHostAlloc(out, bytes ? bytes : 1, cudaHostAllocPortable));
    if (!o) memset(*out, 0, bytes);
    return o;
}

static void cuda_release_host(yd_gpu_driver *d, void *p)
{
    if (p) (void)yd_cuda_judge(yd_cuda_of(d), cudaFreeHost(p));
}

static yd_gpu_outcome cuda_stream_new(yd_gpu_driver *base, yd_gpu_stream *out)
{
    yd_cuda *d = yd_cuda_of(base);
    *out = nullptr;
    yd_gpu_outcome o = yd_cuda_judge(d, cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking));
    if (o) return o;
    o = yd_cudnn_judge(d, cudnnSetStream(d->cudnn, d->stream));
    if (o) {
        cudaStreamDestroy(d->stream);
        d->stream = nullptr;
        return o;
    }
    *out = d->stream;
    return YD_GPU_OK;
}

static void cuda_stream_free(yd_gpu_driver *base, yd_gpu_stream s)
{
    yd_cuda *d = yd_cuda_of(base);
    (void)yd_cuda_judge(d, cudaStreamDestroy((cudaStream_t)s));
    d->stream = nullptr;
}

static yd_gpu_outcome cuda_sync(yd_gpu_driver *d, yd_gpu_stream s)
{
    return yd_cuda_judge(yd_cuda_of(d), cudaStreamSynchronize((cudaStream_t)s));
}

static yd_gpu_outcome cuda_copy(yd_gpu_driver *d, void *dst, const void *src, size_t bytes, yd_gpu_stream s)
{
    return yd_cuda_judge(yd_cuda_of(d), cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, (cudaStream_t)s));
}

static yd_gpu_outcome cuda_zero(yd_gpu_driver *d, void *dst, size_t bytes, yd_gpu_stream s)
{
    return yd_cuda_judge(yd_cuda_of(d), cudaMemsetAsync(dst, 0, bytes, (cudaStream_t)s));
}

static yd_gpu_outcome cuda_kernel(yd_gpu_driver *d, int code)
{
    return code ? yd_cuda_judge(yd_cuda_of(d), (cudaError_t)code) : YD_GPU_OK;
}

static yd_gpu_outcome cuda_event_new(yd_gpu_driver *d, yd_gpu_event *out)
{
    cudaEvent_t e = nullptr;
    const yd_gpu_outcome o = yd_cuda_judge(yd_cuda_of(d), cudaEventCreate(&e));
    *out = e;
    return o;
}

static void cuda_event_free(yd_gpu_driver *d, yd_gpu_event e)
{
    (void)yd_cuda_judge(yd_cuda_of(d), cudaEventDestroy((cudaEvent_t)e));
}

static yd_gpu_outcome cuda_event_record(yd_gpu_driver *d, yd_gpu_event e, yd_gpu_stream s)
{
    return yd_cuda_judge(yd_cuda_of(d), cudaEventRecord((cudaEvent_t)e, (cudaStream_t)s));
}

static yd_gpu_outcome cuda_event_seconds(yd_gpu_driver *d, yd_gpu_event from, yd_gpu_event to, double *out)
{
    float ms = 0;
    const yd_gpu_outcome o = yd_cuda_judge(yd_cuda_of(d), cudaEventElapsedTime(&ms, (cudaEvent_t)from, (cudaEvent_t)to));
    *out = (double)ms / 1e3;
    return o;
}

static yd_gpu_outcome cuda_capture_begin(yd_gpu_driver *d, yd_gpu_stream s)
{
    return yd_cuda_judge(yd_cuda_of(d), cudaStreamBeginCapture((cudaStream_t)s, cudaStreamCaptureModeThreadLocal));
}

static yd_gpu_outcome cuda_capture_end(yd_gpu_driver *base, yd_gpu_stream s, yd_gpu_graph *out)
{
    yd_cuda *d = yd_cuda_of(base);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    *out = nullptr;
    yd_gpu_outcome o = yd_cuda_judge(d, cudaStreamEndCapture((cudaStream_t)s, &graph));
    if (!o) o = graph ? yd_cuda_judge(d, cudaGraphInstantiate(&exec, graph, 0)) : said(d, YD_GPU_FAILED, "nothing was recorded");
    if (!o) o = yd_cuda_judge(d, cudaGraphUpload(exec, (cudaStream_t)s));
    if (o && exec) cudaGraphExecDestroy(exec);
    if (graph) cudaGraphDestroy(graph);
    if (!o) *out = exec;
    return o;
}

static yd_gpu_outcome cuda_graph_launch(yd_gpu_driver *d, yd_gpu_graph g, yd_gpu_stream s)
{
    return yd_cuda_judge(yd_cuda_of(d), cudaGraphLaunch((cudaGraphExec_t)g, (cudaStream_t)s));
}

static void cuda_graph_free(yd_gpu_driver *d, yd_gpu_graph g)
{
    if (g) (void)yd_cuda_judge(yd_cuda_of(d), cudaGraphExecDestroy((cudaGraphExec_t)g));
}

static void cuda_close(yd_gpu_driver *base)
{
    yd_cuda *d = yd_cuda_of(base);
    cudaSetDevice(d->device);
    if (d->lt) cublasLtDestroy(d->lt);
    yd_cuda_drop_kernels(d);
    if (d->cudnn) cudnnDestroy(d->cudnn);
    // A context that a sticky error has spoilt can, if at all, be used again only after it was taken down.
    if (is_sticky(cudaPeekAtLastError()) || is_sticky(cudaDeviceSynchronize())) cudaDeviceReset();
    cudaGetLastError();
    delete d;
}

static yd_gpu_outcome start(yd_cuda *d)
{
    cudaDeviceProp p;
    yd_gpu_outcome o = cuda_enter(d);
    if (!o) o = yd_cuda_judge(d, cudaGetDeviceProperties(&p, d->device));
    if (!o) o = yd_cudnn_judge(d, cudnnCreate(&d->cudnn));
    if (!o) o = yd_cublas_judge(d, cublasLtCreate(&d->lt));
    if (o) return o;
    const size_t v = cudnnGetVersion();
    snprintf(d->facts.device, sizeof d->facts.device, "%.95s", p.name);
    snprintf(d->facts.isa, sizeof d->facts.isa, "sm_%d%d", p.major, p.minor);
    snprintf(d->facts.library, sizeof d->facts.library, "cuDNN %zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
    d->facts.memory_total = p.totalGlobalMem;
    return YD_GPU_OK;
}

extern "C" int yd_gpu_cuda_driver(int device, yd_gpu_driver **out, yd_err *err)
{
    *out = nullptr;
    yd_cuda *d = new (std::nothrow) yd_cuda();
    if (!d) return yd_gpu_fail(YD_GPU_NO_MEMORY, "opening it", "no memory on the host", err);
    d->device = device;
    d->close = cuda_close;
    d->enter = cuda_enter;
    d->about = cuda_about;
    d->words = cuda_words;
    d->memory = cuda_memory;
    d->alloc = cuda_alloc;
    d->release = cuda_release;
    d->alloc_host = cuda_alloc_host;
    d->release_host = cuda_release_host;
    d->stream_new = cuda_stream_new;
    d->stream_free = cuda_stream_free;
    d->sync = cuda_sync;
    d->copy = cuda_copy;
    d->zero = cuda_zero;
    d->kernel = cuda_kernel;
    d->event_new = cuda_event_new;
    d->event_free = cuda_event_free;
    d->event_record = cuda_event_record;
    d->event_seconds = cuda_event_seconds;
    d->capture_begin = cuda_capture_begin;
    d->capture_end = cuda_capture_end;
    d->graph_launch = cuda_graph_launch;
    d->graph_free = cuda_graph_free;
    d->conv_choose = yd_cuda_conv_choose;
    d->conv_new = yd_cuda_conv_new;
    d->conv_run = yd_cuda_conv_run;
    d->conv_free = yd_cuda_conv_free;
    d->matmul_new = yd_cuda_matmul_new;
    d->matmul_run = yd_cuda_matmul_run;
    d->matmul_free = yd_cuda_matmul_free;
    const yd_gpu_outcome o = start(d);
    int rc = o ? yd_gpu_fail(o, "opening it", d->said, err) : 0;
    if (rc) cuda_close(d);
    else *out = d;
    return rc;
}
