// Several devices, and devices that fail: the same bytes wherever a unit ran, jobs that go on elsewhere or later, and what is said of it.
#include "daemon/device.h"
#include "tests/unit/service_rig.h"

#include <unistd.h>

static char fail_path[64];

static void order(const char *words)
{
    char tmp[80];
    snprintf(tmp, sizeof tmp, "%s.new", fail_path);
    FILE *f = fopen(tmp, "w");
    CHECK(f && fputs(words, f) >= 0 && fclose(f) == 0 && rename(tmp, fail_path) == 0);
}

// A service with so many devices, which are quick to come back.
static void devices(int n)
{
    char word[24];
    setup();
    snprintf(word, sizeof word, "fake:%d", n);
    yd_config_set(&cfg, "device", word, NULL);
    cfg.device_retry_ms = 10;
    cfg.device_retry_max_ms = 40;
    cfg.content_cache = 0;
    cfg.max_running = 16;
    snprintf(fail_path, sizeof fail_path, "/tmp/yodad-devices-%d", (int)getpid());
    unlink(fail_path);
    yd_config_set(&cfg, "fake_fail_file", fail_path, NULL);
}

static void end(void)
{
    close_service();
    unlink(fail_path);
}

#define MANY 8

// Jobs of several windows and steps, all at a time: what each comes to.
static void compute(uint64_t sum[MANY])
{
    const char *ids[MANY];
    for (int i = 0; i < MANY; i++) {
        char settings[64];
        snprintf(settings, sizeof settings, "steps=%d seed=%d lower_bound=1", 4 + i % 3, i);
        WAIT(yd_service_ready(svc, NULL)); // a device may fail already
        ids[i] = submit(34 + 4 * i, 64, settings);
    }
    for (int i = 0; i < MANY; i++) {
        WAIT(ended(ids[i]));
        CHECK_MSG(state(ids[i]) == YD_JOB_SUCCEEDED, "job %d: %s", i, yd_job_problem(job(ids[i])) ? yd_job_problem(job(ids[i]))->detail : "");
        sum[i] = state(ids[i]) == YD_JOB_SUCCEEDED ? digest(ids[i]) : 0;
    }
}

// What one device makes of them that never fails; a service of its own, the first time.
static const uint64_t *known(void)
{
    static uint64_t sum[MANY];
    if (!sum[0]) {
        devices(1);
        open_service();
        compute(sum);
        end();
    }
    return sum;
}

static void the_same_bytes(void)
{
    uint64_t sum[MANY];
    known();
    for (int pays = 0; pays < 2; pays++) {
        devices(4);
        cfg.fake_unit_us = 300;
        cfg.fake_batch_us = pays ? 300 : 0;
        open_service();
        CHECK(yd_service_ready(svc, NULL));
        compute(sum);
        CHECK(memcmp(sum, known(), sizeof sum) == 0);
        for (int i = 0; i < 4; i++) submit(40, 40, "steps=4000 lower_bound=1"); // as many as devices, each for one of them
        for (int i = 0; i < 4; i++) {
            char name[24];
            snprintf(name, sizeof name, "fake:%d", i);
            WAIT(number_of(name, "units") > 0);
            CHECK(number_of(name, "failures") == 0);
        }
        end();
    }
}

// The first fails in the middle of a run, once; the others have its jobs, or it has them later.
static void a_run_fails(void)
{
    uint64_t sum[MANY];
    known();
    for (int n = 1; n < 4; n += 2)
        for (int at = 2; at < 12; at += 3) {
            devices(n);
            cfg.fake_fail_at = at;
            open_service();
            compute(sum);
            CHECK_MSG(memcmp(sum, known(), sizeof sum) == 0, "%d devices, run %d", n, at);
            CHECK(number_of("fake:0", "failures") == 1 || n > 1); // or the others have had all of the work
            CHECK(number_of("fake:0", "failures") <= 1 && number_of("fake:2", "failures") == 0);
            WAIT(is_in_state("fake:0", "in-service") && yd_service_ready(svc, NULL));
            end();
        }
}

static void none_is_left(void)
{
    devices(2);
    cfg.fake_unit_us = 2000;
    open_service();
    const char *id = submit(64, 64, "steps=60 seed=1 lower_bound=1");
    yd_job *j;
    WAIT(strchr(history(id), '.'));
    order("0 lost\n1 lost\n");
    WAIT(!yd_service_ready(svc, NULL) && is_in_state("fake:0", "out-of-service")); // the other one tried to go on with it
    const char *waits = try_submit(32, 32, "", &j) == YD_E_DEVICE ? NULL : "taken";
    if (waits) WAIT(try_submit(32, 32, "", &j) == YD_E_DEVICE); // it failed only then
    CHECK_MSG(strstr(err.detail, "no compute device is in service"), "%s", err.detail);
    json_t *report = NULL;
    CHECK(yd_service_ready(svc, &report) == 0);
    CHECK(strcmp(json_string_value(json_object_get(report, "device")), "out-of-service") == 0);
    CHECK(strstr(json_string_value(json_object_get(report, "problem")), "fake device") != NULL);
    json_decref(report);
    CHECK(!ended(id));
    order("");
    WAIT(yd_service_ready(svc, NULL));
    WAIT(ended(id));
    CHECK(state(id) == YD_JOB_SUCCEEDED);
    end();
}

// What no device can bear fails after three runs of its own, and takes nobody along.
static void a_job_no_device_can_bear(void)
{
    devices(1);
    open_service();
    order("0 nomem\n");
    const char *id = submit(64, 64, "");
    WAIT(ended(id));
    CHECK(state(id) == YD_JOB_FAILED && yd_job_problem(job(id))->code == YD_E_NOMEM);
    CHECK_MSG(number_of("fake:0", "failures") == 3, "%ld failures", number_of("fake:0", "failures"));
    order("");
    WAIT(yd_service_ready(svc, NULL));
    const char *next = submit(64, 64, "");
    WAIT(ended(next));
    CHECK(state(next) == YD_JOB_SUCCEEDED && is_in_state("fake:0", "in-service"));
    end();
}

// One that cannot be opened at the start is left waiting; without any the server does not start.
static const char *broken_why;
static void on_broken(void *arg, const yd_err *why)
{
    (void)arg;
    static char text[sizeof why->detail];
    snprintf(text, sizeof text, "%s", why->detail);
    broken_why = text;
}

static void the_start(void)
{
    devices(2);
    order("1 lost\n");
    open_service();
    CHECK(is_in_state("fake:0", "in-service") && !is_in_state("fake:1", "in-service"));
    order("");
    WAIT(is_in_state("fake:1", "in-service"));
    end();

    devices(2);
    order("0 lost\n1 lost\n");
    uv_loop_init(&loop);
    uv_timer_init(&loop, &ticker);
    uv_timer_start(&ticker, on_tick, 5, 5);
    closed = 0;
    broken_why = NULL;
    CHECK(yd_service_open(&loop, &cfg, &svc, &err) == 0);
    yd_service_on_broken(svc, on_broken, NULL);
    WAIT(broken_why);
    CHECK_MSG(strstr(broken_why, "is not there"), "%s", broken_why);
    end();
}

static int has_devices(const char *model, size_t n)
{
    json_t *o = NULL;
    CHECK(yd_service_model(svc, model, &o, &err) == 0);
    const int same = json_array_size(json_object_get(o, "devices")) == n;
    json_decref(o);
    return same;
}

// Models come to every device, also to one that was away, and leave every one.
static void models_come_back(void)
{
    devices(2);
    cfg.fake_models = 2;
    yd_config_set(&cfg, "models", "all", NULL);
    open_service();
    CHECK(has_devices("fake-2x", 2) && has_devices("fake-2x-2", 2));
    WAIT(number_of("fake:1", "failures") == 0 && is_in_state("fake:1", "in-service"));
    order("1 lost\n");
    while (is_in_state("fake:1", "in-service")) {
        const char *a = submit(64, 64, "model=fake-2x-2"), *b = submit(64, 64, "");
        WAIT(ended(a) && ended(b));
        CHECK(state(a) == YD_JOB_SUCCEEDED && state(b) == YD_JOB_SUCCEEDED);
    }
    CHECK(has_devices("fake-2x", 1) && has_devices("fake-2x-2", 1) && yd_service_ready(svc, NULL));
    yd_service_model_unload(svc, "fake-2x-2", &err);
    WAIT(yd_service_model_settled(svc, "fake-2x-2", &err) == 1);
    order("");
    WAIT(has_devices("fake-2x", 2));
    yd_service_model_load(svc, "fake-2x-2", &err);
    WAIT(yd_service_model_settled(svc, "fake-2x-2", &err) == 1 && has_devices("fake-2x-2", 2));
    end();
}

// The only device fails, and when it is back the file of the model is not that which its jobs were taken for.
static void a_version_is_lost(void)
{
    devices(1);
    cfg.fake_unit_us = 1000;
    open_service();
    const char *id = submit(40, 40, "steps=4000 lower_bound=1");
    WAIT(strchr(history(id), '.'));
    order("0 lost\n");
    WAIT(!yd_service_ready(svc, NULL));
    CHECK(!ended(id));
    order("1 renewed\n");
    WAIT(ended(id));
    CHECK(state(id) == YD_JOB_FAILED && yd_job_problem(job(id))->code == YD_E_DEVICE);
    CHECK_MSG(strstr(yd_job_problem(job(id))->detail, "is not there any more"), "%s", yd_job_problem(job(id))->detail);
    WAIT(yd_service_ready(svc, NULL)); // with the new version
    id = submit(40, 40, "steps=4");
    WAIT(ended(id));
    CHECK(state(id) == YD_JOB_SUCCEEDED && has_devices("fake-2x", 1));
    end();
}

static int metric_is(const char *line)
{
    size_t len;
    char *text = yd_service_metrics_text(svc, &len);
    const int there = text && strstr(text, line) != NULL;
    yd_free(text);
    return there;
}

// One that would give other bytes is left out for good.
static void one_is_not_like_the_first(void)
{
    devices(3);
    order("1 other\n");
    open_service();
    WAIT(is_in_state("fake:1", "left-out") && is_in_state("fake:2", "in-service"));
    WAIT(metric_is("yodad_device_own_memory_bytes{kind=\"free\",device=\"fake:2\"}"));
    CHECK(!metric_is("device=\"fake:1\"} 1073741824")); // no figures of what is not used
    CHECK(has_devices("fake-2x", 2));
    uint64_t sum[MANY];
    compute(sum);
    CHECK(number_of("fake:1", "units") == 0 && yd_service_ready(svc, NULL));
    end();
}

static void memory_figures(void)
{
    devices(2);
    cfg.fake_models = 2;
    yd_config_set(&cfg, "models", "all", NULL);
    open_service();
    WAIT(metric_is("yodad_device_own_memory_bytes{kind=\"weights\",device=\"fake:1\"} 2097152\n"));
    CHECK(metric_is("yodad_device_own_memory_bytes{kind=\"total\",device=\"fake:0\"} 1073741824\n"));
    CHECK(metric_is("yodad_device_up{device=\"fake:1\"} 1\n") && metric_is("yodad_device_failures_total{device=\"fake:1\"} 0\n"));
    yd_service_model_unload(svc, "fake-2x-2", &err);
    WAIT(metric_is("yodad_device_own_memory_bytes{kind=\"weights\",device=\"fake:1\"} 1048576\n"));
    json_t *all = yd_service_models(svc), *second = json_array_get(json_object_get(all, "devices"), 1);
    CHECK(number_at(second, "memory", "weights_bytes") == 1048576 && number_at(second, "memory", "free_bytes") == 1073741824 - 1048576);
    json_decref(all);
    end();
}

// Devices that work, and one that fails again and again, while the service is closed.
static void closed_in_the_middle(void)
{
    for (int i = 0; i < 6; i++) {
        devices(3);
        cfg.fake_unit_us = 500;
        open_service();
        order("1 lost\n2 nomem\n");
        for (int k = 0; k < 6; k++) submit(64, 64, "steps=50");
        const int64_t until = yd_mono_us() + i * 4000;
        while (yd_mono_us() < until) uv_run(&loop, UV_RUN_ONCE);
        end();
    }
}

// Engines are measured where the result is nobody else's concern, or where that was asked for.
static void measured_engines(void)
{
    static const struct {
        const char *tuning, *store;
        int ms;
    } want[] = {{"auto", "", 700}, {"auto", "redis://127.0.0.1", 0}, {"on", "redis://127.0.0.1", 700}, {"off", "", 0}, {"off", "redis://127.0.0.1", 0}};
    yd_config c;
    yd_config_init(&c);
    CHECK(yd_device_tune_ms(&c) == 20000);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        CHECK(yd_config_set(&c, "tuning", want[i].tuning, NULL) == 0 && yd_config_set(&c, "store", want[i].store, NULL) == 0 &&
              yd_config_set(&c, "tuning_ms", "700", NULL) == 0);
        CHECK_MSG(yd_device_tune_ms(&c) == want[i].ms, "%s with '%s'", want[i].tuning, want[i].store);
    }
    CHECK(yd_config_set(&c, "tuning", "maybe", NULL) != 0);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"devices: the same bytes on any of them", the_same_bytes},
        {"devices: whose engines are measured", measured_engines},
        {"devices: a run fails, and jobs go on", a_run_fails},
        {"devices: none is left, for a while", none_is_left},
        {"devices: a job that none can bear", a_job_no_device_can_bear},
        {"devices: some or none at the start", the_start},
        {"devices: models come back", models_come_back},
        {"devices: a version is lost", a_version_is_lost},
        {"devices: one is not like the first", one_is_not_like_the_first},
        {"devices: memory figures", memory_figures},
        {"devices: closed in the middle", closed_in_the_middle},
    };
    yd_log_set_level("error");
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
