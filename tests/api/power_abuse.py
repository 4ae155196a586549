"""Loss of power, for tests/api (a few moments) and tests/fault (all of them): what a client was told, by which order of writes and syncs that was
true, and what a server finds when everything that was not synced has gone.

A server runs under strace while a client submits, waits, deletes, sends a batch, repeats itself and has results delivered. Each answer is
found in the log again by its X-Request-Id: what it promises must hold from the first byte of it on.
"""
import base64
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import tempfile
import time

import power_log
from harness import SLOWNESS, Daemon, check, textured
from kill_abuse import form, integrity
from test_outgoing import SECRET, Peer, reply

PICTURES = [textured(40 + 4 * i, 32, i) for i in range(8)]
LONG = textured(120, 100, 9)
QUERY, LONG_QUERY = "?steps=3", "?steps=20&sampler=dpmpp_2m"
MOST = 9  # jobs that have ended are kept
JSON = {"Content-Type": "application/json"}


def flags(peer, folder):
    secrets = os.path.join(folder, "secrets")
    with open(secrets, "w") as f:
        f.write(SECRET + "\n")
    return dict(device="fake", fake_unit_us=500, checkpoint_interval_ms=20, content_cache="true", result_hosts=peer.host, webhook_hosts=peer.host,
                webhook_secret_file=secrets, outgoing_http="true", outgoing_networks="127.0.0.1", delivery_retry_ms=50, max_running=2)


class Client:
    """Asks, and notes what it was told: (answer's id, id of the answer before it, kind, about what, more)."""

    def __init__(self, port):
        self.port, self.told, self.n, self.before = port, [], 0, None

    def ask(self, method, path, body=None, headers=None, note=True):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60 * SLOWNESS)
        self.n += 1
        rid = f"told-{self.n}"
        try:
            c.request(method, path, body, {"X-Request-Id": rid, **(headers or {})})
            r = c.getresponse()
            status, data = r.status, r.read()
        finally:
            c.close()
        if note:
            self.rid, self.before = rid, self.rid if self.n > 1 else None
        return status, data

    def tell(self, kind, what, more=None):
        self.told.append((self.rid, self.before, kind, what, more))

    def submit(self, method, path, body, want, headers=None, statuses=(202,)):
        status, data = self.ask(method, path, body, headers)
        if status not in statuses:
            raise AssertionError(f"refused: {status} {data[:300]}")
        job = json.loads(data)
        self.tell("taken", job["id"], want)
        if job["state"] == "succeeded":
            self.tell("ended", job["id"], want)
        return job["id"]

    def await_end(self, job, want):
        for _ in range(30):
            status, data = self.ask("GET", f"/v1/jobs/{job}?wait=5")
            if status != 200 or json.loads(data)["state"] not in ("queued", "running"):
                break
        check(status == 200 and json.loads(data)["state"] == "succeeded", "it succeeds", data[:300])
        self.tell("ended", job, want)

    def delete(self, path, kind, what):
        status, data = self.ask("DELETE", path)
        check(status == 204, "deleted", (status, data[:200]))
        self.tell(kind, what)


def known():
    d = Daemon(device="fake")
    out = [hashlib.sha256(d.curl("/v1/upscale" + QUERY, data=p).body).hexdigest() for p in PICTURES]
    out.append(hashlib.sha256(d.curl("/v1/upscale" + LONG_QUERY, data=LONG).body).hexdigest())
    d.stop()
    return out


def story(c, peer, want):
    """Everything a client can be promised, one after the other."""
    first = c.submit("POST", "/v1/jobs" + QUERY, PICTURES[0], want[0])
    c.await_end(first, want[0])
    again = c.submit("POST", "/v1/jobs" + QUERY, PICTURES[0], want[0])  # from the cache
    body = {"image": {"base64": base64.b64encode(PICTURES[1]).decode()}, "steps": 3, "webhook": {"url": peer.url + "/hook"}, "result": {"url": peer.url + "/put"}}
    told = c.submit("POST", "/v1/jobs", json.dumps(body).encode(), want[1], JSON)
    c.await_end(told, want[1])
    peer.wait("/hook")
    own = "6f6b1c9e-7d1a-4c57-9b3e-0123456789ab"
    c.submit("PUT", f"/v1/jobs/{own}{QUERY}", PICTURES[2], want[2], statuses=(201, 202))
    keyed = c.submit("POST", "/v1/jobs" + QUERY, PICTURES[3], want[3], {"Idempotency-Key": "power"})
    c.tell("key", keyed)
    long = c.submit("POST", "/v1/jobs" + LONG_QUERY, LONG, want[8])
    body, kind = form([("image", f"{i}.png", PICTURES[i]) for i in (4, 5, 6)] + [("settings", None, b'{"steps":3}')])
    status, data = c.ask("POST", "/v1/batches", body, kind)
    batch = json.loads(data)
    check(status == 202, "a batch is taken", (status, data[:300]))
    c.tell("batch", batch["id"], [i["job"] for i in batch["items"]])
    for n, i in zip((4, 5, 6), batch["items"]):
        c.tell("taken", i["job"], want[n])
    for job, n in ((own, 2), (keyed, 3), (long, 8)):
        c.await_end(job, want[n])
    for n, i in zip((4, 5, 6), batch["items"]):
        c.await_end(i["job"], want[n])
    c.delete(f"/v1/jobs/{first}", "deleted", first)
    c.delete(f"/v1/batches/{batch['id']}", "no batch", batch["id"])
    for i in batch["items"]:
        c.tell("deleted", i["job"])
    for job in (again, told):  # the oldest of more than MOST that have ended
        c.tell("leaving", job)
    before = c.rid
    for _ in range(MOST - 4):
        c.submit("POST", "/v1/jobs" + QUERY, PICTURES[0], want[0])
    c.await_end(c.submit("POST", "/v1/jobs" + QUERY, PICTURES[7], want[7]), want[7])
    deadline = time.monotonic() + 10 * SLOWNESS
    while c.ask("GET", f"/v1/jobs/{again}", note=False)[0] == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    check(c.ask("GET", f"/v1/jobs/{again}")[0] == 410, "expired")
    c.before = before
    c.tell("deleted", again)


class Record:
    """One run of the story under strace: its calls, the disk as they left it, what was told and when."""

    def __init__(self, folder):
        self.folder, self.state = folder, os.path.join(folder, "state")
        self.peer, self.want = Peer(), known()
        self.peer.answers = {"/hook": reply(204), "/put": reply(200)}
        self.flags = flags(self.peer, folder)
        log = os.path.join(folder, "log")
        d = Daemon(wrap=power_log.strace(log), state_dir=self.state, max_finished_jobs=MOST, **self.flags)
        client = Client(d.port)
        client.rid = None
        try:
            story(client, self.peer, self.want)
        finally:
            with open(f"/proc/{d.process.pid}/task/{d.process.pid}/children") as f:
                os.kill(int(f.read().split()[0]), signal.SIGTERM)
            d.process.wait(60)
        self.calls = power_log.read_log(log)
        self.end = max(c.ended for c in self.calls) + 1
        self.disk = power_log.Disk(self.calls, self.state)
        self.answers = self.find_answers()
        self.claims = [(self.answers[rid], self.answers.get(before, 0), kind, what, more) for rid, before, kind, what, more in client.told]

    def find_answers(self):
        """Where in the log the first byte of each answer was sent."""
        found = {}
        for c in self.calls:
            if c.socket():
                for rid in re.findall(rb"X-Request-Id: (told-\d+)\r", c.sent()):
                    found.setdefault(rid.decode(), c.began)
        return found

    def delivered_from(self):
        """When the webhook was begun to be sent."""
        return min((c.began for c in self.calls if c.socket() and c.sent().startswith(b"POST /hook")), default=self.end)


# ---- the order

def after(calls, moment, test):
    """The first call that began after a moment and for which test says yes."""
    return next((c for c in calls if c.began > moment and test(c)), None)


def is_sync(c, end):
    return c.name in ("fsync", "fdatasync") and c.ok and c.paths[0].endswith(end)


def stored_before(calls, token, moment, files=()):
    """What is wrong with the order in which files (by name) and a record that holds token were stored before a moment of the log; or None."""
    begins = -1
    for name in files:
        rename = next((c for c in calls if c.name.startswith("rename") and c.strings[-1].decode().endswith(name)), None)
        if not rename:
            return f"{name} was never renamed into place"
        writes = [c for c in calls if c.name == "write" and c.ok and c.paths[0].endswith("/pictures/.new") and c.ended < rename.began]
        sync = after(calls, writes[-1].ended if writes else -1, lambda c: is_sync(c, "/pictures/.new"))
        if not writes or not sync or sync.ended > rename.began:
            return f"{name} was renamed before it was synced"
        folder = after(calls, rename.ended, lambda c: is_sync(c, "/pictures"))
        if not folder:
            return "the folder was never synced"
        begins = max(begins, folder.ended)
    record = next((c for c in calls if c.name == "pwrite64" and c.paths[0].endswith("-wal") and token.encode() in c.sent()), None)
    if not record:
        return f"no record of {token} was written"
    commit = after(calls, record.ended, lambda c: is_sync(c, "-wal"))
    if not commit or commit.ended > moment:
        return "told before the log of the database was synced"
    if begins > commit.began:
        return "the log of the database was synced before the folder was"
    return None


def order_of(record, calls=None):
    """Everything that was told before it was true, by the order of the calls."""
    calls = calls or record.calls
    names = {w: hashlib.sha256(p).hexdigest() for w, p in zip(record.want, [*PICTURES, LONG])}
    bad, ends = [], [c for c in calls if c.name.startswith("unlink") and c.ok and "/pictures" in c.path()]
    for moment, before, kind, what, more in record.claims:
        wrong = None
        if kind == "taken":
            wrong = stored_before(calls, what, moment, [names[more]])
        elif kind == "ended":
            wrong = stored_before(calls, more, moment, [more])
        elif kind in ("deleted", "no batch"):
            commit = after(calls, before, lambda c: is_sync(c, "-wal"))
            wrong = None if commit and commit.ended < moment else "told before the log of the database was synced"
            early = [c for c in ends if before < c.began < moment and (not commit or c.began < commit.ended)]
            wrong = wrong or (kind == "deleted" and early and "a file went before the record of it")
        elif kind == "batch":
            wrong = stored_before(calls, what, moment)
        if wrong:
            bad.append((kind, what, wrong))
    hook = record.delivered_from()
    told = next(w for m, b, k, w, more in record.claims if k == "ended" and more == record.want[1])
    wrong = stored_before(calls, record.want[1], hook, [record.want[1]])
    return bad + ([("delivery", told, wrong)] if wrong else [])


# ---- the replay

def ask(port, method, path, body=None, headers=None):
    c = Client(port)
    c.rid = None
    return c.ask(method, path, body, headers)


def hold(port, kind, about, more, leaving):
    """What is wrong with one promise, or None. leaving: it may be gone already."""
    status, data = ask(port, "GET", f"/v1/{'batches' if 'batch' in kind else 'jobs'}/{about}{'?wait=20' if kind == 'taken' else ''}")
    if kind in ("deleted", "no batch"):
        return None if status in (404 if kind == "no batch" else 410, 410) else status
    if status in (404, 410) and leaving:
        return None
    if status != 200 or kind == "leaving":
        return None if kind == "leaving" else (status, data[:200])
    answer = json.loads(data)
    if kind == "batch":
        return None if leaving or [i["job"] for i in answer["items"]] == more else data[:200]
    if kind == "key":
        status, data = ask(port, "POST", "/v1/jobs" + QUERY, PICTURES[3], {"Idempotency-Key": "power"})
        return None if json.loads(data).get("id") == about else (status, data[:200])
    if answer["state"] != "succeeded":
        return answer["state"]
    status, data = ask(port, "GET", f"/v1/jobs/{about}/result")
    return None if hashlib.sha256(data).hexdigest() == more else (status, len(data), "other bytes")


def judge(record, moment, losses, what):
    """Make the folder as it stands when power goes at a moment of the log, start a server there, hold it against what was told until then."""
    folder = tempfile.mkdtemp(prefix="yodad-power-")
    record.disk.leave(moment, folder, *losses)
    record.peer.seen.clear()
    told = [c for c in record.claims if c[0] < moment]
    leaving = {c[3] for c in record.claims if c[1] < moment and c[2] in ("deleted", "no batch", "leaving")}
    gone = {c[3] for c in told if c[2] in ("deleted", "no batch")}
    bad = []
    try:
        d = Daemon(state_dir=os.path.join(folder, "state"), **record.flags)
    except RuntimeError as e:
        shutil.rmtree(folder, ignore_errors=True)
        return check(False, what, f"the next server does not start: {str(e)[-300:]}")
    for _, _, kind, about, more in told:
        wrong = None if about in gone and kind in ("taken", "ended", "batch") else hold(d.port, kind, about, more, about in leaving)
        bad += [(kind, about, wrong)] if wrong else []
    hooked = [c for c in told if c[2] == "taken" and c[4] == record.want[1]]
    if hooked and moment < record.delivered_from() and not record.peer.wait("/hook", 1, 10):
        bad.append(("delivery", hooked[0][3], "never made"))
    if d.stop() != 0:
        bad.append("the next server does not end well")
    ok, orphans, missing = integrity(os.path.join(folder, "state"))
    if ok != "ok" or orphans or missing:
        bad.append(f"integrity: {ok}, {len(orphans)} orphans, {len(missing)} missing")
    shutil.rmtree(folder, ignore_errors=True)
    return check(not bad, what, bad)


def moments(record):
    """Just before each sync takes effect, and the end; of those between which nothing new was told or made certain, one."""
    return sorted({s[1] for s in record.disk.syncs} | {record.end})


def telling(record):
    """Of these, the first after each answer: what was told last has had the least time to become true."""
    all_of_them = moments(record)
    return sorted({next(m for m in all_of_them if m > c[0]) for c in record.claims})
