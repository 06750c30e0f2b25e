"""The command ``sftopt``: the table of commands, and the one place where errors become words.

Commands return an :class:`~sftopt.face.output.Answer`; :func:`main` prints it. Modules that take
long to import are imported inside the commands, so that ``sftopt --help`` is quick.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sftopt.core.errors import ExitCode, InputError, SftoptError
from sftopt.face.arguments import HIDDEN_JSON
from sftopt.face.commands import (
    bases,
    calibrate,
    check,
    closed_loop,
    compare,
    completion,
    demo,
    doctor,
    export,
    finetune,
    import_solution,
    instance,
    instance_input,
    merge,
    pareto,
    plan,
    pretrain,
    prices,
    race,
    reproduce,
    schema,
    schemes,
    simulate,
    solvers,
    sweep,
    trace,
    verify,
    workload,
)
from sftopt.face.inputs import keeps_inputs
from sftopt.face.output import Answer, deliver, drop_stdout, failure, prepare_streams, tell_lines
from sftopt.face.surroundings import refuse_surroundings
from sftopt.solvers.interrupt import Endings, endings_as_ctrl_c

# No rich markup: help and usage errors are then plain text that fits 80 columns.
app = typer.Typer(
    name="sftopt",
    help="Plan split fine-tuning of large language models over a wireless cell.",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="Exit codes: 0 ok, 1 internal error, 2 bad usage or input, 3 infeasible (proven), "
    "4 no point within the limit, 5 verification refuted, 6 solver missing or refused, "
    "130 interrupted.",
)
app.command("plan")(keeps_inputs(plan.plan))
app.command("check")(keeps_inputs(check.check))
app.command("verify")(keeps_inputs(verify.verify))
app.command("prices")(keeps_inputs(prices.prices))
app.command("compare")(keeps_inputs(compare.compare))
app.command("sweep")(keeps_inputs(sweep.sweep))
app.command("pareto")(keeps_inputs(pareto.pareto))
app.command("reproduce")(keeps_inputs(reproduce.reproduce))
app.command("simulate")(keeps_inputs(simulate.simulate))
app.command("trace")(keeps_inputs(trace.trace))
app.add_typer(race.group, name="race")
app.command("closed-loop")(keeps_inputs(closed_loop.closed_loop))
app.command("finetune")(keeps_inputs(finetune.finetune))
app.add_typer(instance.group, name="instance")
instance.group.command("template")(keeps_inputs(instance_input.template))
instance.group.command("from-csv")(keeps_inputs(instance_input.from_csv))
instance.group.command("set")(keeps_inputs(instance_input.set_fields))
app.command("workload")(keeps_inputs(workload.workload))
app.command("solvers")(keeps_inputs(solvers.solvers))
app.command("schemes")(keeps_inputs(schemes.schemes))
app.command("calibrate")(keeps_inputs(calibrate.calibrate))
app.command("merge")(keeps_inputs(merge.merge))
app.command("bases")(keeps_inputs(bases.bases))
app.command("pretrain")(keeps_inputs(pretrain.pretrain))
app.command("doctor")(keeps_inputs(doctor.doctor))
app.command("demo")(keeps_inputs(demo.demo))
app.command("completion")(completion.completion)
app.command("schema")(keeps_inputs(schema.schema))
app.command("export")(keeps_inputs(export.export))
app.command("import-solution")(keeps_inputs(import_solution.import_solution))

_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
"""The error of a wrong command line, ClickException: typer carries its own copy of click or uses
the installed one, by version; either way it is the base of the base of BadParameter."""


_RACE_VERBS = frozenset(command.name for command in race.group.registered_commands)
"""Verbs of ``race``, which is also a command without one."""


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the versions.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print tracebacks (also: SFTOPT_DEBUG=1).")
    ] = False,
    json: Annotated[bool, HIDDEN_JSON] = False,
) -> None:
    """Plan split fine-tuning of large language models over a wireless cell."""
    if version:
        from sftopt import __version__
        from sftopt.face.welcome import version_text, versions

        data = {"version": __version__, "engines": versions()}
        raise _Done(Answer(data, version_text(__version__)))
    if context.invoked_subcommand is None:
        from sftopt.face.welcome import FIRST

        raise _Done(_help(FIRST))


class _Done(Exception):
    """A global option has answered; no command runs."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's) and return its exit code; never raises.

    SIGTERM and SIGHUP are taken as Ctrl-C: what was found is kept, and the exit code is 130.
    """
    if completion.asked():
        return completion.complete(app, sys.argv[1:] if arguments is None else arguments)
    with endings_as_ctrl_c() as endings:
        return _main(arguments, endings)


def _main(arguments: Sequence[str] | None, endings: Endings) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    debug = "--debug" in words or os.environ.get("SFTOPT_DEBUG", "") not in ("", "0")
    words = [word for word in words if word != "--debug"]  # heeded wherever it is typed
    as_json, command = "--json" in words, _command_name(words)
    try:
        answer = _answer(words)
    except KeyboardInterrupt:
        answer = _interrupted()
    except MemoryError:
        answer = failure(
            "out of memory; take a smaller problem, or a larger machine", ExitCode.NO_POINT
        )
    except Exception as error:  # noqa: BLE001 - the last stop: every error becomes one line
        answer = _internal_error(error, debug)
    if endings.raised and answer.code not in (ExitCode.OK, ExitCode.INTERRUPTED):
        answer = _interrupted()  # an import that was cut short fails in words of its own
    try:
        return deliver(answer, command, as_json)
    except KeyboardInterrupt:
        drop_stdout()  # half an answer may be out: no second one behind it
        return int(ExitCode.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - a table that cannot be drawn, say
        return deliver(_internal_error(error, debug), command, as_json)


def _internal_error(error: Exception, debug: bool) -> Answer:
    if debug:
        traceback.print_exc()
    kind = type(error).__name__
    lines = str(error).strip().splitlines()
    detail = f"{kind}: {lines[0][:200]}" if lines else kind
    message = f"internal error: {detail}; please report it with --debug output"
    return failure(message, ExitCode.INTERNAL_ERROR)


def _answer(words: list[str]) -> Answer:
    """Run the command; errors said on purpose become answers."""
    printed = io.StringIO()
    command = typer.main.get_command(app)
    try:
        refuse_surroundings()
        with contextlib.redirect_stdout(printed):
            answer = command.main(args=words, prog_name="sftopt", standalone_mode=False)
    except _Done as done:
        return done.answer
    except InputError as error:
        return failure(str(error), error.exit_code, error.faults)
    except SftoptError as error:
        return failure(str(error), error.exit_code)
    except typer.Abort:
        return _interrupted()
    except _USAGE_ERROR as error:
        return failure(_usage_message(error), ExitCode.BAD_INPUT)
    if not isinstance(answer, Answer):
        # click's own exits: 0 after --help, 130 after Ctrl-C
        interrupted = answer == ExitCode.INTERRUPTED
        return _interrupted() if interrupted else _help(printed.getvalue())
    if printed.getvalue():  # a library's print; standard output is for the answer
        tell_lines(printed.getvalue().rstrip("\n"))
    return answer


def _help(text: str) -> Answer:
    return Answer({"help": text}, text.rstrip("\n"))


def _interrupted() -> Answer:
    return failure("interrupted", ExitCode.INTERRUPTED)


def _usage_message(error: Any) -> str:
    """What was wrong and where the help is, on two lines."""
    message = str(error.format_message())
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "sftopt"
    return f"{message}\nTry '{path} --help'."


def _command_name(words: Sequence[str]) -> str:
    """The command as typed, with the verb of a group; flags before it take no values."""
    named = [word for word in words if not word.startswith("-")]
    group = named[:1]
    verbed = group == ["instance"] or (group == ["race"] and named[1:2] and named[1] in _RACE_VERBS)
    return " ".join(named[: 2 if verbed else 1])


if __name__ == "__main__":
    sys.exit(main())
