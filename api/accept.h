// Content negotiation (RFC 9110, 12.5.1): which of the types that can be sent a client wants most.
#ifndef YD_API_ACCEPT_H
#define YD_API_ACCEPT_H

#include "api/request.h"
#include "core/image.h"

// Index of the offered media type that an Accept header gives the highest weight; of equal ones the first, which should be what costs least.
// The weight of a type is that of the most specific range that names it. -1: none is acceptable. header NULL: 0. Pure.
int yd_accept_choose(const char *header, const char *const *offer, int n);

// The same for pictures, of which one is `native`, there without work; PNG, WebP and JPEG can be had besides. YD_E_NOT_ACCEPTABLE.
int yd_accept_picture(const yd_request *r, yd_image_format native, yd_image_format *out, yd_err *err);

#endif
