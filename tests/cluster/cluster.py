"""Several yodads behind a real balancer on loopback: starting, updating and killing them, and clients that notice everything.

A client's request fails when there is no answer or one that is not 2xx; a job fails when it does not succeed with the bytes that an
undisturbed server makes; a stream fails when an event is missing, comes twice or out of order, over however many connections.
"""
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


def known_results():
    """SHA-256 of each (picture, query), from a server that is left alone."""
    d = Daemon(device="fake")
    out = {(p, q): hashlib.sha256(d.curl("/v1/upscale" + query, data=picture).body).hexdigest()
           for p, picture in enumerate(PICTURES) for q, query in enumerate(QUERIES)}
    check(d.stop() == 0, "the undisturbed server ends well")
    return out


class Balancer:
    """HAProxy or nginx with the configuration that ships."""

    def __init__(self, kind, ports, folder):
        program = shutil.which(kind, path=os.environ.get("PATH", "") + ":/usr/sbin")
        if not program:
            raise Skip(f"{kind} is not installed")
        self.port, stats = free_ports(2)
        env, path = dict(os.environ), os.path.join(DEPLOY, kind, f"{kind}.{'cfg' if kind == 'haproxy' else 'conf'}")
        if kind == "haproxy":
            env.update({f"YODAD_{i}": f"127.0.0.1:{port}" for i, port in enumerate(ports)})
            env.update(YODAD_BIND=f"127.0.0.1:{self.port}", YODAD_STATS=f"127.0.0.1:{stats}")
            args = [program, "-db", "-f", path]
        else:
            with open(path) as f:
                text = f.read()
            for i, port in enumerate(ports):
                text = text.replace(f"127.0.0.1:{8081 + i}", f"127.0.0.1:{port}")
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


class Cluster:
    """n replicas and a balancer; held: a supervisor (this process) listens for the replicas and hands them their sockets, as yodad.socket does."""

    def __init__(self, n, balancer, held=False, **flags):
        self.folder = tempfile.mkdtemp(prefix="yodad-cluster-")
        self.held = {}
        self.ports, self.flags = free_ports(n), {**FLAGS, **flags}
        if held:
            self.held = {i: socket.create_server(("127.0.0.1", port), backlog=511) for i, port in enumerate(self.ports)}
        self.replicas = [self.start(i) for i in range(n)]
        self.balancer = Balancer(balancer, self.ports, self.folder)
        self.port = self.balancer.port
        time.sleep(1)  # until its checks have seen everybody

    def start(self, i):
        handed = {}
        if i in self.held:
            fd = self.held[i].fileno()
            handed = dict(wrap=("bash", "-c", 'exec 3<&"$0"; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', str(fd)), pass_fds=(fd,))
        return Daemon(**handed, listen=f"127.0.0.1:{self.ports[i]}", state_dir=os.path.join(self.folder, f"state{i}"), replica=i, **self.flags)

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
        codes = [r.stop(seconds=60) for r in self.replicas]
        self.balancer.stop()
        for s in self.held.values():
            s.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return codes


class Clients:
    """Clients of the balancer's address, each a thread: some wait for their picture, some poll, some listen."""

    def __init__(self, port, known, each=2, seed=1, patient=False):
        self.port, self.known, self.patient = port, known, patient  # patient: a broken connection is asked again, as with a replica that was killed
        self.ending, self.lock = False, threading.Lock()
        self.requests, self.jobs, self.events, self.problems, self.by_kind = 0, 0, 0, [], {}
        kinds = [self.wait_for_it, self.poll, self.listen] * each
        self.threads = [threading.Thread(target=self.go_on, args=(kind, random.Random(seed * 1000 + i))) for i, kind in enumerate(kinds)]
        for t in self.threads:
            t.start()

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
                raise RuntimeError(f"{method} {path.split('?')[0]}: {r.status} {body[:200]}")
            return body
        finally:
            c.close()

    def asked(self, *args, **kw):
        """ask, again where a patient client would."""
        deadline = time.monotonic() + 30 * SLOWNESS
        while True:
            try:
                return self.ask(*args, **kw)
            except (OSError, http.client.HTTPException, RuntimeError):
                if not self.patient or time.monotonic() > deadline:
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
        with self.lock:
            self.events += len(names)
        steps = names.count("step")
        wanted = int(re.search(r"steps=(\d+)", QUERIES[what[1]]).group(1))
        # A job that was handed over is queued, and started, once more; its steps are told once.
        if not self.patient and (steps != wanted or "gap" in names or "queued" not in names):
            self.problem("events", job, names)
        if names[-1] != "succeeded":
            self.problem("job", names[-1], job)
        self.hold(what, self.asked("GET", f"/v1/jobs/{job}/result"))

    def end(self):
        self.ending = True
        for t in self.threads:
            t.join(120 * SLOWNESS)
        return not any(t.is_alive() for t in self.threads)
