#!/usr/bin/env python3
"""Turns the image in an OCI layout into a lazy one, in place: every layer becomes eStargz, or what OPTIONS say.

    lazy_layout.py ESGZCONV DIR [OPTION...]

ESGZCONV is the program tests/esgzconv.c, as are the options. Prints a line "OLD_BLOB NEW_BLOB TOC" for each layer.
"""

import hashlib
import json
import os
import subprocess
import sys


class Layout:
    def __init__(self, path):
        self.path = path

    def blob(self, digest):
        return os.path.join(self.path, "blobs", *digest.split(":"))

    def read(self, digest):
        with open(self.blob(digest), "rb") as f:
            return json.load(f)

    def write(self, document):
        data = json.dumps(document).encode()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        with open(self.blob(digest), "wb") as f:
            f.write(data)
        return digest, len(data)


def main():
    converter, path, *options = sys.argv[1:]
    kind = "zstd" if any("zstd" in o for o in options) else "gzip"
    layout = Layout(path)
    with open(os.path.join(path, "index.json"), "rb") as f:
        index = json.load(f)
    target = index["manifests"][0]
    manifest = layout.read(target["digest"])
    config = layout.read(manifest["config"]["digest"])
    for i, layer in enumerate(manifest["layers"]):
        out = os.path.join(path, "converted")
        lines = subprocess.run([converter, *options, layout.blob(layer["digest"]), out], check=True,
                               stdout=subprocess.PIPE, text=True).stdout.splitlines()
        blob, size, diff_id, toc, _ = lines[0].split()
        os.rename(out, layout.blob(blob))
        print(layer["digest"], blob, toc)
        layer.update(digest=blob, size=int(size), mediaType="application/vnd.oci.image.layer.v1.tar+" + kind)
        layer.setdefault("annotations", {}).update(line.split("=", 1) for line in lines[1:])
        config["rootfs"]["diff_ids"][i] = diff_id
    manifest["config"]["digest"], manifest["config"]["size"] = layout.write(config)
    target["digest"], target["size"] = layout.write(manifest)
    with open(os.path.join(path, "index.json"), "w") as f:
        json.dump(index, f)


if __name__ == "__main__":
    main()
