// Picture files for the tests of the decoder, made by libvips' savers or put together by hand (PNG bombs).
#ifndef IMAGE_SAMPLES_H
#define IMAGE_SAMPLES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <vips/vips.h>

typedef struct bytes {
    uint8_t *p; // released with free
    size_t n;
} bytes;

// A reproducible byte for channel c of pixel (x, y), different in every direction.
static inline uint8_t noise(int x, int y, int c)
{
    uint32_t h = (uint32_t)x * 2654435761u ^ (uint32_t)y * 2246822519u ^ (uint32_t)c * 3266489917u;
    h ^= h >> 15;
    h *= 2654435761u;
    return (uint8_t)(h >> 24);
}

static inline VipsInterpretation kind_of(int bands, int deep)
{
    if (deep) return bands < 3 ? VIPS_INTERPRETATION_GREY16 : VIPS_INTERPRETATION_RGB16;
    return bands < 3 ? VIPS_INTERPRETATION_B_W : VIPS_INTERPRETATION_sRGB;
}

// libvips' view of a copy of the pixels; g_object_unref.
static inline VipsImage *vips_of(const void *pixels, int w, int h, int bands, int deep)
{
    size_t size = (size_t)(w * h * bands) * (deep ? 2 : 1);
    VipsImage *raw = vips_image_new_from_memory_copy(pixels, size, w, h, bands,
                                                     deep ? VIPS_FORMAT_USHORT : VIPS_FORMAT_UCHAR),
              *im = NULL;
    if (raw) vips_copy(raw, &im, "interpretation", kind_of(bands, deep), NULL);
    g_clear_object(&raw);
    return im;
}

static inline VipsImage *noise_image(int w, int h, int bands)
{
    uint8_t *p = malloc((size_t)(w * h * bands));
    for (int y = 0, i = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < bands; c++) p[i++] = noise(x, y, c);
    VipsImage *im = vips_of(p, w, h, bands, 0);
    free(p);
    return im;
}

static inline bytes take(void *buf, size_t n)
{
    bytes b = {malloc(n ? n : 1), n}; // exactly that long, so that reading on is seen
    if (n) memcpy(b.p, buf, n);
    g_free(buf);
    return b;
}

static inline bytes png_of(VipsImage *im)
{
    void *buf = NULL;
    size_t n = 0;
    vips_pngsave_buffer(im, &buf, &n, "compression", 6, NULL);
    return take(buf, n);
}

static inline bytes png_palette_of(VipsImage *im, int bitdepth)
{
    void *buf = NULL;
    size_t n = 0;
    vips_pngsave_buffer(im, &buf, &n, "palette", TRUE, "bitdepth", bitdepth, "dither", 0.0, NULL);
    return take(buf, n);
}

static inline bytes png_interlaced_of(VipsImage *im)
{
    void *buf = NULL;
    size_t n = 0;
    vips_pngsave_buffer(im, &buf, &n, "interlace", TRUE, NULL);
    return take(buf, n);
}

static inline bytes jpeg_of(VipsImage *im, int quality)
{
    void *buf = NULL;
    size_t n = 0;
    vips_jpegsave_buffer(im, &buf, &n, "Q", quality, "subsample_mode", VIPS_FOREIGN_SUBSAMPLE_OFF, NULL);
    return take(buf, n);
}

// Any saver of libvips by a suffix and its options: ".tif[compression=lzw,tile]". Empty when libvips cannot.
static inline bytes saved(VipsImage *im, const char *suffix)
{
    void *buf = NULL;
    size_t n = 0;
    if (vips_image_write_to_buffer(im, suffix, &buf, &n, NULL)) {
        vips_error_clear();
        return (bytes){calloc(1, 1), 0};
    }
    return take(buf, n);
}

// ---- a PNG by hand: 1-bit grey, all black, of any size, without ever holding its pixels

typedef struct bit_sink {
    uint8_t *p;
    size_t n;
    uint32_t acc;
    int held;
} bit_sink;

static inline void put_bits(bit_sink *s, uint32_t value, int count) // least significant bit first
{
    s->acc |= value << s->held;
    for (s->held += count; s->held >= 8; s->held -= 8, s->acc >>= 8) s->p[s->n++] = (uint8_t)s->acc;
}

static inline uint32_t crc_of(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

static inline void put_be32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static inline size_t put_chunk(uint8_t *dst, const char *type, const uint8_t *data, size_t n)
{
    put_be32(dst, (uint32_t)n);
    memcpy(dst + 4, type, 4);
    if (n) memcpy(dst + 8, data, n);
    put_be32(dst + 8 + n, crc_of(dst + 4, n + 4));
    return n + 12;
}

// zlib stream of `zeros` zero bytes: one zero, then runs of 258 at distance 1, in one block of fixed codes.
static inline bytes zlib_zeros(uint64_t zeros)
{
    bit_sink s = {malloc((size_t)(zeros / 258 * 2) + 600), 0, 0, 0};
    put_bits(&s, 0x78, 8);
    put_bits(&s, 0xda, 8);
    put_bits(&s, 3, 3);    // last block, fixed codes
    put_bits(&s, 0x0c, 8); // literal 0 is 00110000, codes are sent from their top bit
    uint64_t left = zeros - 1;
    for (; left >= 258; left -= 258) {
        put_bits(&s, 0xa3, 8); // length 258 is 11000101
        put_bits(&s, 0, 5);    // distance 1
    }
    for (; left; left--) put_bits(&s, 0x0c, 8);
    put_bits(&s, 0, 7); // end of block
    if (s.held) put_bits(&s, 0, 8 - s.held);
    put_be32(s.p + s.n, (uint32_t)(zeros % 65521) << 16 | 1); // adler32 of zeros
    return (bytes){s.p, s.n + 4};
}

static inline bytes black_png(uint32_t w, uint32_t h)
{
    uint8_t header[13] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0};
    put_be32(header, w);
    put_be32(header + 4, h);
    bytes z = zlib_zeros(((uint64_t)w + 7) / 8 * h + h);
    bytes png = {malloc(z.n + 100), 8};
    memcpy(png.p, "\x89PNG\r\n\x1a\n", 8);
    png.n += put_chunk(png.p + png.n, "IHDR", header, 13);
    png.n += put_chunk(png.p + png.n, "IDAT", z.p, z.n);
    png.n += put_chunk(png.p + png.n, "IEND", NULL, 0);
    free(z.p);
    return png;
}

#endif
