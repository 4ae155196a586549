// What a job keeps for a network with an encoder: the picture in its own size, and by window what the encoder made of its part.
//
// A window sees its own part of the picture alone, as the network alone would see a picture of that size; so the features of a window
// follow from the picture and the weights, whenever and beside whatever else they are made, and a job of one window is the network's own
// algorithm. They are made when a window is first run, and kept for all its steps: 4 * inner_channel bytes for each of its pixels, by far the
// most that such a job takes. Threads: as yd_sampler_gather. Read next: core/engine.c.
#include "core/sampler_internal.h"

#include "core/mem.h"

#include <string.h>

static size_t feature_count(const yd_model_config *cfg)
{
    const int h = cfg->window_height ? cfg->window_height : cfg->window;
    return (size_t)cfg->window * (size_t)h * (size_t)cfg->net.inner_channel;
}

size_t yd_sampler_encoder_bytes(const yd_model_config *cfg, int w, int h)
{
    const int wh = cfg->window_height ? cfg->window_height : cfg->window;
    if (!yd_net_has_encoder(&cfg->net)) return 0;
    const size_t windows = (size_t)yd_windows_along(w, cfg->window, cfg->overlap) * (size_t)yd_windows_along(h, wh, cfg->overlap);
    const size_t lr = (size_t)(w / cfg->net.up_scale) * (size_t)(h / cfg->net.up_scale) * 3 * sizeof(uint16_t);
    return lr + windows * (feature_count(cfg) * sizeof(float) + 1);
}

int yd_sampler_encoder_new(yd_sampler *s, const uint16_t *lr, yd_err *err)
{
    const size_t windows = (size_t)yd_windows_count(&s->win), up = (size_t)s->cfg.net.up_scale;
    const size_t samples = (size_t)s->w / up * ((size_t)s->h / up) * 3;
    size_t bytes;
    if (!lr) return yd_fail(err, YD_E_INTERNAL, "this model's network wants the picture itself, which it is not given");
    if (yd_mul_size(windows, feature_count(&s->cfg) * sizeof(float), &bytes)) bytes = SIZE_MAX / 2; // as good as none
    s->lr = yd_malloc(samples * sizeof *s->lr);
    s->features = yd_alloc_aligned(bytes);
    s->encoded = yd_calloc(windows, 1);
    if (!s->lr || !s->features || !s->encoded)
        return yd_fail(err, YD_E_NOMEM, "no memory for what the network's encoder makes of %dx%d pixels", s->w, s->h);
    memcpy(s->lr, lr, samples * sizeof *lr);
    return 0;
}

void yd_sampler_encoder_free(yd_sampler *s)
{
    yd_free(s->lr);
    yd_free_aligned(s->features);
    yd_free(s->encoded);
}

const float *yd_sampler_features(const yd_sampler *s, const yd_unit *u)
{
    return s->encoded && s->encoded[u->window] ? s->features + (size_t)u->window * feature_count(&s->cfg) : NULL;
}

void yd_sampler_gather_lr(const yd_sampler *s, const yd_unit *u, float *lr)
{
    const int up = s->cfg.net.up_scale, w = s->w / up, h = s->h / up, x0 = u->x / up, y0 = u->y / up;
    for (int dy = 0; dy < s->win.window_h / up; dy++) {
        const uint16_t *row = s->lr + (size_t)yd_sampler_reflect(y0 + dy, h) * (size_t)w * 3;
        for (int dx = 0; dx < s->win.window_w / up; dx++) {
            const uint16_t *p = row + (size_t)yd_sampler_reflect(x0 + dx, w) * 3;
            for (int c = 0; c < 3; c++) *lr++ = (float)(p[c] / 65535.0); // of a byte v, held as v * 257, what v / 255 rounds to
        }
    }
}

void yd_sampler_keep_features(yd_sampler *s, const yd_unit *u, const float *features)
{
    memcpy(s->features + (size_t)u->window * feature_count(&s->cfg), features, feature_count(&s->cfg) * sizeof *features);
    s->encoded[u->window] = 1;
}
