"""Samples of which a file of maps, boxes or masks says nothing."""

from collections.abc import Container, Sequence


def told_missing(what: str, sample_ids: Sequence[str], known: Container[str]) -> str:
    """Say for how many samples there is none, and name the first.

    Args:
        what: there should be of each sample, e.g. ``"box"``.
        sample_ids: of the samples.
        known: ids of the samples that have one.

    Returns:
        What is to stand behind the name of a file; nothing where no sample lacks one.

    Example:
        >>> told_missing("box", ["a", "b", "c"], {"a"})
        'has no box for 2 of 3 samples, e.g. b'
        >>> told_missing("box", ["a"], {"a"})
        ''
    """
    missing = [sample_id for sample_id in sample_ids if sample_id not in known]
    if not missing:
        return ""
    return f"has no {what} for {len(missing)} of {len(sample_ids)} samples, e.g. {missing[0]}"
