// Metadata: what survives, what must be gone, and that it is gone - by searching the bytes of the result and by reading it with libvips.
#include "image_rig.h"

// ---- an EXIF block by hand

enum { W = 40, H = 24 };

static const char maker[] = "MAKERNOTE-of-YodaCam-0123456789", thumb[] = "THUMBNAIL-BYTES-that-show-the-old-size",
                  gps_date[] = "2001:02:03", gps_area[] = "SOMEWHERE-SECRET";

typedef struct block {
    uint8_t p[1024];
    size_t n;
    int big;
} block;

static void num(block *b, size_t at, uint32_t v, int size)
{
    for (int i = 0; i < size; i++) b->p[at + (size_t)i] = (uint8_t)(v >> (8 * (b->big ? size - 1 - i : i)));
}

static size_t directory(block *b, int count)
{
    size_t at = b->n;
    num(b, at, (uint32_t)count, 2);
    b->n += 2 + 12 * (size_t)count + 4;
    return at;
}

static void entry(block *b, size_t dir, int i, uint32_t tag, uint32_t type, uint32_t count, uint32_t value)
{
    size_t at = dir + 2 + 12 * (size_t)i;
    num(b, at, tag, 2);
    num(b, at + 2, type, 2);
    num(b, at + 4, count, 4);
    num(b, at + 8, value, type == 3 && count == 1 ? 2 : 4);
}

static uint32_t text(block *b, const char *words, size_t n)
{
    size_t at = b->n;
    memcpy(b->p + at, words, n);
    b->n += n;
    return (uint32_t)at;
}

// Make, orientation, maker note, pixel sizes, a place, a thumbnail. *gps_link: where the GPS directory's offset is written.
static block exif_block(int big, int orientation, size_t *gps_link)
{
    block b = {.n = 8, .big = big};
    memcpy(b.p, big ? "MM\0*" : "II*\0", 4);
    num(&b, 4, 8, 4);
    size_t ifd0 = directory(&b, 7);
    entry(&b, ifd0, 0, 0x10f, 2, 8, text(&b, "YodaCam", 8));
    entry(&b, ifd0, 1, 0x112, 3, 1, (uint32_t)orientation);
    entry(&b, ifd0, 4, 0x11a, 5, 1, text(&b, "\0\0\0\0\0\0\0\0", 8));
    num(&b, b.n - 8, 300, 4);
    num(&b, b.n - 4, 1, 4);
    entry(&b, ifd0, 5, 0x11b, 5, 1, (uint32_t)b.n - 8);
    entry(&b, ifd0, 6, 0x128, 3, 1, 2);
    size_t exif = directory(&b, 3);
    entry(&b, ifd0, 2, 0x8769, 4, 1, (uint32_t)exif);
    entry(&b, exif, 0, 0x927c, 7, sizeof maker, text(&b, maker, sizeof maker));
    entry(&b, exif, 1, 0xa002, 4, 1, W);
    entry(&b, exif, 2, 0xa003, 3, 1, H);
    size_t gps = directory(&b, 2);
    entry(&b, ifd0, 3, 0x8825, 4, 1, (uint32_t)gps);
    entry(&b, gps, 0, 0x1d, 2, sizeof gps_date, text(&b, gps_date, sizeof gps_date));
    entry(&b, gps, 1, 0x1c, 7, sizeof gps_area, text(&b, gps_area, sizeof gps_area));
    size_t ifd1 = directory(&b, 2);
    num(&b, ifd0 + 2 + 12 * 7, (uint32_t)ifd1, 4);
    entry(&b, ifd1, 0, 0x201, 4, 1, text(&b, thumb, sizeof thumb));
    entry(&b, ifd1, 1, 0x202, 4, 1, sizeof thumb);
    if (gps_link) *gps_link = ifd0 + 2 + 12 * 3 + 8;
    return b;
}

static const char xmp[] =
    "<?xpacket begin='\xef\xbb\xbf' id='W5M0MpCehiHzreSzNTczkc9d'?><x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF "
    "xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><!-- it's <odd> --><rdf:Description rdf:about='' "
    "xmlns:exif='http://ns.adobe.com/exif/1.0/' exif:GPSLatitude='48,8.5N' tiff:Orientation=\"6\" "
    "xmp:CreatorTool='KEEP>TOOL'><exif:GPSLongitude>11,34.2E</exif:GPSLongitude><exif:GPSAltitude/>"
    "<q:GPSDifferential><rdf:Seq><rdf:li>DIFFSECRET</rdf:li></rdf:Seq></q:GPSDifferential>"
    "<exif:PixelXDimension>40</exif:PixelXDimension><dc:title>KEEPTITLE</dc:title></rdf:Description></rdf:RDF></x:xmpmeta>"
    "<?xpacket end='w'?>";

static const char iptc[] = "\x1c\x02\x69\0\x0c" "KEEPHEADLINE";

// ---- files with all of it

static bytes joined(bytes a, size_t cut, const uint8_t *middle, size_t n)
{
    bytes b = {malloc(a.n + n), a.n + n};
    memcpy(b.p, a.p, cut);
    memcpy(b.p + cut, middle, n);
    memcpy(b.p + cut + n, a.p + cut, a.n - cut);
    free(a.p);
    return b;
}

static bytes jpeg_segment(bytes jpeg, int marker, const char *head, size_t head_n, const void *data, size_t n)
{
    uint8_t *s = malloc(n + head_n + 4);
    s[0] = 0xff, s[1] = (uint8_t)marker, s[2] = (uint8_t)((n + head_n + 2) >> 8), s[3] = (uint8_t)(n + head_n + 2);
    memcpy(s + 4, head, head_n);
    memcpy(s + 4 + head_n, data, n);
    jpeg = joined(jpeg, 2, s, n + head_n + 4);
    free(s);
    return jpeg;
}

// All blocks in a file of a format; Photoshop's wrapping of IPTC has a thumbnail resource, too.
static bytes full_file(const char *format, const block *exif)
{
    VipsImage *v = noise_image(W, H, 3), *tagged = NULL;
    vips_copy(v, &tagged, "xres", 11.811, "yres", 11.811, NULL);
    bytes b;
    if (!strcmp(format, "jpeg")) {
        static const char irb[] = "8BIM\x04\x0c\0\0\0\0\0\x0c" "IRBTHUMBNAIL" "8BIM\x04\x04\0\0\0\0\0\x11";
        uint8_t app13[256];
        memcpy(app13, irb, sizeof irb - 1);
        memcpy(app13 + sizeof irb - 1, iptc, sizeof iptc - 1);
        b = saved(tagged, ".jpg[Q=95]");
        b = jpeg_segment(b, 0xed, "Photoshop 3.0", 14, app13, sizeof irb - 1 + sizeof iptc - 1);
        b = jpeg_segment(b, 0xe1, "http://ns.adobe.com/xap/1.0/", 29, xmp, sizeof xmp - 1);
        b = jpeg_segment(b, 0xe1, "Exif\0", 6, exif->p, exif->n);
    } else if (!strcmp(format, "png")) {
        vips_image_set_blob_copy(tagged, VIPS_META_XMP_NAME, xmp, sizeof xmp - 1);
        b = saved(tagged, ".png");
        uint8_t chunk[1100];
        size_t n = put_chunk(chunk, "eXIf", exif->p, exif->n);
        b = joined(b, 33, chunk, n);
    } else if (!strcmp(format, "webp")) {
        b = saved(tagged, ".webp[lossless,strip]");
        uint8_t *pixels = memmem(b.p, b.n, "VP8L", 4); // libvips puts more around it
        size_t body = 8 + pixels[4] + 256u * pixels[5], total = 12 + 18 + body + 1 + (8 + exif->n + (exif->n & 1)) + (8 + sizeof xmp);
        bytes w = {calloc(1, total), 12};
        memcpy(w.p, b.p, 12);
        memcpy(w.p + 12, "VP8X\x0a\0\0\0\x0c\0\0\0", 12);
        w.p[24] = W - 1, w.p[27] = H - 1;
        body += body & 1;
        memcpy(w.p + 30, pixels, body);
        uint8_t *p = w.p + 30 + body;
        memcpy(p, "EXIF", 4), p[4] = (uint8_t)exif->n, p[5] = (uint8_t)(exif->n >> 8);
        memcpy(p + 8, exif->p, exif->n);
        p += 8 + exif->n + (exif->n & 1);
        size_t x = sizeof xmp - 1;
        memcpy(p, "XMP ", 4), p[4] = (uint8_t)x, p[5] = (uint8_t)(x >> 8);
        memcpy(p + 8, xmp, x);
        w.n = (size_t)(p - w.p) + 8 + x + (x & 1);
        w.p[4] = (uint8_t)(w.n - 8), w.p[5] = (uint8_t)((w.n - 8) >> 8), w.p[6] = (uint8_t)((w.n - 8) >> 16);
        free(b.p);
        b = w;
    } else {
        vips_image_set_blob_copy(tagged, VIPS_META_XMP_NAME, xmp, sizeof xmp - 1);
        b = saved(tagged, ".tif");
    }
    g_object_unref(tagged);
    g_object_unref(v);
    return b;
}

// Decode, pretend that it was enlarged, encode.
static bytes passed_on(bytes in, yd_image_format format, yd_metadata_policy policy)
{
    yd_image im = must_decode(in), larger;
    CHECK(yd_image_alloc(&larger, 2 * W, 2 * H, 0, NULL) == 0);
    fill(&larger, 0);
    larger.meta = yd_image_meta_ref(im.meta);
    yd_image_clear(&im);
    yd_output out = output_of(format);
    out.metadata = policy;
    bytes b = must_encode(&larger, &out);
    yd_image_clear(&larger);
    return b;
}

static VipsImage *loaded(bytes b, yd_image_format format)
{
    VipsImage *im = NULL;
    int failed = format == YD_PNG    ? vips_pngload_buffer(b.p, b.n, &im, NULL)
                 : format == YD_JPEG ? vips_jpegload_buffer(b.p, b.n, &im, NULL)
                 : format == YD_WEBP ? vips_webpload_buffer(b.p, b.n, &im, NULL)
                                     : vips_tiffload_buffer(b.p, b.n, &im, NULL);
    CHECK(!failed);
    return im;
}

static const char *exif_field(VipsImage *im, const char *name)
{
    const char *s = "";
    if (!vips_image_get_typeof(im, name) || vips_image_get_string(im, name, &s)) return "";
    return s;
}

static const char *const formats_in[] = {"jpeg", "png", "webp", "tiff"};
static const char *const places[] = {gps_date, gps_area, "48,8.5N", "11,34.2E", "DIFFSECRET", "GPSL"};

static int mentions_place(bytes b)
{
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (contains(b, places[i])) return 1;
    return 0;
}

// The XMP packet of a result in plain text: in a PNG it may be compressed.
static int xmp_says(bytes b, yd_image_format format, const char *words)
{
    VipsImage *im = loaded(b, format);
    const void *p = NULL;
    size_t n = 0;
    int found = im && vips_image_get_typeof(im, VIPS_META_XMP_NAME) && !vips_image_get_blob(im, VIPS_META_XMP_NAME, &p, &n) &&
                memmem(p, n, words, strlen(words)) != NULL;
    g_clear_object(&im);
    return found;
}

// Every format to every format under every policy.
static void policies(void)
{
    for (int big = 0; big < 2; big++)
        for (int from = 0; from < 4; from++)
            for (int to = YD_PNG; to <= YD_TIFF; to++)
                for (int policy = YD_META_KEEP; policy <= YD_META_STRIP; policy++) {
                    block exif = exif_block(big, 6, NULL);
                    bytes in = full_file(formats_in[from], &exif);
                    bytes b = passed_on(in, (yd_image_format)to, (yd_metadata_policy)policy);
                    const char *f = formats_in[from], *t = yd_image_format_name((yd_image_format)to);
                    int has_exif = policy != YD_META_STRIP && from != 3 && to != YD_TIFF, keep = policy == YD_META_KEEP;
                    CHECK_MSG(contains(b, "YodaCam") == has_exif && contains(b, maker) == has_exif, "%s to %s, policy %d: EXIF",
                              f, t, policy);
                    CHECK_MSG(contains(b, gps_area) == (keep && has_exif), "%s to %s, policy %d: place in EXIF", f, t, policy);
                    CHECK_MSG(keep || !mentions_place(b), "%s to %s, policy %d: place", f, t, policy);
                    CHECK_MSG(!contains(b, "THUMBNAIL"), "%s to %s, policy %d: thumbnail", f, t, policy);
                    int with_xmp = policy != YD_META_STRIP;
                    yd_image_format tf = (yd_image_format)to;
                    CHECK_MSG(xmp_says(b, tf, "KEEP>TOOL") == with_xmp && xmp_says(b, tf, "KEEPTITLE") == with_xmp,
                              "%s to %s, policy %d: XMP", f, t, policy);
                    CHECK(xmp_says(b, tf, "48,8.5N") == keep && xmp_says(b, tf, "DIFFSECRET") == keep);
                    CHECK(!xmp_says(b, tf, "Orientation") && !xmp_says(b, tf, "PixelXDimension"));
                    if (from == 0)
                        CHECK_MSG(contains(b, "KEEPHEADLINE") == (with_xmp && to == YD_JPEG), "%s to %s, policy %d: IPTC", f, t,
                                  policy);
                    free(in.p);
                    free(b.p);
                }
}

// Read by another library: orientation 1, the new size, the same resolution, maker and notes as before.
static void read_by_others(void)
{
    for (int big = 0; big < 2; big++)
        for (int to = YD_PNG; to <= YD_WEBP; to++) {
            block exif = exif_block(big, 6, NULL);
            bytes in = full_file("jpeg", &exif), b = passed_on(in, (yd_image_format)to, YD_META_STRIP_GPS);
            VipsImage *im = loaded(b, (yd_image_format)to);
            if (to != YD_PNG) { // libvips does not read a PNG's EXIF
                CHECK(vips_image_get_orientation(im) == 1 && im->Xsize == 2 * W);
                CHECK_MSG(!strncmp(exif_field(im, "exif-ifd0-Make"), "YodaCam", 7), "%s", exif_field(im, "exif-ifd0-Make"));
                CHECK_MSG(!strncmp(exif_field(im, "exif-ifd2-PixelXDimension"), "80", 2), "%s",
                          exif_field(im, "exif-ifd2-PixelXDimension"));
                CHECK(!strncmp(exif_field(im, "exif-ifd2-PixelYDimension"), "48", 2));
                CHECK(!*exif_field(im, "exif-ifd3-GPSDateStamp") && !vips_image_get_typeof(im, "jpeg-thumbnail-data"));
            }
            if (to == YD_PNG || to == YD_JPEG) CHECK_MSG(fabs(im->Xres - 11.811) < 0.05, "%g per mm", im->Xres);
            yd_image again = must_decode(b); // and by ourselves: upright already
            CHECK(again.w == 2 * W && again.h == 2 * H);
            yd_image_clear(&again);
            g_clear_object(&im);
            free(in.p);
            free(b.p);
        }
}

static void resolution_is_kept(void)
{
    static const char *const suffix[] = {".png", ".jpg", ".tif"};
    static const yd_image_format to[] = {YD_PNG, YD_JPEG, YD_TIFF};
    VipsImage *v = noise_image(W, H, 3), *fine = NULL;
    vips_copy(v, &fine, "xres", 600 / 25.4, "yres", 300 / 25.4, NULL);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            bytes in = saved(fine, suffix[i]), b = passed_on(in, to[k], YD_META_KEEP);
            VipsImage *im = loaded(b, to[k]);
            CHECK_MSG(im && fabs(im->Xres * 25.4 - 600) < 1 && fabs(im->Yres * 25.4 - 300) < 1, "%s to %s: %g x %g dpi", suffix[i],
                      yd_image_format_name(to[k]), im->Xres * 25.4, im->Yres * 25.4);
            g_clear_object(&im);
            free(in.p);
            free(b.p);
        }
    g_object_unref(fine);
    g_object_unref(v);
}

// AVIF and HEIC: EXIF and XMP come along; what EXIF says about orientation is not applied, since the format has its own way.
static void from_avif_and_heic(void)
{
    static const char *const suffix[] = {".avif[compression=av1,effort=9]", ".heic[compression=hevc,effort=1]"};
    size_t n;
    const yd_image_kind *k = yd_image_kinds(&n);
    for (int i = 0; i < 2; i++) {
        block exif = exif_block(1, 1, NULL);
        uint8_t with_head[1100] = "Exif\0";
        memcpy(with_head + 6, exif.p, exif.n);
        VipsImage *v = noise_image(W, H, 3);
        vips_image_set_blob_copy(v, VIPS_META_EXIF_NAME, with_head, exif.n + 6);
        vips_image_set_blob_copy(v, VIPS_META_XMP_NAME, xmp, sizeof xmp - 1);
        bytes in = saved(v, suffix[i]);
        if (in.n && k[4 + i].reads) {
            CHECK(mentions_place(in));
            bytes b = passed_on(in, YD_JPEG, YD_META_STRIP_GPS);
            CHECK_MSG(contains(b, "YodaCam") && contains(b, "KEEPTITLE") && !mentions_place(b), "%s", suffix[i]);
            free(b.p);
        }
        free(in.p);
        g_object_unref(v);
    }
}

// With "strip" a file holds the picture and its colour profile, no other segment or chunk.
static void strip_leaves_the_profile(void)
{
    block exif = exif_block(0, 1, NULL);
    VipsBlob *blob = NULL;
    CHECK(vips_profile_load("p3", &blob, NULL) == 0);
    size_t n;
    const void *icc = vips_blob_get(blob, &n);
    char *segment = malloc(n + 14);
    memcpy(segment, "ICC_PROFILE\0\1\1", 14);
    memcpy(segment + 14, icc, n);
    bytes in = full_file("jpeg", &exif);
    in = jpeg_segment(in, 0xe2, "", 0, segment, n + 14);
    bytes png = passed_on(in, YD_PNG, YD_META_STRIP), jpeg = passed_on(in, YD_JPEG, YD_META_STRIP);
    int profiles = 0;
    for (size_t i = 8; i + 12 <= png.n;) {
        char type[5] = "";
        memcpy(type, png.p + i + 4, 4);
        CHECK_MSG(strstr("IHDR IDAT IEND pHYs iCCP", type) != NULL, "%s", type);
        profiles += !strcmp(type, "iCCP");
        i += ((size_t)png.p[i] << 24 | (size_t)png.p[i + 1] << 16 | (size_t)png.p[i + 2] << 8 | png.p[i + 3]) + 12;
    }
    for (size_t i = 2; i + 4 <= jpeg.n && jpeg.p[i + 1] != 0xda; i += 2 + ((size_t)jpeg.p[i + 2] << 8 | jpeg.p[i + 3])) {
        int m = jpeg.p[i + 1];
        CHECK_MSG(m == 0xe2 || !((m >= 0xe1 && m <= 0xef) || m == 0xfe), "marker %02x", m);
        profiles += m == 0xe2;
    }
    bytes webp = passed_on(in, YD_WEBP, YD_META_STRIP);
    for (size_t i = 12; i + 8 <= webp.n;) {
        char type[5] = "";
        memcpy(type, webp.p + i, 4);
        CHECK_MSG(strstr("VP8X ICCP VP8 VP8L ALPH", type) != NULL, "%s", type);
        profiles += !strcmp(type, "ICCP");
        size_t len = webp.p[i + 4] + 256u * webp.p[i + 5] + 65536u * webp.p[i + 6];
        i += 8 + len + (len & 1);
    }
    free(webp.p);
    CHECK_MSG(profiles == 3, "%d profiles", profiles);
    free(segment);
    vips_area_unref((VipsArea *)blob);
    free(in.p);
    free(png.p);
    free(jpeg.p);
}

// A place that cannot be followed must not slip through: the block goes as a whole. Random damage never crashes.
static void damaged_blocks(void)
{
    size_t link;
    block exif = exif_block(0, 1, &link);
    num(&exif, link, 60000, 4);
    bytes in = full_file("jpeg", &exif), b = passed_on(in, YD_JPEG, YD_META_STRIP_GPS);
    CHECK(!contains(b, "YodaCam") && !mentions_place(b));
    free(b.p);
    free(in.p);

    unsigned r = 5;
    int survived = 0;
    for (int round = 0; round < 1500; round++) {
        exif = exif_block(round & 1, 1 + round % 8, NULL);
        for (int k = 0; k <= round % 4; k++) {
            r = r * 1664525u + 1013904223u;
            exif.p[(r >> 8) % exif.n] = (uint8_t)(r >> 24);
        }
        in = full_file("png", &exif);
        b = passed_on(in, YD_PNG, YD_META_STRIP_GPS);
        survived += contains(b, "YodaCam");
        free(b.p);
        free(in.p);
    }
    CHECK_MSG(survived > 300 && survived < 1500, "%d", survived);
}

// XMP that is no XML is not passed on under a policy that promises something about its contents.
static void damaged_xmp(void)
{
    static const char *const bad[] = {"<a b='", "<exif:GPSLatitude>48N", "<a b=c>x</a>", "<x \xff\xff"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        bytes in = full_file("tiff", NULL);
        VipsImage *im = loaded(in, YD_TIFF), *copy = NULL;
        vips_copy(im, &copy, NULL);
        vips_image_set_blob_copy(copy, VIPS_META_XMP_NAME, bad[i], strlen(bad[i]));
        bytes odd = saved(copy, ".tif"), b = passed_on(odd, YD_JPEG, YD_META_STRIP_GPS);
        CHECK_MSG(!contains(b, "http://ns.adobe.com/xap"), "[%zu] was passed on", i);
        g_object_unref(copy);
        g_object_unref(im);
        free(in.p);
        free(odd.p);
        free(b.p);
    }
}

static void no_memory_with_metadata(void)
{
    block exif = exif_block(1, 1, NULL);
    bytes in = full_file("jpeg", &exif);
    int failures = 0;
    for (long k = 1; k < 60; k++) {
        yd_image im;
        yd_mem_fail_at(k);
        int rc = yd_image_decode(in.p, in.n, &wide, NULL, &im, NULL);
        void *p = NULL;
        size_t n = 0;
        yd_output out = output_of(YD_JPEG);
        if (rc == 0) rc = yd_image_encode(&im, &out, &p, &n, NULL);
        yd_mem_fail_at(0);
        yd_free(p);
        yd_image_clear(&im);
        if (rc == 0) break;
        CHECK(rc == YD_E_NOMEM);
        failures++;
    }
    CHECK_MSG(failures > 10 && failures < 59, "%d", failures);
    free(in.p);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"every format to every format under every policy", policies},
        {"other readers see an upright picture of the new size", read_by_others},
        {"resolution is kept", resolution_is_kept},
        {"from AVIF and HEIC", from_avif_and_heic},
        {"strip leaves the profile", strip_leaves_the_profile},
        {"damaged EXIF", damaged_blocks},
        {"damaged XMP", damaged_xmp},
        {"every failing allocation is an error", no_memory_with_metadata},
    };
    return image_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
