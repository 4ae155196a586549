// Accept: ranges with weights, read without a copy. Any thread, but for yd_accept_picture.
#include "api/accept.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define FULL_WEIGHT 1000

static const char *skip_space(const char *p)
{
    while (*p == ' ' || *p == '\t') p++;
    return p;
}

// "0.5" in thousandths; what is no weight counts as none given.
static int read_weight(const char *p)
{
    int v = 0, unit = 100;
    if (*p == '1') return FULL_WEIGHT;
    if (*p != '0') return FULL_WEIGHT;
    if (p[1] != '.') return 0;
    for (p += 2; *p >= '0' && *p <= '9' && unit; p++, unit /= 10) v += (*p - '0') * unit;
    return v;
}

// The weight among a range's parameters, which end at `end`.
static int weight_of(const char *p, const char *end)
{
    while (p && p < end) {
        p = memchr(p, ';', (size_t)(end - p));
        if (!p) break;
        p = skip_space(p + 1);
        if ((*p == 'q' || *p == 'Q') && p[1] == '=') return read_weight(p + 2);
    }
    return FULL_WEIGHT;
}

// How well a range of n bytes names a type: 3 exactly, 2 by "image/*", 1 by "*/*", 0 not.
static int fit(const char *range, size_t n, const char *type)
{
    const char *slash = strchr(type, '/');
    const size_t major = slash ? (size_t)(slash - type) + 1 : 0;
    if (n == 3 && !strncmp(range, "*/*", 3)) return 1;
    if (n == major + 1 && range[major] == '*' && !strncasecmp(range, type, major)) return 2;
    return n == strlen(type) && !strncasecmp(range, type, n) ? 3 : 0;
}

static int weight_for(const char *header, const char *type)
{
    int best = 0, weight = 0;
    for (const char *p = header; *p;) {
        p = skip_space(p);
        const char *end = p + strcspn(p, ",");
        const size_t n = strcspn(p, ",; \t");
        const int f = fit(p, n, type);
        if (f > best) {
            best = f;
            weight = weight_of(p, end);
        }
        p = *end ? end + 1 : end;
    }
    return weight;
}

int yd_accept_choose(const char *header, const char *const *offer, int n)
{
    int chosen = -1, most = 0;
    if (!header || !*skip_space(header)) return 0;
    for (int i = 0; i < n; i++) {
        const int w = weight_for(header, offer[i]);
        if (w > most) {
            most = w;
            chosen = i;
        }
    }
    return chosen;
}

int yd_accept_picture(const yd_request *r, yd_image_format native, yd_image_format *out, yd_err *err)
{
    const yd_image_format besides[] = {YD_PNG, YD_WEBP, YD_JPEG};
    yd_image_format format[4] = {native};
    const char *offer[4] = {yd_image_format_mime(native)};
    int n = 1;
    for (size_t i = 0; i < sizeof besides / sizeof besides[0]; i++) {
        if (besides[i] == native) continue;
        offer[n] = yd_image_format_mime(besides[i]);
        format[n++] = besides[i];
    }
    const int chosen = yd_accept_choose(yd_request_header(r, "Accept"), offer, n);
    if (chosen >= 0) {
        *out = format[chosen];
        return 0;
    }
    char accepted[128];
    snprintf(accepted, sizeof accepted, "%s, %s, %s%s%s", offer[0], offer[1], offer[2], n > 3 ? ", " : "", n > 3 ? offer[3] : "");
    return yd_fail_field(err, YD_E_NOT_ACCEPTABLE, "Accept", accepted, "the picture is to be had as %s", accepted);
}
