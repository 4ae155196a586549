// A oneDNN primitive and its operands: chosen once, run many times.
//
// Reference implementations ("ref:any" and the like) are refused here, for every operator: they are hundreds of times
// slower and oneDNN falls back to them silently. The environment variable YODA_CPU_VERBOSE=1 prints what was chosen.
//
// Operands that live in the arena get their address at each run. Working copies of weights keep one memory object for
// life, because setting a handle makes oneDNN clear the padding of blocked layouts, that is, write to them.
#include "core/cpu/cpu.h"
#include "core/mem.h"
#include <stdio.h>
#include <string.h>

int yd_dnnl_check(const yd_exec *e, const yd_op *op, const char *call, dnnl_status_t s, yd_err *err)
{
    if (s == dnnl_success) return 0;
    char what[128];
    int code = s == dnnl_out_of_memory ? YD_E_NOMEM : s == dnnl_unimplemented ? YD_E_UNSUPPORTED : YD_E_DEVICE;
    snprintf(what, sizeof what, "oneDNN's %s %s (status %d)", call,
             s == dnnl_out_of_memory   ? "ran out of memory"
             : s == dnnl_unimplemented ? "has no kernel for this shape and type"
                                       : "failed",
             (int)s);
    if (op) return yd_exec_refuse(e, op, code, what, err);
    return yd_fail(err, code, "%s", what);
}

dnnl_data_type_t yd_dnnl_dtype(yd_dtype dt)
{
    return dt == YD_BF16 ? dnnl_bf16 : dnnl_f32;
}

dnnl_memory_desc_t yd_md_map(const yd_exec *e, yd_tid t, yd_dtype dt)
{
    const yd_tensor *x = yd_exec_tensor(e, t);
    dnnl_memory_desc_t md;
    memset(&md, 0, sizeof md);
    // A tag with valid positive dims cannot fail; a zero md would be refused by the primitive that gets it.
    dnnl_memory_desc_init_by_tag(&md, 4, (dnnl_dims_t){e->n, x->c, x->h, x->w}, yd_dnnl_dtype(dt), dnnl_nhwc);
    return md;
}

const char *yd_prim_impl(const yd_prim *p)
{
    const char *impl = NULL;
    dnnl_primitive_desc_query(p->desc, dnnl_query_impl_info_str, 0, &impl);
    return impl ? impl : "unknown";
}

static void announce(const yd_exec *e, const yd_op *op, const yd_prim *p)
{
    if (!e->cpu->verbose) return;
    const char *name = yd_exec_tensor(e, op->out[0])->name;
    fprintf(stderr, "%-12s n=%d %-40s %s\n", yd_op_name(op->kind), e->n, name, yd_prim_impl(p));
}

static int run_prim(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    return yd_prim_run(e, k->op, k->state, 0, err);
}

static void drop_prim(void *state)
{
    yd_prim_drop(state);
    yd_free(state);
}

yd_prim *yd_prim_kernel(yd_exec *e, const yd_op *op, yd_err *err)
{
    yd_kernel *k = yd_exec_kernel(e, op, run_prim);
    yd_prim *p = k ? yd_calloc(1, sizeof *p) : NULL;
    if (!p) {
        yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for its primitive", err);
        return NULL;
    }
    k->state = p;
    k->drop = drop_prim;
    return p;
}

int yd_prim_choose(yd_exec *e, const yd_op *op, yd_prim *p, const_dnnl_op_desc_t desc, dnnl_primitive_attr_t attr,
                   const_dnnl_primitive_desc_t hint, yd_err *err)
{
    dnnl_status_t s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (s == dnnl_success) s = dnnl_primitive_desc_create(&p->desc, desc, attr, e->cpu->engine, hint);
    int rc = yd_dnnl_check(e, op, "primitive_desc_create", s, err);
    if (rc) return rc;
    const char *impl = yd_prim_impl(p);
    if (strstr(impl, "ref")) { // "ref:any", "gemm:ref", "lrn_ref:any"
        char what[160];
        snprintf(what, sizeof what, "oneDNN offers only its reference code (%s) for this shape and type", impl);
        return yd_exec_refuse(e, op, YD_E_UNSUPPORTED, what, err);
    }
    announce(e, op, p);
    return 0;
}

int yd_prim_create(yd_exec *e, const yd_op *op, yd_prim *p, yd_err *err)
{
    int rc = yd_dnnl_check(e, op, "primitive_create", dnnl_primitive_create(&p->prim, p->desc), err);
    if (rc) return rc;
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(p->desc, dnnl_query_scratchpad_md, 0);
    size_t bytes = md ? dnnl_memory_desc_get_size(md) : 0;
    if (!bytes) return 0;
    yd_exec_scratch(e, bytes);
    return yd_prim_bind(e, op, p, DNNL_ARG_SCRATCHPAD, md, -1, err);
}

int yd_prim_reorder(yd_exec *e, const yd_op *op, yd_prim *p, const dnnl_memory_desc_t *from,
                    const dnnl_memory_desc_t *to, yd_err *err)
{
    dnnl_primitive_attr_t attr;
    int rc = yd_dnnl_check(e, op, "primitive_attr_create", dnnl_primitive_attr_create(&attr), err);
    if (rc) return rc;
    dnnl_status_t s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (s == dnnl_success)
        s = dnnl_reorder_primitive_desc_create(&p->desc, from, e->cpu->engine, to, e->cpu->engine, attr);
    dnnl_primitive_attr_destroy(attr);
    rc = yd_dnnl_check(e, op, "reorder_primitive_desc_create", s, err);
    return rc ? rc : yd_prim_create(e, op, p, err);
}

int yd_prim_bind(yd_exec *e, const yd_op *op, yd_prim *p, int arg, const dnnl_memory_desc_t *md, int buf, yd_err *err)
{
    return yd_prim_bind_at(e, op, p, arg, md, (yd_place){buf, 0, 0, 1}, err);
}

int yd_prim_bind_at(yd_exec *e, const yd_op *op, yd_prim *p, int arg, const dnnl_memory_desc_t *md, yd_place place,
                    yd_err *err)
{
    if (p->n_args == YD_PRIM_ARGS) return yd_exec_refuse(e, op, YD_E_INTERNAL, "too many operands", err);
    yd_prim_arg *a = &p->args[p->n_args];
    *a = (yd_prim_arg){.arg = arg, .place = place};
    int rc =
        yd_dnnl_check(e, op, "memory_create", dnnl_memory_create(&a->mem, md, e->cpu->engine, DNNL_MEMORY_NONE), err);
    if (!rc) p->n_args++;
    return rc;
}

void yd_prim_bind_copy(yd_prim *p, int arg, const yd_copy *c)
{
    if (p->n_args == YD_PRIM_ARGS) return; // the primitive then fails for want of an operand
    p->args[p->n_args++] = (yd_prim_arg){.arg = arg, .fixed = c->mem};
}

int yd_prim_run(yd_exec *e, const yd_op *op, const yd_prim *p, size_t index, yd_err *err)
{
    dnnl_exec_arg_t args[YD_PRIM_ARGS];
    dnnl_status_t s = dnnl_success;
    for (int i = 0; i < p->n_args && s == dnnl_success; i++) {
        const yd_prim_arg *a = &p->args[i];
        args[i] = (dnnl_exec_arg_t){a->arg, a->fixed ? a->fixed : a->mem};
        if (a->fixed) continue;
        char *base = a->place.buf < 0 ? e->scratch : yd_exec_ptr(e, a->place.buf);
        s = dnnl_memory_set_data_handle(a->mem, base + a->place.at + index / a->place.every * a->place.step);
    }
    if (s == dnnl_success) s = dnnl_primitive_execute(p->prim, e->cpu->stream, p->n_args, args);
    if (s == dnnl_success) s = dnnl_stream_wait(e->cpu->stream);
    return yd_dnnl_check(e, op, "primitive_execute", s, err);
}

void yd_prim_drop(yd_prim *p)
{
    for (int i = 0; i < p->n_args; i++)
        if (p->args[i].mem) dnnl_memory_destroy(p->args[i].mem);
    if (p->prim) dnnl_primitive_destroy(p->prim);
    if (p->desc) dnnl_primitive_desc_destroy(p->desc);
    memset(p, 0, sizeof *p);
}
