"""yoda init, yoda inspect."""
import json
import math
import os

from harness import (TINY, busy_picture, case, check, read_bytes, read_safetensors, tiny_model, write_safetensors, yoda,
                     yoda_fails)


@case
def init_is_a_function_of_config_and_seed():
    a, b, c = (read_bytes(tiny_model(f"{name}.safetensors", seed)) for name, seed in [("a", 5), ("b", 5), ("c", 6)])
    check(a == b, "the same seed made other bytes")
    check(a != c, "another seed made the same bytes")


@case
def init_begins_with_zeros_unless_random():
    tiny_model("random.safetensors")
    yoda("init", "tiny.json", "-o", "plain.safetensors")
    last = "final_conv.block.3.weight"
    plain, random = read_safetensors("plain.safetensors")[0], read_safetensors("random.safetensors")[0]
    check(last in plain and last in random, f"names: {sorted(plain)}")
    check(not any(plain[last][2]), "the last layer does not begin at zero")
    check(any(random[last][2]), "the last layer is zero although random was asked for")


@case
def init_takes_a_training_config():
    with open("train.json", "w") as f:
        json.dump({"model": TINY, "data": {"folder": "x"}, "out": "y.safetensors", "seed": 9}, f)
    yoda("init", "train.json", "-o", "a.safetensors", "--random")
    check(read_bytes("a.safetensors") == read_bytes(tiny_model("b.safetensors", 9)), "not the config's model and seed")


@case
def bf16_halves_the_file():
    tiny_model("a.safetensors")
    yoda("init", "tiny.json", "-o", "b.safetensors", "--dtype", "bf16")
    ratio = os.path.getsize("b.safetensors") / os.path.getsize("a.safetensors")
    check(0.5 < ratio < 0.7, f"the bf16 file is {ratio:.2f} of the f32 one")
    check("tiny" in yoda("inspect", "b.safetensors", "--no-run").stdout, "cannot be read back")


@case
def inspect_counts_what_is_in_the_file():
    tensors, _ = read_safetensors(tiny_model())
    values = sum(math.prod(shape) for _, shape, _ in tensors.values())
    text = yoda("inspect", "tiny.safetensors").stdout
    check(f"parameters   {values} in {len(tensors)} tensors" in text, text)
    for word in ["model        tiny", "sha256:", "windows of 32 pixels", "4x", "GFLOP", "MiB of weights"]:
        check(word in text, f"{word} is not in {text}")


@case
def inspect_names_missing_and_unexpected_tensors():
    tensors, metadata = read_safetensors(tiny_model())
    name = sorted(tensors)[3]
    write_safetensors("less.safetensors", {k: v for k, v in tensors.items() if k != name}, metadata)
    yoda_fails("inspect", "less.safetensors", says=["less.safetensors", name])
    write_safetensors("more.safetensors", {**tensors, "one.too.many": ("F32", [1], bytes(4))}, metadata)
    yoda_fails("inspect", "more.safetensors", says=["one.too.many"])
    write_safetensors("same.safetensors", tensors, metadata)
    yoda("inspect", "same.safetensors", "--no-run")


@case
def broken_models_are_refused_by_name():
    data = read_bytes(tiny_model())
    for name, content in [("cut", data[:-7]), ("longer", data + b"x"), ("head", b"\xff" * 16 + data[16:]), ("empty", b"")]:
        with open(f"{name}.safetensors", "wb") as f:
            f.write(content)
        yoda_fails("inspect", f"{name}.safetensors", says=[f"{name}.safetensors"])
    yoda_fails("inspect", "absent.safetensors", says=["absent.safetensors"])


@case
def bad_configs_are_refused_by_field():
    for change, word in [({"window": 33}, "window"), ({"prediction": "x1"}, "prediction"), ({"windwo": 32}, "windwo")]:
        with open("bad.json", "w") as f:
            json.dump({**TINY, **change}, f)
        yoda_fails("init", "bad.json", "-o", "x.safetensors", says=["bad.json", word])
    with open("bad.json", "w") as f:
        f.write("{")
    yoda_fails("init", "bad.json", "-o", "x.safetensors", says=["bad.json"])
    check(not os.path.exists("x.safetensors"), "a file was written all the same")


@case
def the_default_model_is_found_or_asked_for():
    busy_picture("in.png", 16, 16)
    os.mkdir("models")
    tiny_model("models/one.safetensors")
    named = tiny_model("elsewhere.safetensors", 2)
    yoda("upscale", "in.png", "named.png", "--dtype", "f32", YODA_MODEL=named)
    yoda("upscale", "in.png", "given.png", "--dtype", "f32", "--model", named)
    check(read_bytes("named.png") == read_bytes("given.png"), "YODA_MODEL was not used")


@case
def a_model_is_chosen_by_file_or_by_name():
    os.mkdir("models")
    tiny_model("models/one.safetensors")
    tiny_model("two", 2)
    digests = [next(line for line in yoda("inspect", name, "--no-run").stdout.splitlines() if "sha256:" in line)
               for name in ["one", "models/one.safetensors", "./two", "two"]]
    check(digests[0] == digests[1] and digests[2] == digests[3] != digests[0], f"not the models that were named: {digests}")
    yoda_fails("inspect", "three", says=["three", "accepted", "yoda-compact-4x"])


@case
def convert_changes_the_config_and_no_weight():
    tiny_model()
    tensors, metadata = read_safetensors("tiny.safetensors")
    write_safetensors("in.safetensors", tensors, {**metadata, "note": "keep me"})
    with open("profiles.json", "w") as f:
        json.dump({"name": "tuned", "profiles": {"fast": {"steps": 2, "eta": 0}, "best": {"steps": 9}}}, f)
    yoda("convert", "in.safetensors", "out.safetensors", "--config", "profiles.json",
         "--set", "profiles.best.attention=constant,defaults.steps=5")
    after, said = read_safetensors("out.safetensors")
    check(after == tensors, "a weight is not what it was")
    config, before = json.loads(said["yoda.config"]), json.loads(metadata["yoda.config"])
    check(said["note"] == "keep me", said)
    check(config["name"] == "tuned" and config["defaults"]["steps"] == 5 and config["defaults"]["eta"] == 0.5, config)
    fast, best = config["profiles"]["fast"], config["profiles"]["best"]
    check((fast["steps"], fast["eta"], fast["attention"]) == (2, 0, "edge"), fast)
    check((best["steps"], best["eta"], best["attention"]) == (9, 0.5, "constant"), best)
    check(all(config[k] == before[k] for k in before if k not in ("name", "defaults")), "something else changed")
    text = yoda("inspect", "out.safetensors", "--no-run").stdout
    for line in ("fast         2 steps, ddim eta 0, edge map, add 0.4", "balanced     5 steps", "best         9 steps, ddim eta 0.5, constant"):
        check(line in text, f"{line} is not in {text}")
    check("derived" not in text and "(derived)" in yoda("inspect", "in.safetensors", "--no-run").stdout, text)
    yoda("convert", "out.safetensors", "out.safetensors", "--set", "profiles.fast.steps=1")
    check(read_safetensors("out.safetensors")[0] == tensors, "in place")


@case
def convert_refuses_what_does_not_fit():
    tiny_model()
    for change, words in [("profiles.fast.steps=0", ["steps", "1 to 4000"]), ("profiles.good.steps=3", ["good"]),
                          ("network.inner_channel=24", ["shape"]), ("steps", ["KEY=VALUE"]), ("defaults.attention=egde", ["attention"]),
                          ("window=33", ["window"]), ("defaults=3", ["defaults"])]:
        yoda_fails("convert", "tiny.safetensors", "out.safetensors", "--set", change, says=words)
    yoda_fails("convert", "absent.safetensors", "out.safetensors", says=["absent.safetensors"])
    check(not os.path.exists("out.safetensors"), "a file was written all the same")


@case
def quality_is_a_profile_of_the_model():
    tiny_model()
    yoda("convert", "tiny.safetensors", "two.safetensors", "--set", "profiles.fast.steps=2,profiles.fast.lower_bound=1")
    busy_picture("in.png", 16, 16)
    options = ["--model", "two.safetensors", "--dtype", "f32"]
    yoda("upscale", "in.png", "fast.png", *options, "--quality", "fast")
    yoda("upscale", "in.png", "said.png", *options, "--steps", 2, "--lower-bound", 1)
    yoda("upscale", "in.png", "more.png", *options, "--steps", 3, "--quality", "fast")
    yoda("upscale", "in.png", "both.png", *options, "--steps", 3, "--lower-bound", 1)
    yoda("upscale", "in.png", "plain.png", *options)
    yoda("upscale", "in.png", "balanced.png", *options, "--quality", "balanced")
    check(read_bytes("fast.png") == read_bytes("said.png") != read_bytes("plain.png"), "fast is not its settings")
    check(read_bytes("more.png") == read_bytes("both.png"), "what is said beside it does not win")
    check(read_bytes("balanced.png") == read_bytes("plain.png"), "balanced is not what is taken anyway")
    yoda_fails("upscale", "in.png", "out.png", *options, "--quality", 90, says=["encode_quality", "fast, balanced, best"])
