// What the service says about itself: readiness, capabilities, models, metrics. Only reads. Threads: the loop thread.
#include "daemon/service_internal.h"

#include "core/attention.h"
#include "daemon/clock.h"
#include <stdio.h>
#include <string.h>

// What serves requests that name no model; NULL: it is not resident.
static const yd_resident *default_model(const yd_service *s)
{
    yd_model_record *m;
    return yd_registry_find(&s->models, "", &m, NULL) ? NULL : m->current;
}

static const char *device_word(const yd_service *s)
{
    if (s->device != YD_DEVICE_READY) return s->device == YD_DEVICE_LOADING ? "loading" : "broken";
    return yd_lanes_up(s) ? "ready" : "out-of-service";
}

// Why nothing is computed at the moment; NULL: it is.
static const char *device_problem(const yd_service *s)
{
    const yd_err *why = yd_lanes_up(s) ? NULL : yd_lanes_problem(s);
    return s->device == YD_DEVICE_BROKEN ? s->device_err.detail : s->device == YD_DEVICE_READY && why ? why->detail : NULL;
}

int yd_service_ready(const yd_service *s, json_t **report)
{
    yd_store_health stored;
    s->store->health(s->store, &stored);
    const int room = stored.free_room >= (uint64_t)s->cfg->disk_reserve_bytes;
    int ready = s->device == YD_DEVICE_READY && yd_lanes_serving(s) && yd_codecs_ready(s->codecs) && !yd_service_leaving(s) && stored.ok && room;
    if (!report) return ready;
    const yd_resident *v = default_model(s);
    *report = json_pack("{s:b, s:b, s:s, s:s, s:s, s:{s:i, s:I}, s:i, s:s}", "ready", ready, "draining", yd_service_leaving(s),
                        "model", s->device == YD_DEVICE_READY && v ? v->cfg.name : "", "device", device_word(s),
                        "device_name", s->backend.device, "queue", "depth", s->sched.n_waiting, "max",
                        (json_int_t)s->cfg->queue_max, "running", s->sched.n_running, "durability", s->store->durability);
    if (*report && device_problem(s)) json_object_set_new(*report, "problem", json_string(device_problem(s)));
    if (*report) json_object_set_new(*report, "devices", yd_lanes_json(s));
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

static const char *network_kind(yd_attention_net_kind k)
{
    return k == YD_ATTENTION_VIT ? "a vision transformer" : k == YD_ATTENTION_RESNET50 ? "a ResNet-50" : "a SqueezeNet (not one of the paper's)";
}

// One for each variant of a resident attention network.
static void add_networks(const yd_service *s, json_t *list)
{
    const yd_attention_nets *nets = yd_mapper_nets(s->mapper);
    for (size_t i = 0; list && i < yd_attention_nets_count(nets); i++) {
        yd_attention_net_info info;
        yd_attention_nets_info(nets, i, &info);
        for (int k = 0; k < info.n_variants; k++) {
            const yd_attention_variant *v = &info.variant[k];
            char name[YD_ATTENTION_NAME_MAX + sizeof v->word + 1], summary[160];
            snprintf(name, sizeof name, "%s%s%s", yd_attention_nets_name(nets, i), *v->word ? "-" : "", v->word);
            snprintf(summary, sizeof summary, "what %s attends to; :max (also without), :avg, or one of its heads, :0 to :%d", network_kind(info.kind),
                     v->heads - 1);
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:i, s:i, s:s, s:I, s:I}", "name", name, "summary", summary, "network", info.name, "heads",
                                                  v->heads, "stride", v->stride, "checksum", info.checksum, "parameters", (json_int_t)info.params, "bytes",
                                                  (json_int_t)info.bytes));
        }
    }
}

static json_t *attention_json(const yd_service *s)
{
    size_t n;
    const yd_resident *v = default_model(s);
    const yd_attention_method *m = yd_attention_methods(&n);
    json_t *a = json_array();
    for (size_t i = 0; a && i < n; i++)
        if (m[i].compute || (v && v->map))
            json_array_append_new(a, json_pack("{s:s, s:s}", "name", m[i].name, "summary", m[i].summary));
    add_networks(s, a);
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

// What jobs would use that say nothing.
static json_t *defaults_json(const yd_service *s, const yd_resident *v)
{
    yd_job_settings js;
    yd_job_settings_init(&js, &v->cfg, s->cfg);
    js.dtype = v->engine[0].dtype == YD_BF16 ? YD_STORE_BF16 : YD_STORE_F32;
    return yd_job_settings_json(&js, &v->cfg);
}

static json_t *errands_json(const yd_config *c)
{
    return json_pack("{s:b, s:b, s:b}", "input", *yd_out_hosts(c, YD_OUT_FETCH) != 0, "result", *yd_out_hosts(c, YD_OUT_RESULT) != 0, "webhook",
                     *yd_out_hosts(c, YD_OUT_WEBHOOK) != 0);
}

static void add_once(json_t *list, json_t *v)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(json_array_get(list, i), v)) {
            json_decref(v);
            return;
        }
    json_array_append_new(list, v);
}

// Of what is resident; the types that feature maps are stored in are the default's.
json_t *yd_service_capabilities(const yd_service *s)
{
    json_t *models = json_array(), *scales = json_array(), *dtypes = json_array();
    const yd_resident *def = s->device == YD_DEVICE_READY ? default_model(s) : NULL;
    for (int i = 0; i < s->models.n && s->device == YD_DEVICE_READY; i++) {
        const yd_resident *v = s->models.record[i]->current;
        if (!v) continue;
        json_array_append_new(models, json_string(v->cfg.name));
        add_once(scales, json_integer(v->cfg.scale));
    }
    for (int i = 0; def && i < def->n_engines; i++) json_array_append_new(dtypes, json_string(yd_dtype_name(def->engine[i].dtype)));
    json_t *o =
        json_pack("{s:s, s:o, s:o, s:o, s:{s:o, s:o}, s:o, s:o, s:o}", "version", YD_VERSION, "models", models, "scales",
                  scales, "dtypes", dtypes, "formats", "input", formats_json(0), "output", formats_json(1), "attention", attention_json(s),
                  "settings", names_json(yd_job_settings_names()), "limits", limits_json(s->cfg));
    if (o) json_object_set_new(o, "devices", yd_lanes_json(s));
    if (o) json_object_set_new(o, "urls", errands_json(s->cfg));
    if (o && def) json_object_set_new(o, "defaults", defaults_json(s, def));
    return o;
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
        .ready = yd_service_ready(s, NULL),
        .running = (size_t)s->sched.n_running,
        .store_up = stored.ok,
        .store_fenced = stored.fenced,
        .store_shared = *s->cfg->store != 0,
        .durability = s->store->durability,
        .store_free = s->store->durable ? stored.free_room : UINT64_MAX,
        .queue_depth = (size_t)s->sched.n_waiting,
        .queue_oldest_s = oldest ? (double)(yd_mono_us() - oldest->created_us) / 1e6 : 0,
        .jobs_bytes = s->sched.memory + s->input_bytes,
        .results_bytes = stored.bytes,
        .version = YD_VERSION,
        .model = s->models.default_name,
        .device = s->backend.name,
    };
    now.deliveries = yd_deliveries_waiting(s);
    yd_codecs_now codecs;
    yd_codecs_look(s->codecs, &codecs);
    now.codec_processes = codecs.processes;
    now.codec_idle = codecs.idle;
    now.codec_busy = codecs.busy;
    now.codec_waiting = codecs.waiting;
    yd_model_now models[YD_MODELS_MAX];
    yd_mapper_look(s->mapper, &now.maps);
    now.models = models;
    now.n_models = yd_models_now(s, models);
    yd_lane_now lanes[YD_DEVICES_MAX];
    now.lanes = lanes;
    now.n_lanes = yd_lanes_now(s, lanes);
    now.models_budget_bytes = s->models.budget;
    return yd_metrics_text(s->metrics, &now, len);
}
