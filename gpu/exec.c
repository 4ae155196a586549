// Compiling a graph for the GPU and running it.
//
// compile(): describe (a buffer per tensor, lives from the operator list) -> build (inputs' loading, each operator's steps, outputs' storing) ->
// place (offsets in one block) -> allocate -> warm up (one run with zeros as inputs: libraries load their kernels) -> capture (the second run is
// recorded as a CUDA graph). From then on run() copies packed weights that are behind, replays the graph and waits for it: nothing is allocated,
// planned or compiled. Staging is pinned and outside the block; its addresses, too, are stable while the exec lives.
//
// Maps have their channels padded with zeros to a multiple of 8, which convolutions want; vectors (1 x 1 pixels), inputs and parameters have not.
// With keep_activations every buffer lives for ever, which makes peek() possible.
// Read next: ops_conv.c.
#include "core/mem.h"
#include "gpu/canvas.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

static int no_memory(yd_err *err)
{
    return yd_fail(err, YD_E_NOMEM, "no memory for compiling the graph");
}

int yd_gpu_refuse(const yd_exec *e, const yd_op *op, int code, const char *what, yd_err *err)
{
    const char *name = op->out[0] == YD_NONE ? "?" : yd_gpu_tensor(e, op->out[0])->name;
    return yd_fail_field(err, code, name, "", "%s '%s': %s", yd_op_name(op->kind), name, what);
}

int yd_gpu_need(const yd_exec *e, const yd_op *op, yd_tid t, const char *role, int h, int w, int c, yd_err *err)
{
    char what[160];
    if (t == YD_NONE) {
        snprintf(what, sizeof what, "it has no %s", role);
        return yd_gpu_refuse(e, op, YD_E_INVALID, what, err);
    }
    const yd_tensor *x = yd_gpu_tensor(e, t);
    if ((!h || x->h == h) && (!w || x->w == w) && (!c || x->c == c)) return 0;
    snprintf(what, sizeof what, "its %s is %dx%dx%d and should be %dx%dx%d (0: any)", role, x->h, x->w, x->c, h, w, c);
    return yd_gpu_refuse(e, op, YD_E_INVALID, what, err);
}

int yd_gpu_launched(yd_exec *e, const yd_gpu_step *s, int code, yd_err *err)
{
    char doing[176];
    const yd_gpu_outcome o = e->gpu->d->kernel(e->gpu->d, code);
    if (o == YD_GPU_OK) return 0;
    const char *name = s->op && s->op->out[0] != YD_NONE ? yd_gpu_tensor(e, s->op->out[0])->name : "";
    snprintf(doing, sizeof doing, "%s '%.110s'", s->family, name);
    return yd_gpu_check(e->gpu, o, doing, err);
}

yd_gpu_step *yd_gpu_step_new(yd_exec *e, const yd_op *op, int (*run)(yd_exec *, yd_gpu_step *, yd_err *), yd_err *err)
{
    if (e->n_steps == e->cap_steps) {
        const int cap = e->cap_steps ? 2 * e->cap_steps : 64;
        yd_gpu_step *p = yd_realloc(e->steps, yd_sz(cap) * sizeof *p);
        if (!p) {
            no_memory(err);
            return NULL;
        }
        e->steps = p;
        e->cap_steps = cap;
    }
    yd_gpu_step *s = &e->steps[e->n_steps++];
    *s = (yd_gpu_step){.op = op, .family = op ? yd_op_name(op->kind) : "inputs and outputs", .run = run};
    for (int i = 0; i < YD_GPU_ROLES; i++) s->buf[i] = -1;
    return s;
}

void yd_gpu_scratch(yd_exec *e, size_t bytes)
{
    if (bytes > e->scratch_bytes) e->scratch_bytes = bytes;
}

// Bytes of all samples of a map; 0 with *err filled when that is too much.
static size_t map_bytes(const yd_exec *e, const yd_gpu_map *m, const char *name, yd_err *err)
{
    size_t b = yd_dtype_bytes(m->dtype);
    if (m->h < 1 || m->w < 1 || m->c < 1) {
        yd_fail(err, YD_E_INVALID, "tensor '%s' is %dx%dx%d", name, m->h, m->w, m->c);
        return 0;
    }
    if (yd_mul_size(b, yd_sz(e->n), &b) || yd_mul_size(b, yd_sz(m->h), &b) || yd_mul_size(b, yd_sz(m->w), &b) ||
        yd_mul_size(b, yd_sz(m->pitch), &b) || b > (size_t)PTRDIFF_MAX / 2) {
        yd_fail(err, YD_E_NOMEM, "tensor '%s' does not fit in memory for %d samples", name, e->n);
        return 0;
    }
    return b;
}

static int new_buffer(yd_exec *e, const yd_gpu_map *map, int first, int last, yd_err *err)
{
    const size_t bytes = map_bytes(e, map, "temporary", err);
    if (!bytes) return -1;
    if (e->n_bufs == e->cap_bufs) {
        const int cap = 2 * e->cap_bufs + 8;
        yd_gpu_buf *p = yd_realloc(e->bufs, yd_sz(cap) * sizeof *p);
        if (!p) {
            no_memory(err);
            return -1;
        }
        e->bufs = p;
        e->cap_bufs = cap;
    }
    e->bufs[e->n_bufs] = (yd_gpu_buf){.item = {.bytes = bytes, .first = first, .last = last}, .map = *map};
    return e->n_bufs++;
}

int yd_gpu_temp(yd_exec *e, yd_dtype dtype, int h, int w, int c, int pitch, yd_err *err)
{
    const yd_gpu_map m = {NULL, dtype, h, w, c, pitch, pitch};
    return new_buffer(e, &m, e->at, e->at, err);
}

// --- describe

static int check_params(const yd_exec *e, yd_err *err)
{
    if (e->g->n_params != e->w->n_params)
        return yd_fail(err, YD_E_INVALID, "the graph has %d parameters, the weights %d", e->g->n_params,
                       e->w->n_params);
    for (int i = 0; i < e->g->n_params; i++) {
        const yd_tensor *t = yd_gpu_tensor(e, e->g->params[i]);
        if (yd_tensor_numel(t) != e->w->params[i].count)
            return yd_fail(err, YD_E_INVALID, "parameter '%s' has %zu elements in the graph, %zu in the weights",
                           t->name, yd_tensor_numel(t), e->w->params[i].count);
    }
    return 0;
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

static int pin_staging(yd_exec *e, yd_tid id, yd_err *err)
{
    const yd_tensor *t = yd_gpu_tensor(e, id);
    const yd_gpu_map plain = yd_gpu_map_of(NULL, YD_F32, t->h, t->w, t->c);
    const size_t bytes = map_bytes(e, &plain, t->name, err);
    void *p = NULL;
    if (!bytes) return yd_gpu_code(err);
    int rc =
        yd_gpu_check(e->gpu, e->gpu->d->alloc_host(e->gpu->d, bytes, &p), "pinning memory for inputs and outputs", err);
    e->staging[id] = p;
    return rc;
}

static int describe_tensor(yd_exec *e, yd_tid id, yd_err *err)
{
    const yd_tensor *t = yd_gpu_tensor(e, id);
    yd_gpu_buf *b = &e->bufs[id];
    *b = (yd_gpu_buf){.item = {.first = INT_MAX, .last = -1}};
    if (t->kind == YD_T_PARAM) {
        b->map = yd_gpu_map_of(e->w->part[YD_W_PARAM] + e->w->params[t->param].at, YD_F32, 1, 1, 1);
        return 0;
    }
    if (t->kind == YD_T_PGRAD) {
        b->map = yd_gpu_map_of(NULL, YD_F32, 1, 1, (int)yd_tensor_numel(t));
        b->item.bytes = yd_tensor_numel(t) * sizeof(float);
        e->pgrads[t->param] = id;
        return 0;
    }
    const int unpadded = t->kind == YD_T_INPUT || (t->h == 1 && t->w == 1);
    b->map = yd_gpu_map_of(NULL, t->dtype, t->h, t->w, t->c);
    if (!unpadded) b->map.pitch = b->map.padded = yd_round8(t->c);
    b->item.bytes = map_bytes(e, &b->map, t->name, err);
    if (!b->item.bytes) return yd_gpu_code(err);
    if (t->kind == YD_T_OUTPUT && t->dtype != YD_F32)
        return yd_fail(err, YD_E_INVALID, "output '%s' is bf16; outputs are f32", t->name);
    return t->kind == YD_T_ACT ? 0 : pin_staging(e, id, err);
}

static int lifetimes(yd_exec *e, yd_err *err)
{
    for (int i = 0; i < e->g->n_tensors; i++)
        if (yd_gpu_tensor(e, i)->kind == YD_T_INPUT) e->bufs[i].item.first = -1;
    for (int i = 0; i < e->g->n_ops; i++) {
        const yd_op *op = &e->g->ops[i];
        for (int k = 0; k < YD_OP_MAX_IN; k++) {
            if (op->in[k] == YD_NONE) continue;
            yd_gpu_item *b = &e->bufs[op->in[k]].item;
            if (b->bytes && b->first >= i)
                return yd_gpu_refuse(e, op, YD_E_INVALID, "an operand is read before it is written", err);
            b->last = i;
        }
        for (int k = 0; k < YD_OP_MAX_OUT; k++) {
            if (op->out[k] == YD_NONE) continue;
            yd_gpu_item *b = &e->bufs[op->out[k]].item;
            b->first = i;
            if (b->last < i) b->last = i;
        }
    }
    for (int i = 0; i < e->g->n_tensors; i++) {
        yd_gpu_item *b = &e->bufs[i].item;
        if (yd_gpu_tensor(e, i)->kind == YD_T_OUTPUT) b->last = e->g->n_ops;
        if (yd_gpu_tensor(e, i)->kind == YD_T_PGRAD) b->last = INT_MAX; // read when the run is over
        if (b->first == INT_MAX) b->bytes = 0;                          // nobody writes it
    }
    return 0;
}

static int describe(yd_exec *e, yd_err *err)
{
    const size_t nt = yd_sz(e->g->n_tensors) + 1;
    int rc = check_params(e, err);
    e->n_bufs = e->g->n_tensors;
    e->cap_bufs = e->n_bufs + 64;
    e->bufs = yd_calloc(yd_sz(e->cap_bufs), sizeof *e->bufs);
    e->staging = yd_calloc(nt, sizeof *e->staging);
    e->pgrads = yd_calloc(yd_sz(e->g->n_params) + 1, sizeof *e->pgrads);
    e->with = yd_calloc(yd_sz(e->g->n_ops) + 1, sizeof *e->with);
    if (!rc && (!e->bufs || !e->staging || !e->pgrads || !e->with)) rc = no_memory(err);
    for (int i = 0; i < e->g->n_ops && !rc; i++) {
        e->with[i] = i;
        rc = check_ids(e, &e->g->ops[i], err);
        e->training |= e->g->ops[i].kind == YD_OP_LOSS;
    }
    if (rc) return rc;
    for (int i = 0; i < e->g->n_params; i++) e->pgrads[i] = YD_NONE;
    for (int i = 0; i < e->g->n_tensors; i++)
        if ((rc = describe_tensor(e, i, err))) return rc;
    return lifetimes(e, err);
}

// --- build

// buf[0]: the f32 buffer without padding; buf[1]: the tensor.
static int run_load(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    yd_gpu *g = e->gpu;
    const yd_gpu_buf *raw = &e->bufs[s->buf[0]];
    int rc = yd_gpu_check(g, g->d->copy(g->d, raw->map.data, e->staging[s->buf[1]], raw->item.bytes, g->stream),
                          "copying the inputs", err);
    if (rc || s->buf[0] == s->buf[1]) return rc;
    return yd_gpu_launched(e, s, yd_gpu_copy(&raw->map, &e->bufs[s->buf[1]].map, e->n, g->stream), err);
}

static int run_store(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    yd_gpu *g = e->gpu;
    const yd_gpu_buf *raw = &e->bufs[s->buf[0]];
    int rc = 0;
    if (s->buf[0] != s->buf[1])
        rc = yd_gpu_launched(e, s, yd_gpu_copy(&e->bufs[s->buf[1]].map, &raw->map, e->n, g->stream), err);
    if (rc) return rc;
    return yd_gpu_check(g, g->d->copy(g->d, e->staging[s->buf[1]], raw->map.data, raw->item.bytes, g->stream),
                        "copying the outputs", err);
}

// A tensor's f32 buffer without padding: itself, or one that lives at the beginning or end of the run.
static int plain_buffer(yd_exec *e, yd_tid t, int at, yd_err *err)
{
    const yd_gpu_map *m = &e->bufs[t].map;
    if (m->dtype == YD_F32 && m->pitch == m->c) return t;
    const yd_gpu_map plain = yd_gpu_map_of(NULL, YD_F32, m->h, m->w, m->c);
    return new_buffer(e, &plain, at, at, err);
}

static int build_ends(yd_exec *e, yd_tensor_kind kind, int at, int (*run)(yd_exec *, yd_gpu_step *, yd_err *),
                      yd_err *err)
{
    for (int i = 0; i < e->g->n_tensors; i++) {
        if (yd_gpu_tensor(e, i)->kind != kind || !e->bufs[i].item.bytes) continue;
        const int raw = plain_buffer(e, i, at, err);
        yd_gpu_step *s = raw < 0 ? NULL : yd_gpu_step_new(e, NULL, run, err);
        if (!s) return yd_gpu_code(err);
        s->buf[0] = raw;
        s->buf[1] = i;
    }
    return 0;
}

static int build_operator(yd_exec *e, const yd_op *op, yd_err *err)
{
    switch (op->kind) {
    case YD_OP_CONV:
        return yd_gpu_make_conv(e, op, err);
    case YD_OP_CONVT:
        return yd_gpu_make_convt(e, op, err);
    case YD_OP_CONV_DX:
        return yd_gpu_make_conv_dx(e, op, err);
    case YD_OP_CONV_DW:
        return yd_gpu_make_conv_dw(e, op, err);
    case YD_OP_ATTENTION:
        return yd_gpu_make_attention(e, op, err);
    case YD_OP_ATTENTION_BWD:
        return yd_gpu_make_attention_bwd(e, op, err);
    default:
        return yd_gpu_make_simple(e, op, err);
    }
}

static int build(yd_exec *e, yd_err *err)
{
    int rc = build_ends(e, YD_T_INPUT, -1, run_load, err);
    e->ops_from = e->n_steps;
    for (e->at = 0; e->at < e->g->n_ops && !rc; e->at++)
        if (e->with[e->at] == e->at) rc = build_operator(e, &e->g->ops[e->at], err);
    e->ops_to = e->n_steps;
    return rc ? rc : build_ends(e, YD_T_OUTPUT, e->g->n_ops, run_store, err);
}

// --- place, allocate

static int place(yd_exec *e, yd_err *err)
{
    yd_gpu *g = e->gpu;
    yd_gpu_item *items = yd_calloc(yd_sz(e->n_bufs) + 1, sizeof *items);
    if (!items) return no_memory(err);
    for (int i = 0; i < e->n_bufs; i++) {
        items[i] = e->bufs[i].item;
        if (g->opt.keep_activations) items[i].first = INT_MIN, items[i].last = INT_MAX;
    }
    const size_t held = g->weights + g->arena + g->scratch, left = g->budget > held ? g->budget - held : 0;
    size_t total = 0;
    int rc = yd_gpu_arena_place(items, e->n_bufs, left, &total, err);
    for (int i = 0; i < e->n_bufs; i++) e->bufs[i].item.offset = items[i].offset;
    yd_free(items);
    void *arena = NULL, *scratch = NULL;
    if (!rc) rc = yd_gpu_take(g, &g->arena, total, "the activations", &arena, err);
    e->arena = arena;
    e->arena_bytes = arena ? total : 0;
    if (!rc) rc = yd_gpu_take(g, &g->scratch, e->scratch_bytes, "the kernels' workspace", &scratch, err);
    e->scratch = scratch;
    for (int i = 0; i < e->n_bufs && !rc; i++)
        if (e->bufs[i].item.bytes) e->bufs[i].map.data = e->arena + e->bufs[i].item.offset;
    // What lies between a vector's or an input's channels is never read; what pads a map is written by whoever writes the map. Zero to begin with,
    // so that the warm-up computes with numbers.
    if (!rc && arena) rc = yd_gpu_check(g, g->d->zero(g->d, arena, total, g->stream), "clearing the activations", err);
    return rc;
}

// --- running

static int family_line(yd_exec *e, const char *family)
{
    const int n = (int)(sizeof e->profile / sizeof *e->profile);
    for (int i = 0; i < n; i++) {
        if (!e->profile[i].family) e->profile[i].family = family;
        if (strcmp(e->profile[i].family, family) == 0) return i;
    }
    return n - 1;
}

static int run_profiled(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    yd_gpu *g = e->gpu;
    double seconds = 0;
    int rc = yd_gpu_check(g, g->d->event_record(g->d, e->event[0], g->stream), "timing", err);
    if (!rc) rc = s->run(e, s, err);
    if (!rc) rc = yd_gpu_check(g, g->d->event_record(g->d, e->event[1], g->stream), "timing", err);
    if (!rc) rc = yd_gpu_check(g, g->d->sync(g->d, g->stream), s->family, err);
    if (!rc) rc = yd_gpu_check(g, g->d->event_seconds(g->d, e->event[0], e->event[1], &seconds), "timing", err);
    yd_profile_line *line = &e->profile[family_line(e, s->family)];
    line->calls++;
    line->seconds += seconds;
    return rc;
}

int yd_gpu_launch_steps(yd_exec *e, int from, int to, yd_err *err)
{
    int rc = 0;
    for (int i = from; i < to && !rc; i++)
        rc = e->gpu->opt.profile ? run_profiled(e, &e->steps[i], err) : e->steps[i].run(e, &e->steps[i], err);
    return rc;
}

static int launch_all(void *arg, yd_err *err)
{
    yd_exec *e = arg;
    return yd_gpu_launch_steps(e, 0, e->n_steps, err);
}

// Gradients that somebody reads on the host.
static int fetch_gradients(yd_exec *e, yd_err *err)
{
    yd_gpu *g = e->gpu;
    for (int i = 0; i < e->g->n_params; i++) {
        const yd_tid t = e->pgrads[i];
        if (t == YD_NONE || !e->staging[t]) continue;
        int rc = yd_gpu_check(g,
                              g->d->copy(g->d, e->staging[t], e->bufs[t].map.data,
                                         yd_tensor_numel(yd_gpu_tensor(e, t)) * sizeof(float), g->stream),
                              "copying the gradients", err);
        if (rc) return rc;
    }
    return 0;
}

int yd_gpu_run(yd_exec *e, yd_err *err)
{
    yd_gpu *g = e->gpu;
    yd_gpu_outcome o = YD_GPU_OK;
    int rc = yd_gpu_alive(g, err);
    if (!rc) rc = yd_gpu_packed_refresh(e->w, err);
    if (!rc) rc = yd_gpu_replay_run(&e->replay, g->d, g->stream, launch_all, e, &o, err);
    if (!rc) rc = yd_gpu_check(g, o, "launching the graph", err);
    if (!rc) rc = fetch_gradients(e, err);
    return rc ? rc : yd_gpu_check(g, g->d->sync(g->d, g->stream), "running the network", err);
}

static int warm_up(yd_exec *e, yd_err *err)
{
    if (e->gpu->opt.eager || e->gpu->opt.profile) e->replay.state = YD_GPU_EAGER;
    int rc = yd_gpu_run(e, err);
    if (!rc && e->replay.state == YD_GPU_WARM) rc = yd_gpu_run(e, err);
    if (!rc) rc = yd_gpu_canvas_warm_up(e, err);
    memset(e->profile, 0, sizeof e->profile);
    if (!rc && e->gpu->verbose)
        fprintf(stderr, "cuda: batch %d: %d steps, %s, %zu MB of activations, %zu MB of workspace\n", e->n, e->n_steps,
                e->replay.state == YD_GPU_CAPTURED ? "one graph" : "launched one by one", e->arena_bytes >> 20,
                e->scratch_bytes >> 20);
    return rc;
}

static int finish(yd_exec *e, yd_err *err)
{
    yd_gpu *g = e->gpu;
    int rc = 0;
    for (int i = 0; i < 2 && g->opt.profile && !rc; i++)
        rc = yd_gpu_check(g, g->d->event_new(g->d, &e->event[i]), "making an event", err);
    if (!rc) rc = place(e, err);
    if (!rc) rc = yd_gpu_prepare_optimiser(e, err);
    if (!rc) rc = warm_up(e, err);
    yd_err unsaved = {0};
    if (!rc && yd_gpu_plans_save(g->plans, &unsaved) && g->verbose)
        fprintf(stderr, "cuda: the plan cache was not written: %s\n", unsaved.detail);
    return rc;
}

int yd_gpu_compile(yd_backend *be, const yd_graph *g, yd_weights *w, int n, yd_exec **out, yd_err *err)
{
    yd_err own = {0};
    yd_gpu *gpu = (yd_gpu *)be;
    *out = NULL;
    if (!err) err = &own;
    if (n < 1) return yd_fail(err, YD_E_INVALID, "a batch of %d samples; at least 1 is needed", n);
    int rc = yd_gpu_alive(gpu, err);
    if (rc) return rc;
    yd_exec *e = yd_calloc(1, sizeof *e);
    if (!e) return no_memory(err);
    e->gpu = gpu;
    e->g = g;
    e->w = w;
    e->n = n;
    rc = describe(e, err);
    if (!rc) rc = build(e, err);
    if (!rc) rc = finish(e, err);
    if (rc)
        yd_gpu_exec_free(e);
    else
        *out = e;
    return rc;
}

static void drop_step(yd_exec *e, yd_gpu_step *s)
{
    yd_gpu_driver *d = e->gpu->d;
    if (s->conv.conv) d->conv_free(d, s->conv.conv);
    for (int i = 0; i < 2; i++)
        if (s->mm[i]) d->matmul_free(d, s->mm[i]);
    yd_gpu_packed_put(e->w, s->filter);
    yd_gpu_packed_put(e->w, s->bias);
}

void yd_gpu_exec_free(yd_exec *e)
{
    if (!e) return;
    yd_gpu *g = e->gpu;
    yd_gpu_replay_drop(&e->replay, g->d);
    yd_gpu_replay_drop(&e->canvas_replay, g->d);
    for (int i = 0; i < e->n_steps; i++) drop_step(e, &e->steps[i]);
    for (int i = 0; i < 2; i++)
        if (e->event[i]) g->d->event_free(g->d, e->event[i]);
    yd_gpu_drop_optimiser(e);
    for (int i = 0; e->staging && i < e->g->n_tensors; i++) {
        if (yd_gpu_tensor(e, i)->kind == YD_T_PGRAD)
            yd_free_aligned(e->staging[i]);
        else
            g->d->release_host(g->d, e->staging[i]);
    }
    yd_gpu_give(g, &g->arena, e->arena_bytes, e->arena);
    yd_gpu_give(g, &g->scratch, e->scratch_bytes, e->scratch);
    yd_free(e->steps);
    yd_free(e->bufs);
    yd_free(e->staging);
    yd_free(e->pgrads);
    yd_free(e->with);
    yd_free(e);
}

void yd_gpu_exec_stats(const yd_exec *e, yd_exec_stats *out)
{
    *out = (yd_exec_stats){.arena_bytes = e->arena_bytes,
                           .scratch_bytes = e->scratch_bytes,
                           .n_kernels = e->n_steps,
                           .flops = yd_graph_flops(e->g) * e->n};
    memcpy(out->profile, e->profile, sizeof out->profile);
    for (const yd_gpu_packed *p = e->w->packed; p; p = p->next) out->weight_bytes += p->bytes;
}

float *yd_gpu_buffer(yd_exec *e, yd_tid t)
{
    if (t < 0 || t >= e->g->n_tensors) return NULL;
    if (e->staging[t] || yd_gpu_tensor(e, t)->kind != YD_T_PGRAD) return e->staging[t];
    yd_gpu *g = e->gpu;
    const size_t bytes = yd_tensor_numel(yd_gpu_tensor(e, t)) * sizeof(float);
    e->staging[t] = yd_alloc_aligned(bytes);
    if (!e->staging[t] || !e->bufs[t].map.data || g->lost) return e->staging[t];
    // It is asked for after a run: what that left.
    if (yd_gpu_check(g, g->d->copy(g->d, e->staging[t], e->bufs[t].map.data, bytes, g->stream), "copying the gradients",
                     NULL) == 0)
        yd_gpu_check(g, g->d->sync(g->d, g->stream), "copying the gradients", NULL);
    return e->staging[t];
}

int yd_gpu_peek(yd_exec *e, yd_tid t, float *dst, yd_err *err)
{
    yd_gpu *g = e->gpu;
    if (!g->opt.keep_activations)
        return yd_fail(err, YD_E_UNSUPPORTED,
                       "tensors can be looked at only when the backend was opened with keep_activations");
    if (t < 0 || t >= e->g->n_tensors || yd_gpu_tensor(e, t)->kind != YD_T_ACT || !e->bufs[t].map.data)
        return yd_fail(err, YD_E_INVALID, "tensor %d is not a computed tensor of this graph", t);
    const yd_gpu_map *m = &e->bufs[t].map;
    const size_t bytes = yd_tensor_numel(yd_gpu_tensor(e, t)) * yd_sz(e->n) * sizeof(float);
    void *p;
    int rc = yd_gpu_take(g, &g->scratch, bytes, "a tensor to look at", &p, err);
    if (rc) return rc;
    const yd_gpu_map plain = yd_gpu_map_of(p, YD_F32, m->h, m->w, m->c);
    rc = yd_gpu_check(g, g->d->kernel(g->d, yd_gpu_copy(m, &plain, e->n, g->stream)), "looking at a tensor", err);
    if (!rc) rc = yd_gpu_check(g, g->d->copy(g->d, dst, p, bytes, g->stream), "looking at a tensor", err);
    if (!rc) rc = yd_gpu_check(g, g->d->sync(g->d, g->stream), "looking at a tensor", err);
    yd_gpu_give(g, &g->scratch, bytes, p);
    return rc;
}
