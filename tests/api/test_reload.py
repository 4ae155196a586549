"""SIGHUP: settings, keys and secrets are read again; what cannot change is named, what cannot be used changes nothing."""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from harness import SLOWNESS, Daemon, check, plain, sse, textured
from test_access import new_key
from test_outgoing import OTHER, SECRET, Peer, image, reply, submit, verify

PICTURE = textured(64, 48)


class Configured:
    """A daemon with a file of settings that can be written anew."""

    def __init__(self, settings, **flags):
        self.dir = tempfile.mkdtemp(prefix="yodad-reload-")
        self.write(settings)
        self.d = Daemon(device="fake", fake_unit_us=500, config=self.path("yodad.json"), **flags)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        check(self.d.stop() == 0, "the daemon ends well")
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, settings, name="yodad.json"):
        with open(self.path(name), "w") as f:
            f.write(settings if isinstance(settings, str) else json.dumps(settings))

    def hup(self):
        """Signal it; the lines that it logs of that."""
        before = len(self.lines())
        self.d.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 10 * SLOWNESS
        while len(self.lines()) == before and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.1)
        return self.lines()[before:]

    def lines(self):
        logged = [json.loads(line) for line in self.d.log_text().splitlines() if line.startswith("{")]
        return [x for x in logged if x["msg"] == "reloaded" or "restart only" in x["msg"] or "not read again" in x["msg"]]

    def reload(self, settings):
        self.write(settings)
        return self.hup()


def recycled(d):
    found = re.search(rb'yodad_codec_restarts_total{reason="recycled"} (\d+)', d.curl("/metrics").body)
    return int(found.group(1)) if found else 0


def test_limits_change_and_what_cannot_is_named():
    with Configured({"max_pixels": 4000, "max_output_pixels": 40000, "max_body_bytes": "64KiB", "queue_max": 5, "threads": 1, "max_memory_bytes": "64GiB"}) as c:
        d = c.d
        check(d.submit(PICTURE).status == 202 and d.submit(textured(80, 60)).status == 413, "as it was started")
        lines = c.reload({"max_pixels": 2000, "max_output_pixels": 40000, "max_body_bytes": "64KiB", "queue_max": 7, "threads": 2, "max_connections": 77, "max_memory_bytes": "64GiB"})
        check([x["level"] for x in lines] == ["info", "warn"] and lines[0]["changed"] == "max_pixels,queue_max", "what was taken over is said", lines)
        check(lines[-1]["settings"] == "threads,max_connections", "and what was not", lines)
        a = d.submit(PICTURE)
        check(a.status == 413 and a.json()["max_pixels"] == 2000, "less is taken", (a.status, a.body[:200]))
        limits = d.curl("/v1/capabilities").json()["limits"]
        check((limits["max_pixels"], limits["queue_max"]) == (2000, 7), "and it says so", limits)
        before = recycled(d)
        lines = c.reload({"max_pixels": 60000000, "threads": 1, "max_memory_bytes": "64GiB"})
        check(lines[0]["changed"] == "max_body_bytes,max_pixels,max_output_pixels,queue_max", "what is not in the file any more is the default again", lines)
        big = d.job(plain(3200, 2500), "?steps=1")
        p = subprocess.Popen(d.curl_args(f"/v1/jobs/{big}/events", "-N", timeout=60 * SLOWNESS), stdout=subprocess.PIPE)
        names = iter(line.decode().strip()[7:] for line in p.stdout if line.startswith(b"event: "))
        last = next((n for n in names if n in ("attention", "failed")), "nothing")
        p.terminate()
        p.communicate()
        check(last == "attention", "larger pictures are read", last)
        check(recycled(d) > before, "by codec processes that were started for them", (before, recycled(d)))
        d.curl(f"/v1/jobs/{big}", "-X", "DELETE")
        check(d.curl("/v1/upscale?steps=2", data=PICTURE, timeout=60).status == 200, "and go on")
        check(c.hup()[0]["changed"] == "", "nothing new changes nothing")


def test_a_broken_file_changes_nothing():
    with Configured({"max_pixels": 4000}) as c:
        d = c.d
        for text, field, words in (("{", "config", "yodad.json:1"), ('{"max_pixels": "many", "queue_max": 1}', "max_pixels", "many"), ('{"queue_max": 1, "max_pixel": 5}', "max_pixel", "nearest"),
                                   ('{"queue_max": 1, "fetch_hosts": "a b://c"}', "fetch_hosts", ""), ('{"queue_max": 1, "webhook_hosts": "a.example"}', "webhook_secret_file", ""),
                                   ('{"queue_max": 1, "listen": "0.0.0.0:0"}', None, ""), ('{"queue_max": 1, "trusted_proxies": "x"}', "trusted_proxies", "")):
            lines = c.reload(text)
            if field is None:  # the flag of the test wins over the file, so that nothing is wrong with it
                check(lines[0]["changed"] == "max_pixels,queue_max", "flags are still above the file", lines)
                c.reload({"max_pixels": 4000})
                continue
            check(len(lines) == 1 and lines[0]["level"] == "error" and lines[0]["field"] == field and words in lines[0]["why"], f"{text} is told", lines)
            limits = d.curl("/v1/capabilities").json()["limits"]
            check((limits["max_pixels"], limits["queue_max"]) == (4000, 64), "and the old ones hold", limits)
        os.unlink(c.path("yodad.json"))
        check(c.hup()[0]["field"] == "config" and d.submit(PICTURE).status == 202, "no file is no settings")


def test_the_log_level_and_times():
    with Configured({"sse_heartbeat_ms": 60000, "header_timeout_ms": 60000}) as c:
        d = c.d
        d.curl("/livez")
        check('"path":"/livez"' not in d.log_text(), "probes are logged for debugging only")
        p = subprocess.Popen(d.curl_args("/v1/events", "-N", timeout=4 * SLOWNESS), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        c.reload({"sse_heartbeat_ms": 200, "header_timeout_ms": 300, "log_level": "debug"})
        d.curl("/livez")
        d._await_log('"path":"/livez"')
        with d.connect() as s:
            began = time.monotonic()
            check(s.recv(10) == b"" and time.monotonic() - began < 5 * SLOWNESS, "who says nothing is sent away sooner")
        text = p.communicate()[0]
        check(text.count(b"\n:\n") >= 5, "streams that are open have the new heartbeat", text)


def test_who_is_told_and_who_signs():
    with Peer() as p, Configured({}) as c:
        d = c.d
        p.answers = {"/hook": reply(200), "/a.png": reply(200, PICTURE)}
        host = re.sub("^http://", "", p.url)
        hosts = {"outgoing_networks": "127.0.0.0/8", "outgoing_http": True, "webhook_secret_file": c.path("secrets"), "webhook_hosts": host}
        told = lambda: submit(d, image(webhook={"url": p.url + "/hook"}))
        check(told().status == 422, "nobody is told at first")
        lines = c.reload(hosts)
        check(lines[0]["level"] == "error" and lines[0]["field"] == "webhook_secret_file" and told().status == 422, "without secrets nobody is", lines)
        c.write(SECRET + "\n", "secrets")
        lines = c.hup()
        check(lines[0]["msg"] == "reloaded" and "webhook_hosts" in lines[0]["changed"], "hosts can come while it runs", lines)
        check(told().status == 202 and verify(p.wait("/hook", 1)[0][2], p.to("/hook")[0][3], SECRET), "told and signed", p.seen)
        c.write("whsec_tooshort\n", "secrets")
        lines = c.hup()
        check(lines[0]["field"] == "webhook_secret_file" and "whsec_" not in lines[0]["why"], "secrets that are none", lines)
        check(told().status == 202 and verify(p.wait("/hook", 2)[1][2], p.to("/hook")[1][3], SECRET), "change nothing")
        c.write(OTHER + "\n", "secrets")
        c.hup()
        check(told().status == 202 and verify(p.wait("/hook", 3)[2][2], p.to("/hook")[2][3], OTHER) and not verify(p.to("/hook")[2][2], p.to("/hook")[2][3], SECRET),
              "the new secret signs from then on")
        check(submit(d, {"input": {"url": p.url + "/a.png"}}).status == 422, "pictures are fetched from nobody")
        c.reload({**hosts, "fetch_hosts": host, "webhook_hosts": "other.example"})
        a = submit(d, {"input": {"url": p.url + "/a.png"}, "steps": 1})
        check(a.status == 202 and d.curl(f"/v1/jobs/{a.json()['id']}?wait=20").json()["state"] == "succeeded", "until a host is named", a.body[:300])
        check(told().status == 422, "a host that was taken off the list is told no more")
        c.reload({**hosts, "fetch_hosts": host, "outgoing_networks": ""})
        a = submit(d, {"input": {"url": p.url + "/a.png"}, "steps": 3})
        j = d.curl(f"/v1/jobs/{a.json()['id']}?wait=20").json()
        check(j["state"] == "failed" and j["problem"]["type"] == "/problems/address-refused", "the thread that connects goes by the new networks", j["problem"])


def test_a_key_that_is_gone_takes_its_streams_along():
    folder = tempfile.mkdtemp(prefix="yodad-reload-keys-")
    path, other = os.path.join(folder, "keys"), os.path.join(folder, "other")
    alice, bob = new_key(path, "alice"), new_key(path, "bob")
    with open(path) as f:
        lines = f.read().splitlines()
    with Configured({"keys": path}) as c:
        d = c.d
        auth = lambda key: (f"Authorization: Bearer {key}",)
        streams = {k: subprocess.Popen(d.curl_args("/v1/events", "-N", headers=auth(k), timeout=30), stdout=subprocess.PIPE) for k in (alice, bob)}
        for p in streams.values():
            p.stdout.readline()  # they are open
        with open(other, "w") as f:
            f.write(next(line for line in lines if line.startswith("alice")) + "\n")
        got = c.reload({"keys": other})
        check(got[0]["changed"] == "keys", "another file of keys", got)
        check(streams[bob].wait(10 * SLOWNESS) == 0, "bob's stream ends")
        check(d.curl("/v1/jobs", headers=auth(bob)).status == 401 and d.curl("/v1/jobs", headers=auth(alice)).status == 200, "and so does bob's way in")
        job = d.curl("/v1/jobs?steps=1", data=PICTURE, headers=auth(alice)).json()["id"]
        d.curl(f"/v1/jobs/{job}?wait=10", headers=auth(alice))
        time.sleep(0.5)
        streams[alice].terminate()
        check([e[1] for e in sse(streams[alice].communicate()[0].decode())][-1] == "succeeded", "alice's goes on")
        got = c.reload({})
        check(got[-1]["settings"] == "keys" and d.curl("/v1/jobs").status == 401, "whether a key is asked for at all is no matter for a reload", got)
    shutil.rmtree(folder, ignore_errors=True)
