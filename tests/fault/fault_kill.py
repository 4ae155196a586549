#!/usr/bin/env python3
"""kill -9 at random moments under load, 200 times: no acknowledged job is lost or there twice, every result has the bytes of an undisturbed
run. The last line is "N passed, N failed, N skipped". An argument is another number of kills; YODA_FAULT_SHARE=0.1 does a tenth."""
import os
import shutil
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
os.chdir(os.path.join(HERE, "..", ".."))
sys.path.insert(0, os.path.join("tests", "api"))
sys.dont_write_bytecode = True
import harness  # noqa: E402
import kill_abuse  # noqa: E402

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else int(200 * float(os.environ.get("YODA_FAULT_SHARE", "1")))


def test_killed_under_load():
    folder = tempfile.mkdtemp(prefix="yodad-kill-")
    kill_abuse.kill_and_restart(os.path.join(folder, "state"), KILLS, seed=int(os.environ.get("YODA_FAULT_SEED", "1")))
    shutil.rmtree(folder, ignore_errors=True)


harness.run_tests(sys.modules[__name__], lambda test: ())
print(f"{harness.passed} passed, {harness.failed} failed, {harness.skipped} skipped")
sys.exit(1 if harness.failed else 0)
