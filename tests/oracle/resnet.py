#!/usr/bin/env python3
"""A full-size ResNet-50 as PyTorch computes it, its pooled query and its attribution guided factorisation (AGF), to hold `yoda attention`
against. Needs torch and numpy (Debian: python3-torch); torchvision is not needed. Nothing is fetched.

    make
    tests/oracle/resnet.py [--side 224] [--double HEADS]

Weights are drawn, the picture is made. The layers' rules are written with torch.autograd, one layer after the other, as their authors
describe them (Gur, Ali, Wolf, AAAI 2021), in single precision and, for --double heads (1), in double. Prints how far apart the maps are and
how long each took; the exit status is 1 above the limits.
"""
import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib

import numpy as np
import torch
import torch.nn.functional as F

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
YODA = os.path.join(ROOT, "build/yoda")
BLOCKS, HEADS = (3, 4, 6, 3), 6


# ---- weights and files


def random_network(seed):
    draw, state = torch.Generator().manual_seed(seed), {}

    def unit(conv, norm, c_in, c, k, gain):
        state[conv + ".weight"] = torch.randn(c, c_in, k, k, generator=draw) * (2.0 / (c_in * k * k)) ** 0.5
        for name, low, span in (("weight", 0.75 * gain, 0.5 * gain), ("bias", -0.2, 0.4), ("running_mean", -0.1, 0.2), ("running_var", 0.5, 1)):
            state[f"{norm}.{name}"] = low + span * torch.rand(c, generator=draw)

    unit("conv1", "bn1", 3, 64, 7, 1)
    c_in = 64
    for stage, blocks in enumerate(BLOCKS):
        c, out = 64 << stage, 256 << stage
        for b in range(blocks):
            at = f"layer{stage + 1}.{b}"
            unit(f"{at}.conv1", f"{at}.bn1", c_in, c, 1, 1)
            unit(f"{at}.conv2", f"{at}.bn2", c, c, 3, 1)
            unit(f"{at}.conv3", f"{at}.bn3", c, out, 1, 0.4)
            if b == 0:
                unit(f"{at}.downsample.0", f"{at}.downsample.1", c_in, out, 1, 0.7)
            c_in = out
    return state


def save(state, path):
    header, at = {}, 0
    for name, t in state.items():
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + 4 * t.numel()]}
        at += 4 * t.numel()
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in state.values():
            f.write(t.numpy().tobytes())


def load(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    return {name: torch.from_numpy(np.frombuffer(data[slice(*t["data_offsets"])], "<f4").reshape(t["shape"]).copy())
            for name, t in header.items() if name != "__metadata__"}


def write_picture(path, side):
    """A PNG of waves, an edge and some noise."""
    y, x = np.mgrid[0:side, 0:side]
    noise = np.random.default_rng(4).integers(0, 40, (side, side))
    planes = [100 + 60 * np.sin(x / (9 + 4 * c)) * np.cos(y / (13 - 3 * c)) + noise + 50 * (x > y) for c in range(3)]
    rows = np.stack(planes, -1).clip(0, 255).astype(np.uint8).reshape(side, -1)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
              (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))), (b"IEND", b""))
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in chunks:
            f.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


# ---- the network, layer by layer


def sd(a, b):
    return torch.where(b != 0, a / torch.where(b + 1e-9 == 0, torch.full_like(b, 1e-9), b + 1e-9), torch.zeros_like(b))


class Layer:
    """Keeps the input of its last forward pass; back(C, G) gives those of the input."""

    def __call__(self, x):
        self.x = x
        with torch.no_grad():
            return self.f(x)

    def gradient(self, f, x, out):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(f(x), x, out)[0]

    def back(self, c, g):
        with torch.no_grad():
            s = sd(c, self.f(self.x) * (c != 0))
        return self.x * self.gradient(self.f, self.x, s), self.gradient(self.f, self.x, g)


class Relu(Layer):
    f = staticmethod(F.relu)


class MaxPool(Layer):
    @staticmethod
    def f(x):
        return F.max_pool2d(x, 3, 2, 1)


class Mean(Layer):
    @staticmethod
    def f(x):
        return x.mean((2, 3), keepdim=True)


class Norm(Layer):
    def __init__(self, state, name):
        self.p = [state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]

    def f(self, x):
        return F.batch_norm(x, *self.p, eps=1e-5)

    def back(self, c, g):
        return c, self.gradient(self.f, self.x, g)


class Conv(Layer):
    def __init__(self, state, name, stride, full=False):
        self.w, self.stride, self.full = state[f"{name}.weight"], stride, full

    def conv(self, x, w):
        return F.conv2d(x, w, stride=self.stride, padding=w.shape[-1] // 2)

    def f(self, x):
        return self.conv(x, self.w)

    def shared_out(self, c, x):
        """x convT_|W|( sd(C, conv_|W|(x)) )"""
        w = self.w.abs()
        s = sd(c, self.conv(x, w) * (c != 0))
        return x * self.gradient(lambda v: self.conv(v, w), x, s)

    def back(self, c, g):
        if self.x.shape[1] == 3:
            return self.first(c), None
        flat, gx = self.shared_out(c, self.x.abs()), self.gradient(self.f, self.x, g)
        return (self.shift(flat, c, g, gx) if self.full else flat), gx

    def shift(self, flat, c, g, gx):
        m = F.relu((self.x * gx).mean(1, keepdim=True))
        m = sd(m, m.max().expand_as(m))
        masked = self.gradient(self.f, self.x, g * (c != 0))
        phi = flat.mean(1)
        fx, fg = factorise(self.x, phi), factorise(masked, phi)
        own = self.shared_out(c, torch.ones_like(self.x))
        r = (sd(F.relu(fx) + m, 1 + torch.exp(-flat)) + F.relu(fg) + own) * (flat != 0)
        return flat + r - r.sum() / (flat != 0).sum() * (flat != 0)

    def first(self, c):
        x, w = self.x, self.w
        plus, minus = w.clamp(min=0), w.clamp(max=0)
        low, high = torch.full_like(x, x.min().item()), torch.full_like(x, x.max().item())
        s = sd(c, self.conv(x, w) - self.conv(low, plus) - self.conv(high, minus))

        def back(v):
            return self.gradient(lambda t: self.conv(t, v), x, s)
        return x * back(w) - low * back(plus) - high * back(minus)


def factorise(t, phi):
    h = torch.sigmoid(10 * sd(t, t.max().expand_as(t)))[0]
    means = [(h * m).sum((1, 2)) / m.sum().clamp(min=1) for m in ((phi < 0).to(h), (phi > 0).to(h))]
    v = torch.stack(means, 1)
    w = F.relu(torch.linalg.inv(v.T @ v + torch.eye(2).to(h)) @ (v.T @ h.flatten(1)))
    return (w[1] - w[0]).reshape(1, 1, *t.shape[2:])


class Chain:
    def __init__(self, *layers):
        self.layers = layers

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def back(self, c, g):
        for layer in reversed(self.layers):
            c, g = layer.back(c, g)
        return c, g


class Block:
    def __init__(self, state, at, stride):
        self.inside = Chain(Conv(state, at + ".conv1", 1), Norm(state, at + ".bn1"), Relu(), Conv(state, at + ".conv2", stride, True),
                            Norm(state, at + ".bn2"), Relu(), Conv(state, at + ".conv3", 1), Norm(state, at + ".bn3"))
        shortened = at + ".downsample.0.weight" in state
        self.around = Chain(Conv(state, at + ".downsample.0", stride), Norm(state, at + ".downsample.1")) if shortened else Chain()
        self.relu = Relu()

    def __call__(self, x):
        self.x = x
        self.parts = self.inside(x), self.around(x)
        return self.relu(self.parts[0] + self.parts[1])

    def back(self, c, g):
        c, g = self.relu.back(c, g)
        s = sd(c, (self.parts[0] + self.parts[1]) * (c != 0))
        c0, g0 = self.inside.back(self.parts[0] * s, g)
        c1, g1 = self.around.back(self.parts[1] * s, g)
        return self.x * (sd(c0, self.x) + sd(c1, self.x)), g0 + g1


class ResNet:
    def __init__(self, state):
        self.stem = Chain(Conv(state, "conv1", 2), Norm(state, "bn1"), Relu(), MaxPool())
        self.stages = [Chain(*(Block(state, f"layer{s + 1}.{b}", 2 if s and not b else 1) for b in range(n))) for s, n in enumerate(BLOCKS)]
        self.mean = Mean()
        self.all = Chain(self.stem, *self.stages, self.mean)

    def features(self, x, stages):
        return Chain(self.stem, *self.stages[:stages])(x)

    def agf(self, x, heads):
        """Maps of the highest features, [heads, h, w]."""
        y = self.all(x).flatten()
        return torch.stack([self.one(y, t.item(), x) for t in y.topk(HEADS).indices[:heads]])

    def one(self, y, t, x):
        y = y.clone().requires_grad_()
        s = (y - y[t]).abs().max()
        p = torch.softmax(y[t] * torch.exp(-0.5 * ((y - y[t]) / s) ** 2), 0)
        g = torch.autograd.grad(p[t], y)[0]
        c, _ = self.all.back((y * g).detach()[None, :, None, None], g[None, :, None, None])
        return (c / c.max()).sum(1)[0]


def pooled(z):
    q, group = z.mean((2, 3))[0], z.shape[1] // HEADS
    return torch.stack([torch.einsum("c,chw->hw", q[k * group:(k + 1) * group], z[0, k * group:(k + 1) * group]) for k in range(HEADS)])


# ---- comparison


def ours(method, weights, picture, folder, side):
    raw = os.path.join(folder, method + ".safetensors")
    start = time.monotonic()
    subprocess.run([YODA, "attention", picture, "--scale", "1", "--method", method, "--attention-nets", weights, "--raw", raw,
                    "--attention-short-side", str(side)], check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - start
    t = load(raw)
    return t["maps"][0], t["rgb"], took


def apart(got, want):
    return ((got.double() - want.double()).abs().max() / want.double().abs().max()).item()


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("--side", type=int, default=224)
    options.add_argument("--double", type=int, default=1)
    o = options.parse_args()
    state, failed = random_network(1), False
    shift, scale = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

    def say(what, value, limit, ours_s, torch_s):
        nonlocal failed
        failed = failed or not value <= limit
        print(f"{what:44} {value:9.2e} apart (limit {limit:g}); yoda with loading {ours_s:6.2f} s, torch {torch_s:6.2f} s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        weights, picture = os.path.join(folder, "net.safetensors"), os.path.join(folder, "in.png")
        save(state, weights)
        write_picture(picture, o.side)
        net = ResNet(state)
        for method, stages in (("resnet50", 4), ("resnet50-layer3", 3)):
            maps, rgb, took = ours(method, weights, picture, folder, o.side)
            x = (rgb - shift[None, :, None, None]) / scale[None, :, None, None]
            start = time.monotonic()
            want = pooled(net.features(x, stages))
            say(method, apart(maps, want), 2e-5, took, time.monotonic() - start)
        maps, rgb, took = ours("resnet50-agf", weights, picture, folder, o.side)
        start = time.monotonic()
        single = net.agf(x, HEADS)
        single_s = time.monotonic() - start
        for k in range(HEADS):
            say(f"resnet50-agf:{k}, single precision", apart(maps[k], single[k]), 1e-3, took, single_s / HEADS)
        start = time.monotonic()
        double = ResNet({k: v.double() for k, v in state.items()}).agf(x.double(), o.double)
        double_s = time.monotonic() - start
        for k in range(o.double):
            say(f"resnet50-agf:{k}, double precision", apart(maps[k], double[k]), 1e-3, took, double_s / o.double)
            print(f"{'torch, single against double precision':44} {apart(single[k], double[k]):9.2e} apart; from {double[k].min():.3f} to {double[k].max():.3f}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
