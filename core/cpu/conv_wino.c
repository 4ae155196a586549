// CONV by Winograd's method: where it is chosen, and its kernel.
//
// The choice is a table by shape, type and instruction set, made from measurements (docs/performance.md) and never
// from a stopwatch; it decides bits, so a change of it changes YD_KERNELS_VERSION. Arithmetic is f32 for both storage
// types: on processors without bf16 matrix units it beats their bf16 dot products too. The transformed weights take
// four times the room of the f32 ones, so that small maps with many channels, which are bound by reading weights, stay
// with the direct method.
// Read next: wino.c.
#include "core/cpu/cpu.h"
#include "core/cpu/wino.h"
#include "core/mem.h"

typedef struct wino_conv {
    yd_wino p;
    int x, y, res, bias; // buffers; -1 where absent
    const yd_copy *u;
} wino_conv;

int yd_conv_is_winograd(const yd_exec *e, const yd_op *op)
{
    if (!e->cpu->winograd || e->training || op->k != 3 || op->stride != 1 || op->pad != 1) return 0;
    if (op->in[0] == YD_NONE || op->out[0] == YD_NONE) return 0; // refused elsewhere
    const yd_tensor *x = yd_exec_tensor(e, op->in[0]), *y = yd_exec_tensor(e, op->out[0]);
    if (x->c < 16 || x->h < 1 || x->w < 1) return 0;
    const size_t tiles = ((yd_sz(x->h) + 3) / 4) * ((yd_sz(x->w) + 3) / 4), weights = yd_sz(x->c) * yd_sz(y->c);
    if (x->dtype == YD_BF16 && e->cpu->bf16_fast) return tiles >= 64 || (tiles >= 16 && weights <= 512 * 256);
    return tiles >= 16 || (tiles >= 4 && weights <= 256 * 256);
}

static int run_wino(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    const wino_conv *c = k->state;
    yd_wino p = c->p;
    p.x = yd_exec_ptr(e, c->x);
    p.y = yd_exec_ptr(e, c->y);
    p.res = c->res < 0 ? NULL : yd_exec_ptr(e, c->res);
    p.bias = c->bias < 0 ? NULL : yd_exec_ptr(e, c->bias);
    p.u = c->u->data;
    yd_wino_run(&p, e->scratch, e->cpu->threads);
    return 0;
}

int yd_make_conv_winograd(yd_exec *e, const yd_op *op, yd_err *err)
{
    const yd_tensor *y = yd_exec_tensor(e, op->out[0]);
    yd_tid res = op->in[3], x = op->in[0];
    int rc = res == YD_NONE ? 0 : yd_need(e, op, res, "residual", y->h, y->w, y->c, err);
    if (rc) return rc;
    yd_kernel *k = yd_exec_kernel(e, op, run_wino);
    wino_conv *c = k ? yd_calloc(1, sizeof *c) : NULL;
    if (!c) return yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for its kernel", err);
    k->state = c;
    k->family = "CONV winograd";
    k->drop = yd_free;
    const int up = e->views[x].parts == 1;
    if (up) x = e->views[x].part[0];
    c->p = (yd_wino){.n = e->n,
                     .h = y->h,
                     .w = y->w,
                     .c = yd_exec_tensor(e, x)->c,
                     .o = y->c,
                     .up = up,
                     .x_bf16 = yd_is_bf16(e, x),
                     .y_bf16 = yd_is_bf16(e, op->out[0]),
                     .res_bf16 = res != YD_NONE && yd_is_bf16(e, res)};
    c->x = x;
    c->y = op->out[0];
    c->res = res;
    c->bias = op->in[2];
    if (res != YD_NONE && !yd_exec_reads(e, x, res)) yd_exec_alias(e, c->y, res); // saves room only
    c->u = yd_exec_copy_winograd(e, op->in[1], err);
    if (!c->u) return err ? err->code : YD_E_NOMEM;
    yd_exec_scratch(e, yd_wino_scratch(&c->p, e->cpu->threads));
    return 0;
}
