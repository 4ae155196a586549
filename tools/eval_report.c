// Figures as a table for people, as JSON and as CSV for programs: see eval.h and docs/evaluation.md, which describes the keys.
#include "core/file.h"
#include "core/json.h"
#include "core/upscale.h"
#include "tools/eval.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// --- table

static void cell(double v, int decimals, double factor)
{
    if (isfinite(v)) printf(" %7.*f", decimals, v * factor);
    else printf(" %7s", "-");
}

static void print_figures(const yd_eval_figures *f)
{
    const double *v = f->v;
    cell(v[YD_EVAL_PSNR], 3, 1);
    cell(v[YD_EVAL_BICUBIC_PSNR], 3, 1);
    cell(v[YD_EVAL_SSIM], 4, 1);
    cell(v[YD_EVAL_BICUBIC_SSIM], 4, 1);
    cell(v[YD_EVAL_LPIPS], 4, 1);
    cell(v[YD_EVAL_BICUBIC_LPIPS], 4, 1);
    cell(v[YD_EVAL_LR_PSNR], 2, 1);
    cell(v[YD_EVAL_DIFFUSED], 1, 100);
    cell(v[YD_EVAL_WORK], 2, 1);
    cell(v[YD_EVAL_SECONDS], 2, 1);
    putchar('\n');
}

static void print_pictures(const yd_eval *e)
{
    const yd_eval_row *row = &e->rows[0];
    printf("%-20s %7s %7s %7s %7s %7s %7s %7s %7s %7s %7s\n", "picture", "PSNR", "bicubic", "SSIM", "bicubic", "LPIPS", "bicubic", "LR-PSNR",
           "diff. %", "work", "s");
    for (int i = 0; i < e->n_files; i++) {
        if (!e->files[i].measured) continue;
        printf("%-20.20s", e->files[i].name);
        print_figures(&row->results[i].figures);
    }
    printf("%-20s", "mean");
    print_figures(&row->mean);
}

static int any_set(const yd_eval *e)
{
    for (int s = 0; s < YD_EVAL_SPACES; s++)
        if (e->originals[s]) return 1;
    return 0;
}

static void print_row(const yd_eval *e, const char *name, const double *v, const double *bicubic, const double *frechet)
{
    printf("%-36.36s", name);
    cell(v[YD_EVAL_PSNR], 3, 1);
    cell(v[YD_EVAL_SSIM], 4, 1);
    cell(v[YD_EVAL_LPIPS], 4, 1);
    cell(v[YD_EVAL_LPIPS] / bicubic[YD_EVAL_BICUBIC_LPIPS], 3, 1);
    if (!any_set(e)) cell(v[YD_EVAL_LR_PSNR], 2, 1);
    for (int s = 0; s < YD_EVAL_SPACES; s++)
        if (e->originals[s]) cell(frechet[s], 3, 1);
    cell(v[YD_EVAL_DIFFUSED], 1, 100);
    cell(v[YD_EVAL_WORK], 2, 1);
    cell(v[YD_EVAL_SECONDS], 2, 1);
    putchar('\n');
}

static void print_rows(const yd_eval *e)
{
    const double *mean = e->rows[0].mean.v;
    yd_eval_figures plain;
    yd_eval_figures_clear(&plain);
    plain.v[YD_EVAL_PSNR] = mean[YD_EVAL_BICUBIC_PSNR];
    plain.v[YD_EVAL_SSIM] = mean[YD_EVAL_BICUBIC_SSIM];
    plain.v[YD_EVAL_LPIPS] = mean[YD_EVAL_BICUBIC_LPIPS];
    printf("%-36s %7s %7s %7s %7s", "setting", "PSNR", "SSIM", "LPIPS", "of bic.");
    if (!any_set(e)) printf(" %7s", "LR-PSNR"); // whose place the distances take
    for (int s = 0; s < YD_EVAL_SPACES; s++)
        if (e->originals[s]) printf(" %7s", s == YD_EVAL_FID ? "FID" : "FD");
    printf(" %7s %7s %7s\n", "diff. %", "work", "s");
    print_row(e, "bicubic", plain.v, mean, e->bicubic_frechet);
    for (int r = 0; r < e->n_rows; r++) print_row(e, e->rows[r].name, e->rows[r].mean.v, mean, e->rows[r].frechet);
}

void yd_eval_print_table(const yd_eval *e)
{
    const double *v = e->rows[0].mean.v;
    const char *model = e->has_model ? e->session.model->cfg.name : e->args->sr ? "results as given" : "bicubic";
    printf("%d picture%s, %dx, %s, %s, PSNR and SSIM of %s without %d px of border\n", e->n_measured, e->n_measured == 1 ? "" : "s", e->scale,
           e->args->degrade, model, e->how.space == YD_METRIC_Y ? "Y" : "RGB", e->how.crop);
    if (!e->lpips) printf("LPIPS is left out: --lpips FILE names its weights\n");
    putchar('\n');
    if (e->n_rows > 1) {
        print_rows(e);
        return;
    }
    print_pictures(e);
    printf("\nPSNR %+.3f dB", v[YD_EVAL_PSNR] - v[YD_EVAL_BICUBIC_PSNR]);
    if (e->lpips) printf(", LPIPS %.3f x bicubic's", v[YD_EVAL_LPIPS] / v[YD_EVAL_BICUBIC_LPIPS]);
    for (int s = 0; s < YD_EVAL_SPACES; s++)
        if (e->originals[s]) printf(", %s %.4f (bicubic %.4f)", e->frechet_key[s], e->rows[0].frechet[s], e->bicubic_frechet[s]);
    printf("; added detail %.2f (rms, of 255)\n", v[YD_EVAL_INVENTED]);
}

// --- JSON

static void put_string(FILE *f, const char *s)
{
    const size_t need = yd_json_quote(NULL, 0, s) + 1;
    char *quoted = malloc(need);
    if (quoted) yd_json_quote(quoted, need, s);
    fputs(quoted ? quoted : "\"\"", f);
    free(quoted);
}

// The figures that there are, each with a comma before it.
static void put_figures(FILE *f, const yd_eval_figures *figures, const char *before)
{
    for (int k = 0; k < YD_EVAL_COUNT; k++) {
        if (!isfinite(figures->v[k])) continue;
        fprintf(f, "%s\"%s\": %.9g", before, yd_eval_keys[k], figures->v[k]);
        before = ", ";
    }
}

static void put_shares(FILE *f, const double *share, int n)
{
    if (!share) return;
    fputs(", \"diffused_share_per_step\": [", f);
    for (int s = 0; s < n; s++) fprintf(f, "%s%.6g", s ? ", " : "", share[s]);
    fputc(']', f);
}

static void put_picture(FILE *f, const yd_eval_file *file, const yd_eval_result *r, int steps)
{
    fputs("{\"name\": ", f);
    put_string(f, file->name);
    fprintf(f, ", \"width\": %d, \"height\": %d", file->w, file->h);
    if (file->degradation[0]) {
        fputs(", \"degradation\": ", f);
        put_string(f, file->degradation);
    }
    put_figures(f, &r->figures, ", ");
    put_shares(f, r->share, steps);
    fputc('}', f);
}

static void put_bins(FILE *f, const yd_eval *e, const yd_eval_row *row, const char *indent)
{
    const char *before = "";
    fprintf(f, ",\n%s\"lpips_per_attention\": [", indent);
    for (int i = 0; i < e->n_bins; i++) {
        const yd_eval_bin *b = &row->bins[i], *plain = &e->bicubic_bins[i];
        if (b->pictures == 0) continue;
        fprintf(f, "%s{\"from\": %.6g, \"to\": %.6g, \"pixels\": %ld, \"pictures\": %d, \"lpips\": %.9g, \"bicubic_lpips\": %.9g}", before,
                b->from, b->to, b->pixels, b->pictures, b->sum / b->pictures, plain->sum / plain->pictures);
        before = ", ";
    }
    fputc(']', f);
}

static void put_settings(FILE *f, const yd_eval_row *row, const char *indent)
{
    char text[1024];
    if (row->method != YD_EVAL_DIFFUSION || yd_settings_print(&row->set, text, sizeof text) >= sizeof text) return;
    fprintf(f, ",\n%s\"settings\": %s", indent, text);
}

static void put_row(FILE *f, const yd_eval *e, const yd_eval_row *row, const char *indent)
{
    static const char *const methods[] = {"yoda", "bicubic", "given"};
    const char *before = "";
    fprintf(f, "%s\"name\": ", indent);
    put_string(f, row->name);
    fprintf(f, ",\n%s\"method\": \"%s\"", indent, methods[row->method]);
    put_settings(f, row, indent);
    fprintf(f, ",\n%s\"pictures\": [", indent);
    for (int i = 0; i < e->n_files; i++) {
        if (!e->files[i].measured) continue;
        fprintf(f, "%s\n%s  ", before, indent);
        put_picture(f, &e->files[i], &row->results[i], row->set.steps);
        before = ",";
    }
    fprintf(f, "],\n%s\"mean\": {", indent);
    put_figures(f, &row->mean, "");
    for (int s = 0; s < YD_EVAL_SPACES; s++)
        if (e->originals[s])
            fprintf(f, ", \"%s\": %.9g, \"bicubic_%s\": %.9g", e->frechet_key[s], row->frechet[s], e->frechet_key[s], e->bicubic_frechet[s]);
    put_shares(f, row->share, row->set.steps);
    fputc('}', f);
    if (e->n_bins) put_bins(f, e, row, indent);
}

static void put_skipped(FILE *f, const yd_eval *e)
{
    const char *before = "";
    fputs("  \"skipped\": [", f);
    for (int i = 0; i < e->n_files; i++) {
        if (e->files[i].measured) continue;
        fputs(before, f);
        put_string(f, e->files[i].name);
        before = ", ";
    }
    fputs("],\n", f);
}

static void put_document(FILE *f, const yd_eval *e)
{
    fprintf(f, "{\n  \"scale\": %d, \"degrade\": \"%s\", \"space\": \"%s\", \"crop\": %d, \"count\": %d,\n", e->scale, e->args->degrade,
            e->how.space == YD_METRIC_Y ? "y" : "rgb", e->how.crop, e->n_measured);
    if (e->lpips) fprintf(f, "  \"lpips_trunk\": \"%s\",\n", yd_lpips_trunk(e->lpips));
    if (e->has_model) {
        fputs("  \"model\": ", f);
        put_string(f, e->session.model->cfg.name);
        fprintf(f, ", \"checksum\": \"%s\", \"dtype\": \"%s\",\n", e->session.model->checksum, e->session.info.dtype == YD_BF16 ? "bf16" : "f32");
    }
    put_skipped(f, e);
    if (e->n_rows == 1) {
        put_row(f, e, &e->rows[0], "  ");
    } else {
        fputs("  \"rows\": [", f);
        for (int r = 0; r < e->n_rows; r++) {
            fputs(r ? ", {\n" : "{\n", f);
            put_row(f, e, &e->rows[r], "    ");
            fputc('}', f);
        }
        fputc(']', f);
    }
    fputs("\n}\n", f);
}

static int write_text(const yd_eval *e, const char *path, void (*put)(FILE *, const yd_eval *), yd_err *err)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f) return yd_fail(err, YD_E_NOMEM, "no memory for a report");
    put(f, e);
    const int bad = ferror(f);
    int rc = fclose(f) || bad ? yd_fail(err, YD_E_NOMEM, "no memory for a report") : yd_file_write_atomic(path, text, len, err);
    free(text);
    return rc;
}

int yd_eval_write_json(const yd_eval *e, const char *path, yd_err *err)
{
    return write_text(e, path, put_document, err);
}

// --- CSV

// Quoted when it has to be.
static void put_field(FILE *f, const char *s)
{
    if (!strpbrk(s, ",\"\n\r")) {
        fputs(s, f);
        return;
    }
    fputc('"', f);
    for (; *s; s++) {
        if (*s == '"') fputc('"', f);
        fputc(*s, f);
    }
    fputc('"', f);
}

static void put_csv_line(FILE *f, const yd_eval *e, const yd_eval_row *row, const char *picture, const yd_eval_file *file, const yd_eval_figures *v)
{
    put_field(f, row->name);
    fputc(',', f);
    put_field(f, picture);
    if (file) fprintf(f, ",%d,%d", file->w, file->h);
    else fputs(",,", f);
    for (int k = 0; k < YD_EVAL_COUNT; k++)
        if (isfinite(v->v[k])) fprintf(f, ",%.9g", v->v[k]);
        else fputc(',', f);
    for (int s = 0; s < YD_EVAL_SPACES; s++)
        if (!file && e->originals[s]) fprintf(f, ",%.9g", row->frechet[s]);
        else fputc(',', f);
    fputc('\n', f);
}

static void put_csv(FILE *f, const yd_eval *e)
{
    fputs("setting,picture,width,height", f);
    for (int k = 0; k < YD_EVAL_COUNT; k++) fprintf(f, ",%s", yd_eval_keys[k]);
    fprintf(f, ",fd_%s,fid\n", e->lpips ? yd_lpips_trunk(e->lpips) : "squeeze");
    for (int r = 0; r < e->n_rows; r++) {
        const yd_eval_row *row = &e->rows[r];
        for (int i = 0; i < e->n_files; i++)
            if (e->files[i].measured) put_csv_line(f, e, row, e->files[i].name, &e->files[i], &row->results[i].figures);
        put_csv_line(f, e, row, "mean", NULL, &row->mean);
    }
}

int yd_eval_write_csv(const yd_eval *e, const char *path, yd_err *err)
{
    return write_text(e, path, put_csv, err);
}
