// A list is parsed a name at a time. Words that mean one device or all of them stand alone; only cuda:N may be listed.
#include "daemon/device_choice.h"

#include "core/backend_load.h"
#include <stdio.h>
#include <string.h>

#define ACCEPTED  "auto, cpu, cuda, cuda:N, cuda:N,cuda:M..., fake or fake:N"
#define CUDA_LAST 99

static int refuse(const char *text, const char *why, yd_err *err)
{
    return yd_fail_field(err, YD_E_CONFIG, "device", ACCEPTED, "'%.64s' %s; it accepts " ACCEPTED, text, why);
}

// Digits alone, of a number up to `most`; -1: something else.
static int number_of(const char *s, size_t len, int most)
{
    int n = 0;
    if (len < 1 || len > 4) return -1;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9') return -1;
        n = n * 10 + (s[i] - '0');
    }
    return n <= most ? n : -1;
}

static int parse_cuda_list(const char *text, yd_device_choice *out, yd_err *err)
{
    *out = (yd_device_choice){.kind = YD_CHOOSE_CUDA};
    for (const char *at = text;; at++) {
        const size_t len = strcspn(at, ",");
        const int k = len > 5 && strncmp(at, "cuda:", 5) == 0 ? number_of(at + 5, len - 5, CUDA_LAST) : -1;
        if (k < 0) return refuse(text, "is no list of devices", err);
        for (int i = 0; i < out->n; i++)
            if (out->number[i] == k) return refuse(text, "names a device twice", err);
        if (out->n == YD_DEVICES_MAX) return refuse(text, "names more than 16 devices", err);
        out->number[out->n++] = k;
        at += len;
        if (!*at) return 0;
    }
}

static int parse_fake(const char *text, yd_device_choice *out, yd_err *err)
{
    const int n = text[4] ? number_of(text + 5, strlen(text + 5), YD_DEVICES_MAX) : 1;
    if (n < 1) return refuse(text, "is not one to 16 fake devices", err);
    *out = (yd_device_choice){.kind = YD_CHOOSE_FAKE, .n = n};
    for (int i = 0; i < n; i++) out->number[i] = i;
    return 0;
}

int yd_device_choice_parse(const char *text, yd_device_choice *out, yd_err *err)
{
    *out = (yd_device_choice){.kind = YD_CHOOSE_AUTO};
    if (strcmp(text, "auto") == 0) return 0;
    out->kind = YD_CHOOSE_CUDA;
    if (strcmp(text, "cuda") == 0) return 0;
    if (strncmp(text, "cuda:", 5) == 0) return parse_cuda_list(text, out, err);
    if (strcmp(text, "fake") == 0 || strncmp(text, "fake:", 5) == 0) return parse_fake(text, out, err);
    *out = (yd_device_choice){.kind = YD_CHOOSE_CPU, .n = 1};
    return strcmp(text, "cpu") == 0 ? 0 : refuse(text, "is no device", err);
}

static int take_all(yd_device_choice *c, int there)
{
    c->n = there < YD_DEVICES_MAX ? there : YD_DEVICES_MAX;
    for (int i = 0; i < c->n; i++) c->number[i] = i;
    return 0;
}

int yd_device_choice_find(yd_device_choice *c, char why[256], yd_err *err)
{
    yd_err none = {0};
    int there = 0;
    *why = 0;
    if (c->kind == YD_CHOOSE_CPU || c->kind == YD_CHOOSE_FAKE) return 0;
    const int rc = yd_cuda_count(&there, &none);
    if (rc && c->kind == YD_CHOOSE_AUTO) {
        snprintf(why, 256, "%.255s", none.detail);
        *c = (yd_device_choice){.kind = YD_CHOOSE_CPU, .n = 1};
        return 0;
    }
    if (rc)
        return yd_fail_field(err, YD_E_CONFIG, "device", "auto, cpu", "no CUDA device can be used: %.250s",
                             none.detail);
    c->kind = YD_CHOOSE_CUDA;
    if (c->n == 0) return take_all(c, there);
    for (int i = 0; i < c->n; i++)
        if (c->number[i] >= there)
            return yd_fail_field(err, YD_E_CONFIG, "device", "auto, cpu, cuda",
                                 "there is no device cuda:%d, only %d of them, counted from 0", c->number[i], there);
    return 0;
}

void yd_device_choice_name(const yd_device_choice *c, int i, char name[YD_DEVICE_NAME_MAX])
{
    if (c->kind == YD_CHOOSE_CPU)
        snprintf(name, YD_DEVICE_NAME_MAX, "cpu");
    else
        snprintf(name, YD_DEVICE_NAME_MAX, "%s:%d", c->kind == YD_CHOOSE_FAKE ? "fake" : "cuda", c->number[i]);
}

int yd_device_choice_is_fake(const yd_config *cfg)
{
    return strncmp(cfg->device, "fake", 4) == 0;
}
