// yoda forward: one evaluation of a network on given tensors, or one whole sampling with given noise, for comparing this
// implementation with others number by number.
//
//   in   cond [N,3,H,W], x_t [N,3,H,W], noise_level or timestep [N,1]              -> out  eps [N,3,H,W]
//   in   cond [N,3,H,W] (the first is used), x_T [1,3,H,W], noise_T_to_1 [S,3,H,W] -> out  sample [1,3,H,W]   (--trace)
// SRDiff's networks go by the names of that code: img_lr_up for cond, t for the timestep, and they want img_lr [N,3,H/scale,W/scale].
//
// Files are NCHW as elsewhere in the field, the network is NHWC. A trace goes through the same sampler as a job: a constant map, one
// window as large as the picture, and the noise from the file; entry i of noise_T_to_1 is what the i-th executed step adds.
// Read next: core/sampler.h
#include "core/mem.h"
#include "core/safetensors.h"
#include "core/sampler.h"
#include "tools/args.h"
#include "tools/cli.h"
#include "tools/session.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_BATCH 64
#define MAX_SIDE  4096

typedef struct forward_args {
    const char *model, *in, *out, *dtype, *device, *winograd, *config;
    long threads;
    int trace;
} forward_args;

// A network compiled for n pictures of h x w.
typedef struct network {
    yd_backend *be; // borrowed
    yd_graph *graph;
    yd_weights *weights;
    yd_exec *exec;
    float *x, *level, *out; // staging
    yd_graph *encoder;      // NULL: the network has none
    yd_exec *encoder_exec;
    float *lr, *features, *cond; // staging: the encoder's input and result, and where the network wants that
    int n, h, w;
} network;

static void network_close(network *net)
{
    if (net->exec) net->be->exec_free(net->exec);
    if (net->encoder_exec) net->be->exec_free(net->encoder_exec);
    if (net->weights) net->be->weights_free(net->weights);
    yd_graph_free(net->graph);
    yd_graph_free(net->encoder);
    memset(net, 0, sizeof *net);
}

static int encoder_open(network *net, const yd_model *m, yd_err *err)
{
    yd_backend *be = net->be;
    int rc = yd_net_build_encoder(&m->cfg.net, net->h, net->w, &net->encoder, err);
    if (rc == 0) rc = be->compile(be, net->encoder, net->weights, net->n, &net->encoder_exec, err);
    if (rc) return rc;
    net->lr = be->buffer(net->encoder_exec, yd_graph_find(net->encoder, "lr"));
    net->features = be->buffer(net->encoder_exec, yd_graph_find(net->encoder, "out"));
    net->cond = be->buffer(net->exec, yd_graph_find(net->graph, "cond"));
    return net->lr && net->features && net->cond ? 0 : yd_fail(err, YD_E_INTERNAL, "the encoder has no tensors lr, out and cond");
}

static int network_open(network *net, yd_backend *be, const yd_model *m, yd_dtype dt, int n, int h, int w, yd_err *err)
{
    int multiple = yd_net_multiple(&m->cfg.net), least = yd_net_least(&m->cfg.net);
    *net = (network){.be = be, .n = n, .h = h, .w = w};
    if (h % multiple || w % multiple || h < least || w < least)
        return yd_fail(err, YD_E_SETTING, "%d x %d pixels do not fit the network (accepted: multiples of %d from %d on)", w, h,
                       multiple, least);
    int rc = yd_net_build(&m->cfg.net, h, w, dt, 0, &net->graph, err);
    if (rc == 0) rc = be->weights_new(be, net->graph, (const float *const *)m->params, 0, &net->weights, err);
    if (rc == 0) rc = be->compile(be, net->graph, net->weights, n, &net->exec, err);
    if (rc) return rc;
    net->x = be->buffer(net->exec, yd_graph_find(net->graph, "x"));
    net->level = be->buffer(net->exec, yd_graph_find(net->graph, "level"));
    net->out = be->buffer(net->exec, yd_graph_find(net->graph, "out"));
    if (!net->x || !net->level || !net->out)
        return yd_fail(err, YD_E_INTERNAL, "the network has no tensors x, level and out");
    return yd_net_has_encoder(&m->cfg.net) ? encoder_open(net, m, err) : 0;
}

// Three planes per picture -> channels c0..c0+2 of c interleaved ones, and back. The same walk in both directions.
static void planes_to_channels(const float *planes, int n, size_t pixels, float *maps, size_t c, size_t c0)
{
    for (size_t i = 0; i < (size_t)n; i++)
        for (size_t k = 0; k < 3; k++)
            for (size_t p = 0; p < pixels; p++) maps[(i * pixels + p) * c + c0 + k] = planes[(i * 3 + k) * pixels + p];
}

static void channels_to_planes(const float *maps, int n, size_t pixels, float *planes)
{
    for (size_t i = 0; i < (size_t)n; i++)
        for (size_t k = 0; k < 3; k++)
            for (size_t p = 0; p < pixels; p++) planes[(i * 3 + k) * pixels + p] = maps[(i * pixels + p) * 3 + k];
}

// A tensor [N,3,H,W] as floats. Expected sizes are given in dims; a 0 there accepts anything up to its limit and is filled in.
static int read_pictures(const yd_safetensors *st, const char *name, int64_t dims[4], float **out, yd_err *err)
{
    static const int64_t limit[4] = {YD_MAX_STEPS, 3, MAX_SIDE, MAX_SIDE};
    const yd_st_tensor *t = yd_st_find(st, name);
    *out = NULL;
    if (!t) return yd_fail_field(err, YD_E_INVALID, name, "a tensor [N,3,H,W]", "there is no tensor '%s'", name);
    int ok = t->ndim == 4;
    for (int i = 0; ok && i < 4; i++) {
        ok = t->dims[i] >= 1 && t->dims[i] <= limit[i] && (!dims[i] || t->dims[i] == dims[i]);
        if (ok) dims[i] = t->dims[i];
    }
    if (!ok)
        return yd_fail_field(err, YD_E_INVALID, name, "[N,3,H,W], H and W as in cond", "tensor '%s' has another shape",
                             name);
    *out = yd_malloc(t->numel * sizeof **out);
    if (!*out) return yd_fail(err, YD_E_NOMEM, "no memory for tensor '%s'", name);
    return yd_st_to_f32(t, *out, err);
}

// A tensor under this implementation's name or, if that is not there, the other.
static const char *name_in(const yd_safetensors *st, const char *name, const char *other)
{
    return !yd_st_find(st, name) && yd_st_find(st, other) ? other : name;
}

// What the network is told, under the name of what that is.
static int read_levels(const yd_safetensors *st, yd_noise_input told, int n, float *dst, yd_err *err)
{
    const char *name = told == YD_NOISE_TIMESTEP ? name_in(st, "timestep", "t") : "noise_level";
    const yd_st_tensor *t = yd_st_find(st, name);
    if (!t || t->numel != (size_t)n)
        return yd_fail_field(err, YD_E_INVALID, name, "a tensor [N,1] with cond's N", "there is no fitting tensor '%s'", name);
    return yd_st_to_f32(t, dst, err);
}

// img_lr in [-1,1] as planes, for n pictures that are h x w when enlarged.
static int read_small(const yd_model *m, const yd_safetensors *st, int n, int h, int w, float **planes, yd_err *err)
{
    const int s = m->cfg.net.up_scale;
    int64_t dims[4] = {n, 3, h / s, w / s};
    return read_pictures(st, "img_lr", dims, planes, err);
}

// What the encoder makes of the pictures in its staging becomes the network's condition.
static int encode(network *net, yd_err *err)
{
    int rc = net->be->run(net->encoder_exec, err);
    if (rc == 0) memcpy(net->cond, net->features, yd_tensor_numel(&net->encoder->tensors[yd_graph_find(net->encoder, "out")]) * (size_t)net->n * sizeof(float));
    return rc;
}

static int encode_file(network *net, const yd_model *m, const yd_safetensors *st, yd_err *err)
{
    float *planes = NULL;
    const int s = m->cfg.net.up_scale;
    const size_t pixels = (size_t)(net->h / s) * (size_t)(net->w / s), n = (size_t)net->n * pixels * 3;
    int rc = read_small(m, st, net->n, net->h, net->w, &planes, err);
    if (rc == 0) {
        planes_to_channels(planes, net->n, pixels, net->lr, 3, 0);
        for (size_t i = 0; i < n; i++) net->lr[i] = (net->lr[i] + 1.0f) / 2.0f;
        rc = encode(net, err);
    }
    yd_free(planes);
    return rc;
}

// eps of (cond, x_t, noise_level). *eps is the caller's to free.
static int evaluate(yd_backend *be, const yd_model *m, yd_dtype dt, const yd_safetensors *st, const float *cond,
                    const int64_t dims[4], float **eps, yd_err *err)
{
    network net = {0};
    float *x_t = NULL;
    int64_t same[4] = {dims[0], 3, dims[2], dims[3]};
    int n = (int)dims[0], h = (int)dims[2], w = (int)dims[3];
    size_t pixels = (size_t)h * (size_t)w;
    int rc = read_pictures(st, "x_t", same, &x_t, err);
    if (rc == 0) rc = network_open(&net, be, m, dt, n, h, w, err);
    if (rc == 0) rc = read_levels(st, m->cfg.noise_input, n, net.level, err);
    if (rc) goto out;
    if (net.encoder) {
        planes_to_channels(x_t, n, pixels, net.x, 3, 0);
        rc = encode_file(&net, m, st, err);
        if (rc) goto out;
    } else {
        planes_to_channels(cond, n, pixels, net.x, 6, 0);
        planes_to_channels(x_t, n, pixels, net.x, 6, 3);
    }
    rc = be->run(net.exec, err);
    if (rc) goto out;
    *eps = yd_malloc((size_t)n * pixels * 3 * sizeof **eps);
    if (*eps)
        channels_to_planes(net.out, n, pixels, *eps);
    else
        rc = yd_fail(err, YD_E_NOMEM, "no memory for eps");
out:
    network_close(&net);
    yd_free(x_t);
    return rc;
}

// Noise as the sampler wants it: one field per step, which it borrows.
typedef struct given_noise {
    float *data; // S+1 fields of w*h*3
    const float **field;
} given_noise;

// The picture in its own size as a sampler takes it. The caller frees it.
static int read_words(const yd_model *m, const yd_safetensors *st, int h, int w, uint16_t **out, yd_err *err)
{
    float *planes = NULL;
    const int s = m->cfg.net.up_scale;
    const size_t pixels = (size_t)(h / s) * (size_t)(w / s);
    int rc = read_small(m, st, 1, h, w, &planes, err);
    *out = rc ? NULL : yd_malloc(pixels * 3 * sizeof **out);
    if (rc == 0 && !*out) rc = yd_fail(err, YD_E_NOMEM, "no memory for img_lr");
    for (size_t i = 0; rc == 0 && i < pixels * 3; i++) {
        const double v = fmin(1.0, fmax(-1.0, (double)planes[i % 3 * pixels + i / 3]));
        (*out)[i] = (uint16_t)lrint((v + 1.0) * 32767.5);
    }
    yd_free(planes);
    return rc;
}

// The sampler of a trace: every pixel active, one window, condition, x_T and the steps' noise given. The noise
// is the caller's to free, after the sampler.
static int trace_sampler(const yd_model *m, const yd_safetensors *st, const float *cond_planes, int h, int w,
                         yd_sampler **out, given_noise *noise, yd_err *err)
{
    float *x_T = NULL, *added = NULL, *map = NULL, *cond = NULL;
    uint16_t *grey = NULL, *lr = NULL;
    size_t pixels = (size_t)h * (size_t)w;
    int64_t one[4] = {1, 3, h, w}, all[4] = {0, 3, h, w};
    int rc = read_pictures(st, "x_T", one, &x_T, err);
    if (rc == 0) rc = read_pictures(st, "noise_T_to_1", all, &added, err);
    if (rc) goto done;
    int n_steps = (int)all[0];
    noise->data = yd_malloc((size_t)(n_steps + 1) * pixels * 3 * sizeof *noise->data);
    noise->field = yd_malloc((size_t)(n_steps + 1) * sizeof *noise->field);
    map = yd_malloc(pixels * sizeof *map);
    cond = yd_malloc(pixels * 3 * sizeof *cond);
    grey = yd_calloc(pixels * 3, sizeof *grey); // stands where a job's picture would be; the condition is given in floats
    if (!noise->data || !noise->field || !map || !cond || !grey) {
        rc = yd_fail(err, YD_E_NOMEM, "no memory for a trace of %d steps", n_steps);
        goto done;
    }
    for (size_t i = 0; i < pixels; i++) map[i] = 1;
    planes_to_channels(cond_planes, 1, pixels, cond, 3, 0);
    for (int s = 0; s <= n_steps; s++) {
        float *f = noise->data + (size_t)s * pixels * 3;
        const float *planes = s == n_steps ? x_T : added + (size_t)(n_steps - 1 - s) * pixels * 3;
        planes_to_channels(planes, 1, pixels, f, 3, 0);
        noise->field[s] = f;
    }
    yd_model_config cfg = m->cfg;
    yd_sample_settings set = cfg.defaults;
    cfg.window = w;
    cfg.window_height = h;
    cfg.overlap = 0;
    set.steps = n_steps;
    set.fidelity = 0;
    if (yd_net_has_encoder(&cfg.net)) rc = read_words(m, st, h, w, &lr, err);
    if (rc == 0) rc = yd_sampler_new_from(&cfg, &set, w, h, &(yd_sampler_picture){.up = grey, .exact = cond, .lr = lr}, map, out, err);
    if (rc == 0) yd_sampler_set_noise(*out, noise->field);
done:
    yd_free(lr);
    yd_free(grey);
    yd_free(cond);
    yd_free(map);
    yd_free(added);
    yd_free(x_T);
    return rc;
}

// Run the sampler to its end on a network for one picture.
static int trace_run(yd_sampler *sampler, network *net, yd_err *err)
{
    yd_unit unit;
    yd_step_info info;
    while (yd_sampler_next(sampler, &unit)) {
        yd_sampler_gather(sampler, &unit, net->x, net->level);
        int rc = 0;
        if (net->encoder && !yd_sampler_features(sampler, &unit)) { // one window: once
            yd_sampler_gather_lr(sampler, &unit, net->lr);
            rc = encode(net, err);
            yd_sampler_keep_features(sampler, &unit, net->features);
        }
        if (rc == 0) rc = net->be->run(net->exec, err);
        if (rc == 0) rc = yd_sampler_scatter(sampler, &unit, net->out, &info, err);
        if (rc < 0) return rc;
    }
    return yd_sampler_done(sampler) ? 0 : yd_fail(err, YD_E_INTERNAL, "the sampler stopped before its end");
}

static int trace(yd_backend *be, const yd_model *m, yd_dtype dt, const yd_safetensors *st, const float *cond,
                 const int64_t dims[4], float **sample, yd_err *err)
{
    const int h = (int)dims[2], w = (int)dims[3];
    network net = {0};
    yd_sampler *sampler = NULL;
    given_noise noise = {0};
    int rc = network_open(&net, be, m, dt, 1, h, w, err);
    if (rc == 0) rc = trace_sampler(m, st, cond, h, w, &sampler, &noise, err);
    if (rc == 0) rc = trace_run(sampler, &net, err);
    if (rc == 0) {
        size_t pixels = (size_t)h * (size_t)w;
        *sample = yd_malloc(pixels * 3 * sizeof **sample);
        if (*sample)
            channels_to_planes(yd_sampler_result(sampler), 1, pixels, *sample);
        else
            rc = yd_fail(err, YD_E_NOMEM, "no memory for the sample");
    }
    yd_sampler_free(sampler);
    yd_free(noise.field);
    yd_free(noise.data);
    network_close(&net);
    return rc;
}

static int write_result(const char *path, const char *name, int64_t n, const int64_t dims[4], const float *data,
                        yd_err *err)
{
    yd_st_writer *w = yd_st_writer_new();
    int64_t shape[4] = {n, 3, dims[2], dims[3]};
    int rc = w ? 0 : yd_fail(err, YD_E_NOMEM, "no memory to write %s", path);
    if (rc == 0) rc = yd_st_writer_add(w, name, YD_ST_F32, 4, shape, data, err);
    if (rc == 0) rc = yd_st_writer_save(w, path, err);
    yd_st_writer_free(w);
    return rc;
}

// On failure *subject is the file that the message is about.
static int run(const forward_args *a, const char **subject, yd_err *err)
{
    yd_model *m = NULL;
    yd_backend *be = NULL;
    yd_safetensors *st = NULL;
    yd_dtype dt = YD_F32;
    float *cond = NULL, *result = NULL;
    int64_t dims[4] = {0, 3, 0, 0};

    *subject = a->model;
    int rc = yd_cli_load_model(a->model, a->config, &m, err);
    if (rc == 0) rc = yd_cli_open_backend(a->device, a->threads, a->winograd, 0, &be, err);
    if (rc == 0) rc = yd_cli_dtype(a->dtype, be, &dt, err);
    if (rc) goto out;
    *subject = a->in;
    rc = yd_st_open(a->in, &st, err);
    if (rc == 0) rc = read_pictures(st, name_in(st, "cond", "img_lr_up"), dims, &cond, err);
    if (rc == 0 && dims[0] > MAX_BATCH) rc = yd_fail(err, YD_E_INVALID, "cond holds more than %d pictures", MAX_BATCH);
    if (rc == 0)
        rc = a->trace ? trace(be, m, dt, st, cond, dims, &result, err)
                      : evaluate(be, m, dt, st, cond, dims, &result, err);
    if (rc) goto out;
    *subject = a->out;
    rc = write_result(a->out, a->trace ? "sample" : "eps", a->trace ? 1 : dims[0], dims, result, err);
out:
    yd_free(result);
    yd_free(cond);
    yd_st_close(st);
    if (be) be->close(be);
    yd_model_free(m);
    return rc;
}

int yd_cmd_forward(int argc, char **argv)
{
    static const yd_usage usage = {
        "forward",
        "MODEL",
        1,
        0,
        "evaluate a network on given tensors, for comparison with other implementations",
        "  yoda forward weights.safetensors --in io.safetensors --out eps.safetensors\n"
        "  yoda forward weights.safetensors --in io.safetensors --out sample.safetensors --trace\n"
        "In: cond [N,3,H,W], x_t [N,3,H,W], noise_level [N,1] (timestep where the network is told that); out: eps.\n"
        "With --trace, in: cond, x_T [1,3,H,W], noise_T_to_1 [S,3,H,W]; out: sample. MODEL may have its config.json beside it.\n"
        "SRDiff, in: img_lr_up for cond, img_lr [N,3,H/scale,W/scale] besides, and t for timestep.\n"};
    forward_args a = {.dtype = "f32", .device = "cpu", .winograd = "auto"};
    const yd_arg args[] = {
        {"in", 'i', YD_ARG_TEXT, &a.in, 0, 0, "FILE", "tensors to read (required)"},
        {"out", 'o', YD_ARG_TEXT, &a.out, 0, 0, "FILE", "tensors to write (required)"},
        YD_CONFIG_ARG(&a),
        {"trace", 0, YD_ARG_FLAG, &a.trace, 0, 0, NULL, "sample to the end instead of one evaluation"},
        {"dtype", 0, YD_ARG_TEXT, &a.dtype, 0, 0, "T", "f32 (default), bf16 or auto: how feature maps are stored"},
        {"winograd", 0, YD_ARG_TEXT, &a.winograd, 0, 0, "W", "auto or off: quick convolutions that round a little differently"},
        {"device", 0, YD_ARG_TEXT, &a.device, 0, 0, "NAME", "cpu, cuda, cuda:N or auto"},
        {"threads", 't', YD_ARG_LONG, &a.threads, 0, 1024, "N", "compute threads, 0 = all cores"},
    };
    int status = yd_args_parse(&usage, args, sizeof args / sizeof *args, argc, argv, &a.model);
    if (status != YD_ARGS_GO_ON) return status;
    if (!a.in || !a.out) {
        fprintf(stderr, "yoda forward: --in and --out are needed (accepted: safetensors files)\n");
        return 2;
    }
    yd_err err;
    yd_err_clear(&err);
    const char *subject = NULL;
    return run(&a, &subject, &err) < 0 ? yd_cli_fail("forward", subject, &err) : 0;
}
