"""Several devices, and devices that fail on command: jobs go on elsewhere or later with the same bytes, and what is said of it all the while."""
import os
import re
import subprocess
import time

from harness import SLOWNESS, TIMEOUT_S, YODAD, Daemon, check, textured
from test_durable import State

PICTURE = textured(96, 80)
QUICK = dict(device_retry_ms=20, device_retry_max_ms=100, drain_timeout_ms=100)


class Failing:
    """A daemon with so many fake devices, and the file that makes them fail."""

    def __init__(self, devices, **flags):
        self.path = f"/tmp/yodad-fail-{os.getpid()}"
        self.say()
        self.d = Daemon(device=f"fake:{devices}", fake_fail_file=self.path, **{**QUICK, "max_running": 16, **flags})

    def say(self, *lines):
        with open(self.path + ".new", "w") as f:
            f.write("".join(line + "\n" for line in lines))
        os.replace(self.path + ".new", self.path)

    def ready(self):
        return self.d.curl("/readyz?verbose=1")

    def states(self):
        return [x["state"] for x in self.ready().json()["devices"]]

    def until(self, condition, what):
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline:
                return check(False, what, (self.ready().body[:600], self.d.log_text()[-600:]))
            time.sleep(0.01)
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        check(self.d.alive() and self.d.stop() == 0, "the daemon stays up, and ends well", self.d.log_text()[-500:])
        check("ERROR: " not in self.d.log_text() and "runtime error" not in self.d.log_text(), "no sanitizer's report", self.d.log_text()[-2000:])
        os.unlink(self.path)


def results(d, jobs):
    for j in jobs:
        d.wait_state(j, "succeeded")
    return [d.curl(f"/v1/jobs/{j}/result").body for j in jobs]


def submit(d, n, steps=6):
    return [d.job(PICTURE, f"?steps={steps}&seed={i}&lower_bound=1") for i in range(n)]


def metric(d, line):
    found = re.search("^" + re.escape(line) + r" (\S+)$", d.curl("/metrics").body.decode(), re.M)
    return float(found.group(1)) if found else None


def plain(n, steps=6):
    """What one device makes of them that never fails."""
    with Failing(1, fake_unit_us=0) as f:
        return results(f.d, submit(f.d, n, steps))


def test_four_devices_share_the_work_and_the_bytes_are_one_devices():
    alone = plain(8)
    with Failing(4, fake_unit_us=1000) as f:
        check(results(f.d, submit(f.d, 8)) == alone, "the bytes do not depend on where they were made")
        submit(f.d, 4, 4000)  # as many as devices, each for one of them
        f.until(lambda: all(metric(f.d, f'yodad_device_units_total{{device="fake:{i}"}}') > 0 for i in range(4)), "every device works")
        seen = f.d.curl("/v1/models").json()
        check([x["name"] for x in seen["devices"]] == [f"fake:{i}" for i in range(4)], "the devices are listed", seen["devices"])
        check(seen["models"][0]["devices"] == [f"fake:{i}" for i in range(4)], "and each has the model", seen["models"][0].get("devices"))
        check(len(f.d.curl("/v1/capabilities").json()["devices"]) == 4, "capabilities, too")


def test_memory_of_each_device_is_told():
    with Failing(2, fake_models=2, models="all") as f:
        line = 'yodad_device_own_memory_bytes{kind="%s",device="fake:%d"}'
        f.until(lambda: metric(f.d, line % ("weights", 1)) == 2 << 20, "two models' weights on the second device")
        check(metric(f.d, line % ("total", 0)) == 1 << 30, "and all that there is", f.d.curl("/metrics").body[-1500:])
        memory = f.d.curl("/v1/models").json()["devices"][1]["memory"]
        check(memory["weights_bytes"] == 2 << 20 and memory["free_bytes"] == (1 << 30) - (2 << 20), "/v1/models says the same", memory)


def test_a_device_that_fails_leaves_its_jobs_to_the_others():
    alone = plain(8, 40)
    with Failing(2, fake_unit_us=1000) as f:
        jobs = submit(f.d, 8, 40)
        f.until(lambda: all(metric(f.d, f'yodad_device_units_total{{device="fake:{i}"}}') > 3 for i in (0, 1)), "both work")
        f.say("1 lost")
        f.until(lambda: f.states()[1] != "in-service", "the second one is out of service")
        a = f.ready()
        check(a.status == 200 and a.json()["device"] == "ready", "the server is ready with the first", a.body[:400])
        check(metric(f.d, 'yodad_device_failures_total{device="fake:1"}') >= 1 and metric(f.d, 'yodad_device_failures_total{device="fake:0"}') == 0, "counted")
        f.until(lambda: metric(f.d, 'yodad_device_failures_total{device="fake:1"}') >= 3, "it is tried again and again")
        f.say()
        f.until(lambda: f.states() == ["in-service"] * 2, "it is back")
        check(results(f.d, jobs) == alone, "every job has the bytes that it has alone")
        check(metric(f.d, 'yodad_device_up{device="fake:1"}') == 1, "up")
        check(f.d.curl("/v1/models").json()["models"][0]["devices"] == ["fake:0", "fake:1"], "with the model")


def test_without_a_device_nothing_is_lost_and_nothing_is_taken():
    alone = plain(3, 60)
    with Failing(2, fake_unit_us=1000) as f:
        jobs = submit(f.d, 3, 60)
        f.until(lambda: metric(f.d, 'yodad_device_units_total{device="fake:0"}') > 3, "they have begun")
        f.say("0 lost", "1 lost")
        f.until(lambda: "in-service" not in f.states(), "none is in service")
        a = f.ready()
        check(a.status == 503 and a.json()["device"] == "out-of-service" and "fake device" in a.json()["problem"], "not ready, and why", a.body[:500])
        check(all("problem" in x for x in a.json()["devices"]), "of each device", a.json()["devices"])
        a = f.d.curl("/v1/jobs?steps=2", data=PICTURE)
        check(a.status == 503 and a.json()["type"] == "/problems/device-failed" and a.header("retry-after"), "a new job is refused", (a.status, a.body[:300]))
        check(f.d.curl("/livez").status == 200, "the process lives")
        check(all(f.d.curl(f"/v1/jobs/{j}").json()["state"] in ("running", "queued") for j in jobs), "the others wait")
        gone = f.d.curl(f"/v1/jobs/{jobs[2]}", "-X", "DELETE")
        check(gone.status == 204, "one of them is cancelled meanwhile", (gone.status, gone.body[:200]))
        f.say()
        f.until(lambda: f.ready().status == 200, "ready again")
        check(results(f.d, jobs[:2]) == alone[:2], "and their bytes are what they would have been")


def test_a_server_without_a_device_stops_and_the_next_one_goes_on():
    alone = plain(2, 60)
    path = f"/tmp/yodad-fail-{os.getpid()}"
    with State() as s:
        d = s.start(device="fake:2", fake_fail_file=path, fake_unit_us=1000, content_cache="false", checkpoint_interval_ms=50, drain_timeout_ms=200,
                    handover_timeout_ms=200, **{k: QUICK[k] for k in ("device_retry_ms", "device_retry_max_ms")})
        jobs = submit(d, 2, 60)
        for j in jobs:
            d.wait_step(j)
        with open(path, "w") as f:
            f.write("0 lost\n1 lost\n")
        deadline = time.monotonic() + TIMEOUT_S
        while d.curl("/readyz").status == 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        status = d.stop()
        os.unlink(path)
        check(status == 0, "it ends well although its jobs could not go on", (status, d.log_text()[-600:]))
        check(results(s.start(device="fake:2", fake_unit_us=0, content_cache="false"), jobs) == alone, "the next one has them, with the same bytes")


def test_a_job_that_no_device_can_bear_fails_alone():
    with Failing(1, fake_unit_us=0, max_batch=1) as f:
        f.say("0 nomem")
        job = f.d.job(PICTURE, "?steps=3")
        f.d.wait_state(job, "failed")
        j = f.d.curl(f"/v1/jobs/{job}").json()
        check(j["problem"]["type"] == "/problems/out-of-memory", "it says why", j.get("problem"))
        check(metric(f.d, 'yodad_device_failures_total{device="fake:0"}') == 3, "after three runs")
        f.say()
        f.until(lambda: f.ready().status == 200, "ready again")
        results(f.d, [f.d.job(PICTURE, "?steps=3")])


def test_nan_fails_its_job_and_nothing_else():
    with Failing(1, fake_unit_us=500, fake_nan_at=20) as f:
        jobs = submit(f.d, 4, 20)
        f.until(lambda: all(f.d.curl(f"/v1/jobs/{j}").json()["state"] in ("succeeded", "failed") for j in jobs), "all end")
        ends = [f.d.curl(f"/v1/jobs/{j}").json() for j in jobs]
        failed = [e for e in ends if e["state"] == "failed"]
        check(len(failed) == 1 and failed[0]["problem"]["type"] == "/problems/not-finite", "one failed", [e.get("problem") for e in ends])
        check(f.states() == ["in-service"] and f.ready().json()["devices"][0]["failures"] == 0, "and the device is fine")


def refused(*flags):
    run = subprocess.run([YODAD, "--listen=127.0.0.1:0", *flags], capture_output=True, text=True, timeout=60 * SLOWNESS)
    return run.returncode, next((line for line in run.stderr.splitlines() if line.startswith("yodad: ")), run.stderr[-300:])


def test_what_cannot_be_is_said_in_a_line():
    for value, words in (("tpu", "'tpu' is no device; it accepts auto, cpu, cuda"), ("fake:0", "one to 16"), ("cuda:1,cuda:1", "twice"), ("cuda:x", "no list of devices")):
        status, line = refused(f"--device={value}")
        check(status == 1 and line.startswith("yodad: device: ") and words in line, f"--device={value}", line)
    path = f"/tmp/yodad-fail-{os.getpid()}"
    with open(path, "w") as f:
        f.write("0 lost\n1 lost\n")
    status, line = refused("--device=fake:2", f"--fake-fail-file={path}")
    os.unlink(path)
    check(status == 1 and "is not there" in line, "no device can be opened: the start fails with the reason", line)
