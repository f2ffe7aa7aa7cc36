#!/bin/bash
# The fixtures themselves: registry, TLS front, proxy and images do what the other tests take for granted.
. "$(dirname "$0")/../lib.sh"
require skopeo umoci jq curl

make_tiny_image "$T/tiny" || bail "tiny_image.py failed"
make_tiny_image "$T/tiny-again"
make_tiny_image --seed 2 "$T/other"
check "a tiny image is the same every time" diff -r "$T/tiny" "$T/tiny-again"
check_fails "another seed makes another image" diff -rq "$T/tiny" "$T/other"

umoci unpack --image "$T/tiny:latest" "$T/bundle" >"$T/umoci.log" 2>&1 || bail "umoci: $(cat "$T/umoci.log")"
tree_list "$T/bundle/rootfs" >"$T/tree"
check_eq "it runs" "$(chroot "$T/bundle/rootfs" /app/hello)" "hello from tiny"
check_eq "whiteouts are applied" "$(cd "$T/bundle/rootfs" && ls gone opaque | tr '\n' ' ')" "gone: back  opaque: kept-by-name new "
check_match "tree_list shows attributes" "$(grep ^bin/with-cap "$T/tree")" "xattr=security.capability=01"
check_match "tree_list shows hard links" "$(grep ^usr/share/linked-3 "$T/tree")" "same=data/linked"

start_registry
start_netproxy "$REGISTRY"
start_tls_front "$NETPROXY"
push_layout "$T/tiny" tiny || bail "push failed"
skopeo copy --quiet --insecure-policy --src-tls-verify=false "docker://$NETPROXY/tiny" "oci:$T/pulled:latest" ||
	bail "pull failed"
umoci unpack --image "$T/pulled:latest" "$T/bundle2" >"$T/umoci.log" 2>&1
tree_list --no-dir-times "$T/bundle/rootfs" >"$T/tree"
tree_list --no-dir-times "$T/bundle2/rootfs" >"$T/tree2"
check_same "what is pulled through the proxy is what was pushed" "$T/tree2" "$T/tree"
manifest=$T/tiny/blobs/sha256/$(jq -r '.manifests[0].digest' "$T/tiny/index.json" | cut -d: -f2)
check "the proxy has seen the layers" test "$(netproxy_get body_bytes)" -gt "$(jq '[.layers[].size] | add' "$manifest")"
check_match "the proxy logs requests" "$(cat "$NETPROXY_LOG")" "^GET /v2/tiny/blobs/sha256:[0-9a-f]{64} -> 200 [0-9]+ bytes"

mkdir "$T/certs" && cp "$TLS_CA" "$T/certs/ca.crt"
check "a pull over TLS" skopeo copy --quiet --insecure-policy --src-cert-dir "$T/certs" "docker://$TLS_REGISTRY/tiny" "dir:$T/over-tls"
check_eq "the front speaks HTTP/2" "$(curl -s -o "$T/out" -w '%{http_version}' --cacert "$TLS_CA" "https://$TLS_REGISTRY/v2/")" 2
check "a push over TLS" skopeo copy --quiet --insecure-policy --dest-cert-dir "$T/certs" "oci:$T/other:latest" "docker://$TLS_REGISTRY/other"

start_registry --user bob secret
check_eq "a registry wants its password" "$(curl -s -o "$T/out" -w '%{http_code}' "http://$REGISTRY/v2/")" 401
check "and takes it" push_layout "$T/tiny" tiny --dest-creds bob:secret
finish
