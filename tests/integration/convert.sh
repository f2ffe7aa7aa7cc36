#!/bin/bash
# contentctl convert: whole images from place to place, what is asked of registries meanwhile, and what is refused.
. "$(dirname "$0")/../node.sh"

contentctl=$BIN/contentctl
convert() { "$contentctl" convert "$@"; }

status_of() {
	"$@" >"$T/status.out" 2>&1
	echo $?
}

# The documents of an image in the registry.
raw() { skopeo inspect --raw --tls-verify=false "docker://$1"; }
root_of() { jq -r '.manifests[0].digest' "$T/$1/index.json"; }
document() { cat "$T/$1/blobs/sha256/${2#*:}"; }

make_tiny_image --once "$T/tiny" || bail "tiny_image.py failed"
python3 "$SOURCE_DIR/tests/index_image.py" "$T/tiny" "$T/many" || bail "index_image.py failed"
python3 "$SOURCE_DIR/tests/index_image.py" --mib 1 --docker "$T/tiny" "$T/docker" || bail "index_image.py failed"
start_registry
start_netproxy "$REGISTRY"
push_layout "$T/many" test/many:plain --all || bail "push failed"

# Layers are stored nowhere on their way.
mkdir "$T/small"
mount -t tmpfs -o size=1m none "$T/small" || bail "no tmpfs"
defer umount "$T/small"
export TMPDIR=$T/small

# ---- layouts and archives ----

check "a layout" convert "oci:$T/tiny" "oci:$T/converted:v1"
check "is an image" umoci unpack --image "$T/converted:v1" "$T/converted.bundle"
reference_tree "$T/tiny" "$T/reference"
tree_list "$T/reference/rootfs" >"$T/reference.list"
rm -f "$T/converted.bundle/rootfs/.no.prefetch.landmark" "$T/converted.bundle/rootfs/stargz.index.json"
tree_list "$T/converted.bundle/rootfs" >"$T/converted.list"
# Directories that no layer names are of the time at which umoci made them.
check_same "the same one" <(grep -vE '^(\.|implied|implied/parents) ' "$T/converted.list") \
	<(grep -vE '^(\.|implied|implied/parents) ' "$T/reference.list")
check "into an archive" convert --threads 1 "oci:$T/tiny:latest" "oci-archive:$T/tiny.tar"
check "out of an archive" convert "oci-archive:$T/tiny.tar" "oci:$T/again:v1"
check_eq "threads make no difference" "$(root_of again)" "$(root_of converted)"
gzip -k "$T/tiny.tar"
check "out of a compressed one, with room for it" env TMPDIR="$T" "$contentctl" convert "oci-archive:$T/tiny.tar.gz" "oci:$T/again2:v1"
check_eq "the same image" "$(root_of again2)" "$(root_of converted)"
check "another tag beside it" convert "oci:$T/tiny" "oci:$T/converted:v2"
check_eq "is added" "$(jq -r '.manifests | length' "$T/converted/index.json")" 2
check "skopeo reads the archive" skopeo inspect "oci-archive:$T/tiny.tar"

# ---- a plan ----

netproxy_ask reset >"$T/ask"
convert --dry-run "$NETPROXY/test/many:plain" "$NETPROXY/test/many:lazy" >"$T/plan" 2>"$T/plan.err"
check_match "a plan" "$(cat "$T/plan")" '^sha256:[0-9a-f]{12} +10 MB +linux/arm64/v8 +gzip +estargz +convert$'
check_eq "names each layer once" "$(grep -c '^sha256:' "$T/plan")" 4
check_match "and what is left out" "$(cat "$T/plan.err")" 'is an attestation of sha256:[0-9a-f]+, which changes: left out'
check_eq "as JSON, too" "$(convert --dry-run --json "oci:$T/many" "oci:$T/planned" | jq -c '[.layers | length, .[0].action, .[3].platform], [.notes | length]')" \
	"$(printf '[4,"convert","linux/arm64/v8"]\n[1]')"
check_eq "it writes nothing" "$(grep -cE '^(POST|PUT|PATCH) ' "$NETPROXY_LOG"; ls -d "$T/planned" 2>/dev/null)" 0

# ---- registry to registry ----

check "all of an index" convert --json "$NETPROXY/test/many:plain" "$NETPROXY/test/many:lazy"
cp "$T/check.out" "$T/result"
raw "$REGISTRY/test/many:lazy" >"$T/index"
check_eq "is an index" "$(jq -r '.mediaType' "$T/index")" application/vnd.oci.image.index.v1+json
check_eq "of both platforms" "$(jq -c '.manifests[].platform' "$T/index")" \
	"$(printf '%s\n' '{"architecture":"amd64","os":"linux","os.features":["f"]}' '{"architecture":"arm64","os":"linux","variant":"v8"}')"
check_eq "what nobody knows stays" "$(jq -c '[.["x-unknown"], .manifests[].unknown]' "$T/index")" '[true,{"kept":[1.5]},{"kept":[1.5]}]'
check_eq "its digest is told" "$(jq -r .digest "$T/result")" "sha256:$(sha256sum "$T/index" | cut -d' ' -f1)"
check_eq "no blob was sent twice" "$(grep -o '^PUT .*digest=sha256:[0-9a-f]*' "$NETPROXY_LOG" | grep -o 'sha256:.*' | sort | uniq -d)" ""
check_eq "nothing was stored" "$(find "$T/small" -mindepth 1)" ""
mkdir "$T/bundles"
for arch in amd64 arm64; do
	check "$arch goes to other programs" skopeo copy --quiet --override-arch "$arch" --src-tls-verify=false \
		"docker://$REGISTRY/test/many:lazy" "oci:$T/copied:$arch"
	check "which unpack it" umoci unpack --image "$T/copied:$arch" "$T/bundles/$arch"
done
cmp -s "$T/bundles/arm64/rootfs/random" <(python3 -c 'import random, sys; sys.stdout.buffer.write(random.Random(1).randbytes(10 << 20))')
check_eq "with the same bytes" $? 0
check "into a layout it is the same" convert "oci:$T/many" "oci:$T/many.lazy:v1"
check_eq "image" "$(root_of many.lazy)" "$(jq -r .digest "$T/result")"

check_eq "one platform is no index" "$(convert -q --platform linux/arm64 --reuse "oci:$T/many.lazy:v1" "oci:$T/many" "oci:$T/arm:v1" 2>&1 >"$T/digest" | tail -n 1 | grep -c ' 4 reused;'; document arm "$(root_of arm)" | jq -r '.layers | length')" \
	"$(printf '1\n4')"
check_eq "it is the one of the index" "$(cat "$T/digest")" "$(jq -r '.manifests[1].digest' "$T/index")"
convert -q --platform linux/arm64 --platform linux/amd64 --reuse "oci:$T/many.lazy:v1" "oci:$T/many" "oci:$T/two:v1" >"$T/digest" 2>&1
check_eq "two are" "$(document two "$(root_of two)" | jq -r '.manifests | length')" 2
check_eq "an absent platform" "$(status_of convert --platform linux/s390x "oci:$T/many" "oci:$T/x")" 125
check_match "is told with those that exist" "$(cat "$T/status.out")" 'linux/amd64.*linux/arm64/v8'

convert -q "oci:$T/docker" "oci:$T/docker.lazy:v1" >"$T/digest" 2>&1
check_eq "a list of Docker's becomes an OCI index" "$(document docker.lazy "$(root_of docker.lazy)" | jq -r '.mediaType, .manifests[].mediaType')" \
	"$(printf '%s\n' application/vnd.oci.image.index.v1+json application/vnd.oci.image.manifest.v1+json application/vnd.oci.image.manifest.v1+json)"
check_eq "of OCI parts" "$(document docker.lazy "$(document docker.lazy "$(root_of docker.lazy)" | jq -r '.manifests[0].digest')" |
	jq -r '.config.mediaType, .layers[].mediaType' | sort -u | xargs)" \
	"application/vnd.oci.image.config.v1+json application/vnd.oci.image.layer.v1.tar+gzip"

check "attestations can be kept" convert --keep-attestations --reuse "oci:$T/many.lazy:v1" "oci:$T/many" "oci:$T/attested:v1"
check_eq "as they are" "$(document attested "$(root_of attested)" | jq -r '.manifests[2].digest')" \
	"$(document many "$(root_of many)" | jq -r '.manifests[2].digest')"
check "with all their parts" skopeo copy --quiet --all "oci:$T/attested:v1" "oci:$T/attested.copy:v1"

# ---- what is there already ----

# What netproxy has seen from here on.
mark() { wc -l <"$NETPROXY_LOG" >"$T/seen"; }
log_since() { tail -n "+$(($(cat "$T/seen") + 1))" "$NETPROXY_LOG"; }
mark

convert --json "$NETPROXY/test/many:plain" "$NETPROXY/test/many:lazy" >"$T/result2"
check_eq "a second time all is reused" "$(jq -c '[.layers[].action] | unique' "$T/result2")" '["reuse"]'
check_eq "into the same image" "$(jq -r .digest "$T/result2")" "$(jq -r .digest "$T/result")"
check_eq "no blob is read or sent" "$(log_since | grep -E '^(GET|PATCH|PUT) .*/blobs/' | grep -vE ' -> 2.* ([0-9]{1,4}) bytes')" ""
check_eq "nor asked for" "$(log_since | grep -cE '^(POST|PATCH) ')" 0
mark
convert --json --reuse "$NETPROXY/test/many:lazy" "$NETPROXY/test/many:plain" "$NETPROXY/other/many:lazy" >"$T/result3"
check_eq "--reuse for another repository" "$(jq -c '[.layers[] | .action, .mount, .transferred] | unique' "$T/result3")" '[false,true,"reuse"]'
check_eq "all layers are mounted" "$(log_since | grep -c '^POST .*mount=.*from=test%2Fmany\|^POST .*mount=.*from=test/many')" 4
check_eq "and none is sent" "$(log_since | grep -c '^PATCH ')" 0
mark
convert --json "$NETPROXY/test/many:lazy" "$NETPROXY/third/many:lazy" >"$T/result4"
check_eq "lazy layers are kept" "$(jq -c '[.layers[] | .action, .mount, .transferred] | unique' "$T/result4")" '[false,true,"keep"]'
check_eq "in an image that stays the same" "$(jq -r .digest "$T/result4")" "$(jq -r .digest "$T/result")"
check_eq "another level is another conversion" "$(convert --dry-run --json --level 1 "oci:$T/many" "oci:$T/many.lazy:v1" | jq -c '[.layers[].action] | unique')" '["convert"]'

# ---- other formats ----

before=$(document tiny "$(document tiny "$(root_of tiny)" | jq -r .config.digest)" | jq -c .rootfs.diff_ids)
for format in zstd:chunked zstd gzip; do
	dir=format-${format/:/-}
	convert -q --format "$format" "oci:$T/tiny" "oci:$T/$dir:v1" >"$T/digest" 2>"$T/err"
	check_eq "$format keeps the configuration" "$(document "$dir" "$(document "$dir" "$(root_of "$dir")" | jq -r .config.digest)" |
		jq -c .rootfs.diff_ids)" "$before"
done
check "external TOCs" convert --format estargz-external-toc "oci:$T/tiny" "$REGISTRY/test/tocs:v1"
check_eq "are in an image beside it" "$(raw "$REGISTRY/test/tocs:v1-esgztoc" | jq -r '.layers[].annotations["containerd.io/snapshot/stargz/layer.digest"]' | sort)" \
	"$(raw "$REGISTRY/test/tocs:v1" | jq -r '.layers[].digest' | sort)"
check_eq "and are reused with their layers" "$(convert --json --format estargz-external-toc "oci:$T/tiny" "$REGISTRY/test/tocs:v1" |
	jq -c '[.layers[].action] | unique')" '["reuse"]'
check_eq "without them a layer is not kept" "$(convert --dry-run --json "$REGISTRY/test/tocs:v1" "oci:$T/planned" | jq -c '[.layers[].action] | unique')" \
	'["convert"]'

# ---- what breaks ----

for fault in reset status=503; do
	netproxy_ask fault "$fault" 1 PATCH /v2/broken/ >"$T/ask"
	convert -q "oci:$T/many" "$NETPROXY/broken/${fault%=*}:v1" >"$T/digest" 2>"$T/err"
	check_eq "an upload that breaks ($fault) goes on" "$(cat "$T/digest")" "$(jq -r .digest "$T/result")"
done
netproxy_ask fault truncate=50% 1 GET /v2/test/many/blobs/ >"$T/ask"
convert -q --platform linux/arm64 "$NETPROXY/test/many:plain" "oci:$T/truncated:v1" >"$T/digest" 2>"$T/err"
check_eq "a download, too" "$(cat "$T/digest")" "$(jq -r '.manifests[1].digest' "$T/index")"
netproxy_ask clear >"$T/ask"

# The first byte of a layer is another one, for whoever reads it.
cp -r "$T/tiny" "$T/flipped"
layer=$(document tiny "$(root_of tiny)" | jq -r '.layers[1].digest')
printf 'x' | dd of="$T/flipped/blobs/sha256/${layer#*:}" bs=1 seek=1000 conv=notrunc status=none
check_eq "a layer of other bytes" "$(status_of convert "oci:$T/flipped" "oci:$T/x")" 125
check_match "is named" "$(cat "$T/status.out")" "layer $layer"
check_eq "and nothing is left" "$(ls -d "$T/x" 2>/dev/null)" ""

# Ctrl-C as soon as a fault has struck.
interrupt() {
	local pid
	netproxy_ask reset >"$T/ask"
	mark
	setsid "$contentctl" convert "$@" >"$T/interrupted" 2>&1 &
	pid=$!
	wait_for 20 eval '[ "$(netproxy_get faults)" -gt 0 ]'
	kill -INT "$pid"
	wait "$pid"
	echo "$? $(cat "$T/interrupted")"
}
netproxy_ask fault stall all PATCH /v2/stopped/ >"$T/ask"
check_eq "Ctrl-C in an upload" "$(interrupt "oci:$T/many" "$NETPROXY/stopped/many:v1")" "130 contentctl convert: interrupted"
check_match "which is deleted" "$(log_since)" '^DELETE /v2/stopped/many/blobs/uploads/.* -> 204'
netproxy_ask fault stall all GET "/v2/test/many/blobs/$layer" >"$T/ask"
check_eq "Ctrl-C in a download" "$(interrupt "$NETPROXY/test/many:plain" "oci:$T/x")" "130 contentctl convert: interrupted"
check_eq "and nothing is left" "$(ls -d "$T/x" 2>/dev/null)" ""
check_eq "nor of an archive" "$(interrupt "$NETPROXY/test/many:plain" "oci-archive:$T/x.tar"; ls "$T/x.tar"* 2>/dev/null)" \
	"130 contentctl convert: interrupted"
netproxy_ask clear >"$T/ask"

# ---- what is refused ----

python3 "$SOURCE_DIR/tests/index_image.py" --mib 1 --layer-type application/vnd.oci.image.layer.v1.tar+gzip+encrypted "$T/tiny" "$T/encrypted"
python3 "$SOURCE_DIR/tests/index_image.py" --mib 1 --layer-type application/vnd.docker.image.rootfs.foreign.diff.tar.gzip "$T/tiny" "$T/foreign"
python3 "$SOURCE_DIR/tests/index_image.py" --mib 1 --layer-type application/x "$T/tiny" "$T/strange"
python3 "$SOURCE_DIR/tests/index_image.py" --mib 1 --config-type application/vnd.cncf.helm.config.v1+json "$T/tiny" "$T/helm"
lazy=$(jq -r .digest "$T/result")
while IFS='|' read -r what status text arguments; do
	# shellcheck disable=SC2086 # words
	check_eq "$what" "$(status_of convert $arguments)" "$status"
	check_match "$what: why" "$(cat "$T/status.out")" "$text"
done <<-END
	Docker's places|125|stores Docker manifests, which cannot carry the annotations that laziness hangs on: use an OCI place|oci:$T/tiny docker-archive:$T/x
	losing laziness|125|4 of 4 layers are lazy already, --format gzip would make them ordinary: say --drop-lazy|--format gzip oci:$T/many.lazy:v1 oci:$T/x
	an encrypted layer|125|layer sha256:[0-9a-f]+ is encrypted: it cannot be read without the key|oci:$T/encrypted oci:$T/x
	a foreign layer|125|layer sha256:[0-9a-f]+ is not to be distributed|oci:$T/foreign oci:$T/x
	an unknown kind of layer|125|layer sha256:[0-9a-f]+ is of type application/x|oci:$T/strange oci:$T/x
	no image|125|is no image with layers|oci:$T/helm oci:$T/x
	external TOCs without a tag|125|external TOCs are tagged <tag>-esgztoc: .* it names a digest, give a tag|--format estargz-external-toc oci:$T/tiny $REGISTRY/test/x@$lazy
	a digest as the destination|125|what comes out has a digest of its own|oci:$T/tiny $REGISTRY/test/x@$lazy
	a diff ID that cannot be kept|125|puts its TOC into the tar|--keep-diff-id oci:$T/tiny oci:$T/x
	a level that is none|125|level 19: estargz has 1 to 12|--level 19 oci:$T/tiny oci:$T/x
	a reuse that is not there|125|--reuse $REGISTRY/test/absent:v1: |--reuse $REGISTRY/test/absent:v1 oci:$T/tiny oci:$T/x
	what is not there|125|$T/absent|oci:$T/absent oci:$T/x
	an unknown format|64|one of estargz,|--format tarball oci:$T/tiny oci:$T/x
	one place|64|from where to where|oci:$T/tiny
END
check_eq "nothing was written" "$(ls -d "$T/x" "$T/x.new" 2>/dev/null; raw "$REGISTRY/test/x:latest" 2>/dev/null)" ""

# ---- in a node ----

unset TMPDIR
LEVEL=tree
start_contentd node
check "ctr pulls all platforms" ctr_ images pull --plain-http --all-platforms "$REGISTRY/test/many:lazy"
check "it runs" ctl pull "$REGISTRY/test/many:lazy"
check_match "as it did" "$(ctl run --rm "$REGISTRY/test/many:lazy" 2>"$T/err")" '^hello from tiny$'
retire_contentd
finish
