"""The backends that can be chosen: those of this package, and those that other plugins add by a hook."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING

from pytest_serve_chaos.backends.base import Backend, Leftover, Undo
from pytest_serve_chaos.backends.kind import KIND
from pytest_serve_chaos.backends.kubernetes import KUBERNETES
from pytest_serve_chaos.backends.local import LOCAL
from pytest_serve_chaos.errors import SettingsError, in_one_line
from pytest_serve_chaos.kinds import Choice, Flag
from pytest_serve_chaos.options import GENERAL, OPTIONS, Option, option

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from pytest_serve_chaos.cluster.base import Progress

_NAME = re.compile(r"[a-z][a-z0-9-]*")


class Backends:
    """The backends by name, in the order in which they were added.

    Raises:
        SettingsError: Two of them have the same name, the same verb of the undo journal, or different options of the
            same name.
    """

    def __init__(self, backends: Iterable[Backend]) -> None:
        self._backends: dict[str, Backend] = {}
        self._options = {row.name: row for row in OPTIONS}
        self._undo: dict[str, Undo] = {}
        for backend in backends:
            self._add(backend)

    def _add(self, backend: Backend) -> None:
        if backend.name in self._backends or not _NAME.fullmatch(backend.name):
            raise SettingsError(
                f"a backend cannot have the name {backend.name!r}",
                checked=[f"names of other backends: {', '.join(self._backends)}"],
                fix=["give it another name, of lower-case letters, digits and hyphens"],
            )
        for row in backend.options:
            if self._options.setdefault(row.name, row) != row:
                raise SettingsError(
                    f"the backend {backend.name} adds the option {row.flag}, which is there already and is another",
                    fix=[f"give it a name of its own: {backend.name.replace('-', '_')}_{row.name}"],
                )
        for verb, undo in backend.undo.items():
            if self._undo.setdefault(verb, undo) is not undo:
                raise SettingsError(
                    f"the backend {backend.name} adds the verb {verb} to the undo journal, which is another backend's",
                    fix=["give the verb another name"],
                )
        self._backends[backend.name] = backend

    def __getitem__(self, name: str) -> Backend:
        return self._backends[name]

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._backends.values())

    def and_those(self, returned: object, parser: pytest.Parser | None = None) -> Backends:
        """These and those that a plugin has returned from the hook.

        Args:
            returned: A list of backends, if the plugin is right.
            parser: Takes their options.

        Raises:
            SettingsError: They cannot be added.
        """
        others = _listed(returned)
        added = Backends([*self, *others])
        if parser is not None:
            added._add_options_of(others, known=set(self._options), parser=parser)
        return added

    def _add_options_of(self, backends: Iterable[Backend], known: set[str], parser: pytest.Parser) -> None:
        for backend in backends:
            title = f"chaos tests of Ray Serve, backend {backend.name}: {backend.description}"
            group = parser.getgroup(f"serve-chaos-{backend.name}", title)
            for row in backend.options:
                if row.name not in known:
                    known.add(row.name)
                    self.add_option(row, parser, group)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._backends)

    @property
    def choice(self) -> Option:
        """The option that takes the name of one."""
        return option("backend")._replace(kind=Choice(*self._backends))

    @property
    def options(self) -> tuple[Option, ...]:
        """All options, each once: those of this package, then those that other backends have added."""
        return tuple(self.choice if row.name == "backend" else row for row in self._options.values())

    def users(self, row: Option) -> tuple[str, ...]:
        """The names of the backends that use an option."""
        if any(row.name == general.name for general in GENERAL):
            return self.names
        return tuple(backend.name for backend in self if row in backend.options)

    def undo(
        self,
        report_dir: Path | None,
        progress: Progress,
        *,
        allowed: Collection[str] = (),
        backend: str | None = None,
        only: Mapping[str, str] | None = None,
    ) -> Sequence[str]:
        """Undoes what runs that are over have left.

        An entry says what to undo, and never what is allowed: that is for the user who asks for it now.

        Args:
            report_dir: The directory of their reports; None: that of any run.
            progress: Prints a line about each thing that is undone.
            allowed: The kubeconfig contexts that the user has named for it; kind clusters on this machine need not be.
            backend: A backend whose entries are undone whatever the report directory of their run.
            only: Arguments that an entry must have to be undone, such as a context.

        Returns:
            What could not be undone, in words; it stays in the journal.
        """
        from pytest_serve_chaos.safety.journal import Entry, Journal, directory_of_journals

        def call(undo: Undo, arguments: Mapping[str, str]) -> None:
            undo(Leftover(arguments, journal.directory, progress, allowed))

        def which(entry: Entry) -> bool:
            of_backend = backend is not None and entry.verb in self[backend].undo
            matches = not only or only.items() <= entry.arguments.items()
            return matches and (report_dir is None or journal.has_written(entry) or of_backend)

        journal = Journal(directory_of_journals(), report_dir)
        verbs = {verb: partial(call, undo) for verb, undo in self._undo.items()}
        return [*journal.undo(verbs, progress, which=which), *self.sweep(progress)]

    def sweep(self, progress: Progress) -> Sequence[str]:
        """Removes what runs that were killed have left on this machine: by its lock, which nobody holds any more.

        Args:
            progress: Prints a line about each thing that is removed.

        Returns:
            What could not be removed, in words.
        """
        from pytest_serve_chaos import locks, scratch

        locks.sweep()
        failed: list[str] = []
        for sweep in (*(backend.sweep for backend in self), scratch.sweep_files):
            try:
                failed += sweep(progress)
            except Exception as error:  # of a plugin, or of the machine; the others are swept all the same
                failed.append(f"what killed runs have left could not be removed: {in_one_line(error)}")
        return failed

    def add_options(self, parser: pytest.Parser) -> None:
        """Adds ``--serve-chaos``, and an option and an ini key for each setting, all without a default of pytest's."""
        group = parser.getgroup("serve-chaos", "chaos tests of Ray Serve")
        group.addoption(
            "--serve-chaos",
            action="store_true",
            dest="serve_chaos",
            default=False,
            help="Run the chaos tests; without it they are skipped. Each setting below can also be an environment "
            "variable (SERVE_CHAOS_RATE) or a key in pytest's configuration (serve_chaos_rate).",
        )
        for row in self.options:
            self.add_option(row, parser, group)

    def add_option(self, row: Option, parser: pytest.Parser, group: pytest.OptionGroup) -> None:
        """Adds one option and its ini key."""
        parser.addini(row.ini, f"Same as {row.flag}.", type=row.kind.ini, default=None)
        if isinstance(row.kind, Flag):
            group.addoption(row.flag, action="store_true", dest=row.ini, default=None, help=self._help(row))
        else:
            action = "append" if row.kind.repeated else "store"
            group.addoption(
                row.flag, action=action, dest=row.ini, default=None, metavar=row.kind.metavar, help=self._help(row)
            )

    def _help(self, row: Option) -> str:
        text = row.help[0].upper() + row.help[1:] + "."
        if row.default or row.unset:
            text += f" Default: {row.default or row.unset}."
        if self.users(row) != self.names:
            text += f" Backend: {', '.join(self.users(row))}."
        return text.replace("%", "%%")


def settings_table(backends: Backends) -> str:
    """The options as Markdown, for the reference."""
    lines = ["| option | default | backends | meaning |", "| --- | --- | --- | --- |"]
    for row in backends.options:
        usage = row.usage.replace("|", "\\|")
        default = f"`{row.default}`" if row.default else "required" if row.required else row.unset
        users = "all" if backends.users(row) == backends.names else ", ".join(backends.users(row))
        lines.append(f"| `{usage}` | {default} | {users} | {row.help} |")
    return "\n".join(lines) + "\n"


def _listed(returned: object) -> tuple[Backend, ...]:
    if isinstance(returned, Iterable):
        found = tuple(returned)
        if all(isinstance(one, Backend) for one in found):
            return found
    raise SettingsError(
        f"the hook pytest_serve_chaos_backends returned {returned!r}, which is not a list of backends",
        fix=["return a list of pytest_serve_chaos.Backend"],
    )


BUILT_IN = Backends([LOCAL, KIND, KUBERNETES])


def backends_of(manager: pytest.PytestPluginManager) -> Backends:
    """Those of this package, and those of the plugins that are loaded.

    Raises:
        SettingsError: Two of them have the same name, or a plugin returned something else.
    """
    returned: list[object] = []
    manager.hook.pytest_serve_chaos_backends.call_historic(result_callback=returned.append)
    return reduce(Backends.and_those, returned, BUILT_IN)
