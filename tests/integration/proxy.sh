#!/bin/bash
# A real containerd with contentd as its snapshotter (proxy_plugins): ordinary images, lazy ones by ctr-remote's labels and
# by those of CRI, restarts of either side, collection, images that claim the same chain id, registries that contentd does
# not get at. With the containerd of this machine, the main path also with those of newer Debian suites.
. "$(dirname "$0")/../node.sh"
require containerd ctr ctr-remote htpasswd curl

share_mounts
liar() { python3 "$SOURCE_DIR/tests/liar.py" "$@"; }
make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
start_registry
publish "$T/tiny" test/tiny
reference_tree "$T/tiny" "$T/tiny.ref"
plain=$REGISTRY/test/tiny:plain lazy=$REGISTRY/test/tiny:lazy
ns=${T##*.}-front
defer remove_cgroups "$ns"

# ---- the containerd in front ----

# start_front NAME SUITE [CRI]: FRONT is its folder; SUITE "host" is this machine's.
start_front() {
	local name=$1 cri='"io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",'
	SUITE=$2
	FRONT=$T/$name
	mkdir -p "$FRONT"
	[ -z "${3:-}" ] || cri=
	cat >"$FRONT/config.toml" <<-END
		version = 2
		root = "$FRONT/root"
		state = "$FRONT/state"
		disabled_plugins = [$cri "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
			"io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.nri.v1.nri",
			"io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
		[grpc]
		address = "$FRONT/sock"
		[proxy_plugins.contentd]
		type = "snapshot"
		address = "$CONTENTD/contentd.sock"
		[proxy_plugins.contentd.exports]
		enable_remote_snapshot_annotations = "true"
		[plugins."io.containerd.transfer.v1.local"]
		[[plugins."io.containerd.transfer.v1.local".unpack_config]]
		platform = "linux/$(dpkg --print-architecture)"
		snapshotter = "overlayfs"
		[[plugins."io.containerd.transfer.v1.local".unpack_config]]
		platform = "linux/$(dpkg --print-architecture)"
		snapshotter = "contentd"
	END
	if [ "$SUITE" = sid ]; then
		sed -i 's/^version = 2/version = 3/' "$FRONT/config.toml"
		cat >>"$FRONT/config.toml" <<-END
			[plugins."io.containerd.cri.v1.images"]
			snapshotter = "contentd"
			disable_snapshot_annotations = false
		END
	else
		cat >>"$FRONT/config.toml" <<-END
			[plugins."io.containerd.grpc.v1.cri".containerd]
			snapshotter = "contentd"
			disable_snapshot_annotations = false
		END
	fi
	defer sweep "$FRONT"
	FRONT_RUNS=0
	run_front
}

run_front() {
	FRONT_RUNS=$((FRONT_RUNS + 1))
	if [ "$SUITE" = host ]; then
		start "${FRONT##*/}.$FRONT_RUNS" containerd --config "$FRONT/config.toml"
	else
		start "${FRONT##*/}.$FRONT_RUNS" "$SOURCE_DIR/tests/peers.sh" "$SUITE" containerd --config "$FRONT/config.toml"
	fi
	FRONT_PID=$STARTED
	wait_for 30 front version || start_failed "${FRONT##*/}.$FRONT_RUNS"
}

# ctr of its own suite; ctr-remote is this machine's.
front() {
	if [ "$SUITE" = host ]; then
		ctr --address "$FRONT/sock" --namespace "$ns" "$@"
	else
		peer "$SUITE" ctr --address "$FRONT/sock" --namespace "$ns" "$@"
	fi
}
rpull() { ctr-remote --address "$FRONT/sock" --namespace "$ns" images rpull --snapshotter contentd --plain-http "$@"; }
run_in() { front run --snapshotter contentd --fifo-dir "$FRONT/fifo" --cgroup "/$ns/$RANDOM" "$@" 2>&1; }
ours() { ctr_ snapshots --snapshotter contentd ls | sed 1d; }
# What asks for lazy layers: ctr-remote, and from containerd 2.1 on (sid) its own Transfer service.
pull_lazily() {
	if [ "$SUITE" = sid ]; then
		front images pull --plain-http --snapshotter contentd "$1"
	else
		rpull "$1"
	fi
}
blobs() { front content ls -q | wc -l; }

retire_front() {
	local id
	for id in $(front tasks ls -q); do
		front tasks rm --force "$id" >"$T/rm.out" 2>&1
	done
	stop_pid "$FRONT_PID"
	sweep "$FRONT"
}

# The committed snapshot that no other stands on: of the only image there is.
top() { front snapshots --snapshotter "$1" ls | awk 'NR > 1 { below[NF > 2 ? $2 : ""]; all[$1] } END { for (k in all) if (!(k in below)) print k }'; }

# look SNAPSHOTTER DIR: mounts the only image there is
look_once() {
	local key=${2##*/}
	front snapshots --snapshotter "$1" view "$key" "$(top "$1")" &&
		front snapshots --snapshotter "$1" label "$key" containerd.io/gc.root=1 &&
		eval "$(front snapshots --snapshotter "$1" mounts "$2" "$key")"
}
look() {
	mkdir -p "$2"
	# Nothing refers to the view: until it is labelled containerd may collect it.
	wait_for 10 look_once "$1" "$2"
}
unlook() { umount "$2" && front snapshots --snapshotter "$1" rm "${2##*/}"; }

# front_tree SNAPSHOTTER FILE: what its mounts show of the image
front_tree() {
	local dir=$T/tree.$RANDOM
	look "$1" "$dir" || return 1
	tree_list --no-dir-times "$dir" | grep -v '^\(\.\(no\.\)\?prefetch\.landmark\|stargz\.index\.json\) ' >"$2"
	unlook "$1" "$dir"
}
tree_list --no-dir-times "$T/tiny.ref/rootfs" >"$T/tiny.want"

# ---- the main path ----

ordinary() {
	check "an ordinary image: containerd unpacks it" front images pull --snapshotter contentd --plain-http "$plain"
	check_eq "into snapshots of contentd" "$(ours | awk '{print $NF}' | sort | uniq -c | xargs)" "3 Committed"
	check_eq "it runs" "$(said run_in --rm @LOG@ "$plain" ordinary)" "hello from tiny"
	# containerd gives a hard link's owner and mode to its file: so its own tree counts.
	front images pull --snapshotter overlayfs --plain-http "$plain" >"$T/pull.out" 2>&1 || cat "$T/pull.out"
	check "containerd's own snapshotter shows its tree" front_tree overlayfs "$T/plain.want"
	check "and so does contentd" front_tree contentd "$T/plain.got"
	check_same "they are equal" "$T/plain.got" "$T/plain.want"
	check "it is removed" front images rm --sync "$plain"
	check_eq "and nothing of it is left" "$(ours)" ""
	check_eq "not a directory" "$(ls "$CONTENTD/root/snapshots")" ""
}

on_demand() {
	check "a lazy image is pulled" pull_lazily "$lazy"
	check_eq "containerd has the manifest and the configuration, but no layer" "$(blobs)" 2
	check_eq "its layers are lazy" "$(info '.layers | length, (.[] | .lazy)' | xargs)" "3 true true true"
	check_eq "nothing of them was read" "$(info '[.layers[].presentBytes] | add')" 0
	check_match "containerd sees that they are remote" \
		"$(front snapshots --snapshotter contentd info "$(front snapshots --snapshotter contentd ls | awk 'NR == 2 {print $1}')")" \
		'"containerd.io/snapshot/remote": "remote snapshot"'
	check_eq "it runs" "$(said run_in --rm @LOG@ "$lazy" lazy)" "hello from tiny"
	check "some of it is here now, and some is not" eval 'test "$(info "[.layers[].presentBytes] | add")" -gt 0 &&
		test "$(info "[.layers[].presentBytes] | add")" -lt "$(info "[.layers[].contentBytes] | add")"'
	check_eq "all that it takes here is in use" "$(ctl --json df | jq '[.[] | select(.kind != "partial") | .unreferencedCount] | add')" 0
	check "its tree can be seen" front_tree contentd "$T/lazy.got"
	check_same "and is the original's" "$T/lazy.got" "$T/tiny.want"
}

# What a container reads that it has not read before, while this and that is killed.
restarts() {
	local before want
	want=$(cd "$T/tiny.ref/rootfs" && find . -type f -size +100k -printf '%p\n' | sort | xargs sha256sum | sha256sum)
	run_in -d "$lazy" stay sleep 100000 >"$T/run.out" || cat "$T/run.out"
	wait_for 10 eval 'front tasks ls | grep -q "^stay .*RUNNING"'
	before=$(front snapshots --snapshotter contentd ls)
	kill -KILL "$CONTENTD_PID" "$(info .contentfs.workerPid)"
	check_match "contentd and its worker killed: the container goes on" \
		"$(said front tasks exec @LOG@ --exec-id e1 stay cat /app/hello 2>&1)" 'hello from tiny'
	check_fails "containerd has no snapshotter" front snapshots --snapshotter contentd ls
	restart_contentd
	check "contentd started: containerd has it again" wait_for 20 front snapshots --snapshotter contentd ls
	check_eq "with the same snapshots" "$(front snapshots --snapshotter contentd ls)" "$before"
	check_eq "a new container runs" "$(said run_in --rm @LOG@ "$lazy" again)" "hello from tiny"
	kill -KILL "$FRONT_PID"
	wait "$FRONT_PID" 2>/dev/null
	run_front
	check_eq "containerd killed and started: the same snapshots" "$(front snapshots --snapshotter contentd ls)" "$before"
	check_match "the container goes on" "$(front tasks ls)" '^stay .*RUNNING'
	check_eq "and reads what nobody has read yet" "$(cd "/proc/$(front tasks ls | awk '$1 == "stay" {print $2}')/root" &&
		find . -xdev -type f -size +100k -printf '%p\n' | sort | xargs sha256sum | sha256sum)" "$want"
	check "it is ended" front tasks rm --force stay
	check "and removed" front containers rm stay
}

collected() {
	stop_contentd
	check "what is on disk is as it should be" "$BIN/contentctl" fsck --root "$CONTENTD/root" --state "$CONTENTD/state"
	restart_contentd
	check "containerd finds contentd again" wait_for 20 front snapshots --snapshotter contentd ls
	check "the image is removed" front images rm --sync "$lazy"
	check "its snapshots are gone from contentd" wait_for 10 eval '[ -z "$(ours)" ]'
	check_eq "so are the pins of its layers" "$(ls "$CONTENTD/root/pins")" ""
	check "and the mounts of its trees" wait_for 10 eval '[ -z "$(mounts_of "$CONTENTD/state/meta")" ]'
	check "the indexes of its layers" wait_for 10 eval '[ -z "$(ls "$CONTENTD/root/index")" ]'
	check "and the contents of its files" wait_for 10 eval '[ -z "$(find "$CONTENTD/root/objects" "$CONTENTD/root/partial" -type f)" ]'
}

main_path() {
	start_contentd "one-$1" 'background = "off"'
	start_front "front-$1" "$1"
	ordinary
	on_demand
	restarts
	collected
	retire_front
	retire_contentd
}


# ---- what asks for remote snapshots, and what is made of it ----

# with_front NAME TEST [SUITE [CRI]]: at the first level only, the mounts are the main path's. $FETCH: more lines of [fetch]
FETCH=
with_front() {
	start_contentd "$1" 'background = "off"' "docker_config = \"$T/$1.docker.json\"" "$FETCH"
	start_front "front-$1" "${3:-host}" "${4:-}"
	"$2"
	retire_front
	retire_contentd
}

# cat_file FILE: of the image, as containerd's mounts have it
cat_file() {
	local dir=$T/cat.$RANDOM
	look contentd "$dir" && cat "$dir/$1" && unlook contentd "$dir"
}

# kubelet's call, by hand: PullImageRequest{image: ImageSpec{image: NAME}} in a gRPC frame
cri_pull() {
	local spec n=${#1}
	spec="\\x0a\\x$(printf %02x "$n")$1"
	printf "\\0\\0\\0\\0\\x$(printf %02x $((n + 4)))\\x0a\\x$(printf %02x $((n + 2)))$spec" >"$T/cri.request"
	curl -sS --http2-prior-knowledge --unix-socket "$FRONT/sock" -H 'content-type: application/grpc' -H 'te: trailers' \
		--data-binary "@$T/cri.request" -D "$T/cri.headers" -o "$T/cri.answer" http://localhost/runtime.v1.ImageService/PullImage &&
		grep -qi '^grpc-status: 0' "$T/cri.headers" || {
		cat "$T/cri.headers"
		return 1
	}
}

kubernetes() {
	local own=$ns
	ns=k8s.io
	check "CRI pulls" wait_for 20 cri_pull "$lazy"
	check_eq "without a layer" "$(blobs)" 2
	check_match "by its own labels" "$(front snapshots --snapshotter contentd info "$(top contentd)")" \
		'"containerd.io/snapshot/cri.manifest-digest"'
	check_match "which name the snapshot remote" "$(front snapshots --snapshotter contentd info "$(top contentd)")" \
		'"containerd.io/snapshot/remote"'
	check_eq "a container of it runs" "$(ns=$own front --namespace k8s.io run --snapshotter contentd --fifo-dir "$FRONT/fifo" \
		--cgroup "/$own/cri" --rm "$lazy" cri 2>&1)" "hello from tiny"
	check "it is removed" front images rm --sync "$(front images ls -q | head -n 1)" $(front images ls -q | tail -n +2)
	check "with all its snapshots" wait_for 10 eval '[ -z "$(ours)" ]'
	ns=$own
}

# The table of contents of one layer does not come: the layers below it are there at once, and other images are pulled.
apart() {
	local digests pid
	start_netproxy "$REGISTRY"
	digests=$(curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$REGISTRY/v2/test/tiny/manifests/lazy" |
		jq -r '.layers[].digest')
	netproxy_ask fault stall 1 "GET /v2/test/tiny/blobs/$(tail -n 1 <<<"$digests")" >"$T/fault.out" || cat "$T/fault.out"
	rpull "$NETPROXY/test/tiny:lazy" >"$T/apart.out" 2>&1 &
	pid=$!
	check "while the last layer's table stalls, the others get their snapshots" wait_for 10 eval '[ "$(ours | grep -c Committed)" = 2 ]'
	check "another image is pulled meanwhile" rpull "$lazy"
	check "the first still waits" kill -0 "$pid"
	kill "$pid"
	wait "$pid" 2>/dev/null
	check "asked again, it comes" rpull "$NETPROXY/test/tiny:lazy"
	check_eq "and is lazy, as are all" "$(blobs)" 2
	check "a pull asks for the manifest once, not for each layer" \
		test "$(grep -c 'GET /v2/test/tiny/manifests/lazy ' "$NETPROXY_LOG")" -le 2
	check_eq "one request brought each table" "$(grep -c "$(sed -n 2p <<<"$digests")" "$NETPROXY_LOG")" 1
}

# Two images with one chain id: what was claimed first is not what the other one gets.
claims() {
	local own=$ns
	head -c 300000 /dev/urandom >"$T/honest.bin"
	head -c 300000 /dev/urandom >"$T/evil.bin"
	liar "$T/honest" "{\"files\": [{\"name\": \"lies/large\", \"from\": \"$T/honest.bin\"}]}" >"$T/liar.out" &&
		liar "$T/evil" "{\"files\": [{\"name\": \"lies/large\", \"from\": \"$T/evil.bin\"}], \"diff_ids_of\": \"$T/honest\"}" \
			>"$T/liar.out" && push_layout "$T/honest" test/honest && push_layout "$T/evil" test/evil || bail "liar.py failed"
	ns=$own-evil
	check "an image that claims another's chain id is pulled" rpull "$REGISTRY/test/evil:latest"
	cat_file lies/large >"$T/got"
	check_same "and reads its own bytes" "$T/got" "$T/evil.bin"
	ns=$own
	check "the other one is pulled into another namespace" rpull "$REGISTRY/test/honest:latest"
	check_eq "under the same chain id" "$(ours | grep -c Committed)" 1
	cat_file lies/large >"$T/got"
	check_same "and reads its own" "$T/got" "$T/honest.bin"
	ns=$own-evil
	cat_file lies/large >"$T/got"
	check_same "as does the first one now: they are proven" "$T/got" "$T/honest.bin"
	ns=$own
}

# containerd has a password that contentd has not: it downloads. Then contentd has it, too.
credentials() {
	local plain_registry=$REGISTRY locked
	start_registry --user bob secret
	locked=$REGISTRY REGISTRY=$plain_registry
	for tag in one two; do
		skopeo copy --quiet --insecure-policy --src-tls-verify=false --dest-tls-verify=false --dest-creds bob:secret \
			"docker://$lazy" "docker://$locked/test/tiny:$tag" || bail "push failed"
	done
	check "a registry that contentd may not read" rpull --user bob:secret "$locked/test/tiny:one"
	check_eq "containerd unpacks it" "$(ours | awk '{print $NF}' | sort | uniq -c | xargs) $(blobs)" "3 Committed 5"
	check_eq "it runs" "$(said run_in --rm @LOG@ "$locked/test/tiny:one" locked)" "hello from tiny"
	check_match "the log says why" "$(cat "$T/$CONTENTD_NAME.1.log")" "image $locked/test/tiny:one: .*not lazy: .*(401|unauth)"
	front images rm --sync "$locked/test/tiny:one" >"$T/rm.out"
	jq -n --arg host "$locked" --arg auth "$(printf bob:secret | base64)" '{auths: {($host): {auth: $auth}}}' \
		>"$T/$CONTENTD_NAME.docker.json"
	check "with the password in its docker configuration" rpull --user bob:secret "$locked/test/tiny:two"
	check_eq "contentd makes it lazy" "$(blobs)" 2
	check_eq "it runs, too" "$(said run_in --rm @LOG@ "$locked/test/tiny:two" locked)" "hello from tiny"
}

# What contentd cannot get at, and what it does not believe, containerd downloads. Those above stand on files then.
downloaded() {
	local log=$T/$CONTENTD_NAME.1.log before
	before=$(grep -c 'is an ordinary one' "$log")
	check "$1: it is pulled" rpull "$2"
	check_eq "$1: and unpacked" "$(ours | awk '{print $NF}' | sort | uniq -c | xargs) $(blobs)" "$3 Committed $(($3 + 2))"
	grep 'is an ordinary one' "$log" | tail -n +$((before + 1)) >"$T/why"
	check_match "$1: the log says why" "$(head -n 1 "$T/why")" "$4"
	check_eq "$1: once for each layer" "$(wc -l <"$T/why")" "$3"
	front images rm --sync "$2" >"$T/rm.out"
	check "$1: nothing of it is left" wait_for 10 eval '[ -z "$(ours)" ]'
}

unbelievable() {
	local port=${REGISTRY##*:} digests
	echo text >"$T/text"
	liar "$T/wrong-toc" "{\"files\": [{\"name\": \"text\", \"from\": \"$T/text\"}], \
		\"toc_digest\": \"sha256:$(sha256sum "$T/text" | cut -d' ' -f1)\"}" >"$T/liar.out" &&
		push_layout "$T/wrong-toc" test/wrong-toc || bail "liar.py failed"
	downloaded "a table with another digest" "$REGISTRY/test/wrong-toc:latest" 1 'should be sha256:'
	start_netproxy "$REGISTRY"
	digests=$(curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$REGISTRY/v2/test/tiny/manifests/lazy" |
		jq -r '.layers[].digest')
	# containerd asks for the whole blob.
	netproxy_ask fault stall all "GET /v2/test/tiny/blobs/$(head -n 1 <<<"$digests") bytes=" >"$T/fault.out" || cat "$T/fault.out"
	downloaded "a table that does not come" "$NETPROXY/test/tiny:lazy" 3 'no answer'
	mkdir -p "$CONTENTD/certs.d/127.0.0.1:$port"
	printf 'server = "http://127.0.0.1:1"\n' >"$CONTENTD/certs.d/127.0.0.1:$port/hosts.toml"
	downloaded "a registry that is down for contentd" "$lazy" 3 '[Cc]onnect'
}

# podman's kind of lazy layer: its annotations are not among the labels.
chunked() {
	umoci init --layout "$T/podman" && umoci new --image "$T/podman:latest" && mkdir "$T/files" &&
		head -c 3000000 /dev/urandom >"$T/files/large" && echo small >"$T/files/small" &&
		umoci insert --image "$T/podman:latest" "$T/files" /files || bail "umoci failed"
	peer "${PEERS%% *}" skopeo copy --quiet --insecure-policy --dest-tls-verify=false --dest-compress-format zstd:chunked \
		"oci:$T/podman:latest" "docker://$REGISTRY/test/chunked:latest" || bail "skopeo of ${PEERS%% *} failed"
	check "zstd:chunked as podman makes it: pull" rpull "$REGISTRY/test/chunked:latest"
	check_eq "it is lazy" "$(blobs)" 2
	cat_file files/large >"$T/got"
	check_same "and reads right" "$T/got" "$T/files/large"
}

# The same labels to contentd itself.
direct() {
	start_contentd direct 'background = "off"'
	check "without a containerd in front: ctr-remote pulls" ctr-remote --address "$CONTENTD/contentd.sock" \
		--namespace "$CONTENTD_NAMESPACE" images rpull --snapshotter overlayfs --plain-http "$lazy"
	check_eq "no layer is downloaded" "$(find "$CONTENTD/root/content/blobs" -type f | wc -l)" 2
	check_eq "but its blobs are known" "$(ctr_ content ls -q | wc -l)" 5
	mkdir "$CONTENTD/fifo"
	check_eq "it runs" "$(ctr_ run --rm --fifo-dir "$CONTENTD/fifo" "$lazy" direct 2>&1)" "hello from tiny"
	check_eq "its layers are lazy" "$(info '.layers | length, (.[] | .lazy)' | xargs)" "3 true true true"
	layer=$(info '.layers[0].blob')
	check_eq "who wants a blob gets it" "sha256:$(ctr_ content get "$layer" | sha256sum | cut -d' ' -f1)" "$layer"
	check "and can export the image" ctr_ images export "$T/lazy.tar" "$lazy"
	check_eq "as a whole" "$(tar tf "$T/lazy.tar" | grep -c '^blobs/sha256/.')" 5
	check "it is removed" ctr_ images rm --sync "$lazy"
	check_eq "with its snapshots, blobs and indexes" \
		"$(ctr_ snapshots ls | sed 1d)$(ctr_ content ls -q)$(ls "$CONTENTD/root/index")" ""
	retire_contentd
}

main_path_host() { main_path host; }
at_levels main_path_host

LEVEL=${LEVELS%% *}
direct
with_front cri kubernetes host cri
with_front apart apart
with_front claims claims
with_front credentials credentials
FETCH='answer_timeout_ms = 300' with_front unbelievable unbelievable
[ -z "$PEERS" ] || with_front chunked chunked
for suite in $PEERS; do
	T_PREFIX="$suite: "
	main_path "$suite"
	with_front "cri-$suite" kubernetes "$suite" cri
	T_PREFIX=
done
finish
