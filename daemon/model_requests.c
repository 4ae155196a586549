// What is asked of the models: by jobs that arrive, by jobs of an earlier process, by operators. Threads: the loop's. Read next: loading.c.
#include "daemon/service_internal.h"

#include "daemon/log.h"
#include <string.h>

#define AWAY_RETRY_MS 5000 // when a request for a model that is on its way should come again

static int away(const yd_service *s, const yd_model_record *m, yd_err *err)
{
    char names[sizeof err->accepted];
    const yd_model_state state = yd_model_record_state(m);
    yd_registry_names(&s->models, 1, names, sizeof names);
    int rc = yd_fail_field(err, YD_E_MODEL_AWAY, "model", names, "the model %s is %s%s%.200s; resident are: %s", m->file.name,
                           yd_model_state_name(state), m->problem.code ? ": " : "", m->problem.detail, *names ? names : "none");
    if (err && state == YD_MODEL_LOADING) err->retry_ms = AWAY_RETRY_MS;
    return rc;
}

static int asked_for(const yd_service *s, const yd_submission *sub, yd_model_record **out, yd_err *err)
{
    const char *name = NULL;
    for (size_t i = 0; i < sub->n_settings; i++)
        if (strcmp(sub->settings[i].name, "model") == 0) name = sub->settings[i].value;
    return yd_registry_find(&s->models, name && !*name ? " " : name ? name : "", out, err);
}

int yd_models_choose(const yd_service *s, const yd_submission *sub, yd_resident **out, yd_err *err)
{
    yd_model_record *m;
    int rc = asked_for(s, sub, &m, err);
    if (rc) return rc;
    *out = m->current;
    return m->current ? 0 : away(s, m, err);
}

int yd_models_coming(const yd_service *s, const yd_submission *sub)
{
    yd_model_record *m;
    return asked_for(s, sub, &m, NULL) == 0 && !m->current && (m->loading || m->wanted);
}

int yd_models_demand(yd_service *s, const yd_submission *sub)
{
    yd_model_record *m;
    if (!s->cfg->load_on_demand || asked_for(s, sub, &m, NULL)) return 0;
    const yd_model_state state = yd_model_record_state(m);
    if (state == YD_MODEL_FAILED) return 0; // reading it again for each request would be worse
    if (state != YD_MODEL_LOADING || m->dropped) yd_registry_want(&s->models, m);
    yd_models_kick(s);
    return 1;
}

int yd_models_recall(yd_service *s, const yd_job_record *r, yd_resident **out, yd_err *err)
{
    yd_model_record *m;
    char names[sizeof err->accepted];
    if (yd_registry_find(&s->models, *r->model ? r->model : " ", &m, NULL)) {
        yd_registry_names(&s->models, 0, names, sizeof names);
        return yd_fail_field(err, YD_E_SETTING, "model", names, "the model %s, for which the job was taken, is not here any more", r->model);
    }
    if (!m->current && m->problem.code)
        return yd_fail_field(err, m->problem.code, "model", m->problem.accepted, "the model %s, for which the job was taken, cannot be loaded: %.250s",
                             r->model, m->problem.detail);
    if (!m->current) {
        if (!m->loading && !m->wanted) {
            yd_registry_want(&s->models, m);
            yd_models_kick(s);
        }
        return 1;
    }
    if (*r->checksum && strcmp(r->checksum, m->current->checksum) != 0)
        return yd_fail_field(err, YD_E_SETTING, "model", m->current->checksum,
                             "the job was taken for the model %s with the checksum %.72s, and its file is another one now", r->model, r->checksum);
    *out = m->current;
    return 0;
}

static int find_model(const yd_service *s, const char *name, yd_model_record **out, yd_err *err)
{
    const int rc = yd_registry_find(&s->models, *name ? name : " ", out, err);
    if (rc && err) err->code = YD_E_NOT_FOUND;
    return rc ? YD_E_NOT_FOUND : 0;
}

int yd_service_model(const yd_service *s, const char *name, json_t **out, yd_err *err)
{
    yd_model_record *m;
    int rc = find_model(s, name, &m, err);
    if (rc) return rc;
    *out = yd_model_record_json(s, m);
    return *out ? 0 : yd_fail(err, YD_E_NOMEM, "no memory to describe a model");
}

int yd_service_model_load(yd_service *s, const char *name, yd_err *err)
{
    yd_model_record *m;
    int rc = find_model(s, name, &m, err);
    if (rc) return rc;
    if (s->draining) return yd_fail(err, YD_E_DRAINING, "the server is shutting down and loads no models");
    yd_registry_want(&s->models, m);
    yd_models_kick(s);
    return 0;
}

int yd_service_model_unload(yd_service *s, const char *name, yd_err *err)
{
    yd_model_record *m;
    int rc = find_model(s, name, &m, err);
    if (rc) return rc;
    if (s->device == YD_DEVICE_LOADING) return yd_fail(err, YD_E_DEVICE, "the server is still starting; the models that it was told to load are not unloaded meanwhile");
    yd_registry_unload(m);
    yd_log(YD_LOG_INFO, NULL, "model takes no new jobs", "model", m->file.name, NULL);
    yd_models_kick(s);
    yd_models_tell(s);
    return 0;
}

int yd_service_model_settled(const yd_service *s, const char *name, yd_err *err)
{
    yd_model_record *m;
    int rc = find_model(s, name, &m, err);
    if (rc) return rc;
    if (m->loading || m->wanted || (m->retired && !m->current)) return 0;
    if (!m->problem.code) return 1;
    *err = m->problem;
    return m->problem.code;
}

void yd_service_model_watch(yd_service *s, yd_model_watch *w)
{
    w->next = s->watches;
    s->watches = w;
}

void yd_service_model_unwatch(yd_service *s, yd_model_watch *w)
{
    yd_model_watch **at = &s->watches;
    while (*at && *at != w) at = &(*at)->next;
    if (*at) *at = w->next;
}
