#!/usr/bin/env python3
"""What durability costs a submission: POST /v1/jobs until 202, with and without a state directory, alone and from sixteen clients at once.

The two servers are measured in turns, so that ratios hold on a machine that others use too. Run from the root of the tree, after make."""
import http.client
import os
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join("tests", "api"))
sys.dont_write_bytecode = True
from harness import Daemon, textured  # noqa: E402

PICTURE = textured(64, 64)
FLAGS = dict(device="fake", queue_max=100000, max_running=1, fake_unit_us=60000000)


def submit(port, n, times):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(n):
        began = time.monotonic()
        c.request("POST", "/v1/jobs", PICTURE)
        if c.getresponse().read():
            times.append(time.monotonic() - began)
    c.close()


def measure(port, clients, n):
    """Median latency in ms, submissions per second."""
    times, began = [], time.monotonic()
    threads = [threading.Thread(target=submit, args=(port, n, times)) for _ in range(clients)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    took = time.monotonic() - began
    return sorted(times)[len(times) // 2] * 1000, len(times) / took


def main():
    folder = tempfile.mkdtemp(prefix="yodad-bench-")
    durable = Daemon(state_dir=os.path.join(folder, "state"), **FLAGS)
    plain = Daemon(**FLAGS)
    for clients, n in ((1, 60), (16, 15)):
        rounds = [(measure(durable.port, clients, n), measure(plain.port, clients, n)) for _ in range(5)]
        rounds.sort(key=lambda r: r[0][0] / r[1][0])
        (ms, rate), (plain_ms, plain_rate) = rounds[len(rounds) // 2]
        print(f"{clients:2} clients: fsync {ms:.2f} ms, {rate:.0f}/s; none {plain_ms:.2f} ms, {plain_rate:.0f}/s; "
              f"latency x {ms / plain_ms:.2f}, rate x {rate / plain_rate:.2f}")
    for d in (durable, plain):
        d.process.kill()
        d.process.wait()
    shutil.rmtree(folder, ignore_errors=True)


main()
