"""Rules of the source tree, each a function from a root folder to a list of "path: what is wrong".

A rule looks at files only, so that it runs on a planted tree as well as on the real one: PLANTED gives every rule a violation that it
must find (tests/lint/run does both). Words that a rule forbids are put together from halves here, so that this file obeys too.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import settings_page  # noqa: E402

IGNORED_FOLDERS = {".git", "build", "state", "__pycache__"}
CODE = (".c", ".h", ".cu")
LAYERS = ("core", "gpu", "daemon", "api", "tools")
MAIN_FILES = {"daemon/main.c", "tools/main.c"}
MAX_FILE_BYTES = 4 << 20
MAX_TOP_LINES = 25


def files(root, endings=None, folders=None):
    """Paths below root, relative, in order; only in the named top folders, only with the given endings."""
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(n for n in subfolders if n not in IGNORED_FOLDERS)
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), root)
            if name in IGNORED_FOLDERS or (folders and path.split("/")[0] not in folders):  # in a work tree .git is a file
                continue
            if endings and not path.endswith(endings):
                continue
            found.append(path)
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), "rb") as f:
        return f.read().decode("utf-8", "replace")


def without_comments(text):
    """C code with comments and the insides of literals blanked; line numbers stay."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

    def blank(m):
        return "\n" * m.group().count("\n") if m.group().startswith("/") else '""'

    return token.sub(blank, text)


def matches(root, paths, pattern, why, clean=lambda text: text):
    out = []
    for path in paths:
        for number, line in enumerate(clean(read(root, path)).splitlines(), 1):
            m = pattern.search(line)
            if m:
                out.append(f"{path}:{number}: {why}: {m.group().strip()}")
    return out


# Which top folders a layer may include from, and which libraries it must not know.
MAY_INCLUDE = {
    "core": {"core"},
    "gpu": {"core", "gpu"},
    "daemon": {"core", "daemon"},
    "api": {"core", "daemon", "api"},
    "tools": {"core", "tools"},
}
FORBIDDEN_LIBRARIES = {
    "core": r"jansson|microhttpd|uv|vips|curl|cuda|cudnn",
    "gpu": r"jansson|microhttpd|uv|vips|curl",
    "daemon": r"microhttpd|vips|cuda|cudnn",
    "api": r"vips|curl|cuda|cudnn",
    "tools": r"jansson|microhttpd|uv|vips|curl|cuda|cudnn",
}
INCLUDE = re.compile(r'^\s*#\s*include\s*(<([^>]+)>|"([^"]+)")')


def include_error(path, system, own):
    layer = path.split("/")[0]
    if own:
        target = own.split("/")[0]
        if target not in LAYERS:
            return f'"{own}" does not begin with a layer'
        if target not in MAY_INCLUDE[layer]:
            return f'{layer}/ must not include "{own}"'
        return None
    if re.match(r"core/image(_\w+)?\.[ch]$", path) and system.startswith("vips/"):
        return None
    if re.match(rf"({FORBIDDEN_LIBRARIES[layer]})[./_]", system):
        return f"{layer}/ must not include <{system}>"
    return None


def layers(root):
    """api -> daemon -> core <- gpu; tools -> core. Only the composition root sees all."""
    out = []
    for path in files(root, CODE, LAYERS):
        if path == "daemon/main.c":
            continue
        for number, line in enumerate(read(root, path).splitlines(), 1):
            m = INCLUDE.match(line)
            error = m and include_error(path, m.group(2), m.group(3))
            if error:
                out.append(f"{path}:{number}: {error}")
    return out


UNSAFE = re.compile(r"(?<![\w.>])(strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|atoll|atof|gets|alloca)\s*\(")
ENDING = re.compile(r"(?<![\w.>])(exit|_exit|quick_exit|abort)\s*\(")


def unsafe_functions(root):
    return matches(root, files(root, CODE), UNSAFE, "unsafe function", without_comments)


def ending_functions(root):
    """A library does not end its process; only the two programs' main files do."""
    paths = [p for p in files(root, CODE, LAYERS) if p not in MAIN_FILES]
    return matches(root, paths, ENDING, "ends the process", without_comments)


def top_comment(root):
    """Every source begins by saying what it is, in at most 25 lines."""
    out = []
    for path in files(root, CODE + (".py", ".js", ".css")):
        lines = read(root, path).splitlines() or [""]
        if path.endswith(".py"):
            if not lines[0].startswith(('"""', "#")):
                out.append(f"{path}: does not begin with a docstring or comment")
            continue
        if not lines[0].startswith(("//", "/*")):
            out.append(f"{path}: does not begin with a comment")
        top = next((i for i, line in enumerate(lines) if not line.startswith("//")), len(lines))
        if top > MAX_TOP_LINES:
            out.append(f"{path}: the top comment has {top} lines, more than {MAX_TOP_LINES}")
    return out


def script_comment(root):
    """Scripts say what they are below their first line, and bash can parse them."""
    out = []
    for path in files(root):
        if "." in os.path.basename(path):
            continue
        lines = read(root, path).splitlines()
        if not lines or not lines[0].startswith("#!"):
            continue
        if len(lines) < 2 or not lines[1].startswith(("#", '"""')):
            out.append(f"{path}: no comment or docstring below the first line")
        if lines[0].endswith("bash"):
            r = subprocess.run(["bash", "-n", os.path.join(root, path)], capture_output=True, text=True)
            if r.returncode:
                out.append(f"{path}: {r.stderr.strip()}")
    return out


def include_guards(root):
    """#ifndef NAME / #define NAME is the first code of a header, and no two headers share a NAME."""
    out, seen = [], {}
    for path in files(root, (".h",)):
        code = without_comments(read(root, path)).split()
        if code[:1] == ["#ifndef"] and code[2:3] == ["#define"] and code[1] == code[3]:
            if code[1] in seen:
                out.append(f"{path}: shares its guard {code[1]} with {seen[code[1]]}")
            seen[code[1]] = path
        else:
            out.append(f"{path}: does not begin with an include guard")
    return out


UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(" + "|".join(["wo" + "rk", "ro" + "ot", "ho" + "me"]) + r")/")
SCRATCH_PATH = re.compile(r"(?<![\w.$}])/" + "tm" + r"p/\w")


def text_files(root):
    binary = (".safetensors", ".png", ".jpg", ".jpeg", ".ico", ".woff2", ".pth")
    return [p for p in files(root) if not p.endswith(binary)]


def unfinished(root):
    return matches(root, text_files(root), UNFINISHED, "unfinished")


def machine_paths(root):
    """The tree does not know where it was made. Tests may name scratch files."""
    paths = text_files(root)
    out = matches(root, paths, MACHINE_PATH, "path of some machine")
    return out + matches(root, [p for p in paths if not p.startswith("tests/")], SCRATCH_PATH, "path of some machine")


def file_sizes(root):
    out = []
    for path in files(root):
        size = os.path.getsize(os.path.join(root, path))
        if size > MAX_FILE_BYTES and not path.startswith("models/"):
            out.append(f"{path}: {size} bytes, more than {MAX_FILE_BYTES}")
    return out


def json_files(root):
    out = []
    for path in files(root, (".json",)):
        try:
            json.loads(read(root, path))
        except ValueError as e:
            out.append(f"{path}: {e}")
    return out


def docker_stages(text):
    """{name: [base, line...]} of a Dockerfile, each stage with the lines of the stage that it is made from before its own, in order."""
    stages, name = {}, ""
    text = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    for line in filter(None, text.splitlines()):
        base = re.match(r"FROM (\S+)(?: AS (\S+))?", line)
        if base:
            name = base.group(2) or f"{len(stages)}"
            before = stages.get(base.group(1))
            stages[name] = list(before) if before else [base.group(1)]
        elif name:
            stages[name].append(line)
    return stages


def dockerfile(root):
    """Targets cpu and cuda, bases by digest, packages from deploy/install-deps only, no root, signals reach the server; cpu is the default."""
    if not os.path.exists(os.path.join(root, "Dockerfile")):
        return ["Dockerfile: is not there"]
    stages = docker_stages(read(root, "Dockerfile"))
    out = []

    def need(ok, what):
        if not ok:
            out.append(f"Dockerfile: {what}")

    every = [line for stage in stages.values() for line in stage[1:]]
    need(all(re.match(r"[\w./-]+:(?!latest)[\w.-]+@sha256:[0-9a-f]{64}$", stage[0]) for stage in stages.values()), "a base is not named by tag and digest")
    need(any(re.match(r"RUN .*install-deps build", line) for line in stages.get("build", [])), "the stage build does not call install-deps build")
    need(not any("apt-get install" in line for line in every), "installs packages by itself")
    need(not any(re.search(r"\b(curl|wget) |^ADD ", line) for line in every), "fetches files by itself")
    need(stages and list(stages.values())[-1] == stages.get("cpu"), "what is built without a target is not cpu")
    for name in ("cpu", "cuda"):
        stage = stages.get(name, [""])
        last = {line.split()[0]: line for line in stage[1:]}
        need(stage[0].startswith("debian:12-slim@"), f"{name} is not made from debian:12-slim")
        need(re.match(r"USER [1-9]\d*(:\d+)?$", last.get("USER", "")), f"the last USER of {name} is not a number above 0")
        need(any(re.match(r"RUN .*install-deps run", line) for line in stage), f"{name} does not call install-deps run")
        need(last.get("ENTRYPOINT", "").startswith('ENTRYPOINT ["/usr/bin/yodad"'), f"the ENTRYPOINT of {name} is not the server in exec form")
        need(last.get("STOPSIGNAL") == "STOPSIGNAL SIGTERM", f"the STOPSIGNAL of {name} is not SIGTERM")
        need(last.get("HEALTHCHECK", "").endswith('CMD ["/usr/bin/yodad", "--probe"]'), f"the HEALTHCHECK of {name} is not yodad's own")
        need(last.get("VOLUME") == "VOLUME /var/lib/yodad", f"{name} has not one volume for its state")
        version = re.findall(r'image\.version="(.*?)"', " ".join(stage))
        there = read(root, "VERSION").strip() if os.path.exists(os.path.join(root, "VERSION")) else ""
        need("LABEL" in last and version[-1:] == [there], f"{name} has no labels, or its version is not {there}")
    need(any(line.startswith("COPY --from=nvidia ") for line in stages.get("cuda", [])), "cuda does not take its libraries from NVIDIA's image")
    need(stages.get("nvidia", [""])[0].startswith("nvidia/cuda:13."), "nvidia is not an image of CUDA 13")
    return out


def pinned(root):
    """What the containers are made of beside Debian: images by digest or version, PyPI packages by hash."""
    out = []
    for path in files(root, (".yaml", ".yml"), ["deploy"]):
        for image in re.findall(r"^\s*image: *(\S+)", read(root, path), re.M):
            if image not in ("yodad", "yodad:local", "yodad:cuda") and not re.search(r":v?\d+\.\d+", image):
                out.append(f"{path}: {image} has no version")
    for path in files(root, ("cuda-toolkit.txt",), ["deploy"]):
        for line in read(root, path).splitlines():
            if line and not line.startswith("#") and not re.match(r"[\w-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}$", line):
                out.append(f"{path}: no version and hash: {line}")
    return out


def systemd_available():
    return shutil.which("systemd-analyze") is not None


DROP_INS = "systemd/drop-ins"


def systemd_analyze(root, path, *arguments, drop_ins=()):
    """Run systemd-analyze on a copy of the unit whose program exists, so that it need not be installed here; its socket lies beside it."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in files(root, (".service", ".socket"), ["systemd"]):
            with open(os.path.join(scratch, os.path.basename(name)), "w") as f:
                f.write(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", read(root, name)))
        unit = os.path.join(scratch, os.path.basename(path))
        with open(unit, "a") as f:
            f.writelines(read(root, d) for d in drop_ins)
        return subprocess.run(["systemd-analyze", *arguments, unit], capture_output=True, text=True,
                              env={**os.environ, "SYSTEMD_UNIT_PATH": scratch + ":"})


def systemd_syntax(root):
    """systemd understands every line, each drop-in's too."""
    out, drop_ins = [], [d for d in files(root, (".conf",), ["systemd"]) if d.startswith(DROP_INS)]
    for path in files(root, (".service", ".socket"), ["systemd"]):
        said = systemd_analyze(root, path, "verify", drop_ins=drop_ins if path.endswith(".service") else ()).stderr.splitlines()
        out += [f"{path}: {line}" for line in said if os.path.basename(path) in line]
    for path in files(root, (".sysusers", ".tmpfiles"), ["systemd"]):
        tool = ["systemd-" + path.rsplit(".", 1)[1], *(["--dry-run"] if path.endswith(".sysusers") else ["--prefix=/nowhere", "--create"])]
        said = subprocess.run([*tool, os.path.join(os.path.abspath(root), path)], capture_output=True, text=True)
        if said.returncode:
            out.append(f"{path}: {said.stderr.strip()}")
    return out


def systemd_exposure(root):
    """systemd rates the exposure at most 1.0 of 10, and at most 1.3 with each drop-in, and with GPUs and a shared store together."""
    out, drop_ins = [], [d for d in files(root, (".conf",), ["systemd"]) if d.startswith(DROP_INS)]
    for path in files(root, (".service",), ["systemd"]):
        together = [[f"{DROP_INS}/gpu.conf", f"{DROP_INS}/store.conf"]] if f"{DROP_INS}/store.conf" in drop_ins else []
        for more, limit in [([], 10), *((d, 13) for d in [*([d] for d in drop_ins), *together])]:
            rated = systemd_analyze(root, path, "security", "--offline=true", f"--threshold={limit}", drop_ins=more)
            if rated.returncode:
                out.append(f"{path} {' '.join(more)}: " + (rated.stdout.strip().splitlines() or ["cannot be rated"])[-1])
    return out


def judged(program, *arguments, **kw):
    """What a tool says of a file it refuses; nothing when it takes it, or is not installed here."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not found:
        return []
    said = subprocess.run([found, *arguments], capture_output=True, text=True, **kw)
    return [(said.stderr + said.stdout).strip()[-600:]] if said.returncode else []


def balancers(root):
    """HAProxy, nginx and Compose take the configurations that ship."""
    out = []
    for path in files(root, (".cfg",), ["deploy"]):
        out += [f"{path}: {said}" for said in judged("haproxy", "-c", "-f", os.path.join(root, path))]
    for path in files(root, ("nginx.conf",), ["deploy"]):
        with tempfile.TemporaryDirectory() as scratch:
            out += [f"{path}: {said}" for said in judged("nginx", "-t", "-p", scratch, "-c", os.path.abspath(os.path.join(root, path)))]
    for path in files(root, ("compose.yaml",), ["deploy"]):
        whole = ["-f", os.path.join(root, path)]
        more = [p for p in files(root, (".yaml",), ["deploy"]) if os.path.dirname(p) == os.path.dirname(path) and p != path]
        for extra in [[], *(["-f", os.path.join(root, p)] for p in more)]:
            out += [f"{path} {' '.join(extra)}: {said}" for said in judged("docker-compose", *whole, *extra, "config", "-q")]
    return out


WORKLOAD = ("runAsNonRoot: true", "allowPrivilegeEscalation: false", "readOnlyRootFilesystem: true", "type: RuntimeDefault", "automountServiceAccountToken: false",
            "readinessProbe:", "terminationGracePeriodSeconds:", "limits:")
YODAD = ("startupProbe:", "livenessProbe:", "path: /livez", "path: /readyz", "secretName: yodad-keys", "mountPath: /dev/shm")


def time_to_end(manifest):
    """(seconds that a yodad may take to end by its settings, seconds that it is given)."""
    def ms(setting, default):
        found = re.search(rf'name: {setting}\n\s+value: "(\d+)"', manifest)
        return int(found.group(1)) if found else default
    sleep = re.search(r"- /bin/sleep\n\s+- \"(\d+)\"", manifest)
    needed = ms("YODAD_DRAIN_DELAY_MS", 0) + ms("YODAD_DRAIN_TIMEOUT_MS", 30000) + ms("YODAD_HANDOVER_TIMEOUT_MS", 10000) + 2000
    return (int(sleep.group(1)) if sleep else 0) + needed / 1000, int(re.search(r"terminationGracePeriodSeconds: (\d+)", manifest).group(1))


def workload_errors(document):
    """What a Deployment and its like lacks."""
    name = re.search(r"^  name: (\S+)", document, re.M).group(1)
    missing = [needed for needed in (*WORKLOAD, *(YODAD if name == "yodad" else ())) if needed not in document]
    out = [f"{name} lacks {needed}" for needed in missing]
    if name == "yodad" and not missing and time_to_end(document)[0] > time_to_end(document)[1]:
        out.append(f"yodad may take %g s to end, and is given %d" % time_to_end(document))
    return out


def kustomizations(root):
    """kubectl puts the manifests together, every workload runs without root, privileges and a writable root file system, may be asked how it is and has time
    to end; nobody may talk to yodad whom no policy names, and a node that is emptied takes one replica at a time."""
    out = []
    for path in files(root, ("kustomization.yaml",), ["deploy"]):
        if "kind: Component" in read(root, path):
            continue
        said = subprocess.run(["kubectl", "kustomize", os.path.join(root, os.path.dirname(path))], capture_output=True, text=True)
        if said.returncode:
            out.append(f"{path}: {said.stderr.strip()[-400:]}")
        workloads = [d for d in said.stdout.split("\n---\n") if re.search(r"^kind: (Deployment|StatefulSet|DaemonSet|Job)$", d, re.M)]
        out += [f"{path}: {error}" for document in workloads for error in workload_errors(document)]
        for kind in ("NetworkPolicy", "PodDisruptionBudget"):
            if workloads and f"kind: {kind}" not in said.stdout:
                out.append(f"{path}: no {kind}")
    return out


def autoscaling(root):
    """The metric that the autoscaler asks for is the one that the adapter serves, and the adapter asks for one that is recorded."""
    out, served = [], {}
    recorded = {name for path in files(root, ("alerts.yml",), ["deploy"]) for name in re.findall(r"record: (\S+)", read(root, path))}
    for path in files(root, ("adapter.yaml",), ["deploy"]):
        for series, name, query in re.findall(r'seriesQuery: "(.*?)"[\s\S]*?name: \{as: (\w+)\}[\s\S]*?metricsQuery: "(.*?)"', read(root, path)):
            served[name] = path
            if series not in recorded:
                out.append(f"{path}: nobody records {series}")
            with tempfile.TemporaryDirectory() as scratch:
                with open(os.path.join(scratch, "rules.yml"), "w") as f:
                    json.dump({"groups": [{"name": "a", "rules": [{"record": "x", "expr": query.replace("<<.Series>>", series)}]}]}, f)
                out += [f"{path}: {said}" for said in judged("promtool", "check", "rules", f.name)]
    for path in files(root, ("hpa.yaml",), ["deploy"]):
        for name in re.findall(r"metric: \{name: (\w+)\}", read(root, path)):
            if name not in served:
                out.append(f"{path}: no adapter serves {name}")
    return out


def dashboards(root):
    """(path, panel's title, expression) of every query of a dashboard."""
    for path in files(root, (".json",), ["deploy"]):
        for panel in json.loads(read(root, path)).get("panels", []):
            for target in panel.get("targets", []):
                yield path, panel["title"], target["expr"]


def watching(root):
    """Prometheus takes its configuration, the alerts fire when they should, dashboards ask for metrics that there are."""
    out = []
    known = set()
    for path in files(root, (".c",), ["daemon"]):
        known |= set(re.findall(r'head\(&?t, "(yodad_\w+)"', read(root, path)))
    asked = [(path, title, expr) for path, title, expr in dashboards(root)]
    asked += [(path, "alerts", read(root, path)) for path in files(root, ("alerts.yml",), ["deploy"])]
    recorded = {name for path, _, text in asked for name in re.findall(r"record: (yodad:\w+)", text)}
    for path, title, expr in asked:
        out += [f"{path}: {title}: nobody records {name}" for name in sorted(set(re.findall(r"yodad:\w+", expr)) - recorded)]
        for name in sorted(set(re.findall(r"yodad_\w+", expr))):
            if re.sub(r"_(bucket|sum|count)$", "", name) not in known:
                out.append(f"{path}: {title}: there is no metric {name}")
    for path in files(root, ("alerts_test.yml",), ["deploy"]):
        out += [f"{path}: {said}" for said in judged("promtool", "test", "rules", os.path.join(root, path))]
    for path in files(root, ("prometheus.yml",), ["deploy"]):
        if os.path.dirname(path).endswith("prometheus"):
            out += [f"{path}: {said}" for said in judged("promtool", "check", "config", os.path.join(root, path))]
    with tempfile.TemporaryDirectory() as scratch:
        rules_file = os.path.join(scratch, "rules.yml")
        with open(rules_file, "w") as f:
            json.dump({"groups": [{"name": "d", "rules": [{"record": f"x{i}", "expr": e.replace("$__rate_interval", "1m")}
                                                           for i, (_, _, e) in enumerate(dashboards(root))]}]}, f)
        out += [f"a dashboard's query: {said}" for said in judged("promtool", "check", "rules", rules_file)]
    return out


CONFIG_HEADER = '// C.\n#ifndef C\n#define C\n#define YD_CONFIG(TEXT, CHOICE, NUMBER, SWITCH) \\\n    TEXT(listen, "a", "where")\n\n#endif\n'
GOOD_UNIT = "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/true\n"

def described(root):
    """Every problem type and every metric stands in docs/operations.md, and every problem type there is one, with its status."""
    out, page = [], read(root, "docs/operations.md") if os.path.exists(os.path.join(root, "docs/operations.md")) else ""
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", page, re.M))
    for path in files(root, (".h",), ["core"]):
        for slug, status in re.findall(r'X\([A-Z_0-9]+, \d+, "([a-z-]+)", (\d{3}),', read(root, path)):
            if rows.pop(slug, None) != status:
                out.append(f"{path}: the problem type {slug} ({status}) is not described in docs/operations.md")
    out += [f"docs/operations.md: there is no problem type {slug}" for slug in rows]
    for path in files(root, (".c",), ["daemon"]):
        for name in sorted(set(re.findall(r'head\(&?t, "(yodad_\w+)"', read(root, path)))):
            if f"`{name}" not in page:
                out.append(f"{path}: the metric {name} is not described in docs/operations.md")
    return out


def spoilt_dockerfiles():
    """The Dockerfile with one promise broken at a time."""
    whole = read(os.path.join(os.path.dirname(__file__), "..", ".."), "Dockerfile")
    changes = [(r"(FROM nvidia/\S+)@sha256:\w+", r"\1"), (r"FROM nvidia/cuda:13", "FROM nvidia/cuda:12"), (r"\nUSER .*", ""), (r"USER 65532:65532", "USER yodad"), (r"\nHEALTHCHECK .*", ""),
               (r"STOPSIGNAL SIGTERM", "STOPSIGNAL SIGINT"), (r'ENTRYPOINT \["/usr/bin/yodad"\]', "ENTRYPOINT /usr/bin/yodad"), (r"\nVOLUME .*", ""), (r"\nLABEL (.*\\\n)*.*", ""),
               (r"FROM cpu\n\Z", ""), (r"FROM cpu AS cuda", "FROM nvidia AS cuda"), (r"COPY --from=nvidia .*", ""), (r"RUN deploy/install-deps build", "RUN apt-get install gcc"),
               (r"deploy/cuda-toolkit /opt/cuda", "curl -O https://example.org/cuda.run"), (r"install-deps run", "true")]
    spoilt = [re.sub(pattern, to, whole) for pattern, to in changes]
    assert all(text != whole for text in spoilt), "a change finds nothing to change in the Dockerfile"
    here = read(os.path.join(os.path.dirname(__file__), "..", ".."), "VERSION")
    return [{"Dockerfile": text, "VERSION": here} for text in spoilt] + [{"Dockerfile": whole, "VERSION": "9.9.9\n"}]


def whole_kustomization(change):
    """The base's replicas and who may talk to them, with one promise broken."""
    here = os.path.join(os.path.dirname(__file__), "..", "..", "deploy", "kubernetes", "base")
    replicas = read(here, "yodad.yaml")
    assert change[0] in replicas, f"{change[0]} is not in the manifests"
    return {"deploy/kubernetes/kustomization.yaml": "resources: [a.yaml, b.yaml]\n", "deploy/kubernetes/a.yaml": replicas.replace(*change),
            "deploy/kubernetes/b.yaml": read(here, "network.yaml")}


def settings_listed(root):
    """docs/operations/settings.md is what the program's list of settings makes it."""
    if not os.path.exists(os.path.join(root, "daemon/config.h")):
        return []
    wanted = settings_page.page(root)
    there = read(root, settings_page.PAGE) if os.path.exists(os.path.join(root, settings_page.PAGE)) else ""
    return [] if there == wanted else [f"{settings_page.PAGE} is not what daemon/config.h says: make settings-page"]


# What the balancer's configurations call theirs.
BALANCERS_OWN = re.compile(r"YODAD_(\d|BIND|STATS|NAMES|MOST|DNS|SHARED)$")


def settings_known(root):
    """What images, units and manifests set are settings that there are."""
    if not os.path.exists(os.path.join(root, "daemon/config.h")):
        return []
    names = {"YODAD_" + name.upper() for name, *_ in settings_page.settings(read(root, "daemon/config.h"))}
    paths = [p for p in files(root, folders=["deploy", "systemd"]) if not p.endswith(".json")] + [p for p in files(root) if p == "Dockerfile"]
    return [f"{path}: there is no setting {name}" for path in paths
            for name in sorted(set(re.findall(r"\bYODAD_[A-Z0-9_]+", read(root, path))) - names) if not BALANCERS_OWN.match(name) and name != "YODAD_NAME"]


def anchors(text):
    """Names of a page's headings, as links have them."""
    text = re.sub(r"^(    .*|```[\s\S]*?^```)$", "", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.M)}


def links(root):
    """Links between pages lead to a file that is there, and to a heading of it."""
    out = []
    for path in files(root, (".md",)):
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^    .*$", "", read(root, path), flags=re.M)):
            place, _, anchor = target.partition("#")
            if "://" in target or place.startswith("mailto:"):
                continue
            there = os.path.normpath(os.path.join(os.path.dirname(path), place)) if place else path
            if not os.path.exists(os.path.join(root, there)):
                out.append(f"{path}: there is no {target}")
            elif anchor and there.endswith(".md") and anchor not in anchors(read(root, there)):
                out.append(f"{path}: {there} has no heading {anchor}")
    return out


# For each rule, trees of one or two files that it must object to.
PLANTED = {
    layers: [
        {"core/a.c": '// A.\n#include "daemon/job.h"\n'},
        {"core/a.c": "// A.\n#include <jansson.h>\n"},
        {"core/b.c": "// B.\n#include <vips/vips.h>\n"},
        {"daemon/a.c": "// A.\n#include <microhttpd.h>\n"},
        {"daemon/a.c": '// A.\n#include "api/api.h"\n'},
        {"gpu/a.cu": '// A.\n#include "daemon/job.h"\n'},
        {"tools/a.c": '// A.\n#include "daemon/job.h"\n'},
        {"api/a.c": '// A.\n#include "helper.h"\n'},
    ],
    unsafe_functions: [
        {"core/a.c": "// A.\nvoid f(char *a, char *b) { strcpy(a, b); }\n"},
        {"tests/unit/t.c": "// T.\nint f(char *a) { return atoi(a); }\n"},
    ],
    ending_functions: [{"core/a.c": "// A.\nvoid f(void) { exit(1); }\n"}, {"tools/cmd.c": "// A.\nvoid f(void) { abort (); }\n"}],
    top_comment: [{"core/a.c": '#include "core/err.h"\n'}, {"core/a.c": "// long\n" * 26}, {"tests/a.py": "import os\n"}],
    script_comment: [{"tests/x": "#!/bin/bash\necho\n"}, {"tests/x": "#!/bin/bash\n# Broken.\nif true\n"}],
    include_guards: [
        {"core/a.h": "// A.\nint f(void);\n"},
        {"core/a.h": "// A.\n#ifndef A\n#define A\n#endif\n", "core/b.h": "// B.\n#ifndef A\n#define A\n#endif\n"},
    ],
    unfinished: [{"README.md": "TO" + "DO: write this\n"}],
    machine_paths: [{"docs/a.md": "see /ho" + "me/me/yodad\n"}, {"tools/a.c": '// A.\nchar *p = "/tm' + 'p/x";\n'}],
    file_sizes: [{"docs/picture.png": "x" * (MAX_FILE_BYTES + 1)}],
    settings_listed: [
        {"daemon/config.h": CONFIG_HEADER, "daemon/config_reload.c": "// R.\nlive[] = {\"listen\"};\n"},
        {"daemon/config.h": CONFIG_HEADER, "daemon/config_reload.c": "// R.\nlive[] = {\"listen\"};\n", settings_page.PAGE: "| `listen` | empty |\n"},
    ],
    settings_known: [{"daemon/config.h": CONFIG_HEADER, "systemd/x.service": GOOD_UNIT + "Environment=YODAD_LISTEM=a\n"},
                     {"daemon/config.h": CONFIG_HEADER, "Dockerfile": "ENV YODAD_LISTEN=a YODAD_STATEDIR=b\n"}],
    links: [{"a.md": "[x](b.md)\n"}, {"a.md": "[x](docs/b.md#two)\n", "docs/b.md": "# One\n"}, {"docs/a.md": "# One\n[x](#two)\n"}],
    json_files: [{"models/a.json": '{"a": 1,}\n'}],
    described: [
        {"core/err.h": "// E.\n#define E X(A, 1, \"no-such-thing\", 400, 0, \"A\")\n"},
        {"docs/operations.md": "| `of-old` | 400 | x |\n"},
        {"daemon/m.c": '// M.\nvoid f(void) { head(t, "yodad_new_total", "counter", "New."); }\n'},
    ],
    dockerfile: spoilt_dockerfiles() + [
        {"Dockerfile": "FROM debian:12-slim\nRUN apt-get install gcc\n"},
        {"Dockerfile": 'FROM a:1 AS b\nRUN deploy/install-deps build\nFROM a:1\nRUN deploy/install-deps run\nUSER root\n'
                       'STOPSIGNAL SIGTERM\nENTRYPOINT ["x"]\n'},
    ],
    pinned: [
        {"deploy/compose/a.yaml": "services:\n  x:\n    image: redis\n"},
        {"deploy/compose/a.yaml": "services:\n  x:\n    image: redis:latest\n"},
        {"deploy/cuda-toolkit.txt": "nvidia-cublas==1.0\n"},
    ],
    balancers: [
        {"deploy/haproxy/haproxy.cfg": "frontend x\n    no such word\n"},
        {"deploy/nginx/nginx.conf": "no_such_word;\n"},
        {"deploy/compose/compose.yaml": "services: {x: {no_such_word: 1}}\n"},
        {"deploy/compose/compose.yaml": "services: {x: {image: a}}\n", "deploy/compose/gpu.yaml": "services: {x: {no_such_word: 1}}\n"},
    ],
    kustomizations: [
        {"deploy/kubernetes/kustomization.yaml": "resources: [nothing.yaml]\n"},
        {"deploy/kubernetes/kustomization.yaml": "resources: [a.yaml]\n",
         "deploy/kubernetes/a.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {template: {spec: {containers: []}}}\n"},
        whole_kustomization(("terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 10")),
        whole_kustomization(("livenessProbe:", "startupProbe2:")),
        whole_kustomization(("kind: PodDisruptionBudget", "kind: Service")),
    ],
    autoscaling: [
        {"deploy/hpa.yaml": "        metric: {name: yodad_x}\n"},
        {"deploy/adapter.yaml": '- seriesQuery: "yodad:x"\n  name: {as: yodad_x}\n  metricsQuery: "max(<<.Series>>)"\n'},
        {"deploy/adapter.yaml": '- seriesQuery: "yodad:x"\n  name: {as: yodad_x}\n  metricsQuery: "max(<<.Series>>"\n', "deploy/alerts.yml": "- record: yodad:x\n"},
    ],
    watching: [
        {"deploy/grafana/d.json": '{"panels": [{"title": "x", "targets": [{"expr": "yodad_no_such_metric"}]}]}'},
        {"deploy/grafana/d.json": '{"panels": [{"title": "x", "targets": [{"expr": "sum(("}]}]}'},
        {"deploy/grafana/d.json": '{"panels": [{"title": "x", "targets": [{"expr": "yodad:nothing"}]}]}'},
        {"deploy/prometheus/prometheus.yml": "no_such_word: 1\n"},
        {"deploy/prometheus/alerts_test.yml": "tests: [{input_series: [], alert_rule_test: [{eval_time: 1m, alertname: X, exp_alerts: [{}]}]}]\n"},
    ],
    systemd_syntax: [{"systemd/x.service": GOOD_UNIT + "NoSuchSetting=yes\n"},
                     {"systemd/x.service": GOOD_UNIT, "systemd/drop-ins/x.conf": "[Service]\nNoSuchSetting=yes\n"},
                     {"systemd/x.sysusers": "q nobody\n"}, {"systemd/x.tmpfiles": "no line\n"}],
    systemd_exposure: [{"systemd/x.service": GOOD_UNIT}],
}
# What the rules about code must not object to.
CLEAN = {
    "core/good.c": '// Says strcpy( and exit( in a comment.\n#include "core/err.h"\nconst char *s = "sprintf(exit(";\n',
    "core/err.h": "// A header.\n#ifndef ERR_H\n#define ERR_H\n#endif\n",
    "core/image.c": "// May use vips.\n#include <vips/vips.h>\n",
    "daemon/main.c": '// Sees all.\n#include "api/api.h"\n#include "core/err.h"\nint main(void) { exit(0); }\n',
    "api/web/a.js": "// A script.\n",
    "tests/x": "#!/bin/bash\n# A script.\necho hello\n",
    "models/a.json": "{}\n",
}
CODE_RULES = [layers, unsafe_functions, ending_functions, top_comment, script_comment, include_guards, unfinished, machine_paths,
              file_sizes, json_files, described, settings_listed, settings_known, links]


def rules():
    """Every rule that can run here. systemd's need systemd."""
    tools = {balancers: ("haproxy", "nginx", "docker-compose"), watching: ("promtool",), autoscaling: ("promtool",), kustomizations: ("kubectl",)}
    usable = [rule for rule, needed in tools.items() if all(shutil.which(p, path=os.environ.get("PATH", "") + ":/usr/sbin") for p in needed)]
    return CODE_RULES + [dockerfile, pinned] + usable + ([systemd_syntax, systemd_exposure] if systemd_available() else [])
