// Codecs that do as they should: their messages, the same bytes with processes as with threads, refusals, metadata as bytes.
#include "tests/unit/codec_rig.h"

// ---- messages ------------------------------------------------------------------------------------------------------

static yd_codec_request sound_request(yd_codec_op op)
{
    yd_codec_request q;
    yd_output out;
    yd_codec_request_init(&q, op);
    yd_output_init(&out);
    yd_codec_request_output(&q, &out);
    q.w = 32;
    q.h = 16;
    q.bands = 3;
    q.depth = 8;
    q.in_len = op == YD_CODEC_ENCODE ? 32 * 16 * 3 : 1000;
    q.out_off = 8192;
    q.out_len = op == YD_CODEC_DECODE ? 32 * 16 * 8 : 5000;
    q.meta_off = 4096;
    q.meta_len = 100;
    q.region_len = 65536;
    return q;
}

static void requests(void)
{
    for (int op = 0; op < YD_CODEC_OPS; op++) {
        const yd_codec_request good = sound_request((yd_codec_op)op);
        CHECK(yd_codec_request_check(&good, 65536) == 0 && yd_codec_request_check(&good, 65535) == -1);
#define BAD(change)                                                                                                    \
    do {                                                                                                               \
        yd_codec_request q = good;                                                                                     \
        change;                                                                                                        \
        CHECK(yd_codec_request_check(&q, 65536) == -1);                                                                \
    } while (0)
        BAD(q.magic ^= 1);
        BAD(q.version++);
        BAD(q.size--);
        BAD(q.op = YD_CODEC_OPS);
        BAD(q.in_len = 0);
        BAD(q.in_len = 65537);
        BAD(q.in_len = UINT64_MAX);
        BAD(q.meta_off = 65437);
        BAD(q.meta_off = UINT64_MAX);
        BAD(q.meta_len = UINT64_MAX - 4000);
        BAD(q.out_off = 65536);
        BAD(q.out_off = UINT64_MAX - 10);
        BAD(q.out_len = UINT64_MAX);
        if (op == YD_CODEC_PROBE) continue;
        BAD(q.w = 0);
        BAD(q.w = -32);
        BAD(q.h = 1 << 30);
        BAD(q.w = 33);
        if (op == YD_CODEC_DECODE) {
            BAD(q.out_off = 8193);
            BAD(q.out_len--);
            BAD(q.color_space = 2);
        } else {
            BAD(q.bands = 0);
            BAD(q.bands = 5);
            BAD(q.depth = 12);
            BAD(q.format = 4);
            BAD(q.format = -1);
            BAD(q.metadata = 3);
        }
#undef BAD
    }
}

// Whatever bytes a request has: when it passes, everything it points to lies within.
static void random_requests(void)
{
    uint32_t seed = 7;
    int passed = 0;
    for (int i = 0; i < 200000; i++) {
        yd_codec_request q = sound_request((yd_codec_op)(i % YD_CODEC_OPS));
        for (int k = 0; k < 1 + i % 3; k++) {
            seed = seed * 1664525u + 1013904223u;
            ((uint8_t *)&q)[(seed >> 8) % sizeof q] ^= (uint8_t)(1u << (seed >> 29));
        }
        if (yd_codec_request_check(&q, 65536)) continue;
        passed++;
        const int within = q.in_len <= 65536 && q.meta_off + q.meta_len <= 65536 && q.out_off + q.out_len <= 65536;
        if (!within) CHECK(within);
        if (q.op == YD_CODEC_DECODE) CHECK((uint64_t)q.w * (uint64_t)q.h * 8 <= q.out_len && q.w > 0 && q.h > 0);
    }
    CHECK(passed > 1000);
}

static void answers(void)
{
    static const char lies[] = "mvsowWdrR"; // those that are lies about a probe, too
    yd_codec_request probe = sound_request(YD_CODEC_PROBE), decode = sound_request(YD_CODEC_DECODE);
    yd_codec_answer a;
    probe.max_pixels = 10000;
    probe.max_side = 1000;
    probe.min_side = 16;
    yd_codec_answer_init(&a, &probe);
    lie('-', &probe, &a);
    CHECK(yd_codec_answer_check(&probe, &a) == 0);
    for (const char *c = lies; *c; c++) {
        yd_codec_answer_init(&a, &probe);
        lie(*c, &probe, &a);
        CHECK_MSG(yd_codec_answer_check(&probe, &a) == -1, "%c", *c);
    }
    for (const char *c = "mvsowWdglrR"; *c; c++) {
        yd_codec_answer_init(&a, &decode);
        lie(*c, &decode, &a);
        CHECK_MSG(yd_codec_answer_check(&decode, &a) == -1, "%c", *c);
    }
    yd_codec_answer_init(&a, &probe);
    lie('-', &probe, &a);
    a.w = 101; // 101 x 101 pixels are too many
    a.h = 101;
    CHECK(yd_codec_answer_check(&probe, &a) == -1);
    a.w = 15;
    a.h = 20;
    CHECK(yd_codec_answer_check(&probe, &a) == -1);
    yd_codec_request encode = sound_request(YD_CODEC_ENCODE);
    yd_codec_answer_init(&a, &encode);
    a.out_len = encode.out_len;
    CHECK(yd_codec_answer_check(&encode, &a) == 0);
    a.out_len++;
    CHECK(yd_codec_answer_check(&encode, &a) == -1);
    a.out_len = 0;
    CHECK(yd_codec_answer_check(&encode, &a) == -1);
    yd_codec_answer_init(&a, &encode);
    a.rc = YD_E_IMAGE;
    memset(a.detail, 0xff, sizeof a.detail);
    CHECK(yd_codec_answer_check(&encode, &a) == 0 && strlen(a.detail) == sizeof a.detail - 1 && a.detail[5] == '?');
}

static void sockets(void)
{
    int pair[2], fd, before = count_fds();
    char small[100] = "hello", got[100];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    CHECK(yd_codec_send(pair[0], small, sizeof small, pair[1]) == 0);
    CHECK(yd_codec_receive(pair[1], got, sizeof got, &fd) == 1 && fd >= 0 && memcmp(got, small, sizeof got) == 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    CHECK(yd_codec_send(pair[0], small, 99, pair[1]) == 0);
    CHECK(yd_codec_receive(pair[1], got, sizeof got, &fd) == -1 && errno == EPROTO && fd == -1);
    CHECK(yd_codec_send(pair[0], small, 100, pair[1]) == 0);
    CHECK(yd_codec_receive(pair[1], got, 99, &fd) == -1 && errno == EPROTO && fd == -1);
    CHECK(yd_codec_send(pair[0], small, 100, pair[1]) == 0);
    CHECK(yd_codec_receive(pair[1], got, 100, NULL) == 1); // the descriptor is not taken
    close(pair[0]);
    CHECK(yd_codec_receive(pair[1], got, 100, &fd) == 0);
    close(pair[1]);
    CHECK(count_fds() == before);
}

// Memory that cannot be taken away below who reads it.
static void regions(void)
{
    yd_region r;
    yd_err err;
    CHECK(yd_region_make(&r, 100000, &err) == 0 && r.base[99999] == 0);
    CHECK(ftruncate(r.fd, 10) == -1 && ftruncate(r.fd, 1 << 20) == -1);
    CHECK(fcntl(r.fd, F_ADD_SEALS, F_SEAL_WRITE) == -1);
    yd_region_free(&r);
    CHECK(r.fd == -1 && !r.base);
    yd_region_free(&r);
}

// ---- with real processes -------------------------------------------------------------------------------------------

static void same_bytes(int processes)
{
    setup(processes);
    open_codecs(NULL);
    WAIT(yd_codecs_ready(codecs));
    for (int f = YD_PNG; f <= YD_TIFF; f++)
        for (int kind = 0; kind < 4; kind++) {
            yd_image im = sample(50 + 300 * (f == YD_PNG), 40, kind & 1 ? 16 : 8, kind >> 1);
            im.grey = 0;
            trip(&im, (yd_image_format)f);
            yd_image_clear(&im);
        }
    close_codecs();
}

static void same_bytes_processes(void)
{
    same_bytes(2);
}

static void same_bytes_threads(void)
{
    same_bytes(0);
}

// Metadata goes through a process whole, and what is no picture is refused as without one.
static void refusals(void)
{
    static const char *const files[] = {"hello", "\x89PNG\r\n\x1a\nxxxx", "GIF89a\1\0\1\0\0\0\0;", "<svg xmlns='http://www.w3.org/2000/svg'/>"};
    setup(1);
    open_codecs(NULL);
    WAIT(yd_codecs_ready(codecs));
    for (size_t i = 0; i < 4; i++) {
        yd_image_header h;
        yd_err err = {0};
        visit v = {.file = files[i], .len = strlen(files[i])};
        CHECK(run(&v, YD_CODEC_PROBE) == yd_image_probe(files[i], strlen(files[i]), &wide, &h, &err));
        CHECK_MSG(strcmp(v.call.err.detail, err.detail) == 0 && strcmp(v.call.err.accepted, err.accepted) == 0, "'%s' / '%s'",
                  v.call.err.detail, err.detail);
    }
    visit empty = {.file = "", .len = 0};
    CHECK(run(&empty, YD_CODEC_PROBE) == YD_E_IMAGE);
    // Another size than the header's is the file's fault.
    yd_image im = sample(40, 30, 8, 0);
    yd_output png;
    void *bytes;
    size_t n;
    yd_err err;
    yd_output_init(&png);
    CHECK(yd_image_encode(&im, &png, &bytes, &n, &err) == 0);
    visit v = {.file = bytes, .len = n};
    v.call.w = 30;
    v.call.h = 40;
    CHECK(run(&v, YD_CODEC_DECODE) == YD_E_IMAGE && strstr(v.call.err.detail, "40x30"));
    v.len = n / 2;
    v.call.w = 40;
    v.call.h = 30;
    CHECK(run(&v, YD_CODEC_DECODE) == YD_E_IMAGE && strstr(v.call.err.detail, "damaged"));
    yd_free(bytes);
    yd_image_clear(&im);
    close_codecs();
}

// ---- metadata as bytes ---------------------------------------------------------------------------------------------

static void metadata_blocks(void)
{
    yd_image_meta *m = NULL, *back = NULL;
    yd_err err;
    uint8_t block[200] = {0};
    CHECK(yd_image_meta_block(NULL, NULL) == 0 && yd_image_meta_read(NULL, 0, &back, &err) == 0 && !back);
    // magic, lengths 4 3 0 0, no resolution, seven bytes
    const uint32_t magic = 0x59444d31u;
    const uint64_t len[4] = {4, 3, 0, 0};
    memcpy(block, &magic, 4);
    memcpy(block + 8, len, sizeof len);
    const size_t n = 8 + sizeof len + 16 + 7;
    memcpy(block + n - 7, "icc_exi", 7);
    CHECK(yd_image_meta_read(block, n, &m, &err) == 0 && m);
    uint8_t out[200];
    CHECK(yd_image_meta_block(m, NULL) == n && yd_image_meta_block(m, out) == n && memcmp(out, block, n) == 0);
    for (size_t k = 0; k < n; k++) {
        uint8_t *exact = malloc(k ? k : 1);
        memcpy(exact, block, k);
        const int rc = yd_image_meta_read(exact, k, &back, &err);
        CHECK(k == 0 ? rc == 0 : rc == YD_E_IMAGE && !back);
        free(exact);
    }
    uint32_t seed = 3;
    for (int i = 0; i < 20000; i++) {
        uint8_t *bad = malloc(n);
        memcpy(bad, block, n);
        for (int k = 0; k < 1 + i % 4; k++) {
            seed = seed * 1664525u + 1013904223u;
            bad[(seed >> 8) % (n - 7)] ^= (uint8_t)(1u << (seed >> 29));
        }
        if (yd_image_meta_read(bad, n, &back, &err) == 0) yd_image_meta_unref(back);
        free(bad);
    }
    yd_image_meta_unref(m);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"requests", requests},
        {"random requests", random_requests},
        {"answers", answers},
        {"sockets", sockets},
        {"regions", regions},
        {"metadata blocks", metadata_blocks},
        {"the same bytes by processes", same_bytes_processes},
        {"the same bytes by threads", same_bytes_threads},
        {"refusals", refusals},
    };
    if (argc > 1 && strcmp(argv[1], YD_CODEC_ARGUMENT) == 0) return yd_codec_child_main(argc, argv, yd_codec_perform);
    yd_err err;
    yd_log_set_level("error");
    if (yd_image_init(&err)) return 1;
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
