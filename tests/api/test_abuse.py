"""Clients that vanish, drip, stall, pipeline and lie. After each of them the daemon has what it had before: descriptors, jobs, time."""
import random
import socket
import struct
import time

from harness import Daemon, check, drain_socket, textured, uses

PICTURE = textured(48, 48)
SLOW = textured(120, 120)  # with many steps: runs until somebody cancels it


def reset(s):
    """Close with a TCP reset instead of a goodbye."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def drip(s, data, pause, limit):
    """Send byte by byte; the seconds until the server ended it (limit when it did not)."""
    began = time.monotonic()
    s.settimeout(0.01)
    for byte in data:
        if time.monotonic() - began > limit:
            return limit
        try:
            s.sendall(bytes([byte]))
            if s.recv(4096) == b"":
                return time.monotonic() - began
        except socket.timeout:
            pass
        except OSError:
            return time.monotonic() - began
        time.sleep(pause)
    return time.monotonic() - began


@uses("strict")
def test_dripping_headers_end_at_the_deadline(d):
    s = d.connect()
    took = drip(s, b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 100, 0.03, 4)
    check(0.3 < took < 1.5, "closed at 0.5 s and a tick", took)
    s.close()


@uses("strict")
def test_a_dripping_body_ends_at_the_deadline(d):
    s = d.connect()
    s.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n")
    began = time.monotonic()
    s.settimeout(0.01)
    got, ended = b"", False
    while not ended and time.monotonic() - began < 4:
        try:
            s.sendall(b"x")
            piece = s.recv(4096)
            got, ended = got + piece, piece == b""
        except socket.timeout:
            pass
        except OSError:
            ended = True
        time.sleep(0.03)
    took = time.monotonic() - began
    check(ended and 0.7 < took < 2, "closed at 0.9 s and a tick", took)
    check(got.startswith(b"HTTP/1.1 408"), "with 408", got[:60])
    s.close()


@uses("strict")
def test_silent_and_idle_connections_end(d):
    s = d.connect()
    began = time.monotonic()
    check(drain_socket(s, 3) == b"" and time.monotonic() - began < 1.5, "a silent one", time.monotonic() - began)
    s = d.connect()
    s.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    began = time.monotonic()
    got = drain_socket(s, 3)
    check(got.endswith(b"ok\n") and 0.4 < time.monotonic() - began < 2, "an idle one after its request", time.monotonic() - began)


@uses("strict")
def test_who_does_not_take_the_response_is_cut(d):
    before = d.calm()
    s = d.connect(timeout=0.5, receive_buffer=4096)
    try:  # pipelined, so that the answers fill every buffer between us
        s.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 800)
    except socket.timeout:
        pass
    time.sleep(0.2)
    check(d.fds() > before, "it is open", (d.fds(), before))
    check(d.settle_fds(before, 5) <= before, "and closed while its buffers are full", (d.fds(), before))
    s.close()


@uses("strict")
def test_vanishing_during_an_upload(d):
    before = d.calm()
    for i in range(30):
        s = d.connect()
        s.sendall(b"POST /v1/upscale HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + b"x" * (i * 1000))
        reset(s) if i % 2 else s.close()
    check(d.settle_fds(before) <= before, "descriptors are back", (d.fds(), before))
    check(d.curl("/v1/upscale?steps=1", data=PICTURE).status == 200, "and it works")


@uses("strict")
def test_leaving_upscale_cancels_the_job(d):
    for end in (reset, socket.socket.close):
        s = d.connect()
        s.sendall(b"POST /v1/upscale?steps=900 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(SLOW) + SLOW)
        time.sleep(0.2)
        job = d.curl("/v1/jobs?limit=1").json()["jobs"][0]
        check(job["state"] == "running", "it runs while we wait", job["state"])
        end(s)
        check(d.wait_state(job["id"], "cancelled", "succeeded", seconds=3) == "cancelled", "and not without us")


def test_leaving_frees_the_device_within_a_unit():
    d = Daemon(device="fake", fake_unit_us=300000, max_running=1, max_batch=1, drain_timeout_ms=0)
    s = d.connect()
    s.sendall(b"POST /v1/upscale?steps=900 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(SLOW) + SLOW)
    time.sleep(0.5)
    first = d.curl("/v1/jobs?limit=1").json()["jobs"][0]["id"]
    second = d.job(PICTURE, "?steps=1")
    check(d.curl(f"/v1/jobs/{second}").json()["queue"]["position"] == 1, "the next one waits")
    began = time.monotonic()
    s.close()
    check(d.wait_state(first, "cancelled", seconds=3) == "cancelled" and time.monotonic() - began < 0.25, "cancelled at once",
          time.monotonic() - began)
    d.wait_state(second, "running", "succeeded", seconds=3)
    check(time.monotonic() - began < 0.6, "its place is free when its unit is over", time.monotonic() - began)
    check(d.stop() == 0, "exit 0")


@uses("strict")
def test_vanishing_from_streams(d):
    job = d.job(SLOW, "?steps=900")
    before = d.calm()
    streams = [d.connect() for _ in range(40)]
    for s in streams:
        s.sendall(f"GET /v1/jobs/{job}/events?inline=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    time.sleep(0.5)
    metric = d.curl("/metrics").body
    check(b"yodad_sse_clients 40" in metric, "forty are counted", [x for x in metric.splitlines() if b"sse_clients" in x])
    for i, s in enumerate(streams):
        reset(s) if i % 2 else s.close()
    check(d.settle_fds(before) <= before, "descriptors are back", (d.fds(), before))
    check(b"yodad_sse_clients 0" in d.curl("/metrics").body, "none is counted any more")
    check(d.curl(f"/v1/jobs/{job}").json()["state"] == "running", "the job does not mind")
    d.curl(f"/v1/jobs/{job}", "-X", "DELETE")


@uses("strict")
def test_vanishing_from_waits_and_pictures(d):
    job = d.job(SLOW, "?steps=900")
    d.wait_state(job, "running")
    before = d.calm()
    for path in ("?wait=30", "/preview", "/attention", "/mask?step=1") * 5:
        s = d.connect()
        s.sendall(f"GET /v1/jobs/{job}{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        reset(s)
    check(d.settle_fds(before) <= before, "descriptors are back", (d.fds(), before))
    d.curl(f"/v1/jobs/{job}", "-X", "DELETE")


@uses("strict")
def test_pipelining(d):
    many = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 20
    upload = b"POST /v1/upscale?steps=1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(PICTURE) + PICTURE
    got = d.raw(many + upload + b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 5)
    check(got.count(b"HTTP/1.1 200") == 22, "every one is answered, in order", got.count(b"HTTP/1.1 200"))
    check(got.endswith(b"ok\n"), "the last one last", got[-40:])


@uses("strict")
def test_ambiguous_framing_is_refused(d):
    for what, head in (
        ("length and chunked", b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        ("two lengths", b"Content-Length: 4\r\nContent-Length: 5\r\n"),
        ("the same length twice", b"Content-Length: 4\r\nContent-Length: 4\r\n"),
        ("a signed length", b"Content-Length: +4\r\n"),
        ("a hexadecimal length", b"Content-Length: 0x4\r\n"),
        ("an unknown coding", b"Transfer-Encoding: xchunked\r\n"),
        ("two codings", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("a space before the colon", b"Content-Length : 4\r\n"),
        ("two hosts", b"Host: y\r\nContent-Length: 4\r\n"),
    ):
        got = d.raw(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 3)
        check(got.startswith(b"HTTP/1.1 400"), what + ": 400", got[:60])
        check(b"HTTP/1.1 200" not in got, what + ": and nothing after it is read as a request", got)
    check(d.raw(b"GET /livez HTTP/1.1\r\n\r\n", 3).startswith(b"HTTP/1.1 400"), "no host: 400")
    got = d.raw(b"GET http://example.org/livez HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n", 3)
    check(got.startswith(b"HTTP/1.1 200"), "the absolute form is understood", got[:60])


@uses("strict")
def test_heads_that_are_too_large(d):
    for head in (b"GET /" + b"a" * 100000, b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X-Filler: " + b"b" * 100000,
                 b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(10000))):
        try:
            got = d.raw(head + b"\r\n\r\n", 3)
        except ConnectionError:
            got = b""
        check(got == b"" or got[9:12] in (b"400", b"413", b"414", b"431"), "refused", got[:60])
    check(d.curl("/livez").status == 200, "and it lives")


@uses("strict")
def test_noise(d):
    """Bytes that are no HTTP, and requests with a few bytes changed."""
    rng, before = random.Random(7), d.calm()
    seed = b"POST /v1/jobs?steps=1 HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 300\r\n\r\n" + PICTURE[:300]
    for i in range(150):
        data = bytearray(seed) if i % 3 else bytearray(rng.randbytes(200))
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            with d.connect() as s:
                s.sendall(bytes(data))
                if i % 2:
                    s.shutdown(socket.SHUT_WR)
                s.settimeout(0.02)
                s.recv(4096)
        except OSError:
            pass
    check(d.settle_fds(before) <= before, "descriptors are back", (d.fds(), before))
    check(d.alive() and d.curl("/livez").status == 200, "and it lives")


@uses("strict")
def test_many_quiet_streams_cost_nothing(d):
    jobs = [d.job(textured(120, 120), f"?steps=900&seed={i}") for i in range(4)]  # all places are taken
    d.wait_step(jobs[0])
    waiting = d.job(PICTURE, "?steps=1&priority=low")
    streams = [d.connect() for _ in range(300)]
    for s in streams:
        s.sendall(f"GET /v1/jobs/{waiting}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    time.sleep(0.5)
    check(d.curl("/metrics").body.count(b"yodad_sse_clients 300") == 1, "all are open")
    check(d.curl("/livez").status == 200, "others are served")
    for j in jobs:
        d.curl(f"/v1/jobs/{j}", "-X", "DELETE")
    d.wait_state(waiting, "succeeded")
    ends = [drain_socket(s, 3) for s in streams]
    check(all(b"event: succeeded" in e for e in ends), "each gets the end", sum(b"event: succeeded" in e for e in ends))
    for s in streams:
        s.close()
