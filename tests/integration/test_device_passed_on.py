"""Every call of a function with the parameter `device` passes a device, so that a GPU is used."""

import ast
from collections.abc import Iterator
from pathlib import Path

import worldmodels

ROOT = Path(worldmodels.__file__).parent
FILES = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}
# These calls use the CPU on purpose: agents act on the CPU, single frames and dreams are drawn on
# the CPU, and one function estimates the CPU's memory.
ON_THE_CPU = {
    "controller/agent.py": {"restore_vision", "restore_memory"},
    "memory/part_size.py": {"part_steps"},
    "stages/collect.py": {"load_surprise"},
    "stages/train_controller.py": {"load_world_model"},
    "stages/dream.py": {"load_world_model"},
    "stages/elites_drive.py": {"load_world_model"},
    "prior/selection.py": {"load_surprise"},
    "stages/train_vision.py": {"restore_vision"},
}
# Their device is the device of a generator, and torch checks the device of generators.
OF_GENERATORS = {"step_generator", "global_seed"}


def functions_with_a_device() -> dict[str, int]:
    """Map the name of each function with a parameter `device` to the parameter's position."""
    found = {}
    for path, tree in FILES.items():
        if path.parts[0] == "cli":
            continue  # commands, which typer calls
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                names = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
                if "device" in names:
                    found[node.name] = names.index("device")
    return {name: place for name, place in found.items() if name not in OF_GENERATORS}


def calls_without_a_device(tree: ast.Module, positions: dict[str, int]) -> Iterator[str]:
    """Yield the functions that a file calls without the device, also if imported by an alias."""
    for statement in tree.body:
        nodes = list(ast.walk(statement))
        names = {name: name for name in positions}
        for node in nodes:
            if isinstance(node, ast.ImportFrom):
                names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        for node in nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                called = names.get(node.func.id)
                passed = any(keyword.arg in ("device", None) for keyword in node.keywords)
                if called in positions and len(node.args) <= positions[called] and not passed:
                    yield called


def test_every_call_passes_the_device_on() -> None:
    positions = functions_with_a_device()
    assert {"train_vision", "run_pipeline", "dream_check", "make_dream"} <= positions.keys()
    forgotten = {}
    for path, tree in FILES.items():
        without = set(calls_without_a_device(tree, positions))
        if without:
            forgotten[path.as_posix()] = without
    assert forgotten == ON_THE_CPU
