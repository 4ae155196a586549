// The `yoda` command: upscaling, training and looking into models without a server.
//
// This file only dispatches: `yoda NAME ...` runs the function of tools/cmd_NAME.c. Everything real is in core/, and what `yoda upscale`
// writes is what yodad answers for the same picture, model and settings.
// Read next: tools/cmd_upscale.c
#include "core/fingerprint.h"
#include "tools/cli.h"
#include <stdio.h>
#include <string.h>

typedef struct subcommand {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} subcommand;

static const subcommand subcommands[] = {
    {"upscale", "make a picture larger", yd_cmd_upscale},
    {"attention", "show where a picture would get its diffusion steps", yd_cmd_attention},
    {"sheet", "compare nearest, bicubic and diffusion on a large picture", yd_cmd_sheet},
    {"work", "count what masks leave to do, in pixel-steps and window-steps", yd_cmd_work},
    {"eval", "measure how good results are, over folders of pictures and many settings", yd_cmd_eval},
    {"train", "train a model on a folder of pictures", yd_cmd_train},
    {"init", "make an untrained model from a config", yd_cmd_init},
    {"inspect", "describe a model file", yd_cmd_inspect},
    {"convert", "write a model file with another config inside", yd_cmd_convert},
    {"key", "make an API key for yodad", yd_cmd_key},
    {"forward", "evaluate a network on given tensors, for comparison with other implementations", yd_cmd_forward},
};

static void print_help(FILE *to)
{
    fprintf(to, "yoda %s: super resolution that diffuses only where it matters\n\nusage: yoda COMMAND [arguments]\n\n",
            YD_VERSION);
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++)
        fprintf(to, "  %-10s %s\n", subcommands[i].name, subcommands[i].summary);
    fprintf(to, "\n`yoda COMMAND --help` explains each; `yoda --version -v` says what decides a result's bytes. Example: yoda upscale photo.jpg large.png\n");
}

static int print_fingerprint(void)
{
    yd_fingerprint fp;
    yd_err err;
    char brief[YD_FINGERPRINT_SHORT], text[4096];
    yd_err_clear(&err);
    if (yd_fingerprint_here(&fp, &err)) return yd_cli_fail("--version", NULL, &err);
    yd_fingerprint_short(&fp, brief);
    yd_fingerprint_print(&fp, 1, text, sizeof text);
    printf("%s\n%s\n", brief, text);
    return 0;
}

int main(int argc, char **argv)
{
    yd_cpu_prepare_process(argv);
    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        const int all = argc > 2 && (strcmp(argv[2], "-v") == 0 || strcmp(argv[2], "--verbose") == 0);
        printf("yoda %s\n", YD_VERSION);
        return all ? print_fingerprint() : 0;
    }
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++)
        if (strcmp(argv[1], subcommands[i].name) == 0) return subcommands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "yoda: there is no command '%s' (yoda --help lists them)\n", argv[1]);
    return 2;
}
