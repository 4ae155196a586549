// What happens to all jobs, in one order: the events of every log once more, under ids that grow across jobs and processes. Pictures stay in
// the logs, which keep the latest few of each job: where a reader is late they are gone, and it does without.
//
// A ring of the latest events; who resumes before its beginning is told of a gap. Readers pull, as with a job's own log (events.h).
// Ids are given here (yd_feed_append), or, where several processes share them, by somebody else (yd_feed_put): then a process may know less than another
// one, and who comes with an id that is not known here yet waits for what follows it.
// Threads: the loop thread only.
#ifndef YD_DAEMON_FEED_H
#define YD_DAEMON_FEED_H

#include "daemon/events.h"
#include "daemon/idmap.h"

typedef struct yd_feed yd_feed;
typedef struct yd_feed_reader yd_feed_reader;

typedef struct yd_feed_event {
    uint64_t id;
    const char *owner; // of the job
    char job[YD_ID_MAX];
    yd_event_type type;
    char *data;      // as in the job's log
    uint64_t log_id; // its id there
} yd_feed_event;

// Ids are given from `base` + 1 on; it must lie above everything that an earlier process gave, and below 2^53. NULL: out of memory.
yd_feed *yd_feed_new(size_t max_events, uint64_t base);
void yd_feed_share(yd_feed *f); // ids are given elsewhere
void yd_feed_free(yd_feed *f); // without readers; NULL is fine
// Add an event (texts are copied) and call who reads this owner's. Without memory it is missing, and its id shows as a gap.
void yd_feed_append(yd_feed *f, const char *owner, const char *job, yd_event_type type, const char *data, uint64_t log_id);

// The same with an id that was given elsewhere, above the last; what lies between shows as a gap. yd_feed_skip: so does everything up to `id`.
void yd_feed_put(yd_feed *f, uint64_t id, const char *owner, const char *job, yd_event_type type, const char *data, uint64_t log_id);
void yd_feed_skip(yd_feed *f, uint64_t id);

// The owner's first event above `after`, or NULL when there is none yet. *gap is 1 when what may have come between is not known any more, or
// when `after` was never given (unless ids are given elsewhere); then NULL is returned. Borrowed until the next append.
const yd_feed_event *yd_feed_next(const yd_feed *f, const char *owner, uint64_t after, int *gap);
uint64_t yd_feed_last_id(const yd_feed *f);
uint64_t yd_feed_begin(const yd_feed *f); // nothing up to this id is known any more, everything above is

// Does the reader show this job to somebody, so that previews are worth drawing?
typedef int (*yd_feed_views_fn)(const void *arg, const char *job);

// owner is borrowed for as long. views: NULL: nothing is shown. YD_E_NOMEM.
int yd_feed_read(yd_feed *f, const char *owner, yd_feed_views_fn views, yd_notify_fn fn, void *arg, yd_feed_reader **out, yd_err *err);
void yd_feed_unread(yd_feed_reader *r); // NULL is fine; not from fn
int yd_feed_viewed(const yd_feed *f, const char *owner, const char *job);

#endif
