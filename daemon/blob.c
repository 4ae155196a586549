// Reference-counted bytes; the digest is computed once, by whoever makes the blob.
#include "daemon/blob.h"

#include "core/mem.h"
#include "core/sha256.h"

yd_blob *yd_blob_new(void *bytes, size_t len, const char *mime, int hash)
{
    yd_blob *b = yd_calloc(1, sizeof *b);
    if (!b) {
        yd_free(bytes);
        return NULL;
    }
    *b = (yd_blob){.bytes = bytes, .len = len, .mime = mime, .owned = bytes, .refs = 1};
    if (hash) yd_sha256_hex(bytes, len, b->sha256);
    return b;
}

yd_blob *yd_blob_ref(yd_blob *b)
{
    if (b) __atomic_add_fetch(&b->refs, 1, __ATOMIC_RELAXED);
    return b;
}

void yd_blob_unref(yd_blob *b)
{
    if (!b || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) > 0) return;
    yd_free(b->owned);
    yd_free(b);
}
