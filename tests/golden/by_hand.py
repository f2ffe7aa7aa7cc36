#!/usr/bin/env python3
"""Forms of lazy layers that no program to be had still writes: by_hand.py GOOD

GOOD has layer.tar.gz and zstd-chunked.blob, and gets the blobs. What differed when, after the histories of google/crfs and
of containers/storage (pkg/chunked/internal/compression.go)."""

import base64
import gzip
import hashlib
import io
import json
import math
import struct
import subprocess
import sys
import tarfile
import time
import zlib

from blobs import enter

TYPES = {
    tarfile.DIRTYPE: "dir",
    tarfile.REGTYPE: "reg",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def pad(data):
    return data + bytes(-len(data) % 512)


def member(data):
    return gzip.compress(data, 9, mtime=0)


def describe(entry):
    """What CRFS says of a tar entry."""
    said = {"name": entry.name + ("/" if entry.isdir() else ""), "type": TYPES[entry.type]}
    if entry.isreg() and entry.size:
        said["size"] = entry.size
    said["modtime"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(math.floor(entry.mtime + 0.5)))
    if entry.linkname:
        said["linkName"] = entry.linkname
    said["mode"] = entry.mode
    for key, value in (("uid", entry.uid), ("gid", entry.gid), ("devMajor", entry.devmajor), ("devMinor", entry.devminor)):
        if value:
            said[key] = value
    said["NumLink"] = 1
    xattrs = {k[len("SCHILY.xattr.") :]: v for k, v in entry.pax_headers.items() if k.startswith("SCHILY.xattr.")}
    if xattrs:
        said["xattrs"] = {k: base64.b64encode(v.encode()).decode() for k, v in xattrs.items()}
    return said


def legacy(tar, chunk_bytes):
    """Stargz of CRFS, before there was eStargz: no chunk digests, no landmark, a footer without a subfield."""
    blob, entries, waiting = b"", [], b""
    begin = 0
    for entry in tarfile.open(fileobj=io.BytesIO(tar)):
        waiting += tar[begin : entry.offset_data]
        begin = entry.offset_data + -(-entry.size // 512) * 512 if entry.isreg() else entry.offset_data
        said = describe(entry)
        if not entry.isreg() or not entry.size:
            entries.append(said)
            continue
        content = tar[entry.offset_data : entry.offset_data + entry.size]
        said["digest"] = digest(content)
        for at in range(0, entry.size, chunk_bytes):
            blob, waiting = blob + member(waiting), b""
            if at:
                said = {"name": said["name"], "type": "chunk", "chunkOffset": at}
            said["offset"] = len(blob)
            if at + chunk_bytes < entry.size or (at and entry.size - at == chunk_bytes):
                said["chunkSize"] = chunk_bytes
            entries.append(said)
            waiting = content[at : at + chunk_bytes]
        waiting += bytes(-entry.size % 512)
    blob += member(waiting)
    toc = json.dumps({"version": 1, "entries": entries}, indent="\t", ensure_ascii=False).encode()
    header = tarfile.TarInfo("stargz.index.json")
    header.size, header.mode = len(toc), 0
    end = member(header.tobuf(tarfile.USTAR_FORMAT) + pad(toc) + bytes(1024))
    footer = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x16\0%016xSTARGZ\x01\0\0\xff\xff" % len(blob) + bytes(8)
    assert len(footer) == 47
    return blob + end + footer, {"containerd.io/snapshot/stargz/toc.digest": digest(toc)}


def zstd(*args, data):
    return subprocess.run(["zstd", "-q", "-c", *args], input=data, stdout=subprocess.PIPE, check=True).stdout


def skippable(data):
    return b"\x50\x2a\x4d\x18" + struct.pack("<I", len(data)) + data


def old_chunked(blob, annotations, footer_bytes, with_split):
    """zstd:chunked as containers/storage wrote it once, out of what it writes today."""
    prefix = "io.github.containers.zstd-chunked."
    at, size, _, _ = map(int, annotations[prefix + "manifest-position"].split(":"))
    toc = json.loads(zstd("-d", data=blob[at : at + size]))
    split_at, split_bytes, split_plain = map(int, annotations[prefix + "tarsplit-position"].split(":"))
    split = blob[split_at : split_at + split_bytes]
    del toc["tarSplitDigest"]
    plain = json.dumps(toc, separators=(",", ":"), ensure_ascii=False).encode()
    packed = zstd("-9", data=plain)
    out = blob[: at - 8] + skippable(packed)
    said = {
        prefix + "manifest-checksum": digest(packed),
        prefix + "manifest-position": f"{at}:{len(packed)}:{len(plain)}:1",
    }
    footer = struct.pack("<4Q", at, len(packed), len(plain), 1)
    if with_split:
        said[prefix + "tarsplit-checksum"] = digest(split)
        said[prefix + "tarsplit-position"] = f"{len(out) + 8}:{split_bytes}:{split_plain}"
    if footer_bytes == 64:
        footer += struct.pack("<3Q", len(out) + 8, split_bytes, split_plain) + b"GNUlInUx"
    else:
        footer += b"GnUlInUx"
    if with_split:
        out += skippable(split)
    return out + skippable(footer.ljust(footer_bytes, b"\0")), said


def main(good):
    with gzip.open(good + "/layer.tar.gz") as file:
        tar = file.read()
    with open(good + "/blobs.json", encoding="utf-8") as file:
        known = json.load(file)
    blob, said = legacy(tar, 8192)
    plain = b""
    rest = blob
    while rest:
        z = zlib.decompressobj(31)
        plain += z.decompress(rest)
        rest = z.unused_data
    enter(good, "by-hand-legacy", "by_hand.py: CRFS, 2019, with an annotation", blob, said, digest(plain))
    with open(good + "/zstd-chunked.blob", "rb") as file:
        storage = file.read()
    for name, note, footer_bytes, with_split in (
        ("by-hand-zstd-2022-11", "prefix of today, footer of 40 bytes, no tar-split", 40, False),
        ("by-hand-zstd-2023-06", "tar-split named by an annotation, footer of 56 bytes with its magic in the middle", 56, True),
        ("by-hand-zstd-2023-08", "footer of today, tar-split named by an annotation", 64, True),
    ):
        blob, said = old_chunked(storage, known["zstd-chunked"]["annotations"], footer_bytes, with_split)
        made_by = "by_hand.py: containers/storage from %s on: %s" % (name[-7:], note)
        enter(good, name, made_by, blob, said, known["zstd-chunked"]["diff_id"])


if __name__ == "__main__":
    main(sys.argv[1])
