// yoda convert: any checkpoint of a network that yodad runs as a model file of ours, with its config and a checksum inside; or one of ours with
// another config, so that profiles, defaults or a name can be chosen after training.
//
// --config is the config itself where it is one of the public code; otherwise it is laid over the file's, as are --set's single values. Each
// becomes a small JSON text for core's reader, which checks every field. Read next: core/model_write.c.
#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/model.h"
#include "tools/args.h"
#include "tools/cli.h"
#include <stdio.h>
#include <string.h>

#define CONFIG_MAX_BYTES (1 << 20)
#define MAX_CHANGES      33 // a file and 32 values
#define MAX_DEPTH        8

typedef struct changes {
    char *text[MAX_CHANGES];
    int n;
    const char *base; // a config file to begin with, or NULL
} changes;

typedef struct builder {
    char *dst;
    size_t cap, len; // len == cap: it did not fit
} builder;

static void add(builder *b, const char *text, size_t n)
{
    if (n >= b->cap - b->len) n = b->cap - b->len;
    memcpy(b->dst + b->len, text, n);
    b->len += n;
}

static void add_quoted(builder *b, const char *text, size_t n)
{
    char plain[256], quoted[6 * sizeof plain + 3];
    snprintf(plain, sizeof plain, "%.*s", (int)(n < sizeof plain ? n : sizeof plain - 1), text);
    add(b, quoted, yd_json_quote(quoted, sizeof quoted, plain));
}

// Is the text a JSON number, true, false or null? Anything else is taken as a string.
static int is_bare(const char *value, size_t n)
{
    yd_json *j = NULL;
    const int parsed = yd_json_parse(value, n, 0, &j, NULL) == 0;
    const int bare = parsed && yd_json_type_of(j, 0) != YD_J_STRING;
    yd_json_free(j);
    return bare;
}

// "profiles.fast.steps=4" -> {"profiles":{"fast":{"steps":4}}}
static int nest(const char *item, size_t len, char *dst, size_t cap, yd_err *err)
{
    const char *equals = memchr(item, '=', len), *at = item;
    builder b = {dst, cap - 1, 0};
    int depth = 0;
    if (!equals || equals == item)
        return yd_fail_field(err, YD_E_SETTING, "set", "KEY=VALUE, as in profiles.fast.steps=4", "--set %.*s has no key or no value",
                             (int)(len < 60 ? len : 60), item);
    while (at < equals && depth < MAX_DEPTH) {
        const char *dot = memchr(at, '.', (size_t)(equals - at)), *end = dot ? dot : equals;
        add(&b, "{", 1);
        add_quoted(&b, at, (size_t)(end - at));
        add(&b, ":", 1);
        at = dot ? dot + 1 : equals;
        depth++;
    }
    const size_t n = len - (size_t)(equals + 1 - item);
    if (is_bare(equals + 1, n)) add(&b, equals + 1, n);
    else add_quoted(&b, equals + 1, n);
    for (int i = 0; i < depth; i++) add(&b, "}", 1);
    dst[b.len] = 0;
    return b.len < b.cap ? 0 : yd_fail_field(err, YD_E_SETTING, "set", "a shorter one", "--set %.40s... is too long", item);
}

static int add_change(changes *c, const char *text, yd_err *err)
{
    if (c->n == MAX_CHANGES) return yd_fail_field(err, YD_E_SETTING, "set", "at most 32 values; --config takes more", "too many values");
    c->text[c->n] = yd_strdup(text);
    if (!c->text[c->n]) return yd_fail(err, YD_E_NOMEM, "no memory for the changes");
    c->n++;
    return 0;
}

// Is it a config of the public code, {"model": {"unet"...}}?
static int is_public(const char *text, size_t len)
{
    yd_json *j = NULL;
    const int found = yd_json_parse(text, len, YD_JSON_COMMENTS, &j, NULL) == 0 && yd_json_get(j, yd_json_get(j, 0, "model"), "unet") >= 0;
    yd_json_free(j);
    return found;
}

static int add_file(changes *c, const char *path, yd_err *err)
{
    void *bytes = NULL;
    size_t len = 0;
    int rc = yd_file_read(path, CONFIG_MAX_BYTES, &bytes, &len, err); // ends with a NUL
    if (!rc && memchr(bytes, 0, len)) rc = yd_fail(err, YD_E_CHECKPOINT, "%s holds a NUL byte and is no JSON", path);
    if (!rc && is_public(bytes, len)) c->base = path;
    else if (!rc) rc = add_change(c, bytes, err);
    yd_free(bytes);
    return rc;
}

// Items with commas between; lists as values are for --config.
static int add_values(changes *c, const char *list, yd_err *err)
{
    char text[2048];
    int rc = 0;
    while (list && rc == 0) {
        const char *comma = strchr(list, ',');
        rc = nest(list, comma ? (size_t)(comma - list) : strlen(list), text, sizeof text, err);
        if (rc == 0) rc = add_change(c, text, err);
        list = comma ? comma + 1 : NULL;
    }
    return rc;
}

static int convert(changes *c, const char *config, const char *set, const char *in, const char *out, const char **subject, yd_err *err)
{
    *subject = config;
    int rc = config ? add_file(c, config, err) : 0;
    if (rc) return rc;
    *subject = NULL;
    rc = add_values(c, set, err);
    if (rc) return rc;
    *subject = in;
    rc = yd_model_rewrite(in, c->base, out, (const char *const *)c->text, c->n, err);
    if (rc == 0) printf("%s: %d change%s%s\n", out, c->n, c->n == 1 ? "" : "s", c->base ? ", config inside" : "");
    return rc;
}

int yd_cmd_convert(int argc, char **argv)
{
    static const yd_usage usage = {"convert",
                                   "IN [OUT]",
                                   2,
                                   YD_ARGS_SOME,
                                   "write a checkpoint as a model file, or a model file with another config inside",
                                   "  yoda convert I640000_E37_gen.pth -o sr3.safetensors --config sr_sr3_16_128.json\n"
                                   "  yoda convert model.safetensors tuned.safetensors --set profiles.fast.steps=3,profiles.fast.eta=0\n"
                                   "  yoda convert model.safetensors model.safetensors --config profiles.json\n"};
    const char *operands[2] = {NULL, NULL}, *config = NULL, *set = NULL, *out = NULL, *subject = NULL;
    const yd_arg args[] = {
        {"out", 'o', YD_ARG_TEXT, &out, 0, 0, "FILE", "model file to write, instead of OUT"},
        {"config", 'c', YD_ARG_TEXT, &config, 0, 0, "FILE", "config of the public code, or JSON laid over the config: what it says replaces"},
        {"set", 's', YD_ARG_TEXT, &set, 0, 0, "LIST", "single values over both, KEY=VALUE,...; a key's parts have dots between"},
    };
    int status = yd_args_parse(&usage, args, sizeof args / sizeof *args, argc, argv, operands);
    if (status != YD_ARGS_GO_ON) return status;
    if (!out == !operands[1]) {
        fprintf(stderr, "yoda convert: one file to write is needed (accepted: OUT or --out FILE)\n");
        return 2;
    }
    changes c = {.n = 0};
    yd_err err;
    yd_err_clear(&err);
    int rc = convert(&c, config, set, operands[0], out ? out : operands[1], &subject, &err);
    for (int i = 0; i < c.n; i++) yd_free(c.text[i]);
    return rc < 0 ? yd_cli_fail("convert", subject, &err) : 0;
}
