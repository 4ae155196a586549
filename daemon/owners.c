// A table of chains, doubled when they grow. The hash begins at random: names come from outside.
#include "daemon/owners.h"

#include "core/mem.h"
#include <string.h>
#include <sys/random.h>

#define FIRST_SLOTS 64

typedef struct owner {
    struct owner *next;
    yd_share share;
    long jobs; // queued or running
    char name[];
} owner;

struct yd_owners {
    owner **slot;
    size_t n_slots, count; // n_slots is a power of two
    uint64_t salt;
    double (*weight)(void *arg, const char *owner);
    void *arg;
};

static size_t slot_of(const yd_owners *o, const char *name, size_t n_slots)
{
    uint64_t h = 14695981039346656037ull ^ o->salt;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 1099511628211ull;
    return (size_t)((h ^ (h >> 32)) & (n_slots - 1));
}

yd_owners *yd_owners_new(double (*weight)(void *arg, const char *owner), void *arg)
{
    yd_owners *o = yd_calloc(1, sizeof *o);
    if (!o) return NULL;
    o->slot = yd_calloc(FIRST_SLOTS, sizeof(owner *));
    if (!o->slot) {
        yd_free(o);
        return NULL;
    }
    o->n_slots = FIRST_SLOTS;
    o->weight = weight;
    o->arg = arg;
    if (getrandom(&o->salt, sizeof o->salt, GRND_NONBLOCK) != (ssize_t)sizeof o->salt) o->salt = 0; // predictable, no worse
    return o;
}

void yd_owners_free(yd_owners *o)
{
    if (!o) return;
    for (size_t i = 0; i < o->n_slots; i++)
        for (owner *w = o->slot[i], *next; w; w = next) {
            next = w->next;
            yd_free(w);
        }
    yd_free(o->slot);
    yd_free(o);
}

// Without memory chains just stay longer.
static void grow(yd_owners *o)
{
    const size_t n = o->n_slots * 2;
    owner **slot = yd_calloc(n, sizeof *slot);
    if (!slot) return;
    for (size_t i = 0; i < o->n_slots; i++)
        for (owner *w = o->slot[i], *next; w; w = next) {
            const size_t k = slot_of(o, w->name, n);
            next = w->next;
            w->next = slot[k];
            slot[k] = w;
        }
    yd_free(o->slot);
    o->slot = slot;
    o->n_slots = n;
}

static owner *find(const yd_owners *o, const char *name)
{
    for (owner *w = o->slot[slot_of(o, name, o->n_slots)]; w; w = w->next)
        if (strcmp(w->name, name) == 0) return w;
    return NULL;
}

long yd_owners_jobs(const yd_owners *o, const char *name)
{
    const owner *w = find(o, name);
    return w ? w->jobs : 0;
}

static double weight_of(const yd_owners *o, const char *name)
{
    const double w = o->weight ? o->weight(o->arg, name) : 1;
    return w > 0 ? w : 1;
}

void yd_owners_weigh(yd_owners *o)
{
    for (size_t i = 0; i < o->n_slots; i++)
        for (owner *w = o->slot[i]; w; w = w->next) w->share.weight = weight_of(o, w->name);
}

static owner *find_or_make(yd_owners *o, const char *name)
{
    const size_t len = strlen(name);
    owner *w = find(o, name);
    if (w) return w;
    w = yd_calloc(1, sizeof *w + len + 1);
    if (!w) return NULL;
    memcpy(w->name, name, len + 1);
    w->share.weight = weight_of(o, name);
    if (o->count >= o->n_slots) grow(o);
    const size_t k = slot_of(o, name, o->n_slots);
    w->next = o->slot[k];
    o->slot[k] = w;
    o->count++;
    return w;
}

yd_share *yd_owners_share(yd_owners *o, const char *name)
{
    owner *w = find_or_make(o, name);
    return w ? &w->share : NULL;
}

int yd_owners_enter(yd_owners *o, const char *name)
{
    owner *w = find_or_make(o, name);
    if (!w) return -1;
    w->jobs++;
    return 0;
}

void yd_owners_leave(yd_owners *o, const char *name)
{
    owner *w = find(o, name);
    if (w && w->jobs > 0) w->jobs--;
}

void yd_owners_sweep(yd_owners *o, const yd_scheduler *s)
{
    for (size_t i = 0; i < o->n_slots; i++)
        for (owner **at = &o->slot[i]; *at;) {
            owner *w = *at;
            if (w->jobs > 0 || !yd_share_idle(s, &w->share)) {
                at = &w->next;
                continue;
            }
            *at = w->next;
            yd_free(w);
            o->count--;
        }
}

size_t yd_owners_count(const yd_owners *o)
{
    return o->count;
}
