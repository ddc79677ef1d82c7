"""Reading training pairs: every row once an epoch, in an order of the seed's, resumed at the very sample."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.pair_folders import SIZE, row, write_shards, write_table, write_tar

from intarsia.training.pair_rows import PairError, decode_pair, swap_sides
from intarsia.training.pair_stream import ShardStream


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("pairs")
    return write_shards(root / "engine", (3, 2, 4)), write_shards(root / "other", (2, 1), first=100)


def keys(stream: ShardStream, count: int) -> list[str]:
    return [stream.next_row()[0] for _ in range(count)]


def test_every_row_once_an_epoch_in_an_order_of_its_own(folders: tuple[Path, Path]) -> None:
    stream = ShardStream(folders[0], seed=3)
    assert len(stream) == 9 and stream.names == ("engine",)
    epochs = [keys(stream, 9) for _ in range(3)]
    assert all(sorted(epoch) == [f"{n:05d}" for n in range(9)] for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert keys(ShardStream(folders[0], seed=3), 27) == [key for epoch in epochs for key in epoch]
    assert keys(ShardStream(folders[0], seed=4), 9) != epochs[0]
    assert [pair.key for pair in stream.once()] == [f"{n:05d}" for n in range(9)]


@given(before=st.integers(0, 9000), seed=st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_it_goes_on_at_the_very_sample(folders: tuple[Path, Path], before: int, seed: int) -> None:
    first = ShardStream(folders, (3, 1), seed)
    first.seek(max(0, before - 5))
    first.seek(before)
    state, expected = first.state(), keys(first, 12)
    resumed, walked = ShardStream(folders, (3, 1), seed), ShardStream(folders, (3, 1), seed)
    resumed.restore(state)
    assert keys(resumed, 12) == expected
    for _ in range(before % 50):
        walked.next_row()
    walked.seek(before)
    assert keys(walked, 12) == expected
    walked.seek(before)
    assert keys(walked, 12) == expected


def test_folders_are_mixed_by_weight_and_each_keeps_its_epochs(folders: tuple[Path, Path]) -> None:
    stream = ShardStream(folders, (3, 1), seed=1)
    rows = [stream.next_row() for _ in range(4000)]
    shares = Counter(name for _, _, name in rows)
    assert shares["engine"] / 4000 == pytest.approx(0.75, abs=0.03)
    other = [key for key, _, name in rows if name == "other"]
    whole = other[: len(other) - len(other) % 3]
    assert all(len(set(whole[n : n + 3])) == 3 for n in range(0, len(whole), 3))
    by_size = ShardStream(folders)
    assert by_size.weights == (0.75, 0.25)
    assert ShardStream([folders[0], folders[0]]).names == ("engine", "engine-2")


def test_another_stream_is_not_resumed(folders: tuple[Path, Path]) -> None:
    state = ShardStream(folders[0], seed=1).state()
    with pytest.raises(PairError, match="seed was 1 and is now 2"):
        ShardStream(folders[0], seed=2).restore(state)
    with pytest.raises(PairError, match="sizes"):
        ShardStream(folders[1], seed=1).restore(state)
    for weights in ((1,), (0, 0), (1, -1)):
        with pytest.raises(PairError, match="weights"):
            ShardStream(folders, weights)


def test_pairs_are_decoded(folders: tuple[Path, Path]) -> None:
    for pair in islice(ShardStream(folders[0]), 9):
        assert pair.source.shape == pair.target.shape == (*SIZE, 3) and pair.mask.sum() == 100
        assert (pair.source != pair.target).any(2).sum() <= 100 and pair.dataset == "engine"
        assert pair.instructions == (f"add a red square {int(pair.key)}", "add a square", "")


def test_an_engines_output_is_read_once_it_is_finished_and_where_it_is_chosen(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    write_shards(tmp_path / "run" / "shards", (2, 2))
    (tmp_path / "run" / "engine.json").write_text("{}")
    with pytest.raises(PairError, match="not finished"):
        ShardStream(tmp_path / "run")
    (tmp_path / "run" / "manifest.json").write_text("{}")
    # What engines keep of all rows, without pictures, beside the tars.
    table = pyarrow.table({"key": ["00000", "00001", "00002", "00003"], "rejected": [None, "small", None, "small"]})
    pyarrow.parquet.write_table(table, tmp_path / "run" / "shards" / "00000.parquet")
    assert len(ShardStream(tmp_path / "run")) == 4
    pyarrow.parquet.write_table(table, tmp_path / "run" / "selection.parquet")
    assert sorted(keys(ShardStream(tmp_path / "run"), 2)) == ["00000", "00002"]


def test_pipes_tables_are_read_without_their_test_split(tmp_path: Path) -> None:
    write_table(tmp_path / "data" / "train-00000-of-00002.parquet", 5, 2)
    write_table(tmp_path / "data" / "train-00001-of-00002.parquet", 3, 2)
    write_table(tmp_path / "data" / "test-00000-of-00001.parquet", 4, 2)
    stream = ShardStream(tmp_path, seed=5)
    assert len(stream) == 8
    pairs = list(islice(stream, 8))
    assert len({pair.key for pair in pairs}) == 8
    # Without a mask the object is where the pictures differ.
    assert all(0 < pair.mask.sum() <= 100 and pair.location == "the left" for pair in pairs)


def test_bad_folders_and_rows_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(PairError, match="no folder"):
        ShardStream(tmp_path / "nothing")
    with pytest.raises(PairError, match="holds no training pairs"):
        ShardStream(tmp_path)
    with pytest.raises(PairError, match="at least one"):
        ShardStream([])
    (tmp_path / "x.tar").write_bytes(b"no tar at all")
    with pytest.raises(PairError, match="not a tar"):
        ShardStream(tmp_path)
    small = row(1)["mask"]
    for changes, message in (
        ({"source_img": None}, "no picture 'source_img'"),
        ({"target_img": b"broken"}, "cannot be read"),
        ({"Instruction_VLM-LLM": None, "Instruction_Class": " "}, "no instruction"),
        ({"source_img": small[:40] + small[40:], "mask": small}, None),
    ):
        if message is not None:
            with pytest.raises(PairError, match=message) as caught:
                decode_pair("k", row(1) | changes, "d")
            assert "\n" not in str(caught.value) and "'k'" in str(caught.value)
    write_tar(tmp_path / "y" / "0.tar", {"a": row(1, source_img=row(2)["mask"][:30])})
    with pytest.raises(PairError, match="'a'"):
        next(iter(ShardStream(tmp_path / "y")))


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("add a mug at the left", "add a mug at the right"),
        ("Right and LEFT, leftmost Left-hand", "Left and RIGHT, rightmost Right-hand"),
        ("add a bright mug upright on leftovers", "add a bright mug upright on leftovers"),
        ("put it right next to the cup on the right", "put it right next to the cup on the left"),
        ("at the top right behind the cup", "at the top left behind the cup"),
        ("cup right in front of the plate", "cup right in front of the plate"),
        ("cup right at the edge on right behind the car", "cup right at the edge on left behind the car"),
        ("the only cake left", "the only cake left"),
        ("second cup from left", "second cup from right"),
    ],
)
def test_sides_are_swapped_as_words(text: str, other: str) -> None:
    assert swap_sides(text) == other and swap_sides(other) == text


def test_a_mirrored_pair_says_the_other_side() -> None:
    pair = decode_pair("k", row(3), "d")
    mirrored = pair.mirrored()
    assert np.array_equal(mirrored.target, pair.target[:, ::-1]) and mirrored.location == "the right"
    twice = mirrored.mirrored()
    assert np.array_equal(twice.mask, pair.mask) and twice.instructions == pair.instructions


def test_other_pairs_of_the_same_number_are_another_stream(tmp_path: Path) -> None:
    one, same = (write_shards(tmp_path / name, (3, 4)) for name in ("one", "same"))
    other = write_shards(tmp_path / "other", (3, 4), first=20)
    assert ShardStream(one).state() == ShardStream(same).state()
    with pytest.raises(PairError, match="digests"):
        ShardStream(other).restore(ShardStream(one).state())
    write_table(tmp_path / "tables" / "a.parquet", 4, 2)
    write_table(tmp_path / "longer" / "a.parquet", 4, 4)
    assert ShardStream(tmp_path / "tables").digests != ShardStream(tmp_path / "longer").digests
