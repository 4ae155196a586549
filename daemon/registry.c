// The states of a model, and who moves it from one to another:
//
//   AVAILABLE --begin--> LOADING --commit--> RESIDENT --unload--> DRAINING --left, the last one--> AVAILABLE
//   FAILED ----begin-->  LOADING --refuse--> FAILED: its file cannot be used;  AVAILABLE: there was no room, or it was dropped
//   RESIDENT --begin, commit--> RESIDENT in another version; the one before is retired and leaves when its jobs are through
//   RESIDENT --begin, refuse--> RESIDENT as before, and its problem says why
//   DRAINING --begin, reserve (1)--> RESIDENT again;  with another file on disk --begin, commit--> RESIDENT in another version
//
// A state is not kept but follows from what a record holds, so that it cannot contradict it: a current version is RESIDENT whatever else goes on.
// Invariants: at most one record is `loading`; a seat is taken from reserve to left; a resident is in exactly one of its record's coming, current
// and retired; only retired ones leave, and only when nobody holds them; the sum of bytes counts every resident until it has left.
#include "daemon/registry.h"

#include "core/mem.h"
#include <stdio.h>
#include <string.h>

void yd_registry_init(yd_registry *r, size_t budget, int lenient)
{
    memset(r, 0, sizeof *r);
    r->budget = budget;
    r->lenient = lenient;
}

static void free_resident(yd_resident *v)
{
    if (!v) return;
    yd_free(v->map);
    yd_free(v);
}

static void free_record(yd_model_record *m)
{
    free_resident(m->coming);
    free_resident(m->current);
    for (yd_resident *v; (v = m->retired);) {
        m->retired = v->next;
        free_resident(v);
    }
    yd_free(m);
}

void yd_registry_clear(yd_registry *r)
{
    while (r->n > 0) free_record(r->record[--r->n]);
}

// ---- what there is -------------------------------------------------------------------------------------------------

static int is_idle(const yd_model_record *m)
{
    return !m->coming && !m->current && !m->retired && !m->loading && !m->wanted;
}

static void forget_missing(yd_registry *r)
{
    int kept = 0;
    for (int i = 0; i < r->n; i++) {
        if (r->record[i]->gone && is_idle(r->record[i]))
            free_record(r->record[i]);
        else
            r->record[kept++] = r->record[i];
    }
    r->n = kept;
}

static yd_model_record *by_name(const yd_registry *r, const char *name)
{
    for (int i = 0; i < r->n; i++)
        if (strcmp(r->record[i]->file.name, name) == 0) return r->record[i];
    return NULL;
}

static int add_record(yd_registry *r, const yd_model_file *f, yd_err *err)
{
    yd_model_record *m = r->n < YD_MODELS_MAX ? yd_calloc(1, sizeof *m) : NULL;
    if (!m) return yd_fail(err, YD_E_NOMEM, "no room to note the model %s", f->name);
    m->file = *f;
    int i = r->n++;
    for (; i > 0 && strcmp(r->record[i - 1]->file.name, f->name) > 0; i--) r->record[i] = r->record[i - 1];
    r->record[i] = m;
    return 0;
}

int yd_registry_see(yd_registry *r, const yd_model_file *files, int n, yd_err *err)
{
    int rc = 0;
    for (int i = 0; i < r->n; i++) r->record[i]->gone = 1;
    for (int i = 0; i < n; i++) {
        yd_model_record *m = by_name(r, files[i].name);
        if (!m) continue;
        if (!yd_model_file_same(&m->file, &files[i]) && !m->current) yd_err_clear(&m->problem); // another file, another chance
        m->file = files[i];
        m->gone = 0;
    }
    forget_missing(r);
    for (int i = 0; i < n; i++)
        if (!by_name(r, files[i].name)) {
            const int failed = add_record(r, &files[i], err);
            if (failed) rc = failed;
        }
    return rc;
}

yd_model_state yd_model_record_state(const yd_model_record *m)
{
    if (m->current) return YD_MODEL_RESIDENT;
    if (m->loading || m->wanted) return YD_MODEL_LOADING;
    if (m->retired) return YD_MODEL_DRAINING;
    const int unusable = (m->problem.code && m->problem.code != YD_E_MODEL_ROOM) || m->file.problem.code;
    return unusable ? YD_MODEL_FAILED : YD_MODEL_AVAILABLE;
}

const char *yd_model_state_name(yd_model_state s)
{
    static const char *const names[] = {"available", "loading", "resident", "draining", "failed"};
    return names[s];
}

size_t yd_model_record_users(const yd_model_record *m)
{
    size_t n = m->current ? m->current->users : 0;
    for (const yd_resident *v = m->retired; v; v = v->next) n += v->users;
    return n;
}

size_t yd_model_record_bytes(const yd_model_record *m)
{
    size_t n = (m->current ? m->current->bytes : 0) + (m->coming ? m->coming->bytes : 0);
    for (const yd_resident *v = m->retired; v; v = v->next) n += v->bytes;
    return n;
}

size_t yd_registry_bytes(const yd_registry *r)
{
    size_t n = 0;
    for (int i = 0; i < r->n; i++) n += yd_model_record_bytes(r->record[i]);
    return n;
}

void yd_registry_names(const yd_registry *r, int resident, char *dst, size_t cap)
{
    *dst = 0;
    for (int i = 0; i < r->n; i++) {
        const size_t len = strlen(dst), n = strlen(r->record[i]->file.name);
        if ((resident && !r->record[i]->current) || len + n + 3 >= cap) continue;
        snprintf(dst + len, cap - len, "%s%s", len ? ", " : "", r->record[i]->file.name);
    }
}

int yd_registry_find(const yd_registry *r, const char *name, yd_model_record **out, yd_err *err)
{
    char names[sizeof err->accepted];
    yd_model_record *m = by_name(r, *name ? name : r->default_name);
    int n = m != NULL;
    for (int i = 0; !m && i < r->n; i++)
        if (strcmp(r->record[i]->file.title, name) == 0 && n++ == 0) *out = r->record[i];
    if (m) *out = m;
    if (n == 1) return 0;
    yd_registry_names(r, 0, names, sizeof names);
    if (n) return yd_fail_field(err, YD_E_SETTING, "model", names, "%d models say that they are '%.64s'; a file's name is one of %s", n, name, names);
    return yd_fail_field(err, YD_E_SETTING, "model", names, "there is no model '%.64s' here, only %s", *name ? name : r->default_name, names);
}

// ---- loading -------------------------------------------------------------------------------------------------------

void yd_registry_want(yd_registry *r, yd_model_record *m)
{
    m->dropped = 0;
    if (!m->wanted) m->wanted = ++r->wants;
}

yd_model_record *yd_registry_begin(yd_registry *r)
{
    yd_model_record *first = NULL;
    for (int i = 0; i < r->n; i++) {
        yd_model_record *m = r->record[i];
        if (m->loading) return NULL;
        if (m->wanted && (!first || m->wanted < first->wanted)) first = m;
    }
    if (!first) return NULL;
    first->wanted = 0;
    first->loading = 1;
    return first;
}

static void end_loading(yd_model_record *m, int succeeded)
{
    m->loading = m->dropped = 0;
    m->loads[succeeded]++;
    if (succeeded) yd_err_clear(&m->problem);
}

static void retire(yd_resident *v)
{
    v->next = v->record->retired;
    v->record->retired = v;
}

static int check_room(const yd_registry *r, const yd_model_record *m, size_t others, size_t bytes, yd_err *err)
{
    char accepted[96];
    if (others <= r->budget && bytes <= r->budget - others) return 0;
    if (r->lenient && others == 0) return 0;
    snprintf(accepted, sizeof accepted, "model_memory_bytes is %zu MiB, %zu MiB of them taken", r->budget >> 20, others >> 20);
    return yd_fail_field(err, YD_E_MODEL_ROOM, "model_memory_bytes", accepted, "the model %s takes %s%zu MiB, and resident models have %zu of %zu MiB",
                         m->file.name, m->coming ? "" : "at least ", bytes >> 20, others >> 20, r->budget >> 20);
}

// The same version again: of the current one nothing changes, a retired one that has not begun to leave serves again.
static int take_back(yd_model_record *m, const yd_model_file *file, const char *checksum)
{
    yd_resident *v = m->current;
    if (!v || strcmp(v->checksum, checksum) != 0) {
        yd_resident **at = &m->retired;
        while (*at && ((*at)->leaving || strcmp((*at)->checksum, checksum) != 0)) at = &(*at)->next;
        if (!(v = *at)) return 0;
        *at = v->next;
        if (m->current) retire(m->current);
        m->current = v;
    }
    m->file = v->file = *file;
    return 1;
}

static int take_seat(yd_registry *r, yd_resident *v, yd_err *err)
{
    int seat = 0;
    while (seat < YD_SEATS && (r->seats & 1u << seat)) seat++;
    if (seat == YD_SEATS) return yd_fail(err, YD_E_MODEL_ROOM, "%d models are resident, no more can be", YD_SEATS);
    r->seats |= 1u << seat;
    v->seat = seat;
    return 0;
}

int yd_registry_reserve(yd_registry *r, yd_model_record *m, const yd_model_file *file, yd_model *model, yd_resident **out, yd_err *err)
{
    size_t bytes;
    if (!m->dropped && take_back(m, file, model->checksum)) {
        end_loading(m, 1);
        return 1;
    }
    if (yd_mul_size(model->param_count, sizeof(float), &bytes)) bytes = SIZE_MAX;
    int rc = check_room(r, m, yd_registry_bytes(r), bytes, err); // its weights at the least
    if (rc) return rc;
    yd_resident *v = yd_calloc(1, sizeof *v);
    if (!v) return yd_fail(err, YD_E_NOMEM, "no memory for the model %s", m->file.name);
    if ((rc = take_seat(r, v, err))) {
        yd_free(v);
        return rc;
    }
    v->record = m;
    v->file = *file;
    v->cfg = model->cfg;
    snprintf(v->cfg.name, sizeof v->cfg.name, "%s", m->file.name); // jobs and messages call it so
    v->map = model->map_net;
    v->cfg.map_net = v->map;
    model->map_net = NULL;
    model->cfg.map_net = NULL;
    memcpy(v->checksum, model->checksum, sizeof v->checksum);
    v->params = model->param_count;
    v->bytes = bytes;
    m->coming = *out = v;
    return 0;
}

int yd_registry_commit(yd_registry *r, yd_resident *v, yd_err *err)
{
    yd_model_record *m = v->record;
    v->bytes = 0;
    for (int i = 0; i < v->n_engines; i++) v->bytes += v->engine[i].weight_bytes + v->engine[i].arena_bytes;
    const int rc = check_room(r, m, yd_registry_bytes(r) - v->bytes, v->bytes, err), kept = !rc && !m->dropped;
    m->coming = NULL;
    if (kept && m->current) retire(m->current);
    if (kept) m->file = v->file;
    if (kept)
        m->current = v;
    else
        retire(v);
    end_loading(m, !rc);
    if (rc && err) m->problem = *err;
    return rc;
}

void yd_registry_refuse(yd_registry *r, yd_model_record *m, const yd_err *why)
{
    if (m->coming) r->seats &= ~(1u << m->coming->seat);
    free_resident(m->coming);
    m->coming = NULL;
    end_loading(m, 0);
    m->problem = *why;
}

// ---- use and unloading ---------------------------------------------------------------------------------------------

yd_resident *yd_resident_hold(yd_resident *v)
{
    if (v) v->users++;
    return v;
}

void yd_resident_release(yd_resident *v)
{
    if (v) v->users--;
}

void yd_registry_unload(yd_model_record *m)
{
    m->wanted = 0;
    m->dropped = m->loading;
    if (m->current) retire(m->current);
    m->current = NULL;
    yd_err_clear(&m->problem);
}

yd_resident *yd_registry_leaving(yd_registry *r)
{
    for (int i = 0; i < r->n; i++)
        for (yd_resident *v = r->record[i]->retired; v; v = v->next)
            if (!v->leaving && v->users == 0) {
                v->leaving = 1;
                return v;
            }
    return NULL;
}

void yd_registry_left(yd_registry *r, yd_resident *v)
{
    yd_resident **at = &v->record->retired;
    while (*at && *at != v) at = &(*at)->next;
    if (*at) *at = v->next;
    r->seats &= ~(1u << v->seat);
    free_resident(v);
    forget_missing(r);
}
