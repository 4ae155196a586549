// A scan of the model directory; nothing is kept. Blocks on the file system: at start only.
#include "daemon/models.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char suffix[] = ".safetensors";

// Length of the name without the suffix; 0 when it is no model file.
static size_t model_name_length(const char *file)
{
    size_t n = strlen(file), k = sizeof suffix - 1;
    return n > k && file[0] != '.' && strcmp(file + n - k, suffix) == 0 ? n - k : 0;
}

static void add_name(char *list, size_t cap, const char *file, size_t n)
{
    size_t len = strlen(list);
    if (len + n + 3 < cap) snprintf(list + len, cap - len, "%s%.*s", len ? ", " : "", (int)n, file);
}

int yd_models_find(const char *dir, const char *name, char *path, size_t cap, yd_err *err)
{
    char best[256] = "", list[256] = "";
    DIR *d = opendir(dir);
    if (!d)
        return yd_fail_field(err, YD_E_CONFIG, "model_dir", "a directory of *.safetensors", "%s: %s", dir,
                             strerror(errno));
    for (const struct dirent *e; (e = readdir(d));) {
        size_t n = model_name_length(e->d_name);
        if (!n) continue;
        add_name(list, sizeof list, e->d_name, n);
        int wanted =
            *name ? strlen(name) == n && strncmp(name, e->d_name, n) == 0 : !*best || strcmp(e->d_name, best) < 0;
        if (wanted) snprintf(best, sizeof best, "%s", e->d_name);
    }
    closedir(d);
    if (!*list)
        return yd_fail_field(err, YD_E_CONFIG, "model_dir", "a directory of *.safetensors", "there is no model in %s",
                             dir);
    if (!*best)
        return yd_fail_field(err, YD_E_CONFIG, "model", list, "there is no model '%.64s' in %s, only %s", name, dir,
                             list);
    if ((size_t)snprintf(path, cap, "%s/%s", dir, best) >= cap)
        return yd_fail_field(err, YD_E_CONFIG, "model_dir", "", "the path %.200s is too long", dir);
    return 0;
}
