// safetensors: what is written is read back, every forged header is refused by name, conversions are exact, no failure leaves a trace.
#include "core/file.h"
#include "core/mem.h"
#include "core/safetensors.h"
#include "t.h"

#include <dirent.h>
#include <fcntl.h>
#include <float.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char folder[] = "/tmp/yd-test-st-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int files_in_folder(void)
{
    DIR *d = opendir(folder);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.' || strstr(e->d_name, ".tmp");
    if (d) closedir(d);
    return n;
}

// A file in memory: header text and `data` zero bytes, in a block with nothing after it.
static uint8_t *forge(const char *header, size_t data, size_t *len)
{
    size_t n = strlen(header);
    *len = 8 + n + data;
    uint8_t *p = calloc(*len, 1);
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(n >> (8 * i));
    memcpy(p + 8, header, n);
    return p;
}

static int open_forged(const char *header, size_t data, yd_safetensors **st, yd_err *err, uint8_t **bytes)
{
    size_t len;
    yd_err_clear(err);
    *bytes = forge(header, data, &len);
    return yd_st_open_memory(*bytes, len, st, err);
}

#define T(name, dtype, shape, b, e)                                                                                    \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" #b "," #e "]}"

static void accepts(void)
{
    static const struct {
        const char *header;
        size_t data, count;
    } rows[] = {
        {"{}", 0, 0},
        {"{\"__metadata__\":{}}      ", 0, 0},
        {"{" T("a", "F32", "2,3", 0, 24) "}", 24, 1},
        {"{" T("b", "U8", "3", 4, 7) "," T("a", "F32", "", 0, 4) "}", 7, 2}, // header order is free
        {"{" T("e", "F32", "0,5", 4, 4) "," T("a", "F32", "1", 0, 4) "," T("f", "F32", "0", 0, 0) "}", 4,
         3}, // empty ones lie anywhere
        {"{" T("a", "F4", "2,3", 0, 3) "," T("b", "F6_E2M3", "4", 3, 6) "," T("c", "C64", "1", 6, 14) "}", 14, 3},
        {"{" T("a", "F32", "1,1,1,1,1,1,1,1", 0, 4) "}", 4, 1},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"extra\":null}}", 1, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        yd_safetensors *st = NULL;
        yd_err err;
        uint8_t *bytes;
        int rc = open_forged(rows[i].header, rows[i].data, &st, &err, &bytes);
        CHECK_MSG(rc == 0, "[%zu] %s", i, err.detail);
        if (rc == 0) CHECK_MSG(yd_st_count(st) == rows[i].count, "[%zu]", i);
        for (size_t k = 1; rc == 0 && k < rows[i].count; k++)
            CHECK(strcmp(yd_st_at(st, k - 1)->name, yd_st_at(st, k)->name) < 0);
        yd_st_close(st);
        free(bytes);
    }
}

static void refuses(void)
{
    static const struct {
        const char *header;
        size_t data;
        const char *field, *word;
    } rows[] = {
        {"{" T("w", "F32", "2", 0, 8) "}", 7, "w", "cut short"},
        {"{" T("w", "F32", "2", 0, 8) "}", 9, "", "1 bytes after"},
        {"{" T("w", "F32", "2", 4, 12) "}", 12, "w", "hole"},
        {"{" T("v", "F32", "1", 0, 4) "," T("w", "F32", "1", 0, 4) "}", 4, "w", "inside"},
        {"{" T("v", "F32", "1", 0, 4) "," T("w", "F32", "1", 2, 6) "}", 6, "w", "inside"},
        {"{" T("v", "F32", "1", 0, 4) "," T("w", "F32", "1", 8, 12) "}", 12, "w", "hole"},
        {"{" T("w", "F32", "3", 0, 8) "}", 8, "w", "need 12"},
        {"{" T("w", "F16", "2", 0, 8) "}", 8, "w", "need 4"},
        {"{" T("w", "F4", "3", 0, 1) "}", 1, "w", "size"},
        {"{" T("w", "Q4", "1", 0, 1) "}", 1, "w", "dtype"},
        {"{" T("w", "F32", "1,1,1,1,1,1,1,1,1", 0, 4) "}", 4, "w", "dimensions"},
        {"{" T("w", "F32", "-1", 0, 4) "}", 4, "w", "no size"},
        {"{" T("w", "F32", "1.5", 0, 4) "}", 4, "w", "no size"},
        {"{" T("w", "F32", "\"1\"", 0, 4) "}", 4, "w", "no size"},
        {"{" T("w", "F32", "4294967296,4294967296", 0, 0) "}", 0, "w", "overflows"},
        {"{" T("w", "F32", "4611686018427387904", 0, 0) "}", 0, "w", "size"}, // * 4 wraps to 0
        {"{" T("w", "F64", "2305843009213693952", 0, 0) "}", 0, "w", "size"},
        {"{" T("w", "F32", "1", 4, 0) "}", 4, "w", "before"},
        {"{" T("w", "F32", "1", -4, 0) "}", 4, "w", "offsets"},
        {"{" T("w", "F32", "1", 0, 9223372036854775807) "}", 4, "w", "cut short"},
        {"{" T("w", "F32", "1", 0, 18446744073709551615) "}", 4, "w", "offsets"},
        {"{" T("w", "F32", "1", 0, 4) "," T("w", "F32", "1", 4, 8) "}", 8, "", "twice"},
        {"{" T("w", "F32", "1", 0, 4) "," T("\\u0077", "F32", "1", 4, 8) "}", 8, "", "twice"},
        {"{\"w\":[]}", 0, "w", "object"},
        {"{\"w\":{}}", 0, "w", "dtype"},
        {"{\"w\":{\"dtype\":\"F32\"}}", 0, "w", "shape"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[]}}", 0, "w", "offsets"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0]}}", 0, "w", "offsets"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4,4]}}", 4, "w", "offsets"},
        {"{\"w\":{\"dtype\":5,\"shape\":[],\"data_offsets\":[0,4]}}", 4, "w", "dtype"},
        {"{\"__metadata__\":[]}", 0, "__metadata__", "object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__", "string"},
        {"", 0, "", "begin"},
        {"[]", 0, "", "begin"},
        {" {}", 0, "", "begin"},
        {"{", 0, "", "JSON"},
        {"{} x", 0, "", "JSON"},
        {"{} // c", 0, "", "JSON"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        yd_safetensors *st = NULL;
        yd_err err;
        uint8_t *bytes;
        int rc = open_forged(rows[i].header, rows[i].data, &st, &err, &bytes);
        CHECK_MSG(rc == YD_E_CHECKPOINT && !st, "[%zu] %d", i, rc);
        CHECK_MSG(!strcmp(err.field, rows[i].field) && strstr(err.detail, rows[i].word), "[%zu] %s | %s", i, err.field,
                  err.detail);
        yd_st_close(st);
        free(bytes);
    }
}

static void refuses_lengths(void)
{
    static const struct {
        uint8_t prefix[8];
        size_t len;
    } rows[] = {
        {{2}, 0},
        {{2}, 7},
        {{2}, 8},
        {{2}, 9},
        {{3}, 10},
        {{0}, 8},
        {{0, 0, 0, 0, 1}, 10},
        {{255, 255, 255, 255, 255, 255, 255, 255}, 10},
        {{248, 255, 255, 255, 255, 255, 255, 255}, 10},
        {{0, 0, 0, 0, 0, 0, 0, 128}, 10},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t all[10] = {0, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
        memcpy(all, rows[i].prefix, 8);
        uint8_t *exact = malloc(rows[i].len ? rows[i].len : 1);
        memcpy(exact, all, rows[i].len);
        yd_safetensors *st = NULL;
        CHECK_MSG(yd_st_open_memory(exact, rows[i].len, &st, NULL) == YD_E_CHECKPOINT, "[%zu]", i);
        yd_st_close(st);
        free(exact);
    }
}

static int save_sample(const char *path, int reversed, yd_err *err)
{
    static const float w[6] = {1, 2, 3, 4, 5, 6};
    static const uint16_t h[3] = {0x3f80, 0x4000, 0xc040};
    static const uint8_t u[5] = {1, 2, 3, 4, 5};
    static const int64_t n = 1234567890123;
    static const int64_t d23[] = {2, 3}, d3[] = {3}, d5[] = {5}, d0[] = {0, 7};
    yd_st_writer *s = yd_st_writer_new();
    int rc = s ? 0 : YD_E_NOMEM;
    for (int k = 0; rc == 0 && k < 7; k++) {
        switch (reversed ? 6 - k : k) {
        case 0:
            rc = yd_st_writer_metadata(s, "format", "pt", err);
            break;
        case 1:
            rc = yd_st_writer_metadata(s, "config", "{\"a\": \"\xc3\xa9\\n\"}\n", err);
            break;
        case 2:
            rc = yd_st_writer_add(s, "w", YD_ST_F32, 2, d23, w, err);
            break;
        case 3:
            rc = yd_st_writer_add(s, "h.\"quoted\"\\", YD_ST_BF16, 1, d3, h, err);
            break;
        case 4:
            rc = yd_st_writer_add(s, "u", YD_ST_U8, 1, d5, u, err);
            break;
        case 5:
            rc = yd_st_writer_add(s, "n", YD_ST_I64, 0, NULL, &n, err);
            break;
        default:
            rc = yd_st_writer_add(s, "empty", YD_ST_F32, 2, d0, NULL, err);
            break;
        }
    }
    if (rc == 0) rc = yd_st_writer_save(s, path, err);
    yd_st_writer_free(s);
    return rc;
}

static void round_trip(void)
{
    const char *path = in_folder("a.safetensors");
    yd_err err = {0};
    yd_safetensors *st = NULL;
    CHECK_MSG(save_sample(path, 0, &err) == 0, "%s", err.detail);
    CHECK_MSG(yd_st_open(path, &st, &err) == 0, "%s", err.detail);
    if (!st) return;
    CHECK(yd_st_count(st) == 5 && yd_st_at(st, 5) == NULL && yd_st_find(st, "x") == NULL && yd_st_find(st, "") == NULL);
    static const char *const order[] = {"empty", "h.\"quoted\"\\", "n", "u", "w"};
    for (size_t i = 0; i < 5; i++) {
        CHECK(!strcmp(yd_st_at(st, i)->name, order[i]) && yd_st_find(st, order[i]) == yd_st_at(st, i));
    }
    const yd_st_tensor *w = yd_st_find(st, "w"), *n = yd_st_find(st, "n"), *e = yd_st_find(st, "empty");
    CHECK(w->dtype == YD_ST_F32 && w->ndim == 2 && w->dims[0] == 2 && w->dims[1] == 3 && w->numel == 6 &&
          w->bytes == 24);
    CHECK(((const float *)w->data)[5] == 6 && (uintptr_t)w->data % 8 == 0); // aligned: larger types lie first
    CHECK(n->ndim == 0 && n->numel == 1 && *(const int64_t *)n->data == 1234567890123);
    CHECK(e->numel == 0 && e->bytes == 0 && e->ndim == 2 && e->dims[1] == 7);
    CHECK(!strcmp(yd_st_metadata(st, "config"), "{\"a\": \"\xc3\xa9\\n\"}\n") &&
          !strcmp(yd_st_metadata(st, "format"), "pt"));
    CHECK(yd_st_metadata(st, "none") == NULL);
    yd_st_close(st);

    void *a, *b;
    size_t na, nb;
    CHECK(save_sample(in_folder("b.safetensors"), 1, &err) == 0); // the order of adding must not show
    CHECK(yd_file_read(in_folder("a.safetensors"), 1 << 20, &a, &na, &err) == 0);
    CHECK(yd_file_read(in_folder("b.safetensors"), 1 << 20, &b, &nb, &err) == 0);
    CHECK(na == nb && a && b && memcmp(a, b, na) == 0);
    uint64_t header;
    memcpy(&header, a, 8);
    CHECK(header % 8 == 0);
    yd_free(a);
    yd_free(b);
}

static void writer_refuses(void)
{
    static const int64_t one = 1, minus = -1, huge[] = {INT64_MAX, INT64_MAX};
    static const float x = 1;
    yd_err err = {0};
    yd_st_writer *s = yd_st_writer_new();
    CHECK(yd_st_writer_add(s, "a", YD_ST_OTHER, 1, &one, &x, &err) == YD_E_INVALID);
    CHECK(yd_st_writer_add(s, "a", YD_ST_F32, 9, &one, &x, &err) == YD_E_INVALID);
    CHECK(yd_st_writer_add(s, "a", YD_ST_F32, -1, &one, &x, &err) == YD_E_INVALID);
    CHECK(yd_st_writer_add(s, "a", YD_ST_F32, 1, &minus, &x, &err) == YD_E_INVALID);
    CHECK(yd_st_writer_add(s, "a", YD_ST_F32, 2, huge, &x, &err) == YD_E_INVALID);
    CHECK(yd_st_writer_add(s, "__metadata__", YD_ST_F32, 1, &one, &x, &err) == YD_E_INVALID);
    CHECK(yd_st_writer_add(s, "a", YD_ST_F32, 1, &one, &x, &err) == 0 &&
          yd_st_writer_add(s, "a", YD_ST_U8, 1, &one, &x, &err) == 0);
    int before = files_in_folder();
    CHECK(yd_st_writer_save(s, in_folder("dup"), &err) == YD_E_INVALID && strstr(err.detail, "\"a\" occurs twice"));
    yd_st_writer_free(s);
    s = yd_st_writer_new();
    CHECK(yd_st_writer_add(s, "\xff", YD_ST_F32, 1, &one, &x, &err) == 0);
    CHECK(yd_st_writer_save(s, in_folder("utf8"), &err) == YD_E_INVALID && strstr(err.detail, "UTF-8"));
    CHECK(files_in_folder() == before);
    yd_st_writer_free(s);
    s = yd_st_writer_new(); // set again: replaced
    CHECK(yd_st_writer_metadata(s, "k", "1", &err) == 0 && yd_st_writer_metadata(s, "k", "2", &err) == 0);
    yd_safetensors *st = NULL;
    CHECK(yd_st_writer_save(s, in_folder("meta"), &err) == 0 && yd_st_open(in_folder("meta"), &st, &err) == 0);
    CHECK(st && yd_st_count(st) == 0 && !strcmp(yd_st_metadata(st, "k"), "2"));
    yd_st_close(st);
    yd_st_writer_free(s);
}

// The disk is full (a limit on file sizes stands in for it): the old file stays, no temporary file does.
static void failed_write(void)
{
    yd_err err = {0};
    CHECK(save_sample(in_folder("full"), 0, &err) == 0);
    int before = files_in_folder();
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit = 0; limit < 400; limit += 100) {
        small = (struct rlimit){limit, old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        int rc = save_sample(in_folder("full"), 0, &err);
        setrlimit(RLIMIT_FSIZE, &old);
        CHECK_MSG(rc == YD_E_IO && files_in_folder() == before, "limit %d: %d, %d files", (int)limit, rc,
                  files_in_folder());
    }
    yd_safetensors *st = NULL;
    CHECK(yd_st_open(in_folder("full"), &st, &err) == 0);
    yd_st_close(st);
    CHECK(save_sample(in_folder("no/such/folder"), 0, &err) == YD_E_IO);
    CHECK(save_sample(folder, 0, &err) == YD_E_IO); // a folder cannot be replaced by a file
    CHECK(files_in_folder() == before);
}

static void open_errors(void)
{
    yd_err err = {0};
    yd_safetensors *st = NULL;
    CHECK(yd_st_open(in_folder("absent"), &st, &err) == YD_E_IO && strstr(err.detail, "absent") && !st);
    CHECK(yd_st_open(folder, &st, &err) == YD_E_IO);
    mkfifo(in_folder("fifo"), 0600);
    CHECK(yd_st_open(in_folder("fifo"), &st, &err) == YD_E_IO && strstr(err.detail, "regular"));
    CHECK(yd_file_write_atomic(in_folder("short"), "abc", 3, &err) == 0);
    CHECK(yd_st_open(in_folder("short"), &st, &err) == YD_E_CHECKPOINT && strstr(err.detail, "short"));
    CHECK(yd_file_write_atomic(in_folder("zeros"), "\0\0\0\0\0\0\0\0\0", 9, &err) == 0);
    CHECK(yd_st_open(in_folder("zeros"), &st, &err) == YD_E_CHECKPOINT && strstr(err.detail, "zeros"));
}

// ---- conversions

static int convert(yd_st_dtype dt, const void *data, size_t numel, size_t size, float *out, yd_err *err)
{
    uint8_t *odd = malloc(numel * size + 1); // deliberately unaligned
    memcpy(odd + 1, data, numel * size);
    yd_st_tensor t = {.name = "t",
                      .dtype = dt,
                      .ndim = 1,
                      .dims = {(int64_t)numel},
                      .data = odd + 1,
                      .bytes = numel * size,
                      .numel = numel};
    int rc = yd_st_to_f32(&t, out, err);
    free(odd);
    return rc;
}

static uint32_t bits_of(float x)
{
    uint32_t b;
    memcpy(&b, &x, 4);
    return b;
}

static void bf16(void)
{
    static const struct {
        uint32_t in;
        uint16_t out;
    } rows[] = {
        {0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81}, {0x3f818000, 0x3f82}, {0x3f817fff, 0x3f81},
        {0x80000000, 0x8000}, {0x7f7fffff, 0x7f80}, {0x7f800000, 0x7f80}, {0xff800000, 0xff80}, {0x7f800001, 0x7fc0},
        {0x7fc12345, 0x7fc1}, {0xffffffff, 0xffff}, {0x00000001, 0x0000}, {0x00008001, 0x0001},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        float x;
        memcpy(&x, &rows[i].in, 4);
        CHECK_MSG(yd_bf16_from_f32(x) == rows[i].out, "%08x gave %04x", rows[i].in, yd_bf16_from_f32(x));
    }
    int bad = 0;
    for (uint32_t b = 0; b < 65536; b++) {
        float x = yd_bf16_to_f32((uint16_t)b);
        uint16_t back = yd_bf16_from_f32(x);
        bad += isnan(x) ? (back & 0x7fff) <= 0x7f80 : back != b;
    }
    CHECK_MSG(bad == 0, "%d values change", bad);
}

// Every half against its definition: sign, exponent and fraction put together with ldexp.
static void f16(void)
{
    int bad = 0;
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t in = (uint16_t)h;
        float got;
        CHECK(convert(YD_ST_F16, &in, 1, 2, &got, NULL) == 0);
        int e = (int)(h >> 10 & 31), m = (int)(h & 1023);
        double want = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
        if (h & 0x8000) want = -want;
        bad += isnan(want) ? !isnan(got) : bits_of(got) != bits_of((float)want);
    }
    CHECK_MSG(bad == 0, "%d halves differ", bad);
}

static void other_types(void)
{
    float f[8];
    yd_err err;
    static const int64_t i64[] = {0, -1, 16777216, 16777217LL * 2, -9223372036854775807 - 1, 1LL << 62, 16777215};
    CHECK(convert(YD_ST_I64, i64, 3, 8, f, &err) == 0 && f[0] == 0 && f[1] == -1 && f[2] == 16777216);
    CHECK(convert(YD_ST_I64, i64 + 4, 3, 8, f, &err) == 0 && f[0] == -0x1p63f && f[1] == 0x1p62f && f[2] == 16777215);
    CHECK(convert(YD_ST_I64, i64 + 3, 1, 8, f, &err) == YD_E_CHECKPOINT && strstr(err.detail, "33554434") &&
          !strcmp(err.field, "t"));
    static const int32_t i32[] = {-2147483647 - 1, 5, 16777217};
    CHECK(convert(YD_ST_I32, i32, 2, 4, f, &err) == 0 && f[0] == -0x1p31f && f[1] == 5);
    CHECK(convert(YD_ST_I32, i32, 3, 4, f, &err) == YD_E_CHECKPOINT && strstr(err.detail, "element 2"));
    static const int16_t i16[] = {-32768, 32767};
    CHECK(convert(YD_ST_I16, i16, 2, 2, f, &err) == 0 && f[0] == -32768 && f[1] == 32767);
    static const uint8_t u8[] = {255, 128};
    CHECK(convert(YD_ST_I8, u8, 2, 1, f, &err) == 0 && f[0] == -1 && f[1] == -128);
    CHECK(convert(YD_ST_U8, u8, 2, 1, f, &err) == 0 && f[0] == 255 && f[1] == 128);
    static const uint8_t flags[] = {0, 1};
    CHECK(convert(YD_ST_BOOL, flags, 2, 1, f, &err) == 0 && f[0] == 0 && f[1] == 1);
    CHECK(convert(YD_ST_OTHER, u8, 2, 1, f, &err) == YD_E_CHECKPOINT && strstr(err.accepted, "BF16"));
    const double d[] = {0.1, -FLT_MAX, 0x1.fffffefp127, INFINITY, NAN, 1e-60}, far = 0x1.ffffffp127, farther = -1e300;
    CHECK(convert(YD_ST_F64, d, 6, 8, f, &err) == 0 && f[0] == 0.1f && f[1] == -FLT_MAX && f[2] == FLT_MAX &&
          isinf(f[3]) && isnan(f[4]));
    CHECK(f[5] == 0);
    CHECK(convert(YD_ST_F64, &far, 1, 8, f, &err) == YD_E_CHECKPOINT &&
          convert(YD_ST_F64, &farther, 1, 8, f, &err) == YD_E_CHECKPOINT);
    static const float x[] = {1.5f, -2};
    CHECK(convert(YD_ST_F32, x, 2, 4, f, &err) == 0 && f[0] == 1.5f && f[1] == -2);
}

// ---- failures in turn, damage, size

static void no_memory(void)
{
    yd_err err;
    CHECK(save_sample(in_folder("oom"), 0, &err) == 0);
    void *bytes;
    size_t len;
    CHECK(yd_file_read(in_folder("oom"), 1 << 20, &bytes, &len, &err) == 0);
    int before = files_in_folder(), opened = 0, saved = 0;
    for (long k = 1; !opened; k++) {
        yd_safetensors *st = NULL;
        yd_mem_fail_at(k);
        int rc = yd_st_open_memory(bytes, len, &st, &err);
        opened = yd_mem_fail_at(0) < k;
        CHECK_MSG(opened ? rc == 0 && k > 4 : rc == YD_E_NOMEM && !st, "open, allocation %ld: %d", k, rc);
        yd_st_close(st);
    }
    for (long k = 1; !saved; k++) {
        yd_mem_fail_at(k);
        int rc = save_sample(in_folder("oom"), 0, &err);
        saved = yd_mem_fail_at(0) < k;
        CHECK_MSG(saved ? rc == 0 && k > 10 : rc == YD_E_NOMEM, "save, allocation %ld: %d", k, rc);
        CHECK(files_in_folder() == before);
    }
    yd_free(bytes);
}

// Damaged files: an answer every time; when one is accepted, all of its tensors can be read to the last byte.
static void mutants(void)
{
    yd_err err;
    void *bytes;
    size_t len;
    CHECK(save_sample(in_folder("mutant"), 0, &err) == 0 &&
          yd_file_read(in_folder("mutant"), 1 << 20, &bytes, &len, &err) == 0);
    unsigned r = 7;
    int good = 0, bad = 0;
    for (int round = 0; round < 5000; round++) {
        r = r * 1664525u + 1013904223u;
        size_t n = round % 3 ? len : (r >> 6) % len;
        uint8_t *copy = malloc(n ? n : 1);
        memcpy(copy, bytes, n);
        for (int k = 0; n && k <= round % 3; k++) {
            r = r * 1664525u + 1013904223u;
            copy[(r >> 7) % n] ^= (uint8_t)(1u << (r >> 29));
        }
        yd_safetensors *st = NULL;
        int rc = yd_st_open_memory(copy, n, &st, &err);
        CHECK(rc == 0 || rc == YD_E_CHECKPOINT);
        for (size_t i = 0; rc == 0 && i < yd_st_count(st); i++) {
            static float f[64];
            const yd_st_tensor *t = yd_st_at(st, i);
            if (t->numel <= 64) (void)yd_st_to_f32(t, f, &err);
        }
        if (rc == 0)
            good++;
        else
            bad++;
        yd_st_close(st);
        free(copy);
    }
    CHECK_MSG(good > 50 && bad > 2000, "%d accepted, %d refused", good,
              bad); // flips in the data itself cannot be seen here
    yd_free(bytes);
}

static void many_tensors(void)
{
    enum { N = 20000 };
    static uint8_t byte;
    const int64_t one = 1;
    yd_err err = {0};
    yd_st_writer *s = yd_st_writer_new();
    char name[64];
    int rc = 0;
    for (int i = 0; i < N && rc == 0; i++) {
        snprintf(name, sizeof name, "layer.%d.weight", (i * 7919) % N);
        rc = yd_st_writer_add(s, name, YD_ST_U8, 1, &one, &byte, &err);
    }
    CHECK(rc == 0 && yd_st_writer_save(s, in_folder("many"), &err) == 0);
    yd_st_writer_free(s);
    yd_safetensors *st = NULL;
    clock_t t = clock();
    CHECK(yd_st_open(in_folder("many"), &st, &err) == 0);
    double seconds = (double)(clock() - t) / CLOCKS_PER_SEC;
    CHECK_MSG(st && yd_st_count(st) == N && seconds < 2, "%.2f s", seconds);
    for (int i = 0; st && i < N; i++) {
        snprintf(name, sizeof name, "layer.%d.weight", i);
        if (!yd_st_find(st, name)) CHECK_MSG(0, "%s is lost", name);
    }
    yd_st_close(st);
}

static void fixtures(void)
{
    static const char *const names[] = {"ddpm_tiny/weights",
                                        "dino_tiny/weights",
                                        "dino_tiny_full_checkpoint/weights",
                                        "sr3_tiny/weights",
                                        "sr3_deep_rect/weights",
                                        "sr3_legacy_format/weights",
                                        "srdiff_x4_tiny/weights",
                                        "srdiff_x8_tiny/weights",
                                        "lpips/io",
                                        "resize/resize",
                                        "sr3_tiny/io",
                                        "dino_tiny/io"};
    int seen = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char rel[128];
        snprintf(rel, sizeof rel, "fixtures/%s.safetensors", names[i]);
        const char *path = t_shared(rel);
        if (!path) continue;
        seen++;
        yd_safetensors *st = NULL;
        yd_err err = {0};
        int rc = yd_st_open(path, &st, &err);
        CHECK_MSG(rc == 0 && yd_st_count(st) > 0, "%s", err.detail);
        for (size_t k = 0; rc == 0 && k < yd_st_count(st); k++) {
            const yd_st_tensor *t = yd_st_at(st, k);
            float *f = malloc(t->numel * sizeof *f + 1);
            if (t->dtype == YD_ST_F32) CHECK_MSG(yd_st_to_f32(t, f, &err) == 0, "%s", err.detail);
            free(f);
        }
        yd_st_close(st);
    }
    if (!seen) t_skip("no fixtures/*/weights.safetensors");
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"accepts", accepts},
        {"refuses", refuses},
        {"refuses_lengths", refuses_lengths},
        {"round_trip", round_trip},
        {"writer_refuses", writer_refuses},
        {"failed_write", failed_write},
        {"open_errors", open_errors},
        {"bf16", bf16},
        {"f16", f16},
        {"other_types", other_types},
        {"no_memory", no_memory},
        {"mutants", mutants},
        {"many_tensors", many_tensors},
        {"fixtures", fixtures},
    };
    if (!mkdtemp(folder)) return 1;
    int rc = t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
    static const char *const made[] = {"a.safetensors", "b.safetensors", "meta", "full",   "fifo",
                                       "short",         "zeros",         "oom",  "mutant", "many"};
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) unlink(in_folder(made[i]));
    if (rmdir(folder) != 0) {
        printf("files are left in %s\n", folder);
        return 1;
    }
    return rc;
}
