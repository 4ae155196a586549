// The rules of attribution guided factorisation (AGF) that are not convolutions: what a layer makes of the attribution C and the gradient G of
// its output, on plain arrays.
//
// X is a layer's input of `pixels` places with c channels, the channels of a place side by side. C and G have X's shape, or that of the
// layer's output. sd(a, b) is a / (b + 1e-9), and 0 where b is 0; [.] is 1 where true, 0 elsewhere. core/agf.c has the convolutions and the
// walk. Sums are joined in one order, whatever the number of threads.
// Source: S. Gur, A. Ali, L. Wolf, "Visualization of Supervised and Self-Supervised Neural Networks via Attribution Guided Factorization",
// AAAI 2021, and its public code (shirgur/AGFVisualization).
#ifndef YD_CORE_AGF_RULES_H
#define YD_CORE_AGF_RULES_H

#include <stddef.h>
#include <stdint.h>

#define YD_AGF_TINY 1e-9f

static inline float yd_agf_sd(float a, float b)
{
    float den = b + YD_AGF_TINY;
    den = den == 0.0f ? YD_AGF_TINY : den;
    return b != 0.0f ? a / den : 0.0f;
}

// The n highest of y[count], highest first, of equal ones the first; n <= count.
void yd_agf_top(const float *y, int count, int n, int *index);

// Where it starts, the output t of y: s = max_k |y_k - y_t|, P = softmax_k( y_t exp(-((y_k - y_t) / s)^2 / 2) ), g = dP_t / dy (through y_t and
// s too), c = y g. All of c and g is 0 where all of y is equal.
void yd_agf_start(const float *y, int count, int t, float *c, float *g);

// The mean over places: mean[c] of x, and back to x from cm and gm of the mean.
void yd_agf_mean(const float *x, size_t pixels, size_t c, float *mean);
void yd_agf_mean_back(const float *x, size_t pixels, size_t c, const float *mean, const float *cm, const float *gm, float *cx, float *gx);

// ReLU, from its output y of n numbers; c and g in place.
void yd_agf_relu(const float *y, size_t n, float *c, float *g);

// y = ReLU(a + b): ca = a sd(c, y), cb = b sd(c, y), ga = gb = g, where y > 0; 0 elsewhere.
void yd_agf_add(const float *y, const float *a, const float *b, size_t n, const float *c, const float *g, float *ca, float *cb, float *ga,
                float *gb);

// A map that several layers read: each one's c becomes sd(c, x); these are summed, and the sum is multiplied by x.
void yd_agf_fork_first(const float *x, size_t n, float *c); // c = sd(c, x)
void yd_agf_fork_more(const float *x, size_t n, const float *c, const float *g, float *sum_c,
                      float *sum_g);                      // sum_c += sd(c, x), sum_g += g
void yd_agf_fork_end(const float *x, size_t n, float *c); // c = x c

// q = sd(c, z), for the heads' c on one z of n numbers.
void yd_agf_quotient(const float *c, const float *z, int heads, size_t n, float *q);
// c = x c for the heads' c on one x.
void yd_agf_multiply(const float *x, int heads, size_t n, float *c);
// masked = g [c != 0]; returns how many of g that are not 0 were set to 0.
size_t yd_agf_mask(const float *c, const float *g, size_t n, float *masked);

typedef struct yd_agf_pool {
    int h, w, out_h, out_w, k[2], pad[2], stride;
    size_t c;
} yd_agf_pool;
// A maximum over windows (k[0] k[1] <= 255): which of a window's places was its first largest, and back to x from c and g of the output y.
void yd_agf_pool_find(const yd_agf_pool *p, const float *x, uint8_t *which);
void yd_agf_pool_back(const yd_agf_pool *p, const float *x, const float *y, const uint8_t *which, const float *c, const float *g, float *cx,
                      float *gx);

// What a full convolution does to the attribution C' that its flat rule makes: the factorisation of gradient and input, the input's
// gradient M, the weights' own share A, and the shift that keeps the sum. See yd_agf_full.
typedef struct yd_agf_full {
    size_t pixels, c;
    const float *x;            // input
    const float *g, *masked_g; // gradient of the input; the same of G [C != 0]
    float *a;                  // convT_|W|( sd(C, conv_|W|(1)) ); its place is used for R
    float *work;               // yd_agf_full_work(pixels, c) floats
} yd_agf_full;
size_t yd_agf_full_work(size_t pixels, size_t c);
// c: C' of one head, changed in place. With phi = mean_c C', M = relu(mean_c(x g)), sd by its largest, F = factorise(T, phi) of x and masked_g
// by their largest: R = (sd(relu(F_x) + M, 1 + exp(-C')) + relu(F_g) + A) [C' != 0]; c = C' + R - sum(R) / #(C' != 0) [C' != 0].
// factorise: H = sigmoid(10 T) of c x pixels, r+ and r- the mean of H over the places with phi > 0 and phi < 0, V = [r-, r+],
// W = relu((V'V + 1)^-1 V'H), F = W+ - W-.
void yd_agf_full_rule(const yd_agf_full *f, float *c);

// One picture's map from c of its three channels: c / max(c), summed over channels; 0 where the largest is 0.
void yd_agf_picture(const float *c, size_t pixels, float *map);

#endif
