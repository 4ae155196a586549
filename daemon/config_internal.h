// What config.c and config_sources.c share: the table made from the list in config.h.
#ifndef YD_DAEMON_CONFIG_INTERNAL_H
#define YD_DAEMON_CONFIG_INTERNAL_H

#include "daemon/config.h"
#include <stddef.h>

typedef enum { YD_CONF_TEXT, YD_CONF_CHOICE, YD_CONF_NUMBER, YD_CONF_SWITCH } yd_conf_kind;

typedef struct yd_conf_row {
    const char *name;
    yd_conf_kind kind;
    size_t offset; // in yd_config
    const char *help, *text, *words;
    int64_t number, min, max;
} yd_conf_row;

const yd_conf_row *yd_conf_rows(size_t *n);
const yd_conf_row *yd_conf_find(const char *name); // NULL: no such setting

size_t yd_config_live_count(void);                  // settings that can change without a restart

// The text of a config file, which need not be terminated; source names it in errors. YD_E_CONFIG.
int yd_config_read(yd_config *cfg, const char *text, size_t len, const char *source, yd_err *err);

#endif
