"""The same request and seed give the same bytes: by daemon and by command, on one thread and on two, skipping windows or not."""
import os
import subprocess
import tempfile

from harness import MAX_THREADS, Daemon, YODA, check, make_model, png

# A corner with detail on a flat ground: with a low bound most windows are off for most steps.
PICTURE = png(72, 56, lambda x, y: ((x * 13 + y * 29) % 256,) * 3 if x < 20 and y < 16 else (90, 120, 150))
QUERY = "steps=4&seed=11&attention=edge&lower_bound=0.25&mask_form=max"


def by_command(folder, *args):
    source, target = os.path.join(folder, "in.png"), os.path.join(folder, "out.png")
    with open(source, "wb") as f:
        f.write(PICTURE)
    if "--threads" not in args:
        args += ("--threads", str(MAX_THREADS))
    settings = [word for pair in QUERY.split("&") for word in ("--" + pair.replace("_", "-").split("=")[0], pair.split("=")[1])]
    subprocess.run([YODA, "upscale", source, target, "--model", os.path.join(folder, "model.safetensors"), *settings, *args],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(target, "rb") as f:
        return f.read()


def test_storage_by_request_gives_the_commands_bytes():
    with tempfile.TemporaryDirectory(prefix="yodad-same-") as folder:
        make_model(folder)
        d = Daemon(model_dir=folder, dtype="f32,bf16")
        check(d.curl("/v1/capabilities").json()["dtypes"] == ["f32", "bf16"], "both are resident")
        engines = d.curl("/v1/models").json()["models"][0]["engines"]
        check([e["dtype"] for e in engines] == ["f32", "bf16"], "both are listed", engines)
        check(all(e["memory"]["arena_bytes"] > 0 and e["memory"]["weights_bytes"] >= 0 for e in engines), "with their memory", engines)
        ids = {t: d.job(PICTURE, f"?{QUERY}{t and '&dtype=' + t}") for t in ("f32", "bf16", "auto", "")}  # all under way at a time
        for i in ids.values():
            d.wait_state(i, "succeeded")
        got = {t: d.curl(f"/v1/jobs/{i}/result").body for t, i in ids.items()}
        jobs = {t: d.curl(f"/v1/jobs/{i}").json() for t, i in ids.items()}
        for t, engine in zip(("f32", "bf16"), engines):
            check(got[t] == by_command(folder, "--dtype", t), t + ": the command's bytes")
            check(jobs[t]["settings"]["dtype"] == t and jobs[t]["fingerprint"] == engine["fingerprint"]["short"], t + " is told", jobs[t])
        check(got["f32"] != got["bf16"], "the type makes a difference")
        check(got["auto"] == got[""] == got["f32"] and jobs["auto"]["settings"]["dtype"] == "f32", "the first is the default", jobs["auto"])
        check(d.stop() == 0, "the daemon ends well")


def test_small_windows_in_batches_give_the_commands_bytes():
    with tempfile.TemporaryDirectory(prefix="yodad-same-") as folder:
        make_model(folder)
        d = Daemon(model_dir=folder, window=64, overlap=8)
        batch = d.curl("/v1/models").json()["models"][0]["engines"][0]["batch"]
        check(batch == 8, "eight windows of 64 at a time", batch)
        ids = [d.job(PICTURE, f"?{QUERY}") for _ in range(3)]  # alone and as mates: batches of every size
        for i in ids:
            d.wait_state(i, "succeeded")
        got = [d.curl(f"/v1/jobs/{i}/result").body for i in ids]
        want = by_command(folder, "--window", "64", "--overlap", "8")
        check(got == [want] * 3, "the command's bytes")
        check(d.stop() == 0, "the daemon ends well")
        d = Daemon(model_dir=folder, window=64, overlap=8, max_batch=1)
        check(d.curl(f"/v1/upscale?{QUERY}", data=PICTURE).body == want, "and one window at a time")
        check(d.stop() == 0, "the daemon ends well")


def test_storage_that_is_not_resident_is_refused():
    d = Daemon(device="fake", dtype="f32")
    a = d.submit(PICTURE, "?dtype=bf16")
    check(a.status == 422 and a.json()["field"] == "dtype", "422 naming the field", (a.status, a.body[:200]))
    check(a.json()["accepted"] == "auto, f32", "and what there is", a.json())
    check(d.submit(PICTURE, "?dtype=f16").status == 422 and d.submit(PICTURE, "?dtype=auto").status == 202, "words are checked")
    check(d.stop() == 0, "the daemon ends well")


def test_daemon_command_threads_and_skipping_agree():
    for dtype in ("f32", "bf16"):
        with tempfile.TemporaryDirectory(prefix="yodad-same-") as folder:
            make_model(folder)
            answers, units = {}, {}
            for threads in range(1, MAX_THREADS + 1):
                d = Daemon(model_dir=folder, threads=threads, dtype=dtype)
                for skip in ("true", "false"):
                    a = d.curl(f"/v1/upscale?{QUERY}&skip={skip}", data=PICTURE, timeout=120)
                    check(a.status == 200, f"{dtype}, {threads} threads, skip={skip}: 200", (a.status, a.body[:200]))
                    answers[f"daemon, {threads} threads, skip={skip}"] = a.body
                    job = d.curl("/v1/jobs/" + (a.header("x-job-id") or "")).json()
                    units[skip] = job["progress"]["windows_done"]
                check(d.stop() == 0, "the daemon ends well")
            check(units["true"] < units["false"], f"{dtype}: skipping saves units", units)
            for threads in range(1, MAX_THREADS + 1):
                answers[f"command, {threads} threads"] = by_command(folder, "--threads", str(threads), "--dtype", dtype)
            first = next(iter(answers.values()))
            for name, body in answers.items():
                check(body == first, f"{dtype}: {name} gives the same bytes")
