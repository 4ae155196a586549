// Maps that need not be made, because whoever reads them can read what they are made of: a CONCAT that only
// normalisations and 1x1 convolutions read, an UPSAMPLE that only Winograd convolutions read.
//
// Decided before lifetimes are known: a reader of such a map keeps its sources alive. With keep_activations the map is
// made all the same, for peek(), and read by nobody. Training graphs have no views: their backward operators read the
// maps themselves.
// Read next: plan.c, conv.c.
#include "core/cpu/cpu.h"
#include "core/mem.h"

static int plain_source(const yd_exec *e, yd_tid t, yd_dtype dt)
{
    const yd_tensor *x = yd_exec_tensor(e, t);
    return (x->kind == YD_T_ACT || x->kind == YD_T_INPUT) && x->dtype == dt && e->views[t].parts == 0;
}

// Can `op` do with the sources of t instead of t?
static int reads_parts(const yd_exec *e, const yd_op *op, yd_tid t, yd_op_kind made_by)
{
    for (int k = 1; k < YD_OP_MAX_IN; k++)
        if (op->in[k] == t) return 0;
    if (op->in[0] != t) return 1;
    if (made_by == YD_OP_UPSAMPLE) return op->kind == YD_OP_CONV && !op->reflect && yd_conv_is_winograd(e, op);
    if (op->kind == YD_OP_CONV)
        return op->k == 1 && op->stride == 1 && op->pad == 0 && !yd_conv_is_ended(op) &&
               yd_compute_type(e, t) == yd_exec_tensor(e, t)->dtype;
    return op->kind == YD_OP_GNORM;
}

static int can_be_view(const yd_exec *e, const yd_op *op, int count)
{
    yd_tid t = op->out[0];
    if (t == YD_NONE || yd_exec_tensor(e, t)->kind != YD_T_ACT) return 0;
    for (int i = 0; i < count; i++)
        if (op->in[i] == YD_NONE || !plain_source(e, op->in[i], yd_exec_tensor(e, t)->dtype)) return 0;
    for (int i = 0; i < e->g->n_ops; i++)
        if (!reads_parts(e, &e->g->ops[i], t, op->kind)) return 0;
    return 1;
}

int yd_exec_find_views(yd_exec *e, yd_err *err)
{
    e->views = yd_calloc(yd_sz(e->g->n_tensors), sizeof *e->views);
    if (!e->views) return yd_fail(err, YD_E_NOMEM, "no memory for compiling the graph");
    for (int i = 0; i < e->g->n_ops && !e->training; i++) {
        const yd_op *op = &e->g->ops[i];
        int count = op->kind == YD_OP_CONCAT ? 2 : op->kind == YD_OP_UPSAMPLE ? 1 : 0;
        if (!count || !can_be_view(e, op, count)) continue;
        e->views[op->out[0]] = (yd_view){count, {op->in[0], count == 2 ? op->in[1] : YD_NONE}};
    }
    return 0;
}
