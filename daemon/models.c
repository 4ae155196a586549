// Scanning the model folders, and reading a file with everything that is held against it before it may become resident.
#include "daemon/models.h"

#include "core/file.h"
#include "core/mem.h"
#include "core/tensors.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUM_MAX_BYTES 4096

static int is_name(const char *s, size_t n)
{
    static const char taken[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";
    return n > 0 && n < YD_MODEL_NAME_MAX && strspn(s, taken) >= n;
}

// Which file it is at this moment. -1: it is no regular file.
static int look(yd_model_file *f)
{
    struct stat st;
    if (stat(f->path, &st) || !S_ISREG(st.st_mode)) return -1;
    f->bytes = st.st_size;
    f->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    f->inode = st.st_ino;
    return 0;
}

int yd_model_file_same(const yd_model_file *a, const yd_model_file *b)
{
    return strcmp(a->path, b->path) == 0 && a->bytes == b->bytes && a->mtime_ns == b->mtime_ns && a->inode == b->inode;
}

static void note_config(yd_model_file *f, const yd_model_config *cfg)
{
    snprintf(f->title, sizeof f->title, "%s", cfg->name);
    f->scale = cfg->scale;
    f->window = cfg->window;
    f->overlap = cfg->overlap;
    f->prediction = cfg->prediction;
    f->target = cfg->target;
    yd_err_clear(&f->problem);
}

static void describe(yd_model_file *f)
{
    yd_model_config cfg;
    if (yd_model_peek(f->path, &cfg, &f->problem) == 0) note_config(f, &cfg);
}

// ---- scanning ------------------------------------------------------------------------------------------------------

typedef struct scan {
    const yd_model_file *before;
    int n_before;
    yd_model_file *files;
    int n;
} scan;

static void take(scan *s, const yd_model_file *f, size_t folder)
{
    int i = s->n;
    while (i > 0 && strcmp(s->files[i - 1].name, f->name) > 0) i--;
    if (i > 0 && strcmp(s->files[i - 1].name, f->name) == 0) {
        size_t stem;
        yd_model_file *had = &s->files[i - 1];
        const int same_folder = strncmp(had->path, f->path, folder) == 0 && !strchr(had->path + folder, '/');
        if (same_folder && yd_tensors_ending(f->path + folder, &stem) < yd_tensors_ending(had->path + folder, &stem))
            *had = *f;
        return;
    }
    if (i == YD_MODELS_MAX) return;
    if (s->n == YD_MODELS_MAX) s->n--;
    memmove(s->files + i + 1, s->files + i, (size_t)(s->n - i) * sizeof *s->files);
    s->files[i] = *f;
    s->n++;
}

static int scan_folder(scan *s, const char *folder, yd_err *err)
{
    DIR *d = opendir(folder);
    if (!d)
        return yd_fail_field(err, YD_E_CONFIG, "model_dir", "folders with *.safetensors, *.pth, *.pt or *.ckpt",
                             "%s: %s", folder, strerror(errno));
    for (const struct dirent *e; (e = readdir(d));) {
        yd_model_file f = {.bytes = 0};
        size_t stem;
        if (yd_tensors_ending(e->d_name, &stem) < 0 || !is_name(e->d_name, stem)) continue;
        snprintf(f.name, sizeof f.name, "%.*s", (int)stem, e->d_name);
        if ((size_t)snprintf(f.path, sizeof f.path, "%s/%s", folder, e->d_name) >= sizeof f.path || look(&f)) continue;
        take(s, &f, strlen(folder) + 1);
    }
    closedir(d);
    return 0;
}

// What is not as it was is opened. Networks for attention maps, which lie in the same folders, are left out.
static void describe_all(scan *s)
{
    int kept = 0;
    for (int i = 0; i < s->n; i++) {
        yd_model_file *f = &s->files[i];
        int k = 0;
        while (k < s->n_before && !yd_model_file_same(&s->before[k], f)) k++;
        if (k < s->n_before)
            *f = s->before[k];
        else
            describe(f);
        if (f->problem.code != YD_E_UNSUPPORTED) s->files[kept++] = *f;
    }
    s->n = kept;
}

int yd_models_scan(const char *folders, const yd_model_file *before, int n_before, yd_model_file *files, int *n,
                   yd_err *err)
{
    scan s = {.before = before, .n_before = n_before, .files = files};
    char folder[YD_TEXT_MAX];
    int rc = 0;
    for (const char *at = folders; !rc && *(at += strspn(at, ", "));) {
        size_t len = strcspn(at, ",");
        snprintf(folder, sizeof folder, "%.*s", (int)len, at);
        at += len;
        while (len > 0 && folder[len - 1] == ' ') folder[--len] = 0;
        rc = scan_folder(&s, folder, err);
    }
    describe_all(&s);
    *n = s.n;
    return rc;
}

// ---- reading -------------------------------------------------------------------------------------------------------

// FILE.sha256 as sha256sum writes it: the digest in hex, and then whatever.
static int check_sum(const yd_model_file *f, const char *checksum, yd_err *err)
{
    char path[sizeof f->path + 8], want[65];
    void *text = NULL;
    size_t len;
    snprintf(path, sizeof path, "%s.sha256", f->path);
    if (access(path, F_OK)) return 0;
    int rc = yd_file_read(path, SUM_MAX_BYTES, &text, &len, err);
    if (rc) return rc;
    snprintf(want, sizeof want, "%.*s", (int)(len < 64 ? len : 64), (const char *)text);
    yd_free(text);
    if (strcasecmp(checksum + 7, want) == 0) return 0;
    return yd_fail_field(err, YD_E_CHECKPOINT, "checksum", want,
                         "%.200s: its SHA-256 is %.64s, and %.64s is written beside it: it is damaged, or another file",
                         f->path, checksum + 7, want);
}

int yd_model_file_read(const yd_model_file *f, const yd_config *cfg, yd_model_file *as, yd_model **out, yd_err *err)
{
    yd_model_file after = *f;
    yd_model *m = NULL;
    *as = *f;
    *out = NULL;
    if (look(as)) return yd_fail(err, YD_E_IO, "%.200s: %s", f->path, strerror(errno ? errno : EINVAL));
    int rc = yd_model_load(f->path, &m, err);
    if (!rc) note_config(as, &m->cfg);
    if (!rc) rc = yd_model_config_windows(&m->cfg, (int)cfg->window, (int)cfg->overlap, err);
    if (!rc) rc = check_sum(f, m->checksum, err);
    if (!rc && (look(&after) || !yd_model_file_same(as, &after)))
        rc = yd_fail(err, YD_E_IO, "%.200s changed while it was being read; files are best replaced by renaming",
                     f->path);
    if (rc) {
        yd_model_free(m);
        return rc;
    }
    *out = m;
    return 0;
}
