"""Run a program as systemd would under systemd/yodad.service: under_unit.py PROGRAM ARGUMENT...

The unit's lines are read, its groups of calls resolved by systemd-analyze, and the list is put before the program as a seccomp filter of
our own; what is not on it fails with EPERM, as SystemCallErrorNumber of the unit says, and socket() of another family than those of
RestrictAddressFamilies with EAFNOSUPPORT. With PrivateNetwork=yes it gets a network of its own (where we may make one). The listening socket
of yodad.socket, on a free port, is handed over as descriptor 3. x86-64 only.
"""
import ctypes
import os
import re
import socket
import struct
import subprocess
import sys

UNIT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "systemd", "yodad.service")
CLONE_NEWNET = 0x40000000
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


def settings(key):
    """The values of the unit's lines with this key."""
    with open(UNIT) as f:
        return [value for name, _, value in (line.strip().partition("=") for line in f) if name == key]


def only_families(code, call):
    """socket() with a first argument that is none of the unit's address families fails."""
    families = [getattr(socket, name) for value in settings("RestrictAddressFamilies") for name in value.split()]
    code += [(0x15, 0, len(families) + 2, call), (0x20, 0, 0, 16)]
    code += [(0x15, len(families) - i, 0, family) for i, family in enumerate(families)]
    code += [(0x06, 0, 0, ERRNO | 97), (0x20, 0, 0, 0)]


def hand_over_socket():
    listener = socket.create_server(("127.0.0.1", 0), backlog=511)
    os.dup2(listener.fileno(), 3)
    if listener.fileno() != 3:
        listener.close()
    else:
        listener.detach()
    os.set_inheritable(3, True)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))


def leave_network():
    if settings("PrivateNetwork") == ["yes"] and ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        print(f"no network of its own: {os.strerror(ctypes.get_errno())}", file=sys.stderr)


def confine():
    known = numbers()
    code = [(0x20, 0, 0, 0)]  # the call's number
    only_families(code, known["socket"])
    for n in sorted(known[name] for name in allowed() if name in known):
        code += [(0x15, 0, 1, n), (0x06, 0, 0, ALLOW)]
    code.append((0x06, 0, 0, ERRNO | 1))
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *c) for c in code))
    head = struct.pack("@HP", len(code), ctypes.addressof(program))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(head), 0, 0):
        sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    hand_over_socket()
    leave_network()
    confine()
    os.execvp(sys.argv[1], sys.argv[1:])
