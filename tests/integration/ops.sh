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
check_eq "it runs" "$(stock run --rm "$LAZY" c1)" "hello from tiny"
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
holder_logged() { grep -q 'was killed by signal 9' "$D/state/contentfs.log"; }
check "its holder has opened the log again, too" wait_for 5 holder_logged
worker_debug() { ctl info >/dev/null && tail -n 1 "$D/state/contentfs.log" | grep -q '"Status: OK'; }
check "and the new worker logs as the old one did" wait_for 5 worker_debug
printf 'roto = 1\n' >"$T/config.toml"
kill -HUP "$CONTENTD"
refused() { grep -q 'reload: .*config.toml:1: unknown key roto' "$T/service.log"; }
check "a reload of a mistake changes nothing" wait_for 10 refused
check "and everything goes on" ctl info
check "SIGTERM ends it in order" stop_contentd
finish
