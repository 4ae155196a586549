// A vision transformer up to its last attention: see vit.h.
//
// Rows stand in blocks of YD_ROWS; the last block of a picture is filled up with rows of zero patches, which nothing else reads. A run is one
// parallel region. Its phases, a barrier after each: (1) rows: patches, positions, norm1 and q, k, v of the first block; then for each
// block (2) a head's attention of a block of rows, and (3) rows: proj, norm2, fc1, fc2, and norm1 and q, k, v of the next block; in the end (4) the
// class token's attention, a head at a time. A task of (2) writes its result over its own q, which nobody else reads. Owns weights,
// the pictures' rows and each seat's scratch. Read next: rows.h, vit_rows.h.
#include "core/cpu/vit.h"

#include "core/cpu/rows.h"
#include "core/cpu/vit_rows.h"
#include "core/mem.h"

#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <string.h>

#define LANE 16 // rows of scores begin at multiples of it

typedef enum { EMBED, QKV, KEY, PROJ, FC1, FC2, LAYERS } layer;
typedef enum { N1_W, N1_B, N2_W, N2_B, NORMS } norm;

typedef struct block {
    yd_packed layer[LAYERS]; // those that it has
    float *norm[NORMS];
} block;

typedef struct seat {
    float *normed; // [YD_ROWS][dim]
    float *wide;   // [YD_ROWS][hidden or 3 patch^2]
    float *scores; // [YD_ROWS][score_row]
} seat;

struct yd_vit {
    yd_vit_shape shape;
    yd_rows *rows;
    int seats;
    yd_product *layer[LAYERS];
    yd_product *scores, *values; // for `tokens` tokens
    yd_packed embed;
    float *class_token, *learned; // learned: positions as they came
    float *query_w, *query_b;     // of the last block, for the class token
    block *block;
    int n_blocks;
    seat *seat;
    size_t weight_bytes;

    int gw, gh, pictures;             // reserved for; pictures 0: for nothing
    size_t tokens, blocks, score_row; // of one picture
    size_t rows_room, score_room;     // floats allocated in x (and thrice in qkv), in each seat's scores
    size_t position_room;
    float *x, *qkv, *query; // [pictures][blocks * YD_ROWS][dim], [..][3 dim], [pictures][dim]
    float *positions;       // [tokens][dim]
};

static size_t dim(const yd_vit *v)
{
    return (size_t)v->shape.dim;
}

static size_t patch_values(const yd_vit *v)
{
    return 3 * (size_t)v->shape.patch * (size_t)v->shape.patch;
}

// ---- making --------------------------------------------------------------------------------------------------------

static int copy(yd_vit *v, const float *src, size_t n, float **dst, yd_err *err)
{
    *dst = yd_alloc_aligned(n * sizeof **dst);
    if (!*dst) return yd_fail(err, YD_E_NOMEM, "no memory for a transformer's weights");
    memcpy(*dst, src, n * sizeof **dst);
    v->weight_bytes += n * sizeof **dst;
    return 0;
}

static int pack(yd_vit *v, layer l, const float *w, const float *bias, yd_packed *out, yd_err *err)
{
    const int rc = yd_packed_make(v->rows, v->layer[l], w, bias, out, err);
    v->weight_bytes += out->bytes;
    return rc;
}

static int make_layers(yd_vit *v, yd_err *err)
{
    const int d = v->shape.dim, hidden = v->shape.hidden, values = (int)patch_values(v);
    const struct {
        int in, out, x_row, y_row;
        yd_product_end end;
    } row[LAYERS] = {
        [EMBED] = {values, d, values, d, YD_PRODUCT_PLAIN}, [QKV] = {d, 3 * d, d, 3 * d, YD_PRODUCT_PLAIN},
        [KEY] = {d, d, d, 3 * d, YD_PRODUCT_PLAIN},         [PROJ] = {d, d, 3 * d, d, YD_PRODUCT_ADD},
        [FC1] = {d, hidden, d, hidden, YD_PRODUCT_GELU},    [FC2] = {hidden, d, hidden, d, YD_PRODUCT_ADD},
    };
    int rc = 0;
    for (int l = 0; l < LAYERS && !rc; l++)
        rc = yd_product_new_layer(v->rows, row[l].in, row[l].out, row[l].x_row, row[l].y_row, row[l].end, &v->layer[l], err);
    return rc;
}

static int make_seats(yd_vit *v, yd_err *err)
{
    const size_t wide = patch_values(v) > (size_t)v->shape.hidden ? patch_values(v) : (size_t)v->shape.hidden;
    v->seat = yd_calloc((size_t)v->seats, sizeof *v->seat);
    v->block = yd_calloc((size_t)v->shape.depth, sizeof *v->block);
    int ok = v->seat && v->block;
    for (int i = 0; i < v->seats && ok; i++) {
        v->seat[i].normed = yd_alloc_aligned(YD_ROWS * dim(v) * sizeof(float));
        v->seat[i].wide = yd_alloc_aligned(YD_ROWS * wide * sizeof(float));
        ok = v->seat[i].normed && v->seat[i].wide;
    }
    v->weight_bytes += (size_t)v->seats * YD_ROWS * (dim(v) + wide) * sizeof(float);
    return ok ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for a transformer");
}

int yd_vit_new(const yd_vit_shape *shape, const yd_vit_tokens *t, int threads, yd_vit **out, yd_err *err)
{
    yd_vit *v = yd_calloc(1, sizeof *v);
    *out = NULL;
    if (!v) return yd_fail(err, YD_E_NOMEM, "no memory for a transformer");
    const size_t places = 1 + (size_t)shape->grid * (size_t)shape->grid;
    v->shape = *shape;
    v->seats = threads > 0 ? threads : omp_get_max_threads();
    int rc = yd_rows_new(v->seats, &v->rows, err);
    if (!rc) rc = make_layers(v, err);
    if (!rc) rc = make_seats(v, err);
    if (!rc) rc = pack(v, EMBED, t->patch_weight, t->patch_bias, &v->embed, err);
    if (!rc) rc = copy(v, t->class_token, dim(v), &v->class_token, err);
    if (!rc) rc = copy(v, t->positions, places * dim(v), &v->learned, err);
    if (rc)
        yd_vit_free(v);
    else
        *out = v;
    return rc;
}

static int add_last(yd_vit *v, const yd_vit_block *b, block *to, yd_err *err)
{
    const size_t d = dim(v);
    int rc = copy(v, b->qkv_weight, d * d, &v->query_w, err);
    if (!rc) rc = copy(v, b->qkv_bias, d, &v->query_b, err);
    return rc ? rc : pack(v, KEY, b->qkv_weight + d * d, b->qkv_bias + d, &to->layer[KEY], err);
}

int yd_vit_add(yd_vit *v, const yd_vit_block *b, yd_err *err)
{
    if (v->n_blocks == v->shape.depth) return yd_fail(err, YD_E_INTERNAL, "a transformer of %d blocks gets another", v->shape.depth);
    block *to = &v->block[v->n_blocks++];
    int rc = copy(v, b->norm1_weight, dim(v), &to->norm[N1_W], err);
    if (!rc) rc = copy(v, b->norm1_bias, dim(v), &to->norm[N1_B], err);
    if (rc) return rc;
    if (v->n_blocks == v->shape.depth) return add_last(v, b, to, err);
    rc = copy(v, b->norm2_weight, dim(v), &to->norm[N2_W], err);
    if (!rc) rc = copy(v, b->norm2_bias, dim(v), &to->norm[N2_B], err);
    if (!rc) rc = pack(v, QKV, b->qkv_weight, b->qkv_bias, &to->layer[QKV], err);
    if (!rc) rc = pack(v, PROJ, b->proj_weight, b->proj_bias, &to->layer[PROJ], err);
    if (!rc) rc = pack(v, FC1, b->fc1_weight, b->fc1_bias, &to->layer[FC1], err);
    return rc ? rc : pack(v, FC2, b->fc2_weight, b->fc2_bias, &to->layer[FC2], err);
}

static void drop_products(yd_vit *v)
{
    yd_product_free(v->scores);
    yd_product_free(v->values);
    v->scores = v->values = NULL;
}

void yd_vit_free(yd_vit *v)
{
    if (!v) return;
    for (int i = 0; v->block && i < v->shape.depth; i++) {
        for (int l = 0; l < LAYERS; l++) yd_packed_clear(&v->block[i].layer[l]);
        for (int n = 0; n < NORMS; n++) yd_free_aligned(v->block[i].norm[n]);
    }
    for (int i = 0; v->seat && i < v->seats; i++) {
        yd_free_aligned(v->seat[i].normed);
        yd_free_aligned(v->seat[i].wide);
        yd_free_aligned(v->seat[i].scores);
    }
    yd_packed_clear(&v->embed);
    drop_products(v);
    for (int l = 0; l < LAYERS; l++) yd_product_free(v->layer[l]);
    float *own[] = {v->class_token, v->learned, v->query_w, v->query_b, v->x, v->qkv, v->query, v->positions};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) yd_free_aligned(own[i]);
    yd_free(v->block);
    yd_free(v->seat);
    yd_rows_free(v->rows);
    yd_free(v);
}

// ---- memory of runs ------------------------------------------------------------------------------------------------

size_t yd_vit_bytes(const yd_vit *v)
{
    const size_t floats = 4 * v->rows_room + v->position_room + (size_t)v->seats * v->score_room + (size_t)v->pictures * dim(v);
    return sizeof *v + v->weight_bytes + floats * sizeof(float);
}

// Make room for n floats where there is less; what was there is lost.
static int make_room(float **p, size_t n, yd_err *err)
{
    yd_free_aligned(*p);
    *p = yd_alloc_aligned(n * sizeof **p);
    return *p ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for a transformer's %zu numbers", n);
}

static int make_rows(yd_vit *v, int n, yd_err *err)
{
    const size_t need = (size_t)n * v->blocks * YD_ROWS * dim(v);
    int rc = 0;
    if (need > v->rows_room) {
        v->rows_room = 0;
        rc = make_room(&v->x, need, err);
        if (!rc) rc = make_room(&v->qkv, 3 * need, err);
        if (!rc) v->rows_room = need;
    }
    if (!rc && n > v->pictures) rc = make_room(&v->query, (size_t)n * dim(v), err);
    return rc;
}

static int make_scores(yd_vit *v, yd_err *err)
{
    const size_t need = YD_ROWS * v->score_row;
    int rc = 0;
    if (need <= v->score_room) return 0;
    v->score_room = 0;
    for (int i = 0; i < v->seats && !rc; i++) rc = make_room(&v->seat[i].scores, need, err);
    if (!rc) v->score_room = need;
    return rc;
}

static int make_positions(yd_vit *v, int gw, int gh, yd_err *err)
{
    const size_t need = v->tokens * dim(v);
    if (need > v->position_room) {
        v->position_room = 0;
        const int rc = make_room(&v->positions, need, err);
        if (rc) return rc;
        v->position_room = need;
    }
    yd_vit_positions(v->learned, v->shape.grid, v->shape.dim, gw, gh, v->positions);
    return 0;
}

static int make_products(yd_vit *v, yd_err *err)
{
    const int d = v->shape.dim, head = d / v->shape.heads, tokens = (int)v->tokens, row = (int)v->score_row;
    drop_products(v);
    int rc = yd_product_new(v->rows, head, tokens, 3 * d, 1, 3 * d, row, &v->scores, err);
    return rc ? rc : yd_product_new(v->rows, tokens, head, row, 3 * d, 1, 3 * d, &v->values, err);
}

int yd_vit_reserve(yd_vit *v, int n, int gw, int gh, yd_err *err)
{
    const int same = v->gw == gw && v->gh == gh;
    int rc = 0;
    if (same && n <= v->pictures) return 0;
    if (!same) {
        v->gw = v->gh = v->pictures = 0;
        v->tokens = 1 + (size_t)gw * (size_t)gh;
        v->blocks = (v->tokens + YD_ROWS - 1) / YD_ROWS;
        v->score_row = (v->tokens + LANE - 1) / LANE * LANE;
        rc = make_positions(v, gw, gh, err);
        if (!rc) rc = make_scores(v, err);
        if (!rc) rc = make_products(v, err);
    }
    if (!rc) rc = make_rows(v, n, err);
    if (rc) {
        v->gw = v->gh = v->pictures = 0;
        return rc;
    }
    v->gw = gw;
    v->gh = gh;
    v->pictures = n;
    return 0;
}

// ---- a block of rows -----------------------------------------------------------------------------------------------

typedef struct run {
    yd_vit *v;
    const float *mean, *deviation;
    const float *const *rgb;
    float *const *raw;
    atomic_int failed;
} run;

// Where a picture's block of rows begins, in rows of all.
static size_t first_row(const yd_vit *v, size_t picture, size_t b)
{
    return (picture * v->blocks + b) * YD_ROWS;
}

static void gather_patch(const run *r, size_t picture, size_t token, float *dst)
{
    const yd_vit *v = r->v;
    const size_t p = (size_t)v->shape.patch, w = (size_t)v->gw * p, y0 = token / (size_t)v->gw * p, x0 = token % (size_t)v->gw * p;
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < p; y++) {
            const float *src = r->rgb[picture] + ((y0 + y) * w + x0) * 3 + c;
            for (size_t x = 0; x < p; x++) *dst++ = (src[3 * x] - r->mean[c]) / r->deviation[c];
        }
}

// Tokens of one block into x.
static int enter(run *r, int s, size_t picture, size_t b)
{
    const yd_vit *v = r->v;
    const size_t d = dim(v), values = patch_values(v);
    float *patches = v->seat[s].wide, *x = v->x + first_row(v, picture, b) * d;
    for (size_t i = 0; i < YD_ROWS; i++) {
        const size_t token = b * YD_ROWS + i;
        if (token == 0 || token >= v->tokens)
            memset(patches + i * values, 0, values * sizeof *patches);
        else
            gather_patch(r, picture, token - 1, patches + i * values);
    }
    if (yd_product_run_layer(v->layer[EMBED], s, patches, &v->embed, x)) return -1;
    if (b == 0) memcpy(x, v->class_token, d * sizeof *x);
    for (size_t i = 0; i < YD_ROWS && b * YD_ROWS + i < v->tokens; i++) yd_add_row(x + i * d, v->positions + (b * YD_ROWS + i) * d, d);
    return 0;
}

static void normalise(const yd_vit *v, const float *x, const float *weight, const float *bias, float *y)
{
    for (size_t i = 0; i < YD_ROWS; i++) yd_norm_row(x + i * dim(v), weight, bias, dim(v), y + i * dim(v));
}

// norm1 and q, k, v of block l; of the last block k, and the class token's q.
static int look(run *r, int s, int l, size_t picture, size_t b)
{
    const yd_vit *v = r->v;
    const block *k = &v->block[l];
    const size_t d = dim(v), at = first_row(v, picture, b);
    float *normed = v->seat[s].normed, *qkv = v->qkv + at * 3 * d;
    normalise(v, v->x + at * d, k->norm[N1_W], k->norm[N1_B], normed);
    if (l + 1 < v->shape.depth) return yd_product_run_layer(v->layer[QKV], s, normed, &k->layer[QKV], qkv);
    for (size_t i = 0; b == 0 && i < d; i++) v->query[picture * d + i] = yd_dot(normed, v->query_w + i * d, d) + v->query_b[i];
    return yd_product_run_layer(v->layer[KEY], s, normed, &k->layer[KEY], qkv + d);
}

// What attention gave goes on through block l.
static int think(run *r, int s, int l, size_t picture, size_t b)
{
    const yd_vit *v = r->v;
    const block *k = &v->block[l];
    const size_t d = dim(v), at = first_row(v, picture, b);
    float *normed = v->seat[s].normed, *wide = v->seat[s].wide, *x = v->x + at * d;
    if (yd_product_run_layer(v->layer[PROJ], s, v->qkv + at * 3 * d, &k->layer[PROJ], x)) return -1;
    normalise(v, x, k->norm[N2_W], k->norm[N2_B], normed);
    if (yd_product_run_layer(v->layer[FC1], s, normed, &k->layer[FC1], wide)) return -1;
    return yd_product_run_layer(v->layer[FC2], s, wide, &k->layer[FC2], x);
}

static float head_scale(const yd_vit *v)
{
    return (float)(1.0 / sqrt((double)(v->shape.dim / v->shape.heads)));
}

// One head of a block of rows: over its q comes what it sees.
static int attend(run *r, int s, size_t picture, size_t b, size_t head)
{
    const yd_vit *v = r->v;
    const size_t d = dim(v), from = head * (d / (size_t)v->shape.heads);
    float *scores = v->seat[s].scores, *q = v->qkv + first_row(v, picture, b) * 3 * d + from;
    const float *keys = v->qkv + first_row(v, picture, 0) * 3 * d + d + from;
    if (yd_product_run(v->scores, s, q, keys, scores)) return -1;
    for (size_t i = 0; i < YD_ROWS; i++) yd_softmax_row(scores + i * v->score_row, head_scale(v), v->tokens);
    return yd_product_run(v->values, s, scores, keys + d, q);
}

// The map of one head: how the class token attends to the patches.
static void show(run *r, int s, size_t picture, size_t head)
{
    const yd_vit *v = r->v;
    const size_t d = dim(v), n = d / (size_t)v->shape.heads, patches = v->tokens - 1;
    float *scores = v->seat[s].scores;
    const float *q = v->query + picture * d + head * n, *key = v->qkv + first_row(v, picture, 0) * 3 * d + d + head * n;
    for (size_t i = 0; i < v->tokens; i++) scores[i] = yd_dot(q, key + i * 3 * d, n);
    yd_softmax_row(scores, head_scale(v), v->tokens);
    memcpy(r->raw[picture] + head * patches, scores + 1, patches * sizeof *scores);
}

// ---- all of it -----------------------------------------------------------------------------------------------------

// Inside the parallel region, by each of its threads.
static void compute(run *r, size_t pictures)
{
    const yd_vit *v = r->v;
    const size_t blocks = pictures * v->blocks, heads = (size_t)v->shape.heads;
    const int s = omp_get_thread_num();
    yd_rows_alone();
#pragma omp for schedule(dynamic)
    for (size_t i = 0; i < blocks; i++)
        if (enter(r, s, i / v->blocks, i % v->blocks) || look(r, s, 0, i / v->blocks, i % v->blocks)) atomic_store(&r->failed, 1);
    for (int l = 0; l + 1 < v->shape.depth; l++) {
#pragma omp for schedule(dynamic)
        for (size_t i = 0; i < blocks * heads; i++)
            if (attend(r, s, i / heads / v->blocks, i / heads % v->blocks, i % heads)) atomic_store(&r->failed, 1);
#pragma omp for schedule(dynamic)
        for (size_t i = 0; i < blocks; i++)
            if (think(r, s, l, i / v->blocks, i % v->blocks) || look(r, s, l + 1, i / v->blocks, i % v->blocks))
                atomic_store(&r->failed, 1);
    }
#pragma omp for schedule(dynamic)
    for (size_t i = 0; i < pictures * heads; i++) show(r, s, i / heads, i % heads);
}

int yd_vit_run(yd_vit *v, int n, int gw, int gh, const float mean[3], const float deviation[3], const float *const *rgb, float *const *raw,
               yd_err *err)
{
    if (v->n_blocks != v->shape.depth || gw != v->gw || gh != v->gh || n > v->pictures)
        return yd_fail(err, YD_E_INTERNAL, "a transformer is run without its blocks or its memory");
    run r = {.v = v, .mean = mean, .deviation = deviation, .rgb = rgb, .raw = raw};
#pragma omp parallel num_threads(v->seats)
    compute(&r, (size_t)n);
    return atomic_load(&r.failed) ? yd_fail(err, YD_E_DEVICE, "oneDNN could not run a transformer's matrix product") : 0;
}
