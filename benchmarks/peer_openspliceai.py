"""Run OpenSpliceAI's own scoring function on a VCF and write what it returned, with its time.

Run by `base_layer.py` in the interpreter given by --openspliceai-python, which needs the package `openspliceai`;
nothing of this project is imported. One variant at a time, as its command `openspliceai variant` does by default.

Usage: peer_openspliceai.py IN.vcf FASTA ANNOTATION DISTANCE WEIGHTS-FOLDER OUT.json
"""

from __future__ import annotations

import importlib.metadata
import json
import resource
import sys
import time
from pathlib import Path

FLANKING = 10_000


def main() -> None:
    vcf, fasta, annotation, distance, weights, out = sys.argv[1:]
    import pysam
    from openspliceai.variant.utils import Annotator, get_delta_scores

    annotator = Annotator(fasta, annotation, weights, "pytorch", FLANKING)
    with pysam.VariantFile(vcf) as handle:
        records = list(handle)
    get_delta_scores(records[0], annotator, int(distance), 0, FLANKING)  # warm up
    before = time.perf_counter()
    scores = {record.id: get_delta_scores(record, annotator, int(distance), 0, FLANKING) for record in records}
    seconds = time.perf_counter() - before
    result = {
        "variants": len(records),
        "seconds": seconds,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {name: importlib.metadata.version(name) for name in ("openspliceai", "torch")},
        "networks": len(annotator.models),
        "scores": scores,
    }
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
