// The configuration: sources and their order, ranges, unknown names, the listen address, printing.
#include "daemon/config_internal.h"

#include "core/mem.h"
#include "daemon/device_choice.h"
#include "tests/unit/t.h"
#include <unistd.h>

static yd_config cfg;
static yd_config_action action;
static yd_err err;

static int load(const char *const *flags, const char *const *env)
{
    char *argv[16] = {(char *)"yodad"};
    int argc = 1;
    for (; flags && *flags; flags++) argv[argc++] = (char *)*flags;
    yd_err_clear(&err);
    return yd_config_load(argc, argv, (char **)env, &cfg, &action, &err);
}
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static char *write_file(const char *text)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/yodad-config-XXXXXX");
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    return path;
}

static void defaults(void)
{
    CHECK(load(NULL, NULL) == 0);
    CHECK(action == YD_RUN);
    CHECK(strcmp(cfg.host, "127.0.0.1") == 0 && cfg.port == 8080);
    CHECK(cfg.max_body_bytes == 32 << 20);
    CHECK(cfg.max_connections_per_ip == 64 && cfg.header_timeout_ms == 10000);
    CHECK(strcmp(cfg.device, "auto") == 0 && !cfg.insecure_no_auth);
}

static void order_of_sources(void)
{
    const char *path = write_file("{\"queue_max\": 5, \"max_running\": 3, \"max_batch\": 2, \"device\": \"cpu\"}");
    CHECK(load(ARGS("--config", path), NULL) == 0 && cfg.queue_max == 5 && cfg.max_running == 3 && cfg.max_batch == 2);
    CHECK(load(ARGS("--max-batch=4", "--config", path), ARGS("YODAD_MAX_RUNNING=7", "YODAD_MAX_BATCH=6", "OTHER=1")) ==
          0);
    CHECK(cfg.queue_max == 5);   // file
    CHECK(cfg.max_running == 7); // environment over file
    CHECK(cfg.max_batch == 4);   // flag over environment, wherever --config stands
    CHECK(strcmp(cfg.device, "cpu") == 0);
    CHECK(load(NULL, ((const char *[]){"YODAD_CONFIG=/tmp/none-such-file", NULL})) == YD_E_CONFIG);
    unlink(path);
}

static void devices(void)
{
    yd_device_choice c;
    char name[YD_DEVICE_NAME_MAX];
    CHECK(yd_device_choice_parse("cuda:3,cuda:0", &c, &err) == 0 && c.kind == YD_CHOOSE_CUDA && c.n == 2 && c.number[0] == 3 && c.number[1] == 0);
    yd_device_choice_name(&c, 0, name);
    CHECK(strcmp(name, "cuda:3") == 0);
    CHECK(yd_device_choice_parse("cuda", &c, &err) == 0 && c.kind == YD_CHOOSE_CUDA && c.n == 0);
    CHECK(yd_device_choice_parse("auto", &c, &err) == 0 && c.kind == YD_CHOOSE_AUTO);
    CHECK(yd_device_choice_parse("fake", &c, &err) == 0 && c.kind == YD_CHOOSE_FAKE && c.n == 1);
    CHECK(yd_device_choice_parse("fake:16", &c, &err) == 0 && c.n == 16 && c.number[15] == 15);
    CHECK(yd_device_choice_parse("cpu", &c, &err) == 0 && c.kind == YD_CHOOSE_CPU && c.n == 1);
    yd_device_choice_name(&c, 0, name);
    CHECK(strcmp(name, "cpu") == 0);
}

static void units_and_switches(void)
{
    CHECK(load(ARGS("--max-body-bytes", "1MiB", "--insecure-no-auth", "--listen", "0.0.0.0:0"), NULL) == 0);
    CHECK(cfg.max_body_bytes == 1 << 20 && cfg.insecure_no_auth == 1);
    CHECK(strcmp(cfg.host, "0.0.0.0") == 0 && cfg.port == 0);
    CHECK(load(ARGS("--insecure-no-auth=false", "--listen=[::1]:9000"), NULL) == 0);
    CHECK(cfg.insecure_no_auth == 0 && strcmp(cfg.host, "::1") == 0 && cfg.port == 9000);
}

static void refuses(const char *const *flags, const char *field, const char *words)
{
    CHECK_MSG(load(flags, NULL) == YD_E_CONFIG, "%s was taken", flags[0]);
    CHECK_MSG(strcmp(err.field, field) == 0, "field is '%s', not '%s'", err.field, field);
    CHECK_MSG(strstr(err.detail, words) != NULL, "'%s' lacks '%s'", err.detail, words);
}

static void refusals(void)
{
    refuses(ARGS("--queue-max", "0"), "queue_max", "1 to 100000");
    refuses(ARGS("--queue-max", "12x"), "queue_max", "12x");
    refuses(ARGS("--store", "rediss://host"), "store", "TLS");
    refuses(ARGS("--store", "http://host"), "store", "scheme");
    refuses(ARGS("--queue-max", ""), "queue_max", "integer");
    refuses(ARGS("--max-memory-bytes", "9223372036854775807GiB"), "max_memory_bytes", "integer");
    refuses(ARGS("--queue-maks", "3"), "queue_maks", "queue_max");
    refuses(ARGS("--device", "auto|cpu"), "device", "accepts auto, cpu");
    refuses(ARGS("--device", "cuda:"), "device", "no list of devices");
    refuses(ARGS("--device", "cuda:1,cuda"), "device", "no list of devices");
    refuses(ARGS("--device", "cuda:1,cuda:0,cuda:1"), "device", "twice");
    refuses(ARGS("--device", "fake:0"), "device", "one to 16");
    refuses(ARGS("--device", "fake:17"), "device", "one to 16");
    refuses(ARGS("--log-level", ""), "log_level", "one of");
    refuses(ARGS("--insecure-no-auth=perhaps"), "insecure_no_auth", "true or false");
    refuses(ARGS("--threads"), "threads", "needs a value");
    refuses(ARGS("serve"), "command line", "no flag");
    refuses(ARGS("--listen", "8080"), "listen", "ADDRESS:PORT");
    refuses(ARGS("--listen", "127.0.0.1:70000"), "listen", "ADDRESS:PORT");
    refuses(ARGS("--listen", "::1:80"), "listen", "brackets");
    refuses(ARGS("--listen", ":80"), "listen", "no address");
    refuses(ARGS("--listen", "0.0.0.0:80"), "listen", "--insecure-no-auth");
}

static void bad_files(void)
{
    const struct {
        const char *text, *words;
    } bad[] = {{"{\"queue_max\": 5, \"queue_max\": 6}", "duplicate"},
               {"{\"no_such\": 5}", "no_such"},
               {"{\"queue_max\": 1.5}", "wrong type"},
               {"{\"queue_max\": [1]}", "wrong type"},
               {"[1]", "no JSON object"},
               {"{\"queue_max\": ", ""}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *path = write_file(bad[i].text);
        CHECK_MSG(load(ARGS("--config", path), NULL) == YD_E_CONFIG, "%s was taken", bad[i].text);
        CHECK_MSG(strstr(err.detail, path) && strstr(err.detail, bad[i].words), "'%s' lacks '%s'", err.detail,
                  bad[i].words);
        unlink(path);
    }
}

static void actions(void)
{
    CHECK(load(ARGS("--help"), NULL) == 0 && action == YD_SHOW_HELP);
    CHECK(load(ARGS("--version"), NULL) == 0 && action == YD_SHOW_VERSION);
    CHECK(load(ARGS("--version", "-v"), NULL) == 0 && action == YD_SHOW_FINGERPRINT);
    CHECK(load(ARGS("--verbose", "--version"), NULL) == 0 && action == YD_SHOW_FINGERPRINT);
    CHECK(load(ARGS("--check-config", "--queue-max", "9"), NULL) == 0 && action == YD_CHECK_CONFIG);
    char *help = yd_config_help();
    CHECK(help && strstr(help, "--max-connections-per-ip") && strstr(help, "default 64"));
    yd_free(help);
}

static void a_password_is_not_shown(void)
{
    static const char *const shown[][2] = {{"redis://:secret@host:7/1", "redis://:***@host:7/1"}, {"redis://:a:@b@h", "redis://:***@h"}, {"unix:///a/b?db=1", "unix:///a/b?db=1"}};
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        CHECK(load(ARGS("--store", shown[i][0]), NULL) == 0 && strcmp(cfg.store, shown[i][0]) == 0);
        json_t *o = yd_config_json(&cfg);
        CHECK_MSG(strcmp(json_string_value(json_object_get(o, "store")), shown[i][1]) == 0, "%s", json_string_value(json_object_get(o, "store")));
        json_decref(o);
    }
    CHECK(load(ARGS("--store", "redis://name:secret@host"), NULL) == YD_E_CONFIG && !strstr(err.detail, "secret") && !strstr(err.accepted, "secret"));
}

static void printed_is_read_back(void)
{
    CHECK(load(ARGS("--queue-max=9", "--dtype=f32", "--insecure-no-auth"), NULL) == 0);
    json_t *o = yd_config_json(&cfg);
    char *text = json_dumps(o, 0);
    yd_config before = cfg;
    const char *path = write_file(text);
    CHECK(load(ARGS("--config", path), NULL) == 0);
    CHECK(memcmp(&before, &cfg, sizeof cfg) == 0);
    unlink(path);
    free(text);
    json_decref(o);
}

static void what_is_taken_over(void)
{
    yd_text taken = {0}, left = {0};
    size_t n, found = 0;
    yd_config_init(&cfg);
    yd_config next = cfg;
    yd_config_take(&cfg, &next, &taken, &left);
    CHECK(taken.len == 0 && left.len == 0);
    CHECK(!yd_config_set(&next, "max_pixels", "1000", &err) && !yd_config_set(&next, "fetch_hosts", "a.example", &err) &&
          !yd_config_set(&next, "log_level", "debug", &err) && !yd_config_set(&next, "content_cache", "false", &err));
    CHECK(!yd_config_set(&next, "threads", "3", &err) && !yd_config_set(&next, "listen", "127.0.0.1:1", &err) && !yd_config_set(&next, "keys", "file", &err));
    yd_config_take(&cfg, &next, &taken, &left);
    CHECK(cfg.max_pixels == 1000 && !strcmp(cfg.fetch_hosts, "a.example") && !strcmp(cfg.log_level, "debug") && !cfg.content_cache);
    CHECK(cfg.threads == 0 && strcmp(cfg.listen, next.listen) && !*cfg.keys);
    char *a = yd_text_take(&taken, NULL), *b = yd_text_take(&left, NULL);
    CHECK(a && !strcmp(a, "log_level,max_pixels,content_cache,fetch_hosts"));
    CHECK(b && !strcmp(b, "listen,threads,keys"));
    yd_free(a);
    yd_free(b);
    const yd_conf_row *rows = yd_conf_rows(&n);
    for (size_t i = 0; i < n; i++) found += (size_t)yd_config_live(rows[i].name);
    CHECK(found == yd_config_live_count()); // every name on the list is a setting's
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"config: defaults", defaults},
        {"config: file < environment < flags", order_of_sources},
        {"config: devices", devices},
        {"config: units, switches, addresses", units_and_switches},
        {"config: what is refused, and how it is said", refusals},
        {"config: broken files", bad_files},
        {"config: help, version, check", actions},
        {"config: what is printed can be read back", printed_is_read_back},
        {"config: a password is not shown", a_password_is_not_shown},
        {"config: what is taken over without a restart", what_is_taken_over},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
