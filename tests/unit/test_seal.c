// The checksum inside converted models: every flipped bit, cut, and forged offset is found when the file is loaded, and a whole file is not.
#include "core/file.h"
#include "core/mem.h"
#include "core/model.h"
#include "core/seal.h"
#include "core/tensors.h"
#include "tests/unit/t.h"

#include <unistd.h>

static const char config[] = "{\"format\": \"yoda-model-1\", \"name\": \"small\", \"network\": {\"type\": \"sr3\", \"inner_channel\": 4,"
                             "\"channel_multiplier\": [1, 2], \"res_blocks\": 1, \"norm_groups\": 2, \"attn_res\": [], \"image_size\": 16,"
                             "\"unshuffle\": 2, \"mid_attention\": false}, \"scale\": 4, \"window\": 16, \"overlap\": 4}";

static char plain[256], sealed[256], spoilt[256];
static uint8_t *whole;
static size_t whole_len;
static yd_err err;

static int make_files(void)
{
    yd_model_config c;
    yd_model *m = NULL;
    void *bytes = NULL;
    const char *dir = getenv("TMPDIR");
    char *const paths[] = {plain, sealed, spoilt};
    for (size_t i = 0; i < 3; i++) snprintf(paths[i], sizeof plain, "%s/yd-test-%d-seal-%zu", dir && *dir ? dir : "/tmp", (int)getpid(), i);
    int rc = yd_model_config_parse(config, sizeof config - 1, &c, &err);
    if (!rc) rc = yd_model_init(&c, 3, 0, &m, &err);
    if (!rc) rc = yd_model_save(&m->cfg, (const float *const *)m->params, m->n_params, YD_BF16, plain, &err); // a flipped bit of 16 is a number as good as any
    if (!rc) rc = yd_model_rewrite(plain, NULL, sealed, NULL, 0, &err);
    if (!rc) rc = yd_file_read(sealed, (size_t)1 << 24, &bytes, &whole_len, &err);
    yd_model_free(m);
    whole = bytes;
    CHECK_MSG(rc == 0, "%s", err.detail);
    return rc;
}

static int load(const uint8_t *bytes, size_t len)
{
    yd_model *m = NULL;
    FILE *f = fopen(spoilt, "wb");
    if (!f) return -1000;
    const size_t n = fwrite(bytes, 1, len, f);
    fclose(f);
    if (n != len) return -1000;
    yd_err_clear(&err);
    const int rc = yd_model_load(spoilt, &m, &err);
    CHECK(!rc == !!m);
    yd_model_free(m);
    return rc;
}

static void a_whole_file_loads(void)
{
    yd_model *a = NULL, *b = NULL;
    yd_safetensors *st = NULL;
    size_t at = 0;
    CHECK_MSG(load(whole, whole_len) == 0, "%s", err.detail);
    CHECK(yd_model_load(plain, &a, &err) == 0 && yd_model_load(sealed, &b, &err) == 0 && yd_tensors_open(sealed, &st, &err) == 0);
    if (a && b) {
        CHECK(a->n_params == b->n_params && a->param_count == b->param_count && strcmp(a->checksum, b->checksum) != 0);
        for (int i = 0; i < a->n_params; i++) CHECK(a->params[i][0] == b->params[i][0]);
    }
    if (st) CHECK(yd_seal_find(st, &at, &err) == 1 && at > 8 && !strcmp(yd_st_metadata(st, YD_SEAL_MARK), YD_SEAL_KEY));
    yd_st_close(st);
    CHECK(yd_tensors_open(plain, &st, &err) == 0 && yd_seal_find(st, &at, &err) == 0); // none, and none is missed
    yd_st_close(st);
    yd_model_free(a);
    yd_model_free(b);
    CHECK(yd_model_rewrite(sealed, NULL, sealed, NULL, 0, &err) == 0); // again, in place: the same bytes
    void *again = NULL;
    size_t len = 0;
    CHECK(yd_file_read(sealed, (size_t)1 << 24, &again, &len, &err) == 0 && len == whole_len && !memcmp(again, whole, len));
    yd_free(again);
}

static void flip_and_load(size_t byte, int bit)
{
    whole[byte] ^= (uint8_t)(1 << bit);
    const int rc = load(whole, whole_len);
    CHECK_MSG(rc == YD_E_CHECKPOINT, "bit %d of byte %zu of %zu: %d", bit, byte, whole_len, rc);
    whole[byte] ^= (uint8_t)(1 << bit);
}

// A bit of every byte of the header, where names, sizes and the checksum itself stand, and many of the numbers.
static void every_flipped_bit_is_found(void)
{
    size_t head = 8;
    for (int i = 0; i < 8; i++) head += (size_t)whole[i] << (8 * i);
    CHECK_MSG(head < whole_len, "%zu", head);
    unsigned seed = 1;
    for (size_t i = 0; i < head; i++) {
        seed = seed * 1664525u + 1013904223u;
        flip_and_load(i, (int)(seed >> 29));
    }
    for (int i = 0; i < 2000; i++) {
        seed = seed * 1664525u + 1013904223u;
        flip_and_load(head + (seed >> 4) % (whole_len - head), (int)(seed >> 29));
    }
    CHECK_MSG(load(whole, whole_len) == 0, "%s", err.detail); // and it was only the bits
}

static void cuts_and_additions_are_found(void)
{
    for (size_t n = 0; n < whole_len; n += n < 64 || whole_len - n < 64 ? 1 : 61) CHECK_MSG(load(whole, n) == YD_E_CHECKPOINT, "%zu bytes", n);
    uint8_t *longer = calloc(1, whole_len + 8);
    memcpy(longer, whole, whole_len);
    CHECK(load(longer, whole_len + 1) == YD_E_CHECKPOINT && load(longer, whole_len + 8) == YD_E_CHECKPOINT);
    free(longer);
}

// Two tensors of one size that change places, in the header alone, so that all offsets are legal; two numbers that do.
static void forgeries_are_found(void)
{
    static const char one[] = "\"downs.1.res_block.block1.block.0.bias\"", two[] = "\"downs.1.res_block.block2.block.0.bias\"";
    char *a = memmem(whole, whole_len, one, sizeof one - 1), *b = memmem(whole, whole_len, two, sizeof two - 1);
    CHECK(a && b);
    if (!a || !b) return;
    a[24] = '2', b[24] = '1';
    CHECK(!memcmp(a, two, sizeof two - 1) && load(whole, whole_len) == YD_E_CHECKPOINT && strstr(err.detail, "its bytes are not those"));
    a[24] = '1', b[24] = '2';
    uint8_t *end = whole + whole_len, swap[2];
    memcpy(swap, end - 2, 2), memmove(end - 2, end - 4, 2), memcpy(end - 4, swap, 2);
    CHECK(load(whole, whole_len) == YD_E_CHECKPOINT);
    CHECK(yd_model_rewrite(spoilt, NULL, sealed, NULL, 0, &err) == YD_E_CHECKPOINT); // nor can it be made good again by converting it
    memcpy(swap, end - 2, 2), memmove(end - 2, end - 4, 2), memcpy(end - 4, swap, 2);
    CHECK(load(whole, whole_len) == 0);
    char *key = memmem(whole, whole_len, "\"yoda.checksum\":\"sha", 20), *mark = memmem(whole, whole_len, "\"yoda.sealed\"", 13);
    CHECK(key && mark);
    if (!key || !mark) return;
    key[1] = 'Y', mark[1] = 'Y'; // both at once: somebody took the checksum out on purpose, which is their right
    CHECK_MSG(load(whole, whole_len) == 0, "%s", err.detail);
    key[1] = 'y';
    CHECK(load(whole, whole_len) == YD_E_CHECKPOINT);
    key[1] = 'Y', mark[1] = 'y';
    CHECK(load(whole, whole_len) == YD_E_CHECKPOINT && strstr(err.detail, "its checksum is lost"));
    key[1] = 'y';
    key[18] = 'S'; // another algorithm
    CHECK(load(whole, whole_len) == YD_E_CHECKPOINT && strstr(err.detail, "is none"));
    key[18] = 's';
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"seal: a whole file loads, and converts to itself", a_whole_file_loads},
        {"seal: every flipped bit is found", every_flipped_bit_is_found},
        {"seal: cuts and additions are found", cuts_and_additions_are_found},
        {"seal: forgeries are found", forgeries_are_found},
    };
    if (make_files()) {
        printf("0 passed, 1 failed, 0 skipped\n");
        return 1;
    }
    const int status = t_main(argc, argv, cases, sizeof cases / sizeof *cases);
    unlink(plain), unlink(sealed), unlink(spoilt);
    yd_free(whole);
    return status;
}
