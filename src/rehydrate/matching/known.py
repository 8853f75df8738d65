r"""Known renames, as data: what a tensor was called elsewhere, or in another year.

Each entry turns names into one common form, which need not be the name that anybody uses. The names of a file and those
of a model are both brought into that form, so an entry works in both directions, entries combine, and nothing has to
know which side is the older. A name in the common form is never shown.

Where two names of one side would come to be one, these names keep what they are called: see `common_names`. Whether
two tensors whose common names agree are a pair is for `matcher` to say, by their shapes. No expression here has a
repetition inside a repetition, and names that are longer than anybody's are left alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["GROUPS", "KNOWN", "Change", "Known", "common_names", "is_kernel", "is_slot", "words"]

LONGEST = 1000
"""Characters of a name that is looked at; the longest real ones have two hundred."""


@dataclass(frozen=True, slots=True)
class Change:
    """One expression and what takes the place of what it finds."""

    mark: str
    """Letters that a name must have for it: what costs least to look for."""
    pattern: re.Pattern[str]
    new: str


@dataclass(frozen=True, slots=True)
class Known:
    """One rename that is known."""

    words: str
    """What it does, for reports."""
    changes: tuple[Change, ...]
    """In this order."""
    sure: str = "certain"
    """`likely` where the words are used for other things, too."""


def _changes(*each: tuple[str, str, str]) -> tuple[Change, ...]:
    return tuple(Change(mark, re.compile(pattern), new) for mark, pattern, new in each)


KNOWN: tuple[Known, ...] = (
    Known(
        # google-research/bert: variables in scopes, kernels [in, out]. transformers' converter reads them so.
        "TensorFlow's names",
        _changes(
            # transformers' ViT has `embeddings.position_embeddings`, too, and there it is a parameter itself.
            ("_embeddings", r"(^|/)(word|position|token_type)_embeddings$", r"\1\2_embeddings.weight"),
            ("/", r"/", "."),
            ("layer_", r"(^|\.)layer_(\d+)(?=\.)", r"\1layer.\2"),
            ("output_weights", r"^output_weights$", "classifier.weight"),
            ("output_bias", r"^output_bias$", "classifier.bias"),
            ("output_weights", r"\.output_weights$", ".weight"),
            ("output_bias", r"\.output_bias$", ".bias"),
            ("kernel", r"(^|\.)kernel$", r"\1weight"),
        ),
    ),
    Known(
        # BERT's LayerNorm until pytorch-pretrained-bert 0.6; TensorFlow's and Keras' normalisations.
        "gamma and beta for weight and bias",
        _changes(("gamma", r"(^|\.)gamma$", r"\1weight"), ("beta", r"(^|\.)beta$", r"\1bias")),
    ),
    Known(
        # Flax: a LayerNorm's or BatchNorm's weight is its scale. Only below a name that says norm.
        "scale for a norm's weight",
        _changes(("orm", r"([Nn]orm[^.]*)\.scale$", r"\1.weight")),
    ),
    Known(
        # Keras and TensorFlow; `_mean` and `_variance` are PaddlePaddle's.
        "moving_mean for running_mean",
        _changes(
            ("_mean", r"(^|\.)(?:moving)?_mean$", r"\1running_mean"),
            ("_var", r"(^|\.)(?:moving)?_var(?:iance)?$", r"\1running_var"),
        ),
    ),
    Known(
        # Names with dots were allowed until torch 0.4: torchvision's DenseNet before 2018, and networks made after it.
        "norm.1 for norm1, as before torch 0.4",
        _changes(
            ("norm.", r"(^|\.)norm\.(\d{1,3})(?=\.)", r"\1norm\2"),
            ("conv.", r"(^|\.)conv\.(\d{1,3})(?=\.)", r"\1conv\2"),
            ("relu.", r"(^|\.)relu\.(\d{1,3})(?=\.)", r"\1relu\2"),
        ),
    ),
    Known(
        # torch.nn.utils.weight_norm and spectral_norm against torch.nn.utils.parametrizations, since torch 2.0.
        "weight_g and weight_v for parametrizations",
        _changes(
            ("parametrizations.", r"(^|\.)parametrizations\.([^.]+)\.original0$", r"\1\2_g"),
            ("parametrizations.", r"(^|\.)parametrizations\.([^.]+)\.original1$", r"\1\2_v"),
            ("parametrizations.", r"(^|\.)parametrizations\.([^.]+)\.original$", r"\1\2_orig"),
            ("parametrizations.", r"(^|\.)parametrizations\.([^.]+)\.0\._([uv])$", r"\1\2_\3"),
        ),
    ),
    Known(
        # detectron2's ResNet, as its tools/convert-torchvision-to-d2.py has it.
        "detectron2's names of a ResNet",
        _changes(
            ("stem.", r"(^|\.)stem\.(?=conv1\.)", r"\1"),
            ("res2.", r"(^|\.)res2(?=\.\d)", r"\1layer1"),
            ("res3.", r"(^|\.)res3(?=\.\d)", r"\1layer2"),
            ("res4.", r"(^|\.)res4(?=\.\d)", r"\1layer3"),
            ("res5.", r"(^|\.)res5(?=\.\d)", r"\1layer4"),
            (".norm.", r"(^|\.)conv(\d)\.norm(?=\.)", r"\1bn\2"),
            ("shortcut.norm", r"(^|\.)shortcut\.norm(?=\.)", r"\1downsample.1"),
            ("shortcut.", r"(^|\.)shortcut\.(weight|bias)$", r"\1downsample.0.\2"),
        ),
        sure="likely",
    ),
    Known(
        # kuangliu/pytorch-cifar and its many children.
        "shortcut for downsample",
        _changes(("shortcut.", r"(^|\.)shortcut(?=\.\d)", r"\1downsample")),
        sure="likely",
    ),
    Known(
        # transformers' BertLayer, ViTLayer and kin; torch.nn.TransformerEncoderLayer; the ViT of timm and torchvision.
        "a transformer block's names",
        _changes(
            ("attention.self.", r"(^|\.)attention\.self\.(?=(?:query|key|value)\.)", r"\1attention."),
            ("attention.attention.", r"(^|\.)attention\.attention\.(?=(?:query|key|value)\.)", r"\1attention."),
            ("attention.output.", r"(^|\.)attention\.output\.dense(?=\.)", r"\1attention.out_proj"),
            ("attention.output.", r"(^|\.)attention\.output\.LayerNorm(?=\.)", r"\1norm1"),
            ("intermediate.", r"(^|\.)intermediate\.dense(?=\.)", r"\1linear1"),
            (".output.dense", r"(\.\d{1,4})\.output\.dense(?=\.)", r"\1.linear2"),
            (".output.LayerNorm", r"(\.\d{1,4})\.output\.LayerNorm(?=\.)", r"\1.norm2"),
            ("layernorm_", r"(^|\.)layernorm_before(?=\.)", r"\1norm1"),
            ("layernorm_", r"(^|\.)layernorm_after(?=\.)", r"\1norm2"),
            ("ln_", r"(^|\.)ln_([12])(?=\.)", r"\1norm\2"),
            ("mlp.", r"(^|\.)mlp\.(?:0|linear_1|fc1)(?=\.)", r"\1linear1"),
            ("mlp.", r"(^|\.)mlp\.(?:3|linear_2|fc2)(?=\.)", r"\1linear2"),
            ("encoder_layer_", r"(^|\.)encoder\.layers\.encoder_layer_(\d{1,4})(?=\.)", r"\1layers.\2"),
            ("encoder.layer.", r"(^|\.)encoder\.layer\.(\d{1,4})(?=\.)", r"\1layers.\2"),
            ("blocks.", r"(^|\.)blocks(?=\.\d)", r"\1layers"),
            ("conv_proj.", r"(^|\.)conv_proj(?=\.)", r"\1patch_embed.proj"),
            ("patch_embeddings.", r"(^|\.)embeddings\.patch_embeddings\.projection(?=\.)", r"\1patch_embed.proj"),
            ("class_token", r"(^|\.)class_token$", r"\1cls_token"),
            ("embeddings.cls_token", r"(^|\.)embeddings\.cls_token$", r"\1cls_token"),
            ("pos_embedding", r"(^|\.)encoder\.pos_embedding$", r"\1pos_embed"),
            ("position_embeddings", r"(^|\.)embeddings\.position_embeddings$", r"\1pos_embed"),
            ("encoder.ln.", r"^encoder\.ln(?=\.)", "norm"),
            ("vit.layernorm.", r"^vit\.layernorm(?=\.)", "vit.norm"),
            ("heads.head.", r"^heads\.head(?=\.)", "head"),
        ),
        sure="likely",
    ),
    Known(
        # fairseq, transformers, torch.nn.MultiheadAttention, timm, vit-pytorch, DistilBERT, Llama.
        "an attention's projections by other words",
        _changes(
            ("q", r"(^|\.)(?:q_proj|query|to_q|q_lin|wq|linear_q)(?=\.)", r"\1q"),
            ("k", r"(^|\.)(?:k_proj|key|to_k|k_lin|wk|linear_k)(?=\.)", r"\1k"),
            ("v", r"(^|\.)(?:v_proj|value|to_v|v_lin|wv|linear_v)(?=\.)", r"\1v"),
            ("_proj_weight", r"(^|\.)([qkv])_proj_weight$", r"\1\2.weight"),
            ("in_proj_", r"(^|\.)in_proj_(weight|bias)$", r"\1qkv.\2"),
            ("in_proj.", r"(^|\.)in_proj(?=\.)", r"\1qkv"),
            ("qkv", r"(^|\.)(?:qkv_proj|to_qkv|Wqkv)(?=\.)", r"\1qkv"),
            ("self_att", r"(^|\.)self_att(?:n|ention)(?=\.(?:q|k|v|qkv|proj|out_proj|o_proj|wo|out_lin)\.)", r"\1attn"),
            ("attention.", r"(^|\.)attention(?=\.(?:q|k|v|qkv|proj|out_proj|o_proj|wo|out_lin)\.)", r"\1attn"),
            ("attn.", r"(^|\.)attn\.(?:proj|o_proj|wo|out_lin)(?=\.)", r"\1attn.out_proj"),
        ),
        sure="likely",
    ),
)  # fmt: skip

GROUPS = Known(
    # aaron-xichen/pytorch-playground put layers of torchvision's networks into nn.Sequential called group1, group2.
    "group1, group2 as in pytorch-playground",
    _changes(("group", r"^group\d{1,3}\.", ""), ("group", r"\.group\d{1,3}(?=\.)", "")),
)
"""Takes away what could tell two names apart, and so comes last."""

_SLOTS = re.compile(r"[/.](?:adam_[mv]|Adam(?:_1)?|Momentum|RMSProp(?:_1)?)$|^(?:global_step|beta[12]_power)$")
"""What TensorFlow's optimizers keep beside every variable, and count."""


def common_names(names: Iterable[str]) -> dict[str, tuple[str, tuple[Known, ...]]]:
    """Names → their common form, and what brought them there. Names that would come to be one keep their own.

    >>> common_names(["bn.gamma", "a/kernel"])["bn.gamma"][0], common_names(["bn.gamma", "bn.weight"])["bn.gamma"][0]
    ('bn.weight', 'bn.gamma')
    """
    own: dict[str, tuple[str, tuple[Known, ...]]] = {name: (name, ()) for name in names}
    common = _where_alone(own, {name: _common(name, (), KNOWN) for name in own})
    # What drops components comes last: a name that is no longer one of its own then loses only that.
    return _where_alone(common, {name: _common(form, by, (GROUPS,)) for name, (form, by) in common.items()})


def _where_alone(
    old: dict[str, tuple[str, tuple[Known, ...]]], new: dict[str, tuple[str, tuple[Known, ...]]]
) -> dict[str, tuple[str, tuple[Known, ...]]]:
    """The new form of each name, where no other name has it."""
    owners = Counter(form for form, _ in new.values())
    return {name: found if owners[found[0]] == 1 else old[name] for name, found in new.items()}


def _common(name: str, by: tuple[Known, ...], entries: Iterable[Known]) -> tuple[str, tuple[Known, ...]]:
    if len(name) > LONGEST:
        return name, by
    for known in entries:
        before = name
        for change in known.changes:
            if change.mark in name:
                name = change.pattern.sub(change.new, name)
        if name is not before and name != before:
            by = (*by, known)
    return name, by


def words(one: tuple[Known, ...], other: tuple[Known, ...]) -> tuple[str, str]:
    """How two names came to agree, in words, and how sure that is; `one` and `other` brought them there."""
    differing = [known for known in (*one, *other) if (known in one) != (known in other)]
    by = differing or [known for known in one if known in other]
    sure = "likely" if any(known.sure == "likely" for known in by) else "certain"
    return ", ".join(dict.fromkeys(known.words for known in by)), sure


def is_kernel(name: str) -> bool:
    """Whether TensorFlow or Keras would call a tensor so that is a weight with its inputs before its outputs."""
    return len(name) <= LONGEST and (name == "kernel" or name.endswith((".kernel", "/kernel")))


def is_slot(name: str) -> bool:
    """Whether a tensor is an optimizer's of TensorFlow, by its name."""
    return len(name) <= LONGEST and _SLOTS.search(name) is not None
