// yoda attention: the attention map of a picture as a grey PNG, on the upsampled grid: white pixels get every step. And the raw maps of an
// attention network, as a safetensors file.
//
// Of the raw maps the file has, F32: "maps" [1, heads, gh, gw], before any normalisation; "rgb" [1, 3, h, w], what the network was shown, 0..1
// before its own normalisation. Metadata: "network", "checksum", "stride", "norm" (what makes 0..1 of each head by default).
#include "core/attention.h"
#include "core/mem.h"
#include "core/model.h"
#include "core/resize.h"
#include "tools/args.h"
#include "tools/attention_args.h"
#include "tools/cli.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_SIDE 65535

typedef struct attention_args {
    const char *method, *model, *raw;
    yd_attention_args nets;
    long scale, threads;
    int list;
} attention_args;

typedef struct source { // the picture upsampled, and what maps may be of
    uint8_t *up;
    int w, h;
    yd_model *model;
    yd_cli_attention attention;
    yd_attention_with with;
} source;

static void source_clear(source *s)
{
    yd_free(s->up);
    yd_model_free(s->model);
    yd_cli_attention_close(&s->attention);
    memset(s, 0, sizeof *s);
}

// ---- a map ---------------------------------------------------------------------------------------------------------

// Compute and write it.
static int write_map(const source *s, const char *method, const char *out, yd_err *err)
{
    const size_t n = (size_t)s->w * (size_t)s->h;
    float *map = yd_malloc(n * sizeof *map);
    uint8_t *plane = yd_malloc(n);
    double sum = 0;
    int rc = map && plane ? yd_attention_compute(method, &s->with, s->up, s->w, s->h, map, err)
                          : yd_fail(err, YD_E_NOMEM, "no memory for a map of %d x %d", s->w, s->h);
    for (size_t i = 0; i < n && rc == 0; i++) {
        sum += (double)map[i];
        plane[i] = (uint8_t)lroundf(map[i] * 255);
    }
    if (rc == 0) rc = yd_cli_write_grey(out, plane, s->w, s->h, err);
    if (rc == 0) printf("%s: %d x %d, %s, mean attention %.3f\n", out, s->w, s->h, method, sum / (double)n);
    yd_free(plane);
    yd_free(map);
    return rc;
}

// ---- raw maps ------------------------------------------------------------------------------------------------------

static int save_raw(const yd_attention_net_info *info, const yd_attention_ref *ref, const float *raw, const int64_t grid[4],
                    const float *rgb, const int64_t shown[4], const char *out, yd_err *err)
{
    const yd_attention_variant *v = &info->variant[ref->variant];
    char name[YD_ATTENTION_NAME_MAX + 20], stride[16];
    yd_st_writer *w = yd_st_writer_new();
    if (!w) return yd_fail(err, YD_E_NOMEM, "no memory for %s", out);
    snprintf(name, sizeof name, "%s%s%s", info->name, *v->word ? "-" : "", v->word);
    snprintf(stride, sizeof stride, "%d", v->stride);
    int rc = yd_st_writer_metadata(w, "network", name, err);
    if (rc == 0) rc = yd_st_writer_metadata(w, "checksum", info->checksum, err);
    if (rc == 0) rc = yd_st_writer_metadata(w, "stride", stride, err);
    if (rc == 0) rc = yd_st_writer_metadata(w, "norm", yd_attention_norm_name(v->norm), err);
    if (rc == 0) rc = yd_st_writer_add(w, "maps", YD_ST_F32, 4, grid, raw, err);
    if (rc == 0) rc = yd_st_writer_add(w, "rgb", YD_ST_F32, 4, shown, rgb, err);
    if (rc == 0) rc = yd_st_writer_save(w, out, err);
    yd_st_writer_free(w);
    if (rc == 0)
        printf("%s: %s, %d heads of %d x %d, shown %d x %d pixels\n", out, name, (int)grid[1], (int)grid[3], (int)grid[2], (int)shown[3],
               (int)shown[2]);
    return rc;
}

static int write_raw(const source *s, const char *method, const char *out, yd_err *err)
{
    yd_attention_net_info info;
    yd_attention_ref ref;
    int nw, nh, gw, gh;
    float *raw = NULL;
    if (!yd_attention_is_net(method))
        return yd_fail_field(err, YD_E_SETTING, "raw", "with an attention network as --method", "'%.64s' is no network and has no raw maps",
                             method);
    int rc = yd_attention_nets_find(s->with.nets, method, &ref, err);
    if (rc) return rc;
    yd_attention_nets_info(s->with.nets, (size_t)ref.net, &info);
    yd_attention_input_size(&info, yd_attention_nets_options(s->with.nets), s->w, s->h, &nw, &nh);
    yd_attention_nets_raw(s->with.nets, &ref, nw, nh, &gw, &gh);
    const size_t px = (size_t)nw * (size_t)nh;
    uint8_t *shown = yd_malloc(3 * px);
    float *planes = yd_malloc(3 * px * sizeof *planes);
    rc = shown && planes ? yd_attention_input(s->up, s->w, s->h, shown, nw, nh, err)
                         : yd_fail(err, YD_E_NOMEM, "no memory for %d x %d pixels", nw, nh);
    if (rc == 0) rc = yd_attention_nets_look(s->with.nets, &ref, shown, nw, nh, &raw, err);
    for (size_t i = 0; i < 3 * px && rc == 0; i++) planes[i % 3 * px + i / 3] = (float)shown[i] / 255.0f;
    if (rc == 0)
        rc = save_raw(&info, &ref, raw, (const int64_t[]){1, info.variant[ref.variant].heads, gh, gw}, planes,
                      (const int64_t[]){1, 3, nh, nw}, out, err);
    yd_free(raw);
    yd_free(planes);
    yd_free(shown);
    return rc;
}

// ---- getting ready -------------------------------------------------------------------------------------------------

static int upsample(const yd_image *in, long scale, source *s, yd_err *err)
{
    const long w = in->w * scale, h = in->h * scale;
    if (w > MAX_SIDE || h > MAX_SIDE) return yd_fail(err, YD_E_IMAGE_TOO_LARGE, "%ld x %ld is more than %d pixels a side", w, h, MAX_SIDE);
    uint8_t *low = yd_malloc((size_t)in->w * (size_t)in->h * 3);
    s->up = yd_malloc((size_t)w * (size_t)h * 3);
    s->w = (int)w;
    s->h = (int)h;
    int rc = s->up && low ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for %ld x %ld pixels", w, h);
    if (rc == 0) yd_image_rgb8(in, low);
    if (rc == 0) rc = yd_resize_bicubic_u8(low, in->w, in->h, 3, s->up, (int)w, (int)h, err);
    yd_free(low);
    return rc;
}

static int load_model(const char *named, yd_model **out, yd_err *err)
{
    char path[1024];
    const int rc = yd_cli_find_model(named, path, sizeof path, err);
    return rc ? rc : yd_cli_load_model(path, NULL, out, err);
}

static int list_all(const attention_args *a, yd_err *err)
{
    size_t n;
    source s = {0};
    yd_attention_ref ref;
    const yd_attention_method *m = yd_attention_methods(&n);
    for (size_t i = 0; i < n; i++) printf("%-10s %s\n", m[i].name, m[i].summary);
    int rc = yd_cli_attention_open(&a->nets, 1, &s.attention, err);
    if (rc == 0) {
        yd_err none = {0}; // looking for one reads them all; that there is none of this name says nothing
        rc = yd_attention_nets_find(s.attention.nets, "-", &ref, &none);
        if (rc == YD_E_SETTING)
            rc = 0;
        else if (rc && err)
            *err = none;
    }
    for (size_t i = 0; rc == 0 && i < yd_attention_nets_count(s.attention.nets); i++) {
        yd_attention_net_info info;
        yd_attention_nets_info(s.attention.nets, i, &info);
        for (int v = 0; v < info.n_variants; v++)
            printf("%s%s%s:max, :avg, :0 to :%d  %s\n", yd_attention_nets_name(s.attention.nets, i), *info.variant[v].word ? "-" : "",
                   info.variant[v].word, info.variant[v].heads - 1, yd_attention_nets_path(s.attention.nets, i));
    }
    source_clear(&s);
    return rc;
}

// On failure *subject is what the message is about.
static int run(const attention_args *a, const char *const *operands, const char **subject, yd_err *err)
{
    source s = {0};
    yd_image in = {0};
    *subject = a->method;
    int rc = yd_attention_check(a->method, err);
    if (rc == 0) rc = yd_cli_attention_open(&a->nets, a->threads, &s.attention, err);
    if (rc == 0) {
        *subject = operands[0];
        rc = yd_cli_read_image(operands[0], &in, err);
    }
    if (rc == 0) {
        *subject = operands[1];
        if (strcmp(a->method, "learned") == 0) rc = load_model(a->model, &s.model, err);
    }
    if (rc == 0) rc = upsample(&in, a->scale, &s, err);
    s.with = (yd_attention_with){s.model ? s.model->map_net : NULL, s.attention.nets};
    if (rc == 0 && a->raw) {
        *subject = a->raw;
        rc = write_raw(&s, a->method, a->raw, err);
    }
    if (rc == 0 && operands[1]) {
        *subject = operands[1];
        rc = write_map(&s, a->method, operands[1], err);
    }
    yd_image_clear(&in);
    source_clear(&s);
    return rc;
}

int yd_cmd_attention(int argc, char **argv)
{
    static const yd_usage usage = {"attention",
                                   "IN [OUT.png]",
                                   2,
                                   YD_ARGS_ANY,
                                   "write a picture's attention map as a grey PNG",
                                   "  yoda attention photo.jpg map.png --method edge --scale 4\n"
                                   "  yoda attention photo.jpg map.png --method dino-vits8:max\n"
                                   "  yoda attention photo.jpg --method dino-vits8 --raw maps.safetensors\n"
                                   "  yoda attention --list\n"};
    attention_args a = {.method = "edge", .scale = 4};
    const char *operands[2] = {NULL, NULL}, *subject = NULL;
    const yd_arg args[] = {
        {"method", 'a', YD_ARG_TEXT, &a.method, 0, 0, "NAME", "attention method, or network and head (default edge)"},
        {"scale", 0, YD_ARG_LONG, &a.scale, 1, 16, "N", "upsample by this first, as a job does (default 4)"},
        {"raw", 0, YD_ARG_TEXT, &a.raw, 0, 0, "OUT", "write a network's maps of all heads as safetensors"},
        {"model", 'm', YD_ARG_TEXT, &a.model, 0, 0, "FILE", "file, or name of one in models/, whose learned map is meant"},
        YD_ATTENTION_ARGS(&a.nets),
        {"threads", 't', YD_ARG_LONG, &a.threads, 0, 1024, "N", "compute threads of a network, 0 = all cores"},
        {"list", 0, YD_ARG_FLAG, &a.list, 0, 0, NULL, "list methods and networks"},
    };
    int status = yd_args_parse(&usage, args, sizeof args / sizeof *args, argc, argv, operands);
    if (status != YD_ARGS_GO_ON) return status;
    yd_err err;
    yd_err_clear(&err);
    if (a.list) return list_all(&a, &err) < 0 ? yd_cli_fail("attention", NULL, &err) : 0;
    if (!operands[0] || (!operands[1] && !a.raw)) {
        fprintf(stderr, "yoda attention: something is missing (usage: yoda attention IN OUT.png, or --list)\n");
        return 2;
    }
    return run(&a, operands, &subject, &err) < 0 ? yd_cli_fail("attention", err.field[0] ? NULL : subject, &err) : 0;
}
