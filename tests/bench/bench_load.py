#!/usr/bin/env python3
"""What a load costs the jobs that are under way: pauses between the steps of a job while another model comes and goes.

tests/bench/bench_load.py [ROUNDS] [--model FILE]   (default: 5 rounds; both shipped models, or FILE beside the first)

One job of one window takes as many steps as it may, so that a step is one unit of work; its `step` events carry the server's own clock. Half of the
rounds nothing else happens, in the other half the second model is loaded and unloaded again. Printed are the median, the 99th percentile and
the longest pause of each, how long a load took, and what the log says of its longest step on the device, for which a job of another model may wait.
"""
import os
import shutil
import statistics
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
os.chdir(os.path.join(HERE, "..", ".."))
sys.path.insert(0, "tests/api")
sys.dont_write_bytecode = True
from harness import Daemon, sse, textured  # noqa: E402

SMALL = textured(16, 16)


def pauses(d, meanwhile):
    job = d.job(SMALL, "?steps=1000&lower_bound=1&preview_every=0&model=first")
    d.wait_step(job)
    spans = meanwhile() or []
    d.wait_state(job, "succeeded", seconds=600)
    at = [e[2]["elapsed_ms"] for e in sse(d.curl(f"/v1/jobs/{job}/events", timeout=60).body.decode()) if e[1] == "step"]
    return [b - a for a, b in zip(at, at[1:])], spans


def come_and_go(d):
    spans = []
    for _ in range(3):
        began = time.monotonic()
        a = d.curl("/v1/models/second/load?wait=60", "-X", "POST", timeout=120)
        spans.append(time.monotonic() - began)
        if a.status != 200:
            raise SystemExit(f"not loaded: {a.body[:400]}")
        d.curl("/v1/models/second/unload?wait=60", "-X", "POST", timeout=120)
    return spans


def show(name, ms):
    ms.sort()
    print(f"{name:<22} {len(ms):>6} {statistics.median(ms):>9.2f} {ms[len(ms) * 99 // 100]:>9.2f} {ms[-1]:>9.2f}")


def main():
    args = sys.argv[1:]
    second = args.pop(args.index("--model") + 1) if "--model" in args else "models/yoda-photo-4x.safetensors"
    rounds = int(next((a for a in args if a.isdigit()), "5"))
    folder = tempfile.mkdtemp(prefix="yodad-load-")
    os.symlink(os.path.abspath("models/yoda-compact-4x.safetensors"), os.path.join(folder, "first.safetensors"))
    os.symlink(os.path.abspath(second), os.path.join(folder, "second.safetensors"))
    d = Daemon(model_dir=folder, model="first", max_job_units=100000, max_events=100000)
    alone, beside, loads = [], [], []
    for _ in range(rounds):
        alone += pauses(d, lambda: None)[0]
        ms, spans = pauses(d, lambda: come_and_go(d))
        beside += ms
        loads += spans
    print(f"{'pause between steps':<22} {'n':>6} {'median':>9} {'p99':>9} {'longest':>9}   (ms)")
    show("nothing else", alone)
    show("a model comes and goes", beside)
    print(f"load: median {statistics.median(loads) * 1000:.0f} ms, longest {max(loads) * 1000:.0f} ms")
    for line in d.log_text().splitlines():
        if '"model loaded"' in line and "second" in line:
            last = line
    print(last)
    status = d.stop()
    shutil.rmtree(folder, ignore_errors=True)
    return 0 if status == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
