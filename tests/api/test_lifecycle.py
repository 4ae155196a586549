"""Starting, draining, stopping: what clients see while the daemon goes away."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time

from harness import YODAD, Daemon, check, drain_socket, sse, textured

PICTURE = textured(48, 48)


def start(**flags):
    return Daemon(device="fake", fake_unit_us=5000, **flags)


def test_leaving():
    """Before it drains it is not ready for a while and still does everything, so that a balancer that has not noticed yet loses nothing."""
    d = start(drain_delay_ms=1500)
    kept = d.connect()
    kept.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.2)
    events = []
    job = d.job(PICTURE, "?steps=30")
    watching = threading.Thread(target=lambda: events.append(d.curl(f"/v1/jobs/{job}/events", "-N")))
    watching.start()
    time.sleep(0.2)
    d.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    ready, live = d.curl("/readyz"), d.curl("/livez")
    check(ready.status == 503 and live.status == 200, "not ready, but alive", (ready.status, live.status))
    check(live.header("connection") == "close", "every answer closes its connection", live.headers)
    taken = d.submit(PICTURE, "?steps=2")
    check(taken.status == 202, "a new job is taken", (taken.status, taken.body[:200]))
    watching.join(5)
    check(events and sse(events[0].body.decode())[-1][1] == "succeeded", "streams go on", events and events[0].body[-100:])
    check(d.wait_state(taken.json()["id"], "succeeded") == "succeeded", "and it is done")
    check(d.stop(seconds=10) == 0, "exit 0")
    kept.close()


def test_draining():
    d = start(drain_delay_ms=300)
    answer, events = [], []
    running = threading.Thread(target=lambda: answer.append(d.curl("/v1/upscale?steps=60", data=PICTURE)))
    running.start()
    time.sleep(0.2)
    job = d.curl("/v1/jobs").json()["jobs"][0]["id"]
    watching = threading.Thread(target=lambda: events.append(d.curl(f"/v1/jobs/{job}/events", "-N")))
    watching.start()
    kept = d.connect()
    kept.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.2)
    d.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    ready, live = d.curl("/readyz"), d.curl("/livez")
    check(ready.status == 503 and live.status == 200, "not ready, but alive", (ready.status, live.status))
    check(live.header("connection") == "close", "every answer closes its connection", live.headers)
    refused = d.submit(PICTURE)
    check(refused.status == 503 and refused.json()["type"] == "/problems/draining", "no new job", (refused.status, refused.body))
    check(refused.header("retry-after"), "come again later", refused.headers)
    watching.join(5)
    check(not watching.is_alive(), "streams end")
    if events:
        check(events[0].body.startswith(b"retry:"), "with word when to come back", events[0].body[:30])
        check(sse(events[0].body.decode())[-1][1] != "succeeded", "before their job does")
    running.join(20)
    check(answer and answer[0].status == 200 and answer[0].body[:4] == b"\x89PNG", "the running job is finished and delivered",
          answer and answer[0].status)
    check(d.stop(seconds=10) == 0, "exit 0")
    kept.close()
    check('"msg":"stopped"' in d.log_text() and "handles were left open" not in d.log_text(), "nothing was left", d.log_text()[-300:])


def test_a_second_signal_does_not_wait():
    d = start(drain_timeout_ms=30000)
    answer = []
    t = threading.Thread(target=lambda: answer.append(d.curl("/v1/upscale?steps=900", data=textured(200, 200))))
    t.start()
    time.sleep(0.3)
    d.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    began = time.monotonic()
    check(d.stop(signal.SIGTERM, 5) == 0 and time.monotonic() - began < 3, "gone at once", time.monotonic() - began)
    t.join(5)
    check(answer and answer[0].status in (0, 503), "and the waiting client is told", answer and (answer[0].status, answer[0].body))


def test_the_drain_timeout_bounds_jobs():
    d = start(drain_timeout_ms=500)
    job = d.job(textured(200, 200), "?steps=900")
    d.wait_state(job, "running")
    began = time.monotonic()
    check(d.stop(seconds=10) == 0 and time.monotonic() - began < 5, "half a second and a little", time.monotonic() - began)


def test_stopping_with_everything_open():
    d = start(drain_timeout_ms=300)
    job = d.job(textured(200, 200), "?steps=900")
    sockets = []
    for text in (f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: x\r\n\r\n", f"GET /v1/jobs/{job}?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n",
                 "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\nxx", "GET /v1/jo", ""):
        for _ in range(3):
            s = d.connect()
            s.sendall(text.encode())
            sockets.append(s)
    time.sleep(0.3)
    check(d.stop(seconds=10) == 0, "exit 0")
    check("handles were left open" not in d.log_text(), "and nothing left", d.log_text()[-300:])
    ends = [drain_socket(s, 1) for s in sockets]
    check(ends[0].startswith(b"HTTP/1.1 200") and ends[3].startswith(b"HTTP/1.1 200"), "the stream and the long poll were answered",
          (ends[0][:30], ends[3][:30]))
    for s in sockets:
        s.close()


def test_an_address_in_use():
    d = start()
    p = subprocess.run([YODAD, f"--listen=127.0.0.1:{d.port}", "--device=fake"], stderr=subprocess.PIPE, timeout=20)
    words = p.stderr.decode()
    check(p.returncode == 1 and "in use" in words and str(d.port) in words, "says which and why", (p.returncode, words[-300:]))
    p = subprocess.run([YODAD, "--listen=203.0.113.7:0", "--device=fake", "--insecure-no-auth"], stderr=subprocess.PIPE, timeout=20)
    check(p.returncode == 1 and "203.0.113.7" in p.stderr.decode(), "an address that is not ours", p.stderr[-300:])
    check(d.stop() == 0, "exit 0")


def run(*args, env=None):
    p = subprocess.run([YODAD, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30, env={**os.environ, **(env or {})})
    return p.returncode, p.stdout.decode(), p.stderr.decode()


def test_the_command_line():
    status, out, _ = run("--version")
    check(status == 0 and out.startswith("yodad "), "--version", out)
    status, out, _ = run("--version", "-v")
    lines = out.split("\n", 2)
    check(status == 0 and lines[0].startswith("yodad ") and lines[1].startswith("yfp1:"), "--version -v", out)
    record = json.loads(lines[2])
    check(record["backend"] == "cpu" and "oneDNN" in record["library"] and record["vips"] and not record["model"], "its record", out)
    status, out, _ = run("--help")
    check(status == 0 and "--listen" in out and "--max-pixels" in out and "YODAD_" in out, "--help", out[:300])
    status, out, _ = run("--check-config", "--max-pixels=1000")
    check(status == 0 and json.loads(out)["max_pixels"] == 1000, "--check-config prints what is in force", out[:200])
    for args, env, words in (
        (["--no-such-flag"], {}, ["no_such_flag", "--help"]),
        (["--max-pixel=5"], {}, ["'max_pixel'", "max_pixels"]),
        (["--max-pixels=many"], {}, ["max_pixels", "many"]),
        (["--threads"], {}, ["threads"]),
        (["--listen=0.0.0.0:1"], {}, ["listen", "insecure"]),
        (["--config=/does/not/exist"], {}, ["/does/not/exist"]),
        (["--check-config"], {"YODAD_QUEUE_MAX": "0"}, ["queue_max", "environment"]),
        (["--model-dir=/does/not/exist"], {}, ["model_dir", "/does/not/exist"]),
        (["--model-dir=tests/api"], {}, ["model_dir", "no model"]),
    ):
        status, out, words_out = run(*args, env=env)
        what = " ".join(args)
        check(status == 1 and out == "", what + ": exit 1", (status, out[:200]))
        lines = words_out.splitlines()
        check(len(lines) == 1 and lines[0].startswith("yodad: "), what + ": one line", words_out[-400:])
        check(all(w in words_out for w in words), what + f": names {words}", words_out[-400:])


def test_a_model_that_cannot_be_used():
    with tempfile.TemporaryDirectory() as folder:
        for what, data in (("garbage", b"x" * 1000), ("cut", (1 << 40).to_bytes(8, "little") + b"{}"), ("empty", b"")):
            with open(os.path.join(folder, "broken.safetensors"), "wb") as f:
                f.write(data)
            status, _, words = run("--listen=127.0.0.1:0", f"--model-dir={folder}")
            last = [x for x in words.splitlines() if x.startswith("yodad: ")]
            check(status == 1, what + ": exit 1", (status, words[-300:]))
            check(len(last) == 1 and "broken.safetensors" in last[0], what + ": says which file and why", words[-600:])
        status, _, words = run("--listen=127.0.0.1:0", f"--model-dir={folder}", "--model=other")
        check(status == 1 and "other" in words and "broken" in words, "a model that is not there: which are", words[-300:])


def test_ipv6():
    try:
        socket.socket(socket.AF_INET6).bind(("::1", 0))
    except OSError:
        return  # this machine has no IPv6 loopback: nothing to serve there
    log = open(os.devnull, "w")
    p = subprocess.Popen([YODAD, "--listen=[::1]:18734", "--device=fake"], stderr=log)
    try:
        for _ in range(100):
            a = subprocess.run(["curl", "-sS", "-g", "--max-time", "2", "http://[::1]:18734/livez"], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
            if a.stdout == b"ok\n":
                break
            time.sleep(0.05)
        check(a.stdout == b"ok\n", "served on ::1", a)
    finally:
        p.terminate()
        check(p.wait(10) == 0, "exit 0")


def test_idle_costs_nothing():
    d = start()
    job = d.job(PICTURE, "?steps=1")
    d.wait_state(job, "succeeded")
    held = [d.connect() for _ in range(20)]
    for s in held:
        s.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.5)
    before = d.cpu_s()
    time.sleep(2)
    check(d.cpu_s() - before <= 0.03, "no busy loop with twenty idle connections", d.cpu_s() - before)
    for s in held:
        s.close()
    check(d.stop() == 0, "exit 0")
