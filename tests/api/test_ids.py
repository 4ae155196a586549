"""Requests that come twice: ids that the client chose, and Idempotency-Key."""
import shutil
import tempfile
import threading
import uuid

from harness import Daemon, check, textured, uses

PICTURE = textured(40, 32)
OTHER = textured(40, 32, 5)


def put(d, job, picture=PICTURE, query="?steps=2", **kw):
    return d.curl(f"/v1/jobs/{job}{query}", "-X", "PUT", data=picture, **kw)


def post(d, key, picture=PICTURE, query="?steps=2", path="/v1/jobs", **kw):
    return d.curl(path + query, data=picture, headers=[f"Idempotency-Key: {key}"], **kw)


def together(n, ask):
    got = [None] * n

    def one(i):
        got[i] = ask(i)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    return got


@uses("fake")
def test_a_job_with_the_clients_id(d):
    job = str(uuid.uuid4())
    a = put(d, job)
    check(a.status == 202 and a.json()["id"] == job and a.header("location") == f"/v1/jobs/{job}", "taken under that id", a.body[:200])
    check(not a.header("idempotency-replayed"), "it is new")
    d.wait_state(job, "succeeded")
    again = put(d, job)
    check(again.status == 200 and again.json()["state"] == "succeeded", "a repeat answers with the job as it is", (again.status, again.body[:200]))
    check(again.header("idempotency-replayed") == "true", "and says so", again.headers)
    check(len([j for j in d.curl("/v1/jobs?limit=200").json()["jobs"] if j["id"] == job]) == 1, "there is one job")


@uses("fake")
def test_settings_may_come_in_any_order_and_wrapping(d):
    import base64
    import json
    job = str(uuid.uuid4())
    check(put(d, job, query="?steps=2&seed=4").status == 202, "taken")
    check(put(d, job, query="?seed=4&steps=2").status == 200, "another order is the same request")
    body = json.dumps({"seed": 4, "steps": 2, "image": {"base64": base64.b64encode(PICTURE).decode()}}).encode()
    a = put(d, job, picture=body, query="", headers=["Content-Type: application/json"])
    check(a.status == 200, "so is the same as JSON", a.body[:200])


@uses("fake")
def test_an_id_is_given_once(d):
    job = str(uuid.uuid4())
    put(d, job)
    for what, a in (("another picture", put(d, job, OTHER)), ("other settings", put(d, job, query="?steps=3"))):
        check(a.status == 409 and a.json()["type"] == "/problems/conflict" and a.json()["field"] == "id", what + ": 409", a.body[:200])
    posted = d.job(PICTURE, "?steps=2")
    check(put(d, posted).status == 409, "an id that the server gave is taken, too")
    d.curl(f"/v1/jobs/{job}", "-X", "DELETE")
    a = put(d, job)
    check(a.status == 409, "a deleted job's id is not given again", (a.status, a.body[:200]))


@uses("fake")
def test_ids_are_uuids(d):
    for bad in ("x", "6F1C1F7E-2F6B-4A51-9D0F-0E5B1C7A9D42", "6f1c1f7e2f6b4a519d0f0e5b1c7a9d42", "6f1c1f7e-2f6b-4a51-9d0f-0e5b1c7a9d4", "-" * 36):
        a = put(d, bad)
        check(a.status == 422 and a.json()["field"] == "id" and "UUID" in a.json()["accepted"], bad + " is none", (a.status, a.body[:200]))
    check(put(d, str(uuid.uuid4()), b"no picture").status in (415, 422), "a picture is a picture")


@uses("fake")
def test_ten_at_once_are_one_job(d):
    job = str(uuid.uuid4())
    got = together(10, lambda i: put(d, job, query="?steps=20"))
    check(sorted(a.status for a in got) == [200] * 9 + [202], "one takes it, nine are told of it", [a.status for a in got])
    key = str(uuid.uuid4())
    got = together(10, lambda i: post(d, key, query="?steps=20&seed=9"))
    check(sorted(a.status for a in got) == [200] * 9 + [202], "so with a key", [(a.status, a.body[:100]) for a in got])
    check(len({a.json()["id"] for a in got}) == 1, "one id", [a.json()["id"] for a in got])
    mixed = together(10, lambda i: post(d, key + "m", OTHER if i % 2 else PICTURE))
    kinds = sorted(a.status for a in mixed)
    check(kinds == [200] * 4 + [202] + [422] * 5, "of two requests with one key the first one holds", kinds)


@uses("fake")
def test_a_key_is_for_one_request(d):
    key = "order 66; photo=1"
    first = post(d, key)
    again = post(d, key)
    check(first.status == 202 and again.status == 200 and again.json()["id"] == first.json()["id"], "the same job", (first.status, again.status))
    a = post(d, key, OTHER)
    check(a.status == 422 and a.json()["type"] == "/problems/idempotency-key-reused", "another picture: 422", a.body[:200])
    check(post(d, key, query="?steps=9").status == 422, "other settings: 422")
    check(post(d, "another").json()["id"] != first.json()["id"], "another key is another job")
    check(d.job(PICTURE, "?steps=2") != first.json()["id"], "no key is another job")
    for bad in ("k" * 256, "caf\xe9"):
        a = d.curl("/v1/jobs", data=PICTURE, headers=[f"Idempotency-Key: {bad}"])
        check(a.status == 400 and a.json()["field"] == "Idempotency-Key", "a key that is none", (a.status, a.body[:200]))
    d.curl(f"/v1/jobs/{first.json()['id']}", "-X", "DELETE")
    fresh = post(d, key, OTHER)
    check(fresh.status == 202, "a key is remembered as long as its job", (fresh.status, fresh.body[:200]))


@uses("fake")
def test_upscale_with_a_key_survives_its_client(d):
    key = str(uuid.uuid4())
    a = post(d, key, path="/v1/upscale", query="?steps=300", timeout=0.4)
    check(a.status == 0, "the client gave up", a.status)
    b = post(d, key, path="/v1/upscale", query="?steps=300")
    check(b.status == 200 and b.header("idempotency-replayed") == "true", "it comes back for the same job's result", (b.status, b.body[:200]))


def test_keys_and_ids_survive_a_restart_and_expire():
    state = tempfile.mkdtemp(prefix="yodad-ids-")
    flags = dict(device="fake", fake_unit_us=500, state_dir=state)
    try:
        d = Daemon(**flags)
        job = str(uuid.uuid4())
        put(d, job)
        key = post(d, "k").json()["id"]
        d.wait_state(job, "succeeded")
        d.wait_state(key, "succeeded")
        got = together(6, lambda i: post(d, "crowd", query="?steps=7"))
        check(sorted(a.status for a in got) == [200] * 5 + [202], "computed once on a disk, too", [a.status for a in got])
        check(d.stop() == 0, "it stops")
        d = Daemon(**flags)
        check(put(d, job).status == 200 and put(d, job, OTHER).status == 409, "the id is known after a restart")
        again = post(d, "k")
        check(again.status == 200 and again.json()["id"] == key, "so is the key", again.body[:200])
        check(post(d, "k", OTHER).status == 422, "and what it was used for")
        d.curl(f"/v1/jobs/{job}", "-X", "DELETE")
        check(put(d, job).status == 409, "a deleted id stays taken")
        check(d.stop() == 0, "it stops")
        d = Daemon(**flags, idempotency_ttl_s=0)
        check(put(d, job).status == 409, "also after another restart")
        fresh = post(d, "k", OTHER)
        check(fresh.status == 202 and fresh.json()["id"] != key, "a key that has expired is as good as new", (fresh.status, fresh.body[:200]))
        check(d.stop() == 0, "it stops")
    finally:
        shutil.rmtree(state, ignore_errors=True)


def test_ids_name_their_replica():
    d = Daemon(device="fake", fake_unit_us=100, replica=167)
    job = d.job(textured(16, 16), "?steps=1")
    check(uuid.UUID(job).version == 8 and job.startswith("a7"), "its first two digits are the replica's number", job)
    check(len({d.job(textured(16, 16), "?steps=1")[3:] for _ in range(20)}) == 20, "the others are random")
    with tempfile.NamedTemporaryFile(suffix=".png") as f:
        f.write(PICTURE)
        f.flush()
        batch = d.curl("/v1/batches", "-F", f"image=@{f.name}", "-F", f"image=@{f.name}").json()
    check(batch["id"].startswith("a7"), "a batch's too", batch["id"])
    check(d.stop() == 0, "the daemon ends well")
