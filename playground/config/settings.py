"""Environment and spaces.yaml become one ``Settings`` value, which is passed in, never global.

    PLAYGROUND_HOME      where everything is written (default: the platform's user cache folder)
    PLAYGROUND_SPACE     path of spaces.yaml (default: the checkout's, or the one inside the installed package)
    PLAYGROUND_CATALOG   path of catalog.yaml (default: inside the package)
    PLAYGROUND_HARDWARE  path of hardware.yaml, what rented machines cost (default: inside the package)
    PLAYGROUND_MEMORY_MB what all loaded models together may take (default: limits.memory_mb of spaces.yaml, else
                         80 % of what the machine allows)
    PLAYGROUND_THREADS   most threads one model may use (default: the cores this process may run on)
    PLAYGROUND_KV_BITS   bits of a key or value in the cache of the playground's kernels, 16 or 8 (docs/engine.md)
    PLAYGROUND_REMOTES   models served elsewhere, as JSON (docs/remote.md), beside those of spaces.yaml
    PLAYGROUND_AUDIENCE  public or own: whether strangers use the web app (default: app.audience of spaces.yaml, else
                         public on a Space, beyond loopback and under further names)
    PLAYGROUND_LOGIN     none, password or hugging-face: how visitors sign in (default: app.login of spaces.yaml, else
                         password where PLAYGROUND_USERS is set)
    PLAYGROUND_USERS     who may open the page, NAME:PASSWORD with commas between them (default: whoever reaches it)
    PLAYGROUND_PREPARED_FROM a repository of the Hub with prepared artifacts, OWNER/NAME[#REVISION], instead of
                         app.prepared_from of spaces.yaml; empty for none
    PLAYGROUND_HOSTS     further names that the web app answers to, with commas between them
    PLAYGROUND_FRAMES    websites that may show the web app in a frame, with commas between them, beside its own
    PLAYGROUND_API_KEYS  keys of programs that may use the OpenAI-compatible API, with commas between them (docs/api.md)
    PLAYGROUND_SECRET    what visitors' cookies are signed with, where several replicas serve them (default: made once
                         and kept under PLAYGROUND_HOME)
    PLAYGROUND_METRICS_KEY what whoever reads /metrics has to send where strangers come (docs/operations.md)
    PLAYGROUND_LOG       text or json: how the servers write their log
    PLAYGROUND_KEEP_DAYS how long results are kept (default: for ever; where strangers come limits.max_stored_days)
    PLAYGROUND_RAY       address of a Ray cluster whose replicas answer suites (docs/scale.md); local starts one here
    PLAYGROUND_RAY_REPLICAS how many replicas of a model, 2 by default
    HOST, PORT           where the web app listens
    PLAYGROUND_OLLAMA, PLAYGROUND_LMSTUDIO   where other programs keep GGUF files, or off (``stores``)

``PLAYGROUND_LANGUAGE``, the language of messages for everybody, is read by ``translations``.

It knows names and limits; it does not know what a model or a Space is.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import platformdirs

from playground.config import validation, variables
from playground.config.endpoints import load_remotes
from playground.config.logins import NO_HUB_LOGIN, HubLogin, Login, Users, load_hub_login, load_login, load_users
from playground.config.stores import lmstudio_folders, ollama_folders
from playground.config.variables import AUDIENCES, LOG_FORMATS, Audience, LogFormat
from playground.errors import ConfigError
from playground.messages import msg
from playground.paths import CATALOG, HARDWARE, SPACE
from playground.records import Remote, Request
from playground.system.cpu import usable_cores

if TYPE_CHECKING:
    from playground.config.schema import AppBlock


MayAdd = Literal["nobody", "signed-in", "everyone"]

SHORT_CONNECTIONS = 44
"""For requests that are answered at once."""


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask for, and what all models may take; from the ``limits`` block of spaces.yaml. None stands
    for ``none``: no limit.

    Attributes:
        max_models: Columns of one comparison, or models of another experiment.
        max_new_tokens: Of one answer.
        max_prompt_chars: Of prompt, system prompt and messages together.
        max_stop_strings: Of one request.
        max_stop_chars: Of one stop string.
        max_search_chars: Of what models or the history are searched for.
        max_call_bytes: Of one call's body, of the page and of gradio's endpoints.
        max_api_call_bytes: The same of the OpenAI-compatible API.
        max_sessions: Visitors whose comparisons are looked at at the same time.
        stall_timeout_s: A worker that reports nothing for so long is ended.
        max_unfinished: Comparisons of one visitor that wait or run.
        max_unfinished_of_all: And of all visitors; half of them of one address.
        max_suite_answers: Of one visitor's suite.
        max_waiting: Events of one visitor that wait for the page's server.
        max_api_waiting: Requests of one caller of the API that wait.
        max_api_waiting_of_all: And of all callers.
        max_pages: Pages that one visitor has open.
        max_pages_of_all: And all visitors; half of them of one address. Each takes some 25 kB, and three connections.
        max_page_loads_per_minute: How often one visitor may fetch the page or what it is made of, half a MB each.
        max_reads_per_minute: Streams of answers, rows and files that one visitor's pages and programs ask for.
        max_calls_per_minute: What one visitor's pages and programs send, each click included.
        max_wrong_passwords: Different ones of one address, within five minutes; four times as many for one name.
        max_tokens_per_day: Read and written for one visitor.
        max_run_s: For which one experiment has the machine, in seconds.
        visitors_per_address: As much as so many visitors may have, everybody from one address may have together.
        left_s: After so many seconds without a page of theirs, a visitor's comparisons give way to those of others.
        prepared_gb: The disk that models which visitors add may take, in GB of 10^9 bytes; 0: they can add none.
        max_stored: Comparisons, and measurements, that are kept where strangers come: they must not fill the disk.
        max_stored_each: The same of one visitor.
        max_stored_days: How long they are kept there.
        memory_mb: Of all loaded models together, in MB of 10^6 bytes; None for a share of what the machine allows.
    """

    max_models: int = 8
    max_new_tokens: int = 512
    max_prompt_chars: int = 20_000
    max_stop_strings: int = 16
    max_stop_chars: int = 1000
    max_search_chars: int = 500
    max_call_bytes: int = 1_000_000
    max_api_call_bytes: int = 8_000_000
    max_sessions: int = 8
    stall_timeout_s: float = 120.0
    max_unfinished: int = 3
    max_unfinished_of_all: int = 16
    max_suite_answers: int = 1000
    max_waiting: int = 8
    max_api_waiting: int = 64
    max_api_waiting_of_all: int = 256
    max_pages: int = 40
    max_pages_of_all: int = 200
    max_page_loads_per_minute: int | None = 30
    max_reads_per_minute: int | None = 480
    max_calls_per_minute: int | None = 240
    max_wrong_passwords: int | None = 10
    max_tokens_per_day: int | None = 200_000
    max_run_s: float | None = 600.0
    visitors_per_address: int = 8
    left_s: float = 2.0
    prepared_gb: float | None = 20.0
    max_stored: int = 2000
    max_stored_each: int = 200
    max_stored_days: float = 30.0
    memory_mb: float | None = None

    @property
    def connections(self) -> int:
        """Those that the app keeps: three of each page (its heartbeat, its events, what it watches), one of each
        request of the API that waits, and some for what is answered at once.
        """
        return 3 * self.max_pages_of_all + self.max_api_waiting_of_all + SHORT_CONNECTIONS

    @property
    def api_connections(self) -> int:
        """Those that the API keeps where it stands alone: some of its callers wait, others keep theirs for later."""
        return 2 * self.max_api_waiting_of_all

    def usual_tokens(self, usual: int = Request.max_new_tokens) -> int:
        """Most tokens of an answer where nobody says how many: as usual, within the limit."""
        return min(usual, self.max_new_tokens)


@dataclass(frozen=True)
class Settings:
    """Where and how this playground runs.

    Attributes:
        memory_mb: What all loaded models together may take; None for a share of what the machine or container allows.
        models: What the app serves.
        space_models: What it serves instead on a Space that reaches the Hub; empty for the same.
        hosts: Names that the web app answers to beside this machine's own, each ``NAME`` or ``NAME:PORT``.
        frames: Websites that may show the web app in a frame, as CSP's ``frame-ancestors`` has them.
        secret: What visitors' cookies are signed with; empty for one that is made and kept.
        ollama, lmstudio: Where these keep their models.
        audience: Who uses the web app; None for what ``strangers`` finds.
        may_add: Who may have models prepared that are not served; None: nobody where strangers come, else everyone.
        login: How visitors sign in, as it was set; None for what ``signing_in`` finds.
        users: Names and passwords of those who may open the page; without any, whoever reaches it.
        hub_login: What a Space signs visitors in with; empty elsewhere.
        prepared_from: ``OWNER/NAME[#REVISION]``, a repository of the Hub with artifacts that somebody prepared; empty
            for none.
        api: Whether the OpenAI-compatible API stands beside the app; None: where no strangers come.
        api_keys: Who asks there has to send one of these; without any, everybody may ask.
        metrics_key: Who reads ``/metrics`` has to send it; without it, nobody can where strangers come.
        log: How servers write their log.
        keep_days: How long results are kept; None for ever.
        ray: Address of a Ray cluster that shares the work of suites; empty for none.
        ray_replicas: Of each model there.
    """

    home: Path
    space_file: Path
    catalog_file: Path
    threads: int
    kv_bits: int = 16
    host: str = "127.0.0.1"
    port: int = 7860
    models: tuple[str, ...] = ()
    space_models: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    on_space: bool = False
    memory_mb: float | None = None
    hardware_file: Path = HARDWARE
    remotes: tuple[Remote, ...] = ()
    hosts: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    secret: str = field(default="", repr=False)
    ollama: tuple[Path, ...] = ()
    lmstudio: tuple[Path, ...] = ()
    prepared_from: str = ""
    audience: Audience | None = None
    may_add: MayAdd | None = None
    login: Login | None = None
    users: Users = field(default=(), repr=False)
    hub_login: HubLogin = NO_HUB_LOGIN
    api: bool | None = None
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    metrics_key: str = field(default="", repr=False)
    log: LogFormat = "text"
    keep_days: int | None = None
    ray: str = ""
    ray_replicas: int = 2

    @property
    def database(self) -> Path:
        return self.home / "playground.sqlite3"

    @property
    def reached_remotes(self) -> tuple[Remote, ...]:
        """``remotes`` as this app reaches them: where strangers ask, at public addresses alone."""
        return tuple(replace(remote, public=self.strangers) for remote in self.remotes)

    @property
    def strangers(self) -> bool:
        """Whether the audience is public: as it was set, else where others than the people at this machine can use the
        web app: it is a Space, listens beyond loopback, or is known by a further name, as behind a proxy.
        """
        if self.audience is not None:
            return self.audience == "public"
        return self.on_space or bool(self.hosts) or not is_loopback(self.host)

    @property
    def adding(self) -> MayAdd:
        """Who may have models prepared that are not served."""
        return self.may_add or ("nobody" if self.strangers else "everyone")

    @property
    def signing_in(self) -> Login:
        """How visitors sign in: as it was set, but with Hugging Face on a Space alone where there are passwords for
        elsewhere; where nothing was set, by password if there are any.
        """
        if self.login == "hugging-face" and self.users and not self.on_space:
            return "password"
        return self.login or ("password" if self.users else "none")

    @property
    def api_is_open(self) -> bool:
        """Whether the OpenAI-compatible API stands beside the app."""
        return not self.strangers if self.api is None else self.api


def own_settings(env: Mapping[str, str] | None = None) -> Settings:
    """As ``load_settings``, for a command: whoever types here is no stranger, whatever else is served."""
    return replace(load_settings(env), audience="own")


def load_settings(env: Mapping[str, str] | None = None, document: Any = None) -> Settings:
    """Read the environment and spaces.yaml.

    Args:
        env: In place of this process's.
        document: Of spaces.yaml, where it was read already.

    Raises:
        ConfigError: A number is not a number, or spaces.yaml is not what it should be.
    """
    env = os.environ if env is None else env
    space_file = Path(env.get("PLAYGROUND_SPACE") or SPACE)
    if document is None:
        document = validation.read_yaml(space_file, msg("Restore spaces.yaml or set PLAYGROUND_SPACE."))
    app = _app_block(document, str(space_file))
    limits = Limits(**app.limits.model_dump(exclude_unset=True)) if app.limits else Limits()
    on_space = bool(env.get("SPACE_ID"))
    home = env.get("PLAYGROUND_HOME") or platformdirs.user_cache_dir("open-model-playground")
    return Settings(
        home=Path(home).expanduser(),
        space_file=space_file,
        catalog_file=Path(env.get("PLAYGROUND_CATALOG") or CATALOG),
        threads=variables.number(env, "PLAYGROUND_THREADS", usable_cores(), least=1),
        kv_bits=variables.kv_bits(env),
        host=env.get("HOST") or ("0.0.0.0" if on_space else "127.0.0.1"),
        port=variables.number(env, "PORT", 7860, least=0, most=65535),
        models=tuple(app.models),
        space_models=tuple(app.space_models or ()),
        limits=limits,
        on_space=on_space,
        memory_mb=variables.number(env, "PLAYGROUND_MEMORY_MB", 0, least=1) or limits.memory_mb,
        hardware_file=Path(env.get("PLAYGROUND_HARDWARE") or HARDWARE),
        remotes=load_remotes(app.remotes, env, str(space_file)),
        hosts=variables.hosts(env, on_space=on_space),
        frames=variables.frames(env, on_space=on_space),
        secret=variables.secret(env),
        ollama=ollama_folders(env),
        lmstudio=lmstudio_folders(env),
        audience=variables.word(env, "PLAYGROUND_AUDIENCE", AUDIENCES) or app.audience,
        may_add=app.may_add,
        login=load_login(env) or app.login,
        users=load_users(env),
        hub_login=load_hub_login(env if on_space else {}),
        prepared_from=variables.prepared_from(env.get("PLAYGROUND_PREPARED_FROM", app.prepared_from or "")),
        api=app.api,
        api_keys=variables.api_keys(env),
        metrics_key=variables.metrics_key(env),
        log=variables.word(env, "PLAYGROUND_LOG", LOG_FORMATS) or "text",
        keep_days=variables.number(env, "PLAYGROUND_KEEP_DAYS", 0, least=1) or None,
        ray=env.get("PLAYGROUND_RAY", "").strip(),
        ray_replicas=variables.number(env, "PLAYGROUND_RAY_REPLICAS", 2, least=2),
    )


def is_loopback(host: str) -> bool:
    """Whether what listens on ``host`` is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def check_app(document: Any, where: str) -> dict[str, Any]:
    """The ``app`` block of spaces.yaml, before its keys are looked at.

    Raises:
        ConfigError: It names no models.
    """
    app = document.get("app") if isinstance(document, dict) else None
    if not isinstance(app, dict) or not app.get("models"):
        raise ConfigError(
            msg("{path} has no list of models under app", path=where),
            msg("Add app: {{models: [smollm2-135m-instruct]}}."),
        )
    return app


def _app_block(document: Any, where: str) -> AppBlock:
    from playground.config.schema import AppBlock

    return validation.checked(AppBlock, check_app(document, where), f"{where}: app")
