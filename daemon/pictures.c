// Pictures beside the result: previews, attention maps, masks. Pixels are made in the pool, files by codecs.
//
// While a job is under way they come from its prepared state; a fresh preview is copied by the worker after the unit it is at. After
// the end they come from the record: the map as a PNG, the activation steps as a PNG with two halves (low bytes above high bytes)
// from which the mask of any step follows, the preview from the result. Threads: the loop thread, except what codec calls
// give and take.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "core/output.h"
#include "daemon/clock.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

struct yd_picture_call {
    yd_codec_task task; // first: freed with it
    yd_picture_call *next;
    yd_picture_want want;
    yd_picture_fn fn;
    void *arg;
    int started, cancelled; // cancelled: nobody wants it any more, it is not even made
    // What making reads.
    yd_blob *from; // encoded source, or the finished answer (as_is)
    int as_is;
    yd_blob *pixels;  // or RGB bytes of the output picture
    const float *map; // or planes of the prepared state, which the pin keeps
    const uint16_t *activation;
    const yd_sampler *sampler;
    yd_output output; // of a picture that is written in another format
    int w, h, threshold; // threshold: fewest steps of a pixel in the mask
    yd_job *elsewhere; // who runs it was asked; pinned meanwhile
    // What it makes.
    uint8_t *plane; // of w x h
    yd_image small;
    yd_blob *answer;
    int rc; // known before anything is made
    yd_err err;
};

// ---- making (pool threads) -----------------------------------------------------------------------------------------

static yd_picture_call *of(yd_codec_call *c)
{
    return (yd_picture_call *)(void *)c;
}

// A plane as a grey picture, exact where the format can be.
static int put_grey_image(yd_picture_call *c, yd_err *err)
{
    yd_image im;
    int rc = yd_image_alloc(&im, c->w, c->h, 0, err);
    if (rc) return rc;
    im.grey = 1;
    const size_t n = (size_t)c->w * (size_t)c->h;
    for (size_t i = 0; i < n; i++) im.rgb[3 * i] = im.rgb[3 * i + 1] = im.rgb[3 * i + 2] = yd_widen(c->plane[i]);
    yd_output *out = &c->task.call.output;
    yd_output_init(out);
    out->format = c->want.format;
    out->lossless = out->format == YD_WEBP;
    rc = yd_codec_put_image(&c->task.call, &im, err);
    yd_image_clear(&im);
    return rc;
}

static int put_plane(yd_picture_call *c, int rc, yd_err *err)
{
    if (!rc) rc = c->want.format == YD_PNG ? yd_codec_put_grey(&c->task.call, c->plane, c->w, c->h, err) : put_grey_image(c, err);
    yd_free(c->plane);
    c->plane = NULL;
    return rc;
}

static int put_small(yd_picture_call *c, int rc, yd_err *err)
{
    if (c->want.kind == YD_PICTURE_PREVIEW)
        yd_preview_output(c->want.format, &c->task.call.output);
    else
        c->task.call.output = c->output;
    if (!rc) rc = yd_codec_put_image(&c->task.call, &c->small, err);
    yd_image_clear(&c->small);
    return rc;
}

// The pixels of the present, or those that were copied.
static int make_small(yd_picture_call *c, yd_err *err)
{
    if (c->pixels) return yd_draw_preview(c->pixels->bytes, c->w, c->h, c->want.max_side, &c->small, err);
    uint8_t *rgb = yd_malloc((size_t)c->w * (size_t)c->h * 3);
    if (!rgb) return yd_fail(err, YD_E_NOMEM, "no memory for a preview");
    yd_sampler_preview(c->sampler, rgb);
    int rc = yd_draw_preview(rgb, c->w, c->h, c->want.max_side, &c->small, err);
    yd_free(rgb);
    return rc;
}

// What there is already needs no codec; what was packed is read first; the rest is made here.
static int give(yd_codec_call *call, yd_err *err)
{
    yd_picture_call *c = of(call);
    if (c->rc) {
        *err = c->err;
        return c->rc;
    }
    if (c->from && (c->rc = yd_blob_check(c->from, err))) return c->rc;
    if (c->as_is) {
        c->answer = yd_blob_ref(c->from);
        return YD_CODEC_NOTHING;
    }
    if (c->from) return yd_codec_put_file(call, c->from->bytes, c->from->len, err);
    if (c->want.kind == YD_PICTURE_MASK) return put_plane(c, yd_draw_mask(c->activation, c->w, c->h, c->threshold, &c->plane, err), err);
    if (c->want.kind == YD_PICTURE_ATTENTION)
        return put_plane(c, yd_draw_attention(c->map, c->w, c->h, 0, &c->plane, &c->w, &c->h, err), err);
    return put_small(c, make_small(c, err), err);
}

static int take(yd_codec_call *call, yd_err *err)
{
    return yd_codec_take_blob(call, of(call)->want.kind == YD_PICTURE_RESULT, &of(call)->answer, err);
}

// Everything of a picture, out of the shared memory.
static int copy_image(const yd_image *from, yd_image *to, yd_err *err)
{
    const size_t n = (size_t)from->w * (size_t)from->h;
    int rc = yd_image_alloc(to, from->w, from->h, from->alpha != NULL, err);
    if (rc) return rc;
    memcpy(to->rgb, from->rgb, n * 3 * sizeof *to->rgb);
    if (to->alpha) memcpy(to->alpha, from->alpha, n * sizeof *to->alpha);
    to->depth = from->depth;
    to->grey = from->grey;
    to->meta = yd_image_meta_ref(from->meta);
    return 0;
}

// What was packed has been read: a mask of the activation steps, a smaller picture of the result.
static int take_packed(yd_codec_call *call, yd_err *err)
{
    yd_picture_call *c = of(call);
    if (c->want.kind == YD_PICTURE_MASK) return yd_draw_mask_of(&call->image, c->threshold, &c->plane, err);
    if (c->want.kind != YD_PICTURE_PREVIEW) return copy_image(&call->image, &c->small, err);
    uint8_t *rgb = yd_malloc((size_t)call->w * (size_t)call->h * 3);
    if (!rgb) return yd_fail(err, YD_E_NOMEM, "no memory for a preview");
    yd_image_rgb8(&call->image, rgb);
    int rc = yd_draw_preview(rgb, call->w, call->h, c->want.max_side, &c->small, err);
    yd_free(rgb);
    return rc;
}

static int give_made(yd_codec_call *call, yd_err *err)
{
    yd_picture_call *c = of(call);
    return c->plane ? put_plane(c, 0, err) : put_small(c, 0, err);
}

// ---- calls ---------------------------------------------------------------------------------------------------------

static void call_after(yd_codec_task *task)
{
    yd_picture_call *c = (yd_picture_call *)task;
    yd_blob_unref(c->from);
    yd_blob_unref(c->pixels);
    yd_free(c->plane);
    yd_image_clear(&c->small);
    if (c->cancelled)
        yd_blob_unref(c->answer);
    else
        c->fn(c->arg, task->call.rc, c->answer, task->call.rc ? &task->call.err : NULL);
}

static void packed_read(yd_codec_task *task)
{
    const yd_picture_call *c = (yd_picture_call *)task;
    if (task->call.rc || c->cancelled || c->as_is)
        call_after(task);
    else
        yd_codec_task_again(task, YD_CODEC_ENCODE, give_made, take, call_after);
}

static void call_start(yd_picture_call *c, yd_job *j)
{
    const int reads = c->from && !c->as_is && !c->rc;
    yd_codec_call *call = &c->task.call;
    c->started = 1;
    *call = (yd_codec_call){.op = reads ? YD_CODEC_DECODE : YD_CODEC_ENCODE, .fill = give, .take = reads ? take_packed : take};
    if (c->want.kind != YD_PICTURE_PREVIEW) {
        call->w = c->w;
        call->h = c->h;
    }
    if (reads) { // of our own making; what is made of it carries no profile
        const int mask = c->want.kind == YD_PICTURE_MASK, map = c->want.kind == YD_PICTURE_ATTENTION;
        call->limits = (yd_image_limits){LONG_MAX, 1, 131072, SIZE_MAX};
        call->color_space = c->want.kind == YD_PICTURE_RESULT ? YD_COLOR_SOURCE : YD_COLOR_SRGB; // with its profile
        call->w = mask || map ? c->w : j->rec.out_w;
        call->h = mask ? 2 * c->h : map ? c->h : j->rec.out_h;
    }
    yd_codec_task_start(&c->task, j, reads ? packed_read : call_after);
}

// Another format than the one it has; the settings are the job's where the format has them.
static void choose_output(yd_picture_call *c, const yd_job *j)
{
    const int grey = c->want.kind == YD_PICTURE_ATTENTION;
    yd_output_init(&c->output);
    c->output.metadata = j->rec.settings.output.metadata;
    c->output.format = c->want.format;
    c->output.lossless = grey && c->want.format == YD_WEBP;
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
    c->as_is = c->want.format == YD_PNG;
    return 0;
}

static int aim_attention(yd_picture_call *c, const yd_job *j, yd_err *err)
{
    if (j->rec.attention) {
        c->from = yd_blob_ref(j->rec.attention);
        c->as_is = c->want.format == YD_PNG;
    } else if (j->has_prep)
        c->map = j->prep.map;
    return j->has_prep || c->from ? 0 : not_there(j, err);
}

static int aim_result(yd_picture_call *c, const yd_job *j, yd_err *err)
{
    if (j->rec.state != YD_JOB_SUCCEEDED || !j->rec.result) return not_there(j, err);
    c->from = yd_blob_ref(j->rec.result);
    c->as_is = c->want.format == j->rec.settings.output.format;
    return 0;
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
    if (j->preview && j->preview_step == j->rec.progress.step && c->want.format == YD_JPEG &&
        c->want.max_side == js->preview_max_side) {
        c->from = yd_blob_ref(j->preview);
        c->as_is = 1;
        return 0;
    }
    if (j->stage == YD_STAGE_COMPUTING) return 1;
    c->sampler = j->prep.sampler; // the device is through with it
    return 0;
}

static void on_elsewhere(void *arg, int rc, yd_blob *blob, const yd_err *err)
{
    yd_picture_call *c = arg;
    yd_job *j = c->elsewhere;
    if (c->cancelled)
        yd_blob_unref(blob);
    else
        c->fn(c->arg, rc, blob, err);
    yd_free(c);
    yd_job_unpin(j);
}

// The picture of a job under way is where it runs.
static int ask_elsewhere(yd_picture_call *c, yd_job *j, yd_err *err)
{
    const int rc = yd_job_ask_picture(j, &c->want, on_elsewhere, c, err);
    if (rc) return rc;
    yd_err_clear(err);
    c->elsewhere = j;
    yd_job_pin(j);
    return 0;
}

int yd_service_picture(yd_service *s, yd_job *j, const yd_picture_want *want, yd_picture_fn fn, void *arg,
                       yd_picture_call **out, yd_err *err)
{
    yd_picture_call *c = yd_calloc(1, sizeof *c);
    if (!c) return yd_fail(err, YD_E_NOMEM, "no memory for a picture");
    c->want = *want;
    c->fn = fn;
    c->arg = arg;
    c->w = j->rec.grid_w;
    c->h = j->rec.grid_h;
    choose_output(c, j);
    int rc = want->kind == YD_PICTURE_MASK        ? aim_mask(c, j, err)
             : want->kind == YD_PICTURE_ATTENTION ? aim_attention(c, j, err)
             : want->kind == YD_PICTURE_INVENTED  ? aim_invented(c, j, err)
             : want->kind == YD_PICTURE_RESULT    ? aim_result(c, j, err)
                                                  : aim_preview(c, j, err);
    const int elsewhere = rc == YD_E_NOT_READY && s->relay && j->foreign && j->rec.state != YD_JOB_QUEUED;
    if (elsewhere) rc = ask_elsewhere(c, j, err);
    if (rc < 0) {
        yd_free(c);
        return rc;
    }
    if (elsewhere)
        ; // it calls back
    else if (rc == 1) {
        c->next = j->wait_preview;
        j->wait_preview = c;
    } else
        call_start(c, j);
    if (out) *out = c;
    return 0;
}

void yd_picture_cancel(yd_picture_call *c)
{
    c->cancelled = 1;
    if (c->started) yd_codec_cancel(&c->task.call);
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
        call_start(c, j);
    }
}

// ---- previews of the event stream ----------------------------------------------------------------------------------

typedef struct preview_task {
    yd_codec_task task;
    yd_blob *pixels;
    int w, h, max_side, step;
    yd_blob *blob, *mask;
} preview_task;

static int give_preview(yd_codec_call *call, yd_err *err)
{
    const preview_task *t = (const preview_task *)(const void *)call;
    yd_image small = {0};
    int rc = yd_draw_preview(t->pixels->bytes, t->w, t->h, t->max_side, &small, err);
    yd_preview_output(YD_JPEG, &call->output);
    if (!rc) rc = yd_codec_put_image(call, &small, err);
    yd_image_clear(&small);
    return rc;
}

static int take_preview(yd_codec_call *call, yd_err *err)
{
    return yd_codec_take_blob(call, 0, &((preview_task *)(void *)call)->blob, err);
}

static int give_preview_mask(yd_codec_call *call, yd_err *err)
{
    const preview_task *t = (const preview_task *)(const void *)call;
    const yd_job *j = t->task.job;
    const int steps = j->rec.progress.steps, threshold = yd_mask_threshold(j->rec.settings.sample.allocation, steps, steps - t->step + 1);
    uint8_t *plane = NULL;
    int rc = yd_draw_small_mask(yd_sampler_activation(j->prep.sampler), t->w, t->h, threshold, t->blob->width, t->blob->height, &plane, err);
    if (!rc) rc = yd_codec_put_grey(call, plane, t->blob->width, t->blob->height, err);
    yd_free(plane);
    return rc;
}

static int take_preview_mask(yd_codec_call *call, yd_err *err)
{
    return yd_codec_take_blob(call, 0, &((preview_task *)(void *)call)->mask, err);
}

// A preview that cannot be made is only missing, and so is its mask.
static void tell_preview(yd_codec_task *task)
{
    preview_task *t = (preview_task *)task;
    yd_job *j = task->job;
    char path[128], mask[128];
    yd_blob_unref(t->pixels);
    j->preview_encoding = 0;
    if (!t->blob || yd_job_over(j)) {
        yd_blob_unref(t->blob);
        yd_blob_unref(t->mask);
        return;
    }
    yd_blob_unref(j->preview);
    j->preview = yd_blob_ref(t->blob);
    j->preview_step = t->step;
    snprintf(path, sizeof path, YD_JOB_PATH "%s/preview", j->rec.id);
    snprintf(mask, sizeof mask, YD_JOB_PATH "%s/mask?step=%d", j->rec.id, t->step);
    yd_job_preview(j,
                   json_pack("{s:i, s:i, s:i, s:i, s:s, s:s, s:s*}", "step", t->step, "steps", j->rec.progress.steps, "width", t->blob->width,
                             "height", t->blob->height, "mime", t->blob->mime, "link", path, "mask", t->step > 0 ? mask : NULL),
                   t->blob, t->mask);
}

static void preview_after(yd_codec_task *task)
{
    const preview_task *t = (preview_task *)task;
    const yd_job *j = task->job;
    const int masked = t->blob && t->step > 0 && j->has_prep && j->rec.progress.diffused_share < 1;
    if (masked && !yd_job_over(j))
        yd_codec_task_again(task, YD_CODEC_ENCODE, give_preview_mask, take_preview_mask, tell_preview);
    else
        tell_preview(task);
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
    t->task.call = (yd_codec_call){.op = YD_CODEC_ENCODE, .fill = give_preview, .take = take_preview};
    yd_codec_task_start(&t->task, j, preview_after);
}
