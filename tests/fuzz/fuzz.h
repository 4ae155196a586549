// What every fuzz target shares: libFuzzer's entry, and checks that end the process, which is what libFuzzer calls a finding.
#ifndef YD_TESTS_FUZZ_H
#define YD_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLDS(cond)                                                                                                    \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "ERROR: %s:%d: not true: %s\n", __FILE__, __LINE__, #cond);                                \
            __builtin_trap();                                                                                          \
        }                                                                                                              \
    } while (0)

// The bytes as a text: a copy that ends. free() it.
__attribute__((unused)) static char *as_text(const uint8_t *data, size_t size)
{
    char *s = malloc(size + 1);
    HOLDS(s);
    if (size) memcpy(s, data, size);
    s[size] = '\0';
    return s;
}

#endif
