// What the service does for its callers, on the fake device: everything real but the network's arithmetic.
#include "tests/unit/service_rig.h"

#include <math.h>

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
    CHECK(yd_image_decode(b->bytes, b->len, &all, NULL, &im, &err) == 0 && im.w == 80 && im.h == 60);
    yd_image_clear(&im);
    yd_service_delete(svc, job(id), NULL, NULL, &err); // a download goes on
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
    refuses("scale=9", "scale");
    refuses("scale=2x", "scale");
    refuses("model=none", "model");
    refuses("steps=0", "steps");
    refuses("steps=101", "steps"); // a bound of this daemon
    refuses("format=gif", "format");
    refuses("encode_quality=0", "encode_quality");
    refuses("encode_quality=1.5", "encode_quality");
    refuses("quality=90", "quality");
    CHECK_MSG(strstr(err.accepted, "fast, balanced, best") && strstr(err.detail, "encode_quality"), "'%s' / '%s'", err.accepted, err.detail);
    refuses("quality=Best", "quality");
    refuses("preview_max_side=3", "preview_max_side");
    refuses("attention=none-such", "attention");
    refuses("fidelity=1.5", "fidelity");
    refuses("allocation=early", "allocation");
    refuses("dtype=f16", "dtype");
    refuses("dtype=bf16", "dtype"); // this daemon has f32 alone
    CHECK(strcmp(err.accepted, "auto, f32") == 0);
    const char *id = submit(32, 32, "model=fake-2x scale=2 format=jpg encode_quality=50 seed=18446744073709551615");
    json_t *o = yd_service_job_json(svc, job(id));
    CHECK(strcmp(json_string_value(json_object_get(json_object_get(o, "settings"), "seed")), "18446744073709551615") ==
          0);
    CHECK(number_at(o, "settings", "encode_quality") == 50);
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

// A quality stands for the model's settings; what is said beside it wins, wherever it stands.
static void quality_is_a_profile(void)
{
    setup();
    open_service();
    static const struct {
        const char *asked, *quality;
        double steps, bound;
    } cases[] = {{"", "balanced", 4, 0.4},           {"quality=fast", "fast", 2, 0.4},
                 {"quality=best", "best", 8, 1},     {"steps=3 quality=best", "best", 3, 1},
                 {"quality=best steps=3", "best", 3, 1}, {"lower_bound=0.1 quality=fast seed=5", "fast", 2, 0.1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *id = submit(32, 32, cases[i].asked);
        json_t *o = yd_service_job_json(svc, job(id)), *set = json_object_get(o, "settings");
        CHECK_MSG(strcmp(json_string_value(json_object_get(set, "quality")), cases[i].quality) == 0, "%s", cases[i].asked);
        CHECK_MSG(number_at(o, "settings", "steps") == cases[i].steps && number_at(o, "settings", "lower_bound") == cases[i].bound, "%s: %g, %g",
                  cases[i].asked, number_at(o, "settings", "steps"), number_at(o, "settings", "lower_bound"));
        json_decref(o);
        WAIT(ended(id));
        CHECK(state(id) == YD_JOB_SUCCEEDED);
    }
    close_service();
}

// Batch mates, order and cancelled neighbours change no byte.
static void neighbours_do_not_matter(void)
{
    setup();
    cfg.max_running = 8;
    cfg.fake_unit_us = 100; // the first of them are still there when the last arrive
    open_service();
    const char *alone = submit(90, 70, "seed=3 steps=6");
    WAIT(ended(alone));
    const char *mate[10];
    for (int i = 0; i < 10; i++)
        mate[i] = submit(i % 2 ? 90 : 50, i % 2 ? 70 : 120, i == 2 || i == 9 ? "steps=600" : i % 2 ? "seed=3 steps=6" : "steps=9");
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

// Two engines at a time: each job is computed by its own, whoever else is under way.
static void types_by_request(void)
{
    setup();
    cfg.max_running = 8;
    CHECK(yd_config_set(&cfg, "dtype", "f32,bf16", NULL) == 0);
    open_service();
    const char *f32 = submit(90, 70, "seed=3 dtype=f32");
    WAIT(ended(f32));
    const char *bf16 = submit(90, 70, "seed=3 dtype=bf16");
    WAIT(ended(bf16));
    CHECK(!same_result(f32, bf16) && strcmp(yd_job_fingerprint(job(f32)), yd_job_fingerprint(job(bf16))) != 0);
    static const char *const asked[] = {"seed=3 dtype=f32", "seed=3 dtype=bf16", "seed=3", "seed=3 dtype=auto"};
    const char *mate[8];
    for (int i = 0; i < 8; i++) mate[i] = submit(90, 70, asked[i % 4]);
    for (int i = 0; i < 8; i++) WAIT(ended(mate[i]));
    for (int i = 0; i < 8; i++) {
        const char *like = i % 4 == 1 ? bf16 : f32; // f32 stands first: who does not ask gets it
        CHECK_MSG(same_result(like, mate[i]), "%s", asked[i % 4]);
        CHECK(strcmp(yd_job_fingerprint(job(like)), yd_job_fingerprint(job(mate[i]))) == 0);
        json_t *o = yd_service_job_json(svc, job(mate[i]));
        const char *used = json_string_value(json_object_get(json_object_get(o, "settings"), "dtype"));
        CHECK(used && strcmp(used, like == f32 ? "f32" : "bf16") == 0);
        json_decref(o);
    }
    close_service();
}

static double first_eta_s(const char *id)
{
    const yd_event *e = yd_events_next(yd_job_events(job(id)), 0, NULL);
    json_t *o = json_loads(e->data, 0, NULL);
    const double eta_s = e->type == YD_EVENT_QUEUED ? json_number_value(json_object_get(o, "eta_s")) : -1;
    json_decref(o);
    return eta_s;
}

// Until something was measured an estimate counts what the device said; afterwards decoding, maps and encoding too, by pixel.
static void estimates(void)
{
    setup();
    cfg.fake_unit_us = 100;
    open_service();
    const char *one = submit(200, 160, "steps=2");
    CHECK(fabs(first_eta_s(one) - 8 * 7 * 2 * 100e-6) < 1e-9); // windows of 64 that share 16, two steps
    WAIT(ended(one));
    json_t *o = yd_service_models(svc), *first = yd_service_job_json(svc, job(one));
    const double unit_s = json_number_value(json_object_get(json_array_get(json_object_get(o, "models"), 0), "unit_ms")) / 1000;
    const double rest_s = (number_at(first, "timings", "prepare_ms") + number_at(first, "timings", "encode_ms")) / 1000;
    CHECK(rest_s > 0.001);
    const char *twice = submit(400, 160, "steps=2");
    const double want = 17 * 7 * 2 * unit_s + 2 * rest_s, got = first_eta_s(twice);
    CHECK_MSG(fabs(got - want) < 2e-6, "%g s, not %g", got, want);
    json_decref(o);
    json_decref(first);
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
    yd_service_delete(svc, job(id), NULL, NULL, &err); // while it is under way
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
    rc = yd_image_decode(a.blob->bytes, a.blob->len, &all, NULL, &im, &err);
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
    yd_service_delete(svc, job(id), NULL, NULL, &err);
    CHECK(yd_events_closed(log) && yd_events_ended(log));
    yd_events_unsubscribe(sub);
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
    CHECK(number_at(json_array_get(json_object_get(o, "models"), 0), "memory", "weights_bytes") == 1 << 20);
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
        {"service: a quality is a profile, which explicit settings win over", quality_is_a_profile},
        {"service: a damaged picture fails alone", damaged_picture},
        {"service: neighbours change no byte", neighbours_do_not_matter},
        {"service: types by request", types_by_request},
        {"service: estimates", estimates},
        {"service: short jobs overtake long ones, cancelling is quick", short_jobs_overtake_long_ones},
        {"service: ids, owners, deletion, listing", ids_and_owners},
        {"service: previews, maps and masks on demand", pictures},
        {"service: picture calls when the job ends", picture_calls_end},
        {"service: previews in the event stream", previews_for_subscribers},
        {"service: who only waits for the end has no previews drawn", no_previews_for_waiters},
        {"service: reports", reports},
    };
    yd_log_set_level("error");
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
