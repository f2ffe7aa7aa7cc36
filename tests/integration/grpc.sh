#!/bin/bash
# The API with a client of another family than Go's: grpc's C core through Python. Sizes, streams, flow control,
# compression, cancellation, deadlines.
. "$(dirname "$0")/../lib.sh"
/usr/bin/python3 -c 'import grpc' 2>/dev/null || bail "python3-grpcio is missing: run cmake/setup.sh"

D=$T/d
defer sweep "$D"
mkdir "$D"
start contentd "$BIN/contentd" --root "$D/root" --state "$D/state"
wait_for 20 "$BIN/contentctl" --address "$D/state/contentd.sock" info || start_failed contentd

timeout 120 /usr/bin/python3 "$SOURCE_DIR/tests/grpc_client.py" "$D/state/contentd.sock" >"$T/client.log" 2>&1
check_eq "the client ends well" "$?" 0
cat "$T/client.log"
T_PASSED=$((T_PASSED + $(grep -c '^ok ' "$T/client.log")))
T_FAILED=$((T_FAILED + $(grep -c '^FAIL ' "$T/client.log")))
check_match "it has checked what it should" "$(grep -c '^ok ' "$T/client.log")" "^2[0-9]$"
check "contentd serves on" "$BIN/contentctl" --address "$D/state/contentd.sock" version
finish
