"""A stand-in for paraphrase-multilingual-MiniLM-L12-v2: its shape with seeded weights, no hub.

    python multilingual.py DIR

BERT of 12 layers × 384, 12 heads, 250,037 words and mean pooling; 471 MB as sentence-transformers
saves it. It takes as long as the original and means nothing: its vectors are for times alone. The
tokenizer (BPE; the original's is Unigram) learns from Python's help texts and the Vietnamese below,
and knows every letter of Vietnamese; the ids above its own are never used.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import unicodedata
from pathlib import Path
from pydoc_data.topics import topics

from ways import sentence_library

VIETNAMESE = """Xin chào, tôi là AI. Hôm nay trời đẹp quá. Tôi thích học máy.
Bạn tên là gì? Tôi đang học tiếng Việt. Chúng tôi sống ở Hà Nội. Trời hôm nay mưa to.
Máy tính giúp con người làm việc nhanh hơn. Cô ấy thích đọc sách và nghe nhạc.
Học sâu là một phần của học máy. Mô hình ngôn ngữ hiểu được câu hỏi của bạn."""
REPEATED = 1000
"""How often the tokenizer reads these, so that their words become tokens."""
LONGEST = 128
SHAPE = {
    "vocab_size": 250_037,
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
}
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def letters() -> list[str]:
    """Of Vietnamese: vowels with each tone, in both cases, as single code points."""
    tones = ("", "\u0300", "\u0301", "\u0303", "\u0309", "\u0323")
    pairs = itertools.product("aăâeêioôơuưy", tones)
    small = ["đ", *(unicodedata.normalize("NFC", vowel + tone) for vowel, tone in pairs)]
    return [*small, *(letter.upper() for letter in small)]


def tokenizer(words: int = 8000) -> object:
    """``<s>`` text ``</s>``, as the original's; trained in seconds."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.normalizer = normalizers.NFKC()
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    inner.decoder = decoders.Metaspace()
    texts = (*topics.values(), *[VIETNAMESE] * REPEATED)
    trainer = BpeTrainer(
        vocab_size=words, show_progress=False, special_tokens=list(SPECIAL),
        initial_alphabet=letters(),
    )  # fmt: skip
    inner.train_from_iterator((line for text in texts for line in text.splitlines()), trainer)
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, cls_token="<s>", pad_token="<pad>", sep_token="</s>",
        unk_token="<unk>", model_max_length=LONGEST,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def save(folder: Path, **shape: int) -> None:
    """As ``SentenceTransformer(folder)`` reads it; ``shape`` is what differs from ``SHAPE``."""
    library = sentence_library()
    import torch
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as inner:
        BertModel(BertConfig(**{**SHAPE, **shape}, pad_token_id=1)).save_pretrained(inner)
        tokenizer().save_pretrained(inner)  # type: ignore[attr-defined]
        first = Transformer(inner, max_seq_length=LONGEST)
        parts = [first, Pooling(first.get_embedding_dimension(), "mean")]
        library.SentenceTransformer(modules=parts, device="cpu").save(str(folder))


if __name__ == "__main__":
    save(Path(sys.argv[1]))
