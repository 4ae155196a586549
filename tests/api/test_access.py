"""Who may do what: keys, scopes, budgets, stream tokens, keys read again, proxies in front, pages of other origins."""
import json
import os
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from harness import Daemon, TIMEOUT_S, YODA, YODAD, check, sse, textured

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def new_key(path, owner, attributes=""):
    with_them = ["--with", attributes] if attributes else []
    return subprocess.run([YODA, "key", owner, "--file", path, *with_them], check=True, capture_output=True, text=True).stdout.strip()


def requests_of(d, n):
    """The log's lines of requests, without the harness's probes; a line comes when its answer has been sent, so n are waited for."""
    until = time.monotonic() + TIMEOUT_S
    while True:
        lines = [json.loads(line) for line in d.log_text().splitlines() if '"msg":"request"' in line]
        lines = [line for line in lines if line["path"].startswith("/v1/")]
        if len(lines) >= n or time.monotonic() > until:
            return lines
        time.sleep(0.02)


class Guarded:
    """A daemon that asks for keys."""

    def __init__(self, owners, **flags):
        self.dir = tempfile.TemporaryDirectory(prefix="yodad-keys-")
        self.path = os.path.join(self.dir.name, "keys")
        self.key = {name: new_key(self.path, name.split(":")[0], attributes) for name, attributes in owners.items()}
        self.d = Daemon(device="fake", fake_unit_us=2000, keys=self.path, **flags)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        check(self.d.stop() == 0, "the daemon ends well")
        self.dir.cleanup()

    def ask(self, path, who=None, *args, headers=(), **kw):
        if who:
            headers = (*headers, f"Authorization: Bearer {self.key[who]}")
        return self.d.curl(path, *args, headers=headers, **kw)

    def job(self, who, query="", picture=None):
        a = self.ask(f"/v1/jobs{query}", who, data=picture or textured(40, 32))
        return a.json()["id"] if a.status == 202 else a


def test_without_a_key_there_is_no_way_in():
    with Guarded({"alice": ""}) as g:
        for path, args in (("/v1/jobs", ()), ("/v1/models", ()), ("/metrics", ()), ("/v1/events", ()), ("/v1/jobs/x/result", ())):
            a = g.ask(path, None, *args)
            check(a.status == 401 and a.header("WWW-Authenticate") == 'Bearer realm="yodad"', path, (a.status, a.headers))
        check(g.d.curl("/v1/jobs", data=textured(40, 32)).status == 401, "no job either")
        a = g.d.curl("/v1/jobs", headers=("Authorization: Bearer yk_wrong",))
        check(a.status == 401 and a.json()["type"] == "/problems/unauthorized", "a wrong key", a.body)
        check(g.d.curl("/v1/jobs", headers=("Authorization: Basic YTpi",)).status == 401, "another scheme")
        check(g.d.curl(f"/v1/jobs?token={g.key['alice']}").status in (401, 422), "a key in the query is no key")
        for path in ("/livez", "/readyz", "/openapi.json", "/"):
            check(g.d.curl(path).status == 200, f"{path} is for everybody")
        check(g.ask("/v1/jobs", "alice").status == 200, "the key opens")
        check(g.d.curl("/v1/jobs", headers=(f"authorization: bearer  {g.key['alice']}",)).status == 200, "scheme in any case")


def test_jobs_belong_to_their_owner():
    with Guarded({"alice": "", "alice:2": "", "bob": ""}) as g:
        j = g.job("alice", "?steps=3")
        until = time.monotonic() + 20
        while g.ask(f"/v1/jobs/{j}", "alice").json()["state"] != "succeeded" and time.monotonic() < until:
            time.sleep(0.05)
        check(g.ask(f"/v1/jobs/{j}/result", "alice:2").status == 200, "another key of the same owner")
        for tail in ("", "/result", "/events", "/attention", "/mask?step=1", "/preview"):
            check(g.ask(f"/v1/jobs/{j}{tail}", "bob").status == 404, f"not for bob: {tail}")
        check(g.ask(f"/v1/jobs/{j}", "bob", "-X", "DELETE").status == 404, "nor to delete")
        check(g.ask("/v1/jobs", "bob").json()["jobs"] == [] and len(g.ask("/v1/jobs", "alice").json()["jobs"]) == 1, "lists are one's own")
        g.d._await_log('"owner":"alice"')  # the log names owners
        check(g.key["alice"] not in g.d.log_text(), "and no keys")


def test_scopes():
    with Guarded({"reader": "scopes=read", "writer": "scopes=submit", "graph": "scopes=metrics"}) as g:
        a = g.ask("/v1/jobs", "reader", data=textured(40, 32))
        check(a.status == 403 and a.json()["accepted"] == "submit", "a reader submits nothing", a.body)
        check(g.ask("/v1/jobs", "reader").status == 200 and g.ask("/metrics", "reader").status == 403, "a reader reads jobs")
        check(g.ask("/v1/jobs", "writer", data=textured(40, 32)).status == 202 and g.ask("/v1/jobs", "writer").status == 403, "a writer submits")
        check(g.ask("/metrics", "graph").status == 200 and g.ask("/v1/jobs", "graph").status == 403, "metrics alone")


def test_budgets():
    with Guarded({"slow": "rate=0.5", "few": "jobs=1", "small": "units_per_hour=100"}) as g:
        got = [g.ask("/v1/models", "slow") for _ in range(8)]
        late = [a for a in got if a.status == 429]
        check(got[0].status == 200 and late, "five requests at once, then one in two seconds", [a.status for a in got])
        check(all(1 <= int(a.header("Retry-After")) <= 2 for a in late), "and it says when", [a.header("Retry-After") for a in late])
        first = g.job("few", "?steps=200&lower_bound=1")
        a = g.ask("/v1/jobs", "few", data=textured(40, 32))
        check(isinstance(first, str) and a.status == 429 and a.header("Retry-After"), "a second job at a time", a.body)
        check(g.ask(f"/v1/jobs/{first}", "few", "-X", "DELETE").status == 204, "deleted")
        with ThreadPoolExecutor(6) as pool:  # the picture is read before a job is stored: none of them knows of the others
            asked = [pool.submit(g.ask, f"/v1/jobs?steps=100&lower_bound=1&seed={i}", "few", data=textured(40, 32)) for i in range(6)]
            got = [a.result() for a in asked]
        taken = [a for a in got if a.status == 202]
        check(len(taken) == 1 and all(a.status == 429 for a in got if a not in taken), "one of six in the same moment", [a.status for a in got])
        g.ask(f"/v1/jobs/{taken[0].json()['id']}?wait=20", "few")
        check(g.ask("/v1/jobs?seed=7", "few", data=textured(40, 32)).status == 202, "a finished one does not count")
        a = g.ask("/v1/jobs?steps=3&lower_bound=1", "small", data=textured(40, 32))
        check(a.status == 202, "within the budget", a.body)
        a = g.ask("/v1/jobs?steps=3&lower_bound=1", "small", data=textured(300, 200))
        check(a.status == 422 and "an hour" in a.json()["detail"], "more than an hour's budget", a.body)
        seen = [g.ask(f"/v1/jobs?steps=3&lower_bound=1&seed={i}", "small", data=textured(40, 32)) for i in range(40)]
        late = [a for a in seen if a.status == 429]
        check(late and "units of work an hour" in late[0].json()["detail"] and int(late[0].header("Retry-After")) > 10, "then it is used up",
              [a.status for a in seen])


def test_stream_tokens():
    with Guarded({"alice": "", "bob": ""}, stream_token_ttl_s=60) as g:
        j, other = g.job("alice", "?steps=5"), g.job("alice", "?steps=5&seed=3")
        a = g.ask(f"/v1/tokens?job={j}", "alice", "-X", "POST")
        check(a.status == 201 and a.json()["job"] == j, "a token for a job", a.body)
        token = a.json()["token"]
        a = g.d.curl(f"/v1/jobs/{j}/events?token={token}")
        check(a.status == 200 and b"event: succeeded" in a.body, "opens the stream", (a.status, a.body[:200]))
        for tail in ("result", "attention", "mask?step=1&", "preview"):
            mark = "" if tail.endswith("&") else "?"
            check(g.d.curl(f"/v1/jobs/{j}/{tail}{mark}token={token}").status == 200, f"and pictures: {tail}")
        check(g.d.curl(f"/v1/jobs/{other}/events?token={token}").status == 401, "not another job's")
        check(g.d.curl(f"/v1/jobs/{j}?token={token}").status == 401, "nor the job itself")
        check(g.d.curl(f"/v1/jobs/{j}/result?token={token[:-1]}{'0' if token[-1] != '0' else '1'}").status == 401, "nor changed")
        later = str(int(token.split(".")[0]) + 1000) + token[token.index("."):]
        check(g.d.curl(f"/v1/jobs/{j}/result?token={later}").status == 401, "nor made longer")
        check(g.ask(f"/v1/tokens?job={j}", "bob", "-X", "POST").status == 404, "nobody else's job")
        check(g.ask("/v1/tokens?ttl_s=61", "alice", "-X", "POST").status == 422, "no longer than allowed")
        everything = g.ask("/v1/tokens?ttl_s=1", "alice", "-X", "POST").json()["token"]
        check(g.d.curl(f"/v1/jobs/{other}/result?token={everything}").status in (200, 409), "a token for all jobs of its owner")
        time.sleep(2.1)
        a = g.d.curl(f"/v1/jobs/{j}/result?token={everything}")
        check(a.status == 401 and "ended" in a.json()["detail"], "that ends", a.body)
        check(token not in g.d.log_text(), "tokens are not logged")


def test_tokens_for_streams_of_several_jobs():
    with Guarded({"alice": "", "bob": ""}) as g:
        a, b, c = (g.job("alice", f"?steps=5&seed={i}") for i in range(3))
        theirs = g.job("bob", "?steps=5")

        def told(query):
            """The jobs that a stream tells of, after a snapshot; the stream is cut where it does not end by itself."""
            p = subprocess.run(g.d.curl_args(f"/v1/events?{query}", "-N", timeout=2), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            events = sse(p.stdout.decode())
            return {e[2]["job"] for e in events[1:]} | {j["id"] for j in events[0][2]["jobs"]} if events else p.stdout

        def token(who, query=""):
            return g.ask(f"/v1/tokens{query}", who, "-X", "POST").json()["token"]
        one, two, everything = token("alice", f"?job={a}"), token("alice", f"?jobs={a},{b}"), token("alice")
        check(told(f"token={one}") == {a}, "a job's token opens the stream over that job", told(f"token={one}"))
        check(told(f"jobs={a}&token={one}") == {a}, "named or not")
        check(told(f"token={two}") == {a, b} and told(f"jobs={b}&token={two}") == {b}, "a token for two, or for one of them")
        check(told(f"token={everything}") == {a, b, c}, "an owner's opens all of the owner's, and nobody else's", told(f"token={everything}"))
        for query in (f"jobs={b}&token={one}", f"jobs={a},{b}&token={one}", f"jobs={a},{c}&token={two}", f"jobs={theirs}&token={two}", f"jobs={a},&token={one}x",
                      f"jobs={a[:-1]}&token={one}", f"jobs={a}"):
            check(g.d.curl(f"/v1/events?{query}").status == 401, f"not opened: {query[:60]}")
        check(g.d.curl(f"/v1/events?jobs={theirs}&token={everything}").status == 404, "another owner's job is not there")
        check(g.d.curl(f"/v1/jobs/{b}/events?token={two}").status == 200 and g.d.curl(f"/v1/jobs/{c}/events?token={two}").status == 401, "and the jobs' own streams")
        check(g.ask(f"/v1/tokens?jobs={a},{theirs}", "alice", "-X", "POST").status == 404, "nobody else's job")
        check(g.ask(f"/v1/tokens?jobs={a}&job={a}", "alice", "-X", "POST").status == 422, "one way to name them")
        check(g.ask("/v1/tokens?jobs=", "alice", "-X", "POST").status == 404, "no job is none")
        check(g.ask("/v1/tokens?jobs=" + ",".join([a] * 65), "alice", "-X", "POST").status == 422, "more than 64")
        long = token("alice", "?jobs=" + ",".join([a, b] * 32))
        check(told(f"token={long}") == {a, b}, "64 jobs fit into an address", len(long))


def test_keys_are_read_again():
    with Guarded({"alice": "", "bob": ""}) as g:
        j = g.job("bob", "?steps=300&lower_bound=1")
        token = g.ask(f"/v1/tokens?job={j}", "bob", "-X", "POST").json()["token"]
        with open(g.path) as f:
            lines = f.read().splitlines()
        with open(g.path, "w") as f:
            f.write("this is no key file\n")
        os.kill(g.d.process.pid, signal.SIGHUP)
        g.d._await_log("were not read again")
        check(g.ask("/v1/jobs", "bob").status == 200, "a bad file changes nothing")
        with open(g.path, "w") as f:
            f.write("\n".join(line for line in lines if line.startswith("alice")) + "\n")
        carol = new_key(g.path, "carol")
        with open(g.path, "a") as f:
            f.write(next(line for line in lines if line.startswith("bob")) + " scopes=metrics\n")
        os.kill(g.d.process.pid, signal.SIGHUP)
        g.d._await_log('"reloaded"')
        check(g.ask("/v1/jobs", "bob").status == 403 and g.ask("/v1/jobs", "alice").status == 200, "bob's key reads no more")
        check(g.d.curl("/v1/jobs", headers=(f"Authorization: Bearer {carol}",)).status == 200, "carol's is there")
        check(g.d.curl(f"/v1/jobs/{j}/preview?token={token}").status == 401, "tokens go with the scope")
        check(g.ask("/metrics", "bob").body.find(b"yodad_queue_depth") > 0, "and the job goes on")
        with open(g.path, "w") as f:
            f.write("\n".join(lines) + "\n")
        os.kill(g.d.process.pid, signal.SIGHUP)
        time.sleep(0.3)
        check(g.ask(f"/v1/jobs/{j}", "bob").json()["state"] in ("running", "succeeded"), "as it was", g.ask(f"/v1/jobs/{j}", "bob").body)


def test_the_key_file_is_checked_at_the_start():
    with tempfile.TemporaryDirectory(prefix="yodad-keys-") as folder:
        path = os.path.join(folder, "keys")
        open(path, "w").write("alice nothex\n")
        run = subprocess.run([YODAD, "--device", "fake", "--listen", "127.0.0.1:0", "--keys", path], capture_output=True, text=True, timeout=30)
        check(run.returncode == 1 and "line 1" in run.stderr, "refused", run.stderr)
        run = subprocess.run([YODAD, "--listen", "0.0.0.0:0", "--check-config"], capture_output=True, text=True, timeout=30)
        check(run.returncode == 1 and "--keys" in run.stderr, "beyond loopback a key file is asked for", run.stderr)
        os.unlink(path)
        new_key(path, "alice")
        run = subprocess.run([YODAD, "--listen", "0.0.0.0:0", "--keys", path, "--check-config"], capture_output=True, text=True, timeout=30)
        check(run.returncode == 0 and json.loads(run.stdout)["keys"] == path, "and enough", run.stderr)
        check(os.stat(path).st_mode & 0o777 == 0o600, "nobody else reads it")


def test_proxies_in_front():
    d = Daemon(device="fake", trusted_proxies="127.0.0.0/8, 10.0.0.0/8", limit_loopback="true", max_connections_per_ip=2)
    try:
        d.curl("/v1/jobs", headers=("X-Forwarded-For: 203.0.113.9, 198.51.100.7, 10.1.2.3", f"traceparent: {TRACE}"))
        d.curl("/v1/models", headers=("X-Forwarded-For: not-an-address",))
        d.curl("/v1/models", headers=("traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01",))
        lines = requests_of(d, 3)
        d.curl("/v1/capabilities", headers=("X-Forwarded-For: 203.0.113.66", "X-Forwarded-For: 198.51.100.7, 10.9.9.9"))
        check(requests_of(d, 4)[3]["peer"] == "198.51.100.7", "what a client puts before a proxy's own line is not believed", requests_of(d, 4))
        check(lines[0]["peer"] == "198.51.100.7", "the last address that is no proxy's", lines[0])
        check(lines[0]["traceparent"] == TRACE and "traceparent" not in lines[2], "traces that are none are left out", lines)
        check(lines[1]["peer"] == "127.0.0.1", "what is no address is not believed", lines[1])
        held = [d.connect() for _ in range(4)]
        check(d.curl("/livez").status == 200, "a proxy may have many connections")
        for s in held:
            s.close()
    finally:
        check(d.stop() == 0, "the daemon ends well")
    d = Daemon(device="fake")
    try:
        d.curl("/v1/jobs", headers=("X-Forwarded-For: 203.0.113.9",))
        line = requests_of(d, 1)[0]
        check(line["peer"] == "127.0.0.1", "nobody is believed unasked", line)
    finally:
        check(d.stop() == 0, "the daemon ends well")


FORWARDED = (  # the header's lines -> the client, its scheme
    (("for=203.0.113.9;proto=https;by=10.0.0.1",), "203.0.113.9", "https"),
    (('FOR="[2001:db8:cafe::17]:4711" ; Proto=HTTP',), "2001:db8:cafe::17", "http"),
    (("for=203.0.113.9:4711",), "203.0.113.9", None),
    (("for=192.0.2.66, for=198.51.100.7;proto=http, for=10.1.2.3;proto=https",), "198.51.100.7", "http"),
    (("for=192.0.2.66", "for=198.51.100.7", "for=10.1.2.3"), "198.51.100.7", None),
    (("for=192.0.2.66, for=unknown, for=10.1.2.3",), "10.1.2.3", None),
    (("for=192.0.2.66, for=_hidden",), "127.0.0.1", None),
    (('for=192.0.2.66, for="192.0.2.67, for=198.51.100.7',), "127.0.0.1", None),  # a quote without an end takes the rest along
    (('for="192.0.2.66", proto=https',), "127.0.0.1", None),  # the last proxy does not say for whom
    (("for=192.0.2.66;for=192.0.2.67",), "127.0.0.1", None),
    (('for="192.0.2\\.66";host="a\\",for=192.0.2.1"',), "192.0.2.66", None),
    (("for=" + "1" * 200,), "127.0.0.1", None),
    (("", "for=198.51.100.7"), "198.51.100.7", None),
    ((", ".join(f"for=10.0.0.{i}" for i in range(100)) + ", for=198.51.100.7",), "198.51.100.7", None),
)


def test_the_standard_header_of_proxies():
    d = Daemon(device="fake", trusted_proxies="127.0.0.0/8, 10.0.0.0/8")
    try:
        for i, (lines, client, scheme) in enumerate(FORWARDED):
            d.curl("/v1/models", headers=[f"Forwarded: {line}" if line else "Forwarded;" for line in lines])
            line = requests_of(d, i + 1)[i]
            check((line["peer"], line.get("scheme")) == (client, scheme), lines[0][:60], (line["peer"], line.get("scheme")))
        n = len(FORWARDED)
        d.curl("/v1/models", headers=("Forwarded: for=203.0.113.9", "X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https"))
        line = requests_of(d, n + 1)[n]
        check((line["peer"], line["scheme"]) == ("198.51.100.7", "https"), "of either the older counts where both are there", line)
    finally:
        check(d.stop() == 0, "the daemon ends well")
    for setting, client in (("forwarded", "203.0.113.9"), ("x-forwarded-for", "198.51.100.7")):
        d = Daemon(device="fake", trusted_proxies="127.0.0.0/8", proxy_header=setting)
        try:
            d.curl("/v1/models", headers=("Forwarded: for=203.0.113.9", "X-Forwarded-For: 198.51.100.7"))
            d.curl("/v1/models", headers=("X-Forwarded-For: 192.0.2.1" if setting == "forwarded" else "Forwarded: for=192.0.2.1",))
            lines = requests_of(d, 2)
            check(lines[0]["peer"] == client and lines[1]["peer"] == "127.0.0.1", f"{setting} and nothing else", [x["peer"] for x in lines])
        finally:
            check(d.stop() == 0, "the daemon ends well")


def test_pages_of_other_origins():
    d = Daemon(device="fake", cors_origins="https://app.example, http://localhost:3000")
    try:
        a = d.curl("/v1/jobs", headers=("Origin: https://app.example",))
        check(a.header("Access-Control-Allow-Origin") == "https://app.example" and "Origin" in a.header("Vary"), "allowed", a.headers)
        check("ETag" in a.header("Access-Control-Expose-Headers") and not a.header("Access-Control-Allow-Credentials"), "without credentials")
        a = d.curl("/v1/jobs", headers=("Origin: https://app.example.evil.example",))
        check(not a.header("Access-Control-Allow-Origin"), "another origin gets nothing", a.headers)
        ask = ("Origin: http://localhost:3000", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")
        a = d.curl("/v1/jobs", "-X", "OPTIONS", headers=ask)
        check(a.status == 204 and "POST" in a.header("Access-Control-Allow-Methods") and "Authorization" in a.header("Access-Control-Allow-Headers")
              and a.header("Access-Control-Max-Age") == "600", "a preflight", a.headers)
        a = d.curl("/v1/jobs/none", headers=("Origin: https://app.example",))
        check(a.status == 404 and a.header("Access-Control-Allow-Origin"), "problems can be read too", a.headers)
    finally:
        check(d.stop() == 0, "the daemon ends well")
    run = subprocess.run([YODAD, "--cors-origins", "https://app.example/", "--check-config"], capture_output=True, text=True, timeout=30)
    check(run.returncode == 1 and "no origin" in run.stderr, "an origin has no path", run.stderr)
