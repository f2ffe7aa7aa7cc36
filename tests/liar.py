#!/usr/bin/env python3
"""Writes an OCI layout of one eStargz layer by hand, with a table of contents (TOC) that may lie.

    liar.py DIR SPEC

SPEC is JSON: {"files": [FILE...], "base": LAYOUT, "blob_of": LAYOUT, "toc_digest": DIGEST, "diff_ids_of": LAYOUT}. FILE: {"name": NAME,
"from": PATH or "text": TEXT, "xattrs": {NAME: TEXT}, "mode": MODE} and what the TOC says instead of the truth: "digest",
"size", "toc_mode", "chunk_digests" (list). "base": a layout whose layers come below. "blob_of": the layer's descriptor names the last blob
of that layout, but the layer is this one, of the same size (for a registry that serves other bytes than the digest
promises); prints that digest and the file with the bytes. "toc_digest" overrides the annotation. "diff_ids_of": the
configuration claims the DiffIDs, and so the chain ids, of that layout.
Always prints a last line "BLOB TOC": the digest of the layer's bytes and that of its TOC.
"""

import base64
import gzip
import hashlib
import json
import os
import platform
import shutil
import struct
import sys
import tarfile

CHUNK = 64 << 10
TOC_ANNOTATION = "containerd.io/snapshot/stargz/toc.digest"


def sha(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def member(data):
    return gzip.compress(data, 6, mtime=0)


def empty_member(extra):
    return b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", len(extra)) + extra + b"\x01\0\0\xff\xff" + bytes(8)


def footer(toc_offset):
    return empty_member(b"SG" + struct.pack("<H", 22) + b"%016x" % toc_offset + b"STARGZ")


def pad(size):
    return bytes(-size % 512)


class Blob:
    """Members as they come: what is not a payload (headers, padding) gathers until the next one begins."""

    def __init__(self):
        self.out, self.tar, self.pending = bytearray(), bytearray(), bytearray()
        self.entries = []

    def flush(self):
        if self.pending:
            self.emit(bytes(self.pending))
            self.pending.clear()

    def emit(self, data):
        self.tar += data
        self.out += member(data)

    def header(self, name, kind, size, xattrs, mode):
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mode = kind, size, mode
        info.pax_headers = {"SCHILY.xattr." + key: value for key, value in xattrs.items()}
        return info.tobuf(tarfile.PAX_FORMAT)

    def directory(self, name):
        self.pending += self.header(name + "/", tarfile.DIRTYPE, 0, {}, 0o755)
        self.entries.append({"name": name + "/", "type": "dir", "mode": 0o755})

    def file(self, spec):
        data = spec["text"].encode() if "text" in spec else open(spec["from"], "rb").read()
        xattrs = spec.get("xattrs", {})
        self.pending += self.header(spec["name"], tarfile.REGTYPE, len(data), xattrs, spec.get("mode", 0o644))
        self.flush()
        entry = {"name": spec["name"], "type": "reg", "mode": spec.get("toc_mode", spec.get("mode", 0o644)),
                 "size": spec.get("size", len(data)), "digest": spec.get("digest", sha(data))}
        if xattrs:
            entry["xattrs"] = {key: base64.b64encode(value.encode()).decode() for key, value in xattrs.items()}
        claimed = spec.get("chunk_digests", [])
        chunks = [data[at:at + CHUNK] for at in range(0, len(data), CHUNK)]
        for i, chunk in enumerate(chunks):
            described = {"offset": len(self.out), "chunkDigest": claimed[i] if i < len(claimed) else sha(chunk)}
            if len(chunks) > 1:
                described.update(chunkOffset=i * CHUNK, chunkSize=len(chunk))
            self.emit(chunk)
            if i == 0:
                self.entries.append({**entry, **described})
            else:
                self.entries.append({"name": spec["name"], "type": "chunk", **described})
        if not chunks:
            self.entries.append(entry)
        self.pending += pad(len(data))

    def done(self, size=0):
        self.flush()
        toc = json.dumps({"version": 1, "entries": self.entries}, indent="\t").encode()
        last = self.header("stargz.index.json", tarfile.REGTYPE, len(toc), {}, 0o644) + toc + pad(len(toc)) + bytes(1024)
        if size:
            self.out += empty_member(bytes(size - len(self.out) - len(member(last)) - len(footer(0)) - len(empty_member(b""))))
        at = len(self.out)
        self.emit(last)
        return bytes(self.out) + footer(at), bytes(self.tar), sha(toc)


def put(directory, data):
    with open(os.path.join(directory, "blobs/sha256", sha(data)[7:]), "wb") as out:
        out.write(data)
    return {"digest": sha(data), "size": len(data)}


def read_json(layout, digest):
    with open(os.path.join(layout, "blobs/sha256", digest[7:]), "rb") as source:
        return json.load(source)


def manifest_of(layout):
    with open(os.path.join(layout, "index.json"), "rb") as source:
        return read_json(layout, json.load(source)["manifests"][0]["digest"])


def main():
    directory, spec = sys.argv[1], json.loads(sys.argv[2])
    os.makedirs(os.path.join(directory, "blobs/sha256"))
    layers, diff_ids, config = [], [], {}
    if "base" in spec:
        below = manifest_of(spec["base"])
        config = read_json(spec["base"], below["config"]["digest"])
        layers, diff_ids = below["layers"], config["rootfs"]["diff_ids"]
        for layer in layers:
            hex_digits = layer["digest"][7:]
            shutil.copy(os.path.join(spec["base"], "blobs/sha256", hex_digits), os.path.join(directory, "blobs/sha256"))
    blob = Blob()
    blob.directory("lies")
    for each in spec["files"]:
        blob.file(each)
    honest = manifest_of(spec["blob_of"])["layers"][-1] if "blob_of" in spec else {}
    data, tar, toc = blob.done(honest.get("size", 0))
    layer = put(directory, data)
    if honest:
        shutil.copy(os.path.join(spec["blob_of"], "blobs/sha256", honest["digest"][7:]),
                    os.path.join(directory, "blobs/sha256"))
        print(honest["digest"], os.path.join(directory, "blobs/sha256", layer["digest"][7:]))
        layer = {"digest": honest["digest"], "size": honest["size"]}
    layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip"
    layer["annotations"] = {TOC_ANNOTATION: spec.get("toc_digest", toc)}
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    diff_ids = diff_ids + [sha(tar)]
    if "diff_ids_of" in spec:
        other = spec["diff_ids_of"]
        diff_ids = read_json(other, manifest_of(other)["config"]["digest"])["rootfs"]["diff_ids"]
    config = {"architecture": arch, "os": "linux", "config": config.get("config", {}),
              "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                           **put(directory, json.dumps(config).encode())},
                "layers": layers + [layer]}
    target = {"mediaType": manifest["mediaType"], **put(directory, json.dumps(manifest).encode()),
              "platform": {"architecture": arch, "os": "linux"},
              "annotations": {"org.opencontainers.image.ref.name": "latest"}}
    for name, value in (("index.json", {"schemaVersion": 2, "manifests": [target]}),
                        ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
        with open(os.path.join(directory, name), "w", encoding="ascii") as out:
            json.dump(value, out)
    print(sha(data), toc)


if __name__ == "__main__":
    main()
