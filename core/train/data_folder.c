// A folder of PNG and JPEG files as a source of pictures: its files in byte order of their names, decoded one at a time to 8 bits of sRGB.
//
// Nothing but names is held. A file that cannot be decoded is its reader's to report. Read next: core/train/data.c
#include "core/file.h"
#include "core/image.h"
#include "core/mem.h"
#include "core/train/internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// Decoding limits for one file; generous, because the folder is the operator's own.
enum { MAX_PIXELS = 1 << 28, MAX_FILE_BYTES = 1 << 29 };

typedef struct name_list {
    char **names;
    size_t count, cap;
    char *folder;
} name_list;

static int is_picture(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && dot != name && (!strcasecmp(dot, ".png") || !strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg"));
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_clear(name_list *l)
{
    for (size_t i = 0; i < l->count; i++) yd_free(l->names[i]);
    yd_free(l->names);
    yd_free(l->folder);
}

static int names_push(name_list *l, const char *name)
{
    if (l->count == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64, bytes;
        if (yd_mul_size(cap, sizeof *l->names, &bytes)) return -1;
        char **p = yd_realloc(l->names, bytes);
        if (!p) return -1;
        l->names = p;
        l->cap = cap;
    }
    if (!(l->names[l->count] = yd_strdup(name))) return -1;
    l->count++;
    return 0;
}

// The folder's picture files in byte order of their names: the order readdir gives differs between file systems.
static int list_folder(const char *folder, name_list *l, yd_err *err)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return yd_fail_field(err, YD_E_IO, "data.folder", "a folder of PNG and JPEG files",
                             "cannot open the folder %s: %s", folder, strerror(errno));
    int rc = 0;
    for (struct dirent *e; !rc && (e = readdir(dir));)
        if (is_picture(e->d_name) && names_push(l, e->d_name))
            rc = yd_fail(err, YD_E_NOMEM, "out of memory for the names in %s", folder);
    closedir(dir);
    if (!rc && l->count) qsort(l->names, l->count, sizeof *l->names, compare_names);
    return rc;
}

static const char *folder_name(const yd_source *s, size_t i)
{
    return ((const name_list *)s->state)->names[i];
}

// The upper 8 bits of a decoded picture.
static int narrow(const yd_image *im, yd_source_picture *out, yd_err *err)
{
    const size_t n = (size_t)im->w * (size_t)im->h * 3; // at most MAX_PIXELS * 3
    uint8_t *rgb = yd_malloc(n);
    if (!rgb) return yd_fail(err, YD_E_NOMEM, "out of memory for a picture of %d x %d", im->w, im->h);
    for (size_t i = 0; i < n; i++) rgb[i] = yd_narrow(im->rgb[i]);
    *out = (yd_source_picture){.w = im->w, .h = im->h, .rgb = rgb, .own = rgb};
    return 0;
}

static int folder_read(const yd_source *s, size_t i, yd_source_picture *out, yd_err *err)
{
    const name_list *l = s->state;
    const yd_image_limits lim = {
        .max_pixels = MAX_PIXELS, .min_side = 16, .max_side = YD_SOURCE_MAX_SIDE, .max_bytes = MAX_FILE_BYTES};
    const yd_decode_options srgb = {.color_space = YD_COLOR_SRGB};
    char path[1024];
    yd_image im = {0};
    void *bytes = NULL;
    size_t len = 0;
    const int n = snprintf(path, sizeof path, "%s/%s", l->folder, l->names[i]);
    if (n < 0 || (size_t)n >= sizeof path)
        return yd_fail(err, YD_E_IO, "its path is longer than %zu bytes", sizeof path - 1);
    int rc = yd_file_read(path, MAX_FILE_BYTES, &bytes, &len, err);
    if (rc) return rc;
    rc = yd_image_decode(bytes, len, &lim, &srgb, &im, err);
    yd_free(bytes);
    if (rc) return rc;
    rc = narrow(&im, out, err);
    yd_image_clear(&im);
    return rc;
}

static void folder_close(yd_source *s)
{
    names_clear(s->state);
    yd_free(s->state);
    yd_free(s);
}

int yd_source_open_folder(const char *folder, yd_source **out, yd_err *err)
{
    yd_source *s = yd_calloc(1, sizeof *s);
    name_list *l = yd_calloc(1, sizeof *l);
    *out = NULL;
    int rc = yd_image_init(err);
    if (!rc && (!s || !l || !(l->folder = yd_strdup(folder))))
        rc = yd_fail(err, YD_E_NOMEM, "out of memory for the names in %s", folder);
    if (!rc) rc = list_folder(folder, l, err);
    if (!rc) {
        *s =
            (yd_source){.count = l->count, .name = folder_name, .read = folder_read, .close = folder_close, .state = l};
        *out = s;
        return 0;
    }
    if (l) names_clear(l);
    yd_free(l);
    yd_free(s);
    return rc;
}
