"""Hidden channels as features: read at the right places, kept, found again, learned from by any head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.base_layer import families
from meta_spliceai.splice_engine.base_layer.network import Architecture, BaseModel, SpliceAINetwork, Stage, trunk_of
from meta_spliceai.splice_engine.base_layer.scoring import score_variants
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from meta_spliceai.splice_engine.meta_layer import prediction as trunk_features
from meta_spliceai.splice_engine.meta_layer.models import ENCODERS, HEADS, ComposedPredictor, Predictor
from meta_spliceai.splice_engine.meta_layer.models.composition import base_trunk
from meta_spliceai.splice_engine.meta_layer.prediction import (
    TrunkReader,
    TrunkWindows,
    places_read,
    predict,
    trunk_columns,
)
from meta_spliceai.splice_engine.meta_layer.settings import TrainingConfig, TrunkConfig
from meta_spliceai.splice_engine.meta_layer.targets import Targets
from meta_spliceai.splice_engine.meta_layer.training import fit
from meta_spliceai.splice_engine.variants.table import Coverage, Windows, as_variant_table, build_windows

ROWS, WINDOW, WIDTH = 256, 41, 6
READING = TrunkConfig(family="toy-trunk-base", members=(0, 1), read_radius=4, site_reach=30)
HIDDEN_DIM, LEARNING_RATE = 64, 3e-3
"""Of the catalogue's rows with such an encoder."""
SETTINGS = {"members": 2, "read_radius": 4, "site_reach": 30, "hidden_dim": 16}


def toy_base(members: Sequence[int] | None, path: Path | None) -> BaseModel:
    """Two random networks that see 12 bases to either side."""
    torch.manual_seed(3)
    made = []
    for _ in range(2):
        network = SpliceAINetwork(Architecture((Stage(1, 5, 1), Stage(1, 5, 2)), channels=WIDTH))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(3)
        made.append(network)
    chosen = tuple(made[member] for member in members or (0, 1))
    return BaseModel("toy-trunk-base", chosen, licence="none needed", citation="built in code")


@pytest.fixture(scope="module", autouse=True)
def _toy_family() -> Iterator[None]:
    families.FAMILIES[READING.family] = toy_base
    ENCODERS["toy-trunk"] = partial(base_trunk, family=READING.family, width=WIDTH)
    yield
    del families.FAMILIES[READING.family], ENCODERS["toy-trunk"]


@pytest.fixture(scope="module")
def genome() -> MemoryGenome:
    random = np.random.default_rng(5)
    return MemoryGenome({"chr1": "".join(random.choice(list("ACGT"), 20_000))}, "toy build", "toy genome")


@pytest.fixture(scope="module")
def table(genome: MemoryGenome) -> pd.DataFrame:
    """Substitutions on both strands, not in the order of the genome; of some a site is not known or out of reach."""
    random = np.random.default_rng(6)
    rows = []
    for number in random.permutation(ROWS):
        pos = 100 + 70 * int(number)
        ref = "ACGT"[int(genome.fetch("chr1", pos - 1, pos)[0])]
        forward = 1 if number % 2 else -1
        rows.append(
            {
                "variant_id": f"v{number}",
                "chrom": "chr1",
                "pos": pos,
                "ref": ref,
                "alt": str(random.choice([base for base in "ACGT" if base != ref])),
                "strand": "+" if number % 2 else "-",
                "gene": "",
                "classification": "Splice-altering" if random.random() < 0.5 else "Normal",
                "source": "toy",
                "method": "made up",
                "group": f"g{number}",
                "acceptor_pos": pd.NA if number % 5 == 0 else pos - forward * int(random.integers(0, 30)),
                "donor_pos": pos + forward * (31 if number % 7 == 0 else int(random.integers(0, 31))),
            }
        )
    return as_variant_table(pd.DataFrame(rows), "toy")


@pytest.fixture
def reader(table: pd.DataFrame, genome: MemoryGenome, tmp_path: Path) -> Callable[..., TrunkReader]:
    def make(variants: pd.DataFrame = table, reading: TrunkConfig = READING) -> TrunkReader:
        return TrunkReader(reading, variants, genome, None, tmp_path / "kept")

    return make


@pytest.fixture(scope="module")
def windows(table: pd.DataFrame, genome: MemoryGenome, tmp_path_factory: pytest.TempPathFactory) -> TrunkWindows:
    trunk = TrunkReader(READING, table, genome, None, tmp_path_factory.mktemp("kept")).read()
    return TrunkWindows.joined(build_windows(table, genome, WINDOW), trunk)


def test_features_are_the_channels_at_the_variant_and_at_the_sites(
    table: pd.DataFrame, genome: MemoryGenome, windows: TrunkWindows
) -> None:
    trunk = windows.trunk
    scores = score_variants(table, genome, trunk_of(toy_base(None, None)), 30)
    ref, alt = (of.numpy() for of in trunk.pair(torch.arange(ROWS)))
    assert ref.shape == (ROWS, 2 * WIDTH + 1, 2 * 4 + 3)
    np.testing.assert_allclose(ref[:, :-1, 1:-1], scores.ref[:, 26:35].transpose(0, 2, 1), rtol=2e-3, atol=2e-3)
    # Changes are kept for themselves: they are not rounded to the size of the channel.
    change, exact = (alt - ref)[:, :-1, 1:-1], scores.delta[:, 26:35].transpose(0, 2, 1)
    np.testing.assert_allclose(change, exact, rtol=2e-3, atol=1e-5)
    assert (ref[:, -1, 1:-1] == 1).all()
    forward = np.where(table["strand"] == "-", -1, 1)
    read = 0
    for place, column in ((0, "acceptor_pos"), (-1, "donor_pos")):
        for row in range(ROWS):
            site = table[column][row]
            ahead = None if pd.isna(site) else int(site - table["pos"][row]) * forward[row]
            if ahead is None or abs(ahead) > 30:
                assert not ref[row, :, place].any()
                assert not alt[row, :, place].any()
                continue
            read += 1
            np.testing.assert_allclose(ref[row, :-1, place], scores.ref[row, 30 + ahead], rtol=2e-3, atol=2e-3)
            assert ref[row, -1, place] == 1
    assert trunk.sites_known() == (int(table["acceptor_pos"].notna().sum()), read - trunk.sites_known()[0])
    assert 0 < trunk.sites_known()[0] < ROWS


def test_a_minus_strand_variant_reads_its_sites_downstream() -> None:
    table = pd.DataFrame({"strand": ["+", "-"], "pos": [100, 100], "acceptor_pos": [90, 110], "donor_pos": [105, 95]})
    reading = TrunkConfig(family="toy", read_radius=1, site_reach=10)
    assert places_read(table, reading).tolist() == [[0, 9, 10, 11, 15]] * 2


def test_features_are_computed_once_and_an_interruption_keeps_finished_blocks(
    reader: Callable[..., TrunkReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []

    def counting(variants: pd.DataFrame, *rest: Any, **more: Any) -> Any:
        if len(scored) == 1:
            scored.append(0)
            raise KeyboardInterrupt
        scored.append(len(variants))
        return score_variants(variants, *rest, **more)

    monkeypatch.setattr(trunk_features, "score_variants", counting)
    assert reader().found() is None
    with pytest.raises(KeyboardInterrupt):
        reader().read()
    steps: list[tuple[int, int]] = []
    whole = reader().read(lambda done, of: steps.append((done, of)))
    assert scored == [128, 0, 128]
    assert whole.computed == 128
    assert steps == [(ROWS, ROWS)]
    again = reader().read()
    assert again.computed == 0
    assert len(scored) == 3
    assert torch.equal(again.store, whole.store)


def test_other_sites_are_other_features(reader: Callable[..., TrunkReader], table: pd.DataFrame) -> None:
    moved = table.assign(donor_pos=table["donor_pos"] + 1)
    assert reader().name != reader(moved).name
    assert reader().name != reader(reading=READING.model_copy(update={"members": (1,)})).name


@pytest.mark.parametrize("head", HEADS)
def test_any_head_learns_from_them_and_is_saved(
    head: str, windows: TrunkWindows, table: pd.DataFrame, tmp_path: Path
) -> None:
    predictor = ComposedPredictor("toy-trunk", head, WINDOW, 3, SETTINGS)
    labels = np.zeros((ROWS, predictor.head.labels), np.float32)
    targets = Targets(labels, np.ones(ROWS, bool), Coverage(ROWS))
    config = TrainingConfig(epochs=1, batch_size=64)
    report = fit(predictor, windows, targets, np.arange(200), np.arange(200, ROWS), config, tmp_path / "fit", "cpu")
    assert report.features is None
    predictions = predict(predictor, windows, "cpu")
    assert predictions.shape == (ROWS, predictor.head.outputs)
    predictor.save_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(predict(Predictor.from_pretrained(tmp_path / "model"), windows, "cpu"), predictions)
    if head == "position":  # the exon's sites are no places around the variant
        assert predictor.head.outputs == 2 * SETTINGS["read_radius"] + 1


def test_the_sites_reach_the_answer(windows: TrunkWindows) -> None:
    predictor = ComposedPredictor("toy-trunk", "binary", WINDOW, 3, SETTINGS).eval()
    ref, alt = windows.trunk.pair(torch.arange(8))
    for place in (0, -1):
        other = alt.clone()
        other[..., place] = alt[..., place].flip(1)
        assert not torch.allclose(predictor.compare(ref, alt), predictor.compare(ref, other))
    same = predictor.readout(*(predictor.project(ref),) * 2)
    around, at_sites = same[:, : 4 * 16], same[:, 5 * 16 : 7 * 16]  # differences; between them stands the reference
    assert (around == 0).all()
    assert (at_sites == 0).all()


@pytest.mark.slow
def test_256_variants_are_memorised(windows: TrunkWindows, table: pd.DataFrame, tmp_path: Path) -> None:
    """Training AUROC of at least 0.99 within 200 steps, on labels that are pure chance, at the settings of the
    catalogue's rows."""
    predictor = ComposedPredictor("toy-trunk", "binary", WINDOW, 0, {**SETTINGS, "hidden_dim": HIDDEN_DIM})
    slots = windows.trunk.ref_slot.repeat(2)
    twice = TrunkWindows.joined(
        Windows(*(np.concatenate((of, of)) for of in (windows.ref, windows.alt))),
        replace(windows.trunk, ref_slot=slots, alt_slot=slots),
    )
    wanted = np.tile((table["classification"] == "Splice-altering").to_numpy(np.float32), 2)
    targets = Targets(wanted[:, None], np.ones(2 * ROWS, bool), Coverage(2 * ROWS))
    config = TrainingConfig(epochs=50, batch_size=64, patience=0, learning_rate=LEARNING_RATE)
    # Validated on the same variants again, so that the best epoch is the one that knows them best.
    rows = np.arange(2 * ROWS)
    fit(predictor, twice, targets, rows[:ROWS], rows[ROWS:], config, tmp_path, "cpu")
    assert roc_auc_score(wanted[:ROWS], predict(predictor, windows, "cpu")[:, 0]) >= 0.99


def test_windows_without_features_or_with_others_are_refused(
    windows: TrunkWindows, table: pd.DataFrame, genome: MemoryGenome
) -> None:
    predictor = ComposedPredictor("toy-trunk", "binary", WINDOW, 3, SETTINGS)
    with pytest.raises(InputError, match="reads the trunk of toy-trunk-base, which these windows do not bring"):
        predict(predictor, build_windows(table, genome, WINDOW), "cpu")
    other = ComposedPredictor("toy-trunk", "binary", WINDOW, 3, {**SETTINGS, "read_radius": 5})
    with pytest.raises(InputError, match="the encoder reads 13"):
        predict(other, windows, "cpu")
    with pytest.raises(InputError, match="computed from the genome, not from a window of 41 bases"):
        predictor(torch.zeros(1, 4, WINDOW), torch.zeros(1, 4, WINDOW))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"members": 0}, r"members = \(\)"),
        ({"read_radius": -1}, "settings of encoder 'toy-trunk-base-trunk': read_radius = -1"),
        ({"site_reach": 6000}, "site_reach = 6000"),
        ({"weights": "hub"}, "unknown setting 'weights'"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ComposedPredictor("toy-trunk", "binary", WINDOW, 3, settings)


def test_trees_get_both_sites_and_the_variant(windows: TrunkWindows) -> None:
    trunk = windows.trunk
    columns = trunk_columns(trunk)
    assert columns.shape == (ROWS, 3 * 2 * 2 * WIDTH)
    ref, alt = (of.numpy() for of in trunk.pair(torch.arange(ROWS)))
    np.testing.assert_allclose(columns["toy-trunk-base trunk variant 7 Δ"], (alt - ref)[:, 7, 5], atol=1e-6)
    known = ref[:, -1, -1] == 1
    donor = columns["toy-trunk-base trunk donor 0 ref"]
    assert donor.isna().equals(pd.Series(~known))
    np.testing.assert_allclose(donor[known], ref[known, 0, -1])
