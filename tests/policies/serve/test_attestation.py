"""Attestation's verdict on known servers, and what must hold for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.serve.attestation import ALLOWANCE, SHARE, Attestation, Rows, Trained, attest

TOLERANCE = 0.02
rng = np.random.default_rng(0)


def rows(count: int = 6, tokens: int = 8, spread: float = 1.0) -> list[list[float]]:
    """Log-probabilities of `count` probes."""
    return rng.normal(-3, spread, (count, tokens)).tolist()


def mixed(a: Rows, b: Rows, share: float) -> list[list[float]]:
    """From a to b."""
    return [[x + share * (y - x) for x, y in zip(one, two, strict=True)] for one, two in zip(a, b, strict=True)]


def off(a: Rows, by: float) -> list[list[float]]:
    """Off by so much at every token, up and down in turn."""
    return [[x + by * (-1) ** place for place, x in enumerate(row)] for row in a]


BASE, OWN, BEFORE, OTHER = rows(), rows(), rows(), rows()
SHORT = Trained(own=OWN, base=BASE, before=BEFORE)
LONG = Trained(own=rows(3, 2), base=rows(3, 2), before=rows(3, 2))
TRAINED = {"short": SHORT, "long": LONG}
PASSES = ("short", "long/cold", "long/warm", "long/unsalted")


def of(pick: Callable[[Trained], Rows]) -> dict[str, Rows]:
    """What a server says whose every pass is this of the trainer's word."""
    return {name: pick(TRAINED[name.partition("/")[0]]) for name in PASSES}


def judged(served: dict[str, Rows]) -> Attestation:
    """Against all that was trained."""
    return attest(TRAINED, served, TOLERANCE)


class TestKnownAnswers:
    """A server of each kind."""

    def test_the_trained_adapter(self) -> None:
        """The trainer's own numbers are attested, with nothing apart and all of the effect."""
        found = judged(of(lambda t: t.own))
        assert (found.ok, found.state, found.apart, found.excess) == (True, "attested", 0, 0)
        assert found.share == pytest.approx(1) and found.distinct
        assert found.words == "within 0 nats per token of what was trained, 100% of its effect is served"
        assert dict(found.numbers) == {f"apart/{name}": 0 for name in PASSES}

    def test_rounding(self) -> None:
        """What is off by the tolerance and a tenth of the effect is rounding; a little more is not."""
        apart = np.mean(np.abs(np.subtract(OWN, BASE)), axis=1)
        allowed = TOLERANCE + ALLOWANCE * apart.min()
        assert judged(of(lambda t: t.own) | {"short": off(OWN, 0.99 * allowed)}).ok
        assert not judged(of(lambda t: t.own) | {"short": off(OWN, 1.01 * allowed)}).ok

    def test_the_base(self) -> None:
        """Listed and not applied."""
        found = judged(of(lambda t: t.base or ()))
        assert found.state == "base" and not found.ok
        assert "answers with the base model" in found.words and "`judge.parity_tolerance` is 0.02" in found.words
        assert found.share == pytest.approx(0)

    def test_the_predecessor(self) -> None:
        """The version before it."""
        found = judged(of(lambda t: t.before or ()))
        assert found.state == "predecessor" and "the version before it" in found.words

    @pytest.mark.parametrize(("effect", "step"), [(1.0, 0.08), (2.0, 0.15), (3.0, 0.2)])
    def test_the_predecessor_after_many_small_updates(self, effect: float, step: float) -> None:
        """Far from the base and near each other: the predecessor is within a tenth of the effect, and is told apart."""
        base = rows(20, 10)
        before = [[x + effect * y for x, y in zip(a, b, strict=True)] for a, b in zip(base, rows(20, 10), strict=True)]
        own = [[x + step * y for x, y in zip(a, b, strict=True)] for a, b in zip(before, rows(20, 10), strict=True)]
        trained = {"short": Trained(own=own, base=base, before=before)}
        found = attest(trained, {"short": before}, TOLERANCE)
        assert found.state == "predecessor" and found.distinct and not found.ok
        assert attest(trained, {"short": off(own, 0.01)}, TOLERANCE).ok

    def test_a_stale_cache_of_the_predecessor_after_many_small_updates(self) -> None:
        """The same in one pass only: the cache holds what the version before computed."""
        base = rows(6, 4)
        before = [[x + 2 for x in row] for row in base]
        own = [[x + 0.15 * (-1) ** place for place, x in enumerate(row)] for row in before]
        trained = {"long": Trained(own=own, base=base, before=before)}
        found = attest(trained, {"long/cold": own, "long/warm": before}, TOLERANCE)
        assert found.state == "stale cache" and "(warm)" in found.words

    @pytest.mark.parametrize("share", [0.3, 0.68, 0.84, 1.16, 1.5])
    def test_a_part(self, share: float) -> None:
        """Modules that were dropped, or an effect that is scaled: how much of it is served."""
        found = judged(of(lambda t: mixed(t.base or (), t.own, share)))
        assert found.state == "partial" and found.share == pytest.approx(share)
        assert f"{share:.0%} of the adapter's effect is served" in found.words

    def test_a_part_that_rounding_would_hide(self) -> None:
        """Where every probe is within the tolerance, the share of the effect still tells."""
        small = Trained(own=off(BASE, 0.035), base=BASE)
        found = attest({"short": small}, {"short": off(BASE, 0.02)}, TOLERANCE)
        assert found.excess < TOLERANCE and found.state == "partial"

    def test_other_weights(self) -> None:
        """Neither the adapter nor anything near it."""
        found = judged({"short": OTHER, **dict.fromkeys(PASSES[1:], rows(3, 2))})
        assert found.state == "differs" and "other weights" in found.words

    @pytest.mark.parametrize("stale", [("warm",), ("unsalted",), ("warm", "unsalted")])
    def test_a_stale_cache(self, stale: tuple[str, ...]) -> None:
        """Right when cold, wrong from the cache: which passes."""
        served = of(lambda t: t.own) | {f"long/{one}": LONG.before for one in stale}
        found = judged(served)  # type: ignore[arg-type]
        assert found.state == "stale cache" and f"({', '.join(stale)})" in found.words
        assert found.share == pytest.approx(1)  # of what no cache was asked for

    def test_wrong_when_cold_is_no_stale_cache(self) -> None:
        """A cache cannot explain what was wrong without it."""
        assert judged(of(lambda t: t.own) | {"long/cold": LONG.base or ()}).state != "stale cache"

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("name", PASSES)
    def test_not_finite(self, name: str, value: float) -> None:
        """One number of one pass is enough."""
        served = of(lambda t: t.own)
        served[name] = [[*row[:-1], value] for row in served[name]]
        found = judged(served)
        assert found.state == "not finite" and not found.ok
        assert name in found.words and "server" in found.words

    def test_a_trainer_that_is_not_finite_attests_nothing(self) -> None:
        """Its word is none: whatever is served does not agree with it."""
        own = [[math.nan] * 8] * 6
        for served in (OWN, own):
            found = attest({"short": Trained(own=own, base=BASE)}, {"short": served}, TOLERANCE)
            assert found.state == "not finite"
        assert "trainer" in attest({"short": Trained(own=own)}, {"short": OWN}, TOLERANCE).words

    @pytest.mark.parametrize(
        "cut", [lambda x: x[:-1], lambda x: [x[0][:-1], *x[1:]], lambda x: [*x, x[0]], lambda x: []]
    )
    def test_incomplete(self, cut: Callable[[Rows], Rows]) -> None:
        """A probe or a token that was not scored, or one too many."""
        found = judged(of(lambda t: t.own) | {"short": cut(OWN)})
        assert found.state == "incomplete" and "did not score every token" in found.words

    def test_incomplete_before_not_finite_before_the_rest(self) -> None:
        """What cannot be read is not compared."""
        assert judged({**of(lambda t: BASE), "short": [[math.nan]]}).state == "incomplete"
        served = of(lambda t: t.base or ()) | {"short": [[math.nan, *row[1:]] for row in BASE]}
        assert judged(served).state == "not finite"

    def test_the_base_itself(self) -> None:
        """It has no share of anything; another base is told from it."""
        trained = {"short": Trained(own=BASE)}
        found = attest(trained, {"short": off(BASE, 0.01)}, TOLERANCE)
        assert found.ok and found.share is None and found.distinct
        assert found.apart == pytest.approx(0.01)
        assert attest(trained, {"short": OTHER}, TOLERANCE).state == "differs"

    def test_indistinct(self) -> None:
        """An adapter that does next to nothing is attested, and it is said that the probes cannot tell it."""
        same = {"short": Trained(own=off(BASE, 0.001), base=BASE)}
        found = attest(same, {"short": BASE}, TOLERANCE)
        assert found.ok and not found.distinct and found.share is None
        assert "cannot tell it from what served before" in found.words

    def test_indistinct_from_its_predecessor(self) -> None:
        """One that differs from the base and not from the version before it, too."""
        trained = {"short": Trained(own=OWN, base=BASE, before=off(OWN, 0.001))}
        found = attest(trained, {"short": OWN}, TOLERANCE)
        assert found.ok and not found.distinct

    def test_one_probe_that_is_off(self) -> None:
        """The worst probe decides, not the mean."""
        served = [OWN[0], *OWN[1:-1], off(OWN[-1:], 0.5)[0]]
        found = attest({"short": SHORT}, {"short": served}, TOLERANCE)
        assert not found.ok and found.apart == pytest.approx(0.5)


class TestRefused:
    """What is no question."""

    def test_passes_over_other_probes(self) -> None:
        """A pass over probes that the trainer never answered."""
        with pytest.raises(ValueError, match="are not passes over"):
            attest({"short": SHORT}, {"short": OWN, "long/cold": OWN}, TOLERANCE)

    def test_probes_that_were_never_asked(self) -> None:
        """Half an attestation is none."""
        with pytest.raises(ValueError, match="are not passes over"):
            judged({"short": OWN})

    @pytest.mark.parametrize("own", [[], [[]], [[], []]])
    def test_nothing_to_compare(self, own: Rows) -> None:
        """No probe, or none with a token, attests nothing."""
        with pytest.raises(ValueError, match="no token to compare"):
            attest({"short": Trained(own=own)}, {"short": own}, TOLERANCE)

    def test_no_probes_at_all(self) -> None:
        """The same."""
        with pytest.raises(ValueError, match="no token to compare"):
            attest({}, {}, TOLERANCE)


number = st.floats(-20, 0)
probes = st.lists(st.lists(number, min_size=1, max_size=4), min_size=1, max_size=4)


@st.composite
def alike(draw: st.DrawFn, count: int) -> list[list[list[float]]]:
    """`count` sets of rows of one shape."""
    first = draw(probes)
    return [first, *([[draw(number) for _ in row] for row in first] for _ in range(count - 1))]


class TestAlways:
    """Whatever the numbers."""

    @given(alike(3))
    def test_the_trainers_own_numbers_are_attested(self, three: list[list[list[float]]]) -> None:
        """Served as trained is attested, however much or little the adapter does."""
        own, base, before = three
        found = attest({"p": Trained(own=own, base=base, before=before)}, {"p/1": own, "p/2": own}, TOLERANCE)
        assert found.ok and found.apart == found.excess == 0
        assert found.share is None or found.share == pytest.approx(1)

    @given(alike(4))
    def test_what_is_attested_is_near(self, four: list[list[list[float]]]) -> None:
        """Nothing is attested that is off by more than the tolerance and a tenth of the effect, at any probe."""
        own, base, before, served = four
        found = attest({"p": Trained(own=own, base=base, before=before)}, {"p": served}, TOLERANCE)
        apart = [np.mean(np.abs(np.subtract(a, b))) for a, b in zip(own, served, strict=True)]
        moved = [np.mean(np.abs(np.subtract(a, b))) for a, b in zip(own, base, strict=True)]
        near = all(far <= TOLERANCE + ALLOWANCE * most + 1e-9 for far, most in zip(apart, moved, strict=True))
        whole = found.share is None or abs(found.share - 1) <= SHARE
        assert found.apart == pytest.approx(max(apart))
        assert not found.ok or (near and whole)
        assert found.ok == (found.state == "attested")
        assert found.words

    @given(alike(2), st.floats(0.2, 2.0))
    def test_the_share_is_the_slope(self, two: list[list[list[float]]], share: float) -> None:
        """A server that scales the effect is told by how much, whatever the effect is."""
        own, base = two
        found = attest({"p": Trained(own=own, base=base)}, {"p": mixed(base, own, share)}, TOLERANCE)
        effect = math.sqrt(np.mean(np.square(np.subtract(np.concatenate(own), np.concatenate(base)))))
        assert (found.share is None) == (effect <= 0.03)
        if found.share is not None:
            assert found.share == pytest.approx(share, rel=1e-6)

    @given(alike(3))
    def test_order_does_not_matter(self, three: list[list[list[float]]]) -> None:
        """Probes in another order have the same verdict."""
        own, base, served = three
        one = attest({"p": Trained(own=own, base=base)}, {"p": served}, TOLERANCE)
        other = attest({"p": Trained(own=own[::-1], base=base[::-1])}, {"p": served[::-1]}, TOLERANCE)
        assert one.state == other.state and one.apart == other.apart
        assert one.share == pytest.approx(other.share)

    @given(alike(3), st.floats(0.001, 1.0), st.floats(1.0, 10.0))
    def test_a_wider_tolerance_attests_no_less(
        self, three: list[list[list[float]]], tolerance: float, wider: float
    ) -> None:
        """What a tolerance lets pass, a wider one does."""
        own, base, served = three
        trained, said = {"p": Trained(own=own, base=base)}, {"p": served}
        assert attest(trained, said, tolerance * wider).ok >= attest(trained, said, tolerance).ok
