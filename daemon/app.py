"""The only file that builds things and wires them. Reading it from top to bottom is reading the daemon's start."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from daemon import behaviors as behavior_files
from daemon import report
from daemon.advising import Advising
from daemon.asking import Asking
from daemon.config import Config
from daemon.control import ANSWERS_NAME, REPORT_NAME, SOCKET_NAME
from daemon.control.feed import Feed
from daemon.control.server import ControlServer
from daemon.desk import VERSION, Desk
from daemon.errors import BehaviorError, ConfigError, DreamloopError
from daemon.events import CycleDue, Lane, Stop
from daemon.executors.base import Served, WorkerSpec
from daemon.executors.process import ProcessExecutor
from daemon.intake.watcher import LogWatcher
from daemon.judges.agreement import admit
from daemon.lock import StateLock
from daemon.loop import Loop
from daemon.metrics import Metrics, stop_serving
from daemon.models import adapters, vectors
from daemon.models.loading import check, fingerprint, known, read_key, resolve
from daemon.remembering import Remembering
from daemon.schedule import Schedule, trigger
from daemon.serving.check import SERVERS
from daemon.serving.check import check as check_serving
from daemon.serving.command import command
from daemon.serving.front import Front, servers, standing
from daemon.serving.gateway_process import Gateway
from daemon.serving.keeper import Keeper
from daemon.serving.managed import ManagedServer
from daemon.serving.route import write as write_route
from daemon.settings import FACT as OVERRIDES
from daemon.settings import Settings
from daemon.stations.base import View
from daemon.stations.choice import check as check_policies
from daemon.stations.choice import sharing
from daemon.stations.dream import Dreaming
from daemon.stations.grade import Grade
from daemon.stations.guard import Guard
from daemon.stations.judge import Judge, measuring
from daemon.stations.learn import Learn
from daemon.stations.listen import Listen
from daemon.stations.material import general_file
from daemon.store.store import Store
from daemon.telling import Telling
from daemon.terminal import Terminal
from policies.records import Advice, Dream, Measurement

log = structlog.get_logger("dreamloop")

INTERRUPTED = 130  # the exit status of a run of so many cycles that was stopped before its end
HOPELESS = 3  # failed cycles in a row after which a run of so many cycles gives up


class App:
    """One daemon on one state folder.

    `cycles` ends it after that many full cycles, `placebo` trains on shuffled labels, `view` draws the live view.
    """

    def __init__(self, config: Config, *, cycles: int | None = None, placebo: bool = False, view: bool = False) -> None:
        self.config = config
        self.cycles = cycles
        self.placebo = placebo
        self.view = view

    def run(self) -> int:
        """Run to the end; the exit status. Raises DreamloopError for what a person can mend."""
        self.config.state.mkdir(parents=True, exist_ok=True)
        with StateLock(self.config.state):
            return asyncio.run(self._run())

    async def _run(self) -> int:
        config = self.config
        aio = asyncio.get_running_loop()

        # What may be wrong with the configuration is said before anything heavy starts.
        folder = behavior_files.folder(config.behaviors.folder, config.file.parent)
        behaviors = behavior_files.load(folder, [*config.behaviors.train, *config.behaviors.guard])
        model = resolve(config.model.path) if config.model.path == "nano" else config.resolve(config.model.path)
        check(model)
        check_policies(config)
        known(config.model.backend, "model.backend")
        check_serving(config)
        remembering = Remembering(config)
        for behavior in behaviors.values():
            file = folder / f"{behavior.name}.toml"
            admit(behavior, file, floor=config.judge.agreement_floor, base=lambda: fingerprint(model))
            if not behavior.select(split="rotating", kind="target"):
                raise BehaviorError(f"{file}: no rotating target probes; the gate needs some")
            if len(remembering.memory) and behavior.graph_key not in remembering.memory:
                log.warning("a behaviour's pattern node is not in the memory graph", behavior=behavior.name,
                            graph_key=behavior.graph_key)  # fmt: skip

        def workable(key: str, value: Any) -> None:
            if key == "serve.steering":
                vectors.check(config.state, value, lambda: fingerprint(model))
            if key == "schedule.cycle":
                trigger(value)

        workable("serve.steering", config.serve.steering)
        adapters.sweep(config.state / "adapters")
        store = Store.open(config.store.url or f"sqlite:///{config.state / 'dreamloop.db'}")

        self._keep_apart(store)
        settings = Settings(config, store.fact(OVERRIDES), check=workable)

        # What watches: metrics, the feed behind `dreamctl watch`, the terminal.
        feed = Feed()
        metrics = Metrics(dream_of=lambda id: store.get(Dream, id))
        http, port = metrics.serve(config.daemon.metrics_host, config.daemon.metrics_port)

        def rates(adapter: str | None) -> dict[str, float]:
            rows = store.find(Measurement, adapter=adapter, probe="behavior", kind="target", split="rotating")
            return {row.behavior: 1 - row.value for row in rows}

        telling = Telling(metrics, feed, rates)
        telling.serves(store.serving(), store.fact("serving_since") or time.time())

        # What works: the loop with its stations, the workers, the watcher, the clockwork.
        def worker(backend: str, options: dict[str, Any], served: Served | None = None) -> WorkerSpec:
            return WorkerSpec(
                backend=backend,
                options=options,
                threads=config.model.threads,
                behaviors=tuple(folder / f"{name}.toml" for name in behaviors),
                general=general_file(config, "probes"),
                served=served,
            )

        here = {"path": str(model), "device": config.model.device, "dtype": config.model.dtype,
                "generate_batch": config.model.generate_batch}  # fmt: skip
        served = servers(config, model) if config.serve.backend == SERVERS else None
        if served is not None:
            adapters.sweep(Path(served.options["publish"]))
        specs: dict[Lane, WorkerSpec]
        if served is None:
            specs = {"train": worker(config.model.backend, here), "serve": worker(config.serve.backend, here)}
        else:
            bound = {"memory": share} if (share := sharing(config).trainer) is not None else {}
            specs = {"train": worker(config.model.backend, here | bound, served),
                     "serve": worker(served.backend, served.options),
                     "keep": worker(served.backend, served.options | {"talks": False})}  # fmt: skip
        workers = ProcessExecutor(specs, emit=lambda event: loop.post(event))

        def look(cycle: int) -> View:
            remembering.refresh()
            return View(
                store=store,
                config=settings.config,
                now=time.time(),
                cycle=cycle,
                serving=store.serving(),
                behaviors=behaviors,
                memory=remembering.memory,
                surfacer=remembering.surfacer,
            )

        watcher = LogWatcher(
            [config.state / "logs", *map(config.resolve, config.intake.watch)],
            config.intake.patterns,
            emit=lambda read: loop.post(read),
            offsets=store.file_offset,
            format=config.intake.format,
            rescan_seconds=config.intake.rescan_seconds,
            max_line_bytes=config.intake.max_line_bytes,
            create_below=config.state,
            report=lambda problem: log.warning("conversation log", problem=problem),
        )

        def tell(happening: Mapping[str, Any]) -> None:
            telling(happening)
            if front is not None:
                front.happened(happening)
            if happening["event"] == "finding":
                advising.applied(store.find(Advice, finding=happening["finding"]))

        asking = Asking()
        advising = Advising(store, settings, clock=time.time, tell=telling, check=workable)
        advising.forget()
        stations = (Listen(), Dreaming(), Grade(), Learn(placebo=self.placebo), Judge(), Guard())
        loop = Loop(
            config=config,
            store=store,
            executor=workers,
            stations={station.name: station for station in stations},
            watcher=watcher,
            look=look,
            tell=tell,
            stored=telling.stored,
            companion=asking,
        )
        loop.limit = self.cycles
        # so many cycles means one after the other, whatever the schedule says about ordinary days
        section = settings.config.schedule
        if self.cycles is not None:
            section = section.model_copy(update={"cycle": "continuous"})
        front = self._front(loop, look, settings, model) if served else None
        schedule = Schedule(
            section,
            due=lambda why: loop.post(CycleDue(why=why)),
            rest=lambda resting: loop.call(loop.rest, "window", resting),
            idle_seconds=lambda: time.time() - loop.last_activity,
        )
        loop.on_cycle_end = lambda: schedule.again(loop.failed_in_a_row)
        if self.cycles is None:
            settings.changed = lambda now: schedule.reconfigure(now.schedule)
        desk = Desk(
            settings=settings,
            store=store,
            loop=loop,
            schedule=schedule,
            feed=feed,
            behaviors=behaviors,
            asking=asking,
            advising=advising,
            metrics_url=f"http://{config.daemon.metrics_host}:{port}/metrics",
            problems=lambda: [*(front.problems() if front else ()), *watcher.problems(), *remembering.problems()],
            servers=front.status if front else lambda: None,
        )
        control = ControlServer(config.state / SOCKET_NAME, desk, version=VERSION)

        for signal_number in (signal.SIGINT, signal.SIGTERM):
            aio.add_signal_handler(signal_number, lambda: loop.post(Stop(why="asked to stop")))
        terminal: asyncio.Task[None] | None = None
        try:
            for read in watcher.scan():  # what was written while no daemon ran
                loop.hear(read)
            if front is not None:
                front.begin()
            await loop.start()
            tell({"event": "paused", "reasons": sorted(loop.paused)})
            for lane in specs:
                workers.warm(lane)
            watcher.start()
            await control.start()
            if front is not None:
                await front.start()
            if self.view:
                hint = f"Ctrl-C stops    in another terminal: dreamctl --state {config.state} status"
                screen = Terminal(desk.status, desk.adapters, feed.subscribe(), recent=feed.recent(), hint=hint)
                terminal = asyncio.create_task(screen.run())
            log.info(
                "ready",
                pid_socket=str(control.path),
                metrics=desk.status()["metrics"],
                serving=store.serving() or "base",
            )
            # an interrupted cycle goes on first, and asks for its successor itself when it ends
            schedule.start(ask=store.current_cycle() is None)
            await loop.run(until=lambda: loop.enough or self._hopeless(loop))
            if self._hopeless(loop):
                raise DreamloopError(f"{HOPELESS} cycles failed in a row; the log above says why")
            if loop.enough:
                schedule.close()
                await self._seal(loop, store, desk)
        finally:
            with contextlib.suppress(Exception):
                report.save(desk.report(), config.state / REPORT_NAME)
                report.save(desk.answers(), config.state / ANSWERS_NAME)
            schedule.close()
            if terminal is not None:
                terminal.cancel()
                await asyncio.gather(terminal, return_exceptions=True)
            feed.close()
            await control.stop()
            if front is not None:
                await front.close()
            watcher.stop()
            workers.close()
            stop_serving(http)
            store.close()
        log.info("stopped", why=loop.stopping or f"{loop.finished_cycles} cycles done")
        return INTERRUPTED if self.cycles is not None and not loop.enough else 0

    def _front(self, loop: Loop, look: Callable[[int], View], settings: Settings, model: Path) -> Front:
        """What looks after the servers, with the server that the daemon runs and the gateway where configured."""
        config, serve = self.config, self.config.serve
        shared = sharing(config)
        key_file = config.resolve(serve.api_key_file) if serve.api_key_file else None
        managed: ManagedServer | None = None
        gateway = None
        keeper = Keeper(
            loop=loop,
            look=look,
            config=lambda: settings.config,
            route=lambda route: write_route(config.state, route),
            sleeps=shared.sleep is not None,
            standing=lambda: standing(managed) if managed else None,
        )
        if serve.managed:
            what = command(config, model=model, name=config.resolve(config.model.path).name, sharing=shared,
                           key=read_key(key_file))  # fmt: skip
            managed = ManagedServer(what, serve.urls[0], config.state, changed=keeper.poke)
        if serve.gateway_port:
            gateway = Gateway(config.state, serve.gateway_port, patience=serve.patience_seconds, api_key_file=key_file)
        return Front(keeper, managed, gateway)

    def _keep_apart(self, store: Store) -> None:
        """A placebo run and a real one never share a state: what one learned would spoil what the other shows."""
        was = store.fact("placebo")
        if was is None:
            with store.transaction() as tx:
                tx.set_fact("placebo", self.placebo)
        elif was != self.placebo:
            made = "made with --placebo" if was else "of a real run"
            store.close()
            raise ConfigError(f"{self.config.state}: this state is {made}; give another one with --state DIR")

    def _hopeless(self, loop: Loop) -> bool:
        """Asked for so many cycles, but is there no point in going on?"""
        return self.cycles is not None and loop.failed_in_a_row >= HOPELESS

    async def _seal(self, loop: Loop, store: Store, desk: Desk) -> None:
        """Measure base and serving adapter on the sealed probes; the read is logged."""
        view = loop.look(loop.finished_cycles)
        who = dict.fromkeys([None, store.serving()])
        log.info("measuring on sealed probes", adapters=[adapter or "base" for adapter in who])
        done = loop.ask(measuring(view, who, split=report.SEALED, key=time.time()))
        await loop.run(until=done.done)
        if loop.stopping is None:
            try:
                finished = done.result()
            except RuntimeError as error:
                raise DreamloopError(
                    f"measuring on sealed probes failed: {error}; the cycles' results are kept"
                ) from error
            with store.transaction() as tx:
                tx.sealed_read("daemon", f"report after {loop.finished_cycles} cycles", time.time())
                tx.add(*finished.result.records)
