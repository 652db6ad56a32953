"""Tiny random models of each family, made from configurations: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

MANY_WORDS = [f"w{i}" for i in range(300)]
SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]  # MPNet takes 1 for padding
INSTRUCTION = "w1 w2 w3 : "  # what a model such as Qwen3-Embedding has before its queries
WINDOW = 12  # tokens on either side that a local layer sees
LONGEST = 96  # tokens

SMALL = {"num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
SMALL |= {"hidden_size": 32, "vocab_size": 320, "max_position_embeddings": 128}
SMALL |= {"pad_token_id": 1}
SMALL |= {"initializer_range": 0.2}  # large, so that what a token attends to is seen
LOCAL = ["sliding_attention", "full_attention", "sliding_attention"]


def word_tokenizer(form: str, **options: Any) -> Any:
    """A tokenizer of whole words: ``form`` says which special tokens are put around a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*SPECIAL, ":", *MANY_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = [(token, vocabulary[token]) for token in SPECIAL if token in form.split()]
    tokenizer.post_processor = processors.TemplateProcessing(single=form, special_tokens=special)
    names = ["unk_token", "pad_token", "cls_token", "sep_token", "mask_token"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **dict(zip(names, SPECIAL, strict=True)), **options
    )


def _bert() -> Any:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(**SMALL))


def _xlm_r() -> Any:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    return XLMRobertaModel(XLMRobertaConfig(**SMALL))


def _mpnet() -> Any:
    from transformers import MPNetConfig, MPNetModel

    return MPNetModel(MPNetConfig(**SMALL))


def _distilbert() -> Any:
    from transformers import DistilBertConfig, DistilBertModel

    return DistilBertModel(
        DistilBertConfig(
            vocab_size=320,
            pad_token_id=1,
            dim=32,
            hidden_dim=48,
            n_layers=3,
            n_heads=4,
            max_position_embeddings=128,
            initializer_range=0.2,
        )
    )


def _modernbert() -> Any:
    from transformers import ModernBertConfig, ModernBertModel

    return ModernBertModel(
        ModernBertConfig(
            **SMALL,
            bos_token_id=2,
            eos_token_id=3,
            cls_token_id=2,
            sep_token_id=3,
            local_attention=2 * WINDOW,
            layer_types=LOCAL,
            initializer_cutoff_factor=2.0,
        )
    )


def _qwen3() -> Any:
    from transformers import Qwen3Config, Qwen3Model

    config = Qwen3Config(**SMALL, head_dim=8, num_key_value_heads=2)
    return Qwen3Model(config)


def _gemma3() -> Any:
    from transformers import Gemma3TextConfig, Gemma3TextModel

    return Gemma3TextModel(
        Gemma3TextConfig(
            **SMALL,
            head_dim=8,
            num_key_value_heads=1,
            query_pre_attn_scalar=8,
            sliding_window=2 * WINDOW,
            layer_types=LOCAL,
            use_bidirectional_attention=True,
        )
    )


def _t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=320, pad_token_id=1, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4
        )
    )


# name -> the network, its tokenizer's form, its pooling, and what else it is saved with
NETWORKS: dict[str, tuple[Callable[[], Any], str, str, dict[str, Any]]] = {
    "bert-cls": (_bert, "[CLS] $A [SEP]", "cls", {}),
    "minilm": (_bert, "[CLS] $A [SEP]", "mean", {}),
    "xlm-r": (_xlm_r, "[CLS] $A [SEP]", "mean", {"prompts": {"query": "w5 : "}}),
    "mpnet": (_mpnet, "[CLS] $A [SEP]", "mean", {}),
    "distilbert": (_distilbert, "[CLS] $A [SEP]", "mean", {}),
    "modernbert": (_modernbert, "[CLS] $A [SEP]", "mean", {}),
    "qwen3": (_qwen3, "$A [SEP]", "lasttoken", {"prompts": {"query": INSTRUCTION}}),
    "gemma3": (_gemma3, "[CLS] $A [SEP]", "mean", {"prompts": {"query": "w7 w8 : "}}),
    "t5": (_t5, "$A [SEP]", "mean", {}),
}
TINY_FAMILIES = [*NETWORKS, "static", "router"]


def _of(config: str, **settings: Any) -> Callable[[], Any]:
    """A network by the name of its configuration in transformers."""

    def make() -> Any:
        import transformers

        made = getattr(transformers, f"{config}Config")(**SMALL | settings)
        return transformers.AutoModel.from_config(made)

    return make


GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}
FEW_HEADS = {"head_dim": 8, "num_key_value_heads": 2}
PARTS = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
# others that people come with: their vectors and gradients alone are compared
MORE: dict[str, tuple[Callable[[], Any], str, str, dict[str, Any]]] = {
    "albert": (_of("Albert", embedding_size=16), "[CLS] $A [SEP]", "mean", {}),
    "bigbird": (_of("BigBird", attention_type="original_full"), "[CLS] $A [SEP]", "mean", {}),
    "deberta": (_of("DebertaV2", **PARTS), "[CLS] $A [SEP]", "mean", {}),
    "electra": (_of("Electra", embedding_size=16), "[CLS] $A [SEP]", "cls", {}),
    "gemma2": (_of("Gemma2", **FEW_HEADS, sliding_window=WINDOW), "$A [SEP]", "lasttoken", {}),
    "gpt2": (_of("GPT2", **GPT2), "$A [SEP]", "weightedmean", {}),
    "mamba": (_of("Mamba", state_size=4), "$A [SEP]", "lasttoken", {}),
    "mistral": (_of("Mistral", **FEW_HEADS, sliding_window=WINDOW), "$A [SEP]", "lasttoken", {}),
    "roformer": (_of("RoFormer"), "[CLS] $A [SEP]", "mean", {}),
}


def make_family(name: str, folder: Path, **changes: Any) -> Any:
    """A tiny random sentence-transformers model of a family, saved to a folder and loaded.

    Args:
        name: one of ``TINY_FAMILIES`` or of ``MORE``.
        folder: where it is saved, as ``folder / "model"``.
        changes: of the tokenizer, such as ``padding_side="left"``.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import (
        Normalize,
        Pooling,
        Router,
        StaticEmbedding,
        Transformer,
    )

    form = "[CLS] $A [SEP]"

    def encoder(family: str) -> list[Any]:
        network, form, pooling, _ = (NETWORKS | MORE)[family]
        options = {"padding_side": "left"} if family == "qwen3" else {}
        network().save_pretrained(folder / family)
        word_tokenizer(form, **options | changes).save_pretrained(folder / family)
        return [Transformer(str(folder / family), max_seq_length=LONGEST), Pooling(32, pooling)]

    def static() -> Any:
        return StaticEmbedding(word_tokenizer(form)._tokenizer, embedding_dim=32)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == "static":
            modules: list[Any] = [static()]
        elif name == "router":
            modules = [Router.for_query_document([static()], encoder("minilm"))]
        else:
            modules = [*encoder(name), Normalize()]
        saved = NETWORKS[name][3] if name in NETWORKS else {}
        model = SentenceTransformer(modules=modules, device="cpu", **saved)
    model.save_pretrained(str(folder / "model"))
    return SentenceTransformer(str(folder / "model"), device="cpu")
