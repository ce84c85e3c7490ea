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
    "pair_hidden": ("left | right (blind)", "左 | 右（盲评）"),
    "first": ("settings A", "设置 A"),
    "second": ("settings B", "设置 B"),
    "vote_left": ("← Left is better (1)", "← 左边更好（1）"),
    "vote_tie": ("Alike (2)", "差不多（2）"),
    "vote_right": ("Right is better (3) →", "右边更好（3）→"),
    "vote_next": ("Next pair (N)", "下一对（N）"),
    "vote_undo": ("Undo vote (U)", "撤销投票（U）"),
    "vote_take": ("Take these settings", "采用这些设置"),
    "vote_save": ("Save preset", "保存预设"),
    "vote_blind": ("Blind after Generate, too", "“生成”后也盲评"),
    "vote_earlier": ("Next pairs: earlier prompts in turn", "下一对：轮流使用历史提示词"),
    "vote_none": (
        "No votes on this model yet. Which image do you like better? Your votes choose the next pair.",
        "此模型还没有投票。您更喜欢哪张图？下一对图像由您的投票选出。",
    ),
    "vote_count": ("Votes on this model: {count}. Liked best so far:", "此模型的投票数：{count}。目前最喜欢："),
    "vote_liked": (
        "Expected to be chosen over no FreeU in {chance} % of votes (95 %: {low} to {high} %).",
        "预计在 {chance} % 的投票中胜过不用 FreeU（95 %：{low} 至 {high} %）。",
    ),
    "vote_plain": (
        "Expected to be chosen over no FreeU in {chance} % of votes (95 %: {low} to {high} %): none is best so far.",
        "预计仅在 {chance} % 的投票中胜过不用 FreeU（95 %：{low} 至 {high} %）：目前不用 FreeU 最好。",
    ),
    "vote_outside": (
        "No vote on this pair: votes compare different settings of version 2 with two stages, b {b}, s {s}, skip gain "
        "{gain}, in all steps. The next pair lies in there.",
        "这一对不能投票：投票比较版本 2 的不同设置，两级，b {b}，s {s}，跳跃增益 {gain}，全部步数。"
        "“下一对”在此范围内。",
    ),
    "voted_left": ("Your vote: left. The next pair?", "您的投票：左边。看下一对？"),
    "voted_right": ("Your vote: right. The next pair?", "您的投票：右边。看下一对？"),
    "voted_tie": ("Your vote: alike. The next pair?", "您的投票：差不多。看下一对？"),
    "vote_undone": ("The last vote was taken back.", "已撤销上一次投票。"),
    "vote_taken": ("The sliders have the settings liked best.", "滑块已设为最喜欢的设置。"),
    "vote_forgotten": (
        "Votes are forgotten when this studio ends; freeu ui --votes FOLDER keeps them.",
        "工作室结束时投票会丢失；freeu ui --votes 文件夹 可保留投票。",
    ),
    "vote_missing": ("Votes: {missing}", "投票：{missing}"),
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
