#!/usr/bin/env python3
"""Forms of lazy layers that no program to be had still writes: by_hand.py GOOD

GOOD has layer.tar.gz and zstd-chunked.blob, and gets the blobs. What differed when, after the histories of google/crfs and
of containers/storage (pkg/chunked/internal/compression.go)."""

import gzip
import json
import struct
import sys
import zlib

from blobs import enter
from forms import CHUNKED, digest, skippable, stargz, zstd


def old_chunked(blob, annotations, footer_bytes, with_split):
    """zstd:chunked as containers/storage wrote it once, out of what it writes today."""
    at, size, _, _ = map(int, annotations[CHUNKED + "manifest-position"].split(":"))
    toc = json.loads(zstd("-d", data=blob[at : at + size]))
    split_at, split_bytes, split_plain = map(int, annotations[CHUNKED + "tarsplit-position"].split(":"))
    split = blob[split_at : split_at + split_bytes]
    del toc["tarSplitDigest"]
    plain = json.dumps(toc, separators=(",", ":"), ensure_ascii=False).encode()
    packed = zstd("-9", data=plain)
    out = blob[: at - 8] + skippable(packed)
    said = {
        CHUNKED + "manifest-checksum": digest(packed),
        CHUNKED + "manifest-position": f"{at}:{len(packed)}:{len(plain)}:1",
    }
    footer = struct.pack("<4Q", at, len(packed), len(plain), 1)
    if with_split:
        said[CHUNKED + "tarsplit-checksum"] = digest(split)
        said[CHUNKED + "tarsplit-position"] = f"{len(out) + 8}:{split_bytes}:{split_plain}"
    if footer_bytes == 64:
        footer += struct.pack("<3Q", len(out) + 8, split_bytes, split_plain) + b"GNUlInUx"
    else:
        footer += b"GnUlInUx"
    if with_split:
        out += skippable(split)
    return out + skippable(footer.ljust(footer_bytes, b"\0")), said


def tar_end(tar):
    """Where the blocks of zeros begin that end it."""
    end = len(tar)
    while not any(tar[end - 512 : end]):
        end -= 512
    return end


def main(good):
    with gzip.open(good + "/layer.tar.gz") as file:
        tar = file.read()
    with open(good + "/blobs.json", encoding="utf-8") as file:
        known = json.load(file)
    blob, said = stargz(tar[: tar_end(tar)], 8192, legacy=True)
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
