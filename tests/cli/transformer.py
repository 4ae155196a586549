"""Vision transformers of random weights under DINO's names, as safetensors, for tests of the command and of the server."""
import json
import os
import random
import struct

DIM, HEADS, PATCH, GRID, HIDDEN = 48, 6, 8, 4, 64
NAME = "dino-vit48x2-8"


def write(path, prefix="", seed=1, config=True):
    """Two blocks of 48 channels; its number of heads stands in a config.json beside it."""
    draw, header, body = random.Random(seed), {}, b""

    def put(name, shape, mean=0.0, scale=0.3):
        nonlocal body
        n = 1
        for side in shape:
            n *= side
        data = struct.pack(f"<{n}f", *(draw.gauss(mean, scale) for _ in range(n)))
        header[prefix + name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    put("cls_token", (1, 1, DIM))
    put("pos_embed", (1, 1 + GRID * GRID, DIM))
    put("patch_embed.proj.weight", (DIM, 3, PATCH, PATCH), scale=0.1)
    put("patch_embed.proj.bias", (DIM,))
    for i in range(2):
        for name, shape, mean in (("norm1.weight", (DIM,), 1), ("norm1.bias", (DIM,), 0), ("attn.qkv.weight", (3 * DIM, DIM), 0),
                                  ("attn.qkv.bias", (3 * DIM,), 0), ("attn.proj.weight", (DIM, DIM), 0), ("attn.proj.bias", (DIM,), 0),
                                  ("norm2.weight", (DIM,), 1), ("norm2.bias", (DIM,), 0), ("mlp.fc1.weight", (HIDDEN, DIM), 0),
                                  ("mlp.fc1.bias", (HIDDEN,), 0), ("mlp.fc2.weight", (DIM, HIDDEN), 0), ("mlp.fc2.bias", (DIM,), 0)):
            put(f"blocks.{i}.{name}", shape, mean)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)
    if config:
        with open(os.path.join(os.path.dirname(path), "config.json"), "w") as f:
            f.write(f'{{"num_heads": {HEADS}}}')
    return path
