#!/usr/bin/env python3
"""The good blobs as images of one layer each: push.py REGISTRY REPOSITORY

NAME.blob becomes REPOSITORY/NAME:latest, and NAME.toc its image of TOCs, `latest-esgztoc`. Prints the names."""

import hashlib
import http.client
import json
import os
import sys

OCI = "application/vnd.oci.image."
GOOD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "good")


class Registry:
    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address)

    def send(self, method, path, body, kind):
        self.connection.request(method, path, body, {"Content-Type": kind})
        answer = self.connection.getresponse()
        answer.read()
        if answer.status not in (201, 202):
            sys.exit(f"{method} {path}: HTTP {answer.status}")
        return answer.headers

    def blob(self, repository, data, kind):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        place = self.send("POST", f"/v2/{repository}/blobs/uploads/", b"", "text/plain")["Location"]
        place = place[place.index("/v2/") :] + ("&" if "?" in place else "?") + "digest=" + digest
        self.send("PUT", place, data, "application/octet-stream")
        return {"mediaType": OCI + kind, "digest": digest, "size": len(data)}

    def image(self, repository, tag, config, layer):
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI + "manifest.v1+json",
            "config": self.blob(repository, json.dumps(config).encode(), "config.v1+json"),
            "layers": [layer],
        }
        self.send("PUT", f"/v2/{repository}/manifests/{tag}", json.dumps(manifest), manifest["mediaType"])


def read(name):
    with open(f"{GOOD}/{name}", "rb") as file:
        return file.read()


def main(address, prefix):
    registry = Registry(address)
    for name, known in json.loads(read("blobs.json")).items():
        blob = read(name + ".blob")
        repository = f"{prefix}/{name}"
        zstd = blob.startswith(b"\x28\xb5\x2f\xfd")
        layer = registry.blob(repository, blob, "layer.v1.tar+" + ("zstd" if zstd else "gzip"))
        layer["annotations"] = known["annotations"]
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [known["diff_id"]]}}
        registry.image(repository, "latest", config, layer)
        if os.path.exists(f"{GOOD}/{name}.toc"):
            toc = registry.blob(repository, read(name + ".toc"), "layer.v1.tar+gzip")
            toc["annotations"] = {"containerd.io/snapshot/stargz/layer.digest": layer["digest"]}
            registry.image(repository, "latest-esgztoc", {"architecture": "amd64", "os": "linux"}, toc)
        print(name)


main(*sys.argv[1:])
