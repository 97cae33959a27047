"""Tiny encoders of several kinds, with random weights and a tokenizer of a few words, as folders."""

from __future__ import annotations

from pathlib import Path

import torch

WORDS = [f'w{i}' for i in range(40)]
SIZES = {
    'bert': {'hidden_size': 16, 'num_hidden_layers': 3, 'num_attention_heads': 2, 'intermediate_size': 24},
    'roberta': {
        'hidden_size': 16,
        'num_hidden_layers': 3,
        'num_attention_heads': 2,
        'intermediate_size': 24,
        'type_vocab_size': 1,
        'max_position_embeddings': 66,
        'pad_token_id': 1,
        'bos_token_id': 2,
        'eos_token_id': 3,
    },
    'distilbert': {'dim': 16, 'n_layers': 3, 'n_heads': 2, 'hidden_dim': 24},
    'electra': {
        'hidden_size': 16,
        'embedding_size': 8,
        'num_hidden_layers': 3,
        'num_attention_heads': 2,
        'intermediate_size': 24,
    },
    'albert': {
        'hidden_size': 16,
        'embedding_size': 8,
        'num_hidden_layers': 3,
        'num_attention_heads': 2,
        'intermediate_size': 24,
    },
    'mpnet': {
        'hidden_size': 16,
        'num_hidden_layers': 3,
        'num_attention_heads': 2,
        'intermediate_size': 24,
        'max_position_embeddings': 66,
    },
    'deberta-v2': {
        'hidden_size': 16,
        'num_hidden_layers': 3,
        'num_attention_heads': 2,
        'intermediate_size': 24,
        'relative_attention': True,
        'pos_att_type': ['p2c', 'c2p'],
        'position_buckets': 8,
        'norm_rel_ebd': 'layer_norm',
        'share_att_key': True,
        'type_vocab_size': 0,
        'position_biased_input': False,
    },  # as in DeBERTa-v3
    'modernbert': {
        'hidden_size': 16,
        'num_hidden_layers': 3,
        'num_attention_heads': 2,
        'intermediate_size': 24,
        'pad_token_id': 1,
        'bos_token_id': 4,
        'eos_token_id': 5,
        'cls_token_id': 4,
        'sep_token_id': 5,
    },
    't5': {'d_model': 16, 'num_layers': 3, 'num_heads': 2, 'd_kv': 8, 'd_ff': 24},
}
SIZES['xlm-roberta'] = SIZES['roberta']
KINDS = tuple(SIZES)


def save_tokenizer(folder: Path, kind: str = 'bert') -> None:
    """A tokenizer of whole words, with the special tokens of the kind of encoder."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ['[UNK]', '<pad>', '<s>', '</s>', '[CLS]', '[SEP]']
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*special, *WORDS])}, unk_token='[UNK]'))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    single, pair, ends = {
        'roberta': ('<s> $A </s>', '<s> $A </s> </s> $B </s>', ('<s>', '</s>')),
        't5': ('$A </s>', '$A </s> $B </s>', ('<s>', '</s>')),
    }.get(kind.removeprefix('xlm-'), ('[CLS] $A [SEP]', '[CLS] $A [SEP] $B:1 [SEP]:1', ('[CLS]', '[SEP]')))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(token, special.index(token)) for token in ends]
    )
    cls = {} if kind == 't5' else {'cls_token': ends[0], 'bos_token': ends[0]}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token='[UNK]',
        pad_token='<pad>',
        sep_token=ends[1],
        eos_token=ends[1],
        model_max_length=64,
        **cls,
    ).save_pretrained(folder)


def save_encoder(folder: Path, kind: str = 'bert') -> str:
    """A folder with an encoder of the kind and its tokenizer."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(kind, vocab_size=6 + len(WORDS), **SIZES[kind])
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    with torch.no_grad():  # the usual initial weights are so small that hardly anything depends on the input
        for p in model.parameters():
            if p.dim() > 1:
                p.mul_(8)
    model.save_pretrained(folder)
    save_tokenizer(folder, kind)
    return str(folder)


class Folders(dict):
    """Folders of tiny encoders, by kind, made when they are asked for; ``make_folder`` makes one of a name."""

    def __init__(self, make_folder):
        super().__init__()
        self.make_folder = make_folder

    def __missing__(self, kind):
        self[kind] = save_encoder(self.make_folder(kind), kind)
        return self[kind]
