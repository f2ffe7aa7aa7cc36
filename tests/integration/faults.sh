#!/bin/bash
# A registry that lies, breaks off, fails or falls silent: a clear error that names image, layer and reason, never wrong
# bytes, never a hang; and when the source is back, everything works again. Nothing here waits for the client's patience
# as users have it: timeouts come from the configuration where they are long.
. "$(dirname "$0")/../node.sh"
PATIENCE=100 # seconds, more than any deadline of ours: what takes longer hangs

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
start_registry
publish "$T/tiny" test/tiny
start_netproxy "$REGISTRY"
reference_tree "$T/tiny" "$T/ref"

# document TAG JQ: something of the manifest of a tag
document() { curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$REGISTRY/v2/test/tiny/manifests/$1" | jq -r "$2"; }
break_it() { netproxy_ask fault "$@" >"$T/ask" || bail "netproxy refuses: $*"; }
mend() { netproxy_ask clear >"$T/ask"; }
fresh() { start_contentd "$1" 'background = "off"' 'read_timeout_ms = 3000'; }

# The pull

lazy_layer=$(document lazy '.layers[0].digest') lazy_config=$(document lazy .config.digest)
plain_layer=$(document plain '.layers[0].digest')

# Silence takes as long as patience does, twice: it waits beside the rest, with a network and a daemon of its own.
pulls_proxy=$NETPROXY pulls_control=$NETPROXY_CONTROL
start_netproxy "$REGISTRY"
SILENT=$NETPROXY
break_it stall all "GET /v2/test/tiny/manifests/lazy"
break_it stall all "GET /v2/test/tiny/blobs/$plain_layer"
NETPROXY=$pulls_proxy NETPROXY_CONTROL=$pulls_control
start_contentd silent 'background = "off"' 'answer_timeout_ms = 3000'
for tag in lazy plain; do
	timeout 200 "$BIN/contentctl" --address "$CONTENTD/contentd.sock" pull "$SILENT/test/tiny:$tag" \
		>"$T/silent.$tag.out" 2>"$T/silent.$tag" &
	declare "silent_$tag=$!"
done
fresh pull

# failing WHAT TAG REQUEST RULE REGEX...: a pull with that fault in force must fail and say all that
failing() {
	local what=$1 tag=$2 request=$3 rule=$4 regex status
	shift 4
	break_it "$rule" all "GET /v2/test/tiny/$request"
	timeout "$PATIENCE" "$BIN/contentctl" --address "$CONTENTD/contentd.sock" pull "$NETPROXY/test/tiny:$tag" \
		>"$T/pull.out" 2>"$T/pull.err"
	status=$?
	mend
	check_eq "$what: the pull fails, in time" "$status" 125
	for regex; do
		check_match "$what: the error says $regex" "$(cat "$T/pull.err")" "$regex"
	done
	check_eq "$what: no image appears" "$(ctl images -q)" ""
}
image="$NETPROXY/test/tiny"
# What has been opened once is known: so the contents tables come first.
for fault in "status=500|HTTP 500" "status=404|404|not found" "truncate=0|broke|truncated|end|short|closed|transfer" \
	"flip=50%|digest|gzip|footer|inflate|TOC"; do
	failing "contents table, ${fault%%|*}" lazy "blobs/$lazy_layer" "${fault%%|*}" "$image" "$lazy_layer" "${fault#*|}"
	failing "layer, ${fault%%|*}" plain "blobs/$plain_layer" "${fault%%|*}" "$image" "$plain_layer" "${fault#*|}"
done
for fault in "status=500|HTTP 500" "status=404|404|not found" "truncate=50%|broke|truncated|end|short|closed|transfer" \
	"flip=50%|digest"; do
	failing "config, ${fault%%|*}" lazy "blobs/$lazy_config" "${fault%%|*}" "$image" "${fault#*|}"
done
for fault in "status=500|HTTP 500" "status=404|404|not found" "truncate=50%|broke|truncated|end|short|closed|transfer" \
	"flip=3|malformed|JSON|digest|parse|invalid|character" "reset|reset|connection|recv|closed|unavailable"; do
	failing "manifest, ${fault%%|*}" lazy manifests/ "${fault%%|*}" "$image" "${fault#*|}"
done

for tag in lazy plain; do
	pid=silent_$tag
	wait "${!pid}"
	check_eq "silence, $tag: the pull fails, in time" $? 125
	check_match "silence, $tag: the error names the image" "$(cat "$T/silent.$tag")" "$SILENT/test/tiny:$tag"
	check_match "silence, $tag: and the reason" "$(cat "$T/silent.$tag")" "after 2 attempts in [0-9.]+ s: no answer for 3 s"
done
check_match "silence, plain: and the layer" "$(cat "$T/silent.plain")" "$plain_layer"
for tag in lazy plain; do
	check "$tag: the source is back, the pull works" ctl pull "$image:$tag"
	check_match "$tag: and the image runs" "$(ctl run --rm "$image:$tag" 2>&1)" '^hello from tiny$'
done
retire_contentd

# One fault of each kind does not even show: there are further attempts.

fresh once
for fault in truncate=50% status=500 reset; do
	break_it "$fault" 1 "GET /v2/test/tiny/blobs/$lazy_layer"
	break_it "$fault" 1 "GET /v2/test/tiny/blobs/$plain_layer"
done
check "single faults: the plain pull gets over them" ctl pull "$image:plain"
check "single faults: and the lazy one" ctl pull "$image:lazy"
retire_contentd

# Reads

# The file's bytes come, or an error comes; bytes that are not the file's never do.
data=$T/ref/rootfs/data
prefix() { cmp -s -n "$(stat -c %s "$1")" "$1" "$2"; }
# What a read of a file of the container gives: $T/got.FILE, its .err, its .status. "mapped" is one through a mapping.
read_one() {
	if [ "$1" = mapped ]; then
		timeout "$PATIENCE" python3 -c 'import mmap, sys
with open(sys.argv[1], "rb") as f: print(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[0])' "$root/data/two-mib"
	else
		timeout "$PATIENCE" cat "$root/data/$1"
	fi >"$T/got.$1" 2>"$T/got.$1.err"
	echo $? >"$T/got.$1.status"
} 2>/dev/null

reads() {
	local each fault reason file root status readers
	for each in "flip=50%|digest|inflate|gzip" "truncate=10|out of time|transfer closed|ended early|partial" "status=500|HTTP 500" \
		"status=404|HTTP 404" "stall|out of time|no data"; do
		fault=${each%%|*} reason=${each#*|}
		fresh "read-${fault//[=%]/}"
		ctl pull "$image:lazy" >"$T/out" 2>&1
		sleeper reader "$image:lazy" || bail "no container"
		root=$(container_root reader)
		break_it "$fault" all "GET /v2/test/tiny/blobs/"
		readers=()
		for file in three-mib linked text mapped; do
			read_one "$file" &
			readers+=($!)
		done
		wait "${readers[@]}"
		for file in three-mib linked text; do
			status=$(cat "$T/got.$file.status")
			check "read, $fault: $file has no wrong byte" prefix "$T/got.$file" "$data/$file"
			# One bad byte in an answer spoils one chunk: its neighbours may have come with it, unharmed.
			if [ "$fault" = flip=50% ] && [ "$status" -eq 0 ]; then
				check_same "read, $fault: $file is whole" "$T/got.$file" "$data/$file"
				continue
			fi
			check_eq "read, $fault: $file fails, in time" "$status" 1
			check_match "read, $fault: $file says EIO" "$(cat "$T/got.$file.err")" "Input/output error"
		done
		[ "$fault" = flip=50% ] || check_eq "read, $fault: a mapped read gets SIGBUS, in time" "$(cat "$T/got.mapped.status")" 135
		check "read, $fault: names, modes and links need no network" ls -lR "$root"
		check_match "read, $fault: the log names image, layer and reason" "$(grep "$lazy_layer" "$CONTENTD/state/contentfs.log")" \
			"$image.*$lazy_layer.*($reason)"
		check "read, $fault: failed reads are counted" test "$(info .contentfs.readErrors)" -gt 0
		mend
		for file in three-mib linked text two-mib; do
			check_same "read, $fault: the source is back, $file is right" "$root/data/$file" "$data/$file"
		done
		retire_contentd
	done
}
at_levels reads
finish
