"""Evaluation suites: one file each, one registry."""
