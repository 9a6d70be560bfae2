import json

import pytest

from robustmix.text import escaped, plain, plain_lines, shortened

STRANGE = "a\x00\x1b[2J\x7f\x9b31m\u202eb\u2066\u2028\udcff\U000e0041c\r\tä 漢 🙂"


def test_nothing_that_moves_a_cursor_or_turns_text_is_left() -> None:
    assert plain(STRANGE) == "a??[2J??31m?b????c??ä 漢 🙂"
    assert plain_lines("one\ntwo\x1b[1A\n") == "one\ntwo?[1A\n"
    assert plain("x" * 300) == "x" * 199 + "…"


def test_json_keeps_its_meaning() -> None:
    value = {STRANGE: [STRANGE, "plain"]}
    text = json.dumps(value, ensure_ascii=False, indent=1)
    safe = escaped(text)
    assert json.loads(safe) == value
    assert all(line.isprintable() for line in safe.split("\n"))
    assert escaped("a\tb\r\nc") == "a\tb\\u000d\nc"


@pytest.mark.parametrize("length", [10, 40, 41, 1000])
def test_long_text_keeps_both_ends(length: int) -> None:
    text = "".join(chr(ord("a") + i % 26) for i in range(length))
    short = shortened(text, 40)
    assert len(short) == min(length, 40)
    head, cut, tail = short.partition("[...]")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert bool(cut) == (length > 40)
