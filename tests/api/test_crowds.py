"""Crowds in short: many quiet streams, dripping connections, overload (tests/torture has them at length)."""
import os
import sys

sys.path.insert(0, os.path.join("tests", "torture"))
import tortures  # noqa: E402


def test_quiet_streams():
    tortures.quiet_streams(800, 2.5, 1000, 20 * 1024, 0.2)


def test_drips():
    tortures.drips(200, 1, 3, 10)


def test_overload():
    tortures.overload(1, 3, 0.7, 0.2)
