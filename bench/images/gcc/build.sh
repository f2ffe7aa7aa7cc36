#!/bin/sh
set -e
gcc -O2 -Wall -o /tmp/hello /app/hello.c
exec /tmp/hello
