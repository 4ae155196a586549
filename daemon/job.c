// Making, freeing and printing of jobs. Their life is pipeline.c.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/errands.h"
#include "daemon/log.h"
#include "daemon/text.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define PREVIEWS_KEPT 3

static const char *const state_names[] = {
#define YD_STATE_TEXT(name, text) text,
    YD_JOB_STATES(YD_STATE_TEXT)
#undef YD_STATE_TEXT
};

const char *yd_job_state_name(yd_job_state s)
{
    return state_names[s];
}

int yd_job_state_parse(const char *text, yd_job_state *out, yd_err *err)
{
    for (int i = 0; i <= YD_JOB_CANCELLED; i++)
        if (strcmp(text, state_names[i]) == 0) {
            *out = (yd_job_state)i;
            return 0;
        }
    return yd_fail_field(err, YD_E_SETTING, "state", "queued, running, succeeded, failed, cancelled",
                         "'%.32s' is no state of a job", text);
}

yd_job *yd_job_new(yd_service *s, const yd_job_record *rec)
{
    yd_job *j = yd_calloc(1, sizeof *j);
    if (!j) return NULL;
    j->events = yd_events_new((size_t)s->cfg->max_events, PREVIEWS_KEPT);
    j->last_words = yd_strdup("{}");
    j->end_op = yd_store_op_new(YD_OP_UPDATE, NULL, NULL, NULL);
    if (!j->events || !j->last_words || !j->end_op) {
        yd_events_unref(j->events);
        yd_free(j->last_words);
        yd_store_op_free(j->end_op);
        yd_free(j);
        return NULL;
    }
    j->service = s;
    yd_job_record_copy(&j->rec, rec);
    j->created_us = yd_mono_us();
    atomic_init(&j->stop, 0);
    return j;
}

void yd_job_free(yd_job *j)
{
    if (!j) return;
    if (j->has_prep) yd_prepared_clear(&j->prep);
    yd_models_release(j->service, &j->model);
    yd_blob_unref(j->preview);
    yd_free(j->last_words);
    yd_free(j->end_words);
    yd_store_op_free(j->end_op);
    yd_events_unref(j->events);
    yd_job_record_clear(&j->rec);
    yd_free(j);
}

int yd_job_id_new(int64_t replica, char id[YD_ID_MAX], yd_err *err)
{
    uint8_t r[16];
    if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
        return yd_fail(err, YD_E_INTERNAL, "no random bytes for an id: %m");
    r[6] = (uint8_t)((r[6] & 0x0f) | (replica < 0 ? 0x40 : 0x80)); // version 4 is all random, 8 is its maker's business
    if (replica >= 0) r[0] = (uint8_t)replica;
    r[8] = (uint8_t)((r[8] & 0x3f) | 0x80); // variant 1
    size_t n = 0;
    for (int i = 0; i < 16; i++)
        n += (size_t)snprintf(id + n, YD_ID_MAX - n, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", r[i]);
    return 0;
}

const char *yd_job_fingerprint(const yd_job *j)
{
    return j->rec.fingerprint;
}

const char *yd_job_id(const yd_job *j)
{
    return j->rec.id;
}

yd_job_state yd_job_state_of(const yd_job *j)
{
    return j->rec.state;
}

yd_event_log *yd_job_events(const yd_job *j)
{
    return j->events;
}

const yd_err *yd_job_problem(const yd_job *j)
{
    return j->rec.state == YD_JOB_FAILED ? &j->rec.problem : NULL;
}

static void append(yd_job *j, yd_event_type type, char *text, yd_blob *blob, yd_blob *mask)
{
    yd_err err = {0};
    const uint64_t before = yd_events_firm_id(j->events);
    // The log may have dropped it by the time its readers are through.
    yd_event copy = {.type = type, .data = text ? yd_strdup(text) : NULL, .blob = yd_blob_ref(blob), .mask = yd_blob_ref(mask)};
    if (!yd_events_append(j->events, type, text, blob, mask, &copy.id, &err)) {
        if (copy.data && !j->arrival) yd_job_tell(j, &copy, before); // otherwise when it is stored
    } else if (err.code != YD_E_CONFLICT)
        yd_log(YD_LOG_ERROR, j->request_id, "event lost", "job", j->rec.id, "event", yd_event_name(type), "why",
               err.detail, NULL);
    yd_free(copy.data);
    yd_blob_unref(copy.blob);
    yd_blob_unref(copy.mask);
}

void yd_job_tell_stored(yd_job *j)
{
    uint64_t before = 0;
    for (const yd_event *e; (e = yd_events_next(j->events, before, NULL)); before = e->id) yd_job_tell(j, e, before);
}

static void tell(yd_job *j, yd_event_type type, json_t *data, yd_blob *blob, yd_blob *mask)
{
    char *text = yd_text_json(data, NULL);
    // The end is stored with the events as they were when it was decided, and with their next id: nothing comes between.
    if (j->ending) {
        yd_free(text);
        yd_blob_unref(blob);
        yd_blob_unref(mask);
        return;
    }
    append(j, type, text, blob, mask);
}

void yd_job_event(yd_job *j, yd_event_type type, json_t *data, yd_blob *blob)
{
    tell(j, type, data, blob, NULL);
}

void yd_job_preview(yd_job *j, json_t *data, yd_blob *blob, yd_blob *mask)
{
    tell(j, YD_EVENT_PREVIEW, data, blob, mask);
}

void yd_job_event_text(yd_job *j, yd_event_type type, char *data)
{
    append(j, type, data, NULL, NULL);
}

size_t yd_job_bytes(const yd_job *j)
{
    // The latest preview is one of those in the events.
    const yd_blob *b[] = {j->rec.input, j->rec.result, j->rec.invented, j->rec.attention, j->rec.activation};
    size_t sum = sizeof *j + sizeof(yd_job_record) + yd_events_bytes(j->events);
    for (size_t i = 0; i < sizeof b / sizeof b[0]; i++) sum += b[i] ? b[i]->len : 0;
    return sum;
}

json_t *yd_problem_json(const yd_err *e)
{
    const yd_err_info *info = yd_err_lookup(e->code);
    char type[64];
    snprintf(type, sizeof type, "/problems/%s", info->slug);
    json_t *o = json_pack("{s:s, s:s, s:i, s:o, s:b}", "type", type, "title", info->title, "status", info->http_status,
                          "detail", yd_text_clean(e->detail), "retryable", info->retryable);
    if (o && *e->field) json_object_set_new(o, "field", yd_text_clean(e->field));
    if (o && *e->accepted) json_object_set_new(o, "accepted", yd_text_clean(e->accepted));
    return o;
}

static json_t *time_json(int64_t ms)
{
    char text[YD_RFC3339_MAX];
    if (!ms) return json_null();
    yd_rfc3339(ms, text, sizeof text);
    return json_string(text);
}

static json_t *link_json(const yd_job *j, const char *tail)
{
    char path[sizeof YD_JOB_PATH + YD_ID_MAX + 32];
    snprintf(path, sizeof path, YD_JOB_PATH "%s%s", j->rec.id, tail);
    return json_string(path);
}

static json_t *links_json(const yd_job *j)
{
    json_t *o = json_pack("{s:o, s:o}", "self", link_json(j, ""), "events", link_json(j, "/events"));
    int running = j->rec.state == YD_JOB_RUNNING, succeeded = j->rec.state == YD_JOB_SUCCEEDED;
    if (o && succeeded) json_object_set_new(o, "result", link_json(j, "/result"));
    if (o && j->rec.invented) json_object_set_new(o, "invented", link_json(j, "/invented"));
    if (o && (running || succeeded)) {
        json_object_set_new(o, "preview", link_json(j, "/preview"));
        json_object_set_new(o, "attention", link_json(j, "/attention"));
        json_object_set_new(o, "mask", link_json(j, "/mask"));
    }
    if (o && !yd_job_state_final(j->rec.state)) json_object_set_new(o, "cancel", link_json(j, "/cancel"));
    return o;
}

static json_t *input_json(const yd_job_record *r)
{
    if (!*r->in_format) return json_null(); // it is being fetched
    return json_pack("{s:i, s:i, s:s, s:i, s:i}", "width", r->in_w, "height", r->in_h, "format", r->in_format,
                     "bit_depth", r->in_depth, "pages", r->in_pages);
}

static json_t *output_json(const yd_job_record *r)
{
    if (!*r->in_format) return json_null();
    return json_pack("{s:i, s:i, s:s, s:i}", "width", r->out_w, "height", r->out_h, "format",
                     yd_image_format_name(r->settings.output.format), "bit_depth", r->out_depth);
}

json_t *yd_invented_json(const yd_invented *a)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f}", "difference_rms", a->difference_rms, "psnr_db", a->psnr_db,
                     "contradicted_share", a->contradicted, "detail_rms", a->detail_rms, "changed_share", a->changed);
}

static json_t *progress_json(const yd_job_progress *p)
{
    return json_pack("{s:i, s:i, s:I, s:I, s:I, s:f}", "step", p->step, "steps", p->steps, "windows_done",
                     (json_int_t)p->windows_done, "windows_total", (json_int_t)p->windows_total, "windows_skipped",
                     (json_int_t)p->windows_skipped, "diffused_share", p->diffused_share);
}

static json_t *timings_json(const yd_job_timings *t)
{
    json_t *o = json_object();
    const struct {
        const char *name;
        double ms;
    } row[] = {{"wait_ms", t->wait_ms},     {"prepare_ms", t->prepare_ms}, {"compute_ms", t->compute_ms},
               {"device_ms", t->device_ms}, {"encode_ms", t->encode_ms},   {"total_ms", t->total_ms}};
    for (size_t i = 0; o && i < sizeof row / sizeof row[0]; i++)
        if (row[i].ms > 0) json_object_set_new(o, row[i].name, json_real(row[i].ms));
    return o;
}

// Where its picture is from, and what becomes of its result and its webhook: hosts, never URLs.
static int add_errands(json_t *o, const yd_job_record *r)
{
    if (!r->errands) return 0;
    json_t *all = yd_errands_public(r->errands), *input = json_object_get(all, "input");
    int bad = !all;
    if (input) {
        bad |= json_object_set_new(input, "fetched", json_boolean(*r->in_format != 0));
        bad |= json_object_set(o, "source", input);
        bad |= json_object_del(all, "input");
    }
    if (!bad && json_object_size(all)) bad |= json_object_set(o, "deliveries", all);
    json_decref(all);
    return bad;
}

// The settings with the model's name and scale as they were when the job was taken, whatever is loaded now. The scale of a model that is
// away, for a picture that never came, nobody knows.
static json_t *used_settings(const yd_job *j)
{
    const yd_job_record *r = &j->rec;
    yd_model_config model;
    yd_model_config_init(&model);
    memcpy(model.name, r->model, sizeof model.name);
    if (r->in_w > 0)
        model.scale = r->grid_w / r->in_w;
    else if (j->model)
        model.scale = j->model->cfg.scale;
    return yd_job_settings_json(&r->settings, &model);
}

static int is_damaged(const yd_job_record *r)
{
    return yd_blob_damaged(r->result) || yd_blob_damaged(r->invented) || yd_blob_damaged(r->attention) || yd_blob_damaged(r->activation);
}

json_t *yd_service_job_json(const yd_service *s, const yd_job *j)
{
    const yd_job_record *r = &j->rec;
    json_t *o = json_pack("{s:s, s:s, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "id", r->id, "state",
                          yd_job_state_name(r->state), "created", time_json(r->created_ms), "started",
                          time_json(r->started_ms), "finished", time_json(r->finished_ms), "model", r->model, "input",
                          input_json(r), "output", output_json(r), "settings", used_settings(j), "progress",
                          progress_json(&r->progress), "timings", timings_json(&r->timings), "links", links_json(j));
    if (!o) return NULL;
    json_object_set_new(o, "fingerprint", json_string(r->fingerprint));
    if (*r->checksum) json_object_set_new(o, "model_checksum", json_string(r->checksum));
    if (r->cached) json_object_set_new(o, "cached", json_true());
    if (is_damaged(r)) json_object_set_new(o, "damaged", json_true());
    if (add_errands(o, r)) {
        json_decref(o);
        return NULL;
    }
    if (r->resumed) json_object_set_new(o, "resumed", json_integer(r->resumed));
    if (!yd_job_state_final(r->state))
        json_object_set_new(o, "queue",
                            json_pack("{s:i, s:f}", "position",
                                      yd_scheduler_position(&s->sched, &j->turn, yd_mono_us()), "eta_s",
                                      yd_job_eta_s(j)));
    if (r->invented) json_object_set_new(o, "invented", yd_invented_json(&r->account));
    if (r->state == YD_JOB_FAILED) json_object_set_new(o, "problem", yd_problem_json(&r->problem));
    return o;
}
