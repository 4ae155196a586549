// torch.save's container of old: pickles back to back, then storages.
#include "core/tensors_view.h"
#include "tests/fuzz/view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    yd_safetensors *st = NULL;
    yd_err err = {0};
    if (size < 8) return 0; // what opens a file has looked
    const int rc = yd_torch_legacy_open(data, size, &st, &err);
    HOLDS(!rc == !!st && (!rc || (err.code == rc && err.detail[0])));
    if (st) read_view(st);
    return 0;
}
