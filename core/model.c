// Loading and making models: the file's tensors matched one by one against the network that its config describes.
//
// Owns the parameters of a yd_model (f32, host). A file must hold every parameter in its shape; names may stand under
// other words, as public checkpoints' do. Anything else in the file is refused, except the noise schedule's buffers, which public
// checkpoints carry and the config replaces, and ddpm's frequencies, which are checked. Loading blocks on the disk; a loaded model is
// read-only. The file is mapped and its weights copied out, while other threads work out its checksum and check the one that it may carry.
// Read next: core/model_write.c, core/net_unet.c, core/engine.c.
#include "core/attention_net.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/model.h"
#include "core/model_parts.h"
#include "core/model_srdiff.h"
#include "core/rng.h"
#include "core/seal.h"
#include "core/sha256.h"
#include "core/simd.h"
#include "core/tensors.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CONFIG_MAX_BYTES ((size_t)1 << 20)
#define YD_FREQUENCIES   "time_mlp.0.inv_freq"

// What stands before a network's names is dropped, whatever it is; see model_public.h.
static const yd_st_tensor *find_param(const yd_safetensors *st, const char *prefix, const char *name)
{
    char prefixed[320];
    const yd_st_tensor *t = yd_st_find(st, name);
    if (t || !*prefix) return t;
    snprintf(prefixed, sizeof prefixed, "%s%s", prefix, name);
    return yd_st_find(st, prefixed);
}

// No such tensor: told by the longer name where something stands on the way to it.
static int missing(const yd_safetensors *st, const char *prefix, const char *name, yd_err *err)
{
    char prefixed[320];
    snprintf(prefixed, sizeof prefixed, "%s%s", prefix, name);
    return yd_tensors_missing(st, prefixed, err);
}

static int same_dims(const yd_st_tensor *t, const yd_tensor *p)
{
    if (t->ndim != p->ndim) return 0;
    for (int i = 0; i < p->ndim; i++)
        if (t->dims[i] != p->dims[i]) return 0;
    return 1;
}

static int new_param(yd_model *m, int i, size_t n, yd_err *err)
{
    m->params[i] = yd_alloc_aligned(n * sizeof(float));
    if (!m->params[i]) return yd_fail(err, YD_E_NOMEM, "no memory for a model's weights");
    m->param_count += n;
    return 0;
}

static int new_list(yd_model *m, const yd_graph *g, yd_err *err)
{
    m->n_params = g->n_params;
    m->params = yd_calloc((size_t)g->n_params, sizeof *m->params);
    return m->params ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for a model");
}

// Without a way out of the loop, so that it is done many at a time: the largest exponent is that of NaN and Inf alone.
YD_SIMD static int all_finite(const float *v, size_t n)
{
    uint32_t found = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        found |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !found;
}

// Memory is taken tensor by tensor, each when the file is known to hold it: a config that promises a giant network costs nothing.
static int read_params(yd_model *m, const yd_graph *g, const yd_safetensors *st, const char *prefix, yd_err *err)
{
    int rc = new_list(m, g, err);
    if (rc) return rc;
    for (int i = 0; i < g->n_params; i++) {
        const yd_tensor *p = &g->tensors[g->params[i]];
        const yd_st_tensor *t = find_param(st, prefix, p->name);
        if (!t) return missing(st, prefix, p->name, err);
        if (!same_dims(t, p))
            return yd_fail_field(err, YD_E_CHECKPOINT, p->name, "", "tensor %s does not have the shape that the model's config asks for", p->name);
        rc = new_param(m, i, t->numel, err);
        if (!rc) rc = yd_st_to_f32(t, m->params[i], err);
        if (rc) return rc;
        if (!all_finite(m->params[i], t->numel))
            return yd_fail_field(err, YD_E_CHECKPOINT, p->name, "finite numbers", "tensor %s holds NaN or Inf", p->name);
    }
    return 0;
}

// ddpm's public code keeps the frequencies of its embedding in the file. They are what the network computes anyway, or it is another network.
static int check_frequencies(const yd_net_config *net, const yd_st_tensor *t, yd_err *err)
{
    float f[512];
    const size_t n = (size_t)net->inner_channel / 2;
    int same = n <= sizeof f / sizeof f[0] && t->numel == n && yd_st_to_f32(t, f, NULL) == 0;
    for (size_t k = 0; same && k < n; k++) {
        const double want = exp(-log(1e4) * (double)k / (double)n);
        same = fabs((double)f[k] - want) <= 1e-2 * want; // 16-bit files keep them to three digits
    }
    if (same) return 0;
    return yd_fail_field(err, YD_E_CHECKPOINT, t->name, "exp(-ln(10000) k/n), k = 0..n-1", "tensor %s holds other frequencies than this network's",
                         t->name);
}

// A config of the one kind beside a file of the other: said in one line, where the list of missing tensors would say it badly.
static int check_type(const yd_net_config *net, const yd_safetensors *st, const char *prefix, yd_err *err)
{
    static const struct {
        const char *name, *key;
    } types[] = {[YD_NET_SR3] = {"sr3", "noise_level_mlp.1.weight"}, [YD_NET_DDPM] = {"ddpm", "time_mlp.1.weight"}};
    if (net->type == YD_NET_SRDIFF) return 0;
    const int mine = (int)net->type, other = mine == YD_NET_SR3 ? YD_NET_DDPM : YD_NET_SR3;
    if (find_param(st, prefix, types[mine].key) || !find_param(st, prefix, types[other].key)) return 0;
    return yd_fail_field(err, YD_E_CHECKPOINT, "type", types[other].name, "its config says %s, but the file holds %s, so it is a %s network",
                         types[mine].name, types[other].key, types[other].name);
}

int yd_model_expects(const yd_net_config *net, const yd_graph *g, const yd_public_net *at, const char *name)
{
    const size_t root = strlen(at->root), prefix = strlen(at->prefix);
    if (strncmp(name, at->root, root) != 0) return 1; // above the root stand optimizers and the like
    if (strncmp(name, YD_MAP_PREFIX, sizeof YD_MAP_PREFIX - 1) == 0) return 1; // core/learned_map.c looks after these
    const char *bare = strncmp(name, at->prefix, prefix) == 0 ? name + prefix : name + root;
    if (net->type == YD_NET_DDPM && strcmp(bare, YD_FREQUENCIES) == 0) return 1;
    if (net->type == YD_NET_SRDIFF && yd_srdiff_is_tail(bare)) return 1;
    const yd_tid t = yd_graph_find(g, bare);
    return (t >= 0 && g->tensors[t].kind == YD_T_PARAM) || yd_public_is_buffer(name + root);
}

// Every tensor below the root must be the network's, or one that is known to stand beside it.
static int refuse_unexpected(const yd_net_config *net, const yd_graph *g, const yd_safetensors *st, const yd_public_net *at, yd_err *err)
{
    for (size_t i = 0; i < yd_st_count(st); i++) {
        const char *name = yd_st_at(st, i)->name;
        if (!yd_model_expects(net, g, at, name))
            return yd_fail_field(err, YD_E_CHECKPOINT, name, "", "the model file holds the tensor %s, which its network does not have", name);
    }
    const yd_st_tensor *f = net->type == YD_NET_DDPM ? find_param(st, at->prefix, YD_FREQUENCIES) : NULL;
    return f ? check_frequencies(net, f, err) : 0;
}

// Length of a path without the ending of a model file.
static size_t stem_length(const char *path)
{
    static const char *const endings[] = {".safetensors", ".pth", ".pt", ".ckpt"};
    const size_t n = strlen(path);
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        const size_t k = strlen(endings[i]);
        if (n > k && strcmp(path + n - k, endings[i]) == 0) return n - k;
    }
    return n;
}

// The config's text: the one asked for, inside the file, beside it under the same name, or config.json in its folder. *text is released
// with yd_free, and NULL where there is none.
static int find_config(const char *path, const char *config, const yd_safetensors *st, char **text, size_t *len, yd_err *err)
{
    const char *inside = yd_st_metadata(st, "yoda.config");
    char beside[560];
    void *bytes = NULL;
    *text = NULL;
    if (config) {
        int rc = yd_file_read(config, CONFIG_MAX_BYTES, &bytes, len, err);
        *text = bytes;
        return rc;
    }
    if (inside) {
        *text = yd_strdup(inside);
        *len = strlen(inside);
        return *text ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for a model's config");
    }
    snprintf(beside, sizeof beside, "%.*s.json", (int)stem_length(path), path);
    if (yd_file_read(beside, CONFIG_MAX_BYTES, &bytes, len, NULL)) {
        const char *slash = strrchr(path, '/');
        snprintf(beside, sizeof beside, "%.*sconfig.json", slash ? (int)(slash - path + 1) : 0, path);
        if (yd_file_read(beside, CONFIG_MAX_BYTES, &bytes, len, NULL)) return 0;
    }
    *text = bytes;
    return 0;
}

static int load_srdiff(yd_model *m, const yd_safetensors *st, yd_public_net *at, yd_err *err)
{
    int rc = yd_srdiff_detect(st, at, err);
    if (!rc) rc = yd_srdiff_settle(at, &m->cfg, m->assumed, sizeof m->assumed, err);
    return rc ? rc : yd_public_check_buffers(st, at, &m->cfg, err);
}

// The config, and where the network stands in the file. One of the public code, or none, is completed by what the tensors say.
static int load_config(yd_model *m, const char *config, const yd_safetensors *st, yd_public_net *at, yd_err *err)
{
    char *text = NULL;
    size_t len = 0;
    int rc = find_config(m->path, config, st, &text, &len, err), found = 0, srdiff = 0;
    const int given = text != NULL;
    if (!rc && given) rc = yd_model_config_parse(text, len, &m->cfg, err);
    else if (!rc) yd_model_config_init(&m->cfg);
    yd_free(text);
    if (!rc) rc = found = yd_public_locate(st, at, err);
    if (!rc) rc = srdiff = yd_srdiff_locate(st, at, err);
    if (rc < 0) return rc;
    if (given && !m->cfg.from.is_public) return 0;
    if (srdiff) return load_srdiff(m, st, at, err);
    if (!found && !given) return yd_fail(err, YD_E_CHECKPOINT, "it has no \"yoda.config\" inside, no config is beside it, and it is no network of the public SR3 or SRDiff code");
    if (!found) return 0; // what is missing is named when the tensors are read
    rc = yd_public_detect(st, at, err);
    if (!rc) rc = yd_public_settle(at, &m->cfg, m->assumed, sizeof m->assumed, err);
    return rc ? rc : yd_public_check_buffers(st, at, &m->cfg, err);
}

// The file's tensors as the weights of the network that the model's config describes.
static int load_weights(yd_model *m, const yd_safetensors *st, const yd_public_net *at, yd_err *err)
{
    yd_graph *g = NULL;
    int rc = check_type(&m->cfg.net, st, at->prefix, err);
    if (!rc) rc = yd_net_build(&m->cfg.net, m->cfg.window, m->cfg.window, YD_F32, 0, &g, err);
    if (!rc) rc = read_params(m, g, st, at->prefix, err);
    if (!rc) rc = refuse_unexpected(&m->cfg.net, g, st, at, err);
    yd_graph_free(g);
    return rc;
}

// What is worked out about a file's bytes meanwhile, each on a thread of its own: their checksum, and whether that which the file carries holds.
typedef struct hashing {
    const void *bytes;
    size_t len;
    size_t seal; // where the carried one stands; 0: work out the checksum
    char hex[65];
    int rc;
    yd_err why;
    pthread_t thread;
    int running;
} hashing;

static void *hash(void *arg)
{
    hashing *h = arg;
    if (h->seal) h->rc = yd_seal_check(h->bytes, h->len, h->seal, &h->why);
    else yd_sha256_hex(h->bytes, h->len, h->hex);
    return NULL;
}

static void hash_start(hashing *h, const yd_safetensors *st, size_t seal)
{
    *h = (hashing){.seal = seal};
    h->bytes = yd_st_bytes(st, &h->len);
    h->running = pthread_create(&h->thread, NULL, hash, h) == 0;
}

static void hash_end(hashing *h)
{
    if (h->running) pthread_join(h->thread, NULL);
    else hash(h); // no thread was to be had
}

// The model that a file holds, and its checksum. A file that carries one and is damaged is called that, whatever else is wrong with it.
static int load_checked(yd_model *m, const char *config, const yd_safetensors *st, yd_err *err)
{
    hashing whole, sealed;
    yd_public_net at = {.root = ""};
    size_t place = 0;
    int rc = yd_seal_find(st, &place, err);
    const int has_seal = rc > 0;
    if (rc < 0) return rc;
    hash_start(&whole, st, 0);
    if (has_seal) hash_start(&sealed, st, place);
    rc = yd_model_from_tensors(m, config, st, &at, err);
    if (!rc) rc = yd_map_net_read(st, m->cfg.scale, &m->map_net, err);
    m->cfg.map_net = m->map_net;
    hash_end(&whole);
    snprintf(m->checksum, sizeof m->checksum, "sha256:%s", whole.hex);
    if (!has_seal) return rc;
    hash_end(&sealed);
    return sealed.rc ? yd_fail_field(err, sealed.rc, sealed.why.field, sealed.why.accepted, "%s", sealed.why.detail) : rc;
}

int yd_model_config_from_tensors(yd_model *m, const char *config, const yd_safetensors *st, yd_public_net *at, yd_err *err)
{
    return load_config(m, config, st, at, err);
}

int yd_model_weights_from_tensors(yd_model *m, const yd_safetensors *st, const yd_public_net *at, yd_err *err)
{
    return load_weights(m, st, at, err);
}

const yd_st_tensor *yd_model_find_param(const yd_safetensors *st, const char *prefix, const char *name)
{
    return find_param(st, prefix, name);
}

int yd_model_from_tensors(yd_model *m, const char *config, const yd_safetensors *st, yd_public_net *at, yd_err *err)
{
    const int rc = load_config(m, config, st, at, err);
    return rc ? rc : load_weights(m, st, at, err);
}

int yd_model_load(const char *path, yd_model **out, yd_err *err)
{
    return yd_model_load_with(path, NULL, out, err);
}

int yd_model_load_with(const char *path, const char *config, yd_model **out, yd_err *err)
{
    yd_safetensors *st = NULL;
    yd_err why = {0};
    size_t len;
    *out = NULL;
    if (strlen(path) >= sizeof((yd_model *)0)->path) return yd_fail(err, YD_E_IO, "the model's path is longer than 511 bytes");
    int rc = yd_tensors_open(path, &st, err);
    if (rc) return rc;
    yd_model *m = yd_calloc(1, sizeof *m);
    (void)yd_st_bytes(st, &len);
    if (!m) rc = yd_fail(&why, YD_E_NOMEM, "no memory for a model");
    else if (len > MODEL_MAX_BYTES) rc = yd_fail(&why, YD_E_INVALID, "more than 4 GiB");
    if (!rc) {
        snprintf(m->path, sizeof m->path, "%s", path);
        rc = load_checked(m, config, st, &why);
    }
    yd_st_close(st);
    if (rc) {
        yd_fail_field(err, rc, why.field, why.accepted, "%.200s: %s", path, why.detail);
        yd_model_free(m);
        return rc;
    }
    *out = m;
    return 0;
}

int yd_model_peek(const char *path, yd_model_config *out, yd_err *err)
{
    yd_safetensors *st = NULL;
    yd_public_net at = {.root = ""};
    yd_model m = {.n_params = 0};
    if (strlen(path) >= sizeof m.path) return yd_fail(err, YD_E_IO, "the model's path is longer than 511 bytes");
    yd_attention_net_kind kind;
    int rc = yd_tensors_open(path, &st, err);
    if (rc) return rc;
    snprintf(m.path, sizeof m.path, "%s", path);
    if (yd_attention_net_recognise(st, &kind))
        rc = yd_fail(err, YD_E_UNSUPPORTED, "it is a network for attention maps");
    else
        rc = load_config(&m, NULL, st, &at, err);
    yd_st_close(st);
    if (!rc) *out = m.cfg;
    return rc;
}

void yd_model_free(yd_model *m)
{
    if (!m) return;
    for (int i = 0; m->params && i < m->n_params; i++) yd_free_aligned(m->params[i]);
    yd_free(m->params);
    yd_free(m->map_net);
    yd_free(m);
}

static int ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

// The layers that start at zero make every residual block the identity and the first prediction 0.
static int starts_at_zero(const char *name)
{
    return strstr(name, "block2.block.3.") || strstr(name, "final_conv.block.3.");
}

// Uniform in +-1/sqrt(fan_in), the customary initialisation of convolutions and linear layers; norms start as the identity.
static void init_param(const yd_graph *g, int i, uint64_t seed, int zero_init, float *dst)
{
    const yd_tensor *p = &g->tensors[g->params[i]];
    const size_t n = yd_tensor_numel(p);
    int is_norm = strstr(p->name, ".block.0.") || strstr(p->name, ".attn.norm.");
    if (is_norm || (zero_init && starts_at_zero(p->name))) {
        float v = is_norm && ends_with(p->name, ".weight") ? 1.0f : 0.0f;
        for (size_t k = 0; k < n; k++) dst[k] = v;
        return;
    }
    // a bias follows its weight, whose second and later dimensions are the fan-in
    const yd_tensor *weight = p->ndim == 1 && i > 0 ? &g->tensors[g->params[i - 1]] : p;
    size_t fan = 1;
    for (int d = 1; d < weight->ndim; d++) fan *= (size_t)weight->dims[d];
    const float bound = 1.0f / sqrtf((float)fan);
    for (size_t k = 0; k < n; k++) dst[k] = (2.0f * yd_rng_uniform(seed, (uint32_t)i, k, 0) - 1.0f) * bound;
}

int yd_model_init(const yd_model_config *cfg, uint64_t seed, int zero_init, yd_model **out, yd_err *err)
{
    yd_graph *g = NULL;
    *out = NULL;
    int rc = yd_net_build(&cfg->net, cfg->window, cfg->window, YD_F32, 0, &g, err);
    if (rc) return rc;
    yd_model *m = yd_calloc(1, sizeof *m);
    if (!m) rc = yd_fail(err, YD_E_NOMEM, "no memory for a model");
    else rc = new_list(m, g, err);
    for (int i = 0; i < g->n_params && !rc; i++) rc = new_param(m, i, yd_tensor_numel(&g->tensors[g->params[i]]), err);
    if (rc) {
        yd_model_free(m);
    } else {
        m->cfg = *cfg;
        for (int i = 0; i < g->n_params; i++) init_param(g, i, seed, zero_init, m->params[i]);
        *out = m;
    }
    yd_graph_free(g);
    return rc;
}
