"""The rows of a chart as Arrow tables.

Streamlit makes them of lists by way of pandas, which took a third of the CPU of a page that
refreshes itself.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa

Spec = Mapping[str, object]


def packed(spec: Spec) -> dict[str, object]:
    """The spec with its named datasets as tables."""
    datasets = spec.get("datasets")
    if not isinstance(datasets, Mapping):
        return dict(spec)
    return {**spec, "datasets": {name: table(rows) for name, rows in datasets.items()}}


def table(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """The rows with all columns that any of them has; None where a row lacks one.

    >>> table([{"t": 1.0}, {"t": 2, "name": "x"}]).to_pydict()
    {'t': [1.0, 2.0], 'name': [None, 'x']}
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
