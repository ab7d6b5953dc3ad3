#!/usr/bin/env bash
# debian.sh [--force]: make the image debian:bookworm-slim where no registry is in reach.
#
# Idempotent: does nothing if the engine has the image. Takes about 30 s and 200 MB.
# Needs root, debootstrap (apt) and an engine that answers. The mirror is the one this
# machine's own apt uses, so a site's cache or mirror serves; otherwise debootstrap's default.
set -euo pipefail

readonly suite=bookworm image=debian:bookworm-slim

die() { echo "debian.sh: $*" >&2; exit 1; }

# The first repository of this machine's apt that carries the suite itself (not -updates, not -security).
apt_mirror() {
    command -v apt-get >/dev/null || return 0
    # The format is apt's own language: the $(...) are for apt-get, not for this shell.
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk -v suite="$suite" '$1 == suite { print $2; exit }'
}

[ "$#" -eq 0 ] || [ "$1" = --force ] || die "usage: debian.sh [--force]"
docker version --format '{{.Server.Version}}' >/dev/null 2>&1 || die "no Docker engine answers"
if [ "${1:-}" != --force ] && docker image inspect "$image" >/dev/null 2>&1; then
    echo "$image is there"
    exit 0
fi
command -v debootstrap >/dev/null || die "debootstrap is missing (apt-get install debootstrap)"
[ "$(id -u)" -eq 0 ] || die "debootstrap needs root"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mirror=$(apt_mirror)
echo "making $image from ${mirror:-the default mirror of debootstrap}"
# An empty mirror must not be passed as an argument: debootstrap would take it for one.
debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log" >&2; die "debootstrap failed, log: $root.log"; }
rm -rf "$root.log" "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
tar -C "$root" -c . | docker import --change 'CMD ["bash"]' - "$image" >/dev/null
echo "$image is ready"
