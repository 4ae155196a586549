// Which settings can be taken over while the service runs, and the taking.
//
// What is not on the list is read once, at the start: addresses, folders, the model and what computes it, sizes of what is allocated then,
// and everything that other threads read without asking. A setting that is new is not on it until somebody has looked.
// Threads: the loop's, which reads what is changed here.
#include "daemon/config_internal.h"

#include <string.h>

static const char *const live[] = {
    "log_level", "keys", "stream_token_ttl_s", "trusted_proxies", "proxy_header", "cors_origins", // who may
    "max_body_bytes", "max_pixels", "max_output_pixels", "max_side", "max_job_units", "queue_max", "max_queue_bytes", "max_batch_items", "load_on_demand", // how much
    "max_running", "max_idle_ms", "reserve_after_ms", "share_slack_ms", "share_catch_up_ms",                                             // in which order
    "max_finished_jobs", "max_finished_bytes", "job_ttl_s", "idempotency_ttl_s", "tombstone_ttl_s", "max_events", "disk_reserve_bytes",  // for how long
    "checkpoint_interval_ms", "content_cache", "preview_interval_ms", "preview_max_side",                                                //
    "max_connections_per_ip", "limit_loopback", "header_timeout_ms", "body_timeout_ms", "body_min_rate", "send_timeout_ms", "send_min_rate", // connections
    "idle_timeout_ms", "max_wait_ms", "sse_heartbeat_ms", "drain_timeout_ms", "drain_delay_ms",                                              //
    "fetch_hosts", "result_hosts", "webhook_hosts", "webhook_secret_file", "outgoing_networks", "outgoing_ca_file", "outgoing_http", // to whom
    "outgoing_redirects", "outgoing_connections", "outgoing_per_host", "outgoing_connect_ms", "outgoing_total_ms", "outgoing_min_rate", //
    "outgoing_stall_s", "fetch_attempts", "fetch_retry_ms", "delivery_attempts", "delivery_retry_ms", "delivery_retry_max_ms", "deliveries_max",
};

int yd_config_live(const char *name)
{
    for (size_t i = 0; i < sizeof live / sizeof live[0]; i++)
        if (strcmp(live[i], name) == 0) return 1;
    return 0;
}

size_t yd_config_live_count(void)
{
    return sizeof live / sizeof live[0];
}

static size_t size_of(const yd_conf_row *r)
{
    return r->kind == YD_CONF_NUMBER ? sizeof(int64_t) : r->kind == YD_CONF_SWITCH ? sizeof(int) : r->kind == YD_CONF_TEXT ? YD_TEXT_MAX : YD_CHOICE_MAX;
}

static int equal(const yd_conf_row *r, const char *a, const char *b)
{
    return r->kind == YD_CONF_TEXT || r->kind == YD_CONF_CHOICE ? strcmp(a, b) == 0 : memcmp(a, b, size_of(r)) == 0;
}

// Another key file is as good as the same one; but whether anybody is asked for a key decides whose the jobs are that are there.
static int can_be_taken(const yd_conf_row *r, const char *old, const char *new)
{
    return yd_config_live(r->name) && (strcmp(r->name, "keys") != 0 || (*old && *new));
}

static void add_name(yd_text *list, const char *name)
{
    yd_text_printf(list, "%s%s", list->len ? "," : "", name);
}

void yd_config_take(yd_config *cfg, const yd_config *next, yd_text *taken, yd_text *left)
{
    size_t n;
    const yd_conf_row *rows = yd_conf_rows(&n);
    for (size_t i = 0; i < n; i++) {
        const yd_conf_row *r = &rows[i];
        char *old = (char *)cfg + r->offset;
        const char *new = (const char *)next + r->offset;
        if (equal(r, old, new)) continue;
        const int take = can_be_taken(r, old, new);
        if (take) memcpy(old, new, size_of(r));
        add_name(take ? taken : left, r->name);
    }
}
