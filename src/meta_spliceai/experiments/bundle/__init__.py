"""Bundles: everything a set of rows needs, in one file of plain data, for an offline machine."""
