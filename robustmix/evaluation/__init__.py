"""Evaluation: suites of tests of a model, each of which says what it is, costs, finds and shows."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports_of

if TYPE_CHECKING:
    from robustmix.evaluation.evaluate import evaluate as evaluate
    from robustmix.evaluation.options import option as option
    from robustmix.evaluation.suite import Batch as Batch
    from robustmix.evaluation.suite import Context as Context
    from robustmix.evaluation.suite import Found as Found
    from robustmix.evaluation.suite import Part as Part
    from robustmix.evaluation.suite import Passes as Passes
    from robustmix.evaluation.suite import Prepared as Prepared
    from robustmix.evaluation.suite import Scene as Scene
    from robustmix.evaluation.suite import Suite as Suite
    from robustmix.metrics.definition import Numbers as Numbers
    from robustmix.report.rows import Rows as Rows
    from robustmix.report.schema import Shown as Shown
    from robustmix.report.schema import SuitePart as SuitePart

__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
