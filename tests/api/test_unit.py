"""The service as its systemd unit confines it, and as systemd talks with it."""
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

from harness import SLOWNESS, YODAD, Daemon, check, textured

UNDER_UNIT = (sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "under_unit.py"))


def test_confinement():
    """Everything works with the calls, the address families and the network that the unit leaves, and codecs still confine themselves further."""
    with tempfile.TemporaryDirectory(prefix="yodad-unit-") as state:
        d = Daemon(wrap=UNDER_UNIT, device="fake", fake_unit_us=200, state_dir=state, listen="127.0.0.1:1")
        check(d.port != 1, "the socket that was handed over is served, not another", d.port)
        if os.geteuid() == 0:
            check(os.readlink(f"/proc/{d.process.pid}/ns/net") != os.readlink("/proc/self/ns/net"), "it has no network but that socket")
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
            with open(f"/proc/{pid}/environ") as f:
                check("LISTEN_FDS" not in f.read(), "what is for yodad is not handed on")
        check(filters and min(filters) == 2, "each codec has the unit's filter and its own", filters)
        check("warning" not in d.log_text().lower(), "no warnings", d.log_text()[-600:])
        check(d.stop() == 0, "the daemon ends well")


class Supervisor:
    """The socket that systemd listens on for what its services say."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.heard = []

    def listen(self, until, seconds=10):
        """Take messages until one has this line; the messages of this call."""
        heard, deadline = [], time.monotonic() + seconds * SLOWNESS
        while time.monotonic() < deadline:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                heard.append(self.socket.recv(4096).decode().split("\n"))
            except socket.timeout:
                break
            if until in heard[-1]:
                break
        self.heard += heard
        return heard

    def environment(self, watchdog_us=None):
        os.environ["NOTIFY_SOCKET"] = self.path
        if watchdog_us:
            os.environ["WATCHDOG_USEC"] = str(watchdog_us)

    def close(self):
        for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC"):
            os.environ.pop(name, None)
        self.socket.close()


def test_supervision():
    """Ready when it is, watchdog fed by the loop and by nothing else, reload and stop said."""
    with tempfile.TemporaryDirectory(prefix="yodad-unit-") as folder:
        s = Supervisor(folder)
        s.environment(watchdog_us=400000)
        try:
            d = Daemon(device="fake")
            ready = s.listen("READY=1")
            check(any("READY=1" in m for m in ready), "ready is said", ready)
            began, beats = time.monotonic(), 0
            while time.monotonic() - began < 1.5 * SLOWNESS:
                beats += any("WATCHDOG=1" in m for m in s.listen("WATCHDOG=1", 1))
            check(beats >= 4, "the watchdog is fed at twice its rate", beats)
            d.process.send_signal(signal.SIGHUP)
            reloaded = s.listen("READY=1")
            check(any("RELOADING=1" in m and any(line.startswith("MONOTONIC_USEC=") for line in m) for m in reloaded) and "READY=1" in reloaded[-1],
                  "a reload begins and ends", reloaded)
            d.process.send_signal(signal.SIGSTOP)
            s.listen("nothing", 0.3)
            silent = s.listen("WATCHDOG=1", 1)
            check(not silent, "a process that stands still says nothing", silent)
            d.process.send_signal(signal.SIGCONT)
            d.process.send_signal(signal.SIGTERM)
            check(any("STOPPING=1" in m for m in s.listen("STOPPING=1") + s.heard), "stopping is said")
            check(d.stop() == 0, "the daemon ends well")
        finally:
            s.close()


def test_handed_over_wrongly():
    """What is no listening TCP socket is refused with words, and so is one beyond loopback when nobody is asked for a key."""
    cases = [("datagrams", socket.SOCK_DGRAM, "127.0.0.1", False, "no listening TCP socket"), ("not listening", socket.SOCK_STREAM, "127.0.0.1", False, "no listening TCP socket"),
             ("every address", socket.SOCK_STREAM, "0.0.0.0", True, "no loopback address")]
    for name, kind, host, listens, words in cases:
        with socket.socket(socket.AF_INET, kind) as s:
            s.bind((host, 0))
            if listens:
                s.listen()
            script = f"exec 3<&{s.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec {YODAD} --device=fake"
            p = subprocess.run(["bash", "-c", script], pass_fds=[s.fileno()], capture_output=True, text=True, timeout=20 * SLOWNESS)
            check(p.returncode == 1 and words in p.stderr, name, (p.returncode, p.stderr[-300:]))


def test_probe():
    d = Daemon(device="fake", fake_unit_us=5000, drain_delay_ms=3000)

    def probe(*flags):
        p = subprocess.run([YODAD, f"--listen=127.0.0.1:{d.port}", *flags], capture_output=True, text=True, timeout=20 * SLOWNESS)
        return p.returncode, p.stderr
    check(probe("--probe") == (0, ""), "ready", probe("--probe"))
    check(probe("--probe-live") == (0, ""), "alive")
    d.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    code, words = probe("--probe")
    check(code == 1 and "/readyz" in words and "503" in words, "not ready while it drains, and why", (code, words))
    check(probe("--probe-live")[0] == 0, "but alive")
    check(d.stop() == 0, "the daemon ends well")
    code, words = probe("--probe")
    check(code == 1 and "nobody answers" in words, "gone", (code, words))
