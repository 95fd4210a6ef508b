"""Writes English sentences, one a line: those of the help texts that come with Python."""

import random
import re
import sys
from pathlib import Path
from pydoc_data.topics import topics

COUNT = 400


def main(path: Path) -> None:
    """Different sentences of 5 to 40 words, in a seeded order."""
    found = set()
    for text in topics.values():
        for paragraph in text.split("\n\n"):
            prose = " ".join(paragraph.split())
            found.update(re.findall(r"[A-Z][A-Za-z ,'-]+[.](?= |$)", prose))
    chosen = sorted(sentence for sentence in found if 5 <= len(sentence.split()) <= 40)
    random.Random(0).shuffle(chosen)
    path.write_text("\n".join(chosen[:COUNT]) + "\n", encoding="utf-8")
    print(f"{len(chosen[:COUNT])} sentences in {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
