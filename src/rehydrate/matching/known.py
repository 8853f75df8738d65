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
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["KNOWN", "Known", "common_names", "is_kernel", "is_slot", "words"]

LONGEST = 1000
"""Characters of a name that is looked at; the longest real ones have two hundred."""


@dataclass(frozen=True, slots=True)
class Known:
    """One rename that is known."""

    words: str
    """What it does, for reports."""
    marks: tuple[str, ...]
    """Every name that it changes has one of these in it."""
    changes: tuple[tuple[re.Pattern[str], str], ...]
    sure: str = "certain"
    """`likely` where the words are used for other things, too."""
    drops: bool = False
    """Whether it takes away what could tell two names apart."""


def _changes(*pairs: tuple[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern), new) for pattern, new in pairs)


KNOWN: tuple[Known, ...] = (
    Known(
        # google-research/bert, modeling.py: variables of scopes, `kernel` is [in, out]. As Hugging Face's
        # convert_bert_original_tf_checkpoint_to_pytorch has it.
        "TensorFlow's names",
        ("/", "layer_", "kernel", "_embeddings", "output_weights", "output_bias"),
        _changes(
            (r"/", "."),
            (r"(^|\.)layer_(\d+)(?=\.)", r"\1layer.\2"),
            (r"(^|\.)(word|position|token_type)_embeddings$", r"\1\2_embeddings.weight"),
            (r"^output_weights$", "classifier.weight"),
            (r"^output_bias$", "classifier.bias"),
            (r"\.output_weights$", ".weight"),
            (r"\.output_bias$", ".bias"),
            (r"(^|\.)kernel$", r"\1weight"),
        ),
    ),
    Known(
        # BERT's LayerNorm until pytorch-pretrained-bert 0.6, TensorFlow's and Keras' normalisations.
        "gamma and beta for weight and bias",
        ("gamma", "beta"),
        _changes((r"(^|\.)gamma$", r"\1weight"), (r"(^|\.)beta$", r"\1bias")),
    ),
    Known(
        # Flax: a LayerNorm's or BatchNorm's weight is its scale. Only below a name that says norm.
        "scale for a norm's weight",
        ("scale",),
        _changes((r"([Nn]orm[^.]*)\.scale$", r"\1.weight")),
    ),
    Known(
        # Keras and TensorFlow; `_mean` and `_variance` are PaddlePaddle's.
        "moving_mean for running_mean",
        ("moving_", "_mean", "_variance"),
        _changes(
            (r"(^|\.)(?:moving)?_mean$", r"\1running_mean"),
            (r"(^|\.)(?:moving)?_var(?:iance)?$", r"\1running_var"),
        ),
    ),
    Known(
        # Names with dots were allowed until torch 0.4: torchvision's DenseNet before 2018, and networks made after it.
        "norm.1 for norm1, as before torch 0.4",
        ("norm.", "conv.", "relu."),
        _changes((r"(^|\.)(norm|conv|relu)\.(\d{1,3})(?=\.)", r"\1\2\3")),
    ),
    Known(
        # torch.nn.utils.weight_norm and spectral_norm against torch.nn.utils.parametrizations, since torch 2.0.
        "weight_g and weight_v for parametrizations",
        ("parametrizations.",),
        _changes(
            (r"(^|\.)parametrizations\.([^.]+)\.original0$", r"\1\2_g"),
            (r"(^|\.)parametrizations\.([^.]+)\.original1$", r"\1\2_v"),
            (r"(^|\.)parametrizations\.([^.]+)\.original$", r"\1\2_orig"),
            (r"(^|\.)parametrizations\.([^.]+)\.0\._([uv])$", r"\1\2_\3"),
        ),
    ),
    Known(
        # aaron-xichen/pytorch-playground put layers of torchvision's networks into nn.Sequential called group1, group2.
        "group1, group2 as in pytorch-playground",
        ("group",),
        _changes((r"(^|\.)group\d{1,3}(?=\.)", r"\1"), (r"^\.|\.(?=\.)", "")),
        drops=True,
    ),
    Known(
        # detectron2's ResNet, as its tools/convert-torchvision-to-d2.py has it.
        "detectron2's names of a ResNet",
        ("res", "shortcut.", ".norm.", "stem."),
        _changes(
            (r"(^|\.)stem\.(?=conv1\.)", r"\1"),
            (r"(^|\.)res2(?=\.\d)", r"\1layer1"),
            (r"(^|\.)res3(?=\.\d)", r"\1layer2"),
            (r"(^|\.)res4(?=\.\d)", r"\1layer3"),
            (r"(^|\.)res5(?=\.\d)", r"\1layer4"),
            (r"(^|\.)conv(\d)\.norm(?=\.)", r"\1bn\2"),
            (r"(^|\.)shortcut\.norm(?=\.)", r"\1downsample.1"),
            (r"(^|\.)shortcut\.(weight|bias)$", r"\1downsample.0.\2"),
        ),
        sure="likely",
    ),
    Known(
        # kuangliu/pytorch-cifar and its many children.
        "shortcut for downsample",
        ("shortcut.",),
        _changes((r"(^|\.)shortcut(?=\.\d)", r"\1downsample")),
        sure="likely",
    ),
    Known(
        # transformers' BertLayer, ViTLayer and kin; torch.nn.TransformerEncoderLayer; the ViT of timm and torchvision.
        "a transformer block's names",
        ("layer.", "blocks.", "layers.", "mlp.", "conv_proj.", "class_token", "embed", "encoder.", "heads.", "vit."),
        _changes(
            (r"(^|\.)attention\.(?:self|attention)\.(?=(?:query|key|value)\.)", r"\1attention."),
            (r"(^|\.)attention\.output\.dense(?=\.)", r"\1attention.out_proj"),
            (r"(^|\.)attention\.output\.LayerNorm(?=\.)", r"\1norm1"),
            (r"(^|\.)intermediate\.dense(?=\.)", r"\1linear1"),
            (r"(\.\d{1,4})\.output\.dense(?=\.)", r"\1.linear2"),
            (r"(\.\d{1,4})\.output\.LayerNorm(?=\.)", r"\1.norm2"),
            (r"(^|\.)(?:layernorm_before|ln_1)(?=\.)", r"\1norm1"),
            (r"(^|\.)(?:layernorm_after|ln_2)(?=\.)", r"\1norm2"),
            (r"(^|\.)mlp\.(?:0|linear_1|fc1)(?=\.)", r"\1linear1"),
            (r"(^|\.)mlp\.(?:3|linear_2|fc2)(?=\.)", r"\1linear2"),
            (r"(^|\.)encoder\.layers\.encoder_layer_(\d{1,4})(?=\.)", r"\1layers.\2"),
            (r"(^|\.)encoder\.layer\.(\d{1,4})(?=\.)", r"\1layers.\2"),
            (r"(^|\.)blocks(?=\.\d)", r"\1layers"),
            (r"(^|\.)(?:conv_proj|embeddings\.patch_embeddings\.projection)(?=\.)", r"\1patch_embed.proj"),
            (r"(^|\.)(?:class_token|embeddings\.cls_token)$", r"\1cls_token"),
            (r"(^|\.)(?:encoder\.pos_embedding|embeddings\.position_embeddings)$", r"\1pos_embed"),
            (r"^encoder\.ln(?=\.)", "norm"),
            (r"^vit\.layernorm(?=\.)", "vit.norm"),
            (r"^heads\.head(?=\.)", "head"),
        ),
        sure="likely",
    ),
    Known(
        # fairseq, transformers, torch.nn.MultiheadAttention, timm, vit-pytorch, DistilBERT, Llama.
        "an attention's projections by other words",
        ("q", "k", "v", "in_proj", "attn.", "attention."),
        _changes(
            (r"(^|\.)(?:q_proj|query|to_q|q_lin|wq|linear_q)(?=\.)", r"\1q"),
            (r"(^|\.)(?:k_proj|key|to_k|k_lin|wk|linear_k)(?=\.)", r"\1k"),
            (r"(^|\.)(?:v_proj|value|to_v|v_lin|wv|linear_v)(?=\.)", r"\1v"),
            (r"(^|\.)([qkv])_proj_weight$", r"\1\2.weight"),
            (r"(^|\.)in_proj_(weight|bias)$", r"\1qkv.\2"),
            (r"(^|\.)(?:in_proj|qkv_proj|to_qkv|Wqkv)(?=\.)", r"\1qkv"),
            (
                r"(^|\.)(?:self_attn|self_attention|attention)(?=\.(?:q|k|v|qkv|proj|out_proj|o_proj|wo|out_lin)\.)",
                r"\1attn",
            ),
            (r"(^|\.)attn\.(?:proj|o_proj|wo|out_lin)(?=\.)", r"\1attn.out_proj"),
        ),
        sure="likely",
    ),
)  # fmt: skip

_SLOTS = re.compile(r"[/.](?:adam_[mv]|Adam(?:_1)?|Momentum|RMSProp(?:_1)?)$|^(?:global_step|beta[12]_power)$")
"""What TensorFlow's optimizers keep beside every variable, and count."""


def common_names(names: Iterable[str]) -> dict[str, tuple[str, tuple[Known, ...]]]:
    """Names → their common form, and what brought them there. Names that would come to be one keep their own.

    >>> common_names(["bn.gamma", "a/kernel"])["bn.gamma"][0], common_names(["bn.gamma", "bn.weight"])["bn.gamma"][0]
    ('bn.weight', 'bn.gamma')
    """
    every = list(names)
    text = "\n".join(name for name in every if len(name) <= LONGEST)
    active = [known for known in KNOWN if any(mark in text for mark in known.marks)]
    found: dict[str, tuple[str, tuple[Known, ...]]] = {name: (name, ()) for name in every}
    # First without what drops components: a name that is no longer one of its own then loses only that.
    for entries in ([known for known in active if not known.drops], active):
        new = {name: _common(name, entries) for name in every}
        owners: dict[str, int] = {}
        for common, _ in new.values():
            owners[common] = owners.get(common, 0) + 1
        found = {name: form if owners[form[0]] == 1 else found[name] for name, form in new.items()}
    return found


def _common(name: str, entries: Iterable[Known]) -> tuple[str, tuple[Known, ...]]:
    if len(name) > LONGEST:
        return name, ()
    by: list[Known] = []
    for known in entries:
        if not any(mark in name for mark in known.marks):
            continue
        before = name
        for pattern, new in known.changes:
            name = pattern.sub(new, name)
        if name != before:
            by.append(known)
    return name, tuple(by)


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
