"""The last line of a worker's log that says what went wrong."""

import pytest

from pilot_core.base.complaint import last_complaint

AT = "2026-11-21 23:20:02,810"


@pytest.mark.parametrize(
    ("log", "found"),
    [
        (
            f"{AT} | ERROR    | 19 MB free, 2048 MB are needed\n{AT} | INFO     | bye\n",
            "19 MB free, 2048 MB are needed",
        ),
        (f"{AT} | CRITICAL | {'pilot_core.app':32} | {'_live':25} | no queue\n", "no queue"),
        (f"{AT} | ERROR    | one\n{AT} | ERROR    | two | three\n", "two | three"),
        ("pilot.py: unrecognized arguments: --nope\n", "unrecognized arguments: --nope"),
        ("2026-11-21T23:20:02Z wrapper: FATAL: the pilot cannot be fetched\n", "the pilot cannot be fetched"),
        (f"{AT} | WARNING  | no ERROR\n all is well, no ERROR at all\n", ""),
        (" 2026-11-21 23:20:02,810 | ERROR    | a payload's words\n\xff", ""),
        ("", ""),
    ],
)
def test_last_complaint(log: str, found: str) -> None:
    assert last_complaint(log.encode("latin-1")) == found
