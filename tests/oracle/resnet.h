// ResNets of bottleneck blocks and attribution guided factorisation (AGF) in double by plain loops over channel-first maps, block by block as
// the public code has it and straight from a weight file: what core/resnet.c, core/pooled_query.c and core/agf.c are to compute. And files of
// random weights for them.
#ifndef TESTS_ORACLE_RESNET_H
#define TESTS_ORACLE_RESNET_H

#include "core/safetensors.h"

// ---- files

typedef struct oracle_resnet_shape {
    int stem, k; // channels and kernel of the first convolution
    int inner[4], out[4], blocks[4];
} oracle_resnet_shape;

extern const oracle_resnet_shape oracle_resnet50, oracle_resnet_tiny;

// Write one with weights that follow from seed and names; every name begins with prefix. broken: NULL, or a tensor that is left out
// ("name"), gets a channel too many ("+name") or changes its sign ("-name"). 0 when written.
int oracle_resnet_write(const char *path, const char *prefix, const oracle_resnet_shape *s, uint32_t seed, const char *broken);

// ---- maps

typedef struct oracle_map {
    int c, h, w;
    double *v;
} oracle_map;

oracle_map oracle_map_new(int c, int h, int w); // zeros
oracle_map oracle_map_copy(const oracle_map *x);
void oracle_map_free(oracle_map *x);
double *oracle_map_at(const oracle_map *x, int c, int y, int x_);

// A convolution's weights [c][in_c][k][k].
typedef struct oracle_filter {
    int c, in_c, k, stride, pad;
    double *w;
} oracle_filter;

oracle_map oracle_conv_map(const oracle_map *x, const oracle_filter *f);
oracle_map oracle_conv_map_back(const oracle_map *dy, const oracle_filter *f, int h, int w); // gradient of an input of h x w

// ---- rules of AGF: what C and G of a layer's output y make of its input x. New maps.

void oracle_agf_start(const double *y, int n, int t, double *c, double *g);
oracle_map oracle_agf_relu(const oracle_map *x, const oracle_map *c);
void oracle_agf_add(const oracle_map *a, const oracle_map *b, const oracle_map *c, oracle_map *ca, oracle_map *cb);
oracle_map oracle_agf_fork(const oracle_map *x, const oracle_map *c0, const oracle_map *c1);
// Windows of k x k; max: their maximum, otherwise k is not looked at and all of x has one mean. g: of y; *gx: of x.
oracle_map oracle_agf_pool(const oracle_map *x, int k, int stride, int pad, const oracle_map *c, const oracle_map *g, oracle_map *gx);
oracle_map oracle_agf_mean(const oracle_map *x, const double *c, const double *g, oracle_map *gx);
oracle_map oracle_agf_flat(const oracle_map *x, const oracle_filter *f, const oracle_map *c);
oracle_map oracle_agf_full(const oracle_map *x, const oracle_filter *f, const oracle_map *c, const oracle_map *g);
oracle_map oracle_agf_first(const oracle_map *x, const oracle_filter *f, const oracle_map *c);
void oracle_agf_factorise(const oracle_map *t, const double *phi, double *out); // F of every place

// ---- whole networks

typedef struct oracle_resnet oracle_resnet;
oracle_resnet *oracle_resnet_open(const yd_safetensors *st, const char *prefix, const oracle_resnet_shape *s);
void oracle_resnet_close(oracle_resnet *r);
// Features of stage 1..4 of a normalised picture. A new map.
oracle_map oracle_resnet_stage(const oracle_resnet *r, const oracle_map *x, int stage);
// heads x h x w of the pooled query of a map; new.
double *oracle_pooled_query(const oracle_map *z, int heads);
// The map of the index-th highest feature; x.h * x.w numbers to fill.
void oracle_resnet_agf(const oracle_resnet *r, const oracle_map *x, int index, double *map);

#endif
