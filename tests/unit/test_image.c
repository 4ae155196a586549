// Pictures: every kind of PNG and JPEG comes out as the right pixels, hostile files come out as the right error, encoding is exact,
// deterministic and without metadata.
#include "core/image.h"
#include "core/mem.h"
#include "core/output.h"
#include "image_samples.h"
#include "t.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

static const yd_image_limits wide = {50000000, 1, 30000, 64 << 20};

static yd_image must_decode(bytes b)
{
    yd_image im;
    yd_err err = {0};
    int rc = yd_image_decode(b.p, b.n, &wide, NULL, &im, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    return im;
}

static int decode_rc(const void *p, size_t n, const yd_image_limits *lim, yd_err *err)
{
    yd_image im;
    yd_err_clear(err);
    int rc = yd_image_decode(p, n, lim, NULL, &im, err);
    CHECK((rc == 0) == (im.rgb != NULL));
    yd_image_clear(&im);
    return rc;
}

static int encode(const yd_image *im, yd_image_format format, int quality, int effort, void **p, size_t *n, yd_err *err)
{
    yd_output out;
    yd_output_init(&out);
    out.format = format;
    out.quality = quality;
    out.effort = effort;
    return yd_image_encode(im, &out, p, n, err);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// ---- what the pixels are

// PNG of noise with 1 to 4 channels, plain and interlaced: exactly that noise, grey and alpha recognised.
static void png_kinds(void)
{
    enum { W = 37, H = 21 };
    for (int kind = 0; kind < 8; kind++) {
        int bands = kind % 4 + 1;
        VipsImage *v = noise_image(W, H, bands);
        bytes b = kind < 4 ? png_of(v) : png_interlaced_of(v);
        yd_image im = must_decode(b);
        CHECK_MSG(im.w == W && im.h == H && im.grey == (bands < 3) && (im.alpha != NULL) == (bands % 2 == 0),
                  "%d bands", bands);
        int bad = 0, colours = bands < 3 ? 1 : 3;
        for (int y = 0, i = 0; im.rgb && y < H; y++)
            for (int x = 0; x < W; x++, i++) {
                for (int c = 0; c < 3; c++) bad += im.rgb[3 * i + c] != yd_widen(noise(x, y, colours == 1 ? 0 : c));
                if (im.alpha) bad += im.alpha[i] != yd_widen(noise(x, y, colours));
            }
        CHECK_MSG(bad == 0, "%d bands: %d values differ", bands, bad);
        yd_image_header hdr;
        CHECK(yd_image_probe(b.p, b.n, &wide, &hdr, NULL) == 0);
        CHECK(hdr.w == W && hdr.h == H && hdr.channels == bands && !strcmp(hdr.format, "png"));
        yd_image_clear(&im);
        free(b.p);
        g_object_unref(v);
    }
}

// Every 16-bit value once, as grey, and as RGBA: exactly that.
static void deep(void)
{
    static uint16_t ramp[65536 * 4];
    for (int bands = 1; bands <= 4; bands += 3) {
        for (int i = 0; i < 65536 * bands; i++) ramp[i] = (uint16_t)(i / bands + i % bands * 1000);
        VipsImage *v = vips_of(ramp, 256, 256, bands, 1);
        bytes b = png_of(v);
        yd_image im = must_decode(b);
        int bad = 0;
        for (int i = 0; im.rgb && i < 65536; i++) {
            for (int c = 0; c < 3; c++)
                bad += im.rgb[3 * i + c] != ramp[bands * i + (bands > 1 ? c : 0)];
            if (im.alpha) bad += im.alpha[i] != ramp[4 * i + 3];
        }
        CHECK_MSG(bad == 0 && im.depth == 16 && im.grey == (bands == 1) && (im.alpha != NULL) == (bands == 4), "%d bands: %d differ",
                  bands, bad);
        yd_image_clear(&im);
        free(b.p);
        g_object_unref(v);
    }
}

static void palettes(void)
{
    static const uint8_t colours[4][3] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {250, 240, 10}};
    uint8_t p[32 * 32 * 3];
    for (int i = 0; i < 32 * 32; i++) memcpy(p + 3 * i, colours[i / 7 % 4], 3);
    VipsImage *v = vips_of(p, 32, 32, 3, 0);
    bytes b = png_palette_of(v, 2);
    CHECK(b.n > 26 && b.p[25] == 3); // colour type: palette
    yd_image im = must_decode(b);
    int worst = 0;
    for (int i = 0; im.rgb && i < 32 * 32 * 3; i++)
        worst = abs(yd_narrow(im.rgb[i]) - p[i]) > worst ? abs(yd_narrow(im.rgb[i]) - p[i]) : worst;
    CHECK_MSG(worst <= 4 && !im.grey, "%d", worst); // the quantiser may shift a colour a little
    yd_image_clear(&im);
    free(b.p);
    g_object_unref(v);

    b = black_png(61, 40); // 1 bit
    im = must_decode(b);
    int lit = 0;
    for (int i = 0; im.rgb && i < 61 * 40 * 3; i++) lit += im.rgb[i] != 0;
    CHECK(lit == 0 && im.w == 61 && im.h == 40 && im.grey);
    yd_image_clear(&im);
    free(b.p);

    uint8_t stripes[32 * 32];
    for (int i = 0; i < 32 * 32; i++) stripes[i] = i / 3 % 2 ? 255 : 0;
    v = vips_of(stripes, 32, 32, 1, 0);
    void *buf = NULL;
    size_t n = 0;
    CHECK(vips_pngsave_buffer(v, &buf, &n, "bitdepth", 1, NULL) == 0);
    b = take(buf, n);
    CHECK(b.n > 25 && b.p[24] == 1); // bit depth
    im = must_decode(b);
    int bad = 0;
    for (int i = 0; im.rgb && i < 32 * 32 * 3; i++) bad += im.rgb[i] != yd_widen(stripes[i / 3]);
    CHECK_MSG(bad == 0, "%d", bad);
    yd_image_clear(&im);
    free(b.p);
    g_object_unref(v);
}

// All orientations of a JPEG of noise: exactly the unrotated JPEG's pixels, moved as the EXIF standard and vips_autorot say.
static void orientations(void)
{
    enum { W = 40, H = 24 };
    VipsImage *v = noise_image(W, H, 3);
    bytes plain = jpeg_of(v, 90);
    yd_image flat = must_decode(plain);
    for (int o = 1; o <= 8; o++) {
        VipsImage *tagged = NULL, *loaded = NULL, *upright = NULL;
        vips_copy(v, &tagged, NULL);
        vips_image_set_int(tagged, VIPS_META_ORIENTATION, o);
        bytes b = jpeg_of(tagged, 90);
        yd_image im = must_decode(b);
        yd_image_header hdr = {0};
        CHECK(yd_image_probe(b.p, b.n, &wide, &hdr, NULL) == 0 && hdr.w == (o < 5 ? W : H) && hdr.h == (o < 5 ? H : W));
        CHECK(im.w == hdr.w && im.h == hdr.h && !strcmp(hdr.format, "jpeg") && hdr.channels == 3);
        CHECK(vips_jpegload_buffer(b.p, b.n, &loaded, NULL) == 0 && vips_autorot(loaded, &upright, NULL) == 0);
        size_t n = 0;
        uint8_t *want = vips_image_write_to_memory(upright, &n);
        int bad = n != W * H * 3 || !im.rgb;
        for (size_t i = 0; !bad && i < n; i++) bad = im.rgb[i] != yd_widen(want[i]);
        CHECK_MSG(!bad, "orientation %d", o);
        bad = 0;
        for (int y = 0; im.rgb && y < im.h; y++)
            for (int x = 0; x < im.w; x++) {
                const int from[9][2] = {{0, 0},         {x, y}, {W - 1 - x, y}, {W - 1 - x, H - 1 - y},
                                        {x, H - 1 - y}, {y, x}, {y, H - 1 - x}, {W - 1 - y, H - 1 - x},
                                        {W - 1 - y, x}};
                bad += memcmp(im.rgb + 3 * (y * im.w + x), flat.rgb + 3 * (from[o][1] * W + from[o][0]), 3 * sizeof *im.rgb) != 0;
            }
        CHECK_MSG(bad == 0, "orientation %d: %d pixels elsewhere", o, bad);
        g_free(want);
        yd_image_clear(&im);
        free(b.p);
        g_clear_object(&upright);
        g_clear_object(&loaded);
        g_clear_object(&tagged);
    }
    yd_image_clear(&flat);
    free(plain.p);
    g_object_unref(v);
}

// The average colour of one flat picture, sent through a file of the given kind.
static void flat_colour(int bands, const uint8_t *colour, VipsInterpretation kind, const char *profile, int as_jpeg,
                        double rgb[3], int *alpha)
{
    enum { N = 32 };
    uint8_t p[N * N * 4];
    for (int i = 0; i < N * N * bands; i++) p[i] = colour[i % bands];
    VipsImage *v = vips_of(p, N, N, bands, 0), *tagged = NULL;
    vips_copy(v, &tagged, "interpretation", kind, NULL);
    VipsBlob *blob = NULL;
    if (profile && strcmp(profile, "broken") == 0) {
        static const char junk[] = "this is not a profile, but long enough to be looked at as if it were one: acsp, "
                                   "mntr, and so on, up to 128 and "
                                   "some more bytes of it";
        vips_image_set_blob_copy(tagged, VIPS_META_ICC_NAME, junk, sizeof junk);
    } else if (profile && vips_profile_load(profile, &blob, NULL) == 0) {
        size_t n;
        const void *data = vips_blob_get(blob, &n);
        vips_image_set_blob_copy(tagged, VIPS_META_ICC_NAME, data, n);
        vips_area_unref((VipsArea *)blob);
    }
    bytes b = as_jpeg ? jpeg_of(tagged, 100) : png_of(tagged);
    yd_image im = must_decode(b);
    for (int c = 0; c < 3; c++) rgb[c] = 0;
    for (int i = 0; im.rgb && i < N * N * 3; i++) rgb[i % 3] += im.rgb[i] / 257.0 / (double)(N * N);
    if (alpha) *alpha = im.alpha ? yd_narrow(im.alpha[5]) : -1;
    yd_image_clear(&im);
    free(b.p);
    g_object_unref(tagged);
    g_object_unref(v);
}

static int is_about(const double rgb[3], double r, double g, double b, double tolerance)
{
    int ok = fabs(rgb[0] - r) <= tolerance && fabs(rgb[1] - g) <= tolerance && fabs(rgb[2] - b) <= tolerance;
    if (!ok) printf("  %.1f %.1f %.1f\n", rgb[0], rgb[1], rgb[2]);
    return ok;
}

static void profiles(void)
{
    static const uint8_t red[] = {200, 60, 60, 77}, odd[] = {13, 201, 98}, mid[] = {128};
    double c[3];
    int alpha;
    flat_colour(3, odd, VIPS_INTERPRETATION_sRGB, "srgb", 0, c, NULL);
    CHECK(is_about(c, 13, 201, 98, 0)); // sRGB by another name: untouched
    flat_colour(3, red, VIPS_INTERPRETATION_sRGB, "p3", 0, c, NULL);
    CHECK(is_about(c, 217, 45, 51, 6)); // Display P3 red is redder than sRGB's
    double opaque_red = c[0];
    flat_colour(4, red, VIPS_INTERPRETATION_sRGB, "p3", 0, c, &alpha);
    CHECK(c[0] == opaque_red && alpha == 77); // alpha passes by the profile
    flat_colour(3, red, VIPS_INTERPRETATION_sRGB, "broken", 1, c, NULL);
    CHECK(is_about(c, 200, 60, 60, 1));
    flat_colour(1, mid, VIPS_INTERPRETATION_B_W, "broken", 1, c, NULL);
    CHECK(is_about(c, 128, 128, 128, 0));
    flat_colour(1, mid, VIPS_INTERPRETATION_B_W, "p3", 1, c, NULL); // an RGB profile on a grey picture
    CHECK(is_about(c, 128, 128, 128, 0));
}

static void cmyk(void)
{
    static const uint8_t paper[] = {0, 0, 0, 0}, ink[] = {255, 255, 255, 255}, cyan[] = {255, 0, 0, 0};
    static const char *const with[] = {NULL, "cmyk", "broken"};
    for (int i = 0; i < 3; i++) {
        double c[3];
        flat_colour(4, paper, VIPS_INTERPRETATION_CMYK, with[i], 1, c, NULL);
        CHECK(is_about(c, 255, 255, 255, 4));
        flat_colour(4, ink, VIPS_INTERPRETATION_CMYK, with[i], 1, c, NULL);
        CHECK(c[0] < 45 && c[1] < 45 && c[2] < 45);
        flat_colour(4, cyan, VIPS_INTERPRETATION_CMYK, with[i], 1, c, NULL);
        CHECK(c[0] < 60 && c[1] > 100 && c[2] > 180);
    }
}

// 16 bits, a profile and alpha together.
static void deep_profile(void)
{
    uint16_t p[32 * 32 * 4];
    for (int i = 0; i < 32 * 32; i++)
        p[4 * i] = 200 * 257, p[4 * i + 1] = p[4 * i + 2] = 60 * 257, p[4 * i + 3] = (uint16_t)(i * 64);
    VipsImage *v = vips_of(p, 32, 32, 4, 1);
    VipsBlob *blob = NULL;
    CHECK(vips_profile_load("p3", &blob, NULL) == 0);
    size_t n;
    const void *data = vips_blob_get(blob, &n);
    vips_image_set_blob_copy(v, VIPS_META_ICC_NAME, data, n);
    vips_area_unref((VipsArea *)blob);
    bytes b = png_of(v);
    yd_image im = must_decode(b);
    int bad = 0;
    for (int i = 0; im.rgb && im.alpha && i < 32 * 32; i++)
        bad += im.alpha[i] != i * 64 || abs(yd_narrow(im.rgb[3 * i]) - 217) > 6;
    CHECK_MSG(bad == 0 && im.alpha, "%d", bad);
    yd_image_clear(&im);
    free(b.p);
    g_object_unref(v);
}

// ---- what is refused

static void foreign(void)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *name;
    } rows[] = {
        {"GIF89a\1\0\1\0\0\0\0;", 14, "GIF"},
        {"BM\x3a\0\0\0\0\0\0\0", 10, "BMP"},
        {"RIFF\x24\0\0\0WEBPVP8 ", 16, "WebP"},
        {"<svg xmlns='http://www.w3.org/2000/svg'/>", 41, "SVG"},
        {"<?xml version='1.0'?><svg/>", 27, "SVG"},
        {"II*\0\x08\0\0\0", 8, "TIFF"},
        {"\0\0\0\x1c"
         "ftypavif",
         12, "AVIF"},
        {"\0\0\0\x1c"
         "ftypheic",
         12, "HEIF"},
        {"%PDF-1.4\n", 9, "PDF"},
        {"P6\n1 1\n255\nabc", 14, "PNM"},
        {"\xff\x0a"
         "abcd",
         6, "JPEG XL"},
        {"hello", 5, "known format"},
        {"\x89PNG", 4, "known format"},
        {"\xff\xd8", 2, "known format"},
        {"\0", 1, "known format"},
    };
    yd_err err;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t *exact = malloc(rows[i].n);
        memcpy(exact, rows[i].bytes, rows[i].n);
        CHECK(decode_rc(exact, rows[i].n, &wide, &err) == YD_E_IMAGE_FORMAT);
        CHECK_MSG(strstr(err.detail, rows[i].name) && !strcmp(err.accepted, "png, jpeg"), "%s", err.detail);
        free(exact);
    }
    CHECK(decode_rc("", 0, &wide, &err) == YD_E_IMAGE && strstr(err.detail, "empty"));
}

// Even when asked directly, libvips itself refuses everything but the two.
static void blocked_loaders(void)
{
    static const char svg[] = "<svg xmlns='http://www.w3.org/2000/svg' width='20' height='20'/>";
    VipsImage *im = NULL;
    CHECK(vips_svgload_buffer((void *)(uintptr_t)svg, sizeof svg - 1, &im, NULL) != 0 && !im);
    CHECK(strstr(vips_error_buffer(), "blocked") != NULL);
    vips_error_clear();
    CHECK(vips_image_new_from_buffer(svg, sizeof svg - 1, "", NULL) == NULL);
    CHECK(vips_gifload_buffer("GIF89a", 6, &im, NULL) != 0 && strstr(vips_error_buffer(), "blocked"));
    vips_error_clear();
    char path[] = "/tmp/yd-test-image-XXXXXX"; // no files either, not even good ones
    int fd = mkstemp(path);
    bytes b = black_png(20, 20);
    CHECK(fd >= 0 && write(fd, b.p, b.n) == (ssize_t)b.n);
    CHECK_MSG(vips_pngload(path, &im, NULL) != 0 && strstr(vips_error_buffer(), "blocked"), "%s", vips_error_buffer());
    close(fd);
    unlink(path);
    free(b.p);
    vips_error_clear();
    CHECK(vips_cache_get_max() == 0 && vips_concurrency_get() == 1);
}

static void sizes(void)
{
    static const struct {
        uint32_t w, h;
        yd_image_limits lim;
        int rc;
    } rows[] = {
        {100, 50, {5000, 16, 100, 0}, 0},
        {100, 50, {4999, 16, 100, 0}, YD_E_IMAGE_TOO_LARGE},
        {100, 50, {5000, 16, 99, 0}, YD_E_IMAGE_TOO_LARGE},
        {50, 100, {5000, 16, 99, 0}, YD_E_IMAGE_TOO_LARGE},
        {100, 16, {0, 16, 0, 0}, 0},
        {100, 15, {0, 16, 0, 0}, YD_E_IMAGE_TOO_SMALL},
        {15, 100, {0, 16, 0, 0}, YD_E_IMAGE_TOO_SMALL},
        {1, 1, {0, 0, 0, 0}, 0},
        {100, 50, {0, 0, 0, 10}, YD_E_BODY_TOO_LARGE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bytes b = black_png(rows[i].w, rows[i].h);
        yd_err err;
        yd_image_header hdr;
        CHECK_MSG(decode_rc(b.p, b.n, &rows[i].lim, &err) == rows[i].rc, "[%zu] %s", i, err.detail);
        CHECK_MSG(rows[i].rc == 0 || err.accepted[0], "[%zu] does not say what is accepted", i);
        CHECK_MSG(yd_image_probe(b.p, b.n, &rows[i].lim, &hdr, NULL) == rows[i].rc, "[%zu] probe", i);
        free(b.p);
    }
}

// Files that promise far more pixels than they have bytes: refused from the header, at once.
static void bombs(void)
{
    static const yd_image_limits lim = {50000000, 16, 20000, 64 << 20};
    static const uint32_t sides[][2] = {
        {30000, 30000}, {16000, 16000}, {2147483647, 2147483647}, {4294967295u, 1}, {20000, 20000}};
    yd_err err;
    bytes real = black_png(30000, 30000);
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        bytes b = i ? black_png(64, 64) : real;
        if (i) {
            put_be32(b.p + 16, sides[i][0]);
            put_be32(b.p + 20, sides[i][1]);
            put_be32(b.p + 29, crc_of(b.p + 12, 17));
        }
        double t = now();
        CHECK_MSG(decode_rc(b.p, b.n, &lim, &err) == YD_E_IMAGE_TOO_LARGE, "%s", err.detail);
        t = now() - t;
        CHECK_MSG(t < 0.1, "%.3f s", t);
        free(b.p);
    }
    bytes zero = black_png(64, 64);
    put_be32(zero.p + 16, 0);
    put_be32(zero.p + 29, crc_of(zero.p + 12, 17));
    CHECK(decode_rc(zero.p, zero.n, &lim, &err) == YD_E_IMAGE_TOO_SMALL);
    free(zero.p);

    VipsImage *v = noise_image(64, 64, 3);
    bytes j = jpeg_of(v, 80);
    for (size_t i = 2; i + 9 < j.n; i++)
        if (j.p[i] == 0xff && j.p[i + 1] == 0xc0) memset(j.p + i + 5, 0xfe, 4); // height and width of the frame
    double t = now();
    CHECK_MSG(decode_rc(j.p, j.n, &lim, &err) == YD_E_IMAGE_TOO_LARGE, "%s", err.detail);
    CHECK(now() - t < 0.1);
    free(j.p);
    g_object_unref(v);
}

// Thousands of passes in a small JPEG are refused; an ordinary progressive one and one that only quotes markers are read.
static void many_scans(void)
{
    VipsImage *v = noise_image(64, 64, 3);
    void *buf = NULL;
    size_t n = 0;
    CHECK(vips_jpegsave_buffer(v, &buf, &n, "interlace", TRUE, NULL) == 0);
    bytes b = take(buf, n);
    yd_err err;
    CHECK_MSG(decode_rc(b.p, b.n, &wide, &err) == 0, "%s", err.detail);

    static const uint8_t scan[] = {0xff, 0xda, 0, 8, 1, 1, 0, 1, 1, 0, 0x55}, comment[] = {0xff, 0xfe, 0x04, 0x02};
    enum { SCANS = 2000, QUOTED = 512 };
    uint8_t *many = malloc(b.n + SCANS * sizeof scan);
    memcpy(many, b.p, b.n - 2);
    for (size_t i = 0; i < SCANS; i++) memcpy(many + b.n - 2 + i * sizeof scan, scan, sizeof scan);
    memcpy(many + b.n - 2 + SCANS * sizeof scan, b.p + b.n - 2, 2);
    CHECK_MSG(decode_rc(many, b.n + SCANS * sizeof scan, &wide, &err) == YD_E_IMAGE && strstr(err.detail, "scans"),
              "%s", err.detail);
    free(many);

    uint8_t *quoting = malloc(b.n + sizeof comment + 2 * QUOTED);
    memcpy(quoting, b.p, 2);
    memcpy(quoting + 2, comment, sizeof comment);
    for (size_t i = 0; i < QUOTED; i++) memcpy(quoting + 2 + sizeof comment + 2 * i, scan, 2);
    memcpy(quoting + 2 + sizeof comment + 2 * QUOTED, b.p + 2, b.n - 2);
    CHECK_MSG(decode_rc(quoting, b.n + sizeof comment + 2 * QUOTED, &wide, &err) == 0, "%s", err.detail);
    free(quoting);
    free(b.p);
    g_object_unref(v);
}

static void cut_short(void)
{
    VipsImage *v = noise_image(64, 48, 3);
    for (int jpeg = 0; jpeg < 2; jpeg++) {
        bytes b = jpeg ? jpeg_of(v, 85) : png_of(v);
        size_t step = b.n / 300 + 1;
        int accepted = 0;
        for (size_t n = 0; n + 2 < b.n; n += step) {
            uint8_t *part = malloc(n ? n : 1);
            memcpy(part, b.p, n);
            yd_err err;
            int rc = decode_rc(part, n, &wide, &err);
            accepted += rc == 0;
            CHECK_MSG(rc == 0 ||
                          ((rc == YD_E_IMAGE || rc == YD_E_IMAGE_FORMAT) && err.detail[0] && !strchr(err.detail, '\n')),
                      "%d %s", rc, err.detail);
            free(part);
        }
        CHECK_MSG(accepted == 0, "%s: %d accepted", jpeg ? "jpeg" : "png", accepted);
        CHECK(vips_error_buffer()[0] == '\0'); // nothing is left for the next picture's message
        free(b.p);
    }
    g_object_unref(v);
}

static void mutants(void)
{
    VipsImage *v = noise_image(40, 32, 4), *rgb = noise_image(40, 32, 3);
    unsigned r = 99;
    for (int jpeg = 0; jpeg < 2; jpeg++) {
        bytes b = jpeg ? jpeg_of(rgb, 60) : png_of(v);
        int good = 0;
        for (int round = 0; round < 2000; round++) {
            uint8_t *copy = malloc(b.n);
            memcpy(copy, b.p, b.n);
            for (int k = 0; k <= round % 8; k++) {
                r = r * 1664525u + 1013904223u;
                size_t at = round % 2 ? (r >> 8) % b.n : (r >> 8) % 200; // half of them into the headers
                copy[at] ^= (uint8_t)(1u << (r >> 29));
            }
            yd_err err;
            int rc = decode_rc(copy, b.n, &(yd_image_limits){100000, 1, 4000, 0}, &err);
            CHECK_MSG(rc == 0 || err.detail[0], "%d", rc);
            good += rc == 0;
            free(copy);
        }
        CHECK_MSG(jpeg ? good < 2000 : good < 40, "%d accepted", good); // a PNG's checksums find nearly all
        free(b.p);
    }
    g_object_unref(rgb);
    g_object_unref(v);
}

// ---- encoding

static void fill(yd_image *im, int grey)
{
    for (int y = 0, i = 0; y < im->h; y++)
        for (int x = 0; x < im->w; x++, i++) {
            for (int c = 0; c < 3; c++) im->rgb[3 * i + c] = yd_widen(noise(x, y, grey ? 0 : c));
            if (im->alpha) im->alpha[i] = yd_widen(noise(x, y, 9));
        }
    im->grey = grey;
}

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
              !strcmp(err.field, "quality") && !p && !n);
        CHECK(encode(&im, YD_PNG, 90, bad_effort[i], &p, &n, &err) == YD_E_SETTING &&
              !strcmp(err.field, "effort") && !p);
    }
    yd_image_clear(&im);
    CHECK(yd_image_alloc(&im, 65536, 1, 0, NULL) == 0);
    CHECK(encode(&im, YD_JPEG, 90, 6, &p, &n, &err) == YD_E_SETTING && !strcmp(err.accepted, "png"));
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

// ---- memory and threads

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
        CHECK_MSG(done ? rc == 0 && k == 3 : rc == YD_E_NOMEM && !im.rgb && !im.alpha, "decode, allocation %ld: %d", k,
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

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"png_kinds", png_kinds},
        {"deep", deep},
        {"palettes", palettes},
        {"orientations", orientations},
        {"profiles", profiles},
        {"cmyk", cmyk},
        {"deep_profile", deep_profile},
        {"foreign", foreign},
        {"blocked_loaders", blocked_loaders},
        {"sizes", sizes},
        {"bombs", bombs},
        {"many_scans", many_scans},
        {"cut_short", cut_short},
        {"mutants", mutants},
        {"png_round_trip", png_round_trip},
        {"no_metadata", no_metadata},
        {"jpegs", jpegs},
        {"settings", settings},
        {"grey_plane", grey_plane},
        {"no_memory", no_memory},
        {"threads", threads},
    };
    yd_err err = {0};
    if (yd_image_init(&err) || yd_image_init(&err)) { // twice is fine
        printf("%s\n", err.detail);
        return 1;
    }
    int rc = t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
    vips_shutdown();
    return rc;
}
