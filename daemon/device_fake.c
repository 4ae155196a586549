// A device without a network, for tests of the service: every run takes fake_batch_us, every unit in it fake_unit_us, and it predicts a fixed multiple of what it sees.
//
// The sampler, the scheduler and everything around are the real ones; only the arithmetic of the network is missing. Failures can be
// asked for: the fake_nan_at-th unit predicts NaN, the fake_fail_at-th run fails as a whole.
#include "daemon/device.h"

#include "core/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WINDOW 64

typedef struct fake_device {
    yd_device base;
    int64_t batch_us, unit_us, nan_at, fail_at;
    int64_t units, runs; // so far
    int max_batch, n_engines;
    yd_dtype dtype[YD_ENGINES_MAX];
    const yd_config *cfg;
    yd_model model;
    float x[WINDOW * WINDOW * 6], pred[WINDOW * WINDOW * 3];
} fake_device;

static int open_device(yd_device *d, yd_err *err)
{
    static const char config[] = "{\"format\":\"yoda-model-1\",\"name\":\"fake-2x\",\"network\":{\"type\":\"sr3\",\"in_"
                                 "channel\":6,\"out_channel\":3,"
                                 "\"inner_channel\":8,\"channel_multiplier\":[1],\"res_blocks\":1,\"norm_groups\":4,"
                                 "\"attn_res\":[],\"image_size\":64},"
                                 "\"prediction\":\"x0\",\"target\":\"residual\",\"residual_scale\":4,\"clip\":3,"
                                 "\"schedule\":{\"kind\":\"cosine\"},"
                                 "\"scale\":2,\"window\":64,\"overlap\":16,\"conditioning\":\"pillow8\","
                                 "\"defaults\":{\"steps\":4,\"sampler\":\"ddim\",\"eta\":0.5,\"attention\":\"edge\","
                                 "\"mask_form\":\"add\",\"lower_bound\":0.4}}";
    fake_device *f = (fake_device *)d;
    snprintf(f->model.checksum, sizeof f->model.checksum, "sha256:fake");
    int rc = yd_model_config_parse(config, sizeof config - 1, &f->model.cfg, err);
    if (!rc) f->n_engines = yd_device_dtypes(f->cfg, &f->model.cfg, 0, f->dtype);
    return rc;
}

static void wait_us(int64_t us)
{
    const struct timespec wait = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    if (us) nanosleep(&wait, NULL);
}

static int run(yd_device *d, int engine, yd_sampler *const *sampler, const yd_unit *unit, int n, int *done, yd_step_info *info,
               yd_err *errs)
{
    fake_device *f = (fake_device *)d;
    const float factor = f->dtype[engine] == YD_BF16 ? 0.5f : 0.25f; // so that a unit on the wrong engine shows
    if (++f->runs == f->fail_at)
        return yd_fail(errs, YD_E_DEVICE, "the fake device fails in its run %lld", (long long)f->runs);
    wait_us(f->batch_us + n * f->unit_us); // at once: every wait ends a little late
    for (int i = 0; i < n; i++) {
        float level;
        yd_sampler_gather(sampler[i], &unit[i], f->x, &level);
        for (int p = 0; p < WINDOW * WINDOW; p++)
            for (int c = 0; c < 3; c++) f->pred[p * 3 + c] = factor * f->x[p * 6 + c];
        if (++f->units == f->nan_at) f->pred[0] = NAN;
        done[i] = yd_sampler_scatter(sampler[i], &unit[i], f->pred, &info[i], &errs[i]);
    }
    return 0;
}

static const yd_model *model(const yd_device *d)
{
    return &((const fake_device *)d)->model;
}

static int info(const yd_device *d, int engine, yd_engine_info *out)
{
    const fake_device *f = (const fake_device *)d;
    if (engine >= f->n_engines) return 0;
    memset(out, 0, sizeof *out);
    out->dtype = f->dtype[engine];
    snprintf(out->backend.name, sizeof out->backend.name, "fake");
    snprintf(out->backend.device, sizeof out->backend.device, "nothing is computed");
    out->backend.batch_pays = f->max_batch > 1 && f->batch_us > 0;
    out->window = WINDOW;
    out->max_batch = f->max_batch;
    out->warm_ms = (double)(f->batch_us + f->unit_us) / 1000;
    return 1;
}

static void close_device(yd_device *d)
{
    yd_free(d);
}

int yd_device_fake_new(const yd_config *cfg, yd_device **out, yd_err *err)
{
    fake_device *f = yd_calloc(1, sizeof *f);
    if (!f) return yd_fail(err, YD_E_NOMEM, "no memory for a device");
    f->base = (yd_device){open_device, run, model, info, close_device};
    f->cfg = cfg;
    f->batch_us = cfg->fake_batch_us;
    f->unit_us = cfg->fake_unit_us;
    f->nan_at = cfg->fake_nan_at;
    f->fail_at = cfg->fake_fail_at;
    f->max_batch = (int)cfg->max_batch;
    *out = &f->base;
    return 0;
}
