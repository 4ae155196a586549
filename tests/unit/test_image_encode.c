// Encoding: exact where it can be, deterministic, with nothing in the file but the picture; and memory and threads of both directions.
#include "image_rig.h"

#include <pthread.h>

static void png_round_trip(void)
{
    for (int kind = 0; kind < 4; kind++) {
        yd_image im;
        CHECK(yd_image_alloc(&im, 45, 29, kind & 1, NULL) == 0);
        fill(&im, kind >> 1);
        void *a = NULL, *b = NULL;
        size_t na = 0, nb = 0;
        yd_err err = {0};
        CHECK_MSG(encode(&im, YD_PNG, 0, 6, &a, &na, &err) == 0, "%s", err.detail);
        CHECK(encode(&im, YD_PNG, 0, 6, &b, &nb, &err) == 0 && na == nb && memcmp(a, b, na) == 0);
        yd_image_header hdr;
        CHECK(yd_image_probe(a, na, &wide, &hdr, &err) == 0 && hdr.channels == (kind >> 1 ? 1 : 3) + (kind & 1));
        yd_image back = must_decode((bytes){a, na});
        CHECK(back.w == 45 && back.h == 29 && back.grey == im.grey && !back.alpha == !im.alpha);
        CHECK(back.rgb && memcmp(back.rgb, im.rgb, 45 * 29 * 3 * sizeof *im.rgb) == 0);
        CHECK(!im.alpha || (back.alpha && memcmp(back.alpha, im.alpha, 45 * 29 * sizeof *im.alpha) == 0));
        yd_image_clear(&back);
        yd_image_clear(&im);
        yd_free(a);
        yd_free(b);
    }
}

// Only the chunks that make the picture.
static void no_metadata(void)
{
    yd_image im;
    CHECK(yd_image_alloc(&im, 32, 32, 0, NULL) == 0);
    fill(&im, 0);
    uint8_t *p = NULL;
    size_t n = 0;
    CHECK(encode(&im, YD_PNG, 0, 9, (void **)&p, &n, NULL) == 0);
    for (size_t i = 8; p && i + 12 <= n;) {
        static const char allowed[] = "IHDR IDAT IEND pHYs";
        char type[5] = "";
        memcpy(type, p + i + 4, 4);
        CHECK_MSG(strstr(allowed, type) != NULL, "%s", type);
        i += ((size_t)p[i] << 24 | (size_t)p[i + 1] << 16 | (size_t)p[i + 2] << 8 | p[i + 3]) + 12;
    }
    yd_free(p);
    CHECK(encode(&im, YD_JPEG, 90, 0, (void **)&p, &n, NULL) == 0);
    for (size_t i = 2; p && i + 4 <= n && p[i + 1] != 0xda; i += 2 + ((size_t)p[i + 2] << 8 | p[i + 3]))
        CHECK_MSG(p[i] == 0xff && !(p[i + 1] >= 0xe1 && p[i + 1] <= 0xef) && p[i + 1] != 0xfe, "marker %02x", p[i + 1]);
    yd_free(p);
    yd_image_clear(&im);
}

static void jpegs(void)
{
    yd_image im;
    yd_err err = {0};
    CHECK(yd_image_alloc(&im, 48, 32, 1, NULL) == 0);
    for (int i = 0; i < 48 * 32; i++) {
        im.rgb[3 * i] = yd_widen(200), im.rgb[3 * i + 1] = yd_widen(100), im.rgb[3 * i + 2] = 0;
        im.alpha[i] = yd_widen(i % 48 < 16 ? 0 : i % 48 < 32 ? 255 : 102); // 40 %
    }
    static const uint8_t want[3][3] = {{255, 255, 255}, {200, 100, 0}, {233, 193, 153}};
    void *a = NULL, *b = NULL;
    size_t na, nb;
    CHECK_MSG(encode(&im, YD_JPEG, 95, 0, &a, &na, &err) == 0, "%s", err.detail);
    CHECK(encode(&im, YD_JPEG, 95, 0, &b, &nb, &err) == 0 && na == nb && memcmp(a, b, na) == 0);
    yd_image back = must_decode((bytes){a, na});
    CHECK(!back.alpha && !back.grey && back.w == 48 && back.h == 32);
    int bad = 0;
    for (int i = 0; back.rgb && i < 48 * 32 * 3; i++) bad += abs(yd_narrow(back.rgb[i]) - want[i / 3 % 48 / 16][i % 3]) > 6;
    CHECK_MSG(bad == 0, "%d values off", bad);
    yd_image_clear(&back);
    yd_free(a);
    yd_free(b);
    im.grey = 1; // channels that differ become their luma
    CHECK(encode(&im, YD_JPEG, 95, 0, &a, &na, &err) == 0);
    yd_image_header hdr;
    CHECK(yd_image_probe(a, na, &wide, &hdr, &err) == 0 && hdr.channels == 1);
    back = must_decode((bytes){a, na});
    CHECK(back.grey && back.rgb && abs(yd_narrow(back.rgb[3 * 24]) - 119) <= 2 && yd_narrow(back.rgb[0]) >= 253);
    yd_image_clear(&back);
    yd_free(a);
    yd_image_clear(&im);
}

static void settings(void)
{
    yd_image im;
    yd_err err = {0};
    void *p = &im;
    size_t n = 9;
    CHECK(yd_image_alloc(&im, 20, 20, 0, NULL) == 0);
    static const int bad_quality[] = {0, 101, -1}, bad_effort[] = {0, 10, -1};
    for (int i = 0; i < 3; i++) {
        CHECK(encode(&im, YD_JPEG, bad_quality[i], 6, &p, &n, &err) == YD_E_SETTING &&
              !strcmp(err.field, "encode_quality") && !p && !n);
        CHECK(encode(&im, YD_PNG, 90, bad_effort[i], &p, &n, &err) == YD_E_SETTING &&
              !strcmp(err.field, "effort") && !p);
    }
    yd_image_clear(&im);
    CHECK(yd_image_alloc(&im, 65536, 1, 0, NULL) == 0);
    CHECK(encode(&im, YD_JPEG, 90, 6, &p, &n, &err) == YD_E_SETTING && !strcmp(err.accepted, "png, tiff"));
    CHECK(encode(&im, YD_PNG, 90, 1, &p, &n, &err) == 0);
    yd_free(p);
    yd_image_clear(&im);
    CHECK(yd_image_alloc(&im, 0, 5, 0, &err) == YD_E_INVALID && yd_image_alloc(&im, 5, -1, 0, &err) == YD_E_INVALID &&
          !im.rgb);
    yd_image_clear(&im);
    yd_image_format f = YD_JPEG;
    CHECK(yd_image_format_parse("png", &f, &err) == 0 && f == YD_PNG && yd_image_format_parse("JPG", &f, &err) == 0 &&
          f == YD_JPEG);
    CHECK(yd_image_format_parse("jpeg", &f, &err) == 0 && f == YD_JPEG &&
          !strcmp(yd_image_format_mime(f), "image/jpeg"));
    CHECK(yd_image_format_parse("gif", &f, &err) == YD_E_SETTING && !strcmp(err.field, "format") &&
          strstr(err.accepted, "png"));
    CHECK(!strcmp(yd_image_format_mime(YD_PNG), "image/png"));
}

static void grey_plane(void)
{
    uint8_t plane[33 * 17];
    for (int i = 0; i < 33 * 17; i++) plane[i] = noise(i, 3, 1);
    void *p = NULL;
    size_t n = 0;
    CHECK(yd_image_encode_grey(plane, 33, 17, &p, &n, NULL) == 0);
    yd_image im = must_decode((bytes){p, n});
    int bad = 0;
    for (int i = 0; im.rgb && i < 33 * 17 * 3; i++) bad += im.rgb[i] != yd_widen(plane[i / 3]);
    CHECK(bad == 0 && im.grey && im.w == 33 && im.h == 17);
    yd_image_clear(&im);
    yd_free(p);
}

static void no_memory(void)
{
    VipsImage *v = noise_image(32, 32, 4);
    bytes b = png_of(v);
    yd_image im;
    yd_err err = {0};
    int done = 0;
    for (long k = 1; !done; k++) {
        yd_mem_fail_at(k);
        int rc = yd_image_decode(b.p, b.n, &wide, NULL, &im, &err);
        done = yd_mem_fail_at(0) < k;
        CHECK_MSG(done ? rc == 0 && k > 4 : rc == YD_E_NOMEM && !im.rgb && !im.alpha, "decode, allocation %ld: %d", k,
                  rc);
        if (!done) yd_image_clear(&im);
    }
    done = 0;
    for (long k = 1; !done; k++) {
        void *p = NULL;
        size_t n;
        yd_mem_fail_at(k);
        int rc = encode(&im, YD_PNG, 0, 6, &p, &n, &err);
        done = yd_mem_fail_at(0) < k;
        CHECK_MSG(done ? rc == 0 && k >= 3 : rc == YD_E_NOMEM && !p, "encode, allocation %ld: %d", k, rc);
        yd_free(p);
    }
    yd_image_clear(&im);
    free(b.p);
    g_object_unref(v);
}

typedef struct job {
    bytes good, bad;
    int wrong;
} job;

static void *decode_many(void *arg)
{
    job *j = arg;
    for (int i = 0; i < 60; i++) {
        yd_image im;
        yd_err err = {0};
        int rc = yd_image_decode(j->good.p, j->good.n, &wide, NULL, &im, &err);
        j->wrong += rc != 0 || im.rgb[3 * (5 * im.w + 7) + 1] != yd_widen(noise(7, 5, 1));
        yd_image_clear(&im);
        j->wrong += yd_image_decode(j->bad.p, j->bad.n, &wide, NULL, &im, &err) != YD_E_IMAGE;
        yd_image_clear(&im);
    }
    return NULL;
}

static void threads(void)
{
    VipsImage *v = noise_image(64, 64, 3);
    bytes good = png_of(v);
    job jobs[4];
    pthread_t t[4];
    for (int i = 0; i < 4; i++) {
        jobs[i] = (job){good, {good.p, good.n / 2}, 0};
        CHECK(pthread_create(&t[i], NULL, decode_many, &jobs[i]) == 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        CHECK_MSG(jobs[i].wrong == 0, "thread %d: %d wrong", i, jobs[i].wrong);
    }
    free(good.p);
    g_object_unref(v);
}


// Equal pictures give equal files, in every format; lossless ones give the picture back.
static void every_format(void)
{
    static const struct {
        yd_image_format format;
        int lossless, depth, exact;
        const char *mime;
    } rows[] = {
        {YD_PNG, 0, 8, 1, "image/png"},  {YD_PNG, 0, 16, 1, "image/png"},   {YD_JPEG, 0, 8, 0, "image/jpeg"},
        {YD_WEBP, 1, 8, 1, "image/webp"}, {YD_WEBP, 0, 8, 0, "image/webp"}, {YD_TIFF, 0, 8, 1, "image/tiff"},
        {YD_TIFF, 0, 16, 1, "image/tiff"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        yd_image im;
        CHECK(yd_image_alloc(&im, 45, 29, rows[i].format != YD_JPEG, NULL) == 0);
        fill(&im, 0);
        for (int k = 0; im.alpha && k < 45 * 29; k++) im.alpha[k] |= 0x0101; // libwebp blackens what cannot be seen at all
        for (int k = 0; rows[i].depth == 16 && k < 45 * 29 * 3; k++) im.rgb[k] = (uint16_t)(im.rgb[k] ^ (k & 0xff));
        im.depth = rows[i].depth;
        yd_output out = output_of(rows[i].format);
        out.lossless = rows[i].lossless;
        bytes a = must_encode(&im, &out), b = must_encode(&im, &out);
        CHECK_MSG(a.n == b.n && memcmp(a.p, b.p, a.n) == 0, "row %zu is not deterministic", i);
        CHECK(!strcmp(yd_image_format_mime(rows[i].format), rows[i].mime));
        yd_image back = must_decode(a);
        CHECK(back.w == 45 && back.h == 29 && back.depth == rows[i].depth && !back.alpha == !im.alpha);
        int differ = 0;
        for (int k = 0; back.rgb && k < 45 * 29 * 3; k++) differ += back.rgb[k] != im.rgb[k];
        CHECK_MSG(rows[i].exact ? differ == 0 : differ > 0, "row %zu: %d samples differ", i, differ);
        CHECK(!im.alpha || (back.alpha && memcmp(back.alpha, im.alpha, 45 * 29 * sizeof *im.alpha) == 0));
        yd_image_clear(&back);
        yd_image_clear(&im);
        free(a.p);
        free(b.p);
    }
}

// Half-transparent edges keep their straight colours in every format that has alpha: no dark or light fringe.
static void straight_alpha(void)
{
    static const yd_image_format with_alpha[] = {YD_PNG, YD_TIFF, YD_WEBP};
    for (int f = 0; f < 3; f++) {
        yd_image im;
        CHECK(yd_image_alloc(&im, 64, 32, 1, NULL) == 0);
        for (int i = 0; i < 64 * 32; i++) {
            im.rgb[3 * i] = 65535, im.rgb[3 * i + 1] = yd_widen(128), im.rgb[3 * i + 2] = 0;
            im.alpha[i] = yd_widen((uint8_t)(1 + i % 64 * 4));
        }
        yd_output out = output_of(with_alpha[f]);
        out.lossless = 1;
        bytes b = must_encode(&im, &out);
        yd_image back = must_decode(b);
        int bad = 0;
        for (int i = 0; back.rgb && i < 64 * 32 * 3; i++) bad += back.rgb[i] != im.rgb[i];
        CHECK_MSG(back.alpha && bad == 0, "%s: %d samples differ", yd_image_format_name(with_alpha[f]), bad);
        yd_image_clear(&back);
        yd_image_clear(&im);
        free(b.p);
    }
}

static void one_band_stays_one(void)
{
    static const yd_image_format formats[] = {YD_PNG, YD_JPEG, YD_TIFF};
    for (int f = 0; f < 3; f++)
        for (int depth = 8; depth <= 16; depth += 8) {
            VipsImage *v = noise_image(32, 32, 1), *wider = NULL;
            CHECK(vips_cast(v, &wider, depth == 16 ? VIPS_FORMAT_USHORT : VIPS_FORMAT_UCHAR, NULL) == 0);
            if (depth == 16) wider->Type = VIPS_INTERPRETATION_GREY16;
            bytes in = png_of(wider);
            yd_image im = must_decode(in);
            yd_output out = output_of(formats[f]);
            bytes b = must_encode(&im, &out);
            yd_image_header h = {0};
            CHECK(yd_image_probe(b.p, b.n, &wide, &h, NULL) == 0 && h.channels == 1);
            CHECK(h.depth == (formats[f] == YD_JPEG ? 8 : depth));
            yd_image_clear(&im);
            free(b.p);
            free(in.p);
            g_object_unref(wider);
            g_object_unref(v);
        }
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"png_round_trip", png_round_trip},
        {"every_format", every_format},
        {"straight_alpha", straight_alpha},
        {"one_band_stays_one", one_band_stays_one},
        {"no_metadata", no_metadata},
        {"jpegs", jpegs},
        {"settings", settings},
        {"grey_plane", grey_plane},
        {"no_memory", no_memory},
        {"threads", threads},
    };
    return image_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
