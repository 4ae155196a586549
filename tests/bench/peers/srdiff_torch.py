"""SRDiff's UNet as a PyTorch module: the part of a step, which is given what the encoder made.

Written for speed as a PyTorch user would write it: channels_last, nothing that breaks torch.compile. Attribute names equal the
checkpoints' keys, so that load_state_dict finds the tensors by name.
"""
import math

import torch
from torch import nn


class Sinusoids(nn.Module):
    def __init__(self, dim):
        super().__init__()
        count = dim // 2
        rates = torch.exp(torch.arange(count, dtype=torch.float64) * (-math.log(1e4) / (count - 1)))
        self.register_buffer("rates", rates.float()[None], persistent=False)

    def forward(self, t):
        angle = t.float()[:, None] * self.rates.float()
        return torch.cat([torch.sin(angle), torch.cos(angle)], 1)


class Block(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.block = nn.Sequential(nn.Identity(), nn.Conv2d(c_in, c_out, 3, padding=1, padding_mode="reflect"), nn.Mish())

    def forward(self, x):
        return self.block(x)


class ResBlock(nn.Module):
    def __init__(self, emb, c_in, c_out):
        super().__init__()
        self.mlp = nn.Sequential(nn.Mish(), nn.Linear(emb, c_out))
        self.block1, self.block2 = Block(c_in, c_out), Block(c_out, c_out)
        self.res_conv = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x, emb):
        return self.block2(self.block1(x) + self.mlp(emb)[:, :, None, None]) + self.res_conv(x)


class Down(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Sequential(nn.Identity(), nn.Conv2d(c, c, 3, stride=2, padding=1, padding_mode="reflect"))

    def forward(self, x):
        return self.conv(x)


class Up(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Sequential(nn.ConvTranspose2d(c, c, 4, 2, 1))

    def forward(self, x):
        return self.conv(x)


class Step(nn.Module):
    def __init__(self, net):
        super().__init__()
        ic = net["inner_channel"]
        widths = [3] + [ic * m for m in net["channel_multiplier"]]
        self.time_pos_emb = Sinusoids(ic)
        self.mlp = nn.Sequential(nn.Linear(ic, 4 * ic), nn.Mish(), nn.Linear(4 * ic, ic))
        pairs = list(zip(widths, widths[1:]))
        self.downs = nn.ModuleList(nn.ModuleList([ResBlock(ic, a, b), ResBlock(ic, b, b), Down(b) if i + 1 < len(pairs) else nn.Identity()])
                                   for i, (a, b) in enumerate(pairs))
        self.mid_block1, self.mid_block2 = (ResBlock(ic, widths[-1], widths[-1]) for _ in range(2))
        self.ups = nn.ModuleList(nn.ModuleList([ResBlock(ic, 2 * b, a), ResBlock(ic, a, a), Up(a)]) for a, b in reversed(pairs[1:]))
        self.final_conv = nn.Sequential(Block(ic, ic), nn.Conv2d(ic, 3, 1))

    def forward(self, x, level):
        """x [n, 3 + inner_channel, h, w]: z, then the condition; level [n] (always f32); the prediction in f32."""
        dtype = self.final_conv[1].weight.dtype
        emb = self.mlp(self.time_pos_emb(level).to(dtype))
        x = x.to(dtype)
        x, cond = x[:, :3], x[:, 3:]
        skips = []
        for i, (first, second, down) in enumerate(self.downs):
            x = second(first(x, emb), emb)
            if i == 0:
                x = x + cond
            skips.append(x)
            x = down(x)
        x = self.mid_block2(self.mid_block1(x, emb), emb)
        for first, second, up in self.ups:
            x = up(second(first(torch.cat([x, skips.pop()], 1), emb), emb))
        return self.final_conv(x).float()


def module(net, tensors):
    """The module of a config's network with these tensors, f32, eval. The encoder's and cond_proj's are not the step's."""
    made, prefix = Step(net), "denoise_fn."
    made.load_state_dict({name[len(prefix):]: torch.from_numpy(values) for name, values in tensors.items()
                          if name.startswith(prefix) and not name.startswith(prefix + "cond_proj.")})
    return made.eval().requires_grad_(False)
