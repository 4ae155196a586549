// gpu/matmul.cu without a device: what its descriptors say to cublasLt, done by loops. See no_device.h.
//
// cublasLt is column-major: element (i, j) of a matrix lies at i + j*ld of its own, batches lie offset apart; D = alpha op(A) op(B) + beta C.
#include "gpu/matmul.cu"

extern "C" {
#include "tests/gpu/no_device.h"
}

struct matrix {
    uint64_t rows, cols;
    int64_t ld, offset;
    int32_t batch;
    uint32_t type;
    bool transposed;
};

static cublasStatus_t read_matrix(cublasLtMatrixLayout_t layout, matrix *m)
{
    size_t n;
    cublasStatus_t rc = cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_ROWS, &m->rows, sizeof m->rows, &n);
    if (!rc) rc = cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &m->cols, sizeof m->cols, &n);
    if (!rc) rc = cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_LD, &m->ld, sizeof m->ld, &n);
    if (!rc) rc = cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &m->batch, sizeof m->batch, &n);
    if (!rc) rc = cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &m->offset, sizeof m->offset, &n);
    return rc ? rc : cublasLtMatrixLayoutGetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_TYPE, &m->type, sizeof m->type, &n);
}

static cublasStatus_t read_transposed(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t name, bool *out)
{
    int32_t op = -1;
    size_t n;
    const cublasStatus_t rc = cublasLtMatmulDescGetAttribute(desc, name, &op, sizeof op, &n);
    *out = op == CUBLAS_OP_T;
    return rc;
}

static float at(const float *data, const matrix &m, int batch, uint64_t i, uint64_t j)
{
    const uint64_t row = m.transposed ? j : i, col = m.transposed ? i : j;
    return data[batch * m.offset + (int64_t)row + (int64_t)col * m.ld];
}

// 0, or what does not fit.
static const char *multiply(const yd_gpu_matmul &m, const matrix &a, const matrix &b, const matrix &c, const float *pa, const float *pb, float *pc)
{
    const uint64_t k = a.transposed ? a.rows : a.cols;
    if ((a.transposed ? a.cols : a.rows) != c.rows || (b.transposed ? b.rows : b.cols) != c.cols || (b.transposed ? b.cols : b.rows) != k)
        return "the matrices do not fit together";
    if (a.batch != c.batch || b.batch != c.batch) return "the batches differ";
    if (a.ld < (int64_t)a.rows || b.ld < (int64_t)b.rows || c.ld < (int64_t)c.rows) return "columns overlap";
    for (int batch = 0; batch < c.batch; batch++)
        for (uint64_t j = 0; j < c.cols; j++)
            for (uint64_t i = 0; i < c.rows; i++) {
                float sum = 0, *to = pc + batch * c.offset + (int64_t)i + (int64_t)j * c.ld;
                for (uint64_t l = 0; l < k; l++) sum += at(pa, a, batch, i, l) * at(pb, b, batch, l, j);
                *to = m.alpha * sum + (m.beta != 0 ? m.beta * *to : 0);
            }
    return nullptr;
}

extern "C" const char *no_device_product(const yd_gpu_matmul_shape *s, const float *a, const float *b, float *c)
{
    yd_gpu_matmul m = {};
    matrix ma = {}, mb = {}, mc = {};
    m.alpha = s->alpha;
    m.beta = s->beta;
    cublasStatus_t rc = describe(&m, s);
    if (!rc) rc = layouts(&m, s, s->batch);
    if (!rc) rc = read_matrix(m.a, &ma);
    if (!rc) rc = read_matrix(m.b, &mb);
    if (!rc) rc = read_matrix(m.c, &mc);
    if (!rc) rc = read_transposed(m.desc, CUBLASLT_MATMUL_DESC_TRANSA, &ma.transposed);
    if (!rc) rc = read_transposed(m.desc, CUBLASLT_MATMUL_DESC_TRANSB, &mb.transposed);
    const char *wrong = rc ? cublasLtGetStatusString(rc) : multiply(m, ma, mb, mc, b, a, c);
    if (!wrong && (ma.type != type_of(s->ab) || mb.type != type_of(s->ab) || mc.type != type_of(s->out))) wrong = "a type is another";
    drop_layouts(&m);
    if (m.desc) cublasLtMatmulDescDestroy(m.desc);
    return wrong;
}
