// What the files of api/ share about the server. Nobody outside includes this.
#ifndef YD_API_SERVER_H
#define YD_API_SERVER_H

#include "api/api.h"
#include "api/conn_guard.h"
#include "api/list.h"
#include "daemon/service.h"
#include <microhttpd.h>

struct yd_api {
    uv_loop_t *loop;
    yd_service *service;
    const yd_config *cfg;
    struct MHD_Daemon *mhd;
    yd_guard *guard;
    int listen_fd; // -1 once quiesced
    int inherited; // the socket is a supervisor's
    char address[300];
    struct yd_pump *pump; // the handles that drive mhd
    yd_link requests;     // every yd_request alive
    yd_link streams;      // every event stream alive
    size_t body_bytes;    // held by requests that are being received
    uint8_t token_secret[32]; // of stream tokens
    int draining, stopping;
};

// A connection was resumed: let the server look at it in the loop's next turn.
void yd_api_kick(yd_api *api);

#endif
