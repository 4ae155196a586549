"""Event streams: order, ids, replay, formats, many at once, slow readers."""
import base64
import json
import random
import re
import subprocess
import threading
import time

from harness import Daemon, check, parse_head, plain, png, sse, textured, uses

PICTURE = textured(64, 48)
FINAL = ("succeeded", "failed", "cancelled")


def stream(d, job, *headers, query="", timeout=20):
    a = d.curl(f"/v1/jobs/{job}/events{query}", "-N", headers=headers, timeout=timeout)
    return a, sse(a.body.decode()) if a.status == 200 else []


@uses("fake")
def test_a_whole_stream(d):
    job = d.job(PICTURE, "?steps=12")
    a, events = stream(d, job)
    names, ids = [e[1] for e in events], [e[0] for e in events]
    check(a.header("content-type").startswith("text/event-stream"), "its type", a.headers)
    check(a.header("cache-control") == "no-store" and a.header("x-accel-buffering") == "no", "nobody buffers it", a.headers)
    check(a.body.startswith(b"retry: "), "retry comes first", a.body[:40])
    check(ids == sorted(set(ids)), "ids strictly increase", ids)
    check(names[0] == "queued" and names[-1] == "succeeded" and names.index("started") < names.index("attention"), "in order", names)
    steps = [e[2]["step"] for e in events if e[1] == "step"]
    check(steps == list(range(1, 13)), "every step once", steps)
    shares = [e[2]["active_share"] for e in events if e[1] == "step"]
    check(shares == sorted(shares) and shares[-1] == 1.0, "masks only grow", shares)
    check("preview" in names, "previews are drawn for who watches", names)


@uses("fake")
def test_replay_and_resume(d):
    job = d.job(PICTURE, "?steps=8")
    d.wait_state(job, "succeeded")
    _, first = stream(d, job)
    _, second = stream(d, job)
    check(first and first == second, "a finished job's history is replayed")
    middle = first[len(first) // 2][0]
    _, rest = stream(d, job, f"Last-Event-ID: {middle}")
    check(rest == [e for e in first if e[0] > middle], "Last-Event-ID resumes behind it", rest[:1])
    _, rest = stream(d, job, query=f"?last_event_id={middle}")
    check(rest == [e for e in first if e[0] > middle], "so does the query")
    check(stream(d, job, f"Last-Event-ID: {first[-1][0]}")[0].status == 204, "204 when nothing can follow")
    check(stream(d, job, "Last-Event-ID: soon")[0].status == 400, "an id that is none")
    check(stream(d, job, "Last-Event-ID: 99999")[0].status == 400, "an id that never was")


@uses("fake")
def test_json_lines_and_inline_pictures(d):
    job = d.job(PICTURE, "?steps=40")
    a, _ = stream(d, job, "Accept: application/x-ndjson", query="?inline=1")
    check(a.header("content-type") == "application/x-ndjson", "its type", a.headers)
    lines = [json.loads(x) for x in a.body.decode().splitlines() if x]
    check(lines[-1]["event"] == "succeeded", "ends with the end", lines[-1])
    previews = [x for x in lines if x["event"] == "preview"]
    check(previews, "there are previews", [x["event"] for x in lines])
    for p in previews[:1]:
        picture = base64.b64decode(p["data"]["image"]["base64"], validate=True)
        check(p["data"]["image"]["mime"] == "image/jpeg" and picture[:2] == b"\xff\xd8" and picture[-2:] == b"\xff\xd9",
              "a whole JPEG is inside", p["data"].keys())
    plain, _ = stream(d, job, "Accept: application/x-ndjson")
    check(b"base64" not in plain.body, "without inline there is none")


@uses("fake")
def test_equal_jobs_are_served_one_after_the_other(d):
    jobs = [d.job(PICTURE, f"?steps=60&seed={i}") for i in range(4)]
    spans, lock = {}, threading.Lock()

    def watch(job):
        p = subprocess.Popen(d.curl_args(f"/v1/jobs/{job}/events", "-N"), stdout=subprocess.PIPE)
        times = [time.monotonic() for line in p.stdout if line.startswith(b"event: step")]
        p.wait()
        with lock:
            spans[job] = times
    threads = [threading.Thread(target=watch, args=(j,)) for j in jobs]
    [t.start() for t in threads]
    [t.join(30) for t in threads]
    check(all(len(t) == 60 for t in spans.values()), "each has all its steps", {j: len(t) for j, t in spans.items()})
    ordered = sorted(spans.values(), key=lambda t: t[-1])
    check(all(a[-1] < b[len(b) // 2] for a, b in zip(ordered, ordered[1:])),
          "none is half through before the one in front has ended: taking turns would make all of them as late as the last")


@uses("fake")
def test_who_waits_gets_no_previews_drawn(d):
    waited = d.curl("/v1/upscale?steps=20", data=PICTURE).header("x-job-id")
    polled = d.job(PICTURE, "?steps=20")
    check(d.curl(f"/v1/jobs/{polled}?wait=20").json()["state"] == "succeeded", "the long poll ends")
    for job, how in ((waited, "POST /v1/upscale"), (polled, "?wait=")):
        names = [e[1] for e in stream(d, job)[1]]
        check(names.count("step") == 20 and "preview" not in names, how + " asks for no previews", names)


@uses("fake")
def test_numbers_are_short(d):
    job = d.job(PICTURE, "?steps=9&lower_bound=0.4")
    texts = [stream(d, job)[0].body] + [d.curl(p).body for p in (f"/v1/jobs/{job}", "/v1/jobs", "/v1/capabilities", "/v1/models")]
    for text in texts:
        long = re.findall(rb"[0-9]+\.[0-9]{11,}", text)
        check(not long, "no number has more digits than it is worth", long[:3])
    check(b'"lower_bound":0.4,' in texts[1] or b'"lower_bound":0.4}' in texts[1], "0.4 is 0.4", texts[1])


def test_a_trimmed_history_says_so():
    d = Daemon(device="fake", fake_unit_us=0, max_events=64)
    job = d.job(PICTURE, "?steps=300&lower_bound=1")
    d.wait_state(job, "succeeded")
    _, whole = stream(d, job)
    ids, names = [e[0] for e in whole], [e[1] for e in whole]
    check(ids == sorted(set(ids)) and len(ids) <= 66, "ids increase, and the log is bounded", len(ids))
    check(names[:4] == ["queued", "started", "attention", "gap"] and names.count("gap") == 1, "the gap is told where it is", names[:6])
    steps = [e[2]["step"] for e in whole if e[1] == "step"]
    check(steps == list(range(steps[0], 301)) and steps[0] > 200, "the latest steps are there, without a hole", steps[:2])
    told = whole[3]
    check(told[2]["after"] == 3 and told[2]["job"]["id"] == job and told[2]["job"]["state"] == "succeeded",
          "a snapshot of the job makes up for it", told)
    _, rest = stream(d, job, f"Last-Event-ID: {told[0]}")
    check(rest == whole[4:], "its id resumes behind it", rest[:1])
    _, rest = stream(d, job, "Last-Event-ID: 10")
    check(rest[0][1] == "gap" and rest[0][2]["after"] == 10 and rest[1:] == whole[4:], "a cursor inside it is told too", rest[:1])
    check(stream(d, job, f"Last-Event-ID: {ids[-1]}")[0].status == 204, "204 at the end")
    check(d.stop() == 0, "exit 0")


@uses("fake")
def test_two_readers_of_one_job_see_the_same(d):
    job = d.job(PICTURE, "?steps=40")
    got = [None, None]

    def watch(i):
        got[i] = stream(d, job)[1]
    threads = [threading.Thread(target=watch, args=(i,)) for i in range(2)]
    [t.start() for t in threads]
    [t.join(20) for t in threads]
    keep = [[e for e in g if e[1] != "preview"] for g in got]
    check(keep[0] == keep[1] and len(keep[0]) >= 43, "state events agree", [len(k) for k in keep])


@uses("fake")
def test_a_cancelled_job_ends_its_stream(d):
    job = d.job(textured(300, 300), "?steps=200")
    result = []
    t = threading.Thread(target=lambda: result.append(stream(d, job)[1]))
    t.start()
    time.sleep(0.3)
    began = time.monotonic()
    check(d.curl(f"/v1/jobs/{job}", "-X", "DELETE").status == 204, "deleted")
    t.join(5)
    check(not t.is_alive() and time.monotonic() - began < 2, "the stream ends at once")
    check(result and result[0][-1][1] == "cancelled", "with the final event", result and result[0][-1:])


def test_a_slow_reader_loses_previews_only():
    d = Daemon(device="fake", fake_unit_us=100, preview_interval_ms=0, preview_max_side=2048)
    noise = random.Random(5)
    job = d.job(png(300, 300, lambda x, y: noise.randbytes(3)), "?steps=100")
    with d.connect(receive_buffer=16384) as s:
        s.sendall(f"GET /v1/jobs/{job}/events?inline=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = bytearray(s.recv(100))
        check(d.wait_state(job, "succeeded", seconds=25) == "succeeded", "the job does not wait for its reader")
        s.settimeout(8)
        while not got.endswith(b"\r\n0\r\n\r\n"):
            got += s.recv(1 << 20)
    head, _, body = bytes(got).partition(b"\r\n\r\n")
    check(parse_head(head.decode("latin-1"))[0] == 200, "it is a stream", head[:60])
    events = sse(b"".join(dechunk(body)).decode())
    steps = [e[2]["step"] for e in events if e[1] == "step"]
    check(steps == list(range(1, 101)), "every step arrives", (len(steps), steps[:3], steps[-3:]))
    check(events[-1][1] == "succeeded", "and so does the end", events[-1][1])
    dropped = re.search(rb"yodad_sse_dropped_previews_total (\d+)", d.curl("/metrics").body)
    check(dropped and int(dropped.group(1)) > 0, "previews were skipped, and counted", dropped)
    check(d.stop() == 0, "exit 0")


def dechunk(body):
    while body:
        size, _, rest = body.partition(b"\r\n")
        n = int(size, 16)
        if n == 0:
            return
        yield rest[:n]
        body = rest[n + 2:]


@uses("strict")
def test_heartbeats(d):
    job = d.job(plain(64, 64), "?steps=900")
    p = subprocess.run(d.curl_args(f"/v1/jobs/{job}/events", "-N", timeout=2), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    d.curl(f"/v1/jobs/{job}", "-X", "DELETE")
    check(p.stdout.count(b"event: step") > 5, "a busy stream goes on beyond every deadline", p.stdout.count(b"event: step"))
    blocker = [d.job(plain(600, 600), f"?steps=500&seed={i}") for i in range(4)]
    d.wait_step(blocker[0])
    waiting = d.job(plain(600, 600), "?steps=900&priority=low")
    p = subprocess.run(d.curl_args(f"/v1/jobs/{waiting}/events", "-N", timeout=2), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    check(p.stdout.count(b"\n:\n") >= 5, "a quiet one has comments", p.stdout)
    for j in blocker + [waiting]:
        d.curl(f"/v1/jobs/{j}", "-X", "DELETE")
