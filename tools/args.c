// Options of a subcommand: see args.h.
//
// Nothing is copied: texts point into argv, numbers are converted in full or refused. The first mistake ends the parsing with one
// line that names the option and what it takes.
// Read next: cli.h
#include "tools/args.h"
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define USAGE_ERROR 2

static void print_help(const yd_usage *u, const yd_arg *args, size_t n)
{
    printf("yoda %s: %s\n\nusage: yoda %s%s%s [options]\n\nOptions:\n", u->command, u->summary, u->command,
           *u->operands ? " " : "", u->operands);
    for (size_t i = 0; i < n; i++) {
        char left[64], letter[8] = "    ";
        if (args[i].letter) snprintf(letter, sizeof letter, "-%c, ", args[i].letter);
        snprintf(left, sizeof left, "%s--%s %s", letter, args[i].name, args[i].value ? args[i].value : "");
        printf("  %-28s %s\n", left, args[i].help);
    }
    printf("  %-28s %s\n", "-h, --help", "this text");
    if (u->examples) printf("\nExamples:\n%s", u->examples);
}

static const yd_arg *find_long(const yd_arg *args, size_t n, const char *name, size_t len)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(args[i].name) == len && memcmp(args[i].name, name, len) == 0) return &args[i];
    return NULL;
}

static const yd_arg *find_letter(const yd_arg *args, size_t n, char letter)
{
    for (size_t i = 0; i < n; i++)
        if (args[i].letter == letter) return &args[i];
    return NULL;
}

static int take_long(const yd_arg *a, const char *text)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (end == text || *end || errno || (double)v < a->lo || (double)v > a->hi) return -1;
    *(long *)a->into = v;
    return 0;
}

static int take_seed(const yd_arg *a, const char *text)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno) return -1; // strtoull would take "-1"
    *(uint64_t *)a->into = v;
    return 0;
}

static int take_real(const yd_arg *a, const char *text)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= a->lo && v <= a->hi)) return -1; // NaN fails too
    *(double *)a->into = v;
    return 0;
}

static int take_item(yd_arg_list *list, const char *text)
{
    if (list->n == YD_ARG_LIST_MAX) return -1;
    list->item[list->n++] = text;
    return 0;
}

static int take_value(const yd_usage *u, const yd_arg *a, const char *text)
{
    switch (a->kind) {
    case YD_ARG_FLAG:
        *(int *)a->into = 1;
        return 0;
    case YD_ARG_TEXT:
        *(const char **)a->into = text;
        return 0;
    case YD_ARG_LIST:
        if (take_item(a->into, text) == 0) return 0;
        fprintf(stderr, "yoda %s: --%s is given more than %d times\n", u->command, a->name, YD_ARG_LIST_MAX);
        return -1;
    case YD_ARG_LONG:
        if (take_long(a, text) == 0) return 0;
        fprintf(stderr, "yoda %s: --%s: '%s' is not taken (accepted: a whole number %.0f..%.0f)\n", u->command, a->name,
                text, a->lo, a->hi);
        return -1;
    case YD_ARG_SEED:
        if (take_seed(a, text) == 0) return 0;
        fprintf(stderr, "yoda %s: --%s: '%s' is not taken (accepted: a whole number 0..18446744073709551615)\n",
                u->command, a->name, text);
        return -1;
    case YD_ARG_REAL:
        if (take_real(a, text) == 0) return 0;
        fprintf(stderr, "yoda %s: --%s: '%s' is not taken (accepted: a number %g..%g)\n", u->command, a->name, text,
                a->lo, a->hi);
        return -1;
    }
    return -1;
}

// One option at argv[*i]; steps over its value. 0, or -1 after a message.
static int take_option(const yd_usage *u, const yd_arg *args, size_t n, int argc, char **argv, int *i)
{
    const char *word = argv[*i], *value = NULL;
    const yd_arg *a;
    if (word[1] == '-') {
        const char *equals = strchr(word, '=');
        a = find_long(args, n, word + 2, equals ? (size_t)(equals - word - 2) : strlen(word + 2));
        if (equals) value = equals + 1;
    } else {
        a = word[2] ? NULL : find_letter(args, n, word[1]);
    }
    if (!a) {
        fprintf(stderr, "yoda %s: there is no option '%s' (yoda %s --help lists them)\n", u->command, word, u->command);
        return -1;
    }
    if (a->kind == YD_ARG_FLAG && value) {
        fprintf(stderr, "yoda %s: --%s takes no value\n", u->command, a->name);
        return -1;
    }
    if (a->kind != YD_ARG_FLAG && !value) {
        if (*i + 1 >= argc) {
            fprintf(stderr, "yoda %s: --%s needs a value: %s\n", u->command, a->name, a->value);
            return -1;
        }
        value = argv[++*i];
    }
    return take_value(u, a, value);
}

int yd_args_parse(const yd_usage *u, const yd_arg *args, size_t n, int argc, char **argv, const char **operands)
{
    int found = 0, options_over = 0;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!options_over && strcmp(word, "--") == 0) {
            options_over = 1;
        } else if (!options_over && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            print_help(u, args, n);
            return 0;
        } else if (!options_over && word[0] == '-' && word[1]) {
            if (take_option(u, args, n, argc, argv, &i) < 0) return USAGE_ERROR;
        } else if (found < u->n_operands) {
            operands[found++] = word;
        } else {
            fprintf(stderr, "yoda %s: '%s' is one too many (usage: yoda %s %s [options])\n", u->command, word,
                    u->command, u->operands);
            return USAGE_ERROR;
        }
    }
    const int enough = u->optional == YD_ARGS_ANY ? 1 : u->optional == YD_ARGS_SOME ? found > 0 : u->optional ? found == 0 : 0;
    if (found < u->n_operands && !enough) {
        fprintf(stderr, "yoda %s: something is missing (usage: yoda %s %s [options])\n", u->command, u->command,
                u->operands);
        return USAGE_ERROR;
    }
    return YD_ARGS_GO_ON;
}
