// JSON reader for model files: one pass over a private copy of the text, no recursion, nodes in document order.
//
// The text is checked and unescaped in place (an escape is never shorter than what it stands for), so strings and keys are
// NUL-terminated inside the copy and nodes are 20 bytes. A number stays text: it is checked while parsing, converted when asked for.
// All members of all objects share one hash table keyed by (object, key): it refuses duplicates while parsing and answers
// yd_json_get afterwards. Its hash is SipHash-1-3 under a key that differs in every process, so a hostile file cannot make
// it slow. U+0000 is refused, because strings are handed out NUL-terminated.
// Immutable after parsing: any number of threads may read. Read next: json_quote.c, safetensors.c
#include "core/json.h"

#include "core/mem.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

enum { MAX_DEPTH = 32, FIRST_NODES = 64, FIRST_SLOTS = 64 };
#define MAX_TEXT ((size_t)256 << 20) // offsets and node numbers stay below 2^31

typedef struct node {
    uint32_t key;   // offset of a member's key, 0 = none
    uint32_t value; // string, number: offset of its text; array, object: number of children
    yd_jid parent;  // -1 for the root
    yd_jid next;    // next sibling or -1
    yd_json_type type;
} node;

typedef struct slot {
    uint32_t hash;
    yd_jid member; // 0 = empty: the root is nobody's member
} slot;

struct yd_json {
    char *text;
    node *nodes;
    size_t count, capacity;
    slot *slots;
    size_t members, mask; // mask + 1 slots, a power of two, or slots == NULL
};

typedef struct parser {
    yd_json *j;
    const char *source; // the caller's text, unchanged: for lines and columns
    size_t len, pos;
    int comments;
    int depth; // open containers
    struct {
        yd_jid id, last_child;
    } open[MAX_DEPTH];
    uint32_t key, key_hash; // read, its value comes next
    yd_err *err;
} parser;

// ---- errors

// "line 3, column 14: <what>", columns counted in characters.
static int fail_at(parser *p, size_t at, const char *what)
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at; i++) {
        if (p->source[i] == '\n')
            line++, column = 1;
        else if (((unsigned char)p->source[i] & 0xc0) != 0x80)
            column++;
    }
    return yd_fail(p->err, YD_E_INVALID, "line %zu, column %zu: %s", line, column, what);
}

static int out_of_memory(parser *p)
{
    return yd_fail(p->err, YD_E_NOMEM, "no memory for %zu bytes of JSON", p->len);
}

// ---- members by key

static uint64_t rotl(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1], v[1] = rotl(v[1], 13) ^ v[0], v[0] = rotl(v[0], 32);
    v[2] += v[3], v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rotl(v[1], 17) ^ v[2], v[2] = rotl(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t m)
{
    v[3] ^= m;
    sip_round(v);
    v[0] ^= m;
}

// Aumasson and Bernstein, "SipHash: a fast short-input PRF", with one round per word and three at the end.
static uint32_t hash_member(yd_jid object, const char *key)
{
    uint64_t secret[2] = {0, 0};
    const void *seed = (const void *)getauxval(AT_RANDOM); // 16 random bytes from the kernel, made at exec
    if (seed) memcpy(secret, seed, sizeof secret);
    uint64_t v[4] = {secret[0] ^ 0x736f6d6570736575, secret[1] ^ 0x646f72616e646f6d, secret[0] ^ 0x6c7967656e657261,
                     secret[1] ^ 0x7465646279746573};
    size_t len = strlen(key), left = len;
    uint64_t m;
    sip_word(v, (uint64_t)object);
    for (; left >= 8; left -= 8, key += 8) {
        memcpy(&m, key, 8);
        sip_word(v, m);
    }
    m = (uint64_t)len << 56;
    memcpy(&m, key, left);
    sip_word(v, m);
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++) sip_round(v);
    uint64_t h = v[0] ^ v[1] ^ v[2] ^ v[3];
    return (uint32_t)(h ^ h >> 32);
}

// The slot that holds (object, key), or the empty one where it would go.
static slot *find_slot(const yd_json *j, yd_jid object, const char *key, uint32_t hash)
{
    for (size_t i = hash & j->mask;; i = (i + 1) & j->mask) {
        slot *s = &j->slots[i];
        if (s->member == 0) return s;
        const node *n = &j->nodes[s->member];
        if (s->hash == hash && n->parent == object && strcmp(j->text + n->key, key) == 0) return s;
    }
}

// Keep the table at most half full.
static int reserve_slot(yd_json *j)
{
    size_t old = j->slots ? j->mask + 1 : 0;
    if (2 * (j->members + 1) <= old) return 0;
    size_t size = old ? 2 * old : FIRST_SLOTS;
    slot *bigger = yd_calloc(size, sizeof *bigger);
    if (!bigger) return -1;
    for (size_t i = 0; i < old; i++) {
        if (j->slots[i].member == 0) continue;
        size_t k = j->slots[i].hash & (size - 1);
        while (bigger[k].member) k = (k + 1) & (size - 1);
        bigger[k] = j->slots[i];
    }
    yd_free(j->slots);
    j->slots = bigger;
    j->mask = size - 1;
    return 0;
}

// ---- nodes

// Append a node below the innermost open container; its number, or -1 when memory is out.
static yd_jid add_node(parser *p, yd_json_type type, size_t value)
{
    yd_json *j = p->j;
    if (j->count == j->capacity) {
        size_t capacity = j->capacity ? 2 * j->capacity : FIRST_NODES;
        node *bigger = yd_realloc(j->nodes, capacity * sizeof *bigger);
        if (!bigger) return -1;
        j->nodes = bigger;
        j->capacity = capacity;
    }
    yd_jid id = (yd_jid)j->count++, parent = -1;
    if (p->depth) {
        parent = p->open[p->depth - 1].id;
        yd_jid before = p->open[p->depth - 1].last_child;
        if (before >= 0) j->nodes[before].next = id;
        p->open[p->depth - 1].last_child = id;
        j->nodes[parent].value++;
    }
    j->nodes[id] = (node){.key = p->key, .value = (uint32_t)value, .parent = parent, .next = -1, .type = type};
    if (p->key) {
        *find_slot(j, parent, j->text + p->key, p->key_hash) = (slot){p->key_hash, id};
        j->members++;
        p->key = 0;
    }
    return id;
}

// ---- the pieces of the grammar

static void skip_space(parser *p)
{
    const char *t = p->j->text;
    for (;;) {
        while (t[p->pos] == ' ' || t[p->pos] == '\n' || t[p->pos] == '\r' || t[p->pos] == '\t') p->pos++;
        if (!p->comments || t[p->pos] != '/' || t[p->pos + 1] != '/') return;
        while (p->pos < p->len && t[p->pos] != '\n') p->pos++;
    }
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static locale_t c_locale;

static void make_c_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

// strtod on a number of the text, whatever the process' locale; glibc's "C" locale is static, so this cannot fail.
static double to_double(const char *s)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_c_locale);
    return strtod_l(s, NULL, c_locale);
}

static int parse_number(parser *p)
{
    const char *t = p->j->text;
    size_t start = p->pos, i = start;
    if (t[i] == '-') i++;
    if (!is_digit(t[i])) return fail_at(p, i, "a digit is expected here");
    if (t[i] == '0' && is_digit(t[i + 1])) return fail_at(p, i, "a number may not start with a superfluous 0");
    while (is_digit(t[i])) i++;
    if (t[i] == '.') {
        if (!is_digit(t[++i])) return fail_at(p, i, "a digit is expected after the decimal point");
        while (is_digit(t[i])) i++;
    }
    if (t[i] == 'e' || t[i] == 'E') {
        i++;
        if (t[i] == '+' || t[i] == '-') i++;
        if (!is_digit(t[i])) return fail_at(p, i, "a digit is expected in the exponent");
        while (is_digit(t[i])) i++;
    }
    // The grammar has ended here; what follows must not continue the number for strtod either ("0x10").
    if (t[i] != '\0' && !strchr(" \t\r\n,]}/", t[i])) return fail_at(p, i, "this character cannot follow a number");
    if (isinf(to_double(t + start))) return fail_at(p, start, "this number is too large for a double");
    p->pos = i;
    return add_node(p, YD_J_NUMBER, start) < 0 ? out_of_memory(p) : 0;
}

static int parse_word(parser *p)
{
    static const struct {
        const char *word;
        yd_json_type type;
    } words[] = {{"null", YD_J_NULL}, {"false", YD_J_FALSE}, {"true", YD_J_TRUE}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t n = strlen(words[i].word);
        if (strncmp(p->j->text + p->pos, words[i].word, n) != 0) continue;
        p->pos += n;
        return add_node(p, words[i].type, 0) < 0 ? out_of_memory(p) : 0;
    }
    return fail_at(p, p->pos,
                   p->pos == p->len ? "the text ends where a value is expected" : "a value is expected here");
}

// Length of the well-formed UTF-8 sequence at s (RFC 3629: no overlong forms, no surrogates, up to U+10FFFF), 0 if none.
// Reads no further than the first byte that does not fit, so a NUL ends it.
static size_t utf8_length(const unsigned char *s)
{
    unsigned char lo = 0x80, hi = 0xbf;
    size_t n = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
               : s[0] >= 0xe0 && s[0] <= 0xef ? 3
               : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                              : 0;
    if (s[0] == 0xe0) lo = 0xa0;
    if (s[0] == 0xed) hi = 0x9f;
    if (s[0] == 0xf0) lo = 0x90;
    if (s[0] == 0xf4) hi = 0x8f;
    for (size_t i = 1; i < n; i++) {
        if (s[i] < lo || s[i] > hi) return 0;
        lo = 0x80, hi = 0xbf;
    }
    return n;
}

static size_t put_utf8(char *dst, unsigned c)
{
    if (c < 0x80) {
        dst[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--, c >>= 6) dst[i] = (char)(0x80 | (c & 0x3f));
    dst[0] = (char)(lead[n] | c);
    return n;
}

// Four hex digits at s, or -1.
static int hex4(const char *s)
{
    int x = 0;
    for (int i = 0; i < 4; i++) {
        int digit = is_digit(s[i]) ? s[i] - '0' : s[i] >= 'a' && s[i] <= 'f' ? s[i] - 'a' + 10 : -1;
        if (s[i] >= 'A' && s[i] <= 'F') digit = s[i] - 'A' + 10;
        if (digit < 0) return -1;
        x = x << 4 | digit;
    }
    return x;
}

// \uXXXX or a surrogate pair of them at p->pos, written to text[*to].
static int parse_unicode_escape(parser *p, size_t *to)
{
    char *t = p->j->text;
    size_t at = p->pos;
    int c = hex4(t + at + 2);
    if (c < 0) return fail_at(p, at, "\\u needs four hexadecimal digits");
    if (c == 0) return fail_at(p, at, "the character U+0000 is not accepted in strings");
    if (c >= 0xdc00 && c <= 0xdfff)
        return fail_at(p, at, "the second half of a surrogate pair comes without its first");
    p->pos += 6;
    if (c >= 0xd800 && c <= 0xdbff) {
        int low = t[p->pos] == '\\' && t[p->pos + 1] == 'u' ? hex4(t + p->pos + 2) : -1;
        if (low < 0xdc00 || low > 0xdfff) return fail_at(p, at, "the second half of this surrogate pair is missing");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        p->pos += 6;
    }
    *to += put_utf8(t + *to, (unsigned)c);
    return 0;
}

static int parse_escape(parser *p, size_t *to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    char *t = p->j->text, c = t[p->pos + 1];
    if (c == 'u') return parse_unicode_escape(p, to);
    const char *hit = c ? strchr(from, c) : NULL;
    if (!hit) return fail_at(p, p->pos, "this is no escape: \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\uXXXX are");
    t[(*to)++] = into[hit - from];
    p->pos += 2;
    return 0;
}

// A string at p->pos, unescaped in place and NUL-terminated; *start is the offset of its first character.
static int parse_string(parser *p, size_t *start)
{
    char *t = p->j->text;
    size_t quote = p->pos++, to = p->pos;
    *start = to;
    for (;;) {
        unsigned char c = (unsigned char)t[p->pos];
        if (c == '"') break;
        if (p->pos == p->len) return fail_at(p, quote, "this string has no closing quote");
        if (c == '\\') {
            int rc = parse_escape(p, &to);
            if (rc) return rc;
            continue;
        }
        if (c < 0x20) return fail_at(p, p->pos, "a control character in a string must be written as \\uXXXX");
        size_t n = c < 0x80 ? 1 : utf8_length((unsigned char *)t + p->pos);
        if (n == 0) return fail_at(p, p->pos, "this is not valid UTF-8");
        if (to != p->pos) memmove(t + to, t + p->pos, n);
        to += n;
        p->pos += n;
    }
    t[to] = '\0';
    p->pos++;
    return 0;
}

static int parse_key(parser *p)
{
    yd_json *j = p->j;
    size_t at = p->pos, start;
    if (j->text[at] != '"')
        return fail_at(p, at,
                       at == p->len ? "the text ends inside an object" : "a key in double quotes is expected here");
    int rc = parse_string(p, &start);
    if (rc) return rc;
    if (reserve_slot(j)) return out_of_memory(p);
    yd_jid object = p->open[p->depth - 1].id;
    const char *key = j->text + start;
    uint32_t hash = hash_member(object, key);
    if (find_slot(j, object, key, hash)->member) {
        char what[160];
        snprintf(what, sizeof what, "the key \"%.100s\" occurs twice in this object", key);
        return fail_at(p, at, what);
    }
    skip_space(p);
    if (j->text[p->pos] != ':') return fail_at(p, p->pos, "a colon is expected after the key");
    p->pos++;
    p->key = (uint32_t)start;
    p->key_hash = hash;
    return 0;
}

// Open an array or object; what it may hold is decided by the caller's loop.
static int open_container(parser *p, yd_json_type type)
{
    if (p->depth == MAX_DEPTH) return fail_at(p, p->pos, "arrays and objects are nested more than 32 deep");
    yd_jid id = add_node(p, type, 0);
    if (id < 0) return out_of_memory(p);
    p->open[p->depth].id = id;
    p->open[p->depth].last_child = -1;
    p->depth++;
    p->pos++;
    return 0;
}

// ---- the whole text

typedef enum { WANT_VALUE, WANT_FIRST, WANT_COMMA } want; // FIRST: a first child or the end of the container

static int parse_value(parser *p, want *next)
{
    char c = p->j->text[p->pos];
    if (c == '{' || c == '[') {
        *next = WANT_FIRST;
        return open_container(p, c == '{' ? YD_J_OBJECT : YD_J_ARRAY);
    }
    *next = WANT_COMMA;
    if (c == '"') {
        size_t start;
        int rc = parse_string(p, &start);
        if (rc) return rc;
        return add_node(p, YD_J_STRING, start) < 0 ? out_of_memory(p) : 0;
    }
    return c == '-' || is_digit(c) ? parse_number(p) : parse_word(p);
}

// One token inside the innermost container: its end, or a comma, or (the start of) its next child.
static int parse_inside(parser *p, want *next)
{
    int object = p->j->nodes[p->open[p->depth - 1].id].type == YD_J_OBJECT;
    char c = p->j->text[p->pos];
    if (*next != WANT_VALUE && c == (object ? '}' : ']')) {
        p->depth--;
        p->pos++;
        *next = WANT_COMMA;
        return 0;
    }
    if (*next == WANT_COMMA) {
        if (p->pos == p->len)
            return fail_at(p, p->pos, object ? "the text ends inside an object" : "the text ends inside an array");
        if (c != ',')
            return fail_at(p, p->pos, object ? "a comma or } is expected here" : "a comma or ] is expected here");
        p->pos++;
        *next = WANT_VALUE;
        return 0;
    }
    if (object) {
        int rc = parse_key(p);
        if (rc) return rc;
        skip_space(p);
    }
    return parse_value(p, next);
}

static int parse_text(parser *p)
{
    if (p->len >= 3 && memcmp(p->source, "\xef\xbb\xbf", 3) == 0)
        return fail_at(p, 0, "a byte order mark is not accepted: save the text as plain UTF-8");
    want next = WANT_VALUE;
    skip_space(p);
    int rc = parse_value(p, &next);
    while (rc == 0) {
        skip_space(p);
        if (p->depth == 0) break;
        rc = parse_inside(p, &next);
    }
    if (rc) return rc;
    return p->pos == p->len ? 0 : fail_at(p, p->pos, "text follows after the end of the value");
}

int yd_json_parse(const char *text, size_t len, int flags, yd_json **out, yd_err *err)
{
    *out = NULL;
    if (len > MAX_TEXT) return yd_fail(err, YD_E_INVALID, "%zu bytes of JSON: at most %zu are read", len, MAX_TEXT);
    parser p = {.source = text, .len = len, .comments = flags & YD_JSON_COMMENTS, .err = err};
    p.j = yd_calloc(1, sizeof *p.j);
    if (!p.j) return out_of_memory(&p);
    p.j->text = yd_malloc(len + 1);
    int rc = p.j->text ? 0 : out_of_memory(&p);
    if (rc == 0) {
        if (len) memcpy(p.j->text, text, len);
        p.j->text[len] = '\0';
        rc = parse_text(&p);
    }
    if (rc) {
        yd_json_free(p.j);
        return rc;
    }
    *out = p.j;
    return 0;
}

void yd_json_free(yd_json *j)
{
    if (!j) return;
    yd_free(j->text);
    yd_free(j->nodes);
    yd_free(j->slots);
    yd_free(j);
}

// ---- reading the nodes

static const node *at(const yd_json *j, yd_jid n)
{
    return j && n >= 0 && (size_t)n < j->count ? &j->nodes[n] : NULL;
}

static int is_container(const node *n)
{
    return n && (n->type == YD_J_ARRAY || n->type == YD_J_OBJECT);
}

yd_json_type yd_json_type_of(const yd_json *j, yd_jid n)
{
    const node *x = at(j, n);
    return x ? x->type : YD_J_NULL;
}

yd_jid yd_json_get(const yd_json *j, yd_jid obj, const char *key)
{
    const node *x = at(j, obj);
    if (!x || x->type != YD_J_OBJECT || x->value == 0) return -1;
    yd_jid member = find_slot(j, obj, key, hash_member(obj, key))->member;
    return member ? member : -1;
}

yd_jid yd_json_first(const yd_json *j, yd_jid n)
{
    const node *x = at(j, n);
    return is_container(x) && x->value ? n + 1 : -1; // document order: the first child comes right after its parent
}

yd_jid yd_json_next(const yd_json *j, yd_jid n)
{
    const node *x = at(j, n);
    return x ? x->next : -1;
}

int yd_json_count(const yd_json *j, yd_jid n)
{
    const node *x = at(j, n);
    return is_container(x) ? (int)x->value : 0;
}

const char *yd_json_key(const yd_json *j, yd_jid member)
{
    const node *x = at(j, member);
    return x && x->key ? j->text + x->key : NULL;
}

const char *yd_json_string(const yd_json *j, yd_jid n)
{
    const node *x = at(j, n);
    return x && x->type == YD_J_STRING ? j->text + x->value : NULL;
}

double yd_json_number(const yd_json *j, yd_jid n, double fallback)
{
    const node *x = at(j, n);
    return x && x->type == YD_J_NUMBER ? to_double(j->text + x->value) : fallback;
}

int yd_json_integer(const yd_json *j, yd_jid n, long long lo, long long hi, long long *out)
{
    const node *x = at(j, n);
    if (!x || x->type != YD_J_NUMBER) return -1;
    const char *s = j->text + x->value;
    char *end;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (errno) return -1;
    if (*end == '.' || *end == 'e' || *end == 'E') { // 1e3 and 2.0 are integers too, as far as a double can tell
        double d = to_double(s);
        if (d != floor(d) || fabs(d) >= 9007199254740992.0) return -1;
        v = (long long)d;
    }
    if (v < lo || v > hi) return -1;
    *out = v;
    return 0;
}
