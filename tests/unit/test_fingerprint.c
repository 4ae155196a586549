// core/fingerprint: what a record holds, how it is printed, and that every field of it counts.
#include "core/fingerprint.h"
#include "core/json.h"
#include "core/sha256.h"
#include "tests/unit/t.h"

static const yd_backend_info backend = {.name = "cpu", .isa = "avx512", .kernels = "direct-1", .library = "oneDNN 9.8.7"};
static const yd_model_config windows = {.window = 128, .overlap = 16};

static const char *const names[] = {
#define NAME(name, what) #name,
    YD_FINGERPRINT_FIELDS(NAME)
#undef NAME
};

enum { FIELDS = sizeof names / sizeof names[0] };

static char *field(yd_fingerprint *fp, size_t i)
{
    char *const at[] = {
#define AT(name, what) fp->name,
        YD_FINGERPRINT_FIELDS(AT)
#undef AT
    };
    return at[i];
}

static void says_what_it_was_given(void)
{
    yd_fingerprint fp;
    yd_fingerprint_make("sha256:abc", &windows, &backend, YD_BF16, "edge", &fp);
    CHECK(strcmp(fp.program, YD_VERSION) == 0 && strcmp(fp.arithmetic, YD_ARITHMETIC) == 0 && strcmp(fp.model, "sha256:abc") == 0);
    CHECK(strcmp(fp.windows, "128x128/16") == 0);
    CHECK(strcmp(fp.dtype, "bf16") == 0 && strcmp(fp.backend, "cpu") == 0 && strcmp(fp.isa, "avx512") == 0);
    CHECK(strcmp(fp.kernels, "direct-1") == 0 && strcmp(fp.library, "oneDNN 9.8.7") == 0 && !*fp.vlfeat);
    yd_fingerprint_make(NULL, NULL, NULL, YD_F32, NULL, &fp);
    CHECK(!*fp.model && !*fp.windows && !*fp.dtype && !*fp.backend && !*fp.isa && !*fp.kernels && !*fp.library && !*fp.vlfeat);
    yd_fingerprint_make(NULL, NULL, &backend, YD_F32, "sift", &fp);
    CHECK(strcmp(fp.dtype, "f32") == 0 && strchr(fp.vlfeat, '.'));
}

// On the systems that the program is made for every library answers; what it says looks like a version.
static void finds_the_libraries(void)
{
    yd_fingerprint fp;
    yd_fingerprint_make(NULL, NULL, NULL, YD_F32, NULL, &fp);
    const char *const versions[] = {fp.libc, fp.vips, fp.png, fp.webp, fp.tiff, fp.zlib};
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++)
        CHECK_MSG(strchr(versions[i], '.') && strpbrk(versions[i], "0123456789"), "%zu: '%s'", i, versions[i]);
    CHECK_MSG(strlen(fp.jpeg) == 16 && strspn(fp.jpeg, "0123456789abcdef") == 16, "'%s'", fp.jpeg);
    CHECK_MSG(strlen(fp.lcms) == 4 && fp.lcms[0] >= '2' && *fp.compiler, "'%s'", fp.lcms);
}

static void knows_this_machine(void)
{
    yd_fingerprint fp;
    yd_err err = {0};
    CHECK_MSG(yd_fingerprint_here(&fp, &err) == 0, "%s", err.detail);
    CHECK(strcmp(fp.backend, "cpu") == 0 && strstr(fp.library, "oneDNN") && *fp.isa && *fp.kernels && !*fp.model);
    CHECK(strcmp(fp.dtype, "bf16") == 0 || strcmp(fp.dtype, "f32") == 0);
}

// The same record has the same text and hash; another text in any one field has another hash.
static void every_field_counts(void)
{
    yd_fingerprint fp, again, other;
    char text[8192], hash[YD_FINGERPRINT_SHORT], changed[YD_FINGERPRINT_SHORT], hex[65], want[YD_FINGERPRINT_SHORT];
    yd_fingerprint_make("sha256:abc", &windows, &backend, YD_F32, "sift", &fp);
    yd_fingerprint_make("sha256:abc", &windows, &backend, YD_F32, "sift", &again);
    CHECK(memcmp(&fp, &again, sizeof fp) == 0);
    const size_t n = yd_fingerprint_print(&fp, 0, text, sizeof text);
    yd_sha256_hex(text, n, hex);
    snprintf(want, sizeof want, "yfp1:%.16s", hex);
    yd_fingerprint_short(&fp, hash);
    CHECK_MSG(strcmp(hash, want) == 0 && strlen(hash) == YD_FINGERPRINT_SHORT - 1, "%s, not %s", hash, want);
    for (size_t i = 0; i < FIELDS; i++) {
        other = fp;
        CHECK_MSG(*field(&other, i) || strcmp(names[i], "heif") == 0 || strcmp(names[i], "attention") == 0, "%s is empty", names[i]); // which libvips may do without
        field(&other, i)[0] ^= 1; // a text of one byte where there was none
        yd_fingerprint_short(&other, changed);
        CHECK_MSG(strcmp(hash, changed) != 0, "%s does not count", names[i]);
    }
}

// Both forms are JSON with every field in the list's order; whatever a field holds; and no more is written than there is room.
static void prints_json(void)
{
    yd_fingerprint fp;
    char text[16384], small[32];
    yd_fingerprint_make("sha256:abc", &windows, &backend, YD_F32, NULL, &fp);
    memset(fp.isa, 1, sizeof fp.isa - 1);
    snprintf(fp.kernels, sizeof fp.kernels, "a \"quoted\\ text\"");
    for (int readable = 0; readable < 2; readable++) {
        yd_json *j = NULL;
        const size_t n = yd_fingerprint_print(&fp, readable, text, sizeof text);
        CHECK(n == strlen(text) && (strchr(text, '\n') != NULL) == readable);
        CHECK(yd_json_parse(text, n, 0, &j, NULL) == 0);
        size_t i = 0;
        for (yd_jid m = yd_json_first(j, 0); m >= 0; m = yd_json_next(j, m), i++)
            CHECK_MSG(i < FIELDS && strcmp(yd_json_key(j, m), names[i]) == 0 && strcmp(yd_json_string(j, m), field(&fp, i)) == 0, "field %zu", i);
        CHECK(i == FIELDS);
        yd_json_free(j);
        memset(small, 'x', sizeof small);
        CHECK(yd_fingerprint_print(&fp, readable, small, 20) == n && strlen(small) == 19 && small[20] == 'x' && memcmp(small, text, 19) == 0);
        CHECK(yd_fingerprint_print(&fp, readable, NULL, 0) == n);
    }
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"fingerprint: says what it was given", says_what_it_was_given},
        {"fingerprint: finds the libraries", finds_the_libraries},
        {"fingerprint: knows this machine", knows_this_machine},
        {"fingerprint: every field counts", every_field_counts},
        {"fingerprint: is JSON in both forms", prints_json},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
