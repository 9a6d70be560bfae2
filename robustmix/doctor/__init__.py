"""Self-tests of an installation: answers known in closed form, computed with the user's stack."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports

if TYPE_CHECKING:
    from robustmix.doctor.checks import CHECKS
    from robustmix.doctor.run import Finding, examine, run_check

__all__ = ["CHECKS", "Finding", "examine", "run_check"]
__getattr__ = lazy_exports(
    __name__,
    {
        "CHECKS": f"{__name__}.checks",
        "Finding": f"{__name__}.run",
        "examine": f"{__name__}.run",
        "run_check": f"{__name__}.run",
    },
)
