// An intrusive doubly linked list with a head link. A link that is on no list points at itself, so removing twice is harmless.
#ifndef YD_API_LIST_H
#define YD_API_LIST_H

#include <stddef.h>

typedef struct yd_link {
    struct yd_link *prev, *next;
} yd_link;

// The struct of `type` that holds link `l` as its `member`.
#define YD_CONTAINER(l, type, member) ((type *)(void *)((char *)(l)-offsetof(type, member)))

static inline void yd_link_init(yd_link *l)
{
    l->prev = l->next = l;
}

static inline int yd_list_empty(const yd_link *head)
{
    return head->next == head;
}

static inline void yd_link_remove(yd_link *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    yd_link_init(l);
}

static inline void yd_list_append(yd_link *head, yd_link *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

#endif
