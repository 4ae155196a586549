// Requests that may come twice: with an id that the client chose, or with an Idempotency-Key.
//
// A request is known again by its digest: the picture's bytes and the settings as they were sent, in any order, URLs included. It is kept with the record,
// as is the digest of owner and key. What was stored is found in the store; what is being stored, by its id in the table of jobs and by
// its key in `keyed`, and whoever repeats it waits for the same answer. So nothing is taken twice, however closely repeats follow each
// other, and whether or not the first one's client is still there.
// Threads: the loop thread. Read next: arrival.c
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "core/sha256.h"
#include "daemon/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAX 255
#define ACCEPTED_KEY "1 to 255 printable characters of ASCII"
#define ACCEPTED_ID  "a UUID in lower case, as 6f1c1f7e-2f6b-4a51-9d0f-0e5b1c7a9d42"

static int is_uuid(const char *s)
{
    if (strlen(s) != 36 || strspn(s, "0123456789abcdef-") != 36) return 0;
    for (size_t i = 0; i < 36; i++)
        if ((s[i] == '-') != (i == 8 || i == 13 || i == 18 || i == 23)) return 0;
    return 1;
}

static int take_id(yd_job_record *r, const char *id, yd_err *err)
{
    if (!is_uuid(id)) return yd_fail_field(err, YD_E_SETTING, "id", ACCEPTED_ID, "this is no id that a job can have");
    snprintf(r->id, sizeof r->id, "%s", id);
    return 0;
}

static void hex_of(yd_sha256 *h, char out[65])
{
    uint8_t digest[32];
    yd_sha256_final(h, digest);
    for (size_t i = 0; i < sizeof digest; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

static int take_key(yd_job_record *r, const char *key, yd_err *err)
{
    const size_t n = strlen(key);
    size_t good = 0;
    while (good < n && key[good] >= ' ' && key[good] <= '~') good++;
    if (n < 1 || n > KEY_MAX || good < n)
        return yd_fail_field(err, YD_E_INVALID, "Idempotency-Key", ACCEPTED_KEY, "this is no key that can be remembered");
    yd_sha256 h;
    yd_sha256_init(&h);
    yd_sha256_update(&h, r->owner, strlen(r->owner) + 1);
    yd_sha256_update(&h, key, n);
    hex_of(&h, r->once);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const yd_setting *const *)a)->name, (*(const yd_setting *const *)b)->name);
}

// Names and values with their NULs, so that no two lists run into the same bytes.
static int digest_settings(const yd_submission *sub, char out[65], yd_err *err)
{
    const yd_setting **in_order = yd_malloc((sub->n_settings + 1) * sizeof *in_order);
    if (!in_order) return yd_fail(err, YD_E_NOMEM, "no memory for the settings");
    for (size_t i = 0; i < sub->n_settings; i++) in_order[i] = &sub->settings[i];
    qsort(in_order, sub->n_settings, sizeof *in_order, by_name);
    yd_sha256 h;
    yd_sha256_init(&h);
    for (size_t i = 0; i < sub->n_settings; i++) {
        yd_sha256_update(&h, in_order[i]->name, strlen(in_order[i]->name) + 1);
        yd_sha256_update(&h, in_order[i]->value, strlen(in_order[i]->value) + 1);
    }
    yd_free(in_order);
    char *errands = sub->errands ? json_dumps(sub->errands, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (sub->errands && !errands) return yd_fail(err, YD_E_NOMEM, "no memory for the settings");
    if (errands) yd_sha256_update(&h, errands, strlen(errands));
    free(errands);
    hex_of(&h, out);
    return 0;
}

int yd_repeat_begin(const yd_submission *sub, yd_job_record *r, yd_err *err)
{
    int rc = 0;
    if (sub->id) rc = take_id(r, sub->id, err);
    if (!rc && sub->once) rc = take_key(r, sub->once, err);
    if (!rc && (sub->id || sub->once)) rc = digest_settings(sub, r->request, err);
    return rc;
}

void yd_repeat_digest(yd_job_record *r)
{
    yd_sha256 h;
    if (!*r->request) return;
    yd_sha256_init(&h);
    yd_sha256_update(&h, r->request, 64);
    if (r->input) yd_sha256_update(&h, r->input->sha256, 64);
    hex_of(&h, r->request);
}

// ---- what came before ----------------------------------------------------------------------------------------------

// Somebody else's job, or another request: the id is taken all the same.
static int find_id(yd_service *s, const yd_job_record *r, yd_job **out, yd_err *err)
{
    yd_err why = {0};
    yd_job *j = yd_idmap_get(s->jobs, r->id);
    const int rc = j ? 0 : yd_job_recall(s, r->id, &j, &why);
    if (rc == YD_E_NOT_FOUND) return 0; // the store has the last word
    if (rc && rc != YD_E_GONE) {
        if (err) *err = why;
        return rc;
    }
    if (rc || j->deleted)
        return yd_fail_field(err, YD_E_CONFLICT, "id", "an id that was never used", "the job of this id has been deleted or has expired");
    if (strcmp(j->rec.owner, r->owner) != 0 || strcmp(j->rec.request, r->request) != 0)
        return yd_fail_field(err, YD_E_CONFLICT, "id", "the same picture and settings, or another id", "the id is taken by another request");
    *out = j;
    return 0;
}

// The table's keys are shorter than a digest; so much of it is still never met twice.
static const char *short_key(const yd_job_record *r, char text[YD_ID_MAX])
{
    snprintf(text, YD_ID_MAX, "%.*s", YD_ID_MAX - 1, r->once);
    return text;
}

// A key is remembered as long as its job is, and no longer than it should be.
static yd_job *stored_with_key(yd_service *s, const yd_job_record *r)
{
    char id[YD_ID_MAX];
    yd_job *j = NULL;
    yd_err ignored; // it went between two looks
    if (!s->store->find_once(s->store, r->once, id)) return NULL;
    if (yd_service_find(s, r->owner, id, &j, &ignored)) return NULL;
    return yd_wall_ms() - j->rec.created_ms < s->cfg->idempotency_ttl_s * 1000 ? j : NULL;
}

static int find_key(yd_service *s, const yd_job_record *r, yd_job **out, yd_err *err)
{
    char text[YD_ID_MAX];
    yd_job *j = yd_idmap_get(s->keyed, short_key(r, text));
    if (!j) j = stored_with_key(s, r);
    if (j && strcmp(j->rec.request, r->request) != 0)
        return yd_fail_field(err, YD_E_KEY_REUSED, "Idempotency-Key", "the same picture and settings, or another key",
                             "the key was used for another request");
    *out = j;
    return 0;
}

int yd_repeat_find(yd_service *s, const yd_job_record *r, yd_job **out, yd_err *err)
{
    *out = NULL;
    if (*r->id) return find_id(s, r, out, err);
    return *r->once ? find_key(s, r, out, err) : 0;
}

int yd_repeat_storing(yd_job *j)
{
    char text[YD_ID_MAX];
    return *j->rec.once ? yd_idmap_put(j->service->keyed, short_key(&j->rec, text), j) : 0;
}

void yd_repeat_stored(yd_job *j)
{
    char text[YD_ID_MAX];
    if (*j->rec.once) yd_idmap_remove(j->service->keyed, short_key(&j->rec, text));
}
