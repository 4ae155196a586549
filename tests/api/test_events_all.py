"""GET /v1/events: one stream over all jobs."""
import base64
import json
import random
import re
import shutil
import subprocess
import tempfile
import time

from harness import Daemon, check, drain_socket, png, read_png, sse, textured, uses
from test_events import dechunk

PICTURE = textured(64, 48)


class Watch:
    """A stream that is read in the background."""

    def __init__(self, d, query="", *headers):
        self.file = tempfile.TemporaryFile()
        self.p = subprocess.Popen(d.curl_args("/v1/events" + query, "-N", headers=headers, timeout=60), stdout=self.file, stderr=subprocess.DEVNULL)
        self.until(lambda text: text.count("\n\n") >= 2 or '"event"' in text)

    def text(self):
        self.file.seek(0)
        return self.file.read().decode()

    def until(self, done, seconds=20):
        deadline = time.monotonic() + seconds
        while not done(self.text()) and time.monotonic() < deadline and self.p.poll() is None:
            time.sleep(0.05)
        return self.text()

    def events(self, done=lambda text: True):
        text = self.until(done)
        self.p.terminate()
        self.p.wait()
        return sse(text[:text.rindex("\n\n") + 2] if "\n\n" in text else "")


def ended(*jobs):
    finals = ("event: succeeded", "event: cancelled", "event: failed")
    return lambda text: sum(text.count(f) for f in finals) >= len(jobs)


@uses("fake")
def test_all_jobs_in_one_stream(d):
    w = Watch(d)
    jobs = [d.job(PICTURE, f"?steps=6&seed={i}") for i in range(3)]
    events = w.events(ended(*jobs))
    ids = [e[0] for e in events]
    check(events[0][1] == "snapshot" and "jobs" in events[0][2], "it begins with how things are", events[0][1])
    check(ids == sorted(set(ids)) and ids[-1] < 2 ** 53, "ids grow across jobs", ids[:5])
    for j in jobs:
        mine = [e for e in events if e[2].get("job") == j]
        names = [e[1] for e in mine]
        check(names[0] == "queued" and names[-1] == "succeeded" and names.count("step") == 6, "every event of a job", names)
        own = [e for e in sse(d.curl(f"/v1/jobs/{j}/events", "-N").body.decode()) if e[1] == "step"]
        check([{**e[2], "job": j} for e in own] == [e[2] for e in mine if e[1] == "step"], "with its data")


@uses("fake")
def test_resuming(d):
    w = Watch(d)
    job = d.job(PICTURE, "?steps=5")
    events = w.events(ended(job))
    middle = next(e for e in events if e[1] == "step" and e[2]["step"] == 3)
    wanted = [e for e in events if e[0] > middle[0]]
    rest = Watch(d, "?previews=0", f"Last-Event-ID: {middle[0]}").events(ended(job))
    check(rest == [e for e in wanted if e[1] != "preview"], "Last-Event-ID resumes behind it", (rest, wanted))
    again = Watch(d, f"?last_event_id={middle[0]}").events(ended(job))
    check([e for e in again if e[1] != "preview"] == rest, "so does the query", again)
    for strange in (7, 2 ** 52):
        gap = Watch(d, "", f"Last-Event-ID: {strange}").events()
        check(gap[0][1] == "gap" and gap[0][2]["after"] == strange and any(j["id"] == job for j in gap[0][2]["jobs"]), "an id of other times is a gap", gap[:1])
    check(d.curl("/v1/events", headers=["Last-Event-ID: soon"]).status == 400, "an id that is none")


@uses("fake")
def test_some_jobs_only(d):
    a, b, c = (d.job(PICTURE, f"?steps=40&seed={i}") for i in range(3))
    w = Watch(d, f"?jobs={a},{c}&previews=false")
    for j in (a, b, c):
        d.wait_state(j, "succeeded")
    events = w.events(ended(a, c))
    check({e[2]["job"] for e in events[1:]} == {a, c}, "of those that are named", {e[2].get("job") for e in events})
    check([j["id"] for j in events[0][2]["jobs"]] == [a, c] and not any(e[1] == "preview" for e in events), "no previews when not wanted")
    check(d.curl("/v1/events?jobs=00000000-0000-4000-8000-000000000000").status == 404, "a job that is not there")
    many = ",".join([a] * 65)
    check(d.curl(f"/v1/events?jobs={many}").status == 422, "too many")


@uses("fake")
def test_lines_and_previews(d):
    p = subprocess.Popen(d.curl_args("/v1/events", "-N", headers=["Accept: application/x-ndjson"], timeout=20), stdout=subprocess.PIPE)
    first = json.loads(p.stdout.readline())
    check(first["event"] == "snapshot", "a snapshot as a line", first)
    job, seen = d.job(PICTURE, "?steps=60"), []
    for line in p.stdout:
        if line.strip():
            seen.append(json.loads(line))
        if seen and seen[-1]["event"] == "succeeded":
            break
    p.terminate()
    p.wait()
    check(any(e["event"] == "preview" and e["data"]["link"] == f"/v1/jobs/{job}/preview" for e in seen), "previews are drawn for who watches, as links",
          [e["event"] for e in seen])


@uses("fake")
def test_a_stream_of_named_jobs_ends_with_them(d):
    a, b = d.job(PICTURE, "?steps=4"), d.job(PICTURE, "?steps=60&seed=2")
    p = subprocess.run(d.curl_args(f"/v1/events?jobs={a},{b}", "-N", timeout=20), stdout=subprocess.PIPE)
    events = sse(p.stdout.decode())
    check(p.returncode == 0 and [e[1] for e in events].count("succeeded") >= 1 and events[-1][1] == "succeeded", "it ends by itself", (p.returncode, events[-1:]))
    last = f"Last-Event-ID: {events[-1][0]}"
    check(d.curl(f"/v1/events?jobs={a},{b}", headers=[last]).status == 204, "who has seen all of it is sent away")
    p = subprocess.run(d.curl_args(f"/v1/events?jobs={a},{b}", "-N", headers=[f"Last-Event-ID: {events[-2][0]}"], timeout=20), stdout=subprocess.PIPE)
    check(sse(p.stdout.decode()) == events[-1:] and p.returncode == 0, "who has not gets the rest", p.stdout[:300])
    p = subprocess.run(d.curl_args(f"/v1/events?jobs={a}", "-N", timeout=20), stdout=subprocess.PIPE)
    events = sse(p.stdout.decode())
    check(p.returncode == 0 and [e[1] for e in events] == ["snapshot"] and events[0][2]["jobs"][0]["state"] == "succeeded", "ended jobs are a snapshot", events)
    check(d.curl(f"/v1/jobs/{a}", "-X", "DELETE").status == 204, "deleted")
    check(d.curl(f"/v1/events?jobs={a},{b}").status == 410, "a job that is gone, for who never saw it")
    check(d.curl(f"/v1/events?jobs={a},{b}", headers=[last]).status == 204, "who had its end is not sent into the wilderness")


@uses("fake")
def test_inline_pictures(d):
    w = Watch(d, "?inline=1")
    masked, plain = d.job(textured(96, 64), "?steps=120&attention=edge&lower_bound=0.3"), d.job(PICTURE, "?steps=60&lower_bound=1")
    events = w.events(ended(masked, plain))
    mine = [e[2] for e in events if e[1] == "preview" and e[2]["job"] == masked and "mask_image" in e[2]]
    check(mine, "previews with their masks", [e[1] for e in events if e[2].get("job") == masked][:20])
    for p in mine[:1]:
        picture, mask = (base64.b64decode(p[k]["base64"], validate=True) for k in ("image", "mask_image"))
        check(p["image"]["mime"] == "image/jpeg" and picture[:2] == b"\xff\xd8" and picture[-2:] == b"\xff\xd9", "a whole JPEG", picture[:4])
        width, height, _, _, pixels = read_png(mask)
        check((width, height) == (p["width"], p["height"]) and set(pixels) <= {0, 255}, "a mask of the same size", (width, height, set(pixels)))
        whole = read_png(d.curl(p["mask"]).body)
        check((whole[0], whole[1]) == (width, height) and whole[4] == pixels, "it is the mask of that step", (whole[:2], width, height))
    check(not any("mask_image" in e[2] for e in events if e[2].get("job") == plain), "where every pixel is refined there is none")
    maps = [e[2] for e in events if e[1] == "attention" and e[2]["job"] == masked]
    check(maps and base64.b64decode(maps[0]["image"]["base64"])[:4] == b"\x89PNG", "the map too", maps)
    own = [e[2] for e in sse(d.curl(f"/v1/jobs/{masked}/events?inline=1", "-N").body.decode()) if e[1] == "preview"]
    check(own and all({**o, "job": masked} in [e[2] for e in events] for o in own), "as the job's own stream has it", [o["step"] for o in own])
    without = Watch(d, f"?last_event_id={events[0][0]}").events(ended(masked, plain))
    check(not any("image" in e[2] for e in without), "without inline there are links")


def test_a_slow_reader_loses_previews_only():
    d = Daemon(device="fake", fake_unit_us=100, preview_interval_ms=0, preview_max_side=2048)
    noise = random.Random(7)
    pictures = [png(300, 300, lambda x, y: noise.randbytes(3)) for _ in range(2)]
    with d.connect(receive_buffer=16384) as s:
        s.sendall(b"GET /v1/events?inline=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        got = bytearray(s.recv(100))
        jobs = [d.job(p, "?steps=100") for p in pictures]
        for j in jobs:
            check(d.wait_state(j, "succeeded", seconds=40) == "succeeded", "jobs do not wait for readers")
        got += drain_socket(s, 2)
    body = bytes(got).partition(b"\r\n\r\n")[2]
    events = sse(b"".join(dechunk(body + b"0\r\n\r\n")).decode())
    check(not any(e[1] == "gap" for e in events), "no gap")
    for j in jobs:
        mine = [e for e in events if e[2].get("job") == j]
        check([e[2]["step"] for e in mine if e[1] == "step"] == list(range(1, 101)), "every step arrives", [e[2].get("step") for e in mine][:5])
        names = [e[1] for e in mine if e[1] not in ("step", "preview")]
        check(names == ["queued", "started", "attention", "succeeded"], "and every state", names)
        previews = [e for e in mine if e[1] == "preview"]
        check(all(e[2]["image"]["base64"] for e in previews), "a preview that is told has its picture")
    dropped = re.search(rb"yodad_sse_dropped_previews_total (\d+)", d.curl("/metrics").body)
    check(dropped and int(dropped.group(1)) > 0, "previews were skipped, and counted", dropped)
    check(d.stop() == 0, "exit 0")


def test_ids_grow_across_restarts_and_the_ring_is_bounded():
    state = tempfile.mkdtemp(prefix="yodad-feed-")
    flags = dict(device="fake", fake_unit_us=300, state_dir=state, feed_events=64)
    try:
        d = Daemon(**flags)
        w = Watch(d)
        job = d.job(PICTURE, "?steps=3")
        before = w.events(ended(job))
        check(d.stop() == 0, "it stops")
        d = Daemon(**flags)
        w = Watch(d, "", f"Last-Event-ID: {before[-1][0]}")
        other = d.job(PICTURE, "?steps=100")
        events = w.events(ended(other))
        check(events[0][1] == "gap" and events[0][0] > before[-1][0], "a gap, with a higher id", (events[0][:2], before[-1][:2]))
        check([e[2]["step"] for e in events if e[1] == "step"] == list(range(1, 101)), "who keeps up misses nothing", len(events))
        late = Watch(d, "", f"Last-Event-ID: {events[1][0]}").events()
        check(late[0][1] == "gap", "what has left the ring is a gap", late[:1])
        check(d.stop() == 0, "it stops with nobody watching")
    finally:
        shutil.rmtree(state, ignore_errors=True)


def test_streams_end_with_the_server():
    d = Daemon(device="fake")
    w = Watch(d)
    check(d.stop() == 0, "it stops although somebody watches")
    check(w.p.wait(10) == 0, "the stream has ended as it should")
