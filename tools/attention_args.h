// Attention networks as options of a command: which files, how pictures are shown to them, how maps are made.
#ifndef YD_TOOLS_ATTENTION_ARGS_H
#define YD_TOOLS_ATTENTION_ARGS_H

#include "core/attention_nets.h"
#include "tools/args.h"

// Values as given; NULL or 0 where not.
typedef struct yd_attention_args {
    const char *nets, *norm, *resize;
    long short_side, long_side;
} yd_attention_args;

#define YD_ATTENTION_ARGS(o)                                                                                           \
    {"attention-nets", 0, YD_ARG_TEXT, &(o)->nets, 0, 0, "LIST", "attention networks: PATH or NAME=PATH, commas between (and those in models/)"}, \
        {"attention-short-side", 0, YD_ARG_LONG, &(o)->short_side, YD_ATTENTION_SIDE_MIN, YD_ATTENTION_MAX_SIDE, "PX", "of pictures shown to them (default 224)"}, \
        {"attention-long-side", 0, YD_ARG_LONG, &(o)->long_side, YD_ATTENTION_SIDE_MIN, YD_ATTENTION_MAX_SIDE, "PX", "at most (default 480)"}, \
        {"attention-norm", 0, YD_ARG_TEXT, &(o)->norm, 0, 0, "NAME", "of each head: own (default), minmax, max or p99"}, \
    {                                                                                                                  \
        "attention-resize", 0, YD_ARG_TEXT, &(o)->resize, 0, 0, "NAME", "of maps: bilinear (default), nearest or bicubic"  \
    }

// What they make: networks that are read when one is asked for. Stays where it is until closed.
typedef struct yd_cli_attention {
    yd_attention_nets *nets;
    yd_attention_load from;
    char folder[1024];
} yd_cli_attention;

// threads: of computing, 0: all cores. YD_E_SETTING, YD_E_NOMEM. Close also after a failure.
int yd_cli_attention_open(const yd_attention_args *a, long threads, yd_cli_attention *out, yd_err *err);
void yd_cli_attention_close(yd_cli_attention *c);

#endif
