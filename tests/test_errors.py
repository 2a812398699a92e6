"""Messages name the bad value, where it stands and what is allowed."""

from __future__ import annotations

from meta_spliceai.errors import InputError, MissingExtraError, unknown_value


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
    assert "pip install 'meta-spliceai[ray]'" in str(MissingExtraError("--executor ray", "ray"))
