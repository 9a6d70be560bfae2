"""Values that would take all memory or time are refused before any is taken."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from robustmix.errors import UsageError
from robustmix.evaluation.plan import every_option, plan

ROOT = Path(__file__).parent.parent.parent

HUGE: dict[str, tuple[str, dict[str, Any]]] = {
    "severities": ("corruption", {"severity": "1-99999999"}),
    "severities in pieces": ("corruption", {"severity": ",".join(["1-999999999"] * 500)}),
    "severities as a range": ("corruption", {"severity": "range"}),
    "names": ("corruption", {"corruptions": "x" * 1_000_000}),
    "many names": ("corruption", {"corruptions": "fog," * 1_000_000}),
    "a small step": ("occlusion", {"ratios": "0:1:1e-9"}),
    "a smaller step": ("occlusion", {"ratios": "0:1:1e-99"}),
    "a large end": ("occlusion", {"ratios": "0:1e999999999:1"}),
    "a large exponent": ("occlusion", {"ratios": "1e-999999999"}),
    "many ratios": ("occlusion", {"ratios": "0.5," * 1_000_000 + "0.5"}),
    "trials": ("occlusion", {"trials": "99999999999"}),
    "shuffled trials": ("shuffle", {"trials": 10**30}),
    "digits": ("shuffle", {"pieces": "9" * 1_000_000}),
    "a grid": ("occlusion", {"grid": "9" * 100_000 + "x8"}),
    "an offset": ("occlusion", {"offset": "9" * 39 + ",8"}),
    "a long offset": ("occlusion", {"offset": "8," * 1_000_000}),
    "a scope": ("occlusion", {"mask_scope": "batch:" + "9" * 5000}),
    "bins": ("calibration", {"ece_bins": "1000000000"}),
    "eps": ("fgsm", {"eps": "1e999999999"}),
    "a long eps": ("fgsm", {"eps": "0." + "1" * 1_000_000}),
    "many eps": ("pgd", {"eps": "8/255," * 1_000_000 + "8/255"}),
    "steps": ("pgd", {"steps": "9" * 39}),
    "queries": ("square", {"queries": 10**12}),
    "a loss": ("pgd", {"loss": "x" * 1_000_000}),
    "a norm": ("pgd", {"norm": "l" * 1_000_000}),
}

PROGRAM = """
import json, resource, sys, time
from robustmix.errors import UsageError
from robustmix.evaluation.plan import plan

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

plan(["all"])
found = {}
for name, (suite, options) in json.loads(sys.stdin.read()).items():
    if options.get("severity") == "range":
        options["severity"] = range(1, 10**10)
    before, begun = peak(), time.process_time()
    try:
        plan([suite], options=options)
    except UsageError as error:
        found[name] = time.process_time() - begun, peak() - before, error.line()
print(json.dumps(found))
"""


def test_huge_values_take_neither_time_nor_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(HUGE),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert set(found) == set(HUGE)
    for name, (seconds, megabytes, line) in found.items():
        assert seconds < 2, name  # of the processor
        assert megabytes < 300, name
        assert len(line) < 500, name


def test_every_huge_value_is_a_usage_error() -> None:
    for suite, options in HUGE.values():
        given = {k: range(1, 10**10) if v == "range" else v for k, v in options.items()}
        with pytest.raises(UsageError):
            plan([suite], options=given)


HOSTILE = [
    "", ",", ",,,", " ", "\x00", "\ud800", "-", "--", "nan", "inf", "-inf", "-1", "0", "1e400",
    "1/0", "0x10", "١", "٣", "x", "8x", "x8", "8x8x8", "1:2", "0:1:0", "1:0:-1", ":", "::",
    "None", "true", "[1, 2]", "{}", "a=b", "../..", "batch:", "batch:0", "batch:-1",
    "9" * 5000, "1" + "0" * 30,
]  # fmt: skip


def test_no_text_makes_any_option_raise_anything_but_a_usage_error() -> None:
    """Of every suite and option; what is taken must be taken again, to the same suite."""
    for name in every_option():
        for option in every_option()[name].values():
            if option.is_switch:
                continue
            for text in HOSTILE:
                said = refusal(name, option.name, text)
                assert said is None or len(said) < 1100, (name, option.name, text[:20])


def refusal(name: str, option: str, text: str) -> str | None:
    """The line that refuses a value; None where it is taken, always to the same suite."""
    try:
        first = plan([name], options={option: text})
    except UsageError as error:
        return error.line()
    assert plan([name], options={option: text}) == first
    return None
