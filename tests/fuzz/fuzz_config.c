// The daemon's files: the config, where the first byte is {, else the keys and the webhook secrets, which are lines.
#include "core/keys.h"
#include "daemon/config_internal.h"
#include "daemon/signature.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static yd_config cfg;
    yd_err err = {0};
    yd_keys *keys = NULL;
    yd_secrets *secrets = NULL;
    const char *text = (const char *)data;
    if (size && data[0] == '{') {
        yd_config_init(&cfg);
        int rc = yd_config_read(&cfg, text, size, "yodad.json", &err);
        if (!rc) rc = yd_config_check(&cfg, &err);
        HOLDS(rc == 0 || err.detail[0]);
        return 0;
    }
    HOLDS(yd_keys_parse(text, size, &keys, &err) == 0 || err.detail[0]);
    if (keys) HOLDS(yd_keys_check(keys, "yk_0000000000000000000000000000000000000000", &(const char *){NULL}, &(unsigned){0}, &err) <= 0);
    yd_keys_free(keys);
    yd_err_clear(&err);
    HOLDS(yd_secrets_parse(text, size, &secrets, &err) == 0 || err.detail[0]);
    yd_secrets_free(secrets);
    return 0;
}
