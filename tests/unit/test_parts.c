// Files in parts: written, read as any file, replaced either way, and every damage named. Cuts are checked against the bytes of the same
// file in one piece.
#include "core/file.h"
#include "core/mem.h"
#include "core/parts.h"
#include "core/safetensors.h"
#include "core/tensors.h"
#include "t.h"

#include <dirent.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

enum { VALUES = 100000 };
static char folder[] = "/tmp/yd-test-parts-XXXXXX";
static float values[VALUES];

static const char *in_folder(const char *name)
{
    static char path[4][600];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%.255s", folder, name);
    return path[turn];
}

// Delete what is there, and count it.
static int empty_folder(void)
{
    DIR *d = opendir(folder);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') n += unlink(in_folder(e->d_name)) == 0;
    if (d) closedir(d);
    return n;
}

static int count_files(const char *with)
{
    DIR *d = opendir(folder);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && strstr(e->d_name, with);
    if (d) closedir(d);
    return n;
}

static int save(const char *name, float first, size_t part_bytes, yd_err *err)
{
    const int64_t dims[1] = {VALUES};
    yd_st_writer *w = yd_st_writer_new();
    values[0] = first;
    int rc = w ? yd_st_writer_add(w, "v", YD_ST_F32, 1, dims, values, err) : YD_E_NOMEM;
    if (!rc) rc = yd_st_writer_metadata(w, "note", "in parts", err);
    if (!rc) rc = yd_st_writer_save_parts(w, in_folder(name), part_bytes, err);
    yd_st_writer_free(w);
    return rc;
}

static float first_value(const char *name)
{
    yd_safetensors *st;
    float got = -1;
    if (yd_tensors_open(in_folder(name), &st, NULL)) return -1;
    const yd_st_tensor *t = yd_st_find(st, "v");
    if (t && t->numel == VALUES && memcmp((const float *)t->data + 1, values + 1, sizeof values - sizeof *values) == 0)
        memcpy(&got, t->data, sizeof got);
    yd_st_close(st);
    return got;
}

// The bytes of a file; of one in parts, as its index says.
static void *whole(const char *name, size_t *len)
{
    void *bytes = NULL, *map = NULL;
    if (yd_file_read(in_folder(name), 1 << 22, &bytes, len, NULL)) return NULL;
    if (!yd_parts_is_index(bytes, *len)) return bytes;
    size_t n = 0;
    char *copy = NULL;
    if (!yd_parts_map(in_folder(name), bytes, *len, &map, &n, NULL) && (copy = yd_malloc(n))) memcpy(copy, map, n);
    if (map) munmap(map, n);
    yd_free(bytes);
    *len = n;
    return copy;
}

static void same_bytes_as_in_a_piece(void)
{
    yd_err err = {0};
    size_t n = 0, m = 0;
    for (int i = 0; i < VALUES; i++) values[i] = (float)i * 0.5f;
    CHECK_MSG(save("piece", 7, 0, &err) == 0, "%s", err.detail);
    for (size_t bytes = YD_PARTS_LEAST; bytes < 1000000; bytes = bytes * 3 + 100) {
        CHECK_MSG(save("parts", 7, bytes, &err) == 0, "%s", err.detail);
        void *a = whole("piece", &n), *b = whole("parts", &m);
        CHECK(a && b && n == m && memcmp(a, b, n) == 0);
        const size_t part = bytes - bytes % YD_PARTS_ALIGN;
        CHECK(count_files("parts.0") == (int)((n + part - 1) / part)); // and none of the time before
        CHECK(first_value("parts") == 7);
        yd_free(a);
        yd_free(b);
    }
    empty_folder();
}

static void each_replaces_the_other(void)
{
    yd_err err = {0};
    CHECK(save("f", 1, 65536, &err) == 0 && first_value("f") == 1 && count_files("") == 8);
    CHECK(save("f", 2, 65536, &err) == 0 && first_value("f") == 2 && count_files("") == 8);
    CHECK(save("f", 2, 65536, &err) == 0 && first_value("f") == 2 &&
          count_files("") == 8); // equal parts have equal names
    CHECK(save("f", 3, 0, &err) == 0 && first_value("f") == 3 && count_files("") == 1);
    CHECK(save("f", 4, 200000, &err) == 0 && first_value("f") == 4 && count_files("") == 4);
    CHECK(empty_folder() == 4);
}

// Parts carry the whole name, however long; a name that leaves no room for their number is refused.
static void long_names(void)
{
    yd_err err = {0};
    char name[256], begins[260];
    snprintf(name, sizeof name, "%0236d", 0);
    snprintf(begins, sizeof begins, "%s.0", name);
    CHECK_MSG(save(name, 5, 65536, &err) == 0 && first_value(name) == 5, "%s", err.detail);
    CHECK(count_files(begins) == 7);
    empty_folder();
    snprintf(name, sizeof name, "%0237d", 0);
    CHECK(save(name, 5, 65536, &err) == YD_E_IO && empty_folder() == 0);
}

// A writer that is given up leaves the file that was there, also where they have parts in common.
static void given_up(void)
{
    yd_err err = {0};
    yd_parts_writer *w = NULL;
    CHECK(save("f", 1, 65536, &err) == 0);
    size_t n = 0;
    char *bytes = whole("f", &n);
    CHECK(bytes && yd_parts_writer_open(in_folder("f"), 65536, &w, &err) == 0);
    if (bytes && w) {
        CHECK(yd_parts_writer_write(w, bytes, 3 * 65536, &err) == 0);
        bytes[65536] ^= 1;
        CHECK(yd_parts_writer_write(w, bytes + 65536, 65536, &err) == 0 && count_files("") == 9);
    }
    yd_parts_writer_abort(w);
    yd_free(bytes);
    CHECK(count_files("") == 8 && first_value("f") == 1);
    CHECK(yd_parts_writer_open(in_folder("f"), YD_PARTS_LEAST - 1, &w, &err) == YD_E_INVALID);
    CHECK(yd_parts_writer_open(in_folder("nowhere/f"), YD_PARTS_LEAST, &w, &err) == 0);
    if (w) CHECK(yd_parts_writer_write(w, values, 100, &err) == 0 && yd_parts_writer_commit(w, &err) == YD_E_IO);
    empty_folder();
}

static int refused(const char *word)
{
    yd_safetensors *st = NULL;
    yd_err err = {0};
    const int rc = yd_tensors_open(in_folder("f"), &st, &err);
    const int ok = rc == YD_E_CHECKPOINT && strstr(err.detail, word) && strstr(err.detail, "f: ");
    if (!ok) printf("  %d: %s\n", rc, err.detail);
    yd_st_close(st);
    return ok;
}

static void damaged_parts(void)
{
    yd_err err = {0};
    void *index = NULL, *bytes = NULL;
    char name[300] = "";
    size_t len = 0, n = 0;
    CHECK(save("f", 1, 65536, &err) == 0 && yd_file_read(in_folder("f"), 1 << 20, &index, &len, &err) == 0);
    const char *at = index ? strstr(index, "f.0003.") : NULL;
    CHECK(at != NULL);
    if (at) snprintf(name, sizeof name, "%.*s", (int)strcspn(at, "\n"), at);
    CHECK(yd_file_read(in_folder(name), 1 << 20, &bytes, &n, &err) == 0 && n == 65536);
    if (bytes) {
        ((char *)bytes)[1000] ^= 1;
        CHECK(yd_file_write_atomic(in_folder(name), bytes, n, &err) == 0 && refused("other bytes"));
        CHECK(yd_file_write_atomic(in_folder(name), bytes, n - 1, &err) == 0 && refused("has 65535"));
    }
    CHECK(unlink(in_folder(name)) == 0 && refused(name));
    yd_free(bytes);
    yd_free(index);
    empty_folder();
}

static void damaged_indexes(void)
{
#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    static const char *const texts[] = {"",
                                        "part 10 " DIGEST " x",
                                        "part " DIGEST " x\n",
                                        "part 0 " DIGEST " x\n",
                                        "part 1073741825 " DIGEST " x\n",
                                        "part 10 0123 x\n",
                                        "part 10 " DIGEST " \n",
                                        "part 10 " DIGEST " a/x\n",
                                        "part 10 " DIGEST " ../x\n",
                                        "part 10 " DIGEST " .x\n",
                                        "part 65535 " DIGEST " x\npart 65536 " DIGEST " y\n",
                                        "part -5 " DIGEST " x\n",
                                        "part 10 " DIGEST "\n",
                                        "\n\n",
                                        "part 10"};
    yd_err err = {0};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char text[512];
        const int n = snprintf(text, sizeof text, "%s%s", YD_PARTS_MAGIC, texts[i]);
        CHECK(yd_file_write_atomic(in_folder("f"), text, (size_t)n, &err) == 0);
        CHECK_MSG(refused("of its index"), "text %zu", i);
        CHECK(!yd_parts_list_of(in_folder("f")));
    }
    // A name may be as long as a name can be, and no longer.
    char text[1024];
    int n = snprintf(text, sizeof text, "%spart 10 " DIGEST " %0300d\n", YD_PARTS_MAGIC, 1);
    CHECK(yd_file_write_atomic(in_folder("f"), text, (size_t)n, &err) == 0 && refused("of its index"));
    empty_folder();
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"same_bytes_as_in_a_piece", same_bytes_as_in_a_piece},
        {"each_replaces_the_other", each_replaces_the_other},
        {"long_names", long_names},
        {"given_up", given_up},
        {"damaged_parts", damaged_parts},
        {"damaged_indexes", damaged_indexes},
    };
    if (!mkdtemp(folder)) return 1;
    const int rc = t_main(argc, argv, cases, sizeof cases / sizeof *cases);
    rmdir(folder);
    return rc;
}
