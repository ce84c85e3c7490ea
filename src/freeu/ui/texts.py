"""Every text of the page, in English and Chinese."""

from __future__ import annotations

LANGUAGES = {"en": "English", "zh": "中文"}

TEXTS = {
    "about": (
        "The same prompt and seed without and with FreeU.",
        "同一提示词、同一种子，不用与使用 FreeU 的对比。",
    ),
    "language": ("Language", "语言"),
    "prompt": ("Prompt", "提示词"),
    "generate": ("Generate", "生成"),
    "stop": ("Stop", "停止"),
    "pair": ("without | with FreeU", "不用 | 使用 FreeU"),
    "save_off": ("Download without FreeU", "下载（不用 FreeU）"),
    "save_on": ("Download with FreeU", "下载（使用 FreeU）"),
    "spectra": ("Spectra", "频谱"),
    "copy": ("Settings to copy", "可复制的设置"),
    "python": ("Python", "Python"),
    "json": ("JSON", "JSON"),
    "short": ("Short form, and for freeu compare --config", "简写，也可用于 freeu compare --config"),
    "command": ("At a shell", "命令行"),
    "gallery": (
        "This session, with FreeU (newest first; click one to restore its settings)",
        "本次会话，使用 FreeU（最新在前；点击即可恢复其设置）",
    ),
    "group_image": ("Image", "图像"),
    "history": ("Earlier prompts", "历史提示词"),
    "model": ("Model", "模型"),
    "seed": ("Seed (-1: random)", "种子（-1：随机）"),
    "dice": ("🎲 Random", "🎲 随机"),
    "reuse": ("♻ Last seed", "♻ 上次的种子"),
    "steps": ("Steps", "步数"),
    "guidance": ("CFG scale", "CFG 系数"),
    "width": ("Width", "宽"),
    "height": ("Height", "高"),
    "batch": ("Batch size", "批量"),
    "negative_prompt": ("Negative prompt", "反向提示词"),
    "scheduler": ("Sampler", "采样器"),
    "own": ("the model's own", "模型自带"),
    "group_freeu": ("FreeU", "FreeU"),
    "preset": ("Preset", "预设"),
    "custom": ("custom", "自定义"),
    "recommended": ("recommended", "推荐"),
    "b": ("{name}: backbone", "{name}：主干"),
    "s": ("{name}: skip, low frequencies", "{name}：跳跃连接低频"),
    "version": ("Version (2: structure-aware)", "版本（2：结构感知）"),
    "profile": ("Profile", "层级约定"),
    "start": ("Start", "开始"),
    "end": ("End", "结束"),
    "strength": ("FreeU strength", "FreeU 强度"),
    "live": ("Regenerate when a slider is released", "松开滑块时重新生成"),
    "live_auto": ("if a pair takes < {seconds:g} s", "一对图像 < {seconds:g} 秒时"),
    "live_always": ("always", "总是"),
    "live_never": ("never", "从不"),
    "more_freeu": ("Whole skip, mean, windows of b and s", "整个跳跃连接、均值、b 与 s 的时间窗"),
    "gain_lowest": ("Skip gain: lowest site", "跳跃增益：最低层"),
    "gain_highest": ("Skip gain: highest site", "跳跃增益：最高层"),
    "dc": ("s does to the mean", "s 对均值"),
    "window_start": ("{name}: start", "{name}：开始"),
    "window_end": ("{name}: end", "{name}：结束"),
    "group_start": ("Image to image", "图生图"),
    "image": ("Image to start from", "起始图像"),
    "denoising": ("Denoising strength", "重绘幅度"),
    "group_control": ("ControlNet", "ControlNet"),
    "control": ("ControlNet", "ControlNet"),
    "none": ("none", "无"),
    "control_image": ("Control image", "控制图像"),
    "preprocessor": ("Preprocessor", "预处理器"),
    "control_weight": ("ControlNet weight", "ControlNet 权重"),
    "group_lora": ("LoRA", "LoRA"),
    "lora": ("LoRA (.safetensors)", "LoRA（.safetensors）"),
    "lora_weight": ("LoRA weight", "LoRA 权重"),
    "loading": ("loading the model", "正在加载模型"),
    "baseline": ("without FreeU", "不用 FreeU"),
    "freeu": ("with FreeU", "使用 FreeU"),
    "of_batch": ("image {number} of {count}, {what}", "第 {number}/{count} 张，{what}"),
    "seed_used": ("seed", "种子"),
    "frequency": ("frequency (π: Nyquist)", "频率（π：奈奎斯特）"),
    "amplitude": ("relative log amplitude", "相对对数幅度"),
    "made": ("{made} of 2 images generated in {seconds:.1f} s", "生成了 2 张中的 {made} 张，用时 {seconds:.1f} 秒"),
    "there": ("both images were there", "两张图像均已存在"),
    "from_gallery": ("settings restored", "设置已恢复"),
    "stopped": ("Stopped.", "已停止。"),
    "nothing_yet": ("There is no image yet whose seed could be used.", "还没有可用其种子的图像。"),
}
"""English and Chinese by key; words in braces are filled in."""


def say(key: str, language: str, **values: object) -> str:
    """A text of the page.

    Args:
        key: of ``TEXTS``.
        language: of ``LANGUAGES``; any other is English.
        values: for the words in braces.
    """
    english, chinese = TEXTS[key]
    return (chinese if language == "zh" else english).format(**values)


def preferred(header: str) -> str:
    """The language of a visitor by his browser's ``Accept-Language``: the first of ours, or English."""
    ranked: list[tuple[float, str]] = []
    for part in header.split(","):
        name, _, quality = part.strip().partition(";q=")
        try:
            ranked.append((-float(quality or 1), name.lower().split("-")[0]))
        except ValueError:
            continue
    return next((name for _, name in sorted(ranked, key=lambda one: one[0]) if name in LANGUAGES), "en")
