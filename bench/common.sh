# shellcheck shell=bash
# What the demonstration and the comparisons of cold starts share. To be sourced by a script of this folder, as root, with
# `here` (the folder) and `image` set: registry, network and clean-up are those of tests/lib.sh.
"$here/../cmake/setup.sh" demo
# /var/tmp is on a disk, where /tmp may be memory.
export TMPDIR=/var/tmp
. "$here/../tests/lib.sh"
set -eE
T_FINISHED=1 # counts no assertions

say() { printf '%s\n' "$*" >&2; }
trap '[ $? -ge 128 ] || say "bench: failed: ${BASH_COMMAND%%$'"'\n'"'*}"' ERR

build() {
	[ ! -x "$BIN/contentd" ] || [ "$BUILD" = "$SOURCE_DIR/build" ] || return 0
	say "Build"
	(cd "$SOURCE_DIR" && cmake --preset release && cmake --build --preset release -j "$(nproc)") >"$T/build.log" 2>&1 || {
		tail -n 40 "$T/build.log" >&2
		bail "the build failed"
	}
}

# The sum of an image's compressed layers, from its manifest in the registry.
layers_bytes() {
	skopeo inspect --raw --tls-verify=false "docker://$REGISTRY/$1" | jq '[.layers[].size] | add'
}

publish() {
	local layout begin
	say "Images"
	layout=$("$here/images.sh" "$image")
	start_registry
	push_layout "$layout" "demo/$image:plain"
	begin=$EPOCHREALTIME
	"$BIN/contentctl" convert --format estargz "oci:$layout:latest" "$REGISTRY/demo/$image:estargz" >"$T/convert.log" 2>&1 || {
		cat "$T/convert.log" >&2
		bail "contentctl convert failed"
	}
	plain_bytes=$(layers_bytes "demo/$image:plain")
	lazy_bytes=$(layers_bytes "demo/$image:estargz")
	say "$(awk -v a="$begin" -v b="$EPOCHREALTIME" -v p="$plain_bytes" -v l="$lazy_bytes" 'BEGIN {
		printf "Converted to eStargz in %.1f s: %.1f MB of gzip became %.1f MB\n", b - a, p / 1e6, l / 1e6 }')"
}

# median FILE-SUFFIX WAY JQ: of a number over the runs
median() {
	cat "$T/$2".*."$1" | jq -s "[.[] | $3 // 0] | sort | .[(length - 1) / 2 | floor]"
}
