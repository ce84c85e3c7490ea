"""Questions and languages as a command line gives them."""

from __future__ import annotations

from collections.abc import Sequence

from freeu.errors import FreeUValueError
from freeu.study.plan.plan import LANGUAGES, QUESTIONS, Question


def parse_languages(text: str) -> tuple[str, ...]:
    """Languages from "en,zh", each once.

    Raises:
        FreeUValueError: none, or one that the pages do not speak.
    """
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not set(found) <= set(LANGUAGES):
        raise FreeUValueError(f"--languages must be of {', '.join(LANGUAGES)} with commas, got {text!r}")
    return found


def parse_questions(given: Sequence[str], languages: Sequence[str]) -> tuple[Question, ...]:
    """Questions from "name=text" (for every language), "name.zh=text", or the name of one of the paper's.

    Args:
        given: as on the command line; the same name again adds to the same question.
        languages: in which every question must be asked.

    Raises:
        FreeUValueError: a name or text that is empty or unknown, or a question that a language lacks.
    """
    shared: dict[str, str] = {}
    own: dict[str, dict[str, str]] = {}
    known = {question.name: question.text for question in QUESTIONS}
    for part in given:
        head, equals, text = (piece.strip() for piece in part.partition("="))
        name, dot, language = head.partition(".")
        if not equals and part in known:
            own.setdefault(part, {}).update(known[part])
        elif not name or not text or (dot and language not in LANGUAGES):
            raise FreeUValueError(
                f'--question must look like "name=text" or "name.zh=text", or be one of {", ".join(known)}; '
                f"got {part!r}"
            )
        elif dot:
            own.setdefault(name, {})[language] = text
        else:
            own.setdefault(name, {})
            shared[name] = text
    for name, texts in own.items():
        for language in languages:
            if name in shared:
                texts.setdefault(language, shared[name])
            if language not in texts:
                raise FreeUValueError(f'--question {name} has no text for {language}: add "{name}.{language}=..."')
    return tuple(Question(name, texts) for name, texts in own.items())
