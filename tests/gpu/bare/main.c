// The bare build's `yoda`: the one command that a machine with nothing but a compiler and a GPU is good for.
#include "tools/cli.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "train") == 0) return yd_cmd_train(argc - 1, argv + 1);
    fprintf(stderr, "yoda %s, bare build: yoda train [arguments] is its only command (yoda train --help)\n",
            YD_VERSION);
    return 2;
}
