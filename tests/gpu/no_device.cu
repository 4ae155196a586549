// The driver of no_device.h, and what cuDNN is told of two cards.
#include "gpu/cuda.h"

extern "C" {
#include "tests/fake_gpu/fake.h"
#include "tests/gpu/no_device.h"
}

#include <cstdio>
#include <cstring>

// As cuDNN writes it down itself for a device that is there: CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION.
#define CARD(name, sm, sms, optin, l2, bytes, sm_khz, memory_khz)                                                                                     \
    "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,\"multiProcessorCount\":" sms                   \
    ",\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":" optin                                                      \
    ",\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,"     \
    "\"pciDeviceId\":0,\"isTccDriver\":0,\"supportCoopLaunch\":1,\"totalGlobalMem\":" bytes ",\"smClockRateKHz\":" sm_khz                              \
    ",\"memClockRateKHz\":" memory_khz ",\"l2CacheSize\":" l2 ",\"cudaDeviceId\":0,\"deviceVer\":" sm "0,\"driverVer\":13000,\"deviceName\":\"" name   \
    "\"}"

static const char h200[] = CARD("NVIDIA H200", "90", "132", "232448", "62914560", "150119055360", "1980000", "3201000");
static const char a100[] = CARD("NVIDIA A100-SXM4-80GB", "80", "108", "166912", "41943040", "85031714816", "1410000", "1593000");

no_device_counts no_device;
static yd_cuda card;
static yd_gpu_driver driver;
static uintptr_t next_address;

static yd_gpu_outcome no_choose(yd_gpu_driver *d, const yd_gpu_conv_shape *s, double by_time, yd_gpu_choice *out)
{
    (void)d, (void)by_time;
    const yd_gpu_outcome o = yd_cuda_conv_choose(&card, s, 0, out);
    ++*(o ? &no_device.refused : &no_device.chosen);
    return o;
}

static yd_gpu_outcome no_new(yd_gpu_driver *d, const yd_gpu_conv_shape *s, const yd_gpu_choice *how, yd_gpu_conv **out, size_t *workspace)
{
    (void)d;
    const yd_gpu_outcome o = yd_cuda_conv_new(&card, s, how, out, workspace);
    ++*(o ? &no_device.not_taken : &no_device.made);
    return o;
}

static yd_gpu_outcome no_run(yd_gpu_driver *d, yd_gpu_conv *c, const yd_gpu_conv_io *io, yd_gpu_stream s)
{
    (void)d, (void)c, (void)io, (void)s;
    return YD_GPU_OK;
}

static void no_free(yd_gpu_driver *d, yd_gpu_conv *c)
{
    yd_cuda_conv_free(d, c);
}

static yd_gpu_outcome no_alloc(yd_gpu_driver *d, size_t bytes, void **out)
{
    (void)d;
    *out = reinterpret_cast<void *>(next_address);
    next_address += (bytes + 255) / 256 * 256;
    return YD_GPU_OK;
}

static void no_release(yd_gpu_driver *d, void *p)
{
    (void)d, (void)p;
}

static yd_gpu_outcome no_copy(yd_gpu_driver *d, void *dst, const void *src, size_t bytes, yd_gpu_stream s)
{
    (void)d, (void)dst, (void)src, (void)bytes, (void)s;
    return YD_GPU_OK;
}

static yd_gpu_outcome no_zero(yd_gpu_driver *d, void *dst, size_t bytes, yd_gpu_stream s)
{
    (void)d, (void)dst, (void)bytes, (void)s;
    return YD_GPU_OK;
}

static const char *no_words(const yd_gpu_driver *d)
{
    (void)d;
    return card.said;
}

static void no_close(yd_gpu_driver *d)
{
    (void)d;
    yd_cuda_drop_kernels(&card);
    cudnnBackendDestroyDescriptor(card.properties);
    card.properties = nullptr;
}

static cudnnStatus_t describe(const char *properties)
{
    cudnnStatus_t s = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &card.properties);
    if (!s)
        s = cudnnBackendSetAttribute(card.properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(properties),
                                     properties);
    return s ? s : cudnnBackendFinalize(card.properties);
}

extern "C" yd_gpu_driver *no_device_driver(int sm, char why[256])
{
    card = yd_cuda{};
    const cudnnStatus_t s = describe(sm == 90 ? h200 : a100);
    if (s) {
        yd_cudnn_judge(&card, s);
        snprintf(why, 256, "%s", card.said);
        return nullptr;
    }
    fake_reset();
    fake.idle = 1;
    fake.memory_total = fake.memory_free = (size_t)150 << 30;
    no_device = no_device_counts{};
    next_address = (uintptr_t)1 << 40;
    driver = *fake_driver();
    driver.close = no_close;
    driver.words = no_words;
    driver.alloc = no_alloc;
    driver.release = no_release;
    driver.copy = no_copy;
    driver.zero = no_zero;
    driver.conv_choose = no_choose;
    driver.conv_new = no_new;
    driver.conv_run = no_run;
    driver.conv_free = no_free;
    return &driver;
}
