// Figures of one result against its original, and their means over the pictures: see eval.h.
#include "core/invented.h"
#include "core/mem.h"
#include "tools/eval.h"
#include <math.h>
#include <string.h>

const char *const yd_eval_keys[YD_EVAL_COUNT] = {
#define KEY(name, key) [YD_EVAL_##name] = key,
    YD_EVAL_FIGURES(KEY)
#undef KEY
};

void yd_eval_figures_clear(yd_eval_figures *f)
{
    for (int i = 0; i < YD_EVAL_COUNT; i++) f->v[i] = NAN;
}

static int both(const uint8_t *a, const yd_eval_canvas *c, const yd_metric_options *how, double *psnr, double *ssim, yd_err *err)
{
    int rc = yd_psnr(a, c->hr, c->w, c->h, how, psnr, err);
    return rc ? rc : yd_ssim(a, c->hr, c->w, c->h, how, ssim, err);
}

static int distance(yd_eval *e, const uint8_t *a, const yd_eval_canvas *c, double *out, yd_err *err)
{
    yd_lpips_figure figure;
    if (!e->lpips) return 0;
    int rc = yd_lpips_distance(e->lpips, a, c->hr, c->w, c->h, &figure, NULL, err);
    if (rc == 0) *out = figure.total;
    return rc;
}

int yd_eval_feature_size(const yd_eval *e, yd_eval_space space)
{
    if (space == YD_EVAL_FID) return e->inception ? YD_INCEPTION_FEATURES : 0;
    return e->args->frechet ? yd_lpips_feature_size(e->lpips) : 0;
}

static int add_to_set(yd_eval *e, yd_eval_space space, yd_moments *m, const uint8_t *rgb, const yd_eval_canvas *c, yd_err *err)
{
    float *x = yd_malloc((size_t)yd_eval_feature_size(e, space) * sizeof *x);
    if (!x) return yd_fail(err, YD_E_NOMEM, "no memory for features");
    int rc = space == YD_EVAL_FID ? yd_inception_features(e->inception, rgb, c->w, c->h, x, err)
                                  : yd_lpips_features(e->lpips, rgb, c->w, c->h, x, err);
    if (rc == 0) yd_moments_add(m, x);
    yd_free(x);
    return rc;
}

static int add_features(yd_eval *e, yd_moments *const *sets, const uint8_t *rgb, const yd_eval_canvas *c, yd_err *err)
{
    int rc = 0;
    for (int s = 0; s < YD_EVAL_SPACES && rc == 0; s++)
        if (sets[s]) rc = add_to_set(e, s, sets[s], rgb, c, err);
    return rc;
}

static int add_bins(yd_eval *e, yd_eval_bin *sums, const uint8_t *rgb, const yd_eval_canvas *c, yd_err *err)
{
    if (e->n_bins == 0) return 0;
    yd_lpips_bin *bins = yd_malloc((size_t)e->n_bins * sizeof *bins);
    int rc = bins ? yd_lpips_bins(e->lpips, rgb, c->hr, c->map, c->w, c->h, e->args->bins, bins, err)
                  : yd_fail(err, YD_E_NOMEM, "no memory for %d bins", e->n_bins);
    for (int i = 0; i < e->n_bins && rc == 0; i++) {
        sums[i].from = bins[i].from;
        sums[i].to = bins[i].to;
        if (bins[i].pixels == 0) continue;
        sums[i].pixels += bins[i].pixels;
        sums[i].sum += bins[i].distance;
        sums[i].pictures++;
    }
    yd_free(bins);
    return rc;
}

int yd_eval_measure_bicubic(yd_eval *e, yd_eval_canvas *c, yd_err *err)
{
    double *v = c->bicubic_figures.v;
    yd_eval_figures_clear(&c->bicubic_figures);
    int rc = both(c->bicubic, c, &e->how, &v[YD_EVAL_BICUBIC_PSNR], &v[YD_EVAL_BICUBIC_SSIM], err);
    if (rc == 0) rc = distance(e, c->bicubic, c, &v[YD_EVAL_BICUBIC_LPIPS], err);
    if (rc == 0) rc = add_features(e, e->originals, c->hr, c, err);
    if (rc == 0) rc = add_features(e, e->bicubic_moments, c->bicubic, c, err);
    if (rc == 0) rc = add_bins(e, e->bicubic_bins, c->bicubic, c, err);
    return rc;
}

static int account(const yd_eval_canvas *c, const uint8_t *rgb, double *v, yd_err *err)
{
    yd_image low = {0}, high = {0};
    yd_invented n;
    int rc = yd_image_from_rgb8(&low, c->lw, c->lh, c->lr, NULL, err);
    if (rc == 0) rc = yd_image_from_rgb8(&high, c->w, c->h, rgb, NULL, err);
    if (rc == 0) rc = yd_invented_account(&low, &high, &n, NULL, err);
    if (rc == 0) {
        v[YD_EVAL_INVENTED] = n.detail_rms;
        v[YD_EVAL_CHANGED] = n.changed;
        v[YD_EVAL_CONTRADICTED] = n.contradicted;
    }
    yd_image_clear(&high);
    yd_image_clear(&low);
    return rc;
}

int yd_eval_measure(yd_eval *e, yd_eval_row *row, const yd_eval_canvas *c, const uint8_t *rgb, yd_eval_figures *f, yd_err *err)
{
    static const yd_eval_figure shared[] = {YD_EVAL_BICUBIC_PSNR, YD_EVAL_BICUBIC_SSIM, YD_EVAL_BICUBIC_LPIPS};
    yd_metric_options luma = {YD_METRIC_Y, e->how.crop, 0}, unshifted = e->how;
    double *v = f->v;
    unshifted.unshift = 1;
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) v[shared[i]] = c->bicubic_figures.v[shared[i]];
    int rc = both(rgb, c, &e->how, &v[YD_EVAL_PSNR], &v[YD_EVAL_SSIM], err);
    if (rc == 0) rc = both(rgb, c, &luma, &v[YD_EVAL_PSNR_Y], &v[YD_EVAL_SSIM_Y], err);
    if (rc == 0) rc = both(rgb, c, &unshifted, &v[YD_EVAL_PSNR_UNSHIFTED], &v[YD_EVAL_SSIM_UNSHIFTED], err);
    if (rc == 0) rc = yd_psnr_lr(rgb, c->w, c->h, c->lr, c->lw, c->lh, &v[YD_EVAL_LR_PSNR], err);
    if (rc == 0) rc = distance(e, rgb, c, &v[YD_EVAL_LPIPS], err);
    if (rc == 0) rc = account(c, rgb, v, err);
    if (rc == 0) rc = add_features(e, row->moments, rgb, c, err);
    if (rc == 0) rc = add_bins(e, row->bins, rgb, c, err);
    return rc;
}

// --- over the pictures

static void mean_figures(const yd_eval *e, yd_eval_row *row)
{
    for (int k = 0; k < YD_EVAL_COUNT; k++) {
        double sum = 0;
        for (int i = 0; i < e->n_files; i++)
            if (e->files[i].measured) sum += row->results[i].figures.v[k];
        row->mean.v[k] = sum / e->n_measured;
    }
}

static int mean_shares(const yd_eval *e, yd_eval_row *row, yd_err *err)
{
    if (row->method != YD_EVAL_DIFFUSION) return 0;
    row->share = yd_calloc((size_t)row->set.steps, sizeof *row->share);
    if (!row->share) return yd_fail(err, YD_E_NOMEM, "no memory for the shares of %d steps", row->set.steps);
    for (int i = 0; i < e->n_files; i++)
        for (int s = 0; s < row->set.steps && e->files[i].measured; s++) row->share[s] += row->results[i].share[s] / e->n_measured;
    return 0;
}

static int distances(const yd_eval *e, yd_moments *const *sets, double *out, yd_err *err)
{
    int rc = 0;
    for (int s = 0; s < YD_EVAL_SPACES; s++) {
        out[s] = NAN;
        if (rc == 0 && e->originals[s]) rc = yd_frechet_distance(sets[s], e->originals[s], &out[s], err);
    }
    return rc;
}

int yd_eval_summarize(yd_eval *e, yd_err *err)
{
    int rc = distances(e, e->bicubic_moments, e->bicubic_frechet, err);
    for (int r = 0; r < e->n_rows && rc == 0; r++) {
        yd_eval_row *row = &e->rows[r];
        mean_figures(e, row);
        rc = mean_shares(e, row, err);
        if (rc == 0) rc = distances(e, row->moments, row->frechet, err);
    }
    return rc;
}
