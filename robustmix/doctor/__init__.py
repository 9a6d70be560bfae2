"""Self-tests of an installation: answers known in closed form, computed with the user's stack."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports_of

if TYPE_CHECKING:
    from robustmix.doctor.checks import CHECKS as CHECKS
    from robustmix.doctor.run import Finding as Finding
    from robustmix.doctor.run import examine as examine
    from robustmix.doctor.run import run_check as run_check

__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
