"""Attention networks in yoda attention, upscale, work and eval: names, files, raw maps, the same bytes by any number of threads."""
import os
import shutil

from harness import (YODA, busy_picture, case, check, floats, read_bytes, read_png, read_png_header, read_safetensors, shared, tiny_model, yoda,
                     yoda_fails)
from transformer import HEADS, NAME
from transformer import write as tiny_transformer


@case
def networks_make_maps_by_name_and_head():
    tiny_transformer("vit.safetensors")
    busy_picture("in.png", 40, 32)
    text = yoda("attention", "--list", "--attention-nets", "vit.safetensors").stdout
    check(f"{NAME}:max, :avg, :0 to :5  vit.safetensors" in text and "edge" in text, text)
    planes = {}
    for head in ("", ":max", ":avg", ":0", ":5"):
        yoda("attention", "in.png", "map.png", "--method", NAME + head, "--attention-nets", "vit.safetensors")
        check(read_png_header("map.png") == (160, 128, 0), read_png_header("map.png"))
        planes[head] = read_png("map.png")
    check(planes[""] == planes[":max"] and len(set(planes.values())) == 4, "heads are alike")
    check(all(a <= b for a, b in zip(planes[":avg"], planes[":max"])) and all(a <= b for a, b in zip(planes[":5"], planes[":max"])), "max is not it")
    yoda("attention", "in.png", "blocky.png", "--method", NAME, "--attention-nets", "vit.safetensors", "--attention-resize", "nearest",
         "--attention-short-side", 32, "--attention-norm", "max")
    rows = [read_png("blocky.png")[y * 160:(y + 1) * 160] for y in range(128)]  # 5 x 4 patches of 32 pixels
    check(len(set(rows)) == 4 and max(map(max, rows)) == 255, "not 4 rows of patches, or none is 1")


@case
def networks_raw_maps_are_before_normalisation():
    tiny_transformer("vit.safetensors")
    busy_picture("in.png", 40, 32)
    said = yoda("attention", "in.png", "--method", NAME, "--attention-nets", "vit.safetensors", "--raw", "raw.safetensors").stdout
    tensors, metadata = read_safetensors("raw.safetensors")
    check(set(tensors) == {"maps", "rgb"} and tensors["maps"][1] == [1, HEADS, 28, 35] and tensors["rgb"][1] == [1, 3, 224, 280], said)
    check(metadata["network"] == NAME and metadata["stride"] == "8" and metadata["norm"] == "minmax" and metadata["checksum"].startswith("sha256:"), metadata)
    maps, n = floats(tensors["maps"]), 28 * 35
    for head in range(HEADS):  # softmax over the patches and the class token
        total = sum(maps[head * n:(head + 1) * n])
        check(0 < total < 1, f"head {head} sums to {total}")
    check(min(floats(tensors["rgb"])) >= 0 and max(floats(tensors["rgb"])) <= 1, "rgb is not 0..1")
    yoda_fails("attention", "in.png", "--method", "edge", "--raw", "x.safetensors", says=["raw", "network"])
    check(yoda("attention", "in.png", status=2).stderr != "", "neither map nor raw maps were asked for")


@case
def networks_are_known_by_content_under_any_prefix_and_name():
    busy_picture("in.png", 40, 32)
    outputs = set()
    for path, prefix in (("a.safetensors", ""), ("b.pth", "module.backbone."), ("c.bin", "teacher.backbone.")):
        tiny_transformer(path, prefix)
        yoda("attention", "in.png", "map.png", "--method", "my-net:avg", "--attention-nets", f"my-net={path}")
        outputs.add(read_png("map.png"))
    check(len(outputs) == 1, "the prefix changes the map")


@case
def networks_that_are_not_there_are_told_from_those_that_are():
    tiny_transformer("vit.safetensors")
    busy_picture("in.png", 40, 32)
    nets = ("--attention-nets", "vit.safetensors")
    for method, words in (("dino-vits8:max", [NAME, ":avg"]), (NAME + ":6", ["head", "'6'"]), (NAME + ":", ["head"])):
        yoda_fails("attention", "in.png", "map.png", "--method", method, *nets, says=["attention", *words])
    yoda_fails("attention", "in.png", "map.png", "--method", "dino-vits8", says=["no attention network"])
    yoda_fails("attention", "in.png", "map.png", "--method", NAME, "--attention-nets", "in.png", says=["in.png"])
    yoda_fails("attention", "in.png", "map.png", "--method", NAME, "--attention-nets", "none.pth", says=["none.pth"])
    yoda_fails("attention", "in.png", "map.png", "--method", NAME, *nets, "--attention-norm", "softmax", says=["attention-norm", "minmax"])
    yoda_fails("attention", "in.png", "map.png", "--method", NAME, *nets, "--attention-resize", "up", says=["attention-resize", "bilinear"])
    yoda_fails("attention", "in.png", "map.png", "--method", NAME, *nets, "--attention-long-side", 100, says=["long"])
    os.remove("config.json")
    yoda_fails("attention", "in.png", "map.png", "--method", NAME, *nets, says=["heads", "config.json"])


@case
def networks_decide_masks_in_upscale_work_and_eval():
    tiny_model()
    tiny_transformer(os.path.join(os.getcwd(), "vit.safetensors"))
    busy_picture("in.png", 40, 32)
    nets = ("--attention-nets", "vit.safetensors", "--model", "tiny.safetensors")
    results = set()
    for threads in (1, 2):
        yoda("upscale", "in.png", "out.png", "--attention", NAME + ":max", "--lower-bound", 0.1, "--threads", threads, "--dtype", "f32", *nets)
        results.add(read_bytes("out.png"))
    yoda("upscale", "in.png", "edge.png", "--attention", "edge", "--lower-bound", 0.1, "--dtype", "f32", *nets)
    check(len(results) == 1 and read_bytes("edge.png") not in results, "threads change bytes, or the map none")
    yoda_fails("upscale", "in.png", "out.png", "--attention", "dino-vits8:max", *nets, says=["attention", NAME])
    lines = yoda("work", "in.png", "--maps", f"{NAME}:avg,edge", "--bounds", "0", "--windows", "32", "--csv", *nets).stdout
    check(f"{NAME}:avg," in lines and "edge," in lines, lines)
    os.mkdir("hr")
    busy_picture("hr/a.png", 64, 64)
    yoda("eval", "--hr", "hr", "--setting", f"net: attention={NAME}:0 lower_bound=0.2", "--bins-map", NAME, "--json", "out.json", *nets)
    check(NAME + ":0" in read_bytes("out.json").decode(), "the row does not say its map")


@case
def networks_files_of_dino_are_read_as_they_are_published():
    busy_picture("in.png", 40, 32)
    for folder, torch, name in (("dino_tiny", "dino_tiny8_pretrain.pth", "dino-vit48x3-8"),
                                ("dino_tiny_full_checkpoint", "dino_tiny_full_checkpoint.pth", "dino-vit36x2-8")):
        raw = []
        for file in (torch, "weights.safetensors"):
            path = shared(f"fixtures/{folder}/{file}")
            yoda("attention", "in.png", "--method", name, "--attention-nets", path, "--raw", "raw.safetensors")
            raw.append(read_safetensors("raw.safetensors")[0]["maps"])
        check(raw[0] == raw[1], f"{folder}: the containers differ")


@case
def a_network_is_not_taken_for_a_model():
    os.mkdir("build")
    os.mkdir("models")
    shutil.copy(YODA, "build/yoda")
    tiny_transformer("models/a.safetensors")
    tiny_model("models/b.safetensors")
    busy_picture("in.png", 40, 32)
    text = yoda("upscale", "in.png", "out.png", "--attention", NAME, program="build/yoda").stdout
    check("tiny" in text, text)
