// What a driver call came to, and the yd_err that follows from it.
//
// A driver (driver.h) answers with one of a few outcomes instead of its library's codes, and keeps the library's words. Out of memory leaves the
// device usable; LOST means that the device's context is gone: every later call fails too, and only closing the backend is of use.
#ifndef YD_GPU_ERRORS_H
#define YD_GPU_ERRORS_H

#include "core/err.h"

typedef enum {
    YD_GPU_OK,
    YD_GPU_NO_MEMORY,
    YD_GPU_UNSUPPORTED, // no engine or kernel for this shape
    YD_GPU_FAILED,      // this call failed, the device goes on
    YD_GPU_LOST,        // a sticky error: nothing works on this device any more
} yd_gpu_outcome;

// 0, or the error: NO_MEMORY -> YD_E_NOMEM, UNSUPPORTED -> YD_E_UNSUPPORTED, FAILED and LOST -> YD_E_DEVICE. `doing` says what was tried
// ("copying the inputs"), `words` what the library said ("" or NULL when it said nothing).
int yd_gpu_fail(yd_gpu_outcome outcome, const char *doing, const char *words, yd_err *err);

#endif
