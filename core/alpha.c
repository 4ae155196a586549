// Filling transparent pixels: a pyramid of alpha-weighted means, then back down (push-pull; Gortler et al. 1996, "The Lumigraph", 3.3.2).
//
// Push: each level halves the one before. A pixel's colour is the mean of its four children by weight, its weight their sum, at most 1:
// one visible child is enough to make the parent fully known, so that colour comes from the nearest pixels that have any.
// Pull: from the top down, a pixel lets through what it lacks in weight of the level above, interpolated between four of its pixels.
// Level 0 is the picture itself; its weights come from alpha. Everything is integers: the bits depend on nothing.
// Owns the pyramid during the call. Fails only when memory is out, before the picture is touched.
#include "core/alpha.h"
#include "core/mem.h"

#include <string.h>

#define ONE        65535u // weight of a pixel that is fully known
#define FULL_FROM  4096u  // 1/16 opacity: from here on a pixel's colour is taken as it is
#define HEARSAY    1024u  // weight, beside its own, of a colour that was itself filled in
#define MAX_LEVELS 18     // halving 65535 seventeen times gives 1

typedef struct level {
    int w, h;
    uint16_t *rgb;
    uint16_t *weight;
} level;

static uint16_t weight_of(uint16_t alpha)
{
    return (uint16_t)(alpha >= FULL_FROM ? ONE : alpha * ONE / FULL_FROM);
}

// One pixel of a level from its two to four children.
static void gather(const level *from, int x, int y, uint16_t *rgb, uint16_t *weight)
{
    uint64_t sum[3] = {0}, total = 0;
    for (int dy = 0; dy < 2 && 2 * y + dy < from->h; dy++)
        for (int dx = 0; dx < 2 && 2 * x + dx < from->w; dx++) {
            const size_t i = (size_t)(2 * y + dy) * (size_t)from->w + (size_t)(2 * x + dx);
            const uint64_t k = from->weight[i];
            total += k;
            for (size_t c = 0; c < 3; c++) sum[c] += k * from->rgb[3 * i + c];
        }
    for (int c = 0; total && c < 3; c++) rgb[c] = (uint16_t)((sum[c] + total / 2) / total);
    *weight = (uint16_t)(total < ONE ? total : ONE);
}

static void push(const level *from, level *to)
{
    for (int y = 0; y < to->h; y++)
        for (int x = 0; x < to->w; x++) {
            const size_t i = (size_t)y * (size_t)to->w + (size_t)x;
            gather(from, x, y, to->rgb + 3 * i, to->weight + i);
        }
}

static int beside(int x, int n) // the parent's neighbour that child x is nearest to
{
    const int q = x / 2 + (x % 2 ? 1 : -1);
    return q < 0 ? 0 : q >= n ? n - 1 : q;
}

// What pixel (x, y) sees of the level above it: its parent and the three parents next to it, by nearness and by how much they knew
// themselves before they were filled, so that a pixel beside a visible edge takes the edge's colour and not that of a wide surrounding.
static void look_up(const level *above, int x, int y, uint16_t *colour)
{
    const int px[2] = {x / 2, beside(x, above->w)}, py[2] = {y / 2, beside(y, above->h)};
    static const uint32_t nearness[2][2] = {{9, 3}, {3, 1}};
    uint64_t sum[3] = {0}, total = 0;
    for (int v = 0; v < 2; v++)
        for (int u = 0; u < 2; u++) {
            const size_t i = (size_t)py[v] * (size_t)above->w + (size_t)px[u];
            const uint64_t k = nearness[v][u] * (above->weight[i] + HEARSAY);
            total += k;
            for (size_t c = 0; c < 3; c++) sum[c] += k * above->rgb[3 * i + c];
        }
    for (int c = 0; c < 3; c++) colour[c] = (uint16_t)((sum[c] + total / 2) / total);
}

// Add what `to` lacks from the level above it.
static void pull(const level *above, level *to)
{
    uint16_t fill[3];
    for (int y = 0; y < to->h; y++)
        for (int x = 0; x < to->w; x++) {
            const size_t i = (size_t)y * (size_t)to->w + (size_t)x;
            const uint64_t own = to->weight[i];
            if (own == ONE) continue;
            look_up(above, x, y, fill);
            for (size_t c = 0; c < 3; c++)
                to->rgb[3 * i + c] = (uint16_t)((own * to->rgb[3 * i + c] + (ONE - own) * fill[c] + ONE / 2) / ONE);
        }
}

static int level_make(level *l, int w, int h)
{
    const size_t px = (size_t)w * (size_t)h;
    *l = (level){.w = w, .h = h, .rgb = yd_calloc(px, 3 * sizeof *l->rgb), .weight = yd_calloc(px, sizeof *l->weight)};
    return l->rgb && l->weight ? 0 : -1;
}

int yd_alpha_opaque(const uint16_t *alpha, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++)
        if (alpha[i] != ONE) return 0;
    return 1;
}

int yd_alpha_fill(uint16_t *rgb, const uint16_t *alpha, int w, int h, yd_err *err)
{
    const size_t px = (size_t)w * (size_t)h;
    level l[MAX_LEVELS] = {{.w = w, .h = h, .rgb = rgb, .weight = yd_malloc(px * sizeof *l->weight)}};
    int n = 1, rc = l[0].weight ? 0 : -1;
    for (; !rc && (l[n - 1].w > 1 || l[n - 1].h > 1); n++) rc = level_make(&l[n], (l[n - 1].w + 1) / 2, (l[n - 1].h + 1) / 2);
    if (!rc) {
        for (size_t i = 0; i < px; i++) l[0].weight[i] = weight_of(alpha[i]);
        for (int k = 1; k < n; k++) push(&l[k - 1], &l[k]);
        const int seen = l[n - 1].weight[0] > 0;
        if (n > 1) l[n - 1].weight[0] = ONE; // nothing is above it
        for (int k = n - 2; seen && k >= 0; k--) pull(&l[k + 1], &l[k]);
    }
    for (int k = 0; k < n; k++) {
        if (k > 0) yd_free(l[k].rgb);
        yd_free(l[k].weight);
    }
    return rc ? yd_fail(err, YD_E_NOMEM, "no memory for the colours under a transparency of %dx%d pixels", w, h) : 0;
}

size_t yd_alpha_fill_bytes(int w, int h)
{
    size_t sum = (size_t)w * (size_t)h * sizeof(uint16_t) + 4096;
    while (w > 1 || h > 1) {
        w = (w + 1) / 2;
        h = (h + 1) / 2;
        sum += (size_t)w * (size_t)h * 4 * sizeof(uint16_t);
    }
    return sum;
}
