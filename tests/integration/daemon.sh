#!/bin/bash
# The daemon with the stock client: records, content, pulls (plain, lazy, with a password), reading what was not
# downloaded, removing, restarts by kill -9, several at once, and what a registry that fails looks like.
# LEVEL=tree (or overlay, nested) mounts images that way; without it the best that works here.
. "$(dirname "$0")/../lib.sh"
require ctr docker-registry jq umoci

D=$T/d
ADDRESS=$D/state/contentd.sock
contentd() {
	mkdir -p "$D"
	# No collection right after the start: it would take what a client has just written without a lease.
	printf '[snapshotter]\nlevel = "%s"\n[gc]\nstartup_delay_ms = 0\n' "${LEVEL:-auto}" >"$T/config.toml"
	start contentd "$BIN/contentd" --root "$D/root" --state "$D/state" --config "$T/config.toml"
	CONTENTD=$STARTED
	wait_for 20 ctl info || bail "contentd does not serve: $(cat "$T/contentd.log")"
}
ctl() { "$BIN/contentctl" --address "$ADDRESS" "$@"; }
stock() { ctr --address "$ADDRESS" "$@"; }
erofs_mounts() { grep -c " $D/state/meta/" /proc/self/mountinfo; }
defer sweep "$D"

start_registry
start_netproxy "$REGISTRY"
make_tiny_image "$T/tiny" || bail "no tiny image"
push_layout "$T/tiny" tiny || bail "push failed"
"$BIN/contentctl" convert "oci:$T/tiny:latest" "oci:$T/lazy:latest" >"$T/convert.log" 2>&1 || bail "$(cat "$T/convert.log")"
push_layout "$T/lazy" lazy || bail "push failed"
PLAIN=$NETPROXY/tiny:latest LAZY=$NETPROXY/lazy:latest

contentd

# ---- the stock client, without an image ----
check_match "ctr version" "$(stock version 2>&1)" "UUID: [0-9a-f-]{36}"
check "namespaces create" stock namespaces create one a=b
check_match "namespaces ls" "$(stock namespaces ls)" "^one +a=b"
check_fails "a namespace twice" stock namespaces create one
check "namespaces label" stock namespaces label one c=d
check_match "labels of a namespace" "$(stock namespaces ls)" "a=b,c=d"
check "content ingest" sh -c "printf hello | ctr --address '$ADDRESS' content ingest greeting"
HELLO=sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
check_eq "content get" "$(stock content get "$HELLO")" hello
check "content label" stock content label "$HELLO" k=v
check_match "content ls" "$(stock content ls)" "$HELLO.*k=v"
check_eq "content ls of another namespace" "$(stock --namespace one content ls -q)" ""
check "content rm" stock content rm "$HELLO"
check_fails "a wrong digest is refused" sh -c "printf other | ctr --address '$ADDRESS' content ingest --expected-digest $HELLO x"
check "leases create" stock leases create --id lease1
check_match "leases ls" "$(stock leases ls)" "^lease1"
check "leases rm" stock leases rm --sync lease1
check_match "plugins ls" "$(stock plugins ls)" "snapshotter.v1 +overlayfs +linux/"
check "snapshots prepare" stock snapshots prepare s1
check "snapshots commit" stock snapshots commit S1 s1
check_match "snapshots ls" "$(stock snapshots ls)" "^S1 +Committed"
check "snapshots rm" stock snapshots rm S1
check "namespaces rm" stock namespaces rm one
check_match "images, of none" "$(stock images ls -q | wc -l)" "^0$"

# ---- pulling, lazily ----
check "a lazy pull" ctl pull "$LAZY"
lazy_bytes=$(netproxy_get body_bytes)
layers_bytes=$(jq '[.layers[].size] | add' "$T/lazy/blobs/sha256/$(jq -r '.manifests[0].digest' "$T/lazy/index.json" | cut -d: -f2)")
check "fetches less than the layers" test "$lazy_bytes" -lt "$layers_bytes"
check_match "it is listed" "$(stock images ls)" "^$LAZY "
check_match "and its layers are lazy" "$(ctl info)" ", lazy, unproven$"
check_eq "its content is listed as well" "$(stock content ls -q | wc -l)" "$(($(jq '.layers | length' "$T/lazy/blobs/sha256/$(jq -r '.manifests[0].digest' "$T/lazy/index.json" | cut -d: -f2)") + 2))"
lazy_mounts=$(erofs_mounts) # none at level tree, one or two at the others
[ "${LEVEL:-}" = tree ] || check "its metadata image is mounted" test "$lazy_mounts" -gt 0
check_eq "it runs, by the stock client" "$(said stock run --rm @LOG@ "$LAZY" c1)" "hello from tiny"
check_eq "and by ours" "$(ctl run --rm --net none "$LAZY")" "hello from tiny"
check_eq "the program's status" "$(ctl run --rm --net none "$LAZY" /bin/no-such-program >/dev/null 2>&1; echo $?)" 127

layer=$(jq -r '.layers[0].digest' "$T/lazy/blobs/sha256/$(jq -r '.manifests[0].digest' "$T/lazy/index.json" | cut -d: -f2)")
check_eq "a layer that was not downloaded can be read all the same" "$(stock content get "$layer" | sha256sum | cut -d' ' -f1)" "${layer#sha256:}"
before=$(netproxy_get body_bytes)
check_eq "again" "$(stock content get "$layer" | sha256sum | cut -d' ' -f1)" "${layer#sha256:}"
check_eq "from the disk" "$(netproxy_get body_bytes)" "$before"

# ---- pulling, plainly ----
ingests() { find "$D/root/content/ingest" -mindepth 1 -maxdepth 1 | wc -l; }
before=$(ingests) # the one with the wrong digest may go on
check "a plain pull" ctl pull --lazy=off "$PLAIN"
check_eq "it runs" "$(said stock run --rm @LOG@ "$PLAIN" c2)" "hello from tiny"
for blob in $(jq -r '.layers[].digest' "$T/tiny/blobs/sha256/$(jq -r '.manifests[0].digest' "$T/tiny/index.json" | cut -d: -f2)"); do
	check_same "the blob of a plain layer is kept" "$D/root/content/blobs/sha256/${blob#sha256:}" "$T/tiny/blobs/sha256/${blob#sha256:}"
done
check_eq "no ingest is left" "$(ingests)" "$before"
check_match "usage of a snapshot" "$(stock snapshots usage | head -n 5)" "[KM]iB"

mkdir "$T/view"
umoci unpack --image "$T/tiny:latest" "$T/bundle" >"$T/umoci.log" 2>&1 || bail "umoci: $(cat "$T/umoci.log")"
tree_list --no-dir-times "$T/bundle/rootfs" >"$T/want"
chain=$(stock snapshots ls | awk '$2 ~ /^sha256/ {child[$2] = $1; name[$1] = 1} END {for (n in name) if (!(n in child)) print n}' | head -n 1)
check "a view of the image" sh -c "ctr --address '$ADDRESS' snapshots view v1 '$chain' >'$T/mounts'"
check "mounts" sh -c "ctr --address '$ADDRESS' snapshots mounts '$T/view' v1 | sh"
tree_list --no-dir-times "$T/view" >"$T/got"
umount "$T/view"
check_same "the tree is that of umoci" "$T/got" "$T/want"
check "snapshots rm" stock snapshots rm v1

# ---- several at once ----
pids=()
for i in 1 2 3 4 5 6; do
	ctl pull "$([ $((i % 2)) = 0 ] && echo "$PLAIN" || echo "$LAZY")" >"$T/pull.$i" 2>&1 &
	pids+=($!)
done
failed=0
for pid in "${pids[@]}"; do wait "$pid" || failed=$((failed + 1)); done
check_eq "pulls of the same images at once" "$failed" 0

# ---- kill -9 ----
check "a container in the background" stock run -d "$LAZY" keeps /bin/sh -c 'while :; do sleep 1; done'
kill -KILL "$CONTENTD"
wait "$CONTENTD" 2>/dev/null
contentd
check_match "images are there after a kill" "$(stock images ls -q | tr '\n' ' ')" "lazy:latest .*tiny:latest"
check_match "and the task" "$(stock tasks ls)" "^keeps +[0-9]+ +RUNNING"
check_eq "exec in it" "$(said stock tasks exec @LOG@ --exec-id e1 keeps /app/hello)" "hello from tiny"

# ---- both processes of contentfs ----
both() { ctl info | sed -n 's/^contentfs *holder \([0-9]*\), worker \([0-9]*\).*/\1 \2/p'; }
old=$(both)
check_match "contentfs has two processes" "$old" "^[0-9]+ [0-9]+$"
# shellcheck disable=SC2086
kill -KILL $old
back() { [ "$(grep -c 'contentfs is back' "$T/contentd.log")" -gt 0 ]; }
check "contentfs comes back, though nobody calls" wait_for 30 back
check_fails "as other processes" test "$(both)" = "$old"
check_eq "a program that was not read yet" "$(said stock tasks exec @LOG@ --exec-id e3 keeps /bin/busybox echo still here)" "still here"

# ---- removing ----
check "images rm, of one that runs" stock images rm --sync "$LAZY"
check "images rm" stock images rm --sync "$PLAIN"
check_eq "what runs stays mounted, and nothing else" "$(erofs_mounts)" "$lazy_mounts"
check_eq "it goes on" "$(said stock tasks exec @LOG@ --exec-id e2 keeps /app/hello)" "hello from tiny"
stock tasks kill --signal KILL keeps
check "the task ends" wait_for 10 sh -c "ctr --address '$ADDRESS' tasks ls | grep -q STOPPED"
check "tasks rm" stock tasks rm keeps
check "containers rm" stock containers rm keeps
check "gc" ctl gc
check_eq "now nothing is mounted" "$(erofs_mounts)" 0
for kind in blobs index objects snapshots; do
	check_match "and no $kind are left" "$(ctl df)" "^$kind +0 "
done

# ---- failures ----
check_fails "an image that is not there" ctl pull "$NETPROXY/none:latest"
check_match "says which, and why" "$(ctl pull "$NETPROXY/none:latest" 2>&1)" "image $NETPROXY/none:latest: .*manifest unknown"
check_fails "a registry that is not there" ctl pull "127.0.0.1:1/x:latest"
check_eq "no image came of it" "$(stock images ls -q | wc -l)" 0
start_registry --user bob secret
push_layout "$T/tiny" tiny --dest-creds bob:secret || bail "push failed"
check_fails "a registry that wants a password" ctl pull "$REGISTRY/tiny:latest"
check "gets it" ctl pull --creds bob:secret "$REGISTRY/tiny:latest"
check_eq "and it runs" "$(ctl run --rm --net none "$REGISTRY/tiny:latest")" "hello from tiny"

# ---- ending ----
kill -TERM "$CONTENTD"
wait "$CONTENTD"
check_eq "SIGTERM ends it in order" $? 0
printf 'roto = 1\n' >"$T/bad.toml"
check_match "a mistake in the configuration" "$("$BIN/contentd" --config "$T/bad.toml" 2>&1)" "bad.toml:1: unknown key roto"
finish
