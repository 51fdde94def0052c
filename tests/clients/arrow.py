"""pyarrow: its S3 file system, and parquet over it. Prints what it found as JSON."""

import json
import os

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

s3 = fs.S3FileSystem(
    access_key=os.environ["AWS_ACCESS_KEY_ID"],
    secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    endpoint_override=os.environ["AWS_ENDPOINT_URL"],
    region=os.environ["AWS_REGION"],
    allow_bucket_creation=True,
    allow_bucket_deletion=True,
)
s3.create_dir("by-arrow")
table = pa.table({"n": range(200_000), "kind": ["even", "odd"] * 100_000})
pq.write_table(table, "by-arrow/one.parquet", filesystem=s3)
some = pq.read_table("by-arrow/one.parquet", filesystem=s3, filters=[("n", ">=", 199_990)])
ds.write_dataset(
    table,
    "by-arrow/parts",
    filesystem=s3,
    format="parquet",
    partitioning=["kind"],
    partitioning_flavor="hive",
)
odd = ds.dataset("by-arrow/parts", filesystem=s3, partitioning="hive").to_table(
    filter=ds.field("kind") == "odd"
)
with s3.open_output_stream("by-arrow/large.bin") as out:
    for _ in range(12):
        out.write(b"x" * 1_000_000)  # past 10 MiB it goes in parts
with s3.open_input_file("by-arrow/large.bin") as source:
    source.seek(11_999_990)
    tail = source.read()
s3.copy_file("by-arrow/one.parquet", "by-arrow/dir/copy.parquet")
s3.move("by-arrow/dir/copy.parquet", "by-arrow/moved.parquet")
listed = s3.get_file_info(fs.FileSelector("by-arrow", recursive=True))
names = sorted(each.path for each in listed if each.is_file and "/parts/" not in each.path)
same = pq.read_table("by-arrow/moved.parquet", filesystem=s3).equals(table)
s3.delete_dir("by-arrow")
print(
    json.dumps(
        {
            "some": some.column("n").to_pylist(),
            "odd": odd.num_rows,
            "tail": tail.decode(),
            "names": names,
            "same": same,
            "left": [each.path for each in s3.get_file_info(fs.FileSelector(""))].count("by-arrow"),
        }
    )
)
