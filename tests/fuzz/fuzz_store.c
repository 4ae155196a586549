// Rows of the store, as another version, a damaged disk or somebody's editor may leave them: records of jobs, events of jobs.
#include "core/mem.h"
#include "daemon/events.h"
#include "daemon/store_record.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    yd_err err = {0};
    char *text = as_text(data, size);
    yd_job_record r = {.id = "job"};
    if (yd_job_record_parse(&r, text, &err) == 0) {
        char *again = yd_job_record_print(&r);
        yd_job_record second = {.id = "job"};
        if (again) HOLDS(yd_job_record_parse(&second, again, &err) == 0);
        yd_free(again);
    }
    yd_event_log *log = yd_events_new(64, 4);
    HOLDS(log);
    char *exact = size ? malloc(size) : NULL; // with nothing behind it, as a blob has nothing
    if (exact) memcpy(exact, data, size);
    if (exact) (void)yd_events_restore(log, exact, size, 0, &err);
    free(exact);
    yd_events_unref(log);
    free(text);
    return 0;
}
