// The CIEDE2000 colour difference (CIE 142-2001; formulas as in Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula", 2005),
// with kL = kC = kH = 1. About 1 is what an attentive eye can just tell apart.
#ifndef CIEDE2000_H
#define CIEDE2000_H

#include <math.h>

typedef struct lab {
    double L, a, b;
} lab;

static inline double degrees(double a, double b)
{
    if (a == 0 && b == 0) return 0;
    double h = atan2(b, a) * 180 / M_PI;
    return h < 0 ? h + 360 : h;
}

static inline double ciede2000(lab p, lab q)
{
    const double rad = M_PI / 180, c25 = pow(25, 7);
    double mean = (hypot(p.a, p.b) + hypot(q.a, q.b)) / 2, g = 0.5 * (1 - sqrt(pow(mean, 7) / (pow(mean, 7) + c25)));
    double a1 = (1 + g) * p.a, a2 = (1 + g) * q.a, c1 = hypot(a1, p.b), c2 = hypot(a2, q.b);
    double h1 = degrees(a1, p.b), h2 = degrees(a2, q.b), dh = h2 - h1, hm = h1 + h2;
    if (c1 * c2 == 0)
        dh = 0;
    else if (dh > 180)
        dh -= 360;
    else if (dh < -180)
        dh += 360;
    if (c1 * c2 != 0) hm = fabs(h1 - h2) <= 180 ? hm / 2 : hm < 360 ? (hm + 360) / 2 : (hm - 360) / 2;
    double dL = q.L - p.L, dC = c2 - c1, dH = 2 * sqrt(c1 * c2) * sin(dh / 2 * rad), Lm = (p.L + q.L) / 2, Cm = (c1 + c2) / 2;
    double t = 1 - 0.17 * cos((hm - 30) * rad) + 0.24 * cos(2 * hm * rad) + 0.32 * cos((3 * hm + 6) * rad) -
               0.20 * cos((4 * hm - 63) * rad);
    double turn = 30 * exp(-pow((hm - 275) / 25, 2)), rc = 2 * sqrt(pow(Cm, 7) / (pow(Cm, 7) + c25));
    double sl = 1 + 0.015 * pow(Lm - 50, 2) / sqrt(20 + pow(Lm - 50, 2)), sc = 1 + 0.045 * Cm, sh = 1 + 0.015 * Cm * t;
    double l = dL / sl, c = dC / sc, h = dH / sh;
    return sqrt(l * l + c * c + h * h - sin(2 * turn * rad) * rc * c * h);
}

#endif
