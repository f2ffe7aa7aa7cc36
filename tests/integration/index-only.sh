#!/bin/bash
# contentctl convert --index-only: seekable indexes for the gzip layers of an image as it stands, put beside it.
. "$(dirname "$0")/../lib.sh"

contentctl=$BIN/contentctl
gzindexcat=$BUILD/unit/gzindexcat
index_only() { "$contentctl" convert --index-only "$@"; }
require jq skopeo curl

status_of() {
	"$@" >"$T/status.out" 2>&1
	echo $?
}
document() { cat "$T/$1/blobs/sha256/${2#*:}"; }
root_of() { jq -r '.manifests[0].digest' "$T/$1/index.json"; }
# The manifest that a reference names, and a blob of a repository, by another program.
raw() { skopeo inspect --raw --tls-verify=false "docker://$1"; }
blob() { curl -sfL "http://$REGISTRY/v2/$1/blobs/$2"; }

# "SHA256 SIZE PATH" of the regular files of a layer, sorted, as Python unpacks it.
files_of() {
	python3 - "$1" <<-'END'
		import hashlib, posixpath, sys, tarfile

		files = {}
		with tarfile.open(sys.argv[1], "r:gz") as tar:
		    for entry in tar:
		        path = posixpath.normpath("/" + entry.name)[1:]
		        files.pop(path, None)
		        if entry.isreg() and not posixpath.basename(path).startswith(".wh."):
		            content = tar.extractfile(entry).read()
		            files[path] = f"{hashlib.sha256(content).hexdigest()} {len(content)} {path}"
		print(*sorted(files.values()), sep="\n")
	END
}

make_tiny_image --once "$T/tiny" || bail "tiny_image.py failed"
python3 "$SOURCE_DIR/tests/index_image.py" "$T/tiny" "$T/many" || bail "index_image.py failed"
start_registry
start_netproxy "$REGISTRY"
push_layout "$T/many" test/many:plain --all || bail "push failed"
mark() { wc -l <"$NETPROXY_LOG" >"$T/seen"; }
log_since() { tail -n "+$(($(cat "$T/seen") + 1))" "$NETPROXY_LOG"; }
writes_since() { log_since | grep -cE '^(POST|PUT|PATCH|DELETE) '; }
mark

# ---- a plan ----

check "a plan" index_only --dry-run "$NETPROXY/test/many:plain"
check_eq "names each layer once" "$(grep -cE '^sha256:.* to be built' "$T/check.out")" 4
check_eq "as JSON, too" "$(index_only --dry-run --json "$NETPROXY/test/many:plain" | jq -c '[([.layers[].action] | unique), (.images | length)]')" '[["index"],2]'
check_eq "it writes nothing" "$(writes_since)" 0

# ---- all images of an index ----

check_eq "indexes" "$(status_of index_only --json "$NETPROXY/test/many:plain")" 0
cp "$T/status.out" "$T/result"
check_eq "of what is worth one" "$(jq -c '[.layers[] | .reason // .action]' "$T/result")" \
	'["index","index","its index would be as large as itself","index"]'
check_eq "the image stays" "sha256:$(raw "$REGISTRY/test/many:plain" | sha256sum | cut -d' ' -f1)" "$(root_of many)"
check_eq "no blob is sent twice" "$(log_since | grep -o '^PUT .*digest=sha256[:%][0-9a-fA-F]*' | grep -o 'sha256.*' | sort | uniq -d)" ""
check_eq "each layer is read once" "$(log_since | grep -cE '^GET .*/blobs/.* -> 2.* [0-9]{6,} bytes')" 3
for image in 0 1; do
	subject=$(jq -r ".images[$image].manifest" "$T/result")
	check_eq "the subject is an image of the index" "$subject" "$(document many "$(root_of many)" | jq -r ".manifests[$image].digest")"
	raw "$REGISTRY/test/many:${subject/:/-}" >"$T/tagged"
	check_eq "the fallback tag names one referrer" "$(jq -c '[.manifests[].artifactType]' "$T/tagged")" '["application/vnd.contentd.gzip-index.v1"]'
	raw "$REGISTRY/test/many@$(jq -r '.manifests[0].digest' "$T/tagged")" >"$T/referrer"
	check_eq "of this subject" "$(jq -c '[.subject.digest, .subject.mediaType, .config.mediaType]' "$T/referrer")" \
		"[\"$subject\",\"application/vnd.oci.image.manifest.v1+json\",\"application/vnd.oci.empty.v1+json\"]"
	check_eq "with the size of it" "$(jq .subject.size "$T/referrer")" "$(document many "$subject" | wc -c)"
	check_eq "as the command said" "sha256:$(sha256sum <"$T/referrer" | cut -d' ' -f1)" "$(jq -r ".images[$image].referrer" "$T/result")"
	document many "$subject" >"$T/manifest"
	check_eq "for layers of the image, in its order" "$(jq -c '[.layers[].annotations["io.contentd.gzip-index.layer"]]' "$T/referrer")" \
		"$(jq -c --slurpfile result "$T/result" '[.layers[].digest | select(. as $d | $result[0].layers[] | .layer == $d and .action == "index")]' "$T/manifest")"
	document many "$(jq -r .config.digest "$T/manifest")" >"$T/config"
	while read -r layer artifact; do
		i=$(jq --arg layer "$layer" '[.layers[].digest] | index($layer)' "$T/manifest")
		blob test/many "$artifact" >"$T/artifact"
		check "an index leads through the layer" sh -c "$gzindexcat $T/artifact $T/many/blobs/sha256/${layer#*:} $(jq -r ".rootfs.diff_ids[$i]" "$T/config") >$T/got"
		sort "$T/got" >"$T/got.sorted"
		files_of "$T/many/blobs/sha256/${layer#*:}" | sort >"$T/want"
		check_same "to the contents that another program finds" "$T/got.sorted" "$T/want"
		check "which are some" test -s "$T/want"
	done < <(jq -r '.layers[] | .annotations["io.contentd.gzip-index.layer"] + " " + .digest' "$T/referrer")
done
check_eq "of another layer an index is refused" "$("$gzindexcat" "$T/artifact" "$T/many/blobs/sha256/$(jq -r '.layers[0].digest' "$T/manifest" | cut -c8-)" \
	"$(jq -r '.rootfs.diff_ids[0]' "$T/config")" 2>&1)" "gzindexcat: gzip index: of another layer"
check "skopeo copies such a referrer" skopeo copy --quiet --src-tls-verify=false "docker://$REGISTRY/test/many@$(jq -r '.images[0].referrer' "$T/result")" "oci:$T/copied:v1"

# ---- again ----

mark
index_only --json "$NETPROXY/test/many:plain" >"$T/again"
check_eq "a second time the same comes out" "$(jq -c '[.layers[].index], [.images[].referrer]' "$T/again")" \
	"$(jq -c '[.layers[].index], [.images[].referrer]' "$T/result")"
check_eq "is said to be there" "$(jq -c '[.images[].present]' "$T/again")" '[true,true]'
check_eq "and nothing is written" "$(writes_since)" 0
check_match "to people, too" "$(index_only -q "$NETPROXY/test/many:plain")" '^image sha256:[0-9a-f]{64}: its indexes are there already, as referrer sha256:[0-9a-f]{64}$'
push_layout "$T/many" test/one:plain --all || bail "push failed"
check_eq "of a chosen platform only" "$(index_only --json --platform linux/arm64 "$NETPROXY/test/one:plain" | jq -c '[.images[] | .manifest, .present]')" \
	"[$(jq -c '.images[1].manifest' "$T/result"),false]"
push_layout "$T/many" test/told:plain --all || bail "push failed"
index_only -q "$NETPROXY/test/told:plain" >"$T/told"
check_eq "people are told what lies where" "$(grep ^image "$T/told")" \
	"$(jq -r '.images[] | "image " + .manifest + ": its indexes are published as referrer " + .referrer' "$T/result")"
check_eq "others come to it" "$(index_only --json "$NETPROXY/test/one:plain" | jq -c '[.images[].present]')" '[false,true]'
check_eq "by digest" "$(index_only --json "$NETPROXY/test/one@$(jq -r '.images[0].manifest' "$T/result")" | jq -c '[.images[].present]')" '[true]'
skopeo copy --quiet --format v2s2 --dest-tls-verify=false "oci:$T/tiny" "docker://$REGISTRY/test/docker:v1" || bail "push failed"
check_eq "Docker's documents" "$(index_only --json "$NETPROXY/test/docker:v1" | jq -c '[.images[].present]')" '[false]'
check_eq "are subjects as they are" "$(raw "$REGISTRY/test/docker@$(index_only --json "$REGISTRY/test/docker:v1" | jq -r '.images[0].referrer')" | jq -r .subject.mediaType)" \
	application/vnd.docker.distribution.manifest.v2+json

# ---- layers that have none ----

for format in estargz zstd; do
	"$contentctl" convert -q --format "$format" "oci:$T/tiny" "$REGISTRY/test/$format:v1" >"$T/digest" 2>&1 || bail "convert failed"
done
mark
check_eq "lazy layers have none" "$(index_only --json "$NETPROXY/test/estargz:v1" | jq -c '[([.layers[].reason] | unique), .images[0].referrer]')" '[["lazy already (estargz)"],null]'
check_eq "nor have those of zstd" "$(index_only --json "$NETPROXY/test/zstd:v1" | jq -c '[([.layers[].reason] | unique), .images[0].referrer]')" '[["zstd, not gzip"],null]'
check_match "people are told" "$(index_only "$NETPROXY/test/zstd:v1")" '^image sha256:[0-9a-f]{64}: no layer of it has an index$'
python3 "$SOURCE_DIR/tests/index_image.py" --mib 1 --layer-type application/vnd.oci.image.layer.v1.tar+gzip+encrypted "$T/tiny" "$T/encrypted"
push_layout "$T/encrypted" test/encrypted:v1 --all || bail "push failed"
check_eq "nor encrypted ones" "$(index_only --dry-run --json "$NETPROXY/test/encrypted:v1" | jq -c '[.layers[-1] | .action, .reason]')" '["skip","encrypted"]'
python3 "$SOURCE_DIR/tests/index_image.py" --mib 1 --layer-type "$(printf 'application/x\033[31m\nred')" "$T/tiny" "$T/odd"
push_layout "$T/odd" test/odd:v1 --all || bail "push failed"
check_eq "nor those of an unknown type, which does not reach the terminal as it is" \
	"$(index_only --dry-run --json "$NETPROXY/test/odd:v1" | jq -c '[.layers[-1] | .action, .reason]')" '["skip","of type application/x?[31m red"]'
check_eq "nothing was written" "$(writes_since)" 0

# ---- what is not what it should be ----

# variant NAME FILTER: the tiny image with another configuration, or manifest, pushed as test/NAME:v1. The filter (jq)
# gets {manifest, config}.
variant() {
	local name=$1 manifest config digest
	cp -r "$T/tiny" "$T/$name"
	manifest=$(document tiny "$(root_of tiny)")
	config=$(document tiny "$(jq -r .config.digest <<<"$manifest")")
	jq -n --argjson manifest "$manifest" --argjson config "$config" "{\$manifest, \$config} | $2" >"$T/variant"
	jq -jc .config "$T/variant" >"$T/variant.config"
	digest=$(sha256sum <"$T/variant.config" | cut -d' ' -f1)
	cp "$T/variant.config" "$T/$name/blobs/sha256/$digest"
	jq -jc --arg d "sha256:$digest" --argjson n "$(wc -c <"$T/variant.config")" '.manifest | .config.digest = $d | .config.size = $n' "$T/variant" >"$T/variant.manifest"
	digest=$(sha256sum <"$T/variant.manifest" | cut -d' ' -f1)
	cp "$T/variant.manifest" "$T/$name/blobs/sha256/$digest"
	jq --arg d "sha256:$digest" --argjson n "$(wc -c <"$T/variant.manifest")" '.manifests[0] |= (.digest = $d | .size = $n)' "$T/tiny/index.json" >"$T/$name/index.json"
	push_layout "$T/$name" "test/$name:v1" || bail "push failed"
}
tags() { curl -s "http://$REGISTRY/v2/test/$1/tags/list" | jq -c .tags; }
layer=$(document tiny "$(root_of tiny)" | jq -r '.layers[1].digest')
first=$(document tiny "$(root_of tiny)" | jq -r '.layers[0].digest')

variant false ".config.rootfs.diff_ids[1] = \"sha256:$(printf x | sha256sum | cut -d' ' -f1)\""
mark
check_eq "a false DiffID" "$(status_of index_only "$NETPROXY/test/false:v1")" 125
check_match "is named" "$(cat "$T/status.out")" "layer $layer: it unpacks to sha256:[0-9a-f]{64}, the configuration says sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
check_eq "and nothing is pushed" "$(writes_since) $(tags false)" '0 ["v1"]'

stored=$REGISTRY_DIR/docker/registry/v2/blobs/sha256/$(cut -c8-9 <<<"$layer")/${layer#*:}/data
cp "$stored" "$T/stored"
push_layout "$T/tiny" test/broken:v1 || bail "push failed"
truncate -s -1000 "$stored"
mark
check_eq "a truncated layer" "$(status_of index_only "$NETPROXY/test/broken:v1")" 125
check_match "is named" "$(cat "$T/status.out")" "layer $layer: "
check_eq "and nothing is pushed" "$(writes_since) $(tags broken)" '0 ["v1"]'
cp "$T/stored" "$stored"
printf x | dd of="$stored" bs=1 seek=1000 conv=notrunc status=none
check_eq "a layer of other bytes" "$(status_of index_only "$NETPROXY/test/broken:v1")" 125
check_match "is named" "$(cat "$T/status.out")" "layer $layer: "
printf BZ | dd of="$stored" bs=1 conv=notrunc status=none
index_only --json "$NETPROXY/test/broken:v1" >"$T/other"
check_eq "one that begins as no gzip is left out" "$(jq -c --arg l "$layer" '[.layers[] | select(.layer == $l) | .reason]' "$T/other")" \
	'["no gzip, whatever its media type says"]'
check_eq "of the others there are indexes" "$(jq -c --arg l "$first" '[.layers[] | select(.layer == $l) | .action], [.images[].present]' "$T/other")" \
	"$(printf '["index"]\n[false]')"
cp "$T/stored" "$stored"

netproxy_ask fault truncate=50% 1 GET /v2/test/one/blobs/ >"$T/ask"
check_eq "a line that breaks is survived" "$(index_only --json "$NETPROXY/test/one:plain" | jq -c '[.images[].present]')" '[true,true]'
netproxy_ask reset >"$T/ask"
netproxy_ask fault stall all GET "/v2/test/false/blobs/$first" >"$T/ask"
mark
setsid "$contentctl" convert --index-only "$NETPROXY/test/false:v1" >"$T/interrupted" 2>&1 &
pid=$!
wait_for 20 eval '[ "$(netproxy_get faults)" -gt 0 ]'
kill -INT "$pid"
wait "$pid"
check_eq "Ctrl-C" "$? $(cat "$T/interrupted")" "130 contentctl convert: interrupted"
check_eq "leaves nothing" "$(writes_since)" 0
netproxy_ask clear >"$T/ask"

# ---- passwords ----

open=$REGISTRY
start_registry --user bob secret
skopeo copy --quiet --dest-tls-verify=false --dest-creds bob:secret "oci:$T/tiny" "docker://$REGISTRY/test/tiny:v1" || bail "push failed"
mkdir "$T/docker.other" "$T/docker.own"
jq -n --arg host "$open" --arg auth "$(printf bob:secret | base64)" '{auths: {($host): {auth: $auth}}}' >"$T/docker.other/config.json"
jq -n --arg host "$REGISTRY" --arg auth "$(printf bob:secret | base64)" '{auths: {($host): {auth: $auth}}}' >"$T/docker.own/config.json"
check_eq "the password of another registry is not shown" "$(DOCKER_CONFIG=$T/docker.other status_of index_only "$REGISTRY/test/tiny:v1")" 125
check_match "but asked for" "$(cat "$T/status.out")" '[Uu]nauthori[sz]ed|authentication'
check_eq "docker's configuration is" "$(DOCKER_CONFIG=$T/docker.own index_only --json "$REGISTRY/test/tiny:v1" | jq -c '[.images[].present]')" '[false]'
check_eq "or one that is given" "$(index_only --json --src-creds bob:secret "$REGISTRY/test/tiny:v1" | jq -c '[.images[].present]')" '[true]'

# ---- what is refused ----

while IFS='|' read -r what status text arguments; do
	# shellcheck disable=SC2086 # words
	check_eq "$what" "$(status_of index_only $arguments)" "$status"
	check_match "$what: why" "$(cat "$T/status.out")" "$text"
done <<-END
	a layout|125|indexes lie beside an image in a registry: bring it there first|oci:$T/tiny
	an archive|125|x.tar|oci-archive:$T/x.tar
	a destination|64|takes one image: its indexes come into the same repository|$open/test/one:plain $open/test/two:plain
	nothing|64|takes one image|
	a format|64|converts nothing|--format gzip $open/test/one:plain
	threads|64|converts nothing|--threads 2 $open/test/one:plain
	an image that is not there|125|test/absent|$open/test/absent:v1
END
finish
