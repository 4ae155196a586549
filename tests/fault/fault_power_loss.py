#!/usr/bin/env python3
"""Power lost between any two syncs of a server that takes, finishes, deletes, expires and delivers jobs and batches: the order of its calls,
then a restart on what each moment leaves, with everything unsynced lost, only names, only data, and random parts of both. The last line is
"N passed, N failed, N skipped". An argument is how many moments (default 100, those after an answer first; 0: all); a second one how many random parts (default 1)."""
import os
import random
import shutil
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
os.chdir(os.path.join(HERE, "..", ".."))
sys.path.insert(0, os.path.join("tests", "api"))
sys.dont_write_bytecode = True
import harness  # noqa: E402
import power_abuse  # noqa: E402
import power_log  # noqa: E402
from harness import check  # noqa: E402

SEED = int(os.environ.get("YODA_FAULT_SEED", "1"))
SHARE = float(os.environ.get("YODA_FAULT_SHARE", "1"))
MOMENTS = int(sys.argv[1]) if len(sys.argv) > 1 else max(1, round(100 * SHARE))
PARTS = int(sys.argv[2]) if len(sys.argv) > 2 else 1


def test_power_loss():
    folder = tempfile.mkdtemp(prefix="yodad-power-run-")
    record = power_abuse.Record(folder)
    wrong = power_abuse.order_of(record)
    print(f"  {len(record.calls)} calls, {len(record.disk.syncs)} syncs, {len(record.claims)} promises", flush=True)
    if not check(not wrong, "the order holds", wrong):
        return
    at, rng = power_abuse.moments(record), random.Random(SEED)
    n = MOMENTS or len(at)
    must = set(power_abuse.telling(record))
    if n < len(at):
        at = sorted(sorted(at, key=lambda m: (m not in must, rng.random()))[:n])
    images, began = 0, time.monotonic()
    for k, moment in enumerate(at):
        losses = dict(power_log.LOSSES)
        losses.update({f"part {i} is lost": (power_log.some(SEED + 2 * (k * PARTS + i)), power_log.some(SEED + 2 * (k * PARTS + i) + 1))
                       for i in range(PARTS)})
        for name, loss in losses.items():
            images += 1
            if not power_abuse.judge(record, moment, loss, f"moment {k} of {len(at)} (line {moment}), {name}"):
                shutil.copy(os.path.join(folder, "log"), "build/power-loss.log")
                return
        if k % 10 == 9:
            print(f"  {k + 1} of {len(at)} moments, {images} images, {time.monotonic() - began:.0f} s", flush=True)
    print(f"  {len(at)} moments, {images} images: every promise held in {images - len(harness._problems)}")
    shutil.rmtree(folder, ignore_errors=True)


if not shutil.which("strace"):
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)
harness.run_tests(sys.modules[__name__], lambda test: ())
print(f"{harness.passed} passed, {harness.failed} failed, {harness.skipped} skipped")
sys.exit(1 if harness.failed else 0)
