// Compiling a graph: which buffers exist, when they live, where they lie; and running the compiled list.
//
// Steps of compile(), each a function here:  describe (one buffer per tensor, lifetimes from the operator list) ->
// build (each operator appends its kernels, temporaries and scratch) -> place (offsets in one arena) -> allocate.
//
// Placement is greedy by size: the largest buffer first, each at the lowest offset that is free during its whole
// life. With keep_activations every tensor lives for ever, which makes peek() possible. Staging (INPUT, OUTPUT,
// PGRAD) is outside the arena, so its addresses are stable while the exec lives.
// Read next: conv.c, gnorm.c.
#include "core/cpu/cpu.h"
#include "core/mem.h"
#include <limits.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

#define ALIGN ((size_t)256) // of arena buffers: four cache lines, keeps neighbours' tails apart

static int no_memory(yd_err *err)
{
    return yd_fail(err, YD_E_NOMEM, "no memory for compiling the graph");
}

int yd_exec_refuse(const yd_exec *e, const yd_op *op, int code, const char *what, yd_err *err)
{
    const char *name = op->out[0] == YD_NONE ? "?" : yd_exec_tensor(e, op->out[0])->name;
    return yd_fail_field(err, code, name, "", "%s '%s': %s", yd_op_name(op->kind), name, what);
}

yd_kernel *yd_exec_kernel(yd_exec *e, const yd_op *op, int (*run)(yd_exec *, const yd_kernel *, yd_err *))
{
    if (e->n_kernels == e->cap_kernels) {
        int cap = e->cap_kernels ? 2 * e->cap_kernels : 64;
        yd_kernel *p = yd_realloc(e->kernels, yd_sz(cap) * sizeof *p);
        if (!p) return NULL;
        e->kernels = p;
        e->cap_kernels = cap;
    }
    yd_kernel *k = &e->kernels[e->n_kernels++];
    *k = (yd_kernel){.op = op, .family = op ? yd_op_name(op->kind) : "input conversion", .run = run, .buf = {-1, -1}};
    return k;
}

int yd_exec_temp(yd_exec *e, size_t bytes)
{
    if (e->n_bufs == e->cap_bufs) {
        int cap = 2 * e->cap_bufs + 8;
        yd_buf *p = yd_realloc(e->bufs, yd_sz(cap) * sizeof *p);
        if (!p) return -1;
        e->bufs = p;
        e->cap_bufs = cap;
    }
    e->bufs[e->n_bufs] = (yd_buf){.bytes = bytes, .first = e->at, .last = e->at, .root = e->n_bufs};
    return e->n_bufs++;
}

int yd_exec_alias(yd_exec *e, yd_tid to, yd_tid from)
{
    int root = e->bufs[from].root;
    yd_buf *r = &e->bufs[root], *b = &e->bufs[to];
    if (e->cpu->keep || !r->bytes || r->bytes != b->bytes || yd_is_bf16(e, to) != yd_is_bf16(e, from)) return 0;
    if (r->last > e->at || b->first != e->at) return 0;
    b->root = root;
    r->last = b->last;
    return 1;
}

int yd_exec_reads(const yd_exec *e, yd_tid x, yd_tid t)
{
    const yd_view *v = &e->views[x];
    for (int k = 0; k < v->parts; k++)
        if (e->bufs[v->part[k]].root == e->bufs[t].root) return 1;
    return e->bufs[x].root == e->bufs[t].root;
}

void yd_exec_scratch(yd_exec *e, size_t bytes)
{
    if (bytes > e->scratch_bytes) e->scratch_bytes = bytes;
}

static yd_copy *add_copy(yd_exec *e, yd_tid t, yd_slice slice, yd_form form, const dnnl_memory_desc_t *md, yd_err *err)
{
    if (e->n_copies == e->cap_copies) {
        int cap = e->cap_copies ? 2 * e->cap_copies : 64;
        yd_copy **p = yd_realloc(e->copies, yd_sz(cap) * sizeof *p);
        if (!p) {
            no_memory(err);
            return NULL;
        }
        e->copies = p;
        e->cap_copies = cap;
    }
    yd_copy *c = yd_copy_get(e->w, yd_exec_tensor(e, t)->param, slice, form, md, err);
    if (c) e->copies[e->n_copies++] = c;
    return c;
}

yd_copy *yd_exec_copy(yd_exec *e, yd_tid t, yd_slice slice, const dnnl_memory_desc_t *md, yd_err *err)
{
    return add_copy(e, t, slice, YD_FORM_DNNL, md, err);
}

yd_copy *yd_exec_copy_winograd(yd_exec *e, yd_tid t, yd_form form, yd_err *err)
{
    return add_copy(e, t, (yd_slice){0, 0}, form, NULL, err);
}

// --- describe

static int check_params(const yd_exec *e, yd_err *err)
{
    if (e->g->n_params != e->w->n_params)
        return yd_fail(err, YD_E_INVALID, "the graph has %d parameters, the weights %d", e->g->n_params,
                       e->w->n_params);
    for (int i = 0; i < e->g->n_params; i++) {
        const yd_tensor *t = yd_exec_tensor(e, e->g->params[i]);
        if (yd_tensor_numel(t) != e->w->params[i].count)
            return yd_fail(err, YD_E_INVALID, "parameter '%s' has %zu elements in the graph, %zu in the weights",
                           t->name, yd_tensor_numel(t), e->w->params[i].count);
    }
    return 0;
}

static int tensor_bytes(const yd_exec *e, const yd_tensor *t, yd_dtype dt, size_t *bytes, yd_err *err)
{
    if (t->h < 1 || t->w < 1 || t->c < 1)
        return yd_fail(err, YD_E_INVALID, "tensor '%s' is %dx%dx%d", t->name, t->h, t->w, t->c);
    size_t b = yd_dtype_bytes(dt);
    if (yd_mul_size(b, yd_sz(e->n), &b) || yd_mul_size(b, yd_sz(t->h), &b) || yd_mul_size(b, yd_sz(t->w), &b) ||
        yd_mul_size(b, yd_sz(t->c), &b) || b > (size_t)PTRDIFF_MAX / 2)
        return yd_fail(err, YD_E_NOMEM, "tensor '%s' does not fit in memory for %d samples", t->name, e->n);
    *bytes = b;
    return 0;
}

static int stage(yd_exec *e, yd_tid id, size_t bytes, yd_err *err)
{
    e->staging[id] = yd_alloc_aligned(bytes);
    if (!e->staging[id])
        return yd_fail(err, YD_E_NOMEM, "no memory for '%s' (%zu bytes)", yd_exec_tensor(e, id)->name, bytes);
    e->bufs[id].ptr = e->staging[id];
    return 0;
}

static int describe_tensor(yd_exec *e, yd_tid id, yd_err *err)
{
    const yd_tensor *t = yd_exec_tensor(e, id);
    yd_buf *b = &e->bufs[id];
    *b = (yd_buf){.first = INT_MAX, .last = -1, .root = id};
    if (t->kind == YD_T_PARAM) {
        b->ptr = e->w->part[YD_W_PARAM] + e->w->params[t->param].at;
        return 0;
    }
    if (t->kind == YD_T_PGRAD) {
        e->pgrads[t->param] = id;
        return stage(e, id, yd_tensor_numel(t) * sizeof(float), err);
    }
    if (e->views[id].parts && !e->cpu->keep) return 0;
    if (t->kind == YD_T_ACT) return tensor_bytes(e, t, t->dtype, &b->bytes, err);
    size_t f32_bytes;
    int rc = tensor_bytes(e, t, YD_F32, &f32_bytes, err);
    if (!rc) rc = stage(e, id, f32_bytes, err);
    if (rc || t->dtype == YD_F32) return rc;
    if (t->kind == YD_T_OUTPUT) return yd_fail(err, YD_E_INVALID, "output '%s' is bf16; outputs are f32", t->name);
    b->first = -1; // converted from its staging before the first operator
    return tensor_bytes(e, t, YD_BF16, &b->bytes, err);
}

static int check_ids(const yd_exec *e, const yd_op *op, yd_err *err)
{
    for (int k = 0; k < YD_OP_MAX_IN; k++)
        if (op->in[k] < YD_NONE || op->in[k] >= e->g->n_tensors)
            return yd_fail(err, YD_E_INVALID, "%s reads tensor %d", yd_op_name(op->kind), op->in[k]);
    for (int k = 0; k < YD_OP_MAX_OUT; k++)
        if (op->out[k] < YD_NONE || op->out[k] >= e->g->n_tensors)
            return yd_fail(err, YD_E_INVALID, "%s writes tensor %d", yd_op_name(op->kind), op->out[k]);
    return 0;
}

// Operator i reads t, or the parts of t. 0 when that is written later.
static int note_read(yd_exec *e, yd_tid t, int i)
{
    const yd_view *v = &e->views[t];
    for (int k = 0; k < (v->parts ? v->parts : 1); k++) {
        yd_buf *b = &e->bufs[v->parts ? v->part[k] : t];
        if (b->bytes && b->first >= i) return 0;
        b->last = i;
    }
    return 1;
}

static int lifetimes(yd_exec *e, yd_err *err)
{
    for (int i = 0; i < e->g->n_ops; i++) {
        const yd_op *op = &e->g->ops[i];
        for (int k = 0; k < YD_OP_MAX_IN; k++) {
            if (op->in[k] != YD_NONE && !note_read(e, op->in[k], i))
                return yd_exec_refuse(e, op, YD_E_INVALID, "an operand is read before it is written", err);
        }
        for (int k = 0; k < YD_OP_MAX_OUT; k++) {
            if (op->out[k] == YD_NONE) continue;
            yd_buf *b = &e->bufs[op->out[k]];
            b->first = e->of_level[op->out[k]] ? -1 : i; // computed before all others
            if (b->last < i) b->last = i;
        }
    }
    for (int i = 0; i < e->g->n_tensors && e->cpu->keep; i++) e->bufs[i].last = INT_MAX;
    return 0;
}

static int describe(yd_exec *e, yd_err *err)
{
    int rc = check_params(e, err);
    size_t nt = yd_sz(e->g->n_tensors);
    e->n_bufs = e->g->n_tensors;
    e->cap_bufs = e->n_bufs + 64;
    e->bufs = yd_calloc(yd_sz(e->cap_bufs), sizeof *e->bufs);
    e->staging = yd_calloc(nt, sizeof *e->staging);
    e->pgrads = yd_calloc(yd_sz(e->g->n_params), sizeof *e->pgrads);
    if (!rc && (!e->bufs || !e->staging || !e->pgrads)) rc = no_memory(err);
    for (int i = 0; i < e->g->n_ops && !rc; i++) {
        rc = check_ids(e, &e->g->ops[i], err);
        e->training |= e->g->ops[i].kind == YD_OP_LOSS;
    }
    if (!rc) rc = yd_exec_find_views(e, err);
    if (!rc) rc = yd_levels_mark(e, err);
    if (!rc) rc = yd_levels_attach(e, err);
    if (rc) return rc;
    for (int i = 0; i < e->g->n_params; i++) e->pgrads[i] = YD_NONE;
    for (int i = 0; i < e->g->n_tensors; i++)
        if ((rc = describe_tensor(e, i, err))) return rc;
    return lifetimes(e, err);
}

// --- build

// Convert the bf16 inputs from their staging. Staging is no buffer of its own, hence no yd_make_convert.
static int run_load(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    yd_convert(e->cpu, e->staging[k->buf[0]], 0, yd_exec_ptr(e, k->buf[0]), 1, k->count);
    return 0;
}

// Append the kernels of the operators that follow from the level alone, or of the others.
static int build_operators(yd_exec *e, int of_level, yd_err *err)
{
    static int (*const make[])(yd_exec *, const yd_op *, yd_err *) = {
        [YD_OP_CONV] = yd_make_conv,
        [YD_OP_CONVT] = yd_make_convt,
        [YD_OP_GNORM] = yd_make_gnorm,
        [YD_OP_LINEAR] = yd_make_linear,
        [YD_OP_SILU] = yd_make_silu,
        [YD_OP_MISH] = yd_make_silu,
        [YD_OP_EMBED] = yd_make_embed,
        [YD_OP_CONCAT] = yd_make_concat,
        [YD_OP_ADD] = yd_make_add,
        [YD_OP_AXPY] = yd_make_axpy,
        [YD_OP_UPSAMPLE] = yd_make_upsample,
        [YD_OP_UNSHUFFLE] = yd_make_unshuffle,
        [YD_OP_SHUFFLE] = yd_make_shuffle,
        [YD_OP_ATTENTION] = yd_make_attention,
        [YD_OP_LOSS] = yd_make_loss,
        [YD_OP_CONV_DX] = yd_make_conv_dx,
        [YD_OP_CONV_DW] = yd_make_conv_dw,
        [YD_OP_GNORM_BWD] = yd_make_gnorm_bwd,
        [YD_OP_LINEAR_BWD] = yd_make_linear_bwd,
        [YD_OP_SILU_BWD] = yd_make_silu_bwd,
        [YD_OP_UPSAMPLE_BWD] = yd_make_upsample_bwd,
        [YD_OP_SPLIT] = yd_make_split,
        [YD_OP_ATTENTION_BWD] = yd_make_attention_bwd,
    };
    for (e->at = 0; e->at < e->g->n_ops; e->at++) {
        const yd_op *op = &e->g->ops[e->at];
        if (yd_levels_has(e, op) != of_level) continue;
        if ((size_t)op->kind >= sizeof make / sizeof *make || !make[op->kind])
            return yd_fail(err, YD_E_UNSUPPORTED, "the CPU backend has no operator %d", (int)op->kind);
        if (op->out[0] != YD_NONE && e->views[op->out[0]].parts && !e->cpu->keep) continue; // nobody reads its result
        int rc = make[op->kind](e, op, err);
        if (rc) return rc;
    }
    return 0;
}

static int build(yd_exec *e, yd_err *err)
{
    int rc = build_operators(e, 1, err);
    if (rc) return rc;
    e->n_level_kernels = e->n_kernels;
    for (int i = 0; i < e->g->n_tensors; i++) {
        const yd_tensor *t = yd_exec_tensor(e, i);
        if (t->kind != YD_T_INPUT || t->dtype != YD_BF16) continue;
        yd_kernel *k = yd_exec_kernel(e, NULL, run_load);
        if (!k) return no_memory(err);
        k->buf[0] = i;
        k->count = yd_tensor_numel(t) * yd_sz(e->n);
    }
    return build_operators(e, 0, err);
}

// --- place

static int overlaps(const yd_buf *a, const yd_buf *b)
{
    return a->first <= b->last && b->first <= a->last;
}

// The lowest offset where `b` fits beside the buffers placed before it (order[0..placed)), which are kept sorted by
// offset.
static size_t lowest_fit(const yd_exec *e, const int *order, int placed, const yd_buf *b)
{
    size_t at = 0;
    for (int i = 0; i < placed; i++) {
        const yd_buf *o = &e->bufs[order[i]];
        if (!overlaps(o, b)) continue;
        if (o->offset >= at + b->bytes) break;
        size_t end = o->offset + o->bytes;
        if (end > at) at = end;
    }
    return at;
}

static void insert_by_offset(const yd_exec *e, int *order, int placed, int buf)
{
    int i = placed;
    for (; i > 0 && e->bufs[order[i - 1]].offset > e->bufs[buf].offset; i--) order[i] = order[i - 1];
    order[i] = buf;
}

// Sort buffer numbers by size, largest first, ties by number: Shell sort, for a few thousand entries.
static void sort_by_size(const yd_exec *e, int *ids, int n)
{
    for (int gap = n / 2; gap > 0; gap /= 2)
        for (int i = gap; i < n; i++) {
            int x = ids[i], j = i;
            for (; j >= gap; j -= gap) {
                int y = ids[j - gap];
                size_t bx = e->bufs[x].bytes, by = e->bufs[y].bytes;
                if (by > bx || (by == bx && y < x)) break;
                ids[j] = y;
            }
            ids[j] = x;
        }
}

static int place(yd_exec *e, yd_err *err)
{
    int *ids = yd_calloc(2 * yd_sz(e->n_bufs), sizeof *ids), n = 0;
    if (!ids) return no_memory(err);
    int *order = ids + e->n_bufs;
    for (int i = 0; i < e->n_bufs; i++) {
        yd_buf *b = &e->bufs[i];
        if (!b->bytes || b->root != i || b->first == INT_MAX) continue;
        b->bytes = (b->bytes + ALIGN - 1) / ALIGN * ALIGN;
        ids[n++] = i;
    }
    sort_by_size(e, ids, n);
    for (int i = 0; i < n; i++) {
        yd_buf *b = &e->bufs[ids[i]];
        b->offset = lowest_fit(e, order, i, b);
        insert_by_offset(e, order, i, ids[i]);
        if (b->offset + b->bytes > e->arena_bytes) e->arena_bytes = b->offset + b->bytes;
    }
    yd_free(ids);
    return 0;
}

static int allocate(yd_exec *e, yd_err *err)
{
    e->arena = yd_alloc_aligned(e->arena_bytes);
    e->scratch = yd_alloc_aligned(e->scratch_bytes);
    if (!e->arena || !e->scratch)
        return yd_fail(err, YD_E_NOMEM, "no memory for the activations of %d samples (%zu bytes)", e->n,
                       e->arena_bytes + e->scratch_bytes);
    for (int i = 0; i < e->n_bufs; i++) // a tensor that nobody writes has no place
        if (e->bufs[i].bytes && e->bufs[i].first != INT_MAX)
            e->bufs[i].ptr = e->arena + e->bufs[e->bufs[i].root].offset;
    return 0;
}

// --- entries of the backend's table

int yd_cpu_compile(yd_backend *be, const yd_graph *g, yd_weights *w, int n, yd_exec **out, yd_err *err)
{
    *out = NULL;
    if (n < 1) return yd_fail(err, YD_E_INVALID, "a batch of %d samples; at least 1 is needed", n);
    yd_exec *e = yd_calloc(1, sizeof *e);
    if (!e) return no_memory(err);
    e->cpu = (yd_cpu *)be;
    e->g = g;
    e->w = w;
    e->n = n;
    omp_set_num_threads(e->cpu->threads);
    int rc = describe(e, err);
    if (!rc) rc = build(e, err);
    if (!rc) rc = place(e, err);
    if (!rc) rc = allocate(e, err);
    if (rc) {
        yd_cpu_exec_free(e);
        return rc;
    }
    *out = e;
    return 0;
}

void yd_cpu_exec_free(yd_exec *e)
{
    if (!e) return;
    if (e->cpu->profile == 2) yd_profile_print(e);
    for (int i = 0; i < e->n_kernels; i++)
        if (e->kernels[i].drop) e->kernels[i].drop(e->kernels[i].state);
    for (int i = 0; i < e->n_copies; i++) yd_copy_put(e->w, e->copies[i]);
    for (int i = 0; e->staging && i < e->g->n_tensors; i++) yd_free_aligned(e->staging[i]);
    yd_free_aligned(e->arena);
    yd_free_aligned(e->scratch);
    yd_free(e->kernels);
    yd_free(e->copies);
    yd_free(e->staging);
    yd_free(e->pgrads);
    yd_free(e->views);
    yd_free(e->of_level);
    yd_free(e->bufs);
    yd_free(e);
}

void yd_cpu_exec_stats(const yd_exec *e, yd_exec_stats *out)
{
    *out = (yd_exec_stats){.arena_bytes = e->arena_bytes,
                           .scratch_bytes = e->scratch_bytes,
                           .n_kernels = e->n_kernels,
                           .flops = yd_graph_flops(e->g) * e->n};
    memcpy(out->profile, e->profile, sizeof out->profile);
    for (int i = 0; i < e->n_copies; i++) out->weight_bytes += e->copies[i]->bytes;
}

float *yd_cpu_buffer(yd_exec *e, yd_tid t)
{
    return t >= 0 && t < e->g->n_tensors ? e->staging[t] : NULL;
}

static int run_kernel(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    return e->cpu->profile ? yd_run_profiled(e, k, err) : k->run(e, k, err);
}

int yd_cpu_run(yd_exec *e, yd_err *err)
{
    omp_set_num_threads(e->cpu->threads);
    for (int i = 0; i < e->n_copies; i++) {
        int rc = yd_copy_refresh(e->w, e->copies[i], err);
        if (rc) return rc;
    }
    int known = yd_levels_recall(e);
    for (int i = known ? e->n_level_kernels : 0; i < e->n_kernels; i++) {
        if (!known && i == e->n_level_kernels) yd_levels_keep(e);
        int rc = run_kernel(e, &e->kernels[i], err);
        if (rc) return rc;
    }
    return 0;
}

int yd_cpu_peek(yd_exec *e, yd_tid t, float *dst, yd_err *err)
{
    if (!e->cpu->keep)
        return yd_fail(err, YD_E_UNSUPPORTED,
                       "tensors can be looked at only when the backend was opened with keep_activations");
    if (t < 0 || t >= e->g->n_tensors || yd_exec_tensor(e, t)->kind != YD_T_ACT || !e->bufs[t].ptr)
        return yd_fail(err, YD_E_INVALID, "tensor %d is not a computed tensor of this graph", t);
    yd_convert(e->cpu, yd_exec_ptr(e, t), yd_is_bf16(e, t), dst, 0,
               yd_tensor_numel(yd_exec_tensor(e, t)) * yd_sz(e->n));
    return 0;
}
