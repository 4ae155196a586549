"""Loss of power: the order in which jobs are stored and told, and what a server finds after a few moments of it. All of them: fault_power_loss.py."""
import os
import shutil
import tempfile

import power_abuse
import power_log
from harness import SLOWNESS, Skip, check


def without(record, end):
    """The calls of a record as they would be without the syncs of files that end so."""
    return [c for c in record.calls if not power_abuse.is_sync(c, end)]


def test_power_lost_after_an_answer():
    if not shutil.which("strace") or SLOWNESS > 1:
        raise Skip("no strace, or an instrumented program")
    folder = tempfile.mkdtemp(prefix="yodad-power-run-")
    record = power_abuse.Record(folder)
    wrong = power_abuse.order_of(record)
    check(not wrong, "the order holds for every answer", wrong)
    for end in ("/pictures/.new", "/pictures", "-wal"):
        check(power_abuse.order_of(record, without(record, end)), f"without syncs of {end} it would not")
    at = power_abuse.telling(record)
    check(len(at) >= 10 and len(record.claims) >= 30, "a client was promised much", (len(at), len(record.claims)))
    for n, moment in enumerate(at[k * (len(at) - 1) // 5] for k in range(6)):
        loss = power_log.LOSSES["all is lost"] if n % 2 == 0 else (power_log.some(n), power_log.some(n + 100))
        power_abuse.judge(record, moment, loss, f"power lost at line {moment} of {os.path.join(folder, 'log')}")
    shutil.rmtree(folder, ignore_errors=True)
