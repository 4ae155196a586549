// Launches of gpu/device/rearrange.h.
#include "gpu/device/rearrange.h"
#include "gpu/launch.h"

static int same_place(const yd_gpu_map *a, const yd_gpu_map *b)
{
    return yd_map_good(a) && yd_map_good(b) && a->h == b->h && a->w == b->w;
}

int yd_gpu_concat(const yd_gpu_map *x1, const yd_gpu_map *x2, const yd_gpu_map *y, int n, yd_gpu_stream stream)
{
    if (!same_place(x1, y) || !same_place(x2, y) || x1->c + x2->c != y->c || !yd_map_fits(y, n)) return YD_REFUSED;
    const yd_concat_args a = {*x1, *x2, *y};
    const int vec = yd_map_wide(x1) && yd_map_wide(x2) && yd_map_wide(y) ? YD_VEC : 1;
    return YD_ITEMS(yd_concat_args, yd_concat_item, vec, a, yd_items(y, n, vec), stream);
}

static int part(const yd_gpu_map *x, const yd_gpu_map *y, int first, int n, yd_gpu_stream stream)
{
    const yd_part_args a = {*x, *y, first};
    const int vec = yd_map_wide(x) && yd_map_wide(y) && first % YD_VEC == 0 ? YD_VEC : 1;
    return YD_ITEMS(yd_part_args, yd_part_item, vec, a, yd_items(y, n, vec), stream);
}

int yd_gpu_split(const yd_gpu_map *dy, const yd_gpu_map *dx1, const yd_gpu_map *dx2, int n, yd_gpu_stream stream)
{
    if (!same_place(dx1, dy) || !same_place(dx2, dy) || dx1->c + dx2->c != dy->c) return YD_REFUSED;
    if (!yd_map_fits(dx1, n) || !yd_map_fits(dx2, n)) return YD_REFUSED;
    const int rc = part(dy, dx1, 0, n, stream);
    return rc ? rc : part(dy, dx2, dx1->c, n, stream);
}

// large is small times r along both sides, and a pixel of small has small_c channels.
static int scaled(const yd_gpu_map *small, const yd_gpu_map *large, int r, int small_c, int n)
{
    return yd_map_good(small) && yd_map_good(large) && r >= 1 && small->h * r == large->h && small->w * r == large->w &&
           small->c == small_c && yd_map_fits(small, n) && yd_map_fits(large, n);
}

int yd_gpu_upsample(const yd_gpu_map *x, const yd_gpu_map *y, int n, yd_gpu_stream stream)
{
    const yd_pair_args a = {*x, *y, 2};
    const int vec = yd_map_wide(x) && yd_map_wide(y) ? YD_VEC : 1;
    if (!scaled(x, y, 2, y->c, n)) return YD_REFUSED;
    return YD_ITEMS(yd_pair_args, yd_upsample_item, vec, a, yd_items(y, n, vec), stream);
}

int yd_gpu_upsample_bwd(const yd_gpu_map *dy, const yd_gpu_map *dx, int n, yd_gpu_stream stream)
{
    const yd_pair_args a = {*dy, *dx, 2};
    const int vec = yd_map_wide(dy) && yd_map_wide(dx) ? YD_VEC : 1;
    if (!scaled(dx, dy, 2, dy->c, n)) return YD_REFUSED;
    return YD_ITEMS(yd_pair_args, yd_upsample_bwd_item, vec, a, yd_items(dx, n, vec), stream);
}

int yd_gpu_unshuffle(const yd_gpu_map *x, const yd_gpu_map *y, int r, int n, yd_gpu_stream stream)
{
    const yd_pair_args a = {*x, *y, r};
    const int vec = yd_map_wide(y) ? YD_VEC : 1;
    if (!scaled(y, x, r, x->c * r * r, n)) return YD_REFUSED;
    return YD_ITEMS(yd_pair_args, yd_unshuffle_item, vec, a, yd_items(y, n, vec), stream);
}

int yd_gpu_shuffle(const yd_gpu_map *x, const yd_gpu_map *y, int r, int n, yd_gpu_stream stream)
{
    const yd_pair_args a = {*x, *y, r};
    const int vec = yd_map_wide(y) ? YD_VEC : 1;
    if (!scaled(x, y, r, y->c * r * r, n)) return YD_REFUSED;
    return YD_ITEMS(yd_pair_args, yd_shuffle_item, vec, a, yd_items(y, n, vec), stream);
}

int yd_gpu_reflect(const yd_gpu_map *x, const yd_gpu_map *y, int pad, int n, yd_gpu_stream stream)
{
    const yd_pair_args a = {*x, *y, pad};
    const int vec = yd_map_wide(x) && yd_map_wide(y) ? YD_VEC : 1;
    if (!yd_map_good(x) || !yd_map_good(y) || pad < 0 || pad >= x->h || pad >= x->w || x->c != y->c) return YD_REFUSED;
    if (y->h != x->h + 2 * pad || y->w != x->w + 2 * pad || !yd_map_fits(y, n)) return YD_REFUSED;
    return YD_ITEMS(yd_pair_args, yd_reflect_item, vec, a, yd_items(y, n, vec), stream);
}

int yd_gpu_filter_pack(const float *w, int a, int b, int k, void *packed, yd_dtype dtype, int a_padded, int b_padded, yd_gpu_stream stream)
{
    if (a < 1 || b < 1 || k < 1 || a_padded < a || b_padded < b) return YD_REFUSED;
    const yd_filter_args f = {w, NULL, packed, dtype == YD_BF16, a, b, k, a_padded, b_padded};
    return YD_ITEMS_1(yd_filter_args, yd_filter_pack_item, f, (double)a_padded * k * k * b_padded, stream);
}

int yd_gpu_filter_unpack(const void *packed, yd_dtype dtype, int a_padded, int b_padded, float *w, int a, int b, int k,
                         yd_gpu_stream stream)
{
    if (a < 1 || b < 1 || k < 1 || a_padded < a || b_padded < b) return YD_REFUSED;
    const yd_filter_args f = {NULL, w, (void *)packed, dtype == YD_BF16, a, b, k, a_padded, b_padded};
    return YD_ITEMS_1(yd_filter_args, yd_filter_unpack_item, f, (double)a * k * k * b, stream);
}
