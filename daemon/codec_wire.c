// Messages between daemon and codec processes: made, checked, sent, received. See codec_wire.h.
#include "daemon/codec_wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAGIC    0x59444350u
#define MAX_SIDE 131072 // activation steps are kept as a picture of twice a side

const char *yd_codec_op_name(yd_codec_op op)
{
    static const char *const names[YD_CODEC_OPS] = {"probe", "decode", "encode"};
    return op < YD_CODEC_OPS ? names[op] : "?";
}

// ---- making

void yd_codec_request_init(yd_codec_request *q, yd_codec_op op)
{
    memset(q, 0, sizeof *q);
    q->magic = MAGIC;
    q->version = YD_CODEC_VERSION;
    q->size = sizeof *q;
    q->op = op;
}

void yd_codec_answer_init(yd_codec_answer *a, const yd_codec_request *q)
{
    memset(a, 0, sizeof *a);
    a->magic = MAGIC;
    a->version = YD_CODEC_VERSION;
    a->size = sizeof *a;
    a->op = q->op;
    a->serial = q->serial;
}

void yd_codec_hello_init(yd_codec_hello *h)
{
    memset(h, 0, sizeof *h);
    h->magic = MAGIC;
    h->version = YD_CODEC_VERSION;
    h->size = sizeof *h;
}

void yd_codec_answer_fail(yd_codec_answer *a, int rc, const yd_err *err)
{
    a->rc = rc;
    snprintf(a->detail, sizeof a->detail, "%s", err->detail);
    snprintf(a->field, sizeof a->field, "%s", err->field);
    snprintf(a->accepted, sizeof a->accepted, "%s", err->accepted);
}

int yd_codec_answer_error(const yd_codec_answer *a, yd_err *err)
{
    return yd_fail_field(err, a->rc, a->field, a->accepted, "%s", a->detail);
}

void yd_codec_request_output(yd_codec_request *q, const yd_output *out)
{
    q->format = (int32_t)out->format;
    q->encode_quality = out->encode_quality;
    q->lossless = out->lossless;
    q->effort = out->effort;
    q->bit_depth = out->bit_depth;
    q->metadata = (int32_t)out->metadata;
}

void yd_codec_output_of(const yd_codec_request *q, yd_output *out)
{
    yd_output_init(out);
    out->format = (yd_image_format)q->format;
    out->encode_quality = q->encode_quality;
    out->lossless = q->lossless;
    out->effort = q->effort;
    out->bit_depth = q->bit_depth;
    out->metadata = (yd_metadata_policy)q->metadata;
}

// ---- checking

static int within(uint64_t off, uint64_t len, uint64_t size)
{
    return off <= size && len <= size - off;
}

static int side(int32_t v)
{
    return v >= 1 && v <= MAX_SIDE;
}

static int one_of(int32_t v, int32_t a, int32_t b)
{
    return v == a || v == b;
}

// Bytes of decoded pixels: three colours and alpha, 16 bits each.
static uint64_t pixel_bytes(const yd_codec_request *q)
{
    return (uint64_t)q->w * (uint64_t)q->h * 8;
}

static int sound_decode(const yd_codec_request *q)
{
    return side(q->w) && side(q->h) && q->out_off % sizeof(uint16_t) == 0 && q->out_len == pixel_bytes(q) &&
           one_of(q->color_space, YD_COLOR_SOURCE, YD_COLOR_SRGB);
}

static int sound_encode(const yd_codec_request *q)
{
    const int known = q->format >= YD_PNG && q->format <= YD_TIFF && q->metadata >= YD_META_KEEP && q->metadata <= YD_META_STRIP;
    if (!known || !side(q->w) || !side(q->h) || q->bands < 1 || q->bands > 4 || !one_of(q->depth, 8, 16)) return 0;
    const yd_packing p = {q->w, q->h, q->bands, q->depth};
    return q->in_len == yd_packing_bytes(&p);
}

int yd_codec_request_check(const yd_codec_request *q, uint64_t region_size)
{
    if (q->magic != MAGIC || q->version != YD_CODEC_VERSION || q->size != sizeof *q || q->op >= YD_CODEC_OPS) return -1;
    if (q->region_len > region_size || q->in_len == 0 || !within(0, q->in_len, q->region_len) ||
        !within(q->meta_off, q->meta_len, q->region_len) || !within(q->out_off, q->out_len, q->region_len) ||
        q->meta_len > YD_META_BLOCK_MAX)
        return -1;
    if (q->op == YD_CODEC_DECODE) return sound_decode(q) ? 0 : -1;
    if (q->op == YD_CODEC_ENCODE) return sound_encode(q) ? 0 : -1;
    return 0;
}

// Errors that reading and writing pictures can have.
static int possible_error(int rc)
{
    static const int known[] = {YD_E_SETTING,         YD_E_IMAGE,          YD_E_IMAGE_FORMAT, YD_E_IMAGE_TOO_LARGE,
                                YD_E_IMAGE_TOO_SMALL, YD_E_BODY_TOO_LARGE, YD_E_NOMEM,        YD_E_INTERNAL, YD_E_INVALID};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (rc == known[i]) return 1;
    return 0;
}

static void make_printable(char *s, size_t cap)
{
    s[cap - 1] = 0;
    for (; *s; s++)
        if (*s < 0x20 || *s > 0x7e) *s = '?';
}

static int sound_format(char format[16])
{
    size_t n;
    const yd_image_kind *k = yd_image_kinds(&n);
    format[15] = 0;
    for (size_t i = 0; i < n; i++)
        if (strcmp(k[i].name, format) == 0) return 1;
    return 0;
}

static int sound_header(const yd_codec_request *q, yd_codec_answer *a)
{
    if (!side(a->w) || !side(a->h) || a->w < q->min_side || a->h < q->min_side) return 0;
    if (q->max_side > 0 && (a->w > q->max_side || a->h > q->max_side)) return 0;
    if (q->max_pixels > 0 && (int64_t)a->w * a->h > q->max_pixels) return 0;
    return a->channels >= 1 && a->channels <= 5 && one_of(a->depth, 8, 16) && a->pages >= 0 && sound_format(a->format);
}

int yd_codec_answer_check(const yd_codec_request *q, yd_codec_answer *a)
{
    if (a->magic != MAGIC || a->version != YD_CODEC_VERSION || a->size != sizeof *a || a->op != q->op || a->serial != q->serial) return -1;
    make_printable(a->detail, sizeof a->detail);
    make_printable(a->field, sizeof a->field);
    make_printable(a->accepted, sizeof a->accepted);
    if (a->rc) return possible_error(a->rc) ? 0 : -1;
    switch ((yd_codec_op)q->op) {
    case YD_CODEC_PROBE:
        return sound_header(q, a) ? 0 : -1;
    case YD_CODEC_DECODE:
        return a->w == q->w && a->h == q->h && one_of(a->depth, 8, 16) && one_of(a->grey, 0, 1) && one_of(a->alpha, 0, 1) &&
                       a->meta_len <= q->meta_len
                   ? 0
                   : -1;
    default:
        return a->out_len > 0 && a->out_len <= q->out_len ? 0 : -1;
    }
}

int yd_codec_hello_check(const yd_codec_hello *h)
{
    return h->magic == MAGIC && h->version == YD_CODEC_VERSION && h->size == sizeof *h ? 0 : -1;
}

// ---- sending

int yd_codec_send(int socket, const void *message, size_t n, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } room = {{0}};
    struct iovec part = {(void *)(uintptr_t)message, n};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        m.msg_control = room.bytes;
        m.msg_controllen = sizeof room.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    ssize_t sent;
    do sent = sendmsg(socket, &m, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)n ? 0 : -1;
}

static int brought_fd(struct msghdr *m)
{
    int fd = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

int yd_codec_receive(int socket, void *message, size_t n, int *fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))]; // of more than one descriptor the kernel closes the rest
        struct cmsghdr align;
    } room = {{0}};
    char beyond; // a message that is too long shows
    struct iovec part[2] = {{message, n}, {&beyond, 1}};
    struct msghdr m = {.msg_iov = part, .msg_iovlen = 2};
    if (fd) {
        *fd = -1;
        m.msg_control = room.bytes;
        m.msg_controllen = sizeof room.bytes;
    }
    ssize_t got;
    do got = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got > 0 && fd) *fd = brought_fd(&m);
    if (got == (ssize_t)n) return 1;
    if (got == 0) return 0;
    if (got > 0) {
        if (fd && *fd >= 0) close(*fd);
        if (fd) *fd = -1;
        errno = EPROTO;
    }
    return -1;
}
