// Options of a subcommand, described by a table: parsing, range checks and --help come from the same lines.
//
// Accepted forms: --name value, --name=value, -o value, flags without a value, and "--" before operands that begin with a dash.
// Messages go to stderr as "yoda COMMAND: ...", help to stdout. One thread.
#ifndef YD_TOOLS_ARGS_H
#define YD_TOOLS_ARGS_H

#include <stddef.h>

typedef enum {
    YD_ARG_FLAG, // int, becomes 1
    YD_ARG_TEXT, // const char *, points into argv
    YD_ARG_LONG, // long, lo..hi
    YD_ARG_SEED, // uint64_t
    YD_ARG_REAL, // double, lo..hi
    YD_ARG_LIST, // yd_arg_list, one item each time the option is given
} yd_arg_kind;

#define YD_ARG_LIST_MAX 64

typedef struct yd_arg_list {
    const char *item[YD_ARG_LIST_MAX]; // points into argv
    int n;
} yd_arg_list;

typedef struct yd_arg {
    const char *name; // long name without dashes
    char letter;      // short name, or 0
    yd_arg_kind kind;
    void *into;        // variable of the kind's type; holds the default
    double lo, hi;     // range of numbers
    const char *value; // what --help calls the value
    const char *help;
} yd_arg;

typedef struct yd_usage {
    const char *command;  // "upscale"
    const char *operands; // "IN OUT", "" when there are none
    int n_operands;
    int optional;         // 1: they may all be left out; YD_ARGS_SOME: one is enough; YD_ARGS_ANY: any number. operands[] stays as it was where none came
    const char *summary;  // what it does
    const char *examples; // printed under "Examples:", lines indented by two
} yd_usage;

#define YD_ARGS_SOME  2
#define YD_ARGS_ANY   3
#define YD_ARGS_GO_ON (-1)

// Parse argv[1..]. Fills the options' variables and operands[0..n_operands-1]. YD_ARGS_GO_ON, or the exit status to end with: 0 after
// --help, 2 after a usage error that was printed.
int yd_args_parse(const yd_usage *usage, const yd_arg *args, size_t n_args, int argc, char **argv,
                  const char **operands);

#endif
