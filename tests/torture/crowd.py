"""Crowds of clients, each crowd in one thread on epoll: streams that only listen, connections that drip, requests that arrive whether or not
the server keeps up. Nothing here judges; the tests do."""
import multiprocessing
import resource
import select
import socket
import threading
import time


def allow_descriptors(n):
    """Have this process, and those it starts, open n descriptors; False when the system does not let it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < n <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n, hard))
    return max(soft, min(n, hard)) >= n


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Listeners:
    """Clients of an event stream that take what comes."""

    def __init__(self, port, path, n, at_once=100):
        self.epoll, self.of, self.ended = select.epoll(), {}, 0
        self.tail, self.beats = {}, {}
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        while len(self.of) < n:
            before = len(self.of)
            for _ in range(min(at_once, n - before)):
                s = socket.create_connection(("127.0.0.1", port), timeout=10)
                s.sendall(request)
                s.setblocking(False)
                self.of[s.fileno()], self.beats[s.fileno()] = s, 0
                self.epoll.register(s.fileno(), select.EPOLLIN)
            self.take(10, lambda: len(self.tail) == len(self.of))

    def take(self, seconds, enough=lambda: False):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not enough():
            for fd, _ in self.epoll.poll(min(0.1, max(0, end - time.monotonic())), 1000):
                try:
                    piece = self.of[fd].recv(65536)
                except ConnectionError:
                    piece = b""
                if piece:
                    self.tail[fd] = (self.tail.get(fd, b"") + piece)[-600:]
                    self.beats[fd] += piece.count(b":\n\n")
                else:
                    self.epoll.unregister(fd)
                    self.ended += 1

    def greeted(self):
        return sum(b"HTTP/1.1 200" in t or b"event: " in t for t in self.tail.values())

    def told(self, event):
        return sum(b"event: " + event in t for t in self.tail.values())

    def close(self):
        for s in self.of.values():
            s.close()
        self.epoll.close()


class Drippers:
    """Connections that begin with `head` and then send one byte every `pause` seconds."""

    def __init__(self, port, heads, pause=0.5):
        self.epoll, self.open, self.lived, self.answers = select.epoll(), {}, [], {}
        self.pause = pause
        for i, head in enumerate(heads):
            s = socket.create_connection(("127.0.0.1", port), timeout=10)
            s.setblocking(False)
            s.send(head)
            self.open[s.fileno()] = (s, time.monotonic())
            self.epoll.register(s.fileno(), select.EPOLLIN)
            if i % 100 == 99:
                time.sleep(0.01)  # what a server takes up at a time is limited

    def run(self, seconds):
        """Drip until all are closed or the time is over."""
        end, due, turn = time.monotonic() + seconds, [], time.monotonic()
        while self.open and time.monotonic() < end:
            if not due:
                due, turn = list(self.open), turn + self.pause
            share = max(1, int(len(due) * 0.02 / max(0.02, turn - time.monotonic())))
            for fd in due[:share]:
                self._drip(fd)
            del due[:share]
            for fd, _ in self.epoll.poll(0.02, 2000):
                self._look(fd)

    def _drip(self, fd):
        if fd in self.open:
            try:
                self.open[fd][0].send(b"x")
            except BlockingIOError:
                pass
            except OSError:
                self._over(fd)

    def _look(self, fd):
        try:
            piece = self.open[fd][0].recv(4096)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if piece:
            self.answers[piece[:12]] = self.answers.get(piece[:12], 0) + 1
        else:
            self._over(fd)

    def _over(self, fd):
        s, began = self.open.pop(fd)
        self.lived.append(time.monotonic() - began)
        self.epoll.unregister(fd)
        s.close()

    def close(self):
        for s, _ in self.open.values():
            s.close()
        self.epoll.close()


class Deaf:
    """A port where connections are made and nobody reads: what a crowd costs that the server under test has nothing to do with."""

    def __init__(self):
        self.socket, self.held = socket.socket(), []
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(511)
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                self.held.append(self.socket.accept()[0])
            except OSError:
                return

    def drop(self):
        while self.held:
            self.held.pop().close()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.drop()


def _ask(port, seconds, pause, out):
    took, failed, end = [], 0, time.monotonic() + seconds
    s = socket.create_connection(("127.0.0.1", port), timeout=10)
    while time.monotonic() < end:
        began = time.monotonic()
        s.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        failed += not s.recv(4096).startswith(b"HTTP/1.1 200")
        took.append(time.monotonic() - began)
        time.sleep(pause)
    out.send((took, failed))


class GoodTraffic:
    """A process that asks again and again for so many seconds; end() gives the times and the number that failed."""

    def __init__(self, port, seconds, pause=0.002):
        self.result, out = multiprocessing.Pipe(False)
        self.process = multiprocessing.get_context("fork").Process(target=_ask, args=(port, seconds, pause, out))
        self.process.start()

    def end(self):
        took = self.result.recv()
        self.process.join()
        return took


class Requests:
    """Requests on connections of their own: `rate` a second whatever becomes of them, or always `keep` under way."""

    def __init__(self, port, request):
        self.port, self.request, self.epoll = port, request, select.epoll()
        self.under_way, self.most, self.ends = {}, 0, []  # ends: (status, seconds to the first byte, when it was over)

    def run(self, seconds, rate=0, keep=0):
        began = time.monotonic()
        sent, now = 0, began
        while now < began + seconds:
            while sent < (now - began) * rate or len(self.under_way) < keep:
                self._send()
                sent += 1
            self.most = max(self.most, len(self.under_way))
            self._look(0.002)
            now = time.monotonic()
        return self

    def finish(self, seconds=20):
        end = time.monotonic() + seconds
        while self.under_way and time.monotonic() < end:
            self._look(0.05)
        self.epoll.close()
        return len(self.under_way)

    def _send(self):
        began = time.monotonic()
        s = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        s.sendall(self.request)
        s.setblocking(False)
        self.under_way[s.fileno()] = [s, began, 0, 0]
        self.epoll.register(s.fileno(), select.EPOLLIN)

    def _look(self, wait):
        for fd, _ in self.epoll.poll(wait):
            entry = self.under_way[fd]
            try:
                piece = entry[0].recv(262144)
            except OSError:
                piece = b""
            now = time.monotonic()
            if piece and not entry[2]:
                entry[2], entry[3] = int(piece[9:12]), now - entry[1]
            if not piece:
                self.ends.append((entry[2], entry[3], now))
                self.epoll.unregister(fd)
                entry[0].close()
                del self.under_way[fd]

    def count(self, status, since, until):
        return sum(s == status and since <= t < until for s, _, t in self.ends)
