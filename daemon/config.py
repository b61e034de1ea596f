"""Configuration: TOML in, frozen settings out; every mistake is named with its file, line, key and the remedy.

Each room gets its own section and sees no other. Relative paths are relative to the configuration file.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from daemon.errors import ConfigError

WINDOW = re.compile(r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")


TALK = ("listening", "not_rushing", "push_back", "general")  # what the simulated user can be about


class Section(BaseModel):
    """A section of the file: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DaemonSection(Section):
    """[daemon]: where state lives and how it talks."""

    state: Path = Path(".dreamloop")
    seed: int = 0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "console", "json"] = "auto"
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(
        default=9464, ge=0, le=65535, description="0 picks a free port; it is in `dreamctl status`"
    )


class StoreSection(Section):
    """[store]: the database. Empty means SQLite in the state folder."""

    url: str = ""


class ModelSection(Section):
    """[model]: the base model. path "nano" is the embedded one; anything else is a folder."""

    backend: str = "hf"
    path: str = "nano"
    threads: int = Field(default=1, ge=1, le=256)
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    generate_batch: int = Field(default=256, ge=1, description="answers generated together")
    max_tokens: int = Field(default=48, ge=1)


class ServeSection(Section):
    """[serve]: how the serving adapter answers. Everything after `steering` is for backend "vllm"."""

    backend: str = Field(default="hf", description='"hf": in a process of the daemon; "vllm": a server')
    temperature: float = Field(default=1.0, ge=0, le=2)
    steering: list[str] = Field(default=[], description="behaviours whose steering vector is applied to what is served")
    url: str | list[str] = Field(default="http://127.0.0.1:8000", description="the server, or a list of its replicas")
    api_key_file: Path | None = Field(default=None, description="a file with the server's API key")
    concurrency: int = Field(default=32, ge=1, description="requests in flight at once, per replica")
    timeout_seconds: float = Field(default=120.0, gt=0, description="for one request")
    patience_seconds: float = Field(default=300.0, ge=0, description="how long work waits for a server that is down")
    attest_minutes: float = Field(default=15.0, gt=0, description="how often what is served is attested again")
    alias: str = Field(default="dreamloop", min_length=1, description="the model name that your clients use")
    gateway_port: int = Field(
        default=0, ge=0, le=65535, description="where the alias is served on loopback; 0: nowhere"
    )
    managed: str = Field(default="", description="the vllm command that the daemon starts; empty: the server is yours")
    arguments: list[str] = Field(default=[], description="more arguments for a managed server")
    environment: dict[str, str] = Field(default={}, description="more environment for a managed server")
    sharing: str = Field(default="separate", description="of one GPU with training: separate, coexist or sleep")
    memory: float = Field(
        default=0.5, gt=0, lt=1, description="share of the GPU's memory that is the server's (coexist)"
    )
    publish: Path | None = Field(default=None, description="where versions are published; <state>/served if not given")
    published_as: str = Field(default="", description="that folder as the server sees it, where it is another path")

    @property
    def urls(self) -> list[str]:
        """The replicas' addresses without a slash at the end."""
        return [url.rstrip("/") for url in ([self.url] if isinstance(self.url, str) else self.url)]


class TrafficSection(Section):
    """[traffic]: the simulated user of the embedded default. Off when you point dreamloop at your own logs."""

    enabled: bool = False
    conversations: int = Field(default=48, ge=1)
    mix: dict[str, float] = {"listening": 0.4, "not_rushing": 0.3, "push_back": 0.15, "general": 0.15}


class IntakeSection(Section):
    """[intake]: the conversation logs."""

    watch: list[Path] = []
    format: str = "auto"
    patterns: list[str] = ["*.jsonl"]
    rescan_seconds: float = Field(default=30.0, gt=0)
    max_line_bytes: int = Field(default=16_000_000, ge=1024, description="longer lines are passed over, with a word")
    context_turns: int = Field(default=4, ge=0, description="earlier turns kept as a turn's context")


class GraphSection(Section):
    """[graph]: the memory graph. path "bundled" is the small vault in the package."""

    path: str = "bundled"
    format: str = "auto"
    surfaced: int = Field(default=3, ge=1, description="nodes surfaced per turn at most")
    threshold: float = Field(default=0.15, ge=0, le=1)


class BehaviorsSection(Section):
    """[behaviors]: what is trained, and what must not get worse."""

    folder: str = "bundled"
    train: list[str] = ["listening", "not_rushing"]
    guard: list[str] = ["push_back"]


class ScheduleSection(Section):
    """[schedule]: when heavy work may run."""

    cycle: str = Field(default="continuous", description='"continuous", "every 15m", "cron 0 3 * * *" or "manual"')
    window: str = Field(default="always", description='"always", "idle" or "HH:MM-HH:MM" (local time)')
    idle_minutes: float = Field(default=10.0, ge=0)
    pause_between_seconds: float = Field(default=2.0, ge=0)


class DreamSection(Section):
    """[dream]: how many practice scenarios, and how hot."""

    policy: str = "allocate"
    count: int = Field(default=64, ge=1)
    temperature: float = Field(default=0.7, ge=0.05, le=2)
    adaptive: bool = True
    target_failure: float = Field(default=0.5, gt=0, lt=1)


class GradeSection(Section):
    """[grade]: predicted difficulty, then k answers."""

    policy: str = "logistic"
    answers: int = Field(default=4, ge=1)


class LearnSection(Section):
    """[learn]: one incremental update."""

    policy: str = "compose"
    rank: int = Field(default=8, ge=1)
    alpha: int = Field(default=16, ge=1)
    targets: str | list[str] = "all-linear"
    learning_rate: float = Field(default=1e-3, gt=0)
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=8, ge=1)
    minimum: int = Field(default=24, ge=1, description="examples needed before an update is worth it")
    maximum: int = Field(default=64, ge=1)
    dream_share: float = Field(default=0.6, ge=0, le=1)
    general_share: float = Field(default=0.25, ge=0, le=1)
    counter_share: float = Field(default=0.25, ge=0, le=1)
    replay_share: float = Field(default=0.25, ge=0, le=1, description="earlier examples, per fresh one")
    source_quota: float = Field(default=0.25, gt=0, le=1, description="largest share of a batch from one conversation")
    guided_answers: int = Field(default=4, ge=1)
    general_examples: str = "bundled"


class JudgeSection(Section):
    """[judge]: the promotion gate."""

    policy: str = "gate"
    alpha: float = Field(default=0.05, gt=0, lt=1)
    minimum_gain: float = Field(default=0.05, ge=0, lt=1, description="smallest fall of a failure rate that counts")
    probes: int = Field(default=240, ge=20, description="rotating target probes per behaviour, counter probes half")
    samples: int = Field(default=2, ge=1, description="answers per probe")
    second_look: int = Field(
        default=6, ge=0, description="answers per probe where the first look left it open; 0: none"
    )
    general_probes: str = "bundled"
    general_delta: float = Field(default=0.05, gt=0, lt=1)
    canaries: int = Field(default=100, ge=0)
    agreement_floor: float = Field(
        default=0.6, ge=-1, le=1, description="kappa with hand labels that a judge which asks a model must reach"
    )
    max_kl: float = Field(default=1.0, gt=0, description="nats per token, base to candidate, on neutral text")
    parity_tolerance: float = Field(default=0.02, gt=0, description="nats per token, as trained against as served")


class GuardSection(Section):
    """[guard]: the watch after a promotion."""

    channels: list[Literal["graph", "signal", "probe"]] = ["graph", "signal", "probe"]
    arl: float = Field(default=100_000.0, gt=1, description="observations to a false alarm, on average at least")
    probes: int = Field(default=60, ge=1)
    rollback: bool = True


class ExperimentsSection(Section):
    """[experiments]: the seven questions."""

    observe: bool = Field(default=True, description="a small fixed budget around every training session")
    apply: Literal["propose", "auto"] = Field(default="propose", description="what happens to advice")
    harness: Path | None = Field(default=None, description="a folder with tasks of lm-evaluation-harness, for q6")


class Config(Section):
    """The whole configuration. `file` is where it came from."""

    daemon: DaemonSection = DaemonSection()
    store: StoreSection = StoreSection()
    model: ModelSection = ModelSection()
    serve: ServeSection = ServeSection()
    traffic: TrafficSection = TrafficSection()
    intake: IntakeSection = IntakeSection()
    graph: GraphSection = GraphSection()
    behaviors: BehaviorsSection = BehaviorsSection()
    schedule: ScheduleSection = ScheduleSection()
    dream: DreamSection = DreamSection()
    grade: GradeSection = GradeSection()
    learn: LearnSection = LearnSection()
    judge: JudgeSection = JudgeSection()
    guard: GuardSection = GuardSection()
    experiments: ExperimentsSection = ExperimentsSection()
    file: Path = Field(default=Path("config.toml"), exclude=True)

    @property
    def state(self) -> Path:
        """The state folder, absolute."""
        return self.resolve(self.daemon.state)

    def resolve(self, path: str | Path) -> Path:
        """A path of the file, made absolute against the file's folder; `~` is the home folder."""
        return (self.file.parent / Path(path).expanduser()).resolve()


def load(file: Path, *, state: Path | None = None) -> Config:
    """Read and validate `file`. `state` (from the command line) overrides [daemon] state.

    Raises ConfigError naming file, line, key and the nearest valid key or the accepted values.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such file; give one with --config FILE") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from None
    if state is not None:
        raw.setdefault("daemon", {})["state"] = str(state.resolve())
    return build(raw, file=file.resolve(), text=text)


def build(raw: dict[str, Any], *, file: Path, text: str = "") -> Config:
    """Validate plain data; see `load`."""
    if "file" in raw:
        raise ConfigError(f"{file}: unknown key `file`; remove it")
    try:
        config = Config.model_validate({**raw, "file": file})
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(e, raw, file, text) for e in error.errors())) from None  # type: ignore[arg-type]
    _check(config)
    return config


def _explain(error: dict[str, Any], raw: dict[str, Any], file: Path, text: str) -> str:
    where = [str(part) for part in error["loc"]]
    key = ".".join(where)
    place = f"{file}:{_line(where, text)}" if text and _line(where, text) else str(file)
    if error["type"] == "extra_forbidden":
        parent: Any = Config
        for part in where[:-1]:
            parent = parent.model_fields[part].annotation
        valid = [name for name in parent.model_fields if name != "file"]
        near = difflib.get_close_matches(where[-1], valid, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"valid keys here: {', '.join(valid)}"
        return f"{place}: unknown key `{key}`; {hint}"
    return f"{place}: `{key}` = {error.get('input')!r}: {error['msg'][0].lower() + error['msg'][1:]}"


def _line(where: list[str], text: str) -> int | None:
    """The line on which a key stands, for messages; None when it cannot be told."""
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if match := re.match(r"^\[([\w.\-]+)\]", stripped):
            section = match.group(1)
            if section == where[0] and len(where) == 1:
                return number
        elif (match := re.match(r"^([\w\-]+)\s*=", stripped)) and [*section.split("."), match.group(1)] == where[
            : len(section.split(".")) + 1
        ]:
            return number
    return None


def _check(config: Config) -> None:
    """What one field cannot know about another."""
    window = config.schedule.window
    if window not in ("always", "idle") and not WINDOW.match(window):
        raise ConfigError(f'{config.file}: `schedule.window` = {window!r}: write "always", "idle" or "HH:MM-HH:MM"')
    both = set(config.behaviors.train) & set(config.behaviors.guard)
    if both:
        raise ConfigError(
            f"{config.file}: `behaviors.guard` names {sorted(both)}, which `behaviors.train` names too; keep one"
        )
    if not config.behaviors.train:
        raise ConfigError(f"{config.file}: `behaviors.train` is empty; name at least one behaviour")
    named = [*config.behaviors.train, *config.behaviors.guard]
    if strange := sorted(set(config.serve.steering) - set(named)):
        raise ConfigError(
            f"{config.file}: `serve.steering` names {strange}, which `[behaviors]` does not; it has {', '.join(named)}"
        )
    if len(set(config.serve.steering)) < len(config.serve.steering):
        raise ConfigError(f"{config.file}: `serve.steering` names a behaviour twice; once is enough")
    if not config.serve.urls or not all(re.fullmatch(r"https?://[^/\s]+(/\S*)?", url) for url in config.serve.urls):
        raise ConfigError(
            f'{config.file}: `serve.url` = {config.serve.url!r}: write "http://HOST:PORT", or a list of such'
        )
    if config.learn.general_share + config.learn.counter_share >= 1:
        raise ConfigError(
            f"{config.file}: `learn.general_share` and `learn.counter_share` leave no room for what was learned; "
            "together they must stay below 1"
        )
    if config.traffic.enabled and config.model.path != "nano":
        raise ConfigError(
            f"{config.file}: `traffic.enabled` lets a simulated user of nano's world talk to {config.model.path}; "
            "set it to false"
        )
    if unknown := set(config.traffic.mix) - set(TALK):
        raise ConfigError(
            f"{config.file}: `traffic.mix` names {sorted(unknown)}; nano's users talk of {', '.join(TALK)}"
        )
    if config.learn.minimum > config.learn.maximum:
        raise ConfigError(
            f"{config.file}: `learn.minimum` is larger than `learn.maximum`; lower it to {config.learn.maximum}"
        )
