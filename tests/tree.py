#!/usr/bin/env python3
"""Prints a tree as text, a line per path, so that two trees can be compared with diff.

    tree.py [--no-hash] [--no-times | --no-dir-times] [--nanoseconds] DIR

A line: path, type, mode, owner, size, device, link target, time, extended attributes, hash. Files of several names in the
tree show the first of them. Overlay's own attributes and the sizes of directories do not count.
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


def first_names(root, paths):
    """By device and inode: the first name of each file that has several here (links elsewhere do not count)."""
    names = {}
    for path in paths:
        st = os.lstat(os.path.join(root, path) if path else root)
        if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode):
            names.setdefault((st.st_dev, st.st_ino), []).append(path)
    return {inode: found[0] for inode, found in names.items() if len(found) > 1}


def lines(root, hashes=True, times=True, dir_times=True, nanoseconds=False):
    """The lines of a tree."""
    root = os.fsencode(root)
    paths = list(walk(root))
    linked = first_names(root, paths)
    for path in paths:
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
        if path and times and (dir_times or kind != stat.S_IFDIR):
            seconds, rest = divmod(st.st_mtime_ns, 1000000000)
            fields.append(f"mtime={seconds}" + (f".{rest:09}" if nanoseconds else ""))
        if kind != stat.S_IFDIR and (st.st_dev, st.st_ino) in linked:
            fields.append("same=" + text(linked[st.st_dev, st.st_ino]))
        if found := attributes(full):
            fields.append("xattr=" + found)
        if kind == stat.S_IFREG and hashes:
            fields.append(hash_of(full))
        yield " ".join(fields)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-hash", action="store_true", help="leave contents out")
    parser.add_argument("--no-times", action="store_true", help="leave times out")
    parser.add_argument("--no-dir-times", action="store_true", help="leave times of directories out")
    parser.add_argument("--nanoseconds", action="store_true", help="times with all their digits")
    parser.add_argument("root")
    args = parser.parse_args()
    for line in lines(args.root, not args.no_hash, not args.no_times, not args.no_dir_times, args.nanoseconds):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
