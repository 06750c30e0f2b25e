"""Rows as a pandas table; pandas is asked for only then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sftopt.core.errors import RefusedError

if TYPE_CHECKING:
    import pandas


def data_frame(
    rows: Sequence[dict[str, Any]], owner: str, index: str | None = None
) -> pandas.DataFrame:
    """Return ``rows`` as a table, indexed by column ``index``.

    ``owner``: the class whose ``to_dataframe`` it is, for the RefusedError without pandas.
    """
    try:
        import pandas
    except ImportError:
        raise RefusedError(
            f"{owner}.to_dataframe needs pandas, which is not installed: pip install pandas"
        ) from None
    made = pandas.DataFrame(rows)
    return made if index is None or not rows else made.set_index(index)
