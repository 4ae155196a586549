// Hostile files: the wrong format, too large, cut short, changed at random - each is a clear error, none a crash.
#include "image_rig.h"

#include <unistd.h>

static void foreign(void)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *name;
    } rows[] = {
        {"GIF89a\1\0\1\0\0\0\0;", 14, "GIF"},
        {"BM\x3a\0\0\0\0\0\0\0", 10, "BMP"},
        {"<svg xmlns='http://www.w3.org/2000/svg'/>", 41, "SVG"},
        {"<?xml version='1.0'?><svg/>", 27, "SVG"},
        {"II+\0\x08\0\0\0", 8, "BigTIFF"},
        {"\0\0\0\x18"
         "ftypisom\0\0\0\0mp42",
         20, "ISO media"},
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
        CHECK_MSG(strstr(err.detail, rows[i].name) && !strcmp(err.accepted, yd_image_accepted()), "%s", err.detail);
        free(exact);
    }
    CHECK(decode_rc("", 0, &wide, &err) == YD_E_IMAGE && strstr(err.detail, "empty"));
}

// Even when asked directly, libvips itself refuses everything but the accepted ones.
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


// ---- TIFFs that cost much

// A directory of shorts and longs, little-endian, without any data behind it.
static bytes small_tiff(const uint32_t (*entry)[2], int count)
{
    bytes b = {calloc(1, (size_t)(14 + 12 * count)), (size_t)(14 + 12 * count)};
    memcpy(b.p, "II*\0\x08", 5);
    b.p[8] = (uint8_t)count;
    for (int i = 0; i < count; i++) {
        uint8_t *e = b.p + 10 + 12 * i;
        e[0] = (uint8_t)entry[i][0], e[1] = (uint8_t)(entry[i][0] >> 8), e[2] = 4, e[4] = 1;
        for (int k = 0; k < 4; k++) e[8 + k] = (uint8_t)(entry[i][1] >> (8 * k));
    }
    return b;
}

static void costly_tiffs(void)
{
    static const struct {
        uint32_t entry[6][2];
        int rc;
        const char *said;
    } rows[] = {
        {{{256, 4000000000u}, {257, 4000000000u}}, YD_E_IMAGE_TOO_LARGE, "pixels"},
        {{{256, 64}, {257, 64}, {258, 8}, {259, 1}, {322, 60000}, {323, 60000}}, YD_E_IMAGE, "tiles"},
        {{{256, 64}, {257, 64}, {258, 8}, {277, 65000}}, YD_E_IMAGE, "channels"},
        {{{256, 64}, {257, 64}, {259, 33003}}, YD_E_IMAGE, "compression 33003"}, // JPEG 2000 by the back door
        {{{256, 64}}, YD_E_IMAGE, "directory"},
    };
    yd_err err;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int count = 0;
        while (count < 6 && rows[i].entry[count][0]) count++;
        bytes b = small_tiff(rows[i].entry, count);
        double t = now();
        CHECK_MSG(decode_rc(b.p, b.n, &wide, &err) == rows[i].rc && strstr(err.detail, rows[i].said), "[%zu] %s", i, err.detail);
        CHECK(now() - t < 0.1);
        free(b.p);
    }
}

// ---- every format, cut and changed

static bytes sample(int which, const char **name)
{
    static const char *const suffix[] = {".png", ".jpg[Q=85]", ".webp[Q=80]", ".webp[lossless]", ".tif[compression=lzw]",
                                         ".tif[tile,tile-width=16,tile-height=16]", ".avif[effort=9,compression=av1]",
                                         ".heic[effort=1,compression=hevc]"};
    if (which >= (int)(sizeof suffix / sizeof suffix[0])) return (bytes){NULL, 0};
    VipsImage *v = noise_image(48, 32, which == 0 || which == 5 ? 4 : 3);
    bytes b = saved(v, suffix[which]);
    g_object_unref(v);
    *name = suffix[which];
    return b;
}

static void cut_short(void)
{
    const char *name = "";
    bytes b;
    for (int k = 0; (b = sample(k, &name)).p; k++) {
        size_t step = b.n / 200 + 1;
        int accepted = 0;
        for (size_t n = 0; n + 2 < b.n; n += step) {
            uint8_t *part = malloc(n ? n : 1);
            memcpy(part, b.p, n);
            yd_err err;
            int rc = decode_rc(part, n, &wide, &err);
            accepted += rc == 0;
            CHECK_MSG(rc == 0 || ((rc == YD_E_IMAGE || rc == YD_E_IMAGE_FORMAT || rc == YD_E_IMAGE_TOO_SMALL) &&
                                  err.detail[0] && !strchr(err.detail, '\n')),
                      "%s: %d %s", name, rc, err.detail);
            free(part);
        }
        CHECK_MSG(accepted == 0, "%s: %d accepted", name, accepted);
        CHECK(vips_error_buffer()[0] == '\0'); // nothing is left for the next picture's message
        free(b.p);
    }
}

static void mutants(void)
{
    const char *name = "";
    unsigned r = 99;
    bytes b;
    for (int which = 0; (b = sample(which, &name)).p; which++) {
        int good = 0, rounds = which < 6 ? 1000 : 300;
        for (int round = 0; b.n && round < rounds; round++) {
            uint8_t *copy = malloc(b.n);
            memcpy(copy, b.p, b.n);
            for (int k = 0; k <= round % 8; k++) {
                r = r * 1664525u + 1013904223u;
                size_t at = round % 2 ? (r >> 8) % b.n : (r >> 8) % (b.n < 400 ? b.n : 400); // half of them into the headers
                copy[at] ^= (uint8_t)(1u << (r >> 29));
            }
            yd_err err;
            int rc = decode_rc(copy, b.n, &(yd_image_limits){100000, 1, 4000, 0}, &err);
            CHECK_MSG(rc == 0 || err.detail[0], "%s: %d", name, rc);
            good += rc == 0;
            free(copy);
        }
        CHECK_MSG(which ? good < rounds || !b.n : good < rounds / 20, "%s: %d accepted", name, good); // a PNG has checksums
        free(b.p);
    }
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"foreign", foreign},
        {"blocked_loaders", blocked_loaders},
        {"sizes", sizes},
        {"bombs", bombs},
        {"many_scans", many_scans},
        {"costly_tiffs", costly_tiffs},
        {"cut_short", cut_short},
        {"mutants", mutants},
    };
    return image_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
