// API keys: who may ask, for what, and how much.
//
// A key file has one key a line: an owner, the SHA-256 of the key in hex, and what the owner may do:
//   alice 9f86d081...  scopes=submit,read rate=20 jobs=8 units_per_hour=2000000 weight=2
// Several lines of one owner are several keys for the same (to change a key without a gap); limits are the owner's, from the first of
// them. Keys themselves are never stored: 256 random bits need no slow hash.
//
// Budgets are buckets that fill while time passes: `rate` requests a second, up to ten seconds' worth at once; `units_per_hour` units of
// work (a window at a step), up to an hour's worth. They go over into the next table when the file is read again.
// Threads: the loop's.
#ifndef YD_CORE_KEYS_H
#define YD_CORE_KEYS_H

#include "core/err.h"
#include <stdint.h>

#define YD_OWNER_MAX 64
#define YD_KEY_TEXT  46 // "yk_" and 32 random bytes in base64 with - and _, without padding, and a NUL

enum { YD_SCOPE_PUBLIC = 0, YD_SCOPE_SUBMIT = 1, YD_SCOPE_READ = 2, YD_SCOPE_METRICS = 4, YD_SCOPE_ADMIN = 8 };

typedef struct yd_keys yd_keys;

typedef struct yd_key_limits {
    double weight;         // share of the device beside other owners, 0.001..1000
    double rate;           // requests a second; 0: any
    long jobs;             // queued and running at a time; 0: any
    double units_per_hour; // 0: any
} yd_key_limits;

// Read a key file's text. YD_E_CONFIG naming the line, YD_E_NOMEM.
int yd_keys_parse(const char *text, size_t len, yd_keys **out, yd_err *err);
// The same from a file of at most 4 MiB. YD_E_CONFIG also when it cannot be read.
int yd_keys_load(const char *path, yd_keys **out, yd_err *err);
void yd_keys_free(yd_keys *k); // NULL is fine
size_t yd_keys_count(const yd_keys *k);

// Owners of `next` that are in `old` too go on with the budgets they have there.
void yd_keys_carry(yd_keys *next, const yd_keys *old);

// Whose key it is: 0, *owner (valid until the table is freed) and *scopes. YD_E_UNAUTHORIZED.
int yd_keys_check(const yd_keys *k, const char *key, const char **owner, unsigned *scopes, yd_err *err);
// The owner's name as the table has it, when one of its keys has this scope, else NULL.
const char *yd_keys_owner(const yd_keys *k, const char *owner, unsigned scope);
// NULL: no such owner.
const yd_key_limits *yd_keys_limits(const yd_keys *k, const char *owner);

double yd_keys_burst(const yd_key_limits *l); // requests that may be made at once
// Could it have so many units of work at all? YD_E_SETTING.
int yd_keys_may_work(const yd_key_limits *l, const char *owner, double units, yd_err *err);

// One more request. 0, or YD_E_LIMIT and *wait_ms, after which there is room again.
int yd_keys_request(yd_keys *k, const char *owner, int64_t now_us, long *wait_ms, yd_err *err);
// So many units of work. 0; YD_E_LIMIT and *wait_ms; YD_E_SETTING when they are more than an hour's.
int yd_keys_work(yd_keys *k, const char *owner, double units, int64_t now_us, long *wait_ms, yd_err *err);
// So many of the units that were taken are not needed after all. The budget never holds more than an hour's.
void yd_keys_give_back(yd_keys *k, const char *owner, double units, int64_t now_us);

// A new key and the SHA-256 in hex that goes into the file. YD_E_IO: no entropy.
int yd_key_make(char key[YD_KEY_TEXT], char hash[65], yd_err *err);
// May this be an owner's name? 1..YD_OWNER_MAX-1 letters, digits, '.', '_', '-'.
int yd_owner_valid(const char *name, size_t len);

#endif
