"""Who leaves in the middle of a run that several jobs share: the others do not notice, and nothing more is computed for it."""
import contextlib
import hashlib
import re
import time

from harness import Daemon, check, textured

RUN_S = 0.06  # of the device; long beside what a request takes
STEPS = 30    # of the mates, which have one window each


@contextlib.contextmanager
def shared_device():
    d = Daemon(device="fake", fake_batch_us=int(RUN_S * 1e6), fake_unit_us=100, max_batch=4, content_cache="false", preview_interval_ms=0)
    try:
        yield d
    finally:
        check(d.stop() == 0, "the daemon ends well")


def units(d):
    """Units that the device has run: the share of each run that was filled, summed up."""
    text = d.curl("/metrics").body.decode()
    return round(float(re.search(r"^yodad_batch_occupancy_ratio_sum(?:{[^}]*})? (\S+)", text, re.M).group(1)) * 4)


def digest(d, job):
    d.wait_state(job, "succeeded")
    return hashlib.sha256(d.curl(f"/v1/jobs/{job}/result").body).hexdigest()


def mates(d):
    return [d.job(textured(28, 24, salt), f"?steps={STEPS}&lower_bound=1&seed={salt}") for salt in (1, 2)]


def leaving(d, alone, name, begin, leave):
    """begin(d) -> its id; leave(d, id) is called when all three share runs."""
    before = units(d)
    others = mates(d)
    leaver = begin(d)
    for job in [leaver, *others]:
        d.wait_step(job)
    done = d.curl(f"/v1/jobs/{leaver}").json()["progress"]["windows_done"]
    began = time.monotonic()
    leave(d, leaver)
    took = time.monotonic() - began
    check([digest(d, job) for job in others] == alone, f"{name}: the others' bytes are as if alone")
    its = units(d) - before - 2 * STEPS
    # Since the look at it: as many units as runs began meanwhile, the one that was under way, and one.
    check(done <= its <= done + took / RUN_S + 2, f"{name}: nothing more is computed for it", (done, its, took))


def cancelled(d, job):
    check(d.curl(f"/v1/jobs/{job}/cancel", "-X", "POST").status == 200, "cancelled")


def deleted(d, job):
    check(d.curl(f"/v1/jobs/{job}", "-X", "DELETE").status == 204, "deleted")


def long_job(d):
    return d.job(textured(28, 24, 9), "?steps=1000&lower_bound=1")


def test_mates_are_not_disturbed():
    with shared_device() as d:
        alone = [digest(d, job) for job in mates(d)]
        check(alone[0] != alone[1], "two different pictures")
        leaving(d, alone, "cancelled", long_job, cancelled)
        leaving(d, alone, "deleted", long_job, deleted)
        sockets = []

        def post(d):
            picture = textured(28, 24, 9)
            s = d.connect()
            s.sendall(b"POST /v1/upscale?steps=1000&lower_bound=1 HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
                      % len(picture) + picture)
            sockets.append(s)
            until = time.monotonic() + 20
            while time.monotonic() < until:
                jobs = d.curl("/v1/jobs?state=running").json()["jobs"]
                its = [j["id"] for j in jobs if j["settings"]["steps"] == 1000]
                if its:
                    return its[0]
            raise AssertionError("its job does not start")

        def drop(d, _):
            sockets[-1].close()

        leaving(d, alone, "a connection that waits for the result", post, drop)
        check(not d.curl("/v1/jobs?state=running").json()["jobs"], "nothing of it is left")


def test_a_reader_that_goes():
    with shared_device() as d:
        alone = [digest(d, job) for job in mates(d)]
        others = mates(d)
        readers = []
        for job in others:
            s = d.connect()
            s.sendall(b"GET /v1/jobs/%s/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n" % job.encode())
            check(s.recv(100), "it reads")
            readers.append(s)
        for job in others:
            d.wait_step(job)
        readers[0].close()
        check([digest(d, job) for job in others] == alone, "a reader that goes changes nothing")
        readers[1].close()
