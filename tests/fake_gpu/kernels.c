// The launches of gpu/kernels.h for the fake GPU: the real kernels, compiled for the host (gpu/launch.h), each behind a function of its name that hands
// it to fake_submit with a copy of its arguments. What a map's pointer points to is copied; arrays are the "device's" and stay where they are.
#include "tests/fake_gpu/names_on.h"

#include "tests/unit/gpu_host.h"

#include "gpu/im2col.cu"

#undef yd_gpu_copy
#undef yd_gpu_axpy
#undef yd_gpu_conv_end
#undef yd_gpu_not_finite
#undef yd_gpu_linear
#undef yd_gpu_linear_bwd
#undef yd_gpu_silu
#undef yd_gpu_mish
#undef yd_gpu_silu_bwd
#undef yd_gpu_embed
#undef yd_gpu_gnorm
#undef yd_gpu_gnorm_bwd
#undef yd_gpu_bias_grad
#undef yd_gpu_concat
#undef yd_gpu_split
#undef yd_gpu_upsample
#undef yd_gpu_upsample_bwd
#undef yd_gpu_unshuffle
#undef yd_gpu_shuffle
#undef yd_gpu_reflect
#undef yd_gpu_filter_pack
#undef yd_gpu_filter_unpack
#undef yd_gpu_softmax
#undef yd_gpu_softmax_bwd
#undef yd_gpu_loss
#undef yd_gpu_square_sums
#undef yd_gpu_adamw
#undef yd_gpu_im2col
#undef yd_gpu_col2im

#include "tests/fake_gpu/fake.h"

// A map that may be absent.
typedef struct maybe {
    int there;
    yd_gpu_map map;
} maybe;

static maybe maybe_of(const yd_gpu_map *m)
{
    maybe x = {m != NULL, {0}};
    if (m) x.map = *m;
    return x;
}

static const yd_gpu_map *map_of(const maybe *m)
{
    return m->there ? &m->map : NULL;
}

#define LIST(...)                                                                                                      \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }
// The launch of this name and parameters: its arguments as they are kept, how they are made of the parameters, and the kernel's call with them.
#define LAUNCH(NAME, PARAMETERS, FIELDS, MADE, CALL)                                                                   \
    struct NAME##_args {                                                                                               \
        FIELDS                                                                                                         \
    };                                                                                                                 \
    static int do_##NAME(const void *p)                                                                                \
    {                                                                                                                  \
        const struct NAME##_args *args = p;                                                                            \
        return host_yd_gpu_##NAME CALL;                                                                                \
    }                                                                                                                  \
    int yd_gpu_##NAME PARAMETERS                                                                                       \
    {                                                                                                                  \
        const struct NAME##_args made = MADE;                                                                          \
        (void)stream;                                                                                                  \
        return fake_submit(do_##NAME, &made, sizeof made);                                                             \
    }

// clang-format off

LAUNCH(copy,
       (const yd_gpu_map *x, const yd_gpu_map *y, int n, yd_gpu_stream stream),
       maybe x; maybe y; int n;,
       LIST(maybe_of(x), maybe_of(y), n),
       (map_of(&args->x), map_of(&args->y), args->n, NULL))

LAUNCH(axpy,
       (float scale, const yd_gpu_map *x1, const yd_gpu_map *x2, const yd_gpu_map *y, int n, yd_gpu_stream stream),
       float scale; maybe x1; maybe x2; maybe y; int n;,
       LIST(scale, maybe_of(x1), maybe_of(x2), maybe_of(y), n),
       (args->scale, map_of(&args->x1), map_of(&args->x2), map_of(&args->y), args->n, NULL))

LAUNCH(conv_end,
       (const yd_gpu_map *x, const float *bias, yd_act act, float slope, const float *v, const yd_gpu_map *res, const yd_gpu_map
        *y, int n, yd_gpu_stream stream),
       maybe x; const float *bias; yd_act act; float slope; const float *v; maybe res; maybe y; int n;,
       LIST(maybe_of(x), bias, act, slope, v, maybe_of(res), maybe_of(y), n),
       (map_of(&args->x), args->bias, args->act, args->slope, args->v, map_of(&args->res), map_of(&args->y), args->n, NULL))

LAUNCH(not_finite,
       (const yd_gpu_map *x, int *flags, int n, yd_gpu_stream stream),
       maybe x; int *flags; int n;,
       LIST(maybe_of(x), flags, n),
       (map_of(&args->x), args->flags, args->n, NULL))

LAUNCH(linear,
       (const yd_gpu_linears *l, yd_gpu_stream stream),
       yd_gpu_linears l;,
       LIST(*l),
       (&args->l, NULL))

LAUNCH(linear_bwd,
       (const float *v, const float *w, const float *dy, float *dv, float *dw, float *db, int in, int out, int n, yd_gpu_stream
        stream),
       const float *v; const float *w; const float *dy; float *dv; float *dw; float *db; int in; int out; int n;,
       LIST(v, w, dy, dv, dw, db, in, out, n),
       (args->v, args->w, args->dy, args->dv, args->dw, args->db, args->in, args->out, args->n, NULL))

LAUNCH(silu,
       (const float *x, float *y, int c, int n, yd_gpu_stream stream),
       const float *x; float *y; int c; int n;,
       LIST(x, y, c, n),
       (args->x, args->y, args->c, args->n, NULL))

LAUNCH(mish,
       (const float *x, float *y, int c, int n, yd_gpu_stream stream),
       const float *x; float *y; int c; int n;,
       LIST(x, y, c, n),
       (args->x, args->y, args->c, args->n, NULL))

LAUNCH(silu_bwd,
       (const float *x, const float *dy, float *dx, int c, int n, yd_gpu_stream stream),
       const float *x; const float *dy; float *dx; int c; int n;,
       LIST(x, dy, dx, c, n),
       (args->x, args->dy, args->dx, args->c, args->n, NULL))

LAUNCH(embed,
       (const float *s, float *v, int c, float scale, int r, int n, yd_gpu_stream stream),
       const float *s; float *v; int c; float scale; int r; int n;,
       LIST(s, v, c, scale, r, n),
       (args->s, args->v, args->c, args->scale, args->r, args->n, NULL))

LAUNCH(gnorm,
       (const yd_gpu_map *x, const float *v, const float *gamma, const float *beta, int groups, float eps, int silu, const
        yd_gpu_map *y, float *stats, void *scratch, int n, yd_gpu_stream stream),
       maybe x; const float *v; const float *gamma; const float *beta; int groups; float eps; int silu; maybe y; float *stats;
        void *scratch; int n;,
       LIST(maybe_of(x), v, gamma, beta, groups, eps, silu, maybe_of(y), stats, scratch, n),
       (map_of(&args->x), args->v, args->gamma, args->beta, args->groups, args->eps, args->silu, map_of(&args->y), args->stats,
        args->scratch, args->n, NULL))

LAUNCH(gnorm_bwd,
       (const yd_gpu_map *x, const float *v, const float *gamma, const float *beta, const float *stats, const yd_gpu_map *dy, int
        groups, int silu, const yd_gpu_map *dx, float *dv, float *dgamma, float *dbeta, void *scratch, int n, yd_gpu_stream
        stream),
       maybe x; const float *v; const float *gamma; const float *beta; const float *stats; maybe dy; int groups; int silu; maybe
        dx; float *dv; float *dgamma; float *dbeta; void *scratch; int n;,
       LIST(maybe_of(x), v, gamma, beta, stats, maybe_of(dy), groups, silu, maybe_of(dx), dv, dgamma, dbeta, scratch, n),
       (map_of(&args->x), args->v, args->gamma, args->beta, args->stats, map_of(&args->dy), args->groups, args->silu,
        map_of(&args->dx), args->dv, args->dgamma, args->dbeta, args->scratch, args->n, NULL))

LAUNCH(bias_grad,
       (const yd_gpu_map *dy, float *db, void *scratch, int n, yd_gpu_stream stream),
       maybe dy; float *db; void *scratch; int n;,
       LIST(maybe_of(dy), db, scratch, n),
       (map_of(&args->dy), args->db, args->scratch, args->n, NULL))

LAUNCH(concat,
       (const yd_gpu_map *x1, const yd_gpu_map *x2, const yd_gpu_map *y, int n, yd_gpu_stream stream),
       maybe x1; maybe x2; maybe y; int n;,
       LIST(maybe_of(x1), maybe_of(x2), maybe_of(y), n),
       (map_of(&args->x1), map_of(&args->x2), map_of(&args->y), args->n, NULL))

LAUNCH(split,
       (const yd_gpu_map *dy, const yd_gpu_map *dx1, const yd_gpu_map *dx2, int n, yd_gpu_stream stream),
       maybe dy; maybe dx1; maybe dx2; int n;,
       LIST(maybe_of(dy), maybe_of(dx1), maybe_of(dx2), n),
       (map_of(&args->dy), map_of(&args->dx1), map_of(&args->dx2), args->n, NULL))

LAUNCH(upsample,
       (const yd_gpu_map *x, const yd_gpu_map *y, int n, yd_gpu_stream stream),
       maybe x; maybe y; int n;,
       LIST(maybe_of(x), maybe_of(y), n),
       (map_of(&args->x), map_of(&args->y), args->n, NULL))

LAUNCH(upsample_bwd,
       (const yd_gpu_map *dy, const yd_gpu_map *dx, int n, yd_gpu_stream stream),
       maybe dy; maybe dx; int n;,
       LIST(maybe_of(dy), maybe_of(dx), n),
       (map_of(&args->dy), map_of(&args->dx), args->n, NULL))

LAUNCH(unshuffle,
       (const yd_gpu_map *x, const yd_gpu_map *y, int r, int n, yd_gpu_stream stream),
       maybe x; maybe y; int r; int n;,
       LIST(maybe_of(x), maybe_of(y), r, n),
       (map_of(&args->x), map_of(&args->y), args->r, args->n, NULL))

LAUNCH(shuffle,
       (const yd_gpu_map *x, const yd_gpu_map *y, int r, int n, yd_gpu_stream stream),
       maybe x; maybe y; int r; int n;,
       LIST(maybe_of(x), maybe_of(y), r, n),
       (map_of(&args->x), map_of(&args->y), args->r, args->n, NULL))

LAUNCH(reflect,
       (const yd_gpu_map *x, const yd_gpu_map *y, int pad, int n, yd_gpu_stream stream),
       maybe x; maybe y; int pad; int n;,
       LIST(maybe_of(x), maybe_of(y), pad, n),
       (map_of(&args->x), map_of(&args->y), args->pad, args->n, NULL))

LAUNCH(filter_pack,
       (const float *w, int a, int b, int k, void *packed, yd_dtype dtype, int a_padded, int b_padded, yd_gpu_stream stream),
       const float *w; int a; int b; int k; void *packed; yd_dtype dtype; int a_padded; int b_padded;,
       LIST(w, a, b, k, packed, dtype, a_padded, b_padded),
       (args->w, args->a, args->b, args->k, args->packed, args->dtype, args->a_padded, args->b_padded, NULL))

LAUNCH(filter_unpack,
       (const void *packed, yd_dtype dtype, int a_padded, int b_padded, float *w, int a, int b, int k, yd_gpu_stream stream),
       const void *packed; yd_dtype dtype; int a_padded; int b_padded; float *w; int a; int b; int k;,
       LIST(packed, dtype, a_padded, b_padded, w, a, b, k),
       (args->packed, args->dtype, args->a_padded, args->b_padded, args->w, args->a, args->b, args->k, NULL))

LAUNCH(softmax,
       (const float *scores, void *p, yd_dtype dtype, float scale, int rows, int cols, yd_gpu_stream stream),
       const float *scores; void *p; yd_dtype dtype; float scale; int rows; int cols;,
       LIST(scores, p, dtype, scale, rows, cols),
       (args->scores, args->p, args->dtype, args->scale, args->rows, args->cols, NULL))

LAUNCH(softmax_bwd,
       (const void *p, yd_dtype p_dtype, const float *dp, void *ds, yd_dtype ds_dtype, float scale, int rows, int cols,
        yd_gpu_stream stream),
       const void *p; yd_dtype p_dtype; const float *dp; void *ds; yd_dtype ds_dtype; float scale; int rows; int cols;,
       LIST(p, p_dtype, dp, ds, ds_dtype, scale, rows, cols),
       (args->p, args->p_dtype, args->dp, args->ds, args->ds_dtype, args->scale, args->rows, args->cols, NULL))

LAUNCH(loss,
       (const yd_gpu_map *pred, const yd_gpu_map *target, const float *mask, const float *weight, int p, float *loss, const
        yd_gpu_map *dpred, void *scratch, int n, yd_gpu_stream stream),
       maybe pred; maybe target; const float *mask; const float *weight; int p; float *loss; maybe dpred; void *scratch; int n;,
       LIST(maybe_of(pred), maybe_of(target), mask, weight, p, loss, maybe_of(dpred), scratch, n),
       (map_of(&args->pred), map_of(&args->target), args->mask, args->weight, args->p, args->loss, map_of(&args->dpred),
        args->scratch, args->n, NULL))

LAUNCH(square_sums,
       (const yd_gpu_span *spans, int n_spans, double *squares, yd_gpu_stream stream),
       const yd_gpu_span *spans; int n_spans; double *squares;,
       LIST(spans, n_spans, squares),
       (args->spans, args->n_spans, args->squares, NULL))

LAUNCH(adamw,
       (const yd_gpu_span *spans, int n_spans, const yd_gpu_rates *rates, yd_gpu_stream stream),
       const yd_gpu_span *spans; int n_spans; yd_gpu_rates rates;,
       LIST(spans, n_spans, *rates),
       (args->spans, args->n_spans, &args->rates, NULL))

LAUNCH(im2col,
       (const void *map, yd_dtype dtype, const yd_gpu_patches *p, void *matrix, yd_gpu_stream stream),
       const void *map; yd_dtype dtype; yd_gpu_patches p; void *matrix;,
       LIST(map, dtype, *p, matrix),
       (args->map, args->dtype, &args->p, args->matrix, NULL))

LAUNCH(col2im,
       (const float *matrix, const yd_gpu_patches *p, void *map, yd_dtype dtype, yd_gpu_stream stream),
       const float *matrix; yd_gpu_patches p; void *map; yd_dtype dtype;,
       LIST(matrix, *p, map, dtype),
       (args->matrix, &args->p, args->map, args->dtype, NULL))
