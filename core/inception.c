// FID's features on the trunk of core/inception_net.c: pixels in, 2048 numbers out.
//
// The trunk is prepared once, since its input has one size; it keeps packed weights, so that the ones that were read are dropped. The
// mean over the last map is summed in double.
#include "core/inception.h"

#include "core/inception_net.h"
#include "core/mem.h"

enum { SIDE = YD_INCEPTION_SIDE, CHANNELS = 3 };

struct yd_inception {
    yd_inception_net net;
    yd_trunk *trunk;
};

void yd_inception_close(yd_inception *p)
{
    if (!p) return;
    yd_trunk_free(p->trunk);
    yd_inception_net_clear(&p->net);
    yd_free(p);
}

int yd_inception_open(const char *path, yd_inception **out, yd_err *err)
{
    yd_inception *p = yd_calloc(1, sizeof *p);
    if (!p) return yd_fail(err, YD_E_NOMEM, "no memory to open %s", path);
    int rc = yd_inception_net_read(&p->net, path, err);
    if (!rc) rc = yd_trunk_new(p->net.steps, p->net.n_steps, 0, &p->trunk, err);
    if (!rc) rc = yd_trunk_prepare(p->trunk, 1, SIDE, SIDE, err);
    if (rc) {
        yd_inception_close(p);
        return rc;
    }
    yd_inception_net_drop_weights(&p->net);
    *out = p;
    return YD_OK;
}

typedef struct place { // between two pixels of a line
    int first, second;
    float share; // of the second
} place;

static place place_of(int i, int in)
{
    double at = (i + 0.5) * in / SIDE - 0.5;
    if (at < 0.0) at = 0.0;
    int first = (int)at < in - 1 ? (int)at : in - 1;
    return (place){first, first + 1 < in ? first + 1 : first, (float)(at - first)};
}

void yd_inception_input(const uint8_t *rgb, int w, int h, float *x)
{
    for (int row = 0; row < SIDE; row++) {
        const place v = place_of(row, h);
        const uint8_t *top = rgb + (size_t)v.first * (size_t)w * CHANNELS, *bottom = rgb + (size_t)v.second * (size_t)w * CHANNELS;
        for (int col = 0; col < SIDE; col++) {
            const place u = place_of(col, w);
            const size_t left = (size_t)u.first * CHANNELS, right = (size_t)u.second * CHANNELS;
            for (size_t c = 0; c < CHANNELS; c++) {
                float up = top[left + c] + u.share * (float)(top[right + c] - top[left + c]);
                float down = bottom[left + c] + u.share * (float)(bottom[right + c] - bottom[left + c]);
                *x++ = (up + v.share * (down - up)) / 127.5f - 1.0f;
            }
        }
    }
}

static void average(void *context, int tap, const float *maps, int n, int h, int w, int c)
{
    float *out = context;
    const size_t pixels = (size_t)h * (size_t)w, stride = (size_t)c;
    (void)tap, (void)n; // 0 and 1
    for (size_t i = 0; i < stride; i++) {
        double sum = 0.0;
        for (size_t p = 0; p < pixels; p++) sum += maps[p * stride + i];
        out[i] = (float)(sum / (double)pixels);
    }
}

int yd_inception_features(yd_inception *p, const uint8_t *rgb, int w, int h, float out[YD_INCEPTION_FEATURES], yd_err *err)
{
    yd_inception_input(rgb, w, h, yd_trunk_input(p->trunk));
    return yd_trunk_run(p->trunk, average, out, err);
}
