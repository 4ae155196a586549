// yoda init: a config becomes an untrained model file, for tests, benchmarks and as a training's beginning.
//
// The config is that of a model (core/model.h), or that of a training, whose "model" part and seed are used.
#include "core/json.h"
#include "core/mem.h"
#include "core/train/train.h"
#include "tools/args.h"
#include "tools/cli.h"
#include <stdio.h>
#include <string.h>

#define CONFIG_MAX_BYTES (1 << 20)
#define SEED_NOT_GIVEN   UINT64_MAX

// Is this a training's config? (Public SR3 configs have a "model" too, but no "network" in it.)
static int is_training(const char *text, size_t len)
{
    yd_json *j = NULL;
    if (yd_json_parse(text, len, YD_JSON_COMMENTS, &j, NULL) < 0) return 0;
    int yes = yd_json_get(j, yd_json_get(j, 0, "model"), "network") >= 0;
    yd_json_free(j);
    return yes;
}

static int read_config(const char *path, yd_model_config *cfg, uint64_t *seed, yd_err *err)
{
    void *text = NULL;
    size_t len = 0;
    int rc = yd_file_read(path, CONFIG_MAX_BYTES, &text, &len, err);
    if (rc == 0 && is_training(text, len)) {
        yd_train_config train;
        rc = yd_train_config_parse(text, len, &train, err);
        if (rc == 0) *cfg = train.model, *seed = train.seed;
    } else if (rc == 0) {
        rc = yd_model_config_parse(text, len, cfg, err);
    }
    yd_free(text);
    return rc;
}

int yd_cmd_init(int argc, char **argv)
{
    static const yd_usage usage = {"init",
                                   "CONFIG",
                                   1,
                                   0,
                                   "make an untrained model from a config",
                                   "  yoda init models/yoda-compact-4x.train.json -o untrained.safetensors\n"
                                   "  yoda init my-config.json -o random.safetensors --random --seed 7\n"};
    const char *config, *out = NULL, *dtype = "f32";
    uint64_t seed = SEED_NOT_GIVEN, config_seed = 1;
    int random = 0;
    const yd_arg args[] = {
        {"out", 'o', YD_ARG_TEXT, &out, 0, 0, "MODEL", "file to write (required)"},
        {"seed", 's', YD_ARG_SEED, &seed, 0, 0, "N", "of the weights (default: the config's, else 1)"},
        {"random", 0, YD_ARG_FLAG, &random, 0, 0, NULL, "every layer random: no layer starts at zero"},
        {"dtype", 0, YD_ARG_TEXT, &dtype, 0, 0, "T", "f32 (default) or bf16"},
    };
    int status = yd_args_parse(&usage, args, sizeof args / sizeof *args, argc, argv, &config);
    if (status != YD_ARGS_GO_ON) return status;
    int bf16 = strcmp(dtype, "bf16") == 0;
    if (!out || (!bf16 && strcmp(dtype, "f32") != 0)) {
        fprintf(stderr,
                out ? "yoda init: --dtype is f32 or bf16\n" : "yoda init: --out is missing (accepted: a file name)\n");
        return 2;
    }

    yd_err err;
    yd_err_clear(&err);
    yd_model_config cfg;
    yd_model *m = NULL;
    if (read_config(config, &cfg, &config_seed, &err) < 0) return yd_cli_fail("init", config, &err);
    int rc = yd_model_init(&cfg, seed != SEED_NOT_GIVEN ? seed : config_seed, !random, &m, &err);
    if (rc == 0)
        rc = yd_model_save(&cfg, (const float *const *)m->params, m->n_params, bf16 ? YD_BF16 : YD_F32, out, &err);
    if (rc == 0) printf("%s: %s, %zu parameters\n", out, cfg.name, m->param_count);
    yd_model_free(m);
    return rc < 0 ? yd_cli_fail("init", out, &err) : 0;
}
