#!/bin/bash
# contentd as a service: configuration, logs, metrics, what a service manager hears and asks, who may connect, and starts
# that cannot succeed.
. "$(dirname "$0")/../lib.sh"
require ctr docker-registry jq umoci python3 curl

D=$T/d
ADDRESS=$D/state/contentd.sock
METRICS=$T/metrics.sock
ctl() { "$BIN/contentctl" --address "$ADDRESS" "$@"; }
stock() { ctr --address "$ADDRESS" "$@"; }
defer sweep "$D"

# write_config LINE...: of a file with root, state and metrics; LINE... come behind.
write_config() {
	{
		printf 'root = "%s"\nstate = "%s"\n[metrics]\naddress = "%s"\n' "$D/root" "$D/state" "$METRICS"
		printf '%s\n' "$@"
	} >"$T/config.toml"
}
contentd() {
	mkdir -p "$D"
	start contentd "$BIN/contentd" --config "$T/config.toml"
	CONTENTD=$STARTED
	wait_for 20 ctl info || bail "contentd does not serve: $(cat "$T/contentd.log")"
}
stop_contentd() {
	kill -TERM "$CONTENTD"
	wait "$CONTENTD"
}
scrape() { curl -s --max-time 20 --unix-socket "$METRICS" http://contentd/metrics >"$T/page"; }
metric() { python3 "$SOURCE_DIR/tests/prometheus.py" value "$T/page" "$1"; }
above() { [ "$(metric "$1" | cut -d. -f1)" -gt "$2" ]; }

start_registry
start_netproxy "$REGISTRY"
make_tiny_image "$T/tiny" || bail "no tiny image"
"$BIN/contentctl" convert "oci:$T/tiny:latest" "oci:$T/lazy:latest" >"$T/convert.log" 2>&1 || bail "$(cat "$T/convert.log")"
push_layout "$T/lazy" lazy || bail "push failed"
LAZY=$NETPROXY/lazy:latest

# ---- configuration ----
"$BIN/contentd" config default >"$T/default.toml"
check "the defaults are a configuration" "$BIN/contentd" config check "$T/default.toml"
printf '[log]\nlevel = "debug"\n' >"$T/one.toml"
check_match "dump shows what a file sets" "$("$BIN/contentd" --config "$T/one.toml" config dump)" '^level = "debug"'
check_match "and what an option sets" "$("$BIN/contentd" --root /elsewhere config dump)" '^root = "/elsewhere"'
"$BIN/contentd" --config "$T/one.toml" config dump >"$T/dump.toml"
check_eq "what dump prints is the same configuration" "$("$BIN/contentd" --config "$T/dump.toml" config dump)" "$(cat "$T/dump.toml")"
printf 'roto = 1\n[fetch]\nbackground = 7\n[gcc]\n' >"$T/bad.toml"
check_eq "check tells every mistake" "$("$BIN/contentd" config check "$T/bad.toml" 2>&1 | cut -d: -f2- | cut -d' ' -f2-)" \
	"$(printf 'unknown key roto\nfetch.background must be a string\nunknown table [gcc]')"
check_eq "with status 2" "$("$BIN/contentd" config check "$T/bad.toml" >/dev/null 2>&1; echo $?)" 2
check_match "a metrics address that is none" "$("$BIN/contentd" --config <(printf '[metrics]\naddress = "here"') config check 2>&1)" \
	'metrics.address: "here" is neither a path nor IP:PORT'

# ---- metrics ----
write_config '[log]' 'level = "info"'
contentd
check "a scrape" scrape
check "is well-formed" python3 "$SOURCE_DIR/tests/prometheus.py" check "$T/page"
check "the documentation names the same metrics" python3 "$SOURCE_DIR/tests/prometheus.py" documented "$T/page" "$SOURCE_DIR/docs/metrics.md"
check_eq "contentfs is up" "$(metric contentd_contentfs_up)" 1
check_eq "nothing was pulled" "$(metric contentd_store_blobs)" 0
check "a lazy pull" ctl pull "$LAZY"
check_eq "it runs" "$(said stock run --rm @LOG@ "$LAZY" c1)" "hello from tiny"
check_fails "an image that is not there" ctl pull "$NETPROXY/none:latest"
stock images ls -q >"$T/images"
scrape
check "still well-formed" python3 "$SOURCE_DIR/tests/prometheus.py" check "$T/page"
check_eq "a pull" "$(metric 'contentd_pulls_total{code="OK"}')" 1
check_eq "one that failed" "$(metric 'contentd_pulls_total{code="NotFound"}')" 1
check "calls by method and code" above 'contentd_api_calls_total{service="containerd.services.images.v1.Images",method="List",code="OK"}' 0
check "and how long they took" above 'contentd_api_call_seconds_count{service="containerd.services.images.v1.Images",method="List"}' 0
check_eq "none is in flight" "$(metric contentd_api_in_flight)" 0
check "blobs" above contentd_store_blobs 0
check "their bytes" above contentd_store_blob_bytes 100
check "bytes from the registry" above contentfs_fetched_bytes_total 100
check "fetches for readers" above 'contentfs_fetches_total{lane="demand",result="ok"}' 0
check "reads that missed" above 'contentfs_reads_total{result="miss"}' 0
check "were counted with their time" above contentfs_miss_seconds_count 0
check "layers" above contentfs_layers 0
collected() { scrape && above 'contentd_gc_runs_total{result="ok"}' 0; }
check "collections of garbage" wait_for 20 collected
stock events >"$T/events" 2>&1 &
subscriber=$!
in_flight() { scrape && [ "$(metric contentd_api_in_flight)" = 1 ]; }
check "a call that lasts is in flight" wait_for 10 in_flight
kill "$subscriber"
wait "$subscriber" 2>/dev/null
check_eq "another page is not there" "$(curl -s -o "$T/none" -w '%{http_code}' --unix-socket "$METRICS" http://contentd/)" 404
check_eq "the socket is not for everybody" "$(stat -c %a "$METRICS")" 660

# ---- logs, and a reload ----
mv "$T/contentd.log" "$T/contentd.stderr"
write_config '[log]' 'level = "debug"' 'format = "json"' "file = \"$T/service.log\"" '[fetch]' 'background = "off"'
kill -HUP "$CONTENTD"
reloaded() { grep -q '"msg":"reloaded ' "$T/service.log"; }
check "SIGHUP reads the configuration again" wait_for 10 reloaded
check_match "what needs a restart is told" "$(cat "$T/contentd.stderr" "$T/service.log")" "a restart is needed for what has changed of fetch.background"
stock version >"$T/version"
stock content get sha256:0000000000000000000000000000000000000000000000000000000000000000 >"$T/none" 2>&1
check "every line is JSON" jq -e . "$T/service.log"
check "a call is logged with method, code and time" jq -se 'any(.level == "debug" and (.msg | test("services.version.v1.Version/Version of pid [0-9]+ in default: OK, [0-9.]+ ms")))' "$T/service.log"
check "and why it failed" jq -se 'any(.msg | test("Content/Info .*: NotFound: .*not found"))' "$T/service.log"
ctl info >/dev/null
check_match "contentfs follows" "$(tail -n 1 "$D/state/contentfs.log")" '^\{"time":.*"program":"contentfs","msg":"Status: OK'
mv "$T/service.log" "$T/service.log.1"
mv "$D/state/contentfs.log" "$T/contentfs.log.1"
kill -HUP "$CONTENTD"
check "logs that were moved away begin anew" wait_for 10 reloaded
ctl info >/dev/null
check "also that of contentfs" jq -se 'any(.msg | test("Status: OK"))' "$D/state/contentfs.log"
kill -KILL "$(sed -n 's/^contentfs *holder [0-9]*, worker \([0-9]*\).*/\1/p' <(ctl info))"
back() { grep -q 'contentfs is back' "$T/service.log"; }
check "contentfs comes back" wait_for 20 back
holder_logged() { jq -se 'any(.level == "warn" and (.msg | test("was killed by signal 9")))' "$D/state/contentfs.log"; }
check "its holder has opened the log again, too" wait_for 5 holder_logged
worker_debug() { ctl info >/dev/null && tail -n 1 "$D/state/contentfs.log" | grep -q '"Status: OK'; }
check "and the new worker logs as the old one did" wait_for 5 worker_debug
check_eq "the level can be asked for" "$(ctl log-level)" "debug (json)"
check_eq "and changed, for this run" "$(ctl log-level --format text warn)" "warn (text)"
lines=$(cat "$T/service.log" "$D/state/contentfs.log" | wc -l)
ctl info >/dev/null
check_eq "then less is logged, by contentfs too" "$(cat "$T/service.log" "$D/state/contentfs.log" | wc -l)" "$lines"
check_fails "a level that there is not" ctl log-level loud
check_eq "back again" "$(ctl --json log-level --format json debug)" '{"level":"debug","format":"json"}'
printf 'roto = 1\n' >"$T/config.toml"
kill -HUP "$CONTENTD"
refused() { grep -q 'reload: .*config.toml:1: unknown key roto' "$T/service.log"; }
check "a reload of a mistake changes nothing" wait_for 10 refused
check "and everything goes on" ctl info
check "SIGTERM ends it in order" stop_contentd
check_fails "and takes the socket away" test -e "$ADDRESS"

# ---- what a service manager hears ----
cat >"$T/notify.py" <<'END'
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True:
    with open(sys.argv[2], "a") as f:
        f.write(s.recv(4096).decode().replace("\n", " ") + "\n")
END
start notify python3 "$T/notify.py" "$T/notify.sock" "$T/notified"
wait_for 10 test -S "$T/notify.sock" || bail "no socket for notifications"
kill "$(cat "$D/state/contentfs.pid")"
wait_for 10 test ! -e "$D/state/contentfs.pid" || bail "contentfs does not end"
write_config
mkdir -p "$D"
NOTIFY_SOCKET=$T/notify.sock WATCHDOG_USEC=400000 start contentd "$BIN/contentd" --config "$T/config.toml"
CONTENTD=$STARTED
heard() { grep -qE "$1" "$T/notified"; }
check "READY when calls are answered" wait_for 20 heard "^READY=1 STATUS=serves $ADDRESS"
check "WATCHDOG" wait_for 10 heard '^WATCHDOG=1'
wait_for 20 ctl info
check_fails "contentfs cannot speak for it" grep -qz NOTIFY_SOCKET "/proc/$(cat "$D/state/contentfs.pid")/environ"
kill -HUP "$CONTENTD"
check "RELOADING" wait_for 10 heard '^RELOADING=1 MONOTONIC_USEC=[0-9]+'
check "and READY again" wait_for 10 sh -c "[ \$(grep -c ^READY=1 '$T/notified') = 2 ]"
holder=$(cat "$D/state/contentfs.pid")
check "the end" stop_contentd
check "STOPPING" heard '^STOPPING=1'
check_eq "contentfs goes on" "$(cat "$D/state/contentfs.pid")" "$holder"
contentd
check_match "and serves the next daemon" "$(ctl info)" "holder $holder,"

# ---- who may connect ----
chmod 711 "$T" "$D" # an unprivileged user reaches the sockets, and their modes decide
as() { setpriv --reuid "$1" --regid "$2" --groups "$3" "$BIN/contentctl" --address "$ADDRESS" version; }
check_match "another user is refused" "$(as 4711 4711 4711 2>&1)" "Permission denied"
chmod 666 "$ADDRESS" "$D/state/contentfs.sock"
check_fails "also when the mode lets him in" as 4711 4711 4711
check_match "and is told why" "$(as 4711 4711 4711 2>&1)" \
	'^contentd +uid 4711 may not use contentd: call it as root, or have grpc.allowed_uids of its configuration name this uid$'
check_match "so is ctr" "$(setpriv --reuid 4711 --regid 4711 --clear-groups ctr -a "$ADDRESS" images ls 2>&1)" \
	'^ctr: failed to list images: uid 4711 may not use contentd: call it as root'
check_match "for his credentials" "$(cat "$T/contentd.log")" 'connection refused: pid [0-9]+: uid 4711 may not use contentd'
cat >"$T/knock.py" <<'END'
import os, socket, sys
os.setgroups([])
os.setresgid(4711, 4711, 4711)
os.setresuid(4711, 4711, 4711)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(10)
s.connect(sys.argv[1])
sys.exit(0 if s.recv(1) == b"" else 1)
END
check "contentfs refuses him, too" python3 "$T/knock.py" "$D/state/contentfs.sock"
check_match "and says so" "$(cat "$D/state/contentfs.log")" 'uid 4711 \(pid [0-9]+\) may not command contentfs'
stop_contentd
write_config '[grpc]' 'gid = 4800' 'allowed_uids = [4712]'
contentd
chmod 711 "$D"
check_eq "the socket belongs to the group" "$(stat -c %g "$ADDRESS")" 4800
check_eq "and so does that of the metrics" "$(stat -c %g "$METRICS")" 4800
check "its group may" as 4711 4800 4800
check "also as a supplementary one" as 4711 4711 4800
check "a user of the list may" as 4712 4712 4712
check_match "others may not" "$(as 4711 4711 4711 2>&1)" 'uid 4711 may not use contentd: call it as root, as a member of group 4800'
stop_contentd

# ---- starts ----
run_briefly() { timeout 30 "$BIN/contentd" "$@" 2>&1 </dev/null; }
write_config
contentd
kill -KILL "$CONTENTD"
wait "$CONTENTD" 2>/dev/null
check "sockets are left by kill -9" test -S "$ADDRESS"
contentd
check "and are no obstacle" ctl version
check_match "a second daemon on the same root" "$(run_briefly --root "$D/root" --state "$T/other")" \
	"contentd.lock: another contentd, pid $CONTENTD, uses this directory"
check_match "a second daemon on the same state" "$(run_briefly --root "$T/otherroot" --state "$D/state")" \
	"contentd.lock: another contentd, pid $CONTENTD, uses this directory"
mkdir "$T/open"
chmod 777 "$T/open"
check_match "a root that others can write" "$(run_briefly --root "$T/open" --state "$T/s1")" "$T/open can be written by others \(mode 0777\)"
mkdir "$T/theirs"
chown 4711 "$T/theirs"
check_match "a root of another user" "$(run_briefly --root "$T/theirs" --state "$T/s1")" "$T/theirs belongs to uid 4711"
printf x >"$T/file"
check_match "a root that is a file" "$(run_briefly --root "$T/file" --state "$T/s1")" "error contentd: .*$T/file"
mkdir "$T/s2"
printf x >"$T/s2/contentd.sock"
check_match "a file where the socket should be" "$(run_briefly --root "$T/r2" --state "$T/s2")" "$T/s2/contentd.sock exists and is not a socket"
mkdir "$T/ro"
mount -t tmpfs -o size=1m,mode=755 none "$T/ro" || bail "no tmpfs"
defer umount -l "$T/ro"
mkdir "$T/ro/root"
head -c 2m /dev/zero >"$T/ro/filler" 2>/dev/null
output=$(run_briefly --root "$T/ro/root" --state "$T/s3")
check_eq "a full disk ends the start" "$?" 1
check_match "and says so" "$output" "error contentd: .*[Nn]o space left"
rm "$T/ro/filler"
mount -o remount,ro "$T/ro"
output=$(run_briefly --root "$T/ro/root" --state "$T/s3")
check_eq "a read-only file system ends the start" "$?" 1
check_match "and says so" "$output" "error contentd: .*$T/ro/root.*Read-only file system"
check_eq "none of them has left a process" "$(pids_of "$T/s3"; pids_of "$T/s2"; pids_of "$T/s1")" ""
stop_contentd

# ---- a data plane that cannot be opened at first ----
kill "$(cat "$D/state/contentfs.pid")"
wait_for 10 eval '[ ! -e "$D/state/contentfs.pid" ] && [ ! -e "$D/state/contentfs.sock" ]' || bail "contentfs does not end"
mkdir "$D/state/contentfs.sock" # in its way
start contentd "$BIN/contentd" --config "$T/config.toml"
CONTENTD=$STARTED
check "what needs no contentfs is served" wait_for 20 stock images ls
failed() { grep -q 'images cannot be pulled or mounted until another try succeeds' "$T/contentd.log"; }
check "the log says that there is none" wait_for 40 failed
check_match "and so do calls" "$(ctl info 2>&1)" "contentfs"
scrape
check_eq "and the metrics" "$(metric contentd_contentfs_up)" 0
rmdir "$D/state/contentfs.sock"
check "it is tried again until it is there" wait_for 60 ctl info
check_eq "an image runs" "$(said stock run --rm @LOG@ "$LAZY" c2)" "hello from tiny"
stop_contentd

# ---- settings of registry hosts ----
start_tls_front "$REGISTRY"
kill "$(cat "$D/state/contentfs.pid")"
wait_for 10 test ! -e "$D/state/contentfs.pid" || bail "contentfs does not end"
write_config '[fetch]' "certs_dir = \"$T/certs.d\""
contentd
check_fails "a registry of an unknown authority" ctl pull "$TLS_REGISTRY/lazy:latest"
mkdir -p "$T/certs.d/$TLS_REGISTRY"
cp "$TLS_CA" "$T/certs.d/$TLS_REGISTRY/ca.crt"
check_fails "is not trusted because a file has come" ctl pull "$TLS_REGISTRY/lazy:latest"
kill -HUP "$CONTENTD"
again() { [ "$(grep -c 'info contentd: reloaded ' "$T/contentd.log")" -gt 0 ]; }
check "but by a reload" wait_for 10 again
check "so that it can be pulled from" ctl pull "$TLS_REGISTRY/lazy:latest"
stop_contentd

# ---- the unit, and completion ----
if command -v systemd-analyze >/dev/null; then
	cmake --install "$BUILD" --prefix "$T/inst" >"$T/install.log" 2>&1 || bail "$(cat "$T/install.log")"
	sed "s,^ExecStart=.*/contentd,ExecStart=$T/inst/bin/contentd," "$T/inst/lib/systemd/system/contentd.service" >"$T/contentd.service"
	check_eq "systemd finds nothing wrong with the unit" "$(systemd-analyze verify "$T/contentd.service" 2>&1 | grep -F contentd.service)" ""
	sed 's/^Type=notify/Type=nonsense/' "$T/contentd.service" >"$T/wrong-contentd.service"
	check_match "it would have told" "$(systemd-analyze verify "$T/wrong-contentd.service" 2>&1)" "wrong-contentd.service"
fi
complete_words() { # WORD...: what TAB offers for the last one
	PATH=$BIN:$PATH bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _contentctl; printf "%s\n" "${COMPREPLY[@]}"' _ \
		"$SOURCE_DIR/dist/contentctl.bash" contentctl "$@"
}
check_eq "completion of a verb" "$(complete_words imag)" images
check_eq "of an option of a verb" "$(complete_words run --entry)" "--entrypoint="
contentd
check_eq "of an image" "$(complete_words --address "$ADDRESS" run "$NETPROXY")" "$LAZY"
check "the end of all" stop_contentd
finish
