#!/bin/bash
# What clients do with the mounts of a snapshot: mount them, mount them read-only without an upper directory, look into the
# directories that they name (containerd's clients since 2.3, for users and groups of an image). All see the same, at
# every level. After kills, too, and nothing of it is left when the snapshots have gone.
. "$(dirname "$0")/../node.sh"
LEVELS="overlay nested tree"
/usr/bin/python3 -c 'import grpc' 2>/dev/null || bail "python3-grpcio is missing: run cmake/setup.sh"

# An image of a user with a name, who is in groups; /etc/passwd is a link.
mkdir -p "$T/layer/etc" "$T/layer/usr/share/users"
printf 'root:x:0:0::/root:/bin/sh\nann:x:1234:1234::/:/bin/sh\n' >"$T/layer/usr/share/users/passwd"
ln -s ../usr/share/users/passwd "$T/layer/etc/passwd"
printf 'root:x:0:\nann:x:1234:\naudio:x:29:bob,ann\nstaff:x:50:ann\n' >"$T/layer/etc/group"
tar -C "$T/layer" --owner 0 --group 0 -czf "$T/layer.tar.gz" .
make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
python3 "$SOURCE_DIR/tests/add_layer.py" "$T/tiny" "$T/layer.tar.gz" "$T/users" || bail "add_layer.py failed"
umoci config --image "$T/users:latest" --config.user ann || bail "umoci config failed"
start_registry
publish "$T/users" test/users
reference_tree "$T/users" "$T/reference"
image=$REGISTRY/test/users:lazy

# as KEY VERB PATH
as() { /usr/bin/python3 "$SOURCE_DIR/tests/mounts.py" "$CONTENTD/contentd.sock" "$CONTENTD_NAMESPACE" "$@"; }
top_chain() { ctr_ snapshots ls | awk 'NR > 1 { below[NF > 2 ? $2 : ""]; all[$1] } END { for (k in all) if (!(k in below)) print k }'; }
# Nothing refers to a view: until it is labelled it may be collected.
view() { ctr_ snapshots view "$1" "$2" && ctr_ snapshots label "$1" containerd.io/gc.root=1; }
users="uid=1234(ann) gid=1234(ann) groups=29(audio),50(staff),1234(ann)"
# changed AT: what is done to a writable mount of the image
changed() {
	printf 'root:x:0:\n' >"$1/etc/group"
	rm -r "$1/etc/passwd" "$1/gone"
	mkdir "$1/gone"
	echo new >"$1/gone/new"
}
# sees KEY: of what `changed` has done, looking into directories
sees() { as "$1" cat etc/group cat etc/passwd ls gone cat gone/new | xargs; }
# shows DIR: the same of a mount
shows() { echo "$(cat "$1/etc/group") $(test -e "$1/etc/passwd" -o -L "$1/etc/passwd" || echo nothing: etc/passwd) $(ls "$1/gone") $(cat "$1/gone/new")"; }
want="root:x:0: nothing: etc/passwd new new"
mounted() { as "$1" mount "$2" && shows "$2" && umount "$2"; }
writable() { eval "$(ctr_ snapshots mounts "$2" "$1")"; }

# lost WHAT COMMAND...: all is there again afterwards
lost() {
	local what=$1
	shift
	"$@"
	wait_for 20 ctl info
	check_eq "$what: in directories" "$(sees above)" "$want"
	check_eq "$what: what nobody has read yet" "$(as above cat data/two-mib mount "$mnt" | sha256sum)" \
		"$(sha256sum <"$T/reference/rootfs/data/two-mib")"
	check_eq "$what: in a read-only mount" "$(shows "$mnt")" "$want"
	umount "$mnt"
}
# contentfs ends, and takes the FUSE mount along; contentd starts another one.
end_contentfs() {
	local pid
	pid=$(cat "$CONTENTD/state/contentfs.pid")
	kill "$pid"
	wait_for 20 eval "grep -qvx $pid $CONTENTD/state/contentfs.pid"
}

clients() {
	local key suite top mnt=$T/mnt.$LEVEL
	mkdir -p "$mnt" "$T/fifo"
	start_contentd clients 'background = "off"'
	check "a lazy pull" ctl pull "$image"
	check_eq "ctr runs as the user of the image, in its groups" "$(ctr_ run --rm --fifo-dir "$T/fifo" "$image" one /bin/id 2>&1)" "$users"
	[ "$LEVEL" != overlay ] || for suite in $PEERS; do
		check_eq "ctr of $suite, too" \
			"$(peer "$suite" ctr --address "$CONTENTD/contentd.sock" --namespace "$CONTENTD_NAMESPACE" run --rm --fifo-dir "$T/fifo" "$image" two /bin/id 2>&1)" "$users"
	done
	top=$(top_chain)
	check "a snapshot" ctr_ snapshots prepare fresh "$top"
	check "a view" wait_for 10 view seen "$top"
	for key in fresh seen; do
		check_eq "$key: a file through a link, a directory of several layers" "$(as "$key" cat etc/passwd ls gone)" \
			"$(cat "$T/layer/usr/share/users/passwd"; ls -A "$T/reference/rootfs/gone" | xargs)"
		check_eq "$key: what nobody has read yet has its bytes" \
			"$(as "$key" cat data/three-mib | sha256sum)" "$(sha256sum <"$T/reference/rootfs/data/three-mib")"
	done

	check "it is mounted" writable fresh "$mnt"
	[ "$LEVEL" != overlay ] || check_eq "by one overlay" "$(grep -c " $mnt .*lowerdir=[^ ]*::" /proc/self/mountinfo)" 1
	changed "$mnt"
	check "and unmounted" umount "$mnt"
	check_eq "changes are seen in its directories" "$(sees fresh)" "$want"
	check_eq "and in a read-only mount" "$(mounted fresh "$mnt")" "$want"
	check "it becomes a layer" ctr_ snapshots commit changed fresh
	check "below another snapshot" ctr_ snapshots prepare above changed
	check_eq "where it is seen in directories" "$(sees above)" "$want"
	check_eq "and in a read-only mount" "$(mounted above "$mnt")" "$want"

	lost "when contentfs was started again" end_contentfs
	check_eq "a container" "$(ctr_ run --rm --fifo-dir "$T/fifo" "$image" three /bin/id 2>&1)" "$users"
	stop_contentd
	kill "$(cat "$CONTENTD/state/contentfs.pid")"
	check "contentfs ends" wait_for 10 test ! -e "$CONTENTD/state/contentfs.pid"
	lost "when both were started again" restart_contentd
	kill -9 "$CONTENTD_PID"
	lost "after a kill of contentd" restart_contentd

	retire_contentd
}
at_levels clients
finish
