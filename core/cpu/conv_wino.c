// CONV and its gradients by Winograd's method: where it is chosen, and its kernels.
//
// The choice is a table by shape, type and instruction set, made from measurements (docs/performance.md) and never
// from a stopwatch; it decides bits, so a change of it changes YD_KERNELS_VERSION. Arithmetic is f32 for both storage
// types: on processors without bf16 matrix units it beats their bf16 dot products too. The transformed weights take
// four times the room of the f32 ones, so that small maps with many channels, which are bound by reading weights, stay
// with the direct method. In training the batch shares that reading, so smaller maps pay.
// Read next: wino.c, wino_grad.c.
#include "core/cpu/cpu.h"
#include "core/cpu/wino.h"
#include "core/mem.h"

typedef struct wino_conv {
    yd_wino p;
    int x, y, res, bias, v; // buffers; -1 where absent
    const yd_copy *u;
} wino_conv;

typedef struct wino_dw {
    yd_wino_dw p;
    int x, dy, dw, db; // buffers; -1 where absent
} wino_dw;

int yd_conv_is_winograd(const yd_exec *e, const yd_op *op)
{
    const int dw = op->kind == YD_OP_CONV_DW, training = e->training || op->kind != YD_OP_CONV;
    const yd_tid from = op->in[0], to = dw ? op->in[1] : op->out[0];
    if (!e->cpu->winograd || op->k != 3 || op->stride != 1 || op->pad != 1) return 0;
    if (from == YD_NONE || to == YD_NONE) return 0; // refused elsewhere
    const yd_tensor *x = yd_exec_tensor(e, from), *y = yd_exec_tensor(e, to);
    if (x->c < 16 || x->h < 1 || x->w < 1) return 0;
    const size_t tiles = ((yd_sz(x->h) + 3) / 4) * ((yd_sz(x->w) + 3) / 4), weights = yd_sz(x->c) * yd_sz(y->c);
    if (x->dtype == YD_BF16 && e->cpu->bf16_fast && !training)
        return tiles >= 64 || (tiles >= 16 && weights <= 512 * 256);
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
    p.v = c->v < 0 ? NULL : yd_exec_ptr(e, c->v);
    p.u = c->u->data;
    yd_wino_run(&p, e->scratch, e->cpu->threads);
    return 0;
}

// CONV, or CONV_DX: the convolution of dy with the filters turned.
int yd_make_conv_winograd(yd_exec *e, const yd_op *op, yd_err *err)
{
    const yd_tensor *y = yd_exec_tensor(e, op->out[0]);
    const int forward = op->kind == YD_OP_CONV;
    yd_tid res = forward ? op->in[3] : YD_NONE, x = op->in[0];
    int rc = res == YD_NONE ? 0 : yd_need(e, op, res, "residual", y->h, y->w, y->c, err);
    if (rc) return rc;
    yd_kernel *k = yd_exec_kernel(e, op, run_wino);
    wino_conv *c = k ? yd_calloc(1, sizeof *c) : NULL;
    if (!c) return yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for its kernel", err);
    k->state = c;
    k->family = forward ? "CONV winograd" : "CONV_DX winograd";
    k->drop = yd_free;
    const int up = e->views[x].parts == 1;
    if (up) x = e->views[x].part[0];
    c->p = (yd_wino){.n = e->n,
                     .h = y->h,
                     .w = y->w,
                     .c = yd_exec_tensor(e, x)->c,
                     .o = y->c,
                     .up = up,
                     .reflect = forward && op->reflect,
                     .act = forward ? op->act : YD_ACT_NONE,
                     .slope = op->scale,
                     .x_bf16 = yd_is_bf16(e, x),
                     .y_bf16 = yd_is_bf16(e, op->out[0]),
                     .res_bf16 = res != YD_NONE && yd_is_bf16(e, res)};
    c->x = x;
    c->y = op->out[0];
    c->res = res;
    c->bias = forward ? op->in[2] : YD_NONE;
    c->v = forward ? op->in[4] : YD_NONE;
    if (res != YD_NONE && !yd_exec_reads(e, x, res)) yd_exec_alias(e, c->y, res); // saves room only
    c->u = yd_exec_copy_winograd(e, op->in[1], forward ? YD_FORM_WINOGRAD : YD_FORM_WINOGRAD_TURNED, err);
    if (!c->u) return err ? err->code : YD_E_NOMEM;
    yd_exec_scratch(e, yd_wino_scratch(&c->p, e->cpu->threads));
    return 0;
}

static int run_dw(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    const wino_dw *c = k->state;
    yd_wino_dw p = c->p;
    p.x = yd_exec_ptr(e, c->x);
    p.dy = yd_exec_ptr(e, c->dy);
    p.dw = yd_exec_ptr(e, c->dw);
    p.db = c->db < 0 ? NULL : yd_exec_ptr(e, c->db);
    yd_wino_dw_run(&p, e->scratch, e->cpu->threads);
    return 0;
}

int yd_make_conv_dw_winograd(yd_exec *e, const yd_op *op, yd_err *err)
{
    const yd_tensor *x = yd_exec_tensor(e, op->in[0]), *dy = yd_exec_tensor(e, op->in[1]);
    yd_kernel *k = yd_exec_kernel(e, op, run_dw);
    wino_dw *c = k ? yd_calloc(1, sizeof *c) : NULL;
    if (!c) return yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for its kernel", err);
    k->state = c;
    k->family = "CONV_DW winograd";
    k->drop = yd_free;
    c->p = (yd_wino_dw){.n = e->n,
                        .h = x->h,
                        .w = x->w,
                        .c = x->c,
                        .o = dy->c,
                        .x_bf16 = yd_is_bf16(e, op->in[0]),
                        .dy_bf16 = yd_is_bf16(e, op->in[1])};
    c->x = op->in[0];
    c->dy = op->in[1];
    c->dw = op->out[0];
    c->db = op->out[1];
    yd_exec_scratch(e, yd_wino_dw_scratch(&c->p, e->cpu->threads));
    return 0;
}
