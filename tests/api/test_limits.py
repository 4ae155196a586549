"""Sizes and numbers: bodies, connections, memory set aside, the queue."""
import resource
import socket
import time

from harness import Daemon, check, drain_socket, parse_head, textured, uses

PICTURE = textured(40, 32)


@uses("strict")
def test_an_oversized_body_is_refused_before_it_is_sent(d):
    with d.connect() as s:
        s.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n")
        got = drain_socket(s, 2)
    check(got.startswith(b"HTTP/1.1 413"), "413 instead of 100", got[:60])
    check(b'"max_bytes":65536' in got, "with the limit", got[-200:])
    a = d.curl("/v1/jobs", data=b"x" * (8 << 20), headers=["Expect:"])
    check(a.status == 413, "the answer reaches a client that sends without asking", (a.status, a.body[:100]))
    with d.connect() as s:
        s.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n")
        got = drain_socket(s, 2)
    check(got[:12] in (b"HTTP/1.1 413", b"HTTP/1.1 400"), "a length beyond 64 bits", got[:60])


@uses("strict")
def test_chunked_bodies_are_counted(d):
    a = d.curl("/v1/upscale?steps=1", data=PICTURE, headers=["Transfer-Encoding: chunked"])
    check(a.status == 200, "a small one is taken", (a.status, a.body[:200]))
    with d.connect() as s:
        s.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(40):
                s.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        except ConnectionError:
            pass
        got = drain_socket(s, 3)
    check(got.startswith(b"HTTP/1.1 413"), "413 in the middle of the upload", got[:80])
    check(b"/problems/body-too-large" in got, "as a problem", got[-300:])


@uses("strict")
def test_continue_is_sent_when_the_body_is_welcome(d):
    with d.connect() as s:
        s.settimeout(3)
        s.sendall(b"POST /v1/upscale?steps=1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n"
                  b"Connection: close\r\n\r\n" % len(PICTURE))
        check(s.recv(100).startswith(b"HTTP/1.1 100"), "100 Continue")
        s.sendall(PICTURE)
        check(drain_socket(s, 3).startswith(b"HTTP/1.1 200"), "then 200")


def test_connections_per_address():
    d = Daemon(device="fake", max_connections_per_ip=5, limit_loopback="true")
    try:
        held = [d.connect() for _ in range(5)]
        time.sleep(0.2)
        a = d.curl("/livez")
        check(a.status == 429 and a.header("retry-after"), "the sixth is told 429", (a.status, a.headers))
        check(a.status and a.json()["type"] == "/problems/too-many-requests", "and why", a.body)
        for s in held:
            s.close()
        time.sleep(0.3)
        check(d.curl("/livez").status == 200, "when the others are gone it is served")
    finally:
        check(d.stop() == 0, "exit 0")


def test_connections_in_all():
    d = Daemon(device="fake", max_connections=8)
    try:
        held = [d.connect() for _ in range(30)]
        time.sleep(0.3)
        began = d.cpu_s()
        time.sleep(0.5)
        check(d.cpu_s() - began < 0.1, "a full house does not spin", d.cpu_s() - began)
        for s in held:
            s.close()
        time.sleep(0.3)
        check(d.curl("/livez").status == 200, "served again once they are gone")
    finally:
        check(d.stop() == 0, "exit 0")


def test_descriptors_for_every_connection():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        d = Daemon(device="fake", max_connections=150)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    held = [d.connect() for _ in range(120)]
    check(d.curl("/livez", timeout=3).status == 200, "a low soft limit is raised")
    for s in held:
        s.close()
    check(d.stop() == 0, "exit 0")


def test_a_full_queue():
    d = Daemon(device="fake", fake_unit_us=20000, queue_max=2, max_running=1, drain_timeout_ms=300)
    try:
        jobs = [d.submit(textured(200, 200), "?steps=100").status for _ in range(6)]
        check(jobs[:2] == [202, 202] and jobs[-1] == 503, "a bounded queue", jobs)
        a = d.submit(PICTURE)
        check(a.status == 503 and int(a.header("retry-after")) >= 1, "Retry-After", a.headers)
        check(a.json()["type"] == "/problems/queue-full" and a.json()["retry_after_ms"] >= 1000, "and why", a.json())
        with d.connect() as s:
            s.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
            check(drain_socket(s, 1).startswith(b"HTTP/1.1 503"), "before the body is sent")
    finally:
        check(d.stop(seconds=60) == 0, "exit 0")


def test_uploads_under_way_share_a_bound():
    d = Daemon(device="fake", max_body_bytes="1MiB", max_queue_bytes="1MiB", body_timeout_ms=3000)
    try:
        first = d.connect()
        first.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 900000)
        time.sleep(0.3)
        a = d.curl("/v1/jobs", data=b"y" * 600000)
        check(a.status == 503 and b"queue-full" in a.body, "the second upload has no room", (a.status, a.body[:200]))
        first.close()
        time.sleep(0.3)
        check(d.submit(PICTURE).status == 202, "room again when the first is gone")
    finally:
        check(d.stop() == 0, "exit 0")
