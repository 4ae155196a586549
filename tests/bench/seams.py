#!/usr/bin/env python3
"""Do the borders of windows show? How rough the result's error is across them, against everywhere else.

    tests/bench/seams.py FOLDER WINDOW/OVERLAP... [yoda upscale's options]...

Roughness is the mean of |e(x-1) - e(x)|, e the result minus the original, over the lines between two pixels where one window takes over from
the next (the middle of an overlap), divided by the same over all other lines; 1 is no seam. All PNG files of the folder, shrunk to a
quarter by Pillow's bicubic, both directions, and the spread (standard error) over the borders. Wants Pillow and numpy.
"""
import glob
import os
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

SCALE = 4


def shrink(path):
    """An original, cut to a multiple of the scale, and its small picture."""
    original = Image.open(path).convert("RGB")
    w, h = original.size[0] // SCALE, original.size[1] // SCALE
    original = original.crop((0, 0, w * SCALE, h * SCALE))
    return original, original.resize((w, h), Image.BICUBIC)


def borders(size, window, overlap):
    """Where windows hand over along an axis: their layout as core/windows.h describes it."""
    if size <= window:
        return []
    n = -(-(size - window) // (window - overlap)) + 1
    starts = [i * (size - window) // (n - 1) for i in range(n)]
    return [(start + before + window) // 2 for before, start in zip(starts, starts[1:])]


def ratios(error, window, overlap):
    """One figure per border between columns."""
    steps = np.abs(np.diff(error, axis=1)).mean((0, 2))  # steps[x-1]: between columns x-1 and x
    at = [x - 1 for x in borders(error.shape[1], window, overlap)]
    inside = np.delete(steps, at)
    return [steps[x] / inside.mean() for x in at]


def main():
    args = sys.argv[1:]
    shapes = [a for a in args[1:] if "/" in a and a.replace("/", "").isdigit()]
    paths = sorted(glob.glob(os.path.join(args[0], "*.png"))) if args else []
    if not shapes or not paths:
        sys.exit(__doc__)
    options = [a for a in args[1:] if a not in shapes]
    pictures = [shrink(path) for path in paths]
    for shape in shapes:
        window, overlap = map(int, shape.split("/"))
        found, loss = [], []
        with tempfile.TemporaryDirectory() as folder:
            small, large = os.path.join(folder, "small.png"), os.path.join(folder, "large.png")
            for original, low in pictures:
                low.save(small)
                subprocess.run(["build/yoda", "upscale", small, large, "--quiet", "--window", str(window), "--overlap", str(overlap), *options],
                               check=True)
                error = np.asarray(Image.open(large).convert("RGB"), float) - np.asarray(original, float)
                found += ratios(error, window, overlap) + ratios(error.transpose(1, 0, 2), window, overlap)
                loss.append(10 * np.log10(255 ** 2 / np.mean(error ** 2)))
        print(f"{shape:>8}  {np.mean(found):.3f} +- {np.std(found) / len(found) ** 0.5:.3f}  ({len(found)} borders)  {np.mean(loss):.2f} dB", flush=True)


if __name__ == "__main__":
    main()
