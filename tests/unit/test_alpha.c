// core/alpha: what is seen keeps its colours, what is not seen takes those of its neighbours, whatever it was before.
#include "core/alpha.h"
#include "core/mem.h"
#include "tests/unit/t.h"

enum { W = 37, H = 29 };

typedef struct pixels {
    uint16_t rgb[W * H * 3], alpha[W * H];
} pixels;

// A patch of two colours in the middle, around it nothing, painted with `unseen`.
static void patch(pixels *p, uint16_t unseen)
{
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            const int i = y * W + x, in = x >= 12 && x < 24 && y >= 8 && y < 20;
            p->alpha[i] = in ? 65535 : 0;
            for (int c = 0; c < 3; c++) p->rgb[3 * i + c] = in ? (uint16_t)((x < 18) == (c == 0) ? 50000 : 8000) : unseen;
        }
}

static void what_is_seen_stays(void)
{
    static pixels before, after;
    patch(&before, 65535);
    for (int i = 0; i < W * H; i++)
        if (before.alpha[i] && i % 3 == 0) before.alpha[i] = (uint16_t)(4096 + i); // translucent is seen too
    after = before;
    CHECK(yd_alpha_fill(after.rgb, after.alpha, W, H, NULL) == 0);
    int changed = 0, filled = 0;
    for (int i = 0; i < W * H; i++) {
        int same = memcmp(before.rgb + 3 * i, after.rgb + 3 * i, 6) == 0;
        changed += before.alpha[i] && !same;
        filled += !before.alpha[i] && !same;
    }
    CHECK_MSG(changed == 0 && filled == W * H - 12 * 12, "%d changed, %d filled", changed, filled);
}

static void what_was_unseen_does_not_matter(void)
{
    static pixels a, b;
    patch(&a, 0);
    patch(&b, 65535);
    CHECK(yd_alpha_fill(a.rgb, a.alpha, W, H, NULL) == 0 && yd_alpha_fill(b.rgb, b.alpha, W, H, NULL) == 0);
    CHECK(memcmp(a.rgb, b.rgb, sizeof a.rgb) == 0);
}

// Beside the patch its colours go on: left of it the left one, right of it the right one; nowhere a colour that nobody has.
static void neighbours_give_their_colour(void)
{
    static pixels p;
    patch(&p, 65535);
    CHECK(yd_alpha_fill(p.rgb, p.alpha, W, H, NULL) == 0);
    for (int y = 9; y < 19; y++) {
        const uint16_t *left = p.rgb + 3 * (y * W + 11), *right = p.rgb + 3 * (y * W + 24);
        CHECK_MSG(left[0] > 45000 && left[1] < 13000, "left of row %d: %d %d", y, left[0], left[1]);
        CHECK_MSG(right[0] < 13000 && right[1] > 45000, "right of row %d: %d %d", y, right[0], right[1]);
    }
    for (int i = 0; i < W * H * 3; i++) CHECK_MSG(p.rgb[i] >= 8000 && p.rgb[i] <= 50000, "%d at %d", p.rgb[i], i);
}

static void one_pixel_fills_all(void)
{
    static pixels p;
    for (int at = 0; at < W * H; at += 97) {
        memset(&p, 0x5a, sizeof p);
        memset(p.alpha, 0, sizeof p.alpha);
        p.alpha[at] = 1; // hardly there, yet all there is
        p.rgb[3 * at] = 100, p.rgb[3 * at + 1] = 20000, p.rgb[3 * at + 2] = 65535;
        CHECK(yd_alpha_fill(p.rgb, p.alpha, W, H, NULL) == 0);
        int off = 0;
        for (int i = 0; i < W * H; i++) off += p.rgb[3 * i] != 100 || p.rgb[3 * i + 1] != 20000 || p.rgb[3 * i + 2] != 65535;
        CHECK_MSG(off == 0, "pixel %d: %d differ", at, off);
    }
}

static void nothing_seen_nothing_done(void)
{
    static pixels p, before;
    patch(&p, 1234);
    memset(p.alpha, 0, sizeof p.alpha);
    before = p;
    CHECK(yd_alpha_fill(p.rgb, p.alpha, W, H, NULL) == 0 && memcmp(&p, &before, sizeof p) == 0);
    uint16_t one[3] = {1, 2, 3}, none = 0, full = 65535;
    CHECK(yd_alpha_fill(one, &none, 1, 1, NULL) == 0 && one[0] == 1 && one[2] == 3);
    CHECK(yd_alpha_fill(one, &full, 1, 1, NULL) == 0 && one[0] == 1 && one[2] == 3);
    CHECK(!yd_alpha_opaque(&none, 1) && yd_alpha_opaque(&full, 1));
}

// Below 1/16 opacity the own colour counts in proportion: half way there, half of it.
static void faint_pixels_are_mixed(void)
{
    uint16_t rgb[2 * 3] = {60000, 60000, 60000, 20000, 20000, 20000}, alpha[2] = {65535, 2048};
    CHECK(yd_alpha_fill(rgb, alpha, 2, 1, NULL) == 0);
    CHECK(rgb[0] == 60000);
    // Above both lies their mean by weight, (60000 + 20000/2) / 1.5 = 46667; half of that and half of 20000.
    CHECK_MSG(abs(rgb[3] - 33333) <= 2, "%d", rgb[3]);
}

static void memory_may_fail_and_is_bounded(void)
{
    static pixels p, before;
    int rc = YD_E_NOMEM;
    long k = 1;
    patch(&p, 0);
    before = p;
    for (; k < 100 && rc; k++) {
        yd_err err = {0};
        yd_mem_fail_at(k);
        rc = yd_alpha_fill(p.rgb, p.alpha, W, H, &err);
        yd_mem_fail_at(0);
        CHECK(rc == 0 || (rc == YD_E_NOMEM && strstr(err.detail, "37x29") && memcmp(&p, &before, sizeof p) == 0));
    }
    CHECK_MSG(rc == 0 && k == 1 + 1 + 2 * 6 + 1, "%ld allocations", k - 2);
    CHECK(yd_alpha_fill_bytes(W, H) >= W * H * 2 + W * H * 8 / 3 && yd_alpha_fill_bytes(1000, 1000) < 5000000);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"alpha: what is seen keeps its colour", what_is_seen_stays},
        {"alpha: what an unseen pixel held does not matter", what_was_unseen_does_not_matter},
        {"alpha: unseen pixels take their neighbours' colours", neighbours_give_their_colour},
        {"alpha: one pixel fills a whole picture", one_pixel_fills_all},
        {"alpha: without a visible pixel nothing changes", nothing_seen_nothing_done},
        {"alpha: faint pixels count in proportion", faint_pixels_are_mixed},
        {"alpha: memory may fail, and is bounded", memory_may_fail_and_is_bounded},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
