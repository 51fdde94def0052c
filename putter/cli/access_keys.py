"""``keys create|list|update|rotate|delete``: the access keys that clients sign with."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated, Final

import typer

from common.errors import UsageError
from putter.cli.access import URL, Json, KeyFile, TlsCa, Token, Url, open_store
from putter.cli.output import human_time, print_json, print_table
from putter.client.keys import IssuedKey, KeyInfo

ANY_REGION: Final = "us-east-1"
"""Clients want to be told one; the store takes all."""
_RIGHTS: Final = ("read", "write")
_STDIN_CHARS_MAX: Final = 4096

_AccessKey = Annotated[str, typer.Argument(metavar="ACCESS_KEY", help="Id of the key.")]
_SecretKey = Annotated[
    str | None,
    typer.Option(
        "--secret-key",
        metavar="SECRET",
        help="The secret; else a random one. `-` reads it from standard input, so that it is not "
        "seen in the list of processes.",
    ),
]


def create_key(
    access_key: Annotated[
        str | None,
        typer.Option("--access-key", metavar="ID", help="Id of the key; else a random one."),
    ] = None,
    secret_key: _SecretKey = None,
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="NAME", help="Whose key it is; else root.")
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="The key may change nothing.")
    ] = False,
    bucket: Annotated[
        list[str] | None,
        typer.Option(
            "--bucket",
            metavar="NAME[:RIGHT]",
            help="A bucket that the key is for, `:read` or `:write` (which reads, too, and is "
            "meant where neither is said). Without this flag: all buckets.",
        ),
    ] = None,
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    as_env: Annotated[
        bool, typer.Option("--env", help="Print a line for a shell: the variables of S3 clients.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make an access key, durable when it is shown. Its secret is shown only now.

    Examples:
        putter keys create
        eval "$(putter keys create --env)"
        putter keys create --owner ann --bucket photos --bucket music:read
        putter keys create --access-key AKIAIOSFODNN7EXAMPLE --secret-key - < secret.txt
    """
    if as_env and as_json:
        raise UsageError("a line for a shell is no JSON", hint="leave one of --env and --json out")
    buckets = _rights(bucket or ())
    secret = _secret(secret_key)
    with open_store(url, token, key_file, tls_ca) as store:
        issued = store.keys.create(
            access_key, secret_key=secret, owner=owner, read_only=read_only, buckets=buckets
        )
    if as_env:
        variables = {
            "AWS_ACCESS_KEY_ID": issued.access_key_id,
            "AWS_SECRET_ACCESS_KEY": issued.secret_key,
            "AWS_DEFAULT_REGION": ANY_REGION,
        }
        words = (f"{name}={shlex.quote(value)}" for name, value in variables.items())
        typer.echo(f"export {' '.join(words)}")
        return
    _print(issued, as_json=as_json)


def list_keys(
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    as_json: Json = False,
) -> None:
    """List the access keys, without their secrets.

    Examples:
        putter keys list
        putter keys list --json
    """
    with open_store(url, token, key_file, tls_ca) as store:
        found = store.keys.every()
    if as_json:
        print_json(found)
        return
    header = ("access key", "owner", "may", "changed", "sealed with")
    print_table(
        header,
        [
            (
                each.access_key_id,
                each.owner,
                _may(each),
                human_time(each.changed_ms),
                each.sealed_with,
            )
            for each in found
        ],
        left=5,
    )


def rotate_key(
    access_key: _AccessKey,
    secret_key: _SecretKey = None,
    keep_old: Annotated[
        int,
        typer.Option(
            "--keep-old", metavar="HOURS", min=0, help="So long the old secret counts, too."
        ),
    ] = 0,
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    as_json: Json = False,
) -> None:
    """Give an access key another secret. Unless it is kept, the old one counts nowhere after 2 s.

    Examples:
        putter keys rotate PKABCDEFGHIJKLMNOPQR
        putter keys rotate PKABCDEFGHIJKLMNOPQR --keep-old 24
    """
    secret = _secret(secret_key)
    with open_store(url, token, key_file, tls_ca) as store:
        issued = store.keys.rotate(access_key, secret, keep_old_s=keep_old * 3600)
    _print(issued, as_json=as_json)


def update_key(
    access_key: _AccessKey,
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="NAME", help="Whose key it is from now on.")
    ] = None,
    read_only: Annotated[
        bool | None,
        typer.Option("--read-only/--read-write", help="Whether the key may change nothing."),
    ] = None,
    bucket: Annotated[
        list[str] | None,
        typer.Option(
            "--bucket",
            metavar="NAME[:RIGHT]",
            help="A bucket that the key is for, in place of all that it was for; as for "
            "`keys create`.",
        ),
    ] = None,
    all_buckets: Annotated[
        bool, typer.Option("--all-buckets", help="The key is for all buckets.")
    ] = False,
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    as_json: Json = False,
) -> None:
    """Change what an access key may; its secret stays. It counts everywhere after two seconds.

    Examples:
        putter keys update PKABCDEFGHIJKLMNOPQR --read-only
        putter keys update PKABCDEFGHIJKLMNOPQR --bucket photos --bucket music:read
        putter keys update PKABCDEFGHIJKLMNOPQR --all-buckets --read-write
    """
    if bucket and all_buckets:
        raise UsageError("--bucket and --all-buckets contradict each other")
    buckets = _rights(bucket or ()) if bucket or all_buckets else None
    if owner is None and read_only is None and buckets is None:
        raise UsageError("nothing to change", hint="see putter keys update --help")
    with open_store(url, token, key_file, tls_ca) as store:
        changed = store.keys.update(access_key, owner=owner, read_only=read_only, buckets=buckets)
    if as_json:
        print_json(changed)
        return
    _print_rights(changed)


def delete_key(
    access_key: _AccessKey,
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
) -> None:
    """Delete an access key. It counts nowhere after two seconds.

    Examples:
        putter keys delete PKABCDEFGHIJKLMNOPQR
    """
    with open_store(url, token, key_file, tls_ca) as store:
        store.keys.delete(access_key)


def _rights(words: list[str] | tuple[()]) -> dict[str, str]:
    rights: dict[str, str] = {}
    for word in words:
        name, colon, right = word.partition(":")
        if colon and right not in _RIGHTS:
            raise UsageError(f"{word!r} does not end in :read or :write")
        if name in rights:
            raise UsageError(f"bucket {name!r} is named twice")
        rights[name] = right or "write"
    return rights


def _secret(given: str | None) -> str | None:
    if given != "-":
        return given
    line = sys.stdin.readline(_STDIN_CHARS_MAX).strip()
    if not line:
        raise UsageError("there is no secret on standard input")
    return line


def _print(issued: IssuedKey, *, as_json: bool) -> None:
    if as_json:
        print_json(issued)
        return
    typer.echo(f"access key:  {issued.access_key_id}")
    typer.echo(f"secret key:  {issued.secret_key}")
    _print_rights(issued)
    if issued.old_secret_until_ms:
        typer.echo(f"old secret:  counts until {human_time(issued.old_secret_until_ms)}")
    typer.echo("The secret is shown only now.")


def _print_rights(key: KeyInfo) -> None:
    typer.echo(f"owner:       {key.owner}")
    typer.echo(f"may:         {_may(key)}")


def _may(key: KeyInfo) -> str:
    """What a key may, for people."""
    if not key.buckets:
        return "read" if key.read_only else "read and write"
    return ", ".join(
        f"{bucket}:{'read' if key.read_only else right}"
        for bucket, right in sorted(key.buckets.items())
    )
