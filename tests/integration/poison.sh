#!/bin/bash
# Images that lie about their contents: whatever an image claims, no other image's container reads anything but its own
# bytes, in either order of pulling; the liar gets an error, its own bytes, or what it claims to have.
. "$(dirname "$0")/../node.sh"
require getfattr

make_tiny_image "$T/base" || bail "tiny_image.py failed"
liar() { python3 "$SOURCE_DIR/tests/liar.py" "$@"; }
sha_of() { sha256sum "$1" | sed 's/ .*//; s/^/sha256:/'; }
head -c 300000 /dev/urandom >"$T/large"
head -c 20000 /dev/urandom >"$T/small"
head -c 300000 /dev/urandom >"$T/evil-large"
head -c 20000 /dev/urandom >"$T/evil-small"
large=$(sha_of "$T/large") small=$(sha_of "$T/small")
start_registry

# image NAME JSON...: a layout with a layer of these files over the base, pushed as $REGISTRY/test/NAME
image() {
	local name=$1 files=$2 more=${3:-}
	liar "$T/$name" "{\"base\": \"$T/base\", \"files\": [$files]$more}" >"$T/$name.out" || bail "liar.py failed"
	push_layout "$T/$name" "test/$name" || bail "push of $name failed"
}
file() { # file NAME FROM [MORE]
	printf '{"name": "lies/%s", "from": "%s"%s}' "$1" "$T/$2" "${3:-}"
}
image honest "$(file large large), $(file small small)"
# Another's digests, with chunks of its own, that are what the table says they are.
image claims "$(file large evil-large ", \"digest\": \"$large\""), $(file small evil-small ", \"digest\": \"$small\"")"
# The same, and the chunks' digests are another's, too.
chunks=$(python3 -c 'import hashlib, json, sys
data = open(sys.argv[1], "rb").read()
print(json.dumps(["sha256:" + hashlib.sha256(data[i:i + 65536]).hexdigest() for i in range(0, len(data), 65536)]))' "$T/large")
image chunks "$(file large evil-large ", \"digest\": \"$large\", \"chunk_digests\": $chunks"), \
	$(file small evil-small ", \"digest\": \"$small\", \"chunk_digests\": [\"$small\"]")"
# The right bytes under the wrong size: shorter and longer.
image shorter "$(file large large ', "size": 131072'), $(file small small ', "size": 100')"
image longer "$(file large large ', "size": 400000'), $(file small small ', "size": 65536')"
# A known blob, with the digest of another table.
other_toc=$(tail -n 1 "$T/claims.out" | cut -d' ' -f2)
liar "$T/other-toc" "{\"base\": \"$T/base\", \"files\": [$(file large large), $(file small small)], \
	\"toc_digest\": \"$other_toc\"}" >"$T/other-toc.out" || bail "liar.py failed"
push_layout "$T/other-toc" test/other-toc || bail "push failed"

honest_is_right() {
	local what=$1 pulled=$2
	check "$what: the honest image is pulled" ctl pull "$pulled"
	check "$what: and starts" sleeper honest "$pulled"
	check_same "$what: its large file is right" "$(container_root honest)/lies/large" "$T/large"
	check_same "$what: its small file is right" "$(container_root honest)/lies/small" "$T/small"
}

# A liar's file: an error, or one of the files named; each read is whole or ends with an error.
own_or_nothing() {
	local what=$1 path=$2 allowed=$3 file
	if cat "$path" >"$T/got" 2>"$T/got.err"; then
		for file in $allowed; do
			cmp -s "$T/got" "$T/$file" && {
				t_pass "$what: reads bytes of $file"
				return
			}
		done
		t_fail "$what: reads $(stat -c %s "$T/got") bytes of neither of $allowed"
	else
		check_match "$what: reading it is an error" "$(cat "$T/got.err")" "Input/output error|No such file|Stale"
	fi
}

head -c 131072 "$T/large" >"$T/large-cut"
head -c 100 "$T/small" >"$T/small-cut"

# lie NAME [IMAGE]: an image that lies gets an error when it is pulled or read, or what it may have
lie() {
	local name=$1 pulled=${2:-$REGISTRY/test/$1}
	if ctl pull "$pulled" >"$T/pull.out" 2>"$T/pull.err"; then
		sleeper "$name" "$pulled" || {
			t_fail "$name: its container does not even start"
			return
		}
		own_or_nothing "$name: large" "$(container_root "$name")/lies/large" "evil-large evil-twisted large large-cut"
		own_or_nothing "$name: small" "$(container_root "$name")/lies/small" "evil-small small small-cut"
	else
		check_match "$name: the pull fails and names the image" "$(cat "$T/pull.err")" "$pulled"
	fi
}

poison() {
	local name
	for name in claims chunks shorter longer other-toc; do
		start_contentd "$name-first" 'background = "off"'
		lie "$name"
		honest_is_right "$name, then honest" "$REGISTRY/test/honest"
		retire_contentd
		start_contentd "$name-last" 'background = "off"'
		honest_is_right "honest, then $name" "$REGISTRY/test/honest"
		lie "$name"
		check_same "honest, then $name: the honest file is still right" "$(container_root honest)/lies/large" "$T/large"
		ctl run --rm "$REGISTRY/test/honest" cat /lies/large >"$T/got" 2>"$T/got.err"
		check_same "honest, then $name: in a new container, too" "$T/got" "$T/large"
		ctl run --rm "$REGISTRY/test/honest" cat /lies/small >"$T/got" 2>"$T/got.err"
		check_same "honest, then $name: small files as well" "$T/got" "$T/small"
		retire_contentd
	done
}

# A registry that serves other bytes, with a table that fits them, under the digest of a blob that an honest image has.
twisted() {
	local order
	for order in first last; do
		start_contentd "twisted-$order" 'background = "off"'
		if [ $order = first ]; then
			lie twisted "$TWISTED/test/twisted"
			honest_is_right "twisted, then honest" "$REGISTRY/test/honest"
		else
			honest_is_right "honest, then twisted" "$REGISTRY/test/honest"
			lie twisted "$TWISTED/test/twisted"
		fi
		ctl run --rm "$REGISTRY/test/honest" cat /lies/large >"$T/got" 2>"$T/got.err"
		check_same "twisted $order: a new honest container reads its own" "$T/got" "$T/large"
		# Fetched whole, the lie shows at once.
		check_fails "twisted $order: a pull of all bytes is refused" ctl pull --lazy=off "$TWISTED/test/twisted"
		retire_contentd
	done
}

# Overlay's attributes in a layer: no redirect to anybody's object, no metadata-only copy, no opaque directory.
attributes() {
	local tag root hidden
	for tag in plain lazy; do
		start_contentd "attributes-$tag" 'background = "off"'
		honest_is_right "attributes, $tag" "$REGISTRY/test/honest"
		check "attributes, $tag: pull" ctl pull "$REGISTRY/test/attributes:$tag"
		check "attributes, $tag: start" sleeper attributes "$REGISTRY/test/attributes:$tag"
		root=$(container_root attributes)
		check_same "attributes, $tag: a file with a redirect has its own bytes" "$root/lies/large" "$T/evil-large"
		check_same "attributes, $tag: so has one of one chunk" "$root/lies/small" "$T/evil-small"
		check_eq "attributes, $tag: an ordinary one is there" "$(getfattr --absolute-names --only-values -n user.kept "$root/lies/large" 2>&1)" yes
		hidden=$(cd "$root/lies" && getfattr -d -m '^(trusted|user)\.overlay\.' large small . 2>&1)
		check_eq "attributes, $tag: none of them is seen" "$(grep -v '^getfattr: Removing' <<<"$hidden")" ""
		check_same "attributes, $tag: the honest file is still right" "$(container_root honest)/lies/large" "$T/large"
		retire_contentd
	done
}

# The layer of the honest image, and a registry that answers with other bytes for it.
honest_registry=$REGISTRY
start_registry
head -c 260000 /dev/urandom >"$T/evil-twisted"
image twisted "$(file large evil-twisted), $(file small evil-small)" ", \"blob_of\": \"$T/honest\""
read -r digest bytes <"$T/twisted.out"
served=$REGISTRY_DIR/docker/registry/v2/blobs/sha256/${digest:7:2}/${digest:7}/data
check_eq "the false blob has the size of the true one" "$(stat -c %s "$bytes")" "$(stat -c %s "$served")"
cp "$bytes" "$served"
TWISTED=$REGISTRY
REGISTRY=$honest_registry

# Attributes that would send every read of one image to an object of another, if they came through.
object() { sed 's|^sha256:\(..\)|/\1/|' <<<"$1"; }
liar "$T/attributes" "{\"base\": \"$T/base\", \"files\": [
	$(file large evil-large ", \"xattrs\": {\"trusted.overlay.redirect\": \"$(object "$large")\", \"trusted.overlay.metacopy\": \"\",
		\"user.overlay.redirect\": \"$(object "$large")\", \"user.kept\": \"yes\"}"),
	$(file small evil-small ", \"xattrs\": {\"trusted.overlay.redirect\": \"$(object "$small")\", \"trusted.overlay.metacopy\": \"\"}")]}" \
	>"$T/attributes.out" || bail "liar.py failed"
publish "$T/attributes" test/attributes

everything() {
	poison
	twisted
	attributes
}
at_levels everything
finish
