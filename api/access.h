// Who is asking, and whether it may: keys, scopes, rates, stream tokens, proxies in front, pages of other origins.
//
// Where no key file is configured everybody is the owner "" and may do everything; what is left of this then is proxies and origins.
//
// A stream token is for clients that can send no headers (EventSource, <img>). It is no key: it ends after stream_token_ttl_s, reads
// only, the streams and pictures of one job, of several, or of all of its owner's, and goes when its owner has no key any more:
//   EXPIRES.OWNER.JOBS.HMAC     EXPIRES in Unix seconds, JOBS ids with commas or "-" for all, HMAC-SHA256 in hex over what stands before
// Threads: the loop's.
#ifndef YD_API_ACCESS_H
#define YD_API_ACCESS_H

#include "api/request.h"

// The secret that signs tokens: kept in state_dir, so that tokens outlive a restart; else made anew. YD_E_IO.
int yd_access_open(yd_api *api, yd_err *err);

// Where the request comes from, as far as proxies can be believed: fills r->client and r->scheme. 1: the connection is a trusted proxy's.
int yd_access_client(yd_request *r);

// May it? Fills r->owner. Before the body is read. YD_E_UNAUTHORIZED, YD_E_FORBIDDEN, YD_E_LIMIT with retry_ms.
int yd_access_judge(yd_request *r, yd_err *err);

// Headers for pages of other origins (cors_origins), never with credentials. Nothing where the request names no such origin.
void yd_access_headers(const yd_request *r, struct MHD_Response *resp);
// In the answer to a preflight, besides.
void yd_access_preflight(const yd_request *r, struct MHD_Response *resp);

#endif
