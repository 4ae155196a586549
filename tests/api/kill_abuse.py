"""Killing the server under load, for tests/api (a few times) and tests/fault (hundreds of times).

Submitters send small jobs whose results are known beforehand, and note every id that was answered 202. The server is killed at random
moments and started again on the same state directory. In the end every noted job must have succeeded once, with the known bytes.
"""
import hashlib
import http.client
import json
import os
import random
import signal
import sqlite3
import threading
import time

from harness import SLOWNESS, Daemon, check, sse, textured

FLAGS = dict(device="fake", fake_unit_us=1000, checkpoint_interval_ms=30, max_attempts=1000000, queue_max=10000, max_finished_jobs=100000,
             max_running=4, job_ttl_s=100000)
PICTURES = [textured(40 + 30 * i, 32 + 20 * i, i) for i in range(3)]
QUERIES = ["?steps=2", "?steps=6&sampler=dpmpp_2m", "?steps=4&allocation=strided&fidelity=0.3&sampler=ancestral"]


def request(port, method, path, body=None, timeout=5):
    """(status, headers, body), or None when the server was not there or went away."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout * SLOWNESS)
    try:
        c.request(method, path, body)
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


class Load:
    """Submitters that go on whatever happens to the server; `acked` is what was answered 202."""

    def __init__(self, submitters, seed=1):
        self.port, self.ending, self.acked, self.sent, self.refused = None, False, {}, 0, 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.submit, args=(random.Random(seed * 100 + i),)) for i in range(submitters)]
        for t in self.threads:
            t.start()

    def submit(self, rng):
        while not self.ending:
            port, what = self.port, (rng.randrange(len(PICTURES)), rng.randrange(len(QUERIES)))
            if port is None:
                time.sleep(0.01)
                continue
            a = request(port, "POST", "/v1/jobs" + QUERIES[what[1]], PICTURES[what[0]])
            with self.lock:
                self.sent += 1
                if a and a[0] == 202:
                    self.acked[json.loads(a[2])["id"]] = what
                elif a:
                    self.refused += 1
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


def kill_and_restart(state, kills, seed=1, submitters=4, shortest=0.05, longest=0.4):
    """Kill `kills` times under load, then judge. Prints what was measured."""
    rng, known = random.Random(seed), known_results()
    load, ready = Load(submitters, seed), []
    for _ in range(kills):
        began = time.monotonic()
        d = Daemon(state_dir=state, content_cache="false", **FLAGS)
        ready.append(time.monotonic() - began)
        load.port = d.port
        time.sleep(rng.uniform(shortest, longest))
        d.process.send_signal(signal.SIGKILL)
        d.process.wait()
        load.port = None
    d = Daemon(state_dir=state, content_cache="false", **FLAGS)
    load.end()
    lost, wrong = judge(d, load, known)
    jobs = total(d)
    check(d.stop() == 0, "the last server ends well", d.log_text()[-500:])
    ok, orphans, missing = integrity(state)
    ready.sort()
    print(f"  {kills} kills, {load.sent} submissions, {len(load.acked)} acknowledged, {jobs} jobs known; "
          f"ready again after {ready[len(ready) // 2]:.2f} s (median), {ready[-1]:.2f} s at most")
    check(len(load.acked) >= kills / 2, "there was load", len(load.acked))
    check(not lost, "no acknowledged job is lost", (len(lost), lost[:5]))
    check(not wrong, "every result and history is right", (len(wrong), wrong[:5]))
    check(len(load.acked) <= jobs <= load.sent, "no job is there twice", (len(load.acked), jobs, load.sent))
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
