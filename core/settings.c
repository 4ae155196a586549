// Sampling settings as text: one name and value in, the whole record out as JSON. The names are the public API's.
// Pure; reentrant. The ranges of whole records are checked by yd_sample_settings_check (core/sampler.c).
#include "core/attention.h"
#include "core/upscale.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLERS    3
#define ALLOCATIONS 3
static const char *const sampler_words[SAMPLERS] = {
    [YD_SAMPLER_ANCESTRAL] = "ancestral", [YD_SAMPLER_DDIM] = "ddim", [YD_SAMPLER_DPMPP_2M] = "dpmpp_2m"};
static const char *const allocation_words[ALLOCATIONS] = {
    [YD_ALLOCATION_LATE] = "late", [YD_ALLOCATION_STRIDED] = "strided", [YD_ALLOCATION_WINDOWS] = "windows"};

static int parse_integer(const char *name, const char *value, long long lo, long long hi, long long *out, yd_err *err)
{
    char accepted[64], *end;
    snprintf(accepted, sizeof accepted, "an integer from %lld to %lld", lo, hi);
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (*value == '\0' || isspace((unsigned char)*value) || *end || errno || v < lo || v > hi)
        return yd_fail_field(err, YD_E_SETTING, name, accepted, "%s=%.40s is not accepted", name, value);
    *out = v;
    return 1;
}

static int parse_number(const char *name, const char *value, double lo, double hi, double *out, yd_err *err)
{
    char accepted[64], *end;
    snprintf(accepted, sizeof accepted, "a number from %g to %g", lo, hi);
    double v = strtod(value, &end);
    if (*value == '\0' || isspace((unsigned char)*value) || *end || !(v >= lo && v <= hi))
        return yd_fail_field(err, YD_E_SETTING, name, accepted, "%s=%.40s is not accepted", name, value);
    *out = v;
    return 1;
}

static int parse_unit(const char *name, const char *value, double *out, yd_err *err)
{
    return parse_number(name, value, 0.0, 1.0, out, err);
}

// value as one of n words: *out = its index.
static int parse_word(const char *name, const char *value, const char *const *words, int n, int *out, yd_err *err)
{
    char accepted[64] = "";
    for (int i = 0; i < n; i++) {
        const size_t used = strlen(accepted);
        snprintf(accepted + used, sizeof accepted - used, "%s%s", i ? ", " : "", words[i]);
        if (strcmp(value, words[i]) != 0) continue;
        *out = i;
        return 1;
    }
    return yd_fail_field(err, YD_E_SETTING, name, accepted, "%s=%.40s is not accepted", name, value);
}

// value as one of two words: *out = 0 or 1.
static int parse_choice(const char *name, const char *value, const char *zero, const char *one, int *out, yd_err *err)
{
    return parse_word(name, value, (const char *const[]){zero, one}, 2, out, err);
}

static int parse_seed(const char *value, uint64_t *out, yd_err *err)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || *end || errno)
        return yd_fail_field(err, YD_E_SETTING, "seed", "an integer from 0 to 18446744073709551615", "seed=%.40s is not accepted", value);
    *out = v;
    return 1;
}

static int parse_attention(const char *value, yd_sample_settings *set, yd_err *err)
{
    const int rc = yd_attention_check(value, err);
    if (rc) return rc;
    if (strlen(value) >= sizeof set->attention)
        return yd_fail_field(err, YD_E_SETTING, "attention", "a name of at most 31 bytes", "attention=%.40s... is not accepted", value);
    snprintf(set->attention, sizeof set->attention, "%s", value);
    return 1;
}

int yd_setting_set(yd_sample_settings *set, const char *name, const char *value, yd_err *err)
{
    long long n = 0;
    double u = 0.0;
    int choice = 0, rc;
    if (strcmp(name, "steps") == 0) {
        if ((rc = parse_integer(name, value, 1, YD_MAX_STEPS, &n, err)) > 0) set->steps = (int)n;
    } else if (strcmp(name, "seed") == 0) {
        rc = parse_seed(value, &set->seed, err);
    } else if (strcmp(name, "sampler") == 0) {
        if ((rc = parse_word(name, value, sampler_words, SAMPLERS, &choice, err)) > 0) set->sampler = (yd_sampler_kind)choice;
    } else if (strcmp(name, "variance") == 0) {
        if ((rc = parse_choice(name, value, "posterior", "beta", &choice, err)) > 0) set->variance = (yd_variance)choice;
    } else if (strcmp(name, "eta") == 0) {
        if ((rc = parse_unit(name, value, &u, err)) > 0) set->eta = (float)u;
    } else if (strcmp(name, "spacing") == 0) {
        if ((rc = parse_number(name, value, YD_SPACING_MIN, YD_SPACING_MAX, &u, err)) > 0) set->spacing = u;
    } else if (strcmp(name, "attention") == 0) {
        rc = parse_attention(value, set, err);
    } else if (strcmp(name, "mask_form") == 0) {
        if ((rc = parse_choice(name, value, "add", "max", &choice, err)) > 0) set->mask_form = (yd_mask_form)choice;
    } else if (strcmp(name, "lower_bound") == 0) {
        rc = parse_unit(name, value, &set->lower_bound, err);
    } else if (strcmp(name, "allocation") == 0) {
        if ((rc = parse_word(name, value, allocation_words, ALLOCATIONS, &choice, err)) > 0) set->allocation = (yd_allocation)choice;
    } else if (strcmp(name, "fidelity") == 0) {
        rc = parse_unit(name, value, &set->fidelity, err);
    } else if (strcmp(name, "lr_noise") == 0) {
        if ((rc = parse_choice(name, value, "forward", "literal", &choice, err)) > 0) set->lr_noise = (yd_lr_noise)choice;
    } else if (strcmp(name, "skip") == 0) {
        rc = parse_choice(name, value, "false", "true", &set->skip, err);
    } else {
        return 0;
    }
    return rc;
}

const char *yd_sampler_name(yd_sampler_kind kind)
{
    return sampler_words[kind];
}

size_t yd_settings_print(const yd_sample_settings *s, char *dst, size_t cap)
{
    int n = snprintf(dst, cap,
                     "{\"steps\": %d, \"seed\": %llu, \"sampler\": \"%s\", \"variance\": \"%s\", \"eta\": %.9g, \"spacing\": %.17g, \"attention\": \"%s\", "
                     "\"mask_form\": \"%s\", \"lower_bound\": %.17g, \"allocation\": \"%s\", \"fidelity\": %.17g, \"lr_noise\": \"%s\", \"skip\": %s}",
                     s->steps, (unsigned long long)s->seed, sampler_words[s->sampler],
                     s->variance == YD_VARIANCE_BETA ? "beta" : "posterior", (double)s->eta, s->spacing == 0.0 ? 1.0 : s->spacing, s->attention,
                     s->mask_form == YD_MASK_MAX ? "max" : "add", s->lower_bound,
                     allocation_words[s->allocation], s->fidelity, s->lr_noise == YD_LR_LITERAL ? "literal" : "forward",
                     s->skip ? "true" : "false");
    return n < 0 ? 0 : (size_t)n;
}
