"""What a report says of a suite that covers a part of the samples."""

from robustmix.report.schema import SuitePart


def name_subset(part: SuitePart, n: int, of: int) -> None:
    """Say in the note of each of a suite's metrics that it is of a part of the samples.

    Args:
        part: the suite's part of the report, changed in place.
        n: samples that the suite covers.
        of: samples that were evaluated.
    """
    said = f"{n} of {of} samples, chosen by the seed"
    for name, metric in part.metrics.items():
        note = f"{metric.note}; {said}" if metric.note else said
        part.metrics[name] = metric.model_copy(update={"note": note})
