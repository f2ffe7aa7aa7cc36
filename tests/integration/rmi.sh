#!/bin/bash
# After rmi nothing of an image is left: no mount, no process, no cgroup, nothing on disk; images that share its layers go
# on.
. "$(dirname "$0")/../node.sh"

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
make_tiny_image --seed 2 "$T/other" || bail "tiny_image.py failed"
# The same layers and one more on top.
cp -r "$T/tiny" "$T/sharing"
mkdir "$T/added" && echo shared >"$T/added/added"
tar -C "$T/added" -cf "$T/added.tar" added
umoci raw add-layer --image "$T/sharing:latest" "$T/added.tar" >"$T/umoci.log" 2>&1 || bail "$(cat "$T/umoci.log")"
start_registry
for name in tiny other sharing; do
	publish "$T/$name" "test/$name"
done

mounts() { mounts_of "$CONTENTD"; }
shims() { pids_of "$CONTENTD" | tr ' ' '\n' | while read -r pid; do tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -o 'containerd-shim[^ ]*'; done; }
unused() { ctl --json df | jq "[.[] | select(.kind == \"$1\") | .unreferencedCount] | add"; }
there() { ctl --json df | jq "[.[] | select(.kind == \"$1\") | .count] | add"; }

one_way() {
	local way=$1 tiny=$REGISTRY/test/tiny:$1 sharing=$REGISTRY/test/sharing:$1 other=$REGISTRY/test/other:$1
	local before indexes kind
	start_contentd "rmi-$way" 'background = "off"'
	before=$(mounts)
	check_eq "$way: a new daemon has nothing unused" "$(unused blobs) $(unused index) $(unused snapshots)" "0 0 0"

	for image in "$tiny" "$sharing" "$other"; do
		check "$way: pull ${image##*/}" ctl pull "$image"
	done
	check "$way: a container of tiny" sleeper tiny "$tiny"
	check "$way: and one of sharing" sleeper sharing "$sharing"
	check_match "$way: other runs" "$(ctl run --rm "$other" sh -c 'cat /data/three-mib >/dev/null; /app/hello' 2>&1)" \
		'^hello from tiny$'
	check "$way: it has mounts" test "$(mounts | wc -l)" -gt "$(wc -l <<<"$before")"

	indexes=$(there index)
	check "$way: rmi of other" ctl rmi "$other"
	check_fails "$way: it is gone" ctl rmi "$other"
	check_eq "$way: from the list" "$(ctl images -q | grep -c test/other)" 0
	check "$way: with its layers" test "$(there index)" -lt "$indexes"
	for kind in blobs index snapshots objects; do
		check_eq "$way: and leaves no unused $kind" "$(unused $kind)" 0
	done

	check "$way: rmi of tiny, whose container runs" ctl rmi "$tiny"
	check_eq "$way: the container goes on" "$(ctl exec tiny cat /app/hello | tail -n 1)" "echo hello from tiny"
	check "$way: with files nobody has read yet" ctl exec tiny sha256sum /data/three-mib /data/two-mib
	check "$way: until it is removed" ctl rm --force tiny
	check_eq "$way: sharing still reads everything" "$(ctl exec sharing cat /added)" shared
	check "$way: also what was never read" ctl exec sharing sha256sum /data/text /data/two-mib /many/entry-1000
	check_match "$way: and starts again" "$(ctl run --rm "$sharing" 2>&1)" '^hello from tiny$'

	check "$way: rm of its container" ctl rm --force sharing
	check "$way: rmi of sharing" ctl rmi "$sharing"
	check_eq "$way: no mount is left" "$(mounts)" "$before"
	check_eq "$way: no shim" "$(shims)" ""
	check_eq "$way: no cgroup" "$(container_cgroups | head -n 3)" ""
	check_eq "$way: no task" "$(ls "$CONTENTD/state/tasks/$CONTENTD_NAMESPACE" 2>/dev/null)" ""
	check_eq "$way: no image, no container" "$(ctl images -q; ctl ps --all -q)" ""
	ctl gc >"$T/gc.out" 2>&1 # the last container went after its image
	for kind in blobs index snapshots objects partial; do
		check_eq "$way: no $kind" "$(there $kind)" 0
	done
	check_eq "$way: no layer is kept for anybody" "$(info '.layers | map(select(.images != [])) | length')" 0
	stop_contentd
	restart_contentd
	check_eq "$way: nor is any after a restart" "$(mounts)" "$before"
	check "$way: pull again" ctl pull "$tiny"
	check_match "$way: and used" "$(ctl run --rm "$tiny" 2>&1)" '^hello from tiny$'
	check "$way: rmi again" ctl rmi "$tiny"
	check_eq "$way: with no mount left" "$(mounts)" "$before"
	retire_contentd
	check_eq "$way: nothing is left of the daemon" "$(leftovers "$CONTENTD")" ""
}
everything() {
	one_way lazy
	one_way plain
}
at_levels everything
finish
