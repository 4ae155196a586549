// Read one tensor of a safetensors fixture, for tests that do not want core/safetensors in their way: the file is trusted.
#ifndef FIXTURE_H
#define FIXTURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The bytes of tensor `name` in the file at `path`; *len is their number. NULL when there is no such file or tensor. free() it.
__attribute__((unused)) static void *fixture_read(const char *path, const char *name, size_t *len)
{
    uint64_t head_len = 0;
    char *head = NULL, key[160];
    void *data = NULL;
    FILE *f = fopen(path, "rb");
    if (!f || fread(&head_len, 8, 1, f) != 1 || head_len > (1u << 26)) goto done;
    head = calloc(1, (size_t)head_len + 1);
    if (!head || fread(head, 1, (size_t)head_len, f) != head_len) goto done;

    snprintf(key, sizeof key, "\"%s\":", name);
    const char *entry = strstr(head, key);
    const char *offsets = entry ? strstr(entry, "\"data_offsets\"") : NULL;
    const char *open = offsets ? strchr(offsets, '[') : NULL;
    if (!open) goto done;
    char *next;
    unsigned long begin = strtoul(open + 1, &next, 10), end = strtoul(next + 1, NULL, 10);
    data = calloc(1, end - begin + 1);
    if (!data || fseek(f, (long)(8 + head_len + begin), SEEK_SET) || fread(data, 1, end - begin, f) != end - begin) {
        free(data);
        data = NULL;
        goto done;
    }
    *len = end - begin;
done:
    free(head);
    if (f) fclose(f);
    return data;
}

#endif
