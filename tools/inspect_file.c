// Describing checkpoints: see inspect_file.h. Lines are aligned with those of cmd_inspect.c, which go on with the network.
#include "tools/inspect_file.h"

#include "core/model_parts.h"
#include "core/seal.h"

#include <stdio.h>

#define MIB       (1024.0 * 1024.0)
#define LISTED    20 // differences of a kind, and other entries
#define N_DTYPES  (YD_ST_OTHER + 1)

static const char *const dtype_names[N_DTYPES] = {[YD_ST_F32] = "F32", [YD_ST_F16] = "F16",   [YD_ST_BF16] = "BF16", [YD_ST_F64] = "F64", [YD_ST_I64] = "I64", [YD_ST_I32] = "I32",
                                                  [YD_ST_I16] = "I16", [YD_ST_I8] = "I8",     [YD_ST_U8] = "U8",     [YD_ST_BOOL] = "BOOL", [YD_ST_OTHER] = "other types"};

static void print_shape(const yd_st_tensor *t)
{
    for (int i = 0; i < t->ndim; i++) printf("%s%lld", i ? "," : "[", (long long)t->dims[i]);
    printf("%s", t->ndim ? "]" : "a number");
}

static void print_totals(const yd_safetensors *st)
{
    size_t count[N_DTYPES] = {0}, bytes = 0, numel = 0;
    for (size_t i = 0; i < yd_st_count(st); i++) {
        const yd_st_tensor *t = yd_st_at(st, i);
        count[t->dtype]++;
        bytes += t->bytes; // of tensors that share storage more than the file's
        numel += t->numel;
    }
    printf("tensors      %zu", yd_st_count(st));
    for (int d = 0, n = 0; d < N_DTYPES; d++)
        if (count[d]) printf("%s%zu %s", n++ ? ", " : ": ", count[d], dtype_names[d]);
    printf("; %zu numbers, %.2f MiB\n", numel, (double)bytes / MIB);
}

// What else a checkpoint of torch holds at its top, on one line, and what was left alone.
static void print_others(const yd_safetensors *st)
{
    const yd_st_other *o;
    int plain = 0, opaque = 0;
    for (size_t i = 0; (o = yd_tensors_other(st, i)); i++)
        if (!o->opaque && plain++ < LISTED) printf("%s%s %s", plain == 1 ? "beside them  " : ", ", o->name, o->what);
    if (plain) printf("\n");
    for (size_t i = 0; (o = yd_tensors_other(st, i)); i++)
        if (o->opaque && opaque++ < LISTED) printf("left alone   %s: %s\n", o->name, o->what);
    if (opaque > LISTED) printf("left alone   %d more\n", opaque - LISTED);
}

static void print_container(const yd_safetensors *st)
{
    size_t len, at;
    const int sealed = yd_seal_find(st, &at, NULL);
    (void)yd_st_bytes(st, &len);
    printf("container    %s, %.2f MiB%s\n", yd_tensors_container_name(st), (double)len / MIB, sealed > 0 ? ", with a checksum inside" : "");
}

yd_identity yd_inspect_print_file(const char *path, const yd_safetensors *st, int all)
{
    char what[320];
    const yd_identity id = yd_identify(st, what, sizeof what);
    printf("file         %s\n", path);
    print_container(st);
    print_totals(st);
    print_others(st);
    printf("it is        %s\n", what);
    for (size_t i = 0; all && i < yd_st_count(st); i++) {
        const yd_st_tensor *t = yd_st_at(st, i);
        printf("  %-60s %-5s ", t->name, dtype_names[t->dtype]);
        print_shape(t);
        printf("\n");
    }
    return id;
}

static void print_difference(void *user, yd_difference what, const char *name, const char *shape, const char *wanted)
{
    int *count = user;
    if (++count[what] > LISTED) return;
    switch (what) {
    case YD_DIFF_MISSING: printf("missing      %s %s\n", name, wanted); break;
    case YD_DIFF_SHAPE: printf("other shape  %s %s, not %s\n", name, shape, wanted); break;
    case YD_DIFF_UNEXPECTED: printf("unexpected   %s %s\n", name, shape); break;
    }
}

void yd_inspect_print_differences(const char *path, const char *config, const yd_safetensors *st)
{
    static const char *const kinds[] = {[YD_DIFF_MISSING] = "missing", [YD_DIFF_SHAPE] = "of another shape", [YD_DIFF_UNEXPECTED] = "unexpected"};
    int count[3] = {0};
    if (yd_model_differences(path, config, st, print_difference, count, NULL)) return; // what is wrong with the config is said by who loads
    for (int i = 0; i < 3; i++)
        if (count[i] > LISTED) printf("and %d more that are %s\n", count[i] - LISTED, kinds[i]);
}
