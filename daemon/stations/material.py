"""What every batch is mixed with: general skill, and scenarios in which the trained behaviour would be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from daemon.config import Config
from daemon.probes import general
from daemon.stations.base import View
from policies.records import ChatMessage, Example, content_id


def general_examples(config: Config, now: float) -> list[Example]:
    """General-skill examples for replay, from the configured file. Raises ConfigError naming it."""
    file = general_file(config, "examples")
    return [
        Example(
            id=content_id("general", prompt, answer),
            origin="general",
            behavior=None,
            prompt=(ChatMessage(role="user", content=prompt),),
            target=answer,
            rejected=None,
            source=file.name,
            at=now,
            cycle=0,
        )
        for prompt, answer in general.examples(file)
    ]


def general_file(config: Config, kind: Literal["examples", "probes"]) -> Path:
    """The file with general-skill examples or probes: the one that comes with nano, or the configured one."""
    named = config.learn.general_examples if kind == "examples" else config.judge.general_probes
    if named == "bundled":
        return Path(__file__).parent.parent / "models" / "nano" / "data" / f"general.{kind}.jsonl"
    return config.resolve(named)


def counter_examples(view: View) -> list[Example]:
    """Scenarios in which the trained behaviour would be wrong, and what guarded behaviours look like done well."""
    return [
        Example(
            id=content_id("counter", name, pair.prompt, pair.preferred),
            origin="counter",
            behavior=name,
            prompt=(ChatMessage(role="user", content=pair.prompt),),
            target=pair.preferred,
            rejected=pair.rejected or None,
            source=f"{name}.toml",
            at=view.now,
            cycle=0,
        )
        for name, behavior in view.behaviors.items()
        for pair in behavior.pairs
        if (pair.kind == "counter") == (name in view.config.behaviors.train) and pair.preferred
    ]
