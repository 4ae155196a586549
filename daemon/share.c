// The content cache: what was asked for before is answered from what is stored, and what is asked for twice at a time is computed once.
//
// Two requests are the same when the picture's bytes, the settings with the seed, and the fingerprint are (yd_share_key). The first of them
// under way leads, the others follow: they wait outside the scheduler's queue and end as it ends. When the leader is cancelled, or fails of
// what is its own misfortune (a deadline, memory, a file), the first follower takes its place. From a leader that was cancelled it has the
// canvas too, as soon as nobody works on that any more (a unit at most), and goes on with the next window: settings and picture are the
// same, so the bytes are. Whose jobs they are does not matter: a follower learns nothing but its own result's bytes.
//
// Invariants: a leader is in `leaders` from its arrival until the store has all its pictures; a follower is pinned while it is in a leader's list.
// Threads: the loop thread.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "core/sha256.h"
#include "daemon/clock.h"
#include <stdio.h>
#include <string.h>

#define LOOK_BYTES (4u << 20) // of a stored result: some milliseconds of the loop

void yd_share_key(const yd_service *s, yd_job_record *r)
{
    *r->key = 0;
    if (!s->cfg->content_cache || !r->input || !*r->input->sha256) return;
    json_t *o = yd_job_settings_save(&r->settings);
    // How a job is watched and when it has its turn does not change what comes out.
    static const char *const others[] = {"preview_every", "preview_max_side", "priority", "deadline_ms"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) json_object_del(o, others[i]);
    char *settings = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(o);
    if (!settings) return;
    yd_sha256 h;
    uint8_t digest[32];
    yd_sha256_init(&h);
    yd_sha256_update(&h, r->input->sha256, 64);
    yd_sha256_update(&h, r->fingerprint, sizeof r->fingerprint);
    yd_sha256_update(&h, settings, strlen(settings));
    yd_sha256_final(&h, digest);
    for (size_t i = 0; i < sizeof digest; i++) snprintf(r->key + 2 * i, 3, "%02x", digest[i]);
    free(settings);
}

// Give a record the outcome of another one.
static void take_outcome(yd_job_record *r, const yd_job_record *from)
{
    r->cached = 1;
    r->progress = from->progress;
    r->account = from->account;
    r->out_w = from->out_w;
    r->out_h = from->out_h;
    r->out_depth = from->out_depth;
    r->result = yd_blob_ref(from->result);
    r->invented = yd_blob_ref(from->invented);
    r->attention = yd_blob_ref(from->attention);
    r->activation = yd_blob_ref(from->activation);
}

int yd_share_fill(yd_service *s, yd_job_record *r)
{
    char id[YD_ID_MAX];
    yd_job_record from;
    yd_err ignored; // what cannot be had is computed
    if (!*r->key || !s->store->find_key(s->store, r->key, id)) return 0;
    if (s->store->get(s->store, id, 1, &from, &ignored)) return 0;
    // A large one is looked at when it is read.
    const int sound = from.result && (from.result->len > LOOK_BYTES || yd_blob_check(from.result, &ignored) == 0);
    const int whole = sound && from.attention && from.activation;
    if (whole) {
        take_outcome(r, &from);
        r->state = YD_JOB_SUCCEEDED;
        r->started_ms = r->finished_ms = yd_wall_ms();
        yd_blob_unref(r->input);
        r->input = NULL;
    }
    yd_job_record_clear(&from);
    return whole;
}

// ---- leaders and followers -----------------------------------------------------------------------------------------

// The table's keys are shorter than a digest; so much of it is still never met twice.
static const char *short_key(const yd_job *j, char text[YD_ID_MAX])
{
    snprintf(text, YD_ID_MAX, "%.*s", YD_ID_MAX - 1, j->rec.key);
    return text;
}

int yd_share_join(yd_job *j)
{
    yd_service *s = j->service;
    char key[YD_ID_MAX];
    if (!*j->rec.key) return 0;
    yd_job *leader = yd_idmap_get(s->leaders, short_key(j, key));
    if (!leader) {
        j->leads = yd_idmap_put(s->leaders, key, j) == 0; // without memory it is computed alone
        return 0;
    }
    yd_job **at = &leader->followers;
    while (*at) at = &(*at)->next_follower;
    *at = j;
    j->leader = leader;
    s->followers++;
    yd_job_pin(j);
    return 1;
}

void yd_share_leave(yd_job *j)
{
    yd_job *leader = j->leader;
    if (!leader) return;
    for (yd_job **at = &leader->followers; *at; at = &(*at)->next_follower)
        if (*at == j) {
            *at = j->next_follower;
            break;
        }
    j->leader = j->next_follower = NULL;
    j->service->followers--;
    j->pins--; // whoever ends it holds a pin of his own, or uses it no more
}

static void abdicate(yd_job *j)
{
    char key[YD_ID_MAX];
    if (j->leads) yd_idmap_remove(j->service->leaders, short_key(j, key));
    j->leads = 0;
}

// The first follower leads the others, and is computed: from where j is, when it has got anywhere.
static void succeed_to(yd_job *j)
{
    yd_job *heir = j->followers, *rest;
    abdicate(j);
    if (!heir) return;
    j->followers = NULL;
    yd_job_pin(heir);
    rest = heir->next_follower;
    heir->leader = heir->next_follower = NULL;
    heir->service->followers--;
    heir->pins--;
    yd_share_join(heir); // nobody leads now: it does
    heir->followers = rest;
    for (yd_job *f = rest; f; f = f->next_follower) f->leader = heir;
    if (j->has_prep && j->turn.state == YD_TURN_STOPPING && j->turn.out == 0 && j->rec.state == YD_JOB_CANCELLED)
        yd_service_take_over(heir, j);
    else
        yd_service_enqueue(heir);
    yd_pipeline_kick(heir->service);
    yd_job_unpin(heir);
}

// Others, and the same one later, may have more luck.
static int is_misfortune(const yd_job *j)
{
    return j->rec.state == YD_JOB_FAILED && yd_err_lookup(j->rec.problem.code)->retryable;
}

void yd_share_hand_over(yd_job *j)
{
    if ((!j->leads && !j->followers) || j->rec.state != YD_JOB_CANCELLED) return;
    j->pins++; // whoever hears of the heir's start may delete this one
    succeed_to(j);
    j->pins--;
}

void yd_share_end(yd_job *j)
{
    if (j->rec.state == YD_JOB_CANCELLED && j->followers && j->has_prep) return; // until nobody works with it
    if (j->rec.state == YD_JOB_CANCELLED || is_misfortune(j)) {
        succeed_to(j);
        return;
    }
    abdicate(j);
    for (yd_job *f; (f = j->followers);) {
        yd_job_pin(f);
        yd_share_leave(f);
        if (j->rec.state == YD_JOB_SUCCEEDED) take_outcome(&f->rec, &j->rec);
        yd_pipeline_finish(f, j->rec.state, &j->rec.problem);
        yd_job_unpin(f);
    }
}

void yd_share_park(yd_job *j)
{
    yd_share_leave(j);
    abdicate(j);
    for (yd_job *f; (f = j->followers);) {
        yd_job_pin(f);
        yd_pipeline_park(f); // leaves the list
        yd_job_unpin(f);
    }
}

void yd_share_yield(yd_job *j)
{
    yd_share_leave(j);
    if (j->leads || j->followers) succeed_to(j);
}
