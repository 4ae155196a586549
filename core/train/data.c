// Pictures as training data, in memory: those of a folder or of a packed file, and procedural ones (synth.c) after them: for each the HR
// bytes, what bicubic upsampling makes of its LR version, and the attention map of that. All on the whole picture, so that crops see what a
// whole picture's job would see.
//
// Owns the memory of the pictures; draws nothing (draw.c). One thread loads; afterwards everything is read-only.
// A picture that cannot be used is reported and skipped: one damaged file must not end a night's training. Memory is limited by a
// setting, because a folder's decoded size is easily a hundred times what its files take.
// Read next: core/train/data_folder.c and data_pack.c (where pictures come from), core/train/draw.c
#include "core/attention.h"
#include "core/mem.h"
#include "core/resize.h"
#include "core/train/internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { SYNTHETIC_SIDE_PX = 256 };

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
    const size_t n = (size_t)p->w * (size_t)p->h; // sides are at most YD_SOURCE_MAX_SIDE
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

// Crop a picture to a multiple of the scale and make what belongs to it.
static int picture_make(const yd_source_picture *src, const yd_train_config *cfg, const yd_attention_method *method,
                        yd_picture *p, yd_err *err)
{
    const int scale = cfg->model.scale, w = src->w - src->w % scale, h = src->h - src->h % scale;
    if (w < cfg->crop || h < cfg->crop)
        return yd_fail(err, YD_E_IMAGE_TOO_SMALL, "it is %d x %d pixels and the crops are %d x %d", src->w, src->h,
                       cfg->crop, cfg->crop);
    int rc = picture_alloc(p, w, h, err);
    for (int y = 0; y < h && !rc; y++)
        memcpy(p->hr + (size_t)y * (size_t)w * 3, src->rgb + (size_t)y * (size_t)src->w * 3, (size_t)w * 3);
    return rc ? rc : picture_finish(p, cfg, method, err);
}

static int picture_load(const yd_source *from, size_t i, const yd_train_config *cfg, const yd_attention_method *method,
                        yd_picture *p, yd_err *err)
{
    yd_source_picture src = {0};
    int rc = from->read(from, i, &src, err);
    if (!rc) rc = picture_make(&src, cfg, method, p, err);
    yd_free(src.own);
    if (rc) picture_clear(p);
    return rc;
}

// A procedural picture, large enough for the crops and never small.
static int picture_draw(uint64_t number, const yd_train_config *cfg, const yd_attention_method *method, yd_picture *p,
                        yd_err *err)
{
    const int scale = cfg->model.scale, least = cfg->crop > SYNTHETIC_SIDE_PX ? cfg->crop : SYNTHETIC_SIDE_PX;
    const int side = (least + scale - 1) / scale * scale;
    int rc = picture_alloc(p, side, side, err);
    if (!rc) rc = yd_synth_picture(cfg->seed, number, side, p->hr, err);
    if (!rc) rc = picture_finish(p, cfg, method, err);
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
                         "the first %d pictures already take more than data.memory_mb = %d MiB", d->count,
                         cfg->memory_mb);
}

static int load_all(const yd_train_config *cfg, const yd_train_options *opt, const yd_source *from, yd_dataset *d,
                    yd_err *err)
{
    const yd_attention_method *method;
    int rc = yd_attention_find(cfg->attention, &method, err);
    d->digest = 0xcbf29ce484222325u;
    for (size_t i = 0; !rc && from && i < from->count; i++) {
        yd_err why = {0};
        if (opt && opt->stop && *opt->stop) return yd_fail(err, YD_E_CANCELLED, "stopped while loading pictures");
        if (!picture_load(from, i, cfg, method, &d->pictures[d->count], &why)) {
            rc = take(cfg, d, err);
            continue;
        }
        if (why.code == YD_E_NOMEM) return yd_fail(err, YD_E_NOMEM, "%s", why.detail);
        d->skipped++;
        report_skipped(opt, from->name(from, i), &why);
    }
    d->real = d->count;
    for (int i = 0; !rc && i < cfg->synthetic; i++) {
        if (opt && opt->stop && *opt->stop) return yd_fail(err, YD_E_CANCELLED, "stopped while drawing pictures");
        rc = picture_draw((uint64_t)i, cfg, method, &d->pictures[d->count], err);
        if (!rc) rc = take(cfg, d, err);
    }
    return rc;
}

// Open data.folder; *from stays NULL when none is asked for.
static int open_source(const yd_train_config *cfg, yd_source **from, yd_err *err)
{
    struct stat st;
    if (!*cfg->folder && !cfg->synthetic)
        return yd_fail_field(
            err, YD_E_CONFIG, "data.folder", "a folder of PNG and JPEG files, or data.synthetic",
            "there is nothing to train on: data.folder must name a folder of PNG and JPEG files, or data.synthetic a "
            "number of procedural pictures");
    if (!*cfg->folder) return 0;
    const int is_file = stat(cfg->folder, &st) == 0 && S_ISREG(st.st_mode);
    int rc = is_file ? yd_source_open_pack(cfg->folder, from, err) : yd_source_open_folder(cfg->folder, from, err);
    if (rc || (*from)->count || cfg->synthetic) return rc;
    return yd_fail_field(err, YD_E_IMAGE, "data.folder", "a folder of PNG and JPEG files, or data.synthetic",
                         is_file ? "there is no picture in %s"
                                 : "there is no PNG or JPEG file in %s (files ending in .png, .jpg or .jpeg are read; "
                                   "without any, data.synthetic asks for procedural pictures)",
                         cfg->folder);
}

int yd_dataset_load(const yd_train_config *cfg, const yd_train_options *opt, yd_dataset **out, yd_err *err)
{
    yd_source *from = NULL;
    yd_dataset *d = NULL;
    size_t room;
    int rc = open_source(cfg, &from, err);
    if (rc) goto done;
    d = yd_calloc(1, sizeof *d);
    room = (from ? from->count : 0) + (size_t)cfg->synthetic;
    if (!d || !(d->pictures = yd_calloc(room, sizeof *d->pictures))) {
        rc = yd_fail(err, YD_E_NOMEM, "out of memory for a list of %zu pictures", room);
        goto done;
    }
    rc = load_all(cfg, opt, from, d, err);
    if (!rc && !d->count)
        rc = yd_fail_field(err, YD_E_IMAGE, "data.folder", "pictures of at least the crop's size",
                           "none of the %zu pictures in %s can be used (crops are %d x %d)", from ? from->count : 0,
                           cfg->folder, cfg->crop, cfg->crop);
done:
    if (from) from->close(from);
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
