// The output settings: names to values and back, and the arithmetic of the result's size. See output.h.
// Read next: image_encode.c, which carries them out.
#include "core/output.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PNG_EFFORT = 3, MAX_SIDE = 65535 };

static const char *const metadata_names[] = {"keep", "strip-gps", "strip", NULL};
static const char *const color_names[] = {"source", "srgb", NULL};
static const char *const bool_names[] = {"false", "true", NULL};

void yd_output_init(yd_output *out)
{
    *out = (yd_output){.format = YD_PNG, .encode_quality = YD_RESULT_JPEG_QUALITY, .effort = PNG_EFFORT, .metadata = YD_META_STRIP_GPS};
}

// ---- parsing

static int refuse(const char *name, const char *value, const char *accepted, yd_err *err)
{
    return yd_fail_field(err, YD_E_SETTING, name, accepted, "%s=%.40s is not accepted", name, value);
}

// Index of value among names.
static int parse_word(const char *name, const char *value, const char *const *names, int *out, yd_err *err)
{
    char accepted[64] = "";
    size_t used = 0;
    for (int i = 0; names[i]; i++) {
        if (strcmp(value, names[i]) == 0) {
            *out = i;
            return 1;
        }
        int n = snprintf(accepted + used, sizeof accepted - used, "%s%s", i ? ", " : "", names[i]);
        used += (size_t)n < sizeof accepted - used ? (size_t)n : 0;
    }
    return refuse(name, value, accepted, err);
}

static int parse_integer(const char *name, const char *value, int lo, int hi, int *out, yd_err *err)
{
    char accepted[64], *end;
    snprintf(accepted, sizeof accepted, "an integer from %d to %d", lo, hi);
    errno = 0;
    long v = strtol(value, &end, 10);
    if (!isdigit((unsigned char)*value) || *end || errno || v < lo || v > hi) return refuse(name, value, accepted, err);
    *out = (int)v;
    return 1;
}

static int parse_scale(const char *value, double *out, yd_err *err)
{
    char *end;
    double v = strtod(value, &end);
    int plain = *value != '\0' && strspn(value, "0123456789.") == strlen(value);
    if (!plain || *end || !(v > 1 && v <= YD_MAX_SCALE))
        return refuse("scale", value, "a number above 1, at most 8", err);
    *out = v;
    return 1;
}

static int parse_depth(const char *value, int *out, yd_err *err)
{
    static const char *const names[] = {"source", "8", "16", NULL};
    int i = strcmp(value, "0") == 0 ? 0 : -1;
    if (i < 0) {
        int rc = parse_word("bit_depth", value, names, &i, err);
        if (rc < 0) return rc;
    }
    *out = i * 8;
    return 1;
}

static int parse_format(const char *value, yd_output *out, yd_err *err)
{
    int rc = yd_image_format_parse(value, &out->format, err);
    if (rc < 0) return rc;
    out->format_given = 1;
    return 1;
}

int yd_output_set(yd_output *out, const char *name, const char *value, yd_err *err)
{
    int word = 0, rc;
    if (strcmp(name, "format") == 0) return parse_format(value, out, err);
    if (strcmp(name, "encode_quality") == 0) return parse_integer(name, value, 1, 100, &out->encode_quality, err);
    if (strcmp(name, "lossless") == 0) return parse_word(name, value, bool_names, &out->lossless, err);
    if (strcmp(name, "bit_depth") == 0) return parse_depth(value, &out->bit_depth, err);
    if (strcmp(name, "scale") == 0) return parse_scale(value, &out->scale, err);
    if (strcmp(name, "width") == 0) return parse_integer(name, value, 1, MAX_SIDE, &out->width, err);
    if (strcmp(name, "height") == 0) return parse_integer(name, value, 1, MAX_SIDE, &out->height, err);
    if (strcmp(name, "metadata") == 0) {
        if ((rc = parse_word(name, value, metadata_names, &word, err)) > 0) out->metadata = (yd_metadata_policy)word;
        return rc;
    }
    if (strcmp(name, "color_space") == 0) {
        if ((rc = parse_word(name, value, color_names, &word, err)) > 0) out->color_space = (yd_color_space)word;
        return rc;
    }
    return 0;
}

const char *const *yd_output_names(void)
{
    static const char *const names[] = {"format",      "encode_quality", "lossless", "bit_depth", "metadata",
                                        "color_space", "scale",          "width",    "height",    NULL};
    return names;
}

// ---- checking

int yd_output_check(const yd_output *out, yd_err *err)
{
    const char *format = yd_image_format_name(out->format);
    if (out->bit_depth == 16 && out->format != YD_PNG && out->format != YD_TIFF)
        return yd_fail_field(err, YD_E_SETTING, "bit_depth", "source, 8 (16 with format png or tiff)",
                             "a %s file has 8 bits per sample, not 16", format);
    if (out->lossless && out->format == YD_JPEG)
        return yd_fail_field(err, YD_E_SETTING, "lossless", "false (true with format png, webp or tiff)",
                             "a jpeg file cannot be lossless");
    if (out->scale > 0 && (out->width || out->height))
        return yd_fail_field(err, YD_E_SETTING, "scale", "scale alone, or width and height",
                             "scale and %s contradict each other", out->width ? "width" : "height");
    return 0;
}

// ---- printing

typedef struct text {
    char *dst;
    size_t cap, len;
} text;

static void add(text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(text *t, const char *fmt, ...)
{
    size_t room = t->len < t->cap ? t->cap - t->len : 0;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(room ? t->dst + t->len : NULL, room, fmt, args);
    va_end(args);
    if (n > 0) t->len += (size_t)n;
}

size_t yd_output_print(const yd_output *out, char *dst, size_t cap)
{
    text t = {dst, cap, 0};
    add(&t, "{\"format\":\"%s\"", yd_image_format_name(out->format));
    if (out->format == YD_WEBP) add(&t, ",\"lossless\":%s", bool_names[out->lossless != 0]);
    if (out->format == YD_JPEG || (out->format == YD_WEBP && !out->lossless)) add(&t, ",\"encode_quality\":%d", out->encode_quality);
    add(&t, ",\"bit_depth\":%d,\"metadata\":\"%s\",\"color_space\":\"%s\"", out->bit_depth,
        metadata_names[out->metadata], color_names[out->color_space]);
    if (out->scale > 0) add(&t, ",\"scale\":%.17g", out->scale);
    if (out->width) add(&t, ",\"width\":%d", out->width);
    if (out->height) add(&t, ",\"height\":%d", out->height);
    add(&t, "}");
    return t.len;
}

// ---- the size

// side * num / den, rounded; all positive and below 2^31.
static long long times(int side, long long num, long long den)
{
    return ((long long)side * num + den / 2) / den;
}

// The box decides which side is met exactly; the other follows.
static const char *fit(const yd_output *out, int w, int h, long long *fw, long long *fh)
{
    int by_width = !out->height || (out->width && (long long)out->width * h <= (long long)out->height * w);
    *fw = by_width ? out->width : times(w, out->height, h);
    *fh = by_width ? times(h, out->width, w) : out->height;
    if (*fw < 1) *fw = 1;
    if (*fh < 1) *fh = 1;
    return by_width ? "width" : "height";
}

static int check_growth(const char *field, int from, long long to, yd_err *err)
{
    char accepted[96];
    if (to > from && to <= (long long)from * YD_MAX_SCALE) return 0;
    snprintf(accepted, sizeof accepted, "%d to %lld for this picture", from + 1, (long long)from * YD_MAX_SCALE);
    return yd_fail_field(err, YD_E_SETTING, field, accepted,
                         "the result would have a %s of %lld pixels, the picture has %d; it can grow up to %d times", field,
                         to, from, YD_MAX_SCALE);
}

int yd_output_size(const yd_output *out, int native, int w, int h, int *out_w, int *out_h, yd_err *err)
{
    long long fw = (long long)w * native, fh = (long long)h * native;
    int rc = yd_output_check(out, err);
    if (rc) return rc;
    if (out->width || out->height) {
        const char *met = fit(out, w, h, &fw, &fh);
        rc = met[0] == 'w' ? check_growth(met, w, fw, err) : check_growth(met, h, fh, err);
    } else if (out->scale > 0) {
        if (!(out->scale > 1 && out->scale <= YD_MAX_SCALE))
            return yd_fail_field(err, YD_E_SETTING, "scale", "a number above 1, at most 8",
                                 "scale=%g is not accepted", out->scale);
        fw = llround(w * out->scale);
        fh = llround(h * out->scale);
    }
    if (rc) return rc;
    if (fw > MAX_SIDE || fh > MAX_SIDE)
        return yd_fail_field(err, YD_E_IMAGE_TOO_LARGE, "image", "a result of at most 65535 pixels a side",
                             "the result would have %lld x %lld pixels, no side may pass %d", fw, fh, MAX_SIDE);
    *out_w = (int)fw;
    *out_h = (int)fh;
    return 0;
}
