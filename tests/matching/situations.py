"""Situations that people are in: a file, a model, and what is to be said about the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rehydrate.matching.allow import Allow
from tests.matching.made import (
    Shapes,
    bert,
    google_bert,
    linear,
    norm,
    replaced,
    resnet,
    transformer,
    under,
    without,
)

ALL = Allow(missing="*", unexpected="*", mismatched="*")
FITS = "everything fits"


@dataclass(frozen=True)
class Situation:
    """Names and shapes on both sides, and the report."""

    name: str
    file: Shapes
    model: Shapes
    verdict: str
    """The last line."""
    lines: Sequence[str] = ()
    """What must be told, besides."""
    allow: Allow = Allow()  # noqa: RUF009 - frozen


def split_attention(shapes: Shapes, one: str, three: Sequence[str]) -> dict[str, Sequence[int]]:
    """Every fused projection taken apart: `one` says how it is called, and `three` how its parts are."""
    found: dict[str, Sequence[int]] = {}
    for name, shape in shapes.items():
        stem, mark, leaf = name.partition(one)
        if not mark:
            found[name] = shape
        else:
            third = (shape[0] // 3, *shape[1:])
            found |= {stem + part + leaf: third for part in three}
    return found


QKV = ("q_proj.", "k_proj.", "v_proj.")
RELATIVE = "relative_position"
MHA = {"attn.in_proj_weight": (24, 8), "attn.in_proj_bias": (24,), **linear("attn.out_proj", 8, 8)}
VIT = {
    "cls_token": (1, 1, 8),
    "pos_embed": (1, 17, 8),
    "patch_embed.proj.weight": (8, 3, 4, 4),
    "patch_embed.proj.bias": (8,),
    **linear("blocks.0.attn.qkv", 24, 8),
    **linear("blocks.0.attn.proj", 8, 8),
    **{f"blocks.0.norm{at}.{leaf}": (8,) for at in (1, 2) for leaf in ("weight", "bias")},
    **linear("blocks.0.mlp.fc1", 16, 8),
    **linear("blocks.0.mlp.fc2", 8, 16),
    "norm.weight": (8,),
    "norm.bias": (8,),
    **linear("head", 10, 8),
}
TORCHVISION_VIT = replaced(
    VIT,
    ("blocks.0.", "encoder.layers.encoder_layer_0."),
    (".attn.qkv.weight", ".self_attention.in_proj_weight"),
    (".attn.qkv.bias", ".self_attention.in_proj_bias"),
    (".attn.proj.", ".self_attention.out_proj."),
    ("_0.norm", "_0.ln_"),
    ("mlp.fc1", "mlp.0"),
    ("mlp.fc2", "mlp.3"),
    ("patch_embed.proj", "conv_proj"),
    ("cls_token", "class_token"),
    ("pos_embed", "encoder.pos_embedding"),
    ("norm.weight", "encoder.ln.weight"),
    ("norm.bias", "encoder.ln.bias"),
    ("head.", "heads.head."),
)
HF_VIT = replaced(
    split_attention(
        VIT, ".attn.qkv.", (".attention.attention.query.", ".attention.attention.key.", ".attention.attention.value.")
    ),
    ("blocks.0.", "encoder.layer.0."),
    (".attn.proj.", ".attention.output.dense."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
    ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
    ("cls_token", "embeddings.cls_token"),
    ("pos_embed", "embeddings.position_embeddings"),
    ("norm.weight", "layernorm.weight"),
    ("norm.bias", "layernorm.bias"),
    ("head.", "classifier."),
)
WEIGHT_NORM = {
    "conv.bias": (4,),
    "conv.weight_g": (4, 1, 1),
    "conv.weight_v": (4, 2, 3),
    "lstm.weight_hh_l0_g": (4, 1),
    "lstm.weight_hh_l0_v": (4, 4),
}
PARAMETRIZED = replaced(
    WEIGHT_NORM,
    ("weight_g", "parametrizations.weight.original0"),
    ("weight_v", "parametrizations.weight.original1"),
    ("weight_hh_l0_g", "parametrizations.weight_hh_l0.original0"),
    ("weight_hh_l0_v", "parametrizations.weight_hh_l0.original1"),
)
SPECTRAL = {"conv.weight_orig": (4, 2, 3), "conv.weight_u": (4,), "conv.weight_v": (6,)}
SPECTRAL_NEW = {
    "conv.parametrizations.weight.original": (4, 2, 3),
    "conv.parametrizations.weight.0._u": (4,),
    "conv.parametrizations.weight.0._v": (6,),
}
DENSE = {
    "features.conv0.weight": (8, 3, 7, 7),
    **norm("features.denseblock1.denselayer1.norm1", 8),
    "features.denseblock1.denselayer1.conv1.weight": (16, 8, 1, 1),
    **norm("features.denseblock1.denselayer1.norm2", 16),
    "features.denseblock1.denselayer1.conv2.weight": (8, 16, 3, 3),
    **linear("classifier", 10, 16),
}
OLD_BERT = replaced(bert(), ("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
OLD_DENSE = replaced(DENSE, ("norm1", "norm.1"), ("norm2", "norm.2"), ("conv1", "conv.1"), ("conv2", "conv.2"))
PLAYGROUND = {
    name.replace("conv1", "group1.conv1")
    .replace("bn", "group1.bn")
    .replace("conv2", "group1.conv2")
    .replace("fc.", "group2.fc."): shape
    for name, shape in resnet().items()
}
DETECTRON = replaced(
    under("backbone.bottom_up.", without(resnet(), "fc.weight", "fc.bias", "num_batches_tracked")),
    ("bottom_up.conv1", "bottom_up.stem.conv1"),
    ("bottom_up.bn1", "bottom_up.stem.conv1.norm"),
    ("layer1", "res2"),
    ("layer2", "res3"),
    ("0.bn1", "0.conv1.norm"),
    ("0.bn2", "0.conv2.norm"),
    ("downsample.0", "shortcut"),
    ("downsample.1", "shortcut.norm"),
)
TWO = {**under("encoder_q.", resnet()), **under("encoder_k.", resnet())}
TORCH_ENCODER = transformer()
BERT_ENCODER = {name.removeprefix("encoder."): shape for name, shape in bert().items() if name.startswith("encoder.")}

SITUATIONS: tuple[Situation, ...] = (
    Situation("same names", resnet(), resnet(), FITS, ["44 of 44 tensors fit, 100 %", "0 missing, 0 unexpected"]),
    Situation("two tensors", linear("fc", 2, 3), linear("fc", 2, 3), FITS, ["2 of 2 tensors of the file used"]),
    # wrappers
    Situation("from DataParallel", under("module.", resnet()), resnet(), FITS, ["prefix 'module.' (DataParallel)"]),
    Situation("into DataParallel", resnet(), under("module.", resnet()), FITS, ["its prefix 'module.' was put before"]),
    Situation(
        "compiled, then distributed", under("module._orig_mod.", resnet()), resnet(), FITS, ["torch.compile"]
    ),
    Situation(
        "into DataParallel, from a backbone",
        under("backbone.", resnet()),
        under("module.", resnet()),
        FITS,
        ["prefix 'backbone.' taken off", "its prefix 'module.' was put before"],
    ),
    # prefixes
    Situation(
        "a ViT of transformers for one of timm",
        {name if name.startswith("classifier") else f"vit.{name}": shape for name, shape in HF_VIT.items()},
        VIT,
        "does not fit: 2 missing, 2 unexpected; only the head differs: classifier (10 classes) in the file, "
        "head (10 classes) in the model",
        ["pos_embed prefix 'vit.' take"],
    ),
    Situation(
        "backbone in the file", under("backbone.", resnet()), resnet(), FITS,
        ["found for 44 tensors (certain): prefix 'backbone.' taken off"],
    ),
    Situation(
        "backbone in the model", resnet(), under("backbone.", resnet()), FITS,
        ["found for 44 tensors (certain): prefix 'backbone.' put before"],
    ),
    Situation(
        "a prefix that nobody knows", under("tower.left.", resnet()), resnet(), FITS, ["prefix 'tower.left.' taken off"]
    ),
    Situation(
        "another prefix on each side", under("net.", resnet()), under("backbone.", resnet()), FITS,
        ["prefix 'net.' for 'backbone.'"],
    ),
    Situation(
        "a part's own name on one side", under("student.", resnet()), under("net.", resnet()), FITS,
        ["prefix 'student.' for 'net.'"],
    ),
    Situation(
        "an encoder is no decoder", under("encoder.", resnet()), under("decoder.", resnet()),
        "does not fit: 44 missing, 44 unexpected",
    ),
    Situation(
        "a stack of blocks into one",
        {**linear("blocks.0.fc", 4, 4), **linear("blocks.1.fc", 4, 4)}, linear("fc", 4, 4),
        "does not fit: 2 missing, 4 unexpected", ["'blocks.0.', 'blocks.1.'"],
    ),
    Situation(
        "a network in a Sequential", resnet(), under("1.", resnet()), FITS, ["prefix '1.' put before"],
    ),
    Situation(
        "no pooler in the file", without(bert(), "pooler.dense.weight", "pooler.dense.bias"), bert(),
        "does not fit: 2 missing; only the head differs: pooler.dense (8 outputs) in the model, none in the file",
    ),
    Situation(
        "a depth that differs", resnet(depth=2), resnet(depth=3), "does not fit: 18 missing",
        ['Missing key(s) in state_dict: 18: "layer3.0.conv1.weight"'],
    ),
    Situation(
        "BERT with its head into a bare one",
        {**under("bert.", bert()), **linear("classifier", 2, 8)}, bert(),
        "does not fit: 2 unexpected; only the head differs: classifier (2 classes) in the file, none in the model",
        ["prefix 'bert.' taken off"],
    ),
    Situation(
        "bare BERT into one with a head",
        bert(), {**under("bert.", bert()), **linear("classifier", 2, 8)},
        "does not fit: 2 missing; only the head differs: classifier (2 classes) in the model, none in the file",
        ["prefix 'bert.' put before", 'Missing key(s) in state_dict: 2: "classifier.weight"'],
    ),
    Situation(
        "GPT-2 with and without transformer.",
        under("transformer.", {**linear("h.0.mlp.c_fc", 8, 4), **linear("h.1.mlp.c_fc", 8, 4)}),
        {**linear("h.0.mlp.c_fc", 8, 4), **linear("h.1.mlp.c_fc", 8, 4)},
        FITS, ["prefix 'transformer.' taken off"],
    ),
    Situation(
        "a backbone of another width behind a prefix", under("backbone.", resnet(1000)), resnet(3),
        "does not fit: 2 of another size; only the head differs: fc, 1000 → 3 classes",
        ["size mismatch for fc.weight: the checkpoint has [1000, 8], the model [3, 8]", "prefix 'backbone.' taken off"],
    ),
    Situation(
        "a detector's backbone",
        {**under("backbone.body.", resnet()), **linear("rpn.head", 4, 8), **linear("roi.box", 9, 8)},
        resnet(), "does not fit: 4 unexpected", ["prefix 'backbone.body.' taken off", '"rpn.head.weight"'],
    ),
    Situation(
        "two parts that fit alike", TWO, resnet(), "does not fit: 44 missing, 88 unexpected",
        ["2 parts of the file fit this model equally well: 'encoder_q.', 'encoder_k.'", "Prefix(remove='encoder_q.')"],
    ),
    Situation(
        "two parts that could take it", resnet(), {**under("online.", resnet()), **under("target.", resnet())},
        "does not fit: 88 missing, 44 unexpected",
        ["2 parts of the model could take this file equally well: 'online.', 'target.'", "Prefix(add='online.')"],
    ),
    Situation(
        "two parts, of which one has other sizes",
        {**under("student.", resnet(depth=3)), **under("teacher.", replaced(linear("fc", 4, 4), ("fc", "embed")))},
        resnet(depth=3), "does not fit: 2 unexpected", ["prefix 'student.' taken off"],
    ),
    # known renames
    Situation("an old DenseNet", OLD_DENSE, DENSE, FITS, ["norm.1 for norm1, as before torch 0.4", "(certain)"]),
    Situation("into an old DenseNet", DENSE, OLD_DENSE, FITS, ["norm.1 for norm1, as before torch 0.4"]),
    Situation(
        "gamma and beta", OLD_BERT, bert(), FITS,
        ["found for 10 tensors (certain): gamma and beta for weight and bias"],
    ),
    Situation(
        "gamma and beta behind bert.",
        under("bert.", OLD_BERT), bert(), FITS,
        ["found for 10 tensors (certain): prefix 'bert.' taken off; gamma and beta for weight and bias"],
    ),
    Situation("weight norm, new", WEIGHT_NORM, PARAMETRIZED, FITS, ["found for 4 tensors", "weight_g"]),
    Situation("weight norm, old", PARAMETRIZED, WEIGHT_NORM, FITS, ["found for 4 tensors", "weight_g"]),
    Situation("spectral norm, new", SPECTRAL, SPECTRAL_NEW, FITS, ["found for 3 tensors"]),
    Situation("the playground's ResNet", PLAYGROUND, resnet(), FITS, ["group1, group2 as in pytorch-playground"]),
    Situation("into the playground's ResNet", resnet(), PLAYGROUND, FITS, ["group1, group2 as in pytorch-playground"]),
    Situation(
        "the playground's ResNet, distributed", under("module.", PLAYGROUND), under("encoder.", resnet()), FITS,
        ["prefix 'encoder.' put before; group1, group2 as in pytorch-playground", "DataParallel"],
    ),
    Situation(
        "groups that tell two tensors apart",
        {**linear("group1.fc", 2, 2), **linear("group2.fc", 2, 2)}, linear("fc", 2, 2),
        "does not fit: 2 missing, 4 unexpected",
        ["2 parts of the file fit this model equally well: 'group1.', 'group2.'"],
    ),
    Situation(
        "Google's BERT", google_bert(), under("bert.", bert()), FITS,
        ["TensorFlow's names; kernels turned", "left aside, being an optimizer's", "gamma and beta"],
    ),
    Situation("Google's BERT into a bare one", google_bert(), bert(), FITS, ["prefix 'bert/' taken off; TensorFlow's"]),
    Situation(
        "TensorFlow's moving statistics",
        replaced(
            norm("bn", 4), ("running_mean", "moving_mean"), ("running_var", "moving_variance"),
            ("bn.weight", "bn.gamma"), ("bn.bias", "bn.beta"),
        ),
        norm("bn", 4), FITS, ["moving_mean for running_mean"],
    ),
    Situation(
        "kuangliu's ResNet", replaced(resnet(), ("downsample", "shortcut"), ("fc.", "linear.")), resnet(),
        "does not fit: 2 missing, 2 unexpected; only the head differs: linear (10 classes) in the file, "
        "fc (10 classes) in the model",
        ["shortcut for downsample"],
    ),
    Situation(
        "detectron2's ResNet", DETECTRON, without(resnet(), "fc.weight", "fc.bias", "num_batches_tracked"), FITS,
        ["detectron2's names of a ResNet", "prefix 'backbone.bottom_up.' taken off"],
    ),
    Situation("torchvision's ViT into timm's", TORCHVISION_VIT, VIT, FITS, ["a transformer block's names"]),
    Situation("timm's ViT into torchvision's", VIT, TORCHVISION_VIT, FITS, ["a transformer block's names"]),
    Situation(
        "BERT's layers into torch's encoder", under("bert.encoder.", BERT_ENCODER), TORCH_ENCODER, FITS,
        ["query, key, value put together", "a transformer block's names", "32 of 32 tensors of the file used"],
    ),
    Situation(
        "torch's encoder into BERT's layers", TORCH_ENCODER, under("encoder.", BERT_ENCODER), FITS,
        ["query, key, value taken apart", "24 of 24 tensors of the file used"],
    ),
    # fused projections
    Situation(
        "in_proj into q_proj, k_proj, v_proj", MHA, split_attention(MHA, "in_proj_", QKV), FITS,
        ["found for 6 tensors (likely): query, key, value taken apart"],
    ),
    Situation(
        "q_proj, k_proj, v_proj into in_proj", split_attention(MHA, "in_proj_", QKV), MHA, FITS,
        ["found for 2 tensors (likely): query, key, value put together"],
    ),
    Situation(
        "query, key, value into timm's qkv",
        split_attention(VIT, "attn.qkv.", [f"attn.{part}." for part in ("query", "key", "value")]), VIT, FITS,
        ["query, key, value put together"],
    ),
    Situation(
        "grouped queries", {"a.qkv_proj.weight": (16, 8)},
        {"a.q_proj.weight": (8, 8), "a.k_proj.weight": (4, 8), "a.v_proj.weight": (4, 8)}, FITS, ["taken apart"],
    ),
    Situation(
        "parts that are not all", {"a.qkv_proj.weight": (24, 8), "b.weight": (1,)},
        {"a.q_proj.weight": (8, 8), "a.k_proj.weight": (4, 8), "a.v_proj.weight": (4, 8), "b.weight": (1,)},
        "does not fit: 3 missing, 1 unexpected",
    ),
    # buffers that come and go
    Situation(
        "position_ids that the model lacks", {**bert(), "embeddings.position_ids": (1, 12)}, bert(), FITS,
        ["1 buffer left aside, the model having none: position_ids (0, 1, 2, ...)"],
    ),
    Situation(
        "position_ids that the file lacks", bert(), {**bert(), "embeddings.position_ids": (1, 12)}, FITS,
        ["1 buffer the model's own kept, the file having none: position_ids"],
    ),
    Situation(
        "position_ids of another length", {**bert(), "embeddings.position_ids": (1, 12)},
        {**bert(), "embeddings.position_ids": (1, 14)}, FITS, ["the file's having another size"],
    ),
    Situation(
        "GPT-2's causal masks",
        {**linear("h.0.attn.c_attn", 24, 8), "h.0.attn.bias": (1, 1, 6, 6), "h.0.attn.masked_bias": ()},
        linear("h.0.attn.c_attn", 24, 8), FITS, ["2 buffers left aside", "which places may look at which"],
    ),
    Situation(
        "rotary frequencies", {**linear("q", 8, 8), "rotary.inv_freq": (4,)}, linear("q", 8, 8), FITS, ["inv_freq"]
    ),
    Situation(
        "counters that the model lacks", resnet(), without(resnet(), "num_batches_tracked"), FITS,
        ["7 buffers left aside, the model having none: num_batches_tracked"],
    ),
    Situation(
        "a buffer that nobody computes", linear("fc", 2, 3), {**linear("fc", 2, 3), "steps": (4,)},
        "does not fit: 1 missing",
    ),
    Situation(
        "a Swin of another window",
        {f"a.{RELATIVE}_bias_table": (169, 4), f"a.{RELATIVE}_index": (49, 49), **linear("fc", 99, 9)},
        {f"a.{RELATIVE}_bias_table": (529, 4), f"a.{RELATIVE}_index": (144, 144), **linear("fc", 99, 9)},
        "everything fits but what was allowed: 1 tensor brought to another size",
        [
            "1 buffer the model's own kept, the file's having another size: relative_position_index",
            "of another size, 1 tensor: relative positions interpolated from 13x13 to 23x23",
        ],
        Allow(mismatched="*bias_table", how="pad"),
    ),
    Situation(
        "a mask that the file lacks", linear("fc", 2, 3), {**linear("fc", 2, 3), "layers.0.attn_mask": (4, 9, 9)}, FITS,
        ["attn_mask (which windows see each other)"],
    ),
    # the wrong way round, another size
    Situation(
        "a matrix that is transposed", {"h.c_fc.weight": (4, 16), "h.c_fc.bias": (16,)}, linear("h.c_fc", 16, 4),
        "does not fit: 1 of another size", ["the other way round; rules=[Transpose('h.c_fc.weight')] turns it"],
    ),
    Situation(
        "another head", resnet(1000), resnet(3),
        "does not fit: 2 of another size; only the head differs: fc, 1000 → 3 classes",
    ),
    Situation(
        "another head, allowed", resnet(1000), resnet(3), "everything fits but the head: fc, 1000 → 3 classes",
        ["Allow(mismatched=['fc.*']) forgave 2 tensors: fc.weight, fc.bias"], Allow(mismatched="fc.*"),
    ),
    Situation(
        "a head that begins anew", resnet(1000), resnet(3), "everything fits but the head: fc, 1000 → 3 classes",
        ["of another size, 2 tensors: to be initialised anew"], Allow(mismatched="fc.*", how="reinit"),
    ),
    Situation(
        "a ResNet for one channel, and three classes", resnet(1000), resnet(3, channels=1),
        "everything fits but what was allowed: 3 tensors brought to another size",
        ["of another size, 1 tensor: 3 input channels added up into one", "the first 3 of 1,000 along dimension 0"],
        Allow(mismatched="*", how="slice"),
    ),
    Situation(
        "a head of another name, allowed", resnet(1000), replaced(resnet(3), ("fc.", "classifier.")),
        "everything fits but the head: fc (1000 classes) in the file, classifier (3 classes) in the model",
        ["42 of 44 tensors fit"], Allow(missing="classifier.*", unexpected="fc.*"),
    ),
    Situation(
        "a grown vocabulary, filled", bert(), {**bert(), "embeddings.word_embeddings.weight": (33, 8)},
        "everything fits but what was allowed: 1 tensor brought to another size",
        ["the first 30 of 33 along dimension 0 filled, the rest the model's own"],
        Allow(mismatched="embeddings.*", how="pad"),
    ),
    Situation(
        "a head of another name", resnet(1000), replaced(resnet(3), ("fc.", "classifier.")),
        "does not fit: 2 missing, 2 unexpected; only the head differs: fc (1000 classes) in the file, "
        "classifier (3 classes) in the model",
    ),
    Situation(
        "a grown vocabulary", bert(), {**bert(), "embeddings.word_embeddings.weight": (33, 8)},
        "does not fit: 1 of another size; only the vocabulary differs: embeddings.word_embeddings, 30 → 33 rows",
    ),
    Situation(
        "another network", {**linear("a.x", 3, 3), **linear("b.y", 4, 4)}, resnet(),
        "does not fit: 44 missing, 4 unexpected",
    ),
    Situation(
        "another network, all allowed", {**linear("a.x", 3, 3), **linear("b.y", 4, 4)}, resnet(),
        "does not fit: only 0 % of the parameters would be filled", ["forgave 44 tensors", "forgave nothing"], ALL,
    ),
    Situation(
        "all allowed and all fits", resnet(), resnet(), FITS, ["Allow(missing=['*']) forgave nothing"], ALL
    ),
    Situation(
        "misspelled", replaced(resnet(), ("fc.weight", "fc.wieght")), resnet(),
        "does not fit: 1 missing, 1 unexpected",
        ['"fc.weight" (did you mean fc.wieght?)'],
    ),
)  # fmt: skip
