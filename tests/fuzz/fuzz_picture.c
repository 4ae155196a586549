// Picture files as far as our own code reads them, before libvips: what format it is, PNG chunks, JPEG markers, TIFF directories, sizes.
#include "core/image_source.h"
#include "core/image_tiff.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"png", "jpeg", "tiff", "webp"};
    const yd_image_limits lim = {.max_pixels = 1 << 22, .min_side = 16, .max_side = 16384};
    static volatile uint8_t sum;
    yd_png_facts facts;
    (void)yd_image_sniff(data, size);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const yd_image_kind *kind = NULL;
        size_t n = 0;
        const yd_image_kind *all = yd_image_kinds(&n);
        for (size_t k = 0; k < n && !kind; k++)
            if (!strcmp(all[k].name, names[i])) kind = &all[k];
        yd_err err = {0};
        if (kind) HOLDS(yd_image_precheck(kind, data, size, &lim, &err) == 0 || err.detail[0]);
    }
    yd_png_read_facts(data, size, &facts);
    for (size_t i = 0; facts.exif && i < facts.exif_len; i++) sum ^= facts.exif[i];
    const int pages = yd_tiff_pages(data, size);
    HOLDS(pages >= 1 && pages <= 1000);
    return 0;
}
