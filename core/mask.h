// From attention to work: the activation step of every pixel and what follows from it (Eq. 8 of the YODA paper).
//
// A pixel with attention A is refined in steps s <= a, a = clamp(floor(S*(A + l) + 1e-4), 1, S) for the form `add`,
// clamp(floor(S*max(A, l) + 1e-4), 1, S) for `max`, computed in double. M(s) = (a >= s): once on, on for all smaller s.
// So the whole schedule of a job is known before its first network call. Pure functions; any thread.
#ifndef YD_CORE_MASK_H
#define YD_CORE_MASK_H

#include "core/err.h"
#include <stdint.h>

typedef enum { YD_MASK_ADD, YD_MASK_MAX } yd_mask_form;

// a[i] for n attention values in [0,1] (values outside are clamped, NaN counts as 1). steps 1..YD_MAX_STEPS, lower_bound in [0,1].
void yd_mask_activation(const float *attention, long n, int steps, double lower_bound, yd_mask_form form, uint16_t *a);

// counts[s] for s = 1..steps: pixels with a >= s. counts has steps+1 entries, counts[0] is set to n.
void yd_mask_counts(const uint16_t *a, long n, int steps, long *counts);

// Share of diffused pixel-steps: mean(a)/steps, in (0,1].
double yd_mask_share(const uint16_t *a, long n, int steps);

#endif
