"""yoda train: a run of seconds, its checkpoint, stopping and going on."""
import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import time

from harness import (TINY, YODA, case, check, clean_environment, floats, read_bytes, read_safetensors, write_png,
                     write_png_rows, yoda, yoda_fails)


def prepare(**settings):
    os.mkdir("photos")
    for i in range(3):
        write_png(f"photos/{i}.png", 72, 64, lambda x, y: ((x * x * (i + 3) + y * 7) % 256, (x * 11 + y * y) % 256, (x * y) % 256))
    config = {"model": TINY, "data": {"folder": "photos"}, "out": "out.safetensors", "out_dtype": "f32", "seed": 3,
              "iterations": 6, "batch": 2, "crop": 32, "dtype": "f32", "warmup": 2, "lr": 1e-3, **settings}
    with open("train.json", "w") as f:
        json.dump(config, f)


@case
def a_training_writes_a_model_that_can_be_used():
    prepare()
    text = yoda("train", "--config", "train.json").stdout
    check(re.search(r"out.safetensors: 6 of 6 iterations, loss \d+\.\d+, 3 pictures \(0 left out\)", text), text)
    check("tiny" in yoda("inspect", "out.safetensors", "--no-run").stdout, "the model cannot be read")
    yoda("init", "train.json", "-o", "begin.safetensors")
    begin, end = read_safetensors("begin.safetensors")[0], read_safetensors("out.safetensors")[0]
    check(sorted(begin) == sorted(end), "other tensors")
    check(sum(begin[k][2] != end[k][2] for k in begin) > len(begin) // 2, "hardly a weight has moved")
    check(all(v == v for k in end for v in floats(end[k])), "NaN among the weights")
    yoda("upscale", "photos/0.png", "large.png", "--model", "out.safetensors")


@case
def a_network_that_is_told_timesteps_is_trained_too():
    network = {**TINY["network"], "type": "ddpm", "noise_scale": 1}
    model = {**TINY, "network": network, "noise_input": "timestep", "prediction": "eps", "target": "direct", "clip": 1,
             "schedule": {"kind": "linear", "train_steps": 40, "start": 1e-4, "end": 0.3}}
    prepare(model=model)
    yoda("train", "--config", "train.json")
    text = yoda("inspect", "out.safetensors", "--no-run").stdout
    check("ddpm UNet" in text and '"noise_input": "timestep"' in text, text)
    yoda("init", "train.json", "-o", "begin.safetensors")
    begin, end = read_safetensors("begin.safetensors")[0], read_safetensors("out.safetensors")[0]
    told = [name for name in end if name.startswith("time_mlp.") or name.endswith(".res_block.mlp.1.weight")]
    check(len(told) > 4 and sorted(begin) == sorted(end), f"names: {sorted(end)}")
    check(sum(begin[k][2] != end[k][2] for k in begin) > len(begin) // 2, "hardly a weight has moved")
    yoda("upscale", "photos/0.png", "large.png", "--model", "out.safetensors", "--steps", 3)


@case
def options_override_the_config():
    prepare(data={"folder": "nowhere"}, out="other.safetensors")
    text = yoda("train", "--config", "train.json", "--data", "photos", "--out", "mine.safetensors", "--iterations", 2).stdout
    check("mine.safetensors: 2 of 2 iterations" in text and os.path.exists("mine.safetensors"), text)
    check(not os.path.exists("other.safetensors"), "the config's file was written")


@case
def a_stopped_training_resumes_to_the_same_bytes():
    prepare()
    yoda("train", "--config", "train.json", "--threads", 1, "--out", "straight.safetensors")
    text = yoda("train", "--config", "train.json", "--threads", 1, "--stop-after", 2).stdout
    check("2 of 6 iterations" in text and "--resume" in text, text)
    yoda_fails("train", "--config", "train.json", says=["checkpoint"])
    yoda("train", "--config", "train.json", "--threads", 1, "--resume")
    check(read_bytes("straight.safetensors") == read_bytes("out.safetensors"), "the interruption changed the weights")


@case
def a_signal_ends_it_with_a_checkpoint():
    prepare(iterations=1000000)
    for number in (signal.SIGTERM, signal.SIGINT):
        mode = "--restart" if number == signal.SIGINT else "--quiet"
        child = subprocess.Popen([YODA, "train", "--config", "train.json", mode], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 text=True, env=clean_environment({}))
        time.sleep(2)
        check(child.poll() is None, "it ended by itself: " + (child.stderr.read() if child.poll() is not None else ""))
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
        check(child.returncode == 0, f"status {child.returncode}: {err}")
        done = re.search(r"(\d+) of 1000000 iterations", out)
        check(done and int(done[1]) > 0, out)
        check(os.path.exists("out.checkpoint.safetensors"), "there is no checkpoint")
    text = yoda("train", "--config", "train.json", "--resume", "--stop-after", 1).stdout
    check(f"{int(done[1]) + 1} of 1000000" in text, f"resumed elsewhere: {text}")


@case
def pictures_are_drawn_when_there_is_no_folder():
    prepare(data={"synthetic": 5}, degrade={"preset": "mild", "share": 0.8})
    text = yoda("train", "--config", "train.json", "--threads", 1, "--out", "straight.safetensors").stdout
    check("5 pictures (0 left out)" in text, text)
    yoda("train", "--config", "train.json", "--threads", 1, "--stop-after", 2)
    yoda("train", "--config", "train.json", "--threads", 1, "--resume")
    check(read_bytes("straight.safetensors") == read_bytes("out.safetensors"), "drawn pictures or degradations differ after a resume")
    prepare_again = {"synthetic": 5, "folder": "photos", "synthetic_share": 0.5}
    with open("train.json") as f:
        config = json.load(f)
    with open("train.json", "w") as f:
        json.dump({**config, "data": prepare_again}, f)
    text = yoda("train", "--config", "train.json", "--out", "both.safetensors").stdout
    check("8 pictures (0 left out)" in text, text)
    yoda_fails("train", "--config", "train.json", "--resume", says=["synthetic_share"])


@case
def samples_can_be_looked_at():
    prepare(degrade={"preset": "blind"}, data={"folder": "photos", "synthetic": 3})
    text = yoda("train", "--config", "train.json", "--show-data", "sheet.png").stdout
    check("sheet.png" in text and not os.path.exists("out.safetensors"), text)
    sheet = read_bytes("sheet.png")
    check(sheet[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", sheet[16:24]) == (6 * (64 + 8) - 4, 12 * 36 - 4), sheet[:24])
    check(len(sheet) > 20000, f"hardly anything in it: {len(sheet)} bytes")
    yoda("train", "--config", "train.json", "--show-data", "again.png")
    check(sheet == read_bytes("again.png"), "the same settings show other samples")


@case
def bad_pictures_are_named_and_left_out():
    prepare()
    whole = read_bytes("photos/0.png")
    for name, content in {"broken.png": whole[:len(whole) // 2], "page.jpg": b"<html></html>", "nothing.jpeg": b""}.items():
        with open(f"photos/{name}", "wb") as f:
            f.write(content)
    write_png("photos/small.png", 20, 20, lambda x, y: (x, y, 0))
    r = yoda("train", "--config", "train.json")
    check("3 pictures (4 left out)" in r.stdout, r.stdout)
    for name in ("broken.png", "page.jpg", "nothing.jpeg", "small.png"):
        check(f"{name} is skipped: " in r.stderr, f"{name} is not named in {r.stderr!r}")
    for i in range(3):
        os.remove(f"photos/{i}.png")
    r = yoda("train", "--config", "train.json", "--restart", status=1)
    check("none of the 4 pictures" in r.stderr and "32 x 32" in r.stderr, r.stderr)


@case
def a_killed_training_leaves_whole_files():
    prepare(iterations=1000000, checkpoint_every_s=1)
    mode, done = ["--restart"], 0
    for pause in (1.6, 2.03, 1.37, 2.21):
        child = subprocess.Popen([YODA, "train", "--config", "train.json", "--quiet", *mode], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, env=clean_environment({}))
        until = time.monotonic() + 60
        while not os.path.exists("out.safetensors") and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(pause - 1)
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=60)
        check(child.returncode == -signal.SIGKILL, f"it ended by itself: {child.returncode}")
        yoda("inspect", "out.safetensors", "--no-run")
        text = yoda("train", "--config", "train.json", "--resume", "--stop-after", 1).stdout
        now = int(re.search(r"(\d+) of 1000000 iterations", text)[1])
        check(now > done, f"after the kill it goes on at {now}, behind {done}")
        mode, done = ["--resume"], now


def parts_of(path):
    """The names, lengths and digests in the index of a file in parts, and its bytes put together."""
    lines = read_bytes(path).decode().splitlines()
    check(lines[0] == "yoda-parts-1" and len(lines) > 1, f"no index: {lines[:2]}")
    rows = [line.split(" ") for line in lines[1:]]
    whole = b""
    for word, length, digest, name in rows:
        piece = read_bytes(os.path.join(os.path.dirname(path), name))
        check(word == "part" and len(piece) == int(length) and hashlib.sha256(piece).hexdigest() == digest, f"{name} is not what the index says")
        whole += piece
    return [name for _, _, _, name in rows], whole


@case
def packed_pictures_train_to_the_same_bytes():
    prepare(data={"folder": "photos", "synthetic": 2})
    yoda("train", "--config", "train.json", "--threads", 1, "--out", "straight.safetensors")
    write_png("photos/small.png", 20, 20, lambda x, y: (x, y, 0))
    text = yoda("train", "--config", "train.json", "--pack", "photos.pack").stdout
    check("3 pictures (1 left out)" in text and not os.path.exists("out.safetensors"), text)
    names, whole = parts_of("photos.pack")
    check(len(names) == 1 and len(whole) > 3 * 72 * 64 * 3, f"{names}")
    os.rename("photos", "elsewhere")
    text = yoda("train", "--config", "train.json", "--threads", 1, "--data", "photos.pack", "--stop-after", 3).stdout
    check("5 pictures (0 left out)" in text, text)
    yoda("train", "--config", "train.json", "--threads", 1, "--data", "elsewhere", "--resume")
    check(read_bytes("straight.safetensors") == read_bytes("out.safetensors"), "the pack's pictures are other ones than the folder's")
    with open(names[0], "r+b") as f:
        f.seek(len(whole) - 100)
        f.write(b"?")
    yoda_fails("train", "--config", "train.json", "--restart", "--data", "photos.pack", says=["photos.pack", names[0], "other bytes"])
    os.remove(names[0])
    yoda_fails("train", "--config", "train.json", "--restart", "--data", "photos.pack", says=["photos.pack", names[0]])
    yoda_fails("train", "--config", "train.json", "--restart", "--data", "straight.safetensors", says=["no packed pictures"])


@case
def a_pack_is_cut_where_it_would_be_too_long():
    prepare()
    write_png_rows("photos/large.png", 4200, 3400, (bytes((x * y) % 256 for x in range(50)) * 252 for y in range(3400)))
    text = yoda("train", "--config", "train.json", "--pack", "photos.pack").stdout
    names, whole = parts_of("photos.pack")
    check(len(names) == 2 and all(os.path.getsize(name) <= 40_000_000 for name in names), f"{names}\n{text}")
    with open("whole.safetensors", "wb") as f:
        f.write(whole)
    tensors, metadata = read_safetensors("whole.safetensors")
    check(sorted(tensors) == ["00000000", "00000001", "00000002", "00000003"] and metadata["yoda.pictures.format"] == "yoda-pictures-1", f"{sorted(tensors)}")
    check(list(tensors["00000003"][1]) == [3400, 4200, 3], f"{tensors['00000003'][:2]}")  # large.png is the last by name


@case
def checkpoints_come_in_parts():
    network = {**TINY["network"], "inner_channel": 64}
    prepare(model={**TINY, "network": network})
    checkpoint = "out.checkpoint.safetensors"
    yoda("train", "--config", "train.json", "--threads", 1, "--out", "straight.safetensors")
    yoda("train", "--config", "train.json", "--threads", 1, "--stop-after", 2, "--checkpoint-parts", 1)
    first, whole = parts_of(checkpoint)
    check(len(first) > 2 and all(os.path.getsize(name) <= 1_000_000 for name in first), f"{first}")
    check(sorted(n for n in os.listdir() if n.startswith(checkpoint + ".")) == first, f"{os.listdir()}")
    yoda("train", "--config", "train.json", "--threads", 1, "--resume", "--stop-after", 2, "--checkpoint-parts", 2)
    second, _ = parts_of(checkpoint)
    check(sorted(n for n in os.listdir() if n.startswith(checkpoint + ".")) == second, "parts of the checkpoint before are still there")
    yoda("train", "--config", "train.json", "--threads", 1, "--resume")
    check(not [n for n in os.listdir() if n.startswith(checkpoint + ".")], "parts are still there beside a checkpoint in one piece")
    check(read_bytes("straight.safetensors") == read_bytes("out.safetensors"), "a checkpoint in parts resumes to other weights")
    check(read_bytes("straight.checkpoint.safetensors") == read_bytes(checkpoint), "the last checkpoint differs")
    yoda("train", "--config", "train.json", "--threads", 1, "--restart", "--stop-after", 2, "--checkpoint-parts", 1)
    os.remove(parts_of(checkpoint)[0][1])
    yoda_fails("train", "--config", "train.json", "--resume", says=[checkpoint, first[1]])


@case
def the_time_is_kept():
    prepare(iterations=1000000)
    began = time.monotonic()
    text = yoda("train", "--config", "train.json", "--max-minutes", 0.15, "--checkpoint-parts", 1).stdout
    done = int(re.search(r"(\d+) of 1000000 iterations", text)[1])
    check(done > 0 and time.monotonic() - began > 1, text)
    text = yoda("train", "--config", "train.json", "--resume", "--stop-after", 1).stdout
    check(f"{done + 1} of 1000000" in text, text)


@case
def bad_trainings_are_refused():
    prepare()
    os.mkdir("empty")
    yoda_fails("train", "--config", "train.json", "--data", "empty", says=["empty", "PNG", "JPEG", "data.synthetic"])
    yoda_fails("train", "--config", "absent.json", says=["absent.json"])
    yoda_fails("train", "--config", "train.json", "--resume", says=["checkpoint"])
    yoda_fails("train", "--config", "train.json", "--resume", "--restart", says=["--resume and --restart"])
    yoda_fails("train", "--config", "train.json", "--dtype", "f16", says=["f16", "bf16"])
    with open("train.json", "w") as f:
        json.dump({"model": TINY, "data": {"folder": "photos"}, "out": "x.safetensors", "learning_rate": 1}, f)
    yoda_fails("train", "--config", "train.json", says=["learning_rate"])
    prepare_without = {"model": TINY, "out": "x.safetensors", "crop": 32}
    for more, says in (({}, ["data.folder", "data.synthetic"]), ({"degrade": {"preset": "severe"}}, ["degrade.preset", "mild"]),
                       ({"degrade": {"jpeg": [90, 70]}}, ["degrade.jpeg", "100"]), ({"data": {"synthetic": -1}}, ["data.synthetic", "0"])):
        with open("train.json", "w") as f:
            json.dump({**prepare_without, **more}, f)
        yoda_fails("train", "--config", "train.json", says=says)
