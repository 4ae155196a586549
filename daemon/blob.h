// Immutable bytes shared by reference: uploads, results, previews, maps.
//
// A download holds a reference, so it survives the deletion of its job. The bytes never change after yd_blob_new.
// Threads: a blob is filled by one thread, then read by any; the count is atomic, so ref and unref may be called anywhere.
#ifndef YD_DAEMON_BLOB_H
#define YD_DAEMON_BLOB_H

#include "core/err.h"
#include <stddef.h>
#include <stdint.h>

typedef struct yd_blob {
    const uint8_t *bytes;
    size_t len;
    const char *mime;  // "image/png"; static storage
    char sha256[65];   // lower-case hex of the bytes, or "" where nobody asked for a digest (previews)
    int width, height; // of the picture, 0 when it is none
    void *owned;       // what unref releases: yd_free, or munmap where `mapped`
    int mapped;        // the bytes are a file's
    int refs;          // touched through yd_blob_ref and yd_blob_unref only
} yd_blob;

// Wrap bytes allocated with yd_malloc; takes ownership of them, also when it fails. mime is borrowed (static storage).
// hash: 1 computes the digest. NULL: out of memory (the bytes are freed then). The caller holds the first reference.
yd_blob *yd_blob_new(void *bytes, size_t len, const char *mime, int hash);

// The bytes of a file that nobody changes, read as they are needed. The file may be unlinked meanwhile, but must not be cut short.
// len: its length, checked; sha256 may be NULL. YD_E_IO, YD_E_NOMEM.
int yd_blob_map(const char *path, size_t len, const char *mime, const char *sha256, yd_blob **out, yd_err *err);

yd_blob *yd_blob_ref(yd_blob *b); // returns b; NULL is fine
void yd_blob_unref(yd_blob *b);   // NULL is fine

#endif
