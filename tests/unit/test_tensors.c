// Tensors out of any container: the fixtures' checkpoints equal the safetensors beside them, hand-made ones hold what was put in, and whatever
// is damaged or means harm is refused by name.
#include "core/mem.h"
#include "core/tensors.h"
#include "tests/unit/t.h"
#include "tests/unit/torch_rig.h"

#include <unistd.h>

static yd_err err;

static yd_safetensors *open_rig(const rig *r)
{
    yd_safetensors *st = NULL;
    yd_err_clear(&err);
    uint8_t *exact = malloc(r->n ? r->n : 1); // nothing behind the last byte, so that the sanitizers see who reads it
    if (r->n) memcpy(exact, r->b, r->n);
    const int rc = yd_tensors_open_memory(exact, r->n, &st, &err);
    CHECK_MSG(rc <= 0 && !rc == !!st && (!rc || err.code == rc), "rc %d", rc);
    if (!st) free(exact);
    return st;
}

static void close_rig(yd_safetensors *st)
{
    size_t n;
    if (!st) return;
    uint8_t *exact = (uint8_t *)(uintptr_t)yd_st_bytes(st, &n);
    yd_st_close(st);
    free(exact);
}

// ---- fixtures

static void equal_files(const char *folder, const char *checkpoint, const char *prefix, yd_container container, int all)
{
    char path[512];
    yd_safetensors *a = NULL, *b = NULL;
    snprintf(path, sizeof path, "fixtures/%s/%s", folder, checkpoint);
    const char *found = t_shared(path);
    if (!found) {
        t_skip(path);
        return;
    }
    CHECK_MSG(yd_tensors_open(found, &a, &err) == 0, "%s", err.detail);
    snprintf(path, sizeof path, "fixtures/%s/weights.safetensors", folder);
    found = t_shared(path);
    CHECK_MSG(found && yd_tensors_open(found, &b, &err) == 0, "%s: %s", path, err.detail);
    if (a && b) {
        CHECK_MSG(yd_tensors_container(a) == container && yd_tensors_container(b) == YD_BOX_SAFETENSORS, "%s", yd_tensors_container_name(a));
        CHECK_MSG(!all || yd_st_count(a) == yd_st_count(b), "%s: %zu and %zu tensors", folder, yd_st_count(a), yd_st_count(b));
        for (size_t i = 0; i < yd_st_count(b); i++) {
            const yd_st_tensor *want = yd_st_at(b, i);
            snprintf(path, sizeof path, "%s%s", prefix, want->name);
            const yd_st_tensor *t = yd_st_find(a, path);
            CHECK_MSG(t && t->dtype == want->dtype && t->ndim == want->ndim && !memcmp(t->dims, want->dims, sizeof t->dims) && t->bytes == want->bytes &&
                          !memcmp(t->data, want->data, t->bytes),
                      "%s: %s differs", folder, path);
        }
    }
    yd_st_close(a);
    yd_st_close(b);
}

static void fixtures_agree(void)
{
    equal_files("sr3_tiny", "I1_E1_gen.pth", "", YD_BOX_TORCH_ZIP, 1);
    equal_files("sr3_deep_rect", "I1_E1_gen.pth", "", YD_BOX_TORCH_ZIP, 1);
    equal_files("ddpm_tiny", "I1_E1_gen.pth", "", YD_BOX_TORCH_ZIP, 1);
    equal_files("sr3_legacy_format", "I1_E1_gen.pth", "", YD_BOX_TORCH_LEGACY, 1);
    equal_files("srdiff_x4_tiny", "model_ckpt_steps_7.ckpt", "state_dict.model.", YD_BOX_TORCH_LEGACY, 0);
    equal_files("srdiff_x8_tiny", "model_ckpt_steps_7.ckpt", "state_dict.model.", YD_BOX_TORCH_LEGACY, 0);
    equal_files("dino_tiny", "dino_tiny8_pretrain.pth", "", YD_BOX_TORCH_ZIP, 1);
    equal_files("dino_tiny_full_checkpoint", "dino_tiny_full_checkpoint.pth", "teacher.backbone.", YD_BOX_TORCH_ZIP, 0);
}

static double sum_of(const yd_safetensors *st, const char *prefix, const char *name)
{
    char path[128];
    float v[256];
    double sum = 0;
    snprintf(path, sizeof path, "%s%s", prefix, name);
    const yd_st_tensor *t = yd_st_find(st, path);
    CHECK_MSG(t && t->numel <= 256 && yd_st_to_f32(t, v, &err) == 0, "%s", path);
    for (size_t i = 0; t && i < t->numel; i++) sum += (double)v[i];
    return sum;
}

static void odd_but_legal(void)
{
    static const struct {
        const char *file, *prefix;
        double weight;
    } rows[] = {{"new.pth", "", -0.903677}, {"old.pth", "", -0.903677}, {"srd_new.ckpt", "state_dict.model.", -0.904877}, {"srd_old.ckpt", "state_dict.model.", -0.904877}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[64];
        yd_safetensors *st = NULL;
        snprintf(path, sizeof path, "fixtures/formats/%s", rows[i].file);
        const char *found = t_shared(path);
        if (!found) {
            t_skip(path);
            return;
        }
        CHECK_MSG(yd_tensors_open(found, &st, &err) == 0, "%s", err.detail);
        if (!st) continue;
        const char *p = rows[i].prefix;
        CHECK_MSG(fabs(sum_of(st, p, "a.weight") - rows[i].weight) < 2e-6, "%s: %.6f", path, sum_of(st, p, "a.weight"));
        CHECK(sum_of(st, p, "alias.weight") == sum_of(st, p, "a.weight") && sum_of(st, p, "betas") == 2.5 && sum_of(st, p, "n") == 7 && sum_of(st, p, "hp") == 2.0);
        char name[64];
        snprintf(name, sizeof name, "%sn", p);
        CHECK(yd_st_find(st, name)->ndim == 0 && yd_st_find(st, name)->dtype == YD_ST_I64);
        if (*p) {
            CHECK(yd_st_find(st, "optimizer_states.0.state.1.exp_avg") != NULL); // there, and in nobody's way
            CHECK(yd_tensors_other(st, 0) && !strcmp(yd_tensors_other(st, 0)->name, "global_step") && !strcmp(yd_tensors_other(st, 0)->what, "123"));
        }
        yd_st_close(st);
    }
    yd_safetensors *st = NULL;
    const char *found = t_shared("fixtures/formats/opt.pth");
    CHECK_MSG(!found || yd_tensors_open(found, &st, &err) == 0, "%s", err.detail);
    if (st) CHECK(yd_st_count(st) > 0);
    yd_st_close(st);
}

// ---- hand-made ones

static const float twelve[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

static const rig_tensor plain = {.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 2, .dims = {3, 4}, .strides = {4, 1}};

// {"w": t}
static rig pickle_of(const rig_tensor *t)
{
    rig p = {0};
    RIG_OPS(&p, "\x80\x02}");
    rig_text(&p, "w");
    rig_put_tensor(&p, t);
    RIG_OPS(&p, "s.");
    return p;
}

// A zip of that pickle and the twelve numbers, with one more entry and options.
static rig_end zip_of(const rig *pickle, rig_entry *e, size_t n, int zip64, rig *out)
{
    e[0].data = pickle->b, e[0].len = pickle->n;
    if (!e[0].name) e[0].name = "m/data.pkl";
    if (!e[1].name) e[1].name = "m/data/0";
    if (!e[1].data) e[1].data = twelve, e[1].len = sizeof twelve;
    return rig_zip(out, e, n, zip64);
}

static yd_safetensors *open_zip_of(const rig_tensor *t, rig_entry *more, int zip64)
{
    rig p = pickle_of(t), z = {0};
    rig_entry e[3] = {{0}};
    if (more) memcpy(e, more, sizeof e);
    zip_of(&p, e, e[2].name ? 3 : 2, zip64, &z);
    yd_safetensors *st = open_rig(&z);
    rig_free(&p);
    rig_free(&z);
    return st;
}

static void layouts(void)
{
    static const struct {
        rig_tensor t;
        float want[8];
    } rows[] = {
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 1, .dims = {3}, .strides = {1}, .offset = 9}, {9, 10, 11}},
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 0, .offset = 11}, {11}},
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 2, .dims = {2, 3}, .strides = {1, 4}, .offset = 1}, {1, 5, 9, 2, 6, 10}}, // transposed
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 3, .dims = {2, 1, 2}, .strides = {6, 99, 3}}, {0, 3, 6, 9}},              // a stride of a size of 1 is nobody's
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 1, .dims = {4}, .strides = {0}, .offset = 2}, {2, 2, 2, 2}},                // expanded
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 2, .dims = {0, 5}, .strides = {5, 1}, .offset = 12}, {0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        float v[12] = {0};
        yd_safetensors *st = open_zip_of(&rows[i].t, NULL, (int)i % 2);
        const yd_st_tensor *w = st ? yd_st_find(st, "w") : NULL;
        CHECK_MSG(w && w->ndim == rows[i].t.ndim && yd_st_to_f32(w, v, &err) == 0, "row %zu: %s", i, err.detail);
        if (w) CHECK_MSG(w->numel <= 8 && !memcmp(v, rows[i].want, w->numel * sizeof *v), "row %zu: %g %g %g", i, (double)v[0], (double)v[1], (double)v[2]);
        close_rig(st);
    }
}

static void every_type(void)
{
    static const struct {
        const char *type;
        yd_st_dtype dtype;
        size_t item;
    } rows[] = {{"FloatStorage", YD_ST_F32, 4}, {"HalfStorage", YD_ST_F16, 2},  {"BFloat16Storage", YD_ST_BF16, 2}, {"DoubleStorage", YD_ST_F64, 8}, {"LongStorage", YD_ST_I64, 8},
                {"IntStorage", YD_ST_I32, 4},   {"ShortStorage", YD_ST_I16, 2}, {"CharStorage", YD_ST_I8, 1},       {"ByteStorage", YD_ST_U8, 1},    {"BoolStorage", YD_ST_BOOL, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rig_tensor t = {.type = rows[i].type, .key = "0", .numel = 6, .ndim = 1, .dims = {5}, .strides = {1}, .offset = 1};
        yd_safetensors *st = open_zip_of(&t, NULL, 1);
        const yd_st_tensor *w = st ? yd_st_find(st, "w") : NULL;
        CHECK_MSG(w && w->dtype == rows[i].dtype && w->bytes == 5 * rows[i].item && !memcmp(w->data, (const char *)twelve + rows[i].item, w->bytes), "%s: %s", rows[i].type, err.detail);
        close_rig(st);
    }
}

static void damaged_tensors(void)
{
    static const struct {
        rig_tensor t;
        const char *says;
    } rows[] = {
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 1, .dims = {13}, .strides = {1}}, "beyond its storage"},
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 1, .dims = {12}, .strides = {1}, .offset = 1}, "beyond its storage"},
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 1, .dims = {2}, .strides = {12}}, "beyond its storage"},
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 2, .dims = {2, 2}, .strides = {INT64_MAX, INT64_MAX}}, "beyond its storage"},
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 1, .dims = {1}, .strides = {1}, .offset = INT64_MAX}, "beyond its storage"},
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 1, .dims = {-1}, .strides = {1}}, "whole numbers"},
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 1, .dims = {1}, .strides = {-1}}, "whole numbers"},
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 1, .dims = {1}, .strides = {1}, .offset = -1}, "whole numbers"},
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 2, .nstride = 1, .dims = {1, 1}, .strides = {1}}, "not as many"},
        {{.type = "FloatStorage", .key = "0", .numel = -12, .ndim = 1, .dims = {1}, .strides = {1}}, "no size"},
        {{.type = "FloatStorage", .key = "0", .numel = 13, .ndim = 1, .dims = {1}, .strides = {1}}, "too few"},
        {{.type = "DoubleStorage", .key = "0", .numel = 7, .ndim = 1, .dims = {1}, .strides = {1}}, "too few"},
        {{.type = "FloatStorage", .key = "0", .numel = INT64_MAX, .ndim = 1, .dims = {INT64_MAX}, .strides = {1}}, "overflows"},
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 3, .dims = {INT64_MAX, INT64_MAX, 0}, .strides = {0, 0, 0}}, "overflows"},
        {{.type = "FloatStorage", .key = "1", .numel = 12, .ndim = 1, .dims = {1}, .strides = {1}}, "lacks m/data/1"},
        {{.type = "FloatStorage", .key = "../data/0", .numel = 12, .ndim = 1, .dims = {1}, .strides = {1}}, "lacks"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        yd_safetensors *st = open_zip_of(&rows[i].t, NULL, 1);
        CHECK_MSG(!st && err.code == YD_E_CHECKPOINT && strstr(err.detail, rows[i].says), "row %zu: %s", i, err.detail);
        close_rig(st);
    }
}

// Legal, useless, and only a hindrance to whoever wants it.
static void left_alone(void)
{
    static const struct {
        rig_tensor t;
        const char *what;
    } rows[] = {
        {{.type = "ComplexFloatStorage", .key = "0", .numel = 1, .ndim = 1, .dims = {1}, .strides = {1}}, "does not know"},
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 9, .dims = {1, 1, 1, 1, 1, 1, 1, 1, 1}, .strides = {1, 1, 1, 1, 1, 1, 1, 1, 1}}, "more than 8"},
        {{.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 2, .dims = {1 << 20, 1 << 20}, .strides = {0, 0}}, "too large to be put in order"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        yd_safetensors *st = open_zip_of(&rows[i].t, NULL, 1);
        const yd_st_other *o = st ? yd_tensors_other(st, 0) : NULL;
        CHECK_MSG(o && yd_st_count(st) == 0 && o->opaque && !strcmp(o->name, "w") && strstr(o->what, rows[i].what), "row %zu: %s", i, o ? o->what : err.detail);
        if (st) CHECK(yd_tensors_missing(st, "w.inside", &err) == YD_E_CHECKPOINT && strstr(err.detail, rows[i].what));
        if (st) CHECK(yd_tensors_missing(st, "wide", &err) == YD_E_CHECKPOINT && strstr(err.detail, "lacks the tensor wide"));
        close_rig(st);
    }
}

static yd_safetensors *open_pickle(const void *ops, size_t n, const rig_tensor *t, const void *rest, size_t m)
{
    rig p = {0}, z = {0};
    rig_bytes(&p, ops, n);
    if (t) rig_put_tensor(&p, t);
    rig_bytes(&p, rest, m);
    rig_entry e[2] = {{0}};
    zip_of(&p, e, 2, 1, &z);
    yd_safetensors *st = open_rig(&z);
    rig_free(&p);
    rig_free(&z);
    return st;
}
#define OPEN(before, t, after) open_pickle("" before, sizeof(before) - 1, t, "" after, sizeof(after) - 1)

static void names_from_nesting(void)
{
    yd_safetensors *st = OPEN("\x80\x02}X\x01\x00\x00\x00" "a](K\x01N}(K\x07X\x03\x00\x00\x00" "b.cu", NULL, "");
    CHECK(!st); // no STOP
    // {"a": [1, None, {7: ccollections.OrderedDict(w=tensor)}], "epoch": 3, "args": argparse.Namespace(...)}
    st = OPEN("\x80\x02}(X\x01\x00\x00\x00" "a](K\x01N}K\x07" "ccollections\nOrderedDict\n)RX\x01\x00\x00\x00w", &plain,
              "sseX\x05\x00\x00\x00" "epochK\x03X\x04\x00\x00\x00" "args" "cargparse\nNamespace\n)\x81}X\x02\x00\x00\x00" "lrK\x01sbX\x03\x00\x00\x00" "bad" "cos\nsystem\n" "X\x05\x00\x00\x00" "r" "m -r\x85Ru.");
    CHECK_MSG(st && yd_st_count(st) == 1 && !strcmp(yd_st_at(st, 0)->name, "a.2.7.w"), "%s", st && yd_st_count(st) ? yd_st_at(st, 0)->name : err.detail);
    if (st) {
        static const char *const want[][2] = {{"epoch", "3"}, {"args", "an object of argparse.Namespace, which is left alone"}, {"bad", "an object of os.system, which is left alone"}};
        for (size_t i = 0; i < 3; i++) {
            const yd_st_other *o = yd_tensors_other(st, i);
            CHECK_MSG(o && !strcmp(o->name, want[i][0]) && !strcmp(o->what, want[i][1]), "%zu: %s %s", i, o ? o->name : "", o ? o->what : "");
        }
        CHECK(yd_tensors_missing(st, "args.w", &err) && strstr(err.detail, "argparse.Namespace"));
    }
    close_rig(st);
    st = OPEN("\x80\x02", &plain, "."); // nothing but a tensor
    CHECK_MSG(st && yd_st_count(st) == 1 && !strcmp(yd_st_at(st, 0)->name, "tensor"), "%s", err.detail);
    close_rig(st);
    st = OPEN("\x80\x02}(X\x03\x00\x00\x00" "x.y", &plain, "X\x01\x00\x00\x00x}X\x01\x00\x00\x00yNsu."); // the name twice, but only one tensor
    CHECK_MSG(st && yd_st_count(st) == 1, "%s", err.detail);
    close_rig(st);
    st = OPEN("\x80\x02}(X\x01\x00\x00\x00w", &plain, "q\x05X\x01\x00\x00\x00wh\x05u.");
    CHECK_MSG(!st && strstr(err.detail, "two tensors are called 'w'"), "%s", err.detail);
    close_rig(st);
    st = OPEN("\x80\x02}(X\x03\x00\x00\x00" "a\x1b" "b", &plain, "u."); // escapes reach no terminal
    CHECK(st && yd_st_count(st) == 0 && !strcmp(yd_tensors_other(st, 0)->name, "?"));
    close_rig(st);
}

static void parameters_and_their_kind(void)
{
    static const struct {
        const char *before, *after;
        size_t n, m;
    } rows[] = {
#define ROW(b, a) {"" b, "" a, sizeof(b) - 1, sizeof(a) - 1}
        ROW("\x80\x02" "ctorch._utils\n_rebuild_parameter\n(", "\x88" "ccollections\nOrderedDict\n)RtR."),
        ROW("\x80\x02" "ctorch.nn.parameter\nParameter\n(", "\x88tR."),
        ROW("\x80\x02" "ctorch._utils\n_rebuild_parameter_with_state\n(", "\x88N}tR."),
#undef ROW
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        yd_safetensors *st = open_pickle(rows[i].before, rows[i].n, &plain, rows[i].after, rows[i].m);
        CHECK_MSG(st && yd_st_find(st, "tensor") && yd_st_find(st, "tensor")->numel == 12, "row %zu: %s", i, err.detail);
        close_rig(st);
    }
}

// A dict that holds itself, lists of lists of lists, and one object reached on two to the thirtieth ways.
static void webs(void)
{
    yd_safetensors *st = OPEN("\x80\x02}q\x01(X\x01\x00\x00\x00sh\x01X\x01\x00\x00\x00w", &plain, "u.");
    CHECK_MSG(st && yd_st_count(st) == 16, "%s", err.detail); // w, s.w, s.s.w ... are different names, as far down as it goes
    close_rig(st);
    rig p = {0};
    RIG_OPS(&p, "\x80\x02N\x94");
    for (int i = 0; i < 30; i++) {
        RIG_OPS(&p, "](");
        for (int k = 0; k < 30; k++) {
            RIG_OPS(&p, "h");
            rig_number(&p, (uint64_t)i, 1);
        }
        RIG_OPS(&p, "e\x94");
    }
    RIG_OPS(&p, ".");
    st = open_pickle(p.b, p.n, NULL, "", 0);
    CHECK_MSG(!st && strstr(err.detail, "2^21 values are reached"), "%s", err.detail);
    close_rig(st);
    rig_free(&p);
}

static void zips_that_are_fine(void)
{
    rig_entry rows[][3] = {
        {{0}, {0}, {0}},
        {{.descriptor = 1}, {.descriptor = 1}, {0}},
        {{.wide = 1}, {.wide = 1, .descriptor = 1}, {0}},
        {{0}, {0}, {.name = "m/byteorder", .data = "little", .len = 6}},
        {{0}, {0}, {.name = "m/.data/serialization_id", .data = "12345", .len = 5}},
        {{0}, {0}, {.name = "elsewhere/data.pkl", .data = "\x80\x02" "boom", .len = 6}},
        {{.name = "a b-\xc3\xa4/data.pkl"}, {.name = "a b-\xc3\xa4/data/0"}, {0}},
        {{0}, {0}, {.name = "m/a..b", .data = "", .len = 0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int zip64 = 0; zip64 < 2; zip64++) {
            yd_safetensors *st = open_zip_of(&plain, rows[i], zip64);
            CHECK_MSG(st && yd_st_find(st, "w") && !memcmp(yd_st_find(st, "w")->data, twelve, sizeof twelve), "row %zu: %s", i, err.detail);
            CHECK(!st || yd_tensors_container(st) == YD_BOX_TORCH_ZIP);
            close_rig(st);
        }
}

static void zips_that_mean_harm(void)
{
    static const struct {
        rig_entry e[3];
        const char *says;
    } rows[] = {
        {{{0}, {.method = 8}, {0}}, "compressed"},
        {{{0}, {.flags = 1}, {0}}, "encrypted"},
        {{{0}, {.flags = 1 << 6}, {0}}, "encrypted"},
        {{{0}, {0}, {.name = "m/data/0", .data = "x", .len = 1}}, "twice"},
        {{{0}, {0}, {.name = "m/../../etc/passwd", .data = "x", .len = 1}}, "leads out"},
        {{{0}, {0}, {.name = "..", .data = "x", .len = 1}}, "leads out"},
        {{{0}, {0}, {.name = "m/..", .data = "x", .len = 1}}, "leads out"},
        {{{0}, {0}, {.name = "/m/x", .data = "x", .len = 1}}, "absolute"},
        {{{0}, {0}, {.name = "m\\x", .data = "x", .len = 1}}, "backslash"},
        {{{0}, {0}, {.name = "m/\x01", .data = "x", .len = 1}}, "control"},
        {{{0}, {.local_name = "m/data/1"}, {0}}, "another name"},
        {{{0}, {.claims = 1 << 20}, {0}}, "leave the file"},
        {{{0}, {.claims = (size_t)-1, .wide = 1}, {0}}, "leave the file"},
        {{{0}, {.claims = 100}, {.name = "m/z", .data = "0123456789012345678901234567890123456789012345678901234567890123456789", .len = 70}}, "overlaps"},
        {{{0}, {.moved = 1}, {0}}, "no entry where"},
        {{{0}, {.moved = -1}, {0}}, "no entry where"},
        {{{0}, {.moved = 1 << 30}, {0}}, "no entry where"},
        {{{0}, {.moved = INT64_MIN, .wide = 1}, {0}}, "no entry where"},
        {{{0}, {0}, {.name = "m/byteorder", .data = "big", .len = 3}}, "big-endian"},
        {{{0}, {0}, {.name = "m/constants.pkl", .data = "x", .len = 1}}, "TorchScript"},
        {{{.name = "data.pkl"}, {0}, {0}}, "in no folder"},
        {{{.name = "m/other.pkl"}, {0}, {0}}, "no m/data.pkl"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int zip64 = 0; zip64 < 2; zip64++) {
            rig_entry e[3];
            memcpy(e, rows[i].e, sizeof e);
            yd_safetensors *st = open_zip_of(&plain, e, zip64);
            CHECK_MSG(!st && err.code == YD_E_CHECKPOINT && strstr(err.detail, rows[i].says), "row %zu: %s", i, err.detail);
            close_rig(st);
        }
}

// Bytes of the end records that are spoiled, one at a time.
static void ends_that_lie(void)
{
    rig p = pickle_of(&plain);
    static const struct {
        int part, at, bytes; // part: 0 the end, 1 zip64's locator, 2 zip64's end
        uint64_t value;
        const char *says;
    } rows[] = {
        {0, 4, 2, 1, NULL}, // the disk: zip64 has it
        {0, 10, 2, 7, "contradict"}, {0, 12, 4, 9, "contradict"}, {0, 16, 4, 9, "contradict"}, {0, 20, 2, 1, "cut short"}, {0, 0, 4, 0, "cut short"},
        {1, 4, 4, 1, "disks"}, {1, 16, 4, 2, "disks"}, {1, 8, 8, 0, "not where"}, {1, 8, 8, UINT64_MAX, "not where"}, {1, 8, 8, 1 << 30, "not where"},
        {2, 4, 8, 45, "another size"}, {2, 4, 8, UINT64_MAX, "another size"}, {2, 16, 4, 1, "disks"}, {2, 24, 8, 3, "disks"},
        {2, 40, 8, 1, "does not end where"}, {2, 40, 8, UINT64_MAX, "does not end where"}, {2, 48, 8, 0, "does not end where"}, {2, 48, 8, UINT64_MAX, "does not end where"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rig z = {0};
        rig_entry e[2] = {{0}};
        const rig_end end = zip_of(&p, e, 2, 1, &z);
        const size_t part[] = {end.end, end.locator, end.end64};
        for (int k = 0; k < rows[i].bytes; k++) z.b[part[rows[i].part] + (size_t)rows[i].at + (size_t)k] = (uint8_t)(rows[i].value >> (8 * k));
        yd_safetensors *st = open_rig(&z);
        CHECK_MSG(rows[i].says ? !st && strstr(err.detail, rows[i].says) : !!st, "row %zu: %s", i, err.detail);
        close_rig(st);
        rig_free(&z);
    }
    rig_free(&p);
}

// ---- the legacy container

typedef struct legacy {
    int big;
    const char *keys[3]; // of the list
    uint64_t numel;      // before the data
    size_t bytes;        // of data
    const char *says;    // NULL: it opens
} legacy;

static void legacy_ones(void)
{
    static const legacy rows[] = {
        {0, {"94001"}, 12, 48, NULL}, {1, {"94001"}, 12, 48, "big-endian"}, {0, {"94001"}, 11, 48, "another number"}, {0, {"94001"}, UINT64_MAX, 48, "another number"},
        {0, {"94001"}, 12, 47, "ends within"}, {0, {"94001"}, 12, 0, "ends within"}, {0, {"94001"}, 12, 49, "belong to none"}, {0, {"94001", "94001"}, 12, 48, "twice"},
        {0, {"7"}, 12, 48, "no tensor has"}, {0, {NULL}, 12, 48, "56 bytes after"}, {0, {"94001", "7"}, 12, 48, "no tensor has"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rig r = {0};
        rig_tensor t = plain;
        t.key = "94001";
        t.legacy = 1;
        rig_legacy_preamble(&r, !rows[i].big);
        RIG_OPS(&r, "\x80\x02}X\x01\x00\x00\x00w");
        rig_put_tensor(&r, &t);
        RIG_OPS(&r, "s.\x80\x02](");
        for (int k = 0; k < 3 && rows[i].keys[k]; k++) rig_text(&r, rows[i].keys[k]);
        RIG_OPS(&r, "e.");
        rig_number(&r, rows[i].numel, 8);
        for (size_t k = 0; k < rows[i].bytes; k++) rig_bytes(&r, (const uint8_t *)twelve + k % sizeof twelve, 1);
        yd_safetensors *st = open_rig(&r);
        if (rows[i].says) CHECK_MSG(!st && err.code == YD_E_CHECKPOINT && strstr(err.detail, rows[i].says), "row %zu: %s", i, err.detail);
        else CHECK_MSG(st && yd_tensors_container(st) == YD_BOX_TORCH_LEGACY && !memcmp(yd_st_find(st, "w")->data, twelve, 48), "row %zu: %s", i, err.detail);
        close_rig(st);
        rig_free(&r);
    }
}

static void other_files(void)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *says;
    } rows[] = {
#define ROW(text, says) {"" text, sizeof(text) - 1, says}
        ROW("", "too few"), ROW("PK\x03\x04", "too few"), ROW("PK\x03\x04" "aaaa", "too short"), ROW("PK\x03\x04" "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "cut short"),
        ROW("\x1f\x8b\x08\0\0\0\0\0\0", "gzip"), ROW("\x89PNG\r\n\x1a\n....", "PNG"), ROW("<!DOCTYPE html>", "web page"), ROW("version https://git-lfs.github.com/spec/v1", "git-lfs"),
        ROW("\x80\x02]q\0.......", "none of PyTorch's"), ROW("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe8\x03.", "another version"),
        ROW("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "without a STOP"), ROW("12345678", "safetensors"), ROW("\x02\0\0\0\0\0\0\0{}", NULL),
#undef ROW
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        rig r = {0};
        rig_bytes(&r, rows[i].bytes, rows[i].len);
        yd_safetensors *st = open_rig(&r);
        CHECK_MSG(rows[i].says ? !st && strstr(err.detail, rows[i].says) : !!st, "row %zu: %s", i, err.detail);
        close_rig(st);
        rig_free(&r);
    }
    char tar[512] = "weights";
    memcpy(tar + 257, "ustar", 6);
    rig r = {0};
    rig_bytes(&r, tar, sizeof tar);
    CHECK(!open_rig(&r) && strstr(err.detail, "tar file"));
    rig_free(&r);
    yd_safetensors *st = NULL;
    CHECK(yd_tensors_open("/nowhere", &st, &err) == YD_E_IO && yd_tensors_open("/", &st, &err) == YD_E_IO && !st);
}

static void touch_all(const yd_safetensors *st)
{
    static uint8_t copy[4096];
    size_t n;
    const uint8_t *file = yd_st_bytes(st, &n);
    (void)file;
    for (size_t i = 0; i < yd_st_count(st); i++) {
        const yd_st_tensor *t = yd_st_at(st, i);
        for (size_t at = 0; at < t->bytes; at += sizeof copy) memcpy(copy, (const uint8_t *)t->data + at, t->bytes - at < sizeof copy ? t->bytes - at : sizeof copy);
    }
    for (size_t i = 0; yd_tensors_other(st, i); i++) CHECK(strlen(yd_tensors_other(st, i)->name) <= 511 && yd_tensors_other(st, i)->what[0]);
}

// Every prefix, and bytes changed at random: whatever still opens can be read.
static void broken_in_every_way(void)
{
    rig p = pickle_of(&plain), kinds[2] = {{0}};
    rig_entry e[2] = {{.descriptor = 1}, {.wide = 1}};
    zip_of(&p, e, 2, 1, &kinds[0]);
    rig_legacy_preamble(&kinds[1], 1);
    rig_bytes(&kinds[1], p.b, p.n);
    RIG_OPS(&kinds[1], "\x80\x02](");
    rig_text(&kinds[1], "0");
    RIG_OPS(&kinds[1], "e.");
    rig_number(&kinds[1], 12, 8);
    rig_bytes(&kinds[1], twelve, sizeof twelve);
    unsigned seed = 1;
    for (int k = 0; k < 2; k++) {
        rig whole = kinds[k];
        yd_safetensors *st = open_rig(&whole);
        CHECK_MSG(st != NULL, "%s", err.detail);
        close_rig(st);
        for (whole.n = 0; whole.n < kinds[k].n; whole.n++) {
            st = open_rig(&whole);
            CHECK_MSG(!st, "%zu of %zu bytes open", whole.n, kinds[k].n);
            close_rig(st);
        }
        for (int round = 0; round < 20000; round++) {
            rig spoilt = {0};
            rig_bytes(&spoilt, kinds[k].b, kinds[k].n);
            for (int c = 0; c < 1 + round % 3; c++) {
                seed = seed * 1664525u + 1013904223u;
                spoilt.b[(seed >> 8) % spoilt.n] = (uint8_t)(seed >> 24);
            }
            st = open_rig(&spoilt);
            if (st) touch_all(st);
            close_rig(st);
            rig_free(&spoilt);
        }
        rig_free(&kinds[k]);
    }
    rig_free(&p);
}

static void no_memory(void)
{
    rig p = pickle_of(&(rig_tensor){.type = "FloatStorage", .key = "0", .numel = 12, .ndim = 2, .dims = {2, 3}, .strides = {1, 4}}), z = {0};
    rig_entry e[2] = {{0}};
    zip_of(&p, e, 2, 1, &z);
    for (long n = 1;; n++) {
        yd_safetensors *st = NULL;
        yd_mem_fail_at(n);
        const int rc = yd_tensors_open_memory(z.b, z.n, &st, &err);
        yd_mem_fail_at(0);
        yd_st_close(st);
        if (!rc) {
            CHECK_MSG(n > 8, "only %ld allocations", n);
            break;
        }
        CHECK_MSG(rc == YD_E_NOMEM && !st && n < 100, "allocation %ld: %d", n, rc);
        if (rc != YD_E_NOMEM || n >= 100) break;
    }
    rig_free(&p);
    rig_free(&z);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"tensors: the fixtures' checkpoints equal the safetensors beside them", fixtures_agree},
        {"tensors: odd but legal files of the fixtures", odd_but_legal},
        {"tensors: offsets, strides, scalars, empty ones", layouts},
        {"tensors: every type", every_type},
        {"tensors: damaged ones are refused", damaged_tensors},
        {"tensors: what is legal but no use is left alone", left_alone},
        {"tensors: names from nesting", names_from_nesting},
        {"tensors: parameters and their kind", parameters_and_their_kind},
        {"tensors: objects that hold themselves", webs},
        {"tensors: zips that are fine", zips_that_are_fine},
        {"tensors: zips that mean harm", zips_that_mean_harm},
        {"tensors: end records that lie", ends_that_lie},
        {"tensors: the legacy container", legacy_ones},
        {"tensors: other files", other_files},
        {"tensors: broken in every way", broken_in_every_way},
        {"tensors: no memory", no_memory},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
