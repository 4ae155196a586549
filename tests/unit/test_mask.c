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

// A permutation, whose first k places are as evenly apart as k nested sets can be: no gap much over twice the least one, both ends among them.
static void test_strided(void)
{
    static uint16_t r[4001];
    static const int counts[] = {1, 2, 3, 8, 24, 100, 4000};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        const int S = counts[c];
        static int at[4001];
        yd_mask_thresholds(YD_ALLOCATION_STRIDED, S, r);
        memset(at, 0, sizeof at);
        for (int s = 1; s <= S; s++) at[r[s]] = s;
        for (int k = 1; k <= S; k++) CHECK_MSG(at[k] > 0, "S = %d: no step has threshold %d", S, k);
        CHECK(r[S] == 1 && (S == 1 || r[1] == 2) && yd_mask_threshold(YD_ALLOCATION_STRIDED, S, S) == 1);
        for (int k = 2; k <= S && S <= 100; k++) {
            int least = S, most = 0, last = 0;
            for (int s = 1; s <= S; s++) {
                if (r[s] > k) continue;
                if (last && s - last < least) least = s - last;
                if (last && s - last > most) most = s - last;
                last = s;
            }
            CHECK_MSG(most <= 2 * least + 2, "S = %d, k = %d: gaps of %d to %d", S, k, least, most);
        }
    }
    CHECK(yd_mask_threshold(YD_ALLOCATION_LATE, 9, 4) == 4);
}

// Every pixel's moves lead from step to step of its own, in both allocations; a late one has a single move a step.
static void test_moves(void)
{
    static uint16_t r[4001];
    static const int counts[] = {1, 2, 5, 16, 37, 4000};
    for (size_t c = 0; c < 2 * sizeof counts / sizeof *counts; c++) {
        const int S = counts[c / 2], strided = c % 2, stride = S > 100 ? 97 : 1;
        yd_mask_thresholds(strided ? YD_ALLOCATION_STRIDED : YD_ALLOCATION_LATE, S, r);
        int wrong = 0;
        for (int s = S; s >= 1; s -= stride) {
            yd_mask_move m[YD_MASK_MOVES];
            const int n = yd_mask_moves(r, S, s, m);
            CHECK(n >= 1 && n <= YD_MASK_MOVES && m[0].from == r[s] && m[n - 1].to == S && (strided || n == 1));
            for (int i = 1; i < n; i++) wrong += m[i].from != m[i - 1].to + 1;
            for (int a = r[s]; a <= S; a += stride) {
                int i = 0, before = s + 1, next = s - 1;
                while (i < n - 1 && m[i].to < a) i++;
                while (next > 0 && r[next] > a) next--;
                while (before <= S && r[before] > a) before++;
                wrong += m[i].next != next || (a >= m[i].older) != (before <= S) || (before <= S && m[i].before != before);
            }
        }
        CHECK_MSG(wrong == 0, "S = %d, strided %d: %d moves are wrong", S, strided, wrong);
    }
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
        {"mask: strided thresholds", test_strided},
        {"mask: moves", test_moves},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
