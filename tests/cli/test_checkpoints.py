"""Checkpoints as torch.save writes them, at the command line: they run as they are, are described whatever they hold, and converted ones are
guarded against every changed bit."""
import io
import os
import struct
import zipfile

from harness import busy_picture, case, check, read_bytes, read_safetensors, shared, yoda, yoda_fails
from test_public import bare_model

STORAGE = {"F32": ("Float", 4), "BF16": ("BFloat16", 2), "I64": ("Long", 8)}


def text(s):
    return b"X" + struct.pack("<I", len(s.encode())) + s.encode()


def numbers(v):
    return b"(" + b"".join(b"J" + struct.pack("<i", n) for n in v) + b"t"


def strides(shape):
    out = [1]
    for n in reversed(shape[1:]):
        out.insert(0, out[0] * n)
    return out[:len(shape)]


def write_pth(path, tensors, wrap=()):
    """What torch.save makes of {wrap[0]: {wrap[1]: ... {name: tensor}}}, with an epoch at the top of wrapped ones."""
    items = b""
    tensors = {k: (kind, shape, raw(v) if isinstance(v, list) else bytes(v)) for k, (kind, shape, v) in tensors.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        for i, (name, (kind, shape, data)) in enumerate(tensors.items()):
            storage, size = STORAGE[kind]
            items += (text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + f"ctorch\n{storage}Storage\n".encode() + text(str(i)) + text("cuda:0") +
                      b"J" + struct.pack("<i", len(data) // size) + b"tQK\0" + numbers(shape) + numbers(strides(shape)) + b"\x89ccollections\nOrderedDict\n)RtR")
        state = b"ccollections\nOrderedDict\n)R(" + items + b"u"
        for key in reversed(wrap):
            state = b"}(" + text(key) + state + text("epoch") + b"K\x07u"
        z.writestr("archive/data.pkl", b"\x80\x02" + state + b".")
        for i, (_, _, data) in enumerate(tensors.values()):
            z.writestr(f"archive/data/{i}", data)


def raw(values):
    return struct.pack(f"<{len(values)}f", *values)


def network(prefix="denoise_fn."):
    bare_model(prefix=prefix)
    return read_safetensors("bare.safetensors")[0]


@case
def a_checkpoint_runs_as_it_is():
    tensors = network()
    busy_picture("in.png", 21, 17)
    yoda("upscale", "in.png", "safe.png", "--model", "bare.safetensors", "--config", "public.json", "--dtype", "f32")
    for wrap in [(), ("state_dict",), ("checkpoint", "module")]:
        write_pth("net.pth", tensors, wrap)
        yoda("upscale", "in.png", "torch.png", "--model", "net.pth", "--config", "public.json", "--dtype", "f32")
        check(read_bytes("torch.png") == read_bytes("safe.png"), f"{wrap}: another picture")
    said = yoda("inspect", "net.pth", "--config", "public.json", "--no-run").stdout
    for words in ["PyTorch zip", "epoch 7", "a network of the public SR3 code, sr3", "schedule     linear, 6 steps from 0.0001 to 0.5", "parameters"]:
        check(words in said, f"{words} is not in {said}")
    check("beside them  epoch 7" in said and "denoise_fn.downs.0.weight" in yoda("inspect", "net.pth", "--no-run", "--tensors").stdout, said)


@case
def all_that_does_not_fit_is_listed():
    tensors = network("")
    names = [n for n in tensors if "block2" in n and n.endswith("bias")]
    for name in names[:2]:
        del tensors[name]
    kind, shape, data = tensors[names[2]]
    tensors[names[2]] = (kind, [1, *shape], data)
    tensors["one.too.many"] = ("F32", [1], [0.0])
    write_pth("net.pth", tensors)
    run = yoda_fails("inspect", "net.pth", "--no-run", "--config", "public.json", says=["net.pth"])
    for line in [f"missing      {names[0]}", f"missing      {names[1]}", f"other shape  {names[2]} [1,", "unexpected   one.too.many [1]"]:
        check(line in run.stdout, f"{line} is not in {run.stdout}")


@case
def other_checkpoints_are_named():
    one = ("F32", [1], [0.0])
    conv = ("F32", [8, 3, 1, 1], [0.0] * 24)
    files = {"opt": ({"exp_avg": one, "exp_avg_sq": one, "x.step": one}, ["the state of an optimizer", "_gen.pth"]),
             "rrdb": ({"conv_first.weight": conv, "RRDB_trunk.0.RDB1.conv1.weight": conv, "RRDB_trunk.16.RDB1.conv1.weight": conv}, ["SRDiff's encoder alone", "17 blocks, 8 wide"]),
             "free": ({"downs.0.weight": conv, "noise_level_mlp.1.weight": one, "final_conv.block.3.weight": conv}, ["unconditional", "takes no picture"])}
    for name, (tensors, words) in files.items():
        write_pth(f"{name}.pth", tensors, ("state",))
        said = yoda("inspect", f"{name}.pth").stdout
        check(all(w in said for w in words), f"{name}: {said}")
    write_pth("odd.pth", {"x": one})
    run = yoda_fails("inspect", "odd.pth", says=["odd.pth", "no network"])
    check("tensors that no known network has" in run.stdout and "1 F32" in run.stdout, run.stdout)
    with open("page.pth", "wb") as f:
        f.write(b"<!DOCTYPE html><html>sign in</html>")
    yoda_fails("inspect", "page.pth", says=["page.pth", "web page"])


@case
def dino_is_named():
    said = yoda("inspect", shared("fixtures/dino_tiny_full_checkpoint/dino_tiny_full_checkpoint.pth")).stdout
    check("vision transformer of DINO" in said and "teacher and student" in said and "yoda attention" in said, said)


@case
def a_name_finds_every_container_in_a_folder_of_models():
    """models/ in the working directory: the name is the file's without its ending, whatever wrote it; of two files the one that yodad takes too."""
    os.mkdir("models")
    tensors = network()
    busy_picture("in.png", 16, 16)
    names = {"torched": "pth", "short.v2": "pt", "light": "ckpt"}
    for name, ending in names.items():
        write_pth(f"models/{name}.{ending}", tensors)
        yoda("upscale", "in.png", f"{name}.png", "--model", name, "--config", "public.json", "--dtype", "f32")
        yoda("upscale", "in.png", "path.png", "--model", f"models/{name}.{ending}", "--config", "public.json", "--dtype", "f32")
        check(read_bytes(f"{name}.png") == read_bytes("path.png"), f"{name} is not {name}.{ending}")
    with open("models/torched.safetensors", "wb") as f:
        f.write(b"no model")
    yoda_fails("upscale", "in.png", "out.png", "--model", "torched", "--config", "public.json", says=["models/torched.safetensors"])
    yoda_fails("upscale", "in.png", "out.png", "--model", "nobody", says=["nobody"])


@case
def a_flipped_bit_of_a_converted_model_is_found():
    write_pth("net.pth", network(), ("state_dict",))
    busy_picture("in.png", 16, 16)
    yoda("convert", "net.pth", "--out", "ours.safetensors", "--config", "public.json")
    yoda("upscale", "in.png", "whole.png", "--model", "ours.safetensors", "--dtype", "f32")
    yoda("upscale", "in.png", "torch.png", "--model", "net.pth", "--config", "public.json", "--dtype", "f32")
    check(read_bytes("whole.png") == read_bytes("torch.png"), "converting made another network of it")
    check("with a checksum inside" in yoda("inspect", "ours.safetensors", "--no-run").stdout, "nobody says so")
    data = bytearray(read_bytes("ours.safetensors"))
    for place in [9, len(data) // 2, len(data) - 1]:
        data[place] ^= 4
        with open("spoilt.safetensors", "wb") as f:
            f.write(data)
        yoda_fails("upscale", "in.png", "out.png", "--model", "spoilt.safetensors", says=["spoilt.safetensors"])
        data[place] ^= 4
    with open("spoilt.safetensors", "wb") as f:
        f.write(data)
    yoda("inspect", "spoilt.safetensors", "--no-run")


@case
def damaged_checkpoints_are_refused_by_name():
    write_pth("net.pth", network())
    data = read_bytes("net.pth")
    packed = io.BytesIO()
    with zipfile.ZipFile("net.pth") as z, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for name in z.namelist():
            out.writestr(name, z.read(name))
    for name, content, words in [("cut", data[:-9], "cut short"), ("packed", packed.getvalue(), "compressed"), ("head", data[:60], "short")]:
        with open(f"{name}.pth", "wb") as f:
            f.write(content)
        yoda_fails("inspect", f"{name}.pth", says=[f"{name}.pth", words])
    check("one file to write" in yoda("convert", "net.pth", status=2).stderr, "convert without a file to write")
