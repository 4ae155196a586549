// What a checkpoint is, whether or not yodad can serve it: for people who have a file and no idea.
#ifndef YD_CORE_IDENTIFY_H
#define YD_CORE_IDENTIFY_H

#include "core/tensors.h"

typedef enum {
    YD_IS_UNKNOWN,
    YD_IS_MODEL,         // a network that yodad runs: ours, SR3, ddpm, SRDiff
    YD_IS_UNCONDITIONAL, // of the SR3 code, makes pictures from nothing
    YD_IS_ENCODER,       // SRDiff's RRDB alone
    YD_IS_ATTENTION,     // DINO and the like
    YD_IS_OPTIMIZER      // the state of a training, no network
} yd_identity;

// Say what it is by the names of its tensors: dst gets one line, "SRDiff's encoder alone: RRDB of 17 blocks, 64 wide, ...". A file that is only
// nearly a network, tensors missing, is still called one. Cheap; values are not looked at.
yd_identity yd_identify(const yd_safetensors *st, char *dst, size_t cap);

// Why yodad does not serve such a file, and what to do with it; "" for a model.
const char *yd_identity_advice(yd_identity id);

#endif
