// Collecting and printing what decides a result's bytes.
//
// libvips is met in core/image*.c alone and brings the codec libraries: their version functions are looked up among what is loaded; one that
// is not there leaves its field empty. libjpeg has no such function; its build id, which every distribution's linker writes, says more.
// Owns nothing.
#include "core/fingerprint.h"

#include "core/attention_nets.h"
#include "core/image.h"
#include "core/json.h"
#include "core/sha256.h"

#include <dlfcn.h>
#include <elf.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <vl/generic.h>

#define FIELD_BYTES   sizeof(((yd_fingerprint *)0)->program)
#define QUOTED_BYTES  (6 * FIELD_BYTES + 3)
#define ALL_BYTES     (32 * (QUOTED_BYTES + 32)) // of the canonical text, at most
#define BUILD_ID_SHOW 8                          // bytes of a build id that are recorded

#define COUNT_FIELD(name, what) +1
_Static_assert((0 YD_FINGERPRINT_FIELDS(COUNT_FIELD)) <= 32, "ALL_BYTES holds every field");
#undef COUNT_FIELD

// A function of the loaded libraries by name, as a pointer of the right type: *fn is a function pointer.
static int find_function(const char *name, void *fn)
{
    void *p = dlsym(RTLD_DEFAULT, name);
    if (p) memcpy(fn, &p, sizeof p);
    return p != NULL;
}

static void set(char *field, const char *text)
{
    snprintf(field, FIELD_BYTES, "%.*s", (int)strcspn(text, "\r\n"), text);
}

static void note_png(char *field)
{
    const char *(*spng)(void), *(*png)(const void *);
    if (find_function("spng_version_string", &spng)) snprintf(field, FIELD_BYTES, "spng %.60s", spng());
    else if (find_function("png_get_libpng_ver", &png)) snprintf(field, FIELD_BYTES, "libpng %.60s", png(NULL));
}

static void note_webp(char *field)
{
    int (*version)(void);
    if (!find_function("WebPGetEncoderVersion", &version)) return;
    const int v = version(); // one byte per part
    snprintf(field, FIELD_BYTES, "%d.%d.%d", v >> 16 & 255, v >> 8 & 255, v & 255);
}

static void note_lcms(char *field)
{
    int (*version)(void);
    if (find_function("cmsGetEncodedCMMversion", &version)) snprintf(field, FIELD_BYTES, "%d", version());
}

// libheif is loaded with a module of libvips, out of the sight of a search among our own dependencies.
static void note_heif(char *field)
{
    const char *(*version)(void);
    void *lib = dlopen("libheif.so.1", RTLD_LAZY | RTLD_NOLOAD), *p = lib ? dlsym(lib, "heif_get_version") : NULL;
    if (p) {
        memcpy(&version, &p, sizeof p);
        set(field, version());
    }
    if (lib) dlclose(lib);
}

static void note_text(const char *function, char *field)
{
    const char *(*version)(void);
    if (find_function(function, &version)) set(field, version());
}

// The GNU build id among the notes of one segment, as hex.
static void read_build_id(const char *at, size_t len, char *field)
{
    while (len >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) n;
        memcpy(&n, at, sizeof n);
        const size_t name = ((size_t)n.n_namesz + 3) & ~(size_t)3, desc = ((size_t)n.n_descsz + 3) & ~(size_t)3;
        if (name > len - sizeof n || desc > len - sizeof n - name) return;
        const char *who = at + sizeof n, *id = who + name;
        if (n.n_type == NT_GNU_BUILD_ID && n.n_namesz == 4 && memcmp(who, "GNU", 4) == 0)
            for (size_t i = 0; i < n.n_descsz && i < BUILD_ID_SHOW; i++) snprintf(field + 2 * i, 3, "%02x", (unsigned char)id[i]);
        at += sizeof n + name + desc;
        len -= sizeof n + name + desc;
    }
}

static int note_jpeg(struct dl_phdr_info *info, size_t size, void *field)
{
    (void)size;
    const char *file = strrchr(info->dlpi_name, '/');
    if (strncmp(file ? file + 1 : info->dlpi_name, "libjpeg.so", 10) != 0) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_NOTE) read_build_id((const char *)(info->dlpi_addr + p->p_vaddr), p->p_memsz, field);
    }
    return 1;
}

void yd_fingerprint_make(const char *model, const yd_model_config *cfg, const yd_backend_info *be, yd_dtype dt, const char *attention,
                         yd_fingerprint *fp)
{
    memset(fp, 0, sizeof *fp);
    set(fp->program, YD_VERSION);
    set(fp->arithmetic, YD_ARITHMETIC);
#ifdef __clang__
    set(fp->compiler, __VERSION__);
#else
    set(fp->compiler, "GCC " __VERSION__);
#endif
    snprintf(fp->libc, sizeof fp->libc, "glibc %s", gnu_get_libc_version());
    set(fp->model, model ? model : "");
    if (cfg)
        snprintf(fp->windows, sizeof fp->windows, "%dx%d/%d", cfg->window, cfg->window_height ? cfg->window_height : cfg->window,
                 cfg->overlap);
    if (be) {
        set(fp->dtype, dt == YD_BF16 ? "bf16" : "f32");
        set(fp->backend, be->name);
        set(fp->isa, be->isa);
        set(fp->kernels, be->kernels);
        set(fp->library, be->library);
    }
    note_text("vips_version_string", fp->vips);
    note_png(fp->png);
    dl_iterate_phdr(note_jpeg, fp->jpeg);
    note_webp(fp->webp);
    note_text("TIFFGetVersion", fp->tiff);
    note_heif(fp->heif);
    note_text("zlibVersion", fp->zlib);
    note_lcms(fp->lcms);
    if (attention && cfg) yd_attention_nets_mark(cfg->nets, attention, fp->attention, sizeof fp->attention);
    if (attention && strcmp(attention, "sift") == 0) set(fp->vlfeat, vl_get_version_string());
}

int yd_fingerprint_here(yd_fingerprint *fp, yd_err *err)
{
    yd_backend *be = NULL;
    yd_backend_info info;
    const yd_cpu_options opt = {.threads = 1};
    int rc = yd_image_init(err);
    if (!rc) rc = yd_cpu_open(&opt, &be, err);
    if (rc) return rc;
    be->info(be, &info);
    be->close(be);
    yd_fingerprint_make(NULL, NULL, &info, info.bf16 ? YD_BF16 : YD_F32, NULL, fp);
    return 0;
}

size_t yd_fingerprint_print(const yd_fingerprint *fp, int readable, char *dst, size_t cap)
{
    size_t len = 0;
    char quoted[QUOTED_BYTES];
#define PUT(...)                                                                                                       \
    do {                                                                                                               \
        const int n = snprintf(len < cap ? dst + len : NULL, len < cap ? cap - len : 0, __VA_ARGS__);                  \
        if (n > 0) len += (size_t)n;                                                                                   \
    } while (0)
#define PUT_FIELD(name, what)                                                                                          \
    yd_json_quote(quoted, sizeof quoted, fp->name);                                                                    \
    PUT(readable ? "%s\n  \"%s\": %s" : "%s\"%s\":%s", len > 1 ? "," : "", #name, quoted);
    PUT("{");
    YD_FINGERPRINT_FIELDS(PUT_FIELD)
    PUT(readable ? "\n}" : "}");
#undef PUT_FIELD
#undef PUT
    return len;
}

void yd_fingerprint_short(const yd_fingerprint *fp, char out[YD_FINGERPRINT_SHORT])
{
    char text[ALL_BYTES], hex[65];
    const size_t len = yd_fingerprint_print(fp, 0, text, sizeof text);
    yd_sha256_hex(text, len, hex);
    snprintf(out, YD_FINGERPRINT_SHORT, "yfp1:%.16s", hex);
}
