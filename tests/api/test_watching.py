"""A real Prometheus watches a running yodad: every query of the dashboards and alerts finds what it asks for, and the exposition is as promtool wants it."""
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

from harness import SLOWNESS, Daemon, Skip, check, textured

# Of alerts: what a yodad of this kind does not have.
SOMEWHERE_ELSE = {"yodad_store_free_bytes"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Prometheus:
    """One that looks at a yodad once a second, with the alerts that ship."""

    def __init__(self, target):
        self.dir = tempfile.mkdtemp(prefix="yodad-watch-")
        shutil.copy("deploy/prometheus/alerts.yml", self.dir)
        with open(os.path.join(self.dir, "prometheus.yml"), "w") as f:
            json.dump({"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": ["alerts.yml"],
                       "scrape_configs": [{"job_name": "yodad", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}]}, f)
        self.process = None
        self.go_on()

    def go_on(self):
        """Start it, or start it again where somebody else was quicker to take its port."""
        if self.process is None or self.process.poll() is not None:
            self.url = f"http://127.0.0.1:{free_port()}"
            self.process = subprocess.Popen(["prometheus", f"--config.file={self.dir}/prometheus.yml", f"--storage.tsdb.path={self.dir}/data",
                                             f"--web.listen-address={self.url[7:]}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(self, path, **args):
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(args)}", timeout=10) as r:
                return json.load(r)["data"]
        except urllib.error.HTTPError as e:
            return {"error": e.read().decode()}
        except OSError:
            return None

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.dir, ignore_errors=True)


def queries():
    """(dashboard's panel, expression) of everything that is drawn, with a range that fits a test."""
    for path in glob.glob("deploy/grafana/dashboards/*.json"):
        with open(path) as f:
            for panel in json.load(f)["panels"]:
                for target in panel.get("targets", []):
                    yield panel["title"], target["expr"].replace("$__rate_interval", "10s").replace("[10m]", "[10s]")


def make_something_of_everything(d, salt):
    """Jobs that succeed and fail, a refusal, an open stream, a codec that is lost."""
    d.job(textured(24, 20, salt), "?quality=fast")
    d.curl("/v1/jobs", data=b"no picture")
    d.curl("/v1/jobs", data=textured(24, 20, salt + 1), headers=["X-Nobody: 1"])
    job = d.job(textured(28, 20, salt + 2))
    d.curl(f"/v1/jobs/{job}", "-X", "DELETE")


def codec_of(pid):
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as f:
                text = f.read()
        except OSError:
            continue
        if "(yodad-codec)" in text and text.rsplit(")", 1)[1].split()[1] == str(pid):
            return int(path.split("/")[2])
    return 0


def test_what_dashboards_and_alerts_ask_for():
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        raise Skip("there is no prometheus")
    d = Daemon(device="fake", fake_unit_us=1000)
    shown = d.curl("/metrics").body
    said = subprocess.run(["promtool", "check", "metrics"], input=shown, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    check(said.returncode == 0, "promtool takes /metrics", said.stdout)
    p = Prometheus(d.port)
    try:
        waiting, salt, deadline = dict.fromkeys(queries()), 0, time.monotonic() + 60 * SLOWNESS
        check(len(waiting) > 20, "the dashboard has queries", len(waiting))
        while waiting and time.monotonic() < deadline:
            make_something_of_everything(d, salt)
            codec = codec_of(d.process.pid) if salt == 6 else 0
            if codec:
                os.kill(codec, signal.SIGKILL)
            p.go_on()
            salt += 3
            time.sleep(0.5)
            for one in list(waiting):
                waiting[one] = p.ask("query", query=one[1])
                if waiting[one] and waiting[one].get("result"):
                    del waiting[one]
        check(not waiting, "every query of the dashboard has an answer", waiting)
        rules = p.ask("rules")["groups"][0]["rules"]
        wrong = [(r["name"], r.get("lastError")) for r in rules if r["health"] not in ("ok", "unknown")]
        check(len(rules) > 10 and not wrong, "every alert can be evaluated", wrong)
        names = {n for r in rules for n in re.findall(r"yodad_\w+", r["query"])}
        missing = [n for n in sorted(names) if not p.ask("series", **{"match[]": n}) and n not in SOMEWHERE_ELSE]
        check(not missing, "every alert's metric is there", missing)
    finally:
        p.stop()
        check(d.stop() == 0, "yodad ends well")
