"""Relation inversion (ReVersion, Huang et al., arXiv:2303.13495): learn a word for a relation from a few pictures.

One embedding is learnt; the U-Net, the text encoder and the autoencoder stay as they are. The loss is that of textual
inversion (Gal et al., arXiv:2208.01618) with the two additions of ``reversion_losses``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.personalize.examples import encode, pictures_sha, squared
from freeu.personalize.learned_word import LearnedWord
from freeu.personalize.reversion_exemplars import Exemplar
from freeu.personalize.reversion_losses import (
    FocalDenoiser,
    basis_words,
    content_words,
    steering_loss,
    tokens_of,
)
from freeu.personalize.training import AtStep, Pace, Training, generator_of, mean_losses, seed_of, turn
from freeu.pipelines.draw import draw
from freeu.pipelines.loading import Loaded, quiet
from freeu.pipelines.manifest import as_json, environment
from freeu.pipelines.output import OutputFolder, file_sha, refuse_foreign
from freeu.pipelines.plan import Plan
from freeu.pipelines.run import deterministic, png

if TYPE_CHECKING:
    from torch import Tensor

RECORD, EMBEDDING, SAMPLES = "training.json", "learned_embeds.safetensors", "samples"
KIND, SCHEMA = "freeu-reversion", 1
RATE = 0.15
"""For Stable Diffusion 1.5, whose embeddings measure some 0.014, 2e-3 is published (2.5e-4 for each of 8 pictures)."""


@dataclass(frozen=True)
class Settings:
    """How a relation is learnt.

    Args:
        token: the word for it, which the model does not know.
        start_word: what its embedding begins as; of several tokens, the mean.
        steps, batch, seed: of the training; a batch may hold a picture twice, with other noise.
        learning_rate: of AdamW, constant; None takes ``RATE`` times the root mean square of what the embedding begins
            as, so that models whose embeddings are larger learn in larger steps.
        steering_weight: of the steering loss beside the denoising loss; 0 leaves it out.
        positives: prepositions that are drawn for each picture of a batch.
        left_out: prepositions that are never drawn.
        importance: see ``reversion_losses.focal_weights``.
    """

    token: str = "<R>"
    start_word: str = "and"
    steps: int = 200
    batch: int = 4
    learning_rate: float | None = None
    seed: int = 0
    steering_weight: float = 0.01
    positives: int = 4
    left_out: tuple[str, ...] = ()
    importance: float = 0.5

    def plain(self) -> Settings:
        """The same without what ReVersion adds: textual inversion."""
        return replace(self, steering_weight=0.0, importance=0.0)


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than a training of a relation. Nothing is created.

    Raises:
        FreeUValueError: a file, or a folder with other files in it.
    """
    if folder.is_dir() and (folder / RECORD).is_file():
        read_record(folder)
    else:
        refuse_foreign(folder, resumable=False)


def read_record(folder: Path) -> dict[str, Any]:
    """What ``training.json`` of a folder says.

    Raises:
        FreeUValueError: there is none, or it is damaged or of another kind of training.
    """
    path = folder / RECORD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FreeUValueError(f"{folder} holds no {RECORD}: give the folder that freeu reversion train wrote") from None
    except (OSError, ValueError) as error:
        raise FreeUValueError(f"cannot read {path}: {error}") from None
    if not isinstance(found, dict) or found.get("kind") != KIND or found.get("schema") != SCHEMA:
        raise FreeUValueError(f"{path} is of something else than freeu reversion train: name another folder")
    return found


def learnt_model(folder: Path) -> tuple[str, str]:
    """The word in a folder of a complete training, and what finds the model that it was learnt with.

    Raises:
        FreeUValueError: as ``read_record``, or a training that is not complete.
    """
    record = read_record(folder)
    if not record.get("complete"):
        raise FreeUValueError(f"the training in {folder} is not complete: give its command again, and it goes on")
    token, model = record.get("token"), record.get("model")
    reference = model.get("reference") if isinstance(model, dict) else None
    if not isinstance(token, str) or not isinstance(reference, str):
        raise FreeUValueError(f"{folder / RECORD} is damaged: it names no token or no model")
    return token, reference


class Inversion:
    """A training that can be interrupted, and what it writes.

    While it lives, the pipeline knows the word as it is learnt so far.

    Args:
        loaded: the pipeline; its weights are not changed, but a row is added to the embedding of the text encoder.
        plan: of the pictures that are drawn on the way, with the arm "baseline" alone.
        exemplars: of ``reversion_exemplars.read_exemplars``.
        settings: see there.
        folder: new, or that of an earlier run of the same training.
        sample_steps: steps between such pictures; 0 draws none.

    Raises:
        FreeUValueError: a word that the model knows already, captions that are too long, prepositions that it does not
            know, a pipeline of another kind, or a folder with another training.
    """

    def __init__(
        self,
        loaded: Loaded,
        plan: Plan,
        exemplars: Sequence[Exemplar],
        settings: Settings,
        folder: Path,
        sample_steps: int = 0,
    ) -> None:
        self.loaded, self.plan, self.folder = loaded, plan, folder
        self.exemplars, self._sample_steps = tuple(exemplars), sample_steps
        pipe = loaded.pipe
        self._denoiser = FocalDenoiser(pipe, settings.importance)
        self.word = LearnedWord(pipe, settings.token, settings.start_word)
        if settings.learning_rate is None:
            # As many digits as people read, so that the number can be given on a command line.
            rate = float(f"{RATE * self.word.size:.3g}")
            settings = replace(settings, learning_rate=rate)
        assert settings.learning_rate is not None
        self.settings = settings
        try:
            places = self.word.places if settings.steering_weight else []
            self._steering = [_Steering(place.tokenizer, place.encoder, settings) for place in places]
            for exemplar in self.exemplars:
                for caption in exemplar.captions:
                    self.word.check_caption(caption)
            pictures = [squared(exemplar.picture, loaded.native) for exemplar in self.exemplars]
            identity = {
                "method": KIND,
                "model": plan.model.fingerprint,
                "dtype": plan.dtype,
                "exemplars": pictures_sha(pictures),
                "captions": [list(exemplar.captions) for exemplar in self.exemplars],
                **{name: value for name, value in asdict(settings).items() if name not in ("steps", "learning_rate")},
            }
            self._training = Training(
                self.word.parameters(),
                self._losses_of,
                Pace(settings.steps, settings.learning_rate, checkpoint_steps=50),
                folder,
                identity,
                seed=settings.seed,
            )
            self._check_folder()
            with quiet(), deterministic(plan.device, plan.threads):
                self._latents = encode(pipe.vae, pictures)
        except BaseException:
            self.word.remove()
            raise

    @property
    def step(self) -> int:
        """Steps that are made."""
        return self._training.step

    def resume(self) -> bool:
        """Go on where an earlier run in the folder stopped; says whether there was one."""
        return self._training.resume()

    def go(self, at_step: AtStep = lambda step, losses: None) -> None:
        """Train to the end and write ``learned_embeds.safetensors`` and ``training.json``.

        Args:
            at_step: told after every step.

        Raises:
            KeyboardInterrupt: the same call, on a new object after ``resume``, goes on to the same bits.
            FreeURuntimeError: as ``Training.go``.
        """
        output = OutputFolder(self.folder)
        output.write(RECORD, as_json(self._record(complete=False)))

        def after(step: int, losses: Mapping[str, float]) -> None:
            if self._sample_steps and (step % self._sample_steps == 0 or step >= self.settings.steps):
                self._draw_samples(step)
            at_step(step, losses)

        with quiet(), deterministic(self.plan.device, self.plan.threads):
            self._training.go(after)
        self.word.remove()
        with output.file(EMBEDDING) as part:
            self.word.save(part)
        output.write(RECORD, as_json(self._record(complete=True)))

    def _check_folder(self) -> None:
        check_folder(self.folder)
        checkpoint = self._training.checkpoint
        if checkpoint.check() is not None or not (self.folder / RECORD).exists():
            return
        # It was stopped before the first checkpoint.
        if read_record(self.folder).get("identity") != checkpoint.identity:
            raise FreeUValueError(f"{self.folder} holds another training: name a folder that does not exist yet")

    def _losses_of(self, step: int) -> Mapping[str, Tensor]:
        import torch

        settings = self.settings
        rows = turn(settings.seed, len(self.exemplars), settings.batch, step)
        chance = random.Random(seed_of(settings.seed, "captions", step))
        captions = [chance.choice(self.exemplars[row].captions) for row in rows]
        noise = generator_of(settings.seed, "noise", step)
        errors = self._denoiser.error(self._latents[rows], self._denoiser.conditions(captions), noise)
        losses = {"denoising": errors.mean()}
        if self._steering:
            steered = [
                each.loss(place.vector, captions, chance)
                for each, place in zip(self._steering, self.word.places, strict=True)
            ]
            losses["steering"] = settings.steering_weight * torch.stack(steered).mean()
        return losses

    def _draw_samples(self, step: int) -> None:
        """One row of pictures, unless it is there from an earlier run of the same training."""
        import torch
        from PIL import Image

        name = f"step-{step:06d}.png"
        samples = OutputFolder(self.folder / SAMPLES)
        if (samples.path / name).exists():
            return
        with torch.no_grad():
            drawn: list[Image.Image] = [draw(self.loaded.pipe, self.plan, one)[0] for one in self.plan.pictures()]
        sheet = Image.new("RGB", (sum(one.width for one in drawn), drawn[0].height))
        for place, one in enumerate(drawn):
            sheet.paste(one, (place * one.width, 0))
        samples.write(name, png(sheet))

    def _record(self, complete: bool) -> dict[str, Any]:
        """What ``training.json`` holds; no path of the machine is in it but that of the model."""
        path = self.folder / EMBEDDING
        return {
            "kind": KIND,
            "schema": SCHEMA,
            "complete": complete,
            "token": self.settings.token,
            "model": asdict(self.plan.model),
            "settings": asdict(self.settings),
            "positives": [list(each.positives) for each in self._steering],
            "exemplars": [{"file": one.name, "captions": list(one.captions)} for one in self.exemplars],
            "identity": self._training.checkpoint.identity,
            "samples": list(self.plan.prompts) if self._sample_steps else [],
            "embedding": {"file": EMBEDDING, "sha256": file_sha(path)} if complete else None,
            "seconds": round(self._training.seconds, 1),
            "losses": mean_losses(self._training.losses),
            "device": self.plan.device,
            "threads": self.plan.threads,
            "environment": environment(self.plan.device),
        }


class _Steering:
    """The steering loss in one text encoder.

    Attributes:
        positives: the prepositions that are drawn, with their tokens.
    """

    def __init__(self, tokenizer: Any, encoder: Any, settings: Settings) -> None:
        self.positives = basis_words(tokenizer, settings.left_out)
        if len(self.positives) < settings.positives:
            raise FreeUValueError(
                f"--positives {settings.positives} are more than the {len(self.positives)} prepositions that this "
                "model knows as one token: ask for fewer, or leave steering out with --steering-weight 0"
            )
        self._tokenizer, self._token, self._count = tokenizer, settings.token, settings.positives
        self._embeddings = encoder.get_input_embeddings().weight.detach().float()

    def loss(self, vector: Tensor, captions: Sequence[str], chance: random.Random) -> Tensor:
        """Prepositions, as many for each caption, against the words of the captions."""
        words = list(self.positives.values())
        drawn = [number for _ in captions for number in chance.sample(words, self._count)]
        others = tokens_of(self._tokenizer, (word for text in captions for word in content_words(text, self._token)))
        return steering_loss(vector, self._embeddings[drawn], self._embeddings[others])
