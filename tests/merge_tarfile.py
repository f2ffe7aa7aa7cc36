#!/usr/bin/env python3
"""The layers of merge_stacks, written anew by Python's tarfile.

    merge_tarfile.py DIR SEED...      rewrites DIR/SEED/{0.tar,1.tar,...}

Its PAX headers have times as Python prints floating point numbers, or with more digits than a clock has; a value that is no
UTF-8, such as an ACL or a capability, makes all records of the header binary ("hdrcharset"). Its GNU headers have long
names, and numbers to the base of 256, also negative ones. Xattrs are there as bsdtar has them, too, in which nobody who
unpacks layers is interested.
"""

import base64
import io
import itertools
import os
import random
import sys
import tarfile

XATTR = "SCHILY.xattr."
NUMBERS = ("uid", "gid", "mode", "devmajor", "devminor", "linkname", "type")
ODD_TIMES = ("1600000000.12345678901234567", "-0.25", "-1.999999999", "0", "7.", "-1600000000.000000001", "0.0",
             "00001600000000.5", "1600000000.1000", "-0")
FORMATS = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)


def header_of(member, chance):
    """Gives an entry as Python writes it, with the format of its header."""
    info = tarfile.TarInfo(member.name)
    for field in NUMBERS:
        setattr(info, field, getattr(member, field))
    info.type = tarfile.REGTYPE if member.isreg() else member.type
    info.mtime = member.mtime if chance.random() < 0.7 else int(member.mtime)
    xattrs = {key: value for key, value in member.pax_headers.items() if key.startswith(XATTR)}
    for key, value in list(xattrs.items()):
        text = base64.b64encode(value.encode(errors="surrogateescape")).decode().rstrip("=")
        if chance.random() < 0.5:
            xattrs["LIBARCHIVE.xattr." + key[len(XATTR):]] = text
    if chance.random() < 0.1:
        xattrs["LIBARCHIVE.xattr.user.nobody"] = "c2VlcyB0aGlz"
        xattrs["LIBARCHIVE.creationtime"] = "1.5"
    if chance.random() < 0.2:
        xattrs["mtime"] = chance.choice(ODD_TIMES)
    info.pax_headers = xattrs
    return info, tarfile.PAX_FORMAT if xattrs else chance.choice(FORMATS)


def write(out, info, form, content):
    info.size = len(content)
    try:
        header = info.tobuf(form, "utf-8", "surrogateescape")
    except ValueError:  # ustar has no room for it
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    out.write(header + content + bytes(-len(content) % tarfile.BLOCKSIZE))


def rewrite(path, chance):
    out = io.BytesIO()
    if os.path.getsize(path):
        with tarfile.open(path, errors="surrogateescape") as archive:
            for member in archive:
                content = archive.extractfile(member).read() if member.isreg() else b""
                write(out, *header_of(member, chance), content)
    with open(path, "wb") as file:
        file.write(out.getvalue() + bytes(2 * tarfile.BLOCKSIZE))


def main():
    for seed in sys.argv[2:]:
        chance = random.Random(int(seed))
        for number in itertools.count():
            path = os.path.join(sys.argv[1], seed, f"{number}.tar")
            if not os.path.exists(path):
                break
            rewrite(path, chance)


if __name__ == "__main__":
    main()
