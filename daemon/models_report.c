// What the service says of its models: found, resident, on their way. Only reads. Threads: the loop thread.
#include "daemon/service_internal.h"

#include "core/fingerprint.h"
#include <string.h>

static const char *const predictions[] = {[YD_PREDICT_EPS] = "eps", [YD_PREDICT_X0] = "x0", [YD_PREDICT_V] = "v"};

const char *yd_dtype_name(yd_dtype t)
{
    return t == YD_BF16 ? "bf16" : "f32";
}

// What decides the bytes of a job with the model's own map, in full and as jobs carry it.
static json_t *fingerprint_json(const yd_resident *v, const yd_engine_info *e)
{
    yd_fingerprint fp;
    char brief[YD_FINGERPRINT_SHORT], text[4096];
    yd_fingerprint_make(v->checksum, &v->cfg, &e->backend, e->dtype, v->cfg.defaults.attention, &fp);
    yd_fingerprint_short(&fp, brief);
    const size_t n = yd_fingerprint_print(&fp, 0, text, sizeof text);
    json_t *record = n < sizeof text ? json_loadb(text, n, 0, NULL) : NULL;
    return json_pack("{s:s, s:o?}", "short", brief, "record", record);
}

static json_t *memory_json(const yd_engine_info *e)
{
    return json_pack("{s:I, s:I}", "weights_bytes", (json_int_t)e->weight_bytes, "arena_bytes", (json_int_t)e->arena_bytes);
}

static double unit_ms(const yd_service *s, const yd_resident *v, int k)
{
    return s->sched.cost[yd_models_engine(v, k)].unit_s * 1000;
}

// One for each type that jobs may ask for.
static json_t *engines_json(const yd_service *s, const yd_resident *v)
{
    json_t *list = json_array();
    for (int i = 0; list && i < v->n_engines; i++) {
        const yd_engine_info *e = &v->engine[i];
        json_array_append_new(list, json_pack("{s:s, s:o, s:i, s:f, s:o}", "dtype", yd_dtype_name(e->dtype), "memory", memory_json(e), "batch",
                                              e->max_batch, "unit_ms", unit_ms(s, v, i), "fingerprint", fingerprint_json(v, e)));
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

// The version that takes jobs, with what its first engine, the one of jobs that ask for none, makes of it.
static int add_resident(json_t *o, const yd_service *s, const yd_resident *v)
{
    const yd_engine_info *e = &v->engine[0];
    json_t *more = json_pack("{s:I, s:s, s:s, s:s, s:s, s:o, s:f, s:o, s:o, s:o, s:o}", "parameters", (json_int_t)v->params, "checksum", v->checksum, "device",
                             e->backend.device, "isa", e->backend.isa, "dtype", yd_dtype_name(e->dtype), "memory", memory_json(e), "unit_ms",
                             unit_ms(s, v, 0), "fingerprint", fingerprint_json(v, e), "engines", engines_json(s, v), "profiles", profiles_json(&v->cfg),
                             "devices", yd_lanes_names(s, v->on));
    const int rc = more ? json_object_update(o, more) : -1;
    json_decref(more);
    return rc;
}

// What its config says: of the version that takes jobs, else of the file.
static int add_config(json_t *o, const yd_model_record *m)
{
    const yd_resident *v = m->current;
    if (!v && m->file.problem.code) return 0;
    const yd_target target = v ? v->cfg.target : m->file.target;
    json_t *more = json_pack("{s:i, s:i, s:i, s:s, s:s}", "scale", v ? v->cfg.scale : m->file.scale, "window", v ? v->cfg.window : m->file.window,
                             "overlap", v ? v->cfg.overlap : m->file.overlap, "prediction", predictions[v ? v->cfg.prediction : m->file.prediction],
                             "target", target == YD_TARGET_RESIDUAL ? "residual" : "direct");
    const int rc = more ? json_object_update(o, more) : -1;
    json_decref(more);
    return rc;
}

json_t *yd_model_record_json(const yd_service *s, const yd_model_record *m)
{
    const yd_err *problem = m->problem.code ? &m->problem : m->file.problem.code ? &m->file.problem : NULL;
    json_t *o = json_pack("{s:s, s:s, s:s, s:b, s:b, s:I, s:I, s:I}", "name", m->file.name, "title", m->file.title, "state",
                          yd_model_state_name(yd_model_record_state(m)), "default", strcmp(m->file.name, s->models.default_name) == 0, "loading",
                          m->loading || m->wanted, "file_bytes", (json_int_t)m->file.bytes, "resident_bytes",
                          (json_int_t)yd_model_record_bytes(m), "jobs", (json_int_t)yd_model_record_users(m));
    if (!o) return NULL;
    int bad = add_config(o, m);
    if (m->current) bad |= add_resident(o, s, m->current);
    if (problem) bad |= json_object_set_new(o, "problem", yd_problem_json(problem));
    if (!bad) return o;
    json_decref(o);
    return NULL;
}

json_t *yd_service_models(const yd_service *s)
{
    json_t *list = json_array();
    for (int i = 0; list && i < s->models.n; i++) json_array_append_new(list, yd_model_record_json(s, s->models.record[i]));
    return json_pack("{s:o, s:s, s:{s:I, s:I}, s:o}", "models", list, "default", s->models.default_name, "memory", "budget_bytes",
                     (json_int_t)s->models.budget, "used_bytes", (json_int_t)yd_registry_bytes(&s->models), "devices", yd_lanes_json(s));
}

static void add_bytes(const yd_resident *v, yd_model_now *to)
{
    for (int k = 0; v && k < v->n_engines; k++) {
        to->weights_bytes += v->engine[k].weight_bytes;
        to->arena_bytes += v->engine[k].arena_bytes;
    }
}

int yd_models_now(const yd_service *s, yd_model_now *out)
{
    for (int i = 0; i < s->models.n; i++) {
        const yd_model_record *m = s->models.record[i];
        out[i] = (yd_model_now){.name = m->file.name,
                                .state = yd_model_state_name(yd_model_record_state(m)),
                                .jobs = yd_model_record_users(m),
                                .loads = {m->loads[0], m->loads[1]},
                                .unit_s = m->current ? unit_ms(s, m->current, 0) / 1000 : 0};
        add_bytes(m->current, &out[i]);
        for (const yd_resident *v = m->retired; v; v = v->next) add_bytes(v, &out[i]);
    }
    return s->models.n;
}
