// A sheet of training samples to look at: what a run would draw first, as pairs of the HR crop and what the network is shown of it.
//
// Uses the run's own draws; orientation is left out, so that letters can be read. Owns nothing between calls.
// Read next: core/train/draw.c
#include "core/image.h"
#include "core/train/internal.h"

#include <string.h>

enum { COLUMNS = 6, GAP = 4 };

static void put(yd_image *im, int x, int y, int crop, const uint8_t *rgb, long stride)
{
    for (int row = 0; row < crop; row++)
        for (int i = 0; i < crop * 3; i++)
            im->rgb[((size_t)(y + row) * (size_t)im->w + (size_t)x) * 3 + (size_t)i] = yd_widen(rgb[(long)row * stride * 3 + i]);
}

int yd_train_show(const yd_train_config *cfg, const yd_train_options *opt, int samples, yd_image *out, yd_err *err)
{
    const int crop = cfg->crop, rows = (samples + COLUMNS - 1) / COLUMNS;
    yd_dataset *data = NULL;
    if (samples < 1 || samples > YD_TRAIN_MAX_BATCH)
        return yd_fail_field(err, YD_E_INVALID, "samples", "1 to 1024", "%d samples cannot be shown", samples);
    int rc = yd_train_config_check(cfg, err);
    if (!rc) rc = yd_dataset_load(cfg, opt, &data, err);
    if (!rc) rc = yd_image_alloc(out, COLUMNS * (2 * crop + 2 * GAP) - GAP, rows * (crop + GAP) - GAP, 0, err);
    if (!rc) memset(out->rgb, 0xff, (size_t)out->w * (size_t)out->h * 6);
    for (int i = 0; !rc && i < samples; i++) {
        yd_draw d;
        yd_input in;
        yd_draw_sample(cfg, data, (uint64_t)i, 0, &d);
        rc = yd_draw_input(cfg, data, &d, &in, err);
        if (rc) break;
        const yd_picture *p = &data->pictures[d.picture];
        const int x = i % COLUMNS * (2 * crop + 2 * GAP), y = i / COLUMNS * (crop + GAP);
        put(out, x, y, crop, p->hr + ((size_t)d.y * (size_t)p->w + (size_t)d.x) * 3, p->w);
        put(out, x + crop, y, crop, in.rgb + ((long)(d.y - in.y) * in.stride + (d.x - in.x)) * 3, in.stride);
        yd_input_clear(&in);
    }
    yd_dataset_free(data);
    if (rc) yd_image_clear(out);
    return rc;
}
