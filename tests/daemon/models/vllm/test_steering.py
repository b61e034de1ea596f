"""What a client says to a server so that it steers: names by content, strengths by request, words when it cannot."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import numpy as np
import pytest

from daemon import vllm_worker
from daemon.errors import BadAnswer, ServerRefuses
from daemon.models.vllm.modules import dropped, trained
from daemon.models.vllm.steering import Steering, applied, need, stored
from daemon.vllm_worker.dreamloop_worker import worker
from daemon.vllm_worker.dreamloop_worker.steering import ARGUMENT as THEIRS
from daemon.vllm_worker.dreamloop_worker.steering import decode

ONES, RAMP = np.ones(4, np.float32), np.arange(4, dtype=np.float32)
HELLO: dict[str, Any] = {
    "version": 1, "boot": "b", "layers": 8, "hidden": 160, "refuses": None, "stored": ["v"], "missed": {},
}  # fmt: skip


def test_a_name_is_what_the_vectors_are() -> None:
    """Equal vectors share a name whatever their order, precision in memory and strength; others have another one."""
    first = Steering().plus({2: ONES, 5: RAMP}, 1.0)
    same = Steering().plus({5: RAMP.astype(np.float64), 2: ONES.copy()}, -3.5)
    assert first.stored == same.stored and first.terms != same.terms
    others = [{2: RAMP, 5: ONES}, {2: ONES}, {3: ONES, 5: RAMP}, {2: ONES, 5: RAMP + 1e-6}]
    names = {name for vectors in others for name in Steering().plus(vectors, 1.0).stored}
    assert len(names) == len(others) and not names & set(first.stored)


def test_what_is_stored_is_what_the_worker_reads() -> None:
    """The worker decodes the very vectors; the argument has the name that both ends know, and exact strengths."""
    pushed = Steering().plus({12: RAMP}, 0.1).plus({3: ONES}, -2)
    (first, second) = (decode(text) for text in pushed.stored.values())
    assert list(first) == [12] and first[12].numpy().tolist() == RAMP.tolist() and list(second) == [3]
    one, other = pushed.xargs[THEIRS].split()
    assert [float(term.partition("*")[2]) for term in (one, other)] == [0.1, -2.0]
    assert [term.partition("*")[0] for term in (one, other)] == list(pushed.stored)
    assert base64.b64decode(json.loads(pushed.stored[pushed.terms[0][0]])["12"]) == RAMP.tobytes()


def test_no_steering_leaves_a_request_as_it_is() -> None:
    """No argument, no salt, nothing to store; adding nothing is nothing."""
    none = Steering().plus({}, 5.0)
    assert (none.xargs, none.salt, none.argument, dict(none.stored)) == ({}, "", "", {})


def test_the_salt_tells_steerings_apart() -> None:
    """Another vector, strength or a further term is another salt; the same again is the same."""
    one = Steering().plus({1: ONES}, 1.0)
    others = [Steering().plus({1: ONES}, 1.0000001), Steering().plus({1: RAMP}, 1.0), one.plus({1: ONES}, 1.0)]
    assert len({one.salt, *(other.salt for other in others)}) == 4
    assert one.salt == Steering().plus({1: ONES.copy()}, 1.0).salt


@pytest.mark.parametrize("hello", [None, [], ["CPUWorker"], [None], [HELLO, "x"]])
def test_a_server_without_the_extension_is_told_how_to_start(hello: Any) -> None:
    """The sentence has everything that is needed: environment, path, class, eager mode."""
    with pytest.raises(ServerRefuses) as refused:
        need(hello, layers=8, hidden=160)
    for part in ("VLLM_SERVER_DEV_MODE=1", str(vllm_worker.PATH), vllm_worker.CLASS, "--enforce-eager"):
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "speaks version 2, this daemon 1"),
        ({"refuses": "its model is compiled: start vLLM with --enforce-eager to steer"}, "--enforce-eager"),
        ({"layers": 9}, "9 layers of width 160, the steering vectors are for 8 of width 160"),
        ({"hidden": 96}, "8 layers of width 96"),
    ],
)
def test_a_server_that_cannot_steer_this_model_is_refused(change: dict[str, Any], words: str) -> None:
    """Any worker of it: the sentence says what differs and what to do."""
    need([HELLO, HELLO], layers=8, hidden=160)
    with pytest.raises(ServerRefuses, match=words):
        need([HELLO, HELLO | change], layers=8, hidden=160)


def test_both_ends_speak_the_same_version() -> None:
    """The client asks for the version that the extension in this package has."""
    need([HELLO | {"version": worker.VERSION}], layers=8, hidden=160)


def test_a_vector_that_was_not_taken_is_refused_with_the_workers_words() -> None:
    """All workers must have it; what one of them says is passed on."""
    stored([{"stored": ["v"]}, {"stored": ["u", "v"]}], "v")
    with pytest.raises(ServerRefuses, match="layer 9: this model's are 1 to 8"):
        stored([{"stored": ["v"]}, {"error": "layer 9: this model's are 1 to 8"}], "v")
    for results in ([], ["ok"], [{"stored": []}]):
        with pytest.raises(ServerRefuses, match="no reason"):
            stored(results, "v")


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({"boot": "c"}, "was started again"),
        ({"stored": []}, "had forgotten the vector"),
        ({"missed": {"v": 1}}, "had forgotten the vector"),
    ],
)
def test_answers_of_a_server_that_forgot_are_no_answers(after: dict[str, Any], words: str) -> None:
    """A restart, a vector that is gone, or one that was gone for a token: the answers in between do not count."""
    steering = Steering((("v", 1.0),), {"v": "{}"})
    applied([HELLO], [HELLO | {"missed": {"another": 5}}], steering)
    applied([HELLO], [HELLO | after], Steering())
    with pytest.raises(BadAnswer, match=words):
        applied([HELLO], [HELLO | after], steering)


def test_modules_that_no_worker_holds_are_named() -> None:
    """Held by one of a pipeline's workers is held; another rank is not the same module."""
    modules = trained(
        {
            "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": (8, 160),
            "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight": (320, 8),
            "base_model.model.model.language_model.layers.1.linear_attn.in_proj_z.lora_A.weight": (4, 160),
            "base_model.model.lm_head.lora_A.weight": (8, 160),
        }
    )
    assert modules == {"layers.0.mlp.up_proj": 8, "layers.1.linear_attn.in_proj_z": 4, "lm_head": 8}
    first, second = {"layers.0.mlp.up_proj": 8}, {"layers.1.linear_attn.in_proj_z": 4, "lm_head": 8}
    assert dropped(modules, [{"modules": first}, {"modules": second}]) == []
    assert dropped(modules, [{"modules": first}, {"modules": second | {"lm_head": 4}}]) == ["lm_head"]
    with pytest.raises(ServerRefuses, match='no adapter "x" is loaded here'):
        dropped(modules, [{"error": 'no adapter "x" is loaded here; loaded: none'}])
    with pytest.raises(ServerRefuses, match=re.escape(vllm_worker.CLASS)):
        dropped(modules, [])
