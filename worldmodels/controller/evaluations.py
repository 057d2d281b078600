"""Read the scores that a run's folder holds."""

from typing import Any

from worldmodels.controller.agent_file import agent_file
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run
from worldmodels.runs.stage_folder import has_file, read_file


def all_evaluations(run: Run) -> dict[str, dict[str, Any]]:
    """The scores of the run's agent and of baseline policies; the keys are names of files.

    Raises: UserError if a file of scores is damaged.
    """
    file = agent_file(run.folder)
    digest = read_file(file, file_digest) if has_file(file) else ""
    found = {}
    for path in sorted((run.folder / "evaluation").glob("*.json")):
        row = run.read_json(f"evaluation/{path.name}")
        # Other measurements have no digest of an agent.
        if isinstance(row, dict) and row.get("agent_digest") in (digest, "baseline"):
            found[path.stem] = row
    return found
