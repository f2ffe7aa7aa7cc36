#!/usr/bin/env python3
"""Puts a layer on top of an image: what committing a container comes to.

    add_layer.py [--media-type TYPE] FROM LAYER TO

FROM and TO are OCI layouts with one image each; LAYER is a tar, compressed as the media type says.
"""

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"


def plain(raw, media_type):
    if media_type.endswith("gzip"):
        return gzip.decompress(raw)
    if media_type.endswith("zstd"):
        return subprocess.run(["zstd", "-dcq"], input=raw, stdout=subprocess.PIPE, check=True).stdout
    return raw


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media-type", default=OCI_LAYER + "+gzip")
    parser.add_argument("source")
    parser.add_argument("layer")
    parser.add_argument("target")
    args = parser.parse_args()

    shutil.copytree(args.source, args.target)
    blobs = os.path.join(args.target, "blobs", "sha256")

    def load(descriptor):
        with open(os.path.join(blobs, descriptor["digest"].removeprefix("sha256:")), "rb") as source:
            return json.load(source)

    def store(raw, media_type):
        digest = hashlib.sha256(raw).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as target:
            target.write(raw)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(raw)}

    with open(os.path.join(args.target, "index.json"), encoding="utf-8") as source:
        index = json.load(source)
    with open(args.layer, "rb") as source:
        raw = source.read()
    manifest = load(index["manifests"][0])
    config = load(manifest["config"])
    config["rootfs"]["diff_ids"].append("sha256:" + hashlib.sha256(plain(raw, args.media_type)).hexdigest())
    config.pop("history", None)
    manifest["layers"].append(store(raw, args.media_type))
    manifest["config"] = store(json.dumps(config).encode(), manifest["config"]["mediaType"])
    index["manifests"][0].update(store(json.dumps(manifest).encode(), index["manifests"][0]["mediaType"]))
    with open(os.path.join(args.target, "index.json"), "w", encoding="utf-8") as target:
        json.dump(index, target)


if __name__ == "__main__":
    main()
