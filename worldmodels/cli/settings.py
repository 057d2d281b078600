"""The option `--set`, which changes a setting of a stage, as in `--set cmaes.sigma0=0.1`."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from worldmodels.cli.env_arguments import json_or_text
from worldmodels.errors import UserError

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other setting of the stage, as name=value; may be repeated."),
]


def with_settings(config: Any, given: Sequence[str] | None) -> Any:
    """Return a copy of a stage's config that has the values in `given`.

    Each text in `given` is `name=value`, or `group.name=value` for a setting in a nested group.

    Raises: UserError if a setting does not exist, is given twice, or gets a value of the wrong
        type.
    """
    names = [text.partition("=")[0] for text in given or ()]
    for text, name in zip(given or (), names, strict=True):
        if "=" not in text:
            raise UserError(f'expected --set name=value, got "{text}"')
        if names.count(name) > 1:
            raise UserError(f"expected one --set {name}, got {names.count(name)}: keep only one")
        config = _with(config, name.split("."), json_or_text(text.partition("=")[2]), name)
    return config


def _with(config: Any, path: list[str], value: Any, name: str) -> Any:
    """Return a copy of `config` with one new value; the setting may be in a nested group."""
    known = [field.name for field in fields(config) if field.init]
    first, *rest = path
    if first not in known:
        raise UserError(
            f"expected the name of a setting, one of {', '.join(known)}, "
            f'got "{first}" in --set {name}'
        )
    current = getattr(config, first)
    if is_dataclass(current):
        if not rest:
            inner = ", ".join(f"{name}.{field.name}" for field in fields(current))
            raise UserError(f"{name} is a group of settings: set one of {inner}")
        return replace(config, **{first: _with(current, rest, value, name)})
    if rest:
        raise UserError(f'"{first}" in --set {name} is a single setting, not a group of settings')
    kind = get_type_hints(type(config))[first]
    return replace(config, **{first: _as_type(value, kind, name)})


def _as_type(value: Any, kind: Any, name: str) -> Any:
    """Convert a JSON value to `kind`, the type of a setting; raises UserError if this fails."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        for each in get_args(kind):
            if _fits(value, each):
                return _as_type(value, each, name)
    elif _fits(value, kind):
        if kind is float:
            return float(value)
        return tuple(value) if origin is tuple else value
    expected = kind.__name__ if isinstance(kind, type) and origin is None else str(kind)
    raise UserError(f"expected a value of the type {expected} for --set {name}, got {value!r}")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value can be a setting of the type `kind`, which must not be a union."""
    origin = get_origin(kind)
    if kind is type(None):
        return value is None
    if origin is Literal:
        return value in get_args(kind)
    if origin is tuple:
        return isinstance(value, list)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
