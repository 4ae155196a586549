// The metrics themselves: a small registry of named numbers, printed on request.
//
// Label values are escaped and their number is bounded, so that neither a model's name nor a new reason can break the exposition.
// Threads: the loop thread only, no atomics needed.
#include "daemon/metrics.h"

#include "core/mem.h"
#include "daemon/text.h"
#include <stdio.h>
#include <string.h>

#define MAX_BUCKETS 16
#define MAX_REASONS 32
#define MAX_MODELS  64
#define LABEL_MAX   64
#define MAX_TALLY   16

typedef struct histogram {
    uint64_t bucket[MAX_BUCKETS + 1]; // the last one: above every bound
    double sum;
    uint64_t count;
} histogram;

typedef struct bounds {
    int n;
    double le[MAX_BUCKETS];
} bounds;

static const bounds job_bounds = {12, {0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}};
static const bounds step_bounds = {12, {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10}};
static const bounds share_bounds = {10, {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1}};

static const char *const stage_names[] = {"prepare", "compute", "encode", "total"};
static const char *const outcome_names[] = {"succeeded", "failed", "cancelled"};

// Counts by a label with few values.
typedef struct tally {
    const char *name[MAX_TALLY];
    uint64_t count[MAX_TALLY];
    int n;
} tally;

struct yd_metrics {
    struct {
        char name[LABEL_MAX];
        uint64_t jobs[YD_OUTCOME_COUNT];
    } model[MAX_MODELS];
    int n_models;
    struct {
        char name[LABEL_MAX];
        uint64_t count;
    } reason[MAX_REASONS];
    int n_reasons;
    tally codec_restarts, codec_calls;
    histogram wait, duration[YD_STAGE_COUNT], step, share, occupancy;
    uint64_t windows_run, windows_skipped, sse_dropped;
    int64_t sse_clients;
    uint64_t outgoing[3][2]; // by kind: failed, succeeded
};

yd_metrics *yd_metrics_new(void)
{
    return yd_calloc(1, sizeof(yd_metrics));
}

void yd_metrics_free(yd_metrics *m)
{
    yd_free(m);
}

static void observe(histogram *h, const bounds *b, double v)
{
    int i = 0;
    while (i < b->n && v > b->le[i]) i++;
    h->bucket[i]++;
    h->sum += v;
    h->count++;
}

void yd_metrics_job(yd_metrics *m, const char *model, yd_outcome o)
{
    int i = 0;
    while (i < m->n_models && strcmp(m->model[i].name, model) != 0) i++;
    if (i == m->n_models) {
        if (i == MAX_MODELS) return;
        snprintf(m->model[i].name, LABEL_MAX, "%s", model);
        m->n_models++;
    }
    m->model[i].jobs[o]++;
}

void yd_metrics_wait(yd_metrics *m, double seconds)
{
    observe(&m->wait, &job_bounds, seconds);
}

void yd_metrics_duration(yd_metrics *m, yd_stage stage, double seconds)
{
    observe(&m->duration[stage], &job_bounds, seconds);
}

void yd_metrics_step(yd_metrics *m, double seconds, int windows_run, int windows_skipped)
{
    observe(&m->step, &step_bounds, seconds);
    m->windows_run += (uint64_t)windows_run;
    m->windows_skipped += (uint64_t)windows_skipped;
}

void yd_metrics_batch(yd_metrics *m, int units, int max_batch)
{
    observe(&m->occupancy, &share_bounds, max_batch > 0 ? (double)units / max_batch : 0);
}

void yd_metrics_share(yd_metrics *m, double share)
{
    observe(&m->share, &share_bounds, share);
}

void yd_metrics_sse_clients(yd_metrics *m, int delta)
{
    m->sse_clients += delta;
}

void yd_metrics_sse_dropped(yd_metrics *m, uint64_t previews)
{
    m->sse_dropped += previews;
}

void yd_metrics_rejected(yd_metrics *m, const char *reason)
{
    int i = 0;
    while (i < m->n_reasons && strcmp(m->reason[i].name, reason) != 0) i++;
    if (i == m->n_reasons) {
        if (i == MAX_REASONS) return;
        snprintf(m->reason[i].name, LABEL_MAX, "%s", reason);
        m->n_reasons++;
    }
    m->reason[i].count++;
}

static void add_to(tally *a, const char *name)
{
    int i = 0;
    while (i < a->n && strcmp(a->name[i], name) != 0) i++;
    if (i == MAX_TALLY) return;
    if (i == a->n) a->name[a->n++] = name;
    a->count[i]++;
}

void yd_metrics_codec_restart(yd_metrics *m, const char *reason)
{
    add_to(&m->codec_restarts, reason);
}

void yd_metrics_codec_call(yd_metrics *m, const char *op)
{
    add_to(&m->codec_calls, op);
}

void yd_metrics_outgoing(yd_metrics *m, int kind, int succeeded)
{
    m->outgoing[kind][succeeded != 0]++;
}

static void head(yd_text *t, const char *name, const char *type, const char *help)
{
    yd_text_printf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void label(yd_text *t, const char *name, const char *value)
{
    yd_text_printf(t, "%s=\"", name);
    for (; *value; value++) {
        if (*value == '\n')
            yd_text_add(t, "\\n", 2);
        else if (*value == '"' || *value == '\\')
            yd_text_printf(t, "\\%c", *value);
        else
            yd_text_add(t, value, 1);
    }
    yd_text_add(t, "\"", 1);
}

// extra: "" or further labels with a comma at the end.
static void print_histogram(yd_text *t, const char *name, const char *extra, const histogram *h, const bounds *b)
{
    uint64_t sum = 0;
    for (int i = 0; i < b->n; i++) {
        sum += h->bucket[i];
        yd_text_printf(t, "%s_bucket{%sle=\"%g\"} %llu\n", name, extra, b->le[i], (unsigned long long)sum);
    }
    yd_text_printf(t, "%s_bucket{%sle=\"+Inf\"} %llu\n", name, extra, (unsigned long long)h->count);
    char own[LABEL_MAX + 8] = "";
    size_t n = strlen(extra);
    if (n > 1) snprintf(own, sizeof own, "{%.*s}", (int)n - 1, extra);
    yd_text_printf(t, "%s_sum%s %.9g\n%s_count%s %llu\n", name, own, h->sum, name, own, (unsigned long long)h->count);
}

static void print_jobs(yd_text *t, const yd_metrics *m)
{
    head(t, "yodad_jobs_total", "counter", "Jobs that came to an end.");
    for (int i = 0; i < m->n_models; i++)
        for (int o = 0; o < YD_OUTCOME_COUNT; o++) {
            yd_text_printf(t, "yodad_jobs_total{");
            label(t, "model", m->model[i].name);
            yd_text_printf(t, ",outcome=\"%s\"} %llu\n", outcome_names[o], (unsigned long long)m->model[i].jobs[o]);
        }
    head(t, "yodad_rejected_total", "counter", "Requests refused, by reason.");
    for (int i = 0; i < m->n_reasons; i++) {
        yd_text_printf(t, "yodad_rejected_total{");
        label(t, "reason", m->reason[i].name);
        yd_text_printf(t, "} %llu\n", (unsigned long long)m->reason[i].count);
    }
}

static void print_histograms(yd_text *t, const yd_metrics *m)
{
    head(t, "yodad_job_wait_seconds", "histogram", "Time from submission to start.");
    print_histogram(t, "yodad_job_wait_seconds", "", &m->wait, &job_bounds);
    head(t, "yodad_job_duration_seconds", "histogram", "Time in each stage of a job.");
    for (int i = 0; i < YD_STAGE_COUNT; i++) {
        char extra[LABEL_MAX];
        snprintf(extra, sizeof extra, "stage=\"%s\",", stage_names[i]);
        print_histogram(t, "yodad_job_duration_seconds", extra, &m->duration[i], &job_bounds);
    }
    head(t, "yodad_step_duration_seconds", "histogram", "Device time of one denoising step of one job.");
    print_histogram(t, "yodad_step_duration_seconds", "", &m->step, &step_bounds);
    head(t, "yodad_batch_occupancy_ratio", "histogram", "Units of work in a run of the device, of the largest batch.");
    print_histogram(t, "yodad_batch_occupancy_ratio", "", &m->occupancy, &share_bounds);
    head(t, "yodad_diffused_pixel_share", "histogram", "Diffused pixel-steps of a job, of all.");
    print_histogram(t, "yodad_diffused_pixel_share", "", &m->share, &share_bounds);
}

static void print_tally(yd_text *t, const char *name, const char *key, const tally *a)
{
    for (int i = 0; i < a->n; i++) {
        yd_text_printf(t, "%s{", name);
        label(t, key, a->name[i]);
        yd_text_printf(t, "} %llu\n", (unsigned long long)a->count[i]);
    }
}

static void print_codecs(yd_text *t, const yd_metrics *m, const yd_metrics_now *now)
{
    head(t, "yodad_codec_restarts_total", "counter", "Codec processes that ended and were replaced, by reason.");
    print_tally(t, "yodad_codec_restarts_total", "reason", &m->codec_restarts);
    head(t, "yodad_codec_calls_total", "counter", "Pictures given to codec processes, by what was to be done.");
    print_tally(t, "yodad_codec_calls_total", "op", &m->codec_calls);
    head(t, "yodad_codec_processes", "gauge", "Codec processes by state.");
    const int other = now->codec_processes - now->codec_idle - now->codec_busy;
    yd_text_printf(t, "yodad_codec_processes{state=\"idle\"} %d\nyodad_codec_processes{state=\"busy\"} %d\n", now->codec_idle,
                   now->codec_busy);
    yd_text_printf(t, "yodad_codec_processes{state=\"starting\"} %d\n", other);
    head(t, "yodad_codec_queue_depth", "gauge", "Pictures that wait for a codec process.");
    yd_text_printf(t, "yodad_codec_queue_depth %d\n", now->codec_waiting);
}

static void print_outgoing(yd_text *t, const yd_metrics *m, const yd_metrics_now *now)
{
    static const char *const kind[] = {"fetch", "result", "webhook"}, *const outcome[] = {"failed", "succeeded"};
    head(t, "yodad_outgoing_total", "counter", "Requests to other servers, every attempt of each.");
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 2; k++)
            yd_text_printf(t, "yodad_outgoing_total{kind=\"%s\",outcome=\"%s\"} %llu\n", kind[i], outcome[k], (unsigned long long)m->outgoing[i][k]);
    head(t, "yodad_deliveries_waiting", "gauge", "Jobs that have ended and whose result or webhook is not delivered.");
    yd_text_printf(t, "yodad_deliveries_waiting %zu\n", now->deliveries);
}

// NAME{extra model="..."} without the value.
static void print_of_model(yd_text *t, const char *name, const char *extra, const yd_model_now *m)
{
    yd_text_printf(t, "%s{%s", name, extra);
    label(t, "model", m->name);
    yd_text_add(t, "} ", 2);
}

static void print_models(yd_text *t, const yd_metrics_now *now)
{
    head(t, "yodad_models", "gauge", "Model files that were found, by what has become of them.");
    static const char *const states[] = {"available", "loading", "resident", "draining", "failed"};
    for (size_t k = 0; k < sizeof states / sizeof states[0]; k++) {
        int n = 0;
        for (int i = 0; i < now->n_models; i++) n += strcmp(now->models[i].state, states[k]) == 0;
        yd_text_printf(t, "yodad_models{state=\"%s\"} %d\n", states[k], n);
    }
    head(t, "yodad_model_loads_total", "counter", "Loads of a model that came to an end.");
    for (int i = 0; i < now->n_models; i++) // zeros too, so that the first failure is an increase
        for (int k = 0; k < 2; k++) {
            print_of_model(t, "yodad_model_loads_total", k ? "outcome=\"succeeded\"," : "outcome=\"failed\",", &now->models[i]);
            yd_text_printf(t, "%d\n", now->models[i].loads[k]);
        }
    head(t, "yodad_model_jobs", "gauge", "Jobs that wait or are under way, by model.");
    for (int i = 0; i < now->n_models; i++) {
        if (now->models[i].weights_bytes + now->models[i].arena_bytes == 0) continue;
        print_of_model(t, "yodad_model_jobs", "", &now->models[i]);
        yd_text_printf(t, "%zu\n", now->models[i].jobs);
    }
    head(t, "yodad_model_unit_seconds", "gauge", "Device time of a window at a step, as measured lately.");
    for (int i = 0; i < now->n_models; i++) {
        if (now->models[i].unit_s <= 0) continue;
        print_of_model(t, "yodad_model_unit_seconds", "", &now->models[i]);
        yd_text_printf(t, "%.6f\n", now->models[i].unit_s);
    }
    head(t, "yodad_model_memory_budget_bytes", "gauge", "Memory that resident models may take.");
    yd_text_printf(t, "yodad_model_memory_budget_bytes %zu\n", now->models_budget_bytes);
}

static void print_of_lane(yd_text *t, const char *name, const char *extra, const yd_lane_now *l)
{
    yd_text_printf(t, "%s{%s", name, extra);
    label(t, "device", l->name);
    yd_text_add(t, "} ", 2);
}

static void print_lane_memory(yd_text *t, const yd_lane_now *l)
{
    static const char name[] = "yodad_device_own_memory_bytes";
    const struct {
        const char *kind;
        size_t bytes;
    } all[] = {{"kind=\"total\",", l->total_bytes},
               {"kind=\"free\",", l->free_bytes},
               {"kind=\"weights\",", l->weights_bytes},
               {"kind=\"arena\",", l->arena_bytes},
               {"kind=\"scratch\",", l->scratch_bytes}};
    for (size_t i = 0; l->has_memory && i < sizeof all / sizeof all[0]; i++) {
        print_of_lane(t, name, all[i].kind, l);
        yd_text_printf(t, "%zu\n", all[i].bytes);
    }
}

static void print_lanes(yd_text *t, const yd_lane_now *lanes, int n)
{
    head(t, "yodad_device_up", "gauge", "1: the device is in service.");
    for (int i = 0; i < n; i++) {
        print_of_lane(t, "yodad_device_up", "", &lanes[i]);
        yd_text_printf(t, "%d\n", lanes[i].up);
    }
    head(t, "yodad_device_failures_total", "counter",
         "How often a device went out of service, or could not be opened.");
    for (int i = 0; i < n; i++) {
        print_of_lane(t, "yodad_device_failures_total", "", &lanes[i]);
        yd_text_printf(t, "%llu\n", (unsigned long long)lanes[i].failed);
    }
    head(t, "yodad_device_units_total", "counter", "Window-steps that a device computed.");
    for (int i = 0; i < n; i++) {
        print_of_lane(t, "yodad_device_units_total", "", &lanes[i]);
        yd_text_printf(t, "%llu\n", (unsigned long long)lanes[i].units);
    }
    head(t, "yodad_device_busy_seconds_total", "counter", "Time that they took.");
    for (int i = 0; i < n; i++) {
        print_of_lane(t, "yodad_device_busy_seconds_total", "", &lanes[i]);
        yd_text_printf(t, "%.6f\n", lanes[i].busy_s);
    }
    head(t, "yodad_device_own_memory_bytes", "gauge",
         "Memory of a device that has its own: in all, not taken by anybody, and what this server has of it.");
    for (int i = 0; i < n; i++) print_lane_memory(t, &lanes[i]);
}

static void print_maps(yd_text *t, const yd_mapper_now *m)
{
    head(t, "yodad_attention_requests_total", "counter", "Maps of attention networks that jobs asked for: computed, from the cache, or made for another one meanwhile.");
    yd_text_printf(t, "yodad_attention_requests_total{source=\"network\"} %llu\nyodad_attention_requests_total{source=\"cache\"} %llu\n",
                   (unsigned long long)m->misses, (unsigned long long)m->hits);
    yd_text_printf(t, "yodad_attention_requests_total{source=\"shared\"} %llu\n", (unsigned long long)m->shared);
    head(t, "yodad_attention_runs_total", "counter", "Runs of attention networks, each of one or more pictures.");
    yd_text_printf(t, "yodad_attention_runs_total %llu\n", (unsigned long long)m->runs);
    head(t, "yodad_attention_pictures_total", "counter", "Pictures in these runs.");
    yd_text_printf(t, "yodad_attention_pictures_total %llu\n", (unsigned long long)m->pictures);
    head(t, "yodad_attention_run_seconds_total", "counter", "Time that they took.");
    yd_text_printf(t, "yodad_attention_run_seconds_total %.6f\n", m->seconds);
    head(t, "yodad_attention_queue_depth", "gauge", "Maps that jobs wait for.");
    yd_text_printf(t, "yodad_attention_queue_depth %zu\n", m->waiting);
    head(t, "yodad_attention_networks", "gauge", "Resident attention networks.");
    yd_text_printf(t, "yodad_attention_networks %zu\n", m->nets);
    head(t, "yodad_attention_cached_maps", "gauge", "Maps that are kept for whoever asks again.");
    yd_text_printf(t, "yodad_attention_cached_maps %zu\n", m->cached);
}

static void print_store(yd_text *t, const yd_metrics_now *now)
{
    head(t, "yodad_store_info", "gauge", "Always 1. Shared: every process on this store counts the same waiting jobs.");
    yd_text_printf(t, "yodad_store_info{shared=\"%s\",", now->store_shared ? "true" : "false");
    label(t, "durability", now->durability);
    yd_text_printf(t, "} 1\n");
    head(t, "yodad_store_up", "gauge", "1: changes to jobs are stored.");
    yd_text_printf(t, "yodad_store_up %d\n", now->store_up);
    head(t, "yodad_store_fenced", "gauge", "1: this process lost its lease on a shared store, and stores nothing until it has come back as another one.");
    yd_text_printf(t, "yodad_store_fenced %d\n", now->store_fenced);
    if (now->store_free == UINT64_MAX) return;
    head(t, "yodad_store_free_bytes", "gauge", "What the disk that jobs are stored on has left.");
    yd_text_printf(t, "yodad_store_free_bytes %llu\n", (unsigned long long)now->store_free);
}

static void print_now(yd_text *t, const yd_metrics_now *now)
{
    head(t, "yodad_ready", "gauge", "1: it takes work, as /readyz says.");
    yd_text_printf(t, "yodad_ready %d\n", now->ready);
    head(t, "yodad_queue_depth", "gauge", "Jobs that wait.");
    yd_text_printf(t, "yodad_queue_depth %zu\n", now->queue_depth);
    head(t, "yodad_queue_oldest_seconds", "gauge", "How long the oldest waiting job has waited.");
    yd_text_printf(t, "yodad_queue_oldest_seconds %.3f\n", now->queue_oldest_s);
    head(t, "yodad_jobs_running", "gauge", "Jobs that are being computed.");
    yd_text_printf(t, "yodad_jobs_running %zu\n", now->running);
    head(t, "yodad_device_memory_bytes", "gauge", "Memory by use.");
    for (int i = 0; i < now->n_models; i++) {
        const yd_model_now *m = &now->models[i];
        if (m->weights_bytes + m->arena_bytes == 0) continue;
        print_of_model(t, "yodad_device_memory_bytes", "kind=\"weights\",", m);
        yd_text_printf(t, "%zu\n", m->weights_bytes);
        print_of_model(t, "yodad_device_memory_bytes", "kind=\"arena\",", m);
        yd_text_printf(t, "%zu\n", m->arena_bytes);
    }
    yd_text_printf(t, "yodad_device_memory_bytes{kind=\"attention\"} %zu\nyodad_device_memory_bytes{kind=\"attention_cache\"} %zu\n", now->maps.nets_bytes,
                   now->maps.cached_bytes);
    yd_text_printf(t, "yodad_device_memory_bytes{kind=\"jobs\"} %zu\nyodad_device_memory_bytes{kind=\"results\"} %zu\n", now->jobs_bytes, now->results_bytes);
    head(t, "yodad_build_info", "gauge", "Always 1.");
    yd_text_printf(t, "yodad_build_info{");
    label(t, "version", now->version);
    yd_text_add(t, ",", 1);
    label(t, "model", now->model);
    yd_text_add(t, ",", 1);
    label(t, "device", now->device);
    yd_text_printf(t, "} 1\n");
}

char *yd_metrics_text(const yd_metrics *m, const yd_metrics_now *now, size_t *len)
{
    yd_text t = {0};
    print_jobs(&t, m);
    print_histograms(&t, m);
    head(&t, "yodad_windows_total", "counter",
         "Window-steps computed, and skipped because no pixel of theirs was active.");
    yd_text_printf(&t, "yodad_windows_total{kind=\"run\"} %llu\nyodad_windows_total{kind=\"skipped\"} %llu\n",
                   (unsigned long long)m->windows_run, (unsigned long long)m->windows_skipped);
    head(&t, "yodad_sse_clients", "gauge", "Open event streams.");
    yd_text_printf(&t, "yodad_sse_clients %lld\n", (long long)m->sse_clients);
    head(&t, "yodad_sse_dropped_previews_total", "counter", "Previews that slow readers did not get.");
    yd_text_printf(&t, "yodad_sse_dropped_previews_total %llu\n", (unsigned long long)m->sse_dropped);
    print_codecs(&t, m, now);
    print_outgoing(&t, m, now);
    print_models(&t, now);
    print_lanes(&t, now->lanes, now->n_lanes);
    print_maps(&t, &now->maps);
    print_now(&t, now);
    print_store(&t, now);
    return yd_text_take(&t, len);
}
