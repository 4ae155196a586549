// Room for canvases in one block of device memory: pieces never overlap, what was given back is used again, and more than there is is refused.
#include "core/rng.h"
#include "gpu/pool.h"
#include "tests/unit/t.h"

#define BYTES ((size_t)1 << 20)

static void pieces_never_overlap(void)
{
    static yd_gpu_pool p;
    static unsigned char taken[BYTES / 256];
    size_t at[300], size[300];
    int n = 0, refused = 0;
    yd_gpu_pool_init(&p, BYTES + 100); // the rest is no place
    for (uint64_t i = 0; i < 20000; i++) {
        if (n < 300 && yd_rng_uniform(1, 0, i, 0) < 0.55f) {
            size[n] = 1 + (size_t)(20000.0f * yd_rng_uniform(1, 0, i, 1));
            if (yd_gpu_pool_take(&p, size[n], &at[n])) {
                refused++;
                continue;
            }
            CHECK(at[n] % 256 == 0 && at[n] + size[n] <= BYTES);
            for (size_t b = at[n] / 256; b < (at[n] + size[n] + 255) / 256; b++) {
                CHECK(!taken[b]);
                taken[b] = 1;
            }
            n++;
        } else if (n > 0) {
            const int k = (int)((float)n * yd_rng_uniform(1, 0, i, 2));
            for (size_t b = at[k] / 256; b < (at[k] + size[k] + 255) / 256; b++) taken[b] = 0;
            yd_gpu_pool_give(&p, at[k]);
            n--;
            at[k] = at[n];
            size[k] = size[n];
        }
    }
    CHECK_MSG(refused > 100, "the block was never full: %d", refused);
    while (n > 0) yd_gpu_pool_give(&p, at[--n]);
    CHECK(yd_gpu_pool_take(&p, BYTES, at) == 0 && at[0] == 0); // all of it is there again
    yd_gpu_pool_end(&p);
}

static void what_is_refused(void)
{
    static yd_gpu_pool p;
    size_t at[YD_GPU_PIECES + 1];
    yd_gpu_pool_init(&p, BYTES);
    CHECK(yd_gpu_pool_take(&p, 0, at) == -1 && yd_gpu_pool_take(&p, BYTES + 1, at) == -1 && yd_gpu_pool_take(&p, (size_t)-1, at) == -1);
    CHECK(yd_gpu_pool_take(&p, 300, &at[0]) == 0 && yd_gpu_pool_take(&p, 256, &at[1]) == 0 && at[1] == 512);
    yd_gpu_pool_give(&p, 256); // within a piece: nobody's
    CHECK(p.n == 2);
    yd_gpu_pool_give(&p, at[0]);
    CHECK(yd_gpu_pool_take(&p, 512, &at[0]) == 0 && at[0] == 0 && yd_gpu_pool_take(&p, BYTES - 768, &at[2]) == 0 &&
          yd_gpu_pool_take(&p, 1, &at[3]) == -1);
    yd_gpu_pool_end(&p);
    yd_gpu_pool_init(&p, BYTES);
    for (int i = 0; i < YD_GPU_PIECES; i++) CHECK(yd_gpu_pool_take(&p, 1, &at[i]) == 0);
    CHECK(yd_gpu_pool_take(&p, 1, &at[YD_GPU_PIECES]) == -1);
    yd_gpu_pool_end(&p);
}

static const t_case cases[] = {
    {"pieces never overlap, and room comes back", pieces_never_overlap},
    {"what is refused", what_is_refused},
};

int main(int argc, char **argv)
{
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
