"""Reports: the schema, the per-sample record, and how they are shown."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports_of

if TYPE_CHECKING:
    from robustmix.metrics.metric import Metric as Metric
    from robustmix.report.report import Report as Report
    from robustmix.report.samples import Samples as Samples
    from robustmix.report.schema import ReportModel as ReportModel

__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
