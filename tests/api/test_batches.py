"""Batches: many pictures in one form, results per item, the archive."""
import io
import json
import os
import shutil
import signal
import tempfile
import time
import zipfile

from harness import Daemon, check, png_size, textured, uses

PICTURES = [textured(40, 32, i) for i in range(3)]


def form(d, path, files, settings=None, headers=(), timeout=20):
    """POST a form; files: (name, bytes), ..."""
    with tempfile.TemporaryDirectory(prefix="yodad-form-") as folder:
        args = []
        for i, (name, data) in enumerate(files):
            with open(os.path.join(folder, str(i)), "wb") as f:
                f.write(data)
            args += ["-F", f"image=@{folder}/{i};filename={name}"]
        if settings is not None:
            args += ["-F", f"settings={json.dumps(settings)};type=application/json"]
        return d.curl(path, *args, headers=headers, timeout=timeout)


def batch(d, files=None, settings=None, **kw):
    files = files or [(f"p{i}.png", p) for i, p in enumerate(PICTURES)]
    return form(d, "/v1/batches", files, settings or {"steps": 2}, **kw)


def archive(d, name):
    a = d.curl(f"/v1/batches/{name}/archive")
    return a, zipfile.ZipFile(io.BytesIO(a.body)) if a.status == 200 else None


@uses("fake")
def test_a_batch_from_form_to_archive(d):
    a = batch(d)
    b = a.json()
    check(a.status == 202 and a.header("location") == f"/v1/batches/{b['id']}", "202 with its address", (a.status, a.body[:300]))
    check([i["name"] for i in b["items"]] == ["p0.png", "p1.png", "p2.png"], "items in their order", b["items"])
    done = d.curl(f"/v1/batches/{b['id']}?wait=20").json()
    check(done["done"] and done["share"] == 1 and done["counts"]["succeeded"] == 3 and done["counts"]["total"] == 3, "the wait ends at the end", done)
    a, z = archive(d, b["id"])
    check(a.header("content-type") == "application/zip" and int(a.header("content-length")) == len(a.body), "a ZIP of known length", a.headers)
    check(z and z.testzip() is None, "its sums are right")
    check(z.namelist() == ["p0.png", "p1.png", "p2.png", "batch.json"], "its members", z.namelist())
    for i, item in enumerate(done["items"]):
        result = d.curl(item["links"]["result"]).body
        check(z.read(f"p{i}.png") == result and png_size(result)[0] > 40, f"member {i} is the job's result")
    check(all(m.compress_type == zipfile.ZIP_STORED and m.date_time[0] > 2000 for m in z.infolist()), "stored, with their times", z.infolist())
    check(json.loads(z.read("batch.json"))["id"] == b["id"], "batch.json is about it")
    head = d.curl(f"/v1/batches/{b['id']}/archive", "--head")
    check(int(head.header("content-length")) == len(a.body), "HEAD knows its length", head.headers)


@uses("fake")
def test_a_bad_picture_leaves_the_others_alone(d):
    a = batch(d, [("good.png", PICTURES[0]), ("bad.png", b"no picture"), ("cut.png", PICTURES[1][:20]), ("empty.png", b""), ("fine.png", PICTURES[2])])
    b = a.json()
    states = [i["state"] == "refused" for i in b["items"]]
    check(a.status == 202 and states == [False, True, True, True, False], "three are refused", b["items"])
    bad = b["items"][1]
    check(bad["job"] is None and bad["problem"]["type"] == "/problems/unsupported-format", "with the reason", bad)
    done = d.curl(f"/v1/batches/{b['id']}?wait=20").json()
    check(done["counts"]["succeeded"] == 2 and done["counts"]["refused"] == 3, "the others succeed", done["counts"])
    check(archive(d, b["id"])[1].namelist() == ["good.png", "fine.png", "batch.json"], "and are in the archive")
    a = batch(d, [("a.png", b"x"), ("b.png", b"y")])
    check(a.status == 415 and len(a.json()["items"]) == 2, "nothing but bad ones: no batch", (a.status, a.body[:300]))
    a = batch(d, settings={"stepz": 3})
    check(a.status == 422 and a.json()["field"] == "stepz", "a setting that is wrong for all", (a.status, a.body[:300]))


@uses("fake")
def test_what_files_are_called(d):
    names = ["../../etc/passwd", "a.jpg", "a.png", "a.jpg", "C:\\pics\\b.tif", "...", "o/ä 1.png"]
    b = batch(d, [(n, PICTURES[0]) for n in names]).json()
    d.curl(f"/v1/batches/{b['id']}?wait=20")
    _, z = archive(d, b["id"])
    check(z.namelist() == ["passwd.png", "a.png", "a-2.png", "a-3.png", "b.png", "image-6.png", "ä 1.png", "batch.json"], "plain, and each once", z.namelist())


@uses("fake")
def test_a_form_of_jobs_with_several_pictures_is_a_batch(d):
    files = [(f"{i}.png", p) for i, p in enumerate(PICTURES)]
    a = form(d, "/v1/jobs", files, {"steps": 1})
    check(a.status == 202 and "/v1/batches/" in a.header("location"), "several are a batch", (a.status, a.body[:200]))
    a = form(d, "/v1/jobs", files[:1], {"steps": 1})
    check(a.status == 202 and "/v1/jobs/" in a.header("location") and a.json()["settings"]["steps"] == 1, "one is a job", a.body[:200])
    a = form(d, "/v1/batches", files[:1], {"steps": 1})
    check(a.status == 202 and len(a.json()["items"]) == 1, "a batch of one is one where it is asked for", a.body[:200])
    a = d.curl("/v1/batches", data=PICTURES[0], headers=["Content-Type: image/png"])
    check(a.status == 415, "a bare picture is no batch", (a.status, a.body[:200]))
    a = batch(d, [("x.png", PICTURES[0])] * 101)
    check(a.status == 400 and a.json()["field"] == "image" and "100" in a.json()["accepted"], "there is a limit", (a.status, a.body[:200]))


@uses("fake")
def test_cancelling_a_batch(d):
    b = batch(d, [(f"{i}.png", textured(200, 200, i)) for i in range(4)], {"steps": 400}).json()
    path = f"/v1/batches/{b['id']}"
    a = d.curl(path + "/archive")
    check(a.status == 409 and a.json()["type"] == "/problems/not-ready", "no archive yet", (a.status, a.body[:200]))
    began = time.monotonic()
    a = d.curl(path + "?wait=1")
    check(not a.json()["done"] and 0.9 < time.monotonic() - began < 5, "a wait ends in time", time.monotonic() - began)
    d.curl(f"/v1/jobs/{b['items'][0]['job']}", "-X", "DELETE")
    a = d.curl(path + "/cancel", "-X", "POST")
    check(a.status == 200 and a.json()["done"] and a.json()["counts"]["cancelled"] == 3, "everything has ended", a.json()["counts"])
    check(a.json()["counts"]["gone"] == 1, "what was deleted is gone", a.json()["counts"])
    check(archive(d, b["id"])[1].namelist() == ["batch.json"], "the archive says so")


@uses("fake")
def test_deleting_a_batch(d):
    b = batch(d, [("done.png", PICTURES[0])] + [(f"{i}.png", textured(200, 200, 50 + i)) for i in range(3)], {"steps": 400}).json()
    path = f"/v1/batches/{b['id']}"
    jobs = [i["job"] for i in b["items"]]
    d.wait_step(jobs[0])
    d.curl(f"/v1/jobs/{jobs[1]}", "-X", "DELETE")
    a = d.curl(path, "-X", "DELETE")
    check(a.status == 204 and not a.body, "running and waiting jobs go with it", (a.status, a.body[:200]))
    check([d.curl(f"/v1/jobs/{j}").status for j in jobs] == [410] * 4, "the jobs have gone")
    for tail, method in (("", "GET"), ("", "DELETE"), ("/archive", "GET"), ("/cancel", "POST")):
        check(d.curl(path + tail, "-X", method).status == 404, f"{method} {tail} finds nothing")
    check(b["id"] not in [x["id"] for x in d.curl("/v1/batches").json()["batches"]], "nor does the list")
    ended = batch(d).json()
    d.curl(f"/v1/batches/{ended['id']}?wait=30")
    check(d.curl(f"/v1/batches/{ended['id']}", "-X", "DELETE").status == 204, "one that has ended")


def test_a_deleted_batch_stays_deleted():
    with tempfile.TemporaryDirectory(prefix="yodad-batch-") as state:
        d = Daemon(device="fake", fake_unit_us=2000, state_dir=state)
        kept, gone = (batch(d, [("a.png", textured(24, 24, s))], {"steps": 2}).json() for s in (60, 61))
        check(d.curl(f"/v1/batches/{gone['id']}", "-X", "DELETE").status == 204, "it is deleted")
        d.stop(signal.SIGKILL)
        d = Daemon(device="fake", fake_unit_us=2000, state_dir=state)
        check([x["id"] for x in d.curl("/v1/batches").json()["batches"]] == [kept["id"]], "a restart does not bring it back")
        check(d.curl(f"/v1/jobs/{gone['items'][0]['job']}").status == 410, "nor its job")
        check(d.stop() == 0, "the daemon ends well")


@uses("fake")
def test_the_list_of_batches(d):
    mine = [batch(d).json()["id"] for _ in range(3)]
    page = d.curl("/v1/batches?limit=2").json()
    check([b["id"] for b in page["batches"]] == mine[:0:-1] and "items" not in page["batches"][0], "newest first, in short", page)
    rest = d.curl(f"/v1/batches?limit=2&cursor={page['next']}").json()
    check(rest["batches"][0]["id"] == mine[0], "then the older ones", rest)
    check(d.curl("/v1/batches?cursor=x").status == 400, "a cursor that is none")
    check(d.curl("/v1/batches/00000000-0000-4000-8000-000000000000").status == 404, "one that is not there")


@uses("fake")
def test_a_client_that_repeats(d):
    known = {j["id"] for j in d.curl("/v1/jobs?limit=200").json()["jobs"]}
    a = batch(d, headers=["Idempotency-Key: album"]).json()
    b = batch(d, headers=["Idempotency-Key: album"]).json()
    check([i["job"] for i in a["items"]] == [i["job"] for i in b["items"]], "with a key no picture is computed twice", (a, b))
    new = {j["id"] for j in d.curl("/v1/jobs?limit=200").json()["jobs"]} - known
    check(len(new) == 3, "three jobs in all", len(new))


def test_batches_survive_a_restart_and_go_with_their_jobs():
    state = tempfile.mkdtemp(prefix="yodad-batches-")
    flags = dict(device="fake", fake_unit_us=500, state_dir=state)
    try:
        d = Daemon(**flags)
        files = [(f"p{i}.png", p) for i, p in enumerate(PICTURES)] + [("bad.png", b"x")]
        b = batch(d, files).json()
        d.curl(f"/v1/batches/{b['id']}?wait=20")
        whole = archive(d, b["id"])[1]
        other = batch(d, [(f"{i}.png", textured(120, 120, i)) for i in range(3)], {"steps": 60}).json()
        d.process.kill()
        d.process.wait()
        d = Daemon(**flags)
        again = d.curl(f"/v1/batches/{b['id']}").json()
        check([i["job"] for i in again["items"]] == [i["job"] for i in b["items"]] and again["items"][3]["problem"]["type"], "it is there", again)
        z = archive(d, b["id"])[1]
        check(z.testzip() is None and all(z.read(n) == whole.read(n) for n in whole.namelist() if n != "batch.json"), "with the same results")
        done = d.curl(f"/v1/batches/{other['id']}?wait=60", timeout=70).json()
        check(done["counts"]["succeeded"] == 3, "one that was under way goes on", done["counts"])
        for i in b["items"][:3]:
            d.curl(f"/v1/jobs/{i['job']}", "-X", "DELETE")
        deadline = time.monotonic() + 10
        while d.curl(f"/v1/batches/{b['id']}").status == 200 and time.monotonic() < deadline:
            time.sleep(0.2)
        check(d.curl(f"/v1/batches/{b['id']}").status == 404, "it goes with the last of its jobs")
        check(d.stop() == 0, "it stops")
        d = Daemon(**flags)
        check([x["id"] for x in d.curl("/v1/batches").json()["batches"]] == [other["id"]], "for good")
        check(d.stop() == 0, "it stops")
    finally:
        shutil.rmtree(state, ignore_errors=True)
