"""From one kind of variant file to another, by pysam's bcftools: only where output and input differ in kind."""

from __future__ import annotations

import os
from pathlib import Path

from meta_spliceai.errors import InputError, MissingPackageError, RunError
from meta_spliceai.files import whole_file

OUTPUT_TYPES = ("v", "z", "b")
"""VCF text, bgzipped VCF, BCF."""


def check_convertible(source: Path) -> None:
    """Whether a VCF can be written as BCF, found out by doing it, before hours of scoring.

    Raises:
        InputError: the header does not declare every contig and key that its records use.
    """
    try:
        import pysam
        import pysam.bcftools
    except ImportError as error:
        raise MissingPackageError(f"writing {source} as BCF", "pysam") from error
    loudness = pysam.set_verbosity(0)
    try:
        pysam.bcftools.view("--no-version", "-O", "u", "-o", os.devnull, str(source), catch_stdout=False)
    except pysam.utils.SamtoolsError as error:
        raise InputError(
            f"{source} cannot be written as BCF: {_what_bcftools_said(error)}; declare every contig and key in its "
            "header (bcftools reheader), or write a VCF: -o NAME.vcf.gz"
        ) from error
    finally:
        pysam.set_verbosity(loudness)


def _what_bcftools_said(error: Exception) -> str:
    return str(error).replace("\\n", " ").partition("stderr=")[2].strip("' ") or "no message"


def convert(source: Path, out: Path, output_type: str) -> None:
    """Write a variant file in another kind, whole or not at all.

    Args:
        source: a finished VCF or BCF.
        out: where it goes.
        output_type: one of OUTPUT_TYPES.

    Raises:
        MissingPackageError: pysam is not installed.
        RunError: it could not be written: a full disk, or (BCF) a contig or key that the header does not declare.
        OSError: the folder cannot be written to.
    """
    try:
        import pysam
        import pysam.bcftools
    except ImportError as error:
        raise MissingPackageError(f"writing {out} in another kind than {source.name}", "pysam") from error
    loudness = pysam.set_verbosity(0)
    try:
        # Not pysam's own record writer: it adds END to records of symbolic alleles behind the header's back.
        with whole_file(out) as temporary:
            arguments = ("--no-version", "-O", output_type, "-o", str(temporary), str(source))
            pysam.bcftools.view(*arguments, catch_stdout=False)
    except pysam.utils.SamtoolsError as error:
        kind = "BCF" if output_type == "b" else "VCF"
        said = _what_bcftools_said(error)
        raise RunError(
            f"{out} could not be written as {kind} ({said}): the disk is full, or the header does not declare every "
            f"contig and key; all scores are kept in {source.name}: the same command with --resume goes on"
        ) from error
    finally:
        pysam.set_verbosity(loudness)
