"""Pre-trained text encoders of ``transformers``, whose weights scored networks share."""

from nni_knas.encoders.encoder import PretrainedEncoder, layers_of, load_encoder, load_tokenizer
from nni_knas.encoders.pairs import separated

__all__ = ['PretrainedEncoder', 'layers_of', 'load_encoder', 'load_tokenizer', 'separated']
