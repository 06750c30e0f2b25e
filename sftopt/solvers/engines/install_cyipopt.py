"""Build cyipopt against the Ipopt that the CasADi wheel carries.

    python -m sftopt.solvers.engines.install_cyipopt [--constraint FILE] [--force] [--verbose]

cyipopt has no wheels, and distributions often ship an Ipopt older than 3.14, which knows no limit
on wall time. CasADi's wheel has a current one, with headers, in site-packages/casadi. Two steps of
the recipe are needed for reasons that do not show:

* `--no-cache-dir`: otherwise pip may take a wheel it built earlier against another Ipopt;
* the rpath: otherwise the linker does not find the library when cyipopt is imported.

Exit code 0 when cyipopt works on Ipopt 3.14 or later, else 1 with what is missing. Nothing else in
sftopt needs cyipopt: Ipopt is reached through CasADi as well.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

CYIPOPT = "cyipopt==1.7.0"
"""What pip is asked for."""
BUILD_REQUIREMENTS = ("cython>=3.0", "setuptools>=77.0.3", "numpy>=2.0")
"""What cyipopt's build needs."""
OLDEST_IPOPT = (3, 14)
"""The first Ipopt that knows a limit on wall time."""

_PROBE = """
import json, cyipopt
print(json.dumps([cyipopt.__version__, list(cyipopt.IPOPT_VERSION)]))
"""
"""A programme that prints the versions of cyipopt and of its Ipopt."""


class InstallError(Exception):
    """What stands in the way, in words for the one who runs the command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Install cyipopt unless a good one is there; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sftopt.solvers.engines.install_cyipopt",
        description="Build cyipopt against the Ipopt inside the installed CasADi wheel.",
    )
    parser.add_argument("--constraint", metavar="FILE", help="pip constraints file")
    parser.add_argument("--force", action="store_true", help="build even where a good one is there")
    parser.add_argument("--verbose", action="store_true", help="show the output of pip")
    args = parser.parse_args(argv)
    try:
        message = install(constraint=args.constraint, force=args.force, verbose=args.verbose)
    except InstallError as error:
        print(f"cyipopt not installed: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # no space, no permission, a program that cannot be started
        print(f"cyipopt not installed: {error}", file=sys.stderr)
        return 1
    print(message)
    return 0


def install(*, constraint: str | None = None, force: bool = False, verbose: bool = False) -> str:
    """Make `import cyipopt` work on Ipopt 3.14 or later and say what is there.

    Raises `InstallError` where it cannot.
    """
    found, _ = _probe()
    if found is not None and not force:
        return f"{found}: already there, nothing to do"
    casadi = _casadi_folder()
    version = _ipopt_version(casadi)
    _check_tools()
    with tempfile.TemporaryDirectory(prefix="sftopt-cyipopt-") as folder:
        _write_pkg_config(Path(folder), casadi, version)
        _pip([*_constrained(constraint), *BUILD_REQUIREMENTS], verbose=verbose)
        _pip(
            [
                "--no-cache-dir",
                "--no-build-isolation",
                "--no-binary",
                "cyipopt",
                "--force-reinstall",  # the right version may be there, linked to the wrong Ipopt
                "--no-deps",  # it needs numpy alone, which must stay as it is
                *_constrained(constraint),
                CYIPOPT,
            ],
            environment=_build_environment(Path(folder), casadi),
            verbose=verbose,
        )
    found, reason = _probe()
    if found is None:
        raise InstallError(f"it was built, but {reason}")
    return f"{found}: built against {casadi}"


def _probe() -> tuple[str | None, str]:
    """Import cyipopt in a fresh interpreter: (what is there, '') or (None, why it is no good)."""
    run = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        last = run.stderr.strip().splitlines()[-1:] or ["it ended without a word"]
        return None, f"it cannot be imported: {last[0]}"
    wrapper, ipopt = json.loads(run.stdout.strip().splitlines()[-1])
    name = f"cyipopt {wrapper} on Ipopt {'.'.join(str(part) for part in ipopt)}"
    if tuple(ipopt) < OLDEST_IPOPT:
        return None, f"{name} is older than Ipopt {_dotted(OLDEST_IPOPT)}"
    return name, ""


def _casadi_folder() -> Path:
    """The folder of the installed CasADi wheel, which must hold Ipopt's library and headers."""
    spec = importlib.util.find_spec("casadi")
    if spec is None or spec.origin is None:
        raise InstallError("CasADi is not installed. Mend: python -m pip install casadi")
    folder = Path(spec.origin).resolve().parent
    if not any((folder / name).exists() for name in ("libipopt.so", "libipopt.dylib")):
        raise InstallError(
            f"no Ipopt library in {folder}: this CasADi is not the wheel from the package index "
            "for Linux or macOS. Mend: python -m pip install --force-reinstall casadi"
        )
    if re.search(r"\s", str(folder)):
        raise InstallError(
            f"the path {folder} has a space in it, which cyipopt's build cannot take. "
            "Mend: make the environment in a folder without spaces"
        )
    return folder


def _ipopt_version(casadi: Path) -> str:
    """The Ipopt version by the headers in the wheel."""
    header = casadi / "include" / "coin-or" / "IpoptConfig.h"
    if not header.is_file():
        raise InstallError(
            f"no Ipopt headers in {casadi / 'include'}. Mend: python -m pip install 'casadi>=3.7'"
        )
    match = re.search(r'#define\s+IPOPT_VERSION\s+"([0-9.]+)"', header.read_text(encoding="utf-8"))
    if match is None:
        raise InstallError(f"{header} names no version")
    if tuple(int(part) for part in match[1].split(".")) < OLDEST_IPOPT:
        raise InstallError(
            f"CasADi carries Ipopt {match[1]}, {_dotted(OLDEST_IPOPT)} or later is needed. "
            "Mend: python -m pip install --upgrade casadi"
        )
    return match[1]


def _check_tools() -> None:
    """Refuse, naming everything that is missing at once, before anything is changed."""
    missing: list[str] = []
    packages: list[str] = []
    if not _compiler():
        missing.append("a C compiler")
        packages.append("g++")
    if shutil.which("pkg-config") is None:
        missing.append("pkg-config")
        packages.append("pkg-config")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append("the Python headers")
        packages.append(f"python{sys.version_info.major}.{sys.version_info.minor}-dev")
    if missing:
        raise InstallError(
            f"{', '.join(missing)} missing. Mend (Debian, Ubuntu): "
            f"sudo apt-get install -y {' '.join(packages)}"
        )
    if importlib.util.find_spec("pip") is None:
        raise InstallError(f"no pip in {sys.prefix}. Mend: {sys.executable} -m ensurepip")


def _compiler() -> str | None:
    """The compiler that the build will call: $CC, else the one Python was built with."""
    command = os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc")
    return shutil.which(command.split()[0])


def _write_pkg_config(folder: Path, casadi: Path, version: str) -> None:
    # CasADi ships an ipopt.pc as well, with the paths of the machine that built the wheel
    (folder / "ipopt.pc").write_text(
        "Name: ipopt\n"
        "Description: Ipopt as carried by the CasADi wheel\n"
        f"Version: {version}\n"
        f"Cflags: -I{casadi / 'include' / 'coin-or'}\n"
        f"Libs: -L{casadi} -lipopt\n",
        encoding="utf-8",
    )


def _build_environment(pkg_config: Path, casadi: Path) -> dict[str, str]:
    environment = dict(os.environ)
    paths = [str(pkg_config), environment.get("PKG_CONFIG_PATH", "")]
    environment["PKG_CONFIG_PATH"] = os.pathsep.join(path for path in paths if path)
    flags = [environment.get("LDFLAGS", ""), f"-Wl,-rpath,{casadi}"]
    environment["LDFLAGS"] = " ".join(flag for flag in flags if flag)
    return environment


def _constrained(constraint: str | None) -> list[str]:
    return [] if constraint is None else ["--constraint", constraint]


def _pip(
    arguments: Sequence[str], *, environment: Mapping[str, str] | None = None, verbose: bool
) -> None:
    """Run `pip install`; a failure carries the end of its output."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    run = subprocess.run(
        command,
        env=environment,
        stdout=None if verbose else subprocess.PIPE,
        stderr=None if verbose else subprocess.STDOUT,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        tail = (run.stdout or "").strip().splitlines()[-25:]
        raise InstallError("\n  ".join([f"`{' '.join(command)}` failed", *tail]))


def _dotted(version: Sequence[int]) -> str:
    return ".".join(str(part) for part in version)


if __name__ == "__main__":
    raise SystemExit(main())
