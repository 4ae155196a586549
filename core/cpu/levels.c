// Vectors that follow from the noise level alone: computed once per level, then copied.
//
// In a diffusion network EMBED, the LINEARs, SILUs and MISHes behind it and every block's projection depend on one number per
// sample, and a schedule has few of them. Compiling marks these operators; they run before all others, and their
// results that other operators read ("leaves") are kept in a table, one row per level, by the level's bits. A run
// whose levels are all known copies rows and skips the operators: the same bytes, since these operators work on each
// sample by itself. A run with an unknown level computes all its samples and keeps what is new, the oldest row making
// room. Tables belong to the weights, so that all execs share them; writing weights empties them.
//
// Memory is taken when the first exec is compiled; a run takes none. With keep_activations every operator runs.
// Read next: plan.c.
#include "core/cpu/cpu.h"
#include "core/mem.h"
#include <string.h>

#define MAX_ROWS  512
#define MAX_BYTES ((size_t)16 << 20)

// What was computed from what: tables are shared by execs that do the same.
typedef struct step {
    int kind, from[2], params[2], c, leaf, r;
    float scale;
} step;

struct yd_levels {
    struct yd_levels *next;
    step *steps;
    int n_steps;
    size_t width;   // floats of a row
    int rows, used; // used: also the next to be replaced, modulo rows
    uint64_t stamp; // of the weights the rows were computed with
    uint32_t *keys;
    float *values;
};

static int is_level(const yd_tensor *t)
{
    return t->kind == YD_T_INPUT && t->dtype == YD_F32 && t->h == 1 && t->w == 1 && t->c == 1;
}

static int follows(const yd_exec *e, const yd_op *op)
{
    const int parameters = op->kind == YD_OP_LINEAR;
    if (op->kind != YD_OP_EMBED && op->kind != YD_OP_LINEAR && op->kind != YD_OP_SILU && op->kind != YD_OP_MISH)
        return 0;
    if (op->in[0] == YD_NONE || op->out[0] == YD_NONE) return 0;
    const yd_tensor *y = yd_exec_tensor(e, op->out[0]);
    for (int k = 1; k < YD_OP_MAX_IN; k++)
        if (op->in[k] != YD_NONE && (!parameters || yd_exec_tensor(e, op->in[k])->kind != YD_T_PARAM)) return 0;
    return y->kind == YD_T_ACT && y->dtype == YD_F32 && (op->in[0] == e->level || e->of_level[op->in[0]]);
}

// The graph's only level: two of them could not share a key.
static yd_tid find_level(const yd_exec *e)
{
    yd_tid found = YD_NONE;
    for (int i = 0; i < e->g->n_ops; i++) {
        const yd_op *op = &e->g->ops[i];
        if (op->kind != YD_OP_EMBED || op->in[0] == YD_NONE || !is_level(yd_exec_tensor(e, op->in[0]))) continue;
        if (found != YD_NONE && found != op->in[0]) return YD_NONE;
        found = op->in[0];
    }
    return found;
}

int yd_levels_mark(yd_exec *e, yd_err *err)
{
    e->of_level = yd_calloc(yd_sz(e->g->n_tensors), 1);
    if (!e->of_level) return yd_fail(err, YD_E_NOMEM, "no memory for compiling the graph");
    e->level = e->training || e->cpu->keep ? YD_NONE : find_level(e);
    for (int i = 0; i < e->g->n_ops && e->level != YD_NONE; i++)
        if (follows(e, &e->g->ops[i])) e->of_level[e->g->ops[i].out[0]] = 1;
    for (int i = 0; i < e->g->n_ops && e->level != YD_NONE; i++) {
        const yd_op *op = &e->g->ops[i];
        for (int k = 0; k < YD_OP_MAX_IN && !yd_levels_has(e, op); k++)
            if (op->in[k] != YD_NONE && e->of_level[op->in[k]]) e->of_level[op->in[k]] = 2;
    }
    return 0;
}

int yd_levels_has(const yd_exec *e, const yd_op *op)
{
    return op->out[0] != YD_NONE && e->of_level[op->out[0]] != 0;
}

static step step_of(const yd_exec *e, const yd_op *op)
{
    step s;
    memset(&s, 0, sizeof s); // compared as bytes
    s.kind = (int)op->kind;
    s.c = yd_exec_tensor(e, op->out[0])->c;
    s.leaf = e->of_level[op->out[0]] == 2;
    s.scale = op->scale;
    s.r = op->r;
    s.from[0] = s.from[1] = -1;
    for (int i = 0, at = 0; i < e->g->n_ops; i++) { // which of the steps made its input
        if (!yd_levels_has(e, &e->g->ops[i])) continue;
        if (e->g->ops[i].out[0] == op->in[0]) s.from[0] = at;
        at++;
    }
    for (int k = 0; k < 2; k++) s.params[k] = op->in[k + 1] == YD_NONE ? -1 : yd_exec_tensor(e, op->in[k + 1])->param;
    return s;
}

static void free_table(yd_levels *t)
{
    yd_free(t->steps);
    yd_free(t->keys);
    yd_free_aligned(t->values);
    yd_free(t);
}

static yd_levels *new_table(step *steps, int n)
{
    yd_levels *t = yd_calloc(1, sizeof *t);
    if (!t) {
        yd_free(steps);
        return NULL;
    }
    t->steps = steps;
    t->n_steps = n;
    for (int i = 0; i < n; i++) t->width += steps[i].leaf ? yd_sz(steps[i].c) : 0;
    size_t rows = MAX_BYTES / (t->width * sizeof(float));
    t->rows = rows < 1 ? 1 : rows < MAX_ROWS ? (int)rows : MAX_ROWS;
    t->keys = yd_calloc(yd_sz(t->rows), sizeof *t->keys);
    t->values = yd_alloc_aligned(yd_sz(t->rows) * t->width * sizeof(float));
    if (t->keys && t->values) return t;
    free_table(t);
    return NULL;
}

int yd_levels_attach(yd_exec *e, yd_err *err)
{
    int n = 0, leaves = 0;
    for (int i = 0; i < e->g->n_ops; i++) n += yd_levels_has(e, &e->g->ops[i]);
    if (!n) return 0;
    step *steps = yd_calloc(yd_sz(n), sizeof *steps);
    if (!steps) return yd_fail(err, YD_E_NOMEM, "no memory for compiling the graph");
    for (int i = 0, at = 0; i < e->g->n_ops; i++)
        if (yd_levels_has(e, &e->g->ops[i])) leaves += (steps[at++] = step_of(e, &e->g->ops[i])).leaf;
    for (yd_levels *t = e->w->levels; t && !e->levels; t = t->next)
        if (t->n_steps == n && memcmp(t->steps, steps, yd_sz(n) * sizeof *steps) == 0) e->levels = t;
    if (e->levels || !leaves) {
        yd_free(steps);
        return 0;
    }
    e->levels = new_table(steps, n);
    if (!e->levels) return yd_fail(err, YD_E_NOMEM, "no memory for the table of noise levels");
    e->levels->next = e->w->levels;
    e->w->levels = e->levels;
    return 0;
}

void yd_levels_free(yd_weights *w)
{
    while (w->levels) {
        yd_levels *t = w->levels;
        w->levels = t->next;
        free_table(t);
    }
}

static int find_row(const yd_levels *t, uint32_t key)
{
    int n = t->used < t->rows ? t->used : t->rows;
    for (int i = 0; i < n; i++)
        if (t->keys[i] == key) return i;
    return -1;
}

static uint32_t key_of(const yd_exec *e, int sample)
{
    uint32_t key;
    memcpy(&key, &e->staging[e->level][sample], sizeof key);
    return key;
}

// Move a row to or from one sample's leaves.
static void copy_row(const yd_exec *e, float *row, int sample, int save)
{
    for (int i = 0; i < e->g->n_ops; i++) {
        yd_tid y = e->g->ops[i].out[0];
        if (y == YD_NONE || e->of_level[y] != 2) continue;
        size_t c = yd_sz(yd_exec_tensor(e, y)->c);
        float *v = (float *)yd_exec_ptr(e, y) + yd_sz(sample) * c;
        memcpy(save ? row : v, save ? v : row, c * sizeof *v);
        row += c;
    }
}

int yd_levels_recall(yd_exec *e)
{
    yd_levels *t = e->levels;
    uint64_t stamp = 0;
    if (!t) return 0;
    for (int i = 0; i < e->w->n_params; i++) stamp += e->w->params[i].version;
    if (stamp != t->stamp) t->used = 0;
    t->stamp = stamp;
    for (int i = 0; i < e->n; i++)
        if (find_row(t, key_of(e, i)) < 0) return 0;
    for (int i = 0; i < e->n; i++) copy_row(e, t->values + yd_sz(find_row(t, key_of(e, i))) * t->width, i, 0);
    return 1;
}

void yd_levels_keep(yd_exec *e)
{
    yd_levels *t = e->levels;
    for (int i = 0; t && i < e->n; i++) {
        if (find_row(t, key_of(e, i)) >= 0) continue;
        int row = t->used % t->rows;
        t->used = t->used < 2 * t->rows - 1 ? t->used + 1 : t->rows; // counts round and round, never below `rows` again
        t->keys[row] = key_of(e, i);
        copy_row(e, t->values + yd_sz(row) * t->width, i, 1);
    }
}
