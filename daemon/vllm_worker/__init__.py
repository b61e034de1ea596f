"""The part of dreamloop that runs inside a vLLM server: `dreamloop_worker`, a worker extension.

vLLM has an environment of its own, so nothing in that folder imports anything of ours, and nothing of ours imports it.
A server loads it with PATH on its PYTHONPATH and `--worker-extension-cls CLASS`.
"""

from __future__ import annotations

from pathlib import Path

PATH = Path(__file__).parent
CLASS = "dreamloop_worker.Worker"
ARGUMENT = "dreamloop_steering"  # of a request's `vllm_xargs`
