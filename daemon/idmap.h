// A map from a short text key (a job id) to a pointer. Keys are copied; values are the caller's. Threads: one at a time.
#ifndef YD_DAEMON_IDMAP_H
#define YD_DAEMON_IDMAP_H

#include <stddef.h>

#define YD_ID_MAX 40 // longest key, with its NUL; a UUID takes 37

typedef struct yd_idmap yd_idmap;

yd_idmap *yd_idmap_new(void); // NULL: out of memory
void yd_idmap_free(yd_idmap *m);
// Add. 0; -1 when memory is out, the key is too long or already there (nothing changes then).
int yd_idmap_put(yd_idmap *m, const char *key, void *value);
void *yd_idmap_get(const yd_idmap *m, const char *key); // NULL when absent
void *yd_idmap_remove(yd_idmap *m, const char *key);    // the value, NULL when absent
void *yd_idmap_any(const yd_idmap *m);                   // some value; NULL when it is empty
// Call fn for every key; it must not change the map.
void yd_idmap_each(const yd_idmap *m, void (*fn)(void *arg, const char *key), void *arg);
size_t yd_idmap_count(const yd_idmap *m);

#endif
