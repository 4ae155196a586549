// From attention to work: how many steps every pixel gets, which ones, and what follows from it (Eq. 8 of the YODA paper).
//
// A pixel with attention A gets a steps, a = clamp(floor(S*(A + l) + 1e-4), 1, S) for the form `add`,
// clamp(floor(S*max(A, l) + 1e-4), 1, S) for `max`, computed in double. Which of the S they are is the allocation's:
//   late     the last a, s = a..1, as in the paper: once on, on for all smaller s
//   strided  a of them over the whole noise range: S first, then 1, then halves of what is between. Sets are nested, so that where a
//            pixel is updated, every pixel with more steps is too
//   windows  strided, but all pixels of a window get the mean of theirs (core/windows.h), so that no window runs for a few of its pixels
// Both are M(s) = (a >= r(s)) with a threshold r(s) for each step, a permutation of 1..S. In a strided one a pixel rests between
// its updates at a noise level that is not the step's, and is as invisible then as one that is off.
// So the whole schedule of a job is known before its first network call. Pure functions; any thread.
#ifndef YD_CORE_MASK_H
#define YD_CORE_MASK_H

#include "core/err.h"
#include <stdint.h>

typedef enum { YD_MASK_ADD, YD_MASK_MAX } yd_mask_form;
typedef enum { YD_ALLOCATION_LATE, YD_ALLOCATION_STRIDED, YD_ALLOCATION_WINDOWS } yd_allocation;

// a[i] for n attention values in [0,1] (values outside are clamped, NaN counts as 1). steps 1..YD_MAX_STEPS, lower_bound in [0,1].
void yd_mask_activation(const float *attention, long n, int steps, double lower_bound, yd_mask_form form, uint16_t *a);

// r(s) for s = 1..steps; r has steps+1 entries, r[0] is set to 0. steps 1..YD_MAX_STEPS.
void yd_mask_thresholds(yd_allocation kind, int steps, uint16_t *r);
// One of them, step 1..steps.
int yd_mask_threshold(yd_allocation kind, int steps, int step);

// What pixels with from <= a <= to do at a step that updates them: they come to it from their step before, where a >= older, or for the
// first time, and go on to the level of `next`, 0 being the end.
typedef struct yd_mask_move {
    int from, to, older;
    int before, next; // before: larger than the step; 0 when a >= older does not occur
} yd_mask_move;

#define YD_MASK_MOVES 32 // as many as a step can have; a late allocation has one

// Fill moves with those of a step, 1..steps, for all a from r[step] to steps. Returns their number.
int yd_mask_moves(const uint16_t *r, int steps, int step, yd_mask_move moves[YD_MASK_MOVES]);

// counts[k] for k = 1..steps: pixels with a >= k. counts has steps+1 entries, counts[0] is set to n.
void yd_mask_counts(const uint16_t *a, long n, int steps, long *counts);

// Share of diffused pixel-steps: mean(a)/steps, in (0,1].
double yd_mask_share(const uint16_t *a, long n, int steps);

#endif
