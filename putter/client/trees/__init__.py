"""Copying trees of files between a directory and a store, or within a store.

`places` are the two ends, `listing` reads what is there, `plan` decides without touching anything,
`routes` know how a file goes from one end to the other, `errand` carries a plan out in several
threads and tells what became of each file.
"""
