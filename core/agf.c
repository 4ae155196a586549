// AGF over a trunk: forward with every map kept, then back through the steps. See agf.h; single layers: agf_rules.h.
//
// Owns a trunk, per convolution the three to six others that its rules need, and the slots in which C and G of a map live from the first step
// that writes them to the one that made the map. A map that several steps read collects sd(C, X) of each in its slot; what a later one of
// them sends is made in `more` and added. All work areas are shared by all steps.
#include "core/agf.h"

#include "core/agf_rules.h"
#include "core/cpu/conv2d.h"
#include "core/mem.h"

#include <string.h>

enum { MAX_MAPS = YD_TRUNK_MAX_STEPS + 1, MAX_SLOTS = 8 };
enum { PIXELS_TOGETHER = 210000 }; // of all heads that go back at once: what bounds the memory of a large picture

typedef struct area {
    float *data;
    size_t want, room; // floats wanted now; allocated
} area;

typedef struct slot {
    area c, g;
    int busy;
} slot;

// What one convolution takes.
typedef struct layer {
    yd_conv2d magnitude;      // forward with |W|; of the first W
    yd_conv2d back, back_abs; // gradients with scaled W and with |W|; of the first W, and none
    yd_conv2d part[2];        // the first: forward with W+ and W-
    yd_conv2d back_part[2];   // and their gradients
} layer;

struct yd_agf {
    yd_trunk_step steps[YD_TRUNK_MAX_STEPS];
    int n_steps, heads, together;
    int asked;             // for together; 0: as many as the size suggests
    int readers[MAX_MAPS]; // steps that read a map
    yd_trunk *trunk;
    yd_conv2d_device device;
    layer layers[YD_TRUNK_MAX_STEPS];
    slot slots[MAX_SLOTS];
    int slot_of[MAX_MAPS], seen[MAX_MAPS]; // planning and walking: slot or -1; readers that have sent
    slot more;
    area z;               // a convolution of one sample
    area out, in_a, in_b; // for all heads: of a convolution's output, of its input
    area ones, edges;     // a 1 for every number of an input; two constant pictures for the first convolution
    area work, which;     // yd_agf_full_rule's; argmax of pools, as bytes
    area feature;         // Y, its C and G
    int h, w;             // prepared for; 0: for nothing
};

typedef struct shape {
    int h, w, c;
    size_t n; // numbers
} shape;

static shape shape_of(const yd_agf *a, int m, const float **x)
{
    shape s;
    const float *data = yd_trunk_map(a->trunk, m, &s.h, &s.w, &s.c);
    if (x) *x = data;
    s.n = (size_t)s.h * (size_t)s.w * (size_t)s.c;
    return s;
}

static size_t places_of(shape s)
{
    return (size_t)s.h * (size_t)s.w;
}

static int is_flat(const yd_trunk_step *s)
{
    return s->k[0] == 1 && s->k[1] == 1;
}

// ---- making and freeing

static int check_steps(const yd_trunk_step *steps, int n_steps, int heads, int together, yd_err *err)
{
    if (n_steps < 1 || n_steps > YD_TRUNK_MAX_STEPS || heads < 1 || heads > YD_AGF_MAX_HEADS || together < 0 ||
        (together && heads % together) || heads > steps[n_steps - 1].c)
        return yd_fail(err, YD_E_INVALID, "%d heads, %d together, over %d steps cannot be attributed", heads, together, n_steps);
    int any_sign[MAX_MAPS] = {1}; // maps that may have numbers below 0: no convolution but the first reads one, so that |X| is X
    for (int i = 0; i < n_steps; i++) {
        const yd_trunk_step *s = &steps[i];
        const int first = s->from[0] == 0 || (s->n_from > 1 && s->from[1] == 0), sign = any_sign[s->from[0]];
        const int known = s->kind == YD_TRUNK_CONV  ? !i || !sign
                          : s->kind == YD_TRUNK_MAX ? s->k[0] * s->k[1] <= 255
                                                    : s->kind == YD_TRUNK_ADD && s->from[0] != s->from[1];
        if (!known || first != (i == 0) || (i == 0 && (s->kind != YD_TRUNK_CONV || s->in_c != 3)))
            return yd_fail(err, YD_E_INVALID, "step %d of the trunk has no rule of attribution", i);
        any_sign[i + 1] = s->kind == YD_TRUNK_MAX ? sign : s->kind == YD_TRUNK_CONV && s->linear;
    }
    return 0;
}

static void free_area(area *r)
{
    yd_free_aligned(r->data);
    *r = (area){0};
}

void yd_agf_free(yd_agf *a)
{
    if (!a) return;
    for (int i = 0; i < a->n_steps; i++) {
        layer *l = &a->layers[i];
        yd_conv2d *const all[] = {&l->magnitude, &l->back, &l->back_abs, &l->part[0], &l->part[1], &l->back_part[0], &l->back_part[1]};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) yd_conv2d_clear(all[k]);
    }
    for (int i = 0; i < MAX_SLOTS; i++) free_area(&a->slots[i].c), free_area(&a->slots[i].g);
    area *const areas[] = {&a->more.c, &a->more.g, &a->z,    &a->out,   &a->in_a,   &a->in_b,
                           &a->ones,   &a->edges,  &a->work, &a->which, &a->feature};
    for (size_t i = 0; i < sizeof areas / sizeof *areas; i++) free_area(areas[i]);
    yd_conv2d_device_close(&a->device);
    yd_trunk_free(a->trunk);
    yd_free(a);
}

int yd_agf_new(const yd_trunk_step *steps, int n_steps, int heads, int together, yd_agf **out, yd_err *err)
{
    *out = NULL;
    int rc = check_steps(steps, n_steps, heads, together, err);
    if (rc) return rc;
    yd_agf *a = yd_calloc(1, sizeof *a);
    if (!a) return yd_fail(err, YD_E_NOMEM, "no memory for the attribution of %d steps", n_steps);
    memcpy(a->steps, steps, (size_t)n_steps * sizeof *steps);
    a->n_steps = n_steps, a->heads = heads, a->asked = together;
    for (int i = 0; i < n_steps; i++) {
        a->steps[i].tap = -1;
        for (int j = 0; j < steps[i].n_from; j++) a->readers[steps[i].from[j]]++;
    }
    rc = yd_trunk_new(a->steps, n_steps, 1, &a->trunk, err);
    if (!rc) rc = yd_conv2d_device_open(&a->device, err);
    if (rc)
        yd_agf_free(a);
    else
        *out = a;
    return rc;
}

// ---- planning

static void want(area *r, size_t floats)
{
    if (floats > r->want) r->want = floats;
}

static int fill(area *r, yd_err *err)
{
    if (r->want <= r->room) return 0;
    yd_free_aligned(r->data);
    r->room = 0;
    size_t bytes;
    r->data = yd_mul_size(r->want, sizeof(float), &bytes) ? NULL : yd_alloc_aligned(bytes);
    if (!r->data) return yd_fail(err, YD_E_NOMEM, "no memory for an attribution of %zu numbers", r->want);
    r->room = r->want;
    return 0;
}

static int take_slot(yd_agf *a, int m, yd_err *err)
{
    const size_t floats = (size_t)a->together * shape_of(a, m, NULL).n;
    for (int i = 0; i < MAX_SLOTS; i++) {
        slot *s = &a->slots[i];
        if (s->busy) continue;
        s->busy = 1;
        want(&s->c, floats), want(&s->g, floats);
        a->slot_of[m] = i;
        return 0;
    }
    return yd_fail(err, YD_E_INTERNAL, "an attribution needs more than %d maps at once", MAX_SLOTS);
}

static void want_areas(yd_agf *a, int i)
{
    const yd_trunk_step *s = &a->steps[i];
    const shape x = shape_of(a, s->from[0], NULL), y = shape_of(a, i + 1, NULL);
    const size_t heads = (size_t)a->together;
    if (a->readers[s->from[0]] > 1) want(&a->more.c, heads * x.n), want(&a->more.g, heads * x.n);
    if (s->kind == YD_TRUNK_MAX) want(&a->which, (y.n + 3) / 4);
    if (s->kind != YD_TRUNK_CONV) return;
    want(&a->z, i ? y.n : 3 * y.n);
    want(&a->out, heads * y.n);
    if (i && is_flat(s)) return;
    want(&a->in_a, heads * x.n), want(&a->in_b, heads * x.n);
    if (!i) {
        want(&a->edges, 2 * x.n);
        return;
    }
    want(&a->ones, x.n);
    want(&a->work, yd_agf_full_work(places_of(x), (size_t)x.c));
}

// Walk as back() does, giving every map a slot while its C and G are there.
static int plan(yd_agf *a, yd_err *err)
{
    area *const areas[] = {&a->more.c, &a->more.g, &a->z,    &a->out,   &a->in_a,   &a->in_b,
                           &a->ones,   &a->edges,  &a->work, &a->which, &a->feature};
    for (int i = 0; i < MAX_SLOTS; i++) a->slots[i].busy = 0, a->slots[i].c.want = a->slots[i].g.want = 0;
    for (size_t i = 0; i < sizeof areas / sizeof *areas; i++) areas[i]->want = 0;
    for (int m = 0; m <= a->n_steps; m++) a->slot_of[m] = -1;
    want(&a->feature, 3 * (size_t)a->steps[a->n_steps - 1].c);
    int rc = take_slot(a, a->n_steps, err);
    for (int i = a->n_steps - 1; i >= 0 && !rc; i--) {
        int late = 0; // inputs to which something else has sent already: they share `more`
        for (int j = 0; j < a->steps[i].n_from && !rc; j++) {
            if (a->slot_of[a->steps[i].from[j]] < 0)
                rc = take_slot(a, a->steps[i].from[j], err);
            else if (++late > 1)
                rc = yd_fail(err, YD_E_INVALID, "step %d of the trunk adds two maps that are both read later", i);
        }
        a->slots[a->slot_of[i + 1]].busy = 0;
        want_areas(a, i);
    }
    for (int i = 0; i < MAX_SLOTS && !rc; i++) {
        rc = fill(&a->slots[i].c, err);
        if (!rc) rc = fill(&a->slots[i].g, err);
    }
    for (size_t i = 0; i < sizeof areas / sizeof *areas && !rc; i++) rc = fill(areas[i], err);
    for (size_t i = 0; i < a->ones.room && !rc; i++) a->ones.data[i] = 1.0f;
    return rc;
}

static int set_layer(yd_agf *a, int i, yd_err *err)
{
    const yd_trunk_step *s = &a->steps[i];
    const shape x = shape_of(a, s->from[0], NULL), y = shape_of(a, i + 1, NULL);
    const yd_conv2d_shape one = {.n = 1,
                                 .h = x.h,
                                 .w = x.w,
                                 .in_c = x.c,
                                 .c = y.c,
                                 .k = {s->k[0], s->k[1]},
                                 .pad = {s->pad[0], s->pad[1]},
                                 .stride = s->stride,
                                 .out_h = y.h,
                                 .out_w = y.w};
    yd_conv2d_shape all = one;
    all.n = a->together;
    const yd_conv2d_filter own = {.weight = s->weight}, scaled = {.weight = s->weight, .scale = s->scale},
                           abs = {.weight = s->weight, .part = YD_CONV2D_MAGNITUDE},
                           parts[2] = {{.weight = s->weight, .part = YD_CONV2D_POSITIVE},
                                       {.weight = s->weight, .part = YD_CONV2D_NEGATIVE}};
    layer *l = &a->layers[i];
    int rc = yd_conv2d_set(&l->magnitude, &a->device, &one, YD_CONV2D_FORWARD, i ? &abs : &own, err);
    if (!rc) rc = yd_conv2d_set(&l->back, &a->device, &all, YD_CONV2D_GRADIENT, i ? &scaled : &own, err);
    if (!rc && i) rc = yd_conv2d_set(&l->back_abs, &a->device, &all, YD_CONV2D_GRADIENT, &abs, err);
    for (int k = 0; k < 2 && !rc && !i; k++) {
        rc = yd_conv2d_set(&l->part[k], &a->device, &one, YD_CONV2D_FORWARD, &parts[k], err);
        if (!rc) rc = yd_conv2d_set(&l->back_part[k], &a->device, &all, YD_CONV2D_GRADIENT, &parts[k], err);
    }
    return rc;
}

int yd_agf_prepare(yd_agf *a, int h, int w, yd_err *err)
{
    if (a->h == h && a->w == w) return YD_OK;
    a->h = 0;
    a->together = a->asked ? a->asked : a->heads;
    while (!a->asked && a->together > 1 && (a->heads % a->together || (int64_t)a->together * h * w > PIXELS_TOGETHER)) a->together--;
    int rc = yd_trunk_prepare(a->trunk, 1, h, w, err);
    if (!rc) rc = plan(a, err);
    for (int i = 0; i < a->n_steps && !rc; i++)
        if (a->steps[i].kind == YD_TRUNK_CONV) rc = set_layer(a, i, err);
    if (!rc) a->h = h, a->w = w;
    return rc;
}

size_t yd_agf_bytes(const yd_agf *a)
{
    const area *const areas[] = {&a->more.c, &a->more.g, &a->z,    &a->out,   &a->in_a,   &a->in_b,
                                 &a->ones,   &a->edges,  &a->work, &a->which, &a->feature};
    size_t floats = 0, bytes = yd_trunk_bytes(a->trunk);
    for (size_t i = 0; i < sizeof areas / sizeof *areas; i++) floats += areas[i]->room;
    for (int i = 0; i < MAX_SLOTS; i++) floats += a->slots[i].c.room + a->slots[i].g.room;
    for (int i = 0; i < a->n_steps; i++) {
        const layer *l = &a->layers[i];
        const yd_conv2d *const all[] = {&l->magnitude, &l->back,         &l->back_abs,    &l->part[0],
                                        &l->part[1],   &l->back_part[0], &l->back_part[1]};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) bytes += all[k]->packed ? all[k]->bytes : 0;
    }
    return bytes + floats * sizeof(float);
}

// ---- going back

// C and G of one map on the way: where a step is to write them, and what it hands over afterwards.
typedef struct sink {
    int m;
    float *c, *g; // where to
} sink;

static slot *slot_of(yd_agf *a, int m)
{
    return &a->slots[a->slot_of[m]];
}

static sink open_sink(yd_agf *a, int m)
{
    const slot *s = a->seen[m] ? &a->more : slot_of(a, m);
    return (sink){m, s->c.data, s->g.data};
}

static void close_sink(yd_agf *a, sink k)
{
    const float *x;
    const size_t n = shape_of(a, k.m, &x).n;
    slot *s = slot_of(a, k.m);
    const int first = !a->seen[k.m]++, last = a->seen[k.m] == a->readers[k.m];
    if (a->readers[k.m] < 2) return;
    for (size_t h = 0; h < (size_t)a->together; h++) {
        float *c = s->c.data + h * n;
        if (first)
            yd_agf_fork_first(x, n, c);
        else
            yd_agf_fork_more(x, n, k.c + h * n, k.g + h * n, c, s->g.data + h * n);
        if (last) yd_agf_fork_end(x, n, c);
    }
}

static int back_flat(yd_agf *a, int i, const slot *y, sink to, yd_err *err)
{
    const layer *l = &a->layers[i];
    const float *x;
    const shape in = shape_of(a, to.m, &x), out = shape_of(a, i + 1, NULL);
    int rc = yd_conv2d_run(&l->magnitude, &a->device, x, a->z.data, err);
    if (rc) return rc;
    yd_agf_quotient(y->c.data, a->z.data, a->together, out.n, a->out.data);
    rc = yd_conv2d_run(&l->back_abs, &a->device, a->out.data, to.c, err);
    if (!rc) rc = yd_conv2d_run(&l->back, &a->device, y->g.data, to.g, err);
    if (!rc) yd_agf_multiply(x, a->together, in.n, to.c);
    return rc;
}

static int back_full(yd_agf *a, int i, const slot *y, sink to, yd_err *err)
{
    const layer *l = &a->layers[i];
    const float *x, *masked = to.g;
    const shape in = shape_of(a, to.m, &x), out = shape_of(a, i + 1, NULL);
    int rc = back_flat(a, i, y, to, err);
    if (!rc) rc = yd_conv2d_run(&l->magnitude, &a->device, a->ones.data, a->z.data, err);
    if (rc) return rc;
    yd_agf_quotient(y->c.data, a->z.data, a->together, out.n, a->out.data);
    rc = yd_conv2d_run(&l->back_abs, &a->device, a->out.data, a->in_a.data, err);
    if (!rc && yd_agf_mask(y->c.data, y->g.data, (size_t)a->together * out.n, a->out.data)) { // else the mask takes nothing away
        rc = yd_conv2d_run(&l->back, &a->device, a->out.data, a->in_b.data, err);
        masked = a->in_b.data;
    }
    for (size_t h = 0; h < (size_t)a->together && !rc; h++) {
        const yd_agf_full f = {.pixels = places_of(in),
                               .c = (size_t)in.c,
                               .x = x,
                               .g = to.g + h * in.n,
                               .masked_g = masked + h * in.n,
                               .a = a->in_a.data + h * in.n,
                               .work = a->work.data};
        yd_agf_full_rule(&f, to.c + h * in.n);
    }
    return rc;
}

// The first convolution's rule; C of the picture goes to c.
static int back_first(yd_agf *a, const slot *y, float *c, yd_err *err)
{
    const layer *l = &a->layers[0];
    const float *x;
    const shape in = shape_of(a, 0, &x), out = shape_of(a, 1, NULL);
    float *const z = a->z.data, *const edge[2] = {a->edges.data, a->edges.data + in.n}, *const sent[2] = {a->in_a.data, a->in_b.data};
    float ends[2] = {x[0], x[0]}; // smallest, largest
    for (size_t i = 0; i < in.n; i++) {
        ends[0] = x[i] < ends[0] ? x[i] : ends[0];
        ends[1] = x[i] > ends[1] ? x[i] : ends[1];
    }
    int rc = yd_conv2d_run(&l->magnitude, &a->device, x, z, err);
    for (size_t k = 0; k < 2 && !rc; k++) {
        for (size_t i = 0; i < in.n; i++) edge[k][i] = ends[k];
        rc = yd_conv2d_run(&l->part[k], &a->device, edge[k], z + (k + 1) * out.n, err);
    }
    if (rc) return rc;
    for (size_t i = 0; i < out.n; i++) z[i] = z[i] - z[out.n + i] - z[2 * out.n + i];
    yd_agf_quotient(y->c.data, z, a->together, out.n, a->out.data);
    rc = yd_conv2d_run(&l->back, &a->device, a->out.data, c, err);
    for (size_t k = 0; k < 2 && !rc; k++) rc = yd_conv2d_run(&l->back_part[k], &a->device, a->out.data, sent[k], err);
    for (size_t h = 0; h < (size_t)a->together && !rc; h++)
        for (size_t i = 0; i < in.n; i++) {
            const size_t at = h * in.n + i;
            c[at] = x[i] * c[at] - ends[0] * sent[0][at] - ends[1] * sent[1][at];
        }
    return rc;
}

static void back_add(yd_agf *a, int i, const slot *y)
{
    const yd_trunk_step *s = &a->steps[i];
    const float *sum, *x[2];
    const size_t n = shape_of(a, i + 1, &sum).n;
    sink to[2];
    for (int j = 0; j < 2; j++) {
        shape_of(a, s->from[j], &x[j]);
        to[j] = open_sink(a, s->from[j]);
    }
    for (size_t h = 0; h < (size_t)a->together; h++) {
        const size_t at = h * n;
        yd_agf_add(sum, x[0], x[1], n, y->c.data + at, y->g.data + at, to[0].c + at, to[1].c + at, to[0].g + at, to[1].g + at);
    }
    for (int j = 0; j < 2; j++) close_sink(a, to[j]);
}

static void back_pool(yd_agf *a, int i, const slot *y)
{
    const yd_trunk_step *s = &a->steps[i];
    const float *x, *most;
    const shape in = shape_of(a, s->from[0], &x), out = shape_of(a, i + 1, &most);
    const yd_agf_pool p = {in.h, in.w, out.h, out.w, {s->k[0], s->k[1]}, {s->pad[0], s->pad[1]}, s->stride, (size_t)in.c};
    uint8_t *which = (uint8_t *)a->which.data;
    const sink to = open_sink(a, s->from[0]);
    yd_agf_pool_find(&p, x, which);
    for (size_t h = 0; h < (size_t)a->together; h++)
        yd_agf_pool_back(&p, x, most, which, y->c.data + h * out.n, y->g.data + h * out.n, to.c + h * in.n, to.g + h * in.n);
    close_sink(a, to);
}

static int back_conv(yd_agf *a, int i, slot *y, yd_err *err)
{
    const yd_trunk_step *s = &a->steps[i];
    const float *result;
    const shape out = shape_of(a, i + 1, &result);
    for (size_t h = 0; h < (size_t)a->together && !s->linear; h++) yd_agf_relu(result, out.n, y->c.data + h * out.n, y->g.data + h * out.n);
    const sink to = open_sink(a, s->from[0]);
    if (i == 0) return back_first(a, y, to.c, err);
    const int rc = is_flat(s) ? back_flat(a, i, y, to, err) : back_full(a, i, y, to, err);
    if (!rc) close_sink(a, to);
    return rc;
}

// From C and G of the last map, in its slot, to those of map `to`.
static int walk(yd_agf *a, int to, yd_err *err)
{
    int rc = 0;
    memset(a->seen, 0, sizeof a->seen);
    for (int i = a->n_steps - 1; i >= to && !rc; i--) {
        if (a->steps[i].kind == YD_TRUNK_CONV)
            rc = back_conv(a, i, slot_of(a, i + 1), err);
        else if (a->steps[i].kind == YD_TRUNK_ADD)
            back_add(a, i, slot_of(a, i + 1));
        else
            back_pool(a, i, slot_of(a, i + 1));
    }
    return rc;
}

int yd_agf_back(yd_agf *a, const float *last_c, const float *last_g, int to, float *c, float *g, yd_err *err)
{
    const size_t last = (size_t)a->together * shape_of(a, a->n_steps, NULL).n, end = (size_t)a->together * shape_of(a, to, NULL).n;
    memcpy(slot_of(a, a->n_steps)->c.data, last_c, last * sizeof *last_c);
    memcpy(slot_of(a, a->n_steps)->g.data, last_g, last * sizeof *last_g);
    const int rc = walk(a, to, err);
    if (rc) return rc;
    memcpy(c, slot_of(a, to)->c.data, end * sizeof *c);
    if (to > 0) memcpy(g, slot_of(a, to)->g.data, end * sizeof *g);
    return 0;
}

// ---- a run

float *yd_agf_input(yd_agf *a)
{
    return yd_trunk_input(a->trunk);
}

int yd_agf_forward(yd_agf *a, yd_err *err)
{
    return yd_trunk_run(a->trunk, NULL, NULL, err);
}

int yd_agf_run(yd_agf *a, float *maps, yd_err *err)
{
    int rc = yd_agf_forward(a, err), top[YD_AGF_MAX_HEADS];
    if (rc) return rc;
    const float *x;
    const shape last = shape_of(a, a->n_steps, &x), picture = shape_of(a, 0, NULL);
    const size_t features = (size_t)last.c, places = places_of(picture);
    float *y = a->feature.data, *c = y + features, *g = c + features;
    yd_agf_mean(x, places_of(last), features, y);
    yd_agf_top(y, last.c, a->heads, top);
    for (int first = 0; first < a->heads && !rc; first += a->together) {
        for (size_t h = 0; h < (size_t)a->together; h++) {
            slot *s = slot_of(a, a->n_steps);
            yd_agf_start(y, last.c, top[(size_t)first + h], c, g);
            yd_agf_mean_back(x, places_of(last), features, y, c, g, s->c.data + h * last.n, s->g.data + h * last.n);
        }
        rc = walk(a, 0, err);
        for (size_t h = 0; h < (size_t)a->together && !rc; h++)
            yd_agf_picture(slot_of(a, 0)->c.data + h * picture.n, places, maps + ((size_t)first + h) * places);
    }
    return rc;
}
