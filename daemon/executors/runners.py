"""Which function runs a job: its kind's prefix names a module, whose RUNNERS has the kind.

Modules are imported when a job of theirs first runs, in the worker: the executors know no station.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import cast

from daemon.errors import DreamloopError
from daemon.events import STAGES
from daemon.executors.base import Runner

MODULES: Mapping[str, str] = {
    **{stage: f"daemon.stations.{stage}" for stage in STAGES},
    "traffic": "daemon.traffic.simulate",
    "chat": "daemon.traffic.chat",
    "observe": "daemon.experiments.session",
    "serve": "daemon.serving.jobs",
}
_EXPERIMENT = re.compile(r"q\d+_\w+")


class UnknownKind(DreamloopError):
    """No runner has this kind of job."""


def runner(kind: str) -> Runner:
    """The function that runs jobs of `kind`: "station.verb", "q1_minimum_signal.verb", or "a.module:name".

    The last form is for modules outside the table (tests, plug-ins): "name" is the key in that module's RUNNERS.
    Raises UnknownKind.
    """
    module_name, colon, key = kind.partition(":")
    if not colon:
        prefix = kind.partition(".")[0]
        module_name, key = MODULES.get(prefix, ""), kind
        if not module_name and _EXPERIMENT.fullmatch(prefix):
            module_name = f"daemon.experiments.{prefix}"
    if not module_name:
        raise UnknownKind(
            f'job kind "{kind}": no module is known for it; known prefixes: {", ".join(MODULES)}, qN_name'
        )
    try:
        found = importlib.import_module(module_name).RUNNERS[key]
    except (ModuleNotFoundError, AttributeError, KeyError) as error:
        if isinstance(error, ModuleNotFoundError) and not module_name.startswith(error.name or "?"):
            raise  # the module is there, something that it imports is not
        raise UnknownKind(f'job kind "{kind}": {module_name} has no runner "{key}" ({error!r})') from error
    return cast(Runner, found)
