// The CUDA backend's host logic by itself: placing buffers, budgets, the plan cache on disk and what damages it, when launches become a graph,
// what outcomes become, batch sizes.
#include "tests/unit/t.h"
#include "core/buckets.h"
#include "core/file.h"
#include "core/mem.h"
#include "gpu/arena.h"
#include "gpu/attention_try.h"
#include "gpu/plans.h"
#include "gpu/replay.h"
#include "tests/fake_gpu/fake.h"
#include "tests/fake_gpu/loops.h"
#include <math.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

static unsigned long long state = 88172645463325252u;
static unsigned roll(unsigned n)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (unsigned)(state >> 33) % n;
}

// --- arena

static int overlap(const yd_gpu_item *a, const yd_gpu_item *b)
{
    const int alive = a->first <= b->last && b->first <= a->last;
    return alive && a->bytes && b->bytes && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

static void test_arena_random(void)
{
    enum { N = 120 };
    for (int round = 0; round < 200; round++) {
        yd_gpu_item item[N];
        size_t total, sum = 0, alive_most = 0, largest_end = 0;
        for (int i = 0; i < N; i++) {
            const int first = (int)roll(60);
            item[i] =
                (yd_gpu_item){.bytes = roll(5) ? 1 + roll(100000) : 0, .first = first, .last = first + (int)roll(12)};
        }
        CHECK(yd_gpu_arena_place(item, N, SIZE_MAX, &total, NULL) == 0);
        for (int i = 0; i < N; i++) {
            CHECK(item[i].offset % YD_GPU_ALIGN == 0 && item[i].bytes % YD_GPU_ALIGN == 0);
            if (item[i].bytes && item[i].offset + item[i].bytes > largest_end)
                largest_end = item[i].offset + item[i].bytes;
            sum += item[i].bytes;
            for (int j = 0; j < i; j++)
                CHECK_MSG(!overlap(&item[i], &item[j]), "round %d: items %d and %d share memory while both live", round,
                          i, j);
        }
        for (int t = 0; t < 72; t++) {
            size_t alive = 0;
            for (int i = 0; i < N; i++)
                if (item[i].first <= t && t <= item[i].last) alive += item[i].bytes;
            if (alive > alive_most) alive_most = alive;
        }
        CHECK(total == largest_end && total >= alive_most && total < sum / 2); // sharing is worth something
    }
}

static void test_arena_limits(void)
{
    yd_err err;
    size_t total;
    yd_gpu_item two[] = {{1000, 0, 1, 0}, {1000, 1, 2, 0}};
    CHECK(yd_gpu_arena_place(two, 2, 2048, &total, &err) == 0 && total == 2048);
    CHECK(yd_gpu_arena_place(two, 2, 2047, &total, &err) == YD_E_NOMEM && strstr(err.detail, "GPU"));
    yd_gpu_item after[] = {{1000, 0, 1, 0}, {1000, 2, 3, 0}};
    CHECK(yd_gpu_arena_place(after, 2, 2047, &total, &err) == 0 && total == 1024);
    yd_gpu_item huge[] = {{SIZE_MAX / 2, 0, 1, 0}, {SIZE_MAX / 2, 0, 1, 0}, {SIZE_MAX / 2, 0, 1, 0}};
    CHECK(yd_gpu_arena_place(huge, 3, SIZE_MAX, &total, &err) == YD_E_NOMEM);
    CHECK(yd_gpu_arena_place(NULL, 0, 0, &total, &err) == 0 && total == 0);
    yd_mem_fail_at(1);
    CHECK(yd_gpu_arena_place(two, 2, 1 << 20, &total, &err) == YD_E_NOMEM);
    yd_mem_fail_at(0);
}

static void test_budget(void)
{
    const size_t g = (size_t)1 << 30;
    CHECK(yd_gpu_budget(80 * g, 80 * g, 0) == 76 * g);          // a twentieth stays
    CHECK(yd_gpu_budget(8 * g, 8 * g, 0) == 8 * g - g / 2);     // at least half a gigabyte
    CHECK(yd_gpu_budget(80 * g, 80 * g, 3 * g) == 3 * g);       // what was asked for
    CHECK(yd_gpu_budget(2 * g, 8 * g, 7 * g) == 2 * g - g / 2); // if it is there
    CHECK(yd_gpu_budget(g / 4, 8 * g, 0) == g / 8);             // hardly anything: half of it
}

// --- plans

static const yd_gpu_about about = {
    .device = "NVIDIA H200", .isa = "sm_90", .library = "cuDNN 9.19.0", .memory_total = 1};
static char folder[] = "/tmp/yd-plans-XXXXXX", path[64];

static yd_gpu_conv_shape a_shape(void)
{
    return (yd_gpu_conv_shape){.pass = YD_GPU_FORWARD,
                               .n = 4,
                               .h = 128,
                               .w = 96,
                               .c = 64,
                               .oh = 128,
                               .ow = 96,
                               .o = 128,
                               .k = 3,
                               .stride = 1,
                               .pad = 1,
                               .type = YD_BF16,
                               .out = YD_BF16,
                               .bias = 1};
}

static yd_gpu_choice a_choice(int engine)
{
    return (yd_gpu_choice){.engine = engine, .n_knobs = 3, .knob = {{2, 17}, {12, -3}, {40, 1LL << 40}}};
}

static int same(const yd_gpu_choice *a, const yd_gpu_choice *b)
{
    if (!a || a->engine != b->engine || a->n_knobs != b->n_knobs) return 0;
    for (int i = 0; i < a->n_knobs; i++)
        if (a->knob[i].type != b->knob[i].type || a->knob[i].value != b->knob[i].value) return 0;
    return 1;
}

static void test_keys(void)
{
    yd_gpu_plans *p, *other;
    char base[YD_GPU_KEY], key[YD_GPU_KEY];
    yd_gpu_about newer = about;
    snprintf(newer.library, sizeof newer.library, "cuDNN 9.20.0");
    CHECK(yd_gpu_plans_open(NULL, &about, &p, NULL) == 0 && yd_gpu_plans_open(NULL, &newer, &other, NULL) == 0);
    const yd_gpu_conv_shape s = a_shape();
    yd_gpu_plans_key(p, &s, 0, 0, base);
    CHECK(strstr(base, "NVIDIA H200") && strstr(base, "9.19.0"));
    yd_gpu_plans_key(other, &s, 0, 0, key);
    CHECK(strcmp(key, base) != 0);
    yd_gpu_conv_shape t = s;
    t.n = 9;
    yd_gpu_plans_key(p, &t, 0, 0, key);
    CHECK(strcmp(key, base) == 0); // not where engines are pinned
    yd_gpu_plans_key(p, &t, 1, 0, key);
    CHECK(strcmp(key, base) != 0);
    yd_gpu_plans_key(p, &s, 0, 1, key);
    CHECK(strcmp(key, base) != 0);
    for (int field = 0; field < 15; field++) {
        t = s;
        int *const numbers[] = {&t.h, &t.w,      &t.c,   &t.oh,    &t.ow,  &t.o,
                                &t.k, &t.stride, &t.pad, &t.leaky, &t.res, &t.tf32};
        if (field < 12)
            (*numbers[field])++;
        else if (field == 12)
            t.type = YD_F32;
        else if (field == 13)
            t.out = YD_F32;
        else
            t.pass = YD_GPU_DX;
        yd_gpu_plans_key(p, &t, 0, 0, key);
        CHECK_MSG(strcmp(key, base) != 0, "field %d is no part of the key", field);
    }
    yd_gpu_plans_close(p);
    yd_gpu_plans_close(other);
}

// A cache with n choices, saved.
static void write_cache(int n)
{
    yd_gpu_plans *p = NULL;
    unlink(path);
    CHECK(yd_gpu_plans_open(path, &about, &p, NULL) == 0);
    for (int i = n - 1; i >= 0; i--) {
        char key[32];
        const yd_gpu_choice c = a_choice(i - 1); // the first: no engine
        snprintf(key, sizeof key, "key %03d", i);
        CHECK(yd_gpu_plans_put(p, key, &c, NULL) == 0);
    }
    CHECK(yd_gpu_plans_save(p, NULL) == 0);
    yd_gpu_plans_close(p);
}

static int count_intact(int n, int *dropped)
{
    yd_gpu_plans *p = NULL;
    int intact = 0;
    CHECK(yd_gpu_plans_open(path, &about, &p, NULL) == 0);
    for (int i = 0; i < n && p; i++) {
        char key[32];
        const yd_gpu_choice c = a_choice(i - 1);
        snprintf(key, sizeof key, "key %03d", i);
        intact += same(yd_gpu_plans_get(p, key), &c);
    }
    CHECK(p && yd_gpu_plans_count(p, dropped) == intact); // nothing but what was written
    yd_gpu_plans_close(p);
    return intact;
}

static void test_round_trip(void)
{
    int dropped;
    write_cache(200);
    CHECK(count_intact(200, &dropped) == 200 && dropped == 0);
    yd_gpu_plans *p;
    const yd_gpu_choice c = a_choice(5);
    CHECK(yd_gpu_plans_open(path, &about, &p, NULL) == 0 && !yd_gpu_plans_get(p, "key") &&
          !yd_gpu_plans_get(p, "key 0000"));
    CHECK(yd_gpu_plans_put(p, "key 007", &c, NULL) == 0 && same(yd_gpu_plans_get(p, "key 007"), &c) &&
          yd_gpu_plans_count(p, NULL) == 200);
    CHECK(yd_gpu_plans_put(p, "a\tb", &c, NULL) == YD_E_INVALID && yd_gpu_plans_put(p, "", &c, NULL) == YD_E_INVALID);
    const yd_gpu_choice was = a_choice(6);
    CHECK(yd_gpu_plans_put(p, "key 007", &was, NULL) == 0 && yd_gpu_plans_save(p, NULL) == 0);
    yd_gpu_plans_close(p);
    CHECK(count_intact(200, &dropped) == 200);
}

// Backends of one file see each other's choices, and choices that could not be written outlive them; those of no file are their own.
static void test_shared(void)
{
    yd_gpu_plans *a, *b;
    const yd_gpu_choice c = a_choice(5), d = a_choice(6);
    char text[256];
    void *bytes = NULL;
    size_t len = 0;
    int dropped;
    write_cache(2);
    CHECK(yd_gpu_plans_open(path, &about, &a, NULL) == 0 && yd_gpu_plans_open(path, &about, &b, NULL) == 0);
    CHECK(yd_gpu_plans_put(a, "new", &c, NULL) == 0 && same(yd_gpu_plans_get(b, "new"), &c));
    yd_gpu_plans_close(a);
    CHECK(same(yd_gpu_plans_get(b, "new"), &c));
    yd_gpu_plans_close(b); // nobody has it, and nobody has saved it
    CHECK(yd_gpu_plans_open(path, &about, &a, NULL) == 0 && same(yd_gpu_plans_get(a, "new"), &c));
    CHECK(yd_gpu_plans_save(a, NULL) == 0);
    yd_gpu_plans_close(a);
    // What is in the file is enough now: one that was put there meanwhile is read.
    CHECK(yd_file_read(path, 1 << 20, &bytes, &len, NULL) == 0);
    write_cache(1);
    CHECK(count_intact(2, &dropped) == 1);
    CHECK(yd_file_write_atomic(path, bytes, len, NULL) == 0);
    yd_free(bytes);
    CHECK(yd_gpu_plans_open(path, &about, &a, NULL) == 0 && same(yd_gpu_plans_get(a, "new"), &c));
    yd_gpu_plans_close(a);
    snprintf(text, sizeof text, "%s-of-another", path);
    CHECK(yd_gpu_plans_open(NULL, &about, &a, NULL) == 0 && yd_gpu_plans_open(text, &about, &b, NULL) == 0);
    CHECK(yd_gpu_plans_put(a, "own", &d, NULL) == 0 && !yd_gpu_plans_get(b, "own"));
    yd_gpu_plans_close(a);
    yd_gpu_plans_close(b);
}

typedef struct chooser {
    pthread_t thread;
    int number, took;
} chooser;

static int choosing, chosen; // under the table's lock

// As a backend does: what is not there is chosen, which takes a while.
static void *choose_one(void *arg)
{
    chooser *x = arg;
    yd_gpu_plans *p;
    if (yd_gpu_plans_open(path, &about, &p, NULL)) return NULL;
    yd_gpu_plans_lock(p);
    const yd_gpu_choice *there = yd_gpu_plans_get(p, "raced for");
    if (there) {
        x->took = there->engine;
    } else {
        choosing++;
        nanosleep(&(struct timespec){0, 5000000}, NULL);
        const yd_gpu_choice own = a_choice(x->number);
        x->took = x->number;
        chosen += choosing;
        yd_gpu_plans_put(p, "raced for", &own, NULL);
    }
    yd_gpu_plans_unlock(p);
    yd_gpu_plans_save(p, NULL);
    yd_gpu_plans_close(p);
    return NULL;
}

static void test_race(void)
{
    enum { N = 8 };
    chooser x[N];
    write_cache(1);
    for (int i = 0; i < N; i++) {
        x[i] = (chooser){.number = 10 + i, .took = -1};
        CHECK(pthread_create(&x[i].thread, NULL, choose_one, &x[i]) == 0);
    }
    for (int i = 0; i < N; i++) pthread_join(x[i].thread, NULL);
    for (int i = 0; i < N; i++) CHECK(x[i].took == x[0].took && x[i].took >= 10);
    CHECK(chosen == 1);
}

// Any one byte of the file changed, or the file cut anywhere: what is read is what was written, less at most the lines that were hit.
static void test_damage(void)
{
    enum { N = 6 };
    void *bytes = NULL;
    size_t len = 0;
    int dropped;
    write_cache(N);
    CHECK(yd_file_read(path, 1 << 20, &bytes, &len, NULL) == 0 && len > 100);
    char *text = bytes, *header_end = memchr(text, '\n', len);
    for (size_t i = 0; i < len; i++) {
        const char was = text[i];
        text[i] = (char)(was ^ (1 << roll(7)));
        CHECK(yd_file_write_atomic(path, text, len, NULL) == 0);
        const int intact = count_intact(N, &dropped), least = text + i <= header_end ? 0 : was == '\n' ? N - 2 : N - 1;
        CHECK_MSG(intact >= least && dropped >= 1, "byte %zu: %d intact, %d dropped", i, intact, dropped);
        text[i] = was;
    }
    for (size_t i = 0; i < len; i += 7) {
        CHECK(yd_file_write_atomic(path, text, i, NULL) == 0);
        count_intact(N, &dropped);
    }
    yd_free(bytes);
    CHECK(yd_file_write_atomic(path, "\0\n\n\t\t", 5, NULL) == 0 && count_intact(N, &dropped) == 0);
    unlink(path);
    CHECK(count_intact(N, &dropped) == 0 && dropped == 0);
}

static void test_plans_nomem(void)
{
    int failures = 0;
    write_cache(100);
    for (int k = 1; k < 40; k++) {
        yd_gpu_plans *p = NULL;
        yd_err err;
        const yd_gpu_choice c = a_choice(1);
        yd_mem_fail_at(k);
        int rc = yd_gpu_plans_open(path, &about, &p, &err);
        if (!rc) rc = yd_gpu_plans_put(p, "another", &c, &err);
        if (!rc) rc = yd_gpu_plans_save(p, &err);
        yd_mem_fail_at(0);
        CHECK(rc == 0 || rc == YD_E_NOMEM);
        failures += rc != 0;
        yd_gpu_plans_close(p);
    }
    CHECK(failures >= 3);
}

// --- replay

typedef struct script {
    int launched, fail;
} script;

static int launch(void *arg, yd_err *err)
{
    script *s = arg;
    s->launched++;
    return s->fail ? yd_fail(err, YD_E_DEVICE, "as asked") : 0;
}

static void test_replay(void)
{
    yd_gpu_stream s;
    yd_gpu_driver *d = fake_driver();
    yd_gpu_outcome o;
    script x = {0};
    yd_gpu_replay r = {0};
    fake_reset();
    CHECK(d->stream_new(d, &s) == YD_GPU_OK);
    x.fail = 1; // a first run that fails is no warm-up
    CHECK(yd_gpu_replay_run(&r, d, s, launch, &x, &o, NULL) == YD_E_DEVICE && r.state == YD_GPU_FRESH);
    x.fail = 0;
    CHECK(yd_gpu_replay_run(&r, d, s, launch, &x, &o, NULL) == 0 && r.state == YD_GPU_WARM && x.launched == 2 &&
          fake.graph_launches == 0);
    CHECK(yd_gpu_replay_run(&r, d, s, launch, &x, &o, NULL) == 0 && o == 0 && r.state == YD_GPU_CAPTURED &&
          x.launched == 3 && fake.graph_launches == 1);
    for (int i = 0; i < 5; i++) CHECK(yd_gpu_replay_run(&r, d, s, launch, &x, &o, NULL) == 0 && o == 0);
    CHECK(x.launched == 3 && fake.graph_launches == 6); // recorded once
    fake.fail_at = 1, fake.fail_with = YD_GPU_FAILED;
    CHECK(yd_gpu_replay_run(&r, d, s, launch, &x, &o, NULL) == 0 && o == YD_GPU_FAILED && r.state == YD_GPU_CAPTURED);
    yd_gpu_replay_drop(&r, d);
    d->stream_free(d, s);
    CHECK(fake.live == 0);
}

static void test_replay_without(void)
{
    yd_gpu_stream s;
    yd_gpu_driver *d = fake_driver();
    yd_gpu_outcome o;
    // begin refuses, end refuses, the graph does not come, a launch fails while it is recorded
    for (int way = 0; way < 4; way++) {
        script x = {0};
        yd_gpu_replay r = {.state = YD_GPU_WARM};
        fake_reset();
        CHECK(d->stream_new(d, &s) == YD_GPU_OK);
        fake.no_capture = way == 2;
        x.fail = way == 3;
        fake.fail_at = way < 2 ? way + 1 : 0, fake.fail_with = YD_GPU_NO_MEMORY;
        int rc = yd_gpu_replay_run(&r, d, s, launch, &x, &o, NULL);
        CHECK(r.state == YD_GPU_EAGER && (way == 3 ? rc == YD_E_DEVICE : rc == 0) && o == 0);
        x.fail = 0;
        CHECK(yd_gpu_replay_run(&r, d, s, launch, &x, &o, NULL) == 0 && r.state == YD_GPU_EAGER &&
              fake.graph_launches == 0);
        yd_gpu_replay_drop(&r, d);
        d->stream_free(d, s);
        CHECK(fake.live == 0);
    }
}

static void test_outcomes(void)
{
    static const int codes[] = {0, YD_E_NOMEM, YD_E_UNSUPPORTED, YD_E_DEVICE, YD_E_DEVICE};
    for (int o = YD_GPU_OK; o <= YD_GPU_LOST; o++) {
        yd_err err = {0};
        CHECK(yd_gpu_fail((yd_gpu_outcome)o, "copying", "it said", &err) == codes[o] && err.code == codes[o]);
        CHECK(!o || (strstr(err.detail, "copying") && strstr(err.detail, "it said")));
        CHECK(yd_gpu_fail((yd_gpu_outcome)o, "copying", NULL, NULL) == codes[o]);
    }
}

// --- batch sizes

static int list_sizes(int *size, int max, int close)
{
    int n = 0, last = 0;
    while (last < max && n < YD_BUCKETS_MAX) size[n++] = last = yd_bucket_after(last, max, close);
    CHECK(last == max);
    return n;
}

static void test_buckets(void)
{
    static const int close_sizes[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64},
                     wide_sizes[] = {1, 2, 4, 8, 16, 32, 64};
    int size[YD_BUCKETS_MAX];
    CHECK(list_sizes(size, 64, 1) == 12 && memcmp(size, close_sizes, sizeof close_sizes) == 0);
    CHECK(list_sizes(size, 64, 0) == 7 && memcmp(size, wide_sizes, sizeof wide_sizes) == 0);
    for (int max = 1; max <= 64; max++)
        for (int close = 0; close < 2; close++) {
            const int n = list_sizes(size, max, close);
            for (int i = 1; i < n; i++) CHECK(size[i] > size[i - 1]);
            for (int want = 1; want <= max; want++) {
                const int i = yd_bucket_choose(size, n, want, 0), f = yd_bucket_choose(size, n, want, 1);
                CHECK(i >= 0 && size[i] >= want && (i == 0 || size[i - 1] < want));     // the smallest that holds them
                CHECK(f >= 0 && size[f] <= want && (f == n - 1 || size[f + 1] > want)); // the largest that they fill
                CHECK(!close || 3 * (size[i] - want) <= size[i]);                       // a third is empty at most
            }
            CHECK(yd_bucket_choose(size, n, 0, 0) == -1 && yd_bucket_choose(size, n, -3, 1) == -1 &&
                  yd_bucket_choose(size, n, max + 1, 0) == -1);
        }
}

// --- the trial of an attention engine

typedef struct trial {
    int n, h, w, c;
    uint16_t *qkv, *y;
    yd_gpu_conv_shape shape;
} trial;

static trial new_trial(int n, int h, int w, int c)
{
    const size_t count = (size_t)(n * h * w * c);
    trial t = {n, h, w, c, malloc(3 * count * 2), malloc(count * 2), {0}};
    t.shape = (yd_gpu_conv_shape){
        .pass = YD_GPU_ATTENTION, .n = n, .h = h, .w = w, .c = 3 * c, .oh = h, .ow = w, .o = c, .k = 1, .stride = 1, .type = YD_BF16, .out = YD_BF16};
    yd_gpu_attention_fill(t.qkv, (size_t)n, h * w, c);
    loops_conv(&t.shape, &(yd_gpu_conv_io){.x = t.qkv, .y = t.y}, 1);
    return t;
}

static int right(const trial *t)
{
    return yd_gpu_attention_right(t->qkv, t->y, (size_t)t->n, t->h * t->w, t->c);
}

static void drop_trial(trial *t)
{
    free(t->qkv);
    free(t->y);
}

static void test_attention_right(void)
{
    static const int shapes[][4] = {{8, 16, 16, 64}, {1, 1, 2, 8}, {3, 5, 7, 40}, {2, 31, 33, 32}, {8, 4, 4, 256}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        trial t = new_trial(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
        CHECK_MSG(right(&t), "%d tokens of %d", t.h * t.w, t.c);
        yd_mem_fail_at(1);
        CHECK(!right(&t));
        yd_mem_fail_at(0);
        drop_trial(&t);
    }
}

// What engines have got wrong: a key beyond the last whose score is 0 and whose value is 0, no scale, a row that was not written, the last sample.
static void test_attention_wrong(void)
{
    trial t = new_trial(3, 5, 7, 40);
    const size_t per = (size_t)(t.h * t.w * t.c), last = per - 1 - (size_t)t.c / 2;
    const uint16_t kept = t.y[2 * per + last];
    t.y[2 * per + last] = 0x7fc0;
    CHECK(!right(&t));
    t.y[2 * per + last] = 0xff80;
    CHECK(!right(&t));
    t.y[2 * per + last] = 0x3f80; // 1
    CHECK(!right(&t));
    t.y[2 * per + last] = kept;
    CHECK(right(&t));
    const size_t count = 3 * per;
    uint16_t *good = malloc(count * 2);
    memcpy(good, t.y, count * 2);
    for (size_t i = 0; i < count; i++) loops_put(t.y, YD_BF16, i, (double)loops_get(good, YD_BF16, i) / (1 + exp(20) / 35)); // one more key of score 0
    CHECK(!right(&t));
    for (size_t i = 0; i < count; i++) loops_put(t.y, YD_BF16, i, (double)loops_get(good, YD_BF16, i) * 1.05);
    CHECK(!right(&t));
    for (size_t i = 0; i < 3 * count; i++) // scores twice as large: the softmax of another scale
        if (i % (size_t)(3 * t.c) < (size_t)t.c) loops_put(t.qkv, YD_BF16, i, 2 * (double)loops_get(t.qkv, YD_BF16, i));
    loops_conv(&t.shape, &(yd_gpu_conv_io){.x = t.qkv, .y = t.y}, 1);
    yd_gpu_attention_fill(t.qkv, 3, t.h * t.w, t.c);
    CHECK(!right(&t));
    free(good);
    drop_trial(&t);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"buffers that live at the same time never share memory", test_arena_random},
        {"the arena keeps to its limit", test_arena_limits},
        {"the budget follows from the free memory", test_budget},
        {"a plan's key has everything that decides it", test_keys},
        {"plans come back from disk as they were", test_round_trip},
        {"backends of one file share their choices", test_shared},
        {"backends that choose at the same time choose once", test_race},
        {"a damaged plan cache costs what was damaged", test_damage},
        {"the plan cache without memory", test_plans_nomem},
        {"launches become a graph on the second run", test_replay},
        {"launches that cannot be recorded", test_replay_without},
        {"outcomes become errors", test_outcomes},
        {"an attention engine that is right passes its trial", test_attention_right},
        {"an attention engine that is wrong does not", test_attention_wrong},
        {"batch sizes and which of them runs", test_buckets},
    };
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/plans", folder);
    const int rc = t_main(argc, argv, cases, sizeof cases / sizeof *cases);
    unlink(path);
    rmdir(folder);
    return rc;
}
