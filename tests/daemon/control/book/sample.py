"""Answers as /v1/answers gives them: all seven questions, every kind of figure, numbers of a believable size."""

from __future__ import annotations

import math
import random
from typing import Any

NOW = 1_760_000_000.0
ADAPTER = "3f9a61c2d4e58b7700aa"
_luck = random.Random(7)


def _around(values: list[float], width: float, name: str, **more: Any) -> dict[str, Any]:
    low, high = [round(v - width, 3) for v in values], [round(v + width, 3) for v in values]
    return {"name": name, "values": [round(v, 3) for v in values], "low": low, "high": high, **more}


def _value(value: float, width: float, **more: Any) -> dict[str, Any]:
    return {"value": round(value, 3), "low": round(value - width, 3), "high": round(value + width, 3), **more}


def _dose_response() -> dict[str, Any]:
    doses = [0, 1, 2, 5, 10, 20, 50, 100]

    def curve(d: float) -> float:
        return 0.22 + 0.6 * d**1.6 / (4**1.6 + d**1.6)

    fine = [0.0, *(10 ** (-0.7 + 2.7 * n / 60) for n in range(61))]
    return {
        "kind": "dose_response", "title": "Listening after so many examples", "x_label": "examples trained on",
        "y_label": "share of probes passed", "doses": doses,
        "series": [
            _around([curve(d) + _luck.uniform(-0.03, 0.03) for d in doses], 0.06, "listening", role="main"),
            _around([0.22 + _luck.uniform(-0.03, 0.03) for _ in doses], 0.05, "shuffled labels", role="placebo"),
        ],
        "fit": {"x": fine, "y": [curve(d) for d in fine]},
        "marks": [{"x": 9.5, "low": 6.4, "high": 14.8, "label": "ED80"}],
    }  # fmt: skip


def _reliability() -> dict[str, Any]:
    rows = [(0.12, 0.08, 41), (0.31, 0.2, 66), (0.5, 0.34, 88), (0.69, 0.46, 72), (0.88, 0.71, 33)]
    return {
        "kind": "reliability", "title": "Predicted against observed failure of dreams", "line": {"a": -0.62, "b": 0.84},
        "bins": [{"predicted": p, "observed": o, "low": o - 0.09, "high": o + 0.1, "n": n} for p, o, n in rows],
    }  # fmt: skip


def _over_time() -> dict[str, Any]:
    x = list(range(1, 13))
    return {
        "kind": "over_time", "title": "Failure by predicted difficulty, cycle by cycle", "x_label": "cycle",
        "y_label": "share failed", "x": x,
        "series": [
            _around([start - 0.02 * n + _luck.uniform(-0.03, 0.03) for n in x], 0.06, name)
            for name, start in (("hard", 0.72), ("medium", 0.5), ("easy", 0.31))
        ],
    }  # fmt: skip


def _ranking() -> dict[str, Any]:
    rows = [
        {"name": f"L{layer}.H{head}", "value": round(_luck.gammavariate(4, 0.24), 3), "significant": False}
        for layer in range(4, 65, 4) for head in range(24)
    ]  # fmt: skip
    for row, value in zip(rows[100:107], (8.1, 6.4, 5.2, 4.4, 3.9, 3.4, 3.1), strict=True):
        row |= {"value": value, "significant": True}
    return {
        "kind": "ranking", "title": "Change of each head's pattern, in units of its null",
        "y_label": "change ÷ null", "items": rows, "null": {"low": 0.2, "high": 2.4},
    }  # fmt: skip


def _head_map(rows: int = 16, columns: int = 24) -> dict[str, Any]:
    return {
        "kind": "head_map", "title": "Where the change sits", "label": "change ÷ null",
        "rows": [f"L{4 * n}" for n in range(1, rows + 1)], "columns": [f"H{n}" for n in range(columns)],
        "values": [
            [round(_luck.gammavariate(3, 0.3) + (5 if (row, head) in ((1, 1), (2, 3), (9, 14)) else 0), 2)
             for head in range(columns)] for row in range(rows)
        ],
    }  # fmt: skip


def _trade_off() -> dict[str, Any]:
    x = [0.1, 0.3, 1, 3, 10, 30]
    return {
        "kind": "trade_off", "title": "Delay against false alarms", "x_label": "false alarms per 1,000 cycles",
        "y_label": "delay, in cycles",
        "series": [
            {"name": name, "x": x, "y": [round(a - b * math.log(v), 1) for v in x]}
            for name, a, b in (("graph", 14, 2.4), ("signal", 9, 1.6), ("probe", 6, 1.1))
        ],
        "floor": {"x": x, "y": [round(4.6 - 0.9 * math.log(v), 1) for v in x]},
    }  # fmt: skip


def _timelines() -> dict[str, Any]:
    x = list(range(80))

    def e_value(slope: float, jitter: float) -> list[float]:
        level = 1.0
        found = []
        for n in x:
            level = max(0.6, level * math.exp((slope if n >= 40 else -0.1) + _luck.uniform(-jitter, jitter)))
            found.append(round(level, 3))
        return found

    return {
        "kind": "timelines", "title": "One degraded episode, three channels", "x_label": "cycle", "onset": 40,
        "channels": [
            {"name": "graph", "x": x, "values": e_value(0.1, 0.5), "threshold": 1000.0, "alarm": None},
            {"name": "signal", "x": x, "values": e_value(0.25, 0.4), "threshold": 1000.0, "alarm": 67},
            {"name": "probe", "x": x, "values": e_value(0.38, 0.2), "threshold": 1000.0, "alarm": 59},
        ],
    }  # fmt: skip


def _steering() -> dict[str, Any]:
    strengths = [-2, -1, -0.5, 0, 0.5, 1, 2]
    return {
        "kind": "steering", "title": "Listening by strength of the vector", "strengths": strengths,
        "series": [
            _around([0.35 + 0.18 * s for s in strengths], 0.06, "direction, layer 24", role="main"),
            _around([0.35 + _luck.uniform(-0.02, 0.02) for _ in strengths], 0.05, "random vector", role="random"),
            _around([0.34 + _luck.uniform(-0.02, 0.02) for _ in strengths], 0.05, "shuffled labels", role="shuffled"),
        ],
        "prompt": _value(0.74, 0.05), "base": 0.35,
    }  # fmt: skip


def _transfer() -> dict[str, Any]:
    families = (("perplexity", 0.004), ("code", 0.021), ("arithmetic", -0.012), ("reasoning", 0.006))
    return {
        "kind": "transfer", "title": "Other skills, after − before", "delta": 0.05,
        "families": [_value(value, 0.022, name=name) for name, value in families],
        "null": [_value(_luck.uniform(-0.005, 0.005), 0.02, name=name) for name, _ in families],
    }  # fmt: skip


def _separation(layers: int = 8) -> dict[str, Any]:
    return {
        "kind": "separation", "title": "Direction told from general talk, by layer", "y_label": "probe AUC",
        "chance": 0.5,
        "layers": [
            {"name": f"L{n}", "kind": "attention" if n % 4 == 0 else "gdn", "before": _value(0.62 + 0.01 * n, 0.05),
             "after": _value(0.66 + 0.02 * n, 0.05), "placebo": _value(0.62 + 0.009 * n, 0.05)}
            for n in range(1, layers + 1)
        ],
    }  # fmt: skip


def figures() -> dict[str, dict[str, Any]]:
    """One realistic figure of every kind."""
    _luck.seed(7)
    made = (_dose_response(), _reliability(), _over_time(), _ranking(), _head_map(), _trade_off(), _timelines(),
            _steering(), _transfer(), _separation())  # fmt: skip
    return {figure["kind"]: figure for figure in made}


def _finding(question: str, verdict: str, sentence: str, numbers: tuple[Any, ...], unit: str,
             null: dict[str, Any], drawn: list[dict[str, Any]], *, size: str = "full", short: tuple[str, ...] = (),
             fails: bool = False) -> dict[str, Any]:  # fmt: skip
    estimate, low, high, n = numbers
    controls = [
        {"name": "placebo", "ok": True, "detail": "the shuffled-label arm stays within its null (trend p = 0.41)"},
        {"name": "same text", "ok": True, "detail": "before and after read identical, teacher-forced text"},
        {"name": "power", "ok": not fails, "detail": f"{n} units where the protocol asks for at least 100"},
        {"name": "second backend", "ok": None, "detail": "vLLM is not installed here"},
    ]
    return {
        "id": f"f-{question}", "question": question, "behavior": "listening", "adapter": ADAPTER, "size": size,
        "verdict": verdict, "sentence": sentence, "estimate": estimate, "low": low, "high": high, "n": n,
        "seconds": 412.6, "at": NOW - 5400 * int(question[1]),
        "evidence": {
            "unit": unit, "model": "nano-9c1f22d07b", "seeds": [0, 1, 2, 3, 4], "null": null, "code": "0.1.0+3d85a37",
            "rule": "The trend test passes at p < .01, the interval's ratio is at most 4, and the placebo is flat.",
            "would_change": "A placebo that rises as well, or an interval wider than a factor of four.",
            "controls": controls, "figures": drawn, "short": list(short),
        },
    }  # fmt: skip


def answers() -> dict[str, Any]:
    """All seven questions answered, one of them live as well, and advice in every state."""
    draw = figures()
    flat = {"name": "shuffled labels", "value": 0.01, "low": -0.03, "high": 0.05, "p": 0.41}
    found = [
        _finding("q1", "identified", "Ten examples take listening four fifths of the way; more add little.",
                 (9.5, 6.4, 14.8, 800), "examples", flat, [draw["dose_response"]]),
        _finding("q2", "over-predicts", "Dreams judged hard fail less often than predicted.",
                 (-0.62, -0.91, -0.33, 300), "logits", {"name": "a perfect forecaster", "value": 0.04, "p": 0.002},
                 [draw["reliability"], draw["over_time"]]),
        _finding("q3", "localised", "Seven of 384 heads carry the change; undoing them removes 86 % of the effect.",
                 (0.86, 0.81, 0.91, 24), "of the effect", {"name": "20 norm-matched random sets", "high": 0.14},
                 [draw["ranking"], draw["head_map"]]),
        _finding("q4", "explicit detection is needed", "The memory graph notices 2.3 times later than probes do.",
                 (2.3, 1.8, 3.1, 56), "times the probe's delay", {"name": "sham cycles", "value": 0.9, "p": 0.6},
                 [draw["trade_off"], draw["timelines"]], short=("56 degraded episodes on one model only",)),
        _finding("q5", "works", "The direction of layer 24 moves listening as far as 92 % of what a prompt does.",
                 (0.18, 0.14, 0.22, 40), "propensity per unit", flat, [draw["steering"]]),
        _finding("q6", "non-inferior", "No family of skills loses more than two points; none clearly gains.",
                 (0.005, -0.017, 0.027, 1546), "change of the pass rate", flat, [draw["transfer"]]),
        _finding("q7", "not identified", "Separation rises after training, but the placebo's interval overlaps: more "
                 "data needed.", (0.03, -0.02, 0.08, 80), "AUC", flat, [draw["separation"]], size="quick",
                 short=("2 seeds where the protocol asks for 5", "no arm without GDN targets"), fails=True),
    ]  # fmt: skip
    titles = ("How few examples change a behaviour?", "Do dreams have the right difficulty?",
              "Which attention heads change?", "Does the memory graph notice a regression?",
              "Do steering vectors work for complex behaviours?", "Does behaviour training help or hurt general skill?",
              "Does Gated-DeltaNet state become direction-shaped?")  # fmt: skip
    questions: dict[str, Any] = {}
    for finding, title in zip(found, titles, strict=True):
        kept = ("at", "verdict", "estimate", "low", "high", "n", "size", "behavior")
        row = {key: finding[key] for key in kept}
        earlier = row | {"at": row["at"] - 90_000, "verdict": "not identified", "size": "quick", "n": 60}
        questions[finding["question"]] = {
            "title": title, "question": finding["question"], "latest": finding, "live": None, "history": [earlier, row],
        }  # fmt: skip
    live = _finding("q6", "observed", "Over six cycles code gained half a point and arithmetic lost one.",
                    (-0.002, -0.02, 0.016, 480), "change of the pass rate", flat, [draw["over_time"]],
                    size="live")  # fmt: skip
    questions["q6"]["live"] = live | {"id": "f-q6-live", "at": NOW - 600}
    advised = (
        ("q1", "learn.cadence", "continuous", "nightly", "proposed", "ED80 is 9.5 [6.4, 14.8] examples"),
        ("q2", "dream.temperature", 0.9, 0.7, "accepted", "dreams over-predict by 0.62 logits"),
        ("q3", "learn.rank", 4, 8, "rejected", "seven heads carry 86 % of the effect"),
        ("q4", "guard.channels", ["signal", "probe"], ["graph", "signal", "probe"], "undone", "graph is 2.3x late"),
    )
    advice = [
        {"id": f"a-{q}", "finding": f"f-{q}", "question": q, "key": key, "value": value, "current": current,
         "state": state, "evidence": why, "by": "", "before": None, "note": "", "at": NOW - 4000}
        for q, key, value, current, state, why in advised
    ]  # fmt: skip
    return {"at": NOW - 30, "questions": questions, "advice": advice}


def report() -> dict[str, Any]:
    """A report on sealed probes."""

    def side(failures: int, n: int) -> dict[str, Any]:
        rate = failures / n
        return {"failures": failures, "n": n, "rate": rate, "low": max(0, rate - 0.05), "high": rate + 0.05}

    return {
        "serving": ADAPTER, "note": "failure rates on sealed probes that no policy sees; 95 % intervals",
        "behaviors": {
            "listening": {"base": side(96, 200), "serving": side(21, 200), "change": {"standing": "superior"}},
            "push_back": {"base": side(12, 200), "serving": side(14, 200), "change": {"standing": "non-inferior"}},
        },
        "general": {"base": side(40, 300), "serving": None, "change": None},
    }  # fmt: skip
