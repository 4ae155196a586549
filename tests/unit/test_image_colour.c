// Colours, measured: a chart in some colour space goes in, the result comes out, and both are looked at through their own profiles by
// lcms2. What is compared is what an eye would see (CIEDE2000 below 1), not numbers in files.
#include "image_rig.h"

#include "ciede2000.h"

#include <lcms2.h>

// ---- the measure itself

// Pairs published by Sharma, Wu and Dalal (2005), table 1.
static void measure_is_right(void)
{
    static const struct {
        lab p, q;
        double d;
    } rows[] = {
        {{50, 2.6772, -79.7751}, {50, 0, -82.7485}, 2.0425},
        {{50, 3.1571, -77.2803}, {50, 0, -82.7485}, 2.8615},
        {{50, 2.8361, -74.0200}, {50, 0, -82.7485}, 3.4412},
        {{50, 0, 0}, {50, -1, 2}, 2.3669},
        {{50, 2.4900, -0.0010}, {50, -2.4900, 0.0009}, 7.1792},
        {{50, -0.0010, 2.4900}, {50, 0.0009, -2.4900}, 4.8045},
        {{50, 2.5, 0}, {50, 0, -2.5}, 4.3065},
        {{50, 2.5, 0}, {73, 25, -18}, 27.1492},
        {{50, 2.5, 0}, {61, -5, 29}, 22.8977},
        {{60.2574, -34.0099, 36.2677}, {60.4626, -34.1751, 39.4387}, 1.2644},
        {{63.0109, -31.0961, -5.8663}, {62.8187, -29.7946, -4.0864}, 1.2630},
        {{35.0831, -44.1164, 3.7933}, {35.0232, -40.0716, 1.5901}, 1.8645},
        {{6.7747, -0.2908, -2.4247}, {5.8714, -0.0985, -2.2286}, 0.6377},
        {{2.0776, 0.0795, -1.1350}, {0.9033, -0.0636, -0.5514}, 0.9082},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double d = ciede2000(rows[i].p, rows[i].q), e = ciede2000(rows[i].q, rows[i].p);
        CHECK_MSG(fabs(d - rows[i].d) < 1e-4 && fabs(d - e) < 1e-9, "[%zu] %.4f, should be %.4f", i, d, rows[i].d);
    }
}

// ---- profiles

static cmsHPROFILE rgb_space(double rx, double ry, double gx, double gy, double bx, double by, double wx, double wy, double gamma)
{
    cmsCIExyY white = {wx, wy, 1};
    cmsCIExyYTRIPLE primaries = {{rx, ry, 1}, {gx, gy, 1}, {bx, by, 1}};
    const cmsFloat64Number srgb[5] = {2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045};
    cmsToneCurve *c = gamma > 0 ? cmsBuildGamma(NULL, gamma) : cmsBuildParametricToneCurve(NULL, 4, srgb), *curves[3] = {c, c, c};
    cmsHPROFILE p = cmsCreateRGBProfile(&white, &primaries, curves);
    cmsFreeToneCurve(c);
    return p;
}

static cmsHPROFILE grey_space(double gamma)
{
    cmsToneCurve *c = cmsBuildGamma(NULL, gamma);
    cmsHPROFILE p = cmsCreateGrayProfile(cmsD50_xyY(), c);
    cmsFreeToneCurve(c);
    return p;
}

enum { SRGB, P3, ADOBE, PROPHOTO, LINEAR, INK, GREY10, GREY18, GREY22, SPACES };

static const char *const space_name[] = {"sRGB",     "Display P3", "Adobe RGB", "ProPhoto", "linear",
                                         "CMYK",     "grey 1.0",   "grey 1.8",  "grey 2.2"};

static cmsHPROFILE space(int which)
{
    switch (which) {
    case P3:
        return rgb_space(0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290, 0);
    case ADOBE:
        return rgb_space(0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290, 2.19921875);
    case PROPHOTO:
        return rgb_space(0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001, 0.3457, 0.3585, 1.8);
    case LINEAR:
        return rgb_space(0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290, 1.0);
    case INK: {
        VipsBlob *blob = NULL;
        if (vips_profile_load("cmyk", &blob, NULL)) return NULL;
        size_t n;
        const void *p = vips_blob_get(blob, &n);
        cmsHPROFILE ink = cmsOpenProfileFromMem(p, (cmsUInt32Number)n);
        vips_area_unref((VipsArea *)blob);
        return ink;
    }
    case GREY10:
        return grey_space(1.0);
    case GREY18:
        return grey_space(1.8);
    case GREY22:
        return grey_space(2.2);
    default:
        return cmsCreate_sRGBProfile();
    }
}

static bytes profile_bytes(cmsHPROFILE p)
{
    cmsUInt32Number n = 0;
    cmsSaveProfileToMem(p, NULL, &n);
    bytes b = {malloc(n), n};
    cmsSaveProfileToMem(p, b.p, &n);
    return b;
}

// What n pixels of 16 bits look like: relative to their white, black scaled to black.
static void look(cmsHPROFILE p, int bands, const uint16_t *pixels, int n, lab *out)
{
    cmsHPROFILE to = cmsCreateLab4Profile(NULL);
    cmsUInt32Number in = bands == 1 ? TYPE_GRAY_16 : bands == 3 ? TYPE_RGB_16 : TYPE_CMYK_16;
    cmsHTRANSFORM t = cmsCreateTransform(p, in, to, TYPE_Lab_DBL, INTENT_RELATIVE_COLORIMETRIC,
                                         cmsFLAGS_BLACKPOINTCOMPENSATION | cmsFLAGS_NOOPTIMIZE);
    CHECK(t != NULL);
    if (t) cmsDoTransform(t, pixels, out, (cmsUInt32Number)n);
    if (t) cmsDeleteTransform(t);
    cmsCloseProfile(to);
}

// Can sRGB show it?
static int showable(lab c)
{
    cmsHPROFILE from = cmsCreateLab4Profile(NULL), to = cmsCreate_sRGBProfile();
    cmsHTRANSFORM there = cmsCreateTransform(from, TYPE_Lab_DBL, to, TYPE_RGB_DBL, INTENT_RELATIVE_COLORIMETRIC, 0);
    double rgb[3];
    cmsDoTransform(there, &c, rgb, 1);
    cmsDeleteTransform(there);
    cmsCloseProfile(to);
    cmsCloseProfile(from);
    for (int i = 0; i < 3; i++)
        if (rgb[i] < 0.002 || rgb[i] > 0.998) return 0;
    return 1;
}

// ---- charts

enum { SIDE = 6, PATCHES = SIDE * SIDE * SIDE, W = 36, H = 24 };

// W x H pixels; the first PATCHES of them differ in every channel.
static void chart(int bands, int deep, uint16_t *v)
{
    for (int i = 0; i < W * H; i++) {
        const int at[4] = {i % SIDE, i / SIDE % SIDE, i / SIDE / SIDE % SIDE, i % 3};
        for (int c = 0; c < bands; c++) {
            int level = bands == 1 ? i % PATCHES * 65535 / (PATCHES - 1) : at[c] * (bands == 4 ? 40000 : 65535) / (SIDE - 1);
            if (bands == 4 && c == 3) level = at[3] * 12000;
            v[i * bands + c] = deep ? (uint16_t)level : yd_widen(yd_narrow((uint16_t)level));
        }
    }
}

static bytes chart_file(int which, const uint16_t *v, int bands, int deep, const char *suffix)
{
    cmsHPROFILE p = space(which);
    bytes icc = profile_bytes(p);
    uint8_t p8[W * H * 4];
    for (int i = 0; i < W * H * bands; i++) p8[i] = yd_narrow(v[i]);
    VipsImage *im = vips_of(deep ? (const void *)v : p8, W, H, bands, deep), *tagged = NULL;
    vips_copy(im, &tagged, "interpretation", bands == 4 ? VIPS_INTERPRETATION_CMYK : kind_of(bands, deep), NULL);
    vips_image_set_blob_copy(tagged, VIPS_META_ICC_NAME, icc.p, icc.n);
    bytes b = saved(tagged, suffix);
    g_object_unref(tagged);
    g_object_unref(im);
    free(icc.p);
    cmsCloseProfile(p);
    return b;
}

// What a finished file shows: its pixels through the profile in it, sRGB (or grey with sRGB's curve) when it has none.
static int look_at_file(bytes b, lab *out)
{
    VipsImage *im = NULL;
    int failed = !memcmp(b.p, "\x89PNG", 4) ? vips_pngload_buffer(b.p, b.n, &im, NULL)
                 : b.p[0] == 0xff           ? vips_jpegload_buffer(b.p, b.n, &im, NULL)
                 : b.p[0] == 'R'            ? vips_webpload_buffer(b.p, b.n, &im, NULL)
                                            : vips_tiffload_buffer(b.p, b.n, &im, NULL);
    if (failed) return -1;
    int bands = im->Bands, has = vips_image_get_typeof(im, VIPS_META_ICC_NAME) != 0;
    const void *icc = NULL;
    size_t n = 0, size;
    if (has) vips_image_get_blob(im, VIPS_META_ICC_NAME, &icc, &n);
    cmsHPROFILE p = has ? cmsOpenProfileFromMem(icc, (cmsUInt32Number)n) : cmsCreate_sRGBProfile();
    void *pixels = vips_image_write_to_memory(im, &size);
    static uint16_t rgb[W * H * 3];
    for (int i = 0; i < W * H * 3; i++) {
        int at = bands < 3 ? i / 3 : i;
        rgb[i] = im->BandFmt == VIPS_FORMAT_USHORT ? ((uint16_t *)pixels)[at] : yd_widen(((uint8_t *)pixels)[at]);
    }
    look(p, 3, rgb, W * H, out);
    g_free(pixels);
    cmsCloseProfile(p);
    g_object_unref(im);
    return has;
}

typedef struct verdict {
    double worst, mean;
    int compared, tagged;
} verdict;

// One chart through decode and encode.
static verdict judge(int which, int deep, const char *suffix, yd_image_format format, yd_color_space want)
{
    static uint16_t v[W * H * 4];
    static lab before[W * H], after[W * H];
    int bands = which >= GREY10 ? 1 : which == INK ? 4 : 3;
    verdict r = {0};
    chart(bands, deep, v);
    bytes in = chart_file(which, v, bands, deep, suffix);
    yd_decode_options opt = {want};
    yd_image im;
    yd_err err = {0};
    CHECK_MSG(yd_image_decode(in.p, in.n, &wide, &opt, &im, &err) == 0, "%s: %s", space_name[which], err.detail);
    CHECK(im.depth == (deep ? 16 : 8));
    yd_output out = output_of(format);
    out.lossless = 1;
    if (format == YD_JPEG) out.lossless = 0, out.encode_quality = 100;
    bytes file = must_encode(&im, &out);
    cmsHPROFILE p = space(which);
    look(p, bands, v, W * H, before);
    cmsCloseProfile(p);
    r.tagged = look_at_file(file, after);
    int converted = want == YD_COLOR_SRGB || which >= LINEAR;
    for (int i = 0; i < PATCHES; i++) {
        if (converted && bands != 1 && !showable(before[i])) continue;
        double d = ciede2000(before[i], after[i]);
        r.compared++;
        r.mean += d;
        if (!(d <= r.worst)) r.worst = d;
    }
    r.mean /= r.compared ? r.compared : 1;
    yd_image_clear(&im);
    free(file.p);
    free(in.p);
    return r;
}

static void expect(int which, int deep, const char *suffix, yd_image_format format, yd_color_space want, int tagged, double limit)
{
    verdict v = judge(which, deep, suffix, format, want);
    CHECK_MSG(v.worst < limit && v.compared > 20 && v.tagged == tagged,
              "%s, %d bits, to %s: dE00 %.3f (mean %.3f) over %d colours, %s", space_name[which], deep ? 16 : 8,
              yd_image_format_name(format), v.worst, v.mean, v.compared, v.tagged ? "tagged" : "not tagged");
    if (getenv("YD_SHOW"))
        printf("  %-10s %2d bits %-4s %s: worst %.3f mean %.4f over %d\n", space_name[which], deep ? 16 : 8,
               yd_image_format_name(format), want ? "srgb  " : "source", v.worst, v.mean, v.compared);
}

// ---- the promises

// Display-like spaces pass unconverted, with their profile, in every format; what little is measured is the rounding of profiles in files.
static void display_spaces_are_kept(void)
{
    static const yd_image_format formats[] = {YD_PNG, YD_TIFF, YD_WEBP};
    for (int which = SRGB; which <= PROPHOTO; which++) {
        for (int f = 0; f < 3; f++) expect(which, 0, ".png", formats[f], YD_COLOR_SOURCE, 1, 0.01);
        for (int f = 0; f < 2; f++) expect(which, 1, ".tif", formats[f], YD_COLOR_SOURCE, 1, 0.01);
        expect(which, 0, ".webp[lossless]", YD_PNG, YD_COLOR_SOURCE, 1, 0.01);
    }
    for (int which = SRGB; which <= PROPHOTO; which++) { // a JPEG carries the very profile
        static uint16_t v[W * H * 3];
        chart(3, 0, v);
        bytes in = chart_file(which, v, 3, 0, ".jpg[Q=100]");
        yd_image im = must_decode(in);
        yd_output out = output_of(YD_JPEG);
        bytes file = must_encode(&im, &out);
        VipsImage *a = NULL, *b = NULL;
        const void *pa = NULL, *pb = NULL;
        size_t na = 0, nb = 1;
        CHECK(!vips_jpegload_buffer(in.p, in.n, &a, NULL) && !vips_jpegload_buffer(file.p, file.n, &b, NULL));
        CHECK(!vips_image_get_blob(a, VIPS_META_ICC_NAME, &pa, &na) && !vips_image_get_blob(b, VIPS_META_ICC_NAME, &pb, &nb));
        CHECK(na == nb && memcmp(pa, pb, na) == 0);
        g_clear_object(&a);
        g_clear_object(&b);
        yd_image_clear(&im);
        free(file.p);
        free(in.p);
    }
}

// Everything else is converted to sRGB and looks the same.
static void other_spaces_are_converted(void)
{
    expect(LINEAR, 1, ".png", YD_PNG, YD_COLOR_SOURCE, 1, 0.1);
    expect(LINEAR, 1, ".tif", YD_TIFF, YD_COLOR_SOURCE, 1, 0.1);
    expect(LINEAR, 0, ".png", YD_PNG, YD_COLOR_SOURCE, 1, 1.0);
    expect(INK, 0, ".tif", YD_PNG, YD_COLOR_SOURCE, 1, 1.0);
    expect(INK, 0, ".tif", YD_TIFF, YD_COLOR_SOURCE, 1, 1.0);
    expect(INK, 1, ".tif", YD_TIFF, YD_COLOR_SOURCE, 1, 0.2);
    for (int which = GREY10; which <= GREY22; which++) {
        expect(which, 1, ".png", YD_PNG, YD_COLOR_SOURCE, 0, 0.1);
        expect(which, 0, ".png", YD_PNG, YD_COLOR_SOURCE, 0, 1.0);
    }
}

static void srgb_on_request(void)
{
    for (int which = SRGB; which <= LINEAR; which++) {
        int tagged = which != SRGB; // already is
        expect(which, 1, ".png", YD_PNG, YD_COLOR_SRGB, tagged, 0.1);
        expect(which, 0, ".png", YD_PNG, YD_COLOR_SRGB, tagged, 1.0);
    }
}

// Equal pictures give equal bytes although lcms2 stamps the profiles that it makes with the time.
static void tags_have_no_clock(void)
{
    static uint16_t v[W * H * 3];
    chart(3, 1, v);
    bytes in = chart_file(LINEAR, v, 3, 1, ".png"), file[2];
    for (int i = 0; i < 2; i++) {
        yd_image im = must_decode(in);
        yd_output out = output_of(YD_TIFF);
        file[i] = must_encode(&im, &out);
        yd_image_clear(&im);
        double t = now();
        while (i == 0 && now() - t < 1.1) continue; // the stamp counts seconds
    }
    CHECK(file[0].n == file[1].n && memcmp(file[0].p, file[1].p, file[0].n) == 0);
    free(file[0].p);
    free(file[1].p);
    free(in.p);
}

// ---- profiles that say nothing useful

static yd_image decoded_with(const char *junk, size_t n, int bands, cmsHPROFILE instead)
{
    VipsImage *v = noise_image(W, H, bands);
    bytes icc = instead ? profile_bytes(instead) : (bytes){NULL, 0};
    vips_image_set_blob_copy(v, VIPS_META_ICC_NAME, instead ? icc.p : (const void *)junk, instead ? icc.n : n);
    bytes b = saved(v, bands == 1 ? ".jpg[Q=100]" : ".tif");
    yd_image im = must_decode(b);
    free(icc.p);
    free(b.p);
    g_object_unref(v);
    return im;
}

static void useless_profiles_are_ignored(void)
{
    static char junk[2000] = "this is not a profile, but long enough to be looked at as if it were one";
    memcpy(junk + 36, "acsp", 4);
    yd_image im = decoded_with(junk, sizeof junk, 3, NULL);
    int bad = 0;
    for (int i = 0; im.rgb && i < W * H * 3; i++) bad += im.rgb[i] != yd_widen(noise(i / 3 % W, i / 3 / W, i % 3));
    CHECK(im.rgb && bad == 0);
    yd_output out = output_of(YD_PNG);
    bytes b = must_encode(&im, &out);
    CHECK(!contains(b, "iCCP")); // and not passed on
    free(b.p);
    yd_image_clear(&im);

    cmsHPROFILE p3 = space(P3); // an RGB profile on a grey picture
    im = decoded_with(NULL, 0, 1, p3);
    CHECK(im.grey && im.rgb && abs(yd_narrow(im.rgb[0]) - noise(0, 0, 0)) <= 1);
    yd_image_clear(&im);
    cmsCloseProfile(p3);
}

// A profile of which every part was changed at random: no crash, and an answer.
static void mutated_profiles(void)
{
    static uint16_t v[W * H * 4];
    unsigned r = 7;
    for (int which = SRGB; which < SPACES; which++) {
        int bands = which >= GREY10 ? 1 : which == INK ? 4 : 3;
        chart(bands, 0, v);
        bytes in = chart_file(which, v, bands, 0, ".tif");
        uint8_t *acsp = memmem(in.p, in.n, "acsp", 4);
        CHECK(acsp && acsp >= in.p + 36);
        for (int round = 0; acsp && round < 150; round++) {
            bytes copy = {malloc(in.n), in.n};
            memcpy(copy.p, in.p, in.n);
            size_t start = (size_t)(acsp - in.p) - 36, span = in.n - start < 700 ? in.n - start : 700;
            for (int k = 0; k <= round % 6; k++) {
                r = r * 1664525u + 1013904223u;
                copy.p[start + (r >> 8) % span] ^= (uint8_t)(1u << (r >> 29));
            }
            yd_err err;
            int rc = decode_rc(copy.p, copy.n, &wide, &err);
            CHECK_MSG(rc == 0 || err.detail[0], "%d", rc);
            free(copy.p);
        }
        free(in.p);
    }
}

// ---- files without a profile that say it otherwise

static bytes with_chunk(bytes png, const char *type, const uint8_t *data, size_t n)
{
    bytes b = {malloc(png.n + n + 12), 33};
    memcpy(b.p, png.p, 33);
    b.n += put_chunk(b.p + 33, type, data, n);
    memcpy(b.p + b.n, png.p + 33, png.n - 33);
    b.n += png.n - 33;
    free(png.p);
    return b;
}

// gAMA and cHRM of Adobe RGB: kept as a profile. gAMA of 1.0: converted. sRGB's own values, or an sRGB chunk: nothing happens.
static void png_gamma(void)
{
    static const uint32_t adobe[8] = {31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000};
    static uint16_t v[W * H * 3];
    static lab before[W * H], after[W * H];
    chart(3, 1, v);
    for (int kind = 0; kind < 4; kind++) {
        VipsImage *im = vips_of(v, W, H, 3, 1);
        bytes b = png_of(im);
        g_object_unref(im);
        uint8_t gama[4], chrm[32], intent = 0;
        put_be32(gama, kind == 1 || kind == 2 ? 100000 : 45455);
        for (int i = 0; i < 8; i++) put_be32(chrm + 4 * i, adobe[i]);
        if (kind == 0) b = with_chunk(b, "cHRM", chrm, 32);
        if (kind == 2) b = with_chunk(b, "sRGB", &intent, 1);
        b = with_chunk(b, "gAMA", gama, 4);
        yd_image decoded = must_decode(b);
        yd_output out = output_of(YD_PNG);
        bytes file = must_encode(&decoded, &out);
        cmsHPROFILE p = space(kind == 0 ? ADOBE : kind == 1 ? LINEAR : SRGB);
        look(p, 3, v, W * H, before);
        cmsCloseProfile(p);
        int tagged = look_at_file(file, after), changed = 0;
        double worst = 0;
        for (int i = 0; i < PATCHES; i++) worst = fmax(worst, ciede2000(before[i], after[i]));
        for (int i = 0; decoded.rgb && i < W * H * 3; i++) changed += decoded.rgb[i] != v[i];
        CHECK_MSG(worst < 0.5 && tagged == (kind < 2) && !changed == (kind != 1), "kind %d: dE00 %.3f, %d, %d changed", kind, worst,
                  tagged, changed);
        yd_image_clear(&decoded);
        free(file.p);
        free(b.p);
    }
}

// AVIF that names Display P3 or linear light by number: kept with a profile, or converted.
static void numbered_colours(void)
{
    size_t kinds;
    const yd_image_kind *k = yd_image_kinds(&kinds);
    VipsImage *v = noise_image(48, 48, 3);
    bytes b = saved(v, ".avif[Q=90,compression=av1,effort=9]");
    uint8_t *box = b.n ? memmem(b.p, b.n, "colrnclx", 8) : NULL;
    for (int how = 0; box && k[4].reads && how < 3; how++) { // plain, P3, linear
        box[8] = 0, box[9] = how == 1 ? 12 : 1;
        box[10] = 0, box[11] = how == 2 ? 8 : 13;
        yd_image im = must_decode(b);
        yd_output out = output_of(YD_PNG);
        bytes file = must_encode(&im, &out);
        CHECK_MSG(contains(file, "iCCP") == (how != 0), "kind %d", how);
        static double mean[3];
        mean[how] = 0;
        for (int i = 0; im.rgb && i < 48 * 48 * 3; i++) mean[how] += im.rgb[i] / (48.0 * 48 * 3);
        CHECK_MSG(how == 0 || (how == 1 ? mean[1] == mean[0] : mean[2] > mean[0] * 1.1), "kind %d: %.0f, %.0f", how, mean[0],
                  mean[how]);
        yd_image_clear(&im);
        free(file.p);
    }
    free(b.p);
    g_object_unref(v);
}

// Ink without a usable profile: paper is white, all inks together are dark, cyan is cyan.
static void ink_without_a_profile(void)
{
    static const uint8_t mix[3][4] = {{0, 0, 0, 0}, {255, 255, 255, 255}, {255, 0, 0, 0}};
    for (int k = 0; k < 3; k++) {
        uint8_t p[32 * 32 * 4];
        for (int i = 0; i < 32 * 32; i++) memcpy(p + 4 * i, mix[k], 4);
        VipsImage *v = vips_of(p, 32, 32, 4, 0), *ink = NULL;
        vips_copy(v, &ink, "interpretation", VIPS_INTERPRETATION_CMYK, NULL);
        bytes b = jpeg_of(ink, 100);
        yd_image im = must_decode(b);
        const uint16_t *c = im.rgb;
        CHECK(!im.alpha && !im.grey && c);
        if (c && k == 0) CHECK(c[0] > 250 * 257 && c[1] > 250 * 257 && c[2] > 250 * 257);
        if (c && k == 1) CHECK(c[0] < 45 * 257 && c[1] < 45 * 257 && c[2] < 45 * 257);
        if (c && k == 2) CHECK(c[0] < 60 * 257 && c[1] > 100 * 257 && c[2] > 180 * 257);
        yd_image_clear(&im);
        free(b.p);
        g_object_unref(ink);
        g_object_unref(v);
    }
}

// Alpha passes by the profile, in 16 bits too.
static void alpha_passes_by(void)
{
    uint16_t p[32 * 32 * 4];
    for (int i = 0; i < 32 * 32; i++)
        p[4 * i] = 200 * 257, p[4 * i + 1] = p[4 * i + 2] = 60 * 257, p[4 * i + 3] = (uint16_t)(i * 64);
    VipsImage *v = vips_of(p, 32, 32, 4, 1);
    cmsHPROFILE linear = space(LINEAR);
    bytes icc = profile_bytes(linear);
    vips_image_set_blob_copy(v, VIPS_META_ICC_NAME, icc.p, icc.n);
    bytes b = png_of(v);
    yd_image im = must_decode(b);
    int bad = 0;
    for (int i = 0; im.rgb && im.alpha && i < 32 * 32; i++)
        bad += im.alpha[i] != i * 64 || abs(yd_narrow(im.rgb[3 * i]) - 229) > 1 || abs(yd_narrow(im.rgb[3 * i + 1]) - 133) > 1;
    CHECK_MSG(bad == 0 && im.alpha, "%d", bad); // 200/255 and 60/255 of the light
    yd_image_clear(&im);
    free(icc.p);
    free(b.p);
    cmsCloseProfile(linear);
    g_object_unref(v);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"CIEDE2000 agrees with the published pairs", measure_is_right},
        {"display-like spaces are kept", display_spaces_are_kept},
        {"other spaces are converted", other_spaces_are_converted},
        {"sRGB on request", srgb_on_request},
        {"tags have no clock", tags_have_no_clock},
        {"useless profiles are ignored", useless_profiles_are_ignored},
        {"profiles changed at random", mutated_profiles},
        {"PNG gAMA and cHRM", png_gamma},
        {"colours by number in AVIF", numbered_colours},
        {"ink without a profile", ink_without_a_profile},
        {"alpha passes by the profile", alpha_passes_by},
    };
    return image_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
