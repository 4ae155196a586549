// Files that processes without a folder in common have in the Redis server: pictures, and where running jobs stand.
//
// Each process has files of its own as well, which are copies: what it has written, and what it was asked for. A file is in the server before a
// record refers to it. Its bytes are the value of one key, when they were last written is in a hash beside it, and both change at once, so that a
// file that somebody is about to refer to is not taken away by somebody who knows of no record yet (yd_redis_files_drop_script).
// Threads: any, one at a time for each yd_redis_files. Calls wait for the server's answers.
#ifndef YD_DAEMON_REDIS_FILES_H
#define YD_DAEMON_REDIS_FILES_H

#include "daemon/redis_url.h"
#include <stddef.h>

typedef enum { YD_REDIS_PICTURE, YD_REDIS_CHECKPOINT } yd_redis_file_kind;

#define YD_REDIS_FILES        "yodad:files" // hash: key -> the server's time in milliseconds when it was last written
#define YD_REDIS_FILE_KEY_MAX 96

typedef struct yd_redis_files yd_redis_files;

// One connection, made when it is first needed, anew after trouble. most: bytes of a file; answer_ms: that each answer may take. NULL: out of
// memory; yd_redis_files_close it (NULL is fine).
yd_redis_files *yd_redis_files_new(const yd_redis_url *u, size_t most, int answer_ms);
void yd_redis_files_close(yd_redis_files *f);

// The name of a file's key. key: YD_REDIS_FILE_KEY_MAX.
void yd_redis_file_key(yd_redis_file_kind kind, const char *name, char *key);

// Have a file there; a picture that is there already, named by its digest, only becomes new. YD_E_STORAGE: it is larger than `most`.
// YD_E_STORE_AWAY.
int yd_redis_files_put(yd_redis_files *f, yd_redis_file_kind kind, const char *name, const void *bytes, size_t len,
                       yd_err *err);
// Have a copy of it at `path`, which is there whole or not at all; one that is there already stays (pictures), or is replaced (checkpoints).
// YD_E_NOT_FOUND: the server has none. YD_E_STORE_AWAY, YD_E_STORAGE, YD_E_IO.
int yd_redis_files_fetch(yd_redis_files *f, yd_redis_file_kind kind, const char *name, const char *path, yd_err *err);

// ARGV: the key, milliseconds. Takes a file away that has not been written for so long. 1: it is gone.
extern const char yd_redis_files_drop_script[];

#endif
