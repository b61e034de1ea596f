"""What dreamctl prints for people: plain functions from the API's dicts to text or rich tables."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

SAID_HERE = ("starting", "asleep")  # states of a server that are no problem, whose reason stands beside them
MARKS = {"promote": "✓", "hold": "–", "reject": "✗"}


def ago(seconds: float) -> str:
    """A span of time in one or two units.

    >>> ago(42), ago(3 * 60 + 5), ago(2 * 3600 + 60), ago(3 * 86400)
    ('42 s', '3 min', '2 h 1 min', '3 days')
    """
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min"
    if seconds < 2 * 86400:
        hours, minutes = divmod(int(seconds // 60), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{seconds // 86400:.0f} days"


def short(adapter: str | None) -> str:
    """An adapter's id as people say it: 8 digits; None is the base."""
    return adapter[:8] if adapter else "base"


def percent(rate: float | None) -> str:
    """A rate as whole percents.

    >>> percent(0.215), percent(None)
    ('22 %', '?')
    """
    return "?" if rate is None else f"{rate * 100:.0f} %"


def status_lines(status: Mapping[str, Any], now: float | None = None) -> list[str]:
    """The `dreamctl status` page."""
    now = time.time() if now is None else now
    lines = [f"dreamloop {status.get('version', '')} is {status.get('state', '?')} (pid {status.get('pid', '?')}"]
    lines[0] += f", for {ago(now - status['since'])})" if status.get("since") else ")"
    cycle = status.get("cycle") or {}
    if cycle.get("id") is not None:
        doing = f"in {cycle['stage']}" if cycle.get("stage") else "between stages"
        why = f" ({cycle['why']})" if cycle.get("why") else ""
        lines.append(f"cycle     {cycle['id']}, {doing}{why}")
    lines += [_job(job) for job in status.get("jobs") or []]
    serving = status.get("serving") or {}
    since = f", for {ago(now - serving['since'])}" if serving.get("since") else ""
    lines.append(f"serving   {short(serving.get('adapter'))}{since}")
    lines += _servers(status.get("servers"), now)
    lines += [_behavior(name, facts) for name, facts in (status.get("behaviors") or {}).items()]
    if verdict := status.get("last_verdict"):
        lines.append(f"verdict   {verdict.get('decision')} {short(verdict.get('adapter'))}")
        lines += [f"          - {reason}" for reason in verdict.get("reasons") or []]
    counts = [f"{status[key]} {key}" for key in ("turns", "dreams", "examples", "adapters") if key in status]
    if counts:
        lines.append(f"so far    {', '.join(counts)}")
    if (following := status.get("next") or {}).get("what"):
        when = f" in {ago(following['when'] - now)}" if following.get("when") else ""
        lines.append(f"next      {following['what']}{when}")
    if status.get("metrics"):
        lines.append(f"metrics   {status['metrics']}")
    lines += [f"alarm     {alarm_line(alarm)}" for alarm in status.get("alarms") or []]
    lines += [f"problem   {problem}" for problem in status.get("problems") or []]
    return lines


def _servers(servers: Mapping[str, Any] | None, now: float) -> list[str]:
    """The servers that answer, a line each, and what their clients' model name stands for."""
    if not servers:
        return []
    lines = []
    for row in servers.get("replicas") or []:
        state, version = row.get("state", "?"), f", vLLM {row['version']}" if row.get("version") else ""
        if state == "attested":
            when = f" {ago(now - row['compared_at'])} ago" if row.get("compared_at") else ""
            lines.append(f"server    {row.get('url')}{version}: attested{when}, {row.get('why', '')}")
        else:
            why = f" ({row.get('why')})" if state in SAID_HERE else ""
            lines.append(f"server    {row.get('url')}{version}: {str(state).upper()}{why}")
    alias = servers.get("alias") or {}
    if alias:
        where = f" at {servers['gateway']}" if servers.get("gateway") else ""
        stands = f"is {alias.get('model')}" if alias.get("model") else f"stands for nothing ({alias.get('state')})"
        lines.append(f"alias     {alias.get('name')}{where} {stands}")
    return lines


def _job(job: Mapping[str, Any]) -> str:
    count = f" {job.get('done', 0)}/{job['total']}" if job.get("total") else ""
    seconds = f", {ago(job['seconds'])}" if job.get("seconds") else ""
    note = f"  {job['note']}" if job.get("note") else ""
    ends = f"  (`dreamctl cancel {job['id']}` ends it)" if job.get("asked") else ""
    return f"job       {job.get('kind')}{count}{seconds}{note}{ends}"


def _behavior(name: str, facts: Mapping[str, Any]) -> str:
    low, high, base = facts.get("low"), facts.get("high"), facts.get("base")
    interval = f" [{percent(low)}, {percent(high)}]" if low is not None and high is not None else ""
    counted = f", {facts['failures']} of {facts['n']}" if "failures" in facts and "n" in facts else ""
    before = f", base {percent(base)}" if base is not None else ""
    source = f", from {facts['source']}" if facts.get("source") else ""
    return f"fails     {name} {percent(facts.get('rate'))}{interval}{counted}{before}{source}"


def alarm_line(alarm: Mapping[str, Any]) -> str:
    """One alarm in words."""
    e_value, threshold = alarm.get("e_value"), alarm.get("threshold")
    if alarm.get("channel") == "attestation":  # about a server: a distance, and no behaviour
        apart = f", {e_value:.3g} nats per token apart ({threshold:g} allowed)" if e_value and threshold else ""
        return f"attestation: what is served is not what was trained{apart} ({short(alarm.get('adapter'))})"
    evidence = f": e-value {e_value:.1f} over {threshold:.0f}" if e_value and threshold else ""
    return f"{alarm.get('channel')} on {alarm.get('behavior')}{evidence} ({short(alarm.get('adapter'))})"


def adapter_table(adapters: Sequence[Mapping[str, Any]], now: float | None = None) -> Any:
    """The `dreamctl adapters` table (rich)."""
    from rich import box
    from rich.table import Table

    now = time.time() if now is None else now
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("adapter", "parent", "state", "verdict", "cycle", "loss", "age", "why"):
        table.add_column(heading, justify="right" if heading in ("cycle", "loss", "age") else "left")
    for adapter in adapters:
        verdict, loss, at = adapter.get("verdict"), adapter.get("loss"), adapter.get("at")
        state = str(adapter.get("state", ""))
        table.add_row(
            short(adapter["id"]), short(adapter.get("parent")), f"[bold]{state}[/]" if state == "serving" else state,
            f"{MARKS.get(str(verdict), '')} {verdict}" if verdict else "", str(adapter.get("cycle", "")),
            f"{loss:.3f}" if loss is not None else "", ago(now - at) if at else "",
            _first(adapter.get("reasons") or []),
        )  # fmt: skip
    return table


def _first(reasons: Sequence[object]) -> str:
    """What decided it; the other reasons are in `--json`."""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0]}{more}" if reasons else ""


def toml_lines(config: Mapping[str, Any], changed: Sequence[str], everything: bool) -> list[str]:
    """The configuration as TOML; without `everything` only what differs from the defaults."""
    lines: list[str] = []
    for section, values in config.items():
        if not isinstance(values, Mapping):
            continue
        rows = [
            f"{key} = {toml_value(value)}" + ("  # changed" if everything and f"{section}.{key}" in changed else "")
            for key, value in values.items()
            if everything or f"{section}.{key}" in changed
        ]
        if rows:
            lines += ["", f"[{section}]", *rows] if lines else [f"[{section}]", *rows]
    return lines


def toml_value(value: Any) -> str:
    """A plain value as TOML writes it."""
    import json

    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(str(k))} = {toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps("" if value is None else value, ensure_ascii=False)


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """The report: base against serving, per behaviour and band, with 95 % intervals."""
    lines: list[str] = []
    measured = dict(report.get("behaviors") or {})
    if report.get("general"):
        measured["general"] = report["general"]
    for name, sides in measured.items():
        lines.append(name)
        lines += [_side(which, sides[which]) for which in ("base", "serving") if sides.get(which)]
    adapters = report.get("adapters") or []
    if adapters:
        lines += [f"adapters {len(adapters)}", *(_adapter(adapter) for adapter in adapters)]
    if report.get("seconds") is not None:
        lines.append(f"took {ago(report['seconds'])}")
    return lines or ["the report is empty: no cycle has been measured yet"]


def _side(which: str, facts: Mapping[str, Any]) -> str:
    interval = f"[{percent(facts.get('low'))}, {percent(facts.get('high'))}]"
    count = f"{facts.get('failures', '?')} of {facts.get('n', '?')}"
    bands = ", ".join(f"{band} {percent((of or {}).get('rate'))}" for band, of in (facts.get("bands") or {}).items())
    return f"  {which:8}{percent(facts.get('rate')):>6} fail {interval}, {count}" + (f"; {bands}" if bands else "")


def _adapter(adapter: Mapping[str, Any]) -> str:
    verdict = adapter.get("verdict") or "no verdict"
    if isinstance(verdict, Mapping):
        verdict = verdict.get("decision", "?")
    reasons = _first(adapter.get("reasons") or [])
    line = f"  {short(adapter.get('id'))} from {short(adapter.get('parent'))}: {verdict}"
    return f"{line} ({reasons})" if reasons else line
