// Packed pictures: the pictures of a training as raw bytes in one file, in parts of at most 40 MB, so that they can travel to a machine
// that decodes no picture files.
//
// The file is a safetensors file (core/parts.h cuts it): tensor "00000000" is the first picture, u8 [h, w, 3], sRGB, rows from the top; metadata
// "yoda.pictures.format" says which layout this is. Pictures are in the order of the folder that they were packed from, cropped as
// a training of that config crops them, so that training on the pack and on the folder is the same to the bit.
// Read next: core/train/data.c
#include "core/mem.h"
#include "core/safetensors.h"
#include "core/train/internal.h"

#include <stdio.h>
#include <string.h>

static const char format[] = "yoda-pictures-1";

// ---- reading

static const char *pack_name(const yd_source *s, size_t i)
{
    return yd_st_at(s->state, i)->name;
}

static int pack_read(const yd_source *s, size_t i, yd_source_picture *out, yd_err *err)
{
    const yd_st_tensor *t = yd_st_at(s->state, i);
    if (t->dtype != YD_ST_U8 || t->ndim != 3 || t->dims[2] != 3 || t->dims[0] < 1 || t->dims[1] < 1 ||
        t->dims[0] > YD_SOURCE_MAX_SIDE || t->dims[1] > YD_SOURCE_MAX_SIDE)
        return yd_fail_field(err, YD_E_IMAGE, t->name, "u8 [height, width, 3]",
                             "it is no picture of 1 to %d pixels a side", YD_SOURCE_MAX_SIDE);
    *out = (yd_source_picture){.w = (int)t->dims[1], .h = (int)t->dims[0], .rgb = t->data};
    return 0;
}

static void pack_close(yd_source *s)
{
    yd_st_close(s->state);
    yd_free(s);
}

int yd_source_open_pack(const char *path, yd_source **out, yd_err *err)
{
    yd_safetensors *in = NULL;
    *out = NULL;
    int rc = yd_st_open(path, &in, err);
    if (rc) return rc;
    const char *is = yd_st_metadata(in, "yoda.pictures.format");
    yd_source *s = NULL;
    if (!is || strcmp(is, format) != 0)
        rc = yd_fail_field(err, YD_E_IMAGE, "data.folder", "a folder of pictures, or what yoda train --pack wrote",
                           "%s is no packed pictures: yoda.pictures.format is %s, not %s", path, is ? is : "missing",
                           format);
    else if (!(s = yd_calloc(1, sizeof *s)))
        rc = yd_fail(err, YD_E_NOMEM, "out of memory to read %s", path);
    if (rc) {
        yd_st_close(in);
        return rc;
    }
    *s = (yd_source){.count = yd_st_count(in), .name = pack_name, .read = pack_read, .close = pack_close, .state = in};
    *out = s;
    return 0;
}

// ---- writing

static int add_picture(yd_st_writer *w, int number, const yd_picture *p, yd_err *err)
{
    const int64_t dims[3] = {p->h, p->w, 3};
    char name[16];
    snprintf(name, sizeof name, "%08d", number);
    return yd_st_writer_add(w, name, YD_ST_U8, 3, dims, p->hr, err);
}

int yd_train_pack(const yd_train_config *cfg, const yd_train_options *opt, const char *path, yd_train_packed *res,
                  yd_err *err)
{
    yd_train_config plain = *cfg;
    plain.synthetic = 0; // they are drawn again, from the seed
    yd_dataset *d = NULL;
    int rc = yd_dataset_load(&plain, opt, &d, err);
    if (rc) return rc;
    yd_st_writer *w = yd_st_writer_new();
    rc = w ? yd_st_writer_metadata(w, "yoda.pictures.format", format, err)
           : yd_fail(err, YD_E_NOMEM, "out of memory to write %s", path);
    for (int i = 0; i < d->count && !rc; i++) rc = add_picture(w, i, &d->pictures[i], err);
    if (!rc) rc = yd_st_writer_save_parts(w, path, YD_TRAIN_PACK_PART, err);
    if (!rc && res) *res = (yd_train_packed){.pictures = d->count, .skipped = d->skipped, .bytes = d->bytes / 7 * 3};
    yd_st_writer_free(w);
    yd_dataset_free(d);
    return rc;
}
