// The directory of a zip file whose entries are stored, not compressed: names, and where their bytes lie. Nothing is copied.
//
// Everything is taken from the central directory and checked against the local headers, which must agree in name, method and place. Zip64 is read.
// Refused: entries that overlap one another or leave the file, two of one name, encrypted or compressed ones, several disks, names that are
// absolute or hold "..", a backslash or a control character, and a directory that does not end where its end record begins.
// Source: PKWARE's APPNOTE 6.3, sections 4.3 to 4.5.
#ifndef YD_CORE_ZIP_DIRECTORY_H
#define YD_CORE_ZIP_DIRECTORY_H

#include "core/err.h"
#include <stddef.h>
#include <stdint.h>

typedef struct yd_zip_entry {
    const char *name; // name_len bytes in the file, not terminated
    size_t name_len;
    const uint8_t *data;
    size_t bytes;
    uint32_t crc; // as the directory has it; unchecked
} yd_zip_entry;

typedef struct yd_zip {
    yd_zip_entry *entries; // in name order
    size_t count;
    yd_zip_entry first; // the one that the directory lists first
} yd_zip;

// Read the directory of a file in memory, which is borrowed and must outlive it. YD_E_CHECKPOINT naming the entry, YD_E_NOMEM.
int yd_zip_read(const void *bytes, size_t len, yd_zip *out, yd_err *err);
void yd_zip_free(yd_zip *z); // zeroed is fine
// The entry of this name, or NULL.
const yd_zip_entry *yd_zip_find(const yd_zip *z, const char *name, size_t name_len);

#endif
