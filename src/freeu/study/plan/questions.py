"""Questions and languages from the command line."""

from __future__ import annotations

from collections.abc import Sequence

from freeu.errors import FreeUValueError
from freeu.study.plan.plan import LANGUAGES, QUESTIONS, Question


def parse_languages(text: str) -> tuple[str, ...]:
    """Languages from text such as "en,zh", without duplicates.

    Raises:
        FreeUValueError: no language, or one without translated pages.
    """
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not set(found) <= set(LANGUAGES):
        raise FreeUValueError(f"--languages must be a comma-separated list of {', '.join(LANGUAGES)}, got {text!r}")
    return found


def parse_questions(
    given: Sequence[str], languages: Sequence[str], known: Sequence[Question] = QUESTIONS
) -> tuple[Question, ...]:
    """Questions from "name=text" (for every language), "name.zh=text", or the name of a question of the paper.

    Args:
        given: as on the command line; a name that comes again adds to the same question.
        languages: languages in which every question must be given.
        known: questions that can be given by name.

    Raises:
        FreeUValueError: an empty or unknown name or text, or a question without a text for one of the languages.
    """
    shared: dict[str, str] = {}
    own: dict[str, dict[str, str]] = {}
    texts_of = {question.name: question.text for question in known}
    for part in given:
        head, equals, text = (piece.strip() for piece in part.partition("="))
        name, dot, language = head.partition(".")
        if not equals and part in texts_of:
            own.setdefault(part, {}).update(texts_of[part])
        elif not name or not text or (dot and language not in LANGUAGES):
            raise FreeUValueError(
                f'--question must look like "name=text" or "name.zh=text", or be one of {", ".join(texts_of)}; '
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
