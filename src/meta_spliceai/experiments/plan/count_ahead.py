"""Data sets counted in a process of their own, while this one traces models: the two longest parts of a first plan."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from meta_spliceai.errors import MetaSpliceAIError
from meta_spliceai.experiments.plan.data_facts import facts_of, known_facts
from meta_spliceai.experiments.spec import DataSpec


@contextmanager
def counted_ahead(wanted: Sequence[DataSpec]) -> Iterator[int]:
    """Data sets that were never counted are counted while the block runs; its end waits for them.

    What the other process cannot count (a data set that only this one knows, files that are not at hand) is counted
    here when it is asked for, which then says what is wrong.

    Args:
        wanted: data sets of several rows.

    Yields:
        how many are being counted.
    """
    unknown = {_whole(one).model_dump_json(): _whole(one) for one in wanted}
    missing = [one.model_dump(mode="json") for one in unknown.values() if known_facts(one) is None]
    if not missing:
        yield 0
        return
    command = [sys.executable, "-m", "meta_spliceai.experiments.plan.count_ahead"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    ) as process:
        if process.stdin is not None:
            process.stdin.write(json.dumps(missing))
            process.stdin.close()
        try:
            yield len(missing)
        except BaseException:
            process.kill()
            raise


def _whole(data: DataSpec) -> DataSpec:
    """The data set itself, whatever a row draws from it."""
    return data.model_copy(update={"rows": None, "labelled_only": False, "balanced": False})


def main() -> None:
    """Count the data sets that are named on the standard input, and keep their numbers in the cache."""
    for one in json.load(sys.stdin):
        try:
            facts_of(DataSpec.model_validate(one))
        except MetaSpliceAIError as error:
            print(error, file=sys.stderr)


if __name__ == "__main__":
    main()
