// A sampler's state between two steps, as bytes that another process can go on from.
//
//   head (versioned: what it belongs to, how much follows, a SHA-256 of everything) | z | before | first | shown
// Only what cannot be made again is in it: the canvas, the prediction of the step before for second-order samplers, the first predictions
// for fidelity, and what previews show. Map, masks, windows and condition come from the picture, noise from the seed. Numbers are as this
// machine has them; the fingerprint keeps others from reading them. Threads: save where the sampler may be touched, seal anywhere.
#include "core/sampler_internal.h"

#include "core/sha256.h"
#include "core/upscale.h"
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define MAGIC   "yodastat"
#define VERSION 1

typedef struct state_head {
    char magic[8];
    uint32_t version, w, h, step;
    uint64_t bytes; // of everything, this head included
    char fingerprint[64];
    uint8_t settings[32]; // SHA-256 of the settings as text
    uint8_t digest[32];   // of everything, with zeroes here
} state_head;

// The parts behind the head: up to four, in order.
typedef struct part {
    void *at;
    size_t bytes;
} part;

static int parts_of(const yd_sampler *s, part p[4])
{
    const size_t canvas = (size_t)s->pixels * 3 * sizeof(float);
    int n = 0;
    p[n++] = (part){s->z, canvas};
    if (s->before) p[n++] = (part){s->before, canvas};
    if (s->first) p[n++] = (part){s->first, canvas};
    p[n++] = (part){s->shown, (size_t)s->pixels * 3};
    return n;
}

size_t yd_sampler_state_bytes(const yd_sampler *s)
{
    part p[4];
    size_t sum = sizeof(state_head);
    for (int i = parts_of(s, p); i-- > 0;) sum += p[i].bytes;
    return sum;
}

static void digest_settings(const yd_sampler *s, uint8_t out[32])
{
    char text[1024];
    yd_sha256 h;
    const size_t n = yd_settings_print(&s->set, text, sizeof text);
    yd_sha256_init(&h);
    yd_sha256_update(&h, text, n < sizeof text ? n : sizeof text - 1);
    yd_sha256_final(&h, out);
}

static void digest_state(const void *state, size_t len, uint8_t out[32])
{
    state_head head;
    yd_sha256 h;
    memcpy(&head, state, sizeof head);
    memset(head.digest, 0, sizeof head.digest);
    yd_sha256_init(&h);
    yd_sha256_update(&h, &head, sizeof head);
    yd_sha256_update(&h, (const uint8_t *)state + sizeof head, len - sizeof head);
    yd_sha256_final(&h, out);
}

int yd_sampler_save(const yd_sampler *s, void *state)
{
    if (s->step == 0 || s->cursor != 0 || s->run != 0 || yd_sampler_device_fetch(s, NULL)) return -1;
    part p[4];
    const int n = parts_of(s, p);
    state_head head = {.magic = MAGIC, .version = VERSION, .w = (uint32_t)s->w, .h = (uint32_t)s->h, .step = (uint32_t)s->step};
    head.bytes = yd_sampler_state_bytes(s);
    digest_settings(s, head.settings);
    uint8_t *at = state;
    memcpy(at, &head, sizeof head);
    at += sizeof head;
    for (int i = 0; i < n; i++) {
        memcpy(at, p[i].at, p[i].bytes);
        at += p[i].bytes;
    }
    return 0;
}

void yd_sampler_seal(void *state, size_t len, const char *fingerprint)
{
    state_head head;
    uint8_t digest[32];
    memcpy(&head, state, sizeof head);
    snprintf(head.fingerprint, sizeof head.fingerprint, "%s", fingerprint);
    memcpy(state, &head, sizeof head);
    digest_state(state, len, digest);
    memcpy((uint8_t *)state + offsetof(state_head, digest), digest, sizeof digest);
}

// Whose state it is, and whether all of it is there.
static int check(const yd_sampler *s, const void *state, size_t len, const char *fingerprint, state_head *head, yd_err *err)
{
    uint8_t digest[32];
    if (len < sizeof *head) return yd_fail(err, YD_E_INVALID, "the saved state is cut short");
    memcpy(head, state, sizeof *head);
    if (memcmp(head->magic, MAGIC, sizeof head->magic) != 0) return yd_fail(err, YD_E_INVALID, "this is no saved state of a sampler");
    if (head->version != VERSION)
        return yd_fail(err, YD_E_INVALID, "the saved state is of version %u, not %d", (unsigned)head->version, VERSION);
    if (head->bytes != len) return yd_fail(err, YD_E_INVALID, "the saved state has %zu bytes of %llu", len, (unsigned long long)head->bytes);
    digest_state(state, len, digest);
    if (memcmp(digest, head->digest, sizeof digest) != 0) return yd_fail(err, YD_E_INVALID, "the saved state is damaged");
    if (memchr(head->fingerprint, 0, sizeof head->fingerprint) == NULL || strcmp(head->fingerprint, fingerprint) != 0)
        return yd_fail(err, YD_E_CONFLICT, "the saved state was made under another fingerprint than %s", fingerprint);
    digest_settings(s, digest);
    if (head->w != (uint32_t)s->w || head->h != (uint32_t)s->h || memcmp(digest, head->settings, sizeof digest) != 0 ||
        head->step < 1 || head->step > (uint32_t)s->set.steps || len != yd_sampler_state_bytes(s))
        return yd_fail(err, YD_E_CONFLICT, "the saved state belongs to another job");
    return 0;
}

int yd_sampler_restore(yd_sampler *s, const void *state, size_t len, const char *fingerprint, yd_err *err)
{
    state_head head;
    part p[4];
    int rc = check(s, state, len, fingerprint, &head, err);
    if (rc) return rc;
    const uint8_t *at = (const uint8_t *)state + sizeof head;
    const int n = parts_of(s, p);
    for (int i = 0; i < n; i++) {
        memcpy(p[i].at, at, p[i].bytes);
        at += p[i].bytes;
    }
    s->step = (int)head.step;
    s->cursor = s->run = 0;
    s->expect = yd_sampler_next_needed(s, 0);
    return yd_sampler_device_put(s, err);
}
