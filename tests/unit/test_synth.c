// Procedural pictures: the same bytes every time, unlike each other, and with the statistics that training needs.
#include "core/train/internal.h"
#include "core/train/synth.h"
#include "t.h"

enum { SIDE = 128, BYTES = SIDE * SIDE * 3 };

static uint64_t digest(const uint8_t *p, size_t n)
{
    uint64_t d = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) d = (d ^ p[i]) * 0x100000001b3u;
    return d;
}

static void test_same_every_time(void)
{
    static uint8_t a[BYTES], b[BYTES];
    yd_err e = {0};
    int same = 0;
    for (uint64_t i = 0; i < 12; i++) {
        CHECK(!yd_synth_picture(7, i, SIDE, a, &e) && !yd_synth_picture(7, i, SIDE, b, &e) && !memcmp(a, b, BYTES));
        CHECK(!yd_synth_picture(8, i, SIDE, b, &e));
        same += !memcmp(a, b, BYTES);
        CHECK(!yd_synth_picture(7, i + 1, SIDE, b, &e));
        same += !memcmp(a, b, BYTES);
    }
    CHECK(same == 0);
}

// Mean absolute difference of horizontal neighbours, of neighbours 8 apart, and the mean, of green.
static void measure(const uint8_t *p, double *near, double *far, double *mean)
{
    double a = 0, b = 0, m = 0;
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            const uint8_t *g = p + 3 * (y * SIDE + x) + 1;
            m += *g;
            if (x + 1 < SIDE) a += abs(g[3] - g[0]);
            if (x + 8 < SIDE) b += abs(g[24] - g[0]);
        }
    *near = a / (SIDE * (SIDE - 1));
    *far = b / (SIDE * (SIDE - 8));
    *mean = m / (SIDE * SIDE);
}

static void test_statistics(void)
{
    static uint8_t p[BYTES];
    yd_err e = {0};
    double near_all = 0, far_all = 0, lowest = 255, highest = 0;
    int flat = 0, busy = 0, colourful = 0;
    enum { N = 80 };
    for (uint64_t i = 0; i < N; i++) {
        double near, far, mean, chroma = 0;
        CHECK(!yd_synth_picture(1, i, SIDE, p, &e));
        measure(p, &near, &far, &mean);
        for (int k = 0; k < SIDE * SIDE; k++) chroma += abs(p[3 * k] - p[3 * k + 2]);
        near_all += near / N;
        far_all += far / N;
        lowest = fmin(lowest, mean);
        highest = fmax(highest, mean);
        flat += near < 0.02;
        busy += near > 25;
        colourful += chroma / (SIDE * SIDE) > 10;
    }
    // photos have a mean difference of neighbours of about 4 to 12 and a clearly larger one further away
    CHECK_MSG(near_all > 3 && near_all < 16 && far_all > 1.6 * near_all, "neighbours differ by %.2f, 8 apart by %.2f", near_all, far_all);
    CHECK_MSG(lowest < 80 && highest > 175, "brightness from %.0f to %.0f", lowest, highest);
    CHECK_MSG(flat <= 1 && busy <= N / 8 && colourful > N / 3, "%d flat, %d busy, %d colourful", flat, busy, colourful);
}

static void test_wave(void)
{
    double worst = 0;
    for (int i = -2000; i < 2000; i++) worst = fmax(worst, fabs((double)yd_synth_wave((float)i / 777) - sin(2 * 3.14159265358979 * (double)((float)i / 777))));
    CHECK_MSG(worst < 0.002, "off by %g", worst);
}

// Known pictures: a change of any drawing routine changes them, and with them every training that uses them.
static void test_known_pictures(void)
{
    static uint8_t p[BYTES];
    yd_err e = {0};
    uint64_t all = 0;
    for (uint64_t i = 0; i < 24; i++) {
        CHECK(!yd_synth_picture(3, i, SIDE, p, &e));
        all = all * 31 + digest(p, BYTES);
    }
    CHECK_MSG(all == 0x47bd32456b11d1efu, "the pictures' digest is 0x%016llxu", (unsigned long long)all);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"synth: same every time, each another", test_same_every_time},
        {"synth: statistics", test_statistics},
        {"synth: the wave is a sine", test_wave},
        {"synth: known pictures", test_known_pictures},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
