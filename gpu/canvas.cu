// Launches of gpu/device/canvas.h.
#include "gpu/device/canvas.h"
#include "gpu/launch.h"

int yd_gpu_gather(const yd_canvas_unit *units, const yd_gpu_map *x, float *level, int n, yd_gpu_stream stream)
{
    if (!yd_map_good(x) || !yd_map_fits(x, n)) return YD_REFUSED;
    const yd_gather_args a = {units, *x, level};
    return YD_ITEMS_1(yd_gather_args, yd_gather_item, a, (double)n * yd_pixels(x), stream);
}

int yd_gpu_scatter(const yd_canvas_unit *units, const yd_gpu_map *pred, int *bad, int n, yd_gpu_stream stream)
{
    if (!yd_map_good(pred) || !yd_map_fits(pred, n) || pred->c != 3) return YD_REFUSED;
    const yd_scatter_args a = {units, *pred, bad, n};
    const int rc = yd_zero_async(bad, (size_t)n * sizeof *bad, stream);
    return rc ? rc : YD_ITEMS_1(yd_scatter_args, yd_scatter_item, a, (double)n * yd_pixels(pred), stream);
}

int yd_gpu_canvas_step(const yd_canvas *canvas, const yd_canvas_step *step, yd_gpu_stream stream)
{
    if (!canvas->z || canvas->w < 1 || canvas->h < 1 || step->n < 0 || step->n > YD_MASK_MOVES) return YD_REFUSED;
    const yd_canvas_step_args a = {*canvas, *step};
    return YD_ITEMS_1(yd_canvas_step_args, yd_canvas_step_item, a, (double)canvas->w * canvas->h, stream);
}

int yd_gpu_noise(uint64_t seed, int step, int w, int h, float *out, yd_gpu_stream stream)
{
    if (w < 1 || h < 1) return YD_REFUSED;
    const yd_noise_args a = {seed, step, w, out};
    return YD_ITEMS_1(yd_noise_args, yd_noise_item, a, (double)w * h, stream);
}
