// Files that are there whole or not at all: pictures named by their content, checkpoints named by their job.
//
// A file is written under another name, synced, renamed; yd_spool_sync then makes the renames themselves durable, once for many files. What
// a crash left under other names, or what nobody refers to any more, is swept when the owner starts. Names are 1..64 of 0-9 a-f and "-".
// A full disk is YD_E_STORAGE, everything else that goes wrong YD_E_IO; nothing half-written stays either way.
// Threads: writing, syncing and sweeping of one spool on one thread at a time; path and free_bytes on any.
#ifndef YD_DAEMON_SPOOL_H
#define YD_DAEMON_SPOOL_H

#include "core/err.h"
#include <stddef.h>
#include <stdint.h>

#define YD_SPOOL_NAME_MAX 65
#define YD_SPOOL_PATH_MAX 512

typedef struct yd_spool yd_spool;

typedef struct yd_piece {
    const void *bytes;
    size_t len;
} yd_piece;

// Open folder/name, made if need be. YD_E_CONFIG when it is no folder that can be written to, YD_E_NOMEM.
int yd_spool_open(const char *folder, const char *name, yd_spool **out, yd_err *err);
// Other processes write into it as well, on this machine or another one. Before anything is written.
void yd_spool_share(yd_spool *s);
void yd_spool_close(yd_spool *s); // NULL is fine

typedef enum { YD_SPOOL_REPLACE, YD_SPOOL_KEEP_LENGTH, YD_SPOOL_KEEP_BYTES } yd_spool_keep;

// Write a file of these pieces. keep: one of this name that is as long, or that has the same bytes, stays. Durable after the next yd_spool_sync.
// YD_E_INVALID for a name that is none, YD_E_STORAGE, YD_E_IO.
int yd_spool_write(yd_spool *s, const char *name, const yd_piece *piece, int n, yd_spool_keep keep, yd_err *err);
// Make every write so far durable. Does nothing when there is nothing to do. YD_E_IO: none of those since the last success may be relied on.
int yd_spool_sync(yd_spool *s, yd_err *err);
// Remove a file; one that is not there is fine. unused_s: of a shared spool only if nobody has written it for so long.
void yd_spool_remove(yd_spool *s, const char *name, int64_t unused_s);
// Remove what `wanted` says 0 to, and what was left half-written: of a shared spool only what is a day old. Returns how many went.
long yd_spool_sweep(yd_spool *s, int (*wanted)(void *arg, const char *name), void *arg);

// Where a file of this name is. dst: YD_SPOOL_PATH_MAX. 0, or -1 when the name is none.
int yd_spool_path(const yd_spool *s, const char *name, char *dst);
// What the disk has left for this process; 0 when it cannot be told, or when it can hold hardly another file.
uint64_t yd_spool_free_bytes(const yd_spool *s);

// Tests only: the k-th system call from now that writes, syncs, renames or opens for writing fails with `error`; 0: never.
void yd_spool_fail_at(long k, int error);

#endif
