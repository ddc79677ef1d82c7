"""The page as a participant meets it: well-formed, and a script that shows, takes and keeps what the key expects."""

from __future__ import annotations

import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.study_world import METHODS, make_bench, make_results

from intarsia.evaluation.bench.manifest import Benchmark
from intarsia.evaluation.bench.study import StudyKey, make_study
from intarsia.evaluation.bench.study_page import order_for, random_words, shuffled

DRIVER = Path(__file__).with_name("study_driver.js")
node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return make_bench(tmp_path_factory.mktemp("study") / "bench")


@pytest.fixture(scope="module")
def results(bench: Benchmark) -> Path:
    return make_results(bench.folder.parent / "results", bench)


@pytest.fixture(scope="module")
def study(bench: Benchmark, results: Path) -> tuple[Path, StudyKey]:
    output = bench.folder.parent / "out"
    return output, make_study(bench.folder, results, output, METHODS, participants=10)


def data_of(output: Path) -> dict[str, Any]:
    text = (output / "page" / "index.html").read_text()
    told: dict[str, Any] = json.loads(text.split('id="study">')[1].split("</script>")[0])
    return told


class Strict(HTMLParser):
    """Counts what is open; complains about anything closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_accessible(study: tuple[Path, StudyKey]) -> None:
    output, _ = study
    text = (output / "page" / "index.html").read_text()
    parser = Strict()
    parser.feed(text)
    assert parser.open == []
    assert len(set(parser.ids)) == len(parser.ids)
    assert all(image.get("alt") for image in parser.images)
    assert 'lang="en"' in text and 'aria-live="polite"' in text and '<label for="name">' in text
    told = data_of(output)
    assert "<red>" in told["questions"][0]["prompt"] and "<red>" not in text
    for card in told["questions"]:
        for name in (card["scene"], *card["photos"], *card["options"]):
            assert (output / "page" / "pictures" / f"{name}.png").is_file()


def test_the_generator_is_mulberry32() -> None:
    words = random_words("")  # values of the published code, started from the FNV-1a offset
    assert [next(words), next(words)] == [2625274932, 2119670693]
    assert sorted(shuffled(list(range(20)), "x")) == list(range(20)) != shuffled(list(range(20)), "x")


def test_the_order_is_the_one_that_pages_were_handed_out_with() -> None:
    """Both sides of answers hang on it, so it stays as it is. The values are what the script gave under node."""
    cards = [(f"q{at:03d}", (f"{at}a", f"{at}b")) for at in range(1, 7)]
    shown = {
        name: " ".join(one.options[0] for one in order_for("0123456789abcdef", name, cards, count))
        for name, count in (("1", 10), ("2", 10), ("7", 10), ("Ann_B.2", None))
    }
    assert shown == {
        "1": "3b 5a 1b 4a 6b 2a",
        "2": "2b 1a 4b 3a 5b 6a",
        "7": "5a 4b 6b 1a 2a 3b",
        "Ann_B.2": "6b 5a 4b 3a 2b 1a",
    }
    three = [(name, (*options, f"{at}c")) for at, (name, options) in enumerate(cards, 1)]
    seen = order_for("fedcba9876543210", "eve", three, None)
    assert " ".join("".join(one.options) for one in seen) == "4a4b4c 5a5b5c 1c1a1b 2b2c2a 6b6c6a 3c3a3b"


def driven(
    output: Path, tmp_path: Path, participant: str, keys: str, kept: Any = None, search: str = "", broken: str = "-"
) -> dict[str, Any]:
    (tmp_path / "data.json").write_text(json.dumps(data_of(output)))
    (tmp_path / "kept.json").write_text(json.dumps(kept or {}))
    files = [str(output / "page" / "study.js"), str(tmp_path / "data.json")]
    command = ["node", str(DRIVER), *files, participant, keys, str(tmp_path / "kept.json"), search, broken]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@node
def test_the_script_shows_what_the_key_expects_and_takes_keys(study: tuple[Path, StudyKey], tmp_path: Path) -> None:
    output, key = study
    subprocess.run(["node", "--check", str(output / "page" / "study.js")], check=True)
    told = driven(output, tmp_path, "7", " ".join(["1", "2", "0"] * 10))
    assert told["ended"] and told["saved"] == ["answers-7.json"]
    file = told["file"]
    assert (file["study"], file["participant"], len(file["answers"])) == (key.study, "7", 30)
    expected = order_for(key.study, "7", [(one.id, tuple(one.options)) for one in key.questions], 10)
    shown = [(one["question"], tuple(one["shown"])) for one in file["answers"]]
    assert shown == [(one.id, one.options) for one in expected]
    assert [one["choice"] for one in file["answers"]] == [0, 1, None] * 10
    assert all(one["milliseconds"] == 1500 for one in file["answers"])
    assert set(told["alts"]) == {"Picture 1", "Picture 2"}


@node
def test_a_page_goes_on_where_it_was_and_answers_are_corrected(study: tuple[Path, StudyKey], tmp_path: Path) -> None:
    output, _ = study
    first = driven(output, tmp_path, "3", "1 1 2")
    assert first["count"] == "Question 4 of 30" and len(set(first["widths"])) == 1
    assert first["widths"][0] == "456px"  # 38 pixels of a screen with two of them to each CSS pixel, for each of 24
    assert first["told"] == "Saved." and first["note"] == ""
    assert driven(output, tmp_path, "-", "-", kept=first["kept"])["note"] == "Going on where you were."
    again = driven(output, tmp_path, "-", "ArrowLeft 0 9 ArrowRight", kept=first["kept"])
    assert again["resumed"] and again["count"] == "Question 4 of 30"
    assert [one["choice"] for one in again["file"]["answers"]] == [0, 0, None]
    assert again["file"]["answers"][2]["milliseconds"] == 3000
    invited = driven(output, tmp_path, "-", "-", kept=first["kept"], search="?participant=4")
    assert not invited["resumed"] and invited["name"] == "4"
    assert "1 to 10" in driven(output, tmp_path, "11", "-")["fault"]


@node
def test_script_and_key_agree_on_names_beyond_numbers(bench: Benchmark, results: Path, tmp_path: Path) -> None:
    key = make_study(bench.folder, results, tmp_path / "out", METHODS, questions=7)
    told = driven(tmp_path / "out", tmp_path, "Ann_B.2", " ".join("1" * 7))
    expected = order_for(key.study, "Ann_B.2", [(one.id, tuple(one.options)) for one in key.questions], None)
    shown = [(one["question"], tuple(one["shown"])) for one in told["file"]["answers"]]
    assert shown == [(one.id, one.options) for one in expected]
    assert "letters" in driven(tmp_path / "out", tmp_path, "Jürgen M", "-")["fault"]


@node
def test_a_question_without_its_picture_is_passed_over(study: tuple[Path, StudyKey], tmp_path: Path) -> None:
    output, key = study
    order = order_for(key.study, "5", [(one.id, tuple(one.options)) for one in key.questions], 10)
    gone = order[1]
    told = driven(output, tmp_path, "5", "1 1 ArrowRight" + " 2" * 28, broken=gone.options[0])
    assert told["ended"] and "1 of them not answered" in told["summary"]
    assert len(told["troubles"]) == 2 and "missing or broken" in told["troubles"][0], "before 1 and before the arrow"
    answered = [one["question"] for one in told["file"]["answers"]]
    assert answered == [one.id for one in order if one.id != gone.id]
    stays = driven(output, tmp_path, "5", "1 1 ArrowRight ArrowRight")
    assert stays["count"] == "Question 3 of 30", "where all pictures are there, nothing is passed over"
