"""However the plugin comes into pytest, and wherever an option stands, it is known; the help says what each is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable

import pytest

from pytest_serve_chaos.options import OPTIONS

TEST = "def test_it(chaos): pass"
PLUGIN = "pytest_serve_chaos.plugin"
WRONG = ("--serve-chaos", "--serve-chaos-rate", "fast")
"""The value is refused by the plugin itself, before anything starts: so pytest took the option, and handed it on."""


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test to run, in a wide terminal."""
    for row in OPTIONS:
        monkeypatch.delenv(row.env, raising=False)
    monkeypatch.setenv("COLUMNS", "400")
    pytester.makepyfile(TEST)


def took_the_option(result: pytest.RunResult) -> None:
    assert result.ret == pytest.ExitCode.USAGE_ERROR, result.stdout.str()
    result.stderr.fnmatch_lines(["*Invalid --serve-chaos-rate 'fast' from the command line: it must be a number*"])


def described(result: pytest.RunResult) -> list[str]:
    """The flags that are there with their texts."""
    shown = [" ".join(line.split()) for line in result.stdout.lines]
    return [
        row.flag
        for row in OPTIONS
        if any(line.startswith(row.flag) and row.help[1:] in " ".join(shown[i : i + 2]) for i, line in enumerate(shown))
    ]


ALL = [row.flag for row in OPTIONS]


# -- where an option stands --------------------------------------------------------------------------------------------

INI = f"addopts = {shlex.join(WRONG)}"
TOML = f"addopts = {list(WRONG)}"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        pytest.param("pytest.ini", f"[pytest]\n{INI}", id="pytest.ini"),
        pytest.param("tox.ini", f"[pytest]\n{INI}", id="tox.ini"),
        pytest.param("setup.cfg", f"[tool:pytest]\n{INI}", id="setup.cfg"),
        pytest.param("pytest.toml", f"[pytest]\n{TOML}", id="pytest.toml"),
        pytest.param("pyproject.toml", f"[tool.pytest]\n{TOML}", id="pyproject.toml"),
        pytest.param("pyproject.toml", f"[tool.pytest.ini_options]\n{TOML}", id="ini_options"),
    ],
)
def test_options_may_stand_in_the_configuration(pytester: pytest.Pytester, file: str, text: str) -> None:
    pytester.path.joinpath(file).write_text(text)

    took_the_option(pytester.runpytest_inprocess())


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(WRONG, id="words"),
        pytest.param(("--serve-chaos-rate=fast", "--serve-chaos"), id="equals-sign"),
        pytest.param(("-o", f"addopts={shlex.join(WRONG)}"), id="override"),
        pytest.param(("@arguments",), id="file"),
    ],
)
def test_options_may_stand_on_the_command_line(pytester: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    pytester.path.joinpath("arguments").write_text("\n".join(WRONG))

    took_the_option(pytester.runpytest_inprocess(*arguments))


def test_options_may_stand_in_the_environment(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", f"-p {PLUGIN} {shlex.join(WRONG)}")

    took_the_option(pytester.runpytest_inprocess())


def test_other_plugins_may_add_options_when_pytest_has_begun(pytester: pytest.Pytester) -> None:
    class Adds:
        def pytest_load_initial_conftests(self, args: list[str]) -> None:
            args[:0] = WRONG

    took_the_option(pytester.runpytest_inprocess(plugins=[Adds()]))


# -- how the plugin comes in -------------------------------------------------------------------------------------------

Run = Callable[..., pytest.RunResult]


@pytest.fixture(params=["module", "short name", "entry point", "PYTEST_PLUGINS", "pytest.main", "conftest"])
def run(request: pytest.FixtureRequest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest in a process of its own, where the plugin comes in one of many ways."""
    monkeypatch.delenv("PYTEST_ADDOPTS")
    way: str = request.param
    if way in ("module", "short name"):
        name = PLUGIN if way == "module" else "serve_chaos"
        return lambda *arguments: pytester.runpytest_subprocess("-p", name, *arguments)
    if way == "entry point":
        monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    elif way == "PYTEST_PLUGINS":
        monkeypatch.setenv("PYTEST_PLUGINS", PLUGIN)
    elif way == "conftest":
        pytester.makeconftest(f"pytest_plugins = ['{PLUGIN}']")
    else:
        program = f"import pytest, sys; sys.exit(pytest.main(sys.argv[1:], plugins=['{PLUGIN}']))"
        return lambda *arguments: pytester.run(sys.executable, "-c", program, *arguments)
    return pytester.runpytest_subprocess


def test_options_are_known(run: Run) -> None:
    took_the_option(run(*WRONG))


def test_help_says_what_each_option_is(run: Run) -> None:
    assert described(run("--help")) == ALL


def test_options_without_serve_chaos_do_nothing(run: Run) -> None:
    run("--serve-chaos-rate", "5", "--serve-chaos-keep", "--serve-chaos-headers=A: b").assert_outcomes(skipped=1)


# -- the help ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("-h",), ("-qh",), ("--serve-chaos", "--help"), ("-o", "addopts=-h")])
def test_help_may_be_asked_for_otherwise(pytester: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    assert described(pytester.runpytest_inprocess(*arguments)) == ALL


def test_help_that_is_asked_for_in_the_configuration(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\naddopts = --help")

    assert described(pytester.runpytest_inprocess()) == ALL


def test_help_is_there_although_something_is_wrong(pytester: pytest.Pytester) -> None:
    assert described(pytester.runpytest_inprocess("--help", "--serve-chaos-rate")) == ALL


def test_help_has_the_keys_of_the_configuration(pytester: pytest.Pytester) -> None:
    shown = pytester.runpytest_inprocess("--help").stdout.str()

    assert [row.ini for row in OPTIONS if shown.count(f"  {row.ini} ({row.kind.ini}):") != 1] == []


# -- what is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--serve-chaos-rat=5", "*unrecognized arguments: --serve-chaos-rat. Did you mean --serve-chaos-rate[?]"),
        ("--serve_chaos_rate=5", "*unrecognized arguments: --serve_chaos_rate. Did you mean --serve-chaos-rate[?]"),
        ("--server-chaos-rate=5", "*unrecognized arguments: --server-chaos-rate. Did you mean --serve-chaos-rate[?]"),
        ("--serve-choas", "*unrecognized arguments: --serve-choas. Did you mean --serve-chaos[?]"),
        ("--serve-chaos-weather", "*error: unrecognized arguments: --serve-chaos-weather"),
        ("--serve-chaos-rate", "*error: argument --serve-chaos-rate: expected one argument"),
        ("--serve-chaos=yes", "*error: argument --serve-chaos: ignored explicit argument 'yes'"),
    ],
)
@pytest.mark.parametrize("also", ["--serve-chaos", "-q"])
def test_what_is_no_option_is_a_usage_error(pytester: pytest.Pytester, argument: str, message: str, also: str) -> None:
    result = pytester.runpytest_inprocess(also, argument)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_keys_of_the_configuration_are_known_without_serve_chaos(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nserve_chaos_rate = 5\nserve_chaos_headers = A: b")

    result = pytester.runpytest_inprocess("--strict-config", "-o", "serve_chaos_workers=3")

    result.assert_outcomes(skipped=1)


def test_a_key_that_there_is_not_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nserve_chaos_rat = 5")

    result = pytester.runpytest_inprocess("--strict-config")

    result.stderr.fnmatch_lines(["*Unknown config option: serve_chaos_rat*"])


# -- what others can ask -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "rate", "headers", "keep"),
    [
        ((), None, None, None),
        (("--serve-chaos-rate=5",), "5", None, None),
        (("--serve-chaos-headers=A: b", "--serve-chaos-headers=C: d"), None, ["A: b", "C: d"], None),
        (("--serve-chaos-keep",), None, None, True),
    ],
)
def test_others_can_ask_for_each_option_without_serve_chaos(
    pytester: pytest.Pytester, arguments: tuple[str, ...], rate: object, headers: object, keep: object
) -> None:
    config = pytester.parseconfig(*arguments)

    assert {config.getini(row.ini) for row in OPTIONS} == {None}
    for row in OPTIONS:
        given = {"rate": rate, "headers": headers, "keep": keep}.get(row.name)
        assert config.getoption(row.ini) == given
        assert config.getoption(row.flag) == given
    assert config.getoption("serve_chaos") is config.getoption("--serve-chaos") is False
