#!/usr/bin/env python3
"""Quality against work: does a mask pay, or do fewer steps? And in windows of what size?

    tests/bench/frontier.py measure MODEL OUT.csv [--pictures six|all|NAME,NAME...]    one line per setting; goes on with a file it finds
    tests/bench/frontier.py plot IN.csv OUT.png                                        LPIPS and PSNR against work

Work is what the network is made to do: pixels that go through it in all steps / pixels of the picture. A pixel costs nearly the same in all
windows from 48 pixels on (bench_windows), so work is time without the noise of a clock. Wants what quality.py wants.
"""
import csv
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.dont_write_bytecode = True
from quality import SCALE, SHARED, Lpips, names_of, psnr  # noqa: E402

FIELDS = ["window", "overlap", "attention", "bound", "steps", "work", "share", "psnr", "lpips"]


def settings():
    """(window, overlap, attention, lower bound, steps), the comparisons that matter most first."""
    for window, overlap in [(64, 8), (128, 16)]:
        for steps in (4, 2, 3, 6, 8):
            yield window, overlap, "constant", 0.4, steps
        for bound in (0.4, 0.2, 0.6):
            for steps in (4, 6, 8, 12):
                yield window, overlap, "edge", bound, steps
    for window, overlap in [(32, 4), (48, 6), (96, 12), (256, 32), (32, 8), (48, 12), (64, 4), (64, 16), (64, 0), (96, 8), (128, 8), (128, 0)]:
        yield window, overlap, "constant", 0.4, 4
    for steps in (12, 16):
        for window, overlap in [(64, 8), (128, 16)]:
            yield window, overlap, "constant", 0.4, steps
    for steps in (4, 8):
        yield 64, 8, "gaussian", 0.4, steps


def degrade(names):
    pictures = []
    for name in names:
        original = Image.open(f"{SHARED}/data/test/{name}.png").convert("RGB")
        w, h = original.size[0] // SCALE * SCALE, original.size[1] // SCALE * SCALE
        original = original.crop((0, 0, w, h))
        pictures.append((original, original.resize((w // SCALE, h // SCALE), Image.BICUBIC)))
    return pictures


def evaluate(model, pictures, lpips, setting):
    """Means over the pictures: work, share of diffused pixel-steps, PSNR, LPIPS."""
    window, overlap, attention, bound, steps = setting
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        small, large = os.path.join(folder, "small.png"), os.path.join(folder, "large.png")
        for original, low in pictures:
            low.save(small)
            said = subprocess.run(["build/yoda", "upscale", small, large, "--model", model, "--window", str(window), "--overlap", str(overlap),
                                   "--attention", attention, "--mask-form", "add", "--lower-bound", str(bound), "--steps", str(steps),
                                   "--eta", "0"], check=True, capture_output=True, text=True).stdout
            share, units = re.search(r"([\d.]+)% of the pixel-steps diffused, (\d+) of", said).groups()
            result = Image.open(large).convert("RGB")
            rows.append((int(units) * window ** 2 / (original.size[0] * original.size[1]), float(share) / 100, psnr(result, original),
                         lpips(result, original)))
    return np.mean(rows, 0)


def measure(model, out, pictures):
    pictures = degrade(names_of(pictures))
    lpips = Lpips(f"{SHARED}/data/weights/lpips_squeeze_v0.1.safetensors")
    done = {tuple(r[f] for f in FIELDS[:5]) for r in read(out)} if os.path.exists(out) else set()
    with open(out, "a") as f:
        if not done:
            f.write(",".join(FIELDS) + "\n")
        for setting in settings():
            if tuple(map(str, setting)) in done:
                continue
            work, share, db, distance = evaluate(model, pictures, lpips, setting)
            f.write(",".join(map(str, setting)) + f",{work:.3f},{share:.3f},{db:.3f},{distance:.4f}\n")
            f.flush()


def read(path):
    with open(path) as f:
        return list(csv.DictReader(f))


# --- the plot: two panels drawn with Pillow alone

INK, GRID, PANEL_W, PANEL_H, LEFT, TOP, GAP = (60, 60, 60), (225, 225, 225), 400, 300, 60, 66, 80
SERIES = [  # label, colour, mark, which rows
    ("64 px windows, no mask", (0, 114, 178), "disc", ("64", "8", "constant", None)),
    ("64 px, edge, bound 0.6", (0, 158, 115), "square", ("64", "8", "edge", "0.6")),
    ("64 px, edge, bound 0.2", (86, 180, 233), "square", ("64", "8", "edge", "0.2")),
    ("128 px windows, no mask", (213, 94, 0), "disc", ("128", "16", "constant", None)),
    ("128 px, edge, bound 0.6", (204, 121, 167), "square", ("128", "16", "edge", "0.6")),
    ("128 px, edge, bound 0.2", (230, 159, 0), "square", ("128", "16", "edge", "0.2")),
]


def rows_of(rows, key):
    window, overlap, attention, bound = key
    found = [r for r in rows if (r["window"], r["overlap"], r["attention"]) == (window, overlap, attention) and bound in (None, r["bound"])]
    return sorted(found, key=lambda r: int(r["steps"]))


def ticks(low, high, step):
    first = int(np.ceil(low / step - 1e-9))
    return [k * step for k in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def panel(draw, font, rows, left, field, title, step, fmt):
    values = [float(r[field]) for _, _, _, key in SERIES for r in rows_of(rows, key)]
    widest = max(float(r["work"]) for _, _, _, key in SERIES for r in rows_of(rows, key))
    low, high = min(values), max(values)
    low, high = low - 0.06 * (high - low), high + 0.09 * (high - low)

    def place(row):
        return (left + PANEL_W * float(row["work"]) / (widest * 1.05), TOP + PANEL_H * (1 - (float(row[field]) - low) / (high - low)))
    for v in ticks(low, high, step):
        y = TOP + PANEL_H * (1 - (v - low) / (high - low))
        draw.line((left, y, left + PANEL_W, y), GRID)
        draw.text((left - 8, y), fmt % v, INK, font, anchor="rm")
    for v in ticks(0, widest * 1.05, 2):
        x = left + PANEL_W * v / (widest * 1.05)
        draw.line((x, TOP + PANEL_H, x, TOP + PANEL_H + 4), INK)
        draw.text((x, TOP + PANEL_H + 8), "%g" % v, INK, font, anchor="mt")
    draw.rectangle((left, TOP, left + PANEL_W, TOP + PANEL_H), outline=INK)
    draw.text((left, TOP - 8), title, INK, font, anchor="lb")
    draw.text((left + PANEL_W, TOP + PANEL_H + 26), "work: pixels through the network / picture's", INK, font, anchor="rt")
    for _, colour, mark, key in SERIES:
        points = [place(r) for r in rows_of(rows, key)]
        draw.line([c for p in points for c in p], colour, 2)
        for (x, y), row in zip(points, rows_of(rows, key)):
            box = (x - 4, y - 4, x + 4, y + 4)
            (draw.ellipse if mark == "disc" else draw.rectangle)(box, fill=colour)
            if mark == "disc":
                draw.text((x + 3, y - 12), row["steps"], colour, font, anchor="lm")


def plot(source, out):
    rows = read(source)
    image = Image.new("RGB", (2 * PANEL_W + LEFT + GAP + 20, TOP + PANEL_H + 50), "white")
    draw = ImageDraw.Draw(image)
    try:
        font = ImageFont.truetype("DejaVuSans.ttf", 12)
    except OSError:
        font = ImageFont.load_default()
    for i, (label, colour, mark, _) in enumerate(SERIES):
        x, y = LEFT + (i % 3) * 290, 14 + (i // 3) * 18
        (draw.ellipse if mark == "disc" else draw.rectangle)((x, y - 4, x + 8, y + 4), fill=colour)
        draw.text((x + 14, y), label, INK, font, anchor="lm")
    panel(draw, font, rows, LEFT, "lpips", "LPIPS (lower is better)", 0.02, "%.2f")
    panel(draw, font, rows, LEFT + PANEL_W + GAP, "psnr", "PSNR, dB", 0.2, "%.1f")
    image.quantize(64).save(out, optimize=True)


def main():
    args = sys.argv[1:]
    if len(args) == 3 and args[0] == "plot":
        plot(args[1], args[2])
    elif len(args) >= 3 and args[0] == "measure":
        measure(args[1], args[2], args[4] if args[3:4] == ["--pictures"] else "six")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
