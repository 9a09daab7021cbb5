from pathlib import Path

import pytest

from assent.recipes.run.names import unique_names


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["runs/sft", "runs/ppo"], ["sft", "ppo"]),
        (["runs/sft/model", "runs/ppo/model"], ["sft", "ppo"]),
        (["one/ppo", "two/ppo"], ["one/ppo", "two/ppo"]),
        (["one/ppo/model", "two/ppo", "two/sft"], ["one/ppo", "two/ppo", "sft"]),
        (["deep/one/x/ppo", "deep/two/x/ppo"], ["one/x/ppo", "two/x/ppo"]),
        (["org/name", "runs/sft"], ["org/name", "sft"]),
        (["runs/oracle"], ["runs/oracle"]),
    ],
)
def test_folders_are_named_as_shortly_as_keeps_them_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], names: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in given:
        if not place.startswith("org/"):  # a hub name is no folder here
            (tmp_path / place).mkdir(parents=True)
    assert unique_names(given, taken=("oracle",)) == names


def test_the_same_folder_twice_has_one_name_and_the_search_ends(tmp_path: Path) -> None:
    first, second = unique_names([tmp_path, tmp_path])
    assert first == second == "/".join(tmp_path.resolve().parts[1:])
