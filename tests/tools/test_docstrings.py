"""What a docstring says of the parameters, in the three styles that are common."""

from __future__ import annotations

import pytest

from power_loop.tools.docstrings import read_docstring

GOOGLE = """Find flights.

    Cheapest first.

    Args:
        origin (str): Where from: a city
            or an airport.
        days (Literal["a", "b"], optional): When.
        *rest: Ignored.

    Returns:
        list: what was found.
    Raises:
        ValueError: origin: not a city.
    """

NUMPY = """
    Find flights.

    Cheapest first.

    Parameters
    ----------
    origin : str
        Where from: a city
        or an airport.
    days, nights : int, optional
        When.

    Returns
    -------
    found : list
        What was found.
    """

SPHINX = """Find flights.

    Cheapest first.

    :param origin: Where from: a city
        or an airport.
    :type origin: str
    :param int days: When.
    :returns: what was found
    :raises ValueError: never
    """

EPYDOC_LIKE = "Find flights.\n\nNote: origin: is not a parameter.\n\nArgs are few."


# acceptance: 116 (docstrings)
@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX], ids=["Google", "NumPy", "Sphinx"])
def test_description_and_help_are_read_from_every_style(text: str) -> None:
    description, parameters = read_docstring(text)
    assert description == "Find flights.\n\nCheapest first."
    assert parameters["origin"] == "Where from: a city or an airport."
    assert parameters["days"] == "When."
    assert not {"found", "ValueError", "list", "returns"} & set(parameters)


def test_names_that_share_their_help_all_get_it() -> None:
    assert read_docstring(NUMPY).parameters["nights"] == "When."


@pytest.mark.parametrize("text", [EPYDOC_LIKE, "One line.", "Args and: what they do"])
def test_prose_stays_description(text: str) -> None:
    assert read_docstring(text) == (text, {})


def test_no_docstring_says_nothing() -> None:
    assert read_docstring(None) == read_docstring("  \n ") == ("", {})


def test_several_styles_of_one_parameter_give_the_first() -> None:
    assert read_docstring("Do it.\n\n:param a: first\n:param a: second\n:param b:").parameters == {"a": "first"}
