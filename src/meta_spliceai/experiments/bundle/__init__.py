"""Bundles: what a set of rows needs, in one file of plain data, for a machine with no network."""
