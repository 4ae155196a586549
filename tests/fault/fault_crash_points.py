#!/usr/bin/env python3
"""The server killed at its K-th write, fsync, rename or unlink, for every K until none is left, while jobs are submitted, finished, delivered,
repeated from the cache, deleted and expired, one by one and as a batch (strace -e inject). After each: a restart, and everything that was
acknowledged holds. Then the same calls fail with ENOSPC, EIO, EINTR or EMFILE instead, and the server goes on.

    fault_crash_points.py                 a random share that fits into --seconds (240), as `make torture` does; YODA_FAULT_SEED chooses which
    fault_crash_points.py --all FILE      all of them; FILE has what was done, so that the next call goes on (with --seconds: after a while)
The last line is "N passed, N failed, N skipped"."""
import argparse
import base64
import concurrent.futures
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
os.chdir(os.path.join(HERE, "..", ".."))
sys.path.insert(0, os.path.join("tests", "api"))
sys.dont_write_bytecode = True
import harness  # noqa: E402
from harness import Daemon, check, textured  # noqa: E402
from kill_abuse import integrity, request  # noqa: E402
from test_outgoing import SECRET, Peer, reply  # noqa: E402

# Where a server can be killed, and the calls that can fail, with the errors that they can fail with; write and openat: those of pictures.
KILLS = ("fsync", "fdatasync", "renameat", "unlinkat", "unlink", "ftruncate", "pwrite64", "write")
ERRORS = [(c, e) for c in ("fsync", "fdatasync", "renameat", "pwrite64", "write") for e in ("ENOSPC", "EIO")] + [("write", "EINTR"), ("openat", "EMFILE")]
PICTURE = textured(48, 40)
QUERIES = {"a": "?steps=5&seed=1", "b": "?steps=3&seed=2", "again": "?steps=3&seed=2", "c0": "?steps=2&seed=3", "c1": "?steps=2&seed=3"}
PICTURES = {"c1": textured(40, 48)}
MARK = b"a-mark-that-is-in-no-picture"


def flags(peer, folder):
    secrets = os.path.join(folder, "secrets")
    with open(secrets, "w") as f:
        f.write(SECRET + "\n")
    return dict(device="fake", fake_unit_us=3000, checkpoint_interval_ms=10, content_cache="true", result_hosts=peer.host, webhook_hosts=peer.host,
                webhook_secret_file=secrets, outgoing_http="true", outgoing_networks="127.0.0.1", delivery_retry_ms=50)


def known():
    d = Daemon(device="fake")
    out = {n: hashlib.sha256(d.curl("/v1/upscale" + q, data=PICTURES.get(n, PICTURE)).body).hexdigest() for n, q in QUERIES.items()}
    d.stop()
    return out


class Story:
    """What a client did and was told; every request may meet a dead server."""

    def __init__(self, port, peer):
        self.port, self.peer, self.ids, self.batch = port, peer, {}, None
        self.ended, self.deleting, self.deleted, self.expired = set(), False, False, False

    def ask(self, path, body, kind):
        """The answer to a submission that was taken, or None."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            c.request("POST", path, body, {"Content-Type": kind})
            r = c.getresponse()
            text = r.read()
            return json.loads(text) if r.status == 202 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            c.close()

    def submit(self, name):
        a = self.ask("/v1/jobs" + QUERIES[name], PICTURES.get(name, PICTURE), "image/png")
        if a:
            self.ids[name] = a["id"]
        return bool(a)

    def submit_with_deliveries(self, name):
        body = {"image": {"base64": base64.b64encode(PICTURE).decode()}, "steps": 5, "seed": 1, "webhook": {"url": self.peer.url + "/hook"},
                "result": {"url": self.peer.url + "/put"}}
        a = self.ask("/v1/jobs", json.dumps(body), "application/json")
        if a:
            self.ids[name] = a["id"]
        return bool(a)

    def submit_batch(self, names):
        parts = [(b'name="image"; filename="%s.png"' % n.encode(), PICTURES.get(n, PICTURE)) for n in names]
        parts.append((b'name="settings"', b'{"steps":2,"seed":3}'))
        body = b"".join(b"--%s\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (MARK, head, data) for head, data in parts)
        a = self.ask("/v1/batches", body + b"--" + MARK + b"--\r\n", "multipart/form-data; boundary=" + MARK.decode())
        if a:
            self.batch, self.items = a["id"], [i["job"] for i in a["items"]]  # None: that one was refused
            self.ids.update({n: i["job"] for n, i in zip(names, a["items"]) if i["job"]})
        return bool(a) and all(self.items)

    def await_end(self, name):
        for _ in range(40):
            a = request(self.port, "GET", f"/v1/jobs/{self.ids[name]}?wait=2", timeout=20)
            if not a:
                return False
            if a[0] != 200:
                self.expired |= a[0] == 410
                return False
            if json.loads(a[2])["state"] == "succeeded":
                self.ended.add(name)
                return True
        return False

    def tell(self):
        if self.submit_with_deliveries("a") and self.await_end("a"):
            self.peer.wait("/hook", 1, 3)
            self.deleting = True
            a = request(self.port, "DELETE", f"/v1/jobs/{self.ids['a']}", timeout=20)
            self.deleted = bool(a and a[0] == 204)
        if self.submit("b") and self.await_end("b") and self.submit("again"):
            self.await_end("again")
        if self.submit_batch(("c0", "c1")) and self.await_end("c0") and self.await_end("c1") and "again" in self.ended:
            for _ in range(60):  # the oldest of more than two that have ended
                a = request(self.port, "GET", f"/v1/jobs/{self.ids['b']}")
                if not a or a[0] == 410:
                    self.expired |= bool(a)
                    break
                time.sleep(0.05)


def tell_until_killed(state, peer, call, k, error=None):
    """The story under strace, or None when the server ended before it listened; and whether anything was injected."""
    inject = ["-e", f"inject={call}:" + (f"error={error}:when={k}" if error else f"signal=KILL:when={k}")] if k else []
    where = ["-P", os.path.join(state, "pictures/.new"), "-P", os.path.join(state, "pictures")] if call in ("write", "openat") else []
    trace = state + ".trace"
    try:
        d = Daemon(wrap=["strace", "-f", "-o", trace, *where, "-e", f"trace={call}", *inject], state_dir=state,
                   **{**flags(peer, os.path.dirname(state)), "max_finished_jobs": 2})
    except RuntimeError:
        return None, 1
    story = Story(d.port, peer)
    story.tell()
    died = not story.expired and ends_within(d.process, 2)
    if not died:
        for pid in children(d.process.pid):
            os.kill(pid, signal.SIGTERM)
    d.process.wait(60)
    with open(trace) as f:
        text = f.read()
    return story, int(died or "(INJECTED)" in text) if k else len(re.findall(rf"^\d+ +{call}\(", text, re.M))


def ends_within(process, seconds):
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        return False


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(x) for x in f.read().split()]
    except OSError:
        return []


def judge(state, peer, story, want):
    """Start again, undisturbed; what was told must hold. What does not."""
    d = Daemon(state_dir=state, **flags(peer, os.path.dirname(state)))
    bad = []
    for name in story.ids if story else ():
        job = story.ids[name]
        a = request(d.port, "GET", f"/v1/jobs/{job}?wait=20", timeout=40)
        may_be_gone = story.deleting if name == "a" else name in ("b", "again") and name in story.ended  # the oldest two expire
        if a[0] == 410 and may_be_gone:
            continue
        if name == "a" and story.deleted:
            bad.append(f"{name}: deleted, and {a[0]}")
        elif a[0] != 200 or json.loads(a[2])["state"] != "succeeded":
            bad.append(f"{name}: {a[0]} {a[2][:200]}")
        elif hashlib.sha256(request(d.port, "GET", f"/v1/jobs/{job}/result")[2]).hexdigest() != want[name]:
            bad.append(f"{name}: other bytes")
    if story and "a" in story.ids and not story.deleting and not (peer.wait("/hook", 1, 10) and peer.to("/put")):
        bad.append("a: not delivered")
    if story and story.batch:
        a = request(d.port, "GET", f"/v1/batches/{story.batch}")
        if a[0] != 200 or [i["job"] for i in json.loads(a[2])["items"]] != story.items:
            bad.append(f"batch: {a[0]} {a[2][:200]}")
    if d.stop() != 0:
        bad.append("the next server does not end well")
    ok, orphans, missing = integrity(state)
    if ok != "ok" or orphans or missing:
        bad.append(f"integrity: {ok}, {len(orphans)} orphans, {len(missing)} missing")
    return bad


def one_point(point, want):
    """Returns whether anything was injected, and what was wrong."""
    call, error, k = point
    folder = tempfile.mkdtemp(prefix="yodad-crash-")
    state = os.path.join(folder, "state")
    with Peer() as peer:
        peer.answers = {"/hook": reply(204), "/put": reply(200)}
        try:
            story, hit = tell_until_killed(state, peer, call, k, error)
            bad = judge(state, peer, story, want) if hit else []
        except Exception as e:  # a point that breaks off has failed, and the others go on
            hit, bad = 1, [f"{type(e).__name__}: {e}"]
    shutil.rmtree(folder, ignore_errors=True)
    return hit, bad


def all_points():
    """Every call of an undisturbed run, and a few more, since no two runs make exactly as many."""
    points = []
    for call in sorted({*KILLS, *(c for c, _ in ERRORS)}):
        folder = tempfile.mkdtemp(prefix="yodad-crash-")
        with Peer() as peer:
            peer.answers = {"/hook": reply(204), "/put": reply(200)}
            n = tell_until_killed(os.path.join(folder, "state"), peer, call, 0)[1]
        shutil.rmtree(folder, ignore_errors=True)
        print(f"  {call}: {n} in a run", flush=True)
        for error in [None] * (call in KILLS) + [e for c, e in ERRORS if c == call]:
            points += [(call, error, k) for k in range(1, n + n // 10 + 3)]
    return points


class Ledger:
    """What was done, a line each, in a file or nowhere."""

    def __init__(self, path):
        self.path, self.points, self.done = path, None, {}
        if path and os.path.exists(path):
            with open(path) as f:
                lines = [json.loads(line) for line in f]
            self.points = [tuple(p) for p in lines[0]]
            self.done = {tuple(p): (hit, bad) for p, hit, bad in lines[1:]}

    def write(self, line):
        if self.path:
            with open(self.path, "a") as f:
                f.write(json.dumps(line) + "\n")

    def plan(self):
        if not self.points:
            self.points = all_points()
            self.write(self.points)
        return self.points

    def note(self, point, hit, bad):
        self.done[point] = (hit, bad)
        self.write([point, hit, bad])


def test_every_point():
    want, ledger, began = known(), Ledger(options.all), time.monotonic()
    points = [p for p in ledger.plan() if p not in ledger.done]
    random.Random(int(os.environ.get("YODA_FAULT_SEED", "1"))).shuffle(points)
    with concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
        todo, running = iter(points), {}
        while True:
            while len(running) < options.at_once and time.monotonic() - began < options.seconds and (p := next(todo, None)):
                running[pool.submit(one_point, p, want)] = p
            if not running:
                break
            for f in concurrent.futures.wait(running, return_when="FIRST_COMPLETED").done:
                point = running.pop(f)
                hit, bad = f.result()
                ledger.note(point, hit, bad)
                check(not bad, f"{point[0]} {point[2]} {point[1] or 'killed'}", bad)
                if len(ledger.done) % 50 == 0:
                    print(f"  {len(ledger.done)} of {len(ledger.points)} points, {time.monotonic() - began:.0f} s", flush=True)
    hits, wrong = sum(h for h, _ in ledger.done.values()), [p for p, (_, bad) in ledger.done.items() if bad]
    print(f"  {len(ledger.done)} of {len(ledger.points)} points tried, {hits} of them met a call; {len(wrong)} violations")
    check(not wrong, "no violation, earlier calls of this program included", wrong[:5])
    check(hits >= 10, "the points were found", hits)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--all", metavar="FILE", help="every point, noted in FILE")
parser.add_argument("--seconds", type=float, help="begin no more points after so many")
parser.add_argument("--at-once", type=int, default=3, help="points at a time; most of each is waiting")
options = parser.parse_args()
options.seconds = options.seconds or (float("inf") if options.all else 240 * float(os.environ.get("YODA_FAULT_SHARE", "1")))
if not shutil.which("strace"):
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)
harness.run_tests(sys.modules[__name__], lambda test: ())
print(f"{harness.passed} passed, {harness.failed} failed, {harness.skipped} skipped")
sys.exit(1 if harness.failed else 0)
