// One job's diffusion: the canvas, its windows and the YODA update (section 7 of the algorithm; Eqs. 5-12 of the paper).
//
// The picture is one canvas z. The network runs on overlapping windows of one fixed size; what it predicts in overlaps is averaged
// with smooth weights normalised beforehand, in window order; then the whole canvas takes one step. A unit of work is (window, step).
// Units of different jobs share batches; units of one step of one job are handed out in window order and must be put back in that
// order. Windows without an active pixel are never handed out (skip) - the result is the same byte for byte.
//
//   yd_sampler_next -> unit ... yd_sampler_gather -> [network] -> yd_sampler_scatter -> (last window of the step: canvas update)
//
// Values: cond and result in [-1,1], z in the model's variable. All arrays are H x W x 3 on the output grid, row-major.
// Threads: gather and scatter belong to the device's owner thread. yd_sampler_next may be called on another one (the scheduler's) while
// units that it handed out are still being worked on, provided that after it returned 0 it is not called again before the step's last
// unit is known to be back (scatter returned 1). Everything else: one thread at a time. The arrays it is given are copied.
#ifndef YD_CORE_SAMPLER_H
#define YD_CORE_SAMPLER_H

#include "core/backend.h"
#include "core/model.h"

typedef struct yd_sampler yd_sampler;

typedef struct yd_unit {
    int step;   // s, S..1
    int window; // index in yd_windows order (row-major)
    int x, y;   // top left corner on the canvas
} yd_unit;

typedef struct yd_step_info {
    int step, steps;     // s that was just finished; S
    int tau;             // training timestep of s
    long active, pixels; // pixels on at s; all pixels
    int windows_run, windows_skipped;
    int left;            // steps still to come that need the network or lie between such; 0: the sampler is done
} yd_step_info;

typedef struct yd_work {
    long units, units_all;   // window-steps to be executed / without skipping
    double pixel_share;      // diffused pixel-steps / all
    int windows;             // per step
    int steps;
    long units_left;         // of units, from where the sampler stands
    int steps_left;
} yd_work;

// What a job begins with, on the output grid unless said otherwise. All borrowed.
typedef struct yd_sampler_picture {
    const uint16_t *up; // up(LR), w*h*3, 0..65535
    const float *exact; // up(LR) in [-1,1] and, being bicubic, a little beyond, w*h*3: where it counts that `up` is rounded; NULL: it does not
    const uint16_t *lr; // the picture itself, 1/up_scale of the size, for a network with an encoder; NULL for others
} yd_sampler_picture;

// Make a sampler. map: attention in [0,1], w*h. settings are range-checked (YD_E_SETTING). All memory a job needs is taken here. YD_E_NOMEM.
int yd_sampler_new_from(const yd_model_config *cfg, const yd_sample_settings *set, int w, int h, const yd_sampler_picture *picture,
                        const float *map, yd_sampler **out, yd_err *err);
// The same from up(LR) alone. rgb: up(LR), w*h*3, 0..65535; map: attention in [0,1], w*h. settings are range-checked (YD_E_SETTING).
// All memory a job needs is taken here. YD_E_NOMEM.
int yd_sampler_new16(const yd_model_config *cfg, const yd_sample_settings *set, int w, int h, const uint16_t *rgb, const float *map,
                     yd_sampler **out, yd_err *err);
// The same from bytes: what yd_sampler_new16 makes of each byte times 257.
int yd_sampler_new(const yd_model_config *cfg, const yd_sample_settings *set, int w, int h, const uint8_t *rgb, const float *map,
                   yd_sampler **out, yd_err *err);
void yd_sampler_free(yd_sampler *s);

// Bytes that making a sampler takes at most for a w x h output (1..65535 each), for any map.
size_t yd_sampler_bytes(const yd_model_config *cfg, const yd_sample_settings *set, int w, int h);

// The exact work of this job, known as soon as it exists.
void yd_sampler_work(const yd_sampler *s, yd_work *out);

// Hand out the next unit: 1 and *u; 0 when the step's units are all handed out but not yet all back, or the job is done.
int yd_sampler_next(yd_sampler *s, yd_unit *u);
// Units that were handed out and will not be scattered, because the device failed, are handed out again. None may be at work.
void yd_sampler_put_back(yd_sampler *s);
int yd_sampler_done(const yd_sampler *s);

// Write the unit's network input: x [window_h*window_w*in_channel] (cond, m*z; with mask_input false cond, z; in_channel 3: without cond)
// and the noise level the network is told. Beyond the picture's border its mirror image is shown, as pixels that are off.
void yd_sampler_gather(const yd_sampler *s, const yd_unit *u, float *x, float *level);

// A network with an encoder (sampler_encoder.c): what that makes of a window's part of the picture is the same at every step, so it is asked
// for once and kept. It is no part of a saved state: it follows from the picture, so it is made again.
// What was kept for the unit's window, window_h*window_w*inner_channel, or NULL: nothing yet. Borrowed.
const float *yd_sampler_features(const yd_sampler *s, const yd_unit *u);
// The encoder's input: the window's part of the picture, (window_h/up_scale)*(window_w/up_scale)*3, 0..1, mirrored beyond the border.
void yd_sampler_gather_lr(const yd_sampler *s, const yd_unit *u, float *lr);
// Keep a copy of what the encoder made.
void yd_sampler_keep_features(yd_sampler *s, const yd_unit *u, const float *features);

// Take the unit's prediction [window_h*window_w*3]. Returns 1 when it completed a step (*info filled),
// 0 otherwise; YD_E_NUMERIC on NaN or Inf: the job has failed. Leading steps without an active pixel were passed when the sampler was made.
int yd_sampler_scatter(yd_sampler *s, const yd_unit *u, const float *pred, yd_step_info *info, yd_err *err);

// ---- a canvas on the device (sampler_device.c), where the backend has what it takes (core/backend.h: yd_canvas_ops) ----
// From enter to leave the sampler is the backend's owner's: gather and scatter are not for it, saving is for the owner's thread alone, and a preview
// on another thread is as old as the owner's last. It may be freed on any thread while the backend is open. A finished sampler has left. The
// result is the same to the byte.

// Move the canvas to the device, unless it is there. 1: it is there; 0: it stays on the host, which is no failure: the backend keeps none or
// has no room, the network has an encoder, or noise is given. YD_E_DEVICE; YD_E_INTERNAL: another backend has it.
int yd_sampler_enter(yd_sampler *s, yd_backend *be, yd_err *err);
// Bring it back and give the device's memory away; nothing where it is on the host. YD_E_DEVICE: it could not be read, or a run failed in its
// midst; the device is left all the same and the sampler stands at its beginning: units that are out are void.
int yd_sampler_leave(yd_sampler *s, yd_err *err);
// All that are on the backend leave, before it is closed. Nobody else may be working with them, but for freeing.
void yd_sampler_leave_all(yd_backend *be);
// Is it on a device?
int yd_sampler_on_device(const yd_sampler *s);
// How often it could not be brought back, so that the sampler stood at its beginning again.
int yd_sampler_losses(const yd_sampler *s);
// A run that the canvas took part in failed: it can only leave.
void yd_sampler_device_failed(yd_sampler *s);
// Where the unit lies, for the backend.
void yd_sampler_device_unit(const yd_sampler *s, const yd_unit *u, yd_canvas_unit *out);
// Scatter for what the backend has put back: bad as it said.
int yd_sampler_device_took(yd_sampler *s, const yd_unit *u, int bad, yd_step_info *info, yd_err *err);

// Steps S..: how many leading steps have no active pixel at all (no network call).
int yd_sampler_idle_steps(const yd_sampler *s);

// Current prediction as bytes: x0 of active pixels over up(LR). rgb: w*h*3. After the last step: the result, rounded to bytes.
void yd_sampler_preview(const yd_sampler *s, uint8_t *rgb);
// M(step) as 0/255, w*h. step 1..S. In a late allocation it only grows from step to step, in a strided one it does not.
void yd_sampler_mask(const yd_sampler *s, int step, uint8_t *mask);
// How many steps each pixel gets, w*h (borrowed); in a late allocation its activation step.
const uint16_t *yd_sampler_activation(const yd_sampler *s);
// The result in float, [-1,1] scale but not clamped, w*h*3; only when done. Borrowed.
const float *yd_sampler_result(const yd_sampler *s);
// The result as 16-bit values, clipped and rounded; rgb: w*h*3. 1, or 0 while the job is not done (rgb untouched).
int yd_sampler_result16(const yd_sampler *s, uint16_t *rgb);

// Replace drawn noise by given values, for agreement with other implementations: noise[s] for s = 0..S, each w*h*3 (borrowed), where
// noise[S] is x_T's draw and noise[s-1] is what step s adds. Call before the first unit.
void yd_sampler_set_noise(yd_sampler *s, const float *const *noise);

// Replace the condition up(LR) by float values in [-1,1], w*h*3 (copied), for the same purpose. Call before the first unit. YD_E_NOMEM.
int yd_sampler_set_condition(yd_sampler *s, const float *cond, yd_err *err);

// ---- going on in another process (sampler_state.c) ----
// The state between two steps: when yd_sampler_scatter has returned 1 and no unit has been asked for since.

size_t yd_sampler_state_bytes(const yd_sampler *s); // never changes
// Copy the state to `state`, of that many bytes: no more than a copy, so the device hardly waits. 0, or -1 when units are out or the
// sampler is done.
int yd_sampler_save(const yd_sampler *s, void *state);
// Complete what was saved, before it is kept: what decides the bytes (core/fingerprint.h, the short form), and a digest of everything.
void yd_sampler_seal(void *state, size_t len, const char *fingerprint);
// Take up a sealed state in a sampler made from the same picture, settings and model; the result is the same to the byte as without the
// break. YD_E_INVALID: it is damaged, cut or no such thing; YD_E_CONFLICT: it belongs to another job or fingerprint. The sampler is then
// as it was.
int yd_sampler_restore(yd_sampler *s, const void *state, size_t len, const char *fingerprint, yd_err *err);

// yd_sample_settings_check, and whether this model can do it: fidelity wants a network whose first prediction is a picture, and one
// that predicts eps makes noise of it; mask_input false wants the late allocation. YD_E_SETTING.
int yd_sampler_accepts(const yd_model_config *cfg, const yd_sample_settings *set, yd_err *err);

// Check every field's range. YD_E_SETTING naming the field and what it accepts.
int yd_sample_settings_check(const yd_sample_settings *set, yd_err *err);

#endif
