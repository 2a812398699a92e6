"""Run SpliceAI's own scoring function on a VCF and write what it returned, with its time.

Run by `base_layer.py` in the interpreter given by --spliceai-python, which needs the packages `spliceai` and
`tensorflow` (and numpy < 2.3 and setuptools < 81, whose older interfaces the package uses); nothing of this project is
imported.

Usage: peer_spliceai.py IN.vcf FASTA ANNOTATION DISTANCE OUT.json
"""

from __future__ import annotations

import importlib.metadata
import json
import resource
import sys
import time
from pathlib import Path


def main() -> None:
    vcf, fasta, annotation, distance, out = sys.argv[1:]
    import pysam
    from spliceai.utils import Annotator, get_delta_scores

    annotator = Annotator(fasta, annotation)
    with pysam.VariantFile(vcf) as handle:
        records = list(handle)
    get_delta_scores(records[0], annotator, int(distance), 0)  # warm up: graphs are built at the first call
    before = time.perf_counter()
    scores = {record.id: get_delta_scores(record, annotator, int(distance), 0) for record in records}
    seconds = time.perf_counter() - before
    versions = {name: importlib.metadata.version(name) for name in ("spliceai", "keras", "numpy")}
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            versions["tensorflow"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    result = {
        "variants": len(records),
        "seconds": seconds,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": versions,
        "scores": scores,
    }
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
