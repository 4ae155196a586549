// The thread that runs attention networks for jobs: who shares a run, what is kept, what is told to whom; and its end, whatever is under way.
#include "core/mem.h"
#include "daemon/log.h"
#include "daemon/mapper.h"
#include "tests/unit/t.h"
#include "tests/unit/vit_rig.h"

#include <unistd.h>

#define MOST 16

static char folder[] = "/tmp/yoda-mapper-XXXXXX";
static const char name[] = "dino-vit64x2-8";

typedef struct rig {
    uv_loop_t loop;
    yd_config cfg;
    yd_mapper *m;
    int closed;
} rig;

typedef struct asked {
    yd_map_request r; // first
    uint8_t *shown;
    atomic_int stop;
    int done, order;
} asked;

static int done_so_far;

static void on_done(yd_map_request *r)
{
    asked *a = (asked *)(void *)r;
    a->done++;
    a->order = ++done_so_far;
}

static void on_closed(void *arg)
{
    ++*(int *)arg;
}

static int open_rig(rig *g, int batch, long long cache)
{
    const vit_rig net = {.dim = 64, .depth = 2, .patch = 8, .grid = 4, .hidden = 96};
    char path[256];
    yd_err err = {0};
    memset(g, 0, sizeof *g);
    snprintf(path, sizeof path, "%s/net.safetensors", folder);
    vit_state = 4;
    CHECK(vit_rig_save(&net, NULL, path) == 0);
    uv_loop_init(&g->loop);
    yd_config_init(&g->cfg);
    snprintf(g->cfg.model_dir, sizeof g->cfg.model_dir, "%s", folder);
    g->cfg.threads = 1;
    g->cfg.attention_batch = batch;
    g->cfg.attention_cache_bytes = cache;
    const int rc = yd_mapper_open(&g->loop, &g->cfg, &g->m, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    done_so_far = 0;
    return rc;
}

static void close_rig(rig *g)
{
    yd_mapper_close(g->m, on_closed, &g->closed);
    CHECK(uv_run(&g->loop, UV_RUN_DEFAULT) == 0 && g->closed == 1);
    yd_mapper_free(g->m);
    CHECK(uv_loop_close(&g->loop) == 0);
}

// A picture of w x h that depends on `salt`.
static void ask(rig *g, asked *a, int w, int h, int salt)
{
    memset(a, 0, sizeof *a);
    a->shown = malloc((size_t)w * (size_t)h * 3);
    for (unsigned i = 0; i < 3u * (unsigned)w * (unsigned)h; i++) a->shown[i] = (uint8_t)((i * i / 7 + (unsigned)salt * i) % 251);
    a->r = (yd_map_request){.shown = a->shown, .w = w, .h = h, .stop = &a->stop, .done = on_done};
    CHECK(yd_attention_nets_find(yd_mapper_nets(g->m), name, &a->r.ref, NULL) == 0);
    yd_map_request_key(g->m, &a->r);
    yd_mapper_start(g->m, &a->r);
    CHECK(!a->done); // never from within
}

static void wait_for(rig *g, const asked *a, int n)
{
    for (int i = 0; i < n; i++)
        while (!a[i].done) uv_run(&g->loop, UV_RUN_ONCE);
}

static void forget(asked *a, int n)
{
    for (int i = 0; i < n; i++) {
        CHECK(a[i].done == 1);
        yd_raw_maps_unref(a[i].r.raw);
        free(a[i].shown);
    }
}

// The same by the networks themselves.
static void check_maps(const rig *g, const asked *a)
{
    float *raw = NULL;
    int gw, gh;
    CHECK(a->r.rc == 0 && a->r.raw);
    CHECK(yd_attention_nets_look(yd_mapper_nets(g->m), &a->r.ref, a->shown, a->r.w, a->r.h, &raw, NULL) == 0);
    const size_t n = yd_attention_nets_raw(yd_mapper_nets(g->m), &a->r.ref, a->r.w, a->r.h, &gw, &gh);
    CHECK(a->r.raw && a->r.raw->count == n && memcmp(a->r.raw->value, raw, n * sizeof *raw) == 0);
    yd_free(raw);
}

static void test_runs(void)
{
    static const int sizes[MOST][2] = {{64, 64}, {64, 32}, {64, 64}, {64, 64}, {64, 32}, {64, 64}, {64, 64}, {64, 64}};
    rig g;
    asked a[MOST];
    yd_mapper_now now;
    if (open_rig(&g, 3, 1 << 20)) return;
    for (int i = 0; i < 8; i++) ask(&g, &a[i], sizes[i][0], sizes[i][1], i == 6 ? 0 : i); // the seventh is the first's picture
    yd_mapper_look(g.m, &now);
    CHECK(now.waiting == 8 && now.nets == 1 && now.nets_bytes > 100000);
    wait_for(&g, a, 8);
    for (int i = 0; i < 8; i++) check_maps(&g, &a[i]);
    yd_mapper_look(g.m, &now);
    // 0 2 3 (and 6), 1 4, 5 7
    CHECK_MSG(now.runs == 3 && now.pictures == 7 && now.misses == 7 && now.shared == 1 && now.hits == 0 && now.waiting == 0,
              "%d runs of %d", (int)now.runs, (int)now.pictures);
    CHECK(a[6].r.raw == a[0].r.raw && a[0].order < a[1].order && a[1].order < a[5].order && now.seconds > 0);
    CHECK(now.cached == 7 && now.cached_bytes > 0);
    asked again;
    ask(&g, &again, 64, 64, 3);
    wait_for(&g, &again, 1);
    CHECK(again.r.raw == a[3].r.raw);
    yd_mapper_look(g.m, &now);
    CHECK(now.runs == 3 && now.hits == 1);
    forget(&again, 1);
    forget(a, 8);
    close_rig(&g);
}

static void test_cache(void)
{
    rig g;
    asked a[MOST];
    yd_mapper_now now;
    if (open_rig(&g, 1, 700)) return; // a map of 1 head and 64 places is 256 bytes and some: two fit
    static const int salts[] = {1, 2, 1, 3, 2, 1};
    for (int i = 0; i < 6; i++) {
        ask(&g, &a[i], 64, 64, salts[i]);
        wait_for(&g, &a[i], 1);
        yd_mapper_look(g.m, &now);
        CHECK(now.cached_bytes <= 700);
    }
    CHECK_MSG(now.cached == 2 && now.hits == 1 && now.misses == 5, "%d kept, %d hits, %d misses", (int)now.cached, (int)now.hits,
              (int)now.misses);
    for (int i = 0; i < 6; i++) check_maps(&g, &a[i]);
    forget(a, 6);
    close_rig(&g);
    if (open_rig(&g, 1, 0)) return;
    for (int i = 0; i < 2; i++) {
        ask(&g, &a[i], 64, 64, 1);
        wait_for(&g, &a[i], 1);
    }
    yd_mapper_look(g.m, &now);
    CHECK(now.cached == 0 && now.cached_bytes == 0 && now.misses == 2);
    forget(a, 2);
    close_rig(&g);
}

static void test_cancelled(void)
{
    rig g;
    asked a[4];
    yd_mapper_now now;
    if (open_rig(&g, 1, 1 << 20)) return;
    for (int i = 0; i < 4; i++) ask(&g, &a[i], 64, 64, i);
    atomic_store(&a[2].stop, 1);
    wait_for(&g, a, 4);
    yd_mapper_look(g.m, &now);
    CHECK(a[2].r.rc == YD_E_CANCELLED && !a[2].r.raw && now.misses == 3);
    for (int i = 0; i < 4; i++)
        if (i != 2) check_maps(&g, &a[i]);
    forget(a, 4);
    close_rig(&g);
}

static void test_closed_under_way(void)
{
    for (int turns = 0; turns < 3; turns++) { // before it begins, while it is made, in between
        rig g;
        asked a[MOST];
        if (open_rig(&g, 2, 1 << 20)) return;
        for (int i = 0; i < 8; i++) ask(&g, &a[i], 128, 128, i);
        for (int i = 0; i < turns; i++) uv_run(&g.loop, UV_RUN_ONCE);
        close_rig(&g);
        for (int i = 0; i < 8; i++) CHECK(a[i].done == 1 && (a[i].r.rc == YD_E_CANCELLED) == !a[i].r.raw);
        CHECK(a[7].r.rc == YD_E_CANCELLED);
        for (int i = 0; i < 8; i++) { // what was handed out lives on
            yd_raw_maps_unref(a[i].r.raw);
            free(a[i].shown);
        }
    }
}

static void test_without_networks(void)
{
    rig g = {.closed = 0};
    yd_attention_ref ref;
    yd_err err = {0};
    uv_loop_init(&g.loop);
    yd_config_init(&g.cfg);
    snprintf(g.cfg.model_dir, sizeof g.cfg.model_dir, "/nonexistent, /dev");
    CHECK(yd_mapper_open(&g.loop, &g.cfg, &g.m, &err) == 0);
    CHECK(yd_attention_nets_find(yd_mapper_nets(g.m), name, &ref, &err) == YD_E_SETTING);
    close_rig(&g);
    uv_loop_init(&g.loop);
    snprintf(g.cfg.attention_nets, sizeof g.cfg.attention_nets, "/nonexistent.pth");
    CHECK(yd_mapper_open(&g.loop, &g.cfg, &g.m, &err) == YD_E_IO && !g.m);
    snprintf(g.cfg.attention_nets, sizeof g.cfg.attention_nets, "a,,b");
    CHECK(yd_mapper_open(&g.loop, &g.cfg, &g.m, &err) < 0 && !g.m);
    CHECK(uv_run(&g.loop, UV_RUN_DEFAULT) == 0 && uv_loop_close(&g.loop) == 0);
}

// Each allocation fails once: an error for whom it meets, and nothing is lost.
static void test_out_of_memory(void)
{
    for (long k = 1; k < 14; k++) {
        rig g;
        asked a[3];
        if (open_rig(&g, 3, 1 << 20)) return;
        for (int i = 0; i < 3; i++) ask(&g, &a[i], 64, 64, i);
        yd_mem_fail_at(k);
        wait_for(&g, a, 3);
        yd_mem_fail_at(0);
        for (int i = 0; i < 3; i++) {
            CHECK_MSG(a[i].r.rc == 0 || a[i].r.rc == YD_E_NOMEM, "allocation %ld: %d", k, a[i].r.rc);
            if (!a[i].r.rc) check_maps(&g, &a[i]);
        }
        forget(a, 3);
        for (int i = 0; i < 3; i++) ask(&g, &a[i], 64, 64, i); // as if nothing had been
        wait_for(&g, a, 3);
        for (int i = 0; i < 3; i++) check_maps(&g, &a[i]);
        forget(a, 3);
        close_rig(&g);
    }
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"mapper: runs are shared, equal pictures are shown once", test_runs},
        {"mapper: what is kept is bounded, the latest used stay", test_cache},
        {"mapper: who does not want it any more does not get it", test_cancelled},
        {"mapper: closed whatever is under way", test_closed_under_way},
        {"mapper: without networks, and with a list that cannot be read", test_without_networks},
        {"mapper: memory runs out anywhere", test_out_of_memory},
    };
    if (!mkdtemp(folder)) return 1;
    yd_log_set_level("error");
    const int rc = t_main(argc, argv, cases, sizeof cases / sizeof *cases);
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command) || rc;
}
