// yoda attention: the attention map of a picture as a grey PNG, on the upsampled grid: white pixels get every step.
#include "core/attention.h"
#include "core/mem.h"
#include "core/model.h"
#include "core/resize.h"
#include "tools/args.h"
#include "tools/cli.h"
#include <math.h>
#include <stdio.h>

#define MAX_SIDE 65535

// The map of a w x h picture as bytes into *plane, which the caller frees.
static int compute_map(const yd_attention_method *m, const yd_map_net *net, const uint8_t *rgb, int w, int h, uint8_t **plane, double *mean,
                       yd_err *err)
{
    size_t n = (size_t)w * (size_t)h;
    float *map = yd_malloc(n * sizeof *map);
    *plane = yd_malloc(n);
    int rc = map && *plane ? yd_attention_compute(m, net, rgb, w, h, map, err)
                           : yd_fail(err, YD_E_NOMEM, "no memory for a map of %d x %d", w, h);
    double sum = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        sum += (double)map[i];
        (*plane)[i] = (uint8_t)lroundf(map[i] * 255);
    }
    *mean = sum / (double)n;
    yd_free(map);
    return rc;
}

// Upsample, compute, write.
static int run(const yd_image *in, const yd_attention_method *m, const yd_map_net *net, long scale, const char *out, yd_err *err)
{
    long w = in->w * scale, h = in->h * scale;
    if (w > MAX_SIDE || h > MAX_SIDE)
        return yd_fail(err, YD_E_IMAGE_TOO_LARGE, "%ld x %ld is more than %d pixels a side", w, h, MAX_SIDE);
    uint8_t *up = yd_malloc((size_t)w * (size_t)h * 3), *low = yd_malloc((size_t)in->w * (size_t)in->h * 3), *plane = NULL;
    double mean = 0;
    int rc = up && low ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for %ld x %ld pixels", w, h);
    if (rc == 0) yd_image_rgb8(in, low);
    if (rc == 0) rc = yd_resize_bicubic_u8(low, in->w, in->h, 3, up, (int)w, (int)h, err);
    if (rc == 0) rc = compute_map(m, net, up, (int)w, (int)h, &plane, &mean, err);
    if (rc == 0) rc = yd_cli_write_grey(out, plane, (int)w, (int)h, err);
    if (rc == 0) printf("%s: %ld x %ld, %s, mean attention %.3f\n", out, w, h, m->name, mean);
    yd_free(plane);
    yd_free(low);
    yd_free(up);
    return rc;
}

static int load_model(const char *named, yd_model **out, yd_err *err)
{
    char path[1024];
    const int rc = yd_cli_find_model(named, path, sizeof path, err);
    return rc ? rc : yd_cli_load_model(path, NULL, out, err);
}

static int list_methods(void)
{
    size_t n;
    const yd_attention_method *m = yd_attention_methods(&n);
    for (size_t i = 0; i < n; i++) printf("%-10s %s\n", m[i].name, m[i].summary);
    return 0;
}

int yd_cmd_attention(int argc, char **argv)
{
    static const yd_usage usage = {"attention",
                                   "IN OUT.png",
                                   2,
                                   1,
                                   "write a picture's attention map as a grey PNG",
                                   "  yoda attention photo.jpg map.png --method edge --scale 4\n"
                                   "  yoda attention --list\n"};
    const char *method = "edge", *named = NULL, *operands[2] = {NULL, NULL};
    long scale = 4;
    int list = 0;
    const yd_arg args[] = {
        {"method", 'a', YD_ARG_TEXT, &method, 0, 0, "NAME", "attention method (default edge)"},
        {"scale", 0, YD_ARG_LONG, &scale, 1, 16, "N", "upsample by this first, as a job does (default 4)"},
        {"model", 'm', YD_ARG_TEXT, &named, 0, 0, "FILE", "file, or name of one in models/, whose learned map is meant"},
        {"list", 0, YD_ARG_FLAG, &list, 0, 0, NULL, "list the methods"},
    };
    int status = yd_args_parse(&usage, args, sizeof args / sizeof *args, argc, argv, operands);
    if (status != YD_ARGS_GO_ON) return status;
    if (list) return list_methods();
    if (!operands[1]) {
        fprintf(stderr, "yoda attention: something is missing (usage: yoda attention IN OUT.png, or --list)\n");
        return 2;
    }

    yd_err err;
    yd_err_clear(&err);
    const yd_attention_method *m;
    yd_image in = {0};
    if (yd_attention_find(method, &m, &err) < 0) return yd_cli_fail("attention", method, &err);
    if (yd_cli_read_image(operands[0], &in, &err) < 0) return yd_cli_fail("attention", operands[0], &err);
    yd_model *model = NULL;
    int rc = m->compute ? 0 : load_model(named, &model, &err);
    if (rc == 0) rc = run(&in, m, model ? model->map_net : NULL, scale, operands[1], &err);
    yd_model_free(model);
    yd_image_clear(&in);
    return rc < 0 ? yd_cli_fail("attention", operands[1], &err) : 0;
}
