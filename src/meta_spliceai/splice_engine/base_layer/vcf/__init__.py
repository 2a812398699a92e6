"""Variant files in and out: VCF, bgzipped VCF and BCF, scored record by record with every other byte unchanged."""
