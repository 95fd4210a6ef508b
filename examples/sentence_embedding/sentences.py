"""Writes English sentences, one a line: those of the help texts that come with Python."""

import ast
import random
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from pydoc_data.topics import topics

COUNT = 400


def main(path: Path, count: int) -> None:
    """Different sentences of 5 to 40 words, in a seeded order; docstrings where topics run out."""
    chosen = found_in(topics.values())
    if count > len(chosen):
        chosen += [each for each in found_in(docstrings()) if each not in set(chosen)]
    path.write_text("\n".join(chosen[:count]) + "\n", encoding="utf-8")
    print(f"{len(chosen[:count])} sentences in {path}")


def found_in(texts: Iterable[str]) -> list[str]:
    """Their sentences of plain words, shuffled."""
    found = set()
    for text in texts:
        for paragraph in text.split("\n\n"):
            prose = " ".join(paragraph.split())
            found.update(re.findall(r"[A-Z][A-Za-z ,'-]+[.](?= |$)", prose))
    chosen = sorted(sentence for sentence in found if 5 <= len(sentence.split()) <= 40)
    random.Random(0).shuffle(chosen)
    return chosen


def docstrings() -> Iterator[str]:
    """Of the modules of Python's library that are files of their own, and of all in them."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        tree = ast.parse(file.read_bytes())
        yield from filter(
            None, (ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, kinds))
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else COUNT)
