"""Flags of suites: told from other words, shown in help and docs, never dropped."""

from pathlib import Path

import pytest

from robustmix.cli.app import run
from robustmix.cli.suite_options import options_page, split_words
from robustmix.errors import UsageError
from robustmix.evaluation.suites.registry import suite_names

PAGE = Path(__file__).parents[2] / "docs" / "options.md"


def test_the_page_of_options_is_what_the_suites_say() -> None:
    if not PAGE.exists():
        pytest.skip("the docs are not beside the tests")
    assert PAGE.read_text(encoding="utf-8") == options_page(), "run python scripts/options_page.py"
    assert [line[3:] for line in options_page().splitlines() if line.startswith("## ")] == (
        suite_names()
    )


@pytest.mark.parametrize(
    ("words", "rest", "given"),
    [
        ("net.pth", ["net.pth"], {}),
        ("--eps 8/255 net.pth", ["net.pth"], {"eps": "8/255"}),
        ("net.pth --eps=8/255,4/255 --fill black", ["net.pth"],
         {"eps": "8/255,4/255", "fill": "black"}),
        ("--mode random net.pth --mode salient", ["net.pth"], {"mode": "random,salient"}),
        ("--confusion net.pth --no-random-start", ["net.pth"],
         {"confusion": True, "random_start": False}),
        ("--random-start -- --eps", ["--eps"], {"random_start": True}),
        ("--mce-reference - x", ["x"], {"mce_reference": "-"}),
    ],
)  # fmt: skip
def test_options_are_told_from_other_words(
    words: str, rest: list[str], given: dict[str, object]
) -> None:
    assert split_words(words.split(), [], ["--limit"]) == (rest, given)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--fil black", "unknown option '--fil'; did you mean '--fill'?"),
        ("--limt 3", "unknown option '--limt'; did you mean '--limit'?"),
        ("--fill", "--fill needs a value; write --fill"),
        ("--confusion=yes", "--confusion takes no value"),
        ("--no-fill", "unknown option '--no-fill'"),
        ("--fill black --fill mean", "--fill is given twice"),
        ("-x", "unknown option '-x'"),
    ],
)
def test_what_is_no_option_says_so(words: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_words(words.split(), [], ["--limit"])
    assert said in caught.value.line()


def test_help_is_short_and_tells_where_the_rest_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "--help"]) == 0
    short = capsys.readouterr().out
    assert len(short.splitlines()) < 60
    assert "--suite" in short
    assert "--help-all" in short
    assert "--ratios" not in short
    assert "--mean" not in short
    assert run(["eval", "--help", "occlusion"]) == 0
    occlusion = capsys.readouterr().out
    assert "--ratios" in occlusion
    assert "--eps" not in occlusion
    assert run(["eval", "--help", "model"]) == 0
    assert "--mean" in capsys.readouterr().out
    assert run(["eval", "--help-all"]) == 0
    everything = capsys.readouterr().out
    assert all(flag in everything for flag in ("--suite", "--mean", "--ratios", "--step-size"))
    assert run(["eval", "--help", "oclusion"]) == 2
    assert "did you mean 'occlusion'" in capsys.readouterr().err
