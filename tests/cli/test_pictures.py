"""yoda upscale, yoda attention, yoda sheet."""
import math
import os
import re
import struct
import zlib

from harness import (ROOT, busy_picture, case, check, png_chunk, read_bytes, read_png, read_png_header, tiny_model, unfilter, write_png,
                     yoda, yoda_fails)

F32 = ["--dtype", "f32"]
SHIPPED = ["--model", os.path.join(ROOT, "models", "yoda-compact-4x.safetensors")]


def write_png_as(path, width, height, depth, colour, pixel):
    """A PNG of any depth and colour type; pixel(x, y) gives its samples."""
    kind = ">H" if depth == 16 else "B"
    rows = b"".join(b"\0" + b"".join(struct.pack(kind, v) for x in range(width) for v in pixel(x, y)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b""))


def read_png_as(path):
    """(width, height, depth, channels, samples) of a PNG."""
    data, at, packed = read_bytes(path), 8, b""
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    while at < len(data):
        size = struct.unpack(">I", data[at:at + 4])[0]
        if data[at + 4:at + 8] == b"IDAT":
            packed += data[at + 8:at + 8 + size]
        at += 12 + size
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    step = channels * depth // 8
    raw, out, above = zlib.decompress(packed), bytearray(), bytearray(width * step)
    for y in range(height):
        start = y * (width * step + 1)
        row = bytearray(raw[start + 1:start + 1 + width * step])
        unfilter(row, above, raw[start], step)
        out += row
        above = row
    samples = struct.unpack(f">{len(out) // 2}H", bytes(out)) if depth == 16 else bytes(out)
    return width, height, depth, channels, samples


def upscaled(name, *arguments):
    yoda("upscale", "in.png", name, "--model", "tiny.safetensors", *F32, *arguments)
    return read_bytes(name)


@case
def upscale_is_a_function_of_picture_model_and_settings():
    tiny_model()
    busy_picture("in.png", 24, 20)
    one = upscaled("one.png", "--threads", 1)
    check(read_png_header("one.png") == (96, 80, 2), "not 4 times as large, or not RGB")
    check(one == upscaled("two.png", "--threads", 2), "the thread count changed the bytes")
    check(one == upscaled("all.png", "--no-skip"), "skipping changed the bytes")
    check(upscaled("a.png", "--seed", 1) != upscaled("b.png", "--seed", 2), "the seed did not change the bytes")
    check(upscaled("a.png", "--steps", 2) != upscaled("b.png", "--steps", 4), "steps did not change the bytes")


@case
def upscale_reports_what_it_did():
    tiny_model()
    busy_picture("in.png", 24, 20)
    text = yoda("upscale", "in.png", "out.png", "--model", "tiny.safetensors", "--steps", 4, "--lower-bound", 0.1).stdout
    found = re.search(r"96 x 80, tiny, 4 steps, ([\d.]+)% of the pixel-steps diffused, (\d+) of (\d+) window-steps", text)
    check(found, text)
    share, run, everything = float(found[1]), int(found[2]), int(found[3])
    check(0 < share < 100 and 0 < run <= everything and everything % 4 == 0, text)
    check(yoda("upscale", "in.png", "out.png", "--model", "tiny.safetensors", "--quiet").stdout == "", "quiet is not quiet")


@case
def upscale_writes_previews_of_each_step():
    tiny_model()
    busy_picture("in.png", 16, 16)
    result = upscaled("out.png", "--steps", 3, "--lower-bound", 1, "--preview", "steps")
    check(sorted(os.listdir("steps")) == ["step-0001.png", "step-0002.png", "step-0003.png"], str(os.listdir("steps")))
    check(read_bytes("steps/step-0003.png") == result, "the last preview is not the result")
    check(read_bytes("steps/step-0001.png") != result, "the first preview is the result already")


@case
def upscale_writes_what_the_name_says():
    tiny_model()
    busy_picture("in.png", 16, 16)
    check(upscaled("out.jpg")[:3] == b"\xff\xd8\xff", "not a JPEG")
    check(len(upscaled("low.jpg", "--encode-quality", 20)) < len(upscaled("high.jpg", "--encode-quality", 95)), "quality changes nothing")
    check(upscaled("out.webp")[8:12] == b"WEBP", "not a WebP")
    check(len(upscaled("lossless.webp", "--lossless")) > len(upscaled("lossy.webp")), "lossless changes nothing")
    check(upscaled("out.tif")[:4] in (b"II*\0", b"MM\0*"), "not a TIFF")
    yoda_fails("upscale", "in.png", "out.bmp", "--model", "tiny.safetensors", says=["out.bmp", ".png", ".jpg", ".webp", ".tiff"])
    yoda_fails("upscale", "in.png", "nowhere/out.png", "--model", "tiny.safetensors", says=["nowhere/out.png"])


@case
def upscale_makes_the_size_that_is_asked_for():
    tiny_model()
    busy_picture("in.png", 24, 20)
    for options, size in [(["--scale", 2], (48, 40)), (["--scale", 1.5], (36, 30)), (["--scale", 8], (192, 160)), (["--width", 60], (60, 50)),
                          (["--height", 100], (120, 100)), (["--width", 60, "--height", 45], (54, 45)), (["--scale", 4], (96, 80))]:
        data = upscaled("out.png", *options, "--preview", "steps")
        check(read_png_header("out.png") == (*size, 2), f"{options}: {read_png_header('out.png')}")
        check(read_png_header("steps/step-0001.png") == (96, 80, 2), "previews left the native grid")
    check(data == upscaled("native.png"), "the native scale, asked for, is not the native result")
    text = yoda("upscale", "in.png", "out.png", "--model", "tiny.safetensors", "--width", 60).stdout
    check(text.startswith("out.png: 60 x 50, "), text)


@case
def upscale_keeps_the_depth_or_makes_the_one_asked_for():
    tiny_model()
    write_png_as("in.png", 24, 20, 16, 2, lambda x, y: (20000 + x * 37, 30000 + y * 41, 25000 + x * y))
    for options, depth in [([], 16), (["--bit-depth", "source"], 16), (["--bit-depth", 8], 8)]:
        upscaled("out.png", *options)
        found = read_png_as("out.png")
        check(found[:4] == (96, 80, depth, 3), f"{options}: {found[:4]}")
    busy_picture("bytes.png", 24, 20)
    for options, depth in [([], 8), (["--bit-depth", 16], 16)]:
        yoda("upscale", "bytes.png", "out.png", "--model", "tiny.safetensors", *F32, *options)
        found = read_png_as("out.png")
        check(found[2] == depth, f"{options}: {found[:4]}")
    check(any(v % 257 for v in found[4]), "what the network made of bytes was rounded to bytes")
    yoda("upscale", "bytes.png", "eight.png", "--model", "tiny.safetensors", *F32)
    eight = read_png_as("eight.png")[4]
    check(max(abs(a / 257 - b) for a, b in zip(found[4], eight)) < 0.502, "8 bits are not the 16 bits rounded")


@case
def a_16_bit_ramp_comes_out_with_more_than_256_levels():
    write_png_as("in.png", 48, 24, 16, 2, lambda x, y: (20000 + x * 40,) * 3)
    yoda("upscale", "in.png", "out.png", *SHIPPED, "--steps", 2)
    width, height, depth, channels, samples = read_png_as("out.png")
    check((width, height, depth, channels) == (192, 96, 16, 3), f"{width} {height} {depth} {channels}")
    check(len(set(samples[0::3])) > 256, f"{len(set(samples[0::3]))} levels")
    check(max(abs(v - 20000 - (i // 3 % 192) * 10) for i, v in enumerate(samples)) < 20 * 257, "it is no ramp any more")


@case
def a_disc_on_nothing_has_no_rim():
    def disc(unseen):
        def pixel(x, y):
            inside = sum((x + (i % 8 + .5) / 8 - 16) ** 2 + (y + (i // 8 + .5) / 8 - 16) ** 2 < 100 for i in range(64)) / 64
            return (200, 30, 40, round(255 * inside)) if inside else (unseen, unseen, unseen, 0)
        return pixel
    results = []
    for unseen in (0, 255):
        write_png_as("in.png", 32, 32, 8, 6, disc(unseen))
        yoda("upscale", "in.png", "out.png", *SHIPPED, "--steps", 2)
        results.append(read_png_as("out.png"))
    width, height, depth, channels, samples = results[0]
    check((width, height, depth, channels) == (128, 128, 8, 4) and results[0] == results[1], "what transparency hides came through")
    rim = max(samples[i + 3] / 255 * abs(samples[i + c] - (200, 30, 40)[c]) for i in range(0, len(samples), 4) for c in range(3))
    check(rim <= 8, f"over any background the disc is {rim:.1f} of 255 off its colour")
    opacity = samples[3::4]
    check(opacity[64 * 128 + 64] == 255 and opacity[0] == 0 and abs(sum(opacity) / 255 - 3.14159 * 40 * 40) < 100, "the disc has another shape")


@case
def upscale_reports_what_was_invented():
    tiny_model()
    busy_picture("in.png", 24, 20)
    command = ["upscale", "in.png", "out.png", "--model", "tiny.safetensors", *F32, "--report", "invented.png"]
    text = yoda(*command).stdout
    found = re.search(r"\ninvented.png: detail added ([\d.]+) \(rms, of 255\), ([\d.]+)% of the result's pixels changed; contradicts ([\d.]+)% of the "
                      r"input's pixels, by ([\d.]+) \(rms\), reduced result ([\d.]+) dB\n", text)
    check(found and float(found[1]) > 0.5 and float(found[2]) > 1, text)
    check(abs(float(found[5]) - 20 * math.log10(255 / float(found[4]))) < 0.2, f"{found[4]} is not {found[5]} dB")
    check(read_png_header("invented.png") == (96, 80, 2), f"{read_png_header('invented.png')}")
    first = read_bytes("invented.png")
    check(len(set(read_png("invented.png"))) > 8, "a picture of nothing")
    yoda(*command, "--width", 50)
    check(read_png_header("invented.png") == (50, 42, 2), "not the size of the result")
    check(yoda(*command, "--quiet").stdout == "" and read_bytes("invented.png") == first, "not the same twice")
    yoda_fails(*command[:-1], "invented.txt", says=["invented.txt", ".png"])


@case
def upscale_refuses_what_it_cannot_read():
    tiny_model()
    with open("text.png", "w") as f:
        f.write("this is no picture")
    write_png("small.png", 15, 40, lambda x, y: (0, 0, 0))
    busy_picture("in.png", 16, 16)
    with open("cut.png", "wb") as f:
        f.write(read_bytes("in.png")[:200])
    for name in ["text.png", "small.png", "cut.png", "absent.png"]:
        yoda_fails("upscale", name, "out.png", "--model", "tiny.safetensors", says=[name])
    check(not os.path.exists("out.png"), "a file was written all the same")


@case
def upscale_refuses_bad_settings_with_what_it_accepts():
    tiny_model()
    busy_picture("in.png", 16, 16)
    for option, value, words in [
        ("--steps", "0", ["steps", "4000"]),
        ("--steps", "many", ["steps", "4000"]),
        ("--eta", "1.5", ["eta", "0 to 1"]),
        ("--attention", "nose", ["nose", "edge"]),
        ("--sampler", "euler", ["sampler", "ddim"]),
        ("--mask-form", "mul", ["mask_form", "max"]),
        ("--scale", "9", ["scale", "at most 8"]),
        ("--width", "16", ["width", "17 to 128"]),
        ("--height", "tall", ["height", "integer"]),
        ("--encode-quality", "101", ["encode_quality", "1 to 100"]),
        ("--encode-quality", "0", ["encode_quality", "1 to 100"]),
        ("--winograd", "perhaps", ["winograd", "auto, off"]),
        ("--bit-depth", "12", ["bit_depth", "source, 8, 16"]),
        ("--metadata", "none", ["metadata", "keep, strip-gps, strip"]),
        ("--color-space", "cmyk", ["color_space", "source, srgb"]),
        ("--dtype", "f16", ["f16", "bf16"]),
        ("--device", "tpu", ["tpu", "cpu"]),
    ]:
        yoda_fails("upscale", "in.png", "out.png", "--model", "tiny.safetensors", option, value, says=["accepted", *words])


@case
def upscale_refuses_output_settings_that_contradict_each_other():
    tiny_model()
    busy_picture("in.png", 16, 16)
    for out, options, words in [("out.jpg", ["--bit-depth", 16], ["16", "png or tiff"]), ("out.jpg", ["--lossless"], ["lossless"]),
                                ("out.png", ["--scale", 2, "--width", 40], ["scale", "width"])]:
        yoda_fails("upscale", "in.png", out, "--model", "tiny.safetensors", *options, says=["accepted", *words])
        check(not os.path.exists(out), "a file was written all the same")


@case
def attention_is_a_grey_map_that_sees_detail():
    busy_picture("in.png", 32, 24)
    yoda("attention", "in.png", "map.png", "--method", "edge", "--scale", 2)
    check(read_png_header("map.png") == (64, 48, 0), f"{read_png_header('map.png')}")
    plane = read_png("map.png")
    flat = [plane[y * 64 + x] for y in range(8, 40) for x in range(4, 20)]
    detail = [plane[y * 64 + x] for y in range(8, 40) for x in range(44, 60)]
    check(sum(detail) > 4 * sum(flat), f"detail {sum(detail)}, flat {sum(flat)}")
    yoda_fails("attention", "in.png", "map.png", "--method", "nose", says=["nose", "edge"])


@case
def sheet_compares_four_panels():
    tiny_model()
    busy_picture("in.png", 130, 97)
    sheet = ["sheet", "in.png", "sheet.png", "--model", "tiny.safetensors", "--crop", 48, "--zoom", 2, "--rows", 2]
    text = yoda(*sheet).stdout
    found = re.search(r"bicubic PSNR ([\d.]+) SSIM (-?[\d.]+), yoda PSNR ([\d.]+) SSIM (-?[\d.]+)", text)
    check(found and 5 < float(found[1]) < 60 and 1 < float(found[3]) < 60, text)
    check(read_png_header("sheet.png") == (4 * (96 + 8) + 8, 2 * (96 + 8) + 30, 2), f"{read_png_header('sheet.png')}")


@case
def sheet_finds_a_flat_picture_perfect_in_bicubic():
    tiny_model()
    write_png("in.png", 80, 80, lambda x, y: (10, 200, 60))
    text = yoda("sheet", "in.png", "sheet.png", "--model", "tiny.safetensors", "--crop", 64, "--rows", 1).stdout
    check("bicubic PSNR 100.000 SSIM 1.0000" in text, text)
    yoda_fails("sheet", "in.png", "sheet.png", "--model", "tiny.safetensors", "--scale", 2, says=["4x"])


@case
def fidelity_and_allocation_are_repeatable_and_change_the_picture():
    tiny_model()
    busy_picture("in.png", 29, 23)
    results = set()
    for options in ([], ["--fidelity", 0.5], ["--fidelity", 1], ["--allocation", "strided"], ["--allocation", "strided", "--fidelity", 0.5],
                    ["--allocation", "windows"]):
        options = ["--model", "tiny.safetensors", "--dtype", "f32", "--lower-bound", 0.1, "--steps", 6, *options]
        yoda("upscale", "in.png", "one.png", *options)
        yoda("upscale", "in.png", "all.png", *options, "--no-skip")
        yoda("upscale", "in.png", "two.png", *options, "--threads", 1)
        check(read_bytes("one.png") == read_bytes("all.png") == read_bytes("two.png"), f"{options}: skipping or threads changed the bytes")
        results.add(read_bytes("one.png"))
    check(len(results) == 6, "a setting changed nothing")
    yoda("upscale", "in.png", "plain.png", "--model", "tiny.safetensors", "--dtype", "f32", "--attention", "constant", "--allocation", "strided")
    yoda("upscale", "in.png", "same.png", "--model", "tiny.safetensors", "--dtype", "f32", "--attention", "constant", "--fidelity", 0)
    check(read_bytes("plain.png") == read_bytes("same.png"), "where every pixel has every step there is nothing to allocate")
    yoda_fails("upscale", "in.png", "out.png", "--model", "tiny.safetensors", "--fidelity", 2, says=["fidelity", "0 to 1"])
    yoda("convert", "tiny.safetensors", "eps.safetensors", "--set", "prediction=eps")
    yoda_fails("upscale", "in.png", "out.png", "--model", "eps.safetensors", "--fidelity", 0.5, says=["fidelity", "predicts noise"])
