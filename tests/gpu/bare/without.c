// What the bare build has in place of libvips, Little CMS, VLFeat and oneDNN: nothing, said in one line. It stands for core/image*.c,
// core/attention_net*.c with what they need, core/attention/sift.c, core/cpu/ and core/train/data_folder.c, in the Makefile's VARIANT=bare.
//
// The bare build runs networks, samples and trains on a GPU, on a machine that has a C compiler, nvcc and cuDNN only. Pictures come
// to it as yoda train --pack wrote them.
#include "core/attention/methods.h"
#include "core/attention_nets.h"
#include "core/image.h"
#include "core/mem.h"
#include "core/output.h"
#include "core/train/internal.h"

#include <string.h>

static int no_pictures(yd_err *err)
{
    return yd_fail(err, YD_E_UNSUPPORTED, "this build reads and writes no picture files");
}

// ---- pictures

int yd_image_init(yd_err *err)
{
    (void)err; // who only starts it up asks for nothing
    return 0;
}

const yd_image_kind *yd_image_kinds(size_t *n)
{
    *n = 0;
    return NULL;
}

int yd_image_format_parse(const char *name, yd_image_format *out, yd_err *err)
{
    (void)name, (void)out;
    return no_pictures(err);
}

const char *yd_image_format_name(yd_image_format fmt)
{
    (void)fmt;
    return "";
}

int yd_image_alloc(yd_image *im, int w, int h, int with_alpha, yd_err *err)
{
    (void)im, (void)w, (void)h, (void)with_alpha;
    return no_pictures(err);
}

void yd_image_clear(yd_image *im)
{
    memset(im, 0, sizeof *im);
}

int yd_image_decode(const void *bytes, size_t len, const yd_image_limits *lim, const yd_decode_options *opt,
                    yd_image *out, yd_err *err)
{
    (void)bytes, (void)len, (void)lim, (void)opt, (void)out;
    return no_pictures(err);
}

int yd_image_encode(const yd_image *im, const yd_output *out, void **bytes, size_t *len, yd_err *err)
{
    (void)im, (void)out, (void)bytes, (void)len;
    return no_pictures(err);
}

int yd_image_encode_grey(const uint8_t *plane, int w, int h, void **bytes, size_t *len, yd_err *err)
{
    (void)plane, (void)w, (void)h, (void)bytes, (void)len;
    return no_pictures(err);
}

int yd_source_open_folder(const char *folder, yd_source **out, yd_err *err)
{
    (void)out;
    return yd_fail_field(err, YD_E_UNSUPPORTED, "data.folder", "what yoda train --pack wrote, or data.synthetic",
                         "%s: this build decodes no picture files; yoda train --pack packs them on a machine that does",
                         folder);
}

// ---- maps

int yd_attention_sift(const uint8_t *rgb, int w, int h, float *map, yd_err *err)
{
    (void)rgb, (void)w, (void)h, (void)map;
    return yd_fail_field(err, YD_E_UNSUPPORTED, "attention", "edge, gaussian, constant",
                         "this build is without attention=sift");
}

int yd_attention_file(const char *path)
{
    (void)path;
    return 0;
}

int yd_attention_is_net(const char *name)
{
    (void)name;
    return 0;
}

int yd_attention_net_recognise(const yd_safetensors *st, yd_attention_net_kind *kind)
{
    (void)st, (void)kind;
    return 0;
}

static int no_nets(yd_err *err)
{
    return yd_fail_field(err, YD_E_UNSUPPORTED, "attention", "edge, gaussian, constant",
                         "this build is without attention networks");
}

int yd_attention_nets_find(yd_attention_nets *n, const char *name, yd_attention_ref *out, yd_err *err)
{
    (void)n, (void)name, (void)out;
    return no_nets(err);
}

int yd_attention_nets_map(yd_attention_nets *n, const yd_attention_ref *ref, const uint8_t *rgb, int w, int h,
                          float *map, yd_err *err)
{
    (void)n, (void)ref, (void)rgb, (void)w, (void)h, (void)map;
    return no_nets(err);
}

// ---- the CPU

void yd_cpu_prepare_process(char **argv)
{
    (void)argv;
}

int yd_cpu_open(const yd_cpu_options *opt, yd_backend **out, yd_err *err)
{
    (void)opt, (void)out;
    return yd_fail_field(err, YD_E_UNSUPPORTED, "device", "cuda", "this build runs on a GPU only");
}
