"""What becomes of a picture beside its pixels: size, format, depth, alpha, grey, orientation, metadata; and how these are asked for."""
import base64
import json
import struct

from harness import Daemon, check, png, png_size, read_png, sse, textured, uses

PICTURE = textured(40, 32)


def job_of(d, a):
    return d.curl("/v1/jobs/" + a.header("x-job-id")).json()


def upscale(d, picture, query="", **kw):
    a = d.curl("/v1/upscale?steps=1" + query, data=picture, **kw)
    check(a.status == 200, "200 for " + (query or "the defaults"), (a.status, a.body[:300]))
    return a


def refused(d, query, field, status=422):
    a = d.submit(PICTURE, "?steps=1&" + query)
    check(a.status == status, f"{query}: {status}", (a.status, a.body[:300]))
    if a.status == status:
        check(a.json().get("field") == field and a.json().get("accepted"), f"{query}: {field} and what it accepts", a.json())


@uses("fake")
def test_sizes(d):
    native = d.curl("/v1/capabilities").json()["scales"][0]
    for query, size in (("", (40 * native, 32 * native)), ("&scale=2", (80, 64)), ("&scale=2.5", (100, 80)), ("&scale=8", (320, 256)),
                        ("&width=100", (100, 80)), ("&height=80", (100, 80)), ("&width=300&height=80", (100, 80)),
                        ("&width=100&height=500", (100, 80))):
        a = upscale(d, PICTURE, query)
        check(png_size(a.body) == size, f"{query or 'nothing asked'}: {size}", png_size(a.body))
        out = job_of(d, a)["output"]
        check((out["width"], out["height"]) == size, "the job says so too", out)
    used = job_of(d, upscale(d, PICTURE, "&width=100"))["settings"]
    check(used.get("width") == 100 and "scale" not in used, "settings as used", used)
    check(job_of(d, upscale(d, PICTURE))["settings"]["scale"] == native, "the model's own scale unless asked otherwise")
    for query, field in (("scale=1", "scale"), ("scale=8.5", "scale"), ("scale=-2", "scale"), ("scale=nan", "scale"), ("width=0", "width"),
                         ("width=40", "width"), ("height=9999", "height"), ("width=many", "width"), ("scale=2&width=100", "scale")):
        refused(d, query, field)


def test_large_results_are_refused_by_the_header():
    d = Daemon(device="fake", max_output_pixels=40 * 32 * 4)  # its model makes pictures twice as large
    check(d.submit(PICTURE).status == 202, "the model's own size fits")
    check(d.submit(PICTURE, "?scale=1.5").status == 202, "a smaller one too")
    for query, field in (("?scale=6", "scale"), ("?width=200", "width"), ("?height=200", "height")):
        a = d.submit(PICTURE, query)
        check(a.status == 413 and a.json()["field"] == field, f"{query} does not", (a.status, a.body[:300]))
    a = d.submit(textured(80, 64), "?scale=1.2")
    check(a.status == 413 and a.json()["field"] == "image", "nor does what is computed at the model's size first", (a.status, a.body[:300]))
    check(d.stop() == 0, "exit 0")


@uses("fake")
def test_formats(d):
    formats = d.curl("/v1/capabilities").json()["formats"]
    check({"png", "jpeg", "webp", "tiff"} <= set(formats["input"]) and set(formats["output"]) == {"png", "jpeg", "webp", "tiff"},
          "listed", formats)
    for name, mime, ending, begins in (("png", "image/png", "png", b"\x89PNG"), ("jpeg", "image/jpeg", "jpg", b"\xff\xd8"),
                                       ("webp", "image/webp", "webp", b"RIFF"), ("tiff", "image/tiff", "tif", b"II*\0")):
        a = upscale(d, PICTURE, "&format=" + name)
        check(a.header("content-type") == mime and a.body.startswith(begins), name, (a.header("content-type"), a.body[:12]))
        job = job_of(d, a)
        check(job["output"]["format"] == job["settings"]["format"] == name, f"{name} in the job", job["output"])
        saved = d.curl(job["links"]["result"] + "?download=1")
        check(f'.{ending}"' in saved.header("content-disposition"), f"{name} is saved as .{ending}", saved.header("content-disposition"))
        again = upscale(d, a.body)
        check(job_of(d, again)["input"]["format"] == name, f"{name} is read too", job_of(d, again)["input"])
        preview = d.curl(job["links"]["preview"], headers=["Accept: image/png"])
        check(png_size(preview.body) == png_size(upscale(d, PICTURE).body), f"the preview of a {name} result is a picture", (preview.status, preview.body[:20]))
    check(b"VP8L" in upscale(d, PICTURE, "&format=webp&lossless=true").body, "lossless webp")
    check(b"VP8L" not in upscale(d, PICTURE, "&format=webp").body, "lossy webp")
    sizes = [len(upscale(d, PICTURE, f"&format=webp&encode_quality={q}").body) for q in (20, 90)]
    check(sizes[0] < sizes[1], "quality counts", sizes)
    for query, field in (("format=gif", "format"), ("encode_quality=0", "encode_quality"), ("encode_quality=101", "encode_quality"), ("lossless=perhaps", "lossless"),
                         ("format=jpeg&lossless=true", "lossless"), ("bit_depth=12", "bit_depth"), ("format=webp&bit_depth=16", "bit_depth"),
                         ("metadata=some", "metadata"), ("color_space=lab", "color_space"), ("report=maybe", "report")):
        refused(d, query, field)


@uses("fake")
def test_the_three_ways_to_ask(d):
    settings = {"steps": 1, "format": "webp", "lossless": True, "width": 100, "metadata": "strip"}
    query = "&".join(f"{k}={str(v).lower()}" for k, v in settings.items())
    by_query = d.submit(PICTURE, "?" + query)
    by_json = d.curl("/v1/jobs", data=json.dumps({"image": {"base64": base64.b64encode(PICTURE).decode()}, **settings}).encode(),
                     headers=["Content-Type: application/json"])
    form = b"--form-of-two\r\nContent-Disposition: form-data; name=\"settings\"\r\nContent-Type: application/json\r\n\r\n" + json.dumps(
        settings).encode() + b"\r\n--form-of-two\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\n" + PICTURE + b"\r\n--form-of-two--\r\n"
    by_form = d.curl("/v1/jobs", data=form, headers=["Content-Type: multipart/form-data; boundary=form-of-two"])
    tags = set()
    for a in (by_query, by_json, by_form):
        if check(a.status == 202, "taken", (a.status, a.body[:300])):
            job = a.json()["id"]
            d.wait_state(job, "succeeded")
            used = d.curl(f"/v1/jobs/{job}").json()["settings"]
            check(all(used.get(k) == v for k, v in settings.items()), "used as asked", used)
            tags.add(d.curl(f"/v1/jobs/{job}/result").header("etag"))
    check(len(tags) == 1, "and the same bytes", tags)


def deep_png(width, height):
    """16 bits per sample whose low bytes matter."""
    rows = b"".join(b"\0" + b"".join(struct.pack(">HHH", 20000 + 16 * x, 20000 + 16 * y, 30000 + 8 * (x + y)) for x in range(width))
                    for y in range(height))
    return png(width, height, bit_depth=16, colour=2, rows=rows)


@uses("fake")
def test_sixteen_bits(d):
    picture = deep_png(40, 32)
    a = upscale(d, picture)
    job = job_of(d, a)
    check(job["input"]["bit_depth"] == job["output"]["bit_depth"] == 16, "in and out", (job["input"], job["output"]))
    width, height, depth, colour, data = read_png(a.body)
    check((depth, colour) == (16, 2), "16 bits per sample come back", (depth, colour))
    samples = struct.unpack(f">{len(data) // 2}H", data)
    check(len({s for s in samples if s % 257}) > 100, "and they are no widened bytes")
    for query in ("&bit_depth=8", "&format=jpeg", "&format=webp"):
        out = job_of(d, upscale(d, picture, query))["output"]
        check(out["bit_depth"] == 8, query + ": 8", out)
    check(read_png(upscale(d, picture, "&bit_depth=8").body)[2] == 8, "8 when asked")
    check(read_png(upscale(d, PICTURE, "&bit_depth=16").body)[2] == 16, "16 when asked")
    check(job_of(d, upscale(d, PICTURE))["output"]["bit_depth"] == 8, "8 stay 8")


@uses("fake")
def test_alpha_and_grey(d):
    rows = b"".join(b"\0" + b"".join(bytes((x * 5, y * 7, 90, 0 if x < 20 else 255)) for x in range(40)) for y in range(32))
    for query, size in (("&scale=2", (80, 64)), ("&scale=3.5", (140, 112))):
        width, height, depth, colour, data = read_png(upscale(d, png(40, 32, colour=6, rows=rows), query).body)
        check((width, height, depth, colour) == (*size, 8, 6), "alpha comes back", (width, height, depth, colour))
        middle = data[height // 2 * width * 4:][:width * 4]
        check(middle[3] == 0 and middle[-1] == 255, "clear on the left, opaque on the right", (middle[3], middle[-1]))
    grey = png(40, 32, colour=0, rows=b"".join(b"\0" + bytes((x * 6 + y) % 256 for x in range(40)) for y in range(32)))
    check(read_png(upscale(d, grey).body)[3] == 0, "grey stays grey")
    check(read_png(upscale(d, grey, "&scale=3").body)[3] == 0, "at any size")


def tiff_block(place):
    """EXIF: turned by a quarter, an artist, and in the GPS directory a name of a place."""
    def entry(tag, kind, count, value):
        return struct.pack("<HHI", tag, kind, count) + value
    artist, datum = b"Artisan Unknown\0", place + b"\0"
    first = 8 + 2 + 3 * 12 + 4
    gps = first + len(artist)
    text = gps + 2 + 12 + 4
    out = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 3)
    out += entry(0x0112, 3, 1, struct.pack("<HH", 6, 0)) + entry(0x013B, 2, len(artist), struct.pack("<I", first))
    out += entry(0x8825, 4, 1, struct.pack("<I", gps)) + struct.pack("<I", 0) + artist
    out += struct.pack("<H", 1) + entry(0x0012, 2, len(datum), struct.pack("<I", text)) + struct.pack("<I", 0) + datum
    return out


@uses("fake")
def test_orientation_and_the_place(d):
    plain = upscale(d, PICTURE, "&format=jpeg&scale=2").body
    exif = b"Exif\0\0" + tiff_block(b"SECRETPLACE")
    photo = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    a = upscale(d, photo, "&scale=2")
    job = job_of(d, a)
    check((job["input"]["width"], job["input"]["height"]) == (64, 80), "the input as it is seen", job["input"])
    check(png_size(a.body) == (128, 160), "the result stands upright", png_size(a.body))
    for query, artist, place in (("", True, False), ("&metadata=keep", True, True), ("&metadata=strip", False, False)):
        body = upscale(d, photo, "&format=jpeg" + query).body
        check((b"Artisan" in body) == artist, f"{query or 'by default'}: the artist is {'kept' if artist else 'gone'}")
        check((b"SECRETPLACE" in body) == place, f"{query or 'by default'}: the place is {'kept' if place else 'gone'}")


@uses("fake")
def test_what_was_invented(d):
    a = upscale(d, PICTURE, "&report=true&scale=3")
    job = job_of(d, a)
    numbers = job.get("invented", {})
    check(set(numbers) == {"difference_rms", "psnr_db", "contradicted_share", "detail_rms", "changed_share"}, "numbers in the job", numbers)
    check(0 <= numbers.get("contradicted_share", -1) <= 1 and numbers.get("psnr_db", 0) > 0, "that mean something", numbers)
    shown = d.curl(job["links"]["invented"])
    check(shown.status == 200 and shown.header("content-type") == "image/png" and png_size(shown.body) == (120, 96), "and their picture",
          (shown.status, shown.headers))
    events = d.curl(job["links"]["events"]).body.decode()
    last = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: ")][-1]
    check(last.get("invented") == numbers, "in the final event too", last)
    without = job_of(d, upscale(d, PICTURE))
    check("invented" not in without and "invented" not in without["links"], "nothing of it unless asked for", without["links"])
    p = d.curl(f"/v1/jobs/{without['id']}/invented")
    check(p.status == 404 and p.json()["field"] == "report", "404 says what to ask for", (p.status, p.body))
    running = d.job(textured(300, 300), "?steps=300&report=true")
    check(d.curl(f"/v1/jobs/{running}/invented").status == 409, "409 before the end")
    d.curl(f"/v1/jobs/{running}", "-X", "DELETE")


@uses("fake")
def test_masks_of_a_strided_job(d):
    job = d.job(textured(48, 48), "?steps=6&allocation=strided&lower_bound=0&attention=edge")
    d.wait_state(job, "succeeded")
    events = [e[2] for e in sse(d.curl(f"/v1/jobs/{job}/events", "-N").body.decode()) if e[1] == "step"]
    shares = [e["active_share"] for e in events]
    check(shares[0] == 1.0, "every pixel takes the first step", shares)
    check(any(b < a for a, b in zip(shares, shares[1:])) and any(b > a for a, b in zip(shares, shares[1:])), "masks come and go", shares)
    check(d.curl(f"/v1/jobs/{job}").json()["progress"]["step"] == 6, "all steps are behind it")
    for e in events:
        values = read_png(d.curl(e["mask"]).body)[-1]
        share = sum(v > 127 for v in values) / len(values)
        check(abs(share - e["active_share"]) < 1e-4, f"step {e['step']}: the mask is what was refined", (share, e))
