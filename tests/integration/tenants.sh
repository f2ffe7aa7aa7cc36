#!/bin/bash
# Whose credentials open what: two namespaces, a registry that wants a password, and only one of them knows it.
. "$(dirname "$0")/../node.sh"
/usr/bin/python3 -c 'import grpc' 2>/dev/null || bail "python3-grpcio is missing: run cmake/setup.sh"

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
start_registry
OPEN=$REGISTRY
start_registry --user bob secret
LOCKED=$REGISTRY
auth() { jq -n --arg host "$LOCKED" --arg auth "$(printf bob:secret | base64)" '{auths: {($host): {auth: $auth}}}'; }
mkdir "$T/bob"
auth >"$T/bob/config.json"
"$BIN/contentctl" convert "oci:$T/tiny:latest" "$OPEN/test/tiny:lazy" >"$T/convert.log" 2>&1 || bail "$(cat "$T/convert.log")"
skopeo copy --quiet --insecure-policy --src-tls-verify=false --dest-tls-verify=false --dest-creds bob:secret \
	"docker://$OPEN/test/tiny:lazy" "docker://$LOCKED/test/tiny:lazy" || bail "push failed"
push_layout "$T/tiny" test/tiny:plain --dest-creds bob:secret || bail "push failed"
start_netproxy "$LOCKED"
PROXY=$NETPROXY
lazy=$PROXY/test/tiny:lazy
plain=$PROXY/test/tiny:plain

# What digests an image has: everybody may know them.
manifest_of() { skopeo inspect --raw --tls-verify=false --creds bob:secret "docker://$1"; }
manifest_of "$LOCKED/test/tiny:lazy" >"$T/lazy.json"
manifest_of "$LOCKED/test/tiny:plain" >"$T/plain.json"
layer=$(jq -r '.layers[0].digest' "$T/lazy.json")
config=$(jq -r .config.digest "$T/lazy.json")
diff_id=$(curl -sf -u bob:secret "http://$LOCKED/v2/test/tiny/blobs/$config" | jq -r '.rootfs.diff_ids[0]')
large=$(jq -r '[.layers[]] | max_by(.size).digest' "$T/plain.json")

# A registry that has manifests and configurations and not one layer.
mimic() {
	local file=$1 dir=$T/mimic/v2/$2
	mkdir -p "$dir/manifests" "$dir/blobs"
	cp "$file" "$dir/manifests/latest"
	curl -sf -u bob:secret -o "$dir/blobs/$(jq -r .config.digest "$file")" \
		"http://$LOCKED/v2/test/tiny/blobs/$(jq -r .config.digest "$file")" || bail "no configuration"
}
mimic "$T/lazy.json" mimic/lazy
mimic "$T/plain.json" mimic/plain
start mimic python3 -u -m http.server --bind 127.0.0.1 --directory "$T/mimic" 0
wait_for 20 grep -q 'port [0-9]' "$T/mimic.log" || start_failed mimic
MIMIC=127.0.0.1:$(grep -o 'port [0-9]*' "$T/mimic.log" | cut -d' ' -f2)

# as NAMESPACE COMMAND...: with no docker configuration
as() {
	local -x CONTENTD_NAMESPACE=$CONTENTD_NAMESPACE-$1 DOCKER_CONFIG=$T/nothing
	shift
	"$@"
}
content() { ctr_ content get "$1" 2>"$T/content.err" | sha256sum | cut -d' ' -f1; }
# How many requests for a blob the registry had.
asked_for() { grep -c "GET /v2/test/tiny/blobs/$1" "$NETPROXY_LOG"; }
# prepare NAMESPACE KEY IMAGE: the first layer, by labels
prepare() {
	/usr/bin/python3 "$SOURCE_DIR/tests/prepare.py" "$CONTENTD/contentd.sock" "$CONTENTD_NAMESPACE-$1" "$2" "" \
		"containerd.io/snapshot.ref=$diff_id" "containerd.io/snapshot/cri.image-ref=$3" \
		"containerd.io/snapshot/cri.layer-digest=$layer"
}
read_all() { # the image of a namespace, file by file
	mkdir -p "$T/mnt"
	as "$1" ctl mount "$2" "$T/mnt" >"$T/mount.out" && tar -C "$T/mnt" -cf - . | wc -c
	as "$1" ctl unmount "$T/mnt" >"$T/mount.out"
}

shared() {
	local before
	start_contentd shared 'background = "off"'
	check_fails "without a password" as a ctl pull "$lazy"
	check "who has it pulls" as a ctl pull --creds bob:secret "$lazy"
	before=$(asked_for "$layer") # again, if a collection has overtaken the answer
	check_fails "another namespace does not, of the same image" as b ctl pull "$lazy"
	check_match "it is refused" "$(as b ctl pull "$lazy" 2>&1)" "(401|unauth)"
	check_fails "by its digest" as b ctl pull "$PROXY/test/tiny@sha256:$(sha256sum "$T/lazy.json" | cut -d' ' -f1)"
	check_fails "of another image there" as b ctl pull "$plain"
	check_fails "with a wrong password" as b ctl pull --creds bob:wrong "$lazy"
	check_fails "nor does a call without one, in the same namespace" as a ctl pull "$lazy"
	check_eq "labels open nothing, either" "$(prepare b one "$lazy")" OK
	check_fails "nor a registry that names the same layers" as b ctl pull "$MIMIC/mimic/lazy:latest"
	check_fails "no blob is known there" as b ctr_ content get "$layer"
	check_eq "and nothing has been fetched for all that" "$(asked_for "$layer")" "$before"
	kill -KILL "$(cat "$CONTENTD/state/contentfs.pid")" # the worker goes with it; both are replaced
	check "who may reads all of it afterwards" test "$(read_all a "$lazy")" -gt 10000
	check_eq "and its blobs" "sha256:$(as a content "$layer")" "$layer"
	check_eq "labels are good where the password was" "$(prepare a one "$lazy")" ALREADY_EXISTS
	check "with a password of its own the other one pulls" as b ctl pull --creds bob:secret "$lazy"
	check "and reads" test "$(read_all b "$lazy")" -gt 10000
	check_eq "nothing on disk, and no log, knows the password" \
		"$(grep -rlE 'bob:secret|Ym9iOnNlY3JldA' "$CONTENTD" "$T"/shared*.log)" ""
	retire_contentd
}

isolated() {
	start_contentd isolated 'background = "off"' '[content]' 'sharing = "isolated"'
	check "isolated: a pull" as a ctl pull --creds bob:secret "$plain"
	check "of a lazy image, too" as a ctl pull --creds bob:secret "$lazy"
	check_eq "whose first layer somebody reads as a blob" "sha256:$(as a content "$layer")" "$layer"
	check_fails "a registry that only names the layers" as b ctl pull "$MIMIC/mimic/plain:latest"
	check_fails "also of the lazy image" as b ctl pull "$MIMIC/mimic/lazy:latest"
	check "the other namespace pulls" as b ctl pull --creds bob:secret "$plain"
	check "the lazy one" as b ctl pull --creds bob:secret "$lazy"
	for digest in "$large" "$layer"; do
		: >"$NETPROXY_LOG"
		check_eq "it has the blobs" "sha256:$(as b content "$digest")" "$digest"
		check_eq "which are fetched although they are here" "$(asked_for "$digest")" 1
		check_eq "once" "$(as b content "$digest") $(asked_for "$digest")" "${digest#sha256:} 1"
	done
	retire_contentd
}

shared
isolated
finish
