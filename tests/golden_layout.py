#!/usr/bin/env python3
"""Writes an OCI layout of golden layers (tests/golden/good), as their makers' manifests describe them.

    golden_layout.py DIR NAME...

Prints a line "NAME BLOB DIFF_ID" for each.
"""

import hashlib
import json
import os
import platform
import shutil
import sys

GOOD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "good")


def put(directory, document):
    data = json.dumps(document).encode()
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(directory, "blobs/sha256", digest), "wb") as out:
        out.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


def main():
    directory, *names = sys.argv[1:]
    os.makedirs(os.path.join(directory, "blobs/sha256"))
    with open(os.path.join(GOOD, "blobs.json"), "rb") as source:
        known = json.load(source)
    layers = []
    for name in names:
        it = known[name]
        shutil.copy(os.path.join(GOOD, name + ".blob"), os.path.join(directory, "blobs/sha256", it["digest"][7:]))
        packed = "zstd" if "zstd" in name else "gzip"
        layers.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+" + packed, "digest": it["digest"],
                       "size": it["bytes"], "annotations": it["annotations"]})
        print(name, it["digest"], it["diff_id"])
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    config = {"architecture": arch, "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": [known[name]["diff_id"] for name in names]}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **put(directory, config)},
                "layers": layers}
    target = {"mediaType": manifest["mediaType"], **put(directory, manifest),
              "platform": {"architecture": arch, "os": "linux"},
              "annotations": {"org.opencontainers.image.ref.name": "latest"}}
    for name, value in (("index.json", {"schemaVersion": 2, "manifests": [target]}),
                        ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
        with open(os.path.join(directory, name), "w", encoding="ascii") as out:
            json.dump(value, out)


if __name__ == "__main__":
    main()
