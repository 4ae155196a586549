// The table of keys: sorted by hash for the check, owners beside it with their limits and buckets.
//
// A key is found by the hash of what the client sent, with a binary search: what its time tells is how the hash of a guess compares with
// the stored ones, which is of no use without inverting SHA-256. Owners are few; they are found one after the other.
#include "core/keys.h"

#include "core/base64.h"
#include "core/mem.h"
#include "core/sha256.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define FILE_MOST     (4 << 20)
#define BURST_S       10
#define HOUR_S        3600
#define ACCEPTED_LINE "OWNER SHA256 [scopes=submit,read,metrics,admin] [weight=] [rate=] [jobs=] [units_per_hour=]"

typedef struct bucket {
    double level; // may be taken now
    int64_t at_us; // when that was so; 0: never used
} bucket;

typedef struct owner {
    char name[YD_OWNER_MAX];
    yd_key_limits limits;
    bucket requests, work;
} owner;

typedef struct key {
    char hash[65];
    unsigned scopes;
    size_t owner;
} key;

struct yd_keys {
    key *key;
    owner *owner;
    size_t n_keys, n_owners;
};

int yd_owner_valid(const char *name, size_t len)
{
    static const char plain[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-";
    for (size_t i = 0; i < len; i++)
        if (!name[i] || !strchr(plain, name[i])) return 0;
    return len > 0 && len < YD_OWNER_MAX;
}

// ---- reading -------------------------------------------------------------------------------------------------------

typedef struct word {
    const char *s;
    size_t n;
} word;

static int is(word w, const char *text)
{
    return strlen(text) == w.n && memcmp(w.s, text, w.n) == 0;
}

// The next word of a line, or an empty one.
static word next_word(word *line)
{
    while (line->n && (*line->s == ' ' || *line->s == '\t' || *line->s == '\r')) line->s++, line->n--;
    word w = {line->s, 0};
    while (line->n && *line->s != ' ' && *line->s != '\t' && *line->s != '\r') line->s++, line->n--, w.n++;
    return w;
}

static int parse_scopes(word w, unsigned *out)
{
    *out = 0;
    for (;;) {
        const char *comma = memchr(w.s, ',', w.n);
        const word one = {w.s, comma ? (size_t)(comma - w.s) : w.n};
        const unsigned bit = is(one, "submit") ? YD_SCOPE_SUBMIT : is(one, "read") ? YD_SCOPE_READ : is(one, "metrics") ? YD_SCOPE_METRICS : is(one, "admin") ? YD_SCOPE_ADMIN : 0u;
        if (!bit) return -1;
        *out |= bit;
        if (!comma) return 0;
        w.n -= one.n + 1;
        w.s = comma + 1;
    }
}

static int parse_amount(word w, double lo, double hi, double *out)
{
    char text[32], *end;
    if (w.n == 0 || w.n >= sizeof text) return -1;
    memcpy(text, w.s, w.n);
    text[w.n] = '\0';
    *out = strtod(text, &end);
    return *end || !isfinite(*out) || *out < lo || *out > hi ? -1 : 0;
}

// One attribute: 0, or -1.
static int parse_attribute(word w, unsigned *scopes, yd_key_limits *l)
{
    const char *eq = memchr(w.s, '=', w.n);
    if (!eq) return -1;
    const word name = {w.s, (size_t)(eq - w.s)}, value = {eq + 1, w.n - name.n - 1};
    double jobs = 0;
    if (is(name, "scopes")) return parse_scopes(value, scopes);
    if (is(name, "weight")) return parse_amount(value, 0.001, 1000, &l->weight);
    if (is(name, "rate")) return parse_amount(value, 0, 1e6, &l->rate);
    if (is(name, "units_per_hour")) return parse_amount(value, 0, 1e15, &l->units_per_hour);
    if (!is(name, "jobs") || parse_amount(value, 0, 1e6, &jobs) || jobs != floor(jobs)) return -1;
    l->jobs = (long)jobs;
    return 0;
}

static int parse_hash(word w, char out[65])
{
    if (w.n != 64) return -1;
    for (size_t i = 0; i < 64; i++) {
        const char c = w.s[i] >= 'A' && w.s[i] <= 'F' ? (char)(w.s[i] + 32) : w.s[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return -1;
        out[i] = c;
    }
    out[64] = '\0';
    return 0;
}

static size_t owner_of(yd_keys *k, word name, const yd_key_limits *limits)
{
    for (size_t i = 0; i < k->n_owners; i++)
        if (is(name, k->owner[i].name)) return i;
    owner *o = &k->owner[k->n_owners];
    memcpy(o->name, name.s, name.n);
    o->limits = *limits;
    return k->n_owners++;
}

// NULL, or what is wrong with the line.
static const char *parse_line(yd_keys *k, word line)
{
    const word name = next_word(&line);
    if (!name.n || *name.s == '#') return NULL;
    key *one = &k->key[k->n_keys];
    yd_key_limits limits = {.weight = 1};
    one->scopes = YD_SCOPE_SUBMIT | YD_SCOPE_READ;
    if (!yd_owner_valid(name.s, name.n)) return "the owner's name has other characters than letters, digits, '.', '_', '-', or more than 63";
    if (parse_hash(next_word(&line), one->hash)) return "the second word is no SHA-256 in hex";
    for (word w; (w = next_word(&line)).n && *w.s != '#';)
        if (parse_attribute(w, &one->scopes, &limits)) return "an attribute is unknown or out of range";
    one->owner = owner_of(k, name, &limits);
    k->n_keys++;
    return NULL;
}

static int by_hash(const void *a, const void *b)
{
    return strcmp(((const key *)a)->hash, ((const key *)b)->hash);
}

static int parse_lines(yd_keys *k, const char *text, size_t len, yd_err *err)
{
    size_t number = 0;
    for (const char *end = text + len; text < end;) {
        const char *nl = memchr(text, '\n', (size_t)(end - text));
        const word line = {text, (size_t)((nl ? nl : end) - text)};
        const char *wrong = parse_line(k, line);
        number++;
        if (wrong) return yd_fail_field(err, YD_E_CONFIG, "keys", ACCEPTED_LINE, "line %zu: %s", number, wrong);
        text += line.n + 1;
    }
    qsort(k->key, k->n_keys, sizeof *k->key, by_hash);
    for (size_t i = 1; i < k->n_keys; i++)
        if (strcmp(k->key[i - 1].hash, k->key[i].hash) == 0)
            return yd_fail_field(err, YD_E_CONFIG, "keys", "each key once", "a key of '%s' is there twice", k->owner[k->key[i].owner].name);
    if (k->n_keys == 0) return yd_fail_field(err, YD_E_CONFIG, "keys", ACCEPTED_LINE, "there is no key in the file");
    return 0;
}

int yd_keys_parse(const char *text, size_t len, yd_keys **out, yd_err *err)
{
    size_t lines = 1;
    for (size_t i = 0; i < len; i++) lines += text[i] == '\n';
    yd_keys *k = yd_calloc(1, sizeof *k);
    *out = NULL;
    if (k) {
        k->key = yd_calloc(lines, sizeof *k->key);
        k->owner = yd_calloc(lines, sizeof *k->owner);
    }
    int rc = k && k->key && k->owner ? parse_lines(k, text, len, err) : yd_fail(err, YD_E_NOMEM, "no memory for the keys");
    if (rc)
        yd_keys_free(k);
    else
        *out = k;
    return rc;
}

int yd_keys_load(const char *path, yd_keys **out, yd_err *err)
{
    *out = NULL;
    FILE *f = fopen(path, "rbe");
    if (!f) return yd_fail_field(err, YD_E_CONFIG, "keys", "a file that can be read", "%.200s: %s", path, strerror(errno));
    char *text = yd_malloc(FILE_MOST);
    const size_t n = text ? fread(text, 1, FILE_MOST, f) : 0;
    const int bad = ferror(f) || n == FILE_MOST;
    fclose(f);
    int rc = !text ? yd_fail(err, YD_E_NOMEM, "no memory for the keys")
             : bad ? yd_fail_field(err, YD_E_CONFIG, "keys", "a file of at most 4 MiB", "%.200s cannot be read, or is larger", path)
                   : yd_keys_parse(text, n, out, err);
    yd_free(text);
    return rc;
}

void yd_keys_free(yd_keys *k)
{
    if (!k) return;
    yd_free(k->key);
    yd_free(k->owner);
    yd_free(k);
}

size_t yd_keys_count(const yd_keys *k)
{
    return k->n_keys;
}

// ---- asking --------------------------------------------------------------------------------------------------------

static owner *find_owner(const yd_keys *k, const char *name)
{
    for (size_t i = 0; i < k->n_owners; i++)
        if (strcmp(k->owner[i].name, name) == 0) return &k->owner[i];
    return NULL;
}

int yd_keys_check(const yd_keys *k, const char *text, const char **who, unsigned *scopes, yd_err *err)
{
    key guess = {.hash = ""};
    yd_sha256_hex(text, strlen(text), guess.hash);
    const key *found = bsearch(&guess, k->key, k->n_keys, sizeof guess, by_hash);
    if (!found) return yd_fail_field(err, YD_E_UNAUTHORIZED, "Authorization", "Bearer and a key", "this key is not known");
    *who = k->owner[found->owner].name;
    *scopes = found->scopes;
    return 0;
}

const char *yd_keys_owner(const yd_keys *k, const char *name, unsigned scope)
{
    const owner *o = find_owner(k, name);
    for (size_t i = 0; o && i < k->n_keys; i++)
        if (&k->owner[k->key[i].owner] == o && (k->key[i].scopes & scope)) return o->name;
    return NULL;
}

const yd_key_limits *yd_keys_limits(const yd_keys *k, const char *name)
{
    const owner *o = find_owner(k, name);
    return o ? &o->limits : NULL;
}

// ---- budgets -------------------------------------------------------------------------------------------------------

// Take from a bucket that holds `most` and gains `rate` a second: 0, or the seconds until there is enough.
static double take(bucket *b, double amount, double most, double rate, int64_t now_us)
{
    b->level = b->at_us ? fmin(most, b->level + rate * (double)(now_us - b->at_us) / 1e6) : most;
    b->at_us = now_us;
    if (b->level < amount) return (amount - b->level) / rate;
    b->level -= amount;
    return 0;
}

static long to_ms(double s)
{
    return s < 0.001 ? 1 : s > 3600 ? 3600000 : (long)ceil(s * 1000);
}

double yd_keys_burst(const yd_key_limits *l)
{
    return fmax(1, l->rate * BURST_S);
}

int yd_keys_may_work(const yd_key_limits *l, const char *name, double units, yd_err *err)
{
    const double most = l->units_per_hour;
    if (most <= 0 || units <= most) return 0;
    return yd_fail_field(err, YD_E_SETTING, "steps", "a smaller picture or fewer steps", "the job may need %.0f units of work, '%s' has %.0f an hour", units, name, most);
}

int yd_keys_request(yd_keys *k, const char *name, int64_t now_us, long *wait_ms, yd_err *err)
{
    owner *o = find_owner(k, name);
    if (!o || o->limits.rate <= 0) return 0;
    const double most = yd_keys_burst(&o->limits), wait_s = take(&o->requests, 1, most, o->limits.rate, now_us);
    if (wait_s <= 0) return 0;
    *wait_ms = to_ms(wait_s);
    return yd_fail(err, YD_E_LIMIT, "'%s' may make %g requests a second", name, o->limits.rate);
}

int yd_keys_work(yd_keys *k, const char *name, double units, int64_t now_us, long *wait_ms, yd_err *err)
{
    owner *o = find_owner(k, name);
    if (!o || o->limits.units_per_hour <= 0) return 0;
    const double most = o->limits.units_per_hour;
    const int rc = yd_keys_may_work(&o->limits, name, units, err);
    if (rc) return rc;
    const double wait_s = take(&o->work, units, most, most / HOUR_S, now_us);
    if (wait_s <= 0) return 0;
    *wait_ms = to_ms(wait_s);
    return yd_fail(err, YD_E_LIMIT, "'%s' has %.0f units of work an hour, and the job may need %.0f", name, most, units);
}

void yd_keys_give_back(yd_keys *k, const char *name, double units, int64_t now_us)
{
    owner *o = find_owner(k, name);
    if (!o || o->limits.units_per_hour <= 0) return;
    const double most = o->limits.units_per_hour;
    take(&o->work, 0, most, most / HOUR_S, now_us);
    o->work.level = fmin(most, o->work.level + units);
}

void yd_keys_carry(yd_keys *next, const yd_keys *old)
{
    for (size_t i = 0; i < next->n_owners; i++) {
        const owner *o = find_owner(old, next->owner[i].name);
        if (!o) continue;
        next->owner[i].requests = o->requests;
        next->owner[i].work = o->work;
    }
}

// ---- making one ----------------------------------------------------------------------------------------------------

int yd_key_make(char text[YD_KEY_TEXT], char hash[65], yd_err *err)
{
    uint8_t random[32];
    char coded[44];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) return yd_fail(err, YD_E_IO, "no random numbers: %s", strerror(errno));
    yd_base64_encode(random, sizeof random, coded);
    memcpy(text, "yk_", 3);
    for (size_t i = 0; i < 42; i++) text[3 + i] = coded[i] == '+' ? '-' : coded[i] == '/' ? '_' : coded[i];
    text[45] = '\0'; // 252 of the 256 bits: the last character and the padding are left out
    yd_sha256_hex(text, 45, hash);
    return 0;
}
