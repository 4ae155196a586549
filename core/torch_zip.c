// torch.save's container since PyTorch 1.6: a zip with <archive>/data.pkl and the bytes of each storage in <archive>/data/<key>.
//
// <archive> is what the first entry begins with. Of the others only `byteorder` is looked at; versions and alignments change nothing here.
#include "core/tensors_view.h"

#include "core/torch_state.h"
#include "core/zip_directory.h"

#include <stdio.h>
#include <string.h>

enum { MAX_PREFIX = 400, MAX_KEY = 100 };
#define MAX_PICKLE ((size_t)64 << 20)

typedef struct archive {
    yd_zip zip;
    char prefix[MAX_PREFIX + 1]; // with its slash
} archive;

__attribute__((nonnull)) static const yd_zip_entry *entry(const archive *a, const char *folder, const char *name,
                                                          size_t len)
{
    char path[MAX_PREFIX + 8 + MAX_KEY + 1];
    if (len > MAX_KEY) return NULL;
    const int n = snprintf(path, sizeof path, "%s%s%.*s", a->prefix, folder, (int)len, name);
    return n < 0 || (size_t)n >= sizeof path ? NULL : yd_zip_find(&a->zip, path, (size_t)n);
}

static int find_storage(const void *user, const yd_torch_storage *s, const uint8_t **bytes, yd_err *err)
{
    const archive *a = user;
    if (memchr(s->key, 0, s->key_len))
        return yd_fail_field(err, YD_E_CHECKPOINT, "storage", "", "a storage's key holds a NUL byte");
    const int shown = s->key_len < 60 ? (int)s->key_len : 60;
    const yd_zip_entry *e = entry(a, "data/", s->key, s->key_len);
    if (!e)
        return yd_fail_field(err, YD_E_CHECKPOINT, "storage", "", "the file lacks %sdata/%.*s, the bytes of a tensor",
                             a->prefix, shown, s->key);
    if (s->numel > e->bytes / s->item)
        return yd_fail_field(err, YD_E_CHECKPOINT, "storage", "",
                             "%sdata/%.*s has %zu bytes, too few for %zu numbers of %zu bytes", a->prefix, shown,
                             s->key, e->bytes, s->numel, s->item);
    *bytes = e->data;
    return 0;
}

static int set_prefix(archive *a, yd_err *err)
{
    const yd_zip_entry *first = &a->zip.first;
    const char *slash = a->zip.count ? memchr(first->name, '/', first->name_len) : NULL;
    if (!slash || slash - first->name >= MAX_PREFIX)
        return yd_fail_field(err, YD_E_CHECKPOINT, "", "a file written by torch.save",
                             "a zip file, but no checkpoint: its first entry lies in no folder");
    memcpy(a->prefix, first->name, (size_t)(slash - first->name) + 1);
    a->prefix[slash - first->name + 1] = 0;
    return 0;
}

static int check_byteorder(const archive *a, yd_err *err)
{
    const yd_zip_entry *e = entry(a, "", "byteorder", 9);
    if (!e || (e->bytes == 6 && memcmp(e->data, "little", 6) == 0)) return 0;
    return yd_fail_field(err, YD_E_CHECKPOINT, "byteorder", "little",
                         "the file was written on a big-endian machine, or its byteorder is damaged");
}

static int read_archive(archive *a, const void *bytes, size_t len, yd_safetensors *st, yd_err *err)
{
    yd_pickle *p = NULL;
    size_t used = 0;
    int rc = yd_zip_read(bytes, len, &a->zip, err);
    if (!rc) rc = set_prefix(a, err);
    if (!rc) rc = check_byteorder(a, err);
    if (rc) return rc;
    const yd_zip_entry *pickle = entry(a, "", "data.pkl", 8);
    if (!pickle)
        return yd_fail_field(err, YD_E_CHECKPOINT, "data.pkl", "a file written by torch.save",
                             "a zip file, but no checkpoint: there is no %sdata.pkl", a->prefix);
    if (entry(a, "", "constants.pkl", 13))
        return yd_fail_field(err, YD_E_CHECKPOINT, "constants.pkl", "its state_dict, saved with torch.save",
                             "it is a TorchScript program, which is code");
    if (pickle->bytes > MAX_PICKLE)
        return yd_fail_field(err, YD_E_CHECKPOINT, "data.pkl", "at most 64 MiB", "%sdata.pkl has %zu bytes", a->prefix,
                             pickle->bytes);
    rc = yd_pickle_parse(pickle->data, pickle->bytes, &p, &used, err);
    const yd_torch_bytes where = {find_storage, a};
    if (!rc && used != pickle->bytes)
        rc = yd_fail_field(err, YD_E_CHECKPOINT, "data.pkl", "", "%zu bytes follow the pickle in %sdata.pkl",
                           pickle->bytes - used, a->prefix);
    if (!rc) rc = yd_torch_flatten(p, &where, st, err);
    yd_pickle_free(p);
    return rc;
}

int yd_torch_zip_open(const void *bytes, size_t len, yd_safetensors **out, yd_err *err)
{
    archive a = {.prefix = ""};
    *out = NULL;
    yd_safetensors *st = yd_view_new(YD_BOX_TORCH_ZIP, bytes, len);
    if (!st) return yd_fail(err, YD_E_NOMEM, "no memory to open a model file");
    const int rc = read_archive(&a, bytes, len, st, err);
    yd_zip_free(&a.zip);
    if (rc)
        yd_st_close(st);
    else
        *out = st;
    return rc;
}
