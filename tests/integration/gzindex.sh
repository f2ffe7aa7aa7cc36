#!/bin/bash
# Images as others push them, whose ordinary gzip layers are lazy by the indexes that contentctl convert --index-only puts
# beside them: pulled, mounted and read through contentd, from a registry that has to be named for it.
. "$(dirname "$0")/../node.sh"
LEVELS=${LEVELS%% *} # they are opened in one way
require python3 umoci ctr jq skopeo

make_tiny_image --once "$T/tiny" || bail "tiny_image.py failed"
start_registry
start_netproxy "$REGISTRY"
# The image and a layer of 24 MiB, half of it text, that docker's and OCI's media types name.
mkdir "$T/tree"
python3 - "$T/tree" <<'END'
import random, sys
r = random.Random(7)
words = [bytes(r.randrange(97, 123) for _ in range(r.randrange(2, 12))) for _ in range(3000)]
for i in range(6):
    with open(f"{sys.argv[1]}/text-{i}", "wb") as f:
        f.write(b" ".join(r.choice(words) for _ in range(300000)))
    with open(f"{sys.argv[1]}/noise-{i}", "wb") as f:
        f.write(r.randbytes(2 << 20))
END
cp -r "$T/tiny" "$T/large"
umoci insert --image "$T/large:latest" "$T/tree" /added >"$T/umoci.log" 2>&1 || bail "$(cat "$T/umoci.log")"
reference_tree "$T/large" "$T/ref"
tree_list --no-times "$T/ref/rootfs" >"$T/want"
for kind in oci v2s2; do
	skopeo copy --quiet --format "$kind" --dest-tls-verify=false "oci:$T/large:latest" "docker://$REGISTRY/test/$kind:v1" \
		|| bail "push failed"
	check "an index of $kind" "$BIN/contentctl" convert --index-only -q "$REGISTRY/test/$kind:v1"
done
skopeo copy --quiet --dest-tls-verify=false "oci:$T/large:latest" "docker://$REGISTRY/test/none:v1" || bail "push failed"
manifest=$(skopeo inspect --raw --tls-verify=false "docker://$REGISTRY/test/oci:v1")
large=$(jq -r '.layers[-1].digest' <<<"$manifest")
large_bytes=$(jq -r '.layers[-1].size' <<<"$manifest")
mkdir "$T/mnt"

mark() { wc -l <"$NETPROXY_LOG" >"$T/seen"; }
log_since() { tail -n "+$(($(cat "$T/seen") + 1))" "$NETPROXY_LOG"; }
asked_since() { log_since | grep -cE "/referrers/|/manifests/sha256-"; }
bytes_of() { log_since | grep "/blobs/$1" | grep -oE ' [0-9]+ bytes' | awk '{n += $1} END {print n + 0}'; }
lazy() { info '[.layers[] | select(.blob == "'"$large"'") | .lazy] | tostring'; }

# ---- a host that is named ----

named() {
	start_contentd named 'background = "off"' "gzip_index_hosts = [\"elsewhere\", \"$NETPROXY\"]"
	mark
	check "pull" ctl pull "$NETPROXY/test/oci:v1"
	check_eq "the large layer is lazy" "$(lazy)" '[true]'
	check_eq "by an index, which info tells" "$(info '[.layers[] | select(.blob == "'"$large"'") | .gzipIndex] | tostring')" '[true]'
	check_match "to people, too" "$(ctl info)" "  ${large:0:19}  0 B of .* \(0 %\), lazy by a gzip index, unproven"
	# Once an Open, by the API and by the tag. On a busy machine a call to a contentfs that shows no life is made again.
	opens=$(log_since | grep -c "/manifests/v1 ")
	note "Opens: $opens"
	check "the referrers are asked for" test "$(asked_since)" -ge 2
	check "once" test "$(asked_since)" -le $((2 * opens))
	check_eq "no byte of it has come" "$(bytes_of "$large")" 0
	note "requests of the pull: $(log_since | wc -l)"
	check "mount" ctr_ images mount "$NETPROXY/test/oci:v1" "$T/mnt"
	mark
	check "a file in the middle" cmp "$T/mnt/added/text-3" "$T/tree/text-3"
	read_bytes=$(bytes_of "$large")
	note "$read_bytes bytes of $large_bytes in $(log_since | wc -l) requests for $(wc -c <"$T/tree/text-3")"
	check "is read" test "$read_bytes" -gt 0
	check "for a part of the layer" test "$read_bytes" -lt $((large_bytes / 3))
	tree_list --no-times "$T/mnt" >"$T/got"
	check_same "the tree is what umoci unpacks" "$T/got" "$T/want"
	kill -KILL "$(info .contentfs.workerPid)"
	check "after a kill it is read on" cmp "$T/mnt/added/noise-5" "$T/tree/noise-5"
	check "unmount" ctr_ images unmount --rm "$T/mnt"
	check "docker's media types" ctl pull "$NETPROXY/test/v2s2:v1"
	check "are lazy, too" test "$(info '[.layers[].lazy] | any')" = true
	check "one without an index" ctl pull "$NETPROXY/test/none:v1"
	retire_contentd
}

# ---- one that is not ----

unnamed() {
	start_contentd unnamed 'background = "off"' 'gzip_index_hosts = ["elsewhere"]'
	mark
	check "pull" ctl pull "$NETPROXY/test/oci:v1"
	check_eq "nobody is asked" "$(asked_since)" 0
	check_eq "and nothing is lazy by an index" "$(info '[.layers[].gzipIndex] | any')" false
	check_eq "or otherwise" "$(info '[.layers[].lazy] | any')" false
	check "mount" ctr_ images mount "$NETPROXY/test/oci:v1" "$T/mnt"
	tree_list --no-times "$T/mnt" >"$T/got"
	check_same "the tree is the same" "$T/got" "$T/want"
	check "unmount" ctr_ images unmount --rm "$T/mnt"
	retire_contentd
}

# ---- proven, when all of it is here ----

proven() {
	start_contentd proven 'background = "eager"' 'gzip_index_hosts = ["*"]'
	mark
	check "pull" ctl pull "$NETPROXY/test/oci:v1"
	check_eq "it is lazy" "$(lazy)" '[true]'
	check "it is proven" wait_for 30 eval '[ "$(info "[.layers[] | select(.blob == \"$large\") | .verdict] | tostring")" = "[\"proven\"]" ]'
	check "by what has come once" test "$(bytes_of "$large")" -lt $((large_bytes * 11 / 10))
	retire_contentd
}

at_levels named
at_levels unnamed
at_levels proven
finish
