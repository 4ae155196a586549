// What the files of core/train share with each other and with their tests; nothing outside includes it.
//
//   config.c      settings           data.c   pictures in memory        draw.c     one sample, a pure function of (seed, index)
//   data_folder.c, data_pack.c   where pictures come from
//   prefetch.c    the next batch, prepared by a helper thread           checkpoint.c   everything a resumed run needs
//   synth*.c      procedural pictures       show.c   samples to look at             trainer.c      the loop
#ifndef YD_CORE_TRAIN_INTERNAL_H
#define YD_CORE_TRAIN_INTERNAL_H

#include "core/train/train.h"

// ---- config.c

// Check what depends on several settings. YD_E_CONFIG, or YD_E_SETTING for an unknown attention method.
int yd_train_config_check(const yd_train_config *cfg, yd_err *err);
// The settings that decide the weights as lines "key value". Returns the length needed, as snprintf.
size_t yd_train_config_identity(const yd_train_config *cfg, yd_dtype act, char *dst, size_t cap);

// ---- data.c

// One picture, w x h on the HR grid (multiples of the scale).
typedef struct yd_picture {
    int w, h;
    uint8_t *hr;  // w*h*3
    uint8_t *up;  // w*h*3: hr shrunk by the scale and enlarged again
    uint8_t *map; // w*h: attention * 255
} yd_picture;

typedef struct yd_dataset {
    yd_picture *pictures;
    int count;
    int real; // the first ones, from the folder; procedural ones follow
    int skipped;
    size_t bytes;    // taken by them
    uint64_t digest; // of all bytes of all pictures: "the same data"
} yd_dataset;

// Where pictures that are not drawn come from. One thread.
#define YD_SOURCE_MAX_SIDE 32768

typedef struct yd_source_picture {
    int w, h;
    const uint8_t *rgb; // w*h*3
    uint8_t *own;       // what the reader frees; NULL: the source's
} yd_source_picture;

typedef struct yd_source yd_source;
struct yd_source {
    size_t count;
    const char *(*name)(const yd_source *s, size_t i); // for messages
    // YD_E_IO, YD_E_IMAGE..., YD_E_NOMEM; *out is then untouched.
    int (*read)(const yd_source *s, size_t i, yd_source_picture *out, yd_err *err);
    void (*close)(yd_source *s);
    void *state;
};

// The files of a folder that end in .png, .jpg or .jpeg (any case), in byte order of their names. YD_E_IO, YD_E_NOMEM, and YD_E_UNSUPPORTED in
// a build that decodes none.
int yd_source_open_folder(const char *folder, yd_source **out, yd_err *err);
// What yd_train_pack wrote. YD_E_IO, YD_E_CHECKPOINT, YD_E_IMAGE when it is something else, YD_E_NOMEM.
int yd_source_open_pack(const char *path, yd_source **out, yd_err *err);

// A procedural picture, side x side RGB (side 16..4096): a pure function of (seed, number). YD_E_NOMEM.
int yd_synth_picture(uint64_t seed, uint64_t number, int side, uint8_t *rgb, yd_err *err);

// Load the pictures of data.folder, a folder or a packed file, and draw the procedural ones that the settings ask for. Pictures that cannot be read or are smaller
// than the crop are counted, reported through notice (may be NULL) and skipped. *stop (may be NULL) is polled between pictures: YD_E_CANCELLED.
// YD_E_IO: no such folder; YD_E_CHECKPOINT: a packed file that is damaged; YD_E_IMAGE: nothing usable in it and no procedural pictures asked for; YD_E_CONFIG: more than memory_mb; YD_E_NOMEM. Free with yd_dataset_free.
int yd_dataset_load(const yd_train_config *cfg, const yd_train_options *opt, yd_dataset **out, yd_err *err);
void yd_dataset_free(yd_dataset *d);

// ---- draw.c

// One batch as the training graph wants it, NHWC.
typedef struct yd_batch {
    int n, crop;
    float *x;      // [n, crop, crop, 6]  condition, m*z
    float *level;  // [n]                 what the network is told about the noise
    float *target; // [n, crop, crop, 3]
    float *mask;   // [n, crop, crop, 1]
    float *weight; // [n]
    float *noise;  // [crop, 3], scratch
    double active_share;
} yd_batch;

// What was drawn for one sample.
typedef struct yd_draw {
    int picture, x, y, orientation; // orientation: bit 0 mirror x, bit 1 mirror y, bit 2 transpose
    double u, gamma;                // position t/T in (0,1], gamma there
    double lower_bound;
    uint64_t noise_seed;
    yd_degradation degradation;
} yd_draw;

// The upsampled LR picture around a crop: row-major RGB whose first pixel is pixel (x, y) of the picture.
typedef struct yd_input {
    const uint8_t *rgb;
    long stride; // pixels from one row to the next
    int x, y;
    uint8_t *own; // what yd_input_clear frees; NULL when rgb is the picture's
} yd_input;

int yd_batch_alloc(yd_batch *b, int n, int crop, yd_err *err);
void yd_batch_clear(yd_batch *b);
// What sample `index` is at its attempt-th try. Pure.
void yd_draw_sample(const yd_train_config *cfg, const yd_dataset *data, uint64_t index, int attempt, yd_draw *d);
// What the network is shown of the crop: the picture's own upsampled version, or that of its degraded LR version. YD_E_NOMEM.
int yd_draw_input(const yd_train_config *cfg, const yd_dataset *data, const yd_draw *d, yd_input *in, yd_err *err);
void yd_input_clear(yd_input *in);
// Fill sample i of b; returns the number of active pixels (0..crop*crop), or YD_E_NOMEM.
long yd_draw_fill(const yd_train_config *cfg, const yd_dataset *data, const yd_draw *d, yd_batch *b, int i, yd_err *err);
// Fill the whole batch of one iteration (1-based). Pure: the same (cfg, data, iteration) give the same bytes. YD_E_NOMEM.
int yd_batch_fill(const yd_train_config *cfg, const yd_dataset *data, long iteration, yd_batch *b, yd_err *err);

// ---- prefetch.c

typedef struct yd_prefetch yd_prefetch;
// Start the helper with the batch of iteration `first`. cfg and data must outlive it.
int yd_prefetch_start(const yd_train_config *cfg, const yd_dataset *data, long first, yd_prefetch **out, yd_err *err);
// Wait for the next iteration's batch, which stays valid until the next call; the one after it is begun. NULL when it could not be made
// (YD_E_NOMEM); only yd_prefetch_stop may follow.
const yd_batch *yd_prefetch_next(yd_prefetch *p, yd_err *err);
void yd_prefetch_stop(yd_prefetch *p); // joins the helper; NULL is fine

// ---- checkpoint.c

// The numbers of a run beside the weights.
typedef struct yd_train_state {
    long iteration;      // last one done
    double loss, active; // running means, for display
    uint64_t data_digest;
} yd_train_state;

// Write everything a resumed run needs, atomically, in parts of part_bytes (0: one file). The previous file stays until the new one is complete.
int yd_checkpoint_save(yd_backend *be, yd_weights *w, const yd_graph *g, const char *identity, const yd_train_state *st,
                       const char *path, size_t part_bytes, yd_err *err);
// Check identity and data, then write all parts into w. YD_E_CONFLICT names the first setting that differs. w is undefined on failure.
int yd_checkpoint_load(yd_backend *be, yd_weights *w, const yd_graph *g, const char *identity, const char *path,
                       yd_train_state *st, yd_err *err);
// Write the EMA weights as a model file.
int yd_checkpoint_export(yd_backend *be, yd_weights *w, const yd_graph *g, const yd_train_config *cfg, yd_err *err);

#endif
