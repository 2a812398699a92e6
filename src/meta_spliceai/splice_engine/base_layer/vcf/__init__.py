"""Variant files in and out: VCF, bgzipped VCF and BCF, scored record by record with every other byte left as it was."""
