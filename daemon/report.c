// What the service says about itself: readiness, capabilities, models, metrics. Only reads. Threads: the loop thread.
#include "daemon/service_internal.h"

#include "core/attention.h"
#include "core/fingerprint.h"
#include "daemon/clock.h"
#include <string.h>

static const char *const predictions[] = {[YD_PREDICT_EPS] = "eps", [YD_PREDICT_X0] = "x0", [YD_PREDICT_V] = "v"};

static const char *device_word(const yd_service *s)
{
    return s->device == YD_DEVICE_READY ? "ready" : s->device == YD_DEVICE_LOADING ? "loading" : "broken";
}

int yd_service_ready(const yd_service *s, json_t **report)
{
    yd_store_health stored;
    s->store->health(s->store, &stored);
    const int room = stored.free_room >= (uint64_t)s->cfg->disk_reserve_bytes;
    int ready = s->device == YD_DEVICE_READY && yd_codecs_ready(s->codecs) && !yd_service_leaving(s) && stored.ok && room;
    if (!report) return ready;
    *report = json_pack("{s:b, s:b, s:s, s:s, s:s, s:{s:i, s:I}, s:i, s:s}", "ready", ready, "draining", yd_service_leaving(s),
                        "model", s->device == YD_DEVICE_READY ? s->model.name : "", "device", device_word(s),
                        "device_name", s->engine[0].backend.device, "queue", "depth", s->sched.n_waiting, "max",
                        (json_int_t)s->cfg->queue_max, "running", s->sched.n_running, "durability", s->store->durability);
    if (*report && s->device == YD_DEVICE_BROKEN)
        json_object_set_new(*report, "problem", json_string(s->device_err.detail));
    if (*report && s->store->durable)
        json_object_set_new(*report, "storage",
                            json_pack("{s:b, s:s, s:I, s:I}", "works", stored.ok, "problem", stored.ok && !room ? "the disk is nearly full" : stored.why,
                                      "free_bytes", (json_int_t)stored.free_room, "finished_bytes", (json_int_t)stored.bytes));
    return ready;
}

static json_t *limits_json(const yd_config *c)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "max_body_bytes", (json_int_t)c->max_body_bytes,
                     "max_pixels", (json_int_t)c->max_pixels, "max_output_pixels", (json_int_t)c->max_output_pixels,
                     "max_side", (json_int_t)c->max_side, "max_job_units", (json_int_t)c->max_job_units, "queue_max",
                     (json_int_t)c->queue_max, "max_running", (json_int_t)c->max_running, "max_connections_per_ip",
                     (json_int_t)c->max_connections_per_ip, "job_ttl_s", (json_int_t)c->job_ttl_s);
}

static json_t *attention_json(const yd_service *s)
{
    size_t n;
    const yd_attention_method *m = yd_attention_methods(&n);
    json_t *a = json_array();
    for (size_t i = 0; a && i < n; i++)
        if (m[i].compute || s->model.map_net)
            json_array_append_new(a, json_pack("{s:s, s:s}", "name", m[i].name, "summary", m[i].summary));
    return a;
}

// Names of the formats that are read, or written.
static json_t *formats_json(int written)
{
    size_t n;
    const yd_image_kind *k = yd_image_kinds(&n);
    json_t *a = json_array();
    for (size_t i = 0; a && i < n; i++)
        if (written ? k[i].writes : k[i].reads) json_array_append_new(a, json_string(k[i].name));
    return a;
}

// "a, b, c" -> ["a","b","c"]
static json_t *names_json(const char *list)
{
    json_t *a = json_array();
    while (a && *list) {
        size_t n = strcspn(list, ",");
        json_array_append_new(a, json_stringn(list, n));
        list += n;
        list += strspn(list, ", ");
    }
    return a;
}

static const char *dtype_name(const yd_engine_info *e)
{
    return e->dtype == YD_BF16 ? "bf16" : "f32";
}

// What jobs would use that say nothing.
static json_t *defaults_json(const yd_service *s)
{
    yd_job_settings js;
    yd_job_settings_init(&js, &s->model, s->cfg);
    js.dtype = s->engine[0].dtype == YD_BF16 ? YD_STORE_BF16 : YD_STORE_F32;
    return yd_job_settings_json(&js, &s->model);
}

static json_t *errands_json(const yd_config *c)
{
    return json_pack("{s:b, s:b, s:b}", "input", *yd_out_hosts(c, YD_OUT_FETCH) != 0, "result", *yd_out_hosts(c, YD_OUT_RESULT) != 0, "webhook",
                     *yd_out_hosts(c, YD_OUT_WEBHOOK) != 0);
}

json_t *yd_service_capabilities(const yd_service *s)
{
    int ready = s->device == YD_DEVICE_READY;
    json_t *models = json_array(), *scales = json_array(), *dtypes = json_array();
    if (ready) {
        json_array_append_new(models, json_string(s->model.name));
        json_array_append_new(scales, json_integer(s->model.scale));
        for (int i = 0; i < s->n_engines; i++) json_array_append_new(dtypes, json_string(dtype_name(&s->engine[i])));
    }
    json_t *o =
        json_pack("{s:s, s:o, s:o, s:o, s:{s:o, s:o}, s:o, s:o, s:o}", "version", YD_VERSION, "models", models, "scales",
                  scales, "dtypes", dtypes, "formats", "input", formats_json(0), "output", formats_json(1), "attention", attention_json(s),
                  "settings", names_json(yd_job_settings_names()), "limits", limits_json(s->cfg));
    if (o) json_object_set_new(o, "urls", errands_json(s->cfg));
    if (o && ready) json_object_set_new(o, "defaults", defaults_json(s));
    return o;
}

// What decides the bytes of a job with the model's own map, in full and as jobs carry it.
static json_t *fingerprint_json(const yd_service *s, const yd_engine_info *e)
{
    yd_fingerprint fp;
    char brief[YD_FINGERPRINT_SHORT], text[4096];
    yd_fingerprint_make(s->model_checksum, &s->model, &e->backend, e->dtype, s->model.defaults.attention, &fp);
    yd_fingerprint_short(&fp, brief);
    const size_t n = yd_fingerprint_print(&fp, 0, text, sizeof text);
    json_t *record = n < sizeof text ? json_loadb(text, n, 0, NULL) : NULL;
    return json_pack("{s:s, s:o?}", "short", brief, "record", record);
}

static json_t *memory_json(const yd_engine_info *e)
{
    return json_pack("{s:I, s:I}", "weights_bytes", (json_int_t)e->weight_bytes, "arena_bytes", (json_int_t)e->arena_bytes);
}

// One for each type that jobs may ask for.
static json_t *engines_json(const yd_service *s)
{
    json_t *list = json_array();
    for (int i = 0; list && i < s->n_engines; i++) {
        const yd_engine_info *e = &s->engine[i];
        json_array_append_new(list, json_pack("{s:s, s:o, s:i, s:f, s:o}", "dtype", dtype_name(e), "memory", memory_json(e), "batch",
                                              e->max_batch, "unit_ms", s->sched.cost[i].unit_s * 1000, "fingerprint", fingerprint_json(s, e)));
    }
    return list;
}

// What each quality stands for: the sampling settings, without what is a job's own.
static json_t *profiles_json(const yd_model_config *m)
{
    json_t *o = json_object();
    for (int q = 0; o && q < YD_QUALITIES; q++) {
        yd_sample_settings set;
        char text[1024];
        yd_model_config_profile(m, (yd_quality)q, &set);
        const size_t n = yd_settings_print(&set, text, sizeof text);
        json_t *p = n < sizeof text ? json_loadb(text, n, 0, NULL) : NULL;
        json_object_del(p, "seed");
        json_object_del(p, "skip");
        json_object_set_new(o, yd_quality_name((yd_quality)q), p);
    }
    return o;
}

// The model, with what its first engine, the one of jobs that ask for none, makes of it.
static json_t *model_json(const yd_service *s)
{
    const yd_model_config *m = &s->model;
    const yd_engine_info *e = &s->engine[0];
    return json_pack("{s:s, s:i, s:i, s:i, s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:o, s:f, s:o, s:o, s:o}", "name", m->name, "scale", m->scale,
                     "window", m->window, "overlap", m->overlap, "prediction", predictions[m->prediction], "target",
                     m->target == YD_TARGET_RESIDUAL ? "residual" : "direct", "parameters", (json_int_t)s->model_params, "checksum",
                     s->model_checksum, "device", e->backend.device, "isa", e->backend.isa, "dtype", dtype_name(e), "memory",
                     memory_json(e), "unit_ms", s->sched.cost[0].unit_s * 1000, "fingerprint", fingerprint_json(s, e), "engines", engines_json(s),
                     "profiles", profiles_json(m));
}

json_t *yd_service_models(const yd_service *s)
{
    json_t *list = json_array();
    if (list && s->device == YD_DEVICE_READY) json_array_append_new(list, model_json(s));
    return json_pack("{s:o}", "models", list);
}

const yd_config *yd_service_config(const yd_service *s)
{
    return s->cfg;
}

yd_metrics *yd_service_metrics(yd_service *s)
{
    return s->metrics;
}

char *yd_service_metrics_text(yd_service *s, size_t *len)
{
    const yd_turn *first = yd_scheduler_next(&s->sched, NULL);
    while (first && first->state != YD_TURN_WAITING) first = yd_scheduler_next(&s->sched, first);
    const yd_job *oldest = first ? (const yd_job *)(const void *)((const char *)first - offsetof(yd_job, turn)) : NULL;
    yd_store_health stored;
    s->store->health(s->store, &stored);
    yd_metrics_now now = {
        .queue_depth = (size_t)s->sched.n_waiting,
        .queue_oldest_s = oldest ? (double)(yd_mono_us() - oldest->created_us) / 1e6 : 0,
        .jobs_bytes = s->sched.memory + s->input_bytes,
        .results_bytes = stored.bytes,
        .version = YD_VERSION,
        .model = s->model.name,
        .device = s->engine[0].backend.name,
    };
    now.deliveries = yd_deliveries_waiting(s);
    yd_codecs_now codecs;
    yd_codecs_look(s->codecs, &codecs);
    now.codec_processes = codecs.processes;
    now.codec_idle = codecs.idle;
    now.codec_busy = codecs.busy;
    now.codec_waiting = codecs.waiting;
    for (int i = 0; i < s->n_engines; i++) {
        now.device_weights_bytes += s->engine[i].weight_bytes;
        now.device_arena_bytes += s->engine[i].arena_bytes;
    }
    return yd_metrics_text(s->metrics, &now, len);
}
