// Event streams: server-sent events or JSON lines, out of a job's event log.
#ifndef YD_API_EVENT_STREAM_H
#define YD_API_EVENT_STREAM_H

#include "api/server.h"

// Send a comment to every quiet stream, cut those that take nothing.
void yd_streams_heartbeat(yd_api *api);
// Let every stream send what is there, then end.
void yd_streams_end_all(yd_api *api);
// End those whose owner has no key any more that reads.
void yd_streams_end_ownerless(yd_api *api);

#endif
