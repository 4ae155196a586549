#!/usr/bin/env python3
"""What looking at a stored result costs its download: GET .../result of small and large results after a restart, the first one and the following,
beside a build that does not look (make MUTANT=TRUST_FILES). In turns, so that ratios hold on a machine that others use too."""
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join("tests", "api"))
sys.dont_write_bytecode = True
import harness  # noqa: E402
from harness import Daemon, textured  # noqa: E402

TRUSTING = "build/mutants/TRUST_FILES/yodad"
SIZES = {"small": (64, 48, 400), "large": (1000, 800, 40)}  # picture, downloads


def fetch(c, job):
    began = time.monotonic()
    c.request("GET", f"/v1/jobs/{job}/result")
    n = len(c.getresponse().read())
    return time.monotonic() - began, n


def measure(program, state, jobs):
    """name -> (first download in ms, median of the following in ms, bytes)."""
    harness.YODAD = program
    d = Daemon(device="fake", state_dir=state)
    c, out = http.client.HTTPConnection("127.0.0.1", d.port, timeout=30), {}
    for name, job in jobs.items():
        first, n = fetch(c, job)
        times = sorted(fetch(c, job)[0] for _ in range(SIZES[name][2]))
        out[name] = first * 1000, times[len(times) // 2] * 1000, n
    c.close()
    d.stop()
    return out


def main():
    subprocess.run(["make", "--no-print-directory", "-s", "MUTANT=TRUST_FILES"], check=True)
    folder, ours = tempfile.mkdtemp(prefix="yodad-bench-"), harness.YODAD
    state = os.path.join(folder, "state")
    d, jobs = Daemon(device="fake", state_dir=state), {}
    for name, (w, h, _) in SIZES.items():
        jobs[name] = json.loads(d.submit(textured(w, h), "?steps=2").body)["id"]
        d.wait_state(jobs[name], "succeeded")
    d.stop()
    rounds = [(measure(ours, state, jobs), measure(TRUSTING, state, jobs)) for _ in range(7)]
    for name in SIZES:
        def median(values):
            return sorted(values)[len(rounds) // 2]
        for which, what in ((0, "first"), (1, "following")):
            looks, trusts = median([r[0][name][which] for r in rounds]), median([r[1][name][which] for r in rounds])
            mb = rounds[0][0][name][2] / 1e6
            print(f"{name} ({mb:.2f} MB), {what:9}: {looks:.2f} ms, {mb / looks * 1000:.0f} MB/s; without a look {trusts:.2f} ms, "
                  f"{mb / trusts * 1000:.0f} MB/s; x {looks / trusts:.2f}")
    shutil.rmtree(folder, ignore_errors=True)


main()
