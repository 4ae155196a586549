// XMP editing in place. See image_xmp.h.
//
// XMP is RDF in XML, and properties come as attributes (exif:GPSLatitude="48,8N") or as elements. No XML parser is needed to take some
// out: a tag is found by its angle brackets, names by their local part. A property that cannot be followed to its end makes the packet
// as a whole unfit. Packets in UTF-16 or UTF-32 count as unfit too; nobody writes them into pictures.
#include "core/image_xmp.h"

#include <string.h>

typedef struct name {
    size_t at, end; // with its prefix
    size_t local;   // behind the colon
} name;

static int name_char(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c == '-' || c == '.' ||
           c == ':' || c >= 0x80;
}

static int blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static name read_name(const uint8_t *p, size_t n, size_t at)
{
    name w = {at, at, at};
    for (; w.end < n && name_char(p[w.end]); w.end++)
        if (p[w.end] == ':') w.local = w.end + 1;
    return w;
}

static int unwanted(const uint8_t *p, name w, int drop_gps)
{
    static const char *const names[] = {"Orientation",     "ImageWidth",      "ImageLength", "ExifImageWidth", "ExifImageHeight",
                                        "PixelXDimension", "PixelYDimension", "Thumbnails"};
    size_t n = w.end - w.local;
    if (drop_gps && n >= 3 && memcmp(p + w.local, "GPS", 3) == 0) return 1;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i]) == n && memcmp(p + w.local, names[i], n) == 0) return 1;
    return 0;
}

// Behind the closing words of a comment or the like; 0 when they are missing.
static size_t behind(const uint8_t *p, size_t n, size_t at, const char *words)
{
    size_t len = strlen(words);
    const uint8_t *found = memmem(p + at, n - at, words, len);
    return found ? (size_t)(found - p) + len : 0;
}

// End of the tag that begins at `at` ('<'): behind its '>', which does not count within quotes. 0 when there is none.
static size_t tag_end(const uint8_t *p, size_t n, size_t at)
{
    uint8_t quote = 0;
    if (n - at >= 4 && memcmp(p + at, "<!--", 4) == 0) return behind(p, n, at + 4, "-->");
    if (n - at >= 9 && memcmp(p + at, "<![CDATA[", 9) == 0) return behind(p, n, at + 9, "]]>");
    for (size_t i = at + 1; i < n; i++) {
        if (quote)
            quote = p[i] == quote ? 0 : quote;
        else if (p[i] == '"' || p[i] == '\'')
            quote = p[i];
        else if (p[i] == '>')
            return i + 1;
    }
    return 0;
}

// Behind the end tag of the element w whose start tag ends at `from`. Elements of the same name do not nest in XMP's properties, but are
// counted all the same. 0 when there is none.
static size_t element_end(const uint8_t *p, size_t n, name w, size_t from)
{
    size_t len = w.end - w.at, depth = 1;
    for (size_t i = from; i < n;) {
        if (p[i] != '<') {
            i++;
            continue;
        }
        size_t end = tag_end(p, n, i);
        int closing = i + 1 < n && p[i + 1] == '/';
        name other = read_name(p, n, i + 1 + (size_t)closing);
        if (!end) return 0;
        int same = other.end - other.at == len && memcmp(p + other.at, p + w.at, len) == 0;
        if (same && closing)
            depth--;
        else if (same && p[end - 2] != '/')
            depth++;
        if (depth == 0) return end;
        i = end;
    }
    return 0;
}

// Attributes of the start tag whose name ends at `at`. 0 or -1.
static int clean_attributes(uint8_t *p, size_t at, size_t end, int drop_gps)
{
    while (at < end) {
        if (!name_char(p[at])) {
            at++;
            continue;
        }
        name w = read_name(p, end, at);
        size_t i = w.end;
        while (i < end && blank(p[i])) i++;
        if (i >= end || p[i] != '=') return -1;
        for (i++; i < end && blank(p[i]);) i++;
        if (i >= end || (p[i] != '"' && p[i] != '\'')) return -1;
        const uint8_t *close = memchr(p + i + 1, p[i], end - i - 1);
        if (!close) return -1;
        at = (size_t)(close - p) + 1;
        if (unwanted(p, w, drop_gps)) memset(p + w.at, ' ', at - w.at);
    }
    return 0;
}

int yd_xmp_adapt(uint8_t *p, size_t n, int drop_gps)
{
    if (memchr(p, 0, n)) return -1;
    for (size_t i = 0; i < n;) {
        if (p[i] != '<') {
            i++;
            continue;
        }
        size_t end = tag_end(p, n, i);
        if (!end) return -1;
        if (i + 1 < n && name_char(p[i + 1])) {
            name w = read_name(p, n, i + 1);
            if (unwanted(p, w, drop_gps)) {
                if (p[end - 2] != '/') end = element_end(p, n, w, end);
                if (!end) return -1;
                memset(p + i, ' ', end - i);
            } else if (clean_attributes(p, w.end, end - 1, drop_gps))
                return -1;
        }
        i = end;
    }
    return 0;
}
