"""A check as JUnit XML, in the form that CI servers read.

One ``testsuite`` a suite of the evaluation, one ``testcase`` a rule: a violated rule is a
``failure``, what could not be judged an ``error``, what is undecided ``skipped``.
"""

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from robustmix.comparison.document import CheckDocument, RuleResult

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(document: CheckDocument) -> str:
    """Write a check as XML text that ends with a line break."""
    root = ET.Element("testsuites", name="robustmix check")
    suites = list(dict.fromkeys(result.suite for result in document.rules))
    for suite in suites:
        _suite(root, suite, [r for r in document.rules if r.suite == suite], document.strict)
    for attribute in ("tests", "failures", "errors"):
        root.set(attribute, str(sum(int(child.get(attribute, "0")) for child in root)))
    root.set("time", f"{sum(result.seconds for result in document.rules):.3f}")
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(root: ET.Element, name: str, results: Sequence[RuleResult], strict: bool) -> None:
    kinds = [_kind(result, strict) for result in results]
    suite = ET.SubElement(
        root,
        "testsuite",
        name=xml_text(name),
        tests=str(len(results)),
        failures=str(kinds.count("failure")),
        errors=str(kinds.count("error")),
        skipped=str(kinds.count("skipped")),
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    for result, kind in zip(results, kinds, strict=True):
        case = ET.SubElement(
            suite,
            "testcase",
            classname=xml_text(f"robustmix.{name}"),
            name=xml_text(result.rule),
            time=f"{result.seconds:.3f}",
        )
        if kind:
            found = ET.SubElement(case, kind, message=xml_text(result.message))
            if kind != "skipped":
                found.set("type", result.outcome)
                found.text = xml_text(result.message)
        ET.SubElement(case, "system-out").text = xml_text(details(result))


def _kind(result: RuleResult, strict: bool) -> str:
    if result.outcome == "inconclusive":
        return "failure" if strict else "skipped"
    kinds = {"pass": "", "fail": "failure", "incomplete": "error", "incompatible": "error"}
    return kinds[result.outcome]


def details(result: RuleResult) -> str:
    """List what a rule was decided by, one ``name: value`` a line, in the metric's own unit."""
    rows: list[tuple[str, object]] = [
        ("outcome", result.outcome),
        ("value", result.value),
        ("baseline", result.baseline),
        ("limit", result.limit),
        ("interval", None if result.ci is None else f"{result.ci[0]} to {result.ci[1]}"),
        ("interval by", result.ci_method),
        ("p", result.p),
        ("p adjusted", result.p_adjusted),
        ("minimal detectable difference", result.mdd),
        ("n", result.n),
        ("unit", result.unit),
    ]
    return "\n".join(f"{name}: {value}" for name, value in rows if value is not None)


def xml_text(text: str) -> str:
    """Replace the characters that XML 1.0 cannot hold by question marks."""
    return _NOT_XML.sub("?", text)
