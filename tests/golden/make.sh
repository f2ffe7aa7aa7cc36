#!/bin/sh
# Makes the golden layers: layer.tar.gz, and what ctr-remote (stargz-snapshotter) makes of it. Needs root, containerd,
# ctr-remote, python3, GNU tar. Run it only to renew them: other tools' versions give other bytes, and then the digests
# in estargz/testing/golden_test.c change too (they are printed at the end).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
d=$(mktemp -d)
mkdir -p "$d/tree" "$d/layout/blobs/sha256" "$d/run"
cd "$d/tree"
mkdir -p etc data bin usr/share usr/lib opt
printf 'hello world\n' > etc/hello.txt
: > etc/empty
python3 -c "
import random; random.seed(5)
for name, n in ('big', 20000), ('even', 16384):
    open('data/%s.bin' % name, 'wb').write(bytes(random.choices(b'abcdefgh', k=n)))"
head -c 3000 /dev/zero > data/zeros
printf 'abc' > bin/suid
chmod 4755 bin/suid
setfattr -n user.note -v 'some value' bin/suid
chown 1000:70000 etc/hello.txt
ln -s ../data/big.bin etc/link
ln etc/hello.txt etc/hard
mkfifo opt/pipe
mknod opt/null c 1 3
: > usr/share/.wh.gone
: > usr/lib/.wh..wh..opq
long=$(printf 'n%.0s' $(seq 120))
printf long > "opt/$long"
find . -exec touch -h -d '2023-11-14 22:13:20 UTC' {} +
tar --sort=name --format=pax --pax-option=delete=atime,delete=ctime --xattrs --xattrs-include='user.*' --numeric-owner \
	-cf "$d/layer.tar" .
cd "$d"
python3 - <<'P'
import hashlib, json
def blob(b):
    h = hashlib.sha256(b).hexdigest()
    open('layout/blobs/sha256/' + h, 'wb').write(b)
    return {'digest': 'sha256:' + h, 'size': len(b)}
oci = 'application/vnd.oci.image.'
layer = blob(open('layer.tar', 'rb').read())
config = blob(json.dumps({'architecture': 'amd64', 'os': 'linux', 'config': {},
                          'rootfs': {'type': 'layers', 'diff_ids': [layer['digest']]}}).encode())
manifest = blob(json.dumps({'schemaVersion': 2, 'mediaType': oci + 'manifest.v1+json',
                            'config': {'mediaType': oci + 'config.v1+json', **config},
                            'layers': [{'mediaType': oci + 'layer.v1.tar', **layer}]}).encode())
json.dump({'schemaVersion': 2, 'manifests': [{'mediaType': oci + 'manifest.v1+json', **manifest, 'annotations': {
    'io.containerd.image.name': 'example.com/golden:src', 'org.opencontainers.image.ref.name': 'src'}}]},
    open('layout/index.json', 'w'))
json.dump({'imageLayoutVersion': '1.0.0'}, open('layout/oci-layout', 'w'))
P
tar -C layout -cf image.tar .
cat > config.toml <<C
version = 2
root = "$d/run/root"
state = "$d/run/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "$d/run/c.sock"
C
containerd -c config.toml > run/log 2>&1 &
pid=$!
trap 'kill $pid; wait $pid || :; rm -rf "$d"' EXIT
for i in $(seq 50); do
	ctr -a run/c.sock version > /dev/null 2>&1 && break
	sleep 0.2
done
ctr -a run/c.sock image import image.tar > /dev/null
ctr-remote -a run/c.sock image convert --oci --estargz --estargz-chunk-size 8192 example.com/golden:src example.com/golden:e
ctr-remote -a run/c.sock image convert --oci --zstdchunked example.com/golden:src example.com/golden:z
ctr -a run/c.sock image export e.tar example.com/golden:e
ctr -a run/c.sock image export z.tar example.com/golden:z
python3 - "$here" <<'P'
import json, sys, tarfile
for tar, name in ('e.tar', 'estargz'), ('z.tar', 'zstdchunked'):
    t = tarfile.open(tar)
    blob = lambda d: t.extractfile('blobs/sha256/' + d.split(':')[1]).read()
    m = json.loads(blob(json.load(t.extractfile('index.json'))['manifests'][0]['digest']))
    layer = m['layers'][0]
    open('%s/%s.blob' % (sys.argv[1], name), 'wb').write(blob(layer['digest']))
    print(name, 'TOC', layer['annotations']['containerd.io/snapshot/stargz/toc.digest'])
P
gzip -n9 -c layer.tar > "$here/layer.tar.gz"
