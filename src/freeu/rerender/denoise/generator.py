"""Generate the key frames of a video one after the other, consistent with each other (Rerender A Video, section 4.1).

Each is an image-to-image run from the same noise. While it is denoised, the constraints of ``settings.STAGES`` pull it
towards the first key frame of the scene and the previous one.

A key frame costs as many calls of the U-Net as image-to-image, one encoding and one decoding. "pixel" adds one of each,
"fidelity" another encoding and two decodings. The official code generates every key frame twice, to have a complete
draft under the references; here the draft is the U-Net's clean prediction when the stage begins, which is visible only
where no reference is.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from freeu.errors import FreeURuntimeError, FreeUValueError
from freeu.motion.estimate import FlowEstimator, at_latent
from freeu.motion.measure import Frame, check_frame, optical_flow
from freeu.pipelines.runs.generate import OnStep
from freeu.rerender.denoise import memory as store
from freeu.rerender.denoise.attention import CrossFrame, decoder_attention
from freeu.rerender.denoise.encoding import Autoencoder
from freeu.rerender.denoise.fusion import View, at_latents, composited, touched, view_from
from freeu.rerender.denoise.memory import KeyFrame, Memory
from freeu.rerender.denoise.models import check_controlnet, check_pipe
from freeu.rerender.denoise.settings import KeyFrameSettings
from freeu.rerender.denoise.stages import toward, warped, with_colours
from freeu.rerender.denoise.steps import Steps
from freeu.rerender.outline.drawn import drawn_object, trimmed

if TYPE_CHECKING:
    from torch import Tensor

Preprocessor = Callable[[Frame], Frame]
"""From a frame, uint8 (H, W, 3), to its control image, of the same type and size."""


class KeyFrameGenerator:
    """Generates the key frames of a video in their order.

    Args:
        pipe: a Stable Diffusion pipeline of diffusers, with the scheduler to use; FreeU may be enabled on it.
        settings: of the key frames.
        flow: the flow estimator.
        preprocessor, controlnet: both or neither: a ``ControlNetModel``, and what makes its control images.

    Attributes:
        memory: the first and the previous key frame of the scene.

    Raises:
        FreeUValueError: an unsupported pipeline or ControlNet.
    """

    def __init__(
        self,
        pipe: Any,
        settings: KeyFrameSettings,
        flow: FlowEstimator = optical_flow,
        preprocessor: Preprocessor | None = None,
        controlnet: Any | None = None,
    ) -> None:
        check_pipe(pipe)
        if (preprocessor is None) != (controlnet is None):
            raise FreeUValueError("controlnet and preprocessor belong together: give both or neither")
        if controlnet is not None:
            check_controlnet(controlnet, pipe.unet)
        if settings.on("cross-frame"):
            decoder_attention(pipe.unet)
        self.pipe = pipe
        self.settings = settings
        self.flow = flow
        self.preprocessor = preprocessor
        self.controlnet = controlnet
        self.codec = Autoencoder(pipe)
        self.memory = Memory()

    def new_scene(self) -> None:
        """Forget the key frames generated so far: the next one is a first."""
        self.memory = Memory()

    def generate(self, frame: Any, on_step: OnStep | None = None, moves: NDArray[np.bool_] | None = None) -> Frame:
        """Generate the next key frame.

        Args:
            frame: of the video, uint8 (H, W, 3), sides divisible by the VAE's factor.
            on_step: called after each step with the fraction that is done and the latents.
            moves: what moves in the frame, (H, W), from ``outline.moving``; None if it is not known, and the stage
                "outline" does nothing.

        Returns:
            the key frame, uint8 (H, W, 3). With strength 0 the unchanged frame, and nothing is remembered.

        Raises:
            FreeUValueError: no such frame, or of another size than those before or than ``moves``.
            FreeURuntimeError: the model's safety checker refuses the image; nothing is remembered.
        """
        import torch

        source = self._checked(frame)
        if moves is not None and moves.shape != source.shape[:2]:
            raise FreeUValueError(f"what moves, of {moves.shape}, does not fit a frame of {source.shape[:2]}")
        if not self.settings.strength:
            return source
        try:
            with torch.no_grad():
                return _KeyFrameRun(self, source, moves).run(on_step)
        finally:
            self.pipe.maybe_free_model_hooks()

    def save(self, path: Path) -> None:
        """Write the memory, so that a generator that loads it continues bit-identically.

        Raises:
            FreeURuntimeError: it cannot be written; an older file is still there.
        """
        store.write(path, self.memory, self._identity())

    def load(self, path: Path) -> None:
        """Read the memory that ``save`` wrote.

        Raises:
            FreeUValueError: no such file, a damaged one, or one of other settings or another scheduler class.
        """
        self.memory = store.read(path, self._identity(), self.pipe._execution_device)

    @functools.cached_property
    def guidance(self) -> float:
        """The CFG scale."""
        if self.settings.guidance is not None:
            return self.settings.guidance
        return float(inspect.signature(type(self.pipe).__call__).parameters["guidance_scale"].default)

    @functools.cached_property
    def prompt_embeddings(self) -> Tensor:
        """The encoded prompt, (1, length, width), or (2, ...) with guidance, the negative prompt first."""
        import torch

        with torch.no_grad():
            prompt, negative = self.pipe.encode_prompt(
                self.settings.prompt,
                self.pipe._execution_device,
                1,
                self.guidance > 1.0,
                self.settings.negative_prompt or None,
            )
        found: Tensor = torch.cat([negative, prompt]) if self.guidance > 1.0 else prompt
        return found

    def _identity(self) -> dict[str, Any]:
        return self.settings.record() | {"scheduler": type(self.pipe.scheduler).__name__}

    def _checked(self, frame: Any) -> Frame:
        source = check_frame(frame).copy()
        height, width = source.shape[:2]
        factor = self.pipe.vae_scale_factor
        if height % factor or width % factor:
            raise FreeUValueError(f"the sides of a key frame must be divisible by {factor}, got {width}x{height}")
        first = self.memory.first
        if first is not None and first.source.shape != source.shape:
            before = f"{first.source.shape[1]}x{first.source.shape[0]}"
            raise FreeUValueError(f"a key frame of {width}x{height} follows one of {before}: call new_scene() between")
        return source


class _KeyFrameRun:
    """The denoising of one key frame."""

    def __init__(self, parent: KeyFrameGenerator, source: Frame, moves: NDArray[np.bool_] | None) -> None:
        import torch

        self.parent = parent
        self.source = source
        self.settings = parent.settings
        self.moves = moves if self.settings.on("outline") else None
        self.memory = parent.memory
        self.pipe = parent.pipe
        self.codec = parent.codec
        self.device = self.pipe._execution_device
        self.generator = torch.Generator("cpu").manual_seed(self.settings.seed)
        self.steps = Steps(self.pipe, self.settings.steps, self.settings.strength, self.device, self.generator)
        self.keeps = not self.memory.references and (self.settings.on("shape") or self.settings.on("colour"))
        self.cross: CrossFrame | None = None
        if self.settings.on("cross-frame"):
            self.cross = CrossFrame(self.pipe.unet, [key.attention for key in self.memory.references])
        self.clean: list[Tensor] = []
        self.target: tuple[Tensor, Tensor] | None = None

    def run(self, on_step: OnStep | None) -> Frame:
        from diffusers.utils.torch_utils import randn_tensor

        prompt_embeddings = self.parent.prompt_embeddings
        # As the pipeline's own call does: FreeU on one half asks whether there are two.
        self.pipe._guidance_scale = self.parent.guidance
        start = self.codec.encode(self.codec.tensor(self.source)).to(prompt_embeddings.dtype)
        noise = randn_tensor(start.shape, generator=self.generator, device=self.device, dtype=start.dtype)
        latents = self.steps.noisy(start, noise)
        control = self._control()
        for step in range(len(self.steps)):
            output = self._predicted(latents, step, control)
            before, latents = latents, self.steps.step(output, latents, step)
            if self.keeps or self._constrained(step):
                clean = self.steps.clean(output, before, step)
                if self.keeps:
                    self.clean.append(clean)
                wanted = self._constrain(clean, step)
                if wanted is not clean:
                    latents = self.steps.moved(latents, wanted - clean, step)
            if on_step is not None:
                on_step((step + 1) / len(self.steps), latents)
        image = self._decoded(latents)
        attention = self.cross.recorded if self.cross is not None else {}
        drawn = drawn_object(image, self.moves) if self.moves is not None else None
        self.memory.add(KeyFrame(self.source, image, tuple(self.clean), attention, drawn))
        return image.copy()

    def _predicted(self, latents: Tensor, step: int, control: Tensor | None) -> Tensor:
        """The U-Net's prediction, after guidance."""
        import torch

        guided = self.parent.guidance > 1.0
        scaled = self.steps.scaled(torch.cat([latents] * 2) if guided else latents, step)
        time, embeds = self.steps.times[step], self.parent.prompt_embeddings
        more: dict[str, Any] = {}
        if control is not None:
            controlnet: Any = self.parent.controlnet
            down, middle = controlnet(
                scaled,
                time,
                encoder_hidden_states=embeds,
                controlnet_cond=torch.cat([control] * len(scaled)),
                conditioning_scale=self.settings.control_scale,
                return_dict=False,
            )
            more = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        acts = self.cross is not None and self.settings.acts("cross-frame", step, len(self.steps))
        with self.cross() if self.cross is not None and acts else contextlib.nullcontext():
            output: Tensor = self.pipe.unet(scaled, time, encoder_hidden_states=embeds, **more, return_dict=False)[0]
        if not guided:
            return output
        without, within = output.chunk(2)
        return without + self.parent.guidance * (within - without)

    def _constrained(self, step: int) -> bool:
        """Whether a constraint on latents acts in a step."""
        names = ("colour", "shape", "pixel") if self.memory.references else ()
        return self._outlined(step) or any(self.settings.acts(name, step, len(self.steps)) for name in names)

    def _outlined(self, step: int) -> bool:
        return self.moves is not None and self.settings.acts("outline", step, len(self.steps))

    def _constrain(self, clean: Tensor, step: int) -> Tensor:
        """The clean latents after the constraints: colour, then shape, then outline and pixels."""
        first = self.memory.first
        acts = functools.partial(self.settings.acts, step=step, total=len(self.steps))
        wanted = clean
        if first is not None and acts("colour"):
            wanted = with_colours(wanted, first.clean[step])
        if first is not None and acts("shape"):
            displacement, visible = at_latent(self._views[0].flow, self.source.shape[0] // clean.shape[-2])
            mask = self._tensor(visible)
            wanted = toward(wanted, warped(first.clean[step], displacement), mask)
        if self._outlined(step) or (first is not None and acts("pixel")):
            if self.target is None:
                self.target = self._target(wanted)
            latents, weight = self.target
            wanted = toward(wanted, latents, self.settings.pixel_strength * weight)
        return wanted

    @functools.cached_property
    def _views(self) -> list[View]:
        """Views of the first and the previous key frame; of the first alone if "pixel" is disabled."""
        keys = self.memory.references if self.settings.on("pixel") else self.memory.references[:1]
        return [view_from(self.source, key, self.moves, self.parent.flow) for key in keys]

    def _target(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """The latents that "outline" and "pixel" move towards, (1, C, h, w), and how far, (1, 1, h, w); float32."""
        import torch

        pixels, size = self.codec.decode(clean), clean.shape[-2:]
        weight = torch.zeros(1, 1, *size, device=self.device)
        if self.moves is not None:
            within, beyond = trimmed(self.codec.frame(pixels), self.moves)
            pixels = torch.where(self._tensor(beyond) > 0, self.codec.tensor(within), pixels)
            weight = touched(self._tensor(beyond), size)
        if self.memory.references and self.settings.on("pixel"):
            pixels, shown = composited(pixels, self._views, self.codec)
            weight = torch.maximum(weight, at_latents(shown, size))
        encode = self.codec.encode_faithfully if self.settings.on("fidelity") else self.codec.encode
        return encode(pixels).float(), weight

    def _tensor(self, mask: Any) -> Tensor:
        import torch

        return torch.from_numpy(np.asarray(mask, np.float32))[None, None].to(self.device)

    def _control(self) -> Tensor | None:
        """The control image, (1, 3, H, W), 0..1."""
        import torch

        if self.parent.preprocessor is None:
            return None
        shown = check_frame(self.parent.preprocessor(self.source))
        if shown.shape != self.source.shape:
            raise FreeUValueError(f"a control image of {shown.shape} does not fit a frame of {self.source.shape}")
        values = torch.from_numpy(shown.astype(np.float32) / 255.0).permute(2, 0, 1)[None]
        return values.to(self.device, self.parent.prompt_embeddings.dtype)

    def _decoded(self, latents: Tensor) -> Frame:
        pixels = self.codec.decode(latents)
        _, refused = self.pipe.run_safety_checker(pixels, self.device, self.parent.prompt_embeddings.dtype)
        if refused and refused[0]:
            raise FreeURuntimeError("the model's safety checker refuses a key frame: use another prompt or seed")
        return self.codec.frame(pixels)
