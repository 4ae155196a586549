// For which batch sizes a network is compiled, and which of them runs so many units.
//
// A device on which batches pay runs the smallest batch that holds what there is, and computes its empty places too: sizes stand so close that those
// are a third of a batch at most. Where they do not pay, the largest batch that is filled runs first, and few sizes will do.
#ifndef YD_CORE_BUCKETS_H
#define YD_CORE_BUCKETS_H

#define YD_BUCKETS_MAX 12

// The size after n (0: the first): 1, 2, 4, ... 64, or with `close` 1, 2, 3, 4, 6, 8, 12, ... 64; never more than max (1..64), which is the last.
int yd_bucket_after(int n, int max, int close);

// Of the sizes that are there, in ascending order, the one to run n units with, or the first of them: the smallest that holds n, or with
// `filled` the largest that n fills where none is n. Its index; -1 when n is less than 1 or more than all hold.
int yd_bucket_choose(const int *size, int count, int n, int filled);

#endif
