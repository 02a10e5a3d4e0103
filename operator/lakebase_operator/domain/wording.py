"""How numbers are told."""


def counted(number: int, one: str, many: str) -> str:
    """``1 privilege``, ``2 privileges``: a number with the words that belong to it.

    Parameters
    ----------
    number
        How many.
    one, many
        The words for one, and for any other number.
    """
    return f"{number} {one if number == 1 else many}"
