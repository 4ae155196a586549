// Colours: what the samples of a file mean, and whether they are converted.
//
//   ICC profile, else PNG gAMA/cHRM, else AVIF/HEIC nclx, else sRGB
//     RGB, matrix and curves, gamma 1.6 to 2.7   -> samples untouched, the result is tagged with the same profile
//     everything else (CMYK, LUT, linear, grey)  -> sRGB, or grey with sRGB's tone curve; Lab and XYZ go through libvips
//
// The networks were trained on display-coded pictures, so any display-like space does as well as sRGB and loses nothing. Conversions
// are relative colorimetric with black point compensation: colours that sRGB has are kept exactly, black stays black and paper becomes
// white. They are computed per pixel (no precalculated grid), from and to 16 bits. A profile that is damaged, longer than
// MAX_PROFILE_BYTES or for another kind of picture is ignored, as browsers do; CMYK then means libvips' generic ink.
// Threads: a plan belongs to one thread. lcms2's global context holds no state of ours.
// Read next: image_decode.c
#include "core/image_source.h"

#include "core/image_vips.h"
#include "core/mem.h"

#include <lcms2.h>
#include <math.h>
#include <string.h>

#define MAX_PROFILE_BYTES (16u << 20)

// What a display's curve amounts to: sRGB and Adobe RGB are 2.2, ProPhoto 1.8, some television spaces 2.4.
#define MIN_GAMMA 1.6
#define MAX_GAMMA 2.7

enum { CUBE = 9, NEARLY = 2 * 257, NCLX_BYTES = 11 };

// ---- profiles

// sRGB's own tone curve, IEC 61966-2-1.
static cmsToneCurve *srgb_curve(void)
{
    const cmsFloat64Number p[5] = {2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045};
    return cmsBuildParametricToneCurve(NULL, 4, p);
}

static cmsHPROFILE grey_profile(cmsToneCurve *curve)
{
    return curve ? cmsCreateGrayProfile(cmsD50_xyY(), curve) : NULL;
}

static cmsHPROFILE rgb_profile(const double xy[8], cmsToneCurve *curve)
{
    cmsCIExyY white = {xy[0], xy[1], 1};
    cmsCIExyYTRIPLE primaries = {{xy[2], xy[3], 1}, {xy[4], xy[5], 1}, {xy[6], xy[7], 1}};
    cmsToneCurve *curves[3] = {curve, curve, curve};
    return curve ? cmsCreateRGBProfile(&white, &primaries, curves) : NULL;
}

static const double srgb_xy[8] = {0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06};

static cmsHPROFILE described(int colours, const double xy[8], cmsToneCurve *curve)
{
    cmsHPROFILE p = colours == 1 ? grey_profile(curve) : colours == 3 ? rgb_profile(xy, curve) : NULL;
    if (curve) cmsFreeToneCurve(curve);
    return p;
}

// A PNG without a profile may state its exponent and primaries. An exponent close to 1/2.2 with sRGB's primaries is how sRGB was written
// before there was an sRGB chunk.
static cmsHPROFILE png_profile(const yd_source *s)
{
    const yd_png_facts *f = &s->png;
    double xy[8], gamma = f->gamma ? 100000.0 / f->gamma : 0;
    int stated = f->chrm[1] != 0, other = 0;
    if (f->srgb || !(gamma > 0.1 && gamma < 10)) return NULL;
    for (int i = 0; i < 8; i++) {
        xy[i] = stated ? f->chrm[i] / 100000.0 : srgb_xy[i];
        other |= fabs(xy[i] - srgb_xy[i]) > 0.003;
    }
    if (fabs(gamma - 2.2) < 0.05 && (!other || s->colours == 1)) return NULL;
    return described(s->colours, xy, cmsBuildGamma(NULL, gamma));
}

// AVIF and HEIC without a profile may name primaries and curve by the numbers of ITU-T H.273, in a box that libvips ignores. The box is
// looked for by its name instead of by its place; the worst that a file can reach with a false one is odd colours.
static cmsHPROFILE nclx_profile(const yd_source *s)
{
    static const double p3[8] = {0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060},
                        bt2020[8] = {0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046};
    if (strcmp(s->kind->name, "avif") != 0 && strcmp(s->kind->name, "heic") != 0) return NULL;
    size_t n = s->len < 65536 ? s->len : 65536;
    const uint8_t *box = memmem(s->bytes, n, "colrnclx", 8);
    if (!box || (size_t)(box - s->bytes) + 8 + NCLX_BYTES > n) return NULL;
    int primaries = box[8] << 8 | box[9], curve = box[10] << 8 | box[11];
    const double *xy = primaries == 12 || primaries == 11 ? p3 : primaries == 9 ? bt2020 : srgb_xy;
    if (curve == 8) return described(s->colours, xy, cmsBuildGamma(NULL, 1.0));
    if (curve == 4) return described(s->colours, xy, cmsBuildGamma(NULL, 2.2));
    if (curve == 5) return described(s->colours, xy, cmsBuildGamma(NULL, 2.8));
    return xy == srgb_xy ? NULL : described(s->colours, xy, srgb_curve());
}

static int fits(cmsHPROFILE p, int colours)
{
    cmsColorSpaceSignature space = cmsGetColorSpace(p);
    return colours == 1 ? space == cmsSigGrayData : colours == 3 ? space == cmsSigRgbData : space == cmsSigCmykData;
}

// The file's ICC profile when it is one for such a picture. The bytes stay libvips'.
static cmsHPROFILE embedded_profile(const yd_source *s, const void **bytes, size_t *n)
{
    if (!vips_image_get_typeof(s->im, VIPS_META_ICC_NAME) || vips_image_get_blob(s->im, VIPS_META_ICC_NAME, bytes, n) ||
        *n < 128 || *n > MAX_PROFILE_BYTES)
        return NULL;
    cmsHPROFILE p = cmsOpenProfileFromMem(*bytes, (cmsUInt32Number)*n);
    if (p && !fits(p, s->colours)) {
        cmsCloseProfile(p);
        p = NULL;
    }
    return p;
}

static cmsHPROFILE generic_ink(void)
{
    VipsBlob *blob = NULL;
    if (vips_profile_load("cmyk", &blob, NULL) || !blob) {
        yd_vips_forget_errors();
        return NULL;
    }
    size_t n;
    const void *bytes = vips_blob_get(blob, &n);
    cmsHPROFILE p = cmsOpenProfileFromMem(bytes, (cmsUInt32Number)n); // keeps a copy
    vips_area_unref((VipsArea *)blob);
    return p;
}

// ---- decisions

static int display_like(cmsHPROFILE p)
{
    if (cmsGetColorSpace(p) != cmsSigRgbData || !cmsIsMatrixShaper(p) ||
        cmsIsCLUT(p, INTENT_RELATIVE_COLORIMETRIC, LCMS_USED_AS_INPUT))
        return 0;
    double gamma = cmsDetectRGBProfileGamma(p, 0.5);
    return gamma >= MIN_GAMMA && gamma <= MAX_GAMMA;
}

static cmsHTRANSFORM to_srgb(cmsHPROFILE from, int colours)
{
    cmsUInt32Number in = colours == 1 ? TYPE_GRAY_16 : colours == 3 ? TYPE_RGB_16 : TYPE_CMYK_16;
    cmsToneCurve *curve = colours == 1 ? srgb_curve() : NULL;
    cmsHPROFILE to = colours == 1 ? grey_profile(curve) : cmsCreate_sRGBProfile();
    cmsHTRANSFORM t = NULL;
    if (to)
        t = cmsCreateTransform(from, in, to, colours == 1 ? TYPE_GRAY_16 : TYPE_RGB_16, INTENT_RELATIVE_COLORIMETRIC,
                               cmsFLAGS_BLACKPOINTCOMPENSATION | cmsFLAGS_NOOPTIMIZE);
    if (to) cmsCloseProfile(to);
    if (curve) cmsFreeToneCurve(curve);
    return t;
}

// Does the transform do anything but round? Most profiles in the wild say "sRGB" at length: rather than trusting names, look at what
// becomes of a few colours.
static int changes_colours(cmsHTRANSFORM t, int colours)
{
    uint16_t in[CUBE * CUBE * CUBE * 3], out[CUBE * CUBE * CUBE * 3];
    int n = colours == 1 ? CUBE : CUBE * CUBE * CUBE;
    for (int i = 0; i < n; i++) {
        const int at[3] = {i % CUBE, i / CUBE % CUBE, i / CUBE / CUBE};
        for (int c = 0; c < colours; c++) in[i * colours + c] = (uint16_t)(at[c] * 65535 / (CUBE - 1));
    }
    cmsDoTransform(t, in, out, (cmsUInt32Number)n);
    for (int i = 0; i < n * colours; i++) {
        int d = out[i] - in[i];
        if (d > NEARLY || d < -NEARLY) return 1;
    }
    return 0;
}

// A profile of ours as bytes. lcms2 stamps it with the present second, which would make equal pictures differ.
static int serialise(cmsHPROFILE p, yd_meta_blob *out, yd_err *err)
{
    static const uint8_t epoch[12] = {0x07, 0xb2, 0, 1, 0, 1}; // 1970-01-01 00:00:00
    cmsUInt32Number n = 0;
    if (!cmsSaveProfileToMem(p, NULL, &n) || n < 128) return yd_fail(err, YD_E_INTERNAL, "a colour profile cannot be made");
    uint8_t *bytes = yd_malloc(n);
    if (!bytes) return yd_fail(err, YD_E_NOMEM, "no memory for a colour profile of %u bytes", n);
    cmsSaveProfileToMem(p, bytes, &n);
    memcpy(bytes + 24, epoch, sizeof epoch);
    memset(bytes + 84, 0, 16); // its checksum, which is optional
    *out = (yd_meta_blob){bytes, n};
    return 0;
}

static int tag_srgb(yd_color_plan *plan, yd_err *err)
{
    cmsHPROFILE p = cmsCreate_sRGBProfile();
    if (!p) return yd_fail(err, YD_E_NOMEM, "no memory for a colour profile");
    int rc = serialise(p, &plan->icc, err);
    cmsCloseProfile(p);
    return rc;
}

// Convert through p, and say so; or, when that would change nothing, leave the samples.
static int convert(const yd_source *s, cmsHPROFILE p, yd_color_plan *plan, yd_err *err)
{
    plan->transform = to_srgb(p, s->colours);
    if (!plan->transform && s->colours == 4)
        return yd_fail_field(err, YD_E_IMAGE, "image", "grey, RGB or CMYK",
                             "the picture's colours cannot be converted to sRGB");
    if (plan->transform && s->colours != 4 && !changes_colours(plan->transform, s->colours)) {
        cmsDeleteTransform(plan->transform);
        plan->transform = NULL;
    }
    return plan->transform && s->colours != 1 ? tag_srgb(plan, err) : 0;
}

int yd_color_plan_make(const yd_source *s, yd_color_space want, yd_color_plan *plan, yd_err *err)
{
    const void *bytes = NULL;
    size_t n = 0;
    *plan = (yd_color_plan){.out_colours = s->colours == 1 ? 1 : 3};
    if (s->lab) return tag_srgb(plan, err);
    cmsHPROFILE p = embedded_profile(s, &bytes, &n);
    int own = p == NULL, rc = 0;
    if (!p) p = s->colours == 4 ? generic_ink() : strcmp(s->kind->name, "png") == 0 ? png_profile(s) : nclx_profile(s);
    if (!p && s->colours != 4) return 0;
    if (p && want == YD_COLOR_SOURCE && display_like(p))
        rc = own ? serialise(p, &plan->icc, err) : yd_meta_blob_set(&plan->icc, bytes, n, err);
    else
        rc = p ? convert(s, p, plan, err) : yd_fail(err, YD_E_INTERNAL, "there is no profile for CMYK");
    if (p) cmsCloseProfile(p);
    return rc;
}

void yd_color_plan_clear(yd_color_plan *p)
{
    if (p->transform) cmsDeleteTransform(p->transform);
    yd_free(p->icc.p);
    *p = (yd_color_plan){0};
}

void yd_color_apply(const yd_color_plan *p, const uint16_t *in, uint16_t *out, size_t n)
{
    cmsDoTransform(p->transform, in, out, (cmsUInt32Number)n);
}
