#!/usr/bin/env python3
"""What a person waits for: 256 x 256 to 1024 x 1024 in each profile of the model, and the first preview on the way.

Per profile, each the minimum over the rounds, the profiles in turn: the command's seconds with loading and saving; the daemon's from the
request to the final event; and from the request to the first preview event of the job's stream. A preview shows a finished step, so
that the soonest it can come is preparation and one step of windows: the last figure is the wait against that bound.
"""
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from bench_http import ask, png, start  # noqa: E402

ROUNDS = int(os.environ.get("YODA_BENCH_ROUNDS") or 5)
SIDE = int(os.environ.get("YODA_BENCH_SIDE") or 256)
PROFILES = ["fast", "balanced", "best"]


def command_seconds(folder, profile):
    model = os.environ.get("YODA_MODEL")
    began = time.monotonic()
    subprocess.run(["build/yoda", "upscale", f"{folder}/in.png", f"{folder}/out.png", "--quiet", "--quality", profile]
                   + (["--model", model] if model else []), check=True)
    return time.monotonic() - began


def follow(port, path, began):
    """The seconds since `began` at which each kind of event came first, until the stream ends."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", path + "/events")
    stream, first = connection.getresponse(), {}
    for line in iter(stream.readline, b""):
        if line.startswith(b"event:"):
            first.setdefault(line[6:].strip().decode(), time.monotonic() - began)
    return first


def job(port, picture, profile):
    """(seconds to the first preview, to the end, bound of the first preview) of one job through the daemon."""
    began = time.monotonic()
    status, body = ask(http.client.HTTPConnection("127.0.0.1", port), "POST", f"/v1/jobs?quality={profile}&seed={time.time_ns() % 2 ** 53}", picture)
    assert status == 202, body
    path = "/v1/jobs/" + json.loads(body)["id"]
    first = follow(port, path, began)
    done = json.loads(ask(http.client.HTTPConnection("127.0.0.1", port), "GET", path)[1])  # the daemon may have closed the first connection
    assert done["state"] == "succeeded" and "preview" in first, (done, first)
    steps, account = done["settings"]["steps"], done["timings"]
    bound = (account["prepare_ms"] + account["device_ms"] / steps) / 1e3
    return first["preview"], first["succeeded"], bound


def main():
    picture = png(SIDE, SIDE)
    figures = {p: {"command": [], "preview": [], "end": [], "ratio": []} for p in PROFILES}
    daemon, port = start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/in.png", "wb") as f:
                f.write(picture)
            job(port, picture, "fast")
            for _ in range(ROUNDS):
                for profile in PROFILES:
                    f = figures[profile]
                    f["command"].append(command_seconds(folder, profile))
                    preview, end, bound = job(port, picture, profile)
                    f["preview"].append(preview)
                    f["end"].append(end)
                    f["ratio"].append(preview / bound)
    finally:
        daemon.terminate()
        daemon.wait(60)
    print("# %d x %d to %d x %d, least of %d rounds" % (SIDE, SIDE, SIDE * 4, SIDE * 4, ROUNDS))
    print("profile    command, s   daemon, s   first preview, s   first preview / (preparation + one step)")
    for profile in PROFILES:
        f = figures[profile]
        print("%-10s %10.2f %11.2f %18.2f %10.3f" % (profile, min(f["command"]), min(f["end"]), min(f["preview"]), min(f["ratio"])))


if __name__ == "__main__":
    main()
