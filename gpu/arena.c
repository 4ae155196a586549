// Placing buffers in one block: see arena.h.
#include "gpu/arena.h"
#include "core/mem.h"

// Left alone: kernels' code, cuDNN's and cublasLt's own buffers, and the display's or a neighbour's next allocation.
#define RESERVE_BYTES   ((size_t)512 << 20)
#define RESERVE_SHARE   20 // one part in so many of the device
#define LARGEST_REQUEST (((size_t)1 << 62) - 1)

static int lives_overlap(const yd_gpu_item *a, const yd_gpu_item *b)
{
    return a->first <= b->last && b->first <= a->last;
}

// The lowest offset where item x fits beside those in order[0..placed), which are sorted by offset.
static size_t lowest_fit(const yd_gpu_item *items, const int *order, int placed, const yd_gpu_item *x)
{
    size_t at = 0;
    for (int i = 0; i < placed; i++) {
        const yd_gpu_item *o = &items[order[i]];
        if (!lives_overlap(o, x)) continue;
        if (o->offset >= at + x->bytes) break;
        if (o->offset + o->bytes > at) at = o->offset + o->bytes;
    }
    return at;
}

static void insert_by_offset(const yd_gpu_item *items, int *order, int placed, int id)
{
    int i = placed;
    for (; i > 0 && items[order[i - 1]].offset > items[id].offset; i--) order[i] = order[i - 1];
    order[i] = id;
}

// Largest first, ties by number: Shell sort, for a few thousand entries.
static void sort_by_size(const yd_gpu_item *items, int *ids, int n)
{
    for (int gap = n / 2; gap > 0; gap /= 2)
        for (int i = gap; i < n; i++) {
            const int x = ids[i];
            int j = i;
            for (; j >= gap; j -= gap) {
                const int y = ids[j - gap];
                if (items[y].bytes > items[x].bytes || (items[y].bytes == items[x].bytes && y < x)) break;
                ids[j] = y;
            }
            ids[j] = x;
        }
}

// Round sizes up and collect what takes room. The number of those, or -1 when the sum cannot be represented.
static int collect(yd_gpu_item *items, int n, int *ids)
{
    size_t sum = 0;
    int m = 0;
    for (int i = 0; i < n; i++) {
        items[i].offset = 0;
        if (!items[i].bytes) continue;
        if (items[i].bytes > LARGEST_REQUEST) return -1;
        items[i].bytes = (items[i].bytes + YD_GPU_ALIGN - 1) / YD_GPU_ALIGN * YD_GPU_ALIGN;
        if (yd_add_size(sum, items[i].bytes, &sum)) return -1;
        ids[m++] = i;
    }
    return m;
}

int yd_gpu_arena_place(yd_gpu_item *items, int n, size_t limit, size_t *total, yd_err *err)
{
    *total = 0;
    int *ids = yd_calloc(2 * (size_t)n + 1, sizeof *ids);
    if (!ids) return yd_fail(err, YD_E_NOMEM, "no memory to place %d buffers", n);
    int *order = ids + n;
    const int m = collect(items, n, ids);
    if (m > 0) sort_by_size(items, ids, m);
    for (int i = 0; i < m; i++) {
        yd_gpu_item *x = &items[ids[i]];
        x->offset = lowest_fit(items, order, i, x);
        insert_by_offset(items, order, i, ids[i]);
        if (x->offset + x->bytes > *total) *total = x->offset + x->bytes;
    }
    yd_free(ids);
    if (m >= 0 && *total <= limit) return 0;
    return yd_fail(err, YD_E_NOMEM, "the activations take %zu MB of the GPU's memory, %zu MB are left to this program",
                   *total >> 20, limit >> 20);
}

size_t yd_gpu_budget(size_t free, size_t total, size_t wanted)
{
    size_t reserve = total / RESERVE_SHARE > RESERVE_BYTES ? total / RESERVE_SHARE : RESERVE_BYTES;
    size_t most = free > reserve ? free - reserve : free / 2;
    return wanted && wanted < most ? wanted : most;
}
