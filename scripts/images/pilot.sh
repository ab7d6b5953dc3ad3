#!/bin/sh
# pilot.sh [TAG]: build the pilot's image from this tree; prints its size and
# what is in it. Wheels are made on the host, so the build itself needs only
# Debian's packages.
set -eu
cd "$(dirname "$0")/../.."
tag=${1:-rubin-panda-pilot:local}
base=${BASE:-debian:bookworm-slim}
pip=${PIP:-.venv/bin/pip}
docker image inspect "$base" >/dev/null 2>&1 || scripts/images/debian.sh
rm -rf build/wheels
mkdir -p build/wheels
"$pip" wheel --quiet --disable-pip-version-check --wheel-dir build/wheels .
docker build --quiet --network host --build-arg "BASE=$base" --tag "$tag" . >/dev/null
docker image inspect --format '{{.RepoTags}} {{.Size}} bytes' "$tag"
docker run --rm --entrypoint /bin/sh "$tag" -c '
    dpkg-query -W -f="deb \${Package} \${Version}\n"
    /usr/bin/python3 - <<P
from importlib.metadata import distributions
for d in sorted(distributions(path=["/opt/pilot/lib/python3.11/site-packages"]), key=lambda d: d.name.lower()):
    print("pip", d.name, d.version)
P' >build/sbom.txt
echo "build/sbom.txt lists $(wc -l <build/sbom.txt) packages"
