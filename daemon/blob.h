// Immutable bytes shared by reference: uploads, results, previews, maps.
//
// Bytes that have been on a disk are not believed: who hands them on asks yd_blob_check first, which compares them with their digest once for
// each generation of the file (its inode, size and times), so that what changes underneath is noticed.
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
    struct yd_blob_file *file; // of mapped ones: where it is, and which generation of it was looked at (blob.c)
    int damaged;       // they are not what they were; set by yd_blob_check, read with yd_blob_damaged
    int refs;          // touched through yd_blob_ref and yd_blob_unref only
} yd_blob;

// Wrap bytes allocated with yd_malloc; takes ownership of them, also when it fails. mime is borrowed (static storage).
// hash: 1 computes the digest. NULL: out of memory (the bytes are freed then). The caller holds the first reference.
yd_blob *yd_blob_new(void *bytes, size_t len, const char *mime, int hash);

// The bytes of a file that nobody should change, read as they are needed. The file may be unlinked meanwhile.
// len: its length, checked; sha256 may be NULL. YD_E_IO, YD_E_NOMEM.
int yd_blob_map(const char *path, size_t len, const char *mime, const char *sha256, yd_blob **out, yd_err *err);

// 1: yd_blob_check has nothing to do (a look at the file's times, microseconds). Any thread.
int yd_blob_fresh(const yd_blob *b);
// Are these the bytes that the digest is of? Reads the whole file where it has changed since the last look, or was never looked at: about a
// second for 1.5 GB, so on a pool thread where it may be large. Any thread, several at once. YD_E_IO, said in the log; YD_E_NOMEM.
int yd_blob_check(yd_blob *b, yd_err *err);
int yd_blob_damaged(const yd_blob *b); // a check has failed; NULL: 0

yd_blob *yd_blob_ref(yd_blob *b); // returns b; NULL is fine
void yd_blob_unref(yd_blob *b);   // NULL is fine

#endif
