#!/usr/bin/env python3
"""What a machine can serve, for planning: units of work a second with each model that ships, and pictures an hour at each quality.

A unit is a window at a step. A job takes as many of them as its picture has windows and its quality steps, less those that its attention map leaves out (said
where there are any). The table is that of docs/operations/sizing.md; SIZING_SIDES=256,512 chooses other sides of the (square) pictures."""
import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.join("tests", "api"))
sys.dont_write_bytecode = True
from harness import Daemon, png, read_png  # noqa: E402

SIDES = [int(s) for s in os.environ.get("SIZING_SIDES", "64,128").split(",")]
MODELS = ["yoda-compact-4x", "yoda-photo-4x"]


def photograph(side):
    """The middle of a photograph."""
    with open("docs/images/astronaut.png", "rb") as f:
        w, h, _, colour, samples = read_png(f.read())
    step, left, top = {2: 3, 6: 4}[colour], (w - side) // 2, (h - side) // 2
    rows = b"".join(b"\0" + samples[(y * w + left) * step:(y * w + left + side) * step] for y in range(top, top + side))
    return png(side, side, colour=colour, rows=rows)


def measure(d, side, quality):
    """Units, the share left out, seconds of the device and of everything."""
    job = d.job(photograph(side), f"?quality={quality}")
    d.wait_state(job, "succeeded", "failed", seconds=3600)
    a = d.curl(f"/v1/jobs/{job}").json()
    p, t = a["progress"], a["timings"]
    return p["windows_done"], p["windows_skipped"] / max(1, p["windows_done"] + p["windows_skipped"]), t["device_ms"] / 1000, t["total_ms"] / 1000


def main():
    print("| model | quality | picture | units | time of a unit | units a second | a picture takes | pictures an hour |\n|---|---|---|---|---|---|---|---|")
    for model in MODELS:
        with tempfile.TemporaryDirectory() as state:
            d = Daemon(model_dir="models", model=model, state_dir=state)
            qualities = list(json.loads(d.curl(f"/v1/models/{model}").body).get("profiles", {})) or ["fast", "balanced", "best"]
            d.job(photograph(64), "?quality=" + qualities[0])
            for quality in qualities:
                for side in SIDES:
                    units, left_out, device, total = measure(d, side, quality)
                    print(f"| `{model}` | `{quality}` | {side} x {side} | {units}{f' ({left_out:.0%} left out)' if left_out else ''} | {device / max(1, units) * 1000:.1f} ms | {units / device:.0f} | {total:.1f} s | {3600 / total:.0f} |", flush=True)
            d.stop()


main()
