#!/bin/bash
# The benchmark's images: what says when they are ready, that they and their forms are made once, and what makes them anew.
. "$(dirname "$0")/../lib.sh"
require skopeo jq
coldbench=$BIN/coldbench

# A folder per form, found again: what is in it is not made a second time.
blob() { cat "$1/blobs/sha256/${2#sha256:}"; }
manifest() { blob "$1" "$(jq -r '.manifests[0].digest' "$1/index.json")"; }
config() { blob "$1" "$(manifest "$1" | jq -r .config.digest)"; }
for form in gzip zstd estargz; do
	layout=$("$coldbench" images build shell --form "$form") || bail "shell cannot be made as $form"
	printf -v "$form" %s "$layout"
	check_eq "$form: says when it is ready" "$(config "$layout" | jq -r '.config.Labels["io.contentd.bench.ready"]')" line
done
before=$(stat -c %i:%Z "$estargz/index.json")
check_eq "a form is found again" "$("$coldbench" images build shell --form estargz)" "$estargz"
check_eq "as it was" "$(stat -c %i:%Z "$estargz/index.json")" "$before"
types() { manifest "$1" | jq -r '[.layers[].mediaType | sub(".*[.]"; "")] | unique | join(" ")'; }
check_eq "gzip: all its layers are that" "$(types "$gzip")" tar+gzip
check_eq "zstd: all its layers are that" "$(types "$zstd")" tar+zstd
check_eq "zstd: of the same files" "$(config "$zstd" | jq -c .rootfs)" "$(config "$gzip" | jq -c .rootfs)"
check_eq "estargz: all its layers have a table of contents" \
	"$(manifest "$estargz" | jq '[.layers[].annotations["containerd.io/snapshot/stargz/toc.digest"] != null] | all')" true

"$coldbench" images list --json >"$T/list.json" || bail "images list failed"
check_eq "nine images" "$(jq -r '[.[].name] | join(" ")' "$T/list.json")" \
	"data gcc java nginx node postgresql python redis shell"
check_eq "every kind of ready condition occurs" "$(jq -r '[.[].ready | sub(":.*"; "")] | unique | join(" ")' "$T/list.json")" \
	"exit file http line tcp"
check_match "the table has them, too" "$("$coldbench" images list)" '^nginx +http:80/ '
check_eq "bytes of the layers" "$(jq '.[] | select(.name == "shell").forms.zstd.layerBytes' "$T/list.json")" \
	"$(manifest "$zstd" | jq '[.layers[].size] | add')"

# Nothing stands in front where nothing was optimized.
check_match "an image that is not optimized is told" \
	"$(python3 "$SOURCE_DIR/bench/images/prefetched.py" "$estargz" app/hello.sh 2>&1)" 'not in front: app/hello.sh'

# What makes an image anew, and its forms with it: its own recipe and files, not those of others, and no comment.
mkdir -p "$T/source" "$T/build/bin"
cp -r "$SOURCE_DIR/bench" "$SOURCE_DIR/tests" "$T/source/"
rm -r "$T/source/bench/images/"{data,gcc,nginx,node,postgresql,python,redis} # two will do
cp "$BIN/contentctl" "$BIN/content-convert" "$T/build/bin/"
look() { BUILD=$T/build "$T/source/bench/forms.sh" --list >"$T/forms"; }
has() { awk -F '\t' -v f="$1" '$1 == "shell" && $2 == f { print $4 }' "$T/forms"; }
sed -i '2i # said again' "$T/source/bench/images.sh" "$T/source/bench/images/layers.py" "$T/source/bench/forms.sh"
echo '# said again' >>"$T/source/bench/images/java/recipe"
look
check_eq "a comment, another image: the same image" "$(has gzip)" "$gzip"
check_eq "and the same form" "$(has zstd)" "$zstd"
check_eq "by the same converter" "$(has estargz)" "$estargz"
echo >>"$T/build/bin/content-convert"
look
check_eq "another converter: another eStargz" "$(has estargz)" -
check_eq "which is nothing to zstd" "$(has zstd)" "$zstd"
echo >>"$T/source/bench/images/shell/hello.sh"
look
check_eq "another program: another image" "$(has gzip)" -
check_eq "and another form of it" "$(has zstd)" -

check_eq "a copy of it" "$("$coldbench" images build shell --form gzip --form zstd --out "$T/out" | tr '\n' ' ')" \
	"$T/out/shell $T/out/shell.zstd "
check "takes the place of an older one" "$coldbench" images build shell --out "$T/out"
check_same "and is the same" "$T/out/shell/index.json" "$gzip/index.json"
check_eq "with nothing beside it" "$(ls -A "$T/out" | tr '\n' ' ')" "shell shell.zstd "
mkdir -p "$T/mine/shell"
check_fails "what is no layout is left alone" "$coldbench" images build shell --out "$T/mine"
check_fails "an image that is not there" "$coldbench" images build shell nothing --out "$T/none"
check_fails "is told before another is made" test -e "$T/none"
check_fails "a form that is not there" "$coldbench" images build shell --form nothing
mkdir "$T/small"
mount -t tmpfs -o size=1m none "$T/small" || bail "mount"
defer umount "$T/small"
check_fails "a folder on a full disk" "$coldbench" images build shell --out "$T/small"
check_match "is told" "$(cat "$T/check.out")" 'No space left on device'
check_eq "nothing half is left in it" "$(ls -A "$T/small")" ""
check_fails "no images at all" env CONTENTD_SOURCE="$T" "$coldbench" images build

note "makers that are stopped, or not alone"
# The same images, forms of our own.
export CONTENTD_CACHE=$T/cache
mkdir -p "$CONTENTD_CACHE"
ln -s "$(dirname "$gzip")" "$CONTENTD_CACHE/images"
make() { exec env --default-signal=INT "$coldbench" images build shell --form zstd >"$T/made$1" 2>"$T/told$1"; }
# A skopeo that never ends.
mkdir "$T/slow"
printf '#!/bin/sh\n: >%s/slow/begun\n%s "$@"\nsleep 1000\n' "$T" "$(command -v skopeo)" >"$T/slow/skopeo"
chmod +x "$T/slow/skopeo"
PATH=$T/slow:$PATH make 0 &
pid=$!
wait_for 60 test -e "$T/slow/begun"
kill -INT $pid
wait $pid
check_eq "who is stopped says so" "$?" 130
check_eq "and that is all" "$(cat "$T/told0")" "forms: shell: zstd"
check_eq "and leaves nothing" "$(find "$CONTENTD_CACHE/forms" -type d | wc -l)$(leftovers "$CONTENTD_CACHE")" 2
# An image that is made for its form, by a script that the form's waits for.
printf '#!/bin/sh\ntrap "sleep 0.3; exit 1" TERM\n: >%s/slow/unpacks\nsleep 1000\n' "$T" >"$T/slow/mmdebstrap"
chmod +x "$T/slow/mmdebstrap"
CONTENTD_CACHE=$T/bare PATH=$T/slow:$PATH make 3 &
pid=$!
wait_for 60 test -e "$T/slow/unpacks"
kill -INT $pid
wait $pid
check_eq "nor does who makes the image" "$? $(ls "$T/bare" | tr '\n' ' ')" "130 images images.lock "
make 1 &
make 2 &
wait
check_same "two at once make the same" "$T/made1" "$T/made2"
check_eq "once" "$(cat "$T/told1" "$T/told2" | grep -c '^forms: shell: zstd$')" 1

note "what is out of date"
rm "$CONTENTD_CACHE/images" # those are everybody's
mapfile -t current < <("$SOURCE_DIR/bench/images.sh" --current)
current+=("$("$SOURCE_DIR/tests/peers.sh" --path trixie)" "$(dirname "$("$SOURCE_DIR/bench/peers/stargz.sh" --path sid)")")
check_eq "nine images, what they share, and programs are current" "${#current[@]}" 12
old=-0123456789abcdef
mkdir -p "${current[@]}" "$CONTENTD_CACHE"/{images/base,images/shell,forms/shell-zstd,peers/trixie,peers/stargz-sid,images}$old \
	"$CONTENTD_CACHE"/{forms/mine,peers/pruned}
folders() { find "$CONTENTD_CACHE" -mindepth 1 -maxdepth 2 -type d | sort >"$T/$1"; }
folders before
grep -vE -- "$old\$|/pruned\$" "$T/before" >"$T/wanted"
check_match "is told" "$("$coldbench" images prune --dry-run)" 'in 6 folders would be removed'
# They name one folder, and fail.
for broken in bench/images.sh bench/peers/stargz.sh; do
	printf '#!/bin/bash\n%q "$@" | head -n 1\nexit 1\n' "$SOURCE_DIR/$broken" >"$T/source/$broken"
	check_fails "nobody knows without $broken" env BUILD="$T/build" "$T/source/bench/prune.sh"
	cp "$SOURCE_DIR/$broken" "$T/source/$broken"
done
check_fails "nor without a build" env BUILD="$T/none" "$T/source/bench/prune.sh"
check_match "which is told" "$(cat "$T/check.out")" "no program $T/none/bin/contentctl"
folders after
check_same "so all of it stays" "$T/after" "$T/before"
check "goes" "$coldbench" images prune
folders after
check_same "alone" "$T/after" "$T/wanted"
finish
