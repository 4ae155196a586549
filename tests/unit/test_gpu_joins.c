// Operators that share a launch, on a GPU that is none (tests/fake_gpu): layers that read one vector, more of them than a launch takes, with other
// readers and writers between them, against plain loops; and how many launches that makes.
#include "tests/unit/t.h"
#include "core/rng.h"
#include "gpu/gpu.h"
#include "tests/fake_gpu/fake.h"

enum { IN = 37, LAYERS = YD_GPU_LINEARS + 5, N = 3 };

typedef struct layers {
    yd_graph *g;
    yd_tid v, later, y[LAYERS], z; // z: of `later`, which a layer has made
    float *host[2 * LAYERS + 1];
    int n_host;
} layers;

static yd_tid parameter(layers *l, int rows, int columns)
{
    char name[32];
    float *p = malloc((size_t)(rows * columns) * sizeof *p);
    for (int i = 0; i < rows * columns; i++) p[i] = yd_rng_uniform(9, 0, (uint64_t)i, (uint32_t)l->n_host) - 0.5f;
    snprintf(name, sizeof name, "p%d", l->n_host);
    l->host[l->n_host++] = p;
    return columns > 1 ? yd_graph_param(l->g, name, 2, (const int[4]){rows, columns}) : yd_graph_param(l->g, name, 1, (const int[4]){rows});
}

static int rows_of(int layer)
{
    return 1 + layer * 7 % 19;
}

// Layers of one vector, every third with a bias; the second one's result goes through SiLU and a layer of its own before the third.
static void make(layers *l)
{
    yd_err err = {0};
    *l = (layers){.g = yd_graph_new()};
    l->v = yd_graph_input(l->g, "v", 1, 1, IN, YD_F32);
    for (int k = 0; k < LAYERS; k++) {
        char name[32];
        const yd_tid w = parameter(l, rows_of(k), IN), b = k % 3 ? YD_NONE : parameter(l, rows_of(k), 1);
        snprintf(name, sizeof name, "y%d", k);
        l->y[k] = yd_graph_linear(l->g, name, l->v, w, b);
        yd_graph_output(l->g, l->y[k]);
        if (k != 1) continue;
        l->later = yd_graph_silu(l->g, "later", l->y[k]);
        l->z = yd_graph_linear(l->g, "z", l->later, parameter(l, 4, rows_of(k)), YD_NONE);
        yd_graph_output(l->g, l->z);
    }
    CHECK_MSG(yd_graph_finish(l->g, &err) == 0, "%s", err.detail);
}

static double product(const float *w, const double *x, int row, int columns)
{
    double sum = 0;
    for (int i = 0; i < columns; i++) sum += (double)w[row * columns + i] * x[i];
    return sum;
}

static void check_sample(const layers *l, yd_backend *be, yd_exec *e, int s)
{
    double x[IN], hidden[32];
    for (int i = 0; i < IN; i++) x[i] = (double)be->buffer(e, l->v)[s * IN + i];
    for (int k = 0, p = 0; k < LAYERS; k++) {
        const float *w = l->host[p++], *b = k % 3 ? NULL : l->host[p++], *y = be->buffer(e, l->y[k]) + s * rows_of(k);
        for (int row = 0; row < rows_of(k); row++) {
            const double want = product(w, x, row, IN) + (b ? (double)b[row] : 0);
            CHECK_MSG(fabs((double)y[row] - want) < 1e-5, "layer %d, row %d: %g, not %g", k, row, (double)y[row], want);
            hidden[row] = want / (1 + exp(-want));
        }
        if (k != 1) continue;
        w = l->host[p++];
        for (int row = 0; row < 4; row++)
            CHECK(fabs((double)be->buffer(e, l->z)[s * 4 + row] - product(w, hidden, row, rows_of(k))) < 1e-5);
    }
}

static void layers_of_one_vector(void)
{
    layers l;
    yd_backend *be = NULL;
    yd_weights *w = NULL;
    yd_exec *e = NULL;
    yd_err err = {0};
    yd_exec_stats st;
    fake_reset();
    make(&l);
    int rc = yd_gpu_open(fake_driver(), NULL, &be, &err);
    if (!rc) rc = be->weights_new(be, l.g, (const float *const *)l.host, 0, &w, &err);
    if (!rc) rc = be->compile(be, l.g, w, N, &e, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    for (int i = 0; i < N * IN; i++) be->buffer(e, l.v)[i] = yd_rng_uniform(3, 0, (uint64_t)i, 0) - 0.5f;
    rc = be->run(e, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    for (int s = 0; s < N; s++) check_sample(&l, be, e, s);
    be->exec_stats(e, &st);
    const int outputs = LAYERS + 1, launches = 2 + 1 + 1; // two for all layers, SiLU, z's own
    CHECK_MSG(st.n_kernels == 1 + launches + outputs, "%d steps", st.n_kernels);
    be->exec_free(e);
    be->weights_free(w);
    be->close(be);
    for (int i = 0; i < l.n_host; i++) free(l.host[i]);
    yd_graph_free(l.g);
    CHECK(fake.live == 0);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {{"layers that read one vector are one launch", layers_of_one_vector}};
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
