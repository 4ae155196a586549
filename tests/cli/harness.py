"""What the tests of the yoda command share: running it, small pictures and tensors made and read here, cases and their count.

PNG and safetensors are written and parsed by these few lines and not by the code under test.
"""
import array
import json
import os
import struct
import subprocess
import sys
import tempfile
import traceback
import zlib

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
YODA = os.environ.get("YODA", os.path.join(ROOT, "build", "yoda"))
SHARED = os.environ.get("YODA_SHARED") or os.path.join(ROOT, "..", "shared")

CASES = []


class Skip(Exception):
    pass


def case(function):
    CASES.append(function)
    return function


def run_cases(words):
    """Run every case (or those whose name holds one of the words), each in an empty folder. The exit status."""
    passed = failed = skipped = 0
    for function in CASES:
        if words and not any(word in function.__name__ for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                function()
                passed, verdict = passed + 1, "ok  "
            except Skip as reason:
                skipped, verdict = skipped + 1, "skip"
                print(f"  skipped: {reason}")
            except Exception:
                failed, verdict = failed + 1, "FAIL"
                print("  " + traceback.format_exc().replace("\n", "\n  "))
            os.chdir(ROOT)
        print(verdict, function.__name__, flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def check(ok, message):
    if not ok:
        raise AssertionError(message)


def clean_environment(extra):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("YODA_", "YODAD_"))}
    env.update(extra)
    return env


def yoda(*arguments, status=0, program=YODA, **extra_env):
    """Run yoda; the result has stdout and stderr. Any other exit status than the expected one is a failure."""
    r = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, env=clean_environment(extra_env), timeout=300)
    check(r.returncode == status, f"yoda {' '.join(map(str, arguments))}: status {r.returncode}, not {status}\n{r.stdout}{r.stderr}")
    return r


def yoda_fails(*arguments, says, **extra_env):
    """Run yoda, which must fail with status 1 and, besides warnings, one line that begins with its name and holds every one of the words."""
    r = yoda(*arguments, status=1, **extra_env)
    lines = [line for line in r.stderr.strip().splitlines() if not line.startswith("yoda: warning: ")]
    check(len(lines) == 1 and lines[0].startswith(f"yoda {arguments[0]}: "), f"not one line of message: {r.stderr!r}")
    for word in says:
        check(word in lines[0], f"{word!r} is not in {lines[0]!r}")
    return r


def shared(path):
    """A file beside the project; without it the case is skipped."""
    full = os.path.abspath(os.path.join(SHARED, path))
    if not os.path.exists(full):
        raise Skip(f"{path} is not there")
    return full


def read_bytes(path):
    with open(path, "rb") as f:
        return f.read()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png_rows(path, width, height, rows):
    """An RGB picture of rows of 3 * width bytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b""))


def write_png(path, width, height, pixel):
    """An RGB picture; pixel(x, y) gives three bytes."""
    write_png_rows(path, width, height, (bytes(v for x in range(width) for v in pixel(x, y)) for y in range(height)))


def read_png_header(path):
    """(width, height, colour type) of a PNG file: colour type 0 is grey, 2 is RGB."""
    data = read_bytes(path)
    check(data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR", f"{path} is no PNG")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    check(depth == 8, f"{path} has {depth} bits per value")
    return width, height, colour


def unfilter(row, above, kind, step):
    for i in range(len(row)):
        left = row[i - step] if i >= step else 0
        corner = above[i - step] if i >= step else 0
        up = above[i]
        p = left + up - corner
        near = min((abs(p - left), 0, left), (abs(p - up), 1, up), (abs(p - corner), 2, corner))[2]
        row[i] = row[i] + (0, left, up, (left + up) // 2, near)[kind] & 255


def read_png(path):
    """Bytes of an 8-bit PNG's pixels, row by row."""
    width, height, colour = read_png_header(path)
    step = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    data, at, packed = read_bytes(path), 8, b""
    while at < len(data):
        size = struct.unpack(">I", data[at:at + 4])[0]
        if data[at + 4:at + 8] == b"IDAT":
            packed += data[at + 8:at + 8 + size]
        at += 12 + size
    raw, out, above = zlib.decompress(packed), bytearray(), bytearray(width * step)
    for y in range(height):
        start = y * (width * step + 1)
        row = bytearray(raw[start + 1:start + 1 + width * step])
        unfilter(row, above, raw[start], step)
        out += row
        above = row
    return bytes(out)


def read_safetensors(path):
    """({name: (dtype, shape, bytes)}, metadata) of a file."""
    data = read_bytes(path)
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__", {})
    body = data[8 + length:]
    return {k: (v["dtype"], v["shape"], body[slice(*v["data_offsets"])]) for k, v in header.items()}, metadata


def write_safetensors(path, tensors, metadata):
    """The opposite of read_safetensors."""
    header, body = ({"__metadata__": metadata} if metadata else {}), b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)


def floats(tensor):
    """Values of an F32 tensor as read_safetensors gives it."""
    check(tensor[0] == "F32", f"dtype {tensor[0]}")
    values = array.array("f", tensor[2])
    if sys.byteorder == "big":
        values.byteswap()
    return values


def relative_difference(ours, reference):
    check(len(ours) == len(reference), f"{len(ours)} values, not {len(reference)}")
    worst = max(abs(a - b) if a == a else float("inf") for a, b in zip(ours, reference))
    return worst / max(map(abs, reference))


# A network as small as the kernels allow, whose evaluation takes milliseconds.
TINY = {
    "format": "yoda-model-1",
    "name": "tiny",
    "network": {"type": "sr3", "in_channel": 6, "out_channel": 3, "inner_channel": 16, "channel_multiplier": [1, 2],
                "res_blocks": 1, "norm_groups": 8, "attn_res": [], "image_size": 32, "unshuffle": 2, "mid_attention": False,
                "noise_scale": 1000},
    "noise_input": "sqrt_one_minus_gamma", "prediction": "x0", "target": "residual", "residual_scale": 4, "clip": 3,
    "schedule": {"kind": "cosine"}, "scale": 4, "window": 32, "overlap": 8, "conditioning": "pillow8",
    "defaults": {"steps": 3, "sampler": "ddim", "eta": 0.5, "attention": "edge", "mask_form": "add", "lower_bound": 0.4},
}


def tiny_model(path="tiny.safetensors", seed=1):
    """An untrained model whose every layer is random, so that its result differs from plain upsampling."""
    with open("tiny.json", "w") as f:
        json.dump(TINY, f)
    yoda("init", "tiny.json", "-o", path, "--random", "--seed", seed)
    return path


def busy_picture(path, width, height):
    """Half flat, half detail: the attention map has something to decide."""
    def pixel(x, y):
        if x < width // 2:
            return (90, 120, 150)
        v = (x * 73 + y * 151 + x * y * 29) % 256
        return (v, 255 - v, (x * 40 + y * 9) % 256)
    write_png(path, width, height, pixel)
    return path
