#!/usr/bin/env python3
"""Makes OCI layouts that are odd, or hostile, out of the layout of one image (with gzip layers).

    odd_images.py KIND FROM DIR [ARG...]

repeated        an index that names one index 4000 times, which names the image 4000 times
crowd           an index of 2100 images, each with a configuration of its own
heavy           an index of 40 manifests of 1 MiB
unread          an index with the image, an entry of an unknown type, one whose digest is not sha256, and an attestation of
                nothing
platform TEXT   the image's configuration names this operating system (with \\x1b for a byte)
marked SOURCE HOW [KEY=VALUE...]
                the image, whose first layer says that it was made of SOURCE in the way HOW (and has other annotations)
noted TEXT      the annotation example.note of each layer is this
layers N        the image with N layers more, of one small file each
empty           an image without layers
fewer           the configuration has one DiffID less than there are layers
fifo            the first layer is a named pipe
sparse BYTES    the first layer is said to be zstd:chunked, and has so many bytes, all zero
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile

OCI = "application/vnd.oci.image."
MANIFEST, INDEX = OCI + "manifest.v1+json", OCI + "index.v1+json"


class Layout:
    def __init__(self, source, directory):
        shutil.copytree(source, directory)
        self.directory = directory
        with open(directory + "/index.json", "rb") as text:
            self.entry = json.load(text)["manifests"][0]
        self.entry.pop("annotations", None)
        self.manifest = self.get(self.entry)
        self.config = self.get(self.manifest["config"])

    def path(self, digest):
        return f"{self.directory}/blobs/sha256/{digest[7:]}"

    def get(self, descriptor):
        with open(self.path(descriptor["digest"]), "rb") as blob:
            return json.load(blob)

    def put(self, data, media_type, **more):
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        with open(self.path(digest), "wb") as out:
            out.write(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data), **more}

    def image(self, config=None, **changes):
        manifest = dict(self.manifest, **changes)
        if config:
            manifest["config"] = self.put(config, OCI + "config.v1+json")
        return self.put(manifest, MANIFEST)

    def index(self, entries, **more):
        return self.put({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries, **more}, INDEX)

    def name(self, descriptor):
        descriptor["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
        with open(self.directory + "/index.json", "w") as out:
            json.dump({"schemaVersion": 2, "manifests": [descriptor]}, out)


def small_layer(layout, number):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        entry = tarfile.TarInfo(f"layer{number}")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"%03d" % (number % 1000)))
    diff_id = "sha256:" + hashlib.sha256(raw.getvalue()).hexdigest()
    return layout.put(gzip.compress(raw.getvalue(), 1, mtime=0), OCI + "layer.v1.tar+gzip"), diff_id


def first_layer(layout, **changes):
    return [dict(layout.manifest["layers"][0], **changes)] + layout.manifest["layers"][1:]


def make(kind, layout, args):
    config, diff_ids = layout.config, layout.config["rootfs"]["diff_ids"]
    if kind == "repeated":
        return layout.index([layout.index([layout.entry] * 4000)] * 4000)
    if kind == "crowd":
        return layout.index([layout.image(dict(config, author=str(i))) for i in range(2100)])
    if kind == "heavy":
        return layout.index([layout.image(annotations={"a": str(i) * (1 << 19)}) for i in range(10, 50)])
    if kind == "unread":
        other = layout.put(b"{}", "application/vnd.example.other+json")
        sha512 = dict(layout.entry, digest="sha512:" + "0" * 128)
        nothing = {"vnd.docker.reference.type": "attestation-manifest",
                   "vnd.docker.reference.digest": "sha256:" + "0" * 64}
        return layout.index([dict(layout.entry, platform={"os": "linux", "architecture": "amd64"}), other, sha512,
                             layout.put(layout.manifest, MANIFEST, annotations=nothing)])
    if kind == "platform":
        return layout.image(dict(config, os=args[0].encode().decode("unicode_escape")))
    if kind == "marked":
        annotations = {"io.contentd.source.digest": args[0], "io.contentd.convert": args[1]}
        annotations.update(arg.split("=", 1) for arg in args[2:])
        return layout.image(layers=first_layer(layout, annotations=annotations))
    if kind == "noted":
        return layout.image(layers=[dict(layer, annotations={"example.note": args[0]})
                                    for layer in layout.manifest["layers"]])
    if kind == "layers":
        more = [small_layer(layout, i) for i in range(int(args[0]))]
        ids = diff_ids + [diff_id for _, diff_id in more]
        return layout.image({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ids}},
                            layers=layout.manifest["layers"] + [layer for layer, _ in more])
    if kind == "empty":
        return layout.image(dict(config, rootfs={"type": "layers", "diff_ids": []}, history=[]), layers=[])
    if kind == "fewer":
        return layout.image(dict(config, rootfs={"type": "layers", "diff_ids": diff_ids[1:]}))
    first = layout.path(layout.manifest["layers"][0]["digest"])
    os.unlink(first)
    if kind == "fifo":
        os.mkfifo(first)
        return layout.entry
    assert kind == "sparse", kind
    with open(first, "wb") as out:
        out.truncate(int(args[0]))
    return layout.image(layers=first_layer(layout, mediaType=OCI + "layer.v1.tar+zstd", size=int(args[0]), annotations={
        "io.github.containers.zstd-chunked.manifest-checksum": "sha256:" + "0" * 64}))


def main():
    kind, source, directory, *args = sys.argv[1:]
    layout = Layout(source, directory)
    layout.name(make(kind, layout, args))


if __name__ == "__main__":
    main()
