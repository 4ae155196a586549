// The Winograd kernel of wino.h: B'dB of each input tile, 36 matrix products over the channels, A'mA of each result.
//
// Interpolation points 0, +-3/4, +-3/2 and infinity: all constants are exact in f32 and the errors are about a third
// of those of the customary 0, +-1, +-2. The products are [tiles x c] by [c x o], one for each of the 36 points, with
// the results of up to 6x64 or 8x48 (tiles x channels) held in registers.
//
// Two schedules, equal in bits. "Fused": each thread takes 16 tiles through all three stages, its data staying in the
// second-level cache while the weights pass by. "Split", where the weights outweigh the data: all threads share each
// stage, and each part of the weights is read by one thread, once.
//
// Layouts (floats): u [output block][36][c][width of the block]; V [36][tiles][c rounded up]; M [36][tiles][width].
// Each of V's and M's 36 planes is padded by a cache line: planes a multiple of 4 KiB apart would fight for one cache
// set. Read next: conv.c.
#include "core/cpu/wino_tile.h"
#include "core/graph.h"
#include "core/simd.h"
#include <omp.h>

#define TILES       16 // tiles of one fused block
#define MAX_VECTORS 4  // vectors of one output block

// The channels of the result in blocks of nearly equal numbers of vectors, at most MAX_VECTORS each.
typedef struct blocks {
    size_t vectors, count;
} blocks;

static blocks blocks_of(int o)
{
    size_t v = ((size_t)o + LANES - 1) / LANES;
    return (blocks){v, (v + MAX_VECTORS - 1) / MAX_VECTORS};
}

static size_t block_start(const blocks *b, size_t i)
{
    size_t larger = b->vectors % b->count;
    return i * (b->vectors / b->count) + (i < larger ? i : larger);
}

static yd_wino_sizes sizes_of(const yd_wino *p)
{
    yd_wino_sizes s = {.tiles_x = ((size_t)p->w + 3) / 4, .c = (size_t)p->c};
    s.per_sample = s.tiles_x * (((size_t)p->h + 3) / 4);
    s.tiles = s.per_sample * (size_t)p->n;
    s.split = s.c * (size_t)p->o > s.tiles * (s.c + (size_t)p->o);
    s.rows = s.split ? s.tiles : TILES;
    s.c_row = round_up(s.c);
    blocks b = blocks_of(p->o);
    s.v_plane = s.rows * s.c_row + LANES;
    s.m_plane = s.rows * (block_start(&b, 1) * LANES) + LANES;
    return s;
}

// --- weights

size_t yd_wino_weights_count(int c, int o)
{
    return POINTS * (size_t)c * blocks_of(o).vectors * LANES;
}

// G of one column of LANES filters: 3 -> 6. In double; the order of the operations decides bits.
YD_INLINE void spread(double g[3][LANES], double out[6][LANES])
{
    const double a = (double)PA, b = (double)PB, a2 = (double)PA2, b2 = (double)PB2, na = 1 / (2 * a2 * (a2 - b2)),
                 nb = 1 / (2 * b2 * (b2 - a2));
#pragma omp simd
    for (int l = 0; l < LANES; l++) {
        out[0][l] = g[0][l] / (a2 * b2);
        out[1][l] = (g[0][l] + a2 * g[2][l] + a * g[1][l]) * na;
        out[2][l] = (g[0][l] + a2 * g[2][l] - a * g[1][l]) * na;
        out[3][l] = (g[0][l] + b2 * g[2][l] + b * g[1][l]) * nb;
        out[4][l] = (g[0][l] + b2 * g[2][l] - b * g[1][l]) * nb;
        out[5][l] = g[2][l];
    }
}

// `count` filters that lie `step` floats apart, as columns of u; the points are `plane` floats apart. What lacks of
// LANES is zero.
YD_SIMD
static void transform_filters(const float *w, size_t step, size_t count, int turned, float *u, size_t plane)
{
    double col[3][3][LANES], half[3][6][LANES], row[3][LANES], out[6][LANES];
    for (int l = 0; l < LANES; l++)
        for (int k = 0; k < 9; k++) {
            int at = turned ? 8 - k : k;
            col[k % 3][k / 3][l] = (size_t)l < count ? (double)w[(size_t)l * step + (size_t)at] : 0;
        }
    for (int j = 0; j < 3; j++) spread(col[j], half[j]);
    for (int i = 0; i < 6; i++) {
        for (int j = 0; j < 3; j++) memcpy(row[j], half[j][i], sizeof row[j]);
        spread(row, out);
        for (int j = 0; j < 6; j++) {
            float *to = u + (size_t)(i * 6 + j) * plane;
#pragma omp simd
            for (int l = 0; l < LANES; l++) to[l] = (float)out[j][l];
        }
    }
}

void yd_wino_weights(const float *w, int c, int o, int turned, float *u, int threads)
{
    blocks b = blocks_of(o);
    const size_t nc = (size_t)c, no = (size_t)o, in_step = turned ? 9 * no : 9, out_step = turned ? 9 : 9 * nc;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t k = 0; k < b.count * nc; k++) {
        size_t block = k / nc, ci = k % nc, from = block_start(&b, block) * LANES,
               width = block_start(&b, block + 1) * LANES - from;
        float *out = u + POINTS * nc * from + ci * width;
        for (size_t j = 0; j < width; j += LANES) {
            size_t left = no - from - j;
            transform_filters(w + ci * in_step + (from + j) * out_step, out_step, left < LANES ? left : LANES, turned,
                              out + j, nc * width);
        }
    }
}

#if defined(__x86_64__)
int yd_wino_here(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
}

// Rounds as yd_to_bf16() does.
INLINED void store(void *p, size_t i, int bf16, int all, __mmask16 m, vec v)
{
    if (!bf16) {
        if (all)
            _mm512_storeu_ps((float *)p + i, v);
        else
            _mm512_mask_storeu_ps((float *)p + i, m, v);
        return;
    }
    __m512i u = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
    r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), quiet);
    if (all)
        _mm256_storeu_si256((void *)((uint16_t *)p + i), _mm512_cvtepi32_epi16(r));
    else
        _mm256_mask_storeu_epi16((uint16_t *)p + i, m, _mm512_cvtepi32_epi16(r));
}

// --- the transforms of one line

INLINED void line_in(const vec d[6], vec out[6])
{
    const vec a = _mm512_set1_ps(PA), b = _mm512_set1_ps(PB), a2 = _mm512_set1_ps(PA2), b2 = _mm512_set1_ps(PB2);
    const vec product = _mm512_set1_ps(PA2 * PB2), sum = _mm512_set1_ps(PA2 + PB2);
    vec even = _mm512_fnmadd_ps(b2, d[2], d[4]), odd = _mm512_fnmadd_ps(b2, d[1], d[3]);
    out[0] = _mm512_fmadd_ps(product, d[0], _mm512_fnmadd_ps(sum, d[2], d[4]));
    out[1] = _mm512_fmadd_ps(a, odd, even);
    out[2] = _mm512_fnmadd_ps(a, odd, even);
    even = _mm512_fnmadd_ps(a2, d[2], d[4]);
    odd = _mm512_fnmadd_ps(a2, d[1], d[3]);
    out[3] = _mm512_fmadd_ps(b, odd, even);
    out[4] = _mm512_fnmadd_ps(b, odd, even);
    out[5] = _mm512_fmadd_ps(product, d[1], _mm512_fnmadd_ps(sum, d[3], d[5]));
}

INLINED void line_out(const vec m[6], vec out[4])
{
    const vec a = _mm512_set1_ps(PA), b = _mm512_set1_ps(PB), a2 = _mm512_set1_ps(PA2), b2 = _mm512_set1_ps(PB2);
    const vec a3 = _mm512_set1_ps(PA2 * PA), b3 = _mm512_set1_ps(PB2 * PB);
    vec sum_a = _mm512_add_ps(m[1], m[2]), dif_a = _mm512_sub_ps(m[1], m[2]);
    vec sum_b = _mm512_add_ps(m[3], m[4]), dif_b = _mm512_sub_ps(m[3], m[4]);
    out[0] = _mm512_add_ps(m[0], _mm512_add_ps(sum_a, sum_b));
    out[1] = _mm512_fmadd_ps(a, dif_a, _mm512_mul_ps(b, dif_b));
    out[2] = _mm512_fmadd_ps(a2, sum_a, _mm512_mul_ps(b2, sum_b));
    out[3] = _mm512_fmadd_ps(a3, dif_a, _mm512_fmadd_ps(b3, dif_b, m[5]));
}

// --- one tile

// Both directions of one vector's patch; v is its place in the first plane. The outer loops stay loops: unrolled they
// would not fit the instruction cache.
#define TRANSFORM_IN(LOAD)                                                                                             \
    vec half[6][6];                                                                                                    \
    for (int j = 0; j < 6; j++) {                                                                                      \
        vec d[6], out[6];                                                                                              \
        _Pragma("GCC unroll 6") for (int i = 0; i < 6; i++) d[i] = LOAD;                                               \
        line_in(d, out);                                                                                               \
        _Pragma("GCC unroll 6") for (int i = 0; i < 6; i++) half[i][j] = out[i];                                       \
    }                                                                                                                  \
    for (int i = 0; i < 6; i++) {                                                                                      \
        vec out[6];                                                                                                    \
        line_in(half[i], out);                                                                                         \
        _Pragma("GCC unroll 6") for (int j = 0; j < 6; j++)                                                            \
            _mm512_storeu_ps(v + (size_t)(i * 6 + j) * s->v_plane + c, out[j]);                                        \
    }

// Channels [c0, c1) of a patch that lies inside the map, with channels that fill vectors. Read at twice its size, a
// patch's rows are 0 1 1 2 2 3 of the small map, likewise its columns.
INLINED void tile_in_whole(const yd_wino *p, const yd_wino_sizes *s, yd_wino_tile t, size_t c0, size_t c1, float *v,
                           int bf16, int up)
{
    const size_t h = (size_t)p->h >> up, w = (size_t)p->w >> up, row = w * s->c;
    const size_t base = (t.sample * h + ((size_t)(t.y - 1) >> up)) * row + ((size_t)(t.x - 1) >> up) * s->c;
    for (size_t c = c0; c < c1; c += LANES) {
        TRANSFORM_IN(load(p->x,
                          base + (up ? (size_t)(i + 1) / 2 : (size_t)i) * row +
                              (up ? (size_t)(j + 1) / 2 : (size_t)j) * s->c + c,
                          bf16, 1, 0))
    }
}

// Where row or column i of a mirrored map of n is read; -1: outside. What is more than one beyond the border reaches no result.
static inline int mirrored(int i, int n, int reflect)
{
    if (reflect && i == -1) return 1;
    if (reflect && i == n) return n - 2;
    return i >= 0 && i < n ? i : -1;
}

// The same for any patch: what lies outside is zero, or one pixel of it the mirror image.
INLINED void tile_in_part(const yd_wino *p, const yd_wino_sizes *s, yd_wino_tile t, size_t c0, size_t c1, float *v,
                          int bf16)
{
    const size_t h = (size_t)(p->h >> p->up), w = (size_t)(p->w >> p->up);
    size_t row_at[6], col_at[6];
    int rows[6], cols[6]; // which lie inside the map
    for (int i = 0; i < 6; i++) {
        int y = mirrored(t.y - 1 + i, p->h, p->reflect), x = mirrored(t.x - 1 + i, p->w, p->reflect);
        rows[i] = y >= 0;
        cols[i] = x >= 0;
        row_at[i] = (t.sample * h + (rows[i] ? (size_t)y >> p->up : 0)) * w * s->c;
        col_at[i] = (cols[i] ? (size_t)x >> p->up : 0) * s->c;
    }
    for (size_t c = c0; c < c1; c += LANES) {
        const __mmask16 some = lanes(s->c - c);
        TRANSFORM_IN(load(p->x, row_at[i] + col_at[j] + c, bf16, 0, rows[i] && cols[j] ? some : 0))
    }
}

AVX512 void yd_wino_tile_in(const yd_wino *p, const yd_wino_sizes *s, yd_wino_tile t, size_t c0, size_t c1, float *v)
{
    const int whole = t.y > 0 && t.x > 0 && t.y + 5 <= p->h && t.x + 5 <= p->w && s->c % LANES == 0;
    switch (whole * 4 + p->up * 2 + p->x_bf16) {
    case 7:
        tile_in_whole(p, s, t, c0, c1, v, 1, 1);
        break;
    case 6:
        tile_in_whole(p, s, t, c0, c1, v, 0, 1);
        break;
    case 5:
        tile_in_whole(p, s, t, c0, c1, v, 1, 0);
        break;
    case 4:
        tile_in_whole(p, s, t, c0, c1, v, 0, 0);
        break;
    default:
        if (p->x_bf16)
            tile_in_part(p, s, t, c0, c1, v, 1);
        else
            tile_in_part(p, s, t, c0, c1, v, 0);
    }
}

// As yd_exp() of vec.h.
INLINED vec exp_of(vec x)
{
    const vec magic = _mm512_set1_ps(12582912.0f);
    x = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(87.0f)), _mm512_set1_ps(-87.0f));
    vec t = _mm512_fmadd_ps(x, _mm512_set1_ps(1.44269504f), magic), k = _mm512_sub_ps(t, magic);
    vec r = _mm512_fmadd_ps(k, _mm512_set1_ps(2.12194440e-4f), _mm512_fnmadd_ps(k, _mm512_set1_ps(0.693359375f), x));
    vec p = _mm512_set1_ps(1.98412698e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.38888889e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.33333333e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.16666667e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.66666667e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}

// As yd_mish() of vec.h.
INLINED vec mish_of(vec x)
{
    const vec two = _mm512_set1_ps(2.0f), e = exp_of(_mm512_min_ps(x, _mm512_set1_ps(20.0f))),
              n = _mm512_mul_ps(e, _mm512_add_ps(e, two));
    return _mm512_mul_ps(x, _mm512_div_ps(n, _mm512_add_ps(n, two)));
}

INLINED vec act_of(const yd_wino *p, vec z)
{
    if (p->act == YD_ACT_MISH) return mish_of(z);
    if (p->act == YD_ACT_LEAKY) return _mm512_max_ps(z, _mm512_mul_ps(z, _mm512_set1_ps(p->slope)));
    return z;
}

// One vector of a tile's results, from output channel o on; m is its place in the first plane. `whole`: all 16 pixels
// lie inside the map and the channels fill the vector. `ended`: something is done to the sums.
INLINED void tile_out_body(const yd_wino *p, yd_wino_tile t, size_t o, const float *m, size_t plane, int y_bf16,
                           int res, int whole, int ended)
{
    const size_t channels = (size_t)p->o;
    const __mmask16 some = lanes(channels - o);
    const vec bias = p->bias ? load(p->bias, o, 0, 0, some) : _mm512_setzero_ps();
    const vec v = ended && p->v ? load(p->v, t.sample * channels + o, 0, 0, some) : _mm512_setzero_ps();
    vec half[4][6];
    for (int j = 0; j < 6; j++) {
        vec d[6], out[4];
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) d[i] = _mm512_loadu_ps(m + (size_t)(i * 6 + j) * plane);
        line_out(d, out);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) half[i][j] = out[i];
    }
    for (int i = 0; i < 4; i++) {
        vec out[4];
        if (!whole && t.y + i >= p->h) break;
        line_out(half[i], out);
        size_t at = ((t.sample * (size_t)p->h + (size_t)(t.y + i)) * (size_t)p->w + (size_t)t.x) * channels + o;
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++, at += channels) {
            if (!whole && t.x + j >= p->w) break;
            vec y = _mm512_add_ps(out[j], bias);
            if (ended) y = _mm512_add_ps(act_of(p, y), v);
            if (res) y = _mm512_add_ps(y, load(p->res, at, p->res_bf16, whole, some));
            store(p->y, at, y_bf16, whole, some, y);
        }
    }
}

// `vectors` vectors of results from output channel o on.
AVX512 static void tile_out(const yd_wino *p, yd_wino_tile t, size_t o, size_t vectors, const float *m, size_t plane)
{
    const int inside = t.y + 4 <= p->h && t.x + 4 <= p->w, ended = p->act != YD_ACT_NONE || p->v;
    for (; vectors; vectors--, o += LANES, m += LANES) {
        const int whole = inside && (size_t)p->o - o >= LANES;
        if (ended && whole)
            tile_out_body(p, t, o, m, plane, p->y_bf16, p->res != NULL, 1, 1);
        else if (!whole)
            tile_out_body(p, t, o, m, plane, p->y_bf16, p->res != NULL, 0, ended);
        else if (!p->y_bf16 && !p->res)
            tile_out_body(p, t, o, m, plane, 0, 0, 1, 0);
        else if (!p->y_bf16)
            tile_out_body(p, t, o, m, plane, 0, 1, 1, 0);
        else
            tile_out_body(p, t, o, m, plane, 1, p->res != NULL, 1, 0);
    }
}

// --- the matrix products

// m[R][V vectors] = a[R][k] b[k][V vectors]
#define MICRO(R, V)                                                                                                    \
    AVX512 static void micro_##R##x##V(const float *restrict a, size_t a_row, const float *restrict b,                 \
                                       float *restrict m, size_t k)                                                    \
    {                                                                                                                  \
        vec sum[R][V];                                                                                                 \
        _Pragma("GCC unroll 8") for (int i = 0; i < R; i++) _Pragma("GCC unroll 4") for (int j = 0; j < V; j++)        \
            sum[i][j] = _mm512_setzero_ps();                                                                           \
        for (size_t q = 0; q < k; q++, b += (V)*LANES) {                                                               \
            vec row[V];                                                                                                \
            _Pragma("GCC unroll 4") for (int j = 0; j < V; j++) row[j] = _mm512_load_ps(b + j * LANES);                \
            _Pragma("GCC unroll 8") for (int i = 0; i < R; i++)                                                        \
            {                                                                                                          \
                const vec x = _mm512_set1_ps(a[(size_t)i * a_row + q]);                                                \
                _Pragma("GCC unroll 4") for (int j = 0; j < V; j++) sum[i][j] = _mm512_fmadd_ps(x, row[j], sum[i][j]); \
            }                                                                                                          \
        }                                                                                                              \
        _Pragma("GCC unroll 8") for (int i = 0; i < R; i++) _Pragma("GCC unroll 4") for (int j = 0; j < V; j++)        \
            _mm512_store_ps(m + (i * V + j) * LANES, sum[i][j]);                                                       \
    }
#define UP_TO_6(V) MICRO(1, V) MICRO(2, V) MICRO(3, V) MICRO(4, V) MICRO(5, V) MICRO(6, V)
#define UP_TO_8(V) UP_TO_6(V) MICRO(7, V) MICRO(8, V)
UP_TO_8(1)
UP_TO_8(2)
UP_TO_8(3)
UP_TO_6(4)

typedef void (*micro)(const float *restrict a, size_t a_row, const float *restrict b, float *restrict m, size_t k);

// By vectors and rows. More rows than these do not fit into 32 registers.
static const struct {
    size_t rows;
    micro with[9];
} kernels[MAX_VECTORS + 1] = {
    [1] = {8, {0, micro_1x1, micro_2x1, micro_3x1, micro_4x1, micro_5x1, micro_6x1, micro_7x1, micro_8x1}},
    [2] = {8, {0, micro_1x2, micro_2x2, micro_3x2, micro_4x2, micro_5x2, micro_6x2, micro_7x2, micro_8x2}},
    [3] = {8, {0, micro_1x3, micro_2x3, micro_3x3, micro_4x3, micro_5x3, micro_6x3, micro_7x3, micro_8x3}},
    [4] = {6, {0, micro_1x4, micro_2x4, micro_3x4, micro_4x4, micro_5x4, micro_6x4}},
};

// m[rows][vectors] = a[rows][k] b[k][vectors], the rows in nearly equal parts.
static void multiply(const float *a, size_t a_row, const float *b, float *m, size_t rows, size_t k, size_t vectors)
{
    size_t parts = (rows + kernels[vectors].rows - 1) / kernels[vectors].rows;
    for (size_t part = 0, r = 0; part < parts; part++) {
        size_t n = (rows - r + parts - part - 1) / (parts - part);
        kernels[vectors].with[n](a + r * a_row, a_row, b, m + r * vectors * LANES, k);
        r += n;
    }
}

// --- schedules

static size_t bytes_per_thread(const yd_wino_sizes *s)
{
    return POINTS * (s->v_plane + s->m_plane) * sizeof(float);
}

size_t yd_wino_scratch(const yd_wino *p, int threads)
{
    yd_wino_sizes s = sizes_of(p);
    blocks b = blocks_of(p->o);
    if (!s.split) return (size_t)threads * bytes_per_thread(&s);
    return POINTS * (s.v_plane + b.count * s.m_plane) * sizeof(float);
}

static void fused_block(const yd_wino *p, const yd_wino_sizes *s, size_t first, float *v)
{
    float *m = v + POINTS * s->v_plane;
    const size_t left = s->tiles - first, n = left < TILES ? left : TILES;
    const blocks b = blocks_of(p->o);
    for (size_t i = 0; i < n; i++) yd_wino_tile_in(p, s, tile_at(s, first + i), 0, s->c, v + i * s->c_row);
    for (size_t k = 0; k < b.count; k++) {
        const size_t from = block_start(&b, k), vectors = block_start(&b, k + 1) - from, width = vectors * LANES;
        const float *u = p->u + POINTS * s->c * from * LANES;
        for (size_t i = 0; i < POINTS; i++)
            multiply(v + i * s->v_plane, s->c_row, u + i * s->c * width, m + i * s->m_plane, n, s->c, vectors);
        for (size_t i = 0; i < n; i++)
            tile_out(p, tile_at(s, first + i), from * LANES, vectors, m + i * width, s->m_plane);
    }
}

static void run_fused(const yd_wino *p, const yd_wino_sizes *s, char *scratch, int threads)
{
    const size_t count = (s->tiles + TILES - 1) / TILES, mine = bytes_per_thread(s);
#pragma omp parallel num_threads(threads)
    {
        float *v = (float *)(void *)(scratch + (size_t)omp_get_thread_num() * mine);
#pragma omp for schedule(dynamic) nowait // whoever is held up by other programs leaves blocks to the others
        for (size_t i = 0; i < count; i++) fused_block(p, s, i * TILES, v);
    }
}

static void run_split(const yd_wino *p, const yd_wino_sizes *s, float *v, int threads)
{
    const blocks b = blocks_of(p->o);
    float *m = v + POINTS * s->v_plane;
    const size_t chunk = 4 * LANES, chunks = (s->c + chunk - 1) / chunk;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (size_t i = 0; i < s->tiles * chunks; i++) {
            size_t t = i / chunks, c0 = i % chunks * chunk, c1 = c0 + chunk < s->c ? c0 + chunk : s->c;
            yd_wino_tile_in(p, s, tile_at(s, t), c0, c1, v + t * s->c_row);
        }
#pragma omp for schedule(static)
        for (size_t i = 0; i < b.count * POINTS; i++) {
            size_t block = i / POINTS, point = i % POINTS, from = block_start(&b, block),
                   vectors = block_start(&b, block + 1) - from;
            multiply(v + point * s->v_plane, s->c_row, p->u + (POINTS * from + point * vectors) * LANES * s->c,
                     m + i * s->m_plane, s->tiles, s->c, vectors);
        }
#pragma omp for schedule(static) nowait
        for (size_t i = 0; i < s->tiles * b.count; i++) {
            size_t t = i / b.count, block = i % b.count, from = block_start(&b, block),
                   vectors = block_start(&b, block + 1) - from;
            tile_out(p, tile_at(s, t), from * LANES, vectors, m + block * POINTS * s->m_plane + t * vectors * LANES,
                     s->m_plane);
        }
    }
}

void yd_wino_run(const yd_wino *p, void *scratch, int threads)
{
    yd_wino_sizes s = sizes_of(p);
    if (s.split)
        run_split(p, &s, scratch, threads);
    else
        run_fused(p, &s, scratch, threads);
}

#else

int yd_wino_here(void)
{
    return 0;
}
size_t yd_wino_scratch(const yd_wino *p, int threads)
{
    (void)p;
    (void)threads;
    return 0;
}
void yd_wino_run(const yd_wino *p, void *scratch, int threads)
{
    (void)p;
    (void)scratch;
    (void)threads;
}

#endif
