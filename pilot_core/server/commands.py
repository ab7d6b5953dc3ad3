"""PURE: the back-channel. The server's `command` string to a tuple of enum
members.
"""

import json
from collections.abc import Mapping

from pilot_core.model.report import Command, CommandKind, Reply

__all__ = ["read_commands", "read_reply"]

_WORDS = {
    "tobekilled": CommandKind.KILL,
    # Named in the server's source for an update with a wrong attempt number:
    # the job is somebody else's now.
    "badattemptnr": CommandKind.KILL,
    "softkill": CommandKind.SOFT_KILL,
    "debug": CommandKind.DEBUG,
    "debugoff": CommandKind.DEBUG_OFF,
    "nocleanup": CommandKind.NO_CLEANUP,
    "alreadydone": CommandKind.ALREADY_DONE,
}
_DEBUG_TOOLS = ("tail", "ls", "ps", "du", "gdb")
_NOTHING = ("", "NULL", "None")
_DEBUGS = (CommandKind.DEBUG, CommandKind.DEBUG_COMMAND, CommandKind.DEBUG_OFF)


def read_commands(text: object) -> tuple[Command, ...]:
    """Commands of a reply, the kill first whatever stands before it.

    Of several words about debugging the last one counts: while a job is in
    debug mode each reply says `debug`, and what the operator wants to see
    stands behind it.

    Parameters
    ----------
    text
        `NULL`, None, or words joined by commas (`debug,tail payload.stdout`).
    """
    if not isinstance(text, str):
        return ()
    found = dict.fromkeys(_command(part.strip()) for part in text.split(",") if part.strip() not in _NOTHING)
    last = next((command for command in reversed(found) if command.kind in _DEBUGS), None)
    return tuple(
        sorted(
            (command for command in found if command.kind not in _DEBUGS or command is last),
            key=lambda command: command.kind is not CommandKind.KILL,
        )
    )


def _command(part: str) -> Command:
    kind = _WORDS.get(part)
    if kind is None:
        kind = CommandKind.DEBUG_COMMAND if part.split()[0] in _DEBUG_TOOLS else CommandKind.UNKNOWN
    return Command(kind, part)


def read_reply(data: Mapping[str, object]) -> Reply:
    """The reply to an update that was stored."""
    return Reply(read_commands(data.get("command")), _secrets(data.get("pilotSecrets")))


def _secrets(value: object) -> dict[str, str]:
    """`pilotSecrets`: a JSON string on the wire (panda-server 1.0.3), often
    `{}`.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    if not isinstance(value, Mapping):
        return {}
    return {
        str(key): item if isinstance(item, str) else json.dumps(item, default=str)
        for key, item in value.items()
    }
