// Private to core/attention_nets*.c: the list of resident networks.
#ifndef YD_CORE_ATTENTION_NETS_INTERNAL_H
#define YD_CORE_ATTENTION_NETS_INTERNAL_H

#include "core/attention_nets.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct yd_attention_entry {
    char name[YD_ATTENTION_NAME_MAX];
    char *path;
    yd_attention_net *net;
    yd_attention_net_info info; // but for its bytes
    atomic_size_t bytes;
    pthread_mutex_t lock; // over running and its memory
} yd_attention_entry;

struct yd_attention_nets {
    yd_attention_map_options opt;
    const yd_attention_load *later; // not loaded yet
    size_t count;
    yd_attention_entry entry[YD_ATTENTION_NETS_MAX];
};

#endif
