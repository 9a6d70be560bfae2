import os
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from robustmix.errors import IntakeError, UsageError
from robustmix.toml_files import DEEPEST, LONGEST_WORD, MOST_BYTES, parse_toml, read_toml
from robustmix.training.recipe import Recipe
from robustmix.training.recipe_dict import write_recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 20000, "nested"),
        ("a = " + "{b = " * 20000, "nested"),
        ("[" * (DEEPEST + 1), "nested"),
        ("a" + ".a" * 50_000 + " = 1", "parts"),
        ("a" + " . 'a'" * DEEPEST + " = 1", "parts"),
        ("[" + "a." * DEEPEST + "a]", "parts"),
        ("a = " + "1" * 5000, "number or key"),
        ("a = 0x" + "f" * 5000, "number or key"),
        ("a = " + "1_" * 3000 + "1", "number or key"),
        ("a = 9223372036854775808", "64 bits"),
        ("a = [1, {b = -9223372036854775809}]", "64 bits"),
        ('a = """""" # \'\'\'\nb = ' + "[" * 100, "nested"),
        ('a = "\\""\nb = ' + "[" * 100, "nested"),
        ("a = '''x''''\nb = " + "[" * 100, "nested"),
        ("# comment\n" * 30_000, "longer than"),
    ],
    ids=lambda text: text[:24] if len(text) > 12 else text,
)
def test_what_no_recipe_needs_is_refused_at_once(text: str, said: str) -> None:
    begun = time.process_time()
    with pytest.raises(UsageError, match=said) as caught:
        parse_toml(text)
    assert caught.value.code == "E-TOML"
    assert time.process_time() - begun < 2


def test_brackets_dots_and_digits_in_strings_and_comments_count_nothing() -> None:
    text = (
        'a = "[[[[[[[[[[[[[[[[[[[[ ... \\" [["\n'
        "b = '" + "." * 100 + "[" * 50 + "'\n"
        'c = """\n' + "[a.b.c" * 50 + '\n"" ' + "1" * 1000 + '"""\n'
        "d = 1 # " + "[" * 50 + "1" * 1000 + "\n"
        "e = '''" + "{" * 40 + "''''''" + "\n"
    ).replace("''''''", "'''")
    assert parse_toml(text) == tomllib.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * DEEPEST + "]" * DEEPEST,
        ".".join("a" * DEEPEST) + " = 1",
        f"a = 1\nb = {'9' * 18}",
        "k" * LONGEST_WORD + " = 1",
        "a = [1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5]",
        'a = """"quoted""""\nb = [[1]]\n',
    ],
)
def test_what_is_at_a_bound_is_read(text: str) -> None:
    assert parse_toml(text) == tomllib.loads(text)


def test_broken_toml_is_told_as_such() -> None:
    for text in ("a = ", "a = 1\na = 2", 'a = "', "= 3", 'a = """x'):
        with pytest.raises(tomllib.TOMLDecodeError):
            parse_toml(text)


def test_a_recipe_is_read_back(tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.toml", Recipe(description="a [long] story. " * 50))
    values = read_toml(tmp_path / "r.toml", what="recipe")
    assert values == tomllib.loads((tmp_path / "r.toml").read_text(encoding="utf-8"))


def fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (fifo, "it is a pipe"),
        (Path.mkdir, "it is a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a pipe, socket or device"),
        (lambda path: path.symlink_to(path), "Too many levels"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not valid TOML"),
        (lambda path: path.write_text("a = ["), "not valid TOML"),
        (lambda path: path.write_text("a = " + "[" * 99), "nested"),
        (lambda path: path.write_bytes(bytes(MOST_BYTES + 1)), "at most 262144 are read"),
        (lambda path: None, "No such file"),
    ],
)
def test_a_file_that_is_none_is_told_in_one_line(
    make: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    make(tmp_path / "rules.toml")
    with pytest.raises(IntakeError, match=said) as caught:
        read_toml(tmp_path / "rules.toml", what="file of rules")
    assert "file of rules" in caught.value.line()
