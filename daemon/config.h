// The configuration: one struct, made at the start. SIGHUP has it made again; what can change without a restart is then taken over.
//
// Sources, each overriding the one before: defaults, the config file (a JSON object, --config FILE), the environment (YODAD_NAME),
// flags (--name VALUE or --name=VALUE). One list gives a setting its three spellings: max_body_bytes in the file,
// YODAD_MAX_BODY_BYTES in the environment, --max-body-bytes as a flag. Unknown names and values out of range are errors that name
// the setting, where it came from and what it accepts. Threads: any may read it, but for the
// settings that yd_config_live names: those belong to the loop's.
#ifndef YD_DAEMON_CONFIG_H
#define YD_DAEMON_CONFIG_H

#include "core/err.h"
#include "daemon/text.h"
#include <jansson.h>
#include <stdint.h>

#define YD_KIB 1024LL
#define YD_MIB (1024LL * 1024)
#define YD_GIB (1024LL * 1024 * 1024)

// TEXT(name, default, help)           any string of at most 255 bytes
// CHOICE(name, default, "a|b", help)  one of these words
// NUMBER(name, default, min, max, help)  an integer; bytes may be written with KiB, MiB, GiB
// SWITCH(name, default, help)         true or false; as a flag it needs no value
#define YD_CONFIG(TEXT, CHOICE, NUMBER, SWITCH)                                                                        \
    TEXT(listen, "127.0.0.1:8080", "address and port to listen on; [::1]:8080 for IPv6; port 0 takes a free one")      \
    TEXT(state_dir, "", "directory for durable state; empty keeps jobs in memory")                                     \
    TEXT(store, "", "where job records are: empty for state_dir itself, or a Redis server, redis://[:password@]host[:port][/database] or unix:///path[?db=number]") \
    NUMBER(store_lease_ms, 5000, 1000, 600000, "a process that the Redis server has not heard of for this long is taken for dead, and others have its jobs") \
    CHOICE(picture_store, "folder", "folder|redis", "where processes that share a store have its pictures and checkpoints: a state_dir that all of them share, or the Redis server") \
    NUMBER(picture_store_max, 32 * YD_MIB, 64 * YD_KIB, 256 * YD_MIB, "largest picture or checkpoint that is kept in the Redis server")  \
    TEXT(model_dir, "models", "folders of model files (*.safetensors, *.pth, *.pt, *.ckpt), separated by commas; of one name the first counts") \
    TEXT(model, "", "model of jobs that name none, one of model_dir; empty takes the only or the first one")           \
    TEXT(models, "", "further models to load at the start, separated by commas, or all")                               \
    NUMBER(model_memory_bytes, 0, 0, 1024 * YD_GIB, "memory that resident models may take; 0 derives it from the machine's and max_memory_bytes") \
    SWITCH(load_on_demand, 0, "a job for a model that is not resident has it loaded and waits; otherwise it is refused")   \
    TEXT(device, "auto", "what computes: auto, cpu, cuda (every GPU), cuda:N (also a list of them), or fake (fake:N are several), which predicts nothing and is for tests of the service") \
    NUMBER(device_retry_ms, 1000, 10, 3600000, "wait before a device that failed is opened again; doubles while it fails")  \
    NUMBER(device_retry_max_ms, 60000, 10, 3600000, "longest such wait")                                                \
    NUMBER(threads, 0, 0, 1024, "compute threads; 0 takes every core")                                                 \
    CHOICE(dtype, "auto", "auto|f32|bf16|both|f32,bf16|bf16,f32",                                                      \
           "storage of feature maps that jobs may ask for, the first unless they do; auto takes the model's or the best")  \
    NUMBER(window, 0, 0, 4096, "side of the windows a picture is computed in; 0 takes the model's own")                \
    NUMBER(overlap, -1, -1, 2048, "pixels two windows share; -1 takes the same share of a window as the model's own")  \
    CHOICE(winograd, "auto", "auto|off", "quick convolutions that round a little differently, where they are quick")   \
    SWITCH(batch_invariant, 1, "on a GPU: a result does not depend on what else was in a run, bit for bit; off is a little quicker")  \
    SWITCH(tf32, 0, "on a GPU: products of f32 with ten bits of mantissa, which is quicker")                              \
    CHOICE(tuning, "auto", "auto|on|off", "on a GPU: convolutions are tried and the quickest kept in state_dir when a model is first loaded; auto: unless others share the store") \
    NUMBER(tuning_ms, 20000, 1, 3600000, "longest that this may take for one model on one GPU")                         \
    TEXT(attention_nets, "", "attention networks beside those in model_dir: PATH or NAME=PATH, separated by commas")    \
    NUMBER(attention_short_side, 224, 32, 2048, "pixels of the short side of pictures that attention networks are shown")   \
    NUMBER(attention_long_side, 480, 32, 2048, "pixels of their long side, at most")                                    \
    CHOICE(attention_norm, "own", "own|minmax|max|p99", "how each head becomes 0..1; own: as the network's kind has it")   \
    CHOICE(attention_resize, "bilinear", "bilinear|nearest|bicubic", "how maps of attention networks get to the picture's grid") \
    NUMBER(attention_batch, 4, 1, 8, "most pictures in a run of an attention network")                                  \
    NUMBER(attention_cache_bytes, 16 * YD_MIB, 0, 16 * YD_GIB, "memory for maps of attention networks that may be asked for again") \
    CHOICE(log_level, "info", "debug|info|warn|error", "lines below this level are not written")                       \
    TEXT(keys, "", "file of API keys, a line each: OWNER SHA256 [scopes=...] ...; SIGHUP reads it again; see `yoda key`")  \
    NUMBER(stream_token_ttl_s, 900, 1, 86400, "longest life of a token for streams and pictures")                      \
    TEXT(trusted_proxies, "", "networks whose proxies are believed about the client's address, as 10.1.0.0/16, fd00::/8")   \
    CHOICE(proxy_header, "either", "either|x-forwarded-for|forwarded", "what they write it to; of either the first that is there counts") \
    TEXT(cors_origins, "", "origins whose pages may call, as https://app.example, or *; separated by commas")          \
    SWITCH(insecure_no_auth, 0, "listen beyond loopback although nobody is asked for a key")                           \
    NUMBER(replica, -1, -1, 255, "this server's number among those behind one address: ids begin with it, so that a balancer can route; -1: none")  \
    NUMBER(max_body_bytes, 32 * YD_MIB, 1 * YD_KIB, 4 * YD_GIB, "largest request body")                                \
    NUMBER(max_pixels, 4194304, 256, 1000000000, "largest input picture, in pixels")                                   \
    NUMBER(max_output_pixels, 67108864, 256, 4000000000, "largest output picture, in pixels")                          \
    NUMBER(max_side, 16384, 16, 65535, "longest side of an input picture")                                             \
    NUMBER(max_job_units, 1000000, 1, 1000000000, "most units of work (window x step) one job may need")               \
    NUMBER(max_memory_bytes, 4 * YD_GIB, 1 * YD_MIB, 1024 * YD_GIB, "memory that running jobs may take together")      \
    NUMBER(queue_max, 64, 1, 100000, "jobs that may wait")                                                             \
    NUMBER(max_queue_bytes, 512 * YD_MIB, 1 * YD_KIB, 1024 * YD_GIB, "encoded pictures that may wait, in bytes")       \
    NUMBER(max_running, 8, 1, 256, "jobs under way at a time")                                                         \
    NUMBER(ageing_percent, 50, 1, 100000, "of a second of work: what a second of waiting is worth beside jobs that have less left") \
    NUMBER(priority_ahead_s, 300, 0, 86400, "head start of a job of high priority over a normal one, and of that over a low one") \
    NUMBER(share_slack_ms, 2000, 0, 3600000, "device time by which owners may differ, so that short jobs need not wait")  \
    NUMBER(share_catch_up_ms, 10000, 0, 3600000, "most device time that an owner is owed who could not be served")         \
    NUMBER(max_idle_ms, 10000, 1, 3600000, "a started job gets a unit of work at least this often")                        \
    NUMBER(reserve_after_ms, 5000, 0, 3600000, "a job that waits for memory is passed by others no longer than this")      \
    NUMBER(max_batch, 8, 1, 64, "most units of work in a run of the device, which takes as many as pay")                 \
    NUMBER(max_finished_jobs, 1000, 1, 1000000, "finished jobs that are kept")                                         \
    NUMBER(max_finished_bytes, 1 * YD_GIB, 1 * YD_MIB, 1024 * YD_GIB, "memory that finished jobs may take")            \
    NUMBER(max_events, 4096, 64, 1000000, "events kept per job")                                                       \
    NUMBER(feed_events, 4096, 64, 1000000, "events of all jobs together from which /v1/events is resumed")                  \
    NUMBER(job_ttl_s, 3600, 1, 31536000, "how long a finished job is kept")                                            \
    NUMBER(disk_reserve_bytes, 256 * YD_MIB, 0, 1024 * YD_GIB, "no new jobs when the disk of state_dir has less left")    \
    NUMBER(checkpoint_interval_ms, 5000, 0, 3600000, "time between two saves of a running job's state; 0: none")       \
    NUMBER(max_attempts, 3, 1, 1000000, "a job that was under way at so many crashes in a row is given up")            \
    SWITCH(content_cache, 1, "answer identical requests from what is stored, compute concurrent ones once")            \
    NUMBER(max_batch_items, 100, 1, 1000, "pictures in one batch")                                                        \
    NUMBER(idempotency_ttl_s, 86400, 0, 31536000, "how long an Idempotency-Key is remembered, if its job is")            \
    NUMBER(tombstone_ttl_s, 3600, 0, 31536000, "how long a deleted or expired job is remembered as gone")              \
    NUMBER(preview_interval_ms, 250, 0, 3600000, "least time between two previews of a job")                           \
    NUMBER(preview_max_side, 512, 16, 8192, "longest side of a preview unless the job says otherwise")                 \
    NUMBER(max_connections, 1024, 1, 1000000, "open connections")                                                      \
    NUMBER(max_connections_per_ip, 64, 1, 1000000, "open connections of one address; loopback is not limited")         \
    SWITCH(limit_loopback, 0, "count the connections of loopback addresses too")                                       \
    NUMBER(connection_memory_bytes, 8 * YD_KIB, 4 * YD_KIB, 64 * YD_KIB, "of one connection: headers, send buffer")    \
    NUMBER(header_timeout_ms, 10000, 100, 3600000, "a request's header must be there after this time")                 \
    NUMBER(body_timeout_ms, 60000, 100, 3600000, "a request's body must be there after this time")                     \
    NUMBER(body_min_rate, 1 * YD_KIB, 0, 1 * YD_GIB, "bytes per second a body must average after two seconds; 0: any") \
    NUMBER(send_timeout_ms, 60000, 100, 3600000,                                                                       \
           "a response must be taken after this time, plus size / send_min_rate")                                      \
    NUMBER(send_min_rate, 16 * YD_KIB, 1 * YD_KIB, 1 * YD_GIB, "bytes per second a client must take a response at")    \
    NUMBER(idle_timeout_ms, 15000, 100, 3600000, "an idle kept-alive connection is closed after this time")            \
    NUMBER(max_wait_ms, 60000, 0, 3600000, "longest wait of a long poll")                                              \
    NUMBER(sse_heartbeat_ms, 15000, 100, 3600000, "time between comment lines on quiet event streams")                 \
    NUMBER(drain_timeout_ms, 30000, 0, 3600000, "running jobs may take this long to finish at shutdown")               \
    NUMBER(handover_timeout_ms, 10000, 0, 3600000, "then running jobs may take this long to the end of their step, where the next process goes on")  \
    NUMBER(drain_delay_ms, 0, 0, 600000, "at shutdown, keep serving this long while not ready, for balancers")    \
    NUMBER(codec_processes, -1, -1, 64,                                                                                \
           "processes that read and write pictures; -1 suits the cores; 0 lets threads of the daemon do it, unprotected")   \
    NUMBER(codec_memory_bytes, 1 * YD_GIB, 512 * YD_MIB, 64 * YD_GIB,                                                  \
           "address space of such a process, beside what the size of the picture at hand accounts for")                \
    NUMBER(codec_cpu_ms, 10000, 100, 3600000, "processor time for one picture, beside what its size accounts for")     \
    NUMBER(codec_wall_ms, 15000, 100, 3600000, "time for one picture, beside what its size accounts for")              \
    NUMBER(codec_recycle, 500, 1, 1000000, "pictures after which such a process is replaced")                          \
    TEXT(fetch_hosts, "", "hosts that pictures are fetched from, as files.example.org, *.example.net:8443; empty: none")     \
    TEXT(result_hosts, "", "hosts that results are put to; empty: none")                                               \
    TEXT(webhook_hosts, "", "hosts that are told of the ends of jobs; empty: none")                                    \
    TEXT(webhook_secret_file, "", "file with the secrets that sign webhooks, a line each: [OWNER ]whsec_BASE64")        \
    TEXT(outgoing_networks, "", "networks to connect to although they are not public, as 10.1.0.0/16, fd00::/8")       \
    TEXT(outgoing_ca_file, "", "certificates to trust instead of the system's, PEM")                                   \
    SWITCH(outgoing_http, 0, "connect without encryption too, where a URL says http")                                  \
    NUMBER(outgoing_redirects, 3, 0, 10, "redirects to follow when a picture is fetched")                              \
    NUMBER(outgoing_connections, 8, 1, 256, "fetches at a time, and as many deliveries")                               \
    NUMBER(outgoing_per_host, 4, 1, 256, "of these with one host")                                                     \
    NUMBER(outgoing_connect_ms, 5000, 10, 600000, "time for a connection, its name and its handshake")                 \
    NUMBER(outgoing_total_ms, 60000, 100, 3600000, "time for a request, redirects included")                           \
    NUMBER(outgoing_min_rate, 1 * YD_KIB, 1, 1 * YD_GIB, "bytes per second a transfer must average")                   \
    NUMBER(outgoing_stall_s, 10, 1, 3600, "over so many seconds")                                                      \
    NUMBER(fetch_attempts, 3, 1, 20, "how often a picture is fetched before the job fails")                              \
    NUMBER(fetch_retry_ms, 1000, 1, 60000, "wait after the first attempt that failed; doubles with each")              \
    NUMBER(delivery_attempts, 8, 1, 100, "how often a result is put or a webhook sent before it is given up")          \
    NUMBER(delivery_retry_ms, 5000, 1, 3600000, "wait after the first attempt that failed; doubles with each")         \
    NUMBER(delivery_retry_max_ms, 900000, 1, 86400000, "longest wait between two attempts")                            \
    NUMBER(deliveries_max, 1000, 1, 100000, "deliveries that may wait; with more, jobs that ask for one are refused")  \
    NUMBER(fake_unit_us, 1000, 0, 60000000, "time one unit of work takes on the fake device")                          \
    NUMBER(fake_batch_us, 0, 0, 60000000, "time a run of the fake device takes beside its units, so that batches pay")       \
    NUMBER(fake_models, 1, 1, 9, "models of the fake device")                                                            \
    NUMBER(fake_load_us, 0, 0, 60000000, "time of each of the four steps in which the fake device loads a model")      \
    NUMBER(fake_nan_at, 0, 0, 1000000000, "the fake device predicts NaN in this unit; 0 never")                        \
    NUMBER(fake_fail_at, 0, 0, 1000000000, "the first fake device fails in this run; 0 never")                               \
    TEXT(fake_fail_file, "", "while this file has a line NUMBER WORD, that fake device fails: runs with nomem, openings too with lost; with other it is of another kind, with renewed the file of that model has changed")

#define YD_TEXT_MAX   256
#define YD_CHOICE_MAX 16

typedef struct yd_config {
#define YD_FIELD_TEXT(name, def, help)             char name[YD_TEXT_MAX];
#define YD_FIELD_CHOICE(name, def, words, help)    char name[YD_CHOICE_MAX];
#define YD_FIELD_NUMBER(name, def, min, max, help) int64_t name;
#define YD_FIELD_SWITCH(name, def, help)           int name;
    YD_CONFIG(YD_FIELD_TEXT, YD_FIELD_CHOICE, YD_FIELD_NUMBER, YD_FIELD_SWITCH)
#undef YD_FIELD_TEXT
#undef YD_FIELD_CHOICE
#undef YD_FIELD_NUMBER
#undef YD_FIELD_SWITCH
    char host[YD_TEXT_MAX]; // listen, taken apart: without brackets
    int port;               // 0..65535
} yd_config;

// What the command line asked for besides settings.
typedef enum {
    YD_RUN, YD_CHECK_CONFIG, YD_PROBE, YD_PROBE_LIVE, YD_SHOW_VERSION, YD_SHOW_FINGERPRINT, YD_SHOW_HELP
} yd_config_action;

// Fill with defaults only.
void yd_config_init(yd_config *cfg);
// Read every source. env: NULL-terminated "NAME=value" list (environ). *action says what to do. YD_E_CONFIG naming the setting.
int yd_config_load(int argc, char **argv, char **env, yd_config *cfg, yd_config_action *action, yd_err *err);
// Set one by name from text, range-checked. YD_E_CONFIG: unknown (lists nothing but the nearest name) or out of range.
int yd_config_set(yd_config *cfg, const char *name, const char *value, yd_err *err);
// Checks between settings: listen can be parsed, beyond loopback only with insecure_no_auth. Part of yd_config_load.
int yd_config_check(yd_config *cfg, yd_err *err);
// Can this setting change without a restart?
int yd_config_live(const char *name);
// Take over from `next`, which has been checked, what can change without a restart. taken, left: names of what has changed and was taken over
// or is only different after a restart, with commas.
void yd_config_take(yd_config *cfg, const yd_config *next, yd_text *taken, yd_text *left);
// The effective configuration, a new reference; a password in `store` is masked. NULL: out of memory.
json_t *yd_config_json(const yd_config *cfg);
// The text of --help; release with yd_free. NULL: out of memory.
char *yd_config_help(void);

#endif
