// Finding and loading the CUDA plug-in, and opening devices by name: see backend_load.h.
//
// Owns the handle of the loaded plug-in, which stays for the life of the process: what it has registered with the driver cannot be taken back.
// The first caller looks for it, under a lock; what came of it, success or reason, is kept.
#include "core/backend_load.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PLUGIN_NAME "yoda-cuda.so"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int tried;
static yd_cuda_plugin plugin; // open is NULL when it is not there
static yd_err reason;         // then: why

// The folder of the running program, without a slash at its end; "." when it cannot be found.
static void program_folder(char *dst, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", dst, size - 1);
    dst[n > 0 ? n : 0] = 0;
    char *slash = strrchr(dst, '/');
    if (slash)
        *slash = 0;
    else
        snprintf(dst, size, ".");
}

static int attach(const char *path, yd_err *err)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        return yd_fail(err, YD_E_UNSUPPORTED, "the CUDA plug-in cannot be loaded: %.250s", why ? why : path);
    }
    yd_cuda_plugin_entry *entry;
    void *symbol = dlsym(handle, YD_CUDA_PLUGIN_SYMBOL);
    memcpy(&entry, &symbol, sizeof entry); // ISO C has no cast from data to function
    int rc =
        entry ? entry(YD_CUDA_PLUGIN_VERSION, yd_cuda_plugin_layout(), &plugin, err)
              : yd_fail(err, YD_E_UNSUPPORTED, "%.250s is no CUDA plug-in: it has no %s", path, YD_CUDA_PLUGIN_SYMBOL);
    if (rc) dlclose(handle);
    return rc;
}

static int find(yd_err *err)
{
    char folder[512], path[1024];
    const char *named = getenv("YODA_CUDA_PLUGIN");
    if (named && *named) return attach(named, err);
    program_folder(folder, sizeof folder);
    static const char *const places[] = {"", "/../lib/yodad", "/.."}; // beside it, installed, in a build tree
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, sizeof path, "%s%s/" PLUGIN_NAME, folder, places[i]);
        if (access(path, R_OK) == 0) return attach(path, err);
    }
    return yd_fail(err, YD_E_UNSUPPORTED,
                   "there is no CUDA plug-in (" PLUGIN_NAME
                   ") beside the program: it is built where nvcc and cuDNN are found");
}

// The plug-in, or the reason in *err.
static int load(yd_err *err)
{
    pthread_mutex_lock(&lock);
    if (!tried) {
        tried = 1;
        if (find(&reason)) memset(&plugin, 0, sizeof plugin);
    }
    pthread_mutex_unlock(&lock);
    if (plugin.open) return 0;
    if (err) *err = reason;
    return reason.code ? reason.code : YD_E_UNSUPPORTED;
}

int yd_cuda_count(int *n, yd_err *err)
{
    *n = 0;
    int rc = load(err);
    return rc ? rc : plugin.count(n, err);
}

static int check_index(int device, yd_err *err)
{
    int n, rc = yd_cuda_count(&n, err);
    char accepted[64];
    if (rc || (device >= 0 && device < n)) return rc;
    if (n > 1)
        snprintf(accepted, sizeof accepted, "cpu, auto, cuda:0 to cuda:%d", n - 1);
    else
        snprintf(accepted, sizeof accepted, "cpu, auto, cuda:0");
    return yd_fail_field(err, YD_E_SETTING, "device", accepted, "there is no CUDA device %d; the driver shows %d",
                         device, n);
}

int yd_cuda_probe(int device, yd_cuda_device *out, yd_err *err)
{
    memset(out, 0, sizeof *out);
    int rc = check_index(device, err);
    return rc ? rc : plugin.probe(device, out, err);
}

int yd_cuda_open(const yd_cuda_options *opt, yd_backend **out, yd_err *err)
{
    *out = NULL;
    int rc = check_index(opt->device, err);
    return rc ? rc : plugin.open(opt, out, err);
}

// N of "cuda:N": one to three digits. -1 for anything else.
static int index_of(const char *digits)
{
    const size_t n = strspn(digits, "0123456789");
    return n >= 1 && n <= 3 && !digits[n] ? (int)strtol(digits, NULL, 10) : -1;
}

int yd_device_parse(const char *name, int *cuda, char why[256], yd_err *err)
{
    yd_err none = {0};
    int n;
    *cuda = -1;
    if (why) why[0] = 0;
    if (strcmp(name, "cpu") == 0) return 0;
    if (strcmp(name, "auto") == 0) {
        if (yd_cuda_count(&n, &none) == 0)
            *cuda = 0;
        else if (why)
            snprintf(why, 256, "on the CPU: %.240s", none.detail);
        return 0;
    }
    if (strcmp(name, "cuda") == 0)
        *cuda = 0;
    else if (strncmp(name, "cuda:", 5) == 0)
        *cuda = index_of(name + 5);
    return *cuda >= 0 ? 0
                      : yd_fail_field(err, YD_E_SETTING, "device", "cpu, cuda, cuda:N, auto",
                                      "there is no device '%.40s'", name);
}

int yd_backend_open(const char *name, const yd_cpu_options *cpu, const yd_cuda_options *cuda, yd_backend **out,
                    char why[256], yd_err *err)
{
    yd_cuda_options o = cuda ? *cuda : (yd_cuda_options){0};
    *out = NULL;
    int rc = yd_device_parse(name, &o.device, why, err);
    if (rc) return rc;
    return o.device < 0 ? yd_cpu_open(cpu, out, err) : yd_cuda_open(&o, out, err);
}
