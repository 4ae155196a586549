// A full-size ResNet-50 of random weights as an attention network: how long its file takes to load from the page cache, and a map of a picture
// of 224 x 224, of every variant. SqueezeNet with the weights of $YODA_SHARED, where they are.
//
// What is aimed at: loading within 1.0 s. Seconds are the least of several runs.
#include "core/attention_net.h"
#include "tests/bench/bench.h"
#include "tests/oracle/resnet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RUNS = 5 };

static float *picture(int w, int h)
{
    float *rgb = malloc((size_t)(w * h * 3) * sizeof *rgb);
    for (int i = 0; rgb && i < w * h * 3; i++)
        rgb[i] = (float)((i / 3 * 7 + i % 3 * 50 + (int)((unsigned)i * 2654435761u % 97u)) % 256) / 255.0f;
    return rgb;
}

static int time_variants(yd_attention_net *net, int w, int h)
{
    const yd_attention_net_info *info = yd_attention_net_info_of(net);
    float *rgb = picture(w, h), *raw = malloc((size_t)(w * h) * YD_ATTENTION_MAX_HEADS * sizeof *raw);
    int rc = rgb && raw ? 0 : 1;
    for (int v = 0; v < info->n_variants && !rc; v++) {
        yd_err err = {0};
        double best = 1e9, prepared = bench_now_s();
        rc = yd_attention_net_reserve(net, v, 1, w, h, &err);
        prepared = bench_now_s() - prepared;
        for (int i = 0; i < RUNS && !rc; i++) {
            const double start = bench_now_s();
            rc = yd_attention_net_run(net, v, 1, w, h, (const float *const[1]){rgb}, (float *const[1]){raw}, &err);
            const double took = bench_now_s() - start;
            if (took < best) best = took;
        }
        if (rc)
            fprintf(stderr, "%s: %s\n", info->name, err.detail);
        else
            printf("%s%s%-12s %4d x %-4d %d heads %8.3f s    made ready in %.3f s, %5.0f MB\n", info->name,
                   *info->variant[v].word ? "-" : " ", info->variant[v].word, w, h, info->variant[v].heads, best, prepared,
                   (double)info->bytes / 1e6);
    }
    free(rgb);
    free(raw);
    return rc;
}

static int measure(const char *path, int w, int h)
{
    yd_attention_net *net = NULL;
    yd_err err = {0};
    double best = 1e9;
    for (int i = 0; i < RUNS; i++) {
        yd_attention_net_close(net);
        const double start = bench_now_s();
        if (yd_attention_net_open(path, NULL, &net, &err)) {
            fprintf(stderr, "%s\n", err.detail);
            return 1;
        }
        const double took = bench_now_s() - start;
        if (took < best) best = took;
    }
    const yd_attention_net_info *info = yd_attention_net_info_of(net);
    printf("%s: %.1f million numbers, loaded in %.3f s (aim 1.0)\n", info->name, (double)info->params / 1e6, best);
    const int rc = time_variants(net, w, h);
    yd_attention_net_close(net);
    return rc;
}

int main(int argc, char **argv)
{
    const int side = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 224;
    const char *shared = getenv("YODA_SHARED");
    char path[] = "/tmp/yd-bench-resnet-XXXXXX", squeeze[1024];
    const int fd = mkstemp(path);
    if (fd < 0 || side < 1 || side > YD_ATTENTION_MAX_SIDE) return 1;
    close(fd);
    int rc = oracle_resnet_write(path, "", &oracle_resnet50, 1, NULL) ? 1 : measure(path, side, side);
    unlink(path);
    snprintf(squeeze, sizeof squeeze, "%s/data/weights/lpips_squeeze_v0.1.safetensors", shared && *shared ? shared : "../shared");
    if (!rc && !access(squeeze, R_OK)) rc = measure(squeeze, side, side);
    return rc;
}
