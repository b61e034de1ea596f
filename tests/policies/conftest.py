"""Records with everything filled in, for tests that care about a field or two."""

import re
from types import SimpleNamespace

import pytest

from policies.behaviors import Behavior
from policies.records import ChatMessage, Dream, Example, Measurement, Message, Turn, content_id


def message(role, text, order, conversation="c", adapter=None):
    """A log message; its id is a hash of what it says and where."""
    return Message(
        id=content_id(conversation, order, role, text),
        conversation=conversation,
        order=order,
        role=role,
        text=text,
        at=1000.0 + order,
        source="log.jsonl",
        adapter=adapter,
    )


def turn(user="use grep", assistant="ok", **fields):
    """A turn without context."""
    known = {
        "id": content_id(user, assistant),
        "conversation": "c",
        "index": 0,
        "context": (),
        "at": 1.0,
        "source": "l",
    }
    return Turn(user=user, assistant=assistant, **{**known, **fields})


def behavior(name="listening", **fields):
    """A behaviour whose patterns are those of a small world."""
    known = {
        "title": name,
        "graph_key": f"pattern-{name}",
        "guidance": "do what was asked",
        "dream_pattern": name,
        "judge": "nano_world",
        "delta": 0.08,
        "eligible_any": (re.compile(r"\buse\b"),),
        "eligible_none": (re.compile(r"\bdelete\b"),),
        "failure": (re.compile(r"^no\b"), re.compile(r"\bi said\b")),
        "success": (re.compile(r"^thanks\b"),),
        "probes": (),
        "pairs": (),
    }
    return Behavior(name=name, **{**known, **fields})


def example(prompt, target="done", rejected="why not wait?", origin="turn", source=None, cycle=0, **fields):
    """A training example with a one-message prompt."""
    known = {"behavior": None if origin == "general" else "listening", "at": 1.0}
    return Example(
        id=content_id(prompt, target, origin, source),
        origin=origin,
        prompt=(ChatMessage(role="user", content=prompt),),
        target=target,
        rejected=rejected,
        source=source or content_id(prompt),
        cycle=cycle,
        **{**known, **fields},
    )


def dream(text, **fields):
    """A dream at temperature .7."""
    known = {
        "id": content_id("dream", text, sorted(fields.items())),
        "seed": "s",
        "behavior": "listening",
        "kind": "target",
        "band": "medium",
        "temperature": 0.7,
        "adapter": None,
        "cycle": 1,
        "at": 1.0,
    }
    return Dream(text=text, **{**known, **fields})


def measurement(values, adapter="candidate", items=None):
    """A probe's results; probes are numbered."""
    values = tuple(float(v) for v in values)
    return Measurement(
        id=content_id(adapter, values),
        probe="behavior",
        adapter=adapter,
        behavior="listening",
        kind="target",
        band="",
        split="rotating",
        value=sum(values) / len(values) if values else 0.0,
        low=0.0,
        high=1.0,
        n=len(values),
        items=items or tuple(f"p{i}" for i in range(len(values))),
        values=values,
        cycle=1,
        at=1.0,
    )


@pytest.fixture(scope="session")
def make():
    """The builders above, by name."""
    return SimpleNamespace(
        message=message, turn=turn, behavior=behavior, example=example, dream=dream, measurement=measurement
    )
