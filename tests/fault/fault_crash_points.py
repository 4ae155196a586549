#!/usr/bin/env python3
"""The server killed at its K-th write, fsync, rename or unlink, for every K until none is left, while a job is submitted, finished, deleted
and another one expires (strace -e inject). After each: a restart, and everything that was acknowledged holds. Then the same calls fail with
ENOSPC or EIO instead, and the server goes on. The last line is "N passed, N failed, N skipped". An argument K does every K-th point only."""
import hashlib
import json
import os
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

EVERY = int(sys.argv[1]) if len(sys.argv) > 1 else max(1, round(1 / float(os.environ.get("YODA_FAULT_SHARE", "1"))))
CALLS = ("fsync", "fdatasync", "renameat", "unlinkat", "unlink", "ftruncate", "pwrite64")
MOST = {"pwrite64": 400}  # more points than there can be
PICTURE = textured(48, 40)
FLAGS = dict(device="fake", fake_unit_us=3000, checkpoint_interval_ms=10, content_cache="false")
QUERIES = {"a": "?steps=5&seed=1", "b": "?steps=3&seed=2"}


def known():
    d = Daemon(device="fake")
    out = {n: hashlib.sha256(d.curl("/v1/upscale" + q, data=PICTURE).body).hexdigest() for n, q in QUERIES.items()}
    d.stop()
    return out


class Story:
    """What a client did and was told; every request may meet a dead server."""

    def __init__(self, port):
        self.port, self.ids, self.ended, self.deleting, self.deleted, self.expired = port, {}, set(), False, False, False

    def submit(self, name):
        a = request(self.port, "POST", "/v1/jobs" + QUERIES[name], PICTURE, timeout=20)
        if a and a[0] == 202:
            self.ids[name] = json.loads(a[2])["id"]
        return bool(a and a[0] == 202)

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
        if self.submit("a") and self.await_end("a"):
            self.deleting = True
            a = request(self.port, "DELETE", f"/v1/jobs/{self.ids['a']}", timeout=20)
            self.deleted = bool(a and a[0] == 204)
        if self.submit("b") and self.await_end("b"):
            for _ in range(60):
                a = request(self.port, "GET", f"/v1/jobs/{self.ids['b']}")
                if not a or a[0] == 410:
                    self.expired |= bool(a)
                    break
                time.sleep(0.05)


def tell_until_killed(state, call, k, error=None):
    """The story under strace, or None when the server ended before it listened; and whether anything was injected."""
    fault = f"error={error}:when={k}" if error else f"signal=KILL:when={k}"
    trace = state + ".trace"
    try:
        d = Daemon(wrap=["strace", "-f", "-o", trace, "-e", f"trace={call}", "-e", f"inject={call}:{fault}"], state_dir=state,
                   **{**FLAGS, "job_ttl_s": 1})
    except RuntimeError:
        return None, 1
    story = Story(d.port)
    story.tell()
    died = not story.expired and ends_within(d.process, 2)
    if not died:
        for pid in children(d.process.pid):
            os.kill(pid, signal.SIGTERM)
    d.process.wait(30)
    with open(trace) as f:
        return story, int(died or "(INJECTED)" in f.read())


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


def judge(state, story, want, what):
    """Start again, undisturbed; what was told must hold."""
    d = Daemon(state_dir=state, **FLAGS)
    bad = []
    for name in story.ids if story else ():
        job = story.ids[name]
        a = request(d.port, "GET", f"/v1/jobs/{job}?wait=20", timeout=40)
        may_be_gone = story.deleting if name == "a" else name in story.ended  # b expires a second after its end
        if a[0] == 410 and may_be_gone:
            continue
        if name == "a" and story.deleted:
            bad.append(f"{name}: deleted, and {a[0]}")
        elif a[0] != 200 or json.loads(a[2])["state"] != "succeeded":
            bad.append(f"{name}: {a[0]} {a[2][:200]}")
        elif hashlib.sha256(request(d.port, "GET", f"/v1/jobs/{job}/result")[2]).hexdigest() != want[name]:
            bad.append(f"{name}: other bytes")
    if d.stop() != 0:
        bad.append("the next server does not end well")
    ok, orphans, missing = integrity(state)
    if ok != "ok" or orphans or missing:
        bad.append(f"integrity: {ok}, {len(orphans)} orphans, {len(missing)} missing")
    return check(not bad, what, bad)


def points(call, want, error=None):
    """Every point of one call; how many there were."""
    n = 0
    for k in range(1, MOST.get(call, 200), EVERY):
        folder = tempfile.mkdtemp(prefix="yodad-crash-")
        state = os.path.join(folder, "state")
        story, hit = tell_until_killed(state, call, k, error)
        fine = judge(state, story, want, f"{call} {k}{' ' + error if error else ''}") if hit else True
        shutil.rmtree(folder, ignore_errors=True)
        if not hit:
            break
        n += 1
        if not fine:
            break
    return n


def test_killed_at_every_point():
    want, found = known(), {}
    for call in CALLS:
        found[call] = points(call, want)
        print(f"  {call}: {found[call]} points", flush=True)
    check(found["fsync"] + found["fdatasync"] >= 10 and found["renameat"] >= 3, "the points were found", found)


def test_every_call_fails_once():
    want, found = known(), {}
    for call in ("fsync", "fdatasync", "renameat", "pwrite64"):
        for error in ("ENOSPC", "EIO"):
            found[call, error] = points(call, want, error)
            print(f"  {call} {error}: {found[call, error]} points", flush=True)
    check(min(found.values()) >= 1, "the points were found", found)


if not shutil.which("strace"):
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)
harness.run_tests(sys.modules[__name__], lambda test: ())
print(f"{harness.passed} passed, {harness.failed} failed, {harness.skipped} skipped")
sys.exit(1 if harness.failed else 0)
