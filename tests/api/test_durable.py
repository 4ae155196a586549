"""Durable jobs: what a restart, a kill -9 and a full disk leave of them."""
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import kill_abuse
from harness import YODAD, Daemon, check, sse, textured

PICTURE = textured(64, 48)
LARGE = textured(200, 160)


class State:
    """A state directory and the servers on it, one after the other."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="yodad-state-")
        self.daemons = []

    def start(self, **flags):
        d = Daemon(**{**dict(device="fake", fake_unit_us=2000, state_dir=os.path.join(self.dir, "state")), **flags})
        self.daemons.append(d)
        return d

    def kill(self):
        d = self.daemons[-1]
        d.process.send_signal(signal.SIGKILL)
        d.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for d in self.daemons:
            if d.alive():
                d.process.kill()
                d.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def events_of(d, job, *args, **kw):
    return sse(d.curl(f"/v1/jobs/{job}/events", *args, **kw).body.decode())


def test_killed_in_mid_job_and_while_queued():
    query = "?steps=40&sampler=dpmpp_2m&fidelity=0.2"
    whole = Daemon(device="fake")
    want, want_next = (whole.curl("/v1/upscale" + q, data=LARGE).body for q in (query, "?steps=3&seed=5"))
    whole.stop()
    with State() as s:
        d = s.start(max_running=1, checkpoint_interval_ms=50)
        a = d.submit(PICTURE, "?steps=3")
        check(a.status == 202 and a.header("x-durability") == "fsync", "the answer says what it is worth", a.headers)
        done = a.json()["id"]
        d.wait_state(done, "succeeded")
        before = d.curl(f"/v1/jobs/{done}").json()
        result, told = d.curl(f"/v1/jobs/{done}/result").body, events_of(d, done)
        mask = d.curl(f"/v1/jobs/{done}/mask?step=2").body
        job, queued = d.job(LARGE, query), d.job(LARGE, "?steps=3&seed=5")
        d.wait_state(job, "running")
        deadline = time.monotonic() + 20
        while d.curl(f"/v1/jobs/{job}").json()["progress"]["step"] < 8 and time.monotonic() < deadline:
            time.sleep(0.05)
        seen = events_of(d, job, "-m", "0.3")[-1][0]
        s.kill()

        d = s.start(max_running=1, checkpoint_interval_ms=50)
        check(d.curl(f"/v1/jobs/{done}").json() == before, "a finished job is answered as before", d.curl(f"/v1/jobs/{done}").body[:300])
        check(d.curl(f"/v1/jobs/{done}/result").body == result, "so is its result")
        check(events_of(d, done) == told, "and its history")
        check(d.curl(f"/v1/jobs/{done}/mask?step=2").body == mask and d.curl(f"/v1/jobs/{done}/attention").status == 200, "and its pictures")
        listed = [j["id"] for j in d.curl("/v1/jobs").json()["jobs"]]
        check(listed == [queued, job, done], "the list has all of them, newest first", listed)
        check(d.wait_state(job, "succeeded") == "succeeded" and d.curl(f"/v1/jobs/{job}/result").body == want, "same bytes in the end")
        now = d.curl(f"/v1/jobs/{job}").json()
        check(now["resumed"] == 1 and now["created"] and now["settings"]["sampler"] == "dpmpp_2m", "it says that it was taken up", now)
        rest = events_of(d, job, headers=[f"Last-Event-ID: {seen}"])
        ids = [e[0] for e in rest]
        check(ids and ids[0] >= seen and ids == sorted(set(ids)) and rest[-1][1] == "succeeded", "ids go on growing", (seen, ids[:3]))
        check(rest[0][1] == "gap", "and who was there before is told of a gap", rest[0][:2])
        steps = [e[2]["step"] for e in rest if e[1] == "step"]
        check(steps and steps[0] > 1 and steps[-1] == 40, "it went on from its checkpoint", steps[:3])
        check("goes on from its checkpoint" in d.log_text(), "the log says so")
        d.wait_state(queued, "succeeded")
        check(d.curl(f"/v1/jobs/{queued}/result").body == want_next, "the queued one has its own bytes")
        check(d.curl(f"/v1/jobs/{queued}").json()["started"] >= now["finished"][:19], "and kept its place behind the other")
        check(d.stop() == 0 and os.listdir(os.path.join(s.dir, "state", "checkpoints")) == [], "nothing is left over")


def test_a_planned_restart_loses_nothing():
    with State() as s:
        d = s.start(max_running=1, drain_timeout_ms=300)
        running, waiting = d.job(LARGE, "?steps=60"), d.job(PICTURE, "?steps=2")
        d.wait_state(running, "running")
        answer = []
        t = threading.Thread(target=lambda: answer.append(d.curl("/v1/upscale?steps=2&seed=9", data=PICTURE)))
        t.start()
        time.sleep(0.4)
        began = time.monotonic()
        check(d.stop(seconds=10) == 0 and time.monotonic() - began < 5, "it does not wait for all of them", time.monotonic() - began)
        t.join(10)
        check(answer and answer[0].status == 202, "who waits is told where the job will be", answer and (answer[0].status, answer[0].body[:200]))
        d = s.start()
        for job in (running, waiting, answer[0].json()["id"]):
            check(d.wait_state(job, "succeeded") == "succeeded", "goes on in the next process")
        check(d.stop() == 0, "exit 0")


def handed_over(balanced, **flags):
    """SIGTERM in mid-job without time to finish it; what the next process makes of it. Returns (events, result, seconds to the exit, log)."""
    query = "?steps=60&sampler=dpmpp_2m&fidelity=0.2"
    with State() as s:
        d = s.start(fake_unit_us=4000, drain_timeout_ms=0, checkpoint_interval_ms=3600000, **flags)
        job = d.job(LARGE, query)
        deadline = time.monotonic() + 20
        while d.curl(f"/v1/jobs/{job}").json()["progress"]["step"] < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        streamed = []
        reading = threading.Thread(target=lambda: streamed.append(events_of(d, job)))
        reading.start()
        time.sleep(0.1)
        began = time.monotonic()
        d.process.send_signal(signal.SIGTERM)
        if not balanced: # a signal of its own: two that wait together are one
            time.sleep(0.02)
            if d.alive():
                d.process.send_signal(signal.SIGTERM)
        check(d.wait_exit(20) == 0, "exit 0")
        took = time.monotonic() - began
        reading.join(10)
        n = s.start(fake_unit_us=100)
        check(n.wait_state(job, "succeeded", "failed") == "succeeded", "the next process ends it")
        last = streamed[0][-1][0]
        rest = events_of(n, job, headers=[f"Last-Event-ID: {last}"])
        whole = events_of(n, job)
        result, log = n.curl(f"/v1/jobs/{job}/result").body, n.log_text()
        check(n.stop() == 0, "exit 0")
        return streamed[0] + rest, whole, result, took, log


def test_hand_over():
    """A planned restart in mid-job: it goes on at the very step where it was, and a client that comes back sees the next event."""
    undisturbed = Daemon(device="fake")
    want = undisturbed.curl("/v1/upscale?steps=60&sampler=dpmpp_2m&fidelity=0.2", data=LARGE).body
    undisturbed.stop()
    seen, whole, result, took, log = handed_over(True)
    check(result == want, "the same bytes", (len(result), len(want)))
    check(took < 3, "without waiting for the job", took)
    check("goes on from its checkpoint" in log, "from where it was", log[-400:])
    for events in (seen, whole):
        steps = [e[2]["step"] for e in events if e[1] == "step"]
        check(steps == list(range(1, 61)), "every step once", steps)
        check(not any(e[1] == "gap" for e in events) and events[-1][1] == "succeeded", "no gap", [e[1] for e in events])
        check([e[0] for e in events] == sorted({e[0] for e in events}), "ids grow", [e[0] for e in events])
    seen, whole, result, took, log = handed_over(False)
    check(result == want and whole[-1][1] == "succeeded", "a second signal loses nothing either")
    check(took < 2, "and waits for nothing", took)


def test_ends_and_deletions_are_stored():
    with State() as s:
        d = s.start(max_running=1)
        job, queued, gone = d.job(LARGE, "?steps=60"), d.job(PICTURE), d.job(PICTURE, "?seed=3")
        d.wait_state(job, "running")
        a = d.curl(f"/v1/jobs/{job}/cancel", "-X", "POST")
        check(a.status == 200 and a.json()["state"] == "cancelled", "cancelled is answered when it is", (a.status, a.body[:200]))
        check(d.curl(f"/v1/jobs/{gone}", "-X", "DELETE").status == 204, "deleted")
        s.kill()
        d = s.start()
        check(d.curl(f"/v1/jobs/{job}").json()["state"] == "cancelled", "and stays so")
        check(events_of(d, job)[-1][1] == "cancelled", "its history too")
        check(d.curl(f"/v1/jobs/{gone}").status == 410, "what was deleted is gone")
        check(d.wait_state(queued, "succeeded") == "succeeded", "the other one is not")
        check(d.stop() == 0, "exit 0")


def test_expiry():
    with State() as s:
        d = s.start(job_ttl_s=1)
        job = d.job(PICTURE, "?steps=1")
        deadline = time.monotonic() + 10
        while d.curl(f"/v1/jobs/{job}").status == 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        check(d.curl(f"/v1/jobs/{job}").status == 410 and d.curl(f"/v1/jobs/{job}/result").status == 410, "gone after its time")
        check(os.listdir(os.path.join(s.dir, "state", "pictures")) == [], "with its files")
        s.kill()
        d = s.start()
        check(d.curl(f"/v1/jobs/{job}").status == 410, "the next process knows")
        check(d.stop() == 0, "exit 0")


def test_identical_requests():
    with State() as s:
        d = s.start(content_cache="true")
        first = d.curl("/v1/upscale?steps=3", data=PICTURE)
        units = d.curl("/metrics").body
        again = d.curl("/v1/upscale?steps=3", data=PICTURE)
        check(again.status == 200 and again.body == first.body, "the same bytes")
        job = d.curl(f"/v1/jobs/{again.header('x-job-id')}").json()
        check(job["cached"] is True and job["id"] != first.header("x-job-id"), "a job of its own, from the cache", job)
        count = [x for x in units.splitlines() if x.startswith(b'yodad_windows_total{kind="run"}')]
        check(count and count[0] in d.curl("/metrics").body.splitlines(), "nothing was computed", count)
        other = d.curl("/v1/upscale?steps=3&seed=1", data=PICTURE)
        check("cached" not in d.curl(f"/v1/jobs/{other.header('x-job-id')}").json(), "another seed is another request")
        # At a time: one computes, the others share its outcome; when it is cancelled, the next takes its place.
        jobs = [d.job(LARGE, "?steps=20") for _ in range(4)]
        d.wait_state(jobs[0], "running")
        check(all(d.curl(f"/v1/jobs/{j}").json()["state"] == "queued" for j in jobs[1:]), "the others wait")
        d.curl(f"/v1/jobs/{jobs[0]}/cancel", "-X", "POST")
        results = []
        for j in jobs[1:]:
            d.wait_state(j, "succeeded")
            results.append(d.curl(f"/v1/jobs/{j}/result").body)
        check(len(set(results)) == 1 and results[0][:4] == b"\x89PNG", "one result")
        cached = [d.curl(f"/v1/jobs/{j}").json().get("cached", False) for j in jobs[1:]]
        check(cached == [False, True, True], "computed once", cached)
        check(all(d.curl(f"/v1/jobs/{j}/attention").status == 200 for j in jobs[1:]), "with its pictures")
        s.kill()
        d = s.start(content_cache="true")
        again = d.curl("/v1/upscale?steps=3", data=PICTURE)
        check(again.body == first.body and d.curl(f"/v1/jobs/{again.header('x-job-id')}").json()["cached"], "the cache survives too")
        check(d.stop() == 0, "exit 0")


def test_a_job_that_kills_the_server_is_given_up():
    with State() as s:
        job = None
        for attempt in range(2):
            d = s.start(max_attempts=2, checkpoint_interval_ms=0, fake_unit_us=20000)
            job = job or d.job(LARGE, "?steps=100")
            d.wait_state(job, "running")
            s.kill()
        d = s.start(max_attempts=2)
        d.wait_state(job, "failed")
        problem = d.curl(f"/v1/jobs/{job}").json()["problem"]
        check("2 times" in problem["detail"], "and says why", problem)
        check(d.stop() == 0, "exit 0")


def test_one_process_and_no_room():
    with State() as s:
        d = s.start()
        folder = os.path.join(s.dir, "state")
        p = subprocess.run([YODAD, "--listen=127.0.0.1:0", "--device=fake", f"--state-dir={folder}"], stderr=subprocess.PIPE, timeout=20)
        words = p.stderr.decode()
        check(p.returncode == 1 and "state_dir" in words and str(d.process.pid) in words, "a second process is refused", words[-300:])
        check(d.stop() == 0, "exit 0")
        d = None
        p = subprocess.Popen([YODAD, "--listen=127.0.0.1:0", "--device=fake", f"--state-dir={folder}", "--disk-reserve-bytes=1024GiB"],
                             stderr=subprocess.PIPE, text=True)
        try:
            port = next(line.split('"address":"127.0.0.1:')[1].split('"')[0] for line in p.stderr if '"address"' in line)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                a = kill_abuse.request(int(port), "POST", "/v1/jobs", PICTURE)
                if a and b"/problems/device-failed" not in a[2]:
                    break
                time.sleep(0.05)
            check(a[0] == 507 and a[1]["Retry-After"] and b"insufficient-storage" in a[2], "no job when the disk is nearly full", a)
            a = kill_abuse.request(int(port), "GET", "/readyz?verbose")
            check(a[0] == 503 and b"nearly full" in a[2], "not ready either", a)
        finally:
            p.terminate()
            check(p.wait(20) == 0, "exit 0")
        p.stderr.close()


def test_killed_ten_times_under_load():
    with State() as s:
        kill_abuse.kill_and_restart(os.path.join(s.dir, "state"), 10)
