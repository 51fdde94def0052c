"""polars: parquet and CSV written to S3 and scanned from there. Prints what it found as JSON."""

import json

import polars as pl

frame = pl.DataFrame({"n": range(100_000)}).with_columns(half=pl.col("n") // 2)
frame.write_parquet("s3://by-polars/a/one.parquet")
frame.lazy().sink_parquet("s3://by-polars/a/two.parquet")
scanned = pl.scan_parquet("s3://by-polars/a/*.parquet").filter(pl.col("n") > 99_990)
frame.head(3).write_csv("s3://by-polars/three.csv")
print(
    json.dumps(
        {
            "rows": scanned.select("half").sum().collect().item(),
            "whole": pl.read_parquet("s3://by-polars/a/two.parquet").equals(frame),
            "csv": pl.scan_csv("s3://by-polars/three.csv").collect().rows(),
        }
    )
)
