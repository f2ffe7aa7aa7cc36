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

# odd NAME KIND [ARG...]: an odd layout $T/NAME, out of $T/tiny
odd() {
	local name=$1 kind=$2
	shift 2
	python3 "$SOURCE_DIR/tests/odd_images.py" "$kind" "$T/tiny" "$T/$name" "$@" || bail "odd_images.py failed"
}
# The digest of layer N (from 0) of an image that is no index.
layer_of() { document "$1" "$(root_of "$1")" | jq -r ".layers[$2].digest"; }
# What netproxy has seen since the mark.
mark() { wc -l <"$NETPROXY_LOG" >"$T/seen"; }
log_since() { tail -n "+$(($(cat "$T/seen") + 1))" "$NETPROXY_LOG"; }
# Faults of netproxy: set from a clean slate, and whether they have struck.
break_() { netproxy_ask clear >"$T/ask" && netproxy_ask reset >"$T/ask" && netproxy_ask fault "$@" >"$T/ask" || bail "no fault $*"; }
struck() { check_eq "$1: it has struck" "$(netproxy_get faults)" "$2"; }

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
check "out of an archive" convert --reuse "oci-archive:$T/tiny.tar" "oci-archive:$T/tiny.tar" "oci:$T/again:v1"
check_eq "threads make no difference" "$(root_of again)" "$(root_of converted)"
gzip -k "$T/tiny.tar"
check "out of a compressed one, with room for it" env TMPDIR="$T" "$contentctl" convert --reuse "oci-archive:$T/tiny.tar" \
	"oci-archive:$T/tiny.tar.gz" "oci:$T/again2:v1"
check_eq "the same image" "$(root_of again2)" "$(root_of converted)"
check "another tag beside it" convert "oci:$T/tiny" "oci:$T/converted:v2"
check_eq "is added" "$(jq -r '.manifests | length' "$T/converted/index.json")" 2
check "skopeo reads the archive" skopeo inspect "oci-archive:$T/tiny.tar"

names_of() { jq -c '[.manifests[] | .annotations["org.opencontainers.image.ref.name"]]' "$T/$1/index.json"; }
check "without a tag" convert "oci:$T/tiny" "oci:$T/unnamed"
check "once more" convert --format zstd "oci:$T/tiny" "oci:$T/unnamed"
check_eq "there is one image, without a name" "$(names_of unnamed)" '[null]'
unnamed=$(root_of unnamed)
check "a tagged one beside it" convert "oci:$T/tiny" "oci:$T/unnamed:v1"
check_eq "does not take its place" "$(names_of unnamed) $(root_of unnamed)" "[null,\"v1\"] $unnamed"
check_eq "without a tag the unnamed one is read" "$(convert --dry-run --json "oci:$T/unnamed" "oci:$T/planned" | jq -r '.layers[0].from')" zstd
check_eq "or the only one" "$(convert --dry-run --json "oci:$T/tiny" "oci:$T/planned" | jq -r '.layers[0].from')" gzip
check_eq "of several one has to be chosen" "$(status_of convert "oci:$T/converted" "oci:$T/planned")" 125
check_match "which is said" "$(cat "$T/status.out")" 'holds 2 images: name one as oci:.*:TAG'

# What is said to be a compressed archive is unpacked into TMPDIR: no more of it than an archive may have.
{ head -c 1024 "$T/tiny.tar" && head -c 512M /dev/zero; } | gzip -1 >"$T/bomb.tar.gz"
check_fails "an archive that is a bomb" env TMPDIR="$T" "$contentctl" convert --dry-run "oci-archive:$T/bomb.tar.gz" "oci:$T/planned"
check_match "is told" "$(cat "$T/check.out")" "archive $T/bomb.tar.gz: it becomes more than 100 times as large"
rm "$T/bomb.tar.gz"

# Many at a time into one layout: of what they do all is there.
pids=()
for i in 1 2 3 4 5 6 7 8; do
	convert -q --reuse "oci:$T/converted:v1" "oci:$T/tiny" "oci:$T/busy:v$i" >"$T/busy.$i" 2>&1 &
	pids+=($!)
done
for pid in "${pids[@]}"; do
	wait "$pid" || note "one of many failed: $(cat "$T"/busy.?)"
done
check_eq "eight at a time are eight" "$(names_of busy | jq -c sort)" '["v1","v2","v3","v4","v5","v6","v7","v8"]'
check_eq "and no file of theirs is left" "$(find "$T/busy" -name '.new-*')" ""

# What is named is on the disk: folders are synced before the file that names what is in them, and after that.
strace -f -y -e trace=fsync,rename,renameat,renameat2 -o "$T/strace" "$BIN/content-convert" "oci:$T/tiny" "oci:$T/durable:v1" >"$T/digest" 2>&1
order=$(sed -nE 's/^[0-9]+ +fsync\([0-9]+<([^>]*)>.*/fsync \1/p; s/^[0-9]+ +rename.*"([^"]+)"\).*/rename \1/p' "$T/strace" |
	sed -E "s,$T,T,; s/\.new-[0-9a-f]+/NEW/; s/[0-9a-f]{64}/BLOB/" | awk '!seen[$0]++' | paste -sd ' ')
check_eq "blobs, folders, index" "$order" "fsync T/durable/blobs/sha256/NEW rename BLOB fsync T/durable/blobs/sha256 fsync T/durable/blobs fsync T \
fsync T/durable/NEW rename oci-layout fsync T/durable rename index.json"
strace -f -y -e trace=fsync,rename -o "$T/strace" "$BIN/content-convert" "oci:$T/tiny" "oci-archive:$T/durable.tar" >"$T/digest" 2>&1
order=$(sed -nE 's/^[0-9]+ +(fsync\([^)]*\)|rename\(.*, "[^"]*"\)).*/\1/p' "$T/strace" | sed -E "s,$T,T,g; s/\.new-[0-9a-f]+/.NEW/g" | tail -n 3 | sed -E 's/\([0-9]+/(/' | paste -sd ' ')
check_eq "an archive, its name, its folder" "$order" 'fsync(<T/durable.tar.NEW>) rename("T/durable.tar.NEW", "T/durable.tar") fsync(<T>)'

# A file that lies where a temporary one might.
echo mine >"$T/mine"
ln -s "$T/mine" "$T/link.tar.new"
check "an archive beside a link" convert --reuse "oci:$T/converted:v1" "oci:$T/tiny" "oci-archive:$T/link.tar"
check_eq "which is left alone" "$(cat "$T/mine")" mine

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
convert --json --reuse "$NETPROXY/test/many:lazy" "$NETPROXY/test/many:lazy" "$NETPROXY/third/many:lazy" >"$T/result4"
check_eq "lazy layers are kept" "$(jq -c '[.layers[] | .action, .mount, .transferred] | unique' "$T/result4")" '[false,true,"keep"]'
check_eq "in an image that stays the same" "$(jq -r .digest "$T/result4")" "$(jq -r .digest "$T/result")"

# What layers of the source say of their making is not handed on, unless somebody vouches for it.
marks_of() { convert -q "$@" >"$T/digest" 2>&1; document kept "$(root_of kept)" | jq -c '[.layers[].annotations | keys[] | select(test("contentd"))] | unique'; }
check_eq "marks of a source go" "$(marks_of "oci:$T/converted:v1" "oci:$T/kept:v1")" '[]'
check_match "which is said" "$(convert --dry-run "oci:$T/converted:v1" "oci:$T/planned" 2>&1)" '3 layers are kept, but not what they say of their making \(--reuse oci:.*/converted:v1 keeps it\)'
check_eq "the same layers without them" "$(layer_of kept 0)" "$(layer_of converted 0)"
again=$(root_of kept)
convert -q "oci:$T/kept:v1" "oci:$T/kept:v2" >"$T/digest" 2>"$T/err"
check_eq "without them nothing changes" "$(cat "$T/digest")" "$again"
rm -r "$T/kept"
check_eq "marks that --reuse has, too, stay" "$(marks_of --reuse "oci:$T/converted:v1" "oci:$T/converted:v1" "oci:$T/kept:v1")" \
	'["io.contentd.convert","io.contentd.source.digest"]'
# What a copy left that broke off is not taken for the blob.
blob=$T/torn/blobs/$(layer_of converted 2 | tr : /)
cp -r "$T/converted" "$T/torn"
truncate -s 10 "$blob"
check "onto a torn blob" convert -q "oci:$T/converted:v1" "oci:$T/torn:v2"
check_eq "it is made whole" "sha256:$(sha256sum "$blob" | cut -d' ' -f1)" "$(layer_of converted 2)"
rm -r "$T/torn"
# A foreign image says that its first layer is what the second one of ours becomes.
how=$(document converted "$(root_of converted)" | jq -r '.layers[0].annotations["io.contentd.convert"]')
odd forged marked "$(layer_of tiny 1)" "$how" "containerd.io/snapshot/stargz/toc.digest=sha256:$(printf '%064d' 0)"
convert -q "oci:$T/forged" "oci:$T/victim:v1" >"$T/digest" 2>&1
convert -q "oci:$T/tiny" "oci:$T/victim:v1" >"$T/digest" 2>"$T/err"
check_eq "a foreign layer does not become one of ours" "$(cat "$T/digest")" "$(root_of converted)"
convert -q --format zstd "oci:$T/tiny" "oci:$T/how:v1" >"$T/digest" 2>&1
how=$(document how "$(root_of how)" | jq -r '.layers[0].annotations["io.contentd.convert"]')
odd other marked "$(layer_of tiny 1)" "$how"
check_eq "what has another DiffID is not reused" "$(convert --dry-run --json --format zstd --reuse "oci:$T/other" "oci:$T/tiny" "oci:$T/planned" |
	jq -c '[.layers[].action]')" '["convert","convert","convert"]'
odd old.notes noted old
odd new.notes noted new
convert -q "oci:$T/old.notes" "oci:$T/noted:old" >"$T/digest" 2>&1
convert -q --reuse "oci:$T/noted:old" "oci:$T/new.notes" "oci:$T/noted:new" >"$T/digest" 2>"$T/err"
check_match "layers are reused" "$(cat "$T/err")" ' 3 reused;'
check_eq "with the annotations of now" "$(document noted "$(cat "$T/digest")" | jq -c '[.layers[].annotations["example.note"]]')" '["new","new","new"]'
convert -q "oci:$T/new.notes" "oci:$T/noted2:new" >"$T/digest" 2>"$T/err"
check_eq "as if they were converted anew" "$(root_of noted2)" "$(jq -r '.manifests[1].digest' "$T/noted/index.json")"
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
# Nobody finds new TOCs beside the former image for longer than between two requests, nor after a failure.
mark
check "other ones" convert --format estargz-external-toc --level 1 "oci:$T/tiny" "$NETPROXY/test/tocs:v1"
check_eq "are there before they are named, just before the image" "$(log_since | grep -oE 'PUT /v2/test/tocs/manifests/(sha256|v1)[^ :]*' | xargs -n2)" \
	"$(printf 'PUT /v2/test/tocs/manifests/%s\n' sha256 sha256 v1-esgztoc v1)"
former="$(raw "$REGISTRY/test/tocs:v1" | sha256sum) $(raw "$REGISTRY/test/tocs:v1-esgztoc" | sha256sum)"
break_ status=403 every=2 "PUT /v2/test/tocs/manifests/v1"
check_fails "an image that is not taken" convert --format estargz-external-toc --level 2 "oci:$T/tiny" "$NETPROXY/test/tocs:v1"
struck "the image" 1
check_eq "leaves the former one and its TOCs" "$(raw "$REGISTRY/test/tocs:v1" | sha256sum) $(raw "$REGISTRY/test/tocs:v1-esgztoc" | sha256sum)" "$former"
# The registry takes the image, but its answers are lost. The first rule only keeps the TOCs from the second one.
break_ stall=1 all "PUT /v2/test/tocs/manifests/v1-esgztoc"
netproxy_ask fault lose all "PUT /v2/test/tocs/manifests/v1" >"$T/ask"
before=$(raw "$REGISTRY/test/tocs:v1")
check_fails "an image that is taken, without a word" convert --format estargz-external-toc --level 3 "oci:$T/tiny" "$NETPROXY/test/tocs:v1"
after=$(raw "$REGISTRY/test/tocs:v1")
check_fails "is named" test "$before" = "$after"
check_eq "beside its own TOCs" "$(raw "$REGISTRY/test/tocs:v1-esgztoc" | jq -r '.layers[].annotations["containerd.io/snapshot/stargz/layer.digest"]' | sort)" \
	"$(jq -r '.layers[].digest' <<<"$after" | sort)"
break_ status=403 all "GET /v2/test/tocs/manifests/v1-esgztoc"
check_eq "TOCs that cannot be read" "$(status_of convert --dry-run "$NETPROXY/test/tocs:v1" "oci:$T/planned")" 125
check_match "are no missing ones" "$(cat "$T/status.out")" 'external TOCs .*-esgztoc.*HTTP 403'
netproxy_ask clear >"$T/ask"
long=$(printf 'a%.0s' {1..125})
check "a tag without room for a suffix" convert "oci:$T/tiny" "$REGISTRY/test/tocs:$long"
check_eq "has no external TOCs" "$(convert --dry-run --json "$REGISTRY/test/tocs:$long" "oci:$T/planned" | jq -c '[.layers[].action] | unique')" '["keep"]'
check_fails "nor gets any" convert --format estargz-external-toc "oci:$T/tiny" "$REGISTRY/test/tocs:$long"
check_match "which is said" "$(cat "$T/check.out")" 'tagged <tag>-esgztoc: .*: that tag would be too long'
check_fails "a layout without a tag does not, either" convert --format estargz-external-toc "oci:$T/tiny" "oci:$T/x"
check "in a layout with one" convert --format estargz-external-toc "oci:$T/tiny" "oci:$T/tocs:v1"
check_eq "they are beside the image" "$(names_of tocs)" '["v1-esgztoc","v1"]'
check_eq "without them a layer is not kept" "$(convert --dry-run --json "$REGISTRY/test/tocs:v1" "oci:$T/planned" | jq -c '[.layers[].action] | unique')" \
	'["convert"]'

# The image of the TOCs is lost: what is left says in its last bytes that it is not lazy by itself.
cp -r "$T/tocs" "$T/lost"
jq '.manifests |= map(select(.annotations["org.opencontainers.image.ref.name"] == "v1"))' "$T/tocs/index.json" >"$T/lost/index.json"
for place in "oci:$T/lost:v1" "oci-archive:$T/lost.tar" "$NETPROXY/test/lost:v1"; do
	[ "${place%%:*}" = oci ] || skopeo copy --quiet --dest-tls-verify=false "oci:$T/lost:v1" "${place/#127/docker://127}" || bail "no $place"
	mark
	check_eq "layers without their TOCs are converted ($(basename "$place"))" "$(convert --dry-run --json "$place" "oci:$T/planned" |
		jq -c '[.layers[] | .from, .action] | unique')" '["convert","estargz-external-toc"]'
done
check_eq "of which the last bytes are asked for" "$(log_since | grep '^GET .*/blobs/.* -> 206 72 bytes' | wc -l)" 3
check "and are lazy then" convert "oci:$T/lost:v1" "oci:$T/found:v1"
check_eq "by themselves" "$(convert --dry-run --json "oci:$T/found:v1" "oci:$T/planned" | jq -c '[.layers[] | .from, .action] | unique')" '["estargz","keep"]'
break_ status=404 all "GET /v2/test/lost/blobs/$(layer_of lost 0)"
check_fails "a layer whose end cannot be read" convert --dry-run "$NETPROXY/test/lost:v1" "oci:$T/planned"
check_match "is named" "$(cat "$T/check.out")" "the end of layer $(layer_of lost 0): .*404"
netproxy_ask clear >"$T/ask"

# ---- what breaks ----

for fault in reset status=503 status=429; do
	break_ "$fault" 2 PATCH /v2/broken/
	convert -q "oci:$T/many" "$NETPROXY/broken/${fault#*=}:v1" >"$T/digest" 2>"$T/err"
	check_eq "an upload that breaks ($fault) goes on" "$(cat "$T/digest")" "$(jq -r .digest "$T/result")"
	struck "an upload that breaks ($fault)" 2
done
big=$(raw "$REGISTRY/test/many@$(raw "$REGISTRY/test/many:plain" | jq -r '.manifests[1].digest')" | jq -r '.layers[-1].digest')
break_ truncate=50% 1 GET "/v2/test/many/blobs/$big"
convert -q --platform linux/arm64 "$NETPROXY/test/many:plain" "oci:$T/truncated:v1" >"$T/digest" 2>"$T/err"
check_eq "a download, too" "$(cat "$T/digest")" "$(jq -r '.manifests[1].digest' "$T/index")"
struck "a download" 1
# A PATCH breaks, and the upload is not there any more: it is begun again.
for what in converted copied; do
	break_ status=503 1 PATCH "/v2/lost/$what/blobs/uploads/"
	netproxy_ask fault status=404 1 GET "/v2/lost/$what/blobs/uploads/" >"$T/ask"
	from=many
	[ "$what" = converted ] || from=many.lazy:v1
	check "a lost upload ($what)" convert --reuse "oci:$T/many.lazy:v1" --level "$([ "$what" = converted ] && echo 5 || echo 6)" \
		--platform linux/arm64 "oci:$T/$from" "$NETPROXY/lost/$what:v1"
	struck "a lost upload ($what)" 2
done
netproxy_ask clear >"$T/ask"

# The first byte of a layer is another one, for whoever reads it.
cp -r "$T/tiny" "$T/flipped"
layer=$(document tiny "$(root_of tiny)" | jq -r '.layers[1].digest')
printf 'x' | dd of="$T/flipped/blobs/sha256/${layer#*:}" bs=1 seek=1000 conv=notrunc status=none
check_eq "a layer of other bytes" "$(status_of convert "oci:$T/flipped" "oci:$T/x")" 125
check_match "is named" "$(cat "$T/status.out")" "layer $layer"
check_eq "and nothing is left" "$(ls -d "$T/x" 2>/dev/null)" ""

odd shorter marked x y
truncate -s -1 "$T/shorter/blobs/sha256/$(layer_of shorter 0 | cut -d: -f2)"
cp -r "$T/tiny" "$T/longer"
echo >>"$T/longer/blobs/sha256/$(layer_of longer 0 | cut -d: -f2)"
odd fifo fifo
odd empty empty
odd fewer fewer
odd hundreds layers 500
for kind in shorter longer fifo; do
	check_eq "a $kind blob" "$(status_of timeout 20 "$contentctl" convert "oci:$T/$kind" "oci:$T/x")" 125
	check_match "is told by its size ($kind)" "$(cat "$T/status.out")" "blob [0-9a-f]+ has [0-9]+ bytes of [0-9]+"
done
check "hundreds of layers" convert "oci:$T/hundreds" "oci:$T/hundreds.lazy:v1"
check_eq "are as many" "$(document hundreds.lazy "$(root_of hundreds.lazy)" | jq '.layers | length')" \
	"$(document hundreds "$(root_of hundreds)" | jq '.layers | length')"

# No room: 1 MiB for 10.
for place in "oci:$T/small/full:v1" "oci-archive:$T/small/full.tar"; do
	check_eq "a full disk (${place%%:*})" "$(status_of env TMPDIR="$T" "$contentctl" convert "oci:$T/many" "$place")" 125
	check_match "is told" "$(cat "$T/status.out")" 'small/full.*No space left on device'
	check_eq "and nothing is left there" "$(ls -A "$T/small")" ""
done

# Ctrl-C as soon as it is time: 'struck' a fault, or 'seen FILE'. Its status, what it said, and whether that was soon.
interrupt() {
	local when=$1 pid begin
	shift
	netproxy_ask reset >"$T/ask"
	mark
	setsid "$contentctl" convert "$@" >"$T/interrupted" 2>&1 &
	pid=$!
	case $when in
	struck) wait_for 20 eval '[ "$(netproxy_get faults)" -gt 0 ]' || note "no fault" ;;
	*) wait_for 20 eval "ls $when" || note "no $when" ;;
	esac
	kill -INT "$pid"
	begin=$(date +%s%N)
	wait_for 30 eval "! kill -0 $pid" || kill -KILL "$pid"
	wait "$pid"
	echo "$? $(cat "$T/interrupted")$([ $(($(date +%s%N) - begin)) -lt 5000000000 ] || echo ', but late')"
}
break_ stall all PATCH /v2/stopped/
check_eq "Ctrl-C in an upload" "$(interrupt struck "oci:$T/many" "$NETPROXY/stopped/many:v1")" "130 contentctl convert: interrupted"
check_match "which is deleted" "$(log_since)" '^DELETE /v2/stopped/many/blobs/uploads/.* -> 204'
break_ stall all GET "/v2/test/many/blobs/$layer"
check_eq "Ctrl-C in a download" "$(interrupt struck "$NETPROXY/test/many:plain" "oci:$T/x")" "130 contentctl convert: interrupted"
check_eq "and nothing is left" "$(ls -d "$T/x" 2>/dev/null)" ""
check_eq "nor of an archive" "$(interrupt struck "$NETPROXY/test/many:plain" "oci-archive:$T/x.tar"; ls "$T/x.tar"* 2>/dev/null)" \
	"130 contentctl convert: interrupted"
break_ stall all GET /v2/stopped/many/manifests/
check_eq "Ctrl-C in a question to the destination" "$(interrupt struck "oci:$T/many" "$NETPROXY/stopped/many:v1")" \
	"130 contentctl convert: interrupted"
break_ stall all GET "/v2/test/many/blobs/$(raw "$REGISTRY/test/many@$(jq -r '.manifests[0].digest' "$T/index")" | jq -r .config.digest)"
check_eq "and in a download from there" "$(interrupt struck "oci:$T/many" "$NETPROXY/test/many:lazy")" "130 contentctl convert: interrupted"
odd sparse sparse 6000000000
check_eq "Ctrl-C in a copy" "$(interrupt "$T/x/blobs/sha256/.new-*" --format zstd:chunked "oci:$T/sparse" "oci:$T/x")" \
	"130 contentctl convert: interrupted"
check_eq "of which nothing is left" "$(ls -d "$T/x" 2>/dev/null)" ""

# Two at a time, of which one fails: what the other one counts on stays.
break_ stall all GET "/v2/test/many/blobs/$big"
setsid "$contentctl" convert "$NETPROXY/test/many:plain" "oci:$T/shared:both" >"$T/interrupted" 2>&1 &
pid=$!
wait_for 20 eval '[ "$(netproxy_get faults)" -gt 0 ]' || note "no fault"
convert -q --platform linux/amd64 "$REGISTRY/test/many:plain" "oci:$T/shared:one" >"$T/digest" 2>"$T/err"
kill -INT "$pid"
wait "$pid"
check_eq "one of two is interrupted" "$?" 130
check_eq "the other one is whole" "$(document shared "$(root_of shared)" | jq -r '.config.digest, .layers[].digest' | cut -d: -f2 |
	while read -r hex; do [ -e "$T/shared/blobs/sha256/$hex" ] || echo "no $hex"; done)" ""
netproxy_ask clear >"$T/ask"

# ---- documents that are odd ----

odd repeated repeated
check "one document, millions of times" timeout 20 "$contentctl" convert "oci:$T/repeated" "oci:$T/repeated.lazy:v1"
check_eq "is read and written once" "$(find "$T/repeated.lazy/blobs/sha256" -type f | wc -l)" 7
odd crowd crowd
odd heavy heavy
odd unread unread
odd escapes platform '\x1b[31mred\x9b\n'
check_match "names are clean" "$(convert --dry-run "oci:$T/escapes" "oci:$T/planned" | cat -v)" ' \?\[31mred\?. */amd64 '
convert -q --json "oci:$T/unread" "oci:$T/read:v1" >"$T/notes"
check_eq "what is lost is said" "$(jq -r '.notes[]' "$T/notes" | sed -E 's/sha256:[0-9a-f]{64}/DIGEST/')" "$(
	cat <<-END
		index entry DIGEST is of type application/vnd.example.other+json, no image: left out
		manifest DIGEST is an attestation of something that its index does not have: left out
		1 entries of an index have digests that are not sha256: left out
	END
)"
check_match "an attestation without an index, too" "$(convert --dry-run --json --platform linux/amd64 --keep-attestations "oci:$T/many" "oci:$T/planned" | jq -r '.notes[]')" \
	'^manifest sha256:[0-9a-f]+ is an attestation, and one image has no index for it: left out$'

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
	another platform than it has|125|is one image, of linux/amd64|--platform linux/arm64 oci:$T/tiny oci:$T/x
	an empty tag|125|oci:$T/x:: an empty tag|oci:$T/tiny oci:$T/x:
	no path|125|oci-archive:: no path|oci:$T/tiny oci-archive:
	an archive that is a folder|125|$T/tiny is there, and no file|oci:$T/tiny oci-archive:$T/tiny
	too many documents|125|more than 4096 manifests and configurations|oci:$T/crowd oci:$T/x
	too large ones|125|more than 32 MiB of manifests and configurations|oci:$T/heavy oci:$T/x
	no layers|125|is no image with layers|oci:$T/empty oci:$T/x
	a configuration of other layers|125|3 layers, but 2 DiffIDs|oci:$T/fewer oci:$T/x
	one place|64|from where to where|oci:$T/tiny
END
check_eq "nothing was written" "$(ls -d "$T"/x "$T"/x.new* 2>/dev/null; raw "$REGISTRY/test/x:latest" 2>/dev/null)" ""

# ---- in a node ----

unset TMPDIR
LEVEL=tree
start_contentd node
check "ctr pulls all platforms" ctr_ images pull --plain-http --all-platforms "$REGISTRY/test/many:lazy"
check "it runs" ctl pull "$REGISTRY/test/many:lazy"
check_match "as it did" "$(ctl run --rm "$REGISTRY/test/many:lazy" 2>"$T/err")" '^hello from tiny$'
retire_contentd
finish
