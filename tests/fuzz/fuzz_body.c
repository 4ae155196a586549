// JSON bodies of requests: the picture in base64, settings, errands with other servers.
#include "api/submission.h"
#include "core/mem.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int need_image = 0; need_image < 2; need_image++) {
        yd_intake in = {.len = 0};
        yd_err err = {0};
        const int rc = yd_intake_json(&in, (const char *)data, size, need_image, &err);
        HOLDS(rc == 0 || err.detail[0]);
        HOLDS(in.n_settings <= YD_SETTINGS_MAX);
        for (size_t i = 0; i < in.n_settings; i++) HOLDS(in.settings[i].name && in.settings[i].value);
        yd_intake_clear(&in);
    }
    return 0;
}
