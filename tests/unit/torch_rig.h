// Checkpoints made by hand, as torch.save writes them and as it never would: pickles by instruction, zips entry by entry.
#ifndef TORCH_RIG_H
#define TORCH_RIG_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct rig {
    uint8_t *b;
    size_t n, cap;
} rig;

static void rig_bytes(rig *r, const void *bytes, size_t n)
{
    while (r->cap < r->n + n) {
        r->cap = r->cap ? 2 * r->cap : 4096;
        r->b = realloc(r->b, r->cap);
    }
    if (n) memcpy(r->b + r->n, bytes, n);
    r->n += n;
}

static void rig_number(rig *r, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) rig_bytes(r, &(uint8_t){i < 8 ? (uint8_t)(v >> (8 * i)) : 0}, 1);
}

// ---- pickles

#define RIG_OPS(r, ops) rig_bytes(r, "" ops, sizeof(ops) - 1)

static void rig_text(rig *r, const char *text)
{
    RIG_OPS(r, "X");
    rig_number(r, strlen(text), 4);
    rig_bytes(r, text, strlen(text));
}

static void rig_int(rig *r, int64_t v)
{
    RIG_OPS(r, "\x8a\x08");
    rig_number(r, (uint64_t)v, 8);
}

static void rig_ints(rig *r, int n, const int64_t *v)
{
    RIG_OPS(r, "(");
    for (int i = 0; i < n; i++) rig_int(r, v[i]);
    RIG_OPS(r, "t");
}

typedef struct rig_tensor {
    const char *type, *key; // "FloatStorage", "0"
    int64_t numel, offset;
    int ndim, nstride;      // nstride 0: as ndim
    int64_t dims[9], strides[9];
    int legacy;             // the persistent id has a sixth member
} rig_tensor;

static void rig_put_tensor(rig *r, const rig_tensor *t)
{
    char type[64];
    RIG_OPS(r, "ctorch._utils\n_rebuild_tensor_v2\n((");
    rig_text(r, "storage");
    snprintf(type, sizeof type, "ctorch\n%s\n", t->type);
    rig_bytes(r, type, strlen(type));
    rig_text(r, t->key);
    rig_text(r, "cpu");
    rig_int(r, t->numel);
    if (t->legacy) RIG_OPS(r, "N");
    RIG_OPS(r, "tQ");
    rig_int(r, t->offset);
    rig_ints(r, t->ndim, t->dims);
    rig_ints(r, t->nstride ? t->nstride : t->ndim, t->strides);
    RIG_OPS(r, "\x89" "ccollections\nOrderedDict\n)RtR");
}

// ---- zips

typedef struct rig_entry {
    const char *name;
    const void *data;
    size_t len;
    const char *local_name; // NULL: the same
    int method, flags;
    int descriptor, wide;   // sizes behind the data, in zip64 fields
    size_t claims;          // 0: len; what the directory says
    int64_t moved;          // added to the local header's offset in the directory
    size_t local, at;       // out: where it lies
} rig_entry;

static void rig_local(rig *r, rig_entry *e)
{
    const char *name = e->local_name ? e->local_name : e->name;
    const int flags = e->flags | (e->descriptor ? 0x0808 : 0);
    const size_t hide = e->descriptor ? 0 : e->len;
    e->local = r->n;
    rig_number(r, 0x04034b50, 4);
    rig_number(r, 20, 2);
    rig_number(r, (uint64_t)flags, 2);
    rig_number(r, (uint64_t)e->method, 2);
    rig_number(r, 0, 8);
    rig_number(r, hide, 4);
    rig_number(r, hide, 4);
    rig_number(r, strlen(name), 2);
    rig_number(r, 6, 2);
    rig_bytes(r, name, strlen(name));
    RIG_OPS(r, "FB\x02\0ZZ"); // padding, as torch aligns
    e->at = r->n;
    rig_bytes(r, e->data, e->len);
    if (!e->descriptor) return;
    RIG_OPS(r, "PK\x07\x08\0\0\0\0");
    rig_number(r, e->len, 4);
    rig_number(r, e->len, 4);
}

static void rig_central(rig *r, const rig_entry *e)
{
    const uint64_t size = e->claims ? e->claims : e->len, local = (uint64_t)((int64_t)e->local + e->moved);
    const uint64_t narrow = e->wide ? UINT32_MAX : size;
    rig_number(r, 0x02014b50, 4);
    rig_number(r, 0, 2);
    rig_number(r, 20, 2);
    rig_number(r, (uint64_t)(e->flags | (e->descriptor ? 0x0808 : 0)), 2);
    rig_number(r, (uint64_t)e->method, 2);
    rig_number(r, 0, 8);
    rig_number(r, narrow, 4);
    rig_number(r, narrow, 4);
    rig_number(r, strlen(e->name), 2);
    rig_number(r, e->wide ? 28 : 0, 2);
    rig_number(r, 0, 10);
    rig_number(r, 0, 0);
    rig_number(r, e->wide ? UINT32_MAX : local, 4);
    rig_bytes(r, e->name, strlen(e->name));
    if (!e->wide) return;
    rig_number(r, 1, 2);
    rig_number(r, 24, 2);
    rig_number(r, size, 8);
    rig_number(r, size, 8);
    rig_number(r, local, 8);
}

// The end of a zip, with or without zip64's records. Places of its parts for those who spoil them.
typedef struct rig_end {
    size_t central, end64, locator, end;
} rig_end;

static rig_end rig_zip(rig *r, rig_entry *e, size_t n, int zip64)
{
    rig_end at = {0};
    for (size_t i = 0; i < n; i++) rig_local(r, &e[i]);
    at.central = r->n;
    for (size_t i = 0; i < n; i++) rig_central(r, &e[i]);
    const size_t bytes = r->n - at.central;
    at.end64 = r->n;
    if (zip64) {
        rig_number(r, 0x06064b50, 4);
        rig_number(r, 44, 8);
        rig_number(r, 0x1e031e, 4);
        rig_number(r, 0, 8);
        rig_number(r, n, 8);
        rig_number(r, n, 8);
        rig_number(r, bytes, 8);
        rig_number(r, at.central, 8);
        at.locator = r->n;
        rig_number(r, 0x07064b50, 4);
        rig_number(r, 0, 4);
        rig_number(r, at.end64, 8);
        rig_number(r, 1, 4);
    }
    at.end = r->n;
    rig_number(r, 0x06054b50, 4);
    rig_number(r, 0, 4);
    rig_number(r, zip64 ? UINT16_MAX : n, 2);
    rig_number(r, zip64 ? UINT16_MAX : n, 2);
    rig_number(r, zip64 ? UINT32_MAX : bytes, 4);
    rig_number(r, zip64 ? UINT32_MAX : at.central, 4);
    rig_number(r, 0, 2);
    return at;
}

// ---- the legacy container

static void rig_legacy_preamble(rig *r, int little)
{
    RIG_OPS(r, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}(");
    rig_text(r, "protocol_version");
    rig_int(r, 1001);
    rig_text(r, "little_endian");
    rig_bytes(r, little ? "\x88" : "\x89", 1);
    RIG_OPS(r, "u.");
}

static void rig_free(rig *r)
{
    free(r->b);
    *r = (rig){0};
}

#endif
