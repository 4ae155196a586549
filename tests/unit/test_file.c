// Whole files: bounded reading of files, empty files and pipes; atomic replacing, and what a failure leaves behind.
#include "core/file.h"
#include "core/mem.h"
#include "t.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/yd-test-file-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[2][256];
    static int turn;
    turn ^= 1;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int files_in_folder(void)
{
    DIR *d = opendir(folder);
    int n = -2; // . and ..
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

static int holds(const char *path, const char *want, size_t len)
{
    void *p;
    size_t n;
    if (yd_file_read(path, 1 << 20, &p, &n, NULL)) return 0;
    int same = n == len && memcmp(p, want, len) == 0 && ((char *)p)[n] == '\0';
    yd_free(p);
    return same;
}

static void write_and_read(void)
{
    yd_err err = {0};
    const char *path = in_folder("a");
    CHECK_MSG(yd_file_write_atomic(path, "one\0two", 7, &err) == 0, "%s", err.detail);
    CHECK(holds(path, "one\0two", 7));
    CHECK(yd_file_write_atomic(path, "3", 1, &err) == 0 && holds(path, "3", 1)); // replaced, shorter
    CHECK(yd_file_write_atomic(path, NULL, 0, &err) == 0 && holds(path, "", 0));
    CHECK(files_in_folder() == 1);
    struct stat st;
    mode_t mask = umask(022);
    umask(mask);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == (0666 & ~mask));
    char old[512];
    CHECK(getcwd(old, sizeof old) && chdir(folder) == 0);
    CHECK(yd_file_write_atomic("here", "x", 1, &err) == 0 && holds("here", "x", 1)); // a name without a folder
    CHECK(chdir(old) == 0);
    CHECK(unlink(in_folder("here")) == 0 && unlink(path) == 0);
}

static void limits(void)
{
    yd_err err = {0};
    const char *path = in_folder("big");
    static char data[200000];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (char)(i * 31 % 251);
    CHECK(yd_file_write_atomic(path, data, sizeof data, &err) == 0);
    void *p = &err;
    size_t n = 1;
    CHECK(yd_file_read(path, sizeof data - 1, &p, &n, &err) == YD_E_INVALID && strstr(err.detail, "199999") && !p);
    CHECK(yd_file_read(path, 0, &p, &n, &err) == YD_E_INVALID && !p);
    for (int k = 0; k < 2; k++) {
        CHECK(yd_file_read(path, k ? (size_t)-1 : sizeof data, &p, &n, &err) == 0 && n == sizeof data &&
              !memcmp(p, data, n));
        yd_free(p);
    }
    CHECK(unlink(path) == 0);
}

typedef struct feed {
    int fd;
    size_t total;
} feed;

static void *pump(void *arg)
{
    feed *f = arg;
    char block[1000];
    memset(block, 'p', sizeof block);
    for (size_t left = f->total; left > 0;) {
        ssize_t n = write(f->fd, block, left < sizeof block ? left : sizeof block);
        if (n <= 0) break;
        left -= (size_t)n;
    }
    close(f->fd);
    return NULL;
}

// Something without a size of its own, larger than the first buffer.
static void pipes(void)
{
    static const size_t totals[] = {0, 1, 65536, 65537, 300000};
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++) {
        int fd[2];
        CHECK(pipe(fd) == 0);
        feed f = {fd[1], totals[i]};
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, pump, &f) == 0);
        char path[64];
        snprintf(path, sizeof path, "/dev/fd/%d", fd[0]);
        void *p;
        size_t n;
        yd_err err = {0};
        CHECK_MSG(yd_file_read(path, 300000, &p, &n, &err) == 0, "%s", err.detail);
        CHECK(n == totals[i] && p && strlen(p) == n && (n == 0 || ((char *)p)[n - 1] == 'p'));
        yd_free(p);
        pthread_join(thread, NULL);
        close(fd[0]);
    }
}

static void errors(void)
{
    yd_err err = {0};
    void *p;
    size_t n;
    CHECK(yd_file_read(in_folder("absent"), 10, &p, &n, &err) == YD_E_IO && strstr(err.detail, "absent") &&
          strstr(err.detail, "No such file"));
    CHECK(yd_file_read(folder, 10, &p, &n, &err) == YD_E_IO && !p);
    CHECK(yd_file_write_atomic(in_folder("no/such"), "x", 1, &err) == YD_E_IO);
    CHECK(yd_file_write_atomic(in_folder(""), "x", 1, &err) == YD_E_IO && strstr(err.detail, "no file"));
    CHECK(yd_file_write_atomic("", "x", 1, &err) == YD_E_IO);
    CHECK(mkdir(in_folder("dir"), 0700) == 0);
    CHECK(yd_file_write_atomic(in_folder("dir"), "x", 1, &err) == YD_E_IO && files_in_folder() == 1);
    CHECK(rmdir(in_folder("dir")) == 0);
}

static void aborted(void)
{
    yd_err err = {0};
    const char *path = in_folder("kept");
    CHECK(yd_file_write_atomic(path, "old", 3, &err) == 0);
    yd_file_writer w, none = {0};
    CHECK(yd_file_writer_open(&w, path, &err) == 0 && files_in_folder() == 2);
    CHECK(yd_file_writer_write(&w, "new", 3, &err) == 0 && holds(path, "old", 3));
    yd_file_writer_abort(&w);
    yd_file_writer_abort(&w); // twice is harmless
    yd_file_writer_abort(&none);
    CHECK(files_in_folder() == 1 && holds(path, "old", 3));

    struct rlimit old, small; // a limit on file sizes stands in for a full disk
    getrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_IGN);
    small = (struct rlimit){2, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    int rc = yd_file_write_atomic(path, "newer", 5, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    CHECK(rc == YD_E_IO && files_in_folder() == 1 && holds(path, "old", 3));
    CHECK(unlink(path) == 0);
}

static void no_memory(void)
{
    yd_err err = {0};
    const char *path = in_folder("m");
    CHECK(yd_file_write_atomic(path, "old", 3, &err) == 0);
    int done = 0;
    for (long k = 1; !done; k++) {
        yd_mem_fail_at(k);
        int rc = yd_file_write_atomic(path, "new", 3, &err);
        done = yd_mem_fail_at(0) < k;
        CHECK_MSG(rc == (done ? 0 : YD_E_NOMEM) && files_in_folder() == 1, "allocation %ld: %d", k, rc);
        CHECK(holds(path, done ? "new" : "old", 3));
    }
    void *p;
    size_t n;
    yd_mem_fail_at(1);
    CHECK(yd_file_read(path, 10, &p, &n, &err) == YD_E_NOMEM && !p);
    yd_mem_fail_at(0);
    CHECK(unlink(path) == 0);
}

static void *rewrite(void *arg)
{
    char text[4096], path[256];
    snprintf(path, sizeof path, "%s/shared", folder);
    memset(text, *(const char *)arg, sizeof text);
    for (int i = 0; i < 30; i++)
        if (yd_file_write_atomic(path, text, sizeof text, NULL)) return arg;
    return NULL;
}

// Writers of one file at once: readers only ever see one writer's whole text.
static void together(void)
{
    static const char letters[] = "xyz";
    pthread_t threads[3];
    char path[256];
    snprintf(path, sizeof path, "%s/shared", folder);
    CHECK(yd_file_write_atomic(path, "", 0, NULL) == 0);
    for (size_t i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, rewrite, (void *)(uintptr_t)&letters[i]) == 0);
    int torn = 0;
    for (int i = 0; i < 200; i++) {
        void *p;
        size_t n;
        CHECK(yd_file_read(path, 1 << 20, &p, &n, NULL) == 0);
        torn += n != 0 && n != 4096;
        for (size_t k = 1; k < n; k++) torn += ((char *)p)[k] != ((char *)p)[0];
        yd_free(p);
    }
    for (size_t i = 0; i < 3; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        CHECK(!failed);
    }
    CHECK_MSG(torn == 0, "%d torn reads", torn);
    CHECK(files_in_folder() == 1 && unlink(path) == 0);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"write_and_read", write_and_read},
        {"limits", limits},
        {"pipes", pipes},
        {"errors", errors},
        {"aborted", aborted},
        {"no_memory", no_memory},
        {"together", together},
    };
    if (!mkdtemp(folder)) return 1;
    int rc = t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
    if (rmdir(folder) != 0) {
        printf("files are left in %s\n", folder);
        return 1;
    }
    return rc;
}
