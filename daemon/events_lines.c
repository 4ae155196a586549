// Events as lines of text, as a store keeps them, and back.
//
// "ID TYPE DATA\n": the id in decimal, the type's public name, the data as it is sent (JSON on one line). Previews are left out: they are
// replaceable, and their pictures are many. A log that was handed over ends with "0 whole BOOT LAST\n": process BOOT told nothing beyond it, and gave
// no id above LAST. Threads: the loop thread.
#include "daemon/events.h"

#include "core/mem.h"
#include "daemon/text.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE "0 whole "

static void add_line(yd_text *t, uint64_t id, yd_event_type type, const char *data)
{
    yd_text_printf(t, "%" PRIu64 " %s ", id, yd_event_name(type));
    yd_text_add(t, data, strlen(data));
    yd_text_add(t, "\n", 1);
}

yd_blob *yd_events_print(const yd_event_log *log, yd_event_type last, const char *words)
{
    yd_text t = {0};
    uint64_t after = 0;
    size_t len = 0;
    for (const yd_event *e; (e = yd_events_next(log, after, NULL)); after = e->id)
        if (e->type != YD_EVENT_PREVIEW) add_line(&t, e->id, e->type, e->data);
    if (words) add_line(&t, yd_events_last_id(log) + 1, last, words);
    char *lines = yd_text_take(&t, &len);
    return lines ? yd_blob_new(lines, len, "text/plain", 0) : NULL;
}

yd_blob *yd_events_hand_over(const yd_event_log *log, int64_t boot)
{
    yd_text t = {0};
    size_t len = 0;
    yd_blob *told = yd_events_print(log, YD_EVENT_QUEUED, NULL);
    if (!told) return NULL;
    yd_text_add(&t, (const char *)told->bytes, told->len);
    yd_text_printf(&t, WHOLE "%" PRId64 " %" PRIu64 "\n", boot, yd_events_last_id(log));
    yd_blob_unref(told);
    char *lines = yd_text_take(&t, &len);
    return lines ? yd_blob_new(lines, len, "text/plain", 0) : NULL;
}

int64_t yd_events_handed_over(const char *lines, size_t *len, uint64_t *last)
{
    size_t at = *len > 0 ? *len - 1 : 0; // before the last newline
    while (at > 0 && lines[at - 1] != '\n') at--;
    const size_t n = *len - at, word = sizeof WHOLE - 1;
    char text[64], *end;
    if (n <= word || n >= sizeof text || memcmp(lines + at, WHOLE, word) != 0) return -1;
    memcpy(text, lines + at, n);
    text[n] = 0;
    const long long boot = strtoll(text + word, &end, 10);
    *last = strtoull(end, NULL, 10);
    *len = at;
    return boot;
}

static int type_of(const char *name, size_t len, yd_event_type *out)
{
    for (int i = 0; i <= YD_EVENT_CANCELLED; i++)
        if (strlen(yd_event_name((yd_event_type)i)) == len && memcmp(yd_event_name((yd_event_type)i), name, len) == 0) {
            *out = (yd_event_type)i;
            return 0;
        }
    return -1;
}

// final NULL: a final event is one like the others.
static int restore_line(yd_event_log *log, const char *line, size_t len, char **final, yd_err *err)
{
    char *end;
    yd_event_type type;
    if (!len || *line < '0' || *line > '9') return yd_fail(err, YD_E_INVALID, "a stored event cannot be read"); // space would be skipped, past the line
    const uint64_t id = strtoull(line, &end, 10);
    const char *name = end + 1, *space = len ? memchr(line, ' ', len) : NULL;
    const char *data = space && space == end ? memchr(name, ' ', len - (size_t)(name - line)) : NULL;
    const int named = data && type_of(name, (size_t)(data - name), &type) == 0;
    if (named && final && id <= yd_events_last_id(log) && !yd_event_is_final(type)) return 0;
    if (!named || (!final && id <= yd_events_last_id(log)))
        return yd_fail(err, YD_E_INVALID, "a stored event cannot be read");
    data++;
    const size_t n = len - (size_t)(data - line);
    char *copy = yd_malloc(n + 1);
    if (!copy) return yd_fail(err, YD_E_NOMEM, "no memory for an event");
    memcpy(copy, data, n);
    copy[n] = 0;
    yd_events_skip_to(log, id - 1);
    if (final && yd_event_is_final(type)) {
        yd_free(*final);
        *final = copy;
        return 0;
    }
    return yd_events_append(log, type, copy, NULL, NULL, NULL, err);
}

static int restore_lines(yd_event_log *log, const char *lines, size_t len, char **final, yd_err *err)
{
    int rc = 0;
    for (const char *end; !rc && len && (end = memchr(lines, '\n', len));) {
        rc = restore_line(log, lines, (size_t)(end - lines), final, err);
        len -= (size_t)(end + 1 - lines);
        lines = end + 1;
    }
    return rc;
}

int yd_events_restore(yd_event_log *log, const char *lines, size_t len, uint64_t above, yd_err *err)
{
    const int rc = restore_lines(log, lines, len, NULL, err);
    if (above) yd_events_trim_to(log, above);
    return rc;
}

int yd_events_catch_up(yd_event_log *log, const char *lines, size_t len, char **final, yd_err *err)
{
    *final = NULL;
    return restore_lines(log, lines, len, final, err);
}
