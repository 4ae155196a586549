#!/usr/bin/env python3
"""Draw pictures that are no photographs: a page of text, a line drawing, a terminal.

    tests/bench/other_pictures.py FOLDER [SIDE]

Everything in them is made here, so that they belong to the project. Wants Pillow and the DejaVu fonts. The same pictures come out
wherever the same versions of these are installed.
"""
import math
import os
import sys

from PIL import Image, ImageDraw, ImageFont

FONTS = "/usr/share/fonts/truetype/dejavu"
PROSE = """What a mask leaves to do is known from the map alone, before anything runs. A pixel with little attention starts late: it
never sees the high noise at which structure is decided. Where the map is low, less is invented, whatever the number of steps. Letters are
the opposite of a photograph: two colours, sharp borders, and every stroke means something. A wrong stroke is not a matter of taste but
another letter; the reader of a page wants what was there, or the honest blur of what is left of it."""
SHELL = ["$ yoda upscale photo.jpg out.png", "6 steps, 4x, windows of 64 pixels", "[==============>      ] 71 %", "$ ls -l out.png",
         "-rw-r--r-- 1 me me 1893377 out.png", "$ yoda inspect model.safetensors", "UNet 48, 96, 144; 5.09 M weights", "profiles: fast balanced best",
         "$ curl -s localhost:8080/readyz", '{"status": "ready", "jobs": 0}', "$ yoda eval --hr originals -q", "PSNR +0.69 dB, LPIPS 0.451", "$ _"]
SHELL_COLOURS = [(138, 226, 52), (211, 215, 207), (252, 233, 79), (114, 159, 207)]


def text_page(side):
    page = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(page)
    draw.text((side * 0.07, side * 0.06), "Work follows attention", "black", ImageFont.truetype(f"{FONTS}/DejaVuSerif-Bold.ttf", 22))
    words, y = PROSE.split(), side * 0.16
    for size in (13, 16, 20, 26, 34, 44):  # what is legible at a quarter begins somewhere between
        font, line = ImageFont.truetype(f"{FONTS}/DejaVuSerif.ttf", size), ""
        while draw.textlength(f"{line} {words[0]}".strip(), font) < side * 0.86:
            line = f"{line} {words.pop(0)}".strip()
        draw.text((side * 0.07, y), line, (20, 20, 20), font)
        y += size * 1.45
    return page


def line_drawing(side):
    """A house, a tree and the sun in strokes, drawn four times as large for smooth borders."""
    s = side * 4 / 400
    sheet = Image.new("RGB", (side * 4, side * 4), "white")
    draw = ImageDraw.Draw(sheet)

    def stroke(points, width=3):
        draw.line([(x * s, y * s) for x, y in points], "black", round(width * s), "curve")

    def circle(x, y, r, width=3):
        stroke([(x + r * math.cos(a / 24 * math.pi), y + r * math.sin(a / 24 * math.pi)) for a in range(49)], width)

    stroke([(20, 340), (380, 330)], 4)
    stroke([(70, 338), (70, 190), (230, 190), (230, 335)])
    stroke([(50, 200), (150, 100), (250, 200)], 4)
    for k in range(9):  # tiles
        stroke([(78 + k * 9, 188 - k * 9), (222 - k * 9, 188 - k * 9)], 1)
    stroke([(130, 337), (130, 265), (170, 265), (170, 336)])
    for x in (85, 185):
        stroke([(x, 215), (x + 30, 215), (x + 30, 245), (x, 245), (x, 215)], 2)
        stroke([(x + 15, 215), (x + 15, 245)], 1.5)
        stroke([(x, 230), (x + 30, 230)], 1.5)
    circle(330, 70, 28)
    for k in range(12):
        a = k * math.pi / 6
        stroke([(330 + 36 * math.cos(a), 70 + 36 * math.sin(a)), (330 + 52 * math.cos(a), 70 + 52 * math.sin(a))], 2)
    stroke([(310, 332), (314, 250)], 5)
    for k in range(14):  # leaves
        a = k * 2.4
        circle(314 + (10 + 2.6 * k) * math.cos(a), 220 + (10 + 2.0 * k) * math.sin(a), 13, 1.5)
    for k in range(24):  # grass
        stroke([(30 + k * 14, 345 + k % 3 * 8), (34 + k * 14, 334 + k % 3 * 8), (37 + k * 14, 346 + k % 3 * 8)], 1.2)
    return sheet.resize((side, side), Image.BOX)


def terminal(side):
    screen = Image.new("RGB", (side, side), (30, 32, 40))
    draw = ImageDraw.Draw(screen)
    draw.rectangle((0, 0, side, 26), (62, 66, 78))
    for k, colour in enumerate([(252, 97, 93), (253, 188, 64), (52, 200, 74)]):
        draw.ellipse((10 + 20 * k, 7, 22 + 20 * k, 19), colour)
    font = ImageFont.truetype(f"{FONTS}/DejaVuSansMono.ttf", 16)
    for k, line in enumerate(SHELL):
        draw.text((10, 38 + 25 * k), line, SHELL_COLOURS[0 if line[0] == "$" else 1 + k % 3], font)
    return screen


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, side = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 384
    os.makedirs(folder, exist_ok=True)
    for name, draw in [("text", text_page), ("drawing", line_drawing), ("terminal", terminal)]:
        draw(side).save(os.path.join(folder, name + ".png"), optimize=True)


if __name__ == "__main__":
    main()
