// Whole files: bounded reading, and writing that leaves either the old file or the complete new one.
//
// A writer fills a temporary file ".yd-<pid>-<n>.tmp" in the target's own folder, then fsync, rename, fsync of the folder. After a
// power cut a left-over of that name may be deleted by anyone. All functions block; different files may be used on different
// threads. Nothing here needs libvips.
#ifndef YD_CORE_FILE_H
#define YD_CORE_FILE_H

#include "core/err.h"
#include <stddef.h>

// Read a file, or anything else that ends (a pipe). *bytes has len bytes and a NUL after them; release with yd_free.
// YD_E_IO when it cannot be read, YD_E_INVALID when it holds more than max_bytes, YD_E_NOMEM.
int yd_file_read(const char *path, size_t max_bytes, void **bytes, size_t *len, yd_err *err);

// Replace (or make) a file in one step. YD_E_IO, YD_E_NOMEM: the old file is then untouched and no temporary file stays (only
// when the folder refuses its fsync is the new file in place already, and may be gone after a power cut).
int yd_file_write_atomic(const char *path, const void *bytes, size_t len, yd_err *err);

// The same in pieces: open, any number of writes, then commit or abort. One of the two must end every opened writer;
// a failed write may only be followed by abort, a failed commit has aborted already. Zero-initialise for a no-op abort.
typedef struct yd_file_writer {
    char *path; // where it will appear
    char *temp; // where it is now
    int fd;
} yd_file_writer;

int yd_file_writer_open(yd_file_writer *w, const char *path, yd_err *err);
int yd_file_writer_write(yd_file_writer *w, const void *bytes, size_t len, yd_err *err);
int yd_file_writer_commit(yd_file_writer *w, yd_err *err);
void yd_file_writer_abort(yd_file_writer *w);

#endif
