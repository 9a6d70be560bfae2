"""Studies: tables of runs, those of the papers among them, as files that run."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports_of

if TYPE_CHECKING:
    from robustmix.studies.results import read_results as read_results
    from robustmix.studies.side_by_side import table as table
    from robustmix.studies.study import Study as Study
    from robustmix.studies.study import packaged_studies as packaged_studies
    from robustmix.studies.study import read_study as read_study
    from robustmix.studies.table import Table as Table

__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
