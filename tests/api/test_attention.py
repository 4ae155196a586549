"""Attention networks: requests choose them by name, maps are made once per picture and kept, bytes do not depend on who shares a run, a restart in
the middle of a job goes on with the same map."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from harness import MAX_THREADS, SLOWNESS, YODA, Daemon, Skip, check, make_model, png_size, textured

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import transformer  # noqa: E402
from transformer import NAME  # noqa: E402

PICTURES = [textured(40, 32, salt) for salt in range(4)]
SHARED = os.environ.get("YODA_SHARED") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "shared")


class Folder:
    """A small model and a small transformer in one folder, and the servers that are started on it one after the other."""

    def __init__(self, network=True):
        self.dir = tempfile.mkdtemp(prefix="yodad-attention-")
        self.models = os.path.join(self.dir, "models")
        os.mkdir(self.models)
        self.small_model()
        if network:
            transformer.write(os.path.join(self.models, "a_transformer.pth"))  # its bytes say what it is, not its name
        self.daemons = []

    def small_model(self):
        said = os.environ.get("YODA_TEST_MODEL")
        os.environ["YODA_TEST_MODEL"] = "small"
        make_model(self.models)
        os.environ.pop("YODA_TEST_MODEL") if said is None else os.environ.update(YODA_TEST_MODEL=said)

    def start(self, **flags):
        d = Daemon(**{**dict(model_dir=self.models, dtype="f32", threads=MAX_THREADS), **flags})
        self.daemons.append(d)
        return d

    def by_command(self, picture, attention, **settings):
        source, target = os.path.join(self.dir, "in.png"), os.path.join(self.dir, "out.png")
        with open(source, "wb") as f:
            f.write(picture)
        model = [os.path.join(self.models, f) for f in os.listdir(self.models) if f.endswith(".safetensors")][0]
        subprocess.run([YODA, "upscale", source, target, "--model", model, "--dtype", "f32", "--threads", "1", "--attention-nets",
                        os.path.join(self.models, "a_transformer.pth"), "--attention", attention,
                        *(w for k, v in settings.items() for w in ("--" + k.replace("_", "-"), str(v)))],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(target, "rb") as f:
            return f.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for d in self.daemons:
            if d.alive():
                d.process.kill()
                d.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def metric(d, name):
    found = re.search(rf"^{re.escape(name)} (\S+)$", d.curl("/metrics").body.decode(), re.M)
    check(found, f"the metric {name} is there")
    return float(found[1])


def sources(d):
    return tuple(int(metric(d, f'yodad_attention_requests_total{{source="{s}"}}')) for s in ("network", "cache", "shared"))


def result(d, picture, query):
    job = d.job(picture, query)
    check(d.wait_state(job, "succeeded", "failed") == "succeeded", query, d.curl(f"/v1/jobs/{job}").body[:400])
    return d.curl(f"/v1/jobs/{job}/result").body


def test_a_job_by_name_and_head():
    with Folder() as f:
        d = f.start()
        said = d.curl("/v1/capabilities").json()
        mine = [a for a in said["attention"] if a["name"] == NAME]
        check(len(mine) == 1 and mine[0]["heads"] == 6 and mine[0]["stride"] == 8 and mine[0]["bytes"] > 0 and mine[0]["checksum"].startswith("sha256:"),
              "it is listed", said["attention"])
        check(NAME not in said["models"], "it is no model", said["models"])
        got = {}
        for head in ("", ":max", ":avg", ":0"):
            query = f"?attention={NAME}{head}&lower_bound=0.1&seed=3"
            got[head] = result(d, PICTURES[0], query)
            check(got[head] == f.by_command(PICTURES[0], NAME + head, lower_bound=0.1, seed=3), f"the command's bytes with '{head}'")
        check(got[""] == got[":max"] and len(set(got.values())) == 3, "heads make other pictures")
        network, cache, shared = sources(d)
        check(network == 1 and cache + shared == 3, "one picture was shown once", (network, cache, shared))
        job = d.job(PICTURES[0], f"?attention={NAME}:max&seed=9")
        check(d.wait_state(job, "succeeded") == "succeeded", "done")
        check(png_size(d.curl(f"/v1/jobs/{job}/attention").body) == (160, 128), "the map's picture")
        text = d.curl(f"/v1/jobs/{job}/events").body.decode()
        check(f'"method":"{NAME}:max"' in text.replace(" ", ""), "the event says whose map it is", text[:600])
        check(d.curl(f"/v1/jobs/{job}").json()["settings"]["attention"] == NAME + ":max", "the job says it")
        now = [a for a in d.curl("/v1/capabilities").json()["attention"] if a["name"] == NAME][0]
        check(metric(d, 'yodad_device_memory_bytes{kind="attention"}') == now["bytes"], "its memory is counted")
        check(d.stop() == 0, "the daemon ends well")


def test_what_is_not_there():
    with Folder() as f:
        d = f.start()
        for attention, words in (("dino-vits8:max", [NAME, ":avg"]), (NAME + ":6", ["head", ":5"]), (NAME + ":", ["head"]), ("x" * 300 + "-y", ["attention"]),
                                 ("egde", ["edge"])):
            a = d.submit(PICTURES[0], f"?attention={attention}")
            problem = a.json()
            check(a.status == 422 and problem["field"] == "attention" and problem["type"].endswith("invalid-setting"), attention, problem)
            check(all(w in a.body.decode() for w in words), f"{attention}: what there is", a.body[:400])
        check(d.stop() == 0, "the daemon ends well")
    with Folder(network=False) as f:
        d = f.start()
        a = d.submit(PICTURES[0], f"?attention={NAME}")
        check(a.status == 422 and b"no attention network" in a.body, "there is none", a.body[:400])
        check(metric(d, "yodad_attention_networks") == 0, "none is counted")
        check(d.stop() == 0, "the daemon ends well")


def test_many_at_once():
    with Folder() as f:
        want = {p: f.by_command(p, NAME + ":max", lower_bound=0.1, steps=2) for p in PICTURES}
        for batch in (1, 8):
            d = f.start(attention_batch=batch, attention_cache_bytes=0)
            ids = []

            def send(p):
                ids.append((p, d.job(p, f"?attention={NAME}&lower_bound=0.1&steps=2")))
            senders = [threading.Thread(target=send, args=(p,)) for p in PICTURES * 2]
            for t in senders:
                t.start()
            for t in senders:
                t.join()
            for p, i in ids:
                check(d.wait_state(i, "succeeded", "failed") == "succeeded", "done", d.curl(f"/v1/jobs/{i}").body[:300])
                check(d.curl(f"/v1/jobs/{i}/result").body == want[p], f"the command's bytes in runs of up to {batch}")
            check(metric(d, "yodad_attention_cached_maps") == 0, "nothing is kept without room")
            check(d.stop() == 0, "the daemon ends well")


def test_the_cache_is_bounded():
    with Folder() as f:
        d = f.start(attention_cache_bytes="60KiB")  # two maps of 6 x 28 x 35 floats
        for p in PICTURES[:3]:
            result(d, p, f"?attention={NAME}&steps=1")
        check(metric(d, "yodad_attention_cached_maps") == 2 and metric(d, 'yodad_device_memory_bytes{kind="attention_cache"}') <= 60 * 1024, "two fit")
        result(d, PICTURES[1], f"?attention={NAME}:avg&steps=1")
        result(d, PICTURES[0], f"?attention={NAME}:avg&steps=1")
        check(sources(d) == (4, 1, 0), "the oldest was gone, the others were not", sources(d))
        check(d.stop() == 0, "the daemon ends well")


def test_killed_in_mid_job():
    with Folder() as f:
        state = os.path.join(f.dir, "state")
        query = f"attention={NAME}:avg&lower_bound=0.2&steps=1000&seed=5&sampler=ddim"
        want = f.by_command(PICTURES[0], NAME + ":avg", lower_bound=0.2, steps=1000, seed=5, sampler="ddim")
        d = f.start(state_dir=state, checkpoint_interval_ms=20)
        job = d.curl("/v1/jobs?" + query, "--data-binary", "@-", data=PICTURES[0]).json()["id"]
        deadline = time.monotonic() + 40 * SLOWNESS
        while not [n for n in os.listdir(os.path.join(state, "checkpoints")) if n[0] != "."] and time.monotonic() < deadline:
            time.sleep(0.01)
        now = d.curl(f"/v1/jobs/{job}").json()
        check(now["state"] == "running", "in the middle of it", now)
        d.process.send_signal(signal.SIGKILL)
        d.process.wait()
        d = f.start(state_dir=state)
        check(d.wait_state(job, "succeeded", "failed", seconds=60) == "succeeded", "the next process ends it", d.curl(f"/v1/jobs/{job}").body[:300])
        check("goes on from its checkpoint" in d.log_text(), "from its checkpoint", d.log_text()[-1500:])
        check(d.curl(f"/v1/jobs/{job}/result").body == want, "with the bytes of an undisturbed run")
        fingerprint = d.curl(f"/v1/jobs/{job}").json()["fingerprint"]
        plain = d.job(PICTURES[0], "?steps=1&attention=edge")
        check(fingerprint != d.curl(f"/v1/jobs/{plain}").json()["fingerprint"], "the network is part of the fingerprint")
        check(d.stop() == 0, "the daemon ends well")
        # The same job with another network of that name has another fingerprint.
        transformer.write(os.path.join(f.models, "a_transformer.pth"), seed=2)
        d = f.start()
        other = d.job(PICTURES[0], "?" + query)
        check(d.curl(f"/v1/jobs/{other}").json()["fingerprint"] != fingerprint, "the network's checksum counts")
        d.curl(f"/v1/jobs/{other}", "-X", "DELETE")
        check(d.stop() == 0, "the daemon ends well")


def test_cancelled_and_stopped_while_maps_are_made():
    with Folder() as f:
        d = f.start(attention_short_side=448, attention_long_side=960)
        jobs = [d.job(p, f"?attention={NAME}&steps=2") for p in PICTURES]
        for j in jobs[1:3]:
            check(d.curl(f"/v1/jobs/{j}", "-X", "DELETE").status in (200, 202, 204), "cancelled")
        check(d.wait_state(jobs[0], "succeeded", "failed") == "succeeded", "the first is done")
        jobs = [d.job(textured(40, 32, 50 + i), f"?attention={NAME}&steps=2") for i in range(4)]
        d.stop(signal.SIGTERM)
        check("ERROR: " not in d.log_text(), "no report", d.log_text()[-2000:])


def test_dino_as_it_is_published():
    published = os.path.join(SHARED, "fixtures", "dino_tiny", "dino_tiny8_pretrain.pth")
    teacher = os.path.join(SHARED, "fixtures", "dino_tiny_full_checkpoint", "dino_tiny_full_checkpoint.pth")
    if not os.path.exists(published):
        raise Skip("dino_tiny is not there")
    with Folder(network=False) as f:
        d = f.start(attention_nets=f"{published},my-teacher={teacher}")
        names = {a["name"]: a for a in d.curl("/v1/capabilities").json()["attention"]}
        check("dino-vit48x3-8" in names and names["my-teacher"]["network"] == "dino-vit36x2-8", "both are resident", names)
        a, b = (result(d, PICTURES[0], f"?attention={n}&lower_bound=0.1") for n in ("dino-vit48x3-8:max", "my-teacher:avg"))
        check(a != b, "two networks, two pictures")
        check(d.stop() == 0, "the daemon ends well")
