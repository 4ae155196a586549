"""The service as its systemd unit confines it."""
import os
import re
import sys
import tempfile

from harness import Daemon, check, textured

UNDER_UNIT = (sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "under_unit.py"))


def test_system_calls():
    """Everything works with the calls that the unit leaves, and codecs can still confine themselves further."""
    with tempfile.TemporaryDirectory(prefix="yodad-unit-") as state:
        d = Daemon(wrap=UNDER_UNIT, device="fake", fake_unit_us=200, state_dir=state)
        a = d.curl("/v1/upscale?steps=2", data=textured(24, 16))
        check(a.status == 200, "a picture", a.body[:300])
        job = d.job(textured(24, 16, 1), "?steps=3")
        check(d.wait_state(job, "succeeded", "failed") == "succeeded", "a durable job")
        with open(f"/proc/{d.process.pid}/task/{d.process.pid}/children") as f:
            children = f.read().split()
        filters = []
        for pid in children:
            with open(f"/proc/{pid}/status") as f:
                filters.append(int(re.search(r"Seccomp_filters:\s+(\d+)", f.read()).group(1)))
        check(filters and min(filters) == 2, "each codec has the unit's filter and its own", filters)
        check("warning" not in d.log_text().lower(), "no warnings", d.log_text()[-600:])
        check(d.stop() == 0, "the daemon ends well")
