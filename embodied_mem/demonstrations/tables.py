"""Arrays to Arrow tables as LeRobot reads them: one-number features are scalars, vectors are lists of fixed length."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError


def load_arrow() -> tuple[Any, Any]:
    """Return pyarrow and pyarrow.parquet.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise UsageError("parquet files need the package pyarrow: pip install 'embodied-mem[datasets]'") from error
    return pyarrow, parquet


def episode_table(columns: Mapping[str, np.ndarray]) -> Any:
    """Return an Arrow table of columns (T, F)."""
    arrow, _ = load_arrow()
    made = {}
    for name, values in columns.items():
        flat = arrow.array(np.ascontiguousarray(values).reshape(-1))
        width = values.shape[1]
        made[name] = flat if width == 1 else arrow.FixedSizeListArray.from_arrays(flat, width)
    return arrow.table(made)


def column(table: Any, name: str) -> np.ndarray:
    """Return a column of numbers or of lists of equal length as (T, F)."""
    arrow, _ = load_arrow()
    values = table.column(name).combine_chunks()
    if isinstance(values, arrow.ChunkedArray):
        values = arrow.concat_arrays(values.chunks)
    if arrow.types.is_list(values.type) or arrow.types.is_fixed_size_list(values.type):
        return np.asarray(values.flatten().to_numpy(zero_copy_only=False)).reshape(table.num_rows, -1)
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(-1, 1)


def tasks_table(tasks: Sequence[str]) -> Any:
    """Return the table of tasks: ``task_index``, and the text as the index that pandas restores."""
    arrow, _ = load_arrow()
    table = arrow.table({"task_index": np.arange(len(tasks)), "task": list(tasks)})
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    about = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
            for name, (kind, numpy) in kinds.items()
        ],
        "creator": {"library": "pyarrow", "version": arrow.__version__},
        "pandas_version": "2.0.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(about)})
