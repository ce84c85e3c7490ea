"""Relation inversion (ReVersion, Huang et al., arXiv:2303.13495): train a token for a relation on a few images.

One embedding is trained; U-Net, text encoder and VAE are fixed. The loss is that of textual inversion (Gal et al.,
arXiv:2208.01618) with the two additions in ``losses``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeu.errors import FreeUValueError
from freeu.personalize.reversion.exemplars import Exemplar
from freeu.personalize.reversion.losses import FocalDenoiser, basis_words, content_words, steering_loss, tokens_of
from freeu.personalize.reversion.placeholder import PlaceholderToken
from freeu.personalize.reversion.settings import RATE, Settings
from freeu.personalize.training.examples import encode, images_sha, squared
from freeu.personalize.training.record import RECORD, SCHEMA, claim, read_record, refuse_other_files
from freeu.personalize.training.samples import sample_sheet
from freeu.personalize.training.training import (
    AtStep,
    OptimizerSettings,
    Training,
    batch_rows,
    generator_of,
    mean_losses,
    seed_of,
)
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
class LearnedEmbedding:
    """The result of a complete training.

    Args:
        token: of the relation.
        path: of its embedding.
        model, variant, model_config: the model that it was trained with, as the options of those names.
        fingerprint: of that model.
    """

    token: str
    path: Path
    model: str
    variant: str | None
    model_config: Path | None
    fingerprint: str

    def notes(self, plan: Plan) -> Iterator[str]:
        """What a user should know before generating with the token."""
        if plan.model.fingerprint != self.fingerprint:
            yield f"{self.token} was trained with another model than {plan.model.name}: it may work less well"


def find_learned(folder: Path) -> LearnedEmbedding:
    """The embedding in the folder of a training.

    Raises:
        FreeUValueError: no such folder, an unfinished training, or a damaged record.
    """
    record = read_record(folder, KIND)
    if record is None:
        raise FreeUValueError(f"{folder} holds no {RECORD}: give the folder that freeu reversion train wrote")
    if not record.get("complete"):
        raise FreeUValueError(f"the training in {folder} is not finished: give its command again to resume it")
    model = {name: record["model"].get(name) for name in ("reference", "fingerprint", "variant", "model_config")}
    token = record.get("token")
    texts = (token, model["reference"], model["fingerprint"])
    options = (model["variant"], model["model_config"])
    if not all(isinstance(x, str) for x in texts) or not all(x is None or isinstance(x, str) for x in options):
        raise FreeUValueError(f"{folder / RECORD} is damaged: token or model are missing")
    config = model["model_config"]
    return LearnedEmbedding(
        str(token),
        folder / EMBEDDING,
        str(model["reference"]),
        model["variant"],
        None if config is None else Path(config),
        str(model["fingerprint"]),
    )


class Inversion:
    """A resumable training, and the files that it writes.

    While it exists, the pipeline knows the token with its current embedding.

    Args:
        loaded: the pipeline; its weights do not change, but a row is added to the embedding of each text encoder.
        plan: of the samples, with the arm "baseline" alone.
        exemplars: of ``read_exemplars``.
        settings: see ``Settings``.
        folder: new, or that of an earlier run of the same training.
        sample_every: steps between samples; 0 generates none.

    Raises:
        FreeUValueError: a token in the model's vocabulary, captions that are too long, unknown prepositions, an
            unsupported pipeline, or a folder with another training.
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
        self.placeholder = PlaceholderToken(pipe, settings.token, settings.start_word)
        if settings.learning_rate is None:
            # Rounded, so that the number can be given on the command line.
            rate = float(f"{RATE * self.placeholder.size:.3g}")
            settings = replace(settings, learning_rate=rate)
        assert settings.learning_rate is not None
        self.settings = settings
        try:
            steered = self.placeholder.slots if settings.steering_weight else []
            self._steering = [_Steering(slot.tokenizer, slot.encoder, settings) for slot in steered]
            for exemplar in self.exemplars:
                for caption in exemplar.captions:
                    self.placeholder.check_caption(caption)
            images = [squared(exemplar.image, loaded.native) for exemplar in self.exemplars]
            identity = {
                "method": KIND,
                "model": plan.model.fingerprint,
                "exemplars": images_sha(images),
                "captions": [list(exemplar.captions) for exemplar in self.exemplars],
                **{name: value for name, value in asdict(settings).items() if name not in ("steps", "learning_rate")},
            }
            self._training = Training(
                self.placeholder.parameters(),
                self._losses_of,
                OptimizerSettings(settings.steps, settings.learning_rate, checkpoint_steps=50),
                folder,
                identity,
                seed=settings.seed,
            )
            refuse_other_files(folder, KIND)
            self._training.checkpoint.check()
            with quiet(), deterministic(plan.device, plan.threads):
                self._latents = encode(pipe.vae, images)
        except BaseException:
            self.placeholder.remove()
            raise

    @property
    def step(self) -> int:
        """Number of steps made."""
        return self._training.step

    def resume(self) -> bool:
        """Resume an earlier run in the folder; returns whether there was one.

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

    def train(self, at_step: AtStep = lambda step, losses: None) -> None:
        """Train to the end and write ``learned_embeds.safetensors`` and ``training.json``.

        Args:
            at_step: called after every step.

        Raises:
            KeyboardInterrupt: a new object resumes bit-identically after ``resume``.
            FreeURuntimeError: as ``Training.train``.
        """
        output = OutputFolder(self.folder)
        claim(output, self._record(complete=False))

        def after(step: int, losses: Mapping[str, float]) -> None:
            if self._sample_every and (step % self._sample_every == 0 or step >= self.settings.steps):
                self._generate_samples(step)
            at_step(step, losses)

        with quiet(), deterministic(self.plan.device, self.plan.threads):
            self._training.train(after)
        self.placeholder.remove()
        with output.file(EMBEDDING) as part:
            self.placeholder.save(part)
        output.write(RECORD, as_json(self._record(complete=True)))

    def _losses_of(self, step: int) -> Mapping[str, Tensor]:
        import torch

        settings = self.settings
        rows = batch_rows(settings.seed, len(self.exemplars), settings.batch, step)
        chance = random.Random(seed_of(settings.seed, "captions", step))
        captions = [chance.choice(self.exemplars[row].captions) for row in rows]
        noise = generator_of(settings.seed, "noise", step)
        with self._denoiser.autocast():
            errors = self._denoiser.loss(self._latents[rows], self._denoiser.encode_prompts(captions), noise)
        losses = {"denoising": errors.mean()}
        if self._steering:
            steered = [
                each.loss(slot.vector, captions, chance)
                for each, slot in zip(self._steering, self.placeholder.slots, strict=True)
            ]
            losses["steering"] = settings.steering_weight * torch.stack(steered).mean()
        return losses

    def _generate_samples(self, step: int) -> None:
        """Write a sheet of samples, unless an earlier run of the same training has."""
        import torch

        name = f"step-{step:06d}.png"
        samples = OutputFolder(self.folder / SAMPLES)
        if not (samples.path / name).exists():
            with torch.no_grad():
                samples.write(name, sample_sheet(self.loaded, self.plan, f"{self.settings.token}, step {step}"))

    def _record(self, complete: bool) -> dict[str, Any]:
        """What ``training.json`` holds; the only path in it is that of the model."""
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
                f"--positives {settings.positives} exceeds the {len(self.positives)} prepositions that this model has "
                "as one token: use fewer, or disable steering with --steering-weight 0"
            )
        self._tokenizer, self._token, self._count = tokenizer, settings.token, settings.positives
        self._embeddings = encoder.get_input_embeddings().weight.detach().float()

    def loss(self, vector: Tensor, captions: Sequence[str], chance: random.Random) -> Tensor:
        """The loss with prepositions sampled for each caption as positives, and the captions' words as negatives."""
        words = list(self.positives.values())
        sampled = [number for _ in captions for number in chance.sample(words, self._count)]
        others = tokens_of(self._tokenizer, (word for text in captions for word in content_words(text, self._token)))
        return steering_loss(vector, self._embeddings[sampled], self._embeddings[others])
