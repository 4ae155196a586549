#!/usr/bin/env python3
"""Write docs/operations/settings.md from daemon/config.h and daemon/config_reload.c: tests/lint/settings_page.py (make settings-page).

The lint compares the page with what this makes, so that no setting is missing there and every default is right. A new setting stands under the
heading of those before it; SECTIONS says with which setting a heading begins.
"""
import math
import os
import re
import sys

PAGE = "docs/operations/settings.md"
SECTIONS = {
    "listen": ("Where it is and what it serves", "[deployment.md](../deployment.md), [durable jobs](../operations.md#durable-jobs), [models](../operations.md#models)"),
    "device": ("What computes", "[deployment.md](../deployment.md), [gpu.md](gpu.md)"),
    "attention_nets": ("Attention networks", "[operations.md](../operations.md#attention-networks)"),
    "log_level": ("The log", ""),
    "keys": ("Who may, and where from", "[operations.md](../operations.md#keys-and-access)"),
    "max_body_bytes": ("How much at a time, and in which order", "[operations.md](../operations.md#scheduling)"),
    "max_finished_jobs": ("What is kept", "[operations.md](../operations.md#durable-jobs)"),
    "preview_interval_ms": ("Previews", ""),
    "max_connections": ("Connections", "[operations.md](../operations.md#crowds)"),
    "drain_timeout_ms": ("Stopping", "[deployment.md](../deployment.md)"),
    "codec_processes": ("Codec processes", "[operations.md](../operations.md#codec-processes)"),
    "fetch_hosts": ("Outgoing connections", "[operations.md](../operations.md#outgoing-connections)"),
    "fake_unit_us": ("The fake device", "for tests of the service and of what stands in front of it: it computes nothing"),
}
UNITS = {"YD_KIB": 1 << 10, "YD_MIB": 1 << 20, "YD_GIB": 1 << 30}


def split(text):
    """The arguments of a C macro call, texts as they read."""
    parts = re.findall(r'\s*("(?:\\.|[^"\\])*"|[^,"]+)\s*(?:,|$)', text)
    return [p[1:-1].replace('\\"', '"') if p.startswith('"') else p.strip() for p in parts]


def number(text):
    """A C product, 16 * YD_MIB, as people write it."""
    value = math.prod(UNITS[f] if f in UNITS else int(f) for f in (factor.strip() for factor in text.split("*")))
    for name, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if "IB" in text and value % size == 0:
            return f"{value // size} {name}"
    return str(value)


def settings(header):
    """(name, default, what it takes, help) of each setting, in the order of the header."""
    body = re.search(r"#define YD_CONFIG\(.*?\)([\s\S]*?[^\\])\n\n", header).group(1).replace("\\\n", " ")
    for kind, rest in re.findall(r'\b(TEXT|CHOICE|NUMBER|SWITCH)\(((?:"(?:\\.|[^"\\])*"|[^")])*)\)', body):
        name, default, *more = split(rest)
        if kind == "NUMBER":
            yield name, number(default), f"{number(more[0])} to {number(more[1])}", more[2]
        elif kind == "CHOICE":
            yield name, f"`{default}`", " ".join(f"`{word}`" for word in more[0].split("|")), more[1]
        elif kind == "SWITCH":
            yield name, "true" if default == "1" else "false", "true, false", more[0]
        else:
            yield name, f"`{default}`" if default else "empty", "text", more[0]


def page(root):
    with open(os.path.join(root, "daemon/config.h")) as f:
        rows = list(settings(f.read()))
    with open(os.path.join(root, "daemon/config_reload.c")) as f:
        live = set(re.findall(r'"(\w+)"', re.search(r"live\[\] = \{([\s\S]*?)\};", f.read()).group(1)))
    out = ["# Every setting", "",
           "Each has three spellings: `max_body_bytes` in a JSON file (`--config FILE`), `YODAD_MAX_BODY_BYTES` in the environment, `--max-body-bytes` as a flag; later ones win.",
           "`yodad --check-config` prints the ones that hold. Bytes may be written with KiB, MiB, GiB; times are in the unit that their name ends with. *live* ones are taken over on",
           "SIGHUP ([how](../operations.md#changing-settings-while-it-runs)), the others count from the next start.", "",
           "This page is made from the program's own list (`make settings-page`) and held to it by the tests.", ""]
    for name, default, takes, text in rows:
        if name in SECTIONS:
            title, see = SECTIONS[name]
            out += [f"## {title}", ""] + ([f"{'See ' if see.startswith('[') else ''}{see}.", ""] if see else [])
            out += ["| setting | default | takes | what it is | |", "|---|---|---|---|---|"]
        end = rows.index((name, default, takes, text)) + 1
        out.append(f"| `{name}` | {default} | {takes} | {text.replace('|', chr(92) + '|')} | {'live' if name in live else ''} |")
        if end == len(rows) or rows[end][0] in SECTIONS:
            out.append("")
    return "\n".join(out)


if __name__ == "__main__":
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    os.makedirs(os.path.dirname(PAGE), exist_ok=True)
    with open(PAGE, "w") as out_file:
        out_file.write(page("."))
    sys.exit(0)
