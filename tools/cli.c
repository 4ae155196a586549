// What the subcommands share: see cli.h.
#include "tools/cli.h"
#include "core/mem.h"
#include "core/output.h"
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

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

// Find the only model in a folder: 1 found, 0 none there, or a failure.
static int only_model_in(const char *folder, char *dst, size_t cap, yd_err *err)
{
    char pattern[1100];
    glob_t found;
    if (snprintf(pattern, sizeof pattern, "%s/*.safetensors", folder) >= (int)sizeof pattern) return 0;
    if (glob(pattern, 0, NULL, &found) != 0) return 0;
    int rc = 1;
    if (found.gl_pathc > 1)
        rc = yd_fail(err, YD_E_NOT_FOUND, "%s holds %zu models; choose one with --model", folder, found.gl_pathc);
    else if (snprintf(dst, cap, "%s", found.gl_pathv[0]) >= (int)cap)
        rc = yd_fail(err, YD_E_NOT_FOUND, "the model's path is too long: %s", found.gl_pathv[0]);
    globfree(&found);
    return rc;
}

int yd_cli_default_model(char *dst, size_t cap, yd_err *err)
{
    const char *named = getenv("YODA_MODEL");
    if (named && *named) {
        if (snprintf(dst, cap, "%s", named) < (int)cap) return 0;
        return yd_fail(err, YD_E_NOT_FOUND, "YODA_MODEL is too long a path");
    }
    char self[512] = "", folder[600];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) self[n] = 0;
    char *slash = strrchr(self, '/');
    if (slash) *slash = 0;
    static const char *const beside[] = {"../models", "../share/yodad/models"};
    for (size_t i = 0; slash && i < sizeof beside / sizeof *beside; i++) {
        snprintf(folder, sizeof folder, "%s/%s", self, beside[i]);
        int rc = only_model_in(folder, dst, cap, err);
        if (rc) return rc < 0 ? rc : 0;
    }
    int rc = only_model_in("models", dst, cap, err);
    if (rc) return rc < 0 ? rc : 0;
    return yd_fail_field(err, YD_E_NOT_FOUND, "model", "--model FILE, YODA_MODEL=FILE, or a file models/*.safetensors",
                         "there is no model");
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

int yd_cli_open_backend(const char *device, long threads, const char *winograd, yd_backend **out, yd_err *err)
{
    if (strcmp(device, "cpu") != 0)
        return yd_fail_field(err, YD_E_UNSUPPORTED, "device", "cpu", "there is no device '%s'", device);
    const int off = strcmp(winograd, "off") == 0;
    if (!off && strcmp(winograd, "auto") != 0)
        return yd_fail_field(err, YD_E_SETTING, "winograd", "auto, off", "winograd=%.40s is not accepted", winograd);
    yd_cpu_options opt = {.threads = (int)threads, .no_winograd = off};
    return yd_cpu_open(&opt, out, err);
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
