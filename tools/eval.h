// What the files of `yoda eval` share: the pictures, the rows (one setting each) and the figures of every row on every picture.
//
//   cmd_eval.c       options; pictures outside, rows inside: one picture is in memory at a time, the model stays loaded
//   eval_files.c     which files belong together, reading them, making the small picture and its plain enlargement
//   eval_rows.c      rows out of --setting and --sweep
//   eval_measure.c   one result against its original
//   eval_report.c    table, JSON, CSV
//   eval_draw.c      sheet and curves
// Internal to the command; one thread.
#ifndef YD_TOOLS_EVAL_H
#define YD_TOOLS_EVAL_H

#include "core/attention.h"
#include "core/degrade.h"
#include "core/frechet.h"
#include "core/inception.h"
#include "core/metrics.h"
#include "core/perceptual.h"
#include "tools/sampling.h"
#include "tools/session.h"

#define YD_EVAL_MAX_ROWS 64

// X(name, key in JSON and CSV). NaN: there is no such figure.
#define YD_EVAL_FIGURES(X)                        \
    X(PSNR, "psnr")                               \
    X(SSIM, "ssim")                               \
    X(LPIPS, "lpips")                             \
    X(LR_PSNR, "lr_psnr")                         \
    X(DIFFUSED, "diffused_share")                 \
    X(SECONDS, "seconds")                         \
    X(BICUBIC_PSNR, "bicubic_psnr")               \
    X(BICUBIC_SSIM, "bicubic_ssim")               \
    X(BICUBIC_LPIPS, "bicubic_lpips")             \
    X(PSNR_Y, "psnr_y")                           \
    X(SSIM_Y, "ssim_y")                           \
    X(PSNR_UNSHIFTED, "psnr_mean_normalised")     \
    X(SSIM_UNSHIFTED, "ssim_mean_normalised")     \
    X(WINDOW_STEPS, "window_steps")               \
    X(WINDOW_STEPS_ALL, "window_steps_all")       \
    X(WORK, "work")                               \
    X(INVENTED, "invented")                       \
    X(CHANGED, "invented_share")                  \
    X(CONTRADICTED, "contradicted_share")

typedef enum {
#define YD_EVAL_ENUM(name, key) YD_EVAL_##name,
    YD_EVAL_FIGURES(YD_EVAL_ENUM)
#undef YD_EVAL_ENUM
    YD_EVAL_COUNT
} yd_eval_figure;

typedef struct yd_eval_figures {
    double v[YD_EVAL_COUNT];
} yd_eval_figures;

extern const char *const yd_eval_keys[YD_EVAL_COUNT];

// Networks whose features of a set are compared by a Frechet distance: the trunk of --lpips (with --frechet), and that of --fid.
typedef enum { YD_EVAL_FD, YD_EVAL_FID, YD_EVAL_SPACES } yd_eval_space;

typedef enum { YD_EVAL_DIFFUSION, YD_EVAL_BICUBIC, YD_EVAL_GIVEN } yd_eval_method; // given: --sr

typedef struct yd_eval_args {
    const char *sr, *hr, *degrade, *method, *lpips, *fid, *space, *bins_map;
    const char *json, *csv, *sheet, *curves;
    long scale, crop;
    uint64_t degrade_seed;
    double bins; // width, 0: none
    int frechet, quiet;
    yd_arg_list settings, sweeps;
    yd_session_options session;
    yd_sampling_args sampling;
} yd_eval_args;

typedef struct yd_eval_file {
    char *name;           // within its folder
    char *partner;        // of the same name in --sr, or NULL
    int measured;         // 0: skipped
    int w, h;             // as compared
    char degradation[96]; // one line, "" when the picture was only reduced
} yd_eval_file;

typedef struct yd_eval_result { // of one row on one picture
    yd_eval_figures figures;
    double *share; // of the pixels that are diffused, per executed step from the noisiest; NULL without diffusion
} yd_eval_result;

typedef struct yd_eval_bin {
    double from, to;
    long pixels;
    double sum;   // of the pictures' distances
    int pictures; // that have pixels in it
} yd_eval_bin;

typedef struct yd_eval_row {
    char name[128];  // as printed
    char group[96];  // rows of one --setting that differ in what is swept; a line in the curves
    char label[64];  // within the group
    yd_eval_method method;
    yd_sample_settings set; // of diffusion
    yd_eval_result *results; // one per file
    yd_eval_figures mean;
    double *share;     // means over the pictures, set.steps of them, or NULL
    yd_eval_bin *bins; // n_bins of the run
    yd_moments *moments[YD_EVAL_SPACES];
    double frechet[YD_EVAL_SPACES]; // NaN when there is none
} yd_eval_row;

typedef struct yd_eval_canvas { // one picture in memory, RGB bytes
    int w, h, lw, lh;
    uint8_t *hr, *sr, *lr, *bicubic; // sr: given, or NULL; lr: lw*lh
    float *map;                      // attention for the bins and the sheet
    yd_eval_figures bicubic_figures;
} yd_eval_canvas;

typedef struct yd_eval_sheet {
    uint8_t *rgb;
    int w, h, strips; // strips drawn so far
} yd_eval_sheet;

typedef struct yd_eval {
    const yd_eval_args *args;
    yd_session session;
    int has_model;
    int scale;
    yd_metric_options how; // space and crop
    yd_degrade_ranges ranges;
    yd_lpips *lpips;         // NULL: none
    yd_inception *inception; // NULL: none
    yd_attention_with with; // what the bins' map may be of
    int n_bins;
    yd_eval_file *files;
    int n_files, n_measured;
    yd_eval_row rows[YD_EVAL_MAX_ROWS];
    int n_rows;
    yd_eval_bin *bicubic_bins;
    char frechet_key[YD_EVAL_SPACES][16]; // in JSON and CSV: "fd_squeeze", "fid"
    yd_moments *originals[YD_EVAL_SPACES], *bicubic_moments[YD_EVAL_SPACES]; // NULL: not compared in this space
    double bicubic_frechet[YD_EVAL_SPACES];
    yd_eval_sheet sheet;
} yd_eval;

// --- eval_files.c

// List the pictures of --hr (and their partners in --sr), in the order of their names. YD_E_IO for a folder that cannot be read;
// YD_E_NOT_FOUND for one without pictures.
int yd_eval_files_find(yd_eval *e, yd_err *err);
void yd_eval_files_free(yd_eval *e);
// Read one picture, cut it, degrade it, enlarge it plainly. Errors are about this picture. Clear also after a failure.
int yd_eval_canvas_load(const yd_eval *e, yd_eval_file *file, yd_eval_canvas *c, yd_err *err);
void yd_eval_canvas_clear(yd_eval_canvas *c);

// --- eval_rows.c

// Make e->rows out of the arguments. cfg NULL: no model, so that no sampling setting has a meaning. YD_E_SETTING.
int yd_eval_rows_make(yd_eval *e, const yd_model_config *cfg, yd_err *err);

// --- eval_measure.c

void yd_eval_figures_clear(yd_eval_figures *f); // all NaN
// Numbers in a feature vector of this space; 0: it is not asked for.
int yd_eval_feature_size(const yd_eval *e, yd_eval_space space);
// What plain enlargement is worth on this picture, which all rows share.
int yd_eval_measure_bicubic(yd_eval *e, yd_eval_canvas *c, yd_err *err);
// All figures of a result (c->w x c->h RGB) but those of its making.
int yd_eval_measure(yd_eval *e, yd_eval_row *row, const yd_eval_canvas *c, const uint8_t *rgb, yd_eval_figures *f, yd_err *err);
// Means, mean shares and Frechet distances once all pictures are measured.
int yd_eval_summarize(yd_eval *e, yd_err *err);

// --- eval_report.c

void yd_eval_print_table(const yd_eval *e);
int yd_eval_write_json(const yd_eval *e, const char *path, yd_err *err);
int yd_eval_write_csv(const yd_eval *e, const char *path, yd_err *err);

// --- eval_draw.c

// Add the strip of one row on one picture: original, bicubic, result, difference, attention at the place where bicubic loses most.
int yd_eval_sheet_add(yd_eval *e, const char *picture, const yd_eval_row *row, const yd_eval_figures *f, const yd_eval_canvas *c,
                      const uint8_t *rgb, const float *map, yd_err *err);
int yd_eval_sheet_write(const yd_eval *e, const char *path, yd_err *err);
// .svg or .png. YD_E_SETTING for another extension.
int yd_eval_curves_check(const char *path, yd_err *err);
int yd_eval_curves_write(const yd_eval *e, const char *path, yd_err *err);

#endif
