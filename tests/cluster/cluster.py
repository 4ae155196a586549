"""Several yodads behind a real balancer on loopback: starting, updating and killing them, and clients that notice everything.

A client's request fails when there is no answer or one that is not 2xx; a job fails when it does not succeed with the bytes that an
undisturbed server makes; a stream fails when an event is missing, comes twice or out of order, over however many connections.
"""
import concurrent.futures
import functools
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

from harness import SLOWNESS, Daemon, Skip, check, sse, textured
from names import Names

DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy")
FLAGS = dict(device="fake", fake_unit_us=3000, checkpoint_interval_ms=50, max_attempts=1000000, queue_max=1000, max_running=4, job_ttl_s=100000,
             max_finished_jobs=100000, drain_delay_ms=1500, drain_timeout_ms=1000, trusted_proxies="127.0.0.0/8")
PICTURES = [textured(40 + 30 * i, 32 + 20 * i, i) for i in range(3)]
QUERIES = ["?steps=2", "?steps=12&sampler=dpmpp_2m", "?steps=5&allocation=strided&fidelity=0.3&sampler=ancestral"]


def free_ports(n):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def free_places(n):
    """Loopback addresses that have the same port free, as replicas in containers of their own have."""
    for _ in range(100):
        port, held = free_ports(1)[0], []
        try:
            for i in range(n):
                held.append(socket.create_server((f"127.0.0.{2 + i}", port)))
            return [(f"127.0.0.{2 + i}", port) for i in range(n)]
        except OSError:
            continue
        finally:
            for s in held:
                s.close()
    raise RuntimeError("no port is free on several loopback addresses")


@functools.cache
def known_results():
    """SHA-256 of each (picture, query), from a server that is left alone."""
    d = Daemon(device="fake")
    out = {(p, q): hashlib.sha256(d.curl("/v1/upscale" + query, data=picture).body).hexdigest()
           for p, picture in enumerate(PICTURES) for q, query in enumerate(QUERIES)}
    check(d.stop() == 0, "the undisturbed server ends well")
    return out


class Redis:
    """redis-server on a Unix socket in a folder, its log synced every second."""

    def __init__(self, folder):
        self.program, self.folder = shutil.which("redis-server"), folder
        if not self.program:
            raise Skip("redis-server is not installed")
        self.socket = os.path.join(folder, "socket")
        self.start()

    def start(self):
        self.process = subprocess.Popen([self.program, "--port", "0", "--unixsocket", self.socket, "--dir", self.folder, "--appendonly", "yes", "--appendfsync",
                                         "everysec", "--save", "", "--loglevel", "warning", "--logfile", "log"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10 * SLOWNESS
        while subprocess.run(["redis-cli", "-s", self.socket, "ping"], capture_output=True).stdout.strip() != b"PONG":
            if time.monotonic() > deadline:
                raise RuntimeError("redis-server does not answer")
            time.sleep(0.02)

    def do(self, *words):
        """What redis-cli says."""
        return subprocess.run(["redis-cli", "-s", self.socket, *words], capture_output=True, text=True, timeout=60).stdout.strip()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Balancer:
    """HAProxy or nginx with the configuration that ships; shared: any replica answers for any job. places: (address, port) of each."""

    def __init__(self, kind, places, folder, shared=False):
        program = shutil.which(kind, path=os.environ.get("PATH", "") + ":/usr/sbin")
        if not program:
            raise Skip(f"{kind} is not installed")
        self.port, stats = free_ports(2)
        env, path = dict(os.environ), os.path.join(DEPLOY, kind, "nginx.conf" if kind == "nginx" else "shared/haproxy.cfg" if shared else "haproxy.cfg")
        self.names = Names([address for address, _ in places]) if kind == "haproxy" and shared else None
        if kind == "haproxy":
            env.update({f"YODAD_{i}": f"{address}:{port}" for i, (address, port) in enumerate(places)})
            env.update(YODAD_BIND=f"127.0.0.1:{self.port}", YODAD_STATS=f"127.0.0.1:{stats}")
            if shared:
                env.update(YODAD_NAMES=f"yodad.test:{places[0][1]}", YODAD_DNS=f"127.0.0.1:{self.names.port}")
            args = [program, "-db", "-f", path]
        else:
            with open(path) as f:
                text = f.read()
            for i, (address, port) in enumerate(places):
                text = text.replace(f"127.0.0.1:{8081 + i}", f"{address}:{port}")
            if shared:  # as the file says
                text = re.sub(r'\n *"~\*\^/v1/[^\n]*', "", text)
            copy = os.path.join(folder, "nginx.conf")
            with open(copy, "w") as f:
                f.write(re.sub(r"listen 8080;", f"listen 127.0.0.1:{self.port};", text))
            args = [program, "-p", folder, "-c", copy, "-g", "daemon off;"]
        self.log = open(os.path.join(folder, "balancer.log"), "w+")
        self.process = subprocess.Popen(args, env=env, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 10 * SLOWNESS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{kind} does not start: {self.text()[-1000:]}")

    def text(self):
        self.log.flush()
        with open(self.log.name, errors="replace") as f:
            return f.read()

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        if self.names:
            self.names.stop()


class Cluster:
    """n replicas and a balancer; held: a supervisor (this process) listens for the replicas and hands them their sockets, as yodad.socket does."""

    def __init__(self, n, balancer, held=False, shared=False, **flags):
        self.folder = tempfile.mkdtemp(prefix="yodad-cluster-")
        self.held, self.shared = {}, shared
        self.redis = Redis(self.folder) if shared else None
        self.places, self.flags = free_places(n) if shared else [("127.0.0.1", port) for port in free_ports(n)], {**FLAGS, **flags}
        if held:
            self.held = {i: socket.create_server(place, backlog=511) for i, place in enumerate(self.places)}
        with concurrent.futures.ThreadPoolExecutor(n) as pool:
            self.replicas = list(pool.map(self.start, range(n)))
        self.balancer = Balancer(balancer, self.places, self.folder, shared)
        self.port = self.balancer.port
        time.sleep(1)  # until its checks have seen everybody

    def start(self, i):
        handed = {}
        if i in self.held:
            fd = self.held[i].fileno()
            handed = dict(wrap=("bash", "-c", 'exec 3<&"$0"; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', str(fd)), pass_fds=(fd,))
        if self.shared:
            where = dict(store=f"unix://{self.redis.socket}", state_dir=os.path.join(self.folder, "state"))
        else:
            where = dict(state_dir=os.path.join(self.folder, f"state{i}"), replica=i)
        return Daemon(**handed, listen="%s:%d" % self.places[i], **where, **self.flags)

    def update(self, i):
        """What a rolling update does with one replica: SIGTERM, wait, the new one, until it is ready and the balancer knows."""
        code = self.replicas[i].stop(seconds=60)
        self.replicas[i] = self.start(i)
        time.sleep(0.7)
        return code

    def kill(self, i):
        self.replicas[i].process.kill()
        self.replicas[i].process.wait()
        self.replicas[i] = self.start(i)

    def stop(self):
        for r in self.replicas:
            r.process.terminate()
        codes = [r.wait_exit(60) for r in self.replicas]
        self.balancer.stop()
        if self.redis:
            self.redis.kill()
        for s in self.held.values():
            s.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return codes


class Refused(Exception):
    """An answer that is not 2xx."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Clients:
    """Clients of the balancer's address, each a thread: some wait for their picture, some poll, some listen."""
    each = 2  # clients of each kind

    def __init__(self, port, known, seed=1, patient=False):
        self.port, self.known, self.patient = port, known, patient  # patient: a broken connection is asked again, as with a replica that was killed
        self.ending, self.lock = False, threading.Lock()
        self.requests, self.jobs, self.events, self.problems, self.by_kind = 0, 0, 0, [], {}
        kinds = self.kinds() * self.each
        self.threads = [threading.Thread(target=self.go_on, args=(kind, random.Random(seed * 1000 + i))) for i, kind in enumerate(kinds)]
        self.begin()

    def begin(self):
        for t in self.threads:
            t.start()

    def kinds(self):
        return [self.wait_for_it, self.poll, self.listen]

    def problem(self, *what):
        with self.lock:
            self.problems.append(what)

    def go_on(self, kind, rng):
        while not self.ending:
            what = rng.randrange(len(PICTURES)), rng.randrange(len(QUERIES))
            try:
                kind(what)
                with self.lock:
                    self.by_kind[kind.__name__] = self.by_kind.get(kind.__name__, 0) + 1
            except Exception as e:  # a client that breaks off is a failed one
                self.problem(kind.__name__, type(e).__name__, str(e)[:200])
            time.sleep(rng.uniform(0, 0.05))

    def ask(self, method, path, body=None, headers=None, timeout=60, status=None):
        """The body; an answer that is not 2xx is raised. status: a list to which the status is added."""
        with self.lock:
            self.requests += 1
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SLOWNESS)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            body = r.read()
            if status is not None:
                status.append(r.status)
            if not 200 <= r.status < 300:
                raise Refused(r.status, f"{method} {path.split('?')[0]}: {r.status} {body[:200]}")
            return body
        finally:
            c.close()

    def asked(self, *args, **kw):
        """ask, again where a patient client would."""
        deadline = time.monotonic() + 60 * SLOWNESS
        while True:
            try:
                return self.ask(*args, **kw)
            except (OSError, http.client.HTTPException, Refused) as e:
                if not self.patient or getattr(e, "status", 500) < 500 or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def hold(self, what, picture):
        with self.lock:
            self.jobs += 1
        if hashlib.sha256(picture).hexdigest() != self.known[what]:
            self.problem("other bytes", what)

    def submit(self, what):
        return json.loads(self.asked("POST", "/v1/jobs" + QUERIES[what[1]], PICTURES[what[0]]))["id"]

    def wait_for_it(self, what):
        status = []
        body = self.asked("POST", "/v1/upscale" + QUERIES[what[1]], PICTURES[what[0]], status=status)
        if status[-1] == 202:  # its replica is leaving: the answer says where the picture will be
            body = self.result_of(json.loads(body)["id"])
        self.hold(what, body)

    def poll(self, what):
        self.hold(what, self.result_of(self.submit(what)))

    def result_of(self, job):
        while True:
            state = json.loads(self.asked("GET", f"/v1/jobs/{job}?wait=5"))["state"]
            if state not in ("queued", "running"):
                break
            time.sleep(0.05)  # a replica that is leaving answers at once
        if state != "succeeded":
            raise RuntimeError(f"job {job} {state}")
        return self.asked("GET", f"/v1/jobs/{job}/result")

    def listen(self, what):
        job, last, names = self.submit(what), 0, []
        while not names or names[-1] not in ("succeeded", "failed", "cancelled"):
            headers = {"Last-Event-ID": str(last)} if last else {}
            for number, name, _ in sse(self.asked("GET", f"/v1/jobs/{job}/events", headers=headers).decode()):
                if number <= last:
                    self.problem("event again", job, number, name)
                last = number
                names.append(name)
            time.sleep(0.05)  # less than the stream's `retry:` says
        self.judge_events(what, job, names)
        self.hold(what, self.asked("GET", f"/v1/jobs/{job}/result"))

    def judge_events(self, what, job, names):
        with self.lock:
            self.events += len(names)
        steps = names.count("step")
        wanted = int(re.search(r"steps=(\d+)", QUERIES[what[1]]).group(1))
        # A job that was handed over is queued, and started, once more; its steps are told once.
        if not self.patient and (steps != wanted or "gap" in names or "queued" not in names):
            self.problem("events", job, names)
        if names[-1] != "succeeded":
            self.problem("job", names[-1], job)

    def end(self):
        self.ending = True
        for t in self.threads:
            t.join(120 * SLOWNESS)
        return not any(t.is_alive() for t in self.threads)
