"""What is told of a job is told the same by every yodad that shares its Redis: ids, order, pictures, and whoever comes back goes on anywhere."""
import http.client
import json
import signal
import statistics
import threading
import time

import harness
from harness import SLOWNESS
from test_replicas import Replicas, job, submit, until, who_has

FINAL = ("succeeded", "failed", "cancelled")
SLOW = dict(fake_unit_us=20000, max_running=1)


def check(ok, what, *got):
    harness.check(ok, what, got)


class Reader(threading.Thread):
    """One connection to an event stream, as lines: (id, event, data, when it came)."""

    def __init__(self, d, path, last=None, most=None):
        super().__init__(daemon=True)
        self.events, self.status, self.most = [], None, most
        self.c = http.client.HTTPConnection("127.0.0.1", d.port, timeout=60 * SLOWNESS)
        headers = {"Accept": "application/x-ndjson"} if "ndjson" in path else {}
        if last is not None:
            headers["Last-Event-ID"] = str(last)
        self.c.request("GET", path, None, headers)
        self.start()

    def run(self):
        try:
            r = self.c.getresponse()
            self.status = r.status
            fields = {}
            for line in r if r.status == 200 else ():
                line = line.decode().rstrip("\n")
                if not line and "event" in fields:
                    self.events.append((int(fields["id"]), fields["event"], json.loads(fields["data"]), time.monotonic()))
                    fields = {}
                    if self.most and len(self.events) >= self.most:
                        break
                elif ": " in line:
                    name, value = line.split(": ", 1)
                    fields[name] = value
        except (OSError, http.client.HTTPException, ValueError):
            pass
        self.c.close()

    def names(self):
        return [e[1] for e in list(self.events)]

    def whole(self, seconds=60):
        self.join(seconds * SLOWNESS)
        check(not self.is_alive(), "the stream has ended", self.names()[-3:])
        return self.events


def firm(events):
    """Without when, and without previews, which may be left out."""
    return [e[:3] for e in events if e[1] != "preview"]


def test_the_same_everywhere():
    r = Replicas(**SLOW)
    i = submit(r.of[0], "?steps=60&preview_every=1")
    readers = [Reader(d, f"/v1/jobs/{i}/events?inline=1") for d in r.of]
    seen = [x.whole() for x in readers]
    apart = [(a, b) for s in seen for a, b in zip(firm(s), firm(seen[0])) if a != b]
    check(not apart and len({len(firm(s)) for s in seen}) == 1, "the same events everywhere", [len(firm(s)) for s in seen], apart[:1])
    ids = [e[0] for e in seen[0]]
    check(ids == sorted(set(ids)) and firm(seen[0])[-1][1] == "succeeded", "ids rise", ids)
    check([e[2]["step"] for e in seen[0] if e[1] == "step"] == list(range(1, 61)), "every step once")
    previews = [{e[0]: e[2] for e in s if e[1] == "preview"} for s in seen]
    for p in previews:
        check(len(p) > 2 and all(e["image"]["base64"] for e in p.values()), "everybody sees previews, with their pictures", len(p))
    for a in previews[1:]:
        both = set(a) & set(previews[0])
        check(both and all(a[n] == previews[0][n] for n in both), "and the same ones", sorted(a), sorted(previews[0]))
    check(all("image" in e[2] for s in seen for e in s if e[1] == "attention"), "the map comes with its picture")
    late = [firm(Reader(d, f"/v1/jobs/{i}/events").whole()) for d in r.of]
    check(all([e[:2] for e in x] == [e[:2] for e in firm(seen[0])] for x in late), "who comes later is told the same")
    r.stop()


def test_previews_for_who_looks_elsewhere():
    r = Replicas(**SLOW)
    i = submit(r.of[0], "?steps=300&preview_every=1")
    here = who_has(r)
    readers = [Reader(d, f"/v1/jobs/{i}/events?inline=1") for d in r.of if d is not here]
    until("both see previews", lambda: all(x.names().count("preview") > 2 for x in readers))
    check(all(e[2]["image"]["base64"] for x in readers for e in list(x.events) if e[1] == "preview"), "with their pictures")
    r.of[0].curl(f"/v1/jobs/{i}/cancel", "-X", "POST")
    check(all(x.whole()[-1][1] == "cancelled" for x in readers), "and the end of it")
    r.stop()


def test_who_comes_before_the_event():
    r = Replicas(**{**SLOW, "store_lease_ms": 30000})
    i = submit(r.of[0], "?steps=300")
    here = who_has(r)
    there = next(d for d in r.of if d is not here)
    first = Reader(here, f"/v1/jobs/{i}/events")
    until("steps", lambda: first.names().count("step") > 3)
    r.redis.process.send_signal(signal.SIGSTOP)
    n = len(first.events)
    until("it goes on without the server", lambda: len(first.events) > n + 10)
    last = first.events[-1][0]
    second = Reader(there, f"/v1/jobs/{i}/events", last)
    until("it is let in", lambda: second.status)
    check(second.status == 200 and not second.events, "it waits for what the other one does not know yet", second.status, second.names())
    r.redis.process.send_signal(signal.SIGCONT)
    until("and is told what follows", lambda: len(second.events) > 10)
    r.of[0].curl(f"/v1/jobs/{i}/cancel", "-X", "POST")
    whole, rest = firm(first.whole()), firm(second.whole())
    check(rest == [e for e in whole if e[0] > last], "that and nothing else", rest[:1], last)
    r.stop()


def hop(r, path, n, over, last=None, step=None):
    """Read a stream, at another replica after every `n` events."""
    events, k, deadline = [], 0, time.monotonic() + 90 * SLOWNESS
    while not over(events) and time.monotonic() < deadline:
        k += 1
        d = r.of[k % len(r.of)]
        if not d.alive():
            continue
        try:
            x = Reader(d, path, last, n)
        except OSError:
            continue
        while x.is_alive() and not over(events + list(x.events)) and time.monotonic() < deadline:
            x.join(0.05)
        check(x.status in (None, 200, 204), "the stream is there", x.status)
        if x.status == 204:
            break
        if not x.events:
            time.sleep(0.02)
        events += list(x.events)
        last = events[-1][0] if events else last
        if step:
            step(events)
    return events


def is_over(events):
    return bool(events) and events[-1][1] in FINAL


def test_clients_that_hop():
    r = Replicas(**{**SLOW, "fake_unit_us": 3000})
    for _ in range(3):
        i = submit(r.of[0], "?steps=80")
        events = hop(r, f"/v1/jobs/{i}/events", 3, is_over)
        ids = [e[0] for e in events]
        check(ids == sorted(set(ids)), "ids rise", ids)
        check([e[2]["step"] for e in events if e[1] == "step"] == list(range(1, 81)), "every step once", [e[:2] for e in events])
        check([e[1] for e in events if e[1] not in ("step", "preview")] == ["queued", "started", "attention", "succeeded"], "and the others")
    r.stop()


def test_all_jobs_in_one_order():
    r = Replicas(**{**SLOW, "fake_unit_us": 3000})
    readers = [Reader(d, "/v1/events") for d in r.of]
    until("snapshots", lambda: all(x.events for x in readers))
    first = readers[0].events[0][0]
    ids = [submit(r.of[k % 3], "?steps=20") for k in range(6)]
    ends = lambda events: sum(e[1] in FINAL for e in events)
    events = hop(r, "/v1/events?previews=0", 5, lambda e: ends(e) == 6, first)
    for x in readers:
        until("all are told of all", lambda: ends(list(x.events)) == 6)
    numbers = [e[0] for e in events]
    check(numbers == sorted(set(numbers)), "ids rise", numbers)
    check(not [e for e in events if e[1] == "gap"], "no gap", [e[:2] for e in events])
    for x in readers:
        check(firm(x.events)[1:] == firm(events), "one order for all, with the same ids", len(firm(x.events)) - 1, len(firm(events)))
    for i in ids:
        told = [e for e in events if e[2].get("job") == i]
        check([e[2]["step"] for e in told if e[1] == "step"] == list(range(1, 21)), "every step of every job", i)
        check([e[1] for e in told if e[1] != "step"] == ["queued", "started", "attention", "succeeded"], "and the others", [e[1] for e in told])
    named = hop(r, f"/v1/events?previews=0&jobs={ids[0]},{ids[3]}", 4, lambda e: False, first)
    check([e[:3] for e in named] == [e[:3] for e in events if e[2]["job"] in (ids[0], ids[3])], "those of two jobs, until there are no more")
    last = Reader(r.of[1], f"/v1/events?jobs={ids[0]}", events[-1][0])
    last.join(20 * SLOWNESS)
    check(last.status == 204, "nothing can follow", last.status)
    r.stop()


def test_pictures_of_a_job_elsewhere():
    r = Replicas(**{**SLOW, "fake_unit_us": 50000})
    i = submit(r.of[0], "?steps=1000")  # more than it makes before it is cancelled
    until("it has made a step", lambda: all(job(d, i).get("progress", {}).get("step", 0) > 0 for d in r.of), 30)

    def all_know():  # the least that any of them knows to be done
        seen = [job(d, i) for d in r.of]
        agreed = all(j["queue"]["eta_s"] > 0 and j["progress"]["windows_total"] == seen[0]["progress"]["windows_total"] > 0 for j in seen)
        return agreed and min(j["progress"]["windows_done"] for j in seen)

    before = until("all say how far it is", all_know)  # it is said every second
    until("and that it gets on", lambda: all(job(d, i)["progress"]["windows_done"] > before for d in r.of))
    for path, header in (("attention", "image/png"), ("mask?step=1000", "image/png"), ("attention", "image/webp"), ("mask?step=1", "image/png")):
        answers = [d.curl(f"/v1/jobs/{i}/{path}", headers=(f"Accept: {header}",)) for d in r.of]
        check([a.status for a in answers] == [200] * 3, path, [(a.status, a.body[:200]) for a in answers])
        check(len({a.body for a in answers}) == 1 and {a.header("content-type") for a in answers} == {header}, "the same from all", path)
    for d in r.of:
        a = d.curl(f"/v1/jobs/{i}/preview?max_side=64", headers=("Accept: image/jpeg",))
        check(a.status == 200 and a.body[:2] == b"\xff\xd8", "a preview from everybody", (a.status, a.body[:200]))
        a = d.curl(f"/v1/jobs/{i}/mask?step=1001")
        check(a.status == 422 and a.json()["field"] == "step", "there is no step 1001", a.status)
        check(d.curl(f"/v1/jobs/{i}/result").status == 409, "no result yet")
    r.of[1].curl(f"/v1/jobs/{i}/cancel", "-X", "POST")
    until("cancelled", lambda: {job(d, i)["state"] for d in r.of} == {"cancelled"})
    r.stop()


def test_who_runs_it_leaves():
    r = Replicas(**{**SLOW, "checkpoint_interval_ms": 50})
    i = submit(r.of[0], "?steps=100")
    readers, left = [Reader(d, f"/v1/jobs/{i}/events") for d in r.of], []

    def leave(events):
        if not left and sum(e[1] == "step" for e in events) > 20:
            left.append(who_has(r))
            left[0].process.terminate()
    events = hop(r, f"/v1/jobs/{i}/events", 3, is_over, step=leave)
    check(left and left[0].wait_exit(60) == 0, "it has left")
    ids = [e[0] for e in events]
    check(ids == sorted(set(ids)), "ids rise", ids)
    check([e[2]["step"] for e in events if e[1] == "step"] == list(range(1, 101)), "every step once", [e[:2] for e in events])
    names = [e[1] for e in events if e[1] not in ("step", "preview")]
    check(names == ["queued", "started", "attention", "started", "attention", "succeeded"], "it was started twice", names)
    whole = [firm(x.whole()) for k, x in enumerate(readers) if r.of[k] is not left[0]]
    check(all(w == firm(events) for w in whole), "the others' streams went through", [len(w) for w in whole], len(firm(events)))
    r.stop()


def test_who_runs_it_is_killed():
    r = Replicas(**{**SLOW, "checkpoint_interval_ms": 50})
    i = submit(r.of[0], "?steps=100")
    killed = []

    def kill(events):
        if not killed and sum(e[1] == "step" for e in events) > 20:
            killed.append(who_has(r))
            killed[0].process.kill()
            killed[0].process.wait()
    events = hop(r, f"/v1/jobs/{i}/events", 3, is_over, step=kill)
    ids = [e[0] for e in events]
    check(ids == sorted(set(ids)), "ids go on rising", ids)
    names = [e[1] for e in events if e[1] not in ("step", "preview")]
    check(names == ["queued", "started", "attention", "gap", "started", "attention", "succeeded"], "what may have been lost is a gap", names)
    steps = [e[2]["step"] for e in events if e[1] == "step"]
    check(steps[-1] == 100 and set(steps) | {0} >= set(range(20)), "steps since the last checkpoint come again", steps)
    left = [d for d in r.of if d.alive()]
    late = [[e[:2] for e in firm(Reader(d, f"/v1/jobs/{i}/events").whole())] for d in left]
    check(late[0] == late[1], "both tell the same of it", late)
    r.stop()


def test_how_long_an_event_takes():
    r = Replicas(**{**SLOW, "fake_unit_us": 5000})
    i = submit(r.of[0], "?steps=200")
    readers = [Reader(d, f"/v1/jobs/{i}/events") for d in r.of]
    seen = [x.whole() for x in readers]
    came = [{e[0]: e[3] for e in s if e[1] == "step"} for s in seen]
    first = min(range(3), key=lambda k: statistics.median(came[k][n] for n in came[k]))
    late = [sorted(1000 * (came[k][n] - came[first][n]) for n in came[first]) for k in range(3) if k != first]
    print("    behind who hears it first: " + ", ".join(f"median {statistics.median(x):.2f} ms, 99% {x[len(x) * 99 // 100]:.2f} ms" for x in late))
    r.stop()
