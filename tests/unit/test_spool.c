// The spool: files that are there whole or not at all, whichever call fails.
#include "daemon/spool.h"

#include "tests/unit/t.h"
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];
static yd_spool *s;
static yd_err err;

static void setup(void)
{
    snprintf(folder, sizeof folder, "build/test-spool-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    CHECK_MSG(yd_spool_open(folder, "files", &s, &err) == 0, "%s", err.detail);
}

static void teardown(void)
{
    char command[128];
    yd_spool_close(s);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    CHECK(system(command) == 0);
}

static int write_text(const char *name, const char *text, yd_spool_keep keep)
{
    const size_t half = strlen(text) / 2;
    const yd_piece piece[] = {{text, half}, {text + half, strlen(text) - half}};
    return yd_spool_write(s, name, piece, 2, keep, &err);
}

// What a file holds; NULL: it is not there.
static const char *content(const char *name)
{
    static char text[256];
    char path[YD_SPOOL_PATH_MAX];
    if (yd_spool_path(s, name, path)) return NULL;
    FILE *f = fopen(path, "r");
    if (!f) return NULL;
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

static int is(const char *name, const char *text)
{
    const char *now = content(name);
    return text ? now && strcmp(now, text) == 0 : now == NULL;
}

static ino_t inode(const char *name)
{
    char path[YD_SPOOL_PATH_MAX];
    struct stat st;
    return yd_spool_path(s, name, path) == 0 && stat(path, &st) == 0 ? st.st_ino : 0;
}

// Everything in the folder, temporary names too.
static int entries(void)
{
    char command[128];
    int n = -1;
    snprintf(command, sizeof command, "ls -A '%s/files' | wc -l", folder);
    FILE *f = popen(command, "r");
    CHECK(f && fscanf(f, "%d", &n) == 1);
    if (f) pclose(f);
    return n;
}

static void whole_files(void)
{
    setup();
    CHECK(write_text("abc", "hello", YD_SPOOL_REPLACE) == 0 && yd_spool_sync(s, &err) == 0 && is("abc", "hello"));
    CHECK(write_text("abc", "other", YD_SPOOL_KEEP_LENGTH) == 0 && is("abc", "hello")); // the same name and length: the same
    CHECK(write_text("abc", "hellO", YD_SPOOL_KEEP_BYTES) == 0 && is("abc", "hellO")); // other bytes: mended
    const ino_t stays = inode("abc");
    CHECK(write_text("abc", "hellO", YD_SPOOL_KEEP_BYTES) == 0 && inode("abc") == stays);
    CHECK(write_text("abc", "hello", YD_SPOOL_REPLACE) == 0 && is("abc", "hello") && inode("abc") != stays);
    CHECK(write_text("abc", "longer than that", YD_SPOOL_KEEP_BYTES) == 0 && is("abc", "longer than that"));
    CHECK(write_text("abc", "other", YD_SPOOL_REPLACE) == 0 && is("abc", "other"));
    CHECK(yd_spool_sync(s, &err) == 0 && yd_spool_sync(s, &err) == 0);
    yd_spool_remove(s, "abc", 0);
    yd_spool_remove(s, "abc", 0);
    CHECK(is("abc", NULL) && entries() == 0);
    CHECK(yd_spool_free_bytes(s) > 0);
    struct stat st;
    char path[YD_SPOOL_PATH_MAX];
    CHECK(write_text("abc", "secret", YD_SPOOL_REPLACE) == 0 && yd_spool_path(s, "abc", path) == 0 && stat(path, &st) == 0);
    CHECK((st.st_mode & 0777) == 0600); // nobody else's
    teardown();
}

static void names(void)
{
    static const char *const bad[] = {"", "..", "a/b", "A", "x.tmp", ".new", "a b",
                                      "0123456789012345678901234567890123456789012345678901234567890123456789"};
    char path[YD_SPOOL_PATH_MAX];
    setup();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_MSG(write_text(bad[i], "x", YD_SPOOL_REPLACE) == YD_E_INVALID, "'%s'", bad[i]);
        CHECK_MSG(yd_spool_path(s, bad[i], path) == -1, "'%s'", bad[i]);
        yd_spool_remove(s, bad[i], 0);
    }
    CHECK(write_text("00000000-0000-4000-8000-0000000000af", "x", YD_SPOOL_REPLACE) == 0 && entries() == 1);
    teardown();
    yd_spool *none = NULL;
    CHECK(yd_spool_open("/proc/nowhere", "files", &none, &err) == YD_E_CONFIG && !none && strcmp(err.field, "state_dir") == 0);
    char deep[600];
    memset(deep, 'x', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    CHECK(yd_spool_open(deep, "files", &none, &err) == YD_E_CONFIG && strstr(err.detail, "too long"));
}

// Each call in turn: what was there stays, nothing half-written does, and the next try works.
static void every_call_fails(void)
{
    static const struct {
        int error, code;
    } kinds[] = {{ENOSPC, YD_E_STORAGE}, {EDQUOT, YD_E_STORAGE}, {EIO, YD_E_IO}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        int rc = -1;
        long k = 0;
        setup();
        CHECK(write_text("abc", "before", YD_SPOOL_REPLACE) == 0 && yd_spool_sync(s, &err) == 0);
        while (rc && ++k < 20) {
            yd_spool_fail_at(k, kinds[i].error);
            rc = write_text("abc", "after that", YD_SPOOL_REPLACE);
            const int written = rc == 0;
            if (!rc) rc = yd_spool_sync(s, &err);
            yd_spool_fail_at(0, 0);
            if (!rc) break;
            CHECK_MSG(rc == kinds[i].code && strstr(err.detail, "files"), "call %ld: %d %s", k, rc, err.detail);
            CHECK_MSG(is("abc", written ? "after that" : "before") && entries() == 1, "call %ld", k);
            if (!written) continue;
            yd_spool_fail_at(1, EIO); // what was not synced is not forgotten
            CHECK(yd_spool_sync(s, &err) == YD_E_IO);
            yd_spool_fail_at(0, 0);
            CHECK(yd_spool_sync(s, &err) == 0);
            CHECK(write_text("abc", "before", YD_SPOOL_REPLACE) == 0 && yd_spool_sync(s, &err) == 0);
        }
        CHECK_MSG(rc == 0 && k == 7, "%ld calls", k - 1); // open, two writes, fsync, rename, fsync of the folder
        CHECK(is("abc", "after that"));
        teardown();
    }
}

static int wanted(void *arg, const char *name)
{
    return strcmp(name, arg) == 0;
}

static void sweeping(void)
{
    char path[128];
    setup();
    CHECK(write_text("aa", "1", YD_SPOOL_REPLACE) == 0 && write_text("bb", "2", YD_SPOOL_REPLACE) == 0 && write_text("cc", "3", YD_SPOOL_REPLACE) == 0);
    snprintf(path, sizeof path, "%s/files/.new", folder); // a crash in the middle of writing
    FILE *f = fopen(path, "w");
    CHECK(f && fclose(f) == 0);
    yd_spool_close(s);
    CHECK(yd_spool_open(folder, "files", &s, &err) == 0 && entries() == 3);
    char keep[] = "bb";
    CHECK(yd_spool_sweep(s, wanted, keep) == 2 && entries() == 1 && is("bb", "2"));
    teardown();
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"spool: whole files", whole_files},
        {"spool: names", names},
        {"spool: every call fails in turn", every_call_fails},
        {"spool: sweeping", sweeping},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
