// Model configs, ours and the public code's: what is accepted can be printed, and means the same when it is read again.
#include "core/model.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[2][8192];
    yd_model_config c, again;
    yd_err err = {0};
    const int rc = yd_model_config_parse((const char *)data, size, &c, &err);
    HOLDS(rc == 0 || err.detail[0]);
    if (rc) return 0;
    const size_t n = yd_model_config_print(&c, text[0], sizeof text[0]);
    HOLDS(n < sizeof text[0]);
    HOLDS(yd_model_config_parse(text[0], n, &again, &err) == 0);
    HOLDS(yd_model_config_print(&again, text[1], sizeof text[1]) == n && memcmp(text[0], text[1], n) == 0);
    return 0;
}
