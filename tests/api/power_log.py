"""What a loss of power would leave of a folder: a log of system calls (strace -f -yy -xx) as a list of what happened to files and sockets, and
from it the folder as it may stand after any moment.

The model is POSIX's, not a file system's. What was written to a file is there for sure once an fsync or fdatasync of it has returned that
began later; the name of a file (made, renamed, unlinked), once an fsync of its folder has. Everything else may be there or not, each write and
each name by itself. A rename is done or not done, never half.
"""
import os
import random
import re

CALLS = ("open,openat,creat,write,pwrite64,writev,pwritev,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,"
         "sendto,sendmsg")
LONGEST = 4 << 20


def strace(log):
    """The words in front of a command whose calls are to be noted in `log`."""
    return ["strace", "-f", "-yy", "-xx", "-s", str(LONGEST), "--seccomp-bpf", "-o", log, "-e", "trace=" + CALLS]


def _text(quoted):
    """With -xx every byte is \\xNN."""
    return bytes.fromhex(quoted.replace("\\x", ""))


class Call:
    """One system call: name, paths of its descriptors, its strings, its numbers, and where in the log it began and ended."""

    def __init__(self, name, args, began, ended, result):
        self.name, self.began, self.ended, self.ok = name, began, ended, not result.startswith("-1")
        if '"...' in args:
            raise ValueError("a string of the log is cut short")
        parts = args.split('"')
        self.strings, bare = [_text(p) for p in parts[1::2]], '""'.join(parts[0::2])
        self.paths = [_text(p).decode(errors="replace") if p.startswith("\\x") else p
                      for p in re.findall(r"(?:AT_FDCWD|\d+)<((?:[^<>]|->)*)>(?=\(deleted\)|[,\s)]|$)", bare)]
        self.args = [a.strip() for a in re.sub(r"<(?:[^<>]|->)*>(?:\(deleted\))?", "", bare).split(",")]

    def path(self, at=0):
        """A name together with the descriptor of the folder it is looked up in."""
        name = self.strings[at].decode(errors="replace")
        return os.path.join(self.paths[min(at, len(self.paths) - 1)], name) if self.paths else name

    def socket(self):
        return bool(self.paths) and self.paths[0].startswith("TCP:")

    def sent(self):
        return b"".join(self.strings)


def read_log(path):
    """The calls of a log in the order in which they began."""
    calls, open_ones = [], {}
    with open(path, errors="replace") as f:
        for n, line in enumerate(f):
            pid, _, rest = line.rstrip("\n").partition(" ")
            rest = rest.lstrip()
            again = re.match(r"<\.\.\. (\w+) resumed>(.*)", rest)
            if again:
                name, head, began = open_ones.pop(pid, (None, "", n))
                rest = head + again.group(2)
            else:
                began, name = n, rest.partition("(")[0]
            if rest.endswith("<unfinished ...>"):
                open_ones[pid] = (name, rest[:-len("<unfinished ...>")], began)
                continue
            whole = re.match(r"(\w+)\((.*)\)\s+= (.*)$", rest)
            if whole and name:
                calls.append(Call(whole.group(1), whole.group(2), began, n, whole.group(3)))
        end = n + 1
    for name, head, began in open_ones.values():  # nobody knows whether these came about
        if name in ("write", "pwrite64") and head.count('"') % 2 == 0:
            calls.append(Call(name, head.partition("(")[2], began, end, "?"))
    return sorted(calls, key=lambda c: c.began)


class File:
    def __init__(self):
        self.changes, self.syncs = [], []  # (began, ended, change), (began, ended)


class Disk:
    """Everything below `root` as the log tells it. The folder that holds root is there for sure."""

    def __init__(self, calls, root):
        self.root, self.names, self.folders, self.syncs = os.path.abspath(root), {}, {os.path.dirname(os.path.abspath(root)): File()}, []
        for c in calls:
            if c.ok:
                getattr(self, "_" + {"fdatasync": "fsync", "openat": "open", "creat": "open", "pwrite64": "write", "renameat": "rename",
                                     "renameat2": "rename", "unlinkat": "unlink", "mkdirat": "mkdir"}.get(c.name, c.name), lambda _: None)(c)

    def _inside(self, path):
        path = os.path.normpath(path)
        return path if (path + "/").startswith(self.root + "/") and not path.endswith("-shm") else None

    def _name(self, c, path, what):
        self.folders[os.path.dirname(path)].changes.append((c.began, c.ended, (os.path.basename(path), what)))

    def _mkdir(self, c):
        path = self._inside(c.path())
        if path:
            self.folders[path] = File()
            self._name(c, path, self.folders[path])

    def _open(self, c):
        path = self._inside(c.path())
        flags = "O_CREAT|O_TRUNC" if c.name == "creat" else c.args[2 if c.name == "openat" else 1]
        if not path or path in self.folders:
            return
        if path not in self.names and "O_CREAT" in flags:
            self.names[path] = File()
            self._name(c, path, self.names[path])
        elif path in self.names and "O_TRUNC" in flags:
            self.names[path].changes.append((c.began, c.ended, ("cut", 0)))

    def _write(self, c):
        path = self._inside(c.paths[0])
        if path and path in self.names:
            at = int(c.args[3]) if c.name == "pwrite64" else None  # None: at the end
            self.names[path].changes.append((c.began, c.ended, ("put", at, c.sent())))

    def _writev(self, c):
        if self._inside(c.paths[0]):
            raise ValueError(f"{c.name} to a file is not understood")

    _pwritev = _writev

    def _ftruncate(self, c):
        path = self._inside(c.paths[0])
        if path and path in self.names:
            self.names[path].changes.append((c.began, c.ended, ("cut", int(c.args[1]))))

    def _fsync(self, c):
        path = os.path.normpath(c.paths[0])
        f = self.folders.get(path) or self.names.get(path)
        if f:
            f.syncs.append((c.began, c.ended))
            self.syncs.append((c.began, c.ended, path))

    def _rename(self, c):
        old, new = self._inside(c.path(0)), self._inside(c.path(1))
        if old and new:
            f = self.names[new] = self.names.pop(old)
            self.folders[os.path.dirname(new)].changes.append((c.began, c.ended, (os.path.basename(old), os.path.basename(new), f)))

    def _unlink(self, c):
        path = self._inside(c.path())
        if path and self.names.pop(path, None):
            self._name(c, path, None)

    # -- what is left

    @staticmethod
    def _split(f, moment):
        """What is there for sure at a moment, and what may be."""
        sure = max((s[0] for s in f.syncs if s[1] < moment), default=-1)
        return [c[2] for c in f.changes if c[1] < sure], [c[2] for c in f.changes if c[1] >= sure and c[0] < moment]

    def leave(self, moment, folder, keep_names, keep_data):
        """Write the folder as it stands when power goes at a moment of the log. keep_*: of what is not certain, a function that says whether
        this change is there."""
        self._leave(self.folders[os.path.dirname(self.root)], moment, folder, keep_names, keep_data)

    def _leave(self, top, moment, folder, keep_names, keep_data):
        todo = [(top, folder)]
        while todo:
            f, at = todo.pop()
            os.makedirs(at, exist_ok=True)
            there = {}
            sure, perhaps = self._split(f, moment)
            for change in sure + [c for c in perhaps if keep_names(c)]:
                if len(change) == 3:
                    there.pop(change[0], None)
                    there[change[1]] = change[2]
                elif change[1] is None:
                    there.pop(change[0], None)
                else:
                    there[change[0]] = change[1]
            for name, inner in there.items():
                if any(inner is x for x in self.folders.values()):
                    todo.append((inner, os.path.join(at, name)))
                else:
                    self._fill(inner, moment, os.path.join(at, name), keep_data)

    def _fill(self, f, moment, path, keep):
        sure, perhaps = self._split(f, moment)
        data = bytearray()
        for change in sure + [c for c in perhaps if keep(c)]:
            if change[0] == "cut":
                data[change[1]:] = b"\0" * max(0, change[1] - len(data))
                continue
            at = len(data) if change[1] is None else change[1]
            data[len(data):at] = b"\0" * (at - len(data))
            data[at:at + len(change[2])] = change[2]
        with open(path, "wb") as out:
            out.write(data)


def everything(_):
    return True


def nothing(_):
    return False


def some(seed):
    rng = random.Random(seed)
    return lambda _: rng.random() < 0.5


# What may become of that which was not synced: (names, data).
LOSSES = {"all is lost": (nothing, nothing), "names are lost": (nothing, everything), "data are lost": (everything, nothing)}
