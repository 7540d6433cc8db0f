#!/bin/sh
# Puts records into a local stream in a scratch folder and gets them back. Usage: demo.sh TRITON
set -eu
triton=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

run() {
    printf '\n$ %s\n' "$1"
    # Nothing configured, as on a fresh machine; `triton` is the command that was built.
    env -i HOME="$scratch" PATH="$(dirname "$triton"):/usr/bin:/bin" sh -c "$1"
}

run "echo 'hi' | triton put -s test_stream"
run "triton get -s test_stream --from all -e"
run "printf '%s\n' '{\"user\":\"ann\",\"page\":\"/\"}' '{\"user\":\"bob\",\"page\":\"/shoes\"}' | triton put -q -s test_stream --json --key-field user --ack"
run "triton get -q -s test_stream --from all -e -o '%k %s\n'"
run "triton streams split -q -s test_stream -d 0"
run "triton shards -q -s test_stream --tree"
