// A vision transformer up to its last self-attention, of which only the class token's row is computed: pictures in, for each head how much
// the class token attends to each patch.
//
//   tokens   patches of patch x patch pixels, each a row of dim channels, after one for the class; positions added
//   block    x += proj(attention(norm1(x)));  x += fc2(GELU(fc1(norm2(x))));   all but the last
//   last     softmax over all tokens of q(class) . k(token) / sqrt(dim / heads), heads apart; the class token's own share is dropped
//
// Positions were learned on a square grid; for any other they are resampled as PyTorch does it for DINO: bicubic with a = -0.75, borders
// clamped, no antialiasing, step 1 / ((side + 0.1) / grid) of the given factor and not of the ratio of sizes. A picture of the very grid
// takes them as they are. Source: facebookresearch/dino, vision_transformer.py (get_last_selfattention, interpolate_pos_encoding).
//
// Results do not depend on threads or on how many pictures are run together (see rows.h). One thread at a time uses a yd_vit.
#ifndef YD_CORE_CPU_VIT_H
#define YD_CORE_CPU_VIT_H

#include "core/err.h"
#include <stddef.h>

typedef struct yd_vit_shape {
    int patch, dim, depth, heads, hidden;
    int grid; // side of the grid that positions were learned on
} yd_vit_shape;

typedef struct yd_vit yd_vit;

// What is not a block's. Copied.
typedef struct yd_vit_tokens {
    const float *patch_weight, *patch_bias; // [dim][3][patch][patch], [dim]
    const float *class_token, *positions;   // [dim], [1 + grid*grid][dim]: the class's first
} yd_vit_tokens;

// Matrices [out][in] as checkpoints have them. Of the last block only norm1 and qkv are looked at. Copied.
typedef struct yd_vit_block {
    const float *norm1_weight, *norm1_bias;
    const float *qkv_weight, *qkv_bias; // [3 dim][dim]: q, k, v, in each the heads one after the other
    const float *proj_weight, *proj_bias;
    const float *norm2_weight, *norm2_bias;
    const float *fc1_weight, *fc1_bias; // [hidden][dim]
    const float *fc2_weight, *fc2_bias; // [dim][hidden]
} yd_vit_block;

// dim is a multiple of heads. threads 0: as many as OpenMP gives. YD_E_DEVICE, YD_E_NOMEM, YD_E_UNSUPPORTED.
int yd_vit_new(const yd_vit_shape *shape, const yd_vit_tokens *tokens, int threads, yd_vit **out, yd_err *err);
// Give it its next block, depth times. YD_E_DEVICE, YD_E_NOMEM.
int yd_vit_add(yd_vit *v, const yd_vit_block *b, yd_err *err);
void yd_vit_free(yd_vit *v); // NULL is fine

size_t yd_vit_bytes(const yd_vit *v); // of memory, now

// Have memory and products for n pictures of gw x gh patches. What is there for as many of this size or more serves as it is.
int yd_vit_reserve(yd_vit *v, int n, int gw, int gh, yd_err *err);
// rgb[i]: (gh*patch) x (gw*patch) x 3 floats, 0..1, which (x - mean) / deviation is computed of; raw[i]: heads x gh x gw. After a reserve that was
// enough. YD_E_DEVICE.
int yd_vit_run(yd_vit *v, int n, int gw, int gh, const float mean[3], const float deviation[3], const float *const *rgb, float *const *raw,
               yd_err *err);

// The positions of gh x gw patches after the class's: dst has (1 + gh*gw) * dim floats. For tests.
void yd_vit_positions(const float *learned, int grid, int dim, int gw, int gh, float *dst);

#endif
