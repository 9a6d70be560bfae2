"""Shift sets: test images of a data set's classes that were gathered or changed in another way."""
