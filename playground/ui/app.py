"""``open-model-playground``, ``python app.py``: read the options, open the page, prepare the models behind it, and take
everything down again.

gradio is imported late, after the options were read and the port was found free: a wrong command is answered at once.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from playground import __version__
from playground.config.hosts import Hosts
from playground.config.logins import check_login
from playground.config.settings import Settings, load_settings
from playground.errors import ConfigError, PlaygroundError, UsageError
from playground.messages import Translatable, msg, render, spelt_out
from playground.system import ending, logs
from playground.system.threads import Threads
from playground.translations import for_terminal

if TYPE_CHECKING:
    import gradio as gr
    from starlette.applications import Starlette
    from starlette.routing import BaseRoute

    from playground.service import Playground
    from playground.ui.middleware import Doors

log = logging.getLogger(__name__)

OK, FAILED, WRONG = 0, 1, 2
END_S = 15.0
"""From SIGTERM or Ctrl-C until the process has ended in any case. Ordinarily it takes 1 to 8: what runs is stopped and
stored, pages are told, and gradio waits up to 5 s for what pages still have open."""
LAST_WORDS_S = 3.0
LOOK_S = 0.05


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the app until Ctrl-C or SIGTERM.

    Returns:
        The exit code: 0 after a clean end, 1 if the app could not run, 2 if the command was wrong.
    """
    try:
        settings = read_options(argv)
        check_login(settings)
        settings = replace(settings, port=free_port(settings.host, settings.port))
        return serve(settings)
    except (UsageError, ConfigError) as error:
        print(_said(msg("Error: {error}", error=error.message)), file=sys.stderr)
        return WRONG
    except PlaygroundError as error:
        print(_said(msg("Error: {error}", error=error.message)), file=sys.stderr)
        return FAILED


def read_options(argv: Sequence[str] | None) -> Settings:
    """The environment's settings, with the command's on top.

    Raises:
        SystemExit: An option is unknown or malformed (code 2), or help or the version was asked for (0).
        ConfigError: The environment or spaces.yaml is wrong.
    """
    about = "Compare small open models on your own prompt."
    parser = argparse.ArgumentParser(prog=Path(sys.argv[0]).name, description=about)
    parser.add_argument("--version", action="version", version=f"open-model-playground {__version__}")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1, or HOST)")
    parser.add_argument("--port", type=_port, help="port to listen on, 0 for any free one (default: 7860, or PORT)")
    parser.add_argument("--models", metavar="A,B", help="models to offer, instead of those in spaces.yaml")
    options = parser.parse_args(argv)
    settings = load_settings()
    if options.host is not None:
        settings = replace(settings, host=options.host)
    if options.port is not None:
        settings = replace(settings, port=options.port)
    if options.models is not None:
        models = tuple(name.strip() for name in options.models.split(",") if name.strip())
        if not models:
            parser.error("--models names no model")
        settings = replace(settings, models=models)
    return settings


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port, give a number from 0 to 65535")
    return int(text)


def free_port(host: str, port: int) -> int:
    """``port`` if it can be listened on, or any free one for 0.

    Raises:
        UsageError: It is taken, not allowed, or the host is not an address of this machine.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
            return int(probe.getsockname()[1])
    except socket.gaierror as error:
        raise UsageError(
            msg("'{host}' is not an address to listen on", host=host), msg("Try --host 127.0.0.1 or --host 0.0.0.0.")
        ) from error
    except OverflowError as error:
        raise UsageError(msg("{port} is not a port", port=port), msg("Give a number from 0 to 65535.")) from error
    except OSError as error:
        raise UsageError(
            msg("Port {port} on {host} can't be used: {reason}", port=port, host=host, reason=error.strerror),
            msg("Choose another one with --port or PORT, e.g. --port 7861; --port 0 takes any free one."),
        ) from error


def serve(settings: Settings) -> int:
    """Open the page, start preparing the served models, and wait for the signal to end."""
    signals = (signal.SIGINT, signal.SIGTERM)
    with ending.heard(END_S, *signals) as end, logs.written(settings.log), quiet_gradio(settings):
        from playground.ui.quick_import import import_gradio

        import_gradio()
        from playground.service import Playground
        from playground.ui import files, suite_views, watching
        from playground.ui.page import build_ui

        with Playground(settings) as playground:
            playground.settle_served()
            playground.use_lent_gpu()
            demo = build_ui(playground)
            routes = [each for part in (files, watching, suite_views) for each in part.routes(playground)]
            launch(demo, settings, routes, door_of(playground), playground)
            try:
                shown = f"http://{_shown(settings.host)}:{settings.port}"
                print(_said(msg("Open-Model Playground: {address} (Ctrl-C ends it)", address=shown)), flush=True)
                print(_said(audience_words(settings)), flush=True)
                print(_said(login_words(settings)), flush=True)
                log.info("listening", extra={"port": settings.port})
                playground.prepare_served()
                end.wait()
                log.info("ending")
                print(_said(msg("Ending: stopping the models.")), flush=True)
            finally:
                playground.close()  # first, so that runs end and their pages' streams with them
                wait_for_answers(demo)
                demo.close(verbose=False)
                log.info("ended")
                gc.freeze()  # the interpreter's end would look at every object of gradio once more, for a second
    return OK


def audience_words(settings: Settings) -> Translatable:
    """Who is taken to use the app, for whoever started it."""
    if not settings.strangers:
        return msg("Audience: own. Whoever reaches this address may do all that you may.")
    adding = {
        "nobody": msg("nobody may add models"),
        "signed-in": msg("who is signed in may add models"),
        "everyone": msg("everyone may add models"),
    }[settings.adding]
    return msg("Audience: public. Visitors run what is served or ready; {adding}.", adding=adding)


def login_words(settings: Settings) -> Translatable:
    """How visitors sign in, for whoever started it."""
    return {
        "none": msg("Login: none."),
        "password": msg("Login: with the names and passwords of PLAYGROUND_USERS, for everybody."),
        "hugging-face": msg("Login: with Hugging Face, for whoever likes to."),
    }[settings.signing_in]


@contextmanager
def quiet_gradio(settings: Settings) -> Iterator[None]:
    """No telemetry, and gradio's own scratch files under PLAYGROUND_HOME until the app ends. To be entered before
    gradio is imported.

    The folder is named after the process, so that what an app that was killed left behind goes when the next one
    starts. A home that can't be written is no reason not to start: what is prepared can still run.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    scratch = settings.home / "gradio"
    try:
        for left in scratch.glob("app-*"):
            if not (left.name[4:].isdecimal() and psutil.pid_exists(int(left.name[4:]))):
                shutil.rmtree(left, ignore_errors=True)
        folder = scratch / f"app-{os.getpid()}"
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        warning = msg("Warning: {home} can't be written: nothing new is prepared or kept.", home=str(settings.home))
        print(_said(warning), file=sys.stderr)
        folder = Path(tempfile.mkdtemp(prefix="playground-"))
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def door_of(playground: Playground) -> Starlette | None:
    """What programs that speak OpenAI's API are answered by, beside the page; None where it is off."""
    from playground.api.app import create_api

    settings = playground.settings
    if not settings.api_is_open:
        return None
    known = Hosts(settings.host, settings.hosts)
    return create_api(playground, keys=settings.api_keys, hosts=known, keys_alone=settings.signing_in == "password")


def launch(
    demo: gr.Blocks,
    settings: Settings,
    routes: Sequence[BaseRoute] = (),
    door: Starlette | None = None,
    playground: Playground | None = None,
) -> None:
    """Start the web server in a thread.

    Args:
        routes: What answers beside gradio's own; the middleware has to let it in.
        door: Answers under ``/v1``; it has a guard of its own.
        playground: Whose health, readiness and metrics are told.

    Raises:
        UsageError: Another program took the port in the last seconds.
        ConfigError: The machine allows fewer connections than the limits mean.
    """
    from starlette.middleware import Middleware

    from playground.api.beside import Beside
    from playground.api.operations import Operations
    from playground.api.room import Room
    from playground.service.addresses import whence
    from playground.service.guesses import Guesses
    from playground.ui import failures, hub_login, i18n, short, theme
    from playground.ui.early import Early
    from playground.ui.limiting import Limiting
    from playground.ui.middleware import Guard
    from playground.ui.signing_in import SigningIn
    from playground.ui.visitors import Visitors, secret_of

    login, secret, limits = settings.signing_in, secret_of(settings), settings.limits
    from_where = partial(whence, behind_proxy=settings.on_space)
    refused = playground.refused if playground else _unheard
    room = Room(settings, limits.connections, refused)
    whose = [Middleware(Visitors, secret=secret, signed_in=login != "none")]
    pages = getattr(demo, "open_pages", None)
    if login == "password":
        signing_in = Middleware(
            SigningIn,
            users=settings.users,
            guesses=Guesses(limits.max_wrong_passwords, refused),
            whence=from_where,
            secret=secret or secrets.token_urlsafe(32),
        )
        whose.insert(0, signing_in)
    if login == "hugging-face":
        assert secret, "check_login asks for a public audience"
        whose = [*hub_login.middleware(secret), *whose]
        routes = [*hub_login.HubDoor(settings.hub_login).routes(), *routes]
    if playground:
        whose.append(Middleware(Limiting, playground=playground, pages=pages))
    known = Hosts(settings.host, settings.hosts)
    guard = Middleware(
        Guard,
        known=known,
        doors=doors(demo),
        frames=settings.frames,
        login=login == "hugging-face",
        call_bytes=limits.max_call_bytes,
        whence=from_where,
    )
    early = Middleware(Early, added=[script.read_text(encoding="utf-8") for script in theme.SCRIPTS])
    beside = [Middleware(Operations, playground=playground, known=known)] if playground else []
    beside.append(Middleware(room.shared, refuse=short.crowded))
    beside += [Middleware(Beside, door=door)] if door else []
    failures.bounded(demo)
    try:
        demo.launch(
            server_name=f"[{settings.host}]" if ":" in settings.host else settings.host,
            server_port=settings.port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            show_error=True,
            enable_monitoring=False,
            run_history=False,
            state_session_capacity=limits.max_pages_of_all,
            max_file_size=limits.max_call_bytes,
            footer_links=["api", "settings"],
            app_kwargs={
                "lifespan": with_threads,
                "routes": [*(pages.routes() if pages else ()), *routes],
                "middleware": [*beside, Middleware(i18n.Language, visitors=settings.strangers), guard, *whose, early],
                "max_body_size": limits.max_call_bytes,
            },
            theme=theme.theme(),
            css_paths=theme.STYLES,
            head=theme.head(),
            favicon_path=theme.ICON,
        )
        server = demo.server.config  # gradio takes no settings of its server's, and each connection asks for them anew
        server.http_protocol_class = room.protocol
    except OSError as error:
        raise UsageError(
            msg("Port {port} was taken meanwhile", port=settings.port), msg("Start again with another --port.")
        ) from error


@asynccontextmanager
async def with_threads(app: object) -> AsyncIterator[None]:
    """What the page's functions hand to threads goes to some that run nothing for nobody."""
    asyncio.get_running_loop().set_default_executor(Threads(name="page"))
    yield


def _unheard(limit: str) -> None:
    """Where nobody counts what is refused."""


def wait_for_answers(demo: gr.Blocks) -> None:
    """Until gradio has nothing under way, or for ``LAST_WORDS_S``: closed sooner, it cuts off what has just ended."""
    until = time.monotonic() + LAST_WORDS_S
    while any(demo._queue.active_jobs) and time.monotonic() < until:
        time.sleep(LOOK_S)
    time.sleep(2 * LOOK_S)  # what was put into a stream last has left by then


def doors(demo: gr.Blocks) -> Doors:
    """Which of the page's functions may be called and how: all but those that run in the browser alone, and those that
    gradio calls by itself when a tab is closed.
    """
    from playground.ui.middleware import Doors

    public = {str(fn.api_name): number for number, fn in demo.fns.items() if fn.api_visibility == "public"}
    page = {
        number: fn
        for number, fn in demo.fns.items()
        if fn.fn is not None and number not in public.values() and any(event != "unload" for _, event in fn.targets)
    }
    direct = frozenset(number for number, fn in page.items() if fn.queue is False)
    return Doors(direct, frozenset(page) - direct, public)


def _said(text: str) -> str:
    """A message to whoever started the app, in the language of their terminal."""
    return spelt_out(render(text, for_terminal(os.environ)))


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "localhost"
    return f"[{host}]" if ":" in host else host


if __name__ == "__main__":
    sys.exit(main())
