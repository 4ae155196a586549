"""yoda upscale, yoda attention, yoda sheet."""
import os
import re

from harness import busy_picture, case, check, read_bytes, read_png, read_png_header, tiny_model, write_png, yoda, yoda_fails

F32 = ["--dtype", "f32"]


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
    check(len(upscaled("low.jpg", "--quality", 20)) < len(upscaled("high.jpg", "--quality", 95)), "quality changes nothing")
    yoda_fails("upscale", "in.png", "out.bmp", "--model", "tiny.safetensors", says=["out.bmp", ".png", ".jpg"])
    yoda_fails("upscale", "in.png", "nowhere/out.png", "--model", "tiny.safetensors", says=["nowhere/out.png"])


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
        ("--dtype", "f16", ["f16", "bf16"]),
        ("--device", "tpu", ["tpu", "cpu"]),
    ]:
        yoda_fails("upscale", "in.png", "out.png", "--model", "tiny.safetensors", option, value, says=["accepted", *words])


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
