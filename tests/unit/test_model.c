// Model configs and files: what is accepted, what is refused and by which name, and that what was saved comes back.
#include "core/file.h"
#include "core/mem.h"
#include "core/model.h"
#include "core/safetensors.h"
#include "tests/unit/t.h"

#include <unistd.h>

static const char small[] = "{\"format\": \"yoda-model-1\", \"name\": \"small\", \"network\": {\"type\": \"sr3\", \"inner_channel\": 8,"
                            "\"channel_multiplier\": [1, 2], \"res_blocks\": 1, \"norm_groups\": 4, \"attn_res\": [], \"image_size\": 32,"
                            "\"unshuffle\": 2, \"mid_attention\": false, \"noise_scale\": 1000},"
                            "\"noise_input\": \"sqrt_one_minus_gamma\", \"prediction\": \"x0\", \"target\": \"residual\","
                            "\"residual_scale\": 4, \"clip\": 3, \"schedule\": {\"kind\": \"cosine\"}, \"scale\": 4, \"window\": 32,"
                            "\"overlap\": 8, \"conditioning\": \"pillow8\", \"defaults\": {\"steps\": 6, \"sampler\": \"ddim\", \"eta\": 0.5,"
                            "\"attention\": \"edge\", \"mask_form\": \"max\", \"lower_bound\": 0.2}}";

static char path[256];

static const char *temp_path(const char *name)
{
    const char *dir = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/yd-test-%d-%s", dir && *dir ? dir : "/tmp", (int)getpid(), name);
    return path;
}

static void config_is_read(void)
{
    yd_model_config c;
    yd_err err = {0};
    int rc = yd_model_config_parse(small, strlen(small), &c, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    CHECK(strcmp(c.name, "small") == 0 && c.net.inner_channel == 8 && c.net.n_levels == 2 && c.net.mult[1] == 2);
    CHECK(c.net.n_attn == 0 && c.net.unshuffle == 2 && c.net.mid_attention == 0 && c.net.noise_scale == 1000.0f);
    CHECK(c.prediction == YD_PREDICT_X0 && c.target == YD_TARGET_RESIDUAL && c.noise_input == YD_NOISE_SQRT_1M_GAMMA);
    CHECK(c.schedule.kind == YD_SCHEDULE_COSINE && c.scale == 4 && c.window == 32 && c.overlap == 8 && c.clip == 3.0f);
    CHECK(c.defaults.steps == 6 && c.defaults.sampler == YD_SAMPLER_DDIM && c.defaults.mask_form == YD_MASK_MAX);
    CHECK(yd_net_multiple(&c.net) == 4);
    CHECK(yd_model_config_dtype(&c, 0) == YD_F32 && yd_model_config_dtype(&c, 1) == YD_BF16);
    static const char exact[] = "{\"format\": \"yoda-model-1\", \"defaults\": {\"dtype\": \"f32\"}}";
    CHECK(yd_model_config_parse(exact, sizeof exact - 1, &c, &err) == 0 && yd_model_config_dtype(&c, 1) == YD_F32);
    static const char wrong[] = "{\"format\": \"yoda-model-1\", \"defaults\": {\"dtype\": \"f16\"}}";
    CHECK(yd_model_config_parse(wrong, sizeof wrong - 1, &c, &err) == YD_E_CHECKPOINT && strcmp(err.field, "dtype") == 0);
    CHECK(strcmp(err.accepted, "auto, f32, bf16") == 0);
}

// Whether the network is shown m*z or z belongs to the weights: it is kept, and settings that it cannot go with are refused.
static void mask_input(void)
{
    static const char off[] = "{\"mask_input\": false}", strided[] = "{\"defaults\": {\"allocation\": \"strided\"}}", word[] = "{\"mask_input\": \"no\"}";
    yd_model_config c, again;
    yd_err err = {0};
    char text[4096];
    CHECK(yd_model_config_parse(small, strlen(small), &c, &err) == 0 && c.mask_input == 1);
    yd_model_config_print(&c, text, sizeof text);
    CHECK(!strstr(text, "mask_input")); // texts of models from before stay as they are
    CHECK(yd_model_config_update(&c, off, sizeof off - 1, &err) == 0 && c.mask_input == 0);
    const size_t n = yd_model_config_print(&c, text, sizeof text);
    CHECK(yd_model_config_parse(text, n, &again, &err) == 0 && again.mask_input == 0);
    CHECK(yd_model_config_update(&again, strided, sizeof strided - 1, &err) == YD_E_CHECKPOINT && strcmp(err.field, "allocation") == 0);
    CHECK(yd_model_config_update(&again, word, sizeof word - 1, &err) == YD_E_CHECKPOINT && strcmp(err.field, "mask_input") == 0);
}

static void config_survives_printing(void)
{
    yd_model_config a, b;
    char text[4096], again[4096];
    CHECK(yd_model_config_parse(small, strlen(small), &a, NULL) == 0);
    size_t n = yd_model_config_print(&a, text, sizeof text);
    CHECK(n < sizeof text && n == strlen(text));
    CHECK(yd_model_config_parse(text, n, &b, NULL) == 0);
    yd_model_config_print(&b, again, sizeof again);
    CHECK(strcmp(text, again) == 0);
    CHECK(yd_model_config_print(&a, again, 10) == n); // says what it needs, writes no more than it may
    CHECK(strlen(again) == 9);
}

// Replace `from` by `to` in the small config; the parser must name `field`.
static void refuses(const char *from, const char *to, const char *field)
{
    char text[4096];
    yd_model_config c;
    yd_err err = {0};
    const char *at = strstr(small, from);
    CHECK_MSG(at != NULL, "no %s in the config", from);
    if (!at) return;
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - small), small, to, at + strlen(from));
    int rc = yd_model_config_parse(text, strlen(text), &c, &err);
    CHECK_MSG(rc == YD_E_CHECKPOINT && strcmp(err.field, field) == 0, "%s: rc %d, field '%s', %s", to, rc, err.field, err.detail);
}

static void bad_fields_are_named(void)
{
    refuses("\"inner_channel\": 8", "\"inner_channel\": 0", "inner_channel");
    refuses("\"inner_channel\": 8", "\"inner_channel\": 7", "inner_channel");
    refuses("\"inner_channel\": 8", "\"inner_channel\": \"8\"", "inner_channel");
    refuses("[1, 2]", "[1, 2, 3, 4, 5, 6, 7, 8, 9]", "channel_multiplier");
    refuses("[1, 2]", "[]", "channel_multiplier");
    refuses("[1, 2]", "[1, -2]", "channel_multiplier");
    refuses("\"mid_attention\": false", "\"mid_attention\": 0", "mid_attention");
    refuses("\"type\": \"sr3\"", "\"type\": \"sr9\"", "type");
    refuses("\"prediction\": \"x0\"", "\"prediction\": \"y\"", "prediction");
    refuses("\"window\": 32", "\"window\": 34", "window");
    refuses("\"overlap\": 8", "\"overlap\": 20", "overlap");
    refuses("\"clip\": 3", "\"clip\": -3", "clip");
    refuses("\"scale\": 4", "\"scael\": 4", "scael");
    refuses("\"steps\": 6", "\"steps\": 1e9", "steps");
    refuses("yoda-model-1", "yoda-model-2", "format");
    // defaults that no job could run with
    refuses("\"attention\": \"edge\"", "\"attention\": \"egde\"", "attention");
    refuses("\"kind\": \"cosine\"", "\"kind\": \"linear\", \"train_steps\": 5", "steps");
    refuses("\"kind\": \"cosine\"", "\"kind\": \"linear\", \"start\": 0.9, \"end\": 0.9", "schedule.end");
    refuses("\"eta\": 0.5", "\"eta\": 0, \"lr_noise\": \"literal\"", "lr_noise");
}

// Half the steps, twice the steps and no mask, unless the config says what fast and best are.
static void profiles(void)
{
    yd_model_config c, again;
    yd_sample_settings set;
    yd_err err = {0};
    char text[4096];
    CHECK(yd_model_config_parse(small, strlen(small), &c, NULL) == 0 && !c.fast.given && !c.best.given);
    yd_model_config_profile(&c, YD_QUALITY_FAST, &set);
    CHECK(set.steps == 3 && set.lower_bound == 0.2 && set.eta == 0.5f);
    yd_model_config_profile(&c, YD_QUALITY_BEST, &set);
    CHECK(set.steps == 12 && set.lower_bound == 1.0);
    yd_model_config_profile(&c, YD_QUALITY_BALANCED, &set);
    CHECK(memcmp(&set, &c.defaults, sizeof set) == 0);
    static const char change[] = "{\"defaults\": {\"eta\": 0.25}, \"profiles\": {\"best\": {\"steps\": 24, \"attention\": \"constant\"}}}";
    CHECK_MSG(yd_model_config_update(&c, change, sizeof change - 1, &err) == 0, "%s", err.detail);
    CHECK(c.best.given && !c.fast.given && c.defaults.steps == 6 && c.noise_input == YD_NOISE_SQRT_1M_GAMMA && c.window == 32);
    yd_model_config_profile(&c, YD_QUALITY_BEST, &set);
    CHECK(set.steps == 24 && set.lower_bound == 0.2 && set.eta == 0.25f && strcmp(set.attention, "constant") == 0);
    const size_t n = yd_model_config_print(&c, text, sizeof text);
    CHECK(n < sizeof text && strstr(text, "\"best\"") && !strstr(text, "\"fast\""));
    CHECK(yd_model_config_parse(text, n, &again, NULL) == 0 && !again.fast.given);
    CHECK(again.best.set.steps == 24 && again.best.set.eta == 0.25f && strcmp(again.best.set.attention, "constant") == 0);
    static const char *const wrong[][2] = {{"{\"profiles\": {\"best\": {\"steps\": 0}}}", "steps"},
                                           {"{\"profiles\": {\"best\": {\"window\": 64}}}", "window"},
                                           {"{\"profiles\": {\"best\": {\"dtype\": \"f32\"}}}", "dtype"},
                                           {"{\"profiles\": {\"best\": 3}}", "profiles.best"},
                                           {"{\"profiles\": {\"good\": {}}}", "good"},
                                           {"{\"profiles\": {\"fast\": {\"attention\": \"egde\"}}}", "attention"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        again = c;
        int rc = yd_model_config_update(&again, wrong[i][0], strlen(wrong[i][0]), &err);
        CHECK_MSG(rc == YD_E_CHECKPOINT && strcmp(err.field, wrong[i][1]) == 0, "%s: rc %d, field '%s'", wrong[i][0], rc, err.field);
        CHECK(memcmp(&again, &c, sizeof c) == 0);
    }
    c.schedule = (yd_schedule_config){.kind = YD_SCHEDULE_LINEAR, .train_steps = 10, .start = 1e-4, .end = 0.1};
    c.best.given = 0;
    yd_model_config_profile(&c, YD_QUALITY_BEST, &set);
    CHECK(set.steps == 10); // all there are
}

static void qualities(void)
{
    yd_quality q = YD_QUALITY_FAST;
    yd_err err = {0};
    for (int i = 0; i < YD_QUALITIES; i++) CHECK(yd_quality_parse(yd_quality_name((yd_quality)i), &q, &err) == 0 && (int)q == i);
    static const char *const wrong[] = {"90", "1e2", "", "Best", "best ", "good"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK(yd_quality_parse(wrong[i], &q, &err) == YD_E_SETTING && strcmp(err.field, "quality") == 0 && q == YD_QUALITY_BEST);
        CHECK(strcmp(err.accepted, "fast, balanced, best") == 0 && (strstr(err.detail, "encode_quality") != NULL) == (i < 2));
    }
}

// Windows are changed as a whole or not at all, and only to what the network can be built for.
static void windows_can_be_changed(void)
{
    static const struct {
        int window, overlap, rc, want_window, want_overlap;
        const char *field;
    } cases[] = {
        {0, -1, 0, 32, 8, ""},  {64, -1, 0, 64, 16, ""},  {64, 0, 0, 64, 0, ""},       {0, 16, 0, 32, 16, ""},
        {20, 10, 0, 20, 10, ""}, {8, -1, 0, 8, 2, ""},    {2048, 1024, 0, 2048, 1024, ""},
        {34, 4, YD_E_SETTING, 32, 8, "window"},  {4, 0, YD_E_SETTING, 32, 8, "window"},  {2052, 8, YD_E_SETTING, 32, 8, "window"},
        {-32, 8, YD_E_SETTING, 32, 8, "window"}, {64, 33, YD_E_SETTING, 32, 8, "overlap"}, {0, 17, YD_E_SETTING, 32, 8, "overlap"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        yd_model_config c;
        yd_err err = {0};
        CHECK(yd_model_config_parse(small, strlen(small), &c, NULL) == 0);
        int rc = yd_model_config_windows(&c, cases[i].window, cases[i].overlap, &err);
        CHECK_MSG(rc == cases[i].rc && strcmp(err.field, cases[i].field) == 0, "case %zu: rc %d, field '%s'", i, rc, err.field);
        CHECK_MSG(c.window == cases[i].want_window && c.overlap == cases[i].want_overlap, "case %zu: %d with %d", i, c.window, c.overlap);
    }
}

static const char public_ddpm[] =
    "{\"name\": \"x\", // as that code writes its configs\n \"model\": {\"which_model_G\": \"ddpm\", \"unet\": {\"in_channel\": 6, \"out_channel\": 3,"
    "\"inner_channel\": 8, \"norm_groups\": 4, \"channel_multiplier\": [1, 2], \"attn_res\": [16], \"res_blocks\": 1, \"dropout\": 0.2},"
    "\"beta_schedule\": {\"val\": {\"schedule\": \"linear\", \"n_timestep\": 50, \"linear_start\": 1e-4, \"linear_end\": 2e-2}},"
    "\"diffusion\": {\"image_size\": 32, \"channels\": 3, \"conditional\": true}}}";

// What the network is told follows its type unless the config says otherwise.
static void network_types(void)
{
    static const struct {
        const char *type, *told;
        yd_net_type want;
        yd_noise_input input;
    } cases[] = {
        {"", "", YD_NET_SR3, YD_NOISE_SQRT_GAMMA},
        {"\"type\": \"ddpm\"", "", YD_NET_DDPM, YD_NOISE_TIMESTEP},
        {"\"type\": \"ddpm\"", "\"noise_input\": \"sqrt_gamma\",", YD_NET_DDPM, YD_NOISE_SQRT_GAMMA},
        {"\"type\": \"sr3\"", "\"noise_input\": \"timestep\",", YD_NET_SR3, YD_NOISE_TIMESTEP},
    };
    yd_model_config c, again;
    char text[4096];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(text, sizeof text, "{%s \"network\": {%s}}", cases[i].told, cases[i].type);
        CHECK(yd_model_config_parse(text, strlen(text), &c, NULL) == 0);
        CHECK_MSG(c.net.type == cases[i].want && c.noise_input == cases[i].input, "case %zu: %d, %d", i, (int)c.net.type, (int)c.noise_input);
        const size_t n = yd_model_config_print(&c, text, sizeof text);
        CHECK(yd_model_config_parse(text, n, &again, NULL) == 0 && again.net.type == c.net.type && again.noise_input == c.noise_input);
    }
    CHECK(yd_model_config_parse(public_ddpm, strlen(public_ddpm), &c, NULL) == 0);
    CHECK(c.net.type == YD_NET_DDPM && c.noise_input == YD_NOISE_TIMESTEP && c.schedule.train_steps == 50 && c.net.inner_channel == 8);
}

// Save a ddpm model as the public code names things; `frequency` scales the buffer it keeps, `prefix` stands before every name.
static void save_as_public(const yd_model *m, const char *p, const char *prefix, float frequency)
{
    yd_graph *g = NULL;
    yd_st_writer *w = yd_st_writer_new();
    char name[160];
    float inv_freq[4];
    CHECK(yd_net_build(&m->cfg.net, m->cfg.window, m->cfg.window, YD_F32, 0, &g, NULL) == 0);
    for (int i = 0; i < m->n_params; i++) {
        const yd_tensor *t = &g->tensors[g->params[i]];
        int64_t dims[4];
        for (int d = 0; d < t->ndim; d++) dims[d] = t->dims[d];
        snprintf(name, sizeof name, "%s%s", prefix, t->name);
        CHECK(yd_st_writer_add(w, name, YD_ST_F32, t->ndim, dims, m->params[i], NULL) == 0);
    }
    for (int k = 0; k < 4; k++) inv_freq[k] = frequency * expf(-logf(1e4f) * (float)k / 4.0f);
    snprintf(name, sizeof name, "%stime_mlp.0.inv_freq", prefix);
    CHECK(yd_st_writer_add(w, name, YD_ST_F32, 1, (const int64_t[]){4}, inv_freq, NULL) == 0);
    CHECK(yd_st_writer_metadata(w, "yoda.config", public_ddpm, NULL) == 0 && yd_st_writer_save(w, p, NULL) == 0);
    yd_st_writer_free(w);
    yd_graph_free(g);
}

static void ddpm_files(void)
{
    yd_model_config c;
    yd_model *m = NULL, *back = NULL;
    yd_err err = {0};
    CHECK(yd_model_config_parse(public_ddpm, strlen(public_ddpm), &c, NULL) == 0 && yd_model_init(&c, 3, 0, &m, NULL) == 0);
    const char *p = temp_path("ddpm.safetensors");
    CHECK(yd_model_save(&c, (const float *const *)m->params, m->n_params, YD_F32, p, &err) == 0);
    CHECK_MSG(yd_model_load(p, &back, &err) == 0 && back->cfg.net.type == YD_NET_DDPM, "%s", err.detail);
    yd_model_free(back);
    for (int prefixed = 0; prefixed < 2; prefixed++) {
        save_as_public(m, p, prefixed ? "denoise_fn." : "", 1.0f);
        CHECK_MSG(yd_model_load(p, &back, &err) == 0 && back->n_params == m->n_params, "%s", err.detail);
        yd_model_free(back);
    }
    save_as_public(m, p, "", 1.05f); // another embedding than this network's
    CHECK(yd_model_load(p, &back, &err) == YD_E_CHECKPOINT && strcmp(err.field, "time_mlp.0.inv_freq") == 0);
    // the file of the one kind with the config of the other
    c.net.type = YD_NET_SR3;
    yd_st_writer *w = yd_st_writer_new();
    char text[4096];
    yd_model_config_print(&c, text, sizeof text);
    const float zero = 0; // borrowed until the file is saved
    CHECK(yd_st_writer_add(w, "time_mlp.1.weight", YD_ST_F32, 1, (const int64_t[]){1}, &zero, NULL) == 0);
    CHECK(yd_st_writer_metadata(w, "yoda.config", text, NULL) == 0 && yd_st_writer_save(w, p, NULL) == 0);
    CHECK(yd_model_load(p, &back, &err) == YD_E_CHECKPOINT && strcmp(err.field, "type") == 0 && strstr(err.detail, "ddpm"));
    yd_st_writer_free(w);
    unlink(p);
    yd_model_free(m);
}

// A name of the worst characters still gives a config that can be read back.
static void any_name_survives_printing(void)
{
    yd_model_config a, b;
    yd_err err = {0};
    char text[4096];
    CHECK(yd_model_config_parse(small, strlen(small), &a, NULL) == 0);
    memset(a.name, 1, sizeof a.name - 1);
    size_t n = yd_model_config_print(&a, text, sizeof text);
    CHECK(n < sizeof text);
    int rc = yd_model_config_parse(text, n, &b, &err);
    CHECK_MSG(rc == 0 && strcmp(a.name, b.name) == 0, "%s", err.detail);
}

static void save_and_load(void)
{
    yd_model_config c;
    yd_model *m = NULL, *back = NULL;
    yd_err err = {0};
    CHECK(yd_model_config_parse(small, strlen(small), &c, NULL) == 0);
    CHECK(yd_model_init(&c, 5, 0, &m, &err) == 0);
    const char *p = temp_path("model.safetensors");
    CHECK(yd_model_save(&c, (const float *const *)m->params, m->n_params, YD_F32, p, &err) == 0);
    int rc = yd_model_load(p, &back, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    if (!back) goto out;
    CHECK(back->n_params == m->n_params && back->param_count == m->param_count && strncmp(back->checksum, "sha256:", 7) == 0);
    yd_graph *g = NULL;
    CHECK(yd_net_build(&c.net, 32, 32, YD_F32, 0, &g, NULL) == 0);
    for (int i = 0; i < m->n_params; i++) {
        size_t n = yd_tensor_numel(&g->tensors[g->params[i]]);
        CHECK_MSG(memcmp(m->params[i], back->params[i], n * sizeof(float)) == 0, "%s", g->tensors[g->params[i]].name);
    }
    yd_model_free(back);
    // 16-bit: within rounding
    CHECK(yd_model_save(&c, (const float *const *)m->params, m->n_params, YD_BF16, p, &err) == 0);
    CHECK(yd_model_load(p, &back, &err) == 0);
    for (int i = 0; back && i < m->n_params; i++) {
        size_t n = yd_tensor_numel(&g->tensors[g->params[i]]);
        for (size_t k = 0; k < n; k++) CHECK(fabsf(m->params[i][k] - back->params[i][k]) <= fabsf(m->params[i][k]) / 256.0f);
    }
    yd_graph_free(g);
out:
    yd_model_free(back);
    yd_model_free(m);
    unlink(path);
}

static void initial_weights_are_a_function_of_the_seed(void)
{
    yd_model_config c;
    yd_model *a = NULL, *b = NULL, *other = NULL;
    CHECK(yd_model_config_parse(small, strlen(small), &c, NULL) == 0);
    CHECK(yd_model_init(&c, 1, 1, &a, NULL) == 0 && yd_model_init(&c, 1, 1, &b, NULL) == 0 && yd_model_init(&c, 2, 1, &other, NULL) == 0);
    yd_graph *g = NULL;
    CHECK(yd_net_build(&c.net, 32, 32, YD_F32, 0, &g, NULL) == 0);
    int differs = 0, zeros = 0;
    for (int i = 0; i < a->n_params; i++) {
        const yd_tensor *t = &g->tensors[g->params[i]];
        size_t bytes = yd_tensor_numel(t) * sizeof(float);
        CHECK(memcmp(a->params[i], b->params[i], bytes) == 0);
        differs += memcmp(a->params[i], other->params[i], bytes) != 0;
        if (strstr(t->name, "block2.block.3.weight") || strcmp(t->name, "final_conv.block.3.weight") == 0) {
            zeros++;
            for (size_t k = 0; k < yd_tensor_numel(t); k++) CHECK(a->params[i][k] == 0.0f);
        }
        if (strstr(t->name, "block1.block.0.weight")) CHECK(a->params[i][0] == 1.0f);
        if (strstr(t->name, "block1.block.0.bias")) CHECK(a->params[i][0] == 0.0f);
    }
    CHECK(differs > 10 && zeros == 9);
    yd_graph_free(g);
    yd_model_free(a);
    yd_model_free(b);
    yd_model_free(other);
}

// One tensor added, one left out, one misshapen, one NaN: each refused by its name.
static void damaged_files_are_refused(void)
{
    yd_model_config c;
    yd_model *m = NULL;
    yd_graph *g = NULL;
    CHECK(yd_model_config_parse(small, strlen(small), &c, NULL) == 0);
    CHECK(yd_model_init(&c, 5, 0, &m, NULL) == 0 && yd_net_build(&c.net, 32, 32, YD_F32, 0, &g, NULL) == 0);
    static const char *const expect[] = {"extra.weight", "downs.0.bias", "downs.0.weight", "mid.0.res_block.block1.block.3.bias"};
    for (int kind = 0; kind < 4; kind++) {
        yd_st_writer *w = yd_st_writer_new();
        yd_st_writer_metadata(w, "yoda.config", small, NULL);
        for (int i = 0; i < g->n_params; i++) {
            const yd_tensor *t = &g->tensors[g->params[i]];
            int64_t dims[4] = {t->dims[0], t->dims[1], t->dims[2], t->dims[3]};
            int hit = strcmp(t->name, expect[kind]) == 0;
            if (kind == 1 && hit) continue;
            if (kind == 2 && hit) dims[0] = t->dims[1], dims[1] = t->dims[0];
            if (kind == 3 && hit) m->params[i][3] = NAN;
            yd_st_writer_add(w, t->name, YD_ST_F32, t->ndim, dims, m->params[i], NULL);
        }
        const float one = 1.0f;
        if (kind == 0) yd_st_writer_add(w, "extra.weight", YD_ST_F32, 1, (const int64_t[]){1}, &one, NULL);
        const char *p = temp_path("broken.safetensors");
        CHECK(yd_st_writer_save(w, p, NULL) == 0);
        yd_st_writer_free(w);
        yd_model *bad = NULL;
        yd_err err = {0};
        int rc = yd_model_load(p, &bad, &err);
        CHECK_MSG(rc == YD_E_CHECKPOINT && bad == NULL && strcmp(err.field, expect[kind]) == 0, "case %d: rc %d field %s", kind, rc, err.field);
        unlink(p);
    }
    yd_graph_free(g);
    yd_model_free(m);
}

// Write a model file whose config and only tensor are given; load it.
static int load_forged(const char *config, int ndim, const int64_t *dims, size_t n, yd_err *err)
{
    float *zeros = yd_calloc(n, sizeof *zeros);
    yd_st_writer *w = yd_st_writer_new();
    const char *p = temp_path("forged.safetensors");
    yd_model *m = NULL;
    CHECK(yd_st_writer_metadata(w, "yoda.config", config, NULL) == 0);
    CHECK(yd_st_writer_add(w, "downs.0.weight", YD_ST_F32, ndim, dims, zeros, NULL) == 0 && yd_st_writer_save(w, p, NULL) == 0);
    yd_st_writer_free(w);
    int rc = yd_model_load(p, &m, err);
    CHECK(m == NULL);
    yd_model_free(m);
    yd_free(zeros);
    unlink(p);
    return rc;
}

// What the config promises is believed only as far as the file has the tensors for it.
static void giant_networks_cost_nothing(void)
{
    static const struct {
        const char *network, *says;
    } cases[] = {
        // within every range, some hundred gigabytes of weights: the file lacks the first tensor already
        {"\"inner_channel\": 504, \"channel_multiplier\": [1, 64, 64, 64], \"res_blocks\": 16", "noise_level_mlp.1.weight"},
        // past what a tensor can have, at 8 levels: 1024*64 channels, concatenated 131072
        {"\"inner_channel\": 1024, \"channel_multiplier\": [64, 64, 64, 64, 64, 64, 64, 64], \"res_blocks\": 16", "131072"},
        // groups that do not divide the channels
        {"\"inner_channel\": 8, \"channel_multiplier\": [1], \"norm_groups\": 1024", "1024 groups"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char config[512];
        yd_err err = {0};
        snprintf(config, sizeof config, "{\"network\": {%s, \"attn_res\": [], \"mid_attention\": false%s}, \"window\": 128}", cases[i].network,
                 strstr(cases[i].network, "norm_groups") ? "" : ", \"norm_groups\": 8");
        int rc = load_forged(config, 4, (const int64_t[]){8, 6, 3, 3}, 432, &err);
        CHECK_MSG(rc == YD_E_CHECKPOINT && strstr(err.detail, cases[i].says), "case %zu: rc %d, %s", i, rc, err.detail);
    }
}

// Every cut of a good file, every byte of its header spoilt, and configs nested too deep: an error each time, never a crash.
static void every_damage_is_an_error(void)
{
    yd_model_config c;
    yd_model *m = NULL, *got = NULL;
    yd_err err;
    void *bytes = NULL;
    size_t len = 0;
    CHECK(yd_model_config_parse(small, strlen(small), &c, NULL) == 0 && yd_model_init(&c, 5, 0, &m, NULL) == 0);
    const char *p = temp_path("damaged.safetensors");
    CHECK(yd_model_save(&c, (const float *const *)m->params, m->n_params, YD_F32, p, NULL) == 0);
    CHECK(yd_file_read(p, 1 << 24, &bytes, &len, NULL) == 0);
    unsigned char *b = bytes;
    size_t header = 8 + (b[0] | (size_t)b[1] << 8 | (size_t)b[2] << 16);
    for (size_t cut = 0; cut < len; cut += cut < 64 ? 1 : len / 61 + 1) {
        CHECK(yd_file_write_atomic(p, bytes, cut, NULL) == 0);
        int rc = yd_model_load(p, &got, &err);
        CHECK_MSG(rc == YD_E_CHECKPOINT && !got && strstr(err.detail, p), "cut at %zu: rc %d", cut, rc);
    }
    for (size_t at = 0; at < header; at += at < 16 ? 1 : 97) {
        unsigned char was = b[at];
        b[at] = (unsigned char)(was ^ 0x5a);
        CHECK(yd_file_write_atomic(p, bytes, len, NULL) == 0);
        if (yd_model_load(p, &got, &err) == 0) yd_model_free(got); // some characters of a name mean nothing
        b[at] = was;
    }
    char deep[256];
    memset(deep, '[', sizeof deep);
    memcpy(deep, "{\"network\": ", 12);
    CHECK(yd_model_config_parse(deep, sizeof deep, &c, &err) == YD_E_CHECKPOINT && strstr(err.detail, "32 deep"));
    yd_free(bytes);
    yd_model_free(m);
    unlink(p);
}

static void missing_file_is_named(void)
{
    yd_model *m = NULL;
    yd_err err = {0};
    int rc = yd_model_load("no/such/model.safetensors", &m, &err);
    CHECK_MSG(rc == YD_E_IO && strstr(err.detail, "no/such/model.safetensors"), "rc %d: %s", rc, err.detail);
}

static void public_checkpoint_is_read(void)
{
    const char *p = t_shared("fixtures/sr3_tiny/weights.safetensors");
    if (!p) {
        t_skip("fixtures/sr3_tiny is not there");
        return;
    }
    yd_model *m = NULL;
    yd_err err = {0};
    int rc = yd_model_load(p, &m, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    if (m) {
        CHECK(m->cfg.net.inner_channel == 16 && m->cfg.net.norm_groups == 8 && m->cfg.net.mid_attention == 1 && m->cfg.window == 32);
        CHECK(m->cfg.schedule.train_steps == 12 && m->cfg.prediction == YD_PREDICT_EPS);
    }
    yd_model_free(m);
}

static void out_of_memory_is_an_error(void)
{
    yd_model_config c;
    CHECK(yd_model_config_parse(small, strlen(small), &c, NULL) == 0);
    int failures = 0;
    for (long k = 1; k < 2000; k++) {
        yd_model *m = NULL;
        yd_mem_fail_at(k);
        int rc = yd_model_init(&c, 1, 1, &m, NULL);
        yd_mem_fail_at(0);
        yd_model_free(m);
        if (rc == 0) break;
        CHECK(rc == YD_E_NOMEM);
        failures++;
    }
    CHECK(failures > 20 && failures < 1999);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"a model config is read", config_is_read},
        {"mask_input is kept, and goes with late masks", mask_input},
        {"a config survives printing", config_survives_printing},
        {"bad fields are named", bad_fields_are_named},
        {"profiles: given, derived, laid over, refused", profiles},
        {"quality is a profile's name", qualities},
        {"windows can be changed to what the network allows", windows_can_be_changed},
        {"what a network is told follows its type", network_types},
        {"ddpm files: saved, as the public code names them, wrong ones refused", ddpm_files},
        {"a model survives saving and loading", save_and_load},
        {"initial weights are a function of the seed", initial_weights_are_a_function_of_the_seed},
        {"damaged model files are refused by the tensor's name", damaged_files_are_refused},
        {"any name survives printing", any_name_survives_printing},
        {"a giant network that the file does not hold costs nothing", giant_networks_cost_nothing},
        {"every damage to a file is an error", every_damage_is_an_error},
        {"a missing model file is named", missing_file_is_named},
        {"a public SR3 checkpoint with its own config is read", public_checkpoint_is_read},
        {"every failing allocation is an error", out_of_memory_is_an_error},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
