"""Sentences of the API's page that no other test holds: answers without a body, what is refused before it is read, waits, names of metrics."""
import base64
import json
import re
import subprocess
import time

from harness import YODAD, check, drain_socket, plain, textured, uses

PICTURE = textured(64, 48)

METRICS = {"yodad_jobs_total": ("model", "outcome"), "yodad_queue_depth": (), "yodad_queue_oldest_seconds": (), "yodad_job_wait_seconds": (),
           "yodad_job_duration_seconds": ("stage",), "yodad_step_duration_seconds": (), "yodad_batch_occupancy_ratio": (), "yodad_windows_total": ("kind",),
           "yodad_diffused_pixel_share": (), "yodad_device_memory_bytes": ("kind",), "yodad_sse_clients": (), "yodad_sse_dropped_previews_total": (),
           "yodad_rejected_total": ("reason",), "yodad_build_info": ()}


@uses("fake")
def test_answers_without_a_body(d):
    job = d.job(PICTURE, "?steps=2")
    d.wait_state(job, "succeeded")
    for path in (f"/v1/jobs/{job}", f"/v1/jobs/{job}/result"):
        whole = d.curl(path)
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nIf-None-Match: {whole.header('etag')}\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        head, _, rest = d.raw(request.encode()).partition(b"\r\n\r\n")
        check(b" 304 " in head and rest.startswith(b"HTTP/1.1 200"), "304 has no body, and the connection goes on", (head[:40], rest[:40]))
        check(f"Content-Length: {len(whole.body)}".encode() in head, "its length is that of the 200", head)
        head = d.curl(path, "-I")
        check(head.status == 200 and not head.body and head.header("content-length") == str(len(whole.body)), "HEAD is GET without the body", head.headers)
        check(head.header("etag") == whole.header("etag"), "with the same tag")


@uses("fake")
def test_refused_before_the_body_is_read(d):
    with d.connect() as s:
        s.sendall(b"POST /v1/jobs?nonsense=1 HTTP/1.1\r\nHost: x\r\nContent-Type: text/html\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
        got = drain_socket(s, 3)
    check(got.startswith(b"HTTP/1.1 415") and b"100 Continue" not in got and b"Connection: close" in got, "no 100 for what is refused", got[:200])
    with d.connect() as s:
        s.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n")
        got = drain_socket(s, 3)
    check(got.startswith(b"HTTP/1.1 413") and b"max_bytes" in got, "nor for what is too large", got[:200])
    with d.connect() as s:
        s.sendall(f"POST /v1/jobs?steps=1 HTTP/1.1\r\nHost: x\r\nContent-Length: {len(PICTURE)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n".encode())
        check(s.recv(100).startswith(b"HTTP/1.1 100"), "100 where it is taken")
        s.sendall(PICTURE)
        check(b"202 Accepted" in drain_socket(s, 5), "and then the job")


@uses("fake")
def test_waits(d):
    for prefer, least, most in (("respond-async", 0, 0.9), ("wait=1", 0.9, 4), ("respond-async, wait=1", 0.9, 4)):
        began = time.monotonic()
        a = d.curl("/v1/upscale?steps=900&seed=1", data=plain(300, 300), headers=[f"Prefer: {prefer}"])
        took = time.monotonic() - began
        check(a.status == 202 and a.header("location") == f"/v1/jobs/{a.json()['id']}" and least <= took, f"{prefer}: 202 in time", (a.status, took))
        check(a.json()["state"] in ("queued", "running"), "the job goes on")
        began = time.monotonic()
        b = d.curl(f"/v1/jobs/{a.json()['id']}?wait=1")
        check(b.status == 200 and b.json()["state"] in ("queued", "running") and time.monotonic() - began >= 0.9, "a long poll answers when its time is over")
        check(d.curl(f"/v1/jobs/{a.json()['id']}", "-X", "DELETE").status == 204, "deleted")


@uses("fake")
def test_json_with_the_picture_inside(d):
    body = json.dumps({"image": {"base64": base64.b64encode(PICTURE).decode()}, "steps": 2}).encode()
    a = d.curl("/v1/upscale", data=body, headers=["Content-Type: application/json"])
    b = d.curl("/v1/upscale?steps=2", data=PICTURE)
    check(a.status == 200 and a.body == b.body, "the same picture by either way", (a.status, b.status))


@uses("fake")
def test_names_of_metrics(d):
    d.curl("/v1/upscale?steps=2", data=PICTURE)
    d.curl("/v1/jobs?nonsense=1", data=PICTURE)
    text = d.curl("/metrics").body.decode()
    for name, labels in METRICS.items():
        line = re.search(rf"^{name}(?:_bucket|_count|_sum)?(?:\{{(.*?)\}})? ", text, re.M)
        check(line and all(f'{label}="' in (line.group(1) or "") for label in labels), name, line and line.group(0))
    check('yodad_windows_total{kind="run"}' in text and 'yodad_windows_total{kind="skipped"}' in text, "both kinds of windows")


@uses("fake")
def test_defaults_and_what_is_ready(d):
    check(json.loads(d.curl("/readyz?verbose").body)["ready"] is True and d.curl("/readyz").body == b"ready\n", "ready, in a word or at length")
    shown = subprocess.run([YODAD, "--check-config"], capture_output=True, text=True, timeout=30)
    check(json.loads(shown.stdout)["sse_heartbeat_ms"] == 15000, "a comment every 15 s unless it is told otherwise", shown.stderr)
