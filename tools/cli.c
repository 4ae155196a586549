// What the subcommands share: see cli.h.
#include "tools/cli.h"
#include "core/attention_nets.h"
#include "core/backend_load.h"
#include "core/mem.h"
#include "core/output.h"
#include "core/tensors.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define MODEL_PATH 1100

// A command line may do what it likes with its own machine: limits keep sizes representable, no more.
static const yd_image_limits cli_limits = {
    .max_pixels = 1L << 28, .min_side = 16, .max_side = 65535, .max_bytes = (size_t)1 << 30};

int yd_cli_fail(const char *command, const char *subject, const yd_err *err)
{
    fprintf(stderr, "yoda %s: ", command);
    if (subject && *subject && !strstr(err->detail, subject)) fprintf(stderr, "%s: ", subject);
    fputs(err->detail[0] ? err->detail : yd_err_lookup(err->code)->title, stderr);
    if (err->accepted[0]) fprintf(stderr, " (accepted: %s)", err->accepted);
    fputc('\n', stderr);
    return YD_CLI_FAILED;
}

// Where models lie: beside the program in a checkout, installed, and in the working directory. 0 when there is no i-th folder; *dst is
// empty when it cannot be told.
static int model_folder(int i, char *dst, size_t cap)
{
    static const char *const folders[] = {"../models", "../share/yodad/models", "models"};
    char self[512] = "";
    if (i >= (int)(sizeof folders / sizeof *folders)) return 0;
    *dst = 0;
    if (i == 2) return snprintf(dst, cap, "%s", folders[i]) > 0;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) self[n] = 0;
    char *slash = strrchr(self, '/');
    if (slash) *slash = 0;
    if (slash && snprintf(dst, cap, "%s/%s", self, folders[i]) >= (int)cap) *dst = 0;
    return 1;
}

static int is_model(const struct dirent *e)
{
    size_t stem;
    return yd_tensors_ending(e->d_name, &stem) >= 0;
}

// By name, and where names are the same by the ending that counts first.
static int by_name(const struct dirent **a, const struct dirent **b)
{
    size_t n = 0, m = 0;
    const int i = yd_tensors_ending((*a)->d_name, &n), k = yd_tensors_ending((*b)->d_name, &m);
    const int c = memcmp((*a)->d_name, (*b)->d_name, n < m ? n : m);
    return c ? c : n != m ? (n < m ? -1 : 1) : i - k;
}

static void free_entries(struct dirent **file, int n)
{
    for (int i = 0; i < n; i++) free(file[i]);
    free(file);
}

// The model of that name in a folder, in whatever container, or the first one by name: 1 found, 0 none.
static int model_in(const char *folder, const char *name, char *dst, size_t cap)
{
    struct dirent **file = NULL;
    const int n = *folder ? scandir(folder, &file, is_model, by_name) : 0;
    int found = 0;
    for (int i = 0; i < n && !found; i++) {
        size_t stem;
        (void)yd_tensors_ending(file[i]->d_name, &stem);
        if (name && (strlen(name) != stem || strncmp(file[i]->d_name, name, stem) != 0)) continue;
        found = (size_t)snprintf(dst, cap, "%s/%s", folder, file[i]->d_name) < cap && (name || !yd_attention_file(dst));
    }
    free_entries(file, n);
    return found;
}

void yd_cli_model_folder(char *dst, size_t cap)
{
    for (int i = 0; model_folder(i, dst, cap); i++)
        if (*dst && access(dst, R_OK | X_OK) == 0) return;
    *dst = 0;
}

// "yoda-compact-4x, yoda-photo-4x": what --model may name, for an error.
static void list_models(char *dst, size_t cap)
{
    char folder[MODEL_PATH], last[256] = "";
    size_t used = 0;
    *dst = 0;
    for (int i = 0; used == 0 && model_folder(i, folder, sizeof folder); i++) {
        struct dirent **file = NULL;
        const int n = *folder ? scandir(folder, &file, is_model, by_name) : 0;
        for (int k = 0; k < n; k++) {
            size_t stem;
            (void)yd_tensors_ending(file[k]->d_name, &stem);
            file[k]->d_name[stem] = 0;
            if (strcmp(file[k]->d_name, last) == 0) continue;
            snprintf(last, sizeof last, "%s", file[k]->d_name);
            const int put = snprintf(dst + used, cap - used, "%s%s", used ? ", " : "", last);
            if (put < 0 || (size_t)put >= cap - used) break;
            used += (size_t)put;
        }
        free_entries(file, n);
    }
}

int yd_cli_find_model(const char *named, char *dst, size_t cap, yd_err *err)
{
    char folder[MODEL_PATH], there[128];
    if (!named || !*named) named = getenv("YODA_MODEL");
    if (named && !*named) named = NULL;
    const int is_path = named && (strchr(named, '/') || access(named, F_OK) == 0);
    for (int i = 0; !is_path && model_folder(i, folder, sizeof folder); i++)
        if (model_in(folder, named, dst, cap)) return 0;
    if (is_path || (named && strchr(named, '.'))) {
        if (snprintf(dst, cap, "%s", named) < (int)cap) return 0;
        return yd_fail(err, YD_E_NOT_FOUND, "the model's path is too long");
    }
    if (!named)
        return yd_fail_field(err, YD_E_NOT_FOUND, "model",
                             "--model FILE, YODA_MODEL=FILE, or a model file (safetensors, pth, pt, ckpt) in models/",
                             "there is no model");
    list_models(there, sizeof there);
    return yd_fail_field(err, YD_E_NOT_FOUND, "model", *there ? there : "a file", "there is no model '%.100s'", named);
}

int yd_cli_load_model(const char *path, const char *config, yd_model **out, yd_err *err)
{
    int rc = yd_model_load_with(path, config, out, err);
    if (rc == 0 && (*out)->assumed[0])
        fprintf(stderr, "yoda: warning: %s: no config says it, so these are assumed: %s\n", path, (*out)->assumed);
    return rc;
}

int yd_cli_decode_image(const char *path, const yd_decode_options *opt, yd_image *out, yd_err *err)
{
    void *bytes = NULL;
    size_t len = 0;
    int rc = yd_image_init(err);
    if (rc == 0) rc = yd_file_read(path, cli_limits.max_bytes, &bytes, &len, err);
    if (rc == 0) rc = yd_image_decode(bytes, len, &cli_limits, opt, out, err);
    yd_free(bytes);
    return rc;
}

int yd_cli_read_image(const char *path, yd_image *out, yd_err *err)
{
    return yd_cli_decode_image(path, NULL, out, err);
}

// ".png, .jpg, ...": the extensions of the formats that can be written.
static void list_extensions(char *dst, size_t cap)
{
    size_t n, used = 0;
    const yd_image_kind *kinds = yd_image_kinds(&n);
    *dst = 0;
    for (size_t i = 0; i < n; i++) {
        if (!kinds[i].writes) continue;
        for (const char *w = kinds[i].extensions; *w; w += strspn(w, " ")) {
            int len = (int)strcspn(w, " ");
            int put = snprintf(dst + used, cap - used, "%s.%.*s", used ? ", " : "", len, w);
            if (put < 0 || (size_t)put >= cap - used) return;
            used += (size_t)put;
            w += len;
        }
    }
}

int yd_cli_image_format(const char *path, yd_image_format *out, yd_err *err)
{
    const char *dot = strrchr(path, '.');
    char accepted[96];
    int rc = yd_image_init(err); // which formats there are, libvips knows
    if (rc < 0 || (dot && !strchr(dot, '/') && yd_image_format_parse(dot + 1, out, NULL) == 0)) return rc;
    list_extensions(accepted, sizeof accepted);
    return yd_fail_field(err, YD_E_SETTING, "format", accepted, "the file name's extension names no format");
}

int yd_cli_write_output(const char *path, const yd_image *im, const yd_output *how, yd_err *err)
{
    void *bytes = NULL;
    size_t len = 0;
    int rc = yd_image_init(err);
    if (rc == 0) rc = yd_image_encode(im, how, &bytes, &len, err);
    if (rc == 0) rc = yd_file_write_atomic(path, bytes, len, err);
    yd_free(bytes);
    return rc;
}

int yd_cli_write_image(const char *path, const yd_image *im, int quality, yd_err *err)
{
    yd_output how;
    yd_output_init(&how);
    how.encode_quality = quality;
    int rc = yd_cli_image_format(path, &how.format, err);
    return rc < 0 ? rc : yd_cli_write_output(path, im, &how, err);
}

int yd_cli_write_grey(const char *path, const uint8_t *plane, int w, int h, yd_err *err)
{
    void *bytes = NULL;
    size_t len = 0;
    int rc = yd_image_init(err);
    if (rc == 0) rc = yd_image_encode_grey(plane, w, h, &bytes, &len, err);
    if (rc == 0) rc = yd_file_write_atomic(path, bytes, len, err);
    yd_free(bytes);
    return rc;
}

int yd_cli_open_backend(const char *device, long threads, const char *winograd, int canvases, yd_backend **out, yd_err *err)
{
    const int off = strcmp(winograd, "off") == 0;
    if (!off && strcmp(winograd, "auto") != 0)
        return yd_fail_field(err, YD_E_SETTING, "winograd", "auto, off", "winograd=%.40s is not accepted", winograd);
    char why[256];
    const yd_cpu_options cpu = {.threads = (int)threads, .no_winograd = off};
    const yd_cuda_options cuda = {.canvases = canvases};
    int rc = yd_backend_open(device, &cpu, &cuda, out, why, err);
    if (rc == 0 && why[0]) fprintf(stderr, "yoda: %s\n", why);
    return rc;
}

int yd_cli_dtype(const char *name, yd_backend *be, yd_dtype *out, yd_err *err)
{
    yd_backend_info info;
    be->info(be, &info);
    if (strcmp(name, "auto") == 0)
        *out = info.bf16 ? YD_BF16 : YD_F32;
    else if (strcmp(name, "f32") == 0)
        *out = YD_F32;
    else if (strcmp(name, "bf16") == 0)
        *out = YD_BF16;
    else
        return yd_fail_field(err, YD_E_SETTING, "dtype", "auto, f32, bf16", "there is no number format '%s'", name);
    return 0;
}
