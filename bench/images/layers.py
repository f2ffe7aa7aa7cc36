#!/usr/bin/env python3
"""Makes the layers of an image out of whole root file systems, and an OCI layout out of layers.

	layers.py whole FULL.tar OUT            everything, as the lowest layer
	layers.py delta BASE.tar FULL.tar OUT   what FULL adds, changes and removes (the latter as .wh. files)
	layers.py subtree FULL.tar DIR OUT      DIR and all below it (delta leaves out each --without DIR)
	layers.py layout DIR NAME CONFIG.json LAYER...

OUT is a gzip file; OUT.json beside it says its digest, size and diff ID. The same input gives the same bytes: entries
stand in the order of FULL, owners are numbers, gzip's header holds no name and no time.
"""

import argparse
import gzip
import hashlib
import json
import os
import posixpath
import sys
import tarfile

GZIP_LEVEL = 6


def clean(name):
    return posixpath.normpath(name).lstrip("/")


class Tree:
    """The entries of a tar by path, with what is needed to compare them."""

    def __init__(self, path):
        self.tar = tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape")
        self.entries = {}
        self.hashes = {}
        self.links = {}  # path of a file -> the hard links to it
        for entry in self.tar:
            name = clean(entry.name)
            if name == ".":
                continue
            entry.name = name
            if entry.islnk():
                entry.linkname = clean(entry.linkname)
                self.links.setdefault(entry.linkname, []).append(name)
            self.entries[name] = entry

    def content_hash(self, name):
        if name not in self.hashes:
            digest = hashlib.sha256()
            source = self.tar.extractfile(self.entries[name])
            while block := source.read(1 << 20):
                digest.update(block)
            self.hashes[name] = digest.digest()
        return self.hashes[name]

    def xattrs(self, name):
        headers = self.entries[name].pax_headers
        return {k: v for k, v in headers.items() if k.startswith("SCHILY.xattr.")}


def same(base, full, name):
    """Whether an entry means the same in both: times do not count, their clamping is the builder's."""
    a, b = base.entries.get(name), full.entries[name]
    if a is None or a.type != b.type or base.xattrs(name) != full.xattrs(name):
        return False
    if b.islnk():
        return a.linkname == b.linkname
    if (a.mode, a.uid, a.gid) != (b.mode, b.uid, b.gid):
        return False
    if b.issym():
        return a.linkname == b.linkname
    if b.ischr() or b.isblk():
        return (a.devmajor, a.devminor) == (b.devmajor, b.devminor)
    if b.isreg():
        return a.size == b.size and base.content_hash(name) == full.content_hash(name)
    return True


def parents(name):
    while name := posixpath.dirname(name):
        yield name


def below(name, directory):
    return name == directory or name.startswith(directory + "/")


def select_delta(base, full, without):
    """Paths of `full` that the delta holds, and paths that it removes."""
    def kept(name):
        return not any(below(name, directory) for directory in without)

    chosen = {name for name in full.entries if kept(name) and not same(base, full, name)}
    # A hard link needs its target in the same layer, and a changed file all its names.
    for target, names in full.links.items():
        group = [target, *names]
        if any(name in chosen for name in group):
            chosen.update(group)
    removed = {name for name in base.entries if name not in full.entries and kept(name)}
    # Only the top of a removed tree is named; nothing is, where a directory gave way to a file.
    removed = {
        name for name in removed
        if posixpath.dirname(name) == "" or (
            posixpath.dirname(name) in full.entries and full.entries[posixpath.dirname(name)].isdir())
    }
    for name in [*chosen, *removed]:
        chosen.update(p for p in parents(name) if p in full.entries)
    return chosen, removed


class Hashed:
    """A file that is written once, with the digest of what went through."""

    def __init__(self, out):
        self.out, self.digest, self.size = out, hashlib.sha256(), 0

    def write(self, data):
        self.digest.update(data)
        self.size += len(data)
        return self.out.write(data)

    def flush(self):
        self.out.flush()


def write_layer(full, chosen, removed, path):
    with open(path, "wb") as raw:
        packed = Hashed(raw)
        with gzip.GzipFile("", "wb", GZIP_LEVEL, packed, mtime=0) as zipped:
            plain = Hashed(zipped)
            with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8",
                              errors="surrogateescape") as tar:
                for name, entry in full.entries.items():
                    if name not in chosen:
                        continue
                    entry.uname = entry.gname = ""
                    entry.pax_headers = full.xattrs(name)
                    entry.mtime = int(entry.mtime)
                    tar.addfile(entry, full.tar.extractfile(entry) if entry.isreg() else None)
                for name in sorted(removed):
                    head, tail = posixpath.split(name)
                    tar.addfile(tarfile.TarInfo(posixpath.join(head, ".wh." + tail)))
    with open(path + ".json", "w", encoding="ascii") as note:
        json.dump({"digest": "sha256:" + packed.digest.hexdigest(), "size": packed.size,
                   "diff_id": "sha256:" + plain.digest.hexdigest(), "unpacked_size": plain.size}, note)


def put_blob(layout, data):
    digest = hashlib.sha256(data).hexdigest()
    with open(f"{layout}/blobs/sha256/{digest}", "wb") as out:
        out.write(data)
    return "sha256:" + digest, len(data)


def write_layout(directory, name, config_path, layers):
    os.makedirs(f"{directory}/blobs/sha256")
    with open(config_path, encoding="utf-8") as source:
        config = json.load(source)
    notes = []
    for layer in layers:
        with open(layer + ".json", encoding="ascii") as source:
            notes.append(json.load(source))
        # A link, so that images share the base on disk, too.
        os.link(layer, f"{directory}/blobs/sha256/" + notes[-1]["digest"].removeprefix("sha256:"))
    config["rootfs"] = {"type": "layers", "diff_ids": [note["diff_id"] for note in notes]}
    config_digest, config_size = put_blob(directory, json.dumps(config, sort_keys=True).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest,
                   "size": config_size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": note["digest"],
                    "size": note["size"]} for note in notes],
    }
    digest, size = put_blob(directory, json.dumps(manifest).encode())
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{"mediaType": manifest["mediaType"], "digest": digest, "size": size,
                       "platform": {"architecture": config["architecture"], "os": config["os"]},
                       "annotations": {"org.opencontainers.image.ref.name": "latest"}}],
    }
    for file, value in (("index.json", index), ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
        with open(f"{directory}/{file}", "w", encoding="ascii") as out:
            json.dump(value, out)
    print(f"{name}: {len(notes)} layers, {sum(n['size'] for n in notes) / 1e6:.1f} MB, "
          f"{sum(n['unpacked_size'] for n in notes) / 1e6:.1f} MB unpacked", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("whole")
    verb.add_argument("full")
    verb.add_argument("out")
    verb = verbs.add_parser("delta")
    verb.add_argument("base")
    verb.add_argument("full")
    verb.add_argument("out")
    verb.add_argument("--without", action="append", default=[])
    verb = verbs.add_parser("subtree")
    verb.add_argument("full")
    verb.add_argument("directory")
    verb.add_argument("out")
    verb = verbs.add_parser("layout")
    verb.add_argument("directory")
    verb.add_argument("name")
    verb.add_argument("config")
    verb.add_argument("layers", nargs="+")
    args = parser.parse_args()

    if args.verb == "layout":
        write_layout(args.directory, args.name, args.config, args.layers)
        return
    full = Tree(args.full)
    chosen, removed = set(full.entries), set()
    if args.verb == "delta":
        chosen, removed = select_delta(Tree(args.base), full, args.without)
    elif args.verb == "subtree":
        chosen = {name for name in full.entries if below(name, args.directory)}
    write_layer(full, chosen, removed, args.out)


if __name__ == "__main__":
    main()
