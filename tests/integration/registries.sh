#!/bin/bash
# hosts.toml: mirrors before the registry, what happens when they lack something or are gone, and what is sent to whom.
. "$(dirname "$0")/../node.sh"
/usr/bin/python3 -c 'import grpc' 2>/dev/null || bail "python3-grpcio is missing: run cmake/setup.sh"

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
start_registry
MIRROR=$REGISTRY
publish "$T/tiny" test/tiny
start_registry --user bob secret
ORIGIN=$REGISTRY
skopeo copy --quiet --insecure-policy --all --src-tls-verify=false --dest-tls-verify=false --dest-creds bob:secret \
	"docker://$MIRROR/test/tiny:lazy" "docker://$ORIGIN/test/tiny:lazy" || bail "push failed"
push_layout "$T/tiny" test/tiny:plain --dest-creds bob:secret || bail "push failed"
skopeo copy --quiet --insecure-policy --src-tls-verify=false --dest-tls-verify=false --dest-creds bob:secret \
	"docker://$MIRROR/test/tiny:plain" "docker://$ORIGIN/test/other:plain" || bail "push failed"
start_netproxy "$MIRROR"
MIRROR_PROXY=$NETPROXY MIRROR_LOG=$NETPROXY_LOG MIRROR_CONTROL=$NETPROXY_CONTROL
start_netproxy "$ORIGIN"
HOST=$NETPROXY ORIGIN_LOG=$NETPROXY_LOG

start_contentd hosts 'background = "off"'
toml=$CONTENTD/certs.d/$HOST/hosts.toml
mkdir -p "${toml%/*}" "$T/nothing"
export DOCKER_CONFIG=$T/nothing
forget() {
	ctl rmi "$HOST/test/tiny:lazy" "$HOST/test/tiny:plain" >"$T/rmi.out" 2>&1
	ctl gc >"$T/gc.out"
	: >"$MIRROR_LOG"
	: >"$ORIGIN_LOG"
}
requests() { grep -c "$1" "$2"; }

printf '[host."http://%s"]\ncapabilities = ["pull", "resolve"]\n' "$MIRROR_PROXY" >"$toml"
check "a pull that a mirror serves" ctl pull "$HOST/test/tiny:lazy"
check_eq "asks the registry for nothing" "$(wc -l <"$ORIGIN_LOG")" 0
check_match "tells the mirror for whom" "$(head -n 1 "$MIRROR_LOG")" "/v2/test/tiny/manifests/lazy\?ns=$HOST"
check_match "files come from there, too" "$(ctl run --rm --net none "$HOST/test/tiny:lazy" 2>&1)" '^hello from tiny$'
check_eq "all of them" "$(wc -l <"$ORIGIN_LOG")" 0

forget
printf '[host."http://%s"]\ncapabilities = ["pull"]\n' "$MIRROR_PROXY" >"$toml"
check_fails "a mirror that may not resolve leaves that to the registry" ctl pull "$HOST/test/tiny:lazy"
check "with its password" ctl pull --creds bob:secret "$HOST/test/tiny:lazy"
check_eq "which the mirror is not asked" "$(requests manifests/lazy "$MIRROR_LOG")" 0
check_eq "the rest comes from the mirror" "$(requests blobs/ "$ORIGIN_LOG")" 0

check "what the mirror does not have comes from the registry" ctl pull --creds bob:secret "$HOST/test/other:plain"
check_match "which it was asked for first" "$(tr -d '\0' <"$MIRROR_LOG")" "test/other/blobs/"
check_eq "nobody else saw the password" "$(grep -c "Authorization\|Ym9i" "$MIRROR_LOG")" 0

forget
"$BIN/netproxy" --ask "$MIRROR_CONTROL" down reset >"$T/ask.out"
check "a mirror that is down" ctl pull --creds bob:secret "$HOST/test/tiny:lazy"
check_match "does not keep files from being read" "$(ctl run --rm --net none "$HOST/test/tiny:lazy" 2>&1)" '^hello from tiny$'
check "nor a pull as a whole" ctl pull --lazy off --creds bob:secret "$HOST/test/tiny:plain"
"$BIN/netproxy" --ask "$MIRROR_CONTROL" up >"$T/ask.out"

check "a push goes past mirrors that take none" ctl push --creds bob:secret "$HOST/test/tiny:plain" "$HOST/pushed/here:1"
check_eq "to the registry" "$(requests 'PUT /v2/pushed/here/manifests/1' "$ORIGIN_LOG") $(requests pushed/here "$MIRROR_LOG")" "1 0"

forget
printf 'server = "http://%s"\n[header]\nAuthorization = "Basic %s"\n' "$HOST" "$(printf bob:secret | base64)" >"$toml"
check "a header of the registry" ctl pull "$HOST/test/tiny:lazy"

forget
mkdir -p "$CONTENTD/certs.d/_default"
rm -r "${toml%/*}"
printf '[host."http://%s/v2"]\noverride_path = true\n' "$MIRROR_PROXY" >"$CONTENTD/certs.d/_default/hosts.toml"
check "a mirror of everything, under a path of its own" ctl pull "$HOST/test/tiny:lazy"
check_eq "serves it" "$(requests manifests/lazy "$ORIGIN_LOG")" 0

# ---- certificates ----
start_tls_front "$MIRROR"
forget
printf '\n[host."https://%s"]\n' "$TLS_REGISTRY" >"$CONTENTD/certs.d/_default/hosts.toml"
check_fails "a mirror that nobody vouches for" ctl pull "$HOST/test/tiny:lazy"
cp "$TLS_CA" "$CONTENTD/certs.d/_default/ours.pem"
printf '[host."https://%s"]\nca = "ours.pem"\n' "$TLS_REGISTRY" >"$CONTENTD/certs.d/_default/hosts.toml"
check "one with an authority of ours" ctl pull "$HOST/test/tiny:lazy"
forget
printf '[host."https://%s"]\nskip_verify = true\n' "$TLS_REGISTRY" >"$CONTENTD/certs.d/_default/hosts.toml"
check "one that is not verified" ctl pull "$HOST/test/tiny:lazy"
check_match "is complained about" "$(tr -d '\0' <"$T/hosts.1.log")" "$TLS_REGISTRY.*NOT verified"

# ---- what a client says for one call ----
rm -r "$CONTENTD/certs.d/_default"
pull() { /usr/bin/python3 "$SOURCE_DIR/tests/transfer_pull.py" "$CONTENTD/contentd.sock" "$CONTENTD_NAMESPACE" "$@"; }
mkdir -p "$T/own/${HOST%:*}_${HOST#*:}_"
printf '[host."http://%s"]\n' "$MIRROR_PROXY" >"$T/own/${HOST%:*}_${HOST#*:}_/hosts.toml"
forget
check_match "without anything" "$(pull "$HOST/test/tiny:plain" "" "")" "^UNAUTHENTICATED"
check_match "with a directory" "$(pull "$HOST/test/tiny:plain" "$T/own" "")" "^OK"
check_match "with a header" "$(pull "$HOST/test/tiny:plain" "" "" "Authorization=Basic $(printf bob:secret | base64)")" "^OK"
check_match "with a scheme" "$(pull "$TLS_REGISTRY/test/tiny:plain" "" http)" "^(INVALID_ARGUMENT|UNAVAILABLE)" # it speaks TLS
check_match "with one that is none" "$(pull "$HOST/test/tiny:plain" "" ftp)" "^INVALID_ARGUMENT.*ftp"
check_match "with two headers in one" "$(pull "$HOST/test/tiny:plain" "" "" "$(printf 'a=b\r\nc: d')")" "^INVALID_ARGUMENT"

# ---- mistakes ----
mkdir "$CONTENTD/certs.d/_default"
printf '[host."https://%s"]\ndial_timeout = "1s"\n' "$TLS_REGISTRY" >"$CONTENTD/certs.d/_default/hosts.toml"
check_match "what is not understood is refused, with its line" "$(ctl pull "$HOST/test/tiny:plain" 2>&1)" \
	"_default/hosts.toml:2: .*dial_timeout: unknown key"
finish
