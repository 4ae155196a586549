"""What the server must stand, each at a size that the caller chooses: at length in `make torture`, in seconds with the tests of the API."""
import statistics
import time

import crowd
from harness import SLOWNESS, Daemon, Skip, check, textured

EXACT = SLOWNESS == 1  # instrumented programs take other times and other memory
PICTURE = textured(32, 32)


def post(path, body):
    return b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def quiet_streams(n, seconds, beat_ms, most_bytes, most_cpu):
    """n streams of a job that waits: memory and processor time for each, heartbeats included; then its end reaches all."""
    if not crowd.allow_descriptors(n + 200):
        raise Skip(f"this system does not allow {n} descriptors")
    d = Daemon(device="fake", max_running=1, fake_unit_us=100000, max_connections=n + 100, sse_heartbeat_ms=beat_ms)
    try:
        first = d.job(textured(120, 120), "?steps=900")
        d.wait_state(first, "running")
        waiting = d.job(PICTURE, "?steps=1&priority=low")
        crowd.Listeners(d.port, f"/v1/jobs/{waiting}/events", 20).close()  # what the first ones take once
        time.sleep(0.5)
        before = d.rss()
        began = time.monotonic()
        listeners = crowd.Listeners(d.port, f"/v1/jobs/{waiting}/events", n)
        connecting = time.monotonic() - began
        check(listeners.greeted() == n and listeners.ended == 0, "all are open", (listeners.greeted(), listeners.ended))
        cpu, began, beats = d.cpu_s(), time.monotonic(), sum(listeners.beats.values())
        listeners.take(seconds)
        share = (d.cpu_s() - cpu) / (time.monotonic() - began)
        beats = sum(listeners.beats.values()) - beats
        each = (d.rss() - before) / n
        print(f"  {n} streams open in {connecting:.1f} s; {each:.0f} bytes each; {share:.4f} of a core with "
              f"{beats / n:.1f} heartbeats each in {seconds} s")
        check(listeners.ended == 0, "none was lost", listeners.ended)
        check(beats >= n * int(seconds * 1000 / beat_ms) * 0.99 or not EXACT, "heartbeats arrive", beats / n)
        check(each <= most_bytes or not EXACT, f"at most {most_bytes} bytes each", each)
        check(share <= most_cpu or not EXACT, f"at most {most_cpu} of a core", share)
        began = time.monotonic()
        d.curl(f"/v1/jobs/{first}", "-X", "DELETE")
        listeners.take(10 * SLOWNESS, lambda: listeners.ended + listeners.told(b"succeeded") >= n and listeners.told(b"succeeded") == n)
        print(f"  the end reached {listeners.told(b'succeeded')} of them in {time.monotonic() - began:.2f} s")
        check(listeners.told(b"succeeded") == n, "each gets the end", listeners.told(b"succeeded"))
        listeners.close()
        check(d.settle_fds(d.baseline, 10) <= d.baseline, "descriptors are back", (d.fds(), d.baseline))
    finally:
        check(d.stop() == 0, "exit 0")


def drips(n, rounds, seconds, most_times):
    """n connections drip heads and bodies; all are closed at their deadline, and others notice little: against the same crowd elsewhere."""
    if not crowd.allow_descriptors(2 * n + 200):
        raise Skip(f"this system does not allow {2 * n} descriptors")
    limit_s = seconds - 1
    heads = [b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"]
    d = Daemon(device="fake", max_connections=n + 100, header_timeout_ms=int(limit_s * 1000), body_timeout_ms=int(limit_s * 1000),
               body_min_rate=0)
    deaf, ratios, calm, busy = crowd.Deaf(), [], [], []
    try:
        for _ in range(rounds):
            p99 = []
            for port in (deaf.port, d.port):
                good = crowd.GoodTraffic(d.port, seconds)
                them = crowd.Drippers(port, [heads[i % 2] for i in range(n)])
                them.run(seconds)
                took, failed = good.end()
                check(failed == 0, "good traffic is served", failed)
                p99.append(crowd.percentile(took, 0.99))
                if port == d.port:
                    check(not them.open, "every one is closed", len(them.open))
                    check(them.lived and limit_s - 0.5 < min(them.lived) and max(them.lived) < limit_s + 1 * SLOWNESS,
                          "at the deadline, within a second", (min(them.lived or [0]), max(them.lived or [0])))
                    check(them.answers.get(b"HTTP/1.1 408", 0) >= n // 2 * 0.95, "bodies are told so", them.answers)
                them.close()
                deaf.drop()
            ratios.append(p99[1] / p99[0])
            calm.append(p99[0])
            busy.append(p99[1])
        ratio = statistics.median(busy) / statistics.median(calm)  # a neighbour of the machine's spoils a round, not the figure
        print(f"  {n} drips: closed after {max(them.lived or [0]):.2f} s at most (deadline {limit_s} s); p99 of others "
              f"{statistics.median(busy) * 1000:.2f} ms, {statistics.median(calm) * 1000:.2f} ms without: {ratio:.2f} times")
        check(ratio <= most_times or not EXACT, f"p99 within {most_times} times", [f"{r:.2f}" for r in ratios])
        check(d.settle_fds(d.baseline, 10) <= d.baseline, "descriptors are back", (d.fds(), d.baseline))
    finally:
        deaf.close()
        check(d.stop() == 0, "exit 0")


def overload(rounds, seconds, least, most_refusal_s):
    """Three times as many requests as can be served: what is served stays, the queue is bounded, refusals come at once."""
    places, queue = 4, 24
    d = Daemon(device="fake", fake_unit_us=4000, max_running=places, queue_max=queue, max_connections=4096)
    request, ratios, refusals = post(b"/v1/upscale?steps=5&lower_bound=1", PICTURE), [], []
    try:
        crowd.Requests(d.port, request).run(1, keep=places * 2).finish()
        for _ in range(rounds):
            calm = crowd.Requests(d.port, request)
            began = time.monotonic()
            calm.run(seconds, keep=places * 3)
            peak = calm.count(200, began + 0.5, began + seconds) / (seconds - 0.5)
            calm.finish()
            check(all(s == 200 for s, _, _ in calm.ends), "no refusal without overload", len(calm.ends))
            flood = crowd.Requests(d.port, request)
            began = time.monotonic()
            flood.run(seconds, rate=3 * peak)
            good = flood.count(200, began + 0.5, began + seconds) / (seconds - 0.5)
            check(flood.finish() == 0, "every request ends")
            kinds = {s: sum(e[0] == s for e in flood.ends) for s in {e[0] for e in flood.ends}}
            check(set(kinds) == {200, 503}, "served, or refused in words", kinds)
            check(flood.most <= places + queue + 3 * peak * 0.2, "the queue is bounded", flood.most)
            ratios.append(good / peak)
            refusals += [t for s, t, _ in flood.ends if s == 503]
        slow = crowd.percentile(refusals, 0.99) if refusals else 0
        print(f"  overload: {peak:.0f} a second at peak, {statistics.median(ratios):.2f} of it with three times as many; "
              f"{len(refusals)} refused, p99 after {slow * 1000:.1f} ms, at worst {max(refusals or [0]) * 1000:.0f} ms")
        check(statistics.median(ratios) >= least or not EXACT, f"at least {least} of the peak", ratios)
        check(refusals and (slow <= most_refusal_s or not EXACT), f"refused within {most_refusal_s} s", slow)
        check(d.settle_fds(d.baseline, 10) <= d.baseline, "descriptors are back", (d.fds(), d.baseline))
    finally:
        check(d.stop() == 0, "exit 0")
