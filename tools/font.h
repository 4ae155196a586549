// A 5 x 7 bitmap font for captions, so that drawing a word needs no font files. Capitals, digits and a little punctuation; small letters
// are drawn as capitals, anything else as a blank.
#ifndef YD_TOOLS_FONT_H
#define YD_TOOLS_FONT_H

#include <stdint.h>

#define YD_FONT_W 6 // one column of space included
#define YD_FONT_H 7

// Draw text in one colour, each font pixel `zoom` wide, onto rgb (w x h x 3) at (x, y); what lies outside is left out.
void yd_font_draw(uint8_t *rgb, int w, int h, int x, int y, int zoom, const uint8_t colour[3], const char *text);

#endif
