"""`rehydrate FILE`: what a person reads of each kind of file, and that what it says to type works."""

from __future__ import annotations

import json
import pickle
import re
import shlex
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from torch import nn

import rehydrate as rh
from rehydrate.text import columns
from tests.effort import tried

from ..hostile.archives import torch_zip
from ..hostile.assembler import call, empty_dict, persid_binary, pickle_of, storage_id, tensor, unicode
from .conftest import Run
from .files import KINDS, digits, write


def widest(text: str) -> int:
    return max(map(columns, text.splitlines()), default=0)


def typed(out: str) -> tuple[list[str], str]:
    """What a report says to type: lines for the shell, and a piece of Python."""
    shell: list[str] = []
    python: list[str] = []
    block = out[out.rindex("\n  next  ") + 1 :].splitlines()
    for line in block:
        assert line[:11].strip() in ("next", "or", "")
        if line[11:].startswith("rehydrate "):
            shell.append(line[11:])
        else:
            python.append(line[11:])
    return shell, "\n".join(python)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, entered."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_fits_a_terminal_and_says_the_six_things(kind: str, run: Run, elsewhere: Path) -> None:
    write(Path("file.pth"), kind)
    done = run("file.pth")
    assert (done.code, done.err) == (0, "")
    assert widest(done.out) < 80
    labels = re.findall(r"^  (is|holds|model|imports|next) +\S", done.out, re.MULTILINE)
    assert labels == ["is", "holds", "model", "imports", "next"]
    assert not re.search(r"\b1 \w+s\b|entrys", done.out.partition("  next")[0])
    assert len(done.out.splitlines()) < 40


@pytest.mark.parametrize("kind", KINDS)
def test_the_python_that_a_report_says_to_type_runs_as_it_stands(kind: str, run: Run, elsewhere: Path) -> None:
    write(Path("file.pth"), kind)
    shell, python = typed(run("file.pth").out)
    namespace: dict[str, object] = {}
    exec(compile(python, "next", "exec"), namespace)
    made = [value for name, value in namespace.items() if name not in ("rh", "__builtins__", "path")]
    assert len(made) == 1
    if isinstance(made[0], rh.Weights):
        assert all(ref.numpy() is not None for ref in made[0].values())
    assert bool(shell) == (kind == "digits")


@pytest.mark.parametrize("kind", ["state dict", "container", "whole model", "gan", "raw and ema", "list"])
def test_the_comment_that_a_report_ends_with_loads_the_model(kind: str, run: Run, elsewhere: Path) -> None:
    from ..checkpoint.kinds import Net

    write(Path("file.pth"), kind)
    _, python = typed(run("file.pth").out)
    code, comment = python.rsplit("# into your own model: ", 1)
    namespace: dict[str, object] = {"model": Net()}
    exec(compile(code + "match = " + comment, "next", "exec"), namespace)
    assert namespace["match"]


def test_the_command_that_a_report_of_digits_says_to_type_reads_one(run: Run, elsewhere: Path) -> None:
    torch.save(torch.load(rh.zoo.mnist.weights("large"), weights_only=True), "file.pth")
    picture = Image.new("L", (60, 60), 255)
    ImageDraw.Draw(picture).line([(30, 10), (30, 50)], fill=0, width=5)
    picture.save("one.png")
    shell, _ = typed(run("file.pth").out)
    program, *words = shlex.split(shell[0].replace("PICTURE", "one.png"))
    assert program == "rehydrate"
    assert run(*words).code == 0


@pytest.mark.parametrize(
    "name",
    [
        "with space.pth", "quote's.pth", 'double"quote.pth', "back\\slash.pth", "new\nline.pth", "tab\t.pth",
        "esc\x1b[31m.pth", "模型权重文件.pth", "rtl\u202e.pth", "-dash.pth", "$HOME.pth", "*.pth", "#1.pth", "{x}.pth",
        "FILE", "a" * 200 + ".pth", "模" * 60 + ".pth", "undecodable\udcff.pth", "e\u0301" * 50 + ".pth",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["state dict", "digits", "gan", "scalars"])
def test_any_name_of_a_file_is_shown_safely_and_can_be_typed(name: str, kind: str, run: Run, elsewhere: Path) -> None:
    try:
        write(Path(name.replace("-dash", "./-dash")), kind)
    except (OSError, RuntimeError, UnicodeError):
        write(Path("plain"), kind)
        Path("plain").rename(name)
    done = run(*(["--", name] if name.startswith("-") else [name]))
    assert done.code == 0, done.err
    assert widest(done.out) < 80
    assert all(line.isprintable() for line in done.out.splitlines())
    shell, python = typed(done.out)
    namespace: dict[str, object] = {}
    exec(compile(python, "next", "exec"), namespace)
    for line in shell:
        assert shlex.split(line)[-1] == name


def test_long_names_of_a_file_are_written_over_several_lines(run: Run, elsewhere: Path) -> None:
    folder = Path("/".join(["a_folder_with_a_name"] * 6))
    folder.mkdir(parents=True)
    write(folder / "linear.pth")
    done = run(folder / "linear.pth")
    _, python = typed(done.out)
    assert "path = (" in python
    assert widest(done.out) < 80
    namespace: dict[str, object] = {}
    exec(compile(python, "next", "exec"), namespace)
    assert namespace["path"] == str(folder / "linear.pth")


def test_the_part_that_is_the_model_is_named_with_what_was_taken_off(run: Run, tmp_path: Path) -> None:
    out = run(write(tmp_path / "file.pth", "container")).out
    plain = " ".join(out.split())
    assert "model 'state_dict': 9 tensors, 72 numbers (63 without running statistics), float32, int64" in plain
    assert "prefix 'module.' (DataParallel) taken off 9 of 9 names" in out
    assert "epoch: 37\n" in out
    assert "optimizer: an optimizer's state, 6 tensors\n" in out
    assert "best: 99.25\n" in out
    assert "args: Namespace(lr=0.1, arch='net')\n" in out


def test_two_models_are_listed_and_neither_is_chosen(run: Run, tmp_path: Path) -> None:
    out = run(write(tmp_path / "file.pth", "raw and ema")).out
    assert "there are 2 models in this file" in out
    assert "'model': 9 tensors, 72 numbers\n" in out
    assert "'ema': 9 tensors, 72 numbers\n" in out


def test_what_would_have_been_imported_is_named_the_strangest_first(run: Run, tmp_path: Path) -> None:
    plain = [unicode(f"k{at}") + call(f"package{at}", "Thing") + b"s" for at in range(20)]
    evil = unicode("e") + call("posix", "system", unicode("true")) + b"s"
    path = tmp_path / "file.pth"
    path.write_bytes(torch_zip(pickle_of(empty_dict, *plain, evil)))
    out = " ".join(run(path).out.split())
    assert (
        "imports none here; an unsafe torch.load would import 21 names and call 21: posix.system, package0.Thing" in out
    )
    assert "and 15 more" in out


def test_data_only_is_said(run: Run, tmp_path: Path) -> None:
    assert "imports   nothing: it is data only\n" in run(write(tmp_path / "file.pth")).out


def test_where_it_was_saved_is_said(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(
        torch_zip(
            pickle_of(empty_dict, unicode("w"), tensor(storage=storage_id(location="cuda:3") + persid_binary), b"s")
        )
    )
    assert "saved on  cuda:3\n" in run(path).out


def test_memory_that_two_names_share_is_counted_once(run: Run, tmp_path: Path) -> None:
    weight = torch.zeros(10, 4)
    path = tmp_path / "file.pth"
    torch.save({"wte.weight": weight, "head.weight": weight}, path)
    assert "2 tensors, 40 numbers" in run(path).out


def test_a_whole_model_tells_its_parameters_from_its_buffers(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), path)
    assert "21 numbers" not in run(path).out
    assert "17 numbers (12 of them parameters)" in run(path).out


def test_a_known_network_is_recognised(run: Run, tmp_path: Path) -> None:
    assert "looks like zoo.mnist.ConvNet (2019, 431,080 parameters)" in run(write(tmp_path / "f.pth", "digits")).out


def test_a_known_network_in_a_file_of_two_is_not_offered_as_the_only_one(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save({"a": digits(), "b": digits()}, path)
    assert "predict" not in run(path).out


texts = st.text(st.characters(codec="utf-8"), max_size=60)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.integers(), inner, max_size=4),
    max_leaves=12,
)


@tried(80)
@given(values, st.lists(texts.filter(bool), max_size=14, unique=True))
def test_nothing_that_a_file_says_reaches_the_terminal_as_it_is(
    run: Run, tmp_path: Path, value: object, names: list[str]
) -> None:
    path = tmp_path / "file.pth"
    torch.save(
        {"value": value, "net": {name: torch.zeros(2, 2) for name in names}, "net2": {"a.b": torch.zeros(1)}}, path
    )
    done = run(path)
    assert done.code == 0
    assert widest(done.out) < 80
    unsafe = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not [letter for letter in done.out if letter != "\n" and unicodedata.category(letter) in unsafe]


def test_each_of_several_files_has_its_own_block_and_the_worst_code_counts(run: Run, tmp_path: Path) -> None:
    good, bad, other = write(tmp_path / "a.pth"), tmp_path / "none.pth", write(tmp_path / "b.pth", "scalars")
    done = run(good, bad, other)
    assert done.code == 2
    assert [line for line in done.out.splitlines() if line.endswith(".pth")] == [str(good)[-79:], str(other)[-79:]]
    assert f"\n\n{other}\n" in done.out
    assert "rehydrate: there is no such file\n" in done.err


def object_of(out: str) -> dict[str, object]:
    assert len(out.splitlines()) == 1
    whole = json.loads(out)
    assert list(whole) == ["schema_version", "command", "ok", "results", "problems"]
    assert whole["schema_version"] == 1
    for problem in whole["problems"]:
        assert list(problem) == ["code", "severity", "message", "hint"]
    return whole


@pytest.mark.parametrize("kind", KINDS)
def test_json_is_one_object_with_one_result(kind: str, run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "file.pth", kind)
    done = run(path, "--json")
    whole = object_of(done.out)
    assert (done.code, done.err, whole["ok"], whole["problems"], whole["command"]) == (0, "", True, [], "inspect")
    (result,) = whole["results"]  # type: ignore[misc]
    with rh.open(path) as checkpoint:
        assert result["path"] == str(path)
        assert result["ok"] is True
        assert result["format"] == checkpoint.format
        assert result["bytes"] == path.stat().st_size
        assert [entry["name"] for entry in result["tensors"]] == list(checkpoint)
        models = len(result["models"])
        if models == 1:
            assert result["model"]["tensors"] == list(checkpoint.weights())
        else:
            assert result["model"] is None
            with pytest.raises(rh.AmbiguousError if models else rh.NoSuchTensorError):
                checkpoint.weights()


def test_json_has_one_result_for_each_input_also_for_those_that_failed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_bytes(b"<html><title>Sign in</title></html>")
    paths = [write(tmp_path / "a.pth"), tmp_path / "none.pth", tmp_path / "page.pth", write(tmp_path / "b\n.pth")]
    done = run("--json", *paths)
    whole = object_of(done.out)
    assert (done.code, whole["ok"], done.err) == (2, False, "")
    results = whole["results"]
    assert [result["path"] for result in results] == [str(path) for path in paths]  # type: ignore[attr-defined]
    assert [result["ok"] for result in results] == [True, False, False, True]  # type: ignore[attr-defined]
    codes = [problem["code"] for problem in whole["problems"]]  # type: ignore[attr-defined]
    assert codes == ["missing-file", "not-a-checkpoint"]
    assert "Sign in" in whole["problems"][1]["message"]  # type: ignore[index]


def test_twenty_thousand_levels_and_as_many_entries_are_no_trouble(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "deep.pickle"
    path.write_bytes(b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".")
    assert run(path).code == 0
    path.write_bytes(pickle.dumps({f"key {at}": at for at in range(20_000)}))
    done = run(path)
    assert done.code == 0
    assert "and 19,992 more" in done.out


def test_every_real_file_is_reported_or_refused_in_words(run: Run, test_data: Path) -> None:
    seen = 0
    for path in sorted((test_data / "checkpoints").rglob("*")):
        if not path.is_file():
            continue
        done = run(path)
        seen += 1
        assert done.code in (0, 2)
        assert widest(done.out + done.err) < 80, path
        assert (done.out == "") == (done.code == 2), path
        assert "Traceback" not in done.err
    assert seen > 200
