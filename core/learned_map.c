// Running the learned map, in squares, and its tensors in a model file. See core/learned_map.h.
//
// The picture is worked on in squares of TILE averages, each with its halo, so that memory does not grow with the picture; since no
// layer pads, a square's values are those of the whole. Loops run over the output channels innermost, in one fixed order of sums.
// Read next: core/train/map_trainer.c.
#include "core/learned_map.h"

#include "core/mem.h"
#include "core/simd.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define TILE  64
#define SIDE  (TILE + 2 * YD_MAP_HALO)
#define SLOPE 0.1f

int yd_map_channels(int i)
{
    return i == 0 ? 3 : i == YD_MAP_LAYERS ? 1 : YD_MAP_WIDTH;
}

// ---- running -------------------------------------------------------------------------------------------------------

static int clamp(int v, int most)
{
    return v < 0 ? 0 : v > most ? most : v;
}

// Mean of one square of the picture, which may be cut off at the right and at the bottom.
static void average(const uint8_t *rgb, int w, int h, int reduce, int lx, int ly, float *dst)
{
    const int x1 = lx * reduce, y1 = ly * reduce, x2 = clamp(x1 + reduce, w), y2 = clamp(y1 + reduce, h);
    long sum[3] = {0};
    for (int y = y1; y < y2; y++) {
        const uint8_t *p = rgb + ((size_t)y * (size_t)w + (size_t)x1) * 3;
        for (int x = x1; x < x2; x++, p += 3)
            for (int c = 0; c < 3; c++) sum[c] += p[c];
    }
    const float scale = 1.0f / (127.5f * (float)((x2 - x1) * (y2 - y1)));
    for (int c = 0; c < 3; c++) dst[c] = (float)sum[c] * scale - 1.0f;
}

void yd_map_reduce(const uint8_t *rgb, int w, int h, int reduce, int x0, int y0, int nw, int nh, float *dst)
{
    const int last_x = (w + reduce - 1) / reduce - 1, last_y = (h + reduce - 1) / reduce - 1;
    for (int y = 0; y < nh; y++)
        for (int x = 0; x < nw; x++, dst += 3) average(rgb, w, h, reduce, clamp(x0 + x, last_x), clamp(y0 + y, last_y), dst);
}

// Inlined with constants for `in` and `out`, which lets the compiler keep the sums of a pixel in registers.
static inline __attribute__((always_inline)) void conv(const float *x, int w, int h, int in, const float *weight, const float *bias, int out,
                                                       int relu, float *y)
{
    for (int r = 0; r < h - 2; r++)
        for (int q = 0; q < w - 2; q++, y += out) {
            float sum[YD_MAP_WIDTH];
            for (int o = 0; o < out; o++) sum[o] = bias ? bias[o] : 0.0f;
            for (int tap = 0; tap < 9; tap++) {
                const float *p = x + ((size_t)(r + tap / 3) * (size_t)w + (size_t)(q + tap % 3)) * (size_t)in;
                const float *k = weight + tap * in * out;
                for (int i = 0; i < in; i++, k += out)
                    for (int o = 0; o < out; o++) sum[o] += p[i] * k[o];
            }
            for (int o = 0; o < out; o++) y[o] = relu && sum[o] < 0.0f ? SLOPE * sum[o] : sum[o];
        }
}

YD_SIMD void yd_map_conv(const float *x, int w, int h, int in, const float *weight, const float *bias, int out, int relu, float *y)
{
    if (in == YD_MAP_WIDTH && out == YD_MAP_WIDTH) conv(x, w, h, YD_MAP_WIDTH, weight, bias, YD_MAP_WIDTH, relu, y);
    else if (in == 3 && out == YD_MAP_WIDTH) conv(x, w, h, 3, weight, bias, YD_MAP_WIDTH, relu, y);
    else if (in == YD_MAP_WIDTH && out == 1) conv(x, w, h, YD_MAP_WIDTH, weight, bias, 1, relu, y);
    else if (in == 1 && out == YD_MAP_WIDTH) conv(x, w, h, 1, weight, bias, YD_MAP_WIDTH, relu, y);
    else conv(x, w, h, in, weight, bias, out, relu, y);
}

// The values of one square of averages into low, whose rows are lw long.
static void run_tile(const yd_map_net *net, const uint8_t *rgb, int w, int h, int x0, int y0, int nw, int nh, float *buffer[2], float *low,
                     int lw)
{
    int tw = nw + 2 * YD_MAP_HALO, th = nh + 2 * YD_MAP_HALO;
    yd_map_reduce(rgb, w, h, net->reduce, x0 - YD_MAP_HALO, y0 - YD_MAP_HALO, tw, th, buffer[0]);
    for (int i = 0; i < YD_MAP_LAYERS; i++, tw -= 2, th -= 2)
        yd_map_conv(buffer[i % 2], tw, th, yd_map_channels(i), net->weight[i], net->bias[i], yd_map_channels(i + 1), i + 1 < YD_MAP_LAYERS,
                    buffer[(i + 1) % 2]);
    const float *from = buffer[YD_MAP_LAYERS % 2];
    for (int y = 0; y < nh; y++)
        for (int x = 0; x < nw; x++) low[(size_t)(y0 + y) * (size_t)lw + (size_t)(x0 + x)] = 1.0f / (1.0f + expf(-*from++));
}

// Bilinear, pixel centres half a pixel in; beyond the outermost centres the value stays.
static void enlarge(const float *low, int lw, int lh, int reduce, int w, int h, float *map)
{
    for (int y = 0; y < h; y++) {
        const float fy = fminf(fmaxf(((float)y + 0.5f) / (float)reduce - 0.5f, 0.0f), (float)(lh - 1));
        const int y0 = (int)fy, y1 = clamp(y0 + 1, lh - 1);
        const float ty = fy - (float)y0, *a = low + (size_t)y0 * (size_t)lw, *b = low + (size_t)y1 * (size_t)lw;
        for (int x = 0; x < w; x++) {
            const float fx = fminf(fmaxf(((float)x + 0.5f) / (float)reduce - 0.5f, 0.0f), (float)(lw - 1));
            const int x0 = (int)fx, x1 = clamp(x0 + 1, lw - 1);
            const float tx = fx - (float)x0;
            const float top = a[x0] + tx * (a[x1] - a[x0]), bottom = b[x0] + tx * (b[x1] - b[x0]);
            *map++ = fminf(fmaxf(top + ty * (bottom - top), 0.0f), 1.0f);
        }
    }
}

int yd_map_net_run(const yd_map_net *net, const uint8_t *rgb, int w, int h, float *map, yd_err *err)
{
    const int lw = (w + net->reduce - 1) / net->reduce, lh = (h + net->reduce - 1) / net->reduce;
    float *low = yd_malloc((size_t)lw * (size_t)lh * sizeof *low);
    float *both = yd_malloc(2 * (size_t)SIDE * SIDE * YD_MAP_WIDTH * sizeof *both);
    int rc = low && both ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for the learned map of a picture of %d x %d", w, h);
    for (int y = 0; rc == 0 && y < lh; y += TILE)
        for (int x = 0; x < lw; x += TILE)
            run_tile(net, rgb, w, h, x, y, lw - x < TILE ? lw - x : TILE, lh - y < TILE ? lh - y : TILE,
                     (float *[2]){both, both + (size_t)SIDE * SIDE * YD_MAP_WIDTH}, low, lw);
    if (rc == 0) enlarge(low, lw, lh, net->reduce, w, h, map);
    yd_free(both);
    yd_free(low);
    return rc;
}

// ---- the file ------------------------------------------------------------------------------------------------------

static void name_tensor(int layer, const char *what, char dst[48])
{
    snprintf(dst, 48, YD_MAP_PREFIX "%d.%s", layer, what);
}

// [out][in][tap] in the file, [tap][in][out] in memory.
static void reorder(const float *src, float *dst, int in, int out, int to_file)
{
    for (int o = 0; o < out; o++)
        for (int i = 0; i < in; i++)
            for (int tap = 0; tap < 9; tap++) {
                const int file = (o * in + i) * 9 + tap, memory = (tap * in + i) * out + o;
                dst[to_file ? file : memory] = src[to_file ? memory : file];
            }
}

static int read_tensor(const yd_safetensors *st, const char *name, size_t numel, int ndim, float *dst, yd_err *err)
{
    const yd_st_tensor *t = yd_st_find(st, name);
    if (!t) return yd_fail_field(err, YD_E_CHECKPOINT, name, "", "the model file lacks the tensor %s of its learned map", name);
    if (t->numel != numel || t->ndim != ndim)
        return yd_fail_field(err, YD_E_CHECKPOINT, name, "", "tensor %s does not have the shape of a learned map", name);
    int rc = yd_st_to_f32(t, dst, err);
    for (size_t i = 0; rc == 0 && i < numel; i++)
        if (!isfinite(dst[i])) rc = yd_fail_field(err, YD_E_CHECKPOINT, name, "finite numbers", "tensor %s holds NaN or Inf", name);
    return rc;
}

int yd_map_net_read(const yd_safetensors *st, int reduce, yd_map_net **out, yd_err *err)
{
    char name[48];
    float file[9 * YD_MAP_WIDTH * YD_MAP_WIDTH];
    name_tensor(0, "weight", name);
    *out = NULL;
    if (!yd_st_find(st, name)) return 0;
    yd_map_net *net = yd_calloc(1, sizeof *net);
    if (!net) return yd_fail(err, YD_E_NOMEM, "no memory for a learned map");
    net->reduce = reduce;
    int rc = 0;
    for (int i = 0; rc == 0 && i < YD_MAP_LAYERS; i++) {
        const int in = yd_map_channels(i), to = yd_map_channels(i + 1);
        name_tensor(i, "weight", name);
        rc = read_tensor(st, name, (size_t)(9 * in * to), 4, file, err);
        if (rc == 0) reorder(file, net->weight[i], in, to, 0);
        name_tensor(i, "bias", name);
        if (rc == 0) rc = read_tensor(st, name, (size_t)to, 1, net->bias[i], err);
    }
    if (rc) yd_free(net);
    else *out = net;
    return rc;
}

int yd_map_net_add(const yd_map_net *net, yd_map_store *store, yd_st_writer *w, yd_err *err)
{
    char name[48];
    int rc = 0;
    for (int i = 0; rc == 0 && i < YD_MAP_LAYERS; i++) {
        const int64_t in = yd_map_channels(i), out = yd_map_channels(i + 1);
        reorder(net->weight[i], store->weight[i], (int)in, (int)out, 1);
        name_tensor(i, "weight", name);
        rc = yd_st_writer_add(w, name, YD_ST_F32, 4, (const int64_t[]){out, in, 3, 3}, store->weight[i], err);
        name_tensor(i, "bias", name);
        if (rc == 0) rc = yd_st_writer_add(w, name, YD_ST_F32, 1, &out, net->bias[i], err);
    }
    return rc;
}
