#!/bin/bash
# Layers asked for by labels, one by one, as clients do that unpack by themselves: each waits for its own table of contents
# and for no other; what cannot be lazy is answered as an ordinary snapshot, and one line of the log says why.
. "$(dirname "$0")/../node.sh"
/usr/bin/python3 -c 'import grpc' 2>/dev/null || bail "python3-grpcio is missing: run cmake/setup.sh"
LEVEL=${LEVELS%% *}

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
start_registry --user bob secret
LOCKED=$REGISTRY
start_registry
publish "$T/tiny" test/tiny
skopeo copy --quiet --insecure-policy --src-tls-verify=false --dest-tls-verify=false --dest-creds bob:secret \
	"docker://$REGISTRY/test/tiny:lazy" "docker://$LOCKED/test/tiny:lazy" || bail "push failed"
echo text >"$T/text"
for lie in other damaged; do
	python3 "$SOURCE_DIR/tests/liar.py" "$T/$lie" "{\"files\": [{\"name\": \"$lie\", \"from\": \"$T/text\"}], \
		\"toc_digest\": \"sha256:$(sha256sum "$T/text" | cut -d' ' -f1)\"}" >"$T/liar.out" || bail "liar.py failed"
	push_layout "$T/$lie" "test/$lie:lazy" || bail "push failed"
done

# ---- what clients know of an image: its layers, and what their snapshots are to be called ----

document() { curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$REGISTRY/v2/$1"; }
# learn NAME: ${LAYERS[@]}, ${CHAINS[@]}, $MANIFEST, ${TOCS[@]}
learn() {
	local diff_id chain=
	document "$1/manifests/lazy" >"$T/manifest.json" || bail "no manifest of $1"
	MANIFEST=sha256:$(sha256sum "$T/manifest.json" | cut -d' ' -f1)
	mapfile -t LAYERS < <(jq -r '.layers[].digest' "$T/manifest.json")
	mapfile -t TOCS < <(jq -r '.layers[].annotations["containerd.io/snapshot/stargz/toc.digest"]' "$T/manifest.json")
	CHAINS=()
	for diff_id in $(document "$1/blobs/$(jq -r .config.digest "$T/manifest.json")" | jq -r '.rootfs.diff_ids[]'); do
		[ -z "$chain" ] || diff_id=sha256:$(printf '%s %s' "$chain" "$diff_id" | sha256sum | cut -d' ' -f1)
		chain=$diff_id
		CHAINS+=("$chain")
	done
}

ASKED=0
# ask NAMESPACE IMAGE TARGET PARENT LAYER [LABEL=VALUE...]: what Prepare answers. Nothing else keeps what it makes.
ask() {
	local ns=$1 image=$2 target=$3 parent=$4 layer=$5
	shift 5
	/usr/bin/python3 "$SOURCE_DIR/tests/prepare.py" "$CONTENTD/contentd.sock" "$CONTENTD_NAMESPACE-$ns" \
		"extract-$((ASKED += 1))-$RANDOM $target" "$parent" "containerd.io/snapshot.ref=$target" \
		"containerd.io/snapshot/cri.image-ref=$image" "containerd.io/snapshot/cri.layer-digest=$layer" \
		containerd.io/gc.root=x "$@"
}
# As CRI's labels are, and as those of ctr-remote.
ask_for() { ask "$1" "$2" "${CHAINS[$3]}" "${4-${CHAINS[$3 - 1]}}" "${LAYERS[$3]}"; }
ask_as_stargz() {
	/usr/bin/python3 "$SOURCE_DIR/tests/prepare.py" "$CONTENTD/contentd.sock" "$CONTENTD_NAMESPACE-$1" \
		"extract-stargz-$3" "${4-${CHAINS[$3 - 1]}}" "containerd.io/snapshot.ref=${CHAINS[$3]}" \
		"containerd.io/snapshot/remote/stargz.reference=$2" "containerd.io/snapshot/remote/stargz.digest=${LAYERS[$3]}" \
		containerd.io/gc.root=x
}

# ---- a table that does not come ----

learn test/tiny
[ "${#LAYERS[@]}" = 3 ] || bail "tiny has ${#LAYERS[@]} layers"
start_netproxy "$REGISTRY"
image=$NETPROXY/test/tiny:lazy

struck() { netproxy_ask stats | jq -e '[.fault_rules[].hits] | add > 0' >"$T/stats.out"; }
# While the first client waits, whatever it asks for in vain.
stalled() {
	local top
	start_contentd stalled 'background = "off"'
	netproxy_ask fault stall all "GET /v2/test/tiny/blobs/${LAYERS[2]}" >"$T/fault.out" || cat "$T/fault.out"
	# One after the other, as most clients ask. Had they to wait for the last one, they would be answered as ordinary.
	check_eq "the table of the last layer does not come: the first is here" "$(ask_for a "$image" 0 '')" ALREADY_EXISTS
	check_eq "and the second" "$(ask_for a "$image" 1)" ALREADY_EXISTS
	ask_for a "$image" 2 >"$T/top" 2>&1 &
	top=$!
	check "the last one waits" wait_for 10 struck
	check_eq "others do not: another client" "$(ask_for b "$image" 0 '')" ALREADY_EXISTS
	check_eq "nor by other labels" "$(ask_as_stargz b "$image" 1)" ALREADY_EXISTS
	check_eq "nor one that has them" "$(ask_for a "$image" 0 '')" ALREADY_EXISTS
	check "the last one still waits" kill -0 "$top"
	kill "$top"
	wait "$top" 2>/dev/null
	netproxy_ask clear >"$T/fault.out" || cat "$T/fault.out"
	check_eq "its client has given up; asked again it comes" "$(ask_for a "$image" 2)" ALREADY_EXISTS
	check_eq "all that were answered so are there" "$(CONTENTD_NAMESPACE+=-a ctr_ snapshots ls | grep -c Committed)" 3
	check_eq "nobody was given a layer to unpack" "$(grep -c 'is an ordinary one' "$T/stalled.1.log")" 0
	netproxy_ask fault stall all "GET /v2/test/tiny/blobs/${LAYERS[2]}" >"$T/fault.out" || cat "$T/fault.out"
	check_eq "once more for another client" "$(ask_for c "$image" 0 '')" ALREADY_EXISTS
	check "contentd ends beside an image that is not open yet" stop_contentd
	netproxy_ask clear >"$T/fault.out" || cat "$T/fault.out"
	restart_contentd
	retire_contentd
}

# ---- what is answered, and what the log says ----

# ordinary WHAT WHY NAMESPACE ASK...: the answer, and exactly one line
ordinary() {
	local what=$1 why=$2 log=$T/$CONTENTD_NAME.1.log before
	before=$(grep -c 'is an ordinary one' "$log")
	shift 2
	check_eq "$what: an ordinary snapshot" "$("$@")" OK
	check_eq "$what: one line of the log" "$(($(grep -c 'is an ordinary one' "$log") - before))" 1
	check_match "$what: says why" "$(grep 'is an ordinary one' "$log" | tail -n 1)" "$why"
}

fallbacks() {
	local none=sha256:$(printf '%064d' 1) text=sha256:$(sha256sum "$T/text" | cut -d' ' -f1) dead
	start_contentd fallbacks 'background = "off"' 'answer_timeout_ms = 300'
	image=$REGISTRY/test/tiny:lazy
	ordinary "no credentials" '401|[Uu]nauth' ask_for a "$LOCKED/test/tiny:lazy" 0 ''
	start_netproxy "$REGISTRY"
	dead=$NETPROXY
	stop_pid "$NETPROXY_PID"
	ordinary "a registry that is down" '[Cc]onnect' ask_for b "$dead/test/tiny:lazy" 0 ''
	ordinary "an image that is not there" 'not found|404|unknown' ask_for c "$REGISTRY/test/tiny:none" 0 ''
	ordinary "a manifest that is not there" 'not found|404|unknown' ask d "$image" "${CHAINS[0]}" '' "${LAYERS[0]}" \
		"containerd.io/snapshot/cri.manifest-digest=$none"
	ordinary "no reference" 'image "' ask e 'NO/Reference!' "${CHAINS[0]}" '' "${LAYERS[0]}"
	ordinary "a layer that the image has not" "has no layer $none" ask f "$image" "${CHAINS[0]}" '' "$none"
	ordinary "a layer's label that is no digest" 'cri.layer-digest' ask g "$image" "${CHAINS[0]}" '' nonsense
	ordinary "another layer's chain id" 'makes the chain id' ask h "$image" "${CHAINS[1]}" '' "${LAYERS[0]}"
	ordinary "another table than the image's" 'another table of contents' ask i "$image" "${CHAINS[0]}" '' \
		"${LAYERS[0]}" "containerd.io/snapshot/stargz/toc.digest=$text"
	check_eq "the image's own" "$(ask j "$image" "${CHAINS[0]}" '' "${LAYERS[0]}" \
		"containerd.io/snapshot/cri.manifest-digest=$MANIFEST" "containerd.io/snapshot/stargz/toc.digest=${TOCS[0]}")" \
		ALREADY_EXISTS
	learn test/other
	ordinary "a table that the manifest lies about" "should be $text" ask_for k "$REGISTRY/test/other:lazy" 0 ''
	learn test/tiny
	start_netproxy "$REGISTRY"
	image=$NETPROXY/test/tiny:lazy
	netproxy_ask fault stall all "GET /v2/test/tiny/blobs/${LAYERS[1]}" >"$T/fault.out" || cat "$T/fault.out"
	check_eq "a table that never comes: the layer below it is lazy" "$(ask_for l "$image" 0 '')" ALREADY_EXISTS
	ordinary "a table that never comes" "${LAYERS[1]}" ask_for l "$image" 1
	check_eq "contentfs has said so, too" "$(grep -c "${LAYERS[1]}.*not lazy for now" "$CONTENTD/state/contentfs.log")" 1
	netproxy_ask clear >"$T/fault.out" || cat "$T/fault.out"
	retire_contentd
}

stalled
fallbacks
finish
