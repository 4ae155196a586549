"""Pictures in the format that the client accepts."""
import hashlib

from harness import check, png, png_size, read_png, textured, uses

KINDS = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8", "image/webp": b"RIFF"}
PICTURE = textured(40, 32)


def get(d, path, accept, *args):
    return d.curl(path, *args, headers=[f"Accept: {accept}"])


def fits(a, kind):
    return a.status == 200 and a.header("content-type") == kind and a.body.startswith(KINDS[kind]) and "Accept" in (a.header("vary") or "")


@uses("fake")
def test_every_picture_in_every_format(d):
    job = d.job(PICTURE, "?steps=3&report=true")
    d.wait_state(job, "succeeded")
    for name in ("result", "preview", "attention", "invented", "mask?step=2"):
        path = f"/v1/jobs/{job}/{name}"
        for kind in KINDS:
            a = get(d, path, kind)
            check(fits(a, kind), f"{name} as {kind}", (a.status, a.headers, a.body[:200]))
        for accept, kind in (("*/*", "image/png"), ("image/*", "image/png"), ("image/jpeg;q=0.5, image/webp", "image/webp"), ("image/*, image/png;q=0.1", "image/webp")):
            check(fits(get(d, path, accept), kind), f"{name} for {accept}", kind)
        a = get(d, path, "text/html")
        check(a.status == 406 and a.json()["type"] == "/problems/not-acceptable" and "image/webp" in a.json()["accepted"], name + " as text: 406",
              (a.status, a.body[:300]))


@uses("fake")
def test_while_it_is_running(d):
    job = d.job(textured(128, 128), "?steps=600&lower_bound=1")
    d.wait_step(job)
    for name in ("preview", "attention", "mask?step=600"):
        for kind in KINDS:
            a = get(d, f"/v1/jobs/{job}/{name}", kind)
            check(fits(a, kind), f"{name} as {kind}", (a.status, a.headers, a.body[:200]))
    d.curl(f"/v1/jobs/{job}", "-X", "DELETE")


@uses("fake")
def test_a_result_in_another_format_is_a_picture_of_its_own(d):
    job = d.job(PICTURE, "?steps=3")
    d.wait_state(job, "succeeded")
    path = f"/v1/jobs/{job}/result"
    own, webp = d.curl(path), get(d, path, "image/webp")
    check(webp.header("etag") != own.header("etag") and hashlib.sha256(webp.body).hexdigest() in webp.header("etag"), "with a tag of its own", webp.headers)
    check(get(d, path, "image/webp").body == webp.body, "and the same bytes each time")
    check(webp.header("content-disposition").endswith('.webp"'), "and name", webp.headers)
    part = d.curl(path, headers=["Accept: image/webp", "Range: bytes=4-9", f"If-Range: {webp.header('etag')}"])
    check(part.status == 206 and part.body == webp.body[4:10], "a part of it", part.status)
    check(d.curl(path, headers=["Accept: image/webp", f"If-None-Match: {webp.header('etag')}"]).status == 304, "304 for its tag")
    jpeg = d.job(PICTURE, "?steps=3&format=jpeg")
    d.wait_state(jpeg, "succeeded")
    check(d.curl(f"/v1/jobs/{jpeg}/result").header("content-type") == "image/jpeg", "a job's own format comes first")
    back = get(d, f"/v1/jobs/{jpeg}/result", "image/png")
    check(png_size(back.body) == png_size(own.body), "a JPEG as PNG", back.headers)


@uses("fake")
def test_upscale_answers_as_it_is_asked(d):
    a = d.curl("/v1/upscale?steps=2", data=PICTURE, headers=["Accept: image/webp"])
    check(fits(a, "image/webp"), "WebP", (a.status, a.headers, a.body[:200]))
    before = len(d.curl("/v1/jobs?limit=200").json()["jobs"])
    a = d.curl("/v1/upscale?steps=2", data=PICTURE, headers=["Accept: application/json"])
    check(a.status == 406 and len(d.curl("/v1/jobs?limit=200").json()["jobs"]) == before, "406 before anything is computed", (a.status, a.body[:200]))
    tiff = d.curl("/v1/upscale?steps=2&format=tiff", data=PICTURE, headers=["Accept: image/tiff, image/png;q=0.1"])
    check(tiff.header("content-type") == "image/tiff", "a TIFF that was asked for", tiff.headers)


@uses("fake")
def test_depth_and_alpha_survive(d):
    rows = b"".join(b"\0" + b"".join(bytes(((x * 6) % 256, x, (y * 7) % 256, y, 90, 3, (x * 5) % 256, 1)) for x in range(40)) for y in range(32))
    deep = png(40, 32, bit_depth=16, colour=6, rows=rows)
    job = d.job(deep, "?steps=2&format=tiff")
    d.wait_state(job, "succeeded")
    a = get(d, f"/v1/jobs/{job}/result", "image/png")
    check(fits(a, "image/png") and read_png(a.body)[2:4] == (16, 6), "16 bits and alpha from TIFF to PNG", (a.status, a.body[:60]))
    direct = d.job(deep, "?steps=2&format=png")
    d.wait_state(direct, "succeeded")
    check(read_png(d.curl(f"/v1/jobs/{direct}/result").body)[4] == read_png(a.body)[4], "the same samples")
    mask = d.job(PICTURE, "?steps=4")
    d.wait_state(mask, "succeeded")
    webp = get(d, f"/v1/jobs/{mask}/mask?step=3", "image/webp").body
    check(b"VP8L" in webp[:40], "masks are exact as WebP, too", webp[:40])
