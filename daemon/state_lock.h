// A state folder belongs to one process at a time, or to those that share a store: state_dir/lock is locked by it, and says which it is.
#ifndef YD_DAEMON_STATE_LOCK_H
#define YD_DAEMON_STATE_LOCK_H

#include "core/err.h"

// Lock the folder, which is made if need be. shared: others that say so too may have it as well. *fd: to be closed to let go of it, also after a failure where it is not -1. YD_E_CONFIG naming
// state_dir and, where it is known, the process that has it.
int yd_state_lock(const char *folder, int shared, int *fd, yd_err *err);

#endif
