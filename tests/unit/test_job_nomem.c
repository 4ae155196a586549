// Every allocation of a job failing in turn: decode, prepare, finish at another size, encode; and of loading a model. Whatever fails
// says so (out of memory), nothing crashes, and under AddressSanitizer nothing is lost; the first run without a failure ends the loop.
#include "core/mem.h"
#include "core/model.h"
#include "core/upscale.h"
#include "tests/unit/t.h"
#include <unistd.h>

#define MOST 5000 // allocations; far more than there are

static void source(yd_image_format format, int depth, void **bytes, size_t *len)
{
    yd_image im = {0};
    yd_output out;
    yd_err err = {0};
    CHECK(yd_image_alloc(&im, 40, 32, format != YD_JPEG, &err) == 0);
    for (int i = 0; i < 40 * 32; i++) {
        for (int c = 0; c < 3; c++) im.rgb[3 * i + c] = (uint16_t)(depth == 16 ? i * 51 : yd_widen((uint8_t)(i * 7 + c * 50)));
        if (im.alpha) im.alpha[i] = yd_widen((uint8_t)(i * 3));
    }
    im.depth = depth;
    yd_output_init(&out);
    out.format = format;
    CHECK_MSG(yd_image_encode(&im, &out, bytes, len, &err) == 0, "%s", err.detail);
    yd_image_clear(&im);
}

// Everything of a job that needs no device.
static int whole_job(const yd_model_config *c, const void *bytes, size_t len, yd_image_format format, yd_err *err)
{
    yd_image in = {0}, done = {0};
    yd_prepared p = {0};
    yd_output out;
    void *result = NULL;
    size_t result_len = 0;
    yd_output_init(&out);
    out.format = format;
    out.scale = 3;
    int rc = yd_image_decode(bytes, len, &(yd_image_limits){0}, NULL, &in, err);
    if (!rc) rc = yd_prepare(c, &c->defaults, &out, &in, &p, err);
    if (!rc) rc = yd_finish(&p, &done, err);
    if (!rc) rc = yd_image_encode(&done, &out, &result, &result_len, err);
    yd_free(result);
    yd_image_clear(&done);
    yd_prepared_clear(&p);
    yd_image_clear(&in);
    return rc;
}

static void fail_each(yd_image_format format, int depth)
{
    yd_model_config c;
    void *bytes = NULL;
    size_t len = 0;
    int rc = -1;
    long k;
    yd_model_config_init(&c);
    c.window = 32;
    c.overlap = 8;
    source(format, depth, &bytes, &len);
    for (k = 1; rc && k < MOST; k++) {
        yd_err err = {0};
        yd_mem_fail_at(k);
        rc = whole_job(&c, bytes, len, format, &err);
        yd_mem_fail_at(0);
        CHECK_MSG(rc == 0 || (rc == YD_E_NOMEM && err.code == YD_E_NOMEM && *err.detail), "allocation %ld: %d %s", k, rc, err.detail);
    }
    CHECK_MSG(rc == 0 && k > 10, "%ld allocations", k - 1);
    yd_free(bytes);
}

static void a_png_job(void)
{
    fail_each(YD_PNG, 8);
}

static void a_deep_tiff_job(void)
{
    fail_each(YD_TIFF, 16);
}

static void a_jpeg_job(void)
{
    fail_each(YD_JPEG, 8);
}

static void a_webp_job(void)
{
    fail_each(YD_WEBP, 8);
}

static const char small[] =
    "{\"format\":\"yoda-model-1\",\"name\":\"small\",\"network\":{\"type\":\"sr3\",\"in_channel\":6,\"out_channel\":3,\"inner_channel\":16,"
    "\"channel_multiplier\":[1,2],\"res_blocks\":1,\"norm_groups\":8,\"attn_res\":[],\"image_size\":32,\"unshuffle\":2,"
    "\"mid_attention\":false,\"noise_scale\":1000},\"prediction\":\"x0\",\"target\":\"residual\",\"residual_scale\":4,\"clip\":3,"
    "\"schedule\":{\"kind\":\"cosine\"},\"scale\":4,\"window\":32,\"overlap\":8,\"conditioning\":\"pillow8\"}";

static void loading_a_model(void)
{
    char path[] = "build/test-model-XXXXXX";
    yd_model_config c;
    yd_model *made = NULL;
    yd_err err = {0};
    int rc = -1, fd = mkstemp(path);
    long k;
    CHECK(fd >= 0 && close(fd) == 0);
    CHECK_MSG(yd_model_config_parse(small, strlen(small), &c, &err) == 0 && yd_model_init(&c, 1, 1, &made, &err) == 0, "%s", err.detail);
    CHECK_MSG(made && yd_model_save(&c, (const float *const *)made->params, made->n_params, YD_F32, path, &err) == 0, "%s", err.detail);
    for (k = 1; rc && k < MOST; k++) {
        yd_model *m = NULL;
        yd_mem_fail_at(k);
        rc = yd_model_load(path, &m, &err);
        yd_mem_fail_at(0);
        CHECK_MSG(rc == 0 || (rc == YD_E_NOMEM && !m && *err.detail), "allocation %ld: %d %s", k, rc, err.detail);
        yd_model_free(m);
    }
    CHECK_MSG(rc == 0 && k > 10, "%ld allocations", k - 1);
    yd_model_free(made);
    unlink(path);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"out of memory: a png job", a_png_job},   {"out of memory: a deep tiff job", a_deep_tiff_job},
        {"out of memory: a jpeg job", a_jpeg_job}, {"out of memory: a webp job", a_webp_job},
        {"out of memory: loading a model", loading_a_model},
    };
    yd_err err = {0};
    if (yd_image_init(&err)) return 1;
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
