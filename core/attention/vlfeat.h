// Calls into libvlfeat with bounded memory and a way back when there is none.
#ifndef YD_CORE_ATTENTION_VLFEAT_H
#define YD_CORE_ATTENTION_VLFEAT_H

#include <stddef.h>

// Run work(arg), during which this thread's libvlfeat functions take their memory from core/mem.h, at most `most` bytes at a time. 0; or -1
// when memory ran out: work was then left in the middle of a libvlfeat call and never goes on. In both cases everything libvlfeat
// allocated meanwhile is released, so nothing of its may be kept; work must not allocate otherwise, nor hold a lock over a libvlfeat call.
// Any thread, any number of them at a time; calls do not nest.
int yd_vlfeat_run(void (*work)(void *arg), void *arg, size_t most);

#endif
