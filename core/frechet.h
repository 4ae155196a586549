// Frechet distance of two sets of feature vectors: |m1-m2|^2 + Tr(S1 + S2 - 2 sqrt(S1 S2)), S the unbiased covariances.
//
// With the features of yd_lpips_features the figure is named fd_<trunk> (fd_squeeze); FID is the name of those of core/inception.h alone.
// Tr sqrt(S1 S2) is the sum of the roots of the eigenvalues of sqrt(S1) S2 sqrt(S1), which is symmetric; nothing is inverted, so sets
// smaller than their dimension are fine, although their figure is biased upwards and compares only with sets of the same size.
// Sums are in double, in the order of the calls. A yd_moments belongs to one thread at a time.
#ifndef YD_CORE_FRECHET_H
#define YD_CORE_FRECHET_H

#include "core/err.h"

#define YD_MOMENTS_MAX_SIZE 4096

typedef struct yd_moments yd_moments;

// An empty set of vectors of `size` 1..YD_MOMENTS_MAX_SIZE numbers; NULL when memory is out or the size is not. Takes 12*size^2 bytes.
yd_moments *yd_moments_new(int size);
void yd_moments_free(yd_moments *m); // NULL is fine

// Add one vector: mean and co-moments are updated in place (Welford).
void yd_moments_add(yd_moments *m, const float *x);
long yd_moments_count(const yd_moments *m);

// Never below 0. YD_E_INVALID when the sizes differ, a set has fewer than 2 vectors or a number in it is not finite; YD_E_NOMEM.
// Takes about 2*count*size^2 operations for the smaller set of at most `size` vectors, up to 10*size^3 for larger ones.
int yd_frechet_distance(const yd_moments *a, const yd_moments *b, double *out, yd_err *err);

#endif
