#!/bin/bash
# Images in and out: contentctl, ctr of this machine (classic, by the content service) and of newer suites (by Transfer)
# pull, push, import, export and tag; skopeo reads what we write and the other way round. What a push sends is counted at
# the registry.
. "$(dirname "$0")/../node.sh"
LEVEL=${LEVELS%% *}
require zstd strace

regcat() { "$BIN/regcat" "$@" 2>"$T/regcat.err"; }
blob_of() { echo "$1/blobs/sha256/${2#sha256:}"; } # LAYOUT DIGEST: its file
manifest_of() { jq -r '.manifests[0].digest' "$1/index.json"; }
sha() { echo "sha256:$(sha256sum "$1" | cut -d' ' -f1)"; }

# rewrite LAYOUT NAME JQ-MANIFEST JQ-CONFIG: pushes its image to test/NAME with another manifest and configuration, as NAME;
# prints the manifest's descriptor.
rewrite() {
	local layout=$1 name=$2 digest
	digest=$(jq -r .config.digest "$(blob_of "$layout" "$(manifest_of "$layout")")")
	jq -c "$4" "$(blob_of "$layout" "$digest")" >"$T/$name.config"
	jq -c --arg d "$(sha "$T/$name.config")" --argjson s "$(stat -c %s "$T/$name.config")" \
		".config.digest = \$d | .config.size = \$s | $3" "$(blob_of "$layout" "$(manifest_of "$layout")")" >"$T/$name.manifest"
	for digest in $(jq -r '.layers[].digest' "$T/$name.manifest"); do
		regcat push "$REGISTRY/test/multi" "$(blob_of "$layout" "$digest")" >/dev/null
	done
	regcat push "$REGISTRY/test/multi" "$T/$name.config" >/dev/null
	regcat push-manifest "$REGISTRY/test/multi:$name" "$T/$name.manifest" application/vnd.oci.image.manifest.v1+json >/dev/null ||
		bail "push of $name failed"
	jq -n -c --arg d "$(sha "$T/$name.manifest")" --argjson s "$(stat -c %s "$T/$name.manifest")" \
		'{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $d, size: $s}'
}

make_images() {
	local own far
	make_tiny_image "$T/tiny" && make_tiny_image --seed 2 "$T/other" || bail "tiny_image.py failed"
	start_registry
	ORIGIN=$REGISTRY
	publish "$T/tiny" test/tiny
	own=$(rewrite "$T/tiny" own . .)
	far=$(rewrite "$T/other" far . '.architecture = "s390x"')
	jq -n -c --argjson a "$far" --argjson b "$own" --arg arch "$(dpkg --print-architecture)" '{schemaVersion: 2,
		mediaType: "application/vnd.oci.image.index.v1+json", manifests: [
		$a + {platform: {os: "linux", architecture: "s390x"}}, $b + {platform: {os: "linux", architecture: $arch}}]}' >"$T/index"
	regcat push-manifest "$REGISTRY/test/multi:both" "$T/index" application/vnd.oci.image.index.v1+json >/dev/null ||
		bail "push of an index failed"
	rewrite "$T/tiny" secret '.layers[0].mediaType += "+encrypted"' . >/dev/null
	plain=$REGISTRY/test/tiny:plain lazy=$REGISTRY/test/tiny:lazy both=$REGISTRY/test/multi:both
}

content_count() { ctr_ content ls -q | wc -l; }
hello() { check_eq "$1" "$(ctl run --rm --net none "$2" 2>&1)" "hello from tiny"; }
nothing_left() {
	check_eq "$1: no ingest and no lease is left" "$(ctr_ content active | tail -n +2 | wc -l) $(ctr_ leases ls -q | wc -l)" "0 0"
}
forget() {
	local image
	for image in $(ctl images -q); do ctl rmi "$image" >/dev/null; done
}

ours() {
	local n
	start_contentd ours
	check "pull" ctl pull "$plain"
	check "a lazy pull" ctl pull "$lazy"
	check "tag" ctl tag "$plain" example.com/a:1 b
	check_eq "names" "$(ctl images -q | sort | tr '\n' ' ')" "$lazy $plain docker.io/library/b:latest example.com/a:1 "
	check "export" ctl export "$T/both.tar" "$plain" "$lazy" example.com/a:1
	check_eq "to a file that skopeo reads" "$(skopeo inspect "oci-archive:$T/both.tar:plain" | jq -r .Digest)" "$(manifest_of "$T/tiny")"
	check_match "an archive with docker's part, too" "$(tar xOf "$T/both.tar" manifest.json | jq -r '.[0].RepoTags[]')" "^example.com/a:1$"
	check_fails "an export of no image" ctl export "$T/none.tar" no/such
	check_eq "leaves no file" "$(ls "$T"/none.tar* 2>/dev/null)" ""
	ctl save - "$plain" 2>/dev/null | zstd -q >"$T/plain.tar.zst"
	mknod "$T/null" c 1 3
	check "export to a device" ctl export "$T/null" "$plain"
	check "and timing" ctl run --rm --timing "$T/null" "$plain"
	check "writes to it, and leaves it what it is" test -c "$T/null"
	: >"$T/plain.tar"
	ln -s plain.tar "$T/link"
	check "export to a link" ctl export "$T/link" "$plain"
	check_eq "leaves it a link, to the archive" "$(readlink "$T/link") $(tar tf "$T/plain.tar" | grep -c oci-layout)" "plain.tar 1"
	check_match "usage" "$(ctl usage "$plain" "$lazy" | tail -n 1)" '^total .*B +[0-9]+'
	mkdir "$T/mnt"
	check "mount" ctl mount "$lazy" "$T/mnt"
	check_eq "its files" "$(tail -n 1 "$T/mnt/app/hello")" "echo hello from tiny"
	check_fails "read-only" touch "$T/mnt/x"
	check "unmount" ctl unmount "$T/mnt"
	check "mount --rw" ctl mount --rw "$plain" "$T/mnt"
	check "takes files" touch "$T/mnt/x"
	check "umount" ctl umount "$T/mnt"
	check "mount, once more" ctl mount "$plain" "$T/mnt"
	umount "$T/mnt"
	check "unmount of what is not mounted any more" ctl unmount "$T/mnt"
	mount -t tmpfs mine "$T/mnt"
	check_match "what somebody else has mounted" "$(ctl unmount "$T/mnt" 2>&1)" "has mounted nothing at $T/mnt"
	check "stays" mountpoint -q "$T/mnt"
	umount "$T/mnt"
	nothing_left "mounts"
	forget
	check "import of what was exported" ctl import "$T/both.tar"
	check_eq "under its own names" "$(ctl images -q | sort | tr '\n' ' ')" "$lazy $plain example.com/a:1 "
	hello "it runs" "$plain"
	hello "and what was lazy" "$lazy"
	forget
	zstd -dcq "$T/plain.tar.zst" | gzip -1 | ctl load - >"$T/out"
	check_eq "load, compressed, from a pipe" "$(cat "$T/out")" "$plain"
	check_fails "what is no archive" ctl import "$BIN/contentctl"
	nothing_left "imports"

	# By platforms.
	check "pull of one platform" ctl pull "$both"
	hello "that is this machine's" "$both"
	check_fails "the whole cannot be pushed then" ctl push "$both" "$REGISTRY/test/whole:1"
	check "the platform can" ctl push --platform "linux/$(dpkg --print-architecture)" "$both" "$REGISTRY/test/one:1"
	check_eq "and is one image" "$(regcat resolve "$REGISTRY/test/one:1" | grep -c ^document)" 1
	n=$(content_count)
	check "pull --all-platforms" ctl pull --all-platforms "$both"
	check "brings the rest" test "$(content_count)" -gt "$n"
	check "push of all" ctl push "$both" "$REGISTRY/test/whole:1"
	check_eq "is the same index" "$(skopeo inspect --raw --tls-verify=false "docker://$REGISTRY/test/whole:1" | sha256sum)" "$(sha256sum <"$T/index")"
	check "export --all-platforms" ctl export --all-platforms "$T/all.tar" "$both"
	check_match "has both" "$(tar tf "$T/all.tar")" "$(jq -r '.manifests[0].digest' "$T/index" | cut -d: -f2)"
	check "export of another platform" ctl export --platform linux/s390x "$T/far.tar" "$both"
	check_eq "has that one alone" "$(tar tf "$T/far.tar" | grep -c "$(jq -r '.manifests[1].digest' "$T/index" | cut -d: -f2)")" 0
	check_match "an encrypted layer" "$(ctl pull "$REGISTRY/test/multi:secret" 2>&1)" "is encrypted .*\+encrypted"
	retire_contentd
}

# Requests of a kind since the last `: >`.
asked() { grep -cE "$1" "$NETPROXY_LOG"; }

pushes() {
	local blob sent
	start_registry
	start_netproxy "$REGISTRY"
	TARGET=$NETPROXY
	start_contentd pushes 'background = "off"'
	ctl pull "$plain" >/dev/null && ctl pull "$lazy" >/dev/null || bail "pull failed"
	check "push" ctl push "$plain" "$TARGET/a/one:1"
	check_eq "sends each blob once" "$(asked 'PUT /v2/a/one/blobs/')" 4
	check_eq "and the manifest last" "$(tail -n 1 "$NETPROXY_LOG" | grep -oE 'PUT /v2/a/one/manifests/1')" "PUT /v2/a/one/manifests/1"
	netproxy_ask reset >/dev/null
	: >"$NETPROXY_LOG"
	check "again" ctl push "$plain" "$TARGET/a/one:2"
	check_eq "asks, and sends the manifest" "$(asked 'HEAD .*/blobs/') $(asked '(POST|PATCH|PUT) .*/blobs/') $(asked 'PUT .*/manifests/2')" "4 0 1"
	: >"$NETPROXY_LOG"
	check "to another repository" ctl push "$plain" "$TARGET/a/two:1"
	check_eq "mounts" "$(asked 'POST .*/blobs/uploads/\?mount=.*from=a/one') $(asked 'PUT .*/blobs/')" "4 0"
	: >"$NETPROXY_LOG"
	check "by ctr, which reads the labels" ctr_ images push --plain-http "$TARGET/a/three:1" "$plain"
	check_eq "mounts, too" "$(asked "POST .*/blobs/uploads/.*from=a(/|%2F)") $(asked 'PUT .*/blobs/')" "4 0"
	: >"$NETPROXY_LOG"
	check "of a lazy image, elsewhere" ctl push "$lazy" "$TARGET/b/lazy:1"
	check_eq "what was pushed can be pulled" "$(regcat resolve "$TARGET/b/lazy:1" | awk '/^document/ {print $2}')" "$(regcat resolve "$lazy" | awk '/^document/ {print $2}')"

	# Back to where it came from: no byte of a layer moves.
	start_netproxy "$ORIGIN"
	lazy_here=$NETPROXY/test/tiny:lazy
	check "a lazy pull, counted" ctl pull "$lazy_here"
	netproxy_ask reset >/dev/null
	: >"$NETPROXY_LOG"
	check "goes back to a new repository" ctl push "$lazy_here" "$NETPROXY/test/back:1"
	check_eq "by mounts alone" "$(asked 'GET .*/blobs/') $(asked '(PATCH|PUT) .*/blobs/') $(asked 'POST .*mount=')" "0 0 4"

	# A large blob whose upload breaks goes on where it stopped.
	head -c 12000000 /dev/urandom >"$T/noise"
	tar -C "$T" -cf "$T/noise.tar" noise
	umoci init --layout "$T/large" && umoci new --image "$T/large:latest" && umoci raw add-layer --image "$T/large:latest" "$T/noise.tar" || bail "umoci failed"
	(cd "$T/large" && tar cf "$T/large.tar" .)
	check "import of a layout as skopeo and umoci lay it out" ctl import --base x.y/large "$T/large.tar"
	start_netproxy "$REGISTRY"
	netproxy_ask fault reset 2 "PATCH /v2/" >/dev/null
	check "a push through a line that breaks" ctl push x.y/large:latest "$NETPROXY/a/large:1"
	check_eq "asks how far it has come" "$(($(asked 'GET /v2/a/large/blobs/uploads/') > 0))" 1
	check "arrives" regcat resolve "$NETPROXY/a/large:1"
	netproxy_ask down reset >/dev/null
	check_fails "a registry that has died" ctl push x.y/large:latest "$NETPROXY/a/large:2"
	netproxy_ask up >/dev/null
	check "and lives again" ctl push x.y/large:latest "$NETPROXY/a/large:2"
	nothing_left "pushes"

	start_registry --user bob secret
	check_fails "a push without a password" env DOCKER_CONFIG="$T/nothing" "$BIN/contentctl" --address "$CONTENTD/contentd.sock" push "$plain" "$REGISTRY/l/t:1"
	check "with it" ctl push --creds bob:secret "$plain" "$REGISTRY/l/t:1"
	for SUITE in $PEERS; do
		check "ctr of $SUITE, with it" peer "$SUITE" ctr --address "$CONTENTD/contentd.sock" --namespace "$CONTENTD_NAMESPACE" \
			images push --local=false --plain-http --user bob:secret "$REGISTRY/l/t:$SUITE" "$plain"
	done
	REGISTRY=$ORIGIN
	retire_contentd
}

# What others write, and what others read.
archives() {
	local name
	start_contentd archives
	skopeo copy -q "oci:$T/tiny:latest" "docker-archive:$T/docker.tar:example.com/docker:1" || bail "skopeo failed"
	skopeo copy -q "oci:$T/tiny:latest" "oci-archive:$T/oci.tar:one" || bail "skopeo failed"
	check "docker's archive" ctl import "$T/docker.tar"
	hello "runs" example.com/docker:1
	check "an OCI archive" ctl import --base example.com/oci "$T/oci.tar"
	hello "runs, too" example.com/oci:one
	check "docker's, compressed on the way" ctl import --compress "$T/docker.tar"
	hello "runs all the same" example.com/docker:1
	check_match "with layers that are" "$(ctr_ content get "$(ctr_ images ls name==example.com/docker:1 | awk 'NR == 2 {print $3}')")" 'diff\.tar\.gzip'
	check "export" ctl export "$T/back.tar" example.com/docker:1
	for name in docker-archive oci-archive; do
		check "skopeo reads it as $name" skopeo copy -q "$name:$T/back.tar" "dir:$T/$name"
	done
	ctl export --no-docker "$T/nodocker.tar" example.com/oci:one
	check_eq "without docker's part" "$(tar tf "$T/nodocker.tar" | grep -c manifest.json)" 0

	# A client that gives up, and a disk that is full.
	mkfifo "$T/fifo"
	"$BIN/contentctl" --address "$CONTENTD/contentd.sock" import "$T/fifo" >"$T/out" 2>&1 &
	interrupted=$!
	exec 9>"$T/fifo"
	head -c 5000000 "$T/oci.tar" >&9
	wait_for 10 eval '[ "$(ctr_ content active | wc -l)" -gt 1 ]'
	kill -TERM "$interrupted"
	wait "$interrupted" 2>/dev/null
	exec 9>&-
	check "an import that is interrupted" wait_for 10 eval '[ "$(ctr_ content active | wc -l) $(ctr_ leases ls -q | wc -l)" = "1 0" ]'
	stop_contentd
	mount -t tmpfs -o size=3m none "$CONTENTD/root/content" || bail "mount failed"
	restart_contentd
	check_match "a full disk" "$(ctl import --base full/disk "$T/docker.tar" 2>&1)" "No space left|ENOSPC"
	nothing_left "a full disk"
	stop_contentd
	umount "$CONTENTD/root/content"
	restart_contentd
	check "and room again" ctl import --base full/disk "$T/oci.tar"
	retire_contentd
}

# The same by any ctr: by the Transfer service where it has it, or as it did before, piece by piece.
by_ctr() {
	local local_flag=$1
	shift
	run() { timeout 60 "${CTR[@]}" --address "$CONTENTD/contentd.sock" --namespace "$CONTENTD_NAMESPACE" "$@"; }
	CTR=("$@")
	# shellcheck disable=SC2206 # no flag is no word
	flag=($local_flag)
	start_contentd ctr
	check "images pull" run images pull "${flag[@]}" --plain-http "$plain"
	check "images pull of an index" run images pull "${flag[@]}" --plain-http "$both"
	check "images pull --all-platforms" run images pull "${flag[@]}" --plain-http --all-platforms "$both"
	check "images tag" run images tag "${flag[@]}" "$plain" example.com/t:1
	check "images export" run images export "${flag[@]}" "$T/ctr.tar" "$plain"
	# It ends when the Transfer does, not when it has written what came.
	check "a client that is slow to write" timeout 60 strace -f -o "$T/strace" -e trace=write -e inject=write:delay_enter=3000 \
		"${CTR[@]}" --address "$CONTENTD/contentd.sock" --namespace "$CONTENTD_NAMESPACE" images export "${flag[@]}" "$T/slow.tar" "$plain"
	check "has all of it" tar tf "$T/slow.tar"
	check "images export --all-platforms" run images export "${flag[@]}" --all-platforms "$T/ctr-all.tar" "$both"
	check_match "both are in it" "$(tar tf "$T/ctr-all.tar")" "$(jq -r '.manifests[0].digest' "$T/index" | cut -d: -f2)"
	check "images push" run images push "${flag[@]}" --plain-http "$REGISTRY/ctr/copy:1" "$plain"
	check "images push of an index" run images push "${flag[@]}" --plain-http "$REGISTRY/ctr/both:1" "$both"
	check_eq "they are there" "$(regcat resolve "$REGISTRY/ctr/copy:1" | awk '/^document/ {print $2}')" "$(manifest_of "$T/tiny")"
	check_match "images check" "$(run images check "name==$plain")" "complete \(4/4\)"
	check "images label" run images label "$plain" color=red
	check_match "shows" "$(run images ls "name==$plain")" "color=red"
	check "images rm" run images rm --sync "$plain" "$both" example.com/t:1
	check "images import" run images import "${flag[@]}" "$T/ctr.tar"
	check_eq "brings it back" "$(run images ls -q)" "$plain"
	check "images import --base-name --digests" run images import "${flag[@]}" --base-name example.com/oci --digests "$T/oci.tar"
	check_match "by its tag" "$(run images ls -q)" "^example.com/oci:one$"
	check "images import of docker's" run images import "${flag[@]}" --index-name example.com/index:1 "$T/docker.tar"
	check_match "by its name" "$(run images ls -q)" "^example.com/docker:1$"
	check_match "and the index" "$(run images ls "name==example.com/index:1")" "index"
	hello "it runs" example.com/docker:1
	if [ "$1" = ctr ]; then # what newer ones mount others do not see
		mkdir "$T/ctrmnt"
		check "images mount" run images mount "$plain" "$T/ctrmnt"
		check_eq "its files" "$(tail -n 1 "$T/ctrmnt/app/hello")" "echo hello from tiny"
		check "images unmount" run images unmount --rm "$T/ctrmnt"
	else
		check_match "images usage" "$(run images usage "$plain")" "^sha256:.*[KM]iB"
		check_fails "an encrypted layer" run images pull "${flag[@]}" --plain-http "$REGISTRY/test/multi:secret"
	fi
	check "images convert" run images convert --oci --uncompress "$plain" example.com/converted:1
	nothing_left "all of it"
	retire_contentd
}

make_images
ours
pushes
archives
T_PREFIX="ctr: "
by_ctr "" ctr
for SUITE in $PEERS; do
	T_PREFIX="$SUITE, Transfer: "
	by_ctr --local=false "$SOURCE_DIR/tests/peers.sh" "$SUITE" ctr
done
T_PREFIX=
finish
