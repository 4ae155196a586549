// The text of an operation in a shared log, and of what a snapshot of all of them holds: JSON, one object each.
//
//   {"r":3,"n":17,"k":"put","t":ms,"rec":{...}}   operation 17 of replica 3, of a kind of store.h
//   {"r":3,"k":"release"}                         replica 3 is gone: what it had claimed waits again
//   {"k":"row","rec":{...},"holder":3,"ended":9}  {"k":"grave","id":"...","t":ms}  {"k":"batch",...}  {"k":"end","rows":1,"order":5,"ends":9}
// A record is its searched columns, its line (store_record.h), its events and errands, and of each picture the digest, length, type and size.
#ifndef YD_DAEMON_STORE_ENTRY_H
#define YD_DAEMON_STORE_ENTRY_H

#include "daemon/spool.h"
#include "daemon/store_mirror.h"
#include "daemon/store_record.h"

typedef char yd_entry_names[YD_FILES][YD_SPOOL_NAME_MAX]; // digests of a record's pictures; "": there is none

typedef enum { YD_ENTRY_OP, YD_ENTRY_RELEASE, YD_ENTRY_ROW, YD_ENTRY_GRAVE, YD_ENTRY_BATCH, YD_ENTRY_END } yd_entry_what;

typedef struct yd_entry {
    yd_entry_what what;
    int64_t replica;
    uint64_t number;
    yd_store_op *op;   // OP; BATCH: its rec.id, rec.owner and doc; GRAVE: its rec.id and now_ms
    yd_mirror_row row; // ROW
    uint64_t rows, order, ends; // END
} yd_entry;

// yd_free the text; NULL: out of memory. Any thread.
char *yd_entry_print_op(yd_store_op *op, int64_t replica, uint64_t number, yd_entry_names names);
char *yd_entry_print_row(const yd_mirror_row *row);
char *yd_entry_print_grave(const char *id, int64_t since_ms);
char *yd_entry_print_batch(const char *id, const char *owner, const char *doc);
char *yd_entry_print_end(uint64_t rows, uint64_t order, uint64_t ends);

// Read one back; pictures are placeholders. yd_entry_clear it. YD_E_IO: it is damaged, or of a version that is not known here; YD_E_NOMEM.
int yd_entry_parse(const char *text, size_t len, yd_entry *out, yd_err *err);
void yd_entry_clear(yd_entry *e);

#endif
