// The learned attention map: its convolutions and its training against plain loops and finite sense, squares against the whole, its file.
#include "core/attention.h"
#include "core/mem.h"
#include "core/model.h"
#include "core/rng.h"
#include "core/train/internal.h"
#include "t.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void random_net(yd_map_net *net, int reduce)
{
    memset(net, 0, sizeof *net);
    net->reduce = reduce;
    for (int l = 0; l < YD_MAP_LAYERS; l++) {
        const int in = yd_map_channels(l), out = yd_map_channels(l + 1);
        for (int i = 0; i < 9 * in * out; i++) net->weight[l][i] = 0.6f * (yd_rng_uniform(7, (uint32_t)l, (uint64_t)i, 0) - 0.5f);
        for (int o = 0; o < out; o++) net->bias[l][o] = 0.2f * (yd_rng_uniform(7, (uint32_t)l, (uint64_t)o, 1) - 0.5f);
    }
}

static uint8_t *random_picture(int w, int h)
{
    uint8_t *rgb = malloc((size_t)(w * h * 3));
    for (int i = 0; i < w * h * 3; i++) rgb[i] = (uint8_t)(yd_rng_uniform(3, 1, (uint64_t)i, 0) * 256.0f);
    return rgb;
}

// The value at one place by recursion over the definition, in double.
static double by_definition(const yd_map_net *net, const uint8_t *rgb, int w, int h, int layer, int x, int y, int o)
{
    if (layer == 0) {
        const int lw = (w + net->reduce - 1) / net->reduce, lh = (h + net->reduce - 1) / net->reduce;
        double sum = 0;
        int n = 0;
        x = x < 0 ? 0 : x >= lw ? lw - 1 : x;
        y = y < 0 ? 0 : y >= lh ? lh - 1 : y;
        for (int v = y * net->reduce; v < (y + 1) * net->reduce && v < h; v++)
            for (int u = x * net->reduce; u < (x + 1) * net->reduce && u < w; u++, n++) sum += rgb[(v * w + u) * 3 + o];
        return sum / n / 127.5 - 1;
    }
    const int in = yd_map_channels(layer - 1), out = yd_map_channels(layer);
    double sum = (double)net->bias[layer - 1][o];
    for (int t = 0; t < 9; t++)
        for (int i = 0; i < in; i++)
            sum += (double)net->weight[layer - 1][(t * in + i) * out + o] * by_definition(net, rgb, w, h, layer - 1, x + t % 3 - 1, y + t / 3 - 1, i);
    return layer < YD_MAP_LAYERS && sum < 0 ? 0.1 * sum : sum;
}

// Only the last layers differ from zero, so that the recursion stays small: two layers deep everything is met.
static void test_definition(void)
{
    enum { W = 10, H = 7 };
    yd_map_net net;
    random_net(&net, 1);
    for (int l = 2; l < YD_MAP_LAYERS; l++) // hand the first channel through
        for (int i = 0; i < 9 * YD_MAP_WIDTH * YD_MAP_WIDTH; i++) net.weight[l][i] = 0.0f;
    for (int l = 2; l < YD_MAP_LAYERS; l++) net.weight[l][4 * YD_MAP_WIDTH * yd_map_channels(l + 1)] = 1.0f, memset(net.bias[l], 0, sizeof net.bias[l]);
    uint8_t *rgb = random_picture(W, H);
    float map[W * H];
    CHECK(yd_map_net_run(&net, rgb, W, H, map, NULL) == 0);
    double worst = 0;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            double z = by_definition(&net, rgb, W, H, 2, x, y, 0);
            for (int l = 2; l < YD_MAP_LAYERS - 1; l++) z = z < 0 ? 0.1 * z : z;
            worst = fmax(worst, fabs(1 / (1 + exp(-z)) - (double)map[y * W + x]));
        }
    CHECK_MSG(worst < 1e-6, "%g from the definition", worst);
    free(rgb);
}

// A picture of several squares: the inside of a part equals the part of the inside, bit for bit.
static void test_parts(void)
{
    enum { W = 332, H = 296, X = 40, Y = 24, PW = 240, PH = 232, R = 4, EDGE = (YD_MAP_HALO + 1) * R };
    yd_map_net net;
    random_net(&net, R);
    uint8_t *rgb = random_picture(W, H), *part = malloc(PW * PH * 3);
    float *map = malloc(W * H * sizeof *map), *of_part = malloc(PW * PH * sizeof *of_part);
    for (int y = 0; y < PH; y++) memcpy(part + y * PW * 3, rgb + ((Y + y) * W + X) * 3, PW * 3);
    CHECK(yd_map_net_run(&net, rgb, W, H, map, NULL) == 0 && yd_map_net_run(&net, part, PW, PH, of_part, NULL) == 0);
    long differ = 0;
    for (int y = EDGE; y < PH - EDGE; y++)
        for (int x = EDGE; x < PW - EDGE; x++) differ += memcmp(&map[(Y + y) * W + X + x], &of_part[y * PW + x], sizeof *map) != 0;
    CHECK_MSG(differ == 0, "%ld values differ", differ);
    free(rgb);
    free(part);
    free(map);
    free(of_part);
}

static void test_sizes(void)
{
    static const int sizes[][2] = {{1, 1}, {1, 9}, {9, 1}, {3, 5}, {255, 257}, {260, 4}};
    yd_map_net net;
    random_net(&net, 4);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int w = sizes[i][0], h = sizes[i][1];
        uint8_t *rgb = random_picture(w, h);
        float *map = malloc((size_t)(w * h) * sizeof *map);
        int bad = 0;
        CHECK(yd_map_net_run(&net, rgb, w, h, map, NULL) == 0);
        for (int k = 0; k < w * h; k++) bad += !(map[k] >= 0.0f && map[k] <= 1.0f);
        CHECK_MSG(bad == 0, "%dx%d: %d values outside [0,1]", w, h, bad);
        free(rgb);
        free(map);
    }
}

static void test_without_a_net(void)
{
    const yd_attention_with none = {0};
    yd_err err = {0};
    uint8_t rgb[3] = {0};
    float map[1];
    CHECK(yd_attention_check("learned", NULL) == 0);
    CHECK(yd_attention_compute("learned", &none, rgb, 1, 1, map, &err) == YD_E_SETTING);
    CHECK(strcmp(err.field, "attention") == 0 && strstr(err.accepted, "edge") && !strstr(err.accepted, "learned"));
}

static int config(yd_train_config *c)
{
    static const char text[] = "{\"model\": {\"format\": \"yoda-model-1\", \"name\": \"m\", \"network\": {\"type\": \"sr3\", \"in_channel\": 6, "
                               "\"out_channel\": 3, \"inner_channel\": 8, \"channel_multiplier\": [1], \"res_blocks\": 1, \"norm_groups\": 4, \"attn_res\": [], "
                               "\"image_size\": 32, \"mid_attention\": false}, \"scale\": 4, \"window\": 32, \"overlap\": 4}, "
                               "\"data\": {\"synthetic\": 6}, \"out\": \"x.safetensors\", \"crop\": 32, \"seed\": 5}";
    return yd_train_config_parse(text, sizeof text - 1, c, NULL);
}

// It learns, the same bytes every time, and goes into a file without touching what is there.
static void test_training_and_file(void)
{
    char folder[] = "/tmp/yoda-map-XXXXXX", plain[64], with[64];
    yd_train_config c;
    static yd_map_net a, b;
    yd_map_result first, later;
    yd_map_options opt = {.iterations = 3};
    yd_model *m = NULL, *back = NULL;
    CHECK(mkdtemp(folder) && config(&c) == 0);
    snprintf(plain, sizeof plain, "%s/a.safetensors", folder);
    snprintf(with, sizeof with, "%s/b.safetensors", folder);
    CHECK(yd_train_map(&c, &opt, &a, &first, NULL) == 0 && yd_train_map(&c, &opt, &b, &first, NULL) == 0);
    CHECK(memcmp(&a, &b, sizeof a) == 0);
    opt.iterations = 60;
    CHECK(yd_train_map(&c, &opt, &a, &later, NULL) == 0);
    CHECK_MSG(later.loss < 0.8 * first.loss, "the loss went from %g to %g", first.loss, later.loss);
    CHECK(yd_model_init(&c.model, 1, 0, &m, NULL) == 0);
    CHECK(yd_model_save(&m->cfg, (const float *const *)m->params, m->n_params, YD_F32, plain, NULL) == 0);
    CHECK(yd_model_put_map(plain, with, &a, NULL) == 0 && yd_model_load(with, &back, NULL) == 0);
    CHECK(back && back->map_net && memcmp(back->map_net, &a, sizeof a) == 0 && back->cfg.map_net == back->map_net);
    yd_graph *g = NULL;
    CHECK(yd_net_build(&m->cfg.net, 32, 32, YD_F32, 0, &g, NULL) == 0);
    for (int i = 0; back && i < m->n_params; i++)
        CHECK(memcmp(m->params[i], back->params[i], yd_tensor_numel(&g->tensors[g->params[i]]) * sizeof(float)) == 0);
    CHECK(yd_model_put_map(with, with, &b, NULL) == 0); // replaces
    yd_graph_free(g);
    yd_model_free(back);
    CHECK(yd_model_load(with, &back, NULL) == 0 && memcmp(back->map_net, &b, sizeof b) == 0);
    yd_model_free(back);
    yd_model_free(m);
    unlink(plain);
    unlink(with);
    rmdir(folder);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"learned map: the definition", test_definition},
        {"learned map: a part's inside is the whole's", test_parts},
        {"learned map: any size, within [0,1]", test_sizes},
        {"learned map: refused without a network", test_without_a_net},
        {"learned map: training repeats itself, the file keeps the rest", test_training_and_file},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
