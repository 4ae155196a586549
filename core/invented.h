// An account of what was invented: where the network put detail that the source does not have, and where its result says something else
// than the source does.
//
// Contradiction: the result reduced to the source's size (bicubic, antialiased) minus the source. An enlargement that adds detail and
// changes nothing else has none; a shift in brightness or colour shows with its full size.
// Added detail: the energy of the result's finest band, which the source's grid cannot hold (the picture minus itself reduced and enlarged
// again), beyond that of plain enlargement, averaged over the area of each source pixel. Plain enlargement adds none.
// Both are in steps of 8 bits (0..255), in the colours that were processed; what transparency hides does not count.
//
// The picture has the result's size: the result's luma as dim grey, over it
//   cyan   added detail; full strength at YD_INVENTED_FULL_DETAIL steps
//   red    contradiction, the largest of the three channels; nothing below YD_INVENTED_QUIET, full strength at YD_INVENTED_FULL_DIFFERENCE
// Reentrant, single-threaded; the same bits on every machine.
#ifndef YD_CORE_INVENTED_H
#define YD_CORE_INVENTED_H

#include "core/image.h"

#define YD_INVENTED_FULL_DETAIL     24
#define YD_INVENTED_QUIET           2 // rounding, and what reducing an enlargement loses
#define YD_INVENTED_FULL_DIFFERENCE 8

typedef struct yd_invented {
    double difference_rms; // contradiction, over the three channels
    double psnr_db;        // the same as a PSNR; 100 when there is none
    double contradicted;   // share of the source's pixels that differ by more than YD_INVENTED_QUIET steps
    double detail_rms;     // added detail
    double changed;        // share of the result's pixels whose luma differs from plain enlargement by more than YD_INVENTED_QUIET steps
} yd_invented;

// Compare a result with its source (as decoded for it; the result at least as large on both sides). picture: filled in when not NULL,
// owned by the caller: yd_image_clear. A picture of which nothing can be seen gives zeros and 100 dB. YD_E_INVALID, YD_E_NOMEM.
int yd_invented_account(const yd_image *source, const yd_image *result, yd_invented *numbers, yd_image *picture, yd_err *err);

// Bytes of memory that yd_invented_account takes at most while it runs, picture included, sources excluded. Sides 1..65535.
size_t yd_invented_bytes(int in_w, int in_h, int out_w, int out_h);

#endif
