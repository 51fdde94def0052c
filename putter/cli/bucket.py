"""``bucket``: settings of single buckets."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from common.errors import UsageError
from putter.cli.access import URL, Json, KeyFile, TlsCa, Token, Url, open_store
from putter.cli.output import (
    held_cells,
    human_size,
    human_time,
    parse_size,
    print_json,
    print_table,
)
from putter.cli.shell import Shell, help_of
from putter.client.buckets import BucketInfo

NAMES: Final = ("replicas", "write_quorum", "read_quorum", "consistency")
SETTINGS: Final = (*NAMES, "quota_bytes", "quota_files")

bucket = typer.Typer(cls=Shell, help="Settings of single buckets.", no_args_is_help=True)

_Bucket = Annotated[str, typer.Argument(help="Name of the bucket.")]


def _count(flag: str, text: str) -> Any:
    return typer.Option(flag, min=1, max=8, metavar="COUNT", help=text)


def show(
    name: _Bucket,
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    as_json: Json = False,
) -> None:
    """Tell the settings of a bucket, what counts for it, and how much it holds.

    Examples:
        putter bucket show photos
        putter bucket show photos --json
    """
    with open_store(url, token, key_file, tls_ca) as store:
        _print(store.bucket(name), as_json=as_json)


def change(
    name: _Bucket,
    replicas: Annotated[
        int | None, _count("--replicas", "Putters that hold each extent (N).")
    ] = None,
    write_quorum: Annotated[
        int | None, _count("--write-quorum", "Of them, how many a write waits for (W).")
    ] = None,
    read_quorum: Annotated[
        int | None, _count("--read-quorum", "Replicas that a read has verified (R).")
    ] = None,
    consistency: Annotated[
        str | None,
        typer.Option(
            "--consistency",
            metavar="CHOICE",
            help="With too few putters alive: `available` goes on, `strict` refuses.",
        ),
    ] = None,
    quota_bytes: Annotated[
        str | None,
        typer.Option(
            "--quota-bytes", metavar="SIZE", help="Bytes that all its versions may have: `10GiB`."
        ),
    ] = None,
    quota_files: Annotated[
        int | None,
        typer.Option(
            "--quota-files", min=1, metavar="COUNT", help="Files it may hold, each version counted."
        ),
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(
            "--unset", metavar="NAME", help="A setting that shall be as in the whole store again."
        ),
    ] = None,
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    as_json: Json = False,
) -> None:
    """Change settings of a bucket; those that are not named stay.

    New files follow at once (within two seconds on other routers), files that are there already in
    the background: copies that are missing are made, those beyond are freed. What a bucket holds
    beyond a quota stays; only more of it is refused.

    Examples:
        putter bucket set photos --replicas 3
        putter bucket set photos --quota-bytes 10GiB --quota-files 100000
        putter bucket set ledger --write-quorum 2 --read-quorum 2 --consistency strict
        putter bucket set photos --unset replicas
    """
    size = parse_size(quota_bytes) if quota_bytes is not None else None
    given = (replicas, write_quorum, read_quorum, consistency, size, quota_files)
    changes: dict[str, int | str | None] = {
        name: value for name, value in zip(SETTINGS, given, strict=True) if value is not None
    }
    for word in unset or ():
        setting = word.replace("-", "_")
        if setting not in SETTINGS:
            raise UsageError(f"{word!r} is no setting of a bucket", hint=", ".join(SETTINGS))
        if setting in changes:
            raise UsageError(f"{setting} is given and taken back")
        changes[setting] = None
    if not changes:
        raise UsageError("name a setting to change", hint="putter bucket set --help")
    with open_store(url, token, key_file, tls_ca) as store:
        _print(store.set_bucket(name, changes), as_json=as_json)


def reset(
    name: _Bucket,
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    as_json: Json = False,
) -> None:
    """Let a bucket be as the whole store again.

    Examples:
        putter bucket reset photos
    """
    with open_store(url, token, key_file, tls_ca) as store:
        _print(store.reset_bucket(name), as_json=as_json)


def list_all(
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    as_json: Json = False,
) -> None:
    """List all buckets with what counts for each; a star is the bucket's own setting.

    Behind that is what each holds, of its quota if it has one.

    Examples:
        putter bucket ls
        putter bucket ls --json
    """
    with open_store(url, token, key_file, tls_ca) as store:
        told = store.bucket_settings()
    if as_json:
        print_json(told)
        return
    rows = [
        (each.bucket, *(_cell(each, n) for n in NAMES), *held_cells(each), _state(each))
        for each in told.buckets
    ]
    store_row = ("(store)", *(str(getattr(told.store, name)) for name in NAMES), "", "", "")
    header = ("bucket", "N", "W", "R", "consistency", "files", "bytes", "state")
    print_table(header, [store_row, *rows])


bucket.command("show", help=help_of(show))(show)
bucket.command("set", help=help_of(change))(change)
bucket.command("reset", help=help_of(reset))(reset)
bucket.command("ls", help=help_of(list_all))(list_all)


def _print(info: BucketInfo, *, as_json: bool) -> None:
    if as_json:
        print_json(info)
        return
    changed = f"changed {human_time(info.changed_ms)}" if info.changed_ms else "never changed"
    typer.echo(f"bucket:  {info.bucket} ({changed})")
    for name in NAMES:
        own = getattr(info.settings, name) is not None
        whose = "of the bucket" if own else "of the store"
        typer.echo(f"{name + ':':<13} {getattr(info.policy, name)} ({whose})")
    if info.used is not None:
        files, size = held_cells(info)
        parts = human_size(info.used.upload_bytes)
        beside = f", {parts} in parts of open uploads" if info.used.upload_bytes else ""
        typer.echo(f"holds:   {files} files, {size}{beside}")
    if info.others:
        typer.echo(f"others:  {', '.join(info.others)}")
    if not info.followed:
        typer.echo("files:   those that were there before follow in the background")


def _cell(info: BucketInfo, name: str) -> str:
    own = getattr(info.settings, name) is not None
    return f"{getattr(info.policy, name)}{'*' if own else ''}"


def _state(info: BucketInfo) -> str:
    return "" if info.followed else "follow"
