// The attention networks that are resident, by name, and the names that requests choose them by.
//
//   NAME[:HEAD]   dino-vits8, dino-vits8:max (the same), dino-vits8:avg, dino-vits8:0, resnet50-agf:max
//
// NAME is the network's own (attention_net.h), or one that it was given, with the word of a variant after a '-'. Such names have a '-' or a ':'
// in them, or are "squeezenet" or "resnet50"; no other attention method is called so.
// Threads: made and loaded on one; from then on every function may be called on any, and a network runs for one of them at a time.
#ifndef YD_CORE_ATTENTION_NETS_H
#define YD_CORE_ATTENTION_NETS_H

#include "core/attention_map.h"

#define YD_ATTENTION_NETS_MAX 16

typedef struct yd_attention_nets yd_attention_nets;

// A name that was looked up.
typedef struct yd_attention_ref {
    int net;     // 0..yd_attention_nets_count()-1
    int variant; // of the network
    int head;    // or YD_ATTENTION_HEAD_MAX, YD_ATTENTION_HEAD_AVG
} yd_attention_ref;

// opt: copied; what maps are made with. YD_E_SETTING for sides out of range, YD_E_NOMEM.
int yd_attention_nets_new(const yd_attention_map_options *opt, yd_attention_nets **out, yd_err *err);
void yd_attention_nets_free(yd_attention_nets *n); // NULL is fine

typedef struct yd_attention_load {
    const char *list; // files, each as PATH or NAME=PATH, separated by commas; "" or NULL: none. NAME: letters, digits, '.', '_' and a '-'
    const char *folder; // and those of folders' ("a, b") model files that are attention networks, in the order of their names; NULL: none
    const char *wanted; // load only what this name needs; NULL: all
    yd_attention_net_options net;
    // Told of a file of the folder that holds a network and is passed by: it is damaged, or its name is taken. May be NULL.
    void (*passed)(void *arg, const char *path, const yd_err *err);
    void *arg;
} yd_attention_load;

// Read files. YD_E_CONFIG naming "attention_nets" for a list that is no such list or a name given twice; for its files what
// yd_attention_net_open says.
int yd_attention_nets_load(yd_attention_nets *n, const yd_attention_load *from, yd_err *err);
// Load them when a network is first looked for: for commands, which may never do. *from and its texts are borrowed. One thread.
void yd_attention_nets_later(yd_attention_nets *n, const yd_attention_load *from);
// Is this file an attention network? 1 or 0; opens it, reads names only.
int yd_attention_file(const char *path);

size_t yd_attention_nets_count(const yd_attention_nets *n); // NULL: 0
const char *yd_attention_nets_name(const yd_attention_nets *n, size_t i);
const char *yd_attention_nets_path(const yd_attention_nets *n, size_t i);
// Of the i-th. Its bytes are those at the time of the call.
void yd_attention_nets_info(const yd_attention_nets *n, size_t i, yd_attention_net_info *out);
const yd_attention_map_options *yd_attention_nets_options(const yd_attention_nets *n);

// Does a name look like a network's, whether or not there is one?
int yd_attention_is_net(const char *name);
// Look a name up; n NULL: there is none. YD_E_SETTING naming "attention" and what there is; with later, what loading says.
int yd_attention_nets_find(yd_attention_nets *n, const char *name, yd_attention_ref *out, yd_err *err);
// All names as people read them: "dino-vits8 with :max, :avg or :0 to :5; ...". "" where there is none.
void yd_attention_nets_list(const yd_attention_nets *n, char *dst, size_t cap);
// What of a network decides the bytes of a map, in at most 79 bytes: part of its checksum and the options. "" for another name.
void yd_attention_nets_mark(yd_attention_nets *n, const char *name, char *dst, size_t cap);

// Numbers of a network's raw maps of an nw x nh input.
size_t yd_attention_nets_raw(const yd_attention_nets *n, const yd_attention_ref *ref, int nw, int nh, int *gw, int *gh);
// Bytes of memory that yd_attention_nets_map takes at most for any picture, beside the network's workspace.
size_t yd_attention_nets_bytes(const yd_attention_nets *n, const yd_attention_ref *ref);
// Have workspace for so many pictures of any size that is shown to it.
int yd_attention_nets_reserve(yd_attention_nets *n, const yd_attention_ref *ref, int pictures, yd_err *err);
// Run it; arguments and errors as for yd_attention_net_run.
int yd_attention_nets_run(yd_attention_nets *n, const yd_attention_ref *ref, int pictures, int nw, int nh, const float *const *rgb,
                          float *const *raw, yd_err *err);
// The same of one picture in bytes: *raw is the caller's (yd_free). YD_E_NOMEM, errors of running.
int yd_attention_nets_look(yd_attention_nets *n, const yd_attention_ref *ref, const uint8_t *shown, int nw, int nh, float **raw,
                           yd_err *err);
// A of w x h from the raw maps of an nw x nh input. YD_E_NOMEM.
int yd_attention_nets_finish(const yd_attention_nets *n, const yd_attention_ref *ref, const float *raw, int nw, int nh, float *map, int w,
                             int h, yd_err *err);
// The whole way: A of a picture (w*h*3 bytes) into map (w*h).
int yd_attention_nets_map(yd_attention_nets *n, const yd_attention_ref *ref, const uint8_t *rgb, int w, int h, float *map, yd_err *err);

#endif
