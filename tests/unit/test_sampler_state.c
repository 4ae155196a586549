// A sampler's state saved between two steps and taken up by another sampler: the same bytes at the end, and nothing else is taken up.
#include "core/sampler.h"
#include "core/upscale.h"

#include "core/mem.h"
#include "tests/unit/t.h"

#define W 90
#define H 70

static yd_model_config cfg;
static yd_sample_settings set;
static yd_err err;
static uint8_t rgb[W * H * 3];
static float map[W * H];

static void setup(void)
{
    yd_model_config_init(&cfg);
    cfg.prediction = YD_PREDICT_X0;
    cfg.target = YD_TARGET_RESIDUAL;
    cfg.residual_scale = 4;
    cfg.window = 32;
    cfg.overlap = 8;
    cfg.schedule.kind = YD_SCHEDULE_COSINE;
    set = cfg.defaults;
    set.steps = 6;
    set.seed = 7;
    set.lower_bound = 0.3;
    for (int i = 0; i < W * H * 3; i++) rgb[i] = (uint8_t)(i * 7 + i / 90);
    for (int i = 0; i < W * H; i++) map[i] = (float)(i % W < W / 2 ? 0.0 : (i % 17) / 16.0);
}

static yd_sampler *make(void)
{
    yd_sampler *s = NULL;
    CHECK_MSG(yd_sampler_new(&cfg, &set, W, H, rgb, map, &s, &err) == 0, "%s", err.detail);
    return s;
}

// One step with a network that answers something of everything it sees. 0 when the sampler is done.
static int step(yd_sampler *s)
{
    static float x[32 * 32 * 6], pred[32 * 32 * 3];
    yd_unit u;
    yd_step_info info;
    float level;
    int done = 0;
    while (!done && yd_sampler_next(s, &u) == 1) {
        yd_sampler_gather(s, &u, x, &level);
        for (int i = 0; i < 32 * 32 * 3; i++) pred[i] = 0.4f * x[i / 3 * 6 + i % 3] + 0.3f * x[i / 3 * 6 + 3 + i % 3] + 0.1f * level;
        done = yd_sampler_scatter(s, &u, pred, &info, &err);
    }
    CHECK(done == 1);
    return !yd_sampler_done(s);
}

static void *saved(const yd_sampler *s, size_t *len, const char *fingerprint)
{
    *len = yd_sampler_state_bytes(s);
    void *state = yd_malloc(*len);
    CHECK(yd_sampler_save(s, state) == 0);
    yd_sampler_seal(state, *len, fingerprint);
    return state;
}

static int same(const yd_sampler *a, const yd_sampler *b)
{
    static uint16_t x[W * H * 3], y[W * H * 3];
    static uint8_t p[W * H * 3], q[W * H * 3];
    yd_sampler_preview(a, p);
    yd_sampler_preview(b, q);
    return yd_sampler_result16(a, x) && yd_sampler_result16(b, y) && memcmp(x, y, sizeof x) == 0 && memcmp(p, q, sizeof p) == 0;
}

// Units that a sampler hands out from here to its end.
static long units_of(yd_sampler *s)
{
    yd_work before, after;
    yd_sampler_work(s, &before);
    long left = before.units_left;
    while (step(s)) {
        yd_sampler_work(s, &after);
        CHECK(after.units_left < left && after.steps_left < before.steps_left);
        left = after.units_left;
    }
    yd_sampler_work(s, &after);
    CHECK(after.units_left == 0);
    return before.units_left;
}

// Broken off after every number of steps.
static void breaks(const char *what)
{
    yd_sampler *whole = make();
    yd_work work;
    yd_sampler_work(whole, &work);
    CHECK_MSG(work.units_left == work.units, "%s: %ld of %ld", what, work.units_left, work.units);
    units_of(whole);
    for (int after = 1;; after++) {
        yd_sampler *first = make(), *second = make();
        int more = 1;
        size_t len;
        for (int i = 0; i < after && more; i++) more = step(first);
        if (!more) {
            char none[1];
            CHECK(yd_sampler_save(first, none) == -1); // it is done
            CHECK_MSG(after > 2, "%s: broken off nowhere", what);
            yd_sampler_free(first);
            yd_sampler_free(second);
            break;
        }
        void *state = saved(first, &len, "yfp1:a");
        yd_sampler_free(first);
        CHECK_MSG(yd_sampler_restore(second, state, len, "yfp1:a", &err) == 0, "%s: %s", what, err.detail);
        yd_free(state);
        units_of(second);
        CHECK_MSG(same(whole, second), "%s: other bytes when broken off after %d steps", what, after);
        yd_sampler_free(second);
    }
    yd_sampler_free(whole);
}

static void the_same_bytes(void)
{
    static const yd_sampler_kind kinds[] = {YD_SAMPLER_ANCESTRAL, YD_SAMPLER_DDIM, YD_SAMPLER_DPMPP_2M};
    for (size_t k = 0; k < 3; k++)
        for (int allocation = YD_ALLOCATION_LATE; allocation <= YD_ALLOCATION_WINDOWS; allocation++)
            for (int f = 0; f < 2; f++)
                for (int input = 0; input < 2; input++) {
                    if (!input && allocation != YD_ALLOCATION_LATE) continue; // does not go together
                    char what[96];
                    setup();
                    cfg.mask_input = input;
                    set.sampler = kinds[k];
                    set.allocation = (yd_allocation)allocation;
                    set.fidelity = f ? 0.25 : 0.0;
                    set.skip = !(k == 1 && f);
                    snprintf(what, sizeof what, "%s, allocation %d, fidelity %g, mask_input %d", yd_sampler_name(kinds[k]), allocation,
                             set.fidelity, input);
                    breaks(what);
                }
}

static void refuses(yd_sampler *s, const void *state, size_t len, const char *fingerprint, int code, const char *what)
{
    CHECK_MSG(yd_sampler_restore(s, state, len, fingerprint, &err) == code && *err.detail, "%s: %d %s", what, err.code, err.detail);
}

static void only_what_fits(void)
{
    setup();
    set.sampler = YD_SAMPLER_DPMPP_2M;
    yd_sampler *whole = make(), *s = make(), *other;
    size_t len;
    step(s);
    step(s);
    uint8_t *state = saved(s, &len, "yfp1:a");
    yd_unit u;
    CHECK(yd_sampler_next(s, &u) == 1);
    CHECK(yd_sampler_save(s, state) == -1); // a unit is out
    yd_sampler_free(s);
    s = make();
    refuses(s, state, len, "yfp1:b", YD_E_CONFLICT, "another fingerprint");
    for (size_t at = 0; at < len; at += 1 + len / 997) {
        state[at] ^= 0x10;
        CHECK_MSG(yd_sampler_restore(s, state, len, "yfp1:a", &err) == YD_E_INVALID, "byte %zu changed unnoticed", at);
        state[at] ^= 0x10;
    }
    const size_t cuts[] = {0, 7, 100, len / 2, len - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) refuses(s, state, cuts[i], "yfp1:a", YD_E_INVALID, "cut short");
    set.seed++;
    other = make();
    refuses(other, state, len, "yfp1:a", YD_E_CONFLICT, "another seed");
    yd_sampler_free(other);
    set.seed--;
    set.sampler = YD_SAMPLER_DDIM;
    other = make();
    refuses(other, state, len, "yfp1:a", YD_E_CONFLICT, "another sampler");
    yd_sampler_free(other);
    // After all of that it is as it was.
    while (step(whole)) continue;
    while (step(s)) continue;
    CHECK(same(whole, s));
    yd_free(state);
    yd_sampler_free(s);
    yd_sampler_free(whole);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"sampler state: the same bytes wherever it is broken off", the_same_bytes},
        {"sampler state: only what fits is taken up", only_what_fits},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
