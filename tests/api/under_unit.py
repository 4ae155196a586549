"""Run a program as systemd's SystemCallFilter of systemd/yodad.service would: under_unit.py PROGRAM ARGUMENT...

The unit's lines are read, its groups resolved by systemd-analyze, and the list of calls is put before the program as a seccomp filter of
our own; what is not on it fails with EPERM, as SystemCallErrorNumber of the unit says. x86-64 only.
"""
import ctypes
import os
import re
import struct
import subprocess
import sys

UNIT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "systemd", "yodad.service")
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def numbers():
    with open("/usr/include/x86_64-linux-gnu/asm/unistd_64.h") as f:
        return {name: int(n) for name, n in re.findall(r"#define __NR_(\w+) (\d+)", f.read())}


def names_of(group):
    found, groups = set(), [group]
    while groups:
        said = subprocess.run(["systemd-analyze", "syscall-filter", groups.pop()], capture_output=True, text=True, check=True).stdout
        for line in said.splitlines()[1:]:
            word = line.strip()
            if word.startswith("@"):
                groups.append(word)
            elif word and not word.startswith("#"):
                found.add(word)
    return found


def allowed():
    """The calls that are left by the unit's SystemCallFilter= lines, in order."""
    calls = set()
    with open(UNIT) as f:
        for line in f:
            key, _, value = line.strip().partition("=")
            if key != "SystemCallFilter":
                continue
            named = set()
            for word in value.lstrip("~").split():
                named |= names_of(word) if word.startswith("@") else {word}
            calls = calls - named if value.startswith("~") else calls | named
    return calls


def confine():
    known = numbers()
    code = [(0x20, 0, 0, 0)]  # the call's number
    for n in sorted(known[name] for name in allowed() if name in known):
        code += [(0x15, 0, 1, n), (0x06, 0, 0, ALLOW)]
    code.append((0x06, 0, 0, ERRNO | 1))
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *c) for c in code))
    head = struct.pack("@HP", len(code), ctypes.addressof(program))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(head), 0, 0):
        sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    confine()
    os.execvp(sys.argv[1], sys.argv[1:])
