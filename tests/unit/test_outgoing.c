// What decides about outgoing connections without making one: URLs, lists of hosts, addresses, signatures, waits between attempts.
#include "core/base64.h"
#include "core/hmac.h"
#include "core/mem.h"
#include "daemon/address.h"
#include "daemon/errands.h"
#include "daemon/signature.h"
#include "tests/unit/t.h"

#include <arpa/inet.h>
#include <netinet/in.h>

// ---- addresses

static const char *refused(const char *text, const char *networks)
{
    struct sockaddr_storage a;
    memset(&a, 0, sizeof a);
    if (strchr(text, ':')) {
        a.ss_family = AF_INET6;
        if (inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)&a)->sin6_addr) != 1) return "not parsed";
    } else {
        a.ss_family = AF_INET;
        if (inet_pton(AF_INET, text, &((struct sockaddr_in *)&a)->sin_addr) != 1) return "not parsed";
    }
    return yd_address_refused((struct sockaddr *)&a, networks);
}

static void addresses(void)
{
    static const char *const bad[] = {
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254", "169.254.169.254",
        "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.7",
        "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::2", "::127.0.0.1", "::ffff:127.0.0.1",
        "::ffff:8.8.8.8", "64:ff9b::a00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "fc00::1", "fd12::1",
        "fe80::1", "febf::1", "fec0::1", "ff02::1", "4000::1", "1fff::1"};
    static const char *const good[] = {"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
                                       "128.0.0.1", "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0",
                                       "198.17.255.255", "198.20.0.0", "223.255.255.255", "2600::1", "2a00:1450:4001::1", "2001:4860:4860::8888"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) CHECK_MSG(refused(bad[i], "") != NULL, "%s", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) CHECK_MSG(refused(good[i], "") == NULL, "%s: %s", good[i], refused(good[i], ""));
    const struct sockaddr local = {.sa_family = AF_UNIX};
    CHECK(yd_address_refused(&local, "0.0.0.0/0, ::/0") != NULL);
}

static void networks_that_are_named(void)
{
    static const char nets[] = "127.0.0.1, 10.1.0.0/16,fd00::/8 100.64.0.0/11";
    yd_err err;
    CHECK(yd_networks_check(nets, "outgoing_networks", &err) == 0 && yd_networks_check("", "outgoing_networks", &err) == 0);
    CHECK(!refused("127.0.0.1", nets) && refused("127.0.0.2", nets));
    CHECK(!refused("10.1.255.1", nets) && refused("10.2.0.0", nets) && refused("10.0.255.255", nets));
    CHECK(!refused("fd12::1", nets) && refused("fe80::1", nets) && refused("::1", nets));
    CHECK(!refused("100.95.1.1", nets) && refused("100.96.0.0", nets));
    CHECK(refused("::ffff:127.0.0.1", nets)); // another spelling opens no other door
    static const char *const wrong[] = {"10.0.0.0/33", "fd00::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0/8", "example.org", "10.0.0.0/8x", "::/+4"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_MSG(yd_networks_check(wrong[i], "outgoing_networks", &err) == YD_E_CONFIG, "%s", wrong[i]);
        CHECK(strcmp(err.field, "outgoing_networks") == 0);
    }
}

// ---- URLs and hosts

static void urls(void)
{
    yd_url u;
    yd_err err;
    CHECK(yd_url_parse("https://Example.ORG./a?b=c", "input.url", &u, &err) == 0);
    CHECK(strcmp(u.host, "example.org") == 0 && u.port == 443 && u.default_port == 443 && u.secure);
    CHECK(yd_url_parse("http://h:8080/", "input.url", &u, &err) == 0 && u.port == 8080 && u.default_port == 80 && !u.secure);
    CHECK(yd_url_parse("https://[2001:DB8::1]:444/x", "input.url", &u, &err) == 0 && strcmp(u.host, "2001:db8::1") == 0 && u.port == 444);
    CHECK(yd_url_parse("https://0x7f.1/", "input.url", &u, &err) == 0 && strcmp(u.host, "127.0.0.1") == 0); // as the transfer sees it
    static const char *const wrong[] = {"", "example.org", "ftp://example.org/", "file:///etc/passwd", "https://", "https://u@example.org/",
                                        "https://u:p@example.org/", "https://:p@example.org/", "https://ex ample.org/", "https://a\r\nb/",
                                        "https://b\xc3\xbc" "cher.example/", "https://example.org:0/", "https://example.org:99999/",
                                        "gopher://example.org/", "https://[fe80::1%25eth0]/", "//example.org/"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_MSG(yd_url_parse(wrong[i], "input.url", &u, &err) == YD_E_SETTING, "%s", wrong[i]);
        CHECK(strcmp(err.field, "input.url") == 0 && strstr(err.accepted, "https"));
    }
    char longest[YD_URL_MAX + 2];
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "https://e.org/", 14);
    longest[YD_URL_MAX + 1] = 0;
    CHECK(yd_url_parse(longest, "input.url", &u, &err) == YD_E_SETTING);
    longest[YD_URL_MAX] = 0;
    CHECK(yd_url_parse(longest, "input.url", &u, &err) == 0);
}

static int allowed(const char *hosts, const char *url)
{
    yd_url u;
    return yd_url_parse(url, "input.url", &u, NULL) == 0 && yd_hosts_allow(hosts, &u);
}

static void hosts(void)
{
    static const char list[] = "files.example.org, *.cdn.example.net other.example:8443 [2001:db8::5]:99";
    yd_err err;
    CHECK(yd_hosts_check(list, "fetch_hosts", &err) == 0 && yd_hosts_check("", "fetch_hosts", &err) == 0);
    CHECK(allowed(list, "https://files.example.org/a") && allowed(list, "https://FILES.example.org./a"));
    CHECK(!allowed(list, "https://example.org/") && !allowed(list, "https://xfiles.example.org/") && !allowed(list, "https://a.files.example.org/"));
    CHECK(!allowed(list, "https://files.example.org:444/") && allowed(list, "https://files.example.org:443/"));
    CHECK(allowed(list, "https://a.cdn.example.net/") && allowed(list, "https://a.b.cdn.example.net/"));
    CHECK(!allowed(list, "https://cdn.example.net/") && !allowed(list, "https://evilcdn.example.net/") && !allowed(list, "https://cdn.example.net.evil.org/"));
    CHECK(allowed(list, "https://other.example:8443/") && !allowed(list, "https://other.example/"));
    CHECK(allowed(list, "https://[2001:db8::5]:99/") && !allowed(list, "https://[2001:db8::6]:99/"));
    CHECK(!allowed("", "https://files.example.org/"));
    CHECK(!allowed("files.example.org", "https://files.example.org@evil.org/") && !allowed("files.example.org", "https://evil.org/#files.example.org"));
    static const char *const wrong[] = {"*", "*.", "a:0", "a:x", "a:70000", "http://a", "a/b", "[::1", "[::1]x", "a*b", "*.*.org"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_MSG(yd_hosts_check(wrong[i], "fetch_hosts", &err) == YD_E_CONFIG, "%s", wrong[i]);
        CHECK(strcmp(err.field, "fetch_hosts") == 0);
    }
}

// ---- signatures

static void hex(const uint8_t *code, char text[65])
{
    for (int i = 0; i < 32; i++) snprintf(text + 2 * i, 3, "%02x", code[i]);
}

// The test cases of RFC 4231 that have a full code.
static void codes(void)
{
    uint8_t key[131], data[64], code[32];
    char text[65];
    memset(key, 0x0b, 20);
    yd_hmac_sha256(key, 20, &(yd_hmac_piece){"Hi There", 8}, 1, code);
    hex(code, text);
    CHECK(strcmp(text, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7") == 0);
    const yd_hmac_piece two[] = {{"what do ya want ", 16}, {"for nothing?", 12}};
    yd_hmac_sha256("Jefe", 4, two, 2, code);
    hex(code, text);
    CHECK(strcmp(text, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843") == 0);
    memset(key, 0xaa, 20);
    memset(data, 0xdd, 50);
    yd_hmac_sha256(key, 20, &(yd_hmac_piece){data, 50}, 1, code);
    hex(code, text);
    CHECK(strcmp(text, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe") == 0);
    memset(key, 0xaa, 131);
    static const char longer[] = "Test Using Larger Than Block-Size Key - Hash Key First";
    yd_hmac_sha256(key, 131, &(yd_hmac_piece){longer, sizeof longer - 1}, 1, code);
    hex(code, text);
    CHECK(strcmp(text, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54") == 0);
    CHECK(yd_equal_secret("abc", "abc", 3) && !yd_equal_secret("abc", "abd", 3) && !yd_equal_secret("xbc", "abc", 3) && yd_equal_secret("a", "b", 0));
}

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// The known answer was computed with Python's hmac module.
static void signatures(void)
{
    static const char body[] = "{\"test\": 2432232314}";
    char file[512], out[YD_SIGNATURES_MAX], other[YD_SIGNATURES_MAX];
    yd_secrets *s = NULL;
    yd_err err;
    const int n = snprintf(file, sizeof file, "# for everybody\n\n  %s \r\nacme whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB\nacme\twhsec_QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC", SECRET);
    CHECK(yd_secrets_parse(file, (size_t)n, &s, &err) == 0);
    if (!s) return;
    yd_secrets_sign(s, "", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, strlen(body), out);
    CHECK_MSG(strcmp(out, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=") == 0, "%s", out);
    yd_secrets_sign(s, "nobody", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, strlen(body), other);
    CHECK(strcmp(out, other) == 0);
    yd_secrets_sign(s, "acme", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, strlen(body), other);
    const char *second = strchr(other, ' ');
    CHECK(strncmp(other, "v1,", 3) == 0 && second && strncmp(second + 1, "v1,", 3) == 0 && !strstr(other, out));
    CHECK(yd_secrets_have(s, "acme") && yd_secrets_have(s, "nobody"));
    yd_secrets_free(s);
    CHECK(yd_secrets_parse("acme " SECRET, strlen("acme " SECRET), &s, &err) == 0 && !yd_secrets_have(s, "other") && yd_secrets_have(s, "acme"));
    yd_secrets_free(s);
    static const char *const wrong[] = {"", "# none\n", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!!", "a b " SECRET,
                                        "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        s = NULL;
        CHECK_MSG(yd_secrets_parse(wrong[i], strlen(wrong[i]), &s, &err) == YD_E_CONFIG && !s, "%s", wrong[i]);
        CHECK(strcmp(err.field, "webhook_secret_file") == 0 && !strstr(err.detail, "whsec"));
    }
}

// ---- waits between attempts

static void waits(void)
{
    CHECK(yd_outgoing_wait_ms(1, 1000, 60000, 0) == 1000 && yd_outgoing_wait_ms(2, 1000, 60000, 0) == 2000 && yd_outgoing_wait_ms(5, 1000, 60000, 0) == 16000);
    CHECK(yd_outgoing_wait_ms(7, 1000, 60000, 0) == 60000 && yd_outgoing_wait_ms(1000000, 1000, 60000, 0) == 60000);
    CHECK(yd_outgoing_wait_ms(1, 90000, 60000, 0) == 60000 && yd_outgoing_wait_ms(100, 1, INT64_MAX, 0) > 0);
    for (int failed = 1; failed < 12; failed++) {
        const int64_t most = yd_outgoing_wait_ms(failed, 1000, 60000, 0), least = yd_outgoing_wait_ms(failed, 1000, 60000, UINT32_MAX);
        const int64_t middle = yd_outgoing_wait_ms(failed, 1000, 60000, UINT32_MAX / 2);
        CHECK(least >= most / 2 && least < middle && middle < most);
    }
}

// ---- errands

static yd_config errand_config(void)
{
    yd_config cfg;
    yd_config_init(&cfg);
    yd_config_set(&cfg, "fetch_hosts", "in.example", NULL);
    yd_config_set(&cfg, "result_hosts", "out.example", NULL);
    yd_config_set(&cfg, "webhook_hosts", "hook.example", NULL);
    return cfg;
}

static yd_blob *errands_of(const char *text, yd_err *e)
{
    const yd_config cfg = errand_config();
    json_t *asked = json_loads(text, 0, NULL);
    yd_blob *b = NULL;
    yd_errands_make(&cfg, asked, &b, e);
    json_decref(asked);
    return b;
}

static const char *state_of(const yd_blob *b, const char *kind)
{
    static char state[16];
    json_t *o = yd_errands_public(b);
    const char *s = json_string_value(json_object_get(json_object_get(o, kind), "state"));
    snprintf(state, sizeof state, "%s", s ? s : "");
    json_decref(o);
    return state;
}

static yd_blob *noted(yd_blob *b, yd_out_kind kind, const char *problem, int last)
{
    yd_blob *next = yd_errands_note(b, kind, problem, last);
    yd_blob_unref(b);
    return next;
}

static void errands(void)
{
    yd_errand e;
    yd_err err = {0};
    yd_blob *b = errands_of("{\"input\":{\"url\":\"https://in.example/a\"},\"result\":{\"url\":\"https://out.example/b?sig=s\",\"headers\":{\"x-amz-acl\":\"private\"}},"
                            "\"webhook\":{\"url\":\"https://hook.example/c\"}}", &err);
    CHECK_MSG(b != NULL, "%s", err.detail);
    if (!b) return;
    CHECK(yd_errands_input(b, &e) == 1 && strcmp(e.url, "https://in.example/a") == 0);
    yd_errand_clear(&e);
    CHECK(!yd_errands_due(b, YD_JOB_RUNNING) && yd_errands_due(b, YD_JOB_SUCCEEDED) && yd_errands_due(b, YD_JOB_FAILED));
    CHECK(yd_errands_next(b, YD_JOB_CANCELLED, &e) == 1 && e.kind == YD_OUT_WEBHOOK); // there is no result
    yd_errand_clear(&e);
    CHECK(yd_errands_next(b, YD_JOB_SUCCEEDED, &e) == 1 && e.kind == YD_OUT_RESULT && e.n_headers == 1 && strcmp(e.headers[0], "x-amz-acl: private") == 0);
    yd_errand_clear(&e);
    b = noted(b, YD_OUT_RESULT, "nobody answers", 0);
    CHECK(b && strcmp(state_of(b, "result"), "waiting") == 0 && yd_errands_next(b, YD_JOB_SUCCEEDED, &e) == 1 && e.attempts == 1 && e.kind == YD_OUT_RESULT);
    yd_errand_clear(&e);
    b = noted(b, YD_OUT_RESULT, NULL, 0);
    CHECK(b && strcmp(state_of(b, "result"), "delivered") == 0 && !memmem(b->bytes, b->len, "sig=s", 5) && !memmem(b->bytes, b->len, "nobody", 6));
    CHECK(yd_errands_next(b, YD_JOB_SUCCEEDED, &e) == 1 && e.kind == YD_OUT_WEBHOOK && e.attempts == 0);
    yd_errand_clear(&e);
    b = noted(b, YD_OUT_WEBHOOK, "no", 1);
    CHECK(b && strcmp(state_of(b, "webhook"), "failed") == 0 && !yd_errands_due(b, YD_JOB_SUCCEEDED) && yd_errands_next(b, YD_JOB_SUCCEEDED, &e) == 0);
    yd_blob_unref(b);
    CHECK(errands_of("{}", &err) == NULL && yd_errands_due(NULL, YD_JOB_SUCCEEDED) == 0 && yd_errands_input(NULL, &e) == 0);
    CHECK(errands_of("{\"webhook\":{\"url\":\"https://out.example/\"}}", &err) == NULL && err.code == YD_E_SETTING && strcmp(err.field, "webhook.url") == 0);
}

// Every allocation of ours fails once: it is told, and nothing leaks (under AddressSanitizer).
static void errands_without_memory(void)
{
    int refused = 0, made = 0;
    for (long k = 1; k < 40; k++) {
        yd_err err = {0};
        yd_errand e = {0};
        yd_mem_fail_at(k);
        yd_blob *b = errands_of("{\"result\":{\"url\":\"https://out.example/b\",\"headers\":{\"x-ms-a\":\"b\"}}}", &err), *after = NULL;
        const int rc = b ? yd_errands_next(b, YD_JOB_SUCCEEDED, &e) : YD_E_NOMEM;
        if (b) after = yd_errands_note(b, YD_OUT_RESULT, "x", 0);
        yd_mem_fail_at(0);
        CHECK(b || err.code == YD_E_NOMEM);
        CHECK(rc == 1 || rc == YD_E_NOMEM);
        refused += !b || rc != 1 || !after;
        made += b && rc == 1 && after;
        yd_errand_clear(&e);
        yd_blob_unref(after);
        yd_blob_unref(b);
    }
    CHECK(refused >= 4 && made > 0);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"outgoing: addresses", addresses}, {"outgoing: networks that are named", networks_that_are_named},
        {"outgoing: URLs", urls},           {"outgoing: hosts", hosts},
        {"outgoing: HMAC", codes},          {"outgoing: signatures", signatures},
        {"outgoing: waits", waits},         {"outgoing: errands", errands},
        {"outgoing: errands without memory", errands_without_memory},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
