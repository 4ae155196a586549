// Messages between the daemon and its codec processes: a greeting, a request, an answer to it. The first byte is the operation; then
// come the fields behind the heads. Whatever passes the checks points into the shared memory, and its words end.
#include "daemon/codec_wire.h"
#include "tests/fuzz/fuzz.h"

#define REGION ((uint64_t)1 << 24)

static int inside(uint64_t off, uint64_t len)
{
    return len <= REGION && off <= REGION - len;
}

// Fill what follows the first `head` bytes of a message from the input.
static void fill(void *message, size_t n, size_t head, const uint8_t **data, size_t *size)
{
    const size_t k = *size < n - head ? *size : n - head;
    if (k) memcpy((uint8_t *)message + head, *data, k);
    *data += k;
    *size -= k;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    yd_codec_hello h;
    yd_codec_request q;
    yd_codec_answer a;
    yd_output out;
    yd_err err = {0};
    if (!size) return 0;
    memset(&h, 0, sizeof h);
    memcpy(&h, data, size < sizeof h ? size : sizeof h);
    (void)yd_codec_hello_check(&h);
    yd_codec_request_init(&q, (yd_codec_op)(data[0] % YD_CODEC_OPS));
    data++, size--;
    fill(&q, sizeof q, offsetof(yd_codec_request, serial), &data, &size);
    if (yd_codec_request_check(&q, REGION)) return 0;
    HOLDS(inside(0, q.in_len) && inside(q.meta_off, q.meta_len) && inside(q.out_off, q.out_len));
    yd_codec_output_of(&q, &out);
    yd_codec_answer_init(&a, &q);
    fill(&a, sizeof a, offsetof(yd_codec_answer, rc), &data, &size);
    if (yd_codec_answer_check(&q, &a)) return 0;
    HOLDS(memchr(a.detail, 0, sizeof a.detail) && memchr(a.field, 0, sizeof a.field) && memchr(a.accepted, 0, sizeof a.accepted));
    if (a.rc) (void)yd_codec_answer_error(&a, &err);
    else if (q.op == YD_CODEC_PROBE) HOLDS(memchr(a.format, 0, sizeof a.format) && a.w > 0 && a.h > 0);
    else HOLDS(q.op == YD_CODEC_DECODE ? a.meta_len <= q.meta_len : a.out_len <= q.out_len);
    return 0;
}
