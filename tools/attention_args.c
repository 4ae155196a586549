// Attention networks from a command's options: see attention_args.h.
#include "tools/attention_args.h"
#include "tools/cli.h"
#include <stdio.h>
#include <string.h>

static void passed(void *arg, const char *path, const yd_err *err)
{
    (void)arg;
    fprintf(stderr, "yoda: warning: %s is not used: %s\n", path, err->detail);
}

int yd_cli_attention_open(const yd_attention_args *a, long threads, yd_cli_attention *c, yd_err *err)
{
    yd_attention_map_options o = YD_ATTENTION_MAP_DEFAULTS;
    memset(c, 0, sizeof *c);
    if (a->short_side) o.short_side = (int)a->short_side;
    if (a->long_side)
        o.long_side = (int)a->long_side;
    else if (o.long_side < o.short_side)
        o.long_side = o.short_side;
    int rc = a->norm ? yd_attention_norm_parse("attention-norm", a->norm, &o.norm, err) : 0;
    if (!rc && a->resize) rc = yd_attention_resize_parse("attention-resize", a->resize, &o.resize, err);
    if (!rc) rc = yd_attention_nets_new(&o, &c->nets, err);
    if (rc) return rc;
    yd_cli_model_folder(c->folder, sizeof c->folder);
    c->from =
        (yd_attention_load){.list = a->nets, .folder = *c->folder ? c->folder : NULL, .net = {.threads = (int)threads}, .passed = passed};
    yd_attention_nets_later(c->nets, &c->from);
    return 0;
}

void yd_cli_attention_close(yd_cli_attention *c)
{
    yd_attention_nets_free(c->nets);
    memset(c, 0, sizeof *c);
}
