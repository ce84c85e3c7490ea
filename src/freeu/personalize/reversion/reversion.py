"""Relation inversion (ReVersion, Huang et al., arXiv:2303.13495): learn a word for a relation from a few images.

One embedding is learned; the U-Net, the text encoder and the autoencoder stay as they are. The loss is that of textual
inversion (Gal et al., arXiv:2208.01618) with the two additions of ``reversion_losses``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.personalize.reversion.exemplars import Exemplar
from freeu.personalize.reversion.learned_word import LearnedWord
from freeu.personalize.reversion.losses import FocalDenoiser, basis_words, content_words, steering_loss, tokens_of
from freeu.personalize.reversion.settings import RATE, Settings
from freeu.personalize.training.drawing import sample_sheet
from freeu.personalize.training.examples import encode, pictures_sha, squared
from freeu.personalize.training.record import RECORD, SCHEMA, claim, read_record, refuse_other_files
from freeu.personalize.training.training import AtStep, Pace, Training, generator_of, mean_losses, seed_of, turn
from freeu.pipelines.io.output import OutputFolder, file_sha
from freeu.pipelines.models.loading import Loaded, quiet
from freeu.pipelines.runs.manifest import as_json, environment
from freeu.pipelines.runs.plan import Plan
from freeu.pipelines.runs.run import deterministic

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDING, SAMPLES = "learned_embeds.safetensors", "samples"
KIND = "freeu-reversion"


@dataclass(frozen=True)
class LearntWord:
    """What a complete training left.

    Args:
        token: the word.
        path: of its embedding.
        model, variant, model_config: what it was learned with, as the options of those names.
        fingerprint: of that model.
    """

    token: str
    path: Path
    model: str
    variant: str | None
    model_config: Path | None
    fingerprint: str

    def notes(self, plan: Plan) -> Iterator[str]:
        """What a user should know before the word is generated."""
        if plan.model.fingerprint != self.fingerprint:
            yield f"{self.token} was learned with another model than {plan.model.name}, and may mean less there"


def find_learnt(folder: Path) -> LearntWord:
    """The word in the folder of a training.

    Raises:
        FreeUValueError: no such folder, a training that is not complete, or a damaged record.
    """
    record = read_record(folder, KIND)
    if record is None:
        raise FreeUValueError(f"{folder} holds no {RECORD}: give the folder that freeu reversion train wrote")
    if not record.get("complete"):
        raise FreeUValueError(f"the training in {folder} is not complete: give its command again, and it goes on")
    model = {name: record["model"].get(name) for name in ("reference", "fingerprint", "variant", "model_config")}
    token = record.get("token")
    texts = (token, model["reference"], model["fingerprint"])
    options = (model["variant"], model["model_config"])
    if not all(isinstance(x, str) for x in texts) or not all(x is None or isinstance(x, str) for x in options):
        raise FreeUValueError(f"{folder / RECORD} is damaged: it names no token or no model")
    place = model["model_config"]
    return LearntWord(
        str(token),
        folder / EMBEDDING,
        str(model["reference"]),
        model["variant"],
        None if place is None else Path(place),
        str(model["fingerprint"]),
    )


class Inversion:
    """A training that can be interrupted, and what it writes.

    While it lives, the pipeline knows the word as it is learned so far.

    Args:
        loaded: the pipeline; its weights are not changed, but a row is added to the embedding of the text encoder.
        plan: of the images that are generated on the way, with the arm "baseline" alone.
        exemplars: of ``reversion_exemplars.read_exemplars``.
        settings: see there.
        folder: new, or that of an earlier run of the same training.
        sample_every: steps between such images; 0 generates none.

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
        sample_every: int = 0,
    ) -> None:
        self.loaded, self.plan, self.folder = loaded, plan, folder
        self.exemplars, self._sample_every = tuple(exemplars), sample_every
        pipe = loaded.pipe
        self._denoiser = FocalDenoiser(pipe, settings.importance, settings.dtype)
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
            refuse_other_files(folder, KIND)
            self._training.checkpoint.check()
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
        """Go on where an earlier run in the folder stopped; says whether there was one.

        Raises:
            FreeUValueError: a damaged checkpoint, or one of more steps.
        """
        found = self._training.resume()
        if self.step > self.settings.steps:
            raise FreeUValueError(
                f"{self.folder} holds {self.step} steps already, more than --steps {self.settings.steps}: "
                "name a folder that does not exist yet"
            )
        return found

    def go(self, at_step: AtStep = lambda step, losses: None) -> None:
        """Train to the end and write ``learned_embeds.safetensors`` and ``training.json``.

        Args:
            at_step: told after every step.

        Raises:
            KeyboardInterrupt: the same call, on a new object after ``resume``, goes on bit for bit.
            FreeURuntimeError: as ``Training.go``.
        """
        output = OutputFolder(self.folder)
        claim(output, self._record(complete=False))

        def after(step: int, losses: Mapping[str, float]) -> None:
            if self._sample_every and (step % self._sample_every == 0 or step >= self.settings.steps):
                self._draw_samples(step)
            at_step(step, losses)

        with quiet(), deterministic(self.plan.device, self.plan.threads):
            self._training.go(after)
        self.word.remove()
        with output.file(EMBEDDING) as part:
            self.word.save(part)
        output.write(RECORD, as_json(self._record(complete=True)))

    def _losses_of(self, step: int) -> Mapping[str, Tensor]:
        import torch

        settings = self.settings
        rows = turn(settings.seed, len(self.exemplars), settings.batch, step)
        chance = random.Random(seed_of(settings.seed, "captions", step))
        captions = [chance.choice(self.exemplars[row].captions) for row in rows]
        noise = generator_of(settings.seed, "noise", step)
        with self._denoiser.arithmetic():
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
        """A sheet of images, unless it is there from an earlier run of the same training."""
        import torch

        name = f"step-{step:06d}.png"
        samples = OutputFolder(self.folder / SAMPLES)
        if not (samples.path / name).exists():
            with torch.no_grad():
                samples.write(name, sample_sheet(self.loaded, self.plan, f"{self.settings.token}, step {step}"))

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
            "samples": list(self.plan.prompts) if self._sample_every else [],
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
        positives: the prepositions that are sampled, with their tokens.
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
