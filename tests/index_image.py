#!/usr/bin/env python3
"""Makes an OCI layout with an index of images for two platforms and an attestation, out of the layout of one image.

    index_image.py [--docker] [--mib N] [--layer-type TYPE] [--config-type TYPE] FROM DIR

Both images have the layers of the first one, and the second one (linux/arm64) a layer of N MiB more (10), which does
not compress. The attestation is of the first one, as buildkit writes it. Index and entries have members that nobody knows.
--docker: a manifest list and manifests of Docker's kind instead, without attestation. --layer-type: what the layer says
that it is. --config-type: the image has another kind of configuration.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import tarfile

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docker", action="store_true")
    parser.add_argument("--mib", type=int, default=10)
    parser.add_argument("--layer-type")
    parser.add_argument("--config-type")
    parser.add_argument("source")
    parser.add_argument("directory")
    args = parser.parse_args()
    shutil.copytree(args.source, args.directory)
    blobs = args.directory + "/blobs/sha256"

    def put(data, media_type, **more):
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{blobs}/{digest}", "wb") as out:
            out.write(data)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data), **more}

    def get(descriptor):
        with open(f"{blobs}/{descriptor['digest'][7:]}", "rb") as source:
            return json.load(source)

    with open(args.directory + "/index.json", "rb") as source:
        first = json.load(source)["manifests"][0]
    manifest = get(first)
    config = get(manifest["config"])
    types = {
        "config": DOCKER + "container.image.v1+json" if args.docker else OCI + "config.v1+json",
        "layer": DOCKER + "image.rootfs.diff.tar.gzip" if args.docker else OCI + "layer.v1.tar+gzip",
        "manifest": DOCKER + "distribution.manifest.v2+json" if args.docker else OCI + "manifest.v1+json",
        "index": DOCKER + "distribution.manifest.list.v2+json" if args.docker else OCI + "index.v1+json",
    }

    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        entry = tarfile.TarInfo("random")
        entry.size = args.mib << 20
        tar.addfile(entry, io.BytesIO(random.Random(1).randbytes(entry.size)))
    big = put(gzip.compress(raw.getvalue(), 1, mtime=0), args.layer_type or types["layer"])
    other = dict(config, architecture="arm64", variant="v8")
    other["rootfs"] = dict(config["rootfs"])
    other["rootfs"]["diff_ids"] = config["rootfs"]["diff_ids"] + [
        "sha256:" + hashlib.sha256(raw.getvalue()).hexdigest()]

    def image(config, layers, platform):
        document = {
            "schemaVersion": 2, "mediaType": types["manifest"],
            "config": put(json.dumps(config).encode(), args.config_type or types["config"]),
            "layers": [dict(layer, mediaType=types["layer"]) for layer in manifest["layers"]] + layers,
        }
        return put(json.dumps(document).encode(), types["manifest"], platform=platform, unknown={"kept": [1.50]})

    entries = [
        image(config, [], {"architecture": "amd64", "os": "linux", "os.features": ["f"]}),
        image(other, [big], {"architecture": "arm64", "os": "linux", "variant": "v8"}),
    ]
    if not args.docker:
        statement = put(b'{"_type":"https://in-toto.io/Statement/v0.1"}', "application/vnd.in-toto+json")
        attestation = {
            "schemaVersion": 2, "mediaType": types["manifest"],
            "config": put(b'{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":["'
                          + statement["digest"].encode() + b'"]}}', types["config"]),
            "layers": [statement],
        }
        entries.append(put(json.dumps(attestation).encode(), types["manifest"],
                           platform={"architecture": "unknown", "os": "unknown"}, annotations={
                               "vnd.docker.reference.type": "attestation-manifest",
                               "vnd.docker.reference.digest": entries[0]["digest"]}))
    index = put(json.dumps({"schemaVersion": 2, "mediaType": types["index"], "manifests": entries,
                            "x-unknown": True}).encode(), types["index"])
    index["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    with open(args.directory + "/index.json", "w") as out:
        json.dump({"schemaVersion": 2, "manifests": [index]}, out)


if __name__ == "__main__":
    main()
