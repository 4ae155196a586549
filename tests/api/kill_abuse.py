"""Killing the server under load, for tests/api (a few times) and tests/fault (hundreds of times).

Submitters send small jobs whose results are known beforehand: plain ones, batches, some with a webhook, some under an id of their own or with an
Idempotency-Key, which are sent again until they are answered. They note every id that was answered 202. The server is killed at random moments
and started again on the same state directory. In the end every noted job must have succeeded once, with the known bytes, every receiver must have been
told, and what was sent again must be one job.
"""
import base64
import hashlib
import http.client
import json
import os
import random
import signal
import sqlite3
import tempfile
import threading
import time
import uuid

from harness import SLOWNESS, Daemon, check, sse, textured
from test_outgoing import SECRET, Peer, reply

FLAGS = dict(device="fake", fake_unit_us=1000, checkpoint_interval_ms=30, max_attempts=1000000, queue_max=10000, max_finished_jobs=100000,
             max_running=4, job_ttl_s=100000)
PICTURES = [textured(40 + 30 * i, 32 + 20 * i, i) for i in range(3)]
QUERIES = ["?steps=2", "?steps=6&sampler=dpmpp_2m", "?steps=4&allocation=strided&fidelity=0.3&sampler=ancestral"]


def request(port, method, path, body=None, timeout=5, headers=None):
    """(status, headers, body), or None when the server was not there or went away."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout * SLOWNESS)
    try:
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        return r.status, r.headers, r.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        c.close()


def known_results():
    """SHA-256 of each (picture, query), from a server that is left alone."""
    d = Daemon(device="fake")
    out = {}
    for p, picture in enumerate(PICTURES):
        for q, query in enumerate(QUERIES):
            a = d.curl("/v1/upscale" + query, data=picture)
            out[p, q] = hashlib.sha256(a.body).hexdigest()
    check(d.stop() == 0, "the undisturbed server ends well")
    return out


def form(parts):
    """multipart/form-data of (name, filename, bytes)."""
    mark = b"a-mark-that-is-in-no-picture"
    body = b"".join(b"--%s\r\nContent-Disposition: form-data; name=\"%s\"%s\r\n\r\n%s\r\n" %
                    (mark, n.encode(), f'; filename="{f}"'.encode() if f else b"", data) for n, f, data in parts)
    return body + b"--" + mark + b"--\r\n", {"Content-Type": "multipart/form-data; boundary=" + mark.decode()}


class Load:
    """Submitters that go on whatever happens to the server; `acked` is what was answered 202."""

    def __init__(self, submitters, peer, seed=1):
        self.port, self.ending, self.acked, self.sent, self.refused, self.again = None, False, {}, 0, 0, 0
        self.peer, self.told, self.twice, self.batches = peer, [], [], {}
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.submit, args=(random.Random(seed * 100 + i),)) for i in range(submitters)]
        for t in self.threads:
            t.start()

    def note(self, job, what):
        with self.lock:
            self.acked[job] = what

    def count(self, a, n):
        with self.lock:
            self.sent += n
            self.refused += bool(a and a[0] not in (200, 201, 202))
        return json.loads(a[2]) if a and a[0] in (200, 201, 202) else None

    def plain(self, port, rng, what):
        a = self.count(request(port, "POST", "/v1/jobs" + QUERIES[what[1]], PICTURES[what[0]]), 1)
        if a:
            self.note(a["id"], what)

    def told_of(self, port, rng, what):
        """With a webhook of its own address."""
        path = f"/hook/{uuid.UUID(int=rng.getrandbits(128))}"
        settings = dict(pair.split("=") for pair in QUERIES[what[1]][1:].split("&"))
        settings = {k: v if k in ("sampler", "allocation") else float(v) if "." in v else int(v) for k, v in settings.items()}
        body = {"image": {"base64": base64.b64encode(PICTURES[what[0]]).decode()}, "webhook": {"url": self.peer.url + path}, **settings}
        self.peer.answers[path] = reply(204)
        a = self.count(request(port, "POST", "/v1/jobs", json.dumps(body), headers={"Content-Type": "application/json"}), 1)
        if a:
            self.note(a["id"], what)
            self.told.append((a["id"], path))

    def repeated(self, port, rng, what):
        """Under an id or a key; until it is answered, whatever happens meanwhile. Once more afterwards: the same."""
        name, keyed, ids = str(uuid.UUID(int=rng.getrandbits(128), version=4)), rng.random() < 0.5, set()
        with self.lock:
            self.sent += 1
        for _ in range(200):
            if self.port is None:
                time.sleep(0.02)
                continue
            a = request(self.port, "POST" if keyed else "PUT", ("/v1/jobs" if keyed else "/v1/jobs/" + name) + QUERIES[what[1]], PICTURES[what[0]],
                        headers={"Idempotency-Key": name} if keyed else {})
            if a and a[0] in (200, 201, 202):
                ids.add(json.loads(a[2])["id"])
                self.note(json.loads(a[2])["id"], what)
                if rng.random() < 0.5:
                    break
            with self.lock:
                self.again += 1
            time.sleep(0.02)
        if len(ids) > 1 or ids and not keyed and ids != {name}:
            self.twice.append((name, ids))

    def batch(self, port, rng, what):
        settings = json.dumps({"steps": 2}).encode()
        body, kind = form([("image", f"{i}.png", p) for i, p in enumerate(PICTURES)] + [("settings", None, settings)])
        a = self.count(request(port, "POST", "/v1/batches", body, headers=kind), len(PICTURES))
        if a:
            self.batches[a["id"]] = [i["job"] for i in a["items"]]
            for n, i in enumerate(a["items"]):
                if i["job"]:
                    self.note(i["job"], (n, 0))

    def submit(self, rng):
        while not self.ending:
            port, what = self.port, (rng.randrange(len(PICTURES)), rng.randrange(len(QUERIES)))
            if port is None:
                time.sleep(0.01)
                continue
            rng.choices((self.plain, self.told_of, self.repeated, self.batch), (5, 2, 2, 1))[0](port, rng, what)
            time.sleep(rng.uniform(0.0, 0.15))

    def end(self):
        self.ending = True
        for t in self.threads:
            t.join()


def integrity(state):
    """What the database says of itself, and files that it does not know or lacks."""
    db = sqlite3.connect(os.path.join(state, "jobs.db"))
    ok = db.execute("PRAGMA integrity_check").fetchone()[0]
    named = {r[0] for r in db.execute("SELECT DISTINCT name FROM file")}
    db.close()
    there = {n for n in os.listdir(os.path.join(state, "pictures")) if not n.startswith(".")}
    return ok, there - named, named - there


def judge(d, load, known):
    """Wait for every acknowledged job and hold it against what is known; returns (lost, wrong)."""
    lost, wrong = [], []
    deadline = time.monotonic() + 300 * SLOWNESS
    for job, what in load.acked.items():
        state = None
        while time.monotonic() < deadline:
            a = request(d.port, "GET", f"/v1/jobs/{job}?wait=20", timeout=40)
            state = json.loads(a[2]).get("state") if a and a[0] == 200 else a and a[0]
            if state not in ("queued", "running"):
                break
        if state != "succeeded":
            lost.append((job, state, a and json.loads(a[2]).get("problem", {}).get("detail")))
            continue
        result = request(d.port, "GET", f"/v1/jobs/{job}/result")
        events = sse(request(d.port, "GET", f"/v1/jobs/{job}/events")[2].decode())
        ids, names = [e[0] for e in events], [e[1] for e in events]
        if hashlib.sha256(result[2]).hexdigest() != known[what]:
            wrong.append((job, what, "other bytes", result[0], len(result[2])))
        if ids != sorted(set(ids)) or names.count("succeeded") != 1 or names[-1] != "succeeded":
            wrong.append((job, names))
    return lost, wrong


def untold(load):
    """Webhooks of acknowledged jobs that have not come, after a while."""
    deadline = time.monotonic() + 30 * SLOWNESS
    while time.monotonic() < deadline:
        with load.peer.lock:
            seen = {s[1] for s in load.peer.seen}
        if all(path in seen for _, path in load.told):
            return []
        time.sleep(0.1)
    return [t for t in load.told if t[1] not in seen]


def other_batches(d, load):
    """Acknowledged batches that are not as they were."""
    bad = []
    for batch, jobs in load.batches.items():
        a = request(d.port, "GET", f"/v1/batches/{batch}")
        if not a or a[0] != 200 or [i["job"] for i in json.loads(a[2])["items"]] != jobs:
            bad.append((batch, a and a[0]))
    return bad


def kill_and_restart(state, kills, seed=1, submitters=4, shortest=0.05, longest=0.4):
    """Kill `kills` times under load, then judge. Prints what was measured."""
    rng, known = random.Random(seed), known_results()
    with Peer() as peer, tempfile.NamedTemporaryFile("w", prefix="yodad-secret-") as secrets:
        secrets.write(SECRET + "\n")
        secrets.flush()
        flags = dict(state_dir=state, content_cache="false", webhook_hosts=peer.host, webhook_secret_file=secrets.name, outgoing_http="true",
                     outgoing_networks="127.0.0.1", delivery_retry_ms=50, deliveries_max=100000, **FLAGS)
        load, ready = Load(submitters, peer, seed), []
        for _ in range(kills):
            began = time.monotonic()
            d = Daemon(**flags)
            ready.append(time.monotonic() - began)
            load.port = d.port
            time.sleep(rng.uniform(shortest, longest))
            d.process.send_signal(signal.SIGKILL)
            d.process.wait()
            load.port = None
        d = Daemon(**flags)
        load.port = d.port
        load.end()
        lost, wrong = judge(d, load, known)
        jobs, silent, batches = total(d), untold(load), other_batches(d, load)
        check(d.stop() == 0, "the last server ends well", d.log_text()[-500:])
    ok, orphans, missing = integrity(state)
    ready.sort()
    print(f"  {kills} kills, {load.sent} submissions, {len(load.acked)} acknowledged ({len(load.batches)} batches, {len(load.told)} with a webhook, "
          f"{load.again} repeats), {jobs} jobs known; ready again after {ready[len(ready) // 2]:.2f} s (median), {ready[-1]:.2f} s at most")
    check(len(load.acked) >= kills / 2, "there was load", len(load.acked))
    check(not lost, "no acknowledged job is lost", (len(lost), lost[:5]))
    check(not wrong, "every result and history is right", (len(wrong), wrong[:5]))
    check(not load.twice, "what is sent again is one job", load.twice[:3])
    check(len(load.acked) <= jobs <= load.sent, "no job is there twice", (len(load.acked), jobs, load.sent))
    check(not silent, "every receiver was told", (len(silent), silent[:3]))
    check(not batches, "every batch is there", batches[:3])
    check(ok == "ok", "the database is whole", ok)
    check(not orphans and not missing, "files and database agree", (len(orphans), len(missing)))


def total(d):
    """How many jobs the server lists."""
    n, cursor = 0, ""
    while True:
        page = json.loads(request(d.port, "GET", "/v1/jobs?limit=200" + (f"&cursor={cursor}" if cursor else ""))[2])
        n, cursor = n + len(page["jobs"]), page["next"]
        if not cursor:
            return n
