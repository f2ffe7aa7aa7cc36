"""Writers of lazy layers that can be made to lie, in the fewest lines: for forms of which no other writer is to be had, and for
bad blobs. All take a tar, and give the blob and the annotations of its descriptor."""

import base64
import gzip
import hashlib
import io
import json
import math
import struct
import subprocess
import tarfile
import time

TYPES = {
    tarfile.DIRTYPE: "dir",
    tarfile.REGTYPE: "reg",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}
TOC = "containerd.io/snapshot/stargz/toc.digest"
CHUNKED = "io.github.containers.zstd-chunked."


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def pad(data):
    return data + bytes(-len(data) % 512)


def member(data):
    return gzip.compress(data, 9, mtime=0)


def zstd(*args, data):
    return subprocess.run(["zstd", "-q", "-c", *args], input=data, stdout=subprocess.PIPE, check=True).stdout


def skippable(data):
    return b"\x50\x2a\x4d\x18" + struct.pack("<I", len(data)) + data


def crc64(data):
    """CRC-64/GO-ISO, as tar-split has it."""
    crc = (1 << 64) - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xD8 << 56 if crc & 1 else 0)
    return (crc ^ ((1 << 64) - 1)).to_bytes(8, "big")


def same(x):
    return x


def describe(entry):
    """What a TOC says of a tar entry."""
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
    xattrs = {k[len("SCHILY.xattr.") :]: v for k, v in entry.pax_headers.items() if k.startswith("SCHILY.xattr.")}
    if xattrs:
        said["xattrs"] = {k: base64.b64encode(v.encode()).decode() for k, v in xattrs.items()}
    return said


def parts(tar):
    """Each entry with the bytes before its content, which are headers and padding, and its content; then the trailer."""
    begin = 0
    for entry in tarfile.open(fileobj=io.BytesIO(tar)):
        size = entry.size if entry.isreg() else 0
        yield entry, tar[begin : entry.offset_data], tar[entry.offset_data : entry.offset_data + size]
        begin = entry.offset_data + size
    yield None, tar[begin:], b""


def stargz(tar, chunk_bytes, legacy=False, entries=same, toc=same, offset=same):
    """eStargz, or what was before it: no chunk digests, no landmark, a footer without a subfield. The tar has to come without its
    end, which comes behind the TOC. entries, toc, offset: change what is said."""
    blob, said, waiting = b"", [], b""
    for entry, before, content in parts(tar):
        waiting += before
        if entry is None:
            break
        about = describe(entry)
        if legacy:
            about["NumLink"] = 1
        if not content:
            said.append(about)
            continue
        about["digest"] = digest(content)
        for at in range(0, len(content), chunk_bytes):
            chunk = content[at : at + chunk_bytes]
            blob, waiting = blob + member(waiting), chunk
            if at:
                about = {"name": about["name"], "type": "chunk", "chunkOffset": at}
            about["offset"] = len(blob)
            if at + chunk_bytes < len(content) or len(content) % chunk_bytes == 0:
                about["chunkSize"] = len(chunk)
            if not legacy:
                about["chunkDigest"] = digest(chunk)
            said.append(about)
    blob += member(waiting)
    text = toc(json.dumps({"version": 1, "entries": entries(said)}, indent="\t", ensure_ascii=False).encode())
    header = tarfile.TarInfo("stargz.index.json")
    header.size, header.mode = len(text), 0
    end = member(header.tobuf(tarfile.USTAR_FORMAT) + pad(text) + bytes(1024))
    at = b"%016xSTARGZ" % offset(len(blob))
    extra = at if legacy else b"SG" + struct.pack("<H", len(at)) + at
    footer = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", len(extra)) + extra + b"\x01\0\0\xff\xff" + bytes(8)
    return blob + end + footer, {TOC: digest(text)}


def chunked(tar, entries=same, toc=same, split=same, place=same):
    """zstd:chunked of containers/storage, one chunk a file. entries, toc (the JSON), split (lines of the tar-split), place (the
    numbers of the footer): change what is said."""
    blob, said, lines, waiting = b"", [], [], b""

    def line(**what):
        lines.append({**what, "position": len(lines)})

    for entry, before, content in parts(tar):
        waiting += before
        line(type=2, payload=base64.b64encode(before).decode())
        if entry is None:
            break
        about = describe(entry)
        checksum = base64.b64encode(crc64(content)).decode() if content else None
        line(type=1, name=about["name"], size=len(content), payload=checksum)
        if content:
            blob, waiting = blob + zstd("-3", data=waiting), b""
            about.update(digest=digest(content), offset=len(blob))
            blob += zstd("-3", data=content)
            about["endOffset"] = len(blob)
        said.append(about)
    blob += zstd("-3", data=waiting)
    plain_split = b"".join(json.dumps(x).encode() + b"\n" for x in split(lines))
    packed_split = zstd("-3", data=plain_split)
    document = {"version": 1, "entries": entries(said), "tarSplitDigest": digest(packed_split)}
    plain = toc(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode())
    packed = zstd("-3", data=plain)
    at = len(blob) + 8
    split_at = at + len(packed) + 8
    numbers = place([at, len(packed), len(plain), 1, split_at, len(packed_split), len(plain_split)])
    footer = struct.pack("<7Q", *numbers) + b"GNUlInUx"
    return blob + skippable(packed) + skippable(packed_split) + skippable(footer), {
        CHUNKED + "manifest-checksum": digest(packed),
        CHUNKED + "manifest-position": f"{at}:{len(packed)}:{len(plain)}:1",
        CHUNKED + "tarsplit-position": f"{split_at}:{len(packed_split)}:{len(plain_split)}",
    }
