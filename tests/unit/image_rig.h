// Decoding and encoding as the picture tests do it. Not every program uses everything: the functions are inline.
#ifndef IMAGE_RIG_H
#define IMAGE_RIG_H

#include "core/mem.h"
#include "core/output.h"
#include "image_samples.h"
#include "t.h"

#include <time.h>

#ifdef __SANITIZE_ADDRESS__
// What libraries lose by themselves: x265 in the encoder that makes samples, dav1d when a stream is damaged.
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libx265\nleak:libdav1d\n";
}
#endif

static const yd_image_limits wide = {50000000, 1, 30000, 64 << 20};

static inline yd_image must_decode(bytes b)
{
    yd_image im;
    yd_err err = {0};
    int rc = yd_image_decode(b.p, b.n, &wide, NULL, &im, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    return im;
}

static inline int decode_rc(const void *p, size_t n, const yd_image_limits *lim, yd_err *err)
{
    yd_image im;
    yd_err_clear(err);
    int rc = yd_image_decode(p, n, lim, NULL, &im, err);
    CHECK((rc == 0) == (im.rgb != NULL));
    yd_image_clear(&im);
    return rc;
}

static inline yd_output output_of(yd_image_format format)
{
    yd_output out;
    yd_output_init(&out);
    out.format = format;
    return out;
}

static inline bytes must_encode(const yd_image *im, const yd_output *out)
{
    void *p = NULL;
    size_t n = 0;
    yd_err err = {0};
    int rc = yd_image_encode(im, out, &p, &n, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    bytes b = {malloc(n ? n : 1), n};
    if (n) memcpy(b.p, p, n);
    yd_free(p);
    return b;
}

static inline int encode(const yd_image *im, yd_image_format format, int quality, int effort, void **p, size_t *n, yd_err *err)
{
    yd_output out = output_of(format);
    out.encode_quality = quality;
    out.effort = effort;
    return yd_image_encode(im, &out, p, n, err);
}

static inline double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Noise in every sample.
static inline void fill(yd_image *im, int grey)
{
    for (int y = 0, i = 0; y < im->h; y++)
        for (int x = 0; x < im->w; x++, i++) {
            for (int c = 0; c < 3; c++) im->rgb[3 * i + c] = yd_widen(noise(x, y, grey ? 0 : c));
            if (im->alpha) im->alpha[i] = yd_widen(noise(x, y, 9));
        }
    im->grey = grey;
}

static inline int contains(bytes b, const char *words)
{
    return memmem(b.p, b.n, words, strlen(words)) != NULL;
}

// What every picture test's main does.
static inline int image_main(int argc, char **argv, const t_case *cases, size_t n)
{
    yd_err err = {0};
    if (yd_image_init(&err) || yd_image_init(&err)) { // twice is fine
        printf("%s\n", err.detail);
        return 1;
    }
    int rc = t_main(argc, argv, cases, n);
    vips_shutdown();
    return rc;
}

#endif
