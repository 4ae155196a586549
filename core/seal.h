// A checksum inside a safetensors file: the SHA-256 of all its bytes, length, header and data, with zeros where its own digits stand.
//
// It is the metadata "yoda.checksum": "sha256:<64 hex digits>". Beside it stands "yoda.sealed": "yoda.checksum", so that a file whose
// checksum was lost, the key being what was damaged, is not taken for one that never had any. Any changed, lost or added byte is found,
// whether or not a number depends on it. Files without either are as they ever were.
#ifndef YD_CORE_SEAL_H
#define YD_CORE_SEAL_H

#include "core/safetensors.h"

#define YD_SEAL_KEY       "yoda.checksum"
#define YD_SEAL_MARK      "yoda.sealed"
#define YD_SEAL_ALGORITHM "sha256:"
#define YD_SEAL_DIGITS    64
#define YD_SEAL_BEFORE    "\"" YD_SEAL_KEY "\":\"" YD_SEAL_ALGORITHM // what stands before the digits in the header, quotes and all

// Where the digits stand in the file: 1 and *at; 0 when the file has no checksum; YD_E_CHECKPOINT when it should have one and has not.
int yd_seal_find(const yd_safetensors *st, size_t *at, yd_err *err);
// Compare it with the file. bytes, len: all of it; at: from yd_seal_find. YD_E_CHECKPOINT when they differ. Takes as long as hashing the file.
int yd_seal_check(const void *bytes, size_t len, size_t at, yd_err *err);

#endif
