"""What is refused, with which status, and whether the refusal says what would be taken."""
import json
import re
import time

from harness import bomb, check, textured, uses

PICTURE = textured(40, 32)


def problem(d, what, status, slug, path="/v1/jobs", field=None, **kw):
    a = d.curl(path, **kw)
    if not check(a.status == status, f"{what}: {status}", (a.status, a.body[:300])):
        return {}
    check(a.header("content-type") == "application/problem+json", what + " is a problem document", a.headers)
    p = a.json()
    check(p["type"] == "/problems/" + slug and p["status"] == status, f"{what} is {slug}", p)
    check(p["title"] and p["detail"] and p["request_id"] == a.header("x-request-id"), what + " is explained", p)
    if field is not None:
        check(p.get("field") == field, f"{what} names {field}", p)
    return p


@uses("fake")
def test_settings(d):
    p = problem(d, "an unknown setting", 422, "invalid-setting", "/v1/jobs?stepz=3", "stepz", data=PICTURE)
    check("steps" in p.get("accepted", ""), "the known ones are listed", p)
    problem(d, "steps out of range", 422, "invalid-setting", "/v1/jobs?steps=0", "steps", data=PICTURE)
    problem(d, "steps no number", 422, "invalid-setting", "/v1/upscale?steps=many", "steps", data=PICTURE)
    problem(d, "white space before a number", 422, "invalid-setting", "/v1/jobs?encode_quality=%205", "encode_quality", data=PICTURE)
    p = problem(d, "the encoder's number", 422, "invalid-setting", "/v1/jobs?quality=90", "quality", data=PICTURE)
    check(p.get("accepted") == "fast, balanced, best" and "encode_quality" in p.get("detail", ""), "where it belongs is said", p)
    problem(d, "a scale with a plus", 422, "invalid-setting", "/v1/jobs?scale=%2B2", "scale", data=PICTURE)
    problem(d, "a bound out of range", 422, "invalid-setting", "/v1/jobs?lower_bound=1.5", "lower_bound", data=PICTURE)
    problem(d, "an unknown attention", 422, "invalid-setting", "/v1/jobs?attention=magic", "attention", data=PICTURE)
    problem(d, "another scale", 422, "invalid-setting", "/v1/jobs?scale=9", "scale", data=PICTURE)
    problem(d, "a setting twice", 422, "invalid-setting", "/v1/jobs?steps=3&steps=4", "steps", data=PICTURE)
    problem(d, "an unknown argument", 422, "invalid-setting", "/v1/jobs?colour=red", "colour")
    problem(d, "an unknown state", 422, "invalid-setting", "/v1/jobs?state=lost", "state")
    problem(d, "a bad limit", 422, "invalid-setting", "/v1/jobs?limit=0", "limit")
    problem(d, "a bad cursor", 400, "invalid-request", "/v1/jobs?cursor=%27%27")
    problem(d, "bytes that are no UTF-8", 422, "invalid-setting", "/v1/jobs?%ff%fe=1", data=PICTURE)
    for value in ("%ff", "a" * 63 + "%C3%A9" * 9):  # no UTF-8; UTF-8 that is cut inside a character to fit the message
        p = problem(d, "a strange scale", 422, "invalid-setting", f"/v1/jobs?scale={value}", "scale", data=PICTURE)
        check("is not accepted" in p.get("detail", ""), "the rest of the message survives", p)


@uses("fake")
def test_bodies(d):
    problem(d, "an empty body", 400, "invalid-request", field="body", data=b"")
    a = d.curl("/v1/upscale", "-X", "POST")
    check(a.status == 400 and a.json()["field"] == "body", "POST without a body", (a.status, a.body[:200]))
    p = problem(d, "text", 415, "unsupported-media-type", field="Content-Type", data=b"hello", headers=["Content-Type: text/plain"])
    check("image/*" in p.get("accepted", ""), "accepted types are named", p)
    problem(d, "a compressed body", 415, "unsupported-media-type", field="Content-Encoding", data=PICTURE,
            headers=["Content-Encoding: gzip"])
    p = problem(d, "no picture at all", 415, "unsupported-format", data=b"GIF89a" + b"\0" * 100)
    check(p.get("supported_formats") == d.curl("/v1/capabilities").json()["formats"]["input"], "formats are named", p)
    a = d.curl("/v1/models", "-X", "GET", data=b"x")
    check(a.status == 400, "a body where none belongs", (a.status, a.body[:200]))
    a = d.submit(PICTURE, headers=["Content-Type: image/png"])
    check(a.status == 202, "image/png", a.status)
    a = d.submit(PICTURE, headers=["Content-Type:"])
    check(a.status == 202, "no content type", a.status)


@uses("fake")
def test_json_bodies(d):
    kw = dict(headers=["Content-Type: application/json"])
    problem(d, "garbage", 400, "invalid-request", data=b"{not json", **kw)
    problem(d, "a list", 400, "invalid-request", data=b"[1,2]", **kw)
    problem(d, "no image", 400, "invalid-request", field="image", data=b'{"steps":3}', **kw)
    problem(d, "no base64", 400, "invalid-request", field="image.base64", data=b'{"image":{"base64":"*&^"}}', **kw)
    problem(d, "duplicate keys", 400, "invalid-request", data=b'{"image":{"base64":"aGk="},"seed":1,"seed":2}', **kw)
    problem(d, "too deep", 400, "invalid-request", data=b'{"image":' + b"[" * 40 + b"]" * 40 + b"}", **kw)
    problem(d, "a list for a setting", 422, "invalid-setting", field="steps", data=b'{"image":{"base64":"aGk="},"steps":[1]}', **kw)
    problem(d, "no UTF-8", 400, "invalid-request", data=b'{"image":"\xff"}', **kw)
    problem(d, "a NUL in a value", 400, "invalid-request", data=b'{"image":{"base64":"aGk="},"seed":"1\\u0000"}', **kw)


@uses("fake")
def test_a_bomb_is_refused_by_its_header(d):
    body, before = bomb(), d.rss()
    began = time.monotonic()
    p = problem(d, "30000 x 30000", 413, "image-too-large", "/v1/upscale", data=body)
    check(time.monotonic() - began < 1.0, "at once", time.monotonic() - began)
    check(p.get("max_pixels") == 4194304, "the limit is told", p)
    check(d.rss() - before < 20 << 20, "without memory", d.rss() - before)


@uses("fake")
def test_addresses_and_methods(d):
    problem(d, "nowhere", 404, "not-found", "/v2/nothing")
    problem(d, "no such job", 404, "not-found", "/v1/jobs/00000000-0000-4000-8000-000000000000")
    problem(d, "an id that is none", 404, "not-found", "/v1/jobs/%2e%2e%2f%2e%2e")
    problem(d, "a NUL in the path", 404, "not-found", "/v1/jobs%00")
    for method, path in (("PUT", "/v1/jobs"), ("DELETE", "/v1/models"), ("PATCH", "/v1/upscale"), ("GET", "/v1/upscale"), ("TRACE", "/")):
        a = d.curl(path, "-X", method)
        check(a.status == 405 and a.header("allow"), f"{method} {path}: 405 with Allow", (a.status, a.headers))
    check(set(d.curl("/v1/jobs", "-X", "PUT").header("allow").split(", ")) == {"GET", "HEAD", "POST", "OPTIONS"}, "all of them")
    a = d.curl("/v1/jobs", "-X", "OPTIONS")
    check(a.status == 204 and "POST" in a.header("allow"), "OPTIONS tells the methods", a.headers)
    for path in ("/livez", "/v1/jobs", "/openapi.json", "/", "/metrics"):
        get, head = d.curl(path), d.curl(path, "--head")
        check(get.status == head.status == 200 and not head.body, f"HEAD {path}", (get.status, head.status))


@uses("fake")
def test_cancel_delete_and_gone(d):
    job = d.job(textured(400, 400), "?steps=200")
    a = d.curl(f"/v1/jobs/{job}/result")
    check(a.status == 409 and a.json()["type"] == "/problems/not-ready", "no result yet: 409", a.body[:200])
    a = d.curl(f"/v1/jobs/{job}/cancel", "-X", "POST")
    check(a.status in (200, 202), "cancelled", (a.status, a.body[:200]))
    check(d.wait_state(job, "cancelled", "succeeded") == "cancelled", "and it is")
    check(d.curl(f"/v1/jobs/{job}/cancel", "-X", "POST").status == 200, "cancelling again is no error")
    a = d.curl(f"/v1/jobs/{job}/result")
    check(a.status == 409 and a.json()["job"] == job, "a cancelled job has no result", a.body[:200])
    check(d.curl(f"/v1/jobs/{job}", "-X", "DELETE").status == 204, "deleted")
    for path in ("", "/events", "/result", "/mask?step=1"):
        check(d.curl(f"/v1/jobs/{job}{path}").status == 410, f"410 at {path or '/'}")
    check(d.curl(f"/v1/jobs/{job}", "-X", "DELETE").status == 204, "deleting again is no error")
    done = d.job(PICTURE, "?steps=1")
    d.wait_state(done, "succeeded")
    a = d.curl(f"/v1/jobs/{done}/cancel", "-X", "POST")
    check(a.status == 409 and a.json()["type"] == "/problems/conflict", "what has succeeded cannot be cancelled", a.body[:200])


@uses("fake")
def test_listing(d):
    ids = [d.job(PICTURE, f"?steps=1&seed={i}") for i in range(5)]
    for i in ids:
        d.wait_state(i, "succeeded")
    page = d.curl("/v1/jobs?limit=3").json()
    check([j["id"] for j in page["jobs"]] == ids[:1:-1], "newest first", [j["id"] for j in page["jobs"]])
    rest = d.curl(f"/v1/jobs?limit=2&cursor={page['next']}").json()
    check([j["id"] for j in rest["jobs"]] == ids[1::-1], "the cursor goes on", rest)
    only = d.curl("/v1/jobs?state=succeeded&limit=200").json()["jobs"]
    check(len(only) >= 5 and all(j["state"] == "succeeded" for j in only), "by state", len(only))
    check(d.curl("/v1/jobs?state=queued").json()["jobs"] == [], "none is waiting")


@uses("fake")
def test_polling_with_tags(d):
    job = d.job(PICTURE, "?steps=1")
    d.wait_state(job, "succeeded")
    a = d.curl(f"/v1/jobs/{job}")
    b = d.curl(f"/v1/jobs/{job}", headers=["If-None-Match: " + a.header("etag")])
    check(b.status == 304 and not b.body, "304 while nothing changes", b.status)
    slow = d.job(textured(300, 300), "?steps=100")
    began = time.monotonic()
    a = d.curl(f"/v1/jobs/{slow}?wait=1")
    check(a.status == 200 and 0.8 < time.monotonic() - began < 3, "a long poll ends with its time", time.monotonic() - began)
    check(a.json()["state"] == "running", "and tells how far it is", a.json()["state"])
    d.curl(f"/v1/jobs/{slow}", "-X", "DELETE")


@uses("fake")
def test_prefer_wait(d):
    a = d.curl("/v1/upscale?steps=100", data=textured(300, 300), headers=["Prefer: wait=1"])
    check(a.status == 202 and a.header("location") == "/v1/jobs/" + a.json()["id"], "202 after the wait", (a.status, a.headers))
    job = a.json()["id"]
    check(d.curl(f"/v1/jobs/{job}").json()["state"] == "running", "the job goes on")
    d.curl(f"/v1/jobs/{job}", "-X", "DELETE")


@uses("fake")
def test_service_pages(d):
    m = d.curl("/metrics").body.decode()
    for name in ("yodad_jobs_total", "yodad_queue_depth", "yodad_rejected_total", "yodad_sse_clients", "yodad_build_info"):
        check(name in m, name + " is exposed")
    check('yodad_rejected_total{reason="invalid-setting"}' in m, "refusals are counted by reason", m[-800:])
    check(len(d.curl("/v1/models").json()["models"]) == 1, "models are listed")
    caps = d.curl("/v1/capabilities").json()
    check("steps" in caps["settings"] and caps["limits"]["max_pixels"] == 4194304, "capabilities", caps)
    check(d.curl("/readyz?verbose").json()["ready"] is True, "a report of readiness")
    page = d.curl("/")
    check(b'src="/web/app.js"' in page.body and "unsafe" not in page.header("content-security-policy"), "the page", page.headers)
    for name in re.findall(rb'(?:src|href)="(/web/[^"]+)"', page.body):
        file = d.curl(name.decode())
        check(file.status == 200 and file.header("x-content-type-options") == "nosniff", name, file.headers)
        check(d.curl(name.decode(), headers=["If-None-Match: " + file.header("etag")]).status == 304, "cached by tag too", name)
    check(d.curl("/web/none.js").status == 404 and d.curl("/web/../api.h", "--path-as-is").status == 404, "and no other files")
    check(d.curl("/", headers=["If-None-Match: " + page.header("etag")]).status == 304, "the page is cached by tag")


@uses("fake")
def test_request_ids_and_traces(d):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    a = d.curl("/v1/models", headers=["X-Request-Id: my-id.7", "traceparent: " + trace])
    check(a.header("x-request-id") == "my-id.7" and a.header("traceparent") == trace, "both come back", a.headers)
    b = d.curl("/v1/models", headers=['X-Request-Id: "; forged'])
    check(len(b.header("x-request-id")) == 32, "an id that is no plain word is replaced", b.headers)
    lines = [json.loads(x) for x in d.log_text().splitlines()]
    mine = [x for x in lines if x.get("req") == "my-id.7"]
    check(len(mine) == 1 and mine[0]["path"] == "/v1/models" and mine[0]["status"] == 200 and mine[0]["ms"] >= 0, "the access log has it", mine)
    check(mine and mine[0].get("traceparent") == trace, "with its trace", mine)
