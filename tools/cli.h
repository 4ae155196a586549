// What the subcommands of `yoda` share: their list, failing with one line, finding the model, pictures by file name, devices.
//
// Every subcommand is a function of (argc, argv) with argv[0] = its name; it returns the exit status: 0, 1 for a failure, 2 for wrong
// usage. Everything runs on the main thread (kernels use their own).
#ifndef YD_TOOLS_CLI_H
#define YD_TOOLS_CLI_H

#include "core/model.h"
#include "core/backend.h"
#include "core/image.h"
#include <stddef.h>

#define YD_CLI_FAILED 1

int yd_cmd_upscale(int argc, char **argv);
int yd_cmd_attention(int argc, char **argv);
int yd_cmd_sheet(int argc, char **argv);
int yd_cmd_work(int argc, char **argv);
int yd_cmd_eval(int argc, char **argv);
int yd_cmd_train(int argc, char **argv);
int yd_cmd_init(int argc, char **argv);
int yd_cmd_inspect(int argc, char **argv);
int yd_cmd_key(int argc, char **argv);
int yd_cmd_convert(int argc, char **argv);
int yd_cmd_forward(int argc, char **argv);

// Print "yoda COMMAND: SUBJECT: what happened (accepted: ...)" on stderr; returns YD_CLI_FAILED. subject may be NULL.
int yd_cli_fail(const char *command, const char *subject, const yd_err *err);

// The model to use: a path (it has a slash, or such a file is there), or the name of one in the first of these folders that has it, in any of the
// containers of core/tensors.h: ../models and ../share/yodad/models seen from the program, ./models. Anything else with a dot is taken for a path. named
// NULL: $YODA_MODEL, which may be either, or the first by name that is no attention network.
// YD_E_NOT_FOUND, naming what is there.
int yd_cli_find_model(const char *named, char *dst, size_t cap, yd_err *err);

// The first of these folders that is there; "" when none is.
void yd_cli_model_folder(char *dst, size_t cap);

// Load it; what had to be assumed about a public checkpoint is a warning on stderr. Errors of yd_model_load_with.
int yd_cli_load_model(const char *path, const char *config, yd_model **out, yd_err *err);

// Decode a picture file (at least 16 and at most 65535 pixels a side, 2^28 in all). opt NULL: the defaults.
int yd_cli_decode_image(const char *path, const yd_decode_options *opt, yd_image *out, yd_err *err);
// The same with the defaults.
int yd_cli_read_image(const char *path, yd_image *out, yd_err *err);
// The format that a file name's extension stands for. YD_E_SETTING with the extensions that do.
int yd_cli_image_format(const char *path, yd_image_format *out, yd_err *err);
// Encode as *how says and write it in one piece.
int yd_cli_write_output(const char *path, const yd_image *im, const yd_output *how, yd_err *err);
// Encode by the file name's extension, otherwise with the defaults, and write it in one piece.
int yd_cli_write_image(const char *path, const yd_image *im, int quality, yd_err *err);
// One plane as a grey PNG.
int yd_cli_write_grey(const char *path, const uint8_t *plane, int w, int h, yd_err *err);

// Open the device by name, as yd_device_parse has it; for auto on the CPU a line on stderr says why. threads 0: all cores; winograd: "auto",
// or "off" for direct convolutions only; both mean the CPU; canvases: the
// device keeps them for jobs, where it can. YD_E_SETTING, YD_E_UNSUPPORTED.
int yd_cli_open_backend(const char *device, long threads, const char *winograd, int canvases, yd_backend **out, yd_err *err);
// "f32", "bf16", or "auto": bf16 where the backend is fast at it.
int yd_cli_dtype(const char *name, yd_backend *be, yd_dtype *out, yd_err *err);

#endif
