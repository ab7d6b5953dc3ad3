"""Labels as text and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container.labels import carries, from_text, to_text

WORD = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(WORD.filter(lambda key: key and "=" not in key), WORD))
def test_there_and_back(labels: dict[str, str]) -> None:
    assert from_text(to_text(labels)) == labels


@pytest.mark.parametrize("labels", [{"": "x"}, {"a=b": "x"}, {"a": "x\ny"}, {"a\n": "x"}, {"a": "\0"}])
def test_what_could_not_be_read_back_is_refused(labels: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        to_text(labels)


def test_text_of_somebody_else() -> None:
    assert from_text("") == {}
    assert from_text("no pair\n=x\na=b=c\n\n") == {"a": "b=c"}


def test_carries() -> None:
    assert carries({"a": "1", "b": "2"}, {"a": "1"})
    assert carries({}, {})
    assert not carries({"a": "1"}, {"a": "2"})
    assert not carries({}, {"a": ""})
