// Model files: which there are in the model folders, and reading one of them.
//
// A model is called as its file without the ending, or as its config says. Two files of one name: the one in the folder named first counts.
// Threads: any; everything here blocks on the file system.
#ifndef YD_DAEMON_MODELS_H
#define YD_DAEMON_MODELS_H

#include "core/model.h"
#include "daemon/config.h"

#define YD_MODELS_MAX     64 // files that are told apart; of more the first by name
#define YD_MODEL_NAME_MAX 64

typedef struct yd_model_file {
    char name[YD_MODEL_NAME_MAX]; // letters, digits and ._+-, so that it fits into addresses and lists
    char path[512];
    int64_t bytes, mtime_ns; // with the inode: which file it is
    uint64_t inode;
    char title[64]; // what its config says
    int scale, window, overlap;
    yd_prediction prediction;
    yd_target target;
    yd_err problem; // why the config cannot be read; then the five above are empty. code 0: it can
} yd_model_file;

// The same content as far as one can see without reading it.
int yd_model_file_same(const yd_model_file *a, const yd_model_file *b);

// The model files in the folders of a list ("a, b"), in the order of names. files: YD_MODELS_MAX of them; *n is how many. What was found
// before (may be NULL) and has not changed is not opened again. YD_E_CONFIG: a folder cannot be read.
int yd_models_scan(const char *folders, const yd_model_file *before, int n_before, yd_model_file *files, int *n, yd_err *err);

// Read a model, check it, and give it the configuration's windows. as: the file as it was read, and what its config says. Where FILE.sha256 is beside it the checksum must be
// the one in there. What yd_model_load says; YD_E_CHECKPOINT when the checksum differs, YD_E_SETTING for the windows, YD_E_IO when the file
// changed meanwhile.
int yd_model_file_read(const yd_model_file *f, const yd_config *cfg, yd_model_file *as, yd_model **out, yd_err *err);

#endif
