// The service on devices that keep jobs' canvases in their memory: the CUDA backend, loaded as a plug-in, on GPUs that are none (tests/fake_gpu).
// Results are those of canvases in the process's memory, wherever and with whom units run, when devices are lost, and when canvases move.
#include "core/model.h"
#include "tests/fake_gpu/plugin.h"
#include "tests/unit/service_rig.h"

#include <dlfcn.h>
#include <unistd.h>

static const char tiny[] =
    "{\"format\": \"yoda-model-1\", \"name\": \"tiny\", \"network\": {\"type\": \"sr3\", \"inner_channel\": 8, \"channel_multiplier\": [1],"
    "\"res_blocks\": 1, \"norm_groups\": 4, \"attn_res\": [], \"image_size\": 32, \"unshuffle\": 2, \"mid_attention\": false, "
    "\"noise_scale\": 1000},"
    "\"noise_input\": \"sqrt_one_minus_gamma\", \"prediction\": \"x0\", \"target\": \"residual\", \"residual_scale\": 4, \"clip\": 3,"
    "\"schedule\": {\"kind\": \"cosine\"}, \"scale\": 4, \"window\": 16, \"overlap\": 4, \"conditioning\": \"pillow8\", \"defaults\": "
    "{\"steps\": 6, \"sampler\": \"ddim\", \"eta\": 0.5, \"attention\": \"edge\", \"mask_form\": \"max\", \"lower_bound\": 0.2}}";

enum { JOBS = 5 };

// Of a device, for canvases beside the model and what is left free; without those.
#define ROOM    ((size_t)1 << 30)
#define NO_ROOM ((size_t)200 << 20)

static char folder[64];
static char state_dir[80]; // of the next services; empty: none
static loops_device_fn *device;

// The plug-in lies beside the folder of this program.
static void find_plugin(void)
{
    char path[512];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
    path[n > 0 ? n : 0] = 0;
    *strrchr(path, '/') = 0;
    snprintf(strrchr(path, '/'), 64, "/yoda-cuda-loops.so");
    setenv("YODA_CUDA_PLUGIN", path, 1);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL), *symbol = handle ? dlsym(handle, LOOPS_SYMBOL) : NULL;
    CHECK_MSG(symbol != NULL, "%s", handle ? LOOPS_SYMBOL : dlerror());
    memcpy(&device, &symbol, sizeof device);
}

static void make_model(void)
{
    yd_model_config c;
    yd_model *m = NULL;
    char path[96];
    snprintf(folder, sizeof folder, "/tmp/yoda-canvas-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/tiny.safetensors", folder);
    int rc = yd_model_config_parse(tiny, strlen(tiny), &c, &err);
    if (!rc) rc = yd_model_init(&c, 3, 0, &m, &err);
    if (!rc) rc = yd_model_save(&c, (const float *const *)m->params, m->n_params, YD_F32, path, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    yd_model_free(m);
}

static void remove_model(void)
{
    char path[96];
    snprintf(path, sizeof path, "%s/tiny.safetensors", folder);
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
}

static void devices(const char *list, size_t memory)
{
    setup();
    yd_config_set(&cfg, "device", list, NULL);
    yd_config_set(&cfg, "model_dir", folder, NULL);
    yd_config_set(&cfg, "dtype", "f32", NULL);
    cfg.device_retry_ms = 10;
    cfg.device_retry_max_ms = 40;
    cfg.content_cache = 0;
    cfg.drain_timeout_ms = 1; // jobs under way are handed over, not finished
    cfg.max_batch = 3;
    snprintf(cfg.state_dir, sizeof cfg.state_dir, "%s", state_dir);
    for (int i = 0; i < LOOPS_DEVICES; i++) {
        atomic_store(&device(i)->fail_in, 0);
        atomic_store(&device(i)->memory, memory);
    }
    open_service();
}

static void submit_all(const char *ids[JOBS])
{
    for (int i = 0; i < JOBS; i++) {
        char settings[96];
        snprintf(settings, sizeof settings, "steps=%d seed=%d lower_bound=%s", 3 + i % 3, i, i % 2 ? "1" : "0.2");
        WAIT(yd_service_ready(svc, NULL)); // a device may have failed already
        ids[i] = submit(16 + 2 * i, 16, settings);
    }
}

static void collect(const char *ids[JOBS], uint64_t sum[JOBS])
{
    for (int i = 0; i < JOBS; i++) {
        WAIT(ended(ids[i]));
        CHECK_MSG(state(ids[i]) == YD_JOB_SUCCEEDED, "job %d: %s", i, yd_job_problem(job(ids[i])) ? yd_job_problem(job(ids[i]))->detail : "");
        sum[i] = state(ids[i]) == YD_JOB_SUCCEEDED ? digest(ids[i]) : 0;
    }
}

static void compute(uint64_t sum[JOBS])
{
    const char *ids[JOBS];
    submit_all(ids);
    collect(ids, sum);
}

// What they come to where the device has no room for canvases.
static const uint64_t *known(void)
{
    static uint64_t sum[JOBS];
    if (!sum[0]) {
        devices("cuda:0", NO_ROOM);
        compute(sum);
        close_service();
    }
    return sum;
}

static double progress_of(const char *id, const char *field)
{
    json_t *o = yd_service_job_json(svc, job(id));
    const double x = number_at(o, "progress", field);
    json_decref(o);
    return x;
}

static void the_same_bytes(void)
{
    uint64_t sum[JOBS];
    known();
    static const char *const lists[] = {"cuda:0", "cuda:2,cuda:0,cuda:3"};
    for (int i = 0; i < 2; i++) {
        devices(lists[i], ROOM);
        compute(sum);
        CHECK_MSG(memcmp(sum, known(), sizeof sum) == 0, "%s", lists[i]);
        close_service();
        for (int k = 0; k < LOOPS_DEVICES; k++) CHECK(atomic_load(&device(k)->live) == 0);
    }
}

// The first device is lost, again and again, at some call of a run: its jobs go on elsewhere, or later, from their beginnings.
static void a_device_is_lost(void)
{
    uint64_t sum[JOBS];
    int lost = 0;
    known();
    for (int n = 1; n <= 2; n++)
        for (int at = 25; at < 150; at += 80) {
            devices(n == 1 ? "cuda:0" : "cuda:0,cuda:1", ROOM);
            const long opened = atomic_load(&device(0)->opened);
            const char *ids[JOBS];
            atomic_store(&device(0)->fail_in, at);
            submit_all(ids);
            collect(ids, sum);
            CHECK_MSG(memcmp(sum, known(), sizeof sum) == 0, "lost at call %d of %d devices", at, n);
            if (atomic_load(&device(0)->fail_in) == 0) {
                lost++;
                WAIT(atomic_load(&device(0)->opened) > opened);
            }
            for (int i = 0; i < JOBS; i++) {
                const double done = progress_of(ids[i], "windows_done"), total = progress_of(ids[i], "windows_total");
                CHECK_MSG(done == total, "%g of %g windows", done, total);
            }
            close_service();
        }
    CHECK_MSG(lost > 2, "%d times", lost);
}

// Of three jobs on two devices any one ends: both devices go on working.
static void canvases_move(void)
{
    for (int gone = 0; gone < 3; gone++) {
        const char *ids[3];
        devices("cuda:0,cuda:1", ROOM);
        for (int i = 0; i < 3; i++) ids[i] = submit(30, 30, "steps=1000 lower_bound=1");
        WAIT(number_of("cuda:0", "units") > 0 && number_of("cuda:1", "units") > 0);
        CHECK(yd_service_cancel(svc, job(ids[gone]), &err) == 0);
        WAIT(ended(ids[gone]));
        const long a = number_of("cuda:0", "units"), b = number_of("cuda:1", "units");
        WAIT(number_of("cuda:0", "units") > a + 20 && number_of("cuda:1", "units") > b + 20);
        close_service();
    }
}

// A moved job has the bytes of one that stayed.
static void moved_jobs_are_the_same(void)
{
    uint64_t stayed = 0;
    for (int n = 1; n <= 2; n++) {
        const char *ids[3];
        devices(n == 1 ? "cuda:0" : "cuda:0,cuda:1", ROOM);
        for (int i = 0; i < 3; i++) ids[i] = submit(16, 16, i ? "steps=24 lower_bound=1 seed=5" : "steps=4 lower_bound=1 seed=5");
        for (int i = 0; i < 3; i++) WAIT(ended(ids[i]));
        CHECK(digest(ids[1]) == digest(ids[2]));
        if (n == 1) stayed = digest(ids[1]);
        CHECK(digest(ids[1]) == stayed);
        close_service();
    }
}

static void pictures_while_it_runs(void)
{
    yd_picture_want want = {.kind = YD_PICTURE_PREVIEW, .format = YD_JPEG};
    devices("cuda:0", ROOM);
    const char *id = submit(20, 20, "steps=1000 lower_bound=1 preview_every=1");
    WAIT(number_of("cuda:0", "units") > 0);
    for (int i = 0; i < 5; i++) {
        answer a = {0};
        CHECK_MSG(yd_service_picture(svc, job(id), &want, on_picture, &a, NULL, &err) == 0, "%s", err.detail);
        WAIT(a.calls);
        CHECK(a.rc == 0 && a.blob && a.blob->len > 100);
        yd_blob_unref(a.blob);
    }
    const long live = atomic_load(&device(0)->live);
    CHECK(yd_service_cancel(svc, job(id), &err) == 0);
    WAIT(ended(id));
    const char *other = submit(16, 16, "steps=4");
    WAIT(ended(other));
    CHECK(state(other) == YD_JOB_SUCCEEDED && atomic_load(&device(0)->live) <= live);
    close_service();
}

static int drained;
static void on_drained(void *arg)
{
    (void)arg;
    drained = 1;
}

// Jobs with some of their work done, left by two devices to the next process.
static void leave_to_the_next(char ids[JOBS][64])
{
    const char *given[JOBS];
    devices("cuda:0,cuda:1", ROOM);
    submit_all(given);
    for (int i = 0; i < JOBS; i++) memcpy(ids[i], given[i], sizeof ids[i]);
    WAIT(number_of("cuda:0", "units") > 2 && number_of("cuda:1", "units") > 2);
    drained = 0;
    yd_service_drain(svc, 0, on_drained, NULL);
    WAIT(drained);
    close_service();
}

// The next process goes on at the step where this one's devices stood; also when its own device is lost in the first runs, where canvases come that
// are not at their beginnings.
static void handed_over(void)
{
    char ids[JOBS][64], command[112];
    const char *again[JOBS];
    uint64_t sum[JOBS];
    known();
    snprintf(state_dir, sizeof state_dir, "%s/state", folder);
    for (int at = 0; at < 40; at += 39) {
        int begun = 0;
        leave_to_the_next(ids);
        devices("cuda:1", ROOM);
        atomic_store(&device(1)->fail_in, at);
        for (int i = 0; i < JOBS; i++) begun += !ended(again[i] = ids[i]) && progress_of(ids[i], "windows_done") > 0;
        CHECK_MSG(begun > 0, "no job was under way");
        collect(again, sum);
        CHECK_MSG(memcmp(sum, known(), sizeof sum) == 0, "lost at call %d", at);
        CHECK(atomic_load(&device(1)->fail_in) == 0);
        close_service();
        snprintf(command, sizeof command, "rm -rf '%s'", state_dir);
        CHECK(system(command) == 0);
    }
    state_dir[0] = 0;
}

// A job that is not at its beginning when its canvas comes to a device, which is lost in that run: all of its work is to be done again.
static void lost_with_what_was_done(void)
{
    char id[64], command[112];
    uint64_t want = 0;
    int lost = 0;
    snprintf(state_dir, sizeof state_dir, "%s/state", folder);
    for (int at = 0; at < 32; at += 4) {
        if (at == 4) at = 16; // sooner it is not on the device yet
        devices("cuda:0", ROOM);
        snprintf(id, sizeof id, "%s", submit(16, 16, "steps=30 lower_bound=1 seed=8"));
        WAIT(number_of("cuda:0", "units") > 60);
        drained = 0;
        yd_service_drain(svc, 0, on_drained, NULL);
        WAIT(drained);
        close_service();
        devices("cuda:0", ROOM);
        atomic_store(&device(0)->fail_in, at);
        const double begun = progress_of(id, "windows_done");
        CHECK_MSG(begun > 0 && begun < progress_of(id, "windows_total"), "%g windows were done", begun);
        WAIT(ended(id));
        CHECK(state(id) == YD_JOB_SUCCEEDED);
        if (!at) want = digest(id);
        CHECK_MSG(digest(id) == want, "lost at call %d", at);
        lost += number_of("cuda:0", "failures") > 0;
        close_service();
        snprintf(command, sizeof command, "rm -rf '%s'", state_dir);
        CHECK(system(command) == 0);
    }
    CHECK_MSG(lost == 4, "%d times", lost);
    state_dir[0] = 0;
}

// Devices are lost while canvases are on their way between them.
static void lost_on_the_way(void)
{
    uint64_t stayed = 0;
    for (int at = 0; at < 120; at += 45) {
        const char *ids[3];
        devices("cuda:0,cuda:1", ROOM);
        for (int i = 0; i < 3; i++) ids[i] = submit(16, 16, i ? "steps=24 lower_bound=1 seed=5" : "steps=400 lower_bound=1 seed=5");
        WAIT(number_of("cuda:0", "units") > 0 && number_of("cuda:1", "units") > 0);
        CHECK(yd_service_cancel(svc, job(ids[0]), &err) == 0);
        for (int d = 0; d < 2; d++) atomic_store(&device(d)->fail_in, at + d * at / 2);
        for (int i = 1; i < 3; i++) WAIT(ended(ids[i]));
        if (!stayed) stayed = digest(ids[1]);
        for (int i = 1; i < 3; i++) CHECK_MSG(state(ids[i]) == YD_JOB_SUCCEEDED && digest(ids[i]) == stayed, "lost at call %d", at);
        close_service();
    }
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"results are those of canvases in the process's memory", the_same_bytes},
        {"a device is lost with canvases", a_device_is_lost},
        {"canvases move to a device with nothing to do", canvases_move},
        {"a job that has moved has the same bytes", moved_jobs_are_the_same},
        {"pictures while it runs", pictures_while_it_runs},
        {"handed over with canvases on devices", handed_over},
        {"a device is lost in a job's first run there", lost_with_what_was_done},
        {"devices are lost with canvases on their way", lost_on_the_way},
    };
    yd_log_set_level("error");
    find_plugin();
    make_model();
    const int failed = t_main(argc, argv, cases, sizeof cases / sizeof *cases);
    remove_model();
    return failed;
}
