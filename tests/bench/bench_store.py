#!/usr/bin/env python3
"""What jobs cost where records are in Redis with every change synced: jobs a second through their whole life, and the server's memory for each that is kept.

One redis-server, one yodad with the fake device, sixteen clients that submit pictures all different, so that none is answered from another's result. After
that a poll of a finished job, as a client on one connection sees it, beside the same of a server with a store of its own. Run from the root of the tree, after make."""
import http.client
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time

sys.path[:0] = [os.path.join("tests", "cluster"), os.path.join("tests", "api")]
sys.dont_write_bytecode = True
from cluster import Redis  # noqa: E402
from harness import Daemon, textured  # noqa: E402

CLIENTS, EACH = 16, 60
FLAGS = dict(device="fake", queue_max=100000, max_running=8, fake_unit_us=0, max_finished_jobs=100000)


def submit(port, pictures, ids):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for p in pictures:
        c.request("POST", "/v1/jobs?steps=1", p)
        a = c.getresponse()
        body = a.read()
        if a.status != 202:
            print(f"refused: {a.status} {body[:300]}")
            return
        ids.append(json.loads(body)["id"])
    c.close()


def jobs_a_second(d, pictures):
    """Until the last one has ended."""
    ids, began = [], time.monotonic()
    threads = [threading.Thread(target=submit, args=(d.port, pictures[n::CLIENTS], ids)) for n in range(CLIENTS)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    accepted = time.monotonic() - began
    if len(ids) != len(pictures):
        sys.exit("not every submission was taken")
    for i in ids:
        if d.wait_state(i, "succeeded", "failed", seconds=300) != "succeeded":
            sys.exit(f"job {i} failed")
    return len(ids) / accepted, len(ids) / (time.monotonic() - began), ids


def poll_ms(d, job):
    c, times = http.client.HTTPConnection("127.0.0.1", d.port, timeout=60), []
    for _ in range(1000):
        began = time.monotonic()
        c.request("GET", f"/v1/jobs/{job}")
        c.getresponse().read()
        times.append(time.monotonic() - began)
    c.close()
    return statistics.median(times) * 1000


def main():
    folder = tempfile.mkdtemp(prefix="yodad-bench-")
    redis = Redis(folder)
    redis.do("config", "set", "appendfsync", "always")
    shared = Daemon(state_dir=os.path.join(folder, "state"), store=f"unix://{redis.socket}", **FLAGS)
    own = Daemon(state_dir=os.path.join(folder, "own"), **FLAGS)
    pictures = [textured(16, 16, seed) for seed in range(CLIENTS * EACH)]

    def used():
        return int(next(line for line in redis.do("info", "memory").split("\n") if line.startswith("used_memory:")).split(":")[1])

    before = used()
    accepted, finished, ids = jobs_a_second(shared, pictures)
    print(f"{CLIENTS} clients, {len(ids)} jobs: {accepted:.0f} submissions a second, {finished:.0f} jobs a second to their end, "
          f"{(used() - before) / len(ids) / 1000:.1f} KB of Redis' memory for each, its log included")
    other = own.job(pictures[0], "?steps=1")
    own.wait_state(other, "succeeded")
    ms = [(poll_ms(shared, ids[0]), poll_ms(own, other)) for _ in range(3)]
    print(f"a poll: {min(m[0] for m in ms):.2f} ms, with a store of its own {min(m[1] for m in ms):.2f} ms")
    for d in (shared, own):
        d.process.kill()
        d.process.wait()
    redis.kill()
    shutil.rmtree(folder, ignore_errors=True)


main()
