// The service on the fake device: everything real but the network's arithmetic.
#include "daemon/service.h"

#include "core/image.h"
#include "core/mem.h"
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

static void on_tick(uv_timer_t *t)
{
    (void)t;
}

static void on_closed(void *arg)
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

static void setup(void)
{
    yd_config_init(&cfg);
    yd_config_set(&cfg, "device", "fake", NULL);
    cfg.fake_unit_us = 0;
    cfg.preview_interval_ms = 0;
}

static void open_service(void)
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

static void close_service(void)
{
    yd_service_close(svc, on_closed, NULL);
    WAIT(closed);
    uv_close((uv_handle_t *)&ticker, NULL);
    while (uv_run(&loop, UV_RUN_DEFAULT)) continue;
    CHECK(uv_loop_close(&loop) == 0); // no handle is left
}

// A picture with something in every corner; `kind` makes different ones.
static void picture(int w, int h, int kind, void **bytes, size_t *len)
{
    yd_image im = {0};
    CHECK(yd_image_alloc(&im, w, h, 0, &err) == 0);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 3; c++)
                im.rgb[(y * w + x) * 3 + c] = (uint8_t)((x * (7 + kind) + y * 13 * (c + 1)) ^ (x * y));
    CHECK(yd_image_encode(&im, YD_PNG, 90, 1, bytes, len, &err) == 0);
    yd_image_clear(&im);
}

static int submit_bytes(void *bytes, size_t len, const char *settings, yd_job **j)
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
    return yd_service_submit(svc, &sub, j, &err);
}

static int try_submit(int w, int h, const char *settings, yd_job **j)
{
    void *bytes;
    size_t len;
    picture(w, h, 0, &bytes, &len);
    return submit_bytes(bytes, len, settings, j);
}

static const char *submit(int w, int h, const char *settings)
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

static yd_job *job(const char *id)
{
    yd_job *j = NULL;
    return yd_service_find(svc, "me", id, &j, &err) ? NULL : j;
}

static int state(const char *id)
{
    yd_job *j = job(id);
    return j ? (int)yd_job_state_of(j) : -1;
}

static int ended(const char *id)
{
    return yd_job_state_final((yd_job_state)state(id));
}

static yd_blob *result(const char *id)
{
    yd_blob *b = NULL;
    CHECK_MSG(yd_service_result(svc, job(id), &b, &err) == 0, "%s", err.detail);
    return b;
}

static int same_result(const char *a, const char *b)
{
    yd_blob *x = result(a), *y = result(b);
    int same =
        x && y && x->len == y->len && memcmp(x->bytes, y->bytes, x->len) == 0 && strcmp(x->sha256, y->sha256) == 0;
    yd_blob_unref(x);
    yd_blob_unref(y);
    return same;
}

// The job's events as letters: q s a . (step) p + - x
static const char *history(const char *id)
{
    static char text[512];
    const yd_event_log *log = yd_job_events(job(id));
    size_t n = 0;
    uint64_t after = 0;
    for (const yd_event *e; n < sizeof text - 1 && (e = yd_events_next(log, after, NULL)); after = e->id) {
        text[n++] = "qsa.p+-x"[e->type];
        json_t *o = json_loads(e->data, 0, NULL);
        CHECK_MSG(json_is_object(o) && !strchr(e->data, '\n'), "%s", e->data);
        json_decref(o);
    }
    text[n] = 0;
    return text;
}

static double number_at(const json_t *o, const char *a, const char *b)
{
    return json_number_value(json_object_get(json_object_get(o, a), b));
}

static void succeeds(void)
{
    setup();
    open_service();
    const char *id = submit(40, 30, "steps=4 seed=7");
    WAIT(ended(id));
    CHECK(state(id) == YD_JOB_SUCCEEDED);
    CHECK_MSG(strcmp(history(id), "qsa....+") == 0, "%s", history(id));
    json_t *o = yd_service_job_json(svc, job(id));
    CHECK(strcmp(json_string_value(json_object_get(o, "state")), "succeeded") == 0);
    CHECK(strlen(json_string_value(json_object_get(o, "created"))) == 24);
    CHECK(number_at(o, "output", "width") == 80 && number_at(o, "output", "height") == 60);
    CHECK(number_at(o, "settings", "seed") == 7 && number_at(o, "settings", "steps") == 4);
    CHECK(number_at(o, "progress", "step") == 4 && number_at(o, "progress", "diffused_share") > 0);
    CHECK(number_at(o, "progress", "windows_done") == number_at(o, "progress", "windows_total"));
    CHECK(number_at(o, "progress", "windows_total") > 0);
    CHECK(json_object_get(json_object_get(o, "links"), "result") && !json_object_get(o, "problem"));
    json_decref(o);
    yd_blob *b = result(id);
    yd_image im;
    yd_image_limits all = {1000000, 1, 10000, 1 << 30};
    CHECK(b->width == 80 && strcmp(b->mime, "image/png") == 0 && strlen(b->sha256) == 64);
    CHECK(yd_image_decode(b->bytes, b->len, &all, &im, &err) == 0 && im.w == 80 && im.h == 60);
    yd_image_clear(&im);
    yd_service_delete(svc, job(id)); // a download goes on
    CHECK(b->len > 0 && b->bytes[1] == 'P');
    yd_blob_unref(b);
    close_service();
}

static void refuses(const char *settings, const char *field)
{
    yd_job *j;
    CHECK_MSG(try_submit(32, 32, settings, &j) == YD_E_SETTING, "%s was taken", settings);
    CHECK_MSG(strcmp(err.field, field) == 0 && *err.accepted, "'%s' / '%s' for %s", err.field, err.accepted, settings);
}

static void settings(void)
{
    setup();
    cfg.max_job_units = 100;
    open_service();
    refuses("colour=red", "colour");
    refuses("scale=3", "scale");
    refuses("scale=2x", "scale");
    refuses("model=none", "model");
    refuses("steps=0", "steps");
    refuses("steps=101", "steps"); // a bound of this daemon
    refuses("format=gif", "format");
    refuses("quality=0", "quality");
    refuses("quality=1.5", "quality");
    refuses("preview_max_side=3", "preview_max_side");
    refuses("attention=none-such", "attention");
    const char *id = submit(32, 32, "model=fake-2x scale=2 format=jpg quality=50 seed=18446744073709551615");
    json_t *o = yd_service_job_json(svc, job(id));
    CHECK(strcmp(json_string_value(json_object_get(json_object_get(o, "settings"), "seed")), "18446744073709551615") ==
          0);
    CHECK(number_at(o, "settings", "quality") == 50);
    json_decref(o);
    WAIT(ended(id));
    yd_blob *b = result(id);
    CHECK(strcmp(b->mime, "image/jpeg") == 0 && b->bytes[0] == 0xff);
    yd_blob_unref(b);
    const char *r1 = submit(32, 32, "seed=random"), *r2 = submit(32, 32, "seed=random");
    json_t *o1 = yd_service_job_json(svc, job(r1)), *o2 = yd_service_job_json(svc, job(r2));
    CHECK(number_at(o1, "settings", "seed") != number_at(o2, "settings", "seed"));
    json_decref(o1);
    json_decref(o2);
    close_service();
}

static void limits(void)
{
    setup();
    cfg.max_pixels = 10000;
    cfg.max_output_pixels = 30000;
    cfg.queue_max = 2;
    cfg.max_running = 1;
    cfg.fake_unit_us = 20000;
    open_service();
    yd_job *j;
    CHECK(try_submit(101, 100, "", &j) == YD_E_IMAGE_TOO_LARGE && strstr(err.accepted, "10000"));
    CHECK(try_submit(90, 90, "", &j) == YD_E_IMAGE_TOO_LARGE && strstr(err.accepted, "7500"));
    CHECK(try_submit(8, 8, "", &j) == YD_E_IMAGE_TOO_SMALL);
    CHECK(submit_bytes(yd_strdup("no picture at all"), 17, "", &j) == YD_E_IMAGE_FORMAT);
    CHECK(yd_service_admit(svc, (size_t)cfg.max_body_bytes + 1, &err) == YD_E_BODY_TOO_LARGE &&
          strstr(err.detail, "33554432"));
    const char *running = submit(32, 32, "");
    submit(32, 32, "");
    submit(32, 32, "");
    CHECK(try_submit(32, 32, "", &j) == YD_E_QUEUE_FULL);
    CHECK(yd_service_admit(svc, 0, &err) == YD_E_QUEUE_FULL);
    CHECK(yd_service_retry_after_ms(svc) >= 1000);
    WAIT(ended(running));
    WAIT(yd_service_admit(svc, 0, &err) == 0);
    close_service();

    setup();
    cfg.max_memory_bytes = 1 << 20;
    open_service();
    CHECK(try_submit(400, 400, "", &j) == YD_E_IMAGE_TOO_LARGE && strstr(err.detail, "memory"));
    close_service();
}

// Where even one step is too much, fewer steps are no advice.
static void more_windows_than_units(void)
{
    setup();
    cfg.max_job_units = 3;
    open_service();
    yd_job *j;
    CHECK(try_submit(300, 300, "steps=1", &j) == YD_E_IMAGE_TOO_LARGE);
    CHECK_MSG(strcmp(err.field, "image") == 0 && *err.accepted && strstr(err.detail, "windows"), "%s: %s", err.field,
              err.detail);
    CHECK(try_submit(32, 32, "steps=4", &j) == YD_E_SETTING && strcmp(err.field, "steps") == 0);
    close_service();
}

static void damaged_picture(void)
{
    setup();
    open_service();
    void *bytes;
    size_t len;
    yd_job *j;
    picture(64, 64, 1, &bytes, &len);
    CHECK(submit_bytes(bytes, len / 2, "", &j) == 0); // its header is good
    char id[64];
    snprintf(id, sizeof id, "%s", yd_job_id(j));
    const char *good = submit(32, 32, "");
    WAIT(ended(id) && ended(good));
    CHECK(state(id) == YD_JOB_FAILED && state(good) == YD_JOB_SUCCEEDED);
    CHECK_MSG(strcmp(history(id), "qs-") == 0, "%s", history(id));
    CHECK(yd_job_problem(job(id))->code == YD_E_IMAGE);
    yd_blob *b;
    CHECK(yd_service_result(svc, job(id), &b, &err) == YD_E_IMAGE);
    CHECK(yd_service_cancel(svc, job(id), &err) == YD_E_CONFLICT);
    json_t *o = yd_service_job_json(svc, job(id));
    CHECK(json_object_get(json_object_get(o, "problem"), "detail") != NULL);
    json_decref(o);
    close_service();
}

// Batch mates, order and cancelled neighbours change no byte.
static void neighbours_do_not_matter(void)
{
    setup();
    cfg.max_running = 8;
    open_service();
    const char *alone = submit(90, 70, "seed=3 steps=6");
    WAIT(ended(alone));
    const char *mate[10];
    for (int i = 0; i < 10; i++)
        mate[i] = submit(i % 2 ? 90 : 50, i % 2 ? 70 : 120, i % 2 ? "seed=3 steps=6" : "steps=9");
    WAIT(state(mate[2]) == YD_JOB_RUNNING);
    CHECK(yd_service_cancel(svc, job(mate[2]), &err) == 0 && yd_service_cancel(svc, job(mate[2]), &err) == 0);
    CHECK(yd_service_cancel(svc, job(mate[9]), &err) == 0);
    for (int i = 0; i < 10; i++) WAIT(ended(mate[i]));
    for (int i = 1; i < 9; i += 2) CHECK(state(mate[i]) == YD_JOB_SUCCEEDED && same_result(alone, mate[i]));
    CHECK(state(mate[2]) == YD_JOB_CANCELLED && state(mate[9]) == YD_JOB_CANCELLED);
    CHECK(history(mate[2])[strlen(history(mate[2])) - 1] == 'x');
    yd_blob *b;
    CHECK(yd_service_result(svc, job(mate[2]), &b, &err) == YD_E_CANCELLED);
    close_service();
}

static void short_jobs_overtake_long_ones(void)
{
    setup();
    cfg.fake_unit_us = 1000;
    cfg.max_batch = 1;
    open_service();
    const char *longer = submit(120, 120, "steps=200"); // thousands of units
    WAIT(strchr(history(longer), '.'));
    const char *shorter = submit(32, 32, "steps=4");
    WAIT(ended(shorter));
    CHECK(state(shorter) == YD_JOB_SUCCEEDED && state(longer) == YD_JOB_RUNNING);
    json_t *o = yd_service_job_json(svc, job(longer));
    CHECK(number_at(o, "queue", "eta_s") > 0.1 && number_at(o, "queue", "position") == 0);
    json_decref(o);
    // A cancelled job lets go within one unit: the next one is done long before the long one could have been.
    int64_t t0 = yd_mono_us();
    CHECK(yd_service_cancel(svc, job(longer), &err) == 0);
    const char *next = submit(32, 32, "steps=4");
    WAIT(ended(next));
    CHECK(yd_mono_us() - t0 < 1000000);
    close_service();
}

static void ids_and_owners(void)
{
    setup();
    open_service();
    yd_job *j;
    const char *id = submit(32, 32, "");
    CHECK(strlen(id) == 36 && id[14] == '4');
    CHECK(yd_service_find(svc, "you", id, &j, &err) == YD_E_NOT_FOUND);
    CHECK(yd_service_find(svc, "me", "00000000-0000-4000-8000-000000000000", &j, &err) == YD_E_NOT_FOUND);
    yd_service_delete(svc, job(id)); // while it is under way
    CHECK(yd_service_find(svc, "me", id, &j, &err) == YD_E_GONE);
    const char *a = submit(32, 32, ""), *b = submit(32, 32, ""), *c = submit(32, 32, "");
    WAIT(ended(a) && ended(b) && ended(c));
    json_t *page;
    CHECK(yd_service_list(svc, "me", -1, NULL, 2, &page, &err) == 0);
    CHECK(json_array_size(json_object_get(page, "jobs")) == 2);
    CHECK(strcmp(json_string_value(json_object_get(json_array_get(json_object_get(page, "jobs"), 0), "id")), c) == 0);
    char cursor[32];
    snprintf(cursor, sizeof cursor, "%s", json_string_value(json_object_get(page, "next")));
    json_decref(page);
    CHECK(yd_service_list(svc, "me", YD_JOB_SUCCEEDED, cursor, 2, &page, &err) == 0);
    CHECK(json_array_size(json_object_get(page, "jobs")) == 1 && json_is_null(json_object_get(page, "next")));
    json_decref(page);
    CHECK(yd_service_list(svc, "you", -1, NULL, 2, &page, &err) == 0 &&
          json_array_size(json_object_get(page, "jobs")) == 0);
    json_decref(page);
    CHECK(yd_service_list(svc, "me", -1, "x1", 2, &page, &err) == YD_E_INVALID);
    CHECK(yd_service_list(svc, "me", -1, NULL, 201, &page, &err) == YD_E_SETTING);
    close_service();
}

typedef struct answer {
    int calls, rc;
    yd_blob *blob;
} answer;

static void on_picture(void *arg, int rc, yd_blob *blob, const yd_err *e)
{
    answer *a = arg;
    CHECK((rc == 0) == (e == NULL) && (rc == 0) == (blob != NULL));
    a->calls++;
    a->rc = rc;
    yd_blob_unref(a->blob);
    a->blob = blob;
}

// Ask, wait, decode: its width, or the error. *lit: pixels that are not black.
static int ask(const char *id, yd_picture_kind kind, int step, int max_side, int *lit)
{
    answer a = {0};
    yd_picture_want want = {kind, step, 0, max_side};
    int rc = yd_service_picture(svc, job(id), &want, on_picture, &a, NULL, &err);
    if (rc) return rc;
    CHECK(a.calls == 0); // never from inside
    WAIT(a.calls == 1);
    if (a.rc) return a.rc;
    yd_image im;
    yd_image_limits all = {1000000, 1, 10000, 1 << 30};
    rc = yd_image_decode(a.blob->bytes, a.blob->len, &all, &im, &err);
    CHECK(rc == 0);
    if (rc) return rc;
    *lit = 0;
    for (int i = 0; i < im.w * im.h; i++) *lit += im.rgb[3 * i] > 0;
    int w = im.w;
    yd_image_clear(&im);
    yd_blob_unref(a.blob);
    return w;
}

static void pictures(void)
{
    setup();
    cfg.fake_unit_us = 2000;
    cfg.max_running = 1;
    cfg.max_batch = 1;
    open_service();
    int lit, before = 0, masks[7];
    const char *id = submit(100, 80, "steps=6 lower_bound=0.2 preview_every=0"), *waits = submit(32, 32, "");
    CHECK(ask(waits, YD_PICTURE_PREVIEW, 0, 0, &lit) == YD_E_NOT_READY);
    CHECK(ask(waits, YD_PICTURE_MASK, 1, 0, &lit) == YD_E_NOT_READY);
    CHECK(ask(waits, YD_PICTURE_ATTENTION, 0, 0, &lit) == YD_E_NOT_READY);
    WAIT(strchr(history(id), 'a'));
    CHECK(ask(id, YD_PICTURE_PREVIEW, 0, 0, &lit) == 200); // although nobody is subscribed
    CHECK(state(id) == YD_JOB_RUNNING);
    CHECK(ask(id, YD_PICTURE_PREVIEW, 0, 50, &lit) == 50);
    CHECK(ask(id, YD_PICTURE_ATTENTION, 0, 0, &lit) == 200);
    for (int k = 1; k <= 6; k++) {
        CHECK(ask(id, YD_PICTURE_MASK, k, 0, &masks[k]) == 200);
        CHECK_MSG(masks[k] >= before, "mask %d has %d pixels, the one before %d", k, masks[k], before);
        before = masks[k];
    }
    CHECK(masks[1] < 200 * 160 && masks[6] == 200 * 160); // it grows, and at last everything is refined
    CHECK(ask(id, YD_PICTURE_MASK, 0, 0, &lit) == YD_E_SETTING && ask(id, YD_PICTURE_MASK, 7, 0, &lit) == YD_E_SETTING);
    WAIT(ended(id));
    WAIT(ended(waits)); // by then the first one's canvas is gone
    for (int k = 1; k <= 6; k++) {
        CHECK(ask(id, YD_PICTURE_MASK, k, 0, &lit) == 200);
        CHECK_MSG(lit == masks[k], "mask %d: %d, while it ran %d", k, lit, masks[k]);
    }
    CHECK(ask(id, YD_PICTURE_ATTENTION, 0, 0, &lit) == 200);
    CHECK(ask(id, YD_PICTURE_PREVIEW, 0, 0, &lit) == 200 && ask(id, YD_PICTURE_PREVIEW, 0, 64, &lit) == 64);
    CHECK(strchr(history(id), 'p') == NULL);
    close_service();
}

// A preview that is asked for comes even when the job ends first; a cancelled call is not answered.
static void picture_calls_end(void)
{
    setup();
    cfg.fake_unit_us = 30000;
    open_service();
    const char *id = submit(32, 32, "steps=3");
    answer a = {0}, b = {0}, c = {0};
    yd_picture_want want = {YD_PICTURE_PREVIEW, 0, 1, 0};
    yd_picture_call *call;
    WAIT(strchr(history(id), 'a'));
    CHECK(yd_service_picture(svc, job(id), &want, on_picture, &a, NULL, &err) == 0);
    CHECK(yd_service_picture(svc, job(id), &want, on_picture, &b, &call, &err) == 0);
    yd_picture_cancel(call);
    CHECK(yd_service_cancel(svc, job(id), &err) == 0);
    WAIT(a.calls == 1);
    CHECK(a.rc == YD_E_CANCELLED);
    CHECK(yd_service_picture(svc, job(id), &want, on_picture, &c, NULL, &err) == YD_E_CANCELLED || c.calls == 0);
    close_service();
    CHECK(b.calls == 0);
    yd_blob_unref(c.blob);
}

static int notified;
static void on_notify(void *arg)
{
    (void)arg;
    notified++;
}

// Who only waits for the end has no use for previews, so none are drawn.
static void no_previews_for_waiters(void)
{
    setup();
    open_service();
    const char *id = submit(64, 64, "steps=12 preview_max_side=32");
    yd_subscription *sub;
    CHECK(yd_events_subscribe(yd_job_events(job(id)), 0, on_notify, NULL, &sub, &err) == 0);
    WAIT(ended(id));
    CHECK_MSG(strcmp(history(id), "qsa............+") == 0, "%s", history(id));
    yd_events_unsubscribe(sub);
    close_service();
}

static int has_steps(const char *id, int n)
{
    int seen = 0;
    for (const char *h = history(id); *h; h++) seen += *h == '.';
    return seen == n;
}

// The state is final at once, whoever holds the job; the holder lets go later, and the next job gets the place.
static void cancelled_in_every_stage(void)
{
    static const char *const stages[] = {"queued", "preparing", "computing", "encoding", "archiving"};
    setup();
    cfg.fake_unit_us = 1000;
    cfg.max_running = 1;
    open_service();
    for (int stage = 0; stage < 5; stage++) {
        const char *blocker = stage == 0 ? submit(64, 64, "steps=30") : NULL, *id = submit(64, 64, "steps=5");
        if (stage == 1) WAIT(state(id) != YD_JOB_QUEUED); // the job before may still be putting its pictures away
        if (stage == 2) WAIT(strchr(history(id), '.'));
        if (stage == 3) WAIT(has_steps(id, 5));
        if (stage == 4) WAIT(ended(id));
        CHECK_MSG(state(id) == (stage == 0   ? YD_JOB_QUEUED
                                : stage == 4 ? YD_JOB_SUCCEEDED
                                             : YD_JOB_RUNNING),
                  "%s: %d", stages[stage], state(id));
        int rc = yd_service_cancel(svc, job(id), &err);
        if (stage == 4) {
            CHECK(rc == YD_E_CONFLICT && state(id) == YD_JOB_SUCCEEDED);
        } else {
            yd_blob *none = NULL;
            CHECK_MSG(rc == 0 && state(id) == YD_JOB_CANCELLED, "%s: %d", stages[stage], rc);
            CHECK_MSG(history(id)[strlen(history(id)) - 1] == 'x', "%s: %s", stages[stage], history(id));
            CHECK(yd_service_result(svc, job(id), &none, &err) == YD_E_CANCELLED && !none);
            CHECK(yd_service_cancel(svc, job(id), &err) == 0); // again: no error, no second event
        }
        if (blocker) yd_service_delete(svc, job(blocker));
        const char *next = submit(32, 32, "steps=1");
        WAIT(ended(next));
        CHECK_MSG(state(next) == YD_JOB_SUCCEEDED, "after %s", stages[stage]);
        const char *h = history(id);
        CHECK_MSG(strchr(h, 'x') == (stage == 4 ? NULL : h + strlen(h) - 1), "%s: %s", stages[stage], h);
        yd_service_delete(svc, job(id));
    }
    close_service();
}

static const char *victim;
static void on_started(void *arg)
{
    (void)arg;
    if (victim && job(victim)) yd_service_delete(svc, job(victim));
    victim = NULL;
}

// A job lets go of its place, the next one starts, and a reader of its events deletes the first at that very moment.
static void deleted_while_it_lets_go(void)
{
    setup();
    cfg.fake_unit_us = 20000;
    cfg.max_running = 1;
    open_service();
    const char *first = submit(64, 64, "steps=50"), *second = submit(32, 32, "steps=1");
    yd_subscription *sub;
    WAIT(strchr(history(first), 'a'));
    CHECK(yd_service_subscribe(svc, job(second), on_started, NULL, &sub, &err) == 0);
    victim = first;
    CHECK(yd_service_cancel(svc, job(first), &err) == 0);
    WAIT(ended(second));
    CHECK(victim == NULL && !job(first) && state(second) == YD_JOB_SUCCEEDED);
    yd_events_unsubscribe(sub);
    close_service();
}

static void previews_for_subscribers(void)
{
    setup();
    cfg.fake_unit_us = 5000;
    open_service();
    notified = 0;
    const char *id = submit(64, 64, "steps=12 preview_max_side=32");
    yd_subscription *sub;
    CHECK(yd_service_subscribe(svc, job(id), on_notify, NULL, &sub, &err) == 0);
    yd_event_log *log = yd_subscription_log(sub);
    uint64_t first = yd_events_last_id(log);
    WAIT(ended(id));
    int previews = 0;
    uint64_t after = 0;
    for (const yd_event *e; (e = yd_events_next(log, after, NULL)); after = e->id)
        if (e->type == YD_EVENT_PREVIEW) {
            previews++;
            CHECK(e->blob && e->blob->width == 32 && strcmp(e->blob->mime, "image/jpeg") == 0);
        }
    CHECK_MSG(previews >= 1 && previews <= 3, "%d previews", previews);
    CHECK((uint64_t)notified == yd_events_last_id(log) - first);
    yd_service_delete(svc, job(id));
    CHECK(yd_events_closed(log) && yd_events_ended(log));
    yd_events_unsubscribe(sub);
    close_service();
}

static void device_failures(void)
{
    setup();
    cfg.max_batch = 1;
    cfg.fake_nan_at = 3;
    open_service();
    const char *bad = submit(32, 32, ""), *good = submit(32, 32, "steps=40");
    WAIT(ended(bad) && ended(good));
    int failed = (state(bad) == YD_JOB_FAILED) + (state(good) == YD_JOB_FAILED);
    CHECK(failed == 1); // one unit was spoilt: one job
    const char *which = state(bad) == YD_JOB_FAILED ? bad : good;
    CHECK(yd_job_problem(job(which))->code == YD_E_NUMERIC);
    close_service();

    setup();
    cfg.max_batch = 1;
    cfg.fake_fail_at = 2;
    open_service();
    bad = submit(32, 32, "");
    WAIT(ended(bad));
    CHECK(state(bad) == YD_JOB_FAILED && yd_job_problem(job(bad))->code == YD_E_DEVICE);
    good = submit(32, 32, "");
    WAIT(ended(good));
    CHECK(state(good) == YD_JOB_SUCCEEDED && yd_service_ready(svc, NULL));
    close_service();
}

static int drained, watched;
static void on_drained(void *arg)
{
    (void)arg;
    drained++;
}
static void on_drain(void *arg)
{
    (void)arg;
    watched++;
}

static void draining(void)
{
    setup();
    cfg.fake_unit_us = 3000;
    cfg.max_running = 1;
    open_service();
    drained = watched = 0;
    const char *id = submit(64, 64, "steps=10"), *next = submit(32, 32, "");
    yd_job *j;
    yd_service_on_drain(svc, on_drain, NULL);
    yd_service_drain(svc, 0, on_drained, NULL);
    CHECK(watched == 1 && drained == 0 && !yd_service_ready(svc, NULL) && yd_service_draining(svc));
    CHECK(try_submit(32, 32, "", &j) == YD_E_DRAINING);
    WAIT(drained == 1);
    CHECK(state(id) == YD_JOB_SUCCEEDED && state(next) == YD_JOB_SUCCEEDED);
    close_service();

    cfg.drain_timeout_ms = 50;
    open_service();
    drained = 0;
    id = submit(120, 120, "steps=500");
    yd_service_drain(svc, 0, on_drained, NULL);
    WAIT(drained == 1);
    CHECK(state(id) == YD_JOB_CANCELLED);
    close_service();

    cfg.drain_timeout_ms = 600000;
    open_service();
    drained = 0;
    id = submit(120, 120, "steps=500");
    next = submit(120, 120, "steps=500");
    yd_service_drain(svc, 0, on_drained, NULL);
    yd_service_drain(svc, 1, NULL, NULL); // the second signal
    WAIT(drained == 1);
    CHECK(state(id) == YD_JOB_CANCELLED && state(next) == YD_JOB_CANCELLED);
    close_service();

    open_service();
    drained = 0;
    yd_service_drain(svc, 0, on_drained, NULL); // nothing to do, but not from inside either
    CHECK(drained == 0);
    WAIT(drained == 1);
    close_service();
}

static void finished_jobs_expire(void)
{
    setup();
    cfg.max_finished_jobs = 2;
    open_service();
    yd_job *j;
    const char *id[4];
    for (int i = 0; i < 4; i++) { // one after the other, so that it is known which ended first
        id[i] = submit(32, 32, "");
        WAIT(ended(id[i]) || i == 3);
    }
    WAIT(yd_service_find(svc, "me", id[1], &j, &err) == YD_E_GONE); // the sweep comes once a second
    CHECK(yd_service_find(svc, "me", id[0], &j, &err) == YD_E_GONE);
    CHECK(job(id[2]) && job(id[3]));
    close_service();
}

static void close_in_the_middle(void)
{
    for (int delay = 0; delay < 12; delay++) {
        setup();
        cfg.fake_unit_us = 1000;
        open_service();
        for (int i = 0; i < 6; i++) submit(60, 60, "steps=50");
        answer a = {0};
        yd_picture_want want = {YD_PICTURE_PREVIEW, 0, 0, 0};
        int64_t until = yd_mono_us() + delay * 3000;
        while (yd_mono_us() < until) uv_run(&loop, UV_RUN_NOWAIT);
        const char *id = submit(60, 60, "");
        yd_service_picture(svc, job(id), &want, on_picture, &a, NULL, &err);
        close_service();
        yd_blob_unref(a.blob);
    }
}

static void out_of_memory(void)
{
    setup();
    open_service();
    int refused = 0, taken = 0;
    for (long k = 1; k < 60; k++) {
        void *bytes;
        size_t len;
        yd_job *j = NULL;
        picture(32, 32, 0, &bytes, &len);
        yd_mem_fail_at(k);
        int rc = submit_bytes(bytes, len, "", &j);
        yd_mem_fail_at(0);
        CHECK_MSG(rc == 0 || rc == YD_E_NOMEM, "%d %s", rc, err.detail);
        refused += rc != 0;
        taken += rc == 0;
        if (rc) continue;
        char id[64];
        snprintf(id, sizeof id, "%s", yd_job_id(j));
        WAIT(ended(id)); // one way or the other
    }
    CHECK(refused >= 3 && taken >= 3);
    const char *id = submit(32, 32, "");
    WAIT(ended(id));
    CHECK(state(id) == YD_JOB_SUCCEEDED);
    close_service();
}

static void reports(void)
{
    setup();
    open_service();
    const char *id = submit(32, 32, "");
    WAIT(ended(id));
    json_t *o = NULL;
    CHECK(yd_service_ready(svc, &o) == 1 && json_is_true(json_object_get(o, "ready")));
    json_decref(o);
    o = yd_service_capabilities(svc);
    CHECK(json_array_size(json_object_get(o, "attention")) > 0 && json_array_size(json_object_get(o, "settings")) > 10);
    CHECK(number_at(o, "limits", "max_pixels") == 4194304 && number_at(o, "defaults", "steps") == 4);
    json_decref(o);
    o = yd_service_models(svc);
    CHECK(number_at(json_array_get(json_object_get(o, "models"), 0), "memory", "weights_bytes") == 0);
    CHECK(json_integer_value(json_object_get(json_array_get(json_object_get(o, "models"), 0), "window")) == 64);
    json_decref(o);
    size_t len;
    yd_metrics_rejected(yd_service_metrics(svc), "queue-full");
    char *text = yd_service_metrics_text(svc, &len);
    CHECK(text && strlen(text) == len);
    const char *lines[] = {"yodad_jobs_total{model=\"fake-2x\",outcome=\"succeeded\"} 1\n",
                           "yodad_queue_depth 0\n",
                           "yodad_job_duration_seconds_count{stage=\"total\"} 1\n",
                           "yodad_step_duration_seconds_count 4\n",
                           "yodad_rejected_total{reason=\"queue-full\"} 1\n",
                           "yodad_job_wait_seconds_bucket{le=\"+Inf\"} 1\n",
                           "yodad_windows_total{kind=\"run\"} 4\n",
                           "yodad_diffused_pixel_share_count 1\n"};
    for (size_t i = 0; text && i < sizeof lines / sizeof lines[0]; i++)
        CHECK_MSG(strstr(text, lines[i]), "no %s", lines[i]);
    yd_free(text);
    close_service();
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"service: a job from picture to picture", succeeds},
        {"service: settings", settings},
        {"service: limits", limits},
        {"service: more windows than units", more_windows_than_units},
        {"service: a damaged picture fails alone", damaged_picture},
        {"service: neighbours change no byte", neighbours_do_not_matter},
        {"service: short jobs overtake long ones, cancelling is quick", short_jobs_overtake_long_ones},
        {"service: ids, owners, deletion, listing", ids_and_owners},
        {"service: previews, maps and masks on demand", pictures},
        {"service: picture calls when the job ends", picture_calls_end},
        {"service: previews in the event stream", previews_for_subscribers},
        {"service: who only waits for the end has no previews drawn", no_previews_for_waiters},
        {"service: cancelled in every stage", cancelled_in_every_stage},
        {"service: a job deleted while it lets go of its place", deleted_while_it_lets_go},
        {"service: device failures", device_failures},
        {"service: drain", draining},
        {"service: finished jobs expire", finished_jobs_expire},
        {"service: closed in the middle", close_in_the_middle},
        {"service: no memory", out_of_memory},
        {"service: reports", reports},
    };
    yd_log_set_level("error");
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
