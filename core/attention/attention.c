// The table of attention methods. Owns the list and nothing else. Read next: core/attention/edge.c.
#include "core/attention.h"

#include "core/attention/methods.h"

#include <stdio.h>
#include <string.h>

static const yd_attention_method METHODS[] = {
    {"edge", "edges of the picture and what is near them", yd_attention_edge},
    {"sift", "keypoints of the picture, each as wide as its scale", yd_attention_sift},
    {"gaussian", "the middle of the picture", yd_attention_gaussian},
    {"constant", "everything alike: plain diffusion without masks", yd_attention_constant},
    {"learned", "where enlarging alone is wrong, by a small network in the model file", NULL},
};

#define COUNT (sizeof METHODS / sizeof *METHODS)

const yd_attention_method *yd_attention_methods(size_t *n)
{
    *n = COUNT;
    return METHODS;
}

static void list_names(int with_learned, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < COUNT && used < size; i++)
        if (METHODS[i].compute || with_learned)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", METHODS[i].name);
}

int yd_attention_find(const char *name, const yd_attention_method **out, yd_err *err)
{
    for (size_t i = 0; i < COUNT; i++)
        if (strcmp(METHODS[i].name, name) == 0) {
            *out = &METHODS[i];
            return YD_OK;
        }
    char accepted[200];
    list_names(1, accepted, sizeof accepted);
    return yd_fail_field(err, YD_E_SETTING, "attention", accepted, "there is no attention method '%.64s'", name);
}

int yd_attention_check(const char *name, yd_err *err)
{
    const yd_attention_method *m;
    return yd_attention_is_net(name) ? 0 : yd_attention_find(name, &m, err);
}

int yd_attention_available(const char *name, const yd_attention_with *with, yd_err *err)
{
    const yd_attention_method *m;
    yd_attention_ref ref;
    if (yd_attention_is_net(name)) return yd_attention_nets_find(with->nets, name, &ref, err);
    const int rc = yd_attention_find(name, &m, err);
    if (rc || m->compute || with->map_net) return rc;
    char accepted[200];
    list_names(0, accepted, sizeof accepted);
    return yd_fail_field(err, YD_E_SETTING, "attention", accepted, "the model has no learned attention map");
}

int yd_attention_compute(const char *name, const yd_attention_with *with, const uint8_t *rgb, int w, int h, float *map, yd_err *err)
{
    const yd_attention_method *m;
    yd_attention_ref ref;
    int rc = yd_attention_available(name, with, err);
    if (rc) return rc;
    if (yd_attention_is_net(name)) {
        rc = yd_attention_nets_find(with->nets, name, &ref, err);
        return rc ? rc : yd_attention_nets_map(with->nets, &ref, rgb, w, h, map, err);
    }
    rc = yd_attention_find(name, &m, err);
    if (rc) return rc;
    return m->compute ? m->compute(rgb, w, h, map, err) : yd_map_net_run(with->map_net, rgb, w, h, map, err);
}
