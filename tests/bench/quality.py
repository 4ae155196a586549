#!/usr/bin/env python3
"""Quality of a model against bicubic: degrade pictures by 4 (Pillow bicubic), upscale them with build/yoda, compare.

    tests/bench/quality.py MODEL [--pictures six|all|NAME,NAME...] [yoda upscale's options]...

PSNR (RGB, no crop), LPIPS-squeeze v0.1, and LR-PSNR (the result made small again against the input). Wants Debian's python3-torch,
python3-pil and python3-numpy as independent yardsticks, and the test pictures and metric weights below $YODA_SHARED (../shared).
"""
import json
import os
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

SHARED = os.environ.get("YODA_SHARED") or "../shared"
SIX = ["set5/butterfly", "set5/head", "set5/bird", "set14/flowers", "set14/comic", "set14/pepper"]
SCALE = 4


def read_tensors(path):
    with open(path, "rb") as f:
        data = f.read()
    n = struct.unpack("<Q", data[:8])[0]
    out = {}
    for name, t in json.loads(data[8:8 + n]).items():
        if name != "__metadata__" and t["dtype"] == "F32":
            values = np.frombuffer(data, np.float32, int(np.prod(t["shape"])), 8 + n + t["data_offsets"][0])
            out[name] = torch.from_numpy(values.reshape(t["shape"]).copy())
    return out


class Lpips:
    """LPIPS v0.1 on SqueezeNet 1.1 (Zhang et al. 2018)."""

    def __init__(self, path):
        self.w = read_tensors(path)
        self.shift = torch.tensor([-.030, -.088, -.188]).view(1, 3, 1, 1)
        self.scale = torch.tensor([.458, .448, .450]).view(1, 3, 1, 1)

    def tensor(self, name):
        return next(v for k, v in self.w.items() if k in ("net." + name, "net.features." + name))

    def conv(self, x, name, **kw):
        return F.relu(F.conv2d(x, self.tensor(name + ".weight"), self.tensor(name + ".bias"), **kw))

    def fire(self, x, i):
        s = self.conv(x, f"{i}.squeeze")
        return torch.cat([self.conv(s, f"{i}.expand1x1"), self.conv(s, f"{i}.expand3x3", padding=1)], 1)

    def features(self, x):
        def pool(t):
            return F.max_pool2d(t, 3, 2, ceil_mode=True)
        out = [self.conv((x - self.shift) / self.scale, "0", stride=2)]
        out.append(self.fire(self.fire(pool(out[-1]), 3), 4))
        out.append(self.fire(self.fire(pool(out[-1]), 6), 7))
        out.append(self.fire(pool(out[-1]), 9))
        for i in (10, 11, 12):
            out.append(self.fire(out[-1], i))
        return [f / (f.norm(dim=1, keepdim=True) + 1e-10) for f in out]

    def __call__(self, a, b):
        def unit(im):
            return torch.from_numpy(np.asarray(im, np.float32).copy()).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.no_grad():
            pairs = zip(self.features(unit(a)), self.features(unit(b)))
            lin = [next(v for k, v in self.w.items() if k.startswith(f"lin{i}")) for i in range(7)]
            return sum(F.conv2d((f - g) ** 2, w).mean().item() for (f, g), w in zip(pairs, lin))


def psnr(a, b):
    return 10 * np.log10(255 ** 2 / np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2))


def names_of(word):
    if word == "six":
        return SIX
    if word == "all":
        return [f"{s}/{n[:-4]}" for s in ("set5", "set14") for n in sorted(os.listdir(f"{SHARED}/data/test/{s}")) if n.endswith(".png")]
    return word.split(",")


def main():
    args = sys.argv[1:]
    if not args:
        sys.exit(__doc__)
    model, args, pictures = args[0], args[1:], "six"
    if args[:1] == ["--pictures"]:
        pictures, args = args[1], args[2:]
    lpips = Lpips(f"{SHARED}/data/weights/lpips_squeeze_v0.1.safetensors")
    rows = []
    print(f"{'picture':<18} {'bicubic dB':>10} {'yoda dB':>8} {'bicubic LPIPS':>14} {'yoda LPIPS':>11} {'LR-PSNR':>8} {'s':>6}")
    with tempfile.TemporaryDirectory() as folder:
        small, large = os.path.join(folder, "small.png"), os.path.join(folder, "large.png")
        for name in names_of(pictures):
            hr = Image.open(f"{SHARED}/data/test/{name}.png").convert("RGB")
            w, h = hr.size[0] // SCALE * SCALE, hr.size[1] // SCALE * SCALE
            hr = hr.crop((0, 0, w, h))
            lr = hr.resize((w // SCALE, h // SCALE), Image.BICUBIC)
            lr.save(small)
            bicubic = lr.resize((w, h), Image.BICUBIC)
            began = time.monotonic()
            subprocess.run(["build/yoda", "upscale", small, large, "--quiet", "--model", model, *args], check=True)
            took = time.monotonic() - began
            sr = Image.open(large).convert("RGB")
            rows.append((psnr(bicubic, hr), psnr(sr, hr), lpips(bicubic, hr), lpips(sr, hr),
                         psnr(sr.resize(lr.size, Image.BICUBIC), lr), took))
            print(f"{name:<18} {rows[-1][0]:10.2f} {rows[-1][1]:8.2f} {rows[-1][2]:14.4f} {rows[-1][3]:11.4f} {rows[-1][4]:8.2f} {took:6.2f}", flush=True)
    m = np.mean(rows, 0)
    print(f"{'mean':<18} {m[0]:10.2f} {m[1]:8.2f} {m[2]:14.4f} {m[3]:11.4f} {m[4]:8.2f} {m[5]:6.2f}")
    print(f"LPIPS / bicubic's {m[3] / m[2]:.3f}, PSNR {m[1] - m[0]:+.2f} dB")


if __name__ == "__main__":
    main()
