// Inputs and maps of attention networks, see attention_map.h. Owns nothing.
#include "core/attention_map.h"

#include "core/mem.h"
#include "core/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- the input -----------------------------------------------------------------------------------------------------

static int floored(double side, const yd_attention_net_info *net)
{
    const int most = YD_ATTENTION_MAX_SIDE / net->multiple * net->multiple,
              least = (net->min_side + net->multiple - 1) / net->multiple * net->multiple;
    const int s = (int)(side + 1e-6) / net->multiple * net->multiple;
    return s < least ? least : s > most ? most : s;
}

void yd_attention_input_size(const yd_attention_net_info *net, const yd_attention_map_options *opt, int w, int h, int *nw, int *nh)
{
    const double low = w < h ? w : h, high = w < h ? h : w;
    double scale = opt->short_side / low;
    if (high * scale > opt->long_side) scale = opt->long_side / high;
    *nw = floored(w * scale, net);
    *nh = floored(h * scale, net);
}

int yd_attention_input(const uint8_t *rgb, int w, int h, uint8_t *out, int nw, int nh, yd_err *err)
{
    return yd_resize_bicubic_u8(rgb, w, h, 3, out, nw, nh, err);
}

void yd_attention_unit(const uint8_t *bytes, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i++) dst[i] = (float)bytes[i] / 255.0f;
}

// ---- heads ---------------------------------------------------------------------------------------------------------

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

// What 99 of 100 values are no larger than: the one of that rank.
static float percentile(const float *a, size_t n, float *sorted)
{
    memcpy(sorted, a, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_value);
    return sorted[(n * 99 + 99) / 100 - 1];
}

// from..to become 0..1; what lies outside is cut.
static void stretch(const float *a, size_t n, float from, float to, float *dst)
{
    const float range = to - from;
    for (size_t i = 0; i < n; i++) {
        const float x = range > 0.0f ? (a[i] - from) / range : 0.0f;
        dst[i] = x > 0.0f ? x < 1.0f ? x : 1.0f : 0.0f;
    }
}

// One head; sorted: room for n.
static void normalise(const float *a, size_t n, yd_attention_norm norm, float *sorted, float *dst)
{
    float low = a[0], high = a[0];
    for (size_t i = 1; i < n; i++) {
        low = a[i] < low ? a[i] : low;
        high = a[i] > high ? a[i] : high;
    }
    if (norm == YD_ATTENTION_NORM_P99) high = percentile(a, n, sorted);
    stretch(a, n, norm == YD_ATTENTION_NORM_MINMAX ? low : 0.0f, high, dst);
}

// ---- to the grid of the picture ------------------------------------------------------------------------------------

typedef struct taps {
    int at[4];
    float weight[4];
    int n;
} taps;

static int clamp(int x, int top)
{
    return x < 0 ? 0 : x > top ? top : x;
}

// Where place i of `to` looks in a row of `from`, centres half a place in. Bicubic has a = -0.75, as PyTorch's.
static taps taps_of(int i, int from, int to, yd_attention_resize how)
{
    const double at = (i + 0.5) * from / to - 0.5;
    const int first = (int)floor(at);
    const float t = (float)(at - first);
    if (how == YD_ATTENTION_NEAREST) return (taps){{clamp((int)((i + 0.5) * from / to), from - 1)}, {1.0f}, 1};
    if (how == YD_ATTENTION_BILINEAR) return (taps){{clamp(first, from - 1), clamp(first + 1, from - 1)}, {1.0f - t, t}, 2};
    const float a = -0.75f, u = 1.0f - t, far_t = t + 1.0f, far_u = u + 1.0f;
    return (taps){{clamp(first - 1, from - 1), clamp(first, from - 1), clamp(first + 1, from - 1), clamp(first + 2, from - 1)},
                  {((a * far_t - 5 * a) * far_t + 8 * a) * far_t - 4 * a, ((a + 2) * t - (a + 3)) * t * t + 1,
                   ((a + 2) * u - (a + 3)) * u * u + 1, ((a * far_u - 5 * a) * far_u + 8 * a) * far_u - 4 * a},
                  4};
}

static void enlarge(const float *low, int gw, int gh, const taps *across, yd_attention_resize how, float *map, int w, int h)
{
    for (int y = 0; y < h; y++) {
        const taps down = taps_of(y, gh, h, how);
        for (int x = 0; x < w; x++) {
            float sum = 0.0f;
            for (int j = 0; j < down.n; j++) {
                const float *row = low + (size_t)down.at[j] * (size_t)gw;
                float along = 0.0f;
                for (int i = 0; i < across[x].n; i++) along += across[x].weight[i] * row[across[x].at[i]];
                sum += down.weight[j] * along;
            }
            *map++ = sum > 0.0f ? sum < 1.0f ? sum : 1.0f : 0.0f;
        }
    }
}

// The heads that were asked for, each in 0..1, as one: all of size n; each and sorted are room.
static void join(const yd_attention_variant *v, yd_attention_norm norm, const float *raw, size_t n, int head, float *one, float *each,
                 float *sorted)
{
    const int from = head >= 0 ? head : 0, to = head >= 0 ? head + 1 : v->heads;
    for (int k = from; k < to; k++) {
        normalise(raw + (size_t)k * n, n, norm, sorted, each);
        for (size_t i = 0; i < n; i++)
            one[i] = k == from ? each[i] : head == YD_ATTENTION_HEAD_AVG ? one[i] + each[i] : one[i] > each[i] ? one[i] : each[i];
    }
    for (size_t i = 0; head == YD_ATTENTION_HEAD_AVG && i < n; i++) one[i] /= (float)v->heads;
}

int yd_attention_map_make(const yd_attention_variant *v, const yd_attention_map_options *opt, const float *raw, int gw, int gh, int head,
                          float *map, int w, int h, yd_err *err)
{
    const size_t n = (size_t)gw * (size_t)gh;
    float *room = yd_malloc(3 * n * sizeof *room);
    taps *across = yd_malloc((size_t)w * sizeof *across);
    const int rc = room && across ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for an attention map of %d x %d", w, h);
    if (!rc) {
        join(v, opt->norm == YD_ATTENTION_NORM_OWN ? v->norm : opt->norm, raw, n, head, room, room + n, room + 2 * n);
        for (int x = 0; x < w; x++) across[x] = taps_of(x, gw, w, opt->resize);
        enlarge(room, gw, gh, across, opt->resize, map, w, h);
    }
    yd_free(across);
    yd_free(room);
    return rc;
}

// ---- words ---------------------------------------------------------------------------------------------------------

static const char *const norms[] = {"own", "minmax", "max", "p99"}, *const resizes[] = {"bilinear", "nearest", "bicubic"};

int yd_attention_norm_parse(const char *field, const char *word, yd_attention_norm *out, yd_err *err)
{
    for (int i = 0; i < 4; i++)
        if (strcmp(word, norms[i]) == 0) {
            *out = (yd_attention_norm)i;
            return 0;
        }
    return yd_fail_field(err, YD_E_SETTING, field, "own, minmax, max, p99", "%s=%.40s is not accepted", field, word);
}

int yd_attention_resize_parse(const char *field, const char *word, yd_attention_resize *out, yd_err *err)
{
    for (int i = 0; i < 3; i++)
        if (strcmp(word, resizes[i]) == 0) {
            *out = (yd_attention_resize)i;
            return 0;
        }
    return yd_fail_field(err, YD_E_SETTING, field, "bilinear, nearest, bicubic", "%s=%.40s is not accepted", field, word);
}

const char *yd_attention_norm_name(yd_attention_norm n)
{
    return norms[n];
}

const char *yd_attention_resize_name(yd_attention_resize r)
{
    return resizes[r];
}
