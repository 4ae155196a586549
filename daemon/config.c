// The configuration's values: the table made from the list in config.h, range checks, the listen address.
//
// Owns the meaning of one setting; where values come from (file, environment, flags) is config_sources.c.
#include "daemon/config_internal.h"

#include "daemon/address.h"
#include "daemon/device_choice.h"
#include "core/keys.h"
#include "daemon/outgoing.h"
#include "daemon/redis_url.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROW_TEXT(name, def, help) {#name, YD_CONF_TEXT, offsetof(yd_config, name), help, def, NULL, 0, 0, 0},
#define ROW_CHOICE(name, def, words, help)                                                                             \
    {#name, YD_CONF_CHOICE, offsetof(yd_config, name), help, def, words, 0, 0, 0},
#define ROW_NUMBER(name, def, min, max, help)                                                                          \
    {#name, YD_CONF_NUMBER, offsetof(yd_config, name), help, NULL, NULL, def, min, max},
#define ROW_SWITCH(name, def, help) {#name, YD_CONF_SWITCH, offsetof(yd_config, name), help, NULL, NULL, def, 0, 1},

static const yd_conf_row rows[] = {YD_CONFIG(ROW_TEXT, ROW_CHOICE, ROW_NUMBER, ROW_SWITCH)};

const yd_conf_row *yd_conf_rows(size_t *n)
{
    *n = sizeof rows / sizeof rows[0];
    return rows;
}

static char *text_field(yd_config *cfg, const yd_conf_row *r)
{
    return (char *)cfg + r->offset;
}

void yd_config_init(yd_config *cfg)
{
    memset(cfg, 0, sizeof *cfg);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const yd_conf_row *r = &rows[i];
        if (r->kind == YD_CONF_NUMBER)
            *(int64_t *)(void *)text_field(cfg, r) = r->number;
        else if (r->kind == YD_CONF_SWITCH)
            *(int *)(void *)text_field(cfg, r) = (int)r->number;
        else
            snprintf(text_field(cfg, r), r->kind == YD_CONF_TEXT ? YD_TEXT_MAX : 16, "%s", r->text);
    }
    snprintf(cfg->host, sizeof cfg->host, "127.0.0.1");
    cfg->port = 8080;
}

// An integer with an optional unit: "67108864", "64MiB". 0, or -1 when it is none or does not fit.
static int parse_number(const char *s, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (end == s || errno || isspace((unsigned char)*s)) return -1;
    int64_t unit = strcmp(end, "") == 0      ? 1
                   : strcmp(end, "KiB") == 0 ? YD_KIB
                   : strcmp(end, "MiB") == 0 ? YD_MIB
                   : strcmp(end, "GiB") == 0 ? YD_GIB
                                             : 0;
    int64_t r;
    if (unit == 0 || __builtin_mul_overflow((int64_t)v, unit, &r)) return -1;
    *out = r;
    return 0;
}

static int is_word_of(const char *value, const char *words)
{
    size_t n = strlen(value);
    for (const char *w = words; n;) {
        size_t len = strcspn(w, "|");
        if (len == n && strncmp(w, value, n) == 0) return 1;
        if (!w[len]) return 0;
        w += len + 1;
    }
    return 0;
}

static int set_number(yd_config *cfg, const yd_conf_row *r, const char *value, yd_err *err)
{
    int64_t v;
    if (parse_number(value, &v) || v < r->min || v > r->max) {
        char accepted[96];
        snprintf(accepted, sizeof accepted, "an integer from %lld to %lld", (long long)r->min, (long long)r->max);
        return yd_fail_field(err, YD_E_CONFIG, r->name, accepted, "'%.64s' is not %s", value, accepted);
    }
    *(int64_t *)(void *)text_field(cfg, r) = v;
    return 0;
}

static int set_switch(yd_config *cfg, const yd_conf_row *r, const char *value, yd_err *err)
{
    int on = is_word_of(value, "true|1|yes|on"), off = is_word_of(value, "false|0|no|off");
    if (!on && !off)
        return yd_fail_field(err, YD_E_CONFIG, r->name, "true or false", "'%.64s' is not true or false", value);
    *(int *)(void *)text_field(cfg, r) = on;
    return 0;
}

static int set_choice(yd_config *cfg, const yd_conf_row *r, const char *value, yd_err *err)
{
    if (!is_word_of(value, r->words))
        return yd_fail_field(err, YD_E_CONFIG, r->name, r->words, "'%.64s' is not one of %s", value, r->words);
    snprintf(text_field(cfg, r), 16, "%s", value);
    return 0;
}

static int set_text(yd_config *cfg, const yd_conf_row *r, const char *value, yd_err *err)
{
    if (strlen(value) >= YD_TEXT_MAX)
        return yd_fail_field(err, YD_E_CONFIG, r->name, "at most 255 bytes", "the value is longer than 255 bytes");
    snprintf(text_field(cfg, r), YD_TEXT_MAX, "%s", value);
    return 0;
}

const yd_conf_row *yd_conf_find(const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    return NULL;
}

// The setting whose name shares the longest beginning with `name`: a hint for typing errors. NULL: none is like it.
static const char *nearest(const char *name)
{
    const char *best = NULL;
    size_t best_len = 2; // so few letters are in common by chance
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t n = 0;
        while (name[n] && rows[i].name[n] == name[n]) n++;
        if (n > best_len) {
            best_len = n;
            best = rows[i].name;
        }
    }
    return best;
}

static int unknown(const char *name, yd_err *err)
{
    const char *like = nearest(name);
    if (!like)
        return yd_fail_field(err, YD_E_CONFIG, name, "see --help", "there is no setting '%.64s'; --help lists them",
                             name);
    return yd_fail_field(err, YD_E_CONFIG, name, like, "there is no setting '%.64s'; the nearest is '%s'", name, like);
}

int yd_config_set(yd_config *cfg, const char *name, const char *value, yd_err *err)
{
    const yd_conf_row *r = yd_conf_find(name);
    if (!r) return unknown(name, err);
    switch (r->kind) {
    case YD_CONF_TEXT:
        return set_text(cfg, r, value, err);
    case YD_CONF_CHOICE:
        return set_choice(cfg, r, value, err);
    case YD_CONF_NUMBER:
        return set_number(cfg, r, value, err);
    case YD_CONF_SWITCH:
        return set_switch(cfg, r, value, err);
    }
    return yd_fail(err, YD_E_INTERNAL, "setting '%s' has no kind", name);
}

static int split_listen(yd_config *cfg, yd_err *err)
{
    static const char accepted[] = "ADDRESS:PORT, as 127.0.0.1:8080 or [::1]:8080";
    const char *colon = strrchr(cfg->listen, ':');
    int64_t port;
    if (!colon || parse_number(colon + 1, &port) || port < 0 || port > 65535)
        return yd_fail_field(err, YD_E_CONFIG, "listen", accepted, "'%.128s' is not %s", cfg->listen, accepted);
    const char *host = cfg->listen;
    size_t n = (size_t)(colon - host);
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host++;
        n -= 2;
    } else if (memchr(host, ':', n)) {
        return yd_fail_field(err, YD_E_CONFIG, "listen", accepted, "an IPv6 address is written in brackets: '%.128s'",
                             cfg->listen);
    }
    if (n == 0) return yd_fail_field(err, YD_E_CONFIG, "listen", accepted, "'%.128s' names no address", cfg->listen);
    memcpy(cfg->host, host, n);
    cfg->host[n] = 0;
    cfg->port = (int)port;
    return 0;
}

static int is_loopback(const char *host)
{
    return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 || strncmp(host, "127.", 4) == 0;
}

static int check_origins(const yd_config *cfg, yd_err *err)
{
    for (const char *s = cfg->cors_origins; *(s += strspn(s, ", "));) {
        const size_t n = strcspn(s, ", "), scheme = strncmp(s, "https://", 8) == 0 ? 8 : strncmp(s, "http://", 7) == 0 ? 7 : 0;
        const int any = n == 1 && *s == '*';
        if (!any && (n <= scheme || !scheme || memchr(s + scheme, '/', n - scheme)))
            return yd_fail_field(err, YD_E_CONFIG, "cors_origins", "https://HOST[:PORT], http://HOST[:PORT] or *", "'%.*s' is no origin",
                                 n < 100 ? (int)n : 100, s);
        s += n;
    }
    return 0;
}

static int check_store(const yd_config *cfg, yd_err *err)
{
    yd_redis_url ignored;
    return *cfg->store ? yd_redis_url_parse(cfg->store, &ignored, err) : 0;
}

// A key file that cannot be read is found before anything is started.
static int check_access(const yd_config *cfg, yd_err *err)
{
    yd_keys *keys = NULL;
    int rc = yd_networks_check(cfg->trusted_proxies, "trusted_proxies", err);
    if (!rc) rc = check_origins(cfg, err);
    if (!rc && *cfg->keys) rc = yd_keys_load(cfg->keys, &keys, err);
    yd_keys_free(keys);
    return rc;
}

int yd_config_check(yd_config *cfg, yd_err *err)
{
    yd_device_choice devices;
    int rc = split_listen(cfg, err);
    if (!rc) rc = yd_device_choice_parse(cfg->device, &devices, err);
    if (!rc) rc = yd_outgoing_config(cfg, err);
    if (!rc) rc = check_access(cfg, err);
    if (!rc) rc = check_store(cfg, err);
    if (rc) return rc;
    if (!is_loopback(cfg->host) && !cfg->insecure_no_auth && !*cfg->keys)
        return yd_fail_field(
            err, YD_E_CONFIG, "listen", "a loopback address, --keys FILE, or --insecure-no-auth",
            "'%.128s' is no loopback address and nobody would be asked for a key; give --keys, or "
            "--insecure-no-auth to allow that",
            cfg->host);
    return 0;
}

json_t *yd_config_json(const yd_config *cfg)
{
    json_t *o = json_object();
    char store[YD_TEXT_MAX + 5];
    yd_redis_url_mask(cfg->store, store, sizeof store);
    for (size_t i = 0; o && i < sizeof rows / sizeof rows[0]; i++) {
        const yd_conf_row *r = &rows[i];
        const void *at = (const char *)cfg + r->offset;
        if (at == cfg->store) at = store;
        json_t *v = r->kind == YD_CONF_NUMBER   ? json_integer((json_int_t) * (const int64_t *)at)
                    : r->kind == YD_CONF_SWITCH ? json_boolean(*(const int *)at)
                                                : json_string(at);
        if (json_object_set_new(o, r->name, v)) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}
