#!/usr/bin/env python3
"""Writes 1 GB of records, always the same, that gzip makes about half as large.

	records.py FILE

A record of 64 bytes is a number that counts, a text of 32 bytes out of 256, and 24 bytes of a cipher's key stream: so
compressible and incompressible bytes alternate in each block of the file, however small the blocks of its reader are.
"""

import struct
import subprocess
import sys

RECORDS = 10**9 // 64
BATCH = 1 << 16
NOISE = 24


def main():
    texts = [b"state=%-9sregion=eu-west-%02d;" % (state, region) for region in range(32)
             for state in (b"new", b"paid", b"packed", b"sent", b"received", b"returned", b"refunded", b"closed")]
    heads = struct.Struct(">Q32s24s")
    # AES in counter mode over zeros: a seeded generator at the speed of the machine.
    cipher = subprocess.Popen(["openssl", "enc", "-aes-128-ctr", "-nosalt", "-K", "00" * 16, "-iv", "00" * 16,
                               "-in", "/dev/zero"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with open(sys.argv[1], "wb") as out:
        for first in range(0, RECORDS, BATCH):
            count = min(BATCH, RECORDS - first)
            noise = cipher.stdout.read(count * NOISE)
            out.write(b"".join(
                heads.pack(first + i, texts[noise[i * NOISE]], noise[i * NOISE:(i + 1) * NOISE]) for i in range(count)))
    cipher.kill()
    cipher.wait()


if __name__ == "__main__":
    main()
