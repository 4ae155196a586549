// Submissions that wait for a model which is being loaded because they ask for it (load_on_demand).
//
// A submission is borrowed by whoever is given it, so what waits is a copy. All are looked at again whenever a load is over: one whose model is
// resident goes on, one whose model is neither that nor on its way is refused with the reason. Threads: the loop's. Read next: arrival.c.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include <string.h>

static void free_copy(yd_submission *sub)
{
    yd_setting *set = (yd_setting *)(uintptr_t)sub->settings;
    for (size_t i = 0; set && i < sub->n_settings; i++) {
        yd_free((char *)(uintptr_t)set[i].name);
        yd_free((char *)(uintptr_t)set[i].value);
    }
    yd_free(set);
    json_decref((json_t *)(uintptr_t)sub->errands);
    yd_free((char *)(uintptr_t)sub->owner);
    yd_free((char *)(uintptr_t)sub->id);
    yd_free((char *)(uintptr_t)sub->once);
    *sub = (yd_submission){.bytes = NULL};
}

static int copy_text(const char **dst, const char *src)
{
    *dst = src ? yd_strdup(src) : NULL;
    return src && !*dst;
}

// bytes only says whether there is a picture: its owner has it already.
static int copy(yd_submission *to, const yd_submission *from)
{
    yd_setting *set = yd_calloc(from->n_settings + 1, sizeof *set);
    *to = (yd_submission){.bytes = from->bytes, .len = from->len, .settings = set, .n_settings = from->n_settings};
    int bad = !set;
    for (size_t i = 0; set && i < from->n_settings; i++)
        bad |= copy_text(&set[i].name, from->settings[i].name) | copy_text(&set[i].value, from->settings[i].value);
    if (from->errands) bad |= !(to->errands = json_deep_copy(from->errands));
    bad |= copy_text(&to->owner, from->owner) | copy_text(&to->id, from->id) | copy_text(&to->once, from->once);
    if (bad) free_copy(to);
    return bad;
}

int yd_demand_wait(yd_service *s, yd_demand *d, const yd_submission *sub, yd_err *err)
{
    if (copy(&d->sub, sub)) return yd_fail(err, YD_E_NOMEM, "no memory for another job");
    yd_demand **at = &s->demands;
    while (*at) at = &(*at)->next;
    *at = d;
    d->next = NULL;
    return 0;
}

static void end(yd_service *s, yd_demand *d, int rc, yd_resident *model, yd_err *err)
{
    yd_demand **at = &s->demands;
    while (*at && *at != d) at = &(*at)->next;
    if (*at) *at = d->next;
    yd_submission sub = d->sub;
    d->sub = (yd_submission){.bytes = NULL};
    d->ready(d, rc, &sub, model, err);
    free_copy(&sub);
}

void yd_demands_look(yd_service *s)
{
    // What is answered may bring another one, which is put at the end.
    for (yd_demand *d = s->demands, *next; d; d = next) {
        yd_resident *model = NULL;
        yd_err err = {0};
        next = d->next;
        const int rc = yd_models_choose(s, &d->sub, &model, &err);
        if (rc != YD_E_MODEL_AWAY || !yd_models_coming(s, &d->sub)) end(s, d, rc, model, &err);
    }
}

void yd_demands_end(yd_service *s)
{
    for (yd_demand *d; (d = s->demands);) {
        yd_err err = {0};
        end(s, d, yd_fail(&err, YD_E_DRAINING, "the server is shutting down and takes no new jobs"), NULL, &err);
    }
}
