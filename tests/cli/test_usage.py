"""Help, versions and wrong usage."""
import hashlib
import json

from harness import ROOT, case, check, yoda, yoda_fails

COMMANDS = ["upscale", "attention", "sheet", "work", "eval", "train", "init", "inspect", "convert", "forward"]


@case
def help_lists_every_command():
    text = yoda("--help").stdout
    for name in COMMANDS:
        check(f"\n  {name} " in text, f"{name} is not in the help")


@case
def every_command_explains_itself():
    for name in COMMANDS:
        text = yoda(name, "--help").stdout
        check(f"usage: yoda {name}" in text and "Examples:" in text and "--help" in text, f"help of {name}: {text}")


@case
def version_is_that_of_the_tree():
    with open(f"{ROOT}/VERSION") as f:
        check(yoda("--version").stdout == f"yoda {f.read().strip()}\n", "another version")


@case
def long_version_says_what_decides_the_bytes():
    name, brief, text = yoda("--version", "-v").stdout.split("\n", 2)
    record = json.loads(text)
    canonical = json.dumps(record, separators=(",", ":"))
    check(brief == "yfp1:" + hashlib.sha256(canonical.encode()).hexdigest()[:16], f"{brief} of {canonical}")
    check(name.endswith(record["program"]) and record["isa"] and "oneDNN" in record["library"], text)


@case
def wrong_usage_has_status_2_and_says_what():
    for arguments, word in [
        (["enlarge"], "'enlarge'"),
        (["upscale", "--colour", "a", "b"], "'--colour'"),
        (["upscale", "only-one"], "usage: yoda upscale IN OUT"),
        (["upscale", "a", "b", "c"], "'c'"),
        (["upscale", "a", "b", "--threads"], "--threads needs a value"),
        (["upscale", "a", "b", "--threads", "two"], "0..1024"),
        (["upscale", "a", "b", "--threads", "1025"], "0..1024"),
        (["upscale", "a", "b", "--window", "7"], "8..2048"),
        (["upscale", "a", "b", "--quiet=yes"], "takes no value"),
        (["train", "--max-minutes", "nan", "--config", "x"], "--max-minutes"),
        (["init", "a", "-o", "b", "--seed", "-1"], "--seed"),
        (["train"], "--config"),
        (["forward", "m"], "--in and --out"),
        (["attention"], "usage: yoda attention"),
    ]:
        r = yoda(*arguments, status=2)
        check(word in r.stderr and len(r.stderr.splitlines()) == 1, f"{arguments}: {r.stderr}")
    check("usage: yoda" in yoda(status=2).stderr, "no help without arguments")


@case
def operands_may_begin_with_a_dash_after_two_dashes():
    yoda_fails("upscale", "--", "-in.png", "-out.png", says=["-in.png"])


@case
def attention_lists_its_methods():
    check("edge" in yoda("attention", "--list").stdout, "edge is not listed")
