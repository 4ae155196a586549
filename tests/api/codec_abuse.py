"""What is done to codec processes and pictures, in any number: by the API tests a few times, by tests/fault hundreds of times."""
import http.client
import os
import random
import re
import signal
import threading
import time

from harness import SLOWNESS, check, png, textured

OK = (200, 202, 400, 413, 415, 422)  # what any picture may be answered with


def children(d):
    """Pids of the daemon's processes, its threads' children too."""
    found = []
    for task in os.listdir(f"/proc/{d.process.pid}/task"):
        try:
            with open(f"/proc/{d.process.pid}/task/{task}/children") as f:
                found += [int(p) for p in f.read().split()]
        except FileNotFoundError:
            pass
    return found


def status_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return f.read()


def zombies(d):
    return [p for p in children(d) if "State:\tZ" in status_of(p)]


def metrics(d):
    c = http.client.HTTPConnection("127.0.0.1", d.port, timeout=30)
    try:
        c.request("GET", "/metrics")
        return c.getresponse().read().decode()
    finally:
        c.close()


def metric(d, name):
    found = re.search(rf"^{re.escape(name)} (\d+)$", metrics(d), re.M)
    return int(found.group(1)) if found else 0


def restarts(d):
    return dict(re.findall(r'yodad_codec_restarts_total\{reason="(\w+)"\} (\d+)', metrics(d)))


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds * SLOWNESS
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return False


def idle(d):
    return metric(d, 'yodad_codec_processes{state="idle"}')


def post(d, body, path="/v1/upscale?steps=1", timeout=60):
    """(status, body) by a connection of its own, without curl's start."""
    c = http.client.HTTPConnection("127.0.0.1", d.port, timeout=timeout * SLOWNESS)
    try:
        c.request("POST", path, body)
        r = c.getresponse()
        return r.status, r.read()
    finally:
        c.close()


class Traffic:
    """Well-behaved clients meanwhile; every one of their pictures must come back, unless its own process is shot."""

    def __init__(self, d, forgive=()):
        self.d, self.forgive, self.answers, self.stop = d, forgive, [], threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        picture = textured(40, 40)
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                status, _ = post(self.d, picture)
            except OSError as e:
                status = str(e)
            self.answers.append((status, time.monotonic() - began))

    def end(self):
        self.stop.set()
        self.thread.join()
        bad = [s for s, _ in self.answers if s != 200 and s not in self.forgive]
        check(self.answers and not bad, "good traffic goes on", (len(self.answers), bad[:5]))
        return self.answers


def shoot(d, times, picture, processes):
    """Kill every process while one has a picture: the picture fails and says so, everything is there again at once. The slowest return."""
    worst = 0
    for _ in range(times):
        if not check(wait_for(lambda: idle(d) == processes), "all processes are there", d.log_text()[-500:]):
            return worst
        victims = children(d)
        for pid in victims:
            os.kill(pid, signal.SIGSTOP)
        answer = []
        client = threading.Thread(target=lambda: answer.append(post(d, picture)))
        client.start()
        wait_for(lambda: metric(d, 'yodad_codec_processes{state="busy"}') > 0)
        time.sleep(random.uniform(0, 0.02))
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        client.join()
        check(answer and answer[0][0] == 500 and b"/problems/internal-error" in answer[0][1] and b"codec process" in answer[0][1],
              "the picture fails with its process", answer)
        check(wait_for(lambda: idle(d) == processes), "processes are back")
        worst = max(worst, time.monotonic() - began)
        check(not set(children(d)) & set(victims), "the dead are gone", (children(d), victims))
    return worst


def shoot_at_random(d, times, picture):
    """SIGKILL or SIGSTOP to some process at some moment of a picture's way: it succeeds, or fails alone."""
    seen = {}
    ways = [signal.SIGKILL, signal.SIGSTOP] + [signal.SIGSEGV] * (SLOWNESS == 1)  # which sanitizers would report
    for _ in range(times):
        answer = []
        client = threading.Thread(target=lambda: answer.append(post(d, picture)))
        client.start()
        time.sleep(random.uniform(0, 0.06))
        for pid in random.sample(children(d), min(2, len(children(d)))):
            try:
                os.kill(pid, random.choice(ways))
            except ProcessLookupError:
                pass
        client.join()
        status = answer[0][0] if answer else 0
        seen[status] = seen.get(status, 0) + 1
        check(status in (200, 422, 500), "a picture, or one failure", answer)
    return seen


def mutants(data, count, seed):
    """Damaged copies: a quarter cut short, the others with one to eight bits flipped."""
    r = random.Random(seed)
    for i in range(count):
        m = bytearray(data)
        if i % 4 == 0:
            m = m[:r.randrange(1, len(m))]
        else:
            for _ in range(r.randint(1, 8)):
                m[r.randrange(len(m))] ^= 1 << r.randrange(8)
        yield bytes(m)


def feed_mutants(d, fmt, count, seed=1):
    """count mutants of one format, over as few connections as the server allows. How often each status came, and the slowest answer."""
    status, original = post(d, textured(24, 20), f"/v1/upscale?steps=1&format={fmt}")
    check(status == 200, f"a {fmt} to start from", status)
    seen, slowest = {}, 0
    c = http.client.HTTPConnection("127.0.0.1", d.port, timeout=60 * SLOWNESS)
    for m in mutants(original, count, seed):
        began = time.monotonic()
        c.request("POST", "/v1/upscale?steps=1", m)
        r = c.getresponse()
        body = r.read()
        slowest = max(slowest, time.monotonic() - began)
        seen[r.status] = seen.get(r.status, 0) + 1
        check(r.status in OK, f"a damaged {fmt} is read or refused", (r.status, body[:200]))
    c.close()
    return seen, slowest


def bombs():
    """(name, bytes): small files that would be gigabytes, or lie about it."""
    import struct
    import zlib
    from harness import bomb

    def with_header(data, w, h, depth=8, colour=2):
        head = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 0)
        return data[:8] + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + data[33:]
    small = textured(40, 40)
    # Zeroes compressed once, between two full flushes, and repeated; the checksum of n zeroes is n and 1.
    z = zlib.compressobj(9)
    z.compress(b"\0" * 1000) + z.flush(zlib.Z_FULL_FLUSH)
    piece = z.compress(b"\0" * 48001 * 100) + z.flush(zlib.Z_FULL_FLUSH)
    packed = b"\x78\xda" + piece * 160 + b"\3\0" + struct.pack(">HH", 48001 * 16000 % 65521, 1)
    big = png(1, 1, rows=b"\0\0\0\0")
    big = with_header(big[:33] + struct.pack(">I", len(packed)) + b"IDAT" + packed + struct.pack(">I", zlib.crc32(b"IDAT" + packed)), 16000, 16000)
    yield "30000 x 30000 in one bit", bomb()
    yield "16000 x 16000 in colour", big
    yield "2^31-1 by header", with_header(small, 2**31 - 1, 2**31 - 1)
    yield "60000 x 60000 by header", with_header(small, 60000, 60000)
    yield "0 x 0 by header", with_header(small, 0, 0)
    yield "2000 x 2000 by header alone", with_header(small, 2000, 2000)
