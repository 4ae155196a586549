"""Pictures that change on the disk behind the server's back: never sent, said plainly, computed anew by the same request."""
import io
import os
import signal
import sqlite3
import time
import zipfile

from harness import check, textured
from test_batches import batch
from test_durable import State

PICTURE = textured(64, 48)
KINDS = {"input": 0, "result": 1, "invented": 2, "attention": 3, "activation": 4}
QUERY = "?steps=3&report=true"


def file_of(s, job, kind):
    db = sqlite3.connect(os.path.join(s.dir, "state", "jobs.db"))
    name = db.execute("SELECT name FROM file JOIN job USING(ord) WHERE id = ? AND kind = ?", (job, KINDS[kind])).fetchone()[0]
    db.close()
    return os.path.join(s.dir, "state", "pictures", name)


def flip(path, at=-100, bit=1, keep_times=False):
    """One bit of a file changes."""
    st = os.stat(path)
    with open(path, "r+b") as f:
        f.seek(at, 2 if at < 0 else 0)
        byte = f.read(1)[0] ^ bit
        f.seek(-1, 1)
        f.write(bytes([byte]))
    if keep_times:
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def restarted(s, **flags):
    s.daemons[-1].stop(signal.SIGTERM)
    return s.start(**flags)


def refused(a, what):
    check(a.status == 500 and a.json()["type"] == "/problems/io-error" and "damaged" in a.json()["detail"], f"{what}: nothing of it is sent",
          (a.status, a.body[:200]))


def test_a_flipped_bit_is_never_sent():
    with State() as s:
        d = s.start(content_cache="true")
        job = d.job(PICTURE, QUERY)
        d.wait_state(job, "succeeded")
        whole = d.curl(f"/v1/jobs/{job}/result")
        time.sleep(0.3)  # maps and masks are put away after the end
        d = restarted(s, content_cache="true")
        path = f"/v1/jobs/{job}/result"
        a = d.curl(path)
        check(a.status == 200 and a.body == whole.body and a.header("content-digest"), "from the disk", (a.status, len(a.body)))
        check(d.curl(path).body == whole.body and d.curl(path, "-r", "10-19").body == whole.body[10:20], "again, and a part")
        check("damaged" not in d.curl(f"/v1/jobs/{job}").json(), "nothing is marked")
        flip(file_of(s, job, "result"), keep_times=True)  # it was looked at before, and its time of change is put back
        refused(d.curl(path), "the whole")
        refused(d.curl(path, "-r", "0-9"), "a part")
        refused(d.curl(path, headers=["Accept: image/webp"]), "another format")
        check(d.curl(f"/v1/jobs/{job}").json().get("damaged") is True, "the job is marked")
        check("a stored picture is damaged" in d.log_text(), "the log says so")
        check(d.curl(path, headers=["If-None-Match: " + whole.header("etag")]).status in (304, 500), "who has it need not fetch it")
        again = d.curl("/v1/upscale" + QUERY, data=PICTURE)
        check(again.status == 200 and again.body == whole.body, "the same request is computed anew", (again.status, again.body[:200]))
        check("cached" not in d.curl(f"/v1/jobs/{again.header('x-job-id')}").json(), "and not taken from the cache")
        d = restarted(s)
        check(d.curl(path).body == whole.body, "which mends the older job too")


def test_every_picture_of_a_job():
    with State() as s:
        d = s.start()
        job = d.job(PICTURE, QUERY)
        d.wait_state(job, "succeeded")
        time.sleep(0.3)
        d = restarted(s)
        pictures = {"attention": "attention", "activation": "mask?step=2", "invented": "invented"}
        for kind, path in pictures.items():
            check(d.curl(f"/v1/jobs/{job}/{path}").status == 200, f"{kind} is there")
            flip(file_of(s, job, kind), at=60)
            refused(d.curl(f"/v1/jobs/{job}/{path}"), kind)
        result = file_of(s, job, "result")
        os.truncate(result, os.path.getsize(result) - 5000)
        refused(d.curl(f"/v1/jobs/{job}/result"), "a result that was cut short")
        check(d.alive() and d.curl("/readyz").status == 200, "the server goes on")


def test_a_batch_breaks_off_before_a_damaged_member():
    with State() as s:
        d = s.start()
        b = batch(d).json()
        d.curl(f"/v1/batches/{b['id']}?wait=20")
        jobs = [i["job"] for i in b["items"]]
        first = d.curl(f"/v1/jobs/{jobs[0]}/result").body
        time.sleep(0.3)
        d = restarted(s)
        flip(file_of(s, jobs[1], "result"))
        a = d.curl(f"/v1/batches/{b['id']}/archive")
        bad = open(file_of(s, jobs[1], "result"), "rb").read()
        check(a.status in (0, 200) and bad[200:2000] not in a.body, "nothing of it is sent", (a.status, len(a.body)))
        if a.status == 200:
            check(len(a.body) < int(a.header("content-length")) and first[:500] in a.body, "it breaks off", (len(a.body), a.headers))
            try:
                zipfile.ZipFile(io.BytesIO(a.body))
                check(False, "it is no archive")
            except zipfile.BadZipFile:
                pass


def test_a_damaged_upload_fails_its_job():
    with State() as s:
        d = s.start(max_running=1, fake_unit_us=20000)
        running, waiting = d.job(textured(200, 160), "?steps=60"), d.job(PICTURE, "?steps=2")
        path = file_of(s, waiting, "input")
        s.kill()
        flip(path, at=200)
        d = s.start(max_running=1)
        d.curl(f"/v1/jobs/{running}", "-X", "DELETE")
        check(d.wait_state(waiting, "failed", "succeeded") == "failed", "it fails")
        problem = d.curl(f"/v1/jobs/{waiting}").json()["problem"]
        check(problem["type"] == "/problems/io-error" and "damaged" in problem["detail"], "and says why", problem)
