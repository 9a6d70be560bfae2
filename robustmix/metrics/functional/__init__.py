"""Metrics by one call each, of logits or probabilities at hand.

They are the numbers of the reports, by the same definitions, for whoever has arrays or tensors and
no report. Where logits and probabilities give different numbers, ``from_logits`` says which they
are; nothing is guessed. Intervals: ``wilson`` for shares, ``bootstrap_interval`` for the rest.

All of them are imported from ``robustmix.metrics``.
"""
