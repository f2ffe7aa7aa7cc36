#!/bin/bash
# Makes the golden blobs anew: tests/golden/make.sh. What each is and who made it stands in good/blobs.json, which it
# writes, too. Run it only to renew them: other versions of these programs make other bytes.
#
# good/layer.tar.gz is the source (source.py, gzip -9n), everything else is made of it:
#
#	estargz*, zstd-stargz*   ctr-remote of Debian trixie (stargz-snapshotter 0.14.3): images convert
#	zstd-chunked*            skopeo and podman of Debian sid (containers/storage of 2025)
#	zstd-chunked-2022*       skopeo 1.9.3 and buildah 1.28.2 of Debian 12: other annotations, other footer, no tar-split
#	by-hand*                 by_hand.py: forms of which no writer is to be had any more
#
# bad/ has blobs with one thing wrong in each (bad.py). X.toc is the external TOC of X.blob: the layer of its TOC image.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
. "$here/../lib.sh" # registry, peers, clean-up
set -eE
T_FINISHED=1 # counts no assertions
require buildah skopeo python3
good=$here/good
rm -f "$good"/*
layer=$T/layer.tar
python3 "$here/source.py" "$layer"
gzip -9n <"$layer" >"$good/layer.tar.gz"
python3 "$here/blobs.py" layout "$layer" "$T/source"

record() { python3 "$here/blobs.py" record "$good" "$@"; }

# ---- ctr-remote, with a containerd of its own ----

start_ctr_remote
tar -C "$T/source" -cf "$T/source.tar" .
remote images import --base-name example.com/golden "$T/source.tar" >/dev/null

# ctr_remote NAME OPTION...
ctr_remote() {
	local name=$1 external=()
	shift
	remote images convert --oci "$@" example.com/golden:src "example.com/golden:$name" >/dev/null
	remote images export "$T/$name.tar" "example.com/golden:$name"
	mkdir "$T/$name"
	tar -C "$T/$name" -xf "$T/$name.tar"
	if [[ " $* " == *external* ]]; then
		remote images export "$T/$name-toc.tar" "example.com/golden:$name-esgztoc"
		mkdir "$T/$name-toc"
		tar -C "$T/$name-toc" -xf "$T/$name-toc.tar"
		external=("$T/$name-toc")
	fi
	record "$name" "ctr-remote 0.14.3: images convert --oci $*" "$T/$name" "${external[@]}"
}
for path in ./etc/hello.txt ./data/holes.bin; do
	printf '{"path":"%s","layerIndex":0}\n' "${path#./}"
done >"$T/record"
# The options' values are as small as the files.
ctr_remote estargz --estargz --estargz-chunk-size 8192
ctr_remote estargz-min-chunk --estargz --estargz-chunk-size 8192 --estargz-min-chunk-size 3000
ctr_remote estargz-external --estargz --estargz-chunk-size 8192 --estargz-external-toc
ctr_remote estargz-keep-diff-id --estargz --estargz-chunk-size 8192 --estargz-external-toc --estargz-keep-diff-id
(cd "$T" && ctr_remote estargz-prefetch --estargz --estargz-record-in record)
ctr_remote zstd-stargz --zstdchunked --zstdchunked-chunk-size 8192

# ---- containers/storage ----

args=(--quiet --insecure-policy --dest-compress-format zstd:chunked)
peer sid skopeo copy "${args[@]}" --dest-force-compress-format "oci:$T/source:src" "oci:$T/zstd-chunked:x"
record zstd-chunked "skopeo 1.22: copy --dest-compress-format zstd:chunked" "$T/zstd-chunked"
skopeo copy "${args[@]}" "oci:$T/source:src" "oci:$T/zstd-chunked-2022:x"
record zstd-chunked-2022 "skopeo 1.9.3, and buildah 1.28.2 the same: copy --dest-compress-format zstd:chunked" "$T/zstd-chunked-2022"

# push_by NAME PROGRAM...: podman or buildah, with a store of their own, write it
push_by() {
	local name=$1 id
	shift
	id=$("$@" pull --quiet --tls-verify=false "docker://$REGISTRY/golden/source:latest")
	"$@" push --quiet --compression-format zstd:chunked "$id" "oci:$T/$name:x"
}
start_registry
skopeo copy --quiet --insecure-policy --dest-tls-verify=false "oci:$T/source:src" "docker://$REGISTRY/golden/source:latest"
export CONTAINERS_STORAGE_CONF=$T/storage.conf
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/store"\nrunroot = "%s/run"\n' "$T" "$T" >"$T/storage.conf"
push_by buildah buildah
cmp "$T"/{buildah,zstd-chunked-2022}/index.json
push_by podman peer sid podman
record zstd-chunked-podman "podman 5.8: push --compression-format zstd:chunked" "$T/podman"

# ---- by hand, and bad ones ----

python3 "$here/by_hand.py" "$good"
python3 "$here/bad.py" "$here/bad"
jq -r 'to_entries[] | "\(.key)\t\(.value.bytes)\t\(.value.made_by)"' "$good/blobs.json"
