// The operator GNORM: group normalisation, with the noise-level vector added before and SiLU applied after, over NHWC
// maps. The work is gnorm_kernel.c's.
//
// Read next: gnorm_kernel.h, gnorm_bwd.c.
#include "core/cpu/cpu.h"
#include "core/cpu/gnorm_kernel.h"

static yd_gnorm_map map_of(const yd_exec *e, yd_tid t)
{
    return (yd_gnorm_map){.data = yd_exec_ptr(e, t), .c = yd_exec_tensor(e, t)->c, .bf16 = yd_is_bf16(e, t)};
}

// Addresses are NULL until the exec is planned. A concatenation that is not made is read as its two parts.
static yd_gnorm describe(const yd_exec *e, const yd_op *op)
{
    const yd_tensor *t = yd_exec_tensor(e, op->in[0]);
    const yd_view *view = &e->views[op->in[0]];
    const yd_gnorm_map none = {0};
    return (yd_gnorm){
        .src = {map_of(e, view->parts ? view->part[0] : op->in[0]), view->parts ? map_of(e, view->part[1]) : none},
        .dst = map_of(e, op->out[0]),
        .n = e->n,
        .pixels = yd_sz(t->h) * yd_sz(t->w),
        .groups = op->groups,
        .eps = op->eps,
        .act = op->act != 0,
        .v = op->in[1] == YD_NONE ? NULL : yd_exec_ptr(e, op->in[1]),
        .gamma = yd_exec_ptr(e, op->in[2]),
        .beta = yd_exec_ptr(e, op->in[3]),
        .stats = op->out[1] == YD_NONE ? NULL : yd_exec_ptr(e, op->out[1]),
    };
}

static int run_gnorm(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    yd_gnorm g = describe(e, k->op);
    yd_gnorm_run(&g, e->scratch, e->cpu->threads);
    return 0;
}

int yd_make_gnorm(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = yd_need(e, op, op->in[0], "input", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *t = yd_exec_tensor(e, op->in[0]);
    if (op->groups < 1 || t->c % op->groups)
        return yd_exec_refuse(e, op, YD_E_INVALID, "the groups do not divide the channels", err);
    int vec[4] = {t->c, 1, 1, 1};
    rc = yd_need(e, op, op->out[0], "result", t->h, t->w, t->c, err);
    if (!rc && op->in[1] != YD_NONE) rc = yd_need_f32(e, op, op->in[1], "vector", 1, 1, t->c, err);
    if (!rc) rc = yd_need_param(e, op, op->in[2], "gamma", vec, err);
    if (!rc) rc = yd_need_param(e, op, op->in[3], "beta", vec, err);
    if (!rc && op->out[1] != YD_NONE) rc = yd_need_f32(e, op, op->out[1], "statistics", 1, 1, 2 * op->groups, err);
    if (rc) return rc;
    yd_gnorm g = describe(e, op);
    const char *wrong = yd_gnorm_check(&g);
    if (wrong) return yd_exec_refuse(e, op, YD_E_INVALID, wrong, err);
    yd_exec_scratch(e, yd_gnorm_scratch(&g));
    return yd_exec_kernel(e, op, run_gnorm) ? 0 : yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for its kernel", err);
}
