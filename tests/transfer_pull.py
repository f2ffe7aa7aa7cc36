"""Pulls by Transfer, with what a resolver may say: transfer_pull.py SOCKET NAMESPACE REFERENCE HOST_DIR SCHEME [NAME=VALUE]...

Prints the status of the call and its message. HOST_DIR and SCHEME may be empty; NAME=VALUE are headers.
"""

import sys

import grpc  # noqa: F401: what is missing shows here

from grpc_client import code_of, dial, text

METHOD = "/containerd.services.transfer.v1.Transfer/Transfer"


def any_of(kind, value):
    return text(1, "containerd.types.transfer." + kind) + text(2, value)


def main():
    socket, namespace, reference, host_dir, scheme, *headers = sys.argv[1:]
    resolver = text(3, host_dir) + text(4, scheme)
    for header in headers:
        name, value = header.split("=", 1)
        resolver += text(2, text(1, name) + text(2, value))
    source = any_of("OCIRegistry", text(1, reference) + text(2, resolver))
    destination = any_of("ImageStore", text(1, reference))
    with dial(socket) as channel:
        call = channel.unary_unary(METHOD)
        request = text(1, source) + text(2, destination)
        print(*code_of(lambda: call(request, metadata=(("containerd-namespace", namespace),), timeout=60)))


main()
