"""Messages name the bad value, where it stands and what is allowed."""

from __future__ import annotations

import pytest

from meta_spliceai.errors import LONGEST_MESSAGE, InputError, MissingExtraError, RunError, shown, unknown_value


def test_an_unknown_value_is_named_with_the_nearest_choices() -> None:
    error = unknown_value("row id", "simple-cnn-510", ["simple-cnn-501", "simple-cnn-1001", "effect-type"], "--id")
    assert isinstance(error, InputError)
    assert error.exit_code == 2
    assert "unknown row id 'simple-cnn-510' in --id; did you mean simple-cnn-501" in str(error)
    assert "effect-type" in str(error).split("Choices:")[1]
    assert "\n" not in str(error)


def test_nothing_near_gives_no_guess() -> None:
    assert str(unknown_value("device", "toaster", ["cpu", "cuda"])) == "unknown device 'toaster'. Choices: cpu, cuda"


def test_a_missing_extra_says_how_to_get_it() -> None:
    assert "pip install 'ray>=2.40'" in str(MissingExtraError("--executor ray", "ray"))
    assert "pip install '.[newer]' in the folder of the source" in str(MissingExtraError("a feature", "newer"))


@pytest.mark.parametrize(
    "text",
    [
        "a\nb\r\nc",
        "x" * 10_000_000,
        "word " * 1_000_000,
        "\x1b[2J\x07\x00",
        f"/{'d' * 4000}/file: no such file; give another",
    ],
)
def test_a_message_is_one_short_line_whatever_came_into_it(text: str) -> None:
    for error in (InputError(text), RunError(text), unknown_value(text, text, ["one"])):
        message = str(error)
        assert message.isprintable()
        assert len(message) <= LONGEST_MESSAGE
    assert str(InputError("no file a.txt; give one")) == "no file a.txt; give one"


def test_the_end_of_a_long_message_says_what_to_do() -> None:
    assert str(InputError(f"/{'d' * 4000}/file: no such file; give another")).endswith("no such file; give another")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("short", "'short'"),
        (12, "12"),
        (None, "None"),
        (10**5000, "a number of more than 40 digits"),
        (-(10**5000), "a number of more than 40 digits"),
        ([1, "a"], "[1, 'a']"),
        ({"a": [10**5000]}, "{'a': [a number of more than 40 digits]}"),
        (["x"] * 100_000, "a list of 100000"),
    ],
    ids=range(8),
)
def test_a_value_is_quoted_and_cut(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize("value", ["y" * 9999, ["y" * 9999] * 3, {"k" * 999: "v" * 999}, b"z" * 9999])
def test_a_long_value_is_cut(value: object) -> None:
    assert "…" in shown(value)
    assert len(shown(value)) <= 130
