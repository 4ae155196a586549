// The key file and its limits: what is read, what is refused and how, budgets that fill, a table that takes over from another.
#include "core/keys.h"

#include "core/sha256.h"
#include "tests/unit/t.h"
#include <stdio.h>
#include <string.h>

static yd_err err;

static yd_keys *parsed(const char *text)
{
    yd_keys *k = NULL;
    yd_err_clear(&err);
    return yd_keys_parse(text, strlen(text), &k, &err) ? NULL : k;
}

static void line_for(const char *key, const char *owner, const char *rest, char *out, size_t cap)
{
    char hash[65];
    yd_sha256_hex(key, strlen(key), hash);
    snprintf(out, cap, "%s %s %s\n", owner, hash, rest);
}

static void keys_are_found(void)
{
    char text[1024], line[3][256];
    const char *owner = NULL;
    unsigned scopes = 0;
    line_for("first", "alice", "", line[0], sizeof line[0]);
    line_for("second", "alice", "scopes=read,metrics # a comment", line[1], sizeof line[1]);
    line_for("third", "bob.b-2_", "weight=2.5 rate=0.5 jobs=3 units_per_hour=1e6", line[2], sizeof line[2]);
    snprintf(text, sizeof text, "# the keys\n\n%s%s%s", line[0], line[1], line[2]);
    yd_keys *k = parsed(text);
    CHECK_MSG(k != NULL, "%s", err.detail);
    if (!k) return;
    CHECK(yd_keys_count(k) == 3);
    CHECK(yd_keys_check(k, "first", &owner, &scopes, &err) == 0 && strcmp(owner, "alice") == 0 && scopes == (YD_SCOPE_SUBMIT | YD_SCOPE_READ));
    CHECK(yd_keys_check(k, "second", &owner, &scopes, &err) == 0 && strcmp(owner, "alice") == 0 && scopes == (YD_SCOPE_READ | YD_SCOPE_METRICS));
    CHECK(yd_keys_check(k, "third", &owner, &scopes, &err) == 0 && strcmp(owner, "bob.b-2_") == 0);
    CHECK(yd_keys_check(k, "", &owner, &scopes, &err) == YD_E_UNAUTHORIZED && yd_keys_check(k, "firs", &owner, &scopes, &err) == YD_E_UNAUTHORIZED);
    const yd_key_limits *l = yd_keys_limits(k, "bob.b-2_");
    CHECK(l && l->weight == 2.5 && l->rate == 0.5 && l->jobs == 3 && l->units_per_hour == 1e6);
    CHECK(yd_keys_owner(k, "alice", YD_SCOPE_METRICS) && !yd_keys_owner(k, "bob.b-2_", YD_SCOPE_METRICS));
    l = yd_keys_limits(k, "alice");
    CHECK(l && l->weight == 1 && l->rate == 0 && l->jobs == 0 && l->units_per_hour == 0);
    CHECK(!yd_keys_limits(k, "carol") && !yd_keys_owner(k, "carol", YD_SCOPE_READ) && strcmp(yd_keys_owner(k, "alice", YD_SCOPE_READ), "alice") == 0);
    yd_keys_free(k);
}

static void bad_files_are_refused(void)
{
    static const char *const rest[] = {"scopes=", "scopes=read,", "scopes=write", "weight=0", "weight=nan", "rate=-1", "jobs=1x", "jobs=0.5", "rate", "colour=red", "units_per_hour=1e16"};
    char line[256], twice[600];
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++) {
        line_for("k", "alice", rest[i], line, sizeof line);
        CHECK_MSG(!parsed(line) && err.code == YD_E_CONFIG && strcmp(err.field, "keys") == 0 && strstr(err.detail, "line 1"), "%s: %s", rest[i],
                  err.detail);
    }
    line_for("k", "al/ice", "", line, sizeof line);
    CHECK(!parsed(line));
    line_for("k", "0123456789012345678901234567890123456789012345678901234567890123", "", line, sizeof line);
    CHECK(!parsed(line));
    CHECK(!parsed("alice 1234\n") && strstr(err.detail, "SHA-256"));
    CHECK(!parsed("# nothing\n") && strstr(err.detail, "no key"));
    line_for("k", "alice", "", line, sizeof line);
    snprintf(twice, sizeof twice, "%s%s", line, line);
    CHECK(!parsed(twice) && strstr(err.detail, "twice"));
    yd_keys *k;
    CHECK(yd_keys_load("/nowhere/keys", &k, &err) == YD_E_CONFIG && !k);
}

static void budgets_fill(void)
{
    char line[256];
    long ms = 0;
    line_for("k", "alice", "rate=2 units_per_hour=3600", line, sizeof line);
    yd_keys *k = parsed(line);
    int64_t now = 1000000;
    CHECK(k != NULL);
    if (!k) return;
    for (int i = 0; i < 20; i++) CHECK(yd_keys_request(k, "alice", now, &ms, &err) == 0); // ten seconds' worth
    CHECK(yd_keys_request(k, "alice", now, &ms, &err) == YD_E_LIMIT && ms == 500);
    CHECK(yd_keys_request(k, "alice", now + 499000, &ms, &err) == YD_E_LIMIT && ms >= 1 && ms <= 2);
    CHECK(yd_keys_request(k, "alice", now + 501000, &ms, &err) == 0);
    CHECK(yd_keys_request(k, "bob", now, &ms, &err) == 0); // nobody's limits
    CHECK(yd_keys_work(k, "alice", 3601, now, &ms, &err) == YD_E_SETTING);
    CHECK(yd_keys_work(k, "alice", 3600, now, &ms, &err) == 0);
    CHECK(yd_keys_work(k, "alice", 10, now, &ms, &err) == YD_E_LIMIT && ms >= 10000 && ms <= 10001);
    yd_keys *next = parsed(line);
    CHECK(next != NULL);
    if (next) {
        yd_keys_carry(next, k);
        CHECK(yd_keys_work(next, "alice", 10, now + 5000000, &ms, &err) == YD_E_LIMIT && ms >= 4999 && ms <= 5001); // a new file gives nothing back
        CHECK(yd_keys_work(next, "alice", 10, now + 10100000, &ms, &err) == 0);
        yd_keys_free(next);
    }
    yd_keys_free(k);
}

static void made_keys_differ(void)
{
    char key[2][YD_KEY_TEXT], hash[2][65], again[65];
    for (int i = 0; i < 2; i++) {
        CHECK(yd_key_make(key[i], hash[i], &err) == 0);
        CHECK(strlen(key[i]) == YD_KEY_TEXT - 1 && strncmp(key[i], "yk_", 3) == 0 && !strpbrk(key[i], "+/= "));
        yd_sha256_hex(key[i], strlen(key[i]), again);
        CHECK(strcmp(again, hash[i]) == 0);
    }
    CHECK(strcmp(key[0], key[1]) != 0);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"keys: found by what clients send", keys_are_found},
        {"keys: bad files are refused", bad_files_are_refused},
        {"keys: budgets fill while time passes", budgets_fill},
        {"keys: made ones differ", made_keys_differ},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
