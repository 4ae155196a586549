// The plan cache: see plans.h. A sorted array of keys and choices, a few hundred at most, for each file.
#include "gpu/plans.h"
#include "core/file.h"
#include "core/mem.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER    "yoda-cuda-plans 1"
#define MAX_BYTES ((size_t)16 << 20)
#define LINE      (YD_GPU_KEY + 32 * YD_GPU_KNOBS + 64)

typedef struct plan {
    char key[YD_GPU_KEY];
    yd_gpu_choice choice;
} plan;

// What is known of one file, or of none.
typedef struct table {
    struct table *next;
    char *path;
    plan *list; // by key
    int n, cap, dropped, changed, users;
    pthread_mutex_t lock;
} table;

struct yd_gpu_plans {
    table *t;
    char device[160]; // first part of every key
};

static table *tables; // those with files
static pthread_mutex_t tables_lock = PTHREAD_MUTEX_INITIALIZER;

// FNV-1a: against a torn write or a flipped bit, not against an enemy.
static uint64_t checksum(const char *text, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)text[i]) * 1099511628211u;
    return h;
}

// Where key is, or would be.
static int find(const table *p, const char *key, int *there)
{
    int lo = 0, hi = p->n;
    *there = 0;
    while (lo < hi) {
        const int mid = lo + (hi - lo) / 2, c = strcmp(p->list[mid].key, key);
        if (c == 0) *there = 1;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const yd_gpu_choice *yd_gpu_plans_get(const yd_gpu_plans *p, const char *key)
{
    int there;
    const int at = find(p->t, key, &there);
    return there ? &p->t->list[at].choice : NULL;
}

static int put(table *p, const char *key, const yd_gpu_choice *c, yd_err *err)
{
    int there;
    const int at = find(p, key, &there);
    if (!there) {
        if (p->n == p->cap) {
            const int cap = p->cap ? 2 * p->cap : 64;
            plan *list = yd_realloc(p->list, (size_t)cap * sizeof *list);
            if (!list) return yd_fail(err, YD_E_NOMEM, "no memory for the plan cache");
            p->list = list;
            p->cap = cap;
        }
        memmove(&p->list[at + 1], &p->list[at], (size_t)(p->n - at) * sizeof *p->list);
        memset(&p->list[at], 0, sizeof p->list[at]);
        snprintf(p->list[at].key, YD_GPU_KEY, "%s", key);
        p->n++;
    }
    p->list[at].choice = *c;
    return 0;
}

int yd_gpu_plans_put(yd_gpu_plans *p, const char *key, const yd_gpu_choice *c, yd_err *err)
{
    if (!*key || strpbrk(key, "\t\n") || strlen(key) >= YD_GPU_KEY || c->n_knobs < 0 || c->n_knobs > YD_GPU_KNOBS)
        return yd_fail(err, YD_E_INVALID, "'%.60s' cannot be kept in the plan cache", key);
    int rc = put(p->t, key, c, err);
    if (!rc) p->t->changed = 1;
    return rc;
}

// One line: key, tab, "engine type=value ...", tab, checksum of what is before it. Its length, or 0 when it does not fit.
static size_t print_line(const plan *x, char *line, size_t size)
{
    int n = snprintf(line, size, "%s\t%d", x->key, x->choice.engine);
    for (int i = 0; i < x->choice.n_knobs && n > 0 && (size_t)n < size; i++)
        n += snprintf(line + n, size - (size_t)n, " %d=%lld", x->choice.knob[i].type, x->choice.knob[i].value);
    if (n < 0 || (size_t)n >= size) return 0;
    const uint64_t sum = checksum(line, (size_t)n);
    n += snprintf(line + n, size - (size_t)n, "\t%016llx\n", (unsigned long long)sum);
    return (size_t)n < size ? (size_t)n : 0;
}

// "engine type=value ...". 1 when it is nothing else.
static int parse_choice(const char *text, yd_gpu_choice *c)
{
    char *end;
    memset(c, 0, sizeof *c);
    const long engine = strtol(text, &end, 10);
    if (end == text || engine < -1 || engine > INT32_MAX) return 0;
    c->engine = (int)engine;
    while (*end) {
        if (*end != ' ' || c->n_knobs == YD_GPU_KNOBS) return 0;
        const char *from = end + 1;
        const long type = strtol(from, &end, 10);
        if (end == from || *end != '=' || type < 0 || type > INT32_MAX) return 0;
        from = end + 1;
        c->knob[c->n_knobs].type = (int)type;
        c->knob[c->n_knobs++].value = strtoll(from, &end, 10);
        if (end == from) return 0;
    }
    return 1;
}

// Take one line of the file, without its end. 1 kept, 0 damaged, negative: no memory.
static int take_line(table *p, char *line, yd_err *err)
{
    yd_gpu_choice c;
    char *choice = strchr(line, '\t'), *sum = choice ? strchr(choice + 1, '\t') : NULL, *end = NULL;
    if (!sum || strlen(sum + 1) != 16 || strspn(sum + 1, "0123456789abcdef") != 16) return 0;
    if (strtoull(sum + 1, &end, 16) != checksum(line, (size_t)(sum - line))) return 0;
    *choice = *sum = 0;
    if (choice == line || choice - line >= YD_GPU_KEY || !parse_choice(choice + 1, &c)) return 0;
    int rc = put(p, line, &c, err);
    return rc ? rc : 1;
}

static int take_text(table *p, char *text, size_t len, yd_err *err)
{
    char *line = text, *const end = text + len;
    for (int number = 0; line < end; number++) {
        char *stop = memchr(line, '\n', (size_t)(end - line));
        const int whole = stop != NULL;
        if (!stop) stop = end; // a byte behind the text: yd_file_read put a 0 there
        *stop = 0;
        if (number == 0) {
            if (strcmp(line, HEADER) != 0) {
                p->dropped++;
                return 0;
            }
        } else {
            int rc = whole ? take_line(p, line, err) : 0;
            if (rc < 0) return rc;
            p->dropped += !rc;
        }
        line = stop + 1;
    }
    return 0;
}

static int read_file(table *p, yd_err *err)
{
    void *bytes = NULL;
    size_t len = 0;
    int rc = yd_file_read(p->path, MAX_BYTES, &bytes, &len, err);
    if (rc == YD_E_NOMEM) return rc;
    if (rc) {
        yd_err_clear(err);
        return 0;
    }
    rc = take_text(p, bytes, len, err);
    yd_free(bytes);
    return rc;
}

static void free_table(table *t)
{
    if (!t) return;
    pthread_mutex_destroy(&t->lock);
    yd_free(t->list);
    yd_free(t->path);
    yd_free(t);
}

static int new_table(const char *path, table **out, yd_err *err)
{
    int rc = 0;
    table *t = yd_calloc(1, sizeof *t);
    if (!t) return yd_fail(err, YD_E_NOMEM, "no memory for the plan cache");
    pthread_mutex_init(&t->lock, NULL);
    if (path) {
        t->path = yd_strdup(path);
        rc = t->path ? read_file(t, err) : yd_fail(err, YD_E_NOMEM, "no memory for the plan cache");
    }
    if (rc)
        free_table(t);
    else
        *out = t;
    return rc;
}

// The table of a file, read if nobody has it. A path of another spelling is another file.
static int enter_table(const char *path, table **out, yd_err *err)
{
    int rc = 0;
    table *t;
    pthread_mutex_lock(&tables_lock);
    for (t = tables; t && strcmp(t->path, path) != 0;) t = t->next;
    if (!t && (rc = new_table(path, &t, err)) == 0) {
        t->next = tables;
        tables = t;
    }
    if (!rc) t->users++;
    pthread_mutex_unlock(&tables_lock);
    *out = t;
    return rc;
}

// What was not written is still needed: a device that is opened again must take the same engines.
static void leave_table(table *t)
{
    pthread_mutex_lock(&tables_lock);
    table **at = &tables;
    while (*at != t) at = &(*at)->next;
    if (--t->users == 0 && !t->changed) {
        *at = t->next;
        free_table(t);
    }
    pthread_mutex_unlock(&tables_lock);
}

int yd_gpu_plans_open(const char *path, const yd_gpu_about *about, yd_gpu_plans **out, yd_err *err)
{
    *out = NULL;
    yd_gpu_plans *p = yd_calloc(1, sizeof *p);
    if (!p) return yd_fail(err, YD_E_NOMEM, "no memory for the plan cache");
    snprintf(p->device, sizeof p->device, "%.90s|%.20s|%.40s", about->device, about->isa, about->library);
    for (char *c = p->device; *c; c++)
        if (*c == '\t' || *c == '\n') *c = ' ';
    int rc = path ? enter_table(path, &p->t, err) : new_table(NULL, &p->t, err);
    if (rc)
        yd_free(p);
    else
        *out = p;
    return rc;
}

void yd_gpu_plans_close(yd_gpu_plans *p)
{
    if (!p) return;
    if (p->t->path)
        leave_table(p->t);
    else
        free_table(p->t);
    yd_free(p);
}

void yd_gpu_plans_lock(yd_gpu_plans *p)
{
    pthread_mutex_lock(&p->t->lock);
}

void yd_gpu_plans_unlock(yd_gpu_plans *p)
{
    pthread_mutex_unlock(&p->t->lock);
}

void yd_gpu_plans_key(const yd_gpu_plans *p, const yd_gpu_conv_shape *s, int with_n, int by_time, char key[YD_GPU_KEY])
{
    static const char *const passes[] = {"fwd", "dx", "dw", "attention"}, *const types[] = {"f32", "bf16"};
    char n[16] = "";
    if (with_n) snprintf(n, sizeof n, " n%d", s->n);
    snprintf(key, YD_GPU_KEY, "%.120s|%s%s %dx%dx%d %dx%dx%d k%d s%d p%d %s>%s%s%s%s%s%s", p->device, passes[s->pass],
             n, s->h, s->w, s->c, s->oh, s->ow, s->o, s->k, s->stride, s->pad, types[s->type], types[s->out],
             s->bias ? " bias" : "", s->leaky ? " leaky" : "", s->res ? " res" : "", s->tf32 ? " tf32" : "",
             by_time ? " timed" : "");
}

static int write_file(table *t, yd_err *err)
{
    size_t size, len = 0;
    if (yd_mul_size((size_t)t->n, LINE, &size) || yd_add_size(size, sizeof HEADER + 1, &size))
        return yd_fail(err, YD_E_NOMEM, "the plan cache has too many entries");
    char *text = yd_malloc(size);
    if (!text) return yd_fail(err, YD_E_NOMEM, "no memory to write the plan cache");
    len = (size_t)snprintf(text, size, "%s\n", HEADER);
    for (int i = 0; i < t->n; i++) len += print_line(&t->list[i], text + len, size - len);
    int rc = yd_file_write_atomic(t->path, text, len, err);
    yd_free(text);
    if (!rc) t->changed = 0;
    return rc;
}

int yd_gpu_plans_save(yd_gpu_plans *p, yd_err *err)
{
    yd_gpu_plans_lock(p);
    const int rc = p->t->path && p->t->changed ? write_file(p->t, err) : 0;
    yd_gpu_plans_unlock(p);
    return rc;
}

int yd_gpu_plans_count(const yd_gpu_plans *p, int *dropped)
{
    if (dropped) *dropped = p->t->dropped;
    return p->t->n;
}
