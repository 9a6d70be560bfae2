"""``robustmix doctor``: does this installation compute the right numbers?"""

import json as json_module
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from robustmix.cli import console


def doctor(
    check: Annotated[
        list[str] | None, typer.Option(help="Only these self-tests; repeatable.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where data sets lie [default: $ROBUSTMIX_DATA].")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON on stdout instead.")
    ] = False,
) -> None:
    """Test this installation against answers known in closed form; exit 4 if one is wrong.

    Prints versions, device, data and speed, then one line a self-test.
    """
    console.starting("examining this installation")
    from robustmix.cli.options import split_names
    from robustmix.doctor.run import examine, run_checks
    from robustmix.environment import choose_device

    where = choose_device(device)
    names = split_names(check or [])
    findings = []
    for finding in run_checks(where, names):
        findings.append(finding)
        if not json:
            console.result(finding.line)
    result = examine(where, findings, data_dir=data_dir)
    if json:
        console.result(json_module.dumps(result, indent=2, sort_keys=True))
    else:
        for line in _about(result):
            console.result(line)
    raise typer.Exit(0 if result["ok"] else 4)


def _about(result: dict[str, object]) -> list[str]:
    environment, data, speed = result["environment"], result["data"], result["speed"]
    checks = result["checks"]
    assert isinstance(environment, dict)
    assert isinstance(data, dict)
    assert isinstance(speed, dict)
    assert isinstance(checks, list)
    packages = ", ".join(f"{name} {number}" for name, number in environment["packages"].items())
    failed = sum(not finding["ok"] for finding in checks)
    return [
        f"robustmix {result['version']}, Python {environment['python']}, {environment['platform']}",
        f"packages: {packages}",
        f"device: {environment['device']}, {environment['threads']} threads",
        _about_data(data),
        f"speed: {speed['arch']} at {speed['input']}, {speed['forward_images_per_s']:.0f} images a "
        f"second forward, {speed['forward_backward_images_per_s']:.0f} forward and backward",
        f"{len(checks) - failed} of {len(checks)} self-tests passed",
    ]


def _about_data(data: Mapping[str, str]) -> str:
    """Name the data sets that are here, or are here in part; of the others there are many."""
    here = [f"{name} {state}" for name, state in data.items() if state != "missing"]
    others = len(data) - len(here)
    more = f"; {others} others are not here (robustmix data list)" if others else ""
    return f"data: {', '.join(here)}{more}"
