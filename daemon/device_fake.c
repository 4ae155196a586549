// A device without a network, for tests of the service: every run takes fake_batch_us, every unit in it fake_unit_us, and it predicts a fixed multiple of what it sees.
//
// The sampler, the scheduler and everything around are the real ones; only the arithmetic of the network is missing. Failures can be
// asked for: the fake_nan_at-th unit predicts NaN, the first device's fake_fail_at-th run fails as a whole, and while fake_fail_file has a line NUMBER WORD
//   nomem    every run of that device fails
//   lost     and every opening does, as of a card that has fallen off its bus
//   other    the device says at its opening that it is of another kind
//   renewed  the file of that model (1, 2, ...) is another one
// Its models are no files: fake-2x, and with fake_models more of them fake-2x-2 and so on, each of which predicts a little differently; loading one
// takes LOAD_STEPS of fake_load_us.
#include "daemon/device.h"

#include "core/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WINDOW       64
#define LOAD_STEPS   4
#define MEMORY_BYTES (1 * YD_GIB) // that it says it has

typedef struct fake_seat {
    int n_engines, steps;
    yd_dtype dtype[YD_ENGINES_MAX];
    float factor; // of what it sees
} fake_seat;

typedef struct fake_device {
    yd_device base;
    int64_t batch_us, unit_us, load_us, nan_at, fail_at;
    int64_t units, runs; // so far
    int max_batch, number;
    const yd_config *cfg;
    fake_seat seats[YD_SEATS];
    float x[WINDOW * WINDOW * 6], pred[WINDOW * WINDOW * 3];
} fake_device;

// Does fake_fail_file have a line with this number and this word?
static int is_ordered(const yd_config *cfg, int number, const char *word)
{
    char line[64], said[16];
    int n, found = 0;
    FILE *in = *cfg->fake_fail_file ? fopen(cfg->fake_fail_file, "r") : NULL;
    while (in && fgets(line, sizeof line, in)) found |= sscanf(line, "%2d %15s", &n, said) == 2 && n == number && strcmp(said, word) == 0;
    if (in) fclose(in);
    return found;
}

static int open_device(yd_device *d, yd_backend_info *about, yd_err *err)
{
    const fake_device *f = (const fake_device *)d;
    if (is_ordered(f->cfg, f->number, "lost")) return yd_fail(err, YD_E_DEVICE, "the fake device %d is not there", f->number);
    *about = (yd_backend_info){.name = "fake", .device = "nothing is computed", .memory_total = MEMORY_BYTES};
    snprintf(about->isa, sizeof about->isa, "%s", is_ordered(f->cfg, f->number, "other") ? "another" : "");
    about->batch_pays = f->max_batch > 1 && f->batch_us > 0;
    return 0;
}

static void shut(yd_device *d)
{
    fake_device *f = (fake_device *)d;
    memset(f->seats, 0, sizeof f->seats);
}

static void wait_us(int64_t us)
{
    const struct timespec wait = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    if (us) nanosleep(&wait, NULL);
}

static int load(yd_device *d, int at, const yd_model *m, yd_err *err)
{
    fake_device *f = (fake_device *)d;
    fake_seat *t = &f->seats[at];
    (void)err;
    wait_us(f->load_us);
    if (++t->steps < LOAD_STEPS) return 1;
    t->factor = 0.25f + 0.01f * (float)(m->checksum[strlen(m->checksum) - 1] - '1');
    t->n_engines = yd_device_dtypes(f->cfg, &m->cfg, 0, t->dtype);
    return 0;
}

static void unload(yd_device *d, int at)
{
    ((fake_device *)d)->seats[at] = (fake_seat){0};
}

// Why a run fails that is to fail; 0: it does not.
static int run_failure(fake_device *f, yd_err *err)
{
    if (++f->runs == f->fail_at) return yd_fail(err, YD_E_DEVICE, "the fake device %d fails in its run %lld", f->number, (long long)f->runs);
    if (is_ordered(f->cfg, f->number, "lost")) return yd_fail(err, YD_E_DEVICE, "the fake device %d is lost", f->number);
    if (is_ordered(f->cfg, f->number, "nomem")) return yd_fail(err, YD_E_NOMEM, "the fake device %d is out of memory", f->number);
    return 0;
}

// A run that fails does so in its middle: some units are done and the others are not, as with a backend that cuts a run in pieces.
static int run(yd_device *d, int engine, yd_sampler *const *sampler, const yd_unit *unit, int n, int *done, yd_step_info *info,
               yd_err *errs)
{
    fake_device *f = (fake_device *)d;
    const fake_seat *t = &f->seats[engine / YD_ENGINES_MAX];
    const float factor = t->dtype[engine % YD_ENGINES_MAX] == YD_BF16 ? 2 * t->factor : t->factor; // so that a unit on the wrong engine shows
    yd_err why;
    const int failure = run_failure(f, &why), runs = failure ? n / 2 : n;
    wait_us(f->batch_us + runs * f->unit_us); // at once: every wait ends a little late
    for (int i = 0; i < runs; i++) {
        float level;
        yd_sampler_gather(sampler[i], &unit[i], f->x, &level);
        for (int p = 0; p < WINDOW * WINDOW; p++)
            for (int c = 0; c < 3; c++) f->pred[p * 3 + c] = factor * f->x[p * 6 + c];
        if (++f->units == f->nan_at) f->pred[0] = NAN;
        done[i] = yd_sampler_scatter(sampler[i], &unit[i], f->pred, &info[i], &errs[i]);
    }
    if (failure) errs[0] = why;
    return failure;
}

static int info(const yd_device *d, int engine, yd_engine_info *out)
{
    const fake_device *f = (const fake_device *)d;
    const fake_seat *t = &f->seats[engine / YD_ENGINES_MAX];
    if (engine % YD_ENGINES_MAX >= t->n_engines) return 0;
    memset(out, 0, sizeof *out);
    out->dtype = t->dtype[engine % YD_ENGINES_MAX];
    snprintf(out->backend.name, sizeof out->backend.name, "fake");
    snprintf(out->backend.device, sizeof out->backend.device, "nothing is computed");
    out->backend.batch_pays = f->max_batch > 1 && f->batch_us > 0;
    out->window = WINDOW;
    out->max_batch = f->max_batch;
    out->weight_bytes = engine % YD_ENGINES_MAX ? 0 : (size_t)YD_MIB;
    out->warm_ms = (double)(f->batch_us + f->unit_us) / 1000;
    return 1;
}

static int memory(const yd_device *d, yd_backend_memory *out)
{
    const fake_device *f = (const fake_device *)d;
    *out = (yd_backend_memory){.total = MEMORY_BYTES, .free = MEMORY_BYTES};
    for (int i = 0; i < YD_SEATS; i++)
        if (f->seats[i].n_engines) out->weights += (size_t)YD_MIB;
    out->free -= out->weights;
    return 0;
}

static void close_device(yd_device *d)
{
    yd_free(d);
}

int yd_device_fake_new(const yd_config *cfg, int number, yd_device **out, yd_err *err)
{
    fake_device *f = yd_calloc(1, sizeof *f);
    if (!f) return yd_fail(err, YD_E_NOMEM, "no memory for a device");
    f->base = (yd_device){.open = open_device, .shut = shut, .load = load, .unload = unload, .run = run, .info = info, .memory = memory,
                          .close = close_device};
    f->cfg = cfg;
    f->number = number;
    f->batch_us = cfg->fake_batch_us;
    f->unit_us = cfg->fake_unit_us;
    f->load_us = cfg->fake_load_us;
    f->nan_at = cfg->fake_nan_at;
    f->fail_at = number == 0 ? cfg->fake_fail_at : 0;
    f->max_batch = (int)cfg->max_batch;
    *out = &f->base;
    return 0;
}

// ---- its models ----------------------------------------------------------------------------------------------------

static int parse_config(int number, yd_model_config *out, yd_err *err)
{
    char text[1024], name[24] = "fake-2x";
    if (number > 1) snprintf(name, sizeof name, "fake-2x-%d", number);
    const int n = snprintf(text, sizeof text,
                           "{\"format\":\"yoda-model-1\",\"name\":\"%s\",\"network\":{\"type\":\"sr3\",\"in_channel\":6,\"out_channel\":3,"
                           "\"inner_channel\":8,\"channel_multiplier\":[1],\"res_blocks\":1,\"norm_groups\":4,\"attn_res\":[],\"image_size\":64},"
                           "\"prediction\":\"x0\",\"target\":\"residual\",\"residual_scale\":4,\"clip\":3,\"schedule\":{\"kind\":\"cosine\"},"
                           "\"scale\":2,\"window\":64,\"overlap\":16,\"conditioning\":\"pillow8\","
                           "\"defaults\":{\"steps\":4,\"sampler\":\"ddim\",\"eta\":0.5,\"attention\":\"edge\",\"mask_form\":\"add\",\"lower_bound\":0.4}}",
                           name);
    return yd_model_config_parse(text, (size_t)n, out, err);
}

int yd_device_fake_scan(const yd_config *cfg, yd_model_file *files)
{
    yd_model_config m;
    for (int i = 0; i < (int)cfg->fake_models; i++) {
        yd_model_file *f = &files[i];
        memset(f, 0, sizeof *f);
        if (parse_config(i + 1, &m, &f->problem)) continue;
        snprintf(f->name, sizeof f->name, "%s", m.name);
        snprintf(f->title, sizeof f->title, "%s", m.name);
        f->inode = (uint64_t)i + 1;
        f->scale = m.scale;
        f->window = m.window;
        f->overlap = m.overlap;
        f->prediction = m.prediction;
        f->target = m.target;
    }
    return (int)cfg->fake_models;
}

int yd_device_fake_read(const yd_config *cfg, const yd_model_file *f, yd_model **out, yd_err *err)
{
    yd_model *m = yd_calloc(1, sizeof *m);
    *out = NULL;
    if (!m) return yd_fail(err, YD_E_NOMEM, "no memory for a model");
    const int number = (int)f->inode, rc = parse_config(number, &m->cfg, err);
    snprintf(m->checksum, sizeof m->checksum, "sha256:%sfake%d", is_ordered(cfg, number, "renewed") ? "new" : "", number);
    if (rc)
        yd_model_free(m);
    else
        *out = m;
    return rc;
}
