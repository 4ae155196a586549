"""Several models beside each other: chosen by jobs, loaded, replaced and unloaded under traffic, refused, pinned, taken up after a restart."""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from harness import Daemon, YODA, check, make_model, sse, textured
from test_access import Guarded

PICTURE = textured(64, 48)
LONG = textured(160, 120)
A, B = "yoda-compact-4x", "yoda-photo-4x"
SMALL = os.environ.get("YODA_TEST_MODEL") == "small"


class Models:
    """A folder with two models, A and B, and the servers on it."""

    def __init__(self, names=(A, B)):
        self.dir = tempfile.mkdtemp(prefix="yodad-models-")
        self.daemons = []
        for i, name in enumerate(names):
            if SMALL:
                small_model(self.path(name), i)
            else:
                shutil.copyfile(f"models/{name}.safetensors", self.path(name))

    def path(self, name):
        return os.path.join(self.dir, name + ".safetensors")

    def start(self, **flags):
        d = Daemon(**{"model_dir": self.dir, **flags})
        self.daemons.append(d)
        return d

    def replace(self, name, source):
        """As it should be done: a new file under the old name."""
        shutil.copyfile(source, os.path.join(self.dir, "new"))
        os.replace(os.path.join(self.dir, "new"), self.path(name))

    def another(self, name, number):
        """The same weights in a file with another checksum; its path."""
        out = os.path.join(self.dir, f"{name}.{number}")
        subprocess.run([YODA, "convert", self.path(name), out, "--set", f"profiles.best.steps={20 + number}"], check=True, stdout=subprocess.DEVNULL)
        return out

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for d in self.daemons:
            check(not d.alive() or d.stop() == 0, "the daemon ends well", d.log_text()[-500:])
            check("ERROR: " not in d.log_text() and "runtime error" not in d.log_text(), "no sanitizer's report", d.log_text()[-2000:])
        shutil.rmtree(self.dir, ignore_errors=True)


def small_model(path, number):
    with tempfile.TemporaryDirectory() as folder:
        made = os.path.join(make_model(folder), "model.safetensors")
        if number == 0:
            shutil.copyfile(made, path)
            return
        config = os.path.join(folder, "config.json")
        with open(config, "w") as f:
            f.write(config_of(made))
        subprocess.run([YODA, "init", config, "-o", path, "--random", "--seed", str(number + 1)], check=True, stdout=subprocess.DEVNULL)


def config_of(path):
    with open(path, "rb") as f:
        head = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    return head["__metadata__"]["yoda.config"]


def model(d, name):
    return d.curl(f"/v1/models/{name}").json()


def order(d, name, what, query="?wait=60", **kw):
    return d.curl(f"/v1/models/{name}/{what}{query}", "-X", "POST", **kw)


def sha256(path):
    with open(path, "rb") as f:
        return "sha256:" + hashlib.sha256(f.read()).hexdigest()


def result(d, job):
    check(d.wait_state(job, "succeeded", "failed", seconds=120) == "succeeded", "it succeeds", d.curl(f"/v1/jobs/{job}").body[:600])
    return d.curl(f"/v1/jobs/{job}/result").body


def test_two_models_interleaved_give_the_bytes_that_each_gives_alone():
    requests = [(name, f"?steps=3&seed={seed}&model={name}") for seed in range(3) for name in (A, B)]
    with Models() as m:
        alone = {}
        for name in (A, B):
            d = m.start(model=name)
            check([x["state"] for x in d.curl("/v1/models").json()["models"]] == [("resident" if x == name else "available") for x in (A, B)],
                  "one is resident, both are listed", d.curl("/v1/models").body[:300])
            for who, query in requests:
                if who == name:
                    job = d.job(PICTURE, query)
                    alone[query] = result(d, job), d.curl(f"/v1/jobs/{job}").json()["fingerprint"]
            d.stop()
        d = m.start(models="all")
        jobs = [(query, d.job(PICTURE, query)) for _, query in requests]
        for query, job in jobs:
            got = result(d, job)
            j = d.curl(f"/v1/jobs/{job}").json()
            check(got == alone[query][0], "the same bytes: " + query)
            check(j["fingerprint"] == alone[query][1] and f"model={j['model']}" in query and j["settings"]["model"] == j["model"], "and it says so", j)
            check(j["model_checksum"] == model(d, j["model"])["checksum"] == sha256(m.path(j["model"])), "of that version", j)
        check(alone[requests[0][1]][0] != alone[requests[1][1]][0], "the two differ")
        # Without a name it is the default; without that setting the first by name.
        check(d.curl(f"/v1/jobs/{d.job(PICTURE, '?steps=1')}").json()["model"] == A, "the default")
        text = d.curl("/metrics").body.decode()
        for name in (A, B):
            check(f'yodad_jobs_total{{model="{name}",outcome="succeeded"}}' in text and f'yodad_device_memory_bytes{{kind="weights",model="{name}"}}' in text, "metrics by model", name)
        capabilities = d.curl("/v1/capabilities").json()
        check(capabilities["models"] == [A, B] and capabilities["defaults"]["model"] == A, "capabilities", capabilities)


def test_unknown_names_and_the_start():
    with Models() as m:
        d = m.start()
        a = d.submit(PICTURE, "?model=none")
        check(a.status == 422 and a.json()["field"] == "model" and a.json()["accepted"] == f"{A}, {B}", "an unknown model: which there are", a.body)
        a = d.submit(PICTURE, f"?model={B}")
        check(a.status == 503 and a.json()["type"] == "/problems/model-not-loaded" and B in a.json()["detail"] and a.json()["accepted"] == A,
              "one that is not resident: which are", a.body)
        check(d.submit(PICTURE, "?model=").status == 422, "no name is no model")
        check(d.curl("/v1/models/none").status == 404 and order(d, "none", "load").status == 404, "nor has it an address")
        check(model(d, B)["state"] == "available" and model(d, B)["scale"] == 4 and "checksum" not in model(d, B), "what is known of it unread", model(d, B))
        d.stop()
        # A list at the start: ready when all are warm.
        d = m.start(model=B, models=f"{A}, {B}")
        check([x["state"] for x in d.curl("/v1/models").json()["models"]] == ["resident"] * 2, "both are there when it is ready")
        check(d.curl("/v1/models").json()["default"] == B, "the default is that of --model")
        d.stop()
        for flags, words in ((dict(models="none"), ["models", "none", A]), (dict(model="none"), ["model", "none", A])):
            try:
                m.start(**flags)
                check(False, "it does not start", flags)
            except RuntimeError as e:
                check(all(w in str(e) for w in words), f"it says why: {words}", e)
        # One of "all" that is no model is left out and listed with the reason; asked for by name it stops the start.
        with open(m.path("broken"), "wb") as f:
            f.write(b"x" * 1000)
        d = m.start(models="all")
        listed = {x["name"]: x for x in d.curl("/v1/models").json()["models"]}
        check(listed["broken"]["state"] == "failed" and "broken.safetensors" in listed["broken"]["problem"]["detail"], "listed with its problem", listed["broken"])
        check(listed[A]["state"] == listed[B]["state"] == "resident" and "scale" not in listed["broken"], "the others are there")
        d.stop()
        try:
            m.start(models="broken")
            check(False, "it does not start with a broken one that is asked for")
        except RuntimeError as e:
            check("broken.safetensors" in str(e), "it says which", e)


class Traffic:
    """Jobs of these models, one after the other in each of some threads; what became of them."""

    def __init__(self, d, names, threads=3, query="steps=2"):
        self.d, self.names, self.query = d, list(names), query
        self.over, self.lock, self.ended, self.refused = False, threading.Lock(), [], []
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(threads)]
        for t in self.threads:
            t.start()

    def run(self, i):
        n = 0
        while not self.over:
            name, seed = self.names[(i + n) % len(self.names)], n % 2
            n += 1
            a = self.d.submit(PICTURE, f"?model={name}&seed={seed}&{self.query}")
            if a.status != 202:
                with self.lock:
                    self.refused.append((name, a.status, a.body[:300]))
                time.sleep(0.05)
                continue
            job = a.json()["id"]
            state = self.d.wait_state(job, "succeeded", "failed", "cancelled", seconds=120)
            j, bytes_ = self.d.curl(f"/v1/jobs/{job}").json(), self.d.curl(f"/v1/jobs/{job}/result").body
            with self.lock:
                self.ended.append((name, seed, state, j["model_checksum"], j["fingerprint"], hashlib.sha256(bytes_).hexdigest(), j.get("problem")))

    def stop(self):
        self.over = True
        for t in self.threads:
            t.join()


def test_reload_unload_and_load_under_traffic():
    with Models() as m:
        d = m.start(models="all")
        first = model(d, A)["checksum"]
        traffic = Traffic(d, (A, A, B))
        checksums = [first]
        for number in range(3):
            m.replace(A, m.another(A, number))
            a = order(d, A, "load")
            check(a.status == 200 and a.json()["state"] == "resident" and a.json()["checksum"] == sha256(m.path(A)) != checksums[-1], "reloaded", a.body[:300])
            checksums.append(a.json()["checksum"])
        a = order(d, A, "load")
        check(a.status == 200 and a.json()["checksum"] == checksums[-1], "again without a change: nothing happens", a.body[:300])
        for _ in range(2):
            a = order(d, B, "unload")
            check(a.status == 200 and a.json()["state"] == "available" and a.json()["jobs"] == 0 and a.json()["resident_bytes"] == 0, "unloaded", a.body[:300])
            b = d.submit(PICTURE, f"?model={B}")
            check(b.status == 503 and b.json()["type"] == "/problems/model-not-loaded", "new ones are refused", b.body)
            check(order(d, B, "load").status == 200, "loaded again")
        time.sleep(0.5)
        traffic.stop()
        states = [e[2] for e in traffic.ended]
        check(len(states) > 10 and set(states) == {"succeeded"}, "no job has failed", [e for e in traffic.ended if e[2] != "succeeded"][:3])
        check(all(name == B and status == 503 for name, status, _ in traffic.refused), "none was refused but of the model that was away", traffic.refused[:3])
        of_a = {e[3] for e in traffic.ended if e[0] == A}
        check(of_a <= set(checksums) and len(of_a) >= 2, "jobs of several versions", of_a)
        bytes_of = {}
        for name, seed, _, checksum, fingerprint, digest, _ in traffic.ended:
            bytes_of.setdefault((name, seed), set()).add(digest)
            check(len({f for n, _, _, c, f, _, _ in traffic.ended if (n, c) == (name, checksum)}) == 1, "one version, one fingerprint", name)
        check(all(len(v) == 1 for v in bytes_of.values()), "the same weights give the same bytes, whatever went on", {k: len(v) for k, v in bytes_of.items()})
        text = d.curl("/metrics").body.decode()
        check(f'yodad_model_loads_total{{outcome="succeeded",model="{A}"}} 5' in text, "loads are counted", [x for x in text.splitlines() if "loads" in x])


def test_a_job_keeps_its_version():
    with Models((A,)) as m:
        d = m.start(max_running=1)
        first = model(d, A)["checksum"]
        running, queued = d.job(LONG, "?steps=10"), d.job(PICTURE, "?steps=2")
        d.wait_state(running, "running")
        m.replace(A, m.another(A, 7))
        loaded = order(d, A, "load").json()
        second = loaded["checksum"]
        check(second != first and loaded["jobs"] == 2, "two jobs hold the old version", loaded["jobs"])
        check(loaded["resident_bytes"] > 1.5 * sum(loaded["memory"].values()), "both versions take memory", loaded["resident_bytes"])
        after = d.job(PICTURE, "?steps=2")
        for job, checksum in ((running, first), (queued, first), (after, second)):
            result(d, job)
            check(d.curl(f"/v1/jobs/{job}").json()["model_checksum"] == checksum, "of the version it was taken for")
        check(d.curl(f"/v1/jobs/{queued}/result").body == d.curl(f"/v1/jobs/{after}/result").body, "and here both compute alike")
        deadline = time.monotonic() + 20
        while model(d, A)["resident_bytes"] > 1.5 * sum(model(d, A)["memory"].values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        check(model(d, A)["resident_bytes"] == sum(model(d, A)["memory"].values()), "then the old one has left", model(d, A)["resident_bytes"])


def test_an_unloaded_model_ends_its_jobs():
    with Models() as m:
        d = m.start(models="all", max_running=1)
        full = d.rss()
        running, queued = d.job(LONG, f"?steps=8&model={B}"), d.job(PICTURE, f"?steps=2&model={B}")
        d.wait_state(running, "running")
        a = order(d, B, "unload", "")
        check(a.status == 202 and a.json()["state"] == "draining" and a.json()["jobs"] == 2, "it drains", a.body[:200])
        check(order(d, B, "unload", "").json()["state"] == "draining", "twice is once")
        check(d.submit(PICTURE, f"?model={B}").status == 503, "and takes no more")
        check(d.wait_state(queued, "succeeded", "failed", seconds=120) == "succeeded", "one that waited is computed")
        check(d.wait_state(running, "succeeded", "failed", seconds=120) == "succeeded", "so is one under way")
        check(order(d, B, "unload").json()["state"] == "available", "then it is gone")
        check(d.rss() < full + (8 << 20), "its memory is given back", (full >> 20, d.rss() >> 20))
        # Draining, it is taken back by a load before its last job has ended; nothing is compiled for that.
        order(d, B, "load")
        running = d.job(LONG, f"?steps=60&model={B}")
        d.wait_state(running, "running")
        check(order(d, B, "unload", "").json()["state"] == "draining", "draining")
        a = order(d, B, "load")
        check(a.status == 200 and a.json()["state"] == "resident" and a.json()["jobs"] == 1, "and back", a.body[:200])
        d.curl(f"/v1/jobs/{running}", "-X", "DELETE")
        # The default may go too; then there is nothing for requests that name none.
        check(order(d, A, "unload").status == 200 and d.submit(PICTURE).status == 503 and d.submit(PICTURE, f"?model={B}&steps=1").status == 202, "the default is gone")
        check(d.curl("/readyz").status == 200, "as long as one is resident it is ready")
        order(d, B, "unload")
        check(d.curl("/readyz").status == 503, "without any it is not")
        check(order(d, A, "load").status == 200 and d.curl("/readyz").status == 200, "and then again")


def test_a_damaged_file_is_refused_and_the_old_one_serves():
    with Models((A,)) as m:
        d = m.start()
        first, query = model(d, A)["checksum"], "?steps=2&seed=5"
        want = result(d, d.job(PICTURE, query))
        good = open(m.path(A), "rb").read()
        flipped = bytearray(good)
        flipped[len(good) * 2 // 3] ^= 1  # somewhere in the weights
        cut = good[:len(good) // 2]
        sealed = bytearray(open(m.another(A, 1), "rb").read())
        sealed[len(sealed) // 2] ^= 16
        for what, data, words in (("a flipped bit", bytes(flipped), (hashlib.sha256(good).hexdigest()[:40], "damaged")),
                                  ("a flipped bit in what carries its checksum", bytes(sealed), ("damaged",)),
                                  ("half of it", cut, ("safetensors",)),
                                  ("garbage", b"x" * 5000, ("safetensors",)),
                                  ("other weights than its config's", other_network(good), ("does not have the shape",))):
            with open(m.path(A) + ".sha256", "w") as f:
                beside = good if what == "a flipped bit" else data
                f.write(hashlib.sha256(beside).hexdigest() + "  model\n")
            with open(os.path.join(m.dir, "new"), "wb") as f:
                f.write(data)
            os.replace(os.path.join(m.dir, "new"), m.path(A))
            a = order(d, A, "load")
            check(a.status == 422 and a.json()["type"] == "/problems/invalid-checkpoint", what + " is refused", (a.status, a.body[:300]))
            check(all(w in a.json()["detail"] for w in words), what + ": with the reason", a.json()["detail"])
            now = model(d, A)
            check(now["state"] == "resident" and now["checksum"] == first and now["problem"]["detail"] == a.json()["detail"], what + ": the old one is resident", now)
            check(result(d, d.job(PICTURE, query)) == want, what + ": and serves")
        os.remove(m.path(A) + ".sha256")
        with open(m.path(A), "wb") as f:
            f.write(good)
        a = order(d, A, "load")
        check(a.status == 200 and a.json()["checksum"] == first and "problem" not in a.json(), "the good one is taken again", a.body[:300])


def other_network(good):
    """The file with a config that promises other layers."""
    size = int.from_bytes(good[:8], "little")
    head = json.loads(good[8:8 + size])
    config = json.loads(head["__metadata__"]["yoda.config"])
    config["network"]["inner_channel"] *= 2
    head["__metadata__"]["yoda.config"] = json.dumps(config)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + good[8 + size:]


def test_the_budget():
    with Models() as m:
        d = m.start()
        takes = sum(model(d, A)["memory"].values())
        d.stop()
        d = m.start(model_memory_bytes=takes * 3 // 2, models="all")
        b = model(d, B)
        check(b["state"] == "available" and b["problem"]["type"] == "/problems/model-memory-full", "what does not fit is left out", b)
        a = order(d, B, "load")
        check(a.status == 409 and a.json()["field"] == "model_memory_bytes", "refused", a.body)
        check(str(takes * 3 // 2 >> 20) + " MiB" in a.json()["accepted"], "naming the budget", a.json())
        memory = d.curl("/v1/models").json()["memory"]
        check(memory == {"budget_bytes": takes * 3 // 2, "used_bytes": takes}, "nothing of it stays", memory)
        check(order(d, A, "unload").status == 200 and order(d, B, "load").status == 200, "in place of the other one there is room")
        # Two versions do not fit at once: the old one serves on.
        first = model(d, B)["checksum"]
        m.replace(B, m.another(B, 3))
        check(order(d, B, "load").status == 409 and model(d, B)["checksum"] == first, "a reload needs room for both")


def test_on_demand():
    with Models() as m:
        d = m.start(load_on_demand="true")
        check(model(d, B)["state"] == "available", "it is not resident")
        jobs = [d.job(PICTURE, f"?steps=1&model={B}&seed={i}") for i in range(2)]
        for job in jobs:
            result(d, job)
        check(model(d, B)["state"] == "resident", "the first job has brought it")
        a = d.submit(PICTURE, f"?steps=0&model={B}")
        check(a.status == 422 and a.json()["field"] == "steps", "its settings are judged", a.body)
        order(d, B, "unload")
        a = d.submit(PICTURE, f"?steps=0&model={B}")
        check(a.status == 422 and a.json()["field"] == "steps", "also of one that waited for it", a.body)
        order(d, B, "unload")
        with open(m.path(B), "wb") as f:
            f.write(b"x" * 1000)
        for _ in range(2):
            a = d.submit(PICTURE, f"?model={B}")
            check(a.status == 503 and "safetensors" in a.json()["detail"], "one that cannot be loaded: why", a.body)


def test_restart_with_jobs_of_two_models():
    with Models() as m:
        state = os.path.join(m.dir, "state")
        queries = [f"?steps=6&model={name}&seed=3" for name in (A, B)]
        d = m.start(models="all", state_dir=state, content_cache="true")
        want = [result(d, d.job(PICTURE, q)) for q in queries]
        d.stop()
        shutil.rmtree(state)
        d = m.start(models="all", state_dir=state, checkpoint_interval_ms=20, max_running=2, max_idle_ms=20)
        long = [d.job(LONG, f"?steps=10&model={name}") for name in (A, B)]
        for job in long:
            d.wait_step(job)
        jobs = [d.job(PICTURE, q) for q in queries]
        d.process.send_signal(signal.SIGKILL)
        d.process.wait()
        d = m.start(state_dir=state, max_running=2)  # only A at the start: B comes because jobs wait for it
        for job, q, bytes_ in zip(jobs, queries, want):
            check(result(d, job) == bytes_, "the same bytes: " + q)
            check(d.curl(f"/v1/jobs/{job}").json()["resumed"] == 1, "after a restart")
        for job in long:
            result(d, job)
        log = d.log_text()
        check(log.count("goes on from its checkpoint") == 2, "jobs of both go on from their checkpoints", log.count("goes on from its checkpoint"))
        # The file is another one, or gone: the job fails and says so, the others go on.
        jobs = [d.job(LONG, f"?steps=4&model={name}") for name in (A, B)]
        d.process.send_signal(signal.SIGKILL)
        d.process.wait()
        m.replace(B, m.another(B, 1))
        d = m.start(state_dir=state)
        check(d.wait_state(jobs[1], "failed", "succeeded", seconds=60) == "failed", "its model's file is another one")
        problem = d.curl(f"/v1/jobs/{jobs[1]}").json()["problem"]
        check(problem["field"] == "model" and B in problem["detail"] and "checksum" in problem["detail"], "it says so", problem)
        result(d, jobs[0])
        job = d.job(LONG, "?steps=4")
        d.process.send_signal(signal.SIGKILL)
        d.process.wait()
        os.remove(m.path(A))
        d = m.start(state_dir=state)
        check(d.wait_state(job, "failed", "succeeded", seconds=60) == "failed", "its model is gone")
        problem = d.curl(f"/v1/jobs/{job}").json()["problem"]
        check(A in problem["detail"] and problem["accepted"] == B, "it says which", problem)


def test_who_may():
    with Guarded({"alice": "", "root": "scopes=admin", "boss": "scopes=read,admin"}) as g:
        name = "fake-2x"
        check(g.ask(f"/v1/models/{name}/load", None, "-X", "POST").status == 401, "nobody without a key")
        for what in ("load", "unload"):
            a = g.ask(f"/v1/models/{name}/{what}", "alice", "-X", "POST")
            check(a.status == 403 and a.json()["accepted"] == "admin", what + " needs the scope", a.body)
        check(g.ask(f"/v1/models/{name}", "alice").json()["state"] == "resident", "to look needs none but read")
        check(g.ask(f"/v1/models/{name}/load?wait=10", "root", "-X", "POST").status == 200, "who has it may")
        check(g.ask(f"/v1/models/{name}/unload?wait=10", "boss", "-X", "POST").json()["state"] == "available", "both")
        check(g.ask(f"/v1/models/{name}", "root").status == 403, "admin alone does not read")
    d = Daemon(device="fake", trusted_proxies="127.0.0.0/8")
    try:
        check(order(d, "fake-2x", "load").status == 200, "without keys, from the machine itself")
        for header in ("Origin: http://page.example", "X-Forwarded-For: 192.0.2.7", "Forwarded: for=192.0.2.7"):
            a = order(d, "fake-2x", "unload", headers=(header,))
            check(a.status == 403 and a.json()["type"] == "/problems/forbidden" and "loopback" in a.json()["detail"], "not for " + header, a.body)
        check(model(d, "fake-2x")["state"] == "resident", "nothing has happened")
    finally:
        check(d.stop() == 0, "it ends well")


def test_files_that_come_and_go():
    with Models((A,)) as m:
        other = tempfile.mkdtemp(prefix="yodad-models-")
        try:
            d = m.start(model_dir=f"{m.dir}, {other}")
            shutil.copyfile(m.path(A), os.path.join(other, "second.safetensors"))
            shutil.copyfile(m.path(A), os.path.join(other, A + ".safetensors"))  # of one name the first folder's counts
            shutil.copyfile(m.path(A), os.path.join(other, "not a name.safetensors"))
            deadline = time.monotonic() + 20
            while d.curl("/v1/models/second").status != 200 and time.monotonic() < deadline:
                time.sleep(0.1)
            check([x["name"] for x in d.curl("/v1/models").json()["models"]] == sorted((A, "second")), "it is found", d.curl("/v1/models").body[:300])
            title = model(d, "second")["title"]
            check(order(d, "second", "load").status == 200, "and loaded")
            a = d.submit(PICTURE, f"?model={title}&steps=1")
            check(a.status == (202 if title == A and not SMALL else 422), "a file's name goes before a config's", a.body[:200])
            os.remove(os.path.join(other, "second.safetensors"))
            time.sleep(4)
            check(model(d, "second")["state"] == "resident", "gone from the disk it serves on")
            check(d.submit(PICTURE, "?model=second&steps=1").status == 202, "and takes jobs")
            a = order(d, "second", "unload")
            check(a.status in (200, 404) and d.curl("/v1/models/second").status == 404, "until it is unloaded: then it is forgotten", a.body[:200])
        finally:
            shutil.rmtree(other, ignore_errors=True)


def test_streams_tell_of_jobs_of_both():
    with Models() as m:
        d = m.start(models="all")
        jobs = [d.job(PICTURE, f"?steps=4&model={name}") for name in (A, B)]
        for job in jobs:
            told = sse(d.curl(f"/v1/jobs/{job}/events").body.decode())
            check([e[1] for e in told if e[1] == "step"] == ["step"] * 4 and told[-1][1] == "succeeded", "all steps", [e[1] for e in told])
