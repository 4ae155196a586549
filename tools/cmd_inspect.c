// yoda inspect: what a checkpoint is, whether its tensors fit its network, and what running it costs on this machine.
//
// Any file of tensors is described. Loading is yodad's own, so a file whose network is printed is one that yodad serves; one that nearly is one is
// an error, with all that is missing or unexpected. Files that are something else, an optimizer's or DINO's, are no error.
// Read next: inspect_file.c
#include "core/upscale.h"
#include "core/engine.h"
#include "core/fingerprint.h"
#include "core/mem.h"
#include "tools/args.h"
#include "tools/cli.h"
#include "tools/inspect_file.h"
#include "tools/session.h"
#include <stdio.h>

#define MIB (1024.0 * 1024.0)

static const char *const prediction_names[] = {"eps", "x0", "v"};

static void print_srdiff(const yd_net_config *net)
{
    printf("network      srdiff UNet: %d -> %d channels, width %d, levels x", net->in_channel, net->out_channel, net->inner_channel);
    for (int i = 0; i < net->n_levels; i++) printf("%s%d", i ? "," : "", net->mult[i]);
    printf(", 2 blocks per level\nencoder      RRDB of %d blocks, width %d, run once per window\n", net->rrdb_blocks, net->rrdb_features);
}

static void print_network(const yd_net_config *net)
{
    if (net->type == YD_NET_SRDIFF) {
        print_srdiff(net);
        return;
    }
    printf("network      %s UNet: %d -> %d channels, width %d, levels x", net->type == YD_NET_DDPM ? "ddpm" : "sr3", net->in_channel,
           net->out_channel, net->inner_channel);
    for (int i = 0; i < net->n_levels; i++) printf("%s%d", i ? "," : "", net->mult[i]);
    printf(", %d blocks per level, unshuffle %d", net->res_blocks, net->unshuffle);
    if (net->n_attn) printf(", attention at");
    for (int i = 0; i < net->n_attn; i++) printf(" %d", net->attn_res[i]);
    printf("%s\n", net->mid_attention ? ", attention in the middle" : "");
}

static void print_schedule(const yd_model_config *cfg)
{
    static const char *const told[] = {"the square root of gamma", "the square root of 1 - gamma", "whole timesteps"};
    const yd_schedule_config *s = &cfg->schedule;
    if (s->kind == YD_SCHEDULE_LINEAR) printf("schedule     linear, %d steps from %g to %g", s->train_steps, s->start, s->end);
    else printf("schedule     cosine, trained in %d steps", s->train_steps);
    printf("; the network is told %s\n", told[cfg->noise_input]);
}

static void print_model(const yd_model *m)
{
    printf("model        %s\n", m->cfg.name[0] ? m->cfg.name : "(no name)");
    printf("checksum     %s\n", m->checksum);
    print_network(&m->cfg.net);
    printf("predicts     %s of the %s\n", prediction_names[m->cfg.prediction],
           m->cfg.target == YD_TARGET_RESIDUAL ? "residual over plain upsampling" : "picture itself");
    if (!m->cfg.mask_input) printf("sees         pixels outside the mask too, as the enlarged picture at the step's noise level\n");
    printf("scale        %dx, windows of %d pixels, overlap %d\n", m->cfg.scale, m->cfg.window, m->cfg.overlap);
    print_schedule(&m->cfg);
    if (m->assumed[0]) printf("assumed      %s\n", m->assumed);
    printf("parameters   %zu in %d tensors\n", m->param_count, m->n_params);
}

static void print_profiles(const yd_model_config *cfg)
{
    for (int q = 0; q < YD_QUALITIES; q++) {
        yd_sample_settings s;
        yd_model_config_profile(cfg, (yd_quality)q, &s);
        const int derived = (q == YD_QUALITY_FAST && !cfg->fast.given) || (q == YD_QUALITY_BEST && !cfg->best.given);
        printf("%-12s %d steps, %s", yd_quality_name((yd_quality)q), s.steps, yd_sampler_name(s.sampler));
        if (s.sampler == YD_SAMPLER_DDIM) printf(" eta %g", (double)s.eta);
        printf(", %s map, %s %g", s.attention, s.mask_form == YD_MASK_MAX ? "max" : "add", s.lower_bound);
        if (s.allocation != YD_ALLOCATION_LATE) printf(" %s", s.allocation == YD_ALLOCATION_STRIDED ? "strided" : "windows");
        if (s.fidelity > 0.0) printf(", fidelity %g", s.fidelity);
        if (s.spacing != 0.0 && s.spacing != 1.0) printf(", spacing %g", s.spacing);
        printf("%s\n", derived ? " (derived)" : "");
    }
}

static int print_config(const yd_model_config *cfg, yd_err *err)
{
    size_t n = yd_model_config_print(cfg, NULL, 0);
    char *text = yd_malloc(n + 1);
    if (!text) return yd_fail(err, YD_E_NOMEM, "no memory for the config");
    yd_model_config_print(cfg, text, n + 1);
    printf("config       %s\n", text);
    yd_free(text);
    return 0;
}

static void print_engine(const yd_model *m, const yd_engine_info *info)
{
    yd_fingerprint fp;
    char brief[YD_FINGERPRINT_SHORT];
    yd_fingerprint_make(m->checksum, &m->cfg, &info->backend, info->dtype, m->cfg.defaults.attention, &fp);
    yd_fingerprint_short(&fp, brief);
    printf("device       %s: %s, %s, %s, %d threads\n", info->backend.name, info->backend.device, info->backend.isa,
           info->backend.library, info->backend.threads);
    printf("per window   %.2f GFLOP, %.2f ms in %s\n", info->unit_flops * 1e-9, info->warm_ms,
           info->dtype == YD_BF16 ? "bf16" : "f32");
    printf("memory       %.1f MiB of weights, %.1f MiB of feature maps\n", (double)info->weight_bytes / MIB,
           (double)info->arena_bytes / MIB);
    printf("fingerprint  %s with the model's own attention map\n", brief);
}

static int print_served(const yd_session *s, int measured, yd_err *err)
{
    print_model(s->model);
    print_profiles(&s->model->cfg);
    const int rc = print_config(&s->model->cfg, err);
    if (rc == 0 && measured) print_engine(s->model, &s->info);
    return rc;
}

static int inspect(const yd_session_options *opt, int no_run, int all, yd_err *err)
{
    yd_safetensors *st = NULL;
    yd_session s = {0};
    char path[sizeof s.path];
    int rc = yd_cli_find_model(opt->model, path, sizeof path, err);
    if (rc == 0) rc = yd_tensors_open(path, &st, err);
    if (rc) return rc;
    const yd_identity id = yd_inspect_print_file(path, st, all);
    if (id != YD_IS_UNKNOWN && id != YD_IS_MODEL) {
        printf("to run it    %s\n", yd_identity_advice(id));
        yd_st_close(st);
        return 0;
    }
    rc = no_run ? yd_cli_load_model(path, opt->config, &s.model, err) : yd_session_open(opt, &s, err);
    if (rc == 0) rc = print_served(&s, !no_run, err);
    else if (rc == YD_E_CHECKPOINT) yd_inspect_print_differences(path, opt->config, st);
    yd_session_close(&s);
    yd_st_close(st);
    return rc;
}

int yd_cmd_inspect(int argc, char **argv)
{
    static const yd_usage usage = {"inspect",
                                   "FILE",
                                   1,
                                   0,
                                   "say what a checkpoint is, and check it against its network",
                                   "  yoda inspect models/yoda-compact-4x.safetensors\n"
                                   "  yoda inspect I640000_E37_gen.pth --config sr_sr3_16_128.json --no-run\n"
                                   "safetensors and what torch.save writes, of any network; nothing in a file is executed.\n"};
    yd_session_options opt = YD_SESSION_DEFAULTS;
    int no_run = 0, all = 0;
    const yd_arg args[] = {
        {"no-run", 0, YD_ARG_FLAG, &no_run, 0, 0, NULL, "only read the file, measure nothing"},
        {"tensors", 0, YD_ARG_FLAG, &all, 0, 0, NULL, "list every tensor"},
        YD_CONFIG_ARG(&opt),
        YD_WINDOW_ARGS(&opt),
        YD_DEVICE_ARGS(&opt),
    };
    int status = yd_args_parse(&usage, args, sizeof args / sizeof *args, argc, argv, &opt.model);
    if (status != YD_ARGS_GO_ON) return status;

    yd_err err;
    yd_err_clear(&err);
    return inspect(&opt, no_run, all, &err) < 0 ? yd_cli_fail("inspect", opt.model, &err) : 0;
}
