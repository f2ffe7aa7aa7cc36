#!/usr/bin/env python3
"""Makes a small OCI image that holds every kind of entry a layer can hold.

    tiny_image.py [--compression gzip|zstd|none] [--tag TAG] [--seed N] [--once] DIR

Three layers over a static busybox: hard links, symbolic links, devices, a FIFO, extended attributes and a capability,
set-user-ID, sticky directories, large and small numbers of owners, long and non-ASCII names, a directory of 1500
entries, empty files, a file of zeros, files of several chunks, a name spelt with "./"; then whiteouts of files and of
trees, an opaque directory, a file where a directory was and the reverse, changed attributes. Running it prints
"hello from tiny". The same seed gives the same bytes; another one gives files of other content. --once: without the name
that one layer has twice, which containers/storage refuses.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import random
import subprocess
import sys
import tarfile

BUSYBOX = "/bin/busybox"
APPLETS = ["sh", "echo", "cat", "ls", "sleep", "true", "false", "sha256sum", "find", "cp", "mv", "rm", "mkdir", "ps",
           "stat", "id", "env", "mount", "dd", "kill", "head", "tail", "test", "touch", "sync", "hostname"]
TIME = 1700000000
CAP_NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep, version 2


class Layer:
    def __init__(self):
        self.raw = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.raw, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name, kind=tarfile.REGTYPE, content=b"", mode=0o644, uid=0, gid=0, target="", device=(0, 0),
            xattrs=None, mtime=TIME):
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.uid, entry.gid, entry.mtime = kind, mode, uid, gid, mtime
        entry.linkname, (entry.devmajor, entry.devminor) = target, device
        for key, value in (xattrs or {}).items():
            entry.pax_headers["SCHILY.xattr." + key] = value.decode("utf-8", "surrogateescape")
        if kind == tarfile.REGTYPE:
            entry.size = len(content)
        self.tar.addfile(entry, io.BytesIO(content) if kind == tarfile.REGTYPE else None)

    def dir(self, name, mode=0o755, **more):
        self.add(name + "/", tarfile.DIRTYPE, mode=mode, **more)

    def link(self, name, target):
        self.add(name, tarfile.SYMTYPE, mode=0o777, target=target)

    def whiteout(self, name):
        head, tail = os.path.split(name)
        self.add(os.path.join(head, ".wh." + tail), mode=0)

    def done(self):
        self.tar.close()
        return self.raw.getvalue()


def base_layer(rng, once):
    layer = Layer()
    with open(BUSYBOX, "rb") as source:
        busybox = source.read()
    for name in ("bin", "dev", "etc", "proc", "run", "sys", "usr", "usr/share", "data", "gone", "gone/deep", "opaque",
                 "opaque/kept-by-name", "becomes-file", "many"):
        layer.dir(name)
    layer.dir("tmp", 0o1777)
    layer.dir("root", 0o700)
    layer.add("bin/busybox", content=busybox, mode=0o755)
    for applet in APPLETS:
        layer.link("bin/" + applet, "busybox")
    layer.add("etc/passwd", content=b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    layer.add("etc/group", content=b"root:x:0:\nnogroup:x:65534:\n")
    layer.add("dev/null", tarfile.CHRTYPE, mode=0o666, device=(1, 3))
    layer.add("dev/loop-like", tarfile.BLKTYPE, mode=0o660, device=(7, 300))
    layer.add("dev/pipe", tarfile.FIFOTYPE, mode=0o600)
    layer.add("data/empty")
    layer.add("data/zeros", content=bytes(1 << 20))
    layer.add("data/three-mib", content=rng.randbytes(3 << 20))
    layer.add("data/text", content=b"the quick brown fox\n" * 20000)
    layer.add("data/one-byte", content=b"x")
    layer.add("data/linked", content=rng.randbytes(70000), mode=0o640, uid=1000, gid=1000)
    layer.add("data/linked-2", tarfile.LNKTYPE, target="data/linked")
    layer.add("usr/share/linked-3", tarfile.LNKTYPE, target="data/linked")
    layer.add("data/with-xattrs", content=b"attributes\n",
              xattrs={"user.colour": b"blue", "user.long": b"v" * 2000})
    layer.add("bin/with-capability", content=busybox[:5000], mode=0o755, xattrs={"security.capability": CAP_NET_RAW})
    layer.add("bin/set-uid", content=b"#!/bin/sh\n", mode=0o4755)
    layer.add("bin/set-gid", content=b"#!/bin/sh\n", mode=0o2755, gid=42)
    layer.add("data/big-owner", content=b"owner\n", uid=3000000, gid=4000000)
    layer.add("data/no-mode", content=b"secret\n", mode=0)
    layer.add("data/old", content=b"1970\n", mtime=1)
    layer.add("data/" + "l" * 200, content=b"long name\n")
    deep = "data"
    for i in range(30):
        deep += "/deep%02d" % i
        layer.dir(deep)
    layer.add(deep + "/file", content=b"deep\n")
    layer.add("data/Grüße ☃ file", content="snow\n".encode())
    layer.add("data/back\\slash", content=b"slash\n")
    layer.link("data/long-link", "x/" * 600 + "end")
    layer.link("data/dangling", "/nowhere")
    layer.link("data/to-dir", "../usr")
    layer.add("./data/dot-slash", content=b"dot slash\n")
    for i in range(1500):
        layer.add("many/entry-%04d" % i, content=b"%d\n" % i)
    layer.add("gone/file", content=b"gone\n")
    layer.add("gone/deep/file", content=b"gone\n")
    layer.add("data/removed", content=b"removed\n")
    layer.add("opaque/hidden", content=b"hidden\n")
    layer.add("opaque/kept-by-name/hidden", content=b"hidden\n")
    layer.add("becomes-file/inside", content=b"inside\n")
    layer.add("becomes-dir", content=b"file\n")
    layer.add("etc/changed", content=b"old content\n")
    layer.add("etc/mode-changed", content=b"same content\n")
    if not once:
        layer.add("twice", content=b"first\n")
    layer.add("twice", content=b"second\n", mode=0o600)
    return layer.done()


def change_layer(rng):
    layer = Layer()
    layer.whiteout("gone")
    layer.whiteout("data/removed")
    layer.whiteout("many/entry-0007")
    layer.dir("opaque", 0o750)
    layer.add("opaque/.wh..wh..opq", mode=0)
    layer.add("opaque/new", content=b"new\n")
    layer.dir("opaque/kept-by-name")
    layer.add("becomes-file", content=b"a file now\n")
    layer.dir("becomes-dir")
    layer.add("becomes-dir/inside", content=b"inside\n")
    layer.add("etc/changed", content=b"new content\n", uid=7)
    layer.add("etc/mode-changed", content=b"same content\n", mode=0o600)
    layer.add("data/same-as-base", content=b"the quick brown fox\n" * 20000)
    layer.add("implied/parents/file", content=b"no entries for my parents\n")
    layer.add("data/two-mib", content=rng.randbytes((2 << 20) + 12345))
    return layer.done()


def top_layer():
    layer = Layer()
    layer.dir("app")
    layer.add("app/hello", content=b"#!/bin/sh\necho hello from tiny\n", mode=0o755)
    layer.dir("gone")
    layer.add("gone/back", content=b"back again\n")
    layer.whiteout("becomes-dir/inside")
    layer.whiteout("never-was")
    return layer.done()


def pack(data, compression):
    if compression == "gzip":
        return gzip.compress(data, 6, mtime=0), "+gzip"
    if compression == "zstd":
        return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout, "+zstd"
    return data, ""


def put_blob(directory, data, media_type):
    digest = hashlib.sha256(data).hexdigest()
    with open(f"{directory}/blobs/sha256/{digest}", "wb") as out:
        out.write(data)
    return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compression", choices=["gzip", "zstd", "none"], default="gzip")
    parser.add_argument("--tag", default="latest")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("directory")
    args = parser.parse_args()
    if not os.path.exists(BUSYBOX):
        sys.exit(f"tiny_image: {BUSYBOX} is missing (package busybox-static): run cmake/setup.sh")

    os.makedirs(args.directory + "/blobs/sha256")
    rng = random.Random(args.seed)
    tars = [base_layer(rng, args.once), change_layer(rng), top_layer()]
    layers = []
    for tar in tars:
        data, suffix = pack(tar, args.compression)
        layers.append(put_blob(args.directory, data, "application/vnd.oci.image.layer.v1.tar" + suffix))
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    config = {
        "created": "2023-11-14T22:13:20Z", "architecture": arch, "os": "linux",
        "config": {"Env": ["PATH=/bin", "TINY=1"], "Cmd": ["/app/hello"], "WorkingDir": "/data"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars]},
    }
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put_blob(args.directory, json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": layers,
    }
    described = put_blob(args.directory, json.dumps(manifest).encode(), manifest["mediaType"])
    described["platform"] = {"architecture": arch, "os": "linux"}
    described["annotations"] = {"org.opencontainers.image.ref.name": args.tag}
    for name, value in (("index.json", {"schemaVersion": 2, "manifests": [described]}),
                        ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
        with open(f"{args.directory}/{name}", "w", encoding="ascii") as out:
            json.dump(value, out)


if __name__ == "__main__":
    main()
