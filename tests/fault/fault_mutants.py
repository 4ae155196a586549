#!/usr/bin/env python3
"""The tests of promises, tested: builds in which one promise is broken (daemon/mutant.h), each under the test that must notice, and say what.
Prints "N/N mutants detected"; the last line is "N passed, N failed, N skipped". Arguments choose mutants by name."""
import os
import re
import shutil
import subprocess
import sys

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

POWER = ["tests/fault/fault_power_loss.py", "1", "0"]
KILL = ["tests/fault/fault_kill.py", "6"]

#   mutant               the test that must fail                                and what it must say
MUTANTS = [
    ("EARLY_ACK", POWER, "told before the log of the database was synced"),
    ("NO_BLOB_SYNC", POWER, "renamed before it was synced"),
    ("NO_FOLDER_SYNC", POWER, "the folder was never synced"),
    ("NO_COMMIT_SYNC", POWER, "told before the log of the database was synced"),
    ("EARLY_UNLINK", POWER, "a file went before the record of it"),
    ("TRUST_FILES", ["tests/api/run", "test_damage"], "nothing of it is sent"),
    ("IGNORE_ENOSPC", ["tests/fault/fault_disk_full.py"], "what was acknowledged on a full disk is there"),
    ("LEAK", ["tests/torture/torture_soak.py", "60"], "memory stays as it is"),
    ("BYTE_DEADLINE", ["tests/api/run", "test_abuse"], "closed at 0.9 s and a tick"),
    ("NO_REQUEUE", KILL, "no acknowledged job is lost"),
]


def unknown_to_the_table():
    with open("daemon/mutant.h") as f:
        names = set(re.findall(r"YD_MUTANT_(\w+),? +//", f.read()))
    return names ^ {m[0] for m in MUTANTS}


def detected(name, command, words):
    build = subprocess.run(["make", "--no-print-directory", "-j2", f"MUTANT={name}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if build.returncode:
        print(build.stdout[-3000:])
        return False
    env = {**os.environ, "YODAD": f"build/mutants/{name}/yodad", "PYTHONUNBUFFERED": "1"}
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, timeout=600)
    found = run.returncode != 0 and bool(re.search(r"\d+ passed, [1-9]\d* failed, \d+ skipped\s*$", run.stdout)) and words in run.stdout
    print(f"{'ok' if found else 'FAIL':<4} {name:<16} {' '.join(command)}{'' if found else ' did not fail, or not so:'}", flush=True)
    if not found:
        print(run.stdout[-3000:])
    return found


if not shutil.which("strace"):
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)
chosen = [m for m in MUTANTS if not sys.argv[1:] or m[0] in sys.argv[1:]]
found = sum(detected(*m) for m in chosen)
strangers = unknown_to_the_table()
if strangers:
    print(f"FAIL daemon/mutant.h and this table differ: {sorted(strangers)}")
print(f"{found}/{len(chosen)} mutants detected")
failures = len(chosen) - found + bool(strangers)
print(f"{found + (not strangers)} passed, {failures} failed, 0 skipped")
sys.exit(1 if failures else 0)
