#!/usr/bin/env python3
"""A state directory on a disk of 20 MB (tmpfs): jobs are refused before it is full, what was accepted ends, nothing is acknowledged that did not fit, and
room that is made is used within two seconds; the same when files run out instead of bytes. Wants to mount (root); otherwise it is skipped. The last
line is "N passed, N failed, N skipped"."""
import hashlib
import json
import os
import random
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
from harness import SLOWNESS, Daemon, Skip, check, png, textured  # noqa: E402
from kill_abuse import integrity, request  # noqa: E402

MIB = 1 << 20
RESERVE = 4 * MIB


def noise(width, height, seed):
    rng = random.Random(seed)
    return png(width, height, rows=b"".join(b"\0" + rng.randbytes(width * 3) for _ in range(height)))


class Disk:
    def __init__(self, options):
        self.path = tempfile.mkdtemp(prefix="yodad-disk-")
        self.state, self.n = os.path.join(self.path, "state"), 0
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "yodad-test", self.path], stderr=subprocess.DEVNULL).returncode:
            os.rmdir(self.path)
            raise Skip("this user cannot mount")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path])
        os.rmdir(self.path)

    def free(self):
        v = os.statvfs(self.path)
        return v.f_bavail * v.f_frsize

    def files(self):
        return os.statvfs(self.path).f_favail

    def fill(self, leave):
        """A file that leaves so many bytes."""
        self.n += 1
        with open(os.path.join(self.path, f"ballast-{self.n}"), "wb") as f:
            f.write(b"\1" * max(0, self.free() - leave))

    def fill_files(self, leave):
        while self.files() > leave:
            self.n += 1
            open(os.path.join(self.path, f"ballast-{self.n}"), "w").close()

    def clear(self):
        for name in os.listdir(self.path):
            if name.startswith("ballast-"):
                os.remove(os.path.join(self.path, name))


def submit(d, picture, query="?steps=2"):
    a = request(d.port, "POST", "/v1/jobs" + query, picture, timeout=20)
    return a[0], a[1], json.loads(a[2])


def refused(a, what):
    return check(a[0] == 507 and int(a[1]["Retry-After"]) > 0 and a[2]["type"] == "/problems/insufficient-storage", f"{what}: 507 with Retry-After", a)


def taken_again(d, seconds=2):
    """How long it takes until a job is accepted, once there is room."""
    began = time.monotonic()
    while time.monotonic() - began < 20:
        status, _, job = submit(d, textured(33, 33, random.randrange(200)))
        if status in (201, 202):
            took = time.monotonic() - began
            check(took < seconds * SLOWNESS, f"jobs are taken within {seconds} s after room is made", took)
            print(f"  taken again after {took:.2f} s")
            return job["id"]
        time.sleep(0.05)
    check(False, "jobs are taken again", status)
    return None


def all_end(d, jobs, known):
    """Every accepted job succeeds, with the bytes that it has elsewhere."""
    for job, picture in jobs.items():
        state = d.wait_state(job, "succeeded", "failed", seconds=40)
        result = d.curl(f"/v1/jobs/{job}/result").body
        check(state == "succeeded" and hashlib.sha256(result).hexdigest() == known(picture), "what was accepted ends with its bytes", (job, state))


class Known:
    """Results of a server with a disk that is not full."""

    def __init__(self):
        self.d, self.seen = Daemon(device="fake"), {}

    def __call__(self, picture, query="?steps=2"):
        if (picture, query) not in self.seen:
            self.seen[picture, query] = hashlib.sha256(self.d.curl("/v1/upscale" + query, data=picture).body).hexdigest()
        return self.seen[picture, query]


def finish(d, disk):
    check(d.stop() == 0, "the server ends well", d.log_text()[-500:])
    ok, orphans, missing = integrity(disk.state)
    check(ok == "ok" and not orphans and not missing, "database and files agree", (ok, orphans, missing))
    check(".new" not in os.listdir(os.path.join(disk.state, "pictures")), "no half-written file stays")


def test_refused_before_it_is_full():
    known = Known()
    with Disk("size=20m") as disk:
        d, jobs = Daemon(device="fake", fake_unit_us=200, state_dir=disk.state, disk_reserve_bytes=RESERVE, queue_max=1000), {}
        for n in range(200):
            picture = noise(160, 140, n)
            a = submit(d, picture)
            if a[0] not in (201, 202):
                break
            jobs[a[2]["id"]] = picture
            if n % 6 == 5:
                d.wait_state(a[2]["id"], "succeeded")
        refused(a, "before it is full")
        print(f"  {len(jobs)} jobs of {len(picture) >> 10} KiB, then refused with {disk.free() / MIB:.1f} of 20 MiB left, {RESERVE / MIB:.0f} kept free")
        check(len(jobs) >= 20 and RESERVE / 2 < disk.free() < 2 * RESERVE, "neither early nor late", (len(jobs), disk.free()))
        ready = request(d.port, "GET", "/readyz?verbose")
        check(ready[0] == 503 and b"nearly full" in ready[2], "readyz says so", ready)
        all_end(d, dict(list(jobs.items())[-12:]), known)
        disk.fill(0)
        refused(submit(d, noise(100, 80, 1000)), "quite full")
        disk.clear()
        for job in list(jobs)[:len(jobs) // 2]:
            check(request(d.port, "DELETE", f"/v1/jobs/{job}", timeout=20)[0] == 204, "deleting makes room")
        jobs = {j: p for j, p in list(jobs.items())[len(jobs) // 2:]}
        last = taken_again(d)
        d.wait_state(last, "succeeded")
        all_end(d, jobs, known)
        finish(d, disk)
    known.d.stop()


def test_filled_while_jobs_are_under_way():
    """Somebody else fills the disk: ends wait for room, and are told when there is some."""
    known = Known()
    with Disk("size=20m") as disk:
        d = Daemon(device="fake", fake_unit_us=20000, max_running=2, state_dir=disk.state, disk_reserve_bytes=RESERVE, checkpoint_interval_ms=50)
        jobs = {}
        for n in range(4):
            picture = noise(100, 80, n)
            jobs[submit(d, picture)[2]["id"]] = picture
        disk.fill(0)
        time.sleep(2.5)
        a = submit(d, noise(100, 80, 99))
        refused(a, "full")
        check(d.alive() and request(d.port, "GET", "/readyz")[0] == 503, "the server goes on, not ready")
        disk.clear()
        last = taken_again(d)
        d.wait_state(last, "succeeded")
        all_end(d, jobs, known)
        finish(d, disk)
    known.d.stop()


def test_nothing_is_acknowledged_that_does_not_fit():
    """Without a reserve, with room for the record and not for the picture: no 202; where there is one, the job survives kill -9."""
    known, taken, refusals = Known(), 0, 0
    with Disk("size=20m") as disk:
        d = Daemon(device="fake", fake_unit_us=100, state_dir=disk.state, disk_reserve_bytes=0, queue_max=1000)
        for n in range(120):  # the database's log gets its full length, so that a record fits where a picture does not
            status, _, job = submit(d, textured(32, 32, n % 7), "?steps=1")
            if n % 10 == 9:
                d.wait_state(job["id"], "succeeded")
        for left in (40, 200, 400, 500, 640):
            picture = noise(400, 300, left)
            disk.clear()
            time.sleep(1.2)  # the server looks at the disk
            disk.fill(left << 10)
            a = submit(d, picture, "?steps=6")
            if a[0] != 202:
                refusals += refused(a, f"{left} KiB left")
                continue
            taken += 1
            d.process.send_signal(signal.SIGKILL)
            d.process.wait()
            disk.clear()
            d = Daemon(device="fake", fake_unit_us=100, state_dir=disk.state, disk_reserve_bytes=0)
            job = a[2]["id"]
            a = request(d.port, "GET", f"/v1/jobs/{job}?wait=20", timeout=40)
            state = json.loads(a[2]).get("state", a[0])
            result = hashlib.sha256(d.curl(f"/v1/jobs/{job}/result").body).hexdigest()
            check(state == "succeeded" and result == known(picture, "?steps=6"), "what was acknowledged on a full disk is there", (left, state))
        print(f"  {taken} taken, {refusals} refused")
        check(refusals >= 2, "some did not fit", refusals)
        disk.clear()
        taken_again(d)
        d.process.kill()
        d.process.wait()
    known.d.stop()


def test_no_more_files():
    known = Known()
    with Disk("size=20m,nr_inodes=200") as disk:
        d = Daemon(device="fake", fake_unit_us=200, state_dir=disk.state, disk_reserve_bytes=RESERVE)
        jobs = {}
        for n in range(100):
            picture = noise(50, 40, n)
            a = submit(d, picture)
            if a[0] not in (201, 202):
                break
            jobs[a[2]["id"]] = picture
            d.wait_state(a[2]["id"], "succeeded")
        refused(a, "before files run out")
        print(f"  {len(jobs)} jobs, then refused with room for {disk.files()} files left")
        check(disk.files() > 0, "not late", disk.files())
        disk.fill_files(0)
        refused(submit(d, noise(50, 40, 1000)), "no file left")
        disk.clear()
        for job in list(jobs)[:10]:
            check(request(d.port, "DELETE", f"/v1/jobs/{job}", timeout=20)[0] == 204, "deleting makes room")
            jobs.pop(job)
        last = taken_again(d)
        d.wait_state(last, "succeeded")
        all_end(d, jobs, known)
        finish(d, disk)
    known.d.stop()


if not shutil.which("mount") or os.geteuid() != 0:
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)
harness.run_tests(sys.modules[__name__], lambda test: ())
print(f"{harness.passed} passed, {harness.failed} failed, {harness.skipped} skipped")
sys.exit(1 if harness.failed else 0)
