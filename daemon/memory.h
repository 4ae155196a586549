// How much memory there is for this process.
#ifndef YD_DAEMON_MEMORY_H
#define YD_DAEMON_MEMORY_H

#include <stddef.h>

// Bytes that may still be taken: what the machine has available, or what the control group (version 2) leaves if that is less. SIZE_MAX where
// neither can be told. Reads /proc and /sys.
size_t yd_memory_available(void);

#endif
