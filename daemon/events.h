// The event log of one job: append-only, ids from 1 strictly increasing, replayable from any id, bounded.
//
// Readers pull: each holds a cursor (the id it has seen) and asks for the next event when it can send one. A subscription only says
// "look again". So a slow reader costs nothing but its cursor, and never holds anybody up.
// Bounds: previews are replaceable, only the latest few stay (ids of dropped ones are holes); of the `step` events the oldest go when
// the log is full, and a reader whose cursor lies before them is told so (`gap`). Other events are never dropped.
// Threads: the loop thread only.
#ifndef YD_DAEMON_EVENTS_H
#define YD_DAEMON_EVENTS_H

#include "core/err.h"
#include "daemon/blob.h"

//  X(name, text, ends the log)
#define YD_EVENT_TYPES(X)                                                                                              \
    X(FETCHING, "fetching", 0)                                                                                         \
    X(QUEUED, "queued", 0)                                                                                             \
    X(STARTED, "started", 0)                                                                                           \
    X(ATTENTION, "attention", 0)                                                                                       \
    X(STEP, "step", 0)                                                                                                 \
    X(PREVIEW, "preview", 0)                                                                                           \
    X(SUCCEEDED, "succeeded", 1)                                                                                       \
    X(FAILED, "failed", 1)                                                                                             \
    X(CANCELLED, "cancelled", 1)

typedef enum {
#define YD_EVENT_ENUM(name, text, last) YD_EVENT_##name,
    YD_EVENT_TYPES(YD_EVENT_ENUM)
#undef YD_EVENT_ENUM
} yd_event_type;

typedef struct yd_event {
    uint64_t id;
    yd_event_type type;
    char *data;    // one JSON object, no newline in it
    yd_blob *blob; // preview, attention: the encoded picture; otherwise NULL
    yd_blob *mask; // preview: which of its pixels are being refined; NULL: all, or it is not known
} yd_event;

typedef struct yd_event_log yd_event_log;
typedef struct yd_subscription yd_subscription;

// Called on the loop thread after something was appended or the log was closed. It may unsubscribe itself or any other subscription.
typedef void (*yd_notify_fn)(void *arg);

// "queued", ... Static storage.
const char *yd_event_name(yd_event_type t);
// 1 for succeeded, failed, cancelled.
int yd_event_is_final(yd_event_type t);

// Make an empty log that keeps at most max_events events (>= 16), max_previews of them previews. NULL: out of memory.
yd_event_log *yd_events_new(size_t max_events, size_t max_previews);
// What is in it besides previews as lines "ID TYPE DATA", for a store. words: data of a last event of type `last` that is not in it yet, or
// NULL. NULL: out of memory.
yd_blob *yd_events_print(const yd_event_log *log, yd_event_type last, const char *words);
// The same of a log that its process, the boot-th, adds nothing to any more: whoever goes on right after it has missed nothing.
yd_blob *yd_events_hand_over(const yd_event_log *log, int64_t boot);
// Was it handed over? That process, *len without what says so, and the last id it gave; otherwise -1.
int64_t yd_events_handed_over(const char *lines, size_t *len, uint64_t *last);
// Fill an empty log from such lines; ids that are given from now on lie above `above` too, and what an earlier process may have told
// between counts as trimmed. YD_E_INVALID: a line is none (what came before stays), YD_E_NOMEM.
int yd_events_restore(yd_event_log *log, const char *lines, size_t len, uint64_t above, yd_err *err);

// Append what such lines have beyond the log's last id, but for a final event: its data is given instead (yd_free; NULL: there is none), and it is the
// next one to be appended. Subscribers are called. YD_E_INVALID, YD_E_NOMEM.
int yd_events_catch_up(yd_event_log *log, const char *lines, size_t len, char **final, yd_err *err);

yd_event_log *yd_events_ref(yd_event_log *log);
void yd_events_unref(yd_event_log *log); // NULL is fine

// Append; takes ownership of data (yd_malloc'ed) and one reference of blob and mask (or NULL), also on failure. Subscribers are called before it
// returns. *id (may be NULL): the new event's. YD_E_NOMEM (for a final event only when data is NULL); YD_E_CONFLICT after a final event.
int yd_events_append(yd_event_log *log, yd_event_type type, char *data, yd_blob *blob, yd_blob *mask, uint64_t *id, yd_err *err);

// Ids up to this one are not given any more (previews that were dropped had them). Lower than the last id: nothing happens.
void yd_events_skip_to(yd_event_log *log, uint64_t id);
// The same, and readers before it are told of a gap: other events may have had them.
void yd_events_trim_to(yd_event_log *log, uint64_t id);

// First event with an id above `after`, or NULL when there is none yet. *gap (may be NULL) is 1 when events that are not previews were
// trimmed between `after` and it. Borrowed: valid until the next append to this log or return to the loop.
const yd_event *yd_events_next(const yd_event_log *log, uint64_t after, int *gap);

uint64_t yd_events_last_id(const yd_event_log *log); // 0 while empty
uint64_t yd_events_firm_id(const yd_event_log *log); // of the latest event that was no preview, trimmed or not
int yd_events_ended(const yd_event_log *log);        // 1: a final event is in; nothing will follow
int yd_events_closed(const yd_event_log *log);       // 1: the job was deleted or the service is closing; stop reading
// Mark closed and call the subscribers once more.
void yd_events_close(yd_event_log *log);

// Subscribe; the subscription holds a reference of the log. viewer: 1 for who shows the events to somebody, so that previews are worth
// making; 0 for who only waits for the end. YD_E_NOMEM.
int yd_events_subscribe(yd_event_log *log, int viewer, yd_notify_fn fn, void *arg, yd_subscription **out, yd_err *err);
void yd_events_unsubscribe(yd_subscription *s); // NULL is fine
yd_event_log *yd_subscription_log(const yd_subscription *s);
size_t yd_events_viewers(const yd_event_log *log);

// Bytes held by the log (data and previews), for the memory account.
size_t yd_events_bytes(const yd_event_log *log);

#endif
