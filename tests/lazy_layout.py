#!/usr/bin/env python3
"""Turns the image in an OCI layout into a lazy one, in place: every layer becomes eStargz, or what OPTIONS say.

    lazy_layout.py ESGZCONV DIR [OPTION...]

ESGZCONV is the program tests/esgzconv.c, as are the options. Prints a line "OLD_BLOB NEW_BLOB TOC" for each layer. With
estargz-external-toc the image of the TOCs becomes a layout of its own, DIR-esgztoc.
"""

import hashlib
import json
import os
import subprocess
import sys


OCI = "application/vnd.oci.image."


class Layout:
    def __init__(self, path):
        self.path = path

    def blob(self, digest):
        return os.path.join(self.path, "blobs", *digest.split(":"))

    def read(self, digest):
        with open(self.blob(digest), "rb") as f:
            return json.load(f)

    def write(self, document):
        return self.write_bytes(json.dumps(document).encode())

    def write_bytes(self, data):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        with open(self.blob(digest), "wb") as f:
            f.write(data)
        return digest, len(data)


def write_toc_image(path, tocs):
    """tocs: of each converted layer its digest, and the layer of the TOC image."""
    os.makedirs(path + "/blobs/sha256")
    layout = Layout(path)
    layers = []
    for layer, data in sorted(tocs):
        digest, size = layout.write_bytes(data)
        layers.append({"mediaType": OCI + "layer.v1.tar+gzip", "digest": digest, "size": size,
                       "annotations": {"containerd.io/snapshot/stargz/layer.digest": layer}})
    digest, size = layout.write({"architecture": "", "os": "", "rootfs": {"type": "", "diff_ids": None}})
    config = {"mediaType": OCI + "config.v1+json", "digest": digest, "size": size}
    digest, size = layout.write({"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "config": config, "layers": layers})
    manifest = {"mediaType": OCI + "manifest.v1+json", "digest": digest, "size": size,
                "annotations": {"org.opencontainers.image.ref.name": "latest"}}
    with open(path + "/index.json", "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [manifest]}, f)
    with open(path + "/oci-layout", "w") as f:
        json.dump({"imageLayoutVersion": "1.0.0"}, f)


def main():
    converter, path, *options = sys.argv[1:]
    kind = "zstd" if any("zstd" in o for o in options) else "gzip"
    external = os.path.join(path, "toc") if "estargz-external-toc" in options else None
    if external:
        options += ["--toc", external]
    tocs = []
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
        if external:
            with open(external, "rb") as f:
                tocs.append((blob, f.read()))
            os.unlink(external)
        print(layer["digest"], blob, toc)
        layer.update(digest=blob, size=int(size), mediaType="application/vnd.oci.image.layer.v1.tar+" + kind)
        layer.setdefault("annotations", {}).update(line.split("=", 1) for line in lines[1:])
        config["rootfs"]["diff_ids"][i] = diff_id
    manifest["config"]["digest"], manifest["config"]["size"] = layout.write(config)
    target["digest"], target["size"] = layout.write(manifest)
    with open(os.path.join(path, "index.json"), "w") as f:
        json.dump(index, f)
    if external:
        write_toc_image(path + "-esgztoc", tocs)


if __name__ == "__main__":
    main()
