// The line is fitted by least squares whose sums fade, so that the latest fifty runs or so count. Before there is anything to fit,
// further units of a run are taken to cost a tenth of the first.
#include "daemon/cost.h"

#define NEW_WEIGHT 0.2 // of a new measurement in a moving average
#define FADE       0.96
#define GUESS      0.1

void yd_cost_average(double *mean, double now)
{
    *mean = *mean > 0 ? (1 - NEW_WEIGHT) * *mean + NEW_WEIGHT * now : now;
}

static void enter(yd_cost *c, double n, double s)
{
    c->w += 1;
    c->n += n;
    c->nn += n * n;
    c->t += s;
    c->nt += n * s;
}

static void fit(yd_cost *c)
{
    const double spread = c->w * c->nn - c->n * c->n;
    if (spread > 1e-3 * c->w * c->nn) c->more_s = (c->w * c->nt - c->n * c->t) / spread;
    if (c->more_s < 0) c->more_s = 0;
    c->run_s = (c->t - c->more_s * c->n) / c->w;
    if (c->run_s >= 0) return;
    c->run_s = 0;
    c->more_s = c->t / c->n;
}

void yd_cost_init(yd_cost *c, int pays, int most, double one_s)
{
    *c = (yd_cost){.pays = pays && most > 1};
    enter(c, 1, one_s);
    if (c->pays) enter(c, most, one_s * (1 + GUESS * (most - 1)));
    fit(c);
    c->unit_s = one_s;
}

void yd_cost_measured(yd_cost *c, int units, double s)
{
    if (units < 1) return;
    c->w *= FADE;
    c->n *= FADE;
    c->nn *= FADE;
    c->t *= FADE;
    c->nt *= FADE;
    enter(c, units, s);
    c->measured_n = c->measured_n * FADE + units;
    c->measured_s = c->measured_s * FADE + s;
    c->unit_s = c->measured_s / c->measured_n;
    fit(c);
}

double yd_cost_of(const yd_cost *c, double units)
{
    return c->pays ? c->run_s + c->more_s * units : c->unit_s * units;
}
