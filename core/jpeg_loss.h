// What storing a picture as a baseline JPEG loses, without making a file: colour conversion, chroma reduction, 8 x 8 DCT, quantisation
// with the standard tables, and all of it back.
//
// Follows what decoders and encoders commonly do (integer colour conversion, triangle filter for chroma), so that the result is within
// two steps of a real file's, but for the rare coefficient that lies on the edge between two quantised values. The block grid may begin
// before the first pixel, as it does in a cut-out of a photo. The same bits on every machine.
// Source: ITU-T T.81 (tables K.1 and K.2, Annex A.3.3), JFIF 1.02 for the colours.
#ifndef YD_CORE_JPEG_LOSS_H
#define YD_CORE_JPEG_LOSS_H

#include "core/err.h"
#include <stdint.h>

#define YD_JPEG_UNIT 16 // pixels after which the grid repeats, whatever the chroma

// Replace rgb (w x h x 3 bytes) by what a JPEG of this quality (1..100) keeps of it, with chroma at full size (4:4:4) or half (4:2:0).
// phase_x, phase_y (0..15): pixels of the first unit that lie before the picture; they repeat its first column and row. YD_E_NOMEM; rgb
// is then untouched. Reentrant.
int yd_jpeg_loss(uint8_t *rgb, int w, int h, int quality, int full_chroma, int phase_x, int phase_y, yd_err *err);

#endif
