// Full-size vision transformers of random weights as attention networks: how long a file takes to load from the page cache, and the map of a
// picture of 224 x 224, alone and in runs of four.
//
// What is aimed at, for ViT-S/8 on two cores: loading within 1.0 s, a map within 1.0 s. Seconds are the least of several runs.
#include "core/attention_net.h"
#include "tests/bench/bench.h"
#include "tests/unit/vit_rig.h"

#include <unistd.h>

enum { RUNS = 5, SIDE = 224, MOST = 4 };

static int time_runs(yd_attention_net *net, int n, double *best)
{
    static float rgb[SIDE * SIDE * 3], *raw[MOST];
    const float *in[MOST];
    yd_err err = {0};
    for (int i = 0; i < SIDE * SIDE * 3; i++) rgb[i] = (float)((i * 7 + i / 977) % 256) / 255.0f;
    for (int i = 0; i < MOST; i++) {
        in[i] = rgb;
        if (!raw[i]) raw[i] = malloc(sizeof *raw[i] * YD_ATTENTION_MAX_HEADS * SIDE * SIDE / 16);
    }
    *best = 1e9;
    int rc = yd_attention_net_reserve(net, 0, n, SIDE, SIDE, &err);
    for (int k = 0; k < RUNS && !rc; k++) {
        const double start = bench_now_s();
        rc = yd_attention_net_run(net, 0, n, SIDE, SIDE, in, raw, &err);
        const double took = (bench_now_s() - start) / n;
        if (took < *best) *best = took;
    }
    if (rc) fprintf(stderr, "%s\n", err.detail);
    return rc;
}

static int measure(const vit_rig *r)
{
    char path[] = "/tmp/yoda-bench-vit-XXXXXX";
    yd_attention_net *net = NULL;
    yd_err err = {0};
    double loaded = 1e9, alone = 0, shared = 0;
    const int fd = mkstemp(path);
    int rc = fd < 0 || vit_rig_save(r, NULL, path);
    for (int k = 0; k < 3 && !rc; k++) {
        yd_attention_net_close(net);
        const double start = bench_now_s();
        rc = yd_attention_net_open(path, NULL, &net, &err);
        if (bench_now_s() - start < loaded) loaded = bench_now_s() - start;
    }
    if (rc) fprintf(stderr, "no network: %s\n", err.detail);
    if (!rc) rc = time_runs(net, 1, &alone) || time_runs(net, MOST, &shared);
    if (!rc) {
        const yd_attention_net_info *info = yd_attention_net_info_of(net);
        printf("%-12s %5.1f M numbers, loaded in %.3f s, a map in %.3f s, in runs of %d %.3f s, %.0f MB%s\n", info->name,
               (double)info->params / 1e6, loaded, alone, MOST, shared, (double)info->bytes / 1e6,
               r->dim == 384 && r->patch == 8 && (loaded > 1.0 || alone > 1.0) ? "   more than the 1.0 s aimed at" : "");
    }
    yd_attention_net_close(net);
    if (fd >= 0) {
        close(fd);
        unlink(path);
    }
    return rc;
}

int main(void)
{
    static const vit_rig nets[] = {
        {.dim = 384, .depth = 12, .patch = 8, .grid = 28, .hidden = 1536},
        {.dim = 384, .depth = 12, .patch = 16, .grid = 14, .hidden = 1536},
        {.dim = 768, .depth = 12, .patch = 16, .grid = 14, .hidden = 3072},
        {.dim = 768, .depth = 12, .patch = 8, .grid = 28, .hidden = 3072},
    };
    int broken = 0;
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) broken |= measure(&nets[i]) != 0;
    return broken;
}
