// Open hashing with chains, doubled at load 1. The hash is FNV-1a with a random start, so that chosen ids cannot pile up in one chain.
#include "daemon/idmap.h"

#include "core/mem.h"
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

typedef struct node {
    struct node *next;
    void *value;
    char key[YD_ID_MAX];
} node;

struct yd_idmap {
    node **slot;
    size_t n_slots, count; // n_slots is a power of two
    uint64_t salt;
};

static size_t slot_of(const yd_idmap *m, const char *key, size_t n_slots)
{
    uint64_t h = 14695981039346656037ull ^ m->salt;
    for (; *key; key++) h = (h ^ (unsigned char)*key) * 1099511628211ull;
    return (size_t)((h ^ (h >> 32)) & (n_slots - 1));
}

yd_idmap *yd_idmap_new(void)
{
    yd_idmap *m = yd_calloc(1, sizeof *m);
    if (!m) return NULL;
    m->n_slots = 64;
    m->slot = yd_calloc(m->n_slots, sizeof(node *));
    if (!m->slot) {
        yd_free(m);
        return NULL;
    }
    // Without entropy the map still works, it is only predictable.
    if (getrandom(&m->salt, sizeof m->salt, GRND_NONBLOCK) != (ssize_t)sizeof m->salt) m->salt = 0;
    return m;
}

void yd_idmap_free(yd_idmap *m)
{
    if (!m) return;
    for (size_t i = 0; i < m->n_slots; i++)
        for (node *n = m->slot[i], *next; n; n = next) {
            next = n->next;
            yd_free(n);
        }
    yd_free(m->slot);
    yd_free(m);
}

// A failed growth is harmless: chains get longer.
static void grow(yd_idmap *m)
{
    size_t n_slots;
    if (yd_mul_size(m->n_slots, 2, &n_slots)) return;
    node **slot = yd_calloc(n_slots, sizeof(node *));
    if (!slot) return;
    for (size_t i = 0; i < m->n_slots; i++)
        for (node *n = m->slot[i], *next; n; n = next) {
            next = n->next;
            size_t to = slot_of(m, n->key, n_slots);
            n->next = slot[to];
            slot[to] = n;
        }
    yd_free(m->slot);
    m->slot = slot;
    m->n_slots = n_slots;
}

// The link that points to the key's node, or to the NULL at its chain's end.
static node **find(const yd_idmap *m, const char *key)
{
    node **at = &m->slot[slot_of(m, key, m->n_slots)];
    while (*at && strcmp((*at)->key, key) != 0) at = &(*at)->next;
    return at;
}

int yd_idmap_put(yd_idmap *m, const char *key, void *value)
{
    size_t len = strlen(key);
    if (len >= YD_ID_MAX || *find(m, key)) return -1;
    node *n = yd_calloc(1, sizeof *n);
    if (!n) return -1;
    memcpy(n->key, key, len + 1);
    n->value = value;
    if (m->count >= m->n_slots) grow(m);
    *find(m, key) = n;
    m->count++;
    return 0;
}

void *yd_idmap_get(const yd_idmap *m, const char *key)
{
    const node *n = *find(m, key);
    return n ? n->value : NULL;
}

void *yd_idmap_remove(yd_idmap *m, const char *key)
{
    node **at = find(m, key), *n = *at;
    if (!n) return NULL;
    void *value = n->value;
    *at = n->next;
    yd_free(n);
    m->count--;
    return value;
}

void *yd_idmap_any(const yd_idmap *m)
{
    for (size_t i = 0; m->count && i < m->n_slots; i++)
        if (m->slot[i]) return m->slot[i]->value;
    return NULL;
}

void yd_idmap_each(const yd_idmap *m, void (*fn)(void *arg, const char *key), void *arg)
{
    for (size_t i = 0; m->count && i < m->n_slots; i++)
        for (const node *n = m->slot[i]; n; n = n->next) fn(arg, n->key);
}

size_t yd_idmap_count(const yd_idmap *m)
{
    return m->count;
}
