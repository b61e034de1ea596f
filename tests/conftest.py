"""Shared by all tests: a test that needs an outside part skips loudly, and in CI (DREAMLOOP_REQUIRE_ALL) not at all."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# a busy machine is no defect: nothing here is timed
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

_skipped: list[tuple[str, str]] = []
_required: list[str] = []  # of those skipped; vLLM's CPU build is a community's, and may be gone tomorrow


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.append((report.nodeid, reason))
        if "vllm" not in report.keywords:
            _required.append(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped:
        terminalreporter.section("NOT RUN HERE", sep="!")
        for name, reason in _skipped:
            terminalreporter.line(f"{name}: {reason}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _required and os.environ.get("DREAMLOOP_REQUIRE_ALL") and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
