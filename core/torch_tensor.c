// One tensor of a torch checkpoint: which calls make one, and what their arguments must be. See torch_state.h.
//
// Known: torch._utils._rebuild_tensor_v2 and _rebuild_tensor, a parameter around either (_rebuild_parameter, torch.nn.parameter.Parameter),
// and torch._tensor._rebuild_from_type_v2 around them. Storages by the names of their classes. Numbers that point out of a storage are
// damage; classes that are not known are only reported, since an optimizer's state may hold anything.
#include "core/mem.h"
#include "core/torch_state.h"

#include <string.h>

enum { MAX_WRAPS = 4 }; // parameters around tensors

static const struct {
    const char *name;
    yd_st_dtype dtype;
    size_t item;
} storages[] = {
    {"FloatStorage", YD_ST_F32, 4},  {"HalfStorage", YD_ST_F16, 2}, {"BFloat16Storage", YD_ST_BF16, 2},
    {"DoubleStorage", YD_ST_F64, 8}, {"LongStorage", YD_ST_I64, 8}, {"IntStorage", YD_ST_I32, 4},
    {"ShortStorage", YD_ST_I16, 2},  {"CharStorage", YD_ST_I8, 1},  {"ByteStorage", YD_ST_U8, 1},
    {"BoolStorage", YD_ST_BOOL, 1},
};

static int damaged(yd_err *err, const char *name, const char *what)
{
    return yd_fail_field(err, YD_E_CHECKPOINT, name, "", "tensor '%.200s': %s", name, what);
}

// A whole number from 0 that a size may be.
static int read_size(const yd_pickle *p, yd_pkid id, size_t *out)
{
    const int64_t v = yd_pickle_int(p, id);
    if (yd_pickle_kind_of(p, id) != YD_PK_INT || v < 0) return -1;
    *out = (size_t)v;
    return 0;
}

int yd_torch_read_storage(const yd_pickle *p, yd_pkid id, yd_torch_storage *out, const char **why, yd_err *err)
{
    const yd_pkid args = yd_pickle_args(p, id), type = yd_pickle_nth(p, args, 1);
    const size_t n = yd_pickle_items(p, args);
    *out = (yd_torch_storage){.item = 0};
    *why = "of a storage that this reader does not know";
    if (yd_pickle_kind_of(p, id) != YD_PK_OUTSIDE || yd_pickle_kind_of(p, args) != YD_PK_TUPLE ||
        !yd_pickle_is_text(p, yd_pickle_nth(p, args, 0), "storage"))
        return 1;
    for (size_t i = 0; i < sizeof storages / sizeof storages[0]; i++)
        if (yd_pickle_is_global(p, type, "torch", storages[i].name) ||
            yd_pickle_is_global(p, type, "torch.cuda", storages[i].name)) {
            out->dtype = storages[i].dtype;
            out->item = storages[i].item;
        }
    if (!out->item) return 1;
    *why = "a view of a storage, as PyTorch wrote them before 0.4";
    if (n == 6 && yd_pickle_kind_of(p, yd_pickle_nth(p, args, 5)) != YD_PK_NONE) return 1;
    out->key = yd_pickle_kind_of(p, yd_pickle_nth(p, args, 2)) == YD_PK_TEXT
                   ? yd_pickle_text(p, yd_pickle_nth(p, args, 2), &out->key_len)
                   : NULL;
    if ((n != 5 && n != 6) || !out->key || read_size(p, yd_pickle_nth(p, args, 4), &out->numel))
        return yd_fail_field(err, YD_E_CHECKPOINT, "storage", "",
                             "a storage's persistent id is damaged: it has no key or no size");
    return 0;
}

// ---- the call

static int is_rebuild(const yd_pickle *p, yd_pkid callee)
{
    return yd_pickle_is_global(p, callee, "torch._utils", "_rebuild_tensor_v2") ||
           yd_pickle_is_global(p, callee, "torch._utils", "_rebuild_tensor");
}

static int is_parameter(const yd_pickle *p, yd_pkid callee)
{
    return yd_pickle_is_global(p, callee, "torch._utils", "_rebuild_parameter") ||
           yd_pickle_is_global(p, callee, "torch._utils", "_rebuild_parameter_with_state") ||
           yd_pickle_is_global(p, callee, "torch.nn.parameter", "Parameter");
}

// The arguments (storage, offset, sizes, strides, ...) of the call that makes a tensor in the end; -1 when this is none.
static yd_pkid rebuild_args(const yd_pickle *p, yd_pkid id)
{
    for (int i = 0; i < MAX_WRAPS && yd_pickle_kind_of(p, id) == YD_PK_CALL; i++) {
        const yd_pkid callee = yd_pickle_callee(p, id), args = yd_pickle_args(p, id);
        if (is_rebuild(p, callee)) return args;
        if (yd_pickle_is_global(p, callee, "torch._tensor", "_rebuild_from_type_v2")) {
            const yd_pkid inner = yd_pickle_nth(p, args, 2);
            return is_rebuild(p, yd_pickle_nth(p, args, 0)) && yd_pickle_kind_of(p, inner) == YD_PK_TUPLE ? inner : -1;
        }
        if (!is_parameter(p, callee)) return -1;
        id = yd_pickle_nth(p, args, 0);
    }
    return -1;
}

// Sizes or strides: a tuple, or torch.Size of one. Returns how many, -1 when it holds anything else, YD_ST_MAX_DIMS + 1 for too many.
static int read_sizes(const yd_pickle *p, yd_pkid id, size_t v[YD_ST_MAX_DIMS])
{
    if (yd_pickle_kind_of(p, id) == YD_PK_CALL && yd_pickle_is_global(p, yd_pickle_callee(p, id), "torch", "Size"))
        id = yd_pickle_nth(p, yd_pickle_args(p, id), 0);
    int n = 0;
    if (yd_pickle_kind_of(p, id) != YD_PK_TUPLE && yd_pickle_kind_of(p, id) != YD_PK_LIST) return -1;
    for (yd_pkcell c = yd_pickle_first(p, id); c >= 0; c = yd_pickle_next(p, c)) {
        if (n == YD_ST_MAX_DIMS) return YD_ST_MAX_DIMS + 1;
        if (read_size(p, yd_pickle_item(p, c), &v[n++])) return -1;
    }
    return n;
}

// ---- the place in the storage

typedef struct layout {
    size_t dims[YD_ST_MAX_DIMS], strides[YD_ST_MAX_DIMS], offset;
    int ndim;
} layout;

static int contiguous(const layout *l)
{
    size_t want = 1;
    for (int i = l->ndim - 1; i >= 0; i--) {
        if (l->dims[i] != 1 && l->strides[i] != want) return 0;
        want *= l->dims[i]; // the product is known to fit
    }
    return 1;
}

// One past the last element that the layout reaches; -1 on overflow. Not for tensors without elements.
static int reach(const layout *l, size_t *end)
{
    size_t last = l->offset, step;
    for (int i = 0; i < l->ndim; i++)
        if (yd_mul_size(l->dims[i] - 1, l->strides[i], &step) || yd_add_size(last, step, &last)) return -1;
    return yd_add_size(last, 1, end);
}

// A tensor that does not lie row by row, copied so that it does.
static void gather(const layout *l, const uint8_t *from, size_t item, size_t numel, uint8_t *to)
{
    size_t at[YD_ST_MAX_DIMS] = {0}, element = l->offset;
    for (size_t i = 0; i < numel; i++) {
        memcpy(to + i * item, from + element * item, item);
        for (int d = l->ndim - 1; d >= 0; d--) {
            element += l->strides[d];
            if (++at[d] < l->dims[d]) break;
            element -= l->strides[d] * l->dims[d];
            at[d] = 0;
        }
    }
}

// 1 with *why when there is no room for it among the copies.
static int gathered(yd_safetensors *st, const layout *l, const yd_torch_storage *s, const uint8_t *bytes,
                    yd_st_tensor *out, const char **why, yd_err *err)
{
    void *array = st->copies;
    *why = "a tensor that does not lie row by row, and too large to be put in order";
    if (out->bytes > st->len - st->copied_bytes) return 1;
    const int rc = yd_view_reserve(&array, &st->copies_capacity, st->n_copies + 1, sizeof *st->copies, err);
    st->copies = array;
    if (rc) return rc;
    uint8_t *copy = yd_malloc(out->bytes);
    if (!copy) return yd_fail(err, YD_E_NOMEM, "no memory to put a tensor of %zu bytes in order", out->bytes);
    gather(l, bytes, s->item, out->numel, copy);
    st->copies[st->n_copies++] = copy;
    st->copied_bytes += out->bytes;
    out->data = copy;
    return 0;
}

static int place(yd_safetensors *st, const layout *l, const yd_torch_storage *s, const yd_torch_bytes *where,
                 const char *name, yd_st_tensor *out, const char **why, yd_err *err)
{
    const uint8_t *bytes = NULL;
    size_t end = 0;
    if (out->numel && (reach(l, &end) || end > s->numel)) return damaged(err, name, "it reaches beyond its storage");
    int rc = where->find(where->user, s, &bytes, err);
    if (rc) return rc;
    out->data = bytes;
    if (!out->numel) return 0;
    if (!contiguous(l)) return gathered(st, l, s, bytes, out, why, err);
    out->data = bytes + l->offset * s->item; // inside the storage, as its end is
    return 0;
}

int yd_torch_tensor(const yd_pickle *p, yd_pkid id, const yd_torch_bytes *where, yd_safetensors *st, const char *name,
                    yd_st_tensor *out, const char **why, yd_err *err)
{
    const yd_pkid args = rebuild_args(p, id);
    yd_torch_storage s;
    layout l = {.ndim = 0};
    *why = NULL;
    if (args < 0) return 1;
    int rc = yd_torch_read_storage(p, yd_pickle_nth(p, args, 0), &s, why, err);
    if (rc) return rc;
    l.ndim = read_sizes(p, yd_pickle_nth(p, args, 2), l.dims);
    *why = "a tensor of more than 8 dimensions";
    if (l.ndim > YD_ST_MAX_DIMS) return 1;
    if (l.ndim < 0 || read_sizes(p, yd_pickle_nth(p, args, 3), l.strides) != l.ndim ||
        read_size(p, yd_pickle_nth(p, args, 1), &l.offset))
        return damaged(err, name, "its offset, sizes or strides are no whole numbers from 0, or not as many");
    out->dtype = s.dtype;
    out->ndim = l.ndim;
    out->numel = 1;
    for (int i = 0; i < l.ndim; i++) {
        if (yd_mul_size(out->numel, l.dims[i], &out->numel)) return damaged(err, name, "its shape overflows");
        out->dims[i] = (int64_t)l.dims[i];
    }
    if (yd_mul_size(out->numel, s.item, &out->bytes)) return damaged(err, name, "its shape overflows");
    return place(st, &l, &s, where, name, out, why, err);
}
