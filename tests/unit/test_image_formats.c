// Formats: every kind of PNG, JPEG, WebP, TIFF, AVIF and HEIC comes out as the right samples, upright, and the first of several.
#include "image_rig.h"

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


// ---- the formats against each other

static int same_samples(const yd_image *a, const yd_image *b)
{
    size_t n = (size_t)a->w * (size_t)a->h * sizeof *a->rgb;
    return a->rgb && b->rgb && a->w == b->w && a->h == b->h && a->grey == b->grey && !a->alpha == !b->alpha &&
           a->depth == b->depth && !memcmp(a->rgb, b->rgb, 3 * n) && (!a->alpha || !memcmp(a->alpha, b->alpha, n));
}

static VipsImage *deep_noise(int w, int h, int bands)
{
    uint16_t *p = malloc((size_t)(w * h * bands) * 2);
    for (int i = 0; i < w * h * bands; i++) p[i] = (uint16_t)(noise(i, 1, 0) << 8 | noise(i, 2, 0));
    VipsImage *v = vips_of(p, w, h, bands, 1);
    free(p);
    return v;
}

// Whatever keeps the samples keeps exactly the PNG's.
static void lossless_forms(void)
{
    static const struct {
        const char *suffix;
        int bands, deep;
    } rows[] = {
        {".webp[lossless]", 3, 0},
        {".tif", 1, 0},
        {".tif", 2, 0},
        {".tif", 3, 0},
        {".tif", 4, 0},
        {".tif", 1, 1},
        {".tif", 3, 1},
        {".tif", 4, 1},
        {".tif[compression=lzw]", 3, 0},
        {".tif[compression=lzw,predictor=horizontal]", 3, 1},
        {".tif[compression=deflate,predictor=horizontal]", 4, 0},
        {".tif[compression=packbits]", 3, 0},
        {".tif[compression=zstd]", 3, 0},
        {".tif[tile,tile-width=16,tile-height=16]", 3, 0},
        {".tif[tile,pyramid,tile-width=16,tile-height=16]", 3, 0},
        {".png[interlace]", 4, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        VipsImage *v = rows[i].deep ? deep_noise(53, 34, rows[i].bands) : noise_image(53, 34, rows[i].bands);
        bytes png = png_of(v), other = saved(v, rows[i].suffix);
        CHECK_MSG(other.n > 0, "%s cannot be made", rows[i].suffix);
        yd_image a = must_decode(png), b = must_decode(other);
        CHECK_MSG(same_samples(&a, &b), "%s, %d bands of %d bits", rows[i].suffix, rows[i].bands, rows[i].deep ? 16 : 8);
        yd_image_header h;
        CHECK(yd_image_probe(other.p, other.n, &wide, &h, NULL) == 0 && h.depth == (rows[i].deep ? 16 : 8) &&
              h.channels == rows[i].bands && h.pages == 1);
        yd_image_clear(&a);
        yd_image_clear(&b);
        free(png.p);
        free(other.p);
        g_object_unref(v);
    }
}

// A 16-bit ramp through PNG and TIFF, in and out: every level is still there.
static void deep_ramp(void)
{
    static const yd_image_format out_format[] = {YD_PNG, YD_TIFF};
    static uint16_t ramp[4096 * 16];
    for (int i = 0; i < 4096 * 16; i++) ramp[i] = (uint16_t)(i * 7);
    VipsImage *v = vips_of(ramp, 256, 256, 1, 1);
    for (int k = 0; k < 2; k++) {
        bytes in = saved(v, k ? ".png" : ".tif");
        yd_image im = must_decode(in);
        yd_output out = output_of(out_format[k]);
        bytes b = must_encode(&im, &out);
        yd_image back = must_decode(b);
        CHECK(back.depth == 16 && same_samples(&im, &back));
        static uint8_t seen[65536];
        memset(seen, 0, sizeof seen);
        int levels = 0;
        for (int i = 0; back.rgb && i < 65536; i++) levels += !seen[back.rgb[3 * i]]++;
        CHECK_MSG(levels == 65536, "%d levels", levels);
        yd_image_clear(&back);
        free(b.p);
        out.bit_depth = 8; // on request
        b = must_encode(&im, &out);
        back = must_decode(b);
        CHECK(back.depth == 8 && back.rgb && back.rgb[3 * 99] == yd_widen(yd_narrow(im.rgb[3 * 99])));
        yd_image_clear(&back);
        yd_image_clear(&im);
        free(b.p);
        free(in.p);
    }
    g_object_unref(v);
}

// 16 x 8 blocks of flat colours: lossy codecs keep them nearly.
static VipsImage *blocks(int deep)
{
    uint16_t p16[64 * 64 * 3];
    uint8_t p8[64 * 64 * 3];
    for (int i = 0; i < 64 * 64 * 3; i++) {
        int x = i / 3 % 64 / 32, y = i / 3 / 64 / 32;
        p8[i] = (uint8_t)(40 + 60 * x + 50 * y + 20 * (i % 3));
        p16[i] = (uint16_t)(p8[i] * 257 + (i % 3) * 64);
    }
    return vips_of(deep ? (void *)p16 : (void *)p8, 64, 64, 3, deep);
}

static int worst_at_centres(const yd_image *im)
{
    int worst = 0;
    for (int k = 0; im->rgb && k < 12; k++) {
        int x = k / 3 % 2, y = k / 6, want = 257 * (40 + 60 * x + 50 * y + 20 * (k % 3));
        int d = abs(im->rgb[3 * ((16 + 32 * y) * 64 + 16 + 32 * x) + k % 3] - want);
        if (d > worst) worst = d;
    }
    return worst;
}

// The brightest sample of a white picture.
static int white_of(const char *suffix, int deep)
{
    uint16_t p[32 * 32 * 3];
    memset(p, 0xff, sizeof p);
    VipsImage *v = vips_of(p, 32, 32, 3, deep);
    bytes b = saved(v, suffix);
    yd_image im = must_decode(b);
    int most = 0;
    for (int i = 0; im.rgb && i < 32 * 32 * 3; i++) most = im.rgb[i] > most ? im.rgb[i] : most;
    yd_image_clear(&im);
    free(b.p);
    g_object_unref(v);
    return most;
}

static int reads(const char *name)
{
    size_t n;
    const yd_image_kind *k = yd_image_kinds(&n);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(k[i].name, name)) return k[i].reads;
    return 0;
}

// AVIF and HEIC with 8, 10 and 12 bits (not 10 in AVIF: this libvips cannot write it). What this libheif cannot decode must be refused by name instead.
static void heif_family(void)
{
    static const struct {
        const char *suffix, *name;
        int depth;
    } rows[] = {
        {".avif[Q=90,compression=av1,effort=9]", "avif", 8},
        {".avif[lossless,compression=av1,effort=9,bitdepth=12]", "avif", 16},
        {".heic[Q=90,compression=hevc,effort=1]", "heic", 8},
        {".heic[Q=95,compression=hevc,effort=1,bitdepth=10]", "heic", 16},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        VipsImage *v = blocks(rows[i].depth == 16);
        bytes b = saved(v, rows[i].suffix);
        g_object_unref(v);
        yd_err err;
        if (!b.n) { // no encoder here: then at least the answer to a file's first bytes is known
            free(b.p);
            continue;
        }
        if (reads(rows[i].name)) {
            yd_image im = must_decode(b);
            yd_image_header h = {0};
            CHECK(yd_image_probe(b.p, b.n, &wide, &h, NULL) == 0 && !strcmp(h.format, rows[i].name));
            CHECK_MSG(im.depth == rows[i].depth && worst_at_centres(&im) < 4 * 257, "%s: depth %d, off by %d", rows[i].suffix,
                      im.depth, worst_at_centres(&im));
            yd_image_clear(&im);
            CHECK_MSG(white_of(rows[i].suffix, rows[i].depth == 16) == 65535, "%s: white is %d", rows[i].suffix,
                      white_of(rows[i].suffix, rows[i].depth == 16));
        } else
            CHECK(decode_rc(b.p, b.n, &wide, &err) == YD_E_IMAGE_FORMAT && !strstr(err.accepted, rows[i].name));
        free(b.p);
    }
}

// ---- orientation

static bytes orientation_exif(int o)
{
    static const uint8_t block[] = {'M', 'M', 0, '*', 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0};
    bytes b = {malloc(sizeof block), sizeof block};
    memcpy(b.p, block, sizeof block);
    b.p[19] = (uint8_t)o;
    return b;
}

// The same EXIF in PNG and WebP, the tag in TIFF: as JPEG does.
static void orientations_elsewhere(void)
{
    enum { W = 40, H = 24 };
    VipsImage *v = noise_image(W, H, 3);
    bytes plain = png_of(v);
    for (int o = 1; o <= 8; o++) {
        bytes exif = orientation_exif(o), file[3];
        VipsImage *tagged = NULL, *upright = NULL;
        vips_copy(v, &tagged, NULL);
        vips_image_set_int(tagged, VIPS_META_ORIENTATION, o);
        file[0] = saved(tagged, ".tif");
        file[1] = saved(tagged, ".webp[lossless]");
        file[2] = (bytes){malloc(plain.n + exif.n + 12), plain.n};
        memcpy(file[2].p, plain.p, 33);
        file[2].n = 33 + put_chunk(file[2].p + 33, "eXIf", exif.p, exif.n);
        memcpy(file[2].p + file[2].n, plain.p + 33, plain.n - 33);
        file[2].n += plain.n - 33;
        CHECK(vips_autorot(tagged, &upright, NULL) == 0);
        size_t n = 0;
        uint8_t *want = vips_image_write_to_memory(upright, &n);
        for (int k = 0; k < 3; k++) {
            yd_image im = must_decode(file[k]);
            int bad = !im.rgb || im.w != (o < 5 ? W : H) || n != W * H * 3;
            for (size_t i = 0; !bad && i < n; i++) bad = im.rgb[i] != yd_widen(want[i]);
            CHECK_MSG(!bad, "orientation %d, file %d", o, k);
            yd_image_clear(&im);
            free(file[k].p);
        }
        g_free(want);
        free(exif.p);
        g_object_unref(upright);
        g_object_unref(tagged);
    }
    free(plain.p);
    g_object_unref(v);
}

// ---- several pictures in a file

static void several_pictures(void)
{
    VipsImage *v = noise_image(32, 96, 3), *first = NULL, *paged = NULL;
    vips_crop(v, &first, 0, 0, 32, 32, NULL);
    vips_copy(v, &paged, NULL);
    vips_image_set_int(paged, VIPS_META_PAGE_HEIGHT, 32);
    bytes png = png_of(first), file[3] = {saved(paged, ".tif"), saved(paged, ".webp[lossless]"), {NULL, 0}};
    uint8_t control[8] = {0, 0, 0, 3, 0, 0, 0, 0}; // three frames; the first is the PNG's own picture
    file[2].p = malloc(png.n + 20);
    memcpy(file[2].p, png.p, 33);
    file[2].n = 33 + put_chunk(file[2].p + 33, "acTL", control, 8);
    memcpy(file[2].p + file[2].n, png.p + 33, png.n - 33);
    file[2].n += png.n - 33;
    yd_image want = must_decode(png);
    for (int i = 0; i < 3; i++) {
        yd_image_header h = {0};
        yd_image im = must_decode(file[i]);
        CHECK(yd_image_probe(file[i].p, file[i].n, &wide, &h, NULL) == 0);
        CHECK_MSG(h.pages == 3 && h.w == 32 && h.h == 32, "%s: %d pages of %d x %d", h.format, h.pages, h.w, h.h);
        int bad = 0;
        for (int k = 0; im.rgb && k < 32 * 32 * 3; k++) bad += im.rgb[k] != want.rgb[k];
        CHECK_MSG(im.rgb && bad == 0, "%s: %d samples differ", h.format, bad);
        yd_image_clear(&im);
        free(file[i].p);
    }
    yd_image_clear(&want);
    free(png.p);
    g_object_unref(paged);
    g_object_unref(first);
    g_object_unref(v);
}

// ---- what else TIFF can hold

static void tiff_kinds(void)
{
    VipsImage *v = noise_image(40, 30, 3), *cast = NULL, *lab = NULL;
    yd_err err;
    static const struct {
        VipsBandFormat format;
        const char *said;
    } refused[] = {{VIPS_FORMAT_FLOAT, "floating-point"}, {VIPS_FORMAT_UINT, "32-bit"}, {VIPS_FORMAT_SHORT, "signed"}};
    for (int i = 0; i < 3; i++) {
        CHECK(vips_cast(v, &cast, refused[i].format, NULL) == 0);
        bytes b = saved(cast, ".tif");
        CHECK_MSG(decode_rc(b.p, b.n, &wide, &err) == YD_E_IMAGE && strstr(err.detail, refused[i].said) && err.accepted[0],
                  "%s", err.detail);
        free(b.p);
        g_clear_object(&cast);
    }
    CHECK(vips_colourspace(v, &lab, VIPS_INTERPRETATION_LAB, NULL) == 0);
    bytes b = saved(lab, ".tif");
    yd_image im = must_decode(b);
    int worst = 0;
    for (int i = 0; im.rgb && i < 40 * 30 * 3; i++) {
        int d = abs(yd_narrow(im.rgb[i]) - noise(i / 3 % 40, i / 3 / 40, i % 3));
        if (d > worst) worst = d;
    }
    CHECK_MSG(im.rgb && worst <= 2, "Lab: off by %d", worst);
    yd_image_clear(&im);
    free(b.p);
    g_object_unref(lab);
    g_object_unref(v);
}

// TIFFs of 1, 2 and 4 bits: grey levels spread over the whole range.
static void few_bits(void)
{
    for (int bits = 1; bits <= 4; bits *= 2) {
        uint8_t p[32 * 32];
        int steps = (1 << bits) - 1, worst = 0;
        for (int i = 0; i < 32 * 32; i++) p[i] = (uint8_t)(i / 5 % (steps + 1) * 255 / steps);
        char suffix[32];
        snprintf(suffix, sizeof suffix, ".tif[bitdepth=%d]", bits);
        VipsImage *v = vips_of(p, 32, 32, 1, 0);
        bytes b = saved(v, suffix);
        yd_image im = must_decode(b);
        for (int i = 0; im.rgb && i < 32 * 32; i++) {
            int d = abs(yd_narrow(im.rgb[3 * i]) - p[i]);
            if (d > worst) worst = d;
        }
        CHECK_MSG(im.grey && im.depth == 8 && worst == 0, "%d bits: off by %d", bits, worst);
        yd_image_clear(&im);
        free(b.p);
        g_object_unref(v);
    }
}

// Colours that a TIFF has multiplied by alpha are divided again.
static void multiplied_alpha(void)
{
    uint8_t p[32 * 32 * 4];
    for (int i = 0; i < 32 * 32; i++) p[4 * i] = 200, p[4 * i + 1] = 100, p[4 * i + 2] = 50, p[4 * i + 3] = (uint8_t)(64 + i % 190);
    VipsImage *v = vips_of(p, 32, 32, 4, 0);
    bytes b = saved(v, ".tif[premultiply]");
    yd_image im = must_decode(b);
    int worst = 0;
    for (int i = 0; im.rgb && i < 32 * 32 * 3; i++) {
        int d = abs(yd_narrow(im.rgb[i]) - p[i / 3 * 4 + i % 3]);
        if (d > worst) worst = d;
    }
    CHECK_MSG(im.alpha && worst <= 4, "off by %d", worst); // 8 bits times a quarter, and back
    yd_image_clear(&im);
    free(b.p);
    g_object_unref(v);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"png_kinds", png_kinds},
        {"deep", deep},
        {"palettes", palettes},
        {"orientations", orientations},
        {"lossless_forms", lossless_forms},
        {"deep_ramp", deep_ramp},
        {"heif_family", heif_family},
        {"orientations_elsewhere", orientations_elsewhere},
        {"several_pictures", several_pictures},
        {"tiff_kinds", tiff_kinds},
        {"multiplied_alpha", multiplied_alpha},
        {"few_bits", few_bits},
    };
    return image_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
