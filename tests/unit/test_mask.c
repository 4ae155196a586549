// core/mask: the exact promises of the algorithm, for every number of steps.
#include "core/mask.h"
#include "tests/unit/t.h"

#define MAX_STEPS 4000

static uint16_t one(float att, int steps, double l, yd_mask_form form)
{
    uint16_t a = 0;
    yd_mask_activation(&att, 1, steps, l, form, &a);
    return a;
}

// A = 0, l = k/S refines every pixel exactly k times; l = 0 still leaves one step.
static void test_lower_bound_is_exact(void)
{
    long wrong = 0;
    for (int form = YD_MASK_ADD; form <= YD_MASK_MAX; form++)
        for (int s = 1; s <= MAX_STEPS; s++)
            for (int k = 0; k <= s; k++) {
                int want = k < 1 ? 1 : k;
                if (one(0.0f, s, (double)k / s, (yd_mask_form)form) != want) wrong++;
            }
    CHECK_MSG(wrong == 0, "%ld of all (S, k) are off", wrong);
}

// The same when the share k/S comes from the map, as a float; the slack covers its rounding (S * 2^-25 < 1e-4 up to S = 3355).
static void test_map_value_is_exact(void)
{
    long wrong = 0;
    for (int s = 1; s <= 1600; s++)
        for (int k = 1; k <= s; k++) {
            float att = (float)((double)k / s);
            if (one(att, s, 0.0, YD_MASK_ADD) != k || one(att, s, 0.0, YD_MASK_MAX) != k) wrong++;
        }
    CHECK_MSG(wrong == 0, "%ld of all (S, k) are off", wrong);
}

static void test_full_attention_is_all_steps(void)
{
    for (int s = 1; s <= MAX_STEPS; s++) {
        CHECK(one(1.0f, s, 0.0, YD_MASK_ADD) == s);
        CHECK(one(1.0f, s, 0.4, YD_MASK_ADD) == s);
        CHECK(one(1.0f, s, 0.0, YD_MASK_MAX) == s);
        CHECK(one(0.0f, s, 1.0, YD_MASK_MAX) == s);
    }
}

static void test_forms_differ(void)
{
    CHECK(one(0.25f, 100, 0.5, YD_MASK_ADD) == 75);
    CHECK(one(0.25f, 100, 0.5, YD_MASK_MAX) == 50);
    CHECK(one(0.75f, 100, 0.5, YD_MASK_MAX) == 75);
    CHECK(one(0.75f, 100, 0.5, YD_MASK_ADD) == 100);
    CHECK(one(0.259f, 10, 0.0, YD_MASK_MAX) == 2); // floor, not round
}

static void test_odd_values(void)
{
    CHECK(one(NAN, 50, 0.1, YD_MASK_ADD) == 50);
    CHECK(one(INFINITY, 50, 0.1, YD_MASK_ADD) == 50);
    CHECK(one(-INFINITY, 50, 0.1, YD_MASK_ADD) == 5);
    CHECK(one(-3.0f, 50, 0.1, YD_MASK_ADD) == 5);
    CHECK(one(7.0f, 50, 0.0, YD_MASK_MAX) == 50);
    CHECK(one(-0.0f, 50, 0.0, YD_MASK_MAX) == 1);
}

// More attention is never less work, and the definition written out once more.
static void test_matches_definition(void)
{
    for (int s = 1; s <= 300; s += 13) {
        uint16_t before = 1;
        for (int i = 0; i <= 1000; i++) {
            float att = (float)i / 1000.0f;
            uint16_t a = one(att, s, 0.3, YD_MASK_ADD);
            long want = (long)(s * ((double)att + 0.3) + 1e-4);
            want = want < 1 ? 1 : want > s ? s : want;
            CHECK(a == want);
            CHECK(a >= before);
            before = a;
        }
    }
}

static void test_counts_and_share(void)
{
    enum { N = 1000, S = 37 };
    float att[N];
    uint16_t a[N];
    long counts[S + 1];
    for (int i = 0; i < N; i++) att[i] = (float)((i * 7919) % N) / (float)N;
    yd_mask_activation(att, N, S, 0.2, YD_MASK_ADD, a);
    yd_mask_counts(a, N, S, counts);
    long total = 0;
    for (int s = 0; s <= S; s++) {
        long want = 0;
        for (int i = 0; i < N; i++) want += a[i] >= s;
        CHECK_MSG(counts[s] == want, "step %d: %ld, not %ld", s, counts[s], want);
        if (s > 0) total += counts[s];
    }
    CHECK(counts[0] == N && counts[1] == N);
    CHECK(fabs(yd_mask_share(a, N, S) - (double)total / (N * S)) < 1e-12);

    uint16_t full[3] = {5, 5, 5};
    CHECK(yd_mask_share(full, 3, 5) == 1.0);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"mask: A = 0, l = k/S is k for every S and k", test_lower_bound_is_exact},
        {"mask: A = k/S, l = 0 is k", test_map_value_is_exact},
        {"mask: A = 1 is every step", test_full_attention_is_all_steps},
        {"mask: add and max", test_forms_differ},
        {"mask: values outside [0,1] and NaN", test_odd_values},
        {"mask: the definition, monotone", test_matches_definition},
        {"mask: counts and share", test_counts_and_share},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
