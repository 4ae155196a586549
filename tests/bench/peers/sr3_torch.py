"""The SR3 UNet as a PyTorch module, for any config that yodad runs, and a reader for its model files.

Written for speed as a PyTorch user would write it: channels_last, scaled_dot_product_attention, nothing that breaks torch.compile.
Attribute names equal the checkpoints' keys, so that load_state_dict finds the tensors by name.
"""
import json
import math
import struct

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def read_model(path):
    """A model file: its config (the text in the metadata) and its tensors as f32 arrays."""
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        data = f.read()
    tensors = {}
    for name, t in header.items():
        if name == "__metadata__":
            continue
        begin, end = t["data_offsets"]
        if t["dtype"] == "BF16":
            values = (np.frombuffer(data[begin:end], np.uint16).astype(np.uint32) << 16).view(np.float32)
        elif t["dtype"] == "F32":
            values = np.frombuffer(data[begin:end], np.float32)
        else:
            raise ValueError(f"{path}: {name} is {t['dtype']}; F32 and BF16 are read")
        tensors[name] = values.reshape(t["shape"]).copy()
    return json.loads(header["__metadata__"]["yoda.config"]), tensors


class Sinusoids(nn.Module):
    def __init__(self, dim, scale):
        super().__init__()
        count = dim // 2
        rates = torch.exp(torch.arange(count, dtype=torch.float64) * (-math.log(1e4) / count)) * scale
        self.register_buffer("rates", rates.float()[None], persistent=False)

    def forward(self, level):
        # The angles need f32: a level near 1 times a scale of 1000 leaves bf16 with no phase at all.
        angle = level.float()[:, None] * self.rates.float()
        return torch.cat([torch.sin(angle), torch.cos(angle)], 1)


class Block(nn.Module):
    def __init__(self, groups, c_in, c_out):
        super().__init__()
        self.block = nn.Sequential(nn.GroupNorm(groups, c_in), nn.SiLU(), nn.Identity(), nn.Conv2d(c_in, c_out, 3, padding=1))

    def forward(self, x):
        return self.block(x)


class NoiseFunc(nn.Module):
    def __init__(self, emb, c):
        super().__init__()
        self.noise_func = nn.Sequential(nn.Linear(emb, c))

    def forward(self, emb):
        return self.noise_func(emb)[:, :, None, None]


class ResBlock(nn.Module):
    def __init__(self, groups, emb, c_in, c_out):
        super().__init__()
        self.noise_func = NoiseFunc(emb, c_out)
        self.block1 = Block(groups, c_in, c_out)
        self.block2 = Block(groups, c_out, c_out)
        self.res_conv = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x, emb):
        return self.block2(self.block1(x) + self.noise_func(emb)) + self.res_conv(x)


class Attention(nn.Module):
    def __init__(self, groups, c):
        super().__init__()
        self.norm = nn.GroupNorm(groups, c)
        self.qkv = nn.Conv2d(c, 3 * c, 1, bias=False)
        self.out = nn.Conv2d(c, c, 1)

    def forward(self, x):
        n, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).permute(0, 2, 3, 1).reshape(n, 1, h * w, 3 * c)
        q, k, v = qkv.split(c, 3)
        o = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(o.reshape(n, h, w, c).permute(0, 3, 1, 2))


class Stage(nn.Module):
    """A ResBlock, with self-attention behind it where the config says so."""

    def __init__(self, groups, emb, c_in, c_out, attends):
        super().__init__()
        self.res_block = ResBlock(groups, emb, c_in, c_out)
        self.attn = Attention(groups, c_out) if attends else nn.Identity()

    def forward(self, x, emb):
        return self.attn(self.res_block(x, emb))


class Resample(nn.Module):
    def __init__(self, c, up):
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(c, c, 3, stride=1 if up else 2, padding=1)

    def forward(self, x, emb):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else x)


class Sr3(nn.Module):
    def __init__(self, net):
        super().__init__()
        ic, groups, mults = net["inner_channel"], net["norm_groups"], net["channel_multiplier"]
        self.unshuffle = net.get("unshuffle", 1)
        res, area = net["image_size"] // self.unshuffle, self.unshuffle**2
        self.noise_level_mlp = nn.Sequential(Sinusoids(ic, net.get("noise_scale", 1)), nn.Linear(ic, 4 * ic), nn.SiLU(),
                                             nn.Linear(4 * ic, ic))
        downs, skips, c = [nn.Conv2d(net["in_channel"] * area, ic, 3, padding=1)], [ic], ic
        for i, mult in enumerate(mults):
            for _ in range(net["res_blocks"]):
                downs.append(Stage(groups, ic, c, ic * mult, res in net["attn_res"]))
                c = ic * mult
                skips.append(c)
            if i + 1 < len(mults):
                downs.append(Resample(c, up=False))
                skips.append(c)
                res //= 2
        self.downs = nn.ModuleList(downs)
        self.mid = nn.ModuleList([Stage(groups, ic, c, c, net.get("mid_attention", True)), Stage(groups, ic, c, c, False)])
        ups = []
        for i, mult in reversed(list(enumerate(mults))):
            for _ in range(net["res_blocks"] + 1):
                ups.append(Stage(groups, ic, c + skips.pop(), ic * mult, res in net["attn_res"]))
                c = ic * mult
            if i > 0:
                ups.append(Resample(c, up=True))
                res *= 2
        self.ups = nn.ModuleList(ups)
        self.final_conv = Block(groups, c, net["out_channel"] * area)

    def forward(self, x, level):
        """x [n, in_channel, h, w], level [n] (always f32); the prediction in f32."""
        dtype = self.final_conv.block[3].weight.dtype
        emb = self.noise_level_mlp[0](level).to(dtype)
        for layer in list(self.noise_level_mlp)[1:]:
            emb = layer(emb)
        x = x.to(dtype)
        if self.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.unshuffle).contiguous(memory_format=torch.channels_last)
        x = self.downs[0](x)
        skips = [x]
        for down in list(self.downs)[1:]:
            x = down(x, emb)
            skips.append(x)
        for mid in self.mid:
            x = mid(x, emb)
        for up in self.ups:
            x = up(x, emb) if isinstance(up, Resample) else up(torch.cat([x, skips.pop()], 1), emb)
        x = self.final_conv(x).float()
        return F.pixel_shuffle(x, self.unshuffle) if self.unshuffle > 1 else x


def module(net, tensors):
    """The module of a config's network with these tensors, f32, eval."""
    made = Sr3(net)
    made.load_state_dict({name: torch.from_numpy(values) for name, values in tensors.items()})
    return made.eval().requires_grad_(False)
