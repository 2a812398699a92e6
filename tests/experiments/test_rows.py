"""The catalogue: complete, checked, and clear about what is wrong with a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.spec.rows import at_scale, change, find_row, load_rows, scale_note

WISHLIST = {
    "hyenadna-small-validated-delta": (12, (2, 4), "high"),
    "hyenadna-small-quantile": (12, (2, 4), "high"),
    "hyenadna-medium-validated-delta": (24, (4, 8), "medium"),
    "hyenadna-large-finetune": (48, (12, 24), "low"),
    "validated-delta-10k": (8, (1, 2), "high"),
    "validated-delta-25k": (12, (3, 5), "high"),
    "validated-delta-50k": (16, (6, 10), "medium"),
    "simple-cnn-50k": (12, (4, 6), "medium"),
    "simple-cnn-501": (12, (2, 3), "high"),
    "simple-cnn-1001": (16, (4, 6), "medium"),
    "hyenadna-10k-context": (24, (8, 12), "low"),
    "validated-delta-cv5": (8, (5, 8), "high"),
    "hyenadna-cv5": (16, (15, 20), "medium"),
    "validated-delta-loco": (8, (20, 40), "low"),
    "splice-altering": (None, None, None),
    "effect-type": (8, (1, 2), "medium"),
    "position-localization": (8, (2, 3), "medium"),
    "delta-magnitude": (8, (2, 3), "low"),
    "unified-multitask": (16, (6, 10), "medium"),
    "quantile-ensemble": (8, (3, 4), "medium"),
    "cnn-hyenadna-ensemble": (20, (6, 8), "low"),
}

ROW = "section: Mine\nrows:\n  - id: my-row\n    title: My row\n"


def own(tmp_path: Path, text: str) -> Path:
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_every_row_of_the_wishlist_is_there_with_its_guess() -> None:
    rows = load_rows(own=None)
    wishes = {row.id: row.wish for row in rows.values() if row.wish is not None}
    found = {name: (wish.vram_gb, wish.hours, wish.priority) for name, wish in wishes.items()}
    assert found == WISHLIST
    unwished = [row.id for row in rows.values() if row.wish is None]
    assert unwished[:2] == ["wt1-validated-delta", "wt1-simple-cnn"]
    assert all(name.startswith(("mfass-", "open-", "observed-sites-", "ladder-", "curve-")) for name in unwished[2:-6])
    assert [(first, second) for first, second in zip(unwished[-6::2], unwished[-5::2], strict=True)] == [
        ("frozen-tiny-scratch", "frozen-tiny-pretrained"),
        ("tuned-tiny-scratch", "tuned-tiny-pretrained"),
        ("windows-in-the-middle", "windows-moved"),
    ]
    large = rows["hyenadna-large-finetune"].wish
    assert large is not None
    assert large.vram_or_more


def test_sections_come_in_the_wishlists_order() -> None:
    sections = list(dict.fromkeys(row.section for row in load_rows(own=None).values()))
    assert sections[:3] == ["HyenaDNA Encoder Integration", "Full SpliceVarDB Dataset", "Longer Context Windows"]
    assert sections[6:8] == ["Quickstart", "Evidence"]
    assert sections[-1] == "Does it help?"


@pytest.mark.parametrize(
    ("without", "with_it", "differs"),
    [
        ("frozen-tiny-scratch", "frozen-tiny-pretrained", "encoder.settings.weights"),
        ("tuned-tiny-scratch", "tuned-tiny-pretrained", "encoder.settings.weights"),
        ("windows-in-the-middle", "windows-moved", "training.window_shift"),
    ],
)
def test_rows_that_ask_whether_one_thing_helps_differ_in_that_alone(without: str, with_it: str, differs: str) -> None:
    rows = load_rows(own=None)
    first, second = (_flat(rows[row_id].identity()) for row_id in (without, with_it))
    assert {name for name in first if first[name] != second[name]} == {"id", differs}


def test_the_ladder_of_pre_training_stands_on_one_set_of_variants_and_one_split() -> None:
    ladder = [row for name, row in load_rows(own=None).items() if name.startswith("ladder-")]
    assert len({(row.data.model_dump_json(), row.split.model_dump_json(), row.window) for row in ladder}) == 1
    assert [row.encoder.name for row in ladder if row.fusion is None] == [
        "simple-cnn",
        "hyenadna-small-32k",
        "spliceai-trunk",
        "cispliceai-trunk",
        "spliceai-trunk",
    ]
    plain, with_trunk = (_flat(row.identity()) for row in ladder if row.fusion is not None)
    assert {name for name in plain if plain[name] != with_trunk[name]} == {"id", "fusion.trunk"}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def test_own_rows_are_laid_over_the_packaged_ones(tmp_path: Path) -> None:
    text = ROW + "  - id: simple-cnn-501\n    title: Mine now\n    window: 301\n"
    rows = load_rows(own(tmp_path, text))
    assert rows["my-row"].title == "My row"
    assert rows["simple-cnn-501"].window == 301
    assert "validated-delta-10k" in rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ROW + "    windwo: 101\n", ["mine.yaml, line 5, row 'my-row'", "field 'windwo'", "fields here: id, title"]),
        (
            ROW + "    training:\n      epochs: 3\n      learning_rate: -1\n",
            ["mine.yaml, line 7, row 'my-row'", "field 'training.learning_rate' = -1", "greater than 0"],
        ),
        (ROW + "    data: {nmae: x}\n", ["line 5", "field 'data.nmae'", "fields here: name, rows"]),
        (
            "section: Mine\ndefaults:\n  window: 4\n" + ROW.partition("\n")[2],
            ["line 3, row 'my-row': field 'window' = 4"],
        ),
        ("section: [1]\n" + ROW.partition("\n")[2], ["line 1, row 'my-row': field 'section'"]),
        (ROW + "    window: 301\n    window: 501\n", ["line 6: field 'window' stands twice, first on line 5"]),
        (ROW + "rows: []\n", ["line 5: field 'rows' stands twice, first on line 2"]),
        (ROW + "    purpose: 2025-02-30\n", ["not valid YAML", "day"]),
        (ROW + "colour: red\n", ["unknown field 'colour' in", "mine.yaml, line 5", "column, defaults"]),
        ("section: Mine\ndefaults: [1]\nrows: []\n", ["line 2: 'defaults' is a block of fields"]),
        (ROW + "    window: 500\n", ["field 'window' = 500", "odd number"]),
        (ROW + "  - id: my-row\n    title: Again\n", ["line 5: row id 'my-row' is already used at", "line 3"]),
        (
            ROW + "    ensemble: {members: [my-row, simple-cnn-501]}\n",
            ["mine.yaml, line 3, row 'my-row': field 'ensemble.members'", "'my-row' is an ensemble itself"],
        ),
        (
            ROW + "    ensemble: {members: [other, simple-cnn-501]}\n"
            "  - id: other\n    title: O\n    ensemble: {members: [simple-cnn-501, my-row]}\n",
            ["mine.yaml, line 3, row 'my-row': field 'ensemble.members'", "'other' is an ensemble itself"],
        ),
        (
            ROW + "    ensemble: {members: [simple-cnn-500, simple-cnn-501]}\n",
            ["mine.yaml, line 3, row 'my-row', field 'ensemble.members'", "did you mean simple-cnn-50"],
        ),
        ("section: Mine\nrows: [\n", ["mine.yaml, line 3: not valid YAML"]),
        ("rows: []\n", ["a catalogue file has a 'section'"]),
        ("section: Mine\nrows:\n  - just text\n", ["a row is a block of fields"]),
        ("section: Mine\nrows:\n  - title: No id\n", ["field 'id' is missing"]),
        ("section: Mine\nrows:\n  - idd: a\n    title: A\n", ["line 3: field 'idd': no such field; fields here: id, "]),
        ("section: Mine\nrowz: []\n", ["unknown field 'rowz' in", "line 2; did you mean rows?"]),
        ("", ["a catalogue file has a 'section'"]),
        (ROW.replace("my-row", "My row"), ["row 'My row': field 'id' = 'My row': small letters a to z, digits"]),
        (ROW.replace("my-row", "2026-01-01"), ["field 'id' = 2026-01-01: ", "YAML takes this for a date"]),
        (ROW + "    split: {fractions: [0.5, 0.5, 0.5]}\n", ["sum to 1"]),
        (ROW + "    split: {name: chromosome}\n", ["needs split.test_chromosomes"]),
    ],
)
def test_a_bad_file_names_place_value_and_choices(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(InputError) as raised:
        load_rows(own(tmp_path, text))
    for word in words:
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"section: \xff\n")
    with pytest.raises(InputError, match=r"mine\.yaml: not UTF-8 text"):
        load_rows(tmp_path)


def test_an_anchor_that_holds_itself_ends(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"values, with what its aliases \(\*name\) repeat"):
        load_rows(own(tmp_path, ROW + "    extra: &loop [*loop]\n"))


def test_yaml_that_builds_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not valid YAML"):
        load_rows(own(tmp_path, ROW + "    purpose: !!python/object/apply:os.getcwd []\n"))


def test_set_changes_only_what_is_named() -> None:
    row = find_row(load_rows(own=None), "validated-delta-10k")
    changed = change(row, ["training.epochs=5", "split.fractions=[0.6, 0.2, 0.2]", "encoder.settings.hidden_dim=64"])
    assert changed.training.epochs == 5
    assert changed.split.fractions == (0.6, 0.2, 0.2)
    assert changed.encoder.settings == {**row.encoder.settings, "hidden_dim": 64}
    assert changed.data == row.data
    assert row.training.epochs != 5


def test_identity_ignores_the_words_and_nothing_else() -> None:
    row = find_row(load_rows(own=None), "validated-delta-10k")
    assert row.model_copy(update={"title": "Other words"}).identity() == row.identity()
    assert change(row, ["window=301"]).identity() != row.identity()
    assert change(row, ["training.seed=1"]).identity() != row.identity()


def test_a_row_has_a_second_size_for_a_laptop(tmp_path: Path) -> None:
    text = (
        "section: Mine\ndefaults: {window: 301, laptop: {window: 101, training: {epochs: 3}}}\nrows:\n"
        "  - {id: one, title: One, encoder: {settings: {hidden_dim: 128}}}\n"
        "  - {id: two, title: Two, laptop: {encoder: {settings: {hidden_dim: 16}}}}\n"
    )
    rows = load_rows(own(tmp_path, text))
    one, two = (at_scale(rows[name], "laptop") for name in ("one", "two"))
    assert (one.window, one.training.epochs, one.encoder.settings) == (101, 3, {"hidden_dim": 128})
    assert (two.window, two.encoder.settings) == (101, {"hidden_dim": 16})
    assert scale_note(one) == ("laptop scale: window = 101, training.epochs = 3",)
    assert scale_note(change(one, ["training.epochs=2"])) == ("laptop scale: window = 101, training.epochs = 2",)
    assert one.training.seed == rows["one"].training.seed
    assert one.identity() != rows["one"].identity()
    assert at_scale(rows["one"], "full") is rows["one"]
    assert scale_note(rows["one"]) == ()
    with pytest.raises(InputError, match="unknown scale 'lap' in --scale; did you mean laptop"):
        at_scale(rows["one"], "lap")


def test_a_scale_that_changes_nothing_is_the_same_run() -> None:
    row = find_row(load_rows(own=None), "wt1-validated-delta")
    assert at_scale(row, "laptop").identity() == row.identity()


def test_a_bad_value_for_a_laptop_is_found_when_the_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 3: row 'my-row', block 'laptop': field 'window' = 100: a window has"):
        load_rows(own(tmp_path, f"{ROW}    laptop: {{window: 100}}\n"))


def test_every_row_of_the_wishlist_is_smaller_on_a_laptop() -> None:
    rows = [row for row in load_rows(own=None).values() if row.wish is not None]
    assert all(at_scale(row, "laptop").training.epochs < row.training.epochs for row in rows)
    assert all(at_scale(row, "laptop").window <= row.window for row in rows)


def test_defaults_of_a_file_lie_under_its_rows(tmp_path: Path) -> None:
    text = (
        "section: Mine\ncolumn: Folds\ndefaults: {data: {name: mfass, labelled_only: true}, window: 301}\nrows:\n"
        "  - {id: one, title: One, data: {rows: 10}, wish: {what: '3'}}\n  - {id: two, title: Two, window: 101}\n"
    )
    rows = load_rows(own(tmp_path, text))
    assert (rows["one"].data.name, rows["one"].data.rows, rows["one"].data.labelled_only) == ("mfass", 10, True)
    assert (rows["one"].window, rows["two"].window) == (301, 101)
    assert rows["two"].data.rows is None
    assert rows["one"].wish is not None
    assert rows["one"].wish.column == "Folds"


def test_the_two_starred_rows_are_those_of_the_wishlist() -> None:
    starred = [row.id for row in load_rows(own=None).values() if row.wish and row.wish.starred]
    assert starred == ["hyenadna-small-validated-delta", "validated-delta-10k"]


def test_an_option_for_one_member_of_a_combined_data_set_can_be_set() -> None:
    row = change(load_rows(own=None)["validated-delta-10k"], ["data.name=a+b", "data.options.b.context=construct"])
    assert row.data.options == {"b.context": "construct"}
