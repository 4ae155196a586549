// Taking a job, or not: everything that can be known before a pixel is decoded is decided here.
//
// From the header and the settings follow the output's size, an upper bound of the work and the memory; a job that could never run is
// refused with what would be accepted, one that could run later with YD_E_QUEUE_FULL. Threads: the loop thread. Read next: arrival.c.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "core/windows.h"
#include "daemon/clock.h"
#include "daemon/errands.h"
#include "daemon/log.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define MIN_SIDE 16

yd_image_limits yd_service_image_limits(const yd_service *s)
{
    const yd_config *c = s->cfg;
    return (yd_image_limits){(long)c->max_pixels, MIN_SIDE, (int)c->max_side, (size_t)c->max_body_bytes};
}

static int check_device(const yd_service *s, yd_err *err)
{
    if (s->device == YD_DEVICE_LOADING) return yd_fail(err, YD_E_DEVICE, "the models are still being loaded");
    if (s->device == YD_DEVICE_BROKEN) return yd_fail(err, YD_E_DEVICE, "the compute device does not work: %.250s", s->device_err.detail);
    if (!yd_codecs_ready(s->codecs)) return yd_fail(err, YD_E_DEVICE, "the processes that read pictures are still being started");
    const yd_err *problem = yd_lanes_up(s) ? NULL : yd_lanes_problem(s);
    if (problem) return yd_fail(err, YD_E_DEVICE, "no compute device is in service at the moment: %.250s", problem->detail);
    return 0;
}

// A disk is left alone before it is full: what is under way needs room for its results.
static int check_room(const yd_service *s, size_t len, yd_err *err)
{
    yd_store_health now;
    s->store->health(s->store, &now);
    if (!now.ok) {
        yd_fail(err, now.code, "jobs cannot be stored at present: %.250s", now.why);
        if (err && now.code == YD_E_STORE_AWAY) err->retry_ms = YD_STORE_RETRY_MS;
        return now.code;
    }
    const uint64_t reserve = (uint64_t)s->cfg->disk_reserve_bytes;
    if (now.free_room != UINT64_MAX && (now.free_room < reserve || now.free_room - reserve < len))
        return yd_fail(err, YD_E_STORAGE, "the disk has %llu MiB left, and %llu MiB are kept free", (unsigned long long)(now.free_room >> 20),
                       (unsigned long long)(reserve >> 20));
    return 0;
}

int yd_service_admit(const yd_service *s, size_t len, yd_err *err)
{
    const yd_config *c = s->cfg;
    if (s->draining) return yd_fail(err, YD_E_DRAINING, "the server is shutting down and takes no new jobs");
    int rc = check_device(s, err);
    if (rc) return rc;
    if (len > (size_t)c->max_body_bytes) {
        char accepted[64];
        snprintf(accepted, sizeof accepted, "at most %lld bytes", (long long)c->max_body_bytes);
        return yd_fail_field(err, YD_E_BODY_TOO_LARGE, "body", accepted, "the body has %zu bytes; %s are accepted", len,
                             accepted);
    }
    const int waiting = s->sched.n_waiting + s->arriving + s->followers + s->fetching;
    if (waiting >= c->queue_max)
        return yd_fail(err, YD_E_QUEUE_FULL, "%d jobs wait already, no more than %lld may", waiting,
                       (long long)c->queue_max);
    if (len > (size_t)c->max_queue_bytes || s->input_bytes > (size_t)c->max_queue_bytes - len)
        return yd_fail(err, YD_E_QUEUE_FULL, "pictures of %zu bytes wait already, no more than %lld may",
                       s->input_bytes, (long long)c->max_queue_bytes);
    return check_room(s, len, err);
}

long yd_service_retry_after_ms(const yd_service *s)
{
    // A place in the queue is free when the next job starts, which is when one that has started has ended.
    const double ms = yd_scheduler_first_s(&s->sched, yd_mono_us()) * 1000;
    return ms < 1000 ? 1000 : ms > 600000 ? 600000 : (long)ms;
}

// Two sizes are bounded: that of the result, and that of the model's own multiple, which is computed whatever the result's is.
static int check_area(const yd_service *s, int scale, const yd_image_header *h, int64_t w, int64_t ht, const char *field, yd_err *err)
{
    char accepted[64];
    const int64_t most = s->cfg->max_output_pixels;
    if (w <= 65535 && ht <= 65535 && w * ht <= most) return 0;
    if (*field != 'i') // a size that was asked for
        snprintf(accepted, sizeof accepted, "a size of at most %lld pixels", (long long)most);
    else
        snprintf(accepted, sizeof accepted, "at most %lld pixels", (long long)(most / scale / scale));
    return yd_fail_field(err, YD_E_IMAGE_TOO_LARGE, field, accepted,
                         "%dx%d pixels become %lldx%lld: at most %lld pixels and 65535 a side are allowed", h->w, h->h,
                         (long long)w, (long long)ht, (long long)most);
}

static int check_output(const yd_service *s, int scale, const yd_image_header *h, const yd_output *out, yd_estimate *e, yd_err *err)
{
    const int64_t w = (int64_t)h->w * scale, ht = (int64_t)h->h * scale;
    int rc = check_area(s, scale, h, w, ht, "image", err);
    if (!rc) rc = yd_output_size(out, scale, h->w, h->h, &e->out_w, &e->out_h, err);
    if (rc) return rc;
    e->grid_w = (int)w;
    e->grid_h = (int)ht;
    const char *field = out->scale > 0 ? "scale" : out->width ? "width" : out->height ? "height" : "image";
    return check_area(s, scale, h, e->out_w, e->out_h, field, err);
}

// Bits per sample that the result will have: those asked for or the source's, where the format has 16.
static int depth_of(const yd_output *out, const yd_image_header *h)
{
    size_t n;
    const yd_image_kind *k = yd_image_kinds(&n);
    for (size_t i = 0; i < n; i++)
        if (k[i].writes && k[i].format == out->format && !k[i].deep) return 8;
    return out->bit_depth ? out->bit_depth : h->depth;
}

// A job that is as large as one may be: what check_work and check_memory ask of it.
typedef struct demand {
    const yd_service *service;
    const yd_model_config *model;
    const yd_job_settings *settings;
    yd_image_header picture;
    size_t len;
} demand;

static int is_little_work(const demand *d)
{
    const yd_model_config *m = d->model;
    const int64_t windows = (int64_t)yd_windows_along(d->picture.w * m->scale, m->window, m->overlap) *
                            yd_windows_along(d->picture.h * m->scale, m->window, m->overlap); // < 2^32
    return windows * d->settings->sample.steps <= d->service->cfg->max_job_units;
}

// The largest picture of the same shape that passes, in words. Sizes in between are tried by halves.
static void largest(const demand *d, int (*passes)(const demand *d), char *words, size_t cap)
{
    const int w = d->picture.w, h = d->picture.h, longest = w > h ? w : h;
    demand one = *d;
    int most = 0;
    for (int below = longest; below - most > 1;) {
        const int side = most + (below - most) / 2;
        one.picture.w = (int)((int64_t)w * side / longest);
        one.picture.h = (int)((int64_t)h * side / longest);
        if (one.picture.w < 1 || one.picture.h < 1 || passes(&one))
            most = side;
        else
            below = side;
    }
    const int fit_w = (int)((int64_t)w * most / longest), fit_h = (int)((int64_t)h * most / longest);
    if (fit_w < MIN_SIDE || fit_h < MIN_SIDE)
        snprintf(words, cap, "no picture of this shape with these settings");
    else
        snprintf(words, cap, "a picture of at most %dx%d pixels", fit_w, fit_h);
}

static int check_work(const demand *d, yd_estimate *e, yd_err *err)
{
    const yd_service *s = d->service;
    const yd_model_config *m = d->model;
    const int steps = d->settings->sample.steps;
    char accepted[160], smaller[80];
    if (yd_schedule_is_table(&m->schedule) && steps > m->schedule.train_steps) {
        snprintf(accepted, sizeof accepted, "an integer from 1 to %d", m->schedule.train_steps);
        return yd_fail_field(err, YD_E_SETTING, "steps", accepted, "the model %s knows no more than %d steps", m->name,
                             m->schedule.train_steps);
    }
    long windows = (long)yd_windows_along(e->grid_w, m->window, m->overlap) *
                   yd_windows_along(e->grid_h, m->window, m->overlap); // < 2^32
    e->windows = windows < YD_BATCH_MAX ? (int)windows : YD_BATCH_MAX;
    if (!__builtin_mul_overflow(windows, (long)steps, &e->units) && e->units <= s->cfg->max_job_units) return 0;
    largest(d, is_little_work, smaller, sizeof smaller);
    if (windows > s->cfg->max_job_units)
        return yd_fail_field(err, YD_E_IMAGE_TOO_LARGE, "image", smaller,
                             "%ld windows are more than the %lld units of work that one job may need", windows,
                             (long long)s->cfg->max_job_units);
    snprintf(accepted, sizeof accepted, "at most %ld steps for this picture, or %s", (long)s->cfg->max_job_units / windows, smaller);
    return yd_fail_field(err, YD_E_SETTING, "steps", accepted,
                         "%ld windows in %d steps are more than the %lld units of work that one job may need",
                         windows, steps, (long long)s->cfg->max_job_units);
}

// What the job takes until it has its result, a preview or the encoder's rows besides, the encoded input and the encoded result.
static int memory_of(const demand *d, size_t *bytes, yd_err *err)
{
    const yd_service *s = d->service;
    const yd_output *out = &d->settings->output;
    const yd_image_header *h = &d->picture;
    int out_w, out_h;
    size_t sum, part;
    int rc = yd_output_size(out, d->model->scale, h->w, h->h, &out_w, &out_h, err);
    if (!rc) rc = yd_upscale_bytes(d->model, &d->settings->sample, out, h->w, h->h, &sum, err);
    if (rc) return rc;
    const size_t out_px = (size_t)out_w * (size_t)out_h, encoded = depth_of(out, h) == 16 ? 8 : 4;
    if (d->settings->report) // beside the result: the source again, the account and its picture
        sum += (size_t)h->w * (size_t)h->h * 8 + yd_invented_bytes(h->w, h->h, out_w, out_h) + out_px * 4;
    if (s->checkpoints && s->cfg->checkpoint_interval_ms > 0) // a copy of the state: canvases and what previews show
        sum += (size_t)h->w * (size_t)d->model->scale * (size_t)h->h * (size_t)d->model->scale * 3 * (3 * sizeof(float) + 1);
    if (yd_mul_size(out_px, 3 + encoded, &part) || yd_add_size(sum, part, &sum) || yd_add_size(sum, d->len, &sum)) sum = SIZE_MAX;
    *bytes = sum;
    return 0;
}

static int is_little_memory(const demand *d)
{
    size_t bytes;
    return memory_of(d, &bytes, NULL) == 0 && bytes <= (size_t)d->service->cfg->max_memory_bytes;
}

static int check_memory(const demand *d, yd_estimate *e, yd_err *err)
{
    const long long most = d->service->cfg->max_memory_bytes;
    char accepted[80];
    int rc = memory_of(d, &e->memory, err);
    if (rc || e->memory <= (size_t)most) return rc;
    largest(d, is_little_memory, accepted, sizeof accepted);
    return yd_fail_field(err, YD_E_IMAGE_TOO_LARGE, "image", accepted,
                         "upscaling %dx%d pixels takes %zu MiB of memory, more than the %lld MiB that jobs may take", d->picture.w,
                         d->picture.h, e->memory >> 20, most >> 20);
}

int yd_service_keeps(const yd_service *s, const char *field, size_t len, yd_err *err)
{
    char accepted[64];
    const size_t most = s->store->most_picture;
    if (!most || len <= most) return 0;
    snprintf(accepted, sizeof accepted, "a file of at most %zu bytes", most);
    return yd_fail_field(err, YD_E_IMAGE_TOO_LARGE, field, accepted, "a file of %zu bytes is more than the store of this server keeps (picture_store_max)", len);
}

// A type that no engine was made for at the start is refused: making one takes seconds and memory that nobody has counted.
static int choose_engine(const yd_resident *v, yd_job_settings *js, yd_estimate *e, yd_err *err)
{
    static const yd_storage stored[] = {[YD_F32] = YD_STORE_F32, [YD_BF16] = YD_STORE_BF16};
    char accepted[32] = "auto";
    if (js->dtype == YD_STORE_AUTO) js->dtype = stored[v->engine[0].dtype];
    for (int i = 0; i < v->n_engines; i++) {
        e->engine = i;
        if (stored[v->engine[i].dtype] == js->dtype) return 0;
        const size_t len = strlen(accepted);
        snprintf(accepted + len, sizeof accepted - len, ", %s", v->engine[i].dtype == YD_BF16 ? "bf16" : "f32");
    }
    return yd_fail_field(err, YD_E_SETTING, "dtype", accepted, "feature maps are not stored in %s here",
                         js->dtype == YD_STORE_BF16 ? "bf16" : "f32");
}

// The model itself is chosen already.
static int read_settings(const yd_model_config *model, const yd_submission *sub, yd_job_settings *js, yd_err *err)
{
    for (int others = 0; others < 2; others++) // quality first, wherever it stands: the others win over it
        for (size_t i = 0; i < sub->n_settings; i++) {
            if ((strcmp(sub->settings[i].name, "quality") != 0) != others || strcmp(sub->settings[i].name, "model") == 0) continue;
            int rc = yd_job_settings_set(js, model, sub->settings[i].name, sub->settings[i].value, err);
            if (rc) return rc;
        }
    int rc = yd_output_check(&js->output, err);
    return rc ? rc : yd_sampler_accepts(model, &js->sample, err);
}

static void note_sizes(yd_job_record *r, const yd_image_header *h, const yd_estimate *e)
{
    r->in_w = h->w;
    r->in_h = h->h;
    r->in_depth = h->depth;
    r->in_pages = h->pages;
    snprintf(r->in_format, sizeof r->in_format, "%s", h->format);
    r->grid_w = e->grid_w;
    r->grid_h = e->grid_h;
    r->out_w = e->out_w;
    r->out_h = e->out_h;
    r->out_depth = depth_of(&r->settings.output, h);
}

// The job holds its model, and the machine does not change while the process lives: what it is promised when it is taken holds when it runs.
static void note_fingerprint(const yd_resident *v, const yd_engine_info *engine, yd_job_record *r)
{
    yd_fingerprint fp;
    yd_fingerprint_make(v->checksum, &v->cfg, &engine->backend, engine->dtype, r->settings.sample.attention, &fp);
    yd_fingerprint_short(&fp, r->fingerprint);
}

int yd_service_begin_record(const yd_service *s, const yd_submission *sub, const yd_resident *model, yd_job_record *r, yd_err *err)
{
    yd_estimate e = {0};
    yd_job_settings_init(&r->settings, &model->cfg, s->cfg);
    int rc = read_settings(&model->cfg, sub, &r->settings, err);
    if (!rc) rc = choose_engine(model, &r->settings, &e, err);
    if (rc) return rc;
    snprintf(r->model, sizeof r->model, "%s", model->cfg.name);
    memcpy(r->checksum, model->checksum, sizeof r->checksum);
    snprintf(r->owner, sizeof r->owner, "%s", sub->owner ? sub->owner : "");
    r->progress.steps = r->settings.sample.steps;
    r->boot = s->store->boot;
    const int fetched = json_object_get(sub->errands, "input") != NULL;
    if (fetched == (sub->bytes != NULL))
        return yd_fail_field(err, YD_E_INVALID, "image", "a picture, or where it is fetched from", "the request has %s", fetched ? "both" : "neither");
    rc = yd_errands_make(s->cfg, sub->errands, &r->errands, err);
    if (!rc) rc = yd_deliveries_admit(s, r, err);
    return rc ? rc : yd_repeat_begin(sub, r, err);
}

static int estimate_job(const yd_service *s, const yd_resident *v, const yd_image_header *h, size_t len, yd_job_record *r, yd_estimate *e,
                        yd_err *err)
{
    int rc = choose_engine(v, &r->settings, e, err);
    if (!rc) rc = check_output(s, v->cfg.scale, h, &r->settings.output, e, err);
    const demand d = {s, &v->cfg, &r->settings, *h, len};
    if (!rc) rc = check_work(&d, e, err);
    if (!rc) rc = check_memory(&d, e, err);
    if (rc) return rc;
    note_sizes(r, h, e);
    note_fingerprint(v, &v->engine[e->engine], r);
    return 0;
}

int yd_service_name(const yd_service *s, yd_job_record *r, yd_err *err)
{
    r->created_ms = yd_wall_ms();
    return *r->id ? 0 : yd_job_id_new(s->cfg->replica, r->id, err);
}

int yd_service_examine(const yd_service *s, const yd_resident *model, const yd_image_header *h, size_t len, yd_job_record *r, yd_estimate *e,
                       yd_err *err)
{
    int rc = estimate_job(s, model, h, len, r, e, err);
    if (rc) return rc;
    return yd_service_name(s, r, err);
}

int yd_service_examine_fetched(const yd_service *s, const yd_image_header *h, yd_job *j, yd_err *err)
{
    int rc = estimate_job(s, j->model, h, j->rec.input->len, &j->rec, &j->estimate, err);
    if (!rc) yd_share_key(s, &j->rec);
    return rc;
}

int yd_service_reexamine(yd_service *s, yd_job *j, yd_err *err)
{
    yd_image_header h = {0};
    yd_job_record *r = &j->rec;
    char before[sizeof r->fingerprint];
    memcpy(before, r->fingerprint, sizeof before);
    h.w = r->in_w;
    h.h = r->in_h;
    h.depth = r->in_depth;
    h.pages = r->in_pages;
    snprintf(h.format, sizeof h.format, "%s", r->in_format);
    int rc = estimate_job(s, j->model, &h, r->input->len, r, &j->estimate, err);
    if (rc) return rc;
    yd_share_key(s, r);
    if (strcmp(before, r->fingerprint) != 0 && (!s->store->several || j->unfit_us)) // otherwise it is left to others at first
        yd_log(YD_LOG_WARN, NULL, "a job is computed by another program or model than it was taken for", "job", r->id, NULL);
    return 0;
}
