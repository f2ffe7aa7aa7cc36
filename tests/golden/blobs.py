#!/usr/bin/env python3
"""Layouts of one layer, and the list of golden blobs.

blobs.py layout LAYER.tar DIR                           the layer as an OCI layout, tag "src"
blobs.py record GOOD NAME MADE_BY LAYOUT [TOC_LAYOUT]   its first layer as GOOD/NAME.blob, its TOC image's as GOOD/NAME.toc,
                                                        and what its manifest says of it into GOOD/blobs.json
"""

import hashlib
import json
import os
import sys

OCI = "application/vnd.oci.image."


def layout(layer, folder):
    os.makedirs(folder + "/blobs/sha256")

    def put(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{folder}/blobs/sha256/{digest}", "wb") as file:
            file.write(data)
        return {"mediaType": OCI + kind, "digest": "sha256:" + digest, "size": len(data)}

    def put_json(value, kind):
        return put(json.dumps(value).encode(), kind)

    with open(layer, "rb") as file:
        tar = put(file.read(), "layer.v1.tar")
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [tar["digest"]]}}
    manifest = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "config": put_json(config, "config.v1+json"), "layers": [tar]}
    entry = put_json(manifest, "manifest.v1+json")
    entry["annotations"] = {
        "io.containerd.image.name": "example.com/golden:src",
        "org.opencontainers.image.ref.name": "src",
    }
    with open(folder + "/index.json", "w") as file:
        json.dump({"schemaVersion": 2, "manifests": [entry]}, file)
    with open(folder + "/oci-layout", "w") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)


def read_image(folder):
    """The first layer's bytes, its descriptor and its DiffID, None in a TOC image."""

    def read(digest):
        with open(f"{folder}/blobs/sha256/{digest.split(':')[1]}", "rb") as file:
            return file.read()

    with open(folder + "/index.json", "rb") as file:
        manifest = json.loads(read(json.load(file)["manifests"][0]["digest"]))
    layer = manifest["layers"][0]
    diff_ids = json.loads(read(manifest["config"]["digest"])).get("rootfs", {}).get("diff_ids") or [None]
    return read(layer["digest"]), layer, diff_ids[0]


def enter(good, name, made_by, blob, annotations, diff_id, toc=None):
    for end, data in ("blob", blob), ("toc", toc):
        if data is not None:
            with open(f"{good}/{name}.{end}", "wb") as file:
                file.write(data)
    path = good + "/blobs.json"
    known = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
    known[name] = {
        "made_by": made_by,
        "bytes": len(blob),
        "digest": "sha256:" + hashlib.sha256(blob).hexdigest(),
        "diff_id": diff_id,
        "annotations": annotations,
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(dict(sorted(known.items())), file, indent=1)
        file.write("\n")


def record(good, name, made_by, folder, toc_folder=None):
    blob, layer, diff_id = read_image(folder)
    toc = None
    if toc_folder:
        toc, toc_layer, _ = read_image(toc_folder)
        assert toc_layer["annotations"]["containerd.io/snapshot/stargz/layer.digest"] == layer["digest"]
    enter(good, name, made_by, blob, layer.get("annotations", {}), diff_id, toc)


if __name__ == "__main__":
    {"layout": layout, "record": record}[sys.argv[1]](*sys.argv[2:])
