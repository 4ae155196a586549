// What the parts of the picture code share about libvips. Private to core/image*.c.
#ifndef YD_CORE_IMAGE_VIPS_H
#define YD_CORE_IMAGE_VIPS_H

#include "core/err.h"
#include <stddef.h>

// Fail with "<what>: <libvips' own words>" in one printable line, and empty libvips' error buffer. The buffer is one for the whole
// process: while several threads fail at once the words may be a neighbour's, the code never is.
int yd_vips_fail(yd_err *err, int code, const char *what);

// Forget libvips' words about something that turned out not to matter.
void yd_vips_forget_errors(void);

#endif
