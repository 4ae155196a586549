// What runs of the device cost, learned from those that were measured: so much for every run and so much for every unit in it.
//
// Where batching does not pay only the price of a unit is of use, whatever run it was in. Threads: one at a time.
#ifndef YD_DAEMON_COST_H
#define YD_DAEMON_COST_H

typedef struct yd_cost {
    int pays;                 // the price of a unit depends on how many share a run
    double unit_s;            // mean over the units of recent runs
    double w, n, nn, t, nt;   // sums of weight, units, units squared, time, units times time
    double measured_n, measured_s; // without what was only guessed
    double run_s, more_s;     // the line through them: run_s + more_s * units
} yd_cost;

// Nothing is known but a run of one unit; most: units that a run can take.
void yd_cost_init(yd_cost *c, int pays, int most, double one_s);
void yd_cost_measured(yd_cost *c, int units, double s);
// Expected time of a run with so many units (fractions are meaningful in the mean).
double yd_cost_of(const yd_cost *c, double units);

// A moving average takes in a new measurement; 0 is none yet.
void yd_cost_average(double *mean, double now);

#endif
