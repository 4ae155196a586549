"""One yodad whose records are in a real Redis: both are killed under load, and nothing that was accepted is lost or answered with other bytes."""
import os
import shutil
import signal
import tempfile
import time

from cluster import FLAGS, PICTURES, Clients, Redis, free_ports, known_results
from harness import SLOWNESS, Daemon, check

SHARE = float(os.environ.get("YODA_CLUSTER_SHARE", "1"))
FULL = SHARE >= 1
KILLS = max(2, round(30 * SHARE))


class One:
    """What Clients need of a cluster: a port. The replica keeps its port, its folder and its Redis."""

    def __init__(self, **flags):
        self.flags = {**FLAGS, **flags}
        self.folder = tempfile.mkdtemp(prefix="yodad-redis-")
        self.redis = Redis(self.folder)
        self.port = free_ports(1)[0]
        self.start()

    def start(self):
        self.daemon = Daemon(listen=f"127.0.0.1:{self.port}", state_dir=os.path.join(self.folder, "state"), store=f"unix://{self.redis.socket}", **self.flags)

    def stop(self):
        code = self.daemon.stop(seconds=60)
        self.redis.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        return code


def under_load(what, disturb, **flags):
    known, one = known_results(), One(**flags)
    clients = Clients(one.port, known, patient=True)
    for i in range(KILLS):
        disturb(one, i)
        time.sleep(0.4)
    check(clients.end(), "every client comes to its end")
    print(f"  {what}: {clients.requests} requests, {clients.jobs} results held against known bytes, {len(clients.problems)} problems", flush=True)
    check(not clients.problems, "nothing was lost", clients.problems[:6])
    check(clients.jobs >= 5, "there was load", clients.jobs)
    return one


if FULL:
    def test_yodad_is_killed():
        """Alone on a Redis: its successor on the same machine need not wait for the end of a lease."""
        def disturb(one, _):
            one.daemon.process.kill()
            one.daemon.process.wait()
            one.start()

        one = under_load(f"{KILLS} kills of yodad", disturb, store_lease_ms=600000)
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
