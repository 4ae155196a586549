// Checkpoints of the public SR3 code: the network from the tensors alone, what the config adds, what is refused, and by which name.
#include "core/mem.h"
#include "core/model_public.h"
#include "tests/unit/keys_file.h"

static char path[256];

static const char *temp_path(void)
{
    return keys_file_path(path, sizeof path);
}

static int located(const char *keys, const char *prefix, yd_public_net *out, yd_err *err)
{
    yd_safetensors *st = NULL;
    int rc = keys_file_open(keys, prefix, &st, err);
    if (rc == 0) rc = yd_public_locate(st, out, err);
    if (rc > 0) rc = yd_public_detect(st, out, err);
    yd_st_close(st);
    return rc;
}

static void published_networks(void)
{
    static const struct {
        const char *keys;
        yd_net_type type;
        int levels, mult[6], blocks, size, attends, groups, scale;
    } cases[] = {
        {"keys_sr3_16_128", YD_NET_SR3, 5, {1, 2, 4, 8, 8}, 2, 128, 16, 32, 8},
        {"keys_sr3_64_512", YD_NET_SR3, 5, {1, 2, 4, 8, 16}, 1, 512, 0, 16, 8},
        {"keys_ddpm_16_128", YD_NET_DDPM, 6, {1, 1, 2, 2, 4, 4}, 2, 128, 16, 32, 8},
        {"keys_sr3_paper_ic64_rb3", YD_NET_SR3, 5, {1, 2, 4, 8, 8}, 3, 128, 16, 32, 8},
        {"keys_sr3_paper_ic64_rb3_img256", YD_NET_SR3, 5, {1, 2, 4, 8, 8}, 3, 256, 16, 32, 4},
    };
    static const char *const prefixes[] = {"", "module.", "state_dict.module."};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        yd_public_net f;
        yd_err err = {0};
        yd_model_config c;
        char assumed[192];
        const char *prefix = prefixes[i % 3];
        int rc = located(cases[i].keys, prefix, &f, &err);
        if (rc == KEYS_NOT_THERE) {
            t_skip("the lists of keys are not there");
            return;
        }
        CHECK_MSG(rc == 0 && strcmp(f.root, prefix) == 0, "%s: %s", cases[i].keys, err.detail);
        yd_model_config_init(&c);
        f.buffers = 0; // the file is all zeros
        CHECK_MSG(rc == 0 && yd_public_settle(&f, &c, assumed, sizeof assumed, &err) == 0, "%s: %s", cases[i].keys, err.detail);
        CHECK_MSG(c.net.type == cases[i].type && c.net.inner_channel == 64 && c.net.n_levels == cases[i].levels && c.net.res_blocks == cases[i].blocks,
                  "%s: %d levels of %d blocks", cases[i].keys, c.net.n_levels, c.net.res_blocks);
        CHECK(memcmp(c.net.mult, cases[i].mult, (size_t)cases[i].levels * sizeof(int)) == 0 && c.net.mid_attention == 1);
        CHECK_MSG(c.net.image_size == cases[i].size && c.window == cases[i].size && c.scale == cases[i].scale, "%s: %d", cases[i].keys, c.window);
        CHECK(c.net.n_attn == (cases[i].attends > 0) && (!c.net.n_attn || c.net.attn_res[0] == cases[i].attends));
        CHECK(c.net.norm_groups == cases[i].groups && strstr(assumed, "norm_groups") && strstr(assumed, "scale") && strstr(assumed, "2000"));
        CHECK(c.schedule.start == (c.net.type == YD_NET_DDPM ? 1e-4 : 1e-6) && c.defaults.steps == 2000 && c.fast.set.steps == 100);
        CHECK(c.noise_input == (c.net.type == YD_NET_DDPM ? YD_NOISE_TIMESTEP : YD_NOISE_SQRT_GAMMA));
    }
}

// A small network written as the public code names things, with its buffers; `spoil` names the buffer to change.
static void save(const yd_model *m, const char *prefix, const char *inner, int T, const char *spoil, int in_channel)
{
    static float betas[YD_MAX_STEPS], ac[YD_MAX_STEPS];
    yd_graph *g = NULL;
    yd_st_writer *w = yd_st_writer_new();
    char name[200];
    double gamma = 1;
    CHECK(yd_net_build(&m->cfg.net, 32, 32, YD_F32, 0, &g, NULL) == 0);
    for (int i = 0; i < m->n_params; i++) {
        const yd_tensor *t = &g->tensors[g->params[i]];
        int64_t dims[4];
        for (int d = 0; d < t->ndim; d++) dims[d] = t->dims[d];
        if (strcmp(t->name, "downs.0.weight") == 0) dims[1] = in_channel;
        snprintf(name, sizeof name, "%s%s%s", prefix, inner, t->name);
        CHECK(yd_st_writer_add(w, name, YD_ST_F32, t->ndim, dims, m->params[i], NULL) == 0);
    }
    for (int t = 0; t < T; t++) {
        betas[t] = (float)(1e-4 + (0.05 - 1e-4) * t / (T - 1));
        ac[t] = (float)(gamma *= 1 - (1e-4 + (0.05 - 1e-4) * t / (T - 1)));
    }
    if (spoil) (strcmp(spoil, "betas") == 0 ? betas : ac)[3] *= 1.1f;
    snprintf(name, sizeof name, "%sbetas", prefix);
    if (T) CHECK(yd_st_writer_add(w, name, YD_ST_F32, 1, (const int64_t[]){T}, betas, NULL) == 0);
    snprintf(name, sizeof name, "%salphas_cumprod", prefix);
    if (T) CHECK(yd_st_writer_add(w, name, YD_ST_F32, 1, (const int64_t[]){T}, ac, NULL) == 0);
    const float other = 1;
    if (*prefix) CHECK(yd_st_writer_add(w, "epoch", YD_ST_F32, 1, (const int64_t[]){1}, &other, NULL) == 0);
    CHECK(yd_st_writer_save(w, temp_path(), NULL) == 0);
    yd_st_writer_free(w);
    yd_graph_free(g);
}

static yd_model *small_model(void)
{
    yd_model_config c;
    yd_model *m = NULL;
    yd_model_config_init(&c);
    c.net = (yd_net_config){.type = YD_NET_SR3, .in_channel = 6, .out_channel = 3, .inner_channel = 8, .n_levels = 3, .mult = {1, 2, 2},
                            .res_blocks = 1, .norm_groups = 8, .n_attn = 1, .attn_res = {16}, .image_size = 32, .unshuffle = 1,
                            .mid_attention = 1, .noise_scale = 1};
    c.window = 32;
    CHECK(yd_model_init(&c, 4, 0, &m, NULL) == 0);
    return m;
}

static void without_a_config(void)
{
    static const char *const words[][2] = {{"", ""}, {"", "denoise_fn."}, {"module.", "denoise_fn."}, {"state_dict.module.", "denoise_fn."}};
    yd_model *m = small_model(), *back = NULL;
    for (size_t i = 0; m && i < sizeof words / sizeof words[0]; i++) {
        yd_err err = {0};
        save(m, words[i][0], words[i][1], 20, NULL, 6);
        CHECK_MSG(yd_model_load(path, &back, &err) == 0, "%s", err.detail);
        if (!back) break;
        CHECK(back->cfg.schedule.train_steps == 20 && back->cfg.schedule.start == 1e-4 && back->cfg.schedule.end == 0.05);
        CHECK(back->cfg.net.n_attn == 1 && back->cfg.net.attn_res[0] == 16 && back->cfg.net.norm_groups == 8);
        CHECK(back->n_params == m->n_params && back->params[0][5] == m->params[0][5]);
        CHECK(strstr(back->assumed, "norm_groups 8") && !strstr(back->assumed, "noise steps"));
        yd_model_free(back);
    }
    unlink(path);
    yd_model_free(m);
}

// attn_res is wrong for image_size on purpose: the tensors say where attention is.
static const char config[] = "{ // as that code writes it\n\"name\": \"mine\", \"model\": {\"which_model_G\": \"sr3\", \"unet\": {\"in_channel\": 6,"
                             "\"inner_channel\": 8, \"norm_groups\": 4, \"channel_multiplier\": [1, 2, 2], \"attn_res\": [99], \"res_blocks\": 1},"
                             "\"beta_schedule\": {\"train\": {\"schedule\": \"linear\", \"n_timestep\": 20, \"linear_start\": 1e-4, \"linear_end\": 0.05},"
                             "\"val\": {\"schedule\": \"linear\", \"n_timestep\": 10, \"linear_start\": 1e-3, \"linear_end\": 0.1}},"
                             "\"diffusion\": {\"image_size\": 64, \"conditional\": true}},"
                             "\"datasets\": {\"val\": {\"l_resolution\": 8, \"r_resolution\": 64}}}";

// Load with the config, `from` replaced by `to`. field "" : it must work.
static yd_model *with(const char *from, const char *to, const char *field)
{
    char text[2048], file[300];
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
    save(m, "", "denoise_fn.", 20, NULL, 6);
    back = with("mine", "mine", "");
    if (back) {
        CHECK(strcmp(back->cfg.name, "mine") == 0 && back->cfg.net.norm_groups == 4 && back->cfg.scale == 8 && back->cfg.window == 64);
        CHECK(back->cfg.schedule.train_steps == 10 && back->cfg.schedule.start == 1e-3 && back->cfg.defaults.steps == 10 && !back->assumed[0]);
        CHECK(back->cfg.net.image_size == 64 && back->cfg.net.n_attn == 1 && back->cfg.net.attn_res[0] == 32); // level 1
        CHECK(back->cfg.defaults.sampler == YD_SAMPLER_ANCESTRAL && back->cfg.defaults.variance == YD_VARIANCE_POSTERIOR && back->cfg.clip == 1.0f);
    }
    yd_model_free(back);
    yd_model_free(with("\"inner_channel\": 8", "\"inner_channel\": 16", "inner_channel"));
    yd_model_free(with("\"res_blocks\": 1", "\"res_blocks\": 2", "res_blocks"));
    yd_model_free(with("[1, 2, 2]", "[1, 2, 4]", "channel_multiplier"));
    yd_model_free(with("\"which_model_G\": \"sr3\"", "\"which_model_G\": \"ddpm\"", "type"));
    yd_model_free(with("\"n_timestep\": 20", "\"n_timestep\": 21", "n_timestep"));
    yd_model_free(with("\"linear_start\": 1e-4", "\"linear_start\": 2e-4", "betas"));
    yd_model_free(with("\"in_channel\": 6", "\"in_channel\": 3", "in_channel"));
    yd_model_free(with("\"conditional\": true", "\"conditional\": false", "in_channel"));
    save(m, "", "denoise_fn.", 20, "alphas_cumprod", 6);
    yd_model_free(with("mine", "mine", "alphas_cumprod"));
    unlink(path);
    yd_model_free(m);
}

static void what_cannot_be_run_is_said(void)
{
    yd_model *m = small_model(), *none = NULL;
    yd_err err = {0};
    save(m, "", "denoise_fn.", 20, NULL, 3); // its other half stays unused: a network from noise alone
    CHECK(yd_model_load(path, &none, &err) == YD_E_CHECKPOINT && strcmp(err.field, "denoise_fn.downs.0.weight") == 0);
    CHECK_MSG(strstr(err.detail, "takes none"), "%s", err.detail);
    save(m, "", "denoise_fn.", 20, "betas", 6);
    CHECK(yd_model_load(path, &none, &err) == YD_E_CHECKPOINT && strcmp(err.field, "betas") == 0);
    CHECK(none == NULL);
    unlink(path);
    yd_model_free(m);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"the published networks are told from their keys and shapes", published_networks},
        {"a checkpoint without a config, under any words", without_a_config},
        {"a config of the public code completes it, and must be its own", with_a_config},
        {"unconditional networks and odd schedules are refused in words", what_cannot_be_run_is_said},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
