// gpu-peak: what a device does at best, on one line: TFLOP/s of its matrix units, TB/s of its memory.
//
// The first is cublasLt's bf16 product of two 8192 x 8192 matrices with f32 accumulation, on random values (products of zeros take less power and
// run faster); the second a copy of a gigabyte, read and written counted together. Each is the best of a few rounds.
//
// gpu-peak [DEVICE] [SIDE]. Prints "skipped: ..." and ends well where there is no device.
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 5, PRODUCTS = 10 };
static const size_t WORKSPACE = (size_t)32 << 20;

#define CUDA(call)                                                                                                                         \
    do {                                                                                                                                   \
        const cudaError_t status = (call);                                                                                                 \
        if (status != cudaSuccess) {                                                                                                       \
            fprintf(stderr, "gpu-peak: %s: %s\n", #call, cudaGetErrorString(status));                                                      \
            exit(1);                                                                                                                       \
        }                                                                                                                                  \
    } while (0)
#define LT(call)                                                                                                                           \
    do {                                                                                                                                   \
        const cublasStatus_t status = (call);                                                                                              \
        if (status != CUBLAS_STATUS_SUCCESS) {                                                                                             \
            fprintf(stderr, "gpu-peak: %s: cublasLt status %d\n", #call, (int)status);                                                     \
            exit(1);                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

// Values in [-1,1).
static __global__ void draw(__nv_bfloat16 *x, size_t n, uint32_t seed)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        uint32_t s = ((uint32_t)i + seed) * 747796405u + 2891336453u;
        s = ((s >> ((s >> 28) + 4u)) ^ s) * 277803737u;
        x[i] = __float2bfloat16((float)(s >> 8) * (1.0f / 8388608.0f) - 1.0f);
    }
}

static double best_seconds(int side)
{
    const size_t n = (size_t)side * (size_t)side;
    __nv_bfloat16 *a, *b, *d;
    void *workspace;
    CUDA(cudaMalloc((void **)&a, n * sizeof *a));
    CUDA(cudaMalloc((void **)&b, n * sizeof *b));
    CUDA(cudaMalloc((void **)&d, n * sizeof *d));
    CUDA(cudaMalloc(&workspace, WORKSPACE));
    draw<<<1024, 256>>>(a, n, 1);
    draw<<<1024, 256>>>(b, n, 2);
    CUDA(cudaGetLastError());

    cublasLtHandle_t lt;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t layout;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found;
    int n_found = 0;
    LT(cublasLtCreate(&lt));
    LT(cublasLtMatmulDescCreate(&op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const cublasOperation_t transposed = CUBLAS_OP_T;
    LT(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed));
    LT(cublasLtMatrixLayoutCreate(&layout, CUDA_R_16BF, (uint64_t)side, (uint64_t)side, side));
    LT(cublasLtMatmulPreferenceCreate(&preference));
    LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE, sizeof WORKSPACE));
    LT(cublasLtMatmulAlgoGetHeuristic(lt, op, layout, layout, layout, layout, preference, 1, &found, &n_found));
    if (n_found < 1) {
        fprintf(stderr, "gpu-peak: cublasLt has no such product\n");
        exit(1);
    }

    const float one = 1, zero = 0;
    double best = 1e30;
    cudaEvent_t begin, end;
    CUDA(cudaEventCreate(&begin));
    CUDA(cudaEventCreate(&end));
    for (int round = 0; round <= ROUNDS; round++) {
        float ms;
        CUDA(cudaEventRecord(begin, 0));
        for (int i = 0; i < PRODUCTS; i++)
            LT(cublasLtMatmul(lt, op, &one, a, layout, b, layout, &zero, d, layout, d, layout, &found.algo, workspace, WORKSPACE, 0));
        CUDA(cudaEventRecord(end, 0));
        CUDA(cudaEventSynchronize(end));
        CUDA(cudaEventElapsedTime(&ms, begin, end));
        if (round > 0 && ms * 1e-3 / PRODUCTS < best) best = ms * 1e-3 / PRODUCTS; // the first one warms up
    }
    return best; // the process ends soon: nothing is given back
}

static double best_copy_seconds(size_t bytes)
{
    char *from, *to;
    CUDA(cudaMalloc((void **)&from, bytes));
    CUDA(cudaMalloc((void **)&to, bytes));
    CUDA(cudaMemset(from, 1, bytes));
    cudaEvent_t begin, end;
    CUDA(cudaEventCreate(&begin));
    CUDA(cudaEventCreate(&end));
    double best = 1e30;
    for (int round = 0; round <= ROUNDS; round++) {
        float ms;
        CUDA(cudaEventRecord(begin, 0));
        for (int i = 0; i < PRODUCTS; i++) CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, 0));
        CUDA(cudaEventRecord(end, 0));
        CUDA(cudaEventSynchronize(end));
        CUDA(cudaEventElapsedTime(&ms, begin, end));
        if (round > 0 && ms * 1e-3 / PRODUCTS < best) best = ms * 1e-3 / PRODUCTS;
    }
    return best;
}

int main(int argc, char **argv)
{
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess || count < 1) {
        printf("skipped: no CUDA device (%s)\n", cudaGetErrorString(status));
        return 0;
    }
    const int device = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 0, side = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 8192;
    if (side < 16 || side > 32768 || side % 16) {
        fprintf(stderr, "gpu-peak: the side is a multiple of 16 up to 32768\n");
        return 2;
    }
    CUDA(cudaSetDevice(device));
    const size_t bytes = (size_t)1 << 30;
    const double product = 2.0 * side * side * (double)side / best_seconds(side), copy = 2.0 * (double)bytes / best_copy_seconds(bytes);
    printf("%.1f %.3f\n", product * 1e-12, copy * 1e-12);
    return 0;
}
