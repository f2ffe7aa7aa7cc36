"""The mounts of a snapshot, used as clients use them: mounts.py SOCKET NAMESPACE KEY (cat FILE | ls DIRECTORY | mount AT)...

cat and ls look into the directories that the mount names without mounting anything, as containerd's clients do since 2.3
(internal/fsview), with whiteouts, opaque directories and links of the whole; of what is not there they say so. mount makes
it a read-only one without its upper directory, as those do since 1.6 (WithReadonlyTempMount).
"""

import os
import posixpath
import stat
import subprocess
import sys

from grpc_client import dial, fields, text

METHOD = "/containerd.services.snapshots.v1.Snapshots/Mounts"
OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def mounts_of(socket, namespace, key):
    """[(type, source, options)]"""
    request = text(1, "overlayfs") + text(2, key)
    with dial(socket) as channel:
        answer = channel.unary_unary(METHOD)(request, metadata=(("containerd-namespace", namespace),), timeout=60)
    found = []
    for _, mount in fields(answer):
        parts = list(fields(mount))
        values = {field: value.decode() for field, value in parts}
        found.append((values.get(1), values.get(2), [value.decode() for field, value in parts if field == 4]))
    return found


def option(options, name):
    """The last one of that name, of those that begin with it."""
    return ([o.removeprefix(name) for o in options if o.startswith(name)] or [None])[-1]


class Layers:
    def __init__(self, kind, source, options):
        self.dirs = [source]
        if kind == "overlay":
            upper = option(options, "upperdir=")
            self.dirs = ([upper] if upper else []) + option(options, "lowerdir=").split(":")
        for directory in self.dirs:
            os.close(os.open(directory, os.O_DIRECTORY))

    @staticmethod
    def opaque(path):
        for name in OPAQUE:
            try:
                if os.getxattr(path, name) == b"y":
                    return True
            except OSError:
                pass
        return False

    def entries(self, path):
        """What the layers have of a path without links in it, topmost first; a whiteout and what it hides left out."""
        for directory in self.dirs:
            here = os.path.join(directory, path)
            try:
                st = os.lstat(here)
            except (FileNotFoundError, NotADirectoryError):
                st = None
            if st and stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
                return
            if st:
                yield here, st
            while path and here != directory:
                here = os.path.dirname(here)
                if self.opaque(here):
                    return

    def find(self, path, links=40):
        """(place, attributes, path) of what a path leads to."""
        done = ""
        parts = path.split("/")
        for i, part in enumerate(parts):
            done = posixpath.join(done, part)
            place, st = next(self.entries(done), (None, None))
            if not place:
                raise FileNotFoundError(path)
            if stat.S_ISLNK(st.st_mode):
                if not links:
                    raise OSError(f"too many links: {path}")
                target = posixpath.join("/", posixpath.dirname(done), os.readlink(place), *parts[i + 1 :])
                return self.find(posixpath.normpath(target).lstrip("/"), links - 1)
        return place, st, done

    def cat(self, path):
        place, _, _ = self.find(path)
        with open(place, "rb") as source:
            return source.read()

    def ls(self, path):
        _, _, path = self.find(path)
        names = {}
        for place, st in self.entries(path):
            if not stat.S_ISDIR(st.st_mode):
                break
            for entry in os.scandir(place):
                info = entry.stat(follow_symlinks=False)
                names.setdefault(entry.name, not (stat.S_ISCHR(info.st_mode) and info.st_rdev == 0))
            if self.opaque(place):
                break
        return sorted(name for name, there in names.items() if there)


def read_only(options):
    upper = option(options, "upperdir=")
    left = [o for o in options if not o.startswith(("upperdir=", "workdir="))]
    return [o.replace("lowerdir=", f"lowerdir={upper}:", 1) if upper and o.startswith("lowerdir=") else o for o in left]


def mount(kind, source, options, path):
    options = ",".join(["ro"] + (read_only(options) if kind == "overlay" else options))
    subprocess.run(["mount", "-t", kind, "-o", options, source, path], check=True)


def main():
    socket, namespace, key, *words = sys.argv[1:]
    mounts = mounts_of(socket, namespace, key)
    if len(mounts) != 1:
        sys.exit(f"not one mount: {mounts}")
    for verb, path in zip(words[::2], words[1::2]):
        try:
            if verb == "mount":
                mount(*mounts[0], path)
            elif verb == "cat":
                sys.stdout.buffer.write(Layers(*mounts[0]).cat(path))
            else:
                print(*Layers(*mounts[0]).ls(path), flush=True)
        except FileNotFoundError as error:
            print(f"nothing: {error}", flush=True)
        sys.stdout.flush()


main()
