"""Three yodads that share one real Redis and no folder (picture_store=redis): pictures and checkpoints come from the server."""
import json
import os
import subprocess
import tempfile

from cluster import PICTURES
from harness import check, textured
from test_access import new_key
from test_replicas import SLOW, Replicas, job, kill_in_the_middle, known, result, states, submit, until, who_has


def ask(r, *words):
    return subprocess.run(["redis-cli", "-s", r.redis.socket, *words], capture_output=True, text=True, check=True).stdout.split()


def checkpoints(r):
    return ask(r, "--scan", "--pattern", "yodad:checkpoint:*")


def test_everybody_has_every_picture():
    r, want = Replicas(apart=True), known()
    ids = [submit(r.of[k % 3]) for k in range(9)]
    for i in ids:
        until("it succeeds everywhere", lambda: states(r, i) == ["succeeded"] * 3)
        check([result(d, i) for d in r.of] == [want] * 3, "the same bytes from all", [result(d, i) for d in r.of])
    maps = {d.curl(f"/v1/jobs/{ids[0]}/attention").body for d in r.of}
    check(len(maps) == 1 and maps.pop()[:4] == b"\x89PNG", "maps too")
    check(len(ask(r, "--scan", "--pattern", "yodad:picture:*")) >= 2, "they are in the server")
    late = r.start()  # knows none of them yet
    r.of.append(late)
    check(result(late, ids[0]) == want, "and for who comes later")
    r.stop()


def test_one_is_killed_and_another_goes_on():
    r = Replicas(apart=True, **SLOW)
    kill_in_the_middle(r, lambda i: checkpoints(r) == [f"yodad:checkpoint:{i}"])
    until("its checkpoint is gone", lambda: not checkpoints(r))
    r.stop()


def test_one_leaves_and_another_goes_on():
    r, query = Replicas(apart=True, **SLOW, drain_timeout_ms=0), "?steps=80&sampler=ancestral"
    want = known(query)
    i = submit(r.of[0], query)
    d = until("somebody has got somewhere", lambda: next((x for x in r.of if job(x, i)["progress"]["step"] >= 5), None)) and who_has(r)
    check(d.stop(seconds=60) == 0, "it leaves")
    until("it is computed", lambda: set(states(r, i)) == {"succeeded"}, 60)
    check({result(x, i) for x in r.of if x.alive()} == {want}, "to the same bytes")
    check(any("goes on from its checkpoint" in x.log_text() for x in r.of if x.alive()), "it was not begun anew")
    r.stop()


def test_what_is_too_large_is_refused_in_words():
    r = Replicas(1, apart=True, picture_store_max="64KiB")
    d = r.of[0]
    a = d.curl("/v1/jobs?steps=1", data=textured(200, 150))
    check(a.status == 413 and a.json()["field"] == "image" and "picture_store_max" in a.json()["detail"] and "65536" in a.json()["accepted"],
          "an upload", (a.status, a.body[:400]))
    a = d.curl("/v1/jobs?steps=1", data=textured(160, 120))
    until("the other one ends", lambda: job(d, a.json()["id"])["state"] in ("failed", "succeeded"))
    end = job(d, a.json()["id"])
    check(end["state"] == "failed" and "picture_store_max" in json.dumps(end), "a result", end)
    check(job(d, submit(d))["state"] in ("queued", "running", "succeeded"), "smaller ones are taken")
    r.stop()


def test_tokens_are_good_everywhere():
    with tempfile.TemporaryDirectory() as folder:
        keys = os.path.join(folder, "keys")
        bearer = f"Authorization: Bearer {new_key(keys, 'alice')}"
        r = Replicas(apart=True, keys=keys)
        i = r.of[0].curl("/v1/jobs?steps=2", data=PICTURES[0], headers=(bearer,)).json()["id"]
        until("it succeeds", lambda: r.of[0].curl(f"/v1/jobs/{i}?wait=5", headers=(bearer,)).json()["state"] == "succeeded")
        token = r.of[0].curl(f"/v1/tokens?job={i}", "-X", "POST", headers=(bearer,)).json()["token"]
        got = [d.curl(f"/v1/jobs/{i}/result?token={token}").status for d in r.of]
        check(got == [200] * 3, "a token of one opens the result at all", got)
        r.stop()
