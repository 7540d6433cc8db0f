#!/bin/sh
# Starts a shell with the built command on its PATH and a scratch config with a local stream. Usage: shell.sh TRITON
set -eu
folder=$(cd "$(dirname "$1")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
export PATH="$folder:$PATH" TRITON_CONFIG="$scratch/triton.yaml" XDG_DATA_HOME="$scratch"
triton init --config "$TRITON_CONFIG" >/dev/null
echo hello | triton put -s demo
cat <<'TEXT'
The stream 'demo' holds one record. Try:
  triton get -s demo --from all -e
  triton get -s demo &
  echo hi | triton put -s demo
  triton shards -s demo --tree
Leave with 'exit'; the scratch folder goes with the shell.
TEXT
"${SHELL:-sh}" || true
