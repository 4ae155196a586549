"""yoda eval: figures held against definitions computed here, both ways of giving results, rows, reports, curves, what is refused."""
import csv
import json
import math
import os
import random
import re
import struct
import xml.etree.ElementTree

from harness import (busy_picture, case, check, png_chunk, read_png, read_png_header, shared, tiny_model, write_png, write_safetensors, yoda,
                     yoda_fails)

FIGURES = ["psnr", "ssim", "lr_psnr", "bicubic_psnr", "bicubic_ssim", "psnr_y", "ssim_y", "psnr_mean_normalised",
           "ssim_mean_normalised", "invented", "invented_share", "contradicted_share"]
WORK = ["diffused_share", "seconds", "window_steps", "window_steps_all", "work"]
TINY = ["--model", "tiny.safetensors", "--threads", 1, "-q"]
LPIPS = "data/weights/lpips_squeeze_v0.1.safetensors"


def originals(folder="hr", sizes=((96, 80), (128, 96))):
    os.makedirs(folder, exist_ok=True)
    for i, (width, height) in enumerate(sizes):
        busy_picture(f"{folder}/picture-{i}.png", width, height)
    return folder


def evaluate(*arguments, status=0):
    """The JSON of a run."""
    yoda("eval", *arguments, "--json", "out.json", status=status)
    with open("out.json") as f:
        return json.load(f)


def psnr(a, b):
    mse = sum((x - y) ** 2 for x, y in zip(a, b)) / len(a)
    return 10 * math.log10(255 ** 2 / mse) if mse else 100.0


@case
def eval_has_every_figure_per_picture_and_as_a_mean():
    tiny_model()
    out = evaluate("--hr", originals(), "--steps", 3, *TINY)
    check(out["scale"] == 4 and out["degrade"] == "pillow" and out["count"] == 2 and out["model"] == "tiny" and not out["skipped"], str(out))
    check([p["name"] for p in out["pictures"]] == ["picture-0.png", "picture-1.png"], str(out["pictures"]))
    for key in FIGURES + WORK:
        values = [p[key] for p in out["pictures"]]
        check(all(isinstance(v, (int, float)) and v >= 0 for v in values), f"{key}: {values}")
        check(abs(out["mean"][key] - sum(values) / 2) <= 1e-6 * abs(out["mean"][key]), f"mean of {key}: {out['mean'][key]} of {values}")
    check("lpips" not in out["mean"] and "lpips" not in out["pictures"][0], "LPIPS without weights")
    for p in out["pictures"] + [out["mean"]]:
        shares = p["diffused_share_per_step"]
        check(len(shares) == 3 and shares == sorted(shares) and shares[-1] == 1, f"late steps have more pixels: {shares}")
        check(abs(sum(shares) / 3 - p["diffused_share"]) < 1e-4, f"{shares} and {p['diffused_share']}")
    check(out["settings"]["steps"] == 3 and out["method"] == "yoda", str(out["settings"]))


@case
def eval_agrees_with_psnr_of_the_pixels():
    tiny_model()
    os.mkdir("sr")
    os.mkdir("lr")
    originals()
    made = evaluate("--hr", "hr", *TINY)
    for i in range(2):
        small = f"lr/picture-{i}.png"
        shrink(f"hr/picture-{i}.png", small)
        yoda("upscale", small, f"sr/picture-{i}.png", *TINY)
    given = evaluate("--hr", "hr", "--sr", "sr", "-q")
    check(given["method"] == "given" and "model" not in given, str(given))
    for a, b in zip(made["pictures"] + [made["mean"]], given["pictures"] + [given["mean"]]):
        for key in FIGURES:
            check(a[key] == b[key], f"{key}: {a[key]} when made, {b[key]} when given")
        check(not any(key in b for key in WORK), f"work of finished results: {b}")
    for i, p in enumerate(given["pictures"]):
        own = psnr(read_png(f"sr/picture-{i}.png"), read_png(f"hr/picture-{i}.png"))
        check(abs(own - p["psnr"]) < 1e-6, f"{own}, not {p['psnr']}")


def shrink(source, target):
    """A quarter of the size."""
    width, height, _ = read_png_header(source)
    small = resize(read_png(source), width, height, width // 4, height // 4)
    write_png(target, width // 4, height // 4, lambda x, y: small[(y * (width // 4) + x) * 3:][:3])


def resize(pixels, width, height, new_width, new_height):
    """Pillow's bicubic: 8 bits between the passes, weights in 22-bit fixed point."""
    rows = [resample([pixels[(y * width + x) * 3:][:3] for x in range(width)], new_width) for y in range(height)]
    columns = [resample([row[x] for row in rows], new_height) for x in range(new_width)]
    return bytes(columns[x][y][c] for y in range(new_height) for x in range(new_width) for c in range(3))


def cubic(x, a=-0.5):
    x = abs(x)
    return (a + 2) * x ** 3 - (a + 3) * x ** 2 + 1 if x < 1 else a * (x ** 3 - 5 * x ** 2 + 8 * x - 4) if x < 2 else 0.0


def resample(line, n):
    out, scale = [], len(line) / n
    stretch = max(scale, 1)
    for i in range(n):
        center = (i + 0.5) * scale
        low, high = max(0, int(center - 2 * stretch + 0.5)), min(len(line), int(center + 2 * stretch + 0.5))
        weights = [cubic((k - center + 0.5) / stretch) for k in range(low, high)]
        total = sum(weights)
        fixed = [int(w / total * 2 ** 22 + (0.5 if w >= 0 else -0.5)) for w in weights]
        out.append(tuple(max(0, min(255, (sum(w * line[low + k][c] for k, w in enumerate(fixed)) + 2 ** 21) >> 22)) for c in range(3)))
    return out


@case
def eval_of_the_originals_themselves_is_perfect():
    originals()
    out = evaluate("--hr", "hr", "--sr", "hr", "-q")
    for p in out["pictures"]:
        check(p["psnr"] == p["psnr_y"] == p["psnr_mean_normalised"] == 100, f"PSNR of the same pixels: {p}")
        check(abs(p["ssim"] - 1) < 1e-9 and p["lr_psnr"] == 100 and p["bicubic_psnr"] < 60, str(p))


@case
def eval_of_bicubic_needs_no_model():
    originals()
    out = evaluate("--hr", "hr", "--method", "bicubic", "-q", "--crop", 4, "--space", "y")
    for p in out["pictures"]:
        check(p["psnr"] == p["bicubic_psnr"] == p["psnr_y"] and p["ssim"] == p["bicubic_ssim"], str(p))
        check(p["invented"] == 0 and "seconds" not in p, str(p))
    plain = evaluate("--hr", "hr", "--method", "bicubic", "-q")
    check(plain["mean"]["psnr"] != out["mean"]["psnr"], "crop and space change nothing")
    text = yoda("eval", "--hr", "hr", "--method", "bicubic", "-q").stdout
    check("LPIPS is left out" in text and max(map(len, text.splitlines())) <= 100, text)


@case
def eval_degrades_in_four_ways():
    originals()
    got = {}
    for name in ("pillow", "matlab", "mild", "blind"):
        got[name] = evaluate("--hr", "hr", "--method", "bicubic", "--degrade", name, "--degrade-seed", 3, "-q")
    check(len({g["mean"]["psnr"] for g in got.values()}) >= 3, str({k: g["mean"]["psnr"] for k, g in got.items()}))
    check(all("degradation" in p for p in got["blind"]["pictures"]) and "degradation" not in got["pillow"]["pictures"][0], str(got["blind"]))
    check(got["blind"]["mean"]["psnr"] < got["pillow"]["mean"]["psnr"], "damage does not lower PSNR")
    os.mkdir("one")
    os.link("hr/picture-1.png", "one/picture-1.png")
    alone = evaluate("--hr", "one", "--method", "bicubic", "--degrade", "blind", "--degrade-seed", 3, "-q")
    check(alone["pictures"][0] == got["blind"]["pictures"][1], "the degradation depends on the other pictures")


@case
def eval_makes_a_row_of_every_setting():
    tiny_model()
    originals()
    out = evaluate("--hr", "hr", "--setting", "plain: attention=constant", "--setting", "edges: attention=edge lower-bound=0.2",
                   "--setting", "none: method=bicubic", "--sweep", "steps=2,4", "--csv", "out.csv", "--curves", "out.svg", "--sheet", "out.png",
                   *TINY, status=0)
    names = [f"{g} steps={s}" for g in ("plain", "edges", "none") for s in (2, 4)]
    check([r["name"] for r in out["rows"]] == names, str([r["name"] for r in out["rows"]]))
    for row in out["rows"][:4]:
        steps = row["settings"]["steps"]
        full = row["mean"]["window_steps_all"]
        check(len(row["mean"]["diffused_share_per_step"]) == steps, str(row["mean"]))
        if row["name"].startswith("plain"):
            check(row["mean"]["window_steps"] == full and row["mean"]["diffused_share"] == 1, str(row["mean"]))
        else:
            check(row["settings"]["lower_bound"] == 0.2 and row["mean"]["diffused_share"] < 1, str(row["mean"]))
    check(out["rows"][4]["mean"]["psnr"] == out["rows"][4]["mean"]["bicubic_psnr"], "the bicubic row")
    with open("out.csv", newline="") as f:
        lines = list(csv.DictReader(f))
    check(len(lines) == 6 * 3 and list(lines[0])[:5] == ["setting", "picture", "width", "height", "psnr"], str(lines[0]))
    check([ln["setting"] for ln in lines if ln["picture"] == "mean"] == names, "means of the rows")
    check(float(lines[2]["psnr"]) == out["rows"][0]["mean"]["psnr"] and lines[0]["lpips"] == "", str(lines[2]))
    width, height, colour = read_png_header("out.png")
    check(colour == 2 and width == 5 * 200 + 8 and height % 12 == 0, f"sheet of {width} x {height}")
    document = xml.etree.ElementTree.parse("out.svg").getroot()
    points = [c for c in document.iter("{http://www.w3.org/2000/svg}circle") if c.get("class") == "point"]
    check(len(points) == 6 + 2 * (2 + 4), f"{len(points)} points: PSNR of six rows, shares of four")


@case
def a_setting_may_have_lists_of_its_own():
    tiny_model()
    out = evaluate("--hr", originals(sizes=((96, 80),)), "--setting", "plain: attention=constant steps=1,3", "--setting",
                   "edges: attention=edge steps=2 lower_bound=0.2,0.5", "--sweep", "eta=0,1", "--curves", "out.svg", *TINY)
    names = [f"plain eta={e} steps={s}" for e in (0, 1) for s in (1, 3)] + [f"edges eta={e} lower_bound={b}" for e in (0, 1) for b in (0.2, 0.5)]
    check([r["name"] for r in out["rows"]] == names, str([r["name"] for r in out["rows"]]))
    check([r["settings"]["steps"] for r in out["rows"]] == [1, 3, 1, 3, 2, 2, 2, 2], str(out["rows"]))
    check([r["settings"]["lower_bound"] for r in out["rows"][4:]] == [0.2, 0.5] * 2, str(out["rows"]))


@case
def eval_curves_are_png_too():
    tiny_model()
    text = yoda("eval", "--hr", originals(), "--sweep", "steps=1,2,3 eta=0,1", "--curves", "out.png", *TINY).stdout
    rows = [line for line in text.splitlines() if line.startswith("steps=")]
    check(len(rows) == 6 and rows[1].startswith("steps=1 eta=1 ") and max(map(len, text.splitlines())) <= 100, text)
    width, height, colour = read_png_header("out.png")
    check(colour == 2 and width == 1800 and height > 500, f"{width} x {height}")
    pixels = read_png("out.png")
    check(len(set(zip(pixels[0::3], pixels[1::3], pixels[2::3]))) > 20, "hardly anything is drawn")


@case
def eval_cuts_sizes_that_are_no_multiple_and_says_so():
    os.mkdir("hr")
    busy_picture("hr/odd.png", 99, 82)
    r = yoda("eval", "--hr", "hr", "--method", "bicubic", "--json", "out.json")
    check("odd.png: 99 x 82" in r.stderr and "96 x 80" in r.stderr, r.stderr)
    with open("out.json") as f:
        p = json.load(f)["pictures"][0]
    check((p["width"], p["height"]) == (96, 80), str(p))
    same = evaluate("--hr", "hr", "--sr", "hr", "-q")["pictures"][0]
    check(same["psnr"] == 100, "the result is not cut as the original is")


@case
def eval_names_and_skips_what_it_cannot_use():
    originals()
    originals("sr")
    with open("hr/broken.png", "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", b"\0" * 13))
    with open("hr/notes.txt", "w") as f:
        f.write("not a picture\n")
    r = yoda("eval", "--hr", "hr", "--method", "bicubic", "-q", "--json", "out.json", status=1)
    check("skipped broken.png" in r.stderr and "notes" not in r.stderr, r.stderr)
    with open("out.json") as f:
        out = json.load(f)
    check(out["count"] == 2 and out["skipped"] == ["broken.png"] and len(out["pictures"]) == 2, str(out))
    os.unlink("hr/broken.png")
    busy_picture("sr/picture-0.png", 64, 80)
    r = yoda("eval", "--hr", "hr", "--sr", "sr", "-q", status=1)
    check("picture-0.png" in r.stderr and "96 x 80" in r.stderr and "64 x 80" in r.stderr, r.stderr)
    os.unlink("sr/picture-0.png")
    r = yoda("eval", "--hr", "hr", "--sr", "sr", "-q", status=1)
    check("picture-0.png" in r.stderr and "no picture of this name in sr" in r.stderr, r.stderr)


@case
def eval_refuses_what_has_no_meaning():
    tiny_model()
    originals()
    os.mkdir("empty")
    base = ["--hr", "hr", "-q"]
    yoda_fails("eval", "--hr", "empty", says=["no picture", "empty"])
    yoda_fails("eval", "--hr", "absent", says=["cannot read the folder absent"])
    for arguments, words in [
        (["--degrade", "fog"], ["fog", "pillow, matlab, mild, blind"]),
        (["--method", "lanczos", *TINY], ["method", "lanczos", "yoda, bicubic"]),
        (["--space", "lab"], ["lab", "rgb, y"]),
        (["--bins", "0.1"], ["bins", "--lpips"]),
        (["--frechet"], ["frechet", "--lpips"]),
        (["--fid", "tiny.safetensors"], ["tiny.safetensors", "Conv2d_1a_3x3.conv.weight", "missing", "[32, 3, 3, 3]"]),
        (["--fid", "absent.safetensors"], ["absent.safetensors"]),
        (["--lpips", "tiny.safetensors"], ["tiny.safetensors"]),
        (["--setting", "a: stepz=4", *TINY], ["stepz"]),
        (["--setting", "a: steps=many", *TINY], ["steps", "many"]),
        (["--setting", ": steps=4", *TINY], ["setting", "no name"]),
        (["--sweep", "steps=2,,4", *TINY], ["sweep", "empty value"]),
        (["--setting", "a: steps=2,,4", *TINY], ["sweep", "empty value"]),
        (["--sweep", "steps", *TINY], ["sweep", "KEY=VALUE"]),
        (["--sweep", "steps=" + ",".join(["1"] * 65), *TINY], ["64"]),
        (["--method", "bicubic", "--setting", "a: method=yoda steps=2"], ["needs a model"]),
        (["--sr", "hr", "--sweep", "steps=2"], ["--sr"]),
        (["--scale", "3", *TINY], ["4x, not 3x"]),
        (["--curves", "out.gif"], ["out.gif", ".svg, .png"]),
        (["--sheet", "out.xyz"], ["extension"]),
        (["--attention", "egde", *TINY], ["attention", "edge"]),
    ]:
        yoda_fails("eval", *base, *arguments, says=words)
    check("--hr DIR is missing" in yoda("eval", status=2).stderr, "no folder is no mistake")


@case
def eval_knows_lpips_bins_and_frechet_distance():
    weights = shared(LPIPS)
    tiny_model()
    originals()
    out = evaluate("--hr", "hr", "--lpips", weights, "--bins", "0.25", "--frechet", "--curves", "out.svg", *TINY)
    for p in out["pictures"] + [out["mean"]]:
        check(0 < p["lpips"] < 2 and 0 < p["bicubic_lpips"] < 2 and p["lpips"] != p["bicubic_lpips"], str(p))
    check(out["lpips_trunk"] == "squeeze" and out["mean"]["fd_squeeze"] > 0 and out["mean"]["bicubic_fd_squeeze"] > 0, str(out["mean"]))
    bins = out["lpips_per_attention"]
    check(bins and sum(b["pixels"] for b in bins) == 96 * 80 + 128 * 96, str(bins))
    check(all(b["lpips"] > 0 and abs(b["to"] - b["from"] - 0.25) < 1e-9 for b in bins), str(bins))
    points = len(re.findall('class="point"', open("out.svg").read()))
    check(points == 1 + 1 + 3 + 2 * len(bins), f"{points} points, {len(bins)} bins")
    same = evaluate("--hr", "hr", "--sr", "hr", "--lpips", weights, "--frechet", "-q")
    check(same["mean"]["lpips"] == 0 and same["mean"]["fd_squeeze"] < 1e-6, str(same["mean"]))


# Units of FID's network by block: name, channels read, channels made, kernel down and across. P is the block's own number.
STEM = [("Conv2d_1a_3x3", 3, 32, 3, 3), ("Conv2d_2a_3x3", 32, 32, 3, 3), ("Conv2d_2b_3x3", 32, 64, 3, 3), ("Conv2d_3b_1x1", 64, 80, 1, 1),
        ("Conv2d_4a_3x3", 80, 192, 3, 3)]


def inception_units():
    def block(name, *units):
        return [(f"{name}.branch{unit}", *shape) for unit, *shape in units]

    def a(name, c, pool):
        return block(name, ("1x1", c, 64, 1, 1), ("5x5_1", c, 48, 1, 1), ("5x5_2", 48, 64, 5, 5), ("3x3dbl_1", c, 64, 1, 1),
                     ("3x3dbl_2", 64, 96, 3, 3), ("3x3dbl_3", 96, 96, 3, 3), ("_pool", c, pool, 1, 1))

    def c(name, n):
        return block(name, ("1x1", 768, 192, 1, 1), ("7x7_1", 768, n, 1, 1), ("7x7_2", n, n, 1, 7), ("7x7_3", n, 192, 7, 1),
                     ("7x7dbl_1", 768, n, 1, 1), ("7x7dbl_2", n, n, 7, 1), ("7x7dbl_3", n, n, 1, 7), ("7x7dbl_4", n, n, 7, 1),
                     ("7x7dbl_5", n, 192, 1, 7), ("_pool", 768, 192, 1, 1))

    def e(name, c):
        return block(name, ("1x1", c, 320, 1, 1), ("3x3_1", c, 384, 1, 1), ("3x3_2a", 384, 384, 1, 3), ("3x3_2b", 384, 384, 3, 1),
                     ("3x3dbl_1", c, 448, 1, 1), ("3x3dbl_2", 448, 384, 3, 3), ("3x3dbl_3a", 384, 384, 1, 3),
                     ("3x3dbl_3b", 384, 384, 3, 1), ("_pool", c, 192, 1, 1))

    b = block("Mixed_6a", ("3x3", 288, 384, 3, 3), ("3x3dbl_1", 288, 64, 1, 1), ("3x3dbl_2", 64, 96, 3, 3), ("3x3dbl_3", 96, 96, 3, 3))
    d = block("Mixed_7a", ("3x3_1", 768, 192, 1, 1), ("3x3_2", 192, 320, 3, 3), ("7x7x3_1", 768, 192, 1, 1), ("7x7x3_2", 192, 192, 1, 7),
              ("7x7x3_3", 192, 192, 7, 1), ("7x7x3_4", 192, 192, 3, 3))
    return (STEM + a("Mixed_5b", 192, 32) + a("Mixed_5c", 256, 64) + a("Mixed_5d", 288, 64) + b + c("Mixed_6b", 128) + c("Mixed_6c", 160)
            + c("Mixed_6d", 160) + c("Mixed_6e", 192) + d + e("Mixed_7b", 1280) + e("Mixed_7c", 2048))


def inception_file(path):
    """FID's network with noise for weights, repeated after a number of values that is prime; convolutions in half precision."""
    noise, tensors = random.Random(5), {}
    pattern = [noise.uniform(-1, 1) for _ in range(1021)]
    for unit, c_in, c, down, across in inception_units():
        count, spread = c * c_in * down * across, math.sqrt(6 / (c_in * down * across))
        values = struct.pack("<1021e", *(spread * v for v in pattern))
        tensors[f"{unit}.conv.weight"] = ("F16", [c, c_in, down, across], (values * (count // 1021 + 1))[:2 * count])
        for part, value in (("weight", 1), ("bias", 0.1), ("running_mean", 0), ("running_var", 1)):
            tensors[f"{unit}.bn.{part}"] = ("F32", [c], struct.pack("<f", value) * c)
    write_safetensors(path, tensors, {})
    return path


@case
def eval_knows_fid_of_weights_that_are_given():
    weights = inception_file("fid.safetensors")
    originals()
    out = evaluate("--hr", "hr", "--method", "bicubic", "--fid", weights, "--csv", "out.csv", "-q")
    fid = out["mean"]["fid"]
    check(fid > 0 and out["mean"]["bicubic_fid"] == fid and "fid" not in out["pictures"][0], str(out["mean"]))
    with open("out.csv") as f:
        rows = list(csv.DictReader(f))
    check(rows[-1]["picture"] == "mean" and abs(float(rows[-1]["fid"]) - fid) < 1e-6 * fid and rows[0]["fid"] == "", str(rows))
    r = yoda("eval", "--hr", "hr", "--sr", "hr", "--fid", weights, "--json", "out.json", "-q")
    with open("out.json") as f:
        same = json.load(f)["mean"]
    check(0 <= same["fid"] < 1e-6 * fid and abs(same["bicubic_fid"] - fid) < 1e-6 * fid, f"{same}, and {fid}")
    check(f"fid {same['fid']:.4f} (bicubic {fid:.4f})" in r.stdout, r.stdout)
    r = yoda("eval", "--hr", "hr", "--method", "bicubic", "--fid", weights, "--setting", "a: method=bicubic", "--setting", "b: method=bicubic", "-q")
    check(" FID " in r.stdout and r.stdout.count(f" {fid:.3f} ") == 3, r.stdout)
    os.unlink("hr/picture-1.png")
    yoda_fails("eval", "--hr", "hr", "--method", "bicubic", "--fid", weights, "-q", says=["fid", "two pictures"])


@case
def eval_of_a_known_picture_is_what_the_definitions_say():
    folder = os.path.dirname(shared("data/test/set5/butterfly.png"))
    os.mkdir("hr")
    with open(f"{folder}/butterfly.png", "rb") as source, open("hr/butterfly.png", "wb") as copy:
        copy.write(source.read())
    picture, = evaluate("--hr", "hr", "--method", "bicubic", "-q")["pictures"]
    width, height, _ = read_png_header("hr/butterfly.png")
    check((picture["width"], picture["height"]) == (width, height) == (256, 256), str(picture))
    original = read_png("hr/butterfly.png")
    again = resize(resize(original, width, height, width // 4, height // 4), width // 4, height // 4, width, height)
    check(abs(picture["psnr"] - psnr(again, original)) < 1e-6, f"{picture['psnr']}, not {psnr(again, original)}")
