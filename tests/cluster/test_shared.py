"""Three replicas on one Redis and one folder behind the balancers' configurations that ship: any of them answers for any job, round robin.

Replicas are updated in turn, killed, and left without Redis, while clients submit, poll, listen at changing replicas, cancel, delete and repeat.
"""
import http.client
import io
import json
import os
import random
import signal
import threading
import time
import uuid
import zipfile

from cluster import PICTURES, QUERIES, Clients, Cluster, Refused, known_results
from harness import SLOWNESS, check, sse

SHARE = float(os.environ.get("YODA_CLUSTER_SHARE", "1"))
FULL = SHARE >= 1
UPDATES = max(3, round(20 * SHARE))
KILLS = max(5, round(50 * SHARE))
PROMISED_S = (1 if FULL else 5) * SLOWNESS  # the promise is held when the machine has nothing else to do
FINAL = ("succeeded", "failed", "cancelled")


def ends_in(names):
    return sum(name in FINAL for name in names)


class Everybody(Clients):
    """Clients who ask whoever answers, and note every job that was accepted."""
    each = 1
    eventually = False  # without Redis nobody can be asked what others have done since: replicas agree when it is back

    def __init__(self, *args, **kw):
        self.accepted = {}  # job: what was asked for, while it is to be there
        self.followed, self.last = {}, 0  # job: names of its events in the stream of all jobs; that stream's last id
        super().__init__(*args, **kw)

    def begin(self):
        """The stream of all jobs is followed from before there is any."""
        while not self.last:
            self.last = max((number for number, _, _ in sse(self.glance("/v1/events", 0, 0.5))), default=0)
        self.follower = threading.Thread(target=self.follow, daemon=True)
        self.follower.start()
        super().begin()

    def kinds(self):
        return [self.wait_for_it, self.poll, self.listen, self.hop, self.cancel, self.remove, self.repeat, self.batch]

    def submit(self, what):
        """Under an id of the client's own: who gets no answer asks again, and it is the same job."""
        job = str(uuid.uuid4())
        answer = json.loads(self.asked("PUT", f"/v1/jobs/{job}" + QUERIES[what[1]], PICTURES[what[0]]))
        if answer["id"] != job:
            self.problem("another id", job, answer["id"])
        with self.lock:
            self.accepted[job] = what
        return job

    def hop(self, what):
        """Events, of which each connection, each at another replica, shows a moment."""
        rng, job, last, names = random.Random(), self.submit(what), 0, []
        deadline = time.monotonic() + 60 * SLOWNESS
        while not names or names[-1] not in FINAL:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the events of {job} end with {names[-3:]}")
            for number, name, _ in sse(self.glance(f"/v1/jobs/{job}/events", last, rng.uniform(0.02, 0.3))):
                if number <= last:
                    self.problem("event again", job, number, name)
                last = number
                names.append(name)
        self.judge_events(what, job, names)

    def follow(self):
        """The stream of all jobs, each moment of it from another replica, until every job that was accepted has ended in it."""
        deadline = None
        while not deadline or time.monotonic() < deadline:
            try:
                events = sse(self.glance("/v1/events?previews=0", self.last, random.uniform(0.1, 1)))
            except Exception as e:
                self.problem("follow", type(e).__name__, str(e)[:200])
                return
            for number, name, data in events:
                if number <= self.last and name != "snapshot":
                    self.problem("followed again", number, name, data)
                if name == "gap" and not self.patient:
                    self.problem("a gap", number, data)
                self.last = max(self.last, number)
                if "job" in data:
                    self.followed.setdefault(data["job"], []).append(name)
            if self.ending and not deadline:
                deadline = time.monotonic() + (3 if self.patient else 10) * SLOWNESS  # who is killed has not told what it was about to tell
            if self.ending and all(ends_in(self.followed.get(job, [])) for job in list(self.accepted)):
                return

    def glance(self, path, last, seconds):
        """The whole events that come within a time."""
        with self.lock:
            self.requests += 1
        c, text, until = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10 * SLOWNESS), b"", time.monotonic() + seconds
        try:
            c.request("GET", path, headers={"Last-Event-ID": str(last)} if last else {})
            r = c.getresponse()
            if r.status != 200:
                raise Refused(r.status, f"GET events: {r.status} {r.read()[:200]}")
            while (left := until - time.monotonic()) > 0:
                c.sock.settimeout(left)
                try:
                    piece = r.read1(65536)
                except TimeoutError:
                    break
                if not piece:
                    break
                text += piece
        except (OSError, http.client.HTTPException, Refused) as e:
            if not self.patient or getattr(e, "status", 500) < 500:
                raise
            time.sleep(0.1)
        finally:
            c.close()
        return text.replace(b"\r\n", b"\n").rpartition(b"\n\n")[0].decode() + "\n\n"

    def result_of(self, job):
        deadline = time.monotonic() + 30 * SLOWNESS
        while True:
            try:
                return super().result_of(job)
            except Refused as e:
                if e.status != 409 or not self.eventually or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def state_of(self, job):
        return json.loads(self.asked("GET", f"/v1/jobs/{job}"))["state"]

    def forget(self, job):
        with self.lock:
            del self.accepted[job]

    def cancel(self, what):
        """Cancelled, or it had ended before; and whoever is asked afterwards says the same, at once or, with the store in trouble, soon."""
        job = self.submit(what)
        self.forget(job)
        time.sleep(random.uniform(0, 0.15))
        try:
            self.asked("POST", f"/v1/jobs/{job}/cancel")
        except Refused as e:
            if e.status != 409:
                raise
        deadline = time.monotonic() + (30 * SLOWNESS if self.eventually else 0)
        told = [self.state_of(job) for _ in range(4)]
        while time.monotonic() < deadline and (told[0] not in FINAL or len(set(told)) != 1):
            time.sleep(0.1)  # some have not heard of it yet
            told = [self.state_of(job) for _ in range(4)]
        if told[0] not in FINAL or len(set(told)) != 1:
            self.problem("cancelled", job, told)

    def remove(self, what):
        """Gone, whoever is asked."""
        job = self.submit(what)
        self.forget(job)
        time.sleep(random.uniform(0, 0.15))
        self.asked("DELETE", f"/v1/jobs/{job}")
        deadline = time.monotonic() + 30 * SLOWNESS
        for _ in range(3):
            status = [0]
            while status[-1] != 410:
                try:
                    self.ask("GET", f"/v1/jobs/{job}", status=status)
                except (Refused, OSError, http.client.HTTPException):
                    if not self.patient and status[-1] != 410:
                        raise
                if (status[-1] == 200 and not self.eventually) or time.monotonic() > deadline:
                    self.problem("deleted and there", job, status)
                    return

    def repeat(self, what):
        """One key, three requests at once: one job."""
        key, ids = {"Idempotency-Key": str(uuid.uuid4())}, []

        def once():
            ids.append(json.loads(self.asked("POST", "/v1/jobs" + QUERIES[what[1]], PICTURES[what[0]], key))["id"])

        others = [threading.Thread(target=once) for _ in range(3)]
        for t in others:
            t.start()
        for t in others:
            t.join()
        if len(set(ids)) != 1 or len(ids) != 3:
            self.problem("repeated", ids)
        self.hold(what, self.result_of(ids[0]))

    def batch(self, what):
        """Three pictures in one, asked for at other replicas; its archive has their results."""
        border, parts = uuid.uuid4().hex, b""
        for i in range(3):
            parts += (f'--{border}\r\nContent-Disposition: form-data; name="image"; filename="{i}.png"\r\nContent-Type: image/png\r\n\r\n').encode() + PICTURES[what[0]] + b"\r\n"
        answer = self.asked("POST", "/v1/batches" + QUERIES[what[1]], parts + f"--{border}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={border}"})
        path, done = f"/v1/batches/{json.loads(answer)['id']}", False
        while not done:
            done = (state := json.loads(self.asked("GET", path + "?wait=5")))["done"]
            time.sleep(0.05)
        if state["counts"]["succeeded"] != 3:
            self.problem("batch", path, state["counts"])
        with zipfile.ZipFile(io.BytesIO(self.asked("GET", path + "/archive"))) as z:
            pictures = [z.read(name) for name in z.namelist() if name.endswith(".png")]
        for picture in pictures:
            self.hold(what, picture)
        if len(pictures) != 3:
            self.problem("archive", path, len(pictures))
        self.asked("DELETE", path)

    def finished_once(self):
        """Every job that was accepted and not deleted has succeeded, and its events say so once. Returns how many."""
        self.follower.join(60 * SLOWNESS)
        for job, what in self.accepted.items():
            try:
                self.hold(what, self.result_of(job))
                names = [name for _, name, _ in sse(self.asked("GET", f"/v1/jobs/{job}/events").decode())]
                if ends_in(names) != 1:
                    self.problem("not once", job, names)
                followed = ends_in(self.followed.get(job, []))
                if followed > 1 or (followed < 1 and not self.patient):
                    self.problem("not followed once", job, self.followed.get(job))
            except Exception as e:
                self.problem("lost", job, type(e).__name__, str(e)[:200])
        return len(self.accepted)


def report(what, clients, began):
    took, jobs = time.monotonic() - began, clients.finished_once()
    print(f"  {what}: {clients.requests} requests, {jobs} jobs accepted, {clients.jobs} results held against known bytes, {clients.events} events, "
          f"{clients.by_kind}, in {took:.0f} s; {len(clients.problems)} problems", flush=True)
    check(not clients.problems, "nothing failed, nothing was lost or came twice", clients.problems[:6])
    check(jobs >= 10 and all(clients.by_kind.get(k.__name__) for k in clients.kinds()), "there was load", clients.by_kind)


def updates(balancer, n, **how):
    known, cluster = known_results(), Cluster(3, balancer, shared=True, **how)
    began, clients, logs = time.monotonic(), Everybody(cluster.port, known), []
    codes = []
    for i in range(n):
        logs.append(cluster.replicas[i % 3])
        codes.append(cluster.update(i % 3))
    check(clients.end(), "every client comes to its end")
    check(codes == [0] * n, "every replica ends well", codes)
    report(f"{n} updates of 3 replicas on one Redis behind {balancer}", clients, began)
    errors = [line for r in logs + cluster.replicas for line in r.log_text().splitlines() if '"level":"error"' in line]
    check(not errors, "no replica found anything wrong", errors[:3])
    check(cluster.stop() == [0] * 3, "the last ones too")


def test_updates_behind_haproxy():
    """No time for running jobs to finish: each is handed over at its step to whoever has room, with its events."""
    updates("haproxy", UPDATES, drain_timeout_ms=0, fake_unit_us=8000)


if FULL:
    def test_updates_behind_nginx():
        """nginx asks nobody how they are: connections wait for the next process in the socket that outlives them."""
        updates("nginx", UPDATES, held=True, drain_delay_ms=0)


def test_kills_behind_haproxy():
    """A killed replica breaks the connections it had, and others have its jobs when its lease has ended: none is lost, each ends once."""
    known, cluster = known_results(), Cluster(3, "haproxy", shared=True, store_lease_ms=5000 if FULL else 2000)
    began, clients = time.monotonic(), Everybody(cluster.port, known, patient=True)
    for i in range(KILLS):
        cluster.kill(i % 3)
        time.sleep(0.3)
    check(clients.end(), "every client comes to its end")
    report(f"{KILLS} kills of 3 replicas on one Redis behind haproxy", clients, began)
    check(cluster.stop() == [0] * 3, "the last ones end well")


# ---- Redis in trouble ----------------------------------------------------------------------------------------------

def killed(redis):
    redis.kill()
    yield
    yield redis.start()


def stopped(redis):
    redis.process.send_signal(signal.SIGSTOP)
    yield
    yield redis.process.send_signal(signal.SIGCONT)


def full(redis):
    redis.do("CONFIG", "SET", "maxmemory", "1")
    yield
    yield redis.do("CONFIG", "SET", "maxmemory", "0")


def read_only(redis):
    redis.do("REPLICAOF", "127.0.0.1", "1")
    yield
    yield redis.do("REPLICAOF", "NO", "ONE")


def submit_once(clients):
    """(status, seconds) of one submission through the balancer; a job that is taken is noted."""
    began, status, job = time.monotonic(), [], str(uuid.uuid4())
    try:
        clients.ask("PUT", f"/v1/jobs/{job}{QUERIES[0]}", PICTURES[0], status=status)
        with clients.lock:
            clients.accepted[job] = (0, 0)
    except (Refused, OSError, http.client.HTTPException) as e:
        status = status or [str(e)]
    return status[0], time.monotonic() - began


def through(cluster, clients, trouble, seconds):
    """What submissions are answered while Redis is in trouble, and how long after that they are taken again."""
    steps, slowest, asked = trouble(cluster.redis), 0, 0
    next(steps)
    began = time.monotonic()
    while time.monotonic() - began < seconds or not asked:
        status, took = submit_once(clients)
        slowest, asked = max(slowest, took), asked + 1
        check(status == 503 and took < PROMISED_S, f"{trouble.__name__}: refused in time", (status, took))
        time.sleep(0.1)
    next(steps)
    began = time.monotonic()
    while submit_once(clients)[0] not in (200, 202) and time.monotonic() - began < 30 * SLOWNESS:
        time.sleep(0.02)
    back = time.monotonic() - began
    check(back < PROMISED_S, f"{trouble.__name__}: back in time", back)
    print(f"  Redis {trouble.__name__} for {seconds} s: {asked} submissions refused within {slowest * 1000:.0f} ms, taken again after {back * 1000:.0f} ms", flush=True)


def test_redis_in_trouble():
    known, cluster = known_results(), Cluster(3, "haproxy", shared=True)
    began, clients = time.monotonic(), Everybody(cluster.port, known, patient=True)
    clients.eventually = True
    time.sleep(2)
    for trouble, seconds in ((stopped, 5), (killed, 2), (full, 2), (read_only, 2)) if FULL else ((stopped, 3),):
        through(cluster, clients, trouble, seconds)
        time.sleep(2)
    check(clients.end(), "every client comes to its end")
    report("Redis in trouble under 3 replicas behind haproxy", clients, began)
    check(cluster.stop() == [0] * 3, "the last ones end well")
