#!/usr/bin/env python3
"""Makes the bad blobs: bad.py BAD. A layer of a few small files in eStargz or in zstd:chunked, and one thing wrong in each;
bad/blobs.json says what. What readers say of it stands in estargz/testing/bad_test.c."""

import gzip
import io
import json
import os
import random
import struct
import sys
import tarfile

from blobs import enter
from forms import CHUNKED, TOC, chunked, digest, skippable, stargz, zstd

BIG = bytes(random.Random(1).choices(b"abcd", k=3000))


def source(mode=0o755):
    """Without its end, which stargz() wants so."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(name, data=b"", kind=tarfile.REGTYPE, **more):
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.mtime = kind, len(data), 1700000000
            entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
            for key, value in more.items():
                setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(data))

        add("bin", kind=tarfile.DIRTYPE)
        add("bin/su", b"#!/bin/sh\nexec id\n", mode=mode)
        add("etc", kind=tarfile.DIRTYPE)
        add("etc/big", BIG)
        add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        add("etc/shadow", b"root:*:0:0:99999:7:::\n", mode=0o640, gid=42)
        end = tar.offset
    return out.getvalue()[:end]


def at(path, nth=0, **lies):
    """entries= : other fields for the nth TOC entry of a path; None takes one away."""

    def change(entries):
        found = [e for e in entries if e["name"] == path][nth]
        for key, value in lies.items():
            found.pop(key, None)
            if value is not None:
                found[key] = value
        return entries

    return change


def flip(blob, where):
    return blob[:where] + bytes([blob[where] ^ 1]) + blob[where + 1 :]


def json_of(blob):
    plain = gzip.decompress(blob)
    begin = plain.index(b"stargz.index.json") + 512
    return plain[begin:].rstrip(b"\0")


def bomb(blob, said_bytes):
    data = blob[:200]
    packed = zstd("-19", data=b"{" + b" " * (160 << 20))
    footer = struct.pack("<7Q", 208, len(packed), said_bytes, 1, 0, 0, 0) + b"GNUlInUx"
    return data + skippable(packed) + skippable(footer), {
        CHUNKED + "manifest-checksum": digest(packed),
        CHUNKED + "manifest-position": f"208:{len(packed)}:{said_bytes}:1",
    }


def longer(lines):
    for line in lines:
        if line.get("name") == "etc/passwd":
            line["size"] += 512
    return lines


def renamed(lines):
    for line in lines:
        if line.get("name") == "etc/passwd":
            line["name"] = "etc/shells"
    return lines


def main(bad):
    os.makedirs(bad, exist_ok=True)
    for name in os.listdir(bad):
        if name.startswith(("gzip-", "zstd-", "blobs.json")):
            os.unlink(f"{bad}/{name}")
    tar = source()
    gz, gz_said = stargz(tar, 1024)
    zs, zs_said = chunked(tar + bytes(1024))
    chunks = [e for e in json.loads(json_of(gz))["entries"] if e.get("offset")]
    first = chunks[0]["offset"]

    def put(name, what, made, said=None):
        blob, annotations = made if said is None else (made, said)
        enter(bad, name, what, blob, annotations, digest(tar))

    put("gzip-truncated", "the last 200 bytes are missing", gz[:-200], gz_said)
    put("gzip-footer-only", "nothing but a footer, whose table lies beyond the blob", gz[-51:], gz_said)
    put("gzip-flipped-toc", "a bit of the compressed table is another", flip(gz, len(gz) - 300), gz_said)
    put("gzip-flipped-content", "a bit of a file's content is another", flip(gz, chunks[1]["offset"] + 200), gz_said)
    put("gzip-flipped-member", "a bit of a member's header is another", flip(gz, first), gz_said)
    put("gzip-other-toc", "the annotation names another table", gz, {TOC: digest(b"another")})
    put("gzip-toc-trailing", "bytes after the JSON", stargz(tar, 1024, toc=lambda text: text + b"{}"))
    put("gzip-toc-offset", "the footer's offset is the blob's end", stargz(tar, 1024, offset=lambda n: 1 << 40))
    put("gzip-toc-elsewhere", "the footer's offset is a file's", stargz(tar, 1024, offset=lambda n: first))
    put("gzip-beyond", "a chunk begins behind the blob", stargz(tar, 1024, entries=at("etc/passwd", offset=1 << 40)))
    put("gzip-before", "a chunk begins before the blob", stargz(tar, 1024, entries=at("etc/passwd", offset=-1)))
    put("gzip-inner", "a chunk lies far behind the end of its member",
        stargz(tar, 1024, entries=at("etc/passwd", innerOffset=1 << 30)))
    put("gzip-inner-huge", "... farther than any member could hold", stargz(tar, 1024, entries=at("etc/passwd", innerOffset=1 << 62)))
    put("gzip-middle", "a chunk begins inside a member", stargz(tar, 1024, entries=at("etc/passwd", offset=first + 5)))
    put("gzip-chunk-digest", "a chunk's digest is another's",
        stargz(tar, 1024, entries=at("etc/big", 1, chunkDigest=digest(b"other"))))
    put("gzip-file-digest", "a file's digest is another's, its chunks are right",
        stargz(tar, 1024, entries=at("etc/big", digest=digest(b"other"))))
    put("gzip-no-digest", "one of several chunks has no digest", stargz(tar, 1024, entries=at("etc/big", 1, chunkDigest=None)))
    put("gzip-gap", "chunks leave a gap in their file", stargz(tar, 1024, entries=at("etc/big", 1, chunkOffset=1100)))
    put("gzip-huge", "a file of one chunk of 2^50 bytes", stargz(tar, 1024, entries=at("etc/passwd", size=1 << 50)))
    put("gzip-longer", "a file is longer than what the blob has of it", stargz(tar, 1024, entries=at("etc/passwd", size=100000)))
    put("gzip-two-views-mode", "the table says set-user-ID, the tar does not", stargz(tar, 1024, entries=at("bin/su", mode=0o4755)))
    put("gzip-two-views-owner", "the table says gid 0, the tar 42", stargz(tar, 1024, entries=at("etc/shadow", gid=None)))
    shown = next(e for e in chunks if e["name"] == "etc/passwd")
    put("gzip-two-views-content", "by the table a file has another's content",
        stargz(tar, 1024, entries=at("etc/shadow", **{k: shown[k] for k in ("size", "digest", "chunkDigest", "offset")})))
    put("gzip-two-views-name", "the table has a name that the tar has not",
        stargz(tar, 1024, entries=lambda all: all + [{"name": "etc/cron", "type": "symlink", "linkName": "/tmp/x", "mode": 511}]))
    put("gzip-two-views-less", "the table lacks a file", stargz(tar, 1024, entries=lambda all: all[:-1]))

    position = CHUNKED + "manifest-position"
    numbers = zs_said[position].split(":")
    put("zstd-truncated", "the footer is missing, and its annotation place", zs[:-72], {k: v for k, v in zs_said.items() if "checksum" in k})
    put("zstd-flipped-toc", "a bit of the compressed table is another", flip(zs, int(numbers[0]) + 20), zs_said)
    put("zstd-disagree", "footer and annotation place the table differently", zs,
        {**zs_said, position: ":".join([str(int(numbers[0]) - 8), *numbers[1:]])})
    put("zstd-position", "the annotation's place is behind the blob", zs, {**zs_said, position: "1000000:100:100:1"})
    put("zstd-position-words", "the annotation is no place", zs, {**zs_said, position: "here"})
    put("zstd-type", "the footer's type is unknown", chunked(tar + bytes(1024), place=lambda n: [*n[:3], 2, *n[4:]]))
    put("zstd-both", "both digests, of which one is wrong", zs, {**zs_said, TOC: digest(b"another")})
    put("zstd-bomb", "a table of 160 MiB in some KB, which claims to have 1000 bytes", bomb(zs, 1000))
    put("zstd-bomb-said", "the same, which says so", bomb(zs, 160 << 20))
    put("zstd-hole", "a hole with the digest of something else",
        chunked(tar + bytes(1024), entries=at("etc/big", chunkType="zeros", chunkSize=3000, chunkDigest=digest(BIG))))
    put("zstd-end", "a chunk ends before it begins", chunked(tar + bytes(1024), entries=at("etc/passwd", endOffset=1)))
    put("zstd-two-views", "the table says set-user-ID, the tar does not", chunked(tar + bytes(1024), entries=at("bin/su", mode=0o4755)))
    put("zstd-split-less", "the tar-split lacks its last line", chunked(tar + bytes(1024), split=lambda lines: lines[:-1]))
    put("zstd-split-size", "by the tar-split a file is longer", chunked(tar + bytes(1024), split=longer))
    put("zstd-split-name", "the tar-split names a file that the table has not", chunked(tar + bytes(1024), split=renamed))


if __name__ == "__main__":
    main(sys.argv[1])
