"""The same request and seed give the same bytes: by daemon and by command, on one thread and on two, skipping windows or not."""
import os
import subprocess
import tempfile

from harness import MAX_THREADS, Daemon, YODA, check, make_model, png

# A corner with detail on a flat ground: with a low bound most windows are off for most steps.
PICTURE = png(72, 56, lambda x, y: ((x * 13 + y * 29) % 256,) * 3 if x < 20 and y < 16 else (90, 120, 150))
QUERY = "steps=4&seed=11&lower_bound=0.25&mask_form=max"


def by_command(folder, *args):
    source, target = os.path.join(folder, "in.png"), os.path.join(folder, "out.png")
    with open(source, "wb") as f:
        f.write(PICTURE)
    settings = [word for pair in QUERY.split("&") for word in ("--" + pair.replace("_", "-").split("=")[0], pair.split("=")[1])]
    subprocess.run([YODA, "upscale", source, target, "--model", os.path.join(folder, "model.safetensors"), *settings, *args],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(target, "rb") as f:
        return f.read()


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
