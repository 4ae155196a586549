// Stands in for libcuda.so.1 where there is no driver: takes the kernels that cuDNN compiles and does nothing with them (no_device.h). Each is
// counted; cuInit says that there is no device, so that nothing else takes this for a driver.
#define NO_DEVICE 100 // CUDA_ERROR_NO_DEVICE

int no_driver_kernels; // loaded so far

static int hand_out(void **p)
{
    *p = &no_driver_kernels; // something that is not NULL
    return 0;
}

#define NOTHING(name)                                                                                                  \
    int name(void);                                                                                                    \
    int name(void)                                                                                                     \
    {                                                                                                                  \
        return 0;                                                                                                      \
    }
#define REFUSED(name)                                                                                                  \
    int name(void);                                                                                                    \
    int name(void)                                                                                                     \
    {                                                                                                                  \
        return NO_DEVICE;                                                                                              \
    }
#define HANDLE(name)                                                                                                   \
    int name(void **p);                                                                                                \
    int name(void **p)                                                                                                 \
    {                                                                                                                  \
        return hand_out(p);                                                                                            \
    }
#define NUMBER(name, value)                                                                                            \
    int name(int *n);                                                                                                  \
    int name(int *n)                                                                                                   \
    {                                                                                                                  \
        *n = value;                                                                                                    \
        return 0;                                                                                                      \
    }
#define WORDS(name)                                                                                                    \
    int name(int error, const char **s);                                                                               \
    int name(int error, const char **s)                                                                                \
    {                                                                                                                  \
        (void)error;                                                                                                   \
        *s = "there is no driver";                                                                                     \
        return 0;                                                                                                      \
    }

int cuLibraryLoadData(void **library);
int cuLibraryLoadData(void **library)
{
    no_driver_kernels++;
    return hand_out(library);
}

int cuModuleLoadData(void **module);
int cuModuleLoadData(void **module)
{
    no_driver_kernels++;
    return hand_out(module);
}

HANDLE(cuLibraryGetKernel)
HANDLE(cuKernelGetFunction)
HANDLE(cuModuleGetFunction)
HANDLE(cuModuleGetGlobal_v2)
HANDLE(cuCtxGetCurrent)
NUMBER(cuDriverGetVersion, 13000)
NUMBER(cuCtxGetDevice, 0)
NUMBER(cuFuncGetAttribute, 0)
NUMBER(cuKernelGetAttribute, 0)
WORDS(cuGetErrorName)
WORDS(cuGetErrorString)
NOTHING(cuLibraryUnload)
NOTHING(cuModuleUnload)
NOTHING(cuFuncSetAttribute)
NOTHING(cuKernelSetAttribute)
REFUSED(cuInit)
REFUSED(cuCtxGetLimit)
REFUSED(cuCtxPopCurrent)
REFUSED(cuCtxPushCurrent)
REFUSED(cuDeviceGet)
REFUSED(cuDeviceGetCount)
REFUSED(cuLaunchCooperativeKernel)
REFUSED(cuLaunchKernel)
REFUSED(cuLaunchKernelEx)
REFUSED(cuLibraryLoadFromFile)
REFUSED(cuLinkAddData)
REFUSED(cuLinkComplete)
REFUSED(cuLinkCreate)
REFUSED(cuLinkDestroy)
REFUSED(cuModuleLoadDataEx)
REFUSED(cuOccupancyMaxPotentialClusterSize)
REFUSED(cuStreamGetCtx)
