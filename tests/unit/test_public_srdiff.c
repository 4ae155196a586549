// Checkpoints of the public SRDiff code: the network from the tensors alone, what its config adds, what is refused, and by which name.
#include "core/model_srdiff.h"
#include "tests/unit/keys_file.h"

static char path[256];

static void published_networks(void)
{
    static const struct {
        const char *keys;
        int mult[4], scale, blocks, features;
        size_t params; // of the unet and the encoder without its tail
    } cases[] = {
        {"keys_srdiff_df2k4x", {1, 2, 3, 4}, 4, 8, 32, 13234022},
        {"keys_srdiff_df2k4x_rrdb17x64", {1, 2, 3, 4}, 4, 17, 64, 25316358},
        {"keys_srdiff_celeb", {1, 2, 2, 4}, 8, 8, 32, 12033798},
    };
    static const char *const prefixes[] = {"", "module.", "state_dict.model."};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        yd_safetensors *st = NULL;
        yd_public_net f;
        yd_err err = {0};
        yd_model_config c;
        char assumed[192];
        int rc = keys_file_open(cases[i].keys, prefixes[i], &st, &err);
        if (rc == KEYS_NOT_THERE) {
            t_skip("the lists of keys are not there");
            return;
        }
        rc = rc ? rc : yd_srdiff_locate(st, &f, &err);
        CHECK_MSG(rc == 1 && strcmp(f.root, prefixes[i]) == 0, "%s: %s", cases[i].keys, err.detail);
        CHECK_MSG(yd_srdiff_detect(st, &f, &err) == 0 && f.buffers == 100, "%s: %s", cases[i].keys, err.detail);
        f.buffers = 0; // the file is all zeros
        yd_model_config_init(&c);
        CHECK_MSG(yd_srdiff_settle(&f, &c, assumed, sizeof assumed, &err) == 0, "%s: %s", cases[i].keys, err.detail);
        CHECK(c.net.type == YD_NET_SRDIFF && c.net.inner_channel == 64 && c.net.n_levels == 4 && memcmp(c.net.mult, cases[i].mult, sizeof cases[i].mult) == 0);
        CHECK_MSG(c.net.rrdb_blocks == cases[i].blocks && c.net.rrdb_features == cases[i].features, "%s: %d x %d", cases[i].keys, c.net.rrdb_blocks,
                  c.net.rrdb_features);
        CHECK(c.scale == cases[i].scale && c.net.up_scale == c.scale && c.window == 160 && strstr(assumed, "100 cosine") && strstr(assumed, "res_rescale"));
        CHECK(c.schedule.kind == YD_SCHEDULE_COSINE_BETAS && c.schedule.train_steps == 100 && c.defaults.steps == 100 && c.fast.set.steps == 25);
        // the network's parameters and the encoder's tail are all there is
        yd_graph *g = NULL;
        size_t own = 0, tail = 0;
        CHECK(yd_net_build(&c.net, c.window, c.window, YD_F32, 0, &g, &err) == 0);
        for (int k = 0; g && k < g->n_params; k++) own += yd_tensor_numel(&g->tensors[g->params[k]]);
        for (size_t k = 0; k < yd_st_count(st); k++) {
            const yd_st_tensor *t = yd_st_at(st, k);
            if (yd_srdiff_is_tail(t->name + strlen(prefixes[i]))) tail += t->numel;
        }
        CHECK_MSG(own + tail == cases[i].params, "%s: %zu and %zu parameters", cases[i].keys, own, tail);
        // two graphs, one list of parameters
        yd_graph *e = NULL;
        CHECK(yd_net_build_encoder(&c.net, c.window, c.window, &e, &err) == 0 && e->n_params == g->n_params);
        for (int k = 0; e && k < g->n_params; k++) CHECK(strcmp(g->tensors[g->params[k]].name, e->tensors[e->params[k]].name) == 0);
        yd_graph_free(e);
        yd_graph_free(g);
        yd_st_close(st);
    }
}

// ---- small files

static yd_model *small_model(void)
{
    static const char text[] = "{\"format\": \"yoda-model-1\", \"name\": \"small\", \"network\": {\"type\": \"srdiff\", \"inner_channel\": 8,"
                               "\"channel_multiplier\": [1, 2], \"up_scale\": 4, \"rrdb_blocks\": 2, \"rrdb_features\": 4}}";
    yd_model_config c;
    yd_model *m = NULL;
    yd_err err = {0};
    CHECK_MSG(yd_model_config_parse(text, strlen(text), &c, &err) == 0, "%s", err.detail);
    CHECK(yd_model_init(&c, 4, 0, &m, &err) == 0);
    return m;
}

// What a file has besides the network under its prefix: a schedule of T steps, T 0 for none, with `scale` times its betas; one more tensor.
typedef struct extras {
    const char *prefix;
    int T;
    double scale;
    const char *tensor;
} extras;

static void save(const yd_model *m, const extras *x)
{
    static float betas[YD_MAX_STEPS], ac[YD_MAX_STEPS];
    const float one = 1;
    const yd_schedule_config s = {.kind = YD_SCHEDULE_COSINE_BETAS, .train_steps = x->T};
    yd_graph *g = NULL;
    yd_st_writer *w = yd_st_writer_new();
    char name[200];
    double gamma = 1;
    CHECK(yd_net_build(&m->cfg.net, 160, 160, YD_F32, 0, &g, NULL) == 0);
    for (int i = 0; i < m->n_params; i++) {
        const yd_tensor *t = &g->tensors[g->params[i]];
        int64_t dims[4];
        for (int d = 0; d < t->ndim; d++) dims[d] = t->dims[d];
        snprintf(name, sizeof name, "%s%s", x->prefix, t->name);
        CHECK(yd_st_writer_add(w, name, YD_ST_F32, t->ndim, dims, m->params[i], NULL) == 0);
    }
    for (int t = 1; t <= x->T; t++) {
        betas[t - 1] = (float)(x->scale * yd_schedule_beta(&s, t));
        ac[t - 1] = (float)(gamma *= 1 - yd_schedule_beta(&s, t));
    }
    snprintf(name, sizeof name, "%sbetas", x->prefix);
    if (x->T) CHECK(yd_st_writer_add(w, name, YD_ST_F32, 1, (const int64_t[]){x->T}, betas, NULL) == 0);
    snprintf(name, sizeof name, "%salphas_cumprod", x->prefix);
    if (x->T) CHECK(yd_st_writer_add(w, name, YD_ST_F32, 1, (const int64_t[]){x->T}, ac, NULL) == 0);
    snprintf(name, sizeof name, "%s%s", x->prefix, x->tensor);
    CHECK(yd_st_writer_add(w, name, YD_ST_F32, 1, (const int64_t[]){1}, &one, NULL) == 0);
    CHECK(yd_st_writer_save(w, keys_file_path(path, sizeof path), NULL) == 0);
    yd_st_writer_free(w);
    yd_graph_free(g);
}

static void without_a_config(void)
{
    static const char *const prefixes[] = {"", "module.", "state_dict.model."};
    yd_model *m = small_model(), *back = NULL;
    for (size_t i = 0; m && i < 3; i++) {
        yd_err err = {0};
        save(m, &(extras){prefixes[i], 20, 1, "rrdb.HRconv.bias"}); // the encoder's tail is not looked at
        CHECK_MSG(yd_model_load(path, &back, &err) == 0, "%s", err.detail);
        if (!back) break;
        CHECK(back->cfg.schedule.train_steps == 20 && back->cfg.defaults.steps == 20 && back->cfg.fast.set.steps == 20);
        CHECK(back->n_params == m->n_params && back->params[0][5] == m->params[0][5] && strcmp(back->cfg.name, "srdiff-4x") == 0);
        CHECK(strstr(back->assumed, "res_rescale") && !strstr(back->assumed, "noise steps"));
        yd_model_free(back);
    }
    unlink(path);
    yd_model_free(m);
}

// As that code keeps its settings, flat.
static const char config[] = "{\"sr_scale\": 4, \"unet_dim_mults\": \"1|2\", \"hidden_size\": 8, \"rrdb_num_block\": 8, \"rrdb_num_feat\": 32,"
                             "\"timesteps\": 20, \"beta_schedule\": \"cosine\", \"beta_s\": 0.008, \"res\": true, \"res_rescale\": 2.0,"
                             "\"clip_input\": true, \"gn_groups\": 0, \"use_wn\": false, \"lr\": 0.0002}";

// Load with the config, `from` replaced by `to`. field "" : it must work.
static yd_model *with(const char *from, const char *to, const char *field)
{
    char text[1024], file[300];
    yd_model *m = NULL;
    yd_err err = {0};
    const char *at = strstr(config, from);
    CHECK(at != NULL);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - config), config, to, at + strlen(from));
    snprintf(file, sizeof file, "%s.cfg", path);
    FILE *f = fopen(file, "w");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
    int rc = yd_model_load_with(path, file, &m, &err);
    CHECK_MSG(*field ? rc == YD_E_CHECKPOINT && strcmp(err.field, field) == 0 : rc == 0, "%s: rc %d, field '%s': %s", to, rc, err.field, err.detail);
    unlink(file);
    return m;
}

static void with_a_config(void)
{
    yd_model *m = small_model(), *back;
    save(m, &(extras){"", 20, 1, "rrdb.HRconv.bias"});
    back = with("\"lr\"", "\"lr\"", ""); // its encoder is another one than the file's: the file is right
    if (back) CHECK(!back->assumed[0] && back->cfg.net.rrdb_blocks == 2 && back->cfg.net.rrdb_features == 4 && back->cfg.scale == 4);
    yd_model_free(back);
    yd_model_free(with("\"sr_scale\": 4", "\"sr_scale\": 8", "sr_scale"));
    yd_model_free(with("\"sr_scale\": 4", "\"sr_scale\": 3", "sr_scale"));
    yd_model_free(with("\"hidden_size\": 8", "\"hidden_size\": 16", "hidden_size"));
    yd_model_free(with("1|2", "1|3", "unet_dim_mults"));
    yd_model_free(with("1|2", "1|2|4", "unet_dim_mults"));
    yd_model_free(with("1|2", "1,2", "unet_dim_mults"));
    yd_model_free(with("\"timesteps\": 20", "\"timesteps\": 21", "timesteps"));
    yd_model_free(with("\"cosine\"", "\"linear\"", "beta_schedule"));
    yd_model_free(with("\"res\": true", "\"res\": false", "res"));
    yd_model_free(with("\"res_rescale\": 2.0", "\"res_rescale\": 1.0", "res_rescale"));
    yd_model_free(with("\"gn_groups\": 0", "\"gn_groups\": 8", "gn_groups"));
    yd_model_free(with("\"use_wn\": false", "\"use_wn\": true", "use_wn"));
    yd_model_free(with("\"clip_input\": true", "\"up_input\": true", "up_input"));
    unlink(path);
    yd_model_free(m);
}

static void refused(const yd_model *m, const extras *x, const char *field, const char *says)
{
    yd_model *none = NULL;
    yd_err err = {0};
    save(m, x);
    CHECK_MSG(yd_model_load(path, &none, &err) == YD_E_CHECKPOINT && strcmp(err.field, field) == 0 && strstr(err.detail, says), "field '%s': %s",
              err.field, err.detail);
    CHECK(!none);
}

static void what_cannot_be_run_is_said(void)
{
    yd_model *m = small_model(), *none = NULL;
    yd_err err = {0};
    refused(m, &(extras){"", 20, 1.1, "rrdb.HRconv.bias"}, "betas", "another noise schedule");
    refused(m, &(extras){"", 20, 1, "rrdb.conv_first.weight_g"}, "rrdb.conv_first.weight_g", "weight normalisation");
    refused(m, &(extras){"module.", 20, 1, "denoise_fn.mid_attn.fn.g"}, "module.denoise_fn.mid_attn.fn.g", "use_attn");
    refused(m, &(extras){"", 20, 1, "denoise_fn.up_proj.1.bias"}, "denoise_fn.up_proj.1.bias", "up_input");
    refused(m, &(extras){"", 20, 1, "denoise_fn.downs.0.0.block1.block.2.weight"}, "denoise_fn.downs.0.0.block1.block.2.weight", "gn_groups");
    refused(m, &(extras){"", 20, 1, "denoise_fn.other.bias"}, "denoise_fn.other.bias", "does not have");
    // an encoder without its diffusion network
    const float v[9] = {0};
    yd_st_writer *w = yd_st_writer_new();
    CHECK(yd_st_writer_add(w, "state_dict.model.RRDB_trunk.0.RDB1.conv1.weight", YD_ST_F32, 4, (const int64_t[]){1, 1, 3, 3}, v, NULL) == 0);
    CHECK(yd_st_writer_save(w, path, NULL) == 0);
    yd_st_writer_free(w);
    CHECK(yd_model_load(path, &none, &err) == YD_E_CHECKPOINT && strstr(err.detail, "only the encoder"));
    unlink(path);
    yd_model_free(m);
}

// ---- our own config

static void refuses(const char *from, const char *to, const char *field)
{
    static const char text[] = "{\"network\": {\"type\": \"srdiff\", \"inner_channel\": 8, \"channel_multiplier\": [1, 2, 2], \"up_scale\": 4, \"rrdb_blocks\": 2,"
                               "\"rrdb_features\": 4}, \"target\": \"residual\", \"scale\": 4, \"window\": 32, \"overlap\": 4}";
    char changed[600];
    yd_model_config c;
    yd_err err = {0};
    const char *at = strstr(text, from);
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    int rc = yd_model_config_parse(changed, strlen(changed), &c, &err);
    CHECK_MSG(*field ? rc == YD_E_CHECKPOINT && strcmp(err.field, field) == 0 : rc == 0, "%s: rc %d, field '%s': %s", to, rc, err.field, err.detail);
}

static void our_config(void)
{
    yd_model *m = small_model();
    char text[4096];
    yd_model_config back;
    yd_err err = {0};
    const size_t n = yd_model_config_print(&m->cfg, text, sizeof text);
    CHECK(yd_model_config_parse(text, n, &back, &err) == 0);
    CHECK(memcmp(&back.net, &m->cfg.net, sizeof back.net) == 0 && back.conditioning == m->cfg.conditioning && back.residual_scale == 2.0f);
    CHECK(back.schedule.kind == YD_SCHEDULE_COSINE_BETAS && back.schedule.train_steps == 100 && back.window == 160 && back.fast.set.steps == 25);
    CHECK(yd_net_multiple(&back.net) == 4 && yd_net_least(&back.net) == 4);
    CHECK(yd_model_config_windows(&back, 4, 0, &err) == YD_E_SETTING); // less than any network's
    refuses("\"scale\": 4", "\"scale\": 4", "");
    refuses("\"scale\": 4", "\"scale\": 8", "scale");
    refuses("\"up_scale\": 4", "\"up_scale\": 3", "up_scale");
    refuses("\"rrdb_features\": 4", "\"rrdb_features\": 5", "rrdb_features");
    refuses("[1, 2, 2]", "[2, 2, 2]", "channel_multiplier");
    refuses("[1, 2, 2]", "[]", "channel_multiplier");
    refuses("\"residual\"", "\"direct\"", "target");
    refuses("\"inner_channel\"", "\"norm_groups\"", "norm_groups");
    refuses("\"window\": 32", "\"window\": 30", "window");
    yd_model_free(m);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"the published networks are told from their keys and shapes", published_networks},
        {"a checkpoint without a config, under any words", without_a_config},
        {"a config of the public code completes it, and must be its own", with_a_config},
        {"networks that cannot be run are refused in words", what_cannot_be_run_is_said},
        {"our config: as it is printed, and what does not go together", our_config},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
