"""Three yodads that share one real Redis and one folder: what one takes all know, one computes, and any answers for. test_apart.py: without the folder."""
import concurrent.futures
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import threading
import time

from cluster import FLAGS, PICTURES
from harness import SLOWNESS, Daemon, check
from test_redis import Redis

SLOW = dict(fake_unit_us=20000, max_running=1)
SHARE = float(os.environ.get("YODA_CLUSTER_SHARE", "1"))
ROUNDS = max(6, round(60 * SHARE))


class Replicas:
    def __init__(self, n=3, apart=False, **flags):
        self.apart, self.started = apart, itertools.count()
        self.folder = tempfile.mkdtemp(prefix="yodad-replicas-")
        self.redis, self.flags = Redis(self.folder), {**FLAGS, "drain_delay_ms": 0, "store_lease_ms": 2000, **flags}
        with concurrent.futures.ThreadPoolExecutor(n) as pool:
            self.of = list(pool.map(lambda _: self.start(), range(n)))

    def start(self):
        state, k = os.path.join(self.folder, "state"), next(self.started)
        where = dict(picture_store="redis", state_dir=f"{state}-{k}") if self.apart else dict(state_dir=state)
        return Daemon(**where, store=f"unix://{self.redis.socket}", **self.flags)

    def stop(self):
        left = [d for d in self.of if d.alive()]
        for d in left:
            d.process.terminate()
        for d in left:
            check(d.wait_exit(60) == 0, "a replica ends well", d.log_text()[-500:])
        self.redis.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def until(what, condition, seconds=20):
    deadline = time.monotonic() + seconds * SLOWNESS
    while time.monotonic() < deadline:
        got = condition()
        if got:
            return got
        time.sleep(0.02)
    check(False, what)
    return None


def job(d, i):
    a = d.curl(f"/v1/jobs/{i}")
    return a.json() if a.status == 200 else {"state": str(a.status)}


def states(r, i):
    return [job(d, i)["state"] for d in r.of if d.alive()]


def submit(d, query="?steps=2", picture=0):
    return d.curl("/v1/jobs" + query, data=PICTURES[picture]).json()["id"]


def result(d, i):
    a = d.curl(f"/v1/jobs/{i}/result")
    return hashlib.sha256(a.body).hexdigest() if a.status == 200 else a.status


def known(query="?steps=2", picture=0):
    d = Daemon(device="fake")
    out = hashlib.sha256(d.curl("/v1/upscale" + query, data=PICTURES[picture]).body).hexdigest()
    check(d.stop() == 0, "the undisturbed server ends well")
    return out


def who_has(r):
    """The replica that runs the only job there is: the only one that has computed anything."""
    return until("somebody runs it", lambda: next((d for d in r.of if d.alive() and computed(d)), None))


def computed(d):
    return sum(float(line.split()[-1]) for line in d.curl("/metrics").body.decode().splitlines() if line.startswith("yodad_windows_total{kind=\"run\""))


def runs_at(r, jobs):
    """Which replicas have claimed anything, by their logs."""
    return [sum('"job ended"' in line and any(i in line for i in jobs) for line in d.log_text().splitlines()) for d in r.of]


def test_all_know_what_one_takes():
    r, want = Replicas(), known()
    ids = [submit(r.of[0]) for _ in range(30)]
    for i in ids:
        for d in r.of:
            until(f"{i} succeeds everywhere", lambda: job(d, i)["state"] == "succeeded")
    for i in ids[::5]:
        check([result(d, i) for d in r.of] == [want] * 3, "the same bytes from all", i)
    ended = runs_at(r, ids)
    check(sum(ended) == len(ids) and min(ended) > 0, "each was computed once, and by all of them", ended)
    for d in r.of:
        listed = [j["id"] for j in d.curl("/v1/jobs?limit=50").json()["jobs"]]
        check(listed == ids[::-1], "the same list from all")
    r.stop()


def test_cancel_and_delete_from_anywhere():
    r = Replicas(**SLOW)
    i = submit(r.of[0], "?steps=100")
    until("it runs", lambda: "running" in states(r, i))
    until("all see that it runs", lambda: states(r, i) == ["running"] * 3)
    for k in range(3):  # one of them has it, two have not
        a = r.of[k].curl(f"/v1/jobs/{i}/cancel", "-X", "POST")
        check(a.status == 200 and a.json()["state"] == "cancelled", "cancelled", a.body)
    check(until("all see it", lambda: states(r, i) == ["cancelled"] * 3), "cancelled everywhere", states(r, i))
    ids = [submit(r.of[0], "?steps=100") for _ in range(3)]
    until("they run", lambda: all("running" in states(r, i) for i in ids))
    for k, i in enumerate(ids):
        check(r.of[k].curl(f"/v1/jobs/{i}", "-X", "DELETE").status == 204, "deleted")
        until("gone everywhere", lambda: states(r, i) == ["410"] * 3)
    i = submit(r.of[1])
    until("there is room again", lambda: states(r, i) == ["succeeded"] * 3)
    r.stop()


def kill_in_the_middle(r, saved):
    """Kill who has a job when saved(its id) says that it can be gone on with."""
    query = "?steps=40&sampler=ancestral"
    want = known(query)
    i = submit(r.of[0], query)
    until("it runs and is saved", lambda: saved(i))
    d = who_has(r)
    d.process.kill()
    d.process.wait()
    until("another one takes it over", lambda: set(states(r, i)) == {"succeeded"}, 40)
    left = [x for x in r.of if x.alive()]
    check([result(x, i) for x in left] == [want] * 2, "and computes the same bytes")
    check(job(left[0], i)["resumed"] == 1, "it says so", job(left[0], i))
    check(any("goes on from its checkpoint" in x.log_text() for x in left), "it did not begin anew")


def test_one_is_killed_in_the_middle():
    r = Replicas(**SLOW)
    kill_in_the_middle(r, lambda i: os.path.exists(os.path.join(r.folder, "state", "checkpoints", i)))
    r.stop()


def test_one_leaves_in_the_middle():
    r, query = Replicas(**SLOW), "?steps=120&sampler=ancestral"
    want = known(query)
    ids = [submit(r.of[0], query) for _ in range(4)]
    until("three run", lambda: sum("running" in states(r, i) for i in ids) == 3)
    check(r.of[1].stop(seconds=60) == 0, "it leaves")
    for i in ids:
        until("all are computed", lambda: set(states(r, i)) == {"succeeded"}, 60)
        check({result(d, i) for d in r.of if d.alive()} == {want}, "to the same bytes")
    check(any("goes on from its checkpoint" in d.log_text() for d in r.of if d.alive()), "the one it had was not begun anew")
    r.stop()


def test_what_one_has_told_all_know():
    """Each request goes to another one than the one before, at once: no 404, no older state."""
    r = Replicas(fake_unit_us=0)
    for k in range(ROUNDS):
        a, b, c = (r.of[(k + n) % 3] for n in range(3))
        i = submit(a)
        check(b.curl(f"/v1/jobs/{i}").status == 200, "it is known")
        check(c.curl(f"/v1/jobs?limit=1").json()["jobs"][0]["id"] == i, "it is listed")
        check(a.curl(f"/v1/jobs/{i}?wait=20").json()["state"] == "succeeded", "it succeeds")
        check(b.curl(f"/v1/jobs/{i}/result").status == 200 and c.curl(f"/v1/jobs/{i}/result").status == 200, "its result is everywhere")
        check(c.curl(f"/v1/jobs/{i}", "-X", "DELETE").status == 204 and a.curl(f"/v1/jobs/{i}").status == 410, "it is gone")
    ids = set()
    for k in range(ROUNDS):  # the same request again, of another one
        for d in r.of:
            ids.add(d.curl("/v1/jobs?steps=2", data=PICTURES[0], headers=(f"Idempotency-Key: key {k}",)).json()["id"])
    check(len(ids) == ROUNDS, "a key makes one job", len(ids))
    for k in range(ROUNDS // 3):  # and of all at once
        ids, threads = set(), []
        for d in r.of * 2:
            threads.append(threading.Thread(target=lambda d=d: ids.add(
                d.curl("/v1/jobs?steps=2", data=PICTURES[0], headers=(f"Idempotency-Key: together {k}",)).json().get("id"))))
            threads[-1].start()
        for t in threads:
            t.join()
        check(len(ids) == 1, "a key makes one job at a time", ids)
    r.stop()
