"""s3fs, which pandas, dask and others reach S3 by. Prints what it found as JSON."""

import json
import sys

import s3fs

s3 = s3fs.S3FileSystem(config_kwargs={"s3": {"addressing_style": "path"}})
tree, again = sys.argv[1:]
s3.mkdir("by-s3fs")
s3.put(f"{tree}/", "by-s3fs/tree/", recursive=True)
found = sorted(name.removeprefix("by-s3fs/tree/") for name in s3.find("by-s3fs/tree"))
with s3.open("by-s3fs/written", "wb", block_size=5 * 1024**2) as out:
    for _ in range(3):
        out.write(b"y" * 4_000_000)
with s3.open("by-s3fs/written", "rb") as source:
    source.seek(-5, 2)
    tail = source.read().decode()
s3.cp("by-s3fs/tree/a.txt", "by-s3fs/copy.txt")
s3.mv("by-s3fs/copy.txt", "by-s3fs/moved.txt")
s3.get("by-s3fs/tree/", f"{again}/", recursive=True)
told = {
    "found": found,
    "tail": tail,
    "moved": s3.cat("by-s3fs/moved.txt").decode(),
    "top": sorted(s3.ls("by-s3fs")),
    "size": s3.info("by-s3fs/written")["size"],
    "there": [s3.exists("by-s3fs/copy.txt"), s3.exists("by-s3fs/moved.txt")],
    "glob": s3.glob("by-s3fs/tree/*.txt"),
}
s3.rm("by-s3fs", recursive=True)
s3.invalidate_cache()
print(json.dumps(told | {"left": s3.exists("by-s3fs")}))
