"""One yodad whose records are in a real Redis: both are killed under load, and nothing that was accepted is lost or answered with other bytes."""
import os
import shutil
import signal
import subprocess
import tempfile
import time

from cluster import FLAGS, PICTURES, Clients, free_ports, known_results
from harness import SLOWNESS, Daemon, Skip, check

SHARE = float(os.environ.get("YODA_CLUSTER_SHARE", "1"))
KILLS = max(3, round(30 * SHARE))


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
                                         "everysec", "--save", "", "--loglevel", "warning", "--logfile", "log"], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 10 * SLOWNESS
        while subprocess.run(["redis-cli", "-s", self.socket, "ping"], capture_output=True).stdout.strip() != b"PONG":
            check(time.monotonic() < deadline, "redis-server answers")
            time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait()


class One:
    """What Clients need of a cluster: a port. The replica keeps its port, its folder and its Redis."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="yodad-redis-")
        self.redis = Redis(self.folder)
        self.port = free_ports(1)[0]
        self.start()

    def start(self):
        self.daemon = Daemon(listen=f"127.0.0.1:{self.port}", state_dir=os.path.join(self.folder, "state"), store=f"unix://{self.redis.socket}", **FLAGS)

    def stop(self):
        code = self.daemon.stop(seconds=60)
        self.redis.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        return code


def under_load(what, disturb):
    known, one = known_results(), One()
    clients = Clients(one.port, known, patient=True)
    for i in range(KILLS):
        disturb(one, i)
        time.sleep(0.4)
    check(clients.end(), "every client comes to its end")
    print(f"  {what}: {clients.requests} requests, {clients.jobs} results held against known bytes, {len(clients.problems)} problems", flush=True)
    check(not clients.problems, "nothing was lost", clients.problems[:6])
    check(clients.jobs >= 5, "there was load", clients.jobs)
    return one


def test_yodad_is_killed():
    def disturb(one, _):
        one.daemon.process.kill()
        one.daemon.process.wait()
        one.start()

    one = under_load(f"{KILLS} kills of yodad", disturb)
    check(one.daemon.curl("/readyz?verbose").json()["durability"] == "everysec", "what the log promises is said")
    check(one.stop() == 0, "the last one ends well")


def test_redis_is_killed():
    def disturb(one, _):
        one.redis.kill()
        time.sleep(0.3)
        one.redis.start()

    one = under_load(f"{KILLS} kills of Redis", disturb)
    check(one.stop() == 0, "it ends well")


def test_without_redis():
    """A server that does not answer: submits are refused within a second, and taken again within one of its return."""
    one = One()
    one.redis.process.send_signal(signal.SIGSTOP)
    for _ in range(3):
        began = time.monotonic()
        answer = one.daemon.curl("/v1/jobs?steps=2", data=PICTURES[0])
        check(answer.status == 503 and answer.json()["type"] == "/problems/store-unavailable" and answer.header("Retry-After") == "1" and time.monotonic() - began < 1 * SLOWNESS, "refused in time", (answer.status, time.monotonic() - began))
    check(one.daemon.curl("/livez").status == 200 and one.daemon.curl("/readyz").status == 503, "it says so")
    one.redis.process.send_signal(signal.SIGCONT)
    began = time.monotonic()
    while one.daemon.curl("/v1/jobs?steps=2", data=PICTURES[0]).status != 202:
        check(time.monotonic() - began < 1 * SLOWNESS, "back within a second")
        time.sleep(0.05)
    check(one.stop() == 0, "it ends well")
