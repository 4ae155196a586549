"""The document and the server say the same: paths, methods, statuses, content types, members of the answers."""
import json
import re
import uuid

from harness import check, textured, uses

PICTURE = textured(32, 32)
METHODS = ("get", "post", "put", "delete")


def document():
    with open("api/openapi.json") as f:
        return json.load(f)


def resolve(doc, node):
    while isinstance(node, dict) and "$ref" in node:
        target = doc
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def routes():
    with open("api/routes.c") as f:
        found = re.findall(r"\.method = YD_(\w+), \.pattern = \"([^\"]+)\"", f.read())
    return {(path, method.lower()) for method, path in found}


def fits(doc, schema, value, where):
    """A plain reading of the few keywords the document uses; the complaints."""
    schema = resolve(doc, schema)
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(isinstance(value, kinds[t]) for t in types):
        return [f"{where}: {value!r} is no {types}"]
    bad = []
    if "anyOf" in schema:
        tried = [fits(doc, s, value, where) for s in schema["anyOf"]]
        bad += [] if any(not t for t in tried) else tried[0]
    if "enum" in schema and value not in schema["enum"]:
        bad.append(f"{where}: {value!r} is not one of {schema['enum']}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        bad.append(f"{where}: {value!r} does not match {schema['pattern']}")
    if isinstance(value, dict):
        bad += [f"{where}: {k} is missing" for k in schema.get("required", []) if k not in value]
        for k, v in value.items():
            inner = schema.get("properties", {}).get(k, schema.get("additionalProperties"))
            if isinstance(inner, dict):
                bad += fits(doc, inner, v, f"{where}.{k}")
            elif inner is None and schema.get("properties"):
                bad.append(f"{where}: {k} is not documented")
    if isinstance(value, list) and "items" in schema:
        for v in value:
            bad += fits(doc, schema["items"], v, where + "[]")
    return bad


def hold(doc, a, path, method):
    """Hold one answer against the document."""
    what = f"{method.upper()} {path} -> {a.status}"
    described = resolve(doc, doc["paths"][path][method]["responses"].get(str(a.status)))
    if not check(described, what + " is documented", a.body[:200]):
        return
    if not a.body:
        return
    kind = (a.header("content-type") or "").split(";")[0]
    content = described.get("content", {})
    if check(kind in content, f"{what}: {kind} is documented", list(content)) and "schema" in content[kind]:
        complaints = fits(doc, content[kind]["schema"], a.json(), what)
        check(not complaints, what + " has the documented form", complaints)


@uses("fake")
def test_it_is_served_as_it_is(d):
    a = d.curl("/openapi.json")
    with open("api/openapi.json", "rb") as f:
        check(a.body == f.read(), "byte for byte")
    doc = a.json()
    check(doc["openapi"].startswith("3.1"), "its version", doc["openapi"])
    text = json.dumps(doc)
    for ref in set(re.findall(r'"\$ref": "([^"]+)"', text)):
        check(resolve(doc, {"$ref": ref}) is not None, ref + " leads somewhere")


def test_every_route_is_documented_and_the_other_way_round():
    documented = {(path, m) for path, item in document()["paths"].items() for m in item if m in METHODS}
    check(len(routes()) >= 18, "the table was read", len(routes()))
    check(documented == routes(), "the same addresses and methods", documented ^ routes())


@uses("fake")
def test_settings_are_those_of_the_server(d):
    doc = document()
    for path in ("/v1/jobs", "/v1/upscale"):
        parameters = [resolve(doc, p) for p in doc["paths"][path]["post"]["parameters"]]
        names = {p["name"] for p in parameters if p["in"] == "query"}
        settings = set(d.curl("/v1/capabilities").json()["settings"])
        check(names == settings, path + " documents every setting", names ^ settings)


@uses("fake")
def test_a_quality_is_what_models_says(d):
    profiles = d.curl("/v1/models").json()["models"][0]["profiles"]
    check(set(profiles) == {"fast", "balanced", "best"}, "three of them", profiles)
    check(profiles["fast"]["steps"] < profiles["balanced"]["steps"] < profiles["best"]["steps"], "they differ", profiles)
    for name, profile in profiles.items():
        used = d.submit(PICTURE, f"?quality={name}").json()["settings"]
        check(used["quality"] == name and {k: used[k] for k in profile} == profile, f"quality={name} is that", (used, profile))
    used = d.submit(PICTURE, "?steps=3&quality=best").json()["settings"]
    check(used["steps"] == 3 and used["lower_bound"] == profiles["best"]["lower_bound"], "what is said beside it wins", used)
    check(d.curl("/v1/capabilities").json()["defaults"]["quality"] == "balanced", "balanced is the default")


@uses("fake")
def test_answers_fit(d):
    doc = document()
    job = d.job(PICTURE, "?steps=3")
    d.wait_state(job, "succeeded")
    running = d.job(textured(300, 300), "?steps=300")
    gone = d.job(PICTURE, "?steps=1")
    d.curl(f"/v1/jobs/{gone}", "-X", "DELETE")
    none = "00000000-0000-4000-8000-000000000000"
    asked = set()

    def ask(path, method="get", job_id=job, query="", args=(), name="fake-2x", **kw):
        asked.add((path, method))
        flags = args if method == "get" or args or (method == "post" and "data" in kw) else ["-X", method.upper()]
        hold(doc, d.curl(path.replace("{id}", job_id).replace("{name}", name) + query, *flags, **kw), path, method)

    for path, item in doc["paths"].items():
        if path == "/v1/events":  # without an end
            ask(path, query="?jobs=" + none)
            ask(path, query="?last_event_id=x")
        elif "get" in item:
            extra = {"/v1/jobs/{id}/mask": "?step=1"}.get(path, "")
            ask(path, query=extra)
            if "{id}" in path:
                ask(path, job_id=none, query=extra)
                ask(path, job_id=gone, query=extra)
    for path in ("/v1/models/{name}", "/v1/models/{name}/unload", "/v1/models/{name}/load"):
        method = "get" if path.endswith("}") else "post"
        for query in ("", "?wait=5", "?wait=x") if method == "post" else ("",):
            ask(path, method, query=query)
        ask(path, method, name="none")
        ask(path, method, query="?nothing=1")
        ask(path, method, args=("-X", method.upper()), headers=["Origin: http://elsewhere.example"])
    ask("/v1/jobs/{id}/result", headers=["Range: bytes=0-3"])
    ask("/v1/jobs/{id}/result", headers=["Range: bytes=99999999-"])
    ask("/v1/jobs/{id}/result", job_id=running)
    ask("/v1/jobs/{id}/events", headers=["Last-Event-ID: x"])
    ask("/v1/jobs/{id}/events", headers=["Accept: application/x-ndjson"])
    ask("/v1/jobs/{id}/preview", headers=["Accept: image/jpeg"])
    for picture in ("result", "preview", "attention", "invented", "mask"):
        for kind in ("image/webp", "text/html"):
            ask(f"/v1/jobs/{{id}}/{picture}", query="?step=1" if picture == "mask" else "", headers=[f"Accept: {kind}"])
    ask("/v1/upscale", "post", data=PICTURE, headers=["Accept: text/html"])
    ask("/v1/jobs/{id}/preview", query="?max_side=1")
    ask("/v1/jobs/{id}/mask")
    ask("/v1/jobs/{id}/mask", query="?step=4")
    ask("/v1/jobs/{id}", query="?wait=x")
    ask("/readyz", query="?verbose")
    ask("/v1/jobs", query="?state=x")
    ask("/v1/jobs", query="?cursor=x")
    for path in ("/v1/jobs", "/v1/upscale"):
        ask(path, "post", query="?steps=1", data=PICTURE)
        ask(path, "post", query="?stepz=1", data=PICTURE)
        ask(path, "post", data=b"")
        ask(path, "post", data=b"x", headers=["Content-Type: text/plain"])
        ask(path, "post", data=b"no picture")
    ask("/v1/upscale", "post", query="?steps=300", data=textured(300, 300), headers=["Prefer: wait=0"])
    mine = str(uuid.uuid4())
    for picture, query in ((PICTURE, "?steps=1"), (PICTURE, "?steps=1"), (PICTURE, "?steps=2"), (b"no picture", "")):
        ask("/v1/jobs/{id}", "put", job_id=mine, query=query, data=picture)
        ask("/v1/jobs", "post", query=query, data=picture, headers=["Idempotency-Key: mine"])
    ask("/v1/jobs/{id}", "put", job_id="none", data=PICTURE)
    form = ["-F", 'settings={"steps":1}', "-F", "image=@docs/images/chelsea.png"]
    album = d.curl("/v1/batches", *form).json()["id"]
    for path in ("/v1/batches", "/v1/jobs"):
        ask(path, "post", args=form + form[2:])
        ask(path, "post", args=["-F", "image=@README.md", "-F", "image=@README.md"])
        ask(path, "post", args=["-F", "photo=@README.md"])
    ask("/v1/batches", "post", data=PICTURE)
    for query in ("", "?limit=0", "?cursor=x", "?limit=1"):
        ask("/v1/batches", query=query)
    ask("/v1/batches/{id}/archive", job_id=album)
    for query in ("", "?wait=20", "?wait=x"):
        ask("/v1/batches/{id}", job_id=album, query=query)
    ask("/v1/batches/{id}/archive", job_id=album)
    ask("/v1/batches/{id}/cancel", "post", job_id=album)
    ask("/v1/batches/{id}/cancel", "post", job_id=none)
    ask("/v1/batches/{id}", "delete", job_id=none)
    ask("/v1/batches/{id}", "delete", job_id=d.curl("/v1/batches", *form).json()["id"])
    ask("/v1/jobs/{id}/cancel", "post")
    ask("/v1/jobs/{id}/cancel", "post", job_id=running)
    ask("/v1/jobs/{id}/cancel", "post", job_id=none)
    ask("/v1/jobs/{id}/cancel", "post", job_id=gone)
    ask("/v1/jobs/{id}", "delete")
    ask("/v1/jobs/{id}", "delete", job_id=none)
    ask("/v1/jobs/{id}", "delete", job_id=gone)
    ask("/v1/tokens", "post")  # nobody is asked for a key here
    ask("/v1/tokens", "post", query=f"?job={none}")
    ask("/v1/tokens", "post", query="?ttl_s=0")
    check(asked == routes(), "every address and method was asked", asked ^ routes())
    for j in d.curl("/v1/jobs?state=running").json()["jobs"]:
        d.curl(f"/v1/jobs/{j['id']}", "-X", "DELETE")
