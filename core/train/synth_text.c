// Letters as strokes: see synth.h. No font files are needed, and every line is written in another hand (weight, width, slant).
//
// A glyph is a text of points "xy" on a grid 5 wide, capitals from y = 0 to the base line at 6, small letters from 2, tails to 8;
// '|' lifts the pen.
// Owns nothing; cannot fail.
#include "core/train/synth.h"

#include <string.h>

static const char *const capitals[] = {
    "062046|1434", "00063645443303|3342413000", "4130100105163645", "00062645412000", "40000646|0333", "400006|0333",
    "41301001051636454323", "0006|4046|0343", "2026", "4045361605", "0006|4003|1346", "000646", "0600234046", "06004640",
    "100105163645413010", "06003041423303", "100105163645413010|3446", "06003041423303|2346", "413010010213334445361605",
    "0040|2026", "000516364540", "002640", "0016233640", "0046|4006", "002340|2326", "00400646",
};
static const char *const small_letters[] = {
    "12324346|441405163645", "0006|0312324345361605", "4332120305163645", "4046|4332120305163645", "04444332120305163645",
    "40302126|0242", "4247381807|4332120305163645", "0006|0312324346", "2226|2020", "32372818|3030", "0006|3204|1436", "2026",
    "0206|03122326|23324346", "0206|0312324346", "120305163645433212", "0208|0312324345361605", "4248|4332120305163645",
    "0206|031232", "43321203143445361605", "20253646|0242", "0205163645|4246", "022642", "0216243642", "0246|4206", "0226|4218",
    "02420646",
};
static const char *const digits[] = {
    "100105163645413010", "112026", "01103041420646", "0040234445361605", "36300444", "400003334445361605",
    "4130100105163645443303", "004016", "1001021304051636454433424130|1030|1333", "433313020110304145361605",
};
static const char *const signs[] = {"2626", "2627", "1333", "2323|2626", "2024|2626", "300306", "0340", "0242|0444"};
#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

typedef struct hand {
    float height, width, weight, slant, gap; // pixels; slant: x per y
} hand;

static hand draw_hand(yd_synth *s, float height)
{
    hand h = {.height = height};
    h.width = height * yd_synth_between(s, 0.42f, 0.75f);
    h.weight = height * (yd_synth_chance(s, 0.25f) ? yd_synth_between(s, 0.17f, 0.26f) : yd_synth_between(s, 0.07f, 0.15f));
    h.slant = yd_synth_chance(s, 0.25f) ? yd_synth_between(s, 0.1f, 0.3f) : 0.0f;
    h.gap = h.weight + height * yd_synth_between(s, 0.12f, 0.25f);
    return h;
}

static void draw_glyph(yd_synth *s, const char *glyph, const hand *h, float x, float y, const float colour[3])
{
    float from_x = 0, from_y = 0;
    int down = 0;
    for (const char *p = glyph; *p; p++) {
        if (*p == '|') {
            down = 0;
            continue;
        }
        const float gy = (float)(p[1] - '0') / 6.0f, gx = (float)(p[0] - '0') / 4.0f;
        const float to_x = x + gx * h->width + (1 - gy) * h->height * h->slant, to_y = y + gy * h->height;
        if (down) yd_synth_stroke(s, from_x, from_y, to_x, to_y, h->weight, colour);
        from_x = to_x;
        from_y = to_y;
        down = 1;
        p++;
    }
}

static const char *draw_letter(yd_synth *s, int kind)
{
    switch (kind) {
    case 0: return capitals[yd_synth_below(s, COUNT(capitals))];
    case 1: return digits[yd_synth_below(s, COUNT(digits))];
    case 2: return signs[yd_synth_below(s, COUNT(signs))];
    default: return small_letters[yd_synth_below(s, COUNT(small_letters))];
    }
}

void yd_synth_text_line(yd_synth *s, float x, float y, float x1, float height, const float colour[3])
{
    const hand h = draw_hand(s, height);
    while (x + h.width < x1) {
        const int length = 1 + yd_synth_below(s, 9), numbers = yd_synth_chance(s, 0.12f), loud = yd_synth_chance(s, 0.12f);
        for (int i = 0; i < length && x + h.width < x1; i++) {
            const int kind = numbers ? 1 : loud || (i == 0 && yd_synth_chance(s, 0.25f)) ? 0 : 3;
            draw_glyph(s, draw_letter(s, kind), &h, x, y, colour);
            x += h.width + h.gap;
        }
        if (yd_synth_chance(s, 0.15f)) draw_glyph(s, draw_letter(s, 2), &h, x, y, colour);
        x += h.width + h.gap;
    }
}

void yd_synth_paragraph(yd_synth *s, float x0, float y0, float x1, float y1, float height, const float colour[3])
{
    const float pitch = height * yd_synth_between(s, 1.5f, 2.1f);
    for (float y = y0; y + height * 1.3f < y1; y += pitch)
        yd_synth_text_line(s, x0, y, yd_synth_chance(s, 0.15f) ? x0 + (x1 - x0) * 0.6f : x1, height, colour);
}
