#!/bin/bash
# What collection costs those who call meanwhile: latencies of a mixed load on contentd, idle and while it collects a store
# of a million records, half of them garbage; then how long calls have waited for the collector.
#
#	sudo bench/gc.sh [--records N] [ARG...]     e.g. --clients 64 --op lease --json: see build/bin/api_bench --help
#
# Without --op all calls but those that move much data: writers of 64 MiB keep the disk so busy that the others' latencies
# are those of the writers, collection or not. In a folder below /var/tmp, which is removed at the end. BUILD=DIR uses
# another build.
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
# Only when asked: no collection at the start, nor within 50 seconds of it.
cat >"$T/d/config.toml" <<END
root = "$T/d/root"
state = "$T/d/state"
[grpc]
address = "$ADDRESS"
[metrics]
address = "$T/d/metrics.sock"
[gc]
startup_delay_ms = 86400000
pause_threshold = 0.0001
END
note "filling with $RECORDS records"
"$BIN/gc_fill" "$T/d/root" "$RECORDS" || exit 1
start contentd "$BIN/contentd" --config "$T/d/config.toml"
pid=$STARTED
wait_for 60 "$BIN/contentctl" --address "$ADDRESS" info || start_failed contentd
# Until the database has put in order what it was filled with.
written() { awk '/^write_bytes/ {print $2}' "/proc/$pid/io"; }
seen=-1
while [ "$seen" != "$(written)" ]; do
	seen=$(written)
	sleep 2
done
sync
printf 'load %s, %s CPUs, %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)" "$(nproc)" "$(findmnt -no FSTYPE --target "$T")" >&2
metrics="curl -sS --unix-socket '$T/d/metrics.sock' http://localhost/metrics"
collect="$metrics >'$T/before'
/usr/bin/time -f 'a collection: %e s' '$BIN/contentctl' --address '$ADDRESS' gc >&2
$metrics >'$T/after'"
case " $* " in
*" --op"*) ;;
*) set -- --op version --op images-get --op lease --op snapshot --op container --op write-1k --op publish "$@" ;;
esac
case " $* " in
*" --clients"*) ;;
*) set -- --clients 8 "$@" ;;
esac
"$BIN/api_bench" --seconds 5 --while "$collect" "$@" "contentd=$ADDRESS" || exit 1
awk '
	FNR == NR { if (/^contentd_api_calls_total/) before += $NF; next }
	/^contentd_api_calls_total/ { calls += $NF }
	/^contentd_gc_wait_seconds_count/ { waits = $NF }
	/^contentd_gc_wait_seconds_bucket/ && /le="0.001"/ { short = $NF }
	END { calls -= before; printf "of %d calls %d waited for the collector, %d of them (%.2f %% of all) for more than 1 ms\n",
		calls, waits, waits - short, calls ? 100 * (waits - short) / calls : 0 }' "$T/before" "$T/after" >&2
printf 'load %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)" >&2
