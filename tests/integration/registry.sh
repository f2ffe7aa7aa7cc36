#!/bin/bash
# The registry client with a real registry: over plain HTTP, over TLS with HTTP/2, with a password, and through a
# network that breaks.
. "$(dirname "$0")/../lib.sh"
require skopeo jq curl openssl nginx
[ -x "$BIN/regcat" ] || bail "$BIN/regcat is not built"

regcat() { "$BIN/regcat" "$@" 2>"$T/regcat.err"; }
count() { tail -n 1 "$T/regcat.err" | jq -r ".$1"; }

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
start_registry
push_layout "$T/tiny" some/tiny:v1 || bail "push failed"
head -c 8000000 /dev/urandom >"$T/blob"
blob=sha256:$(sha256sum "$T/blob" | cut -d' ' -f1)

# Plain HTTP on loopback

check_eq "a blob is pushed" "$(regcat push "$REGISTRY/some/blobs" "$T/blob")" "uploaded $blob"
check_eq "and not twice" "$(regcat push "$REGISTRY/some/blobs" "$T/blob")" "present $blob"
check_eq "nor is it sent to another repository" "$(regcat push "$REGISTRY/other/blobs" "$T/blob" some/blobs)" "mounted $blob"
check_eq "its size" "$(regcat stat "$REGISTRY/other/blobs" "$blob")" 8000000
regcat blob "$REGISTRY/some/blobs" "$blob" >"$T/whole"
check_same "it comes back whole" "$T/whole" "$T/blob"
regcat blob "$REGISTRY/some/blobs" "$blob" 1234567 7654 >"$T/part"
tail -c +1234568 "$T/blob" | head -c 7654 >"$T/part.want"
check_same "and in part" "$T/part" "$T/part.want"
check_eq "a part is one request" "$(count requests)" 1
check_eq "with no byte more" "$(count bytes_in)" 7654
regcat many "$REGISTRY/some/blobs" "$blob" 100 80000 >"$T/many"
check_same "a hundred ranges at once" "$T/many" "$T/blob"
check "over a few connections" test "$(count connections)" -le 6

regcat resolve "$REGISTRY/some/tiny:v1" >"$T/resolved"
check_eq "a manifest by tag" "$(awk '/^document/ {print $2}' "$T/resolved")" "$(jq -r '.manifests[0].digest' "$T/tiny/index.json")"
check_eq "as many layers as diff IDs" "$(grep -c ^layer "$T/resolved")" "$(grep -c ^diff "$T/resolved")"
digest=$(awk '/^document/ {print $2}' "$T/resolved")
check "and by digest" regcat resolve "$REGISTRY/some/tiny@$digest"
jq -c --arg d "$digest" --argjson s "$(stat -c %s "$T/tiny/blobs/sha256/${digest#sha256:}")" --arg arch \
	"$(dpkg --print-architecture)" '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: [
	{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $d, size: $s,
	 platform: {os: "linux", architecture: $arch}}]}' <<<null >"$T/index"
check "an index is pushed" regcat push-manifest "$REGISTRY/some/tiny:multi" "$T/index" application/vnd.oci.image.index.v1+json
regcat resolve "$REGISTRY/some/tiny:multi" >"$T/resolved2"
check_eq "the image is chosen from it" "$(awk '/^document/ {print $2}' "$T/resolved2" | tail -n 1)" "$digest"

check_fails "an unknown tag" regcat resolve "$REGISTRY/some/tiny:none"
check_match "is named with the registry's words" "$(cat "$T/regcat.err")" "not found: $REGISTRY/some/tiny: manifest none: HTTP 404: MANIFEST_UNKNOWN"
check_fails "a range beyond the end" regcat blob "$REGISTRY/some/blobs" "$blob" 8000000 1
check_match "is out of range" "$(cat "$T/regcat.err")" "out of range"

# TLS and HTTP/2

start_tls_front "$REGISTRY"
log=$(ls -d "$T"/nginx*/access.log | tail -n 1)
check_fails "a certificate of nobody we know" regcat --https resolve "$TLS_REGISTRY/some/tiny:v1"
check_match "is refused at once" "$(cat "$T/regcat.err")" "certificate"
check_eq "without a second try" "$(jq -r .retries <(grep '^{' "$T/regcat.err"))" 0
check "it is accepted with its authority" regcat --ca "$TLS_CA" resolve "$TLS_REGISTRY/some/tiny:v1"
check "or unseen" regcat --skip-verify resolve "$TLS_REGISTRY/some/tiny:v1"
: >"$log"
regcat --ca "$TLS_CA" many "$TLS_REGISTRY/some/blobs" "$blob" 100 80000 >"$T/many"
check_same "a hundred ranges over TLS" "$T/many" "$T/blob"
check_eq "on one connection" "$(count connections)" 1
check_eq "that speaks HTTP/2" "$(grep -c 'HTTP/2.0" 206' "$log")" 100
regcat --ca "$TLS_CA" --http1 many "$TLS_REGISTRY/some/blobs" "$blob" 100 80000 >"$T/many"
check_same "or on several that do not" "$T/many" "$T/blob"
regcat --ca "$TLS_CA" --bulk blob "$TLS_REGISTRY/some/blobs" "$blob" >"$T/whole"
check_same "a whole blob in bulk" "$T/whole" "$T/blob"
check_eq "a push over TLS" "$(regcat --ca "$TLS_CA" push "$TLS_REGISTRY/tls/blobs" "$T/blob")" "uploaded $blob"

# A network that breaks

plain=$REGISTRY
start_netproxy "$plain"
start_tls_front "$NETPROXY"
for how in "plain $NETPROXY" "TLS $TLS_REGISTRY --ca $TLS_CA"; do
	read -r name host options <<<"$how"
	for fault in reset truncate=50% status=503 norange stall; do
		netproxy_ask fault "$fault" 1 GET /v2/some/blobs/ >"$T/ask" || bail "netproxy refuses $fault"
		regcat $options --stall-ms 500 blob "$host/some/blobs" "$blob" 4000000 300000 >"$T/part"
		tail -c +4000001 "$T/blob" | head -c 300000 >"$T/part.want"
		check_same "$name: $fault is survived" "$T/part" "$T/part.want"
	done
	netproxy_ask fault status=500 all GET /v2/some/blobs/ >"$T/ask"
	check_fails "$name: an endless 500 is not" regcat $options blob "$host/some/blobs" "$blob" 0 10
	check_match "and says so" "$(cat "$T/regcat.err")" "unavailable: $host/some/blobs: blob $blob: after 6 attempts in [0-9.]+ s: HTTP 500"
	netproxy_ask clear >"$T/ask"
done

# A blob whose digest is known at its end, over a network that breaks

head -c 30000000 /dev/urandom >"$T/large"
large=sha256:$(sha256sum "$T/large" | cut -d' ' -f1)
for fault in none reset status=503; do
	[ "$fault" = none ] || netproxy_ask fault "$fault" 1 PATCH /v2/some/ >"$T/ask" || bail "netproxy refuses $fault"
	check_eq "upload: $fault" "$(regcat --stall-ms 500 upload "$NETPROXY/some/uploads-${fault%=*}" "$T/large")" "uploaded $large"
	regcat blob "$plain/some/uploads-${fault%=*}" "$large" >"$T/whole"
	check_same "upload: $fault: comes back whole" "$T/whole" "$T/large"
done
netproxy_ask clear >"$T/ask"

# Referrers, of a registry that knows nothing of them

check_eq "nobody refers to it" "$(regcat referrers "$plain/some/tiny:v1")" ""
one=$(regcat refer "$plain/some/tiny:v1" application/vnd.test.one "$T/index")
two=$(regcat refer "$plain/some/tiny:v1" application/vnd.test.two "$T/index")
check_match "an artifact is pushed" "$one" '^sha256:'
check_eq "and found" "$(regcat referrers "$plain/some/tiny:v1" application/vnd.test.one)" "$one application/vnd.test.one"
check_eq "beside another" "$(regcat referrers "$plain/some/tiny:v1" | sort)" \
	"$(printf '%s\n' "$one application/vnd.test.one" "$two application/vnd.test.two" | sort)"
check_eq "by the tag that clients agree on" \
	"$(skopeo inspect --raw --tls-verify=false "docker://$plain/some/tiny:${digest/:/-}" | jq -r '.manifests[].digest' | sort)" \
	"$(printf '%s\n' "$one" "$two" | sort)"

# A password

start_registry --user bob secret
check_fails "no password" regcat push "$REGISTRY/some/blobs" "$T/blob"
check_match "is an error of authorization" "$(cat "$T/regcat.err")" "unauthenticated: $REGISTRY/some/blobs: .*HTTP 401"
check_fails "a wrong one too" regcat --creds bob:wrong push "$REGISTRY/some/blobs" "$T/blob"
check_fails "it is not told" grep -q wrong "$T/regcat.err"
check_eq "the right one opens" "$(regcat --creds bob:secret push "$REGISTRY/some/blobs" "$T/blob")" "uploaded $blob"
regcat --creds bob:secret blob "$REGISTRY/some/blobs" "$blob" >"$T/whole"
check_same "for reading too" "$T/whole" "$T/blob"
finish
