// What daemon and codec processes say to each other: one request, one answer, both of fixed size, over a socket that keeps messages apart.
//
// Both ends are the same program, so the structs travel as they are; magic, version and size tell when they are not. Everything of variable
// size lies in shared memory, whose descriptor comes with a request and stays in use until another one comes:
//   probe   [file]
//   decode  [file] [pixels: rgb, then alpha] [metadata block]
//   encode  [samples] [metadata block] [file]
// The child checks a request before it touches anything, the daemon an answer: neither can make the other read outside the memory. An
// answer's words are made printable. Pure, except send and receive, which never block the daemon's end (it is set so).
#ifndef YD_DAEMON_CODEC_WIRE_H
#define YD_DAEMON_CODEC_WIRE_H

#include "core/image_parts.h"

#define YD_CODEC_FD      3 // the child's end of the socket
#define YD_CODEC_VERSION 1

typedef enum { YD_CODEC_PROBE, YD_CODEC_DECODE, YD_CODEC_ENCODE, YD_CODEC_OPS } yd_codec_op;
const char *yd_codec_op_name(yd_codec_op op); // "probe"

typedef struct yd_codec_request {
    uint32_t magic, version, size, op;
    uint64_t serial;
    uint64_t address_space; // bytes the process may map meanwhile; 0: no limit
    uint32_t cpu_s;         // processor time it may take; 0: no limit
    int32_t color_space;
    uint64_t region_len;
    uint64_t in_len; // from 0
    uint64_t meta_off, meta_len;
    uint64_t out_off, out_len;
    int64_t max_pixels;
    uint64_t max_bytes;
    int32_t min_side, max_side;
    int32_t w, h, bands, depth; // decode: what is expected; encode: what the samples are
    int32_t format, encode_quality, lossless, effort, bit_depth, metadata;
} yd_codec_request;

typedef struct yd_codec_answer {
    uint32_t magic, version, size, op;
    uint64_t serial;
    int32_t rc;
    int32_t w, h, channels, depth, pages; // probe; decode
    int32_t grey, alpha;                  // decode
    uint64_t meta_len;                    // decode
    uint64_t out_len;                     // encode
    char format[16];                      // probe
    char detail[384], field[96], accepted[256];
} yd_codec_answer;

// The first message of a process: it is ready.
typedef struct yd_codec_hello {
    uint32_t magic, version, size;
    uint32_t reads;    // yd_image_reads
    uint32_t confined; // system calls are filtered
} yd_codec_hello;

// Zero, then the head.
void yd_codec_request_init(yd_codec_request *q, yd_codec_op op);
void yd_codec_answer_init(yd_codec_answer *a, const yd_codec_request *q);
void yd_codec_hello_init(yd_codec_hello *h);

// Is this a sound request, to a region of that size? 0 or -1.
int yd_codec_request_check(const yd_codec_request *q, uint64_t region_size);
// Is this an answer to q? 0 or -1; makes its words printable and ended.
int yd_codec_answer_check(const yd_codec_request *q, yd_codec_answer *a);
int yd_codec_hello_check(const yd_codec_hello *h);

// An error as an answer, and back.
void yd_codec_answer_fail(yd_codec_answer *a, int rc, const yd_err *err);
int yd_codec_answer_error(const yd_codec_answer *a, yd_err *err);

void yd_codec_request_output(yd_codec_request *q, const yd_output *out);
void yd_codec_output_of(const yd_codec_request *q, yd_output *out);

// Send one message of n bytes, with a descriptor unless fd is -1. 0 or -1 (errno).
int yd_codec_send(int socket, const void *message, size_t n, int fd);
// Receive one of exactly n bytes. *fd (may be NULL: none is taken) is the descriptor it brought, or -1. 1: got it; 0: the other end is
// closed; -1: errno EAGAIN when there is none yet, EPROTO when it has another size, anything else as it failed.
int yd_codec_receive(int socket, void *message, size_t n, int *fd);

#endif
