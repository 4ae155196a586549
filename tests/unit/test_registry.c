// The registry's bookkeeping: states, versions, seats, the budget, names. No files, no device: models are made up.
#include "daemon/registry.h"

#include "core/mem.h"
#include "tests/unit/t.h"

#include <stdio.h>

static yd_registry r;
static yd_err err;

static yd_model_file file(const char *name, const char *title, int64_t version)
{
    yd_model_file f = {.bytes = 100, .mtime_ns = version, .inode = 1};
    snprintf(f.name, sizeof f.name, "%s", name);
    snprintf(f.title, sizeof f.title, "%s", title);
    snprintf(f.path, sizeof f.path, "/models/%s.safetensors", name);
    return f;
}

// A registry with these models, the first being the default.
static void open_with(size_t budget, int n, const char *const *names)
{
    yd_model_file files[YD_MODELS_MAX];
    for (int i = 0; i < n; i++) files[i] = file(names[i], names[i], 1);
    yd_registry_init(&r, budget, 0);
    CHECK(yd_registry_see(&r, files, n, &err) == 0 && r.n == n);
    snprintf(r.default_name, sizeof r.default_name, "%s", names[0]);
}

static yd_model_record *find(const char *name)
{
    yd_model_record *m = NULL;
    CHECK_MSG(yd_registry_find(&r, name, &m, &err) == 0, "%s", err.detail);
    return m;
}

static yd_model_state state(const char *name)
{
    return yd_model_record_state(find(name));
}

static yd_model *model(const char *checksum, size_t params)
{
    yd_model *m = yd_calloc(1, sizeof *m);
    yd_model_config_init(&m->cfg);
    m->param_count = params;
    m->map_net = yd_calloc(1, sizeof *m->map_net);
    m->cfg.map_net = m->map_net;
    snprintf(m->checksum, sizeof m->checksum, "%s", checksum);
    return m;
}

// The way of a load up to its reservation: what that returned.
static int reserve(const char *name, const char *checksum, size_t params, yd_resident **v)
{
    yd_registry_want(&r, find(name));
    yd_model_record *m = yd_registry_begin(&r);
    CHECK(m == find(name) && m->loading);
    yd_model *read = model(checksum, params);
    *v = NULL;
    const int rc = yd_registry_reserve(&r, m, &m->file, read, v, &err);
    CHECK((rc == 0) == (*v != NULL) && (rc != 0 || !read->map_net));
    yd_model_free(read);
    if (rc < 0) yd_registry_refuse(&r, m, &err);
    return rc;
}

static yd_resident *load(const char *name, const char *checksum, size_t bytes)
{
    yd_resident *v;
    CHECK_MSG(reserve(name, checksum, 1, &v) == 0, "%s", err.detail);
    if (!v) exit(1);
    v->n_engines = 1;
    v->engine[0].weight_bytes = bytes;
    CHECK_MSG(yd_registry_commit(&r, v, &err) == 0, "%s", err.detail);
    return v;
}

static int leave_all(void)
{
    int n = 0;
    for (yd_resident *v; (v = yd_registry_leaving(&r)); n++) yd_registry_left(&r, v);
    return n;
}

static const char *const three[] = {"a", "b", "c"};

static void states(void)
{
    open_with(1000, 3, three);
    CHECK(state("b") == YD_MODEL_AVAILABLE && strcmp(yd_model_state_name(YD_MODEL_DRAINING), "draining") == 0);
    yd_registry_want(&r, find("b"));
    CHECK(state("b") == YD_MODEL_LOADING && state("a") == YD_MODEL_AVAILABLE); // from when it is asked for
    yd_resident *v;
    CHECK(reserve("b", "one", 1, &v) == 0 && state("b") == YD_MODEL_LOADING);
    v->n_engines = 1;
    v->engine[0].weight_bytes = 10;
    CHECK(yd_registry_commit(&r, v, &err) == 0 && state("b") == YD_MODEL_RESIDENT && find("b")->current == v);
    CHECK(strcmp(v->cfg.name, "b") == 0 && v->cfg.map_net == v->map && v->map); // it is called as its file
    yd_resident_hold(v);
    yd_registry_unload(find("b"));
    CHECK(state("b") == YD_MODEL_DRAINING && !yd_registry_leaving(&r) && yd_model_record_users(find("b")) == 1);
    yd_resident_release(v);
    CHECK(yd_registry_leaving(&r) == v && !yd_registry_leaving(&r)); // told once
    CHECK(state("b") == YD_MODEL_DRAINING && yd_registry_bytes(&r) == 10); // its memory is not free yet
    yd_registry_left(&r, v);
    CHECK(state("b") == YD_MODEL_AVAILABLE && yd_registry_bytes(&r) == 0 && r.seats == 0);
    yd_registry_clear(&r);
}

static void one_load_at_a_time(void)
{
    open_with(1000, 3, three);
    yd_registry_want(&r, find("c"));
    yd_registry_want(&r, find("a"));
    yd_registry_want(&r, find("c")); // keeps its place
    yd_model_record *m = yd_registry_begin(&r);
    CHECK(m == find("c") && !yd_registry_begin(&r));
    yd_err why = {0};
    yd_fail(&why, YD_E_CHECKPOINT, "tensor x is missing");
    yd_registry_refuse(&r, m, &why);
    CHECK(state("c") == YD_MODEL_FAILED && find("c")->loads[0] == 1 && strcmp(find("c")->problem.detail, "tensor x is missing") == 0);
    CHECK(yd_registry_begin(&r) == find("a") && !yd_registry_begin(&r));
    // A file that was replaced gets another chance; the same one does not lose its problem by being looked at.
    yd_model_file files[] = {file("a", "a", 1), file("b", "b", 1), file("c", "c", 1)};
    CHECK(yd_registry_see(&r, files, 3, &err) == 0 && state("c") == YD_MODEL_FAILED);
    files[2].mtime_ns++;
    CHECK(yd_registry_see(&r, files, 3, &err) == 0 && state("c") == YD_MODEL_AVAILABLE);
    yd_registry_clear(&r);
}

static void versions(void)
{
    open_with(1000, 1, three);
    yd_resident *one = yd_resident_hold(load("a", "one", 10)), *two;
    two = load("a", "two", 20);
    CHECK(find("a")->current == two && state("a") == YD_MODEL_RESIDENT && two->seat != one->seat);
    CHECK(yd_model_record_bytes(find("a")) == 30 && leave_all() == 0 && strcmp(one->checksum, "one") == 0);
    // The old file is put back while the old version still has a job: it serves again, nothing is compiled.
    yd_resident *none;
    CHECK(reserve("a", "one", 1, &none) == 1 && find("a")->current == one);
    CHECK(leave_all() == 1 && yd_model_record_bytes(find("a")) == 10 && find("a")->loads[1] == 3);
    CHECK(reserve("a", "one", 1, &none) == 1 && find("a")->current == one); // and the same once more changes nothing
    yd_resident_release(one);
    CHECK(leave_all() == 0);
    yd_registry_unload(find("a"));
    CHECK(yd_registry_leaving(&r) == one);
    // What has begun to leave does not come back.
    CHECK(reserve("a", "one", 1, &two) == 0 && two != one && two->seat != one->seat);
    yd_registry_left(&r, one);
    yd_registry_refuse(&r, find("a"), &(yd_err){.code = YD_E_DEVICE});
    CHECK(r.seats == 0 && yd_registry_bytes(&r) == 0);
    yd_registry_clear(&r);
}

static void a_refused_version_leaves_the_old_one(void)
{
    open_with(1000, 1, three);
    yd_resident *one = load("a", "one", 10), *two;
    CHECK(reserve("a", "two", 1, &two) == 0);
    yd_err why = {0};
    yd_fail(&why, YD_E_UNSUPPORTED, "no such kernel");
    yd_registry_refuse(&r, find("a"), &why);
    CHECK(find("a")->current == one && state("a") == YD_MODEL_RESIDENT && find("a")->problem.code == YD_E_UNSUPPORTED);
    load("a", "three", 10);
    CHECK(find("a")->problem.code == 0); // it is over
    leave_all();
    yd_registry_clear(&r);
}

static void budget(void)
{
    open_with(100 << 20, 3, three);
    load("a", "one", 60 << 20);
    yd_resident *v;
    // Known from the file: its weights alone are too much.
    CHECK(reserve("b", "one", 11 << 20, &v) == YD_E_MODEL_ROOM && strcmp(err.field, "model_memory_bytes") == 0);
    CHECK_MSG(strstr(err.accepted, "100 MiB") && strstr(err.detail, "60 of 100 MiB") && strstr(err.detail, "at least 44 MiB"), "%s: %s", err.detail, err.accepted);
    CHECK(state("b") == YD_MODEL_AVAILABLE && find("b")->problem.code == YD_E_MODEL_ROOM); // the file is not to blame
    // Known when it is compiled.
    CHECK(reserve("b", "one", 1, &v) == 0);
    v->n_engines = 2;
    v->engine[0].weight_bytes = 30 << 20;
    v->engine[1].arena_bytes = 11 << 20;
    CHECK(yd_registry_commit(&r, v, &err) == YD_E_MODEL_ROOM && !find("b")->current && strstr(err.detail, "takes 41 MiB"));
    CHECK(leave_all() == 1 && state("b") == YD_MODEL_AVAILABLE && yd_registry_bytes(&r) == 60 << 20);
    load("b", "one", 40 << 20); // to the last byte
    // A budget that was guessed lets in one model.
    yd_registry_clear(&r);
    yd_registry_init(&r, 1, 1);
    const yd_model_file two[] = {file("a", "a", 1), file("b", "b", 1)};
    CHECK(yd_registry_see(&r, two, 2, &err) == 0);
    load("a", "one", 60 << 20);
    CHECK(reserve("b", "one", 1, &v) == YD_E_MODEL_ROOM);
    yd_registry_clear(&r);
}

static void seats(void)
{
    static char names[YD_SEATS + 1][16];
    const char *list[YD_SEATS + 1];
    for (int i = 0; i <= YD_SEATS; i++) {
        snprintf(names[i], sizeof names[i], "m%02d", i);
        list[i] = names[i];
    }
    open_with(1 << 20, YD_SEATS + 1, list);
    for (int i = 0; i < YD_SEATS; i++) CHECK(load(names[i], "one", 1)->seat == i);
    yd_resident *v;
    CHECK(reserve(names[YD_SEATS], "one", 1, &v) == YD_E_MODEL_ROOM && strstr(err.detail, "16"));
    yd_registry_unload(find("m07"));
    CHECK(leave_all() == 1 && load(names[YD_SEATS], "one", 1)->seat == 7);
    yd_registry_clear(&r);
}

static void unloaded_while_it_loads(void)
{
    open_with(1000, 2, three);
    yd_resident *v;
    yd_registry_want(&r, find("b"));
    yd_registry_unload(find("b")); // before it began
    CHECK(!yd_registry_begin(&r) && state("b") == YD_MODEL_AVAILABLE);
    CHECK(reserve("b", "one", 1, &v) == 0);
    yd_registry_unload(find("b"));
    v->n_engines = 1;
    CHECK(yd_registry_commit(&r, v, &err) == 0 && !find("b")->current && yd_registry_leaving(&r) == v);
    yd_registry_left(&r, v);
    CHECK(state("b") == YD_MODEL_AVAILABLE && r.seats == 0);
    // Wanted again before it has come: it is loaded once more, or kept.
    CHECK(reserve("b", "one", 1, &v) == 0);
    yd_registry_unload(find("b"));
    yd_registry_want(&r, find("b"));
    v->n_engines = 1;
    CHECK(yd_registry_commit(&r, v, &err) == 0 && find("b")->current == v);
    yd_registry_clear(&r);
}

static void names(void)
{
    const yd_model_file files[] = {file("old", "faces-4x", 1), file("photo", "photo-4x", 1), file("young", "faces-4x", 1)};
    yd_model_record *m = NULL;
    yd_registry_init(&r, 1000, 0);
    CHECK(yd_registry_see(&r, files, 3, &err) == 0);
    snprintf(r.default_name, sizeof r.default_name, "photo");
    CHECK(find("old") != find("young") && find("photo") == find("photo-4x") && find("") == find("photo"));
    CHECK(yd_registry_find(&r, "faces-4x", &m, &err) == YD_E_SETTING && strstr(err.detail, "2 models") && strcmp(err.field, "model") == 0);
    CHECK(yd_registry_find(&r, "none", &m, &err) == YD_E_SETTING && strcmp(err.accepted, "old, photo, young") == 0);
    // What is gone is forgotten unless it is resident, and then when it has left.
    load("photo", "one", 1);
    CHECK(yd_registry_see(&r, files, 1, &err) == 0 && r.n == 2 && find("photo")->gone);
    char list[64];
    yd_registry_names(&r, 1, list, sizeof list);
    CHECK(strcmp(list, "photo") == 0);
    yd_registry_unload(find("photo"));
    CHECK(leave_all() == 1 && r.n == 1);
    yd_registry_clear(&r);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"registry: states", states},
        {"registry: one load at a time, in the order they were asked for", one_load_at_a_time},
        {"registry: versions", versions},
        {"registry: a version that is refused leaves the old one", a_refused_version_leaves_the_old_one},
        {"registry: the budget", budget},
        {"registry: seats", seats},
        {"registry: unloaded while it loads", unloaded_while_it_loads},
        {"registry: names", names},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
