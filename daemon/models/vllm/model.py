"""A model behind vLLM servers: generates and scores with any version that was attested. See `daemon.models.base`.

Text becomes token ids here, by the same tokenizer and chat template as in training; the server is sent ids and returns
ids. Each prompt has a seed of its own, made from the call's seed, its tokens and how often it came before: two adapters
meet the same luck on the same prompt, and answers do not depend on what shares a batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from daemon.errors import AdapterError, BadAnswer, ServeError, ServerDown
from daemon.models import loading, luck
from daemon.models.base import Checkpoint, Conversation, Sampling, ignore
from daemon.models.hf_chat import Chat, from_folder
from daemon.models.vllm import answers
from daemon.models.vllm.asking import AT_ONCE as BATCH
from daemon.models.vllm.attesting import scoring
from daemon.models.vllm.background import Background
from daemon.models.vllm.fleet import TRIES, Fleet
from daemon.models.vllm.replica import Replica
from daemon.models.vllm.steering import Steering
from daemon.models.vllm.versions import Reference, Versions
from policies.serve.attestation import Attestation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger("dreamloop.serve")
T = TypeVar("T")
PRUNED = 3600.0  # seconds that a version stays published when nobody keeps it: it may be about to be judged


class VLLMModel:
    """`fleet` are the servers, `versions` what can be loaded there; `sleep` is level and mode of `asleep`.

    Without a `chat` it is read from the folder when it is first needed.
    """

    def __init__(
        self,
        fleet: Fleet,
        chat: Chat | None,
        versions: Versions,
        *,
        folder: Path,
        background: Background,
        sleep: tuple[int, str] | None = None,
    ) -> None:
        self._fleet = fleet
        self._versions = versions
        self._folder = folder
        self._background = background
        self._level_and_mode = sleep or (1, "wait")
        self._using: Path | None = None
        self._version = versions.of(None)
        self._steering = Steering()
        self._chat = chat

    @property
    def chat(self) -> Chat:
        """The base's tokenizer with its template. Raises ModelMissing."""
        if self._chat is None:
            self._chat = from_folder(self._folder)
        return self._chat

    @property
    def using(self) -> Path | None:
        """The adapter folder in use; None is the base."""
        return self._using

    def fingerprint(self) -> str:
        """sha256 over the base's weight files and tokenizer, of the folder that the trainer has."""
        return loading.fingerprint(self._folder)

    @cached_property
    def _sizes(self) -> tuple[int, int]:
        """Blocks and width of the base."""
        config = json.loads((self._folder / "config.json").read_text(encoding="utf-8"))
        text = config.get("text_config", config)
        return int(text["num_hidden_layers"]), int(text["hidden_size"])

    def use(self, adapter: Path | None) -> None:
        """Answer with this adapter from now on: it is loaded and attested first. On an error the one before stays.

        Raises AdapterError when the folder is not a usable adapter, NotAttested when the servers answer with something
        else, and other ServeErrors when they cannot be used; waits for servers that are down.
        """
        self.attest(adapter)
        self._using, self._version = adapter, self._versions.of(adapter)

    def attest(self, adapter: Path | None, *, again: bool = False) -> Attestation:
        """See that the servers answer with this adapter as trained, on probes; `again` also when that was seen before.

        Raises as `use`; the adapter in use stays in use.
        """
        found = self._background.run(self._fleet.settle(self._versions.of(adapter), again=again))
        if self._chat is not None:  # what a server would refuse is cut here, as it is for the trainer's own limit
            self._chat.limit = min([self._chat.limit, *self._fleet.longest()])
        return found

    @contextlib.contextmanager
    def adapted(self, adapter: Path | None) -> Iterator[None]:
        """Use another adapter for a while."""
        before = self._using
        self.use(adapter)
        try:
            yield
        finally:
            self._using, self._version = before, self._versions.of(before)

    @property
    def longest(self) -> int:
        """Tokens that it takes at most."""
        return self.chat.limit

    def publish(self, adapter: Path | None, reference: Reference) -> None:
        """Make an adapter (None: the base) known to the servers, with the trainer's word on it. Raises AdapterError."""
        self._versions.publish(adapter, reference)

    def published(self, adapter: Path | None) -> bool:
        """Was it, and is it whole? Raises AdapterError for a folder that is no adapter."""
        version = self._versions.of(adapter)
        try:
            return version.published and bool(version.reference().sets)
        except AdapterError:
            return False

    def generate(
        self, prompts: Sequence[Conversation], sampling: Sampling, checkpoint: Checkpoint = ignore
    ) -> list[str]:
        """One answer per prompt, in order. Raises ServeError."""
        encoded = [self.chat.prompt(prompt, room=sampling.max_tokens) for prompt in prompts]
        seeds = [int.from_bytes(digest[:4]) >> 1 for digest in luck.digests(encoded, sampling.seed)]  # below 2**31
        steering = self._steering
        fixed = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "stop_token_ids": sorted(self.chat.stops),
            "return_token_ids": True,
            **self._extra(),
        }

        async def one(row: int) -> str:
            body = {**fixed, "prompt": encoded[row], "seed": seeds[row]}
            ids = await self._fleet.ask(
                self._version, body, lambda url, found: answers.generated(url, found, sampling.max_tokens), steering
            )
            return self.chat.text(ids[:-1] if ids and ids[-1] in self.chat.stops else ids)

        return self._all([partial(one, row) for row in range(len(encoded))], checkpoint)

    def logprobs(self, pairs: Sequence[tuple[Conversation, str]], checkpoint: Checkpoint = ignore) -> list[list[float]]:
        """Per pair the log-probability in nats of each answer token and the end of turn. Raises ServeError."""
        encoded, steering, extra = self.encode(pairs), self._steering, self._extra()

        async def some(first: int) -> list[list[float]]:
            rows = encoded[first : first + BATCH]
            texts = [[*prompt, *target] for prompt, target in rows]
            starts = [len(prompt) for prompt, _ in rows]

            def read(url: str, found: dict[str, Any]) -> list[list[float]]:
                scored = answers.prompt_logprobs(url, found, texts, starts)
                if not all(math.isfinite(value) for row in scored for value in row):
                    raise BadAnswer(f"{url}: returned log-probabilities that are not finite numbers")
                return scored

            return await self._fleet.ask(self._version, scoring("", texts, "") | extra, read, steering)

        found = self._all([partial(some, first) for first in range(0, len(encoded), BATCH)], checkpoint)
        return [row for batch in found for row in batch]

    def encode(self, pairs: Sequence[tuple[Conversation, str]]) -> list[tuple[list[int], list[int]]]:
        """Per pair the prompt's ids, and the answer's with the end of turn."""
        return [self.chat.pair(prompt, answer) for prompt, answer in pairs]

    @contextlib.contextmanager
    def steered(self, vectors: Mapping[int, NDArray[np.float32]], strength: float) -> Iterator[None]:
        """While entered, `strength` times each vector is added to what its block puts out, at every token.

        Blocks are counted from 1. Raises ServerRefuses for servers without the worker extension, ValueError for a block
        or a width that the model does not have, and at its end BadAnswer when a server lost the vectors meanwhile.
        """
        layers, hidden = self._sizes
        for block, vector in vectors.items():
            if not 1 <= block <= layers or vector.shape != (hidden,):
                raise ValueError(
                    f"block {block} and a vector of shape {vector.shape} do not fit a model of {layers} blocks of "
                    f"width {hidden}"
                )
        before = self._steering
        pushed = before.plus(vectors, strength)
        self._background.run(self._fleet.steer(pushed, layers=layers, hidden=hidden))
        self._steering = pushed
        try:
            yield
            self._background.run(self._fleet.steered(pushed))
        finally:
            self._steering = before

    def address(self) -> dict[str, str]:
        """What a request must say to be answered as this model answers now: `model`, `salt` and `steering`."""
        ready = [replica for replica in self._fleet.replicas if replica.serves(self._version)]
        name = ready[0].name_of(self._version) if ready else self._version.name
        return {"model": name, "salt": str(self._extra()["cache_salt"]), "steering": self._steering.argument}

    def look(
        self, adapter: Path | None, keep: Sequence[Path | None], *, again: bool = False, wake: bool = False
    ) -> list[dict[str, Any]]:
        """See that every replica that is up serves `adapter` as trained, and unload versions that are not in `keep`.

        `wake` wakes one that sleeps: whoever put it to sleep is gone. What is not kept is removed from where it was
        published, too, an hour after that.
        Per replica where it stands: see `Replica.told`. Never waits and never raises ServeError: that is in the rows.
        What was not published cannot be attested: its state is "unpublished". Where a replica serves it, it is in use
        from now on. Raises AdapterError when `adapter` is no usable one.
        """
        wanted = self._versions.of(adapter)
        if not (wanted.published and self._versions.of(None).published):
            why = f"{wanted.folder}: is not published yet; the training process does that when it is free"
            return [{**replica.told(wanted), "state": "unpublished", "why": why} for replica in self._fleet.replicas]
        kept = [wanted]
        for other in keep:
            with contextlib.suppress(AdapterError):  # whoever removed its folder does not want it kept
                kept.append(self._versions.of(other))

        async def one(replica: Replica) -> dict[str, Any]:
            with contextlib.suppress(ServeError):
                if wake and await replica.server.asleep():
                    log.warning("%s: sleeps, and nothing is trained; it is woken", replica.server.url)
                    await replica.server.wake()
                await replica.settle(wanted, again=again)
                await replica.unload(kept)
            return replica.told(wanted)

        try:
            rows = self._background.run(self._fleet.each(one))
        except AdapterError as error:  # damaged where it was published: publishing again mends it
            return [{**one.told(wanted), "state": "unpublished", "why": str(error)} for one in self._fleet.replicas]
        self._versions.prune(kept, older=PRUNED)
        if any(replica.serves(wanted) for replica in self._fleet.replicas):
            self._using, self._version = adapter, wanted
        return rows

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """The servers sleep meanwhile; afterwards they are awake, and whatever they serve is attested anew.

        Raises ServerRefuses for one that cannot sleep. One that is down has nothing to free.
        """
        try:
            self._background.run(self._sleep())
            yield
        finally:
            self._background.run(self._wake())

    def close(self) -> None:
        """Close the connections."""

        async def all() -> None:
            for replica in self._fleet.replicas:
                await replica.server.close()

        self._background.run(all())
        self._background.close()

    # --- below, coroutines run in the background thread

    def _extra(self) -> dict[str, Any]:
        """What belongs to every request: whose cache it may share, and how it is steered."""
        salt = "+".join(filter(None, [self._version.salt, self._steering.salt]))
        return {"cache_salt": salt} | ({"vllm_xargs": self._steering.xargs} if self._steering.terms else {})

    def _all(self, work: Sequence[Callable[[], Coroutine[Any, Any, T]]], checkpoint: Checkpoint) -> list[T]:
        """Everything at once; the servers' slots bound what is in flight. On an error the rest is cancelled.

        All of it is asked for again when a server turns out to be another process than the one that was attested.
        """
        done = 0

        async def counted(one: Callable[[], Coroutine[Any, Any, T]]) -> T:
            nonlocal done
            found = await one()
            done += 1
            return found

        async def together() -> list[T]:
            nonlocal done
            for _ in range(TRIES):
                done = 0
                tasks = [asyncio.ensure_future(counted(one)) for one in work]
                try:
                    found = list(await asyncio.gather(*tasks))
                finally:
                    for task in tasks:
                        task.cancel()
                if not work or await self._fleet.unchanged():
                    return found
                log.warning("a server was started again unnoticed: what it answered is asked for again")
            raise ServerDown("the servers are started again and again, so that nothing they answer can be trusted")

        found = self._background.run(together(), lambda: checkpoint(done, len(work)))
        checkpoint(len(work), len(work))
        return found

    async def _sleep(self) -> None:
        await asyncio.to_thread(self._versions.sleeps)
        for replica in self._fleet.replicas:
            replica.forget()
            await self._fleet.asleep(replica, *self._level_and_mode)

    async def _wake(self) -> None:
        for replica in self._fleet.replicas:
            replica.forget()
            try:
                await replica.server.wake()
            except ServeError as error:  # whether it is up, and awake, is seen before anything is asked of it
                log.warning("%s", error)
