"""SRDiff's networks at the command line: published files as they are, pictures of any size by windows, YODA on top, and what is refused."""
import json
import math
import re

from harness import busy_picture, case, check, floats, read_bytes, read_png_header, read_safetensors, relative_difference, shared, write_safetensors, yoda, yoda_fails

SMALL = {"name": "small", "network": {"type": "srdiff", "inner_channel": 16, "channel_multiplier": [1, 2, 2], "up_scale": 4, "rrdb_blocks": 2,
                                      "rrdb_features": 8},
         "schedule": {"train_steps": 6}, "window": 32, "overlap": 8}
# As that code keeps its settings: flat, the training's among them. The encoder's size is wrong in its published configs too.
FLAT = {"sr_scale": 4, "unet_dim_mults": "1|2|2", "hidden_size": 16, "rrdb_num_block": 8, "rrdb_num_feat": 32, "timesteps": 6, "beta_schedule": "cosine",
        "beta_s": 0.008, "res": True, "res_rescale": 2.0, "clip_input": True, "lr": 0.0002, "patch_size": 160}


def small_model(**changes):
    """A random network, as ours.safetensors and under the public names alone in bare.safetensors."""
    with open("small.json", "w") as f:
        json.dump({**SMALL, **changes}, f)
    yoda("init", "small.json", "-o", "ours.safetensors", "--random", "--seed", 3)
    tensors, _ = read_safetensors("ours.safetensors")
    write_safetensors("bare.safetensors", {"state_dict.model." + k: v for k, v in tensors.items()}, {})


@case
def srdiff_published_files_agree_as_they_are():
    for name in ["srdiff_x4_tiny", "srdiff_x8_tiny"]:
        io = shared(f"fixtures/{name}/io.safetensors")
        for weights in ["model_ckpt_steps_7.ckpt", "weights.safetensors"]:
            model = shared(f"fixtures/{name}/{weights}")
            yoda("forward", model, "--in", io, "--out", "eps.safetensors", "--winograd", "off")
            yoda("forward", model, "--in", io, "--out", "sample.safetensors", "--winograd", "off", "--trace")
            for tensor in ["eps", "sample"]:
                ours, reference = (floats(read_safetensors(p)[0][tensor]) for p in (f"{tensor}.safetensors", io))
                d = relative_difference(ours, reference)
                check(d <= 2e-5 and math.isfinite(ours[0]), f"{name}/{weights}: {tensor} is off by {d:.2e}")


@case
def srdiff_a_picture_of_any_size():
    for width, height, window in [(21, 17, 32), (16, 16, 128), (40, 16, 128)]:  # windows over the picture, and beyond its borders
        small_model(window=window)
        busy_picture("in.png", width, height)
        run = yoda("upscale", "in.png", "out.png", "--model", "ours.safetensors", "--dtype", "f32", "--seed", 5)
        check(f"{4 * width} x {4 * height}, small, 6 steps, 100.0%" in run.stdout, run.stdout)
        check(read_png_header("out.png")[:2] == (4 * width, 4 * height), "the file's size")
        yoda("upscale", "in.png", "again.png", "--model", "ours.safetensors", "--dtype", "f32", "--seed", 5, "--threads", 1)
        check(read_bytes("out.png") == read_bytes("again.png"), "other bytes on one thread")
    yoda("upscale", "in.png", "wide.png", "--model", "ours.safetensors", "--width", 100)
    check(read_png_header("wide.png")[0] == 100, "another size than the network's")


@case
def srdiff_yoda_on_top_leaves_pixels_out():
    small_model()
    busy_picture("in.png", 24, 16)
    options = ["--model", "ours.safetensors", "--attention", "edge", "--lower-bound", 0.2]
    text = yoda("upscale", "in.png", "out.png", *options).stdout
    check(10 < float(re.search(r"([0-9.]+)% of the pixel-steps", text)[1]) < 95, text)
    run, of = map(int, re.search(r"(\d+) of (\d+) window-steps", text).groups())
    check(run < of, text)
    yoda("upscale", "in.png", "all.png", *options, "--no-skip")
    check(read_bytes("out.png") == read_bytes("all.png"), "other bytes without skipping")
    yoda("convert", "ours.safetensors", "rest.safetensors", "--set", "mask_input=false")
    yoda("upscale", "in.png", "rest.png", "--model", "rest.safetensors", *options[2:])
    check(read_bytes("rest.png") != read_bytes("out.png"), "the network is shown what rests")


@case
def srdiff_a_bare_file_is_the_same_network():
    small_model(window=160, overlap=24)
    busy_picture("in.png", 20, 20)
    yoda("upscale", "in.png", "ours.png", "--model", "ours.safetensors", "--steps", 6, "--dtype", "f32")
    with open("flat.json", "w") as f:
        json.dump(FLAT, f)
    run = yoda("upscale", "in.png", "bare.png", "--model", "bare.safetensors", "--config", "flat.json", "--dtype", "f32")
    check(run.stderr == "" and read_bytes("bare.png") == read_bytes("ours.png"), run.stderr or "other bytes")
    run = yoda("upscale", "in.png", "bare.png", "--model", "bare.safetensors", "--steps", 6, "--dtype", "f32")
    check("100 cosine noise steps" in run.stderr and "res_rescale 2" in run.stderr, run.stderr)  # the file has no buffers
    text = yoda("inspect", "bare.safetensors", "--no-run").stdout
    for words in ["srdiff UNet: 3 -> 3 channels, width 16, levels x1,2,2", "RRDB of 2 blocks, width 8", "residual", "4x", "balanced     100 steps"]:
        check(words in text, f"{words} is not in {text}")


@case
def srdiff_the_config_of_another_network_is_refused():
    small_model()
    for change, words in [({"sr_scale": 8}, ["sr_scale", "4"]), ({"hidden_size": 64}, ["hidden_size", "16"]), ({"unet_dim_mults": "1|2|4"}, ["unet_dim_mults", "2"]),
                          ({"res": False}, ["res", "true"]), ({"use_wn": True}, ["use_wn", "false"])]:
        with open("other.json", "w") as f:
            json.dump({**FLAT, **change}, f)
        yoda_fails("inspect", "bare.safetensors", "--no-run", "--config", "other.json", says=["bare.safetensors", *words])


@case
def srdiff_windows_that_do_not_fit_are_refused():
    small_model()
    busy_picture("in.png", 16, 16)
    yoda("upscale", "in.png", "out.png", "--model", "ours.safetensors", "--window", 24, "--overlap", 4)
    yoda_fails("upscale", "in.png", "out.png", "--model", "ours.safetensors", "--window", 30, says=["window", "multiple of 4"])


@case
def srdiff_steps_beyond_the_training_are_refused():
    small_model()
    busy_picture("in.png", 16, 16)
    yoda_fails("upscale", "in.png", "out.png", "--model", "ours.safetensors", "--steps", 7, says=["steps", "6"])
    check("3 steps" in yoda("upscale", "in.png", "out.png", "--model", "ours.safetensors", "--steps", 3).stdout, "fewer steps")
