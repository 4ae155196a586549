"""Connections that the server makes: pictures fetched, results put, webhooks told, and everything it must not be talked into.

The other servers are real ones on loopback addresses, which the settings of these tests allow; without them nothing is reached.
"""
import base64
import hashlib
import hmac
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from test_openapi import document, fits, hold
from harness import SLOWNESS, Daemon, Skip, bomb, check, png_size, sse, textured

PICTURE = textured(40, 30)
SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes ...").decode()
OTHER = "whsec_" + base64.b64encode(b"another secret of so many bytes.").decode()
JSON = ["Content-Type: application/json"]


class Peer:
    """A server on a loopback address. answers: path -> function(handler), or a list of them, one for each request, the last for the rest."""

    def __init__(self, address="127.0.0.1", tls=None):
        peer = self
        self.seen, self.answers, self.lock = [], {}, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.split("?")[0]
                with peer.lock:
                    peer.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body, time.time()))
                    n = sum(s[1].split("?")[0] == path for s in peer.seen)
                answer = peer.answers.get(path, reply(404))
                if isinstance(answer, list):
                    answer = answer[min(n, len(answer)) - 1]
                try:
                    answer(self)
                except (ConnectionError, ValueError):
                    self.close_connection = True

            do_GET = do_PUT = do_POST = any

        self.server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a client that was killed is no news
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"http{'s' if tls else ''}://{address}:{self.port}"
        self.host = f"{address}:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def to(self, path):
        with self.lock:
            return [s for s in self.seen if s[1].split("?")[0] == path]

    def wait(self, path, n=1, seconds=20):
        deadline = time.monotonic() + seconds * SLOWNESS
        while len(self.to(path)) < n and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.to(path)

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def reply(status, body=b"", **headers):
    def answer(h):
        h.send_response(status)
        for k, v in {"Content_Length": str(len(body)), **headers}.items():
            h.send_header(k.replace("_", "-"), v)
        h.end_headers()
        h.wfile.write(body)
    return answer


def redirect(url, status=302):
    return reply(status, Location=url)


def drip(h):
    """A picture that never ends, a byte now and then."""
    h.send_response(200)
    h.send_header("Content-Length", "100000")
    h.end_headers()
    for _ in range(200):
        h.wfile.write(b"\x89")
        h.wfile.flush()
        time.sleep(0.1)


def endless(h):
    """As many bytes as are taken, without saying how many there will be."""
    h.send_response(200)
    h.send_header("Connection", "close")
    h.end_headers()
    h.close_connection = True
    for _ in range(4000):
        h.wfile.write(b"\0" * 65536)


class Setup:
    """A server with peers, a file of secrets and, where wanted, a state directory that outlives it."""

    def __init__(self, *peers, **flags):
        self.dir = tempfile.mkdtemp(prefix="yodad-outgoing-")
        secrets = os.path.join(self.dir, "secrets")
        with open(secrets, "w") as f:
            f.write(f"# current, then former\n{SECRET}\n{OTHER}\n")
        hosts = ",".join(p.host for p in peers)
        self.flags = dict(device="fake", fake_unit_us=500, fetch_hosts=hosts, result_hosts=hosts, webhook_hosts=hosts, webhook_secret_file=secrets,
                          outgoing_http="true", outgoing_networks="127.0.0.1", fetch_retry_ms=20, delivery_retry_ms=50)
        self.flags.update(flags)
        self.daemons = []

    def start(self, **more):
        self.daemons.append(Daemon(**{**self.flags, **more}))
        return self.daemons[-1]

    def durable(self):
        self.flags["state_dir"] = os.path.join(self.dir, "state")
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for d in self.daemons:
            if d.alive():
                check(d.stop() == 0, "it stops when it is told to, and well", d.log_text()[-2000:])
            check("Sanitizer" not in d.log_text(), "no sanitizer complains", d.log_text()[-2000:])
        shutil.rmtree(self.dir, ignore_errors=True)


def submit(d, body, path="/v1/jobs", **kw):
    return d.curl(path, data=json.dumps(body).encode(), headers=JSON, **kw)


def fetch(d, url, **more):
    return submit(d, {"input": {"url": url}, **more})


def ended(d, a, seconds=20):
    if a.status != 202:
        raise AssertionError(f"refused: {a.status} {a.body[:300]}")
    d.wait_state(a.json()["id"], "succeeded", "failed", "cancelled", seconds=seconds)
    return d.curl(f"/v1/jobs/{a.json()['id']}").json()


def failure(d, a, slug, what, words=""):
    j = ended(d, a)
    p = j.get("problem", {})
    check(j["state"] == "failed" and p.get("type") == "/problems/" + slug and words in p.get("detail", ""), what, j.get("problem", j["state"]))
    return j


def verify(headers, body, secret=SECRET):
    """As a receiver does it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    want = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return ("v1," + want) in headers["webhook-signature"].split(" ") and abs(time.time() - int(headers["webhook-timestamp"])) < 60


def wait_delivery(d, job, kind, *states, seconds=20):
    deadline = time.monotonic() + seconds * SLOWNESS
    while True:
        j = d.curl(f"/v1/jobs/{job}").json()
        if j["deliveries"][kind]["state"] in states or time.monotonic() > deadline:
            return j["deliveries"][kind]
        time.sleep(0.02)


# ---- off

def test_off_by_default():
    d = Daemon(device="fake")
    for member in ("input", "result", "webhook"):
        body = {member: {"url": "https://example.org/x"}}
        if member != "input":
            body["image"] = {"base64": base64.b64encode(PICTURE).decode()}
        a = submit(d, body)
        check(a.status == 422 and a.json()["field"] == member + ".url", member + " is refused", (a.status, a.body[:200]))
    check(set(d.curl("/v1/capabilities").json()["urls"].values()) == {False}, "and it says so")
    threads = os.listdir(f"/proc/{d.process.pid}/task")
    names = [open(f"/proc/{d.process.pid}/task/{t}/comm").read().strip() for t in threads]
    check("outgoing" not in names, "there is no thread for it", names)
    check(d.stop() == 0, "and it ends well")


# ---- pictures by URL

def test_a_picture_is_fetched():
    with Peer() as p, Setup(p) as s:
        slow = threading.Event()
        p.answers = {"/a.png": reply(200, PICTURE), "/moved": redirect("/hop"), "/hop": redirect(p.url + "/a.png", 307),
                     "/flaky": [reply(503), reply(200, PICTURE)], "/slow": lambda h: (slow.wait(20), reply(200, PICTURE)(h))}
        d = s.start()
        want = d.curl("/v1/upscale", data=PICTURE).body
        check(set(d.curl("/v1/capabilities").json()["urls"].values()) == {True}, "it says that it does")
        a = fetch(d, p.url + "/slow?token=secret", steps=4)
        j = a.json()
        check(a.status == 202 and j["state"] == "queued" and j["input"] is None and j["output"] is None, "it is a job at once", (a.status, j))
        check(j["source"] == {"host": "127.0.0.1", "fetched": False} and "secret" not in a.body.decode(), "it says where from, without secrets", j)
        slow.set()
        j = ended(d, a)
        check(j["state"] == "succeeded" and j["input"]["width"] == 40 and j["source"]["fetched"] and j["settings"]["steps"] == 4, "it is done", j)
        told = [e[1] for e in sse(d.curl(f"/v1/jobs/{j['id']}/events").body.decode())]
        check(told[:3] == ["fetching", "queued", "started"] and told[-1] == "succeeded", "and told", told)
        head = p.to("/slow")[0][2]
        check(head["user-agent"].startswith("yodad/") and "cookie" not in head and "authorization" not in head, "bare requests", head)
        for path in ("/moved", "/flaky"):
            a = submit(d, {"input": {"url": p.url + path}}, "/v1/upscale")
            check(a.status == 200 and a.body == want, path + " gives the same bytes as the picture itself", (a.status, a.body[:200]))
        check(len(p.to("/flaky")) == 2, "after another attempt", len(p.to("/flaky")))
        text = d.curl("/metrics").body.decode()
        check('yodad_outgoing_total{kind="fetch",outcome="succeeded"} 3' in text and 'kind="fetch",outcome="failed"} 1' in text, "counted", text[-2500:])
        check("secret" not in d.log_text(), "no secrets in the log")


def test_what_is_fetched_is_no_picture():
    with Peer() as p, Setup(p, max_body_bytes="64KiB", outgoing_stall_s=1, outgoing_min_rate=100, outgoing_total_ms=4000, fetch_attempts=1) as s:
        p.answers = {"/text": reply(200, b"hello " * 30), "/none": reply(404), "/empty": reply(200), "/large": reply(200, b"\0" * 70000),
                     "/endless": endless, "/drip": drip, "/bomb": reply(200, bomb(8000)), "/loop": redirect(p.url + "/loop"),
                     "/cut": lambda h: (h.send_response(200), h.send_header("Content-Length", "500"), h.end_headers(), h.wfile.write(b"x" * 10),
                                        setattr(h, "close_connection", True)),
                     "/a.png": reply(200, PICTURE), "/heads": lambda h: (h.send_response(200), [h.send_header(f"X-{i}", "y" * 900) for i in range(90)],
                                                                         h.end_headers())}
        d = s.start()
        rss = d.rss()
        doc = document()
        text, none = fetch(d, p.url + "/text"), fetch(d, p.url + "/none")
        hold(doc, text, "/v1/jobs", "post")
        failure(d, text, "unsupported-format", "text")
        failure(d, none, "upstream-failed", "404", "404")
        for a in (text, none):
            job = a.json()["id"]
            hold(doc, d.curl(f"/v1/jobs/{job}"), "/v1/jobs/{id}", "get")
            hold(doc, d.curl(f"/v1/jobs/{job}/result"), "/v1/jobs/{id}/result", "get")
        hold(doc, submit(d, {"input": {"url": p.url + "/none"}}, "/v1/upscale"), "/v1/upscale", "post")
        failure(d, fetch(d, p.url + "/empty"), "upstream-failed", "nothing", "sent nothing")
        failure(d, fetch(d, p.url + "/large"), "body-too-large", "too large")
        failure(d, fetch(d, p.url + "/endless"), "body-too-large", "without an end")
        failure(d, fetch(d, p.url + "/bomb"), "image-too-large", "too many pixels")
        failure(d, fetch(d, p.url + "/loop"), "upstream-failed", "redirects without an end", "redirects")
        failure(d, fetch(d, p.url + "/cut"), "upstream-failed", "cut short")
        failure(d, fetch(d, p.url + "/heads"), "upstream-failed", "headers without an end")
        began = time.monotonic()
        failure(d, fetch(d, p.url + "/drip"), "upstream-failed", "dripping", "in time")
        check(time.monotonic() - began < 8 * SLOWNESS, "soon", time.monotonic() - began)
        check(len(p.to("/loop")) == 4, "three redirects are followed", len(p.to("/loop")))
        check(d.rss() - rss < (64 << 20) * SLOWNESS, "in little memory", d.rss() - rss)
        check(ended(d, fetch(d, p.url + "/a.png"))["state"] == "succeeded", "and it still works")


def test_where_it_does_not_connect():
    with Peer() as p, Peer("127.0.0.2") as inside, Setup(p, fetch_attempts=1) as s:
        p.answers = {"/to-host": redirect(inside.url + "/x"), "/to-file": redirect("file:///etc/passwd"), "/to-user": redirect(f"http://a:b@{p.host}/a.png"),
                     "/to-inside": redirect(f"http://localhost:{inside.port}/x")}
        inside.answers = {"/x": reply(200, PICTURE)}
        hosts = f"{p.host},{inside.host},localhost:{inside.port},localhost:{p.port}"
        d = s.start(fetch_hosts=f"{p.host},localhost:{inside.port}")
        for url in (inside.url + "/x", "https://example.org/x.png", f"http://{p.host}.example.org/", "http://127.0.0.1/x", f"http://127.1:{inside.port}/"):
            a = fetch(d, url)
            check(a.status == 422 and a.json()["field"] == "input.url", url + " is not on the list", (a.status, a.body[:200]))
        for url in ("file:///etc/passwd", "ftp://127.0.0.1/x", f"http://u:p@{p.host}/x", "x", "", "https://" + "a" * 3000, "http://[::1%25lo]/"):
            a = fetch(d, url)
            check(a.status == 422 and a.json()["field"] in ("input.url", "input"), "no URL: " + url[:40], (a.status, a.body[:200]))
        for path in ("/to-host", "/to-file", "/to-user"):
            failure(d, fetch(d, p.url + path), "address-refused", path, "redirects")
        # A name that is on the list, and resolves to an address that is not open: 127.0.0.1 is for this test, ::1 and others are not.
        d2 = s.start(outgoing_networks="127.0.0.2", fetch_hosts=hosts)
        failure(d2, fetch(d2, f"http://localhost:{p.port}/a.png"), "address-refused", "a name that is loopback", "loopback")
        failure(d2, fetch(d2, p.url + "/a.png"), "address-refused", "an address that is loopback", "loopback")
        check(not p.to("/a.png"), "nobody was asked", p.seen)
        check(ended(d2, fetch(d2, inside.url + "/x"))["state"] == "succeeded", "the network that is named")
        # A redirect to a name on the list whose address is not open.
        seen = len(inside.seen)
        failure(d, fetch(d, p.url + "/to-inside"), "upstream-failed", "nobody listens there on the address that is open")
        d3 = s.start(fetch_hosts=f"{p.host},{inside.host}")
        failure(d3, fetch(d3, p.url + "/to-host"), "address-refused", "a redirect to an address that is not open", "loopback")
        check(len(inside.seen) == seen, "nobody was asked there", inside.seen)


def test_encryption_is_asked_for():
    with Peer() as p, Setup(p) as s:
        a = fetch(s.start(outgoing_http="false"), p.url + "/a.png")
        check(a.status == 422 and "https" in a.json()["accepted"], "http is refused", (a.status, a.body[:200]))


def test_certificates_are_checked():
    if not shutil.which("openssl"):
        raise Skip("openssl is not there to make a certificate")
    import ssl
    folder = tempfile.mkdtemp(prefix="yodad-tls-")
    key, cert = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert], check=True, stderr=subprocess.DEVNULL)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    with Peer(tls=tls) as p, Setup(p, fetch_attempts=1, outgoing_http="false") as s:
        p.answers = {"/a.png": reply(200, PICTURE), "/down": redirect(p.url.replace("https", "http") + "/a.png")}
        failure(s.start(), fetch(s.daemons[-1], p.url + "/a.png"), "upstream-failed", "a certificate that nobody vouches for", "certificate")
        d = s.start(outgoing_ca_file=cert)
        check(ended(d, fetch(d, p.url + "/a.png"))["state"] == "succeeded", "one that is trusted")
        failure(d, fetch(d, p.url + "/down"), "address-refused", "a redirect that takes encryption away")
    shutil.rmtree(folder)


def test_the_environment_names_no_proxy():
    with Peer() as p, Peer() as proxy, Setup(p) as s:
        p.answers = {"/a.png": reply(200, PICTURE)}
        d = s.start(wrap=("env", *(f"{name}={proxy.url}" for name in ("http_proxy", "all_proxy", "ALL_PROXY"))))
        check(ended(d, fetch(d, p.url + "/a.png"))["state"] == "succeeded" and not proxy.seen, "no proxy is asked", proxy.seen)


def test_cancelled_and_deleted_while_fetching():
    with Peer() as p, Setup(p, fetch_retry_ms=20000, queue_max=3).durable() as s:
        wait = threading.Event()
        p.answers = {"/slow": lambda h: (wait.wait(20), reply(200, PICTURE)(h)), "/bad": reply(500)}
        d = s.start()
        began = time.monotonic()
        a, b, c = fetch(d, p.url + "/slow").json()["id"], fetch(d, p.url + "/slow").json()["id"], fetch(d, p.url + "/bad").json()["id"]
        p.wait("/slow", 2)
        p.wait("/bad")
        full = fetch(d, p.url + "/slow")
        check(full.status == 503 and full.json()["type"] == "/problems/queue-full", "they count as waiting", (full.status, full.body[:200]))
        check(d.curl(f"/v1/jobs/{a}/cancel", "-X", "POST").status in (200, 202), "cancelled")
        check(d.curl(f"/v1/jobs/{b}", "-X", "DELETE").status in (200, 204), "deleted")
        check(d.wait_state(a, "cancelled") == "cancelled" and d.curl(f"/v1/jobs/{b}").status == 410, "as any job")
        d.curl(f"/v1/jobs/{c}/cancel", "-X", "POST")
        check(d.wait_state(c, "cancelled") == "cancelled", "between two attempts too")
        told = [e[1] for e in sse(d.curl(f"/v1/jobs/{a}/events").body.decode())]
        check(told == ["fetching", "cancelled"] and time.monotonic() - began < 8 * SLOWNESS, "and told at once", told)
        wait.set()


def test_a_repeated_request_is_one_job():
    with Peer() as p, Setup(p) as s:
        p.answers = {"/a.png": reply(200, PICTURE), "/hook": reply(200)}
        d = s.start()
        body = {"input": {"url": p.url + "/a.png"}, "webhook": {"url": p.url + "/hook"}}
        headers = [*JSON, "Idempotency-Key: once"]
        ids = {d.curl("/v1/jobs", data=json.dumps(body).encode(), headers=headers).json()["id"] for _ in range(3)}
        other = d.curl("/v1/jobs", data=json.dumps({"input": {"url": p.url + "/b.png"}}).encode(), headers=headers)
        chosen, put = "6f1c1f7e-2f6b-4a51-9d0f-0e5b1c7a9d42", []
        for _ in range(2):
            put.append(d.curl(f"/v1/jobs/{chosen}", "-X", "PUT", data=json.dumps({"input": {"url": p.url + "/c.png"}}).encode(), headers=JSON))
        check(put[0].status == 202 and {a.json()["id"] for a in put} == {chosen}, "an id of the client's choosing too", [(a.status, a.body[:200]) for a in put])
        check(len(ids) == 1 and other.status == 422, "one job; another URL is another request", (ids, other.status, other.body[:200]))
        p.wait("/hook")
        time.sleep(0.2)
        check(len(p.to("/a.png")) == len(p.to("/hook")) == 1, "fetched and told once", [x[:2] for x in p.seen])


def test_a_restart_fetches_again():
    with Peer() as p, Setup(p).durable() as s:
        wait = threading.Event()
        p.answers = {"/slow": lambda h: (wait.wait(20), reply(200, PICTURE)(h))}
        d = s.start()
        job = fetch(d, p.url + "/slow").json()["id"]
        p.wait("/slow")
        d.process.send_signal(signal.SIGKILL)
        d.process.wait()
        d = s.start()
        j = d.curl(f"/v1/jobs/{job}").json()
        check(j["state"] == "queued" and not j["source"]["fetched"], "it is still there", j)
        p.wait("/slow", 2)
        check(d.stop() == 0, "a planned end leaves it as well")
        d = s.start()
        wait.set()
        check(d.wait_state(job, "succeeded") == "succeeded" and len(p.to("/slow")) >= 3, "and it is fetched in the end", len(p.to("/slow")))
        check(png_size(d.curl(f"/v1/jobs/{job}/result").body) == (80, 60), "its result")
        d.stop()
        d = s.start(fetch_hosts="", result_hosts="", webhook_hosts="")
        check(d.curl(f"/v1/jobs/{job}").json()["source"]["fetched"], "also where nothing is fetched any more")


# ---- results and webhooks

def image(**more):
    return {"image": {"base64": base64.b64encode(PICTURE).decode()}, "steps": 2, **more}


def test_a_result_is_put_and_a_webhook_told():
    with Peer() as p, Setup(p).durable() as s:
        p.answers = {"/bucket/out.png": [reply(503), reply(200)], "/hook": reply(204), "/gone": reply(403), "/a.png": reply(200, PICTURE)}
        d = s.start()
        a = submit(d, image(result={"url": p.url + "/bucket/out.png?X-Amz-Signature=hidden", "headers": {"x-amz-acl": "private"}}, webhook={"url": p.url + "/hook"}))
        job = a.json()["id"]
        check(a.status == 202 and a.json()["deliveries"]["result"] == {"host": "127.0.0.1", "state": "waiting", "attempts": 0}, "promised", a.body[:900])
        hook = p.wait("/hook")[0]
        put = p.to("/bucket/out.png")
        check([x[0] for x in put] == ["PUT", "PUT"] and put[1][1].endswith("?X-Amz-Signature=hidden"), "put, at the second attempt", [x[:2] for x in put])
        check(put[1][3] == d.curl(f"/v1/jobs/{job}/result").body, "the whole result")
        check(put[1][2]["content-type"] == "image/png" and put[1][2]["x-amz-acl"] == "private" and put[1][2]["content-length"] == str(len(put[1][3]))
              and "expect" not in put[1][2], "with its headers", put[1][2])
        check(hook[0] == "POST" and hook[2]["content-type"] == "application/json", "the webhook", hook[2])
        check(verify(hook[2], hook[3]) and verify(hook[2], hook[3], OTHER) and not verify(hook[2], hook[3] + b" "), "is signed with every secret", hook[2])
        data = json.loads(hook[3])
        doc = document()
        form = doc["webhooks"]["jobEnded"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        check(not fits(doc, form, data, "webhook"), "has the documented form", fits(doc, form, data, "webhook"))
        hold(doc, d.curl(f"/v1/jobs/{job}"), "/v1/jobs/{id}", "get")
        check(data["type"] == "job.succeeded" and data["data"]["id"] == job and data["data"]["state"] == "succeeded" and data["timestamp"] == data["data"]["finished"]
              and data["data"]["deliveries"] == {"result": {"host": "127.0.0.1", "state": "delivered", "attempts": 2}}, "says what became of it", data)
        check(wait_delivery(d, job, "webhook", "delivered") == {"host": "127.0.0.1", "state": "delivered", "attempts": 1}, "and is noted")
        job = submit(d, image(result={"url": p.url + "/gone"}, webhook={"url": p.url + "/hook"})).json()["id"]
        at = wait_delivery(d, job, "result", "failed")
        check(at["state"] == "failed" and at["attempts"] == 1 and "403" in at["problem"], "what is refused is not tried again", at)
        data = json.loads(p.wait("/hook", 2)[1][3])
        check(data["data"]["deliveries"]["result"]["state"] == "failed", "and told", data["data"]["deliveries"])
        a = fetch(d, p.url + "/none", webhook={"url": p.url + "/hook"}, result={"url": p.url + "/bucket/other"})
        data = json.loads(p.wait("/hook", 3)[2][3])
        check(data["type"] == "job.failed" and data["data"]["problem"]["type"] == "/problems/upstream-failed" and not p.to("/bucket/other"), "so is a failure", data)
        big = submit(d, {**image(webhook={"url": p.url + "/hook"}), "steps": 800})
        d.curl(f"/v1/jobs/{big.json()['id']}/cancel", "-X", "POST")
        data = json.loads(p.wait("/hook", 4)[3][3])
        check(data["type"] in ("job.cancelled", "job.succeeded"), "and a job that was cancelled", data["type"])
        with open(os.path.join(s.flags["state_dir"], "jobs.db-wal"), "rb") as f:
            check(b"hidden" in f.read(), "the URL was kept while it was needed")
        import sqlite3
        with sqlite3.connect(f"file:{s.flags['state_dir']}/jobs.db?mode=ro", uri=True) as db:
            kept = [row[0] for row in db.execute("SELECT doc FROM errand")]
        check(kept and not any("hidden" in doc for doc in kept), "and not longer", kept)
        check("hidden" not in d.log_text() and "hidden" not in d.curl(f"/v1/jobs").body.decode(), "no secrets are shown")
        check(len({json.loads(x[3])["data"]["id"] for x in p.to("/hook")}) == 4 and len(p.to("/hook")) == 4, "each once")


def test_multipart_and_the_cache_take_deliveries_too():
    with Peer() as p, Setup(p, content_cache="true").durable() as s:
        p.answers = {"/hook": reply(200), "/out": reply(200), "/batch": reply(200)}
        d = s.start()
        picture, settings = os.path.join(s.dir, "a.png"), json.dumps({"steps": 2, "webhook": {"url": p.url + "/hook"}, "result": {"url": p.url + "/out"}})
        with open(picture, "wb") as f:
            f.write(PICTURE)
        for n in (1, 2):
            a = d.curl("/v1/jobs", "-F", f"image=@{picture}", "-F", f"settings={settings}")
            check(a.status == 202, "taken", (a.status, a.body[:200]))
            check(len(p.wait("/hook", n)) == n and len(p.to("/out")) == n, "told and put", p.seen)
        check(d.curl(f"/v1/jobs/{a.json()['id']}").json().get("cached") is True, "the second from the cache")
        other = os.path.join(s.dir, "b.png")
        with open(other, "wb") as f:
            f.write(textured(30, 40))
        two = ("-F", f"image=@{picture}", "-F", f"image=@{other}", "-F")
        a = d.curl("/v1/batches", *two, f"settings={settings}")
        check(a.status == 422 and a.json()["field"] == "result", "a batch has no one result", (a.status, a.body[:200]))
        a = d.curl("/v1/batches", *two, "settings=" + json.dumps({"webhook": {"url": p.url + "/batch"}}))
        check(a.status == 202 and len({json.loads(x[3])["data"]["id"] for x in p.wait("/batch", 2)}) == 2, "its jobs are told of one by one", a.status)
        p.answers["/a.png"] = reply(200, PICTURE)
        many = [fetch(d, p.url + "/a.png", steps=2 + n // 4, webhook={"url": p.url + "/hook"}) for n in range(8)]
        js = [ended(d, a) for a in many]
        check({j["state"] for j in js} == {"succeeded"} and sum(j.get("cached", False) for j in js) == 7, "fetched pictures are known again", [j.get("cached") for j in js])
        check(len(p.wait("/hook", 10)) == 10, "and everybody is told", len(p.to("/hook")))


def test_a_bare_picture_names_its_webhook_in_a_header():
    with Peer() as p, Setup(p) as s:
        p.answers = {"/hook": reply(200)}
        d = s.start()
        told = ["Webhook-URL: " + p.url + "/hook?secret=hidden"]
        one = "11111111-2222-4333-8444-555555555555"
        picture = os.path.join(s.dir, "a.png")
        with open(picture, "wb") as f:
            f.write(PICTURE)
        calls = [("/v1/jobs?steps=2", {"data": PICTURE}), (f"/v1/jobs/{one}?steps=2", {"data": PICTURE, "args": ("-X", "PUT")}),
                 ("/v1/upscale?steps=2", {"data": PICTURE}), ("/v1/upscale?steps=2", {"data": PICTURE, "headers": ["Prefer: respond-async"]}),
                 ("/v1/jobs", {"args": ("-F", f"image=@{picture}", "-F", 'settings={"steps":2}')}), ("/v1/jobs", {"data": json.dumps(image()).encode(), "headers": JSON})]
        for n, (path, how) in enumerate(calls, 1):
            a = d.curl(path, *how.get("args", ()), data=how.get("data"), headers=told + how.get("headers", []))
            waits = "upscale" in path and "headers" not in how
            check(a.status == (200 if waits else 202), path, (a.status, a.body[:200]))
            job = a.header("x-job-id") if waits else a.json()["id"]
            got = p.wait("/hook", n)
            check(len(got) == n and json.loads(got[-1][3])["data"]["id"] == job and verify(got[-1][2], got[-1][3]) and got[-1][1] == "/hook?secret=hidden",
                  f"{path} tells", (len(got), job))
            check(wait_delivery(d, job, "webhook", "delivered")["host"] == "127.0.0.1", "and notes it")
        check("hidden" not in d.log_text(), "the log does not know the secret")
        a = d.curl(f"/v1/jobs/{one}?steps=2", "-X", "PUT", data=PICTURE, headers=["Webhook-URL: " + p.url + "/other"])
        check(a.status == 409, "with another webhook it is another request", (a.status, a.body[:200]))
        a = d.curl("/v1/jobs", data=json.dumps(image(webhook={"url": p.url + "/hook"})).encode(), headers=JSON + told)
        check(a.status == 422 and a.json()["field"] == "Webhook-URL", "twice is once too often", a.body[:200])
        for bad in ("ftp://127.0.0.1/x", "http://127.0.0.2/hook", "nonsense", "\xff"):
            a = d.curl("/v1/jobs", data=PICTURE, headers=["Webhook-URL: " + bad])
            check(a.status == 422 and a.json()["field"] in ("webhook.url", "Webhook-URL"), f"{bad!r} is refused", (a.status, a.body[:200]))
        for name, way in (("webhook", "Webhook-URL"), ("result", "JSON"), ("input", "JSON")):
            a = d.curl(f"/v1/jobs?{name}={p.url}/hook", data=PICTURE)
            check(a.status == 422 and a.json()["field"] == name and way in a.json()["accepted"], "a query is no place for it", (a.status, a.body[:200]))


def test_what_is_no_errand():
    with Peer() as p, Setup(p) as s:
        d = s.start()
        cases = [("webhook", {"url": 5}), ("webhook", "x"), ("webhook", {"url": p.url + "/x", "secret": "y"}), ("result", {}), ("result", None),
                 ("result", {"url": "https://example.org/x"}), ("webhook", {"url": "http://127.0.0.2/"}), ("input", {"url": p.url})]
        for member, value in cases:
            a = submit(d, image(**{member: value}))
            check(a.status in (400, 422) and a.json()["field"].startswith(member), f"{member} {value}", (a.status, a.body[:200]))
        for headers in ({"Host": "x"}, {"Authorization": "x"}, {"x-amz-a": "b\r\nHost: c"}, {"x-amz-a\r\nb": "c"}, {"x-amz-a": 1}, {"x-ms-": ""}, [], "x",
                        {f"x-amz-{i}": "v" for i in range(9)}, {"Transfer-Encoding": "chunked"}, {"x-ms-a": "v" * 2000}):
            a = submit(d, image(result={"url": p.url + "/x", "headers": headers}))
            check(a.status == 422 and a.json()["field"] == "result.headers", f"headers {str(headers)[:60]}", (a.status, a.body[:200]))
        check(not p.seen, "nobody was asked", p.seen)


def test_a_webhook_is_told_again_until_it_is_heard():
    with Peer() as p, Setup(p, delivery_attempts=3).durable() as s:
        p.answers = {"/flaky": [reply(500, Connection="close"), lambda h: h.connection.shutdown(2), reply(200)], "/dead": reply(500), "/stop": reply(410), "/later": [reply(503, Retry_After="1"), reply(200)], "/moved": redirect(p.url + "/flaky")}
        d = s.start()
        flaky = submit(d, image(webhook={"url": p.url + "/flaky"})).json()["id"]
        check(wait_delivery(d, flaky, "webhook", "delivered")["attempts"] == 3, "at the third attempt")
        tries = p.to("/flaky")
        check(len({x[2]["webhook-id"] for x in tries}) == 1 and len({x[3] for x in tries}) == 1 and all(verify(x[2], x[3]) for x in tries), "the same message each time",
              [x[2] for x in tries])
        waits = [b[4] - a[4] for a, b in zip(tries, tries[1:])]
        check(waits[0] >= 0.024 and waits[1] >= 0.049, "after longer and longer waits", waits)
        dead = submit(d, image(webhook={"url": p.url + "/dead"})).json()["id"]
        at = wait_delivery(d, dead, "webhook", "failed")
        check(at == {"host": "127.0.0.1", "state": "failed", "attempts": 3, "problem": "127.0.0.1 answered 500"}, "until it is given up", at)
        stop = submit(d, image(webhook={"url": p.url + "/stop"})).json()["id"]
        check(wait_delivery(d, stop, "webhook", "failed")["attempts"] == 1, "or the receiver wants no more")
        asked = submit(d, image(webhook={"url": p.url + "/later"})).json()["id"]
        wait_delivery(d, asked, "webhook", "delivered")
        later = [x[4] for x in p.to("/later")]
        check(len(later) == 2 and later[1] - later[0] >= 0.99, "Retry-After is kept to", later)
        moved = submit(d, image(webhook={"url": p.url + "/moved"})).json()["id"]
        check(wait_delivery(d, moved, "webhook", "failed")["state"] == "failed" and len(p.to("/flaky")) == 3, "redirects are not followed")
        check('yodad_deliveries_waiting 0' in d.curl("/metrics").body.decode(), "nothing waits any more")


def test_a_webhook_survives_a_restart():
    with Peer() as p, Setup(p, delivery_retry_ms=60000).durable() as s:
        heard = [False]
        p.answers = {"/hook": lambda h: reply(200 if heard[0] else 500)(h)}
        d = s.start()
        job = submit(d, image(webhook={"url": p.url + "/hook"})).json()["id"]
        p.wait("/hook")
        deadline = time.monotonic() + 10
        while d.curl(f"/v1/jobs/{job}").json()["deliveries"]["webhook"]["attempts"] < 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)  # noted on the disk too
        d.process.send_signal(signal.SIGKILL)
        d.process.wait()
        heard[0] = True
        d = s.start()
        at = wait_delivery(d, job, "webhook", "delivered")
        check(at["state"] == "delivered" and at["attempts"] == 2, "the next process tells it, and counts on", at)
        first, second = p.to("/hook")
        check(first[2]["webhook-id"] == second[2]["webhook-id"] and json.loads(first[3])["type"] == json.loads(second[3])["type"], "the same message")
        d.stop()
        d = s.start()
        time.sleep(0.5)
        check(len(p.to("/hook")) == 2, "and not once more")


def test_killed_at_random_and_everybody_is_told():
    with Peer() as p, Setup(p, fake_unit_us=200, delivery_retry_ms=30).durable() as s:
        turn = random.Random(5)
        p.answers = {"/hook": lambda h: reply(turn.choice((200, 200, 500)))(h), "/a.png": reply(200, PICTURE), "/out": reply(200)}
        accepted = []
        for kill in range(6):
            d = s.start()
            for _ in range(6):
                more = dict(webhook={"url": p.url + "/hook"}, result={"url": p.url + "/out"}, seed=len(accepted))
                a = fetch(d, p.url + "/a.png", **more) if turn.random() < 0.5 else submit(d, image(**more))
                check(a.status == 202, "taken", (a.status, a.body[:200]))
                accepted.append(a.json()["id"])
            time.sleep(turn.random() * 0.3)
            if kill < 5:
                d.process.send_signal(signal.SIGKILL)
                d.process.wait()
        for job in accepted:
            at = wait_delivery(d, job, "webhook", "delivered", "failed")
            check(at["state"] == "delivered" and d.curl(f"/v1/jobs/{job}").json()["state"] == "succeeded", "every job ends, and its receiver hears it", at)
        heard = {json.loads(x[3])["data"]["id"] for x in p.to("/hook")}
        check(heard == set(accepted) and len(p.to("/out")) >= len(accepted), "nobody else was told, and every result is there", len(heard))


def test_a_dead_receiver_holds_nobody_up():
    with Peer() as p, Peer() as dead, Setup(p, dead, outgoing_connections=3, outgoing_per_host=2, delivery_retry_ms=100, outgoing_total_ms=20000, deliveries_max=8) as s:
        wait = threading.Event()
        dead.answers = {"/hook": lambda h: (wait.wait(30), reply(500)(h))}
        p.answers = {"/hook": reply(200), "/a.png": reply(200, PICTURE)}
        # One host is told by name from the other, not by port: give the dead one another name.
        d = s.start(webhook_hosts=f"{p.host},localhost:{dead.port}", delivery_attempts=1)
        stuck = [submit(d, image(webhook={"url": f"http://localhost:{dead.port}/hook"})).json()["id"] for _ in range(6)]
        for job in stuck:
            d.wait_state(job, "succeeded")
        dead.wait("/hook", 2)
        began = time.monotonic()
        job = submit(d, image(webhook={"url": p.url + "/hook"})).json()["id"]
        check(wait_delivery(d, job, "webhook", "delivered")["state"] == "delivered" and time.monotonic() - began < 5 * SLOWNESS, "others are told")
        check(len(dead.to("/hook")) == 2, "one host gets so many at a time", len(dead.to("/hook")))
        check(ended(d, fetch(d, p.url + "/a.png"))["state"] == "succeeded", "pictures are fetched")
        more = [submit(d, image(webhook={"url": f"http://localhost:{dead.port}/hook"})) for _ in range(2)]
        for a in more:
            ended(d, a)
        a = submit(d, image(webhook={"url": p.url + "/hook"}))
        check(a.status == 503 and a.json()["type"] == "/problems/queue-full", "what waits is bounded", (a.status, a.body[:200]))
        check(d.submit(PICTURE).status == 202, "jobs without are taken")
        began = time.monotonic()
        code = d.stop()
        check(code == 0 and time.monotonic() - began < 10 * SLOWNESS, "and it stops all the same", time.monotonic() - began)
        wait.set()


def test_settings_that_are_wrong():
    import harness
    for flags, name in ((["--fetch-hosts=http://x"], "fetch_hosts"), (["--outgoing-networks=10.0.0.0/40"], "outgoing_networks"),
                        (["--webhook-hosts=example.org"], "webhook_secret_file"),
                        (["--webhook-hosts=example.org", "--webhook-secret-file=/nonexistent/x", "--device=fake"], "webhook_secret_file")):
        r = subprocess.run([harness.YODAD, "--listen=127.0.0.1:0", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20 * SLOWNESS)
        last = r.stderr.decode().strip().splitlines()[-1]
        check(r.returncode == 1 and name in r.stderr.decode(), f"{flags} is refused by name", (r.returncode, last))
