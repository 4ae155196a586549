"""Jobs on a network with an encoder, whose features are made once per window and kept: the command's bytes beside others, after a restart in the
middle of a job, and memory that is counted before a job is taken."""
import json
import os
import signal
import shutil
import subprocess
import tempfile
import time

from harness import MAX_THREADS, SLOWNESS, YODA, Daemon, Skip, check, png, png_size, textured

PICTURE = png(30, 22, lambda x, y: ((x * 13 + y * 29) % 256,) * 3 if x < 12 and y < 9 else (90, 120, 150))
OTHER = textured(19, 26)
QUERY = "attention=edge&lower_bound=0.3&seed=11"


class Models:
    """A folder with one small random SRDiff network, and a state directory for the servers that are started on it one after the other."""

    def __init__(self, steps=6):
        self.dir = tempfile.mkdtemp(prefix="yodad-srdiff-")
        self.models = os.path.join(self.dir, "models")
        os.mkdir(self.models)
        config = {"name": "small", "network": {"type": "srdiff", "inner_channel": 16, "channel_multiplier": [1, 2, 2], "up_scale": 4, "rrdb_blocks": 2,
                                               "rrdb_features": 8},
                  "schedule": {"train_steps": steps}, "window": 32, "overlap": 8}
        with open(os.path.join(self.dir, "small.json"), "w") as f:
            json.dump(config, f)
        subprocess.run([YODA, "init", os.path.join(self.dir, "small.json"), "-o", os.path.join(self.models, "small.safetensors"), "--random"],
                       check=True, stdout=subprocess.DEVNULL)
        self.daemons = []

    def start(self, **flags):
        d = Daemon(**{**dict(model_dir=self.models, dtype="f32", threads=MAX_THREADS), **flags})
        self.daemons.append(d)
        return d

    def by_command(self, picture, query):
        source, target = os.path.join(self.dir, "in.png"), os.path.join(self.dir, "out.png")
        with open(source, "wb") as f:
            f.write(picture)
        words = [w for pair in query.split("&") for w in ("--" + pair.split("=")[0].replace("_", "-"), pair.split("=")[1])]
        subprocess.run([YODA, "upscale", source, target, "--model", os.path.join(self.models, "small.safetensors"), "--dtype", "f32", "--threads", "1", *words],
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


def test_batch_mates_give_the_commands_bytes():
    with Models() as m:
        want = {p: m.by_command(p, QUERY) for p in (PICTURE, OTHER)}
        for batch in (1, 8):
            d = m.start(max_batch=batch)
            ids = [(p, d.job(p, "?" + QUERY)) for p in (PICTURE, OTHER, PICTURE)]  # all under way at a time, their windows in shared batches
            for _, i in ids:
                check(d.wait_state(i, "succeeded") == "succeeded", "done", d.curl(f"/v1/jobs/{i}").body[:300])
            for p, i in ids:
                check(d.curl(f"/v1/jobs/{i}/result").body == want[p], f"the command's bytes in batches of up to {batch}")
            work = d.curl(f"/v1/jobs/{ids[0][1]}").json()
            check(work["state"] == "succeeded" and work["settings"]["steps"] == 6, "all of its steps", work)
            check(d.stop() == 0, "the daemon ends well")


def test_a_published_file_is_served_as_it_is():
    source = os.path.join(os.environ.get("YODA_SHARED") or "../shared", "fixtures/srdiff_x8_tiny/model_ckpt_steps_7.ckpt")
    if not os.path.exists(source):
        raise Skip("the fixtures are not there")
    with tempfile.TemporaryDirectory(prefix="yodad-srdiff-") as folder:
        os.symlink(os.path.abspath(source), os.path.join(folder, "faces.ckpt"))
        d = Daemon(model_dir=folder)
        model = d.curl("/v1/models").json()["models"][0]
        check(model["scale"] == 8, "eight times as large", model)
        a = d.curl("/v1/upscale?steps=3&attention=edge", data=PICTURE)
        check(a.status == 200 and png_size(a.body) == (240, 176), "a picture of eight times the size", (a.status, a.body[:200]))
        check(d.stop() == 0, "the daemon ends well")


def test_killed_in_mid_job():
    with Models(steps=200) as m:
        state = os.path.join(m.dir, "state")
        picture = textured(40, 30)
        want = m.by_command(picture, QUERY)
        d = m.start(state_dir=state, checkpoint_interval_ms=50)
        job = d.job(picture, "?" + QUERY)
        deadline = time.monotonic() + 40 * SLOWNESS
        while d.curl(f"/v1/jobs/{job}").json()["progress"]["step"] < 40 and time.monotonic() < deadline:
            time.sleep(0.02)
        now = d.curl(f"/v1/jobs/{job}").json()
        check(now["state"] == "running", "in the middle of it", now)
        d.process.send_signal(signal.SIGKILL)
        d.process.wait()

        d = m.start(state_dir=state)
        check(d.wait_state(job, "succeeded", seconds=90) == "succeeded", "taken up again", d.curl(f"/v1/jobs/{job}").body[:300])
        check("goes on from its checkpoint" in d.log_text() and d.curl(f"/v1/jobs/{job}").json()["resumed"] == 1, "from its checkpoint")
        check(d.curl(f"/v1/jobs/{job}/result").body == want, "the same bytes, with the encoder's features made anew")
        check(d.stop() == 0, "the daemon ends well")


def test_memory_of_the_encoder_is_counted():
    with Models() as m:
        d = m.start(max_memory_bytes="64MiB")
        # 800 x 800 pixels of the result: 46 MB for the canvas and what belongs to it, and 71 MB for 32 x 32 x 16 floats of each of 1089 windows
        a = d.submit(textured(200, 200), "?" + QUERY)
        check(a.status == 413 and a.json()["field"] == "image", "too large by what is kept for its windows", (a.status, a.body[:300]))
        accepted = a.json()["accepted"]
        check("pixels" in accepted, "the largest that fits is named", accepted)
        small = d.job(PICTURE, "?" + QUERY)
        check(d.wait_state(small, "succeeded") == "succeeded", "a smaller one is taken")
        check(d.stop() == 0, "the daemon ends well")
