#!/bin/bash
# fetch.gzip_index = "publish": a pull that unpacks gzip layers builds their seekable indexes on the way and puts them beside
# the image, where the next node finds them.
. "$(dirname "$0")/../node.sh"
LEVEL=tree

make_tiny_image --once "$T/tiny" || bail "tiny_image.py failed"
python3 "$SOURCE_DIR/tests/index_image.py" "$T/tiny" "$T/many" || bail "index_image.py failed"
start_registry
start_netproxy "$REGISTRY"
for name in one two three four; do
	push_layout "$T/many" "test/$name:plain" --all || bail "push failed"
done
mark() { wc -l <"$NETPROXY_LOG" >"$T/seen"; }
log_since() { tail -n "+$(($(cat "$T/seen") + 1))" "$NETPROXY_LOG"; }
writes_since() { log_since | grep -cE '^(POST|PUT|PATCH|DELETE) '; }
questions_since() { log_since | grep -cE '^GET .*/referrers/'; }
tags() { curl -s "http://$REGISTRY/v2/test/$1/tags/list" | jq -c '.tags | sort'; }
manifest=$(jq -r '.manifests[0].digest' "$T/many/blobs/sha256/$(jq -r '.manifests[0].digest' "$T/many/index.json" | cut -c8-)")
# The indexes of layers in the store of this contentd, with digests.
stored_indexes() {
	find "$CONTENTD/root" -path '*index*' -type f -regextype posix-extended -regex '.*/[0-9a-f]{64}' -exec sha256sum {} + |
		sed "s|$CONTENTD/root||" | sort
}

# ---- it is off ----

mark
start_contentd off
check "a pull" ctl pull "$NETPROXY/test/one:plain"
check_eq "asks for no indexes unless it is told to" "$(questions_since) $(writes_since)" "0 0"
stored_indexes >"$T/indexes.off"
retire_contentd

# ---- published ----

mark
start_contentd on 'gzip_index = "publish"'
check "a pull that publishes" ctl pull "$NETPROXY/test/one:plain"
check_eq "asks once whether there are indexes" "$(questions_since)" 1
check_match "says so in the log" "$(cat "$T/on.1.log")" 'image .*/test/one:plain: gzip indexes of 2 layers are published'
check_eq "reads each layer once" "$(log_since | grep -cE '^GET .*/blobs/.* -> 2.* [0-9]{6,} bytes')" 2
check_eq "tags its referrer" "$(tags one)" "$(jq -nc --arg tag "${manifest/:/-}" '["plain", $tag] | sort')"
skopeo inspect --raw --tls-verify=false "docker://$REGISTRY/test/one:${manifest/:/-}" | jq -r '.manifests[].digest' >"$T/referrer"
check_eq "which is what the converter makes" \
	"$("$BIN/contentctl" convert --index-only --json --platform linux/amd64 "$REGISTRY/test/one:plain" | jq -c '.images[] | .referrer, .present')" \
	"$(printf '"%s"\ntrue' "$(cat "$T/referrer")")"
stored_indexes >"$T/indexes.on"
check_same "the layers here are those of any pull" "$T/indexes.on" "$T/indexes.off"
check_eq "one a layer" "$(wc -l <"$T/indexes.on")" 3
check_match "the image runs" "$(ctl run --rm "$NETPROXY/test/one:plain" 2>"$T/err")" '^hello from tiny$'

# ---- what was here before ----

mark
check "of layers that are here already" ctl pull "$NETPROXY/test/two:plain"
check_eq "none is built" "$(questions_since) $(writes_since) $(tags two)" '0 0 ["plain"]'
check_match "and the log says what to do" "$(cat "$T/on.1.log")" 'test/two:plain: gzip indexes are not built: layers of it were here before \(contentctl convert --index-only'
retire_contentd

# ---- what is there already ----

mark
start_contentd second 'gzip_index = "publish"'
check "where there are indexes" ctl pull --lazy=off "$NETPROXY/test/one:plain"
check_eq "none are sent" "$(questions_since) $(writes_since)" "1 0"
retire_contentd

# ---- what goes wrong ----

start_contentd refused 'gzip_index = "publish"'
netproxy_ask fault status=403 all POST /v2/test/three/ >"$T/ask"
check "who may not push can pull" ctl pull "$NETPROXY/test/three:plain"
check_match "it is logged" "$(cat "$T/refused.1.log")" 'image .*/test/three:plain: its gzip indexes are not published: .*403'
check_eq "nothing is there" "$(tags three)" '["plain"]'
check_match "the image runs" "$(ctl run --rm "$NETPROXY/test/three:plain" 2>"$T/err")" '^hello from tiny$'
netproxy_ask clear >"$T/ask"
retire_contentd
start_contentd asked 'gzip_index = "publish"'
netproxy_ask fault status=500 all GET /v2/test/three/referrers/ >"$T/ask"
check "nor does a question fail it" ctl pull "$NETPROXY/test/three:plain"
check_match "that is not answered" "$(cat "$T/asked.1.log")" 'test/three:plain: gzip indexes are not built: .*500'
netproxy_ask clear >"$T/ask"
retire_contentd

# ---- a registry that says nothing more ----

while read -r method path; do
	start_contentd "silent" 'gzip_index = "publish"' 'gzip_index_timeout_ms = 1500'
	netproxy_ask fault stall all "$method" "/v2/test/three/$path" >"$T/ask"
	check "who waits for $method $path in vain has the image" ctl pull "$NETPROXY/test/three:plain"
	check_match "without indexes" "$(cat "$T/silent.1.log")" 'test/three:plain: its gzip indexes are not published: .*(no answer in time|deadline exceeded)'
	check_match "the image runs" "$(ctl run --rm "$NETPROXY/test/three:plain" 2>"$T/err")" '^hello from tiny$'
	netproxy_ask clear >"$T/ask"
	retire_contentd
done <<-END
	POST blobs/uploads/
	PUT manifests/sha256:
	PUT manifests/sha256-
END

# With all the time that there is: nobody else waits for it.
start_contentd patient 'gzip_index = "publish"' 'gzip_index_timeout_ms = 86400000'
netproxy_ask reset >"$T/ask"
netproxy_ask fault stall all PUT /v2/test/four/manifests/ >"$T/ask"
ctl pull "$NETPROXY/test/four:plain" >"$T/pull.out" 2>&1 &
pull=$!
wait_for 30 eval '[ "$(netproxy_get faults)" -gt 0 ]'
check_match "the image runs meanwhile" "$(ctl run --rm "$NETPROXY/test/four:plain" 2>"$T/err")" '^hello from tiny$'
check "and is removed" ctl rmi "$NETPROXY/test/four:plain"
check_eq "and gone" "$(ctl --json images | jq length)" 0
check "while the pull waits" is_running "$pull"
kill -TERM "$CONTENTD_PID"
wait_for 60 eval '! is_running "$CONTENTD_PID"'
wait "$CONTENTD_PID"
check_eq "contentd ends nevertheless" $? 0
wait "$pull"
netproxy_ask clear >"$T/ask"
retire_contentd 2>"$T/err"

# ---- lazy layers; passwords ----

"$BIN/contentctl" convert -q "oci:$T/tiny" "$REGISTRY/test/lazy:v1" >"$T/digest" 2>&1 || bail "convert failed"
start_contentd locked 'gzip_index = "publish"'
mark
check "a lazy image" ctl pull "$NETPROXY/test/lazy:v1"
check_eq "needs none" "$(questions_since) $(writes_since)" "0 0"
start_registry --user bob secret
skopeo copy --quiet --dest-tls-verify=false --dest-creds bob:secret "oci:$T/tiny" "docker://$REGISTRY/test/tiny:v1" || bail "push failed"
check "a registry with a password" ctl pull --creds bob:secret "$REGISTRY/test/tiny:v1"
check_match "gets them from who has pulled" "$(curl -s -u bob:secret "http://$REGISTRY/v2/test/tiny/tags/list")" '"sha256-[0-9a-f]{64}"'
retire_contentd
finish
