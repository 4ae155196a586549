// What cameras and files do to a picture before anybody asks for it to be enlarged: blur, reduction, noise, JPEG.
//
//   HR -> Gaussian blur -> bicubic reduction by the scale -> noise -> JPEG's loss -> LR
//
// Every step may be absent. Parameters are drawn from ranges as a pure function of (seed, number); applying them is a pure function
// of the picture and the parameters, so that training (crop by crop) and evaluation (whole pictures) see the same thing: the crop of a
// degraded picture is the degraded crop, bit for bit, when the crop is taken with yd_degrade_patch.
// Threads: all functions are reentrant.
// Sources: the classical blur-reduce-noise-compress model of blind super-resolution; JPEG as ITU-T T.81 and its Annex K tables.
#ifndef YD_CORE_DEGRADE_H
#define YD_CORE_DEGRADE_H

#include "core/err.h"
#include <stddef.h>
#include <stdint.h>

typedef enum {
    YD_REDUCE_PILLOW8, // yd_resize_bicubic_u8: bytes between the passes, weights cut off at the border
    YD_REDUCE_MATLAB,  // the same kernel, the picture mirrored at the border, rounded once
} yd_reduction;

// A parameter drawn uniformly from lo..hi in a share of the degraded samples, and absent in the others.
typedef struct yd_degrade_range {
    double lo, hi;
    double share; // 0..1
} yd_degrade_range;

typedef struct yd_degrade_ranges {
    double share;           // of samples that are degraded at all; the others are only reduced
    yd_degrade_range blur;  // standard deviation in HR pixels, 0..8
    yd_degrade_range noise; // standard deviation at mid grey in steps of 8 bits, 0..64
    yd_degrade_range jpeg;  // quality, 1..100
    double full_chroma;     // share of the JPEGs that are 4:4:4; the others are 4:2:0
    int any_phase;          // 1: JPEG's block grid begins anywhere (a cut-out of a photo); 0: at the first pixel (a file)
    yd_reduction reduction;
} yd_degrade_ranges;

// One drawn degradation. All zero: reduction alone.
typedef struct yd_degradation {
    double blur;  // standard deviation in HR pixels, 0 = none
    double noise; // standard deviation at mid grey in steps of 8 bits, 0 = none
    double shot;  // 0..1: how much of the noise's variance grows with brightness
    int grey_noise;     // the same noise in all three channels
    int jpeg;           // quality, 0 = none
    int full_chroma;    // 4:4:4
    int phase_x, phase_y; // 0..15: pixels of the first JPEG unit that lie before the LR picture
    yd_reduction reduction;
    uint64_t noise_seed;
} yd_degradation;

// The presets: "none", "mild" (photos as phones and the web deliver them; half of the samples stay clean), "blind" (clearly damaged,
// for evaluation). YD_E_SETTING naming "degrade" and listing them when there is none of that name.
int yd_degrade_preset(const char *name, yd_degrade_ranges *out, yd_err *err);
// Their names as "none, mild, blind", static.
const char *yd_degrade_presets(void);

// Check ranges that somebody else filled. YD_E_SETTING naming the member as "degrade.blur".
int yd_degrade_check(const yd_degrade_ranges *r, yd_err *err);

// The degradation of sample `number`. Pure.
void yd_degrade_draw(const yd_degrade_ranges *r, uint64_t seed, uint64_t number, yd_degradation *out);

// One line about it, as "blur 0.52, noise 2.1, jpeg 84 4:2:0" or "clean". Length needed, as snprintf.
size_t yd_degradation_print(const yd_degradation *d, char *dst, size_t cap);

// Degrade an HR picture (w x h RGB bytes; both sides multiples of scale, 1..16) into lr (w/scale x h/scale RGB, caller-allocated).
// YD_E_NOMEM; YD_E_INVALID for sides that are no multiples.
int yd_degrade_apply(const uint8_t *hr, int w, int h, int scale, const yd_degradation *d, uint8_t *lr, yd_err *err);

// The pixels [x, x+pw) x [y, y+ph) of what yd_degrade_apply would make (LR coordinates, inside the LR picture), at the cost of the part
// alone. lr has pw*ph*3 bytes. Errors as above.
int yd_degrade_patch(const uint8_t *hr, int w, int h, int scale, const yd_degradation *d, int x, int y, int pw, int ph,
                     uint8_t *lr, yd_err *err);

#endif
