"""Replicas that each have a store of their own, behind the balancers' configurations that ship: ids lead to the replica that has the job."""
import os
import time

from cluster import Clients, Cluster, known_results
from harness import check

SHARE = float(os.environ.get("YODA_CLUSTER_SHARE", "1"))
FULL = SHARE >= 1
UPDATES = max(2, round(20 * SHARE))
KILLS = max(3, round(50 * SHARE))


def report(what, cluster, clients, seconds):
    log = [r.log_text() for r in cluster.replicas]
    print(f"  {what}: {clients.requests} requests, {clients.jobs} results held against known bytes, {clients.events} events, {clients.by_kind}, in {seconds:.0f} s; "
          f"{len(clients.problems)} problems", flush=True)
    check(not clients.problems, "nothing failed, nothing was lost or came twice", clients.problems[:6])
    check(clients.jobs >= 10 and all(clients.by_kind.get(k) for k in ("wait_for_it", "poll", "listen")), "there was load", clients.by_kind)
    check(all('"level":"error"' not in text for text in log), "no replica found anything wrong", [t[-300:] for t in log if '"level":"error"' in t])


def updates(balancer, **how):
    known, cluster = known_results(), Cluster(3, balancer, **how)
    began, clients = time.monotonic(), Clients(cluster.port, known)
    codes = [cluster.update(i % 3) for i in range(UPDATES)]
    check(clients.end(), "every client comes to its end")
    check(codes == [0] * UPDATES, "every replica ends well", codes)
    report(f"{UPDATES} updates of 3 replicas behind {balancer}", cluster, clients, time.monotonic() - began)
    check(cluster.stop() == [0] * 3, "the last ones too")


if FULL:
    def test_updates_behind_haproxy():
        updates("haproxy")


def test_hand_over_behind_haproxy():
    """No time for running jobs to finish: each goes on at its step in the next process, its events go on with the next one."""
    updates("haproxy", drain_timeout_ms=0, fake_unit_us=15000)


def test_updates_behind_nginx():
    """nginx asks nobody how they are: nothing is lost because connections wait for the next process in the socket that outlives them."""
    updates("nginx", held=True, drain_delay_ms=0)


if FULL:
    def test_kills_behind_haproxy():
        """A killed replica breaks the connections it had; whoever asks again finds the job, and it ends once, with the right bytes."""
        known, cluster = known_results(), Cluster(3, "haproxy")
        began, clients = time.monotonic(), Clients(cluster.port, known, patient=True)
        for i in range(KILLS):
            cluster.kill(i % 3)
            time.sleep(0.3)
        check(clients.end(), "every client comes to its end")
        report(f"{KILLS} kills of 3 replicas behind haproxy", cluster, clients, time.monotonic() - began)
        check(cluster.stop() == [0] * 3, "the last ones end well")
