#!/usr/bin/env python3
"""Make the seeds of the fuzz targets: tests/fuzz/seeds.py FOLDER. Small files of every kind that a parser takes, written by hand, byte by byte
the same each time; tests/fuzz/corpus holds them, and what running the targets has found worth keeping."""
import json
import os
import struct
import sys
import zlib


# ---- checkpoints

def text(s):
    b = s.encode()
    return b"X" + struct.pack("<I", len(b)) + b


def number(n):
    return b"K" + bytes([n]) if 0 <= n < 256 else b"J" + struct.pack("<i", n)


def tuple_of(*items):
    return b"(" + b"".join(items) + b"t"


def storage(kind, key, numel, legacy):
    return tuple_of(text("storage"), f"ctorch\n{kind}Storage\n".encode(), text(key), text("cpu"), number(numel), *([b"N"] if legacy else [])) + b"Q"


def tensor(kind, key, numel, shape, stride, offset=0, legacy=False):
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + tuple_of(storage(kind, key, numel, legacy), number(offset), tuple_of(*map(number, shape)),
                                                            tuple_of(*map(number, stride)), b"\x89", b"ccollections\nOrderedDict\n)R") + b"R"


def state(legacy=False, keys=("0", "1")):
    items = [text("downs.0.weight") + tensor("Float", keys[0], 8, (2, 4), (4, 1), 0, legacy),
             text("turned") + tensor("Float", keys[0], 8, (4, 2), (1, 4), 0, legacy), text("n") + tensor("Long", keys[1], 1, (), (), 0, legacy)]
    return b"ccollections\nOrderedDict\n)R(" + b"".join(items) + b"u}" + text("_metadata") + b"ccollections\nOrderedDict\n)Rsb"


def checkpoint(legacy=False, keys=("0", "1")):
    return (b"\x80\x02}(" + text("epoch") + number(3) + text("state_dict") + b"}" + text("model") + state(legacy, keys) + b"s" +
            text("args") + b"cargparse\nNamespace\n)\x81}" + text("lr") + b"G\x3f\x1a\x36\xe2\xeb\x1c\x43\x2dsb" + text("list") + b"](K\x01N\x88eu.")


DATA = [struct.pack("<8f", *range(8)), struct.pack("<q", 7)]


def zip_file(entries, wide=False, descriptor=False):
    out, central = b"", b""
    flags = 0x0808 if descriptor else 0
    for name, data in entries:
        at, shown = len(out), 0 if descriptor else len(data)
        out += struct.pack("<IHHHIIIIHH", 0x04034b50, 20, flags, 0, 0, 0, shown, shown, len(name), 6) + name + b"FB\x02\0ZZ" + data
        if descriptor:
            out += b"PK\x07\x08" + struct.pack("<III", 0, len(data), len(data))
        size, place = (0xffffffff, 0xffffffff) if wide else (len(data), at)
        extra = struct.pack("<HHQQQ", 1, 24, len(data), len(data), at) if wide else b""
        central += struct.pack("<IHHHHIIIIHHHHHII", 0x02014b50, 0, 20, flags, 0, 0, 0, size, size, len(name), len(extra), 0, 0, 0, 0, place) + name + extra
    start, end64 = len(out), len(out) + len(central)
    out += central
    if wide:
        out += struct.pack("<IQHHIIQQQQ", 0x06064b50, 44, 30, 45, 0, 0, len(entries), len(entries), len(central), start)
        out += struct.pack("<IIQI", 0x07064b50, 0, end64, 1)
        return out + struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, 0xffff, 0xffff, 0xffffffff, 0xffffffff, 0)
    return out + struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, len(entries), len(entries), len(central), start, 0)


def torch_zip(**how):
    return zip_file([(b"m/data.pkl", checkpoint()), (b"m/byteorder", b"little"), (b"m/data/0", DATA[0]), (b"m/data/1", DATA[1]), (b"m/version", b"3\n")], **how)


def torch_legacy():
    head = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}(" + text("protocol_version") + b"M\xe9\x03" + text("little_endian") + b"\x88u."
    keys = b"\x80\x02](" + text("11") + text("22") + b"e."
    return head + checkpoint(True, ("11", "22")) + keys + struct.pack("<q", 8) + DATA[0] + struct.pack("<q", 1) + DATA[1]


def safetensors(header, data):
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


OURS = {"format": "yoda-model-1", "name": "small", "network": {"type": "sr3", "inner_channel": 8, "channel_multiplier": [1, 2], "res_blocks": 1, "norm_groups": 4,
        "attn_res": [8], "image_size": 32, "unshuffle": 2, "mid_attention": False, "noise_scale": 1000}, "prediction": "x0", "target": "residual", "residual_scale": 4,
        "clip": 3, "mask_input": False, "schedule": {"kind": "cosine", "train_steps": 50}, "scale": 4, "window": 32, "overlap": 8, "conditioning": "pillow8",
        "defaults": {"steps": 6, "sampler": "ddim", "eta": 0.5, "attention": "edge", "mask_form": "max", "lower_bound": 0.2, "dtype": "auto"},
        "profiles": {"fast": {"steps": 2, "spacing": 2}, "best": {"sampler": "dpmpp_2m"}}}
PUBLIC = """{ "name": "sr", // of the experiment
 "model": {"which_model_G": "ddpm", "unet": {"in_channel": 6, "out_channel": 3, "inner_channel": 16, "norm_groups": 8, "channel_multiplier": [1, 2], "attn_res": [16],
 "res_blocks": 1, "dropout": 0.2}, "beta_schedule": {"train": {"schedule": "linear", "n_timestep": 20, "linear_start": 1e-4, "linear_end": 2e-2},
 "val": {"schedule": "linear", "n_timestep": 20, "linear_start": 1e-4, "linear_end": 2e-2}}, "diffusion": {"image_size": 32, "channels": 3, "conditional": true}},
 "datasets": {"val": {"l_resolution": 8, "r_resolution": 32}}}"""


def model_files():
    f32 = {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}
    metadata = {"yoda.config": json.dumps(OURS), "yoda.checksum": "sha256:" + "0" * 64, "yoda.sealed": "yoda.checksum"}
    yield "plain", safetensors({"a": f32}, DATA[0])
    yield "sealed", safetensors({"__metadata__": metadata, "a.b": f32, "n": {"dtype": "I64", "shape": [], "data_offsets": [32, 40]}}, DATA[0] + DATA[1])
    yield "types", safetensors({k: {"dtype": k, "shape": [4, 0], "data_offsets": [0, 0]} for k in ["F16", "BF16", "F64", "U8", "BOOL", "F4"]}, b"")
    net = {"denoise_fn.downs.0.weight": [4, 6, 1, 1], "denoise_fn.noise_level_mlp.1.weight": [1, 1], "denoise_fn.final_conv.block.3.weight": [3, 4, 1, 1],
           "denoise_fn.downs.1.res_block.block1.block.3.weight": [4, 4, 1, 1], "betas": [4]}
    header, at = {}, 0
    for name, shape in net.items():
        n = 4
        for d in shape:
            n *= d
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + n]}
        at += n
    yield "sr3", safetensors(header, bytes(at))


# ---- pictures

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(big, entries, thumbnail=()):
    e = ">" if big else "<"

    def directory(at, rows, following):
        head, extra, place = struct.pack(e + "H", len(rows)), b"", at + 2 + 12 * len(rows) + 4
        for tag, kind, count, value in rows:
            if isinstance(value, bytes):
                head += struct.pack(e + "HHII", tag, kind, count, place + len(extra))
                extra += value
            else:
                head += struct.pack(e + "HHI", tag, kind, count) + (struct.pack(e + "HH", value, 0) if kind == 3 else struct.pack(e + "I", value))
        end = place + len(extra)
        return head + struct.pack(e + "I", end if following else 0) + extra

    first = directory(8, entries, bool(thumbnail))
    second = directory(8 + len(first), thumbnail, False) if thumbnail else b""
    return (b"MM\0*" if big else b"II*\0") + struct.pack(e + "I", 8) + first + second


def exif(big):
    return tiff(big, [(0x0112, 3, 1, 6), (0x010f, 2, 6, b"maker\0"), (0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0x011a, 5, 1, struct.pack(">II", 72, 1))],
                [(0x0103, 3, 1, 6), (0x0201, 4, 1, 8), (0x0202, 4, 1, 4)])


def pictures():
    ihdr = struct.pack(">IIBBBBB", 20, 20, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(20 * 61), 9)
    yield "png", (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"cHRM", struct.pack(">8I", *range(8))) + chunk(b"sRGB", b"\0") +
                  chunk(b"eXIf", exif(True)) + chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    sof = struct.pack(">BHHB", 8, 20, 20, 3) + bytes([1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1])
    sos = bytes([3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0])

    def marker(m, d):
        return bytes([0xff, m]) + struct.pack(">H", len(d) + 2) + d

    yield "jpeg", (b"\xff\xd8" + marker(0xe0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + marker(0xe1, b"Exif\0\0" + exif(False)) + marker(0xc2, sof) + marker(0xda, sos) + b"\x12\xff\0\x34" +
                   marker(0xda, sos) + b"\x56\xff\xd9")
    for big in (False, True):
        yield f"tiff-{big}", tiff(big, [(0x100, 4, 1, 20), (0x101, 4, 1, 20), (0x103, 3, 1, 1), (0x106, 3, 1, 2), (0x111, 4, 1, 8), (0x115, 3, 1, 3), (0x116, 4, 1, 20), (0x117, 4, 1, 4),
                                         (0x142, 3, 1, 16), (0x143, 3, 1, 16)], [(0xfe, 4, 1, 1), (0x100, 4, 1, 10), (0x101, 4, 1, 10)])
    yield "webp", b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\x08\0\0\0\x13\0\0\x13\0\0"
    yield "avif", b"\0\0\0\x1cftypavif\0\0\0\0mif1miafavif"
    yield "gif", b"GIF89a\x14\0\x14\0"


XMP = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif='http://ns.adobe.com/exif/1.0/' tiff:Orientation="6" exif:GPSLatitude='1,2N'>
<tiff:ImageWidth>20</tiff:ImageWidth><exif:GPSLongitude>3,4E</exif:GPSLongitude><!-- c --><![CDATA[x]]></rdf:Description></rdf:RDF></x:xmpmeta>"""


def metadata():
    for i, e in enumerate([exif(False), b"Exif\0\0" + exif(True)]):
        yield f"exif-{i}", b"\1" + e
    yield "xmp", b"\1" + XMP
    yield "xmp-keep", b"\0" + XMP
    body = exif(False)
    yield "block", struct.pack("<IIQQQQdd", 0x59444d31, 0, 0, len(body), len(XMP), 0, 2.8, 2.8) + body + XMP


# ---- requests and files of the daemon

def form(*parts):
    out = b""
    for name, filename, data in parts:
        extra = f'; filename="{filename}"' if filename else ""
        out += f'--BB\r\nContent-Disposition: form-data; name="{name}"{extra}\r\nContent-Type: x/y\r\n\r\n'.encode() + data + b"\r\n"
    return out + b"--BB--\r\n"


def forms():
    yield "one", form(("image", "a.png", b"\x89PNG"))
    yield "all", form(("image", "../x/\xe4.png", b"1"), ("settings", "", b'{"steps": 4, "attention": "edge"}'), ("image", "", b"22"))
    yield "wrong", form(("picture", "a", b"1"))


SETTINGS = ["steps=8", "seed=18446744073709551615", "sampler=ddim", "eta=0.5", "attention=gaussian", "mask_form=add", "lower_bound=0.4", "fidelity=0.25", "quality=fast", "format=webp",
            "encode_quality=90", "lossless=true", "bit_depth=16", "metadata=strip-gps", "color_space=srgb", "scale=2.5", "width=640", "height=480", "report=true", "preview_every=2",
            "priority=high", "deadline_ms=100", "dtype=bf16", "allocation=windows", "spacing=2", "variance=beta"]


def settings():
    yield "lines", "\n".join(SETTINGS).encode()
    for i, s in enumerate(SETTINGS):
        yield f"line-{i:02}", s.encode()


def bodies():
    yield "body", b'{"image": {"base64": "iVBORw0KGgo="}, "steps": 4, "lower_bound": 0.3, "report": true}'
    yield "url", b'{"input": {"url": "https://files.example/a.png"}, "result": {"url": "https://x.example/"}, "webhook": {"url": "https://y.example/", "secret": "s"}}'


HEADERS = ["bytes=0-1", "bytes=-5", "bytes=3-", "bytes=0-1,3-4", 'W/"abc", "abc-yfp1:1"', "*", "image/webp;q=0.8, image/*;q=0.1, */*", "image/png; q=1.000;level=1, image/jpeg;q=0", "0",
           "18446744073709551615", "https://files.example:8443/a/b.png?x=%20", "http://[::1]:80/", "*.example.net:8443, files.example.org", "10.1.0.0/16, fd00::/8 192.168.0.1"]


def headers():
    for i, h in enumerate(HEADERS):
        yield f"{i:02}", bytes([i * 17]) + h.encode()


FORWARDED = ["0:198.51.100.7, 10.0.0.1", "0:10.0.0.1\n0:198.51.100.7:4711, [fd00::2]:80\n1:https", "2:for=198.51.100.7;proto=https, for=10.0.0.1", '2:for="[fd00::1]:80";by=_hidden\n2:for=unknown',
             '2:for="a\\\\\\"b";proto=HTTP', "X-Forwarded-For:10.0.0.1\nForwarded:for=10.0.0.2", "0:" + "10.0.0.1," * 40, "respond-async, wait=10", "wait=999999999999999999999",
             "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "a.b_c-D0"]


def forwarded():
    for i, h in enumerate(FORWARDED):
        yield f"{i:02}", bytes([i]) + h.encode()


def configs():
    yield "config", b'{"listen": "[::1]:8080", "max_body_bytes": "32MiB", "threads": 2, "content_cache": false, "device": "cpu", "dtype": "f32,bf16", "winograd": "off"}'
    yield "keys", b"# keys\nalice " + b"0" * 64 + b" scopes=submit,read rate=10/s work=100/s max_jobs=3\nbob " + b"ab" * 32 + b"\n"
    yield "secrets", b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nalice whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"


def rows():
    sizes = {k: 16 for k in ["in_w", "in_h", "in_depth", "in_pages", "grid_w", "grid_h", "out_w", "out_h", "out_depth"]} | {"in_format": "png"}
    kept = {"quality": "fast", "dtype": "f32", "report": True, "preview_every": 0, "preview_max_side": 512, "priority": "normal", "deadline_ms": 0, "steps": 4, "seed": 7,
            "sampler": "ddim", "eta": 0.5, "attention": "edge", "lower_bound": 0.4, "format": "png", "bit_depth": 0}
    record = {"v": 1, "model": "m", "fingerprint": "yfp1:0", "created": 1, "started": 2, "settings": kept, "sizes": sizes, "progress": {"step": 1, "steps": 4, "done": 3, "share": 0.5},
              "timings": {"wait": 1.5}, "cached": 0, "resumed": 0, "boot": 1, "problem": {"code": -19, "detail": "d", "field": "f", "accepted": ""}}
    yield "record", json.dumps(record).encode()
    yield "record-without", json.dumps({"v": 1}).encode()
    yield "events", b'1 queued {"state":"queued"}\n2 started {"state":"running"}\n3 progress {"step":1}\n4 succeeded {}\n'


def messages():
    request = struct.pack("<QQIiQQQQQQqQiiiiiiiiiiii", 1, 0, 10, 0, 1 << 20, 100, 1024, 0, 4096, 16 * 16 * 8, 1 << 20, 1 << 24, 16, 4096, 16, 16, 3, 8, 0, 90, 0, 6, 0, 0)
    answer = struct.pack("<iiiiiiii4xQQ16s384s96s256s", 0, 16, 16, 3, 8, 1, 0, 0, 0, 10, b"png", b"detail", b"field", b"accepted")
    for op in range(3):
        yield f"op-{op}", bytes([op]) + request + answer
        yield f"fails-{op}", bytes([op]) + request + struct.pack("<i", -3) + answer[4:]


SEEDS = {
    "safetensors": model_files,
    "torch_zip": lambda: [("plain", torch_zip()), ("wide", torch_zip(wide=True)), ("descriptor", torch_zip(descriptor=True)), ("both", torch_zip(wide=True, descriptor=True))],
    "torch_legacy": lambda: [("plain", torch_legacy())],
    "pickle": lambda: [("checkpoint", checkpoint()), ("protocol4", b"\x80\x04\x95\x20\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94K\x01\x8c\x01b\x94]\x94(NK\x02e\x8c\x05torch\x94\x8c\x04Size\x94\x93\x94K\x03\x85\x94R\x94u."),
                       ("numbers", b"\x80\x02(K\xffM\xff\xffJ\xff\xff\xff\xff\x8a\x02\0\x80\x8a\0\x8a\x0a0123456789G\x40\x09\x21\xfb\x54\x44\x2d\x18\x88\x89NU\x01x01t."), ("itself", b"]q\0h\0a.")],
    "model_config": lambda: [("ours", json.dumps(OURS).encode()), ("public", PUBLIC.encode()), ("least", b'{"format": "yoda-model-1"}')],
    "json": lambda: [("all", b'{"a": [1, -2.5e3, true, false, null, "\\u00e4\\ud83d\\ude00\\n"], "b": {}}'), ("comments", b'[1, // one\n2]'), ("deep", b"[" * 40 + b"]" * 40)],
    "headers": headers,
    "forwarded": forwarded,
    "settings": settings,
    "body": bodies,
    "multipart": forms,
    "picture": pictures,
    "metadata": metadata,
    "config": configs,
    "store": rows,
    "codec_wire": messages,
}


def main(folder):
    for target, make in SEEDS.items():
        os.makedirs(os.path.join(folder, target), exist_ok=True)
        for name, data in make():
            with open(os.path.join(folder, target, f"seed-{name}"), "wb") as f:
                f.write(data)


if __name__ == "__main__":
    main(sys.argv[1])
