#!/bin/bash
# The benchmark's images: what says when they are ready, that they and their forms are made once, and what makes them anew.
. "$(dirname "$0")/../lib.sh"
require skopeo jq
coldbench=$BIN/coldbench

"$coldbench" images list --json >"$T/list.json" || bail "images list failed"
check_eq "nine images" "$(jq -r '[.[].name] | join(" ")' "$T/list.json")" \
	"data gcc java nginx node postgresql python redis shell"
check_eq "every kind of ready condition occurs" "$(jq -r '[.[].ready | sub(":.*"; "")] | unique | join(" ")' "$T/list.json")" \
	"exit file http line tcp"
check_match "the table has them, too" "$("$coldbench" images list)" '^nginx +http:80/ '

# A folder per form, found again: what is in it is not made a second time.
blob() { cat "$1/blobs/sha256/${2#sha256:}"; }
manifest() { blob "$1" "$(jq -r '.manifests[0].digest' "$1/index.json")"; }
config() { blob "$1" "$(manifest "$1" | jq -r .config.digest)"; }
for form in gzip zstd estargz; do
	layout=$("$coldbench" images build shell --form "$form") || bail "shell cannot be made as $form"
	printf -v "$form" %s "$layout"
	check_eq "$form: says when it is ready" "$(config "$layout" | jq -r '.config.Labels["io.contentd.bench.ready"]')" line
	before=$(stat -c %i:%Z "$layout/index.json")
	check_eq "$form: is found again" "$("$coldbench" images build shell --form "$form")" "$layout"
	check_eq "$form: as it was" "$(stat -c %i:%Z "$layout/index.json")" "$before"
done
types() { manifest "$1" | jq -r '[.layers[].mediaType | sub(".*[.]"; "")] | unique | join(" ")'; }
check_eq "gzip: all its layers are that" "$(types "$gzip")" tar+gzip
check_eq "zstd: all its layers are that" "$(types "$zstd")" tar+zstd
check_eq "zstd: of the same files" "$(config "$zstd" | jq -c .rootfs)" "$(config "$gzip" | jq -c .rootfs)"
check_eq "estargz: all its layers have a table of contents" \
	"$(manifest "$estargz" | jq '[.layers[].annotations["containerd.io/snapshot/stargz/toc.digest"] != null] | all')" true
check_eq "list: bytes of the layers" \
	"$("$coldbench" images list --json | jq '.[] | select(.name == "shell").forms.zstd.layerBytes')" \
	"$(manifest "$zstd" | jq '[.layers[].size] | add')"

# Nothing stands in front where nothing was optimized.
check_match "an image that is not optimized is told" \
	"$(python3 "$SOURCE_DIR/bench/images/prefetched.py" "$estargz" app/hello.sh 2>&1)" 'not in front: app/hello.sh'

# What makes an image anew, and its forms with it: its own recipe and files, not those of others, and no comment.
mkdir -p "$T/source" "$T/build/bin"
cp -r "$SOURCE_DIR/bench" "$SOURCE_DIR/tests" "$T/source/"
cp "$BIN/contentctl" "$BIN/content-convert" "$T/build/bin/"
has() { BUILD=$T/build "$T/source/bench/forms.sh" --list | awk -F '\t' -v f="$1" '$1 == "shell" && $2 == f { print $4 }'; }
sed -i '2i # said again' "$T/source/bench/images.sh" "$T/source/bench/images/layers.py" "$T/source/bench/forms.sh"
echo '# said again' >>"$T/source/bench/images/java/recipe"
check_eq "a comment, another image: the same image" "$(has gzip)" "$gzip"
check_eq "and the same form" "$(has zstd)" "$zstd"
check_eq "by the same converter" "$(has estargz)" "$estargz"
echo >>"$T/build/bin/content-convert"
check_eq "another converter: another eStargz" "$(has estargz)" -
check_eq "which is nothing to zstd" "$(has zstd)" "$zstd"
echo >>"$T/source/bench/images/shell/hello.sh"
check_eq "another program: another image" "$(has gzip)" -
check_eq "and another form of it" "$(has zstd)" -

check_eq "a copy of it" "$("$coldbench" images build shell --form gzip --form zstd --out "$T/out" | tr '\n' ' ')" \
	"$T/out/shell $T/out/shell.zstd "
check "takes the place of an older one" "$coldbench" images build shell --out "$T/out"
check_same "and is the same" "$T/out/shell/index.json" "$gzip/index.json"
check_eq "with nothing beside it" "$(ls -A "$T/out" | tr '\n' ' ')" "shell shell.zstd "
mkdir -p "$T/mine/shell"
check_fails "what is no layout is left alone" "$coldbench" images build shell --out "$T/mine"
check_fails "an image that is not there" "$coldbench" images build nothing
check_fails "a form that is not there" "$coldbench" images build shell --form nothing
check_fails "no images at all" env CONTENTD_SOURCE="$T" "$coldbench" images build
finish
