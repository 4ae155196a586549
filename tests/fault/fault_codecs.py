#!/usr/bin/env python3
"""Codec processes at length: 200 killed with a picture in hand, 200 shot at random moments, 2,000 damaged files of each format, while good
traffic goes on. The last line is "N passed, N failed, N skipped". YODA_FAULT_SHARE=0.1 does a tenth of it."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
os.chdir(os.path.join(HERE, "..", ".."))
sys.path.insert(0, os.path.join("tests", "api"))
sys.dont_write_bytecode = True
import codec_abuse as abuse  # noqa: E402
import harness  # noqa: E402
from test_codecs import finish, start  # noqa: E402

SHARE = float(os.environ.get("YODA_FAULT_SHARE", "1"))


def test_two_hundred_killed():
    d = start()
    fds = d.fds()
    worst = abuse.shoot(d, int(200 * SHARE), harness.textured(64, 64), 2)
    print(f"  back after {worst * 1000:.0f} ms at most")
    finish(d, fds)


def test_two_hundred_shot_at_random():
    d = start(codec_wall_ms=1000)
    fds = d.fds()
    traffic = abuse.Traffic(d, forgive=(422, 500))
    seen = abuse.shoot_at_random(d, int(200 * SHARE), harness.textured(200, 200))
    answers = traffic.end()
    good = sum(s == 200 for s, _ in answers)
    print(f"  answers {seen}; of others {good} of {len(answers)} good; restarts {abuse.restarts(d)}")
    harness.check(abuse.wait_for(lambda: abuse.idle(d) == 2, 60), "all processes are back")
    finish(d, fds, crashes_expected=True)


def test_thousands_of_mutants():
    d = start()
    fds = d.fds()
    traffic = abuse.Traffic(d)
    for fmt in ("png", "jpeg", "webp", "tiff"):
        seen, slowest = abuse.feed_mutants(d, fmt, int(2000 * SHARE), seed=7)
        print(f"  {fmt}: {seen}, slowest {slowest * 1000:.0f} ms")
        harness.check(slowest < 5 * harness.SLOWNESS, "none hangs", slowest)
    traffic.end()
    print(f"  restarts: {abuse.restarts(d)}")
    finish(d, fds)


harness.run_tests(sys.modules[__name__], lambda test: ())
print(f"{harness.passed} passed, {harness.failed} failed, {harness.skipped} skipped")
sys.exit(1 if harness.failed else 0)
