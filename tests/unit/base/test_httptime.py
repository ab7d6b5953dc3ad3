"""What an answer's Retry-After asks for."""

import pytest

from pilot_core.base.httptime import retry_after

NOW = "Tue, 14 Nov 2023 22:13:20 GMT"


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("", NOW, None),
        ("30", "", 30.0),
        ("Tue, 14 Nov 2023 22:15:00 GMT", NOW, 100.0),
        # Its clock is what counts, however far from ours.
        ("Tue, 14 Nov 2023 21:15:00 GMT", "Tue, 14 Nov 2023 21:14:00 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:15:00 -0000", NOW, 100.0),
        ("Tue, 14 Nov 2023 22:10:00 GMT", NOW, 0.0),
        ("Tue, 14 Nov 2023 22:15:00 GMT", "rubbish", 0.0),
        ("Tue, 14 Nov 2023 22:15:00 GMT", "", 0.0),
        ("86400", "", 3600.0),
        ("9" * 400, "", 3600.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", NOW, 3600.0),
        ("soon", NOW, 0.0),
        ("inf", NOW, 0.0),
        ("-5", "", 0.0),
        ("\xb2", "", 0.0),
    ],
)
def test_retry_after(value: str, date: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value, "Date": date}) == seconds


def test_an_answer_that_asks_for_nothing() -> None:
    assert retry_after({"Content-Type": "text/plain"}) is None
