// Reading /proc/meminfo, and the limits of this process's control group and those above it.
#include "daemon/memory.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS "/sys/fs/cgroup"

// The number after a line's beginning; -1: there is no such line.
static long long number_after(const char *path, const char *begin)
{
    char line[512];
    long long v = -1;
    FILE *f = fopen(path, "re");
    if (!f) return -1;
    while (v < 0 && fgets(line, sizeof line, f))
        if (strncmp(line, begin, strlen(begin)) == 0) {
            char *end;
            v = strtoll(line + strlen(begin), &end, 10);
            if (end == line + strlen(begin)) v = -1; // "max"
        }
    fclose(f);
    return v;
}

static size_t group_leaves(const char *group)
{
    char path[640];
    snprintf(path, sizeof path, GROUPS "%s/memory.max", group);
    const long long most = number_after(path, "");
    snprintf(path, sizeof path, GROUPS "%s/memory.current", group);
    const long long now = number_after(path, "");
    if (most < 0 || now < 0) return SIZE_MAX;
    return most > now ? (size_t)(most - now) : 0;
}

size_t yd_memory_available(void)
{
    char group[512] = "";
    const long long kib = number_after("/proc/meminfo", "MemAvailable:");
    size_t least = kib < 0 ? SIZE_MAX : (size_t)kib * 1024;
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (f) {
        char line[512];
        while (!*group && fgets(line, sizeof line, f))
            if (strncmp(line, "0::", 3) == 0) snprintf(group, sizeof group, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
        fclose(f);
    }
    for (;;) { // a group may take no more than those that it is in
        const size_t n = group_leaves(strcmp(group, "/") == 0 ? "" : group);
        if (n < least) least = n;
        char *slash = strrchr(group, '/');
        if (!slash) break;
        *slash = 0;
    }
    return least;
}
