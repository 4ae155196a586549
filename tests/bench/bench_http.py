#!/usr/bin/env python3
"""What serving costs: the same job on a quiet daemon and while clients poll it and follow its events, in turn.

Printed: the job's time per unit of work quiet and polled (each the minimum over the rounds) and their ratio, and how the quiet job's
wall time compares with its units times what a unit takes in a process of its own, and where the quickest quiet job's time went: before
its units, on the device, between units, encoding. The clients run on the same
processor, as they would not in earnest: about 60 requests a second and 8 event streams.
"""
import glob
import http.client
import json
import os
import re
import struct
import subprocess
import threading
import time
import zlib

ROUNDS = 4
POLLERS = 6
POLLS_PER_SECOND = 10
STREAMS = 8


def png(width, height):
    """A picture with edges everywhere, so that every window has work."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            v = 255 if (x // 5 + y // 7) % 2 else 30
            rows += bytes((v, (v + x) & 255, (v + 3 * y) & 255))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b"")


def start():
    model_dir = os.path.dirname(os.environ["YODA_MODEL"]) if os.environ.get("YODA_MODEL") else "models"
    daemon = subprocess.Popen(["build/yodad", "--listen", "127.0.0.1:0", "--model-dir", model_dir], stderr=subprocess.PIPE, text=True)
    port = None
    for line in daemon.stderr:
        entry = json.loads(line)
        if entry["msg"] == "listening":
            port = int(entry["address"].rsplit(":", 1)[1])
        if entry["msg"] == "ready":
            break
    threading.Thread(target=lambda: [None for _ in daemon.stderr], daemon=True).start()
    return daemon, port


def unit_alone():
    """Milliseconds of one unit in a process that does nothing else, as the command measures it."""
    model = os.environ.get("YODA_MODEL") or ""
    text = subprocess.run(["build/yoda", "inspect"] + ([model] if model else glob.glob("models/*.safetensors")[:1]), capture_output=True,
                          text=True, check=True).stdout
    return float(re.search(r"([0-9.]+) ms in", text).group(1))


def ask(connection, method, path, body=None):
    connection.request(method, path, body)
    answer = connection.getresponse()
    return answer.status, answer.read()


def poll(port, path, stop):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while not stop.is_set():
        ask(connection, "GET", path)
        stop.wait(1 / POLLS_PER_SECOND)


def follow(port, path, stop):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path + "/events")
    answer = connection.getresponse()
    while answer.read1(65536) and not stop.is_set():
        pass


def seconds(stamp):
    date, clock = stamp.rstrip("Z").split("T")
    hours, minutes, rest = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def run_job(port, picture, polled):
    """Run one job to its end; its seconds from start to finish, its units, and its own account of them."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    status, body = ask(connection, "POST", "/v1/jobs?seed=%d" % time.time_ns(), picture)
    assert status == 202, body
    path = "/v1/jobs/" + json.loads(body)["id"]
    stop, threads = threading.Event(), []
    if polled:
        threads = [threading.Thread(target=poll, args=(port, path, stop)) for _ in range(POLLERS)]
        threads += [threading.Thread(target=follow, args=(port, path, stop), daemon=True) for _ in range(STREAMS)]
        for t in threads:
            t.start()
    while True:
        status, body = ask(connection, "GET", path + "?wait=30")
        job = json.loads(body)
        if job["state"] not in ("queued", "running"):
            break
    stop.set()
    for t in threads:
        t.join(5)
    assert job["state"] == "succeeded", body
    return (seconds(job["finished"]) - seconds(job["started"])) % 86400, job["progress"]["windows_total"], job["timings"]


def main():
    daemon, port = start()
    try:
        picture = png(96, 96)
        run_job(port, picture, False)
        quiet, polled, alone, units = [], [], [], 0
        for _ in range(ROUNDS):
            t, units, account = run_job(port, picture, False)
            quiet.append((t, account))
            alone.append(unit_alone())
            t, _, _ = run_job(port, picture, True)
            polled.append(t)
        t, account = min(quiet, key=lambda q: q[0])
        q, p, unit_ms = t / units * 1e3, min(polled) / units * 1e3, min(alone)
        print("# a job of %d units; %d polls a second and %d event streams of it" % (units, POLLERS * POLLS_PER_SECOND, STREAMS))
        print("alone   %8.2f ms per unit, in turn with the jobs" % unit_ms)
        print("quiet   %8.2f ms per unit, whole job / (units x unit alone) = %.3f   (aim <= 1.05)" % (q, q / unit_ms))
        print("        of it prepared in %.1f ms, on the device %.1f ms (%.3f of the units alone), between units %.1f ms, encoded in %.1f ms"
              % (account["prepare_ms"], account["device_ms"], account["device_ms"] / units / unit_ms,
                 account["compute_ms"] - account["device_ms"], account["encode_ms"]))
        print("polled  %8.2f ms per unit" % p)
        print("polled / quiet = %.3f   (aim <= 1.05)" % (p / q))
    finally:
        daemon.terminate()
        daemon.wait(60)


if __name__ == "__main__":
    main()
