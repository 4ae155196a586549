#!/usr/bin/env python3
"""The tables of docs/models.md and docs/attention-work.md, measured anew: Markdown on stdout.

    tests/bench/model_tables.py [--model FILE] [TABLE...]     axes fidelity windows frontier maps sets (default: all)

Every row is a setting of `yoda eval`. The pictures are Set5's butterfly, head and bird and Set14's flowers, comic and pepper
("six"), four of them ("four"), or both sets whole; they and the LPIPS weights lie below $YODA_SHARED (../shared). No time is measured, so that
other work beside it does no harm.
"""
import argparse
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile

SHARED = os.environ.get("YODA_SHARED") or "../shared"
YODA = os.environ.get("YODA") or "build/yoda"
LPIPS = f"{SHARED}/data/weights/lpips_squeeze_v0.1.safetensors"
SIX = ["set5/butterfly", "set5/head", "set5/bird", "set14/flowers", "set14/comic", "set14/pepper"]
FOUR = ["set5/butterfly", "set5/bird", "set5/head", "set14/comic"]

# What the columns before the figures say, and the setting that is measured. An empty setting is the default profile.
AXES = [("**balanced** | dpmpp_2m, spacing 3, windows 64/8 | 6", ""),
        ("spacing | 1 (even steps) | 6", "spacing=1"),
        ("spacing | 2 | 6", "spacing=2"),
        ("sampler | ddim | 6", "sampler=ddim"),
        ("sampler, spacing | ddim, even steps, eta 0.5 | 12", "sampler=ddim steps=12 spacing=1 eta=0.5"),
        ("sampler, spacing | ancestral, even steps | 24", "sampler=ancestral steps=24 spacing=1"),
        ("eta | 0.5 | 6", "sampler=ddim eta=0.5"),
        ("steps | | 2", "steps=2"), ("steps | | 3", "steps=3"), ("steps | | 4 (fast)", "steps=4"),
        ("steps | | 8", "steps=8"), ("steps | | 10", "steps=10"), ("steps | | 12 (best)", "steps=12"),
        ("steps | | 16", "steps=16"), ("steps | | 24", "steps=24"),
        ("steps, spacing | spacing 2 | 12", "steps=12 spacing=2"),
        ("steps, fidelity | fidelity 0.15 | 12", "steps=12 fidelity=0.15"),
        ("steps, fidelity | fidelity 0.25 | 16", "steps=16 fidelity=0.25"),
        ("mask | edge, add 0.6, late | 8", "attention=edge steps=8 allocation=late lower_bound=0.6"),
        ("mask | edge, add 0.4, strided | 8", "attention=edge steps=8 allocation=strided lower_bound=0.4"),
        ("mask | edge, add 0.4, windows | 8", "attention=edge steps=8 allocation=windows lower_bound=0.4")]
FIDELITY = [(f, f"fidelity={f}") for f in ("0", "0.15", "0.25", "0.5", "0.75", "1")]
WINDOWS = ["32/4", "48/6", "64/8", "96/12", "128/16", "256/32"]
MASKED = [(f"{m} {form}{a} {b}, {n} steps", f"attention={m} mask_form={form.strip() or 'add'} steps={n} allocation={a} lower_bound={b}")
          for m, form, n, a, bounds in (("edge", "", 8, "late", (0.2, 0.4, 0.6)), ("edge", "", 8, "strided", (0.2, 0.4, 0.6)),
                                        ("edge", "", 8, "windows", (0.2, 0.4, 0.6)), ("edge", "max ", 12, "windows", (0.2, 0.4)),
                                        ("gaussian", "", 8, "late", (0.2,)), ("gaussian", "", 8, "strided", (0.2,)),
                                        ("gaussian", "", 12, "windows", (0.2, 0.4)), ("sift", "", 8, "late", (0.4,)),
                                        ("sift", "", 8, "strided", (0.4,)), ("sift", "", 12, "windows", (0.2, 0.4)))
          for b in bounds]
FRONTIER = [(f"no mask, {n} steps", f"attention=constant steps={n}") for n in (2, 3, 4, 5, 6, 8, 10, 12, 16)] + MASKED
MAPS = [(f"none | {n} steps", f"steps={n}") for n in (4, 5, 6, 8)] + [
    (f"{m} | {a}, {form}{b}", f"attention={m} steps=8 allocation={a} mask_form={form.strip() or 'add'} lower_bound={b}")
    for m, a, form, b in (("learned", "windows", "", 0.1), ("learned", "windows", "", 0.3), ("learned", "windows", "max ", 0.3),
                          ("edge", "windows", "", 0.1), ("edge", "windows", "", 0.3), ("gaussian", "windows", "", 0.3),
                          ("sift", "windows", "", 0.1), ("sift", "windows", "", 0.3), ("learned", "late", "", 0.3),
                          ("edge", "late", "", 0.3), ("gaussian", "late", "", 0.3), ("sift", "late", "", 0.3))]
PROFILES = [(q, f"quality={q}") for q in ("fast", "balanced", "best")]


def folder(names):
    where = tempfile.mkdtemp(prefix="tables-")
    for name in names:
        shutil.copy(f"{SHARED}/data/test/{name}.png", os.path.join(where, name.replace("/", "-") + ".png"))
    return where


def evaluate(hr, model, settings, *more):
    """The means of each setting over a folder of originals."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        args = [YODA, "eval", "--hr", hr, "--scale", "4", "--lpips", LPIPS, "--quiet", "--json", out.name, *more]
        args += ["--model", model] if model else []
        for i, setting in enumerate(settings):
            args += ["--setting", f"r{i}: {setting}"]
        subprocess.run(args, check=True, stdout=subprocess.DEVNULL)
        result = json.load(open(out.name))
        return [row["mean"] for row in result.get("rows", [result])]


def ratio(m):
    return m["lpips"] / m["bicubic_lpips"]


def table(title, head, lines):
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for line in lines:
        print(f"| {line} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="")
    parser.add_argument("tables", nargs="*")
    args = parser.parse_args()
    wanted = args.tables or ["axes", "fidelity", "windows", "frontier", "maps", "sets"]
    six, four = folder(SIX), folder(FOUR)
    try:
        if "axes" in wanted:
            means = evaluate(six, args.model, [s or "eta=0" for _, s in AXES])
            table("axes, six pictures", ["axis", "setting", "steps", "PSNR", "LPIPS", "ratio"],
                  [f"{t} | {m['psnr']:.2f} | {m['lpips']:.4f} | {ratio(m):.3f}" for (t, _), m in zip(AXES, means)])
        if "fidelity" in wanted:
            means = evaluate(six, args.model, [s for _, s in FIDELITY])
            table("fidelity, six pictures", ["fidelity", "PSNR", "LPIPS", "ratio", "LR-PSNR"],
                  [f"{t} | {m['psnr']:.2f} | {m['lpips']:.4f} | {ratio(m):.3f} | {m['lr_psnr']:.2f}" for (t, _), m in zip(FIDELITY, means)])
        if "windows" in wanted:
            rows = []
            for w in WINDOWS:
                m = evaluate(six, args.model, ["eta=0"], "--window", w.split("/")[0], "--overlap", w.split("/")[1])[0]
                rows.append(f"{w} | {m['work']:.2f} | {m['psnr']:.2f} | {m['lpips']:.4f} | {ratio(m):.3f}")
            table("windows, six pictures", ["window/overlap", "work", "PSNR", "LPIPS", "ratio"], rows)
        for name, settings, first in (("frontier", FRONTIER, ["setting"]), ("maps", MAPS, ["map", "allocation, bound"])):
            if name in wanted:
                means = evaluate(four, args.model, [s for _, s in settings])
                table(f"{name}, four pictures", [*first, "work", "share of pixel-steps", "PSNR", "LPIPS", "ratio"],
                      [f"{t} | {m['work']:.2f} | {m['diffused_share']:.2f} | {m['psnr']:.2f} | {m['lpips']:.4f} | {ratio(m):.3f}"
                       for (t, _), m in zip(settings, means)])
        if "sets" in wanted:
            both = folder(sorted(f"{s}/{os.path.basename(p)[:-4]}" for s in ("set5", "set14") for p in glob.glob(f"{SHARED}/data/test/{s}/*.png")))
            for title, hr in (("six pictures", six), ("Set5 and Set14", both)):
                means = evaluate(hr, args.model, [s for _, s in PROFILES])
                table(f"profiles, {title} (bicubic {means[0]['bicubic_psnr']:.2f} dB, {means[0]['bicubic_lpips']:.4f})",
                      ["profile", "PSNR", "SSIM", "LPIPS", "ratio", "LR-PSNR"],
                      [f"{t} | {m['psnr']:.2f} ({m['psnr'] - m['bicubic_psnr']:+.2f}) | {m['ssim']:.3f} | {m['lpips']:.4f} | {ratio(m):.3f} | {m['lr_psnr']:.1f}"
                       for (t, _), m in zip(PROFILES, means)])
            shutil.rmtree(both)
    finally:
        shutil.rmtree(six)
        shutil.rmtree(four)


if __name__ == "__main__":
    sys.exit(main())
