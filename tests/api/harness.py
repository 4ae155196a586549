"""What the API tests share: a running yodad, requests by curl and by bare sockets, pictures made on the spot, and the count of checks.

Requests of well-behaved clients go through the real curl; those of ill-behaved ones through sockets. Nothing here retries.
"""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time
import zlib

YODAD = os.environ.get("YODAD", "build/yodad")
YODA = os.environ.get("YODA", "build/yoda")
SLOWNESS = float(os.environ.get("YODA_TEST_SLOWNESS", "1"))  # how much longer instrumented programs may take
TIMEOUT_S = 30 * SLOWNESS
MAX_THREADS = int(os.environ.get("YODA_TEST_THREADS", "2"))  # compute threads; ThreadSanitizer does not understand OpenMP's

passed, failed, skipped = 0, 0, 0
_problems = []


class Skip(Exception):
    """A test that cannot run here."""


def check(ok, what, detail=""):
    if not ok:
        _problems.append(f"not true: {what} {str(detail)[:400]}")
    return ok


def run_tests(module, daemon_for):
    """Run every test_* of a module, in the order written; each is given the daemon that its `daemon` attribute names."""
    global passed, failed, skipped
    for name, fn in list(vars(module).items()):
        if not name.startswith("test_"):
            continue
        _problems.clear()
        began, verdict = time.monotonic(), "ok"
        try:
            fn(*daemon_for(fn))
        except Skip as e:
            verdict = "skip"
            print(f"  skipped: {e}")
        except Exception as e:  # a test that breaks off has failed, and the others still run
            _problems.append(f"{type(e).__name__}: {e}")
        if _problems:
            verdict = "FAIL"
            print("\n".join("  " + p for p in _problems))
        passed += verdict == "ok"
        failed += verdict == "FAIL"
        skipped += verdict == "skip"
        print(f"{verdict:<4} {module.__name__.removeprefix('test_')}: {name[5:].replace('_', ' ')} "
              f"({time.monotonic() - began:.1f} s)", flush=True)


# ---- pictures

def png(width, height, pixel=None, bit_depth=8, colour=2, rows=None):
    """A PNG from pixel(x, y) -> (r, g, b), or from raw scan lines."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    if rows is None:
        rows = b"".join(b"\0" + b"".join(bytes(pixel(x, y)) for x in range(width)) for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, bit_depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def textured(width, height, salt=0):
    return png(width, height, lambda x, y: ((x * 7 + salt) % 256, (y * 5) % 256, (x * y + salt * 31) % 256))


def plain(width, height):
    """One colour: a large picture in few bytes."""
    return png(width, height, rows=(b"\0" + b"\x40\x80\xc0" * width) * height)


def bomb(side=30000):
    """A side x side one-bit picture: some 100 KB that would decode to gigabytes."""
    line = b"\0" + b"\0" * ((side + 7) // 8)
    z = zlib.compressobj(9)
    data = b"".join(z.compress(line * 100) for _ in range(side // 100)) + z.flush()
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_size(data):
    return struct.unpack(">II", data[16:24]) if data[:8] == b"\x89PNG\r\n\x1a\n" else None


def _unfilter(row, above, kind, step):
    for i in range(len(row)):
        left, up = row[i - step] if i >= step else 0, above[i]
        corner = above[i - step] if i >= step else 0
        guess = left + up - corner
        near = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
        row[i] = row[i] + (0, left, up, (left + up) // 2, near)[kind] & 255


def read_png(data):
    """(width, height, bits per sample, colour type, samples row by row) of a PNG that is not interlaced."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if interlaced or data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("no plain PNG")
    step = {0: 1, 2: 3, 4: 2, 6: 4}[colour] * depth // 8
    at, packed = 8, b""
    while at < len(data):
        size = struct.unpack(">I", data[at:at + 4])[0]
        if data[at + 4:at + 8] == b"IDAT":
            packed += data[at + 8:at + 8 + size]
        at += 12 + size
    raw, out, above, line = zlib.decompress(packed), bytearray(), bytearray(width * step), width * step + 1
    for y in range(height):
        row = bytearray(raw[y * line + 1:(y + 1) * line])
        _unfilter(row, above, raw[y * line], step)
        out += row
        above = row
    return width, height, depth, colour, bytes(out)


# ---- requests

class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def header(self, name):
        return self.headers.get(name.lower())


def parse_head(text):
    lines = text.split("\r\n")
    headers = {}
    for line in lines[1:]:
        key, colon, value = line.partition(":")
        if colon:
            headers[key.strip().lower()] = value.strip()
    return int(lines[0].split()[1]), headers


class Daemon:
    """One yodad on a free port of loopback. Flags as keywords: max_pixels=1000 becomes --max-pixels=1000."""

    def __init__(self, wrap=(), pass_fds=(), **flags):  # wrap: a command that runs it, as strace
        self.dir = tempfile.mkdtemp(prefix="yodad-test-")
        self.log_path = os.path.join(self.dir, "log")
        # Tests submit the same picture many times over and mean each: those of the content cache turn it on.
        flags = {"listen": "127.0.0.1:0", "model_dir": self.dir, "content_cache": "false", **flags}
        if os.environ.get("YODA_TEST_STATE"):  # every test with durable jobs, as it stands
            flags.setdefault("state_dir", os.path.join(self.dir, "state"))
        if os.environ.get("YODA_TEST_DEVICE"):  # what computes, where a test does not say it
            flags.setdefault("device", os.environ["YODA_TEST_DEVICE"])
        if MAX_THREADS == 1:
            flags["threads"] = 1
        args = [*wrap, YODAD] + [f"--{k.replace('_', '-')}={v}" for k, v in flags.items()]
        self.log = open(self.log_path, "w+", errors="replace")
        env = {k: v for k, v in os.environ.items() if not k.startswith("YODAD_")}
        self.process = subprocess.Popen(args, stderr=self.log, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=env, pass_fds=pass_fds)
        where = self._await_log(r'"address":"(127\.0\.0\.\d+):(\d+)"')
        self.host, self.port = where.group(1), int(where.group(2))
        self.url = f"http://{self.host}:{self.port}"
        deadline = time.monotonic() + 60 * SLOWNESS
        while self.curl("/readyz").status != 200:
            if not self.alive():
                raise RuntimeError(f"yodad did not start (exit {self.process.poll()}): {self.log_text()[-2000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError("yodad is not ready after 60 s: " + self.log_text()[-2000:])
            time.sleep(0.05)
        time.sleep(0.05)
        self.baseline = self.fds()

    def _await_log(self, pattern):
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            found = re.search(pattern, self.log_text())
            if found:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"yodad did not start (exit {self.process.poll()}): {self.log_text()[-2000:]}")

    def log_text(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def alive(self):
        return self.process.poll() is None

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def settle_fds(self, baseline, seconds=6):
        """Wait until no more descriptors are open than in `baseline`; the number reached."""
        deadline = time.monotonic() + seconds * SLOWNESS
        while (now := self.fds()) > baseline and time.monotonic() < deadline:
            time.sleep(0.05)
        return now

    def calm(self):
        """The descriptors it has with no client, once those of earlier tests are gone."""
        self.settle_fds(self.baseline)
        return self.baseline

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) * 1024

    def stop(self, sig=signal.SIGTERM, seconds=40):
        """Signal it and wait; the exit status, or None when it had to be killed."""
        if self.alive():
            self.process.send_signal(sig)
        return self.wait_exit(seconds)

    def wait_exit(self, seconds=40):
        """Wait for its end; the exit status, or None when it had to be killed."""
        try:
            return self.process.wait(seconds * SLOWNESS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    # -- curl

    def curl_args(self, path, *args, headers=(), timeout=TIMEOUT_S):
        out = ["curl", "-sS", "--max-time", str(timeout), "--globoff"]
        for h in headers:
            out += ["-H", h]
        return out + list(args) + [self.url + path]

    def curl(self, path, *args, data=None, headers=(), timeout=TIMEOUT_S):
        """Run curl -i; data is sent with --data-binary. status 0: no answer (body: what curl said)."""
        extra = ["-i"] + (["--data-binary", "@-"] if data is not None else [])
        p = subprocess.run(self.curl_args(path, *extra, *args, headers=headers, timeout=timeout), input=data or b"",
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out = p.stdout
        while True:
            head, blank, rest = out.partition(b"\r\n\r\n")
            if not blank:
                return Answer(0, {}, p.stderr)
            status, headers_in = parse_head(head.decode("latin-1"))
            if status != 100:
                return Answer(status, headers_in, rest)
            out = rest

    def submit(self, picture, query="", **kw):
        return self.curl("/v1/jobs" + query, data=picture, **kw)

    def job(self, picture, query=""):
        a = self.submit(picture, query)
        if a.status != 202:
            raise AssertionError(f"job refused: {a.status} {a.body[:300]}")
        return a.json()["id"]

    def wait_state(self, job, *states, seconds=30):
        deadline = time.monotonic() + seconds * SLOWNESS
        while time.monotonic() < deadline:
            state = self.curl(f"/v1/jobs/{job}").json()["state"]
            if state in states:
                return state
            time.sleep(0.02)
        raise AssertionError(f"job {job} is {state}, not {states}, after {seconds} s")

    def wait_step(self, job, seconds=30):
        """Until the job is on the device: it has finished a step."""
        deadline = time.monotonic() + seconds * SLOWNESS
        while self.curl(f"/v1/jobs/{job}").json()["progress"]["step"] < 1:
            if time.monotonic() > deadline:
                raise AssertionError(f"job {job} has not finished a step after {seconds} s")
            time.sleep(0.02)

    # -- bare sockets

    def connect(self, timeout=10, receive_buffer=0):
        s = socket.socket()
        s.settimeout(timeout)
        if receive_buffer:  # before the handshake: a window that shrinks later makes TCP crawl
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        s.connect((self.host, self.port))
        return s

    def raw(self, data, timeout=10, half_close=False):
        """Send bytes, read until the server closes or says nothing for a while; what came."""
        with self.connect(timeout) as s:
            s.sendall(data)
            if half_close:
                s.shutdown(socket.SHUT_WR)
            return drain_socket(s, timeout)


def drain_socket(s, timeout):
    s.settimeout(timeout)
    got = b""
    try:
        while True:
            piece = s.recv(65536)
            if not piece:
                return got
            got += piece
    except (socket.timeout, ConnectionError):
        return got


def sse(text):
    """Server-sent events as a list of (id, event, data)."""
    out = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "event" in fields:
            out.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return out


def make_model(folder):
    """The shipped model when there is one, otherwise (or with YODA_TEST_MODEL=small) a small untrained one; a folder with exactly one
    model."""
    import glob
    shipped = sorted(glob.glob("models/*.safetensors")) if os.environ.get("YODA_TEST_MODEL") != "small" else []
    target = os.path.join(folder, "model.safetensors")
    if shipped:
        os.symlink(os.path.abspath(shipped[0]), target)
        return folder
    config = {"format": "yoda-model-1", "name": "untrained-4x",
              "network": {"type": "sr3", "in_channel": 6, "out_channel": 3, "inner_channel": 16, "channel_multiplier": [1, 2],
                          "res_blocks": 1, "norm_groups": 8, "attn_res": [], "image_size": 64, "unshuffle": 4,
                          "mid_attention": False, "noise_scale": 1000},
              "noise_input": "sqrt_gamma", "prediction": "eps", "target": "residual", "residual_scale": 4, "clip": 3,
              "schedule": {"kind": "cosine", "train_steps": 1000}, "scale": 4, "window": 64, "overlap": 16,
              "conditioning": "pillow8",
              "defaults": {"steps": 4, "sampler": "ddim", "eta": 0.5, "attention": "edge", "mask_form": "add", "lower_bound": 0.4}}
    path = os.path.join(folder, "config.json")
    with open(path, "w") as f:
        json.dump(config, f)
    subprocess.run([YODA, "init", path, "-o", target], check=True, stdout=subprocess.DEVNULL)
    os.remove(path)
    return folder


def uses(name):
    """Mark a test with the shared daemon it wants (tests/api/run has the list)."""
    def mark(fn):
        fn.daemon = name
        return fn
    return mark
