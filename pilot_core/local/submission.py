"""PURE: a job definition from what the user of `pilot-local submit` gave,
checked as a pilot will read it.

The server itself takes anything, as a real one does: a mistake is told to the
one who makes it, before it costs a job.
"""

import base64
import difflib
import json
import re
from collections.abc import Mapping

from pilot_core.errors import BadJob
from pilot_core.jobs.definition import read_definition
from pilot_core.jobs.fields import number
from pilot_core.local.definition import KEYS, QUEUE_KEY, complete

__all__ = ["check", "from_options", "parse", "unread"]

# Far from all of the grammar: what no engine takes for a name.
_IMAGE = re.compile(r"(?:docker://)?[A-Za-z0-9][\w.:/@-]*", re.ASCII)


def parse(text: bytes) -> dict[str, object]:
    """A definition, or a part of one, in JSON.

    Raises
    ------
    ValueError
        Saying why it is none.
    """
    try:
        found = json.loads(text)
    except UnicodeDecodeError:
        raise ValueError("is not JSON: no text in UTF-8") from None
    except RecursionError:
        raise ValueError("is not JSON: too deep") from None
    except ValueError as err:
        raise ValueError(f"is not JSON: {err}") from None
    if not isinstance(found, dict):
        raise ValueError("is no job definition: that is a JSON object")
    return found


def from_options(
    definition: Mapping[str, object],
    *,
    url: str,
    queue: str | None = None,
    name: str | None = None,
    image: str | None = None,
    transformation: str | None = None,
    command: str | None = None,
) -> dict[str, object]:
    """The definition with what the options say, which counts more than the
    file; None for an option that was not given.

    Parameters
    ----------
    definition
        From the file; may be empty.
    url
        Of the server, which serves the transformations that have no URL.
    command
        Of the image or the transformation, where one is named; else one for
        the shell.

    Raises
    ------
    ValueError
        The shell is given nothing to do, or an option is not what it should
        be.
    """
    if image is not None and not _IMAGE.fullmatch(image):
        raise ValueError(
            f"--image {image!r} is no name of a container image, like registry.org/team/stack:w_2026_30"
        )
    if transformation and "://" not in transformation:
        if "/" in transformation:
            why = "is a path: a pilot fetches a transformation by its URL"
            raise ValueError(
                f"--transformation {transformation!r} {why}; --command runs a file of this machine"
            )
        transformation = f"{url}/trf/{transformation}"
    given = {
        QUEUE_KEY: queue,
        "jobName": name,
        "container_name": image,
        "transformation": transformation,
        "jobPars": command,
    }
    found = {**definition, **{key: value for key, value in given.items() if value is not None}}
    if command is not None and not found.get("container_name") and not found.get("transformation"):
        if not command.strip():
            raise ValueError("--command is empty: what is the job?")
        # Encoded as Rubin's are, so that no shell on the way reads it.
        found["transformation"] = f"{url}/trf/bash-c-enc"
        found["jobPars"] = base64.b64encode(command.encode()).decode()
    return found


def check(definition: Mapping[str, object]) -> str:
    """Read a definition as the pilot will; returns its queue.

    Raises
    ------
    BadJob
        Naming field and value, of what the pilot or the server would refuse.
    """
    full = complete(definition)
    if full["PandaID"] == 0:
        full["PandaID"] = 1  # the server's to choose
    job = read_definition(full)
    if number(full, "currentPriority") is None:
        raise BadJob("currentPriority", full["currentPriority"], "missing")
    if not job.transformation and not job.parameters.strip():
        raise BadJob("jobPars", job.parameters, f"no command for the image {job.image}")
    return str(full[QUEUE_KEY])


def unread(definition: Mapping[str, object]) -> list[str]:
    """What to say about keys that mean nothing to a pilot."""
    said = []
    for key in sorted(definition.keys() - KEYS):
        meant = difflib.get_close_matches(key, KEYS, n=1)
        hint = f": is it {meant[0]!r}?" if meant else ""
        said.append(f"no pilot reads {key!r}{hint}")
    return said
