#!/usr/bin/env bash
# Applies every deliberate fault to a copy of the tree, one by one, and lets the simulation look for
# it: first in short runs with many uploads, then in months with few. Fails if one is not caught.
#
#   infra/simulation/faults/check.sh                      # all of them
#   infra/simulation/faults/check.sh attempt-not-counted  # one
set -euo pipefail
seeds=${SEEDS:-500}

root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
copy=$root/target/simulation-faults
# The dependencies are those of the tree itself, so they need not be built again.
export CARGO_TARGET_DIR=$root/target

faults=("$@")
if [ ${#faults[@]} -eq 0 ]; then
    for patch in "$root"/infra/simulation/faults/*.patch; do
        faults+=("$(basename "$patch" .patch)")
    done
fi

rm -rf "$copy"
mkdir -p "$copy"
# To cargo, a file of the copy and the same file of the tree are one. With new times here and there, it
# never takes a library with a fault in it for one without.
trap 'cd "$root" && git ls-files -z "*.rs" | xargs -0 touch' EXIT
git -C "$root" ls-files -z | tar --directory "$root" --null --files-from - --create --file - |
    tar --directory "$copy" --touch --extract --file -
cd "$copy"

missed=0
for fault in "${faults[@]}"; do
    patch --quiet --strip 1 < "$root/infra/simulation/faults/$fault.patch"
    printf '%-45s' "$fault"
    cargo build --quiet --profile simulate --workspace --example first-broken-seed
    "$CARGO_TARGET_DIR/simulate/examples/first-broken-seed" "$seeds" 40 13 ||
        "$CARGO_TARGET_DIR/simulate/examples/first-broken-seed" "$seeds" 12 30 ||
        missed=$((missed + 1))
    patch --quiet --strip 1 --reverse < "$root/infra/simulation/faults/$fault.patch"
done
rm -rf "$copy"
[ "$missed" -eq 0 ] || { echo "$missed of ${#faults[@]} faults are not caught"; exit 1; }
