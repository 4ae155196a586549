// The gradient of a convolution's weights by the adjoint of Winograd's method (wino.h).
//
// The forward y = A'[(GgG') . (B'dB)]A of a tile gives dg = G'[sum over the tiles of (B'dB) . (A dy A')]G: for each of
// the 36 points one matrix product [c x tiles] by [tiles x o], with as many multiplications as the forward.
//
// The tiles pass in chunks. Two schedules, chosen by shape alone. "Grouped": the tiles are cut into groups of fixed
// size with a sum each; a thread takes a group at a time, and nobody waits. "Split", where such sums would be large:
// all threads transform a chunk, then share its 36 products. Groups are joined in their order, so the order of every
// sum is that of the tiles, whatever the number of threads.
//
// Layouts (floats): V [36][tiles of a chunk][c rounded up]; M the same with o; the tiles' sums of dy; these once a
// thread if grouped. Then per group U [36][c][o rounded up] and the total of dy. Planes are padded by a cache line
// (see wino.c).
// Read next: wino.c.
#include "core/cpu/wino_tile.h"
#include <omp.h>

#define CHUNK       96 // tiles: enough to pay for reading and writing U once a chunk
#define MAX_VECTORS 3  // of o in one product
#define MAX_GROUPS  16
#define GROUPED     ((size_t)1 << 20) // floats of U that a group may have: beyond, they cost more than waiting
#define ALL_GROUPS  ((size_t)3 << 19) // and that all may have, two excepted: they should stay in the caches

typedef struct work {
    yd_wino in;          // the input as the forward transforms it
    yd_wino_sizes sizes; // and its tiles
    size_t c, o, o_row, m_plane, u_plane, vectors, blocks;
    size_t groups, group, own; // groups; floats of one; floats of a thread's V, M and sums
    float *v, *m, *sums;       // of one thread
    float *u, *total;          // of one group
} work;

static void set_sizes(const yd_wino_dw *p, work *k)
{
    *k = (work){.in = {.n = p->n, .h = p->h, .w = p->w, .c = p->c, .x = p->x, .x_bf16 = p->x_bf16},
                .c = (size_t)p->c,
                .o = (size_t)p->o};
    yd_wino_sizes *s = &k->sizes;
    s->tiles_x = ((size_t)p->w + 3) / 4;
    s->per_sample = s->tiles_x * (((size_t)p->h + 3) / 4);
    s->tiles = s->per_sample * (size_t)p->n;
    s->rows = s->tiles < CHUNK ? s->tiles : CHUNK;
    s->c = k->c;
    s->c_row = round_up(k->c);
    s->v_plane = s->rows * s->c_row + LANES;
    k->o_row = round_up(k->o);
    k->m_plane = s->rows * k->o_row + LANES;
    k->u_plane = k->c * k->o_row + LANES;
    k->vectors = k->o_row / LANES;
    k->blocks = (k->vectors + MAX_VECTORS - 1) / MAX_VECTORS;
    k->group = POINTS * k->u_plane + k->o_row;
    k->own = POINTS * (s->v_plane + k->m_plane) + s->rows * k->o_row;
    k->groups = 1;
    if (k->group > GROUPED || s->tiles < CHUNK / 2) return;
    k->groups = (s->tiles + CHUNK - 1) / CHUNK;
    if (k->groups > MAX_GROUPS) k->groups = MAX_GROUPS;
    if (k->groups * k->group > ALL_GROUPS) k->groups = ALL_GROUPS / k->group;
    if (k->groups < 2) k->groups = 2;
}

size_t yd_wino_dw_scratch(const yd_wino_dw *p, int threads)
{
    work k;
    set_sizes(p, &k);
    return (k.groups * k.group + (k.groups > 1 ? (size_t)threads : 1) * k.own) * sizeof(float);
}

#if defined(__x86_64__)

// A of one line: 4 -> 6.
INLINED void line_spread(const vec d[4], vec out[6])
{
    const vec a = _mm512_set1_ps(PA), b = _mm512_set1_ps(PB), a2 = _mm512_set1_ps(PA2), b2 = _mm512_set1_ps(PB2);
    vec even = _mm512_fmadd_ps(a2, d[2], d[0]), odd = _mm512_mul_ps(a, _mm512_fmadd_ps(a2, d[3], d[1]));
    out[0] = d[0];
    out[1] = _mm512_add_ps(even, odd);
    out[2] = _mm512_sub_ps(even, odd);
    even = _mm512_fmadd_ps(b2, d[2], d[0]);
    odd = _mm512_mul_ps(b, _mm512_fmadd_ps(b2, d[3], d[1]));
    out[3] = _mm512_add_ps(even, odd);
    out[4] = _mm512_sub_ps(even, odd);
    out[5] = d[3];
}

// G' of one line: 6 -> 3.
INLINED void line_gather(const vec d[6], vec out[3])
{
    const vec a = _mm512_set1_ps(PA), b = _mm512_set1_ps(PB), a2 = _mm512_set1_ps(PA2), b2 = _mm512_set1_ps(PB2);
    const vec na = _mm512_set1_ps(1 / (2 * PA2 * (PA2 - PB2))), nb = _mm512_set1_ps(1 / (2 * PB2 * (PB2 - PA2)));
    vec sum_a = _mm512_mul_ps(na, _mm512_add_ps(d[1], d[2])), dif_a = _mm512_mul_ps(na, _mm512_sub_ps(d[1], d[2]));
    vec sum_b = _mm512_mul_ps(nb, _mm512_add_ps(d[3], d[4])), dif_b = _mm512_mul_ps(nb, _mm512_sub_ps(d[3], d[4]));
    out[0] = _mm512_fmadd_ps(_mm512_set1_ps(1 / (PA2 * PB2)), d[0], _mm512_add_ps(sum_a, sum_b));
    out[1] = _mm512_fmadd_ps(a, dif_a, _mm512_mul_ps(b, dif_b));
    out[2] = _mm512_fmadd_ps(a2, sum_a, _mm512_fmadd_ps(b2, sum_b, d[5]));
}

// A dy A' of one tile, row `row` of M, and the sum of its pixels. Pixels outside the map are zero.
INLINED void spread_tile(const yd_wino_dw *p, const work *k, yd_wino_tile t, size_t row, int bf16, int whole)
{
    size_t at[4][4];
    __mmask16 inside[4][4];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int in = t.y + i < p->h && t.x + j < p->w;
            inside[i][j] = in ? 0xffffu : 0;
            at[i][j] =
                in ? ((t.sample * (size_t)p->h + (size_t)(t.y + i)) * (size_t)p->w + (size_t)(t.x + j)) * k->o : 0;
        }
    float *m = k->m + row * k->o_row, *sums = k->sums + row * k->o_row;
    for (size_t o = 0; o < k->o; o += LANES) {
        const __mmask16 some = lanes(k->o - o);
        vec half[6][4], sum = _mm512_setzero_ps();
        for (int j = 0; j < 4; j++) {
            vec d[4], out[6];
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) d[i] = load(p->dy, at[i][j] + o, bf16, whole, (__mmask16)(some & inside[i][j]));
            sum = _mm512_add_ps(sum, _mm512_add_ps(_mm512_add_ps(d[0], d[1]), _mm512_add_ps(d[2], d[3])));
            line_spread(d, out);
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++) half[i][j] = out[i];
        }
        for (int i = 0; i < 6; i++) {
            vec out[6];
            line_spread(half[i], out);
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++) _mm512_store_ps(m + (size_t)(i * 6 + j) * k->m_plane + o, out[j]);
        }
        _mm512_store_ps(sums + o, sum);
    }
}

AVX512 static void tile_grad(const yd_wino_dw *p, const work *k, yd_wino_tile t, size_t row)
{
    const int whole = t.y + 4 <= p->h && t.x + 4 <= p->w && k->o % LANES == 0;
    if (whole && p->dy_bf16)
        spread_tile(p, k, t, row, 1, 1);
    else if (whole)
        spread_tile(p, k, t, row, 0, 1);
    else
        spread_tile(p, k, t, row, p->dy_bf16, 0);
}

// u[R][V vectors] = or += sum over n tiles of v[tile][R] * m[tile][V vectors]
#define PRODUCT(R, V)                                                                                                  \
    AVX512 static void product_##R##x##V(const float *restrict v, size_t v_row, const float *restrict m, size_t row,   \
                                         size_t n, int first, float *restrict u)                                       \
    {                                                                                                                  \
        vec sum[R][V];                                                                                                 \
        _Pragma("GCC unroll 8") for (int i = 0; i < R; i++) _Pragma("GCC unroll 4") for (int j = 0; j < V; j++)        \
            sum[i][j] = first ? _mm512_setzero_ps() : _mm512_load_ps(u + (size_t)i * row + j * LANES);                 \
        for (size_t q = 0; q < n; q++, v += v_row, m += row) {                                                         \
            vec y[V];                                                                                                  \
            _Pragma("GCC unroll 4") for (int j = 0; j < V; j++) y[j] = _mm512_load_ps(m + j * LANES);                  \
            _Pragma("GCC unroll 8") for (int i = 0; i < R; i++)                                                        \
            {                                                                                                          \
                const vec x = _mm512_set1_ps(v[i]);                                                                    \
                _Pragma("GCC unroll 4") for (int j = 0; j < V; j++) sum[i][j] = _mm512_fmadd_ps(x, y[j], sum[i][j]);   \
            }                                                                                                          \
        }                                                                                                              \
        _Pragma("GCC unroll 8") for (int i = 0; i < R; i++) _Pragma("GCC unroll 4") for (int j = 0; j < V; j++)        \
            _mm512_store_ps(u + (size_t)i * row + j * LANES, sum[i][j]);                                               \
    }
#define UP_TO_8(V)                                                                                                     \
    PRODUCT(1, V) PRODUCT(2, V) PRODUCT(3, V) PRODUCT(4, V) PRODUCT(5, V) PRODUCT(6, V) PRODUCT(7, V) PRODUCT(8, V)
UP_TO_8(1)
UP_TO_8(2)
UP_TO_8(3)
#define ROWS(V)                                                                                                        \
    {                                                                                                                  \
        0, product_1x##V, product_2x##V, product_3x##V, product_4x##V, product_5x##V, product_6x##V, product_7x##V,    \
            product_8x##V                                                                                              \
    }

typedef void (*product)(const float *restrict v, size_t v_row, const float *restrict m, size_t row, size_t n, int first,
                        float *restrict u);
static const product products[MAX_VECTORS + 1][9] = {[1] = ROWS(1), [2] = ROWS(2), [3] = ROWS(3)};

// One point's product for one block of o, the n tiles of a chunk; rows of c in nearly equal parts of up to 8.
static void multiply(const work *k, size_t point, size_t block, size_t n, int first)
{
    const size_t from = block * k->vectors / k->blocks, vectors = (block + 1) * k->vectors / k->blocks - from;
    const float *v = k->v + point * k->sizes.v_plane, *m = k->m + point * k->m_plane + from * LANES;
    float *u = k->u + point * k->u_plane + from * LANES;
    const size_t parts = (k->c + 7) / 8;
    for (size_t part = 0, r = 0; part < parts; part++) {
        size_t rows = (k->c - r + parts - part - 1) / (parts - part);
        products[vectors][rows](v + r, k->sizes.c_row, m, k->o_row, n, first, u + r * k->o_row);
        r += rows;
    }
}

static void add_sums(const work *k, size_t n, int first)
{
    for (size_t o = 0; o < k->o; o++) {
        float sum = 0;
        for (size_t i = 0; i < n; i++) sum += k->sums[i * k->o_row + o];
        k->total[o] = first ? sum : k->total[o] + sum;
    }
}

// G'uG of LANES filters, u being the sum of all groups: input channel c, results from o on.
AVX512 static void filters_out(const yd_wino_dw *p, const work *k, size_t o, size_t c)
{
    const float *u = k->u + c * k->o_row + o;
    vec half[3][6];
    float taps[9][LANES] __attribute__((aligned(64)));
    for (int j = 0; j < 6; j++) {
        vec d[6], out[3];
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) d[i] = _mm512_load_ps(u + (size_t)(i * 6 + j) * k->u_plane);
        for (size_t g = 1; g < k->groups; g++) {
            const float *more = u + g * k->group;
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                d[i] = _mm512_add_ps(d[i], _mm512_load_ps(more + (size_t)(i * 6 + j) * k->u_plane));
        }
        line_gather(d, out);
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++) half[i][j] = out[i];
    }
    for (int i = 0; i < 3; i++) {
        vec out[3];
        line_gather(half[i], out);
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++) _mm512_store_ps(taps[i * 3 + j], out[j]);
    }
    for (size_t l = 0; l < LANES && o + l < k->o; l++)
        for (int t = 0; t < 9; t++) p->dw[((o + l) * k->c + c) * 9 + (size_t)t] = taps[t][l];
}

static void transform(const yd_wino_dw *p, const work *k, size_t t, size_t row)
{
    const yd_wino_sizes *s = &k->sizes;
    yd_wino_tile_in(&k->in, s, tile_at(s, t), 0, k->c, k->v + row * s->c_row);
    tile_grad(p, k, tile_at(s, t), row);
}

static void use_thread(work *k, float *own, size_t thread)
{
    k->v = own + thread * k->own;
    k->m = k->v + POINTS * k->sizes.v_plane;
    k->sums = k->m + POINTS * k->m_plane;
}

static void use_group(work *k, float *groups, size_t group)
{
    k->u = groups + group * k->group;
    k->total = k->u + POINTS * k->u_plane;
}

// All tiles of one group, by one thread.
static void run_group(const yd_wino_dw *p, const work *k, size_t group)
{
    const size_t tiles = k->sizes.tiles, begin = tiles * group / k->groups, end = tiles * (group + 1) / k->groups;
    for (size_t from = begin; from < end; from += k->sizes.rows) {
        const size_t left = end - from, n = left < k->sizes.rows ? left : k->sizes.rows;
        for (size_t i = 0; i < n; i++) transform(p, k, from + i, i);
        for (size_t i = 0; i < POINTS * k->blocks; i++) multiply(k, i % POINTS, i / POINTS, n, from == begin);
        add_sums(k, n, from == begin);
    }
}

// All tiles, by all threads: in a parallel region.
static void run_split(const yd_wino_dw *p, const work *k)
{
    const yd_wino_sizes *s = &k->sizes;
    for (size_t from = 0; from < s->tiles; from += s->rows) {
        const size_t left = s->tiles - from, n = left < s->rows ? left : s->rows;
#pragma omp for schedule(static)
        for (size_t i = 0; i < n; i++) transform(p, k, from + i, i);
#pragma omp for schedule(static)
        for (size_t i = 0; i <= POINTS * k->blocks; i++) {
            if (i < POINTS * k->blocks)
                multiply(k, i % POINTS, i / POINTS, n, from == 0);
            else
                add_sums(k, n, from == 0);
        }
    }
}

void yd_wino_dw_run(const yd_wino_dw *p, void *scratch, int threads)
{
    work k;
    set_sizes(p, &k);
    float *const groups = scratch, *const own = groups + k.groups * k.group;
    use_group(&k, groups, 0);
    use_thread(&k, own, 0);
#pragma omp parallel num_threads(threads)
    {
        if (k.groups == 1) run_split(p, &k);
        work mine = k;
        if (k.groups > 1) use_thread(&mine, own, (size_t)omp_get_thread_num());
#pragma omp for schedule(dynamic)
        for (size_t g = k.groups > 1 ? 0 : 1; g < k.groups; g++) {
            use_group(&mine, groups, g);
            run_group(p, &mine, g);
        }
#pragma omp for schedule(static)
        for (size_t i = 0; i < k.vectors * k.c; i++) filters_out(p, &k, i / k.c * LANES, i % k.c);
    }
    if (!p->db) return;
    for (size_t o = 0; o < k.o; o++) {
        p->db[o] = k.total[o];
        for (size_t g = 1; g < k.groups; g++) p->db[o] += k.total[g * k.group + o];
    }
}

#else

void yd_wino_dw_run(const yd_wino_dw *p, void *scratch, int threads)
{
    (void)p;
    (void)scratch;
    (void)threads;
}

#endif
