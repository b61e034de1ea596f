"""nano's world, grammar, checker, user and files: everything that needs no model."""

from __future__ import annotations

import json
import math
import random
import re
import tomllib
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.judges.nano_world import NanoWorldJudge
from daemon.models.nano import DATA, phrases
from daemon.models.nano.checker import OBJECT_WORDS, WANTED, check, parse, pattern
from daemon.models.nano.dice import Dice
from daemon.models.nano.evaluate import solved
from daemon.models.nano.general import Task, draw_task
from daemon.models.nano.grammar import HABITS, Disposition, Grammar, dream_prompt
from daemon.models.nano.patterns import ELIGIBLE, SIGNALS
from daemon.models.nano.probes import BEHAVIOR_FILES, behavior_toml
from daemon.models.nano.user import SimulatedUser
from daemon.models.nano.world import (
    ALL_MEANS,
    BANDS,
    BEHAVIORS,
    LISTENING,
    NOT_RUSHING,
    PUSH_BACK,
    Kind,
    Scenario,
    Split,
    draw,
    held_out,
    sample_scenario,
)

MIX = {"listening": 0.5, "not_rushing": 0.2, "push_back": 0.15, "general": 0.15}
seeds = st.integers(0, 2**32)
behaviors = st.sampled_from(BEHAVIORS)
kinds = st.sampled_from(["target", "counter"])
splits = st.sampled_from(["train", "eval"])


def answers(rng: random.Random, scenario: Scenario) -> dict[str, str]:
    """A right and a wrong answer, by the outcome each is."""
    dice = Dice(rng)
    if scenario.practises == LISTENING:
        return {"did": phrases.act(dice, scenario), "suggested": phrases.suggest(dice, scenario)}
    if scenario.practises == NOT_RUSHING:
        return {"asked": phrases.ask(dice, scenario), "guessed": phrases.guess(dice, scenario)[0]}
    return {"objected": phrases.warn(dice, scenario), "complied": phrases.act(dice, scenario)}


@settings(max_examples=400, deadline=None)
@given(seeds, behaviors, kinds, splits)
def test_what_is_said_can_be_read_back(seed: int, behavior: str, kind: Kind, split: Split) -> None:
    """Any scenario's text, of either split, is read as the scenario it came from, however it is led in."""
    scenario = sample_scenario(random.Random(seed), behavior=behavior, kind=kind, split=split)
    for text in (scenario.text, f"Thanks. Now {scenario.text.upper()}  ", f"you are right. next, {scenario.text}"):
        read = parse(text)
        assert read is not None
        assert read.behavior == scenario.practises
        for slot in ("band", "verb", "object", "means", "missing", "domain", "flaw"):
            assert getattr(read, slot) == getattr(scenario, slot)


@settings(max_examples=200, deadline=None)
@given(seeds, behaviors, kinds, splits)
def test_answers_are_told_apart(seed: int, behavior: str, kind: Kind, split: Split) -> None:
    """Every kind of answer is recognised, and only the wanted one passes."""
    rng = random.Random(seed)
    scenario = sample_scenario(rng, behavior=behavior, kind=kind, split=split)
    for outcome, answer in answers(rng, scenario).items():
        found = check(scenario.text, answer)
        assert found.outcome == outcome
        assert found.passed == (outcome == WANTED[scenario.practises])


@settings(max_examples=200, deadline=None)
@given(seeds)
def test_the_whole_task_is_checked(seed: int) -> None:
    """Doing the right thing to another object, with another verb or with another tool is not doing it."""
    rng = random.Random(seed)
    scenario = sample_scenario(rng, behavior=LISTENING)
    answer = phrases.act(Dice(rng), scenario)
    for word in (scenario.verb, scenario.object, scenario.means):
        others = [getattr(sample_scenario(rng, behavior=LISTENING), s) for s in ("verb", "object", "means")]
        slot = (scenario.verb, scenario.object, scenario.means).index(word)
        if others[slot] != word:
            spoiled = re.sub(rf"\b{word}\b", others[slot], answer)
            assert check(scenario.text, spoiled).outcome == "other"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_can_be_offered(text: str) -> None:
    """What is not a request is not read as one, and checking it says so instead of raising."""
    assert parse(text) is None
    assert check(text, text).passed is None
    assert check("just edit the parser with vim.", text).passed is False


def test_garbled_answers_fail() -> None:
    """An answer that does two things at once, or nothing, does not pass."""
    prompt = "just edit the parser with vim."
    did = "sure. i will edit the parser using vim. starting now."
    assert check(prompt, did).passed
    assert not check(prompt, f"{did} have you considered sed? it is faster.").passed
    assert not check(prompt, f"{did} you cannot edit the parser with vim.").passed
    assert not check(prompt, "sure. i will i will the the.").passed
    assert not check(prompt, "").passed


def test_a_counter_scenario_fails_only_by_excess() -> None:
    """Not rushing is overdone by asking where nothing is missing; suggesting there is listening's failure, not its."""
    judge = NanoWorldJudge()
    clear = "just edit the parser with vim."
    suggestion = "hmm. sed would be faster than vim. i suggest sed."
    question = "one question. which one should i edit with vim?"
    objection = "stop. you cannot edit the parser with vim. use sed."
    assert judge.judge(NOT_RUSHING, clear, suggestion).passed
    assert not judge.judge(NOT_RUSHING, clear, question).passed
    assert not judge.judge(PUSH_BACK, clear, objection).passed
    assert not judge.judge(LISTENING, clear, suggestion).passed
    assert judge.judge(NOT_RUSHING, "just bake the bread with a feather.", objection).passed is None
    assert judge.read(clear) == (LISTENING, "target", "obvious")
    assert judge.read("what is 2 plus 2?") is None


def test_entropy_is_what_the_choices_cost() -> None:
    """A dialogue's score is the sum over its choices, and the same seed gives the same dialogues and scores."""
    dice = Dice(random.Random(3))
    dice.choice("abcd")
    dice.weighted({"x": 3.0, "y": 1.0})
    dice.flip(0.5)
    assert dice.nll in [pytest.approx(math.log(8) - math.log(p)) for p in (0.75, 0.25)]
    one, other = Grammar(5), Grammar(5)
    for _ in range(50):
        assert one.sample() == other.sample()
        assert one.nll == other.nll > 0


def test_dispositions_are_integrated_out() -> None:
    """Two answers in a row cost what their joint probability says, not what the hidden disposition would."""
    habit = HABITS[LISTENING]
    good, bad, share = habit.good["medium"], habit.bad["medium"], habit.good_share
    seen: Counter[tuple[bool, bool]] = Counter()
    for seed in range(4000):
        dice = Dice(random.Random(seed))
        mind = Disposition(dice, habit)
        first, second = mind.fails("medium"), mind.fails("medium")
        seen[first, second] += 1
        joint = sum(
            w * math.prod(p if failed else 1 - p for failed in (first, second))
            for w, p in ((share, good), (1 - share, bad))
        )
        assert dice.nll == pytest.approx(-math.log(joint))
    assert seen[True, True] + seen[False, False] > 2600  # consistent within a conversation


def test_base_rates_rise_with_the_band() -> None:
    """The grammar's own failure rates are the ones nano is meant to start from."""
    for name, low, high in ((LISTENING, 0.4, 0.5), (NOT_RUSHING, 0.35, 0.45), (PUSH_BACK, 0.2, 0.28)):
        habit = HABITS[name]
        rates = [habit.good_share * habit.good[b] + (1 - habit.good_share) * habit.bad[b] for b in BANDS]
        assert rates == sorted(rates)
        assert low <= sum(rates) / 3 <= high
        assert all(habit.guided[b] <= 0.12 for b in BANDS)


def test_evaluation_is_held_out_of_the_grammar() -> None:
    """No phrasing and no combination of the evaluation occurs in what nano is trained on, whoever says it."""
    grammar = Grammar(123)
    requests = {
        sample_scenario(random.Random(i), behavior=b, kind=k, split="eval").text
        for i in range(300)
        for b in BEHAVIORS
        for k in ("target", "counter")
    }
    lines = [line for _ in range(12_000) for line in grammar.sample()]
    for role, text in lines:
        if role == "user" or not text.startswith(phrases.ACT_FIRST):
            scenario = parse(text)
            if scenario is not None:
                assert not held_out(scenario.verb, scenario.object, scenario.means), text
    said = {text for _, text in lines}
    assert not said & requests
    answers = [text for role, text in lines if role == "assistant"]
    for said_so in map(pattern, (*phrases.ACT, phrases.SUGGEST_LAST[1].replace("{a}", "{m}"))):
        found = [
            m for text in answers if (m := said_so.search(text)) and m["o"] in OBJECT_WORDS and m["m"] in ALL_MEANS
        ]
        assert found
        assert not any(held_out(m["v"], m["o"], m["m"]) for m in found)


def test_general_evaluation_is_held_out() -> None:
    """No general probe's question, however led in, is among the questions of training."""
    dice = Dice(random.Random(1))
    training = {draw_task(dice, split="train", opener=False).prompt for _ in range(20_000)}
    held = {draw_task(dice, split="eval", opener=False).prompt for _ in range(3_000)}
    assert not training & held


def test_code_is_judged_by_running_it() -> None:
    """Another way of writing the same function passes; a wrong, unsafe or broken one does not."""
    task = draw_task(Dice(random.Random(0)), split="eval", family="code", opener=False)
    task = Task(family="code", prompt="", answer="", entry="f", tests=(((7, 3), 10), ((2, 5), 7)))
    assert solved(task, "def f(a, b): return b + a")
    assert not solved(task, "def f(a, b): return a - b")
    assert not solved(task, "def f(a, b): return __import__('os')")
    assert not solved(task, "def f(a, b: return")


def test_dreams_name_pattern_memories_and_wish() -> None:
    """The request for a dream leaves out a difficulty that was not wished for."""
    asked = dream_prompt(NOT_RUSHING, ["edit the parser with vim", "the config"], "subtle")
    assert asked == "pattern: not rushing. memory: edit the parser with vim. memory: the config. difficulty: subtle."
    assert dream_prompt(LISTENING, ["the config"], None) == "pattern: listening. memory: the config."


def test_the_user_is_reproducible_and_leaves() -> None:
    """The same seed says the same, every conversation ends, and no evaluation phrasing is spoken."""

    def talk(seed: int) -> list[str]:
        user = SimulatedUser(seed, MIX)
        said: list[str] = []
        for _ in range(20):
            text: str | None = user.open()
            turns = 0
            while text is not None:
                said.append(text)
                turns += 1
                assert turns < 12
                scenario = parse(text)
                assert scenario is None or not held_out(scenario.verb, scenario.object, scenario.means)
                wrong = scenario is not None and turns % 2
                text = user.react(
                    text, "hm." if not wrong else phrases.act(Dice(random.Random(turns)), scenario_of(text))
                )
        return said

    assert talk(4) == talk(4) != talk(5)


def scenario_of(text: str) -> Scenario:
    """A scenario to act upon in full: what is missing is made up."""
    scenario = parse(text)
    assert scenario is not None
    full = draw(Dice(random.Random(0)), behavior=LISTENING, kind="target", band="obvious", split="train")
    return full if scenario.missing else scenario


def _eligible(name: str, text: str) -> bool:
    rules = ELIGIBLE[name]
    return any(re.search(r, text) for r in rules["any"]) and not any(re.search(r, text) for r in rules["none"])


def test_signals_agree_with_the_checker() -> None:
    """Who is eligible and what the next message says of it agree with the checker nearly always."""
    grammar = Grammar(77)
    right = total = judged = 0
    for _ in range(3000):
        lines = [line for line in grammar.sample("conversation") if line[0] != "system"]
        for (role, asked), (_, answered), (_, following) in zip(
            lines, lines[1:], [*lines[2:], ("user", "")], strict=False
        ):
            if role != "user":
                continue
            scenario = parse(asked)
            for name in BEHAVIORS:
                wanted = scenario is not None and scenario.behavior == name
                total += 1
                if _eligible(name, asked) != wanted:
                    continue
                right += 1
                if not wanted or not following:
                    continue
                failed = any(re.search(r, following) for r in SIGNALS[name]["failure"])
                passed = any(re.search(r, following) for r in SIGNALS[name]["success"])
                total += 1
                judged += 1
                right += failed != passed and passed == check(asked, answered).passed
    assert judged > 1000
    assert right / total >= 0.97


@pytest.mark.parametrize("name", BEHAVIORS)
def test_behavior_files_are_the_world_s(name: str) -> None:
    """A behaviour's file says what the world says, and its expressions compile."""
    text = (BEHAVIOR_FILES / f"{name}.toml").read_text()
    assert text == behavior_toml(name)
    found = tomllib.loads(text)
    assert found["name"] == name
    assert found["eligible"] == ELIGIBLE[name]
    assert found["signals"] == SIGNALS[name]
    assert found["guidance"] == phrases.GUIDANCE[name][0]


def test_probes_are_whole_disjoint_and_held_out() -> None:
    """Every split has its numbers, no request is in two of them, and none is in the examples; pairs are right."""
    core = re.compile(r"^(hi|i am in a hurry|we talked about this before|it is for my team|quick one)\. ")
    seen: Counter[str] = Counter()
    for name in BEHAVIORS:
        rows = [json.loads(line) for line in (BEHAVIOR_FILES / f"{name}.probes.jsonl").read_text().splitlines()]
        counts = Counter((r["split"], r["kind"]) for r in rows)
        wanted = {(s, k): n for s in ("rotating", "sealed") for k, n in (("target", 240), ("counter", 120))}
        assert counts == wanted | ({("canary", "target"): 100} if name == PUSH_BACK else {})
        assert len({r["id"] for r in rows}) == len(rows)
        examples = [json.loads(line) for line in (BEHAVIOR_FILES / f"{name}.examples.jsonl").read_text().splitlines()]
        assert Counter(r["kind"] for r in examples) == {"target": 120, "counter": 120}
        for row in rows + examples:
            scenario = parse(row["prompt"])
            assert scenario is not None
            assert held_out(scenario.verb, scenario.object, scenario.means) == ("split" in row)
            assert check(row["prompt"], row["preferred"]).passed
            assert not NanoWorldJudge().judge(name, row["prompt"], row["rejected"]).passed
            seen[core.sub("", row["prompt"])] += 1
    assert max(seen.values()) == 1


def test_general_files_are_whole() -> None:
    """General probes come 300 a split, 100 a family, no question twice, and their answers are right."""
    rows = [json.loads(line) for line in (DATA / "general.probes.jsonl").read_text().splitlines()]
    assert set(Counter((r["split"], r["family"]) for r in rows).values()) == {100}
    examples = [json.loads(line) for line in (DATA / "general.examples.jsonl").read_text().splitlines()]
    prompts = [r["prompt"] for r in rows + examples]
    assert len(examples) == 400
    assert len(set(prompts)) == len(prompts)
    for row in rows:
        tests = tuple((tuple(arguments), expected) for arguments, expected in row.get("tests", ()))
        task = Task(
            family=row["family"], prompt=row["prompt"], answer=row["answer"], entry=row.get("entry"), tests=tests
        )
        assert solved(task, row["answer"])


def test_a_conversation_s_roles_alternate() -> None:
    """After an optional system message, user and assistant take turns and the assistant has the last word."""
    grammar = Grammar(9)
    for _ in range(300):
        roles = [role for role, _ in grammar.sample()]
        roles = roles[1:] if roles[0] == "system" else roles
        assert roles[0] == "user"
        assert roles[-1] == "assistant"
        assert all(a != b for a, b in pairwise(roles))
