// Batch sizes: see buckets.h.
#include "core/buckets.h"

int yd_bucket_after(int n, int max, int close)
{
    int next = n < 1 ? 1 : 2 * n;
    if (close && n >= 2) next = (n & (n - 1)) == 0 ? n + n / 2 : n / 3 * 4; // 2^k -> 3 * 2^(k-1) -> 2^(k+1)
    return next < max ? next : max;
}

int yd_bucket_choose(const int *size, int count, int n, int filled)
{
    for (int i = 0; i < count && n >= 1; i++)
        if (size[i] >= n) return size[i] > n && filled && i > 0 ? i - 1 : i;
    return -1;
}
