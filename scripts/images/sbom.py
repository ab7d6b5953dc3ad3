"""Packages on stdin to an SBOM (CycloneDX 1.5, JSON) on stdout: `sbom.py
IMAGE`.

One package a line: kind (`deb` or `pypi`), name, version, architecture.
"""

import json
import sys
from collections.abc import Iterable
from urllib.parse import quote

__all__ = ["bom"]

#: Package URL (purl) of each kind; the distribution is Debian's, whatever the
#: base.
_PURL = {
    "deb": "pkg:deb/debian/{name}@{version}?arch={arch}",
    "pypi": "pkg:pypi/{name}@{version}",
}


def bom(image: str, lines: Iterable[str]) -> dict[str, object]:
    """The document; without time or serial number: equal images give equal
    files.
    """
    components = []
    for line in lines:
        kind, name, version, arch = line.split()
        normal = name.lower().replace("_", "-") if kind == "pypi" else name
        purl = _PURL[kind].format(name=normal, version=quote(version, safe="."), arch=arch)
        components.append(
            {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        )
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": image}},
        "components": components,
    }


if __name__ == "__main__":
    json.dump(bom(sys.argv[1], sys.stdin), sys.stdout, indent=1)
    print()
