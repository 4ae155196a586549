#!/usr/bin/env python3
"""Ten thousand quiet streams, fifteen hundred dripping connections, three times the load that can be served; with the fake device.
torture_crowds.py [streams|drips|overload]... The last line is "N passed, N failed, N skipped"."""
import os
import sys
import types

HERE = os.path.dirname(os.path.abspath(__file__))
os.chdir(os.path.join(HERE, "..", ".."))
sys.path[:0] = [HERE, os.path.join("tests", "api")]
sys.dont_write_bytecode = True
import harness  # noqa: E402
import tortures  # noqa: E402

suite = types.ModuleType("crowds")
suite.test_streams = lambda: tortures.quiet_streams(10000, 45, 15000, 12 * 1024, 0.02)
suite.test_drips = lambda: tortures.drips(1500, 9, 4, 1.5)
suite.test_overload = lambda: tortures.overload(3, 8, 0.9, 0.05)
for name in [n for n in vars(suite) if n.startswith("test_") and sys.argv[1:] and n[5:] not in sys.argv[1:]]:
    delattr(suite, name)
harness.run_tests(suite, lambda test: ())
print(f"{harness.passed} passed, {harness.failed} failed, {harness.skipped} skipped")
sys.exit(1 if harness.failed else 0)
