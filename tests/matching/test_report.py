"""The report: three lines of totals, a screenful of rows, the verdict last, and nothing of a file that does harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rehydrate.errors import MismatchError
from rehydrate.matching.allow import Allow
from rehydrate.matching.match import Match, Target, match_weights
from rehydrate.matching.rules.every import Drop, Prefix, Rename
from tests.matching.made import Shapes, linear, resnet, targets_of_shapes, under, weights_of

from ..growth import assert_grows_like_its_work


def matched(file: Shapes, model: Shapes, **more: Any) -> Match:
    return match_weights(weights_of(file), targets_of_shapes(model), "Net", **more)


def test_a_small_model_has_a_small_report() -> None:
    assert str(matched(linear("fc", 2, 3), linear("fc", 2, 3))) == (
        "Net: 2 of 2 tensors fit, 100 % of its parameters\n"
        "  2 of 2 tensors of the file used\n"
        "  0 missing, 0 unexpected, 0 of another size\n"
        "  fc.{weight, bias}  by name  2 tensors\n"
        "everything fits"
    )


def test_a_large_model_is_a_screenful() -> None:
    text = str(matched(under("backbone.", resnet(1000, depth=9)), resnet(3, depth=9)))
    lines = text.splitlines()
    assert len(lines) < 25
    assert max(map(len, lines)) < 100
    assert lines[0] == "Net: 168 of 170 tensors fit, 99.79 % of its parameters"
    assert "  layer{1...9}.0.conv{1...2}.weight" in text
    assert "18 tensors" in text
    assert lines[-1] == "does not fit: 2 of another size; only the head differs: fc, 1000 → 3 classes"


def test_rows_of_many_kinds_end_with_how_many_are_left() -> None:
    names = {f"{chr(97 + at)}{chr(97 + more)}.{chr(97 + at)}": (1,) for at in range(26) for more in range(26)}
    lines = str(matched(names, names)).splitlines()
    assert lines[-2] == "  and 664 tensors more  by name"
    assert len(lines) == 3 + 12 + 2


def test_problems_are_in_torchs_words_with_a_guess() -> None:
    file = {"fc.wieght": (2, 3), "fc.bias": (4,), "extra": (1,)}
    text = str(matched(file, linear("fc", 2, 3)))
    assert 'Missing key(s) in state_dict: 1: "fc.weight" (did you mean fc.wieght?)' in text
    assert 'Unexpected key(s) in state_dict: 2: "fc.wieght" (did you mean fc.weight?), "extra"' in text
    assert "size mismatch for fc.bias: the checkpoint has [4], the model [2]" in text
    assert text.splitlines()[-1] == "does not fit: 1 missing, 2 unexpected, 1 of another size"


def test_the_error_says_what_the_report_says() -> None:
    match = matched(resnet(1000), resnet(3))
    with pytest.raises(MismatchError) as caught:
        match.raise_if_bad()
    text = str(caught.value)
    assert "the checkpoint does not fit Net: 2 of another size (Error(s) in loading state_dict)" in text
    assert "size mismatch for fc.weight: the checkpoint has [1000, 8], the model [3, 8]" in text
    assert "or keep the model's own: allow=Allow(mismatched=['fc.*'])" in text


def test_what_to_write_for_another_head_is_said_and_is_right() -> None:
    file, model = resnet(1000), {name.replace("fc.", "classifier."): shape for name, shape in resnet(3).items()}
    with pytest.raises(MismatchError, match=r"Allow\(missing=\['classifier\.\*'\], unexpected=\['fc\.\*'\]\)"):
        matched(file, model).raise_if_bad()
    same = {name.replace("fc.", "classifier."): shape for name, shape in resnet(1000).items()}
    with pytest.raises(MismatchError, match=r"one shape: rules=\[Rename\('fc\.\*', 'classifier\.\*'\)\]"):
        matched(file, same).raise_if_bad()
    assert matched(file, same, rules=[Rename("fc.*", "classifier.*")])


def test_the_choice_between_two_parts_is_in_the_error_and_helps() -> None:
    file = {**under("encoder_q.", resnet()), **under("encoder_k.", resnet())}
    with pytest.raises(MismatchError, match=r"rules=\[Prefix\(remove='encoder_q\.'\)\]") as caught:
        matched(file, resnet()).raise_if_bad()
    assert "allow=Allow(unexpected=['encoder_k.*'])" in str(caught.value)
    as_told = matched(file, resnet(), rules=[Prefix(remove="encoder_q.")], allow=Allow(unexpected=["encoder_k.*"]))
    assert as_told
    assert matched(file, resnet(), rules=[Drop("encoder_k.*")])


def test_the_choice_between_two_parts_of_the_model_helps_too() -> None:
    model = {**under("online.", resnet()), **under("target.", resnet())}
    with pytest.raises(
        MismatchError, match=r"rules=\[Prefix\(add='online\.'\)\], allow=Allow\(missing=\['target\.\*'\]\)"
    ):
        matched(resnet(), model).raise_if_bad()
    assert matched(resnet(), model, rules=[Prefix(add="online.")], allow=Allow(missing=["target.*"], coverage=0.5))


def test_rules_come_first_and_are_told_and_kept() -> None:
    rule = Rename("linear.*", "fc.*")
    file = {name.replace("fc.", "linear."): shape for name, shape in under("net.", resnet()).items()}
    match = matched(under("module.", file), resnet(), rules=[Rename("net.linear.*", "net.fc.*")])
    assert match
    assert "rename net.linear.* -> net.fc.*" in str(match)
    assert match.rules[0] == Rename("net.linear.*", "net.fc.*")
    assert len(match.rules) == 2
    assert matched(file, resnet(), rules=[Prefix(remove="net."), rule])
    assert match.used == match.in_file == len(file)


def test_a_match_in_short_and_as_plain_data() -> None:
    match = matched(resnet(1000), resnet(3))
    assert repr(match) == (
        "<Match Net: 42 of 44 tensors fit, 99.28 % of its parameters; "
        "does not fit: 2 of another size; only the head differs: fc, 1000 → 3 classes>"
    )
    assert dict(match.__rich_repr__())["fit"] == "42 of 44"
    told = match.to_dict()
    assert told["mismatched"][0] == {"name": "fc.weight", "model": [3, 8], "checkpoint": [1000, 8], "hint": ""}
    assert told["verdict"].startswith("does not fit")


def test_all_but_a_little_is_not_called_all() -> None:
    match = matched({"a": (300_000,)}, {"a": (300_000,), "b": (1,)}, allow=Allow(missing="b"))
    assert "99.99 % of its parameters" in str(match)


def test_names_are_shown_harmless_and_short() -> None:
    names = {"\x1b[31mred\n": (1,), "x" * 100_000: (1,), "a\u202eb.c": (1,)}
    for file, model in ((names, {}), ({}, names), (names, names)):
        model = {**model, "own": (1,)}
        text = str(matched({**file, "own": (1,)}, model, allow=Allow(missing="*b.c", unexpected="*b.c")))
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert len(text) < 3000


def plain(count: int, pattern: str) -> dict[str, tuple[int, ...]]:
    return {pattern.format(at // 100, at % 100): (2,) for at in range(count)}


MANY: dict[str, Callable[[int], tuple[Shapes, Shapes]]] = {
    "alike": lambda count: (plain(count, "layers.{}.p{}.weight"), plain(count, "layers.{}.p{}.weight")),
    "behind a prefix": lambda count: (plain(count, "net.layers.{}.p{}.weight"), plain(count, "layers.{}.p{}.weight")),
    "known by other names": lambda count: (plain(count, "layers.{}.p{}.gamma"), plain(count, "layers.{}.p{}.weight")),
    "nothing alike": lambda count: (plain(count, "a{}.p{}"), plain(count, "q.z{}.r{}")),
    "no model": lambda count: (plain(count, "p{}x{}.w"), {"w": (2,)}),
    "long names": lambda count: (
        {"a." * count * 10 + "w": (2,), "b" * count * 20: (2,)},
        {"c." * count * 10 + "w": (2,)},
    ),
}


@pytest.mark.parametrize("kind", MANY)
def test_ten_times_as_many_names_take_about_ten_times_as_long(kind: str) -> None:
    def work(count: int) -> Callable[[], None]:
        file, model = MANY[kind](count)
        weights = made(file)
        targets = [Target(name, tuple(shape), "float32", True) for name, shape in model.items()]

        def report() -> None:
            assert len(str(match_weights(weights, targets, "Net"))) < 5000

        return report

    assert_grows_like_its_work(work, 2_000)


def made(shapes: Shapes) -> Any:
    """Weights of many names, all of one tensor."""
    from dataclasses import replace

    weights = weights_of({"one.w": (2,), "two.w": (2,)})
    one = weights["one.w"]
    return replace(weights, tensors={name: one.named(name) for name in shapes})


def test_what_to_write_is_said_where_more_than_a_head_differs_and_is_right() -> None:
    body = resnet(10)
    rest = {**linear("cls.a", 2, 3), **linear("cls.b", 2, 3), **linear("cls.c", 2, 3), "cls.d": (2,), "queue": (3, 3)}
    match = matched({**body, **rest}, {**body, "layer9.0.conv1.weight": (4, 4), "scale": ()})
    allow = "Allow(missing=['layer9.*', 'scale'], unexpected=['cls.*', 'queue'])"
    with pytest.raises(MismatchError) as error:
        match.raise_if_bad()
    assert error.value.hint.endswith(f"if what differs is meant to, allow={allow}")
    allowed = Allow(missing=["layer9.*", "scale"], unexpected=["cls.*", "queue"])
    assert matched({**body, **rest}, {**body, "layer9.0.conv1.weight": (4, 4), "scale": ()}, allow=allowed)


def test_names_that_are_patterns_are_written_so_that_they_mean_themselves() -> None:
    body = resnet(10)
    match = matched({**body, "extra[0].w": (2,), "extra[0].v": (2,), "x*": (2,)}, body)
    with pytest.raises(MismatchError, match=r"unexpected=\['extra\[\[\]0\].\*', 'x\[\*\]'\]"):
        match.raise_if_bad()
    allow = Allow(unexpected=["extra[[]0].*", "x[*]"])
    assert matched({**body, "extra[0].w": (2,), "extra[0].v": (2,), "x*": (2,)}, body, allow=allow)


def test_a_head_that_is_no_layer_is_named_as_what_it_is() -> None:
    body = {name: shape for name, shape in resnet(10).items() if not name.startswith("fc")}
    with pytest.raises(MismatchError, match=r"allow=Allow\(missing=\['head'\]\)"):
        matched(body, {**body, "head": (4, 10)}).raise_if_bad()
    assert matched(body, {**body, "head": (4, 10)}, allow=Allow(missing="head"))


def test_the_rules_of_a_match_are_found_when_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    import rehydrate.matching.match as module

    calls: list[int] = []
    real = module.found_rules
    monkeypatch.setattr(module, "found_rules", lambda *args: (calls.append(1), real(*args))[1])
    match = matched(under("backbone.", resnet(10)), resnet(10))
    assert match
    assert str(match)
    assert not calls
    assert match.rules == match.rules == (Rename("backbone.*", "*"),)
    assert calls == [1]


@pytest.mark.parametrize("by", [1, -1])
def test_layers_that_are_counted_otherwise_are_not_mistaken_for_one_of_another_name(by: int) -> None:
    file = {name: shape for at in range(1, 5) for name, shape in linear(f"net.{at}.fc", 4, 4).items()}
    model = {name: shape for at in range(1, 5) for name, shape in linear(f"net.{at + by}.fc", 4, 4).items()}
    sign = "+" if by > 0 else "-"
    with pytest.raises(MismatchError) as error:
        matched(file, model).raise_if_bad()
    assert f"rules=[Rename('net.{{i}}.fc.*', 'net.{{i {sign} 1}}.fc.*')]" in error.value.hint
    match = matched(file, model, rules=[Rename("net.{i}.fc.*", f"net.{{i {sign} 1}}.fc.*")])
    assert [pair.source.name for pair in match.pairs if pair.target.name.startswith(f"net.{1 + by}.")] == [
        "net.1.fc.weight", "net.1.fc.bias",
    ]  # fmt: skip


def test_a_last_layer_of_another_number_is_renamed() -> None:
    file = {**linear("net.0", 40, 40), **linear("net.3", 40, 40), **linear("net.6", 3, 40)}
    model = {**linear("net.0", 40, 40), **linear("net.3", 40, 40), **linear("net.5", 3, 40)}
    with pytest.raises(MismatchError, match=r"rules=\[Rename\('net\.6\.\*', 'net\.5\.\*'\)\]"):
        matched(file, model).raise_if_bad()


def test_adapters_are_told_for_what_they_are() -> None:
    file = {f"base_model.model.{at}.q_proj.lora_{part}.weight": (2, 4) for at in range(3) for part in "AB"}
    with pytest.raises(MismatchError, match="adapters of LoRA"):
        matched(file, {f"{at}.q_proj.weight": (4, 4) for at in range(3)}).raise_if_bad()


def test_numbers_of_any_length_are_no_trouble_to_whoever_gives_advice() -> None:
    one, other = "1" * 5000, "2" * 5000
    file, model = ({**resnet(10), **linear(f"net.{digits}", 4, 4)} for digits in (one, other))
    with pytest.raises(MismatchError, match="2 missing, 2 unexpected"):
        matched(file, model).raise_if_bad()
