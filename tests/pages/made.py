"""Reports made by hand, of whatever suites a test needs."""

from robustmix.metrics.metric import Metric, Unit
from robustmix.report import Report
from robustmix.report.schema import (
    ConditionPart,
    DatasetPart,
    Environment,
    ModelPart,
    Protocol,
    ReportModel,
    Run,
    SuitePart,
    Tool,
    Warn,
)


def number(value: float | None, *, spread: float = 0.05, unit: Unit = "fraction") -> Metric:
    """Give a number with an interval, or one that is undefined."""
    if value is None:
        return Metric(value=None, unit=unit, direction="higher", n=20, reason="undefined")
    ends = (value - spread, value + spread)
    return Metric(value=value, unit=unit, direction="higher", n=20, ci=ends, ci_method="made")


def points(**values: float | None) -> list[ConditionPart]:
    """Give conditions with an accuracy each."""
    return [
        ConditionPart(name=name, metrics={"acc": number(value)}) for name, value in values.items()
    ]


def made(
    suites: dict[str, SuitePart], *, name: str = "made", warnings: list[Warn] | None = None
) -> Report:
    return Report(
        ReportModel(
            tool=Tool(version="1"),
            run=Run(
                id="1",
                name=name,
                status="success",
                started="",
                finished="",
                wall_s=1,
                argv=[],
                config={"suites": list(suites)},
                seed=0,
                fingerprint="",
            ),
            environment=Environment(
                python="3",
                platform="",
                device="cpu",
                cuda=None,
                tf32=False,
                deterministic=True,
                threads=1,
                packages={},
            ),
            model=ModelPart(
                source="",
                format="",
                sha256=None,
                state_sha256="",
                arch="",
                arch_options={},
                head=None,
                weights=None,
                num_classes=4,
                input_size=(3, 5, 7),
                normalisation={},
                resize=None,
                class_map_sha256=None,
                params=1,
                trusted_pickle=False,
                training={},
                checks={},
            ),
            dataset=DatasetPart(
                name="set",
                split="test",
                n=20,
                n_total=20,
                subset=None,
                order_sha256="",
                class_names_sha256="",
                transform="",
                files=[],
            ),
            protocol=Protocol(
                presets=[],
                hash="",
                nonstandard=False,
                params={key: part.params for key, part in suites.items()},
            ),
            suites=suites,
            warnings=warnings or [],
        )
    )
