"""One network evaluation of yodad's CPU engine against other engines: same weights, same inputs, both cores, in one interleaved run.

    make bench-peers                       (makes the virtual environment and starts this)
    compare.py [word of a case]... [--rounds N] [--peers NAME,NAME]     cases: paper-f32-1 sr3_16_128-f32-1 srdiff-f32-1 compact-bf16-4 ...

Every engine is a process of its own (ours.c, worker.py) that loads a case and then sleeps; the driver lets them evaluate in turns,
A B C A B C, and takes the minimum of each. A case counts only when
  * all outputs agree with ours in f32 (a ratio between different functions is worthless),
  * the machine's FMA peak, probed before and after, moved by at most a tenth,
  * the sleeping engines used next to no processor time while another had its turn.
Loading and compiling run at the priority this was started with, measuring at the highest that the user may have. YODA_BENCH_LOCK
names a file that is locked while measuring, for machines that several such runs share. Everything goes to build/peers/result.json.
"""
import argparse
import fcntl
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
WORK = "build/peers"
OURS = "build/obj/release/bench/peers/ours"
PEERS = ["yodad", "eager", "compile", "onnxruntime", "openvino"]
LABEL = {"yodad": "yodad", "eager": "torch eager", "compile": "torch compile", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
# What ours should be ahead of a compiled PyTorch by, and every other peer is shown against as well.
GATE = {"f32": 1.3, "bf16": 1.1}
# Largest difference from ours in f32, as a share of the largest value. bf16 keeps 8 bits, through some hundred layers.
TOLERANCE = {"f32": 2e-3, "bf16": 1e-1}
PEAK_MAY_MOVE = 1.10
IDLE_MAY_USE = 0.02  # of one core
SLICE_S = 0.2        # a turn is as many evaluations as fit in about this, at least one
SETTLE_S = 0.02      # between turns: long enough for a pool's threads to stop spinning and sleep


class Engine:
    """A worker process and the words to it."""

    def __init__(self, name):
        self.name, self.info, self.error = name, {}, None
        command = [OURS] if name == "yodad" else [sys.executable, os.path.join(HERE, "worker.py"), name]
        # OpenMP's threads stay on their cores: on a machine with other work, a thread that slept may wake up beside its sibling.
        env = dict(os.environ, OMP_PROC_BIND="true", TORCHINDUCTOR_CACHE_DIR=os.path.abspath(f"{WORK}/inductor"),
                   PYTHONDONTWRITEBYTECODE="1")
        if name == "yodad":
            # What it would set itself before it starts itself anew; bound to one core by then, it would see no other.
            env |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "2000", "YODA_OMP_PREPARED": "1"}
        self.log = open(f"{WORK}/{name}.log", "w")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=env, text=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else {"error": f"ended with status {self.process.wait()}"}

    def cpu_s(self):
        """Processor time of all its threads so far (the process's CPU clock)."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def set_nice(self, value):
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            try:
                os.setpriority(os.PRIO_PROCESS, int(thread), value)
            except (PermissionError, ProcessLookupError):
                pass  # a user may not raise it: then it stays where it is

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.log.close()


def prepare_models():
    """The models below WORK, under names that change with their bytes, so that what is converted from them stays right."""
    made, models = {name: f"{WORK}/{name}.safetensors" for name in ("paper", "sr3_16_128", "srdiff")}, {}
    for name, path in made.items():
        subprocess.run([OURS, name, path + ".new"], check=True)
        os.rename(path + ".new", path)
    for name, path in (*made.items(), ("compact", "models/yoda-compact-4x.safetensors")):
        with open(path, "rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()[:12]
        models[name] = f"{WORK}/{name}-{digest}.safetensors"
        if not os.path.exists(models[name]):
            shutil.copyfile(path, models[name])
    for path in made.values():
        os.unlink(path)
    return models


def read_config(path):
    with open(path, "rb") as f:
        return json.loads(json.loads(f.read(int.from_bytes(f.read(8), "little")))["__metadata__"]["yoda.config"])


def write_input(path, batch, config):
    """Windows NHWC, then levels: of a network with an encoder x and, behind it, as many channels as that would have made."""
    rng, size, net = np.random.default_rng(batch), config["window"], config["network"]
    encoded = net["type"] == "srdiff"
    x = rng.standard_normal((batch, size, size, 3 + net["inner_channel"] if encoded else 6), np.float32)
    level = np.linspace(20, 90, batch, dtype=np.float32).round() if encoded else np.linspace(0.2, 0.9, batch, dtype=np.float32)
    with open(path, "wb") as f:
        f.write(x.tobytes() + level.tobytes())


def load_case(engines, model, dtype, batch):
    """Load a case everywhere and compare the outputs. `error` is why an engine takes no part."""
    source = f"{WORK}/input-{batch}.f32"
    write_input(source, batch, read_config(model))
    reference = f"{WORK}/reference.f32"
    answer = engines[0].ask(f"load {model} f32 {batch} {source} {reference}")
    if "error" in answer:
        sys.exit(f"yodad: {answer['error']}")
    reference = np.fromfile(reference, np.float32)
    for e in engines:
        target = f"{WORK}/output-{e.name}.f32"
        e.set_nice(os.getpriority(os.PRIO_PROCESS, 0))
        begin = time.monotonic()
        e.info = e.ask(f"load {model} {dtype} {batch} {source} {target}")
        e.error = e.info.get("error")
        e.load_s = time.monotonic() - begin
        if not e.error:
            out = np.fromfile(target, np.float32)
            e.diff = float(np.abs(out - reference).max() / np.abs(reference).max()) if out.size == reference.size else np.inf
            if not e.diff <= TOLERANCE[dtype]:
                e.error = f"computes something else: off by {e.diff:.3g} of the largest value"


def measure(engines, dtype, rounds):
    """Interleaved turns. Returns (seconds per engine, peak before and after, idle use of a core)."""
    times, busy, spent = {}, {}, {}
    for e in engines:
        e.set_nice(-19)
        times[e.name], busy[e.name] = [], 0.0
    counts = {e.name: max(1, int(SLICE_S / min(e.ask("run 2")["seconds"]))) for e in engines}
    before = engines[0].ask(f"peak {dtype}")["flops"]
    start, cpu0 = time.monotonic(), {e.name: e.cpu_s() for e in engines}
    for _ in range(rounds):
        for e in engines:
            own = e.cpu_s()
            times[e.name] += e.ask(f"run {counts[e.name]}")["seconds"]
            time.sleep(SETTLE_S)
            busy[e.name] += e.cpu_s() - own
    wall = time.monotonic() - start
    for e in engines:
        spent[e.name] = (e.cpu_s() - cpu0[e.name] - busy[e.name]) / wall
    after = engines[0].ask(f"peak {dtype}")["flops"]
    return times, (before, after), spent


class QuietMachine:
    """Holds the lock that others' measurements wait for, where there is one."""

    def __enter__(self):
        path = os.environ.get("YODA_BENCH_LOCK")
        self.file = open(path, "a") if path else None
        if self.file:
            fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        if self.file:
            self.file.close()


def report(case, engines, times, peaks, idle):
    """Print a case's table; returns it for the file."""
    name, dtype, batch = case
    peak = max(peaks)
    best = min(times["yodad"])
    flops = engines[0].info["flops"]
    void = []
    if max(peaks) / min(peaks) > PEAK_MAY_MOVE:
        void.append("the peak moved by more than a tenth")
    if max(idle.values()) > IDLE_MAY_USE:
        void.append(f"{max(idle, key=idle.get)} was busy while others had their turn")
    print(f"\n{name}, {dtype}, batch {batch}: {flops / 1e9:.1f} GFLOP, peak {peak / 1e9:.0f} GFLOP/s before and after "
          f"within {max(peaks) / min(peaks) - 1:.1%}{''.join('; VOID: ' + v for v in void)}")
    print(f"  {'engine':<14} {'min ms':>9} {'median':>9} {'turns':>6} {'of peak':>8} {'max diff':>9} {'idle':>6} {'theirs/ours':>12}")
    rows = {}
    for e in engines:
        if e.error:
            print(f"  {LABEL[e.name]:<14} {e.error[:100]}")
            rows[e.name] = {"error": e.error}
            continue
        t = times[e.name]
        ratio = min(t) / best
        gate = "" if e.name == "yodad" else f" {'>=' if ratio >= GATE[dtype] else '< '} {GATE[dtype]}"
        rows[e.name] = {"min_s": min(t), "median_s": statistics.median(t), "evaluations": len(t), "of_peak": flops / min(t) / peak,
                        "max_diff": e.diff, "idle": idle[e.name], "ratio": ratio, "load_s": e.load_s, **e.info}
        print(f"  {LABEL[e.name]:<14} {min(t) * 1e3:9.2f} {statistics.median(t) * 1e3:9.2f} {len(t):6d} {flops / min(t) / peak:8.2f} "
              f"{e.diff:9.1e} {idle[e.name]:6.1%} {ratio:7.2f}{gate}")
    sys.stdout.flush()
    return {"model": name, "dtype": dtype, "batch": batch, "peaks": peaks, "void": void, "engines": rows}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("words", nargs="*", help="only cases whose name has one of these")
    p.add_argument("--rounds", type=int, default=10)
    p.add_argument("--peers", default=",".join(PEERS[1:]))
    args = p.parse_args()
    os.makedirs(WORK, exist_ok=True)
    models = prepare_models()
    cases = [(m, d, b) for m in models for d in ("f32", "bf16") for b in (1, 4)
             if not args.words or any(w in f"{m}-{d}-{b}" for w in args.words)]
    engines = [Engine(n) for n in PEERS if n == "yodad" or n in args.peers.split(",")]
    results, versions = [], {}
    try:
        for case in cases:
            load_case(engines, models[case[0]], *case[1:])
            able = [e for e in engines if not e.error]
            if engines[0].error:
                print(f"\n{case}: {engines[0].error}")
                results.append({"case": case, "void": [engines[0].error]})
                continue
            with QuietMachine():
                measured = measure(able, case[1], args.rounds)
            results.append(report(case, engines, *measured))
            versions |= {LABEL[e.name]: f"{e.info['version']} ({e.info['detail']})" for e in able}
    finally:
        for e in engines:
            e.end()
    gcc = subprocess.run(["g++", "--version"], capture_output=True, text=True).stdout.partition("\n")[0]
    print("\n" + "\n".join(f"{k}: {v}" for k, v in versions.items()) + f"\n{gcc}; Python {platform.python_version()}")
    with open(f"{WORK}/result.json", "w") as f:
        json.dump({"versions": versions, "gcc": gcc, "gates": GATE, "results": results}, f, indent=1)
    wrong = [r for r in results if r["void"] or any("computes something else" in e.get("error", "") for e in r["engines"].values())]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
