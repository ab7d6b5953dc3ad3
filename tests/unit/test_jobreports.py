"""What a report is made of."""

from pilot_core.jobreports import pilot_id

PLAIN = "https://storage.googleapis.com/bucket/logs/Q/PandaJob_1/pilotlog.txt"


def test_the_log_url_comes_first_and_empty_parts_are_left_out() -> None:
    assert pilot_id(PLAIN, "Kubernetes", "", "1.2.3") == f"{PLAIN}|Kubernetes|1.2.3"


def test_a_signature_that_has_no_room_is_left_out() -> None:
    assert pilot_id(f"{PLAIN}?a=b", "Kubernetes", "PR", "1") == f"{PLAIN}?a=b|Kubernetes|PR|1"
    assert pilot_id(f"{PLAIN}?X-Goog-Signature={'0' * 512}", "Kubernetes", "PR", "1") == (
        f"{PLAIN}|Kubernetes|PR|1"
    )
    long = f"https://{'x' * 300}/pilotlog.txt"
    assert pilot_id(long, "PR") == f"{long}|PR"
