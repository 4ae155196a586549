// The log: one JSON object a line on stderr.
//
// {"ts":"2024-05-01T12:00:00.123Z","level":"info","msg":"...","req":"...", ...}. Every string is escaped, so no client can forge a line;
// a line is written with one write(2) and cut at 4 KiB. Threads: any.
#ifndef YD_DAEMON_LOG_H
#define YD_DAEMON_LOG_H

typedef enum { YD_LOG_DEBUG, YD_LOG_INFO, YD_LOG_WARN, YD_LOG_ERROR } yd_log_level;

// "debug", "info", "warn", "error". Anything else leaves the level as it is.
void yd_log_set_level(const char *level);
int yd_log_enabled(yd_log_level level);

// Write a line. request_id may be NULL. fields: pairs of name (a plain word) and text value, ended by NULL:
//   yd_log(YD_LOG_INFO, req, "job taken", "job", id, "#bytes", "1024", NULL);
// A name after '#' stands for a number: its value is written without quotes and must be one in JSON's sense.
void yd_log(yd_log_level level, const char *request_id, const char *msg, ...) __attribute__((sentinel));

#endif
