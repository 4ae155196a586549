// Where the configuration comes from: defaults < file < environment < flags, and the texts of --help and --check-config.
#include "daemon/config_internal.h"

#include "core/mem.h"
#include "daemon/text.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define FILE_MAX (1 << 20)

// Put where a value came from in front of what is wrong with it.
static int from(yd_err *err, int rc, const char *source)
{
    if (rc == 0 || !err) return rc;
    char detail[sizeof err->detail];
    snprintf(detail, sizeof detail, "%.100s: %.250s", source, err->detail);
    memcpy(err->detail, detail, sizeof detail);
    return rc;
}

static int set_from_json(yd_config *cfg, const char *key, const json_t *v, yd_err *err)
{
    char number[32];
    const char *text = json_string_value(v);
    if (json_is_integer(v)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
        text = number;
    } else if (json_is_boolean(v))
        text = json_is_true(v) ? "true" : "false";
    if (!text)
        return yd_fail_field(err, YD_E_CONFIG, key, "a string, an integer or a boolean",
                             "the value has the wrong type");
    return yd_config_set(cfg, key, text, err);
}

int yd_config_read(yd_config *cfg, const char *text, size_t len, const char *source, yd_err *err)
{
    json_error_t je;
    const char *key;
    json_t *v, *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
    if (!o) return yd_fail_field(err, YD_E_CONFIG, "config", "a JSON object", "%s:%d:%d: %s", source, je.line, je.column, je.text);
    int rc = json_is_object(o) ? 0 : yd_fail_field(err, YD_E_CONFIG, "config", "a JSON object", "%s holds no JSON object", source);
    json_object_foreach(o, key, v)
    {
        if (rc) break;
        rc = from(err, set_from_json(cfg, key, v, err), source);
    }
    json_decref(o);
    return rc;
}

static int load_file(yd_config *cfg, const char *path, yd_err *err)
{
    FILE *f = fopen(path, "rbe");
    if (!f) return yd_fail_field(err, YD_E_CONFIG, "config", "", "%s: %m", path);
    char *text = yd_malloc(FILE_MAX);
    size_t n = text ? fread(text, 1, FILE_MAX, f) : 0;
    int bad = !text || ferror(f) || n == FILE_MAX;
    fclose(f);
    const int rc = bad ? yd_fail_field(err, YD_E_CONFIG, "config", "", "%s cannot be read or is larger than 1 MiB", path)
                       : yd_config_read(cfg, text, n, path, err);
    yd_free(text);
    return rc;
}

// YODAD_MAX_RUNNING=2 -> max_running. Names that do not begin with YODAD_ are not ours.
static int load_env(yd_config *cfg, char **env, yd_err *err)
{
    for (; env && *env; env++) {
        char name[64];
        size_t n = 0;
        if (strncmp(*env, "YODAD_", 6) != 0) continue;
        const char *s = *env + 6, *eq = strchr(s, '=');
        if (!eq || (size_t)(eq - s) >= sizeof name) continue;
        for (; s < eq; s++) name[n++] = (char)tolower((unsigned char)*s);
        name[n] = 0;
        if (strcmp(name, "config") == 0) continue;
        int rc = from(err, yd_config_set(cfg, name, eq + 1, err), "environment");
        if (rc) return rc;
    }
    return 0;
}

typedef struct flag {
    char name[64];     // with underscores
    const char *value; // NULL: none given
    int used;          // arguments it took, 1 or 2
} flag;

static int action_of(const char *name, yd_config_action *action)
{
    if (strcmp(name, "help") == 0)
        *action = YD_SHOW_HELP;
    else if (strcmp(name, "version") == 0)
        *action = *action == YD_SHOW_FINGERPRINT ? YD_SHOW_FINGERPRINT : YD_SHOW_VERSION;
    else if (strcmp(name, "verbose") == 0)
        *action = YD_SHOW_FINGERPRINT;
    else if (strcmp(name, "check_config") == 0)
        *action = YD_CHECK_CONFIG;
    else if (strcmp(name, "probe") == 0)
        *action = YD_PROBE;
    else if (strcmp(name, "probe_live") == 0)
        *action = YD_PROBE_LIVE;
    else
        return 0;
    return 1;
}

static int parse_flag(int argc, char **argv, int i, flag *f, yd_err *err)
{
    const char *s = argv[i];
    if (strcmp(s, "-h") == 0) s = "--help";
    if (strcmp(s, "-v") == 0) s = "--verbose";
    if (strncmp(s, "--", 2) != 0 || !s[2])
        return yd_fail_field(err, YD_E_CONFIG, "command line", "flags only, see --help", "'%.64s' is no flag", argv[i]);
    const char *eq = strchr(s, '=');
    size_t n = eq ? (size_t)(eq - s - 2) : strlen(s + 2);
    if (n >= sizeof f->name) n = sizeof f->name - 1;
    for (size_t k = 0; k < n; k++) f->name[k] = s[2 + k] == '-' ? '_' : s[2 + k];
    f->name[n] = 0;
    f->value = eq ? eq + 1 : NULL;
    f->used = 1;
    yd_config_action ignored = YD_RUN;
    const yd_conf_row *r = yd_conf_find(f->name);
    if (action_of(f->name, &ignored)) return 0;
    int is_file = strcmp(f->name, "config") == 0;
    if (!r && !is_file) return from(err, yd_config_set(NULL, f->name, "", err), "command line"); // for its words
    if (f->value) return 0;
    if (r && r->kind == YD_CONF_SWITCH) {
        f->value = "true";
        return 0;
    }
    if (i + 1 >= argc) return yd_fail_field(err, YD_E_CONFIG, f->name, "", "--%.60s needs a value", s + 2);
    f->value = argv[i + 1];
    f->used = 2;
    return 0;
}

// Two passes over the flags: the first finds --config and what to do, the second applies the rest over file and environment.
static int scan_flags(int argc, char **argv, const char **file, yd_config_action *action, yd_err *err)
{
    flag f;
    for (int i = 1; i < argc; i += f.used) {
        int rc = parse_flag(argc, argv, i, &f, err);
        if (rc) return rc;
        if (!action_of(f.name, action) && strcmp(f.name, "config") == 0) *file = f.value;
    }
    return 0;
}

static int load_flags(yd_config *cfg, int argc, char **argv, yd_err *err)
{
    flag f;
    yd_config_action ignored = YD_RUN;
    for (int i = 1; i < argc; i += f.used) {
        int rc = parse_flag(argc, argv, i, &f, err);
        if (rc) return rc;
        if (action_of(f.name, &ignored) || strcmp(f.name, "config") == 0) continue;
        rc = from(err, yd_config_set(cfg, f.name, f.value, err), "command line");
        if (rc) return rc;
    }
    return 0;
}

static const char *env_value(char **env, const char *name)
{
    size_t n = strlen(name);
    for (; env && *env; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=') return *env + n + 1;
    return NULL;
}

int yd_config_load(int argc, char **argv, char **env, yd_config *cfg, yd_config_action *action, yd_err *err)
{
    const char *file = env_value(env, "YODAD_CONFIG");
    yd_config_init(cfg);
    *action = YD_RUN;
    int rc = scan_flags(argc, argv, &file, action, err);
    if (rc || *action >= YD_SHOW_VERSION) return rc; // nothing that needs a configuration
    if (file && *file && (rc = load_file(cfg, file, err))) return rc;
    if ((rc = load_env(cfg, env, err))) return rc;
    if ((rc = load_flags(cfg, argc, argv, err))) return rc;
    return yd_config_check(cfg, err);
}

static void print_accepted(yd_text *t, const yd_conf_row *r)
{
    if (r->kind == YD_CONF_NUMBER)
        yd_text_printf(t, " [%lld..%lld, default %lld]", (long long)r->min, (long long)r->max, (long long)r->number);
    else if (r->kind == YD_CONF_CHOICE)
        yd_text_printf(t, " [%s, default %s]", r->words, r->text);
    else if (r->kind == YD_CONF_TEXT && *r->text)
        yd_text_printf(t, " [default %s]", r->text);
}

char *yd_config_help(void)
{
    yd_text t = {0};
    size_t n;
    const yd_conf_row *rows = yd_conf_rows(&n);
    yd_text_printf(&t, "yodad %s: upscales pictures over HTTP\n\nusage: yodad [--NAME VALUE]...\n\n", YD_VERSION);
    yd_text_printf(
        &t, "Every setting can also stand in the file as name_with_underscores and in the environment as YODAD_NAME;\n"
            "flags win over the environment, the environment over the file.\n\n"
            "  --config FILE               a JSON object of settings\n"
            "  --check-config              print the effective configuration as JSON and leave\n"
            "  --probe                     ask the yodad that runs with these settings whether it is ready: exit 0, or "
            "1 and why\n"
            "  --probe-live                the same of whether it lives, ready or not\n"
            "  --version [-v], --help      -v: and everything that decides a result's bytes\n\n");
    for (size_t i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s", rows[i].name);
        for (char *c = name; *c; c++)
            if (*c == '_') *c = '-';
        yd_text_printf(&t, "  --%-25s %s", name, rows[i].help);
        print_accepted(&t, &rows[i]);
        yd_text_printf(&t, "\n");
    }
    return yd_text_take(&t, NULL);
}
