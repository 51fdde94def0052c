"""The layout ``segments``: append-only files of self-describing records.

The format is in ``docs/formats/segment.md``, how it works in ``docs/internals/segments.md``.
"""
