// What decides the bytes of a result besides the picture, the settings and the seed: two results of the same job under one fingerprint
// are the same bytes; under two they may differ.
//
// It is a record of short texts, printed as canonical JSON (keys in the order below, no spaces) and named by a hash of that. What is not
// known or takes no part is "". Kernels are chosen from fixed tables by what is recorded here, never by timing, and neither threads
// nor batches matter, so they are not in it.
#ifndef YD_CORE_FINGERPRINT_H
#define YD_CORE_FINGERPRINT_H

#include "core/backend.h"
#include "core/model.h"

// The revision of our own arithmetic between decoder and encoder: conditioning, attention maps, masks, noise, schedules, sampler, windows,
// colours. Raise it with every change that moves a byte of any result.
#define YD_ARITHMETIC "1"

//   X(field, what it holds)
#define YD_FINGERPRINT_FIELDS(X)                                                                                       \
    X(program, "version of the program")                                                                               \
    X(arithmetic, "YD_ARITHMETIC")                                                                                     \
    X(compiler, "what compiled it")                                                                                    \
    X(libc, "C library, whose mathematical functions are used")                                                        \
    X(model, "checksum of the model file")                                                                             \
    X(windows, "side and overlap of the windows, WIDTHxHEIGHT/OVERLAP")                                                \
    X(dtype, "type that feature maps are stored in")                                                                   \
    X(backend, "cpu, cuda")                                                                                            \
    X(isa, "instruction set, or kind of GPU")                                                                          \
    X(kernels, "tables that kernels are chosen by")                                                                    \
    X(library, "library of the kernels")                                                                               \
    X(vips, "libvips")                                                                                                 \
    X(png, "libpng or libspng")                                                                                        \
    X(jpeg, "build of libjpeg, which does not tell its version")                                                       \
    X(webp, "libwebp")                                                                                                 \
    X(tiff, "libtiff")                                                                                                 \
    X(heif, "libheif, where libvips has loaded it")                                                                    \
    X(zlib, "zlib")                                                                                                    \
    X(lcms, "lcms2")                                                                                                   \
    X(vlfeat, "libvlfeat, for maps that it has a part in")                                                             \
    X(attention, "the attention network: 32 digits of its checksum, sizes that it is shown, norm, resize")

typedef struct yd_fingerprint {
#define YD_FINGERPRINT_TEXT(name, what) char name[80];
    YD_FINGERPRINT_FIELDS(YD_FINGERPRINT_TEXT)
#undef YD_FINGERPRINT_TEXT
} yd_fingerprint;

// Length of the short form, "yfp1:" and 16 hex digits, with its end.
#define YD_FINGERPRINT_SHORT 22

// Fill a record for this process. model: a yd_model's checksum; cfg: its config as it is run (a daemon or a command may choose other
// windows than the file); be: the backend's info; attention: the map's method. Each may be NULL where
// it is not known; without be, dt is not recorded either. Looks libraries' versions up by name among those loaded, so call
// yd_image_init first. Any thread; cannot fail.
void yd_fingerprint_make(const char *model, const yd_model_config *cfg, const yd_backend_info *be, yd_dtype dt, const char *attention,
                         yd_fingerprint *out);

// The same for this machine's processor, without a model, with the type that "auto" chooses. Begins with yd_image_init. What
// that and yd_cpu_open return.
int yd_fingerprint_here(yd_fingerprint *out, yd_err *err);

// Print as JSON: canonical on one line, or, `readable`, one field per line. Returns the length needed, as snprintf.
size_t yd_fingerprint_print(const yd_fingerprint *fp, int readable, char *dst, size_t cap);

// The short form: the first 16 hex digits of the SHA-256 of the canonical text.
void yd_fingerprint_short(const yd_fingerprint *fp, char out[YD_FINGERPRINT_SHORT]);

#endif
