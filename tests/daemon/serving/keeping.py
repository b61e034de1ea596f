"""A daemon's serving side without the daemon: a real loop, store and keeper, jobs in threads, scripted servers."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

from daemon.config import Config
from daemon.control.render import status_lines
from daemon.events import STAGES, Job, Lane, Stop
from daemon.executors.base import WorkerSpec
from daemon.executors.context import Control
from daemon.executors.running import run
from daemon.loop import Loop
from daemon.metrics import Metrics
from daemon.models.base import Model
from daemon.models.vllm.model import VLLMModel
from daemon.serving.front import Front
from daemon.serving.keeper import Keeper
from daemon.serving.route import Route, write
from daemon.stations.base import View
from daemon.store.store import Store
from policies.records import Alarm
from tests.daemon.models.vllm.bench import Bench
from tests.daemon.models.vllm.listening import Port
from tests.daemon.stations.parts import Here

PATIENT = 20.0  # seconds until a test gives up


class Hands:
    """An executor: a thread per lane, and light jobs are really run. Jobs of `held` lanes wait until they are let go;
    those of kinds that nobody here can run never end."""

    def __init__(self, trainer: Model, model: VLLMModel) -> None:
        self.trainer, self.model = trainer, model
        self.submitted: list[Job] = []
        self.held: set[str] = set()
        self.emit: Callable[[Any], None] = lambda event: None
        self._waiting: dict[str, deque[Job]] = {}
        self._running: dict[str, Job] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def submit(self, job: Job) -> None:
        """Run it after the others of its lane."""
        self.submitted.append(job)
        self._waiting.setdefault(job.lane, deque()).append(job)
        self._next(job.lane)

    def let_go(self) -> None:
        """Nothing is held any more."""
        held, self.held = self.held, set()
        for lane in held:
            self._next(lane)

    def cancel(self, job_id: str) -> None:
        """Nothing here is cancelled."""

    def pause(self, paused: bool) -> None:
        """Light work is not paused."""

    def busy(self, lane: Lane) -> bool:
        """Whether a job of this lane runs or waits."""
        return lane in self._running or bool(self._waiting.get(lane))

    def close(self) -> None:
        """Wait for what runs."""
        self.held = {"train", "serve", "keep"}
        for thread in self._threads:
            thread.join(PATIENT)

    def kinds(self) -> list[str]:
        """What was submitted."""
        return [job.kind for job in self.submitted]

    def _next(self, lane: str) -> None:
        with self._lock:
            if lane in self.held or lane in self._running or not self._waiting.get(lane):
                return
            job = self._running[lane] = self._waiting[lane].popleft()
        if job.kind.startswith("serve."):
            thread = threading.Thread(target=self._work, args=(lane, job), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self, lane: str, job: Job) -> None:
        event = run(
            job, WorkerSpec(backend="fake"), lambda: self.trainer, Control(), lambda _: None, lambda: self.model
        )
        with self._lock:
            del self._running[lane]
        self.emit(event)
        self._next(lane)


class House(Here):
    """`ports` are the servers. `told` is what happened, `routes` every route that was written."""

    def __init__(self, folder: Path, store: Store, bench: Bench, *ports: Port, **serve: Any) -> None:
        sharing = serve.pop("sleeps", False)
        every = serve.pop("every", None)
        super().__init__(folder, store, serve={"backend": "vllm", "url": [port.url for port in ports], **serve})
        self.model.fingerprint = bench.trainer.fingerprint  # type: ignore[method-assign]
        self.bench = bench
        self.client = bench.client(*ports, **({"every": every} if every is not None else {}))
        self.hands = Hands(cast(Model, bench.trainer), self.client)
        self.told: list[dict[str, Any]] = []
        self.routes: list[Route] = []
        self.unwritable = False
        self.broken: Exception | None = None
        self.metrics = Metrics()
        self.standing: tuple[str, str] | None = None
        self.loop = Loop(
            config=self.config,
            store=store,
            executor=self.hands,
            stations={},
            watcher=None,  # type: ignore[arg-type]
            look=self.view,
            tell=self.tell,
            clock=lambda: self.now,
        )
        self.hands.emit = self.loop.post
        self.keeper = Keeper(
            loop=self.loop,
            look=self.seen,
            config=lambda: self.config,
            route=self.write_route,
            sleeps=sharing,
            standing=lambda: self.standing,
        )
        self.front = Front(self.keeper, None, None)

    def seen(self, cycle: int) -> View:
        """The world, unless looking at it raises."""
        if self.broken is not None:
            raise self.broken
        return self.view(cycle)

    def reconfigure(self, config: Config) -> None:
        """Other settings are in force from now on, as after an advice."""
        self.config = config
        self.tell({"event": "advice"})

    def tell(self, happening: Any) -> None:
        """As the daemon tells it."""
        self.told.append(dict(happening))
        if happening["event"] == "served":
            self.metrics.served(happening["replicas"])
        self.front.happened(happening)

    def write_route(self, route: Route) -> None:
        """Write it as the daemon does, unless the disk is full."""
        if self.unwritable:
            raise OSError(28, "No space left on device")
        self.routes.append(route)
        write(self.config.state, route)

    def serve(self, *names: str) -> None:
        """Adapters that follow each other; the last serves."""
        parent = None
        for name in names:
            self.adapter(name, parent=parent, state="serving", rates={"listening": len(name) / 99, name: 0.5})
            parent = name

    @asynccontextmanager
    async def open(self) -> AsyncIterator[House]:
        """The loop runs and the keeper keeps."""
        self.front.begin()
        await self.loop.start()
        running = asyncio.create_task(self.loop.run())
        await self.front.start()
        try:
            yield self
        finally:
            await self.front.close()
            self.hands.close()
            self.loop.post(Stop(why="the test is over"))
            async with asyncio.timeout(PATIENT):
                await running

    async def until(self, ready: Callable[[], object]) -> None:
        """Wait for something that other threads bring about."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENT):
                while not ready():  # noqa: ASYNC110 - other threads have no events of ours
                    await asyncio.sleep(0.005)
        assert ready(), "\n".join(self.lines())

    async def look(self) -> None:
        """One look, now, from its beginning to its end."""
        looks = self.looks
        self.keeper.poke()
        await self.until(lambda: self.looks > looks)

    @property
    def looks(self) -> int:
        """Looks that have ended."""
        return sum(happening["event"] == "served" for happening in self.told)

    @property
    def route(self) -> Route:
        """What the alias stands for."""
        return self.routes[-1]

    @property
    def settled(self) -> bool:
        """The trainer gave its word, and there was a look since."""
        return bool(self.looks) and self.states()[0] != "unpublished"

    def states(self) -> list[str]:
        """How the replicas stand."""
        return [row["state"] for row in self.front.status()["replicas"]]

    def alarms(self) -> list[Alarm]:
        """The alarms in the store."""
        return self.store.find(Alarm)

    def events(self, name: str) -> Sequence[dict[str, Any]]:
        """What was told of one kind."""
        return [happening for happening in self.told if happening["event"] == name]

    def lines(self) -> list[str]:
        """What `dreamctl status` says of the servers, and every problem."""
        status = {"servers": self.front.status(), "problems": self.front.problems()}
        wanted = ("server", "alias", "problem")
        return [line for line in status_lines(status, now=self.now) if line.startswith(wanted)]

    def training(self, kind: str) -> Job:
        """A cycle whose training lane is busy with this."""
        job = Job.make(kind, lane="train", cycle=1)
        with self.store.transaction() as tx:
            tx.open_cycle("test", STAGES, self.now)
            tx.enqueue(job, self.now)
        return job
