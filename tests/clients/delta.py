"""Delta tables: several processes append at once; a commit is one object that only one can create.

delta.py append URI WRITER COUNT    appends, each row a commit of its own
delta.py read URI                   prints what the table holds, and its history, as JSON
"""

import json
import sys

import polars as pl
from deltalake import DeltaTable, write_deltalake

action, uri, *rest = sys.argv[1:]
if action == "create":
    write_deltalake(uri, pl.DataFrame({"writer": ["0"], "n": [0]}))
elif action == "append":
    writer, count = rest
    for number in range(int(count)):
        write_deltalake(uri, pl.DataFrame({"writer": [writer], "n": [number]}), mode="append")
else:
    table = DeltaTable(uri)
    rows = pl.scan_delta(uri).sort("writer", "n").collect()
    print(
        json.dumps(
            {
                "version": table.version(),
                "rows": rows.rows(),
                "commits": len(table.history()),
            }
        )
    )
