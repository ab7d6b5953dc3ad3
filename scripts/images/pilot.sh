#!/bin/sh
# pilot.sh [TAG]: build the pilot's image from this tree; prints its size and
# what takes it, and writes an SBOM (CycloneDX) to build/sbom.json.
#
# Wheels are made on the host, so the build itself needs only Debian's
# packages. Versions of other people's packages are in constraints.txt beside
# this file; `UPDATE=1` takes the newest and rewrites it. `TARGET=pilot-dockerd`
# builds the variant with a Docker daemon, `EXTRAS=kubernetes` the one whose
# payloads are pods.
set -eu
cd "$(dirname "$0")/../.."
tag=${1:-rubin-panda-pilot:local}
base=${BASE:-debian:bookworm-slim}
pip=${PIP:-.venv/bin/pip}
constraints=scripts/images/constraints.txt
docker image inspect "$base" >/dev/null 2>&1 || scripts/images/debian.sh

rm -rf build/wheels
mkdir -p build/wheels/others build/wheels/ours
extras=${EXTRAS:-}
# The file holds the versions of every variant's packages.
if [ "${UPDATE:-0}" = 1 ]; then
    extras=kubernetes
    set --
else
    set -- --constraint "$constraints"
fi
"$pip" wheel -qq --disable-pip-version-check --wheel-dir build/wheels/others "$@" ".${extras:+[$extras]}"
mv build/wheels/others/rubin_panda_pilot-*.whl build/wheels/ours/

docker build --quiet --network host --target "${TARGET:-pilot}" --build-arg "BASE=$base" \
    --build-arg "USER=${IMAGE_USER:-0}" --tag "$tag" . >/dev/null

docker run --rm --network none --entrypoint /bin/sh "$tag" -c '
    dpkg-query -W -f="deb \${Package} \${Version} \${Architecture}\n"
    /usr/bin/python3 - <<P
from importlib.metadata import distributions
for d in sorted(distributions(path=["/opt/pilot/lib/python3.11/site-packages"]), key=lambda d: d.name.lower()):
    print("pypi", d.name, d.version, "-")
P' >build/packages.txt
[ "${UPDATE:-0}" = 0 ] || awk '$1 == "pypi" && $2 != "rubin-panda-pilot" { print $2 "==" $3 }' \
    build/packages.txt >"$constraints"
"${pip%pip}python" scripts/images/sbom.py "$tag" <build/packages.txt >build/sbom.json

docker image inspect --format '{{.Size}}' "$tag" |
    awk -v tag="$tag" '{ printf "%s: %.0f MB, of which\n", tag, $1 / 1e6 }'
docker history --human=false --no-trunc --format '{{.Size}} {{.CreatedBy}}' "$tag" |
    awk '$1 > 1e6 { size = $1 / 1e6; $1 = ""; sub("^ /bin/sh -c (#.nop. *)?", "")
                    printf "  %4.0f MB  %s\n", size, (length($0) > 3) ? substr($0, 1, 90) : "the base" }'
echo "build/sbom.json lists $(wc -l <build/packages.txt) packages"
