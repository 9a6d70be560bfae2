"""Reports: the schema, the per-sample record, and how they are shown."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports

if TYPE_CHECKING:
    from robustmix.metrics.metric import Metric
    from robustmix.report.report import Report
    from robustmix.report.samples import Samples
    from robustmix.report.schema import ReportModel

__all__ = ["Metric", "Report", "ReportModel", "Samples"]

__getattr__ = lazy_exports(
    __name__,
    {
        "Metric": "robustmix.metrics.metric",
        "Report": "robustmix.report.report",
        "ReportModel": "robustmix.report.schema",
        "Samples": "robustmix.report.samples",
    },
)
