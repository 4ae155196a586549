"""Jobs from picture to result, on a real model and the real device."""
import hashlib
import json
import threading

from harness import SLOWNESS, check, png_size, textured, uses

SMALL = textured(40, 32)


@uses("model")
def test_upscale_answers_the_bigger_picture(d):
    a = d.curl("/v1/upscale?steps=2", data=SMALL)
    check(a.status == 200, "200", (a.status, a.body[:200]))
    check(a.header("content-type") == "image/png", "a PNG comes back", a.headers)
    check(png_size(a.body) == (160, 128), "four times the size", png_size(a.body))
    job = d.curl(f"/v1/jobs/{a.header('x-job-id')}").json()
    tag = f'"{hashlib.sha256(a.body).hexdigest()}-{job["fingerprint"]}"'
    check(a.header("etag") == tag, "the tag is the content's hash and the job's fingerprint", (a.header("etag"), tag))
    check(len(a.header("x-job-id") or "") >= 32, "the job is named", a.headers)
    again = d.curl(f"/v1/jobs/{a.header('x-job-id')}/result")
    check(again.body == a.body, "the job's result is the same picture")


@uses("model")
def test_job_from_submission_to_result(d):
    a = d.submit(SMALL, "?steps=3&seed=7&lower_bound=0.2")
    job = a.json()
    check(a.status == 202 and a.header("location") == "/v1/jobs/" + job["id"], "202 with its address", a.headers)
    check(job["settings"]["steps"] == 3 and job["settings"]["seed"] == 7, "settings as used", job["settings"])
    check(job["input"] == {"width": 40, "height": 32, "format": "png", "bit_depth": 8, "pages": 1}, "the input is described", job["input"])
    check(job["state"] in ("queued", "running"), "it has not ended yet", job["state"])
    done = d.curl(f"/v1/jobs/{job['id']}?wait=30").json()
    check(done["state"] == "succeeded" and done["progress"]["step"] == 3, "the long poll answers at the end", done)
    check(done["links"]["result"].endswith("/result"), "its result is linked", done["links"])
    for picture in ("attention", "mask?step=1", "mask?step=3"):
        p = d.curl(f"/v1/jobs/{job['id']}/{picture}")
        check(p.status == 200 and png_size(p.body) == (160, 128), picture + " is a picture of the output's size", p.status)
    preview = d.curl(f"/v1/jobs/{job['id']}/preview?max_side=64", headers=["Accept: image/jpeg"])
    check(preview.status == 200 and preview.body[:2] == b"\xff\xd8", "a preview as JPEG", (preview.status, preview.headers))
    check(preview.header("content-type") == "image/jpeg", "labelled so", preview.headers)


@uses("model")
def test_settings_and_picture_as_json_and_as_form(d):
    import base64
    want = d.curl("/v1/upscale?steps=2&seed=3", data=SMALL).body
    body = json.dumps({"image": {"base64": base64.b64encode(SMALL).decode()}, "steps": 2, "seed": 3}).encode()
    a = d.curl("/v1/upscale", data=body, headers=["Content-Type: application/json"])
    check(a.status == 200 and a.body == want, "JSON with base64 gives the same bytes", (a.status, a.body[:200]))
    import tempfile
    with tempfile.NamedTemporaryFile(suffix=".png") as f:
        f.write(SMALL)
        f.flush()
        a = d.curl("/v1/upscale", "-F", f"image=@{f.name}", "-F", 'settings={"steps":2,"seed":3};type=application/json')
        check(a.status == 200 and a.body == want, "a form gives the same bytes", (a.status, a.body[:200]))
        a = d.curl("/v1/upscale", "-F", f"image=@{f.name}", "-F", f"image=@{f.name}")
        check(a.status == 400 and a.json()["field"] == "image", "two pictures in one form are refused", a.body[:200])
        a = d.curl("/v1/upscale", "-F", f"other=@{f.name}")
        check(a.status == 400 and a.json()["field"] == "other", "an unknown part is named", a.body[:200])


@uses("model")
def test_the_fingerprint_of_a_job_is_that_of_its_model_and_map(d):
    model = d.curl("/v1/models").json()["models"][0]
    whole = model["fingerprint"]
    text = json.dumps(whole["record"], separators=(",", ":"))
    check(whole["short"] == "yfp1:" + hashlib.sha256(text.encode()).hexdigest()[:16], "the short form names the record", whole)
    check(whole["record"]["model"] == model["checksum"] and whole["record"]["isa"] == model["isa"], "of this model, here", whole)
    check(whole["record"]["dtype"] == model["dtype"] and not whole["record"]["vlfeat"], "and this map", whole)
    jobs = {a: d.submit(SMALL, f"?steps=1&attention={a}").json() for a in ("edge", "constant", "sift")}
    check(jobs["edge"]["fingerprint"] == jobs["constant"]["fingerprint"] == whole["short"], "maps of our own are alike", jobs)
    check(jobs["sift"]["fingerprint"] != whole["short"], "a map with a library in it is another matter", jobs)
    d.wait_state(jobs["sift"]["id"], "succeeded")
    tag = d.curl(f"/v1/jobs/{jobs['sift']['id']}/result").header("etag")
    check(tag.endswith(f"-{jobs['sift']['fingerprint']}\""), "and in its result's tag", tag)


@uses("model")
def test_conditional_and_partial_results(d):
    job = d.job(SMALL, "?steps=2")
    d.wait_state(job, "succeeded")
    path = f"/v1/jobs/{job}/result"
    whole = d.curl(path)
    tag = whole.header("etag")
    check(d.curl(path, headers=[f"If-None-Match: {tag}"]).status == 304, "304 for a known tag")
    check(d.curl(path, headers=['If-None-Match: "other"']).status == 200, "200 for another")
    part = d.curl(path, headers=["Range: bytes=10-29"])
    check(part.status == 206 and part.body == whole.body[10:30], "a range", part.status)
    check(part.header("content-range") == f"bytes 10-29/{len(whole.body)}", "Content-Range", part.headers)
    check(d.curl(path, headers=["Range: bytes=-5"]).body == whole.body[-5:], "the last bytes")
    check(d.curl(path, headers=["Range: bytes=100-"]).body == whole.body[100:], "from an offset on")
    check(d.curl(path, headers=["Range: bytes=99999999-"]).status == 416, "beyond the end: 416")
    stale = d.curl(path, headers=["Range: bytes=0-1", 'If-Range: "old"'])
    check(stale.status == 200 and stale.body == whole.body, "If-Range of other bytes: the whole")
    bare = d.curl(path, headers=["Range: bytes=0-1", f'If-Range: "{hashlib.sha256(whole.body).hexdigest()}"'])
    check(bare.status == 200, "If-Range of the same bytes made who knows where: the whole", bare.status)
    fresh = d.curl(path, headers=["Range: bytes=0-1", f"If-Range: {tag}"])
    check(fresh.status == 206 and fresh.body == whole.body[:2], "If-Range of these bytes: the part", fresh.status)
    head = d.curl(path, "--head")
    check(head.status == 200 and int(head.header("content-length")) == len(whole.body) and not head.body, "HEAD", head.headers)


@uses("model")
def test_same_bytes_alone_and_in_company(d):
    alone = d.curl("/v1/upscale?steps=3&seed=11", data=SMALL).body
    got = [None] * 8

    def ask(i):
        query, picture = ("?steps=3&seed=11", SMALL) if i == 3 else (f"?steps={2 + i % 4}&seed={i}", textured(36 + i, 32, i))
        got[i] = d.curl("/v1/upscale" + query, data=picture, timeout=60)
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    check(all(a.status == 200 for a in got), "all eight succeed", [a.status for a in got])
    check(got[3].body == alone, "the fourth has the bytes it has alone")
    check(len({a.body for a in got}) == 8, "and nobody got another's picture")


@uses("model")
def test_nine_jobs_wait_their_turn_and_know_their_place(d):
    picture = textured(40, 32)
    steps = max(10, int(40 / SLOWNESS))  # long enough that the last is seen waiting
    jobs = [d.job(picture, f"?steps={steps}&lower_bound=1&seed={i}") for i in range(9)]
    seen = [d.curl(f"/v1/jobs/{j}").json() for j in jobs]
    check(seen[0]["state"] in ("running", "succeeded"), "the first is not kept waiting", seen[0]["state"])
    queued = [s["queue"] for s in seen if s["state"] == "queued"]
    check(queued and seen[8]["state"] == "queued", "the last waits", [s["state"] for s in seen])
    places, etas = [q["position"] for q in queued], [q["eta_s"] for q in queued]
    check(places == sorted(set(places)) and places[0] >= 1, "places grow in the order of arrival", places)
    check(etas[0] > 0 and etas[-1] > etas[0], "and so does the time that is left", etas)
    for j in jobs:
        d.wait_state(j, "succeeded", seconds=60)
    done = [d.curl(f"/v1/jobs/{j}").json() for j in jobs]
    check(all(s["state"] == "succeeded" for s in done), "all succeed", [s["state"] for s in done])
    finished = [s["finished"] for s in done]
    # Two may be prepared at once, and whichever is ready first goes first: a job may change places with its neighbour, no more.
    order = sorted(range(9), key=lambda i: finished[i])
    check(all(abs(place - i) <= 1 for place, i in enumerate(order)), "equal jobs end in the order of arrival", finished)


@uses("model")
def test_damaged_pictures_are_refused(d):
    for name, body, status in (("cut short", SMALL[: len(SMALL) // 2], 422), ("a JPEG in name only", b"\xff\xd8\xff\xe0" + b"x" * 900, 422)):
        a = d.curl("/v1/upscale", data=body, headers=["Content-Type: image/png"])
        check(a.status == status, f"{name}: {status}", (a.status, a.body[:300]))
        check(a.header("content-type") == "application/problem+json", "as a problem", a.headers)
    flipped = bytearray(SMALL)
    flipped[len(flipped) // 2] ^= 0x40
    a = d.curl("/v1/upscale", data=bytes(flipped))
    check(a.status == 422 and a.json()["type"] == "/problems/invalid-image", "a flipped bit is noticed", (a.status, a.body[:300]))


@uses("model")
def test_the_result_is_a_png_unless_asked_otherwise(d):
    jpeg = d.curl("/v1/upscale?steps=1&format=jpeg&encode_quality=80", data=SMALL)
    check(jpeg.header("content-type") == "image/jpeg" and jpeg.body[:2] == b"\xff\xd8", "a JPEG when asked for", jpeg.headers)
    back = d.curl("/v1/upscale?steps=1", data=jpeg.body)
    check(back.header("content-type") == "image/png" and png_size(back.body) == (640, 512), "a JPEG in, a PNG out", back.headers)
