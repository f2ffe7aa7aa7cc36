#!/usr/bin/env python3
"""Writes the layer that all golden blobs are made of: source.py OUT.tar. Every kind of entry, some 70 KB, the same bytes
each time."""

import io
import random
import sys
import tarfile

TIME = 1700000000


def text(seed, n):
    """Compressible to a quarter, and yet with places where containers/storage's rolling sum cuts."""
    return bytes(random.Random(seed).choices(b"\x01\x55\xaa\xff", k=n))


class Layer:
    def __init__(self, out):
        self.tar = tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name, kind=tarfile.REGTYPE, data=b"", mode=0o644, uid=0, gid=0, time=TIME, **more):
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.uid, entry.gid, entry.mtime = kind, mode, uid, gid, time
        entry.size = len(data)
        entry.uname = entry.gname = {0: "root", 1000: "user"}.get(uid, "")
        entry.linkname = more.get("to", "")
        entry.devmajor, entry.devminor = more.get("device", (0, 0))
        for key, value in more.get("xattrs", {}).items():
            entry.pax_headers["SCHILY.xattr." + key] = value
        self.tar.addfile(entry, io.BytesIO(data))

    def folder(self, name, **more):
        self.add(name, tarfile.DIRTYPE, mode=more.pop("mode", 0o755), **more)


def write(out):
    layer = Layer(out)
    layer.folder("./", time=TIME + 7)
    layer.folder("./bin")
    layer.add("./bin/suid", data=b"abc", mode=0o4755, xattrs={"user.note": "some value", "user.empty": ""})
    layer.folder("./data", mode=0o1777)
    layer.add("./data/big.bin", data=text(20, 40000))
    layer.add("./data/even.bin", data=text(6, 16384))  # a multiple of the chunk size
    layer.add("./data/holes.bin", data=text(7, 3000) + bytes(5000) + text(8, 4000))
    layer.add("./data/zeros", data=bytes(3000))
    layer.folder("./etc")
    layer.add("./etc/empty")
    layer.add("./etc/hello.txt", data=b"hello world\n", uid=1000, gid=70000)
    layer.add("./etc/hard", tarfile.LNKTYPE, to="./etc/hello.txt", uid=1000, gid=70000)
    layer.add("./etc/link", tarfile.SYMTYPE, to="../data/big.bin", mode=0o777)
    layer.add("./etc/a \"b\" <c> & \u00fc\u4e16", data=b"names\n")
    layer.add("./etc/later", data=b"a quarter past\n", time=TIME + 20.25)
    layer.add("./etc/sooner", data=b"a quarter before\n", time=TIME + 20.75)
    layer.add("./etc/old", data=b"before 1970\n", time=-86400)
    layer.add("./etc/epoch", data=b"no time\n", time=0)
    layer.folder("./opt", uid=1000, gid=1000)
    layer.add("./opt/" + "n" * 120, data=b"long", uid=4294967294, gid=4294967294)
    layer.add("./opt/far", tarfile.SYMTYPE, to="/" + "far/" * 40, mode=0o777)
    layer.add("./opt/null", tarfile.CHRTYPE, device=(1, 3), mode=0o666)
    layer.add("./opt/disk", tarfile.BLKTYPE, device=(259, 65537), mode=0o660)
    layer.add("./opt/pipe", tarfile.FIFOTYPE)
    layer.folder("./usr")
    layer.folder("./usr/lib")
    layer.add("./usr/lib/.wh..wh..opq", mode=0)
    layer.add("./usr/lib/new", data=b"below an opaque directory\n")
    layer.folder("./usr/share")
    layer.add("./usr/share/.wh.gone", mode=0)
    layer.tar.close()


if __name__ == "__main__":
    with open(sys.argv[1], "wb") as file:
        write(file)
