// Maps of a convolutional network's last features: how much each place agrees with the mean of all ("pooled query").
//
// The query q is the mean of the features over all places. Channels are cut into equal groups, the heads (what is left over takes no part), and
// the map of head k is s_k[p] = <q_k, z_k[p]>. There is no softmax: on real features it falls on one place.
// A definition of this project's; no one is published for networks without attention.
#ifndef YD_CORE_POOLED_QUERY_H
#define YD_CORE_POOLED_QUERY_H

#include <stddef.h>

// z: pixels x c floats, the channels of a place side by side; q: c floats to work in; maps: heads x pixels to fill, 1 <= heads <= c.
// Reentrant; the same bits on any thread.
void yd_pooled_query(const float *z, size_t pixels, size_t c, int heads, float *q, float *maps);

#endif
