#!/usr/bin/env python3
"""FID's Inception-v3 and distance as PyTorch and NumPy compute them, to hold `yoda eval --fid` against. Needs torch, numpy, pillow.

    make build/yoda build/obj/release/unit/test_inception
    tests/oracle/inception.py                 compares; the last line says how far apart, the exit status is 1 above the limits
    tests/oracle/inception.py --print         prints the numbers that tests/unit/test_inception.c keeps

The network is written out here as plain modules; its weights follow from their names (see values), which is also how the unit test
makes them. The comparison takes weights of its own with normalisations that fit them, and computes in double, since those of random
weights enlarge the rounding of single precision beyond the limit in PyTorch too. Nothing is fetched.
"""
import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
YODA = os.path.join(ROOT, "build/yoda")
FEATURES = os.path.join(ROOT, "build/obj/release/unit/test_inception")


class Unit(nn.Module):
    """Convolution, normalisation, ReLU."""

    def __init__(self, c_in, c_out, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


def mean_pool(x):
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def shrink(x):
    return F.max_pool2d(x, 3, 2)


class A(nn.Module):
    def __init__(self, c, pool):
        super().__init__()
        self.branch1x1 = Unit(c, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = Unit(c, 48, 1), Unit(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Unit(c, 64, 1), Unit(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Unit(96, 96, 3, padding=1)
        self.branch_pool = Unit(c, pool, 1)

    def forward(self, x):
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, self.branch_pool(mean_pool(x))], 1)


class B(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.branch3x3 = Unit(c, 384, 3, 2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Unit(c, 64, 1), Unit(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Unit(96, 96, 3, 2)

    def forward(self, x):
        return torch.cat([self.branch3x3(x), self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))), shrink(x)], 1)


ACROSS, DOWN = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}


class C(nn.Module):
    def __init__(self, c, n):
        super().__init__()
        self.branch1x1 = Unit(c, 192, 1)
        self.branch7x7_1, self.branch7x7_2, self.branch7x7_3 = Unit(c, n, 1), Unit(n, n, **ACROSS), Unit(n, 192, **DOWN)
        self.branch7x7dbl_1, self.branch7x7dbl_2, self.branch7x7dbl_3 = Unit(c, n, 1), Unit(n, n, **DOWN), Unit(n, n, **ACROSS)
        self.branch7x7dbl_4, self.branch7x7dbl_5 = Unit(n, n, **DOWN), Unit(n, 192, **ACROSS)
        self.branch_pool = Unit(c, 192, 1)

    def forward(self, x):
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(mean_pool(x))], 1)


class D(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Unit(c, 192, 1), Unit(192, 320, 3, 2)
        self.branch7x7x3_1, self.branch7x7x3_2 = Unit(c, 192, 1), Unit(192, 192, **ACROSS)
        self.branch7x7x3_3, self.branch7x7x3_4 = Unit(192, 192, **DOWN), Unit(192, 192, 3, 2)

    def forward(self, x):
        long = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), long, shrink(x)], 1)


class E(nn.Module):
    def __init__(self, c, pool):
        super().__init__()
        across, down = {"kernel": (1, 3), "padding": (0, 1)}, {"kernel": (3, 1), "padding": (1, 0)}
        self.pool = pool
        self.branch1x1 = Unit(c, 320, 1)
        self.branch3x3_1, self.branch3x3_2a, self.branch3x3_2b = Unit(c, 384, 1), Unit(384, 384, **across), Unit(384, 384, **down)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Unit(c, 448, 1), Unit(448, 384, 3, padding=1)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = Unit(384, 384, **across), Unit(384, 384, **down)
        self.branch_pool = Unit(c, 192, 1)

    def forward(self, x):
        single, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single), self.branch3x3dbl_3a(double),
                 self.branch3x3dbl_3b(double), self.branch_pool(self.pool(x))]
        return torch.cat(parts, 1)


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = Unit(3, 32, 3, 2), Unit(32, 32, 3)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Unit(64, 80, 1), Unit(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = A(192, 32), A(256, 64), A(288, 64)
        self.Mixed_6a = B(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = C(768, 128), C(768, 160), C(768, 160), C(768, 192)
        self.Mixed_7a = D(768)
        self.Mixed_7b, self.Mixed_7c = E(1280, mean_pool), E(2048, lambda x: F.max_pool2d(x, 3, 1, 1))

    def forward(self, x):
        """N x 3 x H x W in 0..1 to N x 2048."""
        x = 2 * F.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False) - 1
        x = shrink(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = shrink(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for block in (self.Mixed_5b, self.Mixed_5c, self.Mixed_5d, self.Mixed_6a, self.Mixed_6b, self.Mixed_6c, self.Mixed_6d,
                      self.Mixed_6e, self.Mixed_7a, self.Mixed_7b, self.Mixed_7c):
            x = block(x)
        return F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0]


# --- numbers from names

def mixed(n, seed):
    """n numbers in [0, 1): an integer hash of the position."""
    with np.errstate(over="ignore"):
        x = np.arange(n, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(seed)
        x = (x ^ (x >> np.uint32(15))) * np.uint32(2246822519)
        x = (x ^ (x >> np.uint32(13))) * np.uint32(3266489917)
    return ((x ^ (x >> np.uint32(16))) >> np.uint32(8)).astype(np.float64) / 2 ** 24


def name_hash(name):
    h = 2166136261
    for byte in name.encode():
        h = (h ^ byte) * 16777619 % 2 ** 32
    return h


def values(name, shape):
    """What the tensor of this name holds; convolutions as bf16 stores them."""
    u = mixed(int(np.prod(shape)), name_hash(name))
    if name.endswith("conv.weight"):
        v = torch.from_numpy(((2 * u - 1) * np.sqrt(6 / np.prod(shape[1:]))).astype(np.float32)).to(torch.bfloat16).float()
    else:
        low, span = {"weight": (0.75, 0.5), "bias": (-0.2, 0.4), "running_mean": (-0.1, 0.2), "running_var": (0.5, 1.0)}[name.split(".")[-1]]
        v = torch.from_numpy((low + span * u).astype(np.float32))
    return v.reshape(shape)


def named_network():
    net = Inception().eval()
    net.load_state_dict({k: values(k, tuple(v.shape)) if v.is_floating_point() else v for k, v in net.state_dict().items()})
    return net


def random_network(pictures):
    """Random weights and the statistics that they have on these pictures, so that maps of every layer vary."""
    torch.manual_seed(7)
    net = Inception()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            module.momentum = None
    net.train()
    with torch.no_grad():
        for p in pictures:
            net(as_input(p))
    return net.eval()


def picture(w, h, seed):
    """Smooth colours with noise over them: bytes, h x w x 3."""
    y, x = np.mgrid[0:h, 0:w].astype(np.int64)
    noise = (mixed(w * h * 3, seed) * 64).astype(np.int64).reshape(h, w, 3)
    base = np.stack([x * 190 // w, y * 190 // h, (x * 7 + y * 3 + 40 * seed) % 190], -1)
    return (base + noise).astype(np.uint8)


def as_input(rgb):
    return torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1)[None]


def features(net, rgb):
    with torch.no_grad():
        return net.double()(as_input(rgb).double())[0].numpy()


# --- files and the programs under test

def save(state, path):
    header, blobs, at = {}, [], 0
    for name, t in sorted(state.items()):
        data = t.numpy().tobytes()
        header[name] = {"dtype": "F32" if t.is_floating_point() else "I64", "shape": list(t.shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
        blobs.append(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.writelines(blobs)


def our_features(weights, rgb, folder):
    raw = os.path.join(folder, "raw.rgb")
    rgb.tofile(raw)
    h, w, _ = rgb.shape
    out = subprocess.run([FEATURES, "--features", weights, raw, str(w), str(h)], check=True, capture_output=True, text=True).stdout
    return np.array([float(v) for v in out.split()])


def frechet(a, b):
    """|m1-m2|^2 + Tr(S1 + S2 - 2 sqrt(S1 S2)), by the root of S1 and eigenvalues."""
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values1, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(np.maximum(values1, 0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ s2 @ root)
    gap = a.mean(0) - b.mean(0)
    return gap @ gap + np.trace(s1) + np.trace(s2) - 2 * np.sqrt(np.maximum(inner, 0)).sum()


def compare():
    sizes = [(96, 80), (298, 298), (340, 512), (128, 64), (200, 300)]
    originals = [picture(w, h, i) for i, (w, h) in enumerate(sizes)]
    others = [np.clip(255 * (p / 255.0) ** 1.3 + 5, 0, 255).astype(np.uint8) for p in originals]
    net = random_network(originals[:3])
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "fid.safetensors")
        save(net.state_dict(), weights)
        worst = 0
        for p in originals[:3]:
            want, got = features(net, p), our_features(weights, p, folder)
            worst = max(worst, np.abs(got - want).max() / np.abs(want).max())
        for name, pictures in (("hr", originals), ("sr", others)):
            os.mkdir(os.path.join(folder, name))
            for i, p in enumerate(pictures):
                Image.fromarray(p).save(os.path.join(folder, name, f"{i}.png"))
        out = os.path.join(folder, "out.json")
        subprocess.run([YODA, "eval", "--hr", os.path.join(folder, "hr"), "--sr", os.path.join(folder, "sr"), "--scale", "2", "--fid", weights,
                        "--json", out, "-q"], check=True, stdout=subprocess.DEVNULL)
        with open(out) as f:
            got = json.load(f)["mean"]["fid"]
    want = frechet(np.stack([features(net, p) for p in others]).astype(np.float64),
                   np.stack([features(net, p) for p in originals]).astype(np.float64))
    apart = abs(got - want) / want
    print(f"features {worst:.2e} of the largest apart (limit 1e-4); distance {got:.6f}, not {want:.6f}: {apart:.2e} (limit 1e-3)")
    return 0 if worst <= 1e-4 and apart <= 1e-3 else 1


def print_numbers():
    net = named_network()
    for w, h, seed in ((64, 48, 1), (299, 299, 2), (400, 310, 3)):
        v = features(net, picture(w, h, seed))[::128]
        print(f"    {{{w}, {h}, {seed},\n     {{" + ", ".join(f"{x:.7g}f" if "." in f"{x:.7g}" else f"{x:.7g}.0f" for x in v) + "}},")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--print", action="store_true", help="the numbers of the unit test")
    if parser.parse_args().print:
        print_numbers()
    else:
        sys.exit(compare())
