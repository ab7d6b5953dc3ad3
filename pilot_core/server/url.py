"""PURE: the address of a PanDA server, as a setting gives it."""

from urllib.parse import urlsplit

from pilot_core.errors import SetupError

__all__ = ["DEFAULT_PORT", "DEFAULT_SERVER", "base_url"]

#: Rubin's.
DEFAULT_SERVER = "https://pandaserver-doma.cern.ch"
#: Where neither URL nor `--port` names one (pilot3 `--port`).
DEFAULT_PORT = 25443


def base_url(url: str, *, setting: str, port: int | None = None) -> str:
    """`scheme://host:port` of a server; what follows is the client's.

    Parameters
    ----------
    url
        With or without scheme, port and path.
    setting
        The option, variable or key that gave it, for people.
    port
        Where the URL names none.

    Raises
    ------
    SetupError
        Naming the setting and its value.
    """
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        given = parts.port
    except ValueError as err:
        raise SetupError(f"{setting}={url!r}: {err}") from err
    if parts.scheme not in ("http", "https") or not parts.hostname or given == 0:
        raise SetupError(f"{setting}={url!r}: expected http(s)://host[:port]")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{given or port or DEFAULT_PORT}"
