"""Asks for a remote snapshot as clients do that unpack by themselves: prepare.py SOCKET NAMESPACE KEY PARENT LABEL=VALUE...

Prints the status of the call: ALREADY_EXISTS when the snapshot was made from the labels, OK when the layer is to be
unpacked.
"""

import sys

import grpc

from grpc_client import code_of, dial, text

METHOD = "/containerd.services.snapshots.v1.Snapshots/Prepare"


def main():
    socket, namespace, key, parent, *labels = sys.argv[1:]
    request = text(1, "overlayfs") + text(2, key) + text(3, parent)
    for label in labels:
        name, value = label.split("=", 1)
        request += text(4, text(1, name) + text(2, value))
    with dial(socket) as channel:
        call = channel.unary_unary(METHOD)
        print(code_of(lambda: call(request, metadata=(("containerd-namespace", namespace),), timeout=60))[0])


main()
