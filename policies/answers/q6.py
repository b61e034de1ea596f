"""Question 6: does behaviour training help or hurt general skill?

Each family of tasks is compared before and after, item by item with the same luck, next to an adapter of the same size
that saw general data alone and next to the base asked a second time. Higher is better everywhere: text is scored by its
mean log-likelihood, so that a loss of .05 is 5 % of perplexity as it is 5 points of a pass rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policies.answers.base import NOT_IDENTIFIED, Answer, Control, plain
from policies.answers.q6_change import NON_INFERIOR, TEXT, Arm, Change, Results, beyond, changes
from policies.statistics.bootstrap import mean_interval
from policies.statistics.noninferiority import required_samples
from policies.statistics.pass_at_k import pass_at_k

POSITIVE, COMPETES = "positive", "competes"
CODE = "code"
FAMILIES = 2  # how many families a gain takes
SEEDS = 3  # adapters an arm below which chance easily makes them agree; the protocol names no number
DISCORDANCE, POWER = 0.10, 0.8
CEILING = 0.99
RULE = (
    "competes when a family is worse than the base (one-sided, corrected for the number of families, not within delta, "
    f"and in every adapter of the arm); positive when on at least {FAMILIES} families the 95 % lower limit is above 0 "
    "for both the change from the base and the difference from the general-only adapter, and so is every adapter's "
    "mean, while neither the general-only adapter nor the base asked again rose there, and no family is worse (the "
    "texts are those of the same tasks, so they are not counted as one of these families); non-inferior when every "
    "family's one-sided 95 % lower limit is above -delta, and every adapter's mean; else not identified"
)
LABELS = {TEXT: "text (log perplexity)", CODE: "code (pass@1)"}


def gained(subject: Sequence[Change], nulls: Sequence[Sequence[Change]], more: Sequence[Change]) -> list[Change]:
    """The families that rose, more than with general data alone, where no null rose; texts repeat the tasks."""
    risen = {found.family for null in nulls for found in null if found.interval.low > 0}
    ahead = {found.family for found in more if found.rose}
    return [f for f in subject if f.rose and f.family in ahead and f.family not in risen and f.family != TEXT]


def verdict(
    subject: Sequence[Change], nulls: Sequence[Sequence[Change]], more: Sequence[Change], *, delta: float
) -> str:
    """See `RULE`; `nulls` are the general-only adapter's and the identity's changes of the same families, `more` the
    subject's differences from the general-only adapter (`beyond`)."""
    if any(found.lost for found in subject):
        return COMPETES
    if len(gained(subject, nulls, more)) >= FAMILIES and all(found.standing != "worse" for found in subject):
        return POSITIVE
    return NON_INFERIOR if all(found.kept(delta) for found in subject) else NOT_IDENTIFIED


def answer(
    arms: Sequence[Arm],
    null: Arm,
    identity: Arm,
    *,
    title: str,
    delta: float,
    rng: np.random.Generator,
    seeds: Sequence[int],
    serving: Arm | None = None,
    short: Sequence[str] = (),
    config: Mapping[str, float] | None = None,
) -> Answer:
    """The verdict on the first of `arms` (its share of general examples is the lowest) and on the `serving` adapter.

    `config` has the configuration's `general_share` and `counter_share`, for the advice.
    """
    found = [changes(arm, rng, delta=delta) for arm in arms]
    idle, again = changes(null, rng, delta=delta), changes(identity, rng, delta=delta)
    served = changes(serving, rng, delta=delta) if serving else []
    more = beyond(arms[0], null, rng, delta=delta)
    alone = said = verdict(found[0], (idle, again), more, delta=delta)
    better = gained(found[0], (idle, again), more)
    sound = all(f.standing != "worse" for f in again)
    on_serving = None
    if serving:
        on_serving = verdict(served, (idle, again), beyond(serving, null, rng, delta=delta), delta=delta)
    if on_serving == COMPETES:
        said = COMPETES
    if not sound:
        said = NOT_IDENTIFIED
    weakest = min(found[0], key=lambda f: f.interval.low)
    interval = weakest.interval
    risen = [f.family for f in (*idle, *again) if f.interval.low > 0]
    everything = [*zip(arms, found, strict=True), (null, idle), (identity, again)]
    if serving:
        everything.append((serving, served))
    return Answer(
        verdict=said,
        sentence=_sentence(title, (said, alone, on_serving), found[0], idle, better, delta)
        if sound
        else "Not identified: the base asked again seems worse than itself, so the instrument is not to be trusted.",
        estimate=interval.value,
        low=interval.low,
        high=interval.high,
        unit=f"change of {_label(weakest.family)}, the weakest family",
        n=interval.n,
        seeds=list(seeds),
        null={
            "name": "an adapter of as many general examples alone",
            "families": {f.family: plain(f.interval) for f in idle},
            "identity": {f.family: plain(f.interval) for f in again},
            "difference": {f.family: plain(f.interval) for f in more},
        },
        rule=RULE,
        would_change=_would_change(said, len(better), delta),
        controls=(
            Control(
                name="the base asked again is not worse", ok=sound,
                detail=", ".join(f"{f.family} {f.interval.value:+.3f}" for f in again),
            ),
            Control(
                name="the null is flat", ok=not risen,
                detail=f"general data alone raised {', '.join(risen)}" if risen else "no family rose",
            ),
            Control(
                name="seeds agree", ok=all(min(f.seeds) > -delta or max(f.seeds) < 0 for f in found[0]),
                detail="; ".join(f"{f.family} {min(f.seeds):+.3f} to {max(f.seeds):+.3f}" for f in found[0]),
            ),
        ),
        figures=(_transfer(found[0], idle, delta), _by_share(arms, found)),
        short=(*_falls_short(arms[0], delta), *short),
        numbers={
            "delta": delta,
            "arms": [_summary(arm, each, delta) for arm, each in everything],
            "serving_kept": all(f.kept(delta) for f in served) if served else None,
            "pass_at_k": {
                "base": _pass_at_k(arms[0].before, rng),
                **{arm.name: _pass_at_k(arm.after, rng) for arm, _ in everything},
            },
            "config": dict(config or {}),
        },
    )  # fmt: skip


def share(arms: Sequence[Mapping[str, Any]]) -> float | None:
    """The smallest share of general examples that kept every family, of a finding's `numbers["arms"]`, or None."""
    kept = [arm["share"] for arm in arms if arm["share"] is not None and arm["kept"]]
    return min(kept) if kept else None


def _sentence(
    title: str,
    verdicts: tuple[str, str, str | None],
    found: Sequence[Change],
    idle: Sequence[Change],
    better: Sequence[Change],
    delta: float,
) -> str:
    """`verdicts` are the whole answer's, the fresh adapters' and the serving adapter's."""
    said, alone, on_serving = verdicts
    worse = [f for f in found if f.lost]
    if said == COMPETES and worse:
        also = {f.family for f in idle if f.lost}
        which = ", ".join(f"{_label(f.family)} {f.interval.value:+.3f}" for f in worse)
        shared = " General data alone does as well." if also >= {f.family for f in worse} else ""
        return f"Training {title} alone costs general skill: {which}.{shared}"
    if said == COMPETES:
        fresh = (
            "whether a fresh update of {} does is not identified"
            if alone == NOT_IDENTIFIED
            else "a fresh update of {} does not"
        )
        return f"The serving adapter has lost general skill; {fresh.format(title)}."
    if said == POSITIVE:
        which = ", ".join(f"{_label(f.family)} {f.interval.value:+.3f}" for f in better)
        return f"Training {title} helps general skill: {which}, and more than general data alone."
    if said == NON_INFERIOR:
        least = min(f.interval.low for f in found)
        tail = f" On the serving adapter it is {on_serving}." if on_serving else ""
        return f"Training {title} leaves every family within {delta:g} of the base (lowest limit {least:+.3f}).{tail}"
    open_ = [f for f in found if not f.kept(delta)]
    unclear = ", ".join(_label(f.family) for f in open_)
    return f"Not identified: {title}'s effect on {unclear} is neither within {delta:g} nor clearly a loss."


def _would_change(said: str, rising: int, delta: float) -> str:
    if said == NOT_IDENTIFIED:
        need = required_samples(delta, DISCORDANCE, power=POWER)
        return f"More tasks: {need:,} paired ones a family show {100 * delta:g} points at 10 % discordance."
    if said == COMPETES:
        return (
            "A share of general examples that keeps every family (`learn.general_share`), or a smaller learning rate."
        )
    return (
        f"A family that falls below -{delta:g}; positive takes {FAMILIES} families of tasks whose lower limits against "
        f"the base and against general data alone are above 0 ({rising} now), and nulls that are flat there."
    )


def _falls_short(arm: Arm, delta: float) -> list[str]:
    need = required_samples(delta, DISCORDANCE, power=POWER)
    notes = []
    for results in arm.before:
        items = len(results.values[0])
        if results.scale == "share" and items < need:  # answers to one item are not independent: items are counted
            notes.append(f"{results.family}: {items} items; {100 * delta:g} points at 10 % discordance take {need:,}")
    if full := [r.family for r in arm.before if r.scale == "share" and float(np.mean(r.values)) >= CEILING]:
        notes.append(f"the base is at the ceiling in {', '.join(full)}: a loss would show, a gain cannot")
    if len(arm.kl) < SEEDS:
        many = "1 adapter" if len(arm.kl) == 1 else f"{len(arm.kl)} adapters"
        notes.append(f"{many} an arm: below {SEEDS} they easily agree by chance")
    return notes


def _summary(arm: Arm, found: Sequence[Change], delta: float) -> dict[str, Any]:
    return {
        "name": arm.name,
        "share": arm.share,
        "kept": all(f.kept(delta) for f in found),
        "log_kl": math.log(max(float(np.mean(arm.kl)), 1e-12)) if arm.kl else None,
        "families": {
            f.family: {
                **plain(f.interval), "standing": f.standing, "p_better": f.p_better, "p_worse": f.p_worse,
                "seeds": list(f.seeds),
            }
            for f in found
        },
    }  # fmt: skip


def _pass_at_k(after: Sequence[Results], rng: np.random.Generator) -> dict[str, Any]:
    """Code alone: unbiased pass@k of one adapter's samples, mean over seeds, interval over problems."""
    found = {}
    for results in (r for r in after if r.family == CODE):
        n = results.samples
        passed = np.rint(np.asarray(results.values) * n).astype(int)
        for k in sorted({1, min(3, n), n}):
            problems = [float(np.mean([pass_at_k(n, int(c), k) for c in column])) for column in passed.T]
            found[f"pass@{k}"] = plain(mean_interval(problems, rng))
    return found


def _transfer(found: Sequence[Change], idle: Sequence[Change], delta: float) -> dict[str, Any]:
    return {
        "kind": "transfer", "title": "General skill after behaviour training",
        "families": [{"name": _label(f.family), **plain(f.interval)} for f in found],
        "null": [{"name": _label(f.family), **plain(f.interval)} for f in idle],
        "delta": delta,
    }  # fmt: skip


def _by_share(arms: Sequence[Arm], found: Sequence[Sequence[Change]]) -> dict[str, Any]:
    return {
        "kind": "over_time", "title": "General skill by share of general examples",
        "x_label": "general examples in the batch, %", "y_label": "change",
        "x": [100 * (arm.share or 0.0) for arm in arms],
        "series": [
            {
                "name": _label(row[0].family), "values": [f.interval.value for f in row],
                "low": [f.interval.low for f in row], "high": [f.interval.high for f in row],
            }
            for row in zip(*found, strict=True)
        ],
    }  # fmt: skip


def _label(family: str) -> str:
    return LABELS.get(family, family)
