"""One replica: a server, and which versions it was seen to serve as trained since it started.

load -> attest: nothing is asked of a version on a replica before that, and a replica that was restarted begins anew.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from daemon.errors import BadAnswer, NotAttested, ServeError, ServerAsleep, ServerDown, ServerRefuses, WrongServer
from daemon.models import loading
from daemon.models.vllm.attesting import attested, same_template
from daemon.models.vllm.modules import MODULES, dropped, trained
from daemon.models.vllm.server import Facts, Server
from daemon.models.vllm.steering import HELLO, STEER, Steering, applied, need, stored
from daemon.models.vllm.versions import Version, Versions
from policies.serve.attestation import Attestation

log = logging.getLogger("dreamloop.serve")


class Replica:
    """`versions` are what it may be asked for, `fingerprint` is the base's; `tolerance` is in nats per token.

    What was seen holds for `every` seconds; then it is attested again before it is used.
    """

    def __init__(
        self, server: Server, versions: Versions, *, fingerprint: str, tolerance: float, every: float = math.inf
    ) -> None:
        self.server = server
        self.versions = versions
        self.facts: Facts | None = None
        self.attestations: dict[str, Attestation] = {}  # by the version's salt, since the server started
        self.compared: dict[str, float] = {}  # when that was (epoch seconds)
        self.in_flight = 0
        self.trouble: ServeError | None = None
        self.base = versions.of(None)
        self._slept = ""  # what `versions.slept` said when the server was last looked at
        self._fingerprint = fingerprint
        self._tolerance = tolerance
        self._every = every
        self._settling = asyncio.Lock()
        self._stored: set[str] = set()  # vectors that the server has
        self._hello: list[Any] = []

    def serves(self, version: Version) -> bool:
        """Was it attested, as far as is known?"""
        found = self.attestations.get(version.salt)
        return found is not None and found.ok and self.facts is not None

    def name_of(self, version: Version) -> str:
        """What the server calls a version."""
        if version.is_base:
            return self.facts.base if self.facts else ""
        return version.name

    async def settle(self, version: Version, *, again: bool = False) -> Attestation:
        """See that the server has this version and answers with it; `again` also when that was seen before.

        Raises ServeError: WrongServer for another base, NotAttested when it answers with something else.
        """
        async with self._settling:
            try:
                found = await self._settle(version, again)
            except ServeError as error:
                self.trouble = error
                raise
            self.trouble = None
            return found

    async def unload(self, keep: Collection[Version]) -> list[str]:
        """Unload every version of ours but these, once no request runs on it any more; what was unloaded."""
        facts = await self.server.facts()
        if self.facts is None or facts.started != self.facts.started:
            self.forget()
            return []
        names = {version.name for version in keep}
        gone = [
            name
            for name, path in facts.adapters.items()
            if self.versions.own(path) and name not in names and name not in facts.busy
        ]
        for name in gone:
            await self.server.unload(name)
        if gone:
            if self.facts is not None:
                left = {name: path for name, path in facts.adapters.items() if name not in gone}
                self.facts = replace(facts, adapters=left)
            salts = {version.salt for version in keep} | {self.base.salt}
            self.attestations = {salt: found for salt, found in self.attestations.items() if salt in salts}
        return gone

    async def steer(self, steering: Steering, *, layers: int | None = None, hidden: int | None = None) -> None:
        """Store what these vectors are on the server, where that is not done. Raises ServerRefuses.

        With the model's `layers` and width `hidden` it is asked first whether it can steer at all.
        """
        if layers is not None and hidden is not None:
            self._hello = await self.server.rpc(HELLO)
            need(self._hello, layers=layers, hidden=hidden)
        for name, vectors in steering.stored.items():
            if name not in self._stored:
                stored(await self.server.rpc(STEER, name, vectors), name)
                self._stored.add(name)

    async def steered(self, steering: Steering) -> None:
        """Did it keep the vectors since `steer` asked? Raises BadAnswer."""
        if self._hello:
            try:
                applied(self._hello, await self.server.rpc(HELLO), steering)
            except BadAnswer:
                self._stored.clear()
                raise

    def forget(self) -> None:
        """Whatever was seen of the server holds no more: it is looked at again before anything is asked of it."""
        self.facts = None
        self.attestations.clear()
        self.compared.clear()
        self._stored.clear()

    async def _settle(self, version: Version, again: bool) -> Attestation:
        try:
            facts = await self.server.facts()
        except ServerDown:
            self.forget()
            raise
        slept = await asyncio.to_thread(self.versions.slept)
        if self.facts is None or self.facts.started != facts.started or slept != self._slept:
            self.forget()  # waking has corrupted adapters elsewhere: what was seen before counts no more
            self._slept = slept
            await asyncio.to_thread(self._same_base, facts)  # reads gigabytes
        if await self.server.asleep():
            self.forget()
            raise ServerAsleep(f"{self.server.url}: is asleep (`serve.sharing`); it wakes when training is over")
        self.facts = facts
        base = await self._attest(self.base, facts, again=again)
        if version.is_base:
            return base
        there = facts.adapters.get(version.name)
        if there is not None and not self.versions.own(there):
            raise ServerRefuses(
                f"{self.server.url}: has {version.name} from {there}, which another state folder has published; give "
                "each state a server of its own"
            )
        if there != version.path:
            if there is not None:  # a name that got another path: both must go, so that the cache has another key
                await self.server.unload(version.name)
            self.attestations.pop(version.salt, None)
            await self.server.load(version.name, version.path)
        return await self._attest(version, facts, again=again)

    async def _attest(self, version: Version, facts: Facts, *, again: bool) -> Attestation:
        known = self.attestations.get(version.salt)
        if known is not None and known.ok and not again and self._age(version) < self._every:
            return known
        reference = await asyncio.to_thread(version.reference)
        name = facts.base if version.is_base else version.name  # a request that fails meanwhile clears self.facts
        if version.is_base and not again:
            await same_template(self.server, name, reference)
        if missing := await self._missing(version):
            words = f"{len(missing)} modules of the adapter are not there, {missing[0]} for one"
            found = Attestation(state="partial", words=words, apart=math.inf, excess=math.inf)
        else:
            found = await attested(self.server, name, version, reference, self._tolerance)
        self.attestations[version.salt] = found
        self.compared[version.salt] = time.time()
        told = known is not None and known.state == found.state  # every few seconds the same
        if found.ok:
            if not told:
                log.info("%s: attested %s: %s", self.server.url, name, found.words)
            return found
        if not told:
            log.error("%s: %s is not served as trained (%s): %s", self.server.url, name, found.state, found.words)
        if version.is_base:
            raise WrongServer(
                f"{self.server.url}: its base model is not the one that is trained here: {found.words}. Serve the "
                "folder of `model.path`; if it is the same model in another precision, raise `judge.parity_tolerance`"
            )
        raise NotAttested(f"{self.server.url}: lists {name} and does not serve it: {found.words}")

    async def _missing(self, version: Version) -> list[str]:
        """Modules of an adapter that the server does not hold. Only one with our extension tells; others answer only.

        Dropping a small one may hide within rounding, and is a wrong adapter all the same.
        """
        if version.is_base:
            return []
        try:
            held = await self.server.rpc(MODULES, version.name)
            return dropped(trained(await asyncio.to_thread(version.shapes)), held)
        except ServerRefuses:
            return []

    def _age(self, version: Version) -> float:
        """Seconds since it was compared; a clock that was set back makes everything old."""
        age = time.time() - self.compared.get(version.salt, -math.inf)
        return age if age >= 0 else math.inf

    def _same_base(self, facts: Facts) -> None:
        """Compare the weights where the server's folder can be read here; elsewhere attestation has to tell."""
        root = Path(facts.root)
        try:
            if not (root.is_dir() and any(root.glob("*.safetensors")) and (root / "tokenizer.json").is_file()):
                return
            theirs = loading.fingerprint(root)
        except OSError:  # another user's folder
            return
        if theirs != self._fingerprint:
            raise WrongServer(
                f"{self.server.url}: serves {root} (fingerprint {theirs[:12]}), and `model.path` has "
                f"{self._fingerprint[:12]}; start it on the folder of `model.path`"
            )

    def told(self, version: Version) -> dict[str, Any]:
        """Where it stands with a version, as plain data for `dreamctl status`.

        `compared_at` (epoch seconds) and `outcome` are of the last attestation, `apart` (nats per token; None also
        where the server's numbers are none) and `share` what it found. Of the base's, where that is what is wrong.
        """
        trouble = self.trouble
        at_fault = self.base if isinstance(trouble, WrongServer) else version
        found = self.attestations.get(at_fault.salt)
        if trouble is not None:
            state, why = trouble.state, str(trouble)
        elif found is not None:
            state, why = ("attested" if found.ok else "mismatch"), found.words
        else:
            state, why = "unknown", "not asked yet"
        return {
            "url": self.server.url,
            "state": state,
            "why": why,
            "version": self.facts.version if self.facts else None,
            "started": self.facts.started if self.facts else None,
            "serves": self.name_of(version) or None,
            "adapters": sorted(self.facts.adapters) if self.facts else [],
            "compared_at": self.compared.get(at_fault.salt),
            "outcome": found.state if found else None,
            "apart": found.apart if found and math.isfinite(found.apart) else None,
            "share": found.share if found else None,
            "distinct": found.distinct if found else None,
        }
