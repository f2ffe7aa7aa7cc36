#!/bin/bash
# What collection costs those who call meanwhile: latencies of a mixed load on contentd, idle and while it collects a store
# of a million records, half of them garbage; then how long its removals have excluded writers.
#
#	sudo bench/gc.sh [--records N] [ARG...]     e.g. --clients 8 --op lease --json: see build/bin/api_bench --help
#
# In a folder below /var/tmp, which is removed at the end. BUILD=DIR uses another build.
here=$(dirname "$(readlink -f "$0")")
export TMPDIR=/var/tmp
. "$here/../tests/lib.sh"
[ "$(id -u)" -eq 0 ] || bail "the daemon needs root"
RECORDS=1000000
[ "${1:-}" != --records ] || { RECORDS=$2 && shift 2; }
T_FINISHED=1 # counts no assertions

mkdir "$T/d" "$T/d/root"
defer sweep "$T/d"
ADDRESS=$T/d/contentd.sock
# Only when asked: what is measured should not have happened before.
cat >"$T/d/config.toml" <<END
root = "$T/d/root"
state = "$T/d/state"
[grpc]
address = "$ADDRESS"
[metrics]
address = "$T/d/metrics.sock"
[gc]
startup_delay_ms = 86400000
END
note "filling with $RECORDS records"
"$BIN/gc_fill" "$T/d/root" "$RECORDS" || exit 1
start contentd "$BIN/contentd" --config "$T/d/config.toml"
wait_for 60 "$BIN/contentctl" --address "$ADDRESS" info || start_failed contentd
sleep 1
printf 'load %s, %s CPUs, %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)" "$(nproc)" "$(findmnt -no FSTYPE --target "$T")" >&2
collect="/usr/bin/time -f 'a collection: %e s' '$BIN/contentctl' --address '$ADDRESS' gc >&2"
"$BIN/api_bench" --seconds 5 --while "$collect" "$@" "contentd=$ADDRESS" || exit 1
curl -sS --unix-socket "$T/d/metrics.sock" http://localhost/metrics | grep -E '^contentd_gc' >&2
printf 'load %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)" >&2
