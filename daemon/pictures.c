// Pictures beside the result: previews, attention maps, masks. All encoding happens in the pool.
//
// While a job is under way they come from its prepared state; a fresh preview is copied by the worker after the unit it is at. After
// the end they come from the record: the map as a PNG, the activation steps as a PNG with two halves (low bytes above high bytes)
// from which the mask of any step follows, the preview from the result. Threads: the loop thread, except *_work and the encoders.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "core/output.h"
#include "core/resize.h"
#include "daemon/clock.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define PREVIEW_QUALITY 85

struct yd_picture_call {
    yd_task task; // first: freed with it
    yd_picture_call *next;
    yd_picture_want want;
    yd_picture_fn fn;
    void *arg;
    atomic_int cancelled; // nobody wants it any more: it is not even made
    // What work reads.
    yd_blob *from; // encoded source, or the finished answer (as_is)
    int as_is;
    yd_blob *pixels;  // or RGB bytes of the output picture
    const float *map; // or planes of the prepared state, which the pin keeps
    const uint16_t *activation;
    const yd_sampler *sampler;
    int w, h, threshold; // threshold: fewest steps of a pixel in the mask
    // What it makes.
    yd_blob *answer;
    int rc;
    yd_err err;
};

// ---- encoders (pool threads) ---------------------------------------------------------------------------------------

static void fit(int w, int h, int max_side, int *fw, int *fh)
{
    int longest = w > h ? w : h;
    *fw = w;
    *fh = h;
    if (max_side <= 0 || longest <= max_side) return;
    *fw = (int)((int64_t)w * max_side / longest);
    *fh = (int)((int64_t)h * max_side / longest);
    if (*fw < 1) *fw = 1;
    if (*fh < 1) *fh = 1;
}

static int wrap(void *bytes, size_t len, const char *mime, int w, int h, yd_blob **out, yd_err *err)
{
    yd_blob *b = yd_blob_new(bytes, len, mime, 0);
    if (!b) return yd_fail(err, YD_E_NOMEM, "no memory for a picture");
    b->width = w;
    b->height = h;
    *out = b;
    return 0;
}

int yd_picture_encode(const uint8_t *rgb, int w, int h, int max_side, int jpeg, yd_blob **out, yd_err *err)
{
    int fw, fh, rc = 0;
    void *bytes = NULL;
    size_t len = 0;
    uint8_t *small = NULL;
    yd_image im = {0};
    yd_output how;
    yd_output_init(&how);
    how.format = jpeg ? YD_JPEG : YD_PNG;
    how.encode_quality = PREVIEW_QUALITY;
    how.effort = 1;
    fit(w, h, max_side, &fw, &fh);
    if (fw != w || fh != h) {
        small = yd_malloc((size_t)fw * (size_t)fh * 3);
        rc = small ? yd_resize_bicubic_u8(rgb, w, h, 3, small, fw, fh, err)
                   : yd_fail(err, YD_E_NOMEM, "no memory for a preview");
    }
    if (!rc) rc = yd_image_from_rgb8(&im, fw, fh, small ? small : rgb, NULL, err);
    if (!rc) rc = yd_image_encode(&im, &how, &bytes, &len, err);
    if (!rc) rc = wrap(bytes, len, yd_image_format_mime(how.format), fw, fh, out, err);
    yd_image_clear(&im);
    yd_free(small);
    return rc;
}

static int encode_grey(const uint8_t *plane, int w, int h, yd_blob **out, yd_err *err)
{
    void *bytes = NULL;
    size_t len = 0;
    int rc = yd_image_encode_grey(plane, w, h, &bytes, &len, err);
    return rc ? rc : wrap(bytes, len, yd_image_format_mime(YD_PNG), w, h, out, err);
}

int yd_attention_encode(const float *map, int w, int h, int max_side, yd_blob **out, yd_err *err)
{
    int fw, fh, rc = 0;
    size_t n = (size_t)w * (size_t)h;
    uint8_t *full = yd_malloc(n), *small = NULL;
    if (!full) return yd_fail(err, YD_E_NOMEM, "no memory for a picture of the attention map");
    for (size_t i = 0; i < n; i++) full[i] = map[i] >= 1 ? 255 : map[i] > 0 ? (uint8_t)(map[i] * 255 + 0.5f) : 0;
    fit(w, h, max_side, &fw, &fh);
    if (fw != w || fh != h) {
        small = yd_malloc((size_t)fw * (size_t)fh);
        rc = small ? yd_resize_bicubic_u8(full, w, h, 1, small, fw, fh, err)
                   : yd_fail(err, YD_E_NOMEM, "no memory for a map");
    }
    if (!rc) rc = encode_grey(small ? small : full, fw, fh, out, err);
    yd_free(small);
    yd_free(full);
    return rc;
}

int yd_activation_pack(const uint16_t *a, int w, int h, yd_blob **out, yd_err *err)
{
    size_t n = (size_t)w * (size_t)h;
    uint8_t *plane = h <= INT_MAX / 2 ? yd_malloc(2 * n) : NULL;
    if (!plane) return yd_fail(err, YD_E_NOMEM, "no memory for the activation steps");
    for (size_t i = 0; i < n; i++) {
        plane[i] = (uint8_t)(a[i] & 0xff);
        plane[n + i] = (uint8_t)(a[i] >> 8);
    }
    int rc = encode_grey(plane, w, 2 * h, out, err);
    yd_free(plane);
    return rc;
}

int yd_invented_encode(const yd_blob *source, const yd_image_limits *lim, const yd_output *out, const yd_image *result,
                       yd_invented *account, yd_blob **picture, yd_err *err)
{
    const yd_decode_options how = {.color_space = out->color_space};
    yd_image in = {0}, im = {0};
    yd_output png;
    void *bytes = NULL;
    size_t len = 0;
    yd_output_init(&png);
    int rc = yd_image_decode(source->bytes, source->len, lim, &how, &in, err);
    if (!rc) rc = yd_invented_account(&in, result, account, &im, err);
    if (!rc) rc = yd_image_encode(&im, &png, &bytes, &len, err);
    if (!rc) rc = wrap(bytes, len, yd_image_format_mime(YD_PNG), im.w, im.h, picture, err);
    yd_image_clear(&im);
    yd_image_clear(&in);
    return rc;
}

// Decode what this daemon has encoded itself.
static int decode_own(const yd_blob *b, yd_image *im, yd_err *err)
{
    static const yd_decode_options plain = {YD_COLOR_SRGB}; // what is made of it carries no profile
    yd_image_limits all = {LONG_MAX, 1, 131072, SIZE_MAX};
    return yd_image_decode(b->bytes, b->len, &all, &plain, im, err);
}

static int mask_from_packed(yd_picture_call *c, uint8_t *mask)
{
    yd_image im = {0};
    int rc = decode_own(c->from, &im, &c->err);
    size_t n = (size_t)c->w * (size_t)c->h;
    if (!rc && (im.w != c->w || im.h != 2 * c->h))
        rc = yd_fail(&c->err, YD_E_INTERNAL, "the activation steps have another size");
    for (size_t i = 0; !rc && i < n; i++) {
        int a = yd_narrow(im.rgb[3 * i]) | yd_narrow(im.rgb[3 * (n + i)]) << 8;
        mask[i] = a >= c->threshold ? 255 : 0;
    }
    yd_image_clear(&im);
    return rc;
}

static int make_mask(yd_picture_call *c)
{
    size_t n = (size_t)c->w * (size_t)c->h;
    uint8_t *mask = yd_malloc(n);
    int rc = mask ? 0 : yd_fail(&c->err, YD_E_NOMEM, "no memory for a mask");
    if (!rc && c->from) rc = mask_from_packed(c, mask);
    for (size_t i = 0; !rc && !c->from && i < n; i++) mask[i] = c->activation[i] >= c->threshold ? 255 : 0;
    if (!rc) rc = encode_grey(mask, c->w, c->h, &c->answer, &c->err);
    yd_free(mask);
    return rc;
}

static int make_preview(yd_picture_call *c)
{
    yd_image im = {0};
    int rc = c->from ? decode_own(c->from, &im, &c->err) : 0;
    if (!rc && c->from) { // the result, which may have another size than the canvas
        c->w = im.w;
        c->h = im.h;
    }
    uint8_t *made = rc || c->pixels ? NULL : yd_malloc((size_t)c->w * (size_t)c->h * 3);
    if (!rc && !c->pixels && !made) rc = yd_fail(&c->err, YD_E_NOMEM, "no memory for a preview");
    if (!rc && c->from)
        yd_image_rgb8(&im, made);
    else if (!rc && c->sampler)
        yd_sampler_preview(c->sampler, made);
    const uint8_t *rgb = c->pixels ? c->pixels->bytes : made;
    if (!rc) rc = yd_picture_encode(rgb, c->w, c->h, c->want.max_side, c->want.jpeg, &c->answer, &c->err);
    yd_free(made);
    yd_image_clear(&im);
    return rc;
}

static void call_work(yd_task *task)
{
    yd_picture_call *c = (yd_picture_call *)task;
    if (c->rc || atomic_load(&c->cancelled)) return;
    if (c->as_is)
        c->answer = yd_blob_ref(c->from);
    else if (c->want.kind == YD_PICTURE_MASK)
        c->rc = make_mask(c);
    else if (c->want.kind == YD_PICTURE_ATTENTION)
        c->rc = yd_attention_encode(c->map, c->w, c->h, 0, &c->answer, &c->err);
    else
        c->rc = make_preview(c);
}

static void call_after(yd_task *task)
{
    yd_picture_call *c = (yd_picture_call *)task;
    yd_blob_unref(c->from);
    yd_blob_unref(c->pixels);
    if (atomic_load(&c->cancelled))
        yd_blob_unref(c->answer);
    else
        c->fn(c->arg, c->rc, c->answer, c->rc ? &c->err : NULL);
}

// ---- asking --------------------------------------------------------------------------------------------------------

static int not_there(const yd_job *j, yd_err *err)
{
    if (j->rec.state == YD_JOB_FAILED) {
        if (err) *err = j->rec.problem;
        return j->rec.problem.code;
    }
    if (j->rec.state == YD_JOB_CANCELLED)
        return yd_fail(err, YD_E_CANCELLED, "the job was cancelled; it has no pictures any more");
    return yd_fail(err, YD_E_NOT_READY, "the job is %s; the picture is not there yet", yd_job_state_name(j->rec.state));
}

static int aim_mask(yd_picture_call *c, const yd_job *j, yd_err *err)
{
    int steps = j->rec.progress.steps;
    if (c->want.step < 1 || c->want.step > steps) {
        char accepted[48];
        snprintf(accepted, sizeof accepted, "an integer from 1 to %d", steps);
        return yd_fail_field(err, YD_E_SETTING, "step", accepted, "there is no step %d; the job has %d", c->want.step,
                             steps);
    }
    c->threshold = yd_mask_threshold(j->rec.settings.sample.allocation, steps, steps - c->want.step + 1);
    if (j->has_prep)
        c->activation = yd_sampler_activation(j->prep.sampler);
    else
        c->from = yd_blob_ref(j->rec.activation);
    return j->has_prep || c->from ? 0 : not_there(j, err);
}

static int aim_invented(yd_picture_call *c, const yd_job *j, yd_err *err)
{
    if (!j->rec.settings.report)
        return yd_fail_field(err, YD_E_NOT_FOUND, "report", "report=true when the picture is sent",
                             "the job was not asked to account for what it invents");
    if (!j->rec.invented) return not_there(j, err);
    c->from = yd_blob_ref(j->rec.invented);
    c->as_is = 1;
    return 0;
}

static int aim_attention(yd_picture_call *c, const yd_job *j, yd_err *err)
{
    if (j->rec.attention) {
        c->from = yd_blob_ref(j->rec.attention);
        c->as_is = 1;
    } else if (j->has_prep)
        c->map = j->prep.map;
    return j->has_prep || c->from ? 0 : not_there(j, err);
}

// 1: wait for a copy from the worker.
static int aim_preview(yd_picture_call *c, const yd_job *j, yd_err *err)
{
    const yd_job_settings *js = &j->rec.settings;
    if (c->want.max_side <= 0) c->want.max_side = js->preview_max_side;
    if (j->rec.result) {
        c->from = yd_blob_ref(j->rec.result);
        return 0;
    }
    if (yd_job_state_final(j->rec.state) || !j->has_prep) return not_there(j, err);
    if (j->preview && j->preview_step == j->rec.progress.step && c->want.jpeg &&
        c->want.max_side == js->preview_max_side) {
        c->from = yd_blob_ref(j->preview);
        c->as_is = 1;
        return 0;
    }
    if (j->stage == YD_STAGE_COMPUTING) return 1;
    c->sampler = j->prep.sampler; // the device is through with it
    return 0;
}

int yd_service_picture(yd_service *s, yd_job *j, const yd_picture_want *want, yd_picture_fn fn, void *arg,
                       yd_picture_call **out, yd_err *err)
{
    (void)s;
    yd_picture_call *c = yd_calloc(1, sizeof *c);
    if (!c) return yd_fail(err, YD_E_NOMEM, "no memory for a picture");
    c->want = *want;
    c->fn = fn;
    c->arg = arg;
    c->w = j->rec.grid_w;
    c->h = j->rec.grid_h;
    int rc = want->kind == YD_PICTURE_MASK        ? aim_mask(c, j, err)
             : want->kind == YD_PICTURE_ATTENTION ? aim_attention(c, j, err)
             : want->kind == YD_PICTURE_INVENTED  ? aim_invented(c, j, err)
                                                  : aim_preview(c, j, err);
    if (rc < 0) {
        yd_free(c);
        return rc;
    }
    if (rc == 1) {
        c->next = j->wait_preview;
        j->wait_preview = c;
    } else
        yd_task_start(&c->task, j, call_work, call_after);
    if (out) *out = c;
    return 0;
}

void yd_picture_cancel(yd_picture_call *c)
{
    atomic_store(&c->cancelled, 1);
}

void yd_pictures_serve(yd_job *j, yd_blob *pixels)
{
    yd_picture_call *c = j->wait_preview, *next;
    for (j->wait_preview = NULL; c; c = next) {
        next = c->next;
        if (pixels)
            c->pixels = yd_blob_ref(pixels);
        else if (j->rec.result)
            c->from = yd_blob_ref(j->rec.result);
        else
            c->rc = not_there(j, &c->err);
        yd_task_start(&c->task, j, call_work, call_after);
    }
}

// ---- previews of the event stream ----------------------------------------------------------------------------------

typedef struct preview_task {
    yd_task task;
    yd_blob *pixels;
    int w, h, max_side, step;
    yd_blob *blob;
} preview_task;

static void preview_work(yd_task *task)
{
    preview_task *t = (preview_task *)task;
    yd_err ignored; // a preview that cannot be made is only missing
    if (yd_picture_encode(t->pixels->bytes, t->w, t->h, t->max_side, 1, &t->blob, &ignored)) t->blob = NULL;
}

static void preview_after(yd_task *task)
{
    preview_task *t = (preview_task *)task;
    yd_job *j = task->job;
    char path[128];
    yd_blob_unref(t->pixels);
    j->preview_encoding = 0;
    if (!t->blob) return;
    if (yd_job_state_final(j->rec.state)) {
        yd_blob_unref(t->blob);
        return;
    }
    yd_blob_unref(j->preview);
    j->preview = yd_blob_ref(t->blob);
    j->preview_step = t->step;
    snprintf(path, sizeof path, YD_JOB_PATH "%s/preview", j->rec.id);
    yd_job_event(j, YD_EVENT_PREVIEW,
                 json_pack("{s:i, s:i, s:i, s:i, s:s, s:s}", "step", t->step, "steps", j->rec.progress.steps, "width",
                           t->blob->width, "height", t->blob->height, "mime", t->blob->mime, "link", path),
                 t->blob);
}

void yd_preview_encode(yd_job *j, yd_blob *pixels, int step)
{
    preview_task *t = yd_calloc(1, sizeof *t);
    if (!t) return; // only a preview less
    t->pixels = yd_blob_ref(pixels);
    t->w = j->prep.w;
    t->h = j->prep.h;
    t->max_side = j->rec.settings.preview_max_side;
    t->step = step;
    j->preview_encoding = 1;
    j->preview_us = yd_mono_us();
    yd_task_start(&t->task, j, preview_work, preview_after);
}
