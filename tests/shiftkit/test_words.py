"""Words of tables: spellings whose meaning is certain are understood, others are not guessed."""

import pytest

from shiftkit.analyses.scoring.metrics import METRICS
from shiftkit.errors import DataError
from shiftkit.words import chosen_session, name_problem, not_understood, readable, same_person, understood, words_of


@pytest.mark.parametrize(
    ("column", "text", "word"),
    [
        ("group", "Glioma ", "glioma"),
        ("group", "patient", "glioma"),
        ("group", "HC", "control"),
        ("group", "Target Control", "target_control"),
        ("seen", "True", "yes"),
        ("seen", "1", "yes"),
        ("seen", "No", "no"),
        ("hemisphere", "L", "left"),
        ("hemisphere", "none", "none"),
        ("side", "", "n/a"),
        ("group", "meningioma", None),
    ],
)
def test_certain_spellings_are_understood(column: str, text: str, word: str | None) -> None:
    """Case, blanks and common abbreviations do not matter; any other word has no meaning."""
    assert understood(column, text) == word
    assert not_understood(column, [text]) == (() if word else (text,))


def test_metrics_have_the_names_of_the_list() -> None:
    """Every metric is known here under its own name, and `DSC` is Dice."""
    assert words_of("metric") == tuple(METRICS)
    assert understood("metric", "DSC") == "dice" and understood("metric", "HD-95") == "hd95"


def test_an_id_without_its_zeros_or_prefix_is_the_same_person() -> None:
    """Spreadsheets take zeros off numbers; letters and digits in between stay."""
    assert same_person("sub-004") == same_person("4") == same_person("SUB-04 ")
    assert same_person("sub-g004") == same_person("sub-g4") != same_person("sub-4")
    assert same_person("sub-100") != same_person("sub-1")


def test_one_session_is_chosen_or_the_choice_is_named() -> None:
    """Numbers have an order, words have none, and several sessions are never mixed."""
    numbers = {"sub-1": ["ses-2", "ses-10"], "sub-2": ["ses-2"], "sub-3": [None]}
    assert chosen_session(numbers, "last") == {"sub-1": "ses-10", "sub-2": "ses-2", "sub-3": None}
    assert chosen_session(numbers, "10") == {"sub-1": "ses-10", "sub-3": None}
    with pytest.raises(DataError, match=r"sub-1 have several \(ses-10, ses-2\).*`session`"):
        chosen_session(numbers, None)
    with pytest.raises(DataError, match="ses-post has none"):
        chosen_session({"sub-1": ["ses-post", "ses-pre"]}, "first")
    with pytest.raises(DataError, match="'7'"):
        chosen_session(numbers, "7")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sub-01", None),
        ("n/a", None),
        ("nnU-Net/3d_fullres", None),
        ("-0.5", None),
        ("=1+1", "formula"),
        ("@SUM(A1)", "formula"),
        ("-2+3|cmd", "formula"),
        ("sub-../../x", "folder"),
        ("/etc/passwd", "folder"),
        ("<img src=x>", "markup"),
        ("two\nlines", "control"),
        ("red\x1b[31m", "control"),
        ("turned\u202e", "control"),
        ("unseen\u200b", "control"),
        ("\ud800", "control"),
        ("", "empty"),
        ("x" * 201, "201"),
    ],
)
def test_names_that_would_do_something_are_told_from_names(text: str, words: str | None) -> None:
    """Formulas, markup, paths, control characters and what cannot be seen are no names; numbers and slashes may be."""
    problem = name_problem(text)
    assert (problem is None) if words is None else (problem is not None and words in problem)


def test_nothing_of_a_text_moves_the_cursor() -> None:
    """What reaches a terminal keeps its lines and loses its escapes."""
    assert readable("a\tb\nc\x1b[2J\x07\r\ud800") == "a\tb\nc\ufffd[2J\ufffd\ufffd\ufffd"
