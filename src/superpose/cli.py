"""The command line: serve, run, strategies, models, show, export, import."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from superpose import __version__, exports, imports, terminal
from superpose.engine import EngineError, EngineOptions, open_engine
from superpose.events import TERMINAL, Event
from superpose.models import DEMO, UnknownModel, data_dir, known
from superpose.problems import BadInput
from superpose.runner import Runner
from superpose.spec import RunSpec, make_spec
from superpose.store import Store, StoreUnusable
from superpose.store_events import UnknownRun
from superpose.strategy import load_strategies, strategies

DONE, FAILED, WRONG_WORDS = 0, 1, 2
PORTS_TRIED = 20
MOST_REPEATS = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 failed run, 2 wrong words."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr)
    try:
        if getattr(options, "strategies", None) is not None:
            print(f"strategies added: {', '.join(load_strategies(options.strategies))}", file=sys.stderr)
        code: int = options.act(options)
        return code
    except (BadInput, UnknownModel, EngineError) as refused:
        print(f"superpose: {refused}", file=sys.stderr)
        return WRONG_WORDS
    except UnknownRun as missing:
        print(f"superpose: there is no run {missing.args[0]!r} in {data_dir()}", file=sys.stderr)
        return WRONG_WORDS
    except StoreUnusable as broken:
        print(f"superpose: {broken}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("superpose: stopped", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # the reader of our output has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="superpose", description="Decoding with mixtures of token embeddings.")
    parser.add_argument("--version", action="version", version=f"superpose {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="open the lab in the browser")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, default=5000, help="port; the next free one is taken if it is in use")
    serve.add_argument("--data", type=Path, help="data folder (default: SUPERPOSE_DATA or the platform's)")
    serve.add_argument("--no-browser", action="store_true", help="do not open a browser")
    serve.set_defaults(act=_serve)

    run = commands.add_parser("run", help="run one prompt in the terminal")
    run.add_argument("user", help="user prompt; - reads it from standard input")
    run.add_argument("--system", default="", help="system prompt")
    run.add_argument("--strategy", default="non_uniform", help="see `superpose strategies`")
    run.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the strategy")
    run.add_argument("--T-e", dest="T_e", type=int, help="most thinking steps (default 50, or T_total if that is less)")
    run.add_argument("--T-total", dest="T_total", type=int, help="most steps of both phases (default 250)")
    run.add_argument("--temperature", type=float, help="default 0.8; 0 = greedy")
    run.add_argument("--end-probability", metavar="P|none", help="an end token this likely ends thinking (0.05)")
    run.add_argument("--transition", help="text forced after thinking (default: the strategy's; '' = none)")
    run.add_argument("--seed", type=int, help="default: a fresh one")
    run.add_argument("--answer-temperature", type=float, help="default: the temperature")
    run.add_argument("--top-p", type=float, help="filter of the draws (default 1 = off)")
    run.add_argument("--top-k", type=int, help="filter of the draws (default 0 = off)")
    run.add_argument("--min-p", type=float, help="filter of the draws (default 0 = off)")
    run.add_argument("--repeats", type=int, default=1, help="run this many seeds, from --seed on; count the answers")
    run.add_argument("--fork", metavar="JSON", help='branch from a recorded run: {"run": ID, "step": N, "mixture": …}')
    form = run.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the run record alone (with --repeats a list of them)")
    form.add_argument("--jsonl", action="store_true", help="print one event a line as it happens")
    run.set_defaults(act=_run)

    listing = commands.add_parser("strategies", help="list the strategies, or tell one in full")
    listing.add_argument("name", nargs="?")
    listing.add_argument("--json", action="store_true", help="with JSON Schemas")
    listing.add_argument("--markdown", action="store_true", help="the reference page of the docs")
    listing.set_defaults(act=_strategies)

    for command in (serve, run, listing):
        command.add_argument("--strategies", type=Path, metavar="FILE", help="a Python file with strategies of yours")
    for command in (serve, run):
        command.add_argument("--model", default=DEMO, help=f"name, hub id, folder or .gguf file (default {DEMO})")
        command.add_argument("--engine", choices=["toy", "torch", "llamacpp"], help="default: by the model")
        command.add_argument(
            "--device", help="auto, cpu, cuda, mps (default auto: the best there is, several GPUs if need be)"
        )
        command.add_argument("--dtype", help="float32, bfloat16, float16 (default: by the device)")
        command.add_argument("--quantize", choices=["int8", "int4"], help="weights of 8 or 4 bits (torch on a CPU)")

    models = commands.add_parser("models", help="list the models at hand")
    models.set_defaults(act=_models)

    show = commands.add_parser("show", help="show a recorded run")
    show.add_argument("run", help="its id")
    show.add_argument("--json", action="store_true", help="print the run record")
    show.set_defaults(act=_show)

    export = commands.add_parser("export", help="write recorded runs to a file")
    export.add_argument("runs", nargs="+", metavar="RUN", help="its id")
    export.add_argument(
        "--format", choices=list(exports.MEDIA), default="json", help="records, events or a table of steps"
    )
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: standard output")
    export.set_defaults(act=_export)

    take = commands.add_parser("import", help="take runs from a file that was exported as json or jsonl")
    take.add_argument("file", type=Path)
    take.set_defaults(act=_import)
    return parser


# -- run ----------------------------------------------------------------------------------------------------


def _spec(options: argparse.Namespace) -> RunSpec:
    strategy: dict[str, Any] = {"name": options.strategy}
    for setting in options.set:
        name, equals, value = setting.partition("=")
        if not equals or not name or name == "name":
            raise BadInput("set", f"--set takes a parameter's NAME=VALUE, as in k=5; got {setting!r}")
        try:
            strategy[name] = json.loads(value)
        except ValueError:
            strategy[name] = value
    user = sys.stdin.read() if options.user == "-" else options.user
    spec: dict[str, Any] = {"system": options.system, "user": user, "strategy": strategy}
    for name in ("T_e", "T_total", "temperature", "transition", "seed"):
        if getattr(options, name) is not None:
            spec[name] = getattr(options, name)
    if options.end_probability is not None:
        spec["end_probability"] = _end_probability(options.end_probability)
    if options.fork is not None:
        spec["fork"] = _fork(options.fork)
    answer = {"temperature": options.answer_temperature, "top_p": options.top_p, "top_k": options.top_k,
              "min_p": options.min_p}  # fmt: skip
    spec["answer"] = {name: value for name, value in answer.items() if value is not None}
    return make_spec(spec)


def _fork(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        raise BadInput("fork", f'--fork takes JSON such as {{"run": "ab12", "step": 14}}; got {value!r}') from None


def _end_probability(value: str) -> float | None:
    if value == "none":
        return None
    try:
        return float(value)
    except ValueError:
        raise BadInput("end_probability", f"--end-probability takes a number or none; got {value!r}") from None


def _run(options: argparse.Namespace) -> int:
    spec = _spec(options)
    screen = terminal.Screen(quiet=options.json or options.jsonl)
    store = Store(data_dir())
    store.recover()
    try:
        runner = Runner(open_engine(options.model, _engine_options(options), screen.loading), store)
    except BaseException:
        store.close()
        raise
    try:
        for warning in runner.check(spec, options.repeats):
            print(f"note: {warning}", file=sys.stderr)
        runs = [runner.submit(each) for each in _seeds(spec, options.repeats)]
        try:
            for data in _follow(store, runs):
                if options.jsonl:
                    print(data, flush=True)
                if len(runs) == 1:
                    screen.show(json.loads(data))
        except KeyboardInterrupt:
            for run in runs:
                runner.cancel(run)
            while store.live(runs):
                time.sleep(0.01)
        records = [store.record(run) for run in runs]
        if options.json:
            print(json.dumps(records if len(runs) > 1 else records[0], ensure_ascii=False))
        elif len(runs) > 1 and not options.jsonl:
            print(terminal.answers(records))
        screen.close(*runs)
        return DONE if all(record["status"] == "finished" for record in records) else FAILED
    finally:
        runner.close()
        store.close()


def _seeds(spec: RunSpec, repeats: int) -> list[RunSpec]:
    """The spec with so many seeds, its own the first. Raises BadInput."""
    if not 1 <= repeats <= MOST_REPEATS:
        raise BadInput("repeats", f"--repeats must be 1 to {MOST_REPEATS}; got {repeats}")
    return [make_spec({**spec.model_dump(mode="json"), "seed": spec.seed + i}) for i in range(repeats)]


def _follow(store: Store, runs: Sequence[str]) -> Iterator[str]:
    """The JSON of the runs' events as they happen, until all have ended."""
    bell, after, live = threading.Event(), 0, len(runs)
    end = store.listen(bell.set)
    try:
        while True:
            bell.clear()
            batch = store.events(runs, after)
            for stored in batch:
                yield stored.data
                after = stored.position
                live -= stored.type in TERMINAL
            if not live:
                return
            if not batch:
                bell.wait(1.0)
    finally:
        end()


def _engine_options(options: argparse.Namespace) -> EngineOptions:
    return EngineOptions(options.engine, options.device, options.dtype, options.quantize)


# -- serve --------------------------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    listener = _listen(options.host, options.port)
    port = listener.getsockname()[1]
    if port != options.port and options.port:
        print(f"Port {options.port} is in use; taking {port}.", file=sys.stderr)
    if options.data is not None:
        os.environ["SUPERPOSE_DATA"] = str(options.data.resolve())
    from superpose.server import serve  # FastAPI is imported only where it serves

    shown = "127.0.0.1" if options.host in ("0.0.0.0", "::") else options.host
    url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"

    def ready() -> None:
        print(f"superpose is at {url}  (stop: Ctrl+C)", file=sys.stderr, flush=True)
        if not options.no_browser:
            webbrowser.open(url)

    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once it has shut down in order
        serve(data_dir(), options.model, _engine_options(options), listener, options.host, ready)
    return DONE


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket at the port, or at the next free one. Raises BadInput."""
    if not 0 <= port <= 65535:
        raise BadInput("port", f"--port must be 0 to 65535; got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, min(port + PORTS_TRIED, 65536)):
        listener = socket.socket(family, socket.SOCK_STREAM)
        if os.name != "nt":  # elsewhere the option lets two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(2048)  # at once: between bind and listen another process could bind it too
            return listener
        except OverflowError as error:
            raise BadInput("port", f"--port must be 0 to 65535; got {port}") from error
        except OSError as error:
            listener.close()
            if isinstance(error, socket.gaierror) or error.errno not in (48, 98, 10048):  # address in use
                raise BadInput("host", f"cannot listen on {host}:{candidate}: {error.strerror}") from error
    raise BadInput("port", f"ports {port} to {candidate} are all in use; name another with --port")


# -- lists --------------------------------------------------------------------------------------------------


def _strategies(options: argparse.Namespace) -> int:
    found = strategies()
    if options.name is not None and options.name not in found:
        raise BadInput("strategy", f"unknown strategy {options.name!r}; allowed: {', '.join(found)}")
    chosen = [found[options.name]] if options.name else list(found.values())
    described = [strategy.describe() for strategy in chosen]
    if options.json:
        print(json.dumps(described, ensure_ascii=False))
    elif options.markdown:
        print(terminal.reference(described))
    elif options.name:
        print(terminal.strategy_page(described[0]))
    else:
        width = max(map(len, found))
        print("\n".join(f"{about['name']:{width}}  {about['help']}" for about in described))
    return DONE


def _models(_: argparse.Namespace) -> int:
    models = known()
    width = max(len(model.name) for model in models)
    for model in models:
        print(f"{model.name:{width}}  {model.about}{'' if model.ready else ' (not fetched yet)'}")
    print("Also: any hub id such as Qwen/Qwen2.5-3B-Instruct, a folder, a .gguf file.", file=sys.stderr)
    return DONE


def _show(options: argparse.Namespace) -> int:
    store = Store(data_dir())
    try:
        store.recover()
        record = store.record(options.run)
        if options.json:
            print(json.dumps(record, ensure_ascii=False))
            return DONE
        screen = terminal.Screen(quiet=False)
        for stored in store.events([options.run], 0, limit=-1):
            event: Event = json.loads(stored.data)
            screen.show(event)
        screen.close(options.run)
        return DONE
    finally:
        store.close()


# -- files --------------------------------------------------------------------------------------------------


def _export(options: argparse.Namespace) -> int:
    with contextlib.closing(Store(data_dir())) as store:
        for run in options.runs:
            store.status(run)  # raises UnknownRun, before the first byte
        parts = exports.export(store, options.runs, options.format, listed=len(options.runs) > 1)
        if options.output is None:
            sys.stdout.writelines(parts)
            return DONE
        try:
            with options.output.open("w", encoding="utf-8", newline="") as file:
                file.writelines(parts)
        except OSError as error:
            raise BadInput("output", f"cannot write {options.output}: {error.strerror}") from error
    return DONE


def _import(options: argparse.Namespace) -> int:
    try:
        data = options.file.read_bytes()
    except OSError as error:
        raise BadInput("file", f"cannot read {options.file}: {error.strerror}") from error
    with contextlib.closing(Store(data_dir())) as store:
        print("\n".join(store.adopt(imports.read(data))))
    return DONE
