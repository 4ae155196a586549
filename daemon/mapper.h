// Maps of attention networks for jobs: one thread runs the networks, a cache keeps what they made.
//
//   start -> in the cache? ------------------------------------------------> done
//         -> waiting -> a run of up to attention_batch pictures, which the thread does -> cache -> done, for all that waited for the same
//
// A run takes the request that has waited longest and others of the same network and input size; bytes do not depend on who shares one.
// What is kept are raw maps, before a head is chosen and whatever grid they go to, by the content of what the network was shown: so other
// heads, other jobs and other settings of the same picture find them. The least recently used go first.
// Threads: the loop's, except yd_map_request_key (any) and the networks' own thread, which runs at a lower priority as the device's does.
#ifndef YD_DAEMON_MAPPER_H
#define YD_DAEMON_MAPPER_H

#include "core/attention_nets.h"
#include "daemon/config.h"
#include <stdatomic.h>
#include <uv.h>

typedef struct yd_mapper yd_mapper;

// Raw maps, shared: counted on the loop thread, read anywhere.
typedef struct yd_raw_maps {
    int refs;
    size_t count; // values
    float value[];
} yd_raw_maps;

void yd_raw_maps_unref(yd_raw_maps *m); // NULL is fine

typedef struct yd_map_request {
    // in; all of it stays as it is until done
    yd_attention_ref ref;
    const uint8_t *shown; // w*h*3, borrowed
    int w, h;
    const atomic_int *stop;                 // set: nobody wants it any more; it comes back with YD_E_CANCELLED unless it is being made
    void (*done)(struct yd_map_request *r); // once, never from within start; the request is the caller's again
    char key[33];                           // yd_map_request_key
    // out
    int rc;
    yd_err err;
    yd_raw_maps *raw; // a reference for the caller, when rc is 0
    // the mapper's
    struct yd_map_request *next;
} yd_map_request;

// Read the networks that the configuration names and those of its model_dir, take memory for their runs, start the thread. No thread when there are
// none. Blocks while it reads. cfg is borrowed. YD_E_CONFIG, YD_E_CHECKPOINT, YD_E_IO, YD_E_NOMEM, YD_E_INTERNAL.
int yd_mapper_open(uv_loop_t *loop, const yd_config *cfg, yd_mapper **out, yd_err *err);
// What waits comes back with YD_E_CANCELLED now; waits for the run under way. closed (may be NULL) is called on the loop when the last handle is gone.
void yd_mapper_close(yd_mapper *m, void (*closed)(void *arg), void *arg);
// The networks are freed, when the handle is gone too. After yd_mapper_close, when no thread looks at them any more. NULL is fine.
void yd_mapper_free(yd_mapper *m);

yd_attention_nets *yd_mapper_nets(const yd_mapper *m); // live until yd_mapper_free

// The content's digest, which start wants. Any thread.
void yd_map_request_key(const yd_mapper *m, yd_map_request *r);
void yd_mapper_start(yd_mapper *m, yd_map_request *r);

typedef struct yd_mapper_now {
    size_t nets, nets_bytes; // resident
    size_t waiting, cached, cached_bytes;
    uint64_t hits, misses, shared; // requests: from the cache, computed, given what another one had asked for meanwhile
    uint64_t runs, pictures;       // of the networks
    double seconds;
} yd_mapper_now;
void yd_mapper_look(const yd_mapper *m, yd_mapper_now *now);

#endif
