"""Parquet read in batches of bounded memory: two kilobytes of it may stand for ten gigabytes of rows."""

from collections.abc import Iterator
from typing import Any

MAX_RATIO, SMALL_BYTES = 50, 16 << 20  # of a column's unpacked bytes to its packed ones; below that any ratio goes
MAX_BATCH_BYTES = 1 << 30
MIN_ROWS, MAX_ROWS = 16, 1000


def parquet_batches(file: Any) -> Iterator[Any]:
    """The record batches of an open `pyarrow.parquet.ParquetFile`.

    Every row may repeat a column's one long value, so that the larger a column is, the fewer rows a batch has.

    Raises:
        ValueError: a column unpacks to far more than data does, or a row is too large.
    """
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    largest = 1
    for group in groups:
        for column in (group.column(number) for number in range(group.num_columns)):
            size, packed = column.total_uncompressed_size, column.total_compressed_size
            if not 0 <= size <= max(SMALL_BYTES, MAX_RATIO * packed):
                raise ValueError(f"column {column.path_in_schema!r} unpacks from {packed:,} bytes to {size:,}")
            largest = max(largest, size)
    num_rows = min(MAX_ROWS, max(MIN_ROWS, MAX_BATCH_BYTES // largest))
    for batch in file.iter_batches(batch_size=num_rows):
        if batch.nbytes > MAX_BATCH_BYTES:
            raise ValueError(f"{len(batch)} rows have {batch.nbytes:,} bytes")
        yield batch
