"""The metrics of several processes as one text in the format of Prometheus. Pure.

Each text is what `common.metrics.Metrics.render` makes: for each metric its ``# HELP`` and
``# TYPE`` lines, then its samples. A metric must stand in one place of the whole, so that the
samples of all processes come together below one head, told apart by a label.
"""

from __future__ import annotations

from collections.abc import Mapping


def merged(texts: Mapping[str, bytes], label: str) -> bytes:
    """One text of several.

    Args:
        texts: by the value of the label.
        label: name of the label that each sample gets as its first.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for value, text in texts.items():
        name = ""
        own: set[str] = set()
        for line in text.decode().splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                if name not in heads:
                    own.add(name)
                    heads[name], samples[name] = [], []
            if line.startswith("#"):
                if name in own:
                    heads[name].append(line)
            elif line:
                samples[name].append(_labelled(line, label, value))
    lines = [line for name, head in heads.items() for line in (*head, *samples[name])]
    return "\n".join([*lines, ""]).encode()


def _labelled(sample: str, label: str, value: str) -> str:
    """A sample with one more label, the first."""
    end = min(at for at in (sample.find("{"), sample.find(" ")) if at >= 0)
    name, rest = sample[:end], sample[end:]
    if rest.startswith("{"):
        return f'{name}{{{label}="{value}",{rest[1:]}'
    return f'{name}{{{label}="{value}"}}{rest}'
