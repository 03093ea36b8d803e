"""What a user reads when something goes wrong: one line for his errors, a traceback for ours.

Errors of Hydra and OmegaConf are recognised by class name and text, so that this file needs neither.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shlex
import sys
import traceback
import typing
from collections.abc import Callable, Iterable
from pathlib import Path

from emo.config.schema import Config
from emo.core import home, stopping
from emo.core.disk import DiskFullError
from emo.core.errors import UserError, nearest

FAILED, REFUSED, INTERRUPTED = 1, 2, 130  # exit codes; 0: done
GROUPS = tuple(sorted(path.name for path in home.CONF.glob("*") if path.is_dir() and path.name != "hydra"))
TYPES = {
    "Integer": "a whole number",
    "Float": "a number",
    "String": "a text",
    "Boolean": "true or false",
}
LAUNCHERS = {  # optional: what a cluster needs
    "submitit_slurm": "hydra-submitit-launcher==1.2.0",
    "submitit_local": "hydra-submitit-launcher==1.2.0",
    "joblib": "hydra-joblib-launcher==1.2.0",
}
SECRET = re.compile(r"(api_?key|token|password|secret)$", re.IGNORECASE)
CONFIG_DIR = "EMO_CONFIG_DIR"  # in the environment, for the processes of a sweep too: what --config-dir was given
CONFIG_ERRORS = ("HydraException", "OmegaConfBaseException")  # bases of everything Hydra or OmegaConf refuse


def guard(job: Callable[[], int], *, full: bool = False) -> int:
    """Run ``job``; report what it raises on stderr and return the exit code.

    ``full`` asks for tracebacks of user errors too.

    Raises:
        SystemExit: 130 after Ctrl-C, 143 after a signal (`emo.core.stopping`): the jobs behind this one
            do not start either.
    """
    try:
        with stopping.catching():
            stopping.check()
            return job()
    except KeyboardInterrupt:
        raise _interrupted() from None
    except stopping.Stopped as stop:
        raise _stopped(stop) from None
    except UserError as error:
        if full:
            traceback.print_exc()
        else:
            sys.stderr.write(f"error: {error}\n")
        return REFUSED
    except BrokenPipeError:  # `| head`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python itself complains at its end
        return 0
    except DiskFullError as error:
        sys.stderr.write(f"failed: {' '.join(str(error).split())}\n")
        return FAILED
    except Exception:
        if stopping.interrupted():
            raise _interrupted() from None
        if name := stopping.asked():  # e.g. a library that was being loaded made an error of its own of it
            raise _stopped(stopping.Stopped(name)) from None
        traceback.print_exc()
        return FAILED


def _interrupted() -> SystemExit:
    sys.stderr.write("interrupted: the same command continues where this one stopped\n")
    return SystemExit(INTERRUPTED)


def _stopped(stop: stopping.Stopped) -> SystemExit:
    sys.stderr.write(f"{stop}\n")
    return SystemExit(stopping.STOPPED)  # said once: who else catches `Stopped` need not say it again


def command(overrides: Iterable[str]) -> str:
    """Return the line that starts the same job again, with the user's own folder of options where there is one."""
    folder = os.environ.get(CONFIG_DIR)
    return shlex.join([*home.PROGRAM, *(["--config-dir", folder] if folder else []), *overrides])


def combine(codes: list[int]) -> int:
    """Return the exit code of several jobs: refused only if none of them was started."""
    if codes and all(code == REFUSED for code in codes):
        return REFUSED
    return FAILED if any(codes) else 0


def is_refusal(error: BaseException) -> bool:
    """Tell whether Hydra or OmegaConf raised this, on purpose or by a plain ValueError of Hydra's own."""
    if any(base.__name__ in CONFIG_ERRORS for base in type(error).__mro__):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("hydra.")


def explain(error: BaseException) -> UserError:
    """Translate what Hydra or OmegaConf raised into one line: given, allowed, what to type."""
    override = getattr(error, "override", None)  # of Hydra's OverrideParseException
    if isinstance(override, str):
        return UserError(f"{shown(override)}: cannot be read; type KEY=VALUE, quotes around special characters")
    texts = [str(link) for link in _chain(error)]
    for text in texts:
        for pattern, write in _TRANSLATIONS:
            match = re.search(pattern, text, re.DOTALL)
            if match and isinstance(write, str):
                return UserError(write.format(*map(shown, match.groups()), key=_key(match)))
            if match and not isinstance(write, str):
                return UserError(write(match))
    lines = [text.strip().splitlines()[0] for text in texts if text.strip()]
    return UserError("; ".join(dict.fromkeys(lines)) or type(error).__name__)


@functools.cache
def known_keys(section: type = Config, prefix: str = "") -> list[str]:
    """List the dotted names of every key, as typed on the command line."""
    keys = []
    for name, hint in typing.get_type_hints(section).items():
        nested = dataclasses.is_dataclass(hint) and isinstance(hint, type)
        keys += known_keys(hint, f"{prefix}{name}.") if nested else [prefix + name]
    return keys


def _chain(error: BaseException) -> Iterable[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def shown(override: str) -> str:
    """Repeat an override, without the value of a secret."""
    key = override.partition("=")[0]
    return key if SECRET.search(key) else override


def _key(match: re.Match[str], default: str = "a key") -> str:
    """Return the dotted key that OmegaConf adds to its messages."""
    full = re.search(r"full_key: (\S+)", match.string)
    return full.group(1) if full else default


def _no_option(match: re.Match[str]) -> str:
    group, _, option = match.group(1).rpartition("/")
    options = [line.strip() for line in (match.group(2) or "").splitlines() if line.strip()]
    if group == "hydra/launcher" and option in LAUNCHERS:
        return f"hydra/launcher={option}: not installed; type: pip install {LAUNCHERS[option]}"
    if group.startswith("model/"):
        given = match.group(1).partition("/")[2]
        return f"model={given}: no option of that name; a repository of the hub is model=hub model.id={given}"
    if (given := match.group(1).removeprefix("dataset/")) != match.group(1) and Path(given).suffix:
        return (
            f"dataset={given}: no option of that name; a file of your own is dataset=jsonl dataset.path={given} "
            f"(scenarios) or dataset=labelled dataset.path={given} (texts with a class)"
        )
    if group == "emotions" and not nearest(option, options):
        return f"emotions={option}: not one of {', '.join(options)}; single emotions are emotions.names=[{option},...]"
    if not group or not options:
        return f"{match.group(1)}: no such configuration file"
    return f"{group}={option}: not one of {', '.join(options)}{nearest(option, options)}"


def unknown_key(key: str) -> str:
    """Say which key is not there, which name is nearest and which keys its section has."""
    if SECRET.search(key):
        variable = "WANDB_API_KEY" if key.startswith(("tracker", "wandb")) else "OPENAI_API_KEY"
        return f"{key}: secrets are read from the environment only; type export {variable}=..."
    section, _, last = key.rpartition(".")
    keys = known_keys()
    if any(key == name or key.startswith(f"{name}.") for name in keys):  # settings of one's own, texts by name
        return f"{key}: not there yet; what is new is typed with a plus sign: +{key}=VALUE"
    inside = [name for name in keys if section and name.startswith(f"{section}.")]
    elsewhere = [name for name in keys if name.rpartition(".")[2] == last]
    hint = f"; did you mean {elsewhere[0]}?" if elsewhere else nearest(key, inside or [*GROUPS, *keys])
    if inside:
        rest = ", ".join(name[len(section) + 1 :] for name in inside)
        return f"{key}: no such key{hint}; keys of {section} are {rest}"
    top = dict.fromkeys(name.partition(".")[0] for name in keys)
    return f"{key}: no such key{hint or '; allowed are ' + ', '.join(top)}"


def _wrong_type(match: re.Match[str]) -> str:
    return f"{_key(match)}={match.group(1)}: {TYPES.get(match.group(2), match.group(2))} is needed"


def _no_section(match: re.Match[str]) -> str:
    key = _key(match, match.group(1).lower())
    inside = [name for name in known_keys() if f".{key}." in f".{name}"]
    return f"{key}={match.group(2)}: this is a section; type one of its keys: {', '.join(inside)}"


# Pattern in the message -> what is written: a template of its groups and the key, or a function.
_TRANSLATIONS: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"Could not find '([^']*)'(?:.*?Available options in '[^']*':\n(.*?)(?:Config search|\Z))?", _no_option),
    (
        r"(?:Could not (?:override|delete|delete from config\.)|but config group) '([^'@]*)",
        lambda match: unknown_key(match.group(1).replace("/", ".")),
    ),
    (r"Key '([^']*)' (?:is )?not in", lambda match: unknown_key(_key(match, match.group(1)))),
    (
        r"Ambiguous value for argument 'emotions=|Could not load 'emotions/",
        "emotions: the names of lists are its options; single emotions are emotions.names=[anger,fear]",
    ),
    (
        r"Ambiguous value for argument '([^']*)'",
        "{0}: several values; add -m for one job each, or type KEY=[A,B] for a list",
    ),
    (r"Sweep parameters '([^']*)' requires", "{0}: a sweep needs -m, for one job each"),
    (r"already at '([^']*)'", "+{0}: this key exists; type it without the plus sign"),
    (r"Multiple values for ([\w/@]+)\.", "{0}: given twice; type {0}=OPTION once"),
    (r"group override must be a string", "GROUP=null: a group cannot be left out; type GROUP=OPTION"),
    (r"Value '(.*?)' of type '.*?' could not be converted to (\w+)", _wrong_type),
    (r"Cannot convert 'DictConfig' to string: '(.*)'", "{key}={0}: a text is needed"),
    (r"is not a ListConfig, list", "{key}: a list like [a,b] is needed"),
    (r"Cannot assign \w+ to Dict", "{key}: texts by name are needed, like {{awe: deep awe}}"),
    (r"is not a subclass of (\w+?)Config\. value: (\S+)", _no_section),
    (r"Incompatible value 'None'|is not Optional", "{key}=null: a value is needed"),
    (r"Interpolation key '(.*?)' not found", "{key}=${{{0}}}: there is no key {0}"),
]
