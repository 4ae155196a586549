// A folder of pictures as training data, decoded once and kept in memory, and procedural ones (synth.c) after them: for each the HR bytes, what bicubic upsampling makes of its
// LR version, and the attention map of that. All on the whole picture, so that crops see what a whole picture's job would see.
//
// Owns the memory of the pictures; draws nothing (draw.c). One thread loads; afterwards everything is read-only.
// A picture that cannot be used is reported and skipped: one damaged file must not end a night's training. Memory is limited by a
// setting, because a folder's decoded size is easily a hundred times what its files take.
// Read next: core/train/draw.c
#include "core/attention.h"
#include "core/file.h"
#include "core/image.h"
#include "core/mem.h"
#include "core/resize.h"
#include "core/train/internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// Decoding limits for one file; generous, because the folder is the operator's own.
enum { MAX_SIDE_PX = 32768, MAX_PIXELS = 1 << 28, MAX_FILE_BYTES = 1 << 29 };
enum { SYNTHETIC_SIDE_PX = 256 };

typedef struct name_list {
    char **names;
    size_t count, cap;
} name_list;

static int is_picture(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && dot != name && (!strcasecmp(dot, ".png") || !strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg"));
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_clear(name_list *l)
{
    for (size_t i = 0; i < l->count; i++) yd_free(l->names[i]);
    yd_free(l->names);
}

static int names_push(name_list *l, const char *name)
{
    if (l->count == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64, bytes;
        if (yd_mul_size(cap, sizeof *l->names, &bytes)) return -1;
        char **p = yd_realloc(l->names, bytes);
        if (!p) return -1;
        l->names = p;
        l->cap = cap;
    }
    if (!(l->names[l->count] = yd_strdup(name))) return -1;
    l->count++;
    return 0;
}

// The folder's picture files in byte order of their names: the order readdir gives differs between file systems.
static int list_folder(const char *folder, name_list *l, yd_err *err)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return yd_fail_field(err, YD_E_IO, "data.folder", "a folder of PNG and JPEG files",
                             "cannot open the folder %s: %s", folder, strerror(errno));
    int rc = 0;
    for (struct dirent *e; !rc && (e = readdir(dir));)
        if (is_picture(e->d_name) && names_push(l, e->d_name))
            rc = yd_fail(err, YD_E_NOMEM, "out of memory for the names in %s", folder);
    closedir(dir);
    if (!rc && l->count) qsort(l->names, l->count, sizeof *l->names, compare_names);
    return rc;
}

static void picture_clear(yd_picture *p)
{
    yd_free(p->hr);
    yd_free(p->up);
    yd_free(p->map);
    memset(p, 0, sizeof *p);
}

// The LR version of an HR picture and back: the degradation that the model learns to undo.
static int degrade(const uint8_t *hr, int w, int h, int scale, uint8_t *up, yd_err *err)
{
    const int lw = w / scale, lh = h / scale;
    uint8_t *lr = yd_malloc((size_t)lw * (size_t)lh * 3);
    if (!lr) return yd_fail(err, YD_E_NOMEM, "out of memory for a picture of %d x %d", lw, lh);
    int rc = yd_resize_bicubic_u8(hr, w, h, 3, lr, lw, lh, err);
    if (!rc) rc = yd_resize_bicubic_u8(lr, lw, lh, 3, up, w, h, err);
    yd_free(lr);
    return rc;
}

static int attention_bytes(const yd_attention_method *method, const yd_picture *p, yd_err *err)
{
    const size_t n = (size_t)p->w * (size_t)p->h;
    const yd_attention_with none = {0};
    float *map = yd_malloc(n * sizeof *map);
    if (!map) return yd_fail(err, YD_E_NOMEM, "out of memory for an attention map of %d x %d", p->w, p->h);
    int rc = yd_attention_compute(method->name, &none, p->up, p->w, p->h, map, err);
    for (size_t i = 0; !rc && i < n; i++) {
        float a = map[i] > 0 ? (map[i] < 1 ? map[i] : 1.0f) : 0.0f;
        p->map[i] = (uint8_t)(a * 255.0f + 0.5f);
    }
    yd_free(map);
    return rc;
}

static int picture_alloc(yd_picture *p, int w, int h, yd_err *err)
{
    p->w = w;
    p->h = h;
    const size_t n = (size_t)p->w * (size_t)p->h; // sides are at most MAX_SIDE_PX
    p->hr = yd_malloc(n * 3);
    p->up = yd_malloc(n * 3);
    p->map = yd_malloc(n);
    if (!p->hr || !p->up || !p->map)
        return yd_fail(err, YD_E_NOMEM, "out of memory for a picture of %d x %d", p->w, p->h);
    return 0;
}

// What belongs to the HR bytes.
static int picture_finish(yd_picture *p, const yd_train_config *cfg, const yd_attention_method *method, yd_err *err)
{
    const int rc = degrade(p->hr, p->w, p->h, cfg->model.scale, p->up, err);
    return rc ? rc : attention_bytes(method, p, err);
}

// Crop a decoded picture to a multiple of the scale and make what belongs to it.
static int picture_make(const yd_image *im, const yd_train_config *cfg, const yd_attention_method *method,
                        yd_picture *p, yd_err *err)
{
    const int scale = cfg->model.scale, w = im->w - im->w % scale, h = im->h - im->h % scale;
    if (w < cfg->crop || h < cfg->crop)
        return yd_fail(err, YD_E_IMAGE_TOO_SMALL, "it is %d x %d pixels and the crops are %d x %d", im->w, im->h,
                       cfg->crop, cfg->crop);
    int rc = picture_alloc(p, w, h, err);
    if (rc) return rc;
    for (int y = 0; y < p->h; y++) {
        const uint16_t *from = im->rgb + (size_t)y * (size_t)im->w * 3;
        uint8_t *to = p->hr + (size_t)y * (size_t)p->w * 3;
        for (size_t i = 0; i < (size_t)p->w * 3; i++) to[i] = yd_narrow(from[i]);
    }
    return picture_finish(p, cfg, method, err);
}

// A procedural picture, large enough for the crops and never small.
static int picture_draw(uint64_t number, const yd_train_config *cfg, const yd_attention_method *method, yd_picture *p, yd_err *err)
{
    const int scale = cfg->model.scale, least = cfg->crop > SYNTHETIC_SIDE_PX ? cfg->crop : SYNTHETIC_SIDE_PX;
    const int side = (least + scale - 1) / scale * scale;
    int rc = picture_alloc(p, side, side, err);
    if (!rc) rc = yd_synth_picture(cfg->seed, number, side, p->hr, err);
    if (!rc) rc = picture_finish(p, cfg, method, err);
    if (rc) picture_clear(p);
    return rc;
}

static int picture_load(const char *path, const yd_train_config *cfg, const yd_attention_method *method, yd_picture *p,
                        yd_err *err)
{
    const yd_image_limits lim = {
        .max_pixels = MAX_PIXELS, .min_side = 16, .max_side = MAX_SIDE_PX, .max_bytes = MAX_FILE_BYTES};
    const yd_decode_options srgb = {.color_space = YD_COLOR_SRGB};
    yd_image im = {0};
    void *bytes = NULL;
    size_t len = 0;
    int rc = yd_file_read(path, MAX_FILE_BYTES, &bytes, &len, err);
    if (rc) return rc;
    rc = yd_image_decode(bytes, len, &lim, &srgb, &im, err);
    yd_free(bytes);
    if (rc) return rc;
    rc = picture_make(&im, cfg, method, p, err);
    yd_image_clear(&im);
    if (rc) picture_clear(p);
    return rc;
}

// FNV-1a. It tells "other pictures" from "the same pictures"; nobody forges their own training data.
static uint64_t digest_add(uint64_t d, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++) d = (d ^ p[i]) * 0x100000001b3u;
    return d;
}

static uint64_t digest_side(uint64_t d, int side)
{
    const unsigned v = (unsigned)side;
    const uint8_t bytes[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    return digest_add(d, bytes, sizeof bytes);
}

static uint64_t digest_picture(uint64_t d, const yd_picture *p)
{
    const size_t n = (size_t)p->w * (size_t)p->h;
    d = digest_side(d, p->w);
    d = digest_side(d, p->h);
    d = digest_add(d, p->hr, n * 3);
    return digest_add(d, p->map, n);
}

static void report_skipped(const yd_train_options *opt, const char *name, const yd_err *why)
{
    char text[640];
    if (!opt || !opt->notice) return;
    snprintf(text, sizeof text, "%s is skipped: %s", name, why->detail);
    opt->notice(opt->user, text);
}

// Count in the picture that has just been made behind the others.
static int take(const yd_train_config *cfg, yd_dataset *d, yd_err *err)
{
    const yd_picture *p = &d->pictures[d->count++];
    d->bytes += (size_t)p->w * (size_t)p->h * 7;
    d->digest = digest_picture(d->digest, p);
    if (d->bytes <= (size_t)cfg->memory_mb << 20) return 0;
    return yd_fail_field(err, YD_E_CONFIG, "data.memory_mb", "more memory, or fewer pictures",
                         "the first %d pictures already take more than data.memory_mb = %d MiB", d->count, cfg->memory_mb);
}

static int load_all(const yd_train_config *cfg, const yd_train_options *opt, const name_list *names, yd_dataset *d,
                    yd_err *err)
{
    const yd_attention_method *method;
    int rc = yd_attention_find(cfg->attention, &method, err);
    d->digest = 0xcbf29ce484222325u;
    for (size_t i = 0; !rc && i < names->count; i++) {
        char path[1024];
        yd_err why = {0};
        yd_picture *p = &d->pictures[d->count];
        if (opt && opt->stop && *opt->stop) return yd_fail(err, YD_E_CANCELLED, "stopped while loading pictures");
        int n = snprintf(path, sizeof path, "%s/%s", cfg->folder, names->names[i]);
        if (n < 0 || (size_t)n >= sizeof path)
            yd_fail(&why, YD_E_IO, "its path is longer than %zu bytes", sizeof path - 1);
        else if (!picture_load(path, cfg, method, p, &why)) {
            rc = take(cfg, d, err);
            continue;
        }
        if (why.code == YD_E_NOMEM) return yd_fail(err, YD_E_NOMEM, "%s", why.detail);
        d->skipped++;
        report_skipped(opt, names->names[i], &why);
    }
    d->real = d->count;
    for (int i = 0; !rc && i < cfg->synthetic; i++) {
        if (opt && opt->stop && *opt->stop) return yd_fail(err, YD_E_CANCELLED, "stopped while drawing pictures");
        rc = picture_draw((uint64_t)i, cfg, method, &d->pictures[d->count], err);
        if (!rc) rc = take(cfg, d, err);
    }
    return rc;
}

int yd_dataset_load(const yd_train_config *cfg, const yd_train_options *opt, yd_dataset **out, yd_err *err)
{
    name_list names = {0};
    yd_dataset *d = NULL;
    int rc = yd_image_init(err);
    if (!rc && !*cfg->folder && !cfg->synthetic)
        rc = yd_fail_field(err, YD_E_CONFIG, "data.folder", "a folder of PNG and JPEG files, or data.synthetic",
                           "there is nothing to train on: data.folder must name a folder of PNG and JPEG files, or data.synthetic a "
                           "number of procedural pictures");
    if (!rc && *cfg->folder) rc = list_folder(cfg->folder, &names, err);
    if (!rc && !names.count && !cfg->synthetic)
        rc = yd_fail_field(err, YD_E_IMAGE, "data.folder", "a folder of PNG and JPEG files, or data.synthetic",
                           "there is no PNG or JPEG file in %s (files ending in .png, .jpg or .jpeg are read; without any, "
                           "data.synthetic asks for procedural pictures)", cfg->folder);
    if (rc) goto done;
    d = yd_calloc(1, sizeof *d);
    if (!d || !(d->pictures = yd_calloc(names.count + (size_t)cfg->synthetic, sizeof *d->pictures))) {
        rc = yd_fail(err, YD_E_NOMEM, "out of memory for a list of %zu pictures", names.count + (size_t)cfg->synthetic);
        goto done;
    }
    rc = load_all(cfg, opt, &names, d, err);
    if (!rc && !d->count)
        rc = yd_fail_field(err, YD_E_IMAGE, "data.folder", "pictures of at least the crop's size",
                           "none of the %zu pictures in %s can be used (crops are %d x %d)", names.count, cfg->folder,
                           cfg->crop, cfg->crop);
done:
    names_clear(&names);
    if (rc) {
        yd_dataset_free(d);
        d = NULL;
    }
    *out = d;
    return rc;
}

void yd_dataset_free(yd_dataset *d)
{
    if (!d) return;
    for (int i = 0; d->pictures && i < d->count; i++) picture_clear(&d->pictures[i]);
    yd_free(d->pictures);
    yd_free(d);
}
