// A service on the fake device inside a test program: it starts and ends, takes pictures, and is waited for.
//
// There is one at a time, and everything about it lies here: setup() makes a fresh `cfg`, the test changes what it is about,
// open_service() starts `svc` from it, close_service() ends it and checks that the loop is left empty. Jobs are named by their ids,
// since a job may be gone by the time that a test looks at it again. The functions are inline because no program uses all of them.
#ifndef SERVICE_RIG_H
#define SERVICE_RIG_H

#include "daemon/service.h"

#include "core/image.h"
#include "core/mem.h"
#include "core/output.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "tests/unit/t.h"

#define PATIENCE_US 20000000

static uv_loop_t loop;
static uv_timer_t ticker;
static yd_config cfg;
static yd_service *svc;
static yd_err err;
static int closed;

static inline void on_tick(uv_timer_t *t)
{
    (void)t;
}

static inline void on_closed(void *arg)
{
    (void)arg;
    closed = 1;
}

// Run the loop until cond holds; a test that waits too long has failed.
#define WAIT(cond)                                                                                                     \
    do {                                                                                                               \
        int64_t until_ = yd_mono_us() + PATIENCE_US;                                                                   \
        while (!(cond) && yd_mono_us() < until_) uv_run(&loop, UV_RUN_ONCE);                                           \
        CHECK(cond);                                                                                                   \
    } while (0)

static inline void setup(void)
{
    yd_config_init(&cfg);
    yd_config_set(&cfg, "device", "fake", NULL);
    cfg.fake_unit_us = 0;
    cfg.preview_interval_ms = 0;
    cfg.codec_processes = 0; // test programs are no codecs
}

static inline void open_service(void)
{
    uv_loop_init(&loop);
    uv_timer_init(&loop, &ticker);
    uv_timer_start(&ticker, on_tick, 5, 5); // the loop never sleeps past the end of a test's patience
    closed = 0;
    int rc = yd_service_open(&loop, &cfg, &svc, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    if (rc) exit(1);
    WAIT(yd_service_ready(svc, NULL));
}

static inline void close_service(void)
{
    yd_service_close(svc, on_closed, NULL);
    WAIT(closed);
    uv_close((uv_handle_t *)&ticker, NULL);
    while (uv_run(&loop, UV_RUN_DEFAULT)) continue;
    CHECK(uv_loop_close(&loop) == 0); // no handle is left
}

// A picture with something in every corner; `kind` makes different ones.
static inline void picture(int w, int h, int kind, void **bytes, size_t *len)
{
    yd_image im = {0};
    CHECK(yd_image_alloc(&im, w, h, 0, &err) == 0);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 3; c++)
                im.rgb[(y * w + x) * 3 + c] = yd_widen((uint8_t)((x * (7 + kind) + y * 13 * (c + 1)) ^ (x * y)));
    yd_output png;
    yd_output_init(&png);
    png.effort = 1;
    CHECK(yd_image_encode(&im, &png, bytes, len, &err) == 0);
    yd_image_clear(&im);
}

typedef struct submitted {
    int calls, rc;
    char id[64];
} submitted;

static inline void on_submitted(void *arg, int rc, yd_job *j, const yd_err *e)
{
    submitted *s = arg;
    CHECK((rc == 0) == (j != NULL) && (rc != 0) == (e != NULL));
    s->calls++;
    s->rc = rc;
    if (e) err = *e;
    if (j) snprintf(s->id, sizeof s->id, "%s", yd_job_id(j));
}

// Ask, and wait for the answer. *j may have ended by then, but has not been forgotten.
static inline int submit_bytes(void *bytes, size_t len, const char *settings, yd_job **j)
{
    char copy[256];
    yd_setting set[8];
    size_t n = 0;
    snprintf(copy, sizeof copy, "%s", settings);
    for (char *s = copy; *s && n < 8;) { // "a=1 b=2"
        size_t k = strcspn(s, "=");
        set[n].name = s;
        s[k] = 0;
        s += k + 1;
        k = strcspn(s, " ");
        set[n++].value = s;
        if (!s[k]) break;
        s[k] = 0;
        s += k + 1;
    }
    yd_submission sub = {
        .bytes = bytes, .len = len, .settings = set, .n_settings = n, .owner = "me", .request_id = "req"};
    yd_err_clear(&err);
    submitted done = {0};
    *j = NULL;
    int rc = yd_service_submit(svc, &sub, on_submitted, &done, NULL, &err);
    if (rc) return rc;
    CHECK(done.calls == 0); // never from inside
    WAIT(done.calls);
    if (!done.rc) CHECK(yd_service_find(svc, "me", done.id, j, &err) == 0);
    return done.rc;
}

static inline int try_submit(int w, int h, const char *settings, yd_job **j)
{
    void *bytes;
    size_t len;
    picture(w, h, 0, &bytes, &len);
    return submit_bytes(bytes, len, settings, j);
}

static inline const char *submit(int w, int h, const char *settings)
{
    static char ids[16][64];
    static int next;
    yd_job *j;
    char *id = ids[next++ % 16];
    int rc = try_submit(w, h, settings, &j);
    CHECK_MSG(rc == 0, "%s", err.detail);
    snprintf(id, sizeof ids[0], "%s", rc ? "none" : yd_job_id(j));
    return id;
}

static inline yd_job *job(const char *id)
{
    yd_job *j = NULL;
    return yd_service_find(svc, "me", id, &j, &err) ? NULL : j;
}

static inline int state(const char *id)
{
    yd_job *j = job(id);
    return j ? (int)yd_job_state_of(j) : -1;
}

static inline int ended(const char *id)
{
    return yd_job_state_final((yd_job_state)state(id));
}

static inline yd_blob *result(const char *id)
{
    yd_blob *b = NULL;
    CHECK_MSG(yd_service_result(svc, job(id), &b, &err) == 0, "%s", err.detail);
    return b;
}

static inline int same_result(const char *a, const char *b)
{
    yd_blob *x = result(a), *y = result(b);
    int same =
        x && y && x->len == y->len && memcmp(x->bytes, y->bytes, x->len) == 0 && strcmp(x->sha256, y->sha256) == 0;
    yd_blob_unref(x);
    yd_blob_unref(y);
    return same;
}

static inline uint64_t digest(const char *id)
{
    yd_blob *b = result(id);
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; b && i < b->len; i++) h = (h ^ b->bytes[i]) * 1099511628211u;
    yd_blob_unref(b);
    return h;
}

// The job's events as letters: q s a . (step) p + - x
static inline const char *history(const char *id)
{
    static char text[512];
    const yd_event_log *log = yd_job_events(job(id));
    size_t n = 0;
    uint64_t after = 0;
    for (const yd_event *e; n < sizeof text - 1 && (e = yd_events_next(log, after, NULL)); after = e->id) {
        text[n++] = "fqsa.p+-x"[e->type];
        json_t *o = json_loads(e->data, 0, NULL);
        CHECK_MSG(json_is_object(o) && !strchr(e->data, '\n'), "%s", e->data);
        json_decref(o);
    }
    text[n] = 0;
    return text;
}

static inline double number_at(const json_t *o, const char *a, const char *b)
{
    return json_number_value(json_object_get(json_object_get(o, a), b));
}

typedef struct answer {
    int calls, rc;
    yd_blob *blob;
} answer;

static inline void on_picture(void *arg, int rc, yd_blob *blob, const yd_err *e)
{
    answer *a = arg;
    CHECK((rc == 0) == (e == NULL) && (rc == 0) == (blob != NULL));
    a->calls++;
    a->rc = rc;
    yd_blob_unref(a->blob);
    a->blob = blob;
}

// ---- devices, by the names that a report gives them ----

static inline json_t *report_of(const char *name)
{
    json_t *report = NULL;
    yd_service_ready(svc, &report);
    json_t *found = NULL, *all = json_object_get(report, "devices");
    for (size_t i = 0; i < json_array_size(all); i++)
        if (strcmp(json_string_value(json_object_get(json_array_get(all, i), "name")), name) == 0) found = json_incref(json_array_get(all, i));
    json_decref(report);
    return found;
}

static inline int is_in_state(const char *name, const char *state_word)
{
    json_t *o = report_of(name);
    const char *word = json_string_value(json_object_get(o, "state"));
    const int same = word && strcmp(word, state_word) == 0;
    json_decref(o);
    return same;
}

static inline long number_of(const char *name, const char *field)
{
    json_t *o = report_of(name);
    const long n = (long)json_integer_value(json_object_get(o, field));
    json_decref(o);
    return n;
}

#endif
