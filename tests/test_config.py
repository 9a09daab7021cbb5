from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from assent.config import Settings, as_dict, difference, fingerprint, parse
from assent.errors import ConfigError


class Estimator(StrEnum):
    K1 = "k1"
    K3 = "k3"


class Kl(Settings):
    weight: float = Field(default=0.05, ge=0)
    estimator: Estimator = Estimator.K3


class Ppo(Settings):
    learning_rate: float = Field(default=1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    kl: Kl = Kl()


class Words(Settings):
    words: tuple[str, ...] = ()


class Run(Settings):
    seed: int = 0
    name: str = "run"
    out: Path = Path("runs/one")
    shuffle: bool = True
    ppo: Ppo = Ppo()
    suites: tuple[Kl, ...] = ()


def refusal(tmp_path: Path, text: str = "", overrides: tuple[str, ...] = (), cls: type[Settings] = Run) -> str:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        parse(cls, file=file, overrides=overrides)
    return str(caught.value).replace(str(tmp_path) + "/", "")


def test_later_sources_win_and_tables_are_merged(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('seed = 2\n[ppo]\nlearning_rate = 1\n[ppo.kl]\nestimator = "k1"\n')
    base = {"seed": 1, "name": "base", "ppo": {"betas": (0.5, 0.6)}, "out": Path("elsewhere")}
    settings = parse(Run, file=file, overrides=["seed=3", "ppo.kl.weight = 1e-2", "ppo.clip=0.2"], base=base)
    assert settings == Run(
        seed=3,
        name="base",
        out=Path("elsewhere"),
        ppo=Ppo(learning_rate=1.0, betas=(0.5, 0.6), clip=0.2, kl=Kl(weight=0.01, estimator=Estimator.K1)),
    )


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Run().seed = 1  # type: ignore[misc]


def test_words_where_a_list_is_expected_are_its_items() -> None:
    def betas(text: str) -> tuple[float, float]:
        return parse(Ppo, overrides=[f"betas={text}"]).betas

    assert betas("0.5, 0.6") == betas("[0.5, 0.6]") == (0.5, 0.6)

    def words(text: str) -> tuple[str, ...]:
        return parse(Words, overrides=[f"words={text}"]).words

    assert words("good") == words('"good"') == words('["good"]') == ("good",)
    assert words("good, very good") == words('"good","very good"') == ("good", "very good")
    assert words("[]") == ()
    with pytest.raises(ConfigError, match=r'--set words=3: setting "words.0": expected a valid string, got 3'):
        words("3")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (lambda: 0, "got an object of type function"),
        (int, "got the class int"),
        ({1, 2}, "got an object of type set"),
        (b"3", "got an object of type bytes"),
        ([1, object()], 'setting "seed.1": expected text, a number, true or false, a list or a table'),
        ("3", "expected a valid integer"),
    ],
)
def test_what_no_file_could_hold_is_refused_where_a_program_gives_it(value: object, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Run, base={"seed": value})
    assert expected in str(caught.value)


def test_numbers_of_other_libraries_are_numbers() -> None:
    settings = parse(Run, base={"seed": np.int64(3), "ppo": {"learning_rate": np.float32(0.5)}})
    assert (settings.seed, settings.ppo.learning_rate) == (3, 0.5)


def test_an_override_that_is_no_toml_or_stands_where_text_is_expected_is_text() -> None:
    settings = parse(Run, overrides=["name=2024", "out=runs/a b", "ppo.precision=bf16", "ppo.kl.estimator=k1"])
    assert (settings.name, settings.out, settings.ppo.precision) == ("2024", Path("runs/a b"), "bf16")
    assert settings.ppo.kl.estimator is Estimator.K1
    assert parse(Run, overrides=["name=true=false"]).name == "true=false"
    assert parse(Run, overrides=["name=1\nseed = 4"]).seed == 0


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ("sed = 3", (), 'run.toml:1: unknown setting "sed"; did you mean "seed"?'),
        (
            "\n[ppo]\nlerning_rate = 1",
            (),
            'run.toml:3: unknown setting "ppo.lerning_rate"; did you mean "ppo.learning_',
        ),
        (
            "",
            ("learning_rate=1",),
            '--set learning_rate=1: unknown setting "learning_rate"; did you mean "ppo.learning',
        ),
        ("", ("ppo.zzzz=1",), "known here: ppo.betas, ppo.clip, ppo.kl, ppo.learning_rate, ppo.precision"),
        ("ppo.learning_rate = -3", (), 'run.toml:1: setting "ppo.learning_rate": expected greater than 0, got -3'),
        (
            '[ppo]\nlearning_rate = "1e-3"',
            (),
            'run.toml:2: setting "ppo.learning_rate": expected a valid number, got "1',
        ),
        ("[ppo]\nlearning_rate = inf", (), "expected a finite number, got Infinity"),
        ("", ("ppo.kl.weight=nan",), '--set ppo.kl.weight=nan: setting "ppo.kl.weight": expected a finite number'),
        ("seed = 1.0", (), 'run.toml:1: setting "seed": expected a valid integer, got 1.0'),
        ("seed = true", (), 'run.toml:1: setting "seed": expected a valid integer, got true'),
        ("shuffle = 1", (), 'run.toml:1: setting "shuffle": expected a valid boolean, got 1'),
        ("name = 3", (), 'run.toml:1: setting "name": expected a valid string, got 3'),
        ("ppo = 3", (), 'run.toml:1: setting "ppo": expected a table, got 3'),
        ("", ("ppo.precision=fp8",), "expected 'fp32' or 'bf16', got \"fp8\""),
        ("[[suites]]\nweight = 1\n[[suites]]\nweight = true", (), 'setting "suites.1.weight": expected a valid number'),
        ("seed = = 3", (), "run.toml:1: not valid TOML: Invalid value"),
        ('seed = 1\nname = "x', (), "run.toml:2: not valid TOML"),
        ("seed = 1\nseed = 2", (), "run.toml:2: not valid TOML: Cannot overwrite a value"),
        ("", ("seed",), "--set seed: expected a name, = and a value"),
        ("", ("=3",), "--set =3: expected a name, = and a value"),
        ("", ("ppo..clip=3",), "--set ppo..clip=3: expected a name, = and a value"),
    ],
)
def test_every_mistake_names_its_place_its_value_and_a_remedy(
    tmp_path: Path, text: str, overrides: tuple[str, ...], expected: str
) -> None:
    assert expected in refusal(tmp_path, text, overrides)


def test_several_mistakes_are_listed_together(tmp_path: Path) -> None:
    message = refusal(tmp_path, "sed = 3\nname = 4", ("ppo.clip=no",))
    assert message.startswith("3 settings are invalid:\n")
    assert all(part in message for part in ("run.toml:1: unknown", 'run.toml:2: setting "name"', "--set ppo.clip=no: "))


def test_a_missing_setting_is_named(tmp_path: Path) -> None:
    class Needs(Settings):
        data: Path

    assert 'the setting "data" is missing' in refusal(tmp_path, cls=Needs)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes('name = "é"'.encode("latin-1"))
    for path, reason in ((tmp_path / "no.toml", "no such"), (tmp_path, "cannot"), (tmp_path / "latin.toml", "UTF-8")):
        with pytest.raises(ConfigError, match=reason) as caught:
            parse(Run, file=path)
        assert str(caught.value).startswith(str(path))


def test_the_fingerprint_knows_values_and_not_order() -> None:
    assert fingerprint({"a": 1, "b": {"c": 2.5, "d": None}}) == fingerprint({"b": {"d": None, "c": 2.5}, "a": 1})
    assert fingerprint(Run()) == fingerprint(as_dict(Run())) != fingerprint(Run(seed=1))


def test_the_difference_reads_as_old_and_new() -> None:
    old, new = as_dict(Run()), as_dict(parse(Run, overrides=["seed=1", "ppo.kl.weight=0.1", "shuffle=false"]))
    del new["name"]
    assert difference(old, new) == [
        'name: "run" -> absent',
        "ppo.kl.weight: 0.05 -> 0.1",
        "seed: 0 -> 1",
        "shuffle: true -> false",
    ]
    assert difference({"flag": True}, {"flag": 1}) == ["flag: true -> 1"]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=3), plain, max_size=3), st.dictionaries(st.text(max_size=3), plain, max_size=3))
def test_what_is_the_same_has_no_difference(old: dict[str, object], new: dict[str, object]) -> None:
    assert difference(old, old) == []
    if fingerprint(old) == fingerprint(new):
        assert difference(old, new) == []
