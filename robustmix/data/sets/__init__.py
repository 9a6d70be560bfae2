"""Training and evaluation sets that are read by name, one file a set.

A reader takes (manifest, split, data folder), finds out which of the layouts that people have is
there, reads the official lists and returns what ``image_set`` makes of them. Classes are numbered
by the file that defines them, never by the order in which a folder is listed.
"""
