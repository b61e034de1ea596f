"""Which attention heads does training change, and do they carry what it does? The verdict, its words and figures.

A head's change is believed to matter only after the causal check: undoing the part of the update that belongs to the
heads that changed most. The numbers come from `policies.answers.q3_heads`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from policies.answers.base import NOT_IDENTIFIED, Answer, Control, plain
from policies.answers.q3_heads import HOLDS, NEAR, SPARES, Causal, Effect, Floats, Ranking, Shape
from policies.statistics.concentration import gini
from policies.statistics.live_mean import live_mean
from policies.statistics.prediction import prediction_high

LOCALISED, DISTRIBUTED = "localised", "distributed"
EVERYTHING = frozenset(("attention", "gdn", "mlp"))  # all linear layers, as `learn.targets` names them
FILLED = 0.9  # an effective rank above this share of the rank: the update would use more directions
RULE = (
    "localised: every seed has an effect above 0 and beyond the retrains', the top 10 % of heads changed more than in "
    "shuffled-label retrains, undoing their update removes at least 80 % of the effect, 20 random sets (or all there "
    f"are) with {NEAR[0]} to {NEAR[1]} of its norm at most 20 %, and an adapter of the top set alone keeps at least "
    "80 %; distributed: there is such an effect and the interval of one of these shares excludes its limit; else not "
    "identified"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Everything that was measured about one behaviour. `names` are (block, head); `ranks` effective ranks by part."""

    names: Sequence[tuple[int, int]]
    ranking: Ranking
    shape: Shape
    effect: Effect
    causal: Causal | None
    seeds: Sequence[int]
    null_seeds: Sequence[int]
    conversations: int
    subject: str = "trained on the behaviour"
    gdn: Mapping[str, Any] | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    short: Sequence[str] = ()


def answer(seen: Seen) -> Answer:
    """The verdict with what makes it believable."""
    ranking, found = seen.ranking, seen.causal
    top = [_name(seen.names[head]) for head in ranking.top]
    stood_out = all(ranking.significant[head] for head in ranking.top)
    verdict = NOT_IDENTIFIED
    if seen.effect.beyond and found is not None:
        if found.localised and stood_out:
            verdict = LOCALISED
        elif found.excluded:
            verdict = DISTRIBUTED
    removed = found.removed if found is not None and seen.effect.beyond else None
    return Answer(
        verdict=verdict,
        sentence=_sentence(seen, verdict, top, stood_out),
        estimate=removed.value if removed else None,
        low=removed.low if removed else None,
        high=removed.high if removed else None,
        unit="share of the effect that undoing the top heads removes",
        n=removed.n if removed else seen.effect.excess.n,
        seeds=seen.seeds,
        null={
            "name": "shuffled-label retrains",
            "seeds": list(seen.null_seeds),
            "low": ranking.band[0],
            "high": ranking.band[1],
            "gini": seen.shape.placebo,
            "effect": seen.effect.null_mean,
            "effect_high": seen.effect.null_high,
            "p": float(ranking.p.min()),
        },
        rule=RULE,
        would_change=_would_change(seen, verdict),
        controls=_controls(seen, stood_out),
        figures=_figures(seen),
        short=[*seen.short, *_unmatched(found)],
        numbers={**_numbers(seen), **seen.numbers},
    )


def _sentence(seen: Seen, verdict: str, top: Sequence[str], stood_out: bool) -> str:
    heads, found = len(seen.names), seen.causal
    if not seen.effect.beyond or found is None:
        if min(seen.effect.seeds) <= 0:
            return (
                "No claim about heads: the update does not raise the margins of held-out probes in every seed "
                f"({_list(seen.effect.seeds)} nats per token), so there is no effect to be located."
            )
        return (
            f"No claim about heads: what the update does to held-out probes ({seen.effect.excess.value:+.3f} nats per "
            "token beyond the placebo) is not more than retraining on shuffled labels can do."
        )
    carried = f"undoing all {heads} attention heads removes {found.heads.value:.0%}"
    if verdict == LOCALISED:
        return (
            f"The change is localised in {' and '.join(top)} of {heads} heads: undoing them removes "
            f"{found.removed.value:.0%} of the effect, they alone keep {found.kept.value:.0%}{_rates(seen)}."
        )
    undone = f"undoing the {len(top)} of {heads} heads that changed most removes {found.removed.value:.0%} of it"
    if verdict == DISTRIBUTED:
        rest = "the rest sits in other layers" if found.heads.value < HOLDS else "many heads share it"
        return f"The change is spread out: {undone}, {carried}; {rest}{_rates(seen)}."
    why = "more conversations or probes are needed" if stood_out else "these heads did not change more than by chance"
    if stood_out and not (found.matched or found.alone):
        why = "there are too few random sets of other heads with as large an update to compare with"
    return f"There is an effect, but where it sits is not identified: {undone}, {carried}; {why}."


def _rates(seen: Seen) -> str:
    """The behaviour's rate beside the margins, where it was measured."""
    rates = seen.numbers.get("rates")
    if not rates:
        return ""
    return (
        f" (behaviour rate {rates['base']:.0%} before, {rates['whole']:.0%} after, {rates['undone']:.0%} without these "
        f"heads, {rates['kept']:.0%} with them alone)"
    )


def _would_change(seen: Seen, verdict: str) -> str:
    if not seen.effect.beyond:
        return "an update whose effect on held-out probes lies above the shuffled-label retrains'"
    if verdict == LOCALISED:
        return "a random set of heads that removes more than 20 % of the effect, or another seed with other heads"
    if verdict == DISTRIBUTED:
        return "a set of a tenth of the heads that removes and keeps 80 % of the effect"
    if seen.causal is not None and not (seen.causal.matched or seen.causal.alone):
        return "enough random sets of heads whose update is as large as the top set's"
    return "narrower intervals of the shares: more probes, more seeds"


def _controls(seen: Seen, stood_out: bool) -> list[Control]:
    controls = [
        Control(
            name="effect beyond shuffled labels",
            ok=seen.effect.beyond,
            detail=f"seeds {_list(seen.effect.seeds)}, the limit for one more retrain is {seen.effect.null_high:.3f} "
            "nats per token; every seed has to lie above it and above 0",
        ),
        Control(
            name="top heads changed more than in shuffled-label retrains",
            ok=stood_out,
            detail=f"{int(seen.ranking.significant.sum())} of {len(seen.names)} heads pass Benjamini-Hochberg at .05 "
            f"and lie above {seen.ranking.band[1]:.2f} times the retrains' change",
        ),
    ]
    if seen.causal is not None:
        found = seen.causal
        controls.append(
            Control(
                name="random sets of heads are as large as the top set",
                ok=found.matched or found.alone,
                detail=f"{found.sets} of {found.wanted} sets, {_norms(found)} of the top set's norm in the mean "
                f"({NEAR[0]} to {NEAR[1]} is wanted"
                + (", but the other heads were hardly updated at all)" if found.alone else ")"),
            )
        )
        if found.random is not None:
            controls.append(
                Control(
                    name="random sets of heads spare the effect",
                    ok=found.random.value <= SPARES,
                    detail=f"they remove {found.random.value:.0%} on average, a single one at most {found.worst:.0%}",
                )
            )
    return controls


def _norms(found: Causal) -> str:
    """Each seed's mean norm of the random sets, relative to the top set's."""
    return ", ".join(f"{norm:.2f}" for norm in found.norms)


def _unmatched(found: Causal | None) -> list[str]:
    """What the random sets lack of the protocol's 20 norm-matched ones."""
    if found is None:
        return []
    notes = []
    if found.sets < found.wanted:
        notes.append(f"{found.sets} random sets of heads, the protocol wants {found.wanted}")
    if not found.alone and not all(NEAR[0] <= norm <= NEAR[1] for norm in found.norms):
        notes.append(
            f"the nearest random sets of heads have {_norms(found)} of the top set's norm: they are not norm-matched, "
            "so the change cannot be called localised"
        )
    return notes


def _numbers(seen: Seen) -> dict[str, Any]:
    ranking, shape_ = seen.ranking, seen.shape
    found = seen.causal
    numbers: dict[str, Any] = {
        "subject": seen.subject,
        "top": [list(seen.names[head]) for head in ranking.top],
        "heads": [
            {"name": _name(name), "ratio": float(r), "p": float(p), "significant": bool(s)}
            for name, r, p, s in zip(seen.names, ranking.ratio, ranking.p, ranking.significant, strict=True)
        ],
        "shape": {
            "gini": shape_.gini,
            "placebo_gini": shape_.placebo,
            "gini_excess": plain(shape_.excess),
            "participation_ratio": shape_.participation,
            "top_share": shape_.top,
        },
        "effect": {"excess": plain(seen.effect.excess), "seeds": list(seen.effect.seeds)},
    }
    if found is not None:
        shares = {"removed": found.removed, "kept": found.kept, "random": found.random, "all_heads": found.heads}
        numbers["causal"] = {name: plain(share) for name, share in shares.items()} | {
            "sets": found.sets,
            "random_worst": found.worst,
            "random_norms": list(found.norms),
        }
    return numbers


def _figures(seen: Seen) -> list[Mapping[str, Any]]:
    ranking = seen.ranking
    blocks = sorted({block for block, _ in seen.names})
    heads = sorted({head for _, head in seen.names})
    ratio = {name: float(value) for name, value in zip(seen.names, ranking.ratio, strict=True)}
    figures: list[Mapping[str, Any]] = [
        {
            "kind": "ranking",
            "title": "Change of attention patterns, relative to shuffled-label retrains",
            "y_label": "times the retrains' change",
            "items": [
                {
                    "name": _name(seen.names[head]),
                    "value": float(ranking.ratio[head]),
                    "significant": bool(ranking.significant[head]),
                }
                for head in np.argsort(-ranking.ratio, kind="stable")
            ],
            "null": {"low": ranking.band[0], "high": ranking.band[1]},
        },
        {
            "kind": "head_map",
            "title": "Change by layer and head",
            "rows": [f"layer {block}" for block in blocks],
            "columns": [f"head {head}" for head in heads],
            "values": [[ratio.get((block, head)) for head in heads] for block in blocks],
            "label": "times the retrains' change",
        },
    ]
    return figures + ([seen.gdn] if seen.gdn else [])


def needed_rank(effective: float, placebo: float, rank: int) -> int:
    """The LoRA rank for an update of this effective rank, beside that of shuffled labels.

    A power of two: lower when half of the directions or fewer are used; double when the update fills the rank *and*
    shuffled labels do not, for noise fills whatever it is given.

    >>> needed_rank(2.6, 6.0, 8), needed_rank(5.5, 6.0, 8), needed_rank(7.6, 5.0, 8), needed_rank(7.6, 7.5, 8)
    (4, 8, 16, 8)
    """
    if effective > FILLED * rank and placebo <= FILLED * rank:
        return 2 * rank
    need = 1 << max(0, math.ceil(math.log2(max(1.0, effective))))
    return need if need <= rank / 2 else rank


def scaled_alpha(alpha: int, rank: int, needed: int) -> int:
    """The alpha that keeps LoRA's scale alpha / rank at another rank, to the nearest whole number from 1.

    >>> scaled_alpha(16, 8, 4), scaled_alpha(16, 8, 16), scaled_alpha(1, 8, 4)
    (8, 32, 1)
    """
    return max(1, round(alpha * needed / rank))


def carrying(share: Mapping[str, float], targets: str | Sequence[str]) -> str | list[str] | None:
    """The modules to train, from the share of the effect that undoing all attention heads removes.

    Attention alone when they carry it, every linear layer when they do not and every one was trained; None when the
    interval does not say, or when modules were left out: nothing was learnt about those.

    >>> carrying({"value": 0.2, "low": 0.1, "high": 0.3}, "all-linear")
    'all-linear'
    >>> carrying({"value": 0.9, "low": 0.85, "high": 0.95}, "all-linear")
    ['attention']
    """
    if targets != "all-linear" and all(
        t == "attention" or t in ("q_proj", "k_proj", "v_proj", "o_proj") for t in targets
    ):
        return None
    if share["low"] >= HOLDS:
        return ["attention"]
    everything = targets == "all-linear" or set(targets) >= EVERYTHING
    return "all-linear" if everything and share["high"] < HOLDS else None


def observed(sessions: Sequence[tuple[int, Sequence[str], Sequence[float]]]) -> Answer:
    """What the training sessions so far did, each (cycle, heads, change of each): seen beside the loop, no placebo."""
    cycles = [cycle for cycle, _, _ in sessions]
    changes = np.array([values for _, _, values in sessions])
    mean, count = changes.mean(axis=0), len(sessions)
    names = sessions[-1][1]
    most = names[int(mean.argmax())]
    # two rows of attention are at most sqrt(2) apart
    found = live_mean(changes.mean(axis=1).tolist(), low=0.0, high=2**0.5, first=max(1, min(cycles)))
    return Answer(
        verdict="observed",
        sentence=f"{count} training session{'s' if count > 1 else ''} moved attention patterns by {found.value:.3f} "
        f"(L2) on average, {most} most ({float(mean.max()):.3f}).",
        estimate=found.value,
        low=found.low if count > 1 else None,
        high=found.high if count > 1 else None,
        unit="L2 change of attention rows a session",
        n=count,
        seeds=(),
        null={"name": "none: no placebo is trained beside the loop"},
        rule="live sessions are observed; only `dreamctl ask q3` compares with shuffled labels and operates; "
        "limits hold at all looks at once: a confidence sequence, whose window may slide",
        would_change="a run of `dreamctl ask q3`",
        figures=(
            {
                "kind": "over_time",
                "title": "Change of attention patterns a training session",
                "x_label": "cycle",
                "y_label": "L2 change",
                "x": cycles,
                "series": [
                    {"name": "mean of all heads", "values": changes.mean(axis=1).tolist()},
                    {"name": "head that changed most", "values": changes.max(axis=1).tolist()},
                ],
            },
        ),
        short=("no placebo and no causal check beside the loop",),
        numbers={"heads": dict(zip(names, mean.tolist(), strict=True)), "gini": [gini(each) for each in changes]},
    )


def gdn_figure(layers: Sequence[int], subject: Floats, null: Floats) -> dict[str, Any]:
    """A ranking of the GDN layers' output change (seeds, layers), beside the heads': relative L2 change of the output.

    The band is the range of the retrains over all layers; a layer counts as changed above its own retrains' 95 % limit.
    """
    means = subject.mean(axis=0)
    limits = [prediction_high(layer.tolist()) for layer in null.T]
    return {
        "kind": "ranking",
        "title": "Change of the GDN layers' output (no attention map; its own units)",
        "y_label": "|change| / |output|",
        "items": [
            {"name": f"layer {layers[at]}", "value": float(means[at]), "significant": bool(means[at] > limits[at])}
            for at in np.argsort(-means, kind="stable")
        ],
        "null": {"low": float(null.min()), "high": float(null.max())},
    }


def _name(head: tuple[int, int]) -> str:
    return f"layer {head[0]} head {head[1]}"


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:+.3f}" for value in values)
