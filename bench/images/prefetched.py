#!/usr/bin/env python3
"""Whether an eStargz image is optimized for a workload: each file of it stands before its layer's prefetch landmark.

	prefetched.py LAYOUT PATH...

Tells how much stands there; fails and says which file does not.
"""

import gzip
import json
import sys

FOOTER = 51  # a gzip member without content; its extra field, from byte 16 on, holds the offset of the list in hex


def entries(path):
    with open(path, "rb") as blob:
        blob.seek(-FOOTER, 2)
        offset = int(blob.read(FOOTER)[16:32], 16)
        blob.seek(offset)
        # One tar entry, the list: its header says how long it is.
        data = gzip.GzipFile(fileobj=blob).read()
    return json.loads(data[512:512 + int(data[124:135], 8)])["entries"]


def blob_path(layout, digest):
    return f"{layout}/blobs/{digest.replace(':', '/')}"


def main():
    layout, missing, count, size = sys.argv[1], set(sys.argv[2:]), 0, 0
    with open(f"{layout}/index.json", encoding="utf-8") as source:
        manifest = json.load(source)["manifests"][0]["digest"]
    with open(blob_path(layout, manifest), encoding="utf-8") as source:
        layers = json.load(source)["layers"]
    for layer in layers:
        toc = entries(blob_path(layout, layer["digest"]))
        landmark = next((e["offset"] for e in toc if e["name"] == ".prefetch.landmark"), 0)
        for entry in toc:
            if entry["type"] == "reg" and 0 < entry.get("offset", 0) < landmark:
                missing.discard(entry["name"])
                count += 1
                size += entry.get("size", 0)
    print(f"{count} files of {size / 1e6:.1f} MB stand in front")
    if missing:
        sys.exit("not in front: " + " ".join(sorted(missing)))


if __name__ == "__main__":
    main()
