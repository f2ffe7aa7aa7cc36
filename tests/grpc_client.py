"""A gRPC client of another family (grpc's C core, through Python) against contentd: grpc_client.py SOCKET

Messages are written and read by hand, so that no generated code is needed. Prints a line per check, as tests/lib.sh
does; the status is 1 when one has failed.
"""

import hashlib
import sys
import threading
import time

import grpc

failed = 0


def check(what, ok, got=None):
    global failed
    failed += not ok
    print(f"ok   {what}" if ok else f"FAIL {what}: {got!r}", flush=True)


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out) + bytes([n])


def text(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def number(field, value):
    return varint(field << 3) + varint(value)


def fields(message):
    """Yields (field, value) of a message: ints and bytes."""
    at = 0

    def read():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = read()
        if key & 7 == 0:
            yield key >> 3, read()
        else:
            n = read()
            yield key >> 3, message[at : at + n]
            at += n


NAMESPACE = (("containerd-namespace", "grpc"),)
CONTENT = "/containerd.services.content.v1.Content/"
IMAGES = "/containerd.services.images.v1.Images/"
VERSION = "/containerd.services.version.v1.Version/Version"


def dial(socket):
    return grpc.insecure_channel(f"unix:{socket}", options=[("grpc.max_receive_message_length", -1)])


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def write_request(action, ref, offset=0, data=b"", total=0):
    return number(1, action) + text(2, ref) + number(3, total) + number(5, offset) + text(6, data)


def write(channel, ref, blob, chunk):
    """Writes a blob in chunks without waiting for the answers; the digest of the last one."""

    def requests():
        for at in range(0, len(blob), chunk):
            yield write_request(1, ref, at, blob[at : at + chunk], len(blob))
        yield write_request(2, ref, len(blob), total=len(blob))

    answers = list(channel.stream_stream(CONTENT + "Write")(requests(), metadata=NAMESPACE))
    return dict(fields(answers[-1]))[6].decode(), len(answers)


def read(channel, digest):
    stream = channel.unary_stream(CONTENT + "Read")(text(1, digest), metadata=NAMESPACE)
    hasher = hashlib.sha256()
    for message in stream:
        hasher.update(dict(fields(message))[2])
    return "sha256:" + hasher.hexdigest()


def unary_and_errors(channel):
    version = channel.unary_unary(VERSION)
    check("a unary call", b"contentd" in version(b""), version(b""))
    get = channel.unary_unary(IMAGES + "Get")
    got = code_of(lambda: get(text(1, "näme %"), metadata=NAMESPACE))
    check("a status with its text", got[0] == "NOT_FOUND" and "näme %" in got[1], got)
    got = code_of(lambda: channel.unary_unary(IMAGES + "Nope")(b""))
    check("an unknown method", got[0] == "UNIMPLEMENTED", got)
    got = code_of(lambda: channel.unary_unary("/no.Service/Method")(b""))
    check("an unknown service", got[0] == "UNIMPLEMENTED", got)
    got = code_of(lambda: get(text(1, b"\xff\xfe"), metadata=NAMESPACE))
    check("text that is not UTF-8", got[0] == "INVALID_ARGUMENT", got)
    got = code_of(lambda: get(text(1, "x"), metadata=NAMESPACE + (("large", "x" * 20000),)))
    check("metadata of 20 kB", got[0] == "RESOURCE_EXHAUSTED", got)
    for kind in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        got = code_of(lambda k=kind: get(text(1, "x" * 500), metadata=NAMESPACE, compression=k))
        check(f"messages compressed by {kind.name} are refused, as containerd does", got[0] == "UNIMPLEMENTED", got)
    check("and the connection goes on", b"contentd" in version(b""))


def messages_of_all_sizes(channel):
    blob = bytes(range(256)) * (15 << 12)  # 15 MiB
    digest = "sha256:" + hashlib.sha256(blob).hexdigest()
    got = write(channel, "one message", blob, len(blob))
    check("a message of 15 MiB", got[0] == digest, got)
    check("is read again", read(channel, digest) == digest)
    large = blob * 3
    digest = "sha256:" + hashlib.sha256(large).hexdigest()
    got = write(channel, "many messages", large, 100_000)
    check("450 messages without waiting, each with its answer", got == (digest, 473), got)
    check("45 MiB are read", read(channel, digest) == digest)
    got = code_of(lambda: write(channel, "too large", b"x" * (17 << 20), 17 << 20))
    check("a message of 17 MiB is refused", got[0] == "RESOURCE_EXHAUSTED", got)
    return digest


def streams(channel, digest):
    slow = channel.unary_stream(CONTENT + "Read")(text(1, digest), metadata=NAMESPACE)
    first = next(slow)
    calls = [channel.unary_unary(VERSION).future(b"") for _ in range(300)]
    check("calls beside a stream that nobody reads", all(b"contentd" in c.result(30) for c in calls))
    rest = len(dict(fields(first))[2]) + sum(len(dict(fields(m))[2]) for m in slow)
    check("which is whole all the same", rest == 45 << 20, rest)
    results = []
    threads = [threading.Thread(target=lambda: results.append(read(channel, digest))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check("eight streams over one connection", results == [digest] * 8, results)


def ends(channel):
    subscribe = channel.unary_stream("/containerd.services.events.v1.Events/Subscribe")
    got = code_of(lambda: list(subscribe(b"", metadata=NAMESPACE, timeout=0.2)))
    check("a deadline", got[0] == "DEADLINE_EXCEEDED", got)
    stream = subscribe(b"", metadata=NAMESPACE)
    threading.Timer(0.2, stream.cancel).start()
    got = code_of(lambda: list(stream))
    check("a call that is cancelled", got[0] == "CANCELLED", got)

    def one_then_cancel():
        yield write_request(1, "left", 0, b"abc")
        threading.Timer(0.2, writing.cancel).start()
        threading.Event().wait(1)

    writing = channel.stream_stream(CONTENT + "Write")(one_then_cancel(), metadata=NAMESPACE)
    got = code_of(lambda: list(writing))
    check("a stream that is cancelled", got[0] == "CANCELLED", got)
    # Once the server has heard of it; until then the reference is locked, and clients try again.
    for _ in range(100):
        status = iter([write_request(0, "left")])
        got = code_of(lambda s=status: list(channel.stream_stream(CONTENT + "Write")(s, metadata=NAMESPACE)))
        if got[0] != "UNAVAILABLE":
            break
        time.sleep(0.1)
    check("leaves its ingest to the next writer", got[0] == "OK", got)


def main():
    with dial(sys.argv[1]) as channel:
        unary_and_errors(channel)
        streams(channel, messages_of_all_sizes(channel))
        ends(channel)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
