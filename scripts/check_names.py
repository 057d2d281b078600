"""List uses of retired names: private words for which the field has a standard term.

    python scripts/check_names.py    prints one line per use; if there is a use, the exit code is 1

The script checks the identifiers in all Python files, and the string literals that are names, such
as JSON keys, metrics and flags. The script checks whole names, so it does not list names of tests,
which are sentences.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("worldmodels", "agents", "envs", "scripts", "tests")

# Retired names, and what to write instead.
RETIRED = {
    "look looks looked look_episodes looked_score judged": "evaluation, eval_episodes",
    "choice_episodes choose _Kept": "selection_episodes, select_best",
    "stay stay_nll StayGaussian StayCategorical bits_stay frozen_frame": "persistence",
    "decisions_below_frozen steps_below_frozen": "steps_below_persistence",
    "decision decisions num_decisions max_decisions Decisions": "agent_step, horizon",
    "moments_at real_moments DreamStarts": "states_at, real_states, StartStates",
    "dream_on film_dream film": "roll_out, record_dream, video",
    "KnownRegion unbound SLACK": "Support, unconstrained, MARGIN",
    "luck copies": "noise, num_candidates",
    "hear heard hears asked _favour": "conditioning_logits, queries, add_to_logit",
    "shares values_at draw_values": "uniforms, inverse_cdf, sample_categorical",
    "Body body_file facts beside remedy": "AgentSpec, metadata, extra_tensors, hint",
    "hands tell_events told TOLD": "workers, log_events, LOGGED",
    "follow average_rate target_rate": "update_ema, ema_rate, target_ema_rate",
    "slope has_slope uphill sloping": "policy_loss, is_differentiable",
    "max_ratio last_noise": "clip_range, final_action_std",
    "continuing there alive": "continuation_probs, weight",
    "proximal ProximalConfig PROXIMAL evolution EvolutionConfig": "ppo, cmaes",
    "inference discovery Discovery": "bbvi, map_elites",
    "surprising plausibility PlausibilityConfig prefer_surprising": "surprise",
    "ENOUGH swing told_by_codes": "SCORE_THRESHOLD, round_std, explained_variance_by_code",
    "mend strange set_aside lost": "repair, inconsistent, quarantined, missing",
    "qd_offset qd_score": "qd_score_offset, norm_qd_score (pyribs)",
    "paid pay pays earn earns worth": "reward, return",
    "colour colours Colour niche niches": "color, cell",
    "far_share start_share share_above": "far_from_reward_fraction, initial_coverage",
    "coupled liveliest first_parameters start_at": "autoregressive, init_parameters",
    "--decisions --members --from --good --draw --inputs --full --diagonal": "see the help of wm",
    "--prefer-surprising --minutes": "--select-by-surprise, --max-minutes",
}

# Uses that are allowed, and why: of any name in a file, or of one name in a file.
ALLOWED = {
    "scripts/check_names.py": "lists them",
    "tests/scripts/test_check_names.py": "writes some, to have them found",
    "worldmodels/controller/agent.py facts": "the key in files of earlier versions",
    "worldmodels/controller/best_agent.py choice_episodes": "the key in files of earlier versions",
    "tests/worldmodels/controller/test_best_agent.py facts": "an earlier version's file",
    "tests/worldmodels/controller/test_best_agent.py choice_episodes": "an earlier version's file",
    "worldmodels/memory/__init__.py coupled": "the key in files of earlier versions",
    "worldmodels/plotting.py slope": "Matplotlib's argument",
    "tests/worldmodels/map_elites/test_autoencoders.py remedy": "against a collapsed codebook",
}
_WORDS = {word: instead for words, instead in RETIRED.items() for word in words.split()}
_NAME = re.compile(r"--[a-z-]+|[A-Za-z_]\w*")


def names_in(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each identifier, and of each string that is a name or flag."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string
        elif token.type == tokenize.STRING and not token.string.lower().startswith(("f", "rf")):
            text = ast.literal_eval(token.string)
            if isinstance(text, str) and _NAME.fullmatch(text):
                yield token.start[0], text


def retired_names(root: Path) -> list[str]:
    """Return every use of a retired name under `root`, as a text "file:line name (instead)"."""
    return [
        f"{file}:{line} {name} ({_WORDS[name]})"
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
        if (file := path.relative_to(root).as_posix()) not in ALLOWED
        for line, name in names_in(path)
        if name in _WORDS and f"{file} {name}" not in ALLOWED
    ]


if __name__ == "__main__":
    sys.exit("\n".join(retired_names(ROOT)) or 0)
