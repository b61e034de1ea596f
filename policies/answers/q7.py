"""Does training make the state of Gated-DeltaNet layers tell directions from other texts? The verdict in words.

Primary: the area under the ROC curve (AUC) of a cross-validated linear probe, adapters trained on the behaviour minus
adapters trained on shuffled labels. The numbers come from `policies.answers.q7_states`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from policies.answers.base import NOT_IDENTIFIED, Answer, Control
from policies.answers.q7_states import Change
from policies.statistics.interval import Interval
from policies.statistics.live_mean import live_mean
from policies.statistics.multiple import benjamini_hochberg

SHAPED, NOT_SHAPED = "direction-shaped", "not direction-shaped"
SMALLEST = 0.02  # AUC: a change below this is not worth the name
CEILING = 0.98  # AUC before training: a layer above it has no room to gain SMALLEST
ALIKE = 0.6  # AUC: where the interval of every layer lies below, the states do not tell the classes apart
VOCABULARY = 0.7  # AUC of a bag of words from which on it is said that words alone tell a lot
KEPT = 0.9  # training without the GDN projections is as good when it keeps this share of the effect
WITH, WITHOUT = "with GDN projections", "without GDN projections"
RULE = (
    f"direction-shaped: in the arm that trains the GDN projections the gain of the layers with room (AUC before at "
    f"most {CEILING}) over shuffled labels is {SMALLEST} AUC or more, its interval is above 0, and a layer's probe "
    "passes Benjamini-Hochberg over the layers after training; not direction-shaped: the interval lies below "
    f"{SMALLEST}; else not identified"
)

Kind = Literal["gdn", "attention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer's AUC before training, after it and after training on shuffled labels; `p` is the worst of the seeds'
    permutation p-values after training, `before_p` the base's."""

    block: int
    kind: Kind
    before: Interval
    after: Interval
    placebo: Interval
    p: float
    before_p: float

    @property
    def room(self) -> bool:
        """Whether the AUC could grow by what matters."""
        return self.before.value <= CEILING

    def row(self) -> dict[str, Any]:
        """As the figure has it."""
        sides = {"before": self.before, "after": self.after, "placebo": self.placebo}
        shown = {name: {"value": side.value, "low": side.low, "high": side.high} for name, side in sides.items()}
        return {"name": f"layer {self.block}", "kind": self.kind, **shown}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Training with some modules as targets. Changes are differences in differences against shuffled labels.

    `auc` is over the GDN layers with room (None where there are none), `separation` of the centred cosine over all GDN
    layers, `attention` of the AUC over the full-attention layers (the comparator). `effect` is the change of the
    behaviour's log-prob margin against shuffled labels, nats per token.
    """

    name: str
    layers: Sequence[Layer]
    auc: Change | None
    separation: Change
    attention: Change | None
    effect: Change

    @property
    def gdn(self) -> list[Layer]:
        """The GDN layers."""
        return [layer for layer in self.layers if layer.kind == "gdn"]

    @property
    def separable(self) -> bool:
        """Whether some GDN layer tells the classes apart after training."""
        return any(benjamini_hochberg([layer.p for layer in self.gdn]))

    @property
    def alike(self) -> bool:
        """Whether every GDN layer is shown not to tell them apart: more than that its p-value is large."""
        return not self.separable and all(layer.after.high < ALIKE for layer in self.gdn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Everything that was measured about one behaviour. `contrast` says which texts were told apart, in words;
    `length_p` is the p-value of telling the classes by length alone, `words` the AUC of a bag of words; `kept` the
    share of the behaviour's effect that training without the GDN projections keeps."""

    arms: Mapping[str, Arm]
    contrast: str
    per_class: int
    templates: int
    length_p: float
    words: float
    seeds: Sequence[int]
    null_seeds: Sequence[int]
    kept: Interval | None = None
    targets: Any = "all-linear"
    numbers: Mapping[str, Any] = field(default_factory=dict)
    short: Sequence[str] = ()


def decide(arm: Arm) -> str:
    """The rule, on the arm that trains the GDN projections."""
    if arm.auc is None:
        return NOT_IDENTIFIED
    if arm.separable and arm.auc.low > 0 and arm.auc.value >= SMALLEST:
        return SHAPED
    return NOT_SHAPED if arm.auc.high < SMALLEST else NOT_IDENTIFIED


def answer(seen: Seen) -> Answer:
    """The verdict with what makes it believable."""
    arm = seen.arms[WITH]
    verdict = decide(arm)
    found = arm.auc
    room = [layer for layer in arm.gdn if layer.room]
    return Answer(
        verdict=verdict,
        sentence=_sentence(seen, arm, verdict),
        estimate=found.value if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        unit="AUC gained over shuffled labels, mean of the GDN layers with room",
        n=seen.templates,
        seeds=seen.seeds,
        null={
            "name": "adapters trained on shuffled labels",
            "seeds": list(seen.null_seeds),
            "value": _mean([layer.placebo.value - layer.before.value for layer in room]),
            "p": min((layer.p for layer in arm.gdn), default=1.0),
        },
        rule=RULE,
        would_change=_would_change(arm, verdict),
        controls=_controls(seen, arm),
        figures=[
            {
                "kind": "separation",
                "title": f"{seen.contrast}, told apart from each layer's state; LoRA {name}",
                "y_label": "AUC of a linear probe",
                "layers": [layer.row() for layer in each.layers],
                "chance": 0.5,
            }
            for name, each in seen.arms.items()
        ],
        short=[*seen.short, *_falls_short(seen)],
        numbers={
            "arms": {name: _numbers(each) for name, each in seen.arms.items()},
            "kept": {"value": seen.kept.value, "low": seen.kept.low, "high": seen.kept.high} if seen.kept else None,
            "contrast": seen.contrast,
            "templates": seen.templates,
            "bag_of_words_auc": seen.words,
            "length_p": seen.length_p,
            "targets": seen.targets,
            **seen.numbers,
        },
    )


def advised_targets(numbers: Mapping[str, Any]) -> list[str] | str | None:
    """The modules to train where the state does not become direction-shaped, from the share of the effect kept.

    Without the GDN projections when the whole interval says that nine tenths are kept, with them when it says that they
    are not; None in between, or where training has no effect to keep a share of.

    >>> arms = {WITH: {"effect": {"low": 0.05}}}
    >>> [advised_targets({"arms": arms, "kept": {"low": low, "high": high}}) for low, high in ((0.92, 1), (0.8, 1))]
    [['attention', 'mlp'], None]
    """
    kept, low = numbers["kept"], numbers["arms"][WITH]["effect"]["low"]
    if not kept or low is None or low <= 0:
        return None
    if kept["low"] is not None and kept["low"] >= KEPT:
        return ["attention", "mlp"]
    return "all-linear" if kept["high"] is not None and kept["high"] < KEPT else None


def observed(sessions: Sequence[tuple[int, Sequence[str], Sequence[float]]]) -> Answer:
    """What the training sessions so far did, each (cycle, GDN layers, change of each AUC): no placebo, no verdict."""
    changes = np.array([values for _, _, values in sessions])
    count = len(sessions)
    means = changes.mean(axis=1)
    beginning = max(1, min(cycle for cycle, _, _ in sessions))
    found = live_mean(means.tolist(), low=-1.0, high=1.0, first=beginning)
    return Answer(
        verdict="observed",
        sentence=f"{count} training session{'s' if count > 1 else ''} changed how well GDN states tell directions from "
        f"other texts by {found.value:+.3f} AUC on average.",
        estimate=found.value,
        low=found.low if count > 1 else None,
        high=found.high if count > 1 else None,
        unit="change of the AUC a session",
        n=count,
        seeds=(),
        null={"name": "none: no placebo is trained beside the loop"},
        rule="live sessions are observed; only `dreamctl ask q7` compares with shuffled labels; "
        "limits hold at all looks at once: a confidence sequence, whose window may slide",
        would_change="a run of `dreamctl ask q7`",
        figures=(
            {
                "kind": "over_time",
                "title": "Change of the separation a training session",
                "x_label": "cycle",
                "y_label": "change of the AUC",
                "x": [cycle for cycle, _, _ in sessions],
                "series": [{"name": "mean of the GDN layers", "values": means.tolist()}],
            },
        ),
        short=("no placebo beside the loop, and few texts",),
        numbers={"layers": dict(zip(sessions[-1][1], changes.mean(axis=0).tolist(), strict=True))},
    )


def _sentence(seen: Seen, arm: Arm, verdict: str) -> str:
    before, after = (_mean([getattr(layer, side).value for layer in arm.gdn]) for side in ("before", "after"))
    levels = f"(AUC {before:.3f} before, {after:.3f} after)"
    if arm.auc is None:
        gain = arm.separation
        return (
            f"Not identified: before training every GDN layer already tells {seen.contrast} apart {levels}, so a probe "
            f"cannot gain; class separation changed by {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})."
        )
    change = f"{arm.auc.value:+.3f} AUC ({arm.auc.low:+.3f} to {arm.auc.high:+.3f}) beyond shuffled labels"
    if verdict == SHAPED:
        return f"GDN states become direction-shaped: training adds {change} {levels} for {seen.contrast}."
    told = f"they tell {seen.contrast} apart {levels}"
    if arm.alike:
        told = f"no separation, they do not tell {seen.contrast} apart {levels}"
    elif not arm.separable:
        told = f"whether they tell {seen.contrast} apart at all cannot be told from so few texts {levels}"
    if verdict == NOT_SHAPED:
        return (
            f"GDN states do not become direction-shaped: {told}; training changes that by {change}, and "
            f"{arm.auc.detectable:.3f} would have been found."
        )
    return f"Whether GDN states become direction-shaped is not identified: {told}; training changes that by {change}."


def _would_change(arm: Arm, verdict: str) -> str:
    if arm.auc is None:
        return "a contrast that the base model's states do not tell apart already"
    if verdict == NOT_IDENTIFIED:
        least = arm.auc.detectable
        return f"more seeds, texts or templates: the smallest change that would be found now is {least:.3f} AUC"
    if verdict == SHAPED:
        return "a placebo that gains as much"
    return f"a gain of {SMALLEST} AUC or more: more examples, a larger learning rate"


def _controls(seen: Seen, arm: Arm) -> list[Control]:
    room = [layer for layer in arm.gdn if layer.room]
    placebo = _mean([layer.placebo.value - layer.before.value for layer in room])
    return [
        Control(
            name="length does not tell the classes apart",
            ok=seen.length_p >= 0.05,
            detail=f"p = {seen.length_p:.3f} for a probe that knows the number of tokens alone",
        ),
        Control(
            name="shuffled labels do not gain",
            ok=placebo < SMALLEST,
            detail=f"{placebo:+.3f} AUC in the layers with room",
        ),
        Control(
            name="there is room to gain",
            ok=bool(room),
            detail=f"{len(room)} of {len(arm.gdn)} GDN layers have an AUC of at most {CEILING} before training",
        ),
    ]


def _falls_short(seen: Seen) -> list[str]:
    notes = []
    if seen.words >= VOCABULARY:
        notes.append(f"a bag of words tells the classes apart with AUC {seen.words:.2f}: part of this is vocabulary")
    crowded = [layer for layer in seen.arms[WITH].gdn if not layer.room]
    if crowded:
        notes.append(
            f"{len(crowded)} of {len(seen.arms[WITH].gdn)} GDN layers tell the classes apart almost perfectly before "
            f"training (AUC above {CEILING}): the verdict rests on the others"
        )
    if seen.per_class < 40:
        notes.append(f"{seen.per_class} texts a class, the protocol wants 40 and more")
    if seen.templates < 10:
        notes.append(f"{seen.templates} templates are few to cross-validate over")
    return notes


def _numbers(arm: Arm) -> dict[str, Any]:
    return {
        "auc": arm.auc.plain if arm.auc else None,
        "separation": arm.separation.plain,
        "attention": arm.attention.plain if arm.attention else None,
        "effect": arm.effect.plain,
        "layers": [layer.row() | {"p": layer.p, "before_p": layer.before_p} for layer in arm.layers],
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
