// Pictures: starting libvips safely, telling formats apart, pixel memory.
//
// libvips as Debian builds it reads some thirty formats through as many libraries. None of them is reachable here: the bytes are
// recognised by our own table first, and all loader classes but five (PNG, JPEG, WebP, TIFF and HEIF from memory) are blocked by name
// besides.
// Caches are off (every picture is seen once) and each operation works in the calling thread (the daemon has its own pool).
// GLib aborts the process when its own memory runs out; limits are therefore checked before libvips is asked for pixels.
// Read next: image_sniff.c, image_open.c, image_decode.c; image_encode.c
#include "core/image.h"

#include "core/image_parts.h"
#include "core/image_vips.h"
#include "core/mem.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <vips/vips.h>

// ---- the formats

static yd_image_kind kinds[] = { // `reads` is written once, by start_vips or by yd_image_set_reads
    {"png", "image/png", "png", 0, 1, YD_PNG, 1, 0},
    {"jpeg", "image/jpeg", "jpg jpeg", 0, 1, YD_JPEG, 0, 1},
    {"webp", "image/webp", "webp", 0, 1, YD_WEBP, 0, 1},
    {"tiff", "image/tiff", "tif tiff", 0, 1, YD_TIFF, 1, 0},
    {"avif", "image/avif", "avif", 0, 0, YD_PNG, 0, 0},
    {"heic", "image/heic", "heic heif", 0, 0, YD_PNG, 0, 0},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static char accepted[64], writable[64];

// What can be written does not depend on libvips: it is known before (and without) yd_image_init.
static void name_writable(void)
{
    size_t n = 0;
    for (size_t i = 0; i < KINDS; i++)
        if (kinds[i].writes) n += (size_t)snprintf(writable + n, sizeof writable - n, "%s%s", n ? ", " : "", kinds[i].name);
}

static void name_accepted(void)
{
    size_t n = 0;
    accepted[0] = '\0';
    for (size_t i = 0; i < KINDS; i++)
        if (kinds[i].reads) n += (size_t)snprintf(accepted + n, sizeof accepted - n, "%s%s", n ? ", " : "", kinds[i].name);
}

// libheif is there when libvips' reader for it is, but what it can decode was chosen by whoever built it.
static int heif_decodes(int compression)
{
    int can = 0;
    void *lib = dlopen("libheif.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (!lib) return 0;
    int (*has_decoder)(int) = (int (*)(int))(uintptr_t)dlsym(lib, "heif_have_decoder_for_format");
    if (has_decoder) can = has_decoder(compression) != 0;
    dlclose(lib);
    return can;
}

// Unblock the loader class of a format. Is it there and does it work?
static int open_loader(const yd_image_kind *k)
{
    static const struct {
        const char *name, *operation, *class;
        int heif; // libheif's number of the compression
    } loaders[] = {
        {"png", "pngload_buffer", "VipsForeignLoadPngBuffer", 0},
        {"jpeg", "jpegload_buffer", "VipsForeignLoadJpegBuffer", 0},
        {"webp", "webpload_buffer", "VipsForeignLoadWebpBuffer", 0},
        {"tiff", "tiffload_buffer", "VipsForeignLoadTiffBuffer", 0},
        {"avif", "heifload_buffer", "VipsForeignLoadHeifBuffer", 4},
        {"heic", "heifload_buffer", "VipsForeignLoadHeifBuffer", 1},
    };
    for (size_t i = 0; i < sizeof loaders / sizeof loaders[0]; i++) {
        if (strcmp(loaders[i].name, k->name) != 0) continue;
        if (!vips_type_find("VipsOperation", loaders[i].operation)) return 0;
        if (loaders[i].heif && !heif_decodes(loaders[i].heif)) return 0;
        vips_operation_block_set(loaders[i].class, FALSE);
        return 1;
    }
    return 0;
}

// ---- libvips

static int vips_started; // written once under `once`

static void ignore_log(const char *domain, GLogLevelFlags level, const char *message, void *unused)
{
    (void)domain, (void)level, (void)message, (void)unused;
}

static void start_vips(void)
{
    // libvips warns about odd files on stderr; what matters comes back as an error and is told to whoever sent the file.
    g_log_set_handler("VIPS", G_LOG_LEVEL_WARNING | G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG,
                      ignore_log, NULL);
    if (VIPS_INIT("yoda")) return;
    vips_leak_set(FALSE);
    vips_concurrency_set(1);
    vips_cache_set_max(0);
    vips_cache_set_max_mem(0);
    vips_cache_set_max_files(0);
    vips_block_untrusted_set(TRUE);
    vips_operation_block_set("VipsForeignLoad", TRUE);
    for (size_t i = 0; i < KINDS; i++) kinds[i].reads = open_loader(&kinds[i]);
    name_accepted();
    vips_started = 1;
}

int yd_image_init(yd_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_vips);
    return vips_started ? 0 : yd_vips_fail(err, YD_E_INTERNAL, "libvips does not start");
}

void yd_vips_forget_errors(void)
{
    vips_error_clear();
}

int yd_vips_fail(yd_err *err, int code, const char *what)
{
    char words[200];
    char *all = vips_error_buffer_copy(); // and clears
    snprintf(words, sizeof words, "%s", all ? all : "");
    g_free(all);
    size_t n = strlen(words);
    while (n > 0 && (words[n - 1] == '\n' || words[n - 1] == ' ')) words[--n] = '\0';
    for (char *c = words; *c; c++) {
        if (*c == '\n')
            *c = ';';
        else if (*c < 0x20 || *c > 0x7e)
            *c = '?'; // a file's own bytes may be quoted in there
    }
    return yd_fail_field(err, code, "image", "", "%s%s%s", what, n ? ": " : "", words);
}

// ---- formats by name

unsigned yd_image_reads(void)
{
    unsigned mask = 0;
    for (size_t i = 0; i < KINDS; i++) mask |= (unsigned)(kinds[i].reads != 0) << i;
    return mask;
}

void yd_image_set_reads(unsigned mask)
{
    for (size_t i = 0; i < KINDS; i++) kinds[i].reads = (int)(mask >> i & 1);
    name_accepted();
}

const yd_image_kind *yd_image_kinds(size_t *n)
{
    *n = KINDS;
    return kinds;
}

const char *yd_image_accepted(void)
{
    return accepted;
}

const char *yd_image_writable(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, name_writable);
    return writable;
}

// Is name one of the words of a list separated by spaces?
static int among(const char *name, const char *words)
{
    size_t n = strlen(name);
    for (const char *w = words; *w; w += strspn(w, " ")) {
        size_t len = strcspn(w, " ");
        if (len == n && strncasecmp(w, name, n) == 0) return 1;
        w += len;
    }
    return 0;
}

int yd_image_format_parse(const char *name, yd_image_format *out, yd_err *err)
{
    for (size_t i = 0; i < KINDS; i++) {
        const yd_image_kind *k = &kinds[i];
        if (!k->writes) continue;
        if (strcasecmp(name, k->name) != 0 && strcasecmp(name, k->mime) != 0 && !among(name, k->extensions)) continue;
        *out = k->format;
        return 0;
    }
    return yd_fail_field(err, YD_E_SETTING, "format", yd_image_writable(), "'%.40s' is no format that can be written", name);
}

static const yd_image_kind *written(yd_image_format fmt)
{
    for (size_t i = 0; i < KINDS; i++)
        if (kinds[i].writes && kinds[i].format == fmt) return &kinds[i];
    return &kinds[0];
}

const char *yd_image_format_name(yd_image_format fmt)
{
    return written(fmt)->name;
}

const char *yd_image_format_mime(yd_image_format fmt)
{
    return written(fmt)->mime;
}

// ---- memory

int yd_image_alloc(yd_image *im, int w, int h, int with_alpha, yd_err *err)
{
    size_t pixels, bytes;
    *im = (yd_image){0};
    if (w < 1 || h < 1) return yd_fail(err, YD_E_INVALID, "a picture of %d x %d pixels is impossible", w, h);
    if (yd_mul_size((size_t)w, (size_t)h, &pixels) == 0 && yd_mul_size(pixels, 3 * sizeof *im->rgb, &bytes) == 0) {
        im->rgb = yd_calloc(bytes, 1);
        if (im->rgb && with_alpha) im->alpha = yd_calloc(pixels, sizeof *im->alpha);
    }
    if (!im->rgb || (with_alpha && !im->alpha)) {
        yd_image_clear(im);
        return yd_fail(err, YD_E_NOMEM, "no memory for a picture of %d x %d pixels", w, h);
    }
    im->w = w;
    im->h = h;
    im->depth = 8;
    return 0;
}

int yd_image_from_rgb8(yd_image *im, int w, int h, const uint8_t *rgb, const uint8_t *alpha, yd_err *err)
{
    int rc = yd_image_alloc(im, w, h, alpha != NULL, err);
    if (rc) return rc;
    size_t n = (size_t)w * (size_t)h;
    for (size_t i = 0; i < 3 * n; i++) im->rgb[i] = yd_widen(rgb[i]);
    for (size_t i = 0; alpha && i < n; i++) im->alpha[i] = yd_widen(alpha[i]);
    return 0;
}

void yd_image_rgb8(const yd_image *im, uint8_t *dst)
{
    size_t n = (size_t)im->w * (size_t)im->h * 3;
    for (size_t i = 0; i < n; i++) dst[i] = yd_narrow(im->rgb[i]);
}

void yd_image_clear(yd_image *im)
{
    if (!im) return;
    yd_free(im->rgb);
    yd_free(im->alpha);
    yd_image_meta_unref(im->meta);
    *im = (yd_image){0};
}
