"""Codec processes: what they may, and that killing, stopping and poisoning them costs one picture at a time."""
import os
import re
import time

import codec_abuse as abuse
from harness import SLOWNESS, YODAD, Daemon, check, textured

SANITIZED = SLOWNESS > 1 or any(f"/{v}/" in YODAD for v in ("asan", "tsan", "ubsan"))


def start(**flags):
    d = Daemon(device="fake", fake_unit_us=0, codec_processes=2, **flags)
    check(abuse.wait_for(lambda: abuse.idle(d) == 2), "two processes")
    return d


def finish(d, fds, crashes_expected=False):
    check(not abuse.zombies(d), "no zombies", abuse.zombies(d))
    check(d.settle_fds(fds) <= fds, "no descriptor is lost", (d.fds(), fds))
    if not crashes_expected:
        check("crashed" not in abuse.restarts(d), "nothing crashed", abuse.restarts(d))
    pids = abuse.children(d)
    check(d.stop() == 0, "it ends well", d.log_text()[-800:])
    check(not any(os.path.exists(f"/proc/{p}") for p in pids), "and nobody stays behind", pids)


def test_they_are_locked_in():
    d = start()
    fds = d.fds()
    check(abuse.post(d, textured(64, 64))[0] == 200, "a picture")
    job = d.job(textured(64, 64), "?steps=2&report=true")
    d.wait_state(job, "succeeded")
    for path in ("preview", "attention", "mask?step=1", "invented"):
        check(d.curl(f"/v1/jobs/{job}/{path}").status == 200, path)
    # Where libvips starts, it loads its modules, and with them every reader that there is.
    maps = {pid: open(f"/proc/{pid}/maps").read() for pid in [d.process.pid] + abuse.children(d)}
    check("libheif" not in maps[d.process.pid] and "vips-modules" not in maps[d.process.pid], "the daemon has no reader of pictures")
    check(any("libheif" in maps[p] or "vips-modules" in maps[p] for p in abuse.children(d)), "its processes have")
    for pid in abuse.children(d):
        text = abuse.status_of(pid)
        check("yodad-codec" in text and "NoNewPrivs:\t1" in text, "known by name, no new privileges", text[:100])
        if not SANITIZED:
            check("Seccomp:\t2" in text, "system calls are filtered", re.findall("Seccomp.*", text))
            with open(f"/proc/{pid}/limits") as f:
                limits = f.read()
            check(re.search(r"Max core file size +0 +0", limits) and re.search(r"Max open files +32 +32", limits), "few resources", limits)
            check(re.search(r"Max address space +\d+ +\d+", limits), "bounded memory", limits)
        open_fds = {os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")}
        check(all("/dev/null" in x or "socket" in x or SANITIZED for x in open_fds), "nothing inherited", open_fds)
    finish(d, fds)


def test_killed_in_the_middle():
    d = start(codec_wall_ms=700)
    fds = d.fds()
    worst = abuse.shoot(d, 10, textured(64, 64), 2)
    print(f"  back after {worst * 1000:.0f} ms at most")
    traffic = abuse.Traffic(d, forgive=(500, 422))
    seen = abuse.shoot_at_random(d, 10, textured(200, 200))
    traffic.end()
    print(f"  answers while processes are shot at: {seen}")
    check(abuse.wait_for(lambda: abuse.idle(d) == 2, 40), "all processes are back")
    check(int(abuse.restarts(d).get("killed", 0)) >= 20, "it is counted", abuse.restarts(d))
    finish(d, fds, crashes_expected=True)


def test_stopped_ones_are_killed_at_the_deadline():
    import signal
    d = start(codec_wall_ms=300)
    fds = d.fds()
    for pid in abuse.children(d):
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    status, body = abuse.post(d, textured(64, 64))
    check(status == 422 and b"longer than" in body, "the picture fails, with a reason", (status, body))
    check(time.monotonic() - began < 5 * SLOWNESS, "at the deadline", time.monotonic() - began)
    check(abuse.restarts(d).get("deadline") == "1", "it is counted", abuse.restarts(d))
    for pid in abuse.children(d):
        os.kill(pid, signal.SIGCONT)
    check(abuse.post(d, textured(64, 64))[0] == 200, "the next picture is good")
    finish(d, fds)


def test_bombs():
    d = start()
    fds, rss = d.fds(), d.rss()
    traffic = abuse.Traffic(d)
    for name, data in abuse.bombs():
        began = time.monotonic()
        status, body = abuse.post(d, data)
        ms = (time.monotonic() - began) * 1000
        print(f"  {name}: {len(data)} bytes, {status} after {ms:.0f} ms")
        check(status in (413, 422) and b"/problems/" in body, f"{name} is refused", (status, body[:200]))
        check(ms < 2000 * SLOWNESS, f"{name}: at once", ms)
    traffic.end()
    check(d.rss() - rss < (40 << 20) * (4 if SANITIZED else 1), "the daemon does not grow", (rss, d.rss()))
    finish(d, fds)


def test_mutants():
    d = start()
    fds = d.fds()
    traffic = abuse.Traffic(d)
    for fmt in ("png", "jpeg", "webp", "tiff"):
        seen, slowest = abuse.feed_mutants(d, fmt, 60)
        print(f"  {fmt}: {seen}, slowest {slowest * 1000:.0f} ms")
        check(slowest < 5 * SLOWNESS, "none hangs", slowest)
    traffic.end()
    finish(d, fds)
