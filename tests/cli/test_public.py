"""Checkpoints of the public SR3 code at the command line: without a config, with one, by windows, and what is refused."""
import json
import math
import re

from harness import busy_picture, case, check, floats, read_bytes, read_safetensors, relative_difference, shared, write_safetensors, yoda, yoda_fails

# As that code writes it, comments and all.
CONFIG = """{
    "name": "small_8_32", // of the experiment
    "model": {
        "which_model_G": "sr3", // sr3 | ddpm
        "unet": {"in_channel": 6, "out_channel": 3, "inner_channel": 16, "norm_groups": 8, "channel_multiplier": [1, 2],
                 "attn_res": [], "res_blocks": 1, "dropout": 0.2},
        "beta_schedule": {"val": {"schedule": "linear", "n_timestep": %d, "linear_start": 1e-4, "linear_end": %g}},
        "diffusion": {"image_size": 32, "channels": 3, "conditional": true} // unconditional otherwise
    },
    "datasets": {"val": {"l_resolution": 8, "r_resolution": 32}}
}"""


def bare_model(steps=6, end=0.5, prefix="denoise_fn."):
    """A random network under the public names in bare.safetensors, its config in public.json."""
    with open("public.json", "w") as f:
        f.write(CONFIG % (steps, end))
    yoda("init", "public.json", "-o", "ours.safetensors", "--random", "--seed", 3)
    tensors, _ = read_safetensors("ours.safetensors")
    write_safetensors("bare.safetensors", {prefix + k: v for k, v in tensors.items()}, {})


@case
def a_picture_of_any_size_with_a_config_as_it_is():
    bare_model()
    busy_picture("in.png", 21, 17)
    for prefix in ["denoise_fn.", "", "module.denoise_fn."]:
        bare_model(prefix=prefix)
        run = yoda("upscale", "in.png", "out.png", "--model", "bare.safetensors", "--config", "public.json", "--dtype", "f32")
        check("84 x 68" in run.stdout and "small_8_32, 6 steps, 100.0%" in run.stdout, run.stdout)
        windows = int(re.search(r"(\d+) of \1 window-steps", run.stdout)[1]) / 6
        check(windows > 4, f"{windows} windows")
        check("assumed" not in run.stderr, run.stderr)
        yoda("upscale", "in.png", "ours.png", "--model", "ours.safetensors", "--dtype", "f32")
        check(read_bytes("out.png") == read_bytes("ours.png"), f"{prefix}: not the network of the same weights")


@case
def yoda_on_top_leaves_pixels_out():
    bare_model()
    busy_picture("in.png", 16, 16)
    text = yoda("upscale", "in.png", "out.png", "--model", "bare.safetensors", "--config", "public.json", "--attention", "edge").stdout
    share = float(re.search(r"([0-9.]+)% of the pixel-steps", text)[1])
    check(30 < share < 95, text)


@case
def what_no_config_says_is_a_warning():
    bare_model()
    run = yoda("inspect", "bare.safetensors", "--no-run")
    for word in ["norm_groups 16", "scale 8", "windows of 128", "2000 linear noise steps from 1e-06 to 0.01"]:
        check(word in run.stderr and word in run.stdout, f"{word} is not in {run.stderr} or {run.stdout}")
    check("warning" in run.stderr and "balanced     2000 steps, ancestral, constant" in run.stdout, run.stdout)
    quiet = yoda("inspect", "bare.safetensors", "--no-run", "--config", "public.json")
    check(quiet.stderr == "" and "assumed" not in quiet.stdout, quiet.stderr)


@case
def the_config_of_another_network_is_refused():
    bare_model()
    for old, new, words in [('"inner_channel": 16', '"inner_channel": 32', ["inner_channel", "16"]), ('"in_channel": 6', '"in_channel": 3', ["takes none"]),
                            ('"linear"', '"jsd"', ["schedule", "linear"])]:
        with open("other.json", "w") as f:
            f.write((CONFIG % (6, 0.5)).replace(old, new))
        yoda_fails("inspect", "bare.safetensors", "--no-run", "--config", "other.json", says=["bare.safetensors", *words])
    yoda_fails("inspect", "bare.safetensors", "--no-run", "--config", "absent.json", says=["absent.json"])


@case
def four_thousand_steps_can_be_asked_for():
    bare_model(4000, 5e-3)
    busy_picture("in.png", 16, 16)
    options = ["--model", "bare.safetensors", "--config", "public.json", "--window", 16, "--overlap", 0]
    check("4000 steps" in yoda("inspect", "bare.safetensors", "--no-run", "--config", "public.json").stdout, "not all of its steps")
    yoda_fails("upscale", "in.png", "out.png", *options, "--steps", 4001, says=["steps", "4000"])


@case
def fixtures_agree_without_their_configs():
    """All but norm_groups comes from the tensors: the schedule from its buffers, so a whole trace agrees."""
    folder = "fixtures/sr3_tiny"
    io = shared(f"{folder}/io.safetensors")
    config = json.loads(read_bytes(shared(f"{folder}/config.json")))
    tensors, _ = read_safetensors(shared(f"{folder}/weights.safetensors"))
    write_safetensors("alone.safetensors", tensors, {})
    config["model"] = {k: config["model"][k] for k in ("which_model_G", "unet")}
    del config["model"]["unet"]["attn_res"]  # the tensors say it
    with open("groups.json", "w") as f:
        json.dump(config, f)
    yoda("forward", "alone.safetensors", "--config", "groups.json", "--in", io, "--out", "out.safetensors", "--trace")
    ours, reference = (floats(read_safetensors(p)[0]["sample"]) for p in ("out.safetensors", io))
    check(relative_difference(ours, reference) <= 2e-4 and math.isfinite(ours[0]), f"{relative_difference(ours, reference):.2e}")
