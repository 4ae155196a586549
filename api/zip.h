// The parts of a ZIP archive whose members are stored as they are: headers, directory, end (APPNOTE 6.3, with the 64-bit extensions where
// a number needs them). Pure functions that write to memory; their lengths do not depend on check sums, so that an archive's length is
// known before a byte of it is.
#ifndef YD_API_ZIP_H
#define YD_API_ZIP_H

#include <stddef.h>
#include <stdint.h>

#define YD_ZIP_NAME_MAX 255
#define YD_ZIP_PART_MAX (YD_ZIP_NAME_MAX + 128) // the longest of these parts

typedef struct yd_zip_member {
    const char *name; // UTF-8, at most YD_ZIP_NAME_MAX bytes
    uint64_t size, offset; // of its bytes; where its header is
    uint32_t crc;          // CRC-32 of its bytes
    int64_t time_ms;       // since 1970; shown in UTC
} yd_zip_member;

// Each returns how many bytes it is; dst NULL: only that.
size_t yd_zip_header(const yd_zip_member *m, uint8_t *dst);    // before a member's bytes; crc must be known
size_t yd_zip_directory(const yd_zip_member *m, uint8_t *dst); // one for each member, after all of them
size_t yd_zip_end(uint64_t members, uint64_t directory_offset, uint64_t directory_size, uint8_t *dst);

#endif
