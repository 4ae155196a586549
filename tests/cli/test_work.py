"""yoda work: counts that can be worked out by hand, and that upscaling confirms; windows of other sizes than the model's."""
import csv
import io
import json
import os
import re

from harness import busy_picture, case, check, read_bytes, tiny_model, write_png, yoda, yoda_fails

STEPS = 10


def work(*arguments):
    """The lines of --csv as dictionaries."""
    text = yoda("work", *arguments, "--model", "tiny.safetensors", "--csv").stdout
    return list(csv.DictReader(io.StringIO(text)))


def flat_picture(path, width, height):
    write_png(path, width, height, lambda x, y: (90, 120, 150))
    return path


@case
def work_of_a_constant_map_is_all_of_it():
    tiny_model()
    flat_picture("in.png", 24, 20)
    lines = work("in.png", "--maps", "constant", "--steps", STEPS, "--windows", "32/8,16/0,96/16")
    check(len(lines) == 2 * 4 * 3, f"{len(lines)} lines")
    windows = {"32": 4 * 3, "16": 6 * 5, "96": 1}  # a canvas of 96 x 80
    for line in lines:
        n = windows[line["window"]]
        check(line["pixel_share"] == line["window_share"] == "1.000000", str(line))
        check(int(line["units"]) == int(line["units_all"]) == n * STEPS, str(line))
        check(abs(float(line["read"]) - n * int(line["window"]) ** 2 / (96 * 80)) < 1e-6, str(line))


@case
def work_of_a_flat_picture_is_the_lower_bound():
    tiny_model()
    flat_picture("in.png", 24, 20)
    lines = work("in.png", "--maps", "edge", "--steps", STEPS, "--windows", "32/8,16/2", "--bounds", "0,0.2,0.7,1")
    check(len(lines) == 2 * 4 * 2, f"{len(lines)} lines")
    for line in lines:
        share = max(float(line["bound"]), 1 / STEPS)
        check(float(line["pixel_share"]) == float(line["window_share"]) == share, str(line))


@case
def work_is_what_upscale_does():
    tiny_model()
    busy_picture("in.png", 40, 28)
    seen = set()
    for window, overlap in [(32, 8), (16, 2), (8, 4), (48, 0)]:
        for form in ("add", "max"):
            line, = work("in.png", "--maps", "edge", "--forms", form, "--bounds", 0.1, "--windows", f"{window}/{overlap}", "--steps", 6)
            said = yoda("upscale", "in.png", "out.png", "--model", "tiny.safetensors", "--attention", "edge", "--mask-form", form,
                        "--lower-bound", 0.1, "--steps", 6, "--window", window, "--overlap", overlap).stdout
            units = re.search(r"([\d.]+)% of .* (\d+) of (\d+) window-steps", said)
            check(units and units[2] == line["units"] and units[3] == line["units_all"], f"{line}\n{said}")
            check(f"{float(line['pixel_share']) * 100:.1f}" == units[1], f"{line}\n{said}")
            check(float(line["pixel_share"]) < float(line["window_share"]) <= 1, str(line))
            seen.add(line["window_share"])
    check(len(seen) > 4, f"all layouts have the same share: {seen}")


@case
def work_counts_every_allocation_as_it_runs():
    tiny_model()
    write_png("busy.png", 160, 112, lambda x, y: ((x * 7919 + y * 104729) % 251,) * 3 if x < 80 and y < 70 else (90, 120, 150))
    os.mkdir("hr")
    os.rename("busy.png", "hr/busy.png")
    shares = {}
    for allocation in ("late", "strided", "windows"):
        for bound in (0.1, 0.5):
            line, = work("hr/busy.png", "--shrink", "--maps", "edge", "--forms", "add", "--bounds", bound, "--windows", "32/8", "--steps", 6,
                         "--allocation", allocation)
            yoda("eval", "--hr", "hr", "--model", "tiny.safetensors", "--window", 32, "--overlap", 8, "-q", "--json", "out.json", "--setting",
                 f"row: attention=edge mask_form=add lower_bound={bound} steps=6 allocation={allocation}")
            with open("out.json") as f:
                ran = json.load(f)["pictures"][0]
            check(line["allocation"] == allocation, str(line))
            check(int(line["units"]) == ran["window_steps"] and int(line["units_all"]) == ran["window_steps_all"], f"{line}\n{ran}")
            check(abs(float(line["pixel_share"]) - ran["diffused_share"]) < 1e-6, f"{line}\n{ran}")
            check(abs(float(line["window_share"]) * float(line["read"]) * 6 - ran["work"]) < 1e-4, f"{line}\n{ran}")
            shares[allocation, bound] = float(line["window_share"])
    for bound in (0.1, 0.5):
        check(shares["late", bound] == shares["strided", bound] > shares["windows", bound], str(shares))


@case
def work_averages_over_pictures_and_shrinks_originals():
    tiny_model()
    flat_picture("flat.png", 96, 80)
    busy_picture("busy.png", 96, 80)
    options = ["--maps", "edge", "--forms", "add", "--bounds", 0.3, "--windows", 32, "--steps", STEPS, "--shrink"]
    (flat,), (busy,), (both,) = work("flat.png", *options), work("busy.png", *options), work("flat.png", "busy.png", *options)
    check(flat["units_all"] == str(4 * 3 * STEPS), f"not shrunk to a quarter: {flat}")
    check(both["pictures"] == "2" and int(both["units"]) == int(flat["units"]) + int(busy["units"]), str(both))
    for field in ("pixel_share", "window_share"):
        mean = (float(flat[field]) + float(busy[field])) / 2
        check(abs(float(both[field]) - mean) < 1e-6 and busy[field] != flat[field], f"{field}: {flat} {busy} {both}")


@case
def work_prints_a_table_for_each_map():
    tiny_model()
    busy_picture("in.png", 24, 20)
    text = yoda("work", "in.png", "--model", "tiny.safetensors", "--maps", "edge,gaussian", "--windows", "32,64/4").stdout
    check(text.count("\nedge\n") == 1 and text.count("\ngaussian\n") == 1 and "constant" not in text, text)
    check(len(re.findall(r"^  (add|max) +[\d.]+( +[01]\.\d{3}){3}$", text, re.M)) == 2 * 2 * 4, text)
    check("32/8" in text and "64/4" in text and max(map(len, text.splitlines())) <= 80, text)
    timed = yoda("work", "in.png", "--model", "tiny.safetensors", "--maps", "edge", "--windows", "32", "--time").stdout
    unit = re.search(r"ms a unit here +([\d.]+)", timed)
    check(unit and float(unit[1]) > 0, timed)


@case
def work_refuses_lists_it_cannot_use():
    tiny_model()
    flat_picture("in.png", 24, 20)
    for option, value, words in [
        ("--maps", "egde", ["attention", "edge"]),
        ("--forms", "sum", ["mask_form", "add, max"]),
        ("--forms", "add,max,add", ["forms", "two"]),
        ("--allocation", "early", ["allocation", "late, strided, windows"]),
        ("--bounds", "0.1,1.5", ["lower_bound", "0 to 1"]),
        ("--bounds", "0.1,", ["bounds", "empty"]),
        ("--bounds", ",".join(["0.1"] * 17), ["bounds", "16"]),
        ("--windows", "64x", ["windows", "64x", "64/8"]),
        ("--windows", "64/", ["windows", "64/"]),
        ("--windows", "34", ["34", "multiple of 4"]),
        ("--windows", "32/17", ["32", "17", "half"]),
    ]:
        yoda_fails("work", "in.png", "--model", "tiny.safetensors", option, value, says=words)
    yoda_fails("work", "in.png", "absent.png", "--model", "tiny.safetensors", says=["absent.png"])
    check("something is missing" in yoda("work", status=2).stderr, "no picture is no mistake")


@case
def small_windows_give_the_same_bytes_with_and_without_skipping():
    tiny_model()
    busy_picture("in.png", 29, 23)
    results = set()
    for window, overlap in [(8, 0), (8, 4), (16, 2), (32, 16), (64, 8)]:
        options = ["--model", "tiny.safetensors", "--dtype", "f32", "--window", window, "--overlap", overlap, "--lower-bound", 0.1, "--steps", 4]
        said = yoda("upscale", "in.png", "one.png", *options).stdout
        run, everything = map(int, re.search(r"(\d+) of (\d+) window-steps", said).groups())
        check(run < everything, f"nothing was skipped: {said}")
        yoda("upscale", "in.png", "all.png", *options, "--no-skip")
        yoda("upscale", "in.png", "two.png", *options, "--threads", 1)
        check(read_bytes("one.png") == read_bytes("all.png"), f"{window}/{overlap}: skipping changed the bytes")
        check(read_bytes("one.png") == read_bytes("two.png"), f"{window}/{overlap}: the thread count changed the bytes")
        results.add(read_bytes("one.png"))
    check(len(results) == 5, "the window changed nothing")


@case
def windows_that_the_network_cannot_take_are_refused():
    tiny_model()
    flat_picture("in.png", 16, 16)
    yoda_fails("upscale", "in.png", "out.png", "--model", "tiny.safetensors", "--window", 34, says=["34", "a multiple of 4"])
    yoda_fails("upscale", "in.png", "out.png", "--model", "tiny.safetensors", "--overlap", 17, says=["17", "half"])
    check("windows of 64 pixels, overlap 16" in yoda("inspect", "tiny.safetensors", "--window", 64).stdout, "inspect keeps the model's window")
