// Vision transformers made by the tests: random weights under DINO's names, written as a safetensors file.
#ifndef VIT_RIG_H
#define VIT_RIG_H

#include "core/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VIT_RIG_MAX 1024

typedef struct vit_rig {
    int dim, depth, patch, grid, hidden;
    const char *prefix; // before every name
    const char *spoil;  // a tensor that is left out, or gets another shape (odd), or NaN (nan); NULL: none
    int odd, nan;
} vit_rig;

typedef struct vit_maker {
    const vit_rig *r;
    yd_st_writer *w;
    float *data[VIT_RIG_MAX];
    int n, failed;
} vit_maker;

static uint32_t vit_state = 1;

// About a unit normal, from a fixed sequence.
__attribute__((unused)) static float vit_normal(void)
{
    float sum = -2.0f;
    for (int i = 0; i < 4; i++) {
        vit_state = vit_state * 1664525u + 1013904223u;
        sum += (float)(vit_state >> 8) / 16777216.0f;
    }
    return sum * 1.73f;
}

__attribute__((unused)) static void vit_put(vit_maker *m, const char *name, int ndim, const int64_t *dims, float mean, float scale)
{
    char full[200];
    size_t n = 1;
    int64_t shape[4];
    const int spoilt = m->r->spoil && strcmp(m->r->spoil, name) == 0;
    if (spoilt && !m->r->odd && !m->r->nan) return;
    for (int i = 0; i < ndim; i++) n *= (size_t)(shape[i] = dims[i] + (spoilt && m->r->odd && i == 0));
    float *x = m->data[m->n++] = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = mean + scale * vit_normal();
    if (spoilt && m->r->nan) x[n - 1] = NAN;
    snprintf(full, sizeof full, "%s%s", m->r->prefix ? m->r->prefix : "", name);
    if (yd_st_writer_add(m->w, full, YD_ST_F32, ndim, shape, x, NULL)) m->failed = 1;
}

__attribute__((unused)) static void vit_put_block(vit_maker *m, int i)
{
    const int64_t d = m->r->dim, h = m->r->hidden;
    const float s = 1.2f / sqrtf((float)d);
    const struct {
        const char *name;
        int ndim;
        int64_t dims[2];
        float mean, scale;
    } t[] = {
        {"norm1.weight", 1, {d}, 1, 0.2f},      {"norm1.bias", 1, {d}, 0, 0.2f},       {"attn.qkv.weight", 2, {3 * d, d}, 0, s},
        {"attn.qkv.bias", 1, {3 * d}, 0, 0.2f}, {"attn.proj.weight", 2, {d, d}, 0, s}, {"attn.proj.bias", 1, {d}, 0, 0.2f},
        {"norm2.weight", 1, {d}, 1, 0.2f},      {"norm2.bias", 1, {d}, 0, 0.2f},       {"mlp.fc1.weight", 2, {h, d}, 0, s},
        {"mlp.fc1.bias", 1, {h}, 0, 0.2f},      {"mlp.fc2.weight", 2, {d, h}, 0, s},   {"mlp.fc2.bias", 1, {d}, 0, 0.2f},
    };
    char name[64];
    for (size_t k = 0; k < sizeof t / sizeof *t; k++) {
        snprintf(name, sizeof name, "blocks.%d.%s", i, t[k].name);
        vit_put(m, name, t[k].ndim, t[k].dims, t[k].mean, t[k].scale);
    }
}

__attribute__((unused)) static void vit_put_all(vit_maker *m)
{
    const int64_t d = m->r->dim, p = m->r->patch, places = 1 + (int64_t)m->r->grid * m->r->grid;
    vit_put(m, "cls_token", 3, (int64_t[]){1, 1, d}, 0, 0.5f);
    vit_put(m, "pos_embed", 3, (int64_t[]){1, places, d}, 0, 0.5f);
    vit_put(m, "patch_embed.proj.weight", 4, (int64_t[]){d, 3, p, p}, 0, 0.5f / (float)p);
    vit_put(m, "patch_embed.proj.bias", 1, (int64_t[]){d}, 0, 0.2f);
    for (int i = 0; i < m->r->depth; i++) vit_put_block(m, i);
    vit_put(m, "norm.weight", 1, (int64_t[]){d}, 1, 0.2f);
    vit_put(m, "norm.bias", 1, (int64_t[]){d}, 0, 0.2f);
}

// Write the file; with `other` a second network beside the first. 0, or -1.
__attribute__((unused)) static int vit_rig_save(const vit_rig *r, const vit_rig *other, const char *path)
{
    vit_maker m = {.r = r, .w = yd_st_writer_new()};
    vit_put_all(&m);
    if (other) {
        m.r = other;
        vit_put_all(&m);
        vit_put(&m, "head.mlp.0.weight", 2, (int64_t[]){4, other->dim}, 0, 1); // what DINO trains with
    }
    if (!m.failed && yd_st_writer_save(m.w, path, NULL)) m.failed = 1;
    yd_st_writer_free(m.w);
    for (int i = 0; i < m.n; i++) free(m.data[i]);
    return m.failed ? -1 : 0;
}

#endif
