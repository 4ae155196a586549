#!/usr/bin/env python3
"""Mixed traffic for a while (seconds; 60, or the argument): memory, descriptors, threads and the write-ahead log are sampled once a second and, after
a third of the time, fitted with a line; nothing may grow with the requests. The last line is "N passed, N failed, N skipped"."""
import glob
import http.client
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
os.chdir(os.path.join(HERE, "..", ".."))
sys.path.insert(0, os.path.join("tests", "api"))
sys.dont_write_bytecode = True
import harness  # noqa: E402
from harness import Daemon, check, textured  # noqa: E402
from kill_abuse import form  # noqa: E402

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else max(30, 60 * float(os.environ.get("YODA_FAULT_SHARE", "1")))
PICTURES = [textured(24 + 4 * i, 24, i) for i in range(5)]
MOST_BYTES = 24       # of memory for each request; a leak of 64 bytes takes 80
MOST_WAL = 64 << 20
# Small bounds on what is kept, so that they are reached while the server warms up.
FLAGS = dict(device="fake", fake_unit_us=100, feed_events=64, max_finished_jobs=40, tombstone_ttl_s=2, queue_max=64, max_queue_bytes="8MiB", codec_recycle=100000)


class Client(threading.Thread):
    """One connection after another, each with a few dozen requests of every kind."""

    def __init__(self, port, seed):
        super().__init__(daemon=True)
        self.port, self.rng, self.done, self.ending, self.odd, self.jobs = port, random.Random(seed), 0, False, [], 0

    def ask(self, c, method, path, body=None, headers=None, fine=(200, 201, 202, 204, 503, 404, 410, 409, 429)):
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        data = r.read()
        self.done += 1
        if r.status not in fine:
            self.odd.append((method, path, r.status, data[:200]))
        return r.status, data

    def some_job(self, c):
        picture = self.rng.choice(PICTURES)
        status, data = self.ask(c, "POST", f"/v1/jobs?steps=2&seed={self.rng.randrange(1 << 20)}", picture)
        if status != 202:
            return
        self.jobs += 1
        job = "/v1/jobs/" + json.loads(data)["id"]
        self.ask(c, "GET", job + "?wait=5")
        for path in ("/result", "/attention", "/mask?step=1", "/preview", "/events"):
            self.ask(c, "GET", job + path)
        if self.rng.random() < 0.5:
            self.ask(c, "DELETE", job)

    def some_batch(self, c):
        body, kind = form([("image", f"{i}.png", p) for i, p in enumerate(PICTURES[:2])] + [("settings", None, b'{"steps":1}')])
        status, data = self.ask(c, "POST", "/v1/batches", body, kind)
        if status == 202:
            self.ask(c, "GET", f"/v1/batches/{json.loads(data)['id']}?wait=5")
            self.ask(c, "DELETE", f"/v1/batches/{json.loads(data)['id']}")

    def mistakes(self, c):
        self.ask(c, "POST", "/v1/jobs?steps=none", PICTURES[0], fine=(422,))
        self.ask(c, "POST", "/v1/jobs", b"no picture at all", fine=(415, 422, 503))
        self.ask(c, "GET", "/v1/jobs/6f6b1c9e-7d1a-4c57-9b3e-0123456789ab", fine=(404,))

    def looks(self, c):
        for _ in range(60):
            self.ask(c, "GET", self.rng.choice(["/livez", "/v1/models", "/v1/jobs?limit=5", "/readyz", "/v1/capabilities", "/metrics"]))

    def run(self):
        while not self.ending:
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                self.some_job(c)
                self.looks(c)
                if self.rng.random() < 0.2:
                    self.some_batch(c)
                    self.mistakes(c)
            except (OSError, http.client.HTTPException) as e:
                self.odd.append(repr(e))
            c.close()


def slope(points):
    """Of the least-squares line through (x, y)."""
    n, mx, my = len(points), sum(p[0] for p in points) / len(points), sum(p[1] for p in points) / len(points)
    spread = sum((x - mx) ** 2 for x, _ in points)
    return sum((x - mx) * (y - my) for x, y in points) / spread if n > 1 and spread else 0.0


def sample(d, state, clients, began):
    wal = glob.glob(os.path.join(state, "*-wal"))
    with open(f"/proc/{d.process.pid}/status") as f:
        threads = int(f.read().split("Threads:")[1].split()[0])
    return dict(s=time.monotonic() - began, requests=sum(c.done for c in clients), rss=d.rss(), fds=d.fds(), threads=threads,
                wal=os.path.getsize(wal[0]) if wal else 0, disk=sum(os.path.getsize(p) for p in glob.glob(os.path.join(state, "**"), recursive=True) if os.path.isfile(p)))


def test_nothing_grows():
    folder = tempfile.mkdtemp(prefix="yodad-soak-")
    state = os.path.join(folder, "state")
    os.environ["MALLOC_ARENA_MAX"] = "2"
    d = Daemon(state_dir=state, **FLAGS)
    clients, began, samples = [Client(d.port, i) for i in range(4)], time.monotonic(), []
    for c in clients:
        c.start()
    while time.monotonic() - began < SECONDS:
        time.sleep(1)
        samples.append(sample(d, state, clients, began))
    for c in clients:
        c.ending = True
    for c in clients:
        c.join(60)
    late = [s for s in samples if s["s"] > SECONDS / 3]
    odd = [o for c in clients for o in c.odd]
    requests = samples[-1]["requests"]
    print(f"  {requests} requests, {sum(c.jobs for c in clients)} jobs in {SECONDS:.0f} s; after a third of it, by the fitted line:")
    per_request = slope([(s["requests"], s["rss"]) for s in late])
    print(f"  memory      {late[0]['rss'] / 2**20:6.1f} -> {late[-1]['rss'] / 2**20:6.1f} MiB  {per_request:+8.2f} bytes a request, "
          f"{slope([(s['s'], s['rss']) for s in late]) * 3600 / 2**20:+.1f} MiB an hour")
    for name, unit, scale in (("fds", "", 1), ("threads", "", 1), ("wal", " KiB", 1024), ("disk", " KiB", 1024)):
        print(f"  {name:11} {late[0][name] / scale:6.0f} -> {late[-1][name] / scale:6.0f}{unit}  "
              f"{slope([(s['requests'], s[name]) for s in late]) * 1e6 / scale:+.0f}{unit} a million requests, most {max(s[name] for s in late) / scale:.0f}{unit}")
    check(not odd, "no answer that should not be", odd[:3])
    check(requests > 200 * SECONDS / 3, "there was traffic", requests)
    check(per_request < MOST_BYTES, "memory stays as it is", per_request)
    half = len(late) // 2
    check(min(s["fds"] for s in late[half:]) <= min(s["fds"] for s in late[:half]) + 2, "descriptors come back", [s["fds"] for s in late[::5]])
    check(max(s["threads"] for s in late) <= samples[0]["threads"] + 8, "threads stay", [s["threads"] for s in late[::5]])
    check(max(s["wal"] for s in samples) < MOST_WAL, "the log of the database is cut back", max(s["wal"] for s in samples))
    check(d.settle_fds(d.baseline) <= d.baseline, "no descriptor is left over", (d.fds(), d.baseline))
    check(d.stop() == 0, "exit 0")
    shutil.rmtree(folder, ignore_errors=True)


harness.run_tests(sys.modules[__name__], lambda test: ())
print(f"{harness.passed} passed, {harness.failed} failed, {harness.skipped} skipped")
sys.exit(1 if harness.failed else 0)
