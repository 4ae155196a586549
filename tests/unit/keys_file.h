// A list of keys and shapes of a published network (../shared/spec/keys), opened as a file of zeros that takes no room on the disk.
#ifndef KEYS_FILE_H
#define KEYS_FILE_H

#include "core/mem.h"
#include "core/safetensors.h"
#include "tests/unit/t.h"

#include <unistd.h>

#define KEYS_NOT_THERE (-1000)

// A file name of this process's own in the temporary folder.
static const char *keys_file_path(char *path, size_t cap)
{
    const char *dir = getenv("TMPDIR");
    snprintf(path, cap, "%s/yd-public-%d.safetensors", dir && *dir ? dir : "/tmp", (int)getpid());
    return path;
}

// Lines are "name<TAB>[a, b]<TAB>float32"; every name gets the prefix. What yd_st_open says, or KEYS_NOT_THERE.
static int keys_file_open(const char *keys, const char *prefix, yd_safetensors **st, yd_err *err)
{
    char rel[128], line[512], name[600], path[256];
    snprintf(rel, sizeof rel, "spec/keys/%s.txt", keys);
    const char *p = t_shared(rel);
    FILE *f = p ? fopen(p, "r") : NULL;
    if (!f) return KEYS_NOT_THERE;
    size_t cap = 1 << 20, len = 8, at = 0;
    char *head = yd_calloc(cap, 1);
    head[len++] = '{';
    while (fgets(line, sizeof line, f)) {
        char *tab = strchr(line, '\t'), *open = strchr(line, '['), *close = strchr(line, ']');
        if (line[0] == '#' || !tab || !open || !close) continue;
        size_t n = 1;
        for (char *d = open + 1; *d && d < close; d = strchr(d, ',') ? strchr(d, ',') + 1 : close) n *= (size_t)strtol(d, NULL, 10);
        *tab = 0;
        close[1] = 0;
        snprintf(name, sizeof name, "%s%s", prefix, line);
        len += (size_t)snprintf(head + len, cap - len, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", at ? "," : "", name, open,
                                at, at + 4 * n);
        at += 4 * n;
    }
    fclose(f);
    head[len++] = '}';
    for (int i = 0; i < 8; i++) head[i] = (char)((len - 8) >> (8 * i) & 255);
    FILE *w = fopen(keys_file_path(path, sizeof path), "wb");
    CHECK(w && fwrite(head, 1, len, w) == len && fclose(w) == 0 && truncate(path, (off_t)(len + at)) == 0); // sparse
    yd_free(head);
    int rc = yd_st_open(path, st, err);
    unlink(path);
    return rc;
}

#endif
