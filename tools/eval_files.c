// The pictures of an evaluation: see eval.h. Folders are listed once; pixels are read picture by picture.
//
// Two files belong together when their names are the same, or else the same up to the extension.
// A degradation is drawn by the picture's name, so that a picture looks the same whatever else is in the folder.
#include "core/mem.h"
#include "core/resize.h"
#include "tools/cli.h"
#include "tools/eval.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_FILES 100000

typedef struct listing {
    char **name;
    int n, cap;
} listing;

static void listing_clear(listing *l)
{
    for (int i = 0; i < l->n; i++) yd_free(l->name[i]);
    yd_free(l->name);
    memset(l, 0, sizeof *l);
}

// Does the name end like one of the formats' extensions?
static int is_picture_name(const char *name)
{
    size_t n;
    const yd_image_kind *kinds = yd_image_kinds(&n);
    const char *dot = strrchr(name, '.');
    if (!dot || dot == name) return 0;
    for (size_t i = 0; i < n; i++)
        for (const char *w = kinds[i].extensions; *w; w += strspn(w, " ")) {
            const size_t len = strcspn(w, " ");
            if (strlen(dot + 1) == len && strncasecmp(dot + 1, w, len) == 0) return 1;
            w += len;
        }
    return 0;
}

static int add_name(listing *l, const char *name, yd_err *err)
{
    if (l->n == MAX_FILES) return yd_fail(err, YD_E_INVALID, "more than %d pictures in one folder", MAX_FILES);
    if (l->n == l->cap) {
        const int cap = l->cap ? 2 * l->cap : 64;
        char **more = yd_realloc(l->name, (size_t)cap * sizeof *more);
        if (!more) return yd_fail(err, YD_E_NOMEM, "no memory for a list of files");
        l->name = more;
        l->cap = cap;
    }
    l->name[l->n] = yd_strdup(name);
    return l->name[l->n] ? (l->n++, 0) : yd_fail(err, YD_E_NOMEM, "no memory for a list of files");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_folder(const char *path, listing *l, yd_err *err)
{
    DIR *d = opendir(path);
    if (!d) return yd_fail(err, YD_E_IO, "cannot read the folder %s: %s", path, strerror(errno));
    int rc = yd_image_init(err);
    for (const struct dirent *at; rc == 0 && (at = readdir(d));)
        if (at->d_name[0] != '.' && is_picture_name(at->d_name)) rc = add_name(l, at->d_name, err);
    closedir(d);
    if (rc == 0 && l->n == 0) rc = yd_fail(err, YD_E_NOT_FOUND, "there is no picture in the folder %s", path);
    if (rc == 0) qsort(l->name, (size_t)l->n, sizeof *l->name, by_name);
    return rc;
}

static size_t stem_length(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? (size_t)(dot - name) : strlen(name);
}

static const char *find_partner(const listing *l, const char *name)
{
    const size_t stem = stem_length(name);
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->name[i], name) == 0) return l->name[i];
    for (int i = 0; i < l->n; i++)
        if (stem_length(l->name[i]) == stem && strncmp(l->name[i], name, stem) == 0) return l->name[i];
    return NULL;
}

int yd_eval_files_find(yd_eval *e, yd_err *err)
{
    listing hr = {0}, sr = {0};
    int rc = list_folder(e->args->hr, &hr, err);
    if (rc == 0 && e->args->sr) rc = list_folder(e->args->sr, &sr, err);
    if (rc == 0) e->files = yd_calloc((size_t)hr.n, sizeof *e->files);
    if (rc == 0 && !e->files) rc = yd_fail(err, YD_E_NOMEM, "no memory for a list of files");
    for (int i = 0; i < hr.n && rc == 0; i++) {
        yd_eval_file *f = &e->files[e->n_files++];
        const char *partner = find_partner(&sr, hr.name[i]);
        f->name = yd_strdup(hr.name[i]);
        f->partner = partner ? yd_strdup(partner) : NULL;
        if (!f->name || (partner && !f->partner)) rc = yd_fail(err, YD_E_NOMEM, "no memory for a list of files");
    }
    listing_clear(&sr);
    listing_clear(&hr);
    return rc;
}

void yd_eval_files_free(yd_eval *e)
{
    for (int i = 0; i < e->n_files; i++) {
        yd_free(e->files[i].name);
        yd_free(e->files[i].partner);
    }
    yd_free(e->files);
    e->files = NULL;
    e->n_files = 0;
}

// --- one picture

static int read_bytes(const char *folder, const char *name, int *w, int *h, uint8_t **rgb, yd_err *err)
{
    char path[4096];
    yd_image im = {0};
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return yd_fail(err, YD_E_IO, "the path is too long");
    int rc = yd_cli_read_image(path, &im, err);
    if (rc == 0) {
        *w = im.w;
        *h = im.h;
        *rgb = yd_malloc((size_t)im.w * (size_t)im.h * 3);
        if (!*rgb) rc = yd_fail(err, YD_E_NOMEM, "no memory for %d x %d pixels", im.w, im.h);
        else yd_image_rgb8(&im, *rgb);
    }
    yd_image_clear(&im);
    return rc;
}

// Keep the top left w x h of a picture that is `wide` pixels wide, in place.
static void cut(uint8_t *rgb, int wide, int w, int h)
{
    for (int y = 1; y < h && w < wide; y++) memmove(rgb + (size_t)y * (size_t)w * 3, rgb + (size_t)y * (size_t)wide * 3, (size_t)w * 3);
}

// FNV-1a of the name without its extension.
static uint64_t number_of(const char *name)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < stem_length(name); i++) hash = (hash ^ (uint8_t)name[i]) * 1099511628211u;
    return hash;
}

static int degrade(const yd_eval *e, yd_eval_file *file, yd_eval_canvas *c, yd_err *err)
{
    yd_degradation d;
    yd_degrade_draw(&e->ranges, e->args->degrade_seed, number_of(file->name), &d);
    if (d.blur > 0 || d.noise > 0 || d.jpeg) yd_degradation_print(&d, file->degradation, sizeof file->degradation);
    return yd_degrade_apply(c->hr, c->w, c->h, e->scale, &d, c->lr, err);
}

static int read_given(const yd_eval *e, const yd_eval_file *file, int w, int h, yd_eval_canvas *c, yd_err *err)
{
    int sw = 0, sh = 0;
    if (!file->partner) return yd_fail(err, YD_E_NOT_FOUND, "there is no picture of this name in %s", e->args->sr);
    int rc = read_bytes(e->args->sr, file->partner, &sw, &sh, &c->sr, err);
    if (rc < 0) return rc;
    if ((sw != w || sh != h) && (sw != c->w || sh != c->h))
        return yd_fail(err, YD_E_INVALID, "the original has %d x %d pixels and the result %d x %d", w, h, sw, sh);
    cut(c->sr, sw, c->w, c->h);
    return 0;
}

int yd_eval_canvas_load(const yd_eval *e, yd_eval_file *file, yd_eval_canvas *c, yd_err *err)
{
    int w = 0, h = 0;
    int rc = read_bytes(e->args->hr, file->name, &w, &h, &c->hr, err);
    if (rc < 0) return rc;
    c->lw = w / e->scale;
    c->lh = h / e->scale;
    if (c->lw < 4 || c->lh < 4)
        return yd_fail(err, YD_E_IMAGE_TOO_SMALL, "%d x %d pixels are too few (accepted: at least %d a side)", w, h, 4 * e->scale);
    file->w = c->w = c->lw * e->scale;
    file->h = c->h = c->lh * e->scale;
    if (!e->args->quiet && (c->w != w || c->h != h))
        fprintf(stderr, "yoda eval: %s: %d x %d is no multiple of %d, compared are the upper left %d x %d pixels\n", file->name, w, h,
                e->scale, c->w, c->h);
    cut(c->hr, w, c->w, c->h);
    if (e->args->sr && (rc = read_given(e, file, w, h, c, err)) < 0) return rc;
    const size_t px = (size_t)c->w * (size_t)c->h;
    c->lr = yd_malloc((size_t)c->lw * (size_t)c->lh * 3);
    c->bicubic = yd_malloc(px * 3);
    c->map = yd_malloc(px * sizeof *c->map);
    if (!c->lr || !c->bicubic || !c->map) return yd_fail(err, YD_E_NOMEM, "no memory for %d x %d pixels", c->w, c->h);
    rc = degrade(e, file, c, err);
    if (rc == 0) rc = yd_resize_bicubic_u8(c->lr, c->lw, c->lh, 3, c->bicubic, c->w, c->h, err);
    if (rc == 0) rc = yd_attention_compute(e->args->bins_map, &e->with, c->bicubic, c->w, c->h, c->map, err);
    return rc;
}

void yd_eval_canvas_clear(yd_eval_canvas *c)
{
    yd_free(c->hr);
    yd_free(c->sr);
    yd_free(c->lr);
    yd_free(c->bicubic);
    yd_free(c->map);
    memset(c, 0, sizeof *c);
}
