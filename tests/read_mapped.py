#!/usr/bin/env python3
"""Prints "PATH HASH" for every non-empty regular file below a folder, read through a mapping, in random order of pages.

    read_mapped.py DIR

A page that cannot be read ends the process with SIGBUS.
"""

import hashlib
import mmap
import os
import random
import stat
import sys

PAGE = mmap.PAGESIZE


def hash_of(path, size, rng):
    with open(path, "rb") as source, mmap.mmap(source.fileno(), size, prot=mmap.PROT_READ) as mapped:
        mapped.madvise(mmap.MADV_RANDOM)
        pages = list(range(0, size, PAGE))
        rng.shuffle(pages)
        for at in pages:
            mapped[at]
        return hashlib.sha256(mapped).hexdigest()


def main():
    root = os.fsencode(sys.argv[1])
    rng = random.Random(7)
    files = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            if stat.S_ISREG(st.st_mode) and st.st_size:
                files.append((path, st.st_size))
    files.sort()
    rng.shuffle(files)
    for path, size in files:
        sys.stdout.buffer.write(os.path.relpath(path, root) + b" " + hash_of(path, size, rng).encode() + b"\n")


if __name__ == "__main__":
    main()
