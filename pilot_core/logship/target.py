"""PURE. What `--realtime-logging-server` says, in every spelling of the field."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from urllib.parse import urlsplit

__all__ = ["KINDS", "LABEL_KEYS", "LOKI_PUSH", "Target", "at_loki", "parse_target"]

#: Loki's path for records, and the option with the fields that are labels.
LOKI_PUSH = "/loki/api/v1/push"
LABEL_KEYS = "label_keys"

# Names in use, and the sink each of them means.
_NAMES = {
    "google-cloud-logging": "google",
    "google-cloud": "google",
    "google": "google",
    "file": "file",
    "stdout": "stdout",
    "loki": "loki",
    "fluent": "fluent",
    "fluentd": "fluent",
    "logstash": "logstash",
}
KINDS = tuple(dict.fromkeys(_NAMES.values()))

_SCHEMES = {
    "google": ("http", "https"),
    "loki": ("http", "https"),
    "logstash": ("http", "https", "tcp", "tls"),
    "fluent": ("tcp", "tls", "http", "fluent"),
}
# pilot3 needs an address after the `;` and ignores it for Google; panda-k8s
# writes `https://google:80`.
_DUMMY_HOSTS = re.compile(
    r"(?:https?://)?(?:google|(?:[\w-]+\.)*google(?:apis)?\.com)(?::\d+)?/?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where records go.

    Attributes
    ----------
    kind
        One of `KINDS`.
    endpoint
        Base URL, or the path of a file; empty for the service's own address.
    options
        What follows further `;`, as `name=value`.
    """

    kind: str
    endpoint: str = ""
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def parse_target(text: str, loki_url: str = "", loki_labels: Sequence[str] = ()) -> Target:
    """Understand one of these, quoted or not, with or without `logserver=` in
    front.

    ::

        google-cloud-logging                      Google itself
        google-cloud-logging;http://host:port     another endpoint, anonymous
        google-cloud-logging;https://google:80    Google itself (panda-k8s)
        loki;https://host:port                    pilot3 since 2024
        logstash:https://host:port                pilot3 until 3.4
        file;/path/of/records.jsonl
        stdout

    `loki_url` and `loki_labels` count where it is a Loki, see `at_loki`.

    Raises
    ------
    ValueError
        Naming `text`, if it is none of them.
    """
    plain = _unquoted(text)
    if plain.startswith("logserver="):
        plain = _unquoted(plain.removeprefix("logserver="))
    first, _, more = plain.partition(";")
    if first.lower() not in _NAMES and ":" in first:
        # The older spelling: a colon before the address.
        head, _, tail = plain.partition(":")
        first, more = head, tail
    kind = _NAMES.get(first.strip().lower())
    if kind is None:
        raise ValueError(f"{text!r} names no log service: one of {', '.join(_NAMES)}")
    address, *rest = (part.strip() for part in more.split(";"))
    options = {}
    for part in filter(None, rest):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise ValueError(f"{text!r}: {part!r} is not name=value")
        options[name] = value
    target = Target(kind, _endpoint(kind, address, text), MappingProxyType(options))
    return at_loki(target, loki_url, loki_labels)


def at_loki(target: Target, url: str, labels: Sequence[str]) -> Target:
    """A target as LOKI_URL and LOKI_LABELKEYS have it, where it is a Loki.

    pilot3 sends to LOKI_URL whatever address the option has (SLAC's is a
    dummy); it names the whole path (util/lokirealtimelogger.py).

    Raises
    ------
    ValueError
        Naming `url`, if it is no address of Loki's.
    """
    if target.kind != "loki":
        return target
    options = {**target.options, **({LABEL_KEYS: ",".join(labels)} if labels else {})}
    if url:
        plain = url.strip().rstrip("/").removesuffix(LOKI_PUSH)
        target = replace(target, endpoint=_endpoint("loki", plain, f"LOKI_URL={url}"))
    return replace(target, options=MappingProxyType(options))


def _unquoted(text: str) -> str:
    plain = text.strip()
    while len(plain) > 1 and plain[0] == plain[-1] and plain[0] in "'\"":
        plain = plain[1:-1].strip()
    return plain


def _endpoint(kind: str, address: str, text: str) -> str:
    if kind == "stdout":
        if address:
            raise ValueError(f"{text!r}: stdout takes no address")
        return ""
    if kind == "file":
        path = address.removeprefix("file://")
        if not path.startswith("/"):
            raise ValueError(f"{text!r}: a file needs an absolute path, as in file;/tmp/records.jsonl")
        return path
    if not address:
        if kind == "google":
            return ""
        raise ValueError(f"{text!r}: {kind} needs an address, as in {kind};https://host:port")
    if kind == "google" and _DUMMY_HOSTS.fullmatch(address):
        return ""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as err:
        raise ValueError(f"{text!r}: {address!r} is not an address: {err}") from err
    if parts.scheme not in _SCHEMES[kind] or not host:
        shown = ", ".join(f"{s}://" for s in _SCHEMES[kind])
        raise ValueError(f"{text!r}: {address!r} is not an address of {kind} ({shown} and a host)")
    return address.rstrip("/")
