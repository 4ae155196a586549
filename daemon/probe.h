// Ask a running yodad how it is, for health checks where there is no curl: `yodad --probe`.
#ifndef YD_DAEMON_PROBE_H
#define YD_DAEMON_PROBE_H

#include "daemon/config.h"

// GET `path` of the server that listens where cfg says; "every address" is asked on loopback. Blocks at most YD_PROBE_MS. 0: it answered
// 200. YD_E_IO: nobody answers, or with another status; the message says which.
#define YD_PROBE_MS 3000
int yd_probe(const yd_config *cfg, const char *path, yd_err *err);

#endif
