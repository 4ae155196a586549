"""HAProxy with the configuration for a shared store, a real name server, and replicas that come and go behind one name, as containers do."""
import os
import shutil
import signal
import subprocess
import tempfile
import time

from cluster import DEPLOY, FLAGS, Clients, Redis, free_places, free_ports, known_results
from harness import SLOWNESS, Daemon, Skip, check

NAME = "yodad.test"


class NameServer:
    """dnsmasq that knows one name; its addresses are read again at each change."""

    def __init__(self, folder):
        self.program = shutil.which("dnsmasq", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if not self.program:
            raise Skip("dnsmasq is not installed")
        self.hosts, self.port = os.path.join(folder, "hosts"), free_ports(1)[0]
        open(self.hosts, "w").close()
        self.process = subprocess.Popen([self.program, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", f"--addn-hosts={self.hosts}", f"--port={self.port}",
                                         "--listen-address=127.0.0.1", "--bind-interfaces", "--user=root", f"--pid-file={folder}/dns.pid"], stderr=subprocess.DEVNULL)

    def say(self, *addresses):
        with open(self.hosts, "w") as f:
            f.writelines(f"{a} {NAME}\n" for a in addresses)
        self.process.send_signal(signal.SIGHUP)


def served(replica):
    return sum('"POST"' in line for line in replica.log_text().splitlines())


def until(what, condition, seconds=20):
    deadline = time.monotonic() + seconds * SLOWNESS
    while not condition():
        if time.monotonic() > deadline:
            check(False, what)
            return
        time.sleep(0.05)


def test_replicas_are_found_by_name():
    known, folder = known_results(), tempfile.mkdtemp(prefix="yodad-names-")
    haproxy = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not haproxy:
        raise Skip("haproxy is not installed")
    names, redis = NameServer(folder), Redis(folder)
    places, (public, stats) = free_places(3), free_ports(2)

    def start(host, port):
        return Daemon(listen=f"{host}:{port}", state_dir=os.path.join(folder, "state"), store=f"unix://{redis.socket}", **FLAGS)

    replicas = [start(*place) for place in places[:2]]
    names.say(places[0][0], places[1][0])
    env = {**os.environ, "YODAD_NAMES": f"{NAME}:{places[0][1]}", "YODAD_MOST": "4", "YODAD_DNS": f"127.0.0.1:{names.port}", "YODAD_BIND": f"127.0.0.1:{public}", "YODAD_STATS": f"127.0.0.1:{stats}"}
    with open(os.path.join(folder, "haproxy.log"), "w") as log:
        balancer = subprocess.Popen([haproxy, "-db", "-f", os.path.join(DEPLOY, "haproxy", "shared", "haproxy.cfg")], env=env, stdout=log, stderr=log)

    def ready():
        return subprocess.run(["curl", "-sf", "-o", "/dev/null", f"http://127.0.0.1:{public}/readyz"]).returncode == 0

    until("the balancer finds the replicas by their name", ready)
    clients = Clients(public, known)
    until("both serve", lambda: all(served(r) > 2 for r in replicas))
    replicas.append(start(*places[2]))
    names.say(*(host for host, _ in places))
    until("one that comes serves", lambda: served(replicas[2]) > 2)
    check(replicas[0].stop(seconds=60) == 0, "one that is told to leaves")
    names.say(places[1][0], places[2][0])
    before = clients.jobs
    until("the others go on", lambda: clients.jobs > before + 5)
    names.process.kill()
    names.process.wait()
    if os.environ.get("YODA_CLUSTER_SHARE", "1") == "1":
        before = clients.jobs
        time.sleep(6)  # several lookups, all of their attempts
        until("and go on when nobody knows the name any more", lambda: clients.jobs > before + 5)
    check(clients.end() and not clients.problems, "no request failed, no event was lost, all bytes are those of an undisturbed server", clients.problems[:3])
    balancer.terminate()
    balancer.wait(20)
    check(all(r.stop(seconds=60) == 0 for r in replicas[1:]), "they end well")
    redis.kill()
    shutil.rmtree(folder, ignore_errors=True)
