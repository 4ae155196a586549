// Matrix products by cublasLt. Ours are row-major, its are column-major: c^T = op(b)^T op(a)^T, so operands change places and nothing is moved.
//
// A kernel is taken from cublasLt's own ranking, which the shape decides; pinned, from the ranking for one matrix, and used for a batch only if it
// says that it can. Workspaces are given by the caller, so that nothing is allocated when it runs.
#include "gpu/cuda.h"

#include <new>

#define MAX_WORKSPACE ((size_t)32 << 20)

struct yd_gpu_matmul {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c; // as cublasLt sees them: our b, our a, c
    cublasLtMatmulAlgo_t algo;
    size_t workspace;
    float alpha, beta;
};

static cudaDataType_t type_of(yd_dtype t)
{
    return t == YD_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static cublasStatus_t layout(cublasLtMatrixLayout_t *out, yd_dtype type, int rows, int cols, long ld, int batch, long step)
{
    cublasStatus_t s = cublasLtMatrixLayoutCreate(out, type_of(type), (uint64_t)rows, (uint64_t)cols, ld);
    const int32_t count = batch;
    const int64_t offset = step;
    if (!s) s = cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
    if (!s) s = cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &offset, sizeof offset);
    return s;
}

static cublasStatus_t layouts(yd_gpu_matmul *m, const yd_gpu_matmul_shape *s, int batch)
{
    cublasStatus_t rc = layout(&m->a, s->ab, s->trans_b ? s->k : s->n, s->trans_b ? s->n : s->k, s->ldb, batch, s->step_b);
    if (!rc) rc = layout(&m->b, s->ab, s->trans_a ? s->m : s->k, s->trans_a ? s->k : s->m, s->lda, batch, s->step_a);
    if (!rc) rc = layout(&m->c, s->out, s->n, s->m, s->ldc, batch, s->step_c);
    return rc;
}

static void drop_layouts(yd_gpu_matmul *m)
{
    if (m->a) cublasLtMatrixLayoutDestroy(m->a);
    if (m->b) cublasLtMatrixLayoutDestroy(m->b);
    if (m->c) cublasLtMatrixLayoutDestroy(m->c);
    m->a = m->b = m->c = nullptr;
}

static cublasStatus_t describe(yd_gpu_matmul *m, const yd_gpu_matmul_shape *s)
{
    const cublasComputeType_t compute = s->ab == YD_F32 && s->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    const cublasOperation_t ta = s->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N, tb = s->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasStatus_t rc = cublasLtMatmulDescCreate(&m->desc, compute, CUDA_R_32F);
    if (!rc) rc = cublasLtMatmulDescSetAttribute(m->desc, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta);
    if (!rc) rc = cublasLtMatmulDescSetAttribute(m->desc, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb);
    return rc;
}

static cublasStatus_t best(yd_cuda *d, yd_gpu_matmul *m, const yd_gpu_matmul_shape *s)
{
    cublasLtMatmulPreference_t want = nullptr;
    cublasLtMatmulHeuristicResult_t found = {};
    const uint64_t workspace = MAX_WORKSPACE;
    const uint32_t align = (uint32_t)s->align;
    int n = 0;
    cublasStatus_t rc = cublasLtMatmulPreferenceCreate(&want);
    if (!rc) rc = cublasLtMatmulPreferenceSetAttribute(want, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    static const cublasLtMatmulPreferenceAttributes_t aligned[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    for (int i = 0; i < 4 && !rc; i++) rc = cublasLtMatmulPreferenceSetAttribute(want, aligned[i], &align, sizeof align);
    if (!rc) rc = cublasLtMatmulAlgoGetHeuristic(d->lt, m->desc, m->a, m->b, m->c, m->c, want, 1, &found, &n);
    if (!rc) rc = n < 1 ? CUBLAS_STATUS_NOT_SUPPORTED : found.state;
    if (want) cublasLtMatmulPreferenceDestroy(want);
    m->algo = found.algo;
    m->workspace = found.workspaceSize;
    return rc;
}

// The kernel that was chosen for one matrix, for a batch.
static cublasStatus_t widen(yd_cuda *d, yd_gpu_matmul *m, const yd_gpu_matmul_shape *s)
{
    cublasLtMatmulHeuristicResult_t found = {};
    drop_layouts(m);
    cublasStatus_t rc = layouts(m, s, s->batch);
    if (!rc) rc = cublasLtMatmulAlgoCheck(d->lt, m->desc, m->a, m->b, m->c, m->c, &m->algo, &found);
    if (!rc) rc = found.state;
    if (!rc && found.workspaceSize > MAX_WORKSPACE) rc = CUBLAS_STATUS_NOT_SUPPORTED;
    m->workspace = found.workspaceSize;
    return rc == CUBLAS_STATUS_INVALID_VALUE ? CUBLAS_STATUS_NOT_SUPPORTED : rc;
}

yd_gpu_outcome yd_cuda_matmul_new(yd_gpu_driver *base, const yd_gpu_matmul_shape *s, yd_gpu_matmul **out, size_t *workspace)
{
    yd_cuda *d = yd_cuda_of(base);
    *out = nullptr;
    *workspace = 0;
    yd_gpu_matmul *m = new (std::nothrow) yd_gpu_matmul();
    if (!m) return YD_GPU_NO_MEMORY;
    m->alpha = s->alpha;
    m->beta = s->beta;
    cublasStatus_t rc = describe(m, s);
    if (!rc) rc = layouts(m, s, s->pinned ? 1 : s->batch);
    if (!rc) rc = best(d, m, s);
    if (!rc && s->pinned && s->batch > 1) rc = widen(d, m, s);
    if (rc) {
        const yd_gpu_outcome o = yd_cublas_judge(d, rc);
        yd_cuda_matmul_free(base, m);
        return o;
    }
    *out = m;
    *workspace = m->workspace;
    return YD_GPU_OK;
}

yd_gpu_outcome yd_cuda_matmul_run(yd_gpu_driver *base, yd_gpu_matmul *m, const void *a, const void *b, void *c, void *workspace, yd_gpu_stream s)
{
    yd_cuda *d = yd_cuda_of(base);
    return yd_cublas_judge(d, cublasLtMatmul(d->lt, m->desc, &m->alpha, b, m->a, a, m->b, &m->beta, c, m->c, c, m->c, &m->algo, workspace,
                                             m->workspace, (cudaStream_t)s));
}

void yd_cuda_matmul_free(yd_gpu_driver *base, yd_gpu_matmul *m)
{
    (void)base;
    if (!m) return;
    drop_layouts(m);
    if (m->desc) cublasLtMatmulDescDestroy(m->desc);
    delete m;
}
