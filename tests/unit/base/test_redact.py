"""What is secret in a job's secrets."""

import json

import pytest

from pilot_core.base.redact import Redactor, secret_values

NESTED = json.dumps(
    {"token": "hunter2-hunter2", "more": ["list-item", {"pin": 123456, "on": True, "no": None}]}
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", set()),
        ("plain text", {"plain text"}),
        ("{half", {"{half"}),
        (NESTED, {NESTED, "hunter2-hunter2", "list-item", "123456"}),
        (
            json.dumps({"a": NESTED}),
            {json.dumps({"a": NESTED}), NESTED, "hunter2-hunter2", "list-item", "123456"},
        ),
        ("[" * 100_000, {"[" * 100_000}),
    ],
)
def test_each_value_of_a_document_is_one(text: str, values: set[str]) -> None:
    assert set(secret_values(text)) == values


def test_a_value_alone_is_masked() -> None:
    redactor = Redactor(secret_values(NESTED))
    assert redactor.text("the token is hunter2-hunter2.") == "the token is ***."
