// Forms: the body of a multipart/form-data request with the boundary BB. libmicrohttpd's splitter wants a connection that has the header; one
// is made at the start, by a request over a socket pair, and kept.
#include "api/submission.h"
#include "core/mem.h"
#include "tests/fuzz/fuzz.h"

#include <microhttpd.h>
#include <sys/socket.h>
#include <unistd.h>

static struct MHD_Connection *kept;

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method, const char *version, const char *data,
                                  size_t *n, void **context)
{
    (void)cls, (void)url, (void)method, (void)version, (void)data, (void)n, (void)context;
    kept = c;
    return MHD_YES;
}

static void connect_once(void)
{
    static const char head[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=BB\r\nContent-Length: 9\r\n\r\n";
    static const struct sockaddr address = {.sa_family = AF_UNIX};
    int pair[2];
    struct MHD_Daemon *d = MHD_start_daemon(MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, on_request, NULL, MHD_OPTION_END);
    HOLDS(d && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    HOLDS(MHD_add_connection(d, pair[0], &address, sizeof address) == MHD_YES);
    HOLDS(write(pair[1], head, sizeof head - 1) == sizeof head - 1);
    for (int i = 0; i < 100 && !kept; i++) MHD_run(d);
    HOLDS(kept);
}

static int read_form(yd_intake *in, const char *form, size_t size, yd_err *err)
{
    static yd_request r;
    r.mhd = kept;
    return yd_intake_multipart(in, &r, form, size, err);
}

// The splitter is at work: without this a connection that is none would look like a form that is none.
static void accept_one(void)
{
    static const char form[] = "--BB\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\nxx\r\n--BB--\r\n";
    yd_intake in = {.max_uploads = 3};
    HOLDS(read_form(&in, form, sizeof form - 1, NULL) == 0 && in.n_uploads == 1 && in.uploads[0].len == 2);
    yd_intake_clear(&in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    yd_intake in = {.max_uploads = 3};
    yd_err err = {0};
    if (!kept) {
        connect_once();
        accept_one();
    }
    const int rc = read_form(&in, (const char *)data, size, &err);
    HOLDS(rc == 0 ? in.n_uploads >= 1 && in.n_uploads <= 3 : err.detail[0]);
    for (size_t i = 0; i < in.n_uploads; i++) HOLDS(memchr(in.uploads[i].name, 0, YD_NAME_MAX) && in.uploads[i].name[0] && !strchr(in.uploads[i].name, '/'));
    yd_intake_clear(&in);
    return 0;
}
