// A service with several models on the fake device: loads between runs, versions held by jobs, demand, and what happens to all that at the end.
#include "tests/unit/service_rig.h"

#include <string.h>

static const char *state_of(const char *name)
{
    static char text[16];
    json_t *o = NULL;
    int rc = yd_service_model(svc, name, &o, &err);
    snprintf(text, sizeof text, "%s", rc ? "none" : json_string_value(json_object_get(o, "state")));
    json_decref(o);
    return text;
}

static int is(const char *name, const char *state)
{
    return strcmp(state_of(name), state) == 0;
}

static int settled(const char *name)
{
    return yd_service_model_settled(svc, name, &err);
}

static void all_at_the_start(void)
{
    setup();
    cfg.fake_models = 3;
    cfg.fake_load_us = 2000;
    yd_config_set(&cfg, "models", "all", NULL);
    open_service();
    CHECK(is("fake-2x", "resident") && is("fake-2x-2", "resident") && is("fake-2x-3", "resident")); // ready means that all are
    const char *a = submit(32, 32, "steps=3"), *b = submit(32, 32, "steps=3 model=fake-2x-2"), *c = submit(32, 32, "steps=3 model=fake-2x-2");
    WAIT(ended(a) && ended(b) && ended(c));
    CHECK(state(a) == YD_JOB_SUCCEEDED && !same_result(a, b) && same_result(b, c));
    yd_job *j;
    CHECK(try_submit(32, 32, "model=other", &j) == YD_E_SETTING && strcmp(err.field, "model") == 0 && strcmp(err.accepted, "fake-2x, fake-2x-2, fake-2x-3") == 0);
    close_service();
}

static void what_is_named_is_loaded_and_nothing_else(void)
{
    setup();
    cfg.fake_models = 3;
    yd_config_set(&cfg, "model", "fake-2x-2", NULL);
    yd_config_set(&cfg, "models", "fake-2x-3, fake-2x-2", NULL);
    open_service();
    CHECK(is("fake-2x", "available") && is("fake-2x-2", "resident") && is("fake-2x-3", "resident"));
    yd_job *j;
    CHECK(try_submit(32, 32, "model=fake-2x", &j) == YD_E_MODEL_AWAY && strcmp(err.accepted, "fake-2x-2, fake-2x-3") == 0);
    close_service();
}

// Jobs go on while a model comes: each waits for one step of it at most.
static void a_load_beside_jobs(void)
{
    setup();
    cfg.fake_models = 2;
    cfg.fake_load_us = 50000;
    open_service();
    const char *id = submit(120, 120, "steps=30 lower_bound=1");
    WAIT(state(id) == YD_JOB_RUNNING);
    CHECK(yd_service_model_load(svc, "fake-2x-2", &err) == 0 && is("fake-2x-2", "loading") && settled("fake-2x-2") == 0);
    CHECK(yd_service_model_load(svc, "nobody", &err) == YD_E_NOT_FOUND);
    WAIT(settled("fake-2x-2") == 1);
    CHECK(is("fake-2x-2", "resident"));
    const char *b = submit(32, 32, "model=fake-2x-2");
    WAIT(ended(id) && ended(b));
    CHECK(state(id) == YD_JOB_SUCCEEDED && state(b) == YD_JOB_SUCCEEDED);
    close_service();
}

static void draining(void)
{
    setup();
    cfg.fake_models = 2;
    cfg.fake_unit_us = 1000;
    cfg.max_running = 1;
    yd_config_set(&cfg, "models", "all", NULL);
    open_service();
    const char *b = submit(64, 64, "model=fake-2x-2 steps=20 lower_bound=1"), *c = submit(32, 32, "model=fake-2x-2 steps=2");
    WAIT(state(b) == YD_JOB_RUNNING);
    CHECK(yd_service_model_unload(svc, "fake-2x-2", &err) == 0 && is("fake-2x-2", "draining") && settled("fake-2x-2") == 0);
    yd_job *j;
    CHECK(try_submit(32, 32, "model=fake-2x-2", &j) == YD_E_MODEL_AWAY);
    WAIT(ended(b) && ended(c));
    CHECK(state(b) == YD_JOB_SUCCEEDED && state(c) == YD_JOB_SUCCEEDED);
    WAIT(settled("fake-2x-2") == 1);
    CHECK(is("fake-2x-2", "available"));
    // Cancelled and deleted jobs let go of theirs too.
    CHECK(yd_service_model_load(svc, "fake-2x-2", &err) == 0);
    WAIT(settled("fake-2x-2") == 1);
    b = submit(64, 64, "model=fake-2x-2 steps=1000");
    WAIT(state(b) == YD_JOB_RUNNING);
    yd_service_model_unload(svc, "fake-2x-2", &err);
    CHECK(yd_service_delete(svc, job(b), NULL, NULL, &err) == 0);
    WAIT(is("fake-2x-2", "available"));
    close_service();
}

static void on_demand(void)
{
    setup();
    cfg.fake_models = 3;
    cfg.fake_load_us = 20000;
    cfg.load_on_demand = 1;
    open_service();
    CHECK(is("fake-2x-2", "available"));
    submitted first = {0}, second = {0}, third = {0}, gone = {0};
    submitted *who[] = {&first, &second, &third, &gone};
    const char *steps[] = {"2", "0", "2", "2"}, *models[] = {"fake-2x-2", "fake-2x-2", "fake-2x-3", "fake-2x-2"};
    yd_arrival *arrival = NULL;
    for (int i = 0; i < 4; i++) {
        yd_submission sub = {.settings = (yd_setting[]){{"model", models[i]}, {"steps", steps[i]}}, .n_settings = 2, .owner = "me"};
        picture(32, 32, i, &sub.bytes, &sub.len);
        CHECK(yd_service_submit(svc, &sub, on_submitted, who[i], &arrival, &err) == 0);
    }
    yd_arrival_abandon(arrival); // its client is gone before the model has come
    CHECK(is("fake-2x-2", "loading"));
    WAIT(first.calls && second.calls && third.calls);
    CHECK(first.rc == 0 && second.rc == YD_E_SETTING && third.rc == 0 && gone.calls == 0); // the third waits while the other model is loaded
    WAIT(ended(first.id));
    CHECK(state(first.id) == YD_JOB_SUCCEEDED && is("fake-2x-2", "resident"));
    close_service();
}

// Before it is ready nothing is taken away again that the start asks for.
static void not_while_it_starts(void)
{
    setup();
    cfg.fake_load_us = 10000;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &ticker);
    uv_timer_start(&ticker, on_tick, 5, 5);
    closed = 0;
    CHECK(yd_service_open(&loop, &cfg, &svc, &err) == 0);
    CHECK(yd_service_model_unload(svc, "fake-2x", &err) == YD_E_DEVICE);
    WAIT(yd_service_ready(svc, NULL));
    close_service();
}

// Whatever is under way, a service can be closed.
static void closed_in_the_middle(void)
{
    for (int wait_ms = 0; wait_ms < 60; wait_ms += 7) {
        setup();
        cfg.fake_models = 3;
        cfg.fake_load_us = 10000;
        cfg.load_on_demand = 1;
        open_service();
        submitted waits = {0};
        yd_submission sub = {.settings = (yd_setting[]){{"model", "fake-2x-2"}}, .n_settings = 1, .owner = "me"};
        picture(32, 32, 1, &sub.bytes, &sub.len);
        CHECK(yd_service_submit(svc, &sub, on_submitted, &waits, NULL, &err) == 0);
        yd_service_model_load(svc, "fake-2x-3", &err);
        yd_service_model_unload(svc, "fake-2x", &err);
        const int64_t until = yd_mono_us() + wait_ms * 1000;
        while (yd_mono_us() < until) uv_run(&loop, UV_RUN_ONCE);
        close_service();
        CHECK(waits.calls == 1);
    }
}

static void the_budget(void)
{
    setup();
    cfg.fake_models = 2;
    cfg.model_memory_bytes = 3 << 19; // each takes 1 MiB
    yd_config_set(&cfg, "models", "all", NULL);
    open_service();
    CHECK(is("fake-2x", "resident"));
    WAIT(is("fake-2x-2", "available")); // what was compiled for nothing has left
    CHECK(settled("fake-2x-2") == YD_E_MODEL_ROOM && strcmp(err.field, "model_memory_bytes") == 0);
    yd_service_model_unload(svc, "fake-2x", &err);
    WAIT(settled("fake-2x") == 1);
    CHECK(yd_service_ready(svc, NULL) == 0); // none is resident
    yd_service_model_load(svc, "fake-2x-2", &err);
    WAIT(settled("fake-2x-2") == 1 && is("fake-2x-2", "resident"));
    CHECK(yd_service_ready(svc, NULL) == 1);
    close_service();
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"models: all at the start", all_at_the_start},
        {"models: what is named is loaded", what_is_named_is_loaded_and_nothing_else},
        {"models: a load beside jobs", a_load_beside_jobs},
        {"models: draining", draining},
        {"models: on demand", on_demand},
        {"models: none is unloaded while it starts", not_while_it_starts},
        {"models: closed in the middle", closed_in_the_middle},
        {"models: the budget", the_budget},
    };
    yd_log_set_level("error");
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
