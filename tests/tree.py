#!/usr/bin/env python3
"""Prints a tree as text, a line per path, so that two trees can be compared with diff.

    tree.py [--no-hash] [--no-times | --no-dir-times] DIR

A line: path, type, mode, owner, size, device, link target, time, extended attributes, hash. Hard links show the first
of their names. Overlay's own attributes and the sizes of directories do not count.
"""

import argparse
import hashlib
import os
import stat
import sys

TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFCHR: "char", stat.S_IFBLK: "block",
         stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}


def text(raw):
    return os.fsencode(raw).decode("latin-1").encode("unicode_escape").decode("ascii").replace(" ", "\\x20")


def hash_of(path):
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def attributes(path):
    names = [name for name in os.listxattr(path, follow_symlinks=False) if ".overlay." not in name]
    return ",".join(f"{text(name)}={os.getxattr(path, name, follow_symlinks=False).hex()}" for name in sorted(names))


def walk(root):
    """All paths below root, directories before what is in them, siblings in order of their bytes."""
    pending = [b""]
    while pending:
        path = pending.pop()
        yield path
        full = os.path.join(root, path) if path else root
        if stat.S_ISDIR(os.lstat(full).st_mode):
            pending += sorted((os.path.join(path, name) for name in os.listdir(full)), reverse=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-hash", action="store_true", help="leave contents out")
    parser.add_argument("--no-times", action="store_true", help="leave times out")
    parser.add_argument("--no-dir-times", action="store_true", help="leave times of directories out")
    parser.add_argument("root")
    args = parser.parse_args()
    root = os.fsencode(args.root)
    first_names = {}

    for path in walk(root):
        full = os.path.join(root, path) if path else root
        st = os.lstat(full)
        kind = stat.S_IFMT(st.st_mode)
        fields = [text(path) or ".", TYPES[kind], f"{stat.S_IMODE(st.st_mode):04o}", f"{st.st_uid}:{st.st_gid}"]
        if kind == stat.S_IFREG:
            fields.append(f"size={st.st_size}")
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            fields.append(f"dev={os.major(st.st_rdev)}:{os.minor(st.st_rdev)}")
        if kind == stat.S_IFLNK:
            fields.append("to=" + text(os.readlink(full)))
        if path and not args.no_times and not (args.no_dir_times and kind == stat.S_IFDIR):
            fields.append(f"mtime={st.st_mtime_ns // 1000000000}")
        if kind != stat.S_IFDIR and st.st_nlink > 1:
            fields.append("same=" + first_names.setdefault((st.st_dev, st.st_ino), text(path)))
        if found := attributes(full):
            fields.append("xattr=" + found)
        if kind == stat.S_IFREG and not args.no_hash:
            fields.append(hash_of(full))
        print(*fields)
    return 0


if __name__ == "__main__":
    sys.exit(main())
