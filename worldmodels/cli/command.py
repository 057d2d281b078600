"""Build commands from functions and from shared groups of options, and print results.

A command is a function that takes options and returns its result as a dict. A parameter whose type
is a dataclass stands for a group of options. Each field of the dataclass becomes one option.
The option takes its help text from the field's `Annotated` type, and its default from the field.
Every command also gets the option `--json`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

import typer

from worldmodels.cli.json_output import keep_stdout_for_json, write_json_to_stdout

Result = dict[str, Any]
Command = Callable[..., Result]

JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the result as JSON on stdout, and everything else on stderr.",
        callback=keep_stdout_for_json,
    ),
]

MAX_PRINTED_VALUES = 8  # longer lists are only in the JSON


def print_result(summary: Result, indent: str = "") -> None:
    """Print one line per key of the result, except for histories and long lists."""
    width = max((len(name) for name in summary), default=0) + 2
    for name, value in summary.items():
        if name == "history" or (isinstance(value, list) and len(value) > MAX_PRINTED_VALUES):
            continue
        if isinstance(value, dict):
            typer.echo(f"{indent}{name}")
            print_result(value, indent + "  ")
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else value
            typer.echo(f"{indent}{name:<{width}}{shown}")


def command(
    app: typer.Typer, name: str | None = None, *, show: Callable[[Result], None] = print_result
) -> Callable[[Command], Command]:
    """Return a decorator that registers a function as a command of `app`.

    Args:
        name: name of the command. If `name` is None, the function's name is used.
        show: function that prints the result if `--json` is not given.
    """

    def register(function: Command) -> Command:
        groups, parameters = _parameters(function)

        @functools.wraps(function)
        def run(**options: Any) -> None:
            as_json = options.pop("as_json")
            for group, kind in groups.items():
                members = {field.name: options.pop(field.name) for field in fields(kind)}
                options[group] = kind(**members)
            result = function(**options)
            if as_json:
                write_json_to_stdout(result)
            else:
                show(result)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        app.command(name)(run)
        return function

    return register


def _parameters(function: Command) -> tuple[dict[str, Any], list[inspect.Parameter]]:
    """Return the groups of options by parameter name, and all options, which end with `--json`."""
    groups: dict[str, Any] = {}
    options: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if is_dataclass(parameter.annotation):
            groups[name] = parameter.annotation
            options |= inspect.signature(groups[name], eval_str=True).parameters
        else:
            options[name] = parameter
    if "quiet" in options:
        options["quiet"] = options.pop("quiet")
    only_by_name = inspect.Parameter.KEYWORD_ONLY
    json = inspect.Parameter("as_json", only_by_name, default=False, annotation=JsonOption)
    return groups, [option.replace(kind=only_by_name) for option in (*options.values(), json)]
