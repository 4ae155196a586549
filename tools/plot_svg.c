// A plot as SVG text. Two decimals are enough for a screen and keep the file small.
#include "tools/plot_pen.h"
#include <stdio.h>
#include <stdlib.h>

static void put_text(FILE *f, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&': fputs("&amp;", f); break;
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        case '"': fputs("&quot;", f); break;
        default: fputc((unsigned char)*text < ' ' ? ' ' : *text, f); // XML has no control characters
        }
    }
}

static void svg_line(void *user, double x0, double y0, double x1, double y1, double width, int dashed, uint32_t colour)
{
    fprintf(user, "<line x1=\"%.2f\" y1=\"%.2f\" x2=\"%.2f\" y2=\"%.2f\" stroke=\"#%06x\" stroke-width=\"%g\"%s/>\n", x0, y0, x1, y1, colour,
            width, dashed ? " stroke-dasharray=\"5 4\"" : "");
}

static void svg_disc(void *user, double x, double y, double radius, uint32_t colour, const char *note)
{
    fprintf(user, "<circle%s cx=\"%.2f\" cy=\"%.2f\" r=\"%g\" fill=\"#%06x\"", note ? " class=\"point\"" : "", x, y, radius, colour);
    if (!note) {
        fputs("/>\n", user);
        return;
    }
    fputs("><title>", user);
    put_text(user, note);
    fputs("</title></circle>\n", user);
}

static void svg_text(void *user, double x, double y, yd_pen_align align, int strong, uint32_t colour, const char *text)
{
    static const char *const anchors[] = {"start", "middle", "end"};
    fprintf(user, "<text x=\"%.2f\" y=\"%.2f\" text-anchor=\"%s\" fill=\"#%06x\"%s>", x, y, anchors[align], colour,
            strong ? " font-size=\"13\" font-weight=\"600\"" : "");
    put_text(user, text);
    fputs("</text>\n", user);
}

int yd_plot_svg(const yd_plot *p, char **svg, size_t *len, yd_err *err)
{
    int w, h;
    int rc = yd_plot_size(p, &w, &h, err);
    if (rc < 0) return rc;
    *svg = NULL;
    FILE *f = open_memstream(svg, len);
    if (!f) return yd_fail(err, YD_E_NOMEM, "no memory for a plot");
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" font-family=\"Helvetica, Arial, "
               "sans-serif\" font-size=\"11\" stroke-linecap=\"round\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
            w, h, w, h);
    const yd_pen pen = {f, svg_line, svg_disc, svg_text};
    rc = yd_plot_draw(p, &pen, err);
    fputs("</svg>\n", f);
    const int bad = ferror(f);
    if ((fclose(f) || bad) && rc == 0) rc = yd_fail(err, YD_E_NOMEM, "no memory for a plot");
    if (rc < 0) {
        free(*svg);
        *svg = NULL;
    }
    return rc;
}
