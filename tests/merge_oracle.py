#!/usr/bin/env python3
"""What GNU tar and overlayfs make of a stack of layers, beside our merged tree of it.

    merge_oracle.py DIR SEED...      with what merge_stacks has written to DIR/SEED

Each layer is extracted by GNU tar into a directory of its own, its whiteouts become those of overlayfs, and all are
mounted as overlay; our image is mounted over its objects. Prints the lines that differ (tree.py), as a diff, after the
number of the stack, and what fsck.erofs finds; the status says whether there was anything. Mounts are made in the mount namespace of the caller.

What this side changes after extraction, because tar alone does not know of layers, or as we say that we differ
(estargz/README.md): the files that mark lazy layers, bookkeeping of aufs, character devices 0:0 and overlayfs's xattrs
are removed; directories that a layer only implies get the attributes of the same directory below, else 0755 root:root
and the time 0.
"""

import ctypes
import difflib
import itertools
import os
import shutil
import stat
import subprocess
import sys

import tree

MARKERS = (".prefetch.landmark", ".no.prefetch.landmark", "stargz.index.json")
LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY = 1


def mount(source, target, kind, options=""):
    os.makedirs(target, exist_ok=True)
    if LIBC.mount(*(os.fsencode(s) for s in (source, target, kind)), MS_RDONLY, os.fsencode(options)):
        raise OSError(ctypes.get_errno(), f"mount -t {kind} -o {options} {source} {target}")


def mount_layers(dirs, target):
    """dirs: topmost first. Overlayfs wants two at least."""
    empty = [os.path.join(os.path.dirname(target), name) for name in ("empty", "nothing")]
    for directory in empty:
        os.makedirs(directory, exist_ok=True)
    mount("overlay", target, "overlay", "lowerdir=" + ":".join([*dirs, *empty]))


def umount(target):
    if LIBC.umount2(os.fsencode(target), 0):
        raise OSError(ctypes.get_errno(), f"umount {target}")


def extract(archive, target):
    """Gives the cleaned names of its entries."""
    os.makedirs(target)
    tar = ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--delay-directory-restore", "-C", target]
    names = subprocess.run([*tar, "--quoting-style=literal", "-xpvf", archive], check=True, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE).stdout
    return {os.path.normpath(b"./" + name.lstrip(b"/")) for name in names.split(b"\n")[:-1]}


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def drop_what_is_not_shown(layer):
    for name in MARKERS:
        remove(os.path.join(layer, name.encode()))
    for where, dirs, files in os.walk(layer):
        for name in dirs + files:
            path = os.path.join(where, name)
            st = os.lstat(path)
            if name.startswith(b".wh..wh.") and name != b".wh..wh..opq":
                remove(path)
            elif stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
                remove(path)
        dirs[:] = [name for name in dirs if os.path.isdir(os.path.join(where, name))]
    for path in tree.walk(layer):
        path = os.path.join(layer, path)
        for name in os.listxattr(path, follow_symlinks=False):
            if ".overlay." in name:
                os.removexattr(path, name, follow_symlinks=False)


def overlay_whiteouts(layer, below):
    """Turns .wh. files into what overlayfs has. Gives two sets of directories, relative to the layer: what hides all that
    lies below it in lower layers; those of them that are new themselves."""
    opaque, new, gone = set(), set(), []
    for where, _, files in os.walk(layer):
        for name in files:
            if not name.startswith(b".wh."):
                continue
            os.unlink(os.path.join(where, name))
            path = os.path.join(where, name[4:])
            if name == b".wh..wh..opq":
                opaque.add(os.path.relpath(where, layer))
            elif os.path.isdir(path) and not os.path.islink(path):
                new.add(os.path.relpath(path, layer))
            else:
                gone.append(os.path.relpath(path, layer))
    for path in opaque | new:
        os.setxattr(os.path.join(layer, path), "trusted.overlay.opaque", b"y")
    for path in gone:
        # One that hides nothing would be seen in a directory of one layer.
        if not under(path, opaque | new) and os.path.lexists(os.path.join(below, path)):
            if not os.path.lexists(os.path.join(layer, path)):
                os.mknod(os.path.join(layer, path), stat.S_IFCHR)
    return opaque | new, new


def under(path, directories):
    """True if a path lies in one of the directories, not if it is one."""
    while path != b".":
        path = os.path.dirname(path) or b"."
        if path in directories:
            return True
    return False


def copy_attributes(source, target):
    st = os.lstat(source)
    os.chown(target, st.st_uid, st.st_gid)
    os.chmod(target, stat.S_IMODE(st.st_mode))
    for name in os.listxattr(source):
        if ".overlay." not in name:
            os.setxattr(target, name, os.getxattr(source, name))
    os.chmod(target, stat.S_IMODE(st.st_mode))


def imply(layer, below, named, opaque, new):
    """Attributes of the directories that only the paths of others imply. Gives their times."""
    for where, _, _ in os.walk(layer):
        path = os.path.relpath(where, layer)
        if path in named:
            continue
        lower = os.path.join(below, path)
        for name in os.listxattr(where):
            if ".overlay." not in name:
                os.removexattr(where, name)
        if path not in new and not under(path, opaque) and os.path.isdir(lower) and not os.path.islink(lower):
            copy_attributes(lower, where)
            yield where, os.lstat(lower).st_mtime_ns
        else:
            os.chown(where, 0, 0)
            os.chmod(where, 0o755)
            yield where, 0


def extract_stack(directory):
    """Gives the layers' directories, topmost first."""
    dirs = []
    below = os.path.join(directory, "below")
    for number in itertools.count():
        archive, layer = (os.path.join(directory, f"{number}{suffix}") for suffix in (".tar", ""))
        if not os.path.exists(archive):
            return dirs
        mount_layers(dirs, below)
        hides_all = make_layer(archive, os.fsencode(layer), os.fsencode(below))
        umount(below)
        # Overlayfs does not ask the root of a layer whether it is opaque.
        dirs = [layer] if hides_all else [layer, *dirs]


def make_layer(archive, layer, below):
    """True when it hides all layers below it."""
    named = extract(archive, layer)
    times = {where: os.lstat(where).st_mtime_ns for where, _, _ in os.walk(layer)}
    drop_what_is_not_shown(layer)
    opaque, new = overlay_whiteouts(layer, below)
    times.update(imply(layer, below, named, opaque, new))
    for where, time in times.items():
        if os.path.isdir(where):
            os.utime(where, ns=(time, time))
    return b"." in opaque


def differences(directory):
    want, got, bare = (os.path.join(directory, name) for name in ("want", "got", "bare"))
    mount_layers(extract_stack(directory), want)
    mount(directory + "/image", bare, "erofs")
    mount("overlay", got, "overlay", f"lowerdir={bare}::{directory}/objects")
    diff = list(difflib.unified_diff(list(tree.lines(want, nanoseconds=True)), list(tree.lines(got, nanoseconds=True)),
                                     "GNU tar and overlayfs", "ours", lineterm="", n=0))
    for target in (got, bare, want):
        umount(target)
    fsck = subprocess.run(["fsck.erofs", directory + "/image"], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return diff + fsck.stdout.splitlines() if fsck.returncode else diff


def main():
    bad = 0
    for seed in sys.argv[2:]:
        directory = os.path.join(sys.argv[1], seed)
        diff = differences(directory)
        if not diff:
            shutil.rmtree(directory)
            continue
        bad += 1
        print(f"stack {seed}:", *diff[:20], sep="\n", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
