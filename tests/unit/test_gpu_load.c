// Devices by name, and what is said when the CUDA plug-in cannot be used. The plug-in is looked for once in a process: each case has its own.
#include "core/backend_load.h"
#include "tests/unit/t.h"
#include <sys/wait.h>
#include <unistd.h>

static void test_names(void)
{
    yd_err err;
    int cuda = 7;
    char why[256] = "x";
    CHECK(yd_device_parse("cpu", &cuda, why, &err) == 0 && cuda == -1 && !why[0]);
    CHECK(yd_device_parse("cuda", &cuda, why, &err) == 0 && cuda == 0);
    CHECK(yd_device_parse("cuda:0", &cuda, NULL, &err) == 0 && cuda == 0);
    CHECK(yd_device_parse("cuda:12", &cuda, NULL, NULL) == 0 && cuda == 12);
    static const char *const wrong[] = {"",        "gpu",       "cuda:", "cuda:-1", "cuda: 1",
                                        "cuda:1x", "cuda:1234", "cudaX", "CPU",     "auto:0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_MSG(yd_device_parse(wrong[i], &cuda, NULL, &err) == YD_E_SETTING, "'%s' is accepted", wrong[i]);
        CHECK(strcmp(err.field, "device") == 0 && strstr(err.accepted, "cuda:N"));
    }
}

// In a process where YODA_CUDA_PLUGIN is this: no device can be used, and the reason has these words.
static int says(const char *plugin, const char *words)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        yd_err err = {0}, again = {0};
        yd_backend *be = NULL;
        char why[256];
        int n = 7, cuda = 7, ok;
        setenv("YODA_CUDA_PLUGIN", plugin, 1);
        ok = yd_cuda_count(&n, &err) == YD_E_UNSUPPORTED && n == 0 && strstr(err.detail, words);
        if (!ok) printf("  %s: %s\n", plugin, err.detail);
        ok = ok && yd_backend_open("cuda", NULL, NULL, &be, why, &again) == YD_E_UNSUPPORTED && !be &&
             strcmp(again.detail, err.detail) == 0;
        ok = ok && yd_device_parse("auto", &cuda, why, &again) == 0 && cuda == -1 && strstr(why, "on the CPU: ") &&
             !strchr(why, '\n');
        ok = ok && yd_backend_open("auto", NULL, NULL, &be, why, &again) == 0 && be;
        if (be) be->close(be);
        fflush(stdout);
        _exit(ok ? 0 : 1);
    }
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static void test_no_such_file(void)
{
    CHECK(says("/nonexistent/yoda-cuda.so", "cannot be loaded"));
}

static void test_not_a_plugin(void)
{
    CHECK(says("libm.so.6", "is no CUDA plug-in"));
    CHECK(says("/dev/null", "cannot be loaded"));
}

// The real one, where it was built: it loads on a machine without a driver, and either names devices or says why not.
static void test_the_plugin(void)
{
    yd_err err = {0};
    yd_cuda_device d;
    int n = 0;
    if (access("build/yoda-cuda.so", R_OK) != 0) {
        t_skip("build/yoda-cuda.so was not built: no nvcc or no cuDNN");
        return;
    }
    setenv("YODA_CUDA_PLUGIN", "build/yoda-cuda.so", 1);
    if (yd_cuda_count(&n, &err)) {
        CHECK_MSG(err.code == YD_E_UNSUPPORTED && strstr(err.detail, "no CUDA device can be used: "), "%s", err.detail);
        return;
    }
    CHECK(n >= 1 && yd_cuda_probe(0, &d, &err) == 0 && d.name[0] && d.memory_total > 0);
    CHECK(yd_cuda_probe(n, &d, &err) == YD_E_SETTING && yd_cuda_probe(-1, &d, &err) == YD_E_SETTING);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"names of devices", test_names},
        {"no plug-in", test_no_such_file},
        {"a library that is none", test_not_a_plugin},
        {"the plug-in itself", test_the_plugin},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
